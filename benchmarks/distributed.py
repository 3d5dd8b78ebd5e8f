"""One process and two, with a thread each, take turns on the same ratings; writes `distributed.jsonl`.

    python benchmarks/distributed.py --shape 32M --rounds 3    # some six minutes a round
    python benchmarks/distributed.py --table                   # what distributed.jsonl says

In each round: lesson 09's solver in one process that holds all ratings, the command of lesson 17 as one
process, as two that exchange all rows, and as two that exchange what they ask for. A ratio is that of two
times in the same round. Beside them it measures how fast rows travel between two processes.
"""
import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path
from statistics import median
import pandas as pd
import torch
import torch.distributed as dist
from ledger import machine, peak_mb, read_rows, write_rows
from mfbook import distributed
from mfbook.als import ALSSolver
from mfbook.model import MatrixFactorization
from mfbook.ratings import Ratings
from scale import shape

PATH = Path(__file__).resolve().parent/'distributed.jsonl'
SWEEPS = 6
K = 32
ONE, SHARDED, ALL, ASKED = 'lesson 09', '1 process', '2 processes', '2 processes, only asked'
RUNS = {SHARDED: (1, 'all'), ALL: (2, 'all'), ASKED: (2, 'asked')}

def environment():
    "One thread each, and the same place for shards."
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1', 'CI': '1', 'PYTHONWARNINGS': 'ignore'}

def torchrun(processes, *words):
    "What a command prints that torchrun starts."
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(processes), *words]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    if done.returncode: raise RuntimeError(done.stderr[-2000:])
    return done.stdout

def of_command(name, folder):
    "Seconds of each sweep, and what each rank says of itself."
    processes, exchange = RUNS[name]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        out = torchrun(processes, '-m', 'mfbook.distributed', 'fit', str(folder), '--k', str(K), '--sweeps', str(SWEEPS),
                       '--valid', '0', '--exchange', exchange, '--json', '--out', f'{place}/model.safetensors')
    wall = time.perf_counter() - start
    record = json.loads(out.splitlines()[-1])
    return dict(seconds=[row['seconds'] for row in record['sweeps']], train=record['sweeps'][-1]['train'],
                ranks=record['ranks'], wall=wall)

def of_lesson_09(folder):
    "The same of one process that holds the ratings as lesson 09 does."
    torch.set_num_threads(1)
    index = distributed.read_index(folder)
    about = MatrixFactorization.load(Path(folder)/distributed.ABOUT)
    everyone = slice(0, about.n_users)
    parts = [part[:3] for part in distributed.own_shards(index, everyone, 0., 0)]
    users, items, values = [torch.cat(column) for column in zip(*parts)]
    del parts
    train = Ratings(users, items, values, None, about.user_ids, about.item_ids, about.rating_range)
    model = MatrixFactorization(train, K)
    solver = ALSSolver(model, train)
    seconds = []
    for _ in range(SWEEPS):
        start = time.perf_counter()
        report = solver.sweep()
        seconds.append(time.perf_counter() - start)
    return dict(seconds=seconds, train=report['train'], ranks=[dict(peak_mb=peak_mb())])

SIZES = [2**n for n in range(10, 27, 2)]     # bytes of a rank's block

