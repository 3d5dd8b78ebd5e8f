"""The built site in a real browser: every page in light, in dark and at a phone's width, by mouse and by keyboard alone.

Needs chromium (`tools/install_browser.sh`). Without it these tests are skipped and say so; with MFBOOK_BROWSER=1, as in
CI, they fail instead.
"""
import ast, gzip, html, importlib, importlib.util, json, os, re, shutil, subprocess, sys
from pathlib import Path

import pytest
from conftest import FULL
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
    def open(self, name, idle=True):
        self.page.goto(self.base + name)      # until its scripts have run: before that no key is heard
        if idle: self.page.wait_for_load_state('networkidle')
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
    modules = [importlib.import_module(f'mfbook.{name}') for name in {module for module, _, _ in found} - {'start'}]
    assert len(found) > 10
    for module, kind, name in found:
        lesson = read(module)
        assert re.search(rf'<span class="kw">{kind}</span> (<span class="fu">)?{name}\b', lesson), f'{module}.{name} is not shown'
        assert f'id="{name.lower()}"' in lesson, f'{module}.{name} has no place'
        offered = any(name in getattr(other, '__all__', []) for other in modules)       # by another lesson, under the same name
        assert offered or f'id="{name.lower()}"' not in reference, f'{module}.{name} is in the reference'

# ---- what every page says of itself

def meta(text, name):
    "What a page's head says under one name; it is said once."
    found = re.findall(rf'<meta (?:name|property)="{name}" content="([^"]*)">', text)
    assert len(found) == 1, (name, found)
    return html.unescape(found[0])

def test_the_head_of_every_page(base):
    "One description, that of no other subject; one address; a picture that is there; and none but the 404 page leaves one out."
    address = cfg.doc_host + cfg.doc_baseurl + '/'
    said = {}
    for name in [*names(), '404.html']:
        text = (site/name).read_text(encoding='utf-8')
        assert re.findall(r'<link rel="canonical" href="([^"]*)">', text) == ([] if name == '404.html' else [address + name])
        assert (site/meta(text, 'og:image').removeprefix(address)).is_file() and meta(text, 'og:image').startswith(address)
        assert meta(text, 'og:description') == meta(text, 'description')
        said.setdefault(meta(text, 'description'), []).append(name)
    for pages in said.values():      # a module's page in the Reference may have its lesson's
        assert len({page.removeprefix('reference/') for page in pages}) == 1, pages
    assert min(map(len, said)) > 20
    assert said['The address leads to no page of this book.'] == ['404.html']

def test_the_foot_of_every_page(base):
    "License, citation and version."
    for name in [*names(), '404.html']:
        foot = (site/name).read_text(encoding='utf-8').partition('<footer')[2]
        for words in ('>Apache License 2.0<', '>Cite this book<', f'>Version {cfg.version}<'): assert words in foot, (name, words)

LOOKS = dict(light=('light', 1280), dark=('dark', 1280), phone=('light', 390))

COLORS = ['color-contrast', 'link-in-text-block']
ON_A_PHONE = ['scrollable-region-focusable', 'frame-focusable-content', 'meta-viewport', 'aria-hidden-focus', 'region', 'landmark-unique']

# A phone has the same colours, and few parts of its own; pages of the Reference are alike.
OF_EACH_KIND = ['index.html', 'als.html', 'reference/fit.html', 'results.html', 'rate.html', '404.html']

LEFT_OUT = 'main svg > *, main .katex-html > *'      # the insides of figures and formulas

# Folded code is opened; of the thousands of coloured words one of each colour is looked at.
ONE_OF_EACH = '''() => { const seen = new Set();
    for (const e of document.querySelectorAll('main details')) e.open = true;
    for (const e of document.querySelectorAll('main div.sourceCode code span')) seen.has(e.className) ? e.remove() : seen.add(e.className); }'''

# A letter stands for each formula, and of paragraphs, rows and so on two of each kind are kept: the same tags, classes and
# styles in them and around them, so the same colours.
TWO_OF_EACH = '''() => { const seen = {};
    for (const e of document.querySelectorAll('main .katex')) e.textContent = 'x';
    const name = e => `${e.tagName} ${e.className} ${e.getAttribute('style')}`;
    const around = e => e === document.body ? '' : around(e.parentElement) + name(e);
    for (const e of document.querySelectorAll(':is(p, li, tr, dt, dd, h2, h3, h4, h5, h6, figure, details, div.sourceCode, .cell-output)')) {
        if (!e.isConnected) continue;
        const kind = around(e) + '|' + [...new Set([...e.querySelectorAll('*')].map(name))].sort();
        seen[kind] = (seen[kind] || 0) + 1;
        if (seen[kind] > 2) e.remove(); } }'''

