"The model: its five tensors, predictions, and the accessors that everything else is written against."
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st

from mfbook.model import (MatrixFactorization, OTHER, SIDES, Row, check_ratings, check_whole,
                          predict_pairs, rating_unit)
from mfbook.ratings import Ratings, load_sample

TENSORS = ['mu', 'user_bias', 'item_bias', 'user_factors', 'item_factors']

def few(names=False, movies=False):
    "Six ratings by three users of four films, all of which somebody rated."
    frame = pd.DataFrame(dict(userId=[3, 3, 5, 5, 9, 9],
                              movieId=[10, 20, 20, 40, 10, 30],
                              rating=[4., 3, 5, 1, 2, 4]))
    if names:
        frame['userId'] = 'u' + frame.userId.astype(str)
        frame['movieId'] = 'f' + frame.movieId.astype(str)
    ratings = Ratings.from_frame(frame, rating_range=(1, 5))
    if not movies: return ratings
    return replace(ratings, movies=pd.DataFrame(dict(
        movieId=ratings.item_ids,
        title=['Ça va', None, 'B', 'C'],
        year=pd.array([1999, None, 2000, None], dtype='Int16'),
        genres=['Drama', None, 'A|B', 'X'])))

def filled(ratings, k=3, seed=0):
    "A model of `ratings` with every number drawn at random."
    model = MatrixFactorization(ratings, k=k)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    for side in SIDES:
        mean = torch.randn(k+1, generator=generator)
        precision = torch.randn(k+1, k+1, generator=generator)
        model.set_prior(side, mean, precision, per_rating=side == 'user')
    return model

# --- the start ---

def test_it_begins_at_the_mean_with_zero_rows_where_nobody_rated():
    ratings = load_sample()
    train = ratings.take(ratings.items != 5)
    model = MatrixFactorization(train, k=8)
    assert [name for name, _ in model.named_parameters()] == TENSORS
    assert all(tensor.dtype == torch.float32 for tensor in model.parameters())
    assert (model.item_factors[5] == 0).all() and (model.item_factors[6] != 0).all()
    assert (model.user_bias == 0).all() and (model.item_bias == 0).all()
    assert model.mu.item() == pytest.approx(train.values.double().mean().item(), abs=1e-6)
    assert model.item_factors[model.item_factors != 0].std().item() == pytest.approx(.05, rel=.05)
    cold = ratings.take(ratings.items == 5)
    assert torch.allclose(model.predict(cold), model.mu.detach().expand(len(cold)))

def test_users_without_ratings_are_zero_too():
    ratings = load_sample()
    model = MatrixFactorization(ratings.take(ratings.users != 5), k=8)
    assert (model.user_factors[5] == 0).all() and (model.user_factors[6] != 0).all()

def test_the_seed_decides_the_start():
    a, b, c = (MatrixFactorization(few(), k=4, seed=seed).item_factors for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)

def test_init_std_counts_and_sides_differ():
    model = MatrixFactorization(load_sample(), init_std=.2)
    assert model.k == 32 and model.user_factors.std().item() == pytest.approx(.2, rel=.05)
    assert not torch.equal(model.user_factors[:9], model.item_factors[:9])

def test_the_start_is_random_numbers_in_roots_of_the_ratings_unit():
    "To the bit: stored results depend on them."
    model = MatrixFactorization(few(), k=2, seed=3)
    std = .05 * rating_unit(few())**.5
    generator = torch.Generator().manual_seed(3)
    users = std * torch.randn(3, 2, generator=generator)
    items = std * torch.randn(4, 2, generator=generator)
    assert torch.equal(model.user_factors.detach(), users)
    assert torch.equal(model.item_factors.detach(), items)

def test_the_unit_is_the_ratings_standard_deviation():
    assert rating_unit(few()) == pytest.approx(np.std([4., 3, 5, 1, 2, 4]))
    equal = replace(few(), values=torch.full((6,), 3.))
    assert 0 < rating_unit(equal) < 1e-5

