"""The command `mfbook`: each of its commands, what it says of bad input, and the places it has to work in.

Most tests call `main` in this process; those of signals, pipes, locales and start-up have a process of their own.
"""
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from configparser import ConfigParser
from functools import partial
from importlib.resources import files
from pathlib import Path
from pkgutil import resolve_name

import pandas as pd
import pytest
import torch
from mfbook import cli, movielens
from mfbook.cli import main
from mfbook.features import who_rated_what
from mfbook.gibbs import fit_gibbs
from mfbook.holdout import rmse, split_random
from mfbook.model import MatrixFactorization
from mfbook.ratings import Ratings, load_sample
from mfbook.recommending import recommend
from mfbook.runs import fit_biases, fit_sgd, read_checkpoint
from mfbook.variational import VariationalSolver, fit_variational

root = Path(__file__).resolve().parent.parent
SMALL = ['--k', '4', '--sweeps', '3']

@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    "The same sums in this process and in others, and no progress bars."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.setenv('CI', '1')
    monkeypatch.setenv('PYTHONPATH', str(root))
    yield
    torch.set_num_threads(threads)

@pytest.fixture(scope='module')
def ratings(): return load_sample()

@pytest.fixture(scope='module')
def model(ratings):
    torch.set_num_threads(1)
    model = MatrixFactorization(ratings, k=4)
    fit_variational(model, ratings, sweeps=3, features=who_rated_what(ratings), progress=False)
    return model

@pytest.fixture(scope='module')
def file(model, tmp_path_factory):
    "A saved model."
    path = tmp_path_factory.mktemp('saved')/'model.safetensors'
    model.save(path)
    return str(path)

@pytest.fixture(scope='module')
def strange(tmp_path_factory):
    "A saved model with strings for ids, titles with umlauts, and no factors."
    frame = pd.DataFrame(dict(userId=['jörg', 'ann', 'ann', '7'], movieId=['a', 'b', '7', 'b'], rating=[1., 2., 3., 5.]))
    titles = {'a': 'Die Höhle (1999)', 'b': 'Straße (2001)', '7': 'Seven (1995)'}
    ratings = Ratings.from_frame(frame, rating_range=(1, 5), titles=titles)
    model = MatrixFactorization(ratings, k=0)
    fit_biases(model, ratings, progress=False)
    path = tmp_path_factory.mktemp('grüße')/'modell.safetensors'
    model.save(path)
    return str(path)

@pytest.fixture
def run(capsys):
    "A function of the words: exit status, standard output, standard error."
    def run(*words):
        capsys.readouterr()
        status = main([str(word) for word in words])
        return status, *capsys.readouterr()
    return run

def same(path, other):
    "Whether two files hold the same model, to the last bit."
    ours, theirs = (MatrixFactorization.load(p).state_dict() for p in (path, other))
    return ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)

def write(path, *lines):
    path.write_text('\n'.join(['userId,movieId,rating,timestamp', *lines]) + '\n')
    return path

# ---- fit

def test_fit_measures_on_ratings_held_out_and_saves_a_model_of_all(run, ratings, tmp_path):
    status, out, err = run('fit', 'sample', *SMALL, '--out', tmp_path/'m.safetensors', '--json', '--seed', 5)
    assert (status, err) == (0, '')
    record = json.loads(out)
    split = split_random(ratings, valid=0, test=0.1, seed=5)
    assert record['test_ratings'] == len(split.test) == 10_000
    assert [row['method'] for row in record['errors']] == ['mean', 'biases', 'variational']

    part = MatrixFactorization(split.train, 4, seed=5)
    fit_variational(part, split.train, sweeps=3, features=who_rated_what(split.train), progress=False)
    assert record['errors'][2]['rmse'] == rmse(part.predict(split.test), split.test)
    mean, biases, fitted = [row['rmse'] for row in record['errors']]
    assert mean == pytest.approx(rmse([split.train.mean]*10_000, split.test)) and biases < 0.9 < mean and fitted < 0.9

    whole = MatrixFactorization(ratings, 4, seed=5)
    fit_variational(whole, ratings, sweeps=3, features=who_rated_what(ratings), progress=False)
    whole.save(tmp_path/'whole.safetensors')
    assert same(tmp_path/'m.safetensors', tmp_path/'whole.safetensors')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['m.safetensors', 'whole.safetensors'], 'checkpoints are gone'

