"Training: gradients, the step, early stopping, resuming after SIGKILL, and what bad settings are told."
import math, os, signal, subprocess, sys, time
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from mfbook.holdout import rmse, split_random, union
from mfbook.model import MatrixFactorization
from mfbook.ratings import Ratings, load_ratings
from mfbook.training import adam, batches, constant, cosine, fit_sgd, penalised_loss, sgd, tune_sgd

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

@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.floats(0, 1), st.floats(0, 1), st.integers(0, 10**6))
def test_slopes_by_autograd_equal_a_plain_loop(b, k, decay, bias_decay, seed):
    r = small()
    m = MatrixFactorization(r, k=k, seed=seed, init_std=.5).double()
    rows = torch.randint(0, len(r), (b,), generator=torch.Generator().manual_seed(seed))
    us, its, rs = r.users[rows], r.items[rows], r.values[rows].double()
    penalised_loss(m, us, its, rs, decay, bias_decay)[1].backward()
    P, Q, bu, bi = (t.detach().numpy() for t in (m.user_factors, m.item_factors, m.user_bias, m.item_bias))
    gP, gQ, gu, gi = np.zeros_like(P), np.zeros_like(Q), np.zeros_like(bu), np.zeros_like(bi)
    for u, i, v in zip(us.tolist(), its.tolist(), rs.tolist()):
        e = v - (m.mu.item() + bu[u] + bi[i] + P[u] @ Q[i])
        gP[u] += 2*(-e*Q[i] + decay*P[u])/b; gQ[i] += 2*(-e*P[u] + decay*Q[i])/b
        gu[u] += 2*(-e + bias_decay*bu[u])/b; gi[i] += 2*(-e + bias_decay*bi[i])/b
    for grad, by_hand in [(m.user_factors.grad, gP), (m.item_factors.grad, gQ), (m.user_bias.grad, gu), (m.item_bias.grad, gi)]:
        np.testing.assert_allclose(grad.numpy(), by_hand, atol=1e-9)

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
    h = fit_sgd(m, split.train, split.valid, epochs=60, batch_size=64, decay=.02, patience=60)
    assert rmse(m.predict(split.valid), split.valid) < .75*before
    assert h.frame().train.iloc[-1] < h.frame().train.iloc[0]

def test_the_best_epochs_weights_are_restored(split):
    m = MatrixFactorization(split.train, k=8, init_std=.5)
    h = fit_sgd(m, split.train, split.valid, epochs=40, batch_size=64, lr=.03, decay=0, bias_decay=0, schedule=constant, patience=40)
    v = h.frame().valid
    assert h.best_epoch == v.idxmin() < len(v), 'this run must overfit, or the test shows nothing'
    assert rmse(m.predict(split.valid), split.valid) == pytest.approx(v.min(), abs=1e-6)
    assert rmse(m.predict(split.valid), split.valid) < v.iloc[-1]

def test_patience_stops_it(split):
    h = fit_sgd(MatrixFactorization(split.train, k=8, init_std=.5), split.train, split.valid, epochs=40, batch_size=64, lr=.03, decay=0,
                bias_decay=0, schedule=constant, patience=3)
    assert len(h.rows) == h.best_epoch + 3 < 40

def test_without_validation_all_epochs_run_and_the_last_weights_stay(split):
    m = MatrixFactorization(split.train, k=2)
    h = fit_sgd(m, split.train, epochs=7)
    assert len(h.rows) == h.best_epoch == 7 and h.frame().valid.isna().all()

def test_unseen_rows_stay_zero_and_mu_stays_the_mean(split):
    train = split.train.take(split.train.items > 4)
    m = MatrixFactorization(train, k=3)
    fit_sgd(m, train, epochs=3)
    assert (m.item_factors[:5] == 0).all() and (m.item_bias[:5] == 0).all() and (m.item_factors[5:] != 0).any()
    assert m.mu.item() == pytest.approx(train.values.mean().item(), abs=1e-6)

def test_the_prior_left_behind_is_the_price_per_rating(split):
    m = MatrixFactorization(split.train, k=3)
    fit_sgd(m, split.train, epochs=1, decay=.3, bias_decay=.05)
    assert m.prior_per_rating and torch.allclose(m.user_prior_precision, torch.diag(torch.tensor([.3, .3, .3, .05])))
    assert torch.equal(m.user_prior_precision, m.item_prior_precision) and (m.user_prior_mean == 0).all()

@pytest.mark.parametrize('update', [adam, sgd])
def test_the_same_seed_gives_the_same_model_another_seed_another(split, update):
    def fit(seed):
        m = MatrixFactorization(split.train, k=3)
        fit_sgd(m, split.train, epochs=2, seed=seed, update=update, lr=.05)
        return tensors(m)
    assert same(fit(1), fit(1)) and not same(fit(1), fit(2))

