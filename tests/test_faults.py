"""Faults of the world outside: a process killed at any moment, a full disk, a folder that may not be written.

A file is the old one or the new one, whole, and a run that is taken up again ends at the same tensors. With MFBOOK_FULL=1
there are a hundred moments instead of six: `make faults`.
"""
import faulthandler, json, os, random, resource, shutil, signal, subprocess, sys, time, traceback, warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from mfbook import movielens, runs
from mfbook.als import fit_als
from mfbook.gibbs import fit_gibbs
from mfbook.holdout import split_random
from mfbook.model import MatrixFactorization
from mfbook.movielens import load_ratings
from mfbook.ratings import Ratings
from mfbook.runs import fit_biases, fit_sgd, read_checkpoint
from mfbook.variational import fit_variational

MOMENTS = 100 if os.environ.get('MFBOOK_FULL') else 6
root = Path(__file__).resolve().parent.parent
posix = pytest.mark.skipif(os.name == 'nt', reason='needs POSIX')
linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs Linux')

pytestmark = pytest.mark.usefixtures('one_thread')

def small(seed=0, n_users=40, n_items=30, n=600):
    "Ratings of one factor and noise."
    g = np.random.default_rng(seed)
    cells = g.choice(n_users*n_items, n, replace=False)
    users = cells // n_items
    items = cells % n_items
    a = g.normal(size=n_users)
    b = g.normal(size=n_items)
    stars = (3 + a[users]*b[items] + 0.3*g.normal(size=n)).clip(1, 5)
    return Ratings.from_frame(dict(userId=users, movieId=items, rating=stars), rating_range=(1, 5))

def tensors(model): return {name: t.detach().clone() for name, t in model.state_dict().items()}

def same(a, b):
    "Whether two models hold the same numbers, to the last bit."
    a = tensors(a)
    b = tensors(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

# ---- jobs: what is killed

FITS = {
    'biases': partial(fit_biases, sweeps=12, tol=0.),
    'SGD': partial(fit_sgd, epochs=12, batch_size=100, patience=12),
    'ALS': partial(fit_als, sweeps=12, patience=12),
    'Gibbs': partial(fit_gibbs, sweeps=50, burn_in=5, keep=20),
    'variational': partial(fit_variational, sweeps=12, patience=12),
}

def run_fit(name, checkpoint=None):
    "A fit of many short sweeps, with a checkpoint after each (after ten of Gibbs): the model and its record."
    train, valid, _ = split_random(small(), seed=0)
    model = MatrixFactorization(train, k=0 if name == 'biases' else 3)
    history = FITS[name](model, train, valid, checkpoint=checkpoint, progress=False)
    return model, history

def saved_model(seed):
    "One of two models of different sizes."
    model = MatrixFactorization(small(seed, n_users=40 + 100*seed), k=20)
    with torch.no_grad(): model.user_bias.fill_(1. + seed)
    return model

def save_often(path, times=40):
    "One model and the other in turn, under the same name."
    models = saved_model(0), saved_model(1)
    for n in range(times): models[n % 2].save(path)

def load_often(folder, cache, times=20):
    "Load a file whose time has always changed, so that its copy is written anew."
    os.environ['MFBOOK_CACHE'] = cache
    for _ in range(times):
        os.utime(Path(folder)/'ratings.csv')
        load_ratings(folder)

JOBS = {'fit': run_fit, 'save': save_often, 'load': load_often}

LONGEST = 200     # seconds that a job may take; one that stands still then says where

def serve():
    "Do jobs, each in a child that is killed after so many seconds, and print its exit status and its time."
    torch.set_num_threads(1)
    for name in FITS: run_fit(name)      # what is imported at the first use is imported now
    for line in sys.stdin:
        job, args, seconds = json.loads(line)
        start = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            faulthandler.dump_traceback_later(LONGEST, exit=True)
            try: JOBS[job](*args)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps([status, time.perf_counter() - start]), flush=True)

@pytest.fixture(scope='module')
def server():
    "A process that has imported everything once, and forks a child for each job."
    code = 'import sys; sys.path.insert(0, sys.argv[1]); import test_faults; test_faults.serve()'
    command = [sys.executable, '-c', code, str(root/'tests')]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        yield process
        process.kill()