@pytest.mark.parametrize('factor', [.05, 1., 20.])
def test_the_start_does_not_depend_on_the_scale(factor):
    ratings = few()
    scaled = replace(ratings, values=factor*ratings.values, rating_range=(factor, 5*factor))
    model = MatrixFactorization(ratings, k=3)
    expected = factor*model(ratings.users, ratings.items)
    got = MatrixFactorization(scaled, k=3)(ratings.users, ratings.items)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)

@pytest.mark.parametrize('factor', [.05, 1., 20.])
def test_rescale_multiplies_every_prediction_in_place(factor):
    ratings = few()
    model = filled(ratings)
    tensors = list(model.parameters())
    expected = factor*model(ratings.users, ratings.items).detach()
    scores = factor*model.scores(1)
    model.rescale(factor)
    assert all(one is other for one, other in zip(tensors, model.parameters()))
    torch.testing.assert_close(model(ratings.users, ratings.items).detach(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.scores(1), scores, rtol=1e-4, atol=1e-5)

@pytest.mark.parametrize('k', [-1, 1.5, math.nan, math.inf, None, 'many'])
def test_a_bad_k_is_named(k):
    with pytest.raises(ValueError, match=f'k is {k}; it must be a whole number, 0 or more'):
        MatrixFactorization(few(), k=k)

@pytest.mark.parametrize('k', [2, 2., np.int64(2), np.float32(2), torch.tensor(2)])
def test_any_whole_number_is_a_k(k):
    assert MatrixFactorization(few(), k=k).k == 2

def test_a_setting_below_its_minimum_is_named():
    check_whole('sweeps', 1, minimum=1)
    with pytest.raises(ValueError, match='sweeps is 0; it must be a whole number, 1 or more'):
        check_whole('sweeps', 0, minimum=1)

def test_no_ratings_are_refused():
    with pytest.raises(ValueError, match='no ratings'):
        MatrixFactorization(few().take(slice(0, 0)))

def test_device_is_obeyed():
    model = MatrixFactorization(few(), device='meta')
    assert {tensor.device.type for tensor in model.state_dict().values()} == {'meta'}
    assert model.device.type == 'meta'

# --- predictions ---

@settings(max_examples=30, deadline=None)
@given(st.integers(0, 6), st.integers(1, 9), st.integers(0, 999))
def test_predictions_equal_a_plain_loop_in_batches_of_any_size(k, batch_size, seed):
    ratings = few()
    model = filled(ratings, k, seed)
    mu, b_u, b_i, P, Q = (tensor.detach().double().numpy() for tensor in model.parameters())
    by_hand = [min(5, max(1, mu + b_u[u] + b_i[i] + P[u] @ Q[i]))
               for u, i in zip(ratings.users, ratings.items)]
    got = model.predict(ratings, batch_size=batch_size)
    assert got.dtype == torch.float32 and not got.requires_grad
    np.testing.assert_allclose(got, by_hand, atol=1e-5)
    for u in range(ratings.n_users):
        scores = model.scores(u)
        assert scores.dtype == torch.float32 and not scores.requires_grad
        np.testing.assert_allclose(scores, mu + b_u[u] + b_i + Q @ P[u], atol=1e-5)

def test_the_formula_for_pairs():
    mu, b_u, b_i = 3., torch.tensor([.5, 0.]), torch.tensor([0., -1.])
    p = torch.tensor([[1., 2.], [0., 1.]])
    q = torch.tensor([[3., 1.], [5., 2.]])
    assert predict_pairs(mu, p, b_u, q, b_i).tolist() == [3 + .5 + 5, 3 - 1 + 2]

def test_scores_are_not_clamped_and_predictions_are():
    model = filled(few())
    with torch.no_grad(): model.mu.fill_(40.)
    assert model.scores(0).min() > 5 and (model.predict(few()) == 5).all()

def test_gradients_reach_the_rows_that_were_used_and_no_others():
    model = filled(few())
    model(torch.tensor([1], dtype=torch.int32), torch.tensor([2], dtype=torch.int32)).sum().backward()
    assert torch.equal(model.user_factors.grad[1], model.item_factors.detach()[2])
    assert (model.user_factors.grad[[0, 2]] == 0).all()
    assert model.item_bias.grad.tolist() == [0, 0, 1, 0] and model.mu.grad == 1

def test_gradients_are_the_same_on_several_threads():
    threads, gradients = torch.get_num_threads(), []
    try:
        torch.set_num_threads(2)
        ratings = load_sample()
        for _ in range(8):
            model = MatrixFactorization(ratings, k=16)
            (model(ratings.users, ratings.items) - ratings.values).square().sum().backward()
            gradients.append(model.item_factors.grad)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)

