"Recommending: lists equal plain loops, films are found by title, the map does not depend on how factors are turned."
import math
from copy import deepcopy
from dataclasses import replace
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import FULL
from hypothesis import given, settings, strategies as st
from mfbook.holdout import rating_counts
from mfbook.model import MatrixFactorization, Row
from mfbook.ratings import Ratings, load_sample
from mfbook.recommending import (cautious, cosines, favorites_beside, film_map, films_where, find_film, list_facts, plot_map,
                                 principal_axes, recommend, recommend_all, similar)
from mfbook.runs import fit_sgd

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
        a, mean = draw(k+1, k+1), draw(k+1)*.3
        m.set_prior(side, mean, a @ a.T + .5*torch.eye(k+1), prior_per_rating)
    return r, m

# --- lists ---

@settings(max_examples=60 if FULL else 20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 10), st.integers(1, 60), st.booleans())
def test_all_at_once_equals_one_by_one(seed, n, slab, ties):
    r, m = small(seed=seed)
    if ties:
        m.item_factors.data.zero_()
        m.item_bias.data = m.item_bias.data.round()
    offset = films_where(r, min_ratings=5, counts=rating_counts(r)[1])
    lists = recommend_all(m, r, n, offset, slab=slab)
    for u in range(r.n_users):
        one = recommend(m, r.user_ids[u], r, n, offset).title.tolist()
        assert m.titles(lists[u][lists[u] >= 0]) == one == recommend(m, m.row('user', u), r.items[r.users == u], n, offset).title.tolist()
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

def test_offset_changes_the_order_and_not_the_prediction():
    r, m = small()
    f = recommend(m, 0, (), 8)
    turned = recommend(m, 0, (), 8, offset=-2*m.scores(0))
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
    assert (recommend_all(m, r, offset=torch.full((8,), -torch.inf)) == -1).all()
    assert recommend_all(m, r, users=[]).shape == (0, 10)
    with pytest.raises(ValueError, match='n is 0; it must be a whole number, 1 or more'): recommend(m, 0, n=0)
    with pytest.raises(ValueError, match='n is -1; it must be a whole number, 1 or more'): recommend_all(m, r, n=-1)
    for user in (10, -1):
        with pytest.raises(KeyError, match=f'no user with the id {user}; the known ids are numbers from 0 to 9. Somebody new is known by ratings'): recommend(m, user)
        with pytest.raises(IndexError, match=f'user {user} is no code of this model; codes are 0 to 9. user_code'): m.scores(user)

# --- who, and what they have seen ---

def test_a_raw_id_is_not_a_code():
    r, m = small()
    named = Ratings.from_frame(r.to_frame().assign(userId='u' + r.to_frame().userId.astype(str)), rating_range=(.5, 5))
    own = MatrixFactorization(named, k=3)
    own.load_state_dict(m.state_dict())
    for u in range(r.n_users):
        assert recommend(own, f'u{u}', named, 8).predicted.tolist() == recommend(own, own.row('user', u), named.items[named.users == u], 8).predicted.tolist()
        beside = [favorites_beside(*who, 4)[['rating', 'predicted']] for who in ((own, named, f'u{u}'), (m, r, u))]
        assert beside[0].equals(beside[1])
    with pytest.raises(KeyError, match="no user with the id 3; the known ids are strings from 'u0' to 'u9'"): recommend(own, 3)
    with pytest.raises(KeyError, match="no user with the id '3'; .* 3 is one of them"): recommend(m, '3')

def test_a_newcomer_is_a_dict_of_ratings():
    r, m = small()
    stars = {'godfather': 5, 5: 2, 'Nameless': 3.5}
    f = recommend(m, stars, n=8)
    pd.testing.assert_frame_equal(f, recommend(m, m.fold_in([3, 2, 7], [5, 2, 3.5]), [3, 2, 7], 8))
    assert len(f) == 5 and not set(f.title) & set(r.titles([3, 2, 7])), 'what somebody rated is no news to them'
    assert len(recommend(m, stars, seen=[0, 1], n=8)) == 3
    assert len(recommend(m, {}, n=8)) == 8
    with pytest.raises(ValueError) as e: recommend(m, {'godfathr': 5, 1: 80})
    assert 'godfathr' in str(e.value) and '80 for 1 is no number from 0.5 to 5' in str(e.value)

def seen_by(r, u): return r.items[r.users == u].long()

