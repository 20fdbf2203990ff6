"""Each baseline once more, from its published equations: dense matrices, double precision, one modality at a time."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import dataset_of
from scipy import stats
from test_models import batch, in_order

from sea import blocks, graphs, losses
from sea import train as training
from sea.data import planted
from sea.models import MODELS, TRAINED
from sea.models.base import Recommender


@pytest.fixture(params=[("image", "text"), ("audio", "image"), ("audio", "image", "text")], ids=str)
def toy(request):
    """A world of two modalities, the image first or last in the alphabet, or of three.

    A user and an item have no train interaction.
    """
    dataset = planted(40, 30, widths=dict(zip(request.param, (9, 12, 7))), mean_interactions=11, seed=2)
    trained = (dataset.train != [5, 3]).all(1)
    return dataclasses.replace(dataset, train=dataset.train[trained])


def generator_at(seed):
    return torch.Generator().manual_seed(seed)


def built(name, dataset, generator, **settings):
    return MODELS[name](dataset, dim=4, generator=generator, **settings).double()


def contents(dataset):
    return {m: torch.from_numpy(dataset.features[m]).double() for m in in_order(dataset)}


def contact(dataset, pairs):
    """A, users first."""
    n = dataset.n_users + dataset.n_items
    adjacency = torch.zeros(n, n, dtype=torch.float64)
    for user, item in pairs:
        adjacency[user, dataset.n_users + item] = adjacency[dataset.n_users + item, user] = 1
    return adjacency


def both_ends(adjacency):
    """D^-½ A D^-½; rows of isolated nodes stay empty."""
    scale = adjacency.sum(1).clamp(min=1) ** -0.5
    return scale[:, None] * adjacency * scale


def mean_of_powers(matrix, model, layers):
    start = torch.cat([model.users, model.items])
    mean = sum(torch.linalg.matrix_power(matrix, power) @ start for power in range(layers + 1)) / (layers + 1)
    return mean[: len(model.users)], mean[len(model.users) :]


def unit(x):
    return x / (x * x).sum(1, keepdim=True).sqrt()


def kept(x, k):
    """Ones at the k largest cosines of each row."""
    cosine = unit(x) @ unit(x).T
    return torch.zeros_like(cosine).scatter(1, cosine.topk(k).indices, 1)


def kept_cosines(x, k):
    return kept(x.detach(), k) * (unit(x) @ unit(x).T)


def by_row_sums(s):
    r = s.sum(1)
    return s / (r[:, None] * r[None, :]).sqrt()


def preference(u, p, n):
    """-mean log σ(u·p - u·n), as it is printed."""
    return -torch.log(1 / (1 + torch.exp(-(u * (p - n)).sum(1)))).mean()


def w1(*rows):
    return sum((table**2).sum().sqrt() for table in rows) / len(rows[0])


def w3(*rows, batch_size=2048):
    """Over the configured batch size, however many rows there are."""
    return sum((table**2).sum() for table in rows) / 2 / batch_size


def same_terms_and_gradients(model, ours, plain):
    """Term by term; no gradient counts as zeros."""
    names, parameters = zip(*((name, p) for name, p in model.named_parameters() if p.requires_grad))
    assert list(ours) == list(plain)
    for key in plain:
        assert ours[key].item() == pytest.approx(plain[key].item(), rel=1e-6), key
        settings = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        for name, a, b in zip(names, *(torch.autograd.grad(x[key], parameters, **settings) for x in (ours, plain))):
            assert (a - b).norm().item() <= 1e-5 * b.norm().item() + 1e-12, (key, name)


def same_vectors(model, plain):
    for a, b in zip(model.vectors(), plain):
        assert (a - b).norm().item() < 1e-6 * b.norm().item()  # graphs are stored in single precision


# VBPR


def plain_vbpr(model, content, rows, reg):
    vectors = model.users, torch.cat([model.items, content], dim=1)
    u, p, n = (table[index] for table, index in zip((*vectors, vectors[1]), rows))
    return vectors, {"rec": preference(u, p, n), "reg": reg * w1(u, p, n)}


@pytest.mark.parametrize("settings", [{}, {"reg": 0.1}])
def test_vbpr_equals_the_plain_form_of_its_equations(toy, generator, settings):
    model = built("VBPR", toy, generator, **settings)
    torch.nn.init.normal_(model.bias, generator=generator)
    content = torch.cat(list(contents(toy).values()), dim=1) @ model.weight.T + model.bias
    rows = batch(toy, 50, generator)
    vectors, terms = plain_vbpr(model, content, rows, settings.get("reg", 2.0))
    same_vectors(model, vectors)
    same_terms_and_gradients(model, model.loss(*rows), terms)
    assert model.users.shape == (40, 8) and model.items.shape == (30, 4)
    assert torch.autograd.grad(terms["reg"], model.weight)[0].abs().min() > 0  # W is penalised through what it reads


def read_plainly(separate, dataset):
    """What a recommender goes on with: reader(transform(X)), by modality."""
    return [separate.projections[m]["encoder"](separate.transform[m](x)) for m, x in contents(dataset).items()]


@pytest.mark.parametrize("settings", [{}, {"reg": 0.1, "alpha": 0, "beta": 0}])
def test_vbpr_sea_is_vbpr_on_what_it_reads_of_the_transformed_features(toy, generator, settings):
    model = built("VBPR+SEA", toy, generator, **settings)
    rows = batch(toy, 50, generator)
    vectors, terms = plain_vbpr(model, sum(read_plainly(model.separate, toy)), rows, settings.get("reg", 2.0))
    same_vectors(model, vectors)
    has_seas_losses_too(model, rows, terms, settings.get("alpha", 0.1), settings.get("beta", 0.01))
    assert model.separate.tau == 0.1


def has_seas_losses_too(model, rows, terms, alpha, beta):
    """The recommender's own terms are `terms`; SEA's are the plug-in's own over all items, times their weights."""
    ours, separate = model.loss(*rows), model.separate
    assert (separate.alpha, separate.beta) == (alpha, beta)
    separate.alpha = separate.beta = 1
    unweighted = separate.loss(separate())
    assert unweighted["align"].item() > 1
    terms |= {"align": alpha * unweighted["align"], "distance": beta * unweighted["distance"]}
    same_terms_and_gradients(model, ours, terms)


