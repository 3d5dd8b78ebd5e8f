"Hold-outs lose no rating and repeat none; the measures and the baselines agree with plain loops and dense solvers."
import io, math, os
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import FULL
from hypothesis import given, settings, strategies as st

from mfbook.holdout import (BiasSolver, COLORS, LEAST_NOISE, LEAST_REG, MOST_REG, Split, bias_regularization, concat,
                            fit_biases_koren, folds, mae, rating_counts, rmse, split_by_time, split_last, split_random)
from mfbook.model import MatrixFactorization
from mfbook.ratings import Ratings, load_sample

def make(users, items, values, times=None, n_users=None, n_items=None):
    "A small `Ratings` in codes that are their own raw ids."
    n_users, n_items = n_users or max(users, default=0) + 1, n_items or max(items, default=0) + 1
    t = lambda x, kind: torch.tensor(x, dtype=kind)
    return Ratings(t(users, torch.int32), t(items, torch.int32), t(values, torch.float32), None if times is None else t(times, torch.int64),
                   np.arange(n_users), np.arange(n_items), (1., 5.))

@st.composite
def numbered(draw, least=1, most=60):
    "Ratings whose value is the number of their row, so that a row can be followed; few distinct times, so that many are tied."
    n = draw(st.integers(least, most))
    column = lambda hi: draw(st.lists(st.integers(0, hi), min_size=n, max_size=n))
    return make(column(5), column(7), list(range(n)), column(9), 7, 9)      # the last user and the last item have no rating

@st.composite
def rated(draw):
    "A few ratings of few users and items, with stars for values."
    n = draw(st.integers(1, 40))
    column = lambda lo, hi: draw(st.lists(st.integers(lo, hi), min_size=n, max_size=n))
    return make(column(0, 4), column(0, 6), column(1, 5), None, 6, 8)

seeds, fractions = st.integers(0, 2**31 - 1), st.floats(0, 0.9)
regs = st.floats(0.1, 30)

def rows(part): return part.values.int().tolist()

def check(split, r):
    "Disjoint, and their union is everything; rows in order, and whole; the same codes."
    assert sorted(rows(split.train) + rows(split.valid) + rows(split.test)) == list(range(len(r)))
    for part in split:
        assert rows(part) == sorted(rows(part))
        assert part.user_ids is r.user_ids and part.item_ids is r.item_ids and part.rating_range == r.rating_range
        for name in ('users', 'items', 'timestamps'): assert torch.equal(getattr(part, name), getattr(r, name)[rows(part)])

def try_split(split, r, valid, test):
    "The split; nothing where the fractions are refused, and then they must deserve it."
    try: return split(r, valid, test)
    except ValueError:
        assert valid + test >= 1 or (valid > 0 and int(valid*len(r)) == 0) or (test > 0 and int(test*len(r)) == 0)

# ---- splits

@given(numbered(), fractions, fractions, seeds)
def test_split_random(r, valid, test, seed):
    split = try_split(lambda *a: split_random(*a, seed=seed), r, valid, test)
    if split is None: return
    check(split, r)
    assert (len(split.valid), len(split.test)) == (int(valid*len(r)), int(test*len(r)))
    assert [rows(p) for p in split_random(r, valid, test, seed)] == [rows(p) for p in split]

def test_another_seed_gives_another_split():
    r = make([0]*200, [0]*200, list(range(200)))
    assert len({tuple(rows(split_random(r, seed=s).test)) for s in range(20)}) == 20
    assert len({tuple(rows(folds(r, seed=s)[0][1])) for s in range(20)}) == 20

def test_chance_is_fair():
    "Over many seeds each rating is in test about as often as its share."
    r = make([0]*50, [0]*50, list(range(50)))
    hits = np.bincount([i for s in range(2000) for i in rows(split_random(r, valid=0.2, test=0.1, seed=s).test)], minlength=50)
    assert hits.sum() == 2000*5 and hits.min() > 140 and hits.max() < 260       # 200 each, sd 13

@given(numbered(), fractions, fractions)
def test_split_by_time(r, valid, test):
    split = try_split(split_by_time, r, valid, test)
    if split is None: return
    check(split, r)
    assert (len(split.valid), len(split.test)) == (int(valid*len(r)), int(test*len(r)))
    oldest_first = sorted(range(len(r)), key=lambda i: (r.timestamps[i].item(), i))       # equal times: the order of the rows
    a = len(split.train)
    assert set(oldest_first[:a]) == set(rows(split.train))
    assert set(oldest_first[a:a + len(split.valid)]) == set(rows(split.valid))
    cuts = {c for c in (a, a + len(split.valid)) if c < len(r)}
    tied = sum(r.timestamps[i] == r.timestamps[oldest_first[c]] for c in cuts for i in oldest_first[:c])
    assert split.note.endswith(f'decides for {int(tied)} ratings')

