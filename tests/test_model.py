"The model: its five tensors, predictions, and files that are whole or refused."
import os, stat, subprocess, sys
from dataclasses import replace
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from mfbook.holdout import fit_biases, split_random
from mfbook.model import MatrixFactorization, whole_file
from mfbook.ratings import Ratings, load_ratings

TENSORS = ['mu', 'user_bias', 'item_bias', 'user_factors', 'item_factors']

def few(names=False, movies=False):
    "Six ratings by three users of four films, the last of which nobody rated."
    f = pd.DataFrame(dict(userId=[3, 3, 5, 5, 9, 9], movieId=[10, 20, 20, 40, 10, 30], rating=[4., 3, 5, 1, 2, 4]))
    if names: f = f.assign(userId='u' + f.userId.astype(str), movieId='f' + f.movieId.astype(str))
    r = Ratings.from_frame(f, rating_range=(1, 5))
    if not movies: return r
    frame = pd.DataFrame(dict(movieId=r.item_ids, title=['Ça va', None, 'B', 'C'], year=pd.array([1999, None, 2000, None], dtype='Int16'), genres=['Drama', None, 'A|B', 'X']))
    return Ratings(r.users, r.items, r.values, r.timestamps, r.user_ids, r.item_ids, r.rating_range, frame)

def filled(r, k=3, seed=0):
    "A model of `r` with every number drawn at random."
    m, g = MatrixFactorization(r, k=k), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for t in m.parameters(): t.copy_(torch.randn(t.shape, generator=g))
        for n in ('user', 'item'):
            getattr(m, f'{n}_prior_mean').normal_(generator=g); getattr(m, f'{n}_prior_precision').normal_(generator=g)
    m.prior_per_rating = True
    return m

def test_it_begins_at_the_mean_with_zero_rows_where_nobody_rated():
    r = load_ratings()
    train = r.take(r.items != 5)
    m = MatrixFactorization(train, k=8)
    assert [n for n, _ in m.named_parameters()] == TENSORS and all(t.dtype == torch.float32 for t in m.parameters())
    assert (m.item_factors[5] == 0).all() and (m.item_factors[6] != 0).all() and (m.user_bias == 0).all() and (m.item_bias == 0).all()
    assert m.mu.item() == pytest.approx(train.values.double().mean().item(), abs=1e-6)
    assert m.item_factors[m.item_factors != 0].std().item() == pytest.approx(.05, rel=.05)
    cold = r.take(r.items == 5)
    assert torch.allclose(m.predict(cold), m.mu.detach().expand(len(cold)))

def test_the_seed_decides_the_start():
    a, b, c = (MatrixFactorization(few(), k=4, seed=s).item_factors for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)

@settings(max_examples=30, deadline=None)
@given(st.integers(0, 6), st.integers(1, 9), st.integers(0, 999))
def test_predictions_equal_a_plain_loop_in_chunks_of_any_size(k, batch_size, seed):
    r = few()
    m = filled(r, k, seed)
    mu, bu, bi, P, Q = (t.detach().double().numpy() for t in m.parameters())
    by_hand = [min(5, max(1, mu + bu[u] + bi[i] + P[u] @ Q[i])) for u, i in zip(r.users, r.items)]
    got = m.predict(r, batch_size=batch_size)
    assert got.dtype == torch.float32 and not got.requires_grad
    np.testing.assert_allclose(got, by_hand, atol=1e-5)
    for u in range(r.n_users): np.testing.assert_allclose(m.scores(u), mu + bu[u] + bi + Q @ P[u], atol=1e-5)

def test_scores_are_not_clamped_and_predictions_are():
    m = filled(few())
    with torch.no_grad(): m.mu.fill_(40.)
    assert m.scores(0).min() > 5 and (m.predict(few()) == 5).all()

def test_no_factors_is_the_bias_model():
    s = split_random(load_ratings(), seed=0)
    b, m = fit_biases(s.train, 5, 3), MatrixFactorization(s.train, k=0)
    with torch.no_grad(): m.user_bias.copy_(b.user_bias); m.item_bias.copy_(b.item_bias)
    torch.testing.assert_close(m.predict(s.test), b.predict(s.test), atol=1e-5, rtol=0)

