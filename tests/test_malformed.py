"""Damaged and hostile input: never a traceback of ours, never a wait, never a dataset that breaks its rules."""

import gzip
import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_data import ROWS, write

from sea.data import DataError, amazon, load
from sea.files import DamagedFile, load_json, save_json
from sea.records import finished, measure, measures, read
from sea.runs import Settings, run

EXAMPLES = int(os.environ.get("SEA_EXAMPLES", "60"))
"""How many each property draws; more by the environment's variable."""
drawn = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

SECONDS = 60
HUGE = ("1e19", "1e308", str(2**63), str(2**64 - 1), str(2**64), "9" * 30, "9" * 400, "inf", "True", "0x1", "\x1b[31m")


@contextmanager
def no_wait() -> Iterator[None]:
    """A pipe that nobody writes to would hold the test for ever."""

    def stop(*_: object) -> None:
        raise AssertionError("the reader waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read_or_refuse(folder: Path) -> str:
    """The refusal, one printable line of bounded length; or "" and then the dataset keeps what its docstring says."""
    with no_wait():
        try:
            data = load(folder)
        except DataError as error:
            message = str(error)
            assert message.isprintable() and 0 < len(message) <= 1000
            return message
    pairs = np.concatenate([data.train, data.valid, data.test])
    assert all(len(split) for split in (data.train, data.valid, data.test))
    assert pairs.dtype == np.int64 and pairs.min() >= 0
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert pairs.max(axis=0).tolist() == [data.n_users - 1, data.n_items - 1]
    assert data.features and all(name.isprintable() and name for name in data.features)
    for values in data.features.values():
        assert (
            values.dtype == np.float32 and len(values) == data.n_items and values.shape[1] and np.isfinite(values).all()
        )
    for names, count in ((data.users, data.n_users), (data.items, data.n_items)):
        assert names.empty or names.index.tolist() == list(range(count))
    assert data.warning == "" or data.warning.isprintable()
    return ""


@pytest.mark.parametrize("value", HUGE, ids=lambda value: ascii(value[:20]))
def test_an_id_that_int64_or_a_float_cannot_hold_is_refused_and_never_wraps(tmp_path, value):
    assert "toy.inter:8: userID needs to be" in read_or_refuse(write(tmp_path, [*ROWS, (value, 0, 0)]))
    for name, column in (("items.tsv", "itemID"), ("users.tsv", "userID")):
        write(tmp_path)
        (tmp_path / name).write_text(f"{column}\ttitle\n0\ta\n{value}\tb\n", encoding="utf-8")
        assert f"{name}:3: {column} needs to be a whole number" in read_or_refuse(tmp_path)
        (tmp_path / name).unlink()


def test_a_label_of_forty_digits_is_refused(tmp_path):
    assert "toy.inter:8: x_label needs to be" in read_or_refuse(write(tmp_path, [*ROWS, (1, 3, "9" * 40)]))


@pytest.mark.parametrize("one", ["1.0", "1e0", "1"])
def test_ids_that_pandas_writes_for_a_column_with_gaps_are_read(tmp_path, one):
    write(tmp_path)
    (tmp_path / "items.tsv").write_text(f"itemID\ttitle\n0.0\ta\n{one}\tb\n", encoding="utf-8")
    assert load(tmp_path).items["title"].tolist() == ["a", "b", ""]
    (tmp_path / "items.tsv").write_text(f"itemID\ttitle\n1\ta\n{one}\tb\n", encoding="utf-8")
    assert "items.tsv:3: an id may occur once" in read_or_refuse(tmp_path)


def header(folder: Path, text: str) -> None:
    """Put another header of the same length into a file of features."""
    path = folder / "image_feat.npy"
    before, _, rest = path.read_bytes().partition(b"{")
    old, _, values = rest.partition(b"\n")
    path.write_bytes(before + text.encode().ljust(len(old) + 1) + b"\n" + values)


@pytest.mark.parametrize(
    "shape", ["(-40, 6)", "(99999999999999999999, 6)", "(True, 6)", "(3, 4", "3", "(3, 10**9)", "(3000000000, 4000)"]
)
def test_a_damaged_shape_is_refused(tmp_path, shape):
    header(write(tmp_path), f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}")
    assert "image_feat.npy: needs to be a complete npy file" in read_or_refuse(tmp_path)


def test_another_kind_of_file_is_not_taken_for_features(tmp_path):
    path = write(tmp_path) / "image_feat.npy"
    np.savez(tmp_path / "some.npz", a=np.ones((3, 4)))
    for content in ((tmp_path / "some.npz").read_bytes(), b"PK\x03\x04zip", b"", b"\x93NUMPY"):
        path.write_bytes(content)
        assert "needs to be a complete npy file" in read_or_refuse(tmp_path)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "image_feat.npy" in read_or_refuse(tmp_path)
    np.save(path, np.ones((3, 0)))
    assert "at least one column" in read_or_refuse(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "broken link"])
