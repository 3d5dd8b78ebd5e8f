"""Build the site into `_docs/`, and write README.md from the home page's notebook.

    python tools/build_docs.py [--readme | --site]      # one of the two alone

nbdev processes the notebooks into `_proc/` (its imports, exports and signatures run; the other outputs are those that
`make book` stored), and smalldocs makes pages of them, from the same `_quarto.yml` that Quarto reads. Whatever smalldocs
does not understand, and every link inside the site that leads nowhere, stops the build. The same bytes every time.
"""
import os, re, sys
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urljoin

from execnb.nbio import read_nb, write_nb
from nbdev.config import get_config
from nbdev.processors import FilterDefaults
from nbdev.serve import proc_nbs
from smalldocs.config import load
from smalldocs.notebook import cell_options, fence_for
from smalldocs.site import Site, rel

root = Path(__file__).resolve().parent.parent

# ---- README.md

def output_text(out):
    "What a stored output says, as README.md shows it: a table as plain text, because GitHub drops a table's style."
    if 'text' in out: return ''.join(out['text'])
    if any(k.startswith('image/') for k in out['data']): raise SystemExit('index.ipynb: README.md cannot show a figure yet')
    return ''.join(out['data']['text/plain'])

def readme():
    "The text of README.md. Links lead from the repository's front page to its own files, and to the site."
    cfg = get_config(root/'settings.ini')
    nb = read_nb(cfg.nbs_path/cfg.readme_nb)
    FilterDefaults()(nb)
    head = nb.frontmatter_
    parts = [f'<!-- Written from nbs/{cfg.readme_nb} by `make docs`. Change that notebook, not this file. -->',
             f'# {head["title"]}', f'> {head["description"]}']
    for cell in nb.cells[2:]:        # after nbdev's front matter and its own warning
        if cell.cell_type == 'markdown': parts.append(cell.source)
        elif cell.cell_type == 'code':
            opts, code = cell_options(cell.source)
            if opts.get('echo') is not False: parts.append(f'```python\n{code.strip()}\n```')
            parts += [f'```text\n{output_text(o).rstrip()}\n```' for o in cell.outputs]
    text = '\n\n'.join(p.strip() for p in parts) + '\n'
    text = text.replace(f'({cfg.git_url}/blob/{cfg.branch}/', '(')
    return re.sub(r'\]\((?!\w+:|#)(?=[^)]*\.ipynb)', f']({cfg.nbs_path.name}/', text)

# ---- the site

CELL = re.compile(r'<(t[hd])([^>]*)>(.*?)</t[hd]>', re.S)
NUMBER = re.compile(r'[-+−]?[\d,.]+(e[-+]?\d+)?( ?[%x×])?|NaN|&lt;NA&gt;|nan|inf|—|-|', re.I)

def mark_words(table):
    "pandas does not say which columns hold words: mark the cells of those with any, so that they stand on the left."
    rows = [CELL.findall(r) for r in re.findall(r'<tr.*?</tr>', table, re.S) if '<td' in r]
    words = {i for r in rows for i, (_, _, text) in enumerate(r) if not NUMBER.fullmatch(text.strip())}
    def row(m):
        i = iter(range(10**6))
        return CELL.sub(lambda c: f'<{c[1]} class="words"{c[2]}>{c[3]}</{c[1]}>' if next(i) in words else c[0], m[0])
    return re.sub(r'<tr.*?</tr>', row, table, flags=re.S)

