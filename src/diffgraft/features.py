"""Features by name: what Frechet distances are taken on, and what clean classifiers of images and signals look at."""

from pathlib import Path

import torch
from torch import Tensor, nn

from . import store
from .denoise import Denoiser
from .domain import Features, net_features
from .errors import BadModel
from .interop.factories import is_factory, made
from .interop.folders import is_hub_name
from .interop.vision import encoder_features, fetched_encoder, is_encoder


def features_named(name: str, *, allow_code: bool = False, device: torch.device | str = "cpu") -> Features:
    """Features (n, F) of samples (n, *) in data units.

    Args:
        name: A model folder or pipeline, whose network is looked into; an image encoder of transformers (DINOv2, CLIP, ...), a folder
            or a name on the Hugging Face hub; or `module:path.to:factory`, a function that returns a map from samples to features.
        allow_code: Whether such a function may run.
        device: Where a model of this package runs.

    Raises:
        BadModel: Nothing there that has features.
        MissingExtra: A library that it needs is not installed.
    """
    if is_factory(name):
        return _made(name, allow_code)
    path = fetched_encoder(name) if is_hub_name(name) else Path(name)
    if path is not None and is_encoder(path):
        return encoder_features(path)
    return features_of_model(store.load(name, allow_code=allow_code).to(device), name)


def features_of_model(model: Denoiser, name: str) -> Features:
    """Features (n, F) of samples in data units, from a model's network; `name` is what messages call it.

    Raises:
        BadModel: The network has no features.
    """
    inner = net_features(model)
    if inner is None:
        raise BadModel(f"{name}: features come from a network with a method `features`, such as unet, but its network has none; give another model")
    return lambda x: inner(model.transform.forward(x))


def _made(name: str, allow_code: bool) -> Features:
    """The map that a factory makes; of a network, in evaluation mode and without gradients."""
    features = made(name, allow_code, "--features")
    if isinstance(features, nn.Module):
        features = features.requires_grad_(False).eval()
    if not callable(features):
        raise BadModel(f"{name} returned a {type(features).__name__}, expected a network or a function from samples (n, *) to features (n, F)")
    call = features

    @torch.no_grad()
    def mapped(x: Tensor) -> Tensor:
        out: Tensor = call(x)
        return out

    return mapped
