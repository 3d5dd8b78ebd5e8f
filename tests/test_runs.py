"The loop that runs every solver: stopping, keeping the best, resuming after SIGKILL; tuning; files that are whole or refused."
import base64, functools, json, math, os, signal, stat, subprocess, sys, time, traceback, warnings, zlib
from dataclasses import replace
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import FULL, pick
from safetensors import safe_open
from safetensors.torch import save_file
from test_model import TENSORS, few, filled

import mfbook.runs as runs
from mfbook.als import fit_als, tune_als
from mfbook.gibbs import fit_gibbs
from mfbook.holdout import BiasSolver, concat, fit_biases_koren, folds, rmse, split_random
from mfbook.model import SIDES, MatrixFactorization
from mfbook.ratings import Ratings, load_sample
from mfbook.runs import (History, cross_validate, describe, fingerprint, fit, fit_biases, fit_sgd, plain, regularization_grid, read_checkpoint, tune, tune_biases,
                         tune_sgd, whole_file, write_checkpoint)
from mfbook.training import OptimizerStep, SGDSolver, adam, closed_form, constant, cosine, sgd
from mfbook.variational import fit_variational

def small(n_users=40, n_items=30, n=600, seed=0):
    "Planted ratings: rank one plus noise."
    g = np.random.default_rng(seed)
    cells = g.choice(n_users*n_items, n, replace=False)
    u, i = cells // n_items, cells % n_items
    a, b = g.normal(size=n_users), g.normal(size=n_items)
    stars = np.clip(np.round(2*(3.3 + a[u]*b[i] + .3*g.normal(size=n)))/2, .5, 5)
    return Ratings.from_frame(pd.DataFrame(dict(userId=u, movieId=i, rating=stars)), rating_range=(.5, 5))

@pytest.fixture(scope='module')
def split(): return split_random(small(), seed=0)

@pytest.fixture(scope='module')
def sample(): return split_random(load_sample(), seed=0)

