r"""Structured state spaces: convolutions as long as the signal whose kernels are sums of slow and fast modes.

A layer's kernel is the impulse response of a linear system, $x' = A x + B u$, $y = C x + D u$, read at steps of $\Delta$:
$k(l) = C \bar A^l \bar B$. Two kinds differ in what is learned:

- `fixed`: $A$, $B$ are HiPPO-LegS's and never change, so the basis $\Phi_l = \bar A^l \bar B$ is computed once and the kernel is the
  product $C \Phi$. With a step of its own for every feature this is the class of functions of an S4 layer whose $A$, $B$, $\Delta$ are
  frozen, in real numbers.
- `s4d`: $A$ is diagonal and learned with $\Delta$ and $C$: $k(l) = 2 \Re \sum_n C_n \bar B_n e^{l \Delta \lambda_n}$.

References:
    Gu, Goel, Ré, Efficiently Modeling Long Sequences with Structured State Spaces, 2022, arXiv 2111.00396.
    Gu, Gupta, Goel, Ré, On the Parameterization and Initialization of Diagonal State Space Models, 2022, arXiv 2206.11893.
"""

import math
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, gelu

from ..errors import BadModel, one_of

Kind = Literal["fixed", "s4d"]
DENSE_UP_TO = 64
"""Signals of at most this length are convolved by a matrix product, which is faster than Fourier transforms there."""


def legs(states: int) -> tuple[Tensor, Tensor]:
    r"""HiPPO-LegS, A (N, N) and B (N,) in double precision.

    $A_{nk} = -\sqrt{(2n + 1)(2k + 1)}$ below the diagonal and $-(n + 1)$ on it, $B_n = \sqrt{2n + 1}$.

    Reference:
        Gu, Dao, Ermon, Rudra, Ré, HiPPO: Recurrent Memory with Optimal Polynomial Projections, 2020, arXiv 2008.07669, theorem 2.
    """
    n = torch.arange(states, dtype=torch.float64)
    b = (2 * n + 1).sqrt()
    return -torch.outer(b, b).tril(-1) - torch.diag(n + 1), b