def do(server, job, *args, kill_after=None):
    "Do a job in a process of its own: its exit status, and how long it lived in seconds."
    given = [str(arg) if isinstance(arg, Path) else arg for arg in args]
    print(json.dumps([job, given, kill_after]), file=server.stdin, flush=True)
    return json.loads(server.stdout.readline())

KILLED = -signal.SIGKILL

def duration(server, job, *args):
    "How long the job takes in a process of its own, in seconds."
    status, seconds = do(server, job, *args)
    assert status == 0
    return seconds

def moments(seconds):
    "Moments spread over a job that takes so many seconds: one by chance in each part of it."
    chance = random.Random(0)
    return [(part + chance.random())*seconds/MOMENTS for part in range(MOMENTS)]

def only(folder, name):
    "Whether nothing lies in `folder` but the file and what killed processes left, and whether the next writing clears that."
    others = [path for path in folder.iterdir() if path.name != name]
    for other in others: os.utime(other, (0, 0))
    runs._remove_stale(folder/name)
    return [path.name for path in folder.iterdir() if path.name != name] == []

# ---- killed at any moment

@posix
@pytest.mark.parametrize('name', FITS)
def test_a_fit_killed_at_any_moment_goes_on_to_the_same_tensors(server, tmp_path, name):
    whole, history = run_fit(name)
    seconds = duration(server, 'fit', name, tmp_path/'timed')
    found = []
    for n, moment in enumerate(moments(seconds)):
        checkpoint = tmp_path/str(n)/'run'
        checkpoint.parent.mkdir()
        do(server, 'fit', name, checkpoint, kill_after=moment)
        if checkpoint.exists(): found.append(len(read_checkpoint(checkpoint)['rows']))
        assert only(checkpoint.parent, 'run')

        resumed, again = run_fit(name, checkpoint)
        assert same(resumed, whole), f'killed after {moment} s'
        assert again.best_sweep == history.best_sweep and len(again.rows) == len(history.rows)
        assert len(read_checkpoint(checkpoint)['rows']) == len(history.rows)
    if not any(0 < done < len(history.rows) for done in found): pytest.skip(f'no kill came within the run on this machine: {found}')

@posix
def test_a_save_killed_at_any_moment_leaves_a_whole_model(server, tmp_path):
    models = saved_model(0), saved_model(1)
    path = tmp_path/'m.safetensors'
    models[0].save(path)
    seconds = duration(server, 'save', path)
    killed = 0
    for moment in moments(seconds):
        status, _ = do(server, 'save', path, kill_after=moment)
        killed += status == KILLED
        loaded = MatrixFactorization.load(path)
        assert any(same(loaded, model) for model in models if model.n_users == loaded.n_users), f'killed after {moment} s'
        assert only(tmp_path, path.name)
    if not killed: pytest.skip('no kill came in time on this machine')

@pytest.fixture
def folder(tmp_path):
    "A folder of ratings in MovieLens's layout."
    rows = [f'{user},{item},{1 + (user*item) % 9/2},{user + item}\n' for user in range(1, 90) for item in range(3, 90, 2)]
    (tmp_path/'ml').mkdir()
    (tmp_path/'ml'/'ratings.csv').write_text('userId,movieId,rating,timestamp\n' + ''.join(rows))
    return tmp_path/'ml'

def identical(a, b):
    "Whether two `Ratings` hold the same."
    names = ('users', 'items', 'values', 'timestamps')
    alike = all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)
    return alike and np.array_equal(a.user_ids, b.user_ids) and np.array_equal(a.item_ids, b.item_ids)

@posix
def test_a_copy_whose_writing_was_killed_at_any_moment_is_whole_or_not_there(server, tmp_path, folder, monkeypatch):
    cache = tmp_path/'cache'
    monkeypatch.setenv('MFBOOK_CACHE', str(cache))
    ratings = load_ratings(folder, cache=False)
    seconds = duration(server, 'load', folder, cache)
    killed = 0
    for moment in moments(seconds):
        for path in cache.iterdir(): path.unlink()
        status, _ = do(server, 'load', folder, cache, kill_after=moment)
        killed += status == KILLED
        with warnings.catch_warnings():
            warnings.simplefilter('error')           # a damaged copy is warned of
            assert identical(load_ratings(folder), ratings), f'killed after {moment} s'
            assert identical(load_ratings(folder), ratings)
        copy, = cache.glob('*.safetensors')
        assert only(cache, copy.name)
    if not killed: pytest.skip('no kill came in time on this machine')

# ---- killed within the writing itself

