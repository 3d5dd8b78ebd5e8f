"Newcomers: fold-in equals least squares, shares sum to the prediction, the learned prior helps, and errors say what to do."
import math
from copy import deepcopy
import matplotlib.pyplot as plt
from matplotlib.colors import to_rgba
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from mfbook.holdout import rmse
from mfbook.model import MatrixFactorization
from mfbook.newcomers import learn_prior, my_ratings, plot_why, ridge_problem, solve_ridge, why
from mfbook.ratings import Ratings, load_sample
from mfbook.runs import fit_sgd
from test_recommending import small

# --- fold-in ---

def lstsq(m, side, codes, values):
    "The same row by torch.linalg.lstsq: the prior written as further equations, U w = U mean with U^T U = precision."
    other = 'item' if side == 'user' else 'user'
    rows, bias = getattr(m, f'{other}_factors').detach()[codes], getattr(m, f'{other}_bias').detach()[codes]
    X = torch.cat([rows, torch.ones(len(codes), 1)], 1).double()
    y = torch.tensor(values, dtype=torch.float64) - m.mu.item() - bias.double()
    prior = m.prior(side)
    L = prior.precision.double() * (max(1, len(codes)) if prior.per_rating else 1)
    U = torch.linalg.cholesky(L).T
    b = torch.cat([y, U @ prior.mean.double()])
    return torch.linalg.lstsq(torch.cat([X, U]), b[:, None]).solution[:, 0]

codes_and_stars = st.lists(st.tuples(st.integers(0, 7), st.integers(1, 10)), max_size=8, unique_by=lambda p: p[0])

@settings(max_examples=150, deadline=None)
@given(codes_and_stars, st.sampled_from(['user', 'item']), st.booleans(), st.integers(0, 5), st.integers(0, 10**6))
def test_fold_in_equals_least_squares(ratings, side, per_rating, k, seed):
    _, m = small(k, seed=seed, prior_per_rating=per_rating)
    codes, values = [c for c, _ in ratings], [s/2 for _, s in ratings]
    row = (m.fold_in if side == 'user' else m.fold_in_item)(codes, values)
    assert row.factors.shape == (k,) and row.factors.dtype == torch.float32 and isinstance(row.bias, float)
    w = lstsq(m, side, codes, values)
    assert torch.allclose(torch.cat([row.factors.double(), torch.tensor([row.bias], dtype=torch.float64)]), w, atol=2e-6)

def test_the_row_is_where_the_gradient_is_zero():
    "And it lies no higher than any row beside it."
    _, m = small(seed=5)
    problem = ridge_problem(m, 'user', [0, 2, 7], [4., 1.5, 3])
    X, y, mean, precision = problem
    def loss(w): return (y - X @ w).square().sum() + (w - mean) @ precision @ (w - mean)
    w, factor = solve_ridge(problem)
    at = w.clone().requires_grad_()
    loss(at).backward()
    assert at.grad.abs().max() < 1e-10 and torch.allclose(factor @ factor.T, X.T @ X + precision)
    for step in torch.randn(20, len(w), generator=torch.Generator().manual_seed(0), dtype=torch.float64): assert loss(w + .01*step) > loss(w)

def test_an_item_is_folded_in_as_a_user_with_the_sides_changed():
    _, m = small()
    X, y, mean, precision = ridge_problem(m, 'item', [3, 1], [4., 2])
    assert torch.equal(X, torch.cat([m.rows('user')[[3, 1], :-1], torch.ones(2, 1)], 1).double())
    assert y.tolist() == pytest.approx([4 - m.baseline('user')[3].item(), 2 - m.baseline('user')[1].item()])
    assert torch.equal(mean, m.prior('item').mean.double()) and torch.equal(precision, m.prior('item').precision.double())

