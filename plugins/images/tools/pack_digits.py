"""Make genkit_images/digits.h5 from scikit-learn's copy of the UCI digits.

    python plugins/images/tools/pack_digits.py [OUT]

scikit-learn is needed here and nowhere else.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from genkit.data import hdf5

SEED, EACH = 0, 18  # 18 held-out images of each of the 10 classes: 10 % of 1,797
ATTRIBUTES = {
    "title": "Optical Recognition of Handwritten Digits (test set, 8x8)",
    "source": "UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, as in scikit-learn's load_digits",
    "licence": "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
    "citation": 'E. Alpaydin and C. Kaynak, "Cascading Classifiers", Kybernetika 34(4), 1998, pp. 369-374',
    "changes": "pixels 0 ... 16 became round(255 v / 16); split into train and held_out",
    "classes": [str(digit) for digit in range(10)],
}


def arrays() -> dict[str, np.ndarray]:
    """The arrays of the file by key, each part in the original order."""
    digits = load_digits()
    images = np.rint(digits.images * 255 / 16).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    random = np.random.RandomState(SEED)  # its stream is frozen, unlike default_rng's
    aside = np.zeros(len(labels), bool)
    for digit in range(10):
        aside[random.permutation(np.flatnonzero(labels == digit))[:EACH]] = True
    parts = {"train": ~aside, "held_out": aside}
    return {f"{p}/{k}": v[rows] for p, rows in parts.items() for k, v in (("images", images), ("labels", labels))}


if __name__ == "__main__":
    default = Path(__file__).parents[1] / "genkit_images" / "digits.h5"
    hdf5.write(Path(sys.argv[1]) if sys.argv[1:] else default, arrays(), ATTRIBUTES)
