"""Files and tables with any damage: each is read right, or refused in words that say what to do.

Never another error, never a crash, never much memory or time, and no code from a file is run. With MFBOOK_FULL=1 there are
over ten thousand of them instead of hundreds: `make fuzz`. A failure names the number of its input, which is always the same.
"""
import ast, faulthandler, json, os, random, re, struct, sys, time, warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from test_faults import identical, run_fit, same, small
from test_movielens import LAYOUTS, write

from mfbook import runs
from mfbook.model import MatrixFactorization
from mfbook.movielens import load_ratings
from mfbook.ratings import Ratings

FULL = bool(os.environ.get('MFBOOK_FULL'))
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
def test_rating_files_of_any_bytes(tmp_path, layout):
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
        if ratings is None: continue
        loaded += 1
        lowest, highest = ratings.values.min(), ratings.values.max()
        assert scale[0] <= lowest and highest <= scale[1] and min(ratings.user_ids) >= 0 and min(ratings.item_ids) >= 0, n
        assert is_read_right(ratings, data, layout), f'{n}: {data!r:.600} became {ratings.to_frame().values.tolist()!r:.600}'
    assert 0 < loaded < len(inputs(100, 2000)), 'some load and some are refused'
