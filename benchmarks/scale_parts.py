"The clock of scale.py, and the parts of it that are not fits: rates of SGD, where a sweep's time goes, and reading."
from itertools import islice
from pathlib import Path
from statistics import median
import io, tempfile, time
from contextlib import redirect_stdout
import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, TensorDataset
from mfbook.als import gram, look_up, rows_of, sides, solve_rows, table
from mfbook.gibbs import draw_rows
from mfbook.model import MatrixFactorization
from mfbook.ratings import COLUMNS, load_ratings
from mfbook.scale import closed_form, compiled, load_fast
from mfbook.training import batches

def timed(steps):
    "Seconds of each step of a generator, and what it yields. What is done between two steps is not in them."
    over = object()
    while True:
        start = time.perf_counter()
        found = next(steps, over)
        if found is over: return
        yield time.perf_counter() - start, found

def seconds(f):
    "Seconds of a call."
    start = time.perf_counter()
    f()
    return time.perf_counter() - start

# Rates

class Tiny(torch.nn.Module):
    "The student's model, as lesson 10 has it."
    def __init__(self, n_users, n_items, k=32):
        super().__init__()
        self.users, self.items = torch.nn.Embedding(n_users, k, max_norm=1), torch.nn.Embedding(n_items, k, max_norm=1)
    def forward(self, u, i): return (self.users(u)*self.items(i)).sum(1)

def student_rate(train, n_batches=30, batch_size=1024):
    "Ratings a second of the student's loop, once it is under way."
    data = TensorDataset(train.users, train.items, train.values)
    loader = iter(DataLoader(data, batch_size=batch_size, shuffle=True))
    model = Tiny(train.n_users, train.n_items)
    optimizer = torch.optim.Adam(model.parameters(), lr=.01)
    def some(n):
        for u, i, v in islice(loader, n):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(u, i), v).backward()
            optimizer.step()
    some(3)
    return n_batches*batch_size/seconds(lambda: some(n_batches))

def step_rate(train, update, batch_size=4096, n=2**20):
    "Ratings a second of the steps alone, on batches that lie ready in random order: the best of three rounds."
    step = update(MatrixFactorization(train, k=32))
    some = train.take(torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:n])
    ready = [b for b in batches(some, batch_size, 0) if len(b[2]) == batch_size]
    def work():
        for b in ready: step(*b, 1e-9, 0., 0.)
    work()                                                            # compiled here
    return len(ready)*batch_size/min(seconds(work) for _ in range(3))

def rates(method, settings, train, valid, test):
    "Million ratings a second on one thread, and how many times the student's loop that is."
    torch.set_num_threads(1)
    loop = student_rate(train)
    found = {'DataLoader loop': loop, 'by hand': step_rate(train, closed_form), 'compiled': step_rate(train, compiled)}
    return dict(table={m: {'million/s': r/1e6, 'times the loop': r/loop} for m, r in found.items()})

# Where a sweep's time goes

def profile(method, settings, train, valid, test, k=32, times=3):
    "Seconds on one thread of what a sweep does on both sides, and of all of it: the least of three rounds."
    torch.set_num_threads(1)
    model, P, rng = MatrixFactorization(train, k=k), torch.eye(k + 1), np.random.default_rng(0)
    rounds = []
    by = dict(zip(('user', 'item'), sides(train, train.mean)))
    for _ in range(times):
        took = dict.fromkeys(('fetch rows', 'Gram matrices', 'solve exactly', 'three steps instead',
                              'a draw instead'), 0.)
        for name, other in (('user', 'item'), ('item', 'user')):
            side, t, old = by[name], table(rows_of(model, other)), rows_of(model, name)
            def each(f):                                                  # and forget what it gives
                for c in side.chunks: f(c, t)
            fetched, grams = seconds(lambda: each(look_up)), seconds(lambda: each(gram))
            whole = {'solve exactly': lambda: solve_rows(side, t, torch.zeros(k + 1), P),
                     'three steps instead': lambda: solve_rows(side, t, torch.zeros(k + 1), P, start=old, steps=3),
                     'a draw instead': lambda: draw_rows(side, t, torch.zeros(k + 1), P, torch.ones(side.n_rows), rng)}
            took['fetch rows'] += fetched
            took['Gram matrices'] += grams - fetched
            for what, f in whole.items(): took[what] += seconds(f) - grams
        rounds.append(took)
    best = pd.DataFrame(rounds).min()
    return dict(table={what: {'seconds': s, 'ns a rating': 1e9*s/len(train)} for what, s in best.items()})

# Reading

def write_csv(r, path, piece=2_000_000):
    "The ratings as MovieLens writes them, with made-up times."
    g = np.random.default_rng(0)
    for at in range(0, len(r), piece):
        f = r.take(slice(at, at + piece)).to_frame()
        f['timestamp'] = g.integers(800_000_000, 1_700_000_000, len(f))
        f.to_csv(path, index=False, header=not at, mode='a')

def reading(method, settings, train, valid, test, times=3):
    "Seconds of a first load by pandas and by the book, and of a second load: medians, the readers taking turns."
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        path = Path(folder)/'ratings.csv'
        write_csv(train, path)
        def frame(): return pd.read_csv(path, engine='c', dtype=COLUMNS, usecols=list(COLUMNS))
        frame()                                                       # from here on the file is in memory, for all
        first = seconds(lambda: load_fast(folder))
        readers = frame, lambda: load_ratings(folder), lambda: load_fast(folder)
        took = [[seconds(f) for f in readers] for _ in range(times)]
        size = path.stat().st_size/1e6
    pandas, book, again = map(median, zip(*took))
    found = {"pandas' C engine": pandas, 'load_ratings': book, 'load_fast, first': first, 'load_fast, second': again}
    return dict(csv_mb=size, table={n: {'seconds': s, 'times pandas': s/pandas} for n, s in found.items()})
