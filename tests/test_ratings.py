"Loading ratings: every layout, as folder and zip; id maps and codes; and what bad input is told, by line and column."
import hashlib, os, warnings, zipfile
from dataclasses import FrozenInstanceError
from importlib.resources import files
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from mfbook.ratings import Ratings, id_map, load_fold, load_ratings, split_year, titles_of

DATA = os.environ.get('MFBOOK_DATA')
needs_data = pytest.mark.skipif(not DATA, reason='MFBOOK_DATA is not set; it names the folder that holds ml-100k and ml-latest-small')
COLUMNS = ['userId', 'movieId', 'rating', 'timestamp']

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

def test_the_sample_is_what_its_readme_says():
    r, path = load_ratings(), files('mfbook')/'sample'/'ml-sample.zip'
    assert (len(r), r.n_users, r.n_items, r.rating_range) == (100_004, 671, 9_066, (.5, 5.))
    untitled = np.flatnonzero(r.movies.title.isna())
    assert r.item_ids[untitled].tolist() == [108548, 108583, 143410, 151307, 162376] and torch.isin(r.items, torch.from_numpy(untitled)).sum() == 7
    assert r.titles([0, untitled[1]]) == ['Toy Story (1995)', '(no title, id 108583)']
    z = zipfile.ZipFile(path)
    assert z.namelist() == ['ml-sample/README.md', 'ml-sample/movies.csv', 'ml-sample/ratings.csv'] and Path(path).stat().st_size < 1_000_000
    assert {n: hashlib.sha256(z.read(f'ml-sample/{n}.csv')).hexdigest() for n in ('ratings', 'movies')} == {
        'ratings': 'b4239649fbf90ebf405c56c3ae1d929d9e7c86fc1a3a80cbef1c884df593ef73', 'movies': 'dd43da0fcff532dce64eb7823df3cdbe425a63e54cc0180a3a6cb01999ddb659'}

def test_the_conditions_of_use_go_with_the_sample():
    folder = files('mfbook')/'sample'
    inside = zipfile.ZipFile(folder/'ml-sample.zip').read('ml-sample/README.md').decode()
    assert inside == (folder/'README.md').read_text(encoding='utf-8')
    for words in ('Conditions of use', 'endorsement', 'acknowledge', 'redistribute', 'commercial', 'without warranty', '10.1145/2827872'): assert words in inside

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
    assert [(ours, theirs) for ours, theirs in zip(r.titles(range(r.n_items)), films) if ours != theirs] == [
        ('Death Note: Desu nôto (2006)', 'Death Note: Desu nôto (2006–2007)')]

# ---- ids and codes

wide = st.integers(-2**63, 2**63 - 1)
@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=1) | st.lists(wide, min_size=1) | st.lists(st.text(max_size=3), min_size=1))
def test_id_maps_lead_back(raw):
    ids, codes = id_map(np.array(raw, dtype=object if isinstance(raw[0], str) else np.int64))
    assert codes.dtype == np.int32 and [ids[c] for c in codes] == raw
    assert ids.tolist() == sorted(set(raw)) and set(codes.tolist()) == set(range(len(ids)))

@pytest.mark.parametrize('dtype', ['int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64'])
def test_id_maps_of_every_kind_of_number(dtype):
    edge = np.iinfo(dtype)
    raw = np.array([edge.max, edge.min, edge.max, 5], dtype=dtype)
    ids, codes = id_map(raw)
    assert (ids[codes] == raw).all() and codes.tolist() == [2, 0, 2, 1]

ratings = st.lists(st.tuples(wide, st.integers(0, 10**5), st.integers(1, 10), st.integers(0, 2**31)), min_size=1, unique_by=lambda t: t[:2])
@settings(max_examples=60, deadline=None)
@given(ratings, st.sampled_from(['numbers', 'strings', 'categories']))
def test_a_frame_comes_back_as_it_was(rows, ids):
    f = pd.DataFrame(rows, columns=COLUMNS).astype({'rating': 'float32'})
    f['rating'] /= 2
    if ids != 'numbers': f['userId'] = 'u' + f.userId.astype(str)
    r = Ratings.from_frame(f.astype({'userId': 'category'}) if ids == 'categories' else f)
    back = r.to_frame()
    assert all(back[c].tolist() == f[c].tolist() for c in COLUMNS)
    assert [x.dtype for x in (r.users, r.items, r.values, r.timestamps)] == [torch.int32, torch.int32, torch.float32, torch.int64]
    for codes, n in ((r.users, r.n_users), (r.items, r.n_items)): assert codes.min() == 0 and codes.max() == n - 1
    assert sorted(r.user_ids) == list(r.user_ids) and r.rating_range == (f.rating.min(), f.rating.max())
    again = r.encode(back)
    assert torch.equal(again.users, r.users) and torch.equal(again.items, r.items) and torch.equal(again.values, r.values)

