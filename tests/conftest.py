"""What all tests share: one thread, fixed seeds, and a guard over torch's global state."""

import os
from pathlib import Path

import pytest
import torch

from diffgraft.tasks import dipole

DATA = Path(os.environ.get("DIFFGRAFT_DATA", Path(__file__).parents[1] / "../shared/data"))

torch.set_num_threads(1)  # the tensors are small, and tests may run side by side


def global_state():
    return {
        "default dtype": torch.get_default_dtype(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "deterministic cudnn": torch.backends.cudnn.deterministic,
        "matmul precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
    }


def restore(state):
    torch.set_default_dtype(state["default dtype"])
    torch.set_grad_enabled(state["grad mode"])
    torch.set_anomaly_enabled(state["anomaly detection"])
    torch.use_deterministic_algorithms(state["deterministic algorithms"])
    torch.backends.cudnn.deterministic = state["deterministic cudnn"]
    torch.set_float32_matmul_precision(state["matmul precision"])
    torch.set_num_threads(state["threads"])


@pytest.fixture(autouse=True)
def guard():
    """Each test draws from seed 0, leaves the global generator as it was, and fails where it changes any other global state."""
    before = global_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    after = global_state()
    restore(before)
    changed = [f"{name}: {before[name]} before, {after[name]} after" for name in before if before[name] != after[name]]
    if changed:
        pytest.fail("the test changed torch's global state: " + "; ".join(changed))


@pytest.fixture
def leaves_rng_alone():
    """Fails a test in which anything draws from torch's global generator."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state()), "the global generator was used"


@pytest.fixture(scope="session")
def data_folder():
    if not DATA.is_dir():
        pytest.skip(f"no data folder at {DATA}; set DIFFGRAFT_DATA")
    return DATA


@pytest.fixture
def textbook(monkeypatch):
    """SYNTHETIC electrocardiograms that show their statement in full, of hearts that are alike."""
    for name, value in {"DEGREES": (1.0, 1.0), "SIZES": (0.12,) * 5 + (0.0,), "CONDUCTED": 0.0, "LEVEL": 0.0, "UNLIKE": 0.0}.items():
        monkeypatch.setattr(dipole, name, value)
