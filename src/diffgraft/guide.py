r"""Guidance: the one formula of this package.

    d = base(x_t, t, y)          D = d + w(t) shift(x_t, t, y, d)

A guided denoiser is a denoiser that wraps a denoiser, so samplers never learn that guidance exists. One convention of
the weight everywhere: w = 0 is the base, w = 1 the target, w > 1 beyond it. Two kinds of shift cover the family:

- `toward(tuned)` leads from the base to another network, $D_{tuned} - d$: Domain Guidance, classifier-free guidance,
  autoguidance.
- `ratio_shift(log_h, schedule)` adds the gradient of a log density ratio, $(\sigma_t^2 / \alpha_t) \nabla_x \log h$:
  TGDP, contrastive energy prediction, classifier guidance. With $h = q_t / p_t$ the result is exactly the target's
  denoiser, since score_q = score_p + grad log h and score = (alpha D - x) / sigma^2.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .denoise import Denoiser, Net
from .errors import BadModel, BadPlan, ScheduleMismatch
from .schedule import ALPHA_MIN, Schedule
from .shapes import expand, outside_inference

LogH = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Interval:
    """See `interval`."""

    weight: float
    lo: float
    hi: float
    outside: float | None = None


def interval(weight: float, lo: float, hi: float, outside: float | None = None) -> Interval:
    """A guidance weight inside a range of log-SNR only.

    Args:
        weight: w where lo <= log-SNR <= hi.
        lo, hi: Bounds in log-SNR, log(alpha_t^2 / sigma_t^2).
        outside: w elsewhere; by default 1 for `toward` (the tuned net alone) and 0 for `ratio_shift` (the base alone).

    Reference:
        Kynkaanniemi et al., Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in
        Diffusion Models, 2024, arXiv 2404.07724.
    """
    return Interval(weight, lo, hi, outside)


class Shift(nn.Module):
    """The step from the base to the target, `shift(x_t, t, y, d)`, given the base's output `d`.

    Attributes:
        schedule: The forward process of `x_t`.
        outside: The weight outside an interval.
        n_classes: How many labels it knows; 0 where it ignores them.
    """

    outside = 0.0

    def __init__(self, schedule: Schedule, n_classes: int = 0) -> None:
        super().__init__()
        self.schedule = schedule
        self.n_classes = n_classes

    @property
    def target(self) -> Denoiser | None:
        """The denoiser that w = 1 amounts to, where there is one."""
        return None

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None, d: Tensor) -> Tensor:
        """The step from `d`, of its shape."""
        raise NotImplementedError

    def beside(self, base: Denoiser, x_t: Tensor, t: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """The base's output and the step from it."""
        d = base(x_t, t, y)
        return d, self(x_t, t, y, d)


class Toward(Shift):
    """See `toward`."""

    outside = 1.0

    def __init__(self, tuned: Denoiser) -> None:
        super().__init__(tuned.schedule, tuned.n_classes)
        self.tuned = tuned

    @property
    def target(self) -> Denoiser:
        return self.tuned

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None, d: Tensor) -> Tensor:
        return self.tuned(x_t, t, y) - d


def toward(tuned: Denoiser) -> Shift:
    """The shift from the base to another denoiser: D_tuned(x_t, t, y) - d."""
    return Toward(tuned)


