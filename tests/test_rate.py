"The page \"Rate ten films\" in a browser: the same answers as lesson 08, by mouse and by keyboard, and kind to bad addresses."
import functools, http.server, importlib.util, re, threading
from pathlib import Path
import numpy as np
import pytest
import torch
from execnb.nbio import read_nb
from mfbook.holdout import rating_counts
from mfbook.newcomers import my_ratings, why
from mfbook.ratings import load_sample
from mfbook.recommending import film_map, films_where, similar

CHROMIUM = Path('/usr/bin/chromium')
sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed: pip install playwright')
if not CHROMIUM.exists(): pytest.skip(f'no browser at {CHROMIUM}: apt-get install chromium', allow_module_level=True)

root = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location('make_rate_data', root/'tools'/'make_rate_data.py')
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)

# ten films, as somebody might rate them: MovieLens's number -> stars
TEN = {541: 5, 1214: 4.5, 2571: 5, 924: 4, 2671: 2, 1721: 1.5, 912: 4.5, 780: 1, 4306: 3, 356: 3.5}
TASTES = {'ten': TEN, 'one': {356: 5}, 'nothing': {}, 'low': {912: .5, 923: 1, 904: 1, 780: 5, 1917: 5}}

def address(stars): return '#stars=' + ','.join(f'{i}:{s:g}' for i, s in stars.items()) if stars else ''

# ---- what Python knows

@pytest.fixture(scope='module')
def ratings(): return load_sample()

@pytest.fixture(scope='module')
def model(ratings): return make.trained(ratings)

@pytest.fixture(scope='module')
def contents(ratings, model): return make.contents(ratings, model)

def folded(model, ratings, stars):
    "Python's answer: scores of all films by lesson 08's `fold_in`, float64."
    items, values = my_ratings(ratings, stars) if stars else (torch.zeros(0, dtype=torch.long), torch.zeros(0))
    row = model.fold_in(items, values)
    return model.scores(row).double().numpy()

def best_ten(scores, counts, ids, stars, least=50):
    scores = np.where((counts < least) | np.isin(ids, list(stars)), -np.inf, scores)
    return np.argsort(-scores, kind='stable')[:10]

# ---- the page, served as the site serves it

@pytest.fixture(scope='module')
def site(tmp_path_factory, ratings, model):
    "The notebook's own block of HTML in a bare page with the book's style, and the files beside it."
    top = tmp_path_factory.mktemp('site')
    block = next(re.search(r'```\{=html\}\n(.*?)```', c.source, re.S)[1] for c in read_nb(root/'nbs'/'rate.ipynb').cells if '{=html}' in c.source)
    (top/'assets'/'rate').mkdir(parents=True)
    for f in ('rate.js', 'rate.css'): (top/'assets'/'rate'/f).write_bytes((root/'nbs'/'assets'/'rate'/f).read_bytes())
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>x</title><link rel="stylesheet" href="styles.css">'
    bootstrap = ':root { --bs-body-color: #212529; --bs-body-bg: #fff; --bs-body-color-rgb: 33, 37, 41 }\n'
    body = 'body { margin: 16px; color: var(--bs-body-color); background: var(--bs-body-bg); font-family: sans-serif }'
    (top/'styles.css').write_text(bootstrap + (root/'nbs'/'styles.css').read_text() + body)
    (top/'rate.html').write_text(f'{head}<body><main class="content">{block}<h2 id="a-place">A place</h2></main>')
    (top/'bare.html').write_text(f'{head}<body><div data-films="assets/rate/films.bin" data-heading="h4"></div><script type="module" src="assets/rate/rate.js"></script>')
    trained, make.trained = make.trained, lambda _: model                    # once is enough
    try: assert make.write(top/'assets'/'rate'/'films.bin')
    finally: make.trained = trained
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=top)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/', top
        server.shutdown()

