"""32 million ratings: the book's solvers beside Cornac, cmfrec and implicit; writes `scale.jsonl`.

    make scale                                          # its own environment, then the whole run
    python benchmarks/scale.py                          # what is not in scale.jsonl yet
    python benchmarks/scale.py --only sweep rates       # these parts alone
    python benchmarks/scale.py --again --only reading   # forget a part, and run it anew
    python benchmarks/scale.py --shape 1M               # a smaller shape
    python benchmarks/scale.py --table                  # what scale.jsonl says

The ratings are `synthetic_ratings`, cut once into train, 2% for validation and 2% for test. The
parts are:

- sweep: seconds to prepare, and of each of the first sweeps or epochs, of every method
- growth: the same of ALS and Gibbs at a small shape, for the seconds a rating
- tune: each setting of a method's grid on a tenth of the ratings, validation RMSE after every
  sweep
- fit: the best settings at the full size, up to three that were within 0.25% of the best,
  validation RMSE against seconds; Gibbs, which has nothing to choose, with many sweeps, for the
  best RMSE that is known; of the book's SGD the compiled one alone, because the other does the
  same and takes longer
- sizes: mean field and variational Bayes at smaller sizes, to see where the first loses
- profile: where the time of a sweep goes, on one thread
- rates: steps of SGD, by hand and compiled, beside a DataLoader loop, on one thread
- reading: a ratings.csv, first and second load

Each row is measured in a process of its own, so that its peak of memory is its own. Seconds are
those of preparation and sweeps; the seconds of validation are not among them, for any method. The
book's SGD shuffles before every epoch, and that counts. Numba's compilation does not: it is kept
on disk, and lesson 16 shows its seconds. Cornac takes the ratings in the order of
the file, user after user: it learns as well from them as in random order, which is in its grid,
and each user's row is at hand for all of the ratings. A compiled step is compiled anew in each
process, which is preparation too. cmfrec cannot go on from where it stopped, so each point of its
line is a fit of its own, with 1, 2, 3, ... sweeps. implicit is for clicks, not for stars: its
sweeps are timed, and its error means nothing here. Cornac with more than one thread is not the
same twice.

The clock of a shared machine is not steady. Cornac's rows in scale.jsonl (its epoch, and its fit
with reg 0.02) are the quickest of several runs, those of the book's methods are of one run each:
where chance is left, it favors the peer.
"""
import argparse, datetime, json, os, subprocess, sys, tempfile, time
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median
import pandas as pd
import torch
from ledger import fits, forget_peak, machine, peak_mb, read_rows, write_rows
from mfbook.holdout import concat, rmse, split_random
from mfbook.ratings import Ratings
from mfbook.scale import synthetic_ratings
from scale_methods import METHODS, warm_up
from scale_parts import profile, rates, reading, timed

PATH = Path(__file__).resolve().parent/'scale.jsonl'
PARTS = ['sweep', 'growth', 'profile', 'tune', 'fit', 'sizes', 'rates', 'reading']
KEY = ['shape', 'what', 'method', 'settings']                    # what makes two rows the same
FULL = 32_000_204                                                # MovieLens 32M
SMALLEST = 500_000                                               # a tenth of it is to be tuned on
HELD_OUT = .02                                                   # share for validation, and for test

# Shapes

def shape(text):
    "The number of ratings in a text like 640k or 1M; 32M is as many as MovieLens 32M has."
    if text == '32M': return FULL
    units = dict(k=1e3, M=1e6)
    unit = text[-1:]
    n = round(float(text[:-1])*units[unit]) if unit in units else int(text)
    if n < SMALLEST: raise ValueError(f'{text}: 500k or more, so that a tenth can be tuned on')
    return n

