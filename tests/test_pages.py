"What stops the build of the site: each fault is found in a small page that has it, said with its place, and not found in one that has not."
import importlib.util, json, sys
from pathlib import Path

import pytest
from execnb.nbio import dict2nb
from nbdev.processors import FilterDefaults

root = Path(__file__).resolve().parent.parent

def tool(name):
    spec = importlib.util.spec_from_file_location(name, root/'tools'/f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(root/'tools'))
    try: spec.loader.exec_module(module)
    finally: sys.path.remove(str(root/'tools'))
    return module

check, build, pages, contents, lighten, search_index = map(tool, ['check_pages', 'build_docs', 'pages', 'contents', 'lighten', 'search_index'])

def notebook(path, *cells):
    "A notebook of `cells`: prose, or (code, outputs)."
    def cell(i, c):
        code = dict(cell_type='code', execution_count=None, source=c[0], outputs=c[1]) if isinstance(c, tuple) else dict(cell_type='markdown', source=c)
        return dict(code, id=f'c{i}', metadata={})
    path.write_text(json.dumps(dict(cells=[cell(i, c) for i, c in enumerate(cells)], metadata={}, nbformat=4, nbformat_minor=5)))
    return path

SVG = dict(output_type='display_data', metadata={}, data={'image/svg+xml': '<svg></svg>'})
ERROR = dict(output_type='error', ename='ValueError', evalue='no', traceback=[])
FAULTY = {
    'an unknown name':    ('Then `fit_sgdd` fills it.', '`fit_sgdd` names nothing'),
    'an unknown method':  ('Call `torch.linalg.lstsqr`.', '`torch.linalg.lstsqr` names nothing'),
    'an unknown call':    ('Call `fit_alz()` now.', '`fit_alz` names nothing'),
    'a bare picture':     ('![](assets/x.svg)', 'assets/x.svg has no alt text'),
    'a bare HTML picture': ('<img src="x.svg">', 'has no alt="words"'),
    'an empty HTML alt':  ('<img src="x.svg" alt="">', 'has no alt="words"'),
    'no such figure':     ('See @fig-curve.', '@fig-curve refers to nothing'),
    'no such footnote':   ('As shown.[^1]', 'the footnote [^1] is nowhere'),
    'no such link':       ('See [the paper][koren].', '[...][koren] refers to no link'),
    'an error':           (('1/0', [ERROR]), 'its output is an error: ValueError: no'),
    'a figure unsaid':    (('plot()', [SVG]), 'no `#| fig-alt: words`'),
    'a figure half said': (('#| fig-alt:\nplot()', [SVG]), 'no `#| fig-alt: words`'),
}

@pytest.mark.parametrize('cell, says', FAULTY.values(), ids=FAULTY)
def test_a_fault_is_found_with_its_place(tmp_path, cell, says):
    found = list(check.faults(notebook(tmp_path/'nb.ipynb', 'Fine.', cell)))
    assert len(found) == 1 and found[0].startswith('nb.ipynb, cell 1: ') and says in found[0], found

SOUND = ['Then `fit_sgd` fills it, by `torch.linalg.lstsq()`, `nn.Embedding` and `len`.', '`ratings.csv`, `make demo`, `x[0]`, `mine`',
         '![a curve](x.svg) and <img src="y.svg" alt="a dot">', 'See @fig-curve, [the paper][koren] and a note.[^1]\n\n[koren]: https://x\n\n[^1]: it',
         '```\n`nonsense_here` [a][b] @fig-none\n```', 'mail me@fig-x.org', '## Exercises\n\nWrite `split_users_in_two`.',
         ('#| label: fig-curve\n#| fig-alt: a curve that falls\nmine = 1', [SVG])]

def test_no_fault_is_found_where_there_is_none(tmp_path):
    assert list(check.faults(notebook(tmp_path/'nb.ipynb', *SOUND))) == []

def test_a_page_of_markdown_is_looked_at_too(tmp_path):
    (tmp_path/'p.qmd').write_text('---\ntitle: x\n---\n\n![](y.svg)\n')
    assert list(check.faults(tmp_path/'p.qmd')) == ['p.qmd: the picture y.svg has no alt text: ![words](...)']

