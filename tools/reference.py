"""Write the Reference: a page a module, `nbs/reference/NAME.qmd`, from the package's own signatures, docments and docstrings.

    python tools/reference.py

The pages are made anew by every build and are not committed. A lesson tells how a function came to be; its page here
says how to call it.
"""
import ast, importlib, inspect, json, re
from pathlib import Path

from fastcore.docments import docments
from fastcore.foundation import L
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup, patch_name

root = Path(__file__).resolve().parent.parent
cfg = get_config(root/'settings.ini')

def offered(module):
    "The public names of a module in the order of its source, each class followed by its methods: (name, syntax tree)."
    tree, found = ast.parse(Path(module.__file__).read_text(encoding='utf-8')), {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef): found.update({n: node for n in L(patch_name(node))})
        if isinstance(node, ast.Assign): found[getattr(node.targets[0], 'id', '_')] = node
        if isinstance(node, ast.ClassDef):
            found.update({node.name: node} | {f'{node.name}.{n.name}': n for n in node.body if isinstance(n, ast.FunctionDef)})
    public = [n for n in found if (n in module.__all__ or n.split('.')[0] in dir(module) and '.' in n) and not re.search(r'(^|\.)_', n)]
    home = {n: (public.index(n.split('.')[0]) if n.split('.')[0] in public else public.index(n)) for n in public}
    return [(n, found[n]) for n in sorted(public, key=lambda n: (home[n], public.index(n)))]

def code(text): return f'`{text}`' if '`' not in text else f'`` {text} ``'
def in_table(text): return text.replace('|', '\\|').replace('\n', ' ')

def default(p): return '' if p.default is p.empty else p.default.__name__ if callable(p.default) else repr(p.default)

def type_name(a): return '' if a is inspect.Parameter.empty else code(a if isinstance(a, str) else getattr(a, '__name__', str(a)))

def signature(name, obj):
    "As one would call it: `fit_sgd(model, train, valid=None, ...)`."
    short = name if inspect.isclass(obj) or '.' not in name else name.split('.', 1)[1]
    parts, star = [], False
    for p in inspect.signature(obj).parameters.values():
        if p.name in ('self', 'cls'): continue
        if p.kind is p.KEYWORD_ONLY and not star: parts.append('*'); star = True
        mark = {p.VAR_POSITIONAL: '*', p.VAR_KEYWORD: '**'}.get(p.kind, '')
        parts.append(mark + p.name + ('=' + default(p) if default(p) else ''))
    line = f'{short}({", ".join(parts)})'
    return line if len(line) <= 88 else f'{short}(\n    ' + ',\n    '.join(parts) + ')'

def parameters(obj):
    "The table of parameters, if there is more to say than their names."
    notes, lookup = docments(obj, full=True), NbdevLookup()
    rows = [(code(p.name), type_name(p.annotation), in_table(code(default(p))) if default(p) else '', lookup.link_line(in_table(notes[p.name].docment or '')))
            for p in inspect.signature(obj).parameters.values() if p.name in notes and p.name not in ('self', 'cls')]
    if not any(r[1] or r[3] for r in rows): return ''
    return '\n'.join(['| parameter | type | default | what it is |', '|---|---|---|---|', *(f'| {" | ".join(r)} |' for r in rows)])

def errors(node):
    "What the definition itself raises, in the words of its messages."
    found = {}
    for r in ast.walk(node):
        if not (isinstance(r, ast.Raise) and isinstance(r.exc, ast.Call) and r.exc.args): continue
        text = r.exc.args[0]
        if isinstance(text, ast.Constant): words = str(text.value)
        elif isinstance(text, ast.JoinedStr):
            words = ''.join(v.value if isinstance(v, ast.Constant) else '…' for v in text.values)
        else: continue
        found.setdefault(f'- `{ast.unparse(r.exc.func)}`: {words.replace("<", "&lt;")}')
    return '\n'.join(['Errors:', '', *found]) if found else ''

def entry(name, node, module):
    "One definition: signature, what it does, its parameters and errors, and the ways on."
    lookup, obj = NbdevLookup(), module
    for part in name.split('.'): obj = getattr(obj, part)
    level = '###' if '.' in name and name.split('.')[0] in module.__all__ else '##'
    url = f'{cfg.git_url}/blob/{cfg.branch}/mfbook/{module.__name__.split(".")[1]}.py#L{node.lineno}'
    ways = f'[source]({url}){{.source aria-label="source of {name}"}}'
    if shown := lookup.doc(f'{module.__name__}.{name}'): ways = f'[in the lesson]({shown}){{.source aria-label="{name} in the lesson"}} {ways}'
    parts = [f'{level} {name}', ways]
    if isinstance(node, ast.Assign): return '\n\n'.join([*parts, f'```python\n{ast.unparse(node)}\n```'])
    if callable(obj): parts.append(f'```python\n{signature(name, obj)}\n```')
    parts.append(lookup.linkify(re.sub(r'(?<!`)\b(\w+Error)\b(?!`)', r'`\1`', inspect.getdoc(obj) or '')))
    if callable(obj): parts.append(parameters(obj))
    if isinstance(node, ast.FunctionDef): parts.append(errors(node))
    elif isinstance(node, ast.ClassDef): parts += [errors(n) for n in node.body if getattr(n, 'name', '') == '__init__']
    return '\n\n'.join(p for p in parts if p)

def page(name, lesson):
    "The page of one module."
    module = importlib.import_module(f'mfbook.{name}')
    head = f'---\ntitle: mfbook.{name}\ndescription: {json.dumps(inspect.getdoc(module), ensure_ascii=False)}\ntoc-depth: 3\n---\n'
    intro = f'Built in [lesson {lesson}](../{lesson}_{name}.ipynb), where each definition is shown at work.\n\n' \
            f'```python\nfrom mfbook.{name} import *\n```'
    return '\n\n'.join([head, intro, *(entry(n, node, module) for n, node in offered(module))]) + '\n'

def write_reference():
    "Write every module's page; pages of modules that are gone are removed."
    folder = cfg.nbs_path/'reference'
    folder.mkdir(exist_ok=True)
    for old in folder.glob('*.qmd'): old.unlink()
    for nb in cfg.nbs_path.glob('[0-9][0-9]_*.ipynb'):
        lesson, name = nb.stem.split('_', 1)
        (folder/f'{name}.qmd').write_text(page(name, lesson), encoding='utf-8')

if __name__ == '__main__': write_reference()
