import hashlib
import itertools
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHARED
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from sea.data import DataError, load, official, planted
from sea.graphs import knn
from sea.models import MODELS

HEADER = "userID\titemID\trating\tx_label"
ROWS = [(0, 0, 0), (0, 1, 1), (0, 2, 2), (1, 1, 0), (1, 0, 1), (1, 2, 2)]


def write(folder: Path, rows=ROWS, header=HEADER, end="\n") -> Path:
    lines = [header, *("\t".join(map(str, (u, i, 5, label))) for u, i, label in rows)]
    (folder / "toy.inter").write_text(end.join(lines) + end, encoding="utf-8", newline="")
    for m, width in (("image", 4), ("text", 3)):
        np.save(folder / f"{m}_feat.npy", np.random.default_rng(0).standard_normal((3, width)))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_plain_folder_is_read(tmp_path):
    data = load(write(tmp_path))
    assert (data.name, data.n_users, data.n_items) == ("toy", 2, 3)
    assert data.train.tolist() == [[0, 0], [1, 1]]
    assert data.valid.tolist() == [[0, 1], [1, 0]]
    assert data.test.tolist() == [[0, 2], [1, 2]]
    assert {m: (x.dtype, x.shape) for m, x in data.features.items()} == {
        "image": (np.float32, (3, 4)),
        "text": (np.float32, (3, 3)),
    }
    offsets, items = data.lists["train"]
    assert [items[a:b].tolist() for a, b in itertools.pairwise(offsets)] == [[0], [1]]


def test_crlf_a_byte_order_mark_and_every_float_width_read_the_same(tmp_path):
    plain = load(write(tmp_path))
    write(tmp_path, header="\ufeff" + HEADER, end="\r\n")
    assert load(tmp_path).checksum == plain.checksum
    for dtype in (np.float16, np.float32, np.float64):
        np.save(tmp_path / "image_feat.npy", np.ones((3, 4), dtype))
        assert load(tmp_path).features["image"].dtype == np.float32


def test_the_checksum_sees_content_and_only_content(tmp_path):
    first = load(write(tmp_path)).checksum
    (tmp_path / "toy.inter").rename(tmp_path / "other.inter")
    assert load(tmp_path).checksum == first
    np.save(tmp_path / "text_feat.npy", np.zeros((3, 3)))
    assert load(tmp_path).checksum != first