@pytest.mark.parametrize('kind', [list, set, np.array, torch.tensor, lambda c: pd.Series(c, index=[90 + i for i in range(len(c))]), lambda c: [float(i) for i in c], lambda c: c + c,
    lambda c: torch.isin(torch.arange(8), torch.tensor(c)), lambda c: np.isin(np.arange(8), c), lambda c: pd.Series(np.isin(np.arange(8), c), index=range(20, 28)), lambda c: [i in c for i in range(8)]])
def test_seen_of_any_kind(kind):
    r, m = small()
    own = seen_by(r, 4).tolist()
    pd.testing.assert_frame_equal(recommend(m, 4, kind(own), 8), recommend(m, 4, r, 8))
    assert set(recommend(m, 4, kind(own), 8).title) == set(r.titles(range(8))) - set(r.titles(own))

@pytest.mark.parametrize('seen, error, says', [
    ([1.9, 2.9], ValueError, 'item codes are whole numbers, 0 to 7; these are 1.9, 2.9'), ([-1], IndexError, 'item code -1 is out of range.*filled up with -1'), ([8], IndexError, 'item code 8 is out of range'),
    (['Toy Story'], ValueError, "item codes are whole numbers.*'Toy Story'"), ('Toy Story', ValueError, 'item codes come as a list'), (3, ValueError, 'item codes come as a list'),
    ([True, False], ValueError, 'a mask of 2 for 8 items'), ([True, 2], ValueError, 'item codes are whole numbers, 0 to 7; these are True, 2'),
    ({1: 2}, ValueError, 'item codes come as a list')])
def test_seen_of_no_kind(seen, error, says):
    with pytest.raises(error, match=says): recommend(small()[1], 0, seen)

def test_a_list_given_back_as_seen_ends_before_the_fill():
    r, m = small()
    listed = recommend_all(m, r, 8)[0]
    with pytest.raises(IndexError, match='filled up with -1'): recommend(m, 0, listed)
    with pytest.raises(IndexError, match='filled up with -1'): m.titles(listed)
    assert len(recommend(m, 0, listed[listed >= 0], 8)) == 8 - int((listed >= 0).sum())

def test_ratings_do_not_say_what_somebody_new_has_seen():
    r, m = small()
    for user in ({1: 4}, Row(torch.zeros(3), 0.)):
        with pytest.raises(ValueError, match='do not say what somebody new has seen'): recommend(m, user, r)

def test_ratings_of_other_ids_are_refused():
    r, m = small()
    f = r.to_frame()
    other = Ratings.from_frame(f.assign(movieId=f.movieId + 1), rating_range=(.5, 5))
    fewer = Ratings.from_frame(f[f.userId > 3], rating_range=(.5, 5))
    for wrong in (other, fewer):
        for call in (lambda: recommend(m, 5, wrong), lambda: recommend_all(m, wrong), lambda: favorites_beside(m, wrong, 5)):
            with pytest.raises(ValueError, match='codes for .* and they are not the same (items|users).*encode'): call()

@pytest.mark.parametrize('users, error, says', [([1.5], ValueError, 'user codes are whole numbers'), ([-1], IndexError, 'user code -1'), ([10], IndexError, 'user code 10 is out of range: 0 to 9'),
    ({1, 2}, ValueError, 'user codes come as a list'), ([True, False]*5, ValueError, 'True and False are no user codes'), ([True, 3], ValueError, 'user codes are whole numbers, 0 to 9; these are True, 3'), (['0'], ValueError, 'user codes')])
def test_users_of_no_kind(users, error, says):
    r, m = small()
    with pytest.raises(error, match=says): recommend_all(m, r, users=users)
    assert recommend_all(m, r, users=pd.Series([3, 4], index=[7, 9])).tolist() == recommend_all(m, r)[[3, 4]].tolist()

def test_offsets_and_counts_of_any_kind_and_of_the_right_number():
    r, m = small()
    counts = rating_counts(r)[1]
    for kind in (np.array, list, lambda c: pd.Series(c, index=range(9, 17))):
        offset = films_where(r, min_ratings=5, counts=kind(counts.tolist()))
        assert torch.equal(offset, films_where(r, min_ratings=5, counts=counts))
        pd.testing.assert_frame_equal(recommend(m, 0, offset=kind(offset.tolist())), recommend(m, 0, offset=offset))
        assert torch.equal(cautious(kind(counts.tolist()), 1.), cautious(counts, 1.))
    for wrong in ([1.], [1.]*7, 3., torch.zeros(8, 1)):
        for call in (lambda: recommend(m, 0, offset=wrong), lambda: similar(m, 1, offset=wrong), lambda: recommend_all(m, r, offset=wrong), lambda: films_where(r, min_ratings=1, counts=wrong)):
            with pytest.raises(ValueError, match=r'of the shape \(.*\) for 8 items: one number for each'): call()
    with pytest.raises(ValueError, match='negative numbers of ratings'): cautious([1, -1], 1.)
    for n in (0, 1.5, None, 'ten'):
        for call in (lambda: recommend(m, 0, n=n), lambda: recommend_all(m, r, n=n), lambda: similar(m, 1, n=n)):
            with pytest.raises(ValueError, match=f'n is {n}; it must be a whole number, 1 or more'): call()
    assert len(recommend(m, 0, n=np.int64(3))) == len(similar(m, 1, n=3.)) == 3

