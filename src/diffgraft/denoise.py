r"""Denoisers: what every network, exact law and guided model of this package is.

A denoiser returns the best guess of the clean sample, $D(x_t, t, y) = E[x_0 | x_t, y]$. Everything else follows
from it: the noise $\epsilon = (x_t - \alpha_t D) / \sigma_t$ and, by Tweedie's formula, the score
$\nabla \log p_t(x_t) = (\alpha_t D - x_t) / \sigma_t^2$. Networks predict other things; `Net` turns each into $D$ as
$D = c_{skip} x_t + c_{out} F(c_{in} x_t, t, y)$:

| predicts | $F$ stands for | $c_{skip}$ | $c_{out}$ |
|---|---|---|---|
| `eps` | $\epsilon$ | $1 / \alpha$ | $-\sigma / \alpha$ |
| `v` | $\alpha \epsilon - \sigma x_0$ | $\alpha / (\alpha^2 + \sigma^2)$ | $-\sigma / (\alpha^2 + \sigma^2)$ |
| `x0` | $x_0$ | 0 | 1 |
| `flow` | $\epsilon - x_0$ | $1 / (\alpha + \sigma)$ | $-\sigma / (\alpha + \sigma)$ |
| `edm` | a mix that keeps unit variance | eq. 7 of Karras et al. 2022, on $x_t / \alpha$ | |

Denoisers live in model space; `transform` leads to data units and `prior` says which labels to sample.
"""

import inspect
from collections.abc import Callable
from typing import Any, Literal, Self, cast, get_args

import torch
from torch import Tensor, nn

from .data import NULL, Layout, Prior, Transform
from .errors import BadModel, one_of
from .schedule import Schedule
from .shapes import expand, per_sample, sum_features

Prediction = Literal["eps", "v", "x0", "flow", "edm"]
Level = Tensor | float


