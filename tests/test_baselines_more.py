"""LayerGCN, SLMRec, BM3 and MGCN once more, from their published equations: dense matrices, double precision."""

import inspect

import numpy as np
import pytest
import test_baselines
import torch
from scipy import stats
from test_baselines import (
    both_ends,
    built,
    by_row_sums,
    contact,
    contents,
    default,
    generator_at,
    kept_cosines,
    kept_pairs,
    mean_of_powers,
    nudge,
    preference,
    same_terms_and_gradients,
    same_vectors,
    unit,
    w3,
    xavier_normal,
    xavier_uniform,
)
from test_models import batch, in_order

from sea import graphs
from sea.data import planted
from sea.layers import dropout
from sea.models import MODELS

toy = test_baselines.toy  # a user and an item of it have no train interaction


def w2(*rows):
    return sum((table**2).sum() for table in rows) / 2


def softmax_of_the_diagonal(a, b, tau):
    """-mean log softmax of a b' / tau at the diagonal, a row at a time."""
    return sum((b @ x / tau).exp().sum().log() - y @ x / tau for x, y in zip(a, b)) / len(a)


# LayerGCN


def plain_layergcn(model, dataset, pairs, layers=4, **_):
    matrix = both_ends(contact(dataset, pairs))
    linked = matrix.any(1)
    start = layer = torch.cat([model.users, model.items])
    outputs = []
    for _ in range(layers):
        step = (matrix @ layer)[linked]
        cosine = (unit(step) * unit(start[linked])).sum(1, keepdim=True)
        layer = torch.zeros_like(start).index_put((linked,), cosine * step)  # a cosine of nothing is 0
        outputs.append(layer)
    total = sum(outputs)
    return total[: dataset.n_users], total[dataset.n_users :]


def plain_layergcn_terms(model, vectors, rows, reg=1e-3, **_):
    (users, items), (u, p, n) = vectors, rows
    rec = len(u) * preference(users[u], items[p], items[n])
    return {"rec": rec, "reg": reg * w2(model.users[u], model.items[p], model.items[n])}


@pytest.mark.parametrize("settings", [{}, {"layers": 2, "dropped": 0.7, "reg": 0.3}])
def test_layergcn_equals_the_plain_form_of_its_equations_and_drops_edges_by_degree_in_every_other_epoch(
    toy, generator, settings
):
    model, share = built("LayerGCN", toy, generator, **settings), settings.get("dropped", 0.1)
    for epoch in range(4):
        by_degree, evenly = (graphs.prune(toy.train, share, generator_at(epoch), how) for how in (True, False))
        assert len(by_degree) == int(len(toy.train) * (1 - share))
        assert (by_degree != evenly).any()
        model.before_epoch(generator_at(epoch))
        pairs = by_degree if epoch in (0, 2) else evenly
        assert {tuple(pair) for pair in kept_pairs(model)} == {tuple(pair) for pair in pairs}
        rows = batch(toy, 50, generator)
        plain = plain_layergcn(model, toy, pairs, **settings)
        same_terms_and_gradients(model, model.loss(*rows), plain_layergcn_terms(model, plain, rows, **settings))
        same_vectors(model, plain_layergcn(model, toy, toy.train, **settings))
        nudge(model, generator)


def test_layergcn_without_pruning_trains_on_the_whole_graph(toy, generator):
    model, state = built("LayerGCN", toy, generator, dropped=0.0), generator.get_state()
    model.before_epoch(generator)
    assert torch.equal(generator.get_state(), state)
    rows = batch(toy, 50, generator)
    plain = plain_layergcn(model, toy, toy.train)
    same_terms_and_gradients(model, model.loss(*rows), plain_layergcn_terms(model, plain, rows))


def test_layergcns_terms_are_sums_over_the_batch(toy, generator):
    model, rows = built("LayerGCN", toy, generator), batch(toy, 20, generator)
    once, twice = model.loss(*rows), model.loss(*(torch.cat([column, column]) for column in rows))
    assert all(twice[name].item() == pytest.approx(2 * once[name].item()) for name in once)


