"""MovieLens by name, from a server on this machine that breaks off, lies, stalls and changes its mind: what is in its place
under its own name is whole at every moment, and the next call ends well. `MFBOOK_FULL=1` kills fifty downloads instead of eight.
"""
import ast, errno, fcntl, hashlib, io, os, pty, random, re, signal, struct, subprocess, sys, termios, threading, time, zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import pytest
from conftest import FULL
import requests
from filelock import FileLock
from mfbook import movielens
from mfbook.movielens import MEGABYTES, datasets, download, load_fold, load_ratings, places_of

KILLS = 50 if FULL else 8
NAME = 'ml-1m'
PIECE = 2**16

# ---- the server

def zip_of(n_ratings, seed=0, prefix='ml-x/'):
    "A zip of made-up ratings, about 6 bytes for each. Stored with no compression worth the name, so that it is long."
    rng = random.Random(seed)
    rows = [f'{1 + n//50},{1 + n%50},{rng.randint(1, 10)/2},{rng.randint(9*10**8, 10**9)}' for n in range(n_ratings)]
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w', zipfile.ZIP_STORED) as z:
        z.writestr(f'{prefix}ratings.csv', '\n'.join(['userId,movieId,rating,timestamp', *rows, '']))
    return out.getvalue()

GOOD = zip_of(20_000)        # some 400 kB: seven pieces
NEWER = zip_of(20_500, seed=1)

