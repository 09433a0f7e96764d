"""What every method begins with: a frozen source, the pools in model space, a held-out part, one seed."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .. import rng
from ..data import NULL, Data, Points, Prior, count_classes, split_rows
from ..denoise import Denoiser, KnownLabels, Net, denoising_loss, known_labels, matches
from ..draw import Draw
from ..errors import BadData, BadModel, BadPlan, listed
from ..fit import Loss, Training, Watch
from ..interop.networks import Network
from ..nets.catalog import more_labels
from ..pretrain import LABEL_DROPOUT
from ..samplers import sample, sample_labels

STAND_IN = 10_000
"""Samples of the source model that stand in where the source's data are absent."""


class Method(Protocol):
    """A transfer method: a frozen dataclass of its settings with one verb."""

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Adapt the source model to the target points; `source` and `data` stay as they are.

        Args:
            source: The source model.
            data: Source pool, if at hand, and target points, in data units.
            generator: One seed is drawn from it; everything after follows from that seed.
            watch: Called with each `Progress`.
            folder: For checkpoints; a fit that finds some goes on from them.
        """
        ...


@runtime_checkable
class Leads(Method, Protocol):
    """A method that fine-tunes by another method, and then guides what came out: methods that fine-tune alike may share it."""

    def tuning(self) -> Method:
        """The method that fine-tunes."""
        ...

    def lead(self, source: Denoiser, tuned: Denoiser) -> Denoiser:
        """Guide a fine-tune that is there already, as `tuning()` makes it."""
        ...


@dataclass(frozen=True)
class Start:
    """Where a method begins. Everything is in model space.

    Args:
        source: A frozen copy of the source model, which runs without a label at labels that it does not know.
        train, held_out: The target points, split; `held_out` is None where nothing is kept back.
        seed: Everything random follows from it.
        prior: The target's labels, to sample by.
        log_ratio: log q / p at each point of the source pool, where it is known.
        owners: Whose each point of `everything` is, where that is known; a mirrored point is its original's.
    """

    source: Denoiser
    train: Points
    held_out: Points | None
    seed: int
    prior: Prior | None
    log_ratio: Tensor | None = None
    owners: tuple[str, ...] | None = None

    @property
    def everything(self) -> Points:
        """All target points, those kept back too."""
        if self.held_out is None:
            return self.train
        y = None if self.train.y is None or self.held_out.y is None else torch.cat([self.train.y, self.held_out.y])
        return Points(torch.cat([self.train.x, self.held_out.x]), y)

    def check(self, model: Denoiser, rows: str = "target") -> Loss | None:
        """The held-out score-matching loss of a model, where points were kept back; `rows` names their draw."""
        kept = self.held_out
        return None if kept is None else lambda draw: matching_loss(model, kept, draw, rows)

    def finish(self, model: Denoiser, notes: dict[str, Any] | None = None) -> Denoiser:
        """The fitted model, with the source's transform, the target's label prior, and notes for the record."""
        model.like(self.source)
        model.prior, model.notes = self.prior, notes or {}
        return model.eval()


def begin(source: Denoiser, data: Data, generator: torch.Generator | None, held_out: float, *, new_labels: bool = False, led: bool = True) -> Start:
    """Check that source and data fit together, copy and freeze the source, split the target.

    Args:
        held_out: Share of the target points to keep back; 0 for none.
        new_labels: Accept target labels that the source does not know; it then runs without a label there.
        led: The model fitted runs the source itself, so that at such labels it has to run without one.

    Raises:
        BadData: Samples of another shape than the source's, or labels that it does not know.
        BadModel: The source should drop a label and cannot.
    """
    shape = tuple(data.target.x.shape[1:])
    wanted = None if source.shape is None else source.transform.data_shape(source.shape)
    if wanted not in (None, shape):
        raise BadData(f"the source model takes samples of shape {wanted}, the target data have {shape}; {_remedy(wanted, shape)}")
    _check_constants(source, data.target.x)
    if not 0 <= held_out < 1:
        raise BadPlan(f"held_out is a share of the target points in [0, 1), got {held_out}")
    seed = rng.seed_from(generator)
    frozen = copy.deepcopy(source).requires_grad_(False).eval()
    target = Points(source.transform.of_data(data.target.x), data.target.y)
    if target.y is not None:
        frozen = _with_labels(frozen, target, new_labels, led)
    elif led and frozen.n_classes and (error := error_without_label(frozen, target.x[:2])):
        raise BadModel(f"the target has no labels, and the source cannot run without one ({error}); give the target the source's labels, or use finetune")
    parted = rng.split(seed, "split"), data.owners
    rows, kept_rows = split_rows(target.n, held_out, *parted) if held_out else (torch.arange(target.n), None)
    train, kept = target.take(rows), None if kept_rows is None else target.take(kept_rows)
    if data.flip:
        mirrored = source.transform.of_data(data.target.x.flip(-1))[rows]
        train = Points(torch.cat([train.x, mirrored]), None if train.y is None else torch.cat([train.y, train.y]))
    return Start(frozen, train, kept, seed, Prior.fit(target.y), data.log_ratio, _owners(data, rows, kept_rows))


def _owners(data: Data, rows: Tensor, kept: Tensor | None) -> tuple[str, ...] | None:
    """Whose each point of `Start.everything` is."""
    if data.owners is None and not data.flip:
        return None
    owners = data.owners or [str(row) for row in range(data.target.n)]
    order = torch.cat([rows.repeat(1 + data.flip), rows[:0] if kept is None else kept])
    return tuple(owners[row] for row in order.tolist())


def _remedy(wanted: tuple[int, ...], got: tuple[int, ...]) -> str:
    """What to do about samples of another shape."""
    if len(wanted) == len(got) == 3 and wanted[0] != got[0]:
        return f"give images with {wanted[0]} {'channel' if wanted[0] == 1 else 'channels'}"
    if len(wanted) == len(got) == 3:
        return f"drop --size, or pass --size {wanted[-1]}" if wanted[-1] == wanted[-2] else "give images of the source's height and width"
    return "use data with the source's features in its order"


def _check_constants(source: Denoiser, x: Tensor) -> None:
    """Refuse target points that differ where the source is constant: it would be constant in every sample, too."""
    scale, shift = source.transform.scale, source.transform.shift
    for k in (scale.flatten() == 0).nonzero()[:, 0].tolist() if scale.ndim else []:
        if bool((x[:, k] != shift[k]).any()):
            name = source.layout.columns[k] if source.layout.columns else f"{'feature' if x.ndim == 2 else 'channel'} {k}"
            value = float(shift[k].flatten()[0])
            raise BadData(f"{name} is {value:g} throughout the source, but not in the target data; a source that never varies has nothing to lend, drop it")


def _with_labels(source: Denoiser, target: Points, new_labels: bool, led: bool) -> Denoiser:
    n, known = count_classes(target), known_values(source)
    if n <= source.n_classes and (not new_labels or _all_known(source, target)):
        return source
    if not new_labels:
        if source.n_classes == 0:
            raise BadData("the target data have labels, but the source model takes none; drop the labels, pretrain the source with labels, or use tgdp")
        raise BadData(f"the target's labels go up to {n - 1}, the source model knows 0 to {source.n_classes - 1}; map them to the source's, or use tgdp")
    if led and (error := error_without_label(source, target.x[:2])):
        odd = _unknown(target, known, source.layout.labels or ())
        raise BadModel(f"the source knows no {odd}, and cannot run without a label ({error}); leave such samples out of the target, or use finetune")
    return known_labels(source, known, max(n, source.n_classes))


def error_without_label(source: Denoiser, x: Tensor) -> str | None:
    """The kind of error that a source ends in on samples without a label; None where it runs."""
    like = next(source.parameters(), x)
    try:
        source(x.to(like), torch.tensor(0.5), None)
    except Exception as error:  # whatever a network of the user's own raises
        return type(error).__name__
    return None


def known_values(source: Denoiser) -> Tensor:
    """The labels that a source was trained with: those of its prior, or all that it takes."""
    return source.prior.values if source.prior is not None else torch.arange(source.n_classes)


def _unknown(target: Points, known: Tensor, names: tuple[str, ...]) -> str:
    """The target's labels that a source was not trained with, by their names."""
    assert target.y is not None
    if target.y.ndim == 1:
        odd = sorted(set(target.y.tolist()) - set(known.flatten().tolist()) - {NULL})
    else:
        seen = (known > 0).any(0) if known.ndim == 2 else torch.zeros(target.y.shape[1], dtype=torch.bool)
        odd = ((target.y > 0).any(0) & ~seen).nonzero()[:, 0].tolist()
    words = [names[k] if k < len(names) else str(k) for k in odd]
    return f"label {listed(words)}" if words else "row without any label"


