"""What is wrong in the notebooks before they become pages: each fault with its notebook and cell.

    python tools/check_pages.py [nbs/03_model.ipynb ...]      # all of them without an argument

An output that is an error; a picture without words for who cannot see it; a reference to nothing; and a name in
backticks that nothing in the book, in its libraries or in the notebook itself bears.
"""
import builtins, importlib, keyword, re, sys
from functools import cache
from pathlib import Path

from execnb.nbio import read_nb
from nbdev.test import nbglob

root = Path(__file__).resolve().parent.parent
LIBRARIES = {'torch': 'torch', 'nn': 'torch.nn', 'np': 'numpy', 'numpy': 'numpy', 'pd': 'pandas', 'pandas': 'pandas', 'plt': 'matplotlib.pyplot',
             'matplotlib': 'matplotlib', 'fastcore': 'fastcore', 'nbdev': 'nbdev', 'safetensors': 'safetensors', 'mfbook': 'mfbook'}
FILES = re.compile(r'\.(py|ipynb|csv|zip|dat|data|item|md|ini|txt|yml|json|jsonl|cff|safetensors|mplstyle|bin)$')

def names_in(code):
    "The words of Python source that could be names, those in its strings and comments too."
    return set(re.findall(r'[A-Za-z_]\w*', code))

@cache
def names_of_the_book():
    return names_in('\n'.join(p.read_text(encoding='utf-8') for p in [*sorted((root/'mfbook').glob('*.py')), root/'settings.ini', root/'Makefile']))

def exists(dotted):
    "Whether `torch.linalg.lstsq` and the like can be found."
    first, *rest = dotted.split('.')
    if first not in LIBRARIES: return False
    obj = importlib.import_module(LIBRARIES[first])
    for part in rest:
        if not hasattr(obj, part):
            try: obj = importlib.import_module(f'{obj.__name__}.{part}')
            except (ImportError, AttributeError): return False
        else: obj = getattr(obj, part)
    return True

def unknown_names(text, known):
    "Names in backticks that are nobody's. Only what looks like a name of Python is asked about."
    text = re.sub(r'^```.*?^```', '', text, flags=re.M | re.S)
    for m in re.finditer(r'(?<!`)`([A-Za-z_][\w.]*)(?:\(\))?`(?!`)', text):
        name = m[1].rstrip('.')
        last = name.split('.')[-1]
        if FILES.search(name) or last in known or last in names_of_the_book() or keyword.iskeyword(last) or hasattr(builtins, last): continue
        if not exists(name): yield f'`{m[1]}` names nothing in the book, its libraries or this notebook'

def text_faults(text, ids):
    "Pictures without words, and references to nothing, in prose."
    prose = re.sub(r'^```.*?^```|`[^`\n]*`', '', text, flags=re.M | re.S)
    for m in re.finditer(r'!\[\s*\]\(([^)]*)\)', prose): yield f'the picture {m[1]} has no alt text: ![words](...)'
    for m in re.finditer(r'<img\b(?![^>]*\balt="[^"]+")[^>]*>', text): yield f'{m[0][:60]} has no alt="words"'
    for m in re.finditer(r'(?<![\w\[])@((?:fig|tbl|sec|eq|lst)-[\w-]+)', prose):
        if m[1] not in ids['labels']: yield f'@{m[1]} refers to nothing: no cell has that label'
    for m in re.finditer(r'\[\^([^\]]+)\](?!:)', prose):
        if m[1] not in ids['footnotes']: yield f'the footnote [^{m[1]}] is nowhere'
    for m in re.finditer(r'\[[^\]\n]+\]\[([^\]\n]+)\]', prose):
        if m[1].lower() not in ids['links']: yield f'[...][{m[1]}] refers to no link'

def output_faults(cell):
    "Outputs that are errors, and figures without a description."
    alt = re.search(r'^#\|[ \t]*fig-alt:[ \t]*(\S.*)$', cell.source, re.M)
    for o in cell.outputs:
        if o.output_type == 'error': yield f'its output is an error: {o.ename}: {o.evalue}'
        if any(k.startswith('image/') for k in o.get('data', {})) and not alt: yield 'it draws a figure and has no `#| fig-alt: words`'

def faults(path):
    "Each fault of one notebook, or of one page of Markdown, in words."
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    if path.suffix == '.ipynb': cells = read_nb(path).cells
    else: cells = []
    everything = '\n'.join(c.source for c in cells) if cells else path.read_text(encoding='utf-8')
    outputs = ' '.join(''.join(o.get('text', '')) + ''.join(o.get('data', {}).get('text/plain', '')) for c in cells for o in c.get('outputs', []))
    known = names_in('\n'.join(c.source for c in cells if c.cell_type == 'code')) | names_in(outputs)
    for text in re.findall(r'^## Exercises$.*?(?=^## |\Z)', everything, re.M | re.S): known |= names_in(text)    # what the reader is to write
    ids = dict(labels=set(re.findall(r'^#\|\s*label:\s*(\S+)', everything, re.M)) | set(re.findall(r'\{#((?:fig|tbl|sec|eq|lst)-[\w-]+)', everything)),
               footnotes=set(re.findall(r'^\[\^([^\]]+)\]:', everything, re.M)),
               links={l.lower() for l in re.findall(r'^\[([^\]^]+)\]:', everything, re.M)})
    if not cells: yield from (f'{name}: {f}' for f in [*text_faults(everything, ids)])
    for i, c in enumerate(cells):
        found = [*unknown_names(c.source, known), *text_faults(c.source, ids)] if c.cell_type == 'markdown' else \
                [*output_faults(c)] if c.cell_type == 'code' else []
        yield from (f'{name}, cell {i}: {f}' for f in found)

def pages(): return sorted(nbglob(root/'nbs', as_path=True)) + sorted((root/'nbs').glob('*.qmd'))

if __name__ == '__main__':
    found = [f for p in ([Path(a).resolve() for a in sys.argv[1:]] or pages()) for f in faults(p)]
    if found: raise SystemExit('\n'.join(found))
