"""32 million ratings: the book's solvers beside Cornac, cmfrec and implicit; writes `scale.jsonl`.

    make scale                                           # an environment of its own, then the whole run
    python benchmarks/scale.py                           # what is not in scale.jsonl yet
    python benchmarks/scale.py --only sweep rates        # these parts alone
    python benchmarks/scale.py --again --only reading    # forget what is there of a part, and run it anew
    python benchmarks/scale.py --shape 1M                # a smaller shape
    python benchmarks/scale.py --table                   # what scale.jsonl says

The ratings are `synthetic_ratings`, cut once into train, 2% for validation and 2% for test. The parts are:

- sweep: seconds to prepare, and of each of the first sweeps or epochs, of every method
- growth: the same of ALS and Gibbs at a small shape, for the seconds a rating
- tune: each setting of a method's grid on a tenth of the ratings, validation RMSE after every sweep
- fit: the best settings at the full size, up to three that were within 0.25% of the best, validation RMSE against
  seconds; Gibbs, which has nothing to choose, with many sweeps, for the best RMSE that is known; of the book's SGD
  the compiled one alone, because the other does the same and takes longer
- profile: where the time of a sweep goes, on one thread
- rates: steps of SGD, by hand and compiled, beside a DataLoader loop, on one thread
- reading: a ratings.csv, first and second load

Each row is measured in a process of its own, so that its peak of memory is its own. Seconds are those of preparation
and sweeps; the seconds of validation are not among them, for anybody. The book's SGD shuffles before every epoch, and
that counts. Cornac takes the ratings in the order of the file, user after user: it learns as well from them as in
random order, which is in its grid, and each user's row is at hand for all his ratings. A compiled step is compiled anew
in each process, which is preparation too. cmfrec cannot go on from where it stopped, so each point of its line is a fit
of its own, with 1, 2, 3, ... sweeps. implicit is for clicks, not for stars: its sweeps are timed, and its error means
nothing here. Cornac with more than one thread is not the same twice.

The clock of a shared machine is not steady. Cornac's rows in scale.jsonl (its epoch, and its fit with reg 0.02) are the
quickest of several runs, those of the book's methods are of one run each: where chance is left, it favours the peer.
"""
import argparse, datetime, json, os, subprocess, sys, tempfile, time
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median
import pandas as pd
import torch
from ledger import _rows, _write, forget_peak, machine, peak_mb
from mfbook.holdout import rmse, split_random, union
from mfbook.ratings import Ratings
from scale_methods import METHODS
from scale_parts import profile, rates, reading, timed

PATH = Path(__file__).resolve().parent/'scale.jsonl'
PARTS = ['sweep', 'growth', 'profile', 'tune', 'fit', 'rates', 'reading']
KEY = ['shape', 'what', 'method', 'settings']                    # what makes two rows the same
FULL = 32_000_204                                                # MovieLens 32M

def shape(text):
    "The number of ratings in a text like 320k or 1M; 32M is as many as MovieLens 32M has."
    if text == '32M': return FULL
    n = round(float(text[:-1])*dict(k=1e3, M=1e6)[text[-1]]) if text[-1:] in ('k', 'M') else int(text)
    if n < 500_000: raise ValueError(f'{text}: 500k or more, so that a tenth can be tuned on')
    return n

