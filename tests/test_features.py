"Facts as features: what each builder makes, what leaks (nothing), and what a newcomer gets from them."
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from mfbook.features import (ROWS_PER_FEATURE, Features, activity, averages, columns, combine, facts_as_features, genres, tags,
                             who_rated_what, years)
from mfbook.gibbs import GibbsSolver, fit_gibbs, known_of
from mfbook.holdout import rmse, split_random
from mfbook.model import SIDES, FeaturePrior, MatrixFactorization
from mfbook.movielens import load_fold, load_ratings
from mfbook.newcomers import why
from mfbook.ratings import Ratings
from mfbook.variational import VariationalSolver, fit_variational

sys.path.append(str(Path(__file__).resolve().parent.parent/'benchmarks'))
import accuracy

GENRES = ['Comedy', 'Drama', 'Comedy|Drama', 'Horror', None, 'Drama']

def rated(n_users=150, n_items=90, n=5000, seed=0):
    "Ratings with films, people and tags. A film's genre and year move its ratings."
    g = np.random.default_rng(seed)
    u, i = np.divmod(g.choice(n_users*n_items, n, replace=False), n_items)
    year = 1940 + g.integers(0, 70, n_items)
    stars = 3 + (i % 6 == 1) - (i % 6 == 3) + (1980 - year[i])/40 + .5*g.normal(size=n) + .3*g.normal(size=n_users)[u]
    r = Ratings.from_frame(pd.DataFrame(dict(userId=u + 10, movieId=i*2, rating=stars)), rating_range=(-9., 15.))
    codes = r.item_ids//2
    movies = pd.DataFrame(dict(movieId=r.item_ids, title='x', genres=[GENRES[c % 6] for c in codes]))
    movies['year'] = pd.array(year[codes], 'Int16')
    movies.loc[3, 'year'] = pd.NA
    people = pd.DataFrame(dict(userId=r.user_ids, age=20. + r.user_ids % 40, gender=np.where(r.user_ids % 2, 'F', 'M')))
    people['occupation'] = [['student', 'artist', 'other'][c % 3] for c in r.user_ids]
    people.loc[5, ['age', 'gender']] = None
    some = g.integers(0, n, 900)
    words = np.where(i[some] % 2, 'dark', 'light')
    given = pd.DataFrame(dict(userId=u[some] + 10, movieId=i[some]*2, tag=words, timestamp=0))
    return replace(r, movies=movies, people=people, tags=given)

@pytest.fixture(scope='module')
def split(): return split_random(rated(), valid=.1, test=.1, seed=0)

def outside(r): return combine(genres(r, 5), years(r), columns(r, 'user', r.people, ['age', 'gender', 'occupation'], least=5))

def everything(r): return combine(outside(r), who_rated_what(r, 3), activity(r), averages(r, outside(r)), tags(r, 2))

def same(a, b): return all(x is y or x.equals(y) for x, y in zip(a, b))

# what the builders make

def dense(r): return torch.zeros(r.n_users, r.n_items).index_put_((r.users.long(), r.items.long()), torch.ones(1)).double()

def test_patterns_are_the_singular_vectors_of_the_ones_and_zeros(split):
    U, _, Vh = torch.linalg.svd(dense(split.train), full_matrices=False)
    for got, v in zip(who_rated_what(split.train, 1), (U[:, 0], Vh[0])):
        centered = v - v.mean()
        v = v if (centered**3).sum() > 0 else -v
        np.testing.assert_allclose(got['pattern 1'], v, atol=1e-4)

def test_two_groups_that_rate_different_films_are_told_apart_by_a_pattern():
    g = np.random.default_rng(0)
    u, i = np.divmod(g.choice(100*80, 5000, replace=False), 80)
    own = (u % 2 == i % 2) | (g.random(5000) < .1)
    r = Ratings.from_frame(pd.DataFrame(dict(userId=u[own], movieId=i[own], rating=3.)), rating_range=(1., 5.))
    users, items = who_rated_what(r, 2)
    for table, ids in ((users, r.user_ids), (items, r.item_ids)):
        assert abs(np.corrcoef(table['pattern 2'], ids % 2)[0, 1]) > .9

def test_patterns_leave_the_random_numbers_alone(split):
    state = torch.random.get_rng_state()
    who_rated_what(split.train)
    assert torch.equal(state, torch.random.get_rng_state())

