"""Any table of ratings: every form in one call, what is guessed and said, what is refused, and its copy."""
import builtins, bz2, csv, gzip, io, lzma, os, warnings, zipfile
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from mfbook import movielens
from mfbook.movielens import load_ratings
from mfbook.ratings import Ratings
from test_movielens import identical

ROWS = [('ann', 'b1', 4.), ('ann', 'b2', 2.5), ('bob', 'b1', 1.)]
TABLE = 'user_id,isbn,stars\n' + ''.join(f'{u},{i},{r}\n' for u, i, r in ROWS)

@pytest.fixture(autouse=True)
def copies(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp('copies')
    monkeypatch.setenv('MFBOOK_CACHE', str(folder))
    return folder

def write(path, text, encoding='utf-8'):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path

def rows(ratings): return [row[:3] for row in ratings.to_frame().itertuples(index=False, name=None)]

# ---- forms

FORMS = {
    'semicolons': (TABLE.replace(',', ';'), ROWS),
    'tabs': (TABLE.replace(',', '\t'), ROWS),
    'bars': (TABLE.replace(',', '|'), ROWS),
    'colons': (TABLE.replace(',', '::'), ROWS),
    'spaces': (TABLE.replace(',', '  '), ROWS),
    'no end of the last line': (TABLE[:-1], ROWS),
    "Excel's line ends and first byte": ('\ufeff' + TABLE.replace('\n', '\r\n'), ROWS),
    'blank lines': (TABLE.replace('\n', '\n\n'), ROWS),
    'quotes around a separator': ('user;item;"my rating"\n"a;b";"c""d";"3"\n', [('a;b', 'c"d', 3.)]),
    'no header': ('ann,b1,4\nbob,b1,1\n', [('ann', 'b1', 4.), ('bob', 'b1', 1.)]),
    'the word NA as an id': ('user,item,rating\nNA,null,3\n', [('NA', 'null', 3.)]),
    'zeros before a number': ('user,item,rating\n1,007,3\n1,7,4\n', [(1, '007', 3.), (1, '7', 4.)]),
    'large ids': ('user,item,rating\n76561198000000000,123456789012345678901,3\n', [(76561198000000000, '123456789012345678901', 3.)]),
    'a user by two columns': ('user_name,userId,item,rating\nann,7,9,3\n', [(7, 9, 3.)]),
    'several ratings': ('userID,placeID,rating,food_rating\nU1,2,1,0\n', [('U1', 2, 1.)])}

@pytest.mark.parametrize('form', FORMS)
def test_each_form_is_guessed_said_and_the_call_that_is_said_gives_the_same(tmp_path, form, capsys, monkeypatch):
    text, expected = FORMS[form]
    write(tmp_path/'books.txt', text)
    monkeypatch.chdir(tmp_path)
    ratings = load_ratings('books.txt')
    assert rows(ratings) == expected and ratings.rating_range == (min(r for *_, r in expected), max(r for *_, r in expected))
    said = capsys.readouterr().err
    assert said.startswith('books.txt: read as load_ratings(') and said.count('\n') == 1
    call = said[said.index('load_ratings('):said.rindex('. If that is wrong')]
    identical(eval(call), ratings)
    assert capsys.readouterr().err == ''

def test_an_id_far_down_that_is_no_number(tmp_path):
    "It makes strings of its column, and of no other."
    text = 'user,item,rating\n' + ''.join(f'{n},{n},3\n' for n in range(1, 20_000)) + '5,x,4\n'
    ratings = load_ratings(write(tmp_path/'a.csv', text))
    assert ratings.user_ids.dtype == np.int64 and ratings.item_ids.tolist()[-1] == 'x' and len(ratings) == 20_000

def test_seconds_and_dates(tmp_path, capsys):
    day = 86_400
    seconds = load_ratings(write(tmp_path/'a.csv', f'user,item,rating,time\n1,2,3,{day}\n'))
    named = dict(user='user', item='item', rating='rating')
    path = write(tmp_path/'b.csv', 'user,item,rating,time\n1,2,3,1970-01-02\n')
    assert seconds.timestamps.tolist() == load_ratings(path, **named, timestamp='time').timestamps.tolist() == [day]
    assert load_ratings(path).timestamps is None and load_ratings(path, **named).timestamps is None
    write(path, 'user,item,rating,time\n1,2,3,1970-01-02\n1,3,3,soon\n')
    with pytest.raises(ValueError, match="b.csv, line 3, column 'time': 'soon' is no date"): load_ratings(path, **named, timestamp='time')

@pytest.mark.parametrize('ending, pack', [('.gz', gzip.compress), ('.bz2', bz2.compress), ('.xz', lzma.compress)])
def test_compressed(tmp_path, ending, pack):
    path = write(tmp_path/f'books.csv{ending}', pack(TABLE.encode()))
    assert rows(load_ratings(path)) == ROWS
    write(path, path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=f'books.csv{ending} is damaged .*Get it again'): load_ratings(path)
    lens = write(tmp_path/f'ratings.csv{ending}', pack(b'userId,movieId,rating,timestamp\n1,31,2.5,7\n'))
    write(tmp_path/'movies.csv', 'movieId,title,genres\n31,Heat (1995),Action\n')
    assert load_ratings(lens).rating_range == (.5, 5) and load_ratings(lens).titles([0]) == ['Heat (1995)']

def test_a_zip_or_a_folder_with_one_table_of_ratings(tmp_path):
    top = tmp_path/'BX'
    write(top/'BX-Ratings.csv', TABLE)
    write(top/'README.txt', 'words')
    assert rows(load_ratings(top)) == ROWS
    write(top/'BX-Books.csv', 'isbn,title\nb1,Tea\n')
    with zipfile.ZipFile(tmp_path/'BX.zip', 'w') as archive:
        for file in top.iterdir(): archive.write(file, f'BX/{file.name}')
    for place in (top, tmp_path/'BX.zip'): assert rows(load_ratings(place)) == ROWS
    write(top/'more ratings.csv', TABLE)
    with pytest.raises(FileNotFoundError, match='BX holds .*load_ratings'): load_ratings(top)

def test_latin_1_and_others(tmp_path, capsys):
    text = TABLE.replace('ann', 'Zoë')
    path = write(tmp_path/'a.csv', text, 'latin-1')
    for _ in range(2):                                 # the second time from the copy
        assert rows(load_ratings(path))[0][0] == 'Zoë' and 'a.csv is not UTF-8, and was read as Latin-1' in capsys.readouterr().err
    assert 'UTF-8' not in (load_ratings(path, encoding='latin-1'), capsys.readouterr().err)[1]
    with pytest.raises(ValueError, match='a.csv: a letter is not utf-8. Say what it is'): load_ratings(path, encoding='utf-8')
    with pytest.raises(ValueError, match="encoding='klingon' is unknown"): load_ratings(path, encoding='klingon')
    assert rows(load_ratings(write(path, text, 'utf-8')))[0][0] == 'Zoë'
    assert rows(load_ratings(write(path, text.replace('ë', 'Ж'), 'cp1251'), encoding='cp1251'))[0][0] == 'ZoЖ'

# ---- zeros, and other values that mean nothing

ZEROS = 'User-ID;ISBN;Book-Rating\n1;a;0\n1;b;5\n2;a;10\n'

def test_zeros_are_asked_about(tmp_path, capsys):
    path = write(tmp_path/'bx.csv', ZEROS)
    for _ in range(2):
        assert len(load_ratings(path)) == 3
        assert 'bx.csv: 1 of 3 ratings are 0. If a 0 is a rating, say so: rating_range=(0, 10). If nothing was rated, leave it out: no_rating=0' in capsys.readouterr().err
    assert rows(load_ratings(path, no_rating=0)) == [(1, 'b', 5.), (2, 'a', 10.)] and 'are 0' not in capsys.readouterr().err
    assert load_ratings(path, no_rating=0).rating_range == (5, 10)
    assert len(load_ratings(path, rating_range=(0, 10))) == 3 and 'are 0' not in capsys.readouterr().err
    with pytest.raises(ValueError, match="line 2, column 'Book-Rating': 0 is outside 1 to 10.*no_rating=0"): load_ratings(path, rating_range=(1, 10))
    with pytest.raises(ValueError, match="no_rating='0': give one number"): load_ratings(path, no_rating='0')
    with pytest.raises(ValueError, match='there are no ratings'): load_ratings(write(path, 'user,item,rating\n1,2,0\n'), no_rating=0)

# ---- refusals

REFUSED = {
    'two users': ('user_id,uid,item,rating\n1,2,3,4\n', {}, r"the user may be any of \['user_id', 'uid'\], among .*load_ratings\(path, user="),
    'no rating': ('user,item,price\n1,2,3\n', {}, r"no column is called like the rating, among \['user', 'item', 'price'\].*load_ratings\(path, user="),
    'a rating in words': ('user,item,rating\n1,2,good\n3,4,bad\n', {}, "column 'rating' would be the rating, and holds 'good'"),
    'half a rating in words': ('user,item,rating\n1,2,3\n3,4,NaN\n', {}, "column 'rating' would be the rating, and holds 'NaN'"),
    'two separators': ('user,item,rating;user;item;rating\n', {}, r"the fields may be separated by any of \[';', ','\]"),
    'the time third': ('1,2,1365029107,4\n', {}, 'there is no header, and the columns are not user, item, rating'),
    'six columns without header': ('1,2,3,4,5,6\n', {}, 'there is no header'),
    'one column': ('ratings\n1\n', {}, "line 1: no separator makes three columns of 'ratings'"),
    'a name that is not there': (TABLE, dict(user='who'), "line 1: no column 'who' among"),
    'a name that is there twice': ('user,item,item,rating\n1,2,3,4\n', dict(item='item'), "line 1: 2 columns 'item' among"),
    'a position that is not there': (TABLE, dict(user=3), 'user=3, and the columns are 0 to 2'),
    'one column for two': (TABLE, dict(user='isbn', item='isbn', rating='stars'), "column 'isbn' can have one meaning only"),
    'two positions of three': ('1,2,3\n', dict(user=0, item=1), 'say user=, item= and rating=, all three'),
    'a word among ratings': (TABLE + 'bob,b2,good\n', {}, "line 5, column 'stars': 'good' is not a number"),
    'a missing rating': (TABLE + 'bob,b2,\n', {}, "line 5, column 'stars': nothing is there"),
    'a missing id': (TABLE + 'bob,,3\n', {}, "line 5, column 'isbn': nothing is there"),
    'an infinite rating': (TABLE + 'bob,b2,inf\n', {}, "line 5, column 'stars': inf is not a finite number"),
    'a field too many': (TABLE + 'bob,b2,3,4\n', {}, 'line 5: 4 fields, not 3'),
    'a rating beyond the scale': (TABLE, dict(rating_range=(2, 5)), "line 4, column 'stars': 1.0 is outside 2 to 5"),
    'an open quote': (TABLE + '"bob,b2,3\n', {}, 'line 5: a quotation mark is opened, and never closed'),
    'a blank first line': ('\n' + TABLE, {}, 'line 1 is blank'),
    'a header alone': (TABLE.split('\n')[0] + '\n', {}, 'there are no ratings'),
    'a time in words': ('user,item,rating,time\n1,2,3,4\n1,3,3,now\n1,4,5,6\n', {}, "line 3, column 'time': 'now' is not a number")}

@pytest.mark.parametrize('what', REFUSED)
def test_refused_with_file_and_place(tmp_path, what):
    text, asked, says = REFUSED[what]
    with pytest.raises(ValueError, match=f'^t/books.csv[,:] .*({says})') as refusal: load_ratings(write(tmp_path/'t'/'books.csv', text), **asked)
    assert '\n' not in str(refusal.value) and len(str(refusal.value)) < 600

def test_a_pair_rated_twice_is_said_in_the_words_of_the_file(tmp_path):
    with pytest.warns(UserWarning, match="^a.csv: left out 1 of 4 ratings.*'isbn': 'b1'"): load_ratings(write(tmp_path/'a.csv', TABLE + 'ann,b1,5\n'))

# ---- the copy

def test_a_copy_holds_strings_and_is_keyed_by_the_columns(tmp_path, copies, monkeypatch):
    path = write(tmp_path/'a.csv', 'user,item,rating,other rating\nä\U0001f600,b,3,4\nc,d,1,2\n')
    columns = dict(user='user', item='item', sep=',')
    first, other = (load_ratings(path, **columns, rating=name) for name in ('rating', 'other rating'))
    assert first.values.tolist() == [3, 1] and other.values.tolist() == [4, 2] and len(list(copies.iterdir())) == 1
    monkeypatch.setattr(movielens, '_load', None)      # from here on, only the copy will do
    identical(load_ratings(path, **columns, rating='other rating'), other)
    with pytest.raises(TypeError): load_ratings(path, **columns, rating='rating')
    with pytest.raises(TypeError): load_ratings(path, **columns, rating='other rating', cache=False)

@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_is_loaded(tmp_path, data):
    "A table of any ids, by any separator, quoted or not, packed or not, read twice."
    letters = st.text(st.characters(codec='utf-8', exclude_categories=['Cc', 'Cs', 'Zl', 'Zp']), min_size=1, max_size=8).filter(lambda text: text == text.strip())
    ids = data.draw(st.sampled_from([st.integers(-2**60, 2**60), letters]))
    pairs = data.draw(st.lists(st.tuples(ids, ids), min_size=1, max_size=20, unique=True))
    values = data.draw(st.lists(st.floats(-100, 100, width=32), min_size=len(pairs), max_size=len(pairs)))
    sep, ending = data.draw(st.sampled_from(',;\t|')), data.draw(st.sampled_from(['', '.gz']))
    text = io.StringIO()
    table = csv.writer(text, delimiter=sep, quoting=data.draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])), lineterminator='\n')
    table.writerows([('who', 'what', 'how much'), *[(*pair, value) for pair, value in zip(pairs, values)]])
    raw = text.getvalue().encode()
    path = write(tmp_path/f'a.csv{ending}', gzip.compress(raw, mtime=0) if ending else raw)
    frame = pd.DataFrame([(*pair, value) for pair, value in zip(pairs, values)], columns=['who', 'what', 'how much'])
    plain = movielens.re.compile(movielens.WHOLE)
    for name in ('who', 'what'):                          # strings that are all plain numbers become numbers
        if all(plain.fullmatch(str(raw)) for raw in frame[name]): frame[name] = frame[name].astype(np.int64)
    expected = Ratings.from_frame(frame, 'who', 'what', 'how much')
    columns = dict(user='who', item='what', rating='how much', sep=sep)
    for cache in (False, True, True):
        loaded = load_ratings(path, cache=cache, **columns)
        assert rows(loaded) == rows(expected) and loaded.rating_range == expected.rating_range
        assert loaded.user_ids.tolist() == expected.user_ids.tolist() and loaded.users.equal(expected.users)

