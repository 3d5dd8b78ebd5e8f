"""MovieLens: every layout, as folder, zip and file; what is said of bad input, by line and column; the splits made by
others; and the copy that makes a second load fast, with its faults.
"""
import gc, multiprocessing, os, re, tempfile, warnings, zipfile
from importlib.resources import files
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import FULL
from hypothesis import HealthCheck, given, settings, strategies as st
from platformdirs import user_cache_dir
from mfbook import movielens
from mfbook.movielens import cache_folder, load_fold, load_ratings
from mfbook.ratings import load_sample

DATA = os.environ.get('MFBOOK_DATA')
needs_data = pytest.mark.skipif(not DATA, reason='MFBOOK_DATA is not set; it names the folder that holds ml-100k and ml-latest-small')
COLUMNS = ['userId', 'movieId', 'rating', 'timestamp']

@pytest.fixture(autouse=True)
def copies(tmp_path_factory, monkeypatch):
    "The folder for the copies: another one for each test, and never the user's."
    folder = tmp_path_factory.mktemp('copies')
    monkeypatch.setenv('MFBOOK_CACHE', str(folder))
    return folder

# ---- every layout, written out small

ROWS = [(1, 31, 2.5, 1260759144), (1, 1029, 3.0, 1260759179), (2, 31, 4.5, 835355493), (7, 5, 0.5, 835355000)]
WHOLE = [(u, i, int(v + .5), t) for u, i, v, t in ROWS]
def lines(rows, sep): return ''.join(sep.join(map(str, r)) + '\n' for r in rows)
def csv(rows): return lines([COLUMNS, *rows], ',')
def u_item(id, title, genres): return f'{id}|{title}|01-Jan-1995||http://x|' + '|'.join(str(int(g in genres)) for g in range(19)) + '\n'

# The film 9 has no ratings, 1029 no title, and 8 no row in the film file.
MOVIES_DAT = '5::Postman: The (Postino, Il) (1994)::Drama|Romance\n9::Nobody (2000)::Drama\n31::"Léon" Pro (1994)::Action\n1029::::Comedy\n'
LAYOUTS = {
    'latest': ({'ratings.csv': csv(ROWS), 'links.csv': 'movieId,imdbId,tmdbId\n5,0110877,11010\n31,0110413,\n',
                'movies.csv': 'movieId,title,genres\n5,"Postman: The (Postino, Il) (1994)",Drama|Romance\n9,Nobody (2000),Drama\n'
                              '31,"""Léon"" Pro (1994)",Action\n1029,,Comedy\n',
                'tags.csv': 'userId,movieId,tag,timestamp\n1,31,NA,7\n1,31,"loud, long",8\n'}, 'utf-8', (.5, 5.), ROWS),
    '10m': ({'ratings.dat': lines(ROWS, '::'), 'movies.dat': MOVIES_DAT, 'tags.dat': '1::31::NA::7\n1::31::loud, long::8\n'}, 'utf-8', (.5, 5.), ROWS),
    '1m': ({'ratings.dat': lines(WHOLE, '::'), 'movies.dat': MOVIES_DAT, 'users.dat': '1::F::1::10::48067\n'}, 'latin-1', (1., 5.), WHOLE),
    '100k': ({'u.data': lines(WHOLE, '\t'), 'u.item': u_item(5, 'Postman: The (Postino, Il) (1994)', (8, 14)) + u_item(9, 'Nobody (2000)', (8,))
                     + u_item(31, '"Léon" Pro (1994)', (1,)) + u_item(1029, '', (5,))}, 'latin-1', (1., 5.), WHOLE)}