class Denoiser(nn.Module):
    """$E[x_0 | x_t, y]$ under a noise schedule.

    Attributes:
        schedule: The forward process of `x_t`.
        shape: Shape of one sample, without the batch; None where it is not known.
        n_classes: How many classes (or multi-hot columns) `y` may have; 0 where labels are ignored.
        transform: Model space to data units.
        prior: Labels to sample where none are asked for.
        layout: What the numbers of a sample are called.
        notes: What a method noted of its fit, for the record: warnings, times, choices.
    """

    def __init__(self, schedule: Schedule, shape: tuple[int, ...] | None = None, n_classes: int = 0) -> None:
        super().__init__()
        self.schedule = schedule
        self.shape = None if shape is None else tuple(shape)
        self.n_classes = n_classes
        self.transform = Transform.identity()
        self.prior: Prior | None = None
        self.layout = Layout()
        self.notes: dict[str, Any] = {}

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Best guess of the clean sample.

        Args:
            x_t: Noisy samples (B, *), in model space.
            t: Time in [0, 1], () or (B,).
            y: None, class indices (B,) with -1 for none, or multi-hot rows (B, K).

        Returns:
            E[x_0 | x_t, y], of the shape of `x_t`.
        """
        raise NotImplementedError

    def loss_weight(self, t: Tensor) -> Tensor:
        r"""Weight of $|D - x_0|^2$ in the loss; the default, $\alpha^2 / \sigma^2$, makes it the error in $\epsilon$."""
        return self.schedule.log_snr(t).exp()

    def like(self, other: "Denoiser") -> "Denoiser":
        """This denoiser with the transform, the label prior and the layout of `other`."""
        self.transform, self.prior, self.layout = other.transform, other.prior, other.layout
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.transform.follow(fn)
        return super()._apply(fn, recurse)


def coefficients(predicts: Prediction, alpha_t: Level, sigma_t: Level, sigma_data: float = 1.0) -> tuple[Level, Level, Level]:
    """`c_in, c_skip, c_out` of the table above, for one prediction type."""
    match predicts:
        case "eps":
            if isinstance(alpha_t, float) and alpha_t == 0:
                raise BadModel("a network that predicts eps says nothing about x_0 where alpha_t = 0; stay at or below schedule.t_max")
            return 1.0, 1 / alpha_t, -sigma_t / alpha_t
        case "v":
            total = alpha_t**2 + sigma_t**2
            return 1.0, alpha_t / total, -sigma_t / total
        case "flow":
            return 1.0, 1 / (alpha_t + sigma_t), -sigma_t / (alpha_t + sigma_t)
        case "x0":
            return 1.0, 0.0, 1.0
        case "edm":
            total = sigma_t**2 + (alpha_t * sigma_data) ** 2
            return total**-0.5, alpha_t * sigma_data**2 / total, sigma_t * sigma_data * total**-0.5


class Net(Denoiser):
    """Any torch module as a denoiser.

    The module is called as `module(x_t, t, y)`, or `module(x_t, t)` where it takes no label, with `t` (B,) in [0, 1],
    or the step (a float) under a `discrete` schedule.

    Args:
        module: The network F.
        schedule: The forward process that it was trained under.
        predicts: What it returns: "eps", "v", "x0", "flow" or "edm".
        shape: Shape of one sample, (D,) or (C, H, W).
        n_classes: How many labels it knows; by default its own `n_classes`, or 0.
        round_steps: Under a `discrete` schedule, call the module at whole steps only.
        null_label: The class index that the module takes for "no label"; by default it takes None or -1.
        sigma_data: Standard deviation of the data, for "edm".

    Raises:
        BadPlan: `predicts` is none of these.

    Example:
        >>> import torch, diffgraft as dg
        >>> net = dg.Net(lambda x_t, t: 0 * x_t, schedule=dg.vp(), predicts="x0", shape=(3,))
        >>> net(torch.ones(7, 3), torch.tensor(0.5)).abs().max()
        tensor(0.)
    """

    def __init__(
        self,
        module: nn.Module,
        schedule: Schedule,
        predicts: Prediction = "eps",
        shape: tuple[int, ...] | None = None,
        *,
        n_classes: int | None = None,
        round_steps: bool = False,
        null_label: int | None = None,
        sigma_data: float = 1.0,
    ) -> None:
        super().__init__(schedule, shape, getattr(module, "n_classes", 0) if n_classes is None else n_classes)
        self.module = module
        self.predicts = cast(Prediction, one_of("prediction type", predicts, get_args(Prediction)))
        self.round_steps = round_steps
        self.null_label = null_label
        self.sigma_data = sigma_data
        self.takes_label = _takes_label(module)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None, w: Tensor | None = None, maps: list[Tensor] | None = None) -> Tensor:
        """D; `w`, () or (B,), goes to a module that takes a guidance weight as its fourth input; `maps` is filled with the feature maps of one
        that shows them.
        """
        alpha_t, sigma_t, step = self.schedule.levels(t)
        c_in, c_skip, c_out = (expand(c, x_t) if isinstance(c, Tensor) else c for c in coefficients(self.predicts, alpha_t, sigma_t, self.sigma_data))
        step = per_sample((step.round() if isinstance(step, Tensor) else round(step)) if self.round_steps else step, x_t)
        x_in = c_in * x_t if self.predicts == "edm" else x_t
        told = [*([self._label(y, x_t)] if self.takes_label else []), *([] if w is None else [w])]
        if maps is None:
            out = self.module(x_in, step, *told)
        else:
            out, maps[:] = cast(Any, self.module).read(x_in, step, *told)
        if self.predicts == "x0":
            return out
        return torch.add(c_skip * x_t, out, alpha=c_out) if isinstance(c_out, float) else c_skip * x_t + c_out * out

    def loss_weight(self, t: Tensor) -> Tensor:
        """The weight that makes the loss the network's own, the plain squared error of F."""
        c_out = coefficients(self.predicts, *self.schedule(t), self.sigma_data)[2]
        return c_out**-2 if isinstance(c_out, Tensor) else torch.ones_like(t)

    def _label(self, y: Tensor | None, x_t: Tensor) -> Tensor | None:
        if self.null_label is None:
            return y
        if y is None:
            return torch.full((len(x_t),), self.null_label, device=x_t.device)
        return torch.where(y == NULL, self.null_label, y)


def _takes_label(module: nn.Module) -> bool:
    call = module.forward if isinstance(module, nn.Module) else module
    kinds = [p.kind for p in inspect.signature(call).parameters.values()]
    return kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) >= 3 or inspect.Parameter.VAR_POSITIONAL in kinds


def inner_net(model: Denoiser) -> Net | None:
    """The network that a denoiser wraps, or its base does; None where there is none."""
    inner: Any = model
    while isinstance(inner, Denoiser) and not isinstance(inner, Net):
        inner = getattr(inner, "base", None)
    return inner


class DropLabel(Denoiser):
    """See `drop_label`."""

    def __init__(self, base: Denoiser) -> None:
        super().__init__(base.schedule, base.shape)
        self.base = base
        self.transform, self.layout = base.transform, base.layout

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.base(x_t, t, None)


def drop_label(base: Denoiser) -> Denoiser:
    """`base` without labels: D(x_t, t, null) whatever `y` is. The unconditional branch of guidance."""
    return DropLabel(base)


class KnownLabels(Denoiser):
    """See `known_labels`."""

    def __init__(self, base: Denoiser, values: Tensor, n_classes: int) -> None:
        super().__init__(base.schedule, base.shape, n_classes)
        self.base = base
        self.register_buffer("values", values)
        self.like(base)

    values: Tensor

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if y is None or self.base.n_classes == 0 or y.shape[1:] != self.values.shape[1:]:
            return self.base(x_t, t, None)
        known = matches(y, self.values)
        return self.base(x_t, t, torch.where(known if y.ndim == 1 else known[:, None], y, NULL))


