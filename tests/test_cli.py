"""The command line as a person meets it: what it prints, how it ends, and what it never destroys."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import diffgraft as dg
from diffgraft import cli, console
from diffgraft.console import load_model
from diffgraft.errors import BadPlan, DiffgraftError
from diffgraft.job import asked_of

ENV = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def diffgraft(*args, **kwargs):
    return subprocess.run([sys.executable, "-m", "diffgraft", *map(str, args)], capture_output=True, text=True, env=ENV, timeout=300, **kwargs)


def ok(*args):
    done = diffgraft(*args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(*args, says):
    """Status 2, short lines that name the fault, no traceback."""
    done = diffgraft(*args)
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert says in done.stderr and "Traceback" not in done.stderr
    assert all(line.startswith("diffgraft: ") for line in done.stderr.splitlines())
    return done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Data and a small source model."""
    home = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    np.savez(home / "source.npz", X=rng.normal(size=(300, 3)), y=rng.integers(0, 4, 300))
    np.savez(home / "target.npz", X=rng.normal(1.0, size=(40, 3)), y=rng.integers(0, 2, 40))
    np.savez(home / "test.npz", X=rng.normal(1.0, size=(90, 3)))
    np.savez(home / "narrow.npz", X=rng.normal(size=(40, 2)))
    nan = rng.normal(size=(40, 3))
    nan[7, 1] = np.nan
    np.savez(home / "nan.npz", X=nan)
    np.savez(home / "one.npz", X=rng.normal(size=(1, 3)))
    np.savez(home / "pickled.npz", X=np.array([{}, {}], dtype=object))
    np.savez(home / "unnamed.npz", rng.normal(size=(40, 3)))
    (home / "broken.npz").write_bytes(b"PK\x03\x04 not really")
    (home / "empty.npy").write_bytes(b"")
    (home / "table.xlsx").write_bytes(b"PK")
    ok("pretrain", "--data", home / "source.npz", "--out", home / "source", "--steps", 20, "--quiet")
    return home


