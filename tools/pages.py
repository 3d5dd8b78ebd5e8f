"""What nbdev does to each notebook on its way to a page, beyond its own steps. settings.ini names these (`procs`).

They change what nbdev hands on, so that a page is the same whether smalldocs or Quarto makes it.
"""
import itertools
import re
import sys
from functools import cache
from pathlib import Path

import yaml
from execnb.nbio import mk_cell
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup
from nbdev.process import Processor

root = Path(__file__).resolve().parent.parent
sys.path.append(str(root/'tools'))
from contents import time_to_run

FOLDED_AWAY = {'export', 'hide', 'default_exp'}     # flags of cells that run and are not shown
DEFINITION = re.compile(r'^(?:async )?(?:def|class) (\w+)', re.M)
SHOW_DOC = re.compile(r'^show_doc\(((?:\w+\.)?(\w+))\)', re.M)

def rm_hidden(cell):
    "nbdev's `rm_export` without `exporti`: what the book's machinery is made of stands open in its lesson, too."
    if FOLDED_AWAY & set(cell.directives_): del cell['source']

def heading(name):
    "What stands above an exported definition in a lesson: its name, not listed on the side, and the way to its source."
    source = NbdevLookup().code(name)
    if not source: raise ValueError(f'{name} is in no exported module; run make export')
    return f'### {name} {{.unlisted}}\n\n[source]({source}){{.source aria-label="source of {name}"}}\n'

class place_headings(Processor):
    "nbdev sets headings where they fall; here each stands right before the cell that defines what it names."
    def end(self):
        docs = {}
        for cell in self.nb.cells:
            shown = SHOW_DOC.search(cell.source or '') if cell.cell_type == 'code' else None
            if shown:
                text = heading(shown[1]).splitlines(True)
                cell.outputs = [dict(output_type='display_data', metadata={}, data={'text/markdown': text})]
                docs[shown[2]] = cell

        moved = {id(cell) for cell in docs.values()}
        cells = []
        for cell in self.nb.cells:
            if id(cell) in moved: continue
            names = DEFINITION.findall(cell.source or '') if cell.cell_type == 'code' else []
            cells += [docs.pop(name) for name in names if name in docs]
            cells.append(cell)
        self.nb.cells = cells

def headings(cell):
    "The places that the headings of a cell make by themselves: those in prose, and that of a shown definition."
    text = cell.source if cell.cell_type == 'markdown' else ''
    for output in cell.get('outputs', []):
        text += ''.join(output.get('data', {}).get('text/markdown', ''))
    for title in re.findall(r'^#+ +(.+?)(?: *\{[^}]*\})? *$', text, re.M):
        yield title.lower().replace(' ', '-')
        yield title.lower().split('.')[-1]        # a method's own name

class place_anchors(Processor):
    "nbdev links a name in backticks to `page.html#name`: definitions without a heading (`#| exporti`) get that place."
    def end(self):
        taken = {place for cell in self.nb.cells for place in headings(cell)}
        cells = []
        for cell in self.nb.cells:
            exported = cell.cell_type == 'code' and {'exporti', 'exports'} & set(cell.directives_)
            names = DEFINITION.findall(cell.source) if exported else []
            places = [name.lower() for name in names if name.lower() not in taken]
            if places:
                spans = ''.join(f'<span id="{place}"></span>\n' for place in places)
                cells.append(mk_cell(f'```{{=html}}\n{spans}```', 'markdown'))
                taken |= set(places)
            cells.append(cell)
        self.nb.cells = cells

# ---- under a lesson's title

LESSON = re.compile(r'(\d\d)_\w+\.ipynb')
RAW_HTML = '```{=html}\n%s\n```'

@cache
def part_of(name):
    "The part of the book that a lesson's file stands in, as the sidebar names it."
    def search(contents, part=''):
        for entry in contents:
            if entry.get('href') == name:
                return part
            found = search(entry['contents'], entry['section']) if 'contents' in entry else None
            if found is not None:
                return found

    config = yaml.safe_load((root/'_quarto.yml').read_text(encoding='utf-8'))
    return search([entry for entry in config['website']['sidebar']['contents'] if isinstance(entry, dict)])

def reading_time(prose):
    "How long a lesson takes to read, in the words that it opens with."
    found = re.search(r'\*\*It takes\*\* (.+? to read)', prose)
    if not found:
        raise ValueError('a lesson says at its top how long it takes: **It takes** half an hour to read and ...')
    return found[1]

def lesson_bar(name, prose):
    "What a reader of a lesson is told and offered before its first word. Its prose says how long it takes to read."
    cfg = get_config()
    file = f'{cfg.nbs_path.name}/{name}'
    times = f'{reading_time(prose)}; {time_to_run(name)}'.strip('; ')
    links = {
        'Open in Colab': f'https://colab.research.google.com/github/{cfg.user}/{cfg.repo}/blob/{cfg.branch}/{file}',
        'Download notebook': f'notebooks/{name}',
        'Edit': f'{cfg.git_url}/edit/{cfg.branch}/{file}',
        'Report an issue': f'{cfg.git_url}/issues/new?title=Lesson+{name[:2]}:+'}
    offers = ''.join(f'<li><a href="{href}">{words}</a></li>' for words, href in links.items())
    text = (f'<div class="lesson-bar">\n<p>Lesson {name[:2]} <span>of part {part_of(name)}</span></p>\n'
            f'<p>{times[0].upper()}{times[1:]}</p>\n<ul>{offers}</ul>\n')
    if cfg.published != 'yes':
        text += (f'<p>{cfg.user}/{cfg.repo} is not on GitHub yet, where Colab would look for it: '
                 'download the notebook.</p>\n')
    return text + '</div>'

