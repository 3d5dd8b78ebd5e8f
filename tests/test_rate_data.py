"""The data file of the page "Rate ten films": what it holds, that its lists answer to a taste, and that its settings are those
which the measurement chose."""
import ast, functools, gzip, importlib.util, json, sys
from pathlib import Path
from typing import NamedTuple
import numpy as np
import pytest
import torch
from mfbook.holdout import rating_counts
from mfbook.newcomers import my_ratings
from mfbook.ratings import load_sample
from mfbook.recommending import film_map

root = Path(__file__).resolve().parent.parent

def script(name, folder):
    spec = importlib.util.spec_from_file_location(name, root/folder/f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(root/folder))
    try: spec.loader.exec_module(module)
    finally: sys.path.remove(str(root/folder))
    return module

make = script('make_rate_data', 'tools')

# ---- the page's arithmetic in numpy, from the file alone

class Films(NamedTuple):
    "The file, read."
    head: dict
    stars: np.ndarray    # (n, k+1) rows [factors, bias]
    likes: np.ndarray    # (n, k)

class Answer(NamedTuple):
    "What the page says to somebody."
    predicted: np.ndarray   # (n,) stars
    deviation: np.ndarray   # (n,) the plus-minus
    score: np.ndarray       # (n,) what orders the list, in points
    ten: list               # rows of the films listed

def read(path):
    text, _, body = Path(path).read_bytes().partition(b'\n')
    head = json.loads(text)
    n = len(head['id'])
    table = np.frombuffer(body, dtype=np.int8)
    first = n*len(head['stars']['scale'])
    stars = table[:first].reshape(n, -1)*head['stars']['scale']
    likes = table[first:].reshape(n, -1)*head['likes']['scale']
    return Films(head, stars, likes)

def fold(X, y, prior):
    "Solve (X'X + L) w = X'y + L m; gives w and the inverse of the matrix."
    L, m = np.array(prior['precision']), np.array(prior['mean'])
    inverse = np.linalg.inv(X.T @ X + L)
    return inverse @ (X.T @ y + L @ m), inverse

def ask(films, given, least=None):
    "The page's answer to `given`, a dict MovieLens id -> stars."
    head = films.head
    rated = [head['id'].index(i) for i in given]
    values = np.array(list(given.values()), dtype=float)
    x = np.column_stack([films.stars[:, :-1], np.ones(len(films.stars))])
    base = head['stars']['mu'] + films.stars[:, -1]
    w, inverse = fold(x[rated], values - base[rated], head['stars'])
    predicted = base + x @ w
    deviation = np.sqrt(head['stars']['noise']*(1 + ((x @ inverse)*x).sum(1)))

    liked = [i for i, value in zip(rated, values) if value >= head['liked']]
    p, _ = fold(films.likes[liked], np.ones(len(liked)), head['likes'])
    score = 100*(films.likes @ p + head['star_weight']*(predicted - head['stars']['mu']))
    allowed = np.array(head['count']) >= (least or head['list_least'])
    allowed[rated] = False
    ten = np.argsort(-np.where(allowed, score, -np.inf), kind='stable')[:10]
    return Answer(predicted, deviation, score, ten.tolist())

@pytest.fixture(scope='module')
def ratings(): return load_sample()

@functools.cache
def trained():
    torch.set_num_threads(1)
    return *make.star_model(load_sample()), make.order_model(load_sample())

@pytest.fixture(scope='module')
def models():
    "The model of stars, the variance of a rating around it, and the model of likes; trained once for the tests of the page as well."
    return trained()

@pytest.fixture(scope='module')
def path(ratings, models, tmp_path_factory):
    "The file, written anew."
    target = tmp_path_factory.mktemp('rate')/'films.bin'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, 'star_model', lambda _: models[:2])
        patch.setattr(make, 'order_model', lambda _: models[2])
        assert make.write(target)
    return target

@pytest.fixture(scope='module')
def films(path): return read(path)

# ---- what is in the file

