"""Data at the edge: all ratings alike, one user, one item, one time, one rating, nothing to test on, more factors than the
table has rows. Each solver, split, report and plot gives a right answer, or says why not in a sentence of the book's own.
"""
import functools, re, traceback, warnings
from dataclasses import replace
from pathlib import Path
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import mfbook
from conftest import pick
from mfbook.als import RowPrior, both_sides, draw_dual, fit_als, lookup_table, solve_draw, solve_dual, solve_exact, squared_errors, tune_als
from mfbook.compiled import fit_compiled_sgd, fit_compiled_variational, fit_mean_field
from mfbook.evaluation import calibration, plot_calibration, plot_slices, ranking, report, slices, worst_films
from mfbook.features import activity, combine, who_rated_what
from mfbook.gibbs import coverage, draw_rows, fit_gibbs
from mfbook.holdout import concat, fit_biases_koren, folds, mae, rating_counts, rmse, split_by_time, split_last, split_random
from mfbook.model import SIDES, MatrixFactorization
from mfbook.newcomers import learn_prior
from mfbook.ratings import Ratings
from mfbook.recommending import film_map, list_facts, plot_map, recommend_all
from mfbook.runs import cross_validate, fit, fit_biases, fit_sgd, tune_biases, tune_sgd
from mfbook.variational import ActivityBins, fit_variational

HOME = Path(mfbook.__file__).parent

@pytest.fixture(autouse=True)
def close_figures():
    torch.set_num_threads(1)
    yield
    plt.close('all')

# ---- the data

def table(n_users=12, n_items=9, n=70, seed=0):
    "A frame of stars from 1 to 5 with times."
    g = np.random.default_rng(seed)
    cells = g.choice(n_users*n_items, n, replace=False)
    return pd.DataFrame(dict(userId=cells // n_items, movieId=cells % n_items + 100, rating=g.integers(1, 6, n).astype(float),
                             timestamp=g.integers(9e8, 1e9, n)))

def ratings_of(frame, rating_range=(1, 5)): return Ratings.from_frame(frame, rating_range=rating_range)

DATA = {
    'all ratings alike': lambda: ratings_of(table().assign(rating=4.)),
    'all alike, and the scale is one number': lambda: ratings_of(table().assign(rating=4.), rating_range=None),
    'all alike, and 0': lambda: ratings_of(table().assign(rating=0.), rating_range=(0, 1)),
    'two values': lambda: ratings_of(table().assign(rating=lambda f: (f.rating > 3)*1.), rating_range=(0, 1)),
    'one user': lambda: ratings_of(table(1, 20, 20)),
    'one item': lambda: ratings_of(table(20, 1, 20)),
    'one rating': lambda: ratings_of(table(1, 1, 1)),
    'two ratings': lambda: ratings_of(table(2, 1, 2)),
    'one time': lambda: ratings_of(table().assign(timestamp=10**9)),
    'no times': lambda: ratings_of(table().drop(columns='timestamp')),
    'a full table': lambda: ratings_of(table(6, 5, 30)),
    'one rating a user': lambda: ratings_of(table(200, 5, 300, seed=1).drop_duplicates('userId')),
    'one user with one rating': lambda: ratings_of(pd.concat([table(), pd.DataFrame(dict(userId=[99], movieId=[100], rating=[5.], timestamp=[10**9]))])),
    'users and items without ratings': lambda: (lambda r: r.take((r.users > 2) & (r.items > 1)))(ratings_of(table())),
    'half stars below zero': lambda: ratings_of(table().assign(rating=lambda f: (f.rating - 3)/2), rating_range=(-1, 1)),
}
K = 20        # above the rank of every table here

def without_noise(rank, n_users=30, n_items=20):
    "Ratings that are exactly biases plus `rank` products of factors, without rounding or noise."
    g = np.random.default_rng(3)
    table = g.normal(size=(n_users, rank)) @ g.normal(size=(rank, n_items)) + g.normal(size=(n_users, 1)) + g.normal(size=(1, n_items))
    user, item = np.indices(table.shape)
    return Ratings.from_frame(pd.DataFrame(dict(userId=user.flatten(), movieId=item.flatten() + 100, rating=table.flatten(),
                                                timestamp=np.arange(10**9, 10**9 + table.size))))

DATA |= {'no noise, biases alone': lambda: without_noise(0), 'no noise, one factor': lambda: without_noise(1),
         'no noise, two factors': lambda: without_noise(2)}

