"""Published runs: what the store holds is what was trained, to the bit, or it is refused."""

import gzip
import json
import math
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import untimed
from scipy import stats

from sea import manage, published, records
from sea.data import load
from sea.evaluate import DEPTH, Ranking
from sea.files import DamagedFile
from sea.manage import compare, main
from sea.published import USERS, find, publish, read
from sea.records import NotPublished, Published, complete, measure, measures
from sea.runs import Settings, run

TOY = Settings("BPR", epochs=10, batch_size=512, device="cpu", lr=1e-2)
SEEDS = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The folder of some finished runs: a model with five seeds, one that diverged at once, and a quick look."""
    root = tmp_path_factory.mktemp("local")
    for settings in (*(replace(TOY, seed=seed) for seed in SEEDS), replace(TOY, lr=1e30), replace(TOY, epochs=2)):
        run(settings, root, progress=False)
    return root


@pytest.fixture(scope="module")
def trained(local):
    """The records of the five seeds."""
    return [run(replace(TOY, seed=seed), local, progress=False) for seed in SEEDS]


@pytest.fixture
def store(trained, tmp_path):
    publish(trained, tmp_path / "store")
    return tmp_path / "store"


def arrays(record):
    """A run's rankings, as plain lists."""
    rankings = [record.ranking(split) for split in record.metrics]
    return [[x.tolist() for x in (r.users, r.targets, r.hits, r.recommended)] for r in rankings]


def with_hits(record, change):
    """A record with other test hits than it had, and the metrics that follow from them."""
    ranking = record.ranking("test")
    other = replace(ranking, hits=change(ranking.hits.copy()))
    kept = {"valid": record.ranking("valid"), "test": other}
    tensors = {f"{split}/{name}": x for split, found in kept.items() for name, x in found.tensors().items()}
    metrics = {split: found.mean() for split, found in kept.items()}
    return replace(record, metrics=metrics, folder=None, published=Published(lambda: tensors, {}))


def halved(hits):
    hits[::2] = False
    return hits


def moved(hits):
    """One user's hits, a rank further down: the recall at 20 remains."""
    user = int(hits[:, :-1].any(1).argmax())
    hits[user] = np.roll(hits[user], 1)
    return hits


def text_of(path):
    return gzip.decompress(path.read_bytes()).decode()


# there and back


def test_what_is_published_is_read_to_the_bit(trained, store):
    found = read("planted", store)
    assert [record.settings for record in found] == [record.settings for record in trained]
    rounded = {"settings", "history", "files", "folder", "published"}
    for ours, theirs in zip(trained, found):
        assert {k: v for k, v in vars(theirs).items() if k not in rounded} == {
            k: v for k, v in vars(ours).items() if k not in rounded
        }
        for split in ("valid", "test"):
            a, b = ours.ranking(split), theirs.ranking(split)
            for name in ("users", "targets", "hits", "recommended"):
                x, y = getattr(a, name), getattr(b, name)
                assert x.dtype == y.dtype and np.array_equal(x, y), name
            for k in range(1, DEPTH + 1):
                assert (a.recall(k) == b.recall(k)).all() and (a.ndcg(k) == b.ndcg(k)).all()
            assert b.mean() == theirs.metrics[split]
        for ours_row, theirs_row in zip(ours.history, theirs.history, strict=True):
            assert list(theirs_row) == list(ours_row)
            assert theirs_row == pytest.approx(ours_row, rel=1e-5)
        assert theirs.seconds == pytest.approx(ours.seconds, rel=1e-5)


def test_a_published_run_can_be_sent_to_another_process(store):
    record = read("planted", store)[0]
    assert arrays(pickle.loads(pickle.dumps(record))) == arrays(record)


def test_a_run_that_diverged_at_once_is_published_too(local, tmp_path):
    wild = run(replace(TOY, lr=1e30), local, progress=False)
    publish([wild], tmp_path)
    (found,) = read("planted", tmp_path)
    assert (found.stopped, found.diverged, found.metrics) == ("diverged", wild.diverged, {})
    assert found.history[-1].keys() == wild.history[-1].keys()
    with pytest.raises(ValueError, match=rf"^run {wild.key}: has no ranking, as the training diverged in epoch \d+ \("):
        found.ranking()


