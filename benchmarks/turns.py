"""The book's quickest methods and their peers in turns, each fit a process; writes `turns.jsonl`.

    python benchmarks/turns.py --shape 32M --rounds 5    # some minutes a round
    python benchmarks/turns.py --shape 1M --rounds 5 --only 'mean field'    # for the growth of its seconds
    python benchmarks/turns.py --shape 32M --table       # what turns.jsonl says

The speed of a shared machine changes from minute to minute. So in each round every method runs once,
one after another, and a ratio is that of two times in the same round. All rounds stay in the file.
Beside the wall clock a row has the processor's seconds: where both cores are free they are about
twice as many, and where they are not, wall seconds say nothing. The peers have the settings that
tuning for this size found best (scale.jsonl), or Cornac's best at 32 million.
"""
import argparse, json, os, subprocess, sys, tempfile, time
from itertools import islice
from pathlib import Path
import pandas as pd
import torch
import scale
from ledger import forget_peak, machine, peak_mb, read_rows, write_rows
from mfbook.holdout import rmse
from scale_methods import METHODS, SHARES, warm_up

PATH = Path(__file__).resolve().parent/'turns.jsonl'
PEER = 'Cornac MF'
WEIGHTED = dict(k=32, reg=.05, bias_reg=.02, per_rating=True)
TURNS = {                                    # name -> method, settings, passes at most
    'mean field': ('mean field', dict(k=32, shares=SHARES), 8),
    'compiled variational': ('compiled variational', dict(k=32, shares=SHARES), 12),
    'variational': ('variational', dict(k=32, shares=SHARES), 8),
    'CG ALS': ('CG ALS', dict(WEIGHTED, cg_steps=3), 8),
    'Numba SGD': ('Numba SGD', dict(k=32, lr=.02, reg=.015, epochs=16, schedule='cosine'), 16),
    'Cornac MF': ('Cornac MF', dict(k=32, lr=.01, reg=.02), 25),
    'cmfrec ALS': ('cmfrec ALS', WEIGHTED, 4),
}

OVER = object()      # instead of a further pass

def clocks(): return time.perf_counter(), time.process_time()

def measure(name, n, turn, folder, path):
    "Fit once, here and now: [wall seconds, processor seconds, validation RMSE] after every pass."
    method, settings, most = TURNS[name]
    about = METHODS[method]
    if about.threads: torch.set_num_threads(about.threads)
    train, valid, _ = scale.stored(n, folder)
    few = train.take(slice(500))
    if about.compiled: warm_up(train)
    elif about.package != 'mfbook': next(islice(about.fit(few, **settings), 1, 2))

    forget_peak()
    data_mb = peak_mb()
    steps = about.fit(train, **settings)
    wall = cpu = 0.
    log = []
    for done in range(most + 1):
        start = clocks()
        predict = next(steps, OVER)
        end = clocks()
        if predict is OVER: break
        first = about.restarts and log           # a fit from the start: after the preparation alone
        wall = (log[0][0] if first else wall) + end[0] - start[0]
        cpu = (log[0][1] if first else cpu) + end[1] - start[1]
        error = None
        if done:
            predicted = torch.as_tensor(predict(valid)).clamp(*train.rating_range)
            error = rmse(predicted, valid)
        log.append([wall, cpu, error])
    row = dict(shape=n, turn=turn, name=name, settings=settings, log=log, data_mb=data_mb,
               peak_mb=peak_mb(), **{key: machine()[key] for key in ('threads', 'processor')})
    write_rows(path, [*read_rows(path), row])
    print(f'{turn} {name:29} best {min(error for *_, error in log if error):.5f}, {wall:.1f} s, '
          f'{cpu:.1f} CPU s', flush=True)

def run_all(names, n, rounds, path, threads):
    "Every round, each method in turn, a process each. Returns how many failed."
    done = [row['turn'] for row in read_rows(path)]
    first = max(done, default=0) + 1
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        scale.store(n, folder)
        for turn in range(first, first + rounds):
            for name in names:
                command = [sys.executable, __file__, '--job', name, str(turn), folder,
                           '--shape', str(n), '--file', str(path)]
                failed += subprocess.run(command, env=scale.environment(threads)).returncode != 0
    return failed

def rows_at(n=scale.FULL, path=PATH): return [row for row in read_rows(path) if row['shape'] == n]

def time_to(row, error, clock=0):
    "Seconds of a row (1: processor seconds) until its validation RMSE was `error`; NaN if never."
    return next((step[clock] for step in row['log'] if step[2] and step[2] <= error), float('nan'))

