"""What a fit and its samples cost: passes, parameters, memory, and on which machine under which versions."""

import platform
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch
from torch import Tensor

from . import __version__
from .denoise import Denoiser, Net
from .guide import RatioShift


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {"diffgraft": __version__, "python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy", "scipy", "scikit-learn")}}


def describe_device(device: str) -> str:
    """The machine kind, for records."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'' if threads == 1 else 's'}"


@contextmanager
def counted_passes(model: Denoiser) -> Iterator[Callable[[int | None], float]]:
    """Counts network passes: the value gives passes of all its networks together for one call of the model.

    Particles evaluate the parts of a model, not the model; the caller then says for how many samples and steps.
    """
    rows = {"passes": 0, "calls": 0}

    def count(module: torch.nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        rows["passes"] += len(out)

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, Net | RatioShift)]
    start = model.register_forward_hook(lambda module, args, out: rows.__setitem__("calls", rows["calls"] + len(out)))
    try:
        yield lambda calls: round(rows["passes"] / max(1, calls or rows["calls"]), 3)
    finally:
        for hook in (*hooks, start):
            hook.remove()


def trained_parameters(model: Denoiser, source: Denoiser) -> int:
    """Parameters of a fitted model that are not the source's."""
    kept = list(source.parameters())
    return sum(p.numel() for p in model.parameters() if not any(p.shape == k.shape and torch.equal(p, k) for k in kept))


def peak_memory(device: str) -> int:
    """Most memory that this process has held so far, in MiB: of the device, or of the machine."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() // 2**20
    kilo = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo // 2**20
