"""What keeps the declared revisions honest: trained numbers that are committed, and that a changed computation misses.

A run's key holds the revision of the training loop and of its model, not their code. So a change that computes
something else has to raise one of them. Here every model is trained for two epochs on two toys, in double precision.
If a number differs from the committed one, either the change is a mistake, or the revision of what was changed is to
be raised (`sea.train.REVISION`, or `revision` of each model that differs) and the numbers written anew:

    python tests/test_revisions.py

These are the only expected numbers of the tests that are our own output. That they are right is shown elsewhere.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sea import records, runs
from sea.data import Dataset, planted
from sea.evaluate import evaluate
from sea.models import MODELS
from sea.records import Settings, build
from sea.train import REVISION, NegativeSampler

COMMITTED = Path(__file__).with_name("revisions.json")
TOYS = {"image and text": {"image": 12, "text": 7}, "audio and image": {"audio": 9, "image": 12}}
SHORT_Q = {name: {"q_steps": 3, "q_lr": 1e-4} for name in MODELS if "SEA" in name}
PARAMS = {"PAMD": {"pretrain": 40}, "DualGNN": {"neighbours": 58}} | SHORT_Q
"""So that stage 1 has gone some way, and lists of neighbours are too short; and few steps of q, and small ones."""

TOLERANCE = 5e-5
"""Relative. Without vector instructions, torch draws numbers that differ by 1e-7, which become 5e-6 here at most."""


def toy(widths: dict[str, int]) -> Dataset:
    return planted(60, 40, n_factors=2, widths=widths, mean_interactions=12, seed=1)


def trained(model: str, widths: dict[str, int]) -> dict[str, list[float]]:
    """Each loss by epoch, and the final scores in eight numbers: sums with fixed weights, in units of their size."""
    settings = Settings(model, epochs=2, batch_size=256, device="cpu", lr=1e-2, params=PARAMS.get(model, {}))
    world = toy(widths)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        for module in (runs, records):
            patch.setattr(module, "build", lambda *asked: build(*asked).double())
        record = runs.run(settings, folder, world, progress=False)
        users, items = record.model(world).vectors()
    terms = [name for name in record.history[0] if name.startswith("loss/")]
    numbers = {name: [row[name] for row in record.history if name in row] for name in terms}
    scores = (users @ items.T).detach().numpy()
    size = np.linalg.norm(scores)
    cells = np.arange(scores.size).reshape(scores.shape)
    shares = [float((scores * np.cos(cells * step)).sum() / size) for step in range(1, 8)]
    return numbers | {"scores": [float(size), *shares]}


def sampled() -> dict[str, list[int]]:
    """Of the loop: the order of an epoch, its negatives, and the places of what is held out, on exact scores."""
    world, generator = toy(TOYS["image and text"]), torch.Generator().manual_seed(0)
    order = torch.randperm(len(world.train), generator=generator)[:20]
    users = torch.from_numpy(world.train[:20, 0])
    negatives = NegativeSampler(world, torch.device("cpu"))(users, generator)
    ids = torch.arange(world.n_users * world.n_items, dtype=torch.double)
    scores = (ids * 7919 % 2400).view(world.n_users, world.n_items)  # whole numbers, all different
    ranking = evaluate(scores, torch.eye(world.n_items, dtype=torch.double), world)
    hits = ranking.tensors()["hits"]
    return {name: x.tolist() for name, x in {"order": order, "negatives": negatives, "hits": hits}.items()}


def numbers_of(model: str) -> dict[str, dict[str, list[float]]]:
    return {name: trained(model, widths) for name, widths in TOYS.items()}


def revisions_of(model: str) -> dict[str, int]:
    return {"training": REVISION, "model": MODELS[model].revision}


def differences(found: dict, expected: dict) -> list[str]:
    """Where numbers differ by more than the tolerance, relative to the largest of a list."""
    wrong = []
    for name, values in expected.items():
        ours, theirs = np.array(found.get(name, np.nan)), np.array(values)
        far = ours.shape != theirs.shape or not np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()
        wrong += [name] if far else []
    return wrong + sorted(found.keys() - expected.keys())


def test_sampling_and_evaluation_are_those_of_their_revision():
    committed = json.loads(COMMITTED.read_text())["training"]
    assert committed["revision"] == REVISION, "write the numbers anew: python tests/test_revisions.py"
    assert sampled() == committed["numbers"], "raise REVISION in sea/train.py, or undo the change"


@pytest.mark.parametrize("model", MODELS)
def test_a_model_computes_what_its_revision_did(model):
    committed = json.loads(COMMITTED.read_text())["models"][model]
    assert committed["revisions"] == revisions_of(model), "write the numbers anew: python tests/test_revisions.py"
    found = numbers_of(model)
    wrong = {toy: differences(found[toy], numbers) for toy, numbers in committed["numbers"].items()}
    assert not any(wrong.values()), f"raise the revision of {model}, or of the loop, or undo the change: {wrong}"


def write() -> None:
    """Write the committed numbers, of the models whose revisions have changed alone."""
    kept = json.loads(COMMITTED.read_text())["models"] if COMMITTED.exists() else {}
    models = {}
    for model in MODELS:
        revisions = revisions_of(model)
        same = kept.get(model, {}).get("revisions") == revisions
        models[model] = kept[model] if same else {"revisions": revisions, "numbers": numbers_of(model)}
    content = {"training": {"revision": REVISION, "numbers": sampled()}, "models": models}
    COMMITTED.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write()
