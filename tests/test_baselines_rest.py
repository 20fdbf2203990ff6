"""DualGNN, PAMD, MMSSL and LGMRec once more, from their published equations: dense matrices, double precision."""

import copy
import dataclasses

import numpy as np
import pytest
import test_baselines
import torch
import torch.nn.functional as F
from conftest import dataset_of
from scipy import stats
from test_baselines import (
    PAIRS,
    both_ends,
    built,
    contact,
    contents,
    default,
    generator_at,
    mean_of_powers,
    nudge,
    plain_contrast,
    preference,
    same_terms_and_gradients,
    same_vectors,
    unit,
    w1,
    w3,
    xavier_normal,
    xavier_uniform,
)
from test_models import batch

from sea import blocks, graphs, losses
from sea import train as training
from sea.data import planted
from sea.models import MODELS

toy = test_baselines.toy  # a user and an item of it have no train interaction


def unit_or_zero(x):
    """x / max(‖x‖, 1e-12) by rows; rows of zeros stay as they are, with no gradient."""
    rows = (x * x).sum(1) > 0
    norms = (x[rows] ** 2).sum(1, keepdim=True).sqrt().clamp(min=1e-12)
    return torch.zeros_like(x).index_put((rows,), x[rows] / norms)


def bought(dataset):
    """R."""
    return contact(dataset, dataset.train)[: dataset.n_users, dataset.n_users :]


def softmax(x):
    e = (x - x.amax(1, keepdim=True).detach()).exp()
    return e / e.sum(1, keepdim=True)


def affine(x, layer):
    return x @ layer.weight.T + layer.bias


def replay(generator):
    """Another generator that is about to draw the same."""
    return torch.Generator().set_state(generator.get_state())


# DualGNN


def plain_neighbours(dataset, k):
    """Each user's list of (other, items in common), most first, then smaller ids."""
    shared = bought(dataset) @ bought(dataset).T
    lists = []
    for user, row in enumerate(shared.long().tolist()):
        others = [(other, count) for other, count in enumerate(row) if count and other != user]
        lists.append(sorted(others, key=lambda pair: (-pair[1], pair[0]))[:k])
    return lists


def plain_dualgnn(model, dataset, neighbours):
    matrix, views = both_ends(contact(dataset, dataset.train)), []
    for m, x in contents(dataset).items():
        mapped = affine(F.leaky_relu(affine(x, model.maps[m][0]), 0.01), model.maps[m][2])
        x = unit(torch.cat([model.tables[m], mapped]))
        views.append(x + matrix @ x + matrix @ (matrix @ x))
    items = sum(views)[dataset.n_users :]
    views[0] = sum(views)  # what the published program's sum in place does
    users = sum(model.user_weights[:, [m]] * view[: dataset.n_users] for m, view in enumerate(views))
    weights = torch.zeros(dataset.n_users, dataset.n_users, dtype=torch.float64)
    for user, others in enumerate(plain_neighbours(dataset, neighbours)):
        if others:
            filled = [others[slot] for slot in model.slots[user].tolist()]
            assert filled[: len(others)] == others
            assert len(filled) == neighbours
            total = sum(np.exp(float(count)) for _, count in filled)
            for other, count in filled:
                weights[user, other] += np.exp(float(count)) / total
    return users + weights @ users, items


@pytest.mark.parametrize("settings", [{}, {"neighbours": 5, "reg": 2.0}, {"neighbours": 60}])
def test_dualgnn_equals_the_plain_form_of_its_equations(toy, generator, settings):
    model = built("DualGNN", toy, generator, **settings)
    nudge(model, generator)  # the weights of a user no longer sum to 1
    for _ in range(2):
        model.before_epoch(generator)
        users, items = plain_dualgnn(model, toy, settings.get("neighbours", 40))
        same_vectors(model, (users, items))
        u, p, n = batch(toy, 50, generator)
        squares = [(table[u] ** 2).mean() for table in model.tables.values()]
        squares += [(model.user_weights**2).mean(), (model.item_weights**2).mean()]
        terms = {
            "rec": preference(users[u], items[p], items[n]) / np.log(2),
            "reg": settings.get("reg", 1e-3) * sum(squares),
        }
        same_terms_and_gradients(model, model.loss(u, p, n), terms)
        nudge(model, generator)


