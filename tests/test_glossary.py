"The glossary and the notation: in order, one sentence a term, and each term stands in the lessons that it links to."
import json
import re
from pathlib import Path

import pytest

nbs = Path(__file__).resolve().parent.parent/'nbs'
ENTRY = re.compile(r'- \*\*(?P<term>[^*]+)\*\*: (?P<text>.+?) (?P<links>\[\d\d\]\(.+\))')
LINK = re.compile(r'\[(\d\d)\]\(((\d\d)_\w+\.ipynb)\)')

def prose(name):
    "The prose cells of a notebook in `nbs/`, one string each."
    cells = json.loads((nbs/name).read_text(encoding='utf-8'))['cells']
    return [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'markdown']

def plain(text):
    "Text to look for terms in: without formulas, in small letters, and one space for each run of other signs."
    text = re.sub(r'\$\$.*?\$\$|\$[^$\n]+\$', ' ', text, flags=re.S)
    return re.sub(r"[^a-z0-9']+", ' ', text.lower())

def lines():
    "The entries of the glossary as they are written, and the letter that each stands under."
    for section in prose('glossary.ipynb')[2:]:
        title, *entries = section.splitlines()
        for line in entries:
            if line: yield title, line

entries = [(title, ENTRY.fullmatch(line)) for title, line in lines()]
every_term = dict(argvalues=[match for _, match in entries if match], ids=lambda match: match['term'])

def forms(term):
    "A term and its other form: `mean absolute error (MAE)` is found by either."
    return [form for form in re.split(r' \(|\)', term) if form]

def test_each_line_is_an_entry():
    assert [line for _, line in lines() if not ENTRY.fullmatch(line)] == []
    assert 60 <= len(entries) <= 130

def test_terms_are_in_order_and_none_stands_twice():
    terms = [plain(match['term']).strip() for _, match in entries]
    assert terms == sorted(terms)
    names = [plain(form) for _, match in entries for form in forms(match['term'])]
    assert len(names) == len(set(names))
    assert [match['term'] for title, match in entries if title != f'## {match["term"][0].upper()}'] == []

@pytest.mark.parametrize('match', **every_term)
def test_an_entry_is_one_sentence(match):
    text = match['text']
    assert text[0].isupper() and text.endswith('.')
    assert not re.search(r'[.?!] ', text), 'more than one sentence'

@pytest.mark.parametrize('match', **every_term)
def test_a_term_stands_in_the_lessons_it_links_to(match):
    links = LINK.findall(match['links'])
    assert links and match['links'] == ', '.join(f'[{number}]({name})' for number, name, _ in links)
    assert [number for number, *_ in links] == sorted({number for number, *_ in links})
    for number, name, of_file in links:
        assert number == of_file and (nbs/name).exists(), f'no lesson {name}'
        text = plain('\n'.join(prose(name)))
        found = any(re.search(rf'\b{re.escape(plain(form).strip())}', text) for form in forms(match['term']))
        assert found, f'{name} does not speak of {match["term"]!r}'

SYMBOL = re.compile(r'\| (?P<symbol>.+?) \| (?P<meaning>.+?) \| (?P<unit>.*?) \| (?P<code>.*?) \| (?P<links>.+?) \|')

def test_each_symbol_is_explained_and_its_lessons_exist():
    "check_pages sees to it that the names in the code exist."
    rows = [line for cell in prose('notation.ipynb') for line in cell.splitlines() if line.startswith('| $')]
    assert len(rows) >= 20
    symbols = []
    for row in rows:
        match = SYMBOL.fullmatch(row)
        assert match, row
        symbols += re.findall(r'\$.+?\$', match['symbol'])
        links = LINK.findall(match['links'])
        assert links and all(number == of_file and (nbs/name).exists() for number, name, of_file in links), row
    assert len(symbols) == len(set(symbols)), 'a symbol stands twice'
