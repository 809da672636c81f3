"""The digits that come with the package: a real data set for a first run, without a download."""

from __future__ import annotations

from pathlib import Path

import attrs

from genkit.data import hdf5
from genkit.kinds import Data, Setup, Spec, setting
from genkit_images.arrays import resident
from genkit_images.augment import Augmented

FILE = Path(__file__).with_name("digits.h5")


@attrs.frozen(kw_only=True)
class Digits(Augmented):
    """UCI handwritten digits: 1,797 grey 8x8 images, 180 held out.

    Grey levels 0 … 16 scaled to 0 … 255; 18 images of each class are held out by the file itself.
    Not mirrored: a mirrored digit is none.

    Source: Alpaydin & Kaynak 1998 (https://doi.org/10.24432/C50P49), CC BY 4.0; see DATA.md.
    """

    labels: bool = setting(False, "condition on the digit, 0 … 9")

    def build(self, setup: Setup) -> Data:
        spec = Spec(channels=1, height=8, width=8, classes=10 if self.labels else 0)
        held_out = self._part("held_out", spec, setup, None)
        return self.augmented(self._part("train", spec, setup, held_out))

    def _part(self, group: str, spec: Spec, setup: Setup, held_out: Data | None) -> Data:
        with hdf5.opened(FILE) as file:
            images = hdf5.read(hdf5.array(file, f"{group}/images"))
            labels = hdf5.read(hdf5.array(file, f"{group}/labels")) if self.labels else None
        return resident(images, labels, spec, setup, held_out)
