"""The walls of the house: who may name a tensor of the model, where the formula stands, what imports what, what is public.

Each test reads syntax trees, and says where it found what it does not allow.
"""
import ast
import builtins
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from execnb.nbio import read_nb

root = Path(__file__).resolve().parent.parent
lessons = {p.stem[3:]: int(p.stem[:2]) for p in sorted((root/'nbs').glob('[0-9][0-9]_*.ipynb'))}     # name -> number
exporting = [name for name, n in lessons.items() if '#| default_exp' in (root/'nbs'/f'{n:02}_{name}.ipynb').read_text(encoding='utf-8')]
COMMAND = 'cli'                        # its names are for the shell: `import mfbook` and `mfbook.all` leave it out
offerings = [name for name in exporting if name != COMMAND]
HAND_WRITTEN = {'__init__', '__main__', 'all'}     # the package's front doors: no lesson imports them
files = sorted(path for folder in ('mfbook', 'tools', 'benchmarks') for path in (root/folder).glob('*.py')
               if path.stem != '_modidx')
modules = [path for path in files if path.parent.name == 'mfbook' and path.stem not in HAND_WRITTEN]
every_file = dict(argvalues=files, ids=lambda path: f'{path.parent.name}/{path.stem}')
every_module = dict(argvalues=modules, ids=lambda path: path.stem)

def tree_of(path): return ast.parse(path.read_text(encoding='utf-8'))

# ---- only the model, the solvers and their kernels name a tensor of the model

MAY_NAME_TENSORS = {'model', 'training'}               # a gradient step moves the tensors themselves; others write rows
NAMES_OF_A_PEER = {'ranking'}                          # implicit's models call their tables as ours does
SIDED = r'(bias|factors|prior_\w*|feature_(mean|covariance|weights|precision))'
TENSOR = re.compile(rf'mu|(user|item)_{SIDED}')        # a whole name
PART = re.compile(rf'_{SIDED}')                        # what stands behind `{side}` in f'{side}_factors'

def docstrings(tree):
    "The nodes of all docstrings: words about the code, not code."
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            yield node.body[0].value

def tensors_named(tree):
    "Each place that names a tensor of the model: as an attribute, or as a string that could be handed to `getattr`."
    words = {id(node) for node in docstrings(tree)}
    pieces = {id(piece) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for piece in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and TENSOR.fullmatch(node.attr):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in words:
            name = (PART if id(node) in pieces else TENSOR).fullmatch(node.value.strip())
            if name:
                yield node.lineno, node.value
            elif PART.fullmatch(node.value):               # side + '_factors'
                yield node.lineno, node.value

@pytest.mark.parametrize('path', **every_file)
def test_only_the_model_and_the_solvers_name_its_tensors(path):
    "The others use `predict`, `scores`, `rows`, `put_rows`, `prior`, `set_prior`, `baseline` and `mean`, solvers too."
    if path.parent.name == 'mfbook' and path.stem in MAY_NAME_TENSORS:
        assert list(tensors_named(tree_of(path))), 'it names none: take it off the list'
    elif path.stem in NAMES_OF_A_PEER:
        assert {name for _, name in tensors_named(tree_of(path))} <= {'user_factors', 'item_factors'}
    else:
        assert list(tensors_named(tree_of(path))) == []

@pytest.mark.parametrize('code, found', [
    ('model.mu', 1), ('model.user_bias[0]', 1), ('model.item_factors = x', 1), ('m.user_prior_precision', 1),
    ('getattr(model, "item_bias")', 1), ('getattr(model, f"{side}_factors")', 1), ('getattr(model, side + "_bias")', 1),
    ('state["mu"]', 1), ('state[f"{side}_prior_mean"]', 1), ('model.rows("user")', 0), ('user_bias = 3', 0),
    ('def f():\n    "mu"\n    return 1', 0), ('print(f"{n} factors")', 0), ('x.mu_of', 0), ('history.best', 0)])
def test_a_named_tensor_is_found(code, found):
    assert len(list(tensors_named(ast.parse(code)))) == found

# ---- the formula stands in one place

FORMULA = ['predict_pairs', 'scores_of']     # for pairs; the same as a product of matrices

NAMES = {'b_u': r'b_u|user_bias', 'b_i': r'b_i|item_bias', 'p': r'p|p_u|user_factors', 'q': r'q|q_i|item_factors'}
PRODUCTS = {'matmul', 'mm', 'mv', 'bmm', 'einsum', 'dot', 'inner'}

def parts_in(node):
    "Which parts of the formula an expression holds, by any of the names they go by."
    used = {getattr(n, 'id', getattr(n, 'attr', '')) for n in ast.walk(node)}
    return {part for part, name in NAMES.items() if any(re.fullmatch(name, n) for n in used)}

def meet(node, kinds, first, second):
    "Whether `node` is an operation of one of `kinds` with the part `first` on one side and `second` on the other."
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, kinds):
        return False
    sides = parts_in(node.left), parts_in(node.right)
    return first in sides[0] and second in sides[1] or second in sides[0] and first in sides[1]

