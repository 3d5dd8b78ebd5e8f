"Scale: the synthetic ratings' shape, noise and sameness; the copy that makes a second load fast, and its faults; the closed-form step."
import hashlib, multiprocessing, os, shutil, tempfile, warnings, zipfile
from pathlib import Path
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from mfbook.holdout import rmse, split_random
from mfbook.model import MatrixFactorization
from mfbook import scale
from mfbook.ratings import Ratings, load_ratings
from mfbook.als import fit_als, rows_of
from mfbook.gibbs import _Means, fit_variational
from mfbook.scale import (Begun, _activity, _none_unseen, _pairs, _popularity, _thin, closed_form, compiled, load_fast,
                          start_on_parts, synthetic_ratings)
from mfbook.training import batches, constant, fit_sgd, sgd

FULL = pytest.mark.skipif(not os.environ.get('MFBOOK_FULL'), reason='MFBOOK_FULL is not set; this one takes half a minute')
SHAPES = [(1_000_000, 6_280, 14_926), (3_200_000, 20_095, 26_700), pytest.param((32_000_204, 200_948, 84_432), marks=FULL)]

@pytest.fixture(scope='module', params=SHAPES, ids=["1M", "3.2M", "32M"])
def made(request): return (*request.param, synthetic_ratings(request.param[0]))

@pytest.fixture(scope='module')
def small(): return synthetic_ratings(60_000, seed=3)

def digest(s):
    tensors = [s.ratings.users, s.ratings.items, s.ratings.values, *(t.detach() for t in s.truth.state_dict().values())]
    return hashlib.sha256(b''.join(t.numpy().tobytes() for t in tensors)).hexdigest()

# ---- who rated what

def test_the_shape_is_exact(made):
    n, n_users, n_items, s = made
    r = s.ratings
    assert (len(r), r.n_users, r.n_items, r.rating_range) == (n, n_users, n_items, (.5, 5.))
    assert [x.dtype for x in (r.users, r.items, r.values)] == [torch.int32, torch.int32, torch.float32] and r.timestamps is None
    assert (s.truth.n_users, s.truth.n_items, s.truth.k) == (n_users, n_items, 24)

def test_no_pair_twice_and_in_order(made):
    r = made[-1].ratings
    pair = r.users.long()*r.n_items + r.items
    assert (pair[1:] > pair[:-1]).all() and r.items.min() == 0 and r.items.max() == r.n_items - 1

def test_the_tails(made):
    "Twenty ratings a user or more, half of the users below 80; every film rated, a third of them once or twice, the first by half of the users."
    n, n_users, n_items, s = made
    users, films = (torch.bincount(c).double() for c in (s.ratings.users, s.ratings.items))
    assert users.min() == 20 and 65 < users.median() < 80 and users.max() > 60*users.mean() and len(users) == n_users
    assert films.min() == 1 and len(films) == n_items and .25 < (films <= 2).double().mean() < .5 and films.median() < films.mean()/8
    assert .45 < films.max()/n_users < .7
    if n > 30_000_000: assert (films > 100_000).sum() >= 2

def test_every_half_star_and_only_those(made):
    v, times = made[-1].ratings.values.unique(return_counts=True)
    assert v.tolist() == [i/2 for i in range(1, 11)] and times.max() < .25*times.sum() and 3.3 < made[-1].ratings.mean < 3.6

