"""Files and tables with any damage: each is read right, or refused in words that say what to do.

Never another error, never a crash, never much memory or time, and no code from a file is run. With MFBOOK_FULL=1 there are
over ten thousand of them instead of hundreds: `make fuzz`. A failure names the number of its input, which is always the same.
"""
import ast, faulthandler, io, json, os, pickle, random, re, struct, sys, time, warnings
from csv import reader
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from conftest import FULL
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from test_faults import identical, run_fit, same, small
from test_movielens import LAYOUTS, write

from mfbook import runs
from mfbook.model import MatrixFactorization
from mfbook.movielens import load_ratings
from mfbook.ratings import Ratings, as_frame
from mfbook.runs import fit_biases

root = Path(__file__).resolve().parent.parent

def inputs(few, many):
    "The numbers of the inputs; each is the seed of its own damage."
    return range(many if FULL else few)

# ---- what an answer may be

SECONDS = 20          # no input takes longer, on a slow machine with other work
MEMORY = 2**30        # and none takes more than this beyond what is taken already

@pytest.fixture(scope='module', autouse=True)
def little_memory():
    "A process that may not take much more memory than it has. Where this can't be set, only the time counts."
    if not sys.platform.startswith('linux'):
        yield
        return
    import resource
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages*resource.getpagesize() + MEMORY, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

REFUSALS = (ValueError, FileNotFoundError, TypeError)
NOT_WORDS = (UnicodeError, json.JSONDecodeError)     # kinds of ValueError that others raise

def answer(f, *args, names=(), **kw):
    "What `f` returns, or None if it refuses with an error that holds one of `names`. Any other error is a failure."
    faulthandler.dump_traceback_later(3*SECONDS, exit=True)      # of a call that never comes back
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            result = f(*args, **kw)
    except REFUSALS as e:
        assert not isinstance(e, NOT_WORDS), repr(e)
        assert any(name in str(e) for name in names), f'it names none of {names}: {e!r}'
        assert '\n' not in str(e) and len(str(e)) < 3000, repr(e)
        result = None
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert time.perf_counter() - start < SECONDS
    return result

# ---- damage

def flip(chance, data):
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at+1:]

def cut(chance, data): return data[:chance.randrange(len(data))]

def cut_out(chance, data):
    start, end = sorted(chance.randrange(len(data)) for _ in range(2))
    return data[:start] + data[end:]

def insert(chance, data, piece=None):
    at = chance.randrange(len(data) + 1)
    return data[:at] + (piece or chance.randbytes(chance.randint(1, 9))) + data[at:]

def repeat(chance, data):
    start, end = sorted(chance.randrange(len(data)) for _ in range(2))
    return data[:end] + data[start:]

BYTES = (flip, flip, cut, cut_out, insert, repeat)

def damaged(chance, data, kinds=BYTES):
    "The data, damaged once or a few times."
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        if data: data = chance.choice(kinds)(chance, data)
    return data

# ---- rating files

PIECES = [b'1e999', b'-1', b'9'*400, b'1'*20, b'0x1F', b'nan', b'inf', b'-inf', b'"', b'""', b'\0', b'\xff', b'\xef\xbb\xbf', b'\r', b'\n',
          b'\r\n', b'\n\n', b',', b'::', b'\t', b';', b' ', b'#', b'NA', b'None', b'1,5', b'1_000', b'4.', b'.5', b'+3', b'2e0', b'\x1f',
          b'\x1a', '½'.encode(), '٣'.encode(), b'x'*100_000, b'7'*100_000, b','*10_000, b'9223372036854775808', b'2147483648', b'1.5']

def piece(chance, data): return insert(chance, data, chance.choice(PIECES))
def field(chance, data):
    "A piece in the place of a number."
    numbers = list(re.finditer(rb'[0-9.]+', data))
    if not numbers: return data
    number = chance.choice(numbers)
    return data[:number.start()] + chance.choice(PIECES) + data[number.end():]
