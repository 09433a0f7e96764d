"""Training and sampling of a diffusers network: this package beside diffusers' own loop.

    python benchmarks/diffusers.py [--turns 30]

Goals: a training step at least 0.95 of the speed of that of diffusers' unconditional example, with the same network, batch, clipping
and averaged weights; sampling at least as fast as `DDPMPipeline` with the matching scheduler; peak memory of either not above its own.

- The network is a `UNet2DModel` of 16 x 16 images, batch 32; both loops draw noise and times, take the mean squared error of eps, clip,
  step Adam and average the weights.
- Both sides take turns, step by step; a ratio is the median over turns. Time is CPU time of one thread.
- Memory is the peak of a fresh process (Linux).
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator

import torch

import diffgraft as dg
from diffgraft.data import Points
from diffgraft.denoise import denoising_loss
from diffgraft.draw import Draw
from diffgraft.fit import Training, train
from diffgraft.interop.networks import UNet2D
from diffgraft.interop.schedulers import schedule_of
from memory import peak_of  # before the library diffusers is loaded

warnings.filterwarnings("ignore")
SETTINGS = {
    "sample_size": 16,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (32, 64),
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
BATCH, SAMPLES, SAMPLING_STEPS, WARM_UP = 32, 16, 10, 3
GOALS = {"training step": 0.95, "sampling": 1.0}


def unet() -> torch.nn.Module:
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    return UNet2DModel(**SETTINGS)


def net() -> dg.Net:
    from diffusers import DDPMScheduler

    module = UNet2D(unet())
    schedule, predicts, _ = schedule_of(DDPMScheduler())
    return dg.Net(module, schedule, predicts, module.shape)


def our_training(steps: int) -> Iterator[object]:
    model, pool = net(), Points(torch.randn(256, 1, 16, 16))

    def loss(draw: Draw) -> torch.Tensor:
        x, y = draw.rows(pool, "rows")
        return denoising_loss(model, x, draw.times(model.schedule), draw.noise(x), y)

    return train(model.module, loss, Training(steps=steps, batch_size=BATCH, learning_rate=1e-4, warmup=2), 0)


def their_training(steps: int) -> Iterator[object]:
    """As examples/unconditional_image_generation has it, with its EMA."""
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    model, scheduler, pool = unet(), DDPMScheduler(), torch.randn(256, 1, 16, 16)
    ema = EMAModel(model.parameters(), decay=0.995)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    rate = get_scheduler("cosine", optimizer, num_warmup_steps=2, num_training_steps=steps)
    for _ in range(steps):
        x = pool[torch.randint(256, (BATCH,))]
        noise, t = torch.randn_like(x), torch.randint(0, 1000, (BATCH,))
        loss = torch.nn.functional.mse_loss(model(scheduler.add_noise(x, noise, t), t).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        ema.step(model.parameters())
        yield loss.item()


def our_sampling(runs: int) -> Iterator[object]:
    model = net().requires_grad_(False)
    for _ in range(runs):
        yield dg.sample(model, SAMPLES, steps=SAMPLING_STEPS, sampler="ddpm")


def their_sampling(runs: int) -> Iterator[object]:
    from diffusers import DDPMPipeline, DDPMScheduler

    pipe = DDPMPipeline(unet().requires_grad_(False), DDPMScheduler(clip_sample=False))
    pipe.set_progress_bar_config(disable=True)
    for _ in range(runs):
        yield pipe(batch_size=SAMPLES, num_inference_steps=SAMPLING_STEPS, output_type="np")


SIDES: dict[str, tuple[Callable[[int], Iterator[object]], Callable[[int], Iterator[object]]]] = {
    "training step": (our_training, their_training),
    "sampling": (our_sampling, their_sampling),
}


def timed(what: str, turns: int) -> tuple[list[float], list[float]]:
    """CPU seconds of each turn of both sides, the first turns left out."""
    sides = [make(turns + WARM_UP) for make in SIDES[what]]
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns + WARM_UP):
        for side in (0, 1) if turn % 2 else (1, 0):
            began = time.thread_time()
            next(sides[side])
            if turn >= WARM_UP:
                times[side].append(time.thread_time() - began)
    return times


def done(what: str, side: int) -> None:
    """A few turns of one side."""
    torch.set_num_threads(1)
    for _ in SIDES[what][side](3):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description="Training and sampling of a diffusers network, beside diffusers.")
    parser.add_argument("--turns", type=int, default=30, help="training steps, and samplings, that are timed (default 30)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for what in SIDES:
        times = timed(what, args.turns)
        speed = statistics.median(theirs / ours for ours, theirs in zip(*times, strict=True))
        ours, theirs = (1e3 * statistics.median(t) for t in times)
        verdict = "PASS" if speed >= GOALS[what] else "short of goal"
        print(f"{what:14} ours {ours:7.1f} ms, diffusers {theirs:7.1f} ms, speed {speed:.2f} x  {verdict} (goal {GOALS[what]})")
        a, b = (peak_of(done, what, side) for side in (0, 1))
        print(f"{'':14} peak of the process {a:.0f} MB, diffusers {b:.0f} MB  {'PASS' if a <= 1.01 * b else 'short of goal'}")


if __name__ == "__main__":
    main()