def is_product_call(node):
    "`torch.einsum('nk,nk->n', p, q)` and the like, as a function or as a method."
    return isinstance(node, ast.Call) and getattr(node.func, 'attr', '') in PRODUCTS and {'p', 'q'} <= parts_in(node)

def formulas(tree):
    "The functions that add up both biases, and multiply the factors of both sides."
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            nodes = list(ast.walk(function))
            adds_biases = any(meet(n, (ast.Add, ast.Sub), 'b_u', 'b_i') for n in nodes)
            multiplies_factors = any(meet(n, (ast.Mult, ast.MatMult), 'p', 'q') or is_product_call(n) for n in nodes)
            if adds_biases and multiplies_factors:
                yield function.name

@pytest.mark.parametrize('code, found', [
    ('return mu + b_u + b_i + (p*q).sum(1)', 1), ('x = b_u + b_i\n    return x + torch.einsum("nk,nk->n", p, q)', 1),
    ('return r - m.mu - m.user_bias[u] - m.item_bias[i] - m.user_factors[u] @ m.item_factors[i]', 1),
    ('return values - b_u - b_i', 0), ('return reg*(p*p + q*q) + b_reg*(b_u**2 + b_i**2)', 0), ('return error*q + reg*p, b_u - lr*g, b_i - lr*g', 0), ('return p*q', 0)])
def test_a_formula_is_found(code, found):
    assert len(list(formulas(ast.parse(f'def f(mu, p, q, b_u, b_i):\n    {code}')))) == found

@pytest.mark.parametrize('path', **every_file)
def test_the_formula_stands_in_one_module(path):
    found = set(formulas(tree_of(path)))
    if path.stem == 'model':
        assert FORMULA[0] in found and found <= set(FORMULA)
    else:
        assert found == set()

def test_the_models_predictions_are_the_formulas():
    "`forward` hands the rows to `predict_pairs`; the matrix form agrees with it (its own tests hold that)."
    functions = {n.name: n for n in ast.walk(tree_of(root/'mfbook'/'model.py')) if isinstance(n, ast.FunctionDef)}
    assert set(FORMULA) <= set(functions)
    calls = {n.func.id for n in ast.walk(functions['forward']) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert 'predict_pairs' in calls

# ---- what imports what

def imported(tree):
    "What a tree imports of the book: (module, the name imported from it or None)."
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ''
            if node.level: module = f'mfbook.{module}'.rstrip('.')
            if module == 'mfbook':
                yield from ((alias.name, None) for alias in node.names)
            elif module.startswith('mfbook.'):
                yield from ((module.split('.')[1], alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name.split('.')[1], None) for alias in node.names if alias.name.startswith('mfbook.'))

def later(tree, number):
    "The modules imported that are not of an earlier lesson, hand-written ones included."
    return sorted({module for module, _ in imported(tree) if lessons.get(module, 100) >= number})

@pytest.mark.parametrize('path', **every_module)
def test_a_module_imports_only_earlier_lessons(path):
    assert later(tree_of(path), lessons[path.stem]) == []

@pytest.mark.parametrize('name', lessons)
def test_a_lesson_uses_only_earlier_lessons(name):
    "In the cells that are not exported too: a reader of lesson N has read no later one. Its own module it may import."
    found = set()
    for cell in read_nb(root/'nbs'/f'{lessons[name]:02}_{name}.ipynb').cells:
        if cell.cell_type == 'code' and not re.search(r'^[%!]', cell.source, re.M):
            found |= set(later(ast.parse(cell.source), lessons[name] + 1))
    assert found == set()

def private_uses(tree):
    "Private names of the book's modules that a tree imports, or takes as an attribute of a module it has imported."
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {alias.asname or alias.name: alias.name for alias in node.names if alias.name.startswith('mfbook')}
        elif isinstance(node, ast.ImportFrom) and (node.module == 'mfbook' or node.level and not node.module):
            aliases |= {alias.asname or alias.name: alias.name for alias in node.names}
    for module, name in imported(tree):
        if (name or module).startswith('_'):
            yield f'{module}.{name}'
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r'_[^_]', node.attr) and ast.unparse(node.value) in aliases:
            yield ast.unparse(node)

@pytest.mark.parametrize('path', **every_file)
def test_nobody_uses_a_private_name_of_another_module(path):
    assert list(private_uses(tree_of(path))) == []