@pytest.mark.parametrize('per_rating', [False, True])
def test_without_a_rating_there_is_the_prior_mean(per_rating):
    _, m = small(prior_per_rating=per_rating)
    for row, side in ((m.fold_in([], []), 'user'), (m.fold_in_item([], []), 'item')):
        assert torch.allclose(torch.cat([row.factors, torch.tensor([row.bias])]), m.prior(side).mean, atol=1e-6)

def test_the_order_of_ratings_and_their_type_do_not_matter():
    r, m = small()
    a, b = m.fold_in([1, 4, 6], [2., 5, 3]), m.fold_in(torch.tensor([6, 1, 4], dtype=torch.int32), torch.tensor([3., 2, 5]))
    assert torch.allclose(a.factors, b.factors, atol=1e-6) and a.bias == pytest.approx(b.bias)
    assert not a.factors.requires_grad

def test_many_ratings_are_told_from_few_by_the_prior():
    "Per rating the prior weighs the same against ten ratings as against one; as it stands it fades."
    _, m = small(k=0)
    m.set_prior('user', torch.zeros(1), torch.ones(1, 1))
    y = 4 - m.mu.item() - m.item_bias.detach()
    assert m.fold_in([0], [4.]).bias == pytest.approx(y[0].item()/2, abs=1e-6)
    assert m.fold_in(range(8), [4.]*8).bias == pytest.approx(y.sum().item()/9, abs=1e-6)
    m.set_prior('user', torch.zeros(1), torch.ones(1, 1), per_rating=True)
    assert m.fold_in(range(8), [4.]*8).bias == pytest.approx(y.sum().item()/16, abs=1e-6)

@pytest.mark.parametrize('codes, values, error, says', [
    ([2, 2], [4, 3], ValueError, 'item code 2 is there twice; keep one of its ratings'),
    ([99], [4], IndexError, 'item code 99 is out of range: 0 to 7. Is it a raw id'),
    ([-1], [4], IndexError, 'item code -1 is out of range'),
    ([1, 2], [4], ValueError, 'one rating for each'),
    ([1], [math.nan], ValueError, 'a rating is nan'),
    ([1], [math.inf], ValueError, 'a rating is inf')])
def test_what_cannot_be_folded_in_is_named(codes, values, error, says):
    _, m = small()
    with pytest.raises(error, match=says): m.fold_in(codes, values)

def test_a_new_film_names_users():
    with pytest.raises(IndexError, match='user code 10 is out of range'): small()[1].fold_in_item([10], [4])

@pytest.mark.parametrize('ratings', [[0], []])
def test_an_empty_prior_is_an_error_and_not_an_arbitrary_row(ratings):
    _, m = small()
    m.set_prior('user', torch.zeros(4), torch.zeros(4, 4))
    with pytest.raises(ValueError, match='do not settle 4 numbers, and the model\'s prior is empty. Was it trained with reg=0'):
        m.fold_in(ratings, [4.]*len(ratings))

def test_an_empty_prior_is_noticed_through_rounding_errors():
    for seed in range(40):
        _, m = small(k=3, seed=seed)
        m.set_prior('user', torch.zeros(4), torch.zeros(4, 4))
        with pytest.raises(ValueError, match='3 ratings do not settle 4 numbers'): m.fold_in([0, 3, 5], [4., 1, 2])

@pytest.mark.parametrize('codes, values, error, says', [
    ([1, 2], [80., 95.], ValueError, 'a rating is 80, outside the scale of this model, 0.5 to 5'), ([1], [0.], ValueError, 'a rating is 0, outside the scale'),
    ([1.5], [4], ValueError, 'item codes are whole numbers'), ([True, False], [4, 3], ValueError, 'True and False are no item codes'), ({1, 2}, [4, 3], ValueError, 'item codes come as a list'),
    (['Alien'], [4], ValueError, 'item codes are whole numbers'), ([1], ['4'], ValueError, "ratings are numbers; these are of the kind 'string'"), ([1], [True], ValueError, "of the kind 'boolean'"),
    ([1], [None], ValueError, 'ratings are numbers'), ([1], 4., ValueError, 'one rating for each')])
