"Gibbs sampling: every draw against theory, the chain on planted ratings, error bars, resuming, files, and bad settings."
import copy, dataclasses, io
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import pick
from mfbook.als import RowPrior, arrange, exact_rows, fit_als, lookup_table
from mfbook.features import who_rated_what
from mfbook.gibbs import (SCATTER_BEFORE, Draws, GibbsSolver, coverage, draw_noise, draw_prior, draw_rows, draw_wishart, effective_size, fit_gibbs,
                          known_of, overall_precision)
from mfbook.holdout import rmse, split_random
from mfbook.model import MatrixFactorization
from mfbook.ratings import Ratings
from mfbook.runs import fit, fit_biases
import mfbook.newcomers

pytestmark = pytest.mark.usefixtures('one_thread')

SMALL = dict(sweeps=14, burn_in=4, keep=5)

def planted(n_users=150, n_items=90, n=5000, scale=1., seed=0, noises=(.3, .7)):
    "Ratings of rank two; even users have the first noise, odd ones the second. Nobody has rated the last item."
    g = np.random.default_rng(seed)
    cells = g.choice(n_users*(n_items - 1), n, replace=False)
    u, i = cells // (n_items - 1), cells % (n_items - 1)
    p, q, b = g.normal(size=(n_users, 2)), g.normal(size=(n_items, 2)), g.normal(size=n_items)*.5
    r = 10 + (p[u]*q[i]).sum(1) + b[i] + g.normal(size=n)*np.take(noises, u % 2)
    frame = pd.DataFrame(dict(userId=np.r_[u, 0], movieId=np.r_[i, n_items-1], rating=np.r_[r, 10]*scale))
    return Ratings.from_frame(frame, rating_range=(0., 20*scale)).take(torch.arange(n))

@pytest.fixture(scope='module')
def split(): return split_random(planted(), seed=0)

@pytest.fixture(scope='module')
def fitted(split):
    torch.set_num_threads(1)
    model = MatrixFactorization(split.train, k=4)
    return model, fit_gibbs(model, split.train, split.valid, sweeps=120, burn_in=30, keep=90)

def ones(n): return torch.ones(n, 1)

# the draws

@pytest.mark.parametrize('of', ['rows', 'columns'])
def test_a_row_is_drawn_with_the_mean_and_covariance_of_theory(of):
    g, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    rows = torch.tensor([0]*3 + [1]*6 + [3]).int()
    cols, values = torch.randint(0, 7, (10,), generator=g).int(), torch.randn(10, generator=g)
    other, root = torch.randn(7, 3, generator=g), torch.randn(3, 3, generator=g)
    mean, precision = torch.randn(3, generator=g), root @ root.T + torch.eye(3)
    noise = torch.rand(7 if of == 'columns' else 4, generator=g) + .4
    copies = 200                                                             # of the four rows, in each of 40 calls: 8000 draws of each
    side = arrange((rows + 4*torch.arange(copies)[:, None]).flatten().int(), cols.repeat(copies), values.repeat(copies), 4*copies, 7, longest=4)
    table, sd = (lookup_table(other, noise), torch.ones(4)) if of == 'columns' else (lookup_table(other), noise)
    draws = [draw_rows(side, table, mean[None], precision, sd.repeat(copies), rng)[0] for _ in range(40)]
    draws = torch.cat(draws).view(8000, 4, 3).double()
    for r in range(4):                                                       # row 2 has no rating: the prior itself
        m = rows == r
        t = other[cols[m].long()].double()
        w = 1/(noise[cols[m].long()] if of == 'columns' else noise[r].expand(int(m.sum()))).double()**2
        X, y = torch.cat([t[:, :2], torch.ones(len(t), 1)], 1), values[m].double() - t[:, 2]
        A = X.T @ (w[:, None]*X) + precision
        want, covariance = torch.linalg.solve(A, X.T @ (w*y) + (precision @ mean).double()), A.inverse()
        sd_of_row = covariance.diagonal().sqrt()
        assert ((draws[:, r].mean(0) - want).abs() < 5*sd_of_row/8000**.5).all()
        assert ((draws[:, r].T.cov() - covariance).abs() < .08*sd_of_row[:, None]*sd_of_row).all()