def test_fit_without_measuring(run, tmp_path, file):
    status, out, err = run('fit', 'sample', *SMALL, '--test', 0, '--out', tmp_path/'m.safetensors')
    assert (status, out, err) == (0, f'{tmp_path/"m.safetensors"} is fitted to all 100,004 ratings.\n', '')
    assert same(tmp_path/'m.safetensors', file)

def test_fit_prints_a_table(run, tmp_path):
    _, out, _ = run('fit', 'sample', '--method', 'biases', '--out', tmp_path/'m.safetensors')
    assert re.search(r'^method +rmse +mae\nmean +1\.\d{4} +0\.\d{4}\nbiases +0\.\d{4} +0\.\d{4}$', out, re.M), out

@pytest.mark.parametrize('method, sweeps, k', [('sgd', 1, 2), ('als', 1, 2), ('gibbs', 22, 1), ('biases', 2, 0)])
def test_each_method(run, tmp_path, method, sweeps, k):
    data = write(tmp_path/'r.csv', *(f'{u},{i},{1 + (u*i) % 5},0' for u in range(20) for i in range(10)))
    own = ['--k', k] if k else []
    status, out, err = run('fit', data, '--method', method, '--sweeps', sweeps, *own, '--out', tmp_path/'m', '--json')
    assert (status, err) == (0, '')
    record = json.loads(out)
    assert (record['method'], record['sweeps'], record['k']) == (method, sweeps, k)
    assert record['errors'][-1]['method'] == method and len(record['errors']) == (2 if method == 'biases' else 3)
    assert MatrixFactorization.load(tmp_path/'m').k == k

@pytest.mark.parametrize('method, fit', [('sgd', fit_sgd), ('gibbs', partial(fit_gibbs, keep=2, sweeps=22))])
def test_methods_get_the_seed(run, tmp_path, method, fit):
    "Of the batches and of the draws, not only of the first factors."
    data = write(tmp_path/'r.csv', *(f'{u},{i},{1 + (u*i) % 5},0' for u in range(20) for i in range(10)))
    ratings = movielens.load_ratings(data)
    model = MatrixFactorization(ratings, 1, seed=3)
    fit(model, ratings, seed=3, progress=False)
    model.save(tmp_path/'ours')
    sweeps = ['--sweeps', 22] if method == 'gibbs' else []
    assert run('fit', data, '--method', method, *sweeps, '--k', 1, '--seed', 3, '--test', 0, '--out', tmp_path/'m')[0] == 0
    assert same(tmp_path/'ours', tmp_path/'m')

def test_the_default_is_that_of_the_book(capsys):
    args = cli.make_parser().parse_args(['fit', 'x'])
    assert (args.method, args.seed, args.test, str(args.out), args.checkpoint, args.sweeps) == ('variational', 0, 0.1, 'model.safetensors', None, None)

def test_fit_takes_paths(run, tmp_path, monkeypatch):
    "A zip, in a folder with an umlaut, from the folder that the model goes to."
    folder = tmp_path/'für'
    folder.mkdir()
    (folder/'data.zip').write_bytes((files('mfbook')/'sample'/'ml-sample.zip').read_bytes())
    monkeypatch.chdir(folder)
    status, out, _ = run('fit', 'data.zip', '--method', 'biases', '--test', 0)
    assert status == 0 and (folder/'model.safetensors').exists()

def test_words_of_the_loader_are_no_results(run, tmp_path, monkeypatch, ratings):
    def load(path):
        print('a copy is kept')
        return ratings
    monkeypatch.setattr(movielens, 'load_ratings', load)
    status, out, err = run('fit', 'x', '--method', 'biases', '--test', 0, '--out', tmp_path/'m', '--json')
    assert json.loads(out)['ratings'] == len(ratings) and err == 'a copy is kept\n'

def test_warnings_are_one_line(run, tmp_path):
    data = write(tmp_path/'r.csv', '1,1,3,0', '1,1,4,0', '2,1,4,0')
    status, out, err = run('fit', data, '--method', 'biases', '--test', 0, '--out', tmp_path/'m')
    assert status == 0 and re.fullmatch(r'mfbook: .*\n', err) and '.py' not in err, err

