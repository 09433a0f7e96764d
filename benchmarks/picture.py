"""The picture of the README, from a run of plans/gmm.toml or of the demo: python benchmarks/picture.py RUN."""

import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PANELS = {"test": "held-out target", "target": "100 target points", "source": "source model", "scratch": "scratch", "finetune": "fine-tune", "tgdp": "TGDP"}
DATA = ("test", "target")


def main(run: Path) -> None:
    """Scatter panels on common axes."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(12, 2.3), sharex=True, sharey=True)
    for axis, (name, title) in zip(axes, PANELS.items(), strict=True):
        file = f"mixtures-shifted-n100-s0-{name}" if name in DATA else f"mixtures-shifted-n100-{name}-s0"
        x = np.load(run / "samples" / f"{file}.npz")["X"][:1500]
        axis.scatter(*x.T, s=9 if name == "target" else 3, alpha=0.6 if name == "target" else 0.3, linewidths=0, color="#444" if name in DATA else "#2a6fbb")
        axis.set(title=title, xlim=(-1.8, 1.8), ylim=(-1.8, 1.8), aspect="equal", xticks=[], yticks=[])
    figure.tight_layout()
    out = Path(__file__).parent.parent / "docs/images/modes.png"
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/gmm"))