def other_separator(chance, data): return data.replace(chance.choice((b',', b'::', b'\t', b'\n')), chance.choice((b',', b';', b'::', b':', b'\t', b' ', b'|', b'\r', b'')))
def other_code(chance, data): return data.decode('utf-8', 'replace').encode(chance.choice(('utf-16', 'utf-16-le', 'utf-16-be', 'utf-32', 'utf-7', 'utf-8-sig', 'cp037')), 'replace')

TEXT = (*BYTES, piece, piece, field, field, field, other_separator, other_code)
RATING_FILES = {'latest': 'ratings.csv', '10m': 'ratings.dat', '1m': 'ratings.dat', '100k': 'u.data'}

def rows_of(data, separator, header):
    "An independent reading of a rating file: a list of (user, item, rating, time)."
    text = data.decode('utf-8-sig').replace('\r\n', '\n').replace('\r', '\n')
    lines = [line for line in text.split('\n') if line.strip(' \t' if separator == ',' else ' ')]
    split = [[part.strip().strip('"').strip() for part in line.split(separator)] for line in lines]
    names = ['userId', 'movieId', 'rating', 'timestamp']
    if header:
        found = split.pop(0)
        split = [[dict(zip(found, parts))[name] for name in names] for parts in split]
    return [(whole(user), whole(item), float(rating), whole(time)) for user, item, rating, time in split]

def whole(text):
    "The whole number that a text stands for: 3, and 3.0 and 3e0 as well."
    try: return int(text)
    except ValueError:
        assert float(text) % 1 == 0, text
        return int(float(text))

def is_read_right(ratings, data, layout):
    "Whether `Ratings` hold what stands in the file. Of a pair that stands twice only one row is left."
    separator = {'latest': ',', '100k': '\t'}.get(layout, '::')
    rows = rows_of(data, separator, header=layout == 'latest')
    frame = ratings.to_frame()
    given = {(user, item, np.float32(rating), time) for user, item, rating, time in rows}
    loaded = set(frame.itertuples(index=False, name=None))
    pairs = {row[:2] for row in rows}
    return loaded <= given and len(frame) == len(pairs)

@pytest.mark.parametrize('layout', RATING_FILES)
def test_rating_files_of_any_bytes(tmp_path, layout, capfd):
    "Damage at its beginning may make a file look like another table. It is read as one, and said."
    contents, encoding, scale, _ = LAYOUTS[layout]
    name = RATING_FILES[layout]
    folder = write(tmp_path/'ml', contents, encoding)
    whole = (folder/name).read_bytes()
    loaded = 0
    for n in inputs(100, 2000):
        chance = random.Random(n)
        data = damaged(chance, whole, TEXT)
        (folder/name).write_bytes(data)
        ratings = answer(load_ratings, folder, cache=False, names=(f'ml/{name}', 'of the rating files'))
        guessed = 'read as load_ratings(' in capfd.readouterr().err
        if ratings is None or guessed: continue
        loaded += 1
        lowest, highest = ratings.values.min(), ratings.values.max()
        assert scale[0] <= lowest and highest <= scale[1] and min(ratings.user_ids) >= 0 and min(ratings.item_ids) >= 0, n
        assert is_read_right(ratings, data, layout), f'{n}: {data!r:.600} became {ratings.to_frame().values.tolist()!r:.600}'
    assert 0 < loaded < len(inputs(100, 2000)), 'some load and some are refused'

BOOKS = 'User-ID;ISBN;"Book;Rating";when\n' + ''.join(f'{u};"é{i}X";{1 + (u*i) % 10};{u*i}\n' for u in range(1, 6) for i in range(3, 9))
BY_NAME = dict(user='User-ID', item='ISBN', rating='Book;Rating', sep=';')

def rows_of_table(data):
    "An independent reading of such a table: a set of (user, item, rating), the ids as texts."
    try: text = data.decode('utf-8-sig')
    except UnicodeDecodeError: text = data.decode('latin-1')
    header, *rows = [row for row in reader(io.StringIO(text.replace('\r\n', '\n').replace('\r', '\n'), newline=''), delimiter=';') if row]
    at = [header.index(BY_NAME[role]) for role in ('user', 'item', 'rating')]
    return {tuple(row[n] for n in at) for row in rows if ''.join(row).strip() and len(row) > max(at)}

