"""The ledger drawn: the ladder of methods, error against time, and the book beside other libraries."""
import matplotlib.pyplot as plt
import pandas as pd
from mfbook.holdout import COLORS
from ledger import read

QUICK = 0.05      # seconds; what takes less stands at the left edge, because a logarithm knows no zero

def ladder(**where):
    "A row a method, worst first: mean, lowest and highest test RMSE over the runs, and the mean seconds of one."
    g = read(**where).groupby('method')
    f = pd.DataFrame({'rmse': g.rmse.mean(), 'lowest': g.rmse.min(), 'highest': g.rmse.max(), 'seconds': g.seconds.mean(), 'runs': g.size()})
    return f.sort_values('rmse', ascending=False)

def plot_results(f, ax=None):
    "RMSE against seconds: a dot a method with the span of its runs, its name beside it."
    if ax is None: _, ax = plt.subplots(figsize=(7, 2.9))
    x = f.seconds.clip(lower=QUICK)
    ax.plot(x, f.rmse, color='#767c86', lw=0.8, ls=':')
    for name, r in f.iterrows():
        at, color = max(r.seconds, QUICK), COLORS[name]
        ax.plot([at, at], [r.lowest, r.highest], color=color, lw=2.5, alpha=0.45, solid_capstyle='round')
        ax.plot(at, r.rmse, 'o', ms=9, color=color)
        below = r.rmse == f.rmse.min()                     # the lowest has room under it
        ax.annotate(f'{name}\n{r.rmse:.3f}', (at, r.lowest if below else r.highest), xytext=(0, -6 if below else 6), ha='center',
                    va='top' if below else 'bottom', textcoords='offset points', color=color, fontweight='bold')
    ax.set(xscale='log', xlabel='seconds to choose the settings and fit', ylabel='RMSE on held-out ratings (stars)', xlim=(QUICK/2, x.max()*3))
    ax.xaxis.set_major_formatter(lambda v, _: f'{v:g}')
    ax.minorticks_off()
    ax.margins(y=0.3)
    return ax

def results_table():
    "Mean test RMSE and its standard deviation: a row a data set and split, a column a method."
    g = read().groupby(['data', 'split', 'method']).rmse
    cells = (g.mean().map('{:.4f}'.format) + g.std().map(' ({:.4f})'.format)).unstack('method').fillna('')
    return cells[[m for m in COLORS if m in cells]].rename_axis(columns=None).reset_index()

def plot_peers(f):
    "Mean test RMSE of each method (column) on each split (row), a panel a split; the book's methods in their colours."
    fig, axs = plt.subplots(1, len(f), figsize=(7.4, 2.9), sharey=True)
    for ax, (name, row) in zip(axs, f.iterrows()):
        row = row.drop('biases')
        for y, (method, v) in enumerate(row[::-1].items()):
            color = COLORS.get(method, '#767c86')
            ax.plot([row.min(), v], [y, y], color=color, lw=1, alpha=0.5)
            ax.plot(v, y, 'o', ms=6, color=color)
            ax.annotate(f'{v:.3f}', (v, y), xytext=(6, 0), textcoords='offset points', va='center', color=color, fontsize=7.5)
        ax.set(title='\n'.join(name), yticks=range(len(row)), yticklabels=row.index[::-1])
        ax.set_xlim(row.min() - 0.1*(row.max() - row.min()), row.max() + 0.5*(row.max() - row.min()))
        ax.title.set_size(8.5)
        ax.tick_params(axis='x', labelsize=7)
        ax.grid(axis='y', visible=False)
    fig.supxlabel('RMSE on held-out ratings (stars)', fontsize=9)
    return axs