# --- without films ---

def test_a_model_without_titles_speaks_of_items():
    r, m = small(movies=None)
    assert recommend(m, 0, r).title.str.fullmatch(r'item \d+').all() and list(recommend(m, 0)) == ['title', 'predicted']
    assert similar(m, 5, 2).title.str.fullmatch(r'item \d+').all()
    assert list(favorites_beside(m, r, 0)) == ['rating', 'rated best', 'predicted', 'recommended']
    assert find_film(m, 12) == find_film(r, 12) == 6
    for text in ('Toy Story', '12'):
        with pytest.raises(ValueError, match=f"no item with the id '{text}'; the known ids are numbers from 1 to 20"): find_film(m, text)
    messages = [pytest.raises(ValueError, call).value.args[0] for call in (lambda: find_film(m, 'x'), lambda: films_where(m, 'Comedy'), lambda: film_map(m, [1]), lambda: cautious([1], -1))]
    assert not any(word in message for message in messages for word in ('film', 'star', 'movie'))

def test_books_with_titles_need_no_genres():
    f = small()[0].to_frame()
    r = Ratings.from_frame(f, rating_range=(.5, 5), titles={1: 'Emma', 2: 'Dune'})
    m = MatrixFactorization(r, k=2)
    assert list(recommend(m, 0)) == ['title', 'predicted'] and find_film(m, 'dune') == 1
    with pytest.raises(ValueError, match="no item has the genre 'Crime'. There are none"): films_where(m, 'Crime')
    own = replace(r, movies=pd.DataFrame(dict(movieId=r.item_ids, title=r.movies.title)))
    with pytest.raises(ValueError, match="no item has the genre 'Crime'. There are none"): films_where(own, 'Crime')
    assert list(recommend(MatrixFactorization(own, k=2), 0)) == ['title', 'predicted']

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

def test_a_genre_is_more_than_a_part_of_another():
    _, m = small(movies=FILMS.assign(genres=['Film-Noir', 'Film', 'Film|Drama', 'Melodrama', '', None, 'Film-Noir|Drama', 'Drama']))
    for genre, codes in (('Film', [1, 2]), ('Film-Noir', [0, 6]), ('Drama', [2, 6, 7])):
        assert (films_where(m, genre) == 0).nonzero().flatten().tolist() == codes

@pytest.mark.parametrize('ask, says', [
    (dict(genres='Weepie'), "no item has the genre 'Weepie'. There are Animation, Children, Comedy, Crime, Drama, Mystery, Romance"),
    (dict(genres='Come'), "no item has the genre 'Come'"),
    (dict(min_ratings=3), r'min_ratings=3 needs counts: rating_counts\(ratings\)\[1\]'),
    (dict(years=(2001, 1995)), 'leave no item'),
    (dict(genres='Crime', years=(2000, 2010)), r"genres='Crime', years=\(2000, 2010\), min_ratings=0 leave no item. Ask for less")])
def test_films_where_says_what_is_wrong(ask, says):
    with pytest.raises(ValueError, match=says): films_where(small()[1], **ask)

def test_films_where_without_films():
    r, m = small(movies=None)
    assert films_where(m, min_ratings=1, counts=torch.arange(8)).tolist() == [-math.inf] + [0]*7
    with pytest.raises(ValueError, match='nothing is known of the items but their ids'): films_where(m, 'Comedy')

def test_caution_is_stars_over_the_root_of_n_plus_one():
    assert cautious(torch.tensor([0, 3, 24]), 2.).tolist() == pytest.approx([-2, -1, -.4])
    assert (cautious(torch.tensor([0, 3]), 0) == 0).all()
    for stars in (-1, math.nan):
        with pytest.raises(ValueError, match='caution takes off 0 or more'): cautious(torch.tensor([1]), stars)

# --- titles ---

