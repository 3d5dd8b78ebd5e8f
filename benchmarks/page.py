"""Which order of films is best for somebody who rates ten: the choice behind the page "Rate ten films". Writes `page.jsonl`.

    python benchmarks/page.py               # the seeds that are not in page.jsonl yet
    python benchmarks/page.py --seeds 0 1   # some of them
    python benchmarks/page.py --table       # what page.jsonl says

For each of five seeds, 160 users who gave 4 stars or more to at least twenty films are held out of training. Ten of those
films, drawn at random, are given with their stars; the list is to find the rest of them. Eighty of the users choose the
settings, by nDCG@10, and the other eighty are the test. Films with fewer than five ratings take no part: they are not on
the page. The page lists films with a number of ratings or more, and which number is a setting, `least`.

Each method has the settings that are best for the users who choose, except the page's own, implicit ALS and some of the
predicted stars: there, of the settings within 0.015 of the best nDCG, those with the largest share in genre are taken (to two
digits; then those with the larger `least`).

| measured | what |
|---|---|
| `ndcg` | nDCG@10 of the lists of ten |
| `recall` | the share of the wanted films among the first twenty, of as many as there could be |
| `coverage` | how many different films stand on the eighty lists of ten |
| `shared` | how many of ten films two lists have in common, the mean over all pairs of users |
| `in_genre` | somebody gives 5 stars to ten films of a genre: the share of their list with that genre, the mean of sixteen |

`of_stars` says how well the predicted stars fit the users' ratings of all other films: RMSE, and the share of the
ratings that lie within the plus-minus which the page shows. `rmse_clamped` is that of predictions cut off at 5 stars; the page
shows the expected value of a rating that is cut off at 5.
"""
import argparse, ast, math, os, sys, time
from pathlib import Path
from typing import NamedTuple
os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np
import pandas as pd
import torch
from torch.special import ndtr
from ledger import machine, ratings_sha256, read_rows, write_rows
from mfbook.holdout import rating_counts, rmse, split_random
from mfbook.implicit import ease, events_from_ratings
from mfbook.model import MatrixFactorization
from mfbook.newcomers import learn_prior, ridge_problem, solve_ridge
from mfbook.ratings import load_sample
from mfbook.runs import fit_sgd

root = Path(__file__).resolve().parent.parent
sys.path.append(str(root/'tools'))
from make_rate_data import LIKED, MIN_RATINGS, order_model, star_model

PATH = Path(__file__).resolve().parent/'page.jsonl'
SEEDS = range(5)
HELD_OUT = 160         # users; half of them choose, half of them judge
FAVORITES = 20         # films that such a user must have liked
GIVEN = 10             # of them are given
LISTED = 10            # films on a list
LONGER = 20            # films on the list whose recall is measured
LEAST_IN_GENRE = 10    # ratings of a film that stands for its genre
GENRES = ['Action', 'Animation', 'Children', 'Comedy', 'Crime', 'Documentary', 'Fantasy', 'Film-Noir', 'Horror', 'Musical',
          'Mystery', 'Romance', 'Sci-Fi', 'Thriller', 'War', 'Western']

# ---- users held out, and what is measured on them

class Person(NamedTuple):
    "Somebody who rates ten films."
    items: torch.Tensor    # (10,) codes of the films given
    stars: torch.Tensor    # (10,)
    wanted: np.ndarray     # codes of other films they liked, to be found; none for a made-up person
    others: object = None  # all their other `Ratings`
    genre: str = ''        # of the films given, for a made-up person

class Draw(NamedTuple):
    "One seed: who is held out, and who is made up."
    seed: int
    seen: object        # the `Ratings` of everybody else
    valid: list         # of Persons
    test: list
    made_up: list       # one for each genre

def person_of(own, possible, random):
    "A held-out user's ratings `own` in parts; only films `possible` (n_items,) bool are given or wanted."
    liked = np.flatnonzero((own.values.numpy() >= LIKED) & possible[own.items.numpy()])
    liked = random.permutation(liked)
    given = liked[:GIVEN]
    rest = np.setdiff1d(np.arange(len(own)), given)
    wanted = own.items[liked[GIVEN:]].numpy()
    return Person(own.items[given].long(), own.values[given], wanted, own.take(torch.from_numpy(rest)))

