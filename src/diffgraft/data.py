"""What a method may see, and what only the evaluation may.

`Data` holds the source pool and the few target points: all that a `Method` receives. `Task` adds the held-out
test points and, in synthetic worlds, the exact truth: only `evaluate` and the experiment see it, so a method cannot
train on test data by mistake. Everything here is in data units; `Transform` maps to the model space in which
denoisers live, is fitted on the source, and travels with the model.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, TypeGuard

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from . import rng
from .errors import BadData

CHUNK = 2_000_000
"""Numbers of a pool that are worked on at once."""
NULL = -1
"""The label that means none: -1, or a row of -1 where labels are multi-hot."""


class Points(NamedTuple):
    """A pool of samples: `x` (n, *) and labels `y`, None, int64 (n,) or float (n, K)."""

    x: Tensor
    y: Tensor | None = None

    def take(self, rows: Tensor) -> "Points":
        """The samples at these rows, with their labels."""
        return Points(self.x[rows], None if self.y is None else self.y[rows])

    @property
    def n(self) -> int:
        """How many samples."""
        return len(self.x)


def points(given: "Tensor | ArrayLike | tuple", what: str) -> Points:
    """Check an array, or a pair of array and labels, once, and make it tensors.

    Args:
        given: `x` or `(x, y)`, arrays or tensors.
        what: How messages name it: "source", "target".

    Raises:
        BadData: Not numeric, not finite (row and column named), fewer than two samples, labels of another length.
    """
    x, y = given if isinstance(given, tuple) else (given, None)
    try:
        x = torch.as_tensor(np.asarray(x) if not isinstance(x, Tensor) else x).to(torch.float32)
    except (TypeError, ValueError) as error:
        raise BadData(f"{what} data must be a numeric array of shape (n, ...), got {type(x).__name__}: {error}") from None
    if x.ndim < 2:
        raise BadData(f"{what} data must have shape (n, ...), one row a sample, got {tuple(x.shape)}; reshape single features to (n, 1)")
    if len(x) < 2:
        raise BadData(f"{what} data must hold at least 2 samples, got {len(x)}; add samples")
    if (bad := _not_finite(x)) is not None:
        row, *column = bad
        raise BadData(f"{what} data must be finite, got {x[row][tuple(column)].item()} in row {row}, column {', '.join(map(str, column))}; fix or drop it")
    return Points(x, None if y is None else labels(y, len(x), what))


def _not_finite(x: Tensor) -> list[int] | None:
    """Where the first number that is not finite stands."""
    for first, part in chunks(x):
        if not bool((good := torch.isfinite(part)).all()):
            row, *column = (~good).nonzero()[0].tolist()
            return [first + row, *column]
    return None


def check_images(x: Tensor) -> None:
    """Make sure that samples can be mirrored.

    Raises:
        BadData: They are no images (n, C, H, W).
    """
    if x.ndim != 4:
        raise BadData(f"only images (n, C, H, W) are mirrored, got samples of shape {tuple(x.shape[1:])}; drop --flip (flip=)")


def chunks(x: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Parts of a pool (n, *) in order, each with its first row: data that are mapped from a file are never held whole."""
    rows = max(1, CHUNK // max(1, x[0].numel()))
    for first in range(0, len(x), rows):
        yield first, x[first : first + rows]


def labels(y: "Tensor | ArrayLike", n: int, what: str = "sampling") -> Tensor:
    """Check labels: int64 (n,) with -1 for none, or float multi-hot (n, K) with a row of -1 for none.

    Raises:
        BadData: Another length, rank, or value.
    """
    try:
        y = torch.as_tensor(np.asarray(y) if not isinstance(y, Tensor) else y)
    except (TypeError, ValueError):
        raise BadData(f"{what} labels must be numbers, class indices or multi-hot rows; map names to indices 0, 1, ...") from None
    if not bool(torch.isfinite(y).all()):
        raise BadData(f"{what} labels must be finite numbers, got {y[~torch.isfinite(y)][0].item()}; use -1 for none")
    if y.ndim not in (1, 2) or len(y) != n:
        raise BadData(f"{what} labels must be one class index a sample, ({n},), or one multi-hot row a sample, ({n}, K), got {tuple(y.shape)}")
    if y.ndim == 2:
        return y.to(torch.float32)
    y = y if y.is_floating_point() else y.to(torch.int64)  # in unsigned bytes, 0 is below -1
    if (y.is_floating_point() and not bool((y == y.round()).all())) or bool((y < NULL).any()):
        raise BadData(f"{what} labels must be class indices 0, 1, ... (-1 for none), got {y.min().item()}")
    return y.to(torch.int64)


def count_classes(pool: Points) -> int:
    """How many classes or multi-hot columns the labels of a pool have; 0 without labels."""
    if pool.y is None:
        return 0
    return int(pool.y.max()) + 1 if pool.y.ndim == 1 else pool.y.shape[1]


@dataclass(frozen=True)
class Data:
    """All that a method may see: a source pool, if it is at hand, and the target points.

    Args:
        source: Source samples (n, *), or a pair with their labels, or None where only the source model is at hand.
        target: Target samples, of the same shape each, or a pair with their labels.
        flip: Let methods learn from target images mirrored left to right, too; those that they hold back stay as they are.
        log_ratio: log q / p of each source sample up to a constant, (n,), where it is known, as to who reweighs a simulator's latents.
            Methods of a clean ratio take it instead of learning one.
        owners: Whose each target sample is, such as names of patients; what methods hold back, and what a clean ratio or `auto` scores by, is of
            other owners than what they learn from.

    Raises:
        BadData: See `points`; also where the shapes of the two domains differ, samples to be mirrored are no images, or owners are more or fewer.

    Example:
        >>> import numpy as np
        >>> data = Data(source=np.zeros((7, 3)), target=np.ones((5, 3)))
        >>> data.target.x.shape
        torch.Size([5, 3])
    """

    source: Points | None = None
    target: Points = None  # type: ignore[assignment]
    flip: bool = False
    log_ratio: Tensor | None = None
    owners: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.target is None:
            raise BadData("Data needs target samples; pass target=x or target=(x, y)")
        object.__setattr__(self, "target", points(self.target, "target"))
        if self.flip:
            check_images(self.target.x)
        if self.owners is not None and len(self.owners) != self.target.n:
            raise BadData(f"owners name whose each target sample is, got {len(self.owners)} for {self.target.n} samples; name one for each")
        if self.owners is not None and len(set(self.owners)) == self.target.n:
            object.__setattr__(self, "owners", None)  # nobody has two
        if self.source is None:
            if self.log_ratio is not None:
                raise BadData("log_ratio is of source samples, and there are none; pass source=x, or drop log_ratio")
            return
        object.__setattr__(self, "source", points(self.source, "source"))
        if self.log_ratio is not None:
            object.__setattr__(self, "log_ratio", _log_ratio(self.log_ratio, self.source.n))
        if self.source.x.shape[1:] != self.target.x.shape[1:]:
            raise BadData(f"source and target samples must have one shape, got {tuple(self.source.x.shape[1:])} and {tuple(self.target.x.shape[1:])}")


def _log_ratio(given: "Tensor | ArrayLike", n: int) -> Tensor:
    log_r = torch.as_tensor(np.asarray(given) if not isinstance(given, Tensor) else given).double()
    if log_r.shape != (n,) or not bool(torch.isfinite(log_r).all()):
        raise BadData(f"log_ratio must be one finite number a source sample, ({n},), got {tuple(log_r.shape)}; pass log q / p at each")
    return log_r


@dataclass(frozen=True)
class Task:
    """A transfer problem with its examination: data, held-out target test points, truth where it exists.

    Args:
        name: As the catalog lists it.
        data: What methods see.
        test: Held-out target samples, in data units.
        transform: The model space to use; None fits one on the source.
        truth: An object with `source`, `target` (denoisers), `log_h`, `log_prob_source`, `log_prob_target`,
            `sample_target(n, seed)`; None for real data.
        layout: What the numbers of a sample are called.
        features: A map from samples in data units to features (n, F), for metrics; it has seen no test point.
        downstream: What samples are worth to a classifier: an object with `scores(samples)`, `references(n)` and `report(n)`, for metrics;
            None where nothing is labelled.
        measures: A map from samples in data units to quantities of each, `{name: (n,)}`, for metrics.
        config: The settings that made the task.
        account: What of the data was left out and what is odd, a line each.
        split: Which part each record is in, by its name, where records are split into parts that stay; it is written beside what a run does.
    """

    name: str
    data: Data
    test: Points
    transform: "Transform | None" = None
    truth: Any = None
    layout: "Layout" = field(default_factory=lambda: Layout())
    features: Any = None
    downstream: Any = None
    measures: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    account: tuple[str, ...] = ()
    split: dict[str, int] | None = None


@dataclass(frozen=True)
class Transform:
    """Shift and scale between data units and model space, `x_model = (x - shift) / scale`.

    Args:
        shift, scale: Tensors that broadcast against one sample.
    """

    shift: Tensor
    scale: Tensor

    @classmethod
    def identity(cls) -> Self:
        """No change."""
        return cls(torch.zeros(()), torch.ones(()))

    @classmethod
    def fit(cls, x: Tensor) -> Self:
        """Standardise features of a table (n, D) one by one, channels of a signal or image (n, C, ...) as a whole.

        A constant feature has scale 0: it is 0 in model space and comes back as the constant.
        """
        axes, count = (0, *range(2, x.ndim)), x.numel() // x.shape[1]
        parts = [(part.double().sum(axes, keepdim=True), part.amin(axes, keepdim=True), part.amax(axes, keepdim=True)) for _, part in chunks(x)]
        total, lows, highs = (torch.stack(found) for found in zip(*parts, strict=True))
        shift, lowest, highest = total.sum(0) / count, lows.amin(0), highs.amax(0)
        square = torch.stack([((part.double() - shift) ** 2).sum(axes, keepdim=True) for _, part in chunks(x)]).sum(0)
        scale = torch.where(lowest < highest, (square / (count - 1)).sqrt(), 0.0)
        return cls(torch.where(lowest < highest, shift, lowest)[0].float(), scale[0].float())

    def forward(self, x: Tensor) -> Tensor:
        """Data units to model space."""
        scale = self.scale.to(x)
        return (x - self.shift.to(x)) / torch.where(scale > 0, scale, 1.0)

    def of_data(self, x: Tensor) -> Tensor:
        """`forward` of data that are asked for by every fit: where it is costly, it may be kept."""
        return self.forward(x)

    def inverse(self, x: Tensor) -> Tensor:
        """Model space to data units."""
        return x * self.scale.to(x) + self.shift.to(x)

    def follow(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Go where a model goes that is moved by `fn`, as far as there is something to move."""

    def data_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape in data units of a sample of this shape in model space."""
        return shape

    def log_scale(self, shape: tuple[int, ...]) -> float:
        """Log-determinant of `inverse` on samples of this shape, constants left out: subtract it from a model-space log-density."""
        return float(torch.where(self.scale > 0, self.scale, 1.0).double().log().expand(shape).sum())


@dataclass(frozen=True)
class Prior:
    """Which labels to sample when none are given: those of the target, as often as they occur there.

    Args:
        values: The distinct labels, int64 (M,) or multi-hot (M, K).
        probs: How often each occurs, (M,).
    """

    values: Tensor
    probs: Tensor

    @classmethod
    def fit(cls, y: Tensor | None) -> Self | None:
        """The empirical prior of labels `y`; None without labels."""
        if y is None:
            return None
        values, counts = y.unique(dim=0, return_counts=True)
        return cls(values, counts / len(y))

    def draw(self, n: int, seed: int) -> Tensor:
        """`n` labels; label i depends on the seed and i alone, so longer draws extend shorter ones."""
        u = torch.rand(n, generator=rng.generator(seed, "labels"))
        return self.values[torch.searchsorted(self.probs.cumsum(0), u).clamp(max=len(self.values) - 1)]


@dataclass(frozen=True)
class Layout:
    """What the numbers of a sample are called, so that more data of the same kind can be read and samples be written alike.

    Args:
        columns: Names of a table's features or of a signal's channels, in their order; None where they have none.
        labels: Names of the classes, in the order of their indices; None where labels are indices.
        label_column: The column of a table that holds the label, by name, or by position where columns have no names.
        size: Side of square images in pixels, where they were brought to one size.
        rate: Of signals, samples a second.
        unit: Of signals, such as mV.
        channels: Of images: 3 lets more grey ones be read as colours.
        seconds, band: Of recordings: length of the windows, and lowest and highest frequency in Hz that were kept.
    """

    columns: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    label_column: str | int | None = None
    size: int | None = None
    rate: float | None = None
    unit: str | None = None
    channels: int | None = None
    seconds: float | None = None
    band: tuple[float, float] | None = None

    def filled(self, other: "Layout") -> "Layout":
        """This layout, where it says nothing as `other`; label names of `other` where they are more."""
        own = {key: value if value is not None else getattr(other, key) for key, value in vars(self).items()}
        longer = len(other.labels or ()) > len(self.labels or ())
        return Layout(**{**own, "labels": other.labels if longer else self.labels})


@dataclass(frozen=True, eq=False)
class View:
    """Some rows of a pool, brought to model space as they are drawn: data that are mapped from a file stay there.

    Args:
        pool: Samples in data units.
        rows: Which of them, (m,).
        transform: Data units to model space.
        flip: Each image is there a second time, mirrored left to right, after all others.
    """

    pool: Points
    rows: Tensor
    transform: Transform
    flip: bool = False

    @property
    def n(self) -> int:
        """How many samples."""
        return len(self.rows) * (1 + self.flip)

    def take(self, rows: Tensor) -> Points:
        """The samples at these rows of the view, with their labels."""
        part, mirrored = self.pool.take(self.rows[rows % len(self.rows)]), rows >= len(self.rows)
        x = torch.where(mirrored[:, None, None, None], part.x.flip(-1), part.x) if self.flip else part.x
        return Points(self.transform.forward(x), part.y)


def split(pool: Points, fraction: float, seed: int) -> tuple[Points, Points]:
    """Training and held-out parts of a pool, at least one sample each, drawn by `seed`."""
    train, held_out = split_rows(pool.n, fraction, seed)
    return pool.take(train), pool.take(held_out)


def split_rows(n: int, fraction: float, seed: int, owners: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
    """Rows of the two parts, as `split` has them; where there are several owners, nobody's samples are in both."""
    order = torch.randperm(n, generator=rng.generator(seed, "split"))
    held_out = min(max(round(fraction * n), 1), n - 1)
    if owners is None or len(set(owners)) == 1:
        return order[held_out:], order[:held_out]
    sizes, kept, left = Counter(owners[row] for row in order.tolist()), set(), held_out
    for name, size in sizes.items():
        if size <= left:
            kept.add(name)
            left -= size
    least = min((name for name in sizes if name not in kept), key=lambda name: sizes[name])
    if not kept or (left > held_out / 2 and n - (held_out - left) - sizes[least] >= n / 2):
        kept.add(least)
    theirs = torch.tensor([owners[row] in kept for row in order.tolist()])
    return order[~theirs], order[theirs]


def part_by(owners: Sequence[str] | None) -> TypeGuard[Sequence[str]]:
    """Whether folds are made of owners: there are several, and none has more than half of the samples."""
    return owners is not None and 2 * max(Counter(owners).values()) <= len(owners)


def owner_folds(owners: Sequence[str], k: int, seed: int, classes: Sequence[int] | None = None) -> list[Tensor]:
    """Rows of up to k folds of like size, with nobody's samples in two; owners of each class are dealt to all folds in turn."""
    theirs: dict[str, list[int]] = {}
    for row in torch.randperm(len(owners), generator=rng.generator(seed, "owners")).tolist():
        theirs.setdefault(owners[row], []).append(row)
    folds: list[list[int]] = [[] for _ in range(min(k, len(theirs)))]
    for rows in sorted(theirs.values(), key=lambda rows: (0 if classes is None else int(classes[rows[0]]), -len(rows))):
        min(folds, key=len).extend(rows)
    return [torch.tensor(fold) for fold in folds]


def distinct(x: Tensor) -> Tensor:
    """Rows of samples (n, *) that are no exact copy of one before, in their order."""
    first: dict[bytes, int] = {}
    for row, fingerprint in enumerate(fingerprints(x)):
        first.setdefault(fingerprint, row)
    return torch.tensor(list(first.values()))


def fingerprints(x: Tensor) -> Iterator[bytes]:
    """A short hash of each sample of a pool (n, *); equal samples have equal ones."""
    for _, part in chunks(x):
        rows = np.ascontiguousarray((part.detach().cpu() + 0.0).flatten(1).numpy())  # + 0: minus zero equals zero
        for row in rows:
            yield hashlib.blake2b(row.data, digest_size=16).digest()


def hash_points(pool: Points) -> str:
    """Hash of a pool's numbers."""
    digest = hashlib.sha256()
    for a in [a for a in pool if a is not None]:
        for _, part in chunks(a):
            digest.update(np.ascontiguousarray(part.detach().cpu().numpy()).data)
    return digest.hexdigest()
