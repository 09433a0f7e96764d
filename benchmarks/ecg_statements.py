"""Which statements a source model of SYNTHETIC electrocardiograms draws badly, and at which noise level that is decided.

    python benchmarks/ecg_statements.py MODEL [--samples 500] [--steps 50] [--known 16000] [--above inf 40 20 10] [--label-weight 1.5 --label-interval -6 -2.75]

Samples bear labels as the source's records do. Each row replaces the network by the exact denoiser of so many fresh records above a noise
level sigma / alpha: what is better then was lost there. Of each statement it tells the squared distance between the mean features of samples
and of real records, of the classifier that Fréchet distances are taken on; beside it the Fréchet distance to real records with its floor, and
how far the logarithm of amplitudes is off.
"""

import argparse
import math

from torch import Tensor

import diffgraft as dg
from diffgraft import rng
from diffgraft.denoise import Denoiser
from diffgraft.domain import Features
from diffgraft.methods.lead import led_by_label
from diffgraft.samplers import sample
from diffgraft.tasks.dipole import SOURCE, STATEMENTS, Latents, draw, render

ABOVE = (math.inf, 40.0, 20.0, 10.0)
SAMPLES = 256


def records(y: Tensor, seed: int) -> Tensor:
    """Source records (n, 8, L) of these statements."""
    return render(Latents(y, draw(SOURCE, len(y), seed).numbers), rng.split(seed, "render"), samples=SAMPLES)


class Exact(Denoiser):
    """The denoiser of known records of a statement above a noise level, and a model's below."""

    def __init__(self, model: Denoiser, known: Tensor, labels: Tensor, above: float) -> None:
        super().__init__(model.schedule, model.shape, model.n_classes)
        self.like(model)
        self.model, self.known, self.labels, self.above = model, model.transform.forward(known).flatten(1), labels, above
        self.half_squares = self.known.square().sum(1) / 2

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        alpha, sigma = (float(level.reshape(-1)[0]) for level in self.schedule(t))
        if sigma / alpha < self.above or y is None:
            return self.model(x_t, t, y)
        x = (x_t / alpha).flatten(1)
        logits = (x @ self.known.T - self.half_squares) / (sigma / alpha) ** 2
        weights = logits.masked_fill(y[:, None] != self.labels, -math.inf).softmax(1)
        return (weights @ self.known).view_as(x_t)


def log_amplitude(x: Tensor) -> float:
    """Mean logarithm of the amplitude of records."""
    return float(x.std(-1).mean(1).log().mean())


def row(model: Denoiser, y: Tensor, steps: int, means: list[Tensor], amplitude: float, reference: tuple[Tensor, Tensor], features: Features) -> str:
    """One line of the table; `means` are real records' features of each statement, `amplitude` is their log amplitude."""
    x = sample(model, y=y, steps=steps, generator=rng.generator(0, "sample"))
    seen = features(x)
    far = [float((seen[y == k].mean(0) - mean).square().sum()) for k, mean in enumerate(means)]
    frechet = dg.evaluate(x, reference, y=y, features=features, metrics=["frechet"], generator=rng.generator(0, "evaluate"))["frechet"]
    off = log_amplitude(x) - amplitude
    return f"{frechet['value']:.2f} | {frechet['floor']:.2f} | {off:+.3f} | " + " | ".join(f"{v:.1f}" for v in far)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--known", type=int, default=16_000)
    parser.add_argument("--above", type=float, nargs="+", default=ABOVE)
    parser.add_argument("--label-weight", type=float)
    parser.add_argument("--label-interval", type=float, nargs=2)
    given = parser.parse_args()
    model, features = dg.load(given.model), dg.tasks.ecg.synthetic().features
    if given.label_weight is not None:
        model = led_by_label(model, given.label_weight, given.label_interval)
    y, many, labels = (draw(SOURCE, n, seed).statement for n, seed in ((given.samples, 1), (4 * given.samples, 2), (given.known, 3)))
    real, reference, known = records(y, 11), (records(many, 12), many), records(labels, 13)
    seen = features(real)
    means = [seen[y == k].mean(0) for k in range(len(STATEMENTS))]
    print("| exact above | Fréchet | floor | log amplitude off | " + " | ".join(STATEMENTS) + " |")
    print("|---" * (4 + len(STATEMENTS)) + "|")
    for above in given.above:
        print(f"| {above:g} | {row(Exact(model, known, labels, above), y, given.steps, means, log_amplitude(real), reference, features)} |", flush=True)


if __name__ == "__main__":
    main()
