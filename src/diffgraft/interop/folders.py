"""Folders of diffusers, `model_index.json` and a folder a component, read as a denoiser.

Components decide, not the pipeline's name: a network of `NETWORKS`, a scheduler, and an autoencoder where the network lives in latent
space. Weights are read from safetensors alone, and no code of the folder is run.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..data import Layout, Prior
from ..denoise import Net
from ..errors import BadModel
from ..files import write_tensors
from .latents import Latents, latents_of
from .networks import NETWORKS, Conditioned, Network, library, own
from .schedulers import schedule_of

INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model"
EMBEDDINGS = "embeddings.safetensors"
LORA = "pytorch_lora_weights.safetensors"
AUTOENCODERS = ("AutoencoderKL", "VQModel")
CUSTOM = '''"""Opened by DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)."""

from diffusers import DiffusionPipeline


class GraftPipeline(DiffusionPipeline):
    """Hands over to diffgraft, which has to be installed; see `diffgraft.pipeline.Pipeline` for the arguments of a call."""

    def __init__(self):
        super().__init__()
        self.graft = None
        self.place = "cpu"

    def to(self, device=None, **settings):
        self.place = device or self.place
        return self

    def __call__(self, *args, **settings):
        if self.graft is None:
            from diffgraft.pipeline import Pipeline

            self.graft = Pipeline.from_pretrained(self.config._name_or_path)
        return self.graft.to(self.place)(*args, **settings)
'''
SCALE = "scaling_factor"
ALL = ["*.json", "*.safetensors"]


def is_pipeline(path: Path) -> bool:
    """Whether a folder of diffusers is there that is none of ours."""
    return (path / INDEX).is_file() and (not (path / "config.json").exists() or "_class_name" in _json(path / "config.json"))


def is_hub_name(name: str) -> bool:
    """Whether a name may be one on the Hugging Face hub, OWNER/NAME, and neither it nor a folder OWNER is here."""
    return not Path(name).parent.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def fetched(name: str) -> Path:
    """The local copy of a pipeline on the Hugging Face hub, fetched where it is not there yet.

    Raises:
        BadModel: It is neither here nor to be had.
    """
    library()
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        try:
            wanted = _wanted(_json(Path(hf_hub_download(name, INDEX))))
        except Exception:  # no index: a folder of ours around a network of ours, or nothing to be had
            wanted = ALL
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # whatever the hub's client raises
        raise BadModel(
            f"{name} is no folder here, not in the local cache of the hub, and cannot be fetched ({type(error).__name__}); check the name, or "
            f"fetch it where there is a network: hf download {name}"
        ) from None


def _wanted(index: dict[str, Any]) -> list[str]:
    """Which files of a repository are read, text encoders and the like not among them; a folder of ours is read whole."""
    if isinstance(index.get("_class_name"), list):
        return ALL
    parts = [name for name, kind in _parts(index).items() if kind in NETWORKS or kind in AUTOENCODERS or name == "scheduler"]
    flat = [INDEX, EMBEDDINGS, "config.json", "scheduler_config.json", f"{WEIGHTS}*.safetensors", f"{WEIGHTS}*.json"]
    return flat + [f"{part}/*.{kind}" for part in parts for kind in ("json", "safetensors")]


def load_pipeline(path: Path) -> Net:
    """The denoiser of a folder of diffusers, whose parts lie in folders of their names, or flat in the folder itself.

    Labels of a class-conditional network are sampled equally often; its names of classes are kept.

    Raises:
        MissingExtra: diffusers is not installed.
        BadModel: A part is missing or damaged, of a kind that is not supported, or its weights are pickled.
    """
    index = _json(path / INDEX)
    named = _parts(index)
    name, kind = _network(path, index, named)
    if "scheduler" not in named:
        raise BadModel(f"{path} names no scheduler, so its noise levels are not known; save the pipeline with one")
    scheduler = _scheduler(_place(path, "scheduler"), named["scheduler"])
    schedule, predicts, time_scale = schedule_of(scheduler)
    about: dict[str, Any] = {"time_scale": time_scale, "pipeline": index.get("_class_name"), "scheduler": {"_class_name": named["scheduler"], **own(scheduler)}}
    if kind == Conditioned.kind:
        about["embeddings"] = _embeddings(path / EMBEDDINGS)
    home = _place(path, name)
    model = component(home, kind)
    module = NETWORKS[kind](_known(model, home), **about)
    if None in module.shape:
        raise BadModel(f"{home / 'config.json'} does not say sample_size, the side of its samples; write it there")
    net = Net(module, schedule, predicts, module.shape, round_steps=model.config.get("time_embedding_type") == "learned")
    for part, class_name in named.items():
        if class_name in AUTOENCODERS:
            net.transform = _latents(path / part, class_name, net)
    return _named(net, index).eval()


def _parts(index: dict[str, Any]) -> dict[str, str]:
    """The class of each part that an index names."""
    return {name: entry[1] for name, entry in index.items() if isinstance(entry, list) and len(entry) == 2 and entry[1] and not name.startswith("_")}


def _place(path: Path, part: str) -> Path:
    """Where a part lies: in a folder of its name, or beside the index, as in old repositories."""
    return path / part if (path / part).is_dir() or not (path / "config.json").is_file() else path


def _latents(path: Path, kind: str, net: Net) -> Latents:
    """The latent space of an autoencoder in which a network lives."""
    vae = component(path, kind)
    assert net.shape is not None
    if vae.config.latent_channels != net.shape[0]:
        raise BadModel(f"{path} has latents of {vae.config.latent_channels} channels, the network takes {net.shape[0]}; restore the folder")
    if SCALE not in _json(path / "config.json"):
        net.notes = {"warnings": [f"{path / 'config.json'} does not say {SCALE}; {vae.config[SCALE]:g} is taken, as diffusers does"]}
    return latents_of(vae)


def _network(path: Path, index: dict[str, Any], named: dict[str, str]) -> tuple[str, str]:
    """The folder and class of a pipeline's one network."""
    found = [(name, kind) for name, kind in named.items() if kind in NETWORKS]
    if len(found) != 1:
        raise BadModel(
            f"{path} is a {index.get('_class_name')} with {', '.join(f'{n} {k}' for n, k in named.items()) or 'no part'}; "
            f"supported are pipelines around one of {', '.join(NETWORKS)}, such as DDPMPipeline, LDMPipeline and DiTPipeline"
        )
    return found[0]


