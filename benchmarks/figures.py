"""The ledger drawn: the ladder of methods, error against time, the book beside others, 32 million ratings."""
import matplotlib.pyplot as plt
import pandas as pd
from mfbook.holdout import COLORS
import scale
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
        below = r.rmse <= f.rmse.nsmallest(2).iloc[-1]     # the two lowest have room under them
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

GREYS = ['#767c86', '#8f959e', '#6a7078']     # of the peers; each can be read on white and on black
def _apart(heights, gap):
    "The heights, moved as little as they must be to lie `gap` apart; their order stays."
    order, out = sorted(range(len(heights)), key=heights.__getitem__), list(heights)
    for _ in range(200):
        for a, b in zip(order, order[1:]):
            short = max(0, gap - (out[b] - out[a]))
            out[a], out[b] = out[a] - short/2, out[b] + short/2
    return out

def plot_scale(n=scale.FULL, path=scale.PATH, ax=None):
    "Validation RMSE against seconds, a line a method, its fit with the lowest error; dotted, the best known."
    if ax is None: _, ax = plt.subplots(figsize=(7.2, 4))
    fits, known = scale.best_fits(n, path), scale.best_known(n, path)
    peers = [m for m in fits if scale.METHODS[m].package != 'mfbook']
    lowest = {m: min(v for _, v in r['log']) for m, r in fits.items()}
    bottom, top = known, known + 1.8*max(max(lowest.values()) - known, .01*known)
    greys = {m: GREYS[n % len(GREYS)] for n, m in enumerate(peers)}
    colors = {m: greys.get(m) or COLORS.get(m.split()[-1], 'C4') for m in fits}
    seen = {}
    for m, r in fits.items():
        log = r['log'][:1 + [v for _, v in r['log']].index(lowest[m])]
        again = sum(colors[m] == colors[x] or {m, x} <= set(peers) for x in seen)   # the second is dashed
        ls = ['-', (0, (4, 2)), (0, (1, 1))][again % 3]
        seen[m] = log[-1]
        ax.plot(*zip(*log), ls=ls, color=colors[m], lw=1.6)
        ax.plot(*log[-1], 'o', ms=5, color=colors[m])
    right = max(s for s, _ in seen.values())
    heights = _apart([seen[m][1] for m in fits], .052*(top - bottom))
    for (m, at), y in zip(seen.items(), heights):
        ax.annotate(m, at, (1.02, y), textcoords=ax.get_yaxis_transform(), va='center', color=colors[m], fontsize=8.5,
                    arrowprops=dict(arrowstyle='-', color=colors[m], lw=.5, alpha=.6))
    ax.axhline(known, color='#767c86', lw=1, ls=':')
    ax.annotate('best known', (0, known), (4, 3), xycoords=('axes fraction', 'data'), textcoords='offset points',
                color='#767c86', fontsize=8)
    ax.set(xscale='log', xlabel='seconds, preparation included', ylabel='RMSE on validation (stars)')
    ax.set_ylim(bottom - .06*(top - bottom), top)
    left = min(scale.seconds_to(r['log'], top) for r in fits.values())    # where the first line comes in
    ax.set_xlim(left/1.4, 1.15*right)
    ax.xaxis.set_major_formatter(lambda v, _: f'{v:g}')
    return ax

def scale_table(n=scale.FULL, path=scale.PATH):
    "A row a method of `scale.race`, as text: errors, seconds to come near the best known, and memory beyond the data."
    f = scale.race(n, path)
    columns = {'validation RMSE': f.valid.map('{:.4f}'.format), 'test RMSE': f.test.map('{:.4f}'.format),
               'above the best (%)': f.above.map('{:.2f}'.format)}
    for c in (c for c in f if c.startswith('to ')):
        columns[f'seconds {c}'] = f[c].map('{:,.1f}'.format).replace('nan', '')
    return pd.DataFrame({**columns, 'memory beyond the data (MB)': (f.peak_mb - f.data_mb).map('{:,.0f}'.format)})
