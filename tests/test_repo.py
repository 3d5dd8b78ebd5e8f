"The repository agrees with itself: notebooks with modules, README with its notebook, names and addresses with settings.ini."
import ast, importlib.util, json, os, re, shutil, subprocess, sys
from pathlib import Path

import pytest, yaml
from nbdev.config import get_config
from packaging.requirements import Requirement

root = Path(__file__).resolve().parent.parent
cfg = get_config(root/'settings.ini')
lessons = sorted((root/'nbs').glob('[0-9][0-9]_*.ipynb'))
number = {p.stem[3:]: int(p.stem[:2]) for p in lessons if '#| default_exp' in p.read_text(encoding='utf-8')}    # module -> its lesson; 00 has none
HAND_WRITTEN = ['mfbook/__init__.py', 'mfbook/__main__.py', 'mfbook/all.py']
modules = sorted(p for p in (root/'mfbook').glob('*.py') if p.stem in number)
every_module = dict(argvalues=modules, ids=lambda p: p.stem)

def text(name): return (root/name).read_text(encoding='utf-8')

@pytest.fixture(scope='module')
def build_docs():
    spec = importlib.util.spec_from_file_location('build_docs', root/'tools'/'build_docs.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

# ---- what is written from the notebooks

def test_modules_are_in_step_with_the_notebooks(tmp_path):
    "Exporting anew gives the same files, byte for byte, and no module is without its notebook."
    for f in ('settings.ini', 'pyproject.toml', *HAND_WRITTEN):      # nbdev puts the version into __init__, and leaves `all` alone
        (tmp_path/f).parent.mkdir(exist_ok=True)
        shutil.copy(root/f, tmp_path/f)
    shutil.copytree(root/'nbs', tmp_path/'nbs', ignore=lambda d, names: [n for n in names if not (n.endswith('.ipynb') or Path(d, n).is_dir())])
    subprocess.run([sys.executable, '-c', 'from nbdev.doclinks import nbdev_export; nbdev_export()'], cwd=tmp_path, check=True)
    def files(top): return {p.relative_to(top).as_posix(): p.read_text(encoding='utf-8')
                            for p in [*top.glob('mfbook/**/*.py'), top/'pyproject.toml']}
    new, old = files(tmp_path), files(root)
    assert {p.stem for p in tmp_path.glob('mfbook/*.py')} == {*number, '__init__', '__main__', '_modidx', 'all'}
    assert sorted(set(old) - set(new)) == [], 'modules that no notebook exports'
    assert [f for f in new if new[f] != old.get(f)] == [], 'out of step with the notebooks: run make export'

def test_readme_is_in_step_with_the_index_notebook(build_docs, monkeypatch):
    monkeypatch.chdir(root)
    made, pictures = build_docs.readme()
    assert text('README.md') == made, 'run make readme'
    assert pictures and {name: text(name) for name in pictures} == pictures, 'run make readme'

# ---- the modules. What imports what, and what is public: test_walls.py

WIDTH = 120

@pytest.mark.parametrize('path', **every_module)
def test_lines_fit_on_a_page(path):
    lines = path.read_text(encoding='utf-8').splitlines()
    first = next(i for i, l in enumerate(lines) if l.startswith('# %% ../nbs/'))      # after the docstring and `__all__`, which nbdev writes
    assert [i for i, l in enumerate(lines, 1) if i > first and len(l) > WIDTH] == [], f'lines of over {WIDTH} characters'

@pytest.mark.parametrize('path', **every_module)
def test_what_a_module_offers_is_documented(path):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    offered = next(ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == '__all__')
    defined = {n.name: n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    assert ast.get_docstring(tree) and offered
    assert [n for n in offered if n in defined and not ast.get_docstring(defined[n])] == [], 'without a docstring'

OPTIONAL = {'pyarrow'}      # asked for when a Parquet file is read, with a word if it is not there

@pytest.mark.parametrize('path', **every_module)
def test_a_module_imports_only_what_is_installed_with_it(path):
    allowed = {Requirement(r).name for r in cfg.requirements.split()} | {'mfbook', 'numpy'} | OPTIONAL | set(sys.stdlib_module_names)
    nodes = list(ast.walk(ast.parse(path.read_text(encoding='utf-8'))))
    used = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names} | {n.module for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
    assert {u.split('.')[0] for u in used} - allowed == set()

# ---- names, addresses, versions: settings.ini is the one place

def test_the_site_agrees_with_settings():
    y = yaml.safe_load(text('_quarto.yml'))
    web = y['website']
    assert y['project']['output-dir'] == cfg.doc_path.name
    assert (web['title'], web['description']) == (cfg.title, cfg.description)
    assert (web['site-url'], web['repo-url'], web['repo-branch']) == (cfg.doc_host + cfg.doc_baseurl, cfg.git_url, cfg.branch)

@pytest.mark.parametrize('name', ['README.md', '_quarto.yml', 'CITATION.cff', 'CONTRIBUTING.md', 'CHANGELOG.md', 'nbs/index.ipynb'])
def test_no_other_address_of_the_repository(name):
    for m in re.finditer(r'https://(?:github\.com/[\w.-]+/mfbook|[\w.-]+\.github\.io/\w+)(?=[\s/"\')#>]|$)', text(name)):
        assert m[0] in (cfg.git_url, cfg.doc_host + cfg.doc_baseurl)

def test_the_citation_agrees_with_settings():
    c = yaml.safe_load(text('CITATION.cff'))
    assert (c['repository-code'], c['url'], str(c['version'])) == (cfg.git_url, cfg.doc_host + cfg.doc_baseurl, cfg.version)
    assert (c['authors'], c['license']) == ([{'name': cfg.author}], 'Apache-2.0')

def test_the_version_agrees_with_settings():
    assert f'__version__ = "{cfg.version}"' in text('mfbook/__init__.py')
    assert f'\n## {cfg.version}\n' in text('CHANGELOG.md')
    assert f'[Version {cfg.version}]' in yaml.safe_load(text('_quarto.yml'))['website']['page-footer']['right']
    assert json.loads(text('nbs/version.json')) == dict(version=cfg.version, address=cfg.doc_host + cfg.doc_baseurl + '/')
    assert f'src="{cfg.doc_baseurl}/assets/book.js"' in text('nbs/book.html')
    assert f'Python {cfg.min_python} or newer' in text('README.md')

def test_constraints_pin_each_direct_requirement():
    "A version that was tried for each package that settings.ini names, within the bounds it gives; and numpy, which both torch and pandas are built on."
    pins = {r.name: r.specifier for l in text('constraints.txt').splitlines() if l and l[0] != '#' for r in [Requirement(l)]}
    asked = [Requirement(r) for r in (cfg.requirements + ' ' + cfg.dev_requirements).split()]
    assert set(pins) == {r.name for r in asked} | {'numpy', 'llvmlite'}
    for r in asked:
        pin, = pins[r.name]
        assert pin.operator == '==' and pin.version in r.specifier, f'{r.name}: {pin} is not {r.specifier}'

def test_each_run_time_requirement_has_its_reason():
    for r in cfg.requirements.split(): assert re.search(rf'^\| `{Requirement(r).name}` \| \S', text('CONTRIBUTING.md'), re.M), f'CONTRIBUTING.md: why {r}?'

# ---- pages

def test_nbs_quarto_yml_is_a_link():
    "nbdev wants the file beside the notebooks; a copy would go its own way."
    assert os.readlink(root/'nbs'/'_quarto.yml') == '../_quarto.yml'

def hrefs(contents):
    for c in contents:
        if isinstance(c, str): yield c
        else:
            if 'href' in c: yield c['href']
            yield from hrefs(c.get('contents', []))

def test_the_sidebar_lists_every_notebook_once():
    listed = [h for h in hrefs(yaml.safe_load(text('_quarto.yml'))['website']['sidebar']['contents']) if h.endswith('.ipynb')]
    there = [p.relative_to(root/'nbs').as_posix() for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts]
    assert sorted(listed) == sorted(there)
    assert [h for h in listed if h[:2].isdigit()] == sorted(h for h in listed if h[:2].isdigit()), 'lessons in their order'

def test_the_sidebar_has_the_parts_a_reader_looks_for():
    bar = yaml.safe_load(text('_quarto.yml'))['website']['sidebar']['contents']
    assert [part.get('section', part.get('text')) for part in bar] == ['Home', 'Rate ten films', 'Lessons', 'Exercises', 'Results', 'Glossary', 'Notation', 'Reference']

def test_the_home_page_lists_every_lesson():
    "As a card; a lesson may be named in prose as well."
    assert [m for m in re.findall(r'\[\d\d [^]]+\]\((\d\d_\w+)\.ipynb\)', text('nbs/index.ipynb'))] == [p.stem for p in lessons]

def test_links_of_the_readme_lead_to_files():
    links = [l for l in re.findall(r'\]\(([^)#\s]+)', text('README.md')) if not re.match(r'\w+:', l)]
    assert links and [l for l in links if not (root/l).exists()] == []

WORKFLOWS = {name: yaml.safe_load(text(f'.github/workflows/{name}.yml')) for name in ('test', 'docs')}

def test_the_workflows_run_what_the_book_promises():
    job, = WORKFLOWS['test']['jobs'].values()
    assert job['strategy']['matrix'] == {'os': ['ubuntu-latest', 'macos-latest'], 'python': ['3.11', '3.12', '3.13']}
    assert job['strategy']['matrix']['python'][0] == cfg.min_python
    runs = lambda job: [s['run'] for s in job['steps'] if 'run' in s]
    assert runs(job)[-2:] == ['make demo', 'make test']
    assert runs(WORKFLOWS['docs']['jobs']['build']) == ['make docs'], 'what is published is what test_site.py looks at'
    assert [s['uses'].split('@')[0] for s in WORKFLOWS['docs']['jobs']['deploy']['steps']] == ['actions/deploy-pages']

# ---- commands, and what is committed

@pytest.mark.parametrize('target, runs', {'demo': 'tools/demo.py', 'test': '-m pytest', 'lessons': 'tests/test_notebooks.py', 'export': 'nbdev_export()', 'book': 'tools/book.py',
                                          'docs': 'tools/build_docs.py', 'preview': 'tools/serve.py', 'browser': 'tools/install_browser.sh', 'package': '-m build', 'audit': 'pip-audit', 'readme': 'tools/build_docs.py --readme', 'clean': 'rm -rf .venv'}.items())
def test_make_target(target, runs):
    make = subprocess.run(['make', '-n', target], cwd=root, capture_output=True, text=True)
    assert make.returncode == 0 and runs in make.stdout, make.stderr
    assert f'make {target}' in text('CONTRIBUTING.md') + text('README.md')

def test_ci_calls_the_readmes_two_commands():
    commands = [l for l in text('.ci/run').splitlines() if l.startswith('make ')]
    assert commands == ['make demo', 'make lessons', 'make test'] and 'MFBOOK_BROWSER=1' in text('.ci/run') and os.access(root/'.ci'/'run', os.X_OK)
    assert all(f'\n{c}\n' in text('README.md') for c in ('make demo', 'make test'))

# Written in two halves, so that this file does not hold what it looks for.
UNWANTED = {'a path of one machine': r'/wor' r'k/|/roo' r't/|/hom' r'e/\w', 'unfinished': r'\bTO' r'DO\b|\bFIX' r'ME\b|\bXX' r'X\b',
            'a package registry\'s host': r'pythonhosted' r'\.org|download\.pyto' r'rch\.org|registry\.npm' r'js\.org'}

def committed():
    "The repository's files as git knows them; without git (an unpacked sdist), those that are there."
    git = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=root, capture_output=True, text=True)
    return git.stdout.splitlines() if git.returncode == 0 else [p.relative_to(root).as_posix() for p in root.rglob('*') if '.venv' not in p.parts]

@pytest.mark.parametrize('what', UNWANTED)
def test_no_committed_text_holds(what):
    found = []
    for f in committed():
        path = root/f
        if path.is_symlink() or not path.is_file(): continue
        try: lines = path.read_text(encoding='utf-8').splitlines()
        except UnicodeDecodeError: continue
        found += [f'{f}:{i}: {m[0]}' for i, l in enumerate(lines, 1) if (m := re.search(UNWANTED[what], l))]
    assert found == []
