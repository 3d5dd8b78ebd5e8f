"""The main job of the book, from rating files to films to watch, with the methods of lessons 01 to 06.

    python tools/demo.py [a MovieLens folder or zip]      # the sample that ships, without an argument
"""
import sys, time
from pathlib import Path
import torch
from mfbook.ratings import load_ratings
from mfbook.holdout import split_random, union, rating_counts, rmse, mae, mean_baseline, fit_biases, tune_biases
from mfbook.model import MatrixFactorization
from mfbook.training import fit_sgd
from mfbook.recommending import favourites_beside, films_where

SAVED = Path('.demo')/'model.safetensors'

def timed(fit):
    "What `fit()` returns, and how many seconds it took."
    start = time.perf_counter()
    return fit(), time.perf_counter() - start

def sgd(split, everything, k=128):
    "Train, stopping by the validation ratings; then refit on train and validation together for as many epochs."
    fit_sgd(MatrixFactorization(split.train, k=k), split.train, split.valid)
    model = MatrixFactorization(everything, k=k)
    fit_sgd(model, everything)
    return model

def columns(*cells): return f'{cells[0]:<31}' + ''.join(f'{c:>10}' for c in cells[1:])

def main(path=None):
    torch.set_num_threads(1)       # steps this small gain nothing from a second thread
    ratings = load_ratings(path)
    print(ratings)
    split = split_random(ratings, seed=0)
    print(split)
    everything = union(split.train, split.valid)
    methods = {'global mean': lambda: mean_baseline(everything),
               'biases (tuned on validation)': lambda: fit_biases(everything, *tune_biases(split.train, split.valid)),
               'matrix factorization (SGD)': lambda: sgd(split, everything)}
    print('\n' + columns('On the test ratings', 'RMSE', 'MAE', 'seconds'))
    for name, fit in methods.items():
        model, seconds = timed(fit)
        predicted = model.predict(split.test)
        print(columns(name, f'{rmse(predicted, split.test):.4f}', f'{mae(predicted, split.test):.4f}', f'{seconds:.1f}'))

    SAVED.parent.mkdir(exist_ok=True)
    model.save(SAVED)
    model = MatrixFactorization.load(SAVED)
    print(f'\nSaved as {SAVED} ({SAVED.stat().st_size/1e6:.1f} MB) and loaded again.')
    films_for(model, everything, user=int(torch.bincount(everything.users).argsort()[everything.n_users//2]))

def films_for(model, ratings, user, n=10, least=20):
    "Print the films `user` rated best beside those that `model` predicts highest among the well-rated unseen ones."
    n_films, counts = rating_counts(ratings)
    beside = favourites_beside(model, ratings, user, n, films_where(ratings, least=least, counts=counts))
    print(f'\nUser {ratings.user_ids[user]}, who rated {n_films[user]} films:\n')
    print(f'{"Rated best":<42}Predicted highest (unseen, {least} ratings or more)')
    for stars, title, predicted, new in beside.map(lambda x: x if x == x else '').itertuples(index=False):
        print(f'{stars:<3} {title[:36]:<37} {predicted:<4} {new[:44]}'.rstrip())

if __name__ == '__main__': main(*sys.argv[1:2])
