"The benchmark at scale: what is stored and replaced, what is run again, what the clock counts, what the tables say."
import json, math, re, runpy, subprocess, sys, time
from pathlib import Path
import pytest
import torch
from mfbook.gibbs import fit_gibbs
from mfbook.holdout import rmse, split_random
from mfbook.model import MatrixFactorization
from mfbook.ratings import load_sample

root = Path(__file__).parent.parent
sys.path.insert(0, str(root/'benchmarks'))
import figures, scale, scale_methods, scale_parts
sys.path.pop(0)

N = 1_000_000

@pytest.fixture
def path(tmp_path): return tmp_path/'scale.jsonl'

@pytest.fixture(scope='module')
def parts():
    r = load_sample()
    return split_random(r.take(r.users < 100), seed=0)

def row(method, what='fit', shape=N, settings=None, **found):
    return dict(shape=shape, what=what, method=method, settings=settings or {}, **found)
def fitted(method, log, settings=None, what='fit'):
    best = min(v for _, v in log)
    return row(method, what, settings=settings, log=log, valid=best, test=best + .01, data_mb=100., peak_mb=150.)

@pytest.fixture
def made(path):
    "A small file: Gibbs is best, Cornac the sooner peer, ALS with two settings."
    for r in (fitted('ALS', [[1., .9], [2., .81], [3., .805]], dict(a=1)),
              fitted('ALS', [[1., .85], [2., .83]], dict(a=2)),
              fitted('Gibbs', [[2., .9], [9., .8001]]),
              fitted('Cornac MF', [[1., .85], [4., .808]]), fitted('cmfrec ALS', [[3., .9], [5., .8052]]),
              fitted('Gibbs', [[99., .8]], dict(k=32, burn_in=10, start=8)),
              row('', 'data', floor=dict(valid=.79, test=.79)),
              row('ALS', 'sweep', prepare=1., sweep=6., sweeps=[6.]),
              row('Cornac MF', 'sweep', prepare=1., sweep=2., sweeps=[2.]),
              row('ALS', 'sweep', shape=50_000, prepare=1., sweep=.1, sweeps=[.1])): scale.record(r, path)
    return path

# ---- what is stored

def test_a_row_of_the_same_measurement_is_replaced(path):
    one, other, again = row('ALS', valid=1.), row('ALS', valid=2., settings=dict(k=1)), row('ALS', valid=3.)
    for r in (one, other, again): scale.record(r, path)
    assert sorted(r['valid'] for r in scale.rows(path)) == [2., 3.]
    assert scale.name(row('ALS', settings=dict(a=1, b=2))) == scale.name(row('ALS', settings=dict(b=2, a=1)))

def test_what_is_there_is_not_run_again_and_can_be_forgotten(path, monkeypatch):
    ran = []
    def run(command, env):
        job = json.loads(command[command.index('--job') + 1])
        assert env['OMP_NUM_THREADS'] == '3'
        ran.append(job['method'])
        if job['method'] == 'Gibbs': return subprocess.CompletedProcess(command, 1)           # this one breaks
        scale.record(dict(job, sweep=1.), path)
        return subprocess.CompletedProcess(command, 0)
    monkeypatch.setattr(scale.subprocess, 'run', run)
    monkeypatch.setattr(scale, 'store', lambda n, folder: (Path(folder)/str(n)).touch() or row('', 'data', shape=n))
    assert scale.run_all(['sweep'], N, path, 3) == 1 and ran == list(scale.METHODS)
    ran.clear()
    assert scale.run_all(['sweep'], N, path, 3) == 1 and ran == ['Gibbs']
    scale.record(row('ALS', 'rates'), path)
    scale.forget(['sweep'], N, path)
    assert {r['what'] for r in scale.rows(path)} == {'data', 'rates'}

def test_the_best_settings_go_on_to_the_full_size(path):
    small = scale.tuning_shape(N)
    for valid, lr in ((.9, 1.), (.8, 2.), (.8015, 3.), (None, 4.)):
        for m in ('SGD', 'Cornac MF'): scale.record(row(m, 'tune', shape=small, settings=dict(lr=lr), valid=valid), path)
    for method in ('SGD', 'compiled SGD'): assert [s['lr'] for s in scale.chosen(method, N, path)] == [2., 3.]
    jobs = scale.jobs('fit', N, path)
    found = [(j['method'], j['settings'].get('lr')) for j in jobs]
    assert found == [('Gibbs', None), *(('compiled SGD', lr) for lr in (2., 3.)), *(('Cornac MF', lr) for lr in (2., 3.))]
    assert {j['shape'] for j in jobs} == {N} and {j['shape'] for j in scale.jobs('tune', N, path)} == {small}