def test_batches_bound_the_rows_in_flight(monkeypatch):
    model, sizes, forward = filled(few()), [], MatrixFactorization.forward
    def counted(self, users, items):
        sizes.append(len(users))
        return forward(self, users, items)
    monkeypatch.setattr(MatrixFactorization, 'forward', counted)
    model.predict(few(), batch_size=4)
    assert sizes == [4, 2]
    n = 2**21
    zeros = torch.zeros(n, dtype=torch.int32)
    big = replace(few(), users=zeros, items=zeros, values=torch.ones(n), timestamps=None)
    sizes.clear()
    model.predict(big)
    assert sum(sizes) == n and max(sizes) <= 2**20

@pytest.mark.parametrize('batch_size', [0, -1, 1.5])
def test_a_bad_batch_size_is_named(batch_size):
    with pytest.raises(ValueError, match='batch_size'):
        filled(few()).predict(few(), batch_size=batch_size)

# --- ids and codes ---

def test_bad_codes_are_named():
    model = filled(few())
    with pytest.raises(ValueError, match='671 users, the model for 3,.*encode'):
        model.predict(load_sample())
    for code in (-1, 3):
        with pytest.raises(IndexError, match=f'user {code} .* 0 to 2.*user_code'): model.scores(code)
    for code in (-1, 4):
        with pytest.raises(IndexError, match=f'item {code} .* 0 to 3.*item_code'): model.row('item', code)
    assert model.user_code(5) == 1 and model.item_code(40) == 3
    with pytest.raises(KeyError, match='no item with the id 41'): model.item_code(41)
    named = filled(few(names=True))
    assert named.user_code('u9') == 2
    with pytest.raises(KeyError, match="no user with the id 'mia'"): named.user_code('mia')

def test_an_unknown_id_is_named_in_plain_numbers():
    with pytest.raises(KeyError) as error: filled(few()).user_code(4)
    assert 'np.' not in str(error.value)

def test_one_wrong_side_is_enough():
    model, ratings = filled(few()), few()
    for other in (replace(ratings, item_ids=ratings.item_ids[:3]),
                  replace(ratings, user_ids=ratings.user_ids[:2])):
        for check in (model.predict, model.check_codes):
            with pytest.raises(ValueError, match='encode'): check(other)

@pytest.mark.parametrize('code', [9, -1])
@pytest.mark.parametrize('side, n', [('item', 4), ('user', 3)])
def test_a_code_out_of_range_is_named(code, side, n):
    ratings = few()
    codes = getattr(ratings, f'{side}s').clone()
    codes[2] = code
    wrong = replace(ratings, **{f'{side}s': codes})
    for check in (filled(ratings).predict, filled(ratings).check_codes):
        with pytest.raises(IndexError, match=f'{side} code {code}.*{n}'): check(wrong)

def test_other_ids_of_the_same_number_are_refused():
    others = Ratings.from_frame(pd.DataFrame(dict(
        userId=[103, 105, 109, 103], movieId=[1, 2, 3, 4], rating=[1., 2, 3, 4])))
    model = filled(few())
    with pytest.raises(ValueError, match='encode'): model.predict(others)
    with pytest.raises(ValueError, match='encode'): check_ratings(model, 'train', others)

def test_ratings_to_train_on_are_checked_by_name():
    model = filled(few())
    check_ratings(model, 'train', few())
    with pytest.raises(ValueError, match='train holds no ratings'):
        check_ratings(model, 'train', few().take(slice(0, 0)))
    with pytest.raises(ValueError, match='valid has 671 users and 9066 items, the model 3 and 4.*Split one'):
        check_ratings(model, 'valid', load_sample())

# --- raw ids ---

