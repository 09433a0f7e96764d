"""A classifier of labelled signals, trained as the PTB-XL benchmark trains its residual network, from scratch or from another one."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot
from torch.optim.lr_scheduler import OneCycleLR

from .. import rng
from ..data import Points
from ..errors import BadData, one_of
from ..nets.xresnet1d import XResNet1d50

PASS = 250
"""Windows that are looked at at once."""
DECAY, SECOND = 1e-2, 0.99
"""Weight decay, and the memory of squared gradients."""
RATES = (1e-5, 1e-4, 1e-3)
"""Peak learning rates of stem, stages and head where all of a trained classifier is tuned."""
AGGREGATES = ("max", "mean")


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained and asked.

    Args:
        epochs: From scratch.
        tuning: Epochs of the head alone, and again as many of all, where a trained classifier is tuned.
        crop: Samples of the window that is drawn of each record in each epoch, 2.5 s at 100 Hz; records shorter than one and a half of it
            are seen whole.
        batch: Records a step; all of them where they are fewer.
        peak: Learning rate at the end of the warm-up.
        most_steps: Of a training, whose rate then takes its whole course in fewer epochs. A step of 128 records of 8 x 256 takes half a
            second of one core, so 200 of them, 25 epochs of 1,050 records, take about 100 s.
        aggregate: Over the windows of a record, "max" or "mean" of the probabilities.

    Raises:
        BadPlan: An unknown aggregate.
    """

    epochs: int = 50
    tuning: int = 30
    crop: int = 250
    batch: int = 128
    peak: float = 1e-2
    most_steps: int = 200
    aggregate: str = "max"

    def __post_init__(self) -> None:
        one_of("aggregate", self.aggregate, AGGREGATES)

    def window(self, length: int) -> int:
        """Samples of a window of records of this length."""
        return self.crop if 2 * length >= 3 * self.crop else length

    def steps(self, n: int, epochs: int) -> int:
        """Steps of a training on `n` records; those that fill no batch wait for the next epoch."""
        return min(epochs * (n // min(n, self.batch)), self.most_steps)


RECIPE = Recipe()
"""The benchmark's, with fewer steps where records are many."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier of signals (n, leads, L) in data units.

    Args:
        net: Its network, which is not trained any more.
        mean, scale: Of all numbers of its training records: what its network sees is standardised by these two.
        recipe: How it was trained and is asked.
    """

    net: XResNet1d50
    mean: Tensor
    scale: Tensor
    recipe: Recipe

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """Probability of each statement, (n, K): the maximum or mean over windows that overlap by half, those that a record fills."""
        p = self._over_windows(x, lambda seen: self.net(seen).sigmoid())
        return p.amax(0) if self.recipe.aggregate == "max" else p.mean(0)

    @torch.no_grad()
    def features(self, x: Tensor, sigmoid: bool = False) -> Tensor:
        """What the head's first layer says before its ReLU, through a sigmoid or as it is, (n, 128): the mean over the same windows."""
        return self._over_windows(x, lambda part: self.net.embed(part).sigmoid() if sigmoid else self.net.embed(part)).mean(0)

    def _over_windows(self, x: Tensor, say: Callable[[Tensor], Tensor]) -> Tensor:
        """What is said of each window, (windows, n, ...)."""
        size = self.recipe.window(x.shape[-1])
        starts = range(0, x.shape[-1] - size + 1, size // 2)
        return torch.stack([torch.cat([say((part - self.mean) / self.scale) for part in x[..., k : k + size].split(PASS)]) for k in starts])


def train(records: Points, classes: int, seed: int, recipe: Recipe = RECIPE) -> Classifier:
    """A classifier trained from scratch.

    Binary cross-entropy of each statement, on a random crop of each record an epoch; AdamW with decoupled decay under a one-cycle rate
    (warm-up over 30 % of the steps from a 25th of the peak, down by a cosine; momentum from .95 to .85 and back). The last weights are kept.

    Args:
        records: Signals (n, leads, L) with class indices (n,) or multi-hot labels (n, K); records of unknown labels are left out.
        classes: K.
        seed: Of weights, order, crops and dropout.
        recipe: Epochs and sizes.

    Raises:
        BadData: Fewer than two labelled records, or labels beyond `classes`.

    References:
        Strodthoff, Wagner, Schaeffter, Samek, Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, 2020, arXiv 2004.13701.
        Smith, A Disciplined Approach to Neural Network Hyper-Parameters, 2018, arXiv 1803.09820 (one-cycle rate).
    """
    given = known(records, classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.split(seed, "classifier"))
        made = Classifier(XResNet1d50(given.x.shape[1], classes), given.x.mean(), given.x.std(), recipe)
        _learn(made, given, [made.net], [recipe.peak], recipe.epochs, rng.split(seed, "scratch"))
    return made


def finetune(trained: Classifier, records: Points, classes: int, seed: int) -> Classifier:
    """A trained classifier tuned on other records: a new output layer, the head alone, then all.

    First the head learns at the recipe's peak rate, and with it every normalisation; then everything, stem, stages and head at 1e-5, 1e-4 and
    1e-3. Signals stay standardised as those that it was trained on.

    Args:
        trained: What it starts from; stays as it is.
        records, classes, seed: As in `train`.

    Raises:
        BadData: As `train`.

    References:
        Strodthoff et al., 2020, arXiv 2004.13701; rates that grow towards the head are those of Howard and Ruder, Universal
        Language Model Fine-tuning for Text Classification, 2018, arXiv 1801.06146.
    """
    recipe, given = trained.recipe, known(records, classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.split(seed, "tuned classifier"))
        net = copy.deepcopy(trained.net)
        net.new_output(classes)
        tuned = Classifier(net, trained.mean, trained.scale, recipe)
        norms = nn.ModuleList(m for body in (net.stem, net.stages) for m in body.modules() if isinstance(m, nn.BatchNorm1d))
        _learn(tuned, given, [nn.ModuleList([net.head, norms])], [recipe.peak], recipe.tuning, rng.split(seed, "head"))
        _learn(tuned, given, [net.stem, net.stages, net.head], list(RATES), recipe.tuning, rng.split(seed, "all"))
    return tuned


def known(records: Points, classes: int) -> Points:
    """Records whose labels are known, these as multi-hot rows (n, classes).

    Raises:
        BadData: Fewer than two of them, or labels beyond `classes`.
    """
    y = records.y
    if y is None or int((kept := y.reshape(len(y), -1)[:, 0] >= 0).sum()) < 2:
        raise BadData("a classifier needs two labelled records or more, got none or one; give records with labels")
    y = y[kept]
    given = max(classes, int(y.max()) + 1) if y.ndim == 1 else y.shape[1]
    if given != classes:
        raise BadData(f"labels must be of {classes} classes, got {given}; give all records the same classes")
    return Points(records.x[kept], (one_hot(y, classes) if y.ndim == 1 else y).float())


def _learn(made: Classifier, records: Points, groups: list[nn.Module], rates: list[float], epochs: int, seed: int) -> None:
    """Train groups of parameters at their peak rates; dropout draws from the generator in place."""
    (x, y), net, recipe = records, made.net, made.recipe
    assert y is not None
    net.train().requires_grad_(False)
    for group in groups:
        group.requires_grad_(True)
    steps = recipe.steps(len(x), epochs)
    optimizer = torch.optim.AdamW([{"params": list(group.parameters())} for group in groups], betas=(0.95, SECOND), weight_decay=DECAY)
    rate = OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.3)
    with torch.enable_grad():
        for rows, epoch in islice(_batches(len(x), recipe, epochs, seed), steps):
            seen = crops(x, rows, recipe.window(x.shape[-1]), rng.split(seed, "crops", epoch))
            binary_cross_entropy_with_logits(net((seen - made.mean) / made.scale), y[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
            rate.step()
    net.eval().requires_grad_(False)


def _batches(n: int, recipe: Recipe, epochs: int, seed: int) -> Iterator[tuple[Tensor, int]]:
    """Rows of each batch, with its epoch."""
    size = min(n, recipe.batch)
    for epoch in range(epochs):
        order = torch.randperm(n, generator=rng.generator(seed, "order", epoch))
        yield from ((rows, epoch) for rows in order[: n // size * size].split(size))


def crops(x: Tensor, rows: Tensor, size: int, seed: int) -> Tensor:
    """A window of each of these rows of a pool (n, leads, L), which begins where the seed says, whatever the other rows: (b, leads, size)."""
    starts = torch.randint(x.shape[-1] - size + 1, (len(x),), generator=rng.generator(seed))
    return x[rows].unfold(2, size, 1)[torch.arange(len(rows)), :, starts[rows]]
