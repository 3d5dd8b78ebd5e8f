"Evaluation: measures equal plain loops and another library, intervals cover what they claim, and nothing looks inside a model."
import math
from dataclasses import replace
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from mfbook.evaluation import (bootstrap, calibration, interval, items_by_user, list_metrics, plot_slices, ranking, report, slices,
                               squared_errors, top_k, worst_films)
from mfbook.holdout import mae, rmse, split_random
from mfbook.model import MatrixFactorization
from mfbook.ratings import Ratings, load_sample
from mfbook.runs import fit_biases

class Stub:
    "The least a model is: two methods, and no tensor to look at."
    def __init__(self, table, noise=0.): self.table, self.noise = torch.as_tensor(table, dtype=torch.float32), noise
    def predict(self, r): return self.table[r.users.long(), r.items.long()]
    def scores(self, user): return self.table[user]

def some(n_users=12, n_items=9, n=70, seed=0):
    g = np.random.default_rng(seed)
    cells = g.choice(n_users*n_items, n, replace=False)
    f = pd.DataFrame(dict(userId=cells // n_items, movieId=cells % n_items, rating=g.integers(2, 11, n)/2, timestamp=g.integers(0, 10**9, n)))
    return Ratings.from_frame(f, rating_range=(.5, 5)), Stub(g.normal(3.5, 1, (n_users, n_items)))

# --- lists ---

@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 15), min_size=1, max_size=8, unique=True), st.lists(st.integers(0, 15), min_size=1, max_size=10, unique=True))
def test_list_metrics_equal_plain_loops(listed, relevant):
    hits, dcg, best, first = 0, 0., 0., 0.
    for place, item in enumerate(listed, 1):
        if item in relevant:
            hits += 1
            dcg += 1/math.log2(place + 1)
            first = first or 1/place
    for place in range(1, min(len(listed), len(relevant)) + 1): best += 1/math.log2(place + 1)
    m = list_metrics(listed, relevant)
    assert m == pytest.approx(dict(precision=hits/len(listed), recall=hits/len(relevant), ndcg=dcg/best, mrr=first))

# What ranx 0.3.21 (Bassani, ECIR 2022) prints for these three lists, with binary relevance.
RANX = {('abcde', 'adz'): (.4, .6666666666666666, .6713860725233041, 1.), ('acdbe', 'b'): (.2, 1., .43067655807339306, .25), ('abdhi', 'cefg'): (0., 0., 0., 0.),
        ('abc', 'adz'): (.3333333333333333, .3333333333333333, .46927872602275644, 1.), ('acd', 'b'): (0., 0., 0., 0.)}
@pytest.mark.parametrize('listed, relevant', RANX)
def test_list_metrics_equal_ranx(listed, relevant):
    assert tuple(list_metrics([ord(c) for c in listed], [ord(c) for c in relevant]).values()) == pytest.approx(RANX[listed, relevant])

def test_no_relevant_items_is_an_error():
    with pytest.raises(ValueError, match='leave such users out'): list_metrics([1, 2], [])

@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.integers(1, 12), st.data())
def test_top_k_equals_a_sort_by_score_then_code(scores, k, data):
    seen = data.draw(st.lists(st.integers(0, len(scores)-1), unique=True, max_size=len(scores)-1))
    k = min(k, len(scores) - len(seen))
    by_hand = sorted((i for i in range(len(scores)) if i not in seen), key=lambda i: (-scores[i], i))[:k]
    given_scores = torch.tensor(scores, dtype=torch.float32)
    assert top_k(given_scores, torch.tensor(seen, dtype=torch.long), k).tolist() == by_hand
    assert given_scores.tolist() == scores, 'the scores were changed'

def test_items_by_user_equals_a_plain_loop():
    r, _ = some(n=40)
    lists = items_by_user(r)
    assert len(lists) == r.n_users
    for u in range(r.n_users): assert lists[u].tolist() == [int(i) for v, i in zip(r.users, r.items) if v == u]

