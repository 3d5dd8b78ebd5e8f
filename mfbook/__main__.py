"`python -m mfbook` is the command `mfbook`."
import sys
from mfbook.cli import main

if __name__ == '__main__':
    sys.exit(main())