def test_the_verbs_one_after_another(home, tmp_path):
    ok(
        "fit",
        "--source",
        home / "source",
        "--source-data",
        home / "source.npz",
        "--target-data",
        home / "target.npz",
        "--out",
        tmp_path / "m",
        "--set",
        "steps=12",
    )
    log = [json.loads(line) for line in (tmp_path / "m" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 12 and log[-1]["stage"] == "guidance"
    assert not (tmp_path / "m" / "checkpoints").exists()

    ok("sample", tmp_path / "m", "-n", 50, "--out", tmp_path / "s.npz", "--steps", 4, "--weight", 0.5, "--interval", -4, 4)
    drawn = np.load(tmp_path / "s.npz")
    assert drawn["X"].shape == (50, 3) and set(drawn["y"]) <= {0, 1} and int(drawn["seed"]) == 0
    ok("sample", tmp_path / "m", "-n", 5, "--out", tmp_path / "l.npz", "--steps", 4, "--label", 3, "--label", 1)
    assert np.load(tmp_path / "l.npz")["y"].tolist() == [3, 1, 3, 1, 3]

    led = ["sample", tmp_path / "m", "-n", 5, "--steps", 4, "--label", 3, "--label-weight"]
    ok(*led, 1.0, "--out", tmp_path / "one.npz")
    ok(*led, 2.0, "--weight", 1.0, "--label-interval", -4, 4, "--out", tmp_path / "two.npz")
    plain, led = (np.load(tmp_path / f"{name}.npz")["X"] for name in ("one", "two"))
    assert plain.shape == led.shape and not np.allclose(plain, led)

    particles = ["sample", tmp_path / "m", "-n", 20, "--steps", 4, "--sampler", "ddpm", "--weight", 1.5, "--particles", 10]
    assert re.match(r"effective share of 10 particles: smallest 0\.\d{3}, final 0\.\d{3}\n20 samples", ok(*particles, "--out", tmp_path / "p.npz"))
    assert "effective" not in ok(*particles, "--out", tmp_path / "q.npz", "--quiet")

    printed = ok("evaluate", tmp_path / "s.npz", "--reference", home / "test.npz", "--model", tmp_path / "m", "--json", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert {"energy", "sliced_w2", "frechet", "coverage"} <= set(scores) and all(set(s) == {"value", "floor", "n"} for s in scores.values())
    assert "energy" in printed and "floor" in printed


def test_inspect_advises_in_words_and_json(home, tmp_path):
    printed = ok("inspect", "--source-data", home / "source.npz", "--target-data", home / "target.npz", "--json", tmp_path / "deep" / "report.json")
    report = json.loads((tmp_path / "deep" / "report.json").read_text())
    assert report["advice"] == "tgdp" and printed.startswith("tgdp: use tgdp")
    assert all(f"  - {reason}" in printed.splitlines() for reason in report["reasons"])
    assert report["sizes"] == {"source": 300, "target": 40, "shape": [3], "judged": {"source": 300, "target": 40}}
    for says in ("AUC of a classifier", "effective sample size", "feature 0", "label", "repeated"):
        assert says in printed
    refused("inspect", "--source-data", home / "source.npz", "--target-data", home / "narrow.npz", says="one shape")
    refused("inspect", "--source-data", home / "nan.npz", "--target-data", home / "target.npz", says="row 7, column 1")
    refused("inspect", "--source-data", home / "source.npz", "--target-data", home / "target.npz", "--size", 16, says="drop --size")


def test_a_run_prints_its_table_and_resumes(tmp_path):
    plan = tmp_path / "p.toml"
    plan.write_text(
        'name = "p"\nsamples = 60\nlikelihoods = 10\nsteps = 3\n[source]\nsteps = 5\n[[task]]\nname = "mixtures"\nn_target = [11]\nn_source = 100\n'
        '[[method]]\nname = "source"\n[[method]]\nname = "tgdp"\nsteps = 4\n'
    )
    assert "mixtures-shifted-n11-tgdp-s0" in ok("run", plan, "--dry-run") and not list(tmp_path.glob("run*"))
    dry = ok("run", "--seeds", 0, 7, "--set", "samples=50", "steps=2", plan, "--out", tmp_path / "run", "--dry-run")
    assert "mixtures-shifted-n11-tgdp-s7" in dry and "samples = 50" in dry and "steps = 2" in dry

    printed = ok("run", plan, "--out", tmp_path / "run", "--quiet", "--jobs", 1)
    assert "tgdp" in printed and "report.html" in printed
    records = (tmp_path / "run" / "records.jsonl").read_text()
    first = json.loads(records.splitlines()[1])
    promised = {"schema", "id", "task", "n_target", "method", "seed", "metrics", "trained_parameters", "passes", "fit_seconds", "select_seconds"}
    assert promised | {"sample_seconds", "peak_memory", "sampler", "steps", "versions", "device"} <= set(first)
    assert first["method"]["name"] == "tgdp" and first["method"]["weight"] == 1.0 and first["passes"] == 2.0  # base and ratio
    assert (tmp_path / "run" / "models" / first["id"] / "config.json").exists()
    assert not list((tmp_path / "run").glob("checkpoints/*"))
    assert np.load(tmp_path / "run" / "samples" / f"{first['id']}.npz")["X"].shape == (60, 2)

    assert "overwrite" in refused("run", plan, "--out", tmp_path / "run", says="exists already")
    refused("run", plan, "--out", tmp_path / "run", "--resume", "--set", "samples=70", says="its plan differs")
    kept = tmp_path / "run" / "plan.toml"
    kept.write_text("".join(line for line in kept.read_text().splitlines(keepends=True) if not line.startswith("eta_0")))  # an older version's
    # the last record is lost; the resumed run computes it again, and only that
    (tmp_path / "run" / "records.jsonl").write_text(records.splitlines()[0] + '\n{"schema": 1, "id": "mixt')
    ok("run", plan, "--out", tmp_path / "run", "--resume", "--quiet")
    again = [json.loads(line) for line in (tmp_path / "run" / "records.jsonl").read_text().splitlines()]
    assert again[-1]["metrics"] == first["metrics"] and len(again) == 2
    assert str(tmp_path / "run" / "report.html") in ok("report", tmp_path / "run")


def test_a_run_goes_where_its_plan_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = tmp_path / "plans" / "small.toml"
    plan.parent.mkdir()
    plan.write_text(
        'name = "p"\nsamples = 60\nlikelihoods = 10\n[source]\nsteps = 5\n'
        '[[task]]\nname = "mixtures"\nn_target = [11]\nn_source = 100\n[[method]]\nname = "source"\n'
    )
    assert "report: runs/small/report.html" in ok("run", plan, "--quiet", "--jobs", 1)
    assert (tmp_path / "runs" / "small" / "records.jsonl").exists()
    refused("run", plan, "--quiet", says="runs/small exists already")


@pytest.mark.parametrize("what", ["methods", "tasks", "metrics", "nets", "samplers"])
def test_lists(what):
    printed = ok("list", what)
    assert len(printed.splitlines()) >= 2 and all(len(line.split()) > 1 for line in printed.splitlines())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("nan.npz", "row 7, column 1"),
        ("narrow.npz", "source model takes samples of shape (3,), the target data have (2,)"),
        ("one.npz", "at least 2 samples, got 1"),
        ("pickled.npz", "pickled"),
        ("unnamed.npz", "expected an array named X"),
        ("broken.npz", "damaged"),
        ("empty.npy", "is empty"),
        ("table.xlsx", "expected .npz"),
        ("missing.npz", "no such file"),
    ],
)
def test_bad_data_end_in_one_line(home, tmp_path, data, says):
    refused("fit", "--source", home / "source", "--target-data", home / data, "--out", tmp_path / "m", says=says)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["fit", "--method", "tdgp"], "did you mean 'tgdp'"),
        (["fit", "--set", "stps=4"], "did you mean 'steps'"),
        (["fit", "--set", "steps=many"], "steps"),
        (["fit", "--source", "nowhere"], "not a model folder"),
        (["fit", "--device", "tpu"], "cpu, cuda"),
        (["fit", "--nonsense"], "No such option"),
        (["list", "method"], "did you mean 'methods'"),
        (["fit", "--set", "steps"], "KEY=VALUE"),
        (["sample"], "Missing argument"),
        (["nonsense"], "No such command"),
    ],
)
def test_bad_arguments_end_in_one_line(home, tmp_path, args, says):
    given = {"--source": home / "source", "--target-data": home / "target.npz", "--out": tmp_path / "m"} if args[0] == "fit" else {}
    defaults = [part for key, value in given.items() if key not in args for part in (key, value)]
    refused(*args, *defaults, says=says)
    assert list(tmp_path.iterdir()) == []


