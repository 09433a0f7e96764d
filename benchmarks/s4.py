"""What the kernels of state-space layers cost in training and in sampling, against S4 kernels computed anew at every call.

    python benchmarks/s4.py [--repeats 5]

Goals: training at least 2 times as fast, a step of sampling with kept kernels at least 1.5 times as fast.

- The network is `SSSD` of width 64 and six blocks, without patches, or one layer of the paper's width, for signals of 1000 samples.
- The reference is the same network with the kernels of S4-LegS in the published form, a diagonal system of complex pairs plus one of
  low rank whose transfer function is evaluated at the roots of unity; A, B, P and the steps, one a feature, are frozen there too.
  Its sums over poles are taken one by one, as published in plain PyTorch, and, to see how far that alone goes, as one product of
  matrices. That the kernels agree is checked before.
- Time is CPU time of one thread, so that other jobs on the machine don't count; networks take turns, and a ratio is the median over the
  ratios within a repetition.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

import diffgraft as dg
from diffgraft.nets.s4 import Basis, FixedKernel, LongConv, S4Layer, bilinear, legs, steps
from diffgraft.nets.sssd import SSSD

LEADS, LENGTH, STATES, BATCH = 8, 1000, 64, 8
SMALL, WIDE = 128, 512
TRAINING_GOAL, SAMPLING_GOAL = 2.0, 1.5
ANEW, PRODUCT = "S4, computed anew", "S4, computed anew as a product of matrices"


class Rational(nn.Module):
    r"""S4-LegS kernels (2, H, L) by the transfer function of a diagonal system plus one of rank one.

    With $A = V (\Lambda - P P^*) V^*$ and $\Delta$ frozen, at every root of unity $z$
    $\hat k(z) = 2 (c_B - (1 + z) c_P p_B / (1 + (1 + z) p_P))$, where $c_B = \sum_n C_n B_n / (\frac2\Delta (1 - z) - (1 + z) \lambda_n)$ and
    $c_P$, $p_B$, $p_P$ likewise. Only $C (I - \bar A^L) V$ is learned, half of it: the rest is conjugate.

    Args:
        c: C (2, H, N).
        length: L.
        product: Take the sums as one product of matrices, not each by itself.

    Reference:
        Gu, Goel, Ré, Efficiently Modeling Long Sequences with Structured State Spaces, 2022, arXiv 2111.00396, algorithm 1.
    """

    def __init__(self, c: Tensor, length: int, product: bool) -> None:
        super().__init__()
        (a, b), dt, self.product = legs(STATES), steps(c.shape[1], 1e-3, 1e-1), product
        eye, p = torch.eye(STATES, dtype=torch.float64), (torch.arange(STATES, dtype=torch.float64) + 0.5).sqrt()
        frequency, v = torch.linalg.eigh(-1j * (a + torch.outer(p, p) + 0.5 * eye))
        v = v[:, frequency > 0]
        c = torch.einsum("chn,hnm->chm", c.double(), eye - torch.linalg.matrix_power(bilinear(a, b, dt)[0], length))
        self.c = nn.Parameter(torch.view_as_real((c.to(v) @ v).to(torch.complex64)))
        self.b, self.p, poles = (_both(half.to(torch.complex64)) for half in (b.to(v) @ v.conj(), p.to(v) @ v.conj(), -0.5 + 1j * frequency[frequency > 0]))
        self.poles, self.dt = poles, dt.float()

    def forward(self, length: int) -> Tensor:
        z = torch.exp(-2j * torch.pi * torch.arange(length // 2 + 1) / length)
        c, p, w = _both(torch.view_as_complex(self.c)), self.p.conj().expand(1, len(self.dt), -1), 1 + z
        rows, below = torch.cat([c * self.b, c * self.p, p * self.b, p * self.p]), (2 / self.dt[:, None] * (1 - z))[:, None] - w * self.poles[:, None]
        sums = torch.einsum("rhn,hnl->rhl", rows, 1 / below) if self.product else (rows[..., None] / below).sum(2)
        c_b, c_p, p_b, p_p = sums.split([2, 2, 1, 1])
        return torch.fft.irfft(2 * (c_b - w * c_p * p_b / (1 + w * p_p)), n=length)


def _both(half: Tensor) -> Tensor:
    return torch.cat([half, half.conj()], -1)


def checked() -> None:
    """Says how far both kernels from one C are apart, in single precision."""
    ours = FixedKernel(SMALL, Basis(SMALL, STATES, LENGTH), 2)
    with torch.no_grad():
        error = max(float((Rational(ours.c, LENGTH, product)(LENGTH) - ours(LENGTH)).norm() / ours(LENGTH).norm()) for product in (False, True))
    print(f"The kernels of the references differ by at most {error:.0e}")
    if error > 1e-3:
        raise SystemExit("a reference computes another kernel")


def rational(module: nn.Module, product: bool) -> nn.Module:
    """The network with a reference's kernels."""
    for conv in [part for part in module.modules() if isinstance(part, LongConv)]:
        conv.kernel = Rational(torch.randn(2, len(conv.d), STATES), LENGTH, product)
    return module