def bilinear(a: Tensor, b: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    r"""The system at steps `dt` (G,): $\bar A = (I - \frac\Delta2 A)^{-1} (I + \frac\Delta2 A)$ (G, N, N), $\bar B = (I - \frac\Delta2 A)^{-1} \Delta B$."""
    eye, half = torch.eye(len(a), dtype=a.dtype), dt[:, None, None] / 2 * a
    both = torch.cat([eye + half, dt[:, None, None] * b[:, None]], 2)
    solved = torch.linalg.solve_triangular(eye - half, both, upper=False)  # LegS is lower triangular
    return solved[..., :-1], solved[..., -1]


def responses(a: Tensor, b: Tensor, length: int) -> Tensor:
    r"""$\bar A^l \bar B$ for l = 0 ... L - 1, (G, N, L): each round applies the power that doubles what is there."""
    phi = b[..., None]
    while phi.shape[-1] < length:
        phi = torch.cat([phi, a @ phi], -1)
        a = a @ a
    return phi[..., :length].contiguous()


def steps(n: int, dt_min: float, dt_max: float) -> Tensor:
    """`n` steps, log-uniform in between: the midpoints of n equally likely parts, so that nothing is left to chance."""
    share = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return dt_min * (dt_max / dt_min) ** share


class Basis(nn.Module):
    r"""$\Phi$ (G, N, L) of HiPPO-LegS, which layers may share. It is no part of the weights: its settings say all of it.

    Args:
        groups: G, how many steps: features h, h + G, h + 2 G, ... have the same.
        states: N.
        length: L.
        dt_min, dt_max: Range of the steps.
    """

    phi: Tensor

    def __init__(self, groups: int, states: int, length: int, dt_min: float = 1e-3, dt_max: float = 1e-1) -> None:
        super().__init__()
        phi = responses(*bilinear(*legs(states), steps(groups, dt_min, dt_max)), length)
        self.register_buffer("phi", phi.to(torch.get_default_dtype()), persistent=False)


class FixedKernel(nn.Module):
    r"""$k_h(l) = \sum_n C_{hn} \Phi_{g(h) n}(l)$; only C (directions, H, N) is learned.

    Args:
        features: H, a multiple of the basis's groups.
        basis: The responses.
        directions: 1, or 2 with a kernel for later samples.
    """

    def __init__(self, features: int, basis: Basis, directions: int) -> None:
        super().__init__()
        groups, states, _ = basis.phi.shape
        if features % groups:
            raise BadModel(f"{features} features cannot share {groups} steps evenly; choose groups that divide them")
        self.basis = basis
        self.c = nn.Parameter(torch.randn(directions, features, states))

    def forward(self, length: int) -> Tensor:
        """The kernels (directions, H, L)."""
        phi = self.basis.phi
        if length > phi.shape[-1]:
            raise BadModel(f"a signal of {length} samples is longer than the {phi.shape[-1]} that this network was made for; cut it")
        directions, features, states = self.c.shape
        c = self.c.view(-1, len(phi), states).transpose(0, 1)
        return torch.bmm(c, phi[..., :length]).transpose(0, 1).reshape(directions, features, length)


class DiagonalKernel(nn.Module):
    r"""$k_h(l) = 2 \Re \sum_n C_{hn} \frac{e^{\Delta \lambda_n} - 1}{\lambda_n} e^{l \Delta \lambda_n}$, begun as S4D-Lin, $\lambda_n = -\frac12 + i \pi n$.

    The powers are never all there: with l = a M + b and M near the root of L, the sum is a product of matrices,
    $\sum_n (C_n e^{a M \Delta \lambda_n}) e^{b \Delta \lambda_n}$, and only about 2 N times the root of L exponentials a feature are taken.

    Args:
        features: H, each with its step.
        states: N, an even number; half as many conjugate pairs.
        directions: 1, or 2 with a kernel for later samples.
        dt_min, dt_max: Range of the steps at the start.
    """

    def __init__(self, features: int, states: int, directions: int, dt_min: float = 1e-3, dt_max: float = 1e-1) -> None:
        super().__init__()
        pairs = states // 2
        self.log_dt = nn.Parameter(steps(features, dt_min, dt_max).log().to(torch.get_default_dtype()))
        self.log_decay = nn.Parameter(torch.full((features, pairs), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(pairs).repeat(features, 1).to(self.log_decay))
        self.c = nn.Parameter(torch.randn(directions, features, pairs, 2) * 0.5**0.5)

    def forward(self, length: int) -> Tensor:
        """The kernels (directions, H, L)."""
        poles = torch.complex(-self.log_decay.exp(), self.frequency)
        turns = self.log_dt.exp()[:, None] * poles
        c = 2 * torch.view_as_complex(self.c) * (turns.exp() - 1) / poles
        m = math.isqrt(length - 1) + 1
        near = (turns[..., None] * torch.arange(m).to(self.log_dt)).exp()
        far = (turns[..., None] * (m * torch.arange(-(-length // m))).to(self.log_dt)).exp()
        left = torch.einsum("chn,hna->hcan", c, far).flatten(1, 2)
        # the real part of a complex product, as one real one
        k = torch.bmm(torch.cat([left.real, -left.imag], 2), torch.cat([near.real, near.imag], 1))
        return k.view(k.shape[0], len(self.c), -1).transpose(0, 1)[..., :length]


class LongConv(nn.Module):
    r"""$y_i = D u_i + \sum_{j \le i} k_0(i - j) u_j + \sum_{j > i} k_1(j - i - 1) u_j$ for signals (B, H, L).

    In sampling, while no gradient is asked for the kernel, its transform is kept until a parameter changes.

    Args:
        kernel: Gives k from L, (1, H, L) or with k_1 too (2, H, L).
        features: H.
    """

    def __init__(self, kernel: nn.Module, features: int) -> None:
        super().__init__()
        self.kernel, self.d = kernel, nn.Parameter(torch.randn(features))
        self._known: tuple[object, list[nn.Parameter], Tensor] | None = None

    def forward(self, u: Tensor) -> Tensor:
        length, params = u.shape[-1], list(self.parameters())
        with torch.autocast(u.device.type, enabled=False):  # there are no transforms in half precision on a CPU
            u = u.to(self.d.dtype)
            if self.training or (torch.is_grad_enabled() and any(p.requires_grad for p in params)) or any(p.is_inference() for p in params):
                self._known, circle = None, self._circle(length)
                return _by_matrices(u, _matrices(circle, length)) if length <= DENSE_UP_TO else CircularConv.apply(u, circle)
            operator = self._kept(length, params)
            return _by_matrices(u, operator) if length <= DENSE_UP_TO else _by_transforms(u, operator, _transform_size(length))

    def _circle(self, length: int) -> Tensor:
        """The weight of every lag on a circle of n samples, (H, n); what lies m samples ahead is n - m behind."""
        k, gap = self.kernel(length), _transform_size(length) - 2 * length
        ahead = k[1].flip(-1) if len(k) == 2 else torch.zeros_like(k[0])
        return torch.cat([k[0, :, :1] + self.d[:, None], k[0, :, 1:], k.new_zeros(len(self.d), gap), ahead], 1)

    def _kept(self, length: int, params: list[nn.Parameter]) -> Tensor:
        """The convolution as matrices (H, L, L) or, of longer signals, as factors (H, n / 2 + 1) of a transform."""
        # held by identity, version and place: what an optimiser, `load_state_dict` or `to` changes shows in one of them
        key = (length, [(id(p), p._version, p.data_ptr(), p.dtype) for p in params])
        known = self._known
        if known is None or known[0] != key:
            with torch.inference_mode(False), torch.no_grad():  # kept for later calls, which may need gradients in u
                circle = self._circle(length)
                operator = _matrices(circle, length).contiguous() if length <= DENSE_UP_TO else torch.fft.rfft(circle)
            known = self._known = key, params, operator  # with the parameters, so that no other takes their place in memory
        return known[2]

    def train(self, mode: bool = True) -> Self:
        self._known = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": None}  # a copy has parameters of its own


class CircularConv(torch.autograd.Function):
    """Signals (B, H, L) convolved with circles (H, n), n at least 2 L, and cut to L.

    Autograd's own derivative takes complex transforms of what is real, at twice the cost; this one can be derived in turn.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, circle: Tensor) -> Tensor:
        n = circle.shape[-1]
        factors, spectrum = torch.fft.rfft(circle), torch.fft.rfft(u, n=n)
        ctx.save_for_backward(u, circle)
        ctx.spectra = spectrum, factors
        return torch.fft.irfft(spectrum * factors, n=n)[..., : u.shape[-1]]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        u, circle = ctx.saved_tensors
        n, length = circle.shape[-1], u.shape[-1]
        # a second derivative runs through these transforms, which must then be functions of what was given
        spectrum, factors = (torch.fft.rfft(u, n=n), torch.fft.rfft(circle)) if torch.is_grad_enabled() else ctx.spectra
        slope = torch.fft.rfft(gradient, n=n)
        of_u = torch.fft.irfft(slope * factors.conj(), n=n)[..., :length] if ctx.needs_input_grad[0] else None
        of_circle = torch.fft.irfft((slope * spectrum.conj()).sum(0), n=n) if ctx.needs_input_grad[1] else None
        return of_u, of_circle


def _by_transforms(u: Tensor, factors: Tensor, n: int) -> Tensor:
    return torch.fft.irfft(torch.fft.rfft(u, n=n) * factors, n=n)[..., : u.shape[-1]]


def _by_matrices(u: Tensor, matrices: Tensor) -> Tensor:
    return torch.bmm(u.transpose(0, 1), matrices).transpose(0, 1)


def _transform_size(length: int) -> int:
    from scipy.fft import next_fast_len  # not above: every command loads the backbones' names

    return 2 * next_fast_len(length, real=True)  # an odd size takes twice as long


def _matrices(circle: Tensor, length: int) -> Tensor:
    """The convolution of row vectors as matrices (H, L, L), entry (j, i) the weight of sample j in output i."""
    lags = torch.cat([circle[:, circle.shape[1] - length + 1 :], circle[:, :length]], 1)  # from 1 - L to L - 1
    return lags.unfold(1, length, 1).flip(1)


class S4Layer(nn.Module):
    r"""$LayerNorm(u + W gelu(k * u + D u) + b)$ over the features of signals (B, H, L).

    Args:
        features: H.
        length: L, the longest signal of kind "fixed"; shorter ones have a part of the same kernels.
        states: N.
        kind: "fixed" or "s4d", see above.
        bidirectional: Look at later samples too, with kernels of their own.
        groups: Of kind "fixed", how many steps the features share; as many as features for one each.
        dt_min, dt_max: Range of the steps.
        basis: Of kind "fixed", the responses where layers share them.

    Raises:
        BadPlan: No kind of that name.
        BadModel: `groups` does not divide the features.
    """

    def __init__(
        self,
        features: int,
        length: int,
        states: int = 64,
        *,
        kind: Kind = "fixed",
        bidirectional: bool = True,
        groups: int = 16,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        basis: Basis | None = None,
    ) -> None:
        super().__init__()
        directions = 2 if bidirectional else 1
        if one_of("kind of state space", kind, get_args(Kind)) == "fixed":
            kernel: nn.Module = FixedKernel(features, basis or Basis(groups, states, length, dt_min, dt_max), directions)
        else:
            kernel = DiagonalKernel(features, states, directions, dt_min, dt_max)
        self.conv = LongConv(kernel, features)
        self.mix = nn.Linear(features, features)
        self.norm = nn.LayerNorm(features)

    def forward(self, u: Tensor) -> Tensor:
        # a convolution of width 1 is the linear layer without two transpositions
        mixed = conv1d(gelu(self.conv(u)), self.mix.weight[..., None], self.mix.bias)
        return self.norm((u + mixed).transpose(1, 2)).transpose(1, 2)
