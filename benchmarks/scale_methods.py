"""The methods of scale.py. Each is a generator that is given the training ratings and its settings: it prepares,
yields, then makes a sweep and yields, and so on. What it yields is a function that predicts the values of `Ratings`.
The clock runs only while it works, so who asks for predictions in between costs it nothing.
"""
from collections import namedtuple
from itertools import product
import numpy as np
import torch
from mfbook.als import _sweep, sides
from mfbook.gibbs import _Chain, _Means, _predict, fit_variational
from mfbook.model import MatrixFactorization
from mfbook.scale import closed_form, compiled, start_on_parts
from mfbook.training import _epoch, _set_prior, cosine

def als(train, k, decay, bias_decay, per_rating=False, steps=None):
    "Lesson 07's, each row solved exactly, or improved by so many steps."
    model = MatrixFactorization(train, k=k)
    _set_prior(model, decay, bias_decay)
    prior = model.user_prior_mean, model.user_prior_precision, per_rating
    by_user, by_film = sides(train, model.mu.item())
    yield model.predict
    while True:
        _sweep(model, by_user, by_film, prior, steps)
        yield model.predict

def gibbs(train, k, burn_in, start=0, shares=(), seed=0):
    """Lesson 08's: what predicts is the average of the draws' predictions, during the burn-in the last draw. Before it,
    as preparation, a start on `shares` and `start` sweeps of variational Bayes: from random rows it takes many draws to
    find the factors."""
    model = MatrixFactorization(train, k=k)
    if shares:
        begun = start_on_parts(model, train, shares)
        fit_variational(model, train, sweeps=start, start=begun, habits=0, steps=3, progress=False)
    chain, total = _Chain(model, train, None, burn_in, (), 0), 0.
    def predict(ratings):                                             # called once after each sweep
        nonlocal total
        s, done = chain.state, len(chain.state['rows'])
        p = _predict(chain.mu, s['now']['user'], s['now']['item'], ratings).clamp(*train.rating_range)
        total = total + p if done > burn_in + 1 else p
        return total/max(1, done - burn_in)
    yield predict
    while True:
        chain.sweep(np.random.default_rng([seed, len(chain.state['rows'])]))
        yield predict

def variational(train, k, start=0, shares=(), steps=3):
    """Lesson 08's, by conjugate gradients; the first `start` sweeps are of ALS, or it starts on shares of the users, and
    then the users' rows, given the films of these, count as a sweep of their own."""
    model = MatrixFactorization(train, k=k)
    begun = start_on_parts(model, train, shares) if shares else None
    state = _Means(model, train, 0)
    yield model.predict
    if begun:
        begun(state, model, steps)
        yield model.predict
    for _ in range(start):
        state.variance.fill_(_sweep(model, *state.sides.values(), state.als, steps)/len(train))
        yield model.predict
    while True:
        state.sweep(model, steps)
        yield model.predict

def sgd(update):
    "The book's `fit_sgd` with the steps that `update` makes; compiling them, if they are compiled, is preparation."
    def fit(train, k, lr, decay, bias_decay, batch_size, epochs, seed=0):
        model = MatrixFactorization(train, k=k, seed=seed)
        step = update(model)
        step(*(c[:batch_size] for c in (train.users, train.items, train.values)), 1e-9, 0., 0.)
        yield model.predict
        for epoch in range(epochs):
            try: _epoch(step, train, epoch, epochs, lr, decay, bias_decay, batch_size, cosine, seed, None)
            except FloatingPointError: return
            yield model.predict
    return fit

def dot(mean, user_bias, item_bias, P, Q, batch=2**18):
    "A function that predicts from biases and factors, numpy arrays as the peers have them."
    arrays = (np.ascontiguousarray(x, dtype=np.float32) for x in (user_bias, item_bias, P, Q))
    mean, parts = float(mean), [torch.from_numpy(x) for x in arrays]
    def some(u, i):
        a, b, P, Q = (t.index_select(0, at) for t, at in zip(parts, (u, i, u, i)))
        return mean + a + b + (P*Q).sum(1)
    return lambda r: torch.cat([some(u, i) for u, i in zip(r.users.split(batch), r.items.split(batch))])

