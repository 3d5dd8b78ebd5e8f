"Ratings: id maps and codes, frames in and out, pairs rated twice, titles, and the ratings that ship."
import hashlib, re, warnings, zipfile
from dataclasses import FrozenInstanceError
from importlib.resources import files
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
import torch
import mfbook.ratings
from hypothesis import given, settings, strategies as st
from mfbook.ratings import Ratings, films_by_code, id_map, load_sample, make_ratings, split_year, titles_of

COLUMNS = ['userId', 'movieId', 'rating', 'timestamp']
ROWS = [(1, 31, 2.5, 1260759144), (1, 1029, 3.0, 1260759179), (2, 31, 4.5, 835355493), (7, 5, 0.5, 835355000)]

# ---- the ratings that ship

def test_the_sample_is_what_its_readme_says():
    r, path = load_sample(), files('mfbook')/'sample'/'ml-sample.zip'
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

def test_the_sample_is_the_same_each_time_and_shares_nothing():
    a, b = load_sample(), load_sample()
    assert a.values is not b.values and a.to_frame().equals(b.to_frame()) and a.movies.equals(b.movies)
    assert a.links is None and a.tags is None

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
    r = load_sample()
    for name in ('users', 'values', 'rating_range', 'movies'):
        with pytest.raises(FrozenInstanceError): setattr(r, name, None)
    for ids in (r.user_ids, r.item_ids):
        with pytest.raises(ValueError, match='read-only'): ids[0] = 7
    f = pd.DataFrame(ROWS, columns=COLUMNS)
    f = f.astype({'rating': 'float32'})
    own = Ratings.from_frame(f)
    assert not any(np.shares_memory(t.numpy(), f[c].to_numpy()) for t, c in ((own.values, 'rating'), (own.timestamps, 'timestamp'))), 'the frame may change'

def test_taking_shares_the_codes():
    r = load_sample()
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
    with pytest.raises(ValueError, match=r"ids in 'userId' are strings, like '7', and the known ones numbers, like 1.*astype\(int\)"): r.encode(known.astype({'userId': str}))
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

def test_films_are_in_the_order_of_their_codes():
    listed = pd.DataFrame(dict(movieId=[31, 9, 5, 31], title=['Heat (1995)', 'Nobody (2000)', 'Babe', 'Cold (1996)'], genres=['Action', 'Drama', None, 'Drama']))
    films = films_by_code(listed, np.array([5, 31, 1029]))
    assert films.movieId.tolist() == [5, 31, 1029] and films.columns.tolist() == ['movieId', 'title', 'year', 'genres']
    assert films.title[:2].tolist() == ['Babe', 'Heat'] and films.year.isna().tolist() == [True, False, True] and films.year[1] == 1995
    assert films.title.isna().tolist() == [False, False, True] and films.year.dtype == 'Int16' and listed.columns.tolist() == ['movieId', 'title', 'genres']

@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 5)), min_size=1, unique=True), st.booleans())
def test_raw_columns_become_ratings(pairs, timed):
    users, items = np.array(pairs).T
    times = np.arange(len(pairs)) if timed else None
    r = make_ratings(users, items, np.ones(len(pairs), dtype=np.float32), times, (np.int64(1), 5), 'here')
    assert r.user_ids[r.users.numpy()].tolist() == users.tolist() and r.item_ids[r.items.numpy()].tolist() == items.tolist()
    assert r.rating_range == (1., 5.) and all(type(x) is float for x in r.rating_range) and (r.timestamps is None) == (not timed)

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

# ---- tables of other kinds

def arrow(frame): return frame.convert_dtypes(dtype_backend='pyarrow')
def polars(frame): return pytest.importorskip('polars').DataFrame(frame.to_dict('list'))
def pyarrow(frame): return pytest.importorskip('pyarrow').table(frame.to_dict('list'))

TABLES = {
    'dict': lambda f: f.to_dict('list'),
    'tuples': lambda f: list(f.itertuples(index=False, name=None)),
    'tuple of lists': lambda f: tuple(f.values.tolist()),
    'dicts': lambda f: f.to_dict('records'),
    'array': lambda f: f.to_numpy(),
    'records': lambda f: f.to_records(index=False),
    'odd index': lambda f: f.set_index(pd.Index(['x']*len(f))),
    'two indices': lambda f: f.set_index(pd.MultiIndex.from_product([[1, 2], ['a', 'b']])),
    'nullable': lambda f: f.convert_dtypes(),
    'categories': lambda f: f.astype('category'),
    'read-only': lambda f: f.apply(lambda c: np.frombuffer(c.to_numpy().tobytes(), c.dtype)),
    'arrow': lambda f: pytest.importorskip('pyarrow') and arrow(f),
    'polars': polars,
    'pyarrow': pyarrow}

