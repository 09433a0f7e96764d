r"""Few parameters beside a backbone's frozen weights: low-rank adapters, or a scale a layer. torch's parametrisations keep them.

LoRA: every weight becomes $W + \frac{a}{r} B A$ with B = 0 at the start. The backbone's own weights stay as they are, so one set of
them serves with the adapter and without it. DiffFit: every weight becomes $\gamma W$ with $\gamma = 1$ at the start, and biases,
normalisations and the label table are trained too.

References:
    Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021, arXiv 2106.09685, eq. 3.
    Xie et al., DiffFit: Unlocking Transferability of Large Diffusion Models, 2023, arXiv 2304.06648, section 3.2.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..denoise import Denoiser, Net
from ..errors import BadModel


class LowRank(nn.Module):
    """The parametrisation of one weight (out, *)."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        n_out, n_in = len(weight), weight[0].numel()
        rank = min(rank, n_out, n_in)
        self.a = nn.Parameter(torch.randn(rank, n_in).to(weight) / n_in**0.5)
        self.b = nn.Parameter(torch.zeros(n_out, rank).to(weight))
        self.scale, self.on = alpha / rank, True

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * (self.b @ self.a).view_as(weight) if self.on else weight


class Added(nn.Module):
    """The parametrisation of one weight by an addition of full rank, zero at the start."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.zeros_like(weight))
        self.on = True

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.delta if self.on else weight


class Scaled(nn.Module):
    """The parametrisation of one weight by a factor."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones((), dtype=weight.dtype, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return self.gamma * weight


def with_lora(module: nn.Module, rank: int, alpha: float, seed: int = 0, *, table: bool = False) -> nn.Module:
    """The backbone, changed in place: adapters in every linear and convolutional layer, which alone require gradients.

    Args:
        module: A backbone.
        rank: r, cut to what a layer has.
        alpha: a above.
        seed: Of A.
        table: Let the label table change too, freely: for labels that are new, whose rows hold nothing yet.

    Raises:
        BadModel: The backbone has no layer that takes one.
    """
    layers = _layers(module, "lora")
    module.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in layers:
            parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank, alpha))
    for part in [part for part in module.modules() if table and isinstance(part, nn.Embedding)]:
        parametrize.register_parametrization(part, "weight", Added(part.weight))
    module.adapter = {"kind": "lora", "rank": rank, "alpha": alpha, **({"table": True} if table else {})}  # type: ignore[assignment]
    return module


def with_scales(module: nn.Module) -> nn.Module:
    """The backbone, changed in place: what DiffFit trains requires gradients, and nothing else.

    Raises:
        BadModel: The backbone has no layer that takes a scale.
    """
    layers = _layers(module, "difffit")
    module.requires_grad_(False)
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", Scaled(layer.weight))
        if layer.bias is not None:
            layer.bias.requires_grad_(True)
    for part in module.modules():
        if isinstance(part, nn.GroupNorm | nn.LayerNorm | nn.Embedding):
            part.requires_grad_(True)
    module.adapter = {"kind": "scales"}  # type: ignore[assignment]
    return module


def with_adapter(module: nn.Module, settings: dict[str, Any]) -> nn.Module:
    """The backbone with an adapter of `described` settings."""
    if settings["kind"] == "scales":
        return with_scales(module)
    return with_lora(module, settings["rank"], settings["alpha"], table=settings.get("table", False))


def _layers(module: nn.Module, method: str) -> list[nn.Linear | nn.Conv2d]:
    layers = [part for part in module.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    if not layers or any(parametrize.is_parametrized(layer) for layer in layers):
        raise BadModel(f"{method} needs a network of plain linear or convolutional layers, and the source's is none; use finetune")
    return layers


def merged(module: nn.Module) -> nn.Module:
    """The backbone, changed in place: its adapter is written into the weights, and what is left is one plain network."""
    for part in list(module.modules()):
        if parametrize.is_parametrized(part):
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)
    if hasattr(module, "adapter"):
        del module.adapter
    return module


def low_rank_weights(module: nn.Module) -> dict[str, Tensor]:
    """The factors of a LoRA by the names of their layers, `NAME.lora_A.weight` and `NAME.lora_B.weight`, as peft and diffusers have them.

    The scale a / r stands in B. Of a convolution, A has its kernel and B one of 1 x 1.
    """
    found: dict[str, Tensor] = {}
    for name, layer in module.named_modules():
        if not (isinstance(layer, nn.Linear | nn.Conv2d) and parametrize.is_parametrized(layer)):
            continue
        low: Any = layer.parametrizations["weight"][0]  # type: ignore[index]
        if isinstance(low, LowRank):
            down, up = low.a.detach(), low.scale * low.b.detach()
            if isinstance(layer, nn.Conv2d):
                down, up = down.view(len(down), *layer.weight.shape[1:]), up[..., None, None]
            found |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    return found


@contextmanager
def adapter_off(module: nn.Module) -> Iterator[None]:
    """The backbone as it was before, for a block."""
    parts = [part for part in module.modules() if isinstance(part, LowRank | Added)]
    for part in parts:
        part.on = False
    try:
        yield
    finally:
        for part in parts:
            part.on = True


class WithoutAdapter(Denoiser):
    """A network with its adapter off: the source inside a LoRA fine-tune, without weights of its own.

    Args:
        net: The network with the adapter.
    """

    def __init__(self, net: Net) -> None:
        super().__init__(net.schedule, net.shape, net.n_classes)
        self.net = net
        self.like(net)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        with adapter_off(self.net.module):
            return self.net(x_t, t, y)


def described(module: nn.Module) -> dict[str, Any]:
    """The adapter of a backbone, for a model folder; empty where it has none."""
    adapter = getattr(module, "adapter", None)
    return {} if adapter is None else {"adapter": adapter}
