"""The main job of the book, from rating files to films to watch, with the methods of its first part.

    python tools/demo.py [a MovieLens folder or zip]      # the sample that ships, without an argument
"""
import sys
import time
from pathlib import Path

import torch
from mfbook.all import (MatrixFactorization, concat, favorites_beside, films_where, fit_biases, fit_sgd, load_ratings,
                        load_sample, mae, rating_counts, rmse, split_random, tune_biases)

SAVED = Path('.demo')/'model.safetensors'
MIN_RATINGS = 20     # films with fewer are not recommended
N_FILMS = 10

def mean_only(split, everything):
    "The mean of all ratings for everybody: a model without factors, whose biases are still zero."
    return MatrixFactorization(everything, k=0)

def biases(split, everything):
    "Choose the regularization on the validation ratings, then fit train and validation together."
    model = MatrixFactorization(everything, k=0)
    fit_biases(model, everything, **tune_biases(split.train, split.valid))
    return model

def sgd(split, everything, k=128):
    "Train, watching the validation ratings; then fit train and validation together, for as many epochs."
    fit_sgd(MatrixFactorization(split.train, k=k), split.train, split.valid)
    model = MatrixFactorization(everything, k=k)
    fit_sgd(model, everything)
    return model

METHODS = {'global mean': mean_only, 'biases (tuned on validation)': biases, 'matrix factorization (SGD)': sgd}

def print_row(name, *cells):
    print(f'{name:<31}' + ''.join(f'{cell:>10}' for cell in cells))

def measured(split, everything):
    "Fit each method, print its errors on the test ratings and its seconds, and return the last one's model."
    print()
    print_row('On the test ratings', 'RMSE', 'MAE', 'seconds')
    for name, fitted in METHODS.items():
        start = time.perf_counter()
        model = fitted(split, everything)
        seconds = time.perf_counter() - start
        predicted = model.predict(split.test)
        errors = [f'{error(predicted, split.test):.4f}' for error in (rmse, mae)]
        print_row(name, *errors, f'{seconds:.1f}')
    return model

def saved_and_loaded(model):
    SAVED.parent.mkdir(exist_ok=True)
    model.save(SAVED)
    print(f'\nSaved as {SAVED} ({SAVED.stat().st_size/1e6:.1f} MB) and loaded again.')
    return MatrixFactorization.load(SAVED)

def films_for(model, ratings, user):
    "Print the films `user` (a raw id) rated best beside the well-rated unseen ones that the model predicts highest."
    n_films, counts = rating_counts(ratings)
    well_rated = films_where(ratings, min_ratings=MIN_RATINGS, counts=counts)
    beside = favorites_beside(model, ratings, user, n=N_FILMS, offset=well_rated)
    print(f'\nUser {user}, who rated {n_films[model.user_code(user)]} films:\n')
    print(f'{"Rated best":<42}Predicted highest (unseen, {MIN_RATINGS} ratings or more)')
    for row in beside.astype(object).where(beside.notna(), '').itertuples(index=False):
        rating, title, predicted, new = row
        print(f'{rating:<3} {title[:36]:<37} {predicted:<4} {new[:44]}'.rstrip())

def main(path=None):
    torch.set_num_threads(1)       # steps this small gain nothing from a second thread
    ratings = load_ratings(path) if path else load_sample()
    print(ratings)
    split = split_random(ratings, seed=0)
    print(split)
    everything = concat(split.train, split.valid)

    model = saved_and_loaded(measured(split, everything))
    n_films, _ = rating_counts(everything)
    median_user = n_films.argsort()[everything.n_users//2]          # rated as many films as half of the users
    films_for(model, everything, everything.user_ids[median_user])

if __name__ == '__main__':
    main(*sys.argv[1:2])