@pytest.mark.parametrize("name", ["VBPR+SEA", "FREEDOM+SEA"])
def test_the_plug_in_can_be_switched_off_and_fits_its_q(toy, generator, name):
    model = built(name, toy, generator, align="none", distance="none")
    assert not {"align", "distance"} & set(model.loss(*batch(toy, 20, generator)))
    model = built(name, toy, generator, distance="club", q_steps=2)
    before = [p.clone() for p in model.separate.q.parameters()]
    model.loss(*batch(toy, 20, generator))
    model.after_step()
    assert all(not torch.equal(a, b) for a, b in zip(before, model.separate.q.parameters()))


# MMGCN


def plain_mmgcn(model, dataset):
    adjacency = contact(dataset, dataset.train)
    mean = adjacency / adjacency.sum(1, keepdim=True).clamp(min=1)
    outputs = []
    for m, x in contents(dataset).items():
        branch = model.branches[m]
        x = unit(torch.cat([branch.users, branch.projection(x) if m == "image" else x]))
        for c, own, g in zip(branch.messages, branch.maps, branch.merges, strict=True):
            h = F.leaky_relu(mean @ (x @ c), 0.01)
            y = F.leaky_relu(own(x), 0.01) + model.id
            x = F.leaky_relu(g(torch.cat([h, y], dim=1)), 0.01)
        outputs.append(x)
    output = sum(outputs) / len(outputs)
    return output[: dataset.n_users], output[dataset.n_users :]


def test_mmgcn_equals_the_plain_form_of_its_equations(toy, generator):
    model = built("MMGCN", toy, generator, image_width=5)
    users, items = plain_mmgcn(model, toy)
    same_vectors(model, (users, items))
    u, p, n = batch(toy, 50, generator)
    same_terms_and_gradients(model, model.loss(u, p, n), {"rec": preference(users[u], items[p], items[n])})
    for m, branch in model.branches.items():
        assert len(branch.messages) == 3
        assert (branch.projection is not None) == (m == "image")
        assert branch.messages[0].shape[0] == (5 if m == "image" else toy.features[m].shape[1])


def test_mmgcns_random_tensors_are_frozen_and_kept(world, generator):
    model = MODELS["MMGCN"](world, generator=generator)
    frozen = {"id": (100, 64), "branches.image.users": (60, 256), "branches.text.users": (60, 7)}
    assert not set(frozen) & {name for name, _ in model.named_parameters()}
    state = model.state_dict()
    for name, shape in frozen.items():
        assert state[name].shape == shape
        assert not state[name].requires_grad
    assert not any("features" in name for name in state)