def test_layergcn_goes_on_alternating_where_a_training_was_cut(world):
    first, second = (MODELS["LayerGCN"](world, dropped=0.5, generator=generator_at(1)) for _ in range(2))
    first.before_epoch(generator_at(1))
    second.load_state_dict(first.state_dict())
    for model in (first, second):
        model.before_epoch(generator_at(2))
        expected = graphs.prune(world.train, 0.5, generator_at(2), by_degree=False)
        assert {tuple(pair) for pair in kept_pairs(model)} == {tuple(pair) for pair in expected}


# SLMRec


def plain_slmrec(model, dataset, layers=3, **_):
    """Fused vectors, and item vectors by channel, the ids' first."""
    matrix = both_ends(contact(dataset, dataset.train))
    users, items = [], []
    for m, source in {"id": model.items, **contents(dataset)}.items():
        nodes = torch.cat([model.users, source if m == "id" else model.maps[m](unit(source))])
        mean = sum(torch.linalg.matrix_power(matrix, power) @ nodes for power in range(layers + 1)) / (layers + 1)
        users.append(mean[: dataset.n_users])
        items.append(mean[dataset.n_users :])
    return (model.fuse_users(torch.cat(users, dim=1)), model.fuse_items(torch.cat(items, dim=1))), items


def plain_chain(model, channels, tau):
    """For two modalities, the published row's chain; for three, the authors', which compares the middle one as well."""
    (g1, g3), g4 = model.chain, model.last
    g2, *middle, g5 = model.heads
    ids, first, *rest = channels
    total = softmax_of_the_diagonal(g1(ids), g2(first), tau)
    if middle:
        total = total + softmax_of_the_diagonal(g3(g1(ids)), middle[0](rest[0]), tau)
    return total + softmax_of_the_diagonal(g4(g3(g1(ids))), g5(rest[-1]), tau)


def plain_slmrec_terms(model, dataset, rows, tau=0.2, contrast=0.1, decay=1e-4, **settings):
    (users, items), channels = plain_slmrec(model, dataset, **settings)
    u, p, _ = rows
    return {
        "rec": softmax_of_the_diagonal(unit(users[u]), unit(items[p]), 0.2),
        "contrast": contrast * plain_chain(model, [channel[p] for channel in channels], tau),
        "decay": decay / 2 * sum((p**2).sum() for p in model.parameters()),
    }


@pytest.mark.parametrize("settings", [{}, {"layers": 1, "tau": 0.05, "contrast": 3.0, "decay": 0.2}])
def test_slmrec_equals_the_plain_form_of_its_equations(toy, generator, settings):
    model = built("SLMRec", toy, generator, **settings)
    for _ in range(2):
        rows = batch(toy, 50, generator)
        assert min(len(column.unique()) for column in rows[:2]) < 50  # repeated ones count among the negatives
        same_terms_and_gradients(model, model.loss(*rows), plain_slmrec_terms(model, toy, rows, **settings))
        same_vectors(model, plain_slmrec(model, toy, **settings)[0])
        nudge(model, generator)


def test_slmrecs_layers_are_the_published_ones(world, toy, generator):
    shapes = {name: tuple(p.shape) for name, p in MODELS["SLMRec"](world, generator=generator).named_parameters()}
    dense = {"maps.image": (64, 12), "maps.text": (64, 7), "fuse_users": (64, 192), "fuse_items": (64, 192)}
    dense |= {"chain.0": (64, 64), "chain.1": (64, 64), "last": (32, 64), "heads.0": (64, 64), "heads.1": (32, 64)}
    expected = {"users": (60, 64), "items": (40, 64)} | {f"{name}.weight": shape for name, shape in dense.items()}
    assert shapes == expected | {f"{name}.bias": shape[:1] for name, shape in dense.items()}
    model = built("SLMRec", toy, generator)
    assert len(model.heads) == len(toy.features)


def test_slmrecs_decay_is_adams(toy):
    """Three steps with the term, against three with Adam's own L2 in the gradient: everything gets a gradient."""
    with_term, adams = (built("SLMRec", toy, generator_at(1)) for _ in range(2))
    optimizers = [torch.optim.Adam(m.parameters(), 1e-2, weight_decay=w) for m, w in ((with_term, 0), (adams, 1e-4))]
    for step in range(3):
        for model, optimizer in zip((with_term, adams), optimizers):
            terms = model.loss(*batch(toy, 50, generator_at(step)))
            optimizer.zero_grad()
            sum(value for name, value in terms.items() if model is with_term or name != "decay").backward()
            optimizer.step()
    start = built("SLMRec", toy, generator_at(1))
    for (name, a), b, before in zip(with_term.named_parameters(), adams.parameters(), start.parameters()):
        assert b.grad is not None, name
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12), name
        assert (b != before).all(), name  # rows without an interaction as well


