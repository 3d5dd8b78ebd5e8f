"Variational Bayes: a sweep against loops over single ratings, planted ratings, its starts, resuming, and bad settings."
import io
import numpy as np
import pandas as pd
import pytest
import torch
from mfbook.als import ALSSolver, arrange, fit_als, lookup_table
from mfbook.gibbs import ALS_START, draw_prior
from mfbook.holdout import rmse, split_random
from mfbook.model import MatrixFactorization, rating_unit
from mfbook.ratings import Ratings
from mfbook.features import who_rated_what
from mfbook.variational import (ActivityBins, PartialStart, VariationalSolver, covariance_in_gram, fit_variational,
                                mean_prior, ratings_by_bin)
import mfbook.newcomers

pytestmark = pytest.mark.usefixtures('one_thread')

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

SIDES = ('user', 'item')
def zeros(k): return torch.zeros(k + 1, k + 1)
def copied(model): return {n: t.clone() for n, t in model.state_dict().items()}
def assert_same(model, state):
    for n, t in model.state_dict().items(): assert torch.equal(t, state[n]), n

# the parts

def test_the_mean_of_a_prior_is_that_of_its_draws():
    rng, rows = np.random.default_rng(0), torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    known = torch.cat([torch.ones(40, 1), torch.randn(40, 2, generator=torch.Generator().manual_seed(1))], 1)
    draws = [draw_prior(rows, 1.5, known, rng) for _ in range(20_000)]
    weights, precision = mean_prior(rows, 1.5, known, zeros(1))
    torch.testing.assert_close(torch.stack([d[0] for d in draws]).mean(0), weights, atol=.01, rtol=0)
    torch.testing.assert_close(torch.stack([d[1] for d in draws]).mean(0), precision, atol=.02, rtol=.02)

def test_the_covariances_of_rows_widen_their_prior():
    rows, known = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)), torch.ones(40, 1)
    unsure = torch.tensor([[3., 1.], [1., 2.]])
    inverse = lambda covariance: np.linalg.inv(mean_prior(rows, 1.5, known, covariance)[1].double())*(40 + 2)
    np.testing.assert_allclose(inverse(unsure) - inverse(zeros(1)), unsure, atol=1e-3)
    torch.testing.assert_close(mean_prior(rows, 1.5, known, unsure)[0], mean_prior(rows, 1.5, known, zeros(1))[0])

def test_rows_are_pooled_by_the_number_of_their_ratings():
    count = torch.tensor([0, 1, 2, 3, 4, 7, 8, 1, 0, 9])
    rows = torch.repeat_interleave(torch.arange(10), count).int()
    by_count = ActivityBins(rows, torch.arange(len(rows)).int() % 5, 10, 5, most=1)
    assert by_count.sizes.tolist() == [2, 2, 2, 2] and by_count.rated.tolist() == (count > 0).tolist()
    assert by_count.bins[count > 0].tolist() == [0, 1, 1, 2, 2, 3, 0, 3]
    assert by_count.bins[by_count.sample].tolist() == [0, 1, 2, 3] and (count[by_count.sample] > 0).all()
    assert sum(int((c.cols < 5).sum()) for c in by_count.side.chunks) == count[by_count.sample].sum()
    covariances = torch.arange(4.)[:, None, None]*torch.eye(2)
    assert torch.equal(by_count.total(covariances), torch.eye(2)*2*(0 + 1 + 2 + 3))

def test_rows_may_be_grouped_otherwise():
    "The lesson gives each row a covariance of its own, and its bound rises by that."
    class RowByRow(ActivityBins):
        def _bin_of(self, count): return torch.where(count > 0, torch.arange(len(count)), 0)
    r = planted(30, 20, 260)
    solver = VariationalSolver(MatrixFactorization(r, k=2), r)
    solver._share_covariances(r, RowByRow)
    solver.update_side('item')
    n_items = int(r.items.max()) + 1                                          # those after it are without ratings
    assert solver.covariances['item'].shape == (n_items, 3, 3) and solver.often['user'].shape == (30, n_items)
    own = solver.covariances['item']
    solver._share_covariances(r, ActivityBins)
    assert not solver.covariances['item'].any() and len(solver.covariances['item']) < len(own)