def smaller(n):
    "The shapes to tune on, and to see growth from."
    return max(n//10, min(n//2, 320_000)), max(n//32, 50_000)

# The stored rows

def rows(path=PATH, **where): return [r for r in _rows(path) if all(r[f] == v for f, v in where.items())]
def name(row): return json.dumps([row[f] for f in KEY], sort_keys=True)
def record(row, path=PATH):
    "Add a row, in place of an older one of the same measurement; the file is written whole or not at all."
    _write(path, [r for r in _rows(path) if name(r) != name(row)] + [row])

def here(package='mfbook'):
    "When and on what a row is measured."
    about = machine()
    return dict(date=datetime.date.today().isoformat(), threads=about['threads'], processor=about['processor'],
                versions={**about['versions'], package: version(package)})

def chosen(method, n, path=PATH):
    "The settings of `method` that tuning for `n` ratings found best: three at most, within 0.25% of the best RMSE."
    if len(METHODS[method].grid) == 1: return METHODS[method].grid
    tuned = rows(path, shape=smaller(n)[0], what='tune', method=METHODS[method].like or method)
    tuned = sorted((r for r in tuned if r['valid']), key=lambda r: r['valid'])
    return [r['settings'] for r in tuned[:3] if r['valid'] <= 1.0025*tuned[0]['valid']]

def jobs(part, n, path=PATH):
    "What a part measures: rows without their measurements."
    small, tiny = smaller(n)
    first = {m: M.grid[0] if M.grid else METHODS[M.like].grid[0] for m, M in METHODS.items()}
    found = {'sweep':   [(n, 'sweep', m, s) for m, s in first.items()],
             'growth':  [(tiny, 'sweep', m, first[m]) for m in ('ALS', 'CG ALS', 'variational', 'Gibbs')],
             'tune':    [(small, 'tune', m, s) for m, M in METHODS.items() if M.stars and M.grid[1:] for s in M.grid],
             'fit':     [(n, 'fit', m, s) for m, M in METHODS.items() if M.stars and m != 'SGD'
                         for s in chosen(m, n, path)],
             'profile': [(n, 'profile', 'ALS', {})],
             'rates':   [(n, 'rates', 'SGD', {})],
             'reading': [(n, 'reading', 'csv', {})]}
    return [dict(zip(KEY, job)) for job in found[part]]

# The ratings

def store(n, folder):
    "Make the ratings of shape `n`, cut them, and write the parts into a file in `folder`. Returns a row about them."
    from mfbook.scale import synthetic_ratings
    start = time.perf_counter()
    made = synthetic_ratings(n)
    seconds = time.perf_counter() - start
    parts = split_random(made.ratings, valid=.02, test=.02, seed=0)
    torch.save(dict(sizes=[made.ratings.n_users, made.ratings.n_items], range=made.ratings.rating_range,
                    parts=[[p.users, p.items, p.values] for p in parts]), Path(folder)/str(n))
    floor = {part: rmse(made.expected(r), r) for part, r in zip(('valid', 'test'), parts[1:])}
    return dict(shape=n, what='data', method='', settings={}, seconds=seconds, users=made.ratings.n_users,
                items=made.ratings.n_items, sizes=[len(p) for p in parts], floor=floor, **here())

def stored(n, folder):
    "Train, validation and test ratings, as `store` has cut them."
    f = torch.load(Path(folder)/str(n), weights_only=True)
    ids = [torch.arange(1, s + 1).numpy() for s in f['sizes']]
    return [Ratings(*columns, None, *ids, tuple(f['range'])) for columns in f['parts']]

# What is measured

def sweep(method, settings, train, valid, test, most=5):
    "Seconds of the preparation, and of the first sweeps."
    m = METHODS[method]
    prepare, *seconds = [s for s, _ in islice(timed(m.fit(train, **settings)), most + 1)]
    if m.restarts:                                   # fits of one sweep, of two, ...: a sweep is what each has more
        more = [b - a for a, b in zip(seconds, seconds[1:])]
        prepare, seconds = prepare + seconds[0] - median(more), more
    return dict(prepare=prepare, sweep=median(seconds), sweeps=seconds)

def fit(method, settings, train, valid, test):
    "[seconds so far, validation RMSE] after every sweep, and the test RMSE of what was best on validation."
    m, both, log, best = METHODS[method], union(valid, test), [], 0
    settings = dict(settings)
    most = settings.pop('sweeps', m.sweeps)
    steps = timed(m.fit(train, **settings))
    prepare, _ = next(steps)
    clock, held = prepare, None
    for seconds, predict in islice(steps, most):
        clock = (prepare if m.restarts else clock) + seconds
        y = torch.as_tensor(predict(both)).clamp(*train.rating_range)
        if not y.isfinite().all(): break
        log.append([clock, rmse(y[:len(valid)], valid)])
        if log[-1][1] <= min(v for _, v in log): best, held = len(log), y[len(valid):]
        if m.patience and len(log) - best >= m.patience: break
    return dict(prepare=prepare, log=log, valid=log[best-1][1] if log else None, test=rmse(held, test) if log else None)

MEASURES = dict(sweep=sweep, tune=fit, fit=fit, profile=profile, rates=rates, reading=reading)

def run(job, folder, path):
    "Measure one job here and now, and record it. Memory: what the data alone hold, and the most held after that."
    package = METHODS[job['method']].package if job['method'] in METHODS else 'mfbook'
    threads = METHODS[job['method']].threads if job['method'] in METHODS else None
    if threads: torch.set_num_threads(threads)
    parts = stored(job['shape'], folder)                              # the peers are imported before the clock runs
    if package != 'mfbook': next(islice(METHODS[job['method']].fit(parts[0].take(slice(500)), **job['settings']), 1, 2))
    forget_peak()
    holds, start = peak_mb(), time.perf_counter()
    found = MEASURES[job['what']](job['method'], job['settings'], *parts)
    record(dict(job, **found, data_mb=holds, peak_mb=peak_mb(), **here(package)), path)
    brief = {k: v for k, v in found.items() if k not in ('log', 'sweeps')}
    took = time.perf_counter() - start
    print(f"{job['what']:6} {job['method']:13} {job['settings']} {brief}, {took:.0f} s", flush=True)

def run_all(parts, n, path, threads):
    "Every job of `parts` that is not in the file, a process each. Returns how many failed."
    env = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads), 'OPENBLAS_NUM_THREADS': '1',
           'TORCHINDUCTOR_FORCE_DISABLE_CACHES': '1',                    # so that compiling is in the time of every fit
           'PYTHONWARNINGS': 'ignore'}                                   # and nothing is said of that, or by the peers
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            for job in jobs(part, n, path):
                if name(job) in map(name, _rows(path)): continue
                if not (Path(folder)/str(job['shape'])).exists(): record(store(job['shape'], folder), path)
                command = [sys.executable, __file__, '--job', json.dumps(job), folder, '--file', str(path)]
                failed += subprocess.run(command, env=env).returncode != 0
    return failed

