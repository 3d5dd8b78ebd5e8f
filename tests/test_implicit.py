"""Clicks: events of tables and of stars, metrics against plain loops, implicit ALS against dense least squares, BPR against
autograd, EASE against constrained regressions, resuming, and what bad input is told."""
from collections import Counter
from dataclasses import replace
from functools import partial
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
import mfbook.implicit
from mfbook.als import arrange
from mfbook.holdout import split_random
from mfbook.implicit import (BPRSolver, ImplicitALSSolver, bpr_step, ease, ease_scores, event_matrix, events_from_frame,
    events_from_ratings, fit_bpr, fit_implicit_als, fold_in_events, inverse_gram, list_quality, popular, scores_of_rows,
    shared_gram, split_users, watch_ndcg, watch_new_users)
from mfbook.model import MatrixFactorization
from mfbook.ratings import Ratings, load_sample
from mfbook.recommending import recommend
from mfbook.runs import History, tune

pytestmark = pytest.mark.usefixtures('one_thread')

def small(n_users=40, n_items=30, n=400, seed=0, counts=False):
    "Events of two tastes. User 39 has none, nor item 29; user 0 has only item 0."
    g = np.random.default_rng(seed)
    chance = np.where((np.arange(n_users)[:, None] + np.arange(n_items)) % 2, 4., 1.)
    chance[0], chance[-1], chance[:, -1] = 0, 0, 0
    chance[0, 0] = 1
    cells = g.choice(chance.size, n, replace=False, p=chance.ravel()/chance.sum())
    cells = np.unique(np.r_[0, cells])
    users, items = cells // n_items, cells % n_items
    value = g.integers(1, 5, len(cells)) if counts else np.ones(len(cells))
    all_users, all_items = np.arange(n_users), np.arange(n_items - 1)       # so that each keeps its code
    frame = pd.DataFrame(dict(userId=np.r_[users, all_users, np.full(n_items - 1, n_users - 1)],
                              movieId=np.r_[items, np.full(n_users, n_items - 1), all_items], rating=1.))
    frame.loc[:len(cells) - 1, 'rating'] = value
    return Ratings.from_frame(frame, rating_range=(0, max(1, value.max()))).take(slice(0, len(cells)))

@pytest.fixture(scope='module')
def events(): return small()

@pytest.fixture(scope='module')
def split(events): return split_random(events, valid=.15, test=.15)

def fitted(train, k=4, **own):
    model = MatrixFactorization(train, k=k)
    return model, fit_implicit_als(model, train, progress=False, **own)

# ---- events

def test_stars_become_events_from_a_threshold_on():
    stars = Ratings.from_frame(pd.DataFrame(dict(userId=[1, 1, 2, 3], movieId=[7, 8, 7, 9], rating=[3.5, 4., 5., 1.])))
    events = events_from_ratings(stars, 4)
    assert events.values.tolist() == [1, 1] and events.rating_range == (0, 1) and events.items.tolist() == [1, 0]
    assert (events.n_users, events.n_items) == (3, 3) and len(events_from_ratings(stars)) == 4
    with pytest.raises(ValueError, match='no rating reaches 6'): events_from_ratings(stars, 6)

@pytest.mark.parametrize('rows', [3, 60])
def test_clicks_are_added_up_and_keep_the_last_time(rows):
    g = np.random.default_rng(rows)
    clicks = pd.DataFrame(dict(who=g.integers(0, 5, rows), what=g.choice(['a', 'b', 'c'], rows), when=g.integers(0, 99, rows), times=g.integers(1, 4, rows)))
    for count in (None, 'times'):
        events = events_from_frame(clicks, 'who', 'what', count, 'when')
        total, last = Counter(), {}
        for row in clicks.itertuples():
            total[row.who, row.what] += 1 if count is None else row.times
            last[row.who, row.what] = max(row.when, last.get((row.who, row.what), 0))
        found = events.to_frame()
        assert {(u, i): v for u, i, v, _ in found.itertuples(index=False)} == total
        assert {(u, i): t for u, i, _, t in found.itertuples(index=False)} == last
        assert events.rating_range == (0, max(total.values()))

