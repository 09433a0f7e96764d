"""What is shown of a training: pictures of what it samples, and curves."""

import importlib.machinery
import sys
import types

import numpy as np
import torch
from PIL import Image

from diffgraft import rng
from diffgraft.data import Points
from diffgraft.fit import Progress, Training
from diffgraft.pretrain import pretrain
from diffgraft.samplers import sample
from diffgraft.watch import previews, wandb, write_grid


def test_previews_are_drawn_of_the_averaged_weights_and_change_nothing(tmp_path):
    def trained(watch):
        torch.manual_seed(0)
        pool = Points(torch.randn(64, 1, 8, 8))
        return pretrain(pool, 3, training=Training(steps=20, batch_size=8, warmup=2), watch=watch, held_out=0.0)

    plain = trained(None)
    shown = trained(previews(tmp_path / "p"))
    assert all(torch.equal(a, b) for a, b in zip(plain.module.state_dict().values(), shown.module.state_dict().values(), strict=True))
    pictures = sorted((tmp_path / "p").iterdir())
    assert [p.name for p in pictures] == [f"pretrain-{k:06d}.png" for k in range(2, 21, 2)]
    assert Image.open(pictures[0]).size == (4 * 10, 4 * 10) and Image.open(pictures[0]).mode == "L"
    # the last one shows the very samples of the finished model
    x = sample(shown, 16, steps=10, sampler="ddim", generator=rng.generator(0, "preview"))
    write_grid(x, tmp_path / "again.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "again.png")), np.asarray(Image.open(pictures[-1])))


def test_grids_of_images(tmp_path):
    write_grid(torch.full((5, 3, 2, 4), -1.0), tmp_path / "rgb.png")
    whole = np.asarray(Image.open(tmp_path / "rgb.png"))
    assert whole.shape == (2 * 4, 3 * 6, 3) and (whole[1:3, 1:5] == 0).all() and (whole[4:, 12:] == 255).all()


def test_curves_go_to_weights_and_biases_where_a_project_is_named(monkeypatch):
    logged = []

    class Run:
        def log(self, values):
            logged.append(values)

    fake = types.ModuleType("wandb")
    fake.__spec__, fake.init = importlib.machinery.ModuleSpec("wandb", None), lambda name: Run()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    progress = Progress("finetune", 7, 9, 0.5, None, 1e-3, 1.0, 2.0)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    wandb("run")(progress)
    assert logged == []
    monkeypatch.setenv("WANDB_PROJECT", "grafts")
    wandb("run")(progress)
    assert logged == [{"finetune/loss": 0.5, "finetune/learning_rate": 1e-3, "finetune/step": 7}]
