"""Memory of a training step of the published signal network, 50 million parameters, by count: no GPU is needed.

    python benchmarks/sssd_memory.py [--batch 8] [--length 1000]

Weights, gradients, both moments of Adam and averaged weights are float32. What autograd keeps for the backward pass is counted on one
record under bf16 autocast, each storage once and parameters apart, and grows with the batch; basis and kernels do not. What kernels need
while they work comes on top, as does what the allocator cannot use.
"""

import argparse

import torch
from torch.autograd.graph import saved_tensors_hooks

import diffgraft as dg
from diffgraft.nets.sssd import PAPER, SSSD

LEADS, STATEMENTS = 8, 71


def kept(net: SSSD, batch: int, length: int) -> int:
    """Bytes that autograd keeps in a forward pass, beside parameters and buffers."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*net.parameters(), *net.buffers())}
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    x, t, y = torch.randn(batch, LEADS, length), torch.rand(batch), torch.zeros(batch, STATEMENTS)
    with saved_tensors_hooks(note, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        out = net(x, t, y)
    assert out.shape == x.shape
    return sum(seen.values())


def main() -> None:
    """Print the parts and their sum."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=1000)
    args = parser.parse_args()
    net = SSSD((LEADS, args.length), dg.vp(), STATEMENTS, **PAPER)
    one, two = (kept(net, batch, args.length) for batch in (1, 2))
    parameters, buffers = (sum(tensor.nbytes for tensor in group()) for group in (net.parameters, net.buffers))
    parts = {
        "weights, gradients, Adam, averaged weights": 5 * parameters,
        "basis of the state-space layers": buffers,
        "kept for the backward pass, whatever the batch": 2 * one - two,
        f"kept for the backward pass, batch {args.batch}": args.batch * (two - one),
    }
    for name, size in {**parts, "together": sum(parts.values())}.items():
        print(f"{size / 2**30:6.2f} GiB  {name}")


if __name__ == "__main__":
    main()
