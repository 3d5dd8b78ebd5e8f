"Training: gradients, the steps, batches, schedules, the solver, and what bad settings are told."
import io, math, os, shutil
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from mfbook import training
from mfbook.holdout import bias_regularization, rating_counts, rmse, split_random
from mfbook.model import MatrixFactorization
from mfbook.ratings import Ratings, load_sample
from mfbook.training import SGDSolver, adam, batches, bias_regs, closed_form, compiled, constant, cosine, penalized_loss, penalty_of, sgd

def small(n_users=40, n_items=30, n=600, seed=0):
    "Planted ratings: rank one plus noise."
    g = np.random.default_rng(seed)
    cells = g.choice(n_users*n_items, n, replace=False)
    u, i = cells // n_items, cells % n_items
    a, b = g.normal(size=n_users), g.normal(size=n_items)
    stars = np.clip(np.round(2*(3.3 + a[u]*b[i] + .3*g.normal(size=n)))/2, .5, 5)
    return Ratings.from_frame(pd.DataFrame(dict(userId=u, movieId=i, rating=stars)), rating_range=(.5, 5))

@pytest.fixture(scope='module')
def split(): return split_random(small(), seed=0)

def tensors(m): return {n: t.detach().clone() for n, t in m.state_dict().items()}
def same(a, b): return all(torch.equal(a[n], b[n]) for n in a)

def learn(model, train, epochs, **kw):
    "Drive a solver through all its epochs; the rows it gave."
    solver = SGDSolver(model, train, epochs, **kw)
    return [solver.sweep() for _ in range(epochs)]

@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.floats(0, 9), st.tuples(st.floats(0, 9), st.floats(0, 9)), st.booleans(), st.integers(0, 10**6))
def test_gradients_by_autograd_equal_a_plain_loop(b, k, reg, bias_reg, per_rating, seed):
    r = small()
    m = MatrixFactorization(r, k=k, seed=seed, init_std=.5).double()
    rows = torch.randint(0, len(r), (b,), generator=torch.Generator().manual_seed(seed))
    us, its, rs = r.users[rows], r.items[rows], r.values[rows].double()
    bias_reg = dict(user=bias_reg[0], item=bias_reg[1])
    penalty = penalty_of(r, reg, bias_reg, per_rating)
    penalized_loss(m, us, its, rs, type(penalty)(*(t.double() for t in penalty)))[1].backward()
    n_u, n_i = (np.ones(n) if per_rating else np.bincount(codes, minlength=n) for codes, n in ((r.users, r.n_users), (r.items, r.n_items)))
    P, Q, bu, bi = (t.detach().numpy() for t in (m.user_factors, m.item_factors, m.user_bias, m.item_bias))
    gP, gQ, gu, gi = np.zeros_like(P), np.zeros_like(Q), np.zeros_like(bu), np.zeros_like(bi)
    for u, i, v in zip(us.tolist(), its.tolist(), rs.tolist()):
        e = v - (m.mu.item() + bu[u] + bi[i] + P[u] @ Q[i])
        gP[u] += 2*(-e*Q[i] + reg/n_u[u]*P[u])/b
        gQ[i] += 2*(-e*P[u] + reg/n_i[i]*Q[i])/b
        gu[u] += 2*(-e + bias_reg['user']/n_u[u]*bu[u])/b
        gi[i] += 2*(-e + bias_reg['item']/n_i[i]*bi[i])/b
    for grad, by_hand in [(m.user_factors.grad, gP), (m.item_factors.grad, gQ), (m.user_bias.grad, gu), (m.item_bias.grad, gi)]:
        np.testing.assert_allclose(grad.numpy(), by_hand, atol=1e-6)

@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.integers(0, 10**6))
def test_batches_deal_every_rating_once(batch_size, seed):
    r = small()
    dealt = list(batches(r, batch_size, seed))
    assert len(dealt) == math.ceil(len(r)/batch_size) and all(len(b[0]) == batch_size for b in dealt[:-1])
    key = lambda u, i: (u.long()*r.n_items + i.long())
    got = torch.cat([key(u, i) for u, i, _ in dealt])
    assert torch.equal(got.sort().values, key(r.users, r.items).sort().values)
    order = got.argsort()
    assert torch.equal(torch.cat([v for *_, v in dealt])[order], r.values[key(r.users, r.items).argsort()])

def test_batches_depend_on_the_seed_only(split):
    a, b, c = (torch.cat([x[2] for x in batches(split.train, 64, s)]) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)

