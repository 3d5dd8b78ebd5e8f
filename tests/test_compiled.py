"""Lesson 16's kernels against loops over single ratings in double precision; threads, resuming, the bound, no Numba, no cache."""
import copy
import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.sparse import csr_array

import mfbook.compiled as compiled
from mfbook.compiled import (CompiledImplicitALSSolver, CompiledSGDSolver, CompiledVariationalSolver, MeanFieldSolver,
                             fit_compiled_implicit_als, fit_compiled_sgd, fit_compiled_variational, fit_mean_field, take_rows)
from mfbook.features import who_rated_what
from mfbook.holdout import rmse, split_random
from mfbook.implicit import ImplicitALSSolver, events_from_ratings
from mfbook.model import OTHER, SIDES, MatrixFactorization
from mfbook.ratings import Ratings, load_sample
from mfbook.runs import fit_sgd
from mfbook.variational import VariationalSolver, fit_variational

root = Path(__file__).resolve().parent.parent

@pytest.fixture(autouse=True)
def one_thread():
    compiled.compile_kernels()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)

@pytest.fixture(scope='module')
def some():
    "Some thousand ratings, in random order."
    order = torch.randperm(4000, generator=torch.Generator().manual_seed(0))
    return load_sample().take(slice(4000)).take(order)

def dense_rows(n_rows, k, seed):
    g = np.random.default_rng(seed)
    return compiled.Rows(.3*g.standard_normal((n_rows, k)).astype(np.float32), .2*g.standard_normal(n_rows).astype(np.float32))

# ---- compressed sparse rows

@settings(max_examples=20, deadline=None, derandomize=True)
@given(n_rows=st.integers(1, 9), n_cols=st.integers(1, 7), n=st.integers(1, 60), seed=st.integers(0, 99))
def test_both_orders_are_scipys(n_rows, n_cols, n, seed):
    g = np.random.default_rng(seed)
    n = min(n, n_rows*n_cols)
    cells = g.choice(n_rows*n_cols, n, replace=False)
    users, items = cells//n_cols, cells % n_cols
    values = g.integers(1, 6, n).astype(np.float32)
    ratings = Ratings(torch.from_numpy(users.astype(np.int32)), torch.from_numpy(items.astype(np.int32)), torch.from_numpy(values),
                      None, np.arange(n_rows), np.arange(n_cols), (1., 5.))
    ours = compiled.by_user(ratings)
    asked = np.flatnonzero(g.random(n_rows) < .7)
    dense = csr_array((values, (users, items)), (n_rows, n_cols)).toarray()
    as_scipy = csr_array((ours.values, ours.columns, ours.starts), (n_rows, n_cols))
    assert (as_scipy.toarray() == dense).all()
    turned = compiled.by_item(ours, asked, n_cols)
    part = np.zeros_like(dense)
    part[asked] = dense[asked]
    assert (csr_array((turned.values, turned.columns, turned.starts), (n_cols, n_rows)).toarray() == part.T).all()

def test_blocks_hold_each_row_once():
    starts = np.array([0, 5, 5, 300, 301, 900, 901])
    rows = np.array([0, 2, 3, 4, 5])
    assert np.concatenate(compiled.blocks_of(rows, starts)).tolist() == rows.tolist()
    assert len(compiled.blocks_of(rows, starts)) > 1

# ---- kernels against double precision

def problem(some, k=5, seed=1):
    csr = compiled.by_user(some)
    return csr, dense_rows(some.n_items, k, seed), dense_rows(some.n_users, k, seed + 1)

