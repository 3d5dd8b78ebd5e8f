"""Numbers and captions of figures and tables, letters that can be read on a phone, and best values in bold.

A cell with `#| label: fig-name` and `#| fig-cap: words` makes a figure as in Quarto, one with `#| label: tbl-name` and
`#| tbl-cap: words` a table. In lesson 09 they are called Figure 9.1, Figure 9.2, Table 9.1; prose refers to them by
`@fig-name`. The numbers are put in here, so that smalldocs and Quarto show the same ones.

`#| best: lowest in columns RMSE and MAE; highest in columns nDCG@10` sets those values in bold; `in rows` is for tables with
a column for each method; without names all columns, or rows, of numbers count.

settings.ini names these steps among its `procs`.
"""
import re
from pathlib import Path

from nbdev.process import Processor

OPTION = r'^#\|\s*{}:\s*(.+)\n?'
KINDS = {'fig': 'Figure', 'tbl': 'Table'}
REFERENCE = re.compile(r'(?<![\w\[`])@((?:fig|tbl)-[\w-]+)')

# ---- numbers

def option(source, name):
    "The text of a cell's `#| name: text`, without the quotes that YAML needs; None if it has none."
    found = re.search(OPTION.format(name), source, re.M)
    return found[1].strip().strip('"') if found else None

def lesson_number(path):
    "'9.' for lesson 09, nothing for a page that is no lesson."
    number = re.match(r'(\d\d)_', Path(path).name)
    return f'{int(number[1])}.' if number else ''

def numbered(sources, chapter=''):
    "label -> 'Figure 9.2' for the cells with captions, in their order."
    counts = dict.fromkeys(KINDS, 0)
    names = {}
    for source in sources:
        label = option(source, 'label') or ''
        kind = label.split('-')[0]
        if kind in KINDS and option(source, f'{kind}-cap'):
            counts[kind] += 1
            names[label] = f'{KINDS[kind]} {chapter}{counts[kind]}'
    return names

class number_floats(Processor):
    "Numbers before captions, a place to link to at each figure and table, and links in prose."
    def end(self):
        codes = [cell for cell in self.nb.cells if cell.cell_type == 'code']
        names = numbered([cell.source or '' for cell in codes], lesson_number(self.nb.path_))
        for cell in codes:
            label = option(cell.source or '', 'label')
            if label in names:
                self.number(cell, label, names[label])
        for cell in self.nb.cells:
            if cell.cell_type == 'markdown':
                cell.source = REFERENCE.sub(lambda m: self.link(m, names), cell.source)

    def number(self, cell, label, name):
        kind = label.split('-')[0]
        caption = option(cell.source, f'{kind}-cap')
        cell.source = re.sub(OPTION.format('label'), '', cell.source, flags=re.M)
        said = f'{name}. {caption}'.replace('"', "'")
        cell.source = re.sub(OPTION.format(f'{kind}-cap'), lambda m: f'#| {kind}-cap: "{said}"\n', cell.source, flags=re.M)
        place = dict(output_type='display_data', metadata={}, data={'text/html': f'<span id="{label}" class="float-place"></span>'})
        cell.outputs = [place, *cell.outputs]

    def link(self, match, names):
        return f'[{names[match[1]]}](#{match[1]})' if match[1] in names else match[0]

# ---- figures on a phone

SMALLEST = 9         # pixels of the smallest letters
PHONE = 358          # pixels that a figure has on a screen of 390
SVG_SIZE = re.compile(r'<svg\b[^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"')
LETTERS = re.compile(r'scale\(([\d.]+) -[\d.]+\)')      # matplotlib's letters are drawn at 100 points and made smaller

def least_width(svg):
    "The width in pixels from which a figure's smallest letters have 9 pixels; 0 for a figure without letters."
    size, letters = SVG_SIZE.search(svg), [float(scale) for scale in LETTERS.findall(svg)]
    return SMALLEST*float(size[1])/(100*min(letters)) if size and letters else 0

def keep_readable(cell):
    "A figure that is too wide for a phone keeps the width that its letters need, and scrolls."
    for output in cell.get('outputs', []):
        svg = ''.join(output.get('data', {}).get('image/svg+xml', ''))
        width = least_width(svg)
        if width > PHONE:
            output['data']['image/svg+xml'] = svg.replace('<svg ', f'<svg style="min-width: {width:.0f}px" ', 1)

# ---- best values

ROW = re.compile(r'<tr.*?</tr>', re.S)
CELL = re.compile(r'<(t[hd])([^>]*)>(.*?)</\1>', re.S)
VALUE = re.compile(r'\s*([-+−]?\d[\d,]*(?:\.\d+)?|[-+−]?\.\d+)')
RULE = re.compile(r'(lowest|highest) in (columns|rows)\b(.*)')

def value_of(text):
    "The number that a cell begins with; None if it begins with none."
    found = VALUE.match(re.sub(r'<[^>]*>', '', text))
    return float(found[1].replace(',', '').replace('−', '-')) if found else None

def rules(text):
    "'lowest in columns RMSE and MAE; highest in rows' -> (min, 'columns', ['RMSE', 'MAE']), (max, 'rows', [])."
    for part in text.split(';'):
        found = RULE.fullmatch(part.strip())
        if not found:
            raise ValueError(f'`#| best: {part.strip()}` should be like "lowest in columns RMSE and MAE" or "highest in rows"')
        names = [name.strip() for name in found[3].split(' and ') if name.strip()]
        yield (min if found[1] == 'lowest' else max), found[2], names

def best_places(body, heads, rule):
    "Where the best values stand: (row, column) in the table's body, all of those that are equally good."
    choose, way, names = rule
    cells = {}
    for r, row in enumerate(body):
        for c, (tag, _, text) in enumerate(row):
            if tag == 'td' and value_of(text) is not None:
                line = c if way == 'columns' else r
                cells.setdefault(line, []).append((value_of(text), r, c))

    def is_named(line):
        if not names: return True
        said = heads.get(line, '') if way == 'columns' else body[line][0][2].strip()
        return said in names

    for line, found in cells.items():
        if is_named(line) and len(found) > 1:
            best = choose(value for value, _, _ in found)
            yield from ((r, c) for value, r, c in found if value == best)

def embolden(html, text):
    "The HTML of a table with its best values in bold, by the rules in `text`."
    rows = [match[0] for match in ROW.finditer(html)]
    first = next(n for n, row in enumerate(rows) if '<td' in row)
    heads = {n: cell[2].strip() for row in rows[:first] for n, cell in enumerate(CELL.findall(row)) if cell[2].strip()}
    body = [CELL.findall(row) for row in rows[first:]]
    bold = {place for rule in rules(text) for place in best_places(body, heads, rule)}

    for r, row in enumerate(rows[first:]):
        parts = iter(range(len(body[r])))
        def mark(cell):
            tag, attributes, inner = cell.groups()
            return f'<{tag}{attributes}><b>{inner}</b></{tag}>' if (r, next(parts)) in bold else cell[0]
        html = html.replace(row, CELL.sub(mark, row), 1)
    return html

def bold_best(cell):
    "The tables of a cell with `#| best: ...`; the option itself goes."
    text = option(cell.source or '', 'best') if cell.cell_type == 'code' else None
    if text is None:
        return
    cell.source = re.sub(OPTION.format('best'), '', cell.source, flags=re.M)
    for output in cell.outputs:
        html = ''.join(output.get('data', {}).get('text/html', ''))
        if '<table' in html:
            output['data']['text/html'] = embolden(html, text)