# ---- Parquet

def test_parquet(tmp_path, monkeypatch, capsys):
    pytest.importorskip('pyarrow')
    frame = pd.DataFrame(ROWS, columns=['user_id', 'isbn', 'stars'])
    path = tmp_path/'books.parquet'
    frame.to_parquet(path)
    assert rows(load_ratings(path)) == rows(load_ratings(path)) == ROWS and "user='user_id', item='isbn', rating='stars')" in capsys.readouterr().err
    assert rows(load_ratings(path, no_rating=1)) == ROWS[:2]
    with pytest.raises(ValueError, match="books.parquet, .*no column 'x' among"): load_ratings(path, item='x')
    with pytest.raises(ValueError, match="books.parquet, row 2 .*column 'stars': 1.0 is outside 2 to 5"): load_ratings(path, rating_range=(2, 5))
    real = builtins.__import__
    def missing(name, *args): return real('no_such_module' if name.startswith('pyarrow') else name, *args)
    with monkeypatch.context() as patch:
        patch.setattr(builtins, '__import__', missing)
        with pytest.raises(ImportError, match='books.parquet is a Parquet file, and those need pyarrow: pip install pyarrow'): load_ratings(path)
    write(path, path.read_bytes()[:-20])
    with pytest.raises(ValueError, match='books.parquet is damaged'): load_ratings(path)

# ---- other people's files, as they were published

PUBLISHED = {'filmtrust/ratings.txt': ({}, 35_494, (.5, 4)),
             'movietweetings-100k': (dict(rating_range=(0, 10)), 100_000, (0, 10)),
             'restaurant/rating_final.csv': ({}, 1_161, (0, 2)),
             'bookcrossing/BX-Book-Ratings.csv': (dict(no_rating=0), 42_471, (1, 10))}

@pytest.mark.parametrize('name', PUBLISHED)
def test_each_published_set_in_one_call(name):
    path = Path(os.environ.get('MFBOOK_DATA', ''))/'foreign'/name
    if not path.exists(): pytest.skip('not here')
    asked, n, scale = PUBLISHED[name]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')                # a few pairs stand there twice
        ratings = load_ratings(path, **asked)
    assert (len(ratings), ratings.rating_range) == (n, scale)
