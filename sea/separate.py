"""The paper's contribution as one module: split each modality's item features, align, distance."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sea import losses
from sea.data import modality_order
from sea.layers import linear

ALIGN = {"solosim": losses.solosim, "info_nce": losses.info_nce, "none": None}
DISTANCE = ("club", "negative_l2", "orthogonal", "none")


class Parts(NamedTuple):
    """What is read of one modality's transformed features; a part that no setting needs is None."""

    encoder: Tensor | None  # (n_items, encoder_width), what a recommender goes on with
    head: Tensor | None  # (n_items, 64), the projection head's first layer, of the generic half
    generic: Tensor | None  # (n_items, 32), linear in the generic half
    unique: Tensor | None  # (n_items, 32), linear in the unique half


class SeparateLearning(nn.Module):
    """SEA's plug-in for any encoder of multimodal items (Section 4.2), with two modalities or more.

    A square linear layer transforms each modality's raw features, X_m -> T_m (n_items, d_m); the first
    half of T_m's columns is the modal-generic part, the rest the modal-unique one. Then

        L_align     pulls the generic halves of different modalities together, Eq. (16), read through
                    a head Linear-BN-ReLU-Linear-BN-ReLU-Linear for each modality
        L_distance  pushes generic and unique apart within each modality, Eqs. (14, 15), read through
                    linear maps to 32 columns

    and the loss is α L_align + β mean_m L_distance (Eq. 19, where the two modalities' terms are halved).
    The order of modalities is `sea.data.modality_order`: image, audio, text. In each pair the later one is the
    anchor, as the paper's text anchors against the image. With three modalities or more, L_align is the mean
    over their pairs.

    Everything that reads T_m is linear in it at first. So the projections are stacked and multiplied with the
    square layer's weights before they meet the features: same values and gradients, and T_m, with the
    (n_items, d_m) product behind it, is never formed.

    In a recommender of one's own:

        self.separate = SeparateLearning(features, encoder_width=64, generator=generator)  # construction
        parts = self.separate(); item_inputs = parts["image"].encoder                # forward
        terms = {"rec": bpr, **self.separate.loss(parts)}                               # loss
        self.separate.fit_q()                                                              # after each step

    Args:
        features: raw item features by modality, (n_items, d_m) float, at least two modalities.
        encoder_width: columns of the linear read-out of T_m that the recommender builds on; 0 for none.
        align: "solosim" (SEAa, SEAb), "info_nce" (SEAc, SEAd) or "none" (w/o Alignment).
        distance: "club" (SEAa, SEAc), "negative_l2" (SEAb, SEAd), "none" (w/o Distancing), or "orthogonal":
            the paradigm that the paper argues against, with the subtraction split u_m = x_m - g_m (x_m is
            then read from all of T_m) and mean cos² between the unique parts of each two modalities.
        alpha, beta: weights of the two terms.
        tau: temperature of the alignment.
        hidden, width: head's hidden and output width; `width` is also that of the generic and unique read-outs.
        q_hidden, q_steps, q_lr, q_shared: CLUB's q: hidden width, Adam steps after each batch, their size,
            and whether the modalities share one q (as released). Give q the step size that you give the
            model, as the released program and `sea.runs` do: a slower q lags, and then CLUB need not be a bound.
        club_released: as released, each modality's estimate is halved and clamped at zero; False leaves
            Eq. (15) as it is printed.
        align_items, q_items: approximations for very many items, off (0) unless asked for: L_align over that
            many items, drawn anew for every batch, in place of all; q fitted on that many items. They need
            `before_epoch` to be called, which hands over the generator that draws.
        bfloat16: an approximation too: the features, and the weights that they are multiplied with, keep 8 of
            their 24 significant bits.
        generator: source of the initial weights.

    Raises:
        ValueError: fewer than two modalities, or an unknown `align` or `distance`.
    """

    def __init__(
        self,
        features: dict[str, Tensor],
        encoder_width: int = 0,
        *,
        align: str = "solosim",
        distance: str = "club",
        alpha: float = 0.012,
        beta: float = 0.006,
        tau: float = 0.2,
        hidden: int = 64,
        width: int = 32,
        q_hidden: int = 8,
        q_steps: int = 50,
        q_lr: float = 1e-4,
        q_shared: bool = True,
        club_released: bool = True,
        align_items: int = 0,
        q_items: int = 0,
        bfloat16: bool = False,
        generator: torch.Generator,
    ):
        super().__init__()
        _one_of("align", align, ALIGN)
        _one_of("distance", distance, DISTANCE)
        if len(features) < 2:
            raise ValueError(f"'features' needs at least two modalities in 'SeparateLearning' (got {list(features)})")
        self.align, self.distance, self.alpha, self.beta, self.tau = align, distance, alpha, beta, tau
        self.q_steps, self.q_shared, self.club_released = q_steps, q_shared, club_released
        self.align_items, self.q_items = align_items, q_items
        self.modalities = modality_order(features)
        self.transform, self.projections, self.heads = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for m in self.modalities:
            size = features[m].shape[1]
            half = size // 2
            kept = features[m].bfloat16() if bfloat16 else features[m]
            self.register_buffer(f"features_{m}", kept, persistent=False)
            self.transform[m] = linear(size, size, generator)
            self.projections[m] = projections = nn.ModuleDict()
            if encoder_width:
                projections["encoder"] = linear(size, encoder_width, generator)
            if align != "none":
                projections["head"] = linear(half, hidden, generator)
                self.heads[m] = _head(hidden, width, generator)
            if distance != "none":
                projections["generic"] = linear(half, width, generator)
                projections["unique"] = linear(size if distance == "orthogonal" else size - half, width, generator)
        self.q = None
        if distance == "club":
            heads = 1 if q_shared else len(self.modalities)
            self.q = losses.ConditionalGaussian(width, q_hidden, heads, q_lr, generator=generator)
        self._for_fit = None  # the last batch's (generic, unique), what q is fitted on
        self._generator = None  # of the draws that an approximation needs

    def before_epoch(self, generator: torch.Generator) -> None:
        """Take over the training's generator, on the device of the features; needed by `align_items` and `q_items`."""
        self._generator = generator

    def _drawn(self, parts: list[Tensor], count: int) -> list[Tensor]:
        """The same `count` rows of each part, drawn without replacement; the parts as they are if `count` is 0."""
        if not 0 < count < len(parts[0]):
            return parts
        if self._generator is None:
            raise RuntimeError("'align_items' and 'q_items' need SeparateLearning.before_epoch(generator) to be called")
        rows = torch.randperm(len(parts[0]), generator=self._generator, device=self._generator.device)[:count]
        return [nn.functional.embedding(rows.to(part.device), part) for part in parts]

    def forward(self) -> dict[str, Parts]:
        """Read every modality's transformed features, for all items, by one product with the raw features."""
        return {m: self._read(m) for m in self.modalities}

    def _read(self, m: str) -> Parts:
        weights, biases = self._composed(m)
        if not weights:
            return Parts(None, None, None, None)
        features, stacked = getattr(self, f"features_{m}"), (torch.cat(list(w.values())) for w in (weights, biases))
        weight, bias = (w.to(features.dtype) for w in stacked)
        if features.is_cuda:  # its library takes 1.4 times as long for a product that adds a bias at once
            columns = nn.functional.linear(features, weight) + bias  # (n_items, Σ widths)
        else:
            columns = nn.functional.linear(features, weight, bias)
        columns = columns.to(self.transform[m].weight.dtype)
        found = dict(zip(weights, columns.split([len(weight) for weight in weights.values()], dim=1)))
        if self.distance == "orthogonal":
            found["unique"] = found["unique"] - found["generic"]
        return Parts(*(found.get(name) for name in Parts._fields))

    def _composed(self, m: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Each reader's weights (width, d_m) and biases after the square layer's: one product for each half of T_m."""
        transform, projections = self.transform[m], self.projections[m]
        size = len(transform.bias)
        halves = size // 2, size - size // 2
        of_half: tuple[dict[str, Tensor], ...] = {}, {}  # what each reader makes of the generic, of the unique half
        for name, reader in projections.items():
            if reader.in_features == size:  # encoder, and unique of the subtraction split
                of_half[0][name], of_half[1][name] = reader.weight.split(halves, dim=1)
            else:
                of_half[name == "unique"][name] = reader.weight
        weights, biases = {}, {name: reader.bias for name, reader in projections.items()}
        for rows, weight, bias in zip(of_half, transform.weight.split(halves), transform.bias.split(halves)):
            if rows:
                stacked, widths = torch.cat(list(rows.values())), [len(row) for row in rows.values()]
                for name, part, shift in zip(rows, (stacked @ weight).split(widths), (stacked @ bias).split(widths)):
                    weights[name] = weights[name] + part if name in weights else part
                    biases[name] = biases[name] + shift
        return {name: weights[name] for name in projections}, biases

    def loss(self, parts: dict[str, Parts]) -> dict[str, Tensor]:
        """The weighted terms {"align": α L_align, "distance": β L_distance} of Eq. (19), over all items."""
        terms = {}
        if self.align != "none":
            terms["align"] = self.alpha * self._align(parts)
        if self.distance != "none":
            terms["distance"] = self.beta * self._distance(parts)
        return terms

    def _align(self, parts: dict[str, Parts]) -> Tensor:
        loss = ALIGN[self.align]
        inputs = self._drawn([parts[m].head for m in self.modalities], self.align_items)
        inputs = [head.contiguous() if head.is_cuda else head for head in inputs]  # a GPU normalises slices slowly
        heads = [self.heads[m](head) for m, head in zip(self.modalities, inputs)]
        pairs = [loss(heads[j], heads[i], self.tau) for i, j in self._modality_pairs()]
        return torch.stack(pairs).mean()

    def _modality_pairs(self) -> list[tuple[int, int]]:
        count = len(self.modalities)
        return [(i, j) for i in range(count) for j in range(i + 1, count)]

    def _distance(self, parts: dict[str, Parts]) -> Tensor:
        generic = torch.stack([parts[m].generic for m in self.modalities])  # (M, n_items, width)
        unique = torch.stack([parts[m].unique for m in self.modalities])
        if self.distance == "negative_l2":
            return losses.negative_l2(generic, unique)
        if self.distance == "orthogonal":
            pairs = [losses.orthogonal(unique[i], unique[j]) for i, j in self._modality_pairs()]
            return torch.stack(pairs).mean()
        for_q = self._drawn([*generic.detach(), *unique.detach()], self.q_items)
        self._for_fit = tuple(self._for_q(torch.stack(part)) for part in (for_q[: len(unique)], for_q[len(unique) :]))
        mu, logvar = self.q(self._for_q(generic))
        shape = unique.shape
        estimates = torch.stack(
            [losses.club(*parts) for parts in zip(mu.view(shape), logvar.view(shape), unique)]
        )  # (M,)
        return (estimates / 2).clamp(min=0).mean() if self.club_released else estimates.mean()

    def _for_q(self, parts: Tensor) -> Tensor:
        return parts.flatten(0, 1)[None] if self.q_shared else parts  # (heads, rows, width)

    def fit_q(self) -> None:
        """Take q's steps on the parts that the last batch was trained on; call it after each model step.

        Those parts are one model step old, as when the released program stores and reuses them; reading
        them anew would cost another pass over the features.
        """
        if self._for_fit is not None:
            self.q.fit(*self._for_fit, self.q_steps)
            self._for_fit = None


def _head(hidden: int, width: int, generator: torch.Generator) -> nn.Sequential:
    """The projection head from its first Linear on (that one is a stacked reader)."""
    return nn.Sequential(
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        linear(hidden, hidden, generator),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        linear(hidden, width, generator),
    )


def _one_of(argument: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise ValueError(f"'{argument}' needs to be one of {', '.join(choices)} in 'SeparateLearning' (got {value!r})")
