"""Build the site into `_docs/`, and write README.md from the home page's notebook.

    python tools/build_docs.py [--readme | --site]      # one of the two alone

nbdev processes the notebooks into `_proc/` (its imports, exports and signatures run; the other outputs are those that
`make book` stored; `tools/pages.py` holds what the book adds to its steps), and smalldocs makes pages of them, from
the same `_quarto.yml` that Quarto reads. A fault in a page (`tools/check_pages.py`), whatever smalldocs does not
understand, and every link inside the site that leads nowhere, stop the build. The same bytes every time, and nothing is
fetched.
"""
import itertools
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urljoin

root = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root), str(root/'tools')]

from execnb.nbio import read_nb
from nbdev.config import get_config
from nbdev.processors import FilterDefaults
from nbdev.serve import proc_nbs
from smalldocs import layout
from smalldocs.config import load
from smalldocs.notebook import cell_options
from smalldocs.site import ASSETS, Site, rel

from check_pages import faults, pages
from contents import prose_of
from frame import BookLayout
from lighten import lighter
from reference import write_reference
from search_index import search_index

BASE = get_config(root/'settings.ini').doc_baseurl      # where the site is published: /mfbook
COMMENT = re.compile(r'/\*.*?\*/', re.S)
READ_HERE = ['html-math-method', 'canonical-url', 'image-alt']      # keys of Quarto's that frame.py reads, and smalldocs does not
layout.Layout = BookLayout

# ---- README.md

def output_text(output, alt, pictures):
    """What a stored output says, as README.md shows it: a table as plain text, because GitHub drops a table's style; a
    figure as a file, which goes into `pictures`."""
    if 'text' in output:
        return f'```text\n{"".join(output["text"]).rstrip()}\n```'
    data = {kind: ''.join(text) for kind, text in output['data'].items()}
    if 'text/markdown' in data:
        return data['text/markdown']
    if 'image/svg+xml' in data:
        name = f'nbs/assets/home-{len(pictures) + 1}.svg'
        pictures[name] = data['image/svg+xml']
        return f'![{alt}]({name})'
    return f'```text\n{data["text/plain"].rstrip()}\n```'

def cell_text(cell, pictures):
    "The parts of README.md that a cell makes: prose, or code and its outputs."
    if cell.cell_type == 'markdown':
        return [cell.source]
    if cell.cell_type != 'code' or not cell.source:
        return []
    options, code = cell_options(cell.source)
    shown = [] if options.get('echo') is False else [f'```python\n{code.strip()}\n```']
    return shown + [output_text(output, options.get('fig-alt'), pictures) for output in cell.outputs]

def readme():
    """The text of README.md, and its pictures by file name. Links lead from the repository's front page to its own
    files, and to the site."""
    cfg = get_config(root/'settings.ini')
    nb = read_nb(cfg.nbs_path/cfg.readme_nb)
    FilterDefaults()(nb)
    pictures = {}
    parts = [f'<!-- Written from nbs/{cfg.readme_nb} by `make docs`. Change that notebook, not this file. -->',
             f'# {nb.frontmatter_["title"]}',
             f'> {nb.frontmatter_["description"]}']
    for cell in nb.cells[2:]:        # after nbdev's front matter and its own warning
        parts += cell_text(cell, pictures)

    text = '\n\n'.join(part.strip() for part in parts) + '\n'
    for kind in ('blob', 'tree'):
        text = text.replace(f'({cfg.git_url}/{kind}/{cfg.branch}/', '(')
    text = re.sub(r'\]\((?!\w+:|#)(?=[^)]*\.ipynb)', f']({cfg.nbs_path.name}/', text)
    return text, pictures

def write_readme():
    text, pictures = readme()
    (root/'README.md').write_text(text, encoding='utf-8')
    for name, svg in pictures.items():
        (root/name).write_text(svg, encoding='utf-8')

# ---- the site

