"The page \"Rate ten films\" in a browser: the same answers as in Python, by mouse and by keyboard, nothing lost, and kind to bad addresses."
import functools, gzip, http.server, re, threading
from pathlib import Path
import numpy as np
import pytest
from conftest import FULL, pick
from execnb.nbio import read_nb
from mfbook.holdout import rating_counts
from mfbook.newcomers import my_ratings, why
from mfbook.recommending import films_where, similar
import torch
from test_rate_data import ask, films, make, models, path, ratings, read    # fixtures as well

CHROMIUM = Path('/usr/bin/chromium')
sync_api = pytest.importorskip('playwright.sync_api', reason='playwright is not installed: pip install playwright')
if not CHROMIUM.exists(): pytest.skip(f'no browser at {CHROMIUM}: apt-get install chromium', allow_module_level=True)

root = Path(__file__).resolve().parent.parent

# ten films, as somebody might rate them: MovieLens's number -> stars
TEN = {541: 5, 1214: 4.5, 2571: 5, 924: 4, 2671: 2, 1721: 1.5, 912: 4.5, 780: 1, 4306: 3, 356: 3.5}
TASTES = {'ten': TEN, 'one': {356: 5}, 'nothing': {}, 'low': {912: .5, 923: 1, 904: 1, 780: 5, 1917: 5}}

def address(stars): return '#stars=' + ','.join(f'{i}:{s:g}' for i, s in stars.items()) if stars else ''

# ---- the page, served as the site serves it

@pytest.fixture(scope='module')
def site(tmp_path_factory, path):
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
    (top/'assets'/'rate'/'films.bin').write_bytes(path.read_bytes())
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
    go.address = site[0] + 'rate.html'
    yield go
    for c in contexts: c.close()
    assert thrown == []

def listed(page):
    "The ten films as the page shows them: rows in the file, and the numbers beside them."
    shown = page.locator('.rate-best-films > li > button').evaluate_all("rows => rows.map(r => [r.dataset.film, r.querySelector('.rate-value').innerText])")
    return [int(film) for film, _ in shown], [value for _, value in shown]

def told(page, *words):
    "Wait until the live region holds `words`."
    page.wait_for_function('w => w.every(x => document.querySelector("[role=status]").textContent.includes(x))', arg=list(words), timeout=5000)

# ---- the same answers as Python

def test_films_rated_by_hand(visit, films):
    "Each film found by its title, each star clicked; then the ten films are those of the file."
    head, page = films.head, visit()
    stars = TEN if FULL else {i: TEN[i] for i in (541, 1214, 2671, 356)}
    for i, s in stars.items():
        title, year = head['title'][head['id'].index(i)], head['year'][head['id'].index(i)]
        page.get_by_role('combobox', name='Find a film').fill(f'{title} {year}')
        page.locator('.rate-found li').first.click()
        page.get_by_role('radiogroup', name=f'Stars for {title} ({year})').locator(f'label:has(input[value="{s:g}"])').click()
    assert page.evaluate('location.hash') == address(stars)
    assert listed(page)[0] == ask(films, stars).ten

@pytest.mark.parametrize('name', pick(TASTES, 'ten', 'nothing', 'low'))
def test_the_same_as_python(name, visit, films):
    "All scores, predictions and plus-minus: to rounding."
    stars = TASTES[name]
    page = visit(address(stars))
    theirs = page.evaluate('''async stars => { const m = await import('./assets/rate/rate.js')
        const model = m.readModel(await (await fetch('assets/rate/films.bin')).arrayBuffer())
        const fold = m.foldBoth(model, new Map(stars.map(s => [model.code.get(s[0]), s[1]])))
        return model.id.map((_, i) => [m.predict(model.stars, fold.stars, i), m.plusMinus(model.stars, fold.stars, i),
            m.score(model, fold, i), m.expected(model, fold, i)]) }''', list(map(list, stars.items())))
    predicted, deviation, score, expected = np.array(theirs).T
    answer = ask(films, stars)
    assert np.abs(predicted - answer.predicted).max() < 1e-9
    assert np.abs(deviation - answer.deviation).max() < 1e-9
    assert np.abs(score - answer.score).max() < 1e-7
    draws = np.linspace(-4, 4, 2001)
    weights = np.exp(-draws**2/2)/np.exp(-draws**2/2).sum()
    cut_off = (predicted[:, None] + deviation[:, None]*draws).clip(*films.head['range']) @ weights
    assert np.abs(expected - cut_off).max() < 1e-3 and expected.max() < 5 and expected.min() > 0.5
    shown, texts = listed(page)
    assert shown == answer.ten
    assert texts == [f'{expected[i]:.1f} \u00b1 {deviation[i]:.1f}' for i in shown]