BOOKS = 'User-ID;ISBN;Book-Rating\n' + ''.join(f'{u};b{i};{(u*i + 1) % 6}\n' for u in range(20) for i in range(10))

def test_a_table_by_itself_and_by_its_options(run, tmp_path):
    data = tmp_path/'books.txt'
    data.write_text(BOOKS)
    words = ['fit', data, '--method', 'biases', '--test', 0, '--json', '--out']
    status, out, err = run(*words, tmp_path/'m')
    assert status == 0 and json.loads(out)['ratings'] == 200 and "item='ISBN'" in err and 'no_rating=0' in err
    columns = ['--user-column', 'User-ID', '--item-column', 1, '--rating-column', 'Book-Rating', '--sep', ';', '--encoding', 'utf-8', '--no-rating', 0]
    status, out, err = run(*words, tmp_path/'n', *columns)
    assert (status, err) == (0, '') and json.loads(out)['ratings'] == 200 - BOOKS.count(';0\n')
    assert MatrixFactorization.load(tmp_path/'n').item_ids.tolist()[0] == 'b0'

    status, out, err = run('evaluate', tmp_path/'n', data, '--json', *columns)
    assert (status, err) == (0, '') and json.loads(out)['errors'][0]['ratings'] == 200 - BOOKS.count(';0\n')
    status, out, err = run('recommend', tmp_path/'n', '--user', 7, '--seen', data, *columns)
    assert status == 0 and 'has no ratings' not in err
    status, _, err = run(*words, tmp_path/'o', '--user-column', 'who')
    assert status == 1 and err.startswith('mfbook: error: ') and "no column 'who' among ['User-ID', 'ISBN', 'Book-Rating']" in err

# ---- Ctrl-C in a fit

def test_an_interrupted_fit_goes_on(run, tmp_path, monkeypatch):
    "In each of the two fits in turn; the end is that of an unbroken run, and the checkpoints are gone."
    words = ['fit', 'sample', *SMALL, '--json', '--out']
    whole = run(*words, tmp_path/'whole')
    sweep, calls = VariationalSolver.sweep, []
    def impatient(solver):
        calls.append(solver)
        if len(calls) in (1, 3, 7): raise KeyboardInterrupt
        return sweep(solver)
    monkeypatch.setattr(VariationalSolver, 'sweep', impatient)

    first, second, third, last = (run(*words, tmp_path/'parts') for _ in range(4))
    assert first == (130, '', 'mfbook: stopped. No checkpoint was written yet, so nothing is kept\n')
    kept = 'mfbook: stopped. What is done is in {}; to go on, run the same command again\n'.format
    assert second == (130, '', kept(tmp_path/'parts.checkpoint.test'))
    assert third[:2] == (130, '') and third[2].endswith(kept(tmp_path/'parts.checkpoint'))
    assert last[0] == 0 and f'going on from {tmp_path/"parts.checkpoint"}\n' in last[2]
    assert len(calls) == 9, 'six sweeps, and three that were interrupted'
    assert json.loads(last[1])['errors'] == json.loads(whole[1])['errors']
    assert same(tmp_path/'whole', tmp_path/'parts')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['parts', 'whole']

def test_a_checkpoint_of_another_run_is_refused(run, tmp_path, monkeypatch):
    def stop(*args): raise KeyboardInterrupt
    monkeypatch.setattr(MatrixFactorization, 'save', stop)
    words = ['fit', 'sample', '--test', 0, '--sweeps', 2, '--out', tmp_path/'m', '--checkpoint', tmp_path/'mine']
    assert run(*words, '--k', 2)[0] == 130 and (tmp_path/'mine').exists()
    status, _, err = run(*words, '--k', 3)
    assert err.startswith(f'mfbook: going on from {tmp_path/"mine"}\n')
    assert status == 1 and 'belongs to another run (k was 2, is 3)' in err and err.count('\n') == 2

# ---- evaluate