# Its headings as they are read aloud: one title, and no step left out on the way down.
OUTLINE = '''() => { const found = [], levels = [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(h => +h.tagName[1]);
    if (levels[0] !== 1 || levels.filter(l => l === 1).length !== 1) found.push(`its headings begin with ${levels.slice(0, 3)}`);
    levels.forEach((l, i) => { if (l > (levels[i - 1] || 0) + 1) found.push(`heading ${i + 1}, of level ${l}, comes after one of level ${levels[i - 1]}`); });
    return found; }'''

COVERED = '''() => [...document.querySelectorAll('main .code-copy-outer-scaffold')].filter(e => {
    const [button, code] = [e.querySelector('button'), e.querySelector('pre')].map(part => part.getBoundingClientRect());
    return button.width && (button.left < code.right - 1 || button.width < 24 || button.height < 24); }).length'''

def look_at(page, look):
    "What is wrong with a page that is open: its width, its colours, its code, its headings and its formulas."
    wide, window = page.evaluate('[document.documentElement.scrollWidth, innerWidth]')
    if wide > window: yield f'it is {wide - window} pixels too wide'
    shade = page.evaluate('getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number).reduce((a, b) => a + b)')
    if (shade < 384) != (look == 'dark'): yield f'its background is {"dark" if shade < 384 else "light"}'
    code = page.evaluate('[...document.querySelectorAll("main div.sourceCode pre")].filter(e => e.scrollWidth > e.clientWidth + 1).length')
    if code and look != 'phone': yield f'{code} pieces of code scroll sideways'
    if covered := page.evaluate(COVERED): yield f'{covered} buttons cover code, or are too small'
    yield from page.evaluate(OUTLINE)
    if page.locator('.math').count():
        page.wait_for_function('[...document.querySelectorAll(".math")].every(e => e.querySelector(".katex"))')
    if page.locator('.katex-error').count(): yield 'a formula has an error'

def turn(page, look):
    "Show an open page in another look."
    scheme, width = LOOKS[look]
    page.emulate_media(color_scheme=scheme, reduced_motion='reduce')      # colours change at once
    page.set_viewport_size(dict(width=width, height=900))
    page.wait_for_function(f'innerWidth === {width} && matchMedia("(prefers-color-scheme: {scheme})").matches')
    page.evaluate('new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))')      # and it is drawn

def barriers(page, options):
    "What axe-core finds, however small."
    found = page.evaluate('options => axe.run({resultTypes: ["violations"], ...options}).then(r => r.violations)', options)
    for f in found: yield f'{f["id"]} ({f["help"]}): {f["nodes"][0]["html"][:150]} and {len(f["nodes"]) - 1} more'

def look_for_barriers(page, name, axe):
    "(look, what is wrong): all that axe-core knows; and in each look what can differ there, on a page with fewer of the same."
    page.evaluate(ONE_OF_EACH)
    page.evaluate(f'document.querySelectorAll("{LEFT_OUT}").forEach(e => e.remove())')
    page.evaluate(axe)
    turn(page, 'phone')
    for fault in barriers(page, dict(runOnly=ON_A_PHONE)): yield 'phone', fault
    turn(page, 'light')
    for fault in barriers(page, dict(rules={rule: dict(enabled=False) for rule in COLORS})): yield 'light', fault
    page.evaluate(TWO_OF_EACH)
    if FULL or name in OF_EACH_KIND: looks = 'light', 'dark', 'phone'
    elif name.startswith('reference/'): looks = 'dark',
    else: looks = 'light', 'dark'
    for look in looks:
        turn(page, look)
        for fault in barriers(page, dict(runOnly=COLORS)): yield look, fault