def test_it_learns_what_was_planted(split):
    m = MatrixFactorization(split.train, k=4)
    before = rmse(m.predict(split.valid), split.valid)
    rows = learn(m, split.train, 60, batch_size=64, reg=.02)
    assert rmse(m.predict(split.valid), split.valid) < .75*before
    assert rows[-1]['train'] < rows[0]['train']

def test_training_improves_on_the_sample_in_two_epochs():
    s = split_random(load_sample(), seed=0)
    m = MatrixFactorization(s.train, k=8)
    start = rmse(m.predict(s.valid), s.valid)
    learn(m, s.train, 2)
    assert rmse(m.predict(s.valid), s.valid) < start - .1

def test_unseen_rows_stay_zero_and_mu_stays_the_mean(split):
    train = split.train.take(split.train.items > 4)
    m = MatrixFactorization(train, k=3)
    learn(m, train, 3)
    assert (m.item_factors[:5] == 0).all() and (m.item_bias[:5] == 0).all() and (m.item_factors[5:] != 0).any()
    assert m.mean == pytest.approx(train.values.mean().item(), abs=1e-6)

@pytest.mark.parametrize('per_rating', [False, True])
def test_the_prior_left_behind_is_the_regularization(split, per_rating):
    "After each epoch, whatever was there before; that of the factors in units of the ratings."
    m = MatrixFactorization(split.train, k=3)
    solver = SGDSolver(m, split.train, reg=.3, bias_reg=.05, per_rating=per_rating)
    of_factors = .3*split.train.values.std(correction=0).item()
    for _ in range(2):
        for side in 'user', 'item': m.set_prior(side, torch.ones(4), torch.ones(4, 4))
        solver.sweep()
        for side in 'user', 'item':
            prior = m.prior(side)
            assert prior.per_rating == per_rating and (prior.mean == 0).all()
            assert torch.allclose(prior.precision, torch.diag(torch.tensor([of_factors]*3 + [.05])))

@pytest.mark.parametrize('update', [adam, sgd, closed_form])
def test_the_same_seed_gives_the_same_model_another_seed_another(split, update):
    def fit(seed):
        m = MatrixFactorization(split.train, k=3)
        learn(m, split.train, 2, seed=seed, update=update, lr=.05)
        return tensors(m)
    assert same(fit(1), fit(1)) and not same(fit(1), fit(2))

# --- the solver ---

@pytest.mark.parametrize('update', [adam, sgd, closed_form])
@pytest.mark.parametrize('schedule', [cosine, constant, lambda done: 1 - done])
def test_a_sweep_is_a_plain_loop_over_batches(split, update, schedule):
    "The batches of seed and epoch, and the learning rate's course over the share of the run that is done: to the last bit."
    n, how = len(split.train), dict(lr=.05, batch_size=64, seed=7)
    a, b = MatrixFactorization(split.train, k=3), MatrixFactorization(split.train, k=3)
    solver = SGDSolver(a, split.train, 4, reg=3., bias_reg=.5, schedule=schedule, update=update, **how)
    assert solver.unit == 'epoch'
    step, penalty = update(b), penalty_of(split.train, 3., .5)
    unit, mean = split.train.values.std(correction=0).item(), b.mean
    for epoch in range(4):
        row, squared = solver.sweep(), 0.
        with torch.no_grad(): b.mu.fill_(0.)             # the ratings are standardized: mean 0, deviation 1
        b.rescale(1/unit)
        for number, (us, its, rs) in enumerate(batches(split.train, 64, 7*100_003 + epoch)):
            lr = .05*schedule((epoch + number*64/n)/4)
            squared += step(us, its, (rs - mean)/unit, lr, penalty)
        b.rescale(unit)
        with torch.no_grad(): b.mu.fill_(mean)
        assert row == dict(lr=lr, train=unit*(squared/n)**.5)
        for name, t in b.named_parameters(): assert torch.equal(t, a.get_parameter(name)), name

def test_three_epochs_of_the_sample_give_the_known_values():
    "Train and validation RMSE, to four digits."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        s = split_random(load_sample(), seed=0)
        m = MatrixFactorization(s.train, k=32)
        solver, rows = SGDSolver(m, s.train), []
        for _ in range(3): rows.append((solver.sweep()['train'], rmse(m.predict(s.valid), s.valid)))
    finally: torch.set_num_threads(threads)
    np.testing.assert_allclose(rows, [(.9807, .9247), (.8958, .8898), (.8552, .8752)], atol=2e-4)