def test_evaluate(run, file, model, ratings):
    status, out, err = run('evaluate', file, 'sample', '--json')
    assert (status, err) == (0, '')
    record = json.loads(out)
    assert len(record['errors']) == 1 and record['unknown_ratings'] == 0
    assert record['errors'][0]['rmse'] == pytest.approx(rmse(model.predict(ratings), ratings), rel=1e-6)

def test_evaluate_counts_unknown_ids(run, file, model, tmp_path):
    data = write(tmp_path/'new.csv', '1,31,2.5,0', '1,1029,4,0', '9998,31,1,0', '9999,31,5,0', '1,999999,5,0')
    record = json.loads(run('evaluate', file, data, '--json')[1])
    assert (record['unknown_users'], record['unknown_items'], record['unknown_ratings']) == (2, 1, 3)
    assert [(row['of'], row['ratings']) for row in record['errors']] == [('all', 5), ('known ids', 2)]
    known = pd.DataFrame(dict(userId=[1, 1], movieId=[31, 1029]))
    assert record['errors'][1]['rmse'] == pytest.approx(rmse(model.predict(known), [2.5, 4.]))
    assert 'does not know: 3 (users: 2, items: 1)' in run('evaluate', file, data)[1]

# ---- recommend and similar

def test_recommend_leaves_out_what_is_seen(run, file, model, ratings):
    status, out, err = run('recommend', file, '--user', 42, '--seen', 'sample', '-n', 50, '--json')
    assert (status, err) == (0, '')
    items = json.loads(out)['items']
    expected = recommend(model, 42, ratings, n=50)
    assert [item['title'] for item in items] == expected.title.tolist()
    assert [item['predicted'] for item in items] == expected.predicted.tolist()
    rated = set(ratings.item_ids[ratings.items[ratings.users == ratings.user_ids.tolist().index(42)].numpy()].tolist())
    assert not rated & {int(item['id']) for item in items}
    assert [model.titles([model.item_code(int(item['id']))])[0] for item in items] == expected.title.tolist()

def test_recommend_says_what_is_not_left_out(run, file):
    status, out, err = run('recommend', file, '--user', '42', '-n', '2')
    assert status == 0 and '--seen DATA' in err and err.count('\n') == 1
    assert out.startswith('For user 42:\n\nplace') and len(out.splitlines()) == 5

def test_seen_may_hold_other_ids_than_the_model(run, file, tmp_path):
    best = json.loads(run('recommend', file, '--user', 1, '-n', 1, '--json')[1])['items'][0]['id']
    data = write(tmp_path/'r.csv', f'1,{best},5,0', '1,999999,5,0', '12345,1,3,0')
    status, out, err = run('recommend', file, '--user', 1, '-n', 1, '--json', '--seen', data)
    assert (status, err) == (0, '') and json.loads(out)['items'][0]['id'] != best
    status, out, err = run('recommend', file, '--user', 2, '-n', 1, '--json', '--seen', data)
    assert status == 0 and 'user 2 has no ratings in' in err

def test_recommend_for_somebody_new(run, file, model):
    status, out, err = run('recommend', file, '--like', 'Alien=5', '--like', '1=3.5', '--json', '-n', 3)
    assert (status, err) == (0, '')
    assert [item['title'] for item in json.loads(out)['items']] == recommend(model, {'Alien': 5, 1: 3.5}, n=3).title.tolist()
    out = run('recommend', file, '--like', 'Alien=5', '--like', '1=3.5')[1]
    assert out.startswith('For somebody who rates Alien (1979) 5, Toy Story (1995) 3.5:\n')

def test_ids_that_are_strings(run, strange):
    for user in ('jörg', '7'):
        status, out, _ = run('recommend', strange, '--user', user, '-n', 2, '--json')
        assert status == 0 and len(json.loads(out)['items']) == 2
    status, out, _ = run('recommend', strange, '--like', '7=5', '--like', 'Straße=1', '--json')
    assert [item['id'] for item in json.loads(out)['items']] == ['a']

def test_similar(run, file):
    status, out, err = run('similar', file, 'Toy Story (1995)', '-n', 3)
    assert (status, err) == (0, '') and out.startswith('Like Toy Story (1995):\n')
    by_title = run('similar', file, 'Toy Story (1995)', '--json')[1]
    assert by_title == run('similar', file, '1', '--json')[1] and len(json.loads(by_title)['items']) == 10