def write(folder, contents, encoding='utf-8'):
    folder.mkdir(exist_ok=True)
    for name, text in contents.items(): (folder/name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return folder

def zipped(folder, top='ml-x/'):
    with zipfile.ZipFile(folder.with_suffix('.zip'), 'w', zipfile.ZIP_DEFLATED) as z:
        for p in sorted(folder.iterdir()): z.write(p, top + p.name)
    return folder.with_suffix('.zip')

PLACES = {'a folder': lambda d: d, 'a zip': lambda d: zipped(d, ''), 'a zip with a folder': zipped, 'a string': str,
          'its rating file': lambda d: next(p for p in d.iterdir() if p.stem == 'ratings' or p.name == 'u.data')}

@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('layout', LAYOUTS)
def test_every_layout_in_every_place(tmp_path, layout, place):
    contents, encoding, scale, rows = LAYOUTS[layout]
    r = load_ratings(PLACES[place](write(tmp_path/layout, contents, encoding)))
    assert r.to_frame().values.tolist() == [list(map(float, x)) for x in rows] and r.rating_range == scale
    assert r.users.tolist() == [0, 0, 1, 2] and r.items.tolist() == [1, 2, 1, 0]
    assert [x.dtype for x in (r.users, r.items, r.values, r.timestamps)] == [torch.int32, torch.int32, torch.float32, torch.int64]
    assert r.user_ids.tolist() == [1, 2, 7] and r.item_ids.tolist() == [5, 31, 1029]
    assert r.titles([0, 1, 2]) == ['Postman: The (Postino, Il) (1994)', '"Léon" Pro (1994)', '(no title, id 1029)']
    assert r.movies.columns.tolist() == ['movieId', 'title', 'year', 'genres'] and r.movies.movieId.tolist() == [5, 31, 1029]
    assert r.movies.genres.tolist() == ['Drama|Romance', 'Action', 'Comedy'] and r.movies.year.dtype == 'Int16'
    assert (r.tags is not None) == (layout in ('latest', '10m')) and (r.links is not None) == (layout == 'latest')
    if r.tags is not None: assert r.tags.values.tolist() == [[1, 31, 'NA', 7], [1, 31, 'loud, long', 8]]
    if r.links is not None: assert r.links.imdbId.tolist() == ['0110877', '0110413'] and r.links.tmdbId.isna().tolist() == [False, True]

def test_the_folder_inside_a_folder_and_not_one_of_several(tmp_path):
    write(tmp_path/'one', LAYOUTS['latest'][0])
    assert len(load_ratings(tmp_path)) == 4
    write(tmp_path/'two', LAYOUTS['latest'][0])
    with pytest.raises(FileNotFoundError, match='holds one, two, and none of'): load_ratings(tmp_path)

def test_a_folder_with_nothing_but_ratings(tmp_path):
    r = load_ratings(write(tmp_path/'a', {'ratings.csv': csv(ROWS)}))
    assert len(r) == 4 and r.movies is None and r.links is None and r.tags is None and r.titles([1]) == ['item 31']

def test_a_file_of_another_name(tmp_path):
    place = write(tmp_path/'a', {'ratings.csv': csv(ROWS), 'mine.csv': csv(ROWS[:2])})
    assert len(load_ratings(place/'mine.csv')) == 2

def test_rated_films_that_the_film_file_does_not_list(tmp_path):
    r = load_ratings(write(tmp_path/'a', {'ratings.csv': csv(ROWS), 'movies.csv': 'movieId,title,genres\n31,Heat (1995),Action\n'}))
    assert r.titles([0, 1]) == ['(no title, id 5)', 'Heat (1995)'] and r.movies.movieId.tolist() == [5, 31, 1029]

def test_of_a_film_listed_twice_the_first_row_counts(tmp_path):
    r = load_ratings(write(tmp_path/'a', {'ratings.csv': csv(ROWS), 'movies.csv': 'movieId,title,genres\n31,Heat (1995),Action\n31,Cold (1996),Drama\n'}))
    assert r.titles([1]) == ['Heat (1995)'] and len(r.movies) == 3

def test_columns_in_another_order_and_more_of_them(tmp_path):
    f = pd.DataFrame(ROWS, columns=COLUMNS).assign(note='x, y')[['note', 'rating', 'timestamp', 'movieId', 'userId']]
    r = load_ratings(write(tmp_path/'a', {'ratings.csv': f.to_csv(index=False)}))
    assert r.to_frame().values.tolist() == [list(map(float, x)) for x in ROWS]

@pytest.mark.parametrize('change', [lambda t: t.replace('\n', '\n\n'), lambda t: '\ufeff' + t.replace('\n', '\r\n'), lambda t: '"' + t[:-1].replace(',', '","').replace('\n', '"\n"') + '"\n'],
                         ids=['blank lines', "Excel's line ends and first byte", 'quotation marks'])
def test_what_does_not_matter_in_a_csv(tmp_path, change):
    r = load_ratings(write(tmp_path/'a', {'ratings.csv': change(csv(ROWS))}))
    assert r.to_frame().values.tolist() == [list(map(float, x)) for x in ROWS]
# ---- the real thing

def identical(a, b):
    "The same `Ratings`, to the types."
    for name in ('users', 'items', 'values', 'timestamps'):
        x, y = getattr(a, name), getattr(b, name)
        if x is None or y is None: assert x is y, name
        else: assert x.dtype == y.dtype and torch.equal(x, y), name
    for name in ('user_ids', 'item_ids'):
        x, y = getattr(a, name), getattr(b, name)
        assert x.dtype == y.dtype and np.array_equal(x, y), name
    assert a.rating_range == b.rating_range
    for name in ('movies', 'links', 'tags'):
        x, y = getattr(a, name), getattr(b, name)
        if x is None or y is None:
            assert x is y, name
        else:
            pd.testing.assert_frame_equal(x, y)

def test_the_sample_that_ships_is_what_is_in_its_zip():
    identical(load_sample(), load_ratings(files('mfbook')/'sample'/'ml-sample.zip'))

def pairs(r): return r.users.long()*r.n_items + r.items

@needs_data
def test_movielens_100k_and_its_splits():
    place = Path(DATA)/'ml-100k'
    r = load_ratings(place)
    assert (len(r), r.n_users, r.n_items, r.rating_range) == (100_000, 943, 1682, (1., 5.))
    assert r.titles([0, 266]) == ['Toy Story (1995)', 'unknown'] and r.movies.genres[0] == "Animation|Children's|Comedy" and 'é' in r.titles([542])[0]
    tests = []
    for fold in ('u1', 'u2', 'u3', 'u4', 'u5', 'ua', 'ub'):
        train, test = load_fold(place, fold)
        assert (len(train), len(test)) == ((80_000, 20_000) if fold[1] in '12345' else (90_570, 9_430))
        assert all((x.user_ids == r.user_ids).all() and (x.item_ids == r.item_ids).all() and x.movies.title.equals(r.movies.title) for x in (train, test))
        assert torch.equal(torch.cat([pairs(train), pairs(test)]).sort().values, pairs(r).sort().values)
        raw = pd.read_csv(place/f'{fold}.test', sep='\t', names=COLUMNS)
        assert (test.to_frame().to_numpy() == raw.to_numpy()).all()
        tests.append(pairs(test))
    assert torch.equal(torch.cat(tests[:5]).sort().values, pairs(r).sort().values), 'u1 to u5 test every rating once'

@needs_data
def test_movielens_latest_small():
    place = Path(DATA)/'ml-latest-small'
    r, raw = load_ratings(place), pd.read_csv(place/'ratings.csv')
    assert (len(r), r.n_users, r.n_items, len(r.links), len(r.tags)) == (100_836, 610, 9_724, 9_742, 3_683)
    assert (r.to_frame().to_numpy() == raw.to_numpy()).all()
    films = pd.read_csv(place/'movies.csv').set_index('movieId').title[r.item_ids].str.strip().str.replace(r' +(\(\d{4}\))$', r' \1', regex=True)
    plain = [re.sub(r' \[id \d+\]$', '', title) for title in r.titles(range(r.n_items))]        # of titles that stand twice
    assert [(ours, theirs) for ours, theirs in zip(plain, films) if ours != theirs] == [
        ('Death Note: Desu nôto (2006)', 'Death Note: Desu nôto (2006–2007)')]

# ---- bad files

GOOD = csv(ROWS)
def change(old, new): return GOOD.replace(old, new, 1)
BAD_CSV = {
    'a word for a rating': (change('3.0', 'three'), r"line 3, column 'rating': 'three' is not a number"),
    'a rating that is missing': (change('3.0', ''), r"line 3, column 'rating': nothing is there"),
    'NaN': (change('3.0', 'NaN'), r"line 3, column 'rating': NaN is not a finite number"),
    'NA': (change('3.0', 'NA'), r"line 3, column 'rating': 'NA' is not a number"),
    'infinity': (change('3.0', 'inf'), r"line 3, column 'rating': inf is not a finite number"),
    'too high': (change('3.0', '5.5'), r"line 3, column 'rating': 5.5 is outside 0.5 to 5"),
    'too low': (change('3.0', '0'), r"line 3, column 'rating': 0 is outside 0.5 to 5"),
    'a word for an id': (change('1029', 'tt0113'), r"line 3, column 'movieId': 'tt0113' is not a number"),
    'an id that is missing': (change('1029', ''), r"line 3, column 'movieId': nothing is there"),
    'half an id': (change('1029', '10.5'), r"line 3, column 'movieId': 10.5 is not a whole number"),
    'an id below nothing': (change('1029', '-1029'), r"line 3, column 'movieId': -1029 is outside 0 to 2,147,483,647"),
    'an id too large': (change('1029', '3000000000'), r"line 3, column 'movieId': 3000000000 is outside 0 to 2,147,483,647"),
    'a number with an underscore': (change('1029', '1_029'), r"line 3, column 'movieId': '1_029' is not a number"),
    'a time that is none': (change('835355493', 'today'), r"line 4, column 'timestamp': 'today' is not a number"),
    'a fault after blank lines': (GOOD.replace('\n', '\n\n').replace('4.5', '4.x', 1), r"line 7, column 'rating': '4.x' is not a number"),
    'too few fields': (change(',3.0', ''), r"line 3: 3 fields separated by ',', not 4"),
    'too few fields at the end': (GOOD + '1,2\n', r"line 6: 2 fields separated by ',', not 4"),
    'too many fields': (change('3.0', '3.0,9'), r'line 3: 5 fields, not 4'),
    'too many fields in the first row': (change('2.5', '2.5,9'), r'line 2: more fields than'),
    'too many fields in every row': (csv([(*r, 9) for r in ROWS]), r'line 2: more fields than'),
    'a number before every row': (csv([(n*n, *r) for n, r in enumerate(ROWS)]), r'line 2: more fields than'),
    'another name for a column': (change('rating', 'stars'), r"line 1: no column 'rating' among \['userId', 'movieId', 'stars', 'timestamp'\].*load_ratings\(path, user=..., item=..., rating=...\)"),
    'blank lines only': ('\n\n', r"line 1: no column 'userId'"),
}
BAD_BYTES = {'nothing': (b'', 'ratings.csv is empty'), 'a header only': (GOOD.split('\n')[0].encode() + b'\n', 'ratings.csv: there are no ratings'), 'a binary file': (b'\x7fELF\0\0\0', 'ratings.csv is a binary file'),
             'a zero byte in a number': (change('1029', '10\x0029').encode(), 'ratings.csv is a binary file, or damaged'),
             'another code than UTF-8': (change('3.0', 'drei für Léon').encode('latin-1'), 'ratings.csv, ')}
@pytest.mark.parametrize('place', ['a folder', 'a zip'])
@pytest.mark.parametrize('what', [*BAD_CSV, *BAD_BYTES])
def test_bad_csv(tmp_path, what, place):
    text, says = BAD_CSV[what] if what in BAD_CSV else BAD_BYTES[what]
    folder = write(tmp_path/'bad', {'ratings.csv': text})
    where, path = ('bad', folder) if place == 'a folder' else ('ml-x', zipped(folder))
    with pytest.raises(ValueError, match=f'^{where}/ratings.csv, ({says})' if what in BAD_CSV else f'^{where}/{says}'): load_ratings(path)

BAD_DAT = {
    'ratings.dat': [('::2.5::', '::x::', "line 1, column 'rating': 'x' is not a number"), ('1::31::', '1::', "line 1: 3 fields separated by '::', not 4"),
                    ('::', ':', "line 1: no separator makes three columns of '1:31:2.5:1260759144'.*load_ratings"),
                    ('1029', 'a', "line 2, column 'movieId': 'a' is not a number"), ('::3.0::', '::3.0::3::', 'line 2: 5 fields, not 4'), ('::2.5::', '::2.5::2::', 'line 1: more fields')],
    'u.data': [('\t3.0\t', '\tx\t', "line 2, column 'rating': 'x' is not a number"), ('\t0.5\t', '\t6\t', "line 4, column 'rating': 6 is outside 1 to 5"),
               ('1\t31\t', '1\t', r"line 1: 3 fields separated by '\\t', not 4"), ('3.0', '3.0\t1', 'line 2: 5 fields, not 4')]}
@pytest.mark.parametrize('place', ['a folder', 'a zip'])
@pytest.mark.parametrize('name, case', [(n, c) for n in BAD_DAT for c in range(len(BAD_DAT[n]))])
def test_bad_dat_and_tab(tmp_path, name, case, place):
    old, new, says = BAD_DAT[name][case]
    folder = write(tmp_path/'bad', {name: lines([r if name == 'ratings.dat' or r[2] == .5 else (*r[:2], float(int(r[2])), r[3]) for r in ROWS], '::' if name == 'ratings.dat' else '\t').replace(old, new)})
    with pytest.raises(ValueError, match=f'/{name}, {says}'): load_ratings(folder if place == 'a folder' else zipped(folder))

@pytest.mark.parametrize('place', ['a folder', 'a zip'])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_a_last_line_without_its_end_is_warned_of(tmp_path, layout, place):
    contents, encoding, _, rows = LAYOUTS[layout]
    name = next(n for n in contents if n.startswith('ratings') or n == 'u.data')
    folder = write(tmp_path/'cut', contents | {name: contents[name][:-4]}, encoding)
    with pytest.warns(UserWarning, match=f'{name}: the last line does not end.*, 835355$') as caught: r = load_ratings(folder if place == 'a folder' else zipped(folder))
    assert len(caught) == 1 and len(r) == 4
    write(tmp_path/'cut', contents, encoding)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        load_ratings(folder)

def test_twice_rated_in_a_file(tmp_path):
    write(tmp_path/'a', {'ratings.csv': GOOD + '1,31,5.0,1\n1,31,1.0,2000000000\n'})
    with pytest.warns(UserWarning, match='^a: left out 2 of 6 ratings'): r = load_ratings(tmp_path/'a')
    assert r.to_frame().values.tolist()[-1] == [1, 31, 1, 2000000000] and len(r) == 4

def test_bad_film_files(tmp_path):
    top = 'movieId,title,genres\n'
    for text, says in {top + '5,Postman, The (1994),Drama\n': r"line 2: more fields than \['movieId', 'title', 'genres'\]",
                       top + '31,Heat,Drama\n5,Postman, The (1994),Drama\n': 'line 3: 4 fields, not 3',
                       'id,title,genres\n5,Heat,Drama\n': r"no column 'movieId' among \['id', 'title', 'genres'\]",
                       top + '31,Heat,Drama\nx,Heat,Drama\n': "line 3, column 'movieId': 'x' is not a number",
                       top + '\n,Heat,Drama\n': "line 3, column 'movieId': nothing is there",
                       top + '5,"Heat,Drama\n': 'line 2: a quotation mark is opened, and never closed', '': 'nothing is there'}.items():
        with pytest.raises(ValueError, match=f'^a/movies.csv, {says}$'): load_ratings(write(tmp_path/'a', {'ratings.csv': GOOD, 'movies.csv': text}))
    with pytest.raises(ValueError, match="^b/links.csv, line 3, column 'tmdbId': 'x' is not a number$"):
        load_ratings(write(tmp_path/'b', {'ratings.csv': GOOD, 'links.csv': 'movieId,imdbId,tmdbId\n5,1,\n31,2,x\n'}))

# ---- another scale in the same layout

TWEETS = '1::0104257::8::1365029107\n1::1853728::10::1366576639\n2::0104257::0::1364690142\n'
@pytest.mark.parametrize('beside', [{}, {'users.dat': '1::177651718\n'}], ids=["as MovieLens 10M's", "as MovieLens 1M's"])
@pytest.mark.parametrize('place', PLACES)
def test_another_scale_can_be_given(tmp_path, copies, place, beside):
    folder = PLACES[place](write(tmp_path/'tweets', {'ratings.dat': TWEETS, 'movies.dat': '0104257::A Few Good Men (1992)::Drama\n'} | beside))
    with pytest.raises(ValueError, match=r"ratings.dat, line 1, column 'rating': 8 is outside (0.5|1) to 5. If it is right, .*rating_range=\(lowest, highest\)\)$"):
        load_ratings(folder)
    for rating_range in ((0, 10), [0., 10.], np.array([0, 10]), torch.tensor([0, 10])):
        r = load_ratings(folder, rating_range=rating_range)
        assert r.rating_range == (0., 10.) and r.values.tolist() == [8, 10, 0] and r.titles([0]) == ['A Few Good Men (1992)']
    with pytest.raises(ValueError, match='10 is outside 0 to 9'): load_ratings(folder, rating_range=(0, 9))
    assert len(list(copies.iterdir())) == 1                                            # one source, one copy

@pytest.mark.parametrize('bad', [(10, 0), 5, {1: 2}, (1, 2, 3), 'ab', (0, float('nan'))])
def test_a_scale_that_is_none_is_refused(tmp_path, bad):
    folder = write(tmp_path/'a', {'ratings.csv': GOOD})
    with pytest.raises(ValueError, match='^rating_range'): load_ratings(folder, rating_range=bad)

def test_movietweetings_as_published():
    if not DATA or not (Path(DATA)/'foreign'/'movietweetings-100k').exists(): pytest.skip('not here')
    r = load_ratings(Path(DATA)/'foreign'/'movietweetings-100k', rating_range=(0, 10))
    assert len(r) == 100_000 and r.values.max() == 10 and r.values.min() == 0 and r.movies.title.notna().mean() > .99

# ---- texts of other kinds, and files left open

@pytest.mark.parametrize('place', ['a folder', 'a zip'])
@pytest.mark.parametrize('code', ['utf-16', 'utf-16-le', 'utf-16-be'])
@pytest.mark.parametrize('name', ['ratings.csv', 'movies.csv'])
def test_utf_16_is_named(tmp_path, name, code, place):
    texts = {'ratings.csv': GOOD, 'movies.csv': 'movieId,title,genres\n5,Heat,Drama\n'}
    folder = write(tmp_path/'a', texts | {name: texts[name].encode(code)})
    with pytest.raises(ValueError, match=f'{name} is UTF-16 text. Save it as UTF-8$'):
        load_ratings(folder if place == 'a folder' else zipped(folder))

@pytest.mark.parametrize('text', [change('3.0', 'drei für Léon'), GOOD.replace('timestamp', 'timestamp,Señor').replace('\n1,', '\n1,', 1).replace('144\n', '144,é\n')])
def test_another_code_than_utf_8_is_named(tmp_path, text):
    with pytest.raises(ValueError, match='ratings.csv, a letter is not UTF-8. Save the file as UTF-8$'):
        load_ratings(write(tmp_path/'a', {'ratings.csv': text.encode('latin-1')}))

@pytest.mark.parametrize('url', ['https://example.org/ml.zip', 'http://example.org', 's3://bucket/ratings.csv', 'file:///tmp/ml'])
def test_a_url_is_named(url):
    for path in (url, Path(url)):
        with pytest.raises(FileNotFoundError, match='is a URL. Download the file'): load_ratings(path)

@pytest.mark.parametrize('thing', [pd.DataFrame(dict(userId=[1])), 3, None, [1, 2], b'ml-100k'])
def test_what_is_no_path_is_named(thing):
    with pytest.raises(TypeError, match=f'^a path is wanted, and this is a {type(thing).__name__}'): load_ratings(thing)

def open_files(place):
    "The files below `place` that this process holds open."
    held = [Path(os.readlink(fd)) for fd in Path('/proc/self/fd').iterdir() if fd.exists()]
    return [path for path in held if place in path.parents]

@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('place', ['a folder', 'a zip'])
@pytest.mark.parametrize('what', [*BAD_CSV, *BAD_BYTES])
def test_a_file_is_closed_after_an_error(tmp_path, what, place):
    folder = write(tmp_path/'bad', {'ratings.csv': BAD_CSV[what][0] if what in BAD_CSV else BAD_BYTES[what][0]})
    path = folder if place == 'a folder' else zipped(folder)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        try: load_ratings(path)
        except ValueError as error: assert 'Traceback' not in str(error) and str(error).count('\n') == 0
        gc.collect()
    assert [str(w.message) for w in heard if w.category is ResourceWarning] == []
    assert open_files(tmp_path) == []

@pytest.mark.parametrize('text', [change('3.0', 'three'), change('3.0', '3.0,9'), GOOD])
def test_the_second_look_closes_its_file(tmp_path, text):
    file = write(tmp_path/'bad', {'ratings.csv': text})/'ratings.csv'
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        movielens._fault(file, dict(sep=',', header=0), movielens.LAYOUTS[0])
        gc.collect()
    assert heard == []

# ---- bad places

def test_places_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing at .*nowhere.*getcwd'): load_ratings(tmp_path/'nowhere')
    (tmp_path/'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='empty holds no files, and none of .*load_ratings'): load_ratings(tmp_path/'empty')
    write(tmp_path/'a', {'films.txt': 'x', 'people.txt': 'y'})
    for place in (tmp_path/'a', zipped(tmp_path/'a', '')):
        with pytest.raises(FileNotFoundError, match='holds films.txt, people.txt, and none of .*ratings.csv, ratings.dat, u.data.*load_ratings'): load_ratings(place)
    with pytest.raises(ValueError, match="films.txt, line 1: no separator makes three columns of 'x'"): load_ratings(tmp_path/'a'/'films.txt')

@pytest.mark.parametrize('name', ['../ratings.csv', '/etc/ratings.csv', 'a/../../ratings.csv', '..\\ratings.csv', 'C:\\ratings.csv', '\\ratings.csv'])
def test_a_zip_with_a_path_outside_itself_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path/'a.zip', 'w') as z:
        z.writestr('ml/ratings.csv', GOOD)
        z.writestr(name, GOOD)
    with pytest.raises(ValueError, match='a.zip holds a path outside itself'): load_ratings(tmp_path/'a.zip')

def test_a_damaged_zip_is_named(tmp_path):
    zipped(write(tmp_path/'a', {'ratings.csv': csv([(u, i, 3.0, 5) for u in range(60) for i in range(60)])}))
    data = bytearray((tmp_path/'a.zip').read_bytes())
    data[3000] ^= 0xff
    (tmp_path/'a.zip').write_bytes(data)
    with pytest.raises(ValueError, match='ml-x/ratings.csv is damaged .*Get it again'): load_ratings(tmp_path/'a.zip')
    (tmp_path/'a.zip').write_bytes(bytes(data[:2000]))
    with pytest.raises(ValueError, match='a.zip is damaged .*Get it again'): load_ratings(tmp_path/'a.zip')

def test_a_mac_zip(tmp_path):
    "macOS adds a folder of its own."
    with zipfile.ZipFile(tmp_path/'a.zip', 'w') as z:
        z.writestr('__MACOSX/ml/._ratings.csv', b'\0\5\x16\7')
        z.writestr('ml/ratings.csv', GOOD)
    assert len(load_ratings(tmp_path/'a.zip')) == 4

def test_a_split_that_is_not_there_or_leaks(tmp_path):
    write(tmp_path/'a', {'u.data': lines(WHOLE, '\t')})
    with pytest.raises(FileNotFoundError, match='no u7.base and u7.test in a.*u1 to u5, ua and ub'): load_fold(tmp_path/'a', 'u7')
    write(tmp_path/'a', {'u1.base': lines(WHOLE, '\t'), 'u1.test': lines(WHOLE[:1], '\t')})
    with pytest.raises(ValueError, match='a/u1.test holds ratings of u1.base'), pytest.warns(UserWarning): load_fold(tmp_path/'a', 'u1')
    write(tmp_path/'a', {'u1.base': lines(WHOLE[:2], '\t'), 'u1.test': lines([(2, 31, 9, 5)], '\t')})
    with pytest.raises(ValueError, match="a/u1.test, line 1, column 'rating': 9 is outside 1 to 5"): load_fold(tmp_path/'a', 'u1')

def test_a_split_from_a_zip(tmp_path):
    write(tmp_path/'a', {'u.data': lines(WHOLE, '\t'), 'ua.base': lines(WHOLE[:3], '\t'), 'ua.test': lines(WHOLE[3:], '\t')})
    train, test = load_fold(zipped(tmp_path/'a'), 'ua')
    assert train.users.tolist() == [0, 0, 1] and test.users.tolist() == [2] and test.items.tolist() == [0] and train.user_ids is test.user_ids
def test_a_zero_byte_far_down_is_found(tmp_path):
    "A block of zeros is what a power cut leaves in a file; the C reader would take the number to end there."
    rows = csv([(u, i, 3.0, 5) for u in range(300) for i in range(300)])
    at = len(rows)//2
    folder = write(tmp_path/'a', {'ratings.csv': rows[:at] + '\0'*100 + rows[at+100:]})
    for place in (folder, zipped(folder)):
        with pytest.raises(ValueError, match='/ratings.csv is a binary file, or damaged'): load_ratings(place)

# ---- the copy for the next time

CSV = 'userId,movieId,rating,timestamp\n' + ''.join(f'{u},{i},{1 + (u*i) % 9/2},{u + i}\n' for u in range(1, 60) for i in range(3, 90, 2))
FILMS = 'movieId,title,genres\n3,Heat (1995),Action\n'
KINDS = {'ratings.csv': CSV, 'ratings.dat': ''.join(f'{u}::{i}::{1 + (u*i) % 9/2}::{u + i}\n' for u in range(1, 60) for i in range(3, 90, 2)),
         'u.data': ''.join(f'{u}\t{i}\t{1 + (u*i) % 5}\t{u + i}\n' for u in range(1, 60) for i in range(3, 90, 2))}

@pytest.fixture
def folder(tmp_path):
    (tmp_path/'ml').mkdir()
    (tmp_path/'ml'/'ratings.csv').write_text(CSV)
    (tmp_path/'ml'/'movies.csv').write_text(FILMS)
    return tmp_path/'ml'

def the_copy(copies):
    "The only file in the folder for copies."
    copy, = copies.iterdir()
    return copy

def loaded(place):
    "What `load_ratings` gives, whether it took the copy, and what it warned of."
    taken, kept = [], movielens._kept
    def spy(*args):
        taken.append(kept(*args))
        return taken[-1]
    with warnings.catch_warnings(record=True) as said, pytest.MonkeyPatch.context() as m:
        warnings.simplefilter('always')
        m.setattr(movielens, '_kept', spy)
        r = load_ratings(place)
    return r, taken[0] is not None, [str(w.message) for w in said]

def first(place):
    r, taken, said = loaded(place)
    assert not taken and not said
    return r

def anew(place):
    "The ratings, read without a copy."
    return load_ratings(place, cache=False)

@pytest.mark.parametrize('name', KINDS)
@pytest.mark.parametrize('place', ['folder', 'file', 'zip'])
def test_the_second_load_is_the_first(tmp_path, copies, name, place, capsys):
    d = tmp_path/'ml'
    d.mkdir()
    (d/name).write_text(KINDS[name])
    if place == 'zip':
        with zipfile.ZipFile(tmp_path/'ml.zip', 'w') as z: z.write(d/name, f'ml/{name}')
    source = {'folder': d, 'file': d/name, 'zip': tmp_path/'ml.zip'}[place]
    before = sorted(tmp_path.rglob('*'))
    identical(first(source), anew(source))
    assert the_copy(copies).suffix == '.safetensors' and sorted(tmp_path.rglob('*')) == before, 'nothing lies beside the source'
    again, taken, said = loaded(source)
    assert taken and not said and capsys.readouterr().out == ''
    identical(again, anew(source))

def test_the_folder_for_the_copies(monkeypatch, tmp_path):
    monkeypatch.setenv('MFBOOK_CACHE', '~/somewhere')
    assert cache_folder() == Path.home()/'somewhere'
    for unset in (lambda: monkeypatch.setenv('MFBOOK_CACHE', ''), lambda: monkeypatch.delenv('MFBOOK_CACHE')):
        unset()
        assert cache_folder() == Path(user_cache_dir('mfbook'))

def test_a_folder_that_is_not_there_yet_is_made(folder, monkeypatch, tmp_path):
    monkeypatch.setenv('MFBOOK_CACHE', str(tmp_path/'a'/'b'))
    first(folder)
    assert len(list((tmp_path/'a'/'b').iterdir())) == 1 and loaded(folder)[1]

def test_without_a_copy_nothing_is_written_or_read(folder, copies):
    load_ratings(folder, cache=False)
    assert list(copies.iterdir()) == []
    first(folder)
    the_copy(copies).write_bytes(b'')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(load_ratings(folder, cache=False)) == CSV.count('\n') - 1
    assert the_copy(copies).read_bytes() == b''

def test_a_source_by_any_name_has_one_copy_and_another_source_another(folder, copies, monkeypatch, tmp_path):
    first(folder)
    monkeypatch.chdir(folder)
    (tmp_path/'link').symlink_to(folder)
    for place in (folder/'ratings.csv', '.', 'ratings.csv', tmp_path/'link', tmp_path/'ml'/'..'/'ml'):
        assert loaded(place)[1:] == (True, [])
    assert len(list(copies.iterdir())) == 1
    other = write(tmp_path/'other', {'ratings.csv': CSV + '99,3,1.0,5\n'})
    assert first(other).n_users == 60 and len(list(copies.iterdir())) == 2
    assert loaded(folder)[0].n_users == 59 and loaded(other)[0].n_users == 60

def test_a_copy_under_the_name_of_another_is_not_taken(folder, copies, tmp_path):
    first(folder)
    mine = the_copy(copies)
    other = write(tmp_path/'other', {'ratings.csv': CSV.replace(',1.0,', ',5.0,')})
    stat = (folder/'ratings.csv').stat()
    os.utime(other/'ratings.csv', ns=(stat.st_atime_ns, stat.st_mtime_ns))
    first(other)
    theirs, = set(copies.iterdir()) - {mine}
    os.replace(theirs, mine)
    r, taken, said = loaded(folder)
    assert not taken and not said and loaded(folder)[1]
    identical(r, anew(folder))

@pytest.mark.skipif(os.name == 'nt', reason='every path is text there')
def test_a_path_that_is_no_text(tmp_path):
    place = write(Path(os.fsdecode(os.fsencode(tmp_path) + b'/\xff\xfe')), {'ratings.csv': CSV})
    first(place)
    assert loaded(place)[1:] == (True, [])

def test_films_are_read_each_time(folder):
    first(folder)
    (folder/'movies.csv').write_text(FILMS.replace('Heat', 'Cold'))
    again, taken, said = loaded(folder)
    assert taken and again.titles([0]) == ['Cold (1995)']

def test_the_ids_of_a_copy_are_read_only_and_its_tensors_are_private(folder, copies):
    first(folder)
    r = loaded(folder)[0]
    with pytest.raises(ValueError, match='read-only'): r.user_ids[0] = 7
    before = the_copy(copies).read_bytes()
    for t in (r.users, r.values, r.timestamps): t.zero_()
    assert the_copy(copies).read_bytes() == before
    identical(loaded(folder)[0], anew(folder))

def test_a_copy_that_is_replaced_does_not_disturb_ratings_that_come_from_it(folder):
    first(folder)
    r, old = loaded(folder)[0], anew(folder).to_frame()
    (folder/'ratings.csv').write_text(CSV.replace(',1.0,', ',5.0,'))
    new, taken, said = loaded(folder)
    assert not taken and r.to_frame().equals(old) and not new.to_frame().equals(old)

def scratch(at): return lambda data: data[:at % len(data)] + bytes([data[at] ^ 1]) + data[at % len(data) + 1:]
FAULTS = {'empty': lambda d: b'', 'cut': lambda d: d[:-8], 'cut in the head': lambda d: d[:50], 'cut in the middle': lambda d: d[:len(d)//2], 'longer': lambda d: d + bytes(8),
          'garbage': lambda d: bytes(range(256))*40, 'zeros': lambda d: bytes(len(d)), 'the tail is zeros': lambda d: d[:-4096] + bytes(4096),
          'the last bit': scratch(-1), 'a bit in the middle': lambda d: scratch(len(d)//2)(d), 'the head': scratch(0), 'text': lambda d: b'{"a": 1}', 'a csv': lambda d: CSV.encode(),
          'another type': lambda d: d.replace(b'"dtype":"F32"', b'"dtype":"I32"'), 'another name': lambda d: d.replace(b'"values":{', b'"valves":{'),
          'two names swapped': lambda d: d.replace(b'"users":{', b'"_":{').replace(b'"items":{', b'"users":{').replace(b'"_":{', b'"items":{')}
@pytest.mark.parametrize('what', FAULTS)
def test_a_damaged_copy_is_made_anew(folder, copies, what):
    first(folder)
    copy = the_copy(copies)
    damaged = FAULTS[what](copy.read_bytes())
    assert damaged != copy.read_bytes()
    copy.write_bytes(damaged)
    r, taken, said = loaded(folder)
    assert not taken and len(said) == 1 and 'the copy of ratings.csv is damaged' in said[0] and 'read anew' in said[0]
    identical(r, anew(folder))
    assert loaded(folder)[1:] == (True, [])

@settings(max_examples=100 if FULL else 40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**9), st.integers(0, 7))
def test_whatever_bit_is_scratched_the_ratings_are_right(folder, copies, at, bit):
    "In the head, too, which holds the source and the sums: then it may pass for an old copy, and is made anew without a word."
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        load_ratings(folder)
        copy = the_copy(copies)
        data = bytearray(copy.read_bytes())
        data[at % min(len(data), 3000)] ^= 1 << bit
        copy.write_bytes(data)
        identical(load_ratings(folder), anew(folder))

def test_a_source_that_changed_at_the_same_size(folder):
    first(folder)
    stat = (folder/'ratings.csv').stat()
    (folder/'ratings.csv').write_text(CSV.replace(',1.0,', ',5.0,'))
    os.utime(folder/'ratings.csv', ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert (folder/'ratings.csv').stat().st_size == stat.st_size
    r, taken, said = loaded(folder)
    assert not taken and not said and (r.values == 1).sum() == 0
    assert loaded(folder)[1:] == (True, [])

def test_a_source_of_another_size_and_the_same_time(folder):
    first(folder)
    stat = (folder/'ratings.csv').stat()
    (folder/'ratings.csv').write_text(CSV + '99,3,1.0,5\n')
    os.utime(folder/'ratings.csv', ns=(stat.st_atime_ns, stat.st_mtime_ns))
    r, taken, said = loaded(folder)
    assert not taken and not said and r.n_users == 60

def test_a_source_that_changes_while_it_is_read(folder, monkeypatch):
    "The copy belongs to what the file was before, so that it is not taken for the new one."
    real = movielens._read
    def slow(*args):
        frame = real(*args)
        (folder/'ratings.csv').write_text(CSV + '99,3,1.0,5\n')
        return frame
    with monkeypatch.context() as m:
        m.setattr(movielens, '_read', slow)
        assert first(folder).n_users == 59
    assert first(folder).n_users == 60

def test_a_copy_of_another_version(folder, monkeypatch):
    first(folder)
    monkeypatch.setattr(movielens, 'COPY_VERSION', 'another')
    assert loaded(folder)[1] is False and loaded(folder)[1:] == (True, [])

def test_the_scale_is_part_of_the_key(tmp_path):
    "The same ratings.dat is of another data set, with another scale, when users.dat lies beside it."
    (tmp_path/'ratings.dat').write_text(KINDS['ratings.dat'])
    assert first(tmp_path).rating_range == (.5, 5.)
    (tmp_path/'users.dat').write_text('1::F::1::10::48067\n')
    r, taken, said = loaded(tmp_path)
    assert not taken and r.rating_range == (1., 5.)

@pytest.mark.parametrize('large', [False, True])
@pytest.mark.parametrize('error', [PermissionError(13, 'Permission denied'), OSError(28, 'No space left on device')], ids=['read-only', 'disk full'])
def test_where_nothing_can_be_written_it_goes_on_and_with_a_word_if_it_matters(folder, copies, monkeypatch, error, large):
    def refuse(*args, **kw): raise error
    monkeypatch.setattr(tempfile, 'mkdtemp', refuse)
    if large: monkeypatch.setattr(movielens, 'LARGE', len(CSV))
    r, taken, said = loaded(folder)
    assert not taken and len(said) == large
    if large: assert 'no copy for the next time could be written' in said[0] and error.strerror in said[0]
    identical(r, anew(folder))
    assert sorted(p.name for p in folder.iterdir()) == ['movies.csv', 'ratings.csv'] and list(copies.iterdir()) == []

@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_that_may_not_be_written(folder, copies):
    copies.chmod(0o500)
    try: r, taken, said = loaded(folder)
    finally: copies.chmod(0o700)
    assert not taken and not said and len(r) == CSV.count('\n') - 1

def test_a_file_where_the_folder_for_copies_should_be(folder, monkeypatch, tmp_path):
    (tmp_path/'file').write_text('')
    for place in (tmp_path/'file', tmp_path/'file'/'inside'):
        monkeypatch.setenv('MFBOOK_CACHE', str(place))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            identical(load_ratings(folder), anew(folder))

def test_a_large_copy_says_where_it_is(folder, copies, monkeypatch, capsys):
    monkeypatch.setattr(movielens, 'LARGE', len(CSV))
    first(folder)
    said = capsys.readouterr().out
    assert 'For the next time: 0 MB in ' in said and str(copies) in said and said.count('\n') == 1
    assert loaded(folder)[1] and capsys.readouterr().out == ''

def test_an_interrupted_write_leaves_the_old_copy_or_none(folder, copies, monkeypatch):
    def half(tensors, file, metadata):
        Path(file).write_bytes(b'half')
        raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(movielens, 'save_file', half)
        with pytest.raises(KeyboardInterrupt): load_ratings(folder)
        assert list(copies.iterdir()) == []
    first(folder)
    before = the_copy(copies).read_bytes()
    os.utime(folder/'ratings.csv', ns=(5, 5))
    with monkeypatch.context() as m:
        m.setattr(movielens, 'save_file', half)
        with pytest.raises(KeyboardInterrupt): load_ratings(folder)
    assert the_copy(copies).read_bytes() == before

def test_what_is_to_be_warned_of_is_said_each_time(folder, copies):
    for text, says in ((CSV + '1,3,5.0,999\n', 'left out 1 of'), (CSV[:-1], 'the last line does not end')):
        (folder/'ratings.csv').write_text(text)
        for _ in range(2):
            r, taken, said = loaded(folder)
            assert not taken and len(said) == 1 and says in said[0]
        assert list(copies.iterdir()) == []

def test_a_warning_names_the_line_that_asked_for_the_ratings(folder):
    (folder/'ratings.csv').write_text(CSV[:-1])
    with pytest.warns(UserWarning, match='does not end') as caught: load_ratings(folder)
    assert Path(caught[0].filename).name == Path(__file__).name

def test_bad_input_is_told_as_ever(folder, copies):
    (folder/'ratings.csv').write_text(CSV.replace(',1.0,', ',ten,', 1))
    with pytest.raises(ValueError, match="line .*'rating': 'ten' is not a number"): load_ratings(folder)
    with pytest.raises(FileNotFoundError, match='nothing at'): load_ratings(folder/'nowhere')
    assert list(copies.iterdir()) == []

def _load_often(args):
    place, n = args
    sums = set()
    for _ in range(n):
        os.utime(place/'ratings.csv')                             # the copy is old at once, and written anew
        r = load_ratings(place)
        sums.add((len(r), float(r.values.double().sum()), int(r.timestamps.sum())))
    return sums

def test_two_processes_at_once(folder, copies):
    r = first(folder)
    with multiprocessing.get_context('spawn').Pool(2) as pool: sums = pool.map(_load_often, [(folder, 30)]*2)
    assert set.union(*sums) == {(len(r), float(r.values.double().sum()), int(r.timestamps.sum()))}
    assert len(list(copies.iterdir())) == 1