def test_of_long_rows_fewer_are_sampled():
    "By their sizes alone: 40 rows in each bin, of 2**n ratings."
    by_count = ActivityBins.__new__(ActivityBins)
    by_count.bins = torch.arange(18).repeat_interleave(40)
    by_count.rated, by_count.sizes = torch.ones(len(by_count.bins), dtype=torch.bool), torch.full((18,), 40)
    sample = by_count._sample_rows(32)
    assert torch.bincount(by_count.bins[sample]).tolist() == [32]*13 + [16, 8, 4, 4, 4]

def test_a_row_in_pieces_has_met_what_its_ratings_say():
    r = planted(30, 20, 260)
    films = ActivityBins(r.items, r.users, 20, 30)
    by_user = arrange(r.users, r.items, r.values, 30, 20, longest=3, most=64)
    assert any(c.owner is not None for c in by_user.chunks)
    want = torch.zeros(30, len(films.sizes))
    for u, i in zip(r.users.tolist(), r.items.tolist()): want[u, films.bins[i]] += 1
    assert torch.equal(ratings_by_bin(by_user, films), want)

def test_shared_covariances_are_the_mean_of_the_rows_own():
    r = planted(40, 30, 500)
    by_count = ActivityBins(r.users, r.items, 40, 30, most=40)
    table, P = lookup_table(torch.randn(30, 3, generator=torch.Generator().manual_seed(0))), torch.eye(3)
    added = covariance_in_gram(.1*torch.eye(3)[None])
    got = by_count.covariances(table, P, .5, lambda at: added.expand(len(at), -1, -1))
    for b in range(len(by_count.sizes)):
        own = []
        for u in ((by_count.bins == b) & by_count.rated).nonzero()[:, 0]:
            films = r.items[r.users == u].long()
            X = torch.cat([table.factors[films], table.one[films][:, None]], 1)
            own.append(.5*torch.linalg.inv(X.T @ X + torch.diag(torch.tensor([.1, .1, 0.])) + P))
        if own: torch.testing.assert_close(got[b], torch.stack(own).mean(0), atol=1e-4, rtol=1e-4)

# a sweep

def test_a_sweep_is_what_the_equations_say():
    "Against loops over single ratings, in double precision."
    r = planted(80, 45, 700)
    model = MatrixFactorization(r, k=2, init_std=.5)
    solver = VariationalSolver(model, r, features=who_rated_what(r, 1))
    known = {n: solver.known[n].table for n in SIDES}
    assert all(known[n].shape[1] == 2 for n in SIDES), 'a 1 and a feature, so that prior means differ'
    for n in SIDES: solver.covariances[n] = torch.eye(3)*torch.rand(len(solver.bins[n].sizes), 1, 1)*.3
    solver.noise_variance = .4
    R = {n: model.rows(n).double() for n in SIDES}
    C, variance = {n: solver.covariances[n].double() for n in R}, .4
    codes, bins = dict(user=r.users.long(), item=r.items.long()), {n: solver.bins[n].bins for n in R}
    for name, other in (('item', 'user'), ('user', 'item')):
        error = solver.update_side(name)
        rated = solver.bins[name].rated
        all_of = sum(C[name][b] for b in bins[name][rated])
        weights, precision = (t.double() for t in mean_prior(R[name][rated].float(), solver.rating_unit, known[name][rated], all_of))
        means, new = known[name].double() @ weights, R[name].clone()
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
        torch.testing.assert_close(model.rows(name).double(), new, atol=2e-4, rtol=2e-4)
        R[name] = new
        C[name], variance = solver.covariances[name].double(), solver.noise_variance
    squared = sum(((r.values[at] - model.mu).double() - x - y - (p*q).sum())**2 for at, (p, x, q, y) in enumerate(
        (R['user'][u, :-1], R['user'][u, -1], R['item'][i, :-1], R['item'][i, -1]) for u, i in zip(*codes.values())))
    assert squared/len(r) < error < squared/len(r) + .5 and solver.noise_variance > error, 'what is unsure is added to it'