@pytest.fixture
def trios():
    """Users 3i, 3i + 1 and 3i + 2 share an item, and nobody else does."""
    train = [(user, user // 3) for user in range(3000)]
    return dataset_of(train, [(0, 1)], [(0, 2)], 3000, 1000)


def test_a_short_list_is_filled_up_by_draws_from_what_it_then_holds(trios, generator):
    model = MODELS["DualGNN"](trios, neighbours=10, generator=generator)
    first = model.slots.clone()
    model.before_epoch(generator)
    assert (model.slots[:, :2] == torch.tensor([0, 1])).all()
    for slots in (first, model.slots):  # from one and one, all shares of the other eight are as likely
        counts = np.bincount((slots[:, 2:] == 0).sum(1).numpy(), minlength=9)
        assert stats.chisquare(counts).pvalue > 1e-3
    changed = (first != model.slots).any(1).float().mean()
    assert 0.9 < changed < 1  # the same list comes again by chance


def test_a_reloaded_dualgnn_has_the_lists_that_it_was_stored_with(trios):
    first, second = (MODELS["DualGNN"](trios, neighbours=10, generator=generator_at(seed)) for seed in (1, 2))
    second.vectors()
    second.load_state_dict(first.state_dict())
    for a, b in zip(first.vectors(), second.vectors()):
        assert torch.equal(a, b)
    second.before_epoch(generator_at(3))
    assert not torch.equal(first.vectors()[0], second.vectors()[0])


@pytest.mark.parametrize("cells", [1, 200, 10_000])
@pytest.mark.parametrize("k", [1, 6, 60])
def test_common_neighbours_by_brute_force(toy, monkeypatch, cells, k):
    monkeypatch.setitem(blocks.CELLS, "cpu", cells)
    found, counts = graphs.common_neighbours(toy.train, toy.n_users, toy.n_items, k)
    for user, others in enumerate(plain_neighbours(toy, k)):
        missing = k - len(others)
        assert found[user].tolist() == [other for other, _ in others] + [-1] * missing
        assert counts[user].tolist() == [count for _, count in others] + [0] * missing
    assert (found[5] == -1).all()  # has no train interaction


# LGMRec


def plain_lgmrec(model, dataset, draws, keep, layers=2, hyper_layers=1, alpha=0.3, **_):
    """Final vectors, and each modality's hypergraph vectors; noise and dropout from `draws`."""
    matrix, buys = both_ends(contact(dataset, dataset.train)), bought(dataset)
    ids = mean_of_powers(matrix, model, layers)
    local, found = torch.cat(ids), []
    for m, x in contents(dataset).items():
        items = x @ model.maps[m]
        users = buys @ items / buys.sum(1, keepdim=True).clamp(min=1)
        local = local + unit_or_zero(matrix @ matrix @ torch.cat([users, items]))
        logits = x @ model.hyper[m]
        shares = []
        for side in (logits, buys @ logits):
            gumbel = -torch.empty(side.shape).exponential_(generator=draws).log()
            share = softmax((side + gumbel) / 0.2)
            shares.append(share * (torch.rand(side.shape, generator=draws) >= 1 - keep) / keep if keep < 1 else share)
        rows = ids[1]
        for _ in range(hyper_layers):
            edges = shares[0].T @ rows
            rows = shares[0] @ edges
        found.append((shares[1] @ edges, rows))
    out = local + alpha * unit_or_zero(torch.cat([sum(u for u, _ in found), sum(i for _, i in found)]))
    return (out[: dataset.n_users], out[dataset.n_users :]), found


def plain_contrast_with_all(a, b, rows, tau=0.2):
    """T, the sum over `rows`."""
    e = (unit_or_zero(a)[rows] @ unit_or_zero(b).T / tau).exp()
    return -(e[range(len(rows)), rows] / e.sum(1)).log().sum()


HYPER = {"hyper_layers": 3, "edges": 7, "keep": 0.2, "alpha": 0.9, "layers": 1, "contrast": 0.5, "reg": 0.1}


@pytest.mark.parametrize("settings", [{}, HYPER, {"keep": 1.0}])
def test_lgmrec_equals_the_plain_form_of_its_equations(toy, generator, settings):
    model = built("LGMRec", toy, generator, **settings)
    model.before_epoch(generator_at(5))
    for _ in range(3):
        rows = u, p, n = batch(toy, 50, generator)
        (users, items), found = plain_lgmrec(model, toy, replay(model.generator), **({"keep": 0.5} | settings))
        contrast = 0
        for b in range(len(found)):
            for a in range(b):
                contrast += plain_contrast_with_all(found[a][0], found[b][0], u)
                contrast += plain_contrast_with_all(found[a][1], found[b][1], p)
        terms = {
            "rec": preference(users[u], items[p], items[n]),
            "contrast": settings.get("contrast", 1e-4) * contrast,
            "reg": settings.get("reg", 1e-6) * w1(users[u], items[p], items[n]),
        }
        same_terms_and_gradients(model, model.loss(*rows), terms)
        same_vectors(model, plain_lgmrec(model, toy, generator_at(0), **(settings | {"keep": 1.0}))[0])
        nudge(model, generator)


def test_lgmrec_trains_with_fresh_noise_and_scores_with_one(world, generator):
    model = MODELS["LGMRec"](world, generator=generator)
    model.before_epoch(generator_at(5))
    rows = batch(world, 40, generator)
    scores = model.train().vectors()
    before = model.generator.get_state()
    assert all(torch.equal(a, b) for a, b in zip(scores, model.eval().vectors()))
    assert torch.equal(before, model.generator.get_state())
    first, second = (model.loss(*rows) for _ in range(2))
    assert all(first[key] != second[key] for key in ("rec", "contrast"))
    model.before_epoch(generator_at(5))
    assert first["rec"] == model.loss(*rows)["rec"]
    assert all(torch.equal(a, b) for a, b in zip(scores, model.vectors()))


def test_the_most_of_an_item_is_in_an_edge_as_often_as_its_softmax_says(generator):
    from sea.models.lgmrec import _soft

    logits = torch.tensor([1.0, 0.0, -1.0, 0.5]).expand(20_000, 4)
    shares = _soft(logits, 0.0, generator)
    assert torch.allclose(shares.sum(1), torch.ones(20_000))
    counts = np.bincount(shares.argmax(1).numpy(), minlength=4)
    assert stats.chisquare(counts, 20_000 * softmax(logits[:1].double())[0].numpy()).pvalue > 1e-3
    dropped = _soft(logits, 0.3, generator) == 0
    assert dropped.float().mean().item() == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("cells", [1, 70, 10_000])
@pytest.mark.parametrize("tau", [0.01, 0.2])
def test_streaming_contrast_with_all_equals_its_definition(generator, monkeypatch, cells, tau):
    monkeypatch.setitem(blocks.CELLS, "cpu", cells)
    a, b = (torch.randn(17, 5, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    rows = torch.tensor([3, 16, 3, 0, 9, 3, 11])
    ours, plain = losses.contrast_with_all(a, b, rows, tau), plain_contrast_with_all(a, b, rows, tau) / 7
    assert ours.item() == pytest.approx(plain.item(), rel=1e-12)
    for x, y in zip(torch.autograd.grad(3 * ours, (a, b)), torch.autograd.grad(3 * plain, (a, b))):
        assert torch.allclose(x, y, rtol=1e-9, atol=1e-12)
    every = losses.contrast_with_all(a, b, torch.arange(17), tau)
    assert every.item() == pytest.approx(losses.solosim(a, b, tau).item(), rel=1e-12)


def test_contrast_with_all_passes_gradcheck_also_with_itself(generator):
    a, b = (torch.randn(6, 3, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    rows = torch.tensor([2, 2, 5])
    assert torch.autograd.gradcheck(lambda a, b: losses.contrast_with_all(a, b, rows), (a, b))
    assert torch.autograd.gradcheck(lambda a: losses.contrast_with_all(a, a, rows), a)


# PAMD


def plain_codes(model, features):
    """Common, then specific, in the order of the modalities."""
    common, specific = {}, {}
    for m, x in features.items():
        code = affine(x, model.encoders[m])
        common[m] = code @ model.common[m]
        specific[m] = code - common[m]
    return common, specific


def plain_stage_1(model, features):
    common, specific = plain_codes(model, features)
    total = 0
    for a in features:
        for b in features:
            if a < b:
                total = total + ((common[a] - common[b]) ** 2).mean()
                total = total + ((specific[a] @ specific[b].T).diagonal() ** 2).mean()
            if a != b:
                decoded = (affine(y, model.decoders[a][b]) for y in (common[b], common[b] + specific[b], specific[b]))
                e_c, e_z, e_s = (((unit(features[a]) * unit(y)).sum(1) / 0.5).exp() for y in decoded)
                total = total - (e_c / (e_c + e_z + e_s)).log().mean() - (e_z / (e_z + e_s)).log().mean()
    return total


@pytest.mark.parametrize("modalities", [("image", "text"), ("audio", "image", "text")])
def test_pamds_first_stage_equals_its_plain_form_with_plain_adam(modalities):
    dataset = planted(40, 130, widths=dict(zip(modalities, (9, 12, 7))), mean_interactions=11, seed=2)
    model = built("PAMD", dataset, generator_at(1), pretrain=3, decay=0.1)
    plain = copy.deepcopy(model)
    tables = model.users.clone(), model.items.clone()
    model.before_epoch(generator_at(5))
    learned = [p for name, p in plain.named_parameters() if name not in ("users", "items")]
    adam = torch.optim.Adam([p.requires_grad_(True) for p in learned], lr=1e-3, weight_decay=0.1)
    draws, features = generator_at(5), contents(dataset)
    for _ in range(3):
        order = torch.randperm(130, generator=draws)
        for items in (order[:100], order[100:]):
            adam.zero_grad()
            plain_stage_1(plain, {m: x[items] for m, x in features.items()}).backward()
            adam.step()
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters()):
        assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-9), name
    assert torch.equal(model.users, tables[0]) and torch.equal(model.items, tables[1])
    assert all(p.grad is None for p in model.parameters())


def test_pamds_first_stage_orders_the_codes_of_an_item(world):
    model = MODELS["PAMD"](world, generator=generator_at(1))
    features = {m: torch.from_numpy(x) for m, x in world.features.items()}
    before = plain_stage_1(model, features).item()
    model.before_epoch(generator_at(5))
    with torch.no_grad():
        assert plain_stage_1(model, features).item() < before / 2
        common, specific = model.parts()
        for a, b in (("image", "text"), ("text", "image")):
            decoder = model.decoders[a][b]
            c, z, s = (
                F.cosine_similarity(features[a], decoder(y)).mean()
                for y in (common[b], common[b] + specific[b], specific[b])
            )
            assert c > z > s
        assert (F.cosine_similarity(specific["image"], specific["text"]) ** 2).mean() < 0.05


def test_pamds_first_stage_is_run_once_also_after_a_reload(world, generator):
    model = MODELS["PAMD"](world, pretrain=2, generator=generator_at(1))
    decoders = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert decoders == [name for name, _ in model.named_parameters() if name.startswith("decoders")]
    assert not model.pretrained
    model.before_epoch(generator)
    assert decoders == [name for name, p in model.named_parameters() if not p.requires_grad]
    other = MODELS["PAMD"](world, pretrain=2, generator=generator_at(2))
    other.load_state_dict(model.state_dict())
    drawn = generator.get_state()
    for again in (model, other):
        again.before_epoch(generator)
        for a, b in zip(again.state_dict().values(), model.state_dict().values()):
            assert torch.equal(a, b)
    assert torch.equal(drawn, generator.get_state())


@pytest.mark.parametrize("settings", [{}, {"decay": 0.3}])
def test_pamd_equals_the_plain_form_of_its_equations_with_attention_by_user(toy, generator, settings):
    model = built("PAMD", toy, generator, pretrain=2, **settings)
    model.before_epoch(generator)
    nudge(model, generator)
    common, specific = plain_codes(model, contents(toy))
    codes = [*common.values(), *specific.values()]
    attention = softmax(torch.stack([model.users @ code.mean(0) for code in codes], dim=1))
    assert attention.std(0).min() > 0.005
    scores = model.users @ model.items.T
    scores = scores + sum(attention[:, [k]] * (model.users @ code.T) for k, code in enumerate(codes))
    users, items = model.vectors()
    assert users.shape[1] == (1 + 2 * len(toy.features)) * 4
    assert torch.allclose(users @ items.T, scores, rtol=1e-6, atol=1e-7)
    u, p, n = batch(toy, 50, generator)
    rec = -torch.sigmoid(scores[u, p]).log().sum() - (1 - torch.sigmoid(scores[u, n])).log().sum()
    trained = [x for name, x in model.named_parameters() if not name.startswith("decoders")]
    decay = settings.get("decay", 1e-5) / 2 * sum((x**2).sum() for x in trained)
    same_terms_and_gradients(model, model.loss(u, p, n), {"rec": rec, "decay": decay})


# MMSSL


def plain_mmssl(model, dataset, draws, first, content=0.55, drop=0.2, **_):
    """u and i, the modalities' rows, P̂ Q; dropout from `draws` if there are any."""
    buys = bought(dataset)
    to_users = buys / buys.sum(1, keepdim=True).clamp(min=1).sqrt()
    to_items = buys.T / buys.T.sum(1, keepdim=True).clamp(min=1).sqrt()
    views = []
    for m, x in contents(dataset).items():
        mapped = affine(x, model.maps[m])
        if draws is not None:
            mapped = mapped * (torch.rand(mapped.shape, generator=draws) >= drop) / (1 - drop)
        views.append((to_users @ mapped, to_items @ (to_users @ mapped)))
    users, items, along = model.users, model.items, to_users @ model.items
    if first:
        weight = sum(model.heads[start : start + 4] for start in (0, 4, 8, 12))
        items = model.items + 0.36 * unit_or_zero(to_items @ model.users @ weight)
        users = model.users + 0.36 * unit_or_zero(along @ weight)
    second = to_users @ items
    third = to_items @ second
    last_users = softmax(to_users @ third)
    last_items = softmax(to_items @ last_users)
    u = (users + second + last_users) / 3 + content * sum(unit_or_zero(view) for view, _ in views)
    i = (items + third + last_items) / 3 + content * sum(unit_or_zero(view) for _, view in views)
    return (u, i), [view for pair in views for view in pair], along


OTHER = {"content": 2.0, "contrast": 3.0, "drop": 0.5, "graph_batches": 1, "decay": 0.1}


@pytest.mark.parametrize("settings", [{}, OTHER, {"graph_batches": 10**9}])
def test_mmssl_equals_the_plain_form_of_its_equations_and_its_modality_graphs_are_empty_after_two_batches(
    toy, generator, settings
):
    model = built("MMSSL", toy, generator, **settings)
    model.before_epoch(generator_at(5))
    for step in range(4):
        first = step < settings.get("graph_batches", 2)
        rows = u, p, n = batch(toy, 50, generator)
        assert len(set(u.tolist())) < 50
        (users, items), views, along = plain_mmssl(model, toy, replay(model.generator), first, **settings)
        terms = {
            "rec": preference(users[u], items[p], items[n]),
            "reg": 1e-5 * w3(users[u], items[p], items[n]) + 1e-5 * sum((x**2).sum() for x in views) / 2 / toy.n_items,
        }
        if first:
            once = sorted(set(u.tolist()))
            contrast = plain_contrast(along[once], users[once], 0.5)
            terms["contrast"] = settings.get("contrast", 0.03) * len(toy.features) * contrast
        same_terms_and_gradients(model, model.loss(*rows), terms)
        same_vectors(model, plain_mmssl(model, toy, None, first, **settings)[0])
        model.after_step()
        nudge(model, generator)


@pytest.mark.parametrize("settings", [{}, {"decay": 0.3}])
def test_mmssls_training_is_adamws(toy, settings):
    """An epoch of three batches, the last one short, against torch's own optimiser, its own default of decay first."""
    ours, plain = (built("MMSSL", toy, generator_at(1), **settings) for _ in range(2))
    batches = []
    loss = ours.loss
    ours.loss = lambda *rows: batches.append((rows, replay(ours.generator))) or loss(*rows)
    size = len(toy.train) // 2 - 3
    kept = {"lr": 5.5e-4, "batch_size": size, "epochs": 1, "generator": generator_at(2), "progress": False}
    training.fit(ours, toy, **kept)
    decay = {"weight_decay": settings["decay"]} if settings else {}
    optimizer = torch.optim.AdamW(plain.parameters(), lr=5.5e-4, **decay)
    assert [len(rows[0]) for rows, _ in batches][1:] == [size, len(toy.train) - 2 * size]
    for step, ((u, p, n), draws) in enumerate(batches):
        (users, items), views, along = plain_mmssl(plain, toy, draws, step < 2, **settings)
        norms = w3(users[u], items[p], items[n], batch_size=size) + sum((x**2).sum() for x in views) / 2 / toy.n_items
        total = preference(users[u], items[p], items[n]) + 1e-5 * norms
        if step < 2:
            once = sorted(set(u.tolist()))
            total = total + 0.03 * len(toy.features) * plain_contrast(along[once], users[once], 0.5)
        optimizer.zero_grad(set_to_none=False)
        total.backward()
        optimizer.step()
    start = built("MMSSL", toy, generator_at(1), **settings)
    for (name, a), b, before in zip(ours.named_parameters(), plain.parameters(), start.parameters()):
        assert (a - b).abs().max() < 1e-4 * (b - before).abs().max(), name


def test_mmssl_scores_without_dropout_and_a_reload_knows_that_its_graphs_are_empty(world, generator):
    model = MODELS["MMSSL"](world, generator=generator)
    early = model.train().vectors()
    assert all(torch.equal(a, b) for a, b in zip(early, model.eval().vectors()))
    for _ in range(2):
        model.after_step()
    other = MODELS["MMSSL"](world, generator=generator)
    other.load_state_dict(model.state_dict())
    for a, b, c in zip(model.vectors(), other.vectors(), early):
        assert torch.equal(a, b)
        assert not torch.allclose(a, c, atol=1e-3)
    assert "contrast" not in other.loss(*batch(world, 20, generator))


# All four


def test_a_root_normalised_graph_equals_the_dense_one():
    dataset = dataclasses.replace(dataset_of([], [], [], 4, 4), train=PAIRS)
    buys = bought(dataset)
    for pairs, dense in ((PAIRS, buys), (PAIRS[:, ::-1], buys.T)):
        scaled = dense / dense.sum(1, keepdim=True).clamp(min=1).sqrt()
        assert graphs.user_by_item(pairs, 4, 4, "root").toarray() == pytest.approx(scaled.numpy(), rel=1e-6)


def kaiming_uniform(p):
    return stats.uniform(-((6 / p.shape[1]) ** 0.5), 2 * (6 / p.shape[1]) ** 0.5)


def test_initial_values_follow_the_published_laws(generator):
    dataset = planted(40, 30, widths={"image": 80, "text": 50}, mean_interactions=11, seed=2)
    dual, pamd, mmssl, lgmrec = (
        MODELS[m](dataset, generator=generator) for m in ("DualGNN", "PAMD", "MMSSL", "LGMRec")
    )
    laws = [(p, xavier_uniform) for model in (mmssl, lgmrec) for p in (model.users, model.items)]
    laws += [(p, xavier_uniform) for p in (mmssl.heads, *(layer.weight for layer in mmssl.maps.values()))]
    laws += [(p, xavier_uniform) for table in (lgmrec.maps, lgmrec.hyper) for p in table.values()]
    laws += [(p, xavier_normal) for p in dual.tables.values()]
    laws += [(layer.weight, default) for layers in dual.maps.values() for layer in (layers[0], layers[2])]
    laws += [(layer.weight, default) for layer in pamd.encoders.values()]
    laws += [(layer.weight, default) for by_source in pamd.decoders.values() for layer in by_source.values()]
    laws += [(p, kaiming_uniform) for p in pamd.common.values()]
    laws += [(p, lambda _: stats.norm(0, 0.01)) for p in (pamd.users, pamd.items)]
    published = MODELS["PAMD"](dataset, spread=1.0, generator=generator)
    laws += [(p, lambda _: stats.norm(0, 1)) for p in (published.users, published.items)]
    for weights in (dual.user_weights, dual.item_weights):
        assert torch.allclose(weights.sum(1), torch.ones(len(weights)))
        logit = (weights[:, :1] / weights[:, 1:]).log()  # the difference of two draws
        laws.append((logit, lambda p: stats.norm(0, (2 * 2 / (2 + len(p))) ** 0.5)))
    for values, law in laws:
        assert stats.kstest(values.detach().numpy().ravel(), law(values).cdf).pvalue > 1e-4
    layers = [layer for model in (dual, pamd, mmssl) for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    scaled = torch.cat([layer.bias.detach() * layer.in_features**0.5 for layer in layers])
    assert stats.kstest(scaled.numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-4


def test_what_would_go_wrong_silently_is_refused(generator):
    one = planted(40, 30, widths={"image": 6}, mean_interactions=11)
    for name in ("PAMD", "LGMRec"):
        with pytest.raises(
            ValueError, match=rf"'dataset' needs at least two modalities in '{name}' \(got \['image'\]\)"
        ):
            MODELS[name](one, generator=generator)
    with pytest.raises(ValueError, match=r"'k' needs to be at least 1 in 'common_neighbours' \(got 0\)"):
        MODELS["DualGNN"](one, neighbours=0, generator=generator)
    a, b, rows = torch.randn(5, 3), torch.randn(7, 3), torch.tensor([0])
    with pytest.raises(
        ValueError, match=r"'a' and 'b' need the same shape in 'contrast_with_all' \(got \(5, 3\), \(7, 3"
    ):
        losses.contrast_with_all(a, b, rows)
    with pytest.raises(ValueError, match=r"'tau' needs to be above 0 in 'contrast_with_all' \(got 0\)"):
        losses.contrast_with_all(a, a, rows, 0)
