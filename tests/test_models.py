import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from conftest import dataset_of
from sklearn.metrics.pairwise import cosine_similarity

from sea import blocks
from sea.data import DataError, Dataset, planted
from sea.graphs import modality_weights
from sea.models import MODELS, TRAINED


def batch(dataset, size, generator):
    pairs = torch.from_numpy(dataset.train)[torch.randperm(len(dataset.train), generator=generator)[:size]]
    negatives = torch.randint(dataset.n_items, (size,), generator=generator)
    return pairs[:, 0], pairs[:, 1], negatives


def in_order(dataset):
    """Modalities as the published programs have them: the image first."""
    return [m for m in ("image", "audio", "text") if m in dataset.features]


def dense_adjacency(dataset):
    n = dataset.n_users + dataset.n_items
    adjacency = torch.zeros(n, n, dtype=torch.float64)
    for user, item in dataset.train:
        adjacency[user, dataset.n_users + item] = adjacency[dataset.n_users + item, user] = 1
    scale = adjacency.sum(1).clamp(min=1) ** -0.5  # isolated nodes have no entries to scale
    return scale[:, None] * adjacency * scale


def dense_item_graph(features, k):
    similarity = cosine_similarity(features.astype(np.float64))
    kept = np.argsort(-similarity, axis=1)[:, :k]
    graph = np.zeros_like(similarity)
    np.put_along_axis(graph, kept, 1 / k, axis=1)
    return torch.from_numpy(graph)


def plain_sea(model, dataset, k, weights, layers_ui=2, layers_ii=1):
    """Eqs. (6-12, 17) on dense matrices, one modality at a time."""
    adjacency, users, items = dense_adjacency(dataset), [], []
    graph = sum(float(c) * dense_item_graph(dataset.features[m], k) for m, c in weights.items())
    for index, m in enumerate(in_order(dataset)):
        separate = model.separate
        transformed = separate.transform[m](torch.from_numpy(dataset.features[m]).double())
        mapped = model.mlps[m][1](F.leaky_relu(separate.projections[m]["encoder"](transformed), 0.01))
        x = torch.cat([model.preferences[m], mapped])
        x = x / x.norm(dim=1, keepdim=True)
        e = sum(torch.linalg.matrix_power(adjacency, power) @ x for power in range(layers_ui + 1))
        users.append(e[: dataset.n_users] * model.user_weights[:, index : index + 1])
        items.append(e[dataset.n_users :])
    joined = torch.cat(items, 1)
    return torch.cat(users, 1), joined + torch.linalg.matrix_power(graph, layers_ii) @ joined


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("widths", [{"image": 12, "text": 7}, {"audio": 5, "image": 6, "text": 7}])
def test_sea_equals_its_equations_on_dense_matrices(generator, learned, widths):
    dataset = planted(40, 30, widths=widths, mean_interactions=11, seed=2)
    model = MODELS["SEA"](dataset, dim=4, k=5, layers_ii=2, learn_graph_weights=learned, generator=generator).double()
    weights = {m: 0.1 if m == "image" else 0.9 / (len(widths) - 1) for m in widths}
    ours, plain = model.vectors(), plain_sea(model, dataset, 5, weights, layers_ii=2)
    for a, b in zip(ours, plain):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-7)  # graphs are stored in single precision
    u, p, n = batch(dataset, 50, generator)
    terms = model.loss(u, p, n)
    margin = (plain[0][u] * (plain[1][p] - plain[1][n])).sum(1)
    assert terms["rec"].item() == pytest.approx(-torch.sigmoid(margin).log2().mean().item(), rel=1e-6)
    assert set(terms) == {"rec", "align", "distance"}


