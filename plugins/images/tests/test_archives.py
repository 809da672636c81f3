"""Claims about published archives: read as data, packed once, refused in one line."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import tarfile

import attrs
import numpy as np
import pytest
import torch

import genkit
from genkit.data import PublicFile, hdf5
from genkit.errors import DataError
from genkit.keys import Key
from genkit.kinds import Setup
from genkit.testing import laws
from genkit_images import batches, published
from genkit_images.published import Cifar10, FashionMnist, ImageNet64

RANDOM = np.random.RandomState(0)


def images_of(count, side=32):
    return RANDOM.randint(0, 256, (count, 3 * side * side)).astype(np.uint8)


def python_2(rows, labels):
    """A batch as Python 2 pickled CIFAR-10's: protocol 2, byte strings, an old name of numpy's module."""
    raw = rows.tobytes()
    head = b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    head += b"(K\x01" + b"".join(b"J" + n.to_bytes(4, "little") for n in rows.shape) + b"\x86"
    head += b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    head += b"T" + len(raw).to_bytes(4, "little") + raw + b"tbU\x06labels]("
    return head + b"".join(b"K" + bytes([label]) for label in labels) + b"eu."


def described(path, name, **changes):
    content = path.read_bytes()
    told = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "url": path.as_uri(), "about": "tiny"}
    return PublicFile(name=name, **{**told, **changes})


# ---- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("labels", [list, np.asarray])
def test_a_batch_of_any_python_is_read(protocol, labels):
    rows, numbers = images_of(5), [3, 0, 9, 1, 1]
    raw = pickle.dumps({"data": rows, "labels": labels(numbers), "mean": rows.mean(0)}, protocol)
    images, found = batches.batch(io.BytesIO(raw), "here")
    assert np.array_equal(images, rows.reshape(5, 3, 32, 32)) and found.tolist() == numbers
    assert found.dtype == np.int64


def test_a_batch_of_python_2_is_read():
    rows = images_of(4)
    raw = python_2(rows, [1, 2, 3, 0])
    assert np.array_equal(pickle.loads(raw, encoding="latin1")["data"], rows)  # it is what it claims to be
    images, labels = batches.batch(io.BytesIO(raw), "here")
    assert np.array_equal(images.reshape(4, -1), rows) and labels.tolist() == [1, 2, 3, 0]


class Calls:
    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"data": images_of(2), "labels": Calls(os.system, "touch executed")}, r"wants posix\.system"),
        (Calls(eval, "open('executed', 'w')"), r"wants builtins\.eval"),
        ({"data": np.array([{}, []], object), "labels": [1, 2]}, "no readable pickle .*no array of numbers"),
        ({"data": images_of(2).astype(float), "labels": [1, 2]}, "no rows of three square planes"),
        ({"data": images_of(2)[:, :-1], "labels": [1, 2]}, "no rows of three square planes"),
        ({"data": images_of(2), "labels": [1]}, r"2 images and labels of shape \(1,\)"),
        ({"data": images_of(2), "labels": ["a", "b"]}, "2 images and labels"),
        ({"data": images_of(2)}, "2 images and labels"),
        ([1, 2], "no rows of three square planes"),
    ],
)
def test_what_is_no_batch_is_one_line_and_executes_nothing(tmp_path, monkeypatch, content, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=says) as caught:
        batches.batch(io.BytesIO(pickle.dumps(content)), "some_batch")
    assert str(caught.value).startswith("some_batch: ") and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


# ---- CIFAR-10 ------------------------------------------------------------------------------------


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A tiny archive in the place of the published one; gives its rows and labels, training before test."""
    path, rows, labels = tmp_path / "tiny.tar.gz", images_of(12), [i % 10 for i in range(12)]
    with tarfile.open(path, "w:gz") as tar:
        for i, name in enumerate([*(f"data_batch_{j}" for j in range(1, 6)), "test_batch"]):
            part = slice(2 * i, 2 * i + 2)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            raw = python_2(rows[part], labels[part])
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    monkeypatch.setattr(published, "CIFAR10", described(path, "cifar-10-python.tar.gz"))
    monkeypatch.setenv("GENKIT_CACHE", str(tmp_path / "cache"))
    return path, rows.reshape(-1, 3, 32, 32), labels


