"Loading ratings: every layout, as folder and zip; id maps; and what bad input is told."
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
needs_data = pytest.mark.skipif(not DATA, reason='MFBOOK_DATA is unset; it names the folder that holds ml-100k and ml-latest-small')

ROWS = [(1, 31, 2.5, 1260759144), (1, 1029, 3.0, 1260759179), (2, 31, 4.5, 835355493), (7, 5, 0.5, 835355000)]
WHOLE = [(u, i, int(v + .5), t) for u, i, v, t in ROWS]
def csv(rows): return 'userId,movieId,rating,timestamp\n' + ''.join('{},{},{},{}\n'.format(*r) for r in rows)
def dat(rows): return ''.join('{}::{}::{}::{}\n'.format(*r) for r in rows)
def tab(rows): return ''.join('{}\t{}\t{}\t{}\n'.format(*r) for r in rows)
U_ITEM = lambda i, title, genres: f'{i}|{title}|01-Jan-1995||http://x|' + '|'.join('1' if g in genres else '0' for g in range(19)) + '\n'

FOLDERS = {
    'latest': ({'ratings.csv': csv(ROWS), 'movies.csv': 'movieId,title,genres\n5,"Postman, The (Postino, Il) (1994)",Drama|Romance\n31,Léon (1994),Action\n1029,,Comedy\n9,Nobody (2000),Drama\n',
                'links.csv': 'movieId,imdbId,tmdbId\n5,0110877,11010\n', 'tags.csv': 'userId,movieId,tag,timestamp\n1,31,loud,1\n'}, 'utf-8', (.5, 5.)),
    '10m': ({'ratings.dat': dat(ROWS), 'movies.dat': '5::Postman, The (Postino, Il) (1994)::Drama|Romance\n31::Léon (1994)::Action\n1029::::Comedy\n', 'tags.dat': '1::31::loud::1\n'}, 'utf-8', (.5, 5.)),
    '1m': ({'ratings.dat': dat(WHOLE), 'movies.dat': '5::Postman, The (Postino, Il) (1994)::Drama|Romance\n31::Léon (1994)::Action\n1029::::Comedy\n', 'users.dat': ''}, 'latin-1', (1., 5.)),
    '100k': ({'u.data': tab(WHOLE), 'u.item': U_ITEM(5, 'Postman, The (Postino, Il) (1994)', (8, 14)) + U_ITEM(31, 'Léon (1994)', (1,)) + U_ITEM(1029, '', (5,))}, 'latin-1', (1., 5.)),
}

def write(folder, contents, encoding='utf-8'):
    folder.mkdir(exist_ok=True)
    for name, text in contents.items(): (folder/name).write_bytes(text.encode(encoding))
    return folder

def zipped(folder, inside='ml-x/'):
    with zipfile.ZipFile(folder.with_suffix('.zip'), 'w') as z:
        for p in folder.iterdir(): z.write(p, inside + p.name)
    return folder.with_suffix('.zip')

@pytest.mark.parametrize('as_zip', [False, True])
@pytest.mark.parametrize('kind', FOLDERS)
def test_every_layout(tmp_path, kind, as_zip):
    contents, encoding, scale = FOLDERS[kind]
    place = write(tmp_path/kind, contents, encoding)
    r = load_ratings(zipped(place) if as_zip else place)
    rows = ROWS if scale[0] == .5 else WHOLE
    assert r.to_frame().values.tolist() == [list(map(float, x)) for x in rows] and r.rating_range == scale
    assert r.users.tolist() == [0, 0, 1, 2] and r.items.tolist() == [1, 2, 1, 0]
    assert [x.dtype for x in (r.users, r.items, r.values, r.timestamps)] == [torch.int32, torch.int32, torch.float32, torch.int64]
    assert r.titles([0, 1, 2]) == ['Postman, The (Postino, Il) (1994)', 'Léon (1994)', '(no title, id 1029)']
    assert r.movies.genres.tolist() == ['Drama|Romance', 'Action', 'Comedy'] and r.movies.movieId.tolist() == [5, 31, 1029]
    assert (r.tags is not None) == (kind in ('latest', '10m')) and (r.links is not None) == (kind == 'latest')
    if r.tags is not None: assert r.tags.tag.tolist() == ['loud']

