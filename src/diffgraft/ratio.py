r"""Log density ratios between two noised domains, and how they are learned.

$\log h(x_t, t, y) = \log q_t(x_t | y) - \log p_t(x_t | y)$ is the conditional expectation of the clean ratio
$r = q / p$ given $x_t$ (eq. 12 of arXiv 2405.16876). The network's output IS log h: an unconstrained number per
sample, kept in logs from end to end. Regression on the clean ratio sees a handful of heavy-tailed values; a classifier
of noised samples sees bounded labels, and its logit at optimum is log h.
"""

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from .denoise import Denoiser, bare_net
from .errors import BadModel
from .schedule import Schedule
from .shapes import expand, per_sample

Link = Literal["log_h", "log_c"]
SAME = 1e-6
"""How near to 1 the scale of x_t is where a network and a head on it see the same numbers."""


class LogRatio(nn.Module):
    """log h(x_t, t, y), one value a sample, from any scalar network.

    The network sees `x_t / sqrt(alpha_t^2 + sigma_t^2)`, which has unit scale under every schedule.

    Args:
        module: Called as `module(x, t, y)`, returns (B,) or (B, 1), or (B, K) of K bridges, `n_out` of them, that add up.
        schedule: The forward process of `x_t`.
        link: "log_h": the output is log h. "log_c": the output is a logit and the value its log-sigmoid, the log
            probability that a classifier gives the target.
    """

    def __init__(self, module: nn.Module, schedule: Schedule, link: Link = "log_h") -> None:
        super().__init__()
        self.module = module
        self.schedule = schedule
        self.link = link
        self.n_classes = getattr(module, "n_classes", 0)
        self.bridges: int = getattr(module, "n_out", 1)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        out = self.each(x_t, t, y).sum(1)
        return logsigmoid(out) if self.link == "log_c" else out

    def each(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The network's outputs (B, K): one, or those of the bridges that add up to log h."""
        norm, step = self._norm_and_step(x_t, t)
        out = self.module(x_t / norm, step, y)
        if out.shape == (len(x_t),):
            out = out[:, None]
        if out.shape != (len(x_t), self.bridges):
            raise BadModel(f"a ratio network must return one value a sample, ({len(x_t)},), got {tuple(out.shape)}")
        return out

    def gradient(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor | None:
        """The gradient of log h in `x_t`, where the network has a method `gradient` of its own; else None."""
        own = getattr(self.module, "gradient", None)
        if own is None or self.link == "log_c":
            return None
        norm, step = self._norm_and_step(x_t, t)
        return own(x_t / norm, step, y) / norm

    def beside(self, base: Denoiser, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor] | None:
        """What `base` says and log h (B,), in one pass of the network that both read; None where they read none in common."""
        net, (norm, step) = bare_net(base, y), self._norm_and_step(x_t, t)
        if net is None or net.module is not getattr(self.module, "body", None) or isinstance(norm, Tensor) or abs(norm - 1) > SAME:
            return None
        if net.predicts == "edm" or net.round_steps or net.null_label is not None:
            return None
        maps: list[Tensor] = []
        d = net(x_t, t, None, None, maps)
        out = self._probe.judge(self._probe.seen_in(maps, x_t), step, y).sum(1)
        return d, logsigmoid(out) if self.link == "log_c" else out

    def seen(self, x_t: Tensor, t: Tensor) -> Tensor:
        """What a `Probe` sees of noised samples, (B, F)."""
        norm, step = self._norm_and_step(x_t, t)
        return self._probe.seen(x_t / norm, step)

    def judge(self, seen: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """log h (B,) of what a `Probe` has seen."""
        return self._probe.judge(seen, per_sample(self.schedule.levels(t)[2], seen), y).sum(1)

    @property
    def _probe(self) -> Any:
        return self.module

    def _norm_and_step(self, x_t: Tensor, t: Tensor) -> tuple[float | Tensor, Tensor]:
        alpha_t, sigma_t, step = self.schedule.levels(t)
        norm = (alpha_t**2 + sigma_t**2) ** 0.5
        return (expand(norm, x_t) if isinstance(norm, Tensor) else norm), per_sample(step, x_t)


def logistic_loss(log_h_source: Tensor, log_h_target: Tensor) -> Tensor:
    r"""Logistic loss of a domain classifier with logit log h, per pair: $\log(1 + h(x^p)) + \log(1 + 1 / h(x^q))$.

    Its minimum over all functions, with equally many samples of both domains, is $\log h = \log q_t / p_t$.

    Args:
        log_h_source: At noised source samples (B,).
        log_h_target: At noised target samples (B,).

    Raises:
        BadModel: Shapes differ, which would broadcast to a (B, B) table and teach a constant.
    """
    _same_shape(log_h_source, log_h_target)
    return softplus(log_h_source) + softplus(-log_h_target)


def guidance_loss(log_h: Tensor, log_r: Tensor) -> Tensor:
    r"""Regression on the clean ratio, per source sample: $(h(x_t, t) - r(x_0))^2$ with $h = \exp f$ (eq. 8).

    Its minimum is $h = E_{p(x_0 | x_t)}[r(x_0)] = q_t / p_t$. The same form at target samples, with the ratio of a
    time-dependent classifier in the place of r, is the cycle loss (eq. 13).

    Args:
        log_h: f at noised samples (B,).
        log_r: Log ratio that it should reach (B,), without gradient.

    Raises:
        BadModel: Shapes differ.
    """
    _same_shape(log_h, log_r)
    return (log_h.exp() - log_r.detach().exp()) ** 2


def soft_logistic_loss(log_h: Tensor, log_r: Tensor) -> Tensor:
    r"""Eq. 8 with the logistic loss in the place of the square, per source sample: $\log(1 + h) + r \log(1 + 1 / h)$.

    Its minimum is the same, $h = E_{p(x_0 | x_t)}[r(x_0)] = q_t / p_t$, but a few large ratios do not rule it. The sample stands
    in both classes, noise and all, so the loss has less variance than one between two sets of samples.

    Args:
        log_h: At noised source samples (B,).
        log_r: Log ratio of the clean samples (B,), without gradient.

    Raises:
        BadModel: Shapes differ.
    """
    _same_shape(log_h, log_r)
    return softplus(log_h) + log_r.detach().exp() * softplus(-log_h)


def _same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape or a.ndim != 1:
        raise BadModel(f"log ratios of a loss must have one shape (B,), got {tuple(a.shape)} and {tuple(b.shape)}")
