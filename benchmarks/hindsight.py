"""How far `auto` stays behind the best of its candidates in hindsight, and behind a plain fine-tune: over the records of a run folder.

    python benchmarks/hindsight.py results/family

A task's score is the score error where the truth is known, else the energy distance above its floor. The best is that with the lowest
mean over the seeds that all candidates have, which nobody knows before; ratios are of means.
"""

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path

from diffgraft.methods.auto import CANDIDATES

Seeds = dict[int, float]


def scores(run: Path) -> dict[str, dict[str, Seeds]]:
    """Scores by task, method and seed."""
    found: dict[str, dict[str, Seeds]] = defaultdict(lambda: defaultdict(dict))
    for record in map(json.loads, (run / "records.jsonl").read_text().splitlines()):
        exact = record["metrics"].get("score_error")
        energy = record["metrics"]["energy"]
        value = exact["value"] if exact else energy["value"] - energy["floor"]
        found[f"{record['task_label']}, n = {record['n_target']}"][record["method_label"]][record["seed"]] = value
    return found


def beside(auto: Seeds, other: Seeds, seeds: list[int]) -> str:
    """Ratio of means, and on how many seeds it is better and worse."""
    ratio = statistics.mean(auto[s] for s in seeds) / statistics.mean(other[s] for s in seeds)
    return f"{ratio:.2f} (better on {sum(auto[s] < other[s] for s in seeds)} seeds, worse on {sum(auto[s] > other[s] for s in seeds)})"


def main(run: Path) -> None:
    """Print a line for each task, and the median."""
    ratios = []
    for task, by_method in scores(run).items():
        auto, candidates = by_method["auto"], {name: by_method[name] for name in CANDIDATES if name in by_method}
        seeds = sorted(set(auto).intersection(*candidates.values()))
        best = min(candidates, key=lambda name: statistics.mean(candidates[name][s] for s in seeds))
        ratios.append(statistics.mean(auto[s] for s in seeds) / statistics.mean(candidates[best][s] for s in seeds))
        told = f"{beside(auto, candidates[best], seeds)} of {best}, {beside(auto, candidates['finetune'], seeds)} of finetune"
        print(f"{task}, {len(seeds)} seeds: auto is at {told}")
    print(f"median {statistics.median(ratios):.2f}, largest {max(ratios):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder, or its records")
    main(parser.parse_args().run)