class BookSite(Site):
    "smalldocs's site, and what Quarto does beside it."
    def read(self, src):
        "nbdev links to `ratings.html`, here and from the package; so the page of `01_ratings.ipynb` is that."
        page = super().read(src)
        self.warnings = [w for w in self.warnings if w != f'{src}: output-file is not read by smalldocs']
        page.out = page.out.with_name(page.front.get('output-file', page.out.name))
        return page

    def resolve(self, href, page, record=True):
        "A link to the published site becomes one inside the site being built. `broken_links` looks at them all."
        base = self.project.website['site-url'] + '/'
        if href.lstrip('/').startswith('notebooks/'):
            return rel(href.lstrip('/'), page)
        if not href.startswith(base):
            return super().resolve(href, page, record=False)
        out, mark, anchor = href[len(base):].partition('#')
        return rel(PurePosixPath(out or 'index.html'), page) + mark + anchor

    def render_page(self, page):
        "A figure's description (`fig-alt`) where a screen reader finds it on an inline SVG, and no id twice on a page."
        super().render_page(page)
        html = re.sub(r'<svg alt=("[^"]*")', r'<svg role="img" aria-label=\1', page.html)
        number = itertools.count(1)
        page.html = re.sub(r'<svg\b.*?</svg>', lambda svg: own_ids(svg[0], next(number)), html, flags=re.S)

    def copy_assets(self, nav):
        "All rules of all stylesheets that a page uses, in `book.css`; no page asks another server for a font."
        bootstrap = ASSETS/'vendor'/'bootstrap'/'bootstrap.min.css'
        words = used_words(self.out, self.root/'assets')
        parts = [lighter(path.read_text(encoding='utf-8'), words) for path in (bootstrap, ASSETS/'smalldocs.css')]
        parts += [COMMENT.sub('', (self.root/'styles.css').read_text(encoding='utf-8'))]
        (self.out/'book.css').write_text(''.join(parts), encoding='utf-8')

    def write_search(self):
        glossary = '\n'.join(prose_of(root/'nbs'/'glossary.ipynb'))
        (self.out/'search.json').write_text(search_index(self.pages.values(), glossary), encoding='utf-8')

    def write_llms_txt(self):
        "The pages as the sidebar has them, each with its one line."
        web = self.project.website
        lines = []
        for page in layout.SiteNav(self).order(next(iter(self.pages.values()))):
            twin = str(page.out).removesuffix('.html') + '.llms.md'
            lines.append(f'- [{page.title}]({web["site-url"]}/{twin}): {page.front.get("description", "")}')
        head = [f'# {web["title"]}', f'> {web["description"]}', 'Each page as Markdown, with its code and outputs:']
        (self.out/'llms.txt').write_text('\n\n'.join([*head, '\n'.join(lines)]) + '\n', encoding='utf-8')

    def write_sitemap(self):
        "Without the time of the build, so that two builds are the same, and without the 404 page."
        super().write_sitemap()
        path = self.out/'sitemap.xml'
        text = re.sub(r'\s*<lastmod>.*</lastmod>', '', path.read_text(encoding='utf-8'))
        text = re.sub(r'\s*<url>\s*<loc>[^<]*/404.html</loc>\s*</url>', '', text)
        path.write_text(text, encoding='utf-8')

def used_words(site, scripts):
    "The classes, ids and other names in the site's pages, and the words of its scripts."
    words = set()
    for path in site.rglob('*.html'):
        text = re.sub(r'<svg.*?</svg>', '', path.read_text(encoding='utf-8'), flags=re.S)
        for value in re.findall(r'(?:class|id)="([^"]*)"', text):
            words.update(value.split())
    for path in scripts.rglob('*.js'):
        words.update(re.findall(r'[\w-]+', path.read_text(encoding='utf-8')))
    return words

def own_ids(svg, n):
    "matplotlib numbers the parts of each figure from 1; on a page with several, ids must differ."
    ids = set(re.findall(r'\bid="([^"]+)"', svg))
    svg = re.sub(r'\bid="([^"]+)"', lambda m: f'id="f{n}-{m[1]}"', svg)
    return re.sub(r'(url\(#|href="#)([^")]+)', lambda m: f'{m[1]}f{n}-{m[2]}' if m[2] in ids else m[0], svg)

# ---- a page's last touches

OUTPUT = re.compile(r'(<div class="cell-output[^"]*)(">\n<pre>)(.*?)</pre>', re.S)
EMPTY_HEAD = re.compile(r'<th\b([^>]*)>\s*</th>')      # the corner of a table heads nothing

