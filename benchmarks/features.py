"""What genres, years, ages, tags and time are worth: test RMSE by what is known, into features.jsonl.

    MFBOOK_DATA=... python benchmarks/features.py             # all parts, about an hour on one thread
    MFBOOK_DATA=... python benchmarks/features.py newcomers   # one part: knowledge, constants, newcomers, time, myfm, gibbs

- knowledge: the folds of accuracy.py, each with more known than the one before; the settings are the same
  everywhere, so that nothing is chosen on a fold.
- constants: what is fixed in lesson 12, changed one at a time, on validation cuts of the training parts.
- newcomers: a fifth of the users (then of the films) is taken out of the fit, and comes back with 0 to 10 ratings.
- time: effects of a user's day and a film's month, and a split by time.
- gibbs: Gibbs sampling on GroupLens's folds.
- myfm: myFM with the same knowledge on the same folds (needs `pip install myfm`).

A run that is in the file already is not repeated; `--file` names another file.
"""
import argparse, os, time
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest import mock
import numpy as np
import pandas as pd
import torch
import accuracy
from accuracy import KNOWLEDGE, Cut, known_of
from ledger import forget_peak, ratings_sha256, read, record, split_hash
import mfbook.features, mfbook.gibbs
from mfbook.gibbs import fit_gibbs
from mfbook.holdout import concat, mae, rmse, split_by_time, split_random
from mfbook.model import SIDES, MatrixFactorization
from mfbook.movielens import load_ratings
from mfbook.variational import fit_variational

PATH = Path(__file__).resolve().parent/'features.jsonl'
K = 32

def there(path, method, name):
    "Whether the run is in the file already."
    try: return bool(len(read(path, method=method, split_hash=name)))
    except ValueError: return False

def measure(path, cut, method, train, test, predict, k=K, **settings):
    "Fit by `predict`, a function of train that gives one of `Ratings`, and write the errors on `test` down."
    name = split_hash(train, test)
    if there(path, method, name): return
    forget_peak()
    start = time.process_time()
    predicted = predict(train)(test)
    seconds = time.process_time() - start
    record(path, data=cut.data, data_sha256=cut.data_sha256, split=cut.split, split_hash=name, seed=cut.seed,
           method=method, k=k, settings=settings, rmse=rmse(predicted, test), mae=mae(predicted, test),
           seconds=round(seconds, 2))
    print(f'{cut.data} {cut.split} {cut.seed} {method}: {rmse(predicted, test):.4f}, {seconds:.1f} s', flush=True)

def variational(features, k=K, **settings):
    "A function of train that fits variational Bayes with `features(train)`."
    def predict(train):
        model = MatrixFactorization(train, k=k)
        fit_variational(model, train, features=features(train), progress=False, **settings)
        return model.predict
    return predict

def gibbs(features, seed):
    "The same for Gibbs sampling."
    def predict(train):
        model = MatrixFactorization(train, k=K, seed=seed)
        fit_gibbs(model, train, features=features(train), seed=seed, progress=False)
        return model.predict
    return predict

def cuts():
    "The folds of accuracy.py, without its random splits of the sample."
    return [cut for cut in accuracy.splits() if cut.split != 'random 80/10/10']

# Knowledge, a kind at a time

def tells_more(level, train):
    "Whether a level of knowledge has a feature that the one before has not, for these ratings."
    levels = list(KNOWLEDGE)
    at = levels.index(level)
    if at == 0: return True
    of = [known_of(train, levels[n]) for n in (at - 1, at)]
    sizes = [0 if known is None else sum(0 if table is None else table.shape[1] for table in known) for known in of]
    return sizes[1] > sizes[0]

def knowledge(path):
    for cut in cuts():
        train = concat(cut.train, cut.valid)
        for level in KNOWLEDGE:
            if tells_more(level, train):
                measure(path, cut, f'variational: {level}', train, cut.test,
                        variational(lambda train: known_of(train, level)))

def knowledge_gibbs(path):
    for cut in cuts():
        if (cut.data, cut.split) not in TUNED_ON: continue
        train = concat(cut.train, cut.valid)
        for level in ('averages', 'who rated what'):
            measure(path, cut, f'Gibbs: {level}', train, cut.test,
                    gibbs(lambda train: known_of(train, level), cut.seed))

# The constants of lesson 12, on validation ratings

