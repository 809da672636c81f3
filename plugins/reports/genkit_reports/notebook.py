"""What a notebook shows: samples as a picture, and a run as its figures with its samples."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from genkit import RunResult

WIDE_TABLE = "style='overflow-x:auto'"
CELL = "style='text-align:right;padding:2px 10px'"
WIDE = 320  # pixels that a picture is enlarged to, by a whole number


class Shown:
    """A picture that a notebook shows, and `save` writes.

    Attributes:
        picture: uint8 (channels, height, width).
    """

    def __init__(self, picture: Tensor) -> None:
        self.picture = picture

    def save(self, path: str | Path) -> None:
        """Write it as PNG; raises DataError where that cannot be."""
        from genkit.evaluation import pictures

        pictures.write(Path(path), self.picture)

    def _repr_html_(self) -> str:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self.save(path := Path(folder) / "shown.png")
            return image(path)

    def __repr__(self) -> str:
        return f"a picture of {'x'.join(map(str, self.picture.shape[1:]))} pixels; save(path) writes it"


def show(samples: Tensor, columns: int | None = None) -> Shown:
    """Samples of `genkit.sample` as one picture: a grid of images, or points of a plane.

    Args:
        samples: float (B, C, H, W) in [-1, 1], or uint8; (B, 2, 1, 1) are points.
        columns: Of the grid; about as many as rows if not given.

    Raises:
        DataError: They are no such samples.
    """
    import torch

    from genkit.data import quantise
    from genkit.errors import DataError
    from genkit.evaluation import pictures

    if not isinstance(samples, torch.Tensor) or samples.ndim != 4 or not len(samples):
        what = f"shape {tuple(samples.shape)}" if isinstance(samples, torch.Tensor) else f"a {type(samples).__name__}"
        raise DataError("genkit.show", f"{what}: these are no samples", "give those of genkit.sample, (B, C, H, W)")
    return Shown(pictures.picture(samples if samples.dtype == torch.uint8 else quantise(samples), columns))


def image(path: Path, alt: str = "samples") -> str:
    """A picture as HTML, within it, enlarged by a whole number."""
    data = path.read_bytes()
    wide = int.from_bytes(data[16:20], "big")
    wide *= max(1, round(WIDE / max(wide, 1)))
    source = base64.b64encode(data).decode()
    look = f"width={wide} style='image-rendering:pixelated'"
    return f"<img src='data:image/png;base64,{source}' alt='{escape(alt)}' {look}>"


def of_result(result: RunResult) -> str:
    """A run as HTML: its name, figures for each number of steps, samples, and where its page is."""
    from genkit.evaluation.results import is_floor

    named = {name: value for name, value in result.figures.items() if not is_floor(name)}
    counts = sorted({name.rpartition("@")[2] for name in named}, key=int)
    rows = [["figure", *(f"{n} step{'s' * (n != '1')}" for n in counts)]]
    for name in dict.fromkeys(name.rpartition("@")[0] for name in named):
        rows.append([name, *(f"{named.get(f'{name}@{n}', float('nan')):.4g}" for n in counts)])
    pictures = [image(path, path.stem) for path in sorted((result.folder / "samples").glob("final-steps*.png"))]
    notes = "".join(f"<div>note: {escape(note)}</div>" for note in result.notices)
    links = "".join(f"<div>{escape(str(path))}</div>" for path in result.reports)
    return f"<b>{escape(result.folder.name)}</b>{table(rows)}{' '.join(pictures)}{notes}{links}"


def table(rows: list[list[Any]]) -> str:
    """Rows as an HTML table, the first of them its head."""
    head, *body = [[escape(str(cell)) for cell in row] for row in rows]
    top = "".join(f"<th {CELL}>{cell}</th>" for cell in head)
    lines = ("".join(f"<td {CELL}>{cell}</td>" for cell in row) for row in body)
    rest = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<div {WIDE_TABLE}><table><thead><tr>{top}</tr></thead><tbody>{rest}</tbody></table></div>"