@pytest.fixture(scope='module')
def browser():
    flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-component-update']
    with sync_api.sync_playwright() as p:
        b = p.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield b
        b.close()

@pytest.fixture
def visit(browser, site):
    "Open the page at an address; whatever it throws fails the test."
    contexts, thrown = [], []
    def go(hash='', name='rate.html', width=1000, ready='.rate-ready', before=None, **settings):
        context = browser.new_context(viewport=dict(width=width, height=800), **settings)
        contexts.append(context)
        page = context.new_page()
        page.on('pageerror', lambda e: thrown.append(str(e)))
        if before: before(page)
        page.goto(site[0] + name + hash)
        if ready: page.wait_for_selector(ready)
        return page
    yield go
    for c in contexts: c.close()
    assert thrown == []

def listed(page):
    "The ten films as the page shows them: rows in the file, and the numbers beside them."
    rows = page.locator('.rate-best-films button').all()
    return [int(r.get_attribute('data-film')) for r in rows], [float(r.locator('.rate-value').inner_text().replace('\u2212', '-')) for r in rows]

def told(page, *words):
    "Wait until the live region holds `words`."
    page.wait_for_function('w => w.every(x => document.querySelector("[role=status]").textContent.includes(x))', arg=list(words), timeout=5000)

# ---- the file

def test_the_file_holds_the_model(ratings, model, contents, site):
    head, table = contents
    text, _, body = (site[1]/'assets'/'rate'/'films.bin').read_bytes().partition(b'\n')
    assert body == table.tobytes() and text.startswith(b'{"made_from": "') and len(text) + len(body) < 450_000
    count = torch.bincount(ratings.items, minlength=ratings.n_items)
    kept = [model.item_code(i) for i in head['id']]
    assert sorted(kept) == (count >= make.MIN_RATINGS).nonzero().flatten().tolist() and head['count'] == count[kept].tolist()
    back = table * np.array([head['scale'][0]]*model.k + [head['scale'][1]])
    exact = model.rows('item')[kept].double().numpy()
    assert (np.abs(back - exact) <= np.array([head['scale'][0]]*model.k + [head['scale'][1]])*0.5001).all()
    assert max(head['scale']) < 1e-4, 'a step of the 16-bit numbers is too wide'
    n = head['id'].index(260)
    assert (head['title'][n], head['year'][n]) == ('Star Wars: Episode IV - A New Hope', 1977)
    assert [g for b, g in enumerate(head['genres']) if head['genre'][n] >> b & 1] == sorted(ratings.movies.genres[model.item_code(260)].split('|'))

def test_the_map_is_the_lessons(ratings, model, contents):
    known = torch.bincount(ratings.items, minlength=ratings.n_items) >= make.ON_MAP
    places, share = film_map(model, known.nonzero().flatten())
    m = contents[0]['map']
    mine = (model.rows('item')[known, :-1].double() - torch.tensor(m['middle'], dtype=torch.float64)) @ torch.tensor(m['axes'], dtype=torch.float64).T
    assert (mine - places).abs().max() < 1e-4 and m['share'] == pytest.approx(share)

def test_the_file_is_written_when_something_changed(site, model, tmp_path, monkeypatch):
    monkeypatch.setattr(make, 'trained', lambda _: model)
    target = tmp_path/'films.bin'
    assert make.write(target) and not make.write(target)
    monkeypatch.setattr(make, 'source', lambda: 'another')
    assert make.write(target) and target.read_bytes().startswith(b'{"made_from": "another"')

@pytest.mark.parametrize('title, natural', [('Godfather: Part II, The', 'The Godfather: Part II'), ('Boat, The (Das Boot)', 'The Boat (Das Boot)'),
                                            ('Boot, Das', 'Das Boot'), ('Monsters, Inc.', 'Monsters, Inc.'), ('Bug\'s Life, A', 'A Bug\'s Life'), ('Up', 'Up')])
def test_titles_in_their_natural_order(title, natural): assert make.natural(title) == natural