def test_weights_are_not_published_and_the_message_says_how_to_get_them(store):
    record = read("planted", store)[0]
    with pytest.raises(NotPublished, match=rf"'Record.model' needs its weights.*'sea.runs.run\(.*verify {record.key}'"):
        record.model(load("planted"))


def test_the_same_runs_give_the_same_bytes(trained, store, tmp_path):
    publish(reversed(trained), tmp_path / "other")
    publish(read("planted", store), tmp_path / "third")  # from a store to another
    for name in ("BPR.jsonl.gz", USERS):
        path = store / "planted" / name
        content = path.read_bytes()
        assert content == (tmp_path / "other" / "planted" / name).read_bytes()
        assert content == (tmp_path / "third" / "planted" / name).read_bytes()
        assert content[3] == 0 and content[4:8] == bytes(4)  # gzip's flags (no name inside) and time
    before = {path: path.stat().st_ino for path in store.glob("*/*.gz")}
    assert list(publish(trained, store).values()) == [(0, 5)]
    assert {path: path.stat().st_ino for path in store.glob("*/*.gz")} == before  # not even written


def test_a_later_publication_keeps_the_others_and_replaces_the_same(trained, tmp_path):
    publish(trained[:2], tmp_path)
    slower = replace(trained[1], seconds_per_epoch=1.5)
    assert list(publish([slower, trained[2]], tmp_path).values()) == [(1, 3)]
    found = read("planted", tmp_path)
    assert [record.key for record in found] == [record.key for record in trained[:3]]
    assert [record.seconds_per_epoch for record in found[:2]] == [trained[0].seconds_per_epoch, 1.5]
    assert [arrays(record) for record in found] == [arrays(record) for record in trained[:3]]


def test_who_publishes_at_once_loses_nothing(trained, tmp_path):
    writers = [threading.Thread(target=publish, args=([record], tmp_path)) for record in trained]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [record.key for record in read("planted", tmp_path)] == [record.key for record in trained]
    assert sorted(path.name for path in (tmp_path / "planted").iterdir()) == ["BPR.jsonl.gz", "lock", USERS]


def test_hits_that_say_something_else_than_the_metrics_are_refused(trained, tmp_path):
    metrics = {split: values | {"ndcg@10": 0.5} for split, values in trained[0].metrics.items()}
    with pytest.raises(ValueError, match=r"needs hits that say its valid ndcg@10, 0.5, in 'publish' \(got 0\.\d+\)"):
        publish([replace(trained[0], metrics=metrics)], tmp_path)
    assert read("planted", tmp_path) == []


def test_other_users_under_the_same_checksum_are_refused(trained, store):
    with pytest.raises(ValueError, match=r"needs the valid users of its dataset in 'publish', and .* has others"):
        publish([replace(trained[0], checksum=trained[1].checksum)], store)
    assert len(read("planted", store)) == len(trained)


# damage


@pytest.mark.parametrize("name", ["BPR.jsonl.gz", USERS])
def test_every_flipped_bit_and_every_cut_is_noticed(store, tmp_path, name):
    """A flip may leave what is read the same (the time in gzip's header), but it never makes another number."""
    whole, rng = (store / "planted" / name).read_bytes(), random.Random(0)
    good = [(record.metrics, arrays(record)) for record in read("planted", store)]
    flips = [bytearray(whole) for _ in range(20)]
    for damaged in flips:
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
    cuts = [whole[:length] for length in (0, 1, 9, *rng.sample(range(len(whole)), 10))]
    noticed = 0
    for number, damaged in enumerate([*flips, *cuts]):
        root = tmp_path / str(number)
        shutil.copytree(store, root)
        (root / "planted" / name).write_bytes(damaged)
        try:
            assert [(record.metrics, arrays(record)) for record in read("planted", root)] == good
        except DamagedFile as error:
            noticed += 1
            assert str(root / "planted" / name) in str(error) and "\n" not in str(error)
    assert noticed >= len(cuts) + 18


def test_a_number_that_was_edited_is_noticed(trained, store):
    path = store / "planted" / "BPR.jsonl.gz"
    text = text_of(path)
    edited = text.replace(f'"best_epoch":{trained[1].best_epoch}', '"best_epoch":77', 1)
    assert edited != text
    path.write_bytes(gzip.compress(edited.encode()))
    with pytest.raises(DamagedFile, match=rf"{path}: is not what was written \(the checksum of line \d differs\)"):
        read("planted", store)
    with pytest.raises(DamagedFile):
        publish(trained, store)  # a damaged file is not overwritten
    assert text_of(path) == edited


