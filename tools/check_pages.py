"""What is wrong in the notebooks before they become pages: each fault with its notebook and cell.

    python tools/check_pages.py [nbs/02_model.ipynb ...]      # all of them without an argument

An output that is an error; a picture without words for a reader who cannot see it; a reference to nothing; and a name
in backticks that nothing in the book, in its libraries or in the notebook itself bears.
"""
import builtins
import importlib
import keyword
import re
import sys
from functools import cache
from pathlib import Path

from execnb.nbio import read_nb
from nbdev.test import nbglob

root = Path(__file__).resolve().parent.parent
LIBRARIES = {      # how prose calls a library -> what to import
    'torch': 'torch', 'nn': 'torch.nn', 'np': 'numpy', 'numpy': 'numpy', 'pd': 'pandas', 'pandas': 'pandas',
    'plt': 'matplotlib.pyplot', 'matplotlib': 'matplotlib', 'fastcore': 'fastcore', 'nbdev': 'nbdev',
    'safetensors': 'safetensors', 'platformdirs': 'platformdirs', 'mfbook': 'mfbook'}
ENDINGS = 'py ipynb csv zip dat data item md ini txt yml json jsonl cff safetensors mplstyle bin'
FILES = re.compile(rf'\.({ENDINGS.replace(" ", "|")})$')
FENCED = r'^```.*?^```'

# ---- names in backticks

def names_in(code):
    "The words of Python source that could be names, those in its strings and comments too."
    return set(re.findall(r'[A-Za-z_]\w*', code))

@cache
def names_of_the_book():
    files = [*sorted((root/'mfbook').glob('*.py')), root/'settings.ini', root/'Makefile']
    return names_in('\n'.join(path.read_text(encoding='utf-8') for path in files))

def exists(dotted):
    "Whether `torch.linalg.lstsq` and the like can be found."
    first, *rest = dotted.split('.')
    if first not in LIBRARIES:
        return False
    obj = importlib.import_module(LIBRARIES[first])
    for part in rest:
        if hasattr(obj, part):
            obj = getattr(obj, part)
            continue
        try:
            obj = importlib.import_module(f'{obj.__name__}.{part}')
        except (ImportError, AttributeError):
            return False
    return True

def is_known(name, known):
    "Whether a name is a file's, one of `known`, the book's, Python's or a library's."
    last = name.split('.')[-1]
    if FILES.search(name) or last in known or last in names_of_the_book():
        return True
    return keyword.iskeyword(last) or hasattr(builtins, last) or exists(name)

def unknown_names(text, known):
    "Names in backticks that are nobody's. Only what looks like a name of Python is asked about."
    text = re.sub(FENCED, '', text, flags=re.M | re.S)
    for match in re.finditer(r'(?<!`)`([A-Za-z_][\w.]*)(?:\(\))?`(?!`)', text):
        if not is_known(match[1].rstrip('.'), known):
            yield f'`{match[1]}` names nothing in the book, its libraries or this notebook'

# ---- pictures, references, outputs

def places(text):
    "What prose may refer to: labels of figures and the like, footnotes, and links defined by name."
    labels = re.findall(r'^#\|\s*label:\s*(\S+)', text, re.M)
    labels += re.findall(r'\{#((?:fig|tbl|sec|eq|lst)-[\w-]+)', text)
    footnotes = re.findall(r'^\[\^([^\]]+)\]:', text, re.M)
    links = [link.lower() for link in re.findall(r'^\[([^\]^]+)\]:', text, re.M)]
    return dict(labels=set(labels), footnotes=set(footnotes), links=set(links))

def text_faults(text, ids):
    "Pictures without words, and references to nothing, in prose. `ids` are the `places` of its page."
    prose = re.sub(FENCED + r'|`[^`\n]*`', '', text, flags=re.M | re.S)
    for match in re.finditer(r'!\[\s*\]\(([^)]*)\)', prose):
        yield f'the picture {match[1]} has no alt text: ![words](...)'
    for match in re.finditer(r'<img\b(?![^>]*\balt="[^"]+")[^>]*>', text):
        yield f'{match[0][:60]} has no alt="words"'
    for match in re.finditer(r'(?<![\w\[])@((?:fig|tbl|sec|eq|lst)-[\w-]+)', prose):
        if match[1] not in ids['labels']:
            yield f'@{match[1]} refers to nothing: no cell has that label'
    for match in re.finditer(r'\[\^([^\]]+)\](?!:)', prose):
        if match[1] not in ids['footnotes']:
            yield f'the footnote [^{match[1]}] is nowhere'
    for match in re.finditer(r'\[[^\]\n]+\]\[([^\]\n]+)\]', prose):
        if match[1].lower() not in ids['links']:
            yield f'[...][{match[1]}] refers to no link'

def output_faults(cell):
    "Outputs that are errors, and figures without a description."
    described = re.search(r'^#\|[ \t]*fig-alt:[ \t]*(\S.*)$', cell.source, re.M)
    for output in cell.outputs:
        if output.output_type == 'error':
            yield f'its output is an error: {output.ename}: {output.evalue}'
        is_figure = any(kind.startswith('image/') for kind in output.get('data', {}))
        if is_figure and not described:
            yield 'it draws a figure and has no `#| fig-alt: words`'

# ---- a notebook, a page

def known_names(cells):
    "Names that a notebook's prose may use: those in its code and outputs, and those that its exercises ask for."
    known = set()
    for cell in cells:
        if cell.cell_type == 'code':
            known |= names_in(cell.source)
        for output in cell.get('outputs', []):
            known |= names_in(''.join(output.get('text', '')))
            known |= names_in(''.join(output.get('data', {}).get('text/plain', '')))
    everything = '\n'.join(cell.source for cell in cells)
    for exercises in re.findall(r'^## Exercises$.*?(?=^## |\Z)', everything, re.M | re.S):
        known |= names_in(exercises)
    return known

def notebook_faults(cells):
    "Each fault of a notebook's cells, with the cell's number."
    known = known_names(cells)
    ids = places('\n'.join(cell.source for cell in cells))
    for i, cell in enumerate(cells):
        found = []
        if cell.cell_type == 'markdown':
            found = [*unknown_names(cell.source, known), *text_faults(cell.source, ids)]
        elif cell.cell_type == 'code':
            found = output_faults(cell)
        yield from (f'cell {i}: {fault}' for fault in found)

def faults(path):
    "Each fault of one notebook, or of one page of Markdown, in words."
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    if path.suffix == '.ipynb':
        yield from (f'{name}, {fault}' for fault in notebook_faults(read_nb(path).cells))
    else:
        text = path.read_text(encoding='utf-8')
        yield from (f'{name}: {fault}' for fault in text_faults(text, places(text)))

def pages():
    return sorted(nbglob(root/'nbs', as_path=True)) + sorted((root/'nbs').glob('*.qmd'))

if __name__ == '__main__':
    paths = [Path(argument).resolve() for argument in sys.argv[1:]] or pages()
    found = [fault for path in paths for fault in faults(path)]
    if found:
        raise SystemExit('\n'.join(found))
