"""What nbdev does to each notebook on its way to a page, beyond its own steps. settings.ini names these (`procs`).

They change what nbdev hands on, so that a page is the same whether smalldocs or Quarto makes it.
"""
import re
from pathlib import Path

import yaml
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup
from nbdev.process import Processor

def heading(name):
    "What stands above an exported definition in a lesson: its name and the way to its source. The code itself follows."
    source = NbdevLookup().code(name)
    if not source: raise ValueError(f'{name} is in no exported module; run make export')
    return f'### {name}\n\n[source]({source}){{.source aria-label="source of {name}"}}\n'

class place_headings(Processor):
    "nbdev sets the headings of a row of exported cells where they fall; here each stands right before the cell that defines it."
    def end(self):
        cells, docs, out = self.nb.cells, {}, []
        for c in cells:
            if c.cell_type == 'code' and (m := re.search(r'^show_doc\(((?:\w+\.)?(\w+))\)', c.source or '', re.M)):
                docs[m[2]] = c
                c.outputs = [dict(output_type='display_data', metadata={}, data={'text/markdown': heading(m[1]).splitlines(True)})]
        moved = {id(c) for c in docs.values()}
        for c in cells:
            if id(c) in moved: continue
            if c.cell_type == 'code':
                for m in re.finditer(r'^(?:async )?(?:def|class) (\w+)', c.source or '', re.M):
                    if m[1] in docs: out.append(docs.pop(m[1]))
            out.append(c)
        self.nb.cells = out

class notebook_links(Processor):
    "Beside a lesson: open it in Colab, or download it."
    def end(self):
        cfg, name = get_config(), Path(self.nb.path_).name
        if not re.match(r'\d\d_', name): return
        front = yaml.safe_load(self.nb.cells[0].source.strip().strip('-'))
        place = f'{cfg.user}/{cfg.repo}/blob/{cfg.branch}/{cfg.nbs_path.name}/{name}'
        front['code-links'] = [
            {'text': 'Open in Colab', 'icon': 'play-circle', 'href': f'https://colab.research.google.com/github/{place}'},
            {'text': 'Download notebook', 'icon': 'download', 'href': f'notebooks/{name}'}]
        self.nb.cells[0].source = f'---\n{yaml.dump(front)}\n---\n\n'

# ---- tables

CELL = re.compile(r'<(t[hd])([^>]*)>(.*?)</t[hd]>', re.S)
NUMBER = re.compile(r'([-+−]?[\d,]*)(\.\d+)?(e[-+]?\d+)?( ?[%x×])?')
NOTHING = {'', 'NaN', '&lt;NA&gt;', 'nan', 'inf', '—', '-', 'None'}

def one_head(table):
    "pandas gives the index's name a row of its own; here it stands beside the other columns' names."
    rows = re.findall(r'<tr.*?</tr>', (re.search(r'<thead>.*?</thead>', table, re.S) or [''])[0], re.S)
    if len(rows) != 2: return table
    names, index = (CELL.findall(r) for r in rows)
    merged = [i if not n[2].strip() and i[2].strip() else n for n, i in zip(names, index)]
    if len(names) != len(index) or any(n[2].strip() and i[2].strip() for n, i in zip(names, index)): return table
    row = ''.join(f'<{t}{a}>{x}</{t}>' for t, a, x in merged)
    return table.replace(''.join(re.search(r'<thead>.*?</thead>', table, re.S)[0]), f'<thead><tr>{row}</tr></thead>')

def align(table):
    "The HTML of a pandas table with its words on the left (class `words`) and its numbers on their decimal point."
    table = one_head(table)
    rows = [CELL.findall(r) for r in re.findall(r'<tr.*?</tr>', table, re.S) if '<td' in r]
    column = lambda i: [r[i][2].strip() for r in rows if i < len(r)]
    width = max(map(len, rows), default=0)
    number = lambda t: t not in NOTHING and NUMBER.fullmatch(t)
    words = {i for i in range(width) if any(t not in NOTHING and not number(t) for t in column(i))}
    places = {i: max([len(m[2]) for t in column(i) if (m := number(t)) and m[2]], default=0) for i in range(width) if i not in words}
    def cell(c, i):
        if i in words: return f'<{c[1]} class="words"{c[2]}>{c[3]}</{c[1]}>'
        m = number(c[3].strip())
        if c[1] == 'td' and m and not m[3] and (short := places.get(i, 0) - len(m[2] or '')):
            pad = ('' if m[2] else '\u2008') + '\u2007' * (short - (not m[2]))     # as wide as a point, as wide as a digit
            return f'<td{c[2]}>{c[3].strip()}{pad}</td>'
        return c[0]
    def row(m):
        i = iter(range(10**6))
        return CELL.sub(lambda c: cell(c, next(i)), m[0])
    return re.sub(r'<tr.*?</tr>', row, table, flags=re.S)

def align_tables(cell):
    "Each stored table of a cell, aligned."
    for o in cell.get('outputs', []):
        html = o.get('data', {}).get('text/html')
        if html and 'class="dataframe"' in ''.join(html):
            text = re.sub(r'<style scoped>.*?</style>\n?', '', ''.join(html), flags=re.S)
            o['data']['text/html'] = re.sub(r'<table[^>]*class="dataframe".*?</table>', lambda m: align(m[0]), text, flags=re.S)
