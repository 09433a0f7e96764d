r"""The model folder: any denoiser of this package on disk, and back.

    config.json             the model as a tree, format version, hashes of the weights, where it came from
    *.safetensors           weights, one file a network
    transform.safetensors   model space to data units, and the label prior
    README.md               the model card

A network of diffusers stands in a folder of its own, as diffusers writes them, and so does an autoencoder; where it is all of the model,
the folder is a pipeline that diffusers opens too. `load` reads pipelines that diffusers wrote, here or on the Hugging Face hub.

A network that stands in two places of the tree (a model that guides itself) is written once. Nothing is pickled and no
code of the folder is run: a network of the user's own is named only, and given back by `load(path, module=net)`, or, where the folder
names the function that made it and that is allowed, by calling it.
"""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from . import __version__
from .card.card import card
from .data import Layout, Prior, Transform
from .denoise import Denoiser, DropLabel, KnownLabels, Net, WithSchedule
from .errors import BadModel
from .files import atomic_folder, claim, sha256, write_tensors
from .guide import Guided, Interval, RatioShift, Shift, Steered, Toward
from .interop.factories import FACTORY, own_net_of
from .interop.folders import (
    INDEX,
    WEIGHTS,
    component,
    fetched,
    is_hub_name,
    is_pipeline,
    load_pipeline,
    vae_name,
    write_component,
    write_custom,
    write_index,
    write_lora,
)
from .interop.latents import Latents
from .interop.networks import Conditioned, Network
from .nets.adapters import WithoutAdapter, described, low_rank_weights
from .nets.catalog import describe, rebuilt
from .nets.probe import Probe
from .ratio import LogRatio
from .schedule import from_config

FORMAT = 1
BODY = "body."
"""How names of weights begin that belong to the network which a `Probe` reads; where the model holds it anyway, they are written once."""
NET_SETTINGS = ("predicts", "n_classes", "round_steps", "null_label", "sigma_data")


def save(model: Denoiser, path: str | Path, *, origin: dict[str, Any] | None = None, overwrite: bool = False, keep: tuple[str, ...] = ()) -> None:
    """Write a model folder, whole or not at all.

    Args:
        model: A `Net` or anything guided built of them.
        path: The folder to write.
        origin: What is known of the fit (method, data, seed, scores), for `config.json` and the card.
        overwrite: Replace what stands there.
        keep: Files and folders of what stands there that move into the new folder.

    Raises:
        OutputExists: `path` exists and `overwrite` is off.
        BadModel: The model holds a part that has no place in a folder, such as an exact law.
    """
    path = Path(path)
    if not overwrite:
        claim(path)
    weights: dict[int, tuple[str, nn.Module]] = {}
    tree = _describe(model, "model", weights)
    with atomic_folder(path) as partial:
        for name, module in weights.values():
            _write(partial / name, module, weights)
        autoencoder = _write_pipeline(partial, model)
        write_tensors(partial / "transform.safetensors", _surroundings(model))
        hashes = {file.relative_to(partial).as_posix(): sha256(file) for file in sorted(partial.rglob("*.safetensors"))}
        config = {
            "format": FORMAT,
            "diffgraft": __version__,
            "shape": model.shape and model.transform.data_shape(model.shape),
            "layout": asdict(model.layout),
            **autoencoder,
            "model": tree,
            "files": hashes,
            "origin": origin or {},
        }
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (partial / "README.md").write_text(card(config, path.name))
        for name in keep:
            if (path / name).exists():
                shutil.move(path / name, partial / name)


