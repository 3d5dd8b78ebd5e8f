"Gibbs sampling: every draw against theory, the chain on planted ratings, error bars, resuming, files, and bad settings."
import copy, dataclasses
import numpy as np
import pandas as pd
import pytest
import torch
import mfbook.recommending
from mfbook.als import fit_als, prepare, put_rows, rows_of, solve_rows, table
from mfbook.gibbs import (Posterior, _in_gram, _Means, _met, _overall, _Unsure, coverage, draw_noise, draw_prior, draw_rows,
                          effective_size, fit_gibbs, fit_variational, who_rated_what, wishart)
from mfbook.holdout import fit_biases, rmse, split_random
from mfbook.model import MatrixFactorization
from mfbook.ratings import Ratings

@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

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

# the draws

@pytest.mark.parametrize('of', ['rows', 'columns'])
def test_a_row_is_drawn_with_the_mean_and_covariance_of_theory(of):
    g, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    rows = torch.tensor([0]*3 + [1]*6 + [3]).int()
    cols, values = torch.randint(0, 7, (10,), generator=g).int(), torch.randn(10, generator=g)
    other, root = torch.randn(7, 3, generator=g), torch.randn(3, 3, generator=g)
    mean, precision = torch.randn(3, generator=g), root @ root.T + torch.eye(3)
    noise = torch.rand(7 if of == 'columns' else 4, generator=g) + .4
    side = prepare(rows, cols, values, 4, 7, longest=4)
    args = (table(other, noise), mean, precision, torch.ones(4)) if of == 'columns' else (table(other), mean, precision, noise)
    draws = torch.stack([draw_rows(side, *args, rng)[0] for _ in range(8000)]).double()
    for r in range(4):                                                       # row 2 has no rating: the prior itself
        m = rows == r
        t = other[cols[m].long()].double()
        w = 1/(noise[cols[m].long()] if of == 'columns' else noise[r].expand(int(m.sum()))).double()**2
        X, y = torch.cat([t[:, :2], torch.ones(len(t), 1)], 1), values[m].double() - t[:, 2]
        A = X.T @ (w[:, None]*X) + precision
        want, covariance = torch.linalg.solve(A, X.T @ (w*y) + (precision @ mean).double()), A.inverse()
        sd = covariance.diagonal().sqrt()
        assert ((draws[:, r].mean(0) - want).abs() < 5*sd/8000**.5).all()
        assert ((draws[:, r].T.cov() - covariance).abs() < .08*sd[:, None]*sd).all()

def test_squared_errors_are_those_of_the_draw():
    rng, other = np.random.default_rng(1), torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    rows, cols, values = torch.tensor([0, 0, 1]).int(), torch.tensor([1, 4, 6]).int(), torch.tensor([1., -1., .5])
    drawn, squared = draw_rows(prepare(rows, cols, values, 3, 7), table(other), torch.zeros(3), torch.eye(3), torch.ones(3), rng)
    t = other[cols.long()]
    e = (values - t[:, 2] - (t[:, :2]*drawn[rows.long(), :2]).sum(1) - drawn[rows.long(), 2])**2
    torch.testing.assert_close(squared, torch.tensor([e[0] + e[1], e[2], 0.]))

def test_wishart_has_its_mean_and_variance():
    rng, scale = np.random.default_rng(0), np.array([[1., .5, 0], [.5, 2., -.3], [0, -.3, .7]])
    draws = np.stack([wishart(7., scale, rng) for _ in range(20_000)])
    d = np.diag(scale)
    variance = 7*(scale**2 + np.outer(d, d))                                  # of entry i, j
    assert (abs(draws.mean(0) - 7*scale) < 5*(variance/20_000)**.5).all()
    assert np.allclose(draws.var(0), variance, rtol=.08)

