"""Run the book: execute each notebook from top to bottom and store its outputs in it.

    python tools/book.py [nbs/01_ratings.ipynb ...]      # all of them without an argument

The seconds that each lesson took in a run of several go to `benchmarks/lessons.json`, for the home page to tell. Stops
at the first cell that fails, and then leaves that notebook as it was. Cells flagged `#| notest` or `#| slow` keep the
outputs they have. Figures are stored as SVG, and running twice gives the same bytes, cells that print timings apart.
"""
import json
import math
import os
import sys
import time
from pathlib import Path

root = Path(__file__).resolve().parent.parent
LESSONS = root/'benchmarks'/'lessons.json'
os.environ['SOURCE_DATE_EPOCH'] = '0'      # matplotlib writes this instead of today's date into an SVG

from execnb.nbio import read_nb, write_nb
from execnb.shell import CaptureShell
from nbdev.clean import clean_nb
from nbdev.config import get_config
from nbdev.test import nbglob

def skipped(cell, flags):
    "Whether `cell` carries one of the flags that keep it from running."
    if cell.cell_type != 'code':
        return False
    for line in cell.source.splitlines():
        words = line[2:].split() if line.startswith('#|') else []
        if words and (words[0] in flags or words[:2] == ['eval:', 'false']):
            return True
    return False

def run_book(path, flags):
    "Execute the notebook at `path` in place; says what its first failing cell raised, and ends."
    nb = read_nb(path)
    for cell in nb.cells:
        if cell.cell_type == 'code' and not skipped(cell, flags):
            cell.outputs = []

    shell = CaptureShell(path, mpl_format='svg')
    os.chdir(path.parent)
    try:
        shell.run_all(nb, exc_stop=True, preproc=lambda cell: skipped(cell, flags))
    except Exception:
        raise SystemExit(shell.prettytb(fname=path)) from None

    clean_nb(nb)
    whole = path.with_suffix('.tmp')
    write_nb(nb, whole)
    os.replace(whole, path)

def run_alone(path):
    "Execute one notebook in a process of its own: a lesson starts with nothing in memory, as its reader does."
    start = time.time()
    code = os.spawnv(os.P_WAIT, sys.executable, [sys.executable, __file__, str(path)])
    if code:
        raise SystemExit(code)
    return time.time() - start

def run_all(paths):
    "Execute several notebooks, and write down how long each lesson took. Lessons that are gone are forgotten."
    old = json.loads(LESSONS.read_text(encoding='utf-8')) if LESSONS.exists() else {}
    seconds = {name: s for name, s in old.items() if (root/'nbs'/f'{name}.ipynb').exists()}
    for path in paths:
        took = run_alone(path)
        print(f'{path.name:24} {took:5.1f} s')
        if path.name[:2].isdigit():
            seconds[path.stem] = math.ceil(took)
        LESSONS.write_text(json.dumps(seconds, indent=1, sort_keys=True) + '\n', encoding='utf-8')

if __name__ == '__main__':
    paths = [Path(p).resolve() for p in sys.argv[1:]] or sorted(nbglob(root/'nbs', as_path=True))
    if len(paths) == 1:
        run_book(paths[0], set(get_config(root/'settings.ini').tst_flags.split()))
    else:
        run_all(paths)