def _known(model: Any, path: Path) -> Any:
    """The model, if it is told of time and labels in a way that is known."""
    config = model.config
    if config.get("class_embed_type") is not None:
        raise BadModel(f"{path} embeds its labels by {config.class_embed_type!r}; supported are class indices, num_class_embeds without class_embed_type")
    if type(model).__name__ == "UNet2DModel" and config.get("time_embedding_type") == "fourier":
        raise BadModel(f"{path} has fourier embeddings of sigma and returns a score; supported are networks of a scheduler with alphas_cumprod, or of a flow")
    return model


def _named(net: Net, index: dict[str, Any]) -> Net:
    """The denoiser with the labels that it may be sampled with, and what data have to look like."""
    assert net.shape is not None
    shape, names = net.transform.data_shape(net.shape), index.get("id2label")
    if net.n_classes:
        net.prior = Prior(torch.arange(net.n_classes), torch.full((net.n_classes,), 1 / net.n_classes))
    known = tuple(str(names[key]) for key in sorted(names, key=int)) if isinstance(names, dict) and len(names) == net.n_classes else None
    images = len(shape) == 3
    net.layout = Layout(labels=known, size=shape[-1] if images and shape[-1] == shape[-2] else None, channels=shape[0] if images else None)
    return net


def _embeddings(path: Path) -> Tensor:
    """The conditions of a network, a row a label and the last for none."""
    if not path.is_file():
        raise BadModel(
            f"{path} is missing: what the labels mean to this network; write `embeddings` (labels + 1, length, width), as its text encoder "
            "gives them and the last for no label, with safetensors.torch.save_file"
        )
    found = load_file(path).get("embeddings", torch.zeros(()))
    if found.ndim != 3:
        raise BadModel(f"{path} must hold `embeddings` of shape (labels + 1, length, width), got {tuple(found.shape)}; write it again")
    return found.float()