def answer(f, *args, **kwargs):
    """What `f` returns, or None if it says why not: a ValueError raised by the book itself, in one line.

    A warning about numbers (a mean of nothing, a division by zero) is an error.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('error', RuntimeWarning)
        warnings.simplefilter('ignore', UserWarning)          # an edge of a grid
        try: return f(*args, **kwargs)
        except (ValueError, IndexError, KeyError) as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            assert HOME in Path(last.filename).parents, f'{type(error).__name__} from {last.filename}: {error}'
            assert type(error) in (ValueError, IndexError, KeyError) and 10 < len(str(error)) < 250 and '\n' not in str(error)
            return None

# ---- solvers

def fit_with(fit):
    "The same method with features of who rated what."
    def method(model, train, *args, **settings):
        return fit(model, train, *args, features=combine(who_rated_what(train, 2), activity(train)), **settings)
    return method

SOLVERS = {
    'biases': (fit_biases, 0, {}),
    'SGD': (fit_sgd, K, dict(epochs=5)),
    'ALS': (fit_als, K, dict(sweeps=5)),
    'ALS by rating': (fit_als, K, dict(sweeps=5, reg=.05, bias_reg=.05, per_rating=True)),
    'ALS by conjugate gradients': (fit_als, K, dict(sweeps=5, cg_steps=3)),
    'Gibbs': (fit_gibbs, K, dict(sweeps=12, burn_in=4, keep=3)),
    'Gibbs with features': (fit_with(fit_gibbs), K, dict(sweeps=12, burn_in=4, keep=3)),
    'variational': (fit_variational, K, dict(sweeps=6)),
    'variational with features': (fit_with(fit_variational), K, dict(sweeps=6)),
    'variational by conjugate gradients': (fit_variational, K, dict(sweeps=6, cg_steps=3)),
    'variational without a start': (fit_variational, K, dict(sweeps=6, start=0)),
    'compiled SGD': (fit_compiled_sgd, K, dict(epochs=5)),
    'mean field': (fit_mean_field, K, dict(sweeps=6)),
    'mean field without a start': (fit_mean_field, K, dict(sweeps=6, start=0)),
    'compiled variational': (fit_compiled_variational, K, dict(sweeps=6)),
}

def finite(model):
    return all(torch.isfinite(model.rows(side)).all() and torch.isfinite(model.prior(side).precision).all() for side in SIDES)

DRAWN = pick(SOLVERS, 'biases', 'SGD', 'Gibbs', 'variational')        # whose records have other columns, or another unit

@functools.cache
def solved(data, solver):
    "The ratings, a model fitted to them without any warning, and the record of it. No test changes them."
    ratings = DATA[data]()
    fit, k, settings = SOLVERS[solver]
    model = MatrixFactorization(ratings, k=k)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        history = fit(model, ratings, progress=False, **settings)
    return ratings, model, history

@pytest.mark.parametrize('solver', SOLVERS)
@pytest.mark.parametrize('data', DATA)
def test_every_solver_fills_the_model(data, solver):
    "With numbers that are finite, predictions within the scale, and an error no larger than that of a coin."
    ratings, model, history = solved(data, solver)
    lowest, highest = ratings.rating_range
    predicted = model.predict(ratings)
    assert finite(model) and predicted.min() >= lowest and predicted.max() <= highest
    assert history.frame().train.map(np.isfinite).all()
    assert rmse(predicted, ratings) <= 1.1*float(ratings.values.std(correction=0)) + .02
    assert str(history) and history._repr_html_()
    if solver in DRAWN: history.plot()

@pytest.mark.parametrize('solver', SOLVERS)
@pytest.mark.parametrize('value', [4., 0.])
def test_if_all_ratings_are_alike_so_are_the_predictions(solver, value):
    "To a hundredth of the scale, for everybody and everything."
    ratings = ratings_of(table().assign(rating=value), rating_range=(0, 5))
    fit, k, settings = SOLVERS[solver]
    model = MatrixFactorization(ratings, k=k)
    fit(model, ratings, progress=False, **settings)
    scores = model.scores_of(model.rows('user'))
    assert (scores - value).abs().max() < .05

@pytest.mark.parametrize('solver', SOLVERS)
def test_with_validation_it_stops_and_keeps_the_best(solver):
    "All alike: the first sweep cannot be improved on, and nothing breaks on the way to the end."
    ratings = ratings_of(table().assign(rating=4.))
    train, valid, _ = split_random(ratings, valid=.2, test=0)
    fit, k, settings = SOLVERS[solver]
    model = MatrixFactorization(train, k=k)
    history = fit(model, train, valid, progress=False, **settings)
    assert finite(model) and history.best['valid'] < .05

@pytest.mark.parametrize('solver', [solver for solver in SOLVERS if ('Gibbs' in solver or 'variational' in solver or 'mean field' in solver) and 'without a start' not in solver])
@pytest.mark.parametrize('rank', [0, 1, 2])
def test_ratings_without_noise_are_found_again(rank, solver):
    "The noise comes down to a hundredth of the ratings' deviation, and stays there. (Without a start factors stay near zero.)"
    ratings = without_noise(rank)
    fit, _, settings = SOLVERS[solver]
    model = MatrixFactorization(ratings, k=3)
    history = fit(model, ratings, progress=False, **settings | dict(sweeps=60))
    unit = float(ratings.values.std(correction=0))
    assert rmse(model.predict(ratings), ratings) < .02*unit
    assert .0099*unit < history.rows[-1]['noise'] < .03*unit

def test_gibbs_gives_error_bars_that_are_finite():
    for data, make in DATA.items():
        ratings = make()
        model = MatrixFactorization(ratings, k=3)
        draws = fit_gibbs(model, ratings, sweeps=8, burn_in=2, keep=3, progress=False).draws
        lower, upper = draws.interval(ratings)
        assert (lower <= upper).all() and torch.isfinite(lower).all() and torch.isfinite(upper).all(), data
        assert 0 <= coverage(draws, ratings, [.5])[0] <= 1

@pytest.mark.parametrize('data', DATA)
def test_tuning_and_cross_validation(data):
    ratings = DATA[data]()
    parts = answer(split_random, ratings, valid=.2, test=0)
    if parts is not None:
        assert set(answer(tune_biases, parts.train, parts.valid, grid=(0, 1, 5))) == {'reg_user', 'reg_item'}
        for tune, grid in ((tune_sgd, [dict(reg=.1, epochs=2), dict(reg=.2, epochs=2)]), (tune_als, [dict(reg=5., sweeps=2)])):
            assert answer(tune, parts.train, parts.valid, grid, k=3, progress=False).valid.notna().all()
    for fit, settings in ((fit_biases, {}), (fit_als, dict(sweeps=2)), (fit_variational, dict(sweeps=3))):
        frame = answer(cross_validate, fit, ratings, k=2, factors=None if fit is fit_biases else 3, progress=False, **settings)
        if frame is not None: assert frame.notna().all(axis=None) and len(frame) == 2

def test_koren_biases():
    for data, make in DATA.items():
        ratings = make()
        assert finite(fit_biases_koren(MatrixFactorization(ratings, k=0), ratings, 0, 0)), data

@pytest.mark.parametrize('solver', SOLVERS)
@pytest.mark.parametrize('data', DATA)
def test_a_newcomer_is_folded_in_or_told_why_not(data, solver):
    ratings, model, _ = solved(data, solver)
    row = answer(model.fold_in, [0], [ratings.rating_range[1]])
    assert row is None or torch.isfinite(model.scores(row)).all()

# ---- what float32 cannot solve

SENTENCE = "^float32 can't solve the equations of a row: .*Take a larger reg and bias_reg, if the method has them, or fewer factors"

def long_and_short_rows():
    "Some users with 3 ratings, which are fewer than factors, and some with 20."
    frame = pd.concat([table(30, 40, 600), table(30, 40, 90, seed=1).assign(userId=lambda f: f.userId + 30)])
    return ratings_of(frame.drop_duplicates(['userId', 'movieId']))

@pytest.mark.parametrize('reg', [1e-8, 1e-30, 1e-60])
@pytest.mark.parametrize('settings', [{}, dict(per_rating=True), dict(cg_steps=3)])
def test_als_with_next_to_no_regularization_answers_or_says_what_to_do(reg, settings):
    ratings = long_and_short_rows()
    model = MatrixFactorization(ratings, k=40)
    try: fit_als(model, ratings, sweeps=5, reg=reg, bias_reg=reg, progress=False, **settings)
    except FloatingPointError as error: assert re.search(f'{SENTENCE}|Make a new model, and take more regularization', str(error))
    else: assert finite(model)

def test_als_names_its_regularization_where_it_is_too_small():
    ratings = long_and_short_rows()
    with pytest.raises(FloatingPointError, match=SENTENCE):
        fit_als(MatrixFactorization(ratings, k=40), ratings, reg=1e-8, bias_reg=1e-8, progress=False)

@pytest.mark.parametrize('reg', [0, -1., float('nan'), float('inf')])
def test_als_refuses_what_is_no_regularization(reg):
    ratings = ratings_of(table())
    for settings in (dict(reg=reg), dict(bias_reg=reg)):
        with pytest.raises(ValueError, match='both must be finite and above 0'):
            fit_als(MatrixFactorization(ratings, k=2), ratings, progress=False, **settings)

def unsolvable():
    "Each way to the rows of a side, with equations that have no single solution: zeros for A, or for the prior's precision."
    A, b, X, y = torch.zeros(3, 2, 2), torch.ones(3, 2), torch.zeros(3, 1, 2), torch.ones(3, 1)
    sigma, z = torch.ones(3), torch.ones(3, 2)
    prior = RowPrior(torch.zeros(1, 2), torch.zeros(2, 2), torch.ones(3))
    ratings = ratings_of(table())
    by_user = both_sides(ratings, 3.)['user']
    rows = lookup_table(torch.zeros(ratings.n_items, 2))
    solvable = lookup_table(torch.arange(2.*ratings.n_items).view(-1, 2))
    bins = ActivityBins(ratings.users, ratings.items, ratings.n_users, ratings.n_items)
    return {'solve_exact': lambda: solve_exact(A, b), 'solve_draw': lambda: solve_draw(A, b, sigma, z),
            'solve_dual': lambda: solve_dual(X, y, prior), 'draw_dual': lambda: draw_dual(X, y, prior, sigma, z),
            'draw_rows': lambda: draw_rows(by_user, solvable, torch.zeros(1, 2), torch.zeros(2, 2), torch.ones(ratings.n_users),
                                           np.random.default_rng(0)),        # of users without ratings
            'covariances': lambda: bins.covariances(rows, torch.zeros(2, 2), 1., lambda at: torch.zeros(len(at), 3, 3))}

@pytest.mark.parametrize('way', unsolvable())
def test_equations_without_a_solution_are_named_wherever_they_are_solved(way):
    with pytest.raises(FloatingPointError, match=SENTENCE): unsolvable()[way]()

def test_rounding_leaves_no_sum_of_squares_below_0():
    "Of rows that explain their ratings to the last bit but rounding."
    generator = torch.Generator().manual_seed(0)
    X, w = torch.randn(200, 30, 3, generator=generator), torch.randn(200, 3, generator=generator)
    Xy = torch.cat([X, X @ w[..., None]], 2)
    squared = squared_errors(Xy.mT @ Xy, w)
    assert (squared >= 0).all() and squared.max() < 1e-4

@pytest.mark.parametrize('solver', [solver for solver in SOLVERS if solver != 'biases'])
@pytest.mark.parametrize('number', [float('nan'), float('inf')])
def test_a_model_that_a_failed_fit_left_is_refused(number, solver):
    ratings = ratings_of(table())
    fit, k, settings = SOLVERS[solver]
    model = MatrixFactorization(ratings, k=k)
    rows = model.rows('user')
    rows[3, 2] = number
    model.put_rows('user', rows)
    with pytest.raises(ValueError, match='NaN or infinite.*Make a new model'): fit(model, ratings, progress=False, **settings)

def test_a_solver_whose_numbers_break_is_stopped():
    class Broken:
        def sweep(self): return dict(train=1., noise=float('nan'))
        def state_dict(self): return {}
        def load_state_dict(self, state): pass
    ratings = ratings_of(table())
    with pytest.raises(FloatingPointError, match='^noise is nan after sweep 1: .*Make a new model'):
        fit(MatrixFactorization(ratings, k=1), Broken(), ratings, progress=False)

# ---- splits

SPLITS = {'split_random': split_random, 'split_by_time': split_by_time, 'split_last': split_last,
          'large shares': lambda ratings: split_random(ratings, valid=.3, test=.3),
          'by time, large shares': lambda ratings: split_by_time(ratings, valid=.3, test=.3)}

@pytest.mark.parametrize('split', SPLITS)
@pytest.mark.parametrize('data', DATA)
def test_every_split_keeps_each_rating_once_and_prints_itself(data, split):
    ratings = DATA[data]()
    parts = answer(SPLITS[split], ratings)
    if parts is None: return
    assert sum(map(len, parts)) == len(ratings) and len(parts.train) > 0
    assert str(parts) and len(parts.summary()) == 3

@pytest.mark.parametrize('data', DATA)
def test_folds(data):
    ratings = DATA[data]()
    for k in (2, len(ratings)):
        found = answer(folds, ratings, k)
        if found is None: assert len(ratings) < 2 and k < 2 or k > len(ratings)
        else: assert [len(train) + len(test) for train, test in found] == [len(ratings)]*k

# ---- what describes the data

@pytest.mark.parametrize('data', DATA)
def test_ratings_print_themselves_and_go_back_into_a_frame(data):
    ratings = DATA[data]()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert str(ratings) and 'nan' not in str(ratings)
        frame = ratings.to_frame()
        assert len(Ratings.from_frame(frame, rating_range=ratings.rating_range)) == len(ratings)

def test_no_ratings_at_all():
    ratings = ratings_of(table())
    nothing = ratings.take(slice(0, 0))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert '0 ratings' in str(nothing) and 'nan' not in str(nothing)
        assert len(nothing.to_frame()) == 0 and len(concat(nothing, ratings)) == len(ratings)
        assert [counts.sum() for counts in rating_counts(nothing)] == [0, 0]
    for f in (lambda: MatrixFactorization(nothing), lambda: split_random(nothing), lambda: split_by_time(nothing), lambda: split_last(nothing),
              lambda: folds(nothing), lambda: cross_validate(fit_als, nothing), lambda: Ratings.from_frame(table()[:0])):
        assert answer(f) is None
    for fit, k, settings in SOLVERS.values():
        assert answer(fit, MatrixFactorization(ratings, k=k), nothing, progress=False, **settings) is None
        assert answer(fit, MatrixFactorization(ratings, k=k), ratings, nothing, progress=False, **settings) is None

# ---- reports and plots

def fitted(ratings, k=3):
    biases, als = MatrixFactorization(ratings, k=0), MatrixFactorization(ratings, k=k)
    fit_biases(biases, ratings, progress=False)
    fit_als(als, ratings, sweeps=3, progress=False)
    return {'biases': biases, 'ALS': als}

@pytest.mark.parametrize('data', ['all ratings alike', 'all alike, and 0', 'two values', 'one user', 'one item', 'one rating', 'one time', 'no times'])
def test_a_report_is_made_printed_and_drawn(data):
    "On the training ratings themselves, so that there is a test set whatever the data."
    ratings = DATA[data]()
    made = answer(report, fitted(ratings), ratings, ratings, n=5)
    if made is None: return
    assert made.table[['rmse', 'mae']].notna().all(axis=None)
    assert str(made) and made._repr_html_()
    with warnings.catch_warnings():
        warnings.simplefilter('error', RuntimeWarning)
        made.plot()
        plt.gcf().canvas.draw()

PARTS = {
    'calibration': lambda models, train, test: plot_calibration(calibration(models, test)),
    'slices by user': lambda models, train, test: plot_slices(slices(models, train, test, 'ratings of the user', n=5), 'x'),
    'slices by item': lambda models, train, test: plot_slices(slices(models, train, test, 'ratings of the item', n=5), 'x'),
    'slices by time': lambda models, train, test: plot_slices(slices(models, train, test, 'time of the rating', n=5), 'x'),
    'worst films': lambda models, train, test: str(worst_films(models['ALS'], test)),
    'ranking': lambda models, train, test: ranking(models['ALS'], train.take(train.values < train.mean), test),
    'lists': lambda models, train, test: list_facts(recommend_all(models['ALS'], train, n=3), rating_counts(train)[1], train.n_users),
    'map': lambda models, train, test: plot_map(film_map(models['ALS'], range(train.n_items))[0], train.titles(range(train.n_items))),
    'prior': lambda models, train, test: finite(learn_prior(models['ALS'], train)) or 1/0,
    'titles': lambda models, train, test: models['ALS'].titles(range(train.n_items)),
}

@pytest.mark.parametrize('part', PARTS)
@pytest.mark.parametrize('data', DATA)
def test_each_part_of_an_evaluation_answers_or_says_why(data, part):
    ratings = DATA[data]()
    answer(PARTS[part], fitted(ratings), ratings, ratings)

@pytest.mark.parametrize('part', ['report', 'calibration', 'slices by user', 'slices by item', 'slices by time', 'worst films', 'ranking'])
def test_an_empty_test_set_is_named(part):
    ratings = ratings_of(table())
    nothing = ratings.take(slice(0, 0))
    models = fitted(ratings)
    f = PARTS.get(part, lambda models, train, test: report(models, train, test, n=5))
    found = answer(f, models, ratings, nothing)
    assert found is None or isinstance(found, str), found

def test_nothing_is_predicted_for_nothing_and_measures_say_so():
    ratings = ratings_of(table())
    nothing = ratings.take(slice(0, 0))
    for model in fitted(ratings).values(): assert model.predict(nothing).shape == (0,)
    for measure in (rmse, mae):
        with pytest.raises(ValueError, match='no ratings to measure on'): measure(model.predict(nothing), nothing)

def test_without_titles_it_reads_well():
    ratings = ratings_of(table())
    assert ratings.movies is None
    models = fitted(ratings)
    assert 'nan' not in str(worst_films(models['ALS'], ratings, min_ratings=1)) and '100' in str(worst_films(models['ALS'], ratings, min_ratings=1))
