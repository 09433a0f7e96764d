"""What a sampling step costs beside the network: this package, diffusers and azula side by side.

    python benchmarks/sampling.py [--repeats 21] [--steps 50] [--quick]

Goal: at most half of a diffusers scheduler's and of azula's overhead a step at batch 1, 64 and 10,000, same outputs;
memory flat in the number of steps.

- Overhead: the time of the whole loop less as many bare calls of the same module, and in ddpm less as many bare noise
  draws, on both sides. The module, 0.5 x, costs next to nothing; the data have 2 dimensions.
- Against diffusers: an eps network under its linear schedule of 1000 steps, so ours converts eps to x0 through `dg.Net`.
  Against azula: its `KarrasDenoiser` under its `VPSchedule`, for us `dg.Net(predicts="edm")` under `dg.vp`.
- "with set-up" adds `set_timesteps`, azula's `timesteps` or our `Grid`.
- The loop of ddpm draws with `torch.randn_like`; `dg.sample` draws noise that depends on seed and sample alone, at a price
  that the table of whole calls shows.
- Time is CPU time of one thread, so that other jobs on the machine don't count; repetitions are interleaved, and a
  ratio is the median over the ratios within a repetition.

Exit status 1 where outputs differ; a missed goal is printed, no more.
"""

import argparse
import ctypes
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import diffgraft as dg
from diffgraft.nets.catalog import build, ratio_net
from diffgraft.ratio import LogRatio
from diffgraft.samplers import SAMPLERS, Grid
from memory import peak

LINEAR = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
BATCHES = (1, 64, 10_000)
GOAL = 0.5
AGREE = 1e-4
"""Outputs may differ by this share of their largest entry; both sides compute in float32."""
ALPHA_MIN = 1e-3
"""Signal level at t = 1 in azula's schedule."""
STOP = 0.05
"""Last time of the walks against azula: its sigma, sqrt(1 - alpha^2), keeps few digits in float32, its default, nearer to 0."""


class Cheap(nn.Module):
    """A network that costs one multiplication."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return 0.5 * x


class Timed(nn.Module):
    """A network whose answer depends on the step, to check that both sides pass the same one."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        level = torch.as_tensor(t, dtype=x.dtype) / 1000
        return (0.2 + 0.6 * level.reshape(-1, *(1,) * (x.ndim - 1))) * torch.tanh(x)


@dataclass
class Side:
    """One package's way through the steps: `prepare` is the set-up, `walk` the loop from a start; `draws` of noise in it."""

    prepare: Callable[[], Any]
    walk: Callable[[Any, Tensor], Tensor]
    draws: int = 0


@dataclass
class Pair:
    """A sampler of ours and its counterpart."""

    name: str
    other: str
    ours: Side
    theirs: Side


def ours(sampler: str, model: dg.Denoiser, times: Callable[[], Tensor], draws: int = 0) -> Side:
    def walk(grid: Grid, x: Tensor) -> Tensor:
        for x in SAMPLERS[sampler](model, x, grid):  # noqa: B007, B020  the last x is the sample
            pass
        return x

    return Side(lambda: Grid.at(model.schedule, times()), walk, draws)


def diffusers_pairs(steps: int, module: nn.Module) -> list[Pair]:
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

    linear = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
    # clipping off, and an end at the first step where the scheduler can, as ours; DDPM always ends at t = 0
    kinds = {
        "ddim": (DDIMScheduler(**linear, clip_sample=False, set_alpha_to_one=False), 1 / 1000),
        "ddpm": (DDPMScheduler(**linear, clip_sample=False), 0.0),
        "dpmpp_2m": (DPMSolverMultistepScheduler(**linear, final_sigmas_type="sigma_min", lower_order_final=False), 1 / 1000),
    }

    def pair(name: str, scheduler: Any, end: float) -> Pair:
        def walk(_: None, x: Tensor) -> Tensor:
            for t in scheduler.timesteps:
                x = scheduler.step(module(x, t), t, x, return_dict=False)[0]
            return x

        scheduler.set_timesteps(steps)
        k = scheduler.timesteps.double()
        net = dg.Net(module, schedule=dg.discrete(scheduler.alphas_cumprod), predicts="eps", shape=(2,))
        draws = steps if name == "ddpm" else 0
        mine = ours(name, net, lambda: torch.cat([(k + 1) / 1000, torch.tensor([end], dtype=torch.float64)]), draws)
        return Pair(name, "diffusers", mine, Side(lambda: scheduler.set_timesteps(steps), walk, max(draws - 1, 0)))

    return [pair(name, *kind) for name, kind in kinds.items()]


