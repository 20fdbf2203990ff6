"""From the raw Amazon 2014 files to MMRec's format, in streams: the reviews, the products, their image vectors."""

import ast
import gzip
import json
import re
import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from sea.data.checks import COLUMNS, DataError, existing_file, float_matrix
from sea.data.splits import fifths, hold_out
from sea.data.writing import new_folder, write_table

Encoder = Callable[[list[str]], np.ndarray]
"""From n texts to floats, shape (n, d)."""

TEXT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
TEXT_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
"""The commit of TEXT_MODEL on its hub, so that the same texts have the same vectors next year."""

IMAGE = np.dtype([("asin", "S10"), ("vector", "<f4", (4096,))])
"""A record of image_features_*.b."""

CORE = 5
ASIN = re.compile(rb"""['"]asin['"]\s*:\s*['"]([^'"]+)['"]""")


def build(
    reviews: str | Path,
    meta: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    encode: Encoder | None = None,
    seed: int = 0,
) -> pd.Series:
    """Make a dataset of the raw Amazon 2014 files, by the rules that MMRec's notebooks state.

    Users and items are numbered in the order in which the reviews file first names them; a pair that is there twice
    counts once. All have at least 5 interactions, which is checked. Each user's are split at random by
    `sea.data.splits.fifths`. So the split has the published sizes, but it is another random draw; the published split
    is in the released files alone. A text is title, brand, first category path and description, as far as there are
    any. An item without an image gets the mean vector of those that have one.

    Reviews, products and images are read as streams. Writes OUT.inter, image_feat.npy (n_items, 4096), text_feat.npy
    (n_items, d), items.tsv (asin and title) and users.tsv (reviewerID). Features are float32: the image vectors are
    stored so, and the official files' float64 holds the same numbers in twice the space.

    Args:
        reviews: reviews_*_5.json.gz, a JSON object a line; its reviewerID and asin are read.
        meta: meta_*.json.gz, a Python dictionary a line, read as a literal and never evaluated. Lines of the needed
            items that can't be read are counted, and these items' texts stay empty.
        images: image_features_*.b, records of a 10-byte ASIN and 4096 little-endian float32.
        out: a new or empty folder, which appears when it is complete; its name is the dataset's.
        encode: the text encoder; `sentence_encoder()` if None.
        seed: of the split.

    Returns:
        What was found and done: a count for each, by name.

    Raises:
        DataError: a file that is missing or cut off; a malformed review; too few interactions of a user or an item;
            image vectors that are not finite, or none; `out` is not empty.
    """
    encode = encode or sentence_encoder()
    _check_images(Path(images))
    with new_folder(out) as folder:
        users, asins, pairs, found = _read_reviews(Path(reviews))
        labels = hold_out(pairs[:, 0], fifths, np.random.default_rng(seed))
        frame = pd.DataFrame(np.column_stack([pairs, labels]), columns=COLUMNS)
        write_table(folder / f"{Path(out).resolve().name}.inter", frame)
        found["items without an image"] = _write_images(Path(images), asins, folder / "image_feat.npy")
        products = _read_products(Path(meta), asins, found)
        titles, texts = zip(*(products.get(asin, ("", "")) for asin in asins))
        vectors = float_matrix(np.asarray(encode(list(texts))), "'encode'")
        if len(vectors) != len(texts):
            raise DataError(f"'encode' needs to return a row for each of {len(texts)} texts (got {len(vectors)})")
        np.save(folder / "text_feat.npy", vectors)
        write_table(folder / "users.tsv", _numbered("userID", reviewerID=list(users)))
        write_table(folder / "items.tsv", _numbered("itemID", asin=list(asins), title=list(titles)))
    return pd.Series(found, name="count", dtype=object)