def test_existing_outputs_stay(home, tmp_path):
    for path in (tmp_path / "m", tmp_path / "s.npz"):
        path.write_text("mine")
    refused("pretrain", "--data", home / "source.npz", "--out", tmp_path / "m", says="exists already")
    refused("fit", "--source", home / "source", "--target-data", home / "target.npz", "--out", tmp_path / "m", says="exists already")
    refused("sample", home / "source", "-n", 5, "--out", tmp_path / "s.npz", says="exists already")
    assert (tmp_path / "m").read_text() == (tmp_path / "s.npz").read_text() == "mine"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--label", 9], "labels must be below 4"),
        (["--weight", 2.0], "only a guided model has a weight"),
        (["--sampler", "dim"], "did you mean 'ddim'"),
        (["-n", 0], "-n"),
    ],
)
def test_bad_sampling_ends_in_one_line(home, tmp_path, args, says):
    refused("sample", home / "source", *([] if "-n" in args else ["-n", 5]), "--out", tmp_path / "s.npz", *args, says=says)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_model_ends_in_one_line(home, tmp_path):
    import shutil

    shutil.copytree(home / "source", tmp_path / "source")
    (tmp_path / "source" / "model.safetensors").write_bytes(b"damaged")
    refused("sample", tmp_path / "source", "-n", 5, "--out", tmp_path / "s.npz", says="is damaged")


def test_samples_in_half_precision(home, tmp_path):
    for precision in ("no", "bf16"):
        ok("sample", home / "source", "-n", 200, "--out", tmp_path / f"{precision}.npz", "--precision", precision)
    a, b = (np.load(tmp_path / f"{precision}.npz")["X"] for precision in ("no", "bf16"))
    assert a.dtype == b.dtype == np.float32 and not np.array_equal(a, b) and np.abs(a - b).mean() < 0.1 * a.std()
    refused("sample", home / "source", "-n", 2, "--out", tmp_path / "x.npz", "--precision", "bf17", says="did you mean 'bf16'")