@pytest.mark.parametrize('table, says', [
    (dict(u=[1, 2], i=[1, 2], n=[1, 0]), 'row 1 .*0. A click that happened counts more than 0'), (dict(u=[1], i=[1], n=['x']), 'is not a number'),
    (dict(u=[1, None], i=[1, 2], n=[1, 1]), 'an id is missing'), (dict(u=[1], n=[1]), "no column 'i'")])
def test_what_is_no_table_of_clicks_is_refused(table, says):
    with pytest.raises(ValueError, match=says): events_from_frame(pd.DataFrame(table), 'u', 'i', 'n')

def test_a_list_of_pairs_is_enough():
    events = events_from_frame([('ann', 'x'), ('bob', 'y'), ('ann', 'x')], user=0, item=1)
    assert len(events) == 2 and sorted(events.values.tolist()) == [1, 2]

# ---- splits

@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 99), st.sampled_from([.5, .8, .9]), st.sampled_from([0, .1, .3]))
def test_whole_users_are_held_out(seed, share, valid):
    events = small(seed=3)
    split = split_users(events, valid, .2, share, seed)
    pairs = [set(zip(p.users.tolist(), p.items.tolist())) for p in split]
    assert sum(map(len, pairs)) == len(events) == len(set().union(*pairs))
    users = [set(p.users.tolist()) for p in split]
    assert not users[0] & (users[1] | users[3]) and not users[1] & users[3] and users[1] == users[2] and users[3] == users[4]
    assert 0 not in users[3] | users[1]                     # has one event only
    for kept, left in ((split.valid_given, split.valid), (split.test_given, split.test)):
        for user in left.users.unique():
            n, n_left = int((events.users == user).sum()), int((left.users == user).sum())
            assert 1 <= n_left < n and (n_left == n - min(max(round(n*share), 1), n - 1) or abs(n*share % 1 - .5) < 1e-9)
    assert [p.values.tolist() for p in split_users(events, valid, .2, share, seed)] == [p.values.tolist() for p in split]

@pytest.mark.parametrize('own, says', [(dict(test=0), 'shares between 0 and 1'), (dict(valid=.6, test=.4), 'users to learn from'), (dict(given=1), 'shares'),
                                       (dict(test=.001), 'too few'), (dict(seed=-1), 'seed is -1')])
def test_impossible_splits_are_refused(events, own, says):
    with pytest.raises(ValueError, match=says): split_users(events, **own)

# ---- metrics

def by_loops(scores, given, wanted):
    "The definitions, one user and one place at a time."
    rows = {}
    for u in range(given.n_users):
        seen, right = set(given.items[given.users == u].tolist()), set(wanted.items[wanted.users == u].tolist())
        if not right: continue
        listed = sorted((i for i in range(given.n_items) if i not in seen), key=lambda i: (-scores[u, i].item(), i))
        row = {}
        for n in (20, 50): row[f'recall@{n}'] = sum(i in right for i in listed[:n])/min(n, len(right))
        gain = sum(1/np.log2(place + 1) for place, i in enumerate(listed[:100], 1) if i in right)
        row['ndcg@100'] = gain/sum(1/np.log2(place + 1) for place in range(1, min(100, len(right)) + 1))
        rows[u] = row
    return pd.DataFrame.from_dict(rows, orient='index')

@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([30, 150]), st.integers(1, 5), st.sampled_from([1, 2**22]))
def test_metrics_equal_plain_loops(seed, n_items, levels, slab):
    "Ties, short lists, users without events, users who want more than a list holds."
    g = torch.Generator().manual_seed(seed)
    events = small(n_items=n_items, n=500 if n_items == 30 else 2500, seed=seed)
    known, wanted, _ = split_random(events, valid=.4, test=0, seed=seed % 97)
    scores = torch.randint(0, levels, (events.n_users, n_items), generator=g).float()
    found = list_quality(lambda users: scores[users], known, wanted, slab)
    expected = by_loops(scores, known, wanted)
    assert found.index.tolist() == expected.index.tolist() and np.abs(found - expected).max().max() < 1e-12

def test_a_models_lists_are_those_of_its_scores(split):
    model, _ = fitted(split.train, sweeps=2)
    scores = torch.stack([model.scores(u) for u in range(model.n_users)])
    pd.testing.assert_frame_equal(list_quality(model, split.train, split.test), by_loops(scores, split.train, split.test), check_names=False)

