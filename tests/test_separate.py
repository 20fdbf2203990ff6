import inspect

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal

from sea.losses import bpr
from sea.separate import ALIGN, DISTANCE, SeparateLearning


def module(generator, modalities=("image", "text"), n=25, encoder_width=5, **settings) -> SeparateLearning:
    features = {m: torch.randn(n, 9 + 2 * i, generator=generator) for i, m in enumerate(modalities)}
    sizes = {"hidden": 6, "width": 4, "q_hidden": 3}
    return SeparateLearning(features, encoder_width, generator=generator, **(sizes | settings)).double()


def plain(separate: SeparateLearning) -> tuple[dict, dict]:
    """The same terms and read-outs computed plainly: the square layer is applied, halves are sliced, pairs are all."""
    encoders, heads, generic, unique = {}, [], [], []
    for m in separate.modalities:
        features, projections = getattr(separate, f"features_{m}"), separate.projections[m]
        transformed = separate.transform[m](features)  # (n_items, d_m)
        half = transformed.shape[1] // 2
        g, u = transformed[:, :half], transformed[:, half:]
        encoders[m] = projections["encoder"](transformed)
        if separate.align != "none":
            heads.append(F.normalize(separate.heads[m](projections["head"](g))))
        if separate.distance == "orthogonal":
            generic.append(projections["generic"](g))
            unique.append(projections["unique"](transformed) - generic[-1])
        elif separate.distance != "none":
            generic.append(projections["generic"](g))
            unique.append(projections["unique"](u))
    pairs = [(i, j) for j in range(len(separate.modalities)) for i in range(j)]
    terms = {}
    if separate.align != "none":
        similar = {(i, j): heads[j] @ heads[i].T / separate.tau for i, j in pairs}
        ways = (
            list(similar.values()) if separate.align == "solosim" else [t for s in similar.values() for t in (s, s.T)]
        )
        terms["align"] = separate.alpha * sum(-F.log_softmax(s, 1).diagonal().mean() for s in ways) / len(ways)
    if separate.distance == "club":
        terms["distance"] = separate.beta * sum(
            plain_club(separate, i, g, u) for i, (g, u) in enumerate(zip(generic, unique))
        )
        terms["distance"] = terms["distance"] / len(generic)
    elif separate.distance == "negative_l2":
        terms["distance"] = -separate.beta * sum(((g - u) ** 2).mean() for g, u in zip(generic, unique)) / len(generic)
    elif separate.distance == "orthogonal":
        squares = [((F.normalize(unique[i]) * F.normalize(unique[j])).sum(1) ** 2).mean() for i, j in pairs]
        terms["distance"] = separate.beta * sum(squares) / len(squares)
    return encoders, terms


def plain_club(separate, index, g, u):
    head = 0 if separate.q_shared else index
    q, width = separate.q, separate.q.weight2.shape[2]
    hidden = F.relu(g @ q.weight1[head] + q.bias1[head])
    mu = hidden[:, :width] @ q.weight2[0, head] + q.bias2[0, head]
    logvar = torch.tanh(hidden[:, width:] @ q.weight2[1, head] + q.bias2[1, head])
    scale = (logvar / 2).exp()
    matched = Normal(mu, scale).log_prob(u).sum(1).mean()
    everyone = Normal(mu[:, None], scale[:, None]).log_prob(u[None]).sum(2).mean()
    value = matched - everyone
    return F.relu(value / 2) if separate.club_released else value


@pytest.mark.parametrize("align", ALIGN)
@pytest.mark.parametrize("distance", DISTANCE)
@pytest.mark.parametrize("modalities", [("image", "text"), ("audio", "image", "text")])
def test_stacked_readers_and_moments_equal_the_plain_form(generator, align, distance, modalities):
    """Both rewritings at once: every term, the encoder's read-out and every parameter's gradient, relative 1e-9."""
    separate = module(generator, modalities, align=align, distance=distance, club_released=False, q_shared=False)
    parts = separate()
    terms, (encoders, plain_terms) = separate.loss(parts), plain(separate)
    assert terms.keys() == plain_terms.keys()
    weights = {m: torch.randn(25, 5, generator=generator, dtype=torch.float64) for m in modalities}
    ours = sum((parts[m].encoder * weights[m]).sum() for m in modalities) + sum(terms.values())
    theirs = sum((encoders[m] * weights[m]).sum() for m in modalities) + sum(plain_terms.values())
    for name in terms:
        assert terms[name].item() == pytest.approx(plain_terms[name].item(), rel=1e-9)
    parameters = [p for p in separate.parameters() if p.requires_grad]
    gradients = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (ours, theirs)]
    scale = max(float(g.norm()) for g in gradients[1])
    for a, b in zip(*gradients):
        assert float((a - b).norm()) < 1e-9 * max(float(b.norm()), 1e-3 * scale)


@pytest.mark.parametrize("shared", [True, False])
def test_the_released_estimate_is_halved_and_clamped_for_each_modality(generator, shared):
    separate = module(generator, q_shared=shared, beta=1.0)
    _, terms = plain(separate)
    assert separate.loss(separate())["distance"].item() == pytest.approx(terms["distance"].item(), rel=1e-9)
    raw = [float(plain_club_unclamped(separate, i).detach()) for i in range(2)]
    assert terms["distance"].item() == pytest.approx(sum(max(0, value) / 2 for value in raw) / 2)
    assert min(raw) < 0  # else the clamp is not seen


