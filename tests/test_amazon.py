"""From raw Amazon files, which these tests write in the true formats, to a dataset."""

import gzip
import json
import re
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sea.data import DataError, __main__, amazon, build, load

USERS = [f"A{u:013d}" for u in range(12)]
ASINS = [f"B{i:09d}" for i in range(12)]
TAKEN = [(u, i) for u in range(12) for i in (3 * np.arange(12) + u) % 12 if (u + i) % 4 or u == 0]
TAKEN = list(dict.fromkeys(TAKEN))


def review(u: int, i: int, text: str = "Fits.") -> str:
    """As in reviews_*_5.json.gz."""
    fields = {"reviewerID": USERS[u], "asin": ASINS[i], "reviewerName": 'Zoë "Z"', "helpful": [1, 2]}
    return json.dumps(
        fields | {"reviewText": text, "overall": 5.0, "unixReviewTime": 1376697600}, ensure_ascii=u % 2 == 0
    )


TAKEN += [(u, i) for u in range(12) for i in range(12) if (u, i) not in TAKEN and (u + i) % 4]
PRODUCTS = {
    ASINS[0]: {"title": "Girls' tutu", "price": 3.17, "brand": "Coxlures", "description": "Soft.\nPink."},
    ASINS[1]: {"description": "like 'asin': 'B000000099', but red", "title": 'A "big"\tone'},
    ASINS[2]: {"title": "Boot", "related": {"also_bought": [ASINS[3], ASINS[4]]}, "brand": ""},
    **{asin: {"title": f"Thing {asin[-2:]}"} for asin in ASINS[3:10]},
}  # of 10 there is a line that can't be read, of 11 none
PATHS = [["Shoes", "Women"], ["Novelty"]]


def product(asin: str) -> str:
    """As in meta_*.json.gz: a Python dictionary, not JSON."""
    fields = {**PRODUCTS[asin], "asin": asin}  # after a description that may name another
    return repr(fields | {"imUrl": "http://x/1.jpg", "categories": PATHS, "salesRank": {"Toys": 1}})