def load(path: str | Path, module: nn.Module | None = None, *, allow_code: bool = False) -> Denoiser:
    """A model that `save` or diffusers wrote, frozen.

    Args:
        path: A model folder, a pipeline folder of diffusers, or the name of one on the Hugging Face hub, OWNER/NAME.
        module: The network, where the folder only names one of the user's own.
        allow_code: Import and call the function that made that network, where the folder names one (`--source module:...`).

    Raises:
        BadModel: No such folder, a damaged file, a format of a later version, or a network that must be given.
        MissingExtra: It holds networks of diffusers, which is not installed.
    """
    path, name = Path(path), str(path)
    if is_hub_name(name):
        path = fetched(name)
    if is_pipeline(path):
        return load_pipeline(path).requires_grad_(False)
    config = _read_config(path)
    try:
        for name, expected in config["files"].items():
            if sha256(path / name) != expected:
                raise BadModel(f"{path / name} is damaged: its hash differs from the one in config.json; restore the file or fit again")
        model = _build(config["model"], path, _own(path, module, allow_code), {})
        state = load_file(path / "transform.safetensors")
    except (OSError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise BadModel(f"{path} is damaged: {type(error).__name__}: {str(error).splitlines()[0]}; restore the folder or fit again") from None
    model.transform = Transform(state["shift"], state["scale"])
    if known := config.get("autoencoder"):
        model.transform = Latents(state["shift"], state["scale"], component(path / known["folder"], known["kind"]))
    model.layout = _layout(config.get("layout") or {}, path)
    if "label_values" in state:
        model.prior = Prior(state["label_values"], state["label_probs"])
    return model.eval().requires_grad_(False)


def check(path: str | Path) -> None:
    """Make sure, before long work, that a model folder or pipeline is there; names on the hub pass. Raises BadModel as `load` does."""
    if not is_hub_name(str(path)) and not is_pipeline(Path(path)):
        _read_config(Path(path))


def _read_config(path: Path) -> dict[str, Any]:
    if not (path / "config.json").is_file():
        raise BadModel(f"{path} is not a model folder: no config.json there, and no {INDEX} of diffusers; give a folder that pretrain, fit or guide wrote")
    try:
        config = json.loads((path / "config.json").read_text())
        version = config["format"]
    except (ValueError, KeyError, TypeError):
        raise BadModel(f"{path / 'config.json'} is damaged: not the JSON of a model folder; restore the folder or fit again") from None
    if version != FORMAT:
        raise BadModel(f"{path} has format {version}, this version reads format {FORMAT}; install a newer diffgraft")
    return config


def _layout(known: dict[str, Any], path: Path) -> Layout:
    names: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
    try:
        return Layout(**names)
    except TypeError:
        raise BadModel(f"{path / 'config.json'} is damaged: its layout has keys that no model folder has; restore the folder or fit again") from None


def _surroundings(model: Denoiser) -> dict[str, torch.Tensor]:
    state = {"shift": model.transform.shift, "scale": model.transform.scale}
    if model.prior is not None:
        state |= {"label_values": model.prior.values, "label_probs": model.prior.probs}
    return state


Own = Callable[[dict[str, Any]], nn.Module]


def _own(path: Path, module: nn.Module | None, allow_code: bool) -> Own:
    """What gives a network of the user's own: a copy of the one given, or of what the function makes that the folder names."""

    def give(settings: dict[str, Any]) -> nn.Module:
        if module is not None:
            return copy.deepcopy(module)
        factory, told = settings.get(FACTORY), f"{path} was fitted on a network of your own, {settings['class']}"
        if factory is None:
            raise BadModel(f"{told}; pass it: dg.load('{path}', module=net)")
        if not allow_code:
            raise BadModel(f"{told}, which {factory} makes; pass --allow-code to run that code, or dg.load('{path}', allow_code=True)")
        return own_net_of(factory).module

    return give


def _describe(part: nn.Module, name: str, weights: dict[int, tuple[str, nn.Module]]) -> dict[str, Any]:
    """The tree of a model; collects the networks that it holds with their file names."""
    match part:
        case Net():
            own = {key: getattr(part, key) for key in NET_SETTINGS}
            return {"kind": "net", "schedule": part.schedule.config(), "shape": part.shape, **own, **_module(part.module, name, weights)}
        case Guided():
            base, shift = _describe(part.base, "base", weights), _describe(part.shift, "shift", weights)
            return {"kind": "guided", "base": base, "shift": shift, "weight": _describe_weight(part.weight)}
        case Steered():
            return {"kind": "steered", "base": _describe(part.base, name, weights), "weight": _describe_weight(part.weight)}
        case Toward(tuned=Denoiser() as tuned):
            return {"kind": "toward", "tuned": _describe(tuned, "tuned", weights)}
        case RatioShift(log_h=LogRatio() as ratio):
            return {"kind": "ratio", "link": ratio.link, "schedule": ratio.schedule.config(), **_module(ratio.module, "ratio", weights)}
        case KnownLabels():
            known = {"values": part.values.tolist(), "whole": not part.values.is_floating_point(), "n_classes": part.n_classes}
            return {"kind": "known_labels", **known, "base": _describe(part.base, name, weights)}
        case WithoutAdapter():
            return {"kind": "without_adapter", "base": _describe(part.net, name, weights)}
        case DropLabel():
            return {"kind": "drop_label", "base": _describe(part.base, name, weights)}
        case WithSchedule():
            return {"kind": "with_schedule", "schedule": part.schedule.config(), "base": _describe(part.base, name, weights)}
    raise BadModel(f"a {type(part).__name__} cannot be written to a model folder; save models built of dg.Net and fitted ratios")


def _describe_weight(weight: float | Interval) -> float | dict[str, Any]:
    return asdict(weight) if isinstance(weight, Interval) else weight


def _build_weight(weight: float | dict[str, Any]) -> float | Interval:
    return Interval(**weight) if isinstance(weight, dict) else weight


def _write(path: Path, module: nn.Module, weights: dict[int, tuple[str, nn.Module]]) -> None:
    if _is_plain(module):
        write_component(path.parent, module.model)
    elif isinstance(module, Probe) and id(module.body) in weights:
        write_tensors(path, {name: a for name, a in module.state_dict().items() if not name.startswith(BODY)})
    else:
        write_tensors(path, module.state_dict())
        if isinstance(module, Network) and hasattr(module.model, "load_lora_adapter"):
            write_lora(path.parent, low_rank_weights(module.model))


def _is_plain(module: nn.Module) -> TypeGuard[Network]:
    """Whether it is a network of diffusers as diffusers has it, with nothing of ours in it."""
    return isinstance(module, Network) and not isinstance(module, Conditioned) and not described(module)


def _write_pipeline(folder: Path, model: Denoiser) -> dict[str, Any]:
    """What belongs to a folder of diffusers beside its network; where the autoencoder stands, for `config.json`."""
    vae = model.transform.vae if isinstance(model.transform, Latents) else None
    plain = model.module if isinstance(model, Net) and _is_plain(model.module) else None
    if plain is not None:
        write_index(folder, plain, vae, model.layout.labels)
    elif any(isinstance(part, Network) for part in model.modules()):
        write_custom(folder)
    if vae is None:
        return {}
    name = "vae" if plain is None else vae_name(plain)
    write_component(folder / name, vae)
    return {"autoencoder": {"folder": name, "kind": type(vae).__name__}}


def _module(module: nn.Module, name: str, weights: dict[int, tuple[str, nn.Module]]) -> dict[str, Any]:
    taken, ending = [file for file, _ in weights.values()], ".safetensors"
    if _is_plain(module):
        name, ending = module.component if name == "model" else name, f"/{WEIGHTS}.safetensors"
    file = next(f for k in range(99) if (f := f"{name}{k or ''}{ending}") not in taken)
    file, _ = weights.setdefault(id(module), (file, module))
    settings = describe(module) or {"class": type(module).__qualname__, **({FACTORY: factory} if (factory := getattr(module, FACTORY, None)) else {})}
    if isinstance(module, Probe) and id(module.body) in weights:
        settings["body"] = {"same_as": weights[id(module.body)][0]}
    return {"weights": file, "dtype": str(_dtype(module)).removeprefix("torch."), "module": settings}


def _dtype(module: nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters()), torch.float32)


