"Hold-outs lose no rating and repeat none; the measures and the baselines agree with plain loops and dense solvers."
import math, os, warnings
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from mfbook.holdout import (BASELINES, COLORS, Biases, Split, biases_koren, fit_biases, folds, mae, mean_baseline, over_seeds, plot_ladder,
                            rating_counts, rmse, split_by_time, split_last, split_random, tune_biases, tuned, union)
from mfbook.ratings import Ratings, load_ratings

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
prices = st.floats(0.1, 30)

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
    lines = repr(split_random(load_ratings())).splitlines()
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

# ---- union

def test_union():
    a, b = FOUR.take([2, 0]), FOUR.take([3])
    ab = union(a, b)
    assert rows(ab) == [2, 0, 3] and ab.timestamps.tolist() == [3, 1, 4] and ab.users.dtype == torch.int32 and ab.item_ids is FOUR.item_ids
    untimed = replace(a, timestamps=None)
    assert union(untimed, untimed).timestamps is None and len(union(a, NONE)) == 2
    with pytest.raises(ValueError, match='only one of the two has timestamps'): union(a, untimed)
    with pytest.raises(ValueError, match='user or item codes'): union(a, replace(b, item_ids=b.item_ids + 1))
    with pytest.raises(ValueError, match='user or item codes'): union(a, replace(b, user_ids=b.user_ids[:1]))

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

def dense(r, reg_user, reg_item):
    "The joint biases as one ridge problem: a row a rating, a row a price."
    U, I = np.eye(r.n_users)[r.users.numpy()], np.eye(r.n_items)[r.items.numpy()]
    A = np.vstack([np.hstack([U, I]), np.diag(np.r_[np.full(r.n_users, reg_user), np.full(r.n_items, reg_item)]**0.5)])
    y = np.r_[r.values.numpy().astype(float) - r.values.double().mean().item(), np.zeros(r.n_users + r.n_items)]
    b = np.linalg.lstsq(A, y, rcond=None)[0]
    return b[:r.n_users], b[r.n_users:]

def loss(b, r, reg_user, reg_item):
    e = r.values.double() - b.mu - b.user_bias.double()[r.users.long()] - b.item_bias.double()[r.items.long()]
    return ((e**2).sum() + reg_user*(b.user_bias.double()**2).sum() + reg_item*(b.item_bias.double()**2).sum()).item()

@given(rated(), prices, prices)
def test_fit_biases_equals_dense_least_squares(r, reg_user, reg_item):
    b, (user, item) = fit_biases(r, reg_user, reg_item, tol=1e-12), dense(r, reg_user, reg_item)
    assert np.allclose(b.user_bias, user, atol=1e-5) and np.allclose(b.item_bias, item, atol=1e-5)

@pytest.mark.parametrize('reg_user, reg_item', [(0, 0), (0, 2), (2, 0)])
def test_fit_biases_without_a_price(reg_user, reg_item):
    "The biases may not be unique then; the predictions for the rated pairs are."
    r = split_random(load_ratings().take(slice(0, 1500)), seed=1).train
    r = make(r.users.tolist(), torch.unique(r.items, return_inverse=True)[1].tolist(), r.values.tolist())
    b, (user, item) = fit_biases(r, reg_user, reg_item, tol=1e-10), dense(r, reg_user, reg_item)
    u, i = r.users.long(), r.items.long()
    assert np.allclose(b.user_bias[u] + b.item_bias[i], user[u] + item[i], atol=1e-4)

@given(rated(), prices, prices)
def test_no_sweep_raises_the_loss(r, reg_user, reg_item):
    losses = [loss(fit_biases(r, reg_user, reg_item, sweeps=s, tol=0), r, reg_user, reg_item) for s in range(1, 8)]
    assert all(b <= a + 1e-4 for a, b in zip(losses, losses[1:]))       # the biases are given back in float32