def test_a_fit_is_resumed_with_what_it_was_begun_with(home, tmp_path):
    def asked(**changes):
        pools = {"source": (torch.zeros(4, 2), torch.arange(4)), "target": torch.ones(4, 2), **changes}
        return asked_of(dg.methods.Finetune(), dg.load(home / "source"), dg.Data(**pools), 0)

    def begin(what):
        with console.resumable(tmp_path, what):
            pass

    begin(asked())
    begin(asked())
    with pytest.raises(BadPlan, match="was begun with other 'target data'; --resume with the same"):
        begin(asked(target=torch.zeros(4, 2)))
    with pytest.raises(BadPlan, match="other 'source data'"):
        begin(asked(source=None))
    with pytest.raises(BadPlan, match="other 'method or settings', 'source model'"):
        begin({**asked(), "method or settings": {}, "source model": "another"})


def test_an_interrupt_saves_and_the_resume_gives_the_same_bits(home, tmp_path):
    def args(out):
        return ["pretrain", "--data", home / "source.npz", "--out", out, "--steps", 2500]

    process = subprocess.Popen([sys.executable, "-m", "diffgraft", *map(str, args(tmp_path / "m"))], env=ENV, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "m" / "log.jsonl"
    while not (log.exists() and len(log.read_text().splitlines()) > 5):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in err and "Traceback" not in err
    assert not (tmp_path / "m" / "config.json").exists()

    refused(*args(tmp_path / "m"), says="exists already")
    refused(*args(tmp_path / "m"), "--resume", "--seed", 3, says="seed: 0 before, 3 now")
    refused("pretrain", "--data", home / "target.npz", "--out", tmp_path / "m", "--resume", says="was begun with other 'data'; --resume with the same")
    ok(*args(tmp_path / "m"), "--resume", "--quiet")
    refused(*args(tmp_path / "m"), "--resume", says="nothing to resume")
    ok(*args(tmp_path / "whole"), "--quiet")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_help_loads_no_torch_and_answers_at_once():
    def seconds(*args):
        times = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, *args], capture_output=True, env=ENV, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(times)  # of the processor: other work hardly adds to it

    assert seconds("-m", "diffgraft", "--help") - seconds("-c", "pass") < 0.3
    code = "import sys; sys.argv = ['diffgraft']; from diffgraft import cli\ntry:\n    cli.main()\nfinally:\n    assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, env=ENV).returncode == 0


def test_version_and_help():
    import diffgraft as package

    assert diffgraft("--version").stdout.strip() == f"diffgraft {package.__version__}"
    printed = diffgraft("--help").stdout
    for verb in ("pretrain", "fit", "sample", "evaluate", "run", "report", "list"):
        assert verb in printed