# ---- the same answers as Python

def test_ten_films_rated_by_hand(visit, ratings, model, contents):
    "Each film found by its title, each star clicked; then the ten films and their stars are lesson 08's."
    head, page = contents[0], visit()
    for i, s in TEN.items():
        title, year = head['title'][head['id'].index(i)], head['year'][head['id'].index(i)]
        page.get_by_role('combobox', name='Find a film').fill(f'{title} {year}')
        page.locator('.rate-found li').first.click()
        page.get_by_role('radiogroup', name=f'Stars for {title} ({year})').locator(f'label:has(input[value="{s:g}"])').click()
    assert page.evaluate('location.hash') == address(TEN)
    scores = folded(model, ratings, TEN)[[model.item_code(i) for i in head['id']]]
    expected = best_ten(scores, np.array(head['count']), np.array(head['id']), TEN)
    films, stars = listed(page)
    assert films == expected.tolist()
    assert np.abs(np.array(stars) - scores[expected].clip(*model.rating_range)).max() < 0.01

@pytest.mark.parametrize('name', TASTES)
def test_the_same_as_python(name, visit, ratings, model, contents):
    "All predictions: to rounding from the same file, to a thousandth of a star from the model itself; the same ten films."
    (head, table), stars = contents, TASTES[name]
    page = visit(address(stars))
    theirs = page.evaluate('''async stars => { const m = await import('./assets/rate/rate.js')
        const model = m.readModel(await (await fetch('assets/rate/films.bin')).arrayBuffer()), films = stars.map(s => model.code.get(s[0]))
        const {w} = m.foldIn(model, films, stars.map(s => s[1])); return model.id.map((_, i) => m.predict(model, w, i)) }''', list(map(list, stars.items())))
    Q, b, ids = table[:, :-1]*head['scale'][0], table[:, -1]*head['scale'][1], np.array(head['id'])
    x, j = np.column_stack([Q, np.ones(len(Q))]), [head['id'].index(i) for i in stars]
    L, m = np.array(head['prior_precision']), np.array(head['prior_mean'])
    w = np.linalg.solve(x[j].T @ x[j] + L, x[j].T @ (np.array(list(stars.values())) - head['mu'] - b[j]) + L @ m)
    same_file, own = head['mu'] + b + x @ w, folded(model, ratings, stars)[[model.item_code(i) for i in head['id']]]
    assert np.abs(theirs - same_file).max() < 1e-9
    assert np.abs(theirs - own).max() < 1e-3
    films, shown = listed(page)
    assert films == best_ten(same_file, np.array(head['count']), ids, stars).tolist()
    expected = best_ten(own, np.array(head['count']), ids, stars)
    assert np.abs(own[films] - own[expected]).max() < 1e-3, 'only films that close may change places'
    assert np.abs(np.array(shown) - own[expected].clip(*model.rating_range)).max() < 0.01

def test_why_is_the_lessons(visit, ratings, model, contents):
    "The bars' numbers, and what they sum to."
    page, (items, values) = visit(address(TEN)), my_ratings(ratings, TEN)
    page.locator('.rate-best-films button').nth(3).click()
    assert page.locator('.rate-best-films button[aria-pressed=true]').count() == 1
    reasons = why(model, (items, values), contents[0]['id'][listed(page)[0][3]])
    bars = page.locator('.rate-chart svg').get_attribute('aria-label').replace('\u2212', '-').split(': ', 1)[1].split('; ')
    shown, expected = sorted(float(b.rsplit(' ', 1)[1]) for b in bars), sorted(reasons.share[2:].tolist())
    assert len(shown) == len(expected) == 11 and np.abs(np.array(shown) - expected).max() < 0.0051
    assert abs(float(page.locator('.rate-add').inner_text().rsplit('= ', 1)[1]) - reasons.share.sum()) < 0.0061

