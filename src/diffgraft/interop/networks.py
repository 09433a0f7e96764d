"""Networks of diffusers as this package calls networks, `module(x_t, t, y)`.

Each keeps its diffusers model in `model`, whole and by its own names, so that it goes back into a folder of diffusers as it came.
"""

from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..data import NULL
from ..errors import BadModel, installed
from ..schedule import Discrete, Schedule

DIT_TIME = 1000.0
"""What a transformer of diffusers expects as the last time."""


def library() -> Any:
    """The package diffusers.

    Raises:
        MissingExtra: It is not installed.
    """
    return installed("diffusers", "diffusers")


def own(part: Any) -> dict[str, Any]:
    """The settings of a part of diffusers, without what it notes of itself."""
    return {key: value for key, value in dict(part.config).items() if not key.startswith("_")}


class Network(nn.Module):
    """A diffusers model.

    Args:
        model: The model.
        null: Whether the last row of its label table stands for no label.
        time_scale: The model's time is this times ours.
        pipeline: The pipeline of diffusers that it came in, and goes back into.
        scheduler: That pipeline's scheduler, its class and settings.

    Attributes:
        n_classes: How many labels it knows, the null label not counted.
    """

    kind: ClassVar[str]
    component: ClassVar[str] = "unet"
    home: ClassVar[str] = "DDPMPipeline"

    def __init__(
        self, model: nn.Module, *, null: bool = False, time_scale: float = 1.0, pipeline: str | None = None, scheduler: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.model, self.null, self.time_scale = model, null, time_scale
        self.pipeline, self.scheduler = pipeline or self.home, scheduler
        rows = [len(table.weight) for table in self.tables()]
        self.n_classes = rows[0] - null if rows else 0

    @property
    def config(self) -> dict[str, Any]:
        """Settings from which `network` makes the same one."""
        about = {key: getattr(self, key) for key in ("null", "time_scale", "pipeline", "scheduler")}
        return {"shape": list(self.shape), "n_classes": self.n_classes, "kind": self.kind, "config": own(self.model), **about}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        c: Any = self.model.config
        size = c.sample_size
        return (c.in_channels, *(size if isinstance(size, (list, tuple)) else (size, size)))

    def tables(self) -> list[nn.Embedding]:
        """The label tables; a transformer has one a block."""
        raise NotImplementedError

    def call(self, x_t: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        """The model's prediction; `y` is a row of its tables for each sample, or None where it has none."""
        raise NotImplementedError

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.call(x_t, self.time_scale * t, self._rows(y, x_t) if self.n_classes else None)

    @property
    def runs_without_label(self) -> bool:
        """Whether it can be called without a label."""
        return self.null or self.n_classes == 0

    def stages(self) -> list[nn.Module]:
        """The parts whose outputs are its feature maps, from input to output."""
        m: Any = self.model
        return [*m.down_blocks, m.mid_block, *m.up_blocks]

    @cached_property
    def map_sizes(self) -> list[int]:
        """Channels of each of `maps`."""
        like = next(self.parameters())
        with torch.no_grad():
            return [a.shape[1] for a in self.maps(like.new_zeros(1, *self.shape), like.new_zeros(1))]

    def maps(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> list[Tensor]:
        """The feature maps (B, C, *), what each of its `stages` returns; of the first label where it can't be called without one."""
        if y is None and not self.runs_without_label:
            y = torch.zeros(len(x_t), dtype=torch.long, device=x_t.device)
        return self.read(x_t, t, y)[1]

    def read(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """The output, and the feature maps that it was made of."""
        found: list[Tensor] = []
        hooks = [stage.register_forward_hook(lambda part, args, out: found.append(_map(out))) for stage in self.stages()]
        try:
            return self(x_t, t, y), found
        finally:
            for hook in hooks:
                hook.remove()

    def features(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """What the network knows of a sample, (B, F): its two middle maps, averaged over positions."""
        maps = self.maps(x_t, t, y)
        middle = len(maps) // 2
        return torch.cat([a.flatten(2).mean(2) for a in maps[middle - 1 : middle + 1]], 1)

    def _rows(self, y: Tensor | None, x_t: Tensor) -> Tensor:
        y = torch.full((len(x_t),), NULL, device=x_t.device) if y is None else y
        if y.ndim > 1:
            raise BadModel(f"networks of diffusers take one class index a sample, got labels of shape {tuple(y.shape)}; give indices, or another network")
        if self.null:
            return torch.where(y == NULL, self.n_classes, y)
        if bool((y == NULL).any()):
            raise BadModel("this network has no row for no label, so it can't be called without one; give labels, or fine-tune it, which adds the row")
        return y


class UNet2D(Network):
    """`UNet2DModel`, with class labels or without."""

    kind = "UNet2DModel"

    def tables(self) -> list[nn.Embedding]:
        return [self.model.class_embedding] if isinstance(self.model.class_embedding, nn.Embedding) else []

    def call(self, x_t: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return self.model(x_t, t, class_labels=y, return_dict=False)[0]


class UNet1D(Network):
    """`UNet1DModel`, of signals (C, L), without labels."""

    kind, home = "UNet1DModel", "DanceDiffusionPipeline"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        c: Any = self.model.config
        return (c.in_channels, c.sample_size)

    def tables(self) -> list[nn.Embedding]:
        return []

    def call(self, x_t: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return self.model(x_t, t, return_dict=False)[0]


class DiT(Network):
    """`DiTTransformer2DModel`: a label table in each block, whose last row is no label; a learned variance is left out."""

    kind, component, home = "DiTTransformer2DModel", "transformer", "DiTPipeline"

    def __init__(self, model: nn.Module, *, null: bool = True, **settings: Any) -> None:
        super().__init__(model, null=null, **settings)
        for part in self._embedders():  # labels are dropped by whoever trains it, by private generators
            part.dropout_prob = 0.0

    def _embedders(self) -> list[Any]:
        return [part for part in self.model.modules() if hasattr(part, "embedding_table")]

    def tables(self) -> list[nn.Embedding]:
        return [part.embedding_table for part in self._embedders()]

    def stages(self) -> list[nn.Module]:
        """Its blocks."""
        return list(self.model.transformer_blocks)  # type: ignore[arg-type]

    def call(self, x_t: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        y = torch.full((len(x_t),), self.n_classes, device=x_t.device) if y is None else y
        return self.model(x_t, t.expand(len(x_t)), class_labels=y, return_dict=False)[0][:, : x_t.shape[1]]


class Conditioned(Network):
    """`UNet2DConditionModel`, whose conditions are given: a row of embeddings for each label, the last one for no label.

    Args:
        model: The model.
        embeddings: (K + 1, length, width), or their shape, to be filled.
        settings: As for any `Network`.
    """

    kind = "UNet2DConditionModel"
    embeddings: Tensor

    def __init__(self, model: nn.Module, *, embeddings: Tensor | list[int], **settings: Any) -> None:
        super().__init__(model, **{**settings, "null": True})
        self.register_buffer("embeddings", embeddings if isinstance(embeddings, Tensor) else torch.zeros(embeddings))
        self.n_classes = len(self.embeddings) - 1

    @property
    def config(self) -> dict[str, Any]:
        """Settings from which `network` makes the same one."""
        return {**super().config, "embeddings": list(self.embeddings.shape)}

    def tables(self) -> list[nn.Embedding]:
        return []

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.call(x_t, self.time_scale * t, self._rows(y, x_t))

    def call(self, x_t: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return self.model(x_t, t, self.embeddings[y], return_dict=False)[0]


def _map(out: Any) -> Tensor:
    """A stage's output as a map (B, C, *); a transformer's are (B, positions, C)."""
    first: Tensor = out[0] if isinstance(out, tuple) else out
    return first.transpose(1, 2) if first.ndim == 3 and not isinstance(out, tuple) else first


NETWORKS: dict[str, type[Network]] = {one.kind: one for one in (UNet2D, UNet1D, DiT, Conditioned)}


def network(*, kind: str, config: dict[str, Any], **settings: Any) -> Network:
    """The network that `Network.config` described, untrained."""
    settings = {key: value for key, value in settings.items() if key not in ("shape", "n_classes")}
    return NETWORKS[kind](getattr(library(), kind).from_config(config), **settings)


def new_dit(shape: tuple[int, ...], schedule: Schedule, n_classes: int = 0, *, width: int = 144, depth: int = 6, heads: int = 4, patch: int = 2) -> DiT:
    """A small diffusion transformer for images (C, H, W), by diffusers, with a row for no label in its label tables.

    Args:
        shape: Of one image, square.
        schedule: The forward process.
        n_classes: Labels that it knows.
        width, depth, heads, patch: Numbers a position, blocks, attention heads, and pixels a side of what becomes a position.

    Raises:
        BadModel: Images that are not square, or of a side that patches do not divide.

    Reference:
        Peebles, Xie, Scalable Diffusion Models with Transformers, 2023, arXiv 2212.09748, section 3.
    """
    channels, side, across = shape
    if side != across or side % patch:
        raise BadModel(f"net 'dit' takes square images whose side is a multiple of {patch}, got {tuple(shape)}; bring them to one by --size")
    told = {"num_attention_heads": heads, "attention_head_dim": width // heads, "num_layers": depth, "patch_size": patch}
    model = library().DiTTransformer2DModel(sample_size=side, in_channels=channels, out_channels=channels, num_embeds_ada_norm=n_classes, **told)
    for layer in [*(block.norm1.linear for block in model.transformer_blocks), model.proj_out_1, model.proj_out_2]:
        nn.init.zeros_(layer.weight)  # every block begins as the identity, and the whole as zero
        nn.init.zeros_(layer.bias)
    return DiT(model, time_scale=1.0 if isinstance(schedule, Discrete) else DIT_TIME)


def with_labels(old: Network, n_classes: int) -> Network:
    """A network that knows more labels: rows of those it knew stay, a new one begins as no label, which is the last row.

    Raises:
        BadModel: It has no label table.
    """
    key = {"UNet2DModel": "num_class_embeds", "DiTTransformer2DModel": "num_embeds_ada_norm"}.get(old.kind)
    if key is None:
        remedy = "add their embeddings to those of the folder" if isinstance(old, Conditioned) else "drop them"
        raise BadModel(f"a {old.kind} cannot be given the target's labels; {remedy}, or use tgdp")
    settings = {**old.config, "null": True}
    settings["config"] = {**settings["config"], key: n_classes + (old.kind == "UNet2DModel")}
    with torch.random.fork_rng():
        new = network(**settings)
    tables, rows = {id(table.weight) for table in new.tables()}, old.model.state_dict()
    grown = {name: grown_rows(rows.get(name), value, old.null) for name, value in new.model.named_parameters() if id(value) in tables}
    new.model.load_state_dict({**rows, **grown})
    like = next(old.parameters())
    return new.to(like).requires_grad_(like.requires_grad).train(old.training)


def grown_rows(rows: Tensor | None, like: Tensor, null: bool = True) -> Tensor:
    """Label rows for more labels, of the shape of `like`: those known stay, and a new one begins as no label, the last row.

    Args:
        rows: Those so far; None where there are none, which begins as zeros.
        like: The larger table.
        null: Whether the last of `rows` is no label; else their mean stands for it.
    """
    if rows is None:
        return torch.zeros_like(like)
    known = rows[:-1] if null else rows
    none = rows[-1:] if null else rows.mean(0, keepdim=True)
    return torch.cat([known, none.expand(len(like) - len(known), -1)])