def test_shapes():
    assert [scale.shape(t) for t in ('32M', '1M', '500k', '640000')] == [32_000_204, 1_000_000, 500_000, 640_000]
    for text in ('400k', '1'):
        with pytest.raises(ValueError): scale.shape(text)
    assert (scale.tuning_shape(scale.FULL), scale.growth_shape(scale.FULL)) == (3_200_020, 1_000_006)

@pytest.fixture
def script(path, monkeypatch, capsys):
    "A function of the words after `python benchmarks/scale.py`: exit status, standard output, standard error."
    file = str(root/'benchmarks'/'scale.py')
    def run(*words):
        monkeypatch.setattr(sys, 'argv', [file, *words, '--file', str(path)])
        status = 0
        try: runpy.run_path(file, run_name='__main__')
        except SystemExit as end: status = end.code
        return status, *capsys.readouterr()
    return run

@pytest.mark.parametrize('wrong', [['--only', 'reeding'], ['--shape', '12x'], ['--shape', '5k']])
def test_what_is_unknown_is_refused(wrong, path, script):
    status, _, said = script(*wrong)
    assert status == 2 and wrong[1] in said and not path.exists()

# ---- the clock and the fits

def test_the_clock_stands_still_between_two_steps():
    def steps():
        for n in range(3):
            time.sleep(.02)
            yield n
    took = []
    for seconds, n in scale_parts.timed(steps()):
        took.append(seconds); time.sleep(.1)
    assert len(took) == 3 and all(.02 <= s < .09 for s in took)

def fixed(monkeypatch, errors, seconds=None, **how):
    "A method whose predictions are off by `errors`, one a sweep, after steps of these seconds."
    def fit(train):
        yield None
        for e in errors: yield lambda r: r.values.clamp(1, 4.5) + e
    monkeypatch.setitem(scale.METHODS, 'fixed', scale_methods.Method(fit, [{}], **how))
    if seconds: monkeypatch.setattr(scale, 'timed', lambda steps: zip(seconds, steps))

def test_the_log_adds_up_and_the_test_is_met_where_validation_was_lowest(monkeypatch, parts):
    fixed(monkeypatch, [.4, .2, .3, .35, .1], [5., 1., 2., 3., 4., 5.], patience=2)
    found = scale.fit('fixed', {}, *parts)
    assert [s for s, _ in found['log']] == [6., 8., 11., 15.] and found['prepare'] == 5.      # the last is not reached
    assert found['valid'] == min(v for _, v in found['log']) == found['log'][1][1]
    y = (parts.test.values.clamp(1, 4.5) + .2).clamp(.5, 5)
    assert found['test'] == pytest.approx(rmse(y, parts.test), abs=1e-7)

def test_a_method_that_restarts_is_not_charged_for_its_earlier_fits(monkeypatch, parts):
    fixed(monkeypatch, [.4, .3, .2], [1., 4., 6., 8.], restarts=True)
    assert [s for s, _ in scale.fit('fixed', {}, *parts)['log']] == [5., 7., 9.]
    assert scale.sweep('fixed', {}, *parts) == dict(prepare=3., sweep=2., sweeps=[2., 2.])

def test_a_method_that_diverges_has_the_log_until_then(monkeypatch, parts):
    fixed(monkeypatch, [.4, float('nan'), .1])
    assert len(scale.fit('fixed', {}, *parts)['log']) == 1
    fixed(monkeypatch, [float('nan')])
    assert scale.fit('fixed', {}, *parts)['valid'] is None

@pytest.mark.parametrize('method', ['ALS', 'CG ALS', 'Gibbs', 'SGD'])
def test_the_books_methods_learn(method, parts):
    m = scale.METHODS[method]
    small = dict(epochs=4, batch_size=64, lr=1., burn_in=2)
    settings = m.grid[-1] | {s: v for s, v in small.items() if s in m.grid[-1]}
    found = scale.fit(method, dict(settings, sweeps=6), *parts)
    assert found['valid'] < .97*rmse(torch.full((len(parts.valid),), parts.train.mean), parts.valid)

