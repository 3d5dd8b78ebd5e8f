"""Test RMSE of the mean, the biases, SGD, ALS, variational Bayes and Gibbs over several splits; writes the ledger.

    MFBOOK_DATA=... python benchmarks/accuracy.py               # about a quarter of an hour on two cores
    MFBOOK_DATA=... python benchmarks/accuracy.py ALS Gibbs     # these methods alone

On each split the settings are chosen on a validation set out of its training part (variational Bayes and Gibbs
have none to choose); then each
method is fitted on the whole training part and meets the test set once. Without MFBOOK_DATA only the sample that ships is run.
"""
import os, sys, time
from pathlib import Path
from ledger import forget_peak, ratings_sha256, record, split_hash
from mfbook.als import fit_als, tune_als
from mfbook.gibbs import fit_gibbs, fit_variational
from mfbook.holdout import fit_biases, folds, mae, mean_baseline, rmse, split_random, tune_biases, union
from mfbook.model import MatrixFactorization
from mfbook.ratings import load_fold, load_ratings
from mfbook.training import fit_sgd, tune_sgd

GRID = [dict(k=128, decay=d) for d in (0.10, 0.12, 0.14)]
ALS_GRID = [dict(k=32, decay=d, bias_decay=3.) for d in (8., 10., 13., 17., 22.)]      # prices a row

def biases(train, valid, whole):
    "Biases, tuned on `valid`, refit on `whole`; with the settings chosen."
    regs = tune_biases(train, valid)
    return fit_biases(whole, *regs), dict(zip(('reg_user', 'reg_item'), map(float, regs)))

def sgd(train, valid, whole, seed):
    "SGD, tuned on `valid`, refit on `whole`; with the settings chosen."
    best = tune_sgd(train, valid, GRID, seed=seed).iloc[0]
    settings = dict(k=int(best.k), decay=float(best.decay))
    model = MatrixFactorization(whole, k=settings['k'], seed=seed)
    fit_sgd(model, whole, decay=settings['decay'], seed=seed)
    return model, settings

def als(train, valid, whole, seed):
    "ALS, tuned on `valid`, refit on `whole`; with the settings chosen."
    best = tune_als(train, valid, ALS_GRID, seed=seed).iloc[0]
    settings = dict(k=int(best.k), decay=float(best.decay), bias_decay=float(best.bias_decay))
    model = MatrixFactorization(whole, k=settings['k'], seed=seed)
    fit_als(model, whole, decay=settings['decay'], bias_decay=settings['bias_decay'])
    return model, settings

def variational(whole, seed):
    "Variational Bayes, which has nothing to choose either."
    model = MatrixFactorization(whole, k=32, seed=seed)
    history = fit_variational(model, whole)
    return model, dict(k=32, sweeps=len(history.rows))

def gibbs(whole, seed):
    "Gibbs sampling, which has nothing to choose: its default settings everywhere."
    model = MatrixFactorization(whole, k=32, seed=seed)
    posterior = fit_gibbs(model, whole, seed=seed)
    return model, dict(k=32, sweeps=len(posterior.rows))

def compare(data, digest, split, seed, train, valid, test):
    "All methods on one split, or those named on the command line, into the ledger."
    whole, name = union(train, valid), split_hash(train, valid, test)
    methods = {'mean': lambda: (mean_baseline(whole), {}), 'biases': lambda: biases(train, valid, whole),
               'SGD': lambda: sgd(train, valid, whole, seed), 'ALS': lambda: als(train, valid, whole, seed),
               'variational': lambda: variational(whole, seed), 'Gibbs': lambda: gibbs(whole, seed)}
    for method in sys.argv[1:] or methods:
        fit = methods[method]
        forget_peak()
        start = time.perf_counter()
        model, settings = fit()
        seconds, predicted = time.perf_counter() - start, model.predict(test)
        record(data=data, data_sha256=digest, split=split, split_hash=name, seed=seed, method=method, k=settings.pop('k', 0),
               settings=settings, rmse=rmse(predicted, test), mae=mae(predicted, test), seconds=round(seconds, 2))
        print(f'{data} {split} {seed} {method:7} RMSE {rmse(predicted, test):.4f} {settings} {seconds:.1f} s', flush=True)

def cut(train, seed):
    "A validation eighth out of `train`."
    return split_random(train, valid=0.125, test=0, seed=seed)[:2]

if __name__ == '__main__':
    sample = load_ratings()
    for seed in range(5): compare('ml-sample', ratings_sha256(sample), 'random 80/10/10', seed, *split_random(sample, seed=seed))
    for seed, (train, test) in enumerate(folds(sample, k=5, seed=0)):
        compare('ml-sample', ratings_sha256(sample), 'random 5-fold', seed, *cut(train, seed), test)
    for name in ('ml-100k', 'ml-latest-small') if 'MFBOOK_DATA' in os.environ else ():
        folder = Path(os.environ['MFBOOK_DATA'])/name
        ratings = load_ratings(folder)
        digest = ratings_sha256(ratings)
        for seed, (train, test) in enumerate(folds(ratings, k=5, seed=0)):
            compare(name, digest, 'random 5-fold', seed, *cut(train, seed), test)
        for n in range(1, 6) if name == 'ml-100k' else ():
            train, test = load_fold(folder, f'u{n}')
            compare(name, digest, "GroupLens's u1-u5", n, *cut(train, n), test)