def azula_pairs(steps: int, module: nn.Module) -> list[Pair]:
    from azula.denoise import KarrasDenoiser
    from azula.noise import VPSchedule
    from azula.sample import DDIMSampler, DDPMSampler

    schedule = dg.vp(0.0, -4 * torch.tensor(ALPHA_MIN, dtype=torch.float64).log().item())
    net = dg.Net(module, schedule=schedule, predicts="edm", shape=(2,))
    theirs = KarrasDenoiser(module, VPSchedule(alpha_min=ALPHA_MIN, sigma_min=0.0))
    # its default float32 times: with float64 ones it computes in float64 throughout, three times slower
    settings = {"start": 1.0, "stop": STOP, "steps": steps, "silent": True}

    def pair(name: str, sampler: Any, draws: int) -> Pair:
        def walk(pairs: Tensor, x: Tensor) -> Tensor:
            for t, s in pairs:
                x = sampler.step(x, t, s)
            return x

        mine = ours(name, net, lambda: torch.linspace(1.0, STOP, steps + 1, dtype=torch.float64), draws)
        return Pair(name, "azula", mine, Side(lambda: sampler.timesteps.unfold(0, 2, 1), walk, draws))

    return [pair("ddim", DDIMSampler(theirs, **settings), 0), pair("ddpm", DDPMSampler(theirs, **settings), steps)]


def whole_pairs(steps: int, module: nn.Module) -> list[Pair]:
    """`dg.sample` with its seeded noise, which no batch size changes, against a pipeline's set-up, start and loop; draws count."""
    pairs = []
    for pair in diffusers_pairs(steps, module):
        net, theirs = dg.Net(module, schedule=dg.discrete(LINEAR), predicts="eps", shape=(2,)), pair.theirs

        def mine(_: None, x: Tensor, net: dg.Net = net, name: str = pair.name) -> Tensor:
            return dg.sample(net, len(x), steps=steps, sampler=name)

        def other(_: None, x: Tensor, side: Side = theirs) -> Tensor:
            return side.walk(side.prepare(), torch.randn(x.shape))

        pairs.append(Pair(pair.name, "diffusers", Side(lambda: None, mine), Side(lambda: None, other)))
    return pairs


def agreement(steps: int) -> bool:
    """Prints how far outputs of both sides are apart at the same timesteps, start and noise; False where too far."""
    print(f"\nOutputs after {steps} steps, largest difference and largest entry (float32)")
    fine = True
    for pair in [*diffusers_pairs(steps, Timed()), *azula_pairs(steps, Cheap())]:
        apart = largest = 0.0
        for batch in BATCHES:
            x = torch.randn(batch, 2, generator=torch.Generator().manual_seed(1))
            out = []
            for side in (pair.ours, pair.theirs):
                torch.manual_seed(2)
                out.append(side.walk(side.prepare(), x))
            apart, largest = max(apart, float((out[0] - out[1]).abs().max())), max(largest, float(out[1].abs().max()))
        agrees = apart <= AGREE * largest
        fine &= agrees
        print(f"  {pair.name:9} {pair.other:9} {apart:.1e} of {largest:8.3f}  {'agree' if agrees else 'DISAGREE'}")
    return fine