def test_sea_starts_where_the_paper_says(generator):
    """SoloSim starts near ln n_items (8.86 on Baby), user weights near 1/M, CLUB's q as many as asked."""
    dataset = planted(200, 300)
    model = MODELS["SEA"](dataset, alpha=1.0, generator=generator)
    terms = model.loss(*batch(dataset, 100, generator))
    assert terms["align"].item() == pytest.approx(np.log(300), rel=0.1)
    assert model.user_weights.mean().item() == pytest.approx(0.5, abs=1e-6)
    assert MODELS["SEA"](dataset, q_shared=False, generator=generator).separate.q.weight1.shape[0] == 2


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_lightgcn_equals_its_equation_on_dense_matrices(world, generator, layers):
    model = MODELS["LightGCN"](world, dim=4, layers=layers, reg=0.3, generator=generator).double()
    adjacency, start = dense_adjacency(world), torch.cat([model.users, model.items])
    mean = sum(torch.linalg.matrix_power(adjacency, power) @ start for power in range(layers + 1)) / (layers + 1)
    users, items = mean[: world.n_users], mean[world.n_users :]
    for a, b in zip(model.vectors(), (users, items)):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-9)
    u, p, n = batch(world, 50, generator)
    terms = model.loss(u, p, n)
    rec = -torch.log(torch.sigmoid((users[u] * (items[p] - items[n])).sum(1))).mean()
    norms = sum(
        (table[index] ** 2).sum().sqrt() for table, index in ((model.users, u), (model.items, p), (model.items, n))
    )
    assert terms["rec"].item() == pytest.approx(rec.item(), rel=1e-6)
    assert terms["reg"].item() == pytest.approx(0.3 * norms.item() / 50, rel=1e-6)


def test_bpr_by_hand(generator):
    dataset = dataset_of([(0, 0), (1, 1)], [(0, 1)], [(1, 2)], 2, 3)
    model = MODELS["BPR"](dataset, dim=2, reg=0.5, generator=generator)
    with torch.no_grad():
        model.users.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        model.items.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]]))
    terms = model.loss(torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))
    assert terms["rec"].item() == pytest.approx(np.log1p(np.exp(-3.0)))
    assert terms["reg"].item() == pytest.approx(0.5 * (1 + 3 + 4))


