"""Which cell of a lesson shows a definition at work. The Reference has that cell's code, and links to it.

A cell is an example of what it calls, or names, if it is in the page and not exported. Of several, one that is open,
shows something and is short comes first, in the lesson that defines the name rather than in a later one.
"""
import ast
import re
from functools import cache
from pathlib import Path

from execnb.nbio import mk_cell, read_nb
from nbdev.config import get_config
from nbdev.process import Processor

root = Path(__file__).resolve().parent.parent
LONGEST = 12      # lines of an example that the Reference has in full
NOT_SHOWN = re.compile(r'^#\|\s*(hide|exports?|exporti|default_exp|echo: false)\b', re.M)
RECEIVERS = {     # how lessons call the objects whose methods they use
    'Ratings': 'ratings train valid test Ratings sample events',
    'MatrixFactorization': 'model MatrixFactorization',
    'History': 'history sgd_history',
    'Split': 'split',
    'Draws': 'draws Draws',
    'Report': 'card report'}

def place(cell_id):
    "What a link to a cell ends in."
    return f'cell-{cell_id}'

def without_options(source):
    "A cell's code without its `#|` lines."
    return '\n'.join(line for line in source.splitlines() if not line.startswith('#|')).strip()

def called(source):
    "What some code calls: `name` for functions and classes, `receiver.name` for methods."
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
            yield re.sub(r'^mfbook\.\w+\.', '', ast.unparse(node.func))

def named(source):
    "Names that some code uses without a call, as in `cross_validate(fit_sgd, ...)` and `schedule=cosine`."
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id

def is_shown(cell):
    "Whether a cell is code that a reader sees and that defines nothing of the package."
    if cell.cell_type != 'code' or NOT_SHOWN.search(cell.source):
        return False
    code = without_options(cell.source)
    return bool(code) and code[0] not in '!%'

@cache
def cells_that_use():
    "What is called or named -> the cells that do so: (rank, lesson's file name, cell id, code)."
    found = {}
    for path in sorted((root/'nbs').glob('[0-9][0-9]_*.ipynb')):
        for cell in filter(is_shown, read_nb(path).cells):
            code = without_options(cell.source)
            length = len(code.splitlines())
            is_test = 'test_' in code or 'raises' in code
            for kind, names in enumerate((called(code), named(code))):
                rank = (length > LONGEST, 'code-fold' in cell.source, kind, is_test, not cell.outputs, length)
                for name in set(names):
                    found.setdefault(name, []).append((rank, path.name, cell.id, code))
    return found

def example(name, lesson):
    "The example of `name`, defined in the lesson with this file name: (file name, cell id, code); None if none has one."
    owner, _, method = name.rpartition('.')
    calls = [f'{receiver}.{method}' for receiver in RECEIVERS.get(owner, '').split()] if owner else [name]
    uses = [use for call in calls for use in cells_that_use().get(call, [])]
    own = [use for use in uses if use[1] == lesson]
    later = [use for use in uses if use[1] > lesson]
    if not own and not later:
        return None
    return min(own or later, key=lambda use: use[0])[1:]

class place_cells(Processor):
    "Each cell that may be an example gets a place to link to. settings.ini names it among its `procs`."
    def end(self):
        wanted = {cell_id for uses in cells_that_use().values() for _, _, cell_id, _ in uses}
        cells = []
        for cell in self.nb.cells:
            if getattr(cell, 'id', None) in wanted:
                cells.append(mk_cell(f'```{{=html}}\n<span id="{place(cell.id)}"></span>\n```', 'markdown'))
            cells.append(cell)
        self.nb.cells = cells
