"""Lesson 17: several processes find what one does, whatever their number; what each reads, holds and gets; faults of all kinds."""
import json, os, pickle, shutil, signal, socket, subprocess, sys, time, traceback
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import pick

from mfbook import distributed as d
from mfbook.als import ALSSolver, fit_als
from mfbook.gibbs import GibbsSolver, fit_gibbs
from mfbook.holdout import bias_regularization, rmse
from mfbook.model import SIDES, MatrixFactorization, rating_unit
from mfbook.ratings import Ratings, load_sample
from mfbook.runs import read_checkpoint
from mfbook.variational import VariationalSolver, fit_variational

root = Path(__file__).resolve().parent.parent
pytestmark = [pytest.mark.skipif(not sys.platform.startswith('linux'), reason='forks groups of processes'),
              pytest.mark.usefixtures('one_thread')]

def some():
    "Every sixteenth rating of the sample, in another order of the users: few ratings a row, and rows without any."
    part = load_sample().take(slice(None, None, 16))
    shift = torch.argsort((part.users*7919) % part.n_users, stable=True)
    return part.take(shift)

# ---- groups of processes, forked by a server that has imported everything

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def serve():
    "For each line, fork a group of so many ranks that do a job; each leaves what it returned, or what it raised."
    torch.set_num_threads(1)
    for line in sys.stdin:
        size, port, folder, job, args, timeout = json.loads(line)
        pids = []
        for rank in range(size):
            pid = os.fork()
            if pid: pids.append(pid)
            else: be_rank(rank, size, port, Path(folder), job, args, timeout)
        print(json.dumps(pids), flush=True)
        for pid in pids: os.waitpid(pid, 0)
        print('done', flush=True)