def test_similar_films_are_the_lessons(visit, ratings, model, contents):
    page = visit(address(TEN))
    page.locator('.rate-best-films button').first.click()
    raw_id = contents[0]['id'][listed(page)[0][0]]
    expected = similar(model, raw_id, n=6, offset=films_where(model, min_ratings=50, counts=rating_counts(ratings)[1]))
    shown = [float(v) for v in page.locator('.rate-similar .rate-value').all_inner_texts()]
    assert np.abs(np.array(shown) - expected.cosine).max() < 0.011
    assert [int(t[-5:-1]) for t in expected.title] == [int(t) for t in page.locator('.rate-similar small').all_inner_texts()]

def test_order_by_taste_and_least_count(visit, contents):
    head, page = contents[0], visit(address(TEN))
    before = listed(page)[0]
    page.get_by_label('your taste alone').check()
    films, gains = listed(page)
    assert films != before and gains == sorted(gains, reverse=True) and gains[0] > 0
    page.get_by_label('Films with at least').select_option('100')
    films, _ = listed(page)
    assert len(films) == 10 and min(head['count'][i] for i in films) >= 100

# ---- by keyboard, and for who listens

def test_by_keyboard_alone(visit):
    page = visit()
    page.keyboard.press('Tab')
    field = page.locator(':focus')
    assert field.get_attribute('role') == 'combobox' and field.get_attribute('aria-expanded') == 'false'
    page.keyboard.type('blade ru')
    assert field.get_attribute('aria-expanded') == 'true' and field.get_attribute('aria-activedescendant') is None
    page.keyboard.press('ArrowDown')
    option = page.locator('#' + field.get_attribute('aria-activedescendant'))
    assert 'Blade Runner' in option.inner_text() and option.get_attribute('aria-selected') == 'true'
    page.keyboard.press('Escape')
    assert page.get_by_role('listbox').count() == 0 and field.input_value() == 'blade ru'
    page.keyboard.press('Escape')
    assert field.input_value() == ''
    page.keyboard.type('ALIEN')
    page.keyboard.press('Enter')                                       # the first found
    assert page.locator(':focus').get_attribute('type') == 'radio'
    page.keyboard.press('ArrowRight')
    assert page.evaluate('location.hash') == '#stars=1214:3.5'
    told(page, 'Alien (1979): 3.5 stars.', 'First of your ten: ')
    page.keyboard.press('ArrowRight')
    assert page.evaluate('location.hash') == '#stars=1214:4'
    page.keyboard.press('Tab')
    assert page.locator(':focus').get_attribute('aria-label') == 'Take the stars of Alien (1979) away'
    page.keyboard.press('Enter')
    assert page.evaluate('location.hash') == '' and page.locator(':focus').get_attribute('type') == 'radio'
    told(page, 'Alien (1979): no stars.')

def test_arrows_go_round_the_list(visit):
    page = visit()
    field = page.get_by_role('combobox', name='Find a film')
    field.fill('godfather')
    page.keyboard.press('ArrowUp')
    assert page.locator('.rate-found li').last.get_attribute('aria-selected') == 'true'
    page.keyboard.press('ArrowDown')
    assert page.locator('.rate-found li').first.get_attribute('aria-selected') == 'true'

def test_search_forgives_accents_case_and_articles(visit):
    page = visit()
    def first(text):
        page.get_by_role('combobox', name='Find a film').fill(text)
        return page.locator('.rate-found li').first.inner_text()
    assert first('AMELIE').startswith('Amelie') and first('leon prof').startswith('Léon')
    assert first('godfather the').startswith('The Godfather') and first('the matrix').startswith('The Matrix')
    assert 'No film here' in first('zzzz')
    page.keyboard.press('Enter')
    assert page.evaluate('location.hash') == ''

def test_the_focus_stays_on_what_was_clicked(visit):
    page = visit(address(TEN))
    for where in ('.rate-best-films', '.rate-similar'):
        button = page.locator(f'{where} button').nth(2)
        button.focus()
        page.keyboard.press('Enter')
        assert button.evaluate('b => b === document.activeElement')