save_file = runs.save_file

def die(*args, **kw): os.kill(os.getpid(), signal.SIGKILL)

def write_half(tensors, path, metadata):
    "The first half of a file, and then the end."
    save_file(tensors, path, metadata)
    os.truncate(path, os.path.getsize(path)//2)
    die()

def replace_and_die(*args, replace=os.replace):
    replace(*args)
    die()

STEPS = {       # whether the file is the old one yet, and what is put where
    'before the first byte': (True, 'save_file', die),
    'within the bytes': (True, 'save_file', write_half),
    'before they are on the disk': (True, 'fsync', die),
    'before the new name': (True, 'replace', die),
    'after the new name': (False, 'replace', replace_and_die),
}

def write_and_die(step, what, *args):
    "Write a file, and be killed at a step of it."
    _, name, fatal = STEPS[step]
    modules = (runs, movielens) if name == 'save_file' else (os,)
    for module in modules: setattr(module, name, fatal)
    WRITES[what](*args)

def write_model(path): saved_model(1).save(path)
def write_checkpoint(path): runs.write_checkpoint(path, {'new': torch.ones(1000)})
def write_copy(folder, cache): load_often(folder, cache, times=1)

WRITES = {'model': write_model, 'checkpoint': write_checkpoint, 'copy': write_copy}
JOBS['write and die'] = write_and_die

@posix
@pytest.mark.parametrize('step', STEPS)
def test_a_model_killed_within_the_writing(server, tmp_path, step):
    path = tmp_path/'m.safetensors'
    saved_model(0).save(path)
    assert do(server, 'write and die', step, 'model', path)[0] == KILLED
    old, _, _ = STEPS[step]
    assert same(MatrixFactorization.load(path), saved_model(0 if old else 1))
    assert len(list(tmp_path.iterdir())) == 2
    assert only(tmp_path, path.name)

@posix
@pytest.mark.parametrize('step', STEPS)
def test_a_checkpoint_killed_within_the_writing(server, tmp_path, step):
    path = tmp_path/'run'
    runs.write_checkpoint(path, {'old': torch.zeros(500)})
    assert do(server, 'write and die', step, 'checkpoint', path)[0] == KILLED
    old, _, _ = STEPS[step]
    (name, tensor), = read_checkpoint(path).items()
    assert (name, len(tensor)) == (('old', 500) if old else ('new', 1000))

@posix
@pytest.mark.parametrize('step', STEPS)
def test_a_copy_killed_within_the_writing(server, tmp_path, folder, monkeypatch, step):
    cache = tmp_path/'cache'
    monkeypatch.setenv('MFBOOK_CACHE', str(cache))
    load_ratings(folder)
    copy, = cache.iterdir()
    before = copy.read_bytes()
    assert do(server, 'write and die', step, 'copy', folder, cache)[0] == KILLED
    old, _, _ = STEPS[step]
    assert (copy.read_bytes() == before) == old and only(cache, copy.name)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert identical(load_ratings(folder), load_ratings(folder, cache=False))

# ---- a full disk

@pytest.fixture
def full_disk(tmp_path):
    "A folder on a disk of 300 kB; or, where none may be mounted, in a process whose files may not be larger."
    place = tmp_path/'disk'
    place.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=300k', 'tmpfs', str(place)]
    mounted = shutil.which('mount') and subprocess.run(command, capture_output=True).returncode == 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not mounted: resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, hard))
    yield place
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    if mounted: subprocess.run(['umount', str(place)], check=True)

FULL = 'No space left on device|File too large'
LARGE = dict(n_users=2000, n=3000)

@linux
def test_a_full_disk_while_saving(full_disk):
    path = full_disk/'m.safetensors'
    old = saved_model(0)
    old.save(path)
    large = MatrixFactorization(small(**LARGE), k=60)
    with pytest.raises(OSError, match=f'm.safetensors could not be written .*({FULL})'): large.save(path)
    assert same(MatrixFactorization.load(path), old)
    assert os.listdir(full_disk) == ['m.safetensors'], 'no temporary file is left'

@linux
def test_a_full_disk_while_fitting(full_disk):
    "The run stops with the reason, and goes on from its last checkpoint when there is room."
    path = full_disk/'run'
    large = small(**LARGE)
    def run(k):
        model = MatrixFactorization(large, k=k)
        fit_als(model, large, sweeps=2, checkpoint=path, progress=False)
        return model
    small_model = run(2)
    before = path.read_bytes()
    path.rename(full_disk/'kept')
    with pytest.raises(OSError, match=f'run could not be written .*({FULL})'): run(60)
    assert os.listdir(full_disk) == ['kept']
    path.write_bytes(before)
    (full_disk/'kept').unlink()
    assert same(run(2), small_model)