def test_two_processes_write_one_model(home, tmp_path):
    args = ["pretrain", "--data", home / "source.npz", "--steps", 20, "--quiet", "--out"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29531", "-m", "diffgraft"]
    done = subprocess.run([*launch, *map(str, args), str(tmp_path / "two")], capture_output=True, text=True, env=ENV, timeout=180)
    assert done.returncode == 0, done.stderr[-2000:]
    ok(*args, tmp_path / "one")
    curves = [[json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()] for name in ("one", "two")]
    assert curves[0] == pytest.approx(curves[1], rel=1e-6) and len(curves[0]) == 20
    assert Path(tmp_path / "two" / "config.json").exists()
    drawn = ["sample", str(tmp_path / "one"), "-n", "7", "--steps", "3", "--quiet", "--out"]
    done = subprocess.run([*launch, *drawn, str(tmp_path / "two.npz")], capture_output=True, text=True, env=ENV, timeout=180)
    assert done.returncode == 0, done.stderr[-2000:]
    ok(*drawn, tmp_path / "one.npz")
    np.testing.assert_allclose(*(np.load(tmp_path / f"{name}.npz")["X"] for name in ("one", "two")), rtol=1e-5, atol=1e-5)


def test_one_command_leads_from_two_tables_to_a_model(tmp_path):
    rng = np.random.default_rng(0)
    for name, n, mean in (("source", 200, 0.0), ("target", 40, 0.6)):
        np.savetxt(tmp_path / f"{name}.csv", rng.normal(mean, size=(n, 3)), delimiter=",", header="a,b,c", comments="")
    given = ("--source-data", tmp_path / "source.csv", "--target-data", tmp_path / "target.csv", "--out", tmp_path / "adapted", "--set", "steps=20", "--quiet")
    code = "import diffgraft.pretrain as p; p.default_training = lambda shape: p.Training(steps=20, batch_size=32); from diffgraft.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "fit", *map(str, given)], capture_output=True, text=True, env=ENV, timeout=300)
    assert done.returncode == 0, done.stderr
    ok("sample", tmp_path / "adapted", "-n", 7, "--out", tmp_path / "x.csv")
    ok("sample", tmp_path / "adapted" / "source", "-n", 7, "--out", tmp_path / "s.csv")
    assert (tmp_path / "x.csv").read_text().splitlines()[0] == "a,b,c"
    assert "source.csv" in (tmp_path / "adapted" / "README.md").read_text()


def test_a_fit_without_any_source_is_refused(home, tmp_path):
    refused(
        "fit",
        "--target-data",
        home / "target.npz",
        "--out",
        tmp_path / "x",
        says="a source is needed, got none; give --source MODEL, --source-data DATA, or both",
    )


FACTORY = """
import torch
import diffgraft as dg

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)
    def forward(self, x_t, t):
        return self.layer(x_t)

def make():
    print("code ran")
    return dg.Net(Net(), schedule=dg.vp(), shape=(3,))

def other():
    return Net()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a factory and weights, where Python stands."""
    monkeypatch.chdir(tmp_path)
    Path("mynets.py").write_text(FACTORY)
    save_file({"layer.weight": torch.eye(3), "layer.bias": torch.full((3,), 0.5)}, "w.safetensors")
    save_file({"layer.weight": torch.eye(3)}, "half.safetensors")
    yield tmp_path
    sys.modules.pop("mynets", None)


@pytest.mark.parametrize(
    ("source", "weights", "says"),
    [
        ("module:mynets", None, "expected module:path.to:factory"),
        ("module:absent:make", None, "No module named 'absent'"),
        ("module:mynets:other", None, "returned a Net, expected a dg.Net"),
        ("module:mynets:make", "half.safetensors", "do not fit the module"),
        ("module:mynets:make", "w.bin", "weights are read as .safetensors"),
        ("folder", "w.safetensors", "--weights belongs to --source module:"),
    ],
)
def test_what_is_wrong_with_a_factory_is_said(own, source, weights, says):
    with pytest.raises(DiffgraftError, match=re.escape(says)):
        load_model(Path(source), weights and Path(weights), allow_code=True)


def test_no_code_runs_unless_it_is_allowed(own):
    with pytest.raises(DiffgraftError, match="pass --allow-code if you trust that code"):
        load_model(Path("module:mynets:make"))
    assert "mynets" not in sys.modules


def test_a_network_of_ones_own_by_its_factory(home, own):
    np.savez("t.npz", X=np.random.default_rng(0).normal(size=(40, 3)))
    told = ("--target-data", "t.npz", "--method", "finetune", "--set", "steps=5", "--out", "m", "--quiet")
    done = diffgraft("fit", "--source", "module:mynets:make", "--weights", "w.safetensors", *told, "--allow-code", cwd=own)
    assert done.returncode == 0, done.stderr
    refusal = diffgraft("sample", "m", "-n", 4, "--out", "x.npz", cwd=own)
    assert refusal.returncode == 2 and "mynets:make makes; pass --allow-code" in refusal.stderr
    done = diffgraft("sample", "m", "-n", 4, "--out", "x.npz", "--allow-code", cwd=own)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("asked", "then"),
    [
        ({}, {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "2000"}),
        ({"GOMP_SPINCOUNT": "0"}, {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_threads_that_wait_spin_for_a_moment_unless_told_otherwise(monkeypatch, asked, then):
    monkeypatch.setattr(os, "environ", dict(asked))
    monkeypatch.setattr(cli, "app", lambda *args, **settings: 0)
    with pytest.raises(SystemExit):
        cli.main()
    assert os.environ == then
