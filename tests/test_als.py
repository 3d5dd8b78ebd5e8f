"Alternating least squares: the chunks, the kernel against lstsq, the loss, resuming, and what bad settings are told."
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from mfbook.als import (ALSSolver, RowPrior, _order, arrange, both_sides, cg_rows, draw_dual, exact_rows, fit_als, gram,
    lookup_table, normal_equations, rated, row_prior, solve_cg, solve_draw, solve_dual, solve_exact, squared_errors, tune_als, update_rows)
from mfbook.holdout import bias_regularization, rmse, split_random
from mfbook.model import MatrixFactorization, rating_unit
from mfbook.ratings import Ratings
from mfbook.runs import fit_biases, read_checkpoint
from mfbook.training import penalized_loss, penalty_of

pytestmark = pytest.mark.usefixtures('one_thread')

def small(n_users=40, n_items=30, n=600, seed=0):
    "Planted ratings, rank one plus noise; item 0 is rated by all, user 1 rated only that, user 2 and item 1 nothing."
    g = np.random.default_rng(seed)
    cells = g.choice(n_users*n_items, n, replace=False)
    u, i = cells // n_items, cells % n_items
    keep = (i > 1) & (u > 2)
    u, i = np.r_[np.delete(np.arange(n_users), 2), u[keep]], np.r_[np.zeros(n_users-1, int), i[keep]]
    a, b = g.normal(size=n_users), g.normal(size=n_items)
    stars = np.clip(np.round(2*(3.3 + a[u]*b[i] + .3*g.normal(size=len(u))))/2, .5, 5)
    whole = pd.DataFrame(dict(userId=np.r_[u, 2], movieId=np.r_[i, 1], rating=np.r_[stars, 3.]))
    return Ratings.from_frame(whole, rating_range=(.5, 5)).take(torch.arange(len(u)))      # user 2 and item 1 keep their codes

@pytest.fixture(scope='module')
def split(): return split_random(small(), seed=0)

def problem(seed, n_rows=9, n_cols=12, n=60, d=4):
    "Random ratings with a row and a column without any, and the other side's rows."
    g = torch.Generator().manual_seed(seed)
    rows, cols = torch.randint(0, n_rows-1, (n,), generator=g).int(), torch.randint(0, n_cols-1, (n,), generator=g).int()
    return rows, cols, torch.randn(n, generator=g), torch.randn(n_cols, d, generator=g), g

def drawn_rows(side, table, prior, sigma, z):
    "Every row drawn, the short ones by the dual way: what lesson 10 does."
    def solve(A, b, at): return solve_draw(A, b, sigma[at], z[at])
    def solve_short(X, y, prior, at): return draw_dual(X, y, prior, sigma[at], z[at])
    return update_rows(side, table, prior, solve, solve_short)

def lstsq(rows, cols, values, other, n_rows, mean, precision, per_rating, weights):
    "Each row by float64 `lstsq` on its own ratings, the prior as made-up ratings below them."
    out, errors = mean.double().repeat(n_rows, 1), 0.
    for r in rows.unique().tolist():
        m = rows == r
        t = other[cols[m].long()].double()
        X, y, s = torch.cat([t[:, :-1], torch.ones(len(t), 1)], 1), values[m] - t[:, -1], weights[m].double().sqrt()
        root = torch.linalg.cholesky(precision.double()*(weights[m].sum() if per_rating else 1)).T
        w = torch.linalg.lstsq(torch.cat([s[:, None]*X, root]), torch.cat([s*y, root @ mean.double()])[:, None]).solution[:, 0]
        out[r], errors = w, errors + (s*(X @ w - y)).square().sum()
    return out, errors

@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 70), st.sampled_from([1, 2, 4, 1024]), st.sampled_from([1, 64, 2**15]), st.booleans(),
       st.booleans(), st.booleans())
def test_every_row_equals_its_own_lstsq(seed, n, longest, most, per_rating, diagonal, weighted):
    rows, cols, values, other, g = problem(seed, n=n)
    mean, root = torch.randn(4, generator=g), torch.randn(4, 4, generator=g)
    precision = (torch.rand(4, generator=g) + .5).diag() if diagonal else root @ root.T + torch.eye(4)
    weights = torch.rand(n, generator=g) + .2 if weighted else None
    side = arrange(rows, cols, values, 9, 12, weights, longest, most)
    prior = RowPrior(mean[None], precision, 'per_rating' if per_rating else None)
    got, squared = exact_rows(side, lookup_table(other), prior)
    want, errors = lstsq(rows, cols, values, other, 9, mean, precision, per_rating, torch.ones(n) if weights is None else weights)
    torch.testing.assert_close(got.double(), want, atol=1e-4, rtol=1e-4)
    assert squared.sum().item() == pytest.approx(errors.item(), abs=1e-3, rel=1e-4)

