"""The command line of the book: `python -m sea.book`."""

import argparse
import sys
from pathlib import Path

from sea.book import FIGURES, SITE, build


def main() -> int:
    """Build the site; a wrong option is one line and exit 2, Ctrl-C 130."""
    parser = argparse.ArgumentParser(prog="python -m sea.book", description="Build the site from what was drawn.")
    parser.add_argument("--figures", type=Path, default=FIGURES, metavar="DIR", help="default: figures")
    parser.add_argument("--site", type=Path, default=SITE, metavar="DIR", help="default: site")
    options = parser.parse_args()
    try:
        print(f"The book: {build(options.figures, options.site)}")
    except ValueError as error:
        print(f"python -m sea.book: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. The site is as it was.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