def test_what_moved(visit, films):
    "Beside each film stands the place it has before any stars."
    page = visit()
    assert page.locator('.rate-moved').count() == 0
    page = visit(address(TEN))
    before, answer = ask(films, {}).score, ask(films, TEN)
    open_to = np.array(films.head['count']) >= films.head['list_least']
    open_to[[films.head['id'].index(i) for i in TEN]] = False
    places = [int((before[open_to] > before[i]).sum()) + 1 for i in answer.ten]
    said = [int(re.search(r'was place (\d+)', t)[1]) if 'was place' in t else None for t in page.locator('.rate-best-films > li > button').all_inner_texts()]
    assert all(was == said or (said is None and was == n) for n, (was, said) in enumerate(zip(places, said), 1)) and any(said)

def test_why_opens_under_its_film(visit, ratings, models, films):
    "The bars are the shares of lesson 08 in both models, and sum to the score."
    stars, _, likes = models
    page = visit(address(TEN))
    assert page.locator('.rate-why:visible').count() == 0
    button = page.locator('.rate-best-films > li > button').nth(3)
    button.click()
    assert page.locator('[aria-expanded=true]').count() == 1 and button.get_attribute('aria-expanded') == 'true'
    assert page.locator('.rate-best-films > li').nth(3).locator('.rate-why').is_visible()
    i = listed(page)[0][3]
    raw_id = films.head['id'][i]
    items, values = my_ratings(ratings, TEN)
    liked = items[values >= make.LIKED]
    points = why(stars, (items, values), raw_id).dropna().set_index('part').share*100*make.STAR_WEIGHT
    events = why(likes, (liked, torch.ones(len(liked))), raw_id).dropna().set_index('part').share*100
    own = points.add(events, fill_value=0)
    bars = page.locator('.rate-chart svg').get_attribute('aria-label').replace('\u2212', '-').split(': ', 1)[1].split('; ')
    shown = [float(b.rsplit(' ', 1)[1]) for b in bars]
    assert len(shown) == 11 and np.abs(np.sort(shown[:-1]) - np.sort(own)).max() < 0.5
    assert abs(sum(shown) - ask(films, TEN).score[i]) < 0.6
    assert abs(float(page.locator('.rate-add').inner_text().split()[1]) - ask(films, TEN).score[i]) < 0.051
    button.click()
    assert page.locator('.rate-why:visible').count() == 0

def test_films_liked_by_the_same_people_are_the_lessons(visit, ratings, models, films):
    page = visit(address(TEN))
    page.locator('.rate-best-films > li > button').first.click()
    raw_id = films.head['id'][listed(page)[0][0]]
    offset = films_where(ratings, min_ratings=films.head['list_least'], counts=rating_counts(ratings)[1])
    expected = similar(models[2], raw_id, n=5, offset=offset)
    shown = [float(v) for v in re.findall(r'\) (\d\.\d\d)', page.locator('.rate-similar').inner_text())]
    assert len(shown) == 5 and np.abs(np.array(shown) - expected.cosine).max() < 0.021