def test_squared_errors_are_those_of_the_draw():
    rng, other = np.random.default_rng(1), torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    rows, cols, values = torch.tensor([0, 0, 1]).int(), torch.tensor([1, 4, 6]).int(), torch.tensor([1., -1., .5])
    side = arrange(rows, cols, values, 3, 7)
    drawn, squared = draw_rows(side, lookup_table(other), torch.zeros(1, 3), torch.eye(3), torch.ones(3), rng)
    t = other[cols.long()]
    e = (values - t[:, 2] - (t[:, :2]*drawn[rows.long(), :2]).sum(1) - drawn[rows.long(), 2])**2
    torch.testing.assert_close(squared, torch.tensor([e[0] + e[1], e[2], 0.]))

def test_wishart_has_its_mean_and_variance():
    rng, scale = np.random.default_rng(0), np.array([[1., .5, 0], [.5, 2., -.3], [0, -.3, .7]])
    draws = np.stack([draw_wishart(7., scale, rng) for _ in range(20_000)])
    d = np.diag(scale)
    variance = 7*(scale**2 + np.outer(d, d))                                  # of entry i, j
    assert (abs(draws.mean(0) - 7*scale) < 5*(variance/20_000)**.5).all()
    assert np.allclose(draws.var(0), variance, rtol=.08)

@pytest.mark.parametrize('n, features', pick([(1, 0), (4, 0), (40, 0), (30, 2)], (1, 0), (30, 2)))
def test_a_prior_is_drawn_from_its_normal_wishart(n, features):
    rng = np.random.default_rng(n)
    rows = torch.from_numpy(rng.normal(size=(n, 2)) + [1, -2]).float()
    known = torch.cat([ones(n), torch.from_numpy(rng.normal(size=(n, features))).float()], 1)
    x, D = rows.double().numpy(), known.double().numpy()
    K = D.T @ D + np.diag([2.] + [100.]*features)
    mean = np.linalg.inv(K) @ D.T @ x
    unit = 1.3                                                                # of a factor the scatter is in units, of a bias in units^2
    W0 = np.diag([SCATTER_BEFORE*unit, unit**2])
    W = np.linalg.inv(W0 + x.T @ x - x.T @ D @ np.linalg.inv(K) @ D.T @ x)
    draws = [draw_prior(rows, unit, known, rng) for _ in range(20_000)]
    weights, precisions = (torch.stack(t).double().numpy() for t in zip(*draws))
    assert np.allclose(precisions.mean(0), (n + 2)*W, atol=.03*(n + 2)*abs(W).max())
    left = np.linalg.cholesky(K).T @ (weights - mean)                             # standard normal, once each side is undone
    standard = (left @ np.linalg.cholesky(precisions)).reshape(20_000, -1)
    assert np.allclose(standard.mean(0), 0, atol=.04) and np.allclose(np.cov(standard.T), np.eye(2 + 2*features), atol=.05)

def test_noise_is_drawn_from_its_gamma():
    rng, n = np.random.default_rng(0), 5000
    noise, _ = draw_noise(np.full(n, 32.), np.full(n, 40), .7, rng)
    shape, rate = 5 + 20, 5*.49 + 16
    assert (noise**-2).mean() == pytest.approx(shape/rate, rel=.02) and (noise**-2).var() == pytest.approx(shape/rate**2, rel=.1)
    overall = np.array([draw_noise(np.zeros(30), np.zeros(30), .7, np.random.default_rng(s))[1] for s in range(500)])
    assert .62 < np.median(overall) < .78, 'with no ratings the overall noise stays about where it was'

def test_the_overall_precision_is_that_of_rows_around_their_common_mean():
    g = torch.Generator().manual_seed(0)
    features, precision = torch.cat([ones(200_000), torch.randn(200_000, 2, generator=g)], 1), torch.tensor([[4., 1.], [1., 2.]])
    weights = torch.tensor([[3., -1.], [1., .5], [0., 2.]])
    rows = features @ weights + torch.randn(200_000, 2, generator=g) @ torch.linalg.cholesky(precision.inverse()).T
    torch.testing.assert_close(overall_precision(features, weights, precision).inverse(), rows.T.cov(), atol=.03, rtol=.03)
    for same in (torch.ones(5, 1), torch.ones(5, 3)):
        torch.testing.assert_close(overall_precision(same, weights[:same.shape[1]], precision), precision)