def tensors(model): return {name: t.detach().clone() for name, t in model.state_dict().items()}
def same(a, b):
    a, b = tensors(a), tensors(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
def without_seconds(history): return history.frame().drop(columns='seconds')

class Scripted:
    "A solver that gives every user the next bias of a list, and says what it is told to."
    def __init__(self, model, biases, reports=None):
        self.model, self.biases = model, list(biases)
        self.reports = reports or [{} for _ in self.biases]
        self.done = 0
    def sweep(self):
        bias = self.biases[self.done]
        rows = self.model.rows('user')
        rows[:, -1] = bias
        self.model.put_rows('user', rows)
        self.model.set_prior('user', torch.full((self.model.k + 1,), float(bias)), torch.eye(self.model.k + 1))
        self.done += 1
        return dict(self.reports[self.done - 1])
    def state_dict(self): return {'done': self.done}
    def load_state_dict(self, state): self.done = state['done']

BEST = .15      # the user bias with the lowest validation RMSE
FAR = [2., 1.5, 1.2, .8, .5, BEST, .4, -.2, .5, .6, .9, 1.3, 1.4]     # it comes in sweep 6

def scripted(split, biases=FAR, **kw):
    model = MatrixFactorization(split.train, k=0)
    solver = Scripted(model, biases, kw.pop('reports', None))
    return model, solver, fit(model, solver, split.train, split.valid, **dict(sweeps=len(biases)) | kw)

# --- any solver runs in the loop ---

def test_a_solver_of_ten_lines_runs(split):
    class UserMeans:
        def __init__(self, model, train): self.model, self.train = model, train
        def sweep(self):
            left = self.train.values - self.model(self.train.users, self.train.items).detach()
            counts = torch.bincount(self.train.users, minlength=self.train.n_users).clamp(min=1)
            move = torch.zeros(self.train.n_users).index_add(0, self.train.users, left) / counts / 2
            rows = self.model.rows('user')
            rows[:, -1] += move
            self.model.put_rows('user', rows)
            return dict(train=left.square().mean().sqrt().item(), change=move.abs().max().item())
        def state_dict(self): return {}
        def load_state_dict(self, state): pass
    model = MatrixFactorization(split.train, k=0)
    history = fit(model, UserMeans(model, split.train), split.train, patience=None, sweeps=40, tol=1e-3)
    frame = history.frame()
    assert frame.train.is_monotonic_decreasing and frame.change.iloc[-1] <= 1e-3 < frame.change.iloc[-2]
    assert len(frame) < 40
    for user in range(5):
        mine = split.train.take(split.train.users == user)
        assert model.row('user', user).bias == pytest.approx((mine.values - split.train.mean).mean().item(), abs=2e-3)

def test_the_rows_hold_what_the_solver_reports(split):
    model, _, history = scripted(split, [1., 2.], reports=[dict(train=1.5, noise=np.float32(.5)), dict(train=1.25, noise=torch.tensor(2.))])
    assert list(history.frame().columns) == ['train', 'noise', 'valid', 'seconds'] and history.frame().index.name == 'sweep'
    assert history.frame().noise.tolist() == [.5, 2.] and [type(row['noise']) for row in history.rows] == [float, float]
    assert all(row['seconds'] >= 0 for row in history.rows)
    assert history.rows[history.best_sweep - 1]['valid'] == rmse(model.predict(split.valid), split.valid)

def test_the_unit_is_the_solvers(split):
    model = MatrixFactorization(split.train, k=2)
    history = fit(model, SGDSolver(model, split.train, epochs=2), split.train, sweeps=2)
    assert history.unit == 'epoch' and [row['epoch'] for row in history.rows] == [1, 2]

def test_seconds_are_the_solvers_alone(split, monkeypatch):
    "Validation is not part of a sweep's time."
    def slow(self, ratings, predict=MatrixFactorization.predict):
        time.sleep(.05)
        return predict(self, ratings)
    monkeypatch.setattr(MatrixFactorization, 'predict', slow)
    _, _, history = scripted(split, [1.])
    assert history.rows[0]['seconds'] < .04

# --- when it stops, and what it keeps ---

def test_patience_stops_it_and_the_best_is_kept(split):
    model, solver, history = scripted(split, patience=3)
    assert history.best_sweep == 6 and len(history.rows) == solver.done == 9
    assert model.rows('user').unique().tolist() == [np.float32(BEST)]
    assert history.best['valid'] == history.frame().valid.min() == rmse(model.predict(split.valid), split.valid)

def test_the_best_sweep_gets_back_the_prior_that_belonged_to_it(split):
    model, solver, history = scripted(split, [.5, .1, 3., 4.], patience=9)
    assert history.best_sweep == 2 and model.prior('user').mean.item() == pytest.approx(.1)

def test_without_patience_all_run_and_the_last_stays(split):
    model, solver, history = scripted(split, patience=None)
    assert len(history.rows) == history.best_sweep == len(FAR) and history.frame().valid.idxmin() == 6
    assert model.row('user', 0).bias == pytest.approx(FAR[-1]) and model.prior('user').mean.item() == pytest.approx(FAR[-1])

def test_without_validation_all_run_and_the_last_stays(split):
    model = MatrixFactorization(split.train, k=0)
    history = fit(model, Scripted(model, FAR), split.train, sweeps=7, patience=1)
    assert len(history.rows) == history.best_sweep == 7 and history.frame().valid.isna().all()
    assert model.row('user', 0).bias == pytest.approx(FAR[6])

def test_of_equal_sweeps_the_first_is_the_best(split):
    _, _, history = scripted(split, [.5, .2, .2, .2, .2], patience=2)
    assert history.best_sweep == 2 and len(history.rows) == 4

def test_tol_stops_it_when_little_changes(split):
    reports = [dict(change=change) for change in (1., .5, .25, .1, .05)]
    for tol, sweeps in [(0., 5), (.1, 4), (.25, 3), (.3, 3), (2., 1)]:
        _, _, history = scripted(split, FAR[:5], reports=reports, patience=None, tol=tol)
        assert len(history.rows) == sweeps

def test_a_change_of_nothing_stops_it_by_default(split):
    _, _, history = scripted(split, FAR, reports=[dict(change=0.)]*len(FAR))
    assert len(history.rows) == 1

@pytest.mark.parametrize('bad, says', [(dict(sweeps=0), 'sweeps is 0'), (dict(sweeps=1.5), 'sweeps is 1.5'), (dict(patience=0), 'patience is 0'),
    (dict(every=0), 'every is 0'), (dict(sweeps=math.nan), 'sweeps is nan')])
def test_bad_settings_of_the_loop_are_named(split, bad, says):
    with pytest.raises(ValueError, match=says): scripted(split, **bad)

def test_ratings_in_other_codes_are_refused(split):
    model = MatrixFactorization(split.train, k=0)
    ids = replace(split.train, user_ids=split.train.user_ids + 1)
    for train, valid, says in [(split.train.take(slice(0, 0)), None, 'train holds no ratings'),
                               (split.train, split.valid.take(slice(0, 0)), 'valid holds no ratings'),
                               (split.train, small(n_users=20, n=300), 'valid has .* users'),
                               (small(n_users=20, n=300), split.valid, 'train has .* users'),
                               (ids, split.valid, 'not the same users.*encode'), (split.train, ids, 'not the same users.*encode')]:
        with pytest.raises(ValueError, match=says): fit(model, Scripted(model, FAR), train, valid)

# --- the record ---

def test_a_record_prints_and_plots_itself(split):
    _, _, history = scripted(split, FAR[:8], reports=[dict(train=1/n) for n in range(1, 9)], patience=9)
    assert repr(history) == history.frame().to_string() and '<table' in history._repr_html_()
    ax = replace(history, label='mine').plot(color='C3')
    solid, dot, dashed = ax.lines
    assert solid.get_ydata().tolist() == history.frame().valid.tolist() and solid.get_label() == 'mine'
    assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (history.best_sweep, history.best['valid'])
    assert dashed.get_ydata().tolist() == history.frame().train.tolist() and dashed.get_color() == 'C3'
    assert ax.get_xlabel().startswith('sweep')
    assert len(history.plot(train=False).lines) == 2
    plt.close('all')

def test_a_record_without_validation_or_training_error_can_be_plotted(split):
    model = MatrixFactorization(split.train, k=0)
    history = fit(model, Scripted(model, FAR), split.train, sweeps=2)
    plotted = replace(history, rows=[row | dict(train=1.) for row in history.rows]).plot()
    assert len(plotted.lines) == 1
    _, _, history = scripted(split, FAR[:3])
    assert len(history.plot().lines) == 2
    plt.close('all')

# --- settings and data that tell a run from others ---

@pytest.mark.parametrize('value, becomes', [(np.float64(.5), .5), (np.float32(.5), .5), (np.int32(3), 3), (torch.tensor(2), 2), (np.array(1.5), 1.5),
    (True, True), (np.bool_(True), True), (None, None), ('a', 'a'), (np.str_('a'), 'a'), ((1, np.int64(2)), [1, 2]), ({1: (2,)}, {'1': [2]}), (signal.SIGINT, 2)])
def test_settings_become_plain(value, becomes):
    got = plain(value)
    assert got == becomes and type(got) is type(becomes)

def test_arrays_are_told_by_what_they_hold():
    a = np.arange(6.).reshape(2, 3)
    assert plain(a) == plain(a.copy()) == plain(torch.from_numpy(a)) == plain(np.asfortranarray(a))
    others = a + 1, a.reshape(3, 2), a.astype(np.float32), a.T.copy()
    assert all(plain(a) != plain(other) for other in others)

@pytest.mark.parametrize('value', [object(), Fraction(1, 2), {1, 2}, lambda: 1])
def test_a_setting_that_cannot_be_stored_is_named(value):
    with pytest.raises(TypeError, match=f'of the type {type(value).__name__}'): plain(dict(a=[value]))

def test_steps_are_told_by_what_they_are(split):
    model = MatrixFactorization(split.train, k=2)
    def told(update): return plain(describe(update(model)))
    assert told(adam) == told(lambda m: adam(m)) == told(functools.partial(adam, eps=np.float64(1e-4)))
    steps = [adam, sgd, closed_form, functools.partial(adam, eps=1e-3),
             lambda m: OptimizerStep(m, lambda ps: torch.optim.Adam(ps, lr=1., betas=(.8, .999), eps=1e-4, fused=True)),
             lambda m: OptimizerStep(m, lambda ps: torch.optim.SGD(ps, lr=1., momentum=.9))]
    assert len({str(told(update)) for update in steps}) == len(steps)

def test_functions_are_told_by_their_names():
    def one(*args): return 1.
    def other(*args): return 1.
    assert describe(one) == {'class': 'one'} != describe(other)

@pytest.mark.parametrize('field', ['users', 'items', 'values'])
def test_a_fingerprint_changes_with_the_ratings(split, field):
    column = getattr(split.train, field).clone()
    column[7] += 1
    assert fingerprint(replace(split.train, **{field: column})) != fingerprint(split.train) == fingerprint(split.train.take(slice(None)))

def test_ratings_that_are_not_contiguous(split):
    "Every second rating is a view with gaps in memory."
    some = split.train.take(slice(0, None, 2))
    packed = split.train.take(torch.arange(0, len(split.train), 2))
    assert not some.values.is_contiguous() and fingerprint(some) == fingerprint(packed) and fingerprint(None) is None
    a, b = MatrixFactorization(some, k=2), MatrixFactorization(some, k=2)
    fit_sgd(a, some, epochs=1)
    fit_sgd(b, packed, epochs=1)
    assert same(a, b)

# --- interruption ---

SETTINGS = dict(sweeps=30, patience=30)

def new_run(name, train):
    "A model and a solver for it."
    if name == 'biases':
        model = MatrixFactorization(train, k=0)
        return model, BiasSolver(model, train, .01, .01)
    model = MatrixFactorization(train, k=4)
    return model, SGDSolver(model, train, epochs=30, batch_size=48)

class Slow:
    "A solver whose sweeps take a while, so that something can happen within one."
    def __init__(self, solver):
        self.solver, self.unit = solver, getattr(solver, 'unit', 'sweep')
        self.state_dict, self.load_state_dict = solver.state_dict, solver.load_state_dict
    def sweep(self):
        time.sleep(.005)
        row = self.solver.sweep()
        time.sleep(.01)
        return row

@functools.cache
def unbroken_run(name):
    parts = split_random(small(), seed=0)
    model, solver = new_run(name, parts.train)
    return model, fit(model, solver, parts.train, parts.valid, **SETTINGS)

def slow_fit(name, checkpoint, every):
    parts = split_random(small(), seed=0)
    model, solver = new_run(name, parts.train)
    fit(model, Slow(solver), parts.train, parts.valid, checkpoint=checkpoint, every=int(every), settings={'a': 1}, **SETTINGS)

def outlive(path):
    ratings = load_sample()
    model = MatrixFactorization(ratings)
    model.save(path)
    loaded = MatrixFactorization.load(path)
    with open(path, 'r+b') as file: file.truncate(100)
    assert torch.equal(loaded.predict(ratings), model.predict(ratings))

def serve():
    "For each line, a job in a child of this process, which has imported everything: print the child's number, and how it ended."
    torch.set_num_threads(1)
    new_run('SGD', split_random(small(), seed=0).train)[1].sweep()      # what is imported at the first use is imported now
    jobs = dict(fit=slow_fit, outlive=outlive)
    for line in sys.stdin:
        job, *args = json.loads(line)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                jobs[job](*args)
                status = 0
            except Exception: traceback.print_exc()
            finally: os._exit(status)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)

def begin(server, job, *args):
    "The number of a process that does the job. The server's next line is how it ended."
    print(json.dumps([job, *map(str, args)]), file=server.stdin, flush=True)
    return int(server.stdout.readline())

