"""The clock of scale.py, and the parts of it that are not fits: rates of SGD, where a sweep's time
goes, and reading."""
from contextlib import redirect_stdout
from itertools import islice
from pathlib import Path
from statistics import median
from unittest.mock import patch
import io, os, tempfile, time
import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from mfbook.als import RowPrior, both_sides, cg_rows, exact_rows, gram, look_up, lookup_table
from mfbook.gibbs import draw_rows
from mfbook.model import OTHER, SIDES, MatrixFactorization
from mfbook.movielens import load_ratings
from mfbook.training import batches, closed_form, compiled, penalty_of

# The clock

def timed(steps):
    "Seconds of each step of a generator, the time between two steps left out; and what it yields."
    over = object()
    while True:
        start = time.perf_counter()
        found = next(steps, over)
        if found is over: return
        yield time.perf_counter() - start, found

def seconds(work):
    "Seconds of a call."
    start = time.perf_counter()
    work()
    return time.perf_counter() - start

# Rates

class Tiny(nn.Module):
    "The student's model, as lesson 02 begins with it."
    def __init__(self, n_users, n_items, k=32):
        super().__init__()
        self.users = nn.Embedding(n_users, k, max_norm=1)
        self.items = nn.Embedding(n_items, k, max_norm=1)

    def forward(self, users, items): return (self.users(users)*self.items(items)).sum(1)

def student_rate(train, n_batches=30, batch_size=1024):
    "Ratings a second of the student's loop, once it is under way."
    data = TensorDataset(train.users, train.items, train.values)
    loader = iter(DataLoader(data, batch_size=batch_size, shuffle=True))
    model = Tiny(train.n_users, train.n_items)
    optimizer = torch.optim.Adam(model.parameters(), lr=.01)

    def some(n):
        for users, items, values in islice(loader, n):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(users, items), values).backward()
            optimizer.step()

    some(3)
    return n_batches*batch_size/seconds(lambda: some(n_batches))

def step_rate(train, update, batch_size=4096, n=2**20):
    "Ratings a second of the steps alone, on batches that lie ready: the best of three rounds."
    step = update(MatrixFactorization(train, k=32))
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    some = train.take(order[:n])
    ready = [batch for batch in batches(some, batch_size, 0) if len(batch[2]) == batch_size]

    penalty = penalty_of(train, 0., 0.)
    def work():
        for batch in ready: step(*batch, 1e-9, penalty)

    work()                                                  # compiled here
    return len(ready)*batch_size/min(seconds(work) for _ in range(3))

def rates(method, settings, train, valid, test):
    "Million ratings a second on one thread, and how many times the student's loop that is."
    torch.set_num_threads(1)
    loop = student_rate(train)
    found = {'DataLoader loop': loop,
             'by hand': step_rate(train, closed_form),
             'compiled': step_rate(train, compiled)}
    table = {name: {'million/s': rate/1e6, 'times the loop': rate/loop}
             for name, rate in found.items()}
    return dict(table=table)

# Where a sweep's time goes

def profile_side(side, table, old, rng):
    "Seconds of what a sweep does on one side: the rows that it solves are `old`."
    d = old.shape[1]
    mean, precision = torch.zeros(1, d), torch.eye(d)
    prior = RowPrior(mean, precision)
    noise_sd = torch.ones(side.n_rows)

    def each(work):                                         # and forget what it gives
        for chunk in side.chunks: work(chunk, table)

    fetched = seconds(lambda: each(look_up))
    grams = seconds(lambda: each(gram))
    exact = seconds(lambda: exact_rows(side, table, prior))
    three_steps = seconds(lambda: cg_rows(side, table, prior, old, 3))
    drawn = seconds(lambda: draw_rows(side, table, mean, precision, noise_sd, rng))
    return {'fetch rows': fetched,
            'Gram matrices': grams - fetched,
            'solve exactly': exact - grams,
            'three steps instead': three_steps - grams,
            'a draw instead': drawn - grams}

def profile(method, settings, train, valid, test, k=32, times=3):
    "Seconds on one thread of what a sweep does on both sides: the least of three rounds."
    torch.set_num_threads(1)
    model = MatrixFactorization(train, k=k)
    rng = np.random.default_rng(0)
    sides = both_sides(train, train.mean)
    rounds = []
    for _ in range(times):
        both = []
        for name in SIDES:
            table = lookup_table(model.rows(OTHER[name]))
            both.append(profile_side(sides[name], table, model.rows(name), rng))
        rounds.append(pd.DataFrame(both).sum())
    best = pd.DataFrame(rounds).min()
    table = {what: {'seconds': s, 'ns a rating': 1e9*s/len(train)} for what, s in best.items()}
    return dict(table=table)

# Reading

def write_csv(ratings, path, piece=2_000_000):
    "The ratings as MovieLens writes them, with made-up times."
    rng = np.random.default_rng(0)
    for start in range(0, len(ratings), piece):
        frame = ratings.take(slice(start, start + piece)).to_frame()
        frame['timestamp'] = rng.integers(800_000_000, 1_700_000_000, len(frame))
        frame.to_csv(path, index=False, header=start == 0, mode='a')

COLUMNS = dict(userId=np.int32, movieId=np.int32, rating=np.float32, timestamp=np.int64)

def reading(method, settings, train, valid, test, times=3):
    "Seconds of a first load by pandas and by the book, and of a second load: medians, by turns."
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, MFBOOK_CACHE=folder), \
         redirect_stdout(io.StringIO()):
        path = Path(folder)/'ratings.csv'
        write_csv(train, path)
        size = path.stat().st_size/1e6

        def frame(): pd.read_csv(path, engine='c', dtype=COLUMNS, usecols=list(COLUMNS))
        def uncached(): load_ratings(folder, cache=False)
        def load(): load_ratings(folder)

        frame()                                             # from here on the file is in memory
        first = seconds(load)
        took = [[seconds(frame), seconds(uncached), seconds(load)] for _ in range(times)]
    pandas, book, again = map(median, zip(*took))
    found = {"pandas' C engine": pandas,
             'load_ratings, cache=False': book,
             'load_ratings, first': first,
             'load_ratings, second': again}
    table = {name: {'seconds': s, 'times pandas': s/pandas} for name, s in found.items()}
    return dict(csv_mb=size, table=table)