def _all_known(source: Denoiser, target: Points) -> bool:
    assert target.y is not None
    if source.prior is None and target.y.ndim == 2:
        return True  # it takes every row
    return bool(matches(target.y, known_values(source)).all())


def source_pool(start: Start, data: Data) -> Points:
    """Source points in model space, or samples of the source model where there are none, with labels to pair with the target's.

    A target label that the source does not know is borne by source points drawn at random: there the source runs without a
    label, so the ratio is that of q(x | y) to the whole of p(x).
    """
    if data.source is not None:
        pool = Points(start.source.transform.of_data(data.source.x), data.source.y)
    else:
        source = start.source.base if isinstance(start.source, KnownLabels) else start.source
        y = sample_labels(source, STAND_IN, start.seed)
        x = sample(source, STAND_IN, y=y, generator=rng.generator(start.seed, "stand-in"))
        pool = Points(start.source.transform.forward(x), y)
    if start.prior is None:
        return Points(pool.x)
    if not lends_labels(start) and pool.y is not None:
        return pool
    if start.log_ratio is not None:
        raise BadData("log_ratio goes with source samples whose labels the source model knows, and the target has others; drop the labels or log_ratio")
    return _paired(pool, start)


def lends_labels(start: Start) -> bool:
    """Whether source points bear labels at random, since the source does not know what the target calls its points."""
    return isinstance(start.source, KnownLabels)


