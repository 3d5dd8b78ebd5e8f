"""The book and other packages on ratings that the book was not made on; writes `foreign.jsonl`.

    MFBOOK_DATA=... python benchmarks/foreign.py                  # the runs that are not there yet
    python benchmarks/foreign.py --only ALS myFM                  # these methods alone
    python benchmarks/foreign.py --data filmtrust restaurant      # on these data sets alone
    python benchmarks/foreign.py --file other.jsonl               # into another file
    python benchmarks/foreign.py --table                          # what the file says

`make peers` makes the environment with the other packages. The sets in `$MFBOOK_DATA/foreign` are
FilmTrust, MovieTweetings, restaurants in Mexico, and the books of Book-Crossing, as they were
published. Each is cut into the same five random folds for all methods, and an eighth of each
training part is a validation cut. Seconds are those of the processor, which other programs on the
machine change little.

- SGD, ALS, Gibbs and variational have the settings that they have by default, on every data set.
  They are fitted once, on the whole training part, with no validation set.
- The biases, 'tuned SGD' and 'tuned ALS' choose their settings on the validation cut of each fold,
  as `tune_biases`, `tune_sgd` and `tune_als` do when they are given no grid.
- myFM has nothing to choose. The other peers choose from a grid on the first fold's validation cut
  and keep the choice for the other folds: a small help, since that cut lies in their test parts.

Then each is fitted on the whole training part and meets the test set once. Predictions are clamped
to the rating range. Every method has one thread and a process of its own.
"""
import argparse, os, subprocess, sys, time
from contextlib import redirect_stderr
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
import io, warnings
import pandas as pd
import torch
import accuracy
from ledger import forget_peak, machine, read, read_rows, record, split_hash
from mfbook.als import fit_als, tune_als
from mfbook.gibbs import fit_gibbs
from mfbook.holdout import concat, mae, rmse
from mfbook.movielens import load_ratings
from mfbook.runs import fit_biases, fit_sgd, tune_biases, tune_sgd
from mfbook.variational import fit_variational
from peers import (THREADS, Method, book, choose, clamped, cornac, grid, lenskit, myfm, surprise,
                   triples)

PATH = Path(__file__).resolve().parent/'foreign.jsonl'

# The data sets: each a function of the folder `$MFBOOK_DATA`.

def quietly(path, **columns):
    "The ratings of a file, without a word of the few pairs that stand there twice."
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return load_ratings(path, **columns)

def filmtrust(folder):
    return quietly(folder/'foreign'/'filmtrust'/'ratings.txt', user=0, item=1, rating=2, sep=' ',
                   rating_range=(0.5, 4))

def movietweetings(folder):
    return load_ratings(folder/'foreign'/'movietweetings-100k', rating_range=(0, 10))

def restaurant(folder):
    return load_ratings(folder/'foreign'/'restaurant'/'rating_final.csv', user='userID',
                        item='placeID', rating='rating', rating_range=(0, 2))

def bookcrossing(folder):
    "The ratings above 0: a 0 says that somebody has met a book, not how it was."
    return quietly(folder/'foreign'/'bookcrossing'/'BX-Book-Ratings.csv', user='User-ID',
                   item='ISBN', rating='Book-Rating', sep=';', encoding='latin-1', no_rating=0,
                   rating_range=(1, 10))

DATA = {
    'filmtrust':           filmtrust,
    'movietweetings-100k': movietweetings,
    'restaurant':          restaurant,
    'bookcrossing':        bookcrossing,
}

def cuts(names):
    "Five folds of each data set of these `names` that is here."
    folder = Path(os.environ.get('MFBOOK_DATA', ''))
    for name in names:
        try:
            ratings = DATA[name](folder)
        except FileNotFoundError:
            print(f'{name} is not in $MFBOOK_DATA ({folder}), and is left out', flush=True)
        else:
            yield from accuracy.five_folds(name, ratings)

# The methods: what is fitted, and a grid or a function of a cut that chooses the settings.

def surprise_biases(train, seed, reg_user, reg_item, epochs):
    "Surprise's BaselineOnly."
    import surprise
    users, items, values = triples(train, seed)
    frame = pd.DataFrame(dict(user=users, item=items, rating=values))
    reader = surprise.Reader(rating_scale=train.rating_range)
    data = surprise.Dataset.load_from_df(frame, reader).build_full_trainset()

    options = dict(method='als', reg_u=reg_user, reg_i=reg_item, n_epochs=epochs)
    model = surprise.BaselineOnly(bsl_options=options, verbose=False)
    model.fit(data)
    return lambda ratings: [found.est for found in model.test(list(zip(*triples(ratings))))]

def biases_settings(cut):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')        # an edge of the grid
        best = tune_biases(cut.train, cut.valid)
    return {name: float(reg) for name, reg in best.items()}

K = 32                          # factors of the book's methods by default
DEFAULT = [dict(k=K)]

def tuned(tune):
    "The settings that `tune` finds best when it is given no grid."
    def settings(cut):
        best = tune(cut.train, cut.valid, k=K, seed=cut.seed).iloc[0]
        found = dict(k=K, reg=float(best.reg), bias_reg=best.bias_reg)
        if 'lr' in best: found['lr'] = float(best.lr)
        if 'epochs' in best: found['epochs'] = int(best.epochs)
        return found
    return settings

