"What a reader installs: the sdist and the wheel, what they hold, and the wheel beside fastcore 2."
import os, re, shutil, subprocess, sys, tarfile, zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from nbdev.config import get_config

root = Path(__file__).resolve().parent.parent
cfg = get_config(root/'settings.ini')
SOURCES = ['mfbook', 'settings.ini', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'CITATION.cff', 'CHANGELOG.md']

def build(kind, source, out):
    "The sdist or wheel of the project in `source`, by `python -m build` with the setuptools that is installed."
    command = [sys.executable, '-m', 'build', '--no-isolation', f'--{kind}', '--outdir', str(out), str(source)]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    return next(out.glob('*.whl' if kind == 'wheel' else '*.tar.gz'))

@pytest.fixture(scope='module')
def sdist(tmp_path_factory):
    "Built from a copy, so that nothing is left behind in the repository and nothing old is taken from it."
    source, out = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('sdist')
    for f in SOURCES:
        if (root/f).is_dir(): shutil.copytree(root/f, source/f, ignore=shutil.ignore_patterns('__pycache__'))
        else: shutil.copy(root/f, source/f)
    return build('sdist', source, out)

@pytest.fixture(scope='module')
def wheel(sdist, tmp_path_factory):
    "Built from the unpacked sdist: it has to hold all that a wheel needs."
    d, out = tmp_path_factory.mktemp('unpacked'), tmp_path_factory.mktemp('wheel')
    safely = {'filter': 'data'} if hasattr(tarfile, 'data_filter') else {}      # Python 3.11.4 and newer have it
    with tarfile.open(sdist) as t: t.extractall(d, **safely)
    return build('wheel', next(d.iterdir()), out)

def test_the_package_index_would_take_both(sdist, wheel):
    "Their metadata are whole, and the README can be shown."
    check = subprocess.run([sys.executable, '-m', 'twine', 'check', '--strict', sdist, wheel], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr
    assert check.stdout.count('PASSED') == 2

def test_the_wheel_holds_the_package(wheel):
    names = {n for n in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in n}
    there = {p.relative_to(root).as_posix() for p in (root/'mfbook').rglob('*') if p.is_file() and '__pycache__' not in p.parts}
    assert {'mfbook/sample/ml-sample.zip', 'mfbook/sample/README.md', 'mfbook/book.mplstyle'} <= names == there

def test_the_wheel_says_both_licences(wheel):
    z = zipfile.ZipFile(wheel)
    info = next(n for n in z.namelist() if n.endswith('.dist-info/METADATA')).removesuffix('METADATA')
    meta = Parser().parsestr(z.read(info + 'METADATA').decode())
    assert meta['License-Expression'] == 'Apache-2.0 AND LicenseRef-GroupLens-MovieLens'
    assert set(meta.get_all('License-File')) == {'LICENSE', 'mfbook/sample/README.md'}
    assert b'Apache License' in z.read(info + 'licenses/LICENSE')
    assert b'GroupLens' in z.read(info + 'licenses/mfbook/sample/README.md')

def test_the_wheel_says_what_settings_say(wheel):
    z = zipfile.ZipFile(wheel)
    meta = Parser().parsestr(z.read(next(n for n in z.namelist() if n.endswith('METADATA'))).decode())
    assert (meta['Name'], meta['Version'], meta['Requires-Python']) == (cfg.lib_name, cfg.version, f'>={cfg.min_python}')
    asked = [r for r in meta.get_all('Requires-Dist') if 'extra ==' not in r]
    assert sorted(re.split(r'\W', r)[0] for r in asked) == sorted(re.split(r'\W', r)[0] for r in cfg.requirements.split())
    assert not any(re.match(r'fastcore.*<', r) for r in asked), 'no upper bound for fastcore at run time'
    entries = z.read(next(n for n in z.namelist() if n.endswith('entry_points.txt'))).decode().replace(' ', '')
    assert 'mfbook=mfbook._modidx:d' in entries and f'[console_scripts]\n{cfg.console_scripts}\n' in entries

IMPORT_ALL = '''
import importlib, importlib.metadata, pkgutil, sys
import mfbook
from pathlib import Path
here = Path(sys.argv[1])
for m in pkgutil.iter_modules(mfbook.__path__):
    module = importlib.import_module('mfbook.' + m.name)
    assert here in Path(module.__file__).parents, module.__file__
import fastcore
assert here in Path(fastcore.__file__).parents, fastcore.__file__
assert int(fastcore.__version__.split('.')[0]) >= 2, fastcore.__version__
assert len(mfbook.all.load_sample()) > 100_000
print('imported beside fastcore', fastcore.__version__)
'''

def test_the_wheel_works_beside_fastcore_2(wheel, tmp_path):
    "The book is made with fastcore 1, because nbdev needs it; who installs the book has what is newest."
    pip = subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--disable-pip-version-check', '--retries', '1', '--no-deps', '--target', str(tmp_path),
                          'fastcore>=2', str(wheel)], capture_output=True, text=True)
    offline = re.search(r'NewConnectionError|ConnectTimeout|NameResolutionError|ProxyError|Max retries', pip.stdout + pip.stderr)
    if offline and not os.environ.get('CI'): pytest.skip(f'the package index cannot be reached ({offline[0]}), so there is no fastcore 2 to try')
    assert pip.returncode == 0, pip.stderr
    run = subprocess.run([sys.executable, '-c', IMPORT_ALL, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True,
                         env={**os.environ, 'PYTHONPATH': str(tmp_path)})
    assert run.returncode == 0, run.stderr
    assert 'imported beside fastcore 2' in run.stdout