def test_slopes_reach_the_rows_that_were_used_and_no_others():
    m = filled(few())
    m(torch.tensor([1], dtype=torch.int32), torch.tensor([2], dtype=torch.int32)).sum().backward()
    assert torch.equal(m.user_factors.grad[1], m.item_factors.detach()[2]) and (m.user_factors.grad[[0, 2]] == 0).all()
    assert m.item_bias.grad.tolist() == [0, 0, 1, 0] and m.mu.grad == 1

def test_slopes_are_the_same_on_several_threads():
    threads, grads = torch.get_num_threads(), []
    try:
        torch.set_num_threads(2)
        r = load_ratings()
        for _ in range(8):
            m = MatrixFactorization(r, k=16)
            (m(r.users, r.items) - r.values).square().sum().backward()
            grads.append(m.item_factors.grad)
    finally: torch.set_num_threads(threads)
    assert all(torch.equal(g, grads[0]) for g in grads)

@pytest.mark.parametrize('k', [-1, 1.5])
def test_a_bad_k_is_named(k):
    with pytest.raises(ValueError, match=f'k is {k}'): MatrixFactorization(few(), k=k)

def test_bad_codes_are_named():
    m = filled(few())
    with pytest.raises(ValueError, match='no ratings'): MatrixFactorization(few().take(slice(0, 0)))
    with pytest.raises(ValueError, match='671 users, the model for 3,.*encode'): m.predict(load_ratings())
    for u in (-1, 3):
        with pytest.raises(IndexError, match=f'user {u} .* 0 to 2.*user_code'): m.scores(u)
    assert m.user_code(5) == 1 and m.item_code(40) == 3
    with pytest.raises(KeyError, match='no item with the id 41'): m.item_code(41)
    n = filled(few(names=True))
    assert n.user_code('u9') == 2
    with pytest.raises(KeyError, match="no user with the id 'mia'"): n.user_code('mia')

# --- files ---

@pytest.mark.parametrize('names', [False, True])
@pytest.mark.parametrize('movies', [False, True])
@pytest.mark.parametrize('k', [0, 3])
def test_what_is_saved_is_loaded(tmp_path, names, movies, k):
    r = few(names, movies)
    m = filled(r, k)
    m.save(tmp_path/'m.safetensors')
    l = MatrixFactorization.load(tmp_path/'m.safetensors')
    assert l.state_dict().keys() == m.state_dict().keys() and all(torch.equal(l.state_dict()[n], t) for n, t in m.state_dict().items())
    assert [n for n, _ in l.named_parameters()] == TENSORS and all(p.requires_grad for p in l.parameters())
    assert l.user_ids.tolist() == m.user_ids.tolist() and l.item_ids.tolist() == m.item_ids.tolist() and l.rating_range == m.rating_range == (1., 5.)
    assert l.prior_per_rating is True and l.titles(range(4)) == m.titles(range(4)) and l.user_code(r.user_ids[1]) == 1
    assert torch.equal(l.predict(r), m.predict(r)) and os.listdir(tmp_path) == ['m.safetensors']
    if movies: assert l.movies.year.tolist()[0] == 1999 and l.movies.year.isna().tolist() == [False, True, False, True] and l.titles([0, 1])[0] == 'Ça va (1999)'
    else: assert l.movies is None

def test_the_sample_with_its_films_goes_and_comes(tmp_path):
    r = load_ratings()
    m = MatrixFactorization(r, k=2)
    m.save(str(tmp_path/'m'))
    l = MatrixFactorization.load(str(tmp_path/'m'))
    assert l.titles(range(r.n_items)) == r.titles(range(r.n_items)) and l.movies.genres.tolist() == r.movies.genres.tolist()

