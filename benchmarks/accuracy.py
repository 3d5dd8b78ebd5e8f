"""Test RMSE of the mean, the biases, SGD, ALS, variational Bayes and Gibbs over several splits.

    MFBOOK_DATA=... python benchmarks/accuracy.py                    # all, into results.jsonl
    MFBOOK_DATA=... python benchmarks/accuracy.py --only ALS Gibbs   # these methods alone
    python benchmarks/accuracy.py --file again.jsonl                 # into another file, to compare
    MFBOOK_DATA=... python benchmarks/accuracy.py ml-1m --only ALS 'variational: averages'
                                                                     # MovieLens 1M, where you have it

The whole run takes about a quarter of an hour, on one thread; seconds are those of the processor,
which other programs on the machine change little. On each split the settings are chosen
on a validation set out of its training part (variational Bayes and Gibbs have none to choose);
then each method is fitted on the whole training part and meets the test set once. Without
MFBOOK_DATA only the sample that ships is run.
"""
import argparse, os, time
from pathlib import Path
from typing import NamedTuple
from ledger import PATH, forget_peak, ratings_sha256, record, split_hash
from mfbook.als import fit_als, tune_als
from mfbook.features import activity, averages, columns, combine, genres, tags, who_rated_what, years
from mfbook.gibbs import fit_gibbs
from mfbook.holdout import concat, folds, mae, rmse, split_random
from mfbook.model import MatrixFactorization
from mfbook.movielens import load_fold, load_ratings
from mfbook.ratings import Ratings, load_sample
from mfbook.runs import fit_biases, fit_sgd, tune_biases, tune_sgd
from mfbook.variational import fit_variational

SGD_GRID = [dict(k=128, reg=reg) for reg in (10., 13., 17.)]
ALS_GRID = [dict(k=32, reg=reg) for reg in (8., 10., 13., 17., 22.)]

# What is known beside the ratings: a level has all of those before it.

PATTERNS = 16        # singular vectors of who rated what
LEAST = 10           # rows that a word must describe to become a feature

def told(train, n, least): return None
def patterns(train, n, least): return who_rated_what(train, n)
def counts(train, n, least): return activity(train)

def films(train, n, least):
    if train.movies is None: return None
    return combine(genres(train, least), years(train))

def people(train, n, least):
    if train.people is None: return None
    return columns(train, 'user', train.people, ['age', 'gender', 'occupation'], least=least)

def words(train, n, least): return None if train.tags is None else tags(train)

KNOWLEDGE = {'ratings alone': told, 'who rated what': patterns, 'genres and years': films, 'ages': people,
             'tags': words, 'how many': counts, 'averages': None}

def known_of(train, level, n=PATTERNS, least=LEAST):
    "The `Features` of a level of knowledge: `n` patterns, and words that describe `least` rows. None: nothing."
    if level == 'facts alone':                       # without anything of who rated what
        parts = [films(train, n, least), people(train, n, least)]
        return combine(*[part for part in parts if part is not None])
    parts = []
    for name, make in KNOWLEDGE.items():
        if name == 'averages': made = averages(train, facts_in(parts))
        else: made = make(train, n, least)
        parts.append(made)
        if name == level: break
    parts = [part for part in parts if part is not None]
    return combine(*parts) if parts else None

def facts_in(parts):
    "What is known of films and people from outside the ratings, of all that the levels know."
    facts = [part for part, name in zip(parts, KNOWLEDGE) if name in ('genres and years', 'ages') and part is not None]
    return combine(*facts)

# The methods: each returns the model fitted on `whole`, and the settings that `valid` has chosen.

def mean(train, valid, whole, seed):
    return MatrixFactorization(whole, k=0), {}

def biases(train, valid, whole, seed):
    settings = {name: float(reg) for name, reg in tune_biases(train, valid).items()}
    model = MatrixFactorization(whole, k=0)
    fit_biases(model, whole, **settings)
    return model, settings

def chosen(ranked, grid):
    "The settings in the first row of a frame that `tune` has ranked, as plain numbers."
    best = ranked.iloc[0]
    return {name: type(value)(best[name]) for name, value in grid[0].items()}

def sgd(train, valid, whole, seed):
    settings = chosen(tune_sgd(train, valid, SGD_GRID, seed=seed), SGD_GRID)
    model = MatrixFactorization(whole, k=settings['k'], seed=seed)
    fit_sgd(model, whole, reg=settings['reg'], seed=seed)
    return model, settings

def als(train, valid, whole, seed):
    settings = chosen(tune_als(train, valid, ALS_GRID, seed=seed), ALS_GRID)
    model = MatrixFactorization(whole, k=settings['k'], seed=seed)
    fit_als(model, whole, reg=settings['reg'])
    return model, settings