@pytest.fixture(scope='module')
def server():
    code = 'import sys; sys.path.insert(0, sys.argv[1]); import test_runs; test_runs.serve()'
    command = [sys.executable, '-c', code, os.path.dirname(__file__)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()

MOMENTS = [n/50 for n in range(20)] if FULL else [0., .05, .13]

@pytest.mark.parametrize('name, every, pause', [(name, 1, pause) for name in ('biases', 'SGD') for pause in MOMENTS] + [('SGD', 4, .1)])
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(server, tmp_path, one_thread, name, every, pause):
    checkpoint = tmp_path/'run.pt'
    pid = begin(server, 'fit', name, checkpoint, every)
    deadline = time.time() + 60
    while not checkpoint.exists() and time.time() < deadline: time.sleep(.005)
    time.sleep(pause)
    os.kill(pid, signal.SIGKILL)
    assert int(server.stdout.readline()) == -signal.SIGKILL, 'the run ended before it was killed'
    done = len(read_checkpoint(checkpoint)['rows'])
    assert 0 < done < 30 and done % every == 0

    parts = split_random(small(), seed=0)
    a, whole = unbroken_run(name)
    b, solver = new_run(name, parts.train)
    resumed = fit(b, solver, parts.train, parts.valid, checkpoint=checkpoint, settings={'a': 1}, **SETTINGS)
    assert same(a, b) and resumed.best_sweep == whole.best_sweep
    assert without_seconds(resumed).equals(without_seconds(whole))
    assert resumed.frame().seconds.iloc[0] > 0 and len(resumed.rows) == 30

@pytest.mark.parametrize('name', ['biases', 'SGD'])
@pytest.mark.parametrize('patience', [30, None])
@pytest.mark.parametrize('at', [2, 5])
def test_interrupted_by_hand_and_resumed_with_the_same_objects(split, tmp_path, one_thread, name, patience, at):
    "The solver and the model are in the middle of a sweep; the checkpoint puts both back."
    checkpoint = tmp_path/'c'
    whole, solver = new_run(name, split.train)
    history = fit(whole, solver, split.train, split.valid, sweeps=8, patience=patience)

    model, solver = new_run(name, split.train)
    sweep = solver.sweep
    def interrupted():
        sweep()
        raise KeyboardInterrupt
    calls = iter([sweep]*at + [interrupted] + [sweep]*30)
    solver.sweep = lambda: next(calls)()
    settings = dict(sweeps=8, patience=patience, checkpoint=checkpoint, settings={})
    with pytest.raises(KeyboardInterrupt): fit(model, solver, split.train, split.valid, **settings)
    assert len(read_checkpoint(checkpoint)['rows']) == at
    again = fit(model, solver, split.train, split.valid, **settings)
    assert same(model, whole) and without_seconds(again).equals(without_seconds(history))

@pytest.mark.parametrize('every, written', [(1, [1, 2, 3, 4, 5, 6, 7]), (3, [3, 6, 7]), (100, [7])])
def test_every_few_sweeps_and_at_the_end_it_writes(split, tmp_path, monkeypatch, every, written):
    seen, write = [], runs.Run.write
    monkeypatch.setattr(runs.Run, 'write', lambda self, *args: (seen.append(len(self.rows)), write(self, *args))[1])
    scripted(split, FAR[:7], patience=20, every=every, checkpoint=tmp_path/'c', settings={})
    assert seen == written and [path.name for path in tmp_path.iterdir()] == ['c']
    model, solver, history = scripted(split, FAR[:7], patience=20, checkpoint=tmp_path/'c', settings={})
    assert solver.done == 7 and len(history.rows) == 7 and seen == written, 'nothing is left to do'

def test_a_run_that_stopped_early_is_written_whole(split, tmp_path):
    settings = dict(patience=2, every=50, checkpoint=tmp_path/'c', settings={})
    first = scripted(split, **settings)
    again = scripted(split, **settings)
    assert same(first[0], again[0]) and len(again[2].rows) == 8 and again[2].best_sweep == 6

def test_patience_goes_on_where_it_was(split, tmp_path):
    "Interrupted while it waits: the sweeps already waited count."
    model = MatrixFactorization(split.train, k=0)
    solver = Scripted(model, FAR[:8])       # the ninth sweep raises IndexError
    settings = dict(sweeps=len(FAR), patience=5, checkpoint=tmp_path/'c', settings={})
    with pytest.raises(IndexError): fit(model, solver, split.train, split.valid, **settings)
    model = MatrixFactorization(split.train, k=0)
    history = fit(model, Scripted(model, FAR), split.train, split.valid, **settings)
    assert history.best_sweep == 6 and len(history.rows) == 11
    assert model.rows('user').unique().tolist() == [np.float32(BEST)]

def test_a_finished_run_is_not_run_again(split, tmp_path):
    a, b = MatrixFactorization(split.train, k=2), MatrixFactorization(split.train, k=2)
    first = fit_sgd(a, split.train, epochs=3, checkpoint=tmp_path/'c')
    step = adam(b)
    class OptimizerStep:
        optimizer, state_dict, load_state_dict = step.optimizer, step.state_dict, step.load_state_dict
        def __call__(self, *args): raise AssertionError('a step was taken')
    never = OptimizerStep()
    again = fit_sgd(b, split.train, epochs=3, checkpoint=tmp_path/'c', update=lambda model: never)
    assert same(a, b) and first.rows == again.rows

def test_a_full_disk_leaves_the_last_whole_checkpoint(split, tmp_path, monkeypatch):
    c = tmp_path/'c.pt'
    real, calls = os.replace, []
    def full(a, b):
        calls.append(a)
        if len(calls) == 3: raise OSError(28, 'No space left on device')
        return real(a, b)
    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(OSError, match='No space'): fit_sgd(MatrixFactorization(split.train, k=2), split.train, epochs=5, checkpoint=c)
    monkeypatch.undo()
    assert len(read_checkpoint(c)['rows']) == 2 and [p.name for p in tmp_path.iterdir()] == ['c.pt']
    a, b = MatrixFactorization(split.train, k=2), MatrixFactorization(split.train, k=2)
    fit_sgd(a, split.train, epochs=5, checkpoint=c)
    fit_sgd(b, split.train, epochs=5)
    assert same(a, b)

def test_a_checkpoint_of_another_run_is_refused(split, tmp_path):
    c = tmp_path/'c.pt'
    def run(train=split.train, valid=None, k=2, **settings):
        return fit_sgd(MatrixFactorization(train, k=k), train, valid, **dict(epochs=2, checkpoint=c) | settings)
    run()
    for other, says in [(dict(lr=.5), 'lr was 0.01, is 0.5'), (dict(epochs=9), 'epochs was 2, is 9'), (dict(patience=3), 'patience was 5, is 3'),
                        (dict(update=sgd), 'update.optimizer was Adam, is SGD'), (dict(update=closed_form), 'update.class was OptimizerStep, is ClosedFormStep'),
                        (dict(update=functools.partial(adam, eps=1e-8)), 'update.group 0.eps was 0.0001, is 1e-08'),
                        (dict(schedule=constant), r'schedule was \[1.0, 0.99.*, is \[1.0, 1.0'), (dict(k=3), 'k was 2, is 3'), (dict(seed=1), 'seed was 0, is 1'),
                        (dict(train=split.valid), 'train was'), (dict(valid=split.valid), 'valid was None, is'), (dict(reg=0, bias_reg=1), 'bias_reg was None, is 1; reg was 13.0, is 0')]:
        with pytest.raises(ValueError, match=f'c.pt belongs to another run .*{says}.*Delete it to start afresh'): run(**other)
    with pytest.raises(ValueError, match='belongs to another run .*method was SGD, is biases'):
        fit_biases(MatrixFactorization(split.train, k=0), split.train, checkpoint=c)

def test_the_same_settings_written_differently_are_the_same_run(split, tmp_path):
    c = tmp_path/'c.pt'
    fit_sgd(MatrixFactorization(split.train, k=2), split.train, epochs=3, lr=.5, batch_size=64, checkpoint=c)
    written = c.read_bytes()
    ways = [dict(lr=np.float64(.5)), dict(lr=np.float32(.5)), dict(lr=torch.tensor(.5)), dict(epochs=np.int64(3)), dict(batch_size=64.), dict(seed=np.int32(0)),
            dict(schedule=lambda done: cosine(done)), dict(schedule=functools.partial(cosine)), dict(update=lambda model: adam(model)),
            dict(update=functools.partial(adam, eps=np.float64(1e-4))), dict(patience=np.int64(5)), dict(checkpoint=str(c))]
    for way in ways:
        fit_sgd(MatrixFactorization(split.train, k=2), split.train, **dict(epochs=3, lr=.5, batch_size=64, checkpoint=c) | way)
    assert c.read_bytes() == written

@pytest.mark.parametrize('settings', [dict(lr=np.float64(.01)), dict(lr=np.float32(.01)), dict(epochs=np.int64(4), batch_size=np.int32(64), seed=np.int64(3)), dict(reg=np.float32(.1)),
    dict(schedule=lambda done: np.float64(1 - done)), dict(schedule=lambda done: np.float32(.5)), dict(update=functools.partial(adam, eps=np.float32(1e-4)))])
def test_numpy_numbers_go_into_a_checkpoint_and_come_out(split, tmp_path, settings):
    "A file that can run no code holds no NumPy numbers; a run must not find that out after its first epoch."
    settings = dict(epochs=4) | settings
    whole = MatrixFactorization(split.train, k=2)
    history = fit_sgd(whole, split.train, split.valid, **settings)
    model, c = MatrixFactorization(split.train, k=2), tmp_path/'c'
    original = runs.Run.sweep
    def failing(self, valid):
        if len(self.rows) == 2: raise RuntimeError('no power')
        return original(self, valid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.Run, 'sweep', failing)
        with pytest.raises(RuntimeError, match='no power'): fit_sgd(model, split.train, split.valid, checkpoint=c, **settings)
    assert len(read_checkpoint(c)['rows']) == 2
    model = MatrixFactorization(split.train, k=2)
    again = fit_sgd(model, split.train, split.valid, checkpoint=c, **settings)
    assert same(model, whole) and without_seconds(again).equals(without_seconds(history))

def test_a_solvers_own_numpy_numbers_are_stored_too(split, tmp_path):
    class Counting(Scripted):
        def state_dict(self): return {'done': np.int64(self.done), 'more': [np.float32(.5), {'a': (np.float64(2.), torch.ones(2))}]}
    model = MatrixFactorization(split.train, k=0)
    fit(model, Counting(model, FAR), split.train, sweeps=2, checkpoint=tmp_path/'c', settings={})
    state = read_checkpoint(tmp_path/'c')['solver']
    assert state['done'] == 2 and state['more'][0] == .5 and torch.equal(state['more'][1]['a'][1], torch.ones(2))

def test_without_settings_a_solver_is_told_by_its_numbers(split, tmp_path):
    "Whoever hands in a solver alone gets the same protection."
    c = tmp_path/'c'
    def run(**settings):
        model = MatrixFactorization(split.train, k=2)
        return fit(model, SGDSolver(model, split.train, epochs=2, **settings), split.train, sweeps=2, checkpoint=c)
    run()
    run(lr=np.float64(.01))
    with pytest.raises(ValueError, match='lr was 0.01, is 0.02'): run(lr=.02)
    model = MatrixFactorization(split.train, k=2)
    with pytest.raises(ValueError, match='class was SGDSolver, is Scripted'): fit(model, Scripted(model, FAR), split.train, sweeps=2, checkpoint=c)

def test_a_solver_that_has_moved_on_is_still_the_same(split, tmp_path):
    "The number of epochs done is the solver's state, not a setting."
    whole, other = MatrixFactorization(split.train, k=2), MatrixFactorization(split.train, k=2)
    fit(whole, SGDSolver(whole, split.train, epochs=4), split.train, sweeps=4)
    solver = SGDSolver(other, split.train, epochs=4)
    def write_and_stop(*args, write=runs.Run.write):
        write(*args)
        raise KeyboardInterrupt
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.Run, 'write', write_and_stop)
        with pytest.raises(KeyboardInterrupt): fit(other, solver, split.train, sweeps=4, checkpoint=tmp_path/'c', every=2)
    assert solver.epoch == 2
    fit(other, solver, split.train, sweeps=4, checkpoint=tmp_path/'c')
    assert same(whole, other)