def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path/'m.safetensors'
    old, new = filled(few(), seed=1), filled(few(), seed=2)
    old.save(path)
    def full(*a): raise OSError(28, 'No space left on device')
    for name in ('replace', 'fsync'):
        with monkeypatch.context() as mp:
            mp.setattr(os, name, full)
            with pytest.raises(OSError, match='No space'): new.save(path)
        assert os.listdir(tmp_path) == ['m.safetensors']
        assert torch.equal(MatrixFactorization.load(path).item_factors, old.item_factors)
    with pytest.raises(FileNotFoundError): new.save(tmp_path/'nowhere'/'m')

def test_whole_file_replaces_only_at_the_end(tmp_path):
    p = tmp_path/'x'
    p.write_text('old')
    with pytest.raises(KeyboardInterrupt):
        with whole_file(p) as tmp:
            open(tmp, 'w').write('ne')
            raise KeyboardInterrupt
    assert p.read_text() == 'old' and os.listdir(tmp_path) == ['x']
    with whole_file(p) as tmp: open(tmp, 'w').write('new')
    assert p.read_text() == 'new' and os.listdir(tmp_path) == ['x']

def test_damaged_files_are_refused_and_named(tmp_path):
    path = tmp_path/'m.safetensors'
    filled(few()).save(path)
    whole = path.read_bytes()
    for cut in (0, 4, 8, 60, len(whole)//2, len(whole)-1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match='m.safetensors is damaged'): MatrixFactorization.load(path)
    for at in (0, 7, 8, 9):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xff]) + whole[at+1:])
        with pytest.raises(ValueError, match='m.safetensors is damaged'): MatrixFactorization.load(path)

@pytest.mark.parametrize('meta, says', [(None, "not one of mfbook's"), ({'format': 'pt'}, "not one of mfbook's"), ({'format': 'mfbook', 'version': '99'}, 'format 99.*newer mfbook'),
    ({'format': 'mfbook', 'version': 'x'}, 'is damaged'), ({'format': 'mfbook', 'version': '1'}, 'is damaged')])
def test_files_of_others_and_of_the_future_are_refused(tmp_path, meta, says):
    save_file({'x': torch.zeros(2)}, tmp_path/'m', metadata=meta)
    with pytest.raises(ValueError, match=says): MatrixFactorization.load(tmp_path/'m')

def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone does not exist.*save'): MatrixFactorization.load(tmp_path/'gone')

# --- details that are easy to lose ---

def test_users_nobody_heard_from_are_zero_too():
    r = load_ratings()
    m = MatrixFactorization(r.take(r.users != 5), k=8)
    assert (m.user_factors[5] == 0).all() and (m.user_factors[6] != 0).all()

def test_init_std_counts_and_sides_differ():
    r = load_ratings()
    m = MatrixFactorization(r, init_std=.2)
    assert m.k == 32 and m.user_factors.std().item() == pytest.approx(.2, rel=.05)
    assert not torch.equal(m.user_factors[:9], m.item_factors[:9])

def test_the_prior_begins_as_zero_mean_and_identity():
    m = MatrixFactorization(few(), k=3)
    assert m.prior_per_rating is False
    for side in ('user', 'item'):
        assert torch.equal(getattr(m, f'{side}_prior_mean'), torch.zeros(4)) and torch.equal(getattr(m, f'{side}_prior_precision'), torch.eye(4))

def test_device_is_obeyed(tmp_path):
    filled(few()).save(tmp_path/'m')
    for m in (MatrixFactorization(few(), device='meta'), MatrixFactorization.load(tmp_path/'m', device='meta')):
        assert {t.device.type for t in m.state_dict().values()} == {'meta'}

def test_one_wrong_side_is_enough():
    m, r = filled(few()), few()
    with pytest.raises(ValueError, match='encode'): m.predict(replace(r, item_ids=r.item_ids[:3]))

def test_the_temporary_file_lies_beside_its_place(tmp_path, monkeypatch):
    seen, replace_ = [], os.replace
    monkeypatch.setattr(os, 'replace', lambda a, b: (seen.append(os.path.dirname(a)), replace_(a, b)))
    filled(few()).save(tmp_path/'m')
    assert str(tmp_path) in seen

@pytest.mark.parametrize('bs', [0, -1, 1.5])
def test_a_bad_batch_size_is_named(bs):
    with pytest.raises(ValueError, match='batch_size'): filled(few()).predict(few(), batch_size=bs)