@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 300), st.sampled_from([1, 3, 16, 1024]), st.sampled_from([1, 40, 500, 2**15]))
def test_chunks_hold_every_rating_once(seed, n, longest, most):
    rows, cols, values, *_ = problem(seed, n=n)
    side, seen = arrange(rows, cols, values, 9, 12, None, longest, most), []
    for c in side.chunks:
        owner = torch.arange(len(c.at)) if c.owner is None else c.owner
        assert len(owner) == len(c.cols) and c.cols.dtype == torch.int32 and c.cols.shape[1] <= longest
        assert c.cols.numel() <= most or len(c.at) == 1, 'a chunk over the limit may hold one row only'
        row, real = c.at[owner][:, None].expand(c.cols.shape), c.cols < 12
        assert (c.values[~real] == 0).all() and (c.cols[~real] == 12).all()
        count, pieces = torch.bincount(row[real], minlength=9)[c.at], torch.bincount(owner)
        assert real.sum(1).min() >= 1 and (-(-count // pieces) >= 3*c.cols.shape[1]//4).all(), 'too much padding'
        assert len(c.cols) <= most//32 or len(c.at) == 1, 'so many Gram matrices that they outgrow the ratings'
        seen += list(zip(row[real].tolist(), c.cols[real].tolist(), c.values[real].tolist()))
    assert sorted(seen) == sorted(zip(rows.tolist(), cols.tolist(), values.tolist()))
    assert torch.equal(rated(side), torch.bincount(rows, minlength=9) > 0)

def test_a_row_of_an_earlier_chunk_is_not_in_a_later_one():
    rows, cols, values, *_ = problem(3, n=300)
    all_rows = torch.cat([c.at for c in arrange(rows, cols, values, 9, 12, None, 4, 40).chunks])
    assert len(all_rows.unique()) == len(all_rows) == 8

def test_a_weight_of_three_is_three_ratings():
    rows, cols, values, other, g = problem(1)
    weights, prior = torch.randint(1, 4, (60,), generator=g), RowPrior(torch.zeros(1, 4), torch.eye(4))
    again = torch.repeat_interleave(torch.arange(60), weights)
    a, ea = exact_rows(arrange(rows, cols, values, 9, 12, weights.float()), lookup_table(other), prior)
    b, eb = exact_rows(arrange(rows[again], cols[again], values[again], 9, 12), lookup_table(other), prior)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ea, eb, atol=1e-4, rtol=1e-4)

def test_a_divided_row_of_the_table_is_a_weight():
    rows, cols, values, other, g = problem(4)
    noise_sd, mean = torch.rand(12, generator=g) + .5, torch.randn(1, 4, generator=g)
    for weight in (None, 'per_rating'):
        prior = RowPrior(mean, torch.eye(4), weight)
        a, ea = exact_rows(arrange(rows, cols, values, 9, 12), lookup_table(other, noise_sd), prior)
        b, eb = exact_rows(arrange(rows, cols, values, 9, 12, 1/noise_sd[cols.long()]**2), lookup_table(other), prior)
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ea, eb, atol=1e-3, rtol=1e-3)

