"""What a method noted of its fit, in plain words for a model card."""

from collections.abc import Iterator
from typing import Any

from ..terms import listed, number
from .markdown import plain

CANDIDATES = {
    "moved": "source clusters, moved towards the target points",
    "placed": "new clusters with the shapes of the source's",
    "tilted": "source clusters, weighed anew and moved towards the target points",
    "kernels": "a small cluster at every target point",
    "drawn-in": "a small cluster at every target point, all drawn in to keep the points' spread",
}
"""Kinds of candidates of a smoothed target, by the first word of their names."""


def noted(found: dict[str, Any]) -> str:
    """A list of what there is to say, warnings first; empty where that is nothing.

    Args:
        found: `notes` of a record or model: warnings, the weights of a stack, a ratio's scores, and numbers of other names.
    """
    lines = [f"**Warning:** {plain(text)}." for text in found.get("warnings", [])]
    if found.get("stack"):
        lines.append(f"The target's density was estimated as a mixture: {listed(_parts(found['stack']))}.")
    if "outside" in found:
        lines.append(f"{found['outside']:.0%} of the target points lie where the source has none.")
    lines += _of_ratio(found.get("ratio") or {})
    if "own_share" in found:
        lines.append(f"{found['own_share']:.0%} of the points that it learned from are the target's own; the others are source points, drawn by their ratio.")
    known = ("warnings", "stack", "outside", "ratio", "own_share")
    lines += [f"{plain(k.replace('_', ' '))}: {plain(v)}." for k, v in found.items() if k not in known and isinstance(v, str | int | float)]
    return "\n".join(f"- {line}" for line in lines)


def _parts(stack: dict[str, float]) -> list[str]:
    """Kinds of candidates with their shares, largest first; of several labels, the mean."""
    shares: dict[str, float] = {}
    for name, weight in stack.items():
        kind = name.rpartition(": ")[2].split(" ")[0].rstrip(",")
        shares[kind] = shares.get(kind, 0.0) + weight / sum(stack.values())
    return [f"{share:.0%} {CANDIDATES.get(kind, plain(kind))}" for kind, share in sorted(shares.items(), key=lambda part: -part[1])]


def _of_ratio(ratio: dict[str, Any]) -> Iterator[str]:
    if "auc" in ratio:
        told = f"A classifier tells target from source with an area under the ROC curve of {number(ratio['auc'])}"
        yield f"{told}; at one half the domains are alike, at one they do not overlap."
    if "effective_sample_size" in ratio:
        yield f"The ratio of target to source density rests on {number(ratio['effective_sample_size'])} source points (its effective sample size)."