def test_an_epoch_of_sgd_is_the_loop_in_double_precision(some):
    model = MatrixFactorization(some, k=4)
    solver = CompiledSGDSolver(model, some, epochs=3, lr=.02, reg=2.)
    wide = {side: [part.astype(float) for part in take_rows(model, side)] for side in SIDES}
    unit = solver.rating_unit
    for side in SIDES:
        wide[side][0] /= unit**.5
        wide[side][1] /= unit
    (W, b), (X, c) = wide['user'], wide['item']
    penalty = {'user': solver.penalty.user.double().numpy(), 'item': solver.penalty.item.double().numpy()}
    csr, done, squared = solver.csr, 0, 0.
    for block in solver.users_in_turn():
        rate = 2*solver.lr*solver.schedule(solver.share_done(done))
        for u in block:
            for j in range(csr.starts[u], csr.starts[u + 1]):
                i = csr.columns[j]
                w, x = W[u].copy(), X[i].copy()
                e = csr.values[j] - b[u] - c[i] - w @ x
                squared += e*e
                W[u] += rate*(e*x - penalty['user'][u, 0]*w)
                X[i] += rate*(e*w - penalty['item'][i, 0]*x)
                b[u] += rate*(e - penalty['user'][u, 1]*b[u])
                c[i] += rate*(e - penalty['item'][i, 1]*c[i])
                done += 1
    report = solver.sweep()
    assert report['train'] == pytest.approx(unit*(squared/len(some))**.5, rel=1e-5)
    for side in SIDES:
        found = take_rows(model, side)
        np.testing.assert_allclose(found.factors, wide[side][0]*unit**.5, atol=2e-5)
        np.testing.assert_allclose(found.bias, wide[side][1]*unit, atol=2e-5)

def test_coordinate_descent_is_the_loop_in_double_precision(some):
    csr, films, users = problem(some)
    rows = np.flatnonzero(np.diff(csr.starts))
    W, bias = users.factors.astype(float), users.bias.astype(float)
    total = 0.
    for u in rows:
        part = slice(csr.starts[u], csr.starts[u + 1])
        X = films.factors[csr.columns[part]].astype(float)
        e = csr.values[part] - 3.5 - bias[u] - films.bias[csr.columns[part]] - X @ W[u]
        change = (e.sum() - 2*bias[u])/(len(e) + 2)
        bias[u] += change
        e -= change
        for f in range(5):
            change = (X[:, f] @ e - .7*W[u, f])/(X[:, f] @ X[:, f] + .7)
            W[u, f] += change
            e -= change*X[:, f]
        total += e @ e
    found = compiled.descend_rows(rows, *csr, np.float32(3.5), *films, *users, np.float32(.7), np.float32(2))
    np.testing.assert_allclose(users.factors, W, atol=1e-4)
    np.testing.assert_allclose(users.bias, bias, atol=1e-4)
    assert found == pytest.approx(total, rel=1e-4)

def test_a_row_ends_where_its_equations_say(some):
    "With as many steps as unknowns, and variances: mean, precision and squared error of a row in double precision."
    csr, films, users = problem(some)
    g = np.random.default_rng(3)
    weight, center = g.uniform(.5, 2, 6).astype(np.float32), .1*g.standard_normal(6).astype(np.float32)
    for u in np.flatnonzero(np.diff(csr.starts))[:20]:
        part = slice(csr.starts[u], csr.starts[u + 1])
        cols, values = csr.columns[part], csr.values[part]
        variance = g.uniform(0, 3, 5).astype(np.float32)
        w, curvature = users.factors[u].copy(), np.empty(5, np.float32)
        b, squared = compiled.solve_row(w, users.bias[u], cols, values, np.float32(3.5), *films, weight, center, variance, 6,
                                        curvature, np.empty((3, 5), np.float32))
        X = np.column_stack([films.factors[cols].astype(float), np.ones(len(cols))])
        y = values - 3.5 - films.bias[cols]
        A = X.T @ X + np.diag(weight + np.append(variance, 0))
        exact = np.linalg.solve(A, X.T @ y + weight*center)
        np.testing.assert_allclose(np.append(w, b), exact, atol=2e-4)
        np.testing.assert_allclose(curvature, A.diagonal()[:-1], rtol=1e-4)
        assert squared == pytest.approx(((y - X @ exact)**2).sum(), abs=2e-3*len(y))

def test_each_step_lowers_what_is_minimized(some):
    csr, films, users = problem(some)
    weight = np.ones(6, np.float32)
    rows = np.flatnonzero(np.diff(csr.starts))
    classes = np.zeros(some.n_users, np.uint8)
    costs = []
    for steps in range(5):
        moved = users.copy()
        squared, _ = compiled.solve_rows(rows, *csr, np.float32(3.5), *films, *moved, weight, 0*weight, steps, classes,
                                         np.zeros((some.n_users, 1), np.float32), np.zeros((1, 6), np.float32), np.zeros((1, 6)))
        costs.append(squared + (moved.factors[rows]**2).sum() + (moved.bias[rows]**2).sum())
    assert (np.diff(costs) < 0).all()