def test_popularity_counts_users():
    events = small(counts=True)
    counts = np.bincount(events.items, minlength=events.n_items)
    assert (popular(events)(torch.tensor([3, 4])).numpy() == counts).all()

def test_nothing_to_find_is_refused(split):
    with pytest.raises(ValueError, match='no wanted events'): list_quality(popular(split.train), split.train, split.test.take(slice(0, 0)))
    with pytest.raises(ValueError): list_quality(popular(split.train), split.train, small(n_items=31))

# ---- implicit ALS

def dense_row(events, other, side, row, weight, ridge):
    "A row by least squares over all pairs, the events' own rows on top: float64."
    own, across = (events.users, events.items) if side == 'user' else (events.items, events.users)
    mine = own == row
    there, value = other[across[mine].long()].double(), events.values[mine].double().sqrt()
    k = other.shape[1]
    X = torch.cat([there*value[:, None], other.double()*weight**.5, torch.eye(k, dtype=torch.float64)*ridge**.5])
    y = torch.cat([value, torch.zeros(len(other) + k, dtype=torch.float64)])
    return torch.linalg.lstsq(X, y[:, None]).solution[:, 0]

@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 99), st.sampled_from([.01, .3, 2.]), st.sampled_from([.003, .5]), st.sampled_from([0., .5, 1.]), st.booleans())
def test_every_row_equals_dense_weighted_least_squares(seed, weight, reg, exponent, counts):
    events = small(seed=seed, counts=counts)
    model = MatrixFactorization(events, k=3, seed=seed)
    solver = ImplicitALSSolver(model, events, weight, reg, exponent)
    for side, n_other in (('item', events.n_users), ('user', events.n_items)):
        other = model.rows('user' if side == 'item' else 'item')[:, :-1]
        solver._update(side)
        own = events.users if side == 'user' else events.items
        for row, n in enumerate(torch.bincount(own, minlength=getattr(events, f'n_{side}s')).tolist()):
            expected = dense_row(events, other, side, row, weight, reg*(n + weight*n_other)**exponent)
            found = model.rows(side)[row]
            assert (found[:-1] - expected).abs().max() < 2e-4*max(1, expected.abs().max()) and found[-1] == 0
    assert model.mean == 0

def loss_by_hand(model, events, weight, reg, exponent):
    P, Q = (model.rows(side)[:, :-1].double() for side in ('user', 'item'))
    predicted = P @ Q.T
    of_events = (events.values*(1 - predicted[events.users.long(), events.items.long()])**2).sum()
    loss = of_events + weight*predicted.square().sum()
    for rows, codes, n_other in ((P, events.users, len(Q)), (Q, events.items, len(P))):
        n = torch.bincount(codes, minlength=len(rows))
        loss += (reg*(n + weight*n_other)**exponent*rows.square().sum(1)).sum()
    return loss.item()/len(events)

@pytest.mark.parametrize('exponent', [0., 1.])
@pytest.mark.parametrize('counts', [False, True])
def test_the_loss_is_the_objective_and_never_rises(exponent, counts):
    events = small(counts=counts)
    model = MatrixFactorization(events, k=4)
    solver = ImplicitALSSolver(model, events, .2, .05, exponent)
    losses = [solver.sweep()['loss'] for _ in range(8)]
    assert losses[-1] == pytest.approx(loss_by_hand(model, events, .2, .05, exponent), rel=1e-4)
    assert all(after <= before*(1 + 1e-5) for before, after in zip(losses, losses[1:])) and losses[-1] < losses[0]

@pytest.mark.parametrize('counts', [False, True])
@pytest.mark.parametrize('longest', [1024, 4])
def test_as_many_steps_as_unknowns_are_exact(counts, longest, monkeypatch):
    "With long rows folded into pieces as well; and the loss is that of the exact rows."
    monkeypatch.setattr(mfbook.implicit, 'arrange', partial(arrange, longest=longest))
    events = small(counts=counts)
    exact, steps = MatrixFactorization(events, k=3), MatrixFactorization(events, k=3)
    solver, by_steps = ImplicitALSSolver(exact, events, .2, .02, .5), ImplicitALSSolver(steps, events, .2, .02, .5, cg_steps=5)
    for _ in range(3):
        assert solver.sweep()['loss'] == pytest.approx(by_steps.sweep()['loss'], rel=1e-4)
    assert torch.allclose(exact.scores_of(exact.rows('user')), steps.scores_of(steps.rows('user')), atol=1e-3)