def test_every_control_has_a_name_and_every_id_is_one(visit):
    page = visit(address(TEN))
    nameless = page.evaluate("""() => [...document.querySelectorAll('.rate-ready :is(button, input, select, [role=img], [role=radiogroup], [role=group])')]
        .filter(e => !e.closest('[hidden]') && !(e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent).trim()).map(e => e.outerHTML)""")
    assert nameless == []
    assert page.get_by_role('radiogroup').count() >= 10 and page.get_by_role('radio', name='4.5 stars').count() >= 10
    ids = page.evaluate('[...document.querySelectorAll("[id]")].map(e => e.id)')
    assert len(ids) == len(set(ids))
    refs = page.evaluate('[...document.querySelectorAll("[aria-labelledby], [aria-controls]")].map(e => e.getAttribute("aria-labelledby") || e.getAttribute("aria-controls"))')
    assert refs and set(refs) <= set(ids)

# ---- the address

def test_the_address_is_the_state(visit):
    page = visit(address(TEN))
    first = listed(page)
    assert page.locator('.rate-note').is_hidden() and 'for 10 films' in page.locator('.rate-about').inner_text()
    page.reload()
    page.wait_for_selector('.rate-ready')
    assert listed(page) == first
    page.get_by_role('button', name='Reset').click()
    assert page.evaluate('location.hash') == '' and page.locator('.rate-away:visible').count() == 0
    page.evaluate('h => { location.hash = h }', address({541: 5}))          # another link, followed on the same page
    page.wait_for_function('document.querySelector(".rate-about").textContent.includes("for 1 film.")')

def test_the_link_can_be_copied(visit):
    page = visit(address(TEN), permissions=['clipboard-read', 'clipboard-write'])
    page.get_by_role('button', name='Copy link').click()
    told(page, 'Copied')
    assert page.evaluate('navigator.clipboard.readText()') == page.url and page.url.endswith(address(TEN))

def test_example_tastes_know_all_their_films(visit):
    page = visit()
    lists = []
    for button in page.get_by_role('group', name='Example tastes').get_by_role('button').all():
        button.click()
        assert page.locator('.rate-away:visible').count() == 6, 'a film of the taste is not in the file'
        lists.append(tuple(listed(page)[0]))
    assert len(lists) >= 3 and len(set(lists)) == len(lists)

@pytest.mark.parametrize('hash, films, says', [
    ('#stars=541:5,hello,999999999:3,1214:4', 2, ['“hello”', '“999999999:3”', 'What could be read is here: 2 films']),
    ('#stars=541:7,541:0,541:-1,541:4.7,541:NaN', 0, ['“541:7”', 'and 2 more', 'You can start afresh below']),
    ('#stars=541:5,541:1', 1, ['“541:1”', '1 film.']),
    ('#stars=<img src=x onerror=alert(1)>', 0, ['“<img src=x onerror=alert(1)>”']),
    ('#stars=%E0%A4%A,541:5', 1, ['%E0%A4%A']),
    ('#wxyz', 0, ['“wxyz”']),
    ('#stars=' + '9'*5000, 0, ['999']),
    ('#stars=', 0, None), ('#a-place', 0, None), ('', 0, None)])
def test_a_bad_address_is_answered_kindly(hash, films, says, visit):
    page = visit(hash, width=390)
    note = page.locator('.rate-note')
    assert page.locator('.rate-away:visible').count() == films and len(listed(page)[0]) == 10
    assert note.is_visible() == bool(says)
    for words in says or []: assert words in note.inner_text()
    assert page.locator('.rate-ready img').count() == 0
    assert page.evaluate('document.documentElement.scrollWidth') <= 390
    if says:
        told(page, 'left out')
        page.locator('.rate-stars label').nth(9).click()
        assert page.evaluate('location.hash').startswith('#stars=')