def test_a_damaged_checkpoint_is_refused_and_named(split, tmp_path):
    c = tmp_path/'c.pt'
    fit_sgd(MatrixFactorization(split.train, k=2), split.train, epochs=2, checkpoint=c)
    whole = c.read_bytes()
    def run(): fit_sgd(MatrixFactorization(split.train, k=2), split.train, epochs=2, checkpoint=c)
    for cut in (0, 10, len(whole)//2, len(whole)-1):
        c.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match='c.pt is damaged.*Delete it'): run()
    for other in ({'a': 1}, {'settings': 1}, [1], torch.ones(3)):
        write_checkpoint(c, other)
        with pytest.raises(ValueError, match='c.pt is damaged: .* is missing or wrong. Delete it'): run()
        torch.save(other, c)
        with pytest.raises(ValueError, match='c.pt is damaged or no safetensors file.*Delete it'): run()
    MatrixFactorization(split.train, k=2).save(c)
    with pytest.raises(ValueError, match='c.pt is no checkpoint of a fit. Choose another name'): run()
    c.write_text('userId,movieId,rating\n')
    with pytest.raises(ValueError, match='c.pt is damaged'): run()

def test_a_checkpoint_runs_no_code(split, tmp_path):
    "A pickle could; it is refused instead."
    class Bomb:
        def __reduce__(self): return (os.mkdir, (str(tmp_path/'boom'),))
    torch.save({'settings': {}, 'a': Bomb()}, tmp_path/'c')
    with pytest.raises(ValueError, match='damaged'): fit_sgd(MatrixFactorization(split.train, k=2), split.train, checkpoint=tmp_path/'c')
    assert not (tmp_path/'boom').exists()

def test_without_a_checkpoint_a_step_needs_no_state(split):
    def update(model):
        def step(users, items, values, lr, penalty): return 0.
        return step
    assert len(fit_sgd(MatrixFactorization(split.train, k=2), split.train, epochs=2, update=update).rows) == 2

# --- progress ---

def test_progress_is_quiet_under_ci_and_shown_when_asked(split, capsys, monkeypatch):
    monkeypatch.setenv('CI', 'true')
    fit_sgd(MatrixFactorization(split.train, k=2), split.train, epochs=2)
    assert capsys.readouterr().err == ''
    fit_sgd(MatrixFactorization(split.train, k=2), split.train, split.valid, epochs=2, progress=True)
    err = capsys.readouterr().err
    assert '2/2' in err and 'valid=' in err and 'train=' in err and 'epoch' in err
    fit_biases(MatrixFactorization(split.train, k=0), split.train, sweeps=2, progress=True)
    err = capsys.readouterr().err
    assert '2/2' in err and 'train=' in err and 'valid=' not in err and 'sweep' in err

def test_progress_is_shown_where_a_person_watches(monkeypatch):
    monkeypatch.delenv('CI', raising=False)
    monkeypatch.setattr(runs, 'in_notebook', lambda: False)
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
    assert runs.show_progress(None) and not runs.show_progress(False)
    monkeypatch.setenv('CI', '1')
    assert not runs.show_progress(None) and runs.show_progress(True)
    monkeypatch.delenv('CI')
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: False)
    assert not runs.show_progress(None)
    monkeypatch.setattr(runs, 'in_notebook', lambda: True)
    assert runs.show_progress(None)

# --- fit_sgd ---

def test_it_learns_what_was_planted(split):
    model = MatrixFactorization(split.train, k=4)
    before = rmse(model.predict(split.valid), split.valid)
    history = fit_sgd(model, split.train, split.valid, epochs=60, batch_size=64, reg=.02, patience=60)
    assert rmse(model.predict(split.valid), split.valid) < .75*before
    assert history.frame().train.iloc[-1] < history.frame().train.iloc[0]

def test_the_best_epochs_weights_are_restored(split):
    model = MatrixFactorization(split.train, k=8, init_std=.5)
    history = fit_sgd(model, split.train, split.valid, epochs=40, batch_size=64, lr=.03, reg=0, bias_reg=0, schedule=constant, patience=40)
    valid = history.frame().valid
    assert history.best_sweep == valid.idxmin() < len(valid), 'this run must overfit, or the test shows nothing'
    assert rmse(model.predict(split.valid), split.valid) == pytest.approx(valid.min(), abs=1e-6)
    assert rmse(model.predict(split.valid), split.valid) < valid.iloc[-1]

def test_patience_stops_sgd(split):
    history = fit_sgd(MatrixFactorization(split.train, k=8, init_std=.5), split.train, split.valid, epochs=40, batch_size=64, lr=.03,
                      reg=0, bias_reg=0, schedule=constant, patience=3)
    assert len(history.rows) == history.best_sweep + 3 < 40

def test_without_validation_all_epochs_run_and_the_last_weights_stay(split):
    model = MatrixFactorization(split.train, k=2)
    history = fit_sgd(model, split.train, epochs=7)
    assert len(history.rows) == history.best_sweep == 7 and history.frame().valid.isna().all()

def test_unseen_rows_stay_zero_and_mu_stays_the_mean(split):
    train = split.train.take(split.train.items > 4)
    model = MatrixFactorization(train, k=3)
    fit_sgd(model, train, epochs=3)
    rows = model.rows('item')
    assert (rows[:5] == 0).all() and (rows[5:] != 0).any()
    assert model.mean == pytest.approx(train.values.mean().item(), abs=1e-6)

def test_the_prior_left_behind_is_the_regularization(split):
    model = MatrixFactorization(split.train, k=3)
    fit_sgd(model, split.train, epochs=1, reg=.3, bias_reg=.05, per_rating=True)
    of_factors = .3*split.train.values.std(correction=0).item()
    for side in SIDES:
        prior = model.prior(side)
        assert prior.per_rating and torch.allclose(prior.precision, torch.diag(torch.tensor([of_factors]*3 + [.05]))) and (prior.mean == 0).all()