def sentence_encoder(model: str = TEXT_MODEL) -> Encoder:
    """An encoder by sentence-transformers (the extra `text`); `model` is a name on its hub, or a local folder.

    TEXT_MODEL is loaded at TEXT_REVISION, any other name as it is on the hub today.

    Raises:
        DataError: the package is not installed, or the model cannot be loaded.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise DataError(
            "text features need sentence-transformers (pip install -c requirements.lock -e '.[text]')"
        ) from None
    try:
        encoder = SentenceTransformer(model, revision=TEXT_REVISION if model == TEXT_MODEL else None)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"--text-model needs to be a model's name or its local folder (got {model!r}: {reason})"
        ) from None
    return encoder.encode


def _read_reviews(path: Path) -> tuple[dict[str, int], dict[str, int], np.ndarray, dict[str, int]]:
    """Ids by reviewerID and by asin, the distinct pairs (n, 2) in the file's order, and counts."""
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    flat = array("q")
    for number, line in _lines(path):
        try:
            review = json.loads(line)
            user, item = review["reviewerID"], review["asin"]
        except (ValueError, TypeError, KeyError, RecursionError):
            user = item = None
        if not all(isinstance(name, str) and name and name.isprintable() for name in (user, item)):
            raise DataError(f"{path}:{number}: needs to be a JSON object with reviewerID and asin (got {_start(line)})")
        flat.extend((users.setdefault(user, len(users)), items.setdefault(item, len(items))))
    if not flat:
        raise DataError(f"{path}:1: needs at least one review (got none)")
    pairs = np.frombuffer(flat, dtype=np.int64).reshape(-1, 2)
    repeated = pd.Series(pairs[:, 0] * len(items) + pairs[:, 1]).duplicated().to_numpy()
    found = {"reviews": len(pairs), "pairs again, left out": int(repeated.sum())}
    pairs = pairs[~repeated]
    rare = [int((np.bincount(column) < CORE).sum()) for column in pairs.T]
    if any(rare):
        raise DataError(
            f"{path}: every user and every item needs at least {CORE} interactions, as in the files named *_{CORE} "
            f"(got fewer for {rare[0]} of {len(users)} users and {rare[1]} of {len(items)} items)"
        )
    return users, items, pairs, found | {"users": len(users), "items": len(items), "interactions": len(pairs)}


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a gzip file that are not blank, and their numbers from 1."""
    try:
        size = existing_file(path).stat().st_size
        with (
            path.open("rb") as raw,
            tqdm.wrapattr(raw, "read", total=size, desc=path.name, disable=None) as watched,
            gzip.open(watched) as file,
        ):
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: needs to be a complete gzip file ({error})") from None


def _start(line: bytes) -> str:
    text = line.decode(errors="replace").strip()
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _read_products(path: Path, asins: dict[str, int], found: dict[str, object]) -> dict[str, tuple[str, str]]:
    """The needed items' titles and texts, by asin; `found` gets the counts of what was absent or unreadable."""
    products: dict[str, tuple[str, str]] = {}
    unread = []
    for number, line in _lines(path):
        if not any(match.decode(errors="replace") in asins for match in ASIN.findall(line)):
            continue  # of an item that nobody reviewed
        try:
            product = ast.literal_eval(line.decode().strip())  # a literal, not JSON; nothing in it is evaluated
            if product["asin"] in asins:
                products.setdefault(product["asin"], (_encodable(product.get("title")), _text(product)))
        except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
            unread.append(number)
    found["items without a product"] = len(asins) - len(products)
    found["product lines that can't be read"] = len(unread)
    if unread:
        found["the first of them"] = f"{path}:{unread[0]}"
    return products


def _text(product: dict) -> str:
    """'title brand categories description' of an item; what is absent is left out."""
    categories = product.get("categories") or [[]]
    parts = [product.get("title"), product.get("brand"), *categories[0], product.get("description")]
    return " ".join(_encodable(part) for part in parts if part)


def _encodable(value: object) -> str:
    """A value as text that UTF-8 can hold, "" for none: a literal may spell half of a surrogate pair."""
    return str(value or "").encode("utf-8", "replace").decode("utf-8")


def _numbered(column: str, **columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns).rename_axis(column).reset_index()


def _check_images(path: Path) -> None:
    try:
        size = existing_file(path).stat().st_size
    except OSError as error:
        raise DataError(f"{path}: needs to be a file of image vectors ({error.strerror})") from None
    if size % IMAGE.itemsize or not size:
        whole = size - size % IMAGE.itemsize
        raise DataError(
            f"{path}: byte {whole}: needs records of {IMAGE.itemsize} bytes, a 10-byte ASIN and 4096 float32 "
            f"(got {size - whole} bytes)"
        )


def _write_images(path: Path, asins: dict[str, int], target: Path) -> int:
    """Write the needed items' vectors, and their mean for items without one; return how many have none."""
    ids = {asin.encode(): item for asin, item in asins.items()}
    values = np.lib.format.open_memmap(target, "w+", np.float32, (len(ids), 4096))
    total, seen = np.zeros(4096), np.zeros(len(ids), dtype=bool)
    with path.open("rb") as file, tqdm(desc=path.name, total=path.stat().st_size, unit="B", disable=None) as bar:
        while len(records := np.fromfile(file, IMAGE, 64)):
            place = file.tell() - records.nbytes
            for row, asin in enumerate(records["asin"].tolist()):
                item = ids.get(asin)
                if item is None or seen[item]:
                    continue
                vector = records["vector"][row]
                if not np.isfinite(vector).all():
                    where = place + row * IMAGE.itemsize
                    raise DataError(f"{path}: byte {where}: the vector of {asin.decode()} needs to be finite")
                values[item], seen[item] = vector, True
                total += vector
            bar.update(records.nbytes)
    if not seen.any():
        raise DataError(f"{path}: needs the image of at least one of the {len(ids)} items (got none)")
    values[~seen] = total / seen.sum()
    values.flush()
    return int((~seen).sum())