def test_classes_are_counted(some):
    solver = MeanFieldSolver(MatrixFactorization(some, k=2), some)
    for side in SIDES:
        own, other = solver.halves[side], solver.halves[OTHER[side]]
        count = np.diff(own.csr.starts)
        assert (own.often.sum(1) == count).all()
        assert (own.classes[count > 0] == [int(math.log2(c)) for c in count[count > 0]]).all()
        row = int(count.argmax())
        theirs = other.classes[own.csr.columns[own.csr.starts[row]:own.csr.starts[row + 1]]]
        assert own.often[row].tolist() == np.bincount(theirs, minlength=len(other.sizes)).tolist()
        assert own.sizes.sum() == (count > 0).sum()

# ---- the solver

def test_the_noise_is_the_expected_square_of_an_error(some):
    "In double precision, rating by rating, after an update of the users."
    model = MatrixFactorization(some, k=3)
    solver = MeanFieldSolver(model, some, steps=8)
    for _ in range(4): solver.sweep()
    rows = {side: model.rows(side).double().numpy() for side in SIDES}
    s = {side: solver.spread[side].astype(float)[solver.halves[side].classes] for side in SIDES}
    total = 0.
    for u, i, r in zip(some.users.tolist(), some.items.tolist(), some.values.tolist()):
        (p, b), (q, c) = (rows['user'][u][:-1], rows['user'][u][-1]), (rows['item'][i][:-1], rows['item'][i][-1])
        v, w = s['user'][u], s['item'][i]
        total += (r - model.mean - b - c - p @ q)**2 + v[-1] + w[-1] + p**2 @ w[:-1] + q**2 @ v[:-1] + v[:-1] @ w[:-1]
    assert solver.noise_variance == pytest.approx(total/len(some), rel=1e-4)

def test_a_class_has_the_noise_over_the_mean_precision_of_its_rows(some):
    "In double precision, rating by rating: the variances that an update of the users leaves."
    model = MatrixFactorization(some, k=3)
    solver = MeanFieldSolver(model, some, steps=8)
    for _ in range(4): solver.sweep()
    noise, (weight, _) = solver.noise_variance, solver._prior('user')
    q = model.rows('item').double().numpy()
    s = solver.spread['item'].astype(float)[solver.halves['item'].classes]
    solver.update_side('user')
    own = solver.halves['user']
    precision = np.zeros((some.n_users, 4))
    for u, i in zip(some.users.tolist(), some.items.tolist()): precision[u] += np.append(q[i, :-1]**2 + s[i, :-1], 1.)
    precision += weight
    for c in np.unique(own.classes[own.rows]):
        of_class = [row for row in own.rows if own.classes[row] == c]
        np.testing.assert_allclose(solver.spread['user'][c], noise/precision[of_class].mean(0), rtol=1e-4)

@pytest.mark.parametrize('fit, settings', [(fit_mean_field, dict(sweeps=5)), (fit_mean_field, dict(sweeps=4, shares=(.3, .6))),
                                           (fit_compiled_variational, dict(sweeps=5)), (fit_compiled_variational, dict(sweeps=4, shares=(.3, .6))),
                                           (fit_compiled_sgd, dict(epochs=3))])
def test_one_and_two_threads_give_the_same(some, fit, settings):
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        model = MatrixFactorization(some, k=6)
        fit(model, some, progress=False, **settings)
        found.append(torch.cat([model.rows(side) for side in SIDES]))
    assert torch.equal(*found)

@pytest.mark.parametrize('fit, whole, part', [
    (fit_mean_field, dict(sweeps=6), 1), (fit_mean_field, dict(sweeps=6), 4), (fit_mean_field, dict(sweeps=4, shares=(.3, .6)), 1),
    (fit_mean_field, dict(sweeps=4, shares=(.3, .6)), 2), (fit_compiled_sgd, dict(epochs=5), 2),
    (fit_compiled_variational, dict(sweeps=6), 1), (fit_compiled_variational, dict(sweeps=6), 4),
    (fit_compiled_variational, dict(sweeps=4, shares=(.3, .6)), 1), (fit_compiled_variational, dict(sweeps=4, shares=(.3, .6)), 2)])