def test_order_by_stars_and_least_count(visit, films):
    head, page = films.head, visit(address(TEN))
    before = listed(page)[0]
    page.get_by_label('predicted stars').check()
    shown, stars = listed(page)
    values = [float(text.split()[0]) for text in stars]
    assert shown != before and values == sorted(values, reverse=True)
    page.get_by_label('Films with at least').select_option('100')
    shown, _ = listed(page)
    assert len(shown) == 10 and min(head['count'][i] for i in shown) >= 100

# ---- nothing is lost

def test_stars_outlast_the_visit(visit):
    "Kept in the browser: after leaving, with Back, and on the bare address."
    page = visit(address(TEN))
    page.locator('.rate-away:visible').first.click()
    left = page.evaluate('location.hash')
    here = page.url.split('#')[0]
    page.goto(here.replace('rate.html', 'bare.html'))
    page.wait_for_selector('.rate-ready')
    assert page.evaluate('location.hash') == left and page.locator('.rate-away:visible').count() == 9
    page.goto('about:blank')
    page.go_back()
    page.wait_for_selector('.rate-ready')
    page.go_back()
    page.wait_for_selector('.rate-ready')
    assert 'rate.html' in page.url and page.evaluate('location.hash') == left

def test_undo_one_step_and_a_reset_that_asks(visit):
    page = visit(address(TEN))
    asked = []
    page.once('dialog', lambda d: (asked.append(d.message), d.dismiss()))
    page.get_by_role('button', name='Reset').click()
    assert '10 films' in asked[0] and page.evaluate('location.hash') == address(TEN)
    page.once('dialog', lambda d: d.accept())
    page.get_by_role('button', name='Reset').click()
    assert page.evaluate('location.hash') == '' and page.get_by_role('button', name='Reset').is_disabled()
    page.reload()
    page.wait_for_selector('.rate-ready')
    page.get_by_role('button', name='Undo').click()
    assert page.evaluate('location.hash') == address(TEN)
    page.get_by_role('button', name='Love stories').click()
    page.get_by_role('button', name='Undo').click()
    assert page.evaluate('location.hash') == address(TEN)

def test_a_link_does_not_overwrite(visit):
    "Somebody else's stars are shown; the reader's own come back with Undo, and on the next visit."
    page = visit()
    page.locator('.rate-stars label').nth(9).click()
    own = page.evaluate('location.hash')
    page.goto('about:blank')
    page.goto(visit.address + address({541: 5, 1214: 4}))
    page.wait_for_selector('.rate-ready')
    assert page.locator('.rate-note').is_visible() and page.locator('.rate-away:visible').count() == 2
    page.goto('about:blank')
    page.goto(visit.address)
    page.wait_for_selector('.rate-ready')
    assert page.evaluate('location.hash') == own
    page.goto('about:blank')
    page.goto(visit.address + address({541: 5, 1214: 4}))
    page.wait_for_selector('.rate-ready')
    page.get_by_role('button', name='Undo').click()
    assert page.evaluate('location.hash') == own

def test_without_storage(visit):
    "A browser that keeps nothing still rates."
    def before(page): page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('no') }})")
    page = visit(address(TEN), before=before)
    page.locator('.rate-away:visible').first.click()
    assert len(listed(page)[0]) == 10 and page.locator('.rate-away:visible').count() == 9

# ---- by keyboard, and for who listens

def test_by_keyboard_alone(visit):
    page = visit()
    page.keyboard.press('Tab')
    assert page.locator(':focus').inner_text() == 'Skip to the films'
    page.keyboard.press('Enter')
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
    for _ in range(4): page.keyboard.press('ArrowRight')
    assert page.evaluate('location.hash') == '#stars=1214:5', 'the stars begin again at a half'
    page.keyboard.press('Tab')
    assert page.locator(':focus').get_attribute('aria-label') == 'Take the stars of Alien (1979) away'
    page.keyboard.press('Enter')
    assert page.evaluate('location.hash') == '' and page.locator(':focus').get_attribute('type') == 'radio'
    told(page, 'Alien (1979): no stars.')

