"""The Reference: every parameter and return has a type, every tensor a shape, every function a page and an example."""
import ast
import importlib.util
import inspect
import re
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mfbook.all import *

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'tools'))
try:
    spec = importlib.util.spec_from_file_location('reference', root/'tools'/'reference.py')
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
finally:
    sys.path.remove(str(root/'tools'))

found = reference.all_definitions()

def object_of(definition):
    obj = definition.module
    for part in definition.name.split('.'): obj = getattr(obj, part)
    return obj.fget if isinstance(obj, property) else obj

calls = {name: object_of(d) for name, d in found.items() if not isinstance(d.node, ast.Assign)}
EMPTY = inspect.Parameter.empty

# ---- types and shapes

def without_types(name, obj):
    "The parameters of one definition, and its return, that have no annotation."
    bare = [p.name for p in reference.own_parameters(obj) if p.annotation is EMPTY]
    if not inspect.isclass(obj) and inspect.signature(obj).return_annotation is EMPTY: bare.append('return')
    return [f'{name}: {parameter}' for parameter in bare]

def test_every_parameter_and_return_has_a_type():
    assert len(calls) > 180
    assert [bare for name, obj in calls.items() for bare in without_types(name, obj)] == []

def test_a_missing_type_is_found():
    def with_one(a:int, b): return a
    assert without_types('f', with_one) == ['f: b', 'f: return']

SHAPE = re.compile(r'\((\w+(\+1)?,|\w+(\+1)?(, \w+(\+1)?)+)\)')     # (n,), (n, k+1), (2, n)

def is_array(annotation):
    parts = annotation.__args__ if isinstance(annotation, types.UnionType) else (annotation,)
    return torch.Tensor in parts or np.ndarray in parts

def without_shapes(name, obj):
    "The tensors and arrays among its parameters, and its return, of which neither comment nor docstring gives the shape."
    notes = reference.notes_of(obj)
    annotations = {p.name: p.annotation for p in reference.own_parameters(obj)}
    if not inspect.isclass(obj): annotations['return'] = inspect.signature(obj).return_annotation
    for parameter, annotation in annotations.items():
        comment = (notes[parameter].docment or '') if parameter in notes else ''
        if is_array(annotation) and not SHAPE.search(comment):
            yield f'{name}: {parameter}'

def test_every_tensor_has_a_shape():
    assert [bare for name, obj in calls.items() for bare in without_shapes(name, obj)] == []

def test_a_missing_shape_is_found():
    def with_one(a:torch.Tensor, # (n, k+1) rows
                 b:torch.Tensor|list, # codes
                 c:int # (n,)
                ) -> np.ndarray: # (m,)
        return a
    assert list(without_shapes('f', with_one)) == ['f: b']

# ---- the types are true

def fits(value, annotation, default=EMPTY):
    "Whether a value is of the type; None is, too, where it is the default."
    if value is None and default is None or annotation is EMPTY: return True
    if isinstance(annotation, types.UnionType): return any(fits(value, part) for part in annotation.__args__)
    if annotation is None: return value is None
    if annotation is float: return isinstance(value, (float, int, np.floating)) and not isinstance(value, bool)
    return isinstance(value, annotation)

def called(f, *args, **kwargs):
    "Call it, and look at what went in and what came out."
    own = f.__func__ if inspect.ismethod(f) else f
    bound = inspect.signature(f).bind(*args, **kwargs)
    for name, value in bound.arguments.items():
        p = inspect.signature(f).parameters[name]
        if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL): continue
        assert fits(value, p.annotation, p.default), f'{own.__qualname__}: {name} is {type(value).__name__}, not {p.annotation}'
    back = f(*args, **kwargs)
    wanted = inspect.signature(f).return_annotation
    assert inspect.isclass(f) or fits(back, wanted), f'{own.__qualname__} returns {type(back).__name__}, not {wanted}'
    return back