def _build(tree: dict[str, Any], path: Path, given: Own, built: dict[str, nn.Module]) -> Denoiser:
    match tree["kind"]:
        case "net":
            schedule, shape = from_config(tree["schedule"]), tree["shape"] and tuple(tree["shape"])
            return Net(_load_module(tree, path, given, built), schedule, shape=shape, **{key: tree[key] for key in NET_SETTINGS})
        case "guided":
            base, shift = _build(tree["base"], path, given, built), _build_shift(tree["shift"], path, given, built)
            return Guided(base, shift, _build_weight(tree["weight"]))
        case "steered":
            return Steered(_build_net(tree, path, given, built), _build_weight(tree["weight"]))
        case "known_labels":
            values = torch.tensor(tree["values"], dtype=torch.int64 if tree["whole"] else torch.float32)
            return KnownLabels(_build(tree["base"], path, given, built), values, tree["n_classes"])
        case "without_adapter":
            return WithoutAdapter(_build_net(tree, path, given, built))
        case "drop_label":
            return DropLabel(_build(tree["base"], path, given, built))
        case "with_schedule":
            return WithSchedule(_build(tree["base"], path, given, built), from_config(tree["schedule"]))
    raise BadModel(f"{path} holds a part of unknown kind {tree['kind']!r}; install a newer diffgraft")


def _build_net(tree: dict[str, Any], path: Path, given: Own, built: dict[str, nn.Module]) -> Net:
    """The network that a part wraps."""
    net = _build(tree["base"], path, given, built)
    if not isinstance(net, Net):
        raise BadModel(f"{path} is damaged: a part of kind {tree['kind']} without its network; restore the folder or fit again")
    return net


def _build_shift(tree: dict[str, Any], path: Path, given: Own, built: dict[str, nn.Module]) -> Shift:
    if tree["kind"] == "toward":
        return Toward(_build(tree["tuned"], path, given, built))
    schedule = from_config(tree["schedule"])
    return RatioShift(LogRatio(_load_module(tree, path, given, built), schedule, tree.get("link", "log_h")), schedule)


def _load_module(tree: dict[str, Any], path: Path, given: Own, built: dict[str, nn.Module]) -> nn.Module:
    if tree["weights"] in built:
        return built[tree["weights"]]
    settings, state = dict(tree["module"]), load_file(path / tree["weights"])
    if "same_as" in settings.get("body", {}):
        settings["body"] = built[settings["body"]["same_as"]]
        state |= {f"{BODY}{name}": a for name, a in settings["body"].state_dict().items()}
    if "net" in settings:
        module = rebuilt(settings, from_config(tree["schedule"]))
    else:
        module = given(settings)
    whole = module.model if _is_plain(module) else module
    if (dtype := getattr(torch, tree["dtype"])) != _dtype(whole):
        whole.to(dtype)
    whole.load_state_dict(state)
    built[tree["weights"]] = module
    return module