PAIRS = pd.DataFrame(dict(userId=[9, 4, 3, 4, 9], movieId=[40, 10, 99, 99, 10]), index=list('vwxyz'))

def test_a_table_of_raw_ids_gets_a_prediction_for_each_row():
    model = filled(few())
    scores = model.scores_of(model.rows('user')).clamp(1, 5)
    predicted = model.predict(PAIRS)
    assert isinstance(predicted, pd.Series) and predicted.dtype == np.float32 and predicted.index.tolist() == list('vwxyz')
    fallback = [model.baseline('item')[0].item(), model.baseline('user')[0].item(), model.mean]
    fallback = np.clip(fallback, 1, 5)
    assert predicted.tolist() == pytest.approx([scores[2, 3].item(), *fallback, scores[2, 0].item()], abs=1e-5)
    assert model.knows(PAIRS).to_dict('list') == dict(userId=[True, False, True, False, True], movieId=[True, True, False, False, True])
    assert model.knows(PAIRS).index.tolist() == list('vwxyz')

def test_raw_ids_and_codes_give_the_same_predictions():
    ratings = load_sample()
    model = filled(ratings, k=2)
    some = ratings.take(slice(None, None, 50))
    codes = model.predict(some)
    for table in (some.to_frame(), some.to_frame().astype({'userId': 'Int64', 'movieId': 'category'}), some.to_frame().to_dict('list'),
                  some.to_frame()[['userId', 'movieId']].values.tolist()):
        assert np.array_equal(model.predict(table), codes) and model.knows(table).all(axis=None)
    renamed = some.to_frame().rename(columns={'userId': 'who', 'movieId': 'what'})
    assert np.array_equal(model.predict(renamed, user='who', item='what', batch_size=7), codes)
    assert list(model.knows(renamed, user='who', item='what')) == ['who', 'what']
    with pytest.raises(ValueError, match="no column 'userId' among .*'who', 'what'.*user="): model.predict(renamed)

def test_an_empty_table_has_no_predictions():
    model = filled(few())
    assert len(model.predict(PAIRS[:0])) == 0 and model.knows(PAIRS[:0]).shape == (0, 2)
    assert model.predict(few().take([])).shape == (0,)

@pytest.mark.parametrize('table, says', [
    (PAIRS.astype({'userId': str}), r"ids in 'userId' are strings, like '9', and the known ones numbers, like 3.*astype\(int\)"),
    (PAIRS.astype({'movieId': float}).replace(99, np.nan), "row 2, column 'movieId': an id is missing"),
    (PAIRS + .5, "row 0 .*'userId': 9.5 is not a whole number"), ('pairs.csv', 'a frame is wanted'), (None, 'a frame is wanted'),
    (np.ones(5), 'rows has 2 to 4 entries')])
def test_tables_that_cannot_be_predicted(table, says):
    with pytest.raises(ValueError, match=says): filled(few()).predict(table)

def test_an_id_of_the_other_kind_is_pointed_out():
    model, named = filled(few()), filled(few(names=True))
    with pytest.raises(KeyError, match=r"no user with the id '3'; the known ids are numbers from 3 to 9, with gaps. 3 is one of them"): model.user_code('3')
    with pytest.raises(KeyError) as e: model.user_code('4')
    assert 'one of them' not in str(e.value)
    with pytest.raises(KeyError, match="are strings from 'u3' to 'u9'"): named.user_code(3)
    digits = filled(Ratings.from_frame(dict(userId=['3', '4'], movieId=[1, 2], rating=[1., 2])))
    with pytest.raises(KeyError, match="no user with the id 3; .*'3' is one of them"): digits.user_code(3)
    with pytest.raises(KeyError) as e: digits.item_code(7)
    assert 'numbers from 1 to 2.' in str(e.value) and 'gaps' not in str(e.value)

@pytest.mark.parametrize('raw_id', [True, None, [3], (3, 5), {3}, np.array([3]), math.nan, 3.5, torch.tensor([3]), pd.NA])
def test_what_is_no_id_is_no_user(raw_id):
    with pytest.raises(KeyError, match='no user with the id'): filled(few()).user_code(raw_id)

