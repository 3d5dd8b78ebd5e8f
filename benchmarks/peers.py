"""The book's methods beside myFM, Surprise, LensKit and Cornac on the same folds; writes `peers.jsonl`.

    make peers                                           # an environment of its own, then the whole run
    MFBOOK_DATA=... python benchmarks/peers.py           # the runs that are not in peers.jsonl yet
    MFBOOK_DATA=... python benchmarks/peers.py --again   # all of them
    python benchmarks/peers.py --only myFM 'Cornac MF'   # these methods alone
    python benchmarks/peers.py --table                   # what peers.jsonl says

The data sets, folds and validation cuts are those of accuracy.py. On the first fold of a split each method tries the
settings of its grid on the validation set, and keeps the best of them for the other folds: a small help to the method, for
that validation set lies in the other folds' test parts. It is fitted on the whole training part of each fold and meets the
test set once; its predictions are clamped to the rating range. There are these exceptions:

- myFM and the book's Gibbs sampler have nothing to choose: 30 factors, 150 sweeps; nor has its variational Bayes: 30
  factors, 20 sweeps. Each sampler leaves out the sweeps at the
  start that it leaves out by itself: myFM 5, Gibbs 20. The sampler's row means depend on who rated what; 'Gibbs, no habits'
  is the sampler without that, which knows what myFM knows.
- The book's biases are tuned on each fold's own validation cut, and its SGD and ALS take from results.jsonl the settings
  that accuracy.py chose there, so that nothing has helped them.
- Surprise's SVD++ is slow: a fit takes minutes where users have many ratings. It has one setting, the best of ten that
  were tried, and meets only the first fold of each split.

The peers' grids vary what matters most and hold the rest still, at values that were the best of several tried on the
validation cuts of the first random folds of ml-100k and ml-latest-small. SVD++'s setting was found there too.

Every method has one thread, because the fits of myFM and Surprise know no more.
"""
import argparse, os, subprocess, sys, time
THREADS = dict.fromkeys('OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS RAYON_NUM_THREADS '
                        'LK_NUM_PROCS LK_NUM_THREADS LK_NUM_BACKEND_THREADS'.split(), '1')
if __name__ == '__main__': os.environ.update(THREADS)      # before numpy, torch and the peers are loaded
from contextlib import redirect_stderr
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
import io, warnings
import numpy as np
import pandas as pd
import torch
from accuracy import cut
from ledger import forget, forget_peak, machine, ratings_sha256, read, record, split_hash
from mfbook.als import fit_als
from mfbook.gibbs import fit_gibbs, fit_variational
from mfbook.holdout import fit_biases, folds, mae, rmse, tune_biases, union
from mfbook.model import MatrixFactorization
from mfbook.ratings import load_fold, load_ratings
from mfbook.training import fit_sgd

PATH = Path(__file__).resolve().parent/'peers.jsonl'

# What is fitted: a function of train, seed and settings, which gives a function that predicts the values of `Ratings`.

def biases(train, seed, reg_user, reg_item): return fit_biases(train, reg_user, reg_item).predict

def sgd(train, seed, k, **settings):
    model = MatrixFactorization(train, k=k, seed=seed)
    fit_sgd(model, train, seed=seed, progress=False, **settings)
    return model.predict

def als(train, seed, k, **settings):
    model = MatrixFactorization(train, k=k, seed=seed)
    fit_als(model, train, progress=False, **settings)
    return model.predict

def gibbs(train, seed, k, **settings):
    model = MatrixFactorization(train, k=k, seed=seed)
    fit_gibbs(model, train, seed=seed, progress=False, **settings)
    return model.predict

def variational(train, seed, k, **settings):
    model = MatrixFactorization(train, k=k, seed=seed)
    fit_variational(model, train, progress=False, **settings)
    return model.predict

def myfm(train, seed, k, sweeps, burn_in):
    "myFM on a column a user and a column an item, in two groups, as in its own MovieLens example without side information."
    from myfm import MyFMRegressor
    from scipy.sparse import csr_matrix
    def columns(r):
        at = np.stack([r.users.numpy(), r.n_users + r.items.numpy()], 1).astype(np.int64).ravel()
        return csr_matrix((np.ones(2*len(r)), at, np.arange(0, 2*len(r) + 1, 2)), (len(r), r.n_users + r.n_items))
    X = columns(train)
    seen = np.flatnonzero(X.sum(0))                                     # what nobody rated has no column
    shapes = [int((seen < train.n_users).sum()), int((seen >= train.n_users).sum())]
    fm = MyFMRegressor(rank=k, random_seed=seed)
    fm.fit(X[:, seen], train.values.numpy(), group_shapes=shapes, n_iter=sweeps, n_kept_samples=sweeps - burn_in)
    return lambda r: fm.predict(columns(r)[:, seen])