def test_features_help_where_they_tell_what_is_liked_and_hardly_harm_where_they_do_not():
    g, errors = np.random.default_rng(1), {}
    u, i = np.divmod(g.choice(150*120, 5000, replace=False), 120)
    for told in (True, False):
        own = (u % 2 == i % 2) | (g.random(5000) < .1) if told else np.ones(5000, bool)
        stars = 3 + 1.2*(1 - 2*(u[own] % 2))*(1 - 2*(i[own] % 3 > 0)) + g.normal(size=own.sum())
        train, _, test = split_random(Ratings.from_frame(pd.DataFrame(dict(userId=u[own], movieId=i[own], rating=stars)),
                                                         rating_range=(-9., 15.)), valid=.1, test=.4, seed=0)
        for features in (0, 4):
            model = MatrixFactorization(train, k=4)
            fit_gibbs(model, train, sweeps=60, burn_in=20, keep=5, features=who_rated_what(train, features) if features else None)
            errors[told, features] = rmse(model.predict(test), test)
    assert errors[True, 4] < errors[True, 0]*.99 and errors[False, 4] < errors[False, 0]*1.01, errors

# the chain

def test_it_finds_planted_factors_and_noises(split, fitted):
    model, history = fitted
    als, biases = MatrixFactorization(split.train, k=4), MatrixFactorization(split.train, k=0)
    floor = ((.3**2 + .7**2)/2)**.5
    fit_als(als, split.train, reg=1., bias_reg=.5)
    fit_biases(biases, split.train, reg_user=3, reg_item=3)
    error = rmse(model.predict(split.test), split.test)
    assert floor*.9 < error < floor*1.25
    assert error < rmse(als.predict(split.test), split.test) < rmse(biases.predict(split.test), split.test)
    noise = history.draws.noise_sd.mean(0)
    assert .25 < noise[::2].mean() < .4 < .6 < noise[1::2].mean() < .8

def test_its_error_bars_are_honest_to_calm_and_erratic_users(split, fitted):
    draws = fitted[1].draws
    for odd in (0, 1):
        part = split.test.take(split.test.users % 2 == odd)
        half, most = coverage(draws, part, (.5, .9))
        assert abs(half - .5) < .12 and abs(most - .9) < .06
    assert (np.diff(coverage(draws, split.test, np.linspace(.05, .95, 10))) >= 0).all()

def test_the_scale_of_the_ratings_does_not_matter():
    errors = []
    for scale in (1., 20.):
        train, valid, _ = split_random(planted(scale=scale), seed=0)
        model = MatrixFactorization(train, k=4)
        fit_gibbs(model, train, sweeps=80, burn_in=30, keep=5)
        errors.append(rmse(model.predict(valid), valid)/scale)
    assert errors[1] == pytest.approx(errors[0], rel=.05)

def test_the_model_holds_the_mean_of_all_draws_after_the_burn_in(fitted):
    model, history = fitted                                                   # it kept every draw
    for side, draws in (('user', history.draws.user), ('item', history.draws.item)):
        torch.testing.assert_close(model.rows(side)[:-1], draws.float().mean(0)[:-1], atol=2e-3, rtol=2e-3)

def test_at_each_sweep_the_model_holds_the_last_draw_and_after_the_burn_in_the_mean_so_far(split):
    model = MatrixFactorization(split.train, k=3)
    solver = GibbsSolver(model, split.train, burn_in=3)
    total = 0
    for sweep in range(1, 7):
        before = {side: solver.rows[side] for side in ('user', 'item')}
        solver.sweep()
        assert not torch.equal(before['user'], solver.rows['user']), 'the chain goes on from its draw, not from the mean'
        total = total + solver.rows['user'] if sweep > 4 else solver.rows['user']
        torch.testing.assert_close(model.rows('user'), total/max(1, sweep - 3))
    rated = torch.bincount(split.train.items, minlength=split.train.n_items) > 0
    assert not torch.allclose(model.rows('item')[rated], solver.rows['item'][rated], atol=1e-3)

def test_the_average_of_the_draws_predicts_better_than_one_and_the_history_watches_the_model(split, fitted):
    model, history = fitted
    p = history.draws.predict(split.valid).clamp(*split.valid.rating_range)
    f = history.frame()
    assert rmse(p.mean(0), split.valid) < np.mean([rmse(one, split.valid) for one in p])
    assert rmse(p.mean(0), split.valid) == pytest.approx(f.valid.iloc[-1], rel=.02), 'mean rows, mean predictions'
    assert rmse(model.predict(split.valid), split.valid) == pytest.approx(f.valid.iloc[-1], abs=1e-6)
    assert f.index.tolist() == list(range(1, 121)) and f.valid.iloc[-1] < f.valid.iloc[25:30].min()
    assert history.best_sweep == 120 and history.best == history.rows[-1]