@pytest.mark.parametrize('kind', TABLES)
@pytest.mark.parametrize('ids', ['numbers', 'strings'])
def test_a_table_of_any_kind_is_the_same_ratings(kind, ids):
    f = pd.DataFrame(ROWS, columns=COLUMNS)
    if ids == 'strings':
        if kind == 'array': f = f.astype(object)
        if kind == 'read-only': pytest.skip('numbers only')
        f['movieId'] = 'm' + f.movieId.astype(str)
    r = Ratings.from_frame(TABLES[kind](f))
    assert r.to_frame().astype({'movieId': object}).values.tolist() == f.astype({'movieId': object}).values.tolist()
    again = r.encode(TABLES[kind](f.iloc[[3, 1, 0, 2]]))
    assert again.users.tolist() == [2, 0, 0, 1] and again.timestamps.tolist() == f.timestamp[[3, 1, 0, 2]].tolist()

@pytest.mark.parametrize('data, says', [
    ('ratings.csv', r'a frame is wanted.*this is a builtins.str. load_ratings\(path\) reads files'),
    (Path('ratings.csv'), 'this is a pathlib.*load_ratings'), (None, 'this is a builtins.NoneType'), (3, 'this is a builtins.int'),
    (torch.ones(9000, 3), 'this is a torch.Tensor'), (pd.Series(range(9000)), 'this is a pandas.Series'),
    (list(range(9000)), 'a list of rows has 3 to 4 entries in each row, userId, movieId, rating, timestamp; here they have 0'),
    ([(1, 2, 3), (1, 2)]*5000, 'here they have 2, 3'), (np.ones((9000, 2)), 'a ndarray of rows has 3 to 4 entries .*here they have 2'),
    (dict(userId=[1]*9000, movieId=[1]), 'columns of this dict are of different lengths'),
    (pd.DataFrame(np.ones((3, 90))).rename(columns=lambda n: f'a column with the long name {n}'*9), r"no column 'userId' among \['a column .*, \.\.\.\]\. Name yours"),
    (pd.concat([pd.DataFrame(dict(userId=[1], movieId=1, rating=1.))]*2, axis=1), "two columns are called 'userId'")])
def test_what_is_no_table_is_refused_in_one_sentence_without_the_data(data, says):
    with pytest.raises(ValueError, match=says) as e: Ratings.from_frame(data)
    assert len(str(e.value)) < 500

@pytest.mark.parametrize('column, says', [
    (dict(rating=pd.to_datetime(['2020', '2021'])), "column 'rating': datetime64.* values are not numbers"),
    (dict(rating=pd.to_timedelta([1, 2])), "column 'rating': timedelta64.* values are not numbers"),
    (dict(rating=np.array([1j, 2])), "column 'rating': complex128 values are not numbers"),
    (dict(timestamp=pd.to_timedelta([1, 2])), "column 'timestamp': timedelta64.* values are not numbers"),
    (dict(timestamp=['1999-01-06 09:05:48', '2000-01-01']), r"'timestamp': '1999-01-06 09:05:48' is not a number. If these are dates: df\['timestamp'\] = pd.to_datetime"),
    (dict(userId=[True, False]), "column 'userId': boolean ids")])
def test_values_of_another_kind_are_not_cast(column, says):
    with pytest.raises(ValueError, match=says): Ratings.from_frame(F.assign(**column))

def test_periods_are_dates():
    times = pd.period_range('2020-01-01', periods=2, freq='D')
    assert Ratings.from_frame(F.assign(timestamp=times)).timestamps.tolist() == [1577836800, 1577923200]

# ---- the range

@pytest.mark.parametrize('given', [(1, 5), [1, 5], np.array([1, 5]), torch.tensor([1., 5]), range(1, 6, 4), ('1', '5')])
def test_a_range_of_any_kind(given):
    r = Ratings.from_frame(F, rating_range=given)
    assert r.rating_range == (1., 5.) and all(type(end) is float for end in r.rating_range)

@pytest.mark.parametrize('given', [5, {1: 0, 5: 0}, {1, 5}, '15', (1, 2, 3), (1,), (1, np.nan), (1, np.inf), (None, 5), ('a', 'b'), np.ones(90_000)])
def test_a_range_of_no_kind(given):
    with pytest.raises(ValueError, match='rating_range must be two numbers') as e: Ratings.from_frame(F, rating_range=given)
    assert len(str(e.value)) < 300
    with pytest.raises(ValueError, match='rating_range must be two numbers'): mfbook.ratings.replace(Ratings.from_frame(F), rating_range=given)