# BM3


def one_minus_cosine(x, y):
    return 1 - ((x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1)).clamp(min=1e-8)).mean()


def plain_bm3(model, dataset, layers=1, **_):
    """u and i, before the predictor."""
    users, items = mean_of_powers(both_ends(contact(dataset, dataset.train)), model, layers)
    return users, items + model.items


def plain_bm3_terms(model, dataset, rows, masks, drop=0.5, reg=0.1, **settings):
    users, items = plain_bm3(model, dataset, **settings)
    u, i = users[rows[0]], items[rows[1]]
    u_hat, i_hat, *f_hats = (mask / (1 - drop) for mask in masks)
    u_hat, i_hat = u_hat * u.detach(), i_hat * i.detach()
    modalities = 0
    for m, f_hat in zip(in_order(dataset), f_hats, strict=True):
        f = model.features[m][rows[1]] @ model.maps[m].weight.T + model.maps[m].bias
        predicted = model.predictor(f)
        modalities = modalities + one_minus_cosine(predicted, i_hat)
        modalities = modalities + one_minus_cosine(predicted, f_hat * f.detach())
    return {
        "rec": one_minus_cosine(model.predictor(u), i_hat) + one_minus_cosine(model.predictor(i), u_hat),
        "modalities": 2 * modalities,
        "reg": reg * ((users**2).sum().sqrt() + (items**2).sum().sqrt()) / dataset.n_items,
    }


@pytest.mark.parametrize("settings", [{}, {"layers": 2, "drop": 0.3, "reg": 0.7}, {"drop": 0.0}])
def test_bm3_equals_the_plain_form_of_its_equations(toy, generator, settings):
    model = built("BM3", toy, generator, **settings)
    for epoch in range(2):
        rows, draws = batch(toy, 50, generator), generator_at(epoch)
        assert max(len(column.unique()) for column in rows[:2]) < 50  # of which both rows have the same mask
        sides = [(40, rows[0])] + [(30, rows[1])] * (1 + len(toy.features))
        masks = [(torch.rand(n, 4, generator=draws) >= settings.get("drop", 0.5))[ids] for n, ids in sides]
        model.before_epoch(generator_at(epoch))
        model.train(epoch == 0)
        same_terms_and_gradients(model, model.loss(*rows), plain_bm3_terms(model, toy, rows, masks, **settings))
        same_vectors(model, [model.predictor(rows) for rows in plain_bm3(model, toy, **settings)])
        nudge(model, generator)


def test_bm3s_targets_pass_no_gradient_on_and_its_dropouts_are_new_in_every_batch(toy, generator):
    model, rows = built("BM3", toy, generator), batch(toy, 50, generator)
    model.before_epoch(generator_at(0))
    first, second = (model.loss(*rows) for _ in range(2))
    assert first["rec"].item() != second["rec"].item()
    assert first["modalities"].item() != second["modalities"].item()
    assert first["reg"].item() == second["reg"].item()
    reached = torch.autograd.grad(first["modalities"], [model.users, model.items], allow_unused=True)
    assert reached == (None, None)  # ids occur in it as a target alone
    with torch.no_grad():
        model.predictor.weight.zero_()  # what is predicted is now a constant: targets alone depend on u, i and f
        model.predictor.bias.fill_(1)
    terms, tables = model.loss(*rows), [p for name, p in model.named_parameters() if "predictor" not in name]
    gradients = torch.autograd.grad(terms["rec"] + terms["modalities"], tables, materialize_grads=True)
    assert all(not g.any() for g in gradients)


# MGCN


