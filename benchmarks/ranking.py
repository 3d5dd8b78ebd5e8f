"""Clicks: the book's methods for lists beside implicit, LensKit and RecTools, on the same splits, with the same metric
code; writes `ranking.jsonl`.

    make ranking                                            # their own environments, then the whole run
    MFBOOK_DATA=... python benchmarks/ranking.py            # the runs that are not in ranking.jsonl yet
    python benchmarks/ranking.py --only 'implicit ALS' --data ml-100k
    python benchmarks/ranking.py --table                    # what ranking.jsonl says
    python benchmarks/ranking.py --speed 32000000           # sweeps on so many synthetic events, taking turns; ranking_speed.jsonl

Two protocols. 'new users': whole users are held out and folded in from 80% of their events (`split_users`). 'last event':
each user's last event is the test, the one before it the validation (`split_last`). All other items compete, and
`list_quality` measures. On the first split of each data set and protocol a method tries the settings of its grid on the
validation events, by nDCG@100, and keeps the best for all splits. Each family's grids are equally large; a row of the
table says which settings were chosen. 'same settings' are rows of implicit ALS and of the book's with the library's
objective written in the book's parameters:

    the library   sum over events c (1 - r)^2 + sum over other pairs r^2 + reg (|p|^2 + |q|^2)
    the book      sum over events (1 - r)^2 + w sum over all pairs r^2 + reg' (|p|^2 + |q|^2)

with w = 1/(c - 1), reg' = reg/c and reg_exp = 0. The library's best r is then c/(c - 1) times the book's, and the lists are
the same.

Events: films with 4 stars or more (ml-100k, ml-latest-small); everything that stands in MovieTweetings' 100K snapshot,
whatever the rating; and everything in the first 100,000 lines of Book-Crossing, whose zeros are what its publishers call
implicit ratings. Of the last two, users and items with fewer than five events are taken out, again and again until none
is left.
"""
import argparse, importlib.util, os, subprocess, sys, tempfile, time

# before numpy, torch and the peers are loaded
THREADS = ['OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'RAYON_NUM_THREADS',
           'LK_NUM_PROCS', 'LK_NUM_THREADS', 'LK_NUM_BACKEND_THREADS']
if __name__ == '__main__' and '--speed' not in sys.argv: os.environ.update(dict.fromkeys(THREADS, '1'))

from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Callable, NamedTuple
import numpy as np
import pandas as pd
import torch
from ledger import forget_peak, machine, peak_mb, ratings_sha256, read_rows, split_hash, write_rows
from mfbook.compiled import CompiledImplicitALSSolver
from mfbook.holdout import split_last
from mfbook.implicit import (ImplicitALSSolver, ease, ease_scores, event_matrix, events_from_frame, events_from_ratings,
                             fit_bpr, fit_implicit_als, fold_in_events, list_quality, popular, scores_of_rows, split_users)
from mfbook.model import MatrixFactorization
from mfbook.movielens import load_ratings
from mfbook.ratings import Ratings

PATH = Path(__file__).resolve().parent/'ranking.jsonl'
SPLITS = 5
SWEEPS = 16
EPOCHS = 100
K = 32

# Data

def core(frame, least=5):
    "The rows of users and items with `least` rows or more, once all others are gone."
    while True:
        enough = (frame.groupby('user').item.transform('size') >= least)
        enough &= (frame.groupby('item').user.transform('size') >= least)
        if enough.all(): return frame
        frame = frame[enough]

def stars(name):
    def load(folder): return events_from_ratings(load_ratings(folder/name), 4)
    return load

def tweets(folder):
    columns = ['user', 'item', 'rating', 'timestamp']
    frame = pd.read_csv(folder/'foreign'/'movietweetings-100k'/'ratings.dat', sep='::', engine='python', names=columns)
    return events_from_frame(core(frame), 'user', 'item')

def books(folder):
    frame = pd.read_csv(folder/'foreign'/'bookcrossing'/'BX-Book-Ratings.csv', sep=';', encoding='latin-1',
                        names=['user', 'item', 'rating'], header=0, dtype=dict(item=str), on_bad_lines='skip')
    return events_from_frame(core(frame.drop_duplicates(['user', 'item'])), 'user', 'item')

