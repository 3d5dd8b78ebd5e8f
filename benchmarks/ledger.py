"""The results ledger: `benchmarks/results.jsonl`, one line a run, and never a number typed by hand.

    from ledger import record, read
    record(data='ml-sample', data_sha256=..., split='random 80/10/10', split_hash=..., seed=0, method='SGD', k=32, ...)
    read(method='SGD', data='ml-sample')          # a pandas frame, one row a run
"""
import hashlib, json, os, platform, resource, sys
from importlib.metadata import version
from pathlib import Path
import numpy as np
import pandas as pd
import torch

PATH = Path(__file__).resolve().parent/'results.jsonl'
FIELDS = ['data', 'data_sha256', 'split', 'split_hash', 'seed', 'method', 'k', 'settings', 'rmse', 'mae', 'seconds',
          'peak_mb', 'threads', 'processor', 'versions']
OPTIONAL = ['fit_seconds']                                                      # a row may have them
RUN = ['data', 'data_sha256', 'split', 'split_hash', 'seed', 'method', 'k']     # what makes two rows the same run

def sha256(*arrays):
    "The SHA-256 of the bytes of `arrays` (tensors, numpy arrays or files' paths), one after the other."
    h = hashlib.sha256()
    for a in arrays: h.update(Path(a).read_bytes() if isinstance(a, (str, Path)) else np.ascontiguousarray(a).tobytes())
    return h.hexdigest()

def ratings_sha256(r):
    "The SHA-256 of the ratings `r` in their order: raw ids and values, so that it does not depend on the codes."
    raw = [ids[codes.numpy()] for ids, codes in ((r.user_ids, r.users), (r.item_ids, r.items))]
    return sha256(*(x.astype(np.int64 if x.dtype.kind in 'iu' else str) for x in raw), r.values)

def split_hash(*parts):
    "Twelve hex digits that name a split: the same parts in the same order give the same name."
    return hashlib.sha256(''.join(ratings_sha256(p) for p in parts).encode()).hexdigest()[:12]

def processor():
    "The processor's name, as the system gives it."
    try: return next(l.split(':')[1].strip() for l in open('/proc/cpuinfo') if l.startswith('model name'))
    except (OSError, StopIteration): return platform.processor() or platform.machine()

def peak_mb():
    "The most memory this process has held, since it began or since `forget_peak`, in MB."
    try: return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM')) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != 'darwin' else 1024**2)

def forget_peak():
    "Let `peak_mb` begin again from what the process holds now. Only Linux can; elsewhere nothing happens."
    try: Path('/proc/self/clear_refs').write_text('5')
    except OSError: pass

def machine():
    "What the run ran on: threads, processor, versions, and this process's peak memory in MB."
    return dict(peak_mb=round(peak_mb()), threads=torch.get_num_threads(), processor=processor(),
                versions={'python': platform.python_version(), **{p: version(p) for p in ('mfbook', 'torch', 'pandas', 'numpy')}})

def record(path=PATH, **row):
    "Add one run to the ledger, in place of an older row of the same run; the file is written whole or not at all."
    row = {**machine(), **row}
    if missing := [f for f in FIELDS if f not in row]: raise ValueError(f'A ledger row needs {missing}; {FIELDS} are its fields')
    if unknown := [f for f in row if f not in FIELDS + OPTIONAL]:
        raise ValueError(f'A ledger row has no field {unknown}; {FIELDS + OPTIONAL} are its fields')
    key = lambda r: json.dumps([r[f] for f in RUN])
    _write(path, [r for r in _rows(path) if key(r) != key(row)] + [{f: row[f] for f in FIELDS + OPTIONAL if f in row}])

def forget(path=PATH, **where):
    "Take the rows whose fields equal `where` out of the ledger."
    _write(path, [r for r in _rows(path) if not all(r[k] == v for k, v in where.items())])

def _write(path, rows):
    tmp = Path(path).with_suffix('.tmp')
    tmp.write_text(''.join(json.dumps(r) + '\n' for r in rows), encoding='utf-8')
    os.replace(tmp, path)

def _rows(path):
    rows = []
    for n, line in enumerate(Path(path).read_text(encoding='utf-8').splitlines() if Path(path).exists() else [], 1):
        try: rows.append(json.loads(line))
        except json.JSONDecodeError as e: raise ValueError(f'{path}, line {n}: not JSON ({e}). Remove the line and run its benchmark again.') from None
    return rows

def read(path=PATH, **where):
    "The ledger as a frame, only the rows whose fields equal `where`."
    rows = [r for r in _rows(path) if all(r[k] == v for k, v in where.items())]
    if not rows: raise ValueError(f'No run with {where} stands in {path}. benchmarks/README.md says which script makes it.')
    return pd.DataFrame(rows, columns=FIELDS + [f for f in OPTIONAL if any(f in r for r in rows)])
