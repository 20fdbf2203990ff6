"""A reader's own data: frames to a dataset to a folder and back; the seeded split; the compact sample."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import SHARED

from sea.data import DataError, Dataset, load, planted
from sea.data.splits import dense_sample, fifths, hold_out, k_core, tenths

TITLES = {"tea": "Green tea", "pot": 'A "pot"\twith\na lid', "cup": "", "jar": "Never bought"}


def bought(split=True) -> pd.DataFrame:
    """Two users of labels of two kinds, three items, a fourth in no row."""
    rows = [("bob", "cup", 0), ("bob", "tea", 1), ("bob", "pot", 2), (7, "tea", 0), (7, "cup", 1), (7, "pot", 2)]
    frame = pd.DataFrame(rows, columns=["user", "item", "x_label"], index=range(10, 16))
    return frame if split else frame.drop(columns="x_label")


def vectors() -> dict:
    """By modality: an array in the items' order, and a frame in another."""
    image = np.arange(8, dtype=np.float64).reshape(4, 2)
    text = pd.DataFrame({"a": [3.0, 1.0, 0.0, 2.0]}, index=["jar", "pot", "tea", "cup"])
    return {"image": image, "text": text}


def mine(**changes) -> Dataset:
    arguments = {"interactions": bought(), "features": vectors(), "items": pd.DataFrame({"title": TITLES})} | changes
    return Dataset.from_frames("mine", **arguments)