def cost(call: Callable[[], Any]) -> float:
    start = time.thread_time()
    call()
    return time.thread_time() - start


def overhead(title: str, make: Callable[[int, nn.Module], list[Pair]], steps: int, repeats: int) -> None:
    """Prints microseconds a step beside module and noise, and the ratios."""
    module, passed, rows = Cheap(), 0, 0
    pairs = make(steps, module)
    print(f"\n{title}, microseconds a step ({steps} steps, median of {repeats} interleaved repetitions, goal: ratio <= {GOAL})")
    print(f"  {'':7}{'':10}{'':10} |{'loop':^26}|{'with set-up':^26}|")
    head = f"{'ours':>8}{'theirs':>9}{'ratio':>7}"
    print(f"  {'batch':>6} {'sampler':9} {'against':9} |{head}  |{head}  |")
    for batch in BATCHES:
        x, t = torch.randn(batch, 2), torch.tensor(0.5)
        times: dict[tuple[int, str], list[tuple[float, float]]] = {(i, who): [] for i in range(len(pairs)) for who in ("ours", "theirs")}
        for repeat in range(-2, repeats):  # two to warm up
            for i, pair in enumerate(pairs):
                bare = cost(lambda: [module(x, t) for _ in range(steps)])  # noqa: B023
                draw = cost(lambda: [torch.randn_like(x) for _ in range(steps)]) / steps if pair.ours.draws else 0.0  # noqa: B023
                # taking turns in who goes first
                for who in ("ours", "theirs") if repeat % 2 else ("theirs", "ours"):
                    side = getattr(pair, who)
                    ready: list[Any] = []
                    set_up = cost(lambda: ready.append(side.prepare()))  # noqa: B023
                    loop = cost(lambda: side.walk(ready[0], x)) - bare - side.draws * draw  # noqa: B023
                    if repeat >= 0:
                        times[i, who].append((1e6 * loop / steps, 1e6 * (loop + set_up) / steps))
        for i, pair in enumerate(pairs):
            cells, ratios = "", []
            for k in (0, 1):
                mine, other = ([one[k] for one in times[i, who]] for who in ("ours", "theirs"))
                ratios.append(statistics.median(a / b for a, b in zip(mine, other, strict=True)))
                cells += f"|{statistics.median(mine):8.1f}{statistics.median(other):9.1f}{ratios[-1]:7.2f}  "
            passed, rows = passed + (max(ratios) <= GOAL), rows + 1
            print(f"  {batch:6d} {pair.name:9} {pair.other:9} {cells}| {'PASS' if max(ratios) <= GOAL else 'short of goal'}")
    print(f"  {passed} of {rows} rows reach the goal")


def growth(sampler: str, steps: int, keep: bool) -> float:
    """Growth of the peak over `steps` steps in this process, after two to warm up, in MB."""
    # large tensors go back to the system when freed; without this the C library holds on to up to eight, at random
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-3, 1_000_000)  # M_MMAP_THRESHOLD
    linear = dg.discrete(LINEAR)
    model = dg.Net(Cheap(), schedule=linear, predicts="eps", shape=(64,))
    x = torch.randn(10_000, 64)
    for _ in SAMPLERS[sampler](model, x, Grid.log_snr(linear, 2)):
        pass
    before, kept = peak(), []
    for x_s in SAMPLERS[sampler](model, x, Grid.log_snr(linear, steps)):
        if keep:
            kept.append(x_s)
    return peak() - before


def in_child(call: Callable[[], float]) -> float:
    """`call()` in a fork of this process, whose peak starts at what it holds then."""
    context = get_context("fork")
    receive, send = context.Pipe(False)
    child = context.Process(target=lambda: send.send(call()))
    child.start()
    send.close()
    result = receive.recv()
    child.join()
    return result