@pytest.mark.parametrize('n', [0, 1, 2, 3, 500])
def test_there_are_as_many_patterns_as_asked_for_and_at_most_one_for_forty_rows(split, n):
    assert ROWS_PER_FEATURE == 40
    users, items = who_rated_what(split.train, n)
    assert users.shape == (150, min(n, 3)) and items.shape == (90, min(n, 2))
    assert np.isfinite(users.to_numpy()).all() and np.isfinite(items.to_numpy()).all()

def test_genres_and_years_are_those_of_the_films(split):
    item = genres(split.train, 1).item
    assert list(item) == ['genre=Comedy', 'genre=Drama', 'genre=Horror']
    for row, words in zip(item.to_numpy(), split.train.movies.genres):
        if not isinstance(words, str): assert np.isnan(row).all()
        else: assert row.tolist() == [float(word in words.split('|')) for word in ('Comedy', 'Drama', 'Horror')]
    assert list(genres(split.train, 20).item) == ['genre=Comedy', 'genre=Drama'], 'fifteen films of horror are too few'
    year = years(split.train).item.year
    assert np.isnan(year[3]) and year[4] == split.train.movies.year[4]
    with pytest.raises(ValueError, match="no films with a column 'year'"): years(replace(split.train, movies=None))

def test_columns_follow_the_codes_whatever_the_order(split):
    r = split.train
    shuffled = r.people.sample(frac=1, random_state=0)
    a, b = columns(r, 'user', r.people, least=1), columns(r, 'user', shuffled, least=1)
    assert a.user.equals(b.user) and a.item is None
    assert list(a.user) == ['age', 'gender=F', 'gender=M', 'occupation=artist', 'occupation=other', 'occupation=student']
    assert a.user.iloc[5, :3].isna().all() and a.user.iloc[5, 3:].notna().all()
    assert (a.user['gender=F'] == (r.user_ids % 2))[np.arange(150) != 5].all()
    some = columns(r, 'user', r.people.iloc[:20], ['age'])
    assert some.user.age[20:].isna().all() and some.user.age[:5].tolist() == r.people.age[:5].tolist()

def test_columns_of_films_may_be_numbers_flags_or_several_words(split):
    r = split.train
    table = pd.DataFrame(dict(film=r.item_ids, long=r.item_ids % 2 == 0, cost=np.arange(r.n_items), kind=['a|b', 'b'][0]))
    item = columns(r, 'item', table, id='film', least=1).item
    assert list(item) == ['long', 'cost', 'kind=a', 'kind=b'] and (item.long == 1).all() and item.cost[7] == 7

@pytest.mark.parametrize('change, says', [
    (dict(side='film'), "side is 'film'"), (dict(names=['height']), "no column 'height'"), (dict(id='x'), "no column 'x'"),
    (dict(table=pd.DataFrame(dict(userId=[1, 2], age=3))), 'none of the 2 ids'),
    (dict(table=pd.DataFrame(dict(userId=[10, 10], age=3))), 'userId 10 has two rows'),
    (dict(table=pd.DataFrame(dict(userId=['a'], age=3))), 'ids')])
def test_columns_say_what_is_wrong(split, change, says):
    how = dict(side='user', table=split.train.people, names=None, id=None) | change
    with pytest.raises(ValueError, match=says): columns(split.train, how['side'], how['table'], how['names'], how['id'])

def test_averages_are_drawn_to_the_mean_of_all(split):
    r = split.train
    got = averages(r, outside(r))
    year = years(r).item.year.to_numpy()
    for u in (0, 7):
        of_user = year[r.items[r.users == u].numpy()]
        of_user = of_user[~np.isnan(of_user)]
        overall = np.nanmean(year[r.items.numpy()])
        assert got.user['mean year'][u] == pytest.approx((of_user.sum() + 5*overall)/(len(of_user) + 5))
    assert list(got.item)[0] == 'mean age' and not got.item.isna().any().any()

def test_activity_is_the_logarithm_of_the_number_of_ratings(split):
    user, item = activity(split.train)
    assert np.allclose(np.expm1(user['log ratings']), torch.bincount(split.train.users, minlength=150))
    assert np.allclose(np.expm1(item['log ratings']), torch.bincount(split.train.items, minlength=90))