@pytest.mark.parametrize('code, found', [
    ('from mfbook.model import _check', 1), ('from .model import _check', 1), ('from mfbook import als\nals._inner(1)', 1),
    ('import mfbook.als as a\na._inner', 1), ('import mfbook.als\nmfbook.als._inner', 1), ('from mfbook import _modidx', 1),
    ('from mfbook.model import check_whole', 0), ('from torch import _C', 0), ('self._inner', 0), ('import mfbook\nmfbook.__version__', 0)])
def test_a_private_name_is_found(code, found):
    assert len(list(private_uses(ast.parse(code)))) == found

# ---- what is public: a new name in it is a decision

PUBLIC = {
    'ratings': 'Ratings load_sample',
    'model': 'MatrixFactorization Row Prior',
    'holdout': 'rating_counts Split split_random split_by_time split_last folds rmse mae concat fit_biases_koren bias_regularization BiasSolver',
    'training': 'batches Penalty penalty_of penalized_loss OptimizerStep sgd adam closed_form compiled cosine constant SGDSolver',
    'runs': 'History fit fit_biases fit_sgd tune tune_biases tune_sgd regularization_grid cross_validate',
    'evaluation': 'bootstrap interval squared_errors slices calibration worst_films list_metrics ranking Report report',
    'recommending': 'films_where recommend recommend_all similar find_film film_map plot_map list_facts cautious favorites_beside',
    'newcomers': 'my_ratings learn_prior why plot_why',
    'als': 'ALSSolver fit_als tune_als',
    'gibbs': 'Draws GibbsSolver fit_gibbs effective_size coverage',
    'variational': 'VariationalSolver fit_variational',
    'features': 'Features genres years columns combine who_rated_what activity averages tags',
    'implicit': ('events_from_ratings events_from_frame split_users UserSplit list_quality scores_of_rows popular ImplicitALSSolver fit_implicit_als '
                 'fold_in_events BPRSolver fit_bpr ease ease_scores'),
    'movielens': 'datasets download load_ratings load_fold',
    'scale': 'Synthetic synthetic_ratings start_on_parts',
    'compiled': 'CompiledSGDSolver fit_compiled_sgd MeanFieldSolver fit_mean_field CompiledVariationalSolver '
                'fit_compiled_variational CompiledImplicitALSSolver fit_compiled_implicit_als',
    'distributed': 'write_shards RankFit fit_distributed',
    'cli': 'main',
}

PUBLIC_NAMES = [(lesson, name) for lesson in offerings for name in PUBLIC[lesson].split()]

def star():
    "What `from mfbook.all import *` gives."
    space = {}
    exec('from mfbook.all import *', space)
    return set(space) - {'__builtins__'}

def test_all_gives_what_a_user_calls_and_nothing_else():
    expected = [name for _, name in PUBLIC_NAMES]
    assert len(set(expected)) == len(expected), 'one name in two lessons'
    assert sorted(star() - set(expected)) == [], 'new; is it what a user would call? Else export it with `#| exporti`'
    assert sorted(set(expected) - star()) == [], 'gone'

@pytest.mark.parametrize('name', exporting)
def test_a_lesson_offers_its_names(name):
    "`__all__` is the list, and each name in it is defined in this very module."
    module = importlib.import_module(f'mfbook.{name}')
    assert sorted(module.__all__) == sorted(PUBLIC[name].split())
    tree = tree_of(root/'mfbook'/f'{name}.py')
    defined = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    defined |= {target.id for n in tree.body if isinstance(n, ast.Assign) for target in n.targets if isinstance(target, ast.Name)}
    assert set(module.__all__) <= defined

def test_public_names_hide_nothing():
    "No private name, no builtin, no module, and none of the names that notebooks give to numpy, pandas and torch."
    space = {}
    exec('from mfbook.all import *', space)
    assert [n for n in star() if n.startswith('_') or hasattr(builtins, n) or n in {'np', 'pd', 'plt', 'torch', 'nn'}] == []
    assert [n for n in star() if isinstance(space[n], type(sys))] == []

def test_all_lists_every_lesson_in_order():
    tree = tree_of(root/'mfbook'/'all.py')
    assert ast.get_docstring(tree)
    assert [ast.unparse(node) for node in tree.body[1:]] == [f'from .{name} import *' for name in offerings]

METHODS = '''
from mfbook.model import MatrixFactorization
print([m for m in ('fold_in', 'save', 'load') if not callable(getattr(MatrixFactorization, m, None))])
'''

def test_the_package_imports_every_lesson():
    assert [module for module, _ in imported(tree_of(root/'mfbook'/'__init__.py'))] == offerings

def test_methods_of_later_lessons_are_there_whatever_is_imported():
    "In a fresh process: importing one early module brings what later lessons patch onto its classes."
    run = subprocess.run([sys.executable, '-c', METHODS], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == '[]'