def test_cifar_10_is_packed_once_and_its_test_images_are_held_out(tmp_path, cifar, capsys):
    path, rows, labels = cifar
    data = Cifar10(labels=True).build(Setup(cache_dir=tmp_path / "cache"))
    assert (len(data), len(data.held_out)) == (10, 2)
    assert data.spec.shape == (3, 32, 32) and data.spec.classes == 10 and data.spec.flip
    batch = data.batch(torch.arange(10), Key(0))
    assert np.array_equal(batch.x.numpy(), rows[:10]) and batch.cond["label"].tolist() == labels[:10]
    assert np.array_equal(data.held_out.batch(torch.arange(2), Key(0)).x.numpy(), rows[10:])
    assert "downloading" in capsys.readouterr().err
    path.unlink()
    for file in (tmp_path / "cache/files").iterdir():
        file.unlink()
    again = Cifar10(labels=True).build(Setup(cache_dir=tmp_path / "cache"))
    assert again.identity == data.identity and capsys.readouterr().err == ""
    plain = Cifar10().build(Setup(cache_dir=tmp_path / "cache"))
    assert plain.spec.classes == 0 and not plain.batch(torch.arange(1), Key(0)).cond


@pytest.mark.usefixtures("cifar", "fashion")
def test_the_components_obey_the_laws_of_data_sets(tmp_path):
    arrays = {"train/images": images_of(40, 64).reshape(40, 3, 64, 64), "train/labels": np.arange(40)}
    hdf5.write(tmp_path / "cache/data/imagenet64.h5", arrays, {})
    for name in ("cifar10", "fashion-mnist", "imagenet64"):
        laws.check(genkit.component("dataset", name))


def test_a_given_archive_is_used_and_nothing_is_downloaded(tmp_path, cifar, monkeypatch):
    monkeypatch.setenv("GENKIT_OFFLINE", "1")
    setup = Setup(cache_dir=tmp_path / "cache", folder=tmp_path)
    assert len(Cifar10(path="tiny.tar.gz").build(setup)) == 10


