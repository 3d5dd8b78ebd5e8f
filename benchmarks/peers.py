"""The book's methods beside myFM, Surprise, LensKit and Cornac on the same folds; writes
`peers.jsonl`.

    make peers                                          # its own environment, then the whole run
    MFBOOK_DATA=... python benchmarks/peers.py          # the runs that are not in peers.jsonl yet
    MFBOOK_DATA=... python benchmarks/peers.py --again  # all of them
    python benchmarks/peers.py --only myFM 'Cornac MF'  # these methods alone
    python benchmarks/peers.py --table                  # what peers.jsonl says

The data sets, folds and validation cuts are those of accuracy.py. On the first fold of a split
each method tries the settings of its grid on the validation set, and keeps the best of them for
the other folds: a small help to the method, because that validation set lies in the other folds'
test parts. It is fitted on the whole training part of each fold and meets the test set once; its
predictions are clamped to the rating range. There are these exceptions:

- myFM and the book's Gibbs sampler have nothing to choose: 30 factors, 150 sweeps; nor has its
  variational Bayes: 30 factors, 20 sweeps. Each sampler leaves out the sweeps at the start that
  it leaves out by itself: myFM 5, Gibbs 20. The sampler's row means depend on who rated what;
  'Gibbs, no features' is the sampler without that, which knows what myFM knows.
- The book's biases are tuned on each fold's own validation cut, and its SGD and ALS take from
  results.jsonl the settings that accuracy.py chose there, so that nothing has helped them.
- Surprise's SVD++ is slow: a fit takes minutes where users have many ratings. It has one setting,
  the best of ten that were tried, and meets only the first fold of each split.

The peers' grids vary what matters most and hold the rest fixed, at values that were the best of
several tried on the validation cuts of the first random folds of ml-100k and ml-latest-small.
SVD++'s setting was found there too.

Every method has one thread, because the fits of myFM and Surprise use no more. Seconds are those of
the processor, which other programs on the machine change little.
"""
import argparse, os, subprocess, sys, time

# before numpy, torch and the peers are loaded
THREADS = ['OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'RAYON_NUM_THREADS',
           'LK_NUM_PROCS', 'LK_NUM_THREADS', 'LK_NUM_BACKEND_THREADS']
if __name__ == '__main__': os.environ.update(dict.fromkeys(THREADS, '1'))

from contextlib import redirect_stderr
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Callable, NamedTuple
import io, warnings
import numpy as np
import pandas as pd
import torch
import accuracy
from ledger import forget, forget_peak, machine, read, record, split_hash
from mfbook.als import fit_als
from mfbook.features import who_rated_what
from mfbook.gibbs import fit_gibbs
from mfbook.holdout import concat, mae, rmse
from mfbook.model import MatrixFactorization
from mfbook.runs import fit_biases, fit_sgd, tune_biases
from mfbook.variational import fit_variational

PATH = Path(__file__).resolve().parent/'peers.jsonl'

# What is fitted: a function of train, seed and settings, which returns one that predicts `Ratings`.

def book(fit, seeded=False, patterns=0):
    """A method of the book. `seeded`: whether the seed is one of the settings of `fit` as well.

    `patterns`: how many features of `who_rated_what` it knows, if `features` does not say.
    """
    def method(train, seed, k=0, features=patterns, **settings):
        if seeded: settings['seed'] = seed
        if features: settings['features'] = who_rated_what(train, features)
        model = MatrixFactorization(train, k=k, seed=seed)
        fit(model, train, progress=False, **settings)
        return model.predict
    return method

def myfm(train, seed, k, sweeps, burn_in):
    "myFM on a column for each user and each item, in two groups, as in its own MovieLens example."
    from myfm import MyFMRegressor
    from scipy.sparse import csr_matrix

    def columns(ratings):
        "Two ones in each rating's row: (n, n_users + n_items)."
        n = len(ratings)
        users = ratings.users.numpy()
        items = ratings.n_users + ratings.items.numpy()
        at = np.stack([users, items], 1).astype(np.int64).ravel()
        shape = n, ratings.n_users + ratings.n_items
        return csr_matrix((np.ones(2*n), at, np.arange(0, 2*n + 1, 2)), shape)

    X = columns(train)
    seen = np.flatnonzero(X.sum(0))                  # those without ratings have no column
    n_users = int((seen < train.n_users).sum())
    model = MyFMRegressor(rank=k, random_seed=seed)
    model.fit(X[:, seen], train.values.numpy(), group_shapes=[n_users, len(seen) - n_users],
              n_iter=sweeps, n_kept_samples=sweeps - burn_in)
    return lambda ratings: model.predict(columns(ratings)[:, seen])

def triples(ratings, seed=None):
    """Users, items and values as lists.

    A `seed` draws their order, because neither Cornac nor Surprise shuffles.
    """
    order = slice(None)
    if seed is not None: order = np.random.default_rng(seed).permutation(len(ratings))
    columns = ratings.users, ratings.items, ratings.values
    return [column.numpy()[order].tolist() for column in columns]

