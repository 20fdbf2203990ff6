import numpy as np
import pytest
import torch

from sea.analysis import angles, terms, trained
from sea.data import planted
from sea.models import MODELS
from sea.models.shared import raw_features
from sea.runs import Settings, run


@pytest.fixture(scope="module")
def world():
    return planted(60, 40, mean_interactions=12)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    settings = Settings("SEA", "planted", params={"distance": "orthogonal", "beta": 0.0}, epochs=1, lr=1e-3)
    return run(settings, tmp_path_factory.mktemp("runs"))


def test_the_penalty_is_the_mean_squared_product_of_each_two_parts():
    a, b, c = (torch.tensor(x) for x in ([[1.0, 2], [0, 1]], [[3.0, 1], [2, 2]], [[1.0, 0], [0, 1]]))
    # a·b = 5, 2; a·c = 1, 1; b·c = 3, 2
    assert trained.penalty({"a": a, "b": b, "c": c}) == pytest.approx((25 + 4 + 1 + 1 + 9 + 4) / 2)


def test_without_its_penalty_pamd_has_the_other_terms_alone(world):
    with_, without = (
        kind(world, pretrain=0, generator=torch.Generator().manual_seed(3))
        for kind in (trained.PAMD, trained.WithoutPenalty)
    )
    features = raw_features(world)
    specific = with_.parts()[1]
    by_hand = (specific["image"] * specific["text"]).sum(1).square().mean()
    difference = with_._disentangle(features) - without._disentangle(features)
    assert difference.item() == pytest.approx(by_hand.item(), rel=1e-4)
    assert by_hand > 0.1


def test_the_penalty_trains_orthogonal_codes_and_its_absence_does_not(world):
    rng = np.random.default_rng(0)
    found = {one: trained.specific_codes(trained.first_stage(world, 1, one, pretrain=60), rng) for one in (True, False)}
    same = trained.first_stage(world, 1, True, pretrain=60).parts()[1]["text"]
    assert torch.equal(same, trained.first_stage(world, 1, True, pretrain=60).parts()[1]["text"])
    square = {one: (np.cos(codes.paired) ** 2).mean() for one, codes in found.items()}
    assert square[True] < 0.1 * square[False]
    assert (found[True].width, found[True].count) == (64, 40)
    assert len(found[True].shuffled) == 40 * 20


def test_the_size_of_the_penalty_against_finite_differences(world):
    model = trained.first_stage(world, 1, pretrain=5)
    size = trained.penalty_size(model, world)
    assert size["value"] == pytest.approx(trained.penalty(model.parts()[1]).item(), rel=1e-5)
    double = model.double()
    features = {m: x.double() for m, x in raw_features(world).items()}
    shared = [*double.encoders.parameters(), *double.common.parameters()]

    def norm(loss):
        total = 0.0
        for parameter in shared:
            flat = parameter.data.view(-1)
            for k in range(0, len(flat), 37):  # a sample of the coordinates
                values = []
                for step in (1e-6, -1e-6):
                    flat[k] += step
                    values.append(loss().item())
                    flat[k] -= step
                total += ((values[0] - values[1]) / 2e-6) ** 2
        return total**0.5

    ours = lambda: trained.penalty(double._split(features)[1])  # noqa: E731
    rest = lambda: trained.PAMD._disentangle(double, features) - ours()  # noqa: E731
    assert size["value / rest"] == pytest.approx(ours().item() / rest().item(), rel=1e-4)
    with torch.no_grad():
        assert size["pull / rest"] == pytest.approx(norm(ours) / norm(rest), rel=0.1)


def test_users_are_paired_with_their_items_and_shuffled_with_others(record):
    found = trained.users_and_items(record, np.random.default_rng(0))
    data = record.data()
    users, items = (x.detach().double().numpy() for x in record.model(data).vectors())
    u, i = data.train[17]
    cosine = users[u] @ items[i] / np.linalg.norm(users[u]) / np.linalg.norm(items[i])
    assert np.cos(found.paired[17]) == pytest.approx(cosine)
    assert len(found.paired) == len(data.train)
    own = len(data.train) / data.n_users / data.n_items  # the share of random items that are a user's own
    assert len(found.shuffled) / len(found.paired) == pytest.approx(1 - own, abs=0.02)
    assert (found.width, found.count) == (128, min(data.n_users, data.n_items))


def test_the_pull_on_sea_is_that_of_weight_one_whatever_it_was_trained_with(record):
    data = record.data()
    assert terms.pull_of(record.model(data), data)["distance"] == 0  # β = 0
    model = MODELS["SEA"](data, distance="orthogonal", beta=0.5, generator=torch.Generator().manual_seed(0))
    model.load_state_dict(record.model(data).state_dict())
    assert trained.pull_on_sea(record) == pytest.approx(2 * terms.pull_of(model, data)["distance"], rel=1e-3)


def test_unique_parts_are_those_of_the_last_two_modalities_and_rows_say_both_kinds(record):
    found = trained.unique_parts(record, np.random.default_rng(0))
    with torch.no_grad():
        parts = record.model(record.data()).separate()
    a, b = (parts[m].unique.double().numpy() for m in ("image", "text"))
    assert found.paired == pytest.approx(angles.between(a, b), abs=1e-6)
    table = trained.table({"x": found})
    assert list(table.index) == [("x", "paired"), ("x", "shuffled")]
    assert table.loc[("x", "paired"), "mean cos²"] == pytest.approx((np.cos(found.paired) ** 2).mean())
