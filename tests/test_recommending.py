"Recommending: fold-in equals least squares, shares sum to the prediction, lists equal plain loops, and errors say what to do."
import importlib.util, math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
import matplotlib.pyplot as plt
from matplotlib.colors import to_rgba
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from mfbook.evaluation import top_k
from mfbook.holdout import rating_counts, rmse, split_random
from mfbook.model import MatrixFactorization
from mfbook.ratings import Ratings, load_ratings
from mfbook.recommending import (Row, cautious, cosines, favourites_beside, film_map, films_where, find_film, learn_prior, list_facts, my_ratings,
                                 plot_map, plot_why, recommend, recommend_all, similar, why)
from mfbook.training import fit_sgd

FILMS = pd.DataFrame(dict(movieId=[1, 2, 5, 7, 8, 11, 12, 20],
    title=['Toy Story', 'Sabrina', 'Sabrina', 'Godfather, The', "Amelie (Fabuleux destin d'Amélie Poulain, Le)", 'Seven (a.k.a. Se7en)', 'Up & Down', 'Nameless'],
    year=pd.array([1995, 1954, 1995, 1972, 2001, 1995, 2004, None], dtype='Int16'),
    genres=['Animation|Children', 'Comedy|Romance', 'Comedy|Romance', 'Crime|Drama', 'Comedy|Romance', 'Crime|Mystery', 'Comedy|Drama', None]))

def small(k=3, n_users=9, seed=0, prior_per_rating=False, movies=FILMS, per_user=5):
    "Ratings of the eight films above, and a model with random tensors and a random prior."
    g = np.random.default_rng(seed)
    rows = [(u, i, g.integers(1, 11)/2) for u in range(n_users) for i in g.choice(FILMS.movieId, per_user, replace=False)]
    f = pd.DataFrame(rows, columns=['userId', 'movieId', 'rating'])
    all_films = pd.DataFrame(dict(userId=n_users, movieId=FILMS.movieId, rating=3.))          # so that every film has a code
    r = replace(Ratings.from_frame(pd.concat([f, all_films]), rating_range=(.5, 5)), movies=movies)
    m, t = MatrixFactorization(r, k=k), torch.Generator().manual_seed(seed)
    draw = lambda *size: torch.randn(*size, generator=t)
    with torch.no_grad():
        for p in (m.user_bias, m.item_bias, m.user_factors, m.item_factors): p.copy_(draw(*p.shape)*.5)
        for side in ('user', 'item'):
            a = draw(k+1, k+1)
            getattr(m, f'{side}_prior_mean').copy_(draw(k+1)*.3)
            getattr(m, f'{side}_prior_precision').copy_(a @ a.T + .5*torch.eye(k+1))
    m.prior_per_rating = prior_per_rating
    return r, m

# --- fold-in ---

def lstsq(m, side, codes, values):
    "The same row by torch.linalg.lstsq: the prior written as further equations, U w = U mean with U^T U = precision."
    other = 'item' if side == 'user' else 'user'
    rows, bias = getattr(m, f'{other}_factors').detach()[codes], getattr(m, f'{other}_bias').detach()[codes]
    X = torch.cat([rows, torch.ones(len(codes), 1)], 1).double()
    y = torch.tensor(values, dtype=torch.float64) - m.mu.item() - bias.double()
    L = getattr(m, f'{side}_prior_precision').double() * (max(1, len(codes)) if m.prior_per_rating else 1)
    U = torch.linalg.cholesky(L).T
    b = torch.cat([y, U @ getattr(m, f'{side}_prior_mean').double()])
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

@pytest.mark.parametrize('per_rating', [False, True])
def test_without_a_rating_there_is_the_prior_mean(per_rating):
    _, m = small(prior_per_rating=per_rating)
    for row, mean in ((m.fold_in([], []), m.user_prior_mean), (m.fold_in_item([], []), m.item_prior_mean)):
        assert torch.allclose(torch.cat([row.factors, torch.tensor([row.bias])]), mean, atol=1e-6)