def surprise(name, **fixed):
    "Surprise's SVD or SVDpp."
    def method(train, seed, k, lr, reg, epochs):
        import surprise
        users, items, values = triples(train, seed)
        frame = pd.DataFrame(dict(user=users, item=items, rating=values))
        reader = surprise.Reader(rating_scale=train.rating_range)
        data = surprise.Dataset.load_from_df(frame, reader).build_full_trainset()

        algorithm = getattr(surprise, name)
        model = algorithm(n_factors=k, lr_all=lr, reg_all=reg, n_epochs=epochs,
                          random_state=seed, **fixed)
        model.fit(data)
        return lambda ratings: [found.est for found in model.test(list(zip(*triples(ratings))))]
    return method

def lenskit(train, seed, k, reg, epochs):
    """LensKit's explicit ALS in its own pipeline.

    It solves each user once more, and has biases for what is new.
    """
    from lenskit import batch
    from lenskit.als import BiasedMFScorer
    from lenskit.data import from_interactions_df
    from lenskit.pipeline import predict_pipeline
    from lenskit.training import TrainingOptions

    def frame(ratings):
        return pd.DataFrame(dict(user_id=ratings.users.numpy(), item_id=ratings.items.numpy(),
                                 rating=ratings.values.numpy()))

    pipeline = predict_pipeline(BiasedMFScorer(embedding_size=k, regularization=reg, epochs=epochs))
    pipeline.train(from_interactions_df(frame(train)), TrainingOptions(rng=seed))

    def predict(ratings):
        wanted = frame(ratings)
        scores = batch.predict(pipeline, wanted, n_jobs=1).to_df()[['user_id', 'item_id', 'score']]
        return wanted.merge(scores, on=['user_id', 'item_id'], how='left').score
    return predict

def cornac(train, seed, k, lr, reg, epochs):
    "Cornac's MF, with biases."
    from cornac.data import Dataset
    from cornac.models import MF
    data = Dataset.from_uir(list(zip(*triples(train, seed))), seed=seed)
    model = MF(k=k, learning_rate=lr, lambda_reg=reg, max_iter=epochs, seed=seed).fit(data)

    def predict(ratings):
        users, items, _ = triples(ratings)
        pairs = [(data.uid_map.get(u, -1), data.iid_map.get(i, -1)) for u, i in zip(users, items)]
        return [model.rate(user, item) for user, item in pairs]
    return predict

# What chooses the settings: a grid, or a function of train, valid and the split's hash.

def grid(**values):
    "Every combination of the values, as dicts."
    return [dict(zip(values, combination)) for combination in product(*values.values())]

def tuned_biases(train, valid, name):
    return {setting: float(value) for setting, value in tune_biases(train, valid).items()}

def settings_of(row):
    "The settings of a ledger's row, k included."
    return dict(k=int(row.k), **row.settings)

def from_results(method):
    "The settings that accuracy.py chose on the same split."
    return lambda train, valid, name: settings_of(read(method=method, split_hash=name).iloc[0])

class Method(NamedTuple):
    fit: Callable
    grid: list|Callable
    package: str = 'mfbook'

METHODS = {
    'biases':      Method(book(fit_biases), tuned_biases),
    'SGD':         Method(book(fit_sgd, seeded=True), from_results('SGD')),
    'ALS':         Method(book(fit_als), from_results('ALS')),
    'variational': Method(book(fit_variational), grid(k=[30], sweeps=[20], features=[16])),
    'Gibbs':       Method(book(fit_gibbs, seeded=True),
                          grid(k=[30], sweeps=[150], burn_in=[20], features=[16])),
    'Gibbs, no features': Method(book(fit_gibbs, seeded=True),
                                 grid(k=[30], sweeps=[150], burn_in=[20], features=[0])),
    'myFM':        Method(myfm, grid(k=[30], sweeps=[150], burn_in=[5]), 'myfm'),
    'Surprise SVD': Method(surprise('SVD'),
                           grid(k=[200], lr=[.01], reg=[.08, .1, .12, .14], epochs=[75]),
                           'scikit-surprise'),
    'Surprise SVD++': Method(surprise('SVDpp', cache_ratings=True),
                             grid(k=[50], lr=[.01], reg=[.1], epochs=[40]),
                             'scikit-surprise'),
    'LensKit ALS': Method(lenskit, grid(k=[75], reg=[.1, .125, .15], epochs=[20]), 'lenskit'),
    'Cornac MF':   Method(cornac,
                          grid(k=[200], lr=[.005], reg=[.035, .05, .065, .08],
                               epochs=[50, 75, 100]),
                          'cornac'),
}
SLOW = ['Surprise SVD++']         # it meets only the first fold of each split

# The run

def splits():
    "The folds of accuracy.py, without its random splits of the sample."
    return (cut for cut in accuracy.splits() if cut.split != 'random 80/10/10')

