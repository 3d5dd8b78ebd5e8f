"""A book you can run: matrix factorization for recommenders."""
__version__ = "0.1.0"
# A later lesson adds methods to the classes of earlier ones: with all lessons imported, they are there for everybody.
from . import (ratings, model, holdout, training, runs, evaluation, recommending, newcomers, als, gibbs, variational,
               movielens, scale)
