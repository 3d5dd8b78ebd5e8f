"""What the search of the site looks in: `search.json`.

Each heading stands in it once. A lesson's sections come from its prose; the code of a definition belongs to the
section it stands in, and the definition itself is found in the Reference, unless a section has its name. The glossary
says which lesson each word of the field belongs to.
"""
import json
import re

LESSON = re.compile(r'(\d\d)_')
ENTRY = re.compile(r'- \*\*(?P<term>[^*]+)\*\*: .+')
LINK = re.compile(r'\[\d\d\]\((\w+\.ipynb)\)')
SECTION_NUMBER = re.compile(r'^\d+\.\d+ ')
REPEATED = {'What we measured', 'Exercises', 'Where to read more'}      # in every lesson, so told apart by its name
LONGEST = 3000      # characters of one section

def kind_of(page):
    "Lessons are shown before other pages, and those before the Reference; a lesson's subsections are details."
    if LESSON.match(page.src.name):
        return 'lesson'
    return 'reference' if page.src.parts[0] == 'reference' else 'page'

def merged(parts, unlisted):
    "A page's parts (smalldocs's `search`), with each definition's text in the section above it."
    sections = []
    for part in parts:
        if part['id'] in unlisted and sections:
            sections[-1]['text'] += f' {part["title"]} {part["text"]}'
        else:
            sections.append(dict(part))
    return sections

def entries_of(page):
    "A page's sections, as the search shows them."
    kind = kind_of(page)
    headings = page.env.get('headings', [])
    unlisted = {heading['id'] for heading in headings if 'unlisted' in heading['classes']}
    details = {heading['id'] for heading in headings if heading['level'] > 2 and kind == 'lesson'}
    for part in merged(page.env.get('search', []), unlisted):
        section = SECTION_NUMBER.sub('', part['title'])
        place = f'#{part["id"]}' if part['id'] else ''
        text = re.sub(r'<[^>]+>', ' ', part['text'])
        if section in REPEATED:
            section = f'{section}: {page.title}'
        if not part['id']:
            text = f'{page.front.get("description", "")} {text}'
        yield dict(kind='detail' if part['id'] in details else kind, href=f'{page.out}{place}', page=page.title,
                   section=section, text=text[:LONGEST])

def once(entries):
    "Of entries with one name, the first: a lesson's before a page's, a page's before the Reference's."
    order = ['lesson', 'detail', 'page', 'reference']
    found = {}
    for entry in sorted(entries, key=lambda entry: order.index(entry['kind'])):
        name = (entry['section'] or re.sub(r'^\d\d ', '', entry['page'])).lower()
        found.setdefault(name, entry)
    return list(found.values())

def terms(glossary, pages):
    "Each term of the glossary, in all its forms, with its lessons' pages: the last that it links to comes first."
    out_of = {page.src.name: str(page.out) for page in pages}
    found = {}
    for line in glossary.splitlines():
        entry = ENTRY.match(line)
        lessons = [out_of[file] for file in LINK.findall(line)]
        for form in re.split(r' \(|\)', entry['term']) if entry else []:
            if form:
                found[form.lower()] = lessons[::-1]
    return found

def search_index(pages, glossary):
    "The text of search.json."
    entries = [entry for page in pages if page.meta.get('search') is not False for entry in entries_of(page)]
    return json.dumps(dict(terms=terms(glossary, pages), entries=once(entries)), ensure_ascii=False)