def test_a_fault_stops_the_build(tmp_path, monkeypatch):
    bad = notebook(tmp_path/'nb.ipynb', 'Then `fit_sgdd` fills it.')
    monkeypatch.setattr(build, 'pages', lambda: [bad])
    monkeypatch.setattr(build.subprocess, 'run', lambda *a, **k: None)           # the data of a page
    monkeypatch.setattr(build, 'write_reference', lambda: None)
    monkeypatch.setattr(build, 'proc_nbs', lambda *a, **k: pytest.fail('it went on'))
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit, match='nb.ipynb, cell 0: `fit_sgdd` names nothing'): build.build()

@pytest.mark.parametrize('href, says', [('gone.html', 'leads nowhere'), ('b.html#gone', 'leads nowhere'), ('#gone', 'leads nowhere'), ('assets/gone.svg', 'leads nowhere'),
                                        ('/book/gone.html', 'leads nowhere'), ('b.html', ''), ('b.html#here', ''), ('/book/b.html#here', ''), ('https://elsewhere.org/x', ''), ('.', '')])
def test_links_of_the_built_site(tmp_path, href, says):
    (tmp_path/'index.html').write_text(f'<p id="top"><a href="{href}">x</a>')
    (tmp_path/'b.html').write_text('<p id="here"><img src="index.html">')
    found = list(build.broken_links(tmp_path, '/book'))
    assert found == ([f'index.html: {href} {says}'] if says else [])

# ---- what a page shows of a notebook's cells

def processed(*cells):
    "The cells of a page, as nbdev and the book's own steps make them of a lesson's: prose, or code and no outputs."
    def cell(text):
        kind = 'code' if text.startswith('#|') else 'markdown'
        return dict(cell_type=kind, source=text, metadata={}, **(dict(outputs=[]) if kind == 'code' else {}))
    nb = dict2nb(dict(cells=[cell(c) for c in ('# Title\n\n> One line.', '#| default_exp training', '**It takes** two hours to read.', *cells)], metadata={}, nbformat=4, nbformat_minor=5))
    nb.path_ = root/'nbs'/'04_training.ipynb'
    FilterDefaults()(nb)
    head, warning, bar, opening, *shown = [c.source for c in nb.cells]
    assert "title: '04 Title'" in head or 'title: 04 Title' in head
    assert 'Lesson 04 <span>of part I A first recommender</span>' in bar and f'Two hours to read; {contents.time_to_run("04_training.ipynb")}<' in bar
    return shown

def test_machinery_is_shown_without_a_heading(monkeypatch):
    "`#| exporti` stands open, with a place to link to; `#| hide` is gone; `#| exports` has a heading."
    monkeypatch.chdir(root)
    shown = processed('#| exporti\ndef inner(): return 1\n\ndef _own(): return 2', '#| hide\ninner()', '#| exports\ndef cosine(): return 3')
    assert shown == ['```{=html}\n<span id="inner"></span>\n<span id="_own"></span>\n```', 'def inner(): return 1\n\ndef _own(): return 2',
                     '#| echo: false\n#| output: asis\nshow_doc(cosine)', 'def cosine(): return 3']

def test_a_place_is_made_once(monkeypatch):
    "No id twice on a page: a heading in prose makes one as well."
    monkeypatch.chdir(root)
    assert processed('## Gram', '#| exporti\ndef gram(): return 1') == ['## 4.1 Gram', 'def gram(): return 1']

def test_sections_are_numbered(monkeypatch):
    monkeypatch.chdir(root)
    assert processed('## One\n\ntext\n\n## Two', '### Not this', '## Three') == ['## 4.1 One\n\ntext\n\n## 4.2 Two', '### Not this', '## 4.3 Three']

@pytest.mark.parametrize('published, says', [('no', True), ('yes', False)])
def test_a_lesson_says_that_colab_cannot_find_it_yet(monkeypatch, published, says):
    monkeypatch.chdir(root)
    monkeypatch.setitem(pages.get_config().d, 'published', published)
    bar = pages.lesson_bar('09_als.ipynb', '**It takes** a day to read.')
    assert ('is not on GitHub yet' in bar) == says and 'blob/main/nbs/09_als.ipynb"' in bar and 'href="notebooks/09_als.ipynb"' in bar