def test_gibbs_predicts_by_the_last_draw_and_then_by_the_average_of_the_draws_predictions(parts):
    log = scale.fit('Gibbs', dict(k=4, burn_in=2, sweeps=6), *parts)['log']
    model = MatrixFactorization(parts.train, k=4)
    history = fit_gibbs(model, parts.train, sweeps=6, burn_in=0, start=0, keep=6, patience=None, progress=False)
    drawn = history.draws.predict(parts.valid).clamp(*parts.train.rating_range)              # every draw of the same chain
    expected = [drawn[0], drawn[1], *(drawn[2:n].mean(0) for n in range(3, 7))]
    assert [v for _, v in log] == pytest.approx([rmse(y, parts.valid) for y in expected], abs=2e-4)      # kept in half precision

def test_what_is_cut_and_stored_is_read_back(tmp_path):
    about = scale.store(60_000, tmp_path)
    train, valid, test = scale.stored(60_000, tmp_path)
    assert about['sizes'] == [len(train), len(valid), len(test)] == [57_600, 1200, 1200]
    assert (train.n_users, train.n_items) == (about['users'], about['items'])
    assert about['floor']['valid'] < rmse(torch.full((1200,), train.mean), valid)

# ---- what the file says

def test_seconds_are_those_of_the_first_sweep_that_is_there():
    log = [[1., .9], [2., .8], [3., .85], [4., .7]]
    assert [scale.seconds_to(log, e) for e in (.95, .9, .84, .8, .75)] == [1., 1., 2., 2., 4.]
    assert math.isnan(scale.seconds_to(log, .6)) and math.isnan(scale.seconds_to([], 1.))

def test_the_race(made):
    f = scale.race(N, made)
    assert list(f.index) == ['ALS', 'Gibbs', 'Cornac MF', 'cmfrec ALS'] and scale.best_known(N, made) == .8
    assert f.valid.to_dict() == {'ALS': .805, 'Gibbs': .8, 'Cornac MF': .808, 'cmfrec ALS': .8052}
    assert f['to 1%'].to_dict() == {'ALS': 3., 'Gibbs': 9., 'Cornac MF': 4., 'cmfrec ALS': 5.}
    assert f['to 0.03%'].dropna().to_dict() == {'Gibbs': 9.}
    assert f["to Cornac MF's best"].to_dict() == {'ALS': 3., 'Gibbs': 9., 'Cornac MF': 4., 'cmfrec ALS': 5.}
    assert f.above['ALS'] == pytest.approx(.625) and f.test['ALS'] == pytest.approx(.815)

def test_of_two_settings_the_sooner_is_taken(made):
    scale.record(fitted('ALS', [[.5, .807]], settings=dict(a=2)), made)
    f = scale.race(N, made)
    assert (f.valid['ALS'], f['to 1%']['ALS']) == (.805, .5)

def test_the_sweeps(made):
    f = scale.sweeps(N, made)
    expected = {'prepare': 1., 'sweep': 6., 'times Cornac MF': 3., 'ns a rating': 6000/.96, 'at 50,000': 2000/.96}    # 96% of the ratings are trained on
    assert f.loc['ALS'].to_dict() == pytest.approx(expected)

def test_the_table_is_printed_and_nothing_is_run(made, script):
    before = made.read_text()
    status, shown, _ = script('--table', '--shape', '1M')
    assert status == 0
    assert all(t in shown for t in ("to Cornac MF's best", 'ns a rating', "'valid': 0.79"))
    assert made.read_text() == before

def test_the_figure_and_its_table(made):
    ax = figures.plot_scale(N, made)
    labels = [t for t in ax.texts if t.get_text() in scale.METHODS]
    assert {t.get_text() for t in labels} == {'ALS', 'Gibbs', 'Cornac MF', 'cmfrec ALS'}
    heights = sorted(t.get_position()[1] for t in labels)
    bottom, top = ax.get_ylim()
    assert min(b - a for a, b in zip(heights, heights[1:])) > .045*(top - bottom) and ax.get_xscale() == 'log'
    f = figures.scale_table(N, made)
    columns = ['seconds to 1%', 'seconds to 0.03%', 'memory beyond the data (MB)']
    assert f.loc['ALS', columns].tolist() == ['3.0', '', '50']

def test_the_requirements_pin_every_peer():
    pins = dict(re.findall(r'^([\w-]+)==(.+)$', (root/'benchmarks'/'scale-requirements.txt').read_text(), re.M))
    assert {m.package for m in scale.METHODS.values()} - {'mfbook'} <= set(pins) and {'scipy', 'pandas'} <= set(pins)