def test_tags_tell_films_apart(split):
    item = tags(split.train, 2).item
    dark = (split.train.item_ids//2) % 2
    assert item.shape == (90, 2)
    assert max(abs(np.corrcoef(item[name], dark)[0, 1]) for name in item) > .5
    with pytest.raises(ValueError, match='no tags'): tags(replace(split.train, tags=None))
    none = replace(split.train, tags=split.train.tags.assign(userId=9999))
    assert tags(none) == (None, None)

def test_combine_refuses_a_name_that_is_there_twice(split):
    both = combine(genres(split.train), activity(split.train))
    assert repr(both) == '1 features of users, 4 of items'
    with pytest.raises(ValueError, match="'genre=Comedy' of items is there twice"): combine(both, genres(split.train))
    assert combine() == (None, None)

# nothing leaks

def test_nothing_moves_when_the_test_part_changes():
    "Other test ratings of other films by other users: each feature, row and prediction stays."
    r = rated()
    is_test = torch.arange(len(r)) % 5 == 0
    g = torch.Generator().manual_seed(1)
    other = replace(r,
        users=torch.where(is_test, torch.randint(150, (len(r),), generator=g).int(), r.users),
        items=torch.where(is_test, torch.randint(90, (len(r),), generator=g).int(), r.items),
        values=torch.where(is_test, torch.rand(len(r), generator=g), r.values))
    a, b = r.take(~is_test), other.take(~is_test)
    assert same(everything(a), everything(b))
    models = [MatrixFactorization(part, k=3) for part in (a, b)]
    for model, part in zip(models, (a, b)): fit_variational(model, part, sweeps=5, features=everything(part))
    for name, tensor in models[0].state_dict().items(): assert torch.equal(tensor, models[1].state_dict()[name]), name

def test_stars_are_not_looked_at(split):
    assert same(everything(split.train), everything(replace(split.train, values=split.train.values.flip(0))))

def test_tags_of_pairs_outside_train_do_not_count(split):
    r = split.train
    pair = split.test.to_frame().iloc[0]
    more = pd.DataFrame(dict(userId=[int(pair.userId)]*50, movieId=int(pair.movieId), tag='only here', timestamp=0))
    assert same(tags(r, 2), tags(replace(r, tags=pd.concat([r.tags, more], ignore_index=True)), 2))

def test_features_are_standardized_over_rated_rows_only(split):
    r = split.train.take(split.train.items >= 10)
    item = pd.DataFrame(dict(x=np.where(np.arange(90) < 10, 1e6, np.arange(90.)), same=7.))
    known = known_of((None, item), r)['item']
    z = known.table[10:, 1]
    assert known.names == ['x', 'same'] and known.mean[0] == pytest.approx(np.arange(10, 90).mean())
    assert z.mean().abs() < 1e-5 and z.std(correction=0) == pytest.approx(1, abs=1e-5)
    assert (known.table[:, 2] == 0).all() and known.sd[1] == torch.inf

@pytest.mark.parametrize('features, says', [
    (16, 'a pair.*this is a int'), ((None, None, None), 'a tuple of 3'), ((None, np.zeros((3, 2))), r'shape \(3, 2\); there are 90 items'),
    ((pd.DataFrame(dict(a=['x']*150)), None), 'must be numbers'), ((np.full((150, 2), np.inf), None), 'feature 0 of user code 0 is infinite'),
    ((pd.DataFrame(np.zeros((150, 2)), columns=['a', 'a']), None), 'have one name')])
@pytest.mark.parametrize('solver', [GibbsSolver, VariationalSolver])
def test_features_that_cannot_work_are_refused(split, solver, features, says):
    with pytest.raises(ValueError, match=says): solver(MatrixFactorization(split.train, k=2), split.train, features=features)

# what they are worth, and newcomers

@pytest.fixture(scope='module')
def informed(split):
    model = MatrixFactorization(split.train, k=3)
    fit_variational(model, split.train, sweeps=8, features=outside(split.train))
    return model

@pytest.mark.parametrize('fit', [fit_variational, lambda *args, **how: fit_gibbs(*args, sweeps=40, burn_in=10, keep=5, **how)])
def test_facts_help_where_films_have_few_ratings(fit):
    train, _, test = split_random(rated(n_items=900, n=2500, seed=3), valid=.1, test=.4, seed=0)
    errors = []
    for features in (None, outside(train)):
        model = MatrixFactorization(train, k=3)
        fit(model, train, features=features)
        errors.append(rmse(model.predict(test), test))
    assert errors[1] < errors[0]*.98, errors

def test_the_prior_of_a_newcomer_is_the_conditional_of_the_joint_normal(informed):
    "Against the joint covariance of features and row, conditioned by a Schur complement."
    found, prior = informed.feature_prior('item'), informed.prior('item')
    mean, C, M, P = [t.double() for t in found[1:]]
    row = torch.linalg.inv(P) + M.T @ C @ M
    facts = dict(year=1950., genre='Horror')
    x = torch.from_numpy(facts_as_features(found.names, facts))
    assert x.isfinite().all(), 'all features of items are known'
    some = dict(year=1950.)
    at = [found.names.index('year')]
    gain = (M.T @ C)[:, at] @ torch.linalg.inv(C[at][:, at])
    given = informed.prior_given('item', some)
    torch.testing.assert_close(given.mean.double(), prior.mean.double() + gain @ (1950. - mean[at]), atol=1e-4, rtol=1e-4)
    covariance = row - gain @ C[at] @ M
    torch.testing.assert_close(torch.linalg.inv(given.precision.double()), covariance, atol=1e-3, rtol=1e-3)
    whole = informed.prior_given('item', facts)
    torch.testing.assert_close(whole.mean.double(), prior.mean.double() + (x - mean) @ M, atol=1e-3, rtol=1e-3)
    assert (torch.linalg.eigvalsh(whole.precision - given.precision) > -1e-2*P.norm()).all(), 'who knows more is surer'

def test_nothing_known_is_the_prior_of_lesson_08(informed):
    for side in SIDES:
        a, b = informed.prior_given(side, {}), informed.prior(side)
        assert torch.equal(a.mean, b.mean) and torch.equal(a.precision, b.precision)
    assert informed.fold_in({0: 4.}, features={}).bias == informed.fold_in({0: 4.}).bias

def test_a_newcomer_is_folded_in_around_the_mean_of_the_facts(informed):
    none = torch.zeros(0, dtype=torch.int64)
    good = informed.fold_in_item(none, none.float(), features=dict(genre='Drama', year=1945))
    bad = informed.fold_in_item(none, none.float(), features=dict(genre='Horror', year=2005))
    assert good.bias - bad.bias > 1, 'as planted'
    assert good.bias == pytest.approx(informed.prior_given('item', dict(genre='Drama', year=1945)).mean[-1].item(), abs=1e-5)
    users = torch.arange(40)
    values = torch.full((40,), 3.)
    a, b = [informed.fold_in_item(users, values, features=f) for f in (dict(genre='Drama', year=1945), dict(genre='Horror', year=2005))]
    assert abs(a.bias - b.bias) < .4*(good.bias - bad.bias), 'ratings outweigh facts'

@pytest.mark.parametrize('facts, says', [(dict(height=1), "no feature 'height'. It knows: age, gender, occupation"), (dict(gender='x'), 'gender=F, gender=M'),
                                         (dict(age='old'), "age is 'old'"), (dict(age=np.inf), 'must be a number'),
                                         (dict(gender=np.nan), 'gender is nan; it must be words')])
def test_facts_that_the_model_does_not_know_are_refused(informed, facts, says):
    with pytest.raises(ValueError, match=says): informed.fold_in({0: 4.}, features=facts)

@pytest.mark.parametrize('fit', [fit_variational, partial(fit_gibbs, burn_in=4, keep=2)], ids=['variational', 'Gibbs'])
def test_the_unit_of_a_feature_does_not_matter(split, fit):
    "A film of 1950 is expected where one of 19.5 centuries is."
    year = years(split.train).item
    priors = []
    for table, value in ((year, 1950.), (year/100, 19.5)):
        model = MatrixFactorization(split.train, k=2)
        fit(model, split.train, sweeps=6, features=(None, table), progress=False)
        priors.append(model.prior_given('item', dict(year=value)))
    for a, b in zip(priors[0][:2], priors[1][:2]): torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)
    assert (priors[0].mean - model.prior('item').mean).abs().max() > .05, 'the year moves it'