def test_a_file_in_the_place_of_another_is_noticed(store):
    (store / "planted" / "BPR.jsonl.gz").rename(store / "planted" / "SEA.jsonl.gz")
    with pytest.raises(
        DamagedFile, match=r"SEA.jsonl.gz: is not what was written \(it holds a run of BPR on planted\)"
    ):
        read("planted", store)


def test_a_store_without_its_users_is_noticed(store):
    record = read("planted", store)[0]
    (store / "planted" / USERS).unlink()
    with pytest.raises(DamagedFile, match=r"users.jsonl.gz: is not what was written \(it is not there\)"):
        record.ranking()


def test_users_that_are_not_those_of_the_hits_are_noticed(store):
    record = read("planted", store)[0]
    rows = published._load(store / "planted" / USERS)
    published._save(store / "planted" / USERS, [row | {"users": row["users"][1:]} for row in rows])
    with pytest.raises(DamagedFile, match=rf"it lacks the \w+ users of run {record.key}, data {record.checksum[:12]}"):
        record.ranking()


def test_a_row_of_another_version_is_told_in_one_line(trained, store, monkeypatch):
    monkeypatch.setattr(published, "COPIED", (*published.COPIED, "novelty"))
    published._records.cache_clear()
    with pytest.raises(DamagedFile, match=r"BPR.jsonl.gz: holds runs of another version of this code$"):
        read("planted", store)


# what a file holds


def test_no_path_of_this_machine_is_published(world, tmp_path):
    folder = tmp_path / "somewhere" / "toy"
    replace(world, name="toy").save(folder)
    record = run(replace(TOY, dataset=str(folder), epochs=1), tmp_path / "runs", progress=False)
    measure(record, "size", lambda _: 3.0)
    publish([record], tmp_path / "store")
    files = list((tmp_path / "store").glob("*/*.gz"))
    assert [path.name for path in sorted(files)] == ["BPR.jsonl.gz", USERS]
    for path in files:
        text = text_of(path)
        for part in {str(tmp_path), str(tmp_path.resolve()), "somewhere", os.getcwd(), str(Path.home())} - {"/"}:
            assert part not in text
    (found,) = find(complete(replace(TOY, dataset=str(folder), epochs=1)), tmp_path / "store")
    assert found.settings == replace(record.settings, dataset="toy")
    assert arrays(found) == arrays(record)


def test_the_four_lines_of_the_readme_say_what_the_record_says(trained, tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "data" / "README.md").read_text(encoding="utf-8")
    (lines,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "read_json" in block]
    assert len([line for line in lines.splitlines() if line]) == 4
    named = [replace(record, settings=replace(record.settings, model="SEA")) for record in trained]
    publish(named, tmp_path / "data" / "records")
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(lines, found)
    record = next(record for record in trained if record.key == found["run"].key)
    assert abs(found["recall"] - record.metrics["test"]["recall@20"]) < 1e-12
    assert abs(found["recall"] - record.ranking("test").recall(20).mean()) < 1e-12


def committed(path):
    """A file of the last commit, where tables and runs belong together; without git, the file itself."""
    root = Path(__file__).parents[1]
    shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=root, capture_output=True)
    return BytesIO((root / path).read_bytes() if shown.returncode else shown.stdout)


