"""Numbers and captions of figures and tables, best values in bold, and what a figure may weigh."""
import importlib.util
import re
from pathlib import Path

import pytest
from execnb.nbio import dict2nb, read_nb
from nbdev.processors import FilterDefaults

root = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location('floats', root/'tools'/'floats.py')
floats = importlib.util.module_from_spec(spec)
spec.loader.exec_module(floats)

notebooks = sorted((root/'nbs').glob('*.ipynb'))
lessons = [path for path in notebooks if re.match(r'\d\d_', path.name)]
every = dict(argvalues=notebooks, ids=lambda path: path.stem)
every_lesson = dict(argvalues=lessons, ids=lambda path: path.stem)

def code_cells(path): return [cell for cell in read_nb(path).cells if cell.cell_type == 'code']

def svgs(cell): return [''.join(o.data['image/svg+xml']) for o in cell.outputs if 'image/svg+xml' in o.get('data', {})]

# ---- numbers and captions

OPENING = ('# Title\n\n> One line.', '**It takes** 30 minutes to read and a minute to run.')

def processed(*cells, name='09_als.ipynb'):
    "The cells of a page, as nbdev and the book's own steps make them of prose and (code, outputs)."
    def cell(c):
        if isinstance(c, str): return dict(cell_type='markdown', source=c, metadata={})
        return dict(cell_type='code', source=c[0], outputs=[c[1]], metadata={}, execution_count=None)
    nb = dict2nb(dict(cells=[cell(c) for c in (*OPENING, *cells)], metadata={}, nbformat=4, nbformat_minor=5))
    nb.path_ = root/'nbs'/name
    FilterDefaults()(nb)
    return nb.cells[-len(cells):]

SVG = dict(output_type='display_data', metadata={}, data={'image/svg+xml': '<svg></svg>'})

def table(*rows):
    text = ''.join('<tr>' + ''.join(f'<{tag}>{cell}</{tag}>' for tag, cell in row) + '</tr>' for row in rows)
    return dict(output_type='execute_result', metadata={}, data={'text/html': f'<table border="1" class="dataframe">{text}</table>'})

HEAD = [('th', ''), ('th', 'RMSE'), ('th', 'nDCG')]
BODY = [[('th', 'SGD'), ('td', '0.90'), ('td', '0.2')], [('th', 'ALS'), ('td', '0.85'), ('td', '0.1')], [('th', 'none'), ('td', ''), ('td', '0.2')]]
TABLE = table(HEAD, *BODY)

def test_figures_and_tables_have_the_lessons_number(monkeypatch):
    monkeypatch.chdir(root)
    cells = processed(('#| label: fig-one\n#| fig-cap: First\nplot()', SVG), ('#| label: tbl-one\n#| tbl-cap: "Second: it"\nt', TABLE),
                      ('#| label: fig-two\n#| fig-cap: Third\nplot()', SVG), 'See @fig-two, @tbl-one and me@fig-two.')
    assert [floats.option(c.source, 'fig-cap') or floats.option(c.source, 'tbl-cap') for c in cells[:3]] == [
        'Figure 9.1. First', 'Table 9.1. Second: it', 'Figure 9.2. Third']
    assert [c.outputs[0]['data']['text/html'] for c in cells[:3]] == [
        f'<span id="{label}" class="float-place"></span>' for label in ('fig-one', 'tbl-one', 'fig-two')]
    assert cells[3].source == 'See [Figure 9.2](#fig-two), [Table 9.1](#tbl-one) and me@fig-two.'

def test_a_page_that_is_no_lesson_counts_from_1(monkeypatch):
    monkeypatch.chdir(root)
    cells = processed(('#| label: fig-one\n#| fig-cap: First\nplot()', SVG), name='results.ipynb')
    assert '"Figure 1. First"' in cells[0].source and 'label' not in cells[0].source

@pytest.mark.parametrize('path', **every_lesson)
def test_each_figure_has_a_caption_and_a_label_of_its_own(path):
    labels = []
    for cell in code_cells(path):
        label, caption = floats.option(cell.source, 'label'), floats.option(cell.source, 'fig-cap')
        if svgs(cell):
            assert label and label.startswith('fig-') and caption, f'cell {cell.idx_} needs `#| label: fig-name` and `#| fig-cap: words`'
        if floats.option(cell.source, 'tbl-cap'):
            assert label and label.startswith('tbl-'), f'cell {cell.idx_} needs `#| label: tbl-name`'
            assert any('<table' in ''.join(o.get('data', {}).get('text/html', '')) for o in cell.outputs), f'cell {cell.idx_} shows no table'
        labels += [label] if label else []
    assert len(set(labels)) == len(labels)