def test_ranking_equals_a_plain_loop_over_users_and_all_items():
    r, m = some(n=95)
    s = split_random(r, valid=0, test=.4, seed=1)
    f = ranking(m, s.train, s.test, k=3, relevant=3.5)
    shown, users = set(), []
    for u in range(r.n_users):
        own = {int(i) for v, i in zip(s.train.users, s.train.items) if v == u}
        wanted = [int(i) for v, i, x in zip(s.test.users, s.test.items, s.test.values) if v == u and x >= 3.5]
        if not wanted: continue
        listed = sorted((i for i in range(r.n_items) if i not in own), key=lambda i: -float(m.table[u, i]))[:3]
        shown |= set(listed); users.append(u)
        assert f.loc[u].to_dict() == pytest.approx(list_metrics(listed, wanted))
        assert not own & set(listed)
    assert 0 < len(users) != r.n_items and f.index.tolist() == users and f.attrs['coverage'] == pytest.approx(len(shown)/r.n_items)

def test_a_perfect_list_and_nothing_to_find():
    r, _ = some()
    s = split_random(r, valid=0, test=.4, seed=1)
    table = torch.zeros(r.n_users, r.n_items)
    table[s.test.users.long(), s.test.items.long()] = s.test.values
    f = ranking(Stub(table), s.train, s.test, k=5)
    assert (f.ndcg == 1).all() and (f.mrr == 1).all()
    with pytest.raises(ValueError, match='reaches 6, so there is nothing to find. relevant='): ranking(Stub(table), s.train, s.test, relevant=6)

# --- errors and intervals ---

def test_squared_errors_add_up_to_the_rmse():
    r, m = some()
    e = squared_errors({'a': m}, r)
    assert math.sqrt(e.a.sum()/e.n.sum()) == pytest.approx(rmse(m.predict(r), r)) and e.n.sum() == len(r)
    for u in e.index:
        own = r.take(r.users == u)
        assert e.a[u] == pytest.approx(((m.predict(own) - own.values)**2).sum().item(), rel=1e-5)

def test_the_bootstrap_weighs_users_and_is_the_same_for_the_same_seed():
    sums = np.array([[1., 10.], [1., 20.], [1., 60.]])
    a = bootstrap(sums, lambda s: s[1]/s[0], n=400, seed=3)
    assert a.shape == (400, 1) and np.array_equal(a, bootstrap(sums, lambda s: s[1]/s[0], n=400, seed=3))
    assert set(np.round(a[:, 0]*3)) <= {i*10 + j*20 + k*60 for i in range(4) for j in range(4) for k in range(4) if i + j + k == 3}
    assert a.mean() == pytest.approx(30, abs=2.5) and a.std() == pytest.approx(np.std([10, 20, 60])/math.sqrt(3), rel=.1)
    with pytest.raises(ValueError, match='no users'): bootstrap(np.empty((0, 2)), lambda s: s[1])

def test_intervals_cover_what_they_claim():
    "Mean squared error of users of different difficulty: 95% intervals hold the truth about 95 times of 100, 50% intervals about 50."
    g, n, inside95, inside50 = np.random.default_rng(5), 300, 0, 0
    for t in range(n):
        hard = g.gamma(4, .25, 120)
        sums = np.stack([np.full(120, 10.), ((hard[:, None]*g.standard_normal((120, 10)))**2).sum(1)], 1)
        draws = bootstrap(sums, lambda s: s[1]/s[0], n=300, seed=t)
        inside95 += np.prod(interval(draws)[:, 0] - 1.25) < 0
        inside50 += np.prod(interval(draws, .5)[:, 0] - 1.25) < 0
    assert .89 <= inside95/n <= .975 and .41 <= inside50/n <= .58

