"The peers' benchmark: the folds it hands over, what it chooses by, what it writes; each peer where it is installed."
import importlib.util, re, sys
from pathlib import Path
import numpy as np
import pytest
from mfbook.holdout import rmse, split_random
from mfbook.ratings import load_sample

root = Path(__file__).parent.parent
sys.path.insert(0, str(root/'benchmarks'))
import accuracy, ledger, peers
sys.path.pop(0)

pins = dict(re.findall(r'^([\w-]+)==(.+)$', (root/'benchmarks'/'peers-requirements.txt').read_text(), re.M))
book = dict(re.findall(r'^([\w-]+)==(.+)$', (root/'constraints.txt').read_text(), re.M))

@pytest.fixture(scope='module')
def small():
    r = load_sample()
    return r.take(r.users < 60)

@pytest.fixture
def splits(monkeypatch):
    monkeypatch.delenv('MFBOOK_DATA', raising=False)
    return list(peers.splits())

def test_the_splits_are_those_of_the_ledger(splits):
    rows = ledger.read(data='ml-sample', split='random 5-fold', method='ALS')
    assert [s[3] for s in splits] == [0, 1, 2, 3, 4]
    assert {s[3]: ledger.split_hash(*s[4:]) for s in splits} == dict(zip(rows.seed, rows.split_hash))
    assert {s[1] for s in splits} == set(rows.data_sha256)

def test_train_valid_and_test_share_no_rating(splits):
    for *_, train, valid, test in splits:
        pairs = [set(zip(*peers.triples(r)[:2])) for r in (train, valid, test)]
        assert sum(map(len, pairs)) == len(set.union(*pairs)) == len(load_sample())

@pytest.mark.parametrize('method', ['mean', 'biases', 'ALS'])
def test_accuracy_measures_a_method_on_a_split_into_the_file_it_is_given(small, tmp_path, monkeypatch, method):
    monkeypatch.setattr(accuracy, 'ALS_GRID', [dict(k=2, reg=reg) for reg in (8., 30.)])
    parts = split_random(small, seed=0)
    accuracy.measure(method, accuracy.Cut('d', '0', 's', 7, *parts), tmp_path/'r.jsonl')
    row = ledger.read(tmp_path/'r.jsonl').iloc[0]
    names = {'mean': [], 'biases': ['reg_user', 'reg_item'], 'ALS': ['reg']}[method]
    assert list(row.settings) == names and all(type(v) is float for v in row.settings.values())
    assert (row.k, row.seed, row.method) == (2 if method == 'ALS' else 0, 7, method)
    assert row.split_hash == ledger.split_hash(*parts) and 0 < row.mae < row.rmse < 1.3

def test_triples_hand_over_every_rating_in_an_order_that_the_seed_draws(small):
    plain, drawn = (list(zip(*peers.triples(small, seed))) for seed in (None, 3))
    assert plain == list(zip(small.users.tolist(), small.items.tolist(), small.values.tolist()))
    assert drawn != plain and sorted(drawn) == sorted(plain) and drawn == list(zip(*peers.triples(small, 3)))

def test_predictions_are_clamped(small):
    lo, hi = small.rating_range
    assert peers.clamped([lo - 1, 3.25, hi + 1], small).tolist() == [lo, 3.25, hi]

def constant(met):
    "A method that predicts its setting, and remembers the parts it meets."
    def fit(train, seed, value):
        met.append(('fit', len(train), value))
        return lambda r: met.append(('predict', len(r), value)) or np.full(len(r), value)
    return fit

def test_the_setting_with_the_lowest_validation_error_is_chosen(small):
    grid = peers.grid(value=[1., small.mean, 5.])
    assert peers.choose(constant([]), grid, small, small, 0) == dict(value=small.mean)
    met = []
    assert peers.choose(constant(met), grid[:1], small, small, 0) == dict(value=1.) and not met     # nothing to choose

