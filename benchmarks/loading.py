"""How long `load_ratings` takes beside pandas' C engine; writes `loading.jsonl`.

    python benchmarks/loading.py                    # 1 and 32 million ratings
    python benchmarks/loading.py --ratings 1000000  # of this size alone
    python benchmarks/loading.py --pairs 9          # more turns
    python benchmarks/loading.py --table            # what the file says

The ratings are `mfbook.scale.synthetic_ratings`, written as MovieLens's ratings.csv. In each turn
of one process, pandas reads the file with the types of the columns (`pd.read_csv(path, engine='c',
dtype=...)`), then `load_ratings` reads it as MovieLens, and by the names of its columns as any
other table: with no copy, with a copy to be written, and from the copy. What counts are the ratios
within a turn; the file is in memory before the first one.
"""
import argparse, io, os, tempfile, time
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from unittest.mock import patch
import pandas as pd
from ledger import machine, read_rows, write_rows
from mfbook.movielens import COLUMNS, load_ratings
from mfbook.scale import synthetic_ratings
from scale_parts import seconds, write_csv

PATH = Path(__file__).resolve().parent/'loading.jsonl'
SIZES = [1_000_000, 32_000_204]
DOORS = {'MovieLens': {},
         'table': dict(user='userId', item='movieId', rating='rating', timestamp='timestamp',
                       sep=',', rating_range=(0.5, 5))}

def turn(path, columns):
    "Seconds of one turn: pandas, no copy, a copy to be written, and from the copy."
    with tempfile.TemporaryDirectory(dir=path.parent) as copies, \
         patch.dict(os.environ, MFBOOK_CACHE=copies), redirect_stdout(io.StringIO()):
        return dict(pandas=seconds(lambda: pd.read_csv(path, engine='c', dtype=COLUMNS)),
                    uncached=seconds(lambda: load_ratings(path, cache=False, **columns)),
                    first=seconds(lambda: load_ratings(path, **columns)),
                    second=seconds(lambda: load_ratings(path, **columns)))

def measure(path, n, pairs):
    "One row for each door: the ratios to pandas turn by turn, and seconds beside them."
    pd.read_csv(path, engine='c', dtype=COLUMNS)           # from here on the file is in memory
    turns = {door: [] for door in DOORS}
    for _ in range(pairs):
        for door, columns in DOORS.items(): turns[door].append(turn(path, columns))
    rows = []
    for door, took in turns.items():
        ratios = {what: [round(each[what]/each['pandas'], 4) for each in took]
                  for what in ('uncached', 'first', 'second')}
        times = {what: round(median(each[what] for each in took), 4) for what in took[0]}
        rows.append(dict(ratings=n, read_as=door, times_pandas=ratios, median_seconds=times,
                         csv_mb=round(path.stat().st_size/1e6, 1), date=time.strftime('%Y-%m-%d'),
                         **machine()))
    return rows

def run(n, pairs, path, folder):
    "Measure one size, in place of what the file held of it."
    file = Path(folder)/'ratings.csv'
    if not file.exists(): write_csv(synthetic_ratings(n).ratings, file)
    rows = measure(file, n, pairs)
    others = [row for row in read_rows(path) if row['ratings'] != n]
    write_rows(path, [*others, *rows])

def table(path=PATH):
    "The median ratio of each kind of load to pandas, and the second load's seconds."
    rows = []
    for row in read_rows(path):
        ratios = {what: median(values) for what, values in row['times_pandas'].items()}
        rows.append(dict(ratings=row['ratings'], read_as=row['read_as'], **ratios,
                         second_seconds=row['median_seconds']['second']))
    return pd.DataFrame(rows).set_index(['ratings', 'read_as'])

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--ratings', type=int, nargs='+', default=SIZES)
    parser.add_argument('--pairs', type=int, default=5, help='turns')
    parser.add_argument('--file', type=Path, default=PATH, help='where the rows go')
    parser.add_argument('--folder', help='one that holds, or will hold, ratings.csv of the one size asked for')
    parser.add_argument('--table', action='store_true', help='print what the file holds, and run nothing')
    args = parser.parse_args()
    if not args.table:
        if args.folder and len(args.ratings) > 1: parser.error('--folder goes with one size')
        for n in args.ratings:
            with tempfile.TemporaryDirectory() as folder: run(n, args.pairs, args.file, args.folder or folder)
    print(table(args.file).round(3).to_string())