def test_better_is_said_only_when_the_paired_interval_excludes_zero():
    r = load_sample()
    s = split_random(r, seed=0)
    mean, b = (MatrixFactorization(s.train, k=0) for _ in range(2))
    fit_biases(b, s.train, reg_user=5, reg_item=3, progress=False)
    class Nudged:
        def __init__(self, by): self.by = by
        def predict(self, x): return b.predict(x) + self.by
        def scores(self, u): return b.scores(u)
    t = report({'biases': b, 'mean': mean, 'same': Nudged(0.), 'off': Nudged(.5)}, s.train, s.test, n=200).table
    assert t.better.tolist() == ['(reference)', 'no', 'cannot tell', 'no'] and t.difference['same'] == 0
    assert t.difference_from['same'] == t.difference_to['same'] == 0, 'the difference is not taken draw by draw'
    assert report({'mean': mean, 'biases': b}, s.train, s.test, reference='mean', n=200).table.better['biases'] == 'yes'

def test_a_report_is_made_of_predict_and_scores_alone_and_is_right():
    r, m = some(n=90)
    s = split_random(r, valid=0, test=.4, seed=1)
    t = report({'x': m}, s.train, s.test, k=2, n=100)
    assert t.table.rmse['x'] == pytest.approx(rmse(m.predict(s.test), s.test)) and t.table.mae['x'] == pytest.approx(mae(m.predict(s.test), s.test))
    assert t.table.rmse_from['x'] < t.table.rmse['x'] < t.table.rmse_to['x']
    assert t.table['ndcg@2']['x'] == pytest.approx(ranking(m, s.train, s.test, 2).ndcg.mean())
    assert 'x' in repr(t) and '<table' in t._repr_html_() and t.plot().shape == (2, 2)
    with pytest.raises(ValueError, match="'y' is none of the models"): report({'x': m}, s.train, s.test, reference='y')

# --- slices, calibration, films ---

def test_slices_hold_every_rating_once_and_their_rmse():
    s = split_random(load_sample(), seed=0)
    m = MatrixFactorization(s.train, k=0)
    for by in ('ratings of the user', 'ratings of the item', 'time of the rating'):
        f = slices({'m': m}, s.train, s.test, by, n=20)
        assert f.ratings.sum() == len(s.test) and (f.lo <= f.rmse).all() and (f.rmse <= f.hi).all()
        assert math.sqrt((f.rmse**2*f.ratings).sum()/len(s.test)) == pytest.approx(rmse(m.predict(s.test), s.test))
    f = slices({'m': m}, s.train, s.test, 'ratings of the item', n=20).set_index('slice')
    seen = torch.bincount(s.train.items, minlength=s.train.n_items)[s.test.items.long()]
    part = s.test.take((seen >= 3) & (seen <= 9))
    assert f.ratings['3-9'] == len(part) and f.rmse['3-9'] == pytest.approx(rmse(m.predict(part), part)) and f.ratings['0'] == int((seen == 0).sum())
    t = slices({'m': m}, s.train, s.test, 'time of the rating', n=20)
    oldest = s.test.take(s.test.timestamps.argsort(stable=True)[:t.ratings[0]])
    assert t.ratings[0] == pytest.approx(len(s.test)/5, rel=.02) and t.rmse[0] == pytest.approx(rmse(m.predict(oldest), oldest))
    month = replace(s.test, timestamps=1_000_000_000 + torch.arange(len(s.test)))
    assert slices({'m': m}, s.train, month, 'time of the rating', n=20).slice.tolist() == ['to Sep 2001']
    with pytest.raises(ValueError, match="by is 'age'"): slices({'m': m}, s.train, s.test, 'age')
    with pytest.raises(ValueError, match='no timestamps'): slices({'m': m}, s.train, replace(s.test, timestamps=None), 'time of the rating')

def test_calibration_bins_hold_the_means():
    r, m = some(n=100)
    f = calibration({'a': m, 'flat': Stub(np.full((12, 9), 3.))}, r, bins=4)
    p = m.predict(r)
    order = p.argsort(stable=True)
    for b, rows in enumerate(order.split(25)):
        row = f[(f.model == 'a') & (f.bin == b)].iloc[0]
        assert row.predicted == pytest.approx(p[rows].mean().item(), rel=1e-5) and row.rating == pytest.approx(r.values[rows].mean().item(), rel=1e-5)
    assert len(f[f.model == 'flat']) == 1 and f[f.model == 'flat'].rating.item() == pytest.approx(r.mean)