def test_committed_numbers_follow_from_the_committed_runs_alone():
    """Two means, and a difference with its interval: by pandas, and by the formula of a crossed design written anew."""
    keys = [line.split(": ")[1] for line in json.load(committed("figures/ml100k/comparison_leads.json"))["runs"]]
    stored = {
        name: pd.read_json(committed(f"data/records/ml100k/{name}.jsonl.gz"), lines=True, compression="gzip")
        for name in ("SEA", "MMSSL", "users")
    }
    users = stored["users"].query("split == 'test'")

    def recalls(model):
        runs = stored[model][stored[model]["key"].isin(keys)].merge(users, on="checksum")
        hits = [[number.bit_count() for number in run["test"]] for run in runs["hits"]]
        return np.array(hits) / np.stack(runs["targets"])

    means = pd.read_csv(committed("figures/ml100k/comparison_test.csv"), index_col="model")["recall@20"]
    lead = pd.read_csv(committed("figures/ml100k/comparison_leads.csv"), index_col=["metric", "pair"])
    lead = lead.loc["recall@20", "SEA - MMSSL"]
    both = sea, mmssl = recalls("SEA"), recalls("MMSSL")
    assert (sea.mean(), mmssl.mean()) == pytest.approx((means["SEA"], means["MMSSL"]), rel=1e-6)

    n = sea.shape[1]
    parts = [(np.var(sea.mean(0) - mmssl.mean(0), ddof=1) / n, n - 1)]
    parts += [(np.var(x.mean(1), ddof=1) / len(x), len(x) - 1) for x in both]
    alone = parts[0][0], parts[1][0] + parts[2][0]
    for x in both:
        rest, df = x - x.mean(1)[:, None] - x.mean(0) + x.mean(), (len(x) - 1) * (n - 1)
        parts.append((-np.sum(rest**2) / df / x.size, df))
    variance = max(*alone, sum(part for part, _ in parts))
    half = stats.t.ppf(0.975, variance**2 / sum(part**2 / df for part, df in parts)) * np.sqrt(variance)
    assert lead["runs"] == len(sea) + len(mmssl)
    assert (sea.mean() - mmssl.mean(), half) == pytest.approx((lead["difference"], lead["±"]), rel=1e-6)


def test_a_run_on_baby_takes_less_than_40_kilobytes(trained, tmp_path):
    n_users, n_items, rng = 19_445, 7_050, np.random.default_rng(0)
    popularity = np.arange(1, n_items + 1) ** -0.8
    chances = 0.0175 / np.arange(1, DEPTH + 1) ** 0.55
    targets = {split: 1 + rng.poisson(0.3, n_users) for split in ("valid", "test")}

    def ranking(split):
        hits = rng.random((n_users, DEPTH)) < chances * targets[split][:, None]
        hits &= hits.cumsum(1) <= targets[split][:, None]
        recommended = rng.multinomial(n_users * DEPTH, rng.permutation(popularity) / popularity.sum())
        return Ranking(np.arange(n_users), targets[split], hits, recommended)

    def synthetic(seed):
        found = {split: ranking(split) for split in ("valid", "test")}
        tensors = {f"{split}/{name}": x for split, one in found.items() for name, x in one.tensors().items()}
        rows = [{name: rng.random() for name in trained[0].history[0]} for _ in range(150)]
        return replace(
            trained[0],
            settings=replace(trained[0].settings, seed=seed),
            dataset="baby",
            key=f"{seed:016x}",
            metrics={split: one.mean() for split, one in found.items()},
            history=rows,
            folder=None,
            published=Published(lambda: tensors, {}),
        )

    made = [synthetic(seed) for seed in range(3)]
    assert 0.08 < made[0].metrics["test"]["recall@20"] < 0.13
    (path,) = publish(made, tmp_path)
    assert path.stat().st_size < 3 * 40_000
    assert (path.parent / USERS).stat().st_size < 120_000  # once
    assert [arrays(record) for record in read("baby", tmp_path)] == [arrays(record) for record in made]


def test_a_run_on_the_planted_world_takes_some_kilobytes(trained, store):
    assert (store / "planted" / "BPR.jsonl.gz").stat().st_size < 3_000 * len(trained)
    assert (store / "planted" / USERS).stat().st_size < 1_500 * len(trained)  # a world for each seed


# finding


def test_find_gives_all_seeds_of_the_same_settings(trained, local, store):
    publish([run(replace(TOY, epochs=2), local, progress=False)], store)
    others = {"device": "cuda", "threads": 7, "seed": 77, "dataset": "some/folder/planted"}
    found = find(replace(complete(TOY), **others), store)
    assert [record.settings.seed for record in found] == list(SEEDS)
    for change in ({"epochs": 9}, {"lr": 0.5}, {"patience": 3}, {"batch_size": 1}, {"params": {}}, {"dataset": "x"}):
        assert find(replace(complete(TOY), **change), store) == []
    assert find(complete(TOY), store, checksum=trained[1].checksum) == [found[1]]
    with pytest.raises(ValueError, match=r"'settings' needs to be complete in 'find'.* \(got lr None\)"):
        find(replace(TOY, lr=None), store)


IDLE = {
    "w/o Alignment": ({"align": "none"}, {"alpha": 0.6, "tau": 0.5}),
    "w/o Distancing": ({"distance": "none"}, {"beta": 0.6, "q_steps": 3, "club_released": False}),
    "negative L2": ({"distance": "negative_l2"}, {"q_lr": 0.1}),
}