@linux
def test_a_full_disk_while_a_copy_is_written(full_disk, folder, monkeypatch):
    "The ratings are there all the same."
    monkeypatch.setenv('MFBOOK_CACHE', str(full_disk))
    (full_disk/'filler').write_bytes(bytes(240_000))
    ratings = load_ratings(folder, cache=False)
    assert identical(load_ratings(folder), ratings)
    assert os.listdir(full_disk) == ['filler']

# ---- odd worlds

DAY = '''
import sys, warnings
import torch
torch.set_num_threads(1)
from mfbook.all import *
ratings = load_ratings('ä ö/ml 1')
model = MatrixFactorization(ratings, k=2)
fit_sgd(model, ratings, epochs=2, checkpoint='ä ö/ein Lauf', progress=True)
model.save('ä ö/ein Modell.safetensors')
print(MatrixFactorization.load('ä ö/ein Modell.safetensors').predict(ratings).sum().item())
'''

@posix
def test_a_day_in_an_odd_world(tmp_path, folder):
    "A dumb terminal, the C locale, no home, a folder for copies that is not there; spaces and umlauts in every path."
    place = tmp_path/'ä ö'
    place.mkdir()
    folder.rename(place/'ml 1')
    changed = dict(PYTHONPATH=str(root), TERM='dumb', LC_ALL='C', XDG_CACHE_HOME=str(place/'kein Ordner'), OMP_NUM_THREADS='1')
    left_out = ('HOME', 'USER', 'LOGNAME', 'LANG', 'MFBOOK_CACHE', 'PYTHONUTF8', 'PYTHONIOENCODING', 'CI')
    env = {name: value for name, value in os.environ.items() if name not in left_out} | changed
    done = subprocess.run([sys.executable, '-c', DAY], cwd=tmp_path, env=env, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()[-2000:]

    ratings = load_ratings(place/'ml 1', cache=False)
    model = MatrixFactorization(ratings, k=2)
    fit_sgd(model, ratings, epochs=2, progress=False)
    assert float(done.stdout) == pytest.approx(model.predict(ratings).sum().item(), rel=1e-6)
    assert b'2/2' in done.stderr, 'the progress bar'
    names = sorted(path.name for path in place.iterdir())
    assert names == ['ein Lauf', 'ein Modell.safetensors', 'kein Ordner', 'ml 1']
    assert len(list((place/'kein Ordner').rglob('*.safetensors'))) == 1

@linux
def test_a_disk_that_may_not_be_written(full_disk, folder, monkeypatch):
    "It can be read; what wants to write there says so."
    if not os.path.ismount(full_disk): pytest.skip('no disk can be mounted here')
    monkeypatch.setenv('MFBOOK_CACHE', str(full_disk/'cache'))
    old = saved_model(0)
    old.save(full_disk/'m')
    shutil.copy(folder/'ratings.csv', full_disk)
    subprocess.run(['mount', '-o', 'remount,ro', str(full_disk)], check=True)

    ratings = load_ratings(full_disk)
    assert identical(ratings, load_ratings(folder, cache=False))
    assert same(MatrixFactorization.load(full_disk/'m'), old)
    with pytest.raises(OSError, match='/m could not be written .*Read-only'): saved_model(1).save(full_disk/'m')
    with pytest.raises(OSError, match='/run could not be written .*Read-only'): run_fit('ALS', full_disk/'run')
    assert sorted(os.listdir(full_disk)) == ['m', 'ratings.csv']

@pytest.mark.parametrize('names', [('ALS', 'SGD', 'biases'), ('ALS', 'ALS', 'ALS')])
def test_three_fits_at_once(tmp_path, names):
    "In three threads of one process: into three checkpoints, or into one and the same."
    alone = {name: run_fit(name)[0] for name in names}
    with ThreadPoolExecutor(3) as pool:
        for _ in range(2):                                     # the second time each finds its run complete
            models = list(pool.map(lambda name: run_fit(name, tmp_path/name)[0], names))
            assert all(same(model, alone[name]) for name, model in zip(names, models))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(set(names))