def test_the_order_of_ratings_and_their_type_do_not_matter():
    r, m = small()
    a, b = m.fold_in([1, 4, 6], [2., 5, 3]), m.fold_in(torch.tensor([6, 1, 4], dtype=torch.int32), torch.tensor([3., 2, 5]))
    assert torch.allclose(a.factors, b.factors, atol=1e-6) and a.bias == pytest.approx(b.bias)
    assert not a.factors.requires_grad

def test_many_ratings_are_told_from_few_by_the_prior():
    "Per rating the prior weighs the same against ten ratings as against one; as it stands it fades."
    _, m = small(k=0)
    m.user_prior_mean.zero_()
    m.user_prior_precision.fill_(1.)
    y = 4 - m.mu.item() - m.item_bias.detach()
    assert m.fold_in([0], [4.]).bias == pytest.approx(y[0].item()/2, abs=1e-6)
    assert m.fold_in(range(8), [4.]*8).bias == pytest.approx(y.sum().item()/9, abs=1e-6)
    m.prior_per_rating = True
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
    m.user_prior_precision.zero_()
    with pytest.raises(ValueError, match='do not settle 4 numbers, and the model\'s prior is empty. Was it trained with decay=0'):
        m.fold_in(ratings, [4.]*len(ratings))

def test_a_price_of_nothing_is_noticed_through_rounding_errors():
    for seed in range(40):
        _, m = small(k=3, seed=seed)
        m.user_prior_precision.zero_()
        with pytest.raises(ValueError, match='3 ratings do not settle 4 numbers'): m.fold_in([0, 3, 5], [4., 1, 2])

# --- why ---

@settings(max_examples=100, deadline=None)
@given(codes_and_stars, st.integers(0, 7), st.booleans(), st.integers(0, 10**6))
def test_shares_sum_to_the_prediction(ratings, item, per_rating, seed):
    _, m = small(seed=seed, prior_per_rating=per_rating)
    codes, values = [c for c, _ in ratings], [s/2 for _, s in ratings]
    reasons, row = why(m, codes, values, item), m.fold_in(codes, values)
    assert reasons.stars.sum() == pytest.approx(m.scores_of(row.factors[None], [row.bias])[0, item].item(), abs=1e-5)
    assert reasons.rated.notna().sum() == len(codes)
    assert sorted(reasons.rated.dropna()) == sorted(values)

def test_a_share_belongs_to_its_rating():
    "One more star for a film moves its own share, and no other."
    r, m = small()
    before, after = (why(m, [1, 3, 6], [2., s, 3], 5).set_index('part').stars for s in (4., 5.))
    moved = (after - before).abs() > 1e-9
    assert [p for p in moved.index if moved[p]] == r.titles([3])

def test_the_parts_are_in_order_and_an_empty_prior_mean_is_no_part():
    r, m = small()
    parts = why(m, [1, 3, 6], [1., 5, 3], 5)
    assert parts.part[:3].tolist() == ['mean of all ratings', 'Seven (a.k.a. Se7en) (1995): its bias', 'expected of anybody']
    assert parts.stars[3:].abs().is_monotonic_decreasing
    m.user_prior_mean.zero_()
    assert 'expected of anybody' not in why(m, [1, 3, 6], [1., 5, 3], 5).part.tolist()