def same_row(ours, theirs):
    "Whether a loaded rating is that of a row of texts."
    ids = all(str(raw) == text or isinstance(raw, int) and raw == whole(text) for raw, text in zip(ours[:2], theirs[:2]))
    return ids and np.float32(theirs[2]) == np.float32(ours[2])

@pytest.mark.parametrize('encoding', ['utf-8', 'latin-1'])
def test_tables_in_files_of_any_bytes(tmp_path, encoding):
    "Of each, the ratings are some row's; and no guess ends in another error."
    path = tmp_path/'ml'/'books.csv'
    path.parent.mkdir()
    loaded = 0
    for n in inputs(80, 1500):
        chance = random.Random(n)
        data = damaged(chance, BOOKS.encode(encoding), TEXT)
        path.write_bytes(data)
        answer(load_ratings, path, cache=False, names=('ml/books.csv',))
        ratings = answer(load_ratings, path, cache=False, names=('ml/books.csv',), **BY_NAME)
        if ratings is None: continue
        loaded += 1
        given = rows_of_table(data)
        for row in ratings.to_frame()[['userId', 'movieId', 'rating']].itertuples(index=False, name=None):
            assert any(same_row(row, theirs) for theirs in given), f'{n}: {row} is not in {data!r:.600}'
    assert 0 < loaded < len(inputs(80, 1500))

SMALL_FILES = [('latest', 'movies.csv'), ('latest', 'links.csv'), ('latest', 'tags.csv'), ('10m', 'movies.dat'), ('100k', 'u.item')]

@pytest.mark.parametrize('layout, name', SMALL_FILES)
def test_files_beside_the_ratings_of_any_bytes(tmp_path, layout, name):
    contents, encoding, _, rows = LAYOUTS[layout]
    folder = write(tmp_path/'ml', contents, encoding)
    whole_file = (folder/name).read_bytes()
    expected = load_ratings(folder, cache=False)
    for n in inputs(20, 400):
        chance = random.Random(n)
        (folder/name).write_bytes(damaged(chance, whole_file, TEXT))
        ratings = answer(load_ratings, folder, cache=False, names=(f'ml/{name}',))
        if ratings is None: continue
        assert identical(ratings, expected), f'{n}: the ratings are what they were'
        assert ratings.movies is None or len(ratings.titles(range(ratings.n_items))) == ratings.n_items

# What was found once, each with what it must say.
FOUND = {
    'a quotation mark within a name': (b'userId,mov"ieId,rating,timestamp\n1,31,2.5,1260759144\n', "no column 'movieId'"),
    'two quotation marks within a name': (b'userId,movieId,rating,timesta""mp\n1,31,2.5,1260759144\n', "no column 'timestamp'"),
    'a column twice': (b'userId,movieId,rating,timestamp,rating\n1,31,2.5,1260759144,4.5\n', "2 columns 'rating'"),
    'a long name': (b'userId' + b'7'*100_000 + b',movieId,rating,timestamp\n', 'line 1: no separator makes three columns'),
    'many names': (b'userId,movieId,' + b','*900 + b'rating\n', "no column 'timestamp' among"),
    'a million fields': (b'userId,movieId,rating,timestamp\n1,' + b','*10**6 + b'31,2.5,1260759144\n', 'line 2: more than 1,000 fields'),
    'a long word': (b'userId,movieId,rating,timestamp\n1,31,2.5,' + b'x'*100_000 + b'\n', "line 2, column 'timestamp': .* is not a number"),
    'a long number': (b'userId,movieId,rating,timestamp\n1,31,2.5,' + b'7'*300 + b'\n', "line 2, column 'timestamp': .* is outside"),
    'a time in 285 million years': (b'userId,movieId,rating,timestamp\n1,31,2.5,9223372036854775807\n', 'is outside'),
    'the same, with an exponent': (b'userId,movieId,rating,timestamp\n1,31,2.5,1260759172e09\n', 'is outside'),
}