def test_without_a_reference_the_first_model_but_the_mean_is_it():
    r, m = some(n=90)
    s = split_random(r, valid=0, test=.4, seed=1)
    assert report({'mean': m, 'x': m, 'y': m}, s.train, s.test, n=20).reference == 'x'
    assert report({'mean': m}, s.train, s.test, n=20).reference == 'mean'

def test_users_without_a_test_rating_are_no_rows():
    r, m = some()
    assert squared_errors({'a': m}, r.take(r.users > 3)).index.tolist() == list(range(4, r.n_users))

def test_the_worst_films_are_the_worst():
    r, m = some(n=100)
    rated = torch.bincount(r.items)
    assert len(worst_films(m, r, min_ratings=int(rated.max()), n=9)) == int((rated == rated.max()).sum())
    f = worst_films(m, r, min_ratings=3, n=4)
    by_hand = {r.titles([i])[0]: rmse(m.predict(p), p) for i in range(r.n_items) if len(p := r.take(r.items == i)) >= 3}
    assert f.title.tolist() == sorted(by_hand, key=by_hand.get, reverse=True)[:4]
    assert f.rmse.tolist() == pytest.approx(sorted(by_hand.values(), reverse=True)[:4], rel=1e-5)

def test_no_test_ratings_is_an_error():
    r, m = some()
    with pytest.raises(ValueError, match='no test ratings'): report({'m': m}, r, r.take(slice(0, 0)))

@pytest.mark.parametrize('measure', [lambda m, r, none: report({'m': m}, r, none), lambda m, r, none: squared_errors({'m': m}, none), lambda m, r, none: calibration({'m': m}, none),
    *[lambda m, r, none, by=by: slices({'m': m}, r, none, by) for by in ('ratings of the user', 'ratings of the item', 'time of the rating')]])
def test_an_empty_test_set_is_named_in_one_sentence(measure):
    r, m = some()
    with pytest.raises(ValueError) as error: measure(m, r, r.take(slice(0, 0)))
    assert str(error.value) == 'there are no test ratings.'

def test_slices_are_drawn_as_they_are_even_outside_their_intervals():
    "With few draws of the users, an RMSE may lie outside its interval."
    frame = pd.DataFrame(dict(slice=['0', '1-2'], model='m', ratings=9, rmse=[1., 2.], lo=[1.1, 1.5], hi=[1.3, 1.9]))
    ax = plot_slices(frame, 'x')
    assert ax.lines[0].get_ydata().tolist() == [1, 2]
    assert [bar[:, 1].tolist() for bar in ax.collections[0].get_segments()] == [[1.1, 1.3], [1.5, 1.9]]
    plt.close(ax.figure)

# --- whose codes, and which items ---

def apart(r, seed=0):
    "Ratings of the same numbers of users and items, with ids, and so with codes, of their own."
    f = r.to_frame()
    return Ratings.from_frame(f.assign(movieId=f.movieId.max() + 7 - f.movieId), rating_range=r.rating_range)

def test_ratings_of_other_ids_are_refused_everywhere():
    r, stub = some(n=90)
    other, m = apart(r), MatrixFactorization(r, k=2)
    for call in (lambda: ranking(m, r, other), lambda: ranking(stub, r, other), lambda: ranking(m, other, other), lambda: report({'m': stub}, r, other), lambda: slices({'m': stub}, r, other),
                 lambda: report({'m': m}, other, other), lambda: squared_errors({'m': m}, other), lambda: calibration({'m': m}, other), lambda: worst_films(m, other)):
        with pytest.raises(ValueError, match='codes for 9 items.*for 9, and they are not the same items.*encode'): call()

@pytest.mark.parametrize('listed, relevant, says', [
    ([10, 20, 30], ['10', '20'], 'listed holds integers and relevant strings, so that nothing can be found'), (['a'], [1], 'listed holds strings and relevant integers'),
    (np.array(['a']), torch.tensor([1]), 'listed holds strings'), ([1, 1, 1], [1], 'listed holds an item twice'), ([1, 2, 3], [1, 1, 1], 'relevant holds an item twice, .*1.*; keep it once'), (torch.tensor([3, -1, -1]), [1], r'filled up with -1: take listed\[listed >= 0\]'),
    ([1, '1'], [1], "listed holds items of the kind 'mixed-integer'"), ([1.5], [1], "of the kind 'floating'"), ([True, False], [0], "of the kind 'boolean'"),
    ({1, 2}, [1], 'listed holds items of the kind'), ([1], [None], 'relevant holds items of the kind'), (3, [3], 'listed holds')])