def triples(r, seed=None):
    "Users, items and values as lists; in an order drawn by `seed`, because neither Cornac nor Surprise shuffles."
    order = slice(None) if seed is None else np.random.default_rng(seed).permutation(len(r))
    return [x.numpy()[order].tolist() for x in (r.users, r.items, r.values)]

def surprise(name, **fixed):
    "Surprise's SVD or SVDpp."
    def fit(train, seed, k, lr, reg, epochs):
        import surprise
        frame = pd.DataFrame(dict(zip('uir', triples(train, seed))))
        data = surprise.Dataset.load_from_df(frame, surprise.Reader(rating_scale=train.rating_range)).build_full_trainset()
        model = getattr(surprise, name)(n_factors=k, lr_all=lr, reg_all=reg, n_epochs=epochs, random_state=seed, **fixed)
        model.fit(data)
        return lambda r: [p.est for p in model.test(list(zip(*triples(r))))]
    return fit

def lenskit(train, seed, k, reg, epochs):
    "LensKit's explicit ALS in its own pipeline: it solves each user once more, and knows biases for what is new."
    from lenskit import batch
    from lenskit.als import BiasedMFScorer
    from lenskit.data import from_interactions_df
    from lenskit.pipeline import predict_pipeline
    from lenskit.training import TrainingOptions
    def frame(r): return pd.DataFrame(dict(user_id=r.users.numpy(), item_id=r.items.numpy(), rating=r.values.numpy()))
    pipe = predict_pipeline(BiasedMFScorer(embedding_size=k, regularization=reg, epochs=epochs))
    pipe.train(from_interactions_df(frame(train)), TrainingOptions(rng=seed))
    def predict(r):
        scores = batch.predict(pipe, frame(r), n_jobs=1).to_df()[['user_id', 'item_id', 'score']]
        return frame(r).merge(scores, on=['user_id', 'item_id'], how='left').score
    return predict

def cornac(train, seed, k, lr, reg, epochs):
    "Cornac's MF, with biases."
    from cornac.data import Dataset
    from cornac.models import MF
    data = Dataset.from_uir(list(zip(*triples(train, seed))), seed=seed)
    model = MF(k=k, learning_rate=lr, lambda_reg=reg, max_iter=epochs, seed=seed).fit(data)
    def predict(r):
        users, items, _ = triples(r)
        return [model.rate(data.uid_map.get(u, -1), data.iid_map.get(i, -1)) for u, i in zip(users, items)]
    return predict

# What is tried: the method, how it is fitted, its grid (or what chooses its settings), the package it comes from.

def grid(**values): return [dict(zip(values, v)) for v in product(*values.values())]

def tuned_biases(train, valid, name): return dict(zip(('reg_user', 'reg_item'), map(float, tune_biases(train, valid))))

def from_results(method):
    "The settings which accuracy.py chose on the same split."
    def choose(train, valid, name):
        row = read(method=method, split_hash=name).iloc[0]
        return dict(k=int(row.k), **row.settings)
    return choose

METHODS = {
    'biases':         (biases, tuned_biases, 'mfbook'),
    'SGD':            (sgd, from_results('SGD'), 'mfbook'),
    'ALS':            (als, from_results('ALS'), 'mfbook'),
    'variational':    (variational, grid(k=[30], sweeps=[20], habits=[16]), 'mfbook'),
    'Gibbs':          (gibbs, grid(k=[30], sweeps=[150], burn_in=[20], habits=[16]), 'mfbook'),
    'Gibbs, no habits': (gibbs, grid(k=[30], sweeps=[150], burn_in=[20], habits=[0]), 'mfbook'),
    'myFM':           (myfm, grid(k=[30], sweeps=[150], burn_in=[5]), 'myfm'),
    'Surprise SVD':   (surprise('SVD'), grid(k=[200], lr=[.01], reg=[.08, .1, .12, .14], epochs=[75]), 'scikit-surprise'),
    'Surprise SVD++': (surprise('SVDpp', cache_ratings=True), grid(k=[50], lr=[.01], reg=[.1], epochs=[40]), 'scikit-surprise'),
    'LensKit ALS':    (lenskit, grid(k=[75], reg=[.1, .125, .15], epochs=[20]), 'lenskit'),
    'Cornac MF':      (cornac, grid(k=[200], lr=[.005], reg=[.035, .05, .065, .08], epochs=[50, 75, 100]), 'cornac'),
}

SLOW = ['Surprise SVD++']         # it meets the first fold of each split alone

# The run

