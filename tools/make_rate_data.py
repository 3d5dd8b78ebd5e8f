"""Train the book's model on the ratings that ship, and write what the page "Rate ten films" needs of it.

    python tools/make_rate_data.py               # writes nbs/assets/rate/films.bin, if it is not up to date
    python tools/make_rate_data.py --compare     # how well new people are predicted, for some settings

What was chosen, and why. `--compare` holds 150 people out of training, folds each in with one, three, ten or half of
their ratings, and predicts the rest of them; it prints means of three draws of people, and takes some minutes:

- The prior comes first. `learn_prior` by itself takes the error on the training ratings for the noise, which is too small.
  With the error on ratings kept aside, every model errs less after one, three and ten ratings than with its own prior.
- The regularization of the factors trades few ratings for many. Counted once per row, 20 is nearly the biases alone: best
  after ten ratings (RMSE 0.930, and 0.931 with 10 or 13), worst after half of a person's (0.895; 0.888 with 13, 0.884 with
  10). 13, which `fit_sgd` takes by itself, lies between.
- Counted per rating, 0.12 leaves a prior with which one rating is worse than none (1.163). Its factors with a learned prior
  are the best after ten ratings (0.927), and with half (0.885) near the best.

films.bin: one line of JSON, then for each film k factors and its bias as 16-bit whole numbers, to be multiplied by the
`scale` of their kind. Fixed point, not floats: every factor is then off by the same small amount, half a step at most.
"""
import hashlib, json, re, sys
from copy import deepcopy
from pathlib import Path
import numpy as np
import torch
from mfbook.holdout import rating_counts, rmse, split_random
from mfbook.model import MatrixFactorization
from mfbook.newcomers import learn_prior
from mfbook.ratings import load_sample
from mfbook.recommending import principal_axes
from mfbook.runs import fit_sgd, whole_file

root = Path(__file__).resolve().parent.parent
TARGET = root/'nbs'/'assets'/'rate'/'films.bin'
SOURCES = ('ratings.py', 'model.py', 'holdout.py', 'training.py', 'runs.py', 'recommending.py', 'newcomers.py',
           'sample/ml-sample.zip')
K = 32
REG = 13.           # once per row, in standard deviations of the ratings, as `fit_sgd` counts it
MIN_RATINGS = 5     # films with fewer ratings stay out of the file: nearly nothing is known of them
ON_MAP = 50         # the map's directions are those of films with so many ratings
LARGEST = 2**15 - 1 # of the 16-bit whole numbers

# ---- the model

def fitted(ratings, k=K, **settings):
    "A model of all `ratings`, by `fit_sgd` with these settings."
    model = MatrixFactorization(ratings, k=k)
    settings = dict(reg=REG) | settings
    fit_sgd(model, ratings, progress=False, **settings)
    return model

def unseen_error(ratings, k=K, **settings):
    "The mean squared error on ratings kept aside: how far a rating lies from its prediction."
    train, valid, _ = split_random(ratings, test=0)
    predicted = fitted(train, k, **settings).predict(valid)
    return rmse(predicted, valid)**2

def trained(ratings):
    "The model of the page."
    torch.set_num_threads(1)
    return learn_prior(fitted(ratings), ratings, noise=unseen_error(ratings))

# ---- the file

def source():
    "A hash of all that decides what is in the file."
    files = [root/'mfbook'/name for name in SOURCES] + [Path(__file__)]
    content = b''.join(file.read_bytes() for file in files)
    return hashlib.sha256(content).hexdigest()[:16]

def directions(model, known):
    "The map: the two axes of the factors of the films `known` (n_items,) bool, and how far to stretch a person's factors."
    films = model.rows('item')[known, :-1].double()
    people = model.rows('user')[:, :-1].double()
    middle, axes, share = principal_axes(films)
    places = (films - middle) @ axes.T
    stretch = places.std() / (people @ axes.T).std()
    return dict(middle=middle.tolist(), axes=axes.tolist(), stretch=stretch.item(), share=share.tolist())

def natural(title):
    "'The Godfather: Part II' from 'Godfather: Part II, The'."
    return re.sub(r'^(.*?), (The|A|An|Das|Der|Die|La|Le|Les|El|Los|Las|Il|Det)( \(.*)?$', r'\2 \1\3', title)

def genre_masks(films):
    "The names of all genres, and for each film a number whose bit g says whether it has genre g."
    own = [set(text.split('|')) for text in films.genres]
    names = sorted(name for name in set().union(*own) if name[0] != '(')     # not '(no genres listed)'
    bits = {name: 1 << bit for bit, name in enumerate(names)}
    masks = [sum(bits.get(name, 0) for name in genres) for genres in own]
    return names, masks

def fixed_point(numbers):
    "float64 numbers as 16-bit whole numbers, and the step that they count."
    step = float(np.abs(numbers).max()) / LARGEST
    return np.round(numbers / step), step