@pytest.mark.parametrize('update', [adam, sgd])
def test_the_same_seed_gives_the_same_model_another_seed_another(split, update):
    def filled_with(seed):
        model = MatrixFactorization(split.train, k=3)
        fit_sgd(model, split.train, epochs=2, seed=seed, update=update, lr=.05)
        return model
    assert same(filled_with(1), filled_with(1)) and not same(filled_with(1), filled_with(2))

def test_another_update_can_be_handed_in(split):
    "An update without autograd, plain SGD in closed form, gives what `sgd` gives."
    class ByHand:
        def __init__(self, model): self.m = model
        @torch.no_grad()
        def __call__(self, us, its, rs, lr, penalty):
            m, us, its = self.m, us.long(), its.long()
            p, q, bu, bi = m.user_factors[us], m.item_factors[its], m.user_bias[us], m.item_bias[its]
            e, s = rs - (m.mu + bu + bi + (p*q).sum(1)), 2*lr/len(rs)
            (reg_u, bias_u), (reg_i, bias_i) = penalty.user[us].split(1, 1), penalty.item[its].split(1, 1)
            m.user_factors.index_add_(0, us, s*(e[:, None]*q - reg_u*p)); m.item_factors.index_add_(0, its, s*(e[:, None]*p - reg_i*q))
            m.user_bias.index_add_(0, us, s*(e - bias_u[:, 0]*bu)); m.item_bias.index_add_(0, its, s*(e - bias_i[:, 0]*bi))
            return e.square().sum().item()
    a, b = MatrixFactorization(split.train, k=4), MatrixFactorization(split.train, k=4)
    first = fit_sgd(a, split.train, epochs=5, update=ByHand, lr=.1, batch_size=64)
    second = fit_sgd(b, split.train, epochs=5, update=sgd, lr=.1, batch_size=64)
    for name, t in tensors(a).items(): torch.testing.assert_close(t, tensors(b)[name], atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(first.frame().train, second.frame().train, atol=1e-5)

def test_fit_sgd_is_fit_with_a_solver(split):
    a, b = MatrixFactorization(split.train, k=2), MatrixFactorization(split.train, k=2)
    settings = dict(lr=.02, reg=.1, bias_reg=.05, batch_size=64, schedule=constant, update=sgd, seed=3)
    first = fit_sgd(a, split.train, split.valid, epochs=6, patience=2, **settings)
    second = fit(b, SGDSolver(b, split.train, 6, **settings), split.train, split.valid, sweeps=6, patience=2)
    assert same(a, b) and without_seconds(first).equals(without_seconds(second))

def test_training_improves_on_the_sample_in_two_epochs(sample):
    model = MatrixFactorization(sample.train, k=8)
    start = rmse(model.predict(sample.valid), sample.valid)
    fit_sgd(model, sample.train, sample.valid, epochs=2)
    assert rmse(model.predict(sample.valid), sample.valid) < start - .1

def test_sgd_ends_where_it_is_known_to_end(sample, one_thread):
    "Its record on the sample, with the default settings."
    model = MatrixFactorization(sample.train)
    history = fit_sgd(model, sample.train, sample.valid)
    assert history.best_sweep == 19 and len(history.rows) == 20
    assert history.best['valid'] == pytest.approx(.8566, abs=2e-4)

@pytest.mark.parametrize('bad, says', [(dict(lr=0), 'lr is 0'), (dict(lr=math.nan), 'lr is nan'), (dict(epochs=0), 'epochs is 0'),
    (dict(epochs=1.5), 'epochs is 1.5'), (dict(batch_size=0), 'batch_size is 0'), (dict(patience=0), 'patience is 0'),
    (dict(reg=-1), 'negative'), (dict(bias_reg=math.nan), 'negative')])
def test_bad_settings_are_named(split, bad, says):
    with pytest.raises(ValueError, match=says): fit_sgd(MatrixFactorization(split.train, k=2), split.train, **bad)

def test_bad_ratings_are_named(split):
    model = MatrixFactorization(split.train, k=2)
    with pytest.raises(ValueError, match='train holds no ratings'): fit_sgd(model, split.train.take(slice(0, 0)))
    with pytest.raises(ValueError, match='valid holds no ratings'): fit_sgd(model, split.train, split.train.take(slice(0, 0)))
    with pytest.raises(ValueError, match='valid has .* users'): fit_sgd(model, split.train, small(n_users=20, n=300))

def test_steps_that_are_too_long_stop_with_advice(split):
    with pytest.raises(FloatingPointError, match=r'epoch \d+, batch \d+.*it was 1000000'):
        fit_sgd(MatrixFactorization(split.train, k=2, init_std=1.), split.train, update=sgd, lr=1e6)

# --- fit_biases ---

def biases(train, reg_user, reg_item, **settings):
    model = MatrixFactorization(train, k=0)
    fit_biases(model, train, reg_user=reg_user, reg_item=reg_item, **settings)
    return model

@pytest.mark.parametrize('reg_user, reg_item', [(5, 3), (.3, 20), (1, 1)])
def test_fit_biases_equals_dense_least_squares(split, reg_user, reg_item):
    "The joint biases as one ridge problem: a row per rating, a row per bias."
    train = split.train
    U, I = np.eye(train.n_users)[train.users.numpy()], np.eye(train.n_items)[train.items.numpy()]
    reg = np.r_[np.full(train.n_users, reg_user), np.full(train.n_items, reg_item)]
    A = np.vstack([np.hstack([U, I]), np.diag(reg**.5)])
    y = np.r_[train.values.numpy().astype(float) - train.mean, np.zeros(len(reg))]
    b = np.linalg.lstsq(A, y, rcond=None)[0]
    model = biases(train, reg_user, reg_item, tol=1e-12)
    assert np.allclose(model.rows('user')[:, -1], b[:train.n_users], atol=1e-5)
    assert np.allclose(model.rows('item')[:, -1], b[train.n_users:], atol=1e-5)
    raw = torch.tensor(train.mean + b[train.users.long()] + b[train.n_users + train.items.long()])
    assert np.allclose(model.predict(train), raw.clamp(.5, 5), atol=1e-5)

def test_fit_biases_stops_by_tol_and_keeps_the_last(split):
    model = MatrixFactorization(split.train, k=0)
    history = fit_biases(model, split.train, split.valid, 5, 3, tol=1e-4)
    change = history.frame().change
    assert change.iloc[-1] <= 1e-4 < change.iloc[-2] and history.best_sweep == len(history.rows) < 1000
    assert rmse(model.predict(split.valid), split.valid) == history.rows[-1]['valid']

def test_fit_biases_with_patience_keeps_the_best(split):
    model = MatrixFactorization(split.train, k=0)
    history = fit_biases(model, split.train, split.valid, .01, .01, patience=2)
    assert history.best_sweep == history.frame().valid.idxmin() and len(history.rows) == history.best_sweep + 2
    assert rmse(model.predict(split.valid), split.valid) == history.best['valid']

def test_few_sweeps_are_enough():
    "Without the shift between the sides, little regularization takes hundreds."
    ratings = load_sample()
    for reg in .01, .1, 1, 10:
        assert same(*(biases(ratings, reg, reg, sweeps=sweeps) for sweeps in (25, 1000)))

def test_fit_biases_checks_its_settings(split):
    for bad, says in [(dict(reg_user=-1), 'reg_user='), (dict(reg_item=math.nan), 'reg_item='), (dict(sweeps=0), 'sweeps is 0')]:
        with pytest.raises(ValueError, match=says): biases(split.train, **dict(reg_user=1, reg_item=1) | bad)

def test_fit_biases_resumes(split, tmp_path):
    c = tmp_path/'c'
    first = biases(split.train, 5, 3, checkpoint=c)
    assert same(biases(split.train, 5, 3, checkpoint=c), first)
    with pytest.raises(ValueError, match='reg_item was 3, is 4'): biases(split.train, 5, 4, checkpoint=c)

# --- cross-validation ---

def fold_by_fold(fit, ratings, k, fold_seed, factors, **settings):
    "What `cross_validate` should find, by hand."
    rows = []
    for train, test in folds(ratings, k, fold_seed):
        model = MatrixFactorization(train, factors, fold_seed)
        fit(model, train, progress=False, **settings)
        error = model.predict(test).double() - test.values.double()
        rows.append([error.square().mean().sqrt().item(), error.abs().mean().item()])
    return np.array(rows)

@pytest.mark.parametrize('fit, factors, settings, by_hand', [
    (fit_biases, None, dict(reg_user=2.), dict(reg_user=2.)),
    (fit_sgd, 4, dict(epochs=3, reg=.05), dict(epochs=3, reg=.05, seed=7)),
    (fit_als, 3, dict(sweeps=3), dict(sweeps=3)),
    (fit_gibbs, 3, dict(sweeps=6, burn_in=2, keep=2), dict(sweeps=6, burn_in=2, keep=2, seed=7)),
    (fit_variational, 3, dict(sweeps=3), dict(sweeps=3))])
def test_cross_validation_tests_each_fold_on_a_model_of_the_others(one_thread, fit, factors, settings, by_hand):
    ratings = small()
    frame = cross_validate(fit, ratings, k=3, seed=7, factors=factors, progress=False, **settings)
    assert frame.index.name == 'fold' and frame.index.tolist() == [1, 2, 3]
    assert list(frame.columns) == ['rmse', 'mae', 'seconds'] and (frame.seconds > 0).all()
    expected = fold_by_fold(fit, ratings, 3, 7, factors or 0, **by_hand)
    np.testing.assert_allclose(frame[['rmse', 'mae']].to_numpy(), expected, rtol=1e-12)

def test_cross_validation_meets_each_rating_once_and_no_validation_set(split):
    met = []
    def method(model, train, reg=1.): met.append((len(train), model.k, reg))

    frame = cross_validate(method, split.train, k=4, reg=2.)
    n = len(split.train)
    assert sum(n - length for length, _, _ in met) == n and len(frame) == 4
    assert {(factors, reg) for _, factors, reg in met} == {(32, 2.)}

def test_cross_validation_takes_settings_as_they_come(split):
    "Whole numbers of NumPy and torch, and a function with some settings given beforehand."
    given = functools.partial(fit_sgd, epochs=2)
    a = cross_validate(given, split.train, k=np.int64(2), seed=np.int64(3), factors=np.int32(2), progress=False)
    b = cross_validate(fit_sgd, split.train, k=2, seed=3, factors=2, epochs=2, progress=False)
    assert a[['rmse', 'mae']].equals(b[['rmse', 'mae']])

@pytest.mark.parametrize('bad, says', [(dict(k=1), 'k=1 folds'), (dict(k=2.5), 'k=2.5 folds'), (dict(factors=-1), 'k is -1'),
                                       (dict(valid=1), 'valid belongs to one fold'), (dict(checkpoint='c'), 'checkpoint belongs to one fold')])
def test_cross_validation_refuses_what_cannot_be(split, bad, says):
    with pytest.raises(ValueError, match=says): cross_validate(fit_biases, split.train, **bad)

# --- tuning ---

def test_tune_ranks_by_validation_and_never_asks_for_test(split):
    frame = tune_sgd(split.train, split.valid, [dict(k=2, reg=500.), dict(k=2, reg=.02), dict(k=4, reg=.1, lr=.02)], epochs=10, batch_size=64)
    assert frame.valid.is_monotonic_increasing and len(frame) == 3 and frame.reg.iloc[-1] == 500.
    assert set(frame.columns) == {'k', 'reg', 'lr', 'valid', 'best', 'best_sweep', 'seconds'}

def test_tune_runs_to_the_end_and_says_where_the_best_was(split):
    settings = dict(epochs=40, batch_size=64, lr=.03, bias_reg=0, schedule=constant)
    frame = tune_sgd(split.train, split.valid, [dict(k=8, reg=0)], seed=3, **settings)
    model = MatrixFactorization(split.train, k=8, seed=3)
    valid = fit_sgd(model, split.train, split.valid, reg=0, seed=3, patience=None, **settings).frame().valid
    row = frame.iloc[0]
    assert (row.valid, row.best, row.best_sweep) == (valid.iloc[-1], valid.min(), valid.idxmin()) and valid.idxmin() < 40

def test_tune_takes_any_method_and_hands_on_what_it_takes(split):
    seen = []
    def method(model, train, valid, patience, reg=1., sweeps=20, progress=None):
        seen.append((model.k, reg, sweeps, patience, model.row('user', 0).factors.sum().item()))
        return History([dict(sweep=n+1, valid=v, seconds=.5) for n, v in enumerate((3., reg, 2*reg))], best_sweep=3)
    frame = tune(method, split.train, split.valid, [dict(reg=5.), dict(reg=2., k=3), dict(reg=4., seed=9)], k=2, seed=1, sweeps=7)
    start = {(k, seed): MatrixFactorization(split.train, k, seed).row('user', 0).factors.sum().item() for k, seed in ((2, 1), (3, 1), (2, 9))}
    assert seen == [(2, 5., 7, None, start[2, 1]), (3, 2., 7, None, start[3, 1]), (2, 4., 7, None, start[2, 9])]
    assert frame.reg.tolist() == [2., 4., 5.] and frame.valid.tolist() == [4., 8., 10.] and frame.best.tolist() == [2., 3., 3.]
    assert frame.best_sweep.tolist() == [2, 1, 1] and frame.seconds.tolist() == [1.5]*3

@pytest.mark.parametrize('tuner, settled', [(tune_sgd, dict(lr=.03, epochs=10)), (tune_als, {})], ids=['sgd', 'als'])
def test_without_a_grid_tuning_reaches_from_many_factors_to_the_tuned_biases(sample, tuner, settled):
    "The grid's ends: with validation ratings that are noise, no factors and the biases' own choice; so it is never worse than these."
    train = sample.train.take(slice(0, 4000))
    noise = Ratings(train.users[:800], train.items[:800], train.values[torch.randperm(4000)[:800]], None, train.user_ids, train.item_ids, train.rating_range)
    frame = tuner(train, noise, k=4, progress=False, **settled)
    assert frame.reg.nunique() == 4 and {None} < {None if b is None else tuple(b) for b in frame.bias_reg}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')                 # of the edge of this grid
        best = tune_biases(train, noise, (1, 2, 3, 5, 8, 13, 21, 34, 55))
    assert dict(user=best['reg_user'], item=best['reg_item']) in frame.bias_reg.tolist()
    assert frame.valid.min() <= rmse(biases(train, **best).predict(noise), noise)*1.002

def test_an_empty_grid_is_refused(split):
    for tuner, grid in ((tune_sgd, []), (tune_als, []), (tune_biases, ())):
        with pytest.raises(ValueError, match='the grid is empty; give'): tuner(split.train, split.valid, grid)

def test_what_is_settled_is_not_searched_for(split, monkeypatch):
    def never(*args): raise AssertionError('the biases were tuned in vain')
    monkeypatch.setattr('mfbook.runs.tune_biases', never)
    assert regularization_grid(split.train, split.valid, settled=['bias_reg']) == [dict(reg=reg) for reg in (5., 13., 40., 120.)]
    with pytest.raises(AssertionError, match='in vain'): regularization_grid(split.train, split.valid)

@pytest.mark.parametrize('bad', ['much', dict(user=1), dict(users=1, items=2), dict(user=1, item=2, film=3), dict(user='a', item=1), [1, 2]], ids=str)
def test_a_regularization_of_biases_that_is_none_is_refused(split, bad):
    for fit_it in (fit_sgd, fit_als):
        with pytest.raises(ValueError, match='bias_reg is .*; give a number, dict'): fit_it(MatrixFactorization(split.train, 2), split.train, bias_reg=bad, progress=False)

def test_what_the_caller_has_settled_is_not_tried(split):
    frame = tune_als(split.train, split.valid, k=2, sweeps=2, reg=7., progress=False)
    assert list(frame.columns[:2]) == ['bias_reg', 'valid'] and len(frame) == 2
    assert set(tune_sgd(split.train, split.valid, k=2, epochs=1, lr=.1, progress=False).columns) == {'reg', 'bias_reg', 'valid', 'best', 'best_sweep', 'seconds'}
    with pytest.raises(ValueError, match='give a grid'): tune_als(split.train, split.valid, per_rating=True)

def test_tuning_takes_the_best_of_the_grid_on_validation(sample):
    grid = 0, 1, 4, 16
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter('always')
        best = tune_biases(sample.train, sample.valid, grid)
    scores = {(a, b): rmse(biases(sample.train, a, b).predict(sample.valid), sample.valid) for a in grid for b in grid}
    assert (best['reg_user'], best['reg_item']) == min(scores, key=scores.get) and list(best) == ['reg_user', 'reg_item']
    assert best['reg_item'] == 4 and not heard            # inside the grid, or at 0, beyond which there is nothing

def test_tuning_says_when_the_grid_is_too_narrow(sample):
    with pytest.warns(UserWarning) as heard: assert tune_biases(*sample[:2], grid=(30, 60)) == dict(reg_user=30, reg_item=30)
    assert [str(w.message).split(',')[0] for w in heard] == ['the best reg_user', 'the best reg_item']

def test_beyond_zero_there_is_nothing_to_try(sample):
    "Tuned on train itself, nothing should be shrunk; and 0 is the end of regularization, not of a grid."
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert tune_biases(sample.train, sample.train, grid=(0, 5, 9)) == dict(reg_user=0, reg_item=0)

def tuned_biases(train, valid):
    "Both settings chosen on validation, refit on train and validation together."
    return biases(concat(train, valid), **tune_biases(train, valid))

def test_the_ladder_of_baselines(sample):
    "Mean, film means, biases one side after the other, and both sides together: each beats the one before."
    train, valid, test = sample
    both = concat(train, valid)
    models = {'mean': MatrixFactorization(both, k=0), 'joint': tuned_biases(train, valid)}
    for name, reg in ('film mean', (math.inf, 0)), ('Koren', (5, 3)):
        models[name] = fit_biases_koren(MatrixFactorization(both, k=0), both, *reg)
    error = {name: rmse(model.predict(test), test) for name, model in models.items()}
    assert error['mean'] - .05 > error['film mean'] > error['Koren'] + .05 and error['Koren'] > error['joint'] + .002
    assert error['joint'] < .900

@pytest.mark.skipif('MFBOOK_DATA' not in os.environ, reason='MFBOOK_DATA names no folder with MovieLens data')
@pytest.mark.parametrize('name, most', pick([('ml-100k', .942), ('ml-latest-small', .867)], ('ml-100k', .942)))
def test_the_joint_biases_on_five_folds_of_real_data(name, most):
    from mfbook.movielens import load_ratings
    errors = []
    for train, test in folds(load_ratings(os.path.join(os.environ['MFBOOK_DATA'], name))):
        train, valid, _ = split_random(train, valid=.1, test=0)
        errors.append(rmse(tuned_biases(train, valid).predict(test), test))
    assert np.mean(errors) < most

# --- files ---

def test_whole_file_replaces_only_at_the_end(tmp_path):
    path = tmp_path/'x'
    path.write_text('old')
    with pytest.raises(KeyboardInterrupt):
        with whole_file(path) as tmp:
            open(tmp, 'w').write('ne')
            raise KeyboardInterrupt
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['x']
    with whole_file(path) as tmp: open(tmp, 'w').write('new')
    assert path.read_text() == 'new' and os.listdir(tmp_path) == ['x']

@pytest.mark.parametrize('names', [False, True])
@pytest.mark.parametrize('movies', [False, True])
@pytest.mark.parametrize('k', [0, 3])
def test_what_is_saved_is_loaded(tmp_path, names, movies, k):
    ratings = few(names, movies)
    model = filled(ratings, k)
    model.save(tmp_path/'m.safetensors')
    loaded = MatrixFactorization.load(tmp_path/'m.safetensors')
    assert same(loaded, model)
    assert [name for name, _ in loaded.named_parameters()] == TENSORS and all(p.requires_grad for p in loaded.parameters())
    assert loaded.user_ids.tolist() == model.user_ids.tolist() and loaded.item_ids.tolist() == model.item_ids.tolist()
    assert loaded.rating_range == model.rating_range == (1., 5.)
    assert loaded.prior('user').per_rating is True and loaded.prior('item').per_rating is False
    assert loaded.titles(range(4)) == model.titles(range(4)) and loaded.user_code(ratings.user_ids[1]) == 1
    assert torch.equal(loaded.predict(ratings), model.predict(ratings)) and os.listdir(tmp_path) == ['m.safetensors']
    if movies:
        assert loaded.movies.year.tolist()[0] == 1999 and loaded.movies.year.isna().tolist() == [False, True, False, True]
        assert loaded.titles([0, 1])[0] == 'Ça va (1999)'
    else: assert loaded.movies is None

def test_ids_of_any_letters_are_saved_outside_the_header(tmp_path):
    "The header of a safetensors file holds 100 MB at most, and many readers less."
    n = 30_000
    odd = ['', ' ', 'Ça', '\u4f60\u597d', '\U0001f600', 'a\nb', "'", '\ud800', '0']
    ids = np.array(sorted([f'{i:036d}' for i in range(n)] + odd), dtype=object)
    items = np.array([i if i != '\ud800' else '\ue000' for i in ids], dtype=object)
    ratings = Ratings.from_frame(dict(userId=ids, movieId=items, rating=np.arange(len(ids)) % 5), titles={i: f'Title {i}' for i in items})
    model = MatrixFactorization(ratings, k=1)
    model.save(tmp_path/'m')
    with open(tmp_path/'m', 'rb') as f: assert int.from_bytes(f.read(8), 'little') < 4000
    loaded = MatrixFactorization.load(tmp_path/'m')
    assert loaded.user_ids.tolist() == ids.tolist() and loaded.item_ids.tolist() == items.tolist() and loaded.user_ids.dtype == object
    assert loaded.titles(range(len(ids))) == model.titles(range(len(ids)))

def test_lengths_of_ids_that_do_not_fit_are_damage(tmp_path):
    for wrong in ([2, 2, 3], [2, 2, 1], [-1, 5, 2], [2, 2]):
        filled(few(names=True)).save(tmp_path/'m')
        with safe_open(tmp_path/'m', 'pt') as f: meta, parts = f.metadata(), {name: f.get_tensor(name) for name in f.keys()}
        assert parts['user_ids_lengths'].tolist() == [2, 2, 2]
        parts['user_ids_lengths'] = torch.tensor(wrong)
        del meta['sha256']
        save_file(parts, tmp_path/'m', metadata=meta | {'sha256': runs._checksum(parts, meta)})
        with pytest.raises(ValueError, match='is damaged: .* is missing or wrong'): MatrixFactorization.load(tmp_path/'m')

def test_what_is_loaded_can_be_fitted_and_saved_again(tmp_path):
    ratings = few(movies=True)
    filled(ratings).save(tmp_path/'m')
    model = MatrixFactorization.load(tmp_path/'m')
    fit_sgd(model, ratings, epochs=1)
    model.save(tmp_path/'m')
    assert same(MatrixFactorization.load(tmp_path/'m'), model)

def test_the_sample_with_its_films_goes_and_comes(tmp_path):
    ratings = load_sample()
    MatrixFactorization(ratings, k=2).save(str(tmp_path/'m'))
    loaded = MatrixFactorization.load(str(tmp_path/'m'))
    assert loaded.titles(range(ratings.n_items)) == ratings.titles(range(ratings.n_items))
    assert loaded.movies.genres.tolist() == ratings.movies.genres.tolist()

FORMAT_1 = '''
c-oy*$%@-R5H%z@B<Gw5)2AGop%*Q!Ib@uLz~l=CEF;QN%Mr08(`p+A$1tCfZ%97Ezn0QsjXhoh(+Ab7>U!@<)s23?9yDuBqA1rE
60i_O<YrB(A0S+h+z`bb=?e|9BOH)EK$>`gRI!_aR8o1`g;-6&30NwmPNnb1JodFn0zZWSVnWGEn<^^{6yunsrOCl!lBd(M{D~C<
HY;Y4fnuhyKIYeq4&7@u!M%maN)s)#iP|pQw`QqvCofl-t}tJRExt=aeDjbn44l!Ba0H?T0)ec7MBuOuBAeN{e(DcN7%mx$eHgAF
Bpta}&gUIHB%hnIZ19(m)FKZW%${cu1jj_d*v`4G*0h-}jIQ?0zZ%HT*nax8Z+wr&8}ufb)p?X9Ree^8eOT0kyYn2J3!Yq^jhzW4
&3Tq-T4{@&V@9QzAbDBgJTH>vF<A=gdXt^?G=l^BHz_WAyB_sLPfsDXrMaX)`LTvCs8YQ~do^+m#d#TVETR+*yk{Z{qvNc-qi2=q
39Z1RoHt*UFV9ntc}PN{*Pq4ZY06Uq=qyw(@ZWjLQ}aXx${p6Lyl|o@fimiu%u8pAN|bxfWV0C#-?hJ|!TT;=b@4+NUv=?K7vBzc
>+yE*gtz#>{P82k?ciV?^xgjb^L^CzHf!7MV{J6rBkkeQ=pPHbbyf'''

def test_a_file_of_the_first_edition_is_loaded(tmp_path):
    "One flag in the metadata said of both priors whether they count per rating."
    (tmp_path/'m').write_bytes(zlib.decompress(base64.b85decode(FORMAT_1.replace('\n', ''))))
    with safe_open(tmp_path/'m', 'pt') as f: assert f.metadata()['version'] == '1'
    model = MatrixFactorization.load(tmp_path/'m')
    assert model.predict(few()).tolist() == pytest.approx([5., 3.9166667, 3.6666667, 2.1666667, 5., 1.1666667])
    assert model.rows('item').tolist() == [[.5, 1.], [.25, 0.], [-.5, 0.], [0., -1.]]
    assert model.prior('user').precision.tolist() == [[2., 0.], [0., 3.]] and model.prior('item').precision.tolist() == [[1., 0.], [0., 1.]]
    assert model.prior('user').per_rating is True and model.prior('item').per_rating is True
    assert model.titles([0, 1]) == ['Ça va (1999)', '(no title, id 20)'] and model.user_ids.tolist() == [3, 5, 9]
    model.save(tmp_path/'new')
    with safe_open(tmp_path/'new', 'pt') as f: assert f.metadata()['version'] == '2'
    assert same(MatrixFactorization.load(tmp_path/'new'), model)

def test_a_file_of_the_first_edition_with_ids_of_letters_is_loaded(tmp_path):
    "They stood in the metadata, as JSON."
    model = filled(few(names=True))
    for side in ('user', 'item'): model.set_prior(side, model.prior(side).mean, model.prior(side).precision, per_rating=True)
    model.save(tmp_path/'m')
    with safe_open(tmp_path/'m', 'pt') as f: meta, parts = f.metadata(), {name: f.get_tensor(name) for name in f.keys()}
    parts = {name: part for name, part in parts.items() if not name.endswith(('_text', '_lengths', '_per_rating'))}
    ids = {name: json.dumps(getattr(model, name).tolist()) for name in ('user_ids', 'item_ids')}
    meta = meta | ids | {'version': '1', 'prior_per_rating': 'true'}
    del meta['sha256']
    save_file(parts, tmp_path/'m', metadata=meta | {'sha256': runs._checksum(parts, meta)})
    loaded = MatrixFactorization.load(tmp_path/'m')
    assert same(loaded, model) and loaded.user_ids.tolist() == model.user_ids.tolist() and loaded.item_ids.tolist() == model.item_ids.tolist()
    assert loaded.user_ids.dtype == object and loaded.prior('item').per_rating is True

def test_a_damaged_file_of_the_first_edition_is_refused(tmp_path):
    whole = zlib.decompress(base64.b85decode(FORMAT_1.replace('\n', '')))
    for at in range(0, len(whole), 7):
        (tmp_path/'m.safetensors').write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at+1:])
        with pytest.raises(ValueError, match='m.safetensors'): MatrixFactorization.load(tmp_path/'m.safetensors')