def test_few_sweeps_are_enough():
    "Without the shift between the sides, small prices take hundreds."
    r = load_ratings()
    for price in 0.01, 0.1, 1, 10:
        a, b = (fit_biases(r, price, price, sweeps=s) for s in (25, 1000))
        assert torch.equal(a.user_bias, b.user_bias) and torch.equal(a.item_bias, b.item_bias)

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
    b = biases_koren(r, reg_user, reg_item)
    assert b.mu == pytest.approx(mu) and np.allclose(b.item_bias, item, atol=1e-5) and np.allclose(b.user_bias, user, atol=1e-5)
    one = fit_biases(r, reg_user, reg_item, sweeps=1)
    assert torch.equal(one.user_bias, b.user_bias) and torch.equal(one.item_bias, b.item_bias)

@pytest.mark.parametrize('fit', [biases_koren, fit_biases])
def test_who_has_no_rating_has_no_bias(fit):
    r = make([0, 0, 2], [1, 1, 3], [5, 4, 1], None, 4, 5)
    for reg in 0, 2, math.inf:
        b = fit(r, reg, reg)
        assert b.user_bias[[1, 3]].tolist() == [0, 0] and b.item_bias[[0, 2, 4]].tolist() == [0, 0, 0]
        assert b.user_bias.dtype == b.item_bias.dtype == torch.float32 and b.user_bias.isfinite().all()
    assert fit(r, math.inf, 0).user_bias.abs().max() == 0 == fit(r, 0, math.inf).item_bias.abs().max()
    b = fit(r, math.inf, 0)
    assert (b.mu + b.item_bias[[1, 3]]).tolist() == pytest.approx([4.5, 1.])      # the film's own mean

@pytest.mark.parametrize('fit', [biases_koren, fit_biases])
def test_prices_that_make_no_sense(fit):
    for reg in -1, math.nan:
        with pytest.raises(ValueError, match='reg_user='): fit(FOUR, reg, 1)
        with pytest.raises(ValueError, match='reg_item='): fit(FOUR, 1, reg)
    with pytest.raises(ValueError, match='no ratings to fit'): fit(NONE, 1, 1)
    with pytest.raises(ValueError, match='no ratings to fit'): mean_baseline(NONE)

def test_predictions():
    b = Biases(3., torch.tensor([0., 3., -3.]), torch.tensor([.5, -.25]), (1., 5.))
    p = b.predict(make([0, 0, 1, 2], [0, 1, 0, 1], [1, 1, 1, 1]))
    assert p.tolist() == [3.5, 2.75, 5., 1.] and p.dtype == torch.float32
    assert p.tolist() == b.predict(make([0, 0, 1, 2], [0, 1, 0, 1], [5, 5, 5, 5])).tolist()     # the values are not looked at
    with pytest.raises(ValueError, match=r'codes of \(2, 2\).*biases of \(3, 2\).*encode'): b.predict(make([0, 1], [0, 1], [1, 1]))
    assert repr(b) == 'Biases(mu=3.000, 3 users, 2 items)'

@given(rated(), rated())
def test_clamping_never_hurts(train, test):
    b = fit_biases(train, 0.5, 0.5)
    raw = b.mu + b.user_bias[test.users.long()] + b.item_bias[test.items.long()]
    assert rmse(b.predict(test), test) <= rmse(raw, test) + 1e-6

def test_the_mean_baseline():
    b = mean_baseline(FOUR)
    assert b.mu == 1.5 and not b.user_bias.any() and not b.item_bias.any() and len(b.user_bias) == 2 and len(b.item_bias) == 3

# ---- choosing, and the race

@pytest.fixture(scope='module')
def sample(): return split_random(load_ratings(), seed=0)

@pytest.mark.parametrize('fit', [biases_koren, fit_biases])
def test_tuning_takes_the_best_of_the_grid_on_validation(sample, fit):
    train, valid, _ = sample
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        best = tune_biases(train, valid, fit, grid=(0, 1, 4, 16))
    assert best == min(((a, b) for a in (0, 1, 4, 16) for b in (0, 1, 4, 16)), key=lambda p: rmse(fit(train, *p).predict(valid), valid))
    assert best[1] == 4 and not heard            # inside the grid, or at 0, beyond which there is nothing