def test_a_run_writes_a_row_a_fold_meets_test_once_and_is_not_run_again(small, tmp_path, monkeypatch):
    train, valid, test = small.take(slice(0, 600)), small.take(slice(600, 700)), small.take(slice(700, 800))
    met, path = [], tmp_path/'peers.jsonl'
    monkeypatch.setattr(peers, 'PATH', path)
    monkeypatch.setattr(peers, 'splits', lambda: [accuracy.Cut('d', '0', 's', 7, train, valid, test)])
    monkeypatch.setitem(peers.METHODS, 'constant', (constant(met), peers.grid(value=[1., 4.]), 'pytest'))
    peers.run('constant')
    row = ledger.read(path).iloc[0]
    assert met[-2:] == [('fit', 700, 4.), ('predict', 100, 4.)]                    # the whole training part, then test
    assert [m for m in met if m[0] == 'predict'] == [('predict', 100, v) for v in (1., 4., 4.)]      # two on valid, one
    assert row.settings == dict(value=4.) and row.k == 0 and row.seed == 7 and row.threads == 1
    assert row.rmse == pytest.approx(rmse(np.full(100, 4.), test)) and row.split_hash == ledger.split_hash(train, valid, test)
    assert row.versions['pytest'] == pytest.__version__ and 0 <= row.fit_seconds <= row.seconds
    met.clear(); peers.run('constant')
    assert met == [] and len(ledger.read(path)) == 1                               # the row is there already
    ledger.forget(path, method='constant'); peers.run('constant')
    assert met and len(ledger.read(path)) == 1

def test_the_table_means_over_all_folds_and_leaves_out_who_has_not_met_them(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, 'PATH', tmp_path/'peers.jsonl')
    errors = dict(ALS=[1., 2., 9.], myFM=[.5, .7, .6], **{'Surprise SVD++': [3.]})
    for method, seed, error in ((m, s, e) for m, es in errors.items() for s, e in enumerate(es)):
        ledger.record(peers.PATH, data='d', data_sha256='0', split='s', split_hash=str(seed), seed=seed, method=method, k=1,
                      settings={}, rmse=error, mae=.1, seconds=2., fit_seconds=error)
    assert peers.table().loc[('d', 's')].to_dict() == pytest.approx(dict(ALS=4., myFM=.6))
    assert peers.table(first=True).loc[('d', 's')].to_dict() == {'ALS': 1., 'myFM': .5, 'Surprise SVD++': 3.}

def test_the_peak_is_forgotten():
    ledger.forget_peak()
    before = ledger.peak_mb()
    np.ones(2**24).sum()                                                           # 128 MB
    high = ledger.peak_mb()
    assert high > before + 100
    ledger.forget_peak()
    if sys.platform == 'linux': assert ledger.peak_mb() < high - 100

def test_peers_jsonl_is_whole():
    f = ledger.read(peers.PATH)
    assert f.drop(columns='fit_seconds').notna().all(axis=None) and (f.fit_seconds <= f.seconds + .01).all()
    assert ((f.rmse > .7) & (f.rmse < 1.1) & (f.mae < f.rmse)).all() and set(f.threads) == {1}
    assert not f.duplicated(['split_hash', 'method']).any() and set(f.method) <= set(peers.METHODS)
    results = ledger.read()
    assert set(f.split_hash) <= set(results.split_hash)
    for r in f.itertuples():
        package = peers.METHODS[r.method][2]
        assert r.versions[package] == pins.get(package, r.versions[package]), f'{r.method}: run again, or pin what was run'

def test_the_requirements_pin_every_peer_and_no_other_numpy_than_the_books():
    assert {m[2] for m in peers.METHODS.values()} - {'mfbook'} <= set(pins)
    assert all(pins[p] == book[p] for p in ('numpy', 'torch') if p in pins)

@pytest.mark.parametrize('method', [m for m in peers.METHODS if m not in ('biases', 'SGD', 'ALS')])
def test_each_method_beats_the_mean_and_answers_for_ids_without_ratings(method, small):
    fit, grid, package = peers.METHODS[method]
    module = {'scikit-surprise': 'surprise'}.get(package, package)
    if not importlib.util.find_spec(module): pytest.skip(f'{package} is not installed; `make peers` says where it is')
    new = (small.users == 5) | (small.items == small.items[0])                     # a user and an item that are not seen
    some = np.arange(len(small)) % 5 == 0
    train, test = small.take(~(new.numpy() | some)), small.take(some | new.numpy())
    settings = {**grid[0], **{s: 20 for s in ('sweeps', 'k') if s in grid[0]}}
    if 'burn_in' in settings: settings['burn_in'] = 5
    if method.startswith('Gibbs'): settings['keep'] = 5
    y = np.asarray(fit(train, 0, **settings)(test), dtype=np.float64)
    assert len(y) == len(test) and np.isfinite(y).all()
    assert rmse(peers.clamped(y, test), test) < .97*rmse(np.full(len(test), train.mean), test)
