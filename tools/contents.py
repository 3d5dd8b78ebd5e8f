"""What the home page and the exercises page tell of the lessons, read from the lessons themselves."""
import json, re
from pathlib import Path

root = Path(__file__).resolve().parent.parent
SECONDS = root/'benchmarks'/'lessons.json'      # lesson -> seconds it ran for, written by `make book`

def lessons(nbs=root/'nbs'):
    "Each lesson in order: its file's name, title, one line, and all its prose."
    for path in sorted(nbs.glob('[0-9][0-9]_*.ipynb')):
        prose = [''.join(c['source']) for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'markdown']
        title, line = re.match(r'# (.+)\n\n> (.+)', prose[0]).groups()
        yield path.name, title, line, '\n\n'.join(prose)

def time_to_run(name):
    "In words for a person who decides whether to start: `under 30 s`."
    seconds = json.loads(SECONDS.read_text(encoding='utf-8')).get(name.removesuffix('.ipynb'))
    return f'runs in under {-(-seconds // 15) * 15} s' if seconds else ''

def lessons_table():
    "The table of lessons, in Markdown. The site shows its rows as cards."
    rows = [f'| [{name[:2]} {title}]({name}) | {line} | {time_to_run(name)} |' for name, title, line, _ in lessons()]
    return '\n'.join(['| lesson | what you build | on two cores |', '|---|---|---|', *rows])

def exercises():
    "The exercises of every lesson under its title, in Markdown."
    parts = []
    for name, title, _, prose in lessons():
        text = re.search(r'^## Exercises *\n+(.+?)(?=^## )', prose, re.M | re.S)[1]
        text = re.sub(r'^###', '####', text.strip(), flags=re.M)
        parts.append(f'## {name[:2]} {title}\n\n[Back to the lesson]({name})\n\n{text}')
    return '\n\n'.join(parts)