def test_plot_why_writes_every_part_and_ends_at_the_prediction():
    _, m = small()
    reasons = why(m, [1, 3, 6], [1., 5, 3], 5)
    ax = plot_why(reasons)
    assert [t.get_text() for t in ax.get_yticklabels()] == ['mean of all ratings', 'Seven (a.k.a. Se7en) (1995): its bias', 'expected of anybody',
        *(f'{p}, rated {s:g}' for p, s in zip(reasons.part[3:], reasons.rated[3:]))]
    assert len(ax.patches) == len(reasons) - 1
    assert ax.patches[-1].get_x() + ax.patches[-1].get_width() == pytest.approx(reasons.stars.sum())
    assert [b.get_width() for b in ax.patches] == pytest.approx(reasons.stars[1:].tolist())
    up, down = ({b.get_facecolor() for b in ax.patches if (b.get_width() > 0) == sign} for sign in (True, False))
    assert up == {to_rgba('C0')} and down == {to_rgba('C6')}
    plt.close('all')

# --- lists ---

def test_scores_of_are_the_models_scores_however_many_at_once():
    r, m = small(k=5)
    many = m.scores_of(m.user_factors, m.user_bias)
    for u in range(r.n_users):
        assert torch.allclose(many[u], m.scores(u), atol=1e-5)
        assert torch.equal(many[u], m.scores_of(m.user_factors[u:u+1], m.user_bias[u:u+1])[0])

@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 10), st.integers(1, 60), st.booleans())
def test_all_at_once_equals_one_by_one(seed, n, slab, ties):
    r, m = small(seed=seed)
    if ties: m.item_factors.data.zero_(); m.item_bias.data = m.item_bias.data.round()
    plus = films_where(r, least=5, counts=rating_counts(r)[1])
    lists = recommend_all(m, r, n, plus, slab=slab)
    for u in range(r.n_users):
        one = recommend(m, u, r.items[r.users == u], n, plus).title.tolist()
        assert m.titles(lists[u][lists[u] >= 0]) == one
        assert lists[u].tolist() == lists[u][lists[u] >= 0].tolist() + [-1]*(n - len(one))
    assert (recommend_all(m, r.take(slice(0, 0)), 8, slab=slab).sort(1).values == torch.arange(8)).all()

def test_a_list_is_a_sort_by_score_then_code_without_the_seen():
    r, m = small()
    m.item_factors.data.zero_()
    m.item_bias.data = torch.tensor([1., 2, 2, 0, 2, 1, 0, 0])
    assert recommend_all(m, r.take(slice(0, 0)), 4)[0].tolist() == [1, 2, 4, 0]
    assert recommend(m, 0, [2], 3).title.tolist() == r.titles([1, 4, 0])
    assert recommend_all(m, r.take(slice(0, 0)), 2, users=[3, 0]).tolist() == [[1, 2], [1, 2]]

def test_a_list_is_a_frame_with_titles_genres_and_clamped_stars():
    r, m = small()
    m.item_bias.data[3] += 10
    f = recommend(m, 0, [], 3)
    assert list(f) == ['title', 'genres', 'predicted'] and f.index.tolist() == [1, 2, 3]
    assert f.iloc[0].tolist() == ['Godfather, The (1972)', 'Crime|Drama', 5]
    assert all(p == round(p, 2) for p in f.predicted.tolist()), 'no 4.809999942779541'
    assert 'genres' not in recommend(small(movies=None)[1], 0)

def test_plus_changes_the_order_and_not_the_prediction():
    r, m = small()
    f = recommend(m, 0, (), 8)
    turned = recommend(m, 0, (), 8, plus=-2*m.scores(0))
    assert turned.title.tolist() == f.title.tolist()[::-1]
    assert turned.set_index('title').predicted.to_dict() == f.set_index('title').predicted.to_dict()

def test_somebody_new_gets_the_list_of_their_row():
    r, m = small()
    row = Row(m.user_factors[4].detach(), m.user_bias[4].item())
    pd.testing.assert_frame_equal(recommend(m, row, [0]), recommend(m, 4, [0]))

