"""The results ledger: `benchmarks/results.jsonl`, one line a run, and never a number typed by hand.

    from ledger import record, read
    record(data='ml-sample', data_sha256=..., split='random 80/10/10', split_hash=..., seed=0,
           method='SGD', k=32, ...)
    read(method='SGD', data='ml-sample')          # a pandas frame, one row a run
"""
import hashlib, json, os, platform, resource, sys
from importlib.metadata import version
from pathlib import Path
import numpy as np
import pandas as pd
import torch

PATH = Path(__file__).resolve().parent/'results.jsonl'
FIELDS = ['data', 'data_sha256', 'split', 'split_hash', 'seed', 'method', 'k', 'settings',
          'rmse', 'mae', 'seconds', 'peak_mb', 'threads', 'processor', 'versions']
OPTIONAL = ['fit_seconds']                                    # a row may have these
RUN = ['data', 'data_sha256', 'split', 'split_hash', 'seed', 'method', 'k']


# What is measured on

def sha256(*arrays):
    "The SHA-256 of the bytes of `arrays` one after another: tensors, numpy arrays or paths."
    digest = hashlib.sha256()
    for array in arrays:
        if isinstance(array, (str, Path)):
            digest.update(Path(array).read_bytes())
        else:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

def raw_ids(ids, codes):
    "The raw id of each rating, in a type that does not depend on how the ids were read."
    raw = ids[codes.numpy()]
    return raw.astype(np.int64 if raw.dtype.kind in 'iu' else str)

def ratings_sha256(ratings):
    "The SHA-256 of raw ids and values in their order, so that it does not depend on the codes."
    users = raw_ids(ratings.user_ids, ratings.users)
    items = raw_ids(ratings.item_ids, ratings.items)
    return sha256(users, items, ratings.values)

def split_hash(*parts):
    "Twelve hex digits that name a split: the same parts in the same order give the same name."
    digests = ''.join(ratings_sha256(part) for part in parts)
    return hashlib.sha256(digests.encode()).hexdigest()[:12]

# The machine

def processor():
    "The processor's name, as the system gives it."
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        return next(line.split(':')[1].strip() for line in lines if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

def peak_mb():
    "The most memory this process has held, since it began or since `forget_peak`, in MB."
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))/1024
    except (OSError, StopIteration):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most/(1024**2 if sys.platform == 'darwin' else 1024)

def forget_peak():
    "Let `peak_mb` begin again from what the process holds now. On Linux only."
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        pass

def machine():
    "What the run ran on: threads, processor, versions, and this process's peak memory in MB."
    versions = {package: version(package) for package in ('mfbook', 'torch', 'pandas', 'numpy')}
    return dict(peak_mb=round(peak_mb()), threads=torch.get_num_threads(), processor=processor(),
                versions={'python': platform.python_version(), **versions})

# The file

def read_rows(path):
    "The file's rows, as dicts; none if there is no file. ValueError names a line that is damaged."
    if not Path(path).exists(): return []
    rows = []
    for n, line in enumerate(Path(path).read_text(encoding='utf-8').splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f'{path}, line {n}: not JSON ({error}). '
                             'Remove the line and run its benchmark again.') from None
    return rows

def write_rows(path, rows):
    "Write the file, whole or not at all."
    temporary = Path(path).with_suffix('.tmp')
    temporary.write_text(''.join(json.dumps(row) + '\n' for row in rows), encoding='utf-8')
    os.replace(temporary, path)

def fits(row, where):
    "Whether the fields of `row` equal those of the dict `where`."
    return all(row[field] == value for field, value in where.items())

def same_run(row, other): return all(row[field] == other[field] for field in RUN)

def record(path=PATH, **row):
    "Add one run to the ledger, in place of an older row of the same run."
    row = {**machine(), **row}
    known = FIELDS + OPTIONAL
    if missing := [field for field in FIELDS if field not in row]:
        raise ValueError(f'A ledger row needs {missing}; {FIELDS} are its fields')
    if unknown := [field for field in row if field not in known]:
        raise ValueError(f'A ledger row has no field {unknown}; {known} are its fields')

    row = {field: row[field] for field in known if field in row}
    others = [old for old in read_rows(path) if not same_run(old, row)]
    write_rows(path, [*others, row])

def forget(path=PATH, **where):
    "Take the rows whose fields equal `where` out of the ledger."
    write_rows(path, [row for row in read_rows(path) if not fits(row, where)])

def read(path=PATH, **where):
    "The ledger as a frame, only the rows whose fields equal `where`."
    rows = [row for row in read_rows(path) if fits(row, where)]
    if not rows:
        raise ValueError(f'No run with {where} stands in {path}. '
                         'benchmarks/README.md says which script makes it.')
    optional = [field for field in OPTIONAL if any(field in row for row in rows)]
    return pd.DataFrame(rows, columns=FIELDS + optional)
