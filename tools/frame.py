"""What stands around the text of a page: head, header, sidebar, table of contents, previous and next.

smalldocs lays out a page as Quarto does; here the parts are replaced that a phone, a keyboard or a slow line needs
otherwise. The classes and ids are Quarto's wherever `nbs/styles.css` is to fit the pages that Quarto makes as well.
"""
import re
from html import escape

from fastcore.xml import Link, Meta, Safe, Script
from smalldocs import layout
from smalldocs.site import rel

FONTS = ['source-sans-3-latin-wght-normal', 'source-serif-4-latin-wght-normal']     # what each page begins with
LEFT_OUT = re.compile(r'site_libs/|styles\.css|quarto-color-scheme|smalldocs-scheme|katex')

# Before the first paint: the colors that the reader chose, or else those that the system asks for.
SCHEME = '''(() => { const root = document.documentElement; let scheme = null;
try { scheme = localStorage.getItem('book-scheme'); } catch (e) { /* a private window */ }
scheme = scheme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
root.dataset.bsTheme = scheme; root.classList.toggle('quarto-dark', scheme === 'dark'); })()'''

NAVBAR = '''<nav class="navbar" aria-label="Site">
<button type="button" class="menu-button" aria-controls="quarto-sidebar" aria-expanded="false">Menu</button>
<a class="navbar-brand" href="{home}">{title}</a>
<div class="book-search" role="search">
<input type="text" class="form-control" placeholder="Search" aria-label="Search the book" autocomplete="off"
 enterkeyhint="search" role="combobox" aria-expanded="false" aria-autocomplete="list" aria-controls="book-found">
<div id="book-found" role="listbox" aria-label="Pages found" hidden></div></div>
{tools}<button type="button" class="scheme-button" aria-pressed="false">Dark</button></nav>'''

SIDEBAR = '<nav id="quarto-sidebar" class="sidebar" aria-label="Contents of the book"><ul>{lines}</ul></nav>'
BESIDE = '<nav id="TOC" aria-labelledby="toc-title"><div id="toc-title">On this page</div>{links}</nav>'
ABOVE = '<nav id="TOC-body" aria-label="On this page"><details><summary>On this page</summary>{links}</details></nav>'

class BookLayout(layout.Layout):
    "smalldocs's layout of a page, with the book's own frame."

    def absolute(self, image):
        "A picture of the whole site has one address, whatever folder the page is in."
        return f'{self.web["site-url"]}/{image}'

    def head(self):
        "One stylesheet, two scripts, nothing twice; what a search engine and a chat window show of the page."
        head = super().head()
        up = self.offset()
        kept = [part for part in head.children if not LEFT_OUT.search(str(part))]
        wanted_soon = dict(rel='preload', type='font/woff2', crossorigin=True, **{'as': 'font'})
        fonts = [Link(href=f'{up}assets/fonts/{name}.woff2', **wanted_soon) for name in FONTS]
        more = [Link(rel='stylesheet', href=f'{up}book.css'), *fonts, Script(Safe(SCHEME)),
                Script(src=f'{up}assets/frame.js', defer=True)]
        if self.page.env.get('math'):
            more += [Link(rel='stylesheet', href=f'{up}assets/katex/katex.min.css')]
        if self.page.out.name != '404.html':
            twin = self.page.out.name.removesuffix('.html') + '.llms.md'
            more += [Link(rel='canonical', href=f'{self.web["site-url"]}/{self.page.out}'),
                     Link(rel='alternate', type='text/markdown', href=twin),
                     Meta(property='og:url', content=f'{self.web["site-url"]}/{self.page.out}')]
        image = self.web['open-graph']['image-alt']
        return type(head)(head.tag, (*kept, Meta(property='og:image:alt', content=image), *more), head.attrs)

    def navbar(self):
        "One row at every width: the menu (on a narrow screen), the title, the search, the colors."
        home = rel(layout.PurePosixPath('index.html'), self.page)
        tools = ''.join(f'<a class="navbar-tool" href="{escape(tool["href"])}">{escape(tool["text"])}</a>'
                        for tool in self.nav.navbar['tools'])
        return [Safe(NAVBAR.format(home=home, title=escape(self.web['title']), tools=tools))]

    def secondary_nav(self):
        return []

    def side_entry(self, item):
        "One line of the sidebar: a page, or a section that opens and closes."
        if item.section:
            is_open = '' if self.is_folded(item) else ' open'
            lines = ''.join(self.side_entry(child) for child in item.children)
            return f'<li><details{is_open}><summary>{item.text}</summary><ul>{lines}</ul></details></li>'
        here = ' aria-current="page"' if item.page is self.page else ''
        return f'<li><a href="{escape(self.href(item.href))}"{here}>{item.text}</a></li>'

    def is_folded(self, item):
        "The Reference is long, and folded away on other pages."
        return item.text == 'Reference' and not item.contains(self.page)

    def sidebar_html(self, toc=None):
        lines = ''.join(self.side_entry(item) for item in self.sidebar['items'])
        return [Safe(SIDEBAR.format(lines=lines))]

    def title_block(self):
        "The bar of a lesson goes into it, above the table of contents."
        bar = re.search(r'<div class="lesson-bar">.*?</div>\n?', self.page.html, re.S)
        if bar:
            self.page.html = self.page.html.replace(bar[0], '')
        return [*super().title_block(), *([Safe(bar[0])] if bar else [])]

    def toc(self, body=False, ids=True, extra=None):
        "Beside the text, or folded into one line above it, for a narrow screen. Its title is no heading of the page."
        made = super().toc(body, ids)
        if not made:
            return []
        links = layout.to_xml(made[0].children[1], indent=False)
        return [Safe((ABOVE if body else BESIDE).format(links=links))]

    def extra_links(self):
        return []

    def page_navigation(self):
        "The pages before and after this one, with number and title."
        order = self.nav.order(self.page)
        here = next((i for i, page in enumerate(order) if page is self.page), None)
        if here is None:
            return []
        before = order[here - 1:here] if here else []
        after = order[here + 1:here + 2]
        links = ''
        for word, kind, pages in (('Previous', 'prev', before), ('Next', 'next', after)):
            for page in pages:
                links += (f'<a class="nav-page-{kind}" rel="{kind}" href="{escape(rel(page.out, self.page))}">'
                          f'<span>{word}</span> {escape(page.title)}</a>')
        return [Safe(f'<nav class="page-navigation" aria-label="Previous and next page">{links}</nav>')]