@given(numbered(), st.integers(1, 4))
def test_split_last(r, k):
    mine = {u: sorted((i for i in range(len(r)) if r.users[i] == u), key=lambda i: (r.timestamps[i].item(), i)) for u in range(r.n_users)}
    enough = {u: m for u, m in mine.items() if len(m) >= 2*k + 1}
    if not enough:
        with pytest.raises(ValueError, match='busiest'): split_last(r, k)
        return
    split = split_last(r, k)
    check(split, r)
    assert set(rows(split.test)) == {i for m in enough.values() for i in m[-k:]}
    assert set(rows(split.valid)) == {i for m in enough.values() for i in m[-2*k:-k]}
    short = sum(0 < len(m) < 2*k + 1 for m in mine.values())
    tied = sum(r.timestamps[m[-k]] == r.timestamps[m[-k-1]] for m in enough.values())
    assert split.note.startswith(f'{short} users with fewer than {2*k + 1} ratings') and f'the cut for {tied} users' in split.note

@given(numbered(least=2), st.integers(2, 8), seeds)
def test_folds(r, k, seed):
    if k > len(r): return
    parts = folds(r, k, seed)
    assert len(parts) == k and sorted(i for _, test in parts for i in rows(test)) == list(range(len(r)))
    sizes = [len(test) for _, test in parts]
    assert max(sizes) - min(sizes) <= 1
    for (train, test), (train2, test2) in zip(parts, folds(r, k, seed)):
        check(Split(train, test, r.take(slice(0, 0))), r)
        assert rows(train) == rows(train2) and rows(test) == rows(test2)

@given(numbered(least=5), seeds)
def test_the_report_counts_what_train_has_not_seen(r, seed):
    split = split_random(r, 0.2, 0.2, seed)
    t, known = split.summary(), [set(c.tolist()) for c in (split.train.users, split.train.items)]
    for name, part in zip(split._fields, split):
        u, i = part.users.tolist(), part.items.tolist()
        theirs = sum(a not in known[0] or b not in known[1] for a, b in zip(u, i))
        assert t.loc[name].tolist() == [len(part), len(set(u)), len(set(i)), len(set(u) - known[0]), len(set(i) - known[1]), theirs]
    assert f'seed {seed}' in repr(split) and 'new users' in repr(split)

def test_the_report_aligns_and_groups_digits():
    lines = repr(split_random(load_sample())).splitlines()
    assert len({len(l) for l in lines[:4]}) == 1 and '80,004' in lines[1]

@given(numbered())
def test_rating_counts(r):
    u, i = rating_counts(r)
    assert u.tolist() == [r.users.tolist().count(c) for c in range(7)] and i.tolist() == [r.items.tolist().count(c) for c in range(9)]

def test_times_of_any_size_are_only_numbers():
    "Milliseconds, or a year in the far future, must not stop a split."
    r = make([0]*4, [0]*4, [0, 1, 2, 3], [5, 10**15, -10**15, 2**60])
    assert [rows(p) for p in split_by_time(r, 0.25, 0.25)] == [[0, 2], [1], [3]]

FOUR = make([0, 0, 0, 1], [0, 1, 2, 0], [0, 1, 2, 3], [1, 2, 3, 4])
NONE = FOUR.take(torch.arange(0))

@pytest.mark.parametrize('split', [split_random, split_by_time])
@pytest.mark.parametrize('valid, test, message', [(-.1, .5, 'valid=-0.1'), (.5, -.1, 'test=-0.1'), (.5, .5, 'leave some ratings for train'),
                                                  (1, 0, 'leave some'), (math.nan, .5, 'valid=nan'), (.5, math.nan, 'test=nan'),
                                                  (.5, .01, 'less than one'), (.01, .5, 'less than one')])
def test_fractions_that_make_no_sense(split, valid, test, message):
    with pytest.raises(ValueError, match=message): split(FOUR, valid, test)

@pytest.mark.parametrize('split', [split_random, split_by_time])
def test_nothing_to_split(split):
    with pytest.raises(ValueError, match='no ratings'): split(NONE)

def test_a_part_may_be_left_out():
    assert [len(p) for p in split_random(FOUR, 0, .5)] == [2, 0, 2] and [len(p) for p in split_by_time(FOUR, .25, 0)] == [3, 1, 0]

@pytest.mark.parametrize('k', [0, -1, 1.5, '2', None])
def test_k_that_is_no_number_of_ratings(k):
    with pytest.raises(ValueError, match='whole number'): split_last(FOUR, k)
    with pytest.raises(ValueError, match='whole number'): folds(FOUR, k)

