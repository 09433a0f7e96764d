"""How often `inspect`, which trains nothing, says what `auto` then finds by training: over the records of `auto` in a run folder.

    python benchmarks/advice.py runs/family

Both speak of two kinds: what learns from a density ratio or a smoothed target (`tgdp`, a fine-tune on the pseudo-target), and what does
not (a plain fine-tune, scratch, the source).
"""

import argparse
import json
from pathlib import Path

from diffgraft.experiment import jobs
from diffgraft.job import make_task
from diffgraft.overlap.inspect import inspect
from diffgraft.plan import read_plan

LEANING = {"tgdp": "ratio", "finetune, pseudo-target": "ratio"}


def main(run: Path) -> None:
    """Print a line for each draw, and how many agree."""
    records = {record["id"]: record for record in map(json.loads, (run / "records.jsonl").read_text().splitlines())}
    agree = []
    for job in jobs(read_plan(run / "plan.toml")):
        if job.method["name"] != "auto" or job.id not in records:
            continue
        task, chosen = make_task(job), records[job.id]["notes"]["chosen"]
        assert task.data.source is not None
        advice = inspect(task.data.source, task.data.target, seed=job.seed)["advice"]
        agree.append(LEANING.get(advice, "plain") == LEANING.get(chosen, "plain"))
        print(f"{job.task_label}, n = {job.n_target}, seed {job.seed}: inspect says {advice}, auto takes {chosen}{'' if agree[-1] else '  <- differ'}")
    print(f"{sum(agree)} of {len(agree)} agree")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder")
    main(parser.parse_args().run)