def test_no_code_and_no_rating_is_cast_in_silence(codes, values, error, says):
    _, m = small()
    with pytest.raises(error, match=says): m.fold_in(codes, values)
    with pytest.raises(error, match=says.replace('item', 'user')): m.fold_in_item(codes, values)
    with pytest.raises(error, match=says): why(m, (codes, values), 1)

def test_codes_and_ratings_of_a_filtered_frame():
    r, m = small()
    f = r.to_frame()[20:24]
    codes = pd.Series([m.item_code(i) for i in f.movieId], index=f.index)
    expected = m.fold_in(codes.tolist(), f.rating.tolist())
    for kind in ('float32', 'Float64', 'int64'):
        if kind == 'int64': f['rating'], expected = 3, m.fold_in(codes.tolist(), [3.]*4)
        assert torch.equal(m.fold_in(codes, f.rating.astype(kind)).factors, expected.factors)

def test_a_rating_as_exact_as_it_was_stored_is_on_the_scale():
    r = Ratings.from_frame([(1, 1, .1), (1, 2, .7), (2, 1, .7)])      # a tenth in float32 is a little more than a tenth
    m = MatrixFactorization(r, k=1)
    assert m.fold_in([0, 1], [.1, .7]).bias == pytest.approx(m.fold_in([0, 1], r.values[:2]).bias)
    assert m.fold_in({1: .7}).bias == pytest.approx(m.fold_in([0], [.7]).bias)

def test_a_newcomers_ratings_by_title():
    _, m = small()
    row = m.fold_in({'godfather': 5, 5: 2})
    assert torch.equal(row.factors, m.fold_in([3, 2], [5, 2]).factors) and row.bias == m.fold_in([3, 2], [5, 2]).bias
    nobody = m.fold_in({})
    assert torch.equal(nobody.factors, m.fold_in([], []).factors)
    with pytest.raises(ValueError, match='9 for 5 is no number from 0.5 to 5'): m.fold_in({5: 9})
    with pytest.raises(ValueError, match='there is no rating beside'): m.fold_in([3, 2])

# --- why ---

def test_why_takes_titles_and_raw_ids():
    _, m = small()
    pd.testing.assert_frame_equal(why(m, {'godfather': 5, 5: 2}, 'Se7en'), why(m, ([3, 2], [5, 2]), 11))
    with pytest.raises(ValueError, match='no item with the id -1'): why(m, {5: 2}, -1)
    with pytest.raises(ValueError, match='ratings are a dict'): why(m, [3, 2, 1], 11)

@settings(max_examples=100, deadline=None)
@given(codes_and_stars, st.integers(0, 7), st.booleans(), st.integers(0, 10**6))
def test_shares_sum_to_the_prediction(ratings, item, per_rating, seed):
    _, m = small(seed=seed, prior_per_rating=per_rating)
    codes, values = [c for c, _ in ratings], [s/2 for _, s in ratings]
    reasons, row = why(m, (codes, values), m.item_ids[item]), m.fold_in(codes, values)
    assert reasons.share.sum() == pytest.approx(m.scores(row)[item].item(), abs=1e-5)
    assert reasons.rated.notna().sum() == len(codes)
    assert sorted(reasons.rated.dropna()) == sorted(values)

def test_a_share_belongs_to_its_rating():
    "One more star for a film moves its own share, and no other."
    r, m = small()
    before, after = (why(m, ([1, 3, 6], [2., s, 3]), 11).set_index('part').share for s in (4., 5.))
    moved = (after - before).abs() > 1e-9
    assert [p for p in moved.index if moved[p]] == r.titles([3])

