"""The built site in a real browser: every page in light, in dark and at a phone's width, by mouse and by keyboard alone.

Needs chromium (`tools/install_browser.sh`). Without it these tests are skipped and say so; with MFBOOK_BROWSER=1, as in
CI, they fail instead.
"""
import ast, gzip, html, importlib.util, os, re, shutil, subprocess, sys
from pathlib import Path

import pytest
from execnb.nbio import read_nb
from fastcore.docments import docments
from mfbook.all import fit_sgd
from nbdev.config import get_config
from nbdev.doclinks import patch_name

root = Path(__file__).resolve().parent.parent
site = root/'_docs'
cfg = get_config(root/'settings.ini')
chromium = next(filter(None, map(shutil.which, ['chromium', 'chromium-browser', 'google-chrome'])), None)
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

@pytest.fixture(scope='module')
def base():
    "The site, built anew and served on this machine; where it is."
    made = subprocess.run([sys.executable, root/'tools'/'build_docs.py', '--site'], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    spec = importlib.util.spec_from_file_location('serve', root/'tools'/'serve.py')
    serve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(serve)
    server, address = serve.start()
    yield address
    server.shutdown()

@pytest.fixture(scope='module')
def browser():
    if not chromium:
        if os.environ.get('MFBOOK_BROWSER'): pytest.fail('no chromium here: run tools/install_browser.sh', pytrace=False)
        pytest.skip('no chromium here: tools/install_browser.sh installs it')
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=FLAGS)
        yield b
        b.close()

class Visit:
    "A page in a fresh browser; what went wrong in it is in `faults`."
    def __init__(self, browser, base, scheme='light', width=1280):
        self.context = browser.new_context(color_scheme=scheme, viewport=dict(width=width, height=900))
        self.page, self.base, self.faults = self.context.new_page(), base, []
        self.page.on('console', lambda m: m.type in ('error', 'warning') and self.faults.append(f'{m.type} in the console: {m.text}'))
        self.page.on('pageerror', lambda e: self.faults.append(f'a script failed: {e}'))
        # a request that is given up because the page was left is no fault
        self.page.on('requestfailed', lambda r: r.failure == 'net::ERR_ABORTED' or self.faults.append(f'{r.url} could not be had'))
        self.page.on('response', lambda r: r.status >= 400 and self.faults.append(f'{r.url} answers {r.status}'))
        self.page.on('request', lambda r: r.url.startswith((base, 'data:', 'blob:')) or self.faults.append(f'{r.url} is another server'))
    def open(self, name):
        self.page.goto(self.base + name, wait_until='networkidle')
        return self.page
    def __enter__(self): return self
    def __exit__(self, *error): self.context.close()

def names(): return sorted(p.relative_to(site).as_posix() for p in site.rglob('*.html') if p.name != '404.html')

def test_every_page_is_there(base):
    "One for each notebook, those of the Reference, and the page for lost readers; and no stylesheet asks another server for a font."
    notebooks = {re.sub(r'^\d+_', '', p.relative_to(root/'nbs').as_posix()).removesuffix('.ipynb') for p in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts}
    reference = {f'reference/{page}' for page in re.findall(r'reference/(\w+)\.qmd', (root/'_quarto.yml').read_text(encoding='utf-8'))}
    assert {n.removesuffix('.html') for n in names()} == notebooks | reference and (site/'404.html').is_file()
    assert [p.name for p in site.rglob('*.css') if re.search(r'@import|url\([\'"]?(https?:)?//', p.read_text(encoding='utf-8'))] == []

def read_reference(): return '\n'.join(p.read_text(encoding='utf-8') for p in sorted((site/'reference').glob('*.html')))

def read(name): return (site/f'{name}.html').read_text(encoding='utf-8')

@pytest.mark.parametrize('module, functions', {'training': ['batches', 'penalized_loss', 'cosine'], 'runs': ['fit', 'fit_sgd', 'tune_sgd']}.items())
def test_a_lesson_shows_its_code_with_the_way_to_the_source(base, module, functions):
    "Each public function of a module stands open in its lesson under its own heading, which links to its line, and in the reference."
    lesson, reference = read(module), read_reference()
    source = (root/'mfbook'/f'{module}.py').read_text(encoding='utf-8').splitlines()
    for name in functions:
        line = next(i for i, l in enumerate(source, 1) if l.startswith(f'def {name}('))
        for text in (lesson, reference):
            assert f'id="{name}"' in text and f'{cfg.git_url}/blob/{cfg.branch}/mfbook/{module}.py#L{line}"' in text, name
        assert re.search(rf'<span class="kw">def</span> <span class="fu">{name}</span>', lesson), f'{name} is folded away'