def test_the_weight_of_the_prior_is_each_rows_own_and_errors_are_each_rows_own():
    rows, cols, values, other, g = problem(5)
    side, mean, precision = arrange(rows, cols, values, 9, 12, None, 2, 30), torch.randn(1, 4, generator=g), torch.eye(4)
    weight = torch.rand(9, generator=g) + .1
    got, squared = exact_rows(side, lookup_table(other), RowPrior(mean, precision, weight))
    for r in range(8):
        want, errors = exact_rows(side, lookup_table(other), RowPrior(mean, precision*weight[r]))
        torch.testing.assert_close(got[r], want[r], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(squared[r], errors[r], atol=1e-4, rtol=1e-4)
        t, m = other[cols[rows == r].long()], rows == r
        assert squared[r].item() == pytest.approx((values[m] - t[:, -1] - t[:, :-1] @ got[r, :-1] - got[r, -1]).square().sum().item(), abs=1e-3)
    assert squared[8] == 0 and torch.equal(got[8], mean[0]), 'no ratings'

def test_what_is_to_be_added_is_added_to_each_rows_gram_matrix():
    rows, cols, values, other, g = problem(7)
    other = torch.cat([other, torch.randn(12, 8, generator=g)], 1)                # twelve unknowns: the short way would miss it
    side, mean, S = arrange(rows, cols, values, 9, 12, None, 9, 60), torch.randn(1, 12, generator=g), torch.randn(9, 13, 20, generator=g)
    S, prior = S @ S.mT, RowPrior(mean, torch.eye(12))
    got, squared = exact_rows(side, lookup_table(other), prior, add=lambda at: S[at])
    by_steps, _ = cg_rows(side, lookup_table(other), prior, got, 2, add=lambda at: S[at])
    torch.testing.assert_close(by_steps, got, atol=1e-3, rtol=1e-3)
    for r in range(8):
        t = other[cols[rows == r].long()]
        Xy = torch.cat([t[:, :-1], torch.ones(len(t), 1), values[rows == r, None] - t[:, -1:]], 1)
        G = Xy.T @ Xy + S[r]
        want = torch.linalg.solve(G[:-1, :-1] + prior.precision, G[:-1, -1] + mean[0])
        torch.testing.assert_close(got[r], want, atol=1e-3, rtol=1e-3)
        v = torch.cat([want, -torch.ones(1)])
        torch.testing.assert_close(squared[r], v @ G @ v, atol=1e-2, rtol=1e-3)

@pytest.mark.parametrize('how', ['exact', 'draws', 'steps'])
def test_each_row_may_have_a_prior_mean_of_its_own(how):
    rows, cols, values, other, g = problem(6)
    other = torch.cat([other, torch.randn(12, 8, generator=g)], 1)                # twelve unknowns: short and long rows
    side, means, precision = arrange(rows, cols, values, 9, 12, None, 9, 60), torch.randn(9, 12, generator=g), torch.eye(12)
    z, sigma = torch.randn(9, 12, generator=g), torch.rand(9, generator=g) + .5
    def solved(mean):
        prior = RowPrior(mean, precision)
        if how == 'draws': return drawn_rows(side, lookup_table(other), prior, sigma, z)
        if how == 'steps': return cg_rows(side, lookup_table(other), prior, torch.zeros(9, 12), 4)
        return exact_rows(side, lookup_table(other), prior)
    got, squared = solved(means)
    assert {2*c.cols.shape[1] <= 12 for c in side.chunks} == {True, False}
    for r in range(9):
        want, errors = solved(means[r][None])
        torch.testing.assert_close(got[r], want[r], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(squared[r], errors[r], atol=1e-3, rtol=1e-3)
    assert torch.equal(got[8], means[8]), 'no ratings'

def test_the_table_is_padded_with_zeros():
    t = lookup_table(torch.tensor([[1., 2., 3.], [4., 5., 6.]]))
    assert t.factors.tolist() == [[1, 2], [4, 5], [0, 0]]
    assert (t.one.tolist(), t.bias.tolist()) == ([1, 1, 0], [3, 6, 0])
    halved = lookup_table(torch.tensor([[1., 2., 3.], [4., 5., 6.]]), torch.tensor([1., 2.]))
    assert halved.factors.tolist() == [[1, 2], [2, 2.5], [0, 0]]
    assert (halved.one.tolist(), halved.bias.tolist()) == ([1, .5, 0], [3, 3, 0])

@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 'per_rating', 'own']), st.booleans(), st.booleans())
def test_the_normal_equations_are_those_of_the_ratings(seed, weight, means, weighted):
    "A = X'WX + s Lambda, b = X'Wy + s Lambda m, written out for each row in float64; and the errors of any row."
    rows, cols, values, other, g = problem(seed)
    weights, root = torch.rand(60, generator=g) + .2 if weighted else torch.ones(60), torch.randn(4, 4, generator=g)
    own = torch.rand(9, generator=g) + .1 if weight == 'own' else weight
    prior = RowPrior(torch.randn(9 if means else 1, 4, generator=g), root @ root.T + torch.eye(4), own)
    for c in arrange(rows, cols, values, 9, 12, weights if weighted else None, 4, 64).chunks:
        G, w = gram(c, lookup_table(other)), torch.randn(len(c.at), 4, generator=g)
        (A, b), errors = normal_equations(G, prior, c.at), squared_errors(G, w)
        for at, r in enumerate(c.at.tolist()):
            m = rows == r
            t, W = other[cols[m].long()].double(), weights[m].double().diag()
            X, y = torch.cat([t[:, :-1], torch.ones(len(t), 1)], 1), values[m] - t[:, -1]
            s = W.trace() if weight == 'per_rating' else 1 if weight is None else own[r].double()
            P, mean = s*prior.precision.double(), prior.mean[r if means else 0].double()
            torch.testing.assert_close(A[at].double(), X.T @ W @ X + P, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(b[at].double(), X.T @ W @ y + P @ mean, atol=1e-4, rtol=1e-4)
            off = X @ w[at].double() - y
            torch.testing.assert_close(errors[at].double(), off @ W @ off, atol=1e-3, rtol=1e-4)

def test_standard_normal_numbers_are_turned_into_a_draw():
    "w + sigma L^-T z, z standard normal, L L^T = A: its covariance is sigma^2 times the inverse of A."
    g = torch.Generator().manual_seed(0)
    root, b, z = torch.randn(5, 3, 3, generator=g), torch.randn(5, 3, generator=g), torch.randn(5, 3, generator=g)
    A, sigma = root @ root.mT + torch.eye(3), torch.rand(5, generator=g) + .5
    turned = torch.linalg.solve(torch.linalg.cholesky(A).mT, z[..., None])[..., 0]
    torch.testing.assert_close(solve_draw(A, b, sigma, z), torch.linalg.solve(A, b) + sigma[:, None]*turned, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(solve_exact(A, b), torch.linalg.solve(A, b), atol=1e-4, rtol=1e-4)

@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.booleans())
def test_the_dual_way_is_the_long_way(seed, L, means):
    "The same rows from L unknowns; and draws whose z is zero are those rows."
    g = torch.Generator().manual_seed(seed)
    X, y, root = torch.randn(6, L, 5, generator=g), torch.randn(6, L, generator=g), torch.randn(5, 5, generator=g)
    prior = RowPrior(torch.randn(6 if means else 1, 5, generator=g), root @ root.T + torch.eye(5), torch.rand(6, generator=g) + .2)
    P = prior.weight[:, None, None]*prior.precision
    want = solve_exact(X.mT @ X + P, (X.mT @ y[..., None] + P @ prior.mean.expand(6, 5)[..., None])[..., 0])
    torch.testing.assert_close(solve_dual(X, y, prior), want, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(draw_dual(X, y, prior, torch.ones(6), torch.zeros(6, 5)), solve_dual(X, y, prior), atol=1e-4, rtol=1e-4)

def test_each_z_goes_to_the_row_it_is_for():
    rows, cols, values, other, g = problem(2)
    z, sigma, prior = torch.randn(9, 4, generator=g), torch.rand(9, generator=g) + .5, RowPrior(torch.zeros(1, 4), torch.eye(4))
    a, _ = drawn_rows(arrange(rows, cols, values, 9, 12), lookup_table(other), prior, sigma, z)
    for longest, most in ((2, 30), (4, 2**15)):
        b, _ = drawn_rows(arrange(rows, cols, values, 9, 12, None, longest, most), lookup_table(other), prior, sigma, z)
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)

def test_two_threads_give_the_same_bits():
    r = small(n=900)
    prior = RowPrior(torch.zeros(1, 4), torch.eye(4))
    def run(threads):
        torch.set_num_threads(threads)
        table = lookup_table(torch.linspace(-1, 1, r.n_items*4).view(-1, 4))
        return exact_rows(both_sides(r, r.mean, most=64)['user'], table, prior)
    (a, ea), (b, eb) = run(1), run(2)
    assert torch.equal(a, b) and torch.equal(ea, eb)

@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**5) | st.integers(0, 3), max_size=40), st.booleans(), st.integers(1, 50))
def test_the_order_is_that_of_a_stable_argsort(rows, in_order, more):
    rows = torch.tensor(sorted(rows) if in_order else rows, dtype=torch.int32)
    n_rows = int(rows.max()) + more if len(rows) else more
    for r in (rows, rows.long()):
        order = _order(r, n_rows)
        assert order.dtype == torch.int32 and order.tolist() == torch.argsort(rows, stable=True).tolist()