DATA = {'ml-100k, 4+': stars('ml-100k'), 'ml-latest-small, 4+': stars('ml-latest-small'),
        'MovieTweetings': tweets, 'Book-Crossing': books}

def once(events):
    "The events with the value 1 each: no method here is told how often."
    return events_from_ratings(events)

def parts_of(events, protocol, seed):
    "(train, valid_given, valid, test_given, test) of a protocol. Its name is the first item of the tuple."
    if protocol == 'new users': return tuple(split_users(events, seed=seed))
    split = split_last(events)
    return split.train, split.train, split.valid, split.train, split.test

# Methods: (train, seed, settings) -> given -> a function of users that scores all items

class Fitted(NamedTuple):
    "Scores of known users, and of users folded in from the events they are given."
    known: Callable
    new: Callable

def popularity(train, seed):
    scores = popular(train)
    return Fitted(lambda given: scores, lambda given: scores)

def our_ease(train, seed, reg):
    B = ease(train, reg)
    return Fitted(lambda given: ease_scores(B, given), lambda given: ease_scores(B, given))

def our_als(train, seed, **settings):
    model = MatrixFactorization(train, k=K, seed=seed)
    fit_implicit_als(model, train, sweeps=SWEEPS, progress=False, **settings)
    def new(given): return scores_of_rows(model, fold_in_events(model, given))
    return Fitted(lambda given: scores_of_rows(model, model.rows('user')), new)

def our_bpr(train, seed, **settings):
    model = MatrixFactorization(train, k=K, seed=seed)
    fit_bpr(model, train, epochs=EPOCHS, seed=seed, progress=False, **settings)
    return Fitted(lambda given: scores_of_rows(model, model.rows('user')), None)

def product_scores(P, Q):
    P, Q = torch.as_tensor(P), torch.as_tensor(Q)
    return lambda users: P[users] @ Q.T

def csr(events):
    from scipy.sparse import csr_matrix
    return csr_matrix(event_matrix(events))

def library_als(train, seed, **settings):
    from implicit.cpu.als import AlternatingLeastSquares
    model = AlternatingLeastSquares(factors=K, iterations=SWEEPS, random_state=seed, num_threads=1, **settings)
    model.fit(csr(train), show_progress=False)
    def new(given):
        rows = model.recalculate_user(np.arange(given.n_users), csr(given))
        return product_scores(rows, model.item_factors)
    return Fitted(lambda given: product_scores(model.user_factors, model.item_factors), new)

def library_bpr(train, seed, **settings):
    from implicit.cpu.bpr import BayesianPersonalizedRanking
    model = BayesianPersonalizedRanking(factors=K, iterations=EPOCHS, random_state=seed, num_threads=1, **settings)
    model.fit(csr(train), show_progress=False)
    return Fitted(lambda given: product_scores(model.user_factors, model.item_factors), None)

def lenskit_als(train, seed, **settings):
    from lenskit.als import ImplicitMFConfig, ImplicitMFScorer
    from lenskit.data import ItemList, from_interactions_df
    from lenskit.training import TrainingOptions
    def table(events): return pd.DataFrame(dict(user_id=events.users.numpy(), item_id=events.items.numpy()))
    scorer = ImplicitMFScorer(ImplicitMFConfig(embedding_size=K, epochs=SWEEPS, **settings))
    scorer.train(from_interactions_df(table(train)), TrainingOptions(rng=seed))
    Q = np.zeros((train.n_items, K), dtype=np.float32)
    trained = np.asarray(scorer.items.ids())
    Q[trained] = scorer.item_embeddings
    def new(given):
        P = np.zeros((given.n_users, K), dtype=np.float32)
        for user, own in table(given).groupby('user_id'):
            items = np.intersect1d(own.item_id, trained)
            if len(items): P[user], _ = scorer.new_user_embedding(None, ItemList(item_ids=items))
        return product_scores(P, Q)
    def known(given):
        P = np.zeros((train.n_users, K), dtype=np.float32)
        P[np.asarray(scorer.users.ids())] = scorer.user_embeddings
        return product_scores(P, Q)
    return Fitted(known, new)