@pytest.mark.parametrize('raw_id', [5, 5., np.int64(5), np.float32(5), torch.tensor(5)])
def test_a_number_of_any_kind_is_an_id(raw_id):
    assert filled(few()).user_code(raw_id) == 1
    assert filled(few(names=True)).user_code(np.str_('u5')) == 1

@pytest.mark.parametrize('code', [1.5, True, '1', None, [1], torch.tensor([1]), slice(1)])
def test_what_is_no_code_has_no_row(code):
    for call in (lambda: filled(few()).row('item', code), lambda: filled(few()).scores(code)):
        with pytest.raises(IndexError, match='is no code of this model'): call()

def test_a_code_of_any_kind_has_a_row():
    model = filled(few())
    for code in (1, np.int32(1), torch.tensor(1)): assert torch.equal(model.row('user', code).factors, model.rows('user')[1, :-1])

# --- rows ---

@pytest.mark.parametrize('k', [0, 3])
@pytest.mark.parametrize('side', SIDES)
def test_rows_are_a_copy_and_are_put_back(side, k):
    model = filled(few(), k)
    rows = model.rows(side)
    n = len(getattr(model, f'{side}_ids'))
    assert rows.shape == (n, k+1) and rows.dtype == torch.float32 and not rows.requires_grad
    assert torch.equal(rows[:, :-1], getattr(model, f'{side}_factors'))
    assert torch.equal(rows[:, -1], getattr(model, f'{side}_bias'))

    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows += 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())

    model.put_rows(side, rows)
    assert torch.equal(model.rows(side), rows)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {f'{side}_bias'} | ({f'{side}_factors'} if k else set())
    assert all(tensor.requires_grad for tensor in model.parameters())

def test_rows_in_double_precision_are_rounded():
    model = filled(few())
    model.put_rows('user', torch.full((3, 4), 1/3, dtype=torch.float64))
    assert model.rows('user').unique().tolist() == [np.float32(1/3)]

@pytest.mark.parametrize('shape', [(1, 4), (3, 3), (4, 4), (4,), (3, 1)])
def test_rows_of_another_shape_are_refused(shape):
    "A row would otherwise be written to everybody."
    with pytest.raises(ValueError, match=r'user rows of the shape .*takes \(3, 4\)'):
        filled(few()).put_rows('user', torch.zeros(shape))

@pytest.mark.parametrize('side', SIDES)
def test_a_row_is_a_copy_of_one_row(side):
    model = filled(few())
    row = model.row(side, 2)
    assert torch.equal(torch.cat([row.factors, torch.tensor([row.bias])]), model.rows(side)[2])
    assert isinstance(row.bias, float) and not row.factors.requires_grad
    row.factors.zero_()
    assert (model.rows(side)[2, :-1] != 0).all()

def test_the_baseline_is_what_is_predicted_without_the_other_side():
    model = filled(few())
    for side in SIDES:
        alone = model.baseline(side)
        assert not alone.requires_grad
        model_without = filled(few())
        model_without.put_rows(OTHER[side], torch.zeros_like(model_without.rows(OTHER[side])))
        users, items = torch.cartesian_prod(torch.arange(3), torch.arange(4)).T
        expected = alone[users if side == 'user' else items]
        torch.testing.assert_close(model_without(users, items).detach(), expected)

def test_mean_is_a_number():
    assert isinstance(filled(few()).mean, float)
    assert MatrixFactorization(few()).mean == pytest.approx(19/6)

@settings(max_examples=20, deadline=None)
@given(st.integers(0, 5), st.integers(0, 999))
def test_scores_of_many_equal_scores_of_each_and_the_predictions(k, seed):
    model = filled(few(), k, seed)
    rows = model.rows('user')
    scores = model.scores_of(rows)
    assert scores.shape == (3, 4) and scores.dtype == torch.float32 and not scores.requires_grad
    for user in range(3):
        assert torch.equal(model.scores(user), scores[user])
        assert torch.equal(model.scores(model.row('user', user)), scores[user])
        items = torch.arange(4)
        torch.testing.assert_close(model(torch.full((4,), user), items).detach(), scores[user])