def test_every_page(browser, base):
    "In three looks: no console error, failed request or other server; no sideways scrolling; the colours asked for; each formula set; an outline; nothing for axe-core."
    import axe_playwright_python
    axe = (Path(axe_playwright_python.__file__).parent/'axe.min.js').read_text(encoding='utf-8')
    faults, formulas = [], 0
    with Visit(browser, base) as v:
        for name in [*names(), '404.html']:
            page = v.open(name, idle=False)
            for look in LOOKS:
                turn(page, look)
                faults += [(name, look, fault) for fault in look_at(page, look)]
            formulas += page.locator('.math .katex').count()
            faults += [(name, *found) for found in look_for_barriers(page, name, axe)]
            faults += [(name, fault) for fault in v.faults]
            v.faults.clear()
    assert faults == [], '\n'.join(map(str, faults))
    assert formulas > 100

# ---- search

FIRST = {      # what a reader types -> the page that must be found first
    'cold start': 'newcomers', 'regularization': 'training', 'embedding': 'model', 'implicit feedback': 'implicit', 'RMSE': 'holdout',
    'ALS': 'als', 'alternating least squares': 'als', 'Gibbs sampling': 'gibbs', 'posterior': 'gibbs', 'variational Bayes': 'variational', 'overfitting': 'training',
    'learning rate': 'training', 'hold-out': 'holdout', 'baselines': 'holdout', 'biases': 'model', 'early stopping': 'runs', 'checkpoint': 'runs', 'calibration': 'evaluation',
    'precision at k': 'evaluation', 'similar films': 'recommending', 'principal component': 'recommending', 'clicks': 'implicit', 'genres': 'features', 'Numba': 'compiled',
    '32 million ratings': 'scale', 'download': 'movielens', 'command line': 'cli', 'latent factors': 'model', 'embeding': 'model', 'fit_sgd': 'reference/fit', 'glossary': 'glossary', 'notation': 'notation'}

def test_search_finds_the_page(browser, base):
    "The words of the field find their lesson first; the list of results has no heading twice; a lesson stands before the Reference."
    with Visit(browser, base) as v:
        page = v.open('index.html')
        found = page.evaluate('queries => Promise.all(queries.map(q => bookSearch(q).then(hits => hits.length ? hits[0].href : "")))', list(FIRST))
    assert {query: href.partition('.html')[0] for query, href in zip(FIRST, found)} == FIRST
    index = json.loads((site/'search.json').read_text(encoding='utf-8'))['entries']
    headings = [(e['section'] or re.sub(r'^\d\d ', '', e['page'])).lower() for e in index]
    assert len(headings) == len(set(headings)) > 300

def test_search_by_keyboard(browser, base):
    "A slash, a word, an arrow and Enter; what is chosen is said to a screen reader."
    with Visit(browser, base) as v:
        page = v.open('als.html')
        page.keyboard.press('/')
        page.keyboard.type('cold start')
        page.wait_for_selector('#book-found a')
        page.keyboard.press('ArrowDown')
        assert page.evaluate('document.activeElement.getAttribute("aria-activedescendant")') == 'found-0'
        assert page.locator('#found-0').get_attribute('aria-selected') == 'true'
        page.keyboard.press('Enter')
        page.wait_for_url('**/newcomers.html')
        assert v.faults == []

def test_search_without_a_connection(browser, base):
    "It says so, and the next letter asks again."
    with Visit(browser, base) as v:
        page = v.open('als.html')
        page.route('**/search.json', lambda route: route.abort())
        page.locator('.book-search input').fill('gibbs')
        page.wait_for_selector('#book-found >> text=did not come')
        page.unroute('**/search.json')
        page.locator('.book-search input').press_sequentially(' s')
        page.wait_for_selector('#book-found a[href$="gibbs.html"]')

@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_the_theme_lasts(browser, base, scheme):
    "The toggle changes the colours, and the next page and the next visit keep them."
    dark = lambda page: page.wait_for_timeout(150) or page.evaluate('document.documentElement.classList.contains("quarto-dark")')
    with Visit(browser, base, scheme) as v:
        page = v.open('index.html')
        before = dark(page)
        assert before == (scheme == 'dark')
        page.locator('.scheme-button').click()
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
    "At most 450 kB, gzipped, of all that the page asks for; a tab and a key lead to its field; a star is kept for the next visit."
    with Visit(browser, base) as v:
        answers = []
        v.page.on('response', lambda answer: answers.append(answer))
        page = v.open('rate.html')
        page.wait_for_selector('.rate-ready')
        sizes = {a.url.removeprefix(base): len(gzip.compress(a.body())) for a in answers}
        assert sum(sizes.values()) <= 450_000, sizes
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