def test_k_too_large():
    with pytest.raises(ValueError, match='takes users with 5 ratings or more; the busiest has 3'): split_last(FOUR, 2)
    with pytest.raises(ValueError, match='busiest has 0'): split_last(NONE, 1)
    with pytest.raises(ValueError, match='k=5 folds of 4 ratings'): folds(FOUR, 5)
    assert rows(split_last(FOUR, np.int64(1)).test) == [2] and len(folds(FOUR, np.int64(4))) == 4

def test_time_is_needed_and_the_error_says_what_to_do():
    untimed = replace(FOUR, timestamps=None)
    for split in (lambda r: split_by_time(r, .25, .25)), split_last:
        with pytest.raises(ValueError, match='no timestamps.*split_random'): split(untimed)
    assert len(split_random(untimed, .25, .25).test) == 1

# ---- concat

def test_concat():
    a, b = FOUR.take([2, 0]), FOUR.take([3])
    ab = concat(a, b)
    assert rows(ab) == [2, 0, 3] and ab.timestamps.tolist() == [3, 1, 4] and ab.users.dtype == torch.int32 and ab.item_ids is FOUR.item_ids
    untimed = replace(a, timestamps=None)
    assert concat(untimed, untimed).timestamps is None and len(concat(a, NONE)) == 2
    with pytest.raises(ValueError, match='only one of the two has timestamps'): concat(a, untimed)
    with pytest.raises(ValueError, match='user or item codes'): concat(a, replace(b, item_ids=b.item_ids + 1))
    with pytest.raises(ValueError, match='user or item codes'): concat(a, replace(b, user_ids=b.user_ids[:1]))

# ---- measures

numbers = st.floats(-10, 10, width=32)

@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=50))
def test_measures_equal_plain_loops(both):
    p, t = map(list, zip(*both))
    squares, sizes = 0., 0.
    for a, b in both: squares, sizes = squares + (a - b)**2, sizes + abs(a - b)
    assert rmse(p, t) == pytest.approx(math.sqrt(squares/len(both)), abs=1e-12)
    assert mae(p, t) == pytest.approx(sizes/len(both), abs=1e-12)
    assert mae(p, t) <= rmse(p, t) + 1e-12

def test_measures_take_tensors_arrays_and_ratings():
    p, t = [1.5, 2, 2, 4], FOUR.values
    want = math.sqrt((1.5**2 + 1 + 0 + 1)/4)
    kinds = [p, np.array(p), np.array(p, dtype='float32'), torch.tensor(p), torch.tensor(p, requires_grad=True), torch.tensor(p, dtype=torch.float64)]
    for kind in kinds:
        for target in (t, t.numpy(), t.tolist(), FOUR, t.int()): assert rmse(kind, target) == pytest.approx(want, abs=1e-12)
    assert type(rmse(p, FOUR)) is type(mae(p, FOUR)) is float

def test_measures_are_of_all_ratings_at_once():
    "Not the mean over batches, and not lost to float32: a million errors of the same size."
    assert rmse(torch.full((10**6,), 0.1), torch.zeros(10**6)) == pytest.approx(0.1, abs=1e-8)

@pytest.mark.parametrize('f', [rmse, mae])
@pytest.mark.parametrize('p, t, message', [
    (torch.zeros(4, 1), torch.zeros(4), r'shape \(4, 1\) for ratings of shape \(4,\)'), (torch.zeros(3), torch.zeros(4), r'\(3,\)'),
    (torch.zeros(2, 2), torch.zeros(2, 2), 'must be'), (torch.tensor(3.), torch.zeros(4), r'shape \(\)'), (3., FOUR, 'shape'),
    ([], [], 'no ratings to measure on'), ([1., math.nan, math.nan], [1., 2., 3.], '2 of 3 predictions are NaN or infinite, the first at 1'),
    ([1., 2.], [math.inf, 2.], '1 of 2 ratings are NaN or infinite, the first at 0')])
def test_what_cannot_be_compared_is_refused(f, p, t, message):
    with pytest.raises(ValueError, match=message): f(p, t)

# ---- biases

def fresh(ratings): return MatrixFactorization(ratings, k=0)

def koren(ratings, reg_user, reg_item): return fit_biases_koren(fresh(ratings), ratings, reg_user, reg_item)

def joint(ratings, reg_user, reg_item, sweeps=1000, tol=1e-6):
    "A model with the biases of `BiasSolver`, swept until no user bias moves by `tol`."
    model = fresh(ratings)
    solver = BiasSolver(model, ratings, reg_user, reg_item)
    for _ in range(sweeps):
        if solver.sweep()['change'] < tol: break
    return model

def biases(model): return model.rows('user')[:, -1], model.rows('item')[:, -1]

