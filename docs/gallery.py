"""Makes the pictures of the gallery from runs that are done: `python docs/gallery.py`, where `runs` lies.

Each picture has 2 rows of 16 samples. All models get the same noise, so that what stands in one place of two pictures
has come from the same eps.
"""

from __future__ import annotations

import sys
from pathlib import Path

import genkit
from genkit.data import quantise
from genkit.evaluation import pictures
from genkit.kinds import Source
from genkit.runs import models

OTHERS = {"edm_digits": [18], "flow_digits": [18], "shortcut_digits": [1, 4]}
METHODS = "ict ct ect tcm cd sct scd ctm imm meanflow imf alphaflow"
STEPS = {f"{method}_digits": [1, 2] for method in METHODS.split()} | OTHERS


def draw(recipe: str, steps: int, folder: Path) -> Path:
    """The picture of the newest run of a recipe that is done."""
    denoiser = models.load_source(Source(origin=f"recipe:{recipe}"))
    x0 = genkit.sample(denoiser, 32, steps=steps, seed=0)
    return pictures.write(folder / f"{recipe}-{steps}.png", genkit.picture(quantise(x0), 16), scale=4)


if __name__ == "__main__":
    chosen = sys.argv[1:] or STEPS
    for name in chosen:
        for count in STEPS[name]:
            print(draw(name, count, Path(__file__).parent / "images" / "gallery"))
