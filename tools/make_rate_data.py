"""Train the book's model on the ratings that ship, and write what the page "Rate ten films" needs of it.

    python tools/make_rate_data.py               # writes nbs/assets/rate/films.bin, if it is not up to date
    python tools/make_rate_data.py --compare     # how well new people are predicted, for some settings

What was chosen, and why. `--compare` holds 150 people out of training, folds each in with three, ten or half of their
ratings, and predicts the rest of them:

- The prior decides. With the price per rating that `fit_sgd` leaves in the model, a person of ten ratings is predicted
  worse than by biases alone. `learn_prior` mends it in part; by itself it takes the error on the training ratings for the
  noise, which is too small. With the error on ratings kept aside, people are predicted better than by biases, at all three.
- With that prior the number of factors and the price matter little: k = 32 is the home page's, the decay half of its.

films.bin: one line of JSON, then for each film k factors and its bias as 16-bit whole numbers, to be multiplied by the
`scale` of their kind. Fixed point, not floats: every factor is then off by the same small amount, half a step at most.
"""
import hashlib, json, re, sys
from pathlib import Path
import numpy as np
import torch
from mfbook.holdout import rmse, split_random
from mfbook.model import MatrixFactorization, whole_file
from mfbook.ratings import load_ratings
from mfbook.recommending import learn_prior
from mfbook.training import fit_sgd

root = Path(__file__).resolve().parent.parent
TARGET = root/'nbs'/'assets'/'rate'/'films.bin'
K, DECAY = 32, 0.06
LEAST = 5           # films with fewer ratings stay out of the file: nearly nothing is known of them
ON_MAP = 50         # the map's directions are those of films with so many ratings

def source():
    "A hash of all that decides what is in the file."
    book = [root/'mfbook'/f for f in ('ratings.py', 'model.py', 'training.py', 'recommending.py', 'sample/ml-sample.zip')]
    return hashlib.sha256(b''.join(f.read_bytes() for f in [*book, Path(__file__)])).hexdigest()[:16]

def fitted(ratings, k=K, decay=DECAY):
    model = MatrixFactorization(ratings, k=k)
    fit_sgd(model, ratings, decay=decay, progress=False)
    return model

def unseen_error(ratings, k=K, decay=DECAY):
    "The mean squared error on ratings kept aside: how far a star lies from its prediction."
    train, valid, _ = split_random(ratings, test=0)
    return rmse(fitted(train, k, decay).predict(valid), valid)**2

def trained(ratings, k=K, decay=DECAY):
    "The model of the page."
    torch.set_num_threads(1)
    return learn_prior(fitted(ratings, k, decay), ratings, noise=unseen_error(ratings, k, decay))

def directions(model, known):
    "The map: the two directions in which the films `known` differ most (PCA), and how far to stretch a person's factors."
    q, p = (t.detach().double() for t in (model.item_factors[known], model.user_factors))
    middle = q.mean(0)
    S, V = torch.linalg.svd(q - middle, full_matrices=False)[1:]
    far = (q - middle) @ V[:2].T                                     # as in `film_map`: the farthest film lies on the
    axes = V[:2] * far.gather(0, far.abs().argmax(0, keepdim=True)).sign().T             # positive side of each axis
    stretch = far.std() / (p @ axes.T).std()
    return dict(middle=middle.tolist(), axes=axes.tolist(), stretch=stretch.item(), share=(S[:2]**2 / (S**2).sum()).tolist())

def natural(title):
    "'The Godfather: Part II' from 'Godfather: Part II, The'."
    return re.sub(r'^(.*?), (The|A|An|Das|Der|Die|La|Le|Les|El|Los|Las|Il|Det)( \(.*)?$', r'\2 \1\3', title)

def contents(ratings, model):
    "The file's head, a dict, and its table (n, k+1) int16."
    count = torch.bincount(ratings.items, minlength=ratings.n_items)
    keep = (count >= LEAST).nonzero().flatten()
    films = ratings.movies.iloc[keep.tolist()]
    genres = sorted({g for m in films.genres for g in m.split('|') if g[0] != '('})
    mask = [sum(1 << genres.index(g) for g in m.split('|') if g in genres) for m in films.genres]
    table = [t.detach().double().numpy()[keep] for t in (model.item_factors, model.item_bias[:, None])]
    scale = [float(np.abs(t).max()) / 32767 for t in table]
    head = dict(made_from=source(), people=ratings.n_users, ratings=len(ratings), least=LEAST, k=model.k, scale=scale,
                range=model.rating_range, mu=model.mu.item(), per_rating=model.prior_per_rating,
                prior_mean=model.user_prior_mean.tolist(), prior_precision=model.user_prior_precision.tolist(),
                map=dict(least=ON_MAP, **directions(model, count >= ON_MAP)), genres=genres,
                id=[int(i) for i in ratings.item_ids[keep]], title=[natural(t) for t in films.title],
                year=[int(y) for y in films.year], genre=mask, count=count[keep].tolist())
    return head, np.hstack([np.round(t / s) for t, s in zip(table, scale)]).astype('<i2')

def write(target=TARGET):
    "Write the file, if there is none made from the same sources."
    if target.exists() and f'"made_from": "{source()}"'.encode() in target.read_bytes()[:100]: return False
    ratings = load_ratings()
    head, table = contents(ratings, trained(ratings))
    with whole_file(target) as tmp:
        Path(tmp).write_bytes(json.dumps(head, ensure_ascii=False).encode() + b'\n' + table.tobytes())
    return True

def compare():
    "Print the RMSE of people held out, for each prior and setting."
    ratings, g = load_ratings(), torch.Generator().manual_seed(0)
    held = torch.randperm(ratings.n_users, generator=g)[:150]
    new = torch.isin(ratings.users.long(), held)
    mine = [rows[torch.randperm(len(rows), generator=g)] for rows in ((ratings.users == u).nonzero().flatten() for u in held)]
    def error(model, of):
        pred, true = [], []
        for rows in mine:
            a, b = (ratings.take(part) for part in rows.tensor_split([of(len(rows))]))
            row = model.fold_in(a.items, a.values)
            pred.append(model.scores_of(row.factors[None], [row.bias])[0][b.items.long()].clamp(*model.rating_range))
            true.append(b.values)
        return rmse(torch.cat(pred), torch.cat(true))
    print(f'{"k":>4}{"decay":>7}  {"prior":22}{"three":>8}{"ten":>8}{"half":>8}')
    seen = ratings.take(~new)
    for k, decay in [(0, .06), (16, .06), (32, .03), (32, .06), (32, .12), (64, .06)]:
        model, noise = fitted(seen, k, decay), unseen_error(seen, k, decay)
        for prior in ('per rating', 'learned', 'learned, unseen noise'):
            if prior != 'per rating': learn_prior(model, seen, noise if 'unseen' in prior else None)
            errors = [error(model, of) for of in (lambda n: 3, lambda n: 10, lambda n: n//2)]
            print(f'{k:4}{decay:7}  {prior:22}' + ''.join(f'{e:8.4f}' for e in errors))

if __name__ == '__main__':
    if sys.argv[1:] == ['--compare']: compare()
    else: print(f'{TARGET.relative_to(root)}: {"written" if write() else "up to date"}, {TARGET.stat().st_size/1000:.0f} kB')