def images(asins: list[str], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {asin: rng.standard_normal(4096).astype("<f4") for asin in asins}


def write(folder: Path, reviews: list[str], products: list[str], vectors: dict[str, np.ndarray]) -> list[Path]:
    """The three raw files; a vector's key may be longer than an ASIN, to write one twice."""
    paths = [folder / "reviews_Toy_5.json.gz", folder / "meta_Toy.json.gz", folder / "image_features_Toy.b"]
    for path, lines in zip(paths, (reviews, products)):
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
    paths[2].write_bytes(b"".join(asin[:10].encode() + vector.tobytes() for asin, vector in vectors.items()))
    return paths


def encode(texts: list[str]) -> np.ndarray:
    """A sentence encoder whose vectors can be computed by hand."""
    return np.array([[len(text), sum(map(ord, text)) % 97] for text in texts], dtype=np.float32)


@pytest.fixture
def raw(tmp_path):
    reviews = [review(*pair) for pair in TAKEN]
    reviews[3:3] = ["", "  \t", review(*TAKEN[0]) + "\r", review(*TAKEN[1]) + "  "]  # two again
    lines = [product(asin) for asin in (*PRODUCTS, ASINS[3])]
    evil = "{'asin': '%s', 'title': __import__('pathlib').Path('evaluated').touch()}"
    lines[2:2] = [evil % ASINS[10], evil % "B999999999", "", "{'asin': 'B888888888', 'title': 'nobody's'}"]
    found = images([*ASINS[:10], "B777777777"]) | {ASINS[4] + " again": np.ones(4096, "<f4")}
    return write(tmp_path, reviews, lines, found)


def test_raw_files_become_the_dataset_that_they_say(tmp_path, raw, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []
    report = build(*raw, tmp_path / "toy", encode=lambda texts: asked.extend(texts) or encode(texts), seed=3)
    users = list(dict.fromkeys(USERS[u] for u, _ in TAKEN))
    asins = list(dict.fromkeys(ASINS[i] for _, i in TAKEN))
    world = load(tmp_path / "toy")
    assert (world.name, world.n_users, world.n_items) == ("toy", 12, 12)
    assert world.users["reviewerID"].tolist() == users
    assert world.items["asin"].tolist() == asins
    named = {(users[u], asins[i]) for u, i in world.interactions[["userID", "itemID"]].to_numpy()}
    assert named == {(USERS[u], ASINS[i]) for u, i in TAKEN}
    assert len(world.interactions) == len(TAKEN)
    counts = pd.crosstab(world.interactions["userID"], world.interactions["x_label"]).to_numpy()
    for train, valid, test in counts.tolist():
        n = train + valid + test
        assert (valid, test) == ((1, 1) if n < 10 else (n // 5 // 2, n // 5 - n // 5 // 2))
    assert max(counts.sum(1)) >= 10  # both halves of the rule were met

    vectors = images([*ASINS[:10], "B777777777"])
    mean = np.mean([vectors[asin] for asin in ASINS[:10]], axis=0, dtype=np.float64)
    for item, asin in enumerate(asins):
        expected = vectors.get(asin, mean)
        np.testing.assert_allclose(world.features["image"][item], expected, rtol=1e-6, atol=1e-7)
    texts = {asin: " ".join(filter(None, [p.get("title"), p.get("brand"), "Shoes", "Women", p.get("description")]))
             for asin, p in PRODUCTS.items()}  # fmt: skip
    assert asked == [texts.get(asin, "") for asin in asins]
    assert (world.features["text"] == encode(asked)).all()
    titles = {asin: " ".join(p["title"].split()) for asin, p in PRODUCTS.items()}
    assert world.titles.tolist() == [titles.get(asin, f"item {item}") for item, asin in enumerate(asins)]

    assert not (tmp_path / "evaluated").exists()
    assert report.to_dict() == {
        "reviews": len(TAKEN) + 2,
        "pairs again, left out": 2,
        "users": 12,
        "items": 12,
        "interactions": len(TAKEN),
        "items without an image": 2,
        "items without a product": 2,
        "product lines that can't be read": 1,
        "the first of them": f"{raw[1]}:3",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(path.name for path in raw), "toy"])
    assert np.load(tmp_path / "toy" / "image_feat.npy", mmap_mode="r").dtype == np.float32


ODD = {
    "categories of another kind": "'categories': 5",
    "a path of another kind": "'categories': [7]",
    "categories by name": "'categories': {'Clothing': 1}",
    "an asin that is a list": "'asin': ['B1']",
}


@pytest.mark.parametrize("case", ODD)
def test_a_product_of_another_shape_is_counted_and_stays_without_a_text(tmp_path, raw, case):
    """As a line that can't be read: its item's text is empty, all others are as they were."""
    lines = gzip.decompress(raw[1].read_bytes()).decode().split("\n")
    assert ASINS[0] in lines[0]
    lines[0] = f"{{'asin': '{ASINS[0]}', 'title': 'Girls', {ODD[case]}}}"
    raw[1].write_bytes(gzip.compress("\n".join(lines).encode()))
    asked = []
    report = build(*raw, tmp_path / "toy", encode=lambda texts: asked.extend(texts) or encode(texts))
    assert report["product lines that can't be read"] == 2
    assert report["the first of them"] == f"{raw[1]}:1"
    first = load(tmp_path / "toy").items["asin"].tolist().index(ASINS[0])
    assert asked[first] == ""
    assert sum(not text for text in asked) == 3


def test_the_split_is_the_seeds_alone(tmp_path, raw):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        build(*raw, tmp_path / name, encode=encode, seed=seed)
    first, again, other = (load(tmp_path / name).checksum for name in "abc")
    assert first == again != other


GOOD = [review(*pair) for pair in TAKEN]
# ruff: noqa: E501
REVIEWS = {
    "not JSON": ([*GOOD[:2], "{'asin': 1}"], r"reviews_Toy_5.json.gz:3: needs to be a JSON object .* \(got \"\{'asin': 1\}\"\)"),
    "a list": (["[]"], r"5.json.gz:1: needs to be a JSON object with reviewerID and asin"),
    "no item": ([GOOD[0], "", '{"reviewerID": "A1"}'], r"5.json.gz:3: needs"),
    "a number": (['{"reviewerID": "A1", "asin": 5}'], r"5.json.gz:1: needs"),
    "nested": (["[" * 100_000], r"5.json.gz:1: needs"),
    "empty": (["", ""], r"5.json.gz:1: needs at least one review"),
    "too few": ([*GOOD, review(3, 1).replace(USERS[3], "Z")], r"at least 5 interactions.* \(got fewer for 1 of 13 users and 0 of 12 items\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", REVIEWS)
def test_broken_reviews_are_refused_with_their_place(tmp_path, raw, case):
    lines, pattern = REVIEWS[case]
    raw[0].write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(DataError, match=pattern) as caught:
        build(*raw, tmp_path / "toy", encode=encode)
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.iterdir() if path not in raw]  # nothing half-written


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    "change", [lambda b: b[: len(b) // 2], lambda b: b"plain text", lambda b: b[:30] + b"??" + b[32:]]
)
def test_a_gzip_file_that_is_cut_or_broken_is_refused(tmp_path, raw, which, change):
    raw[which].write_bytes(change(raw[which].read_bytes()))
    with pytest.raises(DataError, match=rf"{raw[which].name}: needs to be a complete gzip file"):
        build(*raw, tmp_path / "toy", encode=encode)
    assert not [path for path in tmp_path.iterdir() if path not in raw]


def test_broken_images_are_refused_with_their_place(tmp_path, raw):
    whole = raw[2].read_bytes()

    def refusal(content: bytes) -> str:
        raw[2].write_bytes(content)
        with pytest.raises(DataError) as caught:
            build(*raw, tmp_path / "toy", encode=encode)
        return str(caught.value)

    record = 10 + 4 * 4096
    assert re.search(
        rf"Toy.b: byte {11 * record}: needs records of {record} bytes.* \(got 9 bytes\)",
        refusal(whole[: 11 * record + 9]),
    )
    assert f"Toy.b: byte 0: needs records of {record} bytes" in refusal(b"")
    broken = bytearray(whole)
    broken[2 * record + 10 : 2 * record + 14] = np.float32(np.nan).tobytes()
    assert f"byte {2 * record}: the vector of {ASINS[2]} needs to be finite" in refusal(bytes(broken))
    assert "needs the image of at least one of the 12 items (got none)" in refusal(whole[10 * record : 11 * record])
    raw[2].unlink()
    with pytest.raises(DataError, match=r"Toy.b: needs to be a file \(got nothing"):
        build(*raw, tmp_path / "toy", encode=encode)


def test_an_encoder_that_loses_a_text_is_refused(tmp_path, raw):
    with pytest.raises(DataError, match=r"'encode' needs to return a row for each of 12 texts \(got 11\)"):
        build(*raw, tmp_path / "toy", encode=lambda texts: encode(texts[1:]))
    with pytest.raises(DataError, match="'encode': row 0, column 0: features need to be finite"):
        build(*raw, tmp_path / "toy", encode=lambda texts: np.full((12, 2), np.nan))


def test_an_existing_folder_is_left_alone(tmp_path, raw):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "mine").touch()
    with pytest.raises(DataError, match="toy: needs to be a new or an empty folder"):
        build(*raw, tmp_path / "toy", encode=encode)
    assert [path.name for path in (tmp_path / "toy").iterdir()] == ["mine"]


def test_files_are_read_as_streams(tmp_path):
    """The peak is a small part of what is read: 60 MB of reviews, 33 MB of vectors of items that nobody reviewed."""
    many = [review(*pair, text="x" * 20_000) for pair in TAKEN] * 30
    others = {f"C{n:09d}": np.zeros(4096, "<f4") for n in range(2000)}
    raw = write(tmp_path, many, [product(asin) for asin in PRODUCTS], images(ASINS) | others)
    assert sum(map(len, many)) > 50_000_000
    tracemalloc.start()
    build(*raw, tmp_path / "toy", encode=encode)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


def test_the_texts_need_an_encoder_that_is_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(DataError, match="text features need sentence-transformers"):
        amazon.sentence_encoder()


def test_the_default_model_is_one_commit_and_any_other_is_as_it_was_given(monkeypatch):
    asked = []

    class SentenceTransformer:
        def __init__(self, name, revision=None):
            asked.append((name, revision))

        encode = staticmethod(encode)

    module = SimpleNamespace(SentenceTransformer=SentenceTransformer)
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    for found in (amazon.sentence_encoder(), amazon.sentence_encoder("a/folder"), amazon.sentence_encoder("other")):
        assert found(["text"]).tolist() == encode(["text"]).tolist()
    (name, revision), *others = asked
    assert name == "sentence-transformers/all-MiniLM-L6-v2"
    assert re.fullmatch("[0-9a-f]{40}", revision)
    assert others == [("a/folder", None), ("other", None)]


def test_the_command_builds_and_says_what_it_did(tmp_path, raw, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(__main__, "sentence_encoder", lambda model: asked.append(model) or encode)
    line = ["python", "build", *map(str, raw), str(tmp_path / "toy"), "--seed", "3", "--text-model", "a/folder"]
    monkeypatch.setattr(sys, "argv", line)
    assert __main__.main() == 0
    assert asked == ["a/folder"]
    assert "pairs again, left out" in capsys.readouterr().out
    build(*raw, tmp_path / "again", encode=encode, seed=3)
    assert load(tmp_path / "toy").checksum == load(tmp_path / "again").checksum
    assert __main__.main() == 2  # there is something already
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "toy: needs to be a new or an empty folder" in captured.err