def in_turn(ratings, reg_user, reg_item, sweeps=1000, tol=1e-6):
    "The exact alternating steps, with the shift between the sides, on numpy arrays and apart from any model."
    users, items = ratings.users.numpy(), ratings.items.numpy()
    residual = ratings.values.numpy().astype(float) - ratings.mean
    n_u, n_i = np.bincount(users, minlength=ratings.n_users), np.bincount(items, minlength=ratings.n_items)
    def shrunk(left, codes, count, reg): return np.bincount(codes, left, len(count)) / np.maximum(count + reg, 1e-12)
    b_u, b_i = np.zeros(ratings.n_users), np.zeros(ratings.n_items)
    for _ in range(sweeps):
        if 0 < reg_user + reg_item < math.inf:
            pull = reg_item*b_i.sum() - reg_user*b_u.sum()
            b_u = b_u + pull / (reg_user*(n_u > 0).sum() + reg_item*(n_i > 0).sum())
        b_i = shrunk(residual - b_u[users], items, n_i, reg_item)
        before, b_u = b_u, shrunk(residual - b_i[items], users, n_u, reg_user)
        if abs(b_u - before).max() < tol: break
    return b_u, b_i

def dense(r, reg_user, reg_item):
    "The joint biases as one ridge problem: a row per rating, a row per regularized bias."
    U, I = np.eye(r.n_users)[r.users.numpy()], np.eye(r.n_items)[r.items.numpy()]
    A = np.vstack([np.hstack([U, I]), np.diag(np.r_[np.full(r.n_users, reg_user), np.full(r.n_items, reg_item)]**0.5)])
    y = np.r_[r.values.numpy().astype(float) - r.values.double().mean().item(), np.zeros(r.n_users + r.n_items)]
    b = np.linalg.lstsq(A, y, rcond=None)[0]
    return b[:r.n_users], b[r.n_users:]

def direct(r, reg_user, reg_item):
    "The same by the normal equations, the items eliminated; for data on which `dense` would be too large."
    users, items, y = r.users.numpy(), r.items.numpy(), r.values.numpy().astype(float) - r.mean
    met = np.zeros((r.n_users, r.n_items))
    np.add.at(met, (users, items), 1.)
    for_user, for_item = (np.bincount(codes, y, n) for codes, n in ((users, r.n_users), (items, r.n_items)))
    own_user, own_item = met.sum(1) + reg_user, met.sum(0) + reg_item
    b_u = np.linalg.solve(np.diag(own_user) - met/own_item @ met.T, for_user - met @ (for_item/own_item))
    return b_u, (for_item - b_u @ met)/own_item

def loss(model, r, reg_user, reg_item):
    b_u, b_i = (b.double() for b in biases(model))
    e = r.values.double() - model.mean - b_u[r.users.long()] - b_i[r.items.long()]
    return ((e**2).sum() + reg_user*(b_u**2).sum() + reg_item*(b_i**2).sum()).item()

@settings(deadline=None)
@given(rated(), regs, regs)
def test_the_biases_equal_dense_least_squares(r, reg_user, reg_item):
    for ours, theirs in zip(biases(joint(r, reg_user, reg_item, tol=1e-12)), dense(r, reg_user, reg_item)):
        assert np.allclose(ours, theirs, atol=1e-5)

@pytest.mark.parametrize('reg_user, reg_item', [(3, 2), (10, 25), (.1, .1)])
def test_the_biases_of_the_sample_equal_a_direct_solution(sample, reg_user, reg_item):
    train = sample.train
    for ours, theirs in zip(biases(joint(train, reg_user, reg_item, tol=1e-9)), direct(train, reg_user, reg_item)):
        assert np.allclose(ours, theirs, atol=2e-6)

@pytest.mark.parametrize('reg_user, reg_item', [(3, 2), (0, 0), (0, 5), (5, 0), (math.inf, 0), (.5, math.inf)])
def test_the_steps_are_those_of_plain_arrays(sample, reg_user, reg_item):
    "To 1e-6, after few sweeps and at rest: the model's mean is a float32, and its biases are."
    for sweeps in 1, 2, 5, 1000:
        ours = joint(sample.train, reg_user, reg_item, sweeps)
        for b, theirs in zip(biases(ours), in_turn(sample.train, reg_user, reg_item, sweeps)):
            assert np.abs(b.numpy() - theirs).max() < 1e-6