class RatioShift(Shift):
    """See `ratio_shift`."""

    def __init__(self, log_h: LogH, schedule: Schedule) -> None:
        super().__init__(schedule, getattr(log_h, "n_classes", 0))
        self.log_h = log_h

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None, d: Tensor) -> Tensor:
        factor = self.factor(x_t, t)
        return torch.zeros_like(x_t) if factor is None else factor * gradient(self.log_h, x_t, t, y)

    def beside(self, base: Denoiser, x_t: Tensor, t: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """The base's output and the step from it, in one pass where log h is read off the base's own network."""
        factor, read = self.factor(x_t, t), getattr(self.log_h, "beside", None)
        if factor is not None and read is not None and not torch.is_grad_enabled():
            with torch.inference_mode(False), torch.enable_grad():
                x = outside_inference(x_t).detach().requires_grad_()
                if found := read(base, x, outside_inference(t), None if y is None else outside_inference(y)):
                    d, log_h = found
                    return d.detach(), factor * torch.autograd.grad(log_h.sum(), x)[0]
        return super().beside(base, x_t, t, y)

    def factor(self, x_t: Tensor, t: Tensor) -> float | Tensor | None:
        """What the gradient is multiplied by; None where all of it is left out."""
        alpha_t, sigma_t, _ = self.schedule.levels(t)
        if isinstance(alpha_t, float):
            return None if alpha_t < ALPHA_MIN else sigma_t**2 / alpha_t
        return expand(torch.where(alpha_t < ALPHA_MIN, 0.0, sigma_t**2 / alpha_t.clamp(min=ALPHA_MIN)), x_t)


def ratio_shift(log_h: LogH, schedule: Schedule) -> Shift:
    r"""The shift of a density ratio: $(\sigma_t^2 / \alpha_t) \nabla_x \log h(x_t, t, y)$.

    Skipped where alpha_t < 1e-3, since pure noise says nothing about the domain.

    Args:
        log_h: log h(x_t, t, y) -> (B,), a `LogRatio` or any function of that form.
        schedule: The forward process of its `x_t`.

    Reference:
        Ouyang, Xie, Zha, Cheng, Transfer Learning for Diffusion Models, 2024, arXiv 2405.16876, Theorem 3.1.
    """
    return RatioShift(log_h, schedule)


def gradient(log_h: LogH, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
    r"""$\nabla_x \log h(x_t, t, y)$, of the shape of `x_t`, differentiable itself where gradients are enabled.

    Works inside `torch.no_grad()` and inside a caller's `torch.inference_mode()`. A `log_h` with a method `gradient` of
    its own is asked first.

    Raises:
        BadModel: `log_h` returned another shape than (B,).
    """
    own = getattr(log_h, "gradient", None)
    known = None if own is None else own(x_t, t, y)
    if known is not None:
        return known
    differentiable = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        x, t = outside_inference(x_t), outside_inference(t)
        y = None if y is None else outside_inference(y)
        x = x if differentiable and x.requires_grad else x.detach().requires_grad_()
        value = log_h(x, t, y)
        if value.shape != (len(x),):
            raise BadModel(f"log h must have one value a sample, ({len(x)},), got {tuple(value.shape)}")
        return torch.autograd.grad(value.sum(), x, create_graph=differentiable)[0]


class Guided(Denoiser):
    """A base denoiser with one shift and its weight. Nest it for several.

    At w = 0 the shift is not evaluated; at w = 1 of a `toward` the base is not.

    Args:
        base: The denoiser to start from.
        shift: `toward(...)` or `ratio_shift(...)`.
        weight: w, a number or an `interval`.

    Raises:
        ScheduleMismatch: Base and shift belong to different forward processes.

    Example:
        >>> import torch, diffgraft as dg
        >>> task = dg.tasks.mixtures.shifted(n_target=10)
        >>> source, target, schedule = task.truth.source, task.truth.target, task.truth.source.schedule
        >>> model = dg.Guided(source, dg.ratio_shift(task.truth.log_h, schedule), weight=1.0)
        >>> x_t, t = torch.randn(7, 2, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
        >>> torch.allclose(model(x_t, t), target(x_t, t), atol=1e-10)
        True
    """

    def __init__(self, base: Denoiser, shift: Shift, weight: float | Interval = 1.0) -> None:
        if base.schedule != shift.schedule:
            raise ScheduleMismatch(
                f"base and shift must share one noise schedule, got {base.schedule} and {shift.schedule}; wrap one: with_schedule(net, base.schedule)"
            )
        super().__init__(base.schedule, base.shape, max(base.n_classes, shift.n_classes))
        self.base, self.shift, self.weight = base, shift, weight
        self.transform, self.prior, self.layout = base.transform, (shift.target or base).prior, base.layout

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        w = weight_at(self.weight, self.schedule, t, self.shift.outside)
        if not isinstance(w, Tensor):
            if w == 0:
                return self.base(x_t, t, y)
            if w == 1 and self.shift.target is not None:
                return self.shift.target(x_t, t, y)
        d, step = self.shift.beside(self.base, x_t, t, y)
        return d + (expand(w, d) if isinstance(w, Tensor) else w) * step

    def parts(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> tuple[float | Tensor, Tensor, Tensor]:
        """The weight at `t`, the base's output and the shift, all evaluated."""
        return weight_at(self.weight, self.schedule, t, self.shift.outside), *self.shift.beside(self.base, x_t, t, y)


class Steered(Denoiser):
    r"""A network that learned to be guided at any weight from 1 on, at one of them: $D(x_t, t, y, w)$ in a single pass.

    Args:
        base: A `Net` whose module takes the weight as its fourth input.
        weight: w, a number or an `interval`, outside of which w is 1 unless it says otherwise.

    Raises:
        BadModel: The module is one of this package's that takes no weight.
        BadPlan: The weight is below 1.
    """

    def __init__(self, base: Net, weight: float | Interval = 1.0) -> None:
        if not getattr(base.module, "config", {"steered": True}).get("steered"):
            raise BadModel("this network takes no guidance weight; build it with steered=True, or fit DogFit(control=True)")
        super().__init__(base.schedule, base.shape, base.n_classes)
        self.base, self.weight = base, check_learned(weight)
        self.like(base)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        w = weight_at(self.weight, self.schedule, t, 1.0)
        return self.base(x_t, t, y, torch.as_tensor(w, dtype=x_t.dtype, device=x_t.device))

    def loss_weight(self, t: Tensor) -> Tensor:
        """That of its network."""
        return self.base.loss_weight(t)


def check_learned(weight: float | Interval) -> float | Interval:
    """The weight, if it is among those that a `Steered` network learned.

    Raises:
        BadPlan: It is below 1.
    """
    asked = [weight.weight, 1.0 if weight.outside is None else weight.outside] if isinstance(weight, Interval) else [weight]
    if not all(w >= 1 for w in asked):
        raise BadPlan(f"a network with its weight as an input learned weights from 1 on, got {min(asked)}; give 1 or more, or use domain_guidance")
    return weight


def weight_at(weight: float | Interval, schedule: Schedule, t: Tensor, outside: float) -> float | Tensor:
    """The weight at times `t`: a number where it is one for all of them, else of the shape of `t`.

    Args:
        outside: The weight outside an interval that gives none itself.
    """
    if not isinstance(weight, Interval):
        return weight
    outside = outside if weight.outside is None else weight.outside
    log_snr = schedule.log_snr(t)
    inside = (log_snr >= weight.lo) & (log_snr <= weight.hi)
    if bool(inside.all()):
        return weight.weight
    if not bool(inside.any()):
        return outside
    return torch.where(inside, weight.weight, outside).to(t.dtype)


def reweighted(model: Denoiser, weight: float | Interval) -> Denoiser:
    """The same model at another guidance weight; nothing is copied.

    Raises:
        BadModel: The model is neither guided nor `Steered`, so it has no weight to set.
        BadPlan: A weight below 1 for a `Steered` one.
    """
    if isinstance(model, Steered):
        return Steered(model.base, weight).like(model)
    if not isinstance(model, Guided):
        raise BadModel("only a guided model has a weight, this one is a plain network; drop the weight, or fit a guided method such as tgdp")
    return Guided(model.base, model.shift, weight).like(model)
