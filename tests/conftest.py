"What all tests share."
import pytest
import torch

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
