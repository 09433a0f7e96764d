"""The code in README and docs runs, block after block, as a reader would run it."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HOSPITALS = ROOT / "docs" / "ecg-tutorial.md"
"""Reads recordings, and trains for an hour."""
BLOCK = re.compile(r"^```(python|bash|toml)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SETS_UP_THE_MACHINE = ("git clone", "make ", "pip install")


def blocks(page):
    return BLOCK.findall(page.read_text())


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """An empty folder with the files that the pages speak of: two domains of a small table."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "source.npz", X=rng.normal(size=(500, 3)))
    np.savez(tmp_path / "target.npz", X=rng.normal(0.7, size=(50, 3)))
    np.savez(tmp_path / "held_out.npz", X=rng.normal(0.7, size=(200, 3)))
    for name in ("source", "target", "held_out"):
        x = np.load(tmp_path / f"{name}.npz")["X"]
        np.savetxt(tmp_path / f"{name}.csv", x, delimiter=",", header="a,b,c", comments="")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


LONG = ("tutorial.md", "own-data.md", "README.md")
"""Pages with whole trainings in them."""


@pytest.mark.parametrize("page", [pytest.param(p, marks=[pytest.mark.slow] * (p.name in LONG), id=p.name) for p in PAGES if blocks(p) and p != HOSPITALS])
def test_every_block_runs(page, desk):
    run(page, desk)


def run(page, desk, changed=lambda code: code):
    names = {}
    for language, code in blocks(page):
        code = changed(code)
        if language == "python":
            exec(compile(code, str(page), "exec"), names)
        elif language == "toml":
            (desk / "plan.toml").write_text(code)
        else:
            for line in code.replace("\\\n", " ").splitlines():
                if line.strip() and not line.startswith(SETS_UP_THE_MACHINE):
                    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=300)
                    assert done.returncode == 0, (line, done.stderr)


@pytest.mark.slow
def test_the_tutorial_of_recordings_runs_on_two_hospitals(desk, data_folder):
    for name, folder in (("ptb-xl", "ptbxl"), ("huca", "brugada")):
        (desk / name).symlink_to((data_folder / folder).resolve())
    run(HOSPITALS, desk, briefly)
    assert np.load(desk / "yes.npz")["X"].shape == (40, 12, 256)
    assert "Classifiers" in (desk / "runs" / "hospital" / "report.html").read_text()


BRIEF = (
    (r"--steps \d+", "--steps 5"),
    ("-n 500", "-n 40"),
    ("diffgraft fit", "diffgraft fit --set steps=10"),
    (r"^seeds = .*$", "seeds = [0]"),
    ("^samples = 500$", "samples = 40"),
    (r"\[30, 90\]", "[30]"),
    (r"^steps = \d+$", "steps = 10"),
    ('^name = "tgdp"$', 'name = "tgdp"\nsteps = 10'),
)


def briefly(code):
    """The same commands and plan with next to no training."""
    for long, short in BRIEF:
        code = re.sub(long, short, code, flags=re.MULTILINE)
    return code


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_reference_is_that_of_the_code():
    spec = importlib.util.spec_from_file_location("api", ROOT / "tools" / "api.py")
    api = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(api)
    assert (ROOT / "docs" / "api.md").read_text() == api.page(), "docs/api.md is old; write it again: python tools/api.py"