def test_empty_cases():
    r, m = small()
    assert len(recommend(m, 0, range(8))) == 0 and list(recommend(m, 0, range(8))) == ['title', 'genres', 'predicted']
    assert len(recommend(m, 0, range(6))) == 2
    assert (recommend_all(m, r, plus=torch.full((8,), -torch.inf)) == -1).all()
    assert recommend_all(m, r, users=[]).shape == (0, 10)
    with pytest.raises(ValueError, match='n is 0; a list has 1 film or more'): recommend(m, 0, n=0)
    with pytest.raises(ValueError, match='n is -1; a list has 1 film or more'): recommend_all(m, r, n=-1)
    for who in (10, -1):
        with pytest.raises(IndexError, match=f'user {who} is no code of this model; codes are 0 to 9. user_code'): recommend(m, who)

# --- which films ---

def test_films_where_equals_a_plain_loop():
    r, m = small()
    counts = torch.arange(8)
    for genres in ((), 'Comedy', ['Comedy', 'Romance'], ('Crime',)):
        for years in (None, (1954, 1995), (1995, 1995)):
            for least in (0, 2):
                kept = films_where(m, genres, years, least, counts)
                names = [genres] if isinstance(genres, str) else genres
                for c, film in enumerate(FILMS.itertuples()):
                    ok = all(g in str(film.genres).split('|') for g in names) and c >= least
                    ok = ok and (years is None or not pd.isna(film.year) and years[0] <= film.year <= years[1])
                    assert kept[c] == (0 if ok else -math.inf), (genres, years, least, film)

@pytest.mark.parametrize('ask, says', [
    (dict(genres='Weepie'), "no film has the genre 'Weepie'. There are Animation, Children, Comedy, Crime, Drama, Mystery, Romance"),
    (dict(genres='Come'), "no film has the genre 'Come'"),
    (dict(least=3), r'least=3 needs counts: rating_counts\(ratings\)\[1\]'),
    (dict(years=(2001, 1995)), 'leave no film'),
    (dict(genres='Crime', years=(2000, 2010)), r"genres='Crime', years=\(2000, 2010\), least=0 leave no film. Ask for less")])
def test_films_where_says_what_is_wrong(ask, says):
    with pytest.raises(ValueError, match=says): films_where(small()[1], **ask)

def test_films_where_without_films():
    r, m = small(movies=None)
    assert films_where(m, least=1, counts=torch.arange(8)).tolist() == [-math.inf] + [0]*7
    with pytest.raises(ValueError, match='nothing is known of the films but their ids'): films_where(m, 'Comedy')

def test_caution_is_stars_over_the_root_of_n_plus_one():
    assert cautious(torch.tensor([0, 3, 24]), 2.).tolist() == pytest.approx([-2, -1, -.4])
    assert (cautious(torch.tensor([0, 3]), 0) == 0).all()
    for stars in (-1, math.nan):
        with pytest.raises(ValueError, match='caution takes off 0 stars or more'): cautious(torch.tensor([1]), stars)

# --- titles ---

@pytest.mark.parametrize('text, movie', [('toy story', 1), ('TOY STORY (1995)', 1), ('Sabrina (1954)', 2), ('sabrina (1995)', 5), ('godfather', 7), ('The Godfather', 7),
    ('amélie', 8), ('fabuleux destin', 8), ('se7en', 11), ('up and down', 12), ('up down', 12), ('nameless', 20), ('  toy   story ', 1), ('a toy story', 1), ('an amelie', 8), ('story toy', 1)])
def test_a_film_is_found(text, movie):
    for films in small(): assert films.item_ids[find_film(films, text)] == movie

@pytest.mark.parametrize('text, says', [
    ('sabrina', r"2 films go by 'sabrina'. Did you mean Sabrina \(1954\) or Sabrina \(1995\)\?"),
    ('godfathr', r"no films go by 'godfathr'. Did you mean Godfather, The \(1972\)\?"),
    ('Toy Story (1996)', r"no films go by 'Toy Story \(1996\)'. Did you mean Toy Story \(1995\)\?"),
    ('destin (1999)', r"no films go by 'destin \(1999\)'. Did you mean Amelie \(Fabuleux destin d'Amélie Poulain, Le\) \(2001\)\?"),
    ('xyzzy', "no films go by 'xyzzy'. Try fewer words, or the raw id"),
    ('', "no films go by ''"), ('(1995)', 'no films go by'), ('!!', 'no films go by')])