def test_another_update_can_be_handed_in(split):
    "An update without autograd, plain SGD in closed form, gives what `sgd` gives."
    class ClosedForm:
        def __init__(self, model): self.m = model
        @torch.no_grad()
        def __call__(self, us, its, rs, lr, decay, bias_decay):
            m, us, its = self.m, us.long(), its.long()
            p, q, bu, bi = m.user_factors[us], m.item_factors[its], m.user_bias[us], m.item_bias[its]
            e, s = rs - (m.mu + bu + bi + (p*q).sum(1)), 2*lr/len(rs)
            m.user_factors.index_add_(0, us, s*(e[:, None]*q - decay*p)); m.item_factors.index_add_(0, its, s*(e[:, None]*p - decay*q))
            m.user_bias.index_add_(0, us, s*(e - bias_decay*bu)); m.item_bias.index_add_(0, its, s*(e - bias_decay*bi))
            return e.square().sum().item()
    a, b = MatrixFactorization(split.train, k=4), MatrixFactorization(split.train, k=4)
    ha = fit_sgd(a, split.train, epochs=5, update=ClosedForm, lr=.5)
    hb = fit_sgd(b, split.train, epochs=5, update=sgd, lr=.5)
    for n, t in tensors(a).items(): torch.testing.assert_close(t, tensors(b)[n], atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(ha.frame().train, hb.frame().train, atol=1e-5)

def test_cosine_falls_from_one_to_zero():
    v = [cosine(x/100) for x in range(101)]
    assert v[0] == 1 and v[-1] == pytest.approx(0) and all(a > b for a, b in zip(v, v[1:])) and constant(.7) == 1

def test_tune_ranks_by_validation_and_never_asks_for_test(split):
    f = tune_sgd(split.train, split.valid, [dict(k=2, decay=50.), dict(k=2, decay=.02), dict(k=4, lr=.02)], epochs=10, batch_size=64)
    assert f.valid.is_monotonic_increasing and len(f) == 3 and f.decay.iloc[-1] == 50.

def test_training_improves_on_the_sample_in_two_epochs():
    s = split_random(load_ratings(), seed=0)
    m = MatrixFactorization(s.train, k=8)
    start = rmse(m.predict(s.valid), s.valid)
    fit_sgd(m, s.train, s.valid, epochs=2)
    assert rmse(m.predict(s.valid), s.valid) < start - .1

# --- interruption ---

KILLED = '''
import sys, time, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[2])
from test_training import small, split_random, MatrixFactorization, fit_sgd
from mfbook.training import OptimizerStep
class Slow(OptimizerStep):
    def __call__(self, *a):
        time.sleep(.002)
        return super().__call__(*a)
def adam(model): return Slow(model, lambda ps: torch.optim.Adam(ps, lr=1., eps=1e-4, fused=True))
s = split_random(small(), seed=0)
print('started', flush=True)
fit_sgd(MatrixFactorization(s.train, k=4), s.train, s.valid, epochs=30, batch_size=16, patience=30, update=adam, checkpoint=sys.argv[1])
'''

@pytest.mark.parametrize('pause', [0., .05, .13] if not os.environ.get('MFBOOK_FULL') else [n/50 for n in range(50)])
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, pause):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        checkpoint = tmp_path/'run.pt'
        p = subprocess.Popen([sys.executable, '-c', KILLED, str(checkpoint), os.path.dirname(__file__)], stdout=subprocess.PIPE)
        p.stdout.readline()
        deadline = time.time() + 60
        while not checkpoint.exists() and time.time() < deadline and p.poll() is None: time.sleep(.005)
        time.sleep(pause)
        assert p.poll() is None, 'the run ended before it was killed'
        p.send_signal(signal.SIGKILL); p.wait()
        done = len(torch.load(checkpoint, weights_only=True)['rows'])
        assert 0 < done < 30
        s = split_random(small(), seed=0)
        kw = dict(epochs=30, batch_size=16, patience=30)
        a, b = MatrixFactorization(s.train, k=4), MatrixFactorization(s.train, k=4)
        hb = fit_sgd(b, s.train, s.valid, **kw)
        ha = fit_sgd(a, s.train, s.valid, checkpoint=checkpoint, **kw)
        assert same(tensors(a), tensors(b)) and ha.best_epoch == hb.best_epoch
        assert ha.frame().drop(columns='seconds').equals(hb.frame().drop(columns='seconds'))
    finally: torch.set_num_threads(threads)

def test_a_finished_run_is_not_run_again(split, tmp_path):
    a, b = MatrixFactorization(split.train, k=2), MatrixFactorization(split.train, k=2)
    def never(model):
        step = adam(model)
        class Never:
            def __call__(self, *args): raise AssertionError('a step was taken')
            load_state_dict = step.load_state_dict
        return Never()
    never.__name__ = 'adam'
    fit_sgd(a, split.train, epochs=3, checkpoint=tmp_path/'c')
    fit_sgd(b, split.train, epochs=3, checkpoint=tmp_path/'c', update=never)
    assert same(tensors(a), tensors(b))

