"""The same ratings on another scale: times a, plus c. Every solver predicts the same, times a, plus c, to a thousandth of the
scale; where there is chance, with the same draws. So do those who are folded in later, and what is measured.
"""
from copy import deepcopy
from functools import cache
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings, strategies as st
from mfbook.als import fit_als
from mfbook.compiled import fit_compiled_sgd, fit_compiled_variational, fit_mean_field
from mfbook.evaluation import calibration, ranking, report, slices, worst_films
from mfbook.features import activity, combine, who_rated_what
from mfbook.gibbs import fit_gibbs
from mfbook.holdout import bias_regularization, fit_biases_koren, split_random
from mfbook.model import MatrixFactorization
from mfbook.newcomers import learn_prior, why
from mfbook.ratings import Ratings
from mfbook.recommending import recommend, recommend_all, similar
from mfbook.runs import cross_validate, fit_biases, fit_sgd, tune_biases
from mfbook.scale import start_on_parts
from mfbook.training import adam, closed_form, sgd
from mfbook.variational import fit_variational

CLOSE = 1e-3     # of the scale, from its lowest rating to its highest

@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    yield
    plt.close('all')

# ---- the data

N_USERS, N_ITEMS = 50, 30

def frame(n=500, seed=0):
    "Half stars, from half a star to five, of a model with two factors, with times."
    g = np.random.default_rng(seed)
    cells = g.choice(N_USERS*N_ITEMS, n, replace=False)
    users, items = cells // N_ITEMS, cells % N_ITEMS
    p, q = g.normal(size=(N_USERS, 2)), g.normal(size=(N_ITEMS, 2))
    b_u, b_i = .5*g.normal(size=N_USERS), .5*g.normal(size=N_ITEMS)
    stars = 3.2 + b_u[users] + b_i[items] + .5*(p[users]*q[items]).sum(1) + .6*g.normal(size=n)
    return pd.DataFrame(dict(userId=users, movieId=items + 100, rating=np.clip(np.round(2*stars)/2, .5, 5), timestamp=g.integers(9e8, 1e9, n)))

FRAME = frame()

def ratings_times(a, c):
    "The ratings times a, plus c."
    return Ratings.from_frame(FRAME.assign(rating=a*FRAME.rating + c), rating_range=(a*.5 + c, a*5 + c))

any_scale = lambda f: settings(max_examples=3, deadline=None, derandomize=True)(
    given(a=st.floats(.05, 40), c=st.floats(-50, 50))(
        example(a=.05, c=50.)(example(a=20., c=3.)(f))))

def assert_same(found, expected, a, c, what=''):
    "That `found` is `expected` times a, plus c, to a thousandth of the scale."
    worst = np.abs(np.asarray(found, dtype=float) - (a*np.asarray(expected, dtype=float) + c)).max()
    assert worst < CLOSE*4.5*a, f'{what} {worst/(4.5*a):.2g} of the scale'

# ---- solvers

def fit_with(fit):
    "The same method with features of who rated what."
    def method(model, train, *args, **settings):
        return fit(model, train, *args, features=combine(who_rated_what(train, 2), activity(train)), **settings)
    return method

def on_parts(model, train, **settings):
    start = start_on_parts(model, train, shares=(.5, 1))
    return fit_variational(model, train, start=start, **settings)

def koren(model, train, progress):
    fit_biases_koren(model, train, reg_user=3., reg_item=5.)