@pytest.mark.parametrize('text, movie', [('toy story', 1), ('TOY STORY (1995)', 1), ('Sabrina (1954)', 2), ('sabrina (1995)', 5), ('godfather', 7), ('The Godfather', 7),
    ('amélie', 8), ('fabuleux destin', 8), ('se7en', 11), ('up and down', 12), ('up down', 12), ('nameless', 20), ('  toy   story ', 1), ('a toy story', 1), ('an amelie', 8), ('story toy', 1)])
def test_a_film_is_found(text, movie):
    for films in small(): assert films.item_ids[find_film(films, text)] == movie

@pytest.mark.parametrize('text, says', [
    ('sabrina', r"2 titles go by 'sabrina'. Did you mean Sabrina \(1954\) or Sabrina \(1995\)\?"),
    ('godfathr', r"no titles go by 'godfathr'. Did you mean Godfather, The \(1972\)\?"),
    ('Toy Story (1996)', r"no titles go by 'Toy Story \(1996\)'. Did you mean Toy Story \(1995\)\?"),
    ('destin (1999)', r"no titles go by 'destin \(1999\)'. Did you mean Amelie \(Fabuleux destin d'Amélie Poulain, Le\) \(2001\)\?"),
    ('xyzzy', "no titles go by 'xyzzy'. Try fewer words, or the raw id"),
    ('', "no titles go by ''"), ('(1995)', 'no titles go by'), ('!!', 'no titles go by')])
def test_a_doubt_is_asked_back(text, says):
    with pytest.raises(ValueError, match=says): find_film(small()[1], text)

def test_an_item_is_found_by_its_raw_id():
    for films in small():
        for raw in (7, np.int64(7), 7., torch.tensor(7)): assert find_film(films, raw) == 3
        with pytest.raises(ValueError, match='no item with the id 6; the known ids are numbers from 1 to 20, with gaps'): find_film(films, 6)
        for raw in (True, None, [7], 3.5):
            with pytest.raises(ValueError, match='no item with the id'): find_film(films, raw)
        with pytest.raises(ValueError, match="no titles go by '7'. 7 is a raw id"): find_film(films, '7')
    names = Ratings.from_frame(dict(userId=[1, 1], movieId=['emma', 'dune'], rating=[1, 2]), titles={'emma': 'Dune', 'dune': 'Emma'})
    assert names.item_ids[find_film(names, 'emma')] == 'emma' and names.item_ids[find_film(names, 'Emma')] == 'dune', 'an id goes before a title'

def test_titles_that_stand_twice_are_found_by_what_is_shown():
    r, _ = small()
    twice = replace(r, movies=FILMS.assign(title=FILMS.title.replace('Seven (a.k.a. Se7en)', 'Toy Story')))
    shown = twice.titles([0, 5])
    assert shown == ['Toy Story (1995) [id 1]', 'Toy Story (1995) [id 11]'] and [find_film(twice, t) for t in shown] == [0, 5]
    with pytest.raises(ValueError, match=r"2 titles go by 'toy story'. Did you mean Toy Story \(1995\) \[id 1\] or Toy Story \(1995\) \[id 11\]\?"): find_film(twice, 'toy story')
    with pytest.raises(ValueError, match="2 titles go by"): find_film(twice, 'toy story (1995)')
    m = MatrixFactorization(twice, k=2)
    assert set(shown) <= set(recommend(m, 0).title)

def test_titles_of_the_sample_find_themselves(sample):
    titles = sample.titles(range(sample.n_items))
    for c in range(0, sample.n_items, 211):
        if titles.count(titles[c]) == 1:
            try: assert find_film(sample, titles[c]) == c
            except ValueError as e: assert titles[c] in str(e)      # another film of that year goes by one of its names

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
    f = similar(m, 5, 7)            # the raw id of code 2
    assert len(f) == 7 and r.titles([2])[0] not in f.title.tolist() and f.cosine.is_monotonic_decreasing
    m.item_factors.data *= torch.arange(1, 9)[:, None]
    assert similar(m, 5, 7).title.tolist() == f.title.tolist() == similar(m, 'Sabrina (1995)', 7).title.tolist()
    assert similar(m, 5, 7, offset=films_where(m, 'Crime')).title.tolist() == [t for t in f.title if t in r.titles([3, 5])]

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