def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path/'m.safetensors'
    old, new = filled(few(), seed=1), filled(few(), seed=2)
    old.save(path)
    def full(*args): raise OSError(28, 'No space left on device')
    for name in ('replace', 'fsync'):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(OSError, match='No space'): new.save(path)
        assert os.listdir(tmp_path) == ['m.safetensors']
        assert same(MatrixFactorization.load(path), old)
    with pytest.raises(FileNotFoundError): new.save(tmp_path/'nowhere'/'m')

def test_the_temporary_file_lies_beside_its_place(tmp_path, monkeypatch):
    seen, real = [], os.replace
    monkeypatch.setattr(os, 'replace', lambda a, b: (seen.append(os.path.dirname(a)), real(a, b)))
    filled(few()).save(tmp_path/'m')
    assert str(tmp_path) in map(os.path.dirname, seen)

def test_a_saved_file_has_usual_rights(tmp_path):
    old = os.umask(0o022)
    try: filled(few()).save(tmp_path/'m')
    finally: os.umask(old)
    assert stat.S_IMODE((tmp_path/'m').stat().st_mode) == 0o644

def test_damaged_files_are_refused_and_named(tmp_path):
    path = tmp_path/'m.safetensors'
    filled(few()).save(path)
    whole = path.read_bytes()
    for cut in (0, 4, 8, 60, len(whole)//2, len(whole)-1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match='m.safetensors is damaged'): MatrixFactorization.load(path)
    for at in (0, 7, 8, 9):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xff]) + whole[at+1:])
        with pytest.raises(ValueError, match='m.safetensors is damaged'): MatrixFactorization.load(path)

