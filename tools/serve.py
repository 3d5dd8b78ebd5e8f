"""Serve the built site on this machine, at the path it is published under, with its own page for what is not there.

    python tools/serve.py [port]      # http://127.0.0.1:8000/mfbook/ without an argument

Text is sent compressed, as GitHub Pages sends it.
"""
import gzip
import http.server
import io
import sys
import threading
from pathlib import Path

site = Path(__file__).resolve().parent.parent/'_docs'
BASE = '/mfbook/'
COMPRESSED = {'.html', '.css', '.js', '.json', '.svg', '.md', '.txt', '.xml', '.ipynb'}

class Pages(http.server.SimpleHTTPRequestHandler):
    "The files of `_docs/` under `/mfbook/`, and 404.html for all else, as the published site answers."
    def __init__(self, *args):
        super().__init__(*args, directory=site)

    def translate_path(self, path):
        inside = path.startswith(BASE)
        return super().translate_path('/' + path.removeprefix(BASE) if inside else '/is/nowhere')

    def send_head(self):
        path = Path(self.translate_path(self.path))
        accepts = 'gzip' in self.headers.get('Accept-Encoding', '')
        if path.suffix not in COMPRESSED or not path.is_file() or not accepts:
            return super().send_head()
        body = gzip.compress(path.read_bytes(), mtime=0)
        self.send_response(200)
        self.send_header('Content-Type', self.guess_type(path))
        self.send_header('Content-Encoding', 'gzip')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        return io.BytesIO(body)

    def send_error(self, code, *args):
        if code != 404:
            return super().send_error(code, *args)
        body = (site/'404.html').read_bytes()
        self.send_response(404)
        self.send_header('Content-Type', 'text/html; charset=utf-8')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

def start(port=0):
    "Serve in the background; gives the server and the site's address."
    server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f'http://127.0.0.1:{server.server_port}{BASE}'

if __name__ == '__main__':
    if not (site/'index.html').is_file():
        raise SystemExit('There is no site yet: make docs builds it.')
    port = int(sys.argv[1]) if sys.argv[1:] else 8000
    try:
        server, address = start(port)
    except OSError as error:
        raise SystemExit(f'Port {port} cannot be had ({error.strerror}). '
                         f'Name another: python tools/serve.py {port + 1}')
    print(f'The site is at {address} until you press Ctrl-C.')
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print()