@pytest.mark.parametrize('what', FOUND)
def test_rating_files_that_once_went_wrong(tmp_path, what):
    data, says = FOUND[what]
    folder = write(tmp_path/'ml', {'ratings.csv': data})
    with pytest.raises(ValueError, match=f'^ml/ratings.csv, .*{says}') as refusal: load_ratings(folder, cache=False)
    assert len(str(refusal.value)) < 1000

def test_a_film_with_an_endless_number(tmp_path):
    folder = write(tmp_path/'ml', LAYOUTS['latest'][0] | {'movies.csv': 'movieId,title,genres\n' + '7'*400 + ',Heat,Drama\n'})
    with pytest.raises(ValueError, match="^ml/movies.csv, line 2, column 'movieId': 7.* is "): load_ratings(folder, cache=False)

# ---- frames

SENTINEL = object()
IDS = [1, 2, 2**31, 2**62, 2**63, 2**64, -1, -2**63, 0, 1.0, 1.5, 1e300, -0.0, float('nan'), float('inf'), None, pd.NA, pd.NaT, True, np.True_, 'a', '', ' ',
       '1', 'ä', '\ud800', '\0', 'x'*10_000, b'a', b'\xff', (1, 2), [1], {'a': 1}, {1}, SENTINEL, 1j, np.int8(3), np.uint64(2**63), np.float16(2.),
       np.datetime64('2020-01-01'), pd.Timestamp(0), pd.Timedelta(1), pd.Interval(0, 1), Decimal('1.5'), Decimal('NaN'), Fraction(1, 3), date(2020, 1, 1),
       UUID(int=7), range(3), np.array([1, 2]), torch.tensor(3), torch.ones(2), lambda: 1, int, ...]
DTYPES = [None, object, 'int8', 'uint64', 'float16', 'float64', 'complex128', 'bool', 'str', 'string', 'category', 'datetime64[ns]', 'datetime64[s]', 'Int64',
          'Float64', 'boolean', 'bytes', 'S3', 'U3', 'timedelta64[ns]', 'int64[pyarrow]', 'string[pyarrow]', 'period[D]', 'Sparse[float]']
RATINGS = [1, 2.5, 5, 0, -1, 1e38, 1e39, 1e308, 1e-320, float('nan'), float('inf'), '3', '3.5', 'three', '', None, True, *IDS[10:20], *IDS[-20:]]
PLAIN = {'userId': [1, 2, 'a', 'b', 3, 'ä'], 'movieId': [10, 20, 'x', 'y', 30], 'rating': [1, 2.5, 3, 4., 5], 'timestamp': [0, 5, 10**9]}
ODD = {'userId': IDS, 'movieId': IDS, 'rating': RATINGS, 'timestamp': [*IDS, *RATINGS]}

def odd_column(chance, name, n):
    "Numbers or strings, and perhaps something odd among them or another type."
    plain = PLAIN[name]
    kind = type(chance.choice(plain))
    column = [chance.choice([value for value in plain if isinstance(value, kind)]) for _ in range(n)]
    if chance.random() < .15:
        for _ in range(chance.randint(1, 2)): column[chance.randrange(n)] = chance.choice(ODD[name])
    if chance.random() < .05: column = [chance.choice(ODD[name])]*n
    series = pd.Series(column, dtype=object)
    if chance.random() < .2:
        try: series = series.astype(chance.choice(DTYPES)) if chance.random() < .8 else pd.Series(column)
        except Exception: pass                   # pandas refuses: the column stays as it is
    return series

def odd_table(chance):
    "A table of ratings of one of many kinds."
    n = chance.choice((1, 2, 3, 5))
    columns = {name: odd_column(chance, name, n) for name in PLAIN}
    if chance.random() < .1: del columns[chance.choice(list(columns))]
    kind = chance.randrange(8)
    if kind == 0: return {name: list(column) for name, column in columns.items()}
    if kind == 1: return list(zip(*columns.values()))
    if kind == 2: return [dict(zip(columns, row)) for row in zip(*columns.values())]
    frame = pd.DataFrame(columns)
    if kind == 3: frame.index = [chance.choice([0, 'a', 1.5]) for _ in range(n)]
    if kind == 4: return chance.choice(IDS)
    return frame