def test_the_parts_are_in_order_and_an_empty_prior_mean_is_no_part():
    r, m = small()
    parts = why(m, ([1, 3, 6], [1., 5, 3]), 11)
    assert parts.part[:3].tolist() == ['mean of all ratings', 'Seven (a.k.a. Se7en) (1995): its bias', 'expected of anybody']
    assert parts.share[3:].abs().is_monotonic_decreasing
    m.set_prior('user', torch.zeros(4), m.prior('user').precision)
    assert 'expected of anybody' not in why(m, ([1, 3, 6], [1., 5, 3]), 11).part.tolist()

def test_plot_why_writes_every_part_and_ends_at_the_prediction():
    _, m = small()
    reasons = why(m, ([1, 3, 6], [1., 5, 3]), 11)
    ax = plot_why(reasons)
    assert [t.get_text() for t in ax.get_yticklabels()] == ['mean of all ratings', 'Seven (a.k.a. Se7en) (1995): its bias', 'expected of anybody',
        *(f'{p}, rated {s:g}' for p, s in zip(reasons.part[3:], reasons.rated[3:]))]
    assert len(ax.patches) == len(reasons) - 1
    assert ax.patches[-1].get_x() + ax.patches[-1].get_width() == pytest.approx(reasons.share.sum())
    assert [b.get_width() for b in ax.patches] == pytest.approx(reasons.share[1:].tolist())
    up, down = ({b.get_facecolor() for b in ax.patches if (b.get_width() > 0) == sign} for sign in (True, False))
    assert up == {to_rgba('C0')} and down == {to_rgba('C6')}
    plt.close('all')

# --- ratings by title ---

def test_ratings_by_title_and_raw_id():
    for films in small():
        items, values = my_ratings(films, {'godfather': 5, 5: 2, np.int64(20): np.float32(3.5)})
        assert (items.tolist(), values.tolist()) == ([3, 2, 7], [5, 2, 3.5]) and items.dtype == torch.int64
        assert [len(x) for x in my_ratings(films, {})] == [0, 0]

def test_ratings_by_ids_that_are_strings():
    r = Ratings.from_frame(pd.DataFrame(dict(userId=['a', 'b'], movieId=['x', 'y'], rating=[1., 5])), rating_range=(1, 5))
    assert my_ratings(r, {'y': 4})[0].tolist() == [1]
    with pytest.raises(ValueError, match="no item with the id 'q'; the known ids are strings from 'x' to 'y'"): my_ratings(r, {'q': 4})

def test_all_that_cannot_be_used_is_named_at_once():
    stars = {'Toy Story': 5, 1: 4, 999: 3, 998: 3, 'godfathr': 2, 'Se7en': 6, 8: 'good', 12: math.nan, 2: 0, 5: True}
    with pytest.raises(ValueError) as e: my_ratings(small()[1], stars)
    assert str(e.value).split('\n') == ['Toy Story (1995) is rated twice.', 'no item with the id 999; the known ids are numbers from 1 to 20, with gaps.', 'no item with the id 998; the known ids are numbers from 1 to 20, with gaps.',
        "no titles go by 'godfathr'. Did you mean Godfather, The (1972)?", "6 for 'Se7en' is no number from 0.5 to 5.",
        "'good' for 8 is no number from 0.5 to 5.", 'nan for 12 is no number from 0.5 to 5.', '0 for 2 is no number from 0.5 to 5.',
        'True for 5 is no number from 0.5 to 5.']

# --- a prior learned from the rows ---

def test_the_learned_prior_is_the_mean_and_precision_of_rows_with_ratings(tmp_path):
    r, m = small(n_users=30, prior_per_rating=True)
    some = r.take(r.users < 25)
    noise = rmse(m.predict(some), some)**2
    assert learn_prior(m, some) is m and m.prior('user').per_rating is False and m.prior('item').per_rating is False
    for side, n in (('user', 25), ('item', 8)):
        rows, prior = m.rows(side).numpy()[:n].astype(float), m.prior(side)
        assert prior.mean.tolist() == pytest.approx(rows.mean(0), abs=1e-6)
        precision = noise*np.linalg.inv(np.cov(rows.T) + 1e-6*np.eye(4))
        assert np.allclose(prior.precision.numpy(), precision, rtol=1e-4)
    trusted = m.prior('user').precision
    assert torch.allclose(learn_prior(m, some, noise=3*noise).prior('user').precision, 3*trusted, rtol=1e-4)
    m.save(tmp_path/'m.safetensors')
    a, b = m.fold_in([1, 2], [4, 5]), MatrixFactorization.load(tmp_path/'m.safetensors').fold_in([1, 2], [4, 5])
    assert torch.equal(a.factors, b.factors) and a.bias == b.bias

