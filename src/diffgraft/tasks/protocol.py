"""What records tell of how samples came to be."""

from typing import Any

from ..data import Layout


def windowing(layout: Layout, scale: str) -> dict[str, Any]:
    """How recordings became samples, with None where nothing is known or was done; `scale` names what was standardised."""
    return {
        "seconds": layout.seconds,
        "rate": layout.rate,
        "leads": layout.columns and list(layout.columns),
        "band": layout.band and list(layout.band),
        "scale": scale,
    }