def test_what_nobody_rated_holds_the_prior_and_has_the_longest_bar(split, fitted):
    model, history = fitted
    assert (model.item_bias[-1] - model.item_prior_mean[-1]).abs() < 1 and model.rows('item')[-1].any()
    n, u = split.train.n_items, torch.arange(20).repeat_interleave(split.train.n_items)
    r = split.train
    every = Ratings(u.int(), torch.arange(n).repeat(20).int(), torch.zeros(20*n), None, r.user_ids, r.item_ids, r.rating_range)
    sd = history.draws.spread(every)[1].view(20, n).mean(0)
    assert sd.argmax() == n - 1

def test_without_features_what_nobody_rated_holds_the_prior_mean_itself(split):
    model = MatrixFactorization(split.train, k=3)
    fit_gibbs(model, split.train, **SMALL)
    torch.testing.assert_close(model.rows('item')[-1], model.prior('item').mean)

def test_the_prior_it_leaves_is_as_wide_as_the_rows_though_features_explain_them():
    g = np.random.default_rng(0)
    u, i = np.divmod(g.choice(60*600, 12_000, replace=False), 600)
    own = (u % 2 == i % 2) | (g.random(12_000) < .1)                         # two groups; films of the even one are liked more
    frame = pd.DataFrame(dict(userId=u[own], movieId=i[own], rating=3 + 1.5*(1 - 2*(i[own] % 2)) + .3*g.normal(size=own.sum())))
    train = Ratings.from_frame(frame, rating_range=(-3., 9.))
    model = MatrixFactorization(train, k=1)
    noise = fit_gibbs(model, train, features=who_rated_what(train, 2), sweeps=60, burn_in=30, keep=5).frame().noise.iloc[30:].mean()
    prior = model.prior('item').precision.inverse()[-1, -1].item()*noise**2
    assert .6 < prior/model.item_bias.var().item() < 1.6