def test_a_ratings_file_alone_and_a_folder_without_films(tmp_path):
    write(tmp_path/'a', {'ratings.csv': csv(ROWS)})
    for place in (tmp_path/'a', tmp_path/'a'/'ratings.csv', str(tmp_path/'a')):
        r = load_ratings(place)
        assert len(r) == 4 and r.movies is None and r.titles([1]) == ['item 31']
    write(tmp_path/'a', {'mine.csv': csv(ROWS[:2])})
    assert len(load_ratings(tmp_path/'a'/'mine.csv')) == 2

def test_columns_in_another_order_and_more_of_them(tmp_path):
    f = pd.DataFrame(ROWS, columns=['userId', 'movieId', 'rating', 'timestamp']).assign(note='x')[['note', 'rating', 'timestamp', 'movieId', 'userId']]
    write(tmp_path/'a', {'ratings.csv': f.to_csv(index=False)})
    assert load_ratings(tmp_path/'a').to_frame().values.tolist() == [list(map(float, x)) for x in ROWS]

def test_the_sample_is_what_its_readme_says():
    path = files('mfbook')/'sample'/'ml-sample.zip'
    r = load_ratings()
    assert (len(r), r.n_users, r.n_items, r.rating_range) == (100_004, 671, 9_066, (.5, 5.))
    assert r.movies.title.isna().sum() == 5 and set(r.item_ids[r.movies.title.isna()]) == {108548, 108583, 143410, 151307, 162376}
    assert r.titles([0]) == ['Toy Story (1995)'] and r.movies.year.dtype == 'Int16'
    z = zipfile.ZipFile(path)
    digests = {n: hashlib.sha256(z.read(f'ml-sample/{n}')).hexdigest()[:16] for n in ('ratings.csv', 'movies.csv')}
    assert digests == {'ratings.csv': 'b4239649fbf90ebf', 'movies.csv': 'dd43da0fcff532dc'}
    assert Path(path).stat().st_size < 1_000_000
    text = z.read('ml-sample/README.md').decode()
    assert text == (files('mfbook')/'sample'/'README.md').read_text(encoding='utf-8')
    assert all(w in text for w in ('10.1145/2827872', 'redistribute', 'commercial', 'endorsement'))

@needs_data
def test_movielens_100k():
    r = load_ratings(Path(DATA)/'ml-100k')
    assert (len(r), r.n_users, r.n_items, r.rating_range) == (100_000, 943, 1682, (1., 5.))
    assert r.titles(np.flatnonzero(r.item_ids == 1)) == ['Toy Story (1995)'] and r.movies.genres[0] == "Animation|Children's|Comedy"
    seen = []
    for n in range(1, 6):
        train, test = load_fold(Path(DATA)/'ml-100k', f'u{n}')
        assert (len(train), len(test)) == (80_000, 20_000) and (train.user_ids == r.user_ids).all() and (train.item_ids == r.item_ids).all()
        key = lambda x: x.users.long()*x.n_items + x.items
        assert not torch.isin(key(test), key(train)).any()
        seen.append(key(test))
    assert torch.equal(torch.cat(seen).sort().values, (r.users.long()*r.n_items + r.items).sort().values)

@needs_data
def test_movielens_latest_small():
    r = load_ratings(Path(DATA)/'ml-latest-small')
    assert (len(r), r.n_users, r.n_items) == (100_836, 610, 9_724) and r.links is not None and len(r.tags) == 3683
    raw = pd.read_csv(Path(DATA)/'ml-latest-small'/'ratings.csv')
    assert r.to_frame().movieId.tolist() == raw.movieId.tolist() and r.values.tolist() == raw.rating.tolist()

# --- ids ---

@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 50), st.integers(10**6, 10**6+5)), min_size=1) | st.lists(st.integers(-2**62, 2**62), min_size=1) | st.lists(st.text(max_size=3), min_size=1))
def test_id_maps_lead_back(raw):
    ids, codes = id_map(raw)
    assert codes.dtype == np.int32 and [ids[c] for c in codes] == list(raw)
    assert sorted(set(raw)) == list(ids) and set(codes.tolist()) == set(range(len(ids)))

@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 10**5), st.integers(1, 10), st.integers(0, 2**31)), min_size=1, unique_by=lambda t: t[:2]), st.booleans())
def test_a_frame_comes_back_as_it_was(rows, names):
    f = pd.DataFrame(rows, columns=['userId', 'movieId', 'rating', 'timestamp'])
    f['rating'] = (f.rating/2).astype('float32')
    if names: f['userId'] = 'u' + f.userId.astype(str)
    r = Ratings.from_frame(f)
    back = r.to_frame()
    assert all(back[c].tolist() == f[c].tolist() for c in f)
    assert 0 <= int(r.users.min()) and int(r.users.max()) == r.n_users - 1 and int(r.items.max()) == r.n_items - 1
    assert r.rating_range == (f.rating.min(), f.rating.max())