@pytest.mark.parametrize("name", TRAINED)
def test_a_reloaded_model_scores_the_same(world, name):
    first, second = (MODELS[name](world, generator=generator_at(seed)) for seed in (1, 2))
    assert not torch.equal(first.vectors()[1], second.vectors()[1])
    second.load_state_dict(first.state_dict())
    for a, b in zip(first.vectors(), second.vectors()):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", TRAINED)
def test_a_model_that_trains_its_features_leaves_the_datasets_alone(generator, name):
    dataset = planted(40, 30, mean_interactions=11, seed=2)
    before = {m: values.copy() for m, values in dataset.features.items()}
    nudge(MODELS[name](dataset, generator=generator), generator)
    assert all((dataset.features[m] == values).all() for m, values in before.items())


# LATTICE and MICRO


def plain_graphs(model, dataset, k=10, lam=0.9, **_):
    """LATTICE's S, or MICRO's S_m by modality; index choices are constants."""
    raw = contents(dataset)
    start = {m: by_row_sums(kept_cosines(x, k)) for m, x in raw.items()}
    learned = {m: kept_cosines(model.maps[m](model.features[m]), k) for m in raw}
    if "logits" not in dict(model.named_parameters()):
        return [(1 - lam) * by_row_sums(learned[m]) + lam * start[m] for m in raw]
    weights = dict(zip(raw, model.logits.exp() / model.logits.exp().sum()))
    mixture, frozen = (sum(weights[m] * by_modality[m] for m in raw) for by_modality in (learned, start))
    return [(1 - lam) * by_row_sums(mixture) + lam * frozen]


def plain_parts(model, matrices):
    """H_m and a_m by modality, and H."""
    smoothed = [matrix @ model.items for matrix in matrices]
    if len(smoothed) == 1:
        return smoothed, [1], smoothed[0]
    scores = [torch.tanh(h @ model.query.weight.T + model.query.bias) @ model.key[0] for h in smoothed]
    attention = [score.exp() / sum(s.exp() for s in scores) for score in scores]
    return smoothed, attention, sum(a[:, None] * h for a, h in zip(attention, smoothed))


def plain_learned(model, dataset, matrices, rows, layers=2, reg=1e-5, contrast=0.03, tau=0.5, **_):
    """Final vectors, and terms of the loss."""
    loops = contact(dataset, dataset.train) + torch.eye(dataset.n_users + dataset.n_items)
    users, items = mean_of_powers(loops / loops.sum(1, keepdim=True), model, layers)
    smoothed, _, fused = plain_parts(model, matrices)
    items = items + unit(fused)
    u, p, n = (table[index] for table, index in zip((users, items, items), rows))
    terms = {"rec": preference(u, p, n), "reg": reg * w3(u, p, n)}
    if len(smoothed) > 1:
        terms["contrast"] = contrast * sum(plain_contrast(h, fused, tau) for h in smoothed)
    return (users, items), terms


def plain_contrast(anchor, other, tau):
    """C(H_m, H), an item at a time."""
    a, o = unit(anchor), unit(other)
    total = 0
    for i in range(len(a)):
        within, across = ((a[i] * x / tau).sum(1).exp() for x in (a, o))
        total = total - (across[i] / (within.sum() + across.sum() - within[i])).log()
    return total / len(a)


CHANGED = {"layers": 1, "k": 4, "lam": 0.3, "reg": 0.5}


@pytest.mark.parametrize(
    ("name", "settings"),
    [("LATTICE", {}), ("LATTICE", CHANGED), ("MICRO", {}), ("MICRO", CHANGED | {"contrast": 2.0, "tau": 0.2})],
)
def test_a_learned_graph_is_an_epochs_first_batchs_then_a_constant_and_anew_for_scores(toy, generator, name, settings):
    model = built(name, toy, generator, **settings)
    learning = [p for key, p in model.named_parameters() if key.startswith(("maps", "features", "logits"))]
    for epoch in range(2):
        if epoch:
            model.before_epoch(generator)
        matrices = plain_graphs(model, toy, **settings)
        for first in (True, False, False):
            rows = batch(toy, 50, generator)
            terms = model.loss(*rows)
            same_terms_and_gradients(model, terms, plain_learned(model, toy, matrices, rows, **settings)[1])
            reached = torch.autograd.grad(sum(terms.values()), learning, allow_unused=True)
            assert all(g.abs().max() > 0 if first else g is None for g in reached)
            fresh = plain_graphs(model, toy, **settings)
            same_vectors(model, plain_learned(model, toy, fresh, rows, **settings)[0])
            matrices = [matrix.detach() for matrix in matrices]
            nudge(model, generator)


