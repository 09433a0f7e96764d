"""Networks of the user's own for the command line, `module:path.to:factory`: code is imported and run only where that is allowed."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from ..denoise import Net
from ..errors import BadModel

PREFIX, FACTORY = "module:", "diffgraft_factory"
"""How a source names a factory, and where a network keeps its name."""
EXAMPLE = "def make(): return dg.Net(module, schedule=dg.vp(), predicts='eps', shape=(3, 32, 32))"


def is_factory(source: str) -> bool:
    """Whether a source names a factory, not a folder."""
    return source.startswith(PREFIX)


def source_of(source: str, weights: Path | None, allow_code: bool) -> Net:
    """The source model that a factory makes, with these weights.

    Args:
        source: `module:path.to:factory`.
        weights: A .safetensors file of the module's parameters; None keeps those that the factory gives.
        allow_code: Whether the user has allowed its code to run.

    Raises:
        BadModel: Not allowed, no such function, no `dg.Net` from it, or weights that do not fit.
    """
    _allowed(source, allow_code, "--source")
    net = own_net_of(source.removeprefix(PREFIX))
    if weights is not None:
        _fill(net, weights)
    return net.requires_grad_(False)


def own_net_of(name: str) -> Net:
    """The `dg.Net` that `path.to:factory` makes.

    Raises:
        BadModel: No such function, or it returns no `dg.Net`.
    """
    net = _called(name)
    if not isinstance(net, Net):
        raise BadModel(f"{PREFIX}{name} returned a {type(net).__name__}, expected a dg.Net, which knows schedule, prediction and shape; such as {EXAMPLE}")
    setattr(net.module, FACTORY, name)
    return net


def made(name: str, allow_code: bool, option: str) -> Any:
    """Whatever the factory `module:path.to:factory` makes; `option` is where the user named it.

    Raises:
        BadModel: Not allowed, or no such function.
    """
    _allowed(name, allow_code, option)
    return _called(name.removeprefix(PREFIX))


def _allowed(name: str, allow_code: bool, option: str) -> None:
    if not allow_code:
        raise BadModel(f"{option} {name} imports {name.removeprefix(PREFIX)} and calls it; pass --allow-code if you trust that code")


def _called(name: str) -> Any:
    """What the function `path.to:factory` returns; modules in the working folder are found, too."""
    place, _, function = name.partition(":")
    if not place or not function:
        raise BadModel(f"expected {PREFIX}path.to:factory, got {PREFIX}{name}; name a function and the module that holds it")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        factory = getattr(import_module(place), function)
    except (ImportError, AttributeError) as error:
        raise BadModel(f"{PREFIX}{name}: {error}; run where Python finds it, or put its folder on PYTHONPATH") from None
    return factory()


def _fill(net: Net, weights: Path) -> None:
    if weights.suffix != ".safetensors":
        raise BadModel(f"weights are read as .safetensors, got {weights.name}; write them with safetensors.torch.save_file(module.state_dict(), FILE)")
    try:
        net.module.load_state_dict(load_file(weights))
    except (OSError, SafetensorError) as error:
        raise BadModel(f"--weights {weights}: {str(error).splitlines()[0]}; give a .safetensors file") from None
    except RuntimeError as error:
        raise BadModel(f"--weights {weights} do not fit the module: {' '.join(str(error).split())[:200]}; give weights of this architecture") from None