def test_rows_go_on_by_part_of_their_last_step(split, monkeypatch):
    model, found, seen = MatrixFactorization(split.train, k=2), dict(item=[], user=[]), dict(item=[], user=[])
    solver = VariationalSolver(model, split.train, cg_steps=3, start=0)
    real = VariationalSolver.update_side
    def update_side(self, name):
        if name == 'user':
            for n in seen: seen[n].append(model.rows(n))
        error = real(self, name)
        found[name].append(model.rows(name))
        return error
    monkeypatch.setattr(VariationalSolver, 'update_side', update_side)
    at_first = model.rows('user')
    for _ in range(6): solver.sweep()
    found['user'].insert(0, at_first)                                         # the users move before they are solved
    for name in seen:
        torch.testing.assert_close(seen[name][0], found[name][0])             # the first time not at all
        for n, more in ((1, 1/2), (2, 2/3), (3, 3/4), (5, .8)):
            torch.testing.assert_close(seen[name][n], found[name][n] + more*(found[name][n] - found[name][n-1]))
    assert not torch.equal(found['item'][1], found['item'][0]) and torch.equal(model.rows('item'), seen['item'][-1])

# the fit

def test_it_finds_planted_factors_without_a_draw(split):
    models, als = [MatrixFactorization(split.train, k=4) for _ in range(2)], MatrixFactorization(split.train, k=4)
    histories = [fit_variational(m, split.train, valid, patience=99) for m, valid in zip(models, (None, split.valid))]
    fit_als(als, split.train, reg=1., bias_reg=.5)
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
        fit_variational(model, train, sweeps=25, cg_steps=steps)
        errors.append(rmse(model.predict(valid), valid)/scale)
    assert errors[1:] == pytest.approx([errors[0]]*2, rel=.03)

def test_the_best_sweep_on_validation_stays(split):
    model = MatrixFactorization(split.train, k=4)
    h = fit_variational(model, split.train, split.valid, patience=2, sweeps=60)
    assert h.best_sweep == h.frame().valid.idxmin() and rmse(model.predict(split.valid), split.valid) == pytest.approx(h.best['valid'], abs=1e-6)
    assert len(h.rows) == min(60, h.best_sweep + 2)

def test_without_patience_all_sweeps_run_and_the_last_stays(split):
    model = MatrixFactorization(split.train, k=4)
    h = fit_variational(model, split.train, split.valid, patience=None, sweeps=30)
    assert len(h.rows) == h.best_sweep == 30
    assert rmse(model.predict(split.valid), split.valid) == pytest.approx(h.rows[-1]['valid'], abs=1e-6)

def test_two_threads_give_the_same_model(split):
    models = [MatrixFactorization(split.train, k=3) for _ in range(2)]
    for threads, model in zip((1, 2), models):
        torch.set_num_threads(threads)
        fit_variational(model, split.train, sweeps=6)
    torch.testing.assert_close(models[0].rows('user'), models[1].rows('user'))

# the prior that is left

def test_every_sweep_leaves_its_own_prior(split):
    model = MatrixFactorization(split.train, k=3)
    solver = VariationalSolver(model, split.train, start=2)
    of_factors = ALS_START['reg']*rating_unit(split.train)
    want = torch.tensor([of_factors]*3 + [ALS_START['bias_reg']]).diag()
    for _ in range(2):
        solver.sweep()
        for side in SIDES:
            prior = model.prior(side)
            assert prior.per_rating and torch.equal(prior.precision, want) and not prior.mean.any()
    solver.sweep()
    for side in SIDES:
        prior = model.prior(side)
        assert not prior.per_rating and prior.mean.any() and not torch.equal(prior.precision, want)

@pytest.mark.parametrize('start, sweeps', [(2, 1), (3, 3)])
def test_if_an_als_sweep_is_the_best_its_prior_stays_and_folds_its_own_users_in(split, start, sweeps):
    model, als = MatrixFactorization(split.train, k=3), MatrixFactorization(split.train, k=3)
    fit_variational(model, split.train, split.valid, sweeps=sweeps, start=start)
    solver = ALSSolver(als, split.train, **ALS_START)
    for _ in range(sweeps): solver.sweep()
    assert_same(model, als.state_dict())
    mine = split.train.users == 3
    row = model.fold_in(split.train.items[mine], split.train.values[mine])
    torch.testing.assert_close(row.factors, model.user_factors[3].detach(), atol=1e-3, rtol=1e-3)

