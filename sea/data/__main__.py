"""The command line of the datasets: `python -m sea.data download` and `build`."""

import argparse
import sys
from pathlib import Path

from sea.data import DATA, OFFICIAL, DataError, build, download
from sea.data.amazon import TEXT_MODEL, sentence_encoder


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command and its options; a wrong one is one line and exit 2."""
    parser = _Parser(prog="python -m sea.data", description="Fetch or make a dataset.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="download|build")
    add = commands.add_parser("download", help="the official files of a dataset of the paper").add_argument
    add("name", choices=OFFICIAL, help=", ".join(OFFICIAL))
    add("--folder", type=Path, default=DATA, metavar="DIR", help="where the set's own folder goes (default: data/)")
    add("--mirror", default="", metavar="URL", help="take URL/NAME/FILE (default: Google Drive, for baby alone)")
    add = commands.add_parser("build", help="a dataset from the raw Amazon 2014 files").add_argument
    add("reviews", type=Path, metavar="REVIEWS", help="reviews_*_5.json.gz")
    add("meta", type=Path, metavar="META", help="meta_*.json.gz")
    add("images", type=Path, metavar="IMAGES", help="image_features_*.b")
    add("out", type=Path, metavar="OUT", help="a new folder, whose name is the dataset's")
    add("--seed", type=int, default=0, metavar="N", help="of the split (default: 0)")
    add("--text-model", default=TEXT_MODEL, metavar="NAME|FOLDER", help=f"sentence encoder (default: {TEXT_MODEL})")
    return parser.parse_args(arguments)


def main() -> int:
    """Run the command; what can't be done is one line and exit 2."""
    options = parse()
    try:
        if options.command == "download":
            folder = download(options.name, options.folder, options.mirror)
            print(f"Complete. Use it: ./run_all.sh --dataset {folder}")
        else:
            encode = sentence_encoder(options.text_model)
            found = build(options.reviews, options.meta, options.images, options.out, encode=encode, seed=options.seed)
            print(found.to_string())
            print(f"Complete. Use it: ./run_all.sh --dataset {options.out}")
    except KeyboardInterrupt:
        print("Interrupted. What was fetched is kept, and the same command goes on from there.", file=sys.stderr)
        return 130
    except (DataError, OSError) as error:
        print(f"python -m sea.data: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