@pytest.mark.parametrize('path', **every_lesson)
def test_what_a_lesson_measured_can_be_cited(path):
    "The table of *What we measured* has a number, if there is one."
    cells = read_nb(path).cells
    start = next(c.idx_ for c in cells if c.cell_type == 'markdown' and re.search(r'^## What we measured', c.source, re.M))
    tables = [c for c in cells[start:] if c.cell_type == 'code' and any('class="dataframe"' in ''.join(o.get('data', {}).get('text/html', '')) for o in c.outputs)]
    assert all(floats.option(c.source, 'tbl-cap') for c in tables[:1])

# ---- best values

def bold(html): return re.findall(r'<b>(.*?)</b>', html)

@pytest.mark.parametrize('rule, found', [
    ('lowest in columns RMSE', ['0.85']), ('highest in columns nDCG', ['0.2', '0.2']), ('lowest in columns', ['0.85', '0.1']),
    ('lowest in columns RMSE; highest in columns nDCG', ['0.2', '0.85', '0.2']), ('lowest in rows ALS', ['0.1']), ('lowest in rows', ['0.2', '0.1'])])
def test_best_values_are_bold(rule, found):
    "Those that are equally good, too; an empty cell is no number, and a row of one number has no best."
    assert bold(floats.embolden(TABLE['data']['text/html'], rule)) == found

def test_numbers_with_words_around_them():
    html = table(HEAD, [('th', 'a'), ('td', '−0.016 ± 0.02'), ('td', '<i>1,404</i>')], [('th', 'b'), ('td', '+0.010'), ('td', '.5')])['data']['text/html']
    assert bold(floats.embolden(html, 'lowest in columns')) == ['−0.016 ± 0.02', '.5']

def test_the_option_is_gone_from_the_page(monkeypatch):
    monkeypatch.chdir(root)
    cell, = processed(('#| label: tbl-one\n#| tbl-cap: it\n#| best: lowest in columns RMSE\nt', TABLE))
    assert 'best' not in cell.source and '<b>0.85</b>' in cell.outputs[1]['data']['text/html']

def test_a_rule_that_is_none_is_refused():
    with pytest.raises(ValueError, match='should be like "lowest in columns'): list(floats.rules('smallest in columns RMSE'))

@pytest.mark.parametrize('path', **every)
def test_rules_name_columns_that_are_there(path):
    "Each rule of the book marks something in its table."
    for cell in code_cells(path):
        for rule in floats.rules(floats.option(cell.source, 'best') or 'lowest in rows'):
            if not floats.option(cell.source, 'best'): continue
            html = next(h for o in cell.outputs if '<table' in (h := ''.join(o.get('data', {}).get('text/html', ''))))
            for name in rule[2] or ['']:
                words = f'{"lowest" if rule[0] is min else "highest"} in {rule[1]} {name}'.strip()
                assert bold(floats.embolden(html, words)), f'cell {cell.idx_}: "{words}" marks nothing'

# ---- weight, and type that can be read

HEAVIEST = 250_000     # bytes of a figure

@pytest.mark.parametrize('path', **every)
def test_no_figure_is_heavy(path):
    heavy = {cell.idx_: len(svg) for cell in code_cells(path) for svg in svgs(cell) if len(svg.encode()) > HEAVIEST}
    assert heavy == {}, 'draw the layer of many dots with rasterized=True, or fewer of them'

WIDE = {'fig-report', 'fig-results-scale', 'fig-scale', 'fig-clock', 'fig-peers'}      # these scroll on a phone

def letters(size, width): return f'<svg width="1pt" viewBox="0 0 {width} 100"><g transform="scale({size/100} -{size/100})"></g></svg>'

def test_the_width_that_letters_need():
    "Letters of 9 points in a drawing 358 points wide have 9 pixels on a phone; the smallest count."
    assert floats.least_width(letters(9, 358)) == pytest.approx(358)
    assert floats.least_width(letters(12, 358) + letters(6, 358)) == pytest.approx(537)
    assert floats.least_width('<svg viewBox="0 0 700 100"></svg>') == 0

def test_a_wide_figure_keeps_the_width_it_needs():
    cells = [dict2nb(dict(cells=[dict(cell_type='code', source='x', metadata={}, execution_count=None,
             outputs=[dict(output_type='display_data', metadata={}, data={'image/svg+xml': svg})])], metadata={}, nbformat=4, nbformat_minor=5)).cells[0]
             for svg in (letters(9, 512), letters(9, 340))]
    for cell in cells: floats.keep_readable(cell)
    assert ['min-width: 512px' in svg for cell in cells for svg in svgs(cell)] == [True, False]

@pytest.mark.parametrize('path', **every)
def test_figures_can_be_read_on_a_phone(path):
    "Letters have 9 pixels on a screen of 390, apart from figures of many panels or lines, which scroll."
    small = {floats.option(cell.source, 'label'): round(floats.least_width(svg)) for cell in code_cells(path) for svg in svgs(cell)
             if floats.least_width(svg) > floats.PHONE + 1}
    assert set(small) <= WIDE, f'{small}: draw it at most 4.8 inches wide, with letters of 9 points or more'