def plain_club_unclamped(separate, index):
    separate.club_released = False
    m = separate.modalities[index]
    transformed = separate.transform[m](getattr(separate, f"features_{m}"))
    half = transformed.shape[1] // 2
    g = separate.projections[m]["generic"](transformed[:, :half])
    value = plain_club(separate, index, g, separate.projections[m]["unique"](transformed[:, half:]))
    separate.club_released = True
    return value


def test_what_is_switched_off_is_not_computed(generator):
    separate = module(generator, align="none", distance="none")
    parts = separate()
    assert separate.loss(parts) == {}
    assert all(r.head is r.generic is r.unique is None for r in parts.values())
    separate.fit_q()  # nothing to fit, nothing to fail
    assert module(generator, encoder_width=0, align="none", distance="none")()["text"].encoder is None


def test_gradients_of_the_losses_never_reach_q_and_fitting_never_reaches_the_model(generator):
    separate = module(generator, club_released=False)
    sum(separate.loss(separate()).values()).backward()
    before = {name: value.clone() for name, value in separate.state_dict().items()}
    assert all(p.grad is None for p in separate.q.parameters())
    separate.fit_q()
    moved = {name for name, value in separate.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"q.{name}" for name, _ in separate.q.named_parameters()}


def test_fitting_q_raises_its_likelihood(generator):
    separate = module(generator, q_lr=1e-2)
    separate.loss(separate())
    g, u = separate._for_fit
    assert not g.requires_grad and not u.requires_grad  # nothing of the batch's graph is kept alive
    before = separate.q.negative_log_likelihood(g, u)
    separate.fit_q()
    assert separate.q.negative_log_likelihood(g, u) < before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"align": "cosine"}, r"'align' needs to be one of solosim, info_nce, none .* \(got 'cosine'\)"),
        ({"distance": "l2"}, r"'distance' needs to be one of club, negative_l2, orthogonal, none .* \(got 'l2'\)"),
        ({"modalities": ("image",)}, r"'features' needs at least two modalities .* \(got \['image'\]\)"),
    ],
)
def test_wrong_arguments_are_named(generator, settings, message):
    with pytest.raises(ValueError, match=message):
        module(generator, **settings)


def test_the_three_lines_of_the_docstring_run(generator):
    """The recipe for a recommender of one's own, as the docstring gives it."""
    features = {m: torch.randn(10, 6, generator=generator) for m in ("image", "text")}
    own = torch.nn.Module()
    scope = {"self": own, "features": features, "generator": generator, "SeparateLearning": SeparateLearning}
    scope["bpr"] = bpr(torch.zeros(3), torch.ones(3))
    source = inspect.getdoc(SeparateLearning).split("In a recommender of one's own:")[1].split("Args:")[0]
    exec(inspect.cleandoc(source), scope)
    assert scope["item_inputs"].shape == (10, 64)
    assert set(scope["terms"]) == {"rec", "align", "distance"}


def test_alignment_and_q_see_the_items_that_were_drawn():
    """With the same draws made here, the loss over 7 of 25 items and q fitted on 6 of them are the plain ones."""
    separate = module(torch.Generator().manual_seed(3), align_items=7, q_items=6, q_steps=2)
    parts = separate()
    with pytest.raises(RuntimeError, match="before_epoch"):
        separate.loss(parts)
    separate.before_epoch(torch.Generator().manual_seed(11))
    terms = separate.loss(parts)
    again = torch.Generator().manual_seed(11)
    aligned, fitted = (torch.randperm(25, generator=again)[:count] for count in (7, 6))
    text, image = (F.normalize(separate.heads[m](parts[m].head[aligned])) for m in ("text", "image"))
    expected = -F.log_softmax(text @ image.T / separate.tau, 1).diagonal().mean()
    assert terms["align"].item() == pytest.approx(separate.alpha * expected.item(), rel=1e-12)
    for name, kept in zip(("generic", "unique"), separate._for_fit):
        rows = torch.cat([getattr(parts[m], name)[fitted] for m in separate.modalities])
        assert torch.equal(kept[0], rows)
    all_pairs = plain(separate)[1]["distance"]  # CLUB itself still averages over all items
    assert terms["distance"].item() == pytest.approx(all_pairs.item(), rel=1e-9, abs=1e-15)
    separate.fit_q()


def test_as_many_items_as_there_are_is_no_approximation():
    exact, asked = (module(torch.Generator().manual_seed(3), align_items=n, q_items=n) for n in (0, 25))
    for name, value in exact.loss(exact()).items():
        assert asked.loss(asked())[name].item() == value.item()


def test_bfloat16_is_the_same_reading_to_eight_bits():
    features = {m: torch.randn(40, 16, generator=torch.Generator().manual_seed(i)) for i, m in enumerate("ab")}
    exact, rounded = (
        SeparateLearning(features, 5, bfloat16=on, generator=torch.Generator().manual_seed(0)) for on in (False, True)
    )
    assert rounded.features_a.dtype == torch.bfloat16
    for m in "ab":
        for one, other in zip(exact()[m], rounded()[m]):
            assert other.dtype == torch.float32
            assert torch.allclose(one, other, atol=2**-7 * one.abs().max().item())
            assert not torch.equal(one, other)