def test_how_ratings_are_arranged_does_not_depend_on_the_threads_or_on_the_order_of_the_rows():
    rows, cols, values, *_ = problem(4, n=300)
    first = torch.argsort(rows, stable=True)
    def run(threads, *columns):
        torch.set_num_threads(threads)
        return arrange(*columns, 9, 12, columns[2].abs(), longest=8, most=64).chunks
    one, two, in_order = run(1, rows, cols, values), run(2, rows, cols, values), run(1, rows[first], cols[first], values[first])
    assert len(one) > 3
    for a, b, c in zip(one, two, in_order, strict=True):
        for x, y, z in zip(a, b, c): assert x is y is z is None or (torch.equal(x, y) and torch.equal(x, z))

def definite(seed, d=5, n=7):
    "Systems A w = b with their solutions, and rows from which to begin."
    g = torch.Generator().manual_seed(seed)
    root, b, w = (torch.randn(n, d, *m, generator=g) for m in ((d,), (), ()))
    A = root @ root.mT + torch.rand(n, d, generator=g).diag_embed() + .3*torch.eye(d)
    return A, b, w, torch.linalg.solve(A.double(), b.double())

@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_steps_lower_the_height_and_arrive(seed, d):
    "Each step lowers (w - w*)' A (w - w*) of every row; after enough of them the solution itself, from wherever."
    A, b, w, best = definite(seed, d)
    def above(w): return torch.linalg.vecdot(((w - best)[:, None] @ A.double())[:, 0], w - best)
    heights = [above(solve_cg(A, b, w, s)) for s in range(4)]
    assert all((y <= x*(1 + 1e-4) + 1e-6).all() for x, y in zip(heights, heights[1:])) and (heights[1] < heights[0]).all()
    torch.testing.assert_close(solve_cg(A, b, w, 3*d).double(), best, atol=1e-3, rtol=1e-3)

def test_steps_are_the_textbooks():
    "Two steps minimize over start + span{z, M A z}, z = M(b - A start), M the inverse diagonal: preconditioned CG."
    A, b, w, _ = definite(1)
    A, b, w = A.double(), b.double(), w.double()
    for i in range(len(A)):
        M = (1/A[i].diagonal()).diag()
        z = M @ (b[i] - A[i] @ w[i])
        span = torch.stack([z, M @ A[i] @ z], 1)
        want = w[i] + span @ torch.linalg.solve(span.T @ A[i] @ span, span.T @ (b[i] - A[i] @ w[i]))
        torch.testing.assert_close(solve_cg(A, b, w, 2)[i], want, atol=1e-9, rtol=1e-9)