def test_few_steps_end_near_the_exact_rows(events):
    exact, steps = (fitted(events, k=6, sweeps=12, cg_steps=n)[1].frame().loss.iloc[-1] for n in (None, 3))
    assert steps == pytest.approx(exact, rel=.003)

def test_counts_weigh_as_much_as_repeated_events():
    "Rows of a pair clicked three times: three equal events in the normal equations."
    events = small(counts=True)
    model = MatrixFactorization(events, k=3)
    solver = ImplicitALSSolver(model, events, .2, .1, 0.)
    copies = torch.repeat_interleave(torch.arange(len(events)), events.values.long())
    repeated = events.take(copies)
    repeated = replace(repeated, values=torch.ones(len(repeated)))
    twin = MatrixFactorization(events, k=3)
    other = ImplicitALSSolver(twin, repeated, .2, .1, 0.)
    for _ in range(3):
        solver.sweep()
        other.sweep()
    assert torch.allclose(model.rows('user'), twin.rows('user'), atol=1e-4)

def test_renumbering_users_and_items_renumbers_the_rows(events):
    g = torch.Generator().manual_seed(1)
    new_user, new_item = torch.randperm(events.n_users, generator=g), torch.randperm(events.n_items, generator=g)
    other = replace(events, users=new_user[events.users.long()].int(), items=new_item[events.items.long()].int())
    one, two = MatrixFactorization(events, k=3), MatrixFactorization(other, k=3)
    solver, twin = ImplicitALSSolver(one, events), ImplicitALSSolver(two, other)
    rows = torch.empty_like(one.rows('user'))
    rows[new_user] = one.rows('user')
    two.put_rows('user', rows)
    for _ in range(3):
        solver.sweep()
        twin.sweep()
    assert torch.allclose(two.rows('item')[new_item], one.rows('item'), atol=1e-4)

def test_folding_in_the_training_users_gives_their_own_rows(events):
    "Exactly where all rows are regularized alike; alone by lesson 08's fold-in, too."
    model, _ = fitted(events, reg_exp=0., reg=.3)
    assert torch.allclose(fold_in_events(model, events), model.rows('user'), atol=1e-4)
    mine = events.items[events.users == 7]
    row = model.fold_in(mine.long(), torch.ones(len(mine)))
    assert torch.allclose(row.factors, model.rows('user')[7, :-1], atol=1e-4) and abs(row.bias) < 1e-6
    average, _ = fitted(events)
    cosine = torch.nn.functional.cosine_similarity(fold_in_events(average, events)[1:-1], average.rows('user')[1:-1])
    assert cosine.min() > .98

def test_a_newcomer_gets_films_of_their_taste(events):
    model, _ = fitted(events)
    listed = recommend(model, {0: 1., 2: 1., 4: 1.}, n=5)
    assert listed.predicted.between(0, 1).all()
    codes = [int(t.split()[-1].strip('[]')) for t in listed.title]
    assert sum(code % 2 == 0 for code in codes) >= 4

@pytest.mark.parametrize('after', [1, 3])
def test_a_run_cut_in_two_ends_in_the_same_bits(split, tmp_path, after):
    whole, cut = MatrixFactorization(split.train, k=3), MatrixFactorization(split.train, k=3)
    own = dict(sweeps=6, patience=None, progress=False)
    fit_implicit_als(whole, split.train, split.valid, **own)
    solver = ImplicitALSSolver(cut, split.train)
    for _ in range(after): solver.sweep()
    fit_implicit_als(cut, split.train, split.valid, **own | dict(sweeps=6 - after))      # a fitted model goes on from its rows
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), cut.state_dict().values()))