def test_a_user_is_folded_in_with_the_prior_it_left(split, fitted):
    model, _ = fitted
    mine = split.train.users == 3
    items, values = split.train.items[mine], split.train.values[mine]
    row = model.fold_in(items, values)
    side = arrange(torch.zeros(len(items)).int(), items, values - model.mean, 1, split.train.n_items)
    prior = model.prior('user')
    assert prior.per_rating is False
    want, _ = exact_rows(side, lookup_table(model.rows('item')), RowPrior(prior.mean[None], prior.precision))
    torch.testing.assert_close(torch.cat([row.factors, torch.tensor([row.bias])]), want[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(want[0], model.rows('user')[3], atol=.6, rtol=0)

def test_the_same_seed_gives_the_same_chain_and_another_another(split):
    models = [MatrixFactorization(split.train, k=3) for _ in range(3)]
    a, b, c = (fit_gibbs(m, split.train, seed=s, **SMALL).draws for m, s in zip(models, (7, 7, 8)))
    assert torch.equal(a.user, b.user) and torch.equal(a.noise_sd, b.noise_sd) and torch.equal(models[0].item_bias, models[1].item_bias)
    assert not torch.equal(a.user, c.user)

def test_two_threads_give_the_same_chain(split):
    chains = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        chains.append(fit_gibbs(MatrixFactorization(split.train, k=3), split.train, **SMALL).draws)
    torch.testing.assert_close(chains[0].user, chains[1].user)

def test_watching_changes_nothing(split):
    models = [MatrixFactorization(split.train, k=3) for _ in range(2)]
    fit_gibbs(models[0], split.train, split.valid, **SMALL)
    history = fit_gibbs(models[1], split.train, **SMALL)
    assert torch.equal(models[0].user_factors, models[1].user_factors) and history.frame().valid.isna().all()

def test_draws_are_kept_evenly_from_the_first_after_the_burn_in_to_the_last(split, monkeypatch):
    taken, real = [], GibbsSolver._keep_draw
    monkeypatch.setattr(GibbsSolver, '_keep_draw', lambda self: taken.append(self.sweeps) or real(self))
    history = fit_gibbs(MatrixFactorization(split.train, k=2), split.train, **SMALL)
    assert taken == [5, 7, 9, 12, 14] and len(history.draws) == 5

def test_with_patience_it_stops_early_and_the_best_sweep_stays(split):
    model = MatrixFactorization(split.train, k=3)
    history = fit_gibbs(model, split.train, split.valid, sweeps=150, burn_in=10, keep=140, patience=4)
    assert len(history.rows) == history.best_sweep + 4 < 150 and len(history.draws) == len(history.rows) - 10 > 4
    assert rmse(model.predict(split.valid), split.valid) == pytest.approx(history.frame().valid.min(), abs=1e-6)

@pytest.mark.parametrize('cut', [1, 10, 11, 13])
def test_a_chain_that_was_cut_off_goes_on_as_if_nothing_had_happened(split, tmp_path, monkeypatch, cut):
    straight, resumed, calls = MatrixFactorization(split.train, k=3), MatrixFactorization(split.train, k=3), []
    a = fit_gibbs(straight, split.train, split.valid, **SMALL)
    whole = GibbsSolver.sweep
    def weak(self):
        calls.append(1)
        if len(calls) == cut + 1: raise KeyboardInterrupt
        return whole(self)
    monkeypatch.setattr(GibbsSolver, 'sweep', weak)
    with pytest.raises(KeyboardInterrupt):
        fit_gibbs(MatrixFactorization(split.train, k=3), split.train, split.valid, checkpoint=tmp_path/'c.pt', **SMALL)
    b = fit_gibbs(resumed, split.train, split.valid, checkpoint=tmp_path/'c.pt', **SMALL)
    assert len(calls) == cut + 1 + 14 - cut//10*10, 'sweeps that the checkpoint holds are not run again'
    for n, t in straight.state_dict().items(): assert torch.equal(t, resumed.state_dict()[n]), n
    assert torch.equal(a.draws.user, b.draws.user) and torch.equal(a.draws.noise_sd, b.draws.noise_sd)
    drop = lambda h: h.frame().drop(columns='seconds')
    pd.testing.assert_frame_equal(drop(a), drop(b))
    before = copy.deepcopy(b.rows)
    again = fit_gibbs(MatrixFactorization(split.train, k=3), split.train, split.valid, checkpoint=tmp_path/'c.pt', **SMALL)
    assert again.rows == before and torch.equal(again.draws.item, a.draws.item)

def through_a_file(state):
    "A state as a checkpoint gives it back."
    torch.save(state, file := io.BytesIO())
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)

@pytest.mark.parametrize('done', [0, 2, 4, 6])                                # burn-in of 3
def test_a_state_of_the_solver_goes_on_bit_for_bit(split, done):
    keep = range(4, 20)
    models = [MatrixFactorization(split.train, k=3) for _ in range(2)]
    one = GibbsSolver(models[0], split.train, burn_in=3, keep=keep, seed=5)
    for _ in range(done): one.sweep()
    kept = {n: t.clone() for n, t in models[0].state_dict().items()}
    states = [one.state_dict(), through_a_file(one.state_dict())]
    rows = [one.sweep() for _ in range(3)]                                    # must not reach into the state that was taken
    for state in states:
        models[1].load_state_dict(kept)
        other = GibbsSolver(models[1], split.train, burn_in=3, keep=keep, seed=5)
        other.load_state_dict(state)
        assert [other.sweep() for _ in range(3)] == rows
        for n, t in models[0].state_dict().items(): assert torch.equal(t, models[1].state_dict()[n]), n
        assert len(one.kept) == len(other.kept) == max(0, done)
        for a, b in zip(one.kept, other.kept): assert all(torch.equal(a[n], b[n]) for n in a)

def test_the_solver_runs_in_the_loop_of_the_book(split):
    models = [MatrixFactorization(split.train, k=3) for _ in range(2)]
    a = fit(models[0], GibbsSolver(models[0], split.train, burn_in=4), split.train, sweeps=14)
    fit_gibbs(models[1], split.train, **SMALL)
    assert torch.equal(models[0].rows('user'), models[1].rows('user')) and a.draws is None
    with pytest.raises(ValueError, match='no draw was kept'): GibbsSolver(models[0], split.train).draws()

def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(split, tmp_path):
    file = tmp_path/'c.pt'
    fit_gibbs(MatrixFactorization(split.train, k=3), split.train, checkpoint=file, **SMALL)
    for change, says in ((dict(seed=1), 'seed was 0, is 1'), (dict(features=who_rated_what(split.train, 1)), 'features.item was None, is 1 features'), (dict(sweeps=15), 'sweeps was 14, is 15'),
                         (dict(burn_in=3), 'burn_in was 4, is 3'), (dict(keep=6), 'keep was 5, is 6')):
        with pytest.raises(ValueError, match=says):
            fit_gibbs(MatrixFactorization(split.train, k=3), split.train, checkpoint=file, **{**SMALL, **change})
    with pytest.raises(ValueError, match='train was'):
        fit_gibbs(MatrixFactorization(split.valid, k=3), split.valid, checkpoint=file, **SMALL)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match='damaged'):
        fit_gibbs(MatrixFactorization(split.train, k=3), split.train, checkpoint=file, **SMALL)

