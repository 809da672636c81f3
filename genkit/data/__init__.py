"""Data: what is read from elsewhere, and batches of it.

In go files and data sets, none of which is trusted; out come arrays, weights, and batches whose order is a function of
(seed, step). Read `sources` first (batches), then `hdf5`.
"""

from genkit.data.files import PublicFile, cache_folder, locate, sha256
from genkit.data.sources import Resident, batches, drop_labels, prepare, quantise
from genkit.data.weights import Weights

__all__ = [
    "PublicFile", "Resident", "Weights", "batches", "cache_folder", "drop_labels", "locate", "prepare",
    "quantise", "sha256",
]  # fmt: skip