def test_the_reference_has_parameters_and_the_ways_on(base):
    reference = read('reference/fit') + read('reference/model')
    plain = html.unescape(re.sub(r'<[^>]+>', '', reference)).replace('’', "'")
    notes = docments(fit_sgd)
    assert notes['reg'] and notes['bias_reg']
    for words in (notes['reg'], notes['bias_reg']): assert words.replace('`', '') in plain
    assert 'href="../runs.html#fit_sgd"' in reference and 'href="model.html#matrixfactorization"' in reference
    assert 'id="matrixfactorization.save"' in reference, 'a method that is patched onto the class of another module'

def machinery():
    "Each definition of an `#| exporti` cell, with its module, and `def` or `class`; not methods that are patched onto a class."
    for path in sorted((root/'nbs').glob('[0-9][0-9]_*.ipynb')):
        for cell in read_nb(path).cells:
            if cell.cell_type == 'code' and re.search(r'^#\| *exporti\b', cell.source, re.M):
                for node in ast.parse(cell.source).body:
                    if isinstance(node, ast.ClassDef): yield path.stem[3:], 'class', node.name
                    elif isinstance(node, ast.FunctionDef) and patch_name(node) == node.name: yield path.stem[3:], 'def', node.name

def test_machinery_stands_open_and_outside_the_reference(base):
    "Code of `#| exporti` cells is shown in its lesson, where a link can lead to it; the reference has what a user calls."
    found, reference = list(machinery()), read_reference()
    assert len(found) > 10
    for module, kind, name in found:
        lesson = read(module)
        assert re.search(rf'<span class="kw">{kind}</span> (<span class="fu">)?{name}\b', lesson), f'{module}.{name} is not shown'
        assert f'id="{name.lower()}"' in lesson, f'{module}.{name} has no place'
        assert f'id="{name.lower()}"' not in reference, f'{module}.{name} is in the reference'

LOOKS = dict(light=('light', 1280), dark=('dark', 1280), phone=('light', 390))

# In light all that axe knows; of that, only colours can differ in the dark, and only what scrolls on a phone.
RULES = dict(light=None, dark=['color-contrast', 'link-in-text-block'], phone=['scrollable-region-focusable', 'frame-focusable-content', 'meta-viewport', 'aria-hidden-focus'])

LEFT_OUT = 'main div.sourceCode pre > code > *, main svg > *, main .katex-html > *'      # thousands of coloured words, and the insides of figures and formulas

def look_at(page, dark):
    "What is wrong with a page that is open: its width, its colours, its code and its formulas."
    wide, window = page.evaluate('[document.documentElement.scrollWidth, innerWidth]')
    if wide > window: yield f'it is {wide - window} pixels too wide'
    shade = page.evaluate('getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number).reduce((a, b) => a + b)')
    if (shade < 384) != dark: yield f'its background is {"dark" if shade < 384 else "light"}'
    code = page.evaluate('[...document.querySelectorAll("main div.sourceCode pre")].filter(e => e.scrollWidth > e.clientWidth + 1).length')
    if code: yield f'{code} pieces of code scroll sideways'
    formulas, set_ones = page.locator('.math').count(), page.locator('.math .katex').count()
    if set_ones < formulas: yield f'{formulas - set_ones} formulas are not set'
    if page.locator('.katex-error').count(): yield 'a formula has an error'

def look_for_barriers(page, name, axe, rules):
    "What axe-core finds. The insides of code and formulas, thousands of words and signs, are looked at on one page."
    page.evaluate(f'document.querySelectorAll("{LEFT_OUT if name != "model.html" else "main svg > *"}").forEach(e => e.remove())')
    page.evaluate(axe)
    found = page.evaluate('rules => axe.run({resultTypes: ["violations"], ...rules && {runOnly: rules}}).then(r => r.violations)', rules)
    for f in found:
        if f['impact'] in ('critical', 'serious'):
            yield f'{f["id"]} ({f["help"]}): {f["nodes"][0]["html"][:150]} and {len(f["nodes"]) - 1} more'