def test_a_checkpoint_of_another_run_is_refused(split, tmp_path):
    c = tmp_path/'c.pt'
    fit_sgd(MatrixFactorization(split.train, k=2), split.train, epochs=2, checkpoint=c)
    for other, says in [(dict(lr=.5), 'lr was 0.01, is 0.5'), (dict(epochs=9), 'epochs'), (dict(update=sgd), 'update was adam, is sgd')]:
        with pytest.raises(ValueError, match=says): fit_sgd(MatrixFactorization(split.train, k=2), split.train, **dict(epochs=2) | other, checkpoint=c)
    with pytest.raises(ValueError, match='train was'): fit_sgd(MatrixFactorization(split.train, k=2), split.valid, epochs=2, checkpoint=c)
    with pytest.raises(ValueError, match='k was 2, is 3'): fit_sgd(MatrixFactorization(split.train, k=3), split.train, epochs=2, checkpoint=c)

def test_a_damaged_checkpoint_is_refused_and_named(split, tmp_path):
    c = tmp_path/'c.pt'
    fit_sgd(MatrixFactorization(split.train, k=2), split.train, epochs=2, checkpoint=c)
    whole = c.read_bytes()
    for cut in (0, 10, len(whole)//2, len(whole)-1):
        c.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match='c.pt is damaged.*Delete it'): fit_sgd(MatrixFactorization(split.train, k=2), split.train, epochs=2, checkpoint=c)
    torch.save({'a': 1}, c)
    with pytest.raises(ValueError, match='no checkpoint of fit_sgd'): fit_sgd(MatrixFactorization(split.train, k=2), split.train, epochs=2, checkpoint=c)

def test_a_full_disk_leaves_the_last_whole_checkpoint(split, tmp_path, monkeypatch):
    c = tmp_path/'c.pt'
    real, calls = os.replace, []
    def full(a, b):
        calls.append(a)
        if len(calls) == 3: raise OSError(28, 'No space left on device')
        return real(a, b)
    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(OSError, match='No space'): fit_sgd(MatrixFactorization(split.train, k=2), split.train, epochs=5, checkpoint=c)
    monkeypatch.undo()
    assert len(torch.load(c, weights_only=True)['rows']) == 2 and [p.name for p in tmp_path.iterdir()] == ['c.pt']
    a, b = MatrixFactorization(split.train, k=2), MatrixFactorization(split.train, k=2)
    fit_sgd(a, split.train, epochs=5, checkpoint=c); fit_sgd(b, split.train, epochs=5)
    assert same(tensors(a), tensors(b))

# --- bad input ---

@pytest.mark.parametrize('bad, says', [(dict(lr=0), 'lr is 0'), (dict(lr=math.nan), 'lr is nan'), (dict(epochs=0), 'epochs is 0'),
    (dict(epochs=1.5), 'epochs is 1.5'), (dict(batch_size=0), 'batch_size is 0'), (dict(patience=0), 'patience is 0'),
    (dict(decay=-1), 'negative'), (dict(bias_decay=math.nan), 'negative')])
def test_bad_settings_are_named(split, bad, says):
    with pytest.raises(ValueError, match=says): fit_sgd(MatrixFactorization(split.train, k=2), split.train, **bad)

def test_bad_ratings_are_named(split):
    m = MatrixFactorization(split.train, k=2)
    with pytest.raises(ValueError, match='train holds no ratings'): fit_sgd(m, split.train.take(slice(0, 0)))
    with pytest.raises(ValueError, match='valid holds no ratings'): fit_sgd(m, split.train, split.train.take(slice(0, 0)))
    with pytest.raises(ValueError, match='valid has .* users'): fit_sgd(m, split.train, small(n_users=20, n=300))

def test_steps_that_are_too_long_stop_with_advice(split):
    with pytest.raises(FloatingPointError, match=r'epoch \d+, batch \d+.*it was 1000000'):
        fit_sgd(MatrixFactorization(split.train, k=2, init_std=1.), split.train, update=sgd, lr=1e6)

def test_progress_is_quiet_under_ci_and_shown_when_asked(split, capsys, monkeypatch):
    monkeypatch.setenv('CI', 'true')
    fit_sgd(MatrixFactorization(split.train, k=2), split.train, epochs=2)
    assert capsys.readouterr().err == ''
    fit_sgd(MatrixFactorization(split.train, k=2), split.train, split.valid, epochs=2, progress=True)
    err = capsys.readouterr().err
    assert '2/2' in err and 'valid=' in err and 'train=' in err

def test_ratings_that_are_not_contiguous(split):
    "Every second rating is a view with gaps in memory."
    some = split.train.take(slice(0, None, 2))
    assert not some.values.is_contiguous()
    a, b = (MatrixFactorization(some, k=2) for _ in range(2))
    fit_sgd(a, some, epochs=1)
    fit_sgd(b, split.train.take(torch.arange(0, len(split.train), 2)), epochs=1)
    assert same(tensors(a), tensors(b))