@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 5), st.integers(0, 4)), min_size=1), st.booleans())
def test_of_a_pair_rated_twice_the_latest_stays(rows, timed):
    f = pd.DataFrame(rows, columns=['userId', 'movieId', 'rating', 'timestamp'])
    if not timed: f = f.drop(columns='timestamp')
    latest = {}
    for u, i, v, t in rows:
        if (u, i) not in latest or not timed or t >= latest[u, i][1]: latest[u, i] = v, t
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        r = Ratings.from_frame(f)
    assert {(u, i): v for u, i, v in r.to_frame()[['userId', 'movieId', 'rating']].itertuples(index=False)} == {k: v for k, (v, _) in latest.items()}
    assert len(r) == len(latest) and bool(caught) == (len(rows) > len(latest))
    if caught: assert f'{len(rows) - len(latest)} of {len(rows)} ratings' in str(caught[0].message)

def test_ratings_do_not_change_and_taking_shares_the_codes():
    r = load_ratings()
    with pytest.raises(FrozenInstanceError): r.values = None
    a = r.take(torch.tensor([5, 3]))
    assert a.user_ids is r.user_ids and a.items.tolist() == [r.items[5], r.items[3]] and a.timestamps.tolist() == [r.timestamps[5], r.timestamps[3]]
    assert len(r.take(r.values > 4)) == int((r.values > 4).sum()) and len(r.take(slice(0, 0))) == 0
    assert '100,004 ratings' in repr(r) and '1.64%' in repr(r) and r.mean == pytest.approx(3.5436, abs=1e-4)

def test_encode():
    r = Ratings.from_frame(pd.DataFrame(ROWS, columns=['userId', 'movieId', 'rating', 'timestamp']), rating_range=(.5, 5))
    known = pd.DataFrame(dict(userId=[7, 1], movieId=[31, 5], rating=[1., 5.]))
    e = r.encode(known)
    assert e.users.tolist() == [2, 0] and e.items.tolist() == [1, 0] and e.timestamps is None and e.user_ids is r.user_ids
    strange = pd.DataFrame(dict(userId=[7, 8, 8], movieId=[31, 5, 6], rating=[1., 5., 2.]))
    with pytest.raises(ValueError, match=r"1 users \(8\) and 1 items \(6\).*drop.*2 ratings"): r.encode(strange)
    with pytest.warns(UserWarning, match='2 ratings left out'): assert r.encode(strange, unknown='drop').to_frame().movieId.tolist() == [31]
    with pytest.raises(ValueError, match='outside the rating range 0.5 to 5'): r.encode(known.assign(rating=9))
    with pytest.raises(ValueError, match="'raise' or 'drop'"): r.encode(known, unknown='ignore')
    with pytest.raises(ValueError, match='unknown: 2 users'): r.encode(known.assign(userId=['a', 'b']))

@pytest.mark.parametrize('raw, title, year', [('Toy Story (1995)', 'Toy Story', 1995), ('Fawlty Towers (1975-1979)', 'Fawlty Towers', 1975), ('Twin Peaks (1989– )', 'Twin Peaks (1989– )', None),
    ('Babylon 5', 'Babylon 5', None), ('2001 (1968) ', '2001', 1968), ('(500) Days of Summer (2009)', '(500) Days of Summer', 2009), ('City (Cité, La) (1995)', 'City (Cité, La)', 1995)])
def test_years_are_split_off(raw, title, year):
    t, y = split_year(pd.Series([raw]))
    assert t[0] == title and (pd.isna(y[0]) if year is None else y[0] == year)

# --- bad files ---