SOLVERS = {
    'biases': (fit_biases, 0, {}),
    'biases by Koren': (koren, 0, {}),
    'SGD by adam': (fit_sgd, 4, dict(epochs=6, update=adam, batch_size=50)),
    'SGD': (fit_sgd, 4, dict(epochs=6, update=sgd, lr=.1, batch_size=50)),
    'SGD by hand': (fit_sgd, 4, dict(epochs=6, update=closed_form, lr=.1, batch_size=50)),
    'SGD, regularized by rating': (fit_sgd, 4, dict(epochs=4, reg=.1, bias_reg=.05, per_rating=True, batch_size=50)),
    'SGD with batches of its own': (fit_sgd, 4, dict(epochs=1, lr=.03)),
    'ALS': (fit_als, 4, dict(sweeps=5)),
    'ALS with little regularization': (fit_als, 4, dict(sweeps=5, reg=1., bias_reg=1.)),
    'ALS by conjugate gradients': (fit_als, 4, dict(sweeps=5, reg=3., cg_steps=2)),
    'ALS by rating': (fit_als, 4, dict(sweeps=5, reg=.1, bias_reg=.05, per_rating=True)),
    'Gibbs': (fit_gibbs, 4, dict(sweeps=14, burn_in=4, keep=3)),
    'Gibbs without a start': (fit_gibbs, 4, dict(sweeps=14, burn_in=4, keep=3, start=0)),
    'variational': (fit_variational, 4, dict(sweeps=6)),
    'variational with features': (fit_with(fit_variational), 4, dict(sweeps=6)),
    'variational without a start': (fit_variational, 4, dict(sweeps=6, start=0)),
    'variational by conjugate gradients': (fit_variational, 4, dict(sweeps=6, cg_steps=3)),
    'variational after parts': (on_parts, 4, dict(sweeps=4)),
    'compiled SGD': (fit_compiled_sgd, 4, dict(epochs=6)),
    'mean field': (fit_mean_field, 4, dict(sweeps=6)),
    'mean field without a start': (fit_mean_field, 4, dict(sweeps=6, start=0)),
    'mean field after parts': (fit_mean_field, 4, dict(sweeps=4, shares=(.5,))),
    'compiled variational': (fit_compiled_variational, 4, dict(sweeps=6)),
    'compiled variational with features': (fit_with(fit_compiled_variational), 4, dict(sweeps=6)),
    'compiled variational after parts': (fit_compiled_variational, 4, dict(sweeps=4, shares=(.5,))),
}

@cache
def fitted(solver, a=1., c=0.):
    "A model of the ratings times a, plus c, and the history of its fit."
    fit, k, own = SOLVERS[solver]
    train = ratings_times(a, c)
    model = MatrixFactorization(train, k=k)
    history = fit(model, train, progress=False, **own)
    return model, history

def all_scores(model): return model.scores_of(model.rows('user'))

@pytest.mark.parametrize('solver', SOLVERS)
@any_scale
def test_every_solver_predicts_the_same_on_any_scale(solver, a, c):
    "For every user and item; errors, noise and the history's other numbers too."
    model, history = fitted(solver, a, c)
    plain, plain_history = fitted(solver)
    assert_same(all_scores(model), all_scores(plain), a, c, 'predictions')
    assert_same(model.predict(ratings_times(a, c)), plain.predict(ratings_times(1, 0)), a, c, 'clamped predictions')
    if history is None: return
    assert abs(len(history.rows) - len(plain_history.rows)) <= 1
    for name in {'train', 'noise'} & plain_history.rows[0].keys():
        for row in (0, -1): assert_same(history.rows[row][name], plain_history.rows[row][name], a, 0, name)

def test_the_property_sees_something():
    "The predictions differ, by more than the tolerance times a hundred, and factors take part in them."
    for solver, (_, k, _) in SOLVERS.items():
        scores = all_scores(fitted(solver)[0])
        assert scores.max() - scores.min() > 100*CLOSE*4.5, solver
        residual = scores - scores.mean(0) - scores.mean(1, keepdim=True) + scores.mean()
        if k and 'little' in solver: assert residual.abs().max() > 10*CLOSE*4.5, solver

@any_scale
def test_the_draws_of_a_chain_are_the_same(a, c):
    "Kept in half precision, so to a hundredth of the scale."
    draws, plain = fitted('Gibbs', a, c)[1].draws, fitted('Gibbs')[1].draws
    ratings, plain_ratings = ratings_times(a, c), ratings_times(1, 0)
    for found, expected, shift in ((draws.predict(ratings), plain.predict(plain_ratings), c),
                                   (draws.interval(ratings), plain.interval(plain_ratings), c),
                                   (draws.noise_sd, plain.noise_sd, 0)):
        worst = (found - (a*expected + shift)).abs().max()
        assert worst < .01*4.5*a, worst/(4.5*a)

