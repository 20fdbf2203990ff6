"""Every loss of the paper, each a short function on tensors. Rows are items unless said otherwise.

Two of them are rewritten exactly, so that nothing of size N × N is stored: SoloSim streams over blocks
of rows, and CLUB's average over all pairs is a matter of two moments.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sea import kernels
from sea.blocks import row_blocks

SHARE, LEAST = 1 / 16, 64  # of the contrast's blocks, see `row_blocks`; measured on a CPU


def bpr(positive: Tensor, negative: Tensor, log_base: float = math.e) -> Tensor:
    """Bayesian personalised ranking, Eq. (18): -mean log σ(s⁺ - s⁻), a scalar.

    Args:
        positive, negative: scores of the observed and of the sampled item, shape (batch,).
        log_base: base of the logarithm. The released program takes 2, a constant factor of 1/ln 2 = 1.44.

    Source: Rendle et al., UAI 2009.
    """
    return F.softplus(negative - positive).mean() / math.log(log_base)


def embedding_norm(*tables: Tensor) -> Tensor:
    """Regulariser Σ ‖T‖_F / B over the batch's embedding rows: norms neither squared nor per row.

    This is what the framework behind the published BPR and LightGCN rows computes; the papers write squares.
    """
    return sum(table.norm() for table in tables) / len(tables[0])


def squared_norm(*tables: Tensor) -> Tensor:
    """½ Σ ‖T‖²_F over the batch's embedding rows, the squared regulariser, not divided by their number."""
    return sum(table.square().sum() for table in tables) / 2


class _LogPartition(torch.autograd.Function):
    """mean_i log Σ_j exp(a_i·o_j / τ) of rows no longer than 1, value and gradients in one streaming pass over i.

    Only O(N d) is kept for the backward pass. Row i does not see j = `apart` + i, if that is given. Powers are of
    two, which take half the time of those of e: exp(x/τ) is 2^(c x) with c = 1 / (τ ln 2). Up to c = `SAFE` no sum
    of them leaves a float's range; beyond, each row's largest logit is taken off first.
    """

    SAFE = 64

    @staticmethod
    def forward(ctx, anchor: Tensor, other: Tensor, tau: float, apart: int | None = None) -> Tensor:
        n, c = len(anchor), 1 / (tau * math.log(2))
        scaled, columns = anchor * c, other.T.contiguous()
        partition, peak = anchor.new_empty(n, 1), anchor.new_zeros(n, 1)
        grad_anchor, grad_other = torch.empty_like(anchor), torch.zeros_like(other)
        memory = None
        for rows in row_blocks(n, len(other), anchor.device, SHARE, LEAST):
            memory = anchor.new_empty(rows.stop, len(other)) if memory is None else memory[: rows.stop - rows.start]
            logits = torch.mm(scaled[rows], columns, out=memory)  # (b, N)
            if apart is not None:
                logits.diagonal(apart + rows.start).fill_(-torch.inf)
            if c > _LogPartition.SAFE:
                peak[rows] = logits.amax(1, keepdim=True)
                logits.sub_(peak[rows])
            weights = logits.exp2_()
            partition[rows] = weights.sum(1, keepdim=True)
            if any(ctx.needs_input_grad):  # weights / partition is the softmax; dividing the narrow factors is cheaper
                grad_anchor[rows] = weights @ other
                grad_other.addmm_(weights.T, anchor[rows] / partition[rows])
        ctx.save_for_backward(grad_anchor / (partition * (n * tau)), grad_other / (n * tau))
        return (partition.log2() + peak).mean() * math.log(2)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        grad_anchor, grad_other = ctx.saved_tensors
        return grad * grad_anchor, grad * grad_other, None, None


def _check_contrast(name: str, tau: float, **pair: Tensor) -> None:
    if tau <= 0:
        raise ValueError(f"'tau' needs to be above 0 in '{name}' (got {tau!r})")
    (first, a), (second, b) = pair.items()
    if a.shape != b.shape:
        raise ValueError(
            f"'{first}' and '{second}' need the same shape in '{name}' (got {tuple(a.shape)}, {tuple(b.shape)})"
        )


def solosim(anchor: Tensor, other: Tensor, tau: float = 0.2) -> Tensor:
    """SoloSimLoss, Eq. (16): -(1/N) Σ_i log [exp(â_i·ô_i/τ) / Σ_j exp(â_i·ô_j/τ)], hats are unit rows.

    One-directional InfoNCE whose negatives are all other rows; log N minus it is, on average, a lower bound of the
    mutual information if the parts were not fitted on these rows. Memory is O(N d) beyond one block of rows, time
    O(N² d).

    Args:
        anchor, other: the two modalities' generic parts, shape (N, d) each (the paper: text, image).
        tau: temperature, above 0.
    """
    _check_contrast("solosim", tau, anchor=anchor, other=other)
    anchor, other = F.normalize(anchor, dim=1), F.normalize(other, dim=1)
    return _LogPartition.apply(anchor, other, tau) - (anchor * other).sum(1).mean() / tau