def test_a_range_the_wrong_way_round_and_a_rating_outside():
    with pytest.raises(ValueError, match=r'\(5, 1\), the wrong way round: give \(1, 5\)'): Ratings.from_frame(F, rating_range=(5, 1))
    with pytest.raises(ValueError, match='4.0 is outside 1 to 3. If that is a rating, the scale is wider: .*rating_range='): Ratings.from_frame(F, rating_range=(1, 3))
    with pytest.raises(ValueError, match='9.0 is outside 3 to 4.*rating_range='): Ratings.from_frame(F).encode(F.assign(rating=9.))

# ---- codes given by hand

@pytest.mark.parametrize('codes', [[2, 0], (2, 0), np.array([2, 0], dtype=np.uint8), torch.tensor([2, 0], dtype=torch.int32), pd.Series([2, 0], index=[7, 9]),
    pd.Series([2, 0], dtype='Int64'), range(2, -1, -2), [2., 0.], [np.int64(2), torch.tensor(0)], pd.Index([2, 0])])
def test_codes_of_any_kind(codes):
    got = mfbook.ratings.as_codes(codes, 3)
    assert got.tolist() == [2, 0] and got.dtype == torch.int64
    assert set(mfbook.ratings.as_codes(codes, 3, subset=True).tolist()) == {0, 2}

@pytest.mark.parametrize('codes', [[1.5], [1.9, 2.9], [np.nan], ['1'], '1', [True, 2], [None], {0: 1}, 3, torch.tensor(1), [[1], [2]], [[1], [2, 0]], torch.ones(2, 2),
    pd.Series([1, None], dtype='Int64'), [1j], [True, False, True], {0, 1}])
def test_what_are_no_codes(codes):
    for call in (lambda: mfbook.ratings.as_codes(codes, 3, 'user'), lambda: Ratings.from_frame(ROWS).titles(codes)):
        with pytest.raises(ValueError, match='codes'): call()

def test_masks_and_sets_are_taken_where_the_order_does_not_matter():
    def subset(codes): return mfbook.ratings.as_codes(codes, 3, subset=True).tolist()
    for mask in ([True, False, True], np.array([True, False, True]), torch.tensor([True, False, True]), pd.Series([True, False, True])):
        assert subset(mask) == [0, 2]
    assert sorted(subset({2, 0})) == [0, 2] and subset([]) == subset(set()) == []
    with pytest.raises(ValueError, match='a mask of 2 for 3 items'): subset([True, False])

def test_codes_that_do_not_exist():
    with pytest.raises(IndexError, match='user code 3 is out of range: 0 to 2. Is it a raw id'): mfbook.ratings.as_codes([1, 3], 3, 'user')
    with pytest.raises(IndexError, match='item code -1 is out of range: 0 to 2. .*filled up with -1'): Ratings.from_frame(ROWS).titles([0, -1])

def test_take_does_not_look_at_the_index_of_a_series():
    r = Ratings.from_frame(ROWS)
    f = pd.DataFrame(ROWS, columns=COLUMNS, index=[7, 5, 3, 1])
    assert r.take(f.rating > 2.6).values.tolist() == [3, 4.5] and r.take(pd.Series([3, 0], index=[9, 8])).values.tolist() == [.5, 2.5]

def test_a_mask_of_another_length_is_refused():
    r = Ratings.from_frame(ROWS)
    for mask in (torch.tensor([True, False]), np.array([True]*5), pd.Series([True]*3)):
        with pytest.raises(ValueError, match=f'a mask of {len(mask)} for 4 ratings'): r.take(mask)

def test_pairs_without_a_rating_are_sent_to_predict():
    r = Ratings.from_frame(ROWS)
    with pytest.raises(ValueError, match=r"no column 'rating'. .*model.predict\(df\) takes raw ids"): r.encode(dict(userId=[1], movieId=[31]))
    with pytest.raises(ValueError, match="no column 'userId' among"): r.encode(dict(user=[1], movieId=[31]))

def test_ratings_of_other_ids_are_told_apart():
    r = load_sample()
    mfbook.ratings.check_same_ids(r, r.take([3]))
    mfbook.ratings.check_same_ids(r, load_sample())
    other = Ratings.from_frame(r.to_frame()[:-1].replace({'userId': {1: 1000}}), rating_range=(.5, 5))
    with pytest.raises(ValueError, match='test has codes for 671 users, train for 671, and they are not the same users.*encode'):
        mfbook.ratings.check_same_ids(r, other)

