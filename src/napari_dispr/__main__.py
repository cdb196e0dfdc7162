"""``python -m napari_dispr``: the command line."""

import sys

from napari_dispr.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