def clamped(values, ratings):
    "Predictions within the rating range: (n,) float32."
    return torch.as_tensor(np.asarray(values, dtype=np.float32)).clamp(*ratings.rating_range)

def choose(fit, grid, train, valid, seed):
    "The settings of `grid` with the lowest RMSE on `valid`."
    if len(grid) == 1: return grid[0]
    def error(settings): return rmse(clamped(fit(train, seed, **settings)(valid), valid), valid)
    return min(grid, key=error)

def found(**where):
    "The first row of peers.jsonl with these fields, or None."
    try: return read(PATH, **where).iloc[0]
    except ValueError: return None

def settings_for(method, cut, name):
    "The settings to fit with: those that a grid has chosen on an earlier fold, or chosen now."
    fit, grid, _ = METHODS[method]
    if callable(grid): return grid(cut.train, cut.valid, name)
    before = found(method=method, data=cut.data, split=cut.split)
    if before is not None: return settings_of(before)
    return choose(fit, grid, cut.train, cut.valid, cut.seed)

def to_do(method, cut, name):
    "Whether the run is missing in peers.jsonl."
    if found(method=method, split_hash=name) is not None: return False
    first = found(method=method, data=cut.data, split=cut.split) is None
    return first or method not in SLOW

def run(method):
    "One method on every split that is not in peers.jsonl yet."
    fit, _, package = METHODS[method]
    versions = {**machine()['versions'], package: version(package)}
    warm = None
    for cut in splits():
        name = split_hash(cut.train, cut.valid, cut.test)
        if not to_do(method, cut, name): continue

        start = time.process_time()
        settings = settings_for(method, cut, name)
        choosing = time.process_time() - start
        if warm is None:                       # so that no import is in the time of a fit
            warm = fit(cut.train.take(slice(0, 500)), cut.seed, **settings)

        predict = None                         # the last fold's model goes
        forget_peak()
        start = time.process_time()
        predict = fit(concat(cut.train, cut.valid), cut.seed, **settings)
        fitting = time.process_time() - start

        predicted = clamped(predict(cut.test), cut.test)
        error = rmse(predicted, cut.test)
        record(PATH, data=cut.data, data_sha256=cut.data_sha256, split=cut.split, split_hash=name,
               seed=cut.seed, method=method, k=settings.get('k', 0),
               settings={setting: value for setting, value in settings.items() if setting != 'k'},
               rmse=error, mae=mae(predicted, cut.test), seconds=round(choosing + fitting, 2),
               fit_seconds=round(fitting, 2), threads=1, versions=versions)
        print(f'{cut.data} {cut.split} {cut.seed} {method:14} RMSE {error:.4f} {settings} '
              f'chosen in {choosing:.1f} s, fitted in {fitting:.1f} s', flush=True)

# What the file says

def table(value='rmse', first=False):
    """The mean of `value` over the folds: a row for each data set and split, a column a method.

    Of the methods that met all folds; or with `first` of all methods, on each split's first fold.
    """
    frame = read(PATH).pivot(index=['data', 'split', 'seed'], columns='method', values=value)
    frame = frame[[method for method in METHODS if method in frame]].rename_axis(columns=None)
    by_split = frame.groupby(['data', 'split'])
    if first: return by_split.head(1).droplevel('seed')
    means = by_split.agg(lambda column: column.mean(skipna=False))
    return means.dropna(axis=1)

def print_tables():
    seconds = table('fit_seconds')
    print('Mean test RMSE over the folds', table().round(4).to_string(), sep='\n')
    print('\nTest RMSE on the first fold', table(first=True).round(4).to_string(), sep='\n')
    print('\nSeconds of a fit', seconds.round(1).to_string(), sep='\n')
    if 'myFM' in seconds:
        times = seconds.div(seconds['myFM'], axis=0)
        print("\nThe same, myFM's as 1", times.round(2).to_string(), sep='\n')

def run_here(method):
    "Run one method in this process. Returns the exit status: a message if its package is missing."
    torch.set_num_threads(1)
    warnings.filterwarnings('ignore')                  # of the peers
    try:
        with redirect_stderr(io.StringIO()): run(method)
    except PackageNotFoundError as error:
        return f'{method}: no {error.name} here. benchmarks/README.md says how to install the peers'

def run_apart(methods):
    "Run each method in a process of its own, so that none disturbs another; how many failed."
    commands = [[sys.executable, __file__, '--only', method] for method in methods]
    return sum(subprocess.run(command).returncode != 0 for command in commands)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', choices=METHODS, default=list(METHODS),
                        metavar='METHOD', help=', '.join(METHODS))
    parser.add_argument('--again', action='store_true',
                        help='forget what peers.jsonl holds of these methods first')
    parser.add_argument('--table', action='store_true',
                        help='print what peers.jsonl holds, and run nothing')
    args = parser.parse_args()
    if args.table:
        print_tables()
        sys.exit()
    if args.again:
        for method in args.only: forget(PATH, method=method)
    sys.exit(run_here(args.only[0]) if len(args.only) == 1 else run_apart(args.only))