@pytest.mark.parametrize('look', LOOKS)
def test_every_page(browser, base, look):
    "No console error, failed request or other server; no sideways scrolling; the colours asked for; each formula set; nothing serious for axe-core."
    import axe_playwright_python
    axe = (Path(axe_playwright_python.__file__).parent/'axe.min.js').read_text(encoding='utf-8')
    faults, formulas = [], 0
    with Visit(browser, base, *LOOKS[look]) as v:
        for name in [*names(), '404.html']:
            page = v.open(name)
            formulas += page.locator('.math .katex').count()
            found = [*look_at(page, look == 'dark'), *look_for_barriers(page, name, axe, RULES[look]), *v.faults]
            faults += [f'{name}: {fault}' for fault in found]
            v.faults.clear()
    assert faults == []
    assert formulas > 100

@pytest.mark.parametrize('words, leads', [('fit_sgd', r'runs\.html#fit_sgd$'), ('Koren', r'\.html')])
def test_search(browser, base, words, leads):
    "A function, and a word from a lesson."
    with Visit(browser, base) as v:
        page = v.open('index.html')
        page.locator('.smalldocs-search input').first.fill(words)
        page.wait_for_selector('.search-result')
        found = [a.get_attribute('href') for a in page.locator('.search-result').all()]
        assert any(re.search(leads, h) for h in found), found
        page.locator('.smalldocs-search input').first.press('ArrowDown')
        page.locator('.search-result').first.click()
        page.wait_for_load_state()
        assert words.lower() in page.locator('main').inner_text().lower()
        assert v.faults == []

@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_the_theme_lasts(browser, base, scheme):
    "The toggle changes the colours, and the next page and the next visit keep them."
    dark = lambda page: page.wait_for_timeout(150) or page.evaluate('document.documentElement.classList.contains("quarto-dark")')
    with Visit(browser, base, scheme) as v:
        page = v.open('index.html')
        before = dark(page)
        assert before == (scheme == 'dark')
        page.locator('.quarto-color-scheme-toggle').first.click()
        assert dark(page) != before
        assert dark(v.open('ratings.html')) != before
        page.reload()
        assert dark(page) != before

def test_the_keyboard_reaches_everything(browser, base):
    "Tab alone comes past every link, button and field that can be seen, and each shows that it has the focus."
    here = '''() => { const e = document.activeElement, s = getComputedStyle(e);
        return [e.dataset.n || '', s.outlineStyle !== 'none' || s.boxShadow !== 'none']; }'''
    with Visit(browser, base) as v:
        for name in ('index.html', 'reference/split.html'):
            page = v.open(name)
            total = page.evaluate('''() => { let n = 0;
                for (const e of document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]'))
                    if (e.checkVisibility({visibilityProperty: true}) && e.tabIndex >= 0) e.dataset.n = ++n;
                return n; }''')
            seen, plain = set(), set()
            for _ in range(total + 15):
                page.keyboard.press('Tab')
                n, shown = page.evaluate(here)
                if n: seen.add(int(n))
                if n and not shown: plain.add(page.evaluate('document.activeElement.outerHTML')[:100])
            missed = [page.evaluate(f'document.querySelector(`[data-n="{n}"]`).outerHTML')[:100] for n in set(range(1, total + 1)) - seen]
            assert missed == [] and plain == set(), name

def test_rate_ten_films_is_light_and_near(browser, base):
    "At most 600 kB, gzipped, of all that the page asks for; a tab and a key lead to its field; a star is kept for the next visit."
    with Visit(browser, base) as v:
        answers = []
        v.page.on('response', lambda answer: answers.append(answer))
        page = v.open('rate.html')
        page.wait_for_selector('.rate-ready')
        sizes = {a.url.removeprefix(base): len(gzip.compress(a.body())) for a in answers}
        assert sum(sizes.values()) <= 600_000, sizes
        page.keyboard.press('Tab')
        page.keyboard.press('Enter')
        assert page.locator(':focus').get_attribute('role') == 'combobox'
        page.keyboard.type('blade runner')
        page.keyboard.press('Enter')
        page.keyboard.press('ArrowRight')
        page.wait_for_function('location.hash.startsWith("#stars=541:")')
        page.goto(base + 'index.html')
        page = v.open('rate.html')
        page.wait_for_selector('.rate-away:visible')
        assert v.faults == []

