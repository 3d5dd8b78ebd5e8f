"""Train the two models of the page "Rate ten films" on the ratings that ship, and write what the page needs of them.

    python tools/make_rate_data.py     # writes nbs/assets/rate/films.bin, if it is not up to date

One model predicts stars, the other how likely a film is liked. `benchmarks/page.py` holds users out, tries many orders of
films, and its ledger says which is best; a test holds the settings below to that choice.

films.bin: one line of JSON, then two tables of 8-bit whole numbers, a row for each film. The first has the factors and the
bias of the model of stars, the second the factors of the model of likes. Each column is to be multiplied by its `scale`.
"""
import hashlib, json, re
from pathlib import Path
import numpy as np
from mfbook.features import who_rated_what
from mfbook.holdout import rating_counts
from mfbook.implicit import events_from_ratings, fit_implicit_als
from mfbook.model import MatrixFactorization
from mfbook.ratings import load_sample
from mfbook.recommending import principal_axes
from mfbook.runs import whole_file
from mfbook.variational import fit_variational

root = Path(__file__).resolve().parent.parent
TARGET = root/'nbs'/'assets'/'rate'/'films.bin'
SOURCES = ('ratings.py', 'model.py', 'als.py', 'gibbs.py', 'variational.py', 'features.py', 'implicit.py', 'runs.py', 'recommending.py',
           'sample/ml-sample.zip')
LIKED = 4           # stars and more: an event for the model of likes
K_STARS = 16
FEATURES = 16
STAR_SWEEPS = 15
ORDER = dict(k=32, unobserved_weight=0.3, reg=0.003)
ORDER_SWEEPS = 12
STAR_WEIGHT = 0.02  # the order is by the likes, plus so much for each predicted star
MIN_RATINGS = 5     # films with fewer ratings stay out of the file: nearly nothing is known of them
LEAST = 20          # ratings of a film that the page lists at first
ON_MAP = 50         # the map's directions are those of films with so many ratings
LARGEST = 127       # of the 8-bit whole numbers

# ---- the two models

def star_model(ratings, k=K_STARS, features=FEATURES):
    "The model that predicts stars, with its own prior, and the variance of a rating around its prediction."
    model = MatrixFactorization(ratings, k=k)
    known = who_rated_what(ratings, features) if features else None
    history = fit_variational(model, ratings, sweeps=STAR_SWEEPS, features=known, progress=False)
    return model, history.best['noise']**2

def order_model(ratings, **settings):
    "The model that says how likely a film is liked, by implicit ALS on the ratings of `LIKED` stars or more."
    settings = ORDER | settings
    events = events_from_ratings(ratings, LIKED)
    model = MatrixFactorization(events, k=settings.pop('k'))
    fit_implicit_als(model, events, sweeps=ORDER_SWEEPS, progress=False, **settings)
    return model

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

def fixed_point(columns):
    "float64 columns (n, c) as 8-bit whole numbers, and the step that they count in each column."
    step = np.abs(columns).max(axis=0) / LARGEST
    return np.round(columns / step).astype(np.int8), step.tolist()

def significant(numbers, digits=7):
    "Nested lists of floats with so many digits: fewer bytes, and exact enough."
    if isinstance(numbers, list): return [significant(one, digits) for one in numbers]
    return float(f'{numbers:.{digits}g}')

def prior_of(model, n):
    "The first n numbers of the prior of people's rows, for the file's head."
    prior = model.prior('user')
    return dict(mean=significant(prior.mean[:n].tolist()), precision=significant(prior.precision[:n, :n].tolist()))

def contents(ratings, stars, noise, likes):
    "The file's head, a dict, and its tables (n, k+1) and (n, k), int8."
    count = rating_counts(ratings)[1]
    keep = (count >= MIN_RATINGS).nonzero().flatten()
    of_stars, stars_scale = fixed_point(stars.rows('item')[keep].double().numpy())
    of_likes, likes_scale = fixed_point(likes.rows('item')[keep, :likes.k].double().numpy())

    films = ratings.movies.iloc[keep.tolist()]
    genres, masks = genre_masks(films)
    head = dict(
        made_from=source(),
        people=ratings.n_users,
        ratings=len(ratings),
        least=MIN_RATINGS,
        list_least=LEAST,
        range=stars.rating_range,
        liked=LIKED,
        star_weight=STAR_WEIGHT,
        stars=dict(scale=stars_scale, mu=stars.mean, noise=noise, **prior_of(stars, stars.k + 1)),
        likes=dict(scale=likes_scale, **prior_of(likes, likes.k)),
        map=dict(least=ON_MAP, **directions(stars, count >= ON_MAP)),
        genres=genres,
        id=[int(raw_id) for raw_id in ratings.item_ids[keep]],
        title=[natural(title) for title in films.title],
        year=[int(year) for year in films.year],
        genre=masks,
        count=count[keep].tolist())
    return head, of_stars, of_likes

def up_to_date(target):
    "Whether the file was made from the same sources."
    if not target.exists(): return False
    made_from = f'"made_from":"{source()}"'.encode()
    return made_from in target.read_bytes()[:100]

def write(target=TARGET):
    "Write the file, if there is none made from the same sources. Returns whether it did."
    if up_to_date(target): return False
    ratings = load_sample()
    head, of_stars, of_likes = contents(ratings, *star_model(ratings), order_model(ratings))
    with whole_file(target) as tmp:
        text = json.dumps(head, ensure_ascii=False, separators=(',', ':'))
        Path(tmp).write_bytes(text.encode() + b'\n' + of_stars.tobytes() + of_likes.tobytes())
    return True

if __name__ == '__main__':
    print(f'{TARGET.relative_to(root)}: {"written" if write() else "up to date"}, {TARGET.stat().st_size/1000:.0f} kB')