def contents(ratings, model):
    "The file's head, a dict, and its table (n, k+1) int16."
    count = rating_counts(ratings)[1]
    keep = (count >= MIN_RATINGS).nonzero().flatten()
    rows = model.rows('item')[keep].double().numpy()
    factors, factor_step = fixed_point(rows[:, :-1])
    bias, bias_step = fixed_point(rows[:, -1:])

    films = ratings.movies.iloc[keep.tolist()]
    genres, masks = genre_masks(films)
    prior = model.prior('user')
    head = dict(
        made_from=source(),
        people=ratings.n_users,
        ratings=len(ratings),
        least=MIN_RATINGS,
        k=model.k,
        scale=[factor_step, bias_step],
        range=model.rating_range,
        mu=model.mean,
        per_rating=prior.per_rating,
        prior_mean=prior.mean.tolist(),
        prior_precision=prior.precision.tolist(),
        map=dict(least=ON_MAP, **directions(model, count >= ON_MAP)),
        genres=genres,
        id=[int(raw_id) for raw_id in ratings.item_ids[keep]],
        title=[natural(title) for title in films.title],
        year=[int(year) for year in films.year],
        genre=masks,
        count=count[keep].tolist())
    return head, np.hstack([factors, bias]).astype('<i2')

def up_to_date(target):
    "Whether the file was made from the same sources."
    if not target.exists(): return False
    made_from = f'"made_from": "{source()}"'.encode()
    return made_from in target.read_bytes()[:100]

def write(target=TARGET):
    "Write the file, if there is none made from the same sources. Returns whether it did."
    if up_to_date(target): return False
    ratings = load_sample()
    head, table = contents(ratings, trained(ratings))
    with whole_file(target) as tmp:
        text = json.dumps(head, ensure_ascii=False)
        Path(tmp).write_bytes(text.encode() + b'\n' + table.tobytes())
    return True

# ---- how well new people are predicted

GIVEN = {'one': lambda n: 1, 'three': lambda n: 3, 'ten': lambda n: 10, 'half': lambda n: n//2}   # of a person's n
HELD_OUT = 150
DRAWS = 3
PER_RATING = dict(reg=0.12, bias_reg=0.02, per_rating=True)     # as good as REG for users with trained rows
SETTINGS = [(0, {}), (K, dict(reg=4)), (K, dict(reg=7)), (K, dict(reg=10)), (K, dict(reg=13)), (K, dict(reg=20)),
            (K, PER_RATING)]

def held_out_error(model, people, given):
    "RMSE on the ratings of `people`, a list of `Ratings`, beyond the first `given(n)`, which fold them in."
    predicted = []
    true = []
    for own in people:
        n = given(len(own))
        known = own.take(slice(0, n))
        rest = own.take(slice(n, None))
        scores = model.scores(model.fold_in(known.items, known.values))
        predicted.append(scores[rest.items.long()].clamp(*model.rating_range))
        true.append(rest.values)
    return rmse(torch.cat(predicted), torch.cat(true))

def shuffled(ratings, generator):
    "The same ratings in random order."
    return ratings.take(torch.randperm(len(ratings), generator=generator))

def draw(ratings, seed):
    "Ratings without some people, and a list of the ratings of each of those."
    generator = torch.Generator().manual_seed(seed)
    held = torch.randperm(ratings.n_users, generator=generator)[:HELD_OUT]
    people = [shuffled(ratings.take(ratings.users == user), generator) for user in held]
    return ratings.take(~torch.isin(ratings.users.long(), held)), people

def errors_of(seen, people, k, settings):
    "The errors of the people held out, for each prior: a dict of lists, one number for each of GIVEN."
    model = fitted(seen, k, **settings)
    noise = unseen_error(seen, k, **settings)
    priors = {'as left': model,
              'learned': learn_prior(deepcopy(model), seen),
              'learned, unseen noise': learn_prior(deepcopy(model), seen, noise)}
    return {prior: [held_out_error(ready, people, given) for given in GIVEN.values()]
            for prior, ready in priors.items()}

def compare():
    "Print the RMSE of people held out, the mean of several draws of them, for each setting and prior."
    torch.set_num_threads(1)
    ratings = load_sample()
    draws = [draw(ratings, seed) for seed in range(DRAWS)]
    print(f'{"k":>4}  {"regularization":16}{"prior":22}' + ''.join(f'{name:>8}' for name in GIVEN))
    for k, settings in SETTINGS:
        errors = [errors_of(seen, people, k, settings) for seen, people in draws]
        counted = 'per rating' if 'per_rating' in settings else 'once per row'
        reg = f'{settings["reg"]:g} {counted}' if settings else 'biases alone'
        for prior in errors[0]:
            means = np.mean([own[prior] for own in errors], axis=0)
            print(f'{k:4}  {reg:16}{prior:22}' + ''.join(f'{error:8.4f}' for error in means), flush=True)

if __name__ == '__main__':
    if sys.argv[1:] == ['--compare']: compare()
    else: print(f'{TARGET.relative_to(root)}: {"written" if write() else "up to date"}, {TARGET.stat().st_size/1000:.0f} kB')
