"""A book you can run: matrix factorization for recommenders."""
__version__ = "0.2.0"
import os
import torch

# A forked child has none of the threads that torch made in its parent, and would wait for them for ever.
if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

# A later lesson adds methods to the classes of earlier ones: with all lessons imported, they are there for everybody.
from . import (ratings, model, holdout, training, runs, evaluation, recommending, newcomers, als, gibbs, variational,
               movielens, scale)