def test_a_row_that_has_arrived_stays():
    A, b = torch.eye(3).expand(2, 3, 3), torch.tensor([[1., 2., 3.], [0., 0., 0.]])
    assert torch.equal(solve_cg(A, b, b, 4), b)

@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_enough_steps_give_the_exact_rows_and_their_errors(seed, per_rating, weighted):
    rows, cols, values, other, g = problem(seed)
    mean, root, start = torch.randn(4, generator=g), torch.randn(4, 4, generator=g), torch.randn(9, 4, generator=g)
    prior = RowPrior(mean[None], root @ root.T + torch.eye(4), 'per_rating' if per_rating else None)
    side = arrange(rows, cols, values, 9, 12, torch.rand(60, generator=g) + .2 if weighted else None, 4, 64)
    a, ea = exact_rows(side, lookup_table(other), prior)
    b, eb = cg_rows(side, lookup_table(other), prior, start, steps=12)
    torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(ea, eb, atol=1e-3, rtol=1e-3)
    assert torch.equal(b[8], mean), 'a row without ratings is the mean, wherever it begins'

def test_without_a_step_it_tells_the_error_of_the_rows_it_was_given():
    rows, cols, values, other, g = problem(7)
    start, prior = torch.randn(9, 4, generator=g), RowPrior(torch.zeros(1, 4), torch.eye(4))
    got, squared = cg_rows(arrange(rows, cols, values, 9, 12, None, 4, 64), lookup_table(other), prior, start, steps=0)
    p, q = start[rows.long()], other[cols.long()]
    assert torch.equal(got[:8], start[:8])
    assert squared.sum().item() == pytest.approx(((p[:, :-1]*q[:, :-1]).sum(1) + p[:, -1] + q[:, -1] - values).square().sum().item(), rel=1e-5)

@pytest.mark.parametrize('short', [False, True])
def test_draws_have_the_mean_and_covariance_that_theory_says(short):
    "Mean A^-1 b and covariance sigma^2 A^-1, a full prior included: 40,000 draws, each moment within five standard errors."
    rows, cols, values, other, g = problem(3)
    n, mean, root, sigma = 40_000, torch.randn(4, generator=g), torch.randn(4, 4, generator=g), .7
    theirs = (rows == 0).nonzero()[:2 if short else None, 0]
    precision, t = root @ root.T + torch.eye(4), other[cols[theirs].long()].double()
    X, y = torch.cat([t[:, :-1], torch.ones(len(t), 1)], 1), values[theirs] - t[:, -1]
    A = X.T @ X + precision.double()
    best, cov = torch.linalg.solve(A, X.T @ y + precision.double() @ mean.double()), sigma**2*torch.linalg.inv(A)
    many = arrange(torch.arange(n).repeat_interleave(len(t)).int(), cols[theirs].repeat(n), values[theirs].repeat(n), n, 12)
    assert all((2*c.cols.shape[1] <= 4) == short for c in many.chunks), 'both ways are to be tried'
    z = torch.randn(n, 4, generator=g)
    draws = drawn_rows(many, lookup_table(other), RowPrior(mean[None], precision), torch.full((n,), sigma), z)[0].double()
    assert ((draws.mean(0) - best)/(cov.diagonal()/n).sqrt()).abs().max() < 5
    spread = ((cov.diagonal()[:, None]*cov.diagonal() + cov**2)/n).sqrt()
    assert ((draws.T.cov() - cov)/spread).abs().max() < 5

@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 5), st.floats(.01, 3), st.floats(.01, 3), st.booleans(),
       st.sampled_from([None, 1, 3]))
def test_the_loss_never_rises(seed, k, reg, bias_reg, per_rating, steps):
    r = small(seed=seed % 7)
    m = MatrixFactorization(r, k=k, seed=seed, init_std=.5)
    regs = torch.tensor([reg]*k + [bias_reg])
    prior = RowPrior(torch.zeros(1, k+1), regs.diag(), 'per_rating' if per_rating else None)
    count = {'user': torch.bincount(r.users, minlength=r.n_users), 'item': torch.bincount(r.items, minlength=r.n_items)}
    def loss():
        squared = (m(r.users, r.items) - r.values).detach().double().square().sum()
        penalty = sum((regs*m.rows(s).double().square()*(count[s][:, None] if per_rating else 1)).sum() for s in count)
        return (squared + penalty).item()
    sides = both_sides(r, m.mean, longest=16, most=256)
    losses = [loss()]
    for _ in range(4):
        for name, other in (('item', 'user'), ('user', 'item')):
            table = lookup_table(m.rows(other))
            if steps is None: rows, _ = exact_rows(sides[name], table, prior)
            else: rows, _ = cg_rows(sides[name], table, prior, m.rows(name), steps)
            m.put_rows(name, rows)
            losses.append(loss())
    assert all(b <= a*(1 + 1e-5) for a, b in zip(losses, losses[1:])) and losses[-1] < losses[0]