def variational(train, valid, whole, seed):
    model = MatrixFactorization(whole, k=32, seed=seed)
    history = fit_variational(model, whole, features=who_rated_what(whole))
    return model, dict(k=32, sweeps=len(history.rows))

def gibbs(train, valid, whole, seed):
    model = MatrixFactorization(whole, k=32, seed=seed)
    history = fit_gibbs(model, whole, features=who_rated_what(whole), seed=seed)
    return model, dict(k=32, sweeps=len(history.rows))

def knowing(level):
    "Variational Bayes with a level of `KNOWLEDGE`."
    def method(train, valid, whole, seed):
        model = MatrixFactorization(whole, k=32, seed=seed)
        history = fit_variational(model, whole, features=known_of(whole, level))
        return model, dict(k=32, sweeps=len(history.rows))
    return method

METHODS = {'mean': mean, 'biases': biases, 'SGD': sgd, 'ALS': als,
           'variational': variational, 'Gibbs': gibbs}
LEVELS = {f'variational: {level}': knowing(level) for level in KNOWLEDGE}     # by `--only`

# The splits

class Cut(NamedTuple):
    data: str             # the data set's name
    data_sha256: str
    split: str            # how it was cut
    seed: int             # the seed or fold
    train: Ratings
    valid: Ratings
    test: Ratings

def with_valid(train, seed):
    "`train` without an eighth, and that eighth for validation."
    split = split_random(train, valid=0.125, test=0, seed=seed)
    return split.train, split.valid

def five_folds(name, ratings):
    "The five random folds of a data set."
    digest = ratings_sha256(ratings)
    for fold, (train, test) in enumerate(folds(ratings, k=5, seed=0)):
        yield Cut(name, digest, 'random 5-fold', fold, *with_valid(train, fold), test)

def grouplens_folds(name, folder):
    "The five folds that GroupLens has cut itself."
    digest = ratings_sha256(load_ratings(folder))
    for n in range(1, 6):
        train, test = load_fold(folder, f'u{n}')
        yield Cut(name, digest, "GroupLens's u1-u5", n, *with_valid(train, n), test)

SPLITS_OF_LARGE = 5      # of nine tenths and a tenth, as they are usual for ml-1m and ml-10m

def large_splits(name, folder):
    "Random splits of another MovieLens, of which a tenth is test."
    ratings = load_ratings(folder/name)
    digest = ratings_sha256(ratings)
    for seed in range(SPLITS_OF_LARGE):
        yield Cut(name, digest, 'random 81/9/10', seed, *split_random(ratings, valid=0.09, test=0.1, seed=seed))

def splits(names=()):
    "Every split of every data set that is here; or of the data sets of these `names`, in `$MFBOOK_DATA`."
    if names:
        for name in names: yield from large_splits(name, Path(os.environ['MFBOOK_DATA']))
        return
    sample = load_sample()
    digest = ratings_sha256(sample)
    for seed in range(5):
        yield Cut('ml-sample', digest, 'random 80/10/10', seed, *split_random(sample, seed=seed))
    yield from five_folds('ml-sample', sample)
    if 'MFBOOK_DATA' not in os.environ: return

    folder = Path(os.environ['MFBOOK_DATA'])
    yield from five_folds('ml-100k', load_ratings(folder/'ml-100k'))
    yield from grouplens_folds('ml-100k', folder/'ml-100k')
    yield from five_folds('ml-latest-small', load_ratings(folder/'ml-latest-small'))

# The run

def measure(method, cut, path):
    "One method on one split, into the file `path`."
    whole = concat(cut.train, cut.valid)
    forget_peak()
    start = time.process_time()
    model, settings = (METHODS | LEVELS)[method](cut.train, cut.valid, whole, cut.seed)
    seconds = time.process_time() - start

    predicted = model.predict(cut.test)
    error = rmse(predicted, cut.test)
    record(path, data=cut.data, data_sha256=cut.data_sha256, split=cut.split,
           split_hash=split_hash(cut.train, cut.valid, cut.test), seed=cut.seed,
           method=method, k=settings.pop('k', 0), settings=settings,
           rmse=error, mae=mae(predicted, cut.test), seconds=round(seconds, 2))
    print(f'{cut.data} {cut.split} {cut.seed} {method:7} RMSE {error:.4f} {settings} '
          f'{seconds:.1f} s', flush=True)

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('data', nargs='*', help='folders in MFBOOK_DATA, ml-1m for example; none: those of the book')
    parser.add_argument('--only', nargs='+', choices=[*METHODS, *LEVELS], default=list(METHODS),
                        metavar='METHOD', help=', '.join(METHODS))
    parser.add_argument('--file', type=Path, default=PATH, help='where the rows go')
    args = parser.parse_args()
    for cut in splits(args.data):
        for method in args.only:
            measure(method, cut, args.file)