# ---- on every screen, and when something is missing

@pytest.mark.parametrize('width', [320, 390, 700, 1000])
def test_nothing_is_cut_off(width, visit):
    page = visit(address(TEN), width=width, has_touch=width < 500)
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    page.get_by_role('combobox', name='Find a film').fill('the')
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    if width < 500:
        half = page.locator('.rate-stars label').first.bounding_box()
        assert half['width'] >= (24 if width >= 390 else 20) and half['height'] >= 44, 'too small for a finger'

@pytest.mark.parametrize('width', [390, 1000])
@pytest.mark.parametrize('name', TASTES)
def test_names_on_the_map_do_not_overlap(name, width, visit):
    page = visit(address(TASTES[name]), width=width)
    boxes = page.evaluate('[...document.querySelectorAll(".rate-map text")].map(t => { const b = t.getBoundingClientRect(); return [b.left, b.top + 2, b.right, b.bottom - 2] })')
    frame = page.locator('.rate-map svg').bounding_box()
    assert len(boxes) > 12
    assert [(a, b) for n, a in enumerate(boxes) for b in boxes[:n] if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]] == []
    assert min(b[0] for b in boxes) >= frame['x'] - 1 and max(b[2] for b in boxes) <= frame['x'] + frame['width'] + 1

def luminance(rgb):
    linear = [c/12.92 if c <= 0.03928 else ((c + 0.055)/1.055)**2.4 for c in (v/255 for v in rgb)]
    return 0.2126*linear[0] + 0.7152*linear[1] + 0.0722*linear[2]

@pytest.mark.parametrize('dark', [False, True])
def test_words_can_be_read_in_light_and_dark(dark, visit):
    "The contrast of text with the page is 4.5 or more, whichever colors the book has on."
    page = visit(address(TEN))
    if dark: page.evaluate('document.documentElement.dataset.scheme = "alternate"; document.body.classList.add("quarto-dark")')
    colors = page.evaluate("""() => { const pen = document.createElement('canvas').getContext('2d', {willReadFrequently: true})
        const rgb = c => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = c; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3) }
        const of = (s, p) => rgb(getComputedStyle(document.querySelector(s))[p])
        return {page: of('body', 'backgroundColor'), name: of('.rate-name', 'color'), small: of('.rate-name small', 'color'), quiet: of('.rate-about', 'color'),
          value: of('.rate-card .rate-value', 'color'), label: of('.rate-chart .rate-label', 'fill'), you: of('.rate-you-name', 'fill')} }""")
    back = luminance(colors.pop('page'))
    assert (back < 0.1) == dark
    contrast = {k: (max(back, luminance(c)) + 0.05)/(min(back, luminance(c)) + 0.05) for k, c in colors.items()}
    assert {k: c for k, c in contrast.items() if c < 4.5} == {}

def test_in_any_element(visit):
    page = visit(address(TEN), name='bare.html')
    assert len(listed(page)[0]) == 10 and page.locator('h4').count() == 4 and page.locator('h2').count() == 0

def test_without_javascript(visit):
    page = visit(ready=None, java_script_enabled=False)
    assert 'with JavaScript' in page.locator('#rate-films').inner_text()

@pytest.mark.parametrize('answer, says', [(dict(status=404), '404'), (dict(status=200, body='{"k": 3}\nxx'), 'could not be read'), (None, 'could not be read'), ('cut', 'not whole')])
def test_without_the_films(answer, says, visit, site):
    if answer == 'cut': answer = dict(status=200, body=(site[1]/'assets'/'rate'/'films.bin').read_bytes()[:-2])
    def before(page): page.route('**/films.bin', lambda r: r.abort() if answer is None else r.fulfill(**answer))
    page = visit(ready='[role=alert]', before=before)
    text = page.get_by_role('alert').inner_text()
    assert says in text and 'nothing to rate here yet' in text
