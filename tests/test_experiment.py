"""Runs of plans: side by side or in turn they leave the same records, and an interrupted one goes on."""

import json
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from diffgraft import experiment
from diffgraft.errors import BadData, DiffgraftError
from diffgraft.files import append_line, read_lines, write_json
from diffgraft.machine import Machine
from diffgraft.pages.run import report
from diffgraft.plan import check_plan
from test_cli import ENV, ok

TIMES = {"fit_seconds", "sample_seconds", "select_seconds", "peak_memory"}


def plan(steps=6, **changes):
    small = {
        "samples": 40,
        "likelihoods": 10,
        "steps": 3,
        "source": {"steps": 5},
        "task": [{"name": "mixtures", "label": "Modes", "n_target": [9], "n_source": 100}],
        "method": [{"name": "source"}, {"name": "finetune", "steps": steps, "batch_size": 8}],
    }
    return check_plan({"name": "p", "seeds": [0, 1], **small, **changes})


def kept(records):
    """Records without what the clock and the machine say."""
    return {r["id"]: {k: v for k, v in r.items() if k not in TIMES} for r in records}


def test_side_by_side_leaves_the_records_of_one_process(tmp_path):
    said = []
    together = experiment.run(plan(), tmp_path / "two", workers=2, say=said.append)
    alone = experiment.run(plan(), tmp_path / "one", quiet=True)
    assert kept(together) == kept(alone) and [r["id"] for r in together] == [r["id"] for r in alone]
    assert kept(read_lines(tmp_path / "two" / "records.jsonl")) == kept(alone)
    assert said[0] == "4 jobs, 2 side by side" and [line[:5] for line in said[1:]] == [f"[{k}/4]" for k in (1, 2, 3, 4)]
    assert all(line.endswith(" left") for line in said[1:-1]) and not said[-1].endswith("left") and "Modes, n = 9, finetune, seed 1: energy" in " ".join(said)
    facts = [json.loads((tmp_path / name / "run.json").read_text())["hashes"] for name in ("one", "two")]
    assert facts[0] == facts[1] and set(facts[0]) == {"modes-source-s0", "modes-source-s1"}
    logs = [sorted((x["id"], x["stage"], x["step"], x["loss"]) for x in read_lines(tmp_path / name / "log.jsonl")) for name in ("one", "two")]
    assert logs[0] == logs[1] and logs[0]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_in_half_precision_says_so(tmp_path, workers):
    machine = Machine(precision="bf16", accumulate=2)
    half = experiment.run(plan(), tmp_path / "half", quiet=True, workers=workers, machine=machine)
    full = experiment.run(plan(), tmp_path / "full", quiet=True)
    assert all(r["machine"] == {"precision": "bf16", "accumulate": 2, "checkpointing": False, "compiled": False} for r in half)
    assert not any("machine" in r for r in full)
    for a, b in zip(half, full, strict=True):  # the same run, rounded in its fit and in its samples
        one, other = (r["metrics"]["energy"]["value"] for r in (a, b))
        assert one != other and one == pytest.approx(other, rel=0.1)


def test_labels_as_frequent_as_held_out_ones(tmp_path):
    world, seen = [{"name": "digits", "conditional": True, "n_target": [5]}], {}
    for labels in ("target", "test"):
        small = plan(seeds=[0], task=world, labels=labels, method=[{"name": "source"}], source={"steps": 2})
        (record,) = experiment.run(small, tmp_path / labels, quiet=True)
        assert record["labels"] == labels
        (file,) = (tmp_path / labels / "samples").glob("*-source-s0.npz")
        seen[labels] = set(np.load(file)["y"].tolist())
        assert ("labels as frequent as in the held-out data" in report(tmp_path / labels).read_text()) == (labels == "test")
    assert len(seen["target"]) <= 5 < len(seen["test"])


def test_samples_of_every_method_are_led_by_their_labels(tmp_path):
    world, seen = [{"name": "digits", "conditional": True, "n_target": [5]}], []
    for name, more in (("plain", {}), ("led", {"label_weight": 1.5}), ("within", {"label_weight": 1.5, "label_interval": [-6.0, -2.75]})):
        small = plan(seeds=[0], task=world, method=[{"name": "source"}], source={"steps": 2}, **more)
        (record,) = experiment.run(small, tmp_path / name, quiet=True)
        (file,) = (tmp_path / name / "samples").glob("*-source-s0.npz")
        seen.append((np.load(file)["X"], record["passes"], report(tmp_path / name).read_text()))
        assert ("label_weight" in record) == bool(more)
    plain, led, within = seen
    assert plain[1] == 1 < within[1] < led[1] == 2
    assert not np.array_equal(plain[0], led[0]) and not np.array_equal(within[0], led[0]) and not np.array_equal(within[0], plain[0])
    assert "led by their labels" not in plain[2] and "led by their labels, weight 1.5" in led[2]
    assert "weight 1.5 where log-SNR is -6 to -2.75" in within[2]