def weigh(browser, base, name):
    "What a page asks for, until its formulas are set: sizes as they are sent, by address."
    with Visit(browser, base) as v:
        answers = []
        v.page.on('response', lambda answer: answers.append(answer))
        v.open(name).wait_for_function('[...document.querySelectorAll(".math")].every(e => e.querySelector(".katex"))')
        return {a.url.removeprefix(base): len(a.body() if a.url.endswith('woff2') else gzip.compress(a.body())) for a in answers}

def test_pages_are_light(browser, base):
    "Compressed, home weighs at most 250 kB with all that it asks for, and a lesson at most 400 kB without the fonts; no theme and no font of icons comes along."
    home, lesson = weigh(browser, base, 'index.html'), weigh(browser, base, 'training.html')
    assert sum(home.values()) <= 250_000, home
    shared = sum(size for name, size in lesson.items() if name != 'training.html' and not name.endswith('woff2'))
    sizes = {p.name: shared + len(gzip.compress((site/f'{p.stem[3:]}.html').read_bytes())) for p in (root/'nbs').glob('[0-9][0-9]_*.ipynb')}
    assert {name: size for name, size in sizes.items() if size > 400_000} == {}, lesson
    assert {name for name in lesson if name.endswith('.css')} == {'book.css', 'assets/katex/katex.min.css'}
    assert not [p for p in site.rglob('*') if p.name.startswith('bootstrap')]

def test_films_to_rate_come_when_the_reader_does(browser, base):
    "Lesson 08 opens without the file of films, which is as large as a lesson; it comes when its place is near."
    asked = []
    with Visit(browser, base) as v:
        v.page.on('request', lambda request: asked.append(request.url.rsplit('/', 1)[-1]))
        page = v.open('newcomers.html')
        page.wait_for_selector('link[href$="rate.css"]', state='attached')
        assert 'films.bin' not in asked
        page.evaluate('document.querySelector("[data-films]").scrollIntoView()')
        page.wait_for_selector('[data-films] input')
        assert asked.count('films.bin') == 1 and v.faults == []

# ---- around a lesson

def test_what_stands_under_a_lessons_title(browser, base):
    "At every width: which lesson it is, how long it takes, Colab, the notebook itself, where to edit and to report; and all its code at one click."
    place = f'{cfg.user}/{cfg.repo}/blob/{cfg.branch}/nbs/03_holdout.ipynb'
    with Visit(browser, base) as v:
        page = v.open('holdout.html')
        bar = page.locator('.lesson-bar')
        for width in (1280, 800, 390):
            page.set_viewport_size(dict(width=width, height=900))
            assert bar.is_visible() and 'Lesson 03 of part I A first recommender' in bar.inner_text() and '30 minutes to read; runs in under' in bar.inner_text()
            assert bar.bounding_box()['y'] < page.locator('main p strong').first.bounding_box()['y']
        links = {a.inner_text(): a.get_attribute('href') for a in bar.locator('a').all()}
        assert links['Open in Colab'] == f'https://colab.research.google.com/github/{place}'
        assert links['Edit'] == f'{cfg.git_url}/edit/{cfg.branch}/nbs/03_holdout.ipynb' and links['Report an issue'].startswith(f'{cfg.git_url}/issues/new?')
        assert page.request.get(base + links['Download notebook']).body() == (root/'nbs'/'03_holdout.ipynb').read_bytes()
        folds = page.locator('main details.code-fold')
        open_ones = lambda: folds.evaluate_all('all => all.filter(e => e.open).length')
        assert folds.count() > 10 and open_ones() == 0
        bar.get_by_role('button', name='Show all code').click()
        assert open_ones() == folds.count()
        bar.get_by_role('button', name='Fold the code again').click()
        assert open_ones() == 0
        before, after = [a.inner_text().split() for a in page.locator('.page-navigation a').all()]
        assert before == ['Previous', '02', 'The', 'model'] and after == ['Next', '04', 'Training']
        assert page.locator('h1').inner_text() == '03 Hold-outs and baselines' and page.locator('main h2').first.inner_text().startswith('3.1 ')
        assert v.faults == []

