"""What guidance costs a sampling step and in memory, against the plain source network.

    python benchmarks/guidance.py [--repeats 9]

Goals: Domain Guidance at most 2.05 of a plain step, with LoRA no slower than two passes, with an interval that covers a third of
the steps at most 1.4, DogFit 1.0; memory with LoRA at most 1.1 of the source's.

- The nets are those of `diffgraft pretrain`, the MLP at batch 10,000 x 2 and the U-Net at batch 64 x 1 x 16 x 16, and a `UNet2DModel` of
  diffusers. On images TGDP is a head on the source's features, in one pass with the source, or in two where labels part them.
- Time is CPU time of one thread over a ddim walk, so that other jobs on the machine don't count; models take turns, and a ratio is
  the median over the ratios within a repetition.
- Memory is the peak of a fresh process that builds the model and takes the walk, less that of one that only imports (Linux).
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch

import diffgraft as dg
from diffgraft.interop.networks import UNet2D, library
from diffgraft.nets.adapters import WithoutAdapter, with_lora
from diffgraft.nets.catalog import PROBE, build, ratio_net
from diffgraft.ratio import LogRatio
from diffgraft.samplers import SAMPLERS, Grid
from memory import peak_of

STEPS, RANK = 12, 8
NETS = {"mlp": ((2,), 10_000), "unet": ((1, 16, 16), 64), "unet2d": ((1, 16, 16), 64)}
GOALS = {"domain guidance": 2.05, "domain guidance, LoRA": 2.05, "domain guidance, a third of the steps": 1.4, "dogfit": 1.02}
MEMORY_GOAL = 1.1
SCHEDULE = dg.vp()


def net(kind: str) -> dg.Net:
    shape, _ = NETS[kind]
    module = diffusers_net(shape) if kind == "unet2d" else build(kind, shape, SCHEDULE)
    return dg.Net(module, schedule=SCHEDULE, shape=shape).requires_grad_(False).eval()


def diffusers_net(shape: tuple[int, ...]) -> UNet2D:
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    channels, side, _ = shape
    sizes = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}
    return UNet2D(library().UNet2DModel(sample_size=side, in_channels=channels, out_channels=channels, **blocks, **sizes), time_scale=1000.0)


def plain(kind: str) -> dg.Denoiser:
    return net(kind)


def guided(kind: str) -> dg.Denoiser:
    return dg.Guided(net(kind), dg.toward(net(kind)), 1.5)


def adapted(kind: str) -> dg.Denoiser:
    tuned = net(kind)
    with_lora(tuned.module, RANK, RANK)
    return dg.Guided(WithoutAdapter(tuned.requires_grad_(False)), dg.toward(tuned), 1.5)


def limited(kind: str) -> dg.Denoiser:
    log_snr = SCHEDULE.log_snr(torch.stack(Grid.log_snr(SCHEDULE, STEPS).times))[: STEPS + 1]
    lo, hi = sorted((float(log_snr[STEPS // 3]), float(log_snr[2 * STEPS // 3 - 1])))
    return dg.Guided(net(kind), dg.toward(net(kind)), dg.interval(1.5, lo - 0.01, hi + 0.01))


def tilted(kind: str) -> dg.Denoiser:
    source = net(kind)
    return dg.Guided(source, dg.ratio_shift(ratio(kind, source), SCHEDULE), 1.0)


def tilted_apart(kind: str) -> dg.Denoiser:
    source = net(kind)
    return dg.Guided(source, dg.ratio_shift(ratio(kind, copy.deepcopy(source)), SCHEDULE), 1.0)


def ratio(kind: str, source: dg.Net) -> LogRatio:
    shape, _ = NETS[kind]
    module = ratio_net(shape, SCHEDULE) if kind == "mlp" else build(PROBE, shape, SCHEDULE, body=source.module)
    return LogRatio(module, SCHEDULE).requires_grad_(False)


MODELS: dict[str, Callable[[str], dg.Denoiser]] = {
    "source": plain,
    "dogfit": plain,
    "domain guidance": guided,
    "domain guidance, LoRA": adapted,
    "domain guidance, a third of the steps": limited,
    "tgdp": tilted,
    "tgdp, in two passes": tilted_apart,
}


def walk(model: dg.Denoiser, kind: str) -> float:
    """CPU seconds of a ddim walk."""
    shape, batch = NETS[kind]
    x, grid = torch.randn(batch, *shape), Grid.log_snr(SCHEDULE, STEPS)
    began = time.thread_time()
    for _ in SAMPLERS["ddim"](model, x, grid):
        pass
    return time.thread_time() - began


def times(kind: str, repeats: int) -> None:
    """Prints the time of a step, beside the plain source's."""
    models = {name: make(kind) for name, make in MODELS.items() if kind != "mlp" or make is not tilted_apart}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(-1, repeats):
        for name in list(models) if repeat % 2 else list(models)[::-1]:
            if (one := walk(models[name], kind)) and repeat >= 0:
                seconds[name].append(one / STEPS)
    shape, batch = NETS[kind]
    print(f"\nA ddim step, {kind}, batch {' x '.join(map(str, (batch, *shape)))} (median of {repeats})")
    for name, mine in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(mine, seconds["source"], strict=True))
        verdict = "" if name not in GOALS else f"  {'PASS' if ratio <= GOALS[name] else 'short of goal'} (goal {GOALS[name]})"
        print(f"  {name:40}{1e3 * statistics.median(mine):8.1f} ms {ratio:6.2f} x source{verdict}")


def sampled(name: str, kind: str) -> None:
    """Builds a model and samples; without a name, neither."""
    torch.set_num_threads(1)
    with torch.no_grad():
        if name:
            walk(MODELS[name](kind), kind)


def memory(kind: str) -> None:
    """Prints parameters and the peak in memory, beside the plain source's."""
    bare, source = (peak_of(sampled, name, kind) for name in ("", "source"))
    size = sum(p.numel() for p in plain(kind).parameters())
    print(f"\nMemory, {kind}: {size:,} parameters, peak {source - bare:.0f} MB over an empty process")
    for name in ("domain guidance", "domain guidance, LoRA"):
        parameters = sum(p.numel() for p in MODELS[name](kind).parameters()) / size
        ratio = (peak_of(sampled, name, kind) - bare) / (source - bare)
        verdict = f"  {'PASS' if ratio <= MEMORY_GOAL else 'short of goal'} (goal {MEMORY_GOAL})" if "LoRA" in name else ""
        print(f"  {name:40} parameters {parameters:5.2f}, peak {ratio:5.2f} x source{verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of guidance, in time and memory.")
    parser.add_argument("--repeats", type=int, default=9, help="repetitions, models in turns (default 9)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    for kind in NETS:
        times(kind, args.repeats)
    for kind in NETS:
        memory(kind)


if __name__ == "__main__":
    main()