def test_a_doubt_is_asked_back(text, says):
    with pytest.raises(ValueError, match=says): find_film(small()[1], text)

def test_titles_of_the_sample_find_themselves(sample):
    titles = sample.titles(range(sample.n_items))
    for c in range(0, sample.n_items, 211):
        if titles.count(titles[c]) == 1:
            try: assert find_film(sample, titles[c]) == c
            except ValueError as e: assert titles[c] in str(e)      # another film of that year goes by one of its names

def test_ratings_by_title_and_raw_id():
    for films in small():
        items, values = my_ratings(films, {'godfather': 5, 5: 2, np.int64(20): np.float32(3.5)})
        assert (items.tolist(), values.tolist()) == ([3, 2, 7], [5, 2, 3.5]) and items.dtype == torch.int64
        assert [len(x) for x in my_ratings(films, {})] == [0, 0]

def test_ratings_by_ids_that_are_strings():
    r = Ratings.from_frame(pd.DataFrame(dict(userId=['a', 'b'], movieId=['x', 'y'], rating=[1., 5])), rating_range=(1, 5))
    assert my_ratings(r, {'y': 4})[0].tolist() == [1]
    with pytest.raises(ValueError, match="no films go by 'q'"): my_ratings(r, {'q': 4})

def test_all_that_cannot_be_used_is_named_at_once():
    stars = {'Toy Story': 5, 1: 4, 999: 3, 998: 3, 'godfathr': 2, 'Se7en': 6, 8: 'good', 12: math.nan, 2: 0}
    with pytest.raises(ValueError) as e: my_ratings(small()[1], stars)
    assert str(e.value).split('\n') == ['Toy Story (1995) is rated twice.', 'no film has the id 999.', 'no film has the id 998.',
        "no films go by 'godfathr'. Did you mean Godfather, The (1972)?", "6 for 'Se7en' is no number from 0.5 to 5 stars.",
        "'good' for 8 is no number from 0.5 to 5 stars.", 'nan for 12 is no number from 0.5 to 5 stars.', '0 for 2 is no number from 0.5 to 5 stars.']

# --- similar films ---

def test_cosines_equal_a_plain_loop_and_a_row_of_zeros_is_like_nothing():
    r, m = small()
    m.item_factors.data[6] = 0
    q = m.item_factors.detach()
    for i in range(8):
        by_hand = [0 if 6 in (i, j) else (q[i] @ q[j] / q[i].norm() / q[j].norm()).item() for j in range(8)]
        assert cosines(m, i).tolist() == pytest.approx(by_hand, abs=1e-6)

def test_similar_leaves_out_the_film_itself_and_does_not_look_at_lengths():
    r, m = small()
    f = similar(m, 2, 7)
    assert len(f) == 7 and r.titles([2])[0] not in f.title.tolist() and f.cosine.is_monotonic_decreasing
    m.item_factors.data *= torch.arange(1, 9)[:, None]
    assert similar(m, 2, 7).title.tolist() == f.title.tolist()
    assert similar(m, 2, 7, plus=films_where(m, 'Crime')).title.tolist() == [t for t in f.title if t in r.titles([3, 5])]

# --- a prior learned from the rows ---