@pytest.mark.parametrize('n, habits', [(1, 0), (4, 0), (40, 0), (30, 2)])
def test_a_prior_is_drawn_from_its_normal_wishart(n, habits):
    rng = np.random.default_rng(n)
    rows = torch.from_numpy(rng.normal(size=(n, 2)) + [1, -2]).float()
    known = torch.cat([torch.ones(n, 1), torch.from_numpy(rng.normal(size=(n, habits))).float()], 1)
    x, D = rows.double().numpy(), known.double().numpy()
    K = D.T @ D + np.diag([2.] + [100.]*habits)
    mean = np.linalg.inv(K) @ D.T @ x
    W = np.linalg.inv(np.eye(2) + x.T @ x - x.T @ D @ np.linalg.inv(K) @ D.T @ x)
    draws = [draw_prior(rows, rng, known=known if habits else None) for _ in range(20_000)]
    weights, precisions = (torch.stack(t).double().numpy() for t in zip(*draws))
    assert np.allclose(precisions.mean(0), (n + 2)*W, atol=.03*(n + 2)*abs(W).max())
    left = np.linalg.cholesky(K).T @ (weights - mean)                             # standard normal, once each side is undone
    standard = (left @ np.linalg.cholesky(precisions)).reshape(20_000, -1)
    assert np.allclose(standard.mean(0), 0, atol=.04) and np.allclose(np.cov(standard.T), np.eye(2 + 2*habits), atol=.05)

def test_noise_is_drawn_from_its_gamma():
    rng, n = np.random.default_rng(0), 5000
    noise, _ = draw_noise(np.full(n, 32.), np.full(n, 40), .7, rng)
    shape, rate = 5 + 20, 5*.49 + 16
    assert (noise**-2).mean() == pytest.approx(shape/rate, rel=.02) and (noise**-2).var() == pytest.approx(shape/rate**2, rel=.1)
    general = np.array([draw_noise(np.zeros(30), np.zeros(30), .7, np.random.default_rng(s))[1] for s in range(500)])
    assert .62 < np.median(general) < .78, 'with no ratings the general level stays about where it was'

# who rated what

def dense(r): return torch.zeros(r.n_users, r.n_items).index_put_((r.users.long(), r.items.long()), torch.ones(1)).double()

def test_habits_are_the_standardized_singular_vectors_of_the_ones_and_zeros(split):
    U, _, Vh = torch.linalg.svd(dense(split.train), full_matrices=False)
    for got, V in zip(who_rated_what(split.train, 1), (U, Vh.T)):
        v = V[:, :1] - V[:, :1].mean()
        v = v/v.square().mean().sqrt()
        torch.testing.assert_close(got, torch.cat([torch.ones(len(v), 1), (v if (v**3).sum() > 0 else -v).float()], 1), atol=1e-3, rtol=0)

def test_two_groups_that_rate_different_films_are_told_apart_by_a_habit():
    g = np.random.default_rng(0)
    u, i = np.divmod(g.choice(60*40, 1500, replace=False), 40)
    own = (u % 2 == i % 2) | (g.random(1500) < .1)                                # nine of ten ratings within one's own group
    r = Ratings.from_frame(pd.DataFrame(dict(userId=u[own], movieId=i[own], rating=3.)), rating_range=(1., 5.))
    users, items = who_rated_what(r, 2)
    for known, ids in ((users, r.user_ids), (items, r.item_ids)):
        assert abs(np.corrcoef(known[:, 2], ids % 2)[0, 1]) > .9

def test_habits_look_at_ids_only_and_leave_the_random_numbers_alone(split):
    other = dataclasses.replace(split.train, values=split.train.values.flip(0))
    state = torch.random.get_rng_state()
    for a, b in zip(who_rated_what(split.train), who_rated_what(other)): assert torch.equal(a, b)
    assert torch.equal(state, torch.random.get_rng_state())

@pytest.mark.parametrize('habits, shape', [(0, (150, 1)), (3, (150, 4)), (500, (150, 91))])
def test_there_are_as_many_habits_as_asked_for_and_as_the_table_has(split, habits, shape):
    known = who_rated_what(split.train, habits)
    assert known[0].shape == shape and known[1].shape[1] == shape[1] and known[0].isfinite().all()
    assert (known[0][:, 0] == 1).all() and (habits == 0 or (known[0][:, 1].mean().abs() < 1e-5 and known[0][:, 1].std() > .9))

def test_the_overall_precision_is_that_of_rows_around_their_common_mean():
    g = torch.Generator().manual_seed(0)
    known, precision = torch.cat([torch.ones(200_000, 1), torch.randn(200_000, 2, generator=g)], 1), torch.tensor([[4., 1.], [1., 2.]])
    weights = torch.tensor([[3., -1.], [1., .5], [0., 2.]])
    rows = known @ weights + torch.randn(200_000, 2, generator=g) @ torch.linalg.cholesky(precision.inverse()).T
    torch.testing.assert_close(_overall(known, weights, precision).inverse(), rows.T.cov(), atol=.03, rtol=.03)
    for same in (torch.ones(5, 1), torch.ones(5, 3)): torch.testing.assert_close(_overall(same, weights[:same.shape[1]], precision), precision)