class open_lesson(Processor):
    "A lesson's number goes before its title, and the bar of links below it."
    def end(self):
        name = Path(self.nb.path_).name
        if not LESSON.fullmatch(name):
            return
        head = self.nb.cells[0]
        front = yaml.safe_load(head.source.strip().strip('-'))
        front['title'] = f'{name[:2]} {front["title"]}'
        head.source = f'---\n{yaml.dump(front)}\n---\n\n'

        prose = '\n'.join(cell.source for cell in self.nb.cells if cell.cell_type == 'markdown')
        self.nb.cells.insert(2, mk_cell(RAW_HTML % lesson_bar(name, prose), 'markdown'))    # after nbdev's own warning

class number_sections(Processor):
    "Sections of lesson 09 are 9.1, 9.2, ... Their places keep their names: Pandoc leaves such a number out of them."
    def end(self):
        lesson = LESSON.fullmatch(Path(self.nb.path_).name)
        if not lesson:
            return
        count = itertools.count(1)

        def numbered(mark):
            return f'## {int(lesson[1])}.{next(count)} '
        for cell in self.nb.cells:
            if cell.cell_type == 'markdown':
                cell.source = re.sub(r'^## +', numbered, cell.source, flags=re.M)

# ---- tables

TABLE = re.compile(r'<table[^>]*class="dataframe".*?</table>', re.S)
HEAD = re.compile(r'<thead>.*?</thead>', re.S)
ROW = re.compile(r'<tr.*?</tr>', re.S)
CELL = re.compile(r'<(?P<tag>t[hd])(?P<attributes>[^>]*)>(?P<text>.*?)</t[hd]>', re.S)
NUMBER = re.compile(r'(?P<whole>[-+−]?[\d,]*)(?P<places>\.\d+)?(?P<exponent>e[-+]?\d+)?(?P<unit> ?[%x×])?')
NOTHING = {'', 'NaN', '&lt;NA&gt;', 'nan', 'inf', '—', '-', 'None'}
POINT_WIDE, DIGIT_WIDE = '\u2008', '\u2007'     # spaces as wide as a decimal point, as wide as a digit

def one_head(table):
    "pandas gives the index's name a row of its own; here it stands beside the other columns' names."
    head = HEAD.search(table)
    rows = [CELL.findall(row) for row in ROW.findall(head[0])] if head else []
    if len(rows) != 2 or len(rows[0]) != len(rows[1]):
        return table

    merged = []
    for name, index in zip(*rows):
        if name[2].strip() and index[2].strip():
            return table                        # both rows say something: a table of two-fold names
        merged.append(index if index[2].strip() else name)
    row = ''.join(f'<{tag}{attributes}>{text}</{tag}>' for tag, attributes, text in merged)
    return table.replace(head[0], f'<thead><tr>{row}</tr></thead>')

def as_number(text):
    "The match of a number, None for words and for what pandas writes where there is nothing."
    return NUMBER.fullmatch(text) if text not in NOTHING else None

def columns_of(table):
    "The texts in each column of a table's body."
    rows = [CELL.findall(row) for row in ROW.findall(table) if '<td' in row]
    width = max((len(row) for row in rows), default=0)
    return [[row[i][2].strip() for row in rows if i < len(row)] for i in range(width)]

def decimal_places(column):
    "The most characters that a number of the column has from its decimal point on; None for a column of words."
    texts = [text for text in column if text not in NOTHING]
    numbers = [as_number(text) for text in texts]
    if not all(numbers):
        return None
    return max((len(number['places'] or '') for number in numbers), default=0)

def align_cell(cell, places):
    "One cell (a match of `CELL`) of a column whose numbers have so many `places`."
    tag, attributes, text = cell.groups()
    if places is None:
        return f'<{tag} class="words"{attributes}>{text}</{tag}>'

    number = as_number(text.strip())
    if tag == 'th' or not number or number['exponent']:
        return cell[0]
    own = len(number['places'] or '')
    missing = places - own
    if not missing:
        return cell[0]
    pad = DIGIT_WIDE*missing if own else POINT_WIDE + DIGIT_WIDE*(missing - 1)
    return f'<td{attributes}>{text.strip()}{pad}</td>'

def align(table):
    "The HTML of a pandas table with its words on the left (class `words`) and its numbers on their decimal point."
    table = one_head(table)
    places = [decimal_places(column) for column in columns_of(table)]

    def align_row(row):
        column = iter(places)
        return CELL.sub(lambda cell: align_cell(cell, next(column, 0)), row[0])
    return ROW.sub(align_row, table)

def align_tables(cell):
    "Each stored table of a cell, aligned."
    for output in cell.get('outputs', []):
        html = ''.join(output.get('data', {}).get('text/html', ''))
        if 'class="dataframe"' in html:
            html = re.sub(r'<style scoped>.*?</style>\n?', '', html, flags=re.S)
            output['data']['text/html'] = TABLE.sub(lambda table: align(table[0]), html)
