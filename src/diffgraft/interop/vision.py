"""Image encoders of transformers, such as DINOv2, as features for metrics and classifiers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ..errors import BadModel, installed

BATCH = 64
"""Images that are encoded at once."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, where an encoder does not say what it wants."""


def is_encoder(path: Path) -> bool:
    """Whether a folder of transformers is there."""
    return "model_type" in _settings(path / "config.json")


def fetched_encoder(name: str) -> Path | None:
    """The local copy of an encoder on the Hugging Face hub, fetched where it is not there yet; None where the name is no encoder's, or not to be had."""
    installed("transformers", "features")
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, allow_patterns=["config.json", "preprocessor_config.json"]))
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"])) if is_encoder(folder) else None
    except Exception:  # the hub, its cache and the network each have their own
        return None


def encoder_features(path: Path) -> Callable[[Tensor], Tensor]:
    """Features (n, F) of images (n, C, H, W) in [-1, 1]: the pooled output, else the mean of the last hidden states.

    Images are brought to the size and the normalisation that the encoder's folder states. DINOv2's features make the Frechet distance
    FD-DINOv2.

    Raises:
        BadModel: A damaged folder, or weights that are pickled.
        MissingExtra: transformers is not installed.

    Reference:
        Stein et al., Exposing flaws of generative model evaluation metrics and their unfair treatment of diffusion models, 2023,
        arXiv 2306.04675, section 4.
    """
    model, wanted = _encoder(path), _settings(path / "preprocessor_config.json")
    size = _side(wanted, model.config)
    mean, std = (torch.tensor(wanted.get(key, default)).view(-1, 1, 1) for key, default in (("image_mean", MEAN), ("image_std", STD)))

    @torch.no_grad()
    def features(x: Tensor) -> Tensor:
        _check(x, path)
        return torch.cat([_encoded(model, part, size, mean, std) for part in x.split(BATCH)]).to(x.device)

    return features


def _encoded(model: nn.Module, x: Tensor, size: int, mean: Tensor, std: Tensor) -> Tensor:
    like = next(model.parameters())
    x = (x.to(like).clamp(-1, 1) + 1) / 2
    if x.shape[2:] != (size, size):
        x = interpolate(x, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
    out = model((x.expand(-1, 3, -1, -1) - mean.to(x)) / std.to(x))
    pooled = getattr(out, "pooler_output", None)
    states = out.last_hidden_state if pooled is None else pooled
    return states.flatten(2).mean(2) if states.ndim == 4 else states.mean(1) if states.ndim == 3 else states


def _check(x: Tensor, path: Path) -> None:
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise BadModel(f"{path} encodes images (n, 1 or 3, H, W), got samples of shape {tuple(x.shape[1:])}; give other features")


def _encoder(path: Path) -> Any:
    installed("transformers", "features")
    from transformers import AutoModel
    from transformers.utils import logging

    if not list(path.glob("*.safetensors")):
        raise BadModel(f"{path} holds no .safetensors weights, and pickles are never read; write them by model.save_pretrained(folder)")
    told, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model = AutoModel.from_pretrained(path, local_files_only=True, use_safetensors=True, trust_remote_code=False)
    except Exception as error:  # transformers, safetensors and torch each have their own
        raise BadModel(f"{path} is damaged: {type(error).__name__}: {str(error).splitlines()[0]}; restore the folder") from None
    finally:
        logging.set_verbosity(told)
        if bars:
            logging.enable_progress_bar()
    return getattr(model, "vision_model", model).requires_grad_(False).eval()


def _side(wanted: dict[str, Any], config: Any) -> int:
    """Pixels a side that the encoder takes."""
    for told in (wanted.get("crop_size"), wanted.get("size")):
        if isinstance(told, int):
            return told
        if isinstance(told, dict) and (side := told.get("height") or told.get("shortest_edge")):
            return int(side)
    return int(getattr(config, "image_size", None) or 224)


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
