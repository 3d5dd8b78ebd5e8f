"""All that a user of the book calls: `from mfbook.all import *`. Written by hand, in the order of the lessons."""
from .ratings import *
from .model import *
from .holdout import *
from .training import *
from .runs import *
from .evaluation import *
from .recommending import *
from .newcomers import *
from .als import *
from .gibbs import *
from .variational import *
from .features import *
from .implicit import *
from .movielens import *
from .scale import *
from .compiled import *
from .distributed import *