def test_frames_become_a_dataset():
    own = mine()
    assert (own.name, own.n_users, own.n_items) == ("mine", 2, 3)
    assert own.train.tolist() == [[0, 2], [1, 0]]  # users as they turn up, items as in `items`: tea, pot, cup
    assert own.valid.tolist() == [[0, 0], [1, 2]]
    assert own.test.tolist() == [[0, 1], [1, 1]]
    assert own.features["image"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert own.features["text"].tolist() == [[0], [1], [2]]  # by label, not by place
    assert own.surplus == {"image": 1, "text": 1}  # the jar
    assert own.users["label"].tolist() == ["bob", "7"]
    assert own.items["label"].tolist() == ["tea", "pot", "cup"]
    assert own.titles.tolist() == ["Green tea", 'A "pot" with a lid', "item 2"]


def test_items_need_not_be_listed_if_all_features_are_frames():
    text = vectors()["text"]
    own = mine(features={"text": text}, items=None)
    assert own.items["label"].tolist() == ["cup", "tea", "pot"]  # as they turn up
    assert own.features["text"].tolist() == [[2], [0], [1]]
    assert own.titles.tolist() == ["cup", "tea", "pot"]


def test_a_saved_set_is_read_as_it_was(tmp_path):
    own = replace(mine(), warning="half of the users")
    own.save(tmp_path / "deep" / "mine")
    back = load(tmp_path / "deep" / "mine")
    assert back.checksum == own.checksum
    assert (back.name, back.warning) == (own.name, own.warning)
    assert back.titles.tolist() == own.titles.tolist()
    assert back.users["label"].tolist() == ["bob", "7"]
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["mine"]  # nothing half-written beside it


def test_the_checksum_does_not_see_names():
    assert mine().checksum == mine(items=list(TITLES)).checksum


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    mine().save(tmp_path / "mine")  # empty: fine
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(DataError, match="mine: needs to be a new or an empty folder"):
        mine().save(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"


def test_a_failed_save_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(np, "save", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mine().save(tmp_path / "mine")
    assert not list(tmp_path.iterdir())


def test_a_set_whose_last_item_nobody_took_is_not_saved_as_a_smaller_one(tmp_path):
    world = planted(30, 25, seed=0)
    taken = {name: getattr(world, name) for name in ("train", "valid", "test")}
    world = replace(world, **{name: pairs[pairs[:, 1] < 24] for name, pairs in taken.items()})
    with pytest.raises(DataError, match=r"the last item needs an interaction.* itemID 24"):
        world.save(tmp_path / "world")


# ruff: noqa: E501
REFUSED = {
    "column": ({"interactions": bought().rename(columns={"item": "thing"})}, r"'interactions' needs a column item \(got user, thing, x_label\)"),
    "no label": ({"interactions": bought().assign(user=["bob", None] * 3)}, r"'interactions' row 1: needs a label in column user \(got none\)"),
    "unknown item": ({"items": ["tea", "pot"], "features": {"image": np.zeros((2, 2))}}, r"'interactions' row 0: its item needs to be in 'items' \(got 'cup'\)"),
    "item twice": ({"items": ["tea", "pot", "cup", "tea"]}, r"'items' needs every label once \(got 'tea' twice\)"),
    "pair twice": ({"interactions": pd.concat([bought(), bought()[:1]])}, r"'interactions' row 6: a pair may occur once \(user 0, item 2 is in train already, see 'interactions' row 0\)"),
    "x_label": ({"interactions": bought().assign(x_label=[0, 1, 2, 0, 1, 5])}, r"'interactions' row 5: x_label needs to be 0 \(train\), .* \(got 5\)"),
    "no valid": ({"interactions": bought().assign(x_label=[0, 0, 2, 0, 0, 2])}, r"split valid .* needs at least one row"),
    "rows": ({"features": {"image": np.zeros((3, 2))}}, r"'features' image: needs a row for each of the 4 items \(got 3 rows\)"),
    "row": ({"features": {"text": vectors()["text"].drop("cup")}}, r"'features' text: needs a row for every item \(got none for 'cup'\)"),
    "unordered": ({"items": None}, r"'features' image: needs to be a frame .* where 'items' is None"),
    "NaN": ({"features": {"image": np.full((4, 2), np.nan)}}, r"'features' image: row 0, column 0: features need to be finite"),
    "modality": ({"features": {"../image": np.zeros((4, 2))}}, r"'features': a modality's name needs to be printable text, .* \(got '../image'\)"),
    "modality's path": ({"features": {"my/image": np.zeros((4, 2))}}, r"fit for a file's name \(got 'my/image'\)"),
    "modality's number": ({"features": {7: np.zeros((4, 2))}}, r"'features': a modality's name needs to be printable text, .* \(got 7\)"),
    "torch's name": ({"features": {"image": np.zeros((4, 2)), "pop": np.zeros((4, 2))}}, r"no attribute of torch's modules, .* \(got 'pop'\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_broken_frames_are_refused_with_their_place(case):
    changes, pattern = REFUSED[case]
    with pytest.raises(DataError, match=pattern) as caught:
        mine(**changes)
    assert "\n" not in str(caught.value)


NAMES = {
    "column": ("thing\ttitle\n0\ta\n", r"items.tsv:1: needs a column itemID \(got thing, title\)"),
    "id": (
        "itemID\ttitle\n0\ta\nx\tb\n",
        r"items.tsv:3: itemID needs to be a whole number of at least 0 .*\(got 'x'\)",
    ),
    "twice": ("itemID\ttitle\n0\ta\n0\tb\n", r"items.tsv:3: an id may occur once \(got itemID 0 again\)"),
}


@pytest.mark.parametrize("case", NAMES)
def test_broken_names_are_refused_with_their_place(tmp_path, case):
    mine().save(tmp_path / "mine")
    text, pattern = NAMES[case]
    (tmp_path / "mine" / "items.tsv").write_text(text)
    with pytest.raises(DataError, match=pattern):
        load(tmp_path / "mine")


def test_names_may_be_few_and_in_any_order(tmp_path):
    mine().save(tmp_path / "mine")
    (tmp_path / "mine" / "items.tsv").write_text("itemID\ttext\n9\tsurplus\n2\tNA\n")
    assert load(tmp_path / "mine").titles.tolist() == ["item 0", "item 1", "NA"]


def test_without_x_label_each_user_is_split_8_1_1_by_the_seed_alone():
    rng = np.random.default_rng(0)
    counts = [1, 2, 3, 14, 15, 16, 60]  # a tenth of 15 is 1.5: rounded to the even 2
    rows = [(u, i) for u, n in enumerate(counts) for i in rng.permutation(60)[:n]]
    frame = pd.DataFrame(rows, columns=["user", "item"])
    text = pd.DataFrame({"a": np.zeros(60)})
    first, again, other = (Dataset.from_frames("x", frame, {"text": text}, seed=seed) for seed in (0, 0, 1))
    tenth = [0, 0, 1, 1, 2, 2, 6]
    for world in (first, other):
        assert np.bincount(world.valid[:, 0], minlength=7).tolist() == tenth
        assert np.bincount(world.test[:, 0], minlength=7).tolist() == tenth
        assert np.bincount(world.train[:, 0]).tolist() == [n - 2 * t for n, t in zip(counts, tenth)]
    assert first.checksum == again.checksum != other.checksum


@pytest.mark.parametrize("rule", [tenths, fifths])
def test_every_interaction_of_a_user_is_as_likely_held_out(rule):
    """10 interactions of one user, in 4000 draws: each is in test as often as the rule's share says."""
    rng = np.random.default_rng(0)
    tests = np.mean([hold_out(np.zeros(10, dtype=int), rule, rng) == 2 for _ in range(4000)], axis=0)
    share = rule(np.array([10]))[1][0] / 10
    assert tests == pytest.approx(np.full(10, share), abs=5 * np.sqrt(share * (1 - share) / 4000))  # five sigma


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real datasets are not here")
def test_fifths_are_the_rule_of_amazon_baby():
    baby = load(SHARED / "baby")
    counts = np.bincount(baby.interactions["userID"])
    for labels in (hold_out(baby.interactions["userID"].to_numpy(), fifths, np.random.default_rng(0)),
                   baby.interactions["x_label"]):  # fmt: skip
        found = pd.crosstab(baby.interactions["userID"].to_numpy(), np.asarray(labels)).to_numpy()
        valid, test = fifths(counts)
        assert (found == np.stack([counts - valid - test, valid, test], axis=1)).all()
        assert found.sum(0).tolist() == [118_551, 20_559, 21_682]  # the paper's


def core_by_hand(pairs: list, k: int) -> list:
    """The k-core by the definition's own algorithm: throw out one user or item that is too rare, and look again."""
    pairs = list(pairs)
    while True:
        counts = Counter(node for u, i in pairs for node in (("user", u), ("item", i)))
        rare = next((node for node, n in counts.items() if n < k), None)
        if rare is None:
            return pairs
        pairs = [(u, i) for u, i in pairs if rare not in (("user", u), ("item", i))]


def random_pairs(users=60, items=40, n=420, seed=0) -> np.ndarray:
    chosen = np.random.default_rng(seed).choice(users * items, n, replace=False)
    return np.stack([chosen // items, chosen % items], axis=1)


@pytest.mark.parametrize("k", [1, 2, 5, 7, 30])
@pytest.mark.parametrize("columns", [[0, 1], [1, 0]])
def test_the_k_core_is_what_is_left_by_hand(k, columns):
    pairs = random_pairs()[:, columns]
    assert list(map(tuple, pairs[k_core(pairs, k)])) == core_by_hand(map(tuple, pairs), k)


def test_a_sample_is_the_core_of_the_longest_queue_that_fits():
    pairs, rng = random_pairs(200, 60, 2000), np.random.default_rng(3)
    queue = list(dict.fromkeys(rng.permutation(pairs[:, 0]).tolist()))  # users as they turn up in shuffled pairs
    sizes, cores = [], []
    for m in range(len(queue) + 1):
        first = set(queue[:m])
        cores.append(
            core_by_hand([(u, i) for u, i in map(tuple, pairs.tolist()) if u in first], 5) if m % 4 == 0 else None
        )
        sizes.append(len({u for u, _ in cores[-1]}) if cores[-1] is not None else None)
    known = [(m, size) for m, size in enumerate(sizes) if size is not None]
    assert [size for _, size in known] == sorted(size for _, size in known)
    m, size = next((m, size) for m, size in known if size >= 100)
    assert sizes[m - 4] < size  # else another queue would fit as well
    rows = dense_sample(pairs, size, 5, np.random.default_rng(3))
    assert set(map(tuple, cores[m])) <= set(map(tuple, pairs[rows].tolist()))
    assert len(np.unique(pairs[rows, 0])) == size


def test_a_compact_sample_keeps_the_core_the_splits_and_the_features():
    world = planted(200, 150, n_factors=2, seed=4)
    names = pd.DataFrame({"title": [f"thing {i}" for i in range(150)]})
    people = pd.DataFrame({"label": [f"person {u}" for u in range(200)]})
    world = replace(world, items=names, users=people, warning="a toy")
    small = world.compact(50, core=5, seed=2)
    assert small.name == "planted-compact"
    assert small.warning == f"a toy; compact sample: {small.n_users} of 200 users, 5-core"
    assert 40 < small.n_users <= 50  # one user more in the queue adds one or few
    assert small.n_items < 140  # else there would be nothing to number anew
    pairs = small.interactions[["userID", "itemID"]].to_numpy()
    assert np.bincount(pairs[:, 0]).min() >= 5
    assert np.bincount(pairs[:, 1]).min() >= 5
    users, items = ([int(text.split()[1]) for text in column] for column in (small.users["label"], small.titles))
    assert users == sorted(users)
    assert items == sorted(items)
    for split in ("train", "valid", "test"):
        old = set(map(tuple, getattr(world, split).tolist()))
        assert {(users[u], items[i]) for u, i in getattr(small, split)} <= old
    for m, x in small.features.items():
        assert (x == world.features[m][items]).all()
    assert (small.factors["generic"] == world.factors["generic"][items]).all()
    assert small.checksum == world.compact(50, core=5, seed=2).checksum
    assert small.checksum != world.compact(50, core=5, seed=3).checksum


def test_a_compact_sample_keeps_its_label_in_a_folder(tmp_path):
    small = planted(200, 60, n_factors=2, seed=4).compact(50)
    small.save(tmp_path / "small")
    assert load(tmp_path / "small").warning == small.warning
    assert load(tmp_path / "small").checksum == small.checksum


def test_a_sample_too_small_for_a_core_is_refused():
    sparse = random_pairs(2000, 700, 12_000)
    with pytest.raises(DataError, match=r"'n_users' needs to be at least (\d+) here, .* \(got 20\)") as caught:
        dense_sample(sparse, 20, 5, np.random.default_rng(0))
    least = int(re.search(r"at least (\d+)", str(caught.value))[1])
    assert len(np.unique(sparse[dense_sample(sparse, least, 5, np.random.default_rng(0)), 0])) == least
    with pytest.raises(DataError, match="'core' needs to be smaller here"):
        dense_sample(sparse, 20, 50, np.random.default_rng(0))


def test_users_and_items_of_a_split_are_those_of_the_lists():
    """`interactions` is the three splits, in order."""
    own = mine()
    parts = [own.interactions.query("x_label == @n")[["userID", "itemID"]].to_numpy().tolist() for n in range(3)]
    assert parts == [own.train.tolist(), own.valid.tolist(), own.test.tolist()]
    assert own.interactions["x_label"].tolist() == [0, 0, 1, 1, 2, 2]


def test_the_recipe_of_the_readme_works(tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "data" / "README.md").read_text(encoding="utf-8")
    recipe = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "from_frames" in block)
    monkeypatch.chdir(tmp_path)
    exec(recipe, {})
    assert load(tmp_path / "data" / "mine").titles.tolist() == ["Green tea", "A pot", "A cup"]