def test_tuning_says_when_the_grid_is_too_narrow(sample):
    with pytest.warns(UserWarning) as heard: assert tune_biases(*sample[:2], grid=(30, 60)) == (30, 30)
    assert [str(w.message).split(',')[0] for w in heard] == ['the best reg_user', 'the best reg_item']

def test_beyond_zero_there_is_nothing_to_try(sample):
    "Whoever tunes on train itself should not shrink at all; and 0 is the end of prices, not of a grid."
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert tune_biases(sample.train, sample.train, grid=(0, 5, 9)) == (0, 0)

def test_a_method_tunes_on_validation_and_refits_on_both(sample):
    train, valid, _ = sample
    b, want = tuned(fit_biases)(train, valid), fit_biases(union(train, valid), *tune_biases(train, valid))
    assert b.mu == union(train, valid).mean and torch.equal(b.item_bias, want.item_bias)
    assert BASELINES['mean'](train, valid).mu == b.mu

def test_the_ladder_of_baselines(sample):
    train, valid, test = sample
    error = {name: rmse(method(train, valid).predict(test), test) for name, method in BASELINES.items()}
    assert list(error) == ['mean', 'film mean', 'Koren biases', 'joint biases']
    assert error['mean'] - .05 > error['film mean'] > error['Koren biases'] + .05 and error['Koren biases'] > error['joint biases'] + .002
    assert error['joint biases'] < 0.900

def test_every_method_of_a_race_sees_the_same_splits():
    seen = []
    def spy(train, valid):
        seen.append((train.users.tolist(), valid.items.tolist()))
        return mean_baseline(train)
    r = load_ratings().take(slice(0, 500))
    scores = over_seeds(r, dict(a=spy, b=spy), seeds=[3, 5])
    assert seen[0] == seen[1] != seen[2] == seen[3]
    assert scores[['method', 'seed']].values.tolist() == [['a', 3], ['b', 3], ['a', 5], ['b', 5]]
    train, _, test = split_random(r, seed=5)
    assert scores.rmse[3] == rmse(mean_baseline(train).predict(test), test) and scores.mae[3] == mae(mean_baseline(train).predict(test), test)

def test_the_ladder_is_drawn():
    r = load_ratings().take(slice(0, 2000))
    scores = over_seeds(r, {'mean': BASELINES['mean'], 'film mean': BASELINES['film mean'], 'a new one': BASELINES['mean']}, seeds=range(3))
    for metric in 'rmse', 'mae':
        ax = plot_ladder(scores, metric)
        assert [t.get_text() for t in ax.get_yticklabels()] == ['mean', 'film mean', 'a new one'] and metric.upper() in ax.get_xlabel()
        for name, dots, text in zip(['mean', 'film mean', 'a new one'], ax.collections, ax.texts):
            s = scores[metric][scores.method == name]
            assert np.allclose(dots.get_offsets()[:, 0], s) and text.get_text() == f'{s.mean():.3f}'
    plt.close('all')
    assert set(COLORS) >= {'mean', 'biases', 'SGD', 'ALS', 'Gibbs'} and len(set(COLORS.values())) == len(COLORS)

@pytest.mark.skipif('MFBOOK_DATA' not in os.environ, reason='MFBOOK_DATA names no folder with MovieLens data')
@pytest.mark.parametrize('name, most', [('ml-100k', 0.942), ('ml-latest-small', 0.867)])
def test_the_joint_biases_on_five_folds_of_real_data(name, most):
    errors = []
    for train, test in folds(load_ratings(os.path.join(os.environ['MFBOOK_DATA'], name))):
        train, valid, _ = split_random(train, valid=0.1, test=0)
        errors.append(rmse(BASELINES['joint biases'](train, valid).predict(test), test))
    assert np.mean(errors) < most