def test_every_flipped_byte_is_refused(tmp_path):
    path = tmp_path/'m.safetensors'
    filled(few(movies=True)).save(path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at+1:])
        with pytest.raises(ValueError, match='m.safetensors'): MatrixFactorization.load(path)

@pytest.mark.parametrize('meta, says', [(None, "not one of mfbook's"), ({'format': 'pt'}, "not one of mfbook's"), ({'format': 'mfbook', 'version': '99'}, 'format 99.*newer mfbook'),
    ({'format': 'mfbook', 'version': 'x'}, 'is damaged'), ({'format': 'mfbook', 'version': '1'}, 'is damaged'), ({'format': 'mfbook', 'version': '2'}, 'is damaged')])
def test_files_of_others_and_of_the_future_are_refused(tmp_path, meta, says):
    save_file({'x': torch.zeros(2)}, tmp_path/'m', metadata=meta)
    with pytest.raises(ValueError, match=says): MatrixFactorization.load(tmp_path/'m')

def test_the_next_format_is_refused(tmp_path):
    save_file({'x': torch.zeros(1)}, tmp_path/'m', metadata={'format': 'mfbook', 'version': '4'})
    with pytest.raises(ValueError, match='newer mfbook'): MatrixFactorization.load(tmp_path/'m')

def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone does not exist.*save'): MatrixFactorization.load(tmp_path/'gone')

