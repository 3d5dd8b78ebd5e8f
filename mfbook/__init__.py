"""A book you can run: matrix factorization for recommenders."""
__version__ = "0.0.1"
