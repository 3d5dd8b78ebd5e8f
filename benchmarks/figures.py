"""The ledgers drawn: the ladder of methods, the book beside others, 32 million ratings."""
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import LogLocator
from mfbook.holdout import COLORS
import foreign
import scale
import turns
from ledger import read

GREY = '#767c86'
QUICK = 0.05      # seconds; what takes less stands at the left edge: a logarithm has no zero

# The book's methods

def ladder(**where):
    "A row a method, worst first: mean, lowest and highest test RMSE over the runs, mean seconds."
    runs = read(**where).groupby('method')
    frame = pd.DataFrame({'rmse': runs.rmse.mean(),
                          'lowest': runs.rmse.min(),
                          'highest': runs.rmse.max(),
                          'seconds': runs.seconds.mean(),
                          'runs': runs.size()})
    return frame.sort_values('rmse', ascending=False)

def plot_results(frame, ax=None):
    "RMSE against seconds: a dot a method with the span of its runs, its name beside it."
    if ax is None: _, ax = plt.subplots(figsize=(4.8, 3.2))
    seconds = frame.seconds.clip(lower=QUICK)
    ax.plot(seconds, frame.rmse, color=GREY, lw=0.8, ls=':')
    lowest_two = frame.rmse.nsmallest(2).index
    quicker = seconds[lowest_two].idxmin()

    for name, row in frame.iterrows():
        x, color = seconds[name], COLORS[name]
        ax.plot([x, x], [row.lowest, row.highest], color=color, lw=2.5, alpha=0.45,
                solid_capstyle='round')
        ax.plot(x, row.rmse, 'o', ms=9, color=color)

        ha = 'center'
        if name in lowest_two:                        # they have room under them, to the left and to the right
            y, offset, va = row.lowest, -6, 'top'
            ha = 'right' if name == quicker else 'left'
        else:
            y, offset, va = row.highest, 6, 'bottom'
        ax.annotate(f'{name}\n{row.rmse:.3f}', (x, y), (0, offset), textcoords='offset points',
                    ha=ha, va=va, color=color, fontweight='bold')

    ax.set(xscale='log', xlim=(QUICK/2, seconds.max()*3),
           xlabel='seconds to choose the settings and fit',
           ylabel='RMSE on held-out ratings (stars)')
    ax.xaxis.set_major_formatter(lambda value, _: f'{value:g}')
    ax.minorticks_off()
    ax.margins(y=0.3)
    return ax

def results_table():
    "Mean test RMSE and its standard deviation: a row a data set and split, a column a method."
    errors = read().groupby(['data', 'split', 'method']).rmse
    cells = errors.mean().map('{:.4f}'.format) + errors.std().map(' ({:.4f})'.format)
    table = cells.unstack('method').fillna('')
    table = table[[method for method in COLORS if method in table]]
    return table.rename_axis(columns=None).reset_index()

# Beside other packages

def plot_peers(frame):
    """Mean test RMSE of each method (column) on each split (row), a panel a split.

    The book's methods are in their colors, the others in grey.
    """
    fig, axs = plt.subplots(1, len(frame), figsize=(7.4, 2.9), sharey=True)
    for ax, (name, row) in zip(axs, frame.iterrows()):
        errors = row.drop('biases')[::-1]             # the last method at the bottom
        for y, (method, error) in enumerate(errors.items()):
            color = COLORS.get(method, GREY)
            ax.plot([errors.min(), error], [y, y], color=color, lw=1, alpha=0.5)
            ax.plot(error, y, 'o', ms=6, color=color)
            ax.annotate(f'{error:.3f}', (error, y), xytext=(6, 0), textcoords='offset points',
                        va='center', color=color, fontsize=7.5)

        width = errors.max() - errors.min()
        ax.set_xlim(errors.min() - 0.1*width, errors.max() + 0.5*width)
        ax.set(title='\n'.join(name), yticks=range(len(errors)), yticklabels=errors.index)
        ax.title.set_size(8.5)
        ax.tick_params(axis='x', labelsize=7)
        ax.grid(axis='y', visible=False)
    fig.supxlabel('RMSE on held-out ratings (stars)', fontsize=9)
    return axs

# On other people's ratings

def foreign_table(path=foreign.PATH):
    """Mean test RMSE over the folds beside that of tuned biases: a row a method, a column a data set.

    The lowest of a column is bold; what lies above the biases says by how much.
    """
    errors = foreign.table(path).T                    # a row a method
    text = errors.map('{:.4f}'.format)
    above = 100*(errors/errors.loc['biases'] - 1)
    lost = above > 0
    text[lost] = text[lost] + above[lost].map(' (+{:.1f}%)'.format)
    lowest = errors.eq(errors.min())
    text[lowest] = '<b>' + text[lowest] + '</b>'
    return text.where(errors.notna(), '')

# 32 million ratings