def test_facts_are_a_dict(informed):
    with pytest.raises(TypeError, match='features are a dict of what is known.*this is a list'): informed.fold_in({0: 4.}, features=['F'])

def test_facts_say_nothing_to_a_model_without_features(split, informed):
    plain = MatrixFactorization(split.train, k=2)
    with pytest.raises(ValueError, match='without features of users'): plain.fold_in({0: 4.}, features=dict(age=3))
    model = MatrixFactorization.from_state(informed.state_dict(), informed.user_ids, informed.item_ids, informed.movies,
                                           informed.rating_range, feature_names=informed.feature_names)
    prior = model.prior('user')
    model.set_prior('user', prior.mean, prior.precision)
    with pytest.raises(ValueError, match='without features of users'): model.prior_given('user', dict(age=3))
    assert model.feature_prior('item') is not None

def test_why_still_adds_up(informed):
    assert why(informed, {0: 4., 2: 3.}, 4).share.sum() == pytest.approx(informed.scores(informed.fold_in({0: 4., 2: 3.}))[2].item(), abs=1e-4)

# kept and saved

def test_the_best_sweep_keeps_its_own_features(split):
    "The sweeps of ALS before it know none; a model that ends at one of them knows none either."
    model = MatrixFactorization(split.train, k=3)
    fit_variational(model, split.train, split.valid, sweeps=8, features=outside(split.train))
    assert model.feature_prior('item') is not None
    early = MatrixFactorization(split.train, k=3)
    fit_variational(early, split.train, split.valid, sweeps=2, start=2, features=outside(split.train))
    assert early.feature_prior('item') is None

