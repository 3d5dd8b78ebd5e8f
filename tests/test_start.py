"Lesson 00 keeps its promise: a reader's own MovieLens folder, and the reader's own stars, by the two cells it says to change."
import ast
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from execnb.nbio import read_nb

root = Path(__file__).resolve().parent.parent
N_USERS, N_FILMS = 300, 60       # each user rates nine films in ten: enough batches to learn from, and 50 ratings for each film
SAGA, COMEDY = 'Saga é', 'Comedy'

@pytest.fixture
def folder(tmp_path):
    "A folder in MovieLens's layout: ids with gaps, rows in no order, an unrated film, and two tastes that exclude each other."
    rng = np.random.default_rng(0)
    film_ids = rng.permutation(200_000)[:N_FILMS + 1] + 1
    user_ids = rng.permutation(5_000)[:N_USERS] + 1
    is_saga = np.arange(N_FILMS + 1) % 2 == 0
    titles = [f'{SAGA if saga else COMEDY}, Part {i} (1999)' for i, saga in enumerate(is_saga)]
    pd.DataFrame({'movieId': film_ids, 'title': titles, 'genres': 'Drama'}).to_csv(tmp_path/'movies.csv', index=False)

    rows = [(user_ids[u], film_ids[i], 4.5 if (u % 2 == 0) == is_saga[i] else 1.5, 10**9)
            for u in range(N_USERS) for i in range(N_FILMS) if rng.random() < 0.9]
    ratings = pd.DataFrame(rows, columns=['userId', 'movieId', 'rating', 'timestamp'])
    ratings['rating'] += rng.choice([-0.5, 0, 0.5], len(ratings))
    ratings.sample(frac=1, random_state=0).to_csv(tmp_path/'ratings.csv', index=False)

    pd.DataFrame({'movieId': film_ids, 'imdbId': 1, 'tmdbId': 2}).to_csv(tmp_path/'links.csv', index=False)
    pd.DataFrame({'userId': user_ids[:3], 'movieId': film_ids[:3], 'tag': 'drôle', 'timestamp': 1}).to_csv(tmp_path/'tags.csv', index=False)
    return tmp_path

def code_of_the_lesson():
    "The source of each cell that runs."
    cells = [c.source for c in read_nb(root/'nbs'/'00_start.ipynb').cells if c.cell_type == 'code']
    return [source for source in cells if 'eval: false' not in source]

def with_assignment(cells, name, value):
    "The cells with the one line, or one dict, that sets `name` replaced by `value`, as a reader would; the cell's place too."
    place, = [i for i, source in enumerate(cells) if re.search(rf'^{name} = ', source, re.M)]
    lines = cells[place].splitlines()
    node, = [n for n in ast.parse(cells[place]).body if isinstance(n, ast.Assign) and n.targets[0].id == name]
    lines[node.lineno - 1:node.end_lineno] = [f'{name} = {value}']
    return [*cells[:place], '\n'.join(lines), *cells[place + 1:]], place

def stars(liked, disliked):
    return {**{f'{liked[0]}, Part {i} (1999)': 5 for i in liked[1]}, **{f'{disliked[0]}, Part {i} (1999)': 1.5 for i in disliked[1]}}

def run(cells, space):
    for source in cells:
        exec(compile(source, '00_start', 'exec'), space)

def test_a_folder_and_stars_of_ones_own(folder):
    threads = torch.get_num_threads()
    sagas, comedies = (SAGA, [0, 2, 4]), (COMEDY, [1, 3])
    cells, _ = with_assignment(code_of_the_lesson(), 'folder', f'Path({str(folder)!r})')
    cells, mine = with_assignment(cells, 'mine', stars(sagas, comedies))
    space = {'__name__': '__main__'}
    try:
        with plt.rc_context():
            run(cells, space)
            first = list(space['top'].film)
            cells, _ = with_assignment(cells, 'mine', stars(comedies, sagas))
            run(cells[mine:], space)               # the reader changes the stars, and runs what follows
            second = list(space['top'].film)
    finally:
        torch.set_num_threads(threads)
        plt.close('all')

    assert {name: len(table) for name, table in space['more'].items()} == {'links.csv': N_FILMS + 1, 'tags.csv': 3}
    assert (space['n_users'], space['n_films']) == (N_USERS, N_FILMS)
    assert not set(space['train'].tolist()) & set(space['held_out'].tolist())

    losses = space['losses']
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4]), 'the loss falls'
    error = space['table']['RMSE, hold-out']
    assert error['two tables'] < 0.9 * error['always the mean']

    for films, taste in ((first, SAGA), (second, COMEDY)):
        assert len(films) == len(set(films)) == 10
        assert all(film.startswith(taste) for film in films), films
        assert not set(films) & set(space['mine'])