def nudge(model, generator):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)


def test_lattices_mixture_starts_even(toy, generator):
    assert built("LATTICE", toy, generator).logits.tolist() == [0.5] * len(toy.features)


def test_three_models_lower_their_rate():
    lowered = {name: model.lr_decay for name, model in MODELS.items() if model.lr_decay != 1}
    assert lowered == dict.fromkeys(("LATTICE", "MICRO", "MGCN"), 0.96)


def test_micros_parts_are_what_it_scores_with_and_its_uniques_anti_parallel(toy, generator):
    model = built("MICRO", toy, generator)
    with torch.no_grad():
        model.items.copy_(torch.randn(model.items.shape, generator=generator))  # at first, attention is nearly even
    model.loss(*batch(toy, 20, generator))
    with torch.no_grad():
        model.features["image"] += torch.randn(model.features["image"].shape, generator=generator)
    ours = model.parts()
    plain = plain_parts(model, plain_graphs(model, toy))
    for smoothed, attention, m in zip(*plain[:2], in_order(toy)):
        assert torch.allclose(ours[0][m], smoothed, rtol=1e-6, atol=1e-7)
        assert torch.allclose(ours[1][m][:, 0], attention, rtol=1e-6)
    assert torch.allclose(ours[2], plain[2], rtol=1e-6, atol=1e-7)
    total = sum(a * (ours[0][m] - ours[2]) for m, a in ours[1].items())
    assert total.abs().max() < 1e-12
    if len(toy.features) == 2:
        other = in_order(toy)[1]
        cosine = F.cosine_similarity(ours[0]["image"] - ours[2], ours[0][other] - ours[2])
        assert (cosine + 1).abs().max() < 1e-12
        difference = ours[1][other] * (ours[0]["image"] - ours[0][other])
        assert torch.allclose(ours[0]["image"] - ours[2], difference, atol=1e-12)


# FREEDOM


def plain_freedom(model, dataset, pairs, layers=2, k=10, image_weight=0.1, **_):
    raw = contents(dataset)
    weights = {m: image_weight if m == "image" else (1 - image_weight) / (len(raw) - 1) for m in raw}
    item_graph = sum(weights[m] * kept(x, k) / k for m, x in raw.items())
    users, items = mean_of_powers(both_ends(contact(dataset, pairs)), model, layers)
    return users, items + item_graph @ model.items


def plain_freedom_terms(vectors, tables, rows, lam):
    (users, items), (u, p, n) = vectors, rows
    extra = sum(preference(users[u], table[p], table[n]) for table in tables)
    return {"rec": preference(users[u], items[p], items[n])} | ({"content": lam * extra} if tables else {})


def kept_pairs(model):
    """The pairs of the pruned graph, from its stored entries."""
    entries = model.pruned.matrix.to_dense()[: len(model.users), len(model.users) :].nonzero()
    return entries.numpy()


OTHERWISE = {"layers": 3, "k": 4, "image_weight": 0.3, "dropped": 0.5, "lam": 0.7}


@pytest.mark.parametrize("settings", [{}, OTHERWISE])
def test_freedom_equals_the_plain_form_of_its_equations(toy, generator, settings):
    model = built("FREEDOM", toy, generator, **settings)
    for _ in range(2):
        model.before_epoch(generator)
        rows, pairs = batch(toy, 50, generator), kept_pairs(model)
        assert len(pairs) == int(len(toy.train) * (1 - settings.get("dropped", 0.8)))
        projected = [model.maps[m](model.features[m]) for m in in_order(toy)] if "lam" in settings else []
        terms = plain_freedom_terms(plain_freedom(model, toy, pairs, **settings), projected, rows, settings.get("lam"))
        same_terms_and_gradients(model, model.loss(*rows), terms)
        same_vectors(model, plain_freedom(model, toy, toy.train, **settings))
        nudge(model, generator)  # S stays that of the raw features


def test_freedoms_item_graph_is_worth_a_hundredth_or_nine(world, generator):
    graph = MODELS["FREEDOM"](world, generator=generator).item_item.matrix.to_dense()
    image, text = (kept(x, 10) for x in contents(world).values())
    assert torch.allclose(graph.double(), 0.01 * image + 0.09 * text, rtol=1e-6)
    assert {round(v, 6) for v in graph.flatten().tolist()} == {0, 0.01, 0.09, 0.1}
    assert (image.diagonal() + text.diagonal() == 2).all()