@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 5), st.integers(0, 4)), min_size=1), st.booleans())
def test_of_a_pair_rated_twice_the_last_stays(rows, timed):
    f = pd.DataFrame(rows, columns=COLUMNS)
    last = {}
    for n, (u, i, v, t) in enumerate(rows):
        if (u, i) not in last or not timed or t >= rows[last[u, i]][3]: last[u, i] = n
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        r = Ratings.from_frame(f if timed else f.drop(columns='timestamp'))
    kept = [rows[n][:3] for n in sorted(last.values())]                   # in the order of their rows
    assert list(r.to_frame()[COLUMNS[:3]].itertuples(index=False, name=None)) == kept
    assert [f'left out {len(rows) - len(kept)} of {len(rows)} ratings' in str(w.message) for w in caught] == [True]*(len(kept) < len(rows))

def test_the_number_of_a_pair_has_room():
    "With 65,537 users and 65,536 items the last pair's number is 2**32: in four bytes it would be that of the first pair."
    n = np.arange(65_537)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(Ratings.from_frame(pd.DataFrame(dict(userId=n, movieId=n % 65_536, rating=3.)))) == 65_537

def test_ratings_do_not_change():
    r = load_ratings()
    for name in ('users', 'values', 'rating_range', 'movies'):
        with pytest.raises(FrozenInstanceError): setattr(r, name, None)
    for ids in (r.user_ids, r.item_ids):
        with pytest.raises(ValueError, match='read-only'): ids[0] = 7
    f = pd.DataFrame(ROWS, columns=COLUMNS)
    f = f.astype({'rating': 'float32'})
    own = Ratings.from_frame(f)
    assert not any(np.shares_memory(t.numpy(), f[c].to_numpy()) for t, c in ((own.values, 'rating'), (own.timestamps, 'timestamp'))), 'the frame may change'

def test_taking_shares_the_codes():
    r = load_ratings()
    a = r.take(torch.tensor([5, 3]))
    assert a.user_ids is r.user_ids and a.movies is r.movies and a.items.tolist() == r.items[[5, 3]].tolist() and a.timestamps.tolist() == r.timestamps[[5, 3]].tolist()
    assert len(r.take(r.values > 4)) == int((r.values > 4).sum()) and len(r.take(slice(10))) == 10 and len(r.take([])) == 0
    assert len(r.take((r.values > 4).numpy())) == len(r.take(np.flatnonzero(r.values > 4)))
    assert '100,004 ratings' in repr(r) and '1.64%' in repr(r) and r.mean == pytest.approx(3.5436, abs=1e-4)
    assert '0 ratings' in repr(r.take([]))

def test_encode():
    r = Ratings.from_frame(pd.DataFrame(ROWS, columns=COLUMNS), rating_range=(.5, 5))
    known = pd.DataFrame(dict(userId=[7, 1], movieId=[31, 5], rating=[1., 5.]))
    e = r.encode(known)
    assert e.users.tolist() == [2, 0] and e.items.tolist() == [1, 0] and e.timestamps is None and e.user_ids is r.user_ids and e.rating_range == (.5, 5)
    assert [x.dtype for x in (e.users, e.items, e.values)] == [torch.int32, torch.int32, torch.float32]
    strange = pd.DataFrame(dict(userId=[7, 8, 8], movieId=[31, 5, 6], rating=[1., 5., 2.]))
    with pytest.raises(ValueError, match=r"1 in 'userId' \(8\) and 1 in 'movieId' \(6\), in 2 of 3 ratings.*unknown='drop'"): r.encode(strange)
    with pytest.warns(UserWarning, match=r"left out: ids without a code, 1 in 'userId' \(8\)"): assert r.encode(strange, unknown='drop').to_frame().movieId.tolist() == [31]
    with pytest.warns(UserWarning): assert len(r.encode(strange[1:], unknown='drop')) == 0
    with pytest.raises(ValueError, match=r"code, 1 in 'movieId' \(6\), in 1 of 2 ratings"): r.encode(known.assign(movieId=[31, 6]))
    with pytest.raises(ValueError, match='9 is outside 0.5 to 5'): r.encode(known.assign(rating=9))
    with pytest.raises(ValueError, match="'raise' or 'drop'"): r.encode(known, unknown='ignore')
    with pytest.raises(ValueError, match=r"2 in 'userId' \(7, 1\)"): r.encode(known.astype({'userId': str}))
    with pytest.raises(ValueError, match=r"7 in 'userId' \(10, 11, 12, 13, 14, \.\.\.\)"): r.encode(pd.DataFrame(dict(userId=range(10, 17), movieId=5, rating=3)))
    with pytest.warns(UserWarning, match='left out 1 of 3'): assert len(r.encode(pd.concat([known, known[:1]]))) == 2