def test_an_interrupted_fit_ends_at_the_same_bits(some, tmp_path, monkeypatch, fit, whole, part):
    straight = MatrixFactorization(some, k=4)
    fit(straight, some, progress=False, **whole)
    solver = {fit_compiled_sgd: CompiledSGDSolver, fit_mean_field: MeanFieldSolver, fit_compiled_variational: CompiledVariationalSolver}[fit]
    sweep, left = solver.sweep, [part]
    def stops(self):
        if not left[0]: raise KeyboardInterrupt
        left[0] -= 1
        return sweep(self)
    path = tmp_path/'run'
    with monkeypatch.context() as patch:
        patch.setattr(solver, 'sweep', stops)
        with pytest.raises(KeyboardInterrupt): fit(MatrixFactorization(some, k=4), some, progress=False, checkpoint=path, **whole)
    again = MatrixFactorization(some, k=4)
    fit(again, some, progress=False, checkpoint=path, **whole)
    for side in SIDES:
        assert torch.equal(again.rows(side), straight.rows(side))
        assert torch.equal(again.prior(side).precision, straight.prior(side).precision)

def test_it_beats_biases_and_comes_near_lesson_11():
    train, valid, _ = split_random(load_sample(), seed=26)
    errors = {}
    for name, fit in (('mean field', fit_mean_field), ('variational', fit_variational)):
        model = MatrixFactorization(train, k=16)
        errors[name] = fit(model, train, valid, sweeps=9, progress=False).best['valid']
    assert errors['variational'] < errors['mean field'] < errors['variational'] + .03
    assert errors['mean field'] < .9

def test_a_start_on_parts_is_ahead():
    train, valid, _ = split_random(load_sample(), seed=26)
    after_one = {}
    for shares in ((), (.3, .6)):
        model = MatrixFactorization(train, k=8)
        fit_mean_field(model, train, sweeps=2, shares=shares, progress=False)
        after_one[shares] = rmse(model.predict(valid), valid)
    assert after_one[(.3, .6)] < after_one[()] - .02

@pytest.mark.parametrize('fit', [fit_mean_field, fit_compiled_variational])
def test_a_single_share_is_a_number_or_a_tuple_of_one(some, fit):
    found = []
    for shares in (.5, (.5,)):
        model = MatrixFactorization(some, k=3)
        fit(model, some, sweeps=2, shares=shares, progress=False)
        found.append(model.rows('item'))
    assert torch.equal(*found)

def test_lesson_11_goes_on_from_it():
    "One of its sweeps is better than what it took over, and better than if it had taken over the items alone."
    train, valid, _ = split_random(load_sample(), seed=26)
    first = {}
    for with_users in (True, False):
        model = MatrixFactorization(train, k=16)
        solver = MeanFieldSolver(model, train)
        for _ in range(5): solver.sweep()
        start = solver.partial_start()
        assert start.covariances.shape[1:] == start.user_covariances.shape[1:] == (17, 17) and start.share == 1
        before = rmse(model.predict(valid), valid)
        if not with_users: start = start._replace(user_covariances=None)
        history = fit_variational(model, train, valid, sweeps=1, start=start, cg_steps=3, progress=False)
        first[with_users] = history.rows[0]['valid']
    assert first[True] < min(before, first[False]) - .001

def test_whole_covariances_are_found_for_rows_taken_over(some):
    "Mean field has variances alone; the numbers of a row vary together."
    model = MatrixFactorization(some, k=4)
    mean_field = MeanFieldSolver(model, some)
    for _ in range(4): mean_field.sweep()
    start = mean_field.partial_start()
    solver = VariationalSolver(model, some, cg_steps=3, start=start)
    solver.begin(start)
    found = solver.covariances['item']
    beside = found - torch.diag_embed(found.diagonal(dim1=1, dim2=2))
    assert not (start.covariances - torch.diag_embed(start.covariances.diagonal(dim1=1, dim2=2))).any()
    assert beside.abs().amax() > .01*found.abs().amax()
    assert torch.linalg.eigvalsh(found).min() > 0 and solver.sweeps > 1

