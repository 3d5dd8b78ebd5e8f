"""Weigh the pages of the built site, and time them on a slow phone: 4.8 Mbit/s, 40 ms a request, a quarter of this CPU.

    python tools/weigh_pages.py [index training ...]      # every page without an argument

Each page is opened in a browser with an empty cache, three times; the table has medians. `html` is the page itself
and `all` is what it asks for, both compressed; `seen` is the first paint of words, `whole` the end of loading. Needs
chromium.
"""
import gzip
import shutil
import statistics
import sys

from playwright.sync_api import sync_playwright

from serve import site, start

RUNS = 3
PHONE = dict(viewport=dict(width=390, height=844), device_scale_factor=3, is_mobile=True, has_touch=True)
BYTES_A_SECOND = 4.8e6/8
NETWORK = dict(offline=False, latency=40, downloadThroughput=BYTES_A_SECOND, uploadThroughput=BYTES_A_SECOND)
SLOWER = 4
TIMES = '''() => [performance.getEntriesByName('first-contentful-paint')[0].startTime,
                  performance.getEntriesByType('navigation')[0].loadEventEnd]'''

def visit(browser, address):
    "One visit with an empty cache: seconds to the first words, seconds to the end of loading, bytes received."
    context = browser.new_context(**PHONE)
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    received = []
    devtools.on('Network.loadingFinished', lambda event: received.append(event['encodedDataLength']))
    devtools.send('Network.enable')
    devtools.send('Network.emulateNetworkConditions', NETWORK)
    devtools.send('Emulation.setCPUThrottlingRate', dict(rate=SLOWER))
    page.goto(address, wait_until='load')
    page.wait_for_function('performance.getEntriesByType("navigation")[0].loadEventEnd > 0')
    seen, whole = page.evaluate(TIMES)
    context.close()
    return seen/1000, whole/1000, sum(received)

def weigh(browser, base, name):
    "A page's line of the table."
    html = len(gzip.compress((site/f'{name}.html').read_bytes(), mtime=0))
    visits = [visit(browser, f'{base}{name}.html') for _ in range(RUNS)]
    seen, whole, received = map(statistics.median, zip(*visits))
    return f'{name:24}{html/1000:8.0f}{received/1000:8.0f}{seen:8.2f}{whole:8.2f}'

if __name__ == '__main__':
    pages = [path.relative_to(site).as_posix().removesuffix('.html') for path in sorted(site.rglob('*.html'))]
    chromium = next(filter(None, map(shutil.which, ['chromium', 'chromium-browser', 'google-chrome'])), None)
    if not chromium:
        raise SystemExit('No chromium here: tools/install_browser.sh installs it.')
    server, base = start()
    print(f'{"page":24}{"html kB":>8}{"all kB":>8}{"seen s":>8}{"whole s":>8}')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=['--no-sandbox', '--disable-gpu'])
        for name in sys.argv[1:] or pages:
            print(weigh(browser, base, name), flush=True)
    server.shutdown()