GOOD = csv(ROWS)
BAD_CSV = {
    'a word for a rating': (GOOD.replace('3.0', 'three'), r"ratings.csv, line 3, column rating: 'three' is not a number"),
    'a rating that is missing': (GOOD.replace('3.0', ''), r'ratings.csv, line 3, column rating'),
    'NaN': (GOOD.replace('3.0', 'nan'), r'line 3, column rating: nan is outside'),
    'infinity': (GOOD.replace('3.0', 'inf'), r'line 3, column rating: inf is outside'),
    'too high': (GOOD.replace('3.0', '5.5'), r'line 3, column rating: 5.5 is outside the rating range 0.5 to 5'),
    'too low': (GOOD.replace('3.0', '0'), r'line 3, column rating: 0 is outside'),
    'a word for an id': (GOOD.replace('1029', 'tt0113'), r"line 3, column movieId: 'tt0113' is not a whole number"),
    'an id that is missing': (GOOD.replace('1029', ''), r'line 3, column movieId'),
    'an id too large': (GOOD.replace('1029', '99999999999'), r'line 3, column movieId'),
    'a time that is none': (GOOD.replace('835355493', 'today'), r"line 4, column timestamp: 'today'"),
    'too few fields': (GOOD.replace(',3.0', ''), r'line 3: 3 fields instead of 4'),
    'too few fields at the end': (GOOD + '1,2\n', r'line 6: 2 fields instead of 4'),
    'too many fields': (GOOD.replace('3.0', '3.0,9'), r'line 3: 5 fields instead of 4'),
    'too many fields in the first row': (GOOD.replace('2.5', '2.5,9'), r'line 2: 5 fields instead of 4'),
    'too many fields in every row': (csv([(*r[:3], f'{r[3]},9') for r in ROWS]), r'line 2: 5 fields instead of 4'),
    'semicolons': (GOOD.replace(',', ';'), r"line 1: .*separated by ';'"),
    'tabs': (GOOD.replace(',', '\t'), r"line 1: .*separated by '\\t'"),
    'a missing column': (GOOD.replace('rating', 'stars'), r"line 1: the columns \['rating'\] are missing.*from_frame"),
    'no header': (GOOD.split('\n', 1)[1], r'line 1: the columns .*userId.* are missing'),
    'nothing': ('', r'ratings.csv is empty'),
    'blank lines only': ('\n\n', r'ratings.csv is empty'),
    'a header only': (GOOD.split('\n')[0] + '\n', r'no ratings'),
    'a binary file': ('\x7fELF\0\0\0', r'binary file'),
}
@pytest.mark.parametrize('what', BAD_CSV)
def test_bad_csv(tmp_path, what):
    text, says = BAD_CSV[what]
    write(tmp_path/'a', {'ratings.csv': text})
    with pytest.raises(ValueError, match=says) as e: load_ratings(tmp_path/'a')
    assert str(tmp_path) in str(e.value)
    with pytest.raises(ValueError, match=says): load_ratings(zipped(tmp_path/'a'))

BAD_DAT = {'ratings.dat': [('::2.5::', '::x::', "line 1, column rating: 'x'"), ('1::31::', '1::', 'line 1: 3 fields instead of 4'), ('::', ',', 'line 1: 1 fields instead of 4'), ('1029', 'a', 'line 2, column movieId')],
           'u.data': [('\t2.5\t', '\tx\t', "line 1, column rating: 'x'"), ('1\t31\t', '1\t', 'line 1: 3 fields instead of 4'), ('\t', ' ', 'line 1: 1 fields instead of 4'), ('3.0', '3.0\t1', 'line 2: 5 fields')]}
@pytest.mark.parametrize('name, case', [(n, c) for n in BAD_DAT for c in range(4)])
def test_bad_dat_and_tab(tmp_path, name, case):
    old, new, says = BAD_DAT[name][case]
    write(tmp_path/'a', {name: (dat if name == 'ratings.dat' else tab)(ROWS).replace(old, new)})
    with pytest.raises(ValueError, match=f'{name}, {says}'): load_ratings(tmp_path/'a')

def test_blank_lines_between_do_not_matter(tmp_path):
    write(tmp_path/'a', {'ratings.csv': GOOD.replace('\n', '\n\n')})
    assert len(load_ratings(tmp_path/'a')) == 4

def test_windows_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path):
    write(tmp_path/'a', {'ratings.csv': '\ufeff' + GOOD.replace('\n', '\r\n')})
    assert load_ratings(tmp_path/'a').to_frame().values.tolist() == [list(map(float, x)) for x in ROWS]

def test_a_last_line_without_its_end_is_warned_of(tmp_path):
    write(tmp_path/'a', {'ratings.csv': GOOD[:-4]})
    with pytest.warns(UserWarning, match='ratings.csv: the last line does not end'): assert len(load_ratings(tmp_path/'a')) == 4
    write(tmp_path/'a', {'ratings.csv': GOOD})
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        load_ratings(tmp_path/'a')