@pytest.mark.parametrize('reg_user, reg_item', [(0, 0), (0, 2), (2, 0)])
def test_biases_without_regularization(reg_user, reg_item):
    "The biases may not be unique then; the predictions for the rated pairs are."
    r = split_random(load_sample().take(slice(0, 1500)), seed=1).train
    r = make(r.users.tolist(), torch.unique(r.items, return_inverse=True)[1].tolist(), r.values.tolist())
    (b_u, b_i), (user, item) = biases(joint(r, reg_user, reg_item, tol=1e-10)), dense(r, reg_user, reg_item)
    u, i = r.users.long(), r.items.long()
    assert np.allclose(b_u[u] + b_i[i], user[u] + item[i], atol=1e-4)

@settings(deadline=None)
@given(rated(), regs, regs)
def test_no_sweep_raises_the_loss(r, reg_user, reg_item):
    model = fresh(r)
    solver, losses = BiasSolver(model, r, reg_user, reg_item), []
    for _ in range(7):
        solver.sweep()
        losses.append(loss(model, r, reg_user, reg_item))
    assert all(b <= a + 1e-4 for a, b in zip(losses, losses[1:]))       # the model holds the biases in float32

def test_few_sweeps_are_enough():
    "Without the shift between the sides, little regularization takes hundreds."
    r = load_sample()
    for reg in 0.01, 0.1, 1, 10:
        a, b = (joint(r, reg, reg, sweeps=s) for s in (25, 1000))
        assert all(torch.equal(x, y) for x, y in zip(biases(a), biases(b)))

@settings(deadline=None)
@given(rated(), regs, regs)
def test_a_sweep_says_what_happened(r, reg_user, reg_item):
    "The training error is that of the model, not clamped; the change is the largest of a user bias, after the shift."
    model = fresh(r)
    solver = BiasSolver(model, r, reg_user, reg_item)
    for _ in range(3):
        row = solver.sweep()
        pred = model(r.users, r.items).detach()
        assert row['train'] == pytest.approx(rmse(pred, r), abs=1e-5) and set(row) == {'train', 'change'}
        assert all(type(x) is float for x in row.values())
    at_rest = joint(r, reg_user, reg_item, tol=1e-9)
    assert BiasSolver(at_rest, r, reg_user, reg_item).sweep()['change'] < 1e-4, 'a solver starts from what the model holds'

@pytest.mark.parametrize('done', [1, 3])
def test_a_run_cut_in_two_is_the_same_to_the_last_bit(sample, done):
    whole, half, rest = fresh(sample.train), fresh(sample.train), fresh(sample.train)
    solver = BiasSolver(whole, sample.train, 3, 2)
    rows = [solver.sweep() for _ in range(6)]
    solver = BiasSolver(half, sample.train, 3, 2)
    for _ in range(done): solver.sweep()
    file = io.BytesIO()
    torch.save(dict(model=half.state_dict(), solver=solver.state_dict()), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    rest.load_state_dict(state['model'])
    solver = BiasSolver(rest, sample.train, 3, 2)
    solver.load_state_dict(state['solver'])
    assert [solver.sweep() for _ in range(6 - done)] == rows[done:]
    assert all(torch.equal(a, b) for a, b in zip(rest.state_dict().values(), whole.state_dict().values()))

@settings(deadline=None)
@given(rated(), st.floats(0, 30), st.floats(0, 30))
def test_biases_koren_equals_a_plain_loop(r, reg_user, reg_item):
    mu = sum(r.values.tolist())/len(r)
    triples = list(zip(r.users.tolist(), r.items.tolist(), r.values.tolist()))
    item, user = [0.]*r.n_items, [0.]*r.n_users
    for i in range(r.n_items):
        mine = [v - mu for _, j, v in triples if j == i]
        if mine: item[i] = sum(mine)/(len(mine) + reg_item)
    for u in range(r.n_users):
        mine = [v - mu - item[j] for w, j, v in triples if w == u]
        if mine: user[u] = sum(mine)/(len(mine) + reg_user)
    b = koren(r, reg_user, reg_item)
    b_u, b_i = biases(b)
    assert b.mean == pytest.approx(mu) and np.allclose(b_i, item, atol=1e-5) and np.allclose(b_u, user, atol=1e-5)
    assert all(torch.equal(x, y) for x, y in zip(biases(joint(r, reg_user, reg_item, sweeps=1)), (b_u, b_i)))

def test_koren_fills_the_model_it_is_given_and_returns_it():
    model = fresh(FOUR)
    assert fit_biases_koren(model, FOUR, 5, 3) is model

@pytest.mark.parametrize('fit', [koren, joint])
def test_a_row_without_ratings_has_no_bias(fit):
    r = make([0, 0, 2], [1, 1, 3], [5, 4, 1], None, 4, 5)
    for reg in 0, 2, math.inf:
        b_u, b_i = biases(fit(r, reg, reg))
        assert b_u[[1, 3]].tolist() == [0, 0] and b_i[[0, 2, 4]].tolist() == [0, 0, 0]
        assert b_u.dtype == b_i.dtype == torch.float32 and b_u.isfinite().all()
    assert biases(fit(r, math.inf, 0))[0].abs().max() == 0 == biases(fit(r, 0, math.inf))[1].abs().max()
    b = fit(r, math.inf, 0)
    assert b.baseline('item')[[1, 3]].tolist() == pytest.approx([4.5, 1.])      # the film's own mean

@pytest.mark.parametrize('fit', [koren, joint])
def test_regularization_that_makes_no_sense(fit):
    for reg in -1, math.nan:
        with pytest.raises(ValueError, match='reg_user='): fit(FOUR, reg, 1)
        with pytest.raises(ValueError, match='reg_item='): fit(FOUR, 1, reg)

@pytest.mark.parametrize('solve', [BiasSolver, fit_biases_koren])
def test_ratings_and_models_that_do_not_go_together(solve):
    with pytest.raises(ValueError, match='train holds no ratings'): solve(fresh(FOUR), NONE, 1, 1)
    with pytest.raises(ValueError, match='train has 3 users and 3 items'): solve(fresh(FOUR), make([2], [2], [1]), 1, 1)
    with pytest.raises(ValueError, match='not the same items'): solve(fresh(FOUR), replace(FOUR, item_ids=FOUR.item_ids + 1), 1, 1)
    with pytest.raises(ValueError, match='factors that are not zero'): solve(MatrixFactorization(FOUR, k=2), FOUR, 1, 1)

def test_factors_of_zero_do_no_harm():
    "A model that is to get factors later may get its biases first."
    model = MatrixFactorization(FOUR, k=2, init_std=0)
    solver = BiasSolver(model, FOUR, 3, 2)
    for _ in range(30): solver.sweep()
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(biases(model), biases(joint(FOUR, 3, 2))))
    assert not model.rows('user')[:, :2].any()