# the draws that are kept

def test_intervals_grow_with_their_level_and_stay_in_the_range(split, fitted):
    draws = fitted[1].draws
    (a, b), (c, d) = draws.interval(split.test, .5), draws.interval(split.test, .9)
    assert (c <= a).all() and (a <= b).all() and (b <= d).all() and (c < d).all()
    lo, hi = split.test.rating_range
    assert c.min() >= lo and d.max() <= hi

def test_the_spread_does_not_depend_on_the_batch(split, fitted):
    draws = fitted[1].draws
    for a, b in zip(draws.spread(split.test), draws.spread(split.test, batch_size=7)): torch.testing.assert_close(a, b)

def test_draws_are_saved_and_loaded(split, fitted, tmp_path):
    model, history = fitted
    file = tmp_path/'d.safetensors'
    history.draws.save(file)
    again = Draws.load(file, model)
    assert torch.equal(again.interval(split.test), history.draws.interval(split.test)) and len(again) == 90
    with pytest.raises(ValueError, match='another model.*user rows'): Draws.load(file, MatrixFactorization(split.train, k=3))
    with pytest.raises(FileNotFoundError): Draws.load(tmp_path/'none', model)
    for data in (file.read_bytes()[:500], b'', b'no draws at all'):
        file.write_bytes(data)
        with pytest.raises(ValueError, match='damaged'): Draws.load(file, model)
    model.save(file)
    with pytest.raises(ValueError, match='Draws.save'): Draws.load(file, model)

def test_ratings_in_other_codes_are_refused(fitted):
    with pytest.raises(ValueError, match='codes for 3 users'): fitted[1].draws.predict(planted(n_users=3, n=100))

def test_draws_print_in_a_line(fitted): assert repr(fitted[1].draws).startswith('90 draws of MatrixFactorization(150 users')

def test_effective_size_of_a_chain_whose_autocorrelation_is_known():
    rng, n, rho = np.random.default_rng(0), 50_000, .8
    x, z = np.zeros(n), rng.standard_normal(n)
    for t in range(1, n): x[t] = rho*x[t-1] + z[t]
    assert effective_size(x) == pytest.approx(n*(1 - rho)/(1 + rho), rel=.2)
    assert effective_size(z) == pytest.approx(n, rel=.1)
    with pytest.raises(ValueError, match='all numbers are the same'): effective_size(np.ones(9))

@pytest.mark.parametrize('bad, says', [
    (dict(sweeps=0), 'sweeps is 0'), (dict(features=16), 'features are a pair.*this is a int'), (dict(features=(None,)), 'this is a tuple of 1'), (dict(sweeps=2.5), 'sweeps is 2.5'),
    (dict(burn_in=-1), 'burn_in is -1'), (dict(keep=1), 'keep is 1'), (dict(patience=0), 'patience is 0'),
    (dict(sweeps=20), 'burn-in of 20 leave 0 draws, and keep=30'), (dict(sweeps=40), 'leave 20 draws')])
def test_settings_that_cannot_work_are_refused(split, bad, says):
    with pytest.raises(ValueError, match=says): fit_gibbs(MatrixFactorization(split.train, k=2), split.train, **bad)

def test_ratings_that_cannot_work_are_refused(split, fitted):
    model = MatrixFactorization(split.train, k=2)
    with pytest.raises(ValueError, match='train holds no ratings'): fit_gibbs(model, split.train.take(slice(0, 0)))
    with pytest.raises(ValueError, match='train has 3 users'): fit_gibbs(model, planted(n_users=3, n=100))
    with pytest.raises(ValueError, match='level is 0'): fitted[1].draws.interval(split.test, 0)
    with pytest.raises(ValueError, match='no ratings'): fitted[1].draws.spread(split.test.take(slice(0, 0)))