def plain_id(raw): return raw if isinstance(raw, str) else int(raw)

NOT_A_NUMBER = [torch.tensor(3), torch.ones(2), np.array([1, 2]), [1], 1j, {1}]
FOUND_IN_TABLES = {
    'a tuple of an array': ([(1, 2, 3., np.array([1, 2]))], "row 0 .*'timestamp'.* is not a number"),
    **{f'a rating that is {value!r}': ({'userId': [1, 1], 'movieId': [1, 2], 'rating': ['3', value]}, "row 1 .*'rating': .* is not a number") for value in NOT_A_NUMBER},
    'a long rating': ({'userId': [1], 'movieId': [1], 'rating': ['x'*100_000]}, "row 0 .*'rating': .* is not a number"),
    'rows, one of them no dict': ([{'userId': 1, 'movieId': 1, 'rating': 1}, 3], 'a list of rows'),
}

@pytest.mark.parametrize('what', FOUND_IN_TABLES)
def test_tables_that_once_went_wrong(what):
    table, says = FOUND_IN_TABLES[what]
    with pytest.raises(ValueError, match=says) as refusal: Ratings.from_frame(table)
    assert len(str(refusal.value)) < 500

HALF = {'userId': ['a\ud800', 'a\ud800', 'a\ud800'], 'movieId': ['x\udc00', 'y', 'y'], 'rating': [1., 2., 3.]}

@pytest.mark.parametrize('table', [HALF, list(zip(*HALF.values())), [dict(zip(HALF, row)) for row in zip(*HALF.values())]], ids=['a dict', 'rows', 'dicts'])
def test_half_letters_go_all_the_way(tmp_path, table):
    "An id may be any string; a title gets a question mark."
    with pytest.warns(UserWarning, match='left out 1 of 3'): ratings = Ratings.from_frame(table, titles={'x\udc00': 'A\ud800 (1999)', 'y': 'B'})
    model = MatrixFactorization(ratings, k=1)
    model.save(tmp_path/'m')
    for it in (ratings, MatrixFactorization.load(tmp_path/'m')):
        assert it.user_ids.tolist() == ['a\ud800'] and it.item_ids.tolist() == ['x\udc00', 'y'] and it.titles([0, 1]) == ['A? (1999)', 'B']
        assert it.movies.movieId.tolist() == ['x\udc00', 'y']

def test_tables_of_anything(tmp_path):
    loaded = []
    names = ("userId", "movieId", "rating", "timestamp", "frame", "row", "dict", "a list of", "ids", "scale", "number")
    for n in inputs(300, 5000):
        chance = random.Random(n)
        table = odd_table(chance)
        scale = chance.choice((None, None, None, None, None, None, (1, 5), (1, 5), (5, 1), (1,), 'ab', (None, 3), (float('nan'), 5), 3))
        ratings = answer(Ratings.from_frame, table, rating_range=scale, names=names)
        if ratings is None: continue
        loaded.append(ratings)
        assert ratings.values.isfinite().all() and len(ratings) == len(ratings.users) == len(ratings.items), n
        assert len(set(ratings.user_ids.tolist())) == ratings.n_users and {type(raw) for raw in ratings.user_ids.tolist()} in ({int}, {str}), n
        if not isinstance(table, pd.DataFrame): table = as_frame(table, tuple(PLAIN))
        if len(ratings) == len(table) and 'userId' in table:
            given = [plain_id(raw) for raw in table['userId'].tolist()]
            assert ratings.user_ids[ratings.users.numpy()].tolist() == given, n
            assert np.allclose(ratings.values, [np.float32(value) for value in table['rating'].tolist()]), n
    assert len(inputs(300, 5000))/10 < len(loaded) < len(inputs(300, 5000))
    for n, ratings in enumerate(loaded[::10]):                # what is loaded can be learned from, saved and loaded
        model = MatrixFactorization(ratings, k=1, seed=n)
        model.save(tmp_path/'m')
        again = MatrixFactorization.load(tmp_path/'m')
        assert same(model, again) and again.user_ids.tolist() == model.user_ids.tolist()
        assert again.item_ids.tolist() == model.item_ids.tolist() and again.rating_range == model.rating_range