def test_freedom_redraws_its_edges_every_epoch_and_normalises_what_it_kept(world, generator):
    model = MODELS["FREEDOM"](world, dim=4, generator=generator)
    pairs = {tuple(pair) for pair in world.train}
    drawn = []
    for _ in range(3):
        model.before_epoch(generator)
        drawn.append({tuple(pair) for pair in kept_pairs(model)})
        assert drawn[-1] < pairs
        assert len(drawn[-1]) == int(len(pairs) * (1 - 0.8))
        dense = both_ends(contact(world, drawn[-1]))
        assert torch.allclose(model.pruned.matrix.to_dense().double(), dense, rtol=1e-6)
    assert drawn[0] != drawn[1] != drawn[2]
    model.before_epoch(generator_at(9))
    assert (
        kept_pairs(model) == np.unique(graphs.prune(world.train, 0.8, generator_at(9), by_degree=True), axis=0)
    ).all()


def test_freedom_without_lambda_has_no_content(world):
    without, with_content = (MODELS["FREEDOM"](world, lam=lam, generator=generator_at(3)) for lam in (0.0, 1e-3))
    assert {name for name, _ in without.named_parameters()} == {"users", "items"}
    rows = batch(world, 40, generator_at(4))
    terms = without.loss(*rows)
    assert set(terms) == {"rec"}
    assert terms["rec"].item() == with_content.loss(*rows)["rec"].item()


@pytest.mark.parametrize("settings", [{}, OTHERWISE | {"alpha": 0, "beta": 0}])
def test_freedom_sea_is_freedom_beside_what_it_reads_of_the_transformed_features(toy, generator, settings):
    model = built("FREEDOM+SEA", toy, generator, **settings)
    model.before_epoch(generator)
    rows, pairs, tables = batch(toy, 50, generator), kept_pairs(model), read_plainly(model.separate, toy)
    assert len(pairs) == int(len(toy.train) * (1 - settings.get("dropped", 0.8)))
    plain = plain_freedom(model, toy, pairs, **settings)
    terms = plain_freedom_terms(plain, tables, rows, settings.get("lam", 1e-3))
    has_seas_losses_too(model, rows, terms, settings.get("alpha", 0.012), settings.get("beta", 0.006))
    same_vectors(model, plain_freedom(model, toy, toy.train, **settings))
    assert not any(name.startswith(("features", "maps")) for name, _ in model.named_parameters())


def test_freedom_sea_refuses_a_lambda_that_would_switch_it_off(world, generator):
    with pytest.raises(ValueError, match=r"'lam' needs to be above 0 in 'FREEDOMSEA', .* no effect \(got 0.0\)"):
        MODELS["FREEDOM+SEA"](world, lam=0.0, generator=generator)


# Initial values


def xavier_uniform(p):
    return stats.uniform(-((6 / sum(p.shape)) ** 0.5), 2 * (6 / sum(p.shape)) ** 0.5)


def xavier_normal(p):
    return stats.norm(0, (2 / sum(p.shape)) ** 0.5)


def default(p):
    return stats.uniform(-(p.shape[1] ** -0.5), 2 * p.shape[1] ** -0.5)