def test_the_learned_prior_is_the_mean_and_precision_of_rows_with_ratings(tmp_path):
    r, m = small(n_users=30, prior_per_rating=True)
    some = r.take(r.users < 25)
    noise = rmse(m.predict(some), some)**2
    assert learn_prior(m, some) is m and m.prior_per_rating is False
    for side, n in (('user', 25), ('item', 8)):
        rows = np.column_stack([getattr(m, f'{side}_factors').detach().numpy(), getattr(m, f'{side}_bias').detach().numpy()])[:n].astype(float)
        assert getattr(m, f'{side}_prior_mean').tolist() == pytest.approx(rows.mean(0), abs=1e-6)
        precision = noise*np.linalg.inv(np.cov(rows.T) + 1e-6*np.eye(4))
        assert np.allclose(getattr(m, f'{side}_prior_precision').numpy(), precision, rtol=1e-4)
    trusted = m.user_prior_precision.clone()
    assert torch.allclose(learn_prior(m, some, noise=3*noise).user_prior_precision, 3*trusted, rtol=1e-4)
    m.save(tmp_path/'m.safetensors')
    a, b = m.fold_in([1, 2], [4, 5]), MatrixFactorization.load(tmp_path/'m.safetensors').fold_in([1, 2], [4, 5])
    assert torch.equal(a.factors, b.factors) and a.bias == b.bias

def test_a_prior_is_not_learned_from_one_row():
    r, m = small()
    with pytest.raises(ValueError, match='1 users with ratings do not show how users differ'): learn_prior(m, r.take(r.users == 0))

# --- the map ---

def test_the_map_does_not_depend_on_how_the_factors_are_turned():
    r, m = small(k=5)
    places, shares = film_map(m, range(8))
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1)))[0]
    for t in (turn, -torch.eye(5)):
        turned = deepcopy(m)
        turned.item_factors.data = m.item_factors @ t
        again, _ = film_map(turned, range(8))
        assert torch.allclose(again, places, atol=1e-5)
    q = m.item_factors.detach().double()
    values = torch.linalg.eigvalsh(torch.cov(q.T)).flip(0)
    assert shares == pytest.approx((values/values.sum())[:2].tolist())
    assert places.var(0).tolist() == pytest.approx(values[:2].tolist(), rel=1e-5)
    assert (places.max(0).values >= -places.min(0).values).all(), 'the film farthest out lies on the positive side'

def test_too_little_for_a_map():
    with pytest.raises(ValueError, match='2 films with 3 factors make no map; it takes 3 films and 2 factors'): film_map(small()[1], [0, 1])
    with pytest.raises(ValueError, match='8 films with 1 factors make no map'): film_map(small(k=1)[1], range(8))

def test_labels_overlap_neither_each_other_nor_a_dot_and_stay_inside():
    g = torch.Generator().manual_seed(0)
    places = torch.randn(120, 2, generator=g)
    ax = plot_map(places, [f'A film with the number {i}' for i in range(120)])
    boxes, frame = [t.get_window_extent() for t in ax.texts], ax.get_window_extent()
    dots = ax.transData.transform(places.numpy())
    assert 20 < len(boxes) < 120
    assert not [(i, j) for i, a in enumerate(boxes) for j, b in enumerate(boxes[:i]) if a.overlaps(b)]
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 for b in boxes)
    assert not [b for b in boxes if ((dots > b.min) & (dots < b.max)).all(1).any()]
    plt.close('all')

def test_the_first_films_are_named_first():
    ax = plot_map(torch.tensor([[0., 0], [0, 0], [0, 0], [-3, 1], [3, -1]]), ['first', 'second', 'third', 'left', 'right'])
    assert {t.get_text(): t.get_ha() for t in ax.texts} == {'first': 'left', 'second': 'right', 'left': 'left', 'right': 'left'}
    plt.close('all')

# --- facts of lists ---

@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(-1, 5), min_size=3, max_size=3), min_size=1, max_size=6).filter(lambda ls: any(i >= 0 for l in ls for i in l)))
def test_list_facts_equal_a_plain_loop(lists):
    counts = [0, 1, 2, 8, 16, 5]
    shown = [i for l in lists for i in l if i >= 0]
    facts = list_facts(torch.tensor(lists), torch.tensor(counts), 16)
    assert facts['coverage'] == pytest.approx(len(set(shown))/6)
    assert facts['novelty'] == pytest.approx(sum(-math.log2(max(counts[i], 1)/16) for i in shown)/len(shown))