def info_nce(a: Tensor, b: Tensor, tau: float = 0.2) -> Tensor:
    """InfoNCE in its usual two-directional form, the mean of SoloSim read both ways (SEAc, SEAd).

    Source: van den Oord et al., arXiv 1807.03748. Arguments as in `solosim`.
    """
    return (solosim(a, b, tau) + solosim(b, a, tau)) / 2


def two_view_contrast(anchor: Tensor, other: Tensor, tau: float = 0.5) -> Tensor:
    """Contrast against both views: -(1/N) Σ_i log { e(a_i, o_i) / [Σ_j e(a_i, o_j) + Σ_{j≠i} e(a_i, a_j)] }.

    e(x, y) = exp(x̂·ŷ/τ), hats are unit rows. MICRO's contrast of a modality with the fusion. Streams as SoloSim.

    Args:
        anchor, other: shape (N, d) each.
        tau: temperature, above 0.

    Source: Zhang et al., TKDE 2022; the form is Zhu et al.'s, arXiv 2006.04131, in one direction.
    """
    _check_contrast("two_view_contrast", tau, anchor=anchor, other=other)
    anchor, other = F.normalize(anchor, dim=1), F.normalize(other, dim=1)
    both = torch.cat([other, anchor])
    return _LogPartition.apply(anchor, both, tau, len(anchor)) - (anchor * other).sum(1).mean() / tau


def contrast_with_all(a: Tensor, b: Tensor, rows: Tensor, tau: float = 0.2) -> Tensor:
    """Contrast of some rows with all: -mean_{i in rows} log [exp(â_i·b̂_i/τ) / Σ_j exp(â_i·b̂_j/τ)], j over all rows.

    Hats are unit rows. Streams as SoloSim does, which is the same with every row once. LGMRec's contrast.

    Args:
        a, b: shape (N, d) each.
        rows: indices, shape (batch,); a row that occurs twice counts twice.
        tau: temperature, above 0.
    """
    _check_contrast("contrast_with_all", tau, a=a, b=b)
    anchor, other = F.normalize(F.embedding(rows, a), dim=1), F.normalize(b, dim=1)
    return _LogPartition.apply(anchor, other, tau) - (anchor * F.embedding(rows, other)).sum(1).mean() / tau


def club(mu: Tensor, logvar: Tensor, unique: Tensor) -> Tensor:
    """CLUB, Eqs. (14, 15): E_p(g,u)[log q(u|g)] - E_p(g)p(u)[log q(u|g)] for a Gaussian q, a scalar in nats.

    The second expectation runs over all N² pairs and needs two moments of u only,
    mean_j (μ_i - u_j)² = Var(u) + (μ_i - ū)², so it costs O(N d) and has no sampling noise.

    Args:
        mu, logvar: mean and log-variance of q(u|g_i), shape (..., N, d).
        unique: u, shape (..., N, d). Leading dimensions are averaged over.

    Source: Cheng et al., ICML 2020.
    """
    mean = unique.mean(-2, keepdim=True)
    spread = (unique - mean).square().mean(-2, keepdim=True)
    paired = (mu - unique).square()
    all_pairs = spread + (mu - mean).square()
    return ((all_pairs - paired) * (-logvar).exp() / 2).sum(-1).mean()


def negative_l2(generic: Tensor, unique: Tensor) -> Tensor:
    """Negative squared distance of the two parts of one modality, Eq. (30): -mean (g - u)². Unbounded below."""
    return -(generic - unique).square().mean()


def orthogonal(a: Tensor, b: Tensor) -> Tensor:
    """The usual orthogonality penalty between two modalities' unique parts: mean over items of cos²(a_i, b_i).

    For isotropic random rows in R^d its expected value is exactly 1/d.
    """
    return F.cosine_similarity(a, b, dim=-1).square().mean()