def test_initial_values_follow_the_published_laws(generator):
    dataset = planted(40, 30, widths={"image": 80, "text": 50}, mean_interactions=11, seed=2)
    models = {name: MODELS[name](dataset, generator=generator) for name in ("VBPR", "MMGCN", "LATTICE", "MICRO")}
    models["FREEDOM"] = MODELS["FREEDOM"](dataset, lam=1e-3, generator=generator)
    vbpr, image, text = models["VBPR"], *(models["MMGCN"].branches[m] for m in ("image", "text"))
    laws = [(p, xavier_uniform) for name in set(models) - {"MMGCN"} for p in (models[name].users, models[name].items)]
    laws += [
        (layer.weight, default) for name in ("LATTICE", "MICRO", "FREEDOM") for layer in models[name].maps.values()
    ]
    laws += [(models["MICRO"].query.weight, default), (models["MICRO"].key, default), (vbpr.weight, xavier_normal)]
    laws += [(models["MMGCN"].id, xavier_normal), (image.users, xavier_normal), (text.users, xavier_normal)]
    laws += [(image.projection.weight, default)]
    for branch in (image, text):
        laws += [(c, xavier_normal) for c in branch.messages]
        laws += [(layer.weight, xavier_normal) for layer in [*branch.maps, branch.merges[0]]]
        laws += [(layer.weight, default) for layer in branch.merges[1:]]
    for values, law in laws:
        assert stats.kstest(values.detach().numpy().ravel(), law(values).cdf).pvalue > 1e-4
    layers = [layer for layer in models["MMGCN"].modules() if isinstance(layer, torch.nn.Linear)]
    scaled = torch.cat([layer.bias.detach() * layer.in_features**0.5 for layer in layers])
    assert stats.kstest(scaled.numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-4
    assert not vbpr.bias.any()


# Graphs


PAIRS = np.array([[0, 0], [0, 2], [1, 2], [3, 1]])  # user 2 and item 3 are isolated


@pytest.mark.parametrize("normalisation", ["mean", "mean_with_self"])
def test_mean_graphs_equal_the_dense_ones_and_so_do_their_gradients(normalisation, generator):
    adjacency = contact(dataset_of([], [], [], 4, 4), PAIRS)
    adjacency += torch.eye(8) if normalisation == "mean_with_self" else 0
    dense = adjacency / adjacency.sum(1, keepdim=True).clamp(min=1)
    graph = graphs.bipartite(PAIRS, 4, 4, normalisation).double()
    assert torch.allclose(graph.matrix.to_dense(), dense, rtol=1e-6)
    assert torch.allclose(graph.transposed.to_dense(), dense.T, rtol=1e-6)
    x = torch.randn(8, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    ours, plain = (torch.autograd.grad((y * weight).sum(), x)[0] for y in (graphs.propagate(graph, x), dense @ x))
    assert torch.allclose(ours, plain, rtol=1e-6)


@pytest.mark.parametrize("by_degree", [True, False])
def test_pruning_keeps_pairs_as_often_as_drawing_one_after_the_other_does(by_degree, generator):
    pairs = np.array([[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [2, 0], [3, 4]])
    degrees = [4 * 3, 4 * 1, 4 * 1, 4 * 1, 1 * 3, 1 * 3, 1 * 1]
    p = np.array(degrees) ** (-0.5 if by_degree else 0.0)
    p /= p.sum()
    expected = {pair: p[list(pair)].prod() * (1 / (1 - p[list(pair)])).sum() for pair in combinations(range(7), 2)}
    assert sum(expected.values()) == pytest.approx(1)
    counts, n = dict.fromkeys(expected, 0), 10_000
    rank = {tuple(pair): index for index, pair in enumerate(pairs.tolist())}
    for _ in range(n):
        counts[tuple(rank[tuple(pair)] for pair in graphs.prune(pairs, 0.7, generator, by_degree).tolist())] += 1
    # two of seven; a count that the enumeration lacks, or an order other than the pairs' own, is a KeyError
    assert stats.chisquare(list(counts.values()), n * np.array(list(expected.values()))).pvalue > 1e-3
    for edge in range(7):
        share = sum(q for pair, q in expected.items() if edge in pair)
        found = sum(c for pair, c in counts.items() if edge in pair) / n
        assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / n)


def test_pruning_rounds_down_the_float_product(generator):
    pairs = np.argwhere(np.ones((18, 10), dtype=bool))
    assert len(graphs.prune(pairs, 0.8, generator)) == 35  # 180 (1 - 0.8) is a little less than 36
    assert len(graphs.prune(pairs, 0.9, generator)) == 17
    assert len(graphs.prune(pairs[:3], 0.8, generator)) == 0
    assert (graphs.prune(pairs, 0.0, generator) == pairs).all()
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"'share' needs to be at least 0 and below 1 in 'prune' \(got {share}\)"):
            graphs.prune(pairs, share, generator)


def test_pruning_is_the_generators_alone():
    pairs = np.argwhere(np.ones((9, 10), dtype=bool))
    first, again, other = (graphs.prune(pairs, 0.5, generator_at(seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_the_weighted_graph_equals_its_definition_and_a_zero_row_keeps_itself():
    dataset = planted(40, 30, mean_interactions=11, seed=2)
    features = torch.from_numpy(dataset.features["text"])
    features[[4, 17]] = 0
    graph = torch.from_numpy(graphs.knn(features, 6, weighted=True).toarray()).double()
    own = torch.eye(30, dtype=torch.float64)[[4, 17]]
    assert torch.equal(graph[[4, 17]], own)
    assert torch.equal(graph[:, [4, 17]], own.T)
    others = [item for item in range(30) if item not in (4, 17)]
    dense = by_row_sums(kept_cosines(features[others].double(), 6))
    assert torch.allclose(graph[others][:, others], dense, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(dense, dense.T)


@pytest.fixture
def sparse_pieces(generator):
    """Features, distinct neighbours and values of ten nodes."""
    features, x = (torch.randn(10, 4, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    neighbours = torch.rand(10, 10, generator=generator).argsort(1)[:, :3]
    values = (torch.rand(10, 3, generator=generator, dtype=torch.float64) + 0.5).requires_grad_()
    return features, x, neighbours, values


def test_a_graph_of_neighbours_by_loops(sparse_pieces):
    features, x, neighbours, values = sparse_pieces
    dense = torch.zeros(10, 10, dtype=torch.float64)
    cosine = torch.zeros(10, 3, dtype=torch.float64)
    scaled, by_degree = torch.zeros_like(cosine), torch.zeros_like(cosine)
    degree = torch.arange(1.0, 11.0, dtype=torch.float64)
    with torch.no_grad():
        for i in range(10):
            for k, j in enumerate(neighbours[i].tolist()):
                dense[i, j] = values[i, k]
                cosine[i, k] = features[i] @ features[j] / (features[i].norm() * features[j].norm())
                scaled[i, k] = values[i, k] / (values[i].sum() * values[j].sum()).sqrt()
                by_degree[i, k] = values[i, k] / (degree[i] * degree[j]).sqrt()
        assert torch.allclose(graphs.cosines(features, neighbours), cosine)
        assert torch.allclose(graphs.normalise(neighbours, values), scaled)
        assert torch.allclose(graphs.normalise(neighbours, values, degree), by_degree)
        assert torch.allclose(graphs.gather(neighbours, values, x), dense @ x)
    assert graphs.directed(neighbours, values).toarray() == pytest.approx(dense.numpy(), rel=1e-6)
    missing = neighbours.clone()
    missing[2, 1:] = missing[7] = -1
    dense[2, neighbours[2, 1:]] = dense[7] = 0
    assert graphs.directed(missing, values).toarray() == pytest.approx(dense.numpy(), rel=1e-6)


def test_a_learned_graph_is_differentiable_in_features_values_and_what_it_smooths(sparse_pieces):
    features, x, neighbours, values = sparse_pieces

    def smoothed(features, values, x):
        learned = graphs.normalise(neighbours, values + graphs.cosines(features, neighbours) / 4)
        return graphs.gather(neighbours, learned, x)

    assert torch.autograd.gradcheck(smoothed, (features, values, x))


@pytest.mark.parametrize("modalities", [("image", "text"), ("audio", "image", "text"), ("audio", "text")])
def test_fusion_gives_the_image_its_weight(modalities):
    rng = np.random.default_rng(0)
    parts = {m: graphs.sp.csr_array(rng.random((6, 6)) * (rng.random((6, 6)) < 0.5)) for m in modalities}
    weights = {"image": 0.2} if "image" in parts else {}
    rest = (1 - sum(weights.values())) / (len(parts) - len(weights))
    dense = sum(weights.get(m, rest) * part.toarray() for m, part in parts.items())
    assert graphs.fuse(parts, 0.2).toarray() == pytest.approx(dense, rel=1e-6)


# Losses


def test_the_squared_norm_by_hand():
    a, b = torch.tensor([[1.0, 2.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0]])
    assert losses.squared_norm(a, b).item() == (1 + 4 + 4 + 9) / 2


@pytest.mark.parametrize("cells", [1, 70, 10_000])
@pytest.mark.parametrize("tau", [0.05, 0.5])
def test_streaming_two_view_contrast_equals_its_definition(generator, monkeypatch, cells, tau):
    monkeypatch.setitem(blocks.CELLS, "cpu", cells)  # one row at a time, ragged blocks, one block
    a, b = (torch.randn(17, 5, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    ours, plain = losses.two_view_contrast(a, b, tau), plain_contrast(a, b, tau)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-12)
    for x, y in zip(torch.autograd.grad(3 * ours, (a, b)), torch.autograd.grad(3 * plain, (a, b))):
        assert torch.allclose(x, y, rtol=1e-9, atol=1e-12)


def test_two_view_contrast_passes_gradcheck_also_where_one_view_contains_the_other(generator):
    a, b = (torch.randn(6, 3, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(losses.two_view_contrast, (a, b))
    assert torch.autograd.gradcheck(lambda a, b: losses.two_view_contrast(a, a + b), (a, b))
    assert losses.two_view_contrast(a, b).item() == pytest.approx(plain_contrast(a, b, 0.5).item())


# The loop


class Sliding(Recommender):
    """Adam moves `always`, whose gradient is 1, by its rate; `once` has a gradient in an epoch's first batch alone."""

    def __init__(self, dataset, lr_decay=1.0):
        super().__init__()
        self.lr_decay, self.path = lr_decay, []
        self.always, self.once = (torch.nn.Parameter(torch.zeros((), dtype=torch.float64)) for _ in range(2))
        self.register_buffer("flat", torch.zeros(dataset.n_users + dataset.n_items, 1))
        self.n_users = dataset.n_users

    def before_epoch(self, generator):
        self.first = True

    def loss(self, users, positives, negatives):
        terms = {"always": self.always, "once": 0.3 * self.once if self.first else torch.zeros(())}
        self.first = False
        return terms

    def vectors(self):
        return self.flat.split([self.n_users, len(self.flat) - self.n_users])

    def after_step(self):
        self.path.append((self.always.item(), self.once.item()))


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_the_rate_decays_by_its_factor_in_fifty_epochs(world, generator, decay):
    model = Sliding(world, decay)
    settings = {"lr": 0.1, "batch_size": 10_000, "epochs": 60, "patience": 100, "progress": False}
    training.fit(model, world, generator=generator, **settings)
    steps = -np.diff([0, *(always for always, _ in model.path)])
    assert steps == pytest.approx([0.1 * decay ** (epoch / 50) for epoch in range(60)], rel=1e-6)


def test_a_parameter_without_a_gradient_goes_on_with_its_momentum(world, generator):
    model = Sliding(world)
    batches = -(-len(world.train) // 100)
    training.fit(model, world, lr=0.1, batch_size=100, epochs=3, generator=generator, progress=False)
    plain = torch.zeros((), dtype=torch.float64, requires_grad=True)
    adam, path = torch.optim.Adam([plain], lr=0.1), []
    for step in range(3 * batches):
        plain.grad = torch.full_like(plain, 0.0 if step % batches else 0.3)
        adam.step()
        path.append(plain.item())
    assert [once for _, once in model.path] == pytest.approx(path, rel=1e-9)
    assert len(set(path)) == len(path)


def test_an_epochs_learned_graph_coasts_as_well(world):
    """LATTICE's maps, in a training of one epoch and several batches, against plain Adam on the first gradient."""
    model = MODELS["LATTICE"](world, dim=4, generator=generator_at(1)).double()
    layer = model.maps["text"]
    start, gradients = layer.weight.detach().clone(), []
    layer.weight.register_hook(lambda grad: gradients.append(grad.clone()))
    training.fit(model, world, lr=1e-2, batch_size=100, epochs=1, generator=generator_at(2), progress=False)
    assert len(gradients) == 1
    plain = start.requires_grad_()
    adam = torch.optim.Adam([plain], lr=1e-2)
    for step in range(-(-len(world.train) // 100)):
        plain.grad = torch.zeros_like(plain) if step else gradients[0]
        adam.step()
    assert torch.allclose(layer.weight, plain, rtol=1e-9)


def test_what_would_go_wrong_silently_is_refused(generator):
    a, b = torch.randn(5, 3), torch.randn(7, 3)
    with pytest.raises(ValueError, match=r"'anchor' and 'other' need the same shape in 'two_view_contrast' \(got"):
        losses.two_view_contrast(a, b)
    with pytest.raises(ValueError, match=r"'tau' needs to be above 0 in 'two_view_contrast' \(got 0\)"):
        losses.two_view_contrast(a, a, 0)
    one = planted(40, 30, widths={"image": 6}, mean_interactions=11)
    for name in ("FREEDOM", "FREEDOM+SEA"):
        with pytest.raises(
            ValueError, match=r"'dataset' needs at least two modalities in 'FREEDOM' \(got \['image'\]\)"
        ):
            MODELS[name](one, generator=generator)
    with pytest.raises(ValueError, match=r"'lam' needs to be above 0 in 'FREEDOMSEA'.* \(got -1\)"):
        MODELS["FREEDOM+SEA"](planted(40, 30, mean_interactions=11), lam=-1, generator=generator)
