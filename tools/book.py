"""Run the book: execute each notebook from top to bottom and store its outputs in it.

    python tools/book.py [nbs/01_ratings.ipynb ...]      # all of them without an argument

All of them: the seconds that each lesson took go to `benchmarks/lessons.json`, for the home page to tell. Stops at the first cell that fails, and then leaves that notebook as it was. Cells flagged `#| notest` or `#| slow` keep
the outputs they have. Figures are stored as SVG, and running twice gives the same bytes, cells that print timings apart.
"""
import json, math, os, sys, time
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
    lines = [l[2:].split() for l in cell.source.splitlines() if l.startswith('#|')]
    return cell.cell_type == 'code' and any(l and (l[0] in flags or l[:2] == ['eval:', 'false']) for l in lines)

def run_book(path, flags):
    "Execute the notebook at `path` in place; raises what its first failing cell raised."
    nb, shell = read_nb(path), CaptureShell(path, mpl_format='svg')
    for cell in nb.cells:
        if cell.cell_type == 'code' and not skipped(cell, flags): cell.outputs = []
    os.chdir(path.parent)
    try: shell.run_all(nb, exc_stop=True, preproc=lambda c: skipped(c, flags))
    except Exception: raise SystemExit(shell.prettytb(fname=path)) from None
    clean_nb(nb)
    tmp = path.with_suffix('.tmp')
    write_nb(nb, tmp)
    os.replace(tmp, path)

if __name__ == '__main__':
    flags = set(get_config(root/'settings.ini').tst_flags.split())
    paths = [Path(p).resolve() for p in sys.argv[1:]] or sorted(nbglob(root/'nbs', as_path=True))
    if len(paths) == 1: run_book(paths[0], flags)
    else:
        seconds = json.loads(LESSONS.read_text(encoding='utf-8')) if LESSONS.exists() else {}
        for p in paths:                    # one process each: a lesson starts with nothing in memory, as its reader does
            t = time.time()
            code = os.spawnv(os.P_WAIT, sys.executable, [sys.executable, __file__, str(p)])
            if code: raise SystemExit(code)
            print(f'{p.name:24} {time.time()-t:5.1f} s')
            if p.name[:2].isdigit(): seconds[p.stem] = math.ceil(time.time() - t)
            LESSONS.write_text(json.dumps(seconds, indent=1, sort_keys=True) + '\n', encoding='utf-8')