@pytest.mark.parametrize('method', [fit_implicit_als, fit_bpr])
def test_resumed_from_a_checkpoint_bit_for_bit(split, tmp_path, method, monkeypatch):
    length = 'sweeps' if method is fit_implicit_als else 'epochs'
    own = {length: 6, 'patience': None, 'progress': False}
    whole, first, second = (MatrixFactorization(split.train, k=3) for _ in range(3))
    expected = method(whole, split.train, split.valid, **own)
    file, solver = tmp_path/'run', {fit_implicit_als: ImplicitALSSolver, fit_bpr: BPRSolver}[method]
    sweep, calls = solver.sweep, []
    def interrupted(self):
        if len(calls) == 3: raise KeyboardInterrupt
        calls.append(1)
        return sweep(self)
    monkeypatch.setattr(solver, 'sweep', interrupted)
    with pytest.raises(KeyboardInterrupt): method(first, split.train, split.valid, checkpoint=file, **own)
    monkeypatch.setattr(solver, 'sweep', sweep)
    found = method(second, split.train, split.valid, checkpoint=file, **own)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), second.state_dict().values()))
    assert found.frame().valid.tolist() == expected.frame().valid.tolist()
    with pytest.raises(ValueError, match='belongs to another run'): method(second, split.train, split.valid, checkpoint=file, reg=.7, **own)
    with pytest.raises(ValueError, match='metric'): method(second, split.train, split.valid, checkpoint=file, metric=watch_new_users(split.train), **own)

def test_the_metric_decides_which_sweep_stays(split):
    numbers = iter([.2, .5, .4, .3, .9])
    states = []
    def metric(model, valid):
        states.append(model.rows('user'))
        return next(numbers)
    model, history = fitted(split.train, valid=split.valid, metric=metric, patience=2, sweeps=5)
    assert history.best_sweep == 2 and len(history.rows) == 4 and torch.equal(model.rows('user'), states[1]) and history.metric == 'metric'
    model, history = fitted(split.train, valid=split.valid, sweeps=4, patience=1)
    frame = history.frame()
    assert history.metric == 'nDCG@100' and history.best['valid'] == frame.valid.max()
    assert list_quality(model, split.train, split.valid)['ndcg@100'].mean() == pytest.approx(frame.valid.max(), abs=1e-12)
    assert history.plot(train=False).get_ylabel() == 'nDCG@100'

def test_tuning_puts_the_largest_metric_first(split):
    table = tune(fit_implicit_als, split.train, split.valid, [dict(reg=r) for r in (.001, .05, 5.)], k=3, sweeps=4, progress=False)
    assert table.valid.is_monotonic_decreasing and (table.best >= table.valid).all() and table.valid.nunique() > 1

# ---- BPR

def test_the_step_is_minus_autograds_gradient():
    g = torch.Generator().manual_seed(0)
    p, q_i, q_j = (torch.randn(9, 5, generator=g, dtype=torch.float64) for _ in range(3))
    p[:, -1] = 1
    p, q_i, q_j = (t.requires_grad_() for t in (p, q_i, q_j))
    x = (p[:, :-1]*(q_i - q_j)[:, :-1]).sum(1) + q_i[:, -1] - q_j[:, -1]
    penalty = (p[:, :-1].square().sum() + q_i.square().sum() + q_j.square().sum())/2
    (-torch.nn.functional.logsigmoid(x).sum() + .1*penalty).backward()
    *steps, lead = bpr_step(p.detach(), q_i.detach(), q_j.detach(), .1)
    assert torch.allclose(lead, x)
    for step, t, columns in zip(steps, (p, q_i, q_j), (4, 5, 5)):
        assert torch.allclose(step[:, :columns], -t.grad[:, :columns], atol=1e-12)
    assert (steps[0][:, -1] == 0).all()

def test_the_other_item_is_never_one_of_the_users(events):
    solver = BPRSolver(MatrixFactorization(events, k=2), events)
    pairs = set(zip(events.users.tolist(), events.items.tolist()))
    users = solver.users.repeat(50)
    others = solver.others(users, torch.Generator().manual_seed(3))
    assert not pairs & set(zip(users.tolist(), others.tolist()))
    assert 29 not in others and solver.has(events.users.long(), events.items.long()).all()
    drawn, counts = torch.bincount(others, minlength=30).double(), torch.bincount(events.items, minlength=30).double()
    assert torch.corrcoef(torch.stack([drawn, counts]))[0, 1] > .5            # in proportion to events, among what a user lacks

def test_users_who_have_everything_teach_nothing():
    frame = pd.DataFrame([(1, i) for i in range(4)] + [(2, 0), (3, 1)], columns=['userId', 'movieId'])
    events = events_from_frame(frame)
    solver = BPRSolver(MatrixFactorization(events, k=2), events)
    assert solver.users.tolist() == [1, 2]
    everything = events.take(events.users == 0)
    with pytest.raises(ValueError, match='every user has every item'): BPRSolver(MatrixFactorization(everything, k=2), everything)

