"""What a plan said should run: methods by name, their sizes and seeds."""

from typing import Any

from ..entries import labels, quick_method, quick_task, seeds_of, slug


class Planned:
    """What a plan says of methods, sizes and seeds; nothing where there is no plan."""

    def __init__(self, plan: dict[str, Any]) -> None:
        quick = plan.get("profile") == "quick"
        tasks, entries = plan.get("task", []), plan.get("method", [])
        if quick:
            tasks, entries = [quick_task(e) for e in tasks], [quick_method(e) for e in entries]
        names = labels(entries, [str(e.get("name")) for e in entries])
        self.entries = list(zip(names, entries, strict=True))
        self.tasks = tasks
        self.all_seeds = plan.get("seeds", [])
        self.most = 1 if quick else None

    @property
    def methods(self) -> list[str]:
        """Names in the plan's order."""
        return [name for name, _ in self.entries]

    def at(self, n: int, seed: int) -> list[str]:
        """Methods that run at this size and seed."""
        return [name for name, e in self.entries if n in e.get("n_target", [n]) and seed in e.get("seeds", [seed])]

    def seeds(self, label: str, n: int) -> list[int]:
        """Seeds of a task at this size."""
        k = self.place(label, n)
        return (seeds_of(self.tasks[k], self.all_seeds) if k < len(self.tasks) else self.all_seeds)[: self.most]

    def place(self, label: str, n: int) -> int:
        """Which of the plan's tasks this is, counted from 0; behind them all where it is none."""
        bases = [str(e.get("name")) for e in self.tasks]
        worlds = [f"{e.get('name')}-{e.get('world')}" for e in self.tasks]
        both = zip(self.tasks, labels(self.tasks, bases, True), labels(self.tasks, worlds, True), strict=True)
        return next((k for k, (e, *names) in enumerate(both) if label in map(slug, names) and n in e.get("n_target", [n])), len(self.tasks))