def table(n, path=PATH, known=None):
    "Each method's seconds to three marks, in all rounds, and times the peer's in the same round."
    rows = rows_at(n, path)
    if known is None: known = best_known(n, path)
    peers = {row['turn']: row for row in rows if row['name'] == PEER}
    found = []
    for row in rows:
        peer = peers.get(row['turn'])
        of_peer = min(step[2] for step in peer['log'] if step[2]) if peer else float('nan')
        marks = {'to 1%': 1.01*known, "to the peer's best": of_peer, 'to 0.03%': 1.0003*known}
        steps = [after[1] - before[1] for before, after in zip(row['log'], row['log'][1:])]
        for mark, error in marks.items():
            found.append(dict(name=row['name'], turn=row['turn'], mark=mark, wall=time_to(row, error),
                              cpu=time_to(row, error, 1), prepare=row['log'][0][0],
                              pass_cpu=pd.Series(steps).median(), peak_mb=row['peak_mb'],
                              ratio=time_to(row, error)/time_to(peer, error) if peer else None))
    frame = pd.DataFrame(found)
    short = frame.groupby(['mark', 'name'])[['wall', 'cpu', 'ratio', 'prepare', 'pass_cpu', 'peak_mb']]
    return frame, short.agg(['median', 'min'])

def summary(n=scale.FULL, path=PATH):
    "Medians over the rounds: a row a method. Seconds are of the clock; `times Cornac` compares within a round."
    pairs, _ = table(n, path)
    best = best_of_all(n, path)
    found = {}
    for name, rows in pairs.groupby('name', sort=False):
        to_1, to_best = (rows[rows['mark'] == mark] for mark in ('to 1%', "to the peer's best"))
        near = rows[rows['mark'] == 'to 0.03%']
        found[name] = {'best RMSE': best[name],
                       'to 1% (s)': to_1.wall.median(), 'to 1%, times Cornac': to_1.ratio.median(),
                       "to Cornac's best (s)": to_best.wall.median(),
                       "to Cornac's best, times Cornac": to_best.ratio.median(),
                       'to 0.03% (s)': near.wall.median(), 'prepare (s)': rows.prepare.median(),
                       'a pass (CPU s)': rows.pass_cpu.median(), 'peak MB': rows.peak_mb.median()}
    return pd.DataFrame(found).T.loc[[name for name in TURNS if name in found]]

def growth(name='mean field', small=1_000_000, n=scale.FULL, path=PATH):
    "How many times the wall seconds a rating of a pass at `n` are those at `small`: medians of all rounds."
    def seconds(shape):
        logs = [row['log'] for row in read_rows(path) if (row['shape'], row['name']) == (shape, name)]
        passes = [after[0] - before[0] for log in logs for before, after in zip(log[1:], log[2:])]
        return pd.Series(passes, dtype=float).median()/shape
    return seconds(n)/seconds(small)

def best_of_all(n=scale.FULL, path=PATH):
    "The lowest validation RMSE of each method: a Series."
    found = {}
    for row in rows_at(n, path):
        lowest = min(step[2] for step in row['log'] if step[2])
        found[row['name']] = min(lowest, found.get(row['name'], lowest))
    return pd.Series(found, dtype=float)

def best_known(n=scale.FULL, path=PATH):
    "The lowest validation RMSE of these rounds and of `scale.jsonl`."
    known = best_of_all(n, path).min()
    return min(known, scale.best_known(n)) if scale.finished(n, scale.PATH) else known

def one_round(n=scale.FULL, path=PATH):
    "The logs of the last round that is complete: a dict of name -> [[wall seconds, processor seconds, RMSE], ...]."
    rows = rows_at(n, path)
    names = {row['name'] for row in rows}
    last = max(turn for turn in {row['turn'] for row in rows}
               if {row['name'] for row in rows if row['turn'] == turn} == names)
    return {row['name']: row['log'][1:] for row in rows if row['turn'] == last}

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--shape', type=scale.shape, default=scale.FULL)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--only', nargs='+', choices=TURNS, default=list(TURNS), metavar='NAME')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--table', action='store_true', help='print what the file holds')
    parser.add_argument('--file', type=Path, default=PATH)
    parser.add_argument('--job', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        measure(args.job[0], args.shape, int(args.job[1]), args.job[2], args.file)
    elif args.table:
        pairs, short = table(args.shape, args.file)
        print(pairs.round(3).to_string(index=False))
        print(short.round(3).to_string())
    else:
        sys.exit(run_all(args.only, args.shape, args.rounds, args.file, args.threads))
