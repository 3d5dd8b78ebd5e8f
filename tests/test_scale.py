"Scale: the synthetic ratings' shape, noise and sameness; a start on parts of the users."
import hashlib, os
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from mfbook.als import fit_als
from mfbook.holdout import rmse, split_random
from mfbook.model import MatrixFactorization
from mfbook.ratings import Ratings
from mfbook.scale import (_activity, _none_unseen, _pairs, _popularity, _thin, start_on_parts,
                          synthetic_ratings)
from mfbook.variational import PartialStart, VariationalSolver, fit_variational

FULL = pytest.mark.skipif(not os.environ.get('MFBOOK_FULL'), reason='MFBOOK_FULL is not set; this one takes half a minute')
SHAPES = [(1_000_000, 6_280, 14_926), (3_200_000, 20_095, 26_700), pytest.param((32_000_204, 200_948, 84_432), marks=FULL)]

@pytest.fixture(scope='module', params=SHAPES, ids=["1M", "3.2M", "32M"])
def made(request): return (*request.param, synthetic_ratings(request.param[0]))

@pytest.fixture(scope='module')
def small(): return synthetic_ratings(60_000, seed=3)

def digest(s):
    tensors = [s.ratings.users, s.ratings.items, s.ratings.values, *(t.detach() for t in s.truth.state_dict().values())]
    return hashlib.sha256(b''.join(t.numpy().tobytes() for t in tensors)).hexdigest()

# ---- who rated what

def test_the_shape_is_exact(made):
    n, n_users, n_items, s = made
    r = s.ratings
    assert (len(r), r.n_users, r.n_items, r.rating_range) == (n, n_users, n_items, (.5, 5.))
    assert [x.dtype for x in (r.users, r.items, r.values)] == [torch.int32, torch.int32, torch.float32] and r.timestamps is None
    assert (s.truth.n_users, s.truth.n_items, s.truth.k) == (n_users, n_items, 24)

def test_no_pair_twice_and_in_order(made):
    r = made[-1].ratings
    pair = r.users.long()*r.n_items + r.items
    assert (pair[1:] > pair[:-1]).all() and r.items.min() == 0 and r.items.max() == r.n_items - 1

def test_the_tails(made):
    "Twenty ratings a user or more, half of the users below 80; every film rated, a third of them once or twice, the first by half of the users."
    n, n_users, n_items, s = made
    users, films = (torch.bincount(c).double() for c in (s.ratings.users, s.ratings.items))
    assert users.min() == 20 and 65 < users.median() < 80 and users.max() > 60*users.mean() and len(users) == n_users
    assert films.min() == 1 and len(films) == n_items and .25 < (films <= 2).double().mean() < .5 and films.median() < films.mean()/8
    assert .45 < films.max()/n_users < .7
    if n > 30_000_000: assert (films > 100_000).sum() >= 2

def test_every_half_star_and_only_those(made):
    v, times = made[-1].ratings.values.unique(return_counts=True)
    assert v.tolist() == [i/2 for i in range(1, 11)] and times.max() < .25*times.sum() and 3.3 < made[-1].ratings.mean < 3.6

