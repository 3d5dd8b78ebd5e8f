"The ledger of results: what is written is read back, the same run is replaced, and bad rows are refused."
import importlib.util, json
from pathlib import Path
import pytest
from mfbook.ratings import load_sample

root = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location('ledger', root/'benchmarks'/'ledger.py')
ledger = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ledger)

ROW = dict(data='d', data_sha256='0', split='s', split_hash='h', seed=0, method='SGD', k=2, settings={'lr': .1}, rmse=1., mae=.5, seconds=2.)

def test_what_is_recorded_is_read(tmp_path):
    p = tmp_path/'r.jsonl'
    ledger.record(p, **ROW)
    ledger.record(p, **ROW | dict(seed=1, rmse=.9))
    f = ledger.read(p, method='SGD')
    assert list(f.columns) == ledger.FIELDS and f.rmse.tolist() == [1., .9] and f.settings[0] == {'lr': .1}
    assert ledger.read(p, seed=1).rmse.tolist() == [.9]
    assert f.peak_mb[0] > 10 and f.threads[0] >= 1 and f.versions[0]['torch']

def test_the_same_run_is_replaced(tmp_path):
    p = tmp_path/'r.jsonl'
    ledger.record(p, **ROW)
    ledger.record(p, **ROW | dict(rmse=.8))
    assert ledger.read(p).rmse.tolist() == [.8]

def test_bad_rows_are_refused(tmp_path):
    p = tmp_path/'r.jsonl'
    with pytest.raises(ValueError, match='rmse'): ledger.record(p, **{k: v for k, v in ROW.items() if k != 'rmse'})
    with pytest.raises(ValueError, match='speed'): ledger.record(p, **ROW, speed=1)
    with pytest.raises(ValueError, match='README'): ledger.read(p, method='SGD')
    p.write_text(json.dumps(ROW) + '\n{"data": \n')
    with pytest.raises(ValueError, match='line 2'): ledger.read(p)

def test_hashes_name_the_data_and_the_split():
    r = load_sample()
    a, b = r.take(slice(0, 50)), r.take(slice(50, 100))
    assert ledger.split_hash(a, b) == ledger.split_hash(a, b) != ledger.split_hash(b, a)
    assert ledger.ratings_sha256(a) != ledger.ratings_sha256(b)

def test_the_ledger_in_the_repository_is_whole_and_speaks_of_this_sample():
    f = ledger.read()
    assert f.notna().all(axis=None) and ((f.rmse > .5) & (f.rmse < 1.3) & (f.mae < f.rmse)).all()
    assert not f.duplicated(ledger.RUN).any()
    assert set(f[f.data == 'ml-sample'].data_sha256) == {ledger.ratings_sha256(load_sample())}