def whole_row(seed, k=5, n=7):
    "A row of n ratings with a prior and covariances of their columns, as `solve_whole_rows` takes them, and the same in double precision."
    g = np.random.default_rng(seed)
    X = dense_rows(n, k, seed + 1)
    W = dense_rows(1, k, seed + 2)
    values = g.integers(1, 6, n).astype(np.float32)
    halves = g.standard_normal((3, k + 1, k + 1))/3
    covariances = (halves @ halves.transpose(0, 2, 1)).astype(np.float32)
    root_of_prior = g.standard_normal((k + 1, k + 1))
    precision = (root_of_prior @ root_of_prior.T + np.eye(k + 1)).astype(np.float32)
    center = g.standard_normal((1, k + 1)).astype(np.float32)
    bins = g.integers(3, size=n)
    often = np.bincount(bins, minlength=3).astype(np.float32)[None]
    rows = np.array([0]), np.array([0, n]), np.arange(n, dtype=np.int32), values, np.float32(3), *X, *W, precision, center @ precision
    return rows, bins, often, covariances

@pytest.mark.parametrize('seed', range(4))
def test_a_row_with_whole_covariances_is_that_of_the_equations(seed):
    "Many steps end at the best row in double precision; the sum that is returned is the expected square of its errors."
    rows, bins, often, covariances = whole_row(seed)
    _, _, columns, values, mean, X, x_bias, W, bias, precision, towards = rows
    k = W.shape[1]
    A, right = precision.astype(float), towards[0].astype(float)
    for j in range(len(columns)):
        x = np.append(X[j], 1.).astype(float)
        C = covariances[bins[j]].astype(float)
        A, right = A + np.outer(x, x), right + x*(values[j] - mean - x_bias[j])
        A[:k, :k] += C[:k, :k]
        right[:k] -= C[:k, k]
    best = np.linalg.solve(A, right)
    expected = compiled.solve_whole_rows(*rows, 40, often, covariances)
    np.testing.assert_allclose(np.append(W[0], bias[0]), best, rtol=1e-3, atol=1e-4)

    of_columns = 0.
    for j in range(len(columns)):
        error = values[j] - mean - x_bias[j] - best[k] - best[:k] @ X[j]
        varied = np.append(best[:k], 1.)
        of_columns += error**2 + varied @ covariances[bins[j]].astype(float) @ varied
    assert expected == pytest.approx(of_columns, rel=1e-3)

def test_a_step_goes_no_further_away_from_the_equations():
    "Each step lowers the distance to the best row, as `A` measures it."
    far = []
    for steps in range(6):
        rows, bins, often, covariances = whole_row(9)
        W, bias, precision = rows[7], rows[8], rows[9]
        compiled.solve_whole_rows(*rows, steps, often, covariances)
        moved = np.append(W[0], bias[0])
        best_of = whole_row(9)[0]
        compiled.solve_whole_rows(*best_of, 60, often, covariances)
        off = moved - np.append(best_of[7][0], best_of[8][0])
        x = np.c_[rows[5], np.ones(len(rows[5]))]
        added = np.einsum('b,bij->ij', often[0], covariances)
        added[-1] = added[:, -1] = 0
        far.append(off @ (x.T @ x + added + precision) @ off)
    assert (np.diff(far) < 0).all() and far[-1] < .05*far[0]