@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_thinning_keeps_as_many_as_it_should(seed, want):
    g = np.random.default_rng(seed)
    want = np.array(want)
    got = want + g.integers(0, 12, len(want))
    pairs = np.concatenate([u*100 + np.sort(g.choice(100, n, replace=False)) for u, n in enumerate(got)])
    kept = _thin(pairs, got, want, g)
    assert np.bincount(kept // 100, minlength=len(want)).tolist() == want.tolist()
    assert np.isin(kept, pairs).all() and (np.diff(kept) > 0).all()

def test_thinning_spares_none_more_than_another():
    left = sum(_thin(np.arange(7), np.array([7]), np.array([4]), np.random.default_rng(s)) [:, None] == np.arange(7) for s in range(2000)).sum(0)
    assert abs(left/2000 - 4/7).max() < .04

@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 300), st.integers(1, 40))
def test_lists_are_as_long_as_told_in_batches_of_any_size(seed, n_items, n_users):
    g = np.random.default_rng(seed)
    activity = g.integers(1, n_items + 1, n_users)                    # up to every film there is
    pairs = _pairs(activity, g.permutation(_popularity(n_items)), g, batch=int(g.integers(1, activity.sum() + 2)))
    assert np.bincount(pairs // n_items, minlength=n_users).tolist() == activity.tolist() and (np.diff(pairs) > 0).all()

def test_the_popular_are_chosen_more_often():
    weights = _popularity(5_000)
    times = np.bincount(_pairs(_activity(100_000, 628), weights, np.random.default_rng(0)) % 5_000, minlength=5_000)
    by_25 = times.reshape(200, 25).mean(1)                           # the films stand in the order of their weights
    assert by_25[-1] > 5*by_25[100] > 5*by_25[10] and np.corrcoef(np.arange(200), by_25.argsort().argsort())[0, 1] > .95

def test_an_unseen_film_takes_a_popular_ones_place():
    pairs = np.sort(np.r_[np.arange(50)*10, np.arange(50)*10 + 1, 3])      # of ten films 0 and 1 are seen by all, 3 by one
    after = _none_unseen(pairs.copy(), 10, np.random.default_rng(0))
    times = np.bincount(after % 10)
    assert times[2:].tolist() == [1]*8 and times[:2].sum() == 93 and np.bincount(after // 10).tolist() == np.bincount(pairs // 10).tolist()

def test_the_law_of_activity_adds_up():
    for n, m in ((10_000, 63), (100_004, 671), (1_000_001, 6_280)):
        a = _activity(n, m)
        assert a.sum() == n and a.min() >= 20 and len(a) == m and (np.diff(a) >= -1).all()

# ---- how they rated

def test_the_noise_is_what_it_is_said_to_be(made):
    "The error that remains when the truth is known: the noise, and what rounding adds and clamping takes."
    s = made[-1]
    best, plain = rmse(s.expected(s.ratings), s.ratings), rmse(s.truth.predict(s.ratings), s.ratings)
    assert .71 < best < .725 and best < plain < 1.006*best
    inside = (s.truth.predict(s.ratings) - 2.75).abs() < .25               # far from both ends nothing is clamped
    assert (s.truth.predict(s.ratings) - s.ratings.values)[inside].double().square().mean().sqrt().item() == pytest.approx((.75**2 + .5**2/12)**.5, rel=.005)

def test_other_noise():
    a, b = (synthetic_ratings(60_000, noise=x) for x in (.3, .9))
    assert [rmse(s.expected(s.ratings), s.ratings) for s in (a, b)] == [pytest.approx((.09 + 1/48)**.5, rel=.03), pytest.approx(.83, rel=.03)]
    assert a.truth.prior('user').precision[-1, -1].item() == pytest.approx((.3/.45)**2) and a.noise == .3

def test_what_is_expected_is_the_mean_over_many_drawings(small):
    "200 ratings of each pair, drawn and rounded here, against the table's mean."
    some = small.ratings.take(slice(0, 3000))
    score = small.truth(some.users, some.items).detach()
    drawn = ((2*(score + small.noise*torch.randn(400, len(score), generator=torch.Generator().manual_seed(0)))).round().clamp(1, 10)/2).mean(0)
    assert (small.expected(some) - drawn).abs().max() < 5*.75/20 and (small.expected(some) - drawn).mean().abs() < .004

def test_the_truth_is_a_model_like_any_other(small, tmp_path):
    assert isinstance(small.truth, MatrixFactorization) and isinstance(small.ratings, Ratings)
    p, q = (small.truth.rows(side)[:, :-1] for side in ('user', 'item'))
    assert (p @ q.T).std().item() == pytest.approx(.45, rel=.1) and small.truth.rows('user')[:, -1].std().item() == pytest.approx(.45, rel=.15)
    assert (p.var(0)[:4].mean() > 2*p.var(0)[-8:].mean())
    small.truth.save(tmp_path/'m.safetensors')
    again = MatrixFactorization.load(tmp_path/'m.safetensors')
    assert torch.equal(again.predict(small.ratings), small.truth.predict(small.ratings))

def test_it_says_that_it_is_synthetic(small):
    assert repr(small).startswith('Synthetic: 60,000 ratings') and small.ratings.titles([0, 7]) == ['Synthetic film 1', 'Synthetic film 8']
    r, truth, noise = small
    assert r is small.ratings and truth is small.truth and noise == .75

# ---- the same again

def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(small):
    threads, rows = torch.get_num_threads(), []
    try:
        for t in (1, 2, 3):
            torch.set_num_threads(t)
            rows.append(digest(synthetic_ratings(300_000, seed=3)))
    finally: torch.set_num_threads(threads)
    assert len(set(rows)) == 1
    assert digest(synthetic_ratings(60_000, seed=3)) == digest(small) != digest(synthetic_ratings(60_000, seed=4))

def test_the_global_seeds_do_not_matter():
    torch.manual_seed(1), np.random.seed(1)
    a, before = digest(synthetic_ratings(50_000)), torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(before, torch.rand(3)) and a == digest(synthetic_ratings(50_000))

@pytest.mark.parametrize('wrong, says', [(dict(n=5), 'n is 5; give a whole number, 50,000 or more'), (dict(n=1e6), 'n is 1000000.0; give a whole number'),
                                         (dict(noise=0), 'noise is 0; it must be above 0')])
def test_bad_settings(wrong, says):
    with pytest.raises(ValueError, match=says): synthetic_ratings(**wrong)

# ---- a start on parts of the users

@pytest.fixture(scope='module')
def parted():
    train, valid, _ = split_random(synthetic_ratings(60_000).ratings, seed=0)
    model = MatrixFactorization(train, k=4)
    return train, valid, model, start_on_parts(model, train, shares=(.3,), sweeps=3, seed=1)

def asked(train, share): return torch.rand(train.n_users, generator=torch.Generator().manual_seed(1)) < share

def test_films_come_from_the_users_asked_and_the_others_take_their_rows(parted):
    train, _, model, start = parted
    mine = asked(train, .3)
    part, alone = train.take(mine[train.users.long()]), MatrixFactorization(train, k=4)
    h = fit_als(alone, part, sweeps=3, reg=.03, bias_reg=.02, per_rating=True, cg_steps=3)
    assert torch.equal(model.rows('item'), alone.rows('item'))
    theirs, rows = alone.rows('user')[mine], model.rows('user')
    assert torch.equal(rows[mine], theirs) and .2 < mine.float().mean() < .4
    assert all((theirs == row).all(1).any() for row in rows[~mine]) and len(rows[~mine].unique(dim=0)) > 20
    assert start.share == .3 and not start.covariances.any()
    assert start.noise_variance == pytest.approx(1.3*h.rows[-1]['train']**2)

def test_a_second_share_is_fitted_by_variational_bayes_from_where_the_first_stopped(parted):
    train, _, first, start = parted
    model = MatrixFactorization(train, k=4)
    more = start_on_parts(model, train, shares=(.3, .6), sweeps=3, seed=1)
    again = MatrixFactorization(train, k=4)
    again.load_state_dict(first.state_dict())
    part = train.take(asked(train, .6)[train.users.long()])
    solver = VariationalSolver(again, part, cg_steps=3, start=0)
    solver.noise_variance = start.noise_variance                       # the first knew nothing of covariances
    before = again.rows('item')
    solver.update_side('user')
    solver.update_side('item')
    films = again.rows('item')
    torch.testing.assert_close(model.rows('item'), films + .5*(films - before))
    assert more.share == .6 and more.noise_variance == pytest.approx(solver.noise_variance, rel=1e-5)
    torch.testing.assert_close(more.covariances, solver.covariances['item'])

def test_films_are_as_uncertain_as_they_were_with_their_share_of_the_ratings(parted):
    train = parted[0]
    model = MatrixFactorization(train, k=4)
    solver, C = VariationalSolver(model, train, start=0), torch.eye(5)*torch.arange(1., 5)[:, None, None]
    for side in ('user', 'item'): model.put_rows(side, model.rows(side) + 1)          # since the solver was made
    bins, taken = len(solver.covariances['item']), []
    solver.update_side = lambda side: taken.append((side, solver.covariances['item'].clone(), solver.noise_variance, solver.sweeps))
    solver.begin(PartialStart(.3, C, 1/4))
    side, item, variance, sweeps = taken[0]
    assert (side, variance, sweeps) == ('user', pytest.approx(.3), 1)
    assert [int(c[0, 0]) for c in item] == [min(max(1, b - 1), 4) for b in range(bins)]
    for side in ('user', 'item'): assert torch.equal(solver.rows_before[side], model.rows(side))

def test_each_share_is_told_how_much_smaller_the_one_before_was(parted, monkeypatch):
    train, ratios, real = parted[0], [], VariationalSolver.begin
    monkeypatch.setattr(VariationalSolver, 'begin', lambda self, start: ratios.append(start.share) or real(self, start))
    start = start_on_parts(MatrixFactorization(train, k=4), train, shares=(.1, .2, .8), sweeps=1)
    assert ratios == pytest.approx([1/2, 1/4]) and start.share == .8

def test_it_is_a_better_start_than_none(parted):
    train, valid, _, _ = parted
    errors = []
    for start in (lambda m: start_on_parts(m, train, shares=(.3, .6)), lambda m: 0):
        model = MatrixFactorization(train, k=4)
        fit_variational(model, train, sweeps=2, start=start(model))
        errors.append(rmse(model.predict(valid), valid))
    assert errors[0] < errors[1]

def test_the_same_seed_makes_the_same_start(parted):
    train, _, model, _ = parted
    again = MatrixFactorization(train, k=4)
    start_on_parts(again, train, shares=(.3,), sweeps=3, seed=1)
    assert torch.equal(again.rows('user'), model.rows('user'))

@pytest.mark.parametrize('shares, says', [((), 'shares is'), ((0, .5), 'above 0'), ((.5, 1.5), 'at most 1'), ((.5, .2), 'above the one'),
                                          ((.2, .2), 'above the one'), ((1e-9,), 'larger one')])
def test_shares_that_cannot_work_are_refused(parted, shares, says):
    with pytest.raises(ValueError, match=says): start_on_parts(parted[2], parted[0], shares=shares)

def test_ratings_of_another_shape_are_refused(parted):
    with pytest.raises(ValueError, match='train has'): start_on_parts(parted[2], synthetic_ratings(70_000).ratings)

def test_a_single_share_needs_no_brackets(parted):
    train, _, model, _ = parted
    again = MatrixFactorization(train, k=4)
    start = start_on_parts(again, train, shares=.3, sweeps=3, seed=1)
    assert start.share == .3 and torch.equal(again.rows('item'), model.rows('item'))

def test_a_start_made_with_other_factors_is_refused(parted):
    train, _, _, start = parted
    with pytest.raises(ValueError, match='the start has 4 factors, the model 3'):
        fit_variational(MatrixFactorization(train, k=3), train, sweeps=1, start=start)