GREYS = ['#767c86', '#8f959e', '#6a7078']     # of the peers; each can be read on white and on black
LINE_COLORS = {**COLORS, 'field': 'C5'}           # by the last word of a name
DASHES = ['-', (0, (4, 2)), (0, (1, 1))]      # of the first, second and third line of a color

def line_styles(methods, of_peers=()):
    "A color and a dash for each method: the peers are grey; a second line of a color is dashed."
    styles, peers, used = {}, 0, []
    for method in methods:
        if method not in of_peers:
            color = kind = LINE_COLORS.get(method.split()[-1], 'C4')
        else:
            color, kind = GREYS[peers % len(GREYS)], 'grey'
            peers += 1
        styles[method] = color, DASHES[used.count(kind) % len(DASHES)]
        used.append(kind)
    return styles

def until_lowest(log):
    "The [seconds, RMSE] of a log as far as its lowest RMSE."
    errors = [error for _, error in log]
    return log[:errors.index(min(errors)) + 1]

def apart(heights, gap):
    "The heights, moved as little as they must be to lie `gap` apart; their order stays."
    out = list(heights)
    order = sorted(range(len(out)), key=out.__getitem__)
    for _ in range(200):
        for lower, upper in zip(order, order[1:]):
            short = max(0, gap - (out[upper] - out[lower]))
            out[lower] -= short/2
            out[upper] += short/2
    return out

def plot_scale(n=scale.FULL, path=scale.PATH, ax=None):
    "Validation RMSE against seconds, a line a method: its best fit. Dotted, the best known."
    logs = {method: row['log'] for method, row in scale.best_fits(n, path).items()}
    of_peers = [method for method in logs if scale.METHODS[method].package != 'mfbook']
    return plot_race(logs, scale.best_known(n, path), of_peers, ax)

def plot_turns(n=scale.FULL, path=turns.PATH, ax=None):
    "The last round of `turns.jsonl`, drawn alike."
    logs = {name: [[seconds, error] for seconds, _, error in log] for name, log in turns.one_round(n, path).items()}
    known = turns.best_known(n, path)
    of_peers = [name for name in logs if scale.METHODS[turns.TURNS[name][0]].package != 'mfbook']
    return plot_race(logs, known, of_peers, ax, top=1.055*known)

def plot_race(logs, known, of_peers, ax=None, top=None):
    "A line for each log of [seconds, validation RMSE], as far as its lowest; those `of_peers` in grey."
    if ax is None: _, ax = plt.subplots(figsize=(7.2, 4))
    whole, logs = logs, {method: until_lowest(log) for method, log in logs.items()}
    ends = {method: log[-1] for method, log in logs.items()}

    worst = max(error for _, error in ends.values())
    top = top or known + 1.8*max(worst - known, 0.01*known)
    height = top - known
    first = min(scale.seconds_to(log, top) for log in whole.values())    # a line comes in
    last = max(seconds for seconds, _ in ends.values())

    styles = line_styles(logs, of_peers)
    for method, log in logs.items():
        color, dash = styles[method]
        ax.plot(*zip(*log), ls=dash, color=color, lw=1.6)
        ax.plot(*ends[method], 'o', ms=5, color=color)

    label_heights = apart([error for _, error in ends.values()], 0.052*height)
    for (method, end), y in zip(ends.items(), label_heights):
        color, _ = styles[method]
        ax.annotate(method, end, (1.02, y), textcoords=ax.get_yaxis_transform(), va='center',
                    color=color, fontsize=8.5,
                    arrowprops=dict(arrowstyle='-', color=color, lw=.5, alpha=.6))

    ax.axhline(known, color=GREY, lw=1, ls=':')
    ax.annotate('best known', (0, known), (4, 3), xycoords=('axes fraction', 'data'),
                textcoords='offset points', color=GREY, fontsize=8)
    ax.set(xscale='log', xlim=(first/1.4, 1.15*last), ylim=(known - 0.06*height, top),
           xlabel='seconds, preparation included', ylabel='RMSE on validation (stars)')
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(lambda value, _: f'{value:g}')
    ax.xaxis.set_minor_formatter('')
    return ax

def scale_table(n=scale.FULL, path=scale.PATH):
    "`scale.race` as text: errors, seconds to come near the best known, memory beyond the data."
    race = scale.race(n, path)
    table = pd.DataFrame({'validation RMSE': race.valid.map('{:.4f}'.format),
                          'test RMSE': race.test.map('{:.4f}'.format),
                          'above the best (%)': race.above.map('{:.2f}'.format)})
    for mark in race.filter(regex='^to '):
        table[f'seconds {mark}'] = race[mark].map('{:,.1f}'.format).replace('nan', '')
    table['memory beyond the data (MB)'] = (race.peak_mb - race.data_mb).map('{:,.0f}'.format)
    return table