CONSTANTS = [(mfbook.gibbs, 'FEATURE_ROWS', (10., 30., 300., 1000.)),
             (mfbook.features, 'AVERAGE_ROWS', (1., 25.)),
             (mfbook.features, 'ROWS_PER_FEATURE', (10, 160)),
             ('n', 'patterns', (4, 8, 32)),
             ('least', 'FEWEST_ROWS', (1, 40))]
TUNED_ON = [('ml-100k', "GroupLens's u1-u5")]

def constants(path):
    everything = lambda train: known_of(train, 'averages')
    for cut in cuts():
        if (cut.data, cut.split) not in TUNED_ON: continue
        cut = cut._replace(split=f'validation, {cut.split}')
        measure(path, cut, 'constants: as they are', cut.train, cut.valid, variational(everything))
        for module, name, values in CONSTANTS:
            for value in values:
                changed = everything
                patched = mock.patch.dict({})
                if module == 'n': changed = lambda train: known_of(train, 'averages', n=value)
                elif module == 'least': changed = lambda train: known_of(train, 'averages', least=value)
                else: patched = mock.patch.dict(vars(module), {name: value})
                with patched:
                    measure(path, cut, f'constants: {name} = {value:g}', cut.train, cut.valid, variational(changed))

# Newcomers

MOST_KNOWN = 10        # ratings of a newcomer that are known at most
LEAST_RATINGS = 20     # newcomers are drawn from those who have so many, so that ten are left for test

def codes_of_side(ratings, side): return ratings.users if side == 'user' else ratings.items