class ConditionalGaussian(nn.Module):
    """q(u|g) = N(u; μ(g), diag exp(logvar(g))) of CLUB, fitted by maximum likelihood in turn with the model.

    μ and logvar are each Linear-ReLU-Linear, with a tanh on logvar. All heads (one shared by the
    modalities, or one for each) are evaluated in one batched product.

    Args:
        width: width of g and u.
        hidden: width of the hidden layer of each net.
        heads: number of independent q's.
        lr: step size of q's own Adam.
        generator: source of the initial weights.
    """

    def __init__(
        self,
        width: int = 32,
        hidden: int = 8,
        heads: int = 1,
        lr: float = 1e-4,
        *,
        generator: torch.Generator,
    ):
        super().__init__()

        def uniform(*shape: int, fan_in: int) -> nn.Parameter:
            bound = fan_in**-0.5
            values = torch.rand(*shape, generator=generator) * 2 * bound - bound
            return nn.Parameter(values, requires_grad=False)

        # the μ net and the logvar net lie side by side: the first layer's columns, the second layer's blocks
        self.weight1 = uniform(heads, width, 2 * hidden, fan_in=width)
        self.bias1 = uniform(heads, 1, 2 * hidden, fan_in=width)
        self.weight2 = uniform(2, heads, hidden, width, fan_in=hidden)
        self.bias2 = uniform(2, heads, 1, width, fan_in=hidden)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=lr, fused=True)

    def forward(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """μ(g) and logvar(g), each of g's shape (heads, N, width)."""
        hidden = torch.baddbmm(self.bias1, g, self.weight1).relu()  # (heads, N, 2 hidden)
        for_mu, for_logvar = hidden.chunk(2, dim=-1)
        mu = torch.baddbmm(self.bias2[0], for_mu, self.weight2[0])
        logvar = torch.baddbmm(self.bias2[1], for_logvar, self.weight2[1]).tanh()
        return mu, logvar

    def negative_log_likelihood(self, g: Tensor, u: Tensor) -> Tensor:
        """-mean log q(u|g) up to the constant (d/2) log 2π, summed over heads."""
        mu, logvar = self(g)
        return ((mu - u).square() * (-logvar).exp() + logvar).sum((0, 2)).mean() / 2

    @torch.no_grad()
    def fit(self, g: Tensor, u: Tensor, steps: int) -> None:
        """Take `steps` full-batch Adam steps on the likelihood of the pairs (g, u), shape (heads, N, width)."""
        parameters = list(self.parameters())
        self.optimizer.param_groups[0]["capturable"] = g.is_cuda  # where a step is part of a recording
        if kernels.suits(g, self.bias1.shape[-1]):
            gradients = partial(kernels.q_gradients, g.contiguous(), u.contiguous(), *parameters)
        else:  # (heads, width, N): long rows, which every pass below likes
            gradients = partial(self._gradients, g.mT.contiguous(), u.mT.contiguous())
        for _ in range(steps):
            for parameter, grad in zip(parameters, gradients()):
                parameter.grad = grad
            self.optimizer.step()
        for parameter in parameters:
            parameter.grad = None

    def _gradients(self, g: Tensor, u: Tensor) -> list[Tensor]:
        """Gradients of `negative_log_likelihood`, written out; g and u here of shape (heads, width, N).

        With logvar = tanh a = 2 s - 1, s = σ(2 a), and w = e^(-2 s), for each pair and column, up to the factor e/N,
        ∂/∂μ = (μ - u) w and ∂/∂a = -2 ((μ - u)² w - 1/e) s (1 - s).
        """
        hidden = torch.baddbmm(self.bias1.mT, self.weight1.mT, g).relu_()  # (heads, 2 hidden, N)
        for_mu, for_logvar = hidden.chunk(2, dim=1)
        error = torch.sub(self.bias2[0].mT, u).baddbmm_(self.weight2[0].mT, for_mu)
        s = torch.baddbmm(2 * self.bias2[1].mT, 2 * self.weight2[1].mT, for_logvar).sigmoid_()
        by_mu = s.mul(-2 / math.log(2)).exp2_().mul_(error)
        by_a = torch.ops.aten.sigmoid_backward(error.mul_(by_mu).sub_(1 / math.e), s)  # less the factor -2
        by_hidden = torch.cat([self.weight2[0] @ by_mu, -2 * self.weight2[1] @ by_a], dim=1)
        by_hidden = torch.ops.aten.threshold_backward(by_hidden, hidden, 0)
        gradients = [
            g @ by_hidden.mT,
            by_hidden.sum(2, keepdim=True).mT,
            torch.stack([for_mu @ by_mu.mT, -2 * (for_logvar @ by_a.mT)]),
            torch.stack([by_mu.sum(2, keepdim=True).mT, -2 * by_a.sum(2, keepdim=True).mT]),
        ]
        return [gradient * (math.e / g.shape[-1]) for gradient in gradients]