def test_a_factor_of_zeros_leaves_a_prior_that_can_be_used():
    "All rows have the same value there, and so has the newcomer's."
    r, m = small(n_users=30)
    for factors in (m.user_factors, m.item_factors): factors.data[:, 1] = 0
    learn_prior(m, r)
    row = m.fold_in([1, 2, 6], [4, 5, 1])
    assert torch.isfinite(row.factors).all() and abs(row.factors[1]) < 1e-4 < row.factors[[0, 2]].abs().min()

def test_a_prior_is_not_learned_from_ratings_in_other_codes():
    r, m = small()
    other = Ratings.from_frame(r.to_frame().assign(movieId=r.to_frame().movieId + 1), rating_range=(.5, 5))
    for noise in (None, 1.):
        with pytest.raises(ValueError, match='not the same items.*encode'): learn_prior(m, other, noise)

def test_a_prior_is_not_learned_from_one_row():
    r, m = small()
    with pytest.raises(ValueError, match='1 users with ratings do not show how users differ'): learn_prior(m, r.take(r.users == 0))

# --- on the sample ---

@pytest.fixture(scope='module')
def sample(): return load_sample()

@pytest.fixture(scope='module')
def trained(sample):
    "A model that has not met a hundred people, and the ratings of both."
    hidden = sample.users % 7 == 3
    train = sample.take(~hidden)
    torch.set_num_threads(1)
    m = MatrixFactorization(train, k=8)
    fit_sgd(m, train, epochs=8, progress=False)
    return m, train, sample.take(hidden)

def test_folded_people_are_predicted_like_trained_ones(trained):
    m, train, _ = trained
    folded, rows = deepcopy(m), m.rows('user')
    for u in range(0, train.n_users, 5):
        own = train.take(train.users == u)
        if not len(own): continue
        row = m.fold_in(own.items, own.values)
        rows[u] = torch.cat([row.factors, torch.tensor([row.bias])])
    folded.put_rows('user', rows)
    some = train.take(train.users % 5 == 0)
    assert rmse(folded.predict(some), some) < rmse(m.predict(some), some) + .005

def test_newcomers_are_predicted_better_the_more_they_rate(trained):
    "With a learned prior, and with regularization per row, the first ratings help; counted per rating, a single one hurts."
    m, train, hidden = trained
    ready, order = learn_prior(deepcopy(m), train), torch.randperm(len(hidden), generator=torch.Generator().manual_seed(0))
    hidden = hidden.take(order)
    def error(model, n):
        errors = []
        for u in hidden.users.unique().tolist():
            own = hidden.take(hidden.users == u)
            row = model.fold_in(own.items[:n], own.values[:n])
            p = model.scores(row)[own.items[10:].long()].clamp(.5, 5)
            errors.append(p - own.values[10:])
        return torch.cat(errors).square().mean().sqrt().item()
    none, one, ten = (error(ready, n) for n in (0, 1, 10))
    assert none > one > ten + .02
    assert error(m, 0) > error(m, 1) > error(m, 10) + .02
    per_rating = deepcopy(m)
    for side in 'user', 'item': per_rating.set_prior(side, torch.zeros(9), torch.tensor([.12]*8 + [.02]).diag(), per_rating=True)
    assert error(per_rating, 1) > error(per_rating, 0) + .05