def be_rank(rank, size, port, folder, job, args, timeout):
    os.environ |= dict(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    with (folder/f'said-{rank}').open('w') as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    try:
        if job == 'command': result = d.main(args)
        else:
            with d.process_group(timeout): result = JOBS[job](*args)
    except Exception as error: result = error
    sys.stderr.flush()
    (folder/str(rank)).write_bytes(pickle.dumps(result))
    os._exit(0)

@pytest.fixture(scope='module')
def server():
    code = 'import sys; sys.path.insert(0, sys.argv[1]); import test_distributed; test_distributed.serve()'
    command = [sys.executable, '-c', code, str(root/'tests')]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        yield process
        process.kill()

class Group:
    "Some ranks at work."
    def __init__(self, server, folder, size, job, args, timeout):
        self.server, self.folder, self.size = server, folder, size
        folder.mkdir()
        given = [str(arg) if isinstance(arg, Path) else arg for arg in args]
        print(json.dumps([size, free_port(), str(folder), job, given, timeout]), file=server.stdin, flush=True)
        self.pids = json.loads(server.stdout.readline())

    def results(self):
        "What each rank returned; None if it was killed."
        assert self.server.stdout.readline() == 'done\n'
        files = [self.folder/str(rank) for rank in range(self.size)]
        return [pickle.loads(file.read_bytes()) if file.exists() else None for file in files]

    def said(self, rank): return (self.folder/f'said-{rank}').read_text()

@pytest.fixture
def start(server, tmp_path):
    def run(size, job, *args, timeout=120):
        return Group(server, tmp_path/f'results-{time.monotonic_ns()}', size, job, args, timeout)
    return run

@pytest.fixture
def group(start):
    "group(size, job, *args): what the job returned on each rank, a list."
    return lambda *args, **more: start(*args, **more).results()

def fit_job(folder, settings):
    "A fit; what came out as plain tensors, which can be pickled."
    fitted = d.fit_distributed(folder, **{'valid': 0, 'k': 4, 'sweeps': 4, 'progress': False, **settings})
    rows = {side: fitted.model.rows(side) for side in SIDES}
    priors = {side: fitted.model.prior(side)[:2] for side in SIDES}
    return dict(rows=rows, priors=priors, history=[{n: v for n, v in row.items() if n != 'seconds'} for row in fitted.history.rows],
                about=fitted.about, state=fitted.model.state_dict())

def strange_job(folder):
    "A fit in a process whose torch makes other tensors by default."
    torch.set_default_dtype(torch.float64)
    torch.set_default_device('meta')
    return fit_job(folder, dict(method='variational'))

def share_job(folder, valid, only_asked):
    share = d.read_share(folder, valid, 3, only_asked)
    own = {side: share.ranks.own(side) for side in SIDES}
    held = {side: _ratings(share.sides[side]) for side in SIDES}
    return dict(own=own, held=held, counts=share.counts, n=share.n_ratings, mean=share.mean, unit=share.unit, bias_reg=share.bias_reg,
                valid=(share.valid.users, share.valid.items, share.valid.values), received=share.ranks.received)

def _ratings(side):
    "Row, column and value of every rating of a `Side`, sorted."
    found = []
    for chunk in side.chunks:
        row = (chunk.at if chunk.owner is None else chunk.at[chunk.owner])[:, None].expand_as(chunk.cols)
        real = chunk.cols < side.n_cols
        found += zip(row[real].tolist(), chunk.cols[real].tolist(), chunk.values[real].tolist())
    return sorted(found)

def exchange_job(n_rows, only_asked):
    "Rows whose numbers are their codes, exchanged; and a total."
    cuts = [0, *[n_rows*(r + 1)**2//dist.get_world_size()**2 for r in range(dist.get_world_size())]]
    ranks = d.Ranks(dict(user=cuts, item=cuts))
    asked = torch.arange(dist.get_rank() % 2, n_rows, 2)
    if only_asked: ranks.ask_for('user', asked)
    own = ranks.own('user')
    rows = torch.arange(own.start, own.stop).float()[:, None]*torch.ones(3) + 1
    whole = ranks.exchange('user', rows)
    flat = ranks.exchange('user', rows[:, 0])
    before = dict(ranks.received)
    return dict(whole=whole, flat=flat, asked=asked, own=own, bytes=before['rows'],
                total=ranks.total([1, np.ones((2, 2)), torch.tensor(2.5), torch.tensor([3], dtype=torch.int64)]))

def meet_job(value):
    "Rank 1 has something else, or an error of its own."
    def work():
        if dist.get_rank() == 1 and value == 'error': raise OSError('the disk is full')
        return 5
    if value == 'alike': d.check_alike('settings', dict(k=8))
    elif value == 'other': d.check_alike('settings', dict(k=8 + dist.get_rank()))
    return d.on_all(work)

def different_job(folders, settings):
    "Each rank has its own folder and settings."
    rank = dist.get_rank()
    return fit_job(folders[rank], settings[rank])

JOBS = dict(strange=strange_job, different=different_job, fit=fit_job, share=share_job, exchange=exchange_job, meet=meet_job)

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return d.write_shards(some(), tmp_path_factory.mktemp('shards')/'some', shards=5)

def close(a, b, eps=2e-4):
    for side in SIDES: torch.testing.assert_close(a[side], b[side], atol=eps, rtol=eps)

# ---- the parts

@pytest.mark.parametrize('counts, parts', [([5]*10, 3), ([1000, 0, 0, 0], 4), ([0, 0, 0, 1000], 4), ([3, 2], 5), ([7], 1), ([0]*9, 2)])
def test_ranges_hold_every_row_and_none_is_empty_while_there_are_enough(counts, parts):
    cuts = d.cut_rows(torch.tensor(counts), parts)
    assert len(cuts) == parts + 1 and cuts[0] == 0 and cuts[-1] == len(counts) and cuts == sorted(cuts)
    assert sum(b > a for a, b in zip(cuts, cuts[1:])) == min(parts, len(counts))

def test_ranges_are_balanced():
    g = torch.Generator().manual_seed(0)
    counts = (torch.randn(5000, generator=g)*1.4 + 3).exp().long()
    cuts = d.cut_rows(counts, 4)
    work = [(counts[a:b] + d.ROW_WORK).sum().item() for a, b in zip(cuts, cuts[1:])]
    assert max(work) < 1.05*min(work)

def test_what_is_held_out_depends_on_the_pair_alone():
    users, items = torch.arange(200000, dtype=torch.int32) // 400, torch.arange(200000, dtype=torch.int32) % 400
    out = d.held_out(users, items, .1, 7)
    assert abs(out.double().mean() - .1) < .003
    for by in (users, items): assert (torch.bincount(by, out.double())/torch.bincount(by) - .1).abs().max() < .09
    order = torch.randperm(len(users))
    assert torch.equal(d.held_out(users[order], items[order], .1, 7), out[order])
    assert .18 < (d.held_out(users, items, .1, 8) != out).double().mean() < .185*1.02      # 2*.1*.9
    assert not d.held_out(users, items, 0., 7).any()

@pytest.mark.parametrize('size', [1, 3])
@pytest.mark.parametrize('only_asked', [False, True])
def test_rows_reach_every_rank_that_needs_them(group, size, only_asked):
    n = 20
    for rank, got in enumerate(group(size, 'exchange', n, only_asked)):
        wanted = torch.zeros(n, dtype=torch.bool)
        wanted[got['own']] = True
        own_rows = int(wanted.sum())
        wanted[got['asked']] = True
        if rank == 0 or not only_asked: wanted[:] = True
        expected = torch.arange(n).float() + 1
        assert torch.equal(got['whole'][:, 1], torch.where(wanted, expected, 0.))
        assert torch.equal(got['flat'], torch.where(wanted, expected, 0.))
        longest = 20 - 20*4//9 if size == 3 else 20
        moved = int(wanted.sum()) - own_rows if only_asked else (size - 1)*longest
        assert got['bytes'] == 4*4*moved       # three columns, then one
        one, square, number, whole = got['total']
        assert one == size and (square == size).all() and number == 2.5*size and whole.dtype == torch.int64 and whole == 3*size

def test_an_error_on_one_rank_is_raised_on_all_and_names_it(group):
    assert group(2, 'meet', 'alike') == [5, 5]
    for error in group(2, 'meet', 'error'): assert isinstance(error, d.RankError) and str(error) == 'rank 1: the disk is full'
    for error in group(2, 'meet', 'other'): assert "rank 1 has other settings than rank 0 ({'k': 9}, and there {'k': 8})" in str(error)

@pytest.mark.parametrize('size', [1, 2, 3])
def test_each_rank_holds_its_own_ratings_and_knows_the_sums_of_all(group, folder, size):
    ratings, seed = some(), 3
    out = d.held_out(ratings.users, ratings.items, .2, seed)
    train, valid = ratings.take(~out), ratings.take(out)
    codes = dict(user=train.users, item=train.items)
    shares = group(size, 'share', folder, .2, False)
    for name, other in (('user', 'item'), ('item', 'user')):
        held = [(row + share['own'][name].start, *rest) for share in shares for row, *rest in share['held'][name]]
        expected = sorted(zip(codes[name].tolist(), codes[other].tolist(), (train.values - train.mean).tolist()))
        assert [pair[:2] for pair in sorted(held)] == [pair[:2] for pair in expected]
        np.testing.assert_allclose([v for *_, v in sorted(held)], [v for *_, v in expected], atol=1e-6)
    pairs = sorted(pair for share in shares for pair in zip(*[column.tolist() for column in share['valid']]))
    assert pairs == sorted(zip(valid.users.tolist(), valid.items.tolist(), valid.values.tolist()))
    for share in shares:
        assert share['n'] == len(train) and share['mean'] == pytest.approx(train.mean, abs=1e-12)
        assert share['unit'] == pytest.approx(rating_unit(train), rel=1e-6)
        assert share['bias_reg'] == pytest.approx(bias_regularization(train), rel=1e-9)
        for name in SIDES: assert torch.equal(share['counts'][name], torch.bincount(codes[name], minlength=len(share['counts'][name])))

def test_random_numbers_of_a_row_do_not_depend_on_who_draws():
    n = 3*d.BLOCK + 5
    shape = np.random.default_rng(0).uniform(5, 900, n)
    whole = d.RowNumbers(11, slice(0, n))
    z, g = whole.standard_normal((n, 3), np.float32), whole.gamma(shape, 1/shape)
    for first, end in ((0, 1), (5, 2000), (d.BLOCK, 2*d.BLOCK), (n - 1, n), (7, 7)):
        part = d.RowNumbers(11, slice(first, end))
        assert (part.standard_normal((end - first, 3), np.float32) == z[first:end]).all()
        assert (part.gamma(shape[first:end], 1/shape[first:end]) == g[first:end]).all()
    assert z.dtype == np.float32 and abs(z.mean()) < .03 and abs(z.std() - 1) < .03 and abs(np.corrcoef(z[:-d.BLOCK, 0], z[d.BLOCK:, 0])[0, 1]) < .05
    assert abs(g.mean() - 1) < .01 and abs((g - 1).var()*np.mean(shape**-1)**-1 - 1) < .3

# ---- the same factors as one process

def one_process(make, sweeps=4):
    train = some()
    model = MatrixFactorization(train, k=4)
    solver = make(model, train)
    reports = [solver.sweep() for _ in range(sweeps)]
    return model, reports

@pytest.mark.parametrize('method, make', [('als', ALSSolver), ('variational', VariationalSolver)])
def test_one_two_and_three_ranks_find_what_one_process_does(group, folder, method, make):
    model, reports = one_process(make)
    for size, only_asked in ((1, False), (2, False), (3, False), (3, True)):
        ranks = group(size, 'fit', folder, dict(method=method, only_asked=only_asked))
        close(ranks[0]['rows'], {side: model.rows(side) for side in SIDES})
        for got in ranks:
            for side in SIDES: torch.testing.assert_close(got['priors'][side][1], model.prior(side).precision, rtol=1e-3, atol=1e-3)
            assert all(torch.equal(a, b) for side in SIDES for a, b in zip(got['priors'][side], ranks[0]['priors'][side]))
            assert [row['train'] for row in got['history']] == pytest.approx([report['train'] for report in reports], rel=1e-4)
            assert got['history'] == ranks[0]['history']

def test_defaults_of_torch_do_not_matter(group, folder):
    for a, b in zip(group(2, 'strange', folder), group(2, 'fit', folder, dict(method='variational'))):
        assert all(torch.equal(a['rows'][side], b['rows'][side]) for side in SIDES)

def test_gibbs_draws_the_same_whatever_the_number_of_ranks(group, folder):
    settings = dict(method='gibbs', sweeps=8, patience=None)
    one = group(1, 'fit', folder, settings)[0]
    for size, only_asked in ((2, False), (3, True)):
        got = group(size, 'fit', folder, settings | dict(only_asked=only_asked))[0]
        close(got['rows'], one['rows'], 2e-3)
        assert [row['noise'] for row in got['history']] == pytest.approx([row['noise'] for row in one['history']], rel=1e-4)
    other = group(2, 'fit', folder, settings | dict(seed=1))[0]
    assert (other['rows']['user'] - one['rows']['user']).abs().max() > .05

class RowKeyed(GibbsSolver):
    "Lesson 10's own solver in one process, with lesson 17's random numbers."
    def __init__(self, model, train):
        super().__init__(model, train, burn_in=20)
        columns = dict(user=(train.users, train.items), item=(train.items, train.users))
        sizes = dict(user=(train.n_users, train.n_items), item=(train.n_items, train.n_users))
        for side in SIDES:
            chunks = d.chunks_of(*columns[side], train.values, *sizes[side], train.mean, model.k)
            self.sides[side] = self.als.sides[side] = self.sides[side]._replace(chunks=chunks)
        self.ranks = type('Keyed', (type(self.ranks),), {'numbers': lambda ranks, side, rng: d.RowNumbers(
            int(rng.integers(2**63)), slice(0, model.n_users if side == 'user' else model.n_items))})()

def test_gibbs_is_lesson_10s_chain_with_other_random_numbers(group, folder):
    model, reports = one_process(RowKeyed, 6)
    got = group(2, 'fit', folder, dict(method='gibbs', sweeps=6, patience=None))[0]
    close(got["rows"], {side: model.rows(side) for side in SIDES}, 5e-2)
    assert [row['noise'] for row in got['history']] == pytest.approx([report['noise'] for report in reports], rel=1e-4)

def test_validation_is_that_of_all_held_out_ratings(group, folder):
    ratings = some()
    out = d.held_out(ratings.users, ratings.items, .2, 0)
    train, valid = ratings.take(~out), ratings.take(out)
    model = MatrixFactorization(train, k=4)
    history = fit_als(model, train, valid, sweeps=6, patience=2, progress=False)
    for only_asked in (False, True):
        for got in group(3, 'fit', folder, dict(valid=.2, sweeps=6, patience=2, only_asked=only_asked)):
            assert [row['valid'] for row in got['history']] == pytest.approx([row['valid'] for row in history.rows], rel=1e-5)
        first = group(3, 'fit', folder, dict(valid=.2, sweeps=6, patience=2, only_asked=only_asked))[0]
        close(first['rows'], {side: model.rows(side) for side in SIDES})

def test_a_chain_agrees_with_fit_gibbs_within_the_spread_of_seeds(tmp_path, monkeypatch):
    "Other random numbers, the same posterior: the training error of the mean of some draws, over several seeds."
    monkeypatch.delenv('RANK', raising=False)
    g = np.random.default_rng(0)
    users, items = np.divmod(g.choice(60*40, 1500, replace=False), 40)
    stars = (3 + g.normal(size=60)[users]*g.normal(size=40)[items] + .5*g.normal(size=1500)).clip(1, 5)
    train = Ratings.from_frame(dict(userId=users, movieId=items, rating=stars), rating_range=(1, 5))
    sharded = d.write_shards(train, tmp_path/'s', shards=2)
    errors = {'fit_gibbs': [], 'ranks': []}
    for seed in range(5):
        model = MatrixFactorization(train, k=2)
        fit_gibbs(model, train, sweeps=60, keep=2, seed=seed, progress=False)
        errors['fit_gibbs'].append(rmse(model.predict(train), train))
        with d.process_group(): model = d.fit_distributed(sharded, 'gibbs', k=2, sweeps=60, valid=0, seed=seed, progress=False).model
        errors['ranks'].append(rmse(model.predict(train), train))
    theirs, ours = map(np.array, errors.values())
    assert abs(theirs.mean() - ours.mean()) < 4*((theirs.var() + ours.var())/5)**.5 + 1e-4
    assert 1e-5 < ours.std() < 5*theirs.std() + 1e-4

# ---- odd shapes, and what is refused

def tiny(n_users, n_items):
    users, items = np.divmod(np.arange(n_users*n_items), n_items)
    return Ratings.from_frame(dict(userId=users, movieId=items, rating=1. + (users + 2*items) % 5), rating_range=(1, 5))

@pytest.mark.parametrize('method', ['als', 'variational', 'gibbs'])
def test_a_rank_without_items_waits_for_the_others(group, tmp_path, method):
    small = d.write_shards(tiny(12, 2), tmp_path/'tiny', shards=2)
    settings = dict(method=method, k=1, sweeps=4, patience=None)
    one, = group(1, 'fit', small, settings)
    three = group(3, 'fit', small, settings)
    close(three[0]['rows'], one['rows'], 1e-3)
    assert sorted(got['about']['items'] for got in three) == [0, 1, 1]
    assert all(torch.isfinite(t).all() for got in three for t in got['state'].values() if t.is_floating_point())

def test_more_ranks_than_users_are_refused(group, tmp_path):
    small = d.write_shards(tiny(2, 9), tmp_path/'tiny', shards=1)
    for error in group(3, 'fit', small, {}): assert str(error) == '3 ranks for 2 users: start 2 or fewer.'

def test_all_held_out_is_refused(group, tmp_path):
    small = d.write_shards(tiny(2, 2), tmp_path/'tiny', shards=1)
    for error in group(2, 'fit', small, dict(valid=1 - 1e-9)): assert 'all ratings are held out' in str(error)

@pytest.mark.parametrize('damage, says', [
    (lambda path: path.unlink(), 'is missing'), (lambda path: path.write_bytes(path.read_bytes()[:-9]), 'is damaged'),
    (lambda path: path.write_bytes(path.read_bytes()[:-1] + b'\x07'), 'checksum does not fit'),
    (lambda path: path.write_bytes(path.with_name('shard-0000.safetensors').read_bytes()), 'belongs to other data')])
def test_a_damaged_shard_is_named_with_the_rank_that_reads_it(group, tmp_path, damage, says):
    sharded = d.write_shards(tiny(40, 9), tmp_path/'t', shards=4)
    damage(sharded/'shard-0003.safetensors')
    for error in group(2, 'fit', sharded, {}):
        assert isinstance(error, d.RankError) and str(error).startswith(f'rank 1: {sharded}/shard-0003.safetensors ') and says in str(error)
        assert 'Write the shards again' in str(error)

def test_ranks_with_different_data_or_settings_are_told_so(group, tmp_path):
    a, b = [d.write_shards(tiny(n, 9), tmp_path/str(n), shards=2) for n in (8, 9)]
    for error in group(2, 'different', [str(a), str(b)], [{}, {}]): assert str(error).startswith('rank 1 has other data than rank 0 (81 ratings')
    for error in group(2, 'different', [str(a), str(a)], [dict(k=2), dict(k=3)]): assert str(error).startswith('rank 1 has other settings than rank 0')

def test_an_interrupted_writing_of_shards_leaves_a_folder_that_is_refused(tmp_path, monkeypatch):
    real, done = d.write_tensors, []
    def write(path, *args):
        if len(done) == 2: raise OSError('the disk is full')
        done.append(path)
        real(path, *args)
    d.write_shards(tiny(40, 9), tmp_path/'t', shards=4)
    monkeypatch.setattr(d, 'write_tensors', write)
    with pytest.raises(OSError, match='the disk is full'): d.write_shards(tiny(30, 9), tmp_path/'t', shards=4)
    with pytest.raises(ValueError, match='index.safetensors is missing'): d.read_index(tmp_path/'t')

def test_an_empty_set_replaces_no_shards(tmp_path):
    d.write_shards(load_sample(), tmp_path, shards=2)
    with pytest.raises(ValueError, match='there are no ratings to write'): d.write_shards(load_sample().take(slice(0)), tmp_path)
    assert len(d.read_index(tmp_path).cuts) == 3 and len(list(tmp_path.glob('shard-*'))) == 2

def test_a_program_that_torchrun_did_not_start(tmp_path):
    with pytest.raises(RuntimeError, match='Start the program by torchrun'): d.fit_distributed(tmp_path)

def test_shards_are_written_once(tmp_path, monkeypatch):
    folder = d.shard_data('sample', tmp_path/'s', 3)
    assert len(list(folder.glob('shard-*'))) == 3 and d.read_index(folder).name.startswith(f'{len(load_sample())} ratings, checksum ')
    monkeypatch.setattr(d, 'write_shards', lambda *args: pytest.fail('it wrote them again'))
    assert d.shard_data('sample', tmp_path/'s') == folder

def test_sizes_of_synthetic_data():
    assert [d._synthetic_size(name) for name in ('synthetic-32m', 'synthetic-60k', 'synthetic-50000', 'ml-32m')] == [32_000_204, 60_000, 50_000, None]

# ---- killed, standing still, resumed

FIT = ['--valid', '0', '--k', '4', '--sweeps', '40', '--seed', '2']

def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(.002)

def command(folder, place, *more): return ['fit', str(folder), *FIT, '--out', f'{place}/m', '--checkpoint', f'{place}/c', *more]

@pytest.mark.parametrize('method', pick(['als', 'gibbs'], 'gibbs'))
def test_a_rank_that_is_killed_ends_the_job_and_other_ranks_go_on_from_its_checkpoint(start, folder, tmp_path, method):
    words = command(folder, tmp_path, '--method', method)
    group = start(2, 'command', *words)
    wait_for(tmp_path/'c')
    os.kill(group.pids[1], signal.SIGKILL)
    killed = time.monotonic()
    assert group.results() == [1, None]
    assert time.monotonic() - killed < 30
    said = group.said(0)
    assert said.startswith('mfbook: rank 0: rank 1 is gone, or did not answer') and f'What is done is in {tmp_path}/c' in said
    assert {path.name for path in tmp_path.iterdir() if 'results' not in path.name} == {'c'}
    done = len(read_checkpoint(tmp_path/'c')['rows'])
    assert 0 < done < 40

    assert start(3, 'command', *words).results() == [0, 0, 0]
    assert not (tmp_path/'c').exists()
    one = start(1, 'command', *command(folder, tmp_path, '--method', method, '--out', f'{tmp_path}/one'))
    assert one.results() == [0]
    models = [MatrixFactorization.load(tmp_path/name) for name in ('m', 'one')]
    close(*[{side: model.rows(side) for side in SIDES} for model in models], 3e-3)

def test_a_rank_that_stands_still_ends_the_job_in_bounded_time(start, folder, tmp_path):
    group = start(2, 'command', *command(folder, tmp_path, '--timeout', '2'))
    wait_for(tmp_path/'c')
    os.kill(group.pids[1], signal.SIGSTOP)
    stopped = time.monotonic()
    while 'did not answer for 2 seconds' not in group.said(0): assert time.monotonic() - stopped < 30
    assert 'rank 0: rank 1 is gone' in group.said(0)
    os.kill(group.pids[1], signal.SIGKILL)
    assert group.results() == [1, None]

def rank_pids(parent):
    "rank -> pid, of the processes that torchrun has started."
    found = {}
    for place in Path('/proc').glob('[0-9]*'):
        try:
            if f'\nPPid:\t{parent}\n' not in (place/'status').read_text(): continue
            environ = (place/'environ').read_bytes().split(b'\0')
        except OSError: continue
        for entry in environ:
            if entry.startswith(b'RANK='): found[int(entry[5:])] = int(place.name)
    return found

def test_torchrun_restarts_and_ends_at_the_same_factors(group, folder, tmp_path):
    words = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', '--max-restarts', '1',
             '-m', 'mfbook.distributed', *command(folder, tmp_path)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(root)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as run:
        wait_for(tmp_path/'c')
        os.kill(rank_pids(run.pid)[1], signal.SIGKILL)
        out, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert 'exitcode: -9' in err
    assert out.count('holds sweep 40') == 1           # rank 0 alone prints
    expected = group(2, 'fit', folder, dict(sweeps=40, seed=2))[0]['rows']
    model = MatrixFactorization.load(tmp_path/'m')
    for side in SIDES: assert torch.equal(model.rows(side), expected[side])

def test_a_checkpoint_of_another_run_is_refused_on_all_ranks_and_said_once(start, folder, tmp_path):
    words = ['fit', str(folder), '--valid', '0', '--k', '2', '--sweeps', '2', '--checkpoint', f'{tmp_path}/c', '--out', f'{tmp_path}/no/m']
    assert start(2, 'command', *words).results() == [1, 0]      # the model can't be written, and the checkpoint stays
    assert (tmp_path/'c').exists()
    group = start(2, 'command', *[word if word != '2' else '3' for word in words])
    assert group.results() == [1, 1]
    assert 'belongs to another run' in group.said(0) and 'k was 2, is 3' in group.said(0) and group.said(1) == ''

def test_the_command_alone(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    assert d.main(['fit', str(folder), '--k', '2', '--sweeps', '2', '--out', f'{tmp_path}/m', '--json']) == 0
    record = json.loads(capsys.readouterr().out)
    assert [row['sweep'] for row in record['sweeps']] == [1, 2] and record['ranks'][0]['bytes_of_rows'] == 0
    assert MatrixFactorization.load(tmp_path/'m').user_ids.tolist() == load_sample().user_ids.tolist()
    assert d.main(['fit', str(tmp_path/'nothing'), '--out', f'{tmp_path}/m']) == 1
    assert 'nothing' in capsys.readouterr().err
    for bad in (['--k', '-1'], ['--valid', '1'], ['--method', 'sgd'], []):
        with pytest.raises(SystemExit) as end: d.main(['fit', 'sample', *bad] if bad else [])
        assert end.value.code == 2

NAMESPACES = dict(mfbook0='10.77.0.1', mfbook1='10.77.0.2')

@pytest.fixture
def two_machines():
    "Two network namespaces; where the kernel has netem, as far apart as two cities: 10 milliseconds each way."
    def ip(words): subprocess.run(['ip', *words.split()], check=True, capture_output=True)
    try:
        for name in NAMESPACES: ip(f'netns add {name}')
        ip('link add veth0 netns mfbook0 type veth peer name veth1 netns mfbook1')
        for n, (name, address) in enumerate(NAMESPACES.items()):
            ip(f'-n {name} addr add {address}/24 dev veth{n}')
            for device in ('lo', f'veth{n}'): ip(f'-n {name} link set {device} up')
            subprocess.run(['ip', 'netns', 'exec', name, *f'tc qdisc add dev veth{n} root netem delay 10ms'.split()], capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error: pytest.skip(f'no network namespaces here: {error}')
    else: yield
    finally:
        for name in NAMESPACES: subprocess.run(['ip', 'netns', 'del', name], capture_output=True)

@pytest.mark.skipif(not os.environ.get('MFBOOK_FULL') or os.geteuid() != 0 or not shutil.which('ip') or not shutil.which('tc'),
                    reason='needs root, ip and tc, and MFBOOK_FULL=1')
def test_two_machines(two_machines, group, folder, tmp_path):
    runs = []
    for n, name in enumerate(NAMESPACES):
        (tmp_path/name).mkdir()
        words = ['ip', 'netns', 'exec', name, sys.executable, '-m', 'torch.distributed.run', '--nnodes', '2', '--nproc-per-node', '1',
                 '--rdzv-backend', 'c10d', '--rdzv-id', 'x', '--rdzv-endpoint', '10.77.0.1:29400', '--rdzv-conf', f'is_host={1 - n}', '--local-addr', NAMESPACES[name],
                 '-m', 'mfbook.distributed', 'fit', str(folder), '--valid', '0', '--k', '4', '--sweeps', '4', '--out', 'm']
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(root), 'GLOO_SOCKET_IFNAME': f'veth{n}'}
        runs.append(subprocess.Popen(words, cwd=tmp_path/name, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    said = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    written = [tmp_path/name/'m' for name in NAMESPACES if (tmp_path/name/'m').exists()]
    assert len(written) == 1                # by rank 0
    model = MatrixFactorization.load(written[0])
    close({side: model.rows(side) for side in SIDES}, group(2, 'fit', folder, {})[0]['rows'], 1e-6)