def tuning_shape(n): return max(n//10, min(n//2, 320_000))

def growth_shape(n): return max(n//32, 50_000)

# The stored rows

def rows(path=PATH, **where):
    "The file's rows whose fields equal `where`."
    return [row for row in read_rows(path) if fits(row, where)]

def name(row):
    "What makes two rows the same, as text."
    return json.dumps([row[field] for field in KEY], sort_keys=True)

def record(row, path=PATH):
    "Add a row, in place of an older one of the same measurement."
    others = [old for old in read_rows(path) if name(old) != name(row)]
    write_rows(path, [*others, row])

def here(package='mfbook'):
    "When and on what a row is measured."
    about = machine()
    versions = {**about['versions'], package: version(package)}
    return dict(date=datetime.date.today().isoformat(), threads=about['threads'],
                processor=about['processor'], versions=versions)

def chosen(method, n, path=PATH, within=0.0025, most=3):
    "What tuning for `n` ratings found best: at most `most` settings, `within` of the best RMSE."
    grid = METHODS[method].grid
    if len(grid) == 1: return grid
    tuned = rows(path, shape=tuning_shape(n), what='tune', method=METHODS[method].like or method)
    tuned = [row for row in tuned if row['valid']]
    tuned.sort(key=lambda row: row['valid'])
    return [row['settings'] for row in tuned[:most]
            if row['valid'] <= (1 + within)*tuned[0]['valid']]

# What a part measures

GROWING = ['ALS', 'CG ALS', 'variational', 'Gibbs']
SIZES = [100_000, 320_000, 1_000_000, 3_200_000]                 # and the full one, from `fit`

def first_settings(method):
    like = METHODS[method].like or method
    return METHODS[like].grid[0]

def tuned_settings(method):
    "The settings that are tried: none for a method without stars, or with nothing to choose."
    if not METHODS[method].stars or len(METHODS[method].grid) < 2: return []
    return METHODS[method].grid

def fitted_settings(method, n, path):
    "The settings that are fitted at the full size; none without stars, none for the slower SGD."
    if not METHODS[method].stars or method == 'SGD': return []
    return chosen(method, n, path)

def jobs(part, n, path=PATH):
    "What a part measures: rows without their measurements."
    def job(method, settings, what=part, n=n):
        return dict(shape=n, what=what, method=method, settings=settings)

    if part == 'sweep':
        return [job(method, first_settings(method)) for method in METHODS]
    if part == 'growth':
        small = growth_shape(n)
        return [job(method, first_settings(method), 'sweep', small) for method in GROWING]
    if part == 'tune':
        small = tuning_shape(n)
        return [job(method, tried, n=small)
                for method in METHODS for tried in tuned_settings(method)]
    if part == 'fit':
        return [job(method, best)
                for method in METHODS for best in fitted_settings(method, n, path)]
    if part == 'sizes':
        usual = {'variational': dict(k=32, start=2), 'mean field': dict(k=32)}
        return [job(method, settings, n=size) for size in SIZES if size < n
                for method, settings in usual.items()]
    of = dict(profile='ALS', rates='SGD', reading='csv')
    return [job(of[part], {})]

# The ratings

def store(n, folder):
    """Make the ratings of shape `n`, cut them, and write the parts into a file in `folder`.

    Returns a row about them.
    """
    start = time.perf_counter()
    made = synthetic_ratings(n)
    seconds = time.perf_counter() - start

    ratings = made.ratings
    split = split_random(ratings, valid=HELD_OUT, test=HELD_OUT, seed=0)
    parts = [[part.users, part.items, part.values] for part in split]
    about = dict(sizes=[ratings.n_users, ratings.n_items], range=ratings.rating_range, parts=parts)
    torch.save(about, Path(folder)/str(n))

    floor = dict(valid=rmse(made.expected(split.valid), split.valid),
                 test=rmse(made.expected(split.test), split.test))
    return dict(shape=n, what='data', method='', settings={}, seconds=seconds,
                users=ratings.n_users, items=ratings.n_items,
                sizes=[len(part) for part in split], floor=floor, **here())

def stored(n, folder):
    "Train, validation and test ratings, as `store` has cut them."
    about = torch.load(Path(folder)/str(n), weights_only=True)
    user_ids, item_ids = [torch.arange(1, size + 1).numpy() for size in about['sizes']]
    rating_range = tuple(about['range'])
    return [Ratings(*columns, None, user_ids, item_ids, rating_range) for columns in about['parts']]

# What is measured

def sweep(method, settings, train, valid, test, most=5):
    "Seconds of the preparation, and of the first sweeps."
    steps = timed(METHODS[method].fit(train, **settings))
    prepare, *seconds = [took for took, _ in islice(steps, most + 1)]
    if METHODS[method].restarts:         # fits of one sweep, two, ...: a sweep is what each adds
        more = [longer - shorter for shorter, longer in zip(seconds, seconds[1:])]
        prepare += seconds[0] - median(more)
        seconds = more
    return dict(prepare=prepare, sweep=median(seconds), sweeps=seconds)

def fit(method, settings, train, valid, test):
    "[seconds so far, validation RMSE] after every sweep, and the test RMSE of the best of them."
    about = METHODS[method]
    settings = dict(settings)
    most = settings.pop('sweeps', about.sweeps)
    steps = timed(about.fit(train, **settings))
    prepare, _ = next(steps)

    both = concat(valid, test)
    log, best, on_test, clock = [], 0, None, prepare
    for seconds, predict in islice(steps, most):
        clock = (prepare if about.restarts else clock) + seconds
        predicted = torch.as_tensor(predict(both)).clamp(*train.rating_range)
        if not predicted.isfinite().all(): break

        log.append([clock, rmse(predicted[:len(valid)], valid)])
        if log[-1][1] <= min(error for _, error in log):
            best = len(log)
            on_test = predicted[len(valid):]
        if about.patience and len(log) - best >= about.patience: break

    if not log: return dict(prepare=prepare, log=log, valid=None, test=None)
    return dict(prepare=prepare, log=log, valid=log[best - 1][1], test=rmse(on_test, test))

MEASURES = dict(sweep=sweep, tune=fit, fit=fit, sizes=fit, profile=profile, rates=rates, reading=reading)

def run(job, folder, path):
    """Measure one job here and now, and record it.

    Memory: what the process held with the data alone, and the most that it held after that.
    """
    method = METHODS.get(job['method'])              # None for a job that is not about one
    package = method.package if method else 'mfbook'
    if method and method.threads: torch.set_num_threads(method.threads)
    parts = stored(job['shape'], folder)
    if package != 'mfbook':                          # the peers are imported before the clock runs
        few = parts[0].take(slice(500))
        next(islice(method.fit(few, **job['settings']), 1, 2))

    if method and method.compiled: warm_up(parts[0])

    forget_peak()
    data_mb = peak_mb()
    start = time.perf_counter()
    found = MEASURES[job['what']](job['method'], job['settings'], *parts)
    record(dict(job, **found, data_mb=data_mb, peak_mb=peak_mb(), **here(package)), path)

    brief = {field: value for field, value in found.items() if field not in ('log', 'sweeps')}
    took = time.perf_counter() - start
    print(f"{job['what']:6} {job['method']:13} {job['settings']} {brief}, {took:.0f} s", flush=True)

def environment(threads):
    "The environment of a job."
    return {**os.environ, 'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads),
            'OPENBLAS_NUM_THREADS': '1',
            'TORCHINDUCTOR_FORCE_DISABLE_CACHES': '1',    # so that compiling is in every fit's time
            'PYTHONWARNINGS': 'ignore'}                   # of that, and the peers'

def run_all(parts, n, path, threads):
    "Every job of `parts` that is not in the file, a process each. Returns how many failed."
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            for job in jobs(part, n, path):
                if name(job) in map(name, read_rows(path)): continue
                if not (Path(folder)/str(job['shape'])).exists():
                    record(store(job['shape'], folder), path)
                command = [sys.executable, __file__, '--job', json.dumps(job), folder,
                           '--file', str(path)]
                done = subprocess.run(command, env=environment(threads))
                failed += done.returncode != 0
    return failed

def forget(parts, n, path):
    "Take the rows of `parts` out of the file; of tuning and fits those of older settings, too."
    old = {name(job) for part in parts for job in jobs(part, n, path)}
    whole = []
    if 'fit' in parts: whole.append((n, 'fit'))
    if 'tune' in parts: whole.append((tuning_shape(n), 'tune'))

    def stays(row): return name(row) not in old and (row['shape'], row['what']) not in whole
    write_rows(path, [row for row in read_rows(path) if stays(row)])

# What the file says

def seconds_to(log, error):
    "The clock at the sweep where validation RMSE first was `error` or less; NaN if it never was."
    return next((seconds for seconds, valid in log if valid <= error), float('nan'))

def finished(n, path):
    "The fits that have a validation RMSE."
    return [row for row in rows(path, shape=n, what='fit') if row['valid']]

def best_known(n=FULL, path=PATH): return min(row['valid'] for row in finished(n, path))

def best_fits(n=FULL, path=PATH):
    "Of each method the fit with the lowest validation RMSE: name -> row."
    worst_first = sorted(finished(n, path), key=lambda row: -row['valid'])
    best = {row['method']: row for row in worst_first}
    return {method: best[method] for method in METHODS if method in best}

def race(n=FULL, path=PATH, within=(.01, .0003)):
    """A row a method: its best validation RMSE and the test RMSE there, how far it lies above the
    best known (%), seconds, and memory.

    Seconds to within each share of the best known, and to the best of the peer that is soonest
    within the first of them. Of a method's fits, each time is that of the one which is soonest.
    """
    known = best_known(n, path)
    best = best_fits(n, path)
    logs = {method: [] for method in best}
    for row in finished(n, path): logs[row['method']].append(row['log'])

    def soonest(error):
        "Seconds to an error, of each method."
        times = {method: [seconds_to(log, error) for log in logs[method]] for method in best}
        return [pd.Series(each).min() for each in times.values()]

    errors = [[row['valid'], row['test']] for row in best.values()]
    frame = pd.DataFrame(errors, list(best), ['valid', 'test'])
    frame['above'] = 100*(frame.valid/known - 1)
    marks = {share: f'to {100*share:g}%' for share in within}
    for share, mark in marks.items(): frame[mark] = soonest((1 + share)*known)

    peers = [method for method in best if METHODS[method].package != 'mfbook']
    if peers:
        peer = frame.loc[peers].sort_values([marks[within[0]], 'valid']).index[0]
        frame[f"to {peer}'s best"] = soonest(frame.valid[peer])
    frame['data_mb'] = [row['data_mb'] for row in best.values()]
    frame['peak_mb'] = [row['peak_mb'] for row in best.values()]
    return frame

def sizes_table(n=FULL, path=PATH):
    "Best validation RMSE of mean field and of variational Bayes: a row a number of ratings."
    small = [row for size in SIZES for row in rows(path, shape=size, what='sizes')]
    full = [row for row in best_fits(n, path).values()] if finished(n, path) else []
    found = [row for row in [*small, *full] if row['method'] in ('mean field', 'variational')]
    frame = pd.DataFrame([[row['shape'], row['method'], row['valid']] for row in found],
                         columns=['ratings', 'method', 'valid'])
    table = frame.pivot(index='ratings', columns='method', values='valid')
    if table.shape[1] == 2: table['difference (%)'] = 100*(table['mean field']/table.variational - 1)
    return table.rename_axis(columns=None)

def sweeps(n=FULL, path=PATH, beside=('Cornac MF', 'cmfrec ALS')):
    "A row a method: seconds to prepare and of a sweep, in a peer's sweeps, and per rating (ns)."
    found = {row['method']: row for row in rows(path, shape=n, what='sweep')}
    methods = [method for method in METHODS if method in found]
    seconds = [[found[method]['prepare'], found[method]['sweep']] for method in methods]
    frame = pd.DataFrame(seconds, methods, ['prepare', 'sweep'])
    for peer in beside:
        if peer in found: frame[f'times {peer}'] = frame.sweep/found[peer]['sweep']
    trained = 1 - 2*HELD_OUT                 # share of the ratings that a sweep sees
    frame['ns a rating'] = 1e9*frame.sweep/(trained*n)

    small = growth_shape(n)
    small_rows = rows(path, shape=small, what='sweep')
    at_small = {row['method']: 1e9*row['sweep']/(trained*small) for row in small_rows}
    frame[f'at {small:,}'] = pd.Series(at_small, dtype=float)
    return frame

def tables(n=FULL, path=PATH):
    "All that the file says of the shape `n`, as text."
    out = []
    if rows(path, shape=n, what='sweep'):
        out += [f'Sweeps and epochs, {n:,} ratings', sweeps(n, path).round(4).to_string()]
    if rows(path, shape=n, what='fit'):
        out += [f'RMSE and seconds, {n:,} ratings', race(n, path).round(4).to_string()]
    for row in rows(path, shape=n, what='data'):
        out.append(f"Nothing is below {row['floor']}")
    for what in ('profile', 'rates', 'reading'):
        for row in rows(path, shape=n, what=what):
            out.append(pd.DataFrame(row['table']).T.round(3).to_string())
    return '\n\n'.join(out)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--shape', type=shape, default=FULL, help='ratings: 32M, 1M, 500k')
    parser.add_argument('--only', nargs='+', choices=PARTS, default=PARTS, metavar='PART',
                        help=', '.join(PARTS))
    parser.add_argument('--threads', type=int, default=os.cpu_count(),
                        help='of each method but the SGD of the book')
    parser.add_argument('--again', action='store_true',
                        help='forget what the file holds of these parts first')
    parser.add_argument('--table', action='store_true',
                        help='print what the file holds, and run nothing')
    parser.add_argument('--file', type=Path, default=PATH, help='where the rows are')
    parser.add_argument('--job', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        run(json.loads(args.job[0]), args.job[1], args.file)
    elif args.table:
        print(tables(args.shape, args.file))
    else:
        if args.again: forget(args.only, args.shape, args.file)
        parts = [part for part in PARTS if part in args.only]
        sys.exit(run_all(parts, args.shape, args.file, args.threads))