def test_methods_that_fine_tune_alike_share_it(tmp_path):
    tune = {"steps": 6, "batch_size": 8}
    led = [{"name": "domain_guidance", "label": f"w {w}", "weight": w, **tune} for w in (1.25, 2.0)]
    led += [{"name": "domain_guidance", "label": "by lora", "tune": "lora", **tune}]
    methods = [{"name": "finetune", **tune}, {"name": "lora", **tune}, *led, {"name": "domain_guidance", "steps": 5, "batch_size": 8}]
    shared = experiment.run(plan(seeds=[0], method=methods), tmp_path / "shared", quiet=True)
    trained = {line["id"] for line in read_lines(tmp_path / "shared" / "log.jsonl")}
    assert trained == {"modes-source-s0", "modes-n9-finetune-s0", "modes-n9-lora-s0", "modes-n9-domain_guidance-s0"}
    assert all(record["fit_seconds"] >= shared[0]["fit_seconds"] for record in shared[2:4])
    alone = experiment.run(plan(seeds=[0], method=led), tmp_path / "alone", quiet=True)
    assert [kept([record]) for record in shared[2:5]] == [kept([record]) for record in alone]


def test_one_source_model_for_all_seeds(tmp_path):
    shared = plan(source={"steps": 5, "seed": 0, "schedule": "cosine"})
    together = experiment.run(shared, tmp_path / "two", workers=2)
    alone = experiment.run(shared, tmp_path / "one", quiet=True)
    assert kept(together) == kept(alone)
    assert [path.name for path in (tmp_path / "one" / "models").glob("*-source-s*") if "-n9-" not in path.name] == ["modes-source-s0"]
    hashes = {
        f["origin"]["data"]["source"] for path in (tmp_path / "one" / "models").glob("*-n9-finetune-*") if (f := json.loads((path / "config.json").read_text()))
    }
    assert len(hashes) == 2  # methods get the source data of their own seed
    facts = json.loads((tmp_path / "one" / "models" / "modes-source-s0" / "config.json").read_text())
    assert facts["model"]["schedule"]["name"] == "cosine"


def test_models_whose_records_are_gone_are_sampled_not_fitted_again(tmp_path):
    methods = [{"name": "finetune", "steps": 6, "batch_size": 8}, {"name": "tgdp", "steps": 6}]
    first = experiment.run(plan(seeds=[0], method=methods), tmp_path / "run", quiet=True)
    (tmp_path / "run" / "records.jsonl").unlink()
    (tmp_path / "run" / "log.jsonl").unlink()
    again = experiment.run(plan(seeds=[0], method=methods), tmp_path / "run", resume=True, quiet=True)
    assert not (tmp_path / "run" / "log.jsonl").exists()
    assert kept(again) == kept(first) and [r["fit_seconds"] for r in again] == pytest.approx([r["fit_seconds"] for r in first], abs=2e-3)
    (tmp_path / "run" / "records.jsonl").unlink()
    for folder in (tmp_path / "run" / "models").glob("*-n9-*"):
        facts = json.loads((folder / "config.json").read_text())
        facts["origin"]["data"]["target"] = "other data"
        (folder / "config.json").write_text(json.dumps(facts))
    assert kept(experiment.run(plan(seeds=[0], method=methods), tmp_path / "run", resume=True, quiet=True)) == kept(first)
    assert (tmp_path / "run" / "log.jsonl").exists()