def leave_out(ratings, side, seed):
    "A fifth of one side's rows as newcomers. Returns the others' ratings, and the newcomers' in random order."
    rng = np.random.default_rng(seed)
    codes = codes_of_side(ratings, side)
    counts = np.bincount(codes.numpy())
    enough = np.flatnonzero(counts >= LEAST_RATINGS)
    new = rng.choice(enough, len(enough)//5, replace=False)
    is_new = torch.from_numpy(np.isin(codes.numpy(), new))
    theirs = ratings.take(is_new)
    order = torch.from_numpy(rng.permutation(len(theirs)))
    return ratings.take(~is_new), theirs.take(order), new

def row_for(model, side, codes, values, facts):
    "The row of a newcomer with these ratings: by `fold_in`, with what is known of it."
    if side == 'user': return model.fold_in(codes, values, features=facts)
    return model.fold_in_item(codes, values, features=facts)

def facts_of(ratings, side):
    "What is known of each code beside ratings: a list of dicts."
    if side == 'user': frame = ratings.people[['age', 'gender', 'occupation']]
    else: frame = ratings.movies[['year', 'genres']].rename(columns={'genres': 'genre'})
    return frame.astype(object).where(frame.notna(), None).to_dict('records')

def only_known(model, side, facts):
    "Without the words that describe too few rows for a feature."
    names = set(model.feature_prior(side).names)
    kept = {}
    for name, value in facts.items():
        if value is None or name in names: kept[name] = value
        else: kept[name] = [word for word in value.split('|') if f'{name}={word}' in names]
    return kept

def errors_of_newcomers(model, side, theirs, new, facts):
    "Sums of squared errors by the number of known ratings, without and with facts: two of (11,), and the number."
    other = 'item' if side == 'user' else 'user'
    codes = codes_of_side(theirs, side)
    others = codes_of_side(theirs, other)
    squared = np.zeros((2, MOST_KNOWN + 1))
    n = 0
    for code in new.tolist():
        at = (codes == code).nonzero()[:, 0]
        known, test = at[:MOST_KNOWN], at[MOST_KNOWN:]
        n += len(test)
        told = only_known(model, side, facts[code])
        for j, what in enumerate((None, told)):
            for m in range(MOST_KNOWN + 1):
                row = row_for(model, side, others[known[:m]], theirs.values[known[:m]], what)
                there = model.rows(other, others[test].long())
                predicted = model.baseline(other, others[test].long()) + row.bias + there[:, :-1] @ row.factors
                error = predicted.clamp(*theirs.rating_range) - theirs.values[test]
                squared[j, m] += error.square().sum().item()
    return squared, n

def newcomers(path):
    folder = Path(os.environ['MFBOOK_DATA'])
    ratings = load_ratings(folder/'ml-100k')
    for side in SIDES:
        for seed in range(5):
            newcomers_of(path, 'ml-100k', ratings, side, seed)

def newcomers_of(path, data, ratings, side, seed):
    "One draw of newcomers on one side, into the file."
    train, theirs, new = leave_out(ratings, side, seed)
    name = split_hash(train, theirs)
    label = f'new {side}s, facts: {MOST_KNOWN}'
    if there(path, label, name): return
    start = time.process_time()
    model = MatrixFactorization(train, k=K, seed=seed)
    fit_variational(model, train, features=known_of(train, 'ages'), progress=False)
    squared, n = errors_of_newcomers(model, side, theirs, new, facts_of(ratings, side))
    seconds = round(time.process_time() - start, 2)
    for told, errors in zip(('nothing', 'facts'), squared):
        for m, total in enumerate(errors):
            record(path, data=data, data_sha256=ratings_sha256(ratings), split='newcomers', split_hash=name, seed=seed,
                   method=f'new {side}s, {told}: {m}', k=K, settings=dict(side=side, told=told, known=m, new=len(new)),
                   rmse=(total/n)**0.5, mae=0., seconds=seconds)
    print(f'{data}, new {side}s {seed}:', np.round((squared/n)**0.5, 4)[:, [0, 1, 3, 10]].tolist(), flush=True)

# Time

DAY = 86_400
MONTH = 30*DAY

def group_of(ratings, codes, span):
    "For each rating a number that says whose it is, and in which span of time."
    return codes.numpy().astype(np.int64)*10_000_000 + ratings.timestamps.numpy()//span

def groups(train, test, kind):
    "The same group has the same number in both: (n_train,), (n_test,), with -1 in test for a group without training ratings."
    span, side = {'user-day': (DAY, 'user'), 'film-month': (MONTH, 'item')}[kind]
    of_train, of_test = [group_of(part, codes_of_side(part, side), span) for part in (train, test)]
    known, train_codes = np.unique(of_train, return_inverse=True)
    place = np.searchsorted(known, of_test).clip(max=len(known) - 1)
    return train_codes, np.where(known[place] == of_test, place, -1)

def effects(residual, codes, noise, variance):
    "The mean of each group's effect given its residuals: normal around 0 with this variance beforehand."
    n = np.bincount(codes)
    return np.bincount(codes, residual)/(n + noise/variance)

ROUNDS = 3                               # of fitting the rows, then the effects
VARIANCES = (0.02, 0.05, 0.1)            # of the effects, in squared stars

def with_effects(features, kind, test, variance):
    """Variational Bayes, and a Gaussian effect of each group: in turns, the rows given the effects, and back.

    Returns a function of train; what it gives predicts `test` only.
    """
    def predict(train):
        of_train, of_test = groups(train, test, kind)
        known = features(train)
        mean = np.zeros(of_train.max() + 1)
        values = train.values.numpy()
        for _ in range(ROUNDS):
            shifted = torch.from_numpy((values - mean[of_train]).astype(np.float32))
            model = MatrixFactorization(train, k=K)
            history = fit_variational(model, replace(train, values=shifted), features=known, progress=False)
            residual = values - model.predict(train).numpy()
            mean = effects(residual, of_train, history.rows[-1]['noise']**2, variance)
        shift = np.where(of_test >= 0, mean[of_test.clip(min=0)], 0).astype(np.float32)
        return lambda ratings: (model.predict(ratings) + torch.from_numpy(shift)).clamp(*train.rating_range)
    return predict

@cache
def chosen_variance(data, split, kind):
    "The variance with the lowest error on the validation ratings of the first fold."
    cut = next(cut for cut in timed_cuts() if (cut.data, cut.split) == (data, split))
    def error(variance):
        predict = with_effects(lambda train: known_of(train, 'averages'), kind, cut.valid, variance)
        return rmse(predict(cut.train)(cut.valid), cut.valid)
    return min(VARIANCES, key=error)

def future(folder):
    "ml-100k and ml-latest-small cut by time: the newest tenth is test."
    for data in ('ml-100k', 'ml-latest-small'):
        ratings = load_ratings(folder/data)
        train, valid, test = split_by_time(ratings)
        yield Cut(data, ratings_sha256(ratings), 'by time', 0, train, valid, test)

def timed_cuts():
    "GroupLens's folds and random ones of ml-100k, and the splits by time."
    of_100k = [cut for cut in cuts() if cut.data == 'ml-100k']
    of_100k.sort(key=lambda cut: cut.split == 'random 5-fold')
    return [*future(Path(os.environ['MFBOOK_DATA'])), *of_100k]

def share_told(train, test, kind):
    "The share of the test ratings whose group has training ratings, so that its effect is known."
    return float((groups(train, test, kind)[1] >= 0).mean())

def by_time(path, cut):
    "What facts are worth in the future, and how often an effect of time would be known there."
    train = concat(cut.train, cut.valid)
    told = {kind: share_told(train, cut.test, kind) for kind in ('user-day', 'film-month')}
    for level in ('ratings alone', 'facts alone', 'who rated what', 'averages'):
        measure(path, cut, f'variational: {level}', train, cut.test,
                variational(lambda train: known_of(train, level)), told=told)

def effect_of_time(path):
    everything = lambda train: known_of(train, 'averages')
    for kind in ('user-day', 'film-month'):
        for cut in timed_cuts():
            if cut.split == 'by time':
                by_time(path, cut)
                continue
            if (kind, cut.split) == ('film-month', 'random 5-fold'): continue
            variance = chosen_variance(cut.data, cut.split, kind)
            train = concat(cut.train, cut.valid)
            measure(path, cut, f'variational: averages, {kind}', train, cut.test,
                    with_effects(everything, kind, cut.test, variance), variance=variance,
                    told=share_told(train, cut.test, kind))

# myFM with the same knowledge, as its authors give it: ones and zeros, and who rated what as in SVD++

YEARS_TOGETHER = 5       # in one column, because a one and zeros suit myFM better than large numbers

def flags_of(column):
    "A column of zeros and ones for each word; cells may hold several, 'Action|Crime'."
    return column.astype(str).str.get_dummies('|').to_numpy(float)

def own_columns(train, side):
    "What is known of each row of one side, a list of blocks of columns."
    from scipy.sparse import csr_matrix
    if side == 'user':
        if train.people is None: return []
        people = train.people
        in_fives = (people.age // YEARS_TOGETHER).fillna(-1).astype(int)
        return [csr_matrix(flags_of(column)) for column in (in_fives, people.gender, people.occupation)]
    in_fives = (train.movies.year.astype(float) // YEARS_TOGETHER).fillna(-1).astype(int)
    return [csr_matrix(flags_of(train.movies.genres)), csr_matrix(flags_of(in_fives))]

def pattern_columns(train, side):
    "Who rated what: a row of 1/sqrt(n) at the n items that a user rated, or the n users that rated an item."
    from scipy.sparse import csr_matrix, diags
    at = train.users.numpy(), train.items.numpy()
    table = csr_matrix((np.ones(len(train)), at), shape=(train.n_users, train.n_items))
    if side == 'item': table = table.T.tocsr()
    n = np.asarray(table.sum(1)).ravel()
    return csr_matrix(diags(1/np.sqrt(n.clip(1))) @ table)

def myfm(level, seed, k=30, sweeps=150, burn_in=5):
    "A function of train that fits myFM with a level of knowledge, a group for each kind of column."
    def predict(train):
        from myfm import MyFMRegressor, RelationBlock
        from scipy.sparse import csr_matrix, eye, hstack
        blocks, shapes = {}, []
        for side, n in (('user', train.n_users), ('item', train.n_items)):
            parts = [eye(n)]
            if level != 'ratings alone': parts.append(pattern_columns(train, side))
            if level == 'all': parts += own_columns(train, side)
            blocks[side] = csr_matrix(hstack(parts))
            shapes += [part.shape[1] for part in parts]

        def relations(ratings):
            return [RelationBlock(codes_of_side(ratings, side).numpy().astype(np.int64), block)
                    for side, block in blocks.items()]

        model = MyFMRegressor(rank=k, random_seed=seed)
        model.fit(None, train.values.numpy().astype(float), X_rel=relations(train), group_shapes=shapes,
                  n_iter=sweeps, n_kept_samples=sweeps - burn_in)

        def predicted(ratings):
            values = model.predict(None, X_rel=relations(ratings))
            return torch.as_tensor(values).float().clamp(*ratings.rating_range)
        return predicted
    return predict

def peer(path):
    for cut in sorted(cuts(), key=lambda cut: (cut.split != "GroupLens's u1-u5", cut.data, cut.seed)):
        train = concat(cut.train, cut.valid)
        for level in ('all', 'who rated what'):
            measure(path, cut, f'myFM: {level}', train, cut.test, myfm(level, cut.seed), k=30)

PARTS = {'knowledge': knowledge, 'newcomers': newcomers, 'time': effect_of_time, 'constants': constants,
         'myfm': peer, 'gibbs': knowledge_gibbs}

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('parts', nargs='*', choices=[*PARTS, []], metavar='PART', help=', '.join(PARTS))
    parser.add_argument('--file', type=Path, default=PATH, help='where the rows go')
    args = parser.parse_args()
    torch.set_num_threads(1)
    for part in args.parts or PARTS: PARTS[part](args.file)
