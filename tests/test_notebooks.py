"Every notebook runs from top to bottom, is clean, and has the shape of a lesson."
import ast, io, json, multiprocessing, os, re
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import redirect_stderr
from pathlib import Path
from unittest import mock

import pytest, yaml
from conftest import FULL
from execnb.nbio import nb2str, read_nb
from nbdev.clean import clean_nb
from nbdev.config import get_config
from nbdev.test import test_nb as execute

WORKERS = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', 1))
root = Path(__file__).resolve().parent.parent
cfg = get_config(root/'settings.ini')
notebooks = sorted(p for p in (root/'nbs').rglob('*.ipynb') if not any(s[0] in '._' for s in p.relative_to(root).parts))
lessons = [p for p in notebooks if p.parent.name == 'nbs' and re.match(r'\d\d_', p.name)]
exporting = [p for p in lessons if '#| default_exp' in p.read_text(encoding='utf-8')]
every = dict(argvalues=notebooks, ids=lambda p: p.stem)
every_lesson = dict(argvalues=lessons, ids=lambda p: p.stem)
every_exporting = dict(argvalues=exporting, ids=lambda p: p.stem)

def code_cells(nb): return [c for c in nb.cells if c.cell_type == 'code']
def prose(nb): return '\n\n'.join(c.source for c in nb.cells if c.cell_type == 'markdown')
def flags(cell): return {l[2:].split()[0] for l in cell.source.splitlines() if l.startswith('#|') and l[2:].strip()}

# ---- running. A server that has imported the slow packages and has done nothing with them forks a new process for each
# notebook: each starts with nothing in memory, and none waits for torch's import.
server = multiprocessing.get_context('forkserver')
server.set_forkserver_preload(['torch', 'pandas', 'matplotlib.pyplot', 'nbdev.test'])

# Here the longest lessons are left out: the code of each has a long file of tests beside it. The home page leaves out the
# commands that tools/demo.py runs. `make lessons` runs every notebook as it stands.
LATER = ['04_training', '05_runs', '06_evaluation', '07_recommending', '08_newcomers', '09_als', '10_gibbs', '13_implicit',
         '16_compiled', '17_distributed']
LESS = {'index': {'for line in lines()]': 'for line in lines()[:0]]'}}

def lighter(path, **kwargs):
    "A notebook with the replacements of `LESS`."
    nb, less = read_nb(path, **kwargs), {} if FULL else LESS.get(Path(path).stem, {})
    for old, new in less.items():
        cells = [cell for cell in code_cells(nb) if old in cell.source]
        assert cells, f'{path}: no cell has {old!r} any more'
        for cell in cells: cell.source = cell.source.replace(old, new)
    return nb

def run(path):
    "Execute one notebook; returns the traceback of the cell that failed, or nothing."
    with redirect_stderr(io.StringIO()) as err, mock.patch('nbdev.process.read_nb', lighter):
        ok, _ = execute(path, skip_flags=cfg.tst_flags.split(), basepath=root)
    return '' if ok else err.getvalue() or 'it failed without a traceback'

def alone(path):
    "`run` in a process of its own. (A pool of two with max_tasks_per_child=1 can stand still for ever in Python 3.11.)"
    with ProcessPoolExecutor(1, mp_context=server) as pool: return pool.submit(run, path).result()

