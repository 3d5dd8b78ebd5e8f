"""What the home page and the exercises page tell of the lessons, read from the lessons themselves."""
import json
import math
import re
from pathlib import Path

root = Path(__file__).resolve().parent.parent
SECONDS = root/'benchmarks'/'lessons.json'      # lesson -> seconds it ran for, written by `make book`
ROUND_TO = 15                                   # seconds; a reader needs no more than the order of it

def prose_of(path):
    "The text of each prose cell of a notebook."
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    return [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'markdown']

def lessons(nbs=root/'nbs'):
    "Each lesson in order: its file's name, title, one line, and all its prose."
    for path in sorted(nbs.glob('[0-9][0-9]_*.ipynb')):
        prose = prose_of(path)
        title, line = re.match(r'# (.+)\n\n> (.+)', prose[0]).groups()
        yield path.name, title, line, '\n\n'.join(prose)

def time_to_run(name):
    "In words for a person who decides whether to start: `under 30 s`."
    seconds = json.loads(SECONDS.read_text(encoding='utf-8')).get(name.removesuffix('.ipynb'))
    if not seconds:
        return ''
    limit = math.ceil(seconds / ROUND_TO) * ROUND_TO
    return f'runs in under {limit} s'

def lessons_table():
    "The table of lessons, in Markdown. The site shows its rows as cards."
    rows = ['| lesson | what you build | on two cores |', '|---|---|---|']
    for name, title, line, _ in lessons():
        rows.append(f'| [{name[:2]} {title}]({name}) | {line} | {time_to_run(name)} |')
    return '\n'.join(rows)

def exercises():
    "The exercises of every lesson under its title, in Markdown."
    parts = []
    for name, title, _, prose in lessons():
        text = re.search(r'^## Exercises *\n+(.+?)(?=^## )', prose, re.M | re.S)[1].strip()
        text = re.sub(r'^###', '####', text, flags=re.M)      # one level below the lesson's title
        parts.append(f'## {name[:2]} {title}\n\n[Back to the lesson]({name})\n\n{text}')
    return '\n\n'.join(parts)