@pytest.mark.parametrize('fit', [koren, joint])
@pytest.mark.parametrize('k', [0, 2])
def test_the_prior_left_behind_is_the_regularization_of_each_side(fit, k):
    model = MatrixFactorization(FOUR, k=k, init_std=0)
    if fit is koren: fit_biases_koren(model, FOUR, 3, 2)
    else: BiasSolver(model, FOUR, 3, 2).sweep()
    for side, reg in ('user', 3.), ('item', 2.):
        prior = model.prior(side)
        assert torch.equal(prior.mean, torch.zeros(k+1)) and not prior.per_rating
        assert torch.equal(prior.precision, torch.diag(torch.tensor([1.]*k + [reg])))

def test_the_prior_places_a_newcomer_as_the_fit_would(sample):
    "Ridge regression towards the prior, with the items as they are, is the user's own step."
    train = sample.train
    model = joint(train, 3, 2, tol=1e-9)
    mine = train.take(train.users == 7)
    prior = model.prior('user')
    left = mine.values - model.baseline('item')[mine.items.long()]
    bias = left.double().sum() / (len(mine) + prior.precision[-1, -1])
    assert bias.item() == pytest.approx(model.row('user', 7).bias, abs=1e-6)

def test_a_side_kept_at_zero_has_a_prior_of_finite_numbers():
    model = joint(FOUR, math.inf, math.inf)
    for side in 'user', 'item':
        precision = model.prior(side).precision
        assert precision.isfinite().all() and precision[-1, -1] > 1e6

def test_predictions():
    model = MatrixFactorization(make([0, 0, 1, 2], [0, 1, 0, 1], [2, 4, 2, 4]), k=0)
    model.put_rows('user', torch.tensor([[0.], [3.], [-3.]]))
    model.put_rows('item', torch.tensor([[.5], [-.25]]))
    p = model.predict(make([0, 0, 1, 2], [0, 1, 0, 1], [1, 1, 1, 1]))
    assert p.tolist() == [3.5, 2.75, 5., 1.] and p.dtype == torch.float32

@settings(deadline=None)
@given(rated(), rated())
def test_clamping_never_hurts(train, test):
    model = joint(train, 0.5, 0.5)
    raw = model(test.users, test.items).detach()
    assert rmse(model.predict(test), test) <= rmse(raw, test) + 1e-6

def test_the_mean_is_the_model_without_factors():
    model = fresh(FOUR)
    assert model.mean == 1.5 and not any(b.any() for b in biases(model)) and len(biases(model)[0]) == 2
    assert model.predict(FOUR).tolist() == [1.5]*4

# ---- the regularization that the ratings ask for

def unequal(sizes):
    "The design of groups of these sizes: which group each of the ratings is in, and the matrices of both sums of squares."
    Z = np.repeat(np.eye(len(sizes)), sizes, axis=0)
    n = len(Z)
    means = Z @ np.diag(1/np.array(sizes)) @ Z.T           # projects on the means of the groups
    return Z, means - np.full((n, n), 1/n), np.eye(n) - means