def test_the_file_holds_the_models(ratings, models, films, path):
    stars, noise, likes = models
    head = films.head
    count = rating_counts(ratings)[1]
    kept = [stars.item_code(i) for i in head['id']]
    assert sorted(kept) == (count >= make.MIN_RATINGS).nonzero().flatten().tolist() and head['count'] == count[kept].tolist()
    for mine, model, width in ((films.stars, stars, stars.k + 1), (films.likes, likes, likes.k)):
        exact = model.rows('item')[kept].double().numpy()[:, :width]
        step = np.abs(exact).max(0)/127
        assert mine.shape == exact.shape and (np.abs(mine - exact) <= 0.501*step).all()
    assert head['stars']['noise'] == noise and 0.5 < noise < 1
    n = head['id'].index(260)
    assert (head['title'][n], head['year'][n]) == ('Star Wars: Episode IV - A New Hope', 1977)
    assert [g for b, g in enumerate(head['genres']) if head['genre'][n] >> b & 1] == sorted(ratings.movies.genres[stars.item_code(260)].split('|'))
    assert len(gzip.compress(path.read_bytes())) < 205_000

def test_the_map_is_the_lessons(ratings, models, films):
    stars = models[0]
    known = rating_counts(ratings)[1] >= make.ON_MAP
    places, share = film_map(stars, known.nonzero().flatten())
    own = films.head['map']
    middle, axes = (torch.tensor(own[name], dtype=torch.float64) for name in ('middle', 'axes'))
    mine = (stars.rows('item')[known, :-1].double() - middle) @ axes.T
    assert (mine - places).abs().max() < 1e-4 and own['share'] == pytest.approx(share)

def test_the_file_is_written_when_something_changed(models, tmp_path, monkeypatch):
    monkeypatch.setattr(make, 'star_model', lambda _: models[:2])
    monkeypatch.setattr(make, 'order_model', lambda _: models[2])
    target = tmp_path/'films.bin'
    assert make.write(target) and not make.write(target)
    monkeypatch.setattr(make, 'source', lambda: 'another')
    assert make.write(target) and target.read_bytes().startswith(b'{"made_from":"another"')

@pytest.mark.parametrize('title, natural', [('Godfather: Part II, The', 'The Godfather: Part II'), ('Boat, The (Das Boot)', 'The Boat (Das Boot)'),
                                            ('Boot, Das', 'Das Boot'), ('Monsters, Inc.', 'Monsters, Inc.'), ('Bug\'s Life, A', 'A Bug\'s Life'), ('Up', 'Up')])
def test_titles_in_their_natural_order(title, natural): assert make.natural(title) == natural

# ---- the answers

def test_the_file_answers_as_the_models_do(ratings, models, films):
    "Eight bits a number move a prediction by less than a fiftieth of a star."
    given = {541: 5, 1214: 4.5, 2571: 5, 924: 4, 2671: 2, 1721: 1.5, 912: 4.5, 780: 1, 4306: 3, 356: 3.5}
    stars, _, likes = models
    kept = [stars.item_code(i) for i in films.head['id']]
    items, values = my_ratings(ratings, given)
    predicted = stars.scores(stars.fold_in(items, values)).double().numpy()
    liked = items[values >= make.LIKED]
    liking = likes.scores(likes.fold_in(liked, torch.ones(len(liked)))).double().numpy()
    score = 100*(liking + make.STAR_WEIGHT*(predicted - stars.mean))
    answer = ask(films, given)
    assert np.abs(answer.predicted - predicted[kept]).max() < 0.02
    assert np.abs(answer.score - score[kept]).max() < 1.5
    counts = np.array(films.head['count'])
    allowed = (counts >= make.LEAST) & ~np.isin(films.head['id'], list(given))
    exact = np.argsort(-np.where(allowed, score[kept], -np.inf), kind='stable')[:10]
    assert len(set(exact.tolist()) & set(answer.ten)) >= 9

# ten films of one taste each, and the genres that are that taste or close to it
TASTES = {
    'science fiction': ([541, 1214, 2571, 924, 260, 1200, 589, 1240, 1270, 32], {'Sci-Fi', 'Fantasy', 'Adventure'}),
    'romantic comedies': ([4246, 2671, 587, 539, 357, 2424, 1265, 1784, 1307, 597], {'Romance', 'Comedy'}),
    'film noir': ([1617, 32587, 1252, 913, 1179, 4848, 922, 1212, 1284, 3435], {'Film-Noir', 'Crime', 'Mystery', 'Thriller'}),
    'horror': ([1214, 1258, 2710, 1219, 1407, 1997, 2167, 6502, 1215, 1387], {'Horror', 'Thriller', 'Mystery'})}

