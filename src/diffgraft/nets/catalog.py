"""Backbones by name, and which one suits data of a given shape."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..errors import BadModel, BadPlan, listed, one_of
from ..interop.networks import Network, grown_rows, network, new_dit, with_labels
from ..schedule import Schedule
from .adapters import described, with_adapter
from .embed import zeroed
from .mlp import MLP, default_width
from .probe import Probe
from .sssd import PAPER, SSSD, SignalEncoder
from .unet import Encoder, UNet

NETS: dict[str, Callable[..., nn.Module]] = {"mlp": MLP, "unet": UNet, "encoder": Encoder, "dit": new_dit, "sssd": SSSD, "signal_encoder": SignalEncoder}
DENOISERS, RATIOS = {1: "mlp", 2: "sssd", 3: "unet"}, {1: "mlp", 2: "signal_encoder", 3: "encoder"}
"""What suits samples of each rank."""
PRESETS: dict[str, dict[str, dict[str, Any]]] = {"sssd": {"small": {}, "paper": PAPER}}
"""Settings of a backbone that have a name."""
FORMS = {1: "(D,)", 2: "(C, L)", 3: "(C, H, W)"}
DIFFUSERS, PROBE = "diffusers", "probe"
"""What networks of diffusers, and heads on another network's features, are called in descriptions; they are built from those alone."""
NARROW_UP_TO = 4
TABLE = "label.table.weight"
"""How the name of a label table's weights ends; its last row is no label."""


def build(name: str, shape: tuple[int, ...], schedule: Schedule, n_classes: int = 0, **settings: object) -> nn.Module:
    """The backbone `name` for samples of this shape.

    Raises:
        BadPlan: No backbone of that name.
        BadModel: The backbone is for samples of another rank.
    """
    adapter = settings.pop("adapter", None)
    if name == DIFFUSERS:
        module: nn.Module = network(**settings)  # type: ignore[arg-type]
    elif name == PROBE:
        body: Any = settings["body"]
        module = Probe(tuple(shape), schedule, n_classes, **{**settings, "body": body if isinstance(body, nn.Module) else rebuilt(body, schedule)})  # type: ignore[arg-type]
    else:
        module = _own(name, shape, schedule, n_classes, settings)
    return with_adapter(module, adapter) if isinstance(adapter, dict) else module


def rebuilt(settings: dict[str, Any], schedule: Schedule) -> nn.Module:
    """The backbone that `describe` described, untrained."""
    rest = {key: value for key, value in settings.items() if key not in ("net", "shape")}
    return build(settings["net"], tuple(settings["shape"]), schedule, **rest)


def _own(name: str, shape: tuple[int, ...], schedule: Schedule, n_classes: int, settings: dict[str, object]) -> nn.Module:
    kind = NETS[one_of("net", name, NETS)]
    rank = next((rank for rank in FORMS if name in (DENOISERS[rank], RATIOS[rank])), 3)
    if len(shape) != rank:
        raise BadModel(f"net '{name}' takes samples of shape {FORMS[rank]}, got {tuple(shape)}; choose another net, or reshape the data")
    check_net(name, settings)
    return kind(tuple(shape), schedule, n_classes, **settings)


def check_net(name: str, settings: dict[str, Any]) -> None:
    """Refuse settings that a backbone of this package does not have."""
    if odd := settings.keys() - inspect.signature(NETS[name]).parameters.keys():
        raise BadPlan(f"net '{name}' has no {listed(sorted(odd))}; leave it out, or choose another net")


def default_net(shape: tuple[int, ...]) -> str:
    """The denoising backbone for samples of this shape.

    Raises:
        BadModel: They are no vectors, signals or images.
    """
    return _suited(DENOISERS, shape)


def _suited(nets: dict[int, str], shape: tuple[int, ...]) -> str:
    if len(shape) not in nets:
        raise BadModel(f"no net for samples of shape {tuple(shape)}; make them vectors (D,), signals (C, L) or images (C, H, W)")
    return nets[len(shape)]


def ratio_net(shape: tuple[int, ...], schedule: Schedule, n_classes: int = 0, **settings: object) -> nn.Module:
    """A scalar backbone for samples of this shape: the network of a log ratio, 0 everywhere before training.

    For vectors it has three layers, and up to 4 features half the width of a denoiser: its gradient costs a second pass.
    For signals and images it is an encoder; on top of a source whose network shows its features, methods take a `Probe` of it.
    """
    if len(shape) == 1:
        width = default_width(shape) // (2 if shape[0] <= NARROW_UP_TO else 1)
        settings = {"n_out": 1, "width": width, "depth": 3, **settings}
    module = build(_suited(RATIOS, shape), shape, schedule, n_classes, **settings)
    return silenced(module)


def silenced(module: nn.Module) -> nn.Module:
    """The network with a last layer of zeros."""
    last = [m for m in module.get_submodule("head").modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    zeroed(last)
    return module


def describe(module: nn.Module) -> dict[str, object] | None:
    """Name and settings from which `build` makes the same backbone; None for a module of the user's own."""
    kinds: dict[str, Any] = {**{name: kind for name, kind in NETS.items() if isinstance(kind, type)}, PROBE: Probe, DIFFUSERS: Network}
    names = [name for name, kind in kinds.items() if isinstance(module, kind)]
    if not names:
        return None
    body = {"body": describe(module.body)} if isinstance(module, Probe) else {}
    return {"net": names[0], **module.config, **body, **described(module)}  # type: ignore[dict-item]


def steered(module: nn.Module, schedule: Schedule) -> nn.Module:
    """A copy of a denoising backbone that takes a guidance weight too, which changes nothing until it is trained.

    Raises:
        BadModel: The backbone is none of this package's.
    """
    settings = describe(module) or {}
    if settings.get("net") not in ("mlp", "unet"):
        raise BadModel(f"a guidance weight as an input needs a network of this package, mlp or unet, got a {type(module).__name__}; use domain_guidance")
    with torch.random.fork_rng():
        copy = rebuilt({**settings, "steered": True}, schedule)
    copy.load_state_dict({**copy.state_dict(), **module.state_dict()})
    return copy.to(next(module.parameters()))


def more_labels(module: nn.Module, schedule: Schedule, n_classes: int) -> nn.Module | None:
    """A backbone that knows more labels: the rows of those it knew stay, and a new one begins as no label; None for one of the user's own."""
    known = describe(module)
    if known is None or "adapter" in known:
        return None
    if isinstance(module, Network):
        return with_labels(module, n_classes)
    with torch.random.fork_rng():
        more = rebuilt({**known, "n_classes": n_classes}, schedule)
    old, new = module.state_dict(), more.state_dict()
    for key, value in new.items():
        if key in old and old[key].shape == value.shape:
            new[key] = old[key]
        elif key.endswith(TABLE):
            new[key] = grown_rows(old.get(key), value)
    more.load_state_dict(new)
    return more.to(next(module.parameters()))