def forget(parts, n, path):
    "Take the rows of `parts` out of the file."
    old = {name(j) for part in parts for j in jobs(part, n, path)}
    whole = [(n, 'fit')]*('fit' in parts) + [(smaller(n)[0], 'tune')]*('tune' in parts)     # older settings too
    _write(path, [r for r in _rows(path) if name(r) not in old and (r['shape'], r['what']) not in whole])

# What it says

def seconds_to(log, error):
    "Seconds until validation RMSE first was `error` or less: the clock at that sweep; NaN if it never was."
    return next((s for s, v in log if v <= error), float('nan'))

def best_known(n=FULL, path=PATH): return min(r['valid'] for r in finished(n, path))

def finished(n, path): return [r for r in rows(path, shape=n, what='fit') if r['valid']]

def best_fits(n=FULL, path=PATH):
    "Of each method the fit with the lowest validation RMSE: name -> row."
    fits = sorted(finished(n, path), key=lambda r: -r['valid'])
    return {m: row for m in METHODS for row in [{r['method']: r for r in fits}.get(m)] if row}

def race(n=FULL, path=PATH, within=(.01, .0003)):
    """A row a method: its best validation RMSE and the test RMSE there, how far it lies above the best known (%), the
    seconds to within so much of it and to the best of the peer that is soonest within the first, and memory. Of a
    method's fits, each time is that of the one which is soonest."""
    known, best = best_known(n, path), best_fits(n, path)
    logs = {m: [r['log'] for r in finished(n, path) if r['method'] == m] for m in best}
    def soonest(m, error): return pd.Series([seconds_to(log, error) for log in logs[m]]).min()
    f = pd.DataFrame([[r['valid'], r['test'], 100*(r['valid']/known - 1)] for r in best.values()], list(best),
                     ['valid', 'test', 'above'])
    for w in within: f[f'to {100*w:g}%'] = [soonest(m, known*(1 + w)) for m in f.index]
    peers = [m for m in f.index if METHODS[m].package != 'mfbook']
    if peers:
        peer = f.loc[peers].sort_values([f'to {100*within[0]:g}%', 'valid']).index[0]
        f[f"to {peer}'s best"] = [soonest(m, f.valid[peer]) for m in f.index]
    return f.assign(data_mb=[r['data_mb'] for r in best.values()], peak_mb=[r['peak_mb'] for r in best.values()])

def sweeps(n=FULL, path=PATH, beside=('Cornac MF', 'cmfrec ALS')):
    "A row a method: seconds to prepare and of a sweep, how many of a peer's sweeps that is, nanoseconds a rating."
    found = {r['method']: r for r in rows(path, shape=n, what='sweep')}
    f = pd.DataFrame({m: dict(prepare=found[m]['prepare'], sweep=found[m]['sweep']) for m in METHODS if m in found}).T
    for peer in beside:
        if peer in found: f[f'times {peer}'] = f.sweep/found[peer]['sweep']
    f['ns a rating'] = 1e9*f.sweep/n
    small = {r['method']: 1e9*r['sweep']/r['shape'] for r in rows(path, shape=smaller(n)[1], what='sweep')}
    return f.assign(**{f'at {smaller(n)[1]:,}': pd.Series(small, dtype=float)})

def tables(n=FULL, path=PATH):
    "All that the file says of the shape `n`, as text."
    out = []
    for what, f in (('Sweeps and epochs', sweeps), ('RMSE and seconds', race)):
        have = rows(path, shape=n, what='sweep' if f is sweeps else 'fit')
        if have: out += [f'{what}, {n:,} ratings', f(n, path).round(4).to_string()]
    for row in rows(path, shape=n, what='data'): out.append(f"Nothing is below {row['floor']}")
    for what in ('profile', 'rates', 'reading'):
        for row in rows(path, shape=n, what=what): out.append(pd.DataFrame(row['table']).T.round(3).to_string())
    return '\n\n'.join(out)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--shape', type=shape, default=FULL, help='ratings: 32M, 1M, 500k')
    parser.add_argument('--only', nargs='+', choices=PARTS, default=PARTS, metavar='PART', help=', '.join(PARTS))
    parser.add_argument('--threads', type=int, default=os.cpu_count(), help='of each method but the SGD of the book')
    parser.add_argument('--again', action='store_true', help='forget what the file holds of these parts first')
    parser.add_argument('--table', action='store_true', help='print what the file holds, and run nothing')
    parser.add_argument('--file', type=Path, default=PATH, help='where the rows are')
    parser.add_argument('--job', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job: run(json.loads(args.job[0]), args.job[1], args.file)
    elif args.table: print(tables(args.shape, args.file))
    else:
        if args.again: forget(args.only, args.shape, args.file)
        sys.exit(run_all([p for p in PARTS if p in args.only], args.shape, args.file, args.threads))