def genres_of(films, i): return {genre for bit, genre in enumerate(films.head['genres']) if films.head['genre'][i] >> bit & 1}

@pytest.mark.parametrize('taste', TASTES)
def test_the_list_is_of_the_taste(taste, films):
    ids, close = TASTES[taste]
    ten = ask(films, dict.fromkeys(ids, 5)).ten
    fitting = [films.head['title'][i] for i in ten if genres_of(films, i) & close]
    assert len(fitting) >= 6, [films.head['title'][i] for i in ten]

def test_lists_of_two_tastes_differ(films):
    lists = {taste: set(ask(films, dict.fromkeys(ids, 5)).ten) for taste, (ids, _) in TASTES.items()}
    shared = {(a, b): len(lists[a] & lists[b]) for a in lists for b in lists if a < b}
    assert max(shared.values()) <= 2, shared

def test_the_plus_minus_shrinks_as_more_is_known(films):
    none, one, ten = (ask(films, dict.fromkeys(TASTES['horror'][0][:n], 4)).deviation for n in (0, 1, 10))
    assert (one < none).all() and (ten < one).all() and ten.min() > films.head['stars']['noise']**0.5

# ---- the measurement

@pytest.fixture(scope='module')
def page(): return script('page', 'benchmarks')

def test_the_settings_are_those_that_were_chosen(page):
    "The page's file is made with what the ledger chooses; and no order of stars alone comes near it."
    settings = ast.literal_eval(page.chosen().settings)
    assert settings.pop('least') == make.LEAST and settings.pop('stars') == make.STAR_WEIGHT
    assert settings == make.ORDER
    ndcg = page.table()[('ndcg', 'mean')].droplevel('settings')
    others = ndcg.drop(page.CHOSEN)
    assert ndcg[page.CHOSEN] > others.max() - page.TOLERANCE
    assert ndcg[page.CHOSEN] > others[others.index.str.startswith('stars')].max() + 0.1

def test_measures_by_hand(page):
    "Five films, two wanted: the list is 2, 0, 4, ... and the film that was given stays out."
    person = page.Person(torch.tensor([1]), torch.tensor([5.]), np.array([0, 3]))
    scores = np.array([0.5, 9, 0.7, 0.1, 0.4])
    films = page.best_films(scores, person, np.arange(5), 3)
    assert films.tolist() == [2, 0, 4]
    ndcg, recall = page.found(np.r_[films, [3], np.full(16, 99)], person.wanted)
    assert ndcg == pytest.approx((1/np.log2(3) + 1/np.log2(5))/(1 + 1/np.log2(3))) and recall == 1
    both = page.measure(np.array([np.arange(30.), -np.arange(30.)]), [person, person], np.arange(30))
    assert both['coverage'] == 20 and both['shared'] == 0

def test_nobody_held_out_is_learned_from(page, ratings):
    drawn = page.draw(ratings, 0)
    assert len(drawn.valid) == len(drawn.test) == page.HELD_OUT//2
    assert len(drawn.seen) + sum(len(p.others) + len(p.items) for p in drawn.valid + drawn.test) == len(ratings)
    for person in drawn.test:
        assert len(person.items) == page.GIVEN and (person.stars >= make.LIKED).all() and len(person.wanted) >= page.FAVORITES - page.GIVEN
        assert not set(person.items.tolist()) & set(person.wanted.tolist())

def test_the_mean_on_the_scale(page):
    "In the middle the cut does nothing; near the end it takes some; it never reaches the end."
    mean, deviation = torch.tensor([2.75, 4.5, 5.5], dtype=torch.float64), torch.full((3,), 0.8, dtype=torch.float64)
    expected = page.on_the_scale(mean, deviation, 0.5, 5)
    draws = (mean + deviation*torch.randn(100_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).clamp(0.5, 5)
    assert torch.allclose(expected, draws.mean(0), atol=0.01) and expected.max() < 5