def mark_columns(output):
    "Printed columns keep their lines on a narrow screen (class `tabular`); sentences wrap."
    start, tag, text = output.groups()
    gaps = re.findall(r'[^ \n] {2,}[^ ]', text)
    kind = ' tabular' if len(gaps) > 2 else ''
    return f'{start}{kind}{tag}{text}</pre>'

def finish(path, site, ids):
    """A link to a method without a heading of its own leads to its class; a 404 page that works at any depth. `ids`: what
    each page offers to link to."""
    page = path.relative_to(site).as_posix()
    text = path.read_text(encoding='utf-8')
    text = text.replace(f'src="{BASE}/', f'src="{"../" * page.count("/")}')
    text = OUTPUT.sub(mark_columns, text)
    text = EMPTY_HEAD.sub(r'<td\1></td>', text)

    def to_the_class(link):
        href, name = link.groups()
        first = name.split('.')[0]
        target = (path.parent/href if href else path).resolve()
        there = ids.get(target, {name})
        return link[0] if name in there or first not in there else f'href="{href}#{first}"'
    text = re.sub(r'href="([\w./-]*)#([\w.]+\.[\w.]+)"', to_the_class, text)

    if page == '404.html':
        local = r'((?:href|src)="|offset" content=")(?!\w+:|#|/)(\./)?([\w./-]*)'
        text = re.sub(local, rf'\1{BASE}/\3', text)
    path.write_text(text, encoding='utf-8')

# ---- links

class Links(HTMLParser):
    "What one page offers to link to (`ids`), and what it links to (`hrefs`)."
    def __init__(self, path):
        super().__init__()
        self.ids = set()
        self.hrefs = set()
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key in ('id', 'name') and value:
                self.ids.add(value)
            if key in ('href', 'src') and value and tag != 'use':
                self.hrefs.add(value)

def broken_links(site, base):
    "Each link of the built site that leads to no file or no place in it. `base`: where it is published, `/mfbook`."
    built = {path.relative_to(site).as_posix(): Links(path) for path in site.rglob('*.html')}
    for name, page in sorted(built.items()):
        for href in sorted(page.hrefs):
            if re.match(r'[a-z]+:|//', href):
                continue
            path, _, anchor = unquote(urljoin(f'{base}/{name}', href)).partition('#')
            path = path.partition('?')[0].removeprefix(base).lstrip('/') or 'index.html'
            no_place = anchor and path in built and anchor not in built[path].ids
            if no_place or not (site/path).is_file():
                yield f'{name}: {href} leads nowhere'

# ---- all of it

def stop_at(found, title):
    if found:
        raise SystemExit('\n'.join([title, *found]))

def build():
    "The site, or the list of what is wrong with it."
    cfg = get_config(root/'settings.ini')
    subprocess.run([sys.executable, root/'tools'/'make_rate_data.py'], check=True)
    write_reference()
    stop_at([fault for page in pages() for fault in faults(page)], 'The pages have faults:')

    site = BookSite(load(proc_nbs(cfg.nbs_path.name, force=True)), quiet=True)
    site.out = cfg.doc_path
    shutil.rmtree(site.out, ignore_errors=True)        # smalldocs refuses what an interrupted build has left
    n_pages = site.build()

    notebooks = cfg.doc_path/'notebooks'
    notebooks.mkdir(exist_ok=True)
    for path in cfg.nbs_path.glob('[0-9][0-9]_*.ipynb'):
        shutil.copy(path, notebooks)

    made = list(cfg.doc_path.rglob('*.html'))
    ids = {path.resolve(): Links(path).ids for path in made}
    for path in made:
        finish(path, cfg.doc_path, ids)

    not_understood = [w for w in site.warnings if not any(key in w for key in READ_HERE)]
    stop_at([*not_understood, *broken_links(cfg.doc_path, cfg.doc_baseurl)], 'The site has faults:')
    print(f'{cfg.doc_path.name}/: {n_pages} pages')

if __name__ == '__main__':
    os.chdir(root)
    if sys.argv[1:] != ['--site']:
        write_readme()
        print('README.md')
    if sys.argv[1:] != ['--readme']:
        build()