def plain_mgcn(model, dataset, layers=2, k=10, **_):
    """H, side, the gated specifics by modality, C, and what is neither gated nor common: Z_m and a_m."""
    matrix = both_ends(contact(dataset, dataset.train))
    block = matrix[: dataset.n_users, dataset.n_users :]
    behaviour, views, scores = torch.cat(mean_of_powers(matrix, model, layers)), {}, {}
    for m, raw in contents(dataset).items():
        projected = model.features[m] @ model.maps[m].weight.T + model.maps[m].bias
        items = by_row_sums(kept_cosines(raw, k)) @ (model.items * torch.sigmoid(model.purify[m](projected)))
        views[m] = torch.cat([block @ items, items])
        scores[m] = torch.tanh(views[m] @ model.query.weight.T + model.query.bias) @ model.key[0]
    attention = {m: score.exp() / sum(s.exp() for s in scores.values()) for m, score in scores.items()}
    common = sum(attention[m][:, None] * views[m] for m in views)
    specific = {m: torch.sigmoid(model.prefer[m](behaviour)) * (views[m] - common) for m in views}
    side = (sum(specific.values()) + common) / (len(views) + 1)
    return behaviour, side, specific, common, views, attention


def plain_mgcn_terms(behaviour, side, rows, n_users, reg=1e-4, contrast=1e-2, **_):
    h, s = ([table[:n_users][rows[0]], *(table[n_users:][items] for items in rows[1:])] for table in (behaviour, side))
    u, p, n = (x + y for x, y in zip(h, s))
    pulled = [softmax_of_the_diagonal(unit(s[which]), unit(h[which]), 0.2) for which in (0, 1)]
    return {"rec": preference(u, p, n), "reg": reg * w3(u, p, n), "contrast": contrast * sum(pulled)}


@pytest.mark.parametrize("settings", [{}, {"layers": 1, "k": 4, "reg": 0.5, "contrast": 2.0}])
def test_mgcn_equals_the_plain_form_of_its_equations(toy, generator, settings):
    model = built("MGCN", toy, generator, **settings)
    for _ in range(2):
        model.before_epoch(generator)
        behaviour, side, *_ = plain_mgcn(model, toy, **settings)
        rows = batch(toy, 50, generator)
        terms = plain_mgcn_terms(behaviour, side, rows, toy.n_users, **settings)
        same_terms_and_gradients(model, model.loss(*rows), terms)
        same_vectors(model, (behaviour + side).split([toy.n_users, toy.n_items]))
        nudge(model, generator)  # K_m stays that of the raw features


def test_mgcns_parts_are_the_plain_ones_and_its_specifics_are_subtracted(toy, generator):
    model = built("MGCN", toy, generator)
    nudge(model, generator)
    behaviour, _, specific, common, views, attention = plain_mgcn(model, toy)
    ours = model.parts()
    for a, b in zip((ours[0], *ours[1].values(), ours[2]), (behaviour, *specific.values(), common), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-6 * b.abs().max().item())
    assert list(ours[1]) == in_order(toy)
    if len(toy.features) == 2:  # the two modalities' differences from the common part are anti-parallel
        a, b = in_order(toy)
        difference = views[a] - views[b]
        assert torch.allclose(views[a] - common, attention[b][:, None] * difference, atol=1e-9)
        assert torch.allclose(views[b] - common, -attention[a][:, None] * difference, atol=1e-9)


# All four


@pytest.mark.parametrize("name", ["SLMRec", "BM3"])
def test_the_models_without_negatives_do_without_them(toy, generator, name):
    model, (users, positives, negatives) = built(name, toy, generator), batch(toy, 50, generator)
    found = []
    for other in (negatives, negatives.flip(0)):
        model.before_epoch(generator_at(0))
        found.append({term: value.item() for term, value in model.loss(users, positives, other).items()})
    assert found[0] == found[1]