def test_if_an_als_sweep_is_better_than_all_later_ones_its_prior_is_restored(split, monkeypatch):
    real = VariationalSolver.update_side
    def spoiled(self, side):
        error = real(self, side)
        self.model.put_rows(side, 9*self.model.rows(side))
        return error
    monkeypatch.setattr(VariationalSolver, 'update_side', spoiled)
    model = MatrixFactorization(split.train, k=3)
    h = fit_variational(model, split.train, split.valid, sweeps=6)
    assert len(h.rows) > 2 >= h.best_sweep
    for side in SIDES:
        prior = model.prior(side)
        assert prior.per_rating and not prior.mean.any() and prior.precision[0, 0] == pytest.approx(.03*rating_unit(split.train))
    mine = split.train.users == 3
    row = model.fold_in(split.train.items[mine], split.train.values[mine])
    torch.testing.assert_close(row.factors, model.user_factors[3].detach(), atol=1e-3, rtol=1e-3)

# a start on a part of the users

def a_start(model, share=1/4, noise_variance=.3, kinds=4):
    "Covariances that tell their bins apart: I, 2 I, 3 I, ..."
    return PartialStart(noise_variance, torch.eye(model.k + 1)*torch.arange(1., kinds + 1)[:, None, None], share)

def test_a_partial_start_is_taken_over_and_then_the_users_are_solved(split, monkeypatch):
    model, seen = MatrixFactorization(split.train, k=4), []
    solver = VariationalSolver(model, split.train, start=0)
    for p in (model.item_factors, model.user_bias): p.data += 1               # since the solver was made
    monkeypatch.setattr(VariationalSolver, 'update_side', lambda self, side: seen.append(
        (side, self.covariances['item'].clone(), self.noise_variance, self.sweeps)))
    solver.begin(a_start(model))
    (side, covariances, variance, sweeps), = seen
    assert (side, variance, sweeps) == ('user', .3, 1)
    assert [int(c[0, 0]) for c in covariances] == [min(max(1, kind - 1), 4) for kind in range(len(covariances))]
    for n in SIDES: assert torch.equal(solver.rows_before[n], model.rows(n))

def test_a_run_begins_from_a_partial_start_once(split, tmp_path, monkeypatch):
    calls, how, real = [], dict(sweeps=2, checkpoint=tmp_path/'c.pt', cg_steps=3), VariationalSolver.begin
    def begin(self, start):
        calls.append((self.model, start, self.cg_steps, self.sweeps))
        self.model.item_factors.data.zero_()                                  # from here no factor comes alive again
        self.model.user_factors.data.zero_()
        real(self, start)
    monkeypatch.setattr(VariationalSolver, 'begin', begin)
    model = MatrixFactorization(split.train, k=2)
    start = PartialStart(.3, torch.zeros(1, 3, 3), 1.)
    fit_variational(model, split.train, start=start, **how)
    assert calls == [(model, start, 3, 0)] and not model.user_factors.any() and model.user_bias.any()
    fit_variational(MatrixFactorization(split.train, k=2), split.train, start=start, **how)
    assert len(calls) == 1, 'a run that goes on has begun already'

def test_a_run_with_another_start_is_refused(split, tmp_path):
    model = MatrixFactorization(split.train, k=2)
    how = dict(sweeps=2, checkpoint=tmp_path/'c.pt')
    start = a_start(model)
    fit_variational(model, split.train, start=start, **how)
    same = PartialStart(np.float64(.3), start.covariances.clone(), np.float32(.25))
    assert len(fit_variational(model, split.train, start=same, **how).rows) == 2, 'equal values are the same start'
    others = [0, 2, start._replace(noise_variance=.31), start._replace(share=.5), start._replace(covariances=start.covariances + 1e-3),
              start._replace(covariances=start.covariances[:3])]
    for other in others:
        with pytest.raises(ValueError, match='start was'): fit_variational(MatrixFactorization(split.train, k=2), split.train, start=other, **how)

def test_a_start_may_be_any_whole_number_and_another_is_refused(split, tmp_path):
    how = dict(sweeps=4, checkpoint=tmp_path/'c.pt')
    fit_variational(MatrixFactorization(split.train, k=2), split.train, start=2, **how)
    fit_variational(MatrixFactorization(split.train, k=2), split.train, start=np.int64(2), **how)
    with pytest.raises(ValueError, match='start was 2, is 3'): fit_variational(MatrixFactorization(split.train, k=2), split.train, start=3, **how)