def made_up(films, counts, genre, random):
    "Somebody who gave 5 stars to ten films of one genre."
    has = films.genres.str.split('|').map(lambda own: genre in own).to_numpy()
    known = np.flatnonzero(has & (counts >= LEAST_IN_GENRE))
    chosen = random.choice(known, GIVEN, replace=False, p=counts[known]/counts[known].sum())
    return Person(torch.from_numpy(chosen), torch.full((GIVEN,), 5.), np.zeros(0, int), genre=genre)

def draw(ratings, seed):
    "Hold users out."
    random = np.random.default_rng(seed)
    possible = rating_counts(ratings)[1].numpy() >= MIN_RATINGS
    liked = (ratings.values.numpy() >= LIKED) & possible[ratings.items.numpy()]
    counts = np.bincount(ratings.users.numpy()[liked], minlength=ratings.n_users)
    held = random.permutation(np.flatnonzero(counts >= FAVORITES))[:HELD_OUT]
    people = [person_of(ratings.take(ratings.users == int(user)), possible, random) for user in held]
    seen = ratings.take(~torch.isin(ratings.users, torch.from_numpy(held)))
    counts = rating_counts(seen)[1].numpy()
    invented = [made_up(ratings.movies, counts, genre, random) for genre in GENRES]
    return Draw(seed, seen, people[:HELD_OUT//2], people[HELD_OUT//2:], invented)

def best_films(scores, person, allowed, n):
    "The codes of the n best films for a person, best first, of those `allowed` (m,), without the ones given."
    open_to = np.setdiff1d(allowed, person.items.numpy())
    own = scores[open_to]
    top = np.argpartition(-own, n)[:n]
    return open_to[top[np.argsort(-own[top], kind='stable')]]

def found(films, wanted):
    "nDCG@10 and recall@20 of one person's first twenty films."
    hits = np.isin(films, wanted)
    worth = 1/np.log2(np.arange(LISTED) + 2)
    ndcg = hits[:LISTED] @ worth / worth[:len(wanted)].sum()
    return ndcg, hits.sum()/min(LONGER, len(wanted))

def measure(scores, people, allowed):
    "ndcg, recall, coverage and shared of `people`, with their `scores` (n_people, n_items)."
    firsts = [best_films(own, person, allowed, LONGER) for own, person in zip(scores, people)]
    ndcg, recall = np.mean([found(films, person.wanted) for films, person in zip(firsts, people)], axis=0)
    listed = np.zeros(scores.shape, dtype=np.float32)
    for row, films in zip(listed, firsts): row[films[:LISTED]] = 1
    in_common = listed @ listed.T
    n = len(people)
    shared = (in_common.sum() - in_common.trace())/(n*(n - 1))
    return dict(ndcg=ndcg, recall=recall, coverage=int(listed.any(0).sum()), shared=shared)

def share_in_genre(scores, people, allowed, films):
    "How many of the films listed for made-up people have the genre they stand for."
    has = {genre: films.genres.str.split('|').map(lambda own: genre in own).to_numpy() for genre in GENRES}
    lists = [best_films(own, person, allowed, LISTED) for own, person in zip(scores, people)]
    return np.mean([has[person.genre][films] for films, person in zip(lists, people)])

# ---- methods: scores of all films for some people, (n_people, n_items)

def by_stars(model, people):
    "Predicted stars."
    rows = [model.fold_in(person.items, person.stars) for person in people]
    return np.stack([model.scores(row).numpy() for row in rows])

def by_likes(model, people):
    "How likely each film is liked, by implicit ALS: the films given with `LIKED` stars or more are events."
    liked = [person.items[person.stars >= LIKED] for person in people]
    rows = [model.fold_in(items, torch.ones(len(items))) for items in liked]
    return np.stack([model.scores(row).numpy() for row in rows])

def by_weights(B, people):
    "EASE: the sums of the weights from the films given."
    return np.stack([B[person.items].sum(0).numpy() for person in people])

def by_sgd(seen, people):
    "The page's own order before this was measured: SGD, and a prior learned with the error on ratings kept aside."
    def fitted(ratings):
        model = MatrixFactorization(ratings, k=32)
        fit_sgd(model, ratings, reg=13., progress=False)
        return model
    train, kept, _ = split_random(seen, test=0)
    noise = rmse(fitted(train).predict(kept), kept)**2
    return by_stars(learn_prior(fitted(seen), seen, noise=noise), people)

FACTORS = (16, 0), (16, 16), (32, 16)              # and features of who rated what
BIAS_WEIGHTS = 0.75, 0.5, 0.25, 0.
ALS = (32, 0.1, 0.003), (32, 0.3, 0.003), (32, 0.3, 0.007), (64, 0.3, 0.003)   # k, unobserved_weight, reg
REGS = 300., 1000., 3000.
STARS = 0.02, 0.05, 0.1, 0.2                       # weight of a predicted star in a mixture

def orders(seen, people):
    "Each method with each of its settings: (name, settings, scores)."
    events = events_from_ratings(seen, LIKED)
    liked_by = rating_counts(events)[1].numpy().astype(float)
    yield 'popularity', {}, np.tile(liked_by, (len(people), 1))
    yield 'stars, SGD', {}, by_sgd(seen, people)

    for k, features in FACTORS:
        model, _ = star_model(seen, k, features)
        yield 'stars, variational Bayes', dict(k=k, features=features), by_stars(model, people)
    model, _ = star_model(seen)
    stars = by_stars(model, people)
    bias = model.baseline('item').numpy()
    for weight in BIAS_WEIGHTS:
        yield 'stars, less of the bias', dict(bias_weight=weight), stars - (1 - weight)*bias

    for k, weight, reg in ALS:
        settings = dict(k=k, unobserved_weight=weight, reg=reg)
        likes = by_likes(order_model(seen, **settings), people)
        yield 'implicit ALS', settings, likes
        for w in STARS: yield 'implicit ALS and stars', dict(settings, stars=w), likes + w*stars
    for reg in REGS:
        likes = by_weights(ease(events, reg), people)
        yield 'EASE', dict(reg=reg), likes
        for w in STARS: yield 'EASE and stars', dict(reg=reg, stars=w), likes + w*stars

CHOSEN = 'implicit ALS and stars'
MOST_FACTORS = 32      # of the model of likes that fit in the page's file
TOLERANCE = 0.015      # of nDCG on the people who choose: what may be given up for lists closer to the genre
LEAST = 5, 20, 50      # ratings of a film that may be listed

# ---- how well the stars are predicted

def fit_of_stars(draw):
    "RMSE, and the share of ratings within the plus-minus, on all other ratings of the test people."
    model, noise = star_model(draw.seen)
    lowest, highest = model.rating_range
    predicted = []
    deviations = []
    for person in draw.test:
        w, factor = solve_ridge(ridge_problem(model, 'user', person.items, person.stars))
        items = person.others.items.long()
        X = model.rows('item', items).double()
        X[:, -1] = 1
        predicted.append(model.baseline('item', items) + X @ w)
        variance = (X*torch.cholesky_solve(X.T, factor).T).sum(1)      # x' A^-1 x
        deviations.append((noise*(1 + variance)).sqrt())
    predicted, deviations = torch.cat(predicted), torch.cat(deviations)
    true = torch.cat([person.others.values for person in draw.test])
    expected = on_the_scale(predicted, deviations, lowest, highest)
    within = (expected - true).abs() <= deviations
    return dict(rmse=rmse(expected, true), rmse_clamped=rmse(predicted.clamp(lowest, highest), true),
                within=within.double().mean(), deviation=deviations.mean())

def on_the_scale(mean, deviation, lowest, highest):
    "The expected value of a normal variable that is cut off at the ends of the scale."
    below, above = (lowest - mean)/deviation, (highest - mean)/deviation
    def density(z): return torch.exp(-z.square()/2)/math.sqrt(2*math.pi)
    inside = ndtr(above) - ndtr(below)
    return lowest*ndtr(below) + highest*ndtr(-above) + mean*inside + deviation*(density(below) - density(above))

# ---- the runs

def rounded(results): return {name: round(float(number), 4) for name, number in results.items()}

def runs_of(draw, ratings):
    "What this seed's people say of each method, its settings, and each `least`: dicts."
    counts = rating_counts(ratings)[1].numpy()
    people = [*draw.valid, *draw.test, *draw.made_up]
    ends = HELD_OUT//2, HELD_OUT
    for method, settings, scores in orders(draw.seen, people):
        valid, test, made_up = np.split(scores, ends)
        for least in LEAST:
            allowed = np.flatnonzero(counts >= least)
            on_test = measure(test, draw.test, allowed)
            on_test['in_genre'] = share_in_genre(made_up, draw.made_up, allowed, ratings.movies)
            on_valid = measure(valid, draw.valid, allowed)['ndcg']
            yield dict(method=method, settings=dict(settings, least=least), valid=round(on_valid, 4), test=rounded(on_test))

def run(seeds, path):
    "Measure what the file does not hold yet."
    torch.set_num_threads(1)
    ratings = load_sample()
    for seed in seeds:
        if any(row['seed'] == seed for row in read_rows(path)): continue
        started = time.perf_counter()
        drawn = draw(ratings, seed)
        found = list(runs_of(drawn, ratings))
        ran = {name: value for name, value in machine().items() if name != 'peak_mb'}
        row = dict(data='ml-sample', data_sha256=ratings_sha256(ratings), seed=seed, of_stars=rounded(fit_of_stars(drawn)),
                   runs=found, **ran)
        write_rows(path, [*read_rows(path), row])
        print(f'seed {seed}: {len(found)} runs, {time.perf_counter() - started:.0f} s', flush=True)

# ---- what the file says

def frame(path=PATH):
    "A line for each seed, method and settings."
    lines = []
    for row in read_rows(path):
        for one in row['runs']:
            known = dict(method=one['method'], settings=str(one['settings']), seed=row['seed'], valid=one['valid'])
            lines.append(known | one['test'])
    return pd.DataFrame(lines)

NUMBERS = ['valid', 'ndcg', 'recall', 'coverage', 'shared', 'in_genre']

def means(path=PATH):
    "Each method and settings, and the means over the seeds of what was measured."
    return frame(path).groupby(['method', 'settings'], sort=False)[NUMBERS].mean().reset_index()

def chosen(path=PATH):
    "The settings of the page: of those nearly as good as the best on the validation users, the most in genre."
    runs = means(path)
    runs = runs[runs.method == CHOSEN]
    settings = runs.settings.map(ast.literal_eval)
    runs = runs.assign(k=[one['k'] for one in settings], least=[one['least'] for one in settings],
                       about=runs.in_genre.round(2))
    fits = runs.k <= MOST_FACTORS
    good = runs.valid >= runs.valid.max() - TOLERANCE
    return runs[fits & good].sort_values(['about', 'least', 'valid']).iloc[-1]

def best(path=PATH):
    "For each method the settings that are best on the validation users, and for the page's method those of `chosen`."
    runs = means(path)
    runs = runs.loc[runs.groupby('method', sort=False).valid.idxmax()].set_index('method')
    runs.loc[CHOSEN, 'settings'] = chosen(path).settings
    return runs.reset_index()[['method', 'settings']]

def table(path=PATH):
    "What the best settings of each method get on the test users: means and deviations over the seeds."
    runs = frame(path).merge(best(path))
    return runs.groupby(['method', 'settings'], sort=False)[NUMBERS].agg(['mean', 'std'])

def seeds(path=PATH): return len(read_rows(path))

def summary(path=PATH):
    "The table of the page."
    found = table(path)
    digits = dict(ndcg=3, recall=3, coverage=0, shared=1, in_genre=2)
    names = ['nDCG@10', 'Recall@20', 'films', 'in common', 'in genre']
    text = {name: [f'{mean:.{n}f}\u00a0±\u00a0{std:.{n}f}' for mean, std in found[column].to_numpy()]
            for name, (column, n) in zip(names, digits.items())}
    summary = pd.DataFrame(text, index=found.index.get_level_values('method').rename(None))
    return summary.loc[[*summary.index.drop(CHOSEN), CHOSEN]]

def stars_table(path=PATH):
    "RMSE and share within the plus-minus of the predicted stars: mean and deviation over the seeds."
    return pd.DataFrame([row['of_stars'] for row in read_rows(path)]).agg(['mean', 'std'])

if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seeds', nargs='+', type=int, default=SEEDS)
    parser.add_argument('--file', default=PATH, type=Path)
    parser.add_argument('--table', action='store_true')
    asked = parser.parse_args()
    if asked.table:
        print(table(asked.file).round(3).to_string())
        print(stars_table(asked.file).round(3).to_string())
    else: run(asked.seeds, asked.file)