def _scheduler(path: Path, kind: str) -> Any:
    base = library().SchedulerMixin
    found = getattr(library(), kind, None)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise BadModel(f"{path} is a {kind}, which this version of diffusers does not have; save the pipeline with a scheduler such as DDPMScheduler")
    _json(path / "scheduler_config.json")
    return found.from_pretrained(path)  # type: ignore[attr-defined]


def component(path: Path, kind: str) -> Any:
    """A component, frozen, from safetensors alone.

    Raises:
        BadModel: A part of it is missing or damaged, or its weights are pickled.
    """
    _json(path / "config.json")
    variant = _variant(path)
    try:
        model = getattr(library(), kind).from_pretrained(path, use_safetensors=True, local_files_only=True, variant=variant)
    except Exception as error:  # diffusers, safetensors and torch each have their own
        raise BadModel(f"{path} is damaged: {type(error).__name__}: {str(error).splitlines()[0]}; restore the folder") from None
    for p in model.parameters():  # out of the mapped file, where their place decides which kernels run, and so the last digit
        p.data = p.data.clone()
    return model.requires_grad_(False).eval()


def _variant(path: Path) -> str | None:
    """The variant of a component's weights, such as fp16; None for the plain ones."""
    files = sorted(file.name for file in path.glob(f"{WEIGHTS}*"))
    if any(name in files for name in (f"{WEIGHTS}.safetensors", f"{WEIGHTS}.safetensors.index.json")):
        return None
    if other := [name for name in files if name.endswith(".safetensors")]:
        return other[0].split(".")[1].split("-")[0]
    if pickled := [name for name in files if name.endswith((".bin", ".ckpt", ".pt"))]:
        raise BadModel(
            f"{path / pickled[0]} is a pickle, which can run code when it is opened, and is never read; where you trust it, write safetensors with "
            "diffusers: model.save_pretrained(folder, safe_serialization=True)"
        )
    raise BadModel(f"{path} has no weights: {WEIGHTS}.safetensors is missing; restore the folder, or convert its .bin, a pickle, where it has no other")


def write_component(path: Path, model: Any) -> None:
    """A component's folder: its settings and weights."""
    path.mkdir()
    model.save_config(path)
    write_tensors(path / f"{WEIGHTS}.safetensors", model.state_dict())


def write_index(path: Path, module: Network, vae: Any = None, labels: tuple[str, ...] | None = None) -> None:
    """What makes a folder one that diffusers opens, beside its components: the index, with names of labels, and the scheduler."""
    scheduler = dict(module.scheduler or {"_class_name": "DDPMScheduler"})
    kind = scheduler.pop("_class_name")
    getattr(library(), kind).from_config(scheduler).save_config(path / "scheduler")
    parts = {"scheduler": kind, module.component: module.kind, **({} if vae is None else {vae_name(module): type(vae).__name__})}
    index = {"_class_name": module.pipeline, "_diffusers_version": library().__version__, **{name: ["diffusers", kind] for name, kind in parts.items()}}
    if labels and module.pipeline == "DiTPipeline":
        index["id2label"] = {str(k): name for k, name in enumerate(labels)}
    (path / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_lora(path: Path, weights: dict[str, Tensor]) -> None:
    """A LoRA as `load_lora_weights` of diffusers reads it; nothing where there is none."""
    if weights:
        write_tensors(path / LORA, {f"unet.{name}": a for name, a in weights.items()})


def write_custom(path: Path) -> None:
    """What lets diffusers open a guided model: a pipeline that hands over to this package, asked for by custom_pipeline and trusted."""
    (path / "pipeline.py").write_text(CUSTOM, encoding="utf-8")
    index = {"_class_name": ["pipeline", "GraftPipeline"], "_diffusers_version": library().__version__}
    (path / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def vae_name(module: Network) -> str:
    """What a pipeline calls its autoencoder."""
    return "vqvae" if module.pipeline == "LDMPipeline" else "vae"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadModel(f"{path} is missing; restore the folder of diffusers, all its parts") from None
    except (OSError, ValueError) as error:
        raise BadModel(f"{path} is damaged: {type(error).__name__}; restore the folder") from None
    if not isinstance(found, dict):
        raise BadModel(f"{path} is damaged: not a JSON object; restore the folder")
    return found