# ---- data and download

def test_data(run, tmp_path, monkeypatch, file):
    cache = tmp_path/'cache'
    monkeypatch.setenv('MFBOOK_CACHE', str(cache))
    monkeypatch.delenv('MFBOOK_DATA', raising=False)
    assert run('data') == (0, f'No data sets, and no copies in {cache}.\n', '')
    data = write(tmp_path/'für.csv', '1,31,2.5,0', '2,31,4,0')
    assert run('evaluate', file, data)[0] == 0
    status, out, _ = run('data', '--json')
    row, = json.loads(out)['copies']
    assert status == 0 and (row['name'], row['path']) == ('für.csv', str(data.resolve()))
    assert row['MB'] == Path(row['copy']).stat().st_size/1e6
    assert 'für.csv' in run('data')[1]
    (cache/'ml-1m.zip').write_bytes(b'0'*300_000)
    found, = json.loads(run('data', '--json')[1])['datasets']
    assert found == dict(name='ml-1m', path=str(cache/'ml-1m.zip'), MB=.3) and 'ml-1m  ' in run('data')[1]
    Path(row['copy']).write_text('scratched')
    assert json.loads(run('data', '--json')[1])['copies'][0]['name'] == '(damaged)'

def test_download_is_there_when_its_function_is(run, tmp_path, monkeypatch):
    def download(name, folder=None, progress=None): return Path(folder)/f'{name}.zip'
    monkeypatch.setattr(movielens, 'download', download, raising=False)
    assert 'download' in run('--help')[1]
    status, out, err = run('download', 'ml-100k', '--folder', tmp_path)
    assert (status, out, err) == (0, f'{tmp_path/"ml-100k.zip"}\n', '')

# ---- bad input: one line on standard error, nothing on standard output, and the exit status

BAD = {
    'no such data': (1, 'fit nowhere.csv', 'nothing at nowhere.csv'),
    'no ratings': (1, 'fit empty', 'none of the rating files of MovieLens'),
    'no such model': (1, 'evaluate nowhere sample', 'mfbook fit DATA --out nowhere'),
    'a folder for a model': (1, 'evaluate empty sample', 'empty does not exist'),
    'an unreadable model': (1, 'similar broken Alien', 'damaged or no safetensors file'),
    'an unknown user': (1, 'recommend MODEL --user 9999', 'mfbook: error: no user with the id'),
    'what to do about one': (1, 'recommend MODEL --user 9999', 'known by ratings: --like "TITLE=RATING"\n'),
    'an unknown title': (1, 'similar MODEL Aliem', 'or Alien (1979)'),
    'an ambiguous title': (1, 'similar MODEL Star_Wars', '9 titles go by'),
    'two faults in likes': (1, 'recommend MODEL --like Aliem=5 --like Heat=9', 'Did you mean'),
    'a rating off the scale': (1, 'recommend MODEL --like Alien=9', 'no number from 0.5 to 5'),
    'one liked twice': (1, 'recommend MODEL --like Alien=4 --like Alien=5', 'rated twice'),
    'no factors': (1, 'similar STRANGE a', 'no factors'),
    'other ids': (1, 'evaluate STRANGE sample', 'Make them alike'),
    'a folder for out': (1, 'fit sample --out empty', 'empty is a folder'),
    'no such folder for out': (1, 'fit sample --out nowhere/m', 'cannot write nowhere/m'),
    'no place for the checkpoint': (1, 'fit sample --checkpoint broken/c', 'cannot write broken/c'),
    'too few sweeps': (1, 'fit sample --method gibbs --sweeps 5 --k 1 --test 0', 'Sweep longer'),
    'too small a share': (1, 'fit three.csv --test 0.1', 'less than one'),
    'no command': (2, 'fly', 'invalid choice'),
    'no method': (2, 'fit sample --method svd', 'variational'),
    'no factors wanted': (2, 'fit sample --k 0', 'no whole number of 1 or more'),
    'a word for a number': (2, 'fit sample --k many', "'many' is no whole number"),
    'half a number': (2, 'recommend MODEL --user 1 -n 1.5', "'1.5' is no whole number"),
    'a negative seed': (2, 'fit sample --seed -1', 'no whole number of 0 or more'),
    'a share above 1': (2, 'fit sample --test 2', 'such as 0.1'),
    'a share that is no number': (2, 'fit sample --test nan', 'such as 0.1'),
    'factors of biases': (2, 'fit sample --method biases --k 3', 'leave out --k'),
    'one place for two files': (2, 'fit sample --out m --checkpoint ./m', 'name the same file'),
    'a like without a rating': (2, 'recommend MODEL --like Alien', 'write it as in "Alien=4"'),
    'a like of no title': (2, 'recommend MODEL --like =4', 'write it as in "Alien=4"'),
    'a like that is no number': (2, 'recommend MODEL --like Alien=five', "'five'"),
    'nobody': (2, 'recommend MODEL', '--user --like'),
    'two people': (2, 'recommend MODEL --user 1 --like Alien=4', 'not allowed with'),
    'seen by somebody new': (2, 'recommend MODEL --like Alien=4 --seen sample', '--seen goes with --user'),
    'an abbreviation': (2, 'fit sample --see 3', 'unrecognized arguments'),
}