def cornac(train, k, lr, reg, order='file'):
    "Cornac's MF, an epoch at a time, through the ratings as they are ordered; its own ids are the book's codes."
    from cornac.data import Dataset
    from cornac.models import MF
    users, items, values = (c.numpy() for c in (train.users, train.items, train.values))
    if order == 'random':
        order = np.random.default_rng(0).permutation(len(train))
        users, items, values = (c[order] for c in (users, items, values))
    ids = [dict.fromkeys(range(n)) for n in (train.n_users, train.n_items)]
    data = Dataset(train.n_users, train.n_items, *ids, (users.astype(np.int64), items.astype(np.int64), values))
    del users, items, values
    data.global_mean = np.float32(train.mean)
    rng, draw = np.random.default_rng(0), {}
    for side, n in (('u', train.n_users), ('i', train.n_items)):              # as its own `_init` does
        draw[side] = (.01*rng.standard_normal((n, k))).astype(np.float32), np.zeros(n, np.float32)
    (U, Bu), (V, Bi) = draw['u'], draw['i']
    model = MF(k=k, learning_rate=lr, lambda_reg=reg, max_iter=1, init_params=dict(U=U, V=V, Bu=Bu, Bi=Bi),
               num_threads=torch.get_num_threads())
    predict = dot(train.mean, Bu, Bi, U, V)                                   # the arrays are moved in place
    yield predict
    while True:
        model.is_fitted = False                                               # it goes on, and need not warn of it
        model.fit(data)
        yield predict

def cmfrec(train, k, decay, bias_decay, per_rating=False, steps=3):
    "cmfrec's CMF without side information, by conjugate gradients; fits of 1, 2, 3, ... sweeps, each from the start."
    from cmfrec import CMF
    from scipy.sparse import coo_matrix
    users, items, values = (c.numpy() for c in (train.users, train.items, train.values))
    X = coo_matrix((values, (users, items)), (train.n_users, train.n_items))
    yield None
    for sweeps in (1, 2, 3, 4, 6, 8, 10):
        prices = np.array([bias_decay, bias_decay, decay, decay, 0., 0.])
        model = CMF(k=k, lambda_=prices, scale_lam=per_rating, use_cg=True, max_cg_steps=steps, finalize_chol=False,
                    niter=sweeps, precompute_for_predictions=False, nthreads=torch.get_num_threads()).fit(X)
        yield dot(model.glob_mean_, model.user_bias_, model.item_bias_, model.A_, model.B_)

def implicit(train, k, reg):
    "implicit's ALS, a sweep at a time: the two calls that its `fit` makes. It predicts no stars."
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    threads = torch.get_num_threads()
    model = AlternatingLeastSquares(factors=k, regularization=reg, num_threads=threads, random_state=0)
    users, items, values = (c.numpy() for c in (train.users, train.items, train.values))
    by_user = csr_matrix((values, (users, items)), (train.n_users, train.n_items))
    by_film, rng = by_user.T.tocsr(), np.random.default_rng(0)
    P, Q = (.01*rng.random((n, k), dtype=np.float32) for n in (train.n_users, train.n_items))
    yield None
    while True:
        model.solver(by_user, P, Q, reg, num_threads=threads)
        model.solver(by_film, Q, P, reg, num_threads=threads)
        yield None

def grid(**values): return [dict(zip(values, v)) for v in product(*values.values())]

# fit: a generator as above. grid: what is tried; or like: the method whose settings are taken. package: its origin.
# sweeps: at most so many; patience: or so many without a better validation RMSE, None for no such end. threads: None
# for as many as there are. restarts: whether each sweep is a fit from the start. stars: whether it predicts them.
Method = namedtuple('Method', 'fit grid package sweeps patience like threads restarts stars',
                    defaults=('mfbook', 20, 4, None, None, False, True))
PRICES = [dict(decay=30., bias_decay=3., per_rating=False),
          *grid(decay=[.05, .07, .1], bias_decay=[.02], per_rating=[True])]
METHODS = {
    'ALS':          Method(als, [dict(k=32, **p) for p in PRICES]),
    'CG ALS':       Method(als, [dict(k=32, **p, steps=3) for p in PRICES]),
    'variational':  Method(variational, [dict(k=32, start=2), dict(k=32, shares=[1/16, 1/4])]),
    'Gibbs':        Method(gibbs, [dict(k=32, burn_in=10, start=4, shares=[1/16, 1/4])], sweeps=50, patience=None),
    'SGD':          Method(sgd(closed_form), grid(k=[32], lr=[40., 80.], decay=[.015, .025, .035], bias_decay=[.02],
                                                  batch_size=[4096], epochs=[8, 16]), threads=1),
    'compiled SGD': Method(sgd(compiled), [], like='SGD', threads=1),
    'Cornac MF':    Method(cornac, [*grid(k=[32], lr=[.01, .02], reg=[.015, .02, .03, .04]),
                                    dict(k=32, lr=.01, reg=.03, order='random')], 'cornac', 60),
    'cmfrec ALS':   Method(cmfrec, [dict(k=32, **p) for p in PRICES], 'cmfrec', restarts=True),
    'implicit ALS': Method(implicit, grid(k=[32], reg=[.01]), 'implicit', stars=False),
}
