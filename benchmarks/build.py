"""Building a dataset from raw Amazon files of Clothing's size and a million reviews: seconds and peak memory.

    python benchmarks/build.py [--reviews 1000000]

The raw files are generated, in the true formats, in a temporary folder (1.5 GB for a million reviews). The text encoder
is left out: it is another program's time.
"""

import argparse
import gzip
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from sea.data import build

USERS, ITEMS, OTHERS = 39_387, 23_033, 20_000  # Clothing's; products that nobody in the file reviewed
WORDS = "soft warm fits true to size and the colour is just as in the picture would buy again"


def write_raw(folder: Path, reviews: int, seed: int = 0) -> list[Path]:
    """Reviews of 25 to 1000 characters, evenly over users and over items; products; image vectors."""
    rng = np.random.default_rng(seed)
    users, items = (rng.permutation(np.arange(reviews) % n) for n in (USERS, ITEMS))
    text = " ".join(rng.choice(WORDS.split(), 5000))
    paths = [folder / "reviews_Big_5.json.gz", folder / "meta_Big.json.gz", folder / "image_features_Big.b"]
    with gzip.open(paths[0], "wt", compresslevel=1) as file:
        for u, i, start, length in zip(users, items, rng.integers(0, 20_000, reviews), rng.integers(25, 1000, reviews)):
            fields = {"reviewerID": f"A{u:013d}", "asin": f"B{i:09d}", "reviewerName": "Somebody", "helpful": [0, 0]}
            fields |= {"reviewText": text[start : start + length], "overall": 5.0, "unixReviewTime": 1376697600}
            file.write(json.dumps(fields) + "\n")
    with gzip.open(paths[1], "wt", compresslevel=1) as file:
        for i in range(ITEMS + OTHERS):
            fields = {"asin": f"B{i:09d}", "title": text[i : i + 60], "description": text[i % 9000 : i % 9000 + 600]}
            related = {"also_viewed": [f"B{j:09d}" for j in rng.integers(0, ITEMS, 30)]}
            file.write(repr(fields | {"related": related, "categories": [["Clothing", "Shoes"]]}) + "\n")
    with paths[2].open("wb") as file:
        for i in rng.permutation(ITEMS + OTHERS):
            file.write(f"B{i:09d}".encode() + rng.random(4096, np.float32).tobytes())
    return paths


def measure(paths: list[Path], out: Path) -> None:
    """Build in a process of its own, whose peak memory is the build's."""
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = build(*paths, out, encode=lambda texts: np.zeros((len(texts), 384), np.float32))
    seconds, peak = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    array = found["items"] * 4096 * 4 / 2**30
    print(found.to_string())
    print(f"{seconds:.1f} s, {found['reviews'] / seconds:,.0f} reviews a second, raw {_size(paths):.2f} GiB (packed)")
    print(f"peak {peak / 2**20:.2f} GiB, of which {before / 2**20:.2f} before, {array:.2f} the image array")


def _size(paths: list[Path]) -> float:
    return sum(path.stat().st_size for path in paths) / 2**30


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        raw = write_raw(Path(folder), options.reviews)
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(raw, Path(folder) / "big"))
        process.start()
        process.join()