def rectools_fit(model, train):
    "A model of RecTools, fitted, and the rows that our users and items have in it."
    from rectools.dataset import Dataset
    table = pd.DataFrame(dict(user_id=train.users.numpy(), item_id=train.items.numpy(), weight=1., datetime='2000-01-01'))
    dataset = Dataset.construct(table)
    model.fit(dataset)
    return dataset.user_id_map.external_ids, dataset.item_id_map.external_ids

def rectools_ease(train, seed, reg):
    from rectools.models import EASEModel
    model = EASEModel(regularization=reg)
    _, items = rectools_fit(model, train)
    B = torch.zeros(train.n_items, train.n_items)
    B[np.ix_(items, items)] = torch.from_numpy(model.weight).float()
    return Fitted(lambda given: ease_scores(B, given), lambda given: ease_scores(B, given))

def rectools_svd(train, seed, factors):
    from rectools.models import PureSVDModel
    model = PureSVDModel(factors=factors, random_state=seed)
    users, items = rectools_fit(model, train)
    P, Q = torch.zeros(train.n_users, factors), torch.zeros(train.n_items, factors)
    for side, rows, found in ((P, users, model.user_factors), (Q, items, model.item_factors)):
        side[rows] = torch.from_numpy(np.ascontiguousarray(found)).float()
    return Fitted(lambda given: product_scores(P, Q), None)

# Settings

def grid(**options): return [dict(zip(options, values)) for values in product(*options.values())]

WEIGHTS = (0.03, 0.1, 0.3, 1.)             # of a pair without an event, beside that of an event
REGS = (1., 3., 10., 30.)                  # of the factors, in the book's objective with reg_exp=0

def in_the_librarys_words(weight, reg):
    c = 1 + 1/weight
    return dict(alpha=c, regularization=reg*c)

class Method(NamedTuple):
    fit: Callable
    grid: list
    package: str = 'mfbook'
    new_users: bool = True      # whether it can fold in

SAME = dict(weight=0.1, reg=3.)

METHODS = {
    'popularity': Method(popularity, [{}]),
    'EASE': Method(our_ease, grid(reg=[30., 60., 100., 200., 400., 800.])),
    'iALS': Method(our_als, grid(unobserved_weight=WEIGHTS, reg=[0.001, 0.003, 0.01, 0.03])),
    'iALS, reg_exp=0': Method(our_als, grid(unobserved_weight=WEIGHTS, reg=REGS, reg_exp=[0.])),
    'implicit ALS': Method(library_als, [in_the_librarys_words(w, r) for w, r in product(WEIGHTS, REGS)], 'implicit'),
    'LensKit ALS': Method(lenskit_als, [dict(weight=1/w, regularization=r/w) for w, r in product(WEIGHTS, REGS)], 'lenskit'),
    'iALS, same settings': Method(our_als, [dict(unobserved_weight=SAME['weight'], reg=SAME['reg'], reg_exp=0.)]),
    'implicit ALS, same settings': Method(library_als, [in_the_librarys_words(**SAME) | dict(use_cg=False)], 'implicit'),
    'implicit ALS, same settings, CG': Method(library_als, [in_the_librarys_words(**SAME)], 'implicit'),
    'BPR': Method(our_bpr, grid(lr=[0.003, 0.01, 0.03], reg=[0.01, 0.03, 0.1]), new_users=False),
    'implicit BPR': Method(library_bpr, grid(learning_rate=[0.003, 0.01, 0.03], regularization=[0.01, 0.03, 0.1]),
                           'implicit', new_users=False),
    'RecTools EASE': Method(rectools_ease, grid(reg=[30., 60., 100., 200., 400., 800.]), 'rectools'),
    'RecTools PureSVD': Method(rectools_svd, grid(factors=[8, 16, 32, 64, 128, 256]), 'rectools', new_users=False),
}

def installed():
    "The methods whose package this environment has: RecTools wants an older numpy than the others."
    return [name for name, method in METHODS.items() if importlib.util.find_spec(method.package)]

# Runs

def measure(method, parts, protocol, seed, settings, valid):
    "Mean metrics of a fit, on validation or test events."
    train, valid_given, valid_wanted, test_given, test_wanted = parts
    fitted = method.fit(train, seed, **settings)
    given, wanted = (valid_given, valid_wanted) if valid else (test_given, test_wanted)
    scores = fitted.known(given) if protocol == 'last event' else fitted.new(given)
    return list_quality(scores, given, wanted).mean()

