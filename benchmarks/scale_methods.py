"""The methods of scale.py. Each is a generator that is given the training ratings and its settings:
it prepares, yields, then makes a sweep and yields, and so on. What it yields is a function that
predicts the values of `Ratings`. The clock runs only while the generator works, so predictions in
between cost nothing.

Learning rates and regularization are in stars here, for the peers' sake; the book's solvers take
them in standard deviations of the ratings.
"""
from itertools import product
from typing import Callable, NamedTuple
import numpy as np
import torch
from mfbook.als import ALSSolver
from mfbook.compiled import (CompiledSGDSolver, CompiledVariationalSolver, MeanFieldSolver, fit_compiled_sgd,
                             fit_compiled_variational, fit_mean_field)
from mfbook.gibbs import GibbsSolver, predict_rows
from mfbook.model import MatrixFactorization, predict_pairs, rating_unit
from mfbook.scale import start_on_parts
from mfbook.training import SGDSolver, closed_form, compiled, constant, cosine, penalty_of
from mfbook.variational import VariationalSolver, fit_variational

# The book's

def als(train, k, **settings):
    "Lesson 09's, each row solved exactly, or improved by a few steps of conjugate gradients."
    model = MatrixFactorization(train, k=k)
    reg = settings.pop('reg')/rating_unit(train)
    solver = ALSSolver(model, train, reg=reg, **settings)
    yield model.predict
    while True:
        solver.sweep()
        yield model.predict

def variational(train, k, start=0, shares=(), cg_steps=3):
    """Lesson 11's, by conjugate gradients. Its first `start` sweeps are of ALS; or it starts on
    `shares` of the users, and then the users' rows, given the films of these, count as a sweep."""
    model = MatrixFactorization(train, k=k)
    part = start_on_parts(model, train, shares) if shares else None
    solver = VariationalSolver(model, train, cg_steps=cg_steps, start=start)
    yield model.predict
    if part:
        solver.begin(part)
        yield model.predict
    while True:
        solver.sweep()
        yield model.predict

def warm_up(train):
    "Compile lesson 16's kernels, or read them from the disk, on some of the ratings."
    few = train.take(slice(500))
    for fit in (fit_mean_field, fit_compiled_variational):
        fit(MatrixFactorization(few, k=2), few, sweeps=3, progress=False)
    fit_compiled_sgd(MatrixFactorization(few, k=2), few, epochs=1, progress=False)

def by_rows(solver_of):
    "Lesson 16's variational solvers. The first sweep is the start on `shares` of the users, if there are any."
    def method(train, k, shares=(), steps=2):
        model = MatrixFactorization(train, k=k)
        solver = solver_of(model, train, steps=steps, shares=shares)
        yield model.predict
        while True:
            solver.sweep()
            yield model.predict
    return method

def numba_sgd(train, k, lr, reg, epochs=60, schedule='constant', seed=0):
    "Lesson 16's SGD: a step for each rating; the learning rate stays as Cornac's does, or falls along a cosine."
    unit = rating_unit(train)
    model = MatrixFactorization(train, k=k, seed=seed)
    course = dict(constant=constant, cosine=cosine)[schedule]
    solver = CompiledSGDSolver(model, train, epochs=epochs, lr=lr*unit/2, reg=reg/unit,
                               bias_reg=reg, per_rating=True, schedule=course, seed=seed)
    yield model.predict
    for epoch in range(epochs):
        try: solver.sweep()
        except FloatingPointError: return
        yield model.predict

def gibbs(train, k, burn_in, start=0, shares=(), seed=0):
    """Lesson 10's. What predicts is the average of the draws' predictions; in the burn-in the last
    draw. Before it, as preparation, a start on `shares` and `start` sweeps of variational Bayes,
    because from random rows it takes many draws to find the factors."""
    model = MatrixFactorization(train, k=k)
    if shares:
        part = start_on_parts(model, train, shares)
        fit_variational(model, train, sweeps=start, start=part, cg_steps=3,
                        progress=False)
    solver = GibbsSolver(model, train, burn_in=burn_in, start=0, seed=seed)
    draws, total = 0, 0.

    def predict(ratings):                                   # called once after each sweep
        nonlocal total
        rows = solver.rows
        predicted = predict_rows(model.mean, rows['user'], rows['item'], ratings)
        predicted = predicted.clamp(*train.rating_range)
        if draws <= burn_in: return predicted
        total = total + predicted
        return total/(draws - burn_in)

    yield predict
    while True:
        solver.sweep()
        draws += 1
        yield predict