class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):
        site = self.server
        site.asked.append((self.path, self.headers.get('Range')))
        site.encodings.add(self.headers.get('Accept-Encoding'))
        if self.path.endswith('.md5'): return self.answer(200, site.checksum.encode()) if site.checksum else self.answer(404, b'0'*32)
        act = site.acts.pop(0) if site.acts else {}
        if 'redirect' in act: return self.answer(302, b'', Location=act['redirect'])
        if 'status' in act: return self.answer(act['status'], b'no')

        start = int((self.headers.get('Range') or 'bytes=0-')[6:-1])
        if act.get('no range'): start = 0
        body = site.body[start:]
        if start >= len(site.body) and start: return self.answer(416, b'')
        claim = act.get('claim', len(body))
        extra = {} if not start else {'Content-Range': act.get('content range', f'bytes {start}-{len(site.body) - 1}/{len(site.body)}')}
        self.answer(206 if start else 200, body[:act.get('cut', len(body))], claim=claim, pace=site.pace, stall=act.get('stall', 0), **extra)
        if 'after' in act: act['after']()

    def answer(self, status, body, claim=None, pace=0, stall=0, **headers):
        self.send_response(status)
        headers = {'Content-Length': len(body) if claim is None else claim, 'Connection': 'close'} | headers
        if claim == 'unsaid': del headers['Content-Length']
        for name, value in headers.items(): self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        self.close_connection = True
        try:
            for at in range(0, len(body), PIECE//4):
                self.wfile.write(body[at:at + PIECE//4])
                time.sleep(pace)
            self.wfile.flush()
            self.server.stop.wait(stall)
        except OSError: pass              # the client has gone

    def log_message(self, *args): pass

class Site(ThreadingHTTPServer):
    daemon_threads = True

@pytest.fixture
def site(monkeypatch, tmp_path):
    site = Site(('127.0.0.1', 0), Handler)
    site.body, site.acts, site.asked, site.pace, site.stop, site.encodings = GOOD, [], [], 0, threading.Event(), set()
    site.checksum = hashlib.md5(GOOD).hexdigest()
    threading.Thread(target=site.serve_forever, args=(.01,), daemon=True).start()
    monkeypatch.setattr(movielens, 'SERVER', f'http://127.0.0.1:{site.server_port}/movielens')
    monkeypatch.setattr(movielens, 'PAUSE', .05)
    monkeypatch.setattr(movielens, 'TIMEOUT', 5)
    monkeypatch.setenv('MFBOOK_DATA', str(tmp_path/'data'))
    monkeypatch.setenv('MFBOOK_CACHE', str(tmp_path/'cache'))
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    yield site
    site.stop.set()
    site.shutdown()
    site.server_close()

def zips(site): return [asked for path, asked in site.asked if path.endswith('.zip')]
def publish(site, body):
    site.body = body
    site.checksum = hashlib.md5(body).hexdigest()
def there(folder): return sorted(path.name for path in folder.iterdir() if path.suffix != '.lock')
def part_of(folder, body=GOOD): return folder/f'{NAME}.zip.{hashlib.md5(body).hexdigest()}.part'

@pytest.fixture
def data(tmp_path): return tmp_path/'data'

@pytest.fixture
def old(data):
    "A zip from before, which a bad download must leave alone."
    data.mkdir()
    (data/f'{NAME}.zip').write_bytes(b'from before')
    return data/f'{NAME}.zip'

# ---- what goes well

def test_a_download_is_whole_named_and_loaded_by_name(site, data, capsys):
    path = download(NAME)
    assert path == data/f'{NAME}.zip' and path.read_bytes() == GOOD
    assert site.asked == [(f'/movielens/{NAME}.zip.md5', None), (f'/movielens/{NAME}.zip', None)]
    assert site.encodings == {'identity'}, 'bytes as they are counted'
    assert there(data) == [f'{NAME}.zip']
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    assert len(load_ratings(NAME)) == 20_000
    out, err = capsys.readouterr()
    assert out == '' and err.startswith(f'Downloading {NAME} (about 6 MB) from GroupLens to {data}\n')
    assert 'commercial use needs' in err and 'https://grouplens.org/datasets/movielens/' in err and '%' not in err

def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask

def test_what_is_there_is_asked_for_no_more_and_nothing_is_said(site, data, capsys):
    download(NAME)
    capsys.readouterr()
    inode = (data/f'{NAME}.zip').stat().st_ino
    assert download(NAME) == data/f'{NAME}.zip' and (data/f'{NAME}.zip').stat().st_ino == inode
    assert len(zips(site)) == 1 and capsys.readouterr() == ('', '')

def test_a_new_version_takes_the_place_of_the_old_one(site, data):
    download(NAME)
    publish(site, NEWER)
    assert download(NAME).read_bytes() == NEWER and there(data) == [f'{NAME}.zip']

def test_a_damaged_copy_is_replaced(site, data):
    download(NAME).write_bytes(GOOD[:1000] + b'x' + GOOD[1001:])
    assert download(NAME).read_bytes() == GOOD

@pytest.mark.parametrize('text', ['{}  ml-1m.zip\n', 'MD5 (ml-1m.zip) = {}\n', '{}'], ids=['md5sum', 'BSD', 'bare'])
@pytest.mark.parametrize('case', [str.lower, str.upper])
def test_the_checksum_is_read_in_each_form(site, text, case):
    site.checksum = text.format(case(site.checksum))
    assert download(NAME).read_bytes() == GOOD

def test_progress_with_rate_and_time_left_where_it_is_wanted(site, capsys):
    site.acts = [{'cut': 200_000}]
    download(NAME, progress=True)
    err = capsys.readouterr().err
    assert re.search(r'ml-1m: 100%\|.*B/s\]', err) and len(re.findall(r'\d\d:\d\d<', err)) >= 2
    assert re.search(r'ml-1m:  4[0-9]%', err), 'the second bar begins where the first one broke'

def test_a_machine_that_forbids_md5_for_security(site, monkeypatch):
    "As some offices' do (FIPS): here it guards against accidents."
    md5 = hashlib.md5
    def strict(*args, usedforsecurity=True):
        if usedforsecurity: raise ValueError('disabled for FIPS')
        return md5(*args)
    monkeypatch.setattr(hashlib, 'md5', strict)
    assert download(NAME).read_bytes() == GOOD

# ---- where it goes

def test_the_folder_given_first_then_the_data_folder_then_the_cache(site, tmp_path, monkeypatch):
    assert download(NAME, tmp_path/'a'/'b').parent == tmp_path/'a'/'b'
    monkeypatch.chdir(tmp_path)
    assert download(NAME, 'here') == Path('here')/f'{NAME}.zip'
    monkeypatch.setenv('HOME', str(tmp_path/'home'))
    assert download(NAME, '~/x').parent == tmp_path/'home'/'x'
    assert download(NAME).parent == tmp_path/'data'

@pytest.mark.parametrize('unset', ['', None, 'a file'])
def test_without_a_data_folder_it_goes_to_the_cache(site, tmp_path, monkeypatch, unset):
    (tmp_path/'file').write_text('')
    if unset is None: monkeypatch.delenv('MFBOOK_DATA')
    else: monkeypatch.setenv('MFBOOK_DATA', unset and str(tmp_path/'file'/'below'))
    assert download(NAME).parent == tmp_path/'cache'
    assert len(load_ratings(NAME)) == 20_000

@pytest.mark.skipif(os.name == 'nt', reason='rights')
def test_a_data_folder_that_cannot_be_written_to(site, tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: Path(path) != tmp_path/'data')      # root may write anywhere
    assert download(NAME).parent == tmp_path/'cache'

# ---- the connection

@pytest.mark.parametrize('cut, pieces', [(200_000, 3), (70_000, 1)])
def test_a_broken_download_goes_on_where_it_broke_each_time(site, data, cut, pieces):
    site.acts = [{'cut': cut}]*4
    assert download(NAME).read_bytes() == GOOD
    starts = range(pieces*PIECE, len(GOOD), pieces*PIECE)
    assert zips(site) == [None, *(f'bytes={start}-' for start in starts)][:5]
    assert there(data) == [f'{NAME}.zip']

@pytest.mark.parametrize('cut', [0, 1, PIECE - 1])
def test_a_download_that_brings_nothing_ends_and_the_next_call_goes_on(site, data, old, cut):
    site.acts = [{'cut': 200_000}, {'cut': cut}]
    with pytest.raises(ConnectionError, match=r"What has come is kept: download\('ml-1m'\) goes on"): download(NAME)
    assert old.read_bytes() == b'from before' and part_of(data).read_bytes() == GOOD[:3*PIECE]
    site.asked.clear()
    assert download(NAME).read_bytes() == GOOD and zips(site) == [f'bytes={3*PIECE}-']

def test_no_server(site, data, monkeypatch):
    monkeypatch.setattr(movielens, 'SERVER', 'http://127.0.0.1:9')
    start = time.time()
    with pytest.raises(ConnectionError, match='could not be made'): download(NAME)
    assert time.time() - start >= .05 and there(data) == []

def test_no_server_and_a_file_that_is_there(site, old, monkeypatch):
    monkeypatch.setattr(movielens, 'SERVER', 'http://127.0.0.1:9')
    with pytest.warns(UserWarning, match='could not be reached, so .*ml-1m.zip stays as it is') as said:
        assert download(NAME) == old
    assert old.read_bytes() == b'from before' and said[0].filename == __file__

@pytest.mark.parametrize('claim', [len(GOOD) + 100_000, 'unsaid'])
def test_a_server_that_lies_about_the_length(site, claim):
    "It promises more than comes: what came has the checksum, so it is whole. Or it says nothing."
    site.acts = [{'claim': claim}]
    assert download(NAME).read_bytes() == GOOD

def test_a_server_that_promises_less(site, data, old):
    site.acts = [{'claim': 100_000}]
    with pytest.raises(ValueError, match='checksum'): download(NAME)
    assert old.read_bytes() == b'from before' and there(data) == [old.name]
    assert download(NAME).read_bytes() == GOOD

def test_a_length_that_the_library_does_not_check_is_checked(site, monkeypatch):
    "Older urllib3 takes a short answer for a whole one."
    get = requests.get
    def lenient(*args, **kw):
        answer = get(*args, **kw)
        answer.raw.enforce_content_length = False
        return answer
    monkeypatch.setattr(requests, 'get', lenient)
    site.acts = [{'cut': 200_000}]
    assert download(NAME).read_bytes() == GOOD and zips(site)[1] == 'bytes=200000-'

@pytest.mark.parametrize('status, requests_made', [(404, 1), (403, 1), (503, 2), (500, 2)])
def test_a_refusal(site, data, old, status, requests_made):
    site.acts = [{'status': status}]*3
    with pytest.raises(ConnectionError, match=f'{NAME} could not be downloaded: {status} .*{NAME}.zip'): download(NAME)
    assert len(zips(site)) == requests_made and there(data) == [old.name] and old.read_bytes() == b'from before'

def test_a_busy_server_is_asked_once_more_after_a_pause(site, monkeypatch):
    monkeypatch.setattr(movielens, 'PAUSE', .3)
    site.acts = [{'status': 503}]
    start = time.time()
    assert download(NAME).read_bytes() == GOOD and time.time() - start >= .3

def test_a_server_that_stalls(site, monkeypatch):
    monkeypatch.setattr(movielens, 'TIMEOUT', 1)
    site.acts = [{'cut': 200_000, 'stall': 30}]
    start = time.time()
    assert download(NAME).read_bytes() == GOOD
    assert 1 <= time.time() - start < 20 and zips(site)[1] == f'bytes={3*PIECE}-'

def test_a_server_that_stalls_for_ever(site, monkeypatch, old):
    monkeypatch.setattr(movielens, 'TIMEOUT', .2)
    site.acts = [{'cut': 0, 'stall': 30}]*9
    with pytest.raises(ConnectionError): download(NAME)
    assert len(zips(site)) <= 2 and old.read_bytes() == b'from before'

def test_a_redirect(site):
    site.acts = [{'cut': 200_000}, {'redirect': f'http://127.0.0.1:{site.server_port}/elsewhere.zip'}]
    assert download(NAME).read_bytes() == GOOD
    assert site.asked[-1] == ('/elsewhere.zip', f'bytes={3*PIECE}-')

def test_redirects_in_a_circle(site, old):
    site.acts = [{'redirect': f'http://127.0.0.1:{site.server_port}/again.zip'}]*99
    with pytest.raises(ConnectionError): download(NAME)
    assert old.read_bytes() == b'from before'

def test_a_server_without_ranges(site):
    site.acts = [{'cut': 200_000}, {'no range': True}]
    assert download(NAME).read_bytes() == GOOD and len(zips(site)) == 2

def test_a_server_without_ranges_that_breaks_each_time_ends(site, data, old):
    site.acts = [{'cut': 200_000, 'no range': True}]*99
    with pytest.raises(ConnectionError): download(NAME)
    assert len(zips(site)) == 2 and old.read_bytes() == b'from before'

def test_an_answer_from_another_place_than_asked_is_not_appended(site):
    site.acts = [{'cut': 200_000}, {'content range': 'bytes 5-9/400000'}]
    assert download(NAME).read_bytes() == GOOD
    assert zips(site) == [None, f'bytes={3*PIECE}-', None]

def test_no_checksum_at_all(site, old):
    site.checksum = '<html>Log in to the hotel</html>'
    with pytest.raises(ValueError, match='holds no checksum. Does your network'): download(NAME)
    assert zips(site) == [] and old.read_bytes() == b'from before'

def test_a_checksum_that_is_refused(site, old):
    site.checksum = ''
    with pytest.raises(ConnectionError, match=f'could not be downloaded: 404 .*{NAME}.zip.md5'): download(NAME)
    assert zips(site) == [] and old.read_bytes() == b'from before'

# ---- the file

@pytest.mark.parametrize('body', [b'', GOOD[:-1], GOOD[:-1] + b'x', b'<html>Not found</html>'], ids=['empty', 'a byte less', 'another byte', 'a page'])
def test_a_wrong_checksum_leaves_the_old_file_and_says_what_to_do(site, data, old, body):
    site.body = body
    with pytest.raises(ValueError, match=r"published [0-9a-f]{32}, and was deleted. Call download\('ml-1m'\) again"): download(NAME)
    assert old.read_bytes() == b'from before' and there(data) == [old.name]
    site.body = GOOD
    assert download(NAME).read_bytes() == GOOD

def test_a_file_that_changes_between_two_parts(site, data, old):
    "The checksum was the old one's: the mixture is thrown away, and the next call gets the new file."
    site.acts = [{'cut': 200_000, 'after': lambda: publish(site, NEWER)}]
    with pytest.raises(ValueError, match='may be changing the file'): download(NAME)
    assert old.read_bytes() == b'from before' and there(data) == [old.name]
    assert download(NAME).read_bytes() == NEWER

def test_a_file_that_changes_between_two_calls(site, data):
    site.acts = [{'cut': 200_000}, {'cut': 0}]
    with pytest.raises(ConnectionError): download(NAME)
    publish(site, NEWER)
    site.asked.clear()
    assert download(NAME).read_bytes() == NEWER and zips(site) == [None]
    assert there(data) == [f'{NAME}.zip'], 'the part of the old version is gone'

@pytest.mark.parametrize('left', [GOOD, GOOD + b'more', b'\0'*100_000, b''], ids=['whole', 'too long', 'zeros', 'empty'])
def test_whatever_an_earlier_call_left(site, data, left):
    data.mkdir()
    part_of(data).write_bytes(left)
    assert download(NAME).read_bytes() == GOOD and there(data) == [f'{NAME}.zip']
    if left == GOOD: assert zips(site) == []

def test_a_zip_that_would_write_elsewhere_is_refused_and_never_unpacked(site, tmp_path):
    publish(site, zip_of(10, prefix='../'))
    path = download(NAME)
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(ValueError, match="holds a path outside itself, '../ratings.csv'"): load_ratings(NAME)
    assert sorted(tmp_path.rglob('*')) == before and path.exists()

def test_a_zip_is_never_unpacked(site, data):
    download(NAME)
    load_ratings(NAME)
    assert there(data) == [f'{NAME}.zip']

# ---- the disk

@pytest.fixture
def small_disk(tmp_path):
    "A disk of a third of a megabyte: smaller than `GOOD`."
    place = tmp_path/'disk'
    place.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=300k', 'tmpfs', str(place)], capture_output=True)
    if mounted.returncode: pytest.skip('this machine lets nobody mount a small disk')
    yield place
    subprocess.run(['umount', str(place)], check=True)

def test_a_disk_too_small_is_told_before(site, small_disk):
    with pytest.raises(OSError, match='MB are to come, and .* MB are free') as e: download(NAME, small_disk)
    assert e.value.errno == errno.ENOSPC and there(small_disk) == []

def test_a_disk_that_fills_up(site, small_disk):
    "Where the server doesn't say how much is to come. With room again, the next call goes on."
    site.acts = [{'claim': 'unsaid'}]
    with pytest.raises(OSError) as e: download(NAME, small_disk)
    assert e.value.errno == errno.ENOSPC and not isinstance(e.value, ConnectionError)
    assert [Path(name).suffix for name in there(small_disk)] == ['.part']
    subprocess.run(['mount', '-o', 'remount,size=2m', str(small_disk)], check=True)
    assert download(NAME, small_disk).read_bytes() == GOOD and zips(site)[-1].startswith('bytes=')

def test_a_write_that_fails(site, data, old, monkeypatch):
    "The same without a small disk."
    def full(handle): raise OSError(errno.ENOSPC, 'No space left on device')
    with monkeypatch.context() as m:
        m.setattr(os, 'fsync', full)
        with pytest.raises(OSError, match='No space left'): download(NAME)
    assert old.read_bytes() == b'from before'
    assert download(NAME).read_bytes() == GOOD

# ---- other processes

def fork(job):
    "A child process that does `job()` and ends, with nothing on the screen. Returns its number."
    pid = os.fork()
    if pid: return pid
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = open(os.devnull, 'w')
        job()
        os._exit(0)
    except BaseException:
        os._exit(1)

needs_fork = pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')

@needs_fork
def test_several_at_once_get_one_download(site, data):
    site.pace = .01
    children = [fork(lambda: download(NAME)) for _ in range(4)]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0]*4
    assert len(zips(site)) == 1 and (data/f'{NAME}.zip').read_bytes() == GOOD

@needs_fork
def test_one_that_waits_says_so(site, data, tmp_path, monkeypatch):
    "Another process holds the lock until this one has said that it waits."
    held, said = tmp_path/'held', tmp_path/'said'
    def hold():
        with FileLock(data/f'{NAME}.zip.lock'):
            held.touch()
            end = time.time() + 10
            while not said.exists() and time.time() < end: time.sleep(.01)
    class Screen(io.StringIO):
        def write(self, text):
            said.touch()
            return super().write(text)
    data.mkdir()
    pid = fork(hold)
    while not held.exists(): time.sleep(.01)
    monkeypatch.setattr(sys, 'stderr', Screen())
    download(NAME)
    os.waitpid(pid, 0)
    assert sys.stderr.getvalue().startswith(f'Waiting: another process is downloading {NAME}.zip\nDownloading')

def size(path):
    try: return path.stat().st_size
    except FileNotFoundError: return 0        # also if it gets its name just now

@needs_fork
def test_killed_at_any_moment(site, data):
    "By the clock, and by the bytes that have come. A dead process holds no lock, no bad file bears the name, the next call ends well."
    site.pace = .01
    start = time.time()
    download(NAME)
    whole = time.time() - start
    rng, resumed = random.Random(0), 0
    for n in range(KILLS):
        for path in data.iterdir(): path.unlink()
        path = data/f'{NAME}.zip'
        if n % 2: path.write_bytes(b'from before')
        for by_clock in (True, False):
            pid = fork(lambda: download(NAME))
            target = rng.randrange(PIECE, 5*PIECE)
            if by_clock: time.sleep(whole*rng.uniform(.1, 1.05))
            while not by_clock and size(part_of(data)) < target and size(path) != len(GOOD): time.sleep(.002)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            found = path.read_bytes() if path.exists() else None
            assert found in (GOOD, b'from before' if n % 2 else None)
        site.asked.clear()
        site.pace = 0
        assert download(NAME).read_bytes() == GOOD and there(data) == [f'{NAME}.zip']
        resumed += any(zips(site))
        site.pace = .01
    assert resumed >= KILLS//2

# ---- by name

def test_unknown_names(site, data):
    with pytest.raises(ValueError, match="no data set is called 'ml-33m'. The names are ml-latest-small, ml-latest, ml-100k"): download('ml-33m')
    assert site.asked == [] and not data.exists()
    with pytest.raises(FileNotFoundError, match='nothing at ml-33m'): load_ratings('ml-33m')

def test_a_name_that_is_not_there(site):
    with pytest.raises(FileNotFoundError, match=r"ml-32m is not on this machine. Call download\('ml-32m'\) first \(239 MB\)"): load_ratings('ml-32m')
    with pytest.raises(FileNotFoundError, match=r"Call download\('ml-100k'\)"): load_fold('ml-100k')
    assert site.asked == []

def unpack(place, n=3):
    "A data set, unpacked, of `n` ratings."
    place.mkdir(parents=True)
    with zipfile.ZipFile(io.BytesIO(zip_of(n, prefix=''))) as z: z.extractall(place)

def test_where_a_name_is_looked_for(site, tmp_path, monkeypatch):
    "A path of that name first, then the data folder, then the cache; a folder before a zip."
    data, cache = tmp_path/'data', tmp_path/'cache'
    cache.mkdir()
    (cache/'ml-10m.zip').write_bytes(zip_of(1))
    assert len(load_ratings('ml-10m')) == 1
    unpack(cache/'ml-10M100K', 2)
    assert len(load_ratings('ml-10m')) == 2
    data.mkdir()
    (data/'ml-10m.zip').write_bytes(zip_of(3))
    assert len(load_ratings('ml-10m')) == 3
    unpack(data/'ml-10m', 4)
    assert len(load_ratings('ml-10m')) == len(load_ratings(Path('ml-10m'))) == 4
    monkeypatch.chdir(tmp_path)
    unpack(tmp_path/'ml-10m', 5)
    assert len(load_ratings('ml-10m')) == 5
    assert site.asked == []

def test_datasets_lists_what_is_there(site, tmp_path, monkeypatch):
    assert datasets().empty and list(datasets()) == ['name', 'path', 'MB']
    path = download(NAME)
    unpack(tmp_path/'cache'/'ml-10M100K', 40_000)
    (tmp_path/'data'/'other.zip').write_bytes(b'')
    frame = datasets()
    assert frame.name.tolist() == [NAME, 'ml-10m'] and frame.path.tolist() == [str(path), str(tmp_path/'cache'/'ml-10M100K')]
    assert frame.MB.tolist() == [round(len(GOOD)/1e6, 1), round(len(zip_of(40_000))/1e6, 1)] and frame.MB[1] > .7
    monkeypatch.setenv('MFBOOK_CACHE', os.environ['MFBOOK_DATA'])
    assert datasets().name.tolist() == [NAME], 'one folder named twice is listed once'

def test_the_names_are_said_in_one_place_and_in_the_help():
    assert list(MEGABYTES) == 'ml-latest-small ml-latest ml-100k ml-1m ml-10m ml-20m ml-25m ml-32m'.split()
    assert movielens.SERVER == 'https://files.grouplens.org/datasets/movielens'

def at_a_terminal(answer, ci=None):
    "What `load_ratings` does in a process at a terminal where a person types `answer`: its screen, and the number of ratings or the error."
    pid, screen = pty.fork()
    if not pid:
        try:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
            sys.stdin, sys.stderr = open(0), open(2, 'w')
            if ci: os.environ['CI'] = ci
            try: print(f'{len(load_ratings(NAME))} ratings', file=sys.stderr)
            except FileNotFoundError as error: print(error, file=sys.stderr)
            sys.stderr.flush()
        finally: os._exit(0)
    os.write(screen, answer)
    seen = b''
    while True:
        try: new = os.read(screen, 1000)
        except OSError: break             # the terminal's other end is closed
        if not new: break
        seen += new
    os.waitpid(pid, 0)
    return seen.decode()

@needs_fork
@pytest.mark.parametrize('answer', [b'y\n', b'YES\n'])
def test_a_person_is_asked_and_says_yes(site, monkeypatch, answer):
    monkeypatch.delenv('CI', raising=False)
    screen = at_a_terminal(answer)
    assert f'Download {NAME} (6 MB) from GroupLens? [y/N] ' in screen and '20000 ratings' in screen and '100%' in screen

@needs_fork
@pytest.mark.parametrize('answer', [b'n\n', b'\n', b'\x04', b'yellow\n'], ids=['no', 'enter', 'ctrl-D', 'another word'])
def test_a_person_is_asked_and_says_anything_else(site, monkeypatch, answer):
    monkeypatch.delenv('CI', raising=False)
    screen = at_a_terminal(answer)
    assert '[y/N]' in screen and f"Call download('{NAME}') first" in screen and site.asked == []

@needs_fork
def test_nobody_is_asked_in_ci(site):
    screen = at_a_terminal(b'y\n', ci='true')
    assert '[y/N]' not in screen and f"Call download('{NAME}') first" in screen and site.asked == []

def test_nobody_is_asked_without_standard_input(site, monkeypatch):
    monkeypatch.setattr(sys, 'stdin', None)
    with pytest.raises(FileNotFoundError, match='Call download'): load_ratings(NAME)

def test_the_libraries_for_downloads_are_imported_by_the_first_download():
    "`import mfbook` is no slower than before: they are imported in functions alone."
    tree = ast.parse(Path(movielens.__file__).read_text(encoding='utf-8'))
    imports = {node: ast.unparse(node) for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))}
    theirs = {text for node, text in imports.items() if node not in tree.body}
    assert {text.split()[1].split('.')[0] for text in theirs} == {'requests', 'filelock', 'pyarrow'}
    assert not [text for node, text in imports.items() if node in tree.body and re.search(r'requests|filelock|urllib3', text)]