@pytest.mark.parametrize("case", IDLE)
def test_settings_of_a_term_that_is_left_out_change_no_number_and_are_not_looked_at(case, tmp_path):
    """α without alignment, for example: the training is the same to the bit, and so the published run is found."""
    out, idle = IDLE[case]
    quick = {"epochs": 2, "lr": 0.01, "params": out | {"q_steps": 2}}
    first = run(Settings("SEA", **quick), tmp_path / "runs", progress=False)
    other = replace(first.settings, params=first.settings.params | idle)
    again = run(other, tmp_path / "runs", progress=False)
    assert again.key != first.key
    assert untimed(again.history) == untimed(first.history) and again.metrics == first.metrics
    publish([first], tmp_path / "store")
    assert [found.key for found in find(other, tmp_path / "store")] == [first.key]
    with_both = replace(other, params=other.params | {"align": "solosim", "distance": "club"})
    assert find(with_both, tmp_path / "store") == []
    effective = {"beta": 0.5} if case == "w/o Alignment" else {"alpha": 0.5}
    assert find(replace(other, params=other.params | effective), tmp_path / "store") == []


def test_older_revisions_are_left_out_and_counted(trained, store, caplog):
    publish([replace(trained[0], revisions={"training": 0, "model": 1})], store)
    records.say.cache_clear()
    for _ in range(2):
        assert [record.settings.seed for record in find(complete(TOY), store)] == list(SEEDS[1:])
    lines = [line for line in caplog.messages if "revisions" in line]
    assert lines == [f"{store / 'planted' / 'BPR.jsonl.gz'}: 1 of 5 runs are left out, as their revisions are older"]


def test_two_sets_of_one_name_are_not_mixed(trained, tmp_path):
    publish([replace(record, dataset="toy") for record in trained[:2]], tmp_path)
    asked = replace(complete(TOY), dataset="toy")
    with pytest.raises(ValueError, match=r"'checksum' needs to be given in 'find' \(got none, and .* has \w{12}, "):
        find(asked, tmp_path)
    assert [record.key for record in find(asked, tmp_path, trained[1].checksum)] == [trained[1].key]


def test_a_file_is_read_once_and_again_when_it_changed(trained, store, monkeypatch):
    texts, read_files = published._texts, []
    monkeypatch.setattr(published, "_texts", lambda path: read_files.append(path.name) or texts(path))
    published._records.cache_clear()
    assert len(read("planted", store)) == len(read("planted", store)) == 5
    assert read_files == ["BPR.jsonl.gz"]
    published.withdraw([trained[0]], store)
    assert len(read("planted", store)) == 4


# measures


def test_a_measure_is_computed_once_and_travels(local, tmp_path, monkeypatch):
    shutil.copytree(local, tmp_path / "runs")
    record = run(replace(TOY, seed=1), tmp_path / "runs", progress=False)
    asked = []

    def compute(given):
        asked.append(given.key)
        return {"norm": np.float32(0.5), "parts": np.array([1.5, np.nan]), "rank": torch.tensor(3), "none": math.nan}

    for _ in range(2):
        found = measure(record, "angles", compute)
        assert (found["norm"], found["parts"][0], found["rank"]) == (0.5, 1.5, 3)
        assert math.isnan(found["parts"][1]) and math.isnan(found["none"])
    assert asked == [record.key]
    json.loads((record.folder / "measures.json").read_text(), parse_constant=pytest.fail)
    publish([record], tmp_path / "store")
    (there,) = read("planted", tmp_path / "store")
    assert measures(there) == measures(record)
    assert math.isnan(measure(there, "angles", None)["none"])
    with pytest.raises(NotPublished, match=r"the measure 'probes' needs its weights, which are not published"):
        measure(there, "probes", compute)
    measure(record, "probes", lambda _: 0.25)
    publish([record], tmp_path / "store")
    (there,) = read("planted", tmp_path / "store")
    assert (measure(there, "probes", None), measure(there, "angles", None)["norm"]) == (0.25, 0.5)
    shutil.rmtree(tmp_path / "runs")
    again = run(replace(TOY, seed=1), tmp_path / "runs", progress=False)
    publish([again], tmp_path / "store")  # the same hits, and nothing measured: what was published stays
    assert measures(read("planted", tmp_path / "store")[0]) == measures(there)
    publish([with_hits(again, halved)], tmp_path / "store")  # other hits: it belonged to other weights
    assert measures(read("planted", tmp_path / "store")[0]) == {}