@pytest.mark.parametrize('code', [9, -1])
def test_a_code_out_of_range_is_named(code):
    r = few(); items = r.items.clone(); items[2] = code
    with pytest.raises(IndexError, match=f'item code {code}.*4'): filled(r).predict(replace(r, items=items))

def test_other_ids_of_the_same_number_are_refused():
    o = Ratings.from_frame(pd.DataFrame(dict(userId=[103, 105, 109, 103], movieId=[1, 2, 3, 4], rating=[1., 2, 3, 4])))
    with pytest.raises(ValueError, match='encode'): filled(few()).predict(o)

def test_a_saved_file_has_usual_rights(tmp_path):
    old = os.umask(0o022)
    try: filled(few()).save(tmp_path/'m')
    finally: os.umask(old)
    assert stat.S_IMODE((tmp_path/'m').stat().st_mode) == 0o644

def test_an_unknown_id_is_named_in_plain_numbers():
    with pytest.raises(KeyError) as e: filled(few()).user_code(4)
    assert 'np.' not in str(e.value)

CHANGES = {'version': (None, {'version': '²'}), 'k': ({'item_factors': torch.zeros(4, 2)}, {}), 'ids': ({'user_ids': torch.tensor([1])}, {}),
           'int': ({'item_factors': torch.zeros(4, 3, dtype=torch.int32)}, {}), 'list': (None, {'movies': '[1]'}),
           'short': (None, {'movies': '{"title":{"0":"a"},"year":{"0":1}}'}), 'ragged': (None, {'movies': '{"title":{"0":"a"},"year":{"0":1,"1":2}}'}),
           'range': (None, {'rating_range': '[1]'})}
@pytest.mark.parametrize('change', CHANGES)
def test_well_formed_damage_is_refused_and_named(tmp_path, change):
    p = tmp_path/'m.safetensors'
    filled(few(False, True)).save(p)
    with safe_open(p, 'pt') as f: meta, T = f.metadata(), {k: f.get_tensor(k) for k in f.keys()}
    save_file(T | (CHANGES[change][0] or {}), p, metadata=meta | CHANGES[change][1])
    with pytest.raises(ValueError, match='m.safetensors is damaged'): MatrixFactorization.load(p)

def test_a_loaded_model_outlives_its_file(tmp_path):
    code = ('import sys; sys.path.insert(0, sys.argv[2]); from test_model import *; p = sys.argv[1]; r = load_ratings(); m = MatrixFactorization(r); m.save(p); '
            'l = MatrixFactorization.load(p); open(p, "r+b").truncate(100); assert torch.equal(l.predict(r), m.predict(r))')
    assert subprocess.run([sys.executable, '-c', code, str(tmp_path/'m'), os.path.dirname(__file__)]).returncode == 0

def test_every_flipped_byte_is_refused(tmp_path):
    path = tmp_path/'m.safetensors'
    filled(few(movies=True)).save(path); whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at+1:])
        with pytest.raises(ValueError, match='m.safetensors'): MatrixFactorization.load(path)

def test_the_next_format_is_refused(tmp_path):
    save_file({'x': torch.zeros(1)}, tmp_path/'m', metadata={'format': 'mfbook', 'version': '2'})
    with pytest.raises(ValueError, match='newer mfbook'): MatrixFactorization.load(tmp_path/'m')

def test_chunks_bound_the_rows_in_flight(monkeypatch):
    m, sizes, forward = filled(few()), [], MatrixFactorization.forward
    monkeypatch.setattr(MatrixFactorization, 'forward', lambda self, u, i: (sizes.append(len(u)), forward(self, u, i))[1])
    m.predict(few(), batch_size=4)
    assert sizes == [4, 2]
    n = 2**21; big = replace(few(), users=torch.zeros(n, dtype=torch.int32), items=torch.zeros(n, dtype=torch.int32), values=torch.ones(n), timestamps=None)
    sizes.clear(); m.predict(big)
    assert sum(sizes) == n and max(sizes) <= 2**20