# ---- titles in any order

def test_titles_are_joined_by_id():
    f = pd.DataFrame(ROWS, columns=COLUMNS)
    books = pd.DataFrame(dict(movieId=[1029, 77, 31, 31], title=['Emma', 'Unread', 'Dune (1965)', 'Again']))
    for titles in (books, books[::-1][1:], books.to_dict('list'), list(books.itertuples(index=False, name=None)), {1029: 'Emma', 31: 'Dune (1965)'},
                   pd.Series(['Emma', 'Dune (1965)'], index=[1029, 31]), books.astype({'movieId': 'category'})):
        r = Ratings.from_frame(f, titles=titles)
        assert r.titles([0, 1, 2]) == ['(no title, id 5)', 'Dune (1965)', 'Emma']
        assert list(r.movies) == ['movieId', 'title', 'year', 'genres'] and r.movies.genres.isna().all()
    full = books.assign(year=[1815, 1, 1965, 2], genres=['Novel', '', 'Sand', ''])
    r = Ratings.from_frame(f, titles=full)
    assert r.titles([1, 2]) == ['Dune (1965)', 'Emma (1815)'] and r.movies.genres.tolist()[1:] == ['Sand', 'Novel'] and r.movies.year.dtype == 'Int16'
    assert Ratings.from_frame(f, titles=full.assign(year=[None, None, 1966, None])).titles([1, 2]) == ['Dune (1966)', 'Emma']
    assert Ratings.from_frame(f.rename(columns={'movieId': 'book'}), item='book', titles=books.rename(columns={'movieId': 'book'})).titles([2]) == ['Emma']
    assert Ratings.from_frame(f, titles={31: 1984}).titles([1]) == ['1984']

@pytest.mark.parametrize('titles, says', [
    ({'31': 'Dune'}, "ids in 'movieId' are strings, like '31', and the known ones numbers.*astype"), ({9: 'Dune'}, 'none of the 1 ids .* nothing gets a title'),
    (pd.DataFrame(dict(movieId=[31], name=['Dune'])), "no column 'title' among .*'name'.*titles= is"), (pd.DataFrame(dict(title=['Dune'])), "no column 'movieId' among"),
    ('titles.csv', 'a frame is wanted'), (pd.DataFrame(dict(movieId=[31], title='Dune', year='old')), "column 'year': 'old' is not a number")])
def test_titles_that_cannot_be_joined(titles, says):
    with pytest.raises(ValueError, match=says): Ratings.from_frame(ROWS, titles=titles)

def test_films_in_another_order_are_refused():
    r = Ratings.from_frame(ROWS)
    own = pd.DataFrame(dict(movieId=r.item_ids, title=['a', 'b', 'c']))
    assert mfbook.ratings.replace(r, movies=own).titles([1, 0]) == ['b', 'a']
    for wrong in (own[::-1], own[:2]):
        with pytest.raises(ValueError, match='not those of the 3 items in the order of their codes.*titles='): mfbook.ratings.replace(r, movies=wrong)

def test_titles_that_stand_twice_are_told_apart():
    movies = pd.DataFrame(dict(movieId=[4, 5, 6, 7, 8], title=['War', 'War', 'War', None, None], year=pd.array([2005, 2005, 1953, None, None], dtype='Int16')))
    ids = movies.movieId.to_numpy()
    assert titles_of(movies, ids, range(5)) == ['War (2005) [id 4]', 'War (2005) [id 5]', 'War (1953)', '(no title, id 7)', '(no title, id 8)']
    assert titles_of(movies, ids, [1]) == ['War (2005) [id 5]'] and titles_of(movies, ids, []) == []

# ---- what a warning says

def test_a_warning_uses_the_names_of_the_columns_and_speaks_of_time_only_where_there_is_one():
    f = pd.DataFrame(dict(who=['a', 'a'], book=[1, 1], stars=[1, 2], when=[5, 6]))
    names = dict(user='who', item='book', rating='stars')
    with pytest.warns(UserWarning) as caught: Ratings.from_frame(f, **names, timestamp='when')
    assert str(caught[0].message).endswith("again later. One of them: {'who': 'a', 'book': 1, 'stars': 1.0, 'when': 5}")
    with pytest.warns(UserWarning) as caught: r = Ratings.from_frame(f, **names)
    assert 'later' not in str(caught[0].message) and str(caught[0].message).endswith("of which the last counts. One of them: {'who': 'a', 'book': 1, 'stars': 1.0}")
    with pytest.warns(UserWarning, match="'book': 1"): r.encode(f, **names)