def layer(kind: str, groups: int = 16) -> Callable[[], nn.Module]:
    return lambda: S4Layer(WIDE, LENGTH, STATES, kind=kind, groups=groups)


def network(kind: str, groups: int = 16) -> Callable[[], nn.Module]:
    return lambda: SSSD((LEADS, LENGTH), dg.vp(), width=SMALL // 2, depth=6, patch=1, kind=kind, groups=groups)


MAKES = {"a layer of 512 features": (layer, WIDE), "SSSD, small": (network, SMALL)}


def called(module: nn.Module, batch: int) -> Tensor:
    if isinstance(module, SSSD):
        return module(torch.randn(batch, LEADS, LENGTH), torch.tensor(0.5))
    return module(torch.randn(batch, WIDE, LENGTH))


def trained(module: nn.Module) -> None:
    called(module.train(), BATCH).square().sum().backward()


def sampled(module: nn.Module, batch: int) -> None:
    with torch.no_grad():
        called(module, batch)


def seconds(call: Callable[[], None]) -> float:
    """CPU seconds of a call."""
    began = time.thread_time()
    call()
    return time.thread_time() - began


def in_turns(calls: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each call in each repetition, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(-1, repeats):
        for name in list(calls) if repeat % 2 else list(calls)[::-1]:
            one = seconds(calls[name])
            if repeat >= 0:
                times[name].append(one)
    return times


def told(times: dict[str, list[float]], beside: str, reference: list[float], goal: float, judged: tuple[str, ...]) -> None:
    """Prints each time, and how many times as fast it is as the reference."""
    print(f"  beside {beside}:")
    for name, mine in times.items():
        ratio = statistics.median(b / a for a, b in zip(mine, reference, strict=True))
        verdict = f"  {'PASS' if ratio >= goal else 'short of goal'} (goal {goal})" if name in judged else ""
        print(f"    {name:42}{1e3 * statistics.median(mine):9.1f} ms {ratio:6.2f} x as fast{verdict}")


def training(repeats: int) -> None:
    """Prints the time of a training step's two passes."""
    for title, (make, features) in MAKES.items():
        modules = {
            ANEW: rational(make("fixed")(), False),
            PRODUCT: rational(make("fixed")(), True),
            "fixed, 16 steps": make("fixed")(),
            "fixed, a step a feature": make("fixed", features)(),
            "s4d": make("s4d")(),
        }
        times = in_turns({name: partial(trained, module) for name, module in modules.items()}, repeats)
        print(f"\nForward and backward, {title}, batch {BATCH} x {LENGTH} (median of {repeats})")
        told(times, ANEW, times[ANEW], TRAINING_GOAL, ("fixed, 16 steps", "fixed, a step a feature", "s4d"))


def sampling(repeats: int) -> None:
    """Prints the time of a step of sampling, for one signal and for several."""
    for batch in (1, BATCH):
        modules = {name: rational(network("fixed")(), product).train() for name, product in ((ANEW, False), (PRODUCT, True))}
        for kind in ("fixed", "s4d"):
            modules |= {f"{kind}, computed anew": network(kind)().train(), f"{kind}, kept": network(kind)().eval()}
        times = in_turns({name: partial(sampled, module, batch) for name, module in modules.items()}, repeats)
        print(f"\nA step of sampling, SSSD, small, batch {batch} x {LEADS} x {LENGTH} (median of {repeats})")
        told(times, ANEW, times[ANEW], SAMPLING_GOAL, ("fixed, kept", "s4d, kept"))
        for kind in ("fixed", "s4d"):
            anew, kept = f"{kind}, computed anew", f"{kind}, kept"
            told({kept: times[kept]}, anew, times[anew], SAMPLING_GOAL, (kept,))


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of state-space kernels, in training and sampling.")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions, networks in turns (default 5)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    checked()
    training(args.repeats)
    sampling(args.repeats)


if __name__ == "__main__":
    main()
