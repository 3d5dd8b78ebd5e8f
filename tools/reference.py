"""Write the Reference, a page for each thing that a user wants to do, `nbs/reference/TASK.qmd`, from the package's
signatures, annotations, docments and docstrings.

    python tools/reference.py

It has what a user would call: the names in a module's `__all__`, their methods, and methods that a module adds to a
class of another one (`@patch`). `TASKS` says what stands on which page. The pages are made anew by every build and are
not committed. A lesson tells how a function came to be; the Reference says how to call it, and has a cell of a lesson
that does so (`tools/examples.py`).
"""
import ast
import importlib
import inspect
import json
import re
import sys
import types
from pathlib import Path
from typing import NamedTuple

from fastcore.docments import docments
from fastcore.foundation import L
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup, patch_name

import examples

root = Path(__file__).resolve().parent.parent
cfg = get_config(root/'settings.ini')
ONE_LINE = 88     # characters of a signature that stands on one line

class Task(NamedTuple):
    "A page of the Reference: what a user wants to do, and what they call for it."
    page: str
    title: str
    description: str
    names: str      # the most used first; a class brings its methods along

TASKS = [
    Task('data', 'Load ratings and events', 'From files, frames, MovieLens, or made up',
         'load_ratings load_sample load_fold datasets download Ratings concat rating_counts '
         'events_from_frame events_from_ratings synthetic_ratings Synthetic'),
    Task('split', 'Split the data', 'Hold out ratings or users for validation and test',
         'split_random split_by_time split_last folds Split split_users UserSplit'),
    Task('model', 'Make, use and save a model', 'The five tensors, and everything that is done with them',
         'MatrixFactorization Row Prior'),
    Task('fit', 'Fit a model', 'Every method of the book: each fills the same model and returns a History',
         'fit_variational fit_als fit_sgd fit_gibbs fit_biases fit_biases_koren fit_implicit_als fit_bpr ease '
         'fit_compiled_sgd fit_mean_field fit_compiled_variational fit_compiled_implicit_als fit_distributed start_on_parts '
         'History Draws effective_size'),
    Task('tune', 'Choose settings', 'Fit many settings and rank them by validation error',
         'cross_validate tune tune_sgd tune_als tune_biases regularization_grid bias_regularization'),
    Task('evaluate', 'Measure errors and lists', 'RMSE and MAE, intervals, slices, calibration, lists',
         'rmse mae report Report squared_errors bootstrap interval slices calibration worst_films coverage '
         'ranking list_metrics list_quality list_facts'),
    Task('recommend', 'Recommend', 'Lists, similar films, reasons, the map of films',
         'recommend recommend_all similar find_film films_where cautious favorites_beside why plot_why film_map plot_map '
         'popular scores_of_rows ease_scores'),
    Task('newcomers', 'Fold in new users and items', 'Rows for people and films that the model has not seen',
         'my_ratings learn_prior fold_in_events'),
    Task('features', 'Use what else is known', 'Genres, years, ages, and who rated what, for the prior',
         'Features genres years columns who_rated_what activity averages tags combine'),
    Task('solvers', 'Drive a solver yourself', 'The loop, the solvers it runs, and the parts they are made of',
         'fit BiasSolver SGDSolver ALSSolver GibbsSolver VariationalSolver ImplicitALSSolver BPRSolver CompiledSGDSolver '
         'MeanFieldSolver CompiledVariationalSolver CompiledImplicitALSSolver RankFit write_shards adam sgd closed_form compiled '
         'OptimizerStep cosine constant '
         'batches penalized_loss penalty_of Penalty'),
    Task('command', 'Work from a shell', 'The command mfbook, called from Python', 'main')]

SEE_ALSO = {      # what a user may look for on a page and finds on another
    'data': 'Ratings.from_frame Ratings.to_frame',
    'newcomers': 'MatrixFactorization.fold_in MatrixFactorization.fold_in_item',
    'features': 'MatrixFactorization.prior_given',
    'fit': 'MatrixFactorization.save MatrixFactorization.load'}

# ---- which definitions

def definitions(tree):
    "Each name that the module defines at its top, methods as `Class.method`, in order: name -> syntax tree."
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            found[getattr(node.targets[0], 'id', '_')] = node
        elif isinstance(node, ast.FunctionDef):
            for name in L(patch_name(node)):     # `Class.method` where it is patched on
                found[name] = node
        elif isinstance(node, ast.ClassDef):
            found[node.name] = node
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    found[f'{node.name}.{method.name}'] = method
    return found

def is_offered(name, module):
    "Whether a user would call it: it is in `__all__`, or the public method of a class that is in its own module's."
    first, _, method = name.partition('.')
    if not method:
        return name in module.__all__
    if method.startswith('_') or not hasattr(module, first):
        return False
    home = sys.modules[getattr(module, first).__module__]
    return first in getattr(home, '__all__', [])

def offered(module):
    "What a module offers, in the order of its source: (name, syntax tree)."
    source = Path(module.__file__).read_text(encoding='utf-8')
    return [(name, node) for name, node in definitions(ast.parse(source)).items() if is_offered(name, module)]