@pytest.mark.parametrize("name", ["toy.inter", "image_feat.npy", "items.tsv", "users.tsv", "warning.txt"])
def test_what_is_not_a_file_is_refused_and_not_waited_for(tmp_path, name, kind):
    path = write(tmp_path) / name
    path.unlink(missing_ok=True)
    make = {"pipe": os.mkfifo, "folder": os.mkdir, "broken link": lambda path: path.symlink_to(tmp_path / "nothing")}
    make[kind](path)
    assert f"{name}: needs to be a file" in read_or_refuse(tmp_path)


def test_a_pipe_is_no_raw_amazon_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with no_wait(), pytest.raises(DataError, match="pipe: needs to be a file"):
        list(amazon._lines(tmp_path / "pipe"))
    with no_wait(), pytest.raises(DataError, match="pipe: needs to be a file"):
        amazon._check_images(tmp_path / "pipe")


def test_names_and_warnings_reach_no_terminal_with_control_characters(tmp_path):
    write(tmp_path)
    (tmp_path / "warning.txt").write_bytes(b"caf\xe9 \x1b[31m\xe2\x80\xaered\x00\nend")
    assert load(tmp_path).warning == "caf\ufffd [31m red end"
    np.save(tmp_path / "a\x1b\nb_feat.npy", np.ones((3, 2)))
    assert "a modality's name needs to be printable" in read_or_refuse(tmp_path)
    (tmp_path / "a\x1b\nb_feat.npy").unlink()
    (tmp_path / "toy.inter").rename(tmp_path / "to\ny.inter")
    assert r"to\ny.inter: its name needs to be printable" in read_or_refuse(tmp_path)
    write(tmp_path, header="user\x1b[31mID\titemID\tx_label")
    (tmp_path / "to\ny.inter").unlink()
    assert r"(got user\x1b[31mID, itemID" in read_or_refuse(tmp_path)


cell = st.one_of(
    st.sampled_from(["0", "1", "2", "-1", "1.0", "", "nan", "NA", '"', "1e3", " 1", "\x00", "\ufeff", "٣", *HUGE]),
    st.integers(0, 4).map(str),
    st.text(max_size=6),
)
table = st.lists(st.lists(cell, max_size=6), max_size=8)


@drawn
@given(rows=table, keep=st.booleans(), end=st.sampled_from(["\n", "\r\n", "\r", ""]))
def test_any_table_of_interactions_is_read_or_refused(rows, keep, end):
    with TemporaryDirectory() as name:
        folder = write(Path(name))
        good = (folder / "toy.inter").read_text(encoding="utf-8") if keep else ""
        text = good + end.join("\t".join(row) for row in rows)
        (folder / "toy.inter").write_text(text, encoding="utf-8", newline="")
        read_or_refuse(folder)


@drawn
@given(rows=table, column=st.sampled_from(["itemID", "userID", "other"]))
def test_any_table_of_names_is_read_or_refused(rows, column):
    with TemporaryDirectory() as name:
        folder = write(Path(name))
        text = f"{column}\ttitle\n" + "\n".join("\t".join(row) for row in rows)
        for file in ("items.tsv", "users.tsv"):
            (folder / file).write_text(text, encoding="utf-8", newline="")
        read_or_refuse(folder)


@drawn
@given(
    name=st.sampled_from(["toy.inter", "image_feat.npy", "items.tsv", "warning.txt"]),
    place=st.integers(0, 2**16),
    bit=st.integers(0, 7),
    cut=st.booleans(),
)
def test_any_flipped_bit_or_cut_is_read_or_refused(name, place, bit, cut):
    with TemporaryDirectory() as made:
        path = write(Path(made)) / name
        (path.parent / "items.tsv").write_text("itemID\ttitle\n0\ta\n2\tb\n", encoding="utf-8")
        (path.parent / "warning.txt").write_text("a warning", encoding="utf-8")
        content = bytearray(path.read_bytes())
        place %= min(len(content), 160)  # of features the header, mostly
        content[place] ^= 1 << bit
        path.write_bytes(content[:place] if cut else content)
        read_or_refuse(path.parent)


REVIEW = b'{"reviewerID": "u", "asin": "a"}'


