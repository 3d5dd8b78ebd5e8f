"Methods that take turns: what the rounds' file says."
import json, sys
from pathlib import Path
import pytest

root = Path(__file__).parent.parent
sys.path.insert(0, str(root/'benchmarks'))
import figures, scale, turns
sys.path.pop(0)

N = 4_000_000

@pytest.fixture
def path(tmp_path):
    "Two rounds, the second without the peer's end; and one at a quarter of the size."
    path = tmp_path/'turns.jsonl'
    def row(name, turn, log, shape=N): return dict(name=name, turn=turn, shape=shape, log=log, peak_mb=100.*turn)
    rows = [row('mean field', 1, [[1., 2., None], [2., 4., .81], [4., 8., .80]]),
            row('Cornac MF', 1, [[1., 2., None], [5., 9., .83], [10., 18., .806]]),
            row('mean field', 2, [[1., 2., None], [3., 6., .81], [5., 9., .80]]),
            row('Cornac MF', 2, [[1., 2., None], [4., 8., .83], [8., 16., .8065]]),
            row('mean field', 3, [[1., 2., None], [2., 4., .84]]),
            row('mean field', 4, [[.1, .2, None], [.3, .4, .9], [.5, .6, .8], [.9, 1., .8]], N//4)]
    path.write_text(''.join(json.dumps(r) + '\n' for r in rows))
    return path

def test_each_time_is_beside_the_peers_of_its_own_round(path):
    pairs, _ = turns.table(N, path)
    to_1 = pairs[(pairs['mark'] == 'to 1%') & (pairs.name == 'mean field')].set_index('turn')
    assert to_1.wall.iloc[:2].tolist() == [4, 5] and to_1.wall.isna()[3]
    assert to_1.ratio.iloc[:2].tolist() == [4/10, 5/8] and to_1.cpu.iloc[:2].tolist() == [8, 9]
    to_best = pairs[(pairs['mark'] == "to the peer's best") & (pairs.name == 'mean field')].set_index('turn')
    assert to_best.ratio.iloc[:2].tolist() == [4/10, 5/8]

def test_the_summary_has_medians_of_all_rounds(path):
    found = turns.summary(N, path)
    assert found.loc['mean field', ['best RMSE', 'to 1% (s)', 'to 1%, times Cornac', 'peak MB']].tolist() == [.80, 4.5, (.4 + .625)/2, 200]
    assert found.loc['Cornac MF', 'to 1%, times Cornac'] == 1

def test_the_growth_is_per_rating(path):
    "A pass takes 2 s of four million ratings, and 0.3 s of one million in the middle."
    assert turns.growth(n=N, small=N//4, path=path) == pytest.approx(2/N/(.3/(N//4)))

def test_the_figure_shows_the_last_round_that_is_complete(path):
    ax = figures.plot_turns(N, path)
    ends = sorted(line.get_xdata()[-1] for line in ax.lines if len(line.get_xdata()) == 1)
    assert ends == [5, 8]

def test_every_line_names_a_method_that_there_is():
    for name, (method, settings, most) in turns.TURNS.items():
        assert method in scale.METHODS and most > 0 and settings['k'] == 32, name
