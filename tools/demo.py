"""The main job of the book by its own command, from ratings to films to watch. Each line is printed before it runs.

    python tools/demo.py [DATA]      # what `mfbook fit` takes; without it, the ratings that ship
"""
import shlex
import subprocess
import sys
from pathlib import Path

FOLDER = Path('.demo')       # where the model goes

def lines(data='sample'):
    "The command lines: fit and measure, then films for somebody new, and films like a film."
    return [f'mfbook fit {data} --out films.safetensors',
            'mfbook recommend films.safetensors -n 5 --like "Alien=5" --like "Toy Story (1995)=3"',
            'mfbook similar films.safetensors -n 5 "Toy Story"']

def run(line, folder, output=subprocess.PIPE):
    "Run a line in a folder, as a shell would. Returns what it prints. CalledProcessError if it fails."
    command = [sys.executable, '-m', *shlex.split(line)]
    return subprocess.run(command, cwd=folder, check=True, text=True, stdout=output).stdout

def main(data='sample'):
    FOLDER.mkdir(exist_ok=True)
    if Path(data).exists(): data = shlex.quote(str(Path(data).resolve()))
    print(f'In the folder {FOLDER}:')
    for line in lines(data):
        print(f'\n$ {line}', flush=True)
        run(line, FOLDER, output=None)      # to the screen, at once

if __name__ == '__main__':
    try: main(*sys.argv[1:2])
    except subprocess.CalledProcessError as error: sys.exit(error.returncode)      # its line is on the screen