def test_the_first_half_star_is_the_last(visit):
    page = visit(address({541: .5}))
    page.locator('.rate-stars input:checked').focus()
    page.keyboard.press('ArrowLeft')
    assert page.evaluate('location.hash') == '#stars=541:0.5'

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
    for text, title in {'lotr': 'The Lord of the Rings: The F', 'walle': 'WALL\u00b7E', 'wall-e': 'WALL\u00b7E', 'godfather 2': 'The Godfather: Part II',
                        'star wars 5': 'Star Wars: Episode V ', 'termnator': 'Termin', 'the matirx': 'The Matrix', 'spiderman': 'Spider-Man'}.items():
        assert title in first(text), text
    first('zzzz')
    page.keyboard.press('Enter')
    assert page.evaluate('location.hash') == ''

def test_the_focus_stays_on_what_was_clicked(visit):
    page = visit(address(TEN))
    button = page.locator('.rate-best-films button').nth(2)
    button.focus()
    page.keyboard.press('Enter')
    assert button.evaluate('b => b === document.activeElement') and button.get_attribute('aria-expanded') == 'true'

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
    page.once('dialog', lambda d: d.accept())
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

BAD = [
    ('#stars=541:5,hello,999999999:3,1214:4', 2, ['“hello”', '“999999999:3”', 'What could be read is here: 2 films']),
    ('#stars=541:7,541:0,541:-1,541:4.7,541:NaN', 0, ['“541:7”', 'and 2 more', 'You can start afresh below']),
    ('#stars=541:5,541:1', 1, ['“541:1”', '1 film.']),
    ('#stars=<img src=x onerror=alert(1)>', 0, ['“<img src=x onerror=alert(1)>”']),
    ('#stars=%E0%A4%A,541:5', 1, ['%E0%A4%A']),
    ('#wxyz', 0, ['“wxyz”']),
    ('#stars=' + '9'*5000, 0, ['999']),
    ('#stars=', 0, None), ('#a-place', 0, None), ('', 0, None)]

@pytest.mark.parametrize('hash, films, says', BAD if FULL else BAD[:7] + BAD[8:9])
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

@pytest.mark.parametrize('width', pick([320, 390, 700, 1000], 320, 390, 1000))
def test_nothing_is_cut_off(width, visit):
    page = visit(address(TEN), width=width, has_touch=width < 500)
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    page.get_by_role('combobox', name='Find a film').fill('the')
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    if width < 500:
        half = page.locator('.rate-stars label').first.bounding_box()
        assert half['width'] >= (24 if width >= 390 else 20) and half['height'] >= 44, 'too small for a finger'

def test_the_bar_of_a_phone(visit):
    "It says what it is, leads to the list, and hides nothing that has the focus."
    page = visit(address(TEN), width=390, has_touch=True)
    bar = page.locator('.rate-glance')
    assert bar.inner_text().startswith('\u2193 Your list: 1. ')
    covered = page.evaluate("""() => [...document.querySelectorAll('.rate-card input, .rate-away')].filter(e => {
        if (e.hidden) return false
        e.focus()
        const b = e.getBoundingClientRect(), bar = document.querySelector('.rate-glance').getBoundingClientRect()
        return b.bottom > bar.top + 1 && b.top < bar.bottom - 1 }).length""")
    assert covered == 0
    bar.click()
    assert page.locator(':focus').inner_text() == 'Ten films for you'
    page.wait_for_function('document.querySelector(".rate-best-films").getBoundingClientRect().top < innerHeight/2')
    below = page.evaluate('document.querySelector(".rate-glance").getBoundingClientRect().bottom <= document.querySelector(".rate-answer").getBoundingClientRect().top')
    assert below, 'the bar lies over the list'

@pytest.mark.parametrize('name, width', pick([(name, width) for name in TASTES for width in (390, 1000)],
                                            ('ten', 390), ('nothing', 1000), ('one', 390), ('low', 1000)))
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
    page.locator('.rate-best-films button').first.click()
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
    assert len(listed(page)[0]) == 10 and page.locator('h4').count() == 3 and page.locator('h2').count() == 0

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
