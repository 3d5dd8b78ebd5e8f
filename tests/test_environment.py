"""What a notebook may have done before: other defaults of torch, threads and then a fork, read-only arrays; and settings
that come as numbers of NumPy or torch. The answers are those of a fresh notebook with plain numbers.
"""
import json, os, subprocess, sys, textwrap, warnings
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
import torch
from mfbook.als import fit_als, tune_als
from mfbook.gibbs import fit_gibbs
from mfbook.holdout import BiasSolver, concat, fit_biases_koren, folds, mae, rating_counts, rmse, split_by_time, split_last, split_random
from mfbook.model import MatrixFactorization
from mfbook.ratings import Ratings
from mfbook.runs import cross_validate, fit_biases, fit_sgd, tune, tune_biases, tune_sgd
from mfbook.variational import fit_variational

root = Path(__file__).resolve().parent.parent

def frame(n_users=20, n_items=15, n=150):
    g = np.random.default_rng(0)
    cells = g.choice(n_users*n_items, n, replace=False)
    return pd.DataFrame(dict(userId=cells // n_items, movieId=cells % n_items, rating=g.integers(1, 6, n).astype(float),
                             timestamp=g.integers(9e8, 1e9, n)))

@pytest.fixture(scope='module')
def ratings(): return Ratings.from_frame(frame(), rating_range=(1, 5))

pytestmark = pytest.mark.usefixtures('one_thread')

# ---- other defaults of torch, in a process of its own

PREAMBLE = '''
import os, sys
import numpy as np, pandas as pd, torch
import torch._dynamo            # as torch's optimizers do at their first step
torch.set_num_threads(1)
from mfbook.all import *
sys.path.insert(0, 'tests')
import matplotlib; matplotlib.use('Agg')
from test_environment import frame
def data(): return Ratings.from_frame(frame(), rating_range=(1, 5))
'''
JOBS = {
    'the data': 'r = data(); out = [len(r), r.mean, *r.take(slice(0, 5)).values.tolist(), *r.take(r.values > 3).users.tolist()]',
    'encode': 'out = data().encode(frame()[:7]).values.tolist()',
    'splits': 'out = [*split_random(data(), seed=3).test.users.tolist(), *split_by_time(data()).test.items.tolist(), *split_last(data()).test.items.tolist()]',
    'folds': 'out = [part.values.sum().item() for pair in folds(data(), 3, seed=1) for part in pair]',
    'measures': 'r = data(); p = np.full(len(r), 3.); out = [rmse(p, r), mae(p.tolist(), r.values), rmse(torch.from_numpy(p), r)]',
    'counts': 'out = [counts.sum().item() for counts in rating_counts(data())]',
    'the model': 'm = MatrixFactorization(data(), k=3, seed=1); out = m.predict(data()).tolist()',
    'scores': 'm = MatrixFactorization(data(), k=3, seed=1); out = m.scores(3).tolist()',
    'Koren': 'm = MatrixFactorization(data(), k=0); fit_biases_koren(m, data(), 3., 2.); out = m.predict(data()).tolist()',
    'biases': 'm = MatrixFactorization(data(), k=0); fit_biases(m, data(), progress=False); out = m.predict(data()).tolist()',
    'SGD': 'm = MatrixFactorization(data(), k=3); fit_sgd(m, data(), epochs=3, progress=False); out = m.predict(data()).tolist()',
    'SGD by hand': 'm = MatrixFactorization(data(), k=3); fit_sgd(m, data(), epochs=3, update=closed_form, progress=False); out = m.predict(data()).tolist()',
    'ALS': 'm = MatrixFactorization(data(), k=3); fit_als(m, data(), sweeps=3, progress=False); out = m.predict(data()).tolist()',
    'ALS by conjugate gradients': 'm = MatrixFactorization(data(), k=3); fit_als(m, data(), sweeps=3, cg_steps=2, progress=False); out = m.predict(data()).tolist()',
    'Gibbs': 'm = MatrixFactorization(data(), k=3); h = fit_gibbs(m, data(), sweeps=8, burn_in=2, keep=3, progress=False); out = h.draws.interval(data()).flatten().tolist()',
    'variational': 'm = MatrixFactorization(data(), k=3); fit_variational(m, data(), sweeps=5, progress=False); out = m.predict(data()).tolist()',
    'with validation': 't, v, _ = split_random(data(), .2, 0.); m = MatrixFactorization(t, k=3); h = fit_als(m, t, v, sweeps=6, progress=False); out = [h.best["valid"]]',
    'a checkpoint': '''
for n in (3, 3):
    m = MatrixFactorization(data(), k=3)
    fit_sgd(m, data(), epochs=3, checkpoint=sys.argv[1], progress=False)
out = m.predict(data()).tolist()''',
    'tuning': 't, v, _ = split_random(data(), .2, 0.); out = [*tune_biases(t, v, grid=(1, 5)).values(), *tune_als(t, v, [dict(reg=5.)], k=2, sweeps=2, progress=False).valid]',
    'cross-validation': 'out = cross_validate(fit_als, data(), k=2, factors=2, sweeps=2, progress=False).rmse.tolist()',
    'save and load': 'm = MatrixFactorization(data(), k=3, seed=1); m.save(sys.argv[1]); out = MatrixFactorization.load(sys.argv[1]).predict(data()).tolist()',
    'fold in': 'm = MatrixFactorization(data(), k=3, seed=1); row = m.fold_in([1, 2], [4., 5.]); out = [*row.factors.tolist(), row.bias]',
    'prior': 'm = MatrixFactorization(data(), k=3, seed=1); learn_prior(m, data()); out = m.prior("user").precision.flatten().tolist()',
    'why': 'm = MatrixFactorization(data(), k=3, seed=1); out = why(m, {1: 4., 2: 5.}, 3).iloc[:, -1].tolist()',
    'report': 'm = MatrixFactorization(data(), k=3, seed=1); t = report({"m": m}, data(), data(), n=5); t.plot(); out = t.table.rmse.tolist()',
    'lists': 'm = MatrixFactorization(data(), k=3, seed=1); out = recommend_all(m, data(), n=3).flatten().tolist()',
    'map': 'm = MatrixFactorization(data(), k=3, seed=1); out = film_map(m, range(5))[0].flatten().tolist()',
    'synthetic ratings': 's = synthetic_ratings(50_000, k=2); out = [s.ratings.mean, *s.expected(s.ratings)[:5].tolist()]',
}
DEFAULTS = {
    'float64': 'torch.set_default_dtype(torch.float64)',
    'meta': 'torch.set_default_device("meta")',
}