# ---- saved models and checkpoints

def written_again(path, tensors, meta, checksum):
    "A file of these parts: with a right checksum, or with the one it had."
    if checksum: meta = meta | {'sha256': runs._checksum(tensors, {name: text for name, text in meta.items() if name != 'sha256'})}
    save_file(tensors, path, metadata=meta)

def parts_of(path):
    with safe_open(path, 'pt') as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata())

def other_tensor(chance, tensor):
    "A tensor of another type or shape."
    dtypes = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.int32, torch.float32, torch.complex64)
    shapes = ((), (0,), (1,), (3,), (2, 2), (1, 0), (5, 1, 2), tuple(tensor.shape) + (1,), tuple(tensor.shape)[:-1], tuple(tensor.shape)[::-1])
    return torch.zeros(chance.choice((tuple(tensor.shape), *shapes)), dtype=chance.choice((tensor.dtype, *dtypes)))

TEXTS = ['', '{}', '[]', 'null', '1', '"a"', 'NaN', '1e999', '['*100_000, '{"a":'*100_000, '[' * 500 + ']' * 500, '[1, 2', '\x00', 'ä', '²', '9'*5000, '-1', '[1, 5]',
         '[5, 1]', '[null, 5]', '[1, 5, 5]', '{"dict": [["settings", {"dict": []}]]}', '{"tensor": "tensor 0"}', '{"tensor": "x"}', '{"dict": 3}', '{"dict": [[[], 1]]}']

def other_parts(chance, tensors, meta):
    "The parts of a file, one of them another, missing or too many."
    tensors, meta = dict(tensors), dict(meta)
    kind = chance.randrange(5)
    if kind < 2 and tensors:
        name = chance.choice(sorted(tensors))
        tensors[name] = other_tensor(chance, tensors[name])
    elif kind == 2 and tensors:
        name = chance.choice(sorted(tensors))
        tensors[name + chance.choice(('', 'x'))] = tensors.pop(name)
        if chance.random() < .5: tensors.pop(chance.choice(sorted(tensors)))
    elif kind == 3:
        meta[chance.choice(sorted(meta))] = chance.choice(TEXTS)
    else:
        meta.pop(chance.choice(sorted(meta)))
    return tensors, meta

def header(size, text=b'{}', rest=b''): return struct.pack('<Q', size) + text + rest