def test_measures_of_many_at_once_are_all_kept(local, tmp_path):
    shutil.copytree(local, tmp_path / "runs")
    record = run(replace(TOY, seed=1), tmp_path / "runs", progress=False)
    threads = [threading.Thread(target=measure, args=(record, f"m{n}", lambda _, n=n: n)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert measures(record) == {f"m{n}": n for n in range(8)}


def test_measures_that_are_damaged_or_of_other_weights_are_taken_anew(local, tmp_path, caplog):
    shutil.copytree(local, tmp_path / "runs")
    record = run(replace(TOY, seed=1), tmp_path / "runs", progress=False)
    assert measure(record, "x", lambda _: 1) == 1
    other = replace(record, files=record.files | {"weights.safetensors": "0" * 64})
    assert measure(other, "x", lambda _: 2) == 2
    path = record.folder / "measures.json"
    path.write_text(path.read_text().replace('"x": 2', '"x": 3'))
    assert measure(other, "x", lambda _: 4) == 4
    assert [line for line in caplog.messages if str(path) in line and "it is measured again" in line]
    assert measure(other, "x", None) == 4


def test_what_cant_be_kept_is_told_once_and_returned(local, caplog, monkeypatch):
    def fail(*_):
        raise OSError("measures.json: could not be written (Read-only file system)")

    monkeypatch.setattr(records, "save_json", fail)
    record = run(replace(TOY, seed=1), local, progress=False)
    assert [measure(record, "x", lambda _: 1.5) for _ in range(2)] == [1.5, 1.5]
    assert [line for line in caplog.messages if "Read-only" in line] == [
        f"{record.folder}: what is measured can't be kept (measures.json: could not be written (Read-only file system))"
    ]


@pytest.mark.parametrize("value", [math.inf, "text", {1: 2.0}, [None], [0.0, -math.inf]])
def test_what_is_no_number_is_not_kept(local, tmp_path, value):
    shutil.copytree(local, tmp_path / "runs")
    record = run(replace(TOY, seed=1), tmp_path / "runs", progress=False)
    with pytest.raises(
        ValueError, match=r"'compute' needs to return finite numbers or NaN, .* in 'measure' of 'x' \(got"
    ):
        measure(record, "x", lambda _: value)
    assert measures(record) == {}


# the command line


@pytest.fixture
def command(local, tmp_path, capsys):
    """Runs a command on a copy of the local runs and a store of its own; gives its exit code, output and error."""
    shutil.copytree(local, tmp_path / "runs")

    def call(*words):
        capsys.readouterr()
        code = main([*words, "--runs", str(tmp_path / "runs"), "--records", str(tmp_path / "store")])
        return code, *capsys.readouterr()

    return call


def test_list_shows_where_each_run_is(command, trained, tmp_path):
    publish(trained[:1], tmp_path / "store")
    shutil.rmtree(tmp_path / "runs" / trained[0].folder.name)
    publish(trained[1:2], tmp_path / "store")
    (tmp_path / "runs" / f"planted-SEA-{'0' * 16}").mkdir()
    damaged = tmp_path / "runs" / trained[4].folder.name / "record.json"
    damaged.write_text(damaged.read_text()[:-9])
    (tmp_path / "runs" / "costs.json").write_text("{}")
    (tmp_path / "runs" / f"planted-SEA-{'1' * 16}").write_text("a file is no run")
    code, out, err = command("list")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines()}
    where = [rows[record.key].split()[-1] for record in trained[:4]]
    assert where == ["published", "both", "local", "local"]
    line = rows[trained[1].key]
    assert re.split(r"  +", line)[1:5] == ["planted", "BPR", "2", "lr 0.01, batch_size 512, epochs 10"]
    assert f"{trained[1].metrics['test']['recall@20']:.4f}" in line
    assert out.count("is not finished") == 1 and f"{damaged}: is not what was written (" in out
    assert "diverged" in out
    assert len(command("list", "--model", "SEA")[1].splitlines()) == 3
    assert len(command("list", "--dataset", "baby")[1].splitlines()) == 3


def test_older_runs_are_listed_as_such_and_not_published(command, trained, monkeypatch, tmp_path):
    monkeypatch.setattr(records, "REVISION", records.REVISION + 1)
    assert command("list")[1].count("older revision") == 7
    assert "Left out, as their revisions are older than the code's: 7\n" in command("publish")[1]
    assert not list((tmp_path / "store").glob("*"))


def test_show_tells_everything_of_one_run(command, trained, tmp_path):
    record = trained[2]
    folder = tmp_path / "runs" / record.folder.name
    measure(replace(record, folder=folder), "angle", lambda _: 1.25)
    assert command("publish")[0] == 0
    code, out, _ = command("show", record.key[:9])
    assert code == 0
    for word in (record.key, record.checksum, "lr 0.01", record.environment["torch"], "measured: angle", "1.25"):
        assert word in out
    assert f"{record.metrics['test']['recall@20']:.6f}" in out
    assert len(re.findall(r"^\d+ ", out, re.M)) == len(record.history)
    shutil.rmtree(tmp_path / "runs")
    code, published_out, _ = command("show", record.key)
    assert code == 0
    ours, theirs = (text.partition("\n\n       recall@10")[0].splitlines() for text in (out, published_out))
    assert [line for line in ours if line not in theirs] == [
        f"where            {folder}, published in {tmp_path / 'store'}"
    ]


@pytest.mark.parametrize("words", [("show",), ("remove",), ("remove", "--published"), ("verify",)])
def test_a_key_that_names_no_run_or_several_is_refused_in_one_line(command, words, tmp_path):
    command("publish")
    code, out, err = command(*words, "xyz")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"python -m sea.runs: 'KEY' needs to be the start of one run's key .*\(got 'xyz'\)\n", err)
    code, out, err = command(*words, "")
    assert (code, out, err.count("\n")) == (2, "", 1) and "(got '', with which " in err
    assert len(list((tmp_path / "runs").iterdir())) == 7


