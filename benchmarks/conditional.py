"""Conditional TGDP beside one unconditional fit a label, at equal target points a label.

The world is a labelled mixture whose score is known for every label. One conditional source and one conditional fit
serve all labels; the comparison trains a source and fits TGDP on the points of each label alone.

    python benchmarks/conditional.py [--seeds 0 1 2] [--per-label 50] [--steps 2500]
"""

import argparse
import math

import torch

import diffgraft as dg
from diffgraft.data import Points, Transform
from diffgraft.gaussians import Mixture
from diffgraft.metrics.truth import score_error
from diffgraft.pretrain import pretrain
from diffgraft.tasks.mixtures import Truth


def of_label(mixture, value):
    """The part of a mixture that carries a label, as a mixture without labels."""
    kept = mixture.labels == value
    return Mixture(mixture.weights[kept] / mixture.weights[kept].sum(), mixture.means[kept], mixture.covs[kept])


class AtLabel(dg.Denoiser):
    """A conditional model at one label, as an unconditional one."""

    def __init__(self, base, value):
        super().__init__(base.schedule, base.shape)
        self.base, self.value = base, value
        self.transform = base.transform

    def forward(self, x_t, t, y=None):
        return self.base(x_t, t, torch.full((len(x_t),), int(self.value)))


def one_seed(seed, per_label, steps, source_steps):
    """Score error by label: conditional fit, unconditional fits."""
    task = dg.tasks.mixtures.hard(2, seed, dim=2, labels="classes")
    truth, values = task.truth, task.truth.q.labels.unique()
    drawn = truth.q.sample(1000 * per_label, seed + 1)
    target = [drawn.take((drawn.y == v).nonzero()[:per_label, 0]) for v in values]
    source = make_source(task.data.source, seed, source_steps)
    together = dg.Data(source=tuple(task.data.source), target=(torch.cat([p.x for p in target]), torch.cat([p.y for p in target])))
    conditional = dg.methods.TGDP(steps=steps).fit(source, together, torch.Generator().manual_seed(seed))
    rows = []
    for value, points in zip(values, target, strict=True):
        world = Truth(of_label(truth.p, value), of_label(truth.q, value), truth.schedule)
        own = Points(task.data.source.x[task.data.source.y == value])
        alone = dg.methods.TGDP(steps=steps).fit(
            make_source(own, seed, source_steps), dg.Data(source=own.x, target=points.x), torch.Generator().manual_seed(seed)
        )
        rows.append((int(value), score_error(AtLabel(conditional, value), world), score_error(alone, world)))
    return rows


def make_source(pool, seed, steps):
    """A source model on a pool, with the default training or a shorter one."""
    from diffgraft.pretrain import default_training, with_steps

    return pretrain(pool, seed, training=with_steps(default_training((2,)), steps), transform=Transform.identity())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--per-label", type=int, default=50)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--source-steps", type=int)
    args = parser.parse_args()
    logs = []
    print(f"{args.per_label} target points a label\nseed  label  conditional  alone   ratio")
    for seed in args.seeds:
        for label, conditional, alone in one_seed(seed, args.per_label, args.steps, args.source_steps):
            logs.append(math.log(conditional / alone))
            print(f"{seed:4}  {label:5}  {conditional:11.5f}  {alone:.5f} {conditional / alone:6.2f}", flush=True)
    print(f"geometric mean of the ratios {math.exp(sum(logs) / len(logs)):.2f}")


if __name__ == "__main__":
    main()
