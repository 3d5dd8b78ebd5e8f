"""Draw the picture that chat windows and social networks show of a link to the book: `nbs/assets/cover.png`.

    python tools/make_cover.py      # after the ledger has changed

It is the ladder of the home page under the book's title, 1200 by 630 pixels.
"""
import sys
from pathlib import Path

import matplotlib.pyplot as plt

root = Path(__file__).resolve().parent.parent
sys.path.append(str(root/'benchmarks'))
from figures import ladder, plot_results

PAPER, INK = '#fdfcfa', '#24262b'
DOTS_AN_INCH = 150
SIZE = 1200/DOTS_AN_INCH, 630/DOTS_AN_INCH

if __name__ == '__main__':
    plt.style.use('mfbook.book')
    fig, ax = plt.subplots(figsize=SIZE, facecolor=PAPER)
    title = 'mfbook: matrix factorization for recommenders'
    fig.suptitle(title, x=0.03, ha='left', color=INK, fontsize=16, weight='bold')
    plot_results(ladder(data='ml-sample', split='random 80/10/10'), ax)
    fig.savefig(root/'nbs'/'assets'/'cover.png', dpi=DOTS_AN_INCH, transparent=False, metadata={'Software': None})
