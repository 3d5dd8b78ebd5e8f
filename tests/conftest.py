"What all tests share."
import os

import pytest
import torch

# `make test` runs two processes of tests: a thread for each.
WORKERS = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', 1))
if WORKERS > 1:
    os.environ['OMP_NUM_THREADS'] = '1'      # for the processes that tests start
    torch.set_num_threads(1)

FULL = bool(os.environ.get('MFBOOK_FULL'))

def pick(every, *some):
    "Parameters of a test: those that differ most, and with MFBOOK_FULL=1 every one."
    assert set(some) <= set(every)
    return list(every) if FULL else list(some)

LONGEST = ['test_notebooks.py', 'test_site.py']     # so these begin first

def pytest_collection_modifyitems(items):
    "The longest files first, the others as they were."
    items.sort(key=lambda item: item.path.name not in LONGEST)

@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    "`load_ratings` keeps its copies in a folder of the tests, and leaves the user's alone."
    monkeypatch.setenv('MFBOOK_CACHE', str(tmp_path_factory.getbasetemp()/'mfbook-cache'))

@pytest.fixture
def one_thread():
    "One thread of torch: sums come out the same in every run."
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