def test_empty_lists_have_no_facts():
    with pytest.raises(ValueError, match='the lists are empty'): list_facts(torch.full((2, 3), -1), torch.ones(4), 5)

# --- one person's page, and the demo ---

def test_favourites_beside():
    r, m = small()
    f = favourites_beside(m, r, 0, n=4)
    own = r.take(r.users == 0)
    assert f.stars.tolist() == sorted(own.values.tolist(), reverse=True)[:4] and f.index.tolist() == [1, 2, 3, 4]
    new = recommend(m, 0, own.items, 4)
    assert f.recommended.dropna().tolist() == new.title.tolist() and f.recommended.isna().sum() == 1     # five of eight are seen
    assert not set(f['rated best']) & set(f.recommended)

def test_the_demo_prints_them(capsys):
    spec = importlib.util.spec_from_file_location('demo', Path(__file__).resolve().parent.parent/'tools'/'demo.py')
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    r, m = small()
    demo.films_for(m, r, 0, n=4, least=1)
    lines, f = capsys.readouterr().out.strip().split('\n'), favourites_beside(m, r, 0, n=4)
    assert lines[0] == 'User 0, who rated 5 films:' and len(lines) == 3 + 4
    for line, (stars, title, predicted, new) in zip(lines[3:], f.map(lambda x: '' if pd.isna(x) else x).itertuples(index=False)):
        assert line.startswith(f'{stars} {title[:36]}') and line.endswith(f'{predicted:<4} {new[:44]}'.strip() or title[:36])

# --- on the sample ---

@pytest.fixture(scope='module')
def sample(): return load_ratings()

@pytest.fixture(scope='module')
def trained(sample):
    "A model that has not met a hundred people, and the ratings of both."
    hidden = sample.users % 7 == 3
    train = sample.take(~hidden)
    torch.set_num_threads(1)
    def fit():
        m = MatrixFactorization(train, k=8)
        fit_sgd(m, train, epochs=8)
        return m
    return fit, fit(), train, sample.take(hidden)

def test_the_same_seed_gives_the_same_lists(trained):
    fit, m, train, _ = trained
    plus = films_where(m, least=20, counts=rating_counts(train)[1])
    assert torch.equal(recommend_all(m, train, plus=plus), recommend_all(fit(), train, plus=plus))

def test_folded_people_are_predicted_like_trained_ones(trained):
    _, m, train, _ = trained
    folded = deepcopy(m)
    with torch.no_grad():
        for u in range(0, train.n_users, 5):
            own = train.take(train.users == u)
            if len(own): folded.user_factors[u], folded.user_bias[u] = m.fold_in(own.items, own.values)
    some = train.take(train.users % 5 == 0)
    assert rmse(folded.predict(some), some) < rmse(m.predict(some), some) + .005

def test_newcomers_are_predicted_better_the_more_they_rate(trained):
    "With the learned prior the first ratings help; with the price per rating a single one hurts."
    _, m, train, hidden = trained
    ready, order = learn_prior(deepcopy(m), train), torch.randperm(len(hidden), generator=torch.Generator().manual_seed(0))
    hidden = hidden.take(order)
    def error(model, n):
        errors = []
        for u in hidden.users.unique().tolist():
            own = hidden.take(hidden.users == u)
            row = model.fold_in(own.items[:n], own.values[:n])
            p = model.scores_of(row.factors[None], [row.bias])[0][own.items[10:].long()].clamp(.5, 5)
            errors.append(p - own.values[10:])
        return torch.cat(errors).square().mean().sqrt().item()
    none, one, ten = (error(ready, n) for n in (0, 1, 10))
    assert none > one > ten + .02
    assert error(m, 1) > error(m, 0) + .05