@pytest.mark.parametrize('status, words, says', BAD.values(), ids=BAD)
def test_bad_input_is_one_line(run, tmp_path, monkeypatch, file, strange, status, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'empty').mkdir()
    (tmp_path/'broken').write_text('no model')
    write(tmp_path/'three.csv', '1,1,3,0', '2,1,4,0', '2,2,4,0')
    words = [{'MODEL': file, 'STRANGE': strange, 'Star_Wars': 'Star Wars'}.get(word, word) for word in words.split()]
    got, out, err = run(*words)
    assert (got, out) == (status, ''), err
    assert err.startswith('mfbook') and err.count('\n') == 1 and says in err and 'Traceback' not in err, err
    assert not [p for p in tmp_path.rglob('*') if p.suffix in ('.tmp', '.safetensors', '.checkpoint')]

@pytest.mark.skipif(not hasattr(os, 'seteuid'), reason='no such users here')
def test_a_folder_that_may_not_be_written_to(run, tmp_path, monkeypatch):
    "As somebody else than root, who may write everywhere."
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o555)
    user = os.geteuid()
    if user == 0: os.seteuid(65534)
    try: status, out, err = run('fit', 'sample')
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o755)
    assert (status, out, err) == (1, '', 'mfbook: error: cannot write model.safetensors: Permission denied. Choose another place\n')

def test_a_place_is_refused_before_the_work(run, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, 'load_data', lambda name: pytest.fail('it began'))
    assert run('fit', 'sample', '--out', tmp_path/'nowhere'/'m')[0] == 1

def test_debug_shows_the_traceback(run):
    status, _, err = run('fit', 'nowhere', '--debug')
    assert status == 1 and 'Traceback' in err and err.splitlines()[-1].startswith('mfbook: error: nothing at nowhere')

def test_without_words_it_shows_the_help(run):
    status, out, err = run()
    assert (status, out) == (2, '') and err.startswith('usage: mfbook')

# ---- data shard

def test_data_shard_writes_what_lesson_17_reads(run, ratings, tmp_path):
    from mfbook.distributed import own_shards, read_index
    status, out, _ = run('data', 'shard', 'sample', '--shards', '3', '--out', tmp_path/'s')
    assert status == 0 and out.startswith(f'{len(ratings):,} ratings in 3 shards in {tmp_path}/s. To fit them: torchrun ')
    index = read_index(tmp_path/'s')
    read = [torch.cat(column) for column in list(zip(*own_shards(index, slice(0, ratings.n_users), 0., 0)))[:3]]
    order = torch.argsort(ratings.users, stable=True)
    assert all(torch.equal(a, b[order]) for a, b in zip(read, (ratings.users, ratings.items, ratings.values)))
    assert json.loads(run('data', 'shard', 'sample', '--out', tmp_path/'s', '--json')[1]) == dict(folder=f'{tmp_path}/s', ratings=len(ratings), shards=3)

