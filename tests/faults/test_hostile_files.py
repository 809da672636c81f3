"""Hostile and broken archives, weights, pickles and pictures: refused in a line, and nothing of them is executed."""

import io
import json
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from driver import RING
from hostile import IMAGES, Canary, unharmed, wherever
from PIL import Image


def npz(**arrays):
    np.savez(file := io.BytesIO(), **arrays)
    return file.getvalue()


def zipped(**members):
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in members.items():
            archive.writestr(name.replace("__", "."), raw)
    return file.getvalue()


def npy(shape, dtype="|u1", raw=b""):
    head = str({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + raw


NPZ = {
    "pickled arrays": lambda: npz(arr_0=np.array([Canary()], object)),
    "pickled statistics": lambda: npz(mu=np.array([Canary()], object), sigma=np.eye(2)),
    "a bomb": lambda: zipped(arr_0__npy=npy((10**10,), raw=bytes(10**7))),
    "eleven terabytes": lambda: zipped(mu__npy=npy((10**12,), "<f8"), sigma__npy=npy((10**6, 10**6), "<f8")),
    "a negative shape": lambda: zipped(arr_0__npy=npy((-1, 8, 8))),
    "code in the head": lambda: zipped(arr_0__npy=npy("__import__('os').system('touch executed')")),
    "a path upwards": lambda: zipped(**{"../executed": b"x"}),
    "NaN": lambda: npz(mu=np.full(2048, np.nan), sigma=np.full((2048, 2048), np.nan)),
    "shapes that differ": lambda: npz(mu=np.zeros(3), sigma=np.eye(4)),
    "text": lambda: npz(arr_0=np.array(["a", "b"])),
    "floats": lambda: npz(arr_0=np.zeros((40, 8, 8, 3))),
    "nothing": npz,
}


@pytest.mark.parametrize("what", NPZ)
def test_an_npz_file_that_is_not_what_it_should_be_is_refused(what):
    Path("bad.npz").write_bytes(NPZ[what]())
    with unharmed() as refuse:
        for argv in wherever("bad.npz"):
            if what != "NaN" or argv[1] != "convert":
                refuse(*argv)


def safetensors(header, raw=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + raw


def tensor(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


SAFETENSORS = {
    "a head of 2^62 bytes": lambda: safetensors({}, length=2**62),
    "a head of 90 MB": lambda: safetensors(b" " * 90_000_000),
    "a head that is nested": lambda: safetensors(b'{"a":' * 50_000),
    "an unknown type": lambda: safetensors({"a": tensor("F33")}, bytes(8)),
    "a shape that does not fit": lambda: safetensors({"a": tensor(shape=(3,))}, bytes(8)),
    "a huge shape": lambda: safetensors({"a": tensor(shape=(2**40, 2**40))}, bytes(8)),
    "tensors one over the other": lambda: safetensors({"a": tensor(), "b": tensor(offsets=(4, 12))}, bytes(12)),
    "bytes behind the end": lambda: safetensors({"a": tensor()}, bytes(80)),
    "no tensor": lambda: safetensors({}),
    "a list": lambda: safetensors([1, 2]),
    "other weights": lambda: safetensors({"a": tensor()}, bytes(8)),
    "odd metadata": lambda: safetensors({"__metadata__": {"genkit": "{"}, "a": tensor()}, bytes(8)),
}


@pytest.mark.parametrize("what", SAFETENSORS)
def test_weights_that_are_not_what_they_should_be_are_refused(what):
    Path("bad.safetensors").write_bytes(SAFETENSORS[what]())
    with unharmed() as refuse:
        refuse(*RING, "init.from=bad.safetensors", "--dry-run")


def torch_file(what, **how):
    torch.save(what, file := io.BytesIO(), **how)
    return file.getvalue()


PICKLES = {
    "code": lambda: pickle.dumps(Canary()),
    "code of the oldest protocol": lambda: pickle.dumps({"ema": [Canary()]}, 0),
    "code in torch's archive": lambda: torch_file({"ema": Canary()}),
    "code in torch's old format": lambda: torch_file(Canary(), _use_new_zipfile_serialization=False),
    "a class that is nowhere": lambda: b"cnowhere\nThing\n.",
    "deep": lambda: b"(" * 300_000 + b".",
    "huge": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b".",
    "plain data": lambda: pickle.dumps({"a": 1}),
    "other weights": lambda: torch_file({"a": torch.zeros(3)}),
}


@pytest.mark.parametrize("what", PICKLES)
@pytest.mark.parametrize("name", ["bad.pt", "bad.pkl"])
def test_a_pickle_is_read_as_data_or_refused_and_never_run(name, what):
    Path(name).write_bytes(PICKLES[what]())
    with unharmed() as refuse:
        for argv in wherever(name):
            refuse(*argv)


def png(width=8, height=8, depth=8, colour=2, raw=None):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    raw = zlib.compress(bytes((1 + 3 * width) * height)) if raw is None else raw
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", raw) + chunk(b"IEND", b"")


PNGS = {
    "a bomb": lambda: png(60_000, 60_000, raw=zlib.compress(bytes(10**7))),
    "two thousand million pixels": lambda: png(2**31 - 1, 1, raw=zlib.compress(b"")),
    "no pixels": lambda: png(0, 0, raw=zlib.compress(b"")),
    "too few pixels": lambda: png(raw=zlib.compress(b"\0" * 9)),
    "pixels that are no deflate": lambda: png(raw=b"garbage"),
    "a wrong checksum": lambda: png()[:20] + b"\xff" + png()[21:],
    "an unknown depth": lambda: png(depth=7),
    "another size": lambda: png(9, 9),
}


@pytest.mark.parametrize("what", PNGS)
def test_a_picture_that_is_not_what_it_should_be_is_refused(what):
    Path("folder").mkdir()
    for number in range(10):
        Image.fromarray(np.repeat(IMAGES[number, :, :, None], 3, 2)).save(f"folder/{number}.png")
    Path("folder/bad.png").write_bytes(PNGS[what]())
    with unharmed() as refuse:
        for argv in wherever("bad.png"):
            refuse(*argv)