def test_the_sidebar_opens_on_a_phone(browser, base):
    with Visit(browser, base, 'light', 390) as v:
        page = v.open('index.html')
        link = page.locator('#quarto-sidebar a', has_text='02 The model')
        assert link.bounding_box()['x'] < 0 or not link.is_visible()
        page.locator('.quarto-secondary-nav .quarto-btn-toggle').click()
        link.click()
        page.wait_for_url('**/model.html')
        assert v.faults == []

def test_what_stands_beside_a_lesson(browser, base):
    "Breadcrumbs, previous and next, Colab, the notebook itself, and where to report an issue."
    with Visit(browser, base) as v:
        page = v.open('holdout.html')
        assert page.locator('.quarto-title-breadcrumbs').inner_text().split('\n')[0] == 'Lessons'
        assert [a.get_attribute('href') for a in page.locator('.page-navigation a').all()] == ['model.html', 'training.html']
        place = f'{cfg.user}/{cfg.repo}/blob/{cfg.branch}/nbs/03_holdout.ipynb'
        assert page.get_by_text('Open in Colab').get_attribute('href') == f'https://colab.research.google.com/github/{place}'
        assert page.get_by_text('Report an issue').get_attribute('href') == f'{cfg.git_url}/issues/new'
        notebook = page.request.get(base + page.get_by_text('Download notebook').get_attribute('href'))
        assert notebook.body() == (root/'nbs'/'03_holdout.ipynb').read_bytes()

def test_printing_leaves_the_page_alone(browser, base):
    "On paper there is the text, and nothing to click."
    with Visit(browser, base, 'dark') as v:
        page = v.open('model.html')
        page.emulate_media(media='print')
        for part in ('#quarto-header', '#quarto-sidebar', '#quarto-margin-sidebar', '.page-navigation'): assert not page.locator(part).is_visible(), part
        assert page.locator('main h1').is_visible()
        assert page.evaluate('getComputedStyle(document.body).backgroundColor') == 'rgb(255, 255, 255)'

def test_a_lost_reader(browser, base):
    "An address that leads nowhere, at any depth, shows the page that says so, whole and with a way back."
    with Visit(browser, base) as v:
        for name in ('nowhere.html', 'deep/er/nowhere'):
            page = v.open(name)
            assert page.locator('main h1').inner_text() == 'No such page'
            assert [f for f in v.faults if name not in f and '404 (' not in f] == []
            v.faults.clear()
        page.locator('main').get_by_text('what the book makes').click()
        page.wait_for_url('**/index.html')
        assert v.faults == []

def test_no_page_of_the_book_is_heavy(base):
    "At most 400 kB each, compressed as a server sends it, and the numbers of figures are on it."
    weights = {name: len(gzip.compress((site/name).read_bytes())) for name in names()}
    assert {name: weight for name, weight in weights.items() if weight > 400_000} == {}
    als = read('als')
    assert re.search(r'<figcaption>Figure 9\.1\. ', als) and re.search(r'<caption>Table 9\.1\. ', als) and 'id="fig-path"' in als

def test_pages_as_markdown(base):
    "`llms.txt` names every page but the 404, each with its Markdown twin; `sitemap.xml` has every page."
    address = cfg.doc_host + cfg.doc_baseurl + '/'
    pages = {n.removesuffix('.html') for n in names()}
    listed = re.findall(rf'\]\({re.escape(address)}(\S+)\.llms\.md\)', (site/'llms.txt').read_text(encoding='utf-8'))
    assert set(listed) == pages and len(listed) == len(pages) and listed[0] == 'index'
    for n in pages: assert len((site/f'{n}.llms.md').read_text(encoding='utf-8')) > 300, n
    assert set(re.findall(rf'<loc>{re.escape(address)}(\S+)\.html</loc>', (site/'sitemap.xml').read_text(encoding='utf-8'))) == pages