class Definition(NamedTuple):
    "Something that a user would call."
    name: str           # methods as `Class.method`
    node: ast.AST
    module: object
    lesson: str         # the file name of the lesson that defines it

def all_definitions():
    "name -> `Definition`, of the whole package, in the order of the lessons."
    found = {}
    for notebook in sorted(cfg.nbs_path.glob('[0-9][0-9]_*.ipynb')):
        name = notebook.stem[3:]
        if (cfg.lib_path/f'{name}.py').exists():     # lesson 00 has no module
            module = importlib.import_module(f'mfbook.{name}')
            for full, node in offered(module):
                found[full] = Definition(full, node, module, notebook.name)
    return found

def page_of():
    "name of a function or class -> the page it stands on. ValueError for a name on no page, on two, or of nothing."
    pages = {}
    for task in TASKS:
        for name in task.names.split():
            if name in pages: raise ValueError(f'tools/reference.py has {name} on two pages, {pages[name]} and {task.page}')
            pages[name] = task.page
    public = {name for name in all_definitions() if '.' not in name}
    for name in sorted(public ^ set(pages)):
        raise ValueError(f'{name} is on no page: add it to TASKS in tools/reference.py' if name in public
                         else f'TASKS in tools/reference.py has {name}, which the package does not offer')
    return pages

# ---- what is said of one

def code(text):
    return f'`{text}`' if '`' not in text else f'`` {text} ``'

def in_table(text):
    return text.replace('|', '\\|').replace('\n', ' ')

def default(parameter):
    "A parameter's default as text, empty if there is none; a function by its name."
    value = parameter.default
    if value is parameter.empty:
        return ''
    return getattr(value, '__name__', repr(value)) if callable(value) else repr(value)

def type_words(annotation, pages):
    "A type in words, with links to the book's own: `Ratings` or `dict`."
    if annotation in (inspect.Parameter.empty, None, type(None)):
        return '' if annotation is inspect.Parameter.empty else '`None`'
    if isinstance(annotation, types.UnionType):
        return ' or '.join(type_words(part, pages) for part in annotation.__args__)
    name = annotation.__name__
    return f'[`{name}`]({pages[name]}.qmd#{name.lower()})' if name in pages else code(name)

def own_parameters(obj):
    return [p for p in inspect.signature(obj).parameters.values() if p.name not in ('self', 'cls')]

def signature(name, obj):
    "As one would call it: `fit_sgd(model, train, valid=None, ...)`."
    short = name if inspect.isclass(obj) else name.split('.')[-1]
    parts = []
    for p in own_parameters(obj):
        if p.kind is p.KEYWORD_ONLY and '*' not in parts:
            parts.append('*')
        stars = {p.VAR_POSITIONAL: '*', p.VAR_KEYWORD: '**'}.get(p.kind, '')
        value = f'={default(p)}' if default(p) else ''
        parts.append(stars + p.name + value)

    line = f'{short}({", ".join(parts)})'
    if len(line) <= ONE_LINE:
        return line
    return f'{short}(\n    ' + ',\n    '.join(parts) + ')'

def words(note):
    "The comment beside a parameter, for a table, with links from the names in it."
    return NbdevLookup().link_line(in_table(note.docment or '')) if note else ''

def notes_of(obj):
    "The comments beside parameters and fields, and that of the return: docments, and what it leaves out of tuples."
    notes = docments(obj, full=True)
    for base in obj.__mro__ if inspect.isclass(obj) and hasattr(obj, '_fields') else ():
        if '_fields' in vars(base):
            found = re.findall(r'^    (\w+): .*?# (.*)', inspect.getsource(base), re.M)
            return {name: types.SimpleNamespace(docment=words) for name, words in found}
    return notes

def returned(obj):
    "The annotation of what a call gives back; empty for a class, whose call gives the object itself."
    return inspect.Parameter.empty if inspect.isclass(obj) else inspect.signature(obj).return_annotation

def parameters(obj, pages):
    "The table of parameters and of what comes back."
    notes = notes_of(obj)
    rows = []
    for p in own_parameters(obj):
        value = in_table(code(default(p))) if default(p) else ''
        rows.append((code(p.name), type_words(p.annotation, pages), value, words(notes.get(p.name))))
    back = returned(obj)
    if back is not inspect.Parameter.empty:
        rows.append(('*returns*', type_words(back, pages), '', words(notes.get('return'))))

    if not rows:
        return ''
    head = ['| parameter | type | default | what it is |', '|---|---|---|---|']
    return '\n'.join(head + [f'| {" | ".join(row)} |' for row in rows])

def message(node):
    "The words of a raised error's message, from its syntax tree; None if they are not written there."
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return ''.join(v.value if isinstance(v, ast.Constant) else '…' for v in node.values)

def errors(node):
    "What the definition itself raises, in the words of its messages."
    found = {}
    for raised in ast.walk(node):
        if isinstance(raised, ast.Raise) and isinstance(raised.exc, ast.Call) and raised.exc.args:
            words = message(raised.exc.args[0])
            if words is not None:
                line = f'- `{ast.unparse(raised.exc.func)}`: {words.replace("<", "&lt;")}'
                found.setdefault(line)
    return '\n'.join(['Errors:', '', *found]) if found else ''

