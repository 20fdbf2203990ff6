import json
import math
import os
import random
import threading

import pytest
import torch

from sea import files
from sea.files import DamagedFile, load_json, load_tensors, save_json, save_tensors, write_atomically

TENSORS = {
    "a": torch.arange(12.0).view(3, 4).T,  # not contiguous
    "b": torch.tensor(7),
    "c": torch.tensor([True, False]),
    "d": torch.zeros(0, 3),
    "e": torch.tensor([1.5, -2]).bfloat16(),
}
CONTENT = {"x": [0.1, 1e-30, None], "name": "é \n", "deep": {"n": 3}, "none": math.inf}


def test_what_is_written_is_read(tmp_path):
    checksum = save_tensors(tmp_path / "t", TENSORS, {"note": "é"})
    tensors, metadata = load_tensors(tmp_path / "t", checksum)
    assert metadata == {"note": "é"}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], x) and tensors[name].dtype == x.dtype for name, x in TENSORS.items())
    save_json(tmp_path / "j", CONTENT)
    assert load_json(tmp_path / "j") == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j", "t"]


def test_the_checksum_is_of_all_that_is_kept(tmp_path):
    first = save_tensors(tmp_path / "t", TENSORS)
    others = [
        TENSORS | {"b": torch.tensor(8)},
        TENSORS | {"d": torch.zeros(3, 0)},
        TENSORS | {"c": torch.tensor([1, 0], dtype=torch.uint8)},
        {("z" if name == "a" else name): x for name, x in TENSORS.items()},
    ]
    found = {save_tensors(tmp_path / "t", tensors) for tensors in others}
    assert len(found | {first, save_tensors(tmp_path / "t", TENSORS, {"note": ""})}) == 6
    assert save_tensors(tmp_path / "t", dict(reversed(TENSORS.items()))) == first


@pytest.mark.parametrize("kind", ["tensors", "json"])
def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path, kind):
    """A hundred places each; a flip may leave what is read the same (a space in a header), but never another thing."""
    path, rng = tmp_path / "file", random.Random(0)
    save_tensors(path, TENSORS, {"note": "x"}) if kind == "tensors" else save_json(path, CONTENT)
    load = load_tensors if kind == "tensors" else load_json
    whole, good = path.read_bytes(), repr(load(path))
    unnoticed = 0
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            assert repr(load(path)) == good
            unnoticed += 1
        except DamagedFile as error:
            assert str(path) in str(error) and "\n" not in str(error)
    assert unnoticed <= 15  # padding of the header, white space between JSON's names
    for length in [0, 1, 7, *rng.sample(range(len(whole) - 1), 30)]:
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFile, match="is not what was written"):
            load(path)
    path.write_bytes(bytes(len(whole)))
    with pytest.raises(DamagedFile):
        load(path)


def test_another_file_in_its_place_and_none_are_refused(tmp_path):
    checksum = save_tensors(tmp_path / "a", TENSORS)
    save_tensors(tmp_path / "b", {"x": torch.ones(1)})
    with pytest.raises(DamagedFile, match="its checksum differs"):
        load_tensors(tmp_path / "b", checksum)
    for load in (load_tensors, load_json):
        with pytest.raises(DamagedFile, match=r"none: is not what was written \(it is not there\)"):
            load(tmp_path / "none")
    (tmp_path / "list").write_text("[1]")
    (tmp_path / "plain").write_text(json.dumps(CONTENT))
    for name in ("list", "plain"):
        with pytest.raises(DamagedFile):
            load_json(tmp_path / name)


def test_writers_have_temporary_files_of_their_own(tmp_path):
    """Two write at once, each waiting for the other half-way; both succeed, and the file is one of the two."""
    barrier, path = threading.Barrier(2), tmp_path / "file"

    def write(temporary, text):
        temporary.write_text(text[:3])
        barrier.wait(timeout=60)
        temporary.write_text(text)

    writers = [
        threading.Thread(target=write_atomically, args=(path, lambda t, text=text: write(t, text)))
        for text in ("first", "second")
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_text() in ("first", "second")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failure_leaves_the_old_file_and_names_the_path(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"file: could not be written \(No space left on device\)"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    with pytest.raises(OSError, match=r"none/file: could not be written"):
        write_atomically(tmp_path / "none" / "file", lambda temporary: temporary.write_text("x"))


def test_the_content_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr(files, "_to_disk", lambda path: events.append(("sync", path.name)))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append(("name", b.name)), replace(a, b)))
    save_json(tmp_path / "j", CONTENT)
    (first, temporary), second, third = events
    assert first == "sync" and temporary.startswith("j.")
    assert second == ("name", "j")
    assert third == ("sync", tmp_path.name)
