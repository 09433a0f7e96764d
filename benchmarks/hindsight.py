"""How far `auto` stays behind the best of its candidates in hindsight, and behind a plain fine-tune: over the records of a run folder.

    python benchmarks/hindsight.py results/family

A task's score is the score error where the truth is known, else the energy distance above its floor. The best is that with the lowest
mean over the seeds that all candidates have, which nobody knows before; ratios are of means.
"""

import argparse
from pathlib import Path
from statistics import mean, median

from diffgraft.methods.auto import CANDIDATES
from diffgraft.pages.ranks import judge
from diffgraft.pages.records import Group, read_run

Seeds = dict[int, float]


def scores(group: Group) -> dict[str, Seeds]:
    """The score that judges a task above its floor, which the score error does not have, by method and seed."""
    metric = judge(group)
    found = {e.name: {seed: r["metrics"][metric] for seed, r in e.records.items()} for e in group.entries}
    return {name: {seed: s["value"] - s["floor"] for seed, s in by_seed.items()} for name, by_seed in found.items()}


def beside(auto: Seeds, other: Seeds) -> tuple[float, str]:
    """Ratio of means over the seeds of `auto`, and in words with on how many it is better and worse."""
    ratio = mean(auto.values()) / mean(other[s] for s in auto)
    return ratio, f"{ratio:.2f} (better on {sum(auto[s] < other[s] for s in auto)} seeds, worse on {sum(auto[s] > other[s] for s in auto)})"


def main(run: Path) -> None:
    """Print a line for each task, and the median."""
    ratios = []
    for group in read_run(run).groups:
        by_method = scores(group)
        candidates = {name: by_method[name] for name in CANDIDATES if name in by_method}
        seeds = set(by_method["auto"]).intersection(*candidates.values())
        auto = {s: by_method["auto"][s] for s in sorted(seeds)}
        best = min(candidates, key=lambda name: mean(candidates[name][s] for s in seeds))
        (ratio, told), (_, against) = beside(auto, candidates[best]), beside(auto, candidates["finetune"])
        ratios.append(ratio)
        print(f"{group.title}, n = {group.n_target}, {len(seeds)} seeds: auto is at {told} of {best}, {against} of finetune")
    print(f"median {median(ratios):.2f}, largest {max(ratios):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder")
    main(parser.parse_args().run)
