"""The page, from a checkout: `python app.py --help`. Installed it is `size-explorer`."""

import sys

from explorer.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main(["page", *sys.argv[1:]]))