def test_types_are_true_of_real_calls():
    "The first things a user calls, with what they are usually given."
    ratings = called(load_sample)
    small = called(ratings.take, ratings.users < 60)
    frame = called(small.to_frame)
    called(Ratings.from_frame, frame, titles={1: 'Toy Story (1995)'})
    called(small.encode, frame)
    split = called(split_random, small)
    called(split.summary)
    train, valid, test = split
    for f in (split_by_time, folds, bias_regularization, rating_counts): called(f, small)
    called(concat, train, valid)

    model = called(MatrixFactorization, train, 4, device='cpu')
    history = called(fit_sgd, model, train, valid, epochs=1, progress=False)
    called(history.frame)
    for solver in (SGDSolver(model, train), ALSSolver(model, train), GibbsSolver(model, train), VariationalSolver(model, train)):
        called(solver.sweep)
        called(solver.load_state_dict, called(solver.state_dict))
    errors = called(model.predict, test)
    called(rmse, errors, test)
    called(mae, errors.numpy(), test.values)
    called(model.predict, test.to_frame())
    rows = called(model.rows, 'user', torch.tensor([0, 1]))
    called(model.scores_of, rows)
    called(model.scores, 0)
    called(model.scores, called(model.row, 'user', 0))
    called(model.titles, [0, 1])
    called(model.set_prior, 'user', called(model.prior, 'user').mean, model.prior('user').precision)
    called(model.load_state_dict, model.state_dict())
    called(model.user_code, int(model.user_ids[0]))

    likes = {title: 5. for title in model.titles(range(3))}
    called(recommend, model, likes, n=3)
    called(recommend, model, int(model.user_ids[0]), seen=train, offset=called(films_where, model, 'Comedy'))
    called(recommend_all, model, train, users=torch.tensor([0, 1]))
    called(similar, model, next(iter(likes)))
    called(why, model, likes, model.titles([5])[0])
    called(model.fold_in, likes)
    called(learn_prior, model, train)
    called(cautious, rating_counts(train)[1], 1.)
    called(squared_errors, {'SGD': model}, test)
    called(ranking, model, train, test)
    called(list_metrics, [1, 2], [2])
    called(bootstrap, np.ones((3, 2)), lambda sums: sums, n=4)
    called(report, {'SGD': model}, train, test, n=10)
    events = called(events_from_ratings, small, 4.)
    called(list_quality, called(popular, events), events, events)
    called(fold_in_events, MatrixFactorization(events, 4), events)
    for features in (called(genres, train), called(activity, train), called(years, train)): assert isinstance(features, Features)

def test_a_type_that_is_not_true_is_found():
    def half(x:int) -> int: return x/2
    with pytest.raises(AssertionError, match='x is str'): called(half, 'a')
    with pytest.raises(AssertionError, match='returns float'): called(half, 3)

# ---- pages

def test_every_public_name_is_on_one_page():
    pages = reference.page_of()
    assert set(pages) == {name for name in found if '.' not in name}

@pytest.mark.parametrize('names, says', [('fit_sgd tune', 'on two pages'), ('nothing', 'does not offer')])
def test_a_name_in_the_wrong_place_is_found(monkeypatch, names, says):
    monkeypatch.setattr(reference, 'TASKS', [*reference.TASKS, reference.Task('more', 'More', 'More', names)])
    with pytest.raises(ValueError, match=says): reference.page_of()

def test_a_name_on_no_page_is_found(monkeypatch):
    monkeypatch.setattr(reference, 'TASKS', reference.TASKS[:-1])
    with pytest.raises(ValueError, match='main is on no page'): reference.page_of()

TEXTS = {task.page: reference.page(task, found, reference.page_of()) for task in reference.TASKS if task.page in ('fit', 'split', 'command')}

def test_a_page_begins_with_the_import():
    assert '```python\nfrom mfbook.all import *\n```' in TEXTS['fit'].split('##')[0]
    assert 'from mfbook.cli import main' in TEXTS['command'].split('##')[0]

def test_an_entry_has_types_a_return_and_an_example():
    entry = TEXTS['split'].split('## split_random')[1].split('\n## ')[0]
    assert '| `ratings` | [`Ratings`](data.qmd#ratings) |' in entry
    assert '| *returns* | [`Split`](split.qmd#split) |' in entry
    assert re.search(r'Example, \[from lesson 03\]\(\.\./03_holdout\.ipynb#cell-[0-9a-f]{8}\):\n\n```python\nsplit_random\(', entry)

WITHOUT_EXAMPLE = {'regularization_grid', 'tags', 'fit_compiled_implicit_als'}     # no cell of a lesson calls them; the page links to their code

def test_every_function_has_an_example():
    functions = [d for d in found.values() if isinstance(d.node, ast.FunctionDef) and '.' not in d.name]
    assert {d.name for d in functions if not reference.worked_example(d)} == WITHOUT_EXAMPLE

def test_the_sidebar_lists_every_page():
    listed = re.findall(r'reference/(\w+)\.qmd', (root/'_quarto.yml').read_text(encoding='utf-8'))
    assert listed == ['index', *(task.page for task in reference.TASKS)]