def test_habits_help_where_they_tell_what_is_liked_and_hardly_harm_where_they_do_not():
    g, errors = np.random.default_rng(1), {}
    u, i = np.divmod(g.choice(150*120, 5000, replace=False), 120)
    for told in (True, False):
        own = (u % 2 == i % 2) | (g.random(5000) < .1) if told else np.ones(5000, bool)
        stars = 3 + 1.2*(1 - 2*(u[own] % 2))*(1 - 2*(i[own] % 3 > 0)) + g.normal(size=own.sum())
        train, _, test = split_random(Ratings.from_frame(pd.DataFrame(dict(userId=u[own], movieId=i[own], rating=stars)),
                                                         rating_range=(-9., 15.)), valid=.1, test=.4, seed=0)
        for habits in (0, 4):
            model = MatrixFactorization(train, k=4)
            fit_gibbs(model, train, sweeps=60, burn_in=20, keep=5, habits=habits)
            errors[told, habits] = rmse(model.predict(test), test)
    assert errors[True, 4] < errors[True, 0]*.99 and errors[False, 4] < errors[False, 0]*1.01, errors

# the chain

def test_it_finds_planted_factors_and_noises(split, fitted):
    model, posterior = fitted
    als, floor = MatrixFactorization(split.train, k=4), ((.3**2 + .7**2)/2)**.5
    fit_als(als, split.train, decay=1., bias_decay=.5)
    error = rmse(model.predict(split.test), split.test)
    assert floor*.9 < error < floor*1.25
    assert error < rmse(als.predict(split.test), split.test) < rmse(fit_biases(split.train, 3, 3).predict(split.test), split.test)
    noise = posterior.noise.mean(0)
    assert .25 < noise[::2].mean() < .4 < .6 < noise[1::2].mean() < .8

def test_its_error_bars_are_honest_to_calm_and_erratic_users(split, fitted):
    _, posterior = fitted
    for odd in (0, 1):
        part = split.test.take(split.test.users % 2 == odd)
        half, most = coverage(posterior, part, (.5, .9))
        assert abs(half - .5) < .12 and abs(most - .9) < .06
    assert (np.diff(coverage(posterior, split.test, np.linspace(.05, .95, 10))) >= 0).all()

def test_the_scale_of_the_ratings_does_not_matter():
    errors = []
    for scale in (1., 20.):
        train, valid, _ = split_random(planted(scale=scale), seed=0)
        model = MatrixFactorization(train, k=4)
        fit_gibbs(model, train, sweeps=80, burn_in=30, keep=5)
        errors.append(rmse(model.predict(valid), valid)/scale)
    assert errors[1] == pytest.approx(errors[0], rel=.05)

def test_the_model_holds_the_mean_of_all_draws_after_the_burn_in(fitted):
    model, posterior = fitted                                                 # it kept every draw
    for side, draws in (('user', posterior.user), ('item', posterior.item)):
        torch.testing.assert_close(rows_of(model, side)[:-1], draws.float().mean(0)[:-1], atol=2e-3, rtol=2e-3)

def test_the_average_in_the_history_is_of_all_predictions_after_the_burn_in(split, fitted):
    _, posterior = fitted
    p = posterior.draws(split.valid).clamp(*split.valid.rating_range)
    f = posterior.frame()
    assert rmse(p.mean(0), split.valid) == pytest.approx(f.average.iloc[-1], abs=1e-3)
    assert rmse(p[-1], split.valid) == pytest.approx(f.valid.iloc[-1], abs=1e-3)
    assert f.index.tolist() == list(range(1, 121)) and f.average.iloc[-1] < f.valid.iloc[-1]