# ruff: noqa: E501
REFUSED = {
    "label": ([*ROWS, (1, 3, 7)], r"toy.inter:8: x_label needs to be 0 \(train\), 1 .* \(got 7\)"),
    "negative id": ([(0, -1, 0), *ROWS], r"toy.inter:2: itemID needs to be a whole number of at least 0 .*\(got -1\)"),
    "fractional id": ([*ROWS, (1.5, 0, 0)], r"toy.inter:8: userID needs to be a whole number .* \(got 1.5\)"),
    "word for an id": ([*ROWS, ("bob", 0, 0)], r"toy.inter:8: userID needs to be a whole number .* \(got 'bob'\)"),
    "nothing for an id": ([*ROWS, ("", 0, 0)], r"toy.inter:8: userID needs to be a whole number .* \(got nothing\)"),
    "stray huge id": ([*ROWS, (10**12, 0, 0)], r"toy.inter:8: userID needs to number from 0 .* \(got 10{12}\)"),
    "pair twice": ([*ROWS, (0, 0, 0)], r"toy.inter:8: a pair may occur once \(user 0, item 0 is in train already, see .*toy.inter:2\)"),
    "leak": ([*ROWS, (0, 0, 2)], r"toy.inter:8: a pair may occur once \(user 0, item 0 leaks from train into test, see .*:2\)"),
    "no valid": ([row for row in ROWS if row[2] != 1], r"split valid \(x_label 1\) needs at least one row \(got 0\)"),
    "no rows": ([], r"toy.inter:2: needs at least one interaction"),
    "too few features": ([*ROWS, (1, 3, 0)], r"image_feat.npy: needs a row for each of the 4 items \(got 3 rows\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_broken_table_is_refused_with_its_place(tmp_path, case):
    rows, pattern = REFUSED[case]
    assert re.search(pattern, refusal(write(tmp_path, rows)))


def test_missing_files_and_columns_are_named(tmp_path):
    assert "found none" in refusal(tmp_path)
    write(tmp_path, header="userID\tthing\trating\tx_label")
    assert re.search(r"toy.inter:1: needs a column itemID \(got userID, thing", refusal(tmp_path))
    write(tmp_path, header=HEADER)
    (tmp_path / "second.inter").touch()
    assert "exactly one NAME.inter" in refusal(tmp_path)
    (tmp_path / "second.inter").unlink()
    for path in tmp_path.glob("*.npy"):
        path.unlink()
    assert re.search(r"at least one \*_feat.npy", refusal(tmp_path))
    with pytest.raises(DataError, match="nowhere: needs to be 'planted', a folder, or the name of one under data/"):
        load("nowhere")


def test_ragged_and_empty_tables_are_refused(tmp_path):
    write(tmp_path)
    with (tmp_path / "toy.inter").open("a") as file:
        file.write("1\t2\t3\t0\t5\t6\n")
    assert re.search(r"toy.inter: needs to be a tab-separated table \(.*line 8", refusal(tmp_path))
    (tmp_path / "toy.inter").write_text("userID\titemID\tx_label\n0\t0\t0\t1\n0\t1\t1\t1\n")
    assert re.search(r"toy.inter:2: needs 3 fields, as the header has \(got more\)", refusal(tmp_path))
    (tmp_path / "toy.inter").write_text("")
    assert "toy.inter: needs to be a tab-separated table" in refusal(tmp_path)


class Trap:
    """An object whose unpickling would leave a trace."""

    def __reduce__(self):
        return Path.touch, (Path("unpickled"),)


FEATURES = {
    "NaN": (np.array([[0, 1], [0, np.nan], [0, 0]]), r"image_feat.npy: row 1, column 1: .* finite .* \(got nan\)"),
    "infinity": (np.array([[0, 1], [0, 1], [-np.inf, 0]]), r"row 2, column 0: .* \(got -inf\)"),
    "beyond float32": (np.array([[0, 1e300], [0, 1], [0, 0]]), r"row 0, column 1: .* finite in float32 \(got 1e\+300\)"),
    "one axis": (np.ones(3), r"image_feat.npy: needs to be a matrix of float16, .* \(got float64, shape \(3,\)\)"),
    "whole numbers": (np.ones((3, 2), int), r"needs to be a matrix of float16, .* \(got int64"),
    "objects": (np.array([[Trap(), 1]] * 3), r"image_feat.npy: .* complete npy file of floats .*Python objects in dtype"),
}  # fmt: skip


@pytest.mark.parametrize("case", FEATURES)
def test_broken_features_are_refused_with_their_place(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    values, pattern = FEATURES[case]
    path = write(tmp_path) / "image_feat.npy"
    np.save(path, values, allow_pickle=True)  # "objects" becomes a pickle, which has to stay shut
    assert re.search(pattern, refusal(tmp_path))
    assert not Path("unpickled").exists()


def fits_a_model(name: str) -> bool:
    """Whether a module with a layer and a parameter of this name can be built, and used as any other."""
    try:
        held = torch.nn.ModuleDict({name: torch.nn.Linear(1, 1)}), torch.nn.ParameterDict({name: torch.ones(1)})
        for kind in held:
            assert list(kind.eval().keys()) == [name]
            assert [name in key for key in kind.float().state_dict()] == [True] * len(list(kind.parameters()))
    except (KeyError, TypeError, AttributeError):
        return False
    return True


def test_a_modality_is_refused_exactly_if_torch_cannot_hold_it(tmp_path):
    write(tmp_path)
    features = np.ones((3, 4))
    others = ["", "a.b", ".", "image2", "my-text", "bild (neu)", "图像", "class", "0", "features", "weight"]
    kinds = torch.nn.ModuleDict(), torch.nn.ParameterDict()
    for name in sorted({*others, *(name for kind in kinds for name in dir(kind))}):
        path = tmp_path / f"{name}_feat.npy"
        np.save(path, features)
        if fits_a_model(name):
            assert name in load(tmp_path).features
        else:
            message = refusal(tmp_path)
            assert message.startswith(f"{path}: a modality's name needs to be printable text, not empty, without a dot")
            assert message.endswith(f"(got {name!r})")
        path.unlink()


@pytest.mark.parametrize("model", MODELS)
def test_every_model_takes_modalities_of_any_accepted_name(tmp_path, model):
    folder = write(tmp_path)
    for name, new in (("image", "class"), ("text", "bild (neu)")):
        (folder / f"{name}_feat.npy").rename(folder / f"{new}_feat.npy")
    few = {"k": 2} if "k" in MODELS[model].settings() else {}
    built = MODELS[model](load(folder), generator=torch.Generator().manual_seed(0), **few)
    assert [len(vectors) for vectors in built.vectors()] == [2, 3]


@pytest.mark.parametrize("size", [0, 40, 200])
def test_a_feature_file_that_is_cut_short_is_refused(tmp_path, size):
    path = write(tmp_path) / "image_feat.npy"
    path.write_bytes(path.read_bytes()[:size])
    assert re.search(r"image_feat.npy: needs to be a complete npy file of floats", refusal(tmp_path))


def test_what_real_sets_have_is_accepted_and_counted(tmp_path):
    rows = [*ROWS, (3, 1, 2), (4, 0, 0)]  # user 2 is a gap, 3 has no train, 4 has nothing else; item 2 no train
    write(tmp_path, rows)
    features = np.ones((5, 4))
    features[1] = 0
    np.save(tmp_path / "image_feat.npy", features)
    data = load(tmp_path)
    count = data.describe()["count"]
    assert count["users without train"] == 2
    assert count["users without valid"] == 3
    assert count["users without test"] == 2
    assert count["items without train"] == 1
    assert count["image rows all zero"] == 1
    assert count["image rows surplus"] == 2
    assert data.features["image"].shape == (3, 4)
    assert data.describe()["rule"]["image rows all zero"].startswith("cosine 0")


def test_a_table_is_read_without_a_loop_over_its_rows(tmp_path):
    """Lines of Python are counted, here and in all libraries: a loop would take at least one for each row."""
    rng = np.random.default_rng(0)
    pairs = rng.choice(19_445 * 7_050, 50_000, replace=False)
    lines = (f"{p // 7050}\t{p % 7050}\t{i % 3}" for i, p in enumerate(pairs))
    (tmp_path / "big.inter").write_text("userID\titemID\tx_label\n" + "\n".join(lines) + "\n")
    np.save(tmp_path / "text_feat.npy", np.ones((7_050, 2), np.float32))
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += event == "line"
        return trace

    load(tmp_path)  # imports are no part of it
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        world = load(tmp_path)
    finally:
        sys.settrace(before)
    assert sum(len(getattr(world, split)) for split in ("train", "valid", "test")) == 50_000
    assert 0 < count < 25_000


def test_the_planted_world_is_the_seeds_alone():
    assert planted(30, 25, seed=3).checksum == planted(30, 25, seed=3).checksum
    assert planted(30, 25, seed=3).checksum != planted(30, 25, seed=4).checksum


def test_the_planted_world_splits_each_user_8_1_1():
    world = planted()
    counts = {s: np.bincount(getattr(world, s)[:, 0], minlength=world.n_users) for s in ("train", "valid", "test")}
    total = sum(counts.values())
    tenth = np.maximum(1, np.round(total / 10))
    assert (counts["valid"] == tenth).all()
    assert (counts["test"] == tenth).all()
    assert total.mean() == pytest.approx(20, abs=0.5)
    items = np.bincount(world.train[:, 1], minlength=world.n_items)
    assert items.max() > 4 * max(1, np.median(items)) or np.sort(items)[-40:].sum() > 0.2 * items.sum()  # skewed


def test_planted_features_carry_their_factors_and_no_others():
    """A linear probe finds the generic and the own factor in a modality, and nothing of the other's."""
    world = planted(100, 2000, widths={"image": 64, "text": 32}, seed=0)

    def r2(features: np.ndarray, factor: np.ndarray) -> float:
        return Ridge(1e-2).fit(features[:1000], factor[:1000]).score(features[1000:], factor[1000:])

    for own, other in (("image", "text"), ("text", "image")):
        assert r2(world.features[own], world.factors["generic"]) > 0.5
        assert r2(world.features[own], world.factors[own]) > 0.5
        assert r2(world.features[own], world.factors[other]) < 0.05


def test_planted_users_choose_by_every_factor():
    """Items that a user took are nearer to each other than chance, in the generic and in each unique factor."""
    world = planted(seed=2)
    mine = [world.train[world.train[:, 0] == user, 1] for user in range(world.n_users)]
    for factor in world.factors.values():
        near = np.mean([cosine_similarity(factor[items]).mean() for items in mine])
        assert near - cosine_similarity(factor).mean() > 0.02


def test_planted_refuses_what_it_cannot_split():
    with pytest.raises(ValueError, match="'mean_interactions' needs to be at least 10"):
        planted(mean_interactions=5)
    with pytest.raises(ValueError, match="'n_items' needs to be at least 20"):
        planted(n_items=5)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real datasets are not here")
@pytest.mark.parametrize(
    ("name", "sizes"),
    [("ml100k", (943, 982, 60_009, 7_490, 7_490)), ("tiktok", (9_308, 6_710, 59_541, 3_051, 6_130)),
     ("baby", (19_445, 7_050, 118_551, 20_559, 21_682))],
)  # fmt: skip
def test_real_sets_have_their_published_sizes_and_sound_graphs(name, sizes):
    data = load(SHARED / name)
    assert (data.n_users, data.n_items, len(data.train), len(data.valid), len(data.test)) == sizes
    if name == "baby":  # the official ten neighbours come with the set; its features were fitted to have them
        official = np.load(SHARED / "baby" / "item_neighbours.npz")["text_idx"]
        graph = knn(torch.tensor(data.features["text"]), 10)
        found = [set(graph.indices[a:b]) for a, b in itertools.pairwise(graph.indptr)]
        shared = np.mean([len(mine & set(theirs)) / 10 for mine, theirs in zip(found, official)])
        assert shared > 0.98  # the set's README says .99


def test_a_folder_that_bears_a_papers_name_and_is_not_it_says_so(tmp_path, monkeypatch):
    assert load(write(tmp_path)).warning == ""
    (tmp_path / "toy.inter").rename(tmp_path / "baby.inter")
    assert load(tmp_path).warning == (
        "baby: features are stand-ins (image 4, text 3 columns), not the official ones; the split is not the published one"
    )
    inter = (tmp_path / "baby.inter").read_bytes()
    monkeypatch.setitem(official.OFFICIAL_INTER, "baby", hashlib.sha256(inter).hexdigest())
    assert load(tmp_path).warning.endswith("not the official ones")
    (tmp_path / "baby.inter").write_bytes(inter.replace(b"\n", b"\r\n"))  # the same rows
    assert load(tmp_path).warning.endswith("not the official ones")
    monkeypatch.setattr(official, "OFFICIAL_WIDTHS", {"image": 4, "text": 3})
    assert load(tmp_path).warning == ""