class BookSite(Site):
    "smalldocs's site, and what Quarto does beside it."
    def read(self, src):
        "nbdev links to `ratings.html`, here and from the installed package; so the page of `01_ratings.ipynb` is that."
        page = super().read(src)
        self.warnings = [w for w in self.warnings if w != f'{src}: output-file is not read by smalldocs']
        page.out = page.out.with_name(page.front.get('output-file', page.out.name))
        return page

    def resolve(self, href, page, record=True):
        "A link to the published site becomes one inside the site that is being built."
        base = self.project.website['site-url'] + '/'
        if not href.startswith(base): return super().resolve(href, page, record=False)    # `broken_links` looks at them all
        out, mark, anchor = href[len(base):].partition('#')
        return rel(PurePosixPath(out or 'index.html'), page) + mark + anchor

    def render_page(self, page):
        "A figure's description (`fig-alt`) where a screen reader finds it on an inline SVG; and tables of numbers aligned."
        super().render_page(page)
        page.html = re.sub(r'<svg alt=("[^"]*")', r'<svg role="img" aria-label=\1', page.html)
        page.html = re.sub(r'<table[^>]*class="dataframe".*?</table>', lambda m: mark_words(m[0]), page.html, flags=re.S)

    def copy_assets(self, nav):
        "No page asks another server for a font."
        super().copy_assets(nav)
        for css in (self.out/'site_libs'/'themes').glob('*.css'):
            css.write_text(re.sub(r'@import url\(https?:[^)]*\);?', '', css.read_text(encoding='utf-8')), encoding='utf-8')

    def write_sitemap(self):
        "Without the time of the build, so that two builds are the same."
        super().write_sitemap()
        path = self.out/'sitemap.xml'
        path.write_text(re.sub(r'\s*<lastmod>.*</lastmod>', '', path.read_text(encoding='utf-8')), encoding='utf-8')

def place_headings(path):
    "nbdev sets a definition's heading before all exported cells in a row; here it stands right before its own."
    nb = read_nb(path)
    for doc in [c for c in nb.cells if c.cell_type == 'code' and c.source.splitlines()[-1:] and c.source.splitlines()[-1].startswith('show_doc(')]:
        name = re.search(r'(\w+)\)', doc.source)[1]
        start = nb.cells.index(doc)
        for i in range(start + 1, len(nb.cells)):
            if nb.cells[i].cell_type != 'code': break
            if re.search(rf'^(async )?(def|class) {name}\b', nb.cells[i].source, re.M):
                nb.cells.insert(i - 1, nb.cells.pop(start))
                break
    write_nb(nb, path)

class Links(HTMLParser):
    "What one page offers to link to (`ids`), and what it links to (`hrefs`)."
    def __init__(self, path):
        super().__init__()
        self.ids, self.hrefs = set(), set()
        self.feed(path.read_text(encoding='utf-8'))
    def handle_starttag(self, tag, attrs):
        for k, v in attrs:
            if k in ('id', 'name') and v: self.ids.add(v)
            if k in ('href', 'src') and v and tag != 'use': self.hrefs.add(v)

def broken_links(site):
    "Each link of the built site that leads to no file or no place in it."
    pages = {p.relative_to(site).as_posix(): Links(p) for p in site.rglob('*.html')}
    for name, page in sorted(pages.items()):
        for href in sorted(page.hrefs):
            if re.match(r'[a-z]+:|//', href): continue
            path, _, anchor = unquote(urljoin(name, href)).partition('#')
            path = path.partition('?')[0]
            if path in ('', './'): path = 'index.html'
            if not (site/path).is_file() or (anchor and path in pages and anchor not in pages[path].ids):
                yield f'{name}: {href} leads nowhere'

def build():
    "The site, or the list of what is wrong with it."
    cfg = get_config(root/'settings.ini')
    proc = proc_nbs(cfg.nbs_path.name, force=True)
    for nb in sorted(proc.rglob('*.ipynb')): place_headings(nb)
    site = BookSite(load(proc), quiet=True)
    site.out = cfg.doc_path
    pages = site.build()
    wrong = site.warnings + list(broken_links(cfg.doc_path))
    if wrong: raise SystemExit('\n'.join(['The site has faults:', *wrong]))
    print(f'{cfg.doc_path.name}/: {pages} pages')

if __name__ == '__main__':
    os.chdir(root)
    if sys.argv[1:] != ['--site']:
        (root/'README.md').write_text(readme(), encoding='utf-8')
        print('README.md')
    if sys.argv[1:] != ['--readme']: build()