def choose(method, parts, protocol):
    "The settings with the highest nDCG@100 of the validation events of the first split."
    if len(method.grid) == 1: return method.grid[0]
    return max(method.grid, key=lambda settings: measure(method, parts, protocol, 0, settings, True)['ndcg@100'])

def versions(package): return {package: version(package), 'torch': version('torch'), 'numpy': version('numpy')}

def rows_of(name, data, protocol, events):
    "A row for each split of one method."
    method = METHODS[name]
    start = time.process_time()
    settings = choose(method, parts_of(events, protocol, 0), protocol)
    choosing = time.process_time() - start
    for seed in range(SPLITS):
        parts = parts_of(events, protocol, seed)
        start = time.process_time()
        found = measure(method, parts, protocol, seed, settings, False)
        seconds = time.process_time() - start
        yield dict(data=data, data_sha256=ratings_sha256(events), protocol=protocol, split_hash=split_hash(*parts), seed=seed,
                   method=name, k=settings.get('factors', K), settings=settings, **found.round(6).to_dict(), seconds=round(seconds, 3),
                   choosing=round(choosing, 3), **machine() | dict(versions=versions(method.package)))

def protocols(name, events):
    "The protocols that a method and a data set know."
    if METHODS[name].new_users: yield 'new users'
    if events.timestamps is not None: yield 'last event'

def run(args):
    folder = Path(os.environ['MFBOOK_DATA'])
    for data in args.data or DATA:
        events = once(DATA[data](folder))
        print(data, events, flush=True)
        for name in args.only or installed():
            for protocol in protocols(name, events):
                key = dict(data=data, protocol=protocol, method=name)
                rows = read_rows(args.file)
                there = [row for row in rows if key.items() <= row.items()]
                if there and not args.again: continue
                new = list(rows_of(name, data, protocol, events))
                others = [row for row in read_rows(args.file) if not key.items() <= row.items()]
                write_rows(args.file, [*others, *new])
                frame = pd.DataFrame(new)
                print(f'{protocol:10} {name:32} nDCG@100 {frame["ndcg@100"].mean():.4f} ± {frame["ndcg@100"].std():.4f}',
                      new[0]['settings'], f'{frame.seconds.mean():.1f} s', flush=True)

def table(path):
    "Means and standard deviations over the splits."
    frame = pd.DataFrame(read_rows(path))
    metrics = ['recall@20', 'recall@50', 'ndcg@100']
    groups = frame.groupby(['data', 'protocol', 'method'], sort=False)
    means = groups[[*metrics, 'seconds']].mean().round(4)
    means['sd of ndcg'] = groups['ndcg@100'].std().round(4)
    return means

# Speed

SPEED = PATH.with_name('ranking_speed.jsonl')
SPEED_K = 64
SWEEPERS = ['compiled iALS, CG', 'iALS, CG', 'implicit ALS, CG']     # the last with its default, three steps

CONFIDENCE = 11                                     # the library's weight of an event, beside 1 of every other pair
SAME = dict(unobserved_weight=1/(CONFIDENCE - 1), reg=.1/CONFIDENCE, reg_exp=0.)      # its objective with reg=0.1

def sweeper(name, events):
    "Two functions: one makes a sweep of a method over the events, one gives users' and items' factors for `SAME`."
    threads = torch.get_num_threads()
    if name != 'implicit ALS, CG':
        if name == 'compiled iALS, CG':
            few = events.take(slice(500))
            CompiledImplicitALSSolver(MatrixFactorization(few, k=2), few).sweep()      # compiled, or read from the disk
        model = MatrixFactorization(events, k=SPEED_K)
        if name == 'compiled iALS, CG': solver = CompiledImplicitALSSolver(model, events, **SAME)
        else: solver = ImplicitALSSolver(model, events, **SAME, cg_steps=2)
        return solver.sweep, lambda: [model.rows(side)[:, :-1] for side in ('user', 'item')]

    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits
    X = csr(events)
    X.data[:] = CONFIDENCE
    XT = X.T.tocsr()
    library = AlternatingLeastSquares(factors=SPEED_K, regularization=.1, num_threads=threads)
    g = np.random.default_rng(0)
    P, Q = (.01*g.random((rows, SPEED_K), dtype=np.float32) for rows in X.shape)
    def sweep():
        with threadpool_limits(1, 'blas'):
            library.solver(XT, Q, P, .1, num_threads=threads)
            library.solver(X, P, Q, .1, num_threads=threads)
    scale = ((CONFIDENCE - 1)/CONFIDENCE)**.5
    return sweep, lambda: [torch.from_numpy(scale*side) for side in (P, Q)]