PUBLISHED = {
    "LayerGCN": {"lr": 1e-3, "dim": 64, "layers": 4, "dropped": 0.1, "reg": 1e-3},
    "SLMRec": {"lr": 1e-3, "dim": 64, "layers": 3, "tau": 0.2, "contrast": 0.1, "decay": 1e-4},
    "BM3": {"lr": 1e-3, "dim": 64, "layers": 1, "drop": 0.5, "reg": 0.1},
    "MGCN": {"lr": 1e-3, "dim": 64, "layers": 2, "k": 10, "reg": 1e-4, "contrast": 1e-2},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_defaults_are_the_published_ones(name):
    parameters = inspect.signature(MODELS[name]).parameters
    defaults = {key: p.default for key, p in parameters.items() if key not in ("dataset", "generator")}
    assert {"lr": MODELS[name].lr, **defaults} == PUBLISHED[name]
    assert MODELS[name].lr_decay == (0.96 if name == "MGCN" else 1)


def test_trained_and_frozen_features(world, generator):
    for name in PUBLISHED:
        model = MODELS[name](world, generator=generator)
        trained = {p for p, _ in model.named_parameters() if p.startswith("features")}
        assert trained == ({"features.image", "features.text"} if name in ("BM3", "MGCN") else set())
        assert all(p.requires_grad for p in model.parameters())
        if name == "SLMRec":
            for m, values in contents(world).items():
                assert torch.allclose(model.features[m].double(), unit(values), rtol=1e-5)


def test_initial_values_follow_the_published_laws(generator):
    dataset = planted(40, 30, widths={"image": 80, "text": 50}, mean_interactions=11, seed=2)
    models = {name: MODELS[name](dataset, generator=generator) for name in PUBLISHED}
    laws = [(table, xavier_uniform) for model in models.values() for table in (model.users, model.items)]
    slmrec, bm3, mgcn = models["SLMRec"], models["BM3"], models["MGCN"]
    layers = {
        model: [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
        for model in (slmrec, bm3, mgcn)
    }
    for model, law in ((slmrec, xavier_uniform), (bm3, xavier_normal), (mgcn, default)):
        laws += [(layer.weight, law) for layer in layers[model]]
        biases = torch.cat([layer.bias.detach() * layer.in_features**0.5 for layer in layers[model]])
        assert stats.kstest(biases.numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-4
    laws += [(mgcn.key, default)]
    for values, law in laws:
        assert stats.kstest(values.detach().numpy().ravel(), law(values).cdf).pvalue > 1e-4
    assert [len(layers[model]) for model in (slmrec, bm3, mgcn)] == [9, 3, 7]
    for model in (bm3, mgcn):
        assert all((model.features[m] == torch.from_numpy(x)).all() for m, x in dataset.features.items())


# What they share


def test_interactions_are_the_blocks_of_the_dense_matrices():
    pairs = np.array([[0, 0], [0, 2], [1, 2], [3, 1]])  # user 2 and items 3 and 4 are isolated
    dense = np.zeros((4, 5))
    dense[tuple(pairs.T)] = 1
    by_user, by_item = dense.sum(1, keepdims=True).clip(1), dense.sum(0).clip(1)
    expected = {"symmetric": dense / np.sqrt(by_user * by_item), "sum": dense}
    expected |= {"mean": dense / by_user, "root": dense / np.sqrt(by_user)}
    for normalisation, matrix in expected.items():
        found = graphs.user_by_item(pairs, 4, 5, normalisation)
        assert (found.format, found.shape, found.dtype) == ("csr", (4, 5), np.float32)
        assert found.toarray() == pytest.approx(matrix, rel=1e-6)
        assert found.nnz == len(pairs)
    block = graphs.bipartite(pairs, 4, 5).matrix.to_dense()[:4, 4:]
    assert (graphs.user_by_item(pairs, 4, 5).toarray() == block.numpy()).all()


@pytest.mark.parametrize("p", [0.3, 0.5])
def test_dropout_zeroes_a_share_scales_the_rest_and_is_the_generators_alone(p):
    x = torch.full((200, 100), 3.0, dtype=torch.float64, requires_grad=True)
    first, again, other = (dropout(x, p, generator_at(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert sorted(set(first.flatten().tolist())) == pytest.approx([0, 3 / (1 - p)])
    dropped = (first == 0).sum().item()
    assert stats.binomtest(dropped, x.numel(), p).pvalue > 1e-4
    gradient = torch.autograd.grad(first.sum(), x)[0]
    assert torch.allclose(gradient, first.detach() / 3)


def test_dropout_of_nothing_draws_nothing_and_of_everything_is_refused(generator):
    x, state = torch.randn(3, 4, generator=generator), generator.get_state()
    assert torch.equal(dropout(x, 0.0, generator), x)
    assert torch.equal(generator.get_state(), state)
    for p in (-0.1, 1.0):
        with pytest.raises(ValueError, match=rf"'p' needs to be at least 0 and below 1 in 'dropout' \(got {p}\)"):
            dropout(x, p, generator)
