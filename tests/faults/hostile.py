"""What tests of hostile files share: something that shows when it is executed, and commands that open a file."""

import contextlib
import functools
import os
from pathlib import Path

import numpy as np
from driver import RING, Forked, refused

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)


class Canary:
    """Whoever unpickles it writes the file `executed`."""

    def __reduce__(self):
        return os.system, ("touch executed",)


@contextlib.contextmanager
def unharmed(mb=500):
    """A command in here may not execute what it reads, and may not leave a file; gives a function that runs it."""
    base = plain()
    before = {path for path in Path().iterdir() if not path.name.startswith(".")}

    def refuse(*argv, codes=(2, 4)):
        done = Forked(argv).wait(20)
        refused(done, codes, most=3)
        assert done.mb - base < mb, f"{done.mb - base:.0f} MB"
        assert {path for path in Path().iterdir() if not path.name.startswith(".")} == before
        assert not Path("executed").exists()

    yield refuse


@functools.cache
def plain():
    """The memory of a command that opens nothing, in MB."""
    return Forked(["recipe", "check", "ict_ring"]).wait().mb


def wherever(name):
    """The commands that would open such a file."""
    if name.endswith((".h5", ".npz")):
        yield ["stats", "info", name]
        yield ["stats", "convert", name, "new.h5", "--samples", "10"]
        yield ["evaluate", name, "--against", "digits", "--features", "pixels"]
        yield ["evaluate", name, "--against", name]
    if name.endswith((".h5", ".zip")):
        yield ["data", "info", "hdf5", f"path={name}"]
    if name.endswith((".safetensors", ".pt")):
        yield ["weights", "info", name]
        yield [*RING, f"init.from={name}", "--dry-run"]
    if name.endswith((".pt", ".pkl")):
        for kind in ("edm", "ect", "openai-cm"):
            yield ["weights", "convert", name, "new.safetensors", "--as", kind]
    if name.endswith(".png"):
        yield ["data", "info", "image-folder", "path=folder"]
        yield ["evaluate", "folder", "--against", "digits", "--features", "pixels"]