def test_data_shard_needs_a_place_and_reads_tables(run, tmp_path):
    assert run('data', 'shard', 'sample')[0] == 2
    table = tmp_path/'books.csv'
    table.write_text('who;what;stars\nann;x;1\nbob;y;3\nbob;x;2\n')
    status, out, _ = run('data', 'shard', table, '--out', tmp_path/'s', '--user-column', 'who', '--item-column', 'what', '--rating-column', 'stars')
    assert status == 0 and out.startswith('3 ratings in ')

# ---- help

COMMANDS = ['fit', 'evaluate', 'recommend', 'similar', 'data']

@pytest.mark.parametrize('command', COMMANDS)
def test_help_has_an_example_that_parses(run, command):
    import shlex
    status, out, err = run(command, '--help')
    assert (status, err) == (0, '')
    line = re.search(r'^example:\n  mfbook (.+)$', out, re.M)[1]
    assert cli.make_parser().parse_args(shlex.split(line)).run

def test_the_help_lists_each_command(run):
    out = run('--help')[1]
    assert [command for command in COMMANDS if not re.search(rf'^    {command}\b', out, re.M)] == []
    assert run('--version')[1] == f'mfbook {cli.mfbook.__version__}\n'

# ---- the command that is installed

def test_settings_name_the_function():
    ini = ConfigParser(delimiters=['='])
    ini.read(root/'settings.ini', encoding='utf-8')
    name, place = ini['DEFAULT']['console_scripts'].split('=')
    assert name == 'mfbook' and resolve_name(place) is main

SCRIPT = 'import sys\nfrom mfbook.cli import main\nsys.exit(main())\n'

@pytest.fixture(scope='module')
def script(tmp_path_factory):
    "The file that pip makes of the entry point."
    path = tmp_path_factory.mktemp('bin')/'mfbook'
    path.write_text(SCRIPT)
    return str(path)

@pytest.mark.parametrize('how', ['module', 'script'])
def test_help_needs_no_torch(script, how):
    start = ['-m', 'mfbook'] if how == 'module' else [script]
    done = subprocess.run([sys.executable, '-X', 'importtime', *start, '--help'], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0 and done.stdout.startswith('usage: mfbook')
    imported = set(re.findall(r'\| +([\w.]+)$', done.stderr, re.M))
    assert 'mfbook.cli' in imported and not imported & {'torch', 'numpy', 'pandas', 'matplotlib', 'mfbook.ratings'}

@pytest.mark.parametrize('argv, line, is_it', [
    (['/usr/bin/mfbook', 'fit'], ['python3', '/usr/bin/mfbook', 'fit'], True), (['-m', 'fit'], ['python3', '-m', 'mfbook', 'fit'], True),
    (['-m'], ['python3', '-m', 'pytest', 'mfbook'], False), (['-m', 'fit'], ['python3', '-u', '-m', 'mfbook.distributed', 'fit'], True),
    (['-c', '-m', 'mfbook'], ['python3', '-c', 'x', '-m', 'mfbook'], False),
    (['book.py', '-m', 'mfbook'], ['python3', 'book.py', '-m', 'mfbook'], False), ([''], ['python3'], False), ([], [], False)])
def test_only_the_command_waits_with_the_lessons(monkeypatch, argv, line, is_it):
    monkeypatch.setattr(sys, 'argv', argv)
    monkeypatch.setattr(sys, 'orig_argv', line)
    assert cli.mfbook._is_the_command() == is_it

# ---- processes: signals, pipes, locales, poor environments

def bare(**more):
    "An environment with next to nothing: no HOME, no TERM, the C locale."
    keep = {name: os.environ[name] for name in ('OMP_NUM_THREADS', 'PYTHONPATH', 'MFBOOK_CACHE')}
    return {**keep, 'LC_ALL': 'C', 'TERM': 'dumb', **more}

IN_NO_HURRY = """
import time
from mfbook.variational import VariationalSolver
sweep, begun = VariationalSolver.sweep, []
def unhurried(solver):
    begun.append(solver)
    if len(begun) > 4: time.sleep(60)
    return sweep(solver)
VariationalSolver.sweep = unhurried
"""

def test_ctrl_c_and_on(tmp_path, run):
    """SIGINT in the middle of a fit, in a bare environment; then the same command, to the same bits as an unbroken run.

    The fit waits before its fifth sweep: however late the signal comes, it is not done.
    """
    words = ['fit', 'sample', '--k', '8', '--sweeps', '8', '--test', '0', '--out']
    command = subprocess.Popen([sys.executable, '-c', IN_NO_HURRY + SCRIPT, *words, str(tmp_path/'parts')], cwd=root, env=bare(),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path/'parts.checkpoint').exists() and time.monotonic() < deadline: time.sleep(0.01)
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=60)
    assert command.returncode == 130 and out == '', err
    assert err == f'mfbook: stopped. What is done is in {tmp_path/"parts.checkpoint"}; to go on, run the same command again\n'
    assert [p.name for p in tmp_path.iterdir()] == ['parts.checkpoint']
    done = len(read_checkpoint(tmp_path/'parts.checkpoint')['rows'])
    assert 1 <= done <= 4

    assert run(*words, tmp_path/'parts')[0] == 0
    assert run(*words, tmp_path/'whole')[0] == 0
    assert same(tmp_path/'parts', tmp_path/'whole')

