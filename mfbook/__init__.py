"""A book you can run: matrix factorization for recommenders."""
__version__ = "0.2.0"
import os
import sys
from pathlib import Path

def _one_thread():
    "A forked child has none of the threads that torch made in its parent, and would wait for them for ever."
    if 'torch' in sys.modules:
        sys.modules['torch'].set_num_threads(1)

if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_one_thread)

def import_lessons():
    "Import every lesson. A later one adds methods to the classes of earlier ones: with all imported, they are there."
    from . import (ratings, model, holdout, training, runs, evaluation, recommending, newcomers, als, gibbs, variational,
                   features, implicit, movielens, scale, compiled, distributed)

def _is_the_command():
    "Whether this process is `mfbook ...`, `python -m mfbook ...` or `python -m mfbook.distributed ...`."
    program = sys.argv[0] if getattr(sys, 'argv', None) else ''
    if program == '-m':
        pairs = set(zip(sys.orig_argv, sys.orig_argv[1:]))
        return bool(pairs & {('-m', 'mfbook'), ('-m', 'mfbook.distributed')})
    return Path(program).stem == 'mfbook'

# The command answers `--help` without torch; it imports the lessons when there is work to do.
if not _is_the_command():
    import_lessons()