@pytest.mark.parametrize('solver', ['SGD by adam', 'ALS with little regularization', 'variational'])
@any_scale
def test_it_stops_at_the_same_sweep(solver, a, c):
    "With validation and patience."
    fit, k, own = SOLVERS[solver]
    own = own | ({'epochs': 12} if 'epochs' in own else {'sweeps': 12})
    bests = []
    for scale in ((a, c), (1, 0)):
        train, valid, _ = split_random(ratings_times(*scale), valid=.2, test=0)
        history = fit(MatrixFactorization(train, k=k), train, valid, patience=2, progress=False, **own)
        bests.append([len(history.rows), history.best['valid']/scale[0]])
    assert bests[0][0] == bests[1][0] and bests[0][1] == pytest.approx(bests[1][1], abs=CLOSE)

@pytest.mark.parametrize('a', [1e-3, 1e3])
def test_the_biases_take_as_many_sweeps_on_any_scale(a):
    assert abs(len(fitted('biases', a)[1].rows) - len(fitted('biases')[1].rows)) <= 1

@any_scale
def test_what_is_chosen_on_validation_does_not_depend_on_the_scale(a, c):
    found, plain = [split_random(ratings_times(*scale), .2, 0) for scale in ((a, c), (1, 0))]
    assert tune_biases(found.train, found.valid, grid=(0, 4, 9)) == tune_biases(plain.train, plain.valid, grid=(0, 4, 9))
    ours, theirs = bias_regularization(found.train), bias_regularization(plain.train)
    assert ours == pytest.approx(theirs, rel=CLOSE)

# ---- newcomers and lists

NEWCOMER = {102: 5., 105: .5, 111: 4., 119: 1.5}

@pytest.mark.parametrize('learned', [False, True])
@pytest.mark.parametrize('solver', SOLVERS)
@settings(max_examples=2, deadline=None, derandomize=True)
@given(a=st.floats(.05, 40), c=st.floats(-50, 50))
@example(a=.05, c=50.)
def test_a_newcomer_gets_the_same_predictions_on_any_scale(solver, learned, a, c):
    rows = []
    for scale in ((a, c), (1., 0.)):
        model, _ = fitted(solver, *scale)
        if learned: model = learn_prior(deepcopy(model), ratings_times(*scale))
        newcomer = {item: scale[0]*stars + scale[1] for item, stars in NEWCOMER.items()}
        item = model.fold_in_item([1, 2, 3], [scale[0]*stars + scale[1] for stars in (1., 5., 2.)])
        rows.append((model.scores(model.fold_in(newcomer)), item.bias, why(model, newcomer, 103).share.sum(), recommend(model, newcomer, n=5).predicted))
    (scores, bias, explained, listed), (plain_scores, plain_bias, plain_explained, plain_listed) = rows
    assert_same(scores, plain_scores, a, c, 'scores')
    assert_same(bias, plain_bias, a, 0, 'bias of an item')
    assert_same(explained, plain_explained, a, c, 'sum of reasons')
    assert np.abs(listed - a*plain_listed - c).max() < CLOSE*4.5*a + .005*(1 + a)      # two decimals of each

@pytest.mark.parametrize('a', [1e-4, 1e8])
@pytest.mark.parametrize('solver', ['biases', 'SGD by adam', 'ALS with little regularization', 'variational'])
def test_a_learned_prior_is_the_same_for_very_small_and_very_large_ratings(solver, a):
    scores = []
    for scale in (a, 1.):
        model = learn_prior(deepcopy(fitted(solver, scale)[0]), ratings_times(scale, 0))
        scores.append(model.scores(model.fold_in({item: scale*stars for item, stars in NEWCOMER.items()})))
    assert_same(*scores, a, 0)

@any_scale
def test_lists_are_the_same_on_any_scale(a, c):
    "Up to two items of which neither is ahead by a thousandth of the scale."
    for solver in ('biases', 'ALS with little regularization', 'variational'):
        model, plain = fitted(solver, a, c)[0], fitted(solver)[0]
        scores, n = all_scores(plain), 5
        found = recommend_all(model, ratings_times(a, c), n=n)
        expected = recommend_all(plain, ratings_times(1, 0), n=n)
        assert (scores.gather(1, found) - scores.gather(1, expected)).abs().max() < 2*CLOSE*4.5, solver
    assert_same(similar(model, 104, n=4).cosine, similar(plain, 104, n=4).cosine, 1, 0)

# ---- measures