def test_particles_leave_their_trace_in_the_records_of_guided_methods(tmp_path):
    methods = [{"name": "source"}, {"name": "domain_guidance", "steps": 6, "weight": 2.0}]
    source, led = experiment.run(plan(seeds=[0], sampler="ddpm", particles=8, method=methods), tmp_path / "run", quiet=True)
    assert led["particles"] == 8 and len(led["effective_share"]) == 3 and all(0 < s <= 1 and s == round(s, 4) for s in led["effective_share"])
    assert not {"particles", "effective_share"} & set(source)
    assert led["passes"] == 2 and source["passes"] == 1
    assert "smallest effective share" in report(tmp_path / "run").read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_bears_the_name_of_its_job_and_keeps_what_was_done(tmp_path, workers):
    images = [{"name": "source"}, {"name": "finetune", "steps": 3, "held_out": 7.0}]
    with pytest.raises(DiffgraftError, match=r"^modes-n9-finetune-s0: .*held_out") as error:
        experiment.run(plan(seeds=[0], method=images), tmp_path / "run", workers=workers)
    assert "\n" not in str(error.value)
    assert {r["id"] for r in read_lines(tmp_path / "run" / "records.jsonl")} <= {"modes-n9-source-s0"}


def test_a_finished_run_is_not_computed_again(tmp_path):
    records = experiment.run(plan(seeds=[0]), tmp_path / "run", quiet=True)
    before, said = (tmp_path / "run" / "records.jsonl").read_bytes(), []
    assert experiment.run(plan(seeds=[0]), tmp_path / "run", resume=True, quiet=True, say=said.append) == records
    assert said == [] and (tmp_path / "run" / "records.jsonl").read_bytes() == before


def test_an_interrupted_run_side_by_side_goes_on_to_the_same_records(tmp_path):
    file = tmp_path / "p.toml"
    file.write_text(
        'name = "p"\nseeds = [0, 1]\nsamples = 40\nlikelihoods = 10\nsteps = 3\n[source]\nsteps = 5\n'
        '[[task]]\nname = "mixtures"\nn_target = [11]\nn_source = 100\n[[method]]\nname = "finetune"\nsteps = 800\nheld_out = 0.0\n'
    )
    args = ["run", file, "--jobs", 2, "--out"]
    process = subprocess.Popen([sys.executable, "-m", "diffgraft", *map(str, args), str(tmp_path / "a")], env=ENV, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "a" / "log.jsonl"
    while not (log.exists() and {f"mixtures-shifted-n11-finetune-s{s}" for s in (0, 1)} <= {x["id"] for x in read_lines(log)}):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in err and "Traceback" not in err
    assert {p.name for p in (tmp_path / "a" / "checkpoints").iterdir()} == {f"mixtures-shifted-n11-finetune-s{s}" for s in (0, 1)}
    ok(*args, tmp_path / "a", "--resume", "--quiet")
    ok(*args, tmp_path / "b", "--quiet")
    both = [read_lines(tmp_path / name / "records.jsonl") for name in "ab"]
    assert kept(both[0]) == kept(both[1]) and len(both[0]) == 2
    assert not list((tmp_path / "a" / "checkpoints").iterdir())


@pytest.mark.parametrize("there", [False, True])
def test_bad_data_of_any_task_are_named_before_anything_is_trained_or_overwritten(tmp_path, there):
    good, bad = plan().task[0], {"name": "files", "source": str(tmp_path / "none.csv"), "target": str(tmp_path / "none.csv"), "n_target": [9]}
    out = tmp_path / "run"
    if there:
        out.mkdir()
        (out / "precious").write_text("kept")
    both = plan(task=[{k: v for k, v in good.items() if k != "world"}, bad])
    with pytest.raises(BadData, match=r"files, n = 9: source data .*none.csv: no such file"):
        experiment.run(both, out, overwrite=True, quiet=True)
    assert [path.name for path in out.glob("*")] == (["precious"] if there else [])


def test_what_is_written_is_strict_json_with_null_for_nan(tmp_path):
    record = {"metrics": {"synthetic_auc": {"value": 0.5, "floor": math.nan}}, "ends": (math.nan, 1)}
    append_line(tmp_path / "records.jsonl", record)
    write_json(tmp_path / "scores.json", record)
    for name in ("records.jsonl", "scores.json"):
        written = json.loads((tmp_path / name).read_text(), parse_constant=pytest.fail)
        assert written == {"metrics": {"synthetic_auc": {"value": 0.5, "floor": None}}, "ends": [None, 1]}
    assert math.isnan(record["metrics"]["synthetic_auc"]["floor"])


def test_a_source_model_trains_on_the_cores_that_are_free():
    seen = []

    class Asked:
        def prepare(self, job):
            seen.append((job, torch.get_num_threads()))

    own = torch.get_num_threads()
    experiment._prepared(Asked(), "job", own + 1)
    assert seen == [("job", own + 1)] and torch.get_num_threads() == own