def all_of(jobs, worlds):
    "Code that does every job in each world, in a child of its own, and prints for each what came out or the error."
    lines = []
    for name, job in jobs.items():
        body = textwrap.indent(job.strip(), '    ')
        lines.append(f'sys.argv[1] = os.path.join(folder, {name!r})\ntry:\n{body}\n'
                     f'    print("JOB", world, {name!r}, *map(float, out), sep="|")\n'
                     f'except Exception as e: print("JOB", world, {name!r}, "error", type(e).__name__, str(e).replace("\\n", " ")[:150], sep="|")\n')
    return PREAMBLE + f"""
for world, defaults in {worlds!r}.items():
    if os.fork() == 0: break
    os.wait()
else: sys.exit()
folder = os.path.join(sys.argv[1], world)
os.mkdir(folder)
exec(defaults)
""" + '\n'.join(lines)

@pytest.fixture(scope='module')
def answers(tmp_path_factory):
    "What each job gives: with torch's own defaults, with float64, with another device. A dict of dicts."
    worlds = {'plain': '', **DEFAULTS}
    env = dict(os.environ, PYTHONPATH=str(root), CI='1')
    done = subprocess.run([sys.executable, '-c', all_of(JOBS, worlds), str(tmp_path_factory.mktemp('worlds'))], env=env, cwd=root,
                          capture_output=True, text=True, timeout=600)
    found = {world: {} for world in worlds}
    for line in done.stdout.splitlines():
        if line.startswith('JOB|'):
            _, world, job, *values = line.split('|')
            found[world][job] = values
    assert all(list(answers) == list(JOBS) for answers in found.values()), done.stderr[-2000:]
    return found

@pytest.mark.parametrize('defaults', DEFAULTS)
@pytest.mark.parametrize('job', JOBS)
def test_other_defaults_of_torch_change_nothing(answers, job, defaults):
    plain, other = answers['plain'][job], answers[defaults][job]
    assert plain[:1] != ['error'] and plain, plain
    assert other[:1] != ['error'], other
    np.testing.assert_allclose(np.array(other, dtype=float), np.array(plain, dtype=float), rtol=1e-5, atol=1e-6)

# ---- a fork after threads

FORK = """
import json, multiprocessing, os, sys, traceback
import torch
torch.set_num_threads(2)
from mfbook.all import *
ratings = load_sample()
train, valid, _ = split_random(ratings)

def job(work, seed):
    model = MatrixFactorization(train, k=8, seed=seed)
    exec(work)
    return rmse(model.predict(valid), valid), torch.get_num_threads()

for name, work in json.loads(sys.argv[1]).items():
    try:
        before = job(work, 0)[0]
        with multiprocessing.get_context('fork').Pool(2) as pool:
            answers = pool.starmap_async(job, [(work, 0), (work, 1)]).get(timeout=100)
        assert abs(answers[0][0] - before) < 1e-4, (answers, before)
        assert torch.get_num_threads() == 2 and {threads for _, threads in answers} == {1}
        print('answered', name, sep='|', flush=True)
    except Exception: traceback.print_exc()
"""
FORKED = {
    'predict': 'pass',
    'SGD': 'fit_sgd(model, train, epochs=1, batch_size=8192, progress=False)',
    'ALS': 'fit_als(model, train, sweeps=1, progress=False)',
    'variational': 'fit_variational(model, train, sweeps=2, start=1, progress=False)',
}