def test_a_start_made_with_other_factors_is_refused(split):
    start = a_start(MatrixFactorization(split.train, k=4))
    with pytest.raises(ValueError, match='the start has 4 factors, the model 3'):
        fit_variational(MatrixFactorization(split.train, k=3), split.train, sweeps=1, start=start)

# resuming

@pytest.mark.parametrize('cut', [1, 2, 5])
def test_variational_bayes_that_was_cut_off_goes_on_as_if_nothing_had_happened(split, tmp_path, monkeypatch, cut):
    straight, cut_off, resumed = (MatrixFactorization(split.train, k=3) for _ in range(3))
    how, calls, whole = dict(sweeps=7, checkpoint=tmp_path/'c.pt'), [], VariationalSolver.sweep
    a = fit_variational(straight, split.train, split.valid, sweeps=7)
    def weak(self):
        row = whole(self)
        if len(calls) == cut: raise KeyboardInterrupt                         # before the sweep is recorded
        calls.append(1)
        return row
    monkeypatch.setattr(VariationalSolver, 'sweep', weak)
    with pytest.raises(KeyboardInterrupt): fit_variational(cut_off, split.train, split.valid, **how)
    monkeypatch.undo()
    b = fit_variational(resumed, split.train, split.valid, **how)
    assert_same(straight, resumed.state_dict())
    assert [{**x, 'seconds': 0} for x in a.rows] == [{**x, 'seconds': 0} for x in b.rows]
    with pytest.raises(ValueError, match='start was 2, is 3'): fit_variational(resumed, split.train, split.valid, start=3, **how)

@pytest.mark.parametrize('setting', ['features', 'cg_steps'])
def test_a_run_with_other_settings_is_refused(split, tmp_path, setting):
    other = dict(features=who_rated_what(split.train, 1), cg_steps=4)[setting]
    fit_variational(MatrixFactorization(split.train, k=2), split.train, sweeps=2, checkpoint=tmp_path/'c.pt')
    with pytest.raises(ValueError, match=f'{setting}.* was None, is '):
        fit_variational(MatrixFactorization(split.train, k=2), split.train, sweeps=2, checkpoint=tmp_path/'c.pt', **{setting: other})

def through_a_file(state):
    "A state as a checkpoint gives it back."
    torch.save(state, file := io.BytesIO())
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)

@pytest.mark.parametrize('done', [0, 1, 2, 4])
@pytest.mark.parametrize('partial', [False, True])
def test_a_state_of_the_solver_goes_on_bit_for_bit(split, done, partial):
    models = [MatrixFactorization(split.train, k=3) for _ in range(2)]
    start = a_start(models[0]) if partial else 2
    one = VariationalSolver(models[0], split.train, cg_steps=2, start=start)
    for _ in range(done): one.sweep()
    kept = copied(models[0])
    states = [one.state_dict(), through_a_file(one.state_dict())]
    rows = [one.sweep() for _ in range(3)]                                    # must not reach into the state that was taken
    for state in states:
        models[1].load_state_dict(kept)
        other = VariationalSolver(models[1], split.train, cg_steps=2, start=start)
        other.load_state_dict(state)
        assert [other.sweep() for _ in range(3)] == rows
        assert_same(models[1], models[0].state_dict())

@pytest.mark.parametrize('bad, says', [(dict(sweeps=0), 'sweeps is 0'), (dict(start=-1), 'start is -1'), (dict(start=.5), 'start is 0.5'),
                                       (dict(features=16), 'features are a pair'), (dict(cg_steps=0), 'cg_steps is 0'), (dict(patience=0), 'patience is 0'),
                                       (dict(start=print), 'start is <built-in')])
def test_settings_that_cannot_work_are_refused(split, bad, says):
    with pytest.raises(ValueError, match=says): fit_variational(MatrixFactorization(split.train, k=2), split.train, **bad)

def test_ratings_that_cannot_work_are_refused(split):
    model = MatrixFactorization(split.train, k=2)
    with pytest.raises(ValueError, match='train holds no ratings'): fit_variational(model, split.train.take(slice(0, 0)))
    with pytest.raises(ValueError, match='train has 3 users'): fit_variational(model, planted(n_users=3, n=100))