def test_encode_of_strings():
    r = Ratings.from_frame(pd.DataFrame(dict(userId=['b', 'a'], movieId=['x', 'y'], rating=[1, 2])))
    assert r.encode(pd.DataFrame(dict(userId=['a', 'b'], movieId=['x', 'x'], rating=[2, 2]))).users.tolist() == [0, 1]

# ---- titles

@pytest.mark.parametrize('raw, title, year', [
    ('Toy Story (1995)', 'Toy Story', 1995), ('2001: A Space Odyssey (1968) ', '2001: A Space Odyssey', 1968), ('(500) Days of Summer (2009)', '(500) Days of Summer', 2009),
    ('City (Cité, La) (1995)', 'City (Cité, La)', 1995), ('1984(1956)', '1984', 1956), ('Babylon 5', 'Babylon 5', None), ('(1995)', '(1995)', None), ('unknown', 'unknown', None),
    ('Fawlty Towers (1975-1979)', 'Fawlty Towers', 1975), ('Death Note (2006–2007)', 'Death Note', 2006), ('Twin Peaks (1989– )', 'Twin Peaks', 1989),
    ('Land Before Time (1995) (V)', 'Land Before Time (1995) (V)', None), (' Heat (1995', 'Heat (1995', None)])
def test_years_are_split_off(raw, title, year):
    t, y = split_year(pd.Series([raw]))
    assert t[0] == title and (pd.isna(y[0]) if year is None else y[0] == year) and y.dtype == 'Int16'

def test_titles_without_films():
    assert titles_of(None, np.array(['x', 'y']), [1]) == ['item y']

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
    'semicolons': (GOOD.replace(',', ';'), r"line 1: no column 'userId' among \['userId;movieId;rating;timestamp'\], separated by ','.*from_frame"),
    'tabs': (GOOD.replace(',', '\t'), r"line 1: no column 'userId' among .*separated by ','"),
    'another name for a column': (change('rating', 'stars'), r"line 1: no column 'rating' among \['userId', 'movieId', 'stars', 'timestamp'\].*from_frame"),
    'no header': (GOOD.split('\n', 1)[1], r"line 1: no column 'userId' among \['1', '31'"),
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
                    ('::', ',', "line 1: 1 fields separated by '::', not 4"), ('::', ':', "line 1: 1 fields separated by '::', not 4"),
                    ('1029', 'a', "line 2, column 'movieId': 'a' is not a number"), ('::3.0::', '::3.0::3::', 'line 2: 5 fields, not 4'), ('::2.5::', '::2.5::2::', 'line 1: more fields')],
    'u.data': [('\t3.0\t', '\tx\t', "line 2, column 'rating': 'x' is not a number"), ('\t0.5\t', '\t6\t', "line 4, column 'rating': 6 is outside 1 to 5"),
               ('1\t31\t', '1\t', r"line 1: 3 fields separated by '\\t', not 4"), ('\t', ' ', r"line 1: 1 fields separated by '\\t', not 4"), ('3.0', '3.0\t1', 'line 2: 5 fields, not 4')]}
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
    for text, says in {'movieId,title,genres\n5,Postman, The (1994),Drama\n': 'a/movies.csv: ', 'id,title,genres\n5,Heat,Drama\n': "a/movies.csv: .*movieId", 'movieId,title,genres\nx,Heat,Drama\n': 'a/movies.csv: .*x'}.items():
        with pytest.raises(ValueError, match=says): load_ratings(write(tmp_path/'a', {'ratings.csv': GOOD, 'movies.csv': text}))

# ---- bad places

def test_places_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match='nothing at .*nowhere.*getcwd'): load_ratings(tmp_path/'nowhere')
    write(tmp_path/'a', {'films.txt': 'x'})
    for place in (tmp_path/'a', zipped(tmp_path/'a', '')):
        with pytest.raises(FileNotFoundError, match='holds films.txt, and none of .*ratings.csv, ratings.dat, u.data.*from_frame'): load_ratings(place)
    with pytest.raises(FileNotFoundError, match='films.txt is none of the rating files'): load_ratings(tmp_path/'a'/'films.txt')

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
    with pytest.raises(ValueError, match='ml-x/ratings.csv is damaged .*Get the zip again'): load_ratings(tmp_path/'a.zip')
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