@cache
def evaluated(a, c):
    "Two models, and the ratings to train and to test them."
    train, _, test = split_random(ratings_times(a, c), valid=0, test=.3)
    models = {'biases': MatrixFactorization(train, k=0), 'ALS': MatrixFactorization(train, k=3)}
    fit_biases(models['biases'], train, progress=False)
    fit_als(models['ALS'], train, sweeps=4, progress=False)
    return models, train, test

@any_scale
def test_a_report_is_the_same_on_any_scale(a, c):
    "Errors times a, list metrics as they are, the same slices and bins with the same ratings in them."
    models, train, test = evaluated(a, c)
    plain_models, plain_train, plain_test = evaluated(1., 0.)
    found, expected = report(models, train, test, n=20).table, report(plain_models, plain_train, plain_test, n=20).table
    assert list(found) == list(expected)
    for name in found.columns:
        if not pd.api.types.is_numeric_dtype(found[name]): continue
        in_units = '@' not in name and name not in ('coverage', 'mrr', 'users')
        assert_same(found[name], expected[name], a if in_units else 1, 0, name)

    for by in ('ratings of the user', 'ratings of the item', 'time of the rating'):
        ours, theirs = slices(models, train, test, by, n=20), slices(plain_models, plain_train, plain_test, by, n=20)
        assert ours[['slice', 'model', 'ratings']].equals(theirs[['slice', 'model', 'ratings']])
        assert_same(ours[['rmse', 'lo', 'hi']], theirs[['rmse', 'lo', 'hi']], a, 0, by)

    ours, theirs = calibration(models, test, bins=4), calibration(plain_models, plain_test, bins=4)
    assert ours[['model', 'bin']].equals(theirs[['model', 'bin']])
    assert_same(ours.predicted, theirs.predicted, a, c, 'calibration')
    assert np.abs(ours.rating - a*theirs.rating - c).max() < .1*a       # a rating or two may fall into another bin

    ours, theirs = worst_films(models['ALS'], test, 3), worst_films(plain_models['ALS'], plain_test, 3)
    assert_same(ours.rmse, theirs.rmse, a, 0, 'worst films')

@settings(max_examples=10, deadline=None, derandomize=True)
@given(a=st.floats(.05, 40), c=st.floats(-50, 50))
def test_the_same_ratings_are_hits_on_any_scale(a, c):
    "Also where a rating lies on the limit: the top third of 0.5 to 5 begins above 3.5."
    model, hits = fitted('biases')[0], []
    for ratings in (ratings_times(a, c), ratings_times(1, 0)):
        everything = ranking(model, ratings.take(slice(0, 0)), ratings, k=N_ITEMS)
        hits.append(everything.precision*N_ITEMS)
    assert hits[0].equals(hits[1])

@any_scale
def test_cross_validation_measures_in_units_of_the_ratings(a, c):
    found, expected = [cross_validate(fit_als, ratings_times(*scale), k=2, factors=3, sweeps=3, progress=False) for scale in ((a, c), (1, 0))]
    for name in ('rmse', 'mae'): assert_same(found[name], expected[name], a, 0, name)

@pytest.mark.parametrize('name, values, rating_range', [
    ('0 and 1', lambda stars: (stars > 3)*1., (0, 1)), ('-1 and 1', lambda stars: (stars > 3)*2. - 1, (-1, 1)),
    ('0 to 100', lambda stars: np.round((stars - .5)*100/4.5), (0, 100)), ('thousandths', lambda stars: stars/1000, None)])
def test_ratings_of_another_kind_get_a_report(name, values, rating_range):
    train, _, test = split_random(Ratings.from_frame(FRAME.assign(rating=values(FRAME.rating)), rating_range=rating_range), valid=0, test=.2)
    models = {}
    for solver in ('biases', 'SGD by adam', 'ALS', 'Gibbs', 'variational'):
        fit, k, own = SOLVERS[solver]
        models[solver] = MatrixFactorization(train, k=k)
        fit(models[solver], train, progress=False, **own)
    made = report(models, train, test, n=20)
    spread = test.values.std().item()
    assert (made.table.rmse < 1.1*spread).all() and made.table.rmse.notna().all() and 'nan' not in str(made).lower()
    assert made.table['precision@10'].gt(0).all()
    made.plot()
    plt.gcf().canvas.draw()