def test_device_is_obeyed(tmp_path):
    filled(few()).save(tmp_path/'m')
    model = MatrixFactorization.load(tmp_path/'m', device='meta')
    assert {t.device.type for t in model.state_dict().values()} == {'meta'}

def letters(text): return torch.tensor(list(text.encode()), dtype=torch.uint8)

CHANGES = {'version': ({}, {'version': '²'}), 'k': ({'item_factors': torch.zeros(4, 2)}, {}), 'ids': ({'user_ids': torch.tensor([1])}, {}),
           'int': ({'item_factors': torch.zeros(4, 3, dtype=torch.int32)}, {}), 'list': ({'movies': letters('[1]')}, {}),
           'short': ({'movies': letters('{"title":{"0":"a"},"year":{"0":1}}')}, {}), 'ragged': ({'movies': letters('{"title":{"0":"a"},"year":{"0":1,"1":2}}')}, {}),
           'range': ({}, {'rating_range': '[1]'}), 'flat': ({'user_factors': torch.zeros(3)}, {}), 'more': ({'x': torch.zeros(3)}, {})}

def change(path, name):
    "Put a change into a saved file, which keeps its old checksum."
    with safe_open(path, 'pt') as f: meta, parts = f.metadata(), {name: f.get_tensor(name) for name in f.keys()}
    parts, meta = parts | CHANGES[name][0], meta | CHANGES[name][1]
    save_file(parts, path, metadata=meta)
    return parts, meta

@pytest.mark.parametrize('name', CHANGES)
def test_well_formed_damage_is_refused_and_named(tmp_path, name):
    path = tmp_path/'m.safetensors'
    filled(few(False, True)).save(path)
    change(path, name)
    with pytest.raises(ValueError, match='m.safetensors is damaged'): MatrixFactorization.load(path)

@pytest.mark.parametrize('name', ['k', 'ids', 'flat', 'list', 'ragged', 'more'])
def test_it_is_refused_with_a_right_checksum_too(tmp_path, name):
    path = tmp_path/'m.safetensors'
    filled(few(False, True)).save(path)
    parts, meta = change(path, name)
    del meta['sha256']
    save_file(parts, path, metadata=meta | {'sha256': runs._checksum(parts, meta)})
    with pytest.raises(ValueError, match='m.safetensors is damaged: .* is missing or wrong'): MatrixFactorization.load(path)

def test_a_loaded_model_outlives_its_file(server, tmp_path):
    begin(server, 'outlive', tmp_path/'m')
    assert int(server.stdout.readline()) == 0
