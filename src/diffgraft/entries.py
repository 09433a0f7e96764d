"""What the entries of a plan are called, and which sizes and seeds they run at; no torch, so that pages can ask too."""

import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

Entry = dict[str, Any]

QUICK, QUICK_SIZE, QUICK_SOURCE, QUICK_SAMPLES, QUICK_STEPS, QUICK_LIKELIHOODS = 10, 100, 4_000, 1_000, 15, 50
"""The quick profile divides training steps by the first, keeps one seed, the target size nearest to the second and, where a task draws them, so many
source points, draws half the samples, at most so many and in no more sampler steps, and computes a model's density at no more held-out points."""
OWN = ("name", "world", "label", "n_target", "seeds")
"""Keys of an entry that are no settings of its task or method."""


def slug(label: str) -> str:
    """A label as names of files have it: lower-case letters, digits and single dashes; underscores stay.

    >>> slug("TGDP (weight -1, paper)")
    'tgdp-weight-minus-1-paper'
    """
    signed = re.sub(r"(?<![\w.-])-(?=[.\d])", "minus ", label.lower())
    return re.sub(r"[^a-z0-9_]+", "-", signed).strip("-")


def settings(entry: Entry) -> Entry:
    """The settings of a task or method, without what the plan says of the entry."""
    return {k: v for k, v in entry.items() if k not in OWN}


def meet(a: Entry, b: Entry) -> bool:
    """Whether two entries run at a common size; without sizes of its own an entry runs at all."""
    return not {"n_target"} <= a.keys() & b.keys() or bool(set(a["n_target"]) & set(b["n_target"]))


def labels(entries: Sequence[Entry], bases: Sequence[str], shared: bool = False) -> list[str]:
    """What each entry is shown as: its label; else its base name, with the settings in which it differs from its namesakes.

    Entries that never run at a common size may have one name. Equal entries are numbered.

    Args:
        entries: Tasks or methods of a plan.
        bases: What each is called where it has no namesake.
        shared: Whether entries of one name share something that follows from their settings, as tasks share a source
            model; then different settings always need different names.
    """
    names: list[str] = []
    for k, e in enumerate(entries):
        rivals = [o for j, o in enumerate(entries) if j != k and bases[j] == bases[k] and not o.get("label") and (meet(e, o) or shared)]
        name = e.get("label") or bases[k] + _apart(e, rivals)
        taken = [slug(name) for name, o in zip(names, entries, strict=False) if meet(e, o)]
        names.append(name if e.get("label") or slug(name) not in taken else f"{name} {_number(slug(name), taken)}")
    return names


def _apart(entry: Entry, rivals: Sequence[Entry]) -> str:
    mine, others = settings(entry), [settings(o) for o in rivals]
    keys = [k for k in dict.fromkeys(k for each in (mine, *others) for k in each) if any(o.get(k) != mine.get(k) for o in others)]
    return f" ({', '.join(said(k, mine.get(k)) for k in keys)})" if keys else ""


def said(key: str, value: Any) -> str:
    """A setting in words."""
    text = f"{value:g}" if isinstance(value, float) else "default" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return f"{key.replace('_', ' ')} {text}"


def _number(name: str, taken: list[str]) -> int:
    return next(k for k in range(2, len(taken) + 3) if f"{name}-{k}" not in taken)


def clashes(entries: Sequence[Entry], names: Sequence[str], shared: bool = False) -> list[str]:
    """Names that two entries share though they must not: at a common size, or with different settings behind something shared."""
    pairs = combinations(zip(entries, names, strict=True), 2)
    found = [a for (e, a), (o, b) in pairs if slug(a) == slug(b) and (meet(e, o) or (shared and settings(e) != settings(o)))]
    return list(dict.fromkeys(found))


def seeds_of(entry: Entry, seeds: list[int]) -> list[int]:
    """Seeds of a task entry: its own, or the plan's."""
    return entry.get("seeds") or seeds


def quick_task(entry: Entry) -> Entry:
    """A task entry under the quick profile."""
    sizes, seeds = entry.get("n_target"), entry.get("seeds")
    kept = {"n_target": [min(sizes, key=lambda n: abs(n - QUICK_SIZE))]} if sizes else {}
    drawn = {"n_source": min(entry["n_source"], QUICK_SOURCE)} if isinstance(entry.get("n_source"), int) else {}
    return {**entry, **kept, **drawn, **({"seeds": seeds[:1]} if seeds else {})}


def quick_method(entry: Entry) -> Entry:
    """A method entry under the quick profile."""
    shorter = {"steps": max(1, entry["steps"] // QUICK)} if isinstance(entry.get("steps"), int) else {}
    return {**entry, **shorter, **({"effort": entry["effort"] / QUICK} if "effort" in entry else {})}