@pytest.mark.parametrize('features', [False, True])
def test_from_one_state_it_ends_where_lesson_11_does(some, features):
    "Rows, covariances and noise of two sweeps, solved exactly there and in many steps here."
    known = who_rated_what(some, 2) if features else None
    fitted = MatrixFactorization(some, k=4)
    fit_variational(fitted, some, sweeps=3, progress=False)
    solvers = [VariationalSolver(copy.deepcopy(fitted), some, known, start=0),
               CompiledVariationalSolver(copy.deepcopy(fitted), some, known, steps=30, start=0)]
    for solver in solvers:
        for _ in range(2): solver.sweep()
    exact, looped = solvers
    for side in SIDES:
        torch.testing.assert_close(looped.model.rows(side), exact.model.rows(side), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(looped.covariances[side], exact.covariances[side], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(looped.model.prior(side).precision, exact.model.prior(side).precision, rtol=1e-2, atol=1e-2)
    assert looped.noise_variance == pytest.approx(exact.noise_variance, rel=1e-4)

def test_compiled_it_ends_no_higher_than_lesson_11():
    train, valid, _ = split_random(load_sample(), seed=26)
    best = {}
    for fit in (fit_variational, fit_compiled_variational, fit_mean_field):
        best[fit] = fit(MatrixFactorization(train, k=16), train, valid, sweeps=12, progress=False).best['valid']
    assert best[fit_compiled_variational] < best[fit_variational] + .001 < best[fit_mean_field] - .005

def test_users_of_other_ratings_are_not_taken_over(some):
    model = MatrixFactorization(some, k=4)
    start = MeanFieldSolver(model, some).partial_start()
    start = start._replace(user_covariances=start.user_covariances[:-1])
    with pytest.raises(ValueError, match='made with other ratings'): fit_variational(model, some, start=start, progress=False)

def test_fold_in_finds_a_user_again():
    "With the prior in the model, somebody's ratings lead back to about the same predictions."
    train = load_sample()
    model = MatrixFactorization(train, k=8)
    fit_mean_field(model, train, sweeps=12, progress=False)
    user = int(torch.bincount(train.users).argmax())
    theirs = train.take(train.users == user)
    row = model.fold_in(theirs.items, theirs.values)
    found, own = model.scores(row), model.scores(user)
    assert np.corrcoef(found, own)[0, 1] > .9
    off = [(scores[theirs.items.long()] - theirs.values).square().mean() for scores in (found, own, model.baseline('item'))]
    assert off[0] < 1.1*off[1] < .9*off[2]

# ---- refusals, and machines that lack something

def test_it_refuses_what_cannot_work(some):
    model = MatrixFactorization(some, k=2)
    for bad, words in ((dict(steps=0), 'steps is 0'), (dict(start=-1), 'start is -1'), (dict(shares=(.5, .2)), 'shares is'),
                       (dict(shares=(1e-6,)), 'no ratings in a share'), (dict(sweeps=0), 'sweeps is 0')):
        with pytest.raises(ValueError, match=words): fit_mean_field(model, some, progress=False, **bad)
    with pytest.raises(TypeError, match='features'): fit_mean_field(model, some, features=16)
    for bad, words in ((dict(steps=0), 'steps is 0'), (dict(start=-1), 'start is -1'), (dict(shares=(.5, .2)), 'shares is'), (dict(features=16), 'features are a pair')):
        with pytest.raises(ValueError, match=words): fit_compiled_variational(model, some, progress=False, **bad)
    clicks = events_from_ratings(some)
    for bad, words in ((dict(cg_steps=None), 'cg_steps is None'), (dict(cg_steps=0), 'cg_steps is 0'), (dict(reg=0.), 'reg is 0'),
                       (dict(unobserved_weight=math.nan), 'unobserved_weight is nan')):
        with pytest.raises((ValueError, TypeError), match=words):
            fit_compiled_implicit_als(MatrixFactorization(clicks, k=2), clicks, progress=False, **bad)
    with pytest.raises(FloatingPointError, match='divide lr by ten'): fit_compiled_sgd(model, some, lr=1e4, progress=False)

def run(code, **env):
    "A fresh Python: what it prints."
    done = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()

HEADER = '''
import warnings; warnings.simplefilter('ignore')
import sys, torch
from mfbook.all import *
ratings = load_sample().take(slice(300))
'''

def test_without_numba_everything_else_works():
    assert run('''
import sys
sys.modules['numba'] = None
''' + HEADER + '''
fit_als(MatrixFactorization(ratings, k=2), ratings, sweeps=2, progress=False)
for fit in (fit_mean_field, fit_compiled_variational, fit_compiled_sgd):
    try: fit(MatrixFactorization(ratings, k=2), ratings)
    except ImportError as error: print('pip install numba' in str(error))
''') == 'True\nTrue\nTrue'

TINY_FIT = HEADER + '''
print('numba' in sys.modules)
ratings = ratings.take(slice(60))
model = MatrixFactorization(ratings, k=2)
fit_mean_field(model, ratings, sweeps=3, progress=False)
sgd_model = MatrixFactorization(ratings, k=2)
fit_compiled_sgd(sgd_model, ratings, epochs=1, progress=False)
whole = MatrixFactorization(ratings, k=2)
fit_compiled_variational(whole, ratings, sweeps=4, progress=False)
print(float(whole.rows('user').double().abs().sum()))
print(float(model.rows('user').double().abs().sum()), float(sgd_model.rows('user').double().abs().sum()))
'''

def test_the_kernels_run_as_plain_python_and_importing_the_book_does_not_load_numba(capsys):
    loaded, *in_python = run(TINY_FIT, NUMBA_DISABLE_JIT='1').split()
    exec(TINY_FIT, {})
    _, *in_machine_code = capsys.readouterr().out.split()
    assert loaded == 'False'
    assert list(map(float, in_python)) == pytest.approx(list(map(float, in_machine_code)), rel=1e-3)

def test_without_a_folder_for_the_machine_code_it_compiles_and_says_so():
    assert run('''
import warnings
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
from mfbook.compiled import compile_kernels, count_ratings
import mfbook.compiled as compiled, numpy as np
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter('always')
    compile_kernels()
starts = np.zeros(3, np.int64)
compiled.count_ratings(np.array([1, 1], np.int32), starts)
print(starts.tolist(), any('NUMBA_CACHE_DIR' in str(w.message) for w in said))
''') == '[0, 0, 2] True'

# ---- clicks

@pytest.mark.parametrize('counted', [False, True])
def test_clicks_with_many_steps_are_solved_exactly(counted):
    "By lesson 13's exact rows, with weights of 1 and with others."
    events = events_from_ratings(load_sample().take(slice(4000)))
    if counted: events = dataclasses.replace(events, values=1 + events.users.remainder(3).float())
    models = [MatrixFactorization(events, k=6, seed=1) for _ in range(2)]
    exact = ImplicitALSSolver(models[0], events)
    ours = CompiledImplicitALSSolver(models[1], events, cg_steps=40)
    for _ in range(2): losses = [solver.sweep()['loss'] for solver in (exact, ours)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for side in ('user', 'item'):
        torch.testing.assert_close(models[1].rows(side), models[0].rows(side), atol=2e-3, rtol=0)

def test_rows_without_events_become_zero():
    "As lesson 13's, whatever they were: with a weight of all pairs, zero is best."
    events = events_from_ratings(load_sample().take(slice(4000)))
    model = MatrixFactorization(events, k=3)
    for side in SIDES: model.put_rows(side, 1 + model.rows(side))
    CompiledImplicitALSSolver(model, events).sweep()
    none = torch.bincount(events.items, minlength=events.n_items) == 0
    assert none.any() and not model.rows('item')[none].any() and model.rows('item')[~none].any()

def test_two_steps_of_clicks_are_those_of_lesson_13():
    events = events_from_ratings(load_sample())
    events = dataclasses.replace(events, values=1 + events.items.remainder(2).float())
    models = [MatrixFactorization(events, k=6, seed=1) for _ in range(2)]
    theirs, ours = ImplicitALSSolver(models[0], events, cg_steps=2), CompiledImplicitALSSolver(models[1], events)
    for _ in range(3): assert ours.sweep()['loss'] == pytest.approx(theirs.sweep()['loss'], rel=1e-5)
    torch.testing.assert_close(models[1].rows('user'), models[0].rows('user'), atol=2e-4, rtol=0)

def test_two_steps_of_clicks_lower_the_loss_alike_on_one_thread_and_two():
    events = events_from_ratings(load_sample())
    rows = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        model = MatrixFactorization(events, k=8)
        history = fit_compiled_implicit_als(model, events, sweeps=4, progress=False)
        rows[threads] = model.rows('item')
    torch.set_num_threads(1)
    losses = [row['loss'] for row in history.rows]
    assert sorted(losses, reverse=True) == losses and losses[-1] < .8*losses[0]
    torch.testing.assert_close(rows[1], rows[2], atol=1e-4, rtol=0)      # torch adds the shared matrix in another order
