"""Checkpoints of a training run: `step-000500/` folders of safetensors and JSON, written whole or not at all."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from .errors import BadModel
from .files import atomic_folder, write_tensors

KEEP = 2


class Checkpoints:
    """The checkpoints of one run; the last `KEEP` stay.

    Args:
        folder: Where they lie; None keeps none.
        settings: What the run depends on; a resume under other settings is refused.
    """

    def __init__(self, folder: Path | None, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob("step-*")) if self.folder else []

    def write(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Write the checkpoint of a step and drop the oldest."""
        if self.folder is None:
            return
        with atomic_folder(self.folder / f"step-{step:06d}") as partial:
            write_tensors(partial / "state.safetensors", tensors)
            finite = {key: None if value == math.inf else value for key, value in state.items()}
            (partial / "state.json").write_text(json.dumps({"settings": self.settings, **finite}, indent=2))
        for old in self._steps()[:-KEEP]:
            shutil.rmtree(old, ignore_errors=True)

    def latest(self, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and state of the last checkpoint, or None.

        Raises:
            BadModel: It belongs to a run with other settings; the differences are named.
        """
        steps = self._steps()
        if not steps:
            return None
        state = json.loads((steps[-1] / "state.json").read_text())
        before = state.pop("settings")
        changed = [f"{key}: {before.get(key)} before, {value} now" for key, value in self.settings.items() if before.get(key) != value]
        if changed:
            raise BadModel(f"cannot resume {steps[-1]} under other settings ({'; '.join(changed)}); use the settings of that run, or --overwrite")
        state["best_loss"] = math.inf if state["best_loss"] is None else state["best_loss"]
        return load_file(steps[-1] / "state.safetensors", device=str(device)), state