def test_what_nobody_rated_holds_the_prior_and_has_the_longest_bar(split, fitted):
    model, posterior = fitted
    assert (model.item_bias[-1] - model.item_prior_mean[-1]).abs() < 1 and rows_of(model, 'item')[-1].any()
    n, u = split.train.n_items, torch.arange(20).repeat_interleave(split.train.n_items)
    r = split.train
    every = Ratings(u.int(), torch.arange(n).repeat(20).int(), torch.zeros(20*n), None, r.user_ids, r.item_ids, r.rating_range)
    sd = posterior.spread(every)[1].view(20, n).mean(0)
    assert sd.argmax() == n - 1

def test_without_habits_what_nobody_rated_holds_the_prior_mean_itself(split):
    model = MatrixFactorization(split.train, k=3)
    fit_gibbs(model, split.train, habits=0, **SMALL)
    torch.testing.assert_close(rows_of(model, 'item')[-1], model.item_prior_mean)

def test_the_prior_it_leaves_is_as_wide_as_the_rows_though_habits_explain_them():
    g = np.random.default_rng(0)
    u, i = np.divmod(g.choice(60*600, 12_000, replace=False), 600)
    own = (u % 2 == i % 2) | (g.random(12_000) < .1)                         # two groups; films of the even one are liked more
    frame = pd.DataFrame(dict(userId=u[own], movieId=i[own], rating=3 + 1.5*(1 - 2*(i[own] % 2)) + .3*g.normal(size=own.sum())))
    train = Ratings.from_frame(frame, rating_range=(-3., 9.))
    model = MatrixFactorization(train, k=1)
    general = fit_gibbs(model, train, habits=2, sweeps=60, burn_in=30, keep=5).frame().noise.iloc[30:].mean()
    prior = model.item_prior_precision.inverse()[-1, -1].item()*general**2
    assert .6 < prior/model.item_bias.var().item() < 1.6