@pytest.fixture(scope='module')
def forked():
    "A process that does each job with threads and then forks two children that do it: which children answered, and what went wrong."
    env = dict(os.environ, PYTHONPATH=str(root), CI='1', OMP_NUM_THREADS='2')
    done = subprocess.run([sys.executable, '-c', FORK, json.dumps(FORKED)], env=env, cwd=root, capture_output=True, text=True, timeout=600)
    return done.stdout.splitlines(), done.stderr

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork here')
@pytest.mark.parametrize('work', FORKED)
def test_a_forked_child_answers_after_threads_in_the_parent(forked, work):
    answered, wrong = forked
    assert f'answered|{work}' in answered, wrong[-1500:]

# ---- read-only arrays

def read_only(array):
    array = np.asarray(array).copy()
    array.flags.writeable = False
    return array

def test_a_frame_of_read_only_arrays(ratings):
    plain = frame()
    locked = pd.DataFrame({name: read_only(plain[name]) for name in plain}, copy=False)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        r = Ratings.from_frame(locked, rating_range=read_only([1., 5.]))
        again = r.encode(locked[:9])
    assert torch.equal(r.values, ratings.values) and len(again) == 9
    assert torch.equal(torch.from_numpy(plain.rating.to_numpy(copy=True)).float(), r.values)

def test_measures_and_rows_take_read_only_arrays(ratings):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        predicted = read_only(np.full(len(ratings), 3.))
        assert rmse(predicted, read_only(ratings.values)) > 0 and mae(predicted, ratings) > 0
        mask = read_only(np.arange(len(ratings)) < 5)
        assert len(ratings.take(mask)) == 5 and len(ratings.take(read_only([1, 2]))) == 2
        model = MatrixFactorization(ratings, k=2)
        model.fold_in(read_only([1, 2]), read_only([4., 5.]))

def test_what_is_measured_is_not_changed(ratings):
    values = np.full(len(ratings), 3.)
    rmse(values, ratings)
    assert (values == 3).all() and rmse(values.tolist(), ratings) == rmse(torch.from_numpy(values), ratings)

# ---- settings of any numeric type

WHOLE = {'int64': np.int64, 'int8': np.int8, 'uint16': np.uint16, 'float of a whole number': float, 'torch': torch.tensor,
         'torch int32': lambda x: torch.tensor(x, dtype=torch.int32), 'array of no dimension': np.array}
REAL = {'float32': np.float32, 'float64': np.float64, 'torch': torch.tensor, 'torch float64': lambda x: torch.tensor(x, dtype=torch.float64),
        'array of no dimension': np.array}

def predictions(fit, ratings, k, **settings):
    model = MatrixFactorization(ratings, k=k)
    fit(model, ratings, progress=False, **settings)
    return model.predict(ratings)

FITS = {
    'biases': (fit_biases, 0, dict(sweeps=5), dict(reg_user=2., reg_item=3., tol=1e-4)),
    'SGD': (fit_sgd, 2, dict(epochs=3, batch_size=32, seed=3), dict(lr=.02, reg=.1, bias_reg=.05)),
    'ALS': (fit_als, 2, dict(sweeps=3), dict(reg=5., bias_reg=3.)),
    'ALS by conjugate gradients': (fit_als, 2, dict(sweeps=3, cg_steps=2), {}),
    'Gibbs': (fit_gibbs, 2, dict(sweeps=8, burn_in=2, keep=3, seed=3), {}),
    'variational': (fit_variational, 2, dict(sweeps=4, start=1, cg_steps=3), {}),
}

@pytest.mark.parametrize('kind', WHOLE)
@pytest.mark.parametrize('name', FITS)
def test_whole_settings_of_every_fit(ratings, name, kind):
    fit, k, whole, real = FITS[name]
    expected = predictions(fit, ratings, k, **whole, **real)
    given = {setting: WHOLE[kind](value) for setting, value in whole.items()}
    assert torch.equal(predictions(fit, ratings, WHOLE[kind](k), **given, **real), expected)

@pytest.mark.parametrize('kind', REAL)
@pytest.mark.parametrize('name', [name for name in FITS if FITS[name][3]])
def test_real_settings_of_every_fit(ratings, name, kind):
    fit, k, whole, real = FITS[name]
    expected = predictions(fit, ratings, k, **whole, **real)
    given = {setting: REAL[kind](value) for setting, value in real.items()}
    torch.testing.assert_close(predictions(fit, ratings, k, **whole, **given), expected, rtol=1e-5, atol=1e-5)