def test_on_this_page(browser, base):
    "Beside the text it follows the reader, and the entry stays in sight; on a phone it is one line that opens. No definition stands in it."
    with Visit(browser, base) as v:
        page = v.open('als.html')
        for name in ('fit_als', 'tune_als'):
            assert page.locator(f'main #{name}').count() and page.locator(f'nav a[href="#{name}"]').count() == 0
        page.set_viewport_size(dict(width=1280, height=400))
        for part in ('exercises', 'where-to-read-more'):
            page.evaluate(f'document.getElementById("{part}").scrollIntoView()')
            page.wait_for_selector(f'#TOC a.active[href="#{part}"]')
            entry, box = (page.locator(e).bounding_box() for e in ('#TOC a.active', '#quarto-margin-sidebar'))
            assert box['y'] <= entry['y'] and entry['y'] + entry['height'] <= box['y'] + box['height']
        assert not page.locator('#TOC-body').is_visible()
        page.set_viewport_size(dict(width=390, height=800))
        assert not page.locator('#TOC').is_visible() and not page.locator('#TOC-body a').first.is_visible()
        page.locator('#TOC-body summary').click()
        page.locator('#TOC-body a').last.click()
        assert page.url.endswith('#where-to-read-more') and v.faults == []

def test_the_header_on_a_phone(browser, base):
    "One row, with a menu that says so, opens, takes the focus, and closes at Escape; closed, no Tab gets lost in it."
    with Visit(browser, base, 'light', 390) as v:
        page = v.open('index.html')
        assert page.locator('#quarto-header').bounding_box()['height'] < 60
        menu, link = page.get_by_role('button', name='Menu'), page.locator('#quarto-sidebar a', has_text='02 The model')
        assert not link.is_visible() and menu.get_attribute('aria-expanded') == 'false'
        menu.click()
        link.wait_for(state='visible')      # it slides in
        assert menu.get_attribute('aria-expanded') == 'true'
        page.keyboard.press('Escape')
        page.wait_for_function('!document.querySelector("#quarto-sidebar").checkVisibility({visibilityProperty: true})')
        assert page.locator(':focus').inner_text() == 'Menu'
        menu.click()
        link.click()
        page.wait_for_url('**/model.html')
        assert v.faults == []

def test_a_link_leads_to_its_place(browser, base):
    "Also where formulas above it are set after the page has opened."
    top = 'document.querySelector(":target").getBoundingClientRect().top'
    with Visit(browser, base, 'light', 390) as v:
        page = v.open('distributed.html#measured')
        page.wait_for_function('[...document.querySelectorAll(".math")].every(e => e.querySelector(".katex"))')
        page.wait_for_timeout(700)
        assert 0 <= page.evaluate(top) < 150
        assert v.faults == []

def test_wide_things_on_a_phone(browser, base):
    "A figure opens at its full size, and closes again; code, tables and formulas that go on are reached by keyboard."
    with Visit(browser, base, 'light', 390) as v:
        page = v.open('als.html')
        page.wait_for_function('''() => { const all = [...document.querySelectorAll(".math")], wide = all.filter(e => e.scrollWidth > e.clientWidth + 1 && e.matches(".display"));
            return all.every(e => e.querySelector(".katex")) && wide.length && wide.every(e => e.tabIndex === 0); }''', timeout=10_000)
        figure, button = page.locator('main .cell-output-display svg').first, page.locator('.figure-button').first
        small = figure.bounding_box()['width']
        button.click()
        assert page.locator('dialog svg').bounding_box()['width'] > 1.25*small
        page.keyboard.press('Escape')
        assert page.locator('dialog').count() == 0 and figure.bounding_box()['width'] == small
        wide = page.locator('main pre').evaluate_all('all => all.filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.tabIndex)')
        assert wide and set(wide) == {0}
        assert v.faults == []

@pytest.mark.parametrize('published, told', [(cfg.version, False), ('0.1.9', False), ('0.10.0', True)])
def test_a_newer_version_is_told_of(browser, base, published, told):
    "By the file `version.json` beside the site. 0.10 is newer than 0.2."
    with Visit(browser, base) as v:
        v.page.route('**/version.json', lambda route: route.fulfill(json=dict(version=published, address='https://example.org/')))
        page = v.open('reference/fit.html')
        if told: page.wait_for_selector('.newer')
        assert page.locator('.newer').count() == told
        if told: assert f'version {cfg.version}' in page.locator('.newer').inner_text() and 'Version 0.10.0 is out' in page.locator('.newer').inner_text()
        assert v.faults == []

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