def test_a_pipe_that_nobody_reads(file):
    "Like `mfbook recommend ... | head -0`: quiet, and done."
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, '-m', 'mfbook', 'recommend', file, '--user', '1', '--seen', 'sample', '-n', '3'],
                          cwd=root, env=bare(), stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, '')

def test_letters_in_a_poor_locale(strange):
    "Titles and paths with umlauts, as bytes of UTF-8 in and out."
    done = subprocess.run([sys.executable, '-m', 'mfbook', 'recommend', strange, '--like', 'höhle=5'.encode()],
                          cwd=root, env=bare(), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b'')
    assert 'Die Höhle (1999) 5' in done.stdout.decode() and 'Straße (2001)' in done.stdout.decode()

def test_letters_that_the_output_does_not_have(strange, monkeypatch):
    "In ASCII they are numbers."
    out = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
    monkeypatch.setattr(sys, 'stdout', out)
    assert main(['recommend', strange, '--user', 'ann']) == 0
    assert rb'H\xf6hle' in out.buffer.getvalue()

# ---- the demo, and tab completion

COMPLETE = """
source /dev/stdin
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_shtab_mfbook mfbook "${{COMP_WORDS[-1]}}" "${{COMP_WORDS[-2]}}"
echo "${{COMPREPLY[@]}}"
"""

@pytest.mark.skipif(not Path('/bin/bash').exists(), reason='needs bash')
@pytest.mark.parametrize('words, found', [('mfbook fi', {'fit'}), ('mfbook fit --method ""', set(cli.METHODS)),
                                          ('mfbook similar --js', {'--json'})])
def test_tab_completion(words, found):
    import shtab
    script = shtab.complete(cli.make_parser(), shell='bash')
    done = subprocess.run(['/bin/bash', '-c', COMPLETE.format(words=words)], input=script, capture_output=True, text=True)
    assert set(done.stdout.split()) == found, done.stderr

def test_the_demo_runs_the_lines_of_the_readme():
    sys.path.insert(0, str(root/'tools'))
    try: import demo
    finally: sys.path.pop(0)
    readme = (root/'README.md').read_text(encoding='utf-8')
    for line in demo.lines(): assert f'\n$ {line}\n' in readme.replace('\n    ', '\n'), line

def test_the_demo_ends_as_its_command_does(tmp_path):
    demo = subprocess.run([sys.executable, root/'tools'/'demo.py', 'nowhere'], cwd=tmp_path, capture_output=True, text=True)
    assert demo.returncode == cli.FAILED
    assert demo.stdout.endswith('$ mfbook fit nowhere --out films.safetensors\n')
    assert demo.stderr.startswith('mfbook: error: nothing at nowhere')

def test_a_user_who_has_rated_everything(tmp_path, capsys):
    ratings = Ratings.from_frame(dict(userId=[1, 1, 2], movieId=[7, 8, 7], rating=[3., 4., 5.]))
    model = MatrixFactorization(ratings, k=2)
    model.save(tmp_path/'m.safetensors')
    assert main(['recommend', str(tmp_path/'m.safetensors'), '--like', '7=4', '--like', '8=3']) == cli.DONE
    assert 'nothing: every item of the model is rated' in capsys.readouterr().out