def test_offline_without_the_archive_one_line_says_what_to_do(tmp_path, cifar, monkeypatch):
    monkeypatch.setenv("GENKIT_OFFLINE", "1")
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz: is not here.*sha256 .*put it at") as caught:
        Cifar10().build(Setup(cache_dir=tmp_path / "cache"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache/data").exists()


def test_an_archive_without_its_batches_leaves_no_packed_file(tmp_path, monkeypatch):
    path = tmp_path / "empty.tar.gz"
    for content in (None, b"no archive"):
        tarfile.open(path, "w:gz").close() if content is None else path.write_bytes(content)
        monkeypatch.setattr(published, "CIFAR10", described(path, "cifar.tar.gz"))
        with pytest.raises(DataError, match="cannot be unpacked"):
            Cifar10(path=path).build(Setup(cache_dir=tmp_path / "cache"))
    assert not list((tmp_path / "cache").glob("data/*"))


def test_the_published_files_are_those_that_others_check_too():
    assert published.CIFAR10.sha256 == "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"  # as Keras
    assert all(len(file.sha256) == 64 and file.size > 1000 for file in published.FASHION.values())


# ---- Fashion-MNIST -------------------------------------------------------------------------------


def packed_idx(values):
    shape = b"".join(n.to_bytes(4, "big") for n in values.shape)
    return gzip.compress(bytes((0, 0, 8, values.ndim)) + shape + values.tobytes())


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """Tiny files in the place of the published ones; gives their arrays."""
    parts, files = {}, {}
    for group, count in (("train", 6), ("held_out", 3)):
        parts[f"{group}/images"] = RANDOM.randint(1, 256, (count, 28, 28)).astype(np.uint8)
        parts[f"{group}/labels"] = (np.arange(count) % 10).astype(np.uint8)
    for key, values in parts.items():
        path = tmp_path / key.replace("/", "-")
        path.write_bytes(packed_idx(values))
        files[key] = described(path, path.name)
    monkeypatch.setattr(published, "FASHION", files)
    return parts


@pytest.mark.parametrize("size", [28, 32])
def test_fashion_mnist_has_28_pixels_or_two_black_ones_around(tmp_path, fashion, size):
    data = FashionMnist(labels=True, size=size).build(Setup(cache_dir=tmp_path / "cache"))
    assert data.spec.shape == (1, size, size) and not data.spec.flip and (len(data), len(data.held_out)) == (6, 3)
    batch = data.batch(torch.arange(6), Key(0))
    margin = (size - 28) // 2
    inner = batch.x[:, 0, margin : size - margin, margin : size - margin]
    assert np.array_equal(inner.numpy(), fashion["train/images"]) and batch.x.sum() == inner.sum()
    assert batch.cond["label"].tolist() == fashion["train/labels"].tolist()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"junk", "cannot be unpacked"),
        (packed_idx(np.zeros((2, 4, 4), np.uint8))[:-12], "cannot be unpacked"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x02ab"), "no IDX file of bytes with 3 axes"),
        (gzip.compress(bytes((0, 0, 8, 3)) + b"\0\0\0\x02" * 3 + b"abc"), r"3 bytes for shape \(2, 2, 2\)"),
        (gzip.compress(bytes((0, 0, 8, 3)) + b"\xff" * 12), "bytes for shape"),
        (gzip.compress(bytes((0, 0, 8, 3)) + b"\0\0\0\x02" * 3 + bytes(10**6)), r"9 bytes for shape \(2, 2, 2\)"),
        (gzip.compress(bytes((0, 0, 8, 3)) + b"\x7f\0\0\0" * 3 + bytes(9)), "GiB of memory"),
    ],
)
def test_a_damaged_idx_file_is_one_line(tmp_path, content, says):
    (tmp_path / "file.gz").write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        batches.idx(tmp_path / "file.gz", 3)
    assert "\n" not in str(caught.value)


# ---- ImageNet 64x64 ------------------------------------------------------------------------------


def test_imagenet_is_a_packed_file_in_the_cache_or_where_one_says(tmp_path):
    arrays = {"train/images": images_of(4, 64).reshape(4, 3, 64, 64), "train/labels": np.array([0, 5, 2, 999])}
    with pytest.raises(DataError, match=r"imagenet64\.h5: is not there.*genkit data pack FOLDER .*--size 64"):
        ImageNet64().build(Setup(cache_dir=tmp_path))
    hdf5.write(tmp_path / "data/imagenet64.h5", arrays, {})
    data = ImageNet64().build(Setup(cache_dir=tmp_path))
    assert len(data) == 4 and data.spec.classes == 1000 and data.spec.flip
    (tmp_path / "data/imagenet64.h5").rename(tmp_path / "mine.h5")
    streamed = ImageNet64(path="mine.h5", max_gib=0).build(Setup(folder=tmp_path))
    assert streamed.identity == data.identity
    assert streamed.batch(torch.tensor([3]), Key(0)).cond["label"].tolist() == [999]


def test_images_of_another_size_are_not_imagenet_64(tmp_path):
    hdf5.write(tmp_path / "small.h5", {"train/images": images_of(2).reshape(2, 3, 32, 32)}, {})
    with pytest.raises(DataError, match=r"shape \(3, 32, 32\), not \(3, 64, 64\)"):
        ImageNet64(path=tmp_path / "small.h5", labels=False).build(Setup())


def test_the_settings_that_only_say_where_files_are_are_no_part_of_a_run():
    for component in (Cifar10, ImageNet64):
        told = {field.name: field.metadata["identity"] for field in attrs.fields(component)}
        assert told["labels"] and told["flip"] and not told["path"]