HEADERS = [header(2**31), header(2**63), header(2**64 - 1), header(10**8, b'{}'), header(2), header(0), b'', b'\0'*7, header(100_000, b'['*100_000), header(600_000, b'{"a":'*120_000),
           header(80, b'{"a":{"dtype":"F32","shape":[%d,%d],"data_offsets":[0,4]}}'.ljust(80) % (2**31, 2**31), b'\0'*4)[:92],
           header(80, b'{"a":{"dtype":"F32","shape":[500000000],"data_offsets":[0,2000000000]}}'.ljust(80), b'\0'*4),
           header(80, b'{"a":{"dtype":"F8_E8M0","shape":[4],"data_offsets":[0,4]}}'.ljust(80), b'\0'*4), header(80, b'{"a":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}}'.ljust(80), b'\0'*4),
           header(80, b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'.ljust(80), b'\0'*4), header(80, b'{"a":{"dtype":"C64","shape":[],"data_offsets":[0,8]}}'.ljust(80), b'\0'*8)]

def whole_model(ids='numbers'):
    ratings = small(n_users=5, n_items=4, n=12)
    raw = {'numbers': lambda code: code*7, 'letters': lambda code: f'ä{code}\ud800', 'empty': lambda code: ' '*code}[ids]
    frame = ratings.to_frame()
    table = {name: [raw(code) for code in frame[name]] for name in ('userId', 'movieId')} | {'rating': frame['rating'].tolist()}
    titles = {raw(code): f'Film {code} (199{code})' for code in range(4)}
    return MatrixFactorization(Ratings.from_frame(table, rating_range=(1, 5), titles=titles), k=2)

def usable(model):
    "A model that came through can be used."
    model.scores(0)
    model.titles(range(model.n_items))
    assert model.user_code(model.user_ids.tolist()[0]) == 0
    model.predict({'userId': model.user_ids[:1], 'movieId': model.item_ids[:1]})
    repr(model)

@pytest.mark.parametrize('ids', ['numbers', 'letters', 'empty'])
def test_model_files_of_any_bytes(tmp_path, ids):
    "The checksum finds each change, so that what is loaded is the model itself."
    path = tmp_path/'m.safetensors'
    model = whole_model(ids)
    model.save(path)
    whole_file = path.read_bytes()
    for n in inputs(60, 700):
        chance = random.Random(n)
        path.write_bytes(damaged(chance, whole_file))
        loaded = answer(MatrixFactorization.load, path, names=('m.safetensors',))
        assert loaded is None or path.read_bytes() == whole_file and same(loaded, model), n

@pytest.mark.parametrize('checksum', [False, True])
def test_model_files_of_other_parts(tmp_path, checksum):
    path = tmp_path/'m.safetensors'
    for n in inputs(60, 700):
        chance = random.Random(n)
        whole_model(chance.choice(('numbers', 'letters'))).save(path)
        written_again(path, *other_parts(chance, *parts_of(path)), checksum)
        loaded = answer(MatrixFactorization.load, path, names=('m.safetensors',))
        if loaded is not None: usable(loaded)

def load_as_model(path): return MatrixFactorization.load(path)

def load_as_checkpoint(path):
    train = small(n_users=5, n_items=4, n=12)
    return fit_biases(MatrixFactorization(train, k=0), train, sweeps=2, checkpoint=path, progress=False)

@pytest.mark.parametrize('load', [load_as_model, load_as_checkpoint])
@pytest.mark.parametrize('n', range(len(HEADERS)))
def test_files_whose_header_lies(tmp_path, load, n):
    (tmp_path/'m.safetensors').write_bytes(HEADERS[n])
    assert answer(load, tmp_path/'m.safetensors', names=('m.safetensors',)) is None

@pytest.mark.parametrize('name', ['biases', 'SGD', 'Gibbs', 'variational'])
def test_checkpoints_of_any_bytes(tmp_path, name):
    "A run goes on from the checkpoint itself, or not at all."
    path = tmp_path/'run'
    model, _ = run_fit(name, path)
    whole_file = path.read_bytes()
    for n in inputs(30, 400):
        chance = random.Random(n)
        path.write_bytes(damaged(chance, whole_file))
        changed = path.read_bytes() != whole_file
        resumed = answer(run_fit, name, path, names=('/run',))
        assert resumed is None if changed else same(resumed[0], model), n

def other_state(chance, state):
    "A state, one part of which is another, of another kind or missing."
    place = state
    while True:
        name = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
        if not isinstance(place[name], (dict, list)) or not place[name] or chance.random() < .2: break
        place = place[name]
    if torch.is_tensor(place[name]) and chance.random() < .6: place[name] = other_tensor(chance, place[name])
    elif chance.random() < .3: del place[name]
    else: place[name] = chance.choice((None, 0, -1, 10**30, 1.5, float('nan'), '', 'a', [], {}, [1], {'a': 1}, True, torch.zeros(2)))
    return state

@pytest.mark.parametrize('name', ['biases', 'ALS'])
def test_checkpoints_of_other_parts(tmp_path, name):
    "With a right checksum."
    path = tmp_path/'run'
    run_fit(name, path)
    whole_file = path.read_bytes()
    for n in inputs(40, 500):
        chance = random.Random(n)
        path.write_bytes(whole_file)
        if chance.random() < .5: written_again(path, *other_parts(chance, *parts_of(path)), checksum=True)
        else: runs.write_checkpoint(path, other_state(chance, runs.read_checkpoint(path)))
        answer(run_fit, name, path, names=('/run',))

def test_copies_of_any_bytes(tmp_path, monkeypatch):
    "A copy is taken, or made anew from the ratings."
    monkeypatch.setenv('MFBOOK_CACHE', str(tmp_path/'cache'))
    folder = write(tmp_path/'ml', LAYOUTS['latest'][0])
    ratings = load_ratings(folder)
    copy, = (tmp_path/'cache').iterdir()
    whole_file = copy.read_bytes()
    for n in inputs(50, 500):
        chance = random.Random(n)
        copy.write_bytes(damaged(chance, whole_file) if chance.random() < .7 else chance.choice(HEADERS))
        assert identical(answer(load_ratings, folder), ratings), n

# ---- no code from a file

class Bomb:
    "A pickle of it makes a folder when it is opened."
    def __init__(self, folder): self.folder = folder
    def __reduce__(self): return os.mkdir, (str(self.folder),)

@pytest.mark.parametrize('write_bomb', [lambda bomb, path: path.write_bytes(pickle.dumps(bomb)), torch.save,
                                        lambda bomb, path: torch.save({'settings': {}, 'model': bomb}, path),
                                        lambda bomb, path: np.save(path.open('wb'), np.array([bomb], dtype=object), allow_pickle=True)],
                         ids=['a pickle', 'of torch', 'a checkpoint of torch', 'of NumPy'])
@pytest.mark.parametrize('load', [load_as_model, load_as_checkpoint, load_ratings])
def test_a_pickle_is_never_opened(tmp_path, load, write_bomb):
    path = tmp_path/'file.csv'
    write_bomb(Bomb(tmp_path/'boom'), path)
    assert answer(load, path, names=('file.csv',)) is None
    assert not (tmp_path/'boom').exists()

def test_a_bomb_is_one(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path/'boom')))
    assert (tmp_path/'boom').exists()