def test_a_run_with_features_goes_on_from_its_checkpoint(split, tmp_path):
    how = dict(features=outside(split.train), checkpoint=tmp_path/'c')
    straight, resumed = [MatrixFactorization(split.train, k=3) for _ in range(2)]
    fit_variational(straight, split.train, split.valid, sweeps=6, features=how['features'])
    class Stop(BaseException): pass
    solver = VariationalSolver.sweep
    done = []
    def three(self):
        if len(done) == 3: raise Stop
        done.append(1)
        return solver(self)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(VariationalSolver, 'sweep', three)
        with pytest.raises(Stop): fit_variational(resumed, split.train, split.valid, sweeps=6, **how)
    fit_variational(resumed, split.train, split.valid, sweeps=6, **how)
    for name, tensor in straight.state_dict().items(): assert torch.equal(tensor, resumed.state_dict()[name]), name

def test_features_are_saved_with_the_model(split, informed, tmp_path):
    informed.save(tmp_path/'m')
    with safe_open(tmp_path/'m', 'pt') as f: assert f.metadata()['version'] == '3'
    loaded = MatrixFactorization.load(tmp_path/'m')
    for side in SIDES:
        a, b = informed.feature_prior(side), loaded.feature_prior(side)
        assert a.names == b.names and all(torch.equal(x, y) for x, y in zip(a[1:], b[1:]))
    facts = dict(age=30, gender='F')
    assert loaded.fold_in({0: 4.}, features=facts).bias == informed.fold_in({0: 4.}, features=facts).bias
    MatrixFactorization(split.train, k=2).save(tmp_path/'plain')
    with safe_open(tmp_path/'plain', 'pt') as f: assert f.metadata()['version'] == '2', 'older editions read it'

@pytest.mark.parametrize('change', [
    dict(user_feature_mean=torch.zeros(2)), dict(item_feature_weights=torch.zeros(3, 9)), dict(user_feature_precision=torch.zeros(2, 2)),
    dict(feature_names=None), dict(feature_names='{"user": [1]}'), dict(feature_names='{"film": ["a"]}'), dict(feature_names='[]')])
def test_a_file_whose_features_do_not_fit_is_refused(informed, tmp_path, change):
    from mfbook.runs import _checksum
    from safetensors.torch import save_file
    informed.save(tmp_path/'m')
    with safe_open(tmp_path/'m', 'pt') as f: meta, parts = dict(f.metadata()), {name: f.get_tensor(name) for name in f.keys()}
    for name, value in change.items():
        if value is None: del parts[name]
        else: parts[name] = value if torch.is_tensor(value) else torch.tensor(list(value.encode()), dtype=torch.uint8)
    del meta['sha256']
    save_file(parts, tmp_path/'m', metadata=meta | {'sha256': _checksum(parts, meta)})
    with pytest.raises(ValueError, match='m is damaged'): MatrixFactorization.load(tmp_path/'m')