@pytest.fixture(scope='module')
def runs(request):
    "The runs of all notebooks that are to be tested, two at a time in all, each in a process of its own."
    paths = [i.callspec.params['path'] for i in request.session.items if i.name.startswith('test_it_runs')]
    if not FULL and len(paths) > 1: paths = [path for path in paths if path.stem not in LATER]
    with ThreadPoolExecutor(max(1, 2//WORKERS)) as pool: yield {path: pool.submit(alone, path) for path in paths}

@pytest.mark.parametrize('path', **every)
def test_it_runs(path, runs):
    if path not in runs: pytest.skip('make lessons runs it')
    if failure := runs[path].result(): pytest.fail(failure, pytrace=False)

# ---- what is stored

@pytest.mark.parametrize('path', **every)
def test_it_is_clean(path):
    "`nbdev_clean` would change nothing: no execution counts, no editor's metadata, no object addresses."
    nb = read_nb(path)
    clean_nb(nb, clear_all=cfg.clear_all, clean_ids=cfg.clean_ids)
    assert nb2str(nb) == path.read_text(encoding='utf-8'), f'{path.name} is not clean: run make book, or nbdev_clean'

def output_faults(cell):
    "What a stored output should not hold."
    for o in cell.outputs:
        text = ''.join(o.get('text', '')) + ''.join(''.join(v) for k, v in o.get('data', {}).items() if k.startswith('text/'))
        if o.output_type == 'error': yield f'an error, {o.ename}'
        if o.get('name') == 'stderr': yield f'text on standard error: {text[:80]!r}'
        if 'Warning' in text: yield f'a warning: {text[:200]!r}'
        if m := re.search(r'(/work|/root|/home|/tmp|/var|/Users|/private|[A-Z]:\\Users)[/\\][^\s\'"<)]*', text): yield f'a path of one machine, {m[0]}'
        if m := re.search(r' at 0x[0-9a-f]{6,}', text): yield f'an address in memory,{m[0]}'
        if 'image/png' in o.get('data', {}): yield 'a figure as PNG; make book stores SVG'

@pytest.mark.parametrize('path', **every)
def test_stored_outputs(path):
    assert [f'cell {c.idx_}: {fault}' for c in code_cells(read_nb(path)) for fault in output_faults(c)] == []

@pytest.mark.parametrize('path', **every)
def test_it_has_been_executed(path):
    "A cell that draws or shows a table has its output stored; an empty one means `make book` was forgotten."
    nb = read_nb(path)
    skip = set(cfg.tst_flags.split())
    last = lambda c: c.source.rstrip().splitlines()[-1]
    silent = [c.idx_ for c in code_cells(nb) if not c.outputs and not flags(c) & (skip | {'exports', 'exporti', 'default_exp', 'hide'})
              and re.match(r'print\(|display\(|plt\.show\(|plot_\w+\(|show_\w+\(', last(c)) and not c.source.rstrip().endswith(';')]
    assert silent == [], f'no stored output in cells {silent}: run make book'

@pytest.mark.parametrize('path', **every)
def test_figures_are_described(path):
    "Each figure says in words what it shows (`#| fig-alt: ...`), for a reader who cannot see it."
    for c in code_cells(read_nb(path)):
        if any(k.startswith('image/') for o in c.outputs for k in o.get('data', {})):
            alt = re.search(r'^#\|\s*fig-alt:\s*(.+)$', c.source, re.M)
            assert alt and len(alt[1].split()) >= 5, f'cell {c.idx_} draws a figure and has no `#| fig-alt:` of a few words'

@pytest.mark.parametrize('path', **every)
def test_imports_stand_alone(path):
    "The build of the site executes each cell that imports something, and should not run the lesson by that."
    for c in code_cells(read_nb(path)):
        if flags(c) & {'eval:'} or c.source.lstrip().startswith('%'): continue
        kinds = {isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(c.source).body}
        assert len(kinds) < 2 or 'exports' in flags(c), f'cell {c.idx_}: put the imports into a cell of their own'

def options(cell): return [l[2:].strip() for l in cell.source.splitlines() if re.match(r'#\|\s*[\w-]+: ', l)]

@pytest.mark.parametrize('path', **every)
def test_options_are_yaml(path):
    "A colon in a description makes YAML of it that means something else, and the cell loses all its options without a word."
    for c in code_cells(read_nb(path)):
        for line in options(c):
            try: value, = yaml.safe_load(line).values()
            except (yaml.YAMLError, AttributeError, ValueError): pytest.fail(f'cell {c.idx_}: put the text of this into double quotes: {line}')
            assert not isinstance(value, dict), f'cell {c.idx_}: {line}'

FEW = 5      # lines of a refusal that may stand open

@pytest.mark.parametrize('path', **every_lesson)
def test_what_is_folded_says_what_it_is(path):
    "Imports and refusals are folded away, and each folded cell says in one line what it holds."
    for c in code_cells(read_nb(path)):
        folded = re.search(r'^#\| code-fold: true$', c.source, re.M)
        summary = re.search(r'^#\| code-summary: "?(.+?)"?$', c.source, re.M)
        assert bool(folded) == bool(summary) and (not summary or len(summary[1]) <= 90), f'cell {c.idx_}'
        code = [l for l in c.source.splitlines() if l.strip() and l[0] != '#']
        if folded or not code or flags(c) & {'hide', 'exports', 'exporti', 'default_exp', 'echo:', 'eval:'}: continue
        assert not re.match(r'(import|from) ', code[0]), f'cell {c.idx_} begins with an import: fold it away'
        assert 'test_fail' not in c.source or len(code) <= FEW, f'cell {c.idx_} shows many refusals: fold it away'

@pytest.mark.parametrize('path', **every)
def test_each_cell_has_an_id_of_its_own(path):
    "Two versions of a notebook are merged cell by cell, by their ids."
    ids = [c['id'] for c in json.loads(path.read_text(encoding='utf-8'))['cells']]
    assert len(set(ids)) == len(ids), {i for i in ids if ids.count(i) > 1}

# ---- the lesson's shape

@pytest.mark.parametrize('path', **every)
def test_opening(path):
    "The first cell holds the title and one line and nothing more: nbdev makes the page's head and the module's docstring of it."
    nb = read_nb(path)
    assert nb.cells[0].cell_type == 'markdown'
    assert re.fullmatch(r'# \S.*\n\n> \S.*', nb.cells[0].source), f'{path.name} must open with "# Title", an empty line, "> One line."'

@pytest.mark.parametrize('path', **every_exporting)
def test_lesson_exports_the_module_it_is_named_after(path):
    assert f'#| default_exp {path.stem[3:]}' in read_nb(path).cells[1].source

def test_lesson_00_alone_has_no_module():
    assert [p.stem for p in lessons if p not in exporting] == ['00_start']
    assert [c.idx_ for c in code_cells(read_nb(lessons[0])) if flags(c) & {'export', 'exports', 'exporti'}] == []

@pytest.mark.parametrize('path', **every_lesson)
def test_colab_can_run_it(path):
    "The cell before the story installs the book where the lesson is opened in Colab, and does nothing elsewhere."
    place = 2 if path in exporting else 1      # lesson 00 names no module
    assert read_nb(path).cells[place].source == f'#| hide\n#| eval: false\n! [ -e /content ] && pip install -q git+{cfg.git_url}    # in Colab'

@pytest.mark.parametrize('path', **every_lesson)
def test_lesson_shows_its_exports(path):
    "Each in its place in the story, not folded away: what a user calls (`exports`), and what other modules need (`exporti`)."
    assert [c.idx_ for c in code_cells(read_nb(path)) if 'export' in flags(c)] == [], 'use `#| exports`, or `#| exporti`'

@pytest.mark.parametrize('path', **every_lesson)
def test_lesson_has_more_code_than_prose(path):
    kinds = [c.cell_type for c in read_nb(path).cells]
    assert kinds.count('code') > kinds.count('markdown')

@pytest.mark.parametrize('path', **every_lesson)
def test_lesson_ends_with_measurements_exercises_and_reading(path):
    parts = re.split(r'^## +(.+?) *$', prose(read_nb(path)), flags=re.M)
    titles, bodies = parts[1::2], dict(zip(parts[1::2], parts[2::2]))
    assert titles[-3:] == ['What we measured', 'Exercises', 'Where to read more']
    assert len(re.findall(r'^(?:\d+\.|[-*]|###) ', bodies['Exercises'], re.M)) >= 3, 'three exercises or more'
    assert re.search(r'\]\(https?://|<https?://', bodies['Where to read more']), 'a link to what there is to read'

@pytest.mark.parametrize('path', **every_lesson)
def test_lesson_shows_what_it_measured(path):
    nb = read_nb(path)
    start = next(c.idx_ for c in nb.cells if c.cell_type == 'markdown' and re.search(r'^## What we measured', c.source, re.M))
    end = next(c.idx_ for c in nb.cells if c.cell_type == 'markdown' and re.search(r'^## Exercises', c.source, re.M))
    assert any(c.outputs for c in nb.cells[start:end] if c.cell_type == 'code'), 'the figures come from a cell'