def test_publish_leaves_out_what_is_not_done_and_quick_looks(command, trained, tmp_path):
    ranking = tmp_path / "runs" / trained[3].folder.name / "ranking.safetensors"
    ranking.write_bytes(ranking.read_bytes()[:-1])
    (tmp_path / "runs" / f"planted-SEA-{'0' * 16}").mkdir()
    code, out, err = command("publish", "--dataset", "planted", "--model", "BPR")
    assert (code, err) == (0, "")
    path = tmp_path / "store" / "planted" / "BPR.jsonl.gz"
    assert out.startswith(f"{path}: 5 new, 5 in all, {path.stat().st_size / 5:,.0f} bytes a run\n")
    assert "Published: 5, new ones among them: 5\n" in out
    assert "Left out as quick looks, with fewer than 10 epochs allowed: 1\n" in out
    assert f"Left out: {ranking}: is not what was written (" in out and "is not finished" in out
    assert sorted(r.settings.seed for r in read("planted", tmp_path / "store")) == [1, 2, 3, 5, 999]  # 999: diverged
    assert "Published: 5, new ones among them: 0\n" in command("publish")[1]
    assert "Published: 0," in command("publish", "--model", "SEA")[1]


def test_verify_tells_an_honest_run_from_a_tampered_one(command, trained, tmp_path):
    publish(trained[:1], tmp_path / "store")
    code, out, _ = command("verify", "2")
    assert (code, out.splitlines()[-1]) == (0, f"{trained[0].key} (BPR, seed 1, planted): same to the bit")
    publish([with_hits(trained[0], halved)], tmp_path / "store")
    code, out, _ = command("verify", trained[0].key[:8])
    assert code == 1
    assert re.search(r": different: test recall@20 0\.\d+, published 0\.\d+, and 0 other seeds are too few", out)
    assert not (set(tmp_path.iterdir()) - {tmp_path / "runs", tmp_path / "store"})


def test_verify_names_every_damaged_file_of_the_local_runs(command, trained, tmp_path):
    publish(trained[:1], tmp_path / "store")
    assert ", 0 damaged files among them.\n" in command("verify", "1")[1]
    hit = [tmp_path / "runs" / record.folder.name / "weights.safetensors" for record in trained[:2]]
    hit[0].write_bytes(hit[0].read_bytes()[:-1] + b"\xff")
    hit[1].unlink()
    code, out, _ = command("verify", "1")
    assert code == 1 and out.endswith(": same to the bit\n") and ", 2 damaged files among them.\n" in out
    assert [f"Damaged: {path}: is not what was written (" in out for path in hit] == [True, True]