def test_a_user_is_folded_in_with_the_prior_it_left(split, fitted):
    model, _ = fitted
    mine = split.train.users == 3
    items, values = split.train.items[mine], split.train.values[mine]
    row = model.fold_in(items, values)
    side = prepare(torch.zeros(len(items)).int(), items, values - model.mu.item(), 1, split.train.n_items)
    want, _ = solve_rows(side, table(rows_of(model, 'item')), model.user_prior_mean, model.user_prior_precision)
    torch.testing.assert_close(torch.cat([row.factors, torch.tensor([row.bias])]), want[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(want[0], rows_of(model, 'user')[3], atol=.6, rtol=0)

def test_the_same_seed_gives_the_same_chain_and_another_another(split):
    models = [MatrixFactorization(split.train, k=3) for _ in range(3)]
    a, b, c = (fit_gibbs(m, split.train, seed=s, **SMALL) for m, s in zip(models, (7, 7, 8)))
    assert torch.equal(a.user, b.user) and torch.equal(a.noise, b.noise) and torch.equal(models[0].item_bias, models[1].item_bias)
    assert not torch.equal(a.user, c.user)

def test_two_threads_give_the_same_chain(split):
    chains = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        chains.append(fit_gibbs(MatrixFactorization(split.train, k=3), split.train, **SMALL))
    torch.testing.assert_close(chains[0].user, chains[1].user)

def test_watching_changes_nothing(split):
    models = [MatrixFactorization(split.train, k=3) for _ in range(2)]
    fit_gibbs(models[0], split.train, split.valid, **SMALL)
    posterior = fit_gibbs(models[1], split.train, **SMALL)
    assert torch.equal(models[0].user_factors, models[1].user_factors) and 'valid' not in posterior.frame()

@pytest.mark.parametrize('cut', [1, 10, 11, 13])
def test_a_chain_that_was_cut_off_goes_on_as_if_nothing_had_happened(split, tmp_path, monkeypatch, cut):
    import mfbook.gibbs as gibbs
    straight, resumed, calls = MatrixFactorization(split.train, k=3), MatrixFactorization(split.train, k=3), []
    a = fit_gibbs(straight, split.train, split.valid, **SMALL)
    whole = gibbs._Chain.sweep
    def weak(self, rng):
        calls.append(1)
        if len(calls) == cut + 1: raise KeyboardInterrupt
        return whole(self, rng)
    monkeypatch.setattr(gibbs._Chain, 'sweep', weak)
    with pytest.raises(KeyboardInterrupt):
        fit_gibbs(MatrixFactorization(split.train, k=3), split.train, split.valid, checkpoint=tmp_path/'c.pt', **SMALL)
    b = fit_gibbs(resumed, split.train, split.valid, checkpoint=tmp_path/'c.pt', **SMALL)
    assert len(calls) == cut + 1 + 14 - cut//10*10, 'sweeps that the checkpoint holds are not run again'
    for n, t in straight.state_dict().items(): assert torch.equal(t, resumed.state_dict()[n]), n
    assert torch.equal(a.user, b.user) and torch.equal(a.noise, b.noise)
    drop = lambda p: p.frame().drop(columns='seconds')
    pd.testing.assert_frame_equal(drop(a), drop(b))
    before = copy.deepcopy(b.rows)
    assert fit_gibbs(MatrixFactorization(split.train, k=3), split.train, split.valid, checkpoint=tmp_path/'c.pt', **SMALL).rows == before

def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(split, tmp_path):
    file = tmp_path/'c.pt'
    fit_gibbs(MatrixFactorization(split.train, k=3), split.train, checkpoint=file, **SMALL)
    for change, says in ((dict(seed=1), 'seed was 0, is 1'), (dict(habits=3), 'habits was 16, is 3'), (dict(sweeps=15), 'sweeps was 14, is 15')):
        with pytest.raises(ValueError, match=says):
            fit_gibbs(MatrixFactorization(split.train, k=3), split.train, checkpoint=file, **{**SMALL, **change})
    with pytest.raises(ValueError, match='train was'):
        fit_gibbs(MatrixFactorization(split.valid, k=3), split.valid, checkpoint=file, **SMALL)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match='damaged'):
        fit_gibbs(MatrixFactorization(split.train, k=3), split.train, checkpoint=file, **SMALL)

# variational Bayes

def test_the_mean_of_a_prior_is_that_of_its_draws():
    rng, rows = np.random.default_rng(0), torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    known = torch.cat([torch.ones(40, 1), torch.randn(40, 2, generator=torch.Generator().manual_seed(1))], 1)
    unsure = torch.tensor([[3., 1.], [1., 2.]])
    draws = [draw_prior(rows, rng, 1.5, known, unsure) for _ in range(20_000)]
    weights, precision = draw_prior(rows, None, 1.5, known, unsure)
    torch.testing.assert_close(torch.stack([d[0] for d in draws]).mean(0), weights, atol=.01, rtol=0)
    torch.testing.assert_close(torch.stack([d[1] for d in draws]).mean(0), precision, atol=.02, rtol=.02)
    inverse = lambda unsure: np.linalg.inv(draw_prior(rows, None, 1.5, known, unsure)[1].double())*(40 + 2)
    np.testing.assert_allclose(inverse(unsure) - inverse(0.), unsure, atol=1e-3)

def test_rows_are_pooled_by_the_number_of_their_ratings():
    count = torch.tensor([0, 1, 2, 3, 4, 7, 8, 1, 0, 9])
    rows = torch.repeat_interleave(torch.arange(10), count).int()
    unsure = _Unsure(rows, torch.arange(len(rows)).int() % 5, 10, 5, each=1)
    assert unsure.n.tolist() == [2, 2, 2, 2] and unsure.rated.tolist() == (count > 0).tolist()
    assert unsure.bins[count > 0].tolist() == [0, 1, 1, 2, 2, 3, 0, 3]
    assert unsure.bins[unsure.some].tolist() == [0, 1, 2, 3] and (count[unsure.some] > 0).all()
    assert sum(int((c.cols < 5).sum()) for c in unsure.side.chunks) == count[unsure.some].sum()

def test_a_row_in_pieces_has_met_what_its_ratings_say():
    r = planted(30, 20, 260)
    films = _Unsure(r.items, r.users, 20, 30)
    by_user = prepare(r.users, r.items, r.values, 30, 20, longest=3, most=64)
    assert any(c.owner is not None for c in by_user.chunks)
    want = torch.zeros(30, len(films.n))
    for u, i in zip(r.users.tolist(), r.items.tolist()): want[u, films.bins[i]] += 1
    assert torch.equal(_met(by_user, films), want)

def test_a_sweep_is_what_the_equations_say():
    "Against loops over single ratings, in double precision."
    r = planted(30, 20, 260)
    model = MatrixFactorization(r, k=2, init_std=.5)
    state = _Means(model, r, 1)
    for n in ('user', 'item'): getattr(state, n).copy_(torch.eye(3)*torch.rand(len(state.unsure[n].n), 1, 1)*.3)
    state.variance.fill_(.4)
    R = {n: rows_of(model, n).double() for n in ('user', 'item')}
    C, variance = {n: getattr(state, n).double() for n in R}, .4
    codes, bins = dict(user=r.users.long(), item=r.items.long()), {n: state.unsure[n].bins for n in R}
    for name, other in (('item', 'user'), ('user', 'item')):
        error = state.side(name, model, None)
        rated = state.unsure[name].rated
        all_of = sum(C[name][b] for b in bins[name][rated])
        weights, precision = (t.double() for t in draw_prior(R[name][rated].float(), None, state.unit, state.known[name][rated], all_of))
        means, A, b, yy, new = state.known[name].double() @ weights, {}, {}, 0., R[name].clone()
        for row in range(len(new)):
            P = variance*precision
            A, b = P.clone(), P @ means[row]
            for at in (codes[name] == row).nonzero()[:, 0].tolist():
                q, S = R[other][codes[other][at]], C[other][bins[other][codes[other][at]]]
                x, y = torch.cat([q[:-1], torch.ones(1)]), r.values[at].double() - model.mu.double() - q[-1]
                spread = S.clone(); spread[-1] = 0; spread[:, -1] = 0                 # of [factors, 1]
                together = S[:, -1].clone(); together[-1] = 0                         # with the bias that y lacks
                A, b = A + torch.outer(x, x) + spread, b + x*y - together
            new[row] = torch.linalg.solve(A, b)
        torch.testing.assert_close(rows_of(model, name).double(), new, atol=2e-4, rtol=2e-4)
        R[name] = new
        C[name], variance = getattr(state, name).double(), state.variance.item()
    squared = sum(((r.values[at] - model.mu).double() - x - y - (p*q).sum())**2 for at, (p, x, q, y) in enumerate(
        (R['user'][u, :-1], R['user'][u, -1], R['item'][i, :-1], R['item'][i, -1]) for u, i in zip(*codes.values())))
    assert squared/len(r) < error < squared/len(r) + .5 and state.variance > error, 'what is unsure is added to it'

def test_rows_go_on_by_part_of_their_last_step(split, monkeypatch):
    model, found, seen = MatrixFactorization(split.train, k=2), dict(item=[], user=[]), dict(item=[], user=[])
    state = _Means(model, split.train, 0)
    real = _Means.side
    def side(self, name, model, steps):
        if name == 'user':
            for n in seen: seen[n].append(rows_of(model, n))
        error = real(self, name, model, steps)
        found[name].append(rows_of(model, name))
        return error
    monkeypatch.setattr(_Means, 'side', side)
    at_first = rows_of(model, 'user')
    for _ in range(6): state.sweep(model, 3)
    found['user'].insert(0, at_first)                                         # the users move before they are solved
    for name in seen:
        torch.testing.assert_close(seen[name][0], found[name][0])             # the first time not at all
        for n, more in ((1, 1/2), (2, 2/3), (3, 3/4), (5, .8)):
            torch.testing.assert_close(seen[name][n], found[name][n] + more*(found[name][n] - found[name][n-1]))
    assert not torch.equal(found['item'][1], found['item'][0]) and torch.equal(rows_of(model, 'item'), seen['item'][-1])

def test_shared_covariances_are_the_mean_of_the_rows_own():
    r = planted(40, 30, 500)
    unsure = _Unsure(r.users, r.items, 40, 30, each=40)
    t, P = table(torch.randn(30, 3, generator=torch.Generator().manual_seed(0))), torch.eye(3)
    blur = torch.ones(40, 1), _in_gram(.1*torch.eye(3)[None])
    got = unsure.covariances(t, P, .5, blur)
    for b in range(len(unsure.n)):
        own = []
        for u in ((unsure.bins == b) & unsure.rated).nonzero()[:, 0]:
            films = r.items[r.users == u].long()
            X = torch.cat([t.factors[films], t.one[films][:, None]], 1)
            own.append(.5*torch.linalg.inv(X.T @ X + torch.diag(torch.tensor([.1, .1, 0.])) + P))
        if own: torch.testing.assert_close(got[b], torch.stack(own).mean(0), atol=1e-4, rtol=1e-4)

def test_it_finds_planted_factors_without_a_draw(split):
    models, als = [MatrixFactorization(split.train, k=4) for _ in range(2)], MatrixFactorization(split.train, k=4)
    histories = [fit_variational(m, split.train, valid, patience=99) for m, valid in zip(models, (None, split.valid))]
    fit_als(als, split.train, decay=1., bias_decay=.5)
    floor = ((.3**2 + .7**2)/2)**.5
    assert floor*.9 < rmse(models[0].predict(split.test), split.test) < floor*1.25
    assert rmse(models[0].predict(split.test), split.test) < rmse(als.predict(split.test), split.test)
    assert .8*floor < histories[0].rows[-1]['noise'] < 1.2*floor
    assert [row['noise'] for row in histories[0].rows] == [row['noise'] for row in histories[1].rows], 'watching changes nothing'
    row = models[0].fold_in(split.train.items[split.train.users == 3], split.train.values[split.train.users == 3])
    torch.testing.assert_close(row.factors, models[0].user_factors[3].detach(), atol=.6, rtol=0)

def test_steps_end_where_exact_rows_end_and_the_scale_of_the_ratings_does_not_matter():
    errors = []
    for scale, steps in ((1., None), (1., 4), (20., None)):
        train, valid, _ = split_random(planted(scale=scale), seed=0)
        model = MatrixFactorization(train, k=4)
        fit_variational(model, train, sweeps=25, steps=steps)
        errors.append(rmse(model.predict(valid), valid)/scale)
    assert errors[1:] == pytest.approx([errors[0]]*2, rel=.03)

def test_a_function_that_begins_is_called_once_before_the_first_sweep(split, tmp_path):
    calls, how = [], dict(sweeps=2, checkpoint=tmp_path/'c.pt')
    def begin(state, model, steps):
        calls.append((type(state), model, steps, int(state.sweeps)))
        model.item_factors.data.zero_(); model.user_factors.data.zero_()     # from here no factor comes alive again
    model = MatrixFactorization(split.train, k=2)
    fit_variational(model, split.train, start=begin, steps=3, **how)
    assert calls == [(_Means, model, 3, 0)] and not model.user_factors.any() and model.user_bias.any()
    fit_variational(MatrixFactorization(split.train, k=2), split.train, start=begin, steps=3, **how)
    assert len(calls) == 1, 'a run that goes on has begun already'
    with pytest.raises(ValueError, match='start was a function, is 0'): fit_variational(model, split.train, start=0, steps=3, **how)

def test_the_best_sweep_on_validation_stays(split):
    model = MatrixFactorization(split.train, k=4)
    h = fit_variational(model, split.train, split.valid, patience=2, sweeps=60)
    assert h.best_epoch == h.frame().valid.idxmin() and rmse(model.predict(split.valid), split.valid) == pytest.approx(h.best['valid'], abs=1e-6)
    assert len(h.rows) == min(60, h.best_epoch + 2)

@pytest.mark.parametrize('cut', [1, 2, 5])
def test_variational_bayes_that_was_cut_off_goes_on_as_if_nothing_had_happened(split, tmp_path, monkeypatch, cut):
    import mfbook.gibbs as gibbs
    straight, cut_off, resumed = (MatrixFactorization(split.train, k=3) for _ in range(3))
    how, calls = dict(sweeps=7, checkpoint=tmp_path/'c.pt'), []
    a = fit_variational(straight, split.train, split.valid, sweeps=7)
    whole = gibbs._Run.record
    def weak(self, **row):
        if len(calls) == cut: raise KeyboardInterrupt
        calls.append(1)
        whole(self, **row)
    monkeypatch.setattr(gibbs._Run, 'record', weak)
    with pytest.raises(KeyboardInterrupt): fit_variational(cut_off, split.train, split.valid, **how)
    monkeypatch.undo()
    b = fit_variational(resumed, split.train, split.valid, **how)
    for n, t in straight.state_dict().items(): assert torch.equal(t, resumed.state_dict()[n]), n
    assert [{**x, 'seconds': 0} for x in a.rows] == [{**x, 'seconds': 0} for x in b.rows]
    with pytest.raises(ValueError, match='start was 2, is 3'): fit_variational(resumed, split.train, split.valid, start=3, **how)

@pytest.mark.parametrize('bad, says', [(dict(sweeps=0), 'sweeps is 0'), (dict(start=-1), 'start is -1'), (dict(start=.5), 'start is 0.5'),
                                       (dict(habits=-1), 'habits is -1'), (dict(steps=0), 'steps is 0'), (dict(patience=0), 'patience is 0')])
def test_settings_that_cannot_work_are_refused_there_too(split, bad, says):
    with pytest.raises(ValueError, match=says): fit_variational(MatrixFactorization(split.train, k=2), split.train, **bad)

# the posterior

def test_intervals_grow_with_their_level_and_stay_in_the_range(split, fitted):
    _, posterior = fitted
    (a, b), (c, d) = posterior.interval(split.test, .5), posterior.interval(split.test, .9)
    assert (c <= a).all() and (a <= b).all() and (b <= d).all() and (c < d).all()
    lo, hi = split.test.rating_range
    assert c.min() >= lo and d.max() <= hi

def test_the_spread_does_not_depend_on_the_batch(split, fitted):
    _, posterior = fitted
    for a, b in zip(posterior.spread(split.test), posterior.spread(split.test, batch_size=7)): torch.testing.assert_close(a, b)

def test_draws_are_saved_and_loaded(split, fitted, tmp_path):
    model, posterior = fitted
    file = tmp_path/'d.safetensors'
    posterior.save(file)
    again = Posterior.load(file, model)
    assert torch.equal(again.interval(split.test), posterior.interval(split.test)) and again.rows == posterior.rows
    with pytest.raises(ValueError, match='another model.*user rows'): Posterior.load(file, MatrixFactorization(split.train, k=3))
    with pytest.raises(FileNotFoundError): Posterior.load(tmp_path/'none', model)
    for data in (file.read_bytes()[:500], b'', b'no draws at all'):
        file.write_bytes(data)
        with pytest.raises(ValueError, match='damaged'): Posterior.load(file, model)
    model.save(file)
    with pytest.raises(ValueError, match='Posterior.save'): Posterior.load(file, model)

def test_ratings_in_other_codes_are_refused(fitted):
    _, posterior = fitted
    with pytest.raises(ValueError, match='codes of 3 users'): posterior.draws(planted(n_users=3, n=100))

def test_effective_size_of_a_chain_whose_autocorrelation_is_known():
    rng, n, rho = np.random.default_rng(0), 50_000, .8
    x, z = np.zeros(n), rng.standard_normal(n)
    for t in range(1, n): x[t] = rho*x[t-1] + z[t]
    assert effective_size(x) == pytest.approx(n*(1 - rho)/(1 + rho), rel=.2)
    assert effective_size(z) == pytest.approx(n, rel=.1)
    with pytest.raises(ValueError, match='all numbers are the same'): effective_size(np.ones(9))

def test_the_trace_is_drawn(fitted):
    ax = fitted[1].plot()
    assert ax.get_xlabel() == 'sweep' and [len(l.get_xdata()) for l in ax.get_lines()] == [120, 120]

@pytest.mark.parametrize('bad, says', [
    (dict(sweeps=0), 'sweeps is 0'), (dict(habits=-1), 'habits is -1'), (dict(habits=1.5), 'habits is 1.5'), (dict(sweeps=2.5), 'sweeps is 2.5'), (dict(burn_in=-1), 'burn_in is -1'), (dict(keep=1), 'keep is 1'),
    (dict(sweeps=20), 'burn-in of 20 leave 0 draws, and keep=30'), (dict(sweeps=40), 'leave 20 draws')])
def test_settings_that_cannot_work_are_refused(split, bad, says):
    with pytest.raises(ValueError, match=says): fit_gibbs(MatrixFactorization(split.train, k=2), split.train, **bad)

def test_ratings_that_cannot_work_are_refused(split, fitted):
    model = MatrixFactorization(split.train, k=2)
    with pytest.raises(ValueError, match='train holds no ratings'): fit_gibbs(model, split.train.take(slice(0, 0)))
    with pytest.raises(ValueError, match='train has 3 users'): fit_gibbs(model, planted(n_users=3, n=100))
    with pytest.raises(ValueError, match='level is 0'): fitted[1].interval(split.test, 0)
    with pytest.raises(ValueError, match='no ratings'): fitted[1].spread(split.test.take(slice(0, 0)))