def test_scores_do_not_depend_on_how_many_are_asked_for():
    model = filled(load_sample(), k=8)
    rows = model.rows('user')
    together = model.scores_of(rows)
    assert torch.equal(torch.cat([model.scores_of(part) for part in rows.split(100)]), together)

def test_a_newcomers_row_has_scores():
    model = filled(few())
    newcomer = Row(torch.tensor([1., 0., 0.]), .25)
    expected = model.mean + .25 + model.rows('item')[:, -1] + model.rows('item')[:, 0]
    torch.testing.assert_close(model.scores(newcomer), expected)

# --- the prior ---

def test_the_prior_begins_as_zero_mean_and_identity():
    model = MatrixFactorization(few(), k=3)
    for side in SIDES:
        prior = model.prior(side)
        assert torch.equal(prior.mean, torch.zeros(4)) and torch.equal(prior.precision, torch.eye(4))
        assert prior.per_rating is False

@pytest.mark.parametrize('side', SIDES)
def test_a_prior_is_set_for_one_side_and_read_back(side):
    model = MatrixFactorization(few(), k=1)
    mean, precision = torch.tensor([.5, -.5]), torch.tensor([[2., 1.], [1., 3.]])
    model.set_prior(side, mean, precision.double(), per_rating=True)
    prior = model.prior(side)
    assert torch.equal(prior.mean, mean) and torch.equal(prior.precision, precision)
    assert prior.mean.dtype == prior.precision.dtype == torch.float32
    assert prior.per_rating is True and model.prior(OTHER[side]).per_rating is False
    assert torch.equal(model.prior(OTHER[side]).precision, torch.eye(2))
    model.set_prior(side, mean, precision)
    assert model.prior(side).per_rating is False

def test_a_prior_that_was_read_does_not_change_afterwards():
    model = filled(few())
    prior = model.prior('user')
    before = prior.mean.clone()
    model.set_prior('user', torch.zeros(4), torch.eye(4))
    assert torch.equal(prior.mean, before)

@pytest.mark.parametrize('mean, precision', [(torch.zeros(3), torch.eye(4)), (torch.zeros(4), torch.eye(3)),
                                             (torch.zeros(1), torch.eye(4)), (torch.zeros(4), torch.zeros(4))])
def test_a_prior_of_another_shape_is_refused(mean, precision):
    with pytest.raises(ValueError, match=r'with k=3 they must be \(4,\) and \(4, 4\)'):
        filled(few()).set_prior('user', mean, precision)

def test_the_prior_travels_with_the_weights():
    "So the best sweep of a fit gets back the prior that belongs to it."
    one, two = filled(few(), seed=1), filled(few(), seed=2)
    two.set_prior('item', *two.prior('item')[:2], per_rating=True)
    one.load_state_dict(two.state_dict())
    for side in SIDES:
        assert torch.equal(one.prior(side).precision, two.prior(side).precision)
        assert one.prior(side).per_rating == two.prior(side).per_rating

# --- a model out of its tensors ---

@pytest.mark.parametrize('k', [0, 3])
def test_from_state_makes_the_same_model(k):
    ratings = few(movies=True)
    model = filled(ratings, k)
    twin = MatrixFactorization.from_state(
        model.state_dict(), model.user_ids, model.item_ids, model.movies, model.rating_range)
    assert [name for name, _ in twin.named_parameters()] == TENSORS
    assert torch.equal(twin.predict(ratings), model.predict(ratings)) and twin.k == k
    assert twin.titles(range(4)) == model.titles(range(4)) == ['Ça va (1999)', '(no title, id 20)', 'B (2000)', 'C']
    assert twin.prior('user').per_rating is True and twin.prior('item').per_rating is False
    twin.put_rows('user', torch.zeros(3, k+1))
    assert not torch.equal(twin.rows('user'), model.rows('user')), 'they must not share their memory'

def test_from_state_refuses_tensors_of_another_size():
    model = filled(few())
    with pytest.raises(RuntimeError, match='size mismatch'):
        MatrixFactorization.from_state(model.state_dict(), model.user_ids[:2], model.item_ids, None, (1, 5))
