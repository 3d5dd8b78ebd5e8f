"""Train the book's model on the ratings that ship, and write what the page "Rate ten films" needs of it.

    python tools/make_rate_data.py               # writes nbs/assets/rate/films.bin, if it is not up to date
    python tools/make_rate_data.py --compare     # how well new people are predicted, for some settings

What was chosen, and why. `--compare` holds 150 people out of training, folds each in with three, ten or half of their
ratings, and predicts the rest of them:

- The prior decides. With the regularization per rating that `fit_sgd` leaves in the model, a person with ten ratings is
  predicted worse than by biases alone. `learn_prior` mends it in part; by itself it takes the error on the training
  ratings for the noise, which is too small. With the error on ratings kept aside, people are predicted better than by
  biases, with three, ten and half of their ratings.
- With that prior the number of factors and the regularization matter little: k = 32 is the home page's, the
  regularization half of its.

films.bin: one line of JSON, then for each film k factors and its bias as 16-bit whole numbers, to be multiplied by the
`scale` of their kind. Fixed point, not floats: every factor is then off by the same small amount, half a step at most.
"""
import hashlib, json, re, sys
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
REG = 0.06
MIN_RATINGS = 5     # films with fewer ratings stay out of the file: nearly nothing is known of them
ON_MAP = 50         # the map's directions are those of films with so many ratings
LARGEST = 2**15 - 1 # of the 16-bit whole numbers

# ---- the model

def fitted(ratings, k=K, reg=REG):
    "A model of all `ratings`."
    model = MatrixFactorization(ratings, k=k)
    fit_sgd(model, ratings, reg=reg, progress=False)
    return model

def unseen_error(ratings, k=K, reg=REG):
    "The mean squared error on ratings kept aside: how far a rating lies from its prediction."
    train, valid, _ = split_random(ratings, test=0)
    predicted = fitted(train, k, reg).predict(valid)
    return rmse(predicted, valid)**2

def trained(ratings, k=K, reg=REG):
    "The model of the page."
    torch.set_num_threads(1)
    return learn_prior(fitted(ratings, k, reg), ratings, noise=unseen_error(ratings, k, reg))

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

GIVEN = {'three': lambda n: 3, 'ten': lambda n: 10, 'half': lambda n: n//2}    # of a person's n ratings

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

def compare():
    "Print the RMSE of people held out, for each prior and setting."
    ratings = load_sample()
    generator = torch.Generator().manual_seed(0)
    held = torch.randperm(ratings.n_users, generator=generator)[:150]
    people = [shuffled(ratings.take(ratings.users == user), generator) for user in held]
    seen = ratings.take(~torch.isin(ratings.users.long(), held))

    print(f'{"k":>4}{"reg":>7}  {"prior":22}' + ''.join(f'{name:>8}' for name in GIVEN))
    for k, reg in [(0, .06), (16, .06), (32, .03), (32, .06), (32, .12), (64, .06)]:
        model = fitted(seen, k, reg)
        report(model, people, k, reg, 'per rating')
        report(learn_prior(model, seen), people, k, reg, 'learned')
        report(learn_prior(model, seen, unseen_error(seen, k, reg)), people, k, reg, 'learned, unseen noise')

def report(model, people, k, reg, prior):
    "Print one line of the comparison."
    errors = [held_out_error(model, people, given) for given in GIVEN.values()]
    print(f'{k:4}{reg:7}  {prior:22}' + ''.join(f'{error:8.4f}' for error in errors))

if __name__ == '__main__':
    if sys.argv[1:] == ['--compare']: compare()
    else: print(f'{TARGET.relative_to(root)}: {"written" if write() else "up to date"}, {TARGET.stat().st_size/1000:.0f} kB')