RUNS_CODE = {'eval', 'exec', 'compile', '__import__'}          # of Python itself
OPENS_PICKLES = {'pickle', 'cPickle', 'dill', 'joblib', 'shelve', 'marshal', 'cloudpickle'}

def dangers(tree):
    "Where a tree runs code that it is given, or opens pickles."
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in RUNS_CODE or name in ('torch.load', 'pd.read_pickle', 'pandas.read_pickle', 'os.system'): yield name
            for keyword in node.keywords:
                if keyword.arg == 'allow_pickle' and getattr(keyword.value, 'value', True): yield 'allow_pickle'
                if keyword.arg == 'shell': yield 'shell'
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        if isinstance(node, ast.ImportFrom): names.append(node.module or '')
        yield from (name for name in names if name.split('.')[0] in OPENS_PICKLES)

@pytest.mark.parametrize('path', sorted((root/'mfbook').glob('*.py')), ids=lambda path: path.stem)
def test_the_package_runs_no_code_from_files(path):
    assert list(dangers(ast.parse(path.read_text(encoding='utf-8')))) == []

@pytest.mark.parametrize('code, found', [('torch.load(p)', 1), ('torch.load(p, weights_only=True)', 1), ('import pickle', 1), ('from pickle import loads', 1), ('import numpy, dill as d', 1),
    ('np.load(p, allow_pickle=True)', 1), ('np.load(p, allow_pickle=x)', 1), ('np.load(p, allow_pickle=False)', 0), ('eval("1")', 1), ('exec(x)', 1), ('model.eval()', 0),
    ('re.compile(x)', 0), ('torch.compile(f)', 0), ('pd.read_pickle(p)', 1), ('subprocess.run(x, shell=True)', 1), ('json.load(f)', 0)])
def test_a_danger_is_found(code, found):
    assert len(list(dangers(ast.parse(code)))) == found