@pytest.mark.parametrize('kind', WHOLE)
@pytest.mark.parametrize('name', FITS)
def test_a_checkpoint_holds_settings_of_any_type(ratings, tmp_path, name, kind):
    "Written with one type, it is gone on with under another: the same run."
    fit, k, whole, real = FITS[name]
    path = tmp_path/'c.pt'
    given = {setting: WHOLE[kind](value) for setting, value in whole.items()}
    first = predictions(fit, ratings, k, checkpoint=path, **given, **real)
    assert torch.equal(predictions(fit, ratings, k, checkpoint=path, **whole, **real), first)

@pytest.mark.parametrize('kind', WHOLE)
def test_the_model_and_its_seed(ratings, kind):
    a, b = MatrixFactorization(ratings, k=WHOLE[kind](3), seed=WHOLE[kind](7)), MatrixFactorization(ratings, k=3, seed=7)
    assert torch.equal(a.rows('user'), b.rows('user')) and a.k == 3
    assert torch.equal(a.predict(ratings, batch_size=WHOLE[kind](17)), b.predict(ratings))

@pytest.mark.parametrize('kind', REAL)
def test_the_models_spread(ratings, kind):
    a, b = MatrixFactorization(ratings, k=3, init_std=REAL[kind](.1)), MatrixFactorization(ratings, k=3, init_std=.1)
    torch.testing.assert_close(a.rows('user'), b.rows('user'))

@pytest.mark.parametrize('kind', WHOLE)
def test_seeds_and_numbers_of_splits(ratings, kind):
    whole = WHOLE[kind]
    for a, b in zip(split_random(ratings, seed=whole(3)), split_random(ratings, seed=3)): assert torch.equal(a.users, b.users)
    for a, b in zip(split_last(ratings, k=whole(2)), split_last(ratings, k=2)): assert torch.equal(a.items, b.items)
    for pair, other in zip(folds(ratings, whole(3), whole(4)), folds(ratings, 3, 4)):
        for a, b in zip(pair, other): assert torch.equal(a.values, b.values)

@pytest.mark.parametrize('kind', REAL)
def test_shares_of_splits(ratings, kind):
    real = REAL[kind]
    assert [len(part) for part in split_random(ratings, real(.2), real(.3))] == [len(part) for part in split_random(ratings, .2, .3)]
    assert [len(part) for part in split_by_time(ratings, real(.2), real(.3))] == [len(part) for part in split_by_time(ratings, .2, .3)]

@pytest.mark.parametrize('seed', [1.5, -1, 'x', None, np.float64('nan'), torch.tensor([1, 2])])
def test_a_seed_that_is_no_whole_number_is_named(ratings, seed):
    for f in (split_random, folds):
        with pytest.raises(ValueError, match='^seed is '): f(ratings, seed=seed)
    with pytest.raises(ValueError, match='^seed is '): cross_validate(fit_als, ratings, seed=seed)

@pytest.mark.parametrize('kind', WHOLE)
def test_tuning_and_cross_validation(ratings, kind):
    whole = WHOLE[kind]
    train, valid, _ = split_random(ratings, .2, 0)
    for seed in (dict(seed=whole(3)), {}):                                          # beside the grid, and in it
        grid = [dict(reg=np.float32(.1), **({} if seed else dict(seed=whole(3))))]
        frame = tune_sgd(train, valid, grid, epochs=whole(2), k=whole(2), progress=False, **seed)
        assert frame.valid[0] == pytest.approx(tune_sgd(train, valid, [dict(reg=.1)], seed=3, epochs=2, k=2, progress=False).valid[0], rel=1e-5)
    a = tune_als(train, valid, [dict(k=whole(2))], seed=whole(1), sweeps=whole(2), progress=False)
    assert a.valid[0] == tune_als(train, valid, [dict(k=2)], seed=1, sweeps=2, progress=False).valid[0]
    assert tune_biases(train, valid, grid=np.array([1., 4.])) == tune_biases(train, valid, grid=(1., 4.))
    a = cross_validate(fit_sgd, ratings, k=whole(2), seed=whole(3), factors=whole(2), epochs=whole(2), progress=False)
    b = cross_validate(fit_sgd, ratings, k=2, seed=3, factors=2, epochs=2, progress=False)
    assert a.rmse.equals(b.rmse)

def test_patience_of_any_type(ratings):
    train, valid, _ = split_random(ratings, .2, 0)
    lengths = set()
    for patience in (1, np.int64(1), torch.tensor(1), 1.):
        model = MatrixFactorization(train, k=2)
        lengths.add(len(fit_als(model, train, valid, sweeps=30, patience=patience, progress=False).rows))
    assert len(lengths) == 1
