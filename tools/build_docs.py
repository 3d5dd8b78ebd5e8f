"""Build the site into `_docs/`, and write README.md from the home page's notebook.

    python tools/build_docs.py [--readme | --site]      # one of the two alone

nbdev processes the notebooks into `_proc/` (its imports, exports and signatures run; the other outputs are those that
`make book` stored; `tools/pages.py` holds what the book adds to its steps), and smalldocs makes pages of them, from the
same `_quarto.yml` that Quarto reads. A fault in a page (`tools/check_pages.py`), whatever smalldocs does not understand,
and every link inside the site that leads nowhere, stop the build. The same bytes every time, and nothing is fetched.
"""
import os, re, shutil, subprocess, sys
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
from smalldocs.site import Site, rel

from check_pages import faults, pages
from reference import write_reference

# ---- README.md

def output_text(out, alt, pictures):
    "What a stored output says, as README.md shows it: a table as plain text, because GitHub drops a table's style; a figure as a file."
    if 'text' in out: return f'```text\n{"".join(out["text"]).rstrip()}\n```'
    data = {k: ''.join(v) for k, v in out['data'].items()}
    if 'text/markdown' in data: return data['text/markdown']
    if 'image/svg+xml' in data:
        name = f'nbs/assets/home-{len(pictures) + 1}.svg'
        pictures[name] = data['image/svg+xml']
        return f'![{alt}]({name})'
    return f'```text\n{data["text/plain"].rstrip()}\n```'

def readme():
    "The text of README.md, and its pictures by file name. Links lead from the repository's front page to its own files, and to the site."
    cfg = get_config(root/'settings.ini')
    nb = read_nb(cfg.nbs_path/cfg.readme_nb)
    FilterDefaults()(nb)
    head, pictures = nb.frontmatter_, {}
    parts = [f'<!-- Written from nbs/{cfg.readme_nb} by `make docs`. Change that notebook, not this file. -->',
             f'# {head["title"]}', f'> {head["description"]}']
    for cell in nb.cells[2:]:        # after nbdev's front matter and its own warning
        if cell.cell_type == 'markdown': parts.append(cell.source)
        elif cell.cell_type == 'code' and cell.source:
            opts, code = cell_options(cell.source)
            if opts.get('echo') is not False: parts.append(f'```python\n{code.strip()}\n```')
            parts += [output_text(o, opts.get('fig-alt'), pictures) for o in cell.outputs]
    text = '\n\n'.join(p.strip() for p in parts) + '\n'
    text = text.replace(f'({cfg.git_url}/blob/{cfg.branch}/', '(').replace(f'({cfg.git_url}/tree/{cfg.branch}/', '(')
    return re.sub(r'\]\((?!\w+:|#)(?=[^)]*\.ipynb)', f']({cfg.nbs_path.name}/', text), pictures

def write_readme():
    text, pictures = readme()
    for name, svg in {'README.md': text, **pictures}.items(): (root/name).write_text(svg, encoding='utf-8')

# ---- the site

class BookSite(Site):
    "smalldocs's site, and what Quarto does beside it."
    def read(self, src):
        "nbdev links to `ratings.html`, here and from the installed package; so the page of `01_ratings.ipynb` is that."
        page = super().read(src)
        self.warnings = [w for w in self.warnings if w != f'{src}: output-file is not read by smalldocs']
        page.out = page.out.with_name(page.front.get('output-file', page.out.name))
        return page

    def resolve(self, href, page, record=True):
        "A link to the published site becomes one inside the site that is being built. `broken_links` looks at them all."
        base = self.project.website['site-url'] + '/'
        if href.lstrip('/').startswith('notebooks/'): return rel(href.lstrip('/'), page)
        if not href.startswith(base): return super().resolve(href, page, record=False)
        out, mark, anchor = href[len(base):].partition('#')
        return rel(PurePosixPath(out or 'index.html'), page) + mark + anchor

    def render_page(self, page):
        "A figure's description (`fig-alt`) where a screen reader finds it on an inline SVG, and no id twice on a page."
        super().render_page(page)
        page.html = re.sub(r'<svg alt=("[^"]*")', r'<svg role="img" aria-label=\1', page.html)
        count = iter(range(1, 10**6))
        page.html = re.sub(r'<svg\b.*?</svg>', lambda m: own_ids(m[0], next(count)), page.html, flags=re.S)

    def copy_assets(self, nav):
        "No page asks another server for a font."
        super().copy_assets(nav)
        for css in (self.out/'site_libs'/'themes').glob('*.css'):
            css.write_text(re.sub(r'@import url\(https?:[^)]*\);?', '', css.read_text(encoding='utf-8')), encoding='utf-8')

    def write_llms_txt(self):
        "The pages as the sidebar has them, each with its one line."
        base, web = self.project.website['site-url'], self.project.website
        pages = layout.SiteNav(self).order(next(iter(self.pages.values())))
        lines = [f'- [{p.title}]({base}/{str(p.out).removesuffix(".html")}.llms.md): {p.front.get("description", "")}' for p in pages]
        head = [f'# {web["title"]}', f'> {web["description"]}', 'Each page as Markdown, with its code and outputs:']
        (self.out/'llms.txt').write_text('\n\n'.join([*head, '\n'.join(lines)]) + '\n', encoding='utf-8')

    def write_sitemap(self):
        "Without the time of the build, so that two builds are the same, and without the page that says that there is none."
        super().write_sitemap()
        path = self.out/'sitemap.xml'
        text = re.sub(r'\s*<lastmod>.*</lastmod>', '', path.read_text(encoding='utf-8'))
        path.write_text(re.sub(r'\s*<url>\s*<loc>[^<]*/404.html</loc>\s*</url>', '', text), encoding='utf-8')