def test_verify_draws_by_its_seed(command, monkeypatch):
    command("publish")
    asked = []
    monkeypatch.setattr(manage, "_verdict", lambda record, root: asked.append(record.key) or "same to the bit")
    for words in (("verify",), ("verify", "3", "--seed", "0"), ("verify", "--seed", "1"), ("verify", "99")):
        assert command(*words)[0] == 0
    assert asked[:3] == asked[3:6] != asked[6:9]
    assert len(set(asked[9:])) == 6
    assert command("verify", "0")[0] == 2


def test_a_difference_is_held_against_the_spread_of_the_other_seeds(trained, store):
    honest = trained[0]
    small, large = with_hits(honest, moved), with_hits(honest, halved)
    assert compare(honest, honest, store) == "same to the bit"
    told = compare(honest, small, store)
    values = [record.metrics["test"]["recall@20"] for record in trained[1:]]
    assert told.startswith("same within a training's spread: ")
    assert f"the standard deviation of 4 other seeds {np.std(values, ddof=1):.4f};" in told
    assert "than 3 such deviations in up to 12% of cases" in told  # P(|t_3| > 3/√2)
    assert compare(honest, large, store).startswith("different: ")
    published.withdraw(trained[3:], store)
    assert compare(honest, small, store).startswith("different: ")  # of two other seeds no spread is known
    wild = replace(honest, metrics={})
    assert (
        compare(wild, wild, store) == f"same: both diverged, after {len(wild.history)} and {len(wild.history)} epochs"
    )
    assert compare(honest, wild, store).startswith("different: one of the two diverged")


def test_verify_says_in_one_line_why_a_run_cant_be_trained_here(command, trained, tmp_path, monkeypatch):
    publish([replace(trained[0], dataset="nowhere")], tmp_path / "store")
    code, out, err = command("verify")
    assert (code, out.count("\n"), err.count("\n")) == (2, 1, 1)
    assert "Runs on nowhere are not among the drawn: " in out and "has no run that can be trained here" in err
    code, out, err = command("verify", trained[0].key)
    assert code == 2 and re.search(r": not verified: nowhere: needs to be 'planted', a folder, .*\n$", out)
    publish([replace(trained[0], checksum="f" * 64)], tmp_path / "other")
    code = main(["verify", "--records", str(tmp_path / "other")])
    assert code == 2


def test_remove_takes_a_runs_folder_and_nothing_else(command, trained, tmp_path):
    (tmp_path / "runs" / "notes").mkdir()
    command("publish")
    first, second = (record.key for record in trained[:2])
    code, out, _ = command("remove", first[:10], second, first)
    assert code == 0 and out.count("Removed ") == 2
    left = {path.name for path in (tmp_path / "runs").iterdir()}
    assert len(left) == 6 and "notes" in left and not any(name.endswith((first, second)) for name in left)
    assert len(read("planted", tmp_path / "store")) == 6
    code, _, err = command("remove", trained[2].key, first)  # all or none
    assert code == 2 and "--published removes others" in err
    assert (tmp_path / "runs" / trained[2].folder.name).exists()
    code, out, _ = command("remove", "--published", first, second)
    assert code == 0 and out.count("Removed ") == 2
    assert first not in {record.key for record in read("planted", tmp_path / "store")}
    assert len(published._load(tmp_path / "store" / "planted" / USERS)) == 6  # two splits of three seeds' worlds
    rest = [record.key for record in read("planted", tmp_path / "store")]
    assert command("remove", "--published", *rest)[0] == 0
    assert [path.name for path in (tmp_path / "store" / "planted").iterdir()] == ["lock"]


def test_a_run_that_is_being_trained_is_not_removed(command, trained, tmp_path):
    folder = tmp_path / "runs" / trained[0].folder.name
    with records.FileLock(folder / "lock"):
        code, _, err = command("remove", trained[0].key)
    assert code == 2 and "needs to be at rest in 'remove' (got a run that is being trained)" in err
    assert folder.exists()


def test_the_command_is_there(tmp_path):
    words = ["-W", "error", "-m", "sea.runs", "list", "--runs", tmp_path, "--records", tmp_path / "none"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("key  dataset  model  seed")


@pytest.mark.parametrize("words", [(), ("frobnicate",), ("list", "--foo"), ("show",), ("verify", "--seed", "x")])
def test_a_wrong_command_is_one_line(capsys, words):
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