@pytest.mark.parametrize('per_rating, reg, bias_reg', [(True, .1, .05), (False, 2., 1.), (False, 2., None)])
def test_the_users_it_leaves_are_where_the_gradient_of_lesson_04s_loss_is_zero(split, per_rating, reg, bias_reg):
    "The same settings mean the same objective: `fit_sgd` makes its steps on standardized ratings, where this loss is taken."
    m = MatrixFactorization(split.train, k=3)
    fit_als(m, split.train, sweeps=5, reg=reg, bias_reg=bias_reg, per_rating=per_rating)
    unit = rating_unit(split.train)
    m.rescale(1/unit)
    penalty = penalty_of(split.train, reg, bias_regularization(split.train) if bias_reg is None else bias_reg, per_rating)
    penalized_loss(m, split.train.users, split.train.items, split.train.values/unit, penalty)[1].backward()
    assert m.user_factors.grad.abs().max() < 1e-6 and m.user_bias.grad.abs().max() < 1e-6
    assert 1e-6 < m.item_factors.grad.abs().max() < 1e-2

def test_without_factors_it_finds_the_biases_of_lesson_03(split):
    m, b = MatrixFactorization(split.train, k=0), MatrixFactorization(split.train, k=0)
    fit_als(m, split.train, sweeps=100, bias_reg=2.)
    fit_biases(b, split.train, reg_user=2, reg_item=2)
    for side in ('user', 'item'): torch.testing.assert_close(m.rows(side), b.rows(side), atol=1e-4, rtol=1e-4)

@pytest.mark.parametrize('per_rating', [False, True])
def test_rows_without_a_rating_are_zero_and_rows_with_one_are_finite(per_rating):
    r = small()
    m = MatrixFactorization(r, k=5)
    fit_als(m, r, sweeps=3, reg=.5, bias_reg=.5, per_rating=per_rating)
    user, item = m.rows('user'), m.rows('item')
    assert (user[2] == 0).all() and (item[1] == 0).all()
    assert user.isfinite().all() and item.isfinite().all() and (user[1] != 0).any()
    assert int((r.users == 1).sum()) == 1 and int((r.items == 0).sum()) == r.n_users - 1

def test_it_learns_what_was_planted(split):
    m = MatrixFactorization(split.train, k=4)
    before = rmse(m.predict(split.valid), split.valid)
    h = fit_als(m, split.train, split.valid, sweeps=10, reg=1., bias_reg=1.)
    assert rmse(m.predict(split.valid), split.valid) < .75*before and len(h.frame()) <= 10
    assert h.best['train'] == pytest.approx(rmse(m(split.train.users, split.train.items).detach(), split.train), abs=1e-5)
    assert h.best['valid'] == pytest.approx(rmse(m.predict(split.valid), split.valid), abs=1e-6)

def test_the_best_sweeps_weights_are_restored_and_patience_stops_it(split):
    m = MatrixFactorization(split.train, k=2)
    h = fit_als(m, split.train, split.valid, sweeps=40, reg=.5, bias_reg=.5, patience=3)
    assert h.best_sweep < len(h.rows) == h.best_sweep + 3 < 40
    assert rmse(m.predict(split.valid), split.valid) == pytest.approx(h.frame().valid.min(), abs=1e-6)

def test_a_user_folded_in_from_his_own_ratings_gets_his_own_row(split):
    train = split.train
    for per_rating in (False, True):
        m = MatrixFactorization(train, k=3)
        fit_als(m, train, split.valid, sweeps=4, reg=.3, bias_reg=.2, per_rating=per_rating)
        prior = m.prior('user')
        assert prior.per_rating == m.prior('item').per_rating == per_rating
        for u in train.users.unique().tolist():
            mine = train.users == u
            i, n = train.items[mine].long(), int(mine.sum()) if per_rating else 1
            X = torch.cat([m.item_factors.detach()[i], torch.ones(len(i), 1)], 1)
            y = train.values[mine] - m.mu.detach() - m.item_bias.detach()[i]
            L = prior.precision*n
            w = torch.linalg.solve(X.T @ X + L, X.T @ y + L @ prior.mean)
            torch.testing.assert_close(w, m.rows('user')[u], atol=1e-4, rtol=1e-4)

def test_the_prior_is_saved_with_the_model(split, tmp_path):
    m = MatrixFactorization(split.train, k=2)
    fit_als(m, split.train, sweeps=1, reg=.3, bias_reg=.2, per_rating=True)
    m.save(tmp_path/'m.safetensors')
    back = MatrixFactorization.load(tmp_path/'m.safetensors')
    for side in ('user', 'item'):
        prior = back.prior(side)
        of_factors = .3*rating_unit(split.train)
        assert prior.per_rating and torch.allclose(prior.precision, torch.tensor([of_factors, of_factors, .2]).diag()) and (prior.mean == 0).all()

def test_each_sweep_leaves_its_prior_in_the_model(split):
    "Whatever was in the model before, and whichever sweep is kept."
    m = MatrixFactorization(split.train, k=2)
    solver = ALSSolver(m, split.train, reg=.3, bias_reg=.2, per_rating=True)
    for side in ('user', 'item'): m.set_prior(side, torch.ones(3), 5*torch.eye(3))
    solver.sweep()
    for side in ('user', 'item'):
        mean, precision, weight = row_prior(m.prior(side))
        of_factors = .3*rating_unit(split.train)
        assert mean.tolist() == [[0, 0, 0]] and torch.allclose(precision, torch.tensor([of_factors, of_factors, .2]).diag()) and weight == 'per_rating'