def textbook(groups):
    "The one-way analysis of variance with unequal groups, as textbooks write it: variance between and within, before any bound."
    N, a = sum(map(len, groups)), len(groups)
    grand = sum(map(sum, groups))/N
    means = [sum(g)/len(g) for g in groups]
    ssa = sum(len(g)*(m - grand)**2 for g, m in zip(groups, means))
    sse = sum((y - m)**2 for g, m in zip(groups, means) for y in g)
    n0 = (N - sum(len(g)**2 for g in groups)/N)/(a - 1)
    msa, mse = ssa/(a - 1), sse/(N - a)
    return (msa - mse)/n0, mse

@pytest.mark.parametrize('sizes', [[4, 4, 4], [1, 2, 3, 10], [1, 1, 30], [5, 1, 2, 2, 7, 1]])
def test_the_analysis_of_variance_of_the_textbook_is_unbiased(sizes):
    "E[y'Ay] = tr(AV) with V = s2 I + b2 ZZ': the expectation of both estimates is exactly s2 and b2, whatever the sizes."
    Z, between, within = unequal(sizes)
    n, a = Z.shape
    for s2, b2 in (1., 0.), (0., 1.), (0.7, 0.2):
        V = s2*np.eye(n) + b2*Z @ Z.T
        mse, msa = np.trace(within @ V)/(n - a), np.trace(between @ V)/(a - 1)
        n0 = (n - sum(s*s for s in sizes)/n)/(a - 1)
        assert mse == pytest.approx(s2) and (msa - mse)/n0 == pytest.approx(b2)
    y = np.random.default_rng(0).normal(size=n)
    groups = [y[Z[:, g] > 0].tolist() for g in range(a)]
    assert textbook(groups) == pytest.approx(((y @ between @ y/(a - 1) - y @ within @ y/(n - a))/n0, y @ within @ y/(n - a)))

def by_the_textbook(r):
    "`bias_regularization` from plain lists; nothing where a side cannot tell the two variances apart."
    found = {}
    for side, codes in dict(user=r.users, item=r.items).items():
        groups = {}
        for code, value in zip(codes.tolist(), r.values.tolist()): groups.setdefault(code, []).append(value)
        if not 1 < len(groups) < len(r): return None
        found[side] = textbook(list(groups.values()))
    (users, within), (items, _) = found['user'], found['item']
    noise = max(within - max(items, 0), LEAST_NOISE*within)
    return {side: min(max(noise/v, LEAST_REG), MOST_REG) if v > 1e-9 else MOST_REG for side, v in dict(user=users, item=items).items()}

@settings(deadline=None)
@given(rated())
def test_the_regularization_is_that_of_the_textbook(r):
    want = by_the_textbook(r)
    if want is None: return
    got = bias_regularization(r)
    if len(set(r.values.tolist())) > 1: assert got == pytest.approx(want, rel=1e-6)

def made_up(users_std, items_std, noise_std, seed=0, n_users=2000, n_items=1500, n=150_000):
    "Ratings of known variances, without a bound to them; some users and items have far more ratings than others."
    g = np.random.default_rng(seed)
    often = [1/(10 + np.arange(size)) for size in (n_users, n_items)]
    users, items = (g.choice(len(p), n, p=p/p.sum()) for p in often)
    pairs = np.unique(users*n_items + items)
    users, items = pairs//n_items, pairs % n_items
    values = 3.5 + users_std*g.normal(size=n_users)[users] + items_std*g.normal(size=n_items)[items] + noise_std*g.normal(size=len(pairs))
    return make(users.tolist(), items.tolist(), values.tolist(), None, n_users, n_items)

@pytest.mark.parametrize('users_std, items_std, noise_std', [(.45, .5, .85), (.2, .6, .8), (.6, .2, 1.2), (.9, .9, .9)])
def test_known_variances_are_found(users_std, items_std, noise_std):
    "2,000 users and 1,500 items: their variances are known to some 4%."
    r = made_up(users_std, items_std, noise_std)
    n_u, n_i = rating_counts(r)
    assert n_u.max() > 20*n_u.double().median()
    got = bias_regularization(r)
    assert got['user'] == pytest.approx(noise_std**2/users_std**2, rel=0.15)
    assert got['item'] == pytest.approx(noise_std**2/items_std**2, rel=0.15)

def test_no_biases_at_all_ask_for_much_regularization():
    assert min(bias_regularization(made_up(0., 0., 1., n=20_000)).values()) > 50