def bandwidth():
    "Seconds in which two ranks exchange blocks of several sizes, the least of some tries."
    found = []
    with distributed.process_group():
        for size in SIZES:
            block = torch.zeros(size//4)
            blocks = [torch.empty_like(block) for _ in range(dist.get_world_size())]
            took = []
            for _ in range(7):
                dist.barrier()
                start = time.perf_counter()
                dist.all_gather(blocks, block)
                took.append(time.perf_counter() - start)
            found.append([size, min(took)])
        if dist.get_rank() == 0: print(json.dumps(found))

def run_all(n, rounds, path, folder):
    "Every round, each run in turn, in processes of its own."
    data = {32_000_204: 'synthetic-32m'}.get(n, f'synthetic-{n}')
    command = [sys.executable, '-m', 'mfbook.distributed', 'shard', data, '--out', str(folder)]
    subprocess.run(command, env=environment(), check=True)
    first = max((row['turn'] for row in read_rows(path)), default=0) + 1
    for turn in range(first, first + rounds):
        def keep(name, found):
            about = machine()
            row = dict(shape=n, turn=turn, name=name, k=K, **found, processor=about['processor'], versions=about['versions'])
            write_rows(path, [*read_rows(path), row])
            print(turn, name, {key: value for key, value in found.items() if key != 'ranks'}, flush=True)

        keep('bandwidth', dict(times=json.loads(torchrun(2, __file__, '--job', 'bandwidth', str(folder)))))
        alone = subprocess.run([sys.executable, __file__, '--job', ONE, str(folder)], env=environment(),
                               capture_output=True, text=True, check=True)
        keep(ONE, json.loads(alone.stdout))
        for name in RUNS: keep(name, of_command(name, folder))

# What the file says

def rows_of(n=None, path=PATH):
    "The rows of `n` ratings, or of the most with a complete round: a dict of (turn, name) -> row; and `n`."
    by_shape = {}
    for row in read_rows(path): by_shape.setdefault(row['shape'], {})[row['turn'], row['name']] = row
    if n is None: n = max(shape for shape, rows in by_shape.items() if turns_of(rows))
    return by_shape[n], n

def sweep_seconds(row):
    "A sweep's seconds: the median, without the first one, which warms up."
    return median(row['seconds'][1:])

def turns_of(rows):
    "The rounds that are complete."
    names = {ONE, *RUNS}
    return [turn for turn in sorted({turn for turn, _ in rows}) if names <= {name for t, name in rows if t == turn}]

def ratios(n=None, path=PATH):
    "A row a round: speed-ups of two processes, in a sweep and in the whole command, and a rank's peak memory as a share of one's."
    rows, _ = rows_of(n, path)
    found = {}
    for turn in turns_of(rows):
        one, sharded, two, asked = [rows[turn, name] for name in (ONE, SHARDED, ALL, ASKED)]
        most = max(rank['peak_mb'] for rank in two['ranks'])
        found[turn] = {'speed-up over lesson 09': sweep_seconds(one)/sweep_seconds(two),
                       'over 1 process': sweep_seconds(sharded)/sweep_seconds(two),
                       'only asked: over 1 process': sweep_seconds(sharded)/sweep_seconds(asked),
                       'whole command: over 1 process': sharded['wall']/two['wall'],
                       'memory, times lesson 09': most/one['ranks'][0]['peak_mb'],
                       'memory, times 1 process': most/sharded['ranks'][0]['peak_mb']}
    return pd.DataFrame(found).T.rename_axis('round')

def summary(n=None, path=PATH):
    "Medians over the rounds: seconds of a sweep, of its exchange, megabytes received by the rank with least, and peak memory."
    rows, _ = rows_of(n, path)
    found = {}
    for name in (ONE, *RUNS):
        mine = [rows[turn, name] for turn in turns_of(rows)]
        ranks = [row['ranks'] for row in mine]
        def most(field): return median(max(rank.get(field, 0) for rank in each) for each in ranks)
        # Rank 0 asks for all rows, since it saves the model.
        received = median(min(rank.get('bytes_of_rows', 0) for rank in each) for each in ranks)
        found[name] = {'sweep (s)': median(map(sweep_seconds, mine)), 'exchange (s)': most('seconds_of_exchange')/SWEEPS,
                       'received (MB)': received/1e6/SWEEPS, 'peak memory (MB)': most('peak_mb')}
    return pd.DataFrame(found).T

def link(n=None, path=PATH):
    "Seconds of latency, and bytes per second, between two processes on one machine: a line through the times."
    rows, _ = rows_of(n, path)
    times = pd.DataFrame([pair for (_, name), row in rows.items() if name == 'bandwidth' for pair in row['times']], columns=['bytes', 'seconds'])
    best = times.groupby('bytes').seconds.median()
    per_byte = (best.iloc[-1] - best.iloc[0])/(best.index[-1] - best.index[0])
    return best.iloc[0], 1/per_byte

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--shape', type=shape, default=32_000_204, help='ratings: 32M, 1M, 500k')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--folder', type=Path, help='for the shards; kept if named')
    parser.add_argument('--table', action='store_true', help='print what the file holds')
    parser.add_argument('--file', type=Path, default=PATH)
    parser.add_argument('--job', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job and args.job[0] == 'bandwidth': bandwidth()
    elif args.job: print(json.dumps(of_lesson_09(args.job[1])))
    elif args.table:
        print(ratios(path=args.file).round(3).to_string(), summary(path=args.file).round(3).to_string(), link(path=args.file), sep='\n\n')
    else:
        with tempfile.TemporaryDirectory() as folder:
            run_all(args.shape, args.rounds, args.file, args.folder or folder)
