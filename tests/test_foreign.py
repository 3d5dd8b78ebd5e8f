"The benchmark on foreign ratings: what it reads, what each method is fitted with, what it writes; it resumes."
import runpy, subprocess, sys, warnings
from functools import partial
from pathlib import Path
import numpy as np
import pandas as pd
import pytest
from mfbook.holdout import concat, rmse
from mfbook.model import MatrixFactorization
from mfbook.ratings import Ratings
from mfbook import runs
from mfbook.runs import fit_sgd

root = Path(__file__).parent.parent
sys.path.insert(0, str(root/'benchmarks'))
import accuracy, foreign, ledger
sys.path.pop(0)

BOOK = ['biases', 'SGD', 'tuned SGD', 'ALS', 'tuned ALS', 'Gibbs', 'variational']

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "The foreign sets in small, in the forms in which they were published, and no MovieLens."
    top = tmp_path_factory.mktemp('data')
    g = np.random.default_rng(0)
    cells = g.choice(40*25, 500, replace=False)
    users, items = cells // 25 + 1, cells % 25 + 1
    quality, taste = g.normal(size=26), g.normal(size=41)
    love = np.clip(2 + quality[items] + taste[users], 0, 4)          # 0 to 4

    def write(name, file, lines):
        place = top/'foreign'/name
        place.mkdir(parents=True)
        (place/file).write_bytes('\n'.join(lines).encode('latin-1') + b'\n')
    halves = np.clip(np.round(2*love)/2, .5, 4)
    write('filmtrust', 'ratings.txt', [f'{u} {i} {r:g}' for u, i, r in zip(users, items, halves)])
    tens = np.round(2.5*love).astype(int)
    write('movietweetings-100k', 'ratings.dat', [f'{u}::{i:07}::{r}::1365029107' for u, i, r in zip(users, items, tens)])
    write('restaurant', 'rating_final.csv', ['userID,placeID,rating,food_rating,service_rating',
                                             *[f'U{u},{i},{r},1,1' for u, i, r in zip(users, items, np.round(love/2).astype(int))]])
    write('bookcrossing', 'BX-Book-Ratings.csv', ['"User-ID";"ISBN";"Book-Rating"',
                                                  *[f'"{u}";"\xe9{i}X";"{r}"' for u, i, r in zip(users, items, tens)]])
    return top

@pytest.fixture
def data(folder, monkeypatch): monkeypatch.setenv('MFBOOK_DATA', str(folder))

def test_each_foreign_set_is_read_as_it_was_published(folder):
    scales = dict(filmtrust=(.5, 4), restaurant=(0, 2), bookcrossing=(1, 10)) | {'movietweetings-100k': (0, 10)}
    for name, scale in scales.items():
        ratings = foreign.DATA[name](folder)
        assert ratings.rating_range == scale and len(ratings) > 300
        assert ratings.values.min() >= scale[0] and ratings.values.max() <= scale[1]
    assert len(foreign.DATA['movietweetings-100k'](folder)) == 500 > len(foreign.DATA['bookcrossing'](folder))    # no zeros

def test_what_is_not_here_is_left_out_and_said(data, capsys, monkeypatch):
    monkeypatch.setitem(foreign.DATA, 'gone', lambda folder: open(folder/'gone.csv'))
    cuts = list(foreign.cuts(['gone', 'restaurant']))
    assert [(cut.data, cut.seed) for cut in cuts] == [('restaurant', n) for n in range(5)]
    assert 'gone is not in $MFBOOK_DATA' in capsys.readouterr().out
    for cut in cuts: assert len(concat(cut.train, cut.valid)) + len(cut.test) == 500

@pytest.fixture
def quick(monkeypatch):
    "Short runs with two factors, and a grid of two."
    monkeypatch.setattr(foreign, 'DEFAULT', [dict(k=2)])
    monkeypatch.setattr(foreign, 'K', 2)
    monkeypatch.setattr(runs, 'REGS', (5., 20.))
    monkeypatch.setattr(runs, 'BIAS_REGS', (2, 8))
    for name in BOOK:
        fit, settings, package = foreign.METHODS[name]
        if settings == [dict(k=32)]: settings = [dict(k=2)]
        if name == 'SGD': settings = [dict(k=2, epochs=5)]
        if name == 'Gibbs': settings = [dict(k=2, sweeps=12, burn_in=4, keep=3)]
        if name == 'tuned SGD': settings = foreign.tuned(partial(runs.tune_sgd, epochs=1, lr=.03))
        if name == 'tuned ALS': settings = foreign.tuned(partial(foreign.tune_als, sweeps=3))
        monkeypatch.setitem(foreign.METHODS, name, foreign.Method(fit, settings, package))