def test_a_lesson_that_says_no_time_stops_the_build(monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(ValueError, match='It takes'): pages.lesson_bar('09_als.ipynb', 'No time.')

# ---- a light stylesheet

@pytest.mark.parametrize('css, kept', [
    ('.a{x:1} .b{x:2}', '.a{x:1}'), ('.a .b,.a p{x:1}', '.a p{x:1}'), ('p{x:1}', 'p{x:1}'), ('.a:not(.b){x:1}', '.a:not(.b){x:1}'),
    ('@media (min-width:1px){.b{x:1}}', ''), ('@media print{.a{x:1}.b{x:2}}', '@media print{.a{x:1}}'), ('@import url(x);.a{x:1}', '.a{x:1}'),
    ('#b{x:1}', ''), ('@keyframes b{from{x:1}}', ''), ('@keyframes a{from{x:1}}', '@keyframes a{from{x:1}}'), ('@font-face{font-family:b}', '@font-face{font-family:b}'),
    ('/* .a{} */.a:is(p,.a){x:1}', '.a:is(p,.a){x:1}')])
def test_only_rules_that_a_page_uses_are_kept(css, kept):
    "`b` is no page's."
    assert lighten.lighter(css, {'a'}) == kept

# ---- the search

def test_a_heading_is_found_once():
    "A lesson's section before the Reference's definition of the same name."
    entry = lambda kind, page, section: dict(kind=kind, page=page, section=section, href=f'{kind}.html')
    found = search_index.once([entry('reference', 'mfbook.als', 'Gram'), entry('page', 'Glossary', 'G'), entry('lesson', '09 ALS', 'gram'), entry('lesson', '09 ALS', '')])
    assert [e['href'] for e in found] == ['lesson.html', 'lesson.html', 'page.html']

def test_a_definition_belongs_to_the_section_it_stands_in():
    parts = [dict(id='', title='', text='top'), dict(id='one', title='One', text='a'), dict(id='f', title='f', text='def f')]
    assert search_index.merged(parts, {'f'}) == [parts[0], dict(id='one', title='One', text='a f def f')]

# ---- tables

def table(head, *rows):
    tr = lambda cells, t: '<tr>' + ''.join(f'<{t}>{c}</{t}>' for c in cells) + '</tr>'
    return f'<table class="dataframe"><thead>{tr(head, "th")}</thead><tbody>{"".join(tr(r, "td") for r in rows)}</tbody></table>'

def test_numbers_stand_on_their_decimal_point():
    got = pages.align(table(['n', 'x'], ['1', '2.25'], ['10', '3'], ['100', '-4.5']))
    assert '<td>3\u2008\u2007\u2007</td>' in got and '<td>-4.5\u2007</td>' in got and '<td>2.25</td>' in got and '<td>10</td>' in got

def test_words_stand_on_the_left_and_numbers_do_not():
    got = pages.align(table(['film', 'x'], ['Alien', '1.5'], ['10', '2.0']))
    assert got.count('class="words"') == 3 and '<td>1.5</td>' in got and '<td class="words">10</td>' in got

def test_the_name_of_an_index_has_no_row_of_its_own():
    two = '<table class="dataframe"><thead><tr><th></th><th>a</th></tr><tr><th>epoch</th><th></th></tr></thead><tbody><tr><th>1</th><td>2</td></tr></tbody></table>'
    assert '<thead><tr><th>epoch</th><th>a</th></tr></thead>' in pages.align(two)

# ---- lists that tell of the lessons

def stored(name):
    "All Markdown that the cells of a notebook put out."
    nb = json.loads((root/'nbs'/f'{name}.ipynb').read_text(encoding='utf-8'))
    return '\n\n'.join(''.join(o['data']['text/markdown']) for c in nb['cells'] for o in c.get('outputs', []) if 'text/markdown' in o.get('data', {}))

@pytest.mark.parametrize('name, text', [('index', contents.lessons_table), ('exercises', contents.exercises)])
def test_stored_lists_are_in_step_with_the_lessons(name, text):
    assert stored(name).strip() == text().strip(), f'run .venv/bin/python tools/book.py nbs/{name}.ipynb'

def test_each_lesson_has_its_time():
    seconds = json.loads(contents.SECONDS.read_text(encoding='utf-8'))
    assert set(seconds) == {p.stem for p in (root/'nbs').glob('[0-9][0-9]_*.ipynb')}, 'run make book'
    assert all(0 < s < 75 for s in seconds.values())