def lends_all_labels(start: Start) -> bool:
    """Whether all of them do: the source takes no labels, or those of another kind."""
    return isinstance(start.source, KnownLabels) and not _alike(start, start.source.values)


def _alike(start: Start, known: Tensor) -> bool:
    """Whether labels that the source knows are of the target's kind."""
    assert start.prior is not None
    return bool(start.source.n_classes) and len(known) > 0 and known.shape[1:] == start.prior.values.shape[1:]


def _paired(pool: Points, start: Start) -> Points:
    """The pool with its own labels where the source knows them, and random points for each label that it does not know."""
    assert start.prior is not None
    known = start.source.values if isinstance(start.source, KnownLabels) else known_values(start.source)[:0]
    keep = [pool.take(matches(pool.y, known))] if _alike(start, known) and pool.y is not None else []
    for k, value in enumerate(start.prior.values):
        if len(known) and bool(matches(value[None], known)):
            continue
        rows = torch.randperm(pool.n, generator=rng.generator(start.seed, "paired", k))[: max(1, round(float(start.prior.probs[k]) * pool.n))]
        keep.append(Points(pool.x[rows], value.expand(len(rows), *value.shape).clone()))
    return Points(torch.cat([part.x for part in keep]), torch.cat([part.y.to(start.prior.values) for part in keep if part.y is not None]))


def own_net(source: Denoiser, method: str) -> Net:
    """A trainable copy of the source network; with a larger label table where it is to know more labels, or to learn to do without one.

    Raises:
        BadModel: The source is guided, so there is no single network to train, or it is a network of the user's own that
            would have to know more labels.
    """
    if isinstance(source, KnownLabels) and isinstance(source.base, Net):
        return _with_more_labels(source.base, source.n_classes, method).like(source.base).requires_grad_(True)
    if isinstance(source, Net) and isinstance(source.module, Network) and not source.module.runs_without_label:
        return _with_more_labels(source, source.n_classes, method).like(source).requires_grad_(True)
    if not isinstance(source, Net):
        raise BadModel(f"{method} trains the source's own network, but this source is a {type(source).__name__}; give a model that pretrain or finetune wrote")
    return copy.deepcopy(source).requires_grad_(True)


def _with_more_labels(net: Net, n_classes: int, method: str) -> Any:
    """A network that knows more labels; see `more_labels`."""
    module = more_labels(net.module, net.schedule, n_classes)
    if module is None:
        raise BadModel(f"{method} cannot give this network more labels than the {net.n_classes} that it knows; map the target's labels to them, or use tgdp")
    return Net(module, net.schedule, net.predicts, net.shape, round_steps=net.round_steps, sigma_data=net.sigma_data)


def matching_loss(model: Denoiser, pool: Points, draw: Draw, rows: str = "target") -> Tensor:
    """Score matching on a pool in model space, (b,); one label in ten is dropped."""
    x, y = draw.rows(pool, rows)
    return denoising_loss(model, x, draw.times(model.schedule), draw.noise(x), draw.drop(y, LABEL_DROPOUT))


def short_training(pool: Points, steps: int, batch_size: int | None, learning_rate: float) -> Training:
    """Training on few points: frequent held-out checks, a stop after long without a better one.

    Long is half of the steps for vectors and a quarter for images, whose steps are dear.
    """
    vectors = pool.x.ndim == 2
    check_every = max(1, min(50, steps // 20))
    return Training(
        steps=steps,
        batch_size=batch_size or (256 if vectors else 32),
        learning_rate=learning_rate,
        warmup=min(100, max(1, steps // 10)),
        check_every=check_every,
        patience=max(1, round((0.5 if vectors else 0.25) * steps / check_every)),
    )