@pytest.mark.parametrize('done', [1, 3])
@pytest.mark.parametrize('update', [adam, sgd, closed_form])
def test_a_run_cut_in_two_is_the_same_to_the_last_bit(split, update, done):
    how = dict(epochs=5, batch_size=64, lr=.05, seed=3, update=update)
    whole, half, rest = (MatrixFactorization(split.train, k=3) for _ in range(3))
    solver = SGDSolver(whole, split.train, **how)
    rows = [solver.sweep() for _ in range(5)]
    solver = SGDSolver(half, split.train, **how)
    for _ in range(done): solver.sweep()
    file = io.BytesIO()
    torch.save(dict(model=half.state_dict(), solver=solver.state_dict()), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    rest.load_state_dict(state['model'])
    solver = SGDSolver(rest, split.train, **how)
    solver.load_state_dict(state['solver'])
    assert [solver.sweep() for _ in range(5 - done)] == rows[done:]
    assert same(tensors(rest), tensors(whole))

def test_two_solvers_of_one_state_do_not_share_it(split):
    a, b, c = (MatrixFactorization(split.train, k=3) for _ in range(3))
    first = SGDSolver(a, split.train)
    first.sweep()
    state = first.state_dict()
    twins = []
    for m in b, c:
        m.load_state_dict(a.state_dict())
        twins.append(SGDSolver(m, split.train))
        twins[-1].load_state_dict(state)
    assert twins[0].sweep() == twins[1].sweep() and same(tensors(b), tensors(c))

def test_beyond_its_epochs_the_learning_rate_stays_at_its_end(split):
    "Half a cosine would rise again."
    m = MatrixFactorization(split.train, k=2)
    solver = SGDSolver(m, split.train, epochs=2)
    rows = [solver.sweep() for _ in range(4)]
    assert rows[0]['lr'] > rows[1]['lr'] > 0 and rows[2]['lr'] == rows[3]['lr'] == 0

def test_another_update_can_be_handed_in(split):
    "An update without autograd, plain SGD in closed form, gives what `sgd` gives."
    class ClosedForm:
        def __init__(self, model): self.m = model
        @torch.no_grad()
        def __call__(self, us, its, rs, lr, penalty):
            m, us, its = self.m, us.long(), its.long()
            p, q, bu, bi = m.user_factors[us], m.item_factors[its], m.user_bias[us], m.item_bias[its]
            e, s = rs - (m.mu + bu + bi + (p*q).sum(1)), 2*lr/len(rs)
            (reg_u, bias_u), (reg_i, bias_i) = penalty.user[us].split(1, 1), penalty.item[its].split(1, 1)
            m.user_factors.index_add_(0, us, s*(e[:, None]*q - reg_u*p))
            m.item_factors.index_add_(0, its, s*(e[:, None]*p - reg_i*q))
            m.user_bias.index_add_(0, us, s*(e - bias_u[:, 0]*bu))
            m.item_bias.index_add_(0, its, s*(e - bias_i[:, 0]*bi))
            return e.square().sum().item()
    a, b = MatrixFactorization(split.train, k=4), MatrixFactorization(split.train, k=4)
    how = dict(lr=.5, bias_reg=3.)     # estimated it would be 1000 here, too strong for steps as long as these
    rows_a = learn(a, split.train, 5, update=ClosedForm, **how)
    rows_b = learn(b, split.train, 5, update=sgd, **how)
    for n, t in tensors(a).items(): torch.testing.assert_close(t, tensors(b)[n], atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose([r['train'] for r in rows_a], [r['train'] for r in rows_b], atol=1e-5)

def test_cosine_falls_from_one_to_zero():
    v = [cosine(x/100) for x in range(101)]
    assert v[0] == 1 and v[-1] == pytest.approx(0) and all(a > b for a, b in zip(v, v[1:])) and constant(.7) == 1

def test_ratings_that_are_not_contiguous(split):
    "Every second rating is a view with gaps in memory."
    some = split.train.take(slice(0, None, 2))
    assert not some.values.is_contiguous()
    a, b = (MatrixFactorization(some, k=2) for _ in range(2))
    learn(a, some, 1)
    learn(b, split.train.take(torch.arange(0, len(split.train), 2)), 1)
    assert same(tensors(a), tensors(b))

# --- the step by hand ---

CXX = any(shutil.which(c) for c in (os.environ.get('CXX') or 'g++', 'c++', 'clang++'))
UPDATES = [closed_form, pytest.param(compiled, marks=pytest.mark.skipif(not CXX, reason='no C++ compiler'))]

@pytest.mark.parametrize('update', UPDATES)
def test_an_epoch_by_hand_is_autograds(one_thread, update):
    "Every tensor to 1e-5, the last batch shorter, rows many times in a batch, regularization and a rate that show; the mean does not move."
    train = small(300, 200, 20_000)
    models = [MatrixFactorization(train, k=8, init_std=.3) for _ in range(2)]
    start = [t.detach().clone() for t in models[0].parameters()]
    how = dict(lr=4., reg=9., bias_reg=3., batch_size=1500)
    a, b = (learn(m, train, 1, update=u, **how) for m, u in zip(models, (sgd, update)))
    assert len(train) % 1500 and a[0]['train'] == pytest.approx(b[0]['train'], abs=1e-5)
    for (name, x), y, before in zip(models[0].named_parameters(), models[1].parameters(), start):
        assert (x - y).abs().max() < 1e-5, name
        assert ((x - before).abs().max() > .05) == (name != 'mu'), f'{name}: a step that shows'

def test_a_step_by_hand_leaves_other_rows_alone_and_no_gradient(split, one_thread):
    model = MatrixFactorization(split.train, k=4)
    before, batch = model.user_factors.detach().clone(), next(batches(split.train.take(slice(100)), 16, 0))
    squared = closed_form(model)(*batch, 1., penalty_of(split.train, 9., 3.))
    moved = (model.user_factors != before).any(1).nonzero()[:, 0]
    assert set(moved.tolist()) <= set(batch[0].tolist()) and len(moved) and model.user_factors.grad is None
    assert isinstance(squared, float) and squared > 0

def test_training_by_hand_learns(split, one_thread):
    rows = learn(MatrixFactorization(split.train, k=8), split.train, 6, lr=4., bias_reg=3., batch_size=64, update=closed_form)
    assert rows[-1]['train'] < rows[0]['train'] - .03

def test_without_a_compiler_it_says_so_and_goes_on(split, monkeypatch):
    monkeypatch.setenv('PATH', '')
    monkeypatch.delenv('CXX', raising=False)
    model = MatrixFactorization(split.train, k=4)
    with pytest.warns(UserWarning, match=r'no C\+\+ compiler is here'): step = compiled(model)
    assert step.step_by_hand is training._step_by_hand and step(*next(batches(split.train, 64, 0)), 1., penalty_of(split.train, 0., 0.)) > 0

# --- the regularization of the biases ---

@pytest.mark.parametrize('per_rating', [False, True])
def test_left_out_it_is_estimated_and_weighs_as_much_for_an_average_row(split, per_rating):
    told = bias_regularization(split.train)
    regs = bias_regs(split.train, None, per_rating)
    counts = dict(zip(('user', 'item'), rating_counts(split.train)))
    for side, count in counts.items():
        average = count[count > 0].double().mean().item()
        assert regs[side]*(average if per_rating else 1) == pytest.approx(told[side])
    a, b = (MatrixFactorization(split.train, k=2) for _ in range(2))
    learn(a, split.train, 1, per_rating=per_rating)
    learn(b, split.train, 1, per_rating=per_rating, bias_reg=regs)
    assert same(tensors(a), tensors(b))

def test_a_default_of_float64_changes_nothing(split):
    models = [MatrixFactorization(split.train, k=2) for _ in range(2)]
    learn(models[0], split.train, 2)
    torch.set_default_dtype(torch.float64)
    try: learn(models[1], split.train, 2)
    finally: torch.set_default_dtype(torch.float32)
    assert same(*map(tensors, models))

# --- bad input ---

@pytest.mark.parametrize('bad, says', [(dict(lr=0), 'lr is 0'), (dict(lr=math.nan), 'lr is nan'), (dict(epochs=0), 'epochs is 0'),
    (dict(epochs=1.5), 'epochs is 1.5'), (dict(batch_size=0), 'batch_size is 0'), (dict(batch_size=2.5), 'batch_size is 2.5'),
    (dict(reg=-1), 'negative'), (dict(bias_reg=math.nan), 'negative'), (dict(reg=math.inf), 'infinite'), (dict(bias_reg=dict(user=1., item=-1.)), 'negative')])
def test_bad_settings_are_named(split, bad, says):
    with pytest.raises(ValueError, match=says): SGDSolver(MatrixFactorization(split.train, k=2), split.train, **bad)

def test_bad_ratings_are_named(split):
    m = MatrixFactorization(split.train, k=2)
    with pytest.raises(ValueError, match='train holds no ratings'): SGDSolver(m, split.train.take(slice(0, 0)))
    with pytest.raises(ValueError, match='train has .* users'): SGDSolver(m, small(n_users=20, n=300))

def test_steps_that_are_too_long_stop_with_advice(split):
    with pytest.raises(FloatingPointError, match=r'epoch \d+, batch \d+.*it was 1000000'):
        learn(MatrixFactorization(split.train, k=2, init_std=1.), split.train, 20, update=sgd, lr=1e6)