def links(name, node, module):
    "The ways on from a definition: to its place in the lesson, and to its source."
    file = module.__name__.replace('.', '/') + '.py'
    url = f'{cfg.git_url}/blob/{cfg.branch}/{file}#L{node.lineno}'
    ways = f'[source]({url}){{.source aria-label="source of {name}"}}'
    lesson = NbdevLookup().doc(f'{module.__name__}.{name}')
    if lesson:
        ways = f'[in the lesson]({lesson}){{.source aria-label="{name} in the lesson"}} {ways}'
    return ways

def docstring(obj):
    "Its docstring, with links from the names in it."
    text = re.sub(r'(?<!`)\b(\w+Error)\b(?!`)', r'`\1`', inspect.getdoc(obj) or '')
    return NbdevLookup().linkify(text)

def worked_example(definition):
    "A cell of a lesson that calls it, with the way there; the way alone if the cell is long, or a test."
    found = examples.example(definition.name, definition.lesson)
    if not found:
        return ''
    lesson, cell_id, shown = found
    link = f'../{lesson}#{examples.place(cell_id)}'
    if len(shown.splitlines()) > examples.LONGEST or 'test_' in shown or 'assert ' in shown:
        return f'[An example in lesson {lesson[:2]}]({link})'
    return f'Example, [from lesson {lesson[:2]}]({link}):\n\n```python\n{shown}\n```'

def entry(definition, pages):
    "One definition: signature, what it does, its parameters and errors, an example, and the ways on."
    name, node, module, _ = definition
    parts = [f'{"###" if "." in name else "##"} {name}', links(name, node, module)]
    if isinstance(node, ast.Assign):
        return '\n\n'.join([*parts, f'```python\n{ast.unparse(node)}\n```'])

    obj = module
    for part in name.split('.'):
        obj = getattr(obj, part)
    if isinstance(obj, property):
        back = type_words(inspect.signature(obj.fget).return_annotation, pages)
        return '\n\n'.join([*parts, docstring(obj), f'A property, {back}.'])
    parts += [f'```python\n{signature(name, obj)}\n```', docstring(obj), parameters(obj, pages)]

    bodies = [node]
    if isinstance(node, ast.ClassDef):
        bodies = [n for n in node.body if getattr(n, 'name', '') == '__init__']
    parts += [errors(body) for body in bodies]
    return '\n\n'.join(p for p in [*parts, worked_example(definition)] if p)

# ---- the pages

def one_line(definition):
    "The first line of a docstring, for a table."
    return in_table((ast.get_docstring(definition.node) or '').split('\n')[0]).replace('<', '&lt;')

def link_to(name, pages):
    return f'[`{name}`]({pages[name.split(".")[0]]}.qmd#{name.lower()})'

def front(title, description):
    return f'---\ntitle: {json.dumps(title)}\ndescription: {json.dumps(description)}\ntoc-depth: 3\n---\n'

IMPORT = '```python\nfrom mfbook.all import *\n```'
IMPORT_COMMAND = '```python\nfrom mfbook.cli import main\n```'

def page(task, found, pages):
    "The page of one task: what is imported, an overview, and each definition with its methods."
    names = task.names.split()
    overview = ['| name | what it does |', '|---|---|']
    overview += [f'| [`{name}`](#{name.lower()}) | {one_line(found[name])} |' for name in names]
    parts = [front(task.title, task.description), IMPORT_COMMAND if task.page == 'command' else IMPORT, '\n'.join(overview)]
    others = SEE_ALSO.get(task.page, '').split()
    if others:
        parts.append('See also ' + ', '.join(link_to(name, pages) for name in others) + '.')
    for name in names:
        methods = [method for method in found if method.startswith(f'{name}.')]
        parts += [entry(found[each], pages) for each in (name, *methods)]
    return '\n\n'.join(parts) + '\n'

def index(pages):
    "The Reference's first page: each task, and what is called for it."
    parts = [front('Reference', 'What you can call, by what you want to do'), IMPORT,
             'Types and shapes of every parameter, errors, and an example from a lesson. The [glossary](../glossary.ipynb) '
             'has the words, the [notation](../notation.ipynb) the letters.']
    for task in TASKS:
        names = ', '.join(link_to(name, pages) for name in task.names.split())
        parts.append(f'## [{task.title}]({task.page}.qmd)\n\n{task.description}: {names}.')
    return '\n\n'.join(parts) + '\n'

def write_reference():
    "Write every page; those that are gone are removed."
    folder = cfg.nbs_path/'reference'
    folder.mkdir(exist_ok=True)
    for old in folder.glob('*.qmd'):
        old.unlink()
    pages = page_of()
    found = all_definitions()
    (folder/'index.qmd').write_text(index(pages), encoding='utf-8')
    for task in TASKS:
        (folder/f'{task.page}.qmd').write_text(page(task, found, pages), encoding='utf-8')

if __name__ == '__main__':
    write_reference()