def test_a_feature_prior_can_be_replaced_and_forgotten(split):
    model = MatrixFactorization(split.train, k=2)
    prior = FeaturePrior(['a'], torch.ones(1), torch.eye(1), torch.ones(1, 3), torch.eye(3))
    model.set_feature_prior('user', prior)
    assert model.feature_prior('user').names == ['a'] and model.feature_prior('item') is None
    assert model.prior_given('user', dict(a=3.)).mean.tolist() == [2., 2., 2.]
    model.set_feature_prior('user', None)
    assert model.feature_prior('user') is None

# people in MovieLens's files, and the larger editions in the benchmark

def write_1m(folder, users=60, films=40):
    "A small folder in the layout of MovieLens 1M."
    folder.mkdir(exist_ok=True)
    g = np.random.default_rng(0)
    pairs = [(u, i) for u in range(1, users + 1) for i in range(1, films + 1) if g.random() < .5]
    (folder/'ratings.dat').write_text(''.join(f'{u}::{i}::{1 + (u*i) % 5}::{978300000 + u + i}\n' for u, i in pairs))
    (folder/'movies.dat').write_text(''.join(f'{i}::Film {i} ({1950 + i})::{["Comedy", "Drama|War"][i % 2]}\n' for i in range(1, films + 1)))
    (folder/'users.dat').write_text(''.join(f'{u}::{"FM"[u % 2]}::{[1, 25, 56][u % 3]}::{u % 4}::{10000 + u}\n' for u in range(users, 0, -1)))

def test_people_of_movielens_1m(tmp_path):
    write_1m(tmp_path/'ml-1m')
    r = load_ratings(tmp_path/'ml-1m')
    assert list(r.people) == ['userId', 'age', 'gender', 'occupation', 'zip'] and r.people.userId.tolist() == r.user_ids.tolist()
    assert r.people.iloc[0].tolist() == [1, 25., 'M', '1', '10001']
    assert list(columns(r, 'user', r.people, ['occupation']).user) == [f'occupation={n}' for n in range(4)]

@pytest.mark.parametrize('line, says', [('3::F::x::1::1', "users.dat, line 1, column 'age'"), ('x::F::25::1::1', "line 1, column 'userId'"), ('2::F::25::1::1', 'users.dat, line 59: user 2 is there twice'),
                                        ('1::F::999::1::1', 'outside 0 to 150')])
def test_a_fault_in_the_file_of_people_is_named(tmp_path, line, says):
    write_1m(tmp_path/'ml-1m')
    file = tmp_path/'ml-1m'/'users.dat'
    lines = file.read_text().splitlines()
    file.write_text('\n'.join([line, *lines[1:]]) + '\n')
    with pytest.raises(ValueError, match=says): load_ratings(tmp_path/'ml-1m')

def test_people_must_stand_in_the_order_of_the_codes(split):
    r = split.train
    with pytest.raises(ValueError, match='people has 150 rows'): replace(r, people=r.people.iloc[::-1])
    assert r.take(slice(10)).people is r.people

@pytest.mark.skipif('MFBOOK_DATA' not in __import__('os').environ, reason='MFBOOK_DATA is not set')
def test_people_of_movielens_100k():
    folder = Path(__import__('os').environ['MFBOOK_DATA'])/'ml-100k'
    train, test = load_fold(folder, 'u1')
    assert len(train.people) == 943 and train.people.iloc[0].tolist() == [1, 24., 'M', 'technician', '85711']
    assert columns(train, 'user', train.people, ['age', 'gender', 'occupation']).user.shape[1] > 15

@pytest.mark.parametrize('name', ['ml-1m', 'ml-10m'])
def test_the_benchmark_runs_the_larger_editions(tmp_path, monkeypatch, name):
    write_1m(tmp_path/name)
    if name == 'ml-10m': (tmp_path/name/'users.dat').unlink()
    monkeypatch.setenv('MFBOOK_DATA', str(tmp_path))
    cuts = list(accuracy.splits([name]))
    assert len(cuts) == 5 and {cut.data for cut in cuts} == {name} and len(cuts[0].test)/len(cuts[0].train) == pytest.approx(10/81, abs=.01)
    for method in ('biases', 'variational: averages'): accuracy.measure(method, cuts[0], tmp_path/'r.jsonl')
    rows = [line for line in (tmp_path/'r.jsonl').read_text().splitlines() if name in line]
    assert len(rows) == 2 and not any('NaN' in row for row in rows)
