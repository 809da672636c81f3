"""Hostile and broken data files, and files that are something else: refused in a line, and nothing is executed."""

import pickle
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from driver import genkit
from hostile import IMAGES, Canary, unharmed, wherever


def hdf5(make):
    with h5py.File("bad.h5", "w") as file:
        make(file)


def virtual(file):
    layout = h5py.VirtualLayout((40, 8, 8), np.uint8)
    layout[:] = h5py.VirtualSource("nowhere.h5", "images", (40, 8, 8))
    file.create_virtual_dataset("images", layout)


def external(file):
    Path("secret.bin").write_bytes(bytes(2560))
    file.create_dataset("images", (40, 8, 8), np.uint8, external=[("secret.bin", 0, 2560)])


HDF5 = {
    "a link to another file": lambda f: f.update({"images": h5py.ExternalLink("/etc/passwd", "/x")}),
    "a link to itself": lambda f: f.update({"images": h5py.SoftLink("/images")}),
    "other files' bytes": external,
    "a view of other files": virtual,
    "never written": lambda f: f.create_dataset("images", (40, 8, 8), np.uint8),
    "eleven terabytes": lambda f: f.create_dataset("images", (10**9, 64, 64, 3), np.uint8, chunks=(1, 64, 64, 3)),
    "a group": lambda f: f.create_group("images"),
    "a scalar": lambda f: f.update({"images": 3}),
    "no images": lambda f: f.update({"pictures": IMAGES}),
    "none of them": lambda f: f.update({"images": IMAGES[:0]}),
    "one axis": lambda f: f.update({"images": IMAGES.reshape(-1)}),
    "five axes": lambda f: f.update({"images": IMAGES[None, None]}),
    "no pixels": lambda f: f.update({"images": IMAGES[:, :0]}),
    "text": lambda f: f.update({"images": np.array([b"a", b"bc"])}),
    "references": lambda f: f.create_dataset("images", (2,), h5py.ref_dtype),
    "compounds": lambda f: f.update({"images": np.zeros(3, [("a", "u1"), ("b", "f4")])}),
    "floats with NaN": lambda f: f.update({"images": np.full((40, 8, 8), np.nan, np.float32)}),
    "a filter that nobody knows": lambda f: f.create_dataset("images", data=IMAGES, chunks=(1, 8, 8), scaleoffset=0),
}


@pytest.mark.parametrize("what", HDF5)
def test_an_hdf5_file_that_is_not_what_it_should_be_is_refused(what):
    hdf5(HDF5[what])
    with unharmed() as refuse:
        refuse("data", "info", "hdf5", "path=bad.h5", codes={4})


LABELS = {"text": b"cat", "negative": -1, "10^9": 10**9, "2^40": 2**40, "half": 0.5, "NaN": np.nan}


@pytest.mark.parametrize("what", LABELS)
def test_labels_that_are_no_classes_are_refused_before_anything_is_allocated(what):
    labels = np.array([b"dog" if what == "text" else 0, LABELS[what]] * 20)
    hdf5(lambda f: f.update({"images": IMAGES, "labels": labels}))
    with unharmed() as refuse:
        refuse("run", "ict_digits", "dataset={use='hdf5', path='bad.h5', labels=true}", "network.model_channels=4",
               "network.num_blocks=1", "metrics.fd=false", "metrics.pr=false", "--dry-run", codes={4})  # fmt: skip


OTHERS = {
    "nothing": b"",
    "text": b"these are no data\n" * 9,
    "a PNG": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "HDF5's first bytes": b"\x89HDF\r\n\x1a\n",
    "HDF5's first bytes and noise": b"\x89HDF\r\n\x1a\n" + np.random.default_rng(1).bytes(4000),
    "zeros": bytes(5000),
    "a pickle": pickle.dumps(Canary()),
}


FEW = {"nothing", "HDF5's first bytes and noise", "a pickle"}


@pytest.mark.parametrize("what", [w if w in FEW else pytest.param(w, marks=pytest.mark.thorough) for w in OTHERS])
@pytest.mark.parametrize("name", ["bad.h5", "bad.npz", "bad.safetensors", "bad.pt", "bad.pkl", "bad.zip", "bad.png"])
def test_a_file_that_is_something_else_is_refused_wherever_it_is_given(name, what):
    Path(name).write_bytes(OTHERS[what])
    Path("folder").mkdir()
    shutil.copy(name, "folder")
    with unharmed() as refuse:
        for argv in wherever(name):
            refuse(*argv)


def test_control_what_is_executed_or_accepted_or_left_is_told_apart():
    pickle.loads(pickle.dumps(Canary()))
    assert Path("executed").exists()  # the canary does sing
    with unharmed() as refuse, pytest.raises(AssertionError):
        refuse("run", "nothing.toml")
    Path("executed").unlink()
    hdf5(lambda f: f.update({"images": IMAGES}))
    with unharmed() as refuse:
        with pytest.raises(AssertionError, match="0 is none of"):
            refuse("data", "info", "hdf5", "path=bad.h5")
        with pytest.raises(AssertionError, match="MB"), unharmed(mb=-50) as stingy:
            stingy("run", "nothing.toml")
    genkit("data", "info", "hdf5", "path=bad.h5")
