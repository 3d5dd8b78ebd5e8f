# The book's commands. `make demo` and `make test` are the two to know; each needs only python3 with venv, and make.
# The environment is .venv/; it is brought up to date when one of the files in SPEC changes.
PYTHON ?= python3
PY      = .venv/bin/python
PIP     = $(PY) -m pip install -q --disable-pip-version-check -c constraints.txt
SPEC    = settings.ini constraints.txt setup.py

# Said before the environment is made, in words; pip would only refuse.
export CHECK = import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit('mfbook needs Python 3.11 or newer. \
  $(PYTHON) is %d.%d; name another, as in: make demo PYTHON=python3.12' % v)

.PHONY: help demo test lessons faults fuzz package audit export book docs preview browser readme peers scale ranking clean

help:
	@echo 'make demo     install into .venv, then use the command mfbook: fit the ratings that ship, and name films'
	@echo 'make test     install the development tools as well, and run every test'
	@echo 'make lessons  run every notebook as it stands (some minutes)'
	@echo 'make faults   kill fits, saves and copies at a hundred moments each (some minutes)'
	@echo 'make fuzz     read over ten thousand damaged files and odd tables (some minutes)'
	@echo 'make package  build the sdist and the wheel into dist/, and check them'
	@echo 'make audit    look for known faults in the packages of .venv'
	@echo 'make export   write mfbook/*.py from the notebooks'
	@echo 'make book     execute every notebook again and store its outputs'
	@echo 'make docs     build the site into _docs/, and README.md'
	@echo 'make preview  build the site and serve it on this machine'
	@echo 'make browser  install chromium, which the tests of the site use (Debian, Ubuntu)'
	@echo 'make readme   README.md alone'
	@echo 'make peers    install myFM, Surprise, LensKit and Cornac into .venv-peers, and measure them (an hour)'
	@echo 'make scale    install Cornac, cmfrec and implicit into .venv-scale, and measure them at 32 million ratings (an hour or two)'
	@echo 'make ranking  install implicit, LensKit and RecTools into .venv-ranking and .venv-rectools, and measure them (an hour)'
	@echo 'make clean    remove what these commands made, .venv too'

demo: .venv/ready
	@$(PY) tools/demo.py

# Two processes share the files of tests; those that take longest begin first.
test: .venv/ready-dev
	@$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# `make test` leaves the longest notebooks out. Here all are run, two notebooks at a time, with a thread each.
lessons: .venv/ready-dev
	@MFBOOK_FULL=1 OMP_NUM_THREADS=1 $(PY) -m pytest tests/test_notebooks.py

faults: .venv/ready-dev
	@MFBOOK_FULL=1 $(PY) -m pytest tests/test_faults.py

fuzz: .venv/ready-dev
	@MFBOOK_FULL=1 $(PY) -m pytest tests/test_fuzz.py

package: .venv/ready-dev
	@rm -rf build dist
	@$(PY) -m build
	@$(PY) -m twine check --strict dist/*

# pip-audit has an environment of its own, so that it does not audit itself.
audit: .venv/ready
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python -m pip install -q --disable-pip-version-check pip-audit
	@.venv-audit/bin/pip-audit --skip-editable --path "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

export: .venv/ready-dev
	@$(PY) -c 'from nbdev.doclinks import nbdev_export; nbdev_export()'

book: export
	@$(PY) tools/book.py

docs: export
	@$(PY) tools/build_docs.py

preview: docs
	@$(PY) tools/serve.py

browser:
	@tools/install_browser.sh

readme: export
	@$(PY) tools/build_docs.py --readme

# The peers want an older pandas and setuptools, so they have an environment of their own, with the book's torch and numpy.
peers:
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt torch numpy
	@.venv-peers/bin/python -m pip install -q --disable-pip-version-check -r benchmarks/peers-requirements.txt -e .
	@.venv-peers/bin/python benchmarks/peers.py

# 32 million ratings, beside peers that want to be alone as well.
scale:
	@$(PYTHON) -m venv .venv-scale
	@.venv-scale/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt torch numpy
	@.venv-scale/bin/python -m pip install -q --disable-pip-version-check -r benchmarks/scale-requirements.txt -e .
	@.venv-scale/bin/python benchmarks/scale.py

ranking:
	@$(PYTHON) -m venv .venv-ranking
	@.venv-ranking/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt torch numpy
	@.venv-ranking/bin/python -m pip install -q --disable-pip-version-check -r benchmarks/ranking-requirements.txt -e .
	@.venv-ranking/bin/python benchmarks/ranking.py
	@$(PYTHON) -m venv .venv-rectools
	@.venv-rectools/bin/python -m pip install -q --disable-pip-version-check -r benchmarks/rectools-requirements.txt -e .
	@.venv-rectools/bin/python benchmarks/ranking.py

clean:
	@rm -rf .venv .venv-peers .venv-scale .venv-audit .venv-ranking .venv-rectools .demo _docs _proc build dist *.egg-info .pytest_cache .hypothesis nbs/nbdev.yml nbs/reference
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A .venv that is already there is kept, with the torch in it: see "torch without a GPU" in the README.
.venv/ready: $(SPEC)
	@$(PY) -m pip --version >/dev/null 2>&1 || { $(PYTHON) -c "$$CHECK" && echo 'Making .venv' && $(PYTHON) -m venv --clear .venv; }
	@echo 'Installing mfbook and what it needs into .venv (the first time, some minutes)'
	@$(PIP) -e .
	@touch $@

.venv/ready-dev: .venv/ready
	@echo 'Installing the development tools into .venv'
	@$(PIP) -e '.[dev]'
	@touch $@