def memory(counts: tuple[int, ...]) -> None:
    """Prints how the peak grows with the number of steps, each in a child process of its own."""
    size = 10_000 * 64 * 4 / 2**20
    print(f"\nGrowth of the peak in memory, MB (batch 10,000 x 64; one batch is {size:.1f} MB)")
    print(f"  {'steps':18}" + "".join(f"{n:>8}" for n in counts))
    if not peak():
        print("  not measured: this system has no /proc/self/status")
        return
    for sampler, keep in (("ddim", False), ("ddpm", False), ("dpmpp_2m", False), ("ddim", True)):
        grown = [in_child(lambda: growth(sampler, n, keep)) for n in (counts[:2] if keep else counts)]  # noqa: B023
        # flat: no more than one batch between few steps and many
        verdict = "(control: every x kept)" if keep else "PASS" if grown[-1] - grown[0] <= size else "short of goal"
        print(f"  {sampler + (', x kept' if keep else ''):18}" + "".join(f"{g:8.1f}" for g in grown) + f"  {verdict}")


def guided(repeats: int) -> None:
    """Prints what guidance costs a sampling step with default networks."""
    schedule, steps, x = dg.vp(), 3, torch.randn(10_000, 2)
    source, tuned = (dg.Net(build("mlp", (2,), schedule), schedule=schedule, shape=(2,)) for _ in range(2))
    log_h = LogRatio(ratio_net((2,), schedule), schedule).requires_grad_(False)
    models = {
        "source": source,
        "toward, w = 1": dg.Guided(source, dg.toward(tuned), 1.0),
        "toward, w = 2": dg.Guided(source, dg.toward(tuned), 2.0),
        "ratio_shift": dg.Guided(source, dg.ratio_shift(log_h, schedule), 1.0),
    }
    print(f"\nA guided ddim step, default MLPs, batch 10,000 x 2 (median of {repeats})")
    times: dict[str, list[float]] = {name: [] for name in models}
    sides = {name: ours("ddim", model, lambda: torch.linspace(0.9, 0.1, steps + 1)) for name, model in models.items()}
    for repeat in range(-1, repeats):
        for name, side in sides.items():
            grid = side.prepare()
            one = cost(lambda: side.walk(grid, x)) / steps  # noqa: B023
            if repeat >= 0:
                times[name].append(1e3 * one)
    for name, mine in times.items():
        ratio = statistics.median(a / b for a, b in zip(mine, times["source"], strict=True))
        print(f"  {name:15} {statistics.median(mine):7.1f} ms  {ratio:5.2f} x source")


def machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {len(names) or '?'} CPUs, {torch.get_num_threads()} torch thread"


def main() -> int:
    parser = argparse.ArgumentParser(description="Overhead of a sampling step, memory and the cost of guidance.")
    parser.add_argument("--repeats", type=int, default=21, help="interleaved repetitions (default 21)")
    parser.add_argument("--steps", type=int, default=50, help="sampling steps of a loop, a divisor of 1000 (default 50)")
    parser.add_argument("--quick", action="store_true", help="5 repetitions and memory up to 100 steps")
    args = parser.parse_args()
    if args.repeats < 1 or args.steps < 2 or 1000 % args.steps:
        parser.error("--repeats must be at least 1, and --steps a divisor of 1000 from 2 on")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    import azula
    import diffusers

    versions = f"diffgraft {dg.__version__}, torch {torch.__version__}, diffusers {diffusers.__version__}, azula {azula.__version__}"
    print(f"{date.today()}, {machine()}\n{versions}, Python {platform.python_version()}")
    repeats = 5 if args.quick else args.repeats
    fine = agreement(args.steps)
    overhead("Overhead", lambda n, module: [*diffusers_pairs(n, module), *azula_pairs(n, module)], args.steps, repeats)
    overhead("A whole dg.sample call, noise included", whole_pairs, args.steps, repeats)
    memory((10, 100) if args.quick else (10, 100, 1000))
    guided(min(repeats, 7))
    if not fine:
        print("\noutputs disagree: the times above compare different computations")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
