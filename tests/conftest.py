"What all tests share."
import pytest

@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    "`load_ratings` keeps its copies in a folder of the tests, and leaves the user's alone."
    monkeypatch.setenv('MFBOOK_CACHE', str(tmp_path_factory.getbasetemp()/'mfbook-cache'))