@pytest.mark.parametrize('cg_steps', [None, 2])
def test_a_solver_holds_nothing_that_the_next_sweep_depends_on(split, cg_steps):
    "A new solver for each sweep, one that was given the arranged ratings, and `fit`: the same bits."
    own = dict(reg=1., bias_reg=1., cg_steps=cg_steps)
    a, b, c, d = (MatrixFactorization(split.train, k=3) for _ in range(4))
    first = ALSSolver(a, split.train, **own)
    assert first.state_dict() == {} and first.load_state_dict({}) is None
    rows = [first.sweep() for _ in range(3)]
    assert rows == [ALSSolver(b, split.train, **own).sweep() for _ in range(3)]
    assert rows == [ALSSolver(c, split.train, **own, sides=first.sides).sweep() for _ in range(3)]
    history = fit_als(d, split.train, sweeps=3, **own)
    assert [row['train'] for row in rows] == history.frame().train.tolist()
    for other in (b, c, d):
        for n, t in a.state_dict().items(): assert torch.equal(t, other.state_dict()[n]), n
    assert rows[-1]['train'] == pytest.approx(rmse(a(split.train.users, split.train.items).detach(), split.train), abs=1e-6)

def test_a_solver_refuses_ratings_in_other_codes(split):
    with pytest.raises(ValueError, match='train has'): ALSSolver(MatrixFactorization(small(n_users=50), k=2), split.train)

def test_a_fit_in_steps_ends_where_the_exact_one_does(split):
    def run(steps):
        m = MatrixFactorization(split.train, k=3)
        return m, fit_als(m, split.train, split.valid, sweeps=12, reg=1., bias_reg=1., patience=99, cg_steps=steps)
    (m, exact), (w, walked), (_, all_the_way) = run(None), run(3), run(30)
    assert walked.rows[-1]['valid'] == pytest.approx(exact.rows[-1]['valid'], abs=2e-2)
    assert all_the_way.rows[-1]['train'] == pytest.approx(exact.rows[-1]['train'], abs=1e-4)
    assert not torch.equal(m.user_factors, w.user_factors)
    assert (w.rows('user')[2] == 0).all() and (w.rows('item')[1] == 0).all()

@pytest.mark.parametrize('after', [1, 2, 5])
def test_cut_off_and_resumed_equals_uninterrupted_bit_for_bit(split, tmp_path, after):
    class Cut(Exception): pass
    kw = dict(sweeps=6, reg=1., bias_reg=1., checkpoint=tmp_path/'als.pt')
    a, b, c = (MatrixFactorization(split.train, k=3) for _ in range(3))
    calls = []
    def predict(ratings):
        calls.append(1)
        if len(calls) > after: raise Cut
        return MatrixFactorization.predict(a, ratings)
    a.predict = predict
    with pytest.raises(Cut): fit_als(a, split.train, split.valid, **kw)
    assert len(read_checkpoint(tmp_path/'als.pt')['rows']) == after
    hb = fit_als(b, split.train, split.valid, **kw)
    hc = fit_als(c, split.train, split.valid, **kw | dict(checkpoint=None))
    for n, t in b.state_dict().items(): assert torch.equal(t, c.state_dict()[n]), n
    assert hb.frame().drop(columns='seconds').equals(hc.frame().drop(columns='seconds'))

def test_a_checkpoint_of_another_run_is_refused(split, tmp_path):
    kw = dict(sweeps=2, reg=1., bias_reg=1., checkpoint=tmp_path/'als.pt')
    fit_als(MatrixFactorization(split.train, k=2), split.train, **kw)
    for other, says in [(dict(reg=2.), 'reg was 1.0, is 2.0'), (dict(per_rating=True), 'per_rating was False, is True'),
                        (dict(cg_steps=3), 'cg_steps was None, is 3')]:
        with pytest.raises(ValueError, match=says): fit_als(MatrixFactorization(split.train, k=2), split.train, **kw | other)
    with pytest.raises(ValueError, match='k was 2, is 3'): fit_als(MatrixFactorization(split.train, k=3), split.train, **kw)
    with pytest.raises(ValueError, match='train was'): fit_als(MatrixFactorization(split.train, k=2), split.valid, **kw)

def test_tune_ranks_by_validation(split):
    f = tune_als(split.train, split.valid, [dict(k=2, reg=500.), dict(k=2, reg=.5)], sweeps=5, bias_reg=1.)
    assert f.valid.is_monotonic_increasing and f.reg.tolist() == [.5, 500.]