@pytest.mark.parametrize('method', BOOK)
def test_each_method_of_the_book_is_measured_on_five_folds_and_not_again(data, quick, tmp_path, method):
    path = tmp_path/'foreign.jsonl'
    foreign.run(method, ['restaurant', 'filmtrust'], path)
    rows = ledger.read(path)
    assert len(rows) == 10 and set(rows.method) == {method} and set(rows.data) == {'restaurant', 'filmtrust'}
    assert (rows.mae < rows.rmse).all() and (rows[rows.data == 'restaurant'].rmse < .8).all()
    assert set(rows.k) == {0 if method == 'biases' else 2} and set(rows.threads) == {1}

    before = path.read_bytes()
    foreign.run(method, ['restaurant', 'filmtrust'], path)
    assert path.read_bytes() == before
    ledger.write_rows(path, ledger.read_rows(path)[1:])                # an interrupted run goes on
    foreign.run(method, ['restaurant', 'filmtrust'], path)
    again = ledger.read(path)
    assert len(again) == 10 and sorted(again.rmse) == sorted(rows.rmse)

def test_defaults_are_the_books_and_see_no_validation_set(data, tmp_path):
    "The row of SGD is what three lines with no settings give."
    foreign.run('SGD', ['restaurant'], tmp_path/'r.jsonl')
    row = ledger.read(tmp_path/'r.jsonl').iloc[0]
    cut = next(foreign.cuts(['restaurant']))
    whole = concat(cut.train, cut.valid)
    model = MatrixFactorization(whole, seed=cut.seed)
    fit_sgd(model, whole, seed=cut.seed, progress=False)
    assert row.rmse == pytest.approx(rmse(model.predict(cut.test), cut.test), abs=1e-6) and row.settings == {} and row.k == 32

def test_a_peer_chooses_on_the_first_fold_and_keeps_its_choice(data, tmp_path, monkeypatch):
    met = []
    def fit(train, seed, value):
        met.append((len(train), value))
        return lambda ratings: np.full(len(ratings), value)
    monkeypatch.setitem(foreign.METHODS, 'constant', foreign.Method(fit, [dict(value=1.), dict(value=2.)], 'pytest'))
    foreign.run('constant', ['restaurant'], tmp_path/'r.jsonl')
    rows = ledger.read(tmp_path/'r.jsonl')
    assert set(map(str, rows.settings)) == {"{'value': 1.0}"}
    assert met == [(350, 1.), (350, 2.), (350, 1.), *[(400, 1.)]*5]    # chosen, warmed up, and once a fold

def test_from_the_shell_each_method_has_a_process_of_its_own(data, tmp_path, monkeypatch, capfd):
    "The command itself runs here; the processes that it starts are real ones."
    path = tmp_path/'r.jsonl'
    script = str(root/'benchmarks'/'foreign.py')
    monkeypatch.setenv('PYTHONPATH', str(root))
    started, run = [], subprocess.run
    monkeypatch.setattr(subprocess, 'run', lambda command, **more: started.append(command) or run(command, **more))
    def command(*words):
        monkeypatch.setattr(sys, 'argv', [script, '--file', str(path), *words])
        with pytest.raises(SystemExit) as end: runpy.run_path(script, run_name='__main__')
        return end.value.code
    assert command('--only', 'biases', 'ALS', '--data', 'restaurant') == 0
    assert [words[:4] for words in started] == [[sys.executable, script, '--only', method] for method in ('biases', 'ALS')]
    assert sorted(ledger.read(path).method) == ['ALS']*5 + ['biases']*5
    capfd.readouterr()
    assert command('--table') is None and len(started) == 2
    shown, _ = capfd.readouterr()
    assert 'restaurant' in shown and 'ALS' in shown

def test_a_missing_package_is_named_and_fails(data, tmp_path):
    import importlib.util
    if importlib.util.find_spec('myfm'): pytest.skip('myFM is installed')
    assert 'no myfm here' in foreign.run_here('myFM', ['restaurant'], tmp_path/'r.jsonl')

ROW = dict(data='restaurant', data_sha256='0', split='s', split_hash='h', seed=0, method='SGD', k=2, settings={}, rmse=1., mae=.5,
           seconds=2., fit_seconds=1.)

def test_the_table_holds_means_and_leaves_out_what_is_not_whole(tmp_path):
    path = tmp_path/'r.jsonl'
    for seed in (0, 1):
        ledger.record(path, **ROW | dict(seed=seed, rmse=1. + seed))
        ledger.record(path, **ROW | dict(seed=seed, rmse=.5, method='myFM'))
    ledger.record(path, **ROW | dict(method='ALS'))                                     # one fold of two
    table = foreign.table(path)
    assert table.loc['restaurant', 'SGD'] == 1.5 and np.isnan(table.loc['restaurant', 'ALS'])
    assert list(table.columns) == ['SGD', 'ALS', 'myFM']

def test_the_ledger_in_the_repository_is_whole():
    if not ledger.read_rows(foreign.PATH): pytest.skip('not measured yet')
    rows = ledger.read(foreign.PATH)
    assert not rows.duplicated(ledger.RUN).any() and set(rows.method) <= set(foreign.METHODS) and set(rows.data) <= set(foreign.DATA)
    assert set(rows.threads) == {1} and (rows.mae < rows.rmse).all()
