"""What the signal network learns in a few hundred steps, by what it predicts and with and without its shortcut.

    python benchmarks/sssd_parts.py [--steps 300]

A source model of the SYNTHETIC task, a network of width 32 and four blocks, is trained anew each time; its samples are held against fresh
records of the source. One seed.
"""

import argparse

import diffgraft as dg
from diffgraft.data import Points
from diffgraft.fit import Training
from diffgraft.pretrain import pretrain

SAMPLES = 300


def main() -> None:
    """Print a line a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps
    task, other = (dg.tasks.ecg.synthetic(50, seed, n_source=n) for seed, n in ((0, 4_000), (1, 1_000)))
    fresh: Points = other.data.source
    training = Training(steps=steps, batch_size=32, learning_rate=2e-3, warmup=min(100, steps // 10))
    for predicts, shortcut in (("eps", False), ("eps", True), ("v", False), ("v", True)):
        settings = {"width": 32, "depth": 4, "shortcut": shortcut}
        model = pretrain(task.data.source, 0, settings=settings, predicts=predicts, training=training, held_out=0.0).eval()
        scores = dg.evaluate(dg.sample(model, SAMPLES), fresh.x, metrics=["energy", "coverage", "qrs_duration"], measures=task.measures)
        told = ", ".join(f"{name} {score['value']:.3g} (floor {score['floor']:.2g})" for name, score in scores.items())
        print(f"predicts {predicts}, {'a' if shortcut else 'no'} shortcut: {told}", flush=True)


if __name__ == "__main__":
    main()