@pytest.mark.parametrize("name", TRAINED)
def test_a_model_is_its_generators_alone_and_has_finite_gradients(world, name):
    first, second = (MODELS[name](world, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    for a, b in zip(first.state_dict().values(), second.state_dict().values()):
        assert torch.equal(a, b)
    sum(first.loss(*batch(world, 30, torch.Generator().manual_seed(0))).values()).backward()
    for key, parameter in first.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", TRAINED)
def test_missing_images_leave_no_nan(generator, name):
    dataset = planted(40, 30, mean_interactions=11)
    dataset.features["image"][:12] = 0
    model = MODELS[name](dataset, generator=generator)
    sum(model.loss(*batch(dataset, 50, generator)).values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
    assert all(torch.isfinite(v).all() for v in model.vectors())


def test_modality_weights():
    assert modality_weights(["image", "text"], 0.1).tolist() == pytest.approx([0.1, 0.9])
    assert modality_weights(["audio", "image", "text"], 0.2).tolist() == pytest.approx([0.4, 0.2, 0.4])
    assert modality_weights(["audio", "text"], 0.1).tolist() == [0.5, 0.5]
    with pytest.raises(
        ValueError, match=r"'image_weight' needs to lie between 0 and 1 in 'modality_weights' \(got 1.5\)"
    ):
        modality_weights(["image", "text"], 1.5)


@pytest.mark.parametrize("widths", [{"text": 7, "image": 6, "audio": 5}, {"audio": 5, "image": 6}])
def test_the_image_is_the_first_modality_and_the_plug_ins_anchor_the_later_one(generator, widths):
    dataset = planted(40, 30, widths=widths, mean_interactions=11)
    assert dataset.modalities == in_order(dataset)
    separate = MODELS["SEA"](dataset, alpha=1, distance="none", generator=generator).separate
    parts = separate()
    image, *others = (F.normalize(separate.heads[m](parts[m].head)) for m in in_order(dataset))
    pairs = [(image, other) for other in others] + [tuple(others)] * (len(others) - 1)
    plain = [-F.log_softmax(anchor @ seen.T / separate.tau, 1).diagonal().mean() for seen, anchor in pairs]
    assert separate.loss(parts)["align"].item() == pytest.approx(sum(plain).item() / len(pairs), rel=1e-5)


@pytest.mark.parametrize("cells", [1, 70, 10_000])
def test_recommendations_by_a_loop(world, generator, monkeypatch, cells):
    monkeypatch.setitem(blocks.CELLS, "cpu", cells)
    model = MODELS["LGMRec"](world, dim=4, generator=generator).train()
    users, taken = [7, 0, 7, 59], {tuple(pair) for pair in world.train}
    found, free = model.recommend(users, 12, world.train), model.recommend(users, 12)
    assert model.training
    scores = (lambda u, i: u @ i.T)(*model.vectors())
    for row, unmasked, user in zip(found, free, users):
        order = sorted(range(world.n_items), key=lambda item: -scores[user, item].item())
        assert unmasked.tolist() == order[:12]
        assert row.tolist() == [item for item in order if (user, item) not in taken][:12]
    every = np.array([(7, item) for item in range(world.n_items) if item not in (3, 5)])
    few = model.recommend([7, 8], 45, every)
    assert set(few[0, :2].tolist()) == {3, 5} and (few[0, 2:] == -1).all()
    assert (few[1, :40] >= 0).all() and (few[1, 40:] == -1).all()


def test_recommendations_for_a_label(generator):
    interactions = pd.DataFrame({"user": [30, 30, 30, 10, 10, 10, 20, 20, 20], "item": list("abcabdcda")})
    interactions["x_label"] = [0, 1, 2] * 3
    features = {m: pd.DataFrame(np.random.default_rng(0).random((4, 3)), index=list("abcd")) for m in ("image", "text")}
    dataset = Dataset.from_frames("own", interactions, features)
    assert dataset.user_ids(["20", 30]).tolist() == [2, 0]
    model = MODELS["BPR"](dataset, generator=generator)
    top = model.recommend(dataset.user_ids([20]), 3, dataset.train)
    assert sorted(dataset.titles[top[0]]) == ["a", "b", "d"]
    with pytest.raises(DataError, match=r"'labels' needs labels of own's users \(got '40'\)"):
        dataset.user_ids([10, 40])
    with pytest.raises(DataError, match=r"'labels' needs labels of planted's users \(got '0'\)"):
        planted(40, 30, mean_interactions=11).user_ids([0])
    with pytest.raises(ValueError, match=r"'users' needs ids from 0 to 2 in 'recommend' \(got 3\)"):
        model.recommend([0, 3])
    with pytest.raises(ValueError, match=r"'k' needs to be at least 1 in 'recommend' \(got 0\)"):
        model.recommend([0], 0)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_revision_of_its_own_and_says_what_it_takes(name):
    assert vars(MODELS[name])["revision"] >= 1
    settings = MODELS[name].settings()
    assert "generator" not in settings and ("dim" in settings) == (name in TRAINED)
    assert ("q_steps" in settings) == ("SEA" in name)


def test_a_plug_ins_model_has_its_own_defaults():
    assert {name: MODELS[name].settings()["reg"] for name in ("VBPR", "VBPR+SEA")} == {"VBPR": 2.0, "VBPR+SEA": 2.0}
    assert MODELS["FREEDOM"].settings()["lam"] == 0 and MODELS["FREEDOM+SEA"].settings()["lam"] == 1e-3
    assert MODELS["VBPR+SEA"].settings()["tau"] == 0.1 and MODELS["FREEDOM+SEA"].settings()["tau"] == 0.2


def test_the_plug_in_cannot_reach_freedom_s_item_vectors(world):
    """What notebook 11 says: the plug-in's weights reach no item vector of FREEDOM + SEA, and VBPR's do."""
    reached = {}
    for name in ("FREEDOM+SEA", "VBPR+SEA"):
        model = MODELS[name](world, generator=torch.Generator().manual_seed(0)).eval()
        before = model.vectors()[1].detach().clone()
        with torch.no_grad():
            for parameter in model.separate.parameters():
                parameter.zero_()
        reached[name] = not torch.equal(before, model.vectors()[1])
    assert reached == {"FREEDOM+SEA": False, "VBPR+SEA": True}