def own_ids(svg, n):
    "matplotlib numbers the parts of each figure from 1; on a page with several, ids must differ."
    ids = set(re.findall(r'\bid="([^"]+)"', svg))
    svg = re.sub(r'\bid="([^"]+)"', lambda m: f'id="f{n}-{m[1]}"', svg)
    return re.sub(r'(url\(#|href="#)([^")]+)', lambda m: f'{m[1]}f{n}-{m[2]}' if m[2] in ids else m[0], svg)

def tabular(m):
    "Printed columns keep their lines on a narrow screen; sentences wrap."
    columns = len(re.findall(r'[^ \n] {2,}[^ ]', m[3])) > 2
    return m[1] + ' tabular' * columns + m[2] + m[3] + '</pre>'

# What a screen reader needs to know and smalldocs does not say.
LABELS = {'<nav class="navbar': '<nav aria-label="Site" class="navbar', 'role="img"></i>': 'aria-hidden="true"></i>',
          '<div id="quarto-margin-sidebar"': '<div id="quarto-margin-sidebar" role="complementary" aria-label="Beside the page"'}

def finish(path, site, ids):
    "A page's last touches: KaTeX from the site itself; methods without a heading of their own; a 404 page for any depth."
    page, text = path.relative_to(site).as_posix(), path.read_text(encoding='utf-8')
    text = text.replace(layout.KATEX, '../' * page.count('/') + 'assets/katex')
    text = re.sub(r'(<div class="cell-output[^"]*)(">\n<pre>)(.*?)</pre>', tabular, text, flags=re.S)
    for old, new in LABELS.items(): text = text.replace(old, new)
    twin = path.name.removesuffix('.html') + '.llms.md'
    text = text.replace('</head>', f'<link rel="alternate" type="text/markdown" href="{twin}"></head>', 1)
    def anchor(m):
        target = (site/page).parent/m[1] if m[1] else site/page
        known = ids.get(target.resolve(), {m[2]})
        return m[0] if m[2] in known or m[2].split('.')[0] not in known else f'href="{m[1]}#{m[2].split(".")[0]}"'
    text = re.sub(r'href="([\w./-]*)#([\w.]+\.[\w.]+)"', anchor, text)
    if page == '404.html': text = re.sub(r'((?:href|src|content)=")(?!\w+:|#|/|width|smalldocs)(\./)?([\w./-]*)', r'\1/mfbook/\3', text)
    path.write_text(text, encoding='utf-8')

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

def broken_links(site, base):
    "Each link of the built site that leads to no file or no place in it. `base` is where the site is published, `/mfbook`."
    pages = {p.relative_to(site).as_posix(): Links(p) for p in site.rglob('*.html')}
    for name, page in sorted(pages.items()):
        for href in sorted(page.hrefs):
            if re.match(r'[a-z]+:|//', href): continue
            path, _, anchor = unquote(urljoin(f'{base}/{name}', href)).partition('#')
            path = path.partition('?')[0].removeprefix(base).lstrip('/') or 'index.html'
            if not (site/path).is_file() or (anchor and path in pages and anchor not in pages[path].ids):
                yield f'{name}: {href} leads nowhere'

def build():
    "The site, or the list of what is wrong with it."
    cfg = get_config(root/'settings.ini')
    subprocess.run([sys.executable, root/'tools'/'make_rate_data.py'], check=True)
    write_reference()
    wrong = [f for p in pages() for f in faults(p)]
    if wrong: raise SystemExit('\n'.join(['The pages have faults:', *wrong]))
    site = BookSite(load(proc_nbs(cfg.nbs_path.name, force=True)), quiet=True)
    site.out = cfg.doc_path
    shutil.rmtree(site.out, ignore_errors=True)        # smalldocs refuses what an interrupted build has left
    n = site.build()
    (cfg.doc_path/'notebooks').mkdir(exist_ok=True)
    for nb in cfg.nbs_path.glob('[0-9][0-9]_*.ipynb'): shutil.copy(nb, cfg.doc_path/'notebooks')
    made = list(cfg.doc_path.rglob('*.html'))
    ids = {p.resolve(): Links(p).ids for p in made}
    for page in made: finish(page, cfg.doc_path, ids)
    wrong = [w for w in site.warnings if 'html-math-method' not in w] + list(broken_links(cfg.doc_path, cfg.doc_baseurl))
    if wrong: raise SystemExit('\n'.join(['The site has faults:', *wrong]))
    print(f'{cfg.doc_path.name}/: {n} pages')

if __name__ == '__main__':
    os.chdir(root)
    if sys.argv[1:] != ['--site']:
        write_readme()
        print('README.md')
    if sys.argv[1:] != ['--readme']: build()