# ---- bad frames

F = pd.DataFrame(dict(userId=[1, 2], movieId=[3, 4], rating=[3., 4.], timestamp=[1, 2]))
BAD_FRAMES = {
    'no ratings column': (F.drop(columns='rating'), r"no column 'rating' among \['userId', 'movieId', 'timestamp'\].*rating="), 'no rows': (F[:0], 'holds no ratings'),
    'NaN': (F.assign(rating=[3, np.nan]), r"row 1 \(df.iloc\[1\]\), column 'rating': nothing is there"), 'a word': (F.assign(rating=['3', 'x']), r"row 1 .*'rating': 'x' is not a number"),
    'infinity': (F.assign(rating=[np.inf, 3]), r"row 0 .*'rating': inf is not a finite number"), 'NA': (F.astype({'rating': 'Float64'}).assign(rating=pd.array([pd.NA, 3.], dtype='Float64')), "row 0 .*nothing is there"),
    'an id is NaN': (F.assign(userId=[1, np.nan]), r"row 1, column 'userId': an id is missing"), 'half an id': (F.assign(userId=[1.5, 2]), r"row 0 .*'userId': 1.5 is not a whole number"),
    'no id': (F.assign(userId=[None, 'a']), r"row 0, column 'userId': an id is missing"), 'two kinds of id': (F.assign(userId=[1, '1']), r"'userId': mixed-integer ids.*astype\(str\)"),
    'an id too large': (F.assign(userId=np.array([1, 2**64 - 1], dtype=np.uint64)), r"'userId': integer ids.*astype\(str\)"), 'a date as id': (F.assign(movieId=pd.to_datetime(['2020', '2021'])), "'movieId': datetime64 ids"),
    'times in words': (F.assign(timestamp=['now', 'then']), r"row 0 .*'timestamp': 'now' is not a number"), 'no time': (F.assign(timestamp=[1., np.nan]), r"row 1 .*'timestamp': nothing is there"),
    'half a second': (F.assign(timestamp=[1., 2.5]), r"row 1 .*'timestamp': 2.5 is not a whole number"), 'no date': (F.assign(timestamp=pd.to_datetime(['2020-01-01', None])), r"row 1 .*'timestamp': nothing is there")}
@pytest.mark.parametrize('what', BAD_FRAMES)
def test_bad_frames(what):
    frame, says = BAD_FRAMES[what]
    with pytest.raises(ValueError, match=says): Ratings.from_frame(frame)

def test_frames_out_of_range_and_with_columns_that_are_not_there():
    with pytest.raises(ValueError, match='row 1 .*4.0 is outside 1 to 3'): Ratings.from_frame(F, rating_range=(1, 3))
    for wrong in (dict(user='who'), dict(timestamp='when')):
        with pytest.raises(ValueError, match=f"no column '{[*wrong.values()][0]}'"): Ratings.from_frame(F, **wrong)

def test_what_a_frame_may_hold():
    r = Ratings.from_frame(F.assign(userId=[1., 2.], timestamp=pd.to_datetime(['2020-01-01', '2020-01-02'])))
    assert r.user_ids.tolist() == [1, 2] and r.user_ids.dtype == np.int64 and r.timestamps.tolist() == [1577836800, 1577923200]
    assert Ratings.from_frame(F.drop(columns='timestamp')).timestamps is None and Ratings.from_frame(F, timestamp=None).timestamps is None
    odd = F.rename(columns={'userId': 0, 'rating': 'stars'}).set_index(pd.Index(['x', 'x'])).astype({'stars': 'Int64', 'movieId': 'Int64', 0: 'string'})
    r = Ratings.from_frame(odd, user=0, rating='stars')
    assert r.user_ids.tolist() == ['1', '2'] and r.item_ids.tolist() == [3, 4] and r.item_ids.dtype == np.int64 and r.values.tolist() == [3, 4]

def test_a_zero_byte_far_down_is_found(tmp_path):
    "A block of zeros is what a power cut leaves in a file; the C reader would take the number to end there."
    rows = csv([(u, i, 3.0, 5) for u in range(300) for i in range(300)])
    at = len(rows)//2
    folder = write(tmp_path/'a', {'ratings.csv': rows[:at] + '\0'*100 + rows[at+100:]})
    for place in (folder, zipped(folder)):
        with pytest.raises(ValueError, match='/ratings.csv is a binary file, or damaged'): load_ratings(place)
