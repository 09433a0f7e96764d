"""Pictures made of pixels, as PNG inside SVG: grids of images, and maps of values with their colour scale."""

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from .plots import LEFT, RIGHT, WIDTH, Array, Axis, axes, frame, path, svg, text, tick_text, within

ABOVE, BELOW, NO_NUMBER = (214, 84, 44), (52, 122, 208), (128, 128, 128, 120)
"""Colours of a map, which stand out on white and on near black."""


def heat(values: Array, x: Array, y: Array, limit: float, points: Sequence[tuple[str, Array]], alt: str) -> Markup:
    """A map of values (Y, X) at the centres x, y of its cells, with points (kind, (n, 2)) over it."""
    left, low = (float(a[0] - (a[1] - a[0]) / 2) for a in (x, y))
    right, high = (float(a[-1] + (a[-1] - a[-2]) / 2) for a in (x, y))
    across, up = axes((left, right), (low, high))
    shape = (across.start, up.end, across.end - across.start, up.start - up.end)
    parts = [Markup('<g class="heat">') + image(colours(values[::-1], limit), *shape)]
    for kind, cloud in points:
        dots = [f"M{across(a):.1f} {up(b):.1f}h0" for a, b in cloud[within(cloud, (left, right), (low, high))]]
        parts += [Markup('<path class="dots {}" d="{}"/>').format(kind, "".join(dots))] if dots else []
    return svg(WIDTH, alt, [*parts, *frame(across, up), Markup("</g>")])


def colours(values: Array, limit: float) -> NDArray[np.uint8]:
    """Values as pixels (H, W, 4): red above zero, blue below, the fainter the nearer to zero, so that zero is the paper's own colour; grey for no number."""
    known = np.isfinite(values)
    size = np.clip(np.abs(np.where(known, values, 0.0)) / limit, 0, 1)
    sheet = np.empty((*values.shape, 4), np.uint8)
    sheet[..., :3] = np.where((np.where(known, values, 0.0) >= 0)[..., None], ABOVE, BELOW)
    sheet[..., 3] = np.rint(255 * size)
    sheet[~known] = NO_NUMBER
    return sheet


def colour_scale(limit: float, alt: str) -> Markup:
    """What the colours of a map mean."""
    axis = Axis(-limit, limit, LEFT, WIDTH - RIGHT)
    bar = image(colours(np.linspace(-limit, limit, 129)[None], limit), axis.start, 4, axis.end - axis.start, 10)
    ticks = [path([(axis(v), 14), (axis(v), 18)], "axis") + text(axis(v), 30, tick_text(v)) for v in axis.ticks(5)]
    outline = Markup('<rect class="outline" x="{}" y="4" width="{}" height="10"/>').format(axis.start, axis.end - axis.start)
    return svg(34, alt, [bar, outline, *ticks])


def image(pixels: NDArray[np.uint8], x: float, y: float, width: float, height: float) -> Markup:
    """Pixels (H, W, 4) or (H, W, 2) as a picture that fills a box."""
    box = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:.1f}"'
    data = base64.b64encode(png(pixels)).decode()
    return Markup('<image class="pixels" preserveAspectRatio="none" {} href="data:image/png;base64,{}"/>').format(Markup(box), data)


def mosaic(tiles: NDArray[np.uint8], shown: NDArray[np.bool_], heads: Sequence[str], alt: str) -> Markup:
    """A grid of small images, with a word over each column.

    Args:
        tiles: Pixels (rows, columns, H, W, 3), or (rows, columns, H, W, 1) for grey ones.
        shown: Which tiles there are (rows, columns); the others stay blank.
        heads: A word a column, or none.
        alt: What it shows, in words.
    """
    rows, columns, h, w, channels = tiles.shape
    sheet = np.zeros((rows, h + 1, columns, w + 1, channels + 1), np.uint8)
    sheet[:, :h, :, :w, :-1] = tiles.transpose(0, 2, 1, 3, 4)
    sheet[:, :h, :, :w, -1] = 255 * shown[:, None, :, None]
    sheet = sheet.reshape(rows * (h + 1), columns * (w + 1), -1)[:-1, :-1]
    top, height = 16 * bool(heads), WIDTH * sheet.shape[0] / sheet.shape[1]
    room = WIDTH * (w + 1) / sheet.shape[1]
    words = [text((k + 0.5) * room - 0.5 * room / (w + 1), 11, head) for k, head in enumerate(heads)]
    return svg(top + height, alt, [*words, image(sheet, 0, top, WIDTH, height)])


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels (H, W, 4) as a PNG file, red, green, blue and opacity, or (H, W, 2), grey and opacity."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    parts = ((b"IHDR", struct.pack(">2I5B", width, height, 8, {2: 4, 4: 6}[channels], 0, 0, 0)), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in parts)