def objective(P, Q, events, chunk=2**20):
    "What `SAME` minimizes, per event."
    total = SAME['unobserved_weight']*((P.T @ P)*(Q.T @ Q)).sum(dtype=torch.float64)
    total += SAME['reg']*(P.square().sum(dtype=torch.float64) + Q.square().sum(dtype=torch.float64))
    for users, items in zip(events.users.split(chunk), events.items.split(chunk)):
        total += (1 - torch.linalg.vecdot(P[users], Q[items])).square().sum(dtype=torch.float64)
    return (total/len(events)).item()

def clicks(n, folder):
    "So many synthetic events, made once and then read: each process holds them and no more."
    from mfbook.scale import synthetic_ratings
    path = Path(folder)/f'{n}.pt'
    if not path.exists(): torch.save(synthetic_ratings(n).ratings, path)
    return once(torch.load(path, weights_only=False))

def alone(name, n, folder):
    "Peak memory (MB) that a method adds to the events, in this process."
    torch.set_num_threads(os.cpu_count())
    events = clicks(n, folder)
    forget_peak()
    before = peak_mb()
    sweep, _ = sweeper(name, events)
    for _ in range(2): sweep()
    append(dict(what='memory', events=n, name=name, k=SPEED_K, data_mb=round(before), peak_mb=round(peak_mb())))

def append(row):
    about = {key: machine()[key] for key in ('threads', 'processor')}
    write_rows(SPEED, [*read_rows(SPEED), dict(row, **about)])
    print(row, flush=True)

def speed(n, rounds=5):
    "Sweeps that take turns in one process, seconds of clock and processor; then each method's memory in one of its own."
    torch.set_num_threads(os.cpu_count())
    with tempfile.TemporaryDirectory() as folder:
        events = clicks(n, folder)
        works = {name: sweeper(name, events) for name in SWEEPERS}
        for turn in range(1, rounds + 1):
            for name, (sweep, factors) in works.items():
                start = time.perf_counter(), time.process_time()
                sweep()
                wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
                append(dict(what='sweep', events=n, name=name, k=SPEED_K, turn=turn, wall=wall, cpu=cpu,
                            loss=objective(*factors(), events)))
        del events, works
        for name in SWEEPERS:
            subprocess.run([sys.executable, __file__, '--speed', str(n), '--alone', name, folder], check=True)

def speed_table(n=32_000_000, path=SPEED):
    "A row a method: median seconds of a sweep, times implicit's in the same turn, and megabytes beside the events."
    frame = pd.DataFrame(read_rows(path))
    frame = frame[frame.events == n]
    sweeps = frame[frame.what == 'sweep'].pivot(index='turn', columns='name', values='wall')
    memory = frame[frame.what == 'memory'].drop_duplicates('name', keep='last').set_index('name')
    ratios = sweeps.div(sweeps[SWEEPERS[-1]], axis=0)
    last = frame[(frame.what == 'sweep') & (frame.turn == frame.turn.max())].set_index('name')
    return pd.DataFrame({'a sweep (s)': sweeps.median(), 'times implicit': ratios.median(), 'loss at the end': last.loss,
                         'memory beside the events (MB)': memory.peak_mb - memory.data_mb}).loc[SWEEPERS]

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--only', nargs='*', choices=METHODS, help='these methods alone')
    parser.add_argument('--data', nargs='*', choices=DATA, help='these data sets alone')
    parser.add_argument('--file', default=PATH, help='where to write')
    parser.add_argument('--again', action='store_true', help='run anew what is there already')
    parser.add_argument('--table', action='store_true', help='print what is there')
    parser.add_argument('--speed', type=int, help='time sweeps on so many synthetic events')
    parser.add_argument('--alone', nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone: alone(args.alone[0], args.speed, args.alone[1])
    elif args.speed: speed(args.speed)
    elif args.table: print(table(args.file).to_string())
    else:
        torch.set_num_threads(1)
        run(args)