def splits():
    "Each data set, its SHA-256, the split's name, the fold, and train, valid, test: those of accuracy.py."
    for name in ('ml-sample', 'ml-100k', 'ml-latest-small') if 'MFBOOK_DATA' in os.environ else ('ml-sample',):
        folder = None if name == 'ml-sample' else Path(os.environ['MFBOOK_DATA'])/name
        ratings = load_ratings(folder)
        digest = ratings_sha256(ratings)
        for fold, (train, test) in enumerate(folds(ratings, k=5, seed=0)):
            yield name, digest, 'random 5-fold', fold, *cut(train, fold), test
        for n in range(1, 6) if name == 'ml-100k' else ():
            train, test = load_fold(folder, f'u{n}')
            yield name, digest, "GroupLens's u1-u5", n, *cut(train, n), test

def clamped(values, r): return torch.as_tensor(np.asarray(values, dtype=np.float32)).clamp(*r.rating_range)

def choose(fit, grid, train, valid, seed):
    "The settings of `grid` with the lowest RMSE on `valid`."
    return grid[0] if len(grid) == 1 else min(grid, key=lambda settings: rmse(clamped(fit(train, seed, **settings)(valid), valid), valid))

def done(method, name):
    "Whether the method's run on the split `name` stands in peers.jsonl."
    try: return len(read(PATH, method=method, split_hash=name)) > 0
    except ValueError: return False

def chosen_before(method, data, split):
    "The settings that an earlier fold of the split chose, None if there is none."
    try: row = read(PATH, method=method, data=data, split=split).iloc[0]
    except ValueError: return None
    return dict(k=int(row.k), **row.settings)

def run(method):
    "One method on every split that is not in peers.jsonl yet."
    fit, grid, package = METHODS[method]
    versions = {**machine()['versions'], package: version(package)}
    warm = predict = None
    for data, digest, split, seed, train, valid, test in splits():
        name = split_hash(train, valid, test)
        if done(method, name) or method in SLOW and chosen_before(method, data, split): continue
        start = time.perf_counter()
        if callable(grid): settings = grid(train, valid, name)
        else: settings = chosen_before(method, data, split) or choose(fit, grid, train, valid, seed)
        chosen = time.perf_counter()
        warm = warm or fit(train.take(slice(0, 500)), seed, **settings)     # so that no import is in the time of a fit
        predict = None                                                      # the last fold's model goes
        forget_peak()
        begin = time.perf_counter()
        predict = fit(union(train, valid), seed, **settings)
        took = time.perf_counter() - begin
        y = clamped(predict(test), test)
        record(PATH, data=data, data_sha256=digest, split=split, split_hash=name, seed=seed, method=method,
               k=settings.get('k', 0), settings={s: v for s, v in settings.items() if s != 'k'}, rmse=rmse(y, test),
               mae=mae(y, test), seconds=round(chosen - start + took, 2), fit_seconds=round(took, 2), threads=1, versions=versions)
        print(f'{data} {split} {seed} {method:14} RMSE {rmse(y, test):.4f} {settings} chosen in {chosen - start:.1f} s, '
              f'fitted in {took:.1f} s', flush=True)

def table(value='rmse', first=False):
    "The mean of `value` over the folds, of the methods that met them all; or of all methods, on each split's first fold."
    f = read(PATH).pivot(index=['data', 'split', 'seed'], columns='method', values=value)
    f = f[[m for m in METHODS if m in f]].rename_axis(columns=None)
    if first: return f.groupby(['data', 'split']).head(1).droplevel('seed')
    return f.groupby(['data', 'split']).agg(lambda x: x.mean(skipna=False)).dropna(axis=1)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', choices=METHODS, default=list(METHODS), metavar='METHOD', help=', '.join(METHODS))
    parser.add_argument('--again', action='store_true', help='forget what peers.jsonl holds of these methods first')
    parser.add_argument('--table', action='store_true', help='print what peers.jsonl holds, and run nothing')
    args = parser.parse_args()
    if args.again and not args.table:
        for method in args.only: forget(PATH, method=method)
    if args.table:
        seconds = table('fit_seconds')
        print('Mean test RMSE over the folds', table().round(4).to_string(), '\nTest RMSE on the first fold',
              table(first=True).round(4).to_string(), '\nSeconds of a fit', seconds.round(1).to_string(), sep='\n')
        if 'myFM' in seconds: print("\nThe same, myFM's as 1", seconds.div(seconds['myFM'], axis=0).round(2).to_string(), sep='\n')
    elif len(args.only) == 1:
        torch.set_num_threads(1)
        warnings.filterwarnings('ignore')                  # of the peers
        try:
            with redirect_stderr(io.StringIO()): run(args.only[0])
        except PackageNotFoundError as e: sys.exit(f'{args.only[0]}: no {e.name} here. benchmarks/README.md says how to install the peers')
    else:                                                  # a process a method, so that none disturbs another
        sys.exit(sum(subprocess.run([sys.executable, __file__, '--only', method]).returncode for method in args.only))