def sgd(update):
    "Lesson 04's, with the steps that `update` makes; compiling them is preparation."
    def method(train, k, lr, reg, bias_reg, batch_size, epochs, seed=0):
        unit = rating_unit(train)
        model = MatrixFactorization(train, k=k, seed=seed)
        step = update(model)
        first = (column[:batch_size] for column in (train.users, train.items, train.values))
        step(*first, 1e-9, penalty_of(train, 0., 0.))
        solver = SGDSolver(model, train, epochs=epochs, lr=lr*unit, reg=reg/unit,
                           bias_reg=bias_reg, per_rating=True, batch_size=batch_size,
                           update=lambda model: step, seed=seed)
        yield model.predict
        for epoch in range(epochs):
            try: solver.sweep()
            except FloatingPointError: return
            yield model.predict
    return method

# Other packages'

def columns(ratings):
    "Users, items and values as numpy arrays."
    return [column.numpy() for column in (ratings.users, ratings.items, ratings.values)]

def dot(mean, user_bias, item_bias, P, Q, batch=2**18):
    "A function that predicts from biases and factors, numpy arrays as the peers have them."
    def tensor(array): return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    user_bias, item_bias, P, Q = tensor(user_bias), tensor(item_bias), tensor(P), tensor(Q)
    mean = float(mean)

    def some(users, items):
        p, q = P.index_select(0, users), Q.index_select(0, items)
        b_u, b_i = user_bias.index_select(0, users), item_bias.index_select(0, items)
        return predict_pairs(mean, p, b_u, q, b_i)

    def predict(ratings):
        pairs = zip(ratings.users.split(batch), ratings.items.split(batch))
        return torch.cat([some(users, items) for users, items in pairs])
    return predict

def cornac_data(train, order):
    "The ratings as Cornac holds them, in the file's order or at random; its ids are our codes."
    from cornac.data import Dataset
    users, items, values = columns(train)
    if order == 'random':
        shuffled = np.random.default_rng(0).permutation(len(train))
        users, items, values = users[shuffled], items[shuffled], values[shuffled]
    user_ids = dict.fromkeys(range(train.n_users))
    item_ids = dict.fromkeys(range(train.n_items))
    triples = users.astype(np.int64), items.astype(np.int64), values
    data = Dataset(train.n_users, train.n_items, user_ids, item_ids, triples)
    data.global_mean = np.float32(train.mean)
    return data

def cornac(train, k, lr, reg, order='file'):
    "Cornac's MF, an epoch at a time."
    from cornac.models import MF
    data = cornac_data(train, order)
    rng = np.random.default_rng(0)

    def start(n):                                            # as its own `_init` does
        factors = (.01*rng.standard_normal((n, k))).astype(np.float32)
        return factors, np.zeros(n, np.float32)

    U, Bu = start(train.n_users)
    V, Bi = start(train.n_items)
    model = MF(k=k, learning_rate=lr, lambda_reg=reg, max_iter=1,
               num_threads=torch.get_num_threads(), init_params=dict(U=U, V=V, Bu=Bu, Bi=Bi))
    predict = dot(train.mean, Bu, Bi, U, V)                  # the arrays are moved in place
    yield predict
    while True:
        model.is_fitted = False                              # it goes on, and need not warn of it
        model.fit(data)
        yield predict

