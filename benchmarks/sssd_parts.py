"""What the parts of the signal network are worth after a few hundred steps.

    python benchmarks/sssd_parts.py [--steps 400]

A source model of the SYNTHETIC task is trained anew for each network; its samples are held against fresh records of the source, and so is
its guess of a record at four noise levels. One seed; seconds are of the processor, and only ratios of them mean something.
"""

import argparse
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import diffgraft as dg
from diffgraft.data import Points
from diffgraft.denoise import Net, noised
from diffgraft.fit import Training
from diffgraft.pretrain import pretrain

SAMPLES = 400
LEVELS = (0.05, 0.1, 0.4, 1.6)
PLAIN = {"width": 64, "depth": 2, "patch": 1}
NETS: dict[str, dict[str, Any]] = {
    "noise, no shortcut": {"predicts": "eps", "settings": {**PLAIN, "shortcut": False}},
    "velocity, no shortcut": {"settings": {**PLAIN, "shortcut": False}},
    "velocity, a factor": {"settings": {**PLAIN, "bands": 0}},
    "velocity, equaliser": {"settings": PLAIN},
    "width 128, three blocks, patches of 4": {},
}
"""What each network has that the default, which predicts velocity, has not; the last is the default's, and once more with balanced noise levels."""


def noise(x: Tensor) -> Tensor:
    """The log of a record's noise, (n,): the typical second difference of a lead."""
    return x.diff(n=2).abs().median(-1).values.mean(1).log()


def errors(model: Net, data: Points) -> list[float]:
    """Root mean squares of what a guess is off, in deviations of a lead, at `LEVELS` of noise relative to signal."""
    x = model.transform.forward(data.x)
    e, off = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), []
    for level in LEVELS:
        t = model.schedule.time_at(-2 * torch.tensor(level).log()).float().expand(len(x))
        with torch.no_grad():
            off.append(float((model(noised(model.schedule, x, t, e), t, data.y) - x).square().mean().sqrt()))
    return off


def main() -> None:
    """Print a block of lines a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    steps = parser.parse_args().steps
    task, other = (dg.tasks.ecg.synthetic(50, seed, n_source=n) for seed, n in ((0, 4_000), (1, 1_000)))
    fresh: Points = other.data.source.take(torch.arange(SAMPLES))
    plain = Training(steps=steps, batch_size=32, learning_rate=3e-3, warmup=min(100, steps // 10))
    trained = [(name, given, plain) for name, given in NETS.items()]
    for name, given, training in [*trained, ("the default: that, and noise levels balanced", {}, replace(plain, balanced=True))]:
        began = time.process_time()
        model = pretrain(task.data.source, 0, **given, training=training, held_out=0.0).eval()
        spent = time.process_time() - began
        x = dg.sample(model, SAMPLES, y=fresh.y, steps=50)
        scores = dg.evaluate(x, fresh.x, metrics=["energy", "coverage", "qrs_duration", "heart_rate"], measures=task.measures)
        print(f"{name}: {spent:.0f} s")
        print("  " + ", ".join(f"{key} {score['value']:.3g} (floor {score['floor']:.2g})" for key, score in scores.items()))
        print(f"  log noise {noise(x).mean():.2f} +- {noise(x).std():.2f}, of records {noise(fresh.x).mean():.2f} +- {noise(fresh.x).std():.2f}")
        told = ", ".join(f"{off:.4f} at {level}" for level, off in zip(LEVELS, errors(model, fresh), strict=True))
        print(f"  a guess is off by {told}", flush=True)


if __name__ == "__main__":
    main()