def test_the_regularization_has_no_unit(sample):
    "Ratings times 20 plus 3 have the same regularization, and the same biases times 20."
    train = sample.train
    scaled = replace(train, values=train.values*20 + 3, rating_range=(13., 103.))
    assert bias_regularization(scaled) == pytest.approx(bias_regularization(train), rel=1e-9)
    for ours, theirs in zip(biases(joint(scaled, None, None)), biases(joint(train, None, None))):
        assert torch.allclose(ours, 20*theirs, atol=1e-3)

ODD = {'one user': make([0]*5, range(5), [1, 5, 3, 4, 2]), 'one item': make(range(5), [0]*5, [1, 5, 3, 4, 2]),
       'all alike': make([0, 0, 1, 1, 2], [0, 1, 0, 1, 2], [3.3]*5), 'one rating per user': make(range(6), [0, 1, 0, 1, 2, 2], [1, 5, 2, 4, 3, 5]),
       'one rating per item': make([0, 1, 0, 1, 2, 2], range(6), [1, 5, 2, 4, 3, 5]), 'one rating': make([0], [0], [4]),
       'every user the same': make([0, 0, 1, 1], [0, 1, 0, 1], [1, 5, 1, 5]), 'every item the same': make([0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 5, 5]),
       'rows without ratings': make([0, 0, 2, 2], [1, 3, 1, 3], [1, 4, 2, 5], None, 9, 9)}

@pytest.mark.parametrize('r', ODD.values(), ids=ODD)
def test_few_ratings_give_a_finite_regularization(r):
    "Between 1 and 1000, and the biases are finite; rounding errors are no variance."
    for values in r.values, r.values*20 + 3, r.values*1e-3:
        got = bias_regularization(replace(r, values=values))
        assert list(got) == ['user', 'item'] and all(type(x) is float and 1 <= x <= 1000 for x in got.values()), got
    model = fresh(r)
    BiasSolver(model, r).sweep()
    assert all(b.isfinite().all() for b in biases(model))

def test_a_solver_takes_the_regularization_of_its_ratings(sample):
    solver, want = BiasSolver(fresh(sample.train), sample.train), bias_regularization(sample.train)
    assert (solver.reg_user, solver.reg_item) == (want['user'], want['item'])
    solver = BiasSolver(fresh(sample.train), sample.train, reg_item=7)
    assert (solver.reg_user, solver.reg_item) == (want['user'], 7)

def test_the_regularization_is_about_what_validation_chooses(sample):
    "Within 0.0005 stars of the best pair of a grid."
    train, valid, _ = sample
    error = lambda *reg: rmse(joint(train, *reg, sweeps=12).predict(valid), valid)
    grid = [error(a, b) for a in (1, 2, 3, 5, 8) for b in (1, 2, 3, 5)]
    assert error(None, None) < min(grid) + 0.0005

# ---- the race

@pytest.fixture(scope='module')
def sample(): return split_random(load_sample(), seed=0)

def chosen(fit, train, valid, grid=(0, 1, 2, 3, 5, 8, 13)):
    "The regularization of the grid with the lowest validation RMSE."
    scores = {(a, b): rmse(fit(train, a, b).predict(valid), valid) for a in grid for b in grid}
    return min(scores, key=scores.get)

def test_the_ladder_of_baselines(sample):
    train, valid, test = sample
    both = concat(train, valid)
    models = {'mean': fresh(both), 'film mean': koren(both, math.inf, 0),
              'Koren biases': koren(both, *chosen(koren, train, valid)),
              'joint biases': joint(both, *chosen(joint, train, valid))}
    error = {name: rmse(model.predict(test), test) for name, model in models.items()}
    assert error['mean'] - .05 > error['film mean'] > error['Koren biases'] + .05
    assert error['Koren biases'] > error['joint biases'] + .002 and error['joint biases'] < 0.900

def test_every_method_has_a_color_of_its_own():
    assert set(COLORS) >= {'mean', 'biases', 'SGD', 'ALS', 'variational', 'Gibbs'} and len(set(COLORS.values())) == len(COLORS)

@pytest.mark.skipif('MFBOOK_DATA' not in os.environ or not FULL, reason='needs MFBOOK_DATA, a folder with MovieLens data, and MFBOOK_FULL=1')
@pytest.mark.parametrize('name, most', [('ml-100k', 0.942), ('ml-latest-small', 0.867)])
def test_the_joint_biases_on_five_folds_of_real_data(name, most):
    from mfbook.movielens import load_ratings
    errors = []
    for train, test in folds(load_ratings(os.path.join(os.environ['MFBOOK_DATA'], name))):
        train, valid, _ = split_random(train, valid=0.1, test=0)
        model = joint(concat(train, valid), *chosen(joint, train, valid))
        errors.append(rmse(model.predict(test), test))
    assert np.mean(errors) < most
