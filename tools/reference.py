"""Write the Reference, a page for each module, `nbs/reference/NAME.qmd`, from its signatures, docments and docstrings.

    python tools/reference.py

It has what a user would call: the names in a module's `__all__`, their methods, and methods that a module adds to a
class of another one (`@patch`). The pages are made anew by every build and are not committed. A lesson tells how a
function came to be; its page here says how to call it.
"""
import ast
import importlib
import inspect
import json
import re
import sys
from pathlib import Path

from fastcore.docments import docments
from fastcore.foundation import L
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup, patch_name

root = Path(__file__).resolve().parent.parent
cfg = get_config(root/'settings.ini')
ONE_LINE = 88     # characters of a signature that stands on one line

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
    "What a module offers, in the order of its source, each class followed by its methods: (name, syntax tree)."
    source = Path(module.__file__).read_text(encoding='utf-8')
    found = {name: node for name, node in definitions(ast.parse(source)).items() if is_offered(name, module)}
    names = list(found)

    def place(name):
        "Where a name stands on the page: a method stands with its class, if that is on the page."
        first = name.split('.')[0]
        return names.index(first if first in found else name), names.index(name)
    return [(name, found[name]) for name in sorted(names, key=place)]

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

def type_name(annotation):
    if annotation is inspect.Parameter.empty:
        return ''
    if isinstance(annotation, str):
        return code(annotation)
    return code(getattr(annotation, '__name__', str(annotation)))

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

def parameters(obj):
    "The table of parameters, if there is more to say than their names."
    notes = docments(obj, full=True)
    rows = []
    for p in own_parameters(obj):
        if p.name in notes:
            words = NbdevLookup().link_line(in_table(notes[p.name].docment or ''))
            value = in_table(code(default(p))) if default(p) else ''
            rows.append((code(p.name), type_name(p.annotation), value, words))

    if not any(kind or words for _, kind, _, words in rows):
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

def entry(name, node, module):
    "One definition: signature, what it does, its parameters and errors, and the ways on."
    on_the_page = '.' in name and name.split('.')[0] in module.__all__     # its class is
    parts = [f'{"###" if on_the_page else "##"} {name}', links(name, node, module)]
    if isinstance(node, ast.Assign):
        return '\n\n'.join([*parts, f'```python\n{ast.unparse(node)}\n```'])

    obj = module
    for part in name.split('.'):
        obj = getattr(obj, part)
    if callable(obj):
        parts.append(f'```python\n{signature(name, obj)}\n```')
    parts.append(docstring(obj))
    if callable(obj):
        parts.append(parameters(obj))

    bodies = [node]
    if isinstance(node, ast.ClassDef):
        bodies = [n for n in node.body if getattr(n, 'name', '') == '__init__']
    parts += [errors(body) for body in bodies]
    return '\n\n'.join(p for p in parts if p)

def page(name, lesson):
    "The page of one module."
    module = importlib.import_module(f'mfbook.{name}')
    description = json.dumps(inspect.getdoc(module), ensure_ascii=False)
    head = f'---\ntitle: mfbook.{name}\ndescription: {description}\ntoc-depth: 3\n---\n'
    intro = (f'Built in [lesson {lesson}](../{lesson}_{name}.ipynb), where each definition is shown at work.\n\n'
             f'```python\nfrom mfbook.{name} import *\n```')
    return '\n\n'.join([head, intro, *(entry(n, node, module) for n, node in offered(module))]) + '\n'

def write_reference():
    "Write every module's page; pages of modules that are gone are removed."
    folder = cfg.nbs_path/'reference'
    folder.mkdir(exist_ok=True)
    for old in folder.glob('*.qmd'):
        old.unlink()
    for notebook in cfg.nbs_path.glob('[0-9][0-9]_*.ipynb'):
        lesson, name = notebook.stem.split('_', 1)
        if (cfg.lib_path/f'{name}.py').exists():     # lesson 00 has no module
            (folder/f'{name}.qmd').write_text(page(name, lesson), encoding='utf-8')

if __name__ == '__main__':
    write_reference()