def test_lists_that_cannot_be_compared(listed, relevant, says):
    with pytest.raises(ValueError, match=says): list_metrics(listed, relevant)

def test_lists_of_any_kind_are_compared():
    expected = list_metrics([1, 2, 3], [3, 9])
    assert expected['mrr'] == 1/3
    for kind in (np.array, torch.tensor, tuple, pd.Series, lambda x: np.array(x, dtype=np.uint8)): assert list_metrics(kind([1, 2, 3]), kind([3, 9])) == expected
    assert list_metrics([1, 2, 3], {3, 9}) == list_metrics(list('abc'), {'c', 'd'}) == list_metrics(pd.Series(list('abc')), np.array(['c', 'd'])) == expected

# --- any scale ---

@pytest.mark.parametrize('levels, hits', [((.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5), (4, 4.5, 5)), ((1, 2, 3, 4, 5), (4, 5)), ((0, 1), (1,)), ((-1, 1), (1,)), ((1, 2, 3), (3,)),
    (range(0, 101, 10), (70, 80, 90, 100)), (range(-10, 11, 5), (5, 10)), (range(1, 11), (8, 9, 10))])
def test_the_top_third_of_the_scale_is_relevant(levels, hits):
    levels = list(levels)
    n = len(levels)
    r = Ratings.from_frame(dict(userId=[u for u in range(3) for _ in range(n)], movieId=[*range(n)]*3, rating=levels*3))
    own = Stub(torch.arange(n).expand(3, n).flip(1))
    nothing = r.take([])
    assert ranking(own, nothing, r, k=n).equals(ranking(own, nothing, r, k=n, relevant=min(hits)))
    t = report({'m': own}, nothing, r, k=n, n=20)
    assert t.table[f'precision@{n}'].item() == pytest.approx(len(hits)/n) and t.note == ''
    plt.close(t.plot()[0, 0].figure)

def test_a_report_is_there_when_nothing_is_relevant():
    r, m = some(n=90)
    s = split_random(r, valid=0, test=.4, seed=1)
    t = report({'x': m}, s.train, s.test, n=20, relevant=5.5)
    assert t.table.rmse['x'] == pytest.approx(rmse(m.predict(s.test), s.test)) and t.table['ndcg@10'].isna().all()
    assert 'ndcg' not in repr(t) and 'No list metrics' in repr(t) and 'No list metrics' in t._repr_html_()
    assert report({'x': m}, s.train, s.test, k=3, n=20, relevant=3.5).table['ndcg@3']['x'] == pytest.approx(ranking(m, s.train, s.test, 3, 3.5).ndcg.mean())

@pytest.mark.parametrize('rows', [[(1, 1, 3.), (2, 2, 3.), (1, 2, 3.)], [(1, 1, 3.)], [(1, 1, 3.), (1, 2, 5.)], [(1, 1, 3.), (2, 1, 5.)]])
def test_a_report_of_ratings_that_are_alike_of_one_user_of_one_item(rows):
    r = Ratings.from_frame(rows)
    t = report({'m': MatrixFactorization(r, k=1)}, r, r, n=20)
    assert t.table.rmse['m'] < 2 and 'RMSE' in repr(t)
    plt.close(t.plot()[0, 0].figure)

def test_no_plot_speaks_of_stars_or_films():
    r, m = some(n=90)
    axs = report({'m': m}, r, r, n=20).plot()
    text = ' '.join(ax.get_xlabel() + ax.get_ylabel() for ax in axs.flat)
    assert 'star' not in text and 'film' not in text and 'ratings of the item' in text
    plt.close(axs[0, 0].figure)