def test_bpr_learns_the_order(split):
    model = MatrixFactorization(split.train, k=4)
    history = fit_bpr(model, split.train, epochs=60, lr=.05, reg=.01, progress=False)
    right = history.frame().right
    assert right.iloc[-1] > .8 > .65 > right.iloc[0] and model.mean == 0 and (model.rows('user')[:, -1] == 0).all()
    assert list_quality(model, split.train, split.test)['ndcg@100'].mean() > list_quality(popular(split.train), split.train, split.test)['ndcg@100'].mean()

def test_too_long_steps_are_told(events):
    with pytest.raises(FloatingPointError, match='divide lr by ten'):
        fit_bpr(MatrixFactorization(events, k=2), events, epochs=60, lr=1e8, reg=1., progress=False)

# ---- EASE

@pytest.mark.parametrize('n_users', [20, 60])
def test_ease_solves_each_items_regression_without_itself(n_users):
    "Ridge regression of each column on the others: with more users than items, and with fewer."
    events = small(n_users=n_users, n_items=30, n=250)
    X, B = event_matrix(events).toarray().astype(float), ease(events, 3.).double().numpy()
    for j in range(30):
        others = np.delete(np.arange(30), j)
        A = X[:, others]
        assert np.allclose(B[others, j], np.linalg.solve(A.T @ A + 3*np.eye(29), A.T @ X[:, j]), atol=1e-5) and B[j, j] == 0
    scores = ease_scores(ease(events, 3.), events)(torch.tensor([4, 5]))
    assert np.allclose(scores.numpy(), X[[4, 5]] @ B, atol=1e-4)

def test_both_ways_to_the_inverse_agree():
    X = event_matrix(small(n_users=20, n_items=30, n=250))
    assert np.allclose(inverse_gram(X, 2.), np.linalg.inv((X.T @ X).toarray() + 2*np.eye(30)), atol=1e-5)

# ---- together

def test_factors_beat_popularity_on_new_users_of_real_ratings():
    split = split_users(events_from_ratings(load_sample(), 4))
    model = MatrixFactorization(split.train, k=8)
    fit_implicit_als(model, split.train, sweeps=5, progress=False)
    ours = list_quality(scores_of_rows(model, fold_in_events(model, split.test_given)), split.test_given, split.test)
    theirs = list_quality(popular(split.train), split.test_given, split.test)
    assert ours['ndcg@100'].mean() > 1.2*theirs['ndcg@100'].mean()

@pytest.mark.parametrize('own, says', [
    (dict(reg=0), 'reg is 0; it must be finite and above 0'), (dict(reg=float('nan')), 'reg is nan'), (dict(unobserved_weight=0), 'without a weight above 0'),
    (dict(reg_exp=2), 'reg_exp is 2'), (dict(cg_steps=0), 'cg_steps is 0')])
def test_bad_settings_of_implicit_als_are_refused(events, own, says):
    with pytest.raises(ValueError, match=says): fit_implicit_als(MatrixFactorization(events, k=2), events, **own)

@pytest.mark.parametrize('own, says', [(dict(lr=0), 'lr is 0'), (dict(reg=-1), 'reg -1'), (dict(batch_size=0), 'batch_size is 0'), (dict(seed=.5), 'seed is 0.5')])
def test_bad_settings_of_bpr_are_refused(events, own, says):
    with pytest.raises(ValueError, match=says): fit_bpr(MatrixFactorization(events, k=2), events, **own)

@pytest.mark.parametrize('method', [fit_implicit_als, fit_bpr])
def test_what_are_no_events_is_refused(events, method):
    zeros = Ratings.from_frame(pd.DataFrame(dict(userId=[1, 2], movieId=[1, 2], rating=[1., 0.])))
    with pytest.raises(ValueError, match='an event has the value 0'): method(MatrixFactorization(zeros, k=2), zeros)
    with pytest.raises(ValueError, match='no factors to learn'): method(MatrixFactorization(events, k=0), events)
    with pytest.raises(ValueError, match='reg is 0'): ease(events, 0)
    with pytest.raises(ValueError, match='there are no events'): ease(events.take(slice(0, 0)))