def test_duplicates_in_a_file_are_counted(tmp_path):
    write(tmp_path/'a', {'ratings.csv': GOOD + '1,31,5.0,1\n1,31,1.0,2000000000\n'})
    with pytest.warns(UserWarning, match='ratings.csv: 2 of 6 ratings'): r = load_ratings(tmp_path/'a')
    assert r.to_frame().values.tolist()[-1] == [1, 31, 1, 2000000000] and len(r) == 4

def test_places_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere does not exist'): load_ratings(tmp_path/'nowhere')
    write(tmp_path/'a', {'films.txt': 'x'})
    for place in (tmp_path/'a', zipped(tmp_path/'a')):
        with pytest.raises(ValueError, match='none of ratings.csv, ratings.dat, u.data.*films.txt'): load_ratings(place)

@pytest.mark.parametrize('name', ['../ratings.csv', '/etc/ratings.csv', 'a/../../ratings.csv', '..\\ratings.csv', 'C:\\ratings.csv'])
def test_a_zip_with_a_path_outside_itself_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path/'a.zip', 'w') as z:
        z.writestr('ml/ratings.csv', GOOD)
        z.writestr(name, GOOD)
    with pytest.raises(ValueError, match='outside itself'): load_ratings(tmp_path/'a.zip')

def test_a_damaged_zip_is_named(tmp_path):
    write(tmp_path/'a', {'ratings.csv': csv([(u, i, 3.0, 5) for u in range(60) for i in range(60)])})
    with zipfile.ZipFile(tmp_path/'a.zip', 'w', zipfile.ZIP_DEFLATED) as z: z.write(tmp_path/'a'/'ratings.csv', 'ratings.csv')
    data = bytearray((tmp_path/'a.zip').read_bytes())
    data[3000] ^= 0xff
    (tmp_path/'a.zip').write_bytes(data)
    with pytest.raises(ValueError, match='a.zip.*damaged.*Download it again'): load_ratings(tmp_path/'a.zip')
    (tmp_path/'a.zip').write_bytes(bytes(data[:2000]))
    with pytest.raises(ValueError, match='a.zip'): load_ratings(tmp_path/'a.zip')

F = pd.DataFrame(dict(userId=[1, 2], movieId=[3, 4], rating=[3., 4.], timestamp=[1, 2]))
@pytest.mark.parametrize('frame, says', [
    (F.drop(columns='rating'), r"no column \['rating'\].*rating="), (F.iloc[:0], 'holds no ratings'), (F.assign(rating=[3, np.nan]), r"row 1 .*'rating': 'nan'"),
    (F.assign(rating=['3', 'x']), r"row 1 .*'rating': 'x' is not a finite number"), (F.assign(rating=[np.inf, 3]), r"row 0 .*'inf'"), (F.assign(userId=[1, np.nan]), r"row 1 .*'userId': an id is missing"),
    (F.assign(userId=[1.5, 2]), r"'userId': ids are fractions"), (F.assign(userId=[None, 'a']), r"row 0 .*'userId'"), (F.assign(timestamp=['now', 'then']), r"'timestamp': times must be"), (F.assign(timestamp=[1., np.nan]), r"'timestamp': times must be")])
def test_bad_frames(frame, says):
    with pytest.raises(ValueError, match=says): Ratings.from_frame(frame)

def test_frames_out_of_range_floats_for_ids_and_dates_for_times():
    with pytest.raises(ValueError, match='row 1 .*4 is outside the rating range 1 to 3'): Ratings.from_frame(F, rating_range=(1, 3))
    r = Ratings.from_frame(F.assign(userId=[1., 2.], timestamp=pd.to_datetime(['2020-01-01', '2020-01-02'])))
    assert r.user_ids.tolist() == [1, 2] and r.user_ids.dtype == np.int64 and r.timestamps.tolist() == [1577836800, 1577923200]
    with pytest.raises(ValueError, match='frame has no column'): Ratings.from_frame(F, user='who')

def test_a_fold_that_is_not_there(tmp_path):
    write(tmp_path/'a', {'u.data': tab(WHOLE)})
    with pytest.raises(ValueError, match='holds no u7.base'): load_fold(tmp_path/'a', 'u7')
    write(tmp_path/'a', {'u1.base': tab(WHOLE), 'u1.test': tab(WHOLE[:1])})
    with pytest.raises(ValueError, match='u1.base and u1.test share'), pytest.warns(UserWarning): load_fold(tmp_path/'a', 'u1')

def test_titles_without_films():
    assert titles_of(None, np.array(['x', 'y']), [1]) == ['item y']