@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_thinning_keeps_as_many_as_it_should(seed, want):
    g = np.random.default_rng(seed)
    want = np.array(want)
    got = want + g.integers(0, 12, len(want))
    pairs = np.concatenate([u*100 + np.sort(g.choice(100, n, replace=False)) for u, n in enumerate(got)])
    kept = _thin(pairs, got, want, g)
    assert np.bincount(kept // 100, minlength=len(want)).tolist() == want.tolist()
    assert np.isin(kept, pairs).all() and (np.diff(kept) > 0).all()

def test_thinning_spares_none_more_than_another():
    left = sum(_thin(np.arange(7), np.array([7]), np.array([4]), np.random.default_rng(s)) [:, None] == np.arange(7) for s in range(2000)).sum(0)
    assert abs(left/2000 - 4/7).max() < .04

@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(20, 300), st.integers(1, 40))
def test_lists_are_as_long_as_told_in_batches_of_any_size(seed, n_items, n_users):
    g = np.random.default_rng(seed)
    activity = g.integers(1, n_items + 1, n_users)                    # up to every film there is
    pairs = _pairs(activity, g.permutation(_popularity(n_items)), g, batch=int(g.integers(1, activity.sum() + 2)))
    assert np.bincount(pairs // n_items, minlength=n_users).tolist() == activity.tolist() and (np.diff(pairs) > 0).all()

def test_the_popular_are_chosen_more_often():
    weights = _popularity(5_000)
    times = np.bincount(_pairs(_activity(100_000, 628), weights, np.random.default_rng(0)) % 5_000, minlength=5_000)
    by_25 = times.reshape(200, 25).mean(1)                           # the films stand in the order of their weights
    assert by_25[-1] > 5*by_25[100] > 5*by_25[10] and np.corrcoef(np.arange(200), by_25.argsort().argsort())[0, 1] > .95

def test_an_unseen_film_takes_a_popular_ones_place():
    pairs = np.sort(np.r_[np.arange(50)*10, np.arange(50)*10 + 1, 3])      # of ten films 0 and 1 are seen by all, 3 by one
    after = _none_unseen(pairs.copy(), 10, np.random.default_rng(0))
    times = np.bincount(after % 10)
    assert times[2:].tolist() == [1]*8 and times[:2].sum() == 93 and np.bincount(after // 10).tolist() == np.bincount(pairs // 10).tolist()

def test_the_law_of_activity_adds_up():
    for n, m in ((10_000, 63), (100_004, 671), (1_000_001, 6_280)):
        a = _activity(n, m)
        assert a.sum() == n and a.min() >= 20 and len(a) == m and (np.diff(a) >= -1).all()

# ---- how they rated

def test_the_noise_is_what_it_is_said_to_be(made):
    "The error that remains when the truth is known: the noise, and what rounding adds and clamping takes."
    s = made[-1]
    best, plain = rmse(s.expected(s.ratings), s.ratings), rmse(s.truth.predict(s.ratings), s.ratings)
    assert .71 < best < .725 and best < plain < 1.006*best
    inside = (s.truth.predict(s.ratings) - 2.75).abs() < .25               # far from both ends nothing is clamped
    assert (s.truth.predict(s.ratings) - s.ratings.values)[inside].double().square().mean().sqrt().item() == pytest.approx((.75**2 + .5**2/12)**.5, rel=.005)

def test_other_noise_and_its_price():
    a, b = (synthetic_ratings(60_000, noise=x) for x in (.3, .9))
    assert [rmse(s.expected(s.ratings), s.ratings) for s in (a, b)] == [pytest.approx((.09 + 1/48)**.5, rel=.03), pytest.approx(.83, rel=.03)]
    assert a.truth.user_prior_precision[-1, -1].item() == pytest.approx((.3/.45)**2) and a.noise == .3

def test_what_is_expected_is_the_mean_over_many_drawings(small):
    "200 ratings of each pair, drawn and rounded here, against the table's mean."
    some = small.ratings.take(slice(0, 3000))
    score = small.truth(some.users, some.items).detach()
    drawn = ((2*(score + small.noise*torch.randn(400, len(score), generator=torch.Generator().manual_seed(0)))).round().clamp(1, 10)/2).mean(0)
    assert (small.expected(some) - drawn).abs().max() < 5*.75/20 and (small.expected(some) - drawn).mean().abs() < .004

def test_the_truth_is_a_model_like_any_other(small, tmp_path):
    assert isinstance(small.truth, MatrixFactorization) and isinstance(small.ratings, Ratings)
    p, q = small.truth.user_factors.detach(), small.truth.item_factors.detach()
    assert (p @ q.T).std().item() == pytest.approx(.45, rel=.1) and small.truth.user_bias.std().item() == pytest.approx(.45, rel=.15)
    assert (p.var(0)[:4].mean() > 2*p.var(0)[-8:].mean())
    small.truth.save(tmp_path/'m.safetensors')
    again = MatrixFactorization.load(tmp_path/'m.safetensors')
    assert torch.equal(again.predict(small.ratings), small.truth.predict(small.ratings))

def test_it_says_that_it_is_synthetic(small):
    assert repr(small).startswith('Synthetic: 60,000 ratings') and small.ratings.titles([0, 7]) == ['Synthetic film 1', 'Synthetic film 8']
    r, truth, noise = small
    assert r is small.ratings and truth is small.truth and noise == .75

# ---- the same again

def test_the_same_seed_gives_the_same_bytes_on_any_number_of_threads(small):
    threads, rows = torch.get_num_threads(), []
    try:
        for t in (1, 2, 3):
            torch.set_num_threads(t)
            rows.append(digest(synthetic_ratings(300_000, seed=3)))
    finally: torch.set_num_threads(threads)
    assert len(set(rows)) == 1
    assert digest(synthetic_ratings(60_000, seed=3)) == digest(small) != digest(synthetic_ratings(60_000, seed=4))

def test_the_global_seeds_do_not_matter():
    torch.manual_seed(1), np.random.seed(1)
    a, before = digest(synthetic_ratings(50_000)), torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(before, torch.rand(3)) and a == digest(synthetic_ratings(50_000))

@pytest.mark.parametrize('wrong, says', [(dict(n=5), 'n is 5; give a whole number, 50,000 or more'), (dict(n=1e6), 'n is 1000000.0; give a whole number'),
                                         (dict(noise=0), 'noise is 0; it must be above 0')])
def test_bad_settings(wrong, says):
    with pytest.raises(ValueError, match=says): synthetic_ratings(**wrong)

# ---- the copy for the next time

CSV = 'userId,movieId,rating,timestamp\n' + ''.join(f'{u},{i},{1 + (u*i) % 9/2},{u + i}\n' for u in range(1, 60) for i in range(3, 90, 2))
FILMS = 'movieId,title,genres\n3,Heat (1995),Action\n'
KINDS = {'ratings.csv': CSV, 'ratings.dat': ''.join(f'{u}::{i}::{1 + (u*i) % 9/2}::{u + i}\n' for u in range(1, 60) for i in range(3, 90, 2)),
         'u.data': ''.join(f'{u}\t{i}\t{1 + (u*i) % 5}\t{u + i}\n' for u in range(1, 60) for i in range(3, 90, 2))}

@pytest.fixture
def folder(tmp_path):
    (tmp_path/'ml').mkdir()
    (tmp_path/'ml'/'ratings.csv').write_text(CSV)
    (tmp_path/'ml'/'movies.csv').write_text(FILMS)
    return tmp_path/'ml'

def loaded(place):
    "What `load_fast` gives, whether it took the copy, and what it warned of."
    taken, kept = [], scale._kept
    def spy(*args):
        taken.append(kept(*args))
        return taken[-1]
    with warnings.catch_warnings(record=True) as said, pytest.MonkeyPatch.context() as m:
        warnings.simplefilter('always')
        m.setattr(scale, '_kept', spy)
        r = load_fast(place)
    return r, taken[0] is not None, [str(w.message) for w in said]

def same(a, b):
    assert a.to_frame().equals(b.to_frame()) and a.rating_range == b.rating_range
    assert [x.dtype for x in (a.users, a.items, a.values, a.timestamps)] == [torch.int32, torch.int32, torch.float32, torch.int64]
    assert a.user_ids.tolist() == b.user_ids.tolist() and a.item_ids.tolist() == b.item_ids.tolist()
    assert (a.movies is None) == (b.movies is None) and (a.movies is None or a.movies.equals(b.movies))

def first(place):
    r, taken, said = loaded(place)
    assert not taken and not said
    return r

@pytest.mark.parametrize('name', KINDS)
@pytest.mark.parametrize('place', ['folder', 'file', 'zip'])
def test_the_second_load_is_the_first(tmp_path, name, place, capsys):
    d = tmp_path/'ml'
    d.mkdir()
    (d/name).write_text(KINDS[name])
    if place == 'zip':
        with zipfile.ZipFile(tmp_path/'ml.zip', 'w') as z: z.write(d/name, f'ml/{name}')
    source = {'folder': d, 'file': d/name, 'zip': tmp_path/'ml.zip'}[place]
    same(first(source), load_ratings(source))
    copy = tmp_path/'ml.zip.mfbook' if place == 'zip' else d/f'{name}.mfbook'
    assert copy.exists() and copy.name in capsys.readouterr().out
    again, taken, said = loaded(source)
    assert taken and not said and capsys.readouterr().out == ''
    same(again, load_ratings(source))

def test_films_are_read_each_time(folder):
    first(folder)
    (folder/'movies.csv').write_text(FILMS.replace('Heat', 'Cold'))
    again, taken, said = loaded(folder)
    assert taken and again.titles([0]) == ['Cold (1995)']

def test_the_ids_of_a_copy_are_read_only_and_its_tensors_are_private(folder):
    first(folder)
    r = loaded(folder)[0]
    with pytest.raises(ValueError, match='read-only'): r.user_ids[0] = 7
    before = (folder/'ratings.csv.mfbook').read_bytes()
    for t in (r.users, r.values, r.timestamps): t.zero_()
    assert (folder/'ratings.csv.mfbook').read_bytes() == before
    same(loaded(folder)[0], load_ratings(folder))

def test_a_copy_that_is_replaced_does_not_disturb_who_holds_it(folder):
    first(folder)
    r, old = loaded(folder)[0], load_ratings(folder).to_frame()
    (folder/'ratings.csv').write_text(CSV.replace(',1.0,', ',5.0,'))
    new, taken, said = loaded(folder)
    assert not taken and r.to_frame().equals(old) and not new.to_frame().equals(old)

def scratch(at): return lambda data: data[:at % len(data)] + bytes([data[at] ^ 1]) + data[at % len(data) + 1:]
FAULTS = {'empty': lambda d: b'', 'cut': lambda d: d[:-8], 'cut in the head': lambda d: d[:50], 'cut in the middle': lambda d: d[:len(d)//2], 'longer': lambda d: d + bytes(8),
          'garbage': lambda d: bytes(range(256))*40, 'zeros': lambda d: bytes(len(d)), 'the tail is zeros': lambda d: d[:-4096] + bytes(4096),
          'the last bit': scratch(-1), 'a bit in the middle': lambda d: scratch(len(d)//2)(d), 'the head': scratch(0), 'text': lambda d: b'{"a": 1}', 'a csv': lambda d: CSV.encode()}
@pytest.mark.parametrize('what', FAULTS)
def test_a_damaged_copy_is_made_anew(folder, what):
    first(folder)
    copy = folder/'ratings.csv.mfbook'
    copy.write_bytes(FAULTS[what](copy.read_bytes()))
    r, taken, said = loaded(folder)
    assert not taken and len(said) == 1 and 'ratings.csv.mfbook is damaged' in said[0] and 'read anew' in said[0]
    same(r, load_ratings(folder))
    assert loaded(folder)[1:] == (True, [])

def test_a_source_that_changed_at_the_same_size(folder):
    first(folder)
    stat = (folder/'ratings.csv').stat()
    (folder/'ratings.csv').write_text(CSV.replace(',1.0,', ',5.0,'))
    os.utime(folder/'ratings.csv', ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert (folder/'ratings.csv').stat().st_size == stat.st_size
    r, taken, said = loaded(folder)
    assert not taken and 'was made from an older or another file' in said[0] and (r.values == 1).sum() == 0
    assert loaded(folder)[1:] == (True, [])

def test_a_source_of_another_size_and_the_same_time(folder):
    first(folder)
    stat = (folder/'ratings.csv').stat()
    (folder/'ratings.csv').write_text(CSV + '99,3,1.0,5\n')
    os.utime(folder/'ratings.csv', ns=(stat.st_atime_ns, stat.st_mtime_ns))
    r, taken, said = loaded(folder)
    assert not taken and len(said) == 1 and r.n_users == 60

def test_a_copy_of_another_version(folder, monkeypatch):
    first(folder)
    monkeypatch.setattr(scale, 'KEPT', '2')
    assert loaded(folder)[1] is False and loaded(folder)[1:] == (True, [])

def test_the_scale_is_part_of_the_key(tmp_path):
    "The same ratings.dat is of another data set, with another scale, when users.dat lies beside it."
    (tmp_path/'ratings.dat').write_text(KINDS['ratings.dat'])
    assert first(tmp_path).rating_range == (.5, 5.)
    (tmp_path/'users.dat').write_text('1::F::1::10::48067\n')
    r, taken, said = loaded(tmp_path)
    assert not taken and r.rating_range == (1., 5.)

@pytest.mark.parametrize('error', [PermissionError(13, 'Permission denied'), OSError(28, 'No space left on device')], ids=['read-only', 'disk full'])
def test_where_nothing_can_be_written_it_goes_on_with_a_word(folder, monkeypatch, error):
    def refuse(*args, **kw): raise error
    monkeypatch.setattr(tempfile, 'mkstemp', refuse)
    r, taken, said = loaded(folder)
    assert not taken and len(said) == 1 and 'no copy for the next time could be written' in said[0] and error.strerror in said[0]
    same(r, load_ratings(folder))
    assert sorted(p.name for p in folder.iterdir()) == ['movies.csv', 'ratings.csv']

@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_that_may_not_be_written(folder):
    folder.chmod(0o500)
    try: r, taken, said = loaded(folder)
    finally: folder.chmod(0o700)
    assert not taken and 'no copy' in said[0] and len(r) == CSV.count('\n') - 1

def test_an_interrupted_write_leaves_the_old_copy_or_none(folder, monkeypatch):
    def half(tensors, file, metadata):
        Path(file).write_bytes(b'half')
        raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(scale, 'save_file', half)
        with pytest.raises(KeyboardInterrupt): load_fast(folder)
        assert sorted(p.name for p in folder.iterdir()) == ['movies.csv', 'ratings.csv']
    first(folder)
    before = (folder/'ratings.csv.mfbook').read_bytes()
    os.utime(folder/'ratings.csv', ns=(5, 5))
    with monkeypatch.context() as m:
        m.setattr(scale, 'save_file', half)
        with pytest.raises(KeyboardInterrupt), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            load_fast(folder)
    assert (folder/'ratings.csv.mfbook').read_bytes() == before and len(list(folder.iterdir())) == 3

def test_what_is_to_be_warned_of_is_said_each_time(folder):
    (folder/'ratings.csv').write_text(CSV + '1,3,5.0,999\n')
    for _ in range(2):
        r, taken, said = loaded(folder)
        assert not taken and len(said) == 1 and 'left out 1 of' in said[0]
    assert not (folder/'ratings.csv.mfbook').exists()

def test_bad_input_is_told_as_ever(folder):
    (folder/'ratings.csv').write_text(CSV.replace(',1.0,', ',ten,', 1))
    with pytest.raises(ValueError, match="line .*'rating': 'ten' is not a number"): load_fast(folder)
    with pytest.raises(FileNotFoundError, match='nothing at'): load_fast(folder/'nowhere')
    assert not (folder/'ratings.csv.mfbook').exists()

def _load_often(args):
    place, n = args
    sums = set()
    for _ in range(n):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            os.utime(place/'ratings.csv')                             # the copy is old at once, and written anew
            r = load_fast(place)
        sums.add((len(r), float(r.values.double().sum()), int(r.timestamps.sum())))
    return sums

def test_two_processes_at_once(folder):
    r = first(folder)
    with multiprocessing.get_context('spawn').Pool(2) as pool: sums = pool.map(_load_often, [(folder, 30)]*2)
    assert set.union(*sums) == {(len(r), float(r.values.double().sum()), int(r.timestamps.sum()))}
    assert sorted(p.name for p in folder.iterdir()) == ['movies.csv', 'ratings.csv', 'ratings.csv.mfbook']

# ---- the step by hand

CXX = any(shutil.which(c) for c in (os.environ.get('CXX') or 'g++', 'c++', 'clang++'))
UPDATES = ['closed_form', pytest.param('compiled', marks=pytest.mark.skipif(not CXX, reason='no C++ compiler'))]

@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

@pytest.mark.parametrize('update', UPDATES)
def test_an_epoch_by_hand_is_autograds(small, one_thread, update):
    "Every tensor to 1e-5, the last batch shorter, rows many times in a batch, prices and a rate that show; the mean does not move."
    train = small.ratings.take(slice(0, 60_000, 3))
    models = [MatrixFactorization(train, k=8, init_std=.3) for _ in range(2)]
    start = [t.detach().clone() for t in models[0].parameters()]
    a, b = (fit_sgd(m, train, epochs=1, lr=8., decay=.3, bias_decay=.2, batch_size=1500, update=u) for m, u in zip(models, (sgd, getattr(scale, update))))
    assert len(train) % 1500 and a.rows[0]['train'] == pytest.approx(b.rows[0]['train'], abs=1e-5)
    for (name, x), y, before in zip(models[0].named_parameters(), models[1].parameters(), start):
        assert (x - y).abs().max() < 1e-5, name
        assert ((x - before).abs().max() > .05) == (name != 'mu'), f'{name}: a step that shows'

def test_a_step_by_hand_leaves_other_rows_alone_and_no_gradient(small, one_thread):
    model = MatrixFactorization(small.ratings, k=4)
    before, batch = model.user_factors.detach().clone(), next(batches(small.ratings.take(slice(100)), 64, 0))
    squared = closed_form(model)(*batch, 1., .1, .1)
    moved = (model.user_factors != before).any(1).nonzero()[:, 0]
    assert set(moved.tolist()) <= set(batch[0].tolist()) and len(moved) and model.user_factors.grad is None
    assert isinstance(squared, float) and squared > 0

def test_training_by_hand_learns_and_resumes(small, tmp_path, one_thread):
    split = split_random(small.ratings, seed=0)
    how = dict(lr=10., batch_size=256, update=closed_form, patience=99)
    whole, halves = (MatrixFactorization(split.train, k=8) for _ in range(2))
    h = fit_sgd(whole, split.train, split.valid, epochs=6, **how)
    assert h.rows[-1]['train'] < h.rows[0]['train'] - .03
    class Stop(Exception): pass
    def stopping(model):
        step, n = closed_form(model), 0
        def once(*args):
            nonlocal n
            n += 1
            if n > 3*(len(split.train)//256 + 1): raise Stop
            return step(*args)
        once.state_dict, once.load_state_dict = step.state_dict, step.load_state_dict
        return once
    stopping.__name__ = 'closed_form'
    with pytest.raises(Stop): fit_sgd(halves, split.train, split.valid, epochs=6, checkpoint=tmp_path/'c', **how | dict(update=stopping))
    again = MatrixFactorization(split.train, k=8)
    fit_sgd(again, split.train, split.valid, epochs=6, checkpoint=tmp_path/'c', **how)
    for x, y in zip(whole.parameters(), again.parameters()): assert torch.equal(x, y)

def test_without_a_compiler_it_says_so_and_goes_on(small, monkeypatch):
    monkeypatch.setenv('PATH', '')
    monkeypatch.delenv('CXX', raising=False)
    model = MatrixFactorization(small.ratings, k=4)
    with pytest.warns(UserWarning, match=r'no C\+\+ compiler is here'): step = compiled(model)
    assert step.by_hand is scale._by_hand and step(*next(batches(small.ratings, 64, 0)), 1., 0., 0.) > 0

# ---- a start on parts of the users

@pytest.fixture(scope='module')
def parted():
    train, valid, _ = split_random(synthetic_ratings(60_000).ratings, seed=0)
    model = MatrixFactorization(train, k=4)
    return train, valid, model, start_on_parts(model, train, shares=(.3,), sweeps=3, seed=1)

def asked(train, share): return torch.rand(train.n_users, generator=torch.Generator().manual_seed(1)) < share

def test_films_come_from_the_users_asked_and_the_others_take_their_rows(parted):
    train, _, model, begun = parted
    mine = asked(train, .3)
    part, alone = train.take(mine[train.users.long()]), MatrixFactorization(train, k=4)
    h = fit_als(alone, part, sweeps=3, decay=.03*part.values.std(correction=0).item(), bias_decay=.02, per_rating=True, steps=3)
    assert torch.equal(rows_of(model, 'item'), rows_of(alone, 'item'))
    theirs, rows = rows_of(alone, 'user')[mine], rows_of(model, 'user')
    assert torch.equal(rows[mine], theirs) and .2 < mine.float().mean() < .4
    assert all((theirs == row).all(1).any() for row in rows[~mine]) and len(rows[~mine].unique(dim=0)) > 20
    assert begun.share == .3 and begun.variance == pytest.approx(1.3*h.rows[-1]['train']**2) and not begun.covariances.any()

def test_a_second_share_is_fitted_by_variational_bayes_from_where_the_first_stopped(parted):
    train, _, first, begun = parted
    model = MatrixFactorization(train, k=4)
    more = start_on_parts(model, train, shares=(.3, .6), sweeps=3, seed=1)
    part, state = train.take(asked(train, .6)[train.users.long()]), None
    again = MatrixFactorization(train, k=4)
    again.load_state_dict(first.state_dict())
    state = _Means(again, part, 0)
    state.variance.fill_(begun.variance)                                      # the first knew nothing of covariances
    before = rows_of(again, 'item')
    state.side('user', again, 3)
    state.side('item', again, 3)
    films = rows_of(again, 'item')
    torch.testing.assert_close(rows_of(model, 'item'), films + .5*(films - before))
    assert more.share == .6 and more.variance == pytest.approx(state.variance.item(), rel=1e-5)
    torch.testing.assert_close(more.covariances, state.item)

def test_films_are_as_unsure_as_they_were_with_their_share_of_the_ratings(parted):
    train, _, _, _ = parted
    model = MatrixFactorization(train, k=4)
    state, C = _Means(model, train, 0), torch.eye(5)*torch.arange(1., 5)[:, None, None]
    for p in (model.item_factors, model.user_bias): p.data += 1               # since the state was made
    kinds, taken = len(state.item), []
    state.side = lambda name, *a: taken.append((name, state.item.clone(), state.variance.item(), int(state.sweeps)))
    Begun(.3, C, 1/4)(state, model, 3)
    name, item, variance, sweeps = taken[0]
    assert (name, variance, sweeps) == ('user', pytest.approx(.3), 1)
    assert [int(c[0, 0]) for c in item] == [min(max(1, kind - 1), 4) for kind in range(kinds)]
    for n in ('user', 'item'): assert torch.equal(getattr(state, f'{n}_before'), rows_of(model, n))

def test_each_share_is_told_how_much_smaller_the_one_before_was(parted, monkeypatch):
    train, ratios, real = parted[0], [], Begun.__call__
    monkeypatch.setattr(Begun, '__call__', lambda self, *a: ratios.append(self.share) or real(self, *a))
    begun = start_on_parts(MatrixFactorization(train, k=4), train, shares=(.1, .2, .8), sweeps=1)
    assert ratios == pytest.approx([1/2, 1/4]) and begun.share == .8

def test_it_is_a_better_start_than_none(parted):
    train, valid, _, _ = parted
    errors = []
    for start in (lambda m: start_on_parts(m, train, shares=(.3, .6)), lambda m: 0):
        model = MatrixFactorization(train, k=4)
        fit_variational(model, train, sweeps=2, start=start(model), habits=0)
        errors.append(rmse(model.predict(valid), valid))
    assert errors[0] < errors[1]

def test_the_same_seed_makes_the_same_start(parted):
    train, _, model, _ = parted
    again = MatrixFactorization(train, k=4)
    start_on_parts(again, train, shares=(.3,), sweeps=3, seed=1)
    assert torch.equal(rows_of(again, 'user'), rows_of(model, 'user'))

@pytest.mark.parametrize('shares, says', [((), 'shares is'), ((0, .5), 'above 0'), ((.5, 1.5), 'at most 1'), ((.5, .2), 'above the one'),
                                          ((.2, .2), 'above the one'), ((1e-9,), 'larger one')])
def test_shares_that_cannot_work_are_refused(parted, shares, says):
    with pytest.raises(ValueError, match=says): start_on_parts(parted[2], parted[0], shares=shares)

def test_ratings_of_another_shape_are_refused(parted):
    with pytest.raises(ValueError, match='train has'): start_on_parts(parted[2], synthetic_ratings(70_000).ratings)

def test_a_single_share_needs_no_brackets(parted):
    train, _, model, _ = parted
    again = MatrixFactorization(train, k=4)
    begun = start_on_parts(again, train, shares=.3, sweeps=3, seed=1)
    assert begun.share == .3 and torch.equal(rows_of(again, 'item'), rows_of(model, 'item'))

def test_a_start_made_with_other_factors_is_refused(parted):
    train, _, _, begun = parted
    with pytest.raises(ValueError, match='begun with 4 factors, and the model has 3'):
        fit_variational(MatrixFactorization(train, k=3), train, sweeps=1, start=begun, habits=0)