@drawn
@given(
    lines=st.lists(st.one_of(st.binary(max_size=40), st.just(REVIEW), st.text(max_size=20).map(str.encode)), max_size=4)
)
def test_any_raw_reviews_and_products_are_read_or_refused(lines):
    with TemporaryDirectory() as name:
        path = Path(name) / "raw.json.gz"
        path.write_bytes(gzip.compress(b"\n".join(lines)))
        try:
            amazon._read_reviews(path)
        except DataError as error:
            assert str(error).isprintable()
        found = {}
        products = amazon._read_products(path, {"a": 0}, found)
        assert found["items without a product"] == 1 - len(products)


def test_a_reviewer_that_utf_8_cannot_hold_is_refused(tmp_path):
    path = tmp_path / "raw.json.gz"
    path.write_bytes(gzip.compress(rb'{"reviewerID": "\ud800", "asin": "a"}'))
    with pytest.raises(DataError, match=r"raw.json.gz:1: needs to be a JSON object with reviewerID and asin"):
        amazon._read_reviews(path)


PRODUCT = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=5), st.just("\ud800")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


@drawn
@given(title=PRODUCT, categories=PRODUCT, description=PRODUCT)
def test_a_product_of_any_literal_gives_texts_that_utf_8_holds(title, categories, description):
    product = {"asin": "a", "title": title, "categories": categories, "description": description}
    with TemporaryDirectory() as name:
        path = Path(name) / "meta.json.gz"
        path.write_bytes(gzip.compress(ascii(product).encode()))
        found = {}
        for texts in amazon._read_products(path, {"a": 0}, found).values():
            assert all(isinstance(text, str) and text.encode("utf-8") is not None for text in texts)


NEW = st.binary(min_size=1, max_size=20) | st.sampled_from([b"0", b"7", b" "])  # a digit may leave a file well-formed
MORE = st.sampled_from([0, 0, 0, 1, -20])  # bytes that go beside those in whose place the new ones come
CHANGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), MORE, NEW), max_size=4)


def changed_by(changes: list[tuple[float, int, bytes]], content: bytes) -> bytes:
    for place, more, new in changes:
        at = int(place * len(content))
        content = content[:at] + new + content[at + max(0, len(new) + more) :]
    return content


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A finished run, and what each of its files holds."""
    settings = Settings("BPR", epochs=2, batch_size=512, device="cpu", lr=1e-2)
    record = run(settings, tmp_path_factory.mktemp("runs"), progress=False)
    measure(record, "one", lambda _: [1.0, math.nan])
    return record, {path.name: path.read_bytes() for path in record.folder.iterdir() if path.suffix != ""}


@drawn
@given(name=st.sampled_from(["record.json", "weights.safetensors", "ranking.safetensors"]), changes=CHANGES)
def test_a_record_whose_bytes_were_changed_is_whole_or_done_again(kept, name, changes):
    """Bytes cut out and put in anywhere: `finished` serves what was written, or nothing."""
    record, content = kept
    path, changed = record.folder / name, changed_by(changes, content[name])
    path.write_bytes(changed)
    try:
        found = finished(record.folder)
        if found is None:
            assert changed != content[name]
        else:
            weights = found.model(found.data()).state_dict()
            assert vars(found) == vars(record)
            assert found.ranking().recommended.tolist() == record.ranking().recommended.tolist()
            assert all(torch.equal(weights[k], v) for k, v in load_tensors_of(content["weights.safetensors"]).items())
    finally:
        path.write_bytes(content[name])


def load_tensors_of(content: bytes) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(content)


@drawn
@given(changes=CHANGES)
def test_measures_whose_bytes_were_changed_are_whole_or_taken_anew(kept, changes):
    record, content = kept
    path = record.folder / "measures.json"
    path.write_bytes(changed_by(changes, content["measures.json"]))
    assert measures(record) in ({"one": [1.0, None]}, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@drawn
@given(names=st.sets(st.sampled_from(["settings", "metrics", "files", "history", "key", "more"])), value=JSON)
def test_a_record_of_another_layout_is_named_and_never_a_traceback(kept, names, value):
    """Well-formed, with a checksum of its own, as an older or a newer version of this code may have written it."""
    record, content = kept
    path, layout = record.folder / "record.json", load_json(record.folder / "record.json")
    layout = {k: v for k, v in layout.items() if k not in names} | ({"more": value} if "more" in names else {})
    layout["settings"] = layout.get("settings", value)
    save_json(path, layout)
    try:
        if names - {"settings"}:
            with pytest.raises(DamagedFile, match=r"record\.json: is the record of another version of this code$"):
                read(record.folder)
        elif "settings" in names:
            with pytest.raises(DamagedFile):
                read(record.folder)
        else:
            assert vars(read(record.folder)) == vars(record)
    finally:
        path.write_bytes(content["record.json"])