def cmfrec(train, k, reg, bias_reg, per_rating=False, cg_steps=3):
    """cmfrec's CMF without side information, by conjugate gradients.

    These are fits of 1, 2, 3, ... sweeps, each from the start.
    """
    from cmfrec import CMF
    from scipy.sparse import coo_matrix
    users, items, values = columns(train)
    X = coo_matrix((values, (users, items)), (train.n_users, train.n_items))
    # of user biases, item biases, users, items, and two kinds of side information
    regularization = np.array([bias_reg, bias_reg, reg, reg, 0., 0.])
    yield None
    for sweeps in (1, 2, 3, 4, 6, 8, 10):
        model = CMF(k=k, lambda_=regularization, scale_lam=per_rating, niter=sweeps,
                    use_cg=True, max_cg_steps=cg_steps, finalize_chol=False,
                    precompute_for_predictions=False, nthreads=torch.get_num_threads())
        model.fit(X)
        yield dot(model.glob_mean_, model.user_bias_, model.item_bias_, model.A_, model.B_)

def implicit(train, k, reg):
    "implicit's ALS, a sweep at a time: the two calls that its `fit` makes. It predicts no stars."
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    threads = torch.get_num_threads()
    model = AlternatingLeastSquares(factors=k, regularization=reg, num_threads=threads,
                                    random_state=0)
    users, items, values = columns(train)
    by_user = csr_matrix((values, (users, items)), (train.n_users, train.n_items))
    by_item = by_user.T.tocsr()

    rng = np.random.default_rng(0)
    P = .01*rng.random((train.n_users, k), dtype=np.float32)
    Q = .01*rng.random((train.n_items, k), dtype=np.float32)
    yield None
    while True:
        model.solver(by_user, P, Q, reg, num_threads=threads)
        model.solver(by_item, Q, P, reg, num_threads=threads)
        yield None

# All of them

class Method(NamedTuple):
    fit: Callable              # a generator as above
    grid: list                 # the settings that are tried
    package: str = 'mfbook'    # where it comes from
    sweeps: int = 20           # at most
    patience: int|None = 4     # sweeps without a better validation RMSE before it ends
    like: str|None = None      # the method whose settings it takes, where its own grid is empty
    threads: int|None = None   # None: as many as there are
    restarts: bool = False     # whether each sweep is a fit from the start
    stars: bool = True         # whether it predicts them
    compiled: bool = False     # whether lesson 16's kernels are to be compiled before the clock runs

def grid(**values):
    "Every combination of the values, as dicts."
    return [dict(zip(values, combination)) for combination in product(*values.values())]

ALS_GRID = [*grid(k=[32], reg=[30.], bias_reg=[3.], per_rating=[False]),
            *grid(k=[32], reg=[.05, .07, .1], bias_reg=[.02], per_rating=[True])]
SGD_GRID = grid(k=[32], lr=[40., 80.], reg=[.015, .025, .035], bias_reg=[.02], batch_size=[4096],
                epochs=[8, 16])
NUMBA_GRID = grid(k=[32], lr=[.01, .02], reg=[.015, .02, .03])
CORNAC_GRID = [*grid(k=[32], lr=[.01, .02], reg=[.015, .02, .03, .04]),
               dict(k=32, lr=.01, reg=.03, order='random')]
SHARES = [1/16, 1/4]

METHODS = {
    'ALS':          Method(als, ALS_GRID),
    'CG ALS':       Method(als, [dict(settings, cg_steps=3) for settings in ALS_GRID]),
    'variational':  Method(variational, [dict(k=32, start=2), dict(k=32, shares=SHARES)]),
    'mean field':   Method(by_rows(MeanFieldSolver), [dict(k=32, shares=SHARES), dict(k=32)], compiled=True),
    'compiled variational': Method(by_rows(CompiledVariationalSolver), [dict(k=32, shares=SHARES), dict(k=32)], compiled=True),
    'Gibbs':        Method(gibbs, [dict(k=32, burn_in=10, start=4, shares=SHARES)],
                           sweeps=50, patience=None),
    'SGD':          Method(sgd(closed_form), SGD_GRID, threads=1),
    'compiled SGD': Method(sgd(compiled), [], like='SGD', threads=1),
    'Numba SGD':    Method(numba_sgd, NUMBA_GRID, sweeps=60, threads=1, compiled=True),
    'Cornac MF':    Method(cornac, CORNAC_GRID, 'cornac', sweeps=60),
    'cmfrec ALS':   Method(cmfrec, ALS_GRID, 'cmfrec', restarts=True),
    'implicit ALS': Method(implicit, grid(k=[32], reg=[.01]), 'implicit', stars=False),
}