def bare_net(base: Denoiser, y: Tensor | None) -> "Net | None":
    """The network that a denoiser runs on labels `y` without a label and nothing around it; None where there is no such."""
    match base:
        case Net():
            return base if y is None or base.n_classes == 0 else None
        case DropLabel():
            return bare_net(base.base, None)
        case KnownLabels() if y is None or base.base.n_classes == 0 or y.shape[1:] != base.values.shape[1:]:
            return bare_net(base.base, None)
    return None


def matches(y: Tensor, values: Tensor) -> Tensor:
    """Which labels (B,) or (B, K) a model knows that learned from `values`, (M,) or (M, K): none where one are classes and the others rows.

    A row of statements is known where each of its statements was seen, together or not; one without any where there was such.
    """
    if y.shape[1:] != values.shape[1:]:
        return torch.zeros(len(y), dtype=torch.bool, device=y.device)
    values = values.to(y)
    if y.ndim == 1:
        return (y[:, None] == values).any(1)
    unseen, empty = (values <= 0).all(0), (y <= 0).all(1)
    return torch.where(empty, (values <= 0).all(1).any(), ~((y > 0) & unseen).any(1))


def known_labels(base: Denoiser, values: Tensor, n_classes: int) -> Denoiser:
    """`base` as a denoiser of more labels than it knows: at any but `values` it runs without a label.

    Args:
        base: A denoiser that can drop its label.
        values: Labels that it knows, class indices (M,) or multi-hot rows (M, K).
        n_classes: How many labels the result takes.
    """
    return KnownLabels(base, values, n_classes)


class WithSchedule(Denoiser):
    """See `with_schedule`."""

    def __init__(self, base: Denoiser, schedule: Schedule) -> None:
        super().__init__(schedule, base.shape, base.n_classes)
        self.base = base
        self.like(base)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        s = self.base.schedule.time_at(self.schedule.log_snr(t))
        # at equal log-SNR alpha, sigma and their norm all scale alike; the norm never vanishes
        scale = torch.hypot(*self.base.schedule(s)) / torch.hypot(*self.schedule(t))
        return self.base(expand(scale, x_t) * x_t, s, y)


def with_schedule(base: Denoiser, schedule: Schedule) -> Denoiser:
    r"""`base` as a denoiser of another forward process, exactly.

    Two processes at equal log-SNR differ by a factor, so
    $D'(x_t, t) = D(x_t \alpha_s / \alpha'_t, s)$ with $\lambda_s = \lambda'_t$.

    Args:
        base: The denoiser; returned as it is where it has this schedule already.
        schedule: The forward process of the result's `x_t`.
    """
    return base if base.schedule == schedule else WithSchedule(base, schedule)


def score(denoiser: Denoiser, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
    r"""$\nabla_x \log p_t(x_t | y) = (\alpha_t D - x_t) / \sigma_t^2$, of the shape of `x_t`."""
    alpha_t, sigma_t = (expand(a, x_t) for a in denoiser.schedule(t))
    return (alpha_t * denoiser(x_t, t, y) - x_t) / sigma_t**2


def noised(schedule: Schedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    r"""$x_t = \alpha_t x_0 + \sigma_t \epsilon$."""
    alpha_t, sigma_t = schedule(t)
    return expand(alpha_t, x_0) * x_0 + expand(sigma_t, x_0) * eps


def denoising_loss(denoiser: Denoiser, x_0: Tensor, t: Tensor, eps: Tensor, y: Tensor | None = None) -> Tensor:
    r"""Denoising score matching, per sample: $w(t) |D(x_t, t, y) - x_0|^2 / d$, shape (B,).

    Args:
        denoiser: Gives D and the weight w, by default that of the error in eps.
        x_0, eps: Clean samples and noise (B, *).
        t: Times (B,).

    Raises:
        BadModel: The network returned another shape than its input's.
    """
    guess = denoiser(noised(denoiser.schedule, x_0, t, eps), t, y)
    if guess.shape != x_0.shape:
        raise BadModel(f"the network must return the shape of its input, {tuple(x_0.shape)}, but returned {tuple(guess.shape)}")
    return denoiser.loss_weight(t) * sum_features((guess - x_0) ** 2) / x_0[0].numel()


def regression_loss(denoiser: Denoiser, exact: Denoiser, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
    r"""Squared distance to a known denoiser, per sample: $w(t) |D(x_t, t, y) - D^*(x_t, t, y)|^2 / d$, shape (B,).

    The same minimum as `denoising_loss` on samples of the law of $D^*$, without the noise of single $x_0$.
    """
    with torch.no_grad():
        aim = exact(x_t, t, y)
    return denoiser.loss_weight(t) * sum_features((denoiser(x_t, t, y) - aim) ** 2) / x_t[0].numel()