def test_principal_axes_are_those_of_the_covariance():
    rows = torch.randn(30, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mean, axes, shares = principal_axes(rows, 3)
    values, vectors = torch.linalg.eigh(torch.cov(rows.T))
    assert torch.allclose(mean, rows.mean(0)) and torch.allclose(axes @ axes.T, torch.eye(3, dtype=torch.float64))
    assert torch.allclose(shares, values.flip(0)[:3]/values.sum())
    assert torch.allclose((axes @ vectors.flip(1)[:, :3]).abs(), torch.eye(3, dtype=torch.float64), atol=1e-10)
    places = (rows - mean) @ axes.T
    assert (places.max(0).values >= -places.min(0).values).all()

def test_codes_of_no_kind_are_not_on_the_map():
    _, m = small()
    for items, error in (([0, 1, -1], IndexError), ([0, 1, 2.5], ValueError), ([0, 1, 8], IndexError), ([True]*8, ValueError), ({0, 1, 2}, ValueError), ([0, 1, 2, 2], ValueError)):
        with pytest.raises(error): film_map(m, items)
    for item in (-1, 1.5, 8, True):
        with pytest.raises((IndexError, ValueError)): cosines(m, item)
    assert torch.equal(film_map(m, pd.Series([3, 1, 2], index=[5, 6, 7]))[0], film_map(m, [3, 1, 2])[0])

def test_a_map_of_rows_that_are_all_alike_is_a_point():
    _, m = small()
    m.item_factors.data.zero_()
    places, shares = film_map(m, range(8))
    assert (places == 0).all() and shares == [0, 0]

def test_too_little_for_a_map():
    with pytest.raises(ValueError, match='2 items with 3 factors make no map; it takes 3 items and 2 factors'): film_map(small()[1], [0, 1])
    with pytest.raises(ValueError, match='8 items with 1 factors make no map'): film_map(small(k=1)[1], range(8))

def test_labels_overlap_neither_each_other_nor_a_dot_and_stay_inside():
    g = torch.Generator().manual_seed(0)
    places = torch.randn(120, 2, generator=g)
    ax = plot_map(places, [f'A film with the number {i}' for i in range(120)], plt.subplots(figsize=(7, 6))[1], size=7)
    boxes, frame = [t.get_window_extent() for t in ax.texts], ax.get_window_extent()
    dots = ax.transData.transform(places.numpy())
    assert 20 < len(boxes) < 120
    assert not [(i, j) for i, a in enumerate(boxes) for j, b in enumerate(boxes[:i]) if a.overlaps(b)]
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 for b in boxes)
    assert not [b for b in boxes if ((dots > b.min) & (dots < b.max)).all(1).any()]
    plt.close('all')

def test_the_first_films_are_named_first():
    ax = plot_map(torch.tensor([[0., 0], [0, 0], [0, 0], [-3, 1], [3, -1]]), ['first', 'second', 'third', 'left', 'right'],
                  plt.subplots(figsize=(7, 6))[1], size=7)
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

def test_facts_of_any_kind_and_of_none():
    lists, counts = [[0, 1], [1, -1]], [8, 2, 0, 1]
    expected = list_facts(torch.tensor(lists), torch.tensor(counts), 16)
    for kind in (list, np.array, lambda x: torch.tensor(x, dtype=torch.int32)): assert list_facts(kind(lists), kind(counts), 16) == expected
    for wrong in ([[0, -2]], [[0, 4]], [[0, .5]], [[True, False]]):
        with pytest.raises((IndexError, ValueError), match='item code'): list_facts(wrong, counts, 16)

def test_empty_lists_have_no_facts():
    with pytest.raises(ValueError, match='the lists are empty'): list_facts(torch.full((2, 3), -1), torch.ones(4), 5)

# --- one person's page ---

def test_favorites_beside():
    r, m = small()
    f = favorites_beside(m, r, 0, n=4)
    own = r.take(r.users == 0)
    assert f.rating.tolist() == sorted(own.values.tolist(), reverse=True)[:4] and f.index.tolist() == [1, 2, 3, 4]
    new = recommend(m, 0, own.items, 4)
    assert f.recommended.dropna().tolist() == new.title.tolist() and f.recommended.isna().sum() == 1     # five of eight are seen
    assert not set(f['rated best']) & set(f.recommended)

# --- on the sample ---

@pytest.fixture(scope='module')
def sample(): return load_sample()

def test_the_same_seed_gives_the_same_lists(sample):
    torch.set_num_threads(1)
    offset = films_where(sample, min_ratings=20, counts=rating_counts(sample)[1])
    def lists():
        m = MatrixFactorization(sample, k=8)
        fit_sgd(m, sample, epochs=2, progress=False)
        return recommend_all(m, sample, offset=offset)
    assert torch.equal(lists(), lists())