@pytest.mark.parametrize('bad, says', [(dict(sweeps=0), 'sweeps is 0'), (dict(sweeps=1.5), 'sweeps is 1.5'), (dict(reg=0), 'above 0'),
    (dict(cg_steps=0), 'cg_steps is 0'), (dict(cg_steps=2.5), 'cg_steps is 2.5'),
    (dict(reg=float('nan')), 'above 0'), (dict(bias_reg=-1), 'above 0'), (dict(patience=0), 'patience is 0')])
def test_bad_settings_are_named(split, bad, says):
    with pytest.raises(ValueError, match=says): fit_als(MatrixFactorization(split.train, k=2), split.train, **bad)

def test_bad_ratings_are_named(split):
    m = MatrixFactorization(split.train, k=2)
    with pytest.raises(ValueError, match='train holds no ratings'): fit_als(m, split.train.take(slice(0, 0)))
    with pytest.raises(ValueError, match='valid has .* users'): fit_als(m, split.train, small(n_users=20, n=300))

def test_progress_is_quiet_under_ci_and_shown_when_asked(split, capsys, monkeypatch):
    monkeypatch.setenv('CI', 'true')
    fit_als(MatrixFactorization(split.train, k=2), split.train, sweeps=2)
    assert capsys.readouterr().err == ''
    fit_als(MatrixFactorization(split.train, k=2), split.train, split.valid, sweeps=2, progress=True)
    err = capsys.readouterr().err
    assert '2/2' in err and 'valid=' in err

def test_the_corner_of_the_gram_matrix_counts_and_sums_squares():
    rows, cols, values, other, _ = problem(5)
    side = arrange(rows, cols, values, 9, 12, None, 3, 100)
    for c in side.chunks:
        G = gram(c, lookup_table(other))
        for r, g in zip(c.at.tolist(), G):
            m = rows == r
            assert g[-2, -2].item() == pytest.approx(int(m.sum()))
            assert g[-1, -1].item() == pytest.approx((values[m] - other[cols[m].long(), -1]).square().sum().item(), rel=1e-4)

@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.booleans())
def test_short_rows_take_the_short_way_to_the_same_answer(seed, per_rating, scaled, weighted):
    "Twelve unknowns, one to six ratings a row: the short way; against `lstsq`, and against the long way."
    g = torch.Generator().manual_seed(seed)
    rows = torch.repeat_interleave(torch.arange(6), torch.arange(1, 7)).int()
    cols, values, other = torch.randint(0, 9, (21,), generator=g).int(), torch.randn(21, generator=g), torch.randn(9, 12, generator=g)
    mean, root, weights = torch.randn(12, generator=g), torch.randn(12, 12, generator=g), torch.rand(21, generator=g) + .2
    precision, scale = root @ root.T + torch.eye(12), torch.rand(6, generator=g) + .5 if scaled and not per_rating else None
    side = arrange(rows, cols, values, 6, 9, weights if weighted else None)
    prior = RowPrior(mean[None], precision, 'per_rating' if per_rating else scale)
    def long(A, b, at): pytest.fail('all of these rows are short')
    def short(X, y, prior, at): return solve_dual(X, y, prior)
    got, squared = update_rows(side, lookup_table(other), prior, long, short)
    assert all(torch.equal(a, b) for a, b in zip((got, squared), exact_rows(side, lookup_table(other), prior)))
    the_long_way = update_rows(side, lookup_table(other), prior, lambda A, b, at: solve_exact(A, b))
    torch.testing.assert_close(got, the_long_way[0], atol=1e-3, rtol=1e-3)
    w = weights if weighted else torch.ones(21)
    for r in range(6):
        s = 1. if scale is None else scale[r].item()
        want, errors = lstsq(rows[rows == r]*0, cols[rows == r], values[rows == r], other, 1, mean, precision*s, per_rating, w[rows == r])
        torch.testing.assert_close(got[r].double(), want[0], atol=1e-3, rtol=1e-3)
        assert squared[r].item() == pytest.approx(errors.item(), abs=1e-3, rel=1e-2)

def test_short_rows_are_drawn_with_the_mean_and_covariance_of_theory():
    g = torch.Generator().manual_seed(0)
    Xy, mean, root = torch.randn(1, 3, 7, generator=g), torch.randn(6, generator=g), torch.randn(6, 6, generator=g)
    precision, scale, n = root @ root.T + torch.eye(6), .7, 60_000
    X, y, P = Xy[0, :, :6].double(), Xy[0, :, 6].double(), precision.double()*scale
    A = X.T @ X + P
    want, cov = torch.linalg.solve(A, X.T @ y + P @ mean.double()), A.inverse()
    prior, z = RowPrior(mean[None], precision, torch.full((n,), scale)), torch.randn(n, 6, generator=g)
    draws = draw_dual(Xy[..., :6].expand(n, 3, 6), Xy[..., 6].expand(n, 3), prior, torch.full((n,), .6), z).double()
    cov = .6**2*cov
    assert ((draws.mean(0) - want)/(cov.diagonal()/n).sqrt()).abs().max() < 5
    spread = ((cov.diagonal()[:, None]*cov.diagonal() + cov**2)/n).sqrt()
    assert ((draws.T.cov() - cov)/spread).abs().max() < 5