METHODS = {
    'biases':       Method(book(fit_biases), biases_settings),
    'SGD':          Method(book(fit_sgd, seeded=True), DEFAULT),
    'tuned SGD':    Method(book(fit_sgd, seeded=True), tuned(tune_sgd)),
    'ALS':          Method(book(fit_als), DEFAULT),
    'tuned ALS':    Method(book(fit_als), tuned(tune_als)),
    'Gibbs':        Method(book(fit_gibbs, seeded=True, patterns=16), DEFAULT),
    'variational':  Method(book(fit_variational, patterns=16), DEFAULT),
    'myFM':         Method(myfm, grid(k=[30], sweeps=[150], burn_in=[5]), 'myfm'),
    'Surprise BaselineOnly': Method(surprise_biases,
                                    grid(reg_user=[2, 5, 10, 15], reg_item=[1, 3, 5, 10],
                                         epochs=[10]),
                                    'scikit-surprise'),
    'Surprise SVD': Method(surprise('SVD'),
                           grid(k=[100], lr=[.005, .01], reg=[.05, .1, .2], epochs=[40]),
                           'scikit-surprise'),
    'Surprise SVD++': Method(surprise('SVDpp', cache_ratings=True),
                             grid(k=[20], lr=[.007], reg=[.02, .1], epochs=[20]),
                             'scikit-surprise'),
    'LensKit ALS':  Method(lenskit, grid(k=[25], reg=[.05, .1, .2, .4], epochs=[20]),
                           'lenskit'),
    'Cornac MF':    Method(cornac,
                           grid(k=[50], lr=[.002, .005, .01], reg=[.02, .1], epochs=[50]),
                           'cornac'),
}

# The run

def rows_of(path, method, **where):
    "The rows of the file for this method, as dicts."
    return [row for row in read_rows(path)
            if row['method'] == method and all(row[name] == value for name, value in where.items())]

def settings_for(method, cut, path):
    "What a method is fitted with on a cut."
    fit, settings, package = METHODS[method]
    if callable(settings): return settings(cut)
    before = rows_of(path, method, data=cut.data, data_sha256=cut.data_sha256)
    if before:
        k = before[0]['k']
        return before[0]['settings'] | (dict(k=k) if k else {})
    return choose(fit, settings, cut.train, cut.valid, cut.seed)

def run(method, names, path):
    "One method on every fold that is not in the file yet."
    fit, _, package = METHODS[method]
    versions = {**machine()['versions'], package: version(package)}
    warm = None
    for cut in cuts(names):
        name = split_hash(cut.train, cut.valid, cut.test)
        if rows_of(path, method, split_hash=name): continue

        start = time.process_time()
        settings = settings_for(method, cut, path)
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
        k = settings.get('k', 0)
        others = {setting: value for setting, value in settings.items() if setting != 'k'}
        record(path, data=cut.data, data_sha256=cut.data_sha256, split=cut.split, split_hash=name,
               seed=cut.seed, method=method, k=k, settings=others,
               rmse=error, mae=mae(predicted, cut.test), seconds=round(choosing + fitting, 2),
               fit_seconds=round(fitting, 2), threads=1, versions=versions)
        print(f'{cut.data} {cut.seed} {method:14} RMSE {error:.4f} {settings} '
              f'chosen in {choosing:.1f} s, fitted in {fitting:.1f} s', flush=True)

def run_here(method, names, path):
    "Run one method in this process. Returns the exit status: a message if its package is missing."
    torch.set_num_threads(1)
    warnings.filterwarnings('ignore')                  # of the peers
    try:
        with redirect_stderr(io.StringIO()): run(method, names, path)
    except PackageNotFoundError as error:
        return f'{method}: no {error.name} here. benchmarks/README.md says how to install the peers'

def run_apart(methods, names, path):
    "Run each method in a process of its own, so that none disturbs another; how many failed."
    one_thread = {**os.environ, **dict.fromkeys(THREADS, '1')}     # before numpy is loaded
    rest = ['--here', '--data', *names, '--file', str(path)]
    commands = [[sys.executable, __file__, '--only', method, *rest] for method in methods]
    return sum(subprocess.run(command, env=one_thread).returncode != 0 for command in commands)

# What the file says

def table(path=PATH, value='rmse'):
    "The mean of `value` over the folds: a row a data set, a column a method. NaN if a fold is missing."
    frame = read(path).pivot(index=['data', 'seed'], columns='method', values=value)
    means = frame.groupby('data').agg(lambda column: column.mean(skipna=False))
    means = means.reindex(index=[name for name in DATA if name in means.index],
                          columns=[method for method in METHODS if method in means])
    return means.rename_axis(index=None, columns=None)

def print_tables(path):
    print('Mean test RMSE over the folds', table(path).T.round(4).to_string(), sep='\n')
    print('\nSeconds of a fit', table(path, 'fit_seconds').T.round(1).to_string(), sep='\n')

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', choices=METHODS, default=list(METHODS),
                        metavar='METHOD', help=', '.join(METHODS))
    parser.add_argument('--data', nargs='+', choices=DATA, default=list(DATA),
                        metavar='DATA', help=', '.join(DATA))
    parser.add_argument('--file', type=Path, default=PATH, help='where the rows go')
    parser.add_argument('--table', action='store_true',
                        help='print what the file holds, and run nothing')
    parser.add_argument('--here', action='store_true', help=argparse.SUPPRESS)  # in this process
    args = parser.parse_args()
    if args.table:
        if not read_rows(args.file): sys.exit(f'{args.file.name} holds no runs yet; run this without --table first')
        print_tables(args.file)
        sys.exit()
    if args.here: sys.exit(run_here(args.only[0], args.data, args.file))
    sys.exit(run_apart(args.only, args.data, args.file))
