"""Claims about HDF5 files."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import attrs
import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from genkit.data import Resident, batches, hdf5
from genkit.errors import DataError
from genkit.keys import Key
from genkit.kinds import Setup
from genkit_images import verifying
from genkit_images.hdf5 import Hdf5
from genkit_images.streaming import Streamed

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.randint(0, 256, (1500, 3, 6, 5)).astype(np.uint8)
LABELS = RANDOM.randint(0, 4, 1500)
LABELS[:4] = range(4)


def shared(name: str) -> Path:
    if not (SHARED / name).is_file():
        pytest.skip(f"{name} is not at hand")
    return SHARED / name


@pytest.fixture
def own(tmp_path) -> Path:
    arrays = {
        "train/images": IMAGES,
        "train/labels": LABELS,
        "held_out/images": IMAGES[:7, :, ::-1],
        "held_out/labels": LABELS[:7],
    }
    hdf5.write(tmp_path / "own.h5", arrays, {"title": "noise"})
    return tmp_path / "own.h5"


def plain(path: Path, **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file[key] = values
    return path


def jpegs(path: Path, pictures: list[np.ndarray], **options) -> Path:
    files = []
    for pixels in pictures:
        Image.fromarray(pixels).save(buffer := io.BytesIO(), format="JPEG", **options)
        files.append(np.frombuffer(buffer.getvalue(), np.uint8))
    offsets = np.cumsum([0, *map(len, files)])
    return plain(path, jpeg=np.concatenate(files), offsets=offsets, labels=np.arange(len(files)) % 2)


def build(path: Path, setup: Setup | None = None, **settings):
    return Hdf5(path=path, **settings).build(setup or Setup())


def complaint(path: Path, **settings) -> str:
    with pytest.raises(DataError) as caught:
        build(path, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_genkits_own_layout_is_read_with_its_held_out_part(own):
    data = build(own, labels=True)
    assert isinstance(data, Resident)
    assert np.array_equal(data.x.numpy(), IMAGES)
    assert np.array_equal(data.cond["label"].numpy(), LABELS)
    assert np.array_equal(data.held_out.x.numpy(), IMAGES[:7, :, ::-1])
    assert data.held_out.cond["label"].tolist() == LABELS[:7].tolist()
    assert (data.spec.shape, data.spec.classes, data.spec.flip) == ((3, 6, 5), 4, True)


def test_labels_and_flips_are_used_only_when_asked_for(own):
    data = build(own, flip=False)
    assert (data.spec.classes, data.spec.flip, data.cond) == (0, False, {})


def test_what_is_above_the_limit_is_streamed_and_gives_the_same_batches(own):
    whole, streamed = build(own, labels=True), build(own, labels=True, max_gib=0)
    assert isinstance(streamed, Streamed)
    assert isinstance(streamed.held_out, Streamed)
    for a, b, _ in zip(batches(whole, 0, 0, 64), batches(streamed, 0, 0, 64), range(30), strict=False):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.cond["label"], b.cond["label"])


def test_identity_does_not_depend_on_streaming_layout_or_place(own, tmp_path):
    reference = build(own).identity
    assert build(own, max_gib=0).identity == reference
    for name, images in {"first": IMAGES, "last": IMAGES.transpose(0, 2, 3, 1)}.items():
        path = plain(tmp_path / f"{name}.h5", images=images)
        assert build(path).identity == build(path, max_gib=0).identity == reference
    assert build(own, labels=True).identity != reference
    changed = IMAGES.copy()
    changed[-1, 0, 0, 0] ^= 1
    assert build(plain(tmp_path / "changed.h5", images=changed)).identity != reference


@pytest.mark.parametrize("max_gib", [4.0, 0.0])
@pytest.mark.parametrize(
    ("lie", "shape"), [("NHW", (1, 6, 5)), ("NCHW", (3, 6, 5)), ("NHWC", (3, 6, 5)), ("NHW1", (1, 6, 5))]
)
def test_plain_arrays_are_read_however_their_axes_lie(tmp_path, lie, shape, max_gib):
    stored = {
        "NHW": IMAGES[:, 0],
        "NCHW": IMAGES,
        "NHWC": IMAGES.transpose(0, 2, 3, 1),
        "NHW1": IMAGES[:, 0, :, :, None],
    }
    data = build(plain(tmp_path / "plain.h5", images=stored[lie]), max_gib=max_gib)
    assert data.spec.shape == shape
    indices = torch.tensor([3, 1499, 3, 0])
    assert np.array_equal(data.batch(indices, Key(0)).x.numpy(), IMAGES[indices.numpy(), : shape[0]])
    assert data.held_out is None


def test_test_images_are_held_out(tmp_path):
    path = plain(
        tmp_path / "plain.h5",
        train_images=IMAGES[:50, 0],
        train_labels=LABELS[:50].astype(np.uint8),
        test_images=IMAGES[50:60, 0],
        test_labels=LABELS[50:60].astype(np.uint8),
    )
    data = build(path, labels=True)
    assert (len(data), len(data.held_out)) == (50, 10)
    assert data.held_out.cond["label"].dtype == torch.int64
    assert data.held_out.cond["label"].tolist() == LABELS[50:60].tolist()


def test_jpeg_files_are_decoded_as_pillow_does(tmp_path):
    pictures = [np.full((8, 8, 3), 25 * i, np.uint8) for i in range(6)]
    pictures[0][..., 2] = 9  # else all would be grey, of one channel
    data = build(jpegs(tmp_path / "jpeg.h5", pictures, quality=95), labels=True)
    assert data.x.shape == (6, 3, 8, 8)
    assert (data.x.float().mean((1, 2, 3)) - torch.arange(6) * 25).abs().max() < 4
    assert data.cond["label"].tolist() == [0, 1, 0, 1, 0, 1]


def test_a_broken_jpeg_is_named(tmp_path):
    path = jpegs(tmp_path / "jpeg.h5", [IMAGES[i].transpose(1, 2, 0) for i in range(5)])
    with h5py.File(path, "r+") as file:
        file["jpeg"][file["offsets"][3] : file["offsets"][4]] = 0
    assert "jpeg[3]: is no readable picture" in complaint(path)


def test_jpeg_files_that_decode_to_more_than_the_limit_are_refused(tmp_path):
    path = jpegs(tmp_path / "jpeg.h5", [np.zeros((64, 64, 3), np.uint8)] * 20)
    assert "raise dataset.max_gib" in complaint(path, max_gib=1e-4)


@pytest.mark.parametrize("offsets", [[0, 10, 5], [0, 10**9], [0], [-5, 10], [0.0, 10.0]])
def test_offsets_that_cut_no_pictures_are_refused(tmp_path, offsets):
    path = plain(tmp_path / "jpeg.h5", jpeg=np.zeros(100, np.uint8), offsets=np.array(offsets))
    assert ":/offsets: does not cut" in complaint(path)


def test_relative_paths_start_from_the_recipes_folder(own):
    assert len(build(Path("own.h5"), Setup(folder=own.parent))) == 1500


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({}, "has no images under a known name"),
        ({"pictures": IMAGES}, "genkit reads jpeg, train/images, train_images, images"),
        ({"images": IMAGES.astype(np.float32)}, "images: is float32, not uint8"),
        ({"images": IMAGES[:, 0, 0]}, "is no set of images"),
        ({"images": np.zeros((4, 5, 6, 7), np.uint8)}, "is no set of images"),
        ({"images": np.zeros((4, 3, 6, 3), np.uint8)}, "is no set of images"),
        ({"images": np.zeros((0, 6, 6), np.uint8)}, "is no set of images"),
        ({"train_images": IMAGES, "test_images": IMAGES[:, :, :5]}, "test_images: has images of shape (3, 5, 5)"),
        ({"jpeg": np.zeros(9, np.uint8)}, "offsets: is not in the file"),
        ({"jpeg": np.zeros(9), "offsets": np.array([0, 9])}, "jpeg: is float64"),
    ],
)
def test_files_that_hold_no_images_are_refused_in_one_line(tmp_path, arrays, what):
    assert what in complaint(plain(tmp_path / "wrong.h5", **arrays))


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (None, "labels: is not in the file"),
        (LABELS[:-1], "labels: is int64 of shape (1499,); labels are 1500 integers"),
        (LABELS.astype(float), "labels: is float64"),
        (LABELS - 1, "labels: has labels -1 ... 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused_in_one_line(tmp_path, labels, what):
    arrays = {"images": IMAGES} | ({} if labels is None else {"labels": labels})
    assert what in complaint(plain(tmp_path / "wrong.h5", **arrays), labels=True)


def test_labels_beyond_the_named_classes_are_refused(tmp_path):
    path = plain(tmp_path / "named.h5", images=IMAGES, labels=LABELS)
    with h5py.File(path, "r+") as file:
        file.attrs["classes"] = ["a", "b", "c", "d", "e"]
    assert build(path, labels=True).spec.classes == 5
    with h5py.File(path, "r+") as file:
        file.attrs["classes"] = ["a", "b"]
    assert "there are 2 classes" in complaint(path, labels=True)


def test_held_out_classes_that_are_never_trained_on_are_refused(tmp_path):
    path = plain(
        tmp_path / "plain.h5",
        train_images=IMAGES[:4],
        train_labels=np.arange(4),
        test_images=IMAGES[:2],
        test_labels=np.array([0, 9]),
    )
    assert "test_labels: has 10 classes; there are 4" in complaint(path, labels=True)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_one_line(own, share):
    whole = own.read_bytes()
    own.write_bytes(whole[: int(len(whole) * share)])
    assert "own.h5: cannot be read as HDF5" in complaint(own)


def test_a_missing_file_is_one_line(tmp_path):
    assert "nowhere.h5: no such file" in complaint(tmp_path / "nowhere.h5")


def test_a_flipped_bit_in_the_images_is_noticed(own):
    with h5py.File(own) as file:
        chunk = file["train/images"].id.get_chunk_info(0)
    damaged = bytearray(own.read_bytes())
    damaged[chunk.byte_offset + chunk.size // 2] ^= 1
    own.write_bytes(damaged)
    assert "is damaged" in complaint(own)
    assert "is damaged" in complaint(own, max_gib=0)


@pytest.mark.parametrize("table", range(3))
def test_a_damaged_table_of_contents_is_one_line(own, table):
    parts = own.read_bytes().split(b"OHDR")
    own.write_bytes(b"OHDR".join(parts[: table + 1]) + b"    " + b"OHDR".join(parts[table + 1 :]))
    assert "is damaged" in complaint(own)


def test_fashion_mnist_is_read_as_its_authors_describe_it():
    data = build(shared("fashion-mnist.h5"), labels=True)
    assert (len(data), len(data.held_out), data.spec.shape, data.spec.classes) == (60_000, 10_000, (1, 28, 28), 10)
    assert data.cond["label"].bincount().tolist() == [6_000] * 10
    assert data.x.float().mean().item() / 255 == pytest.approx(0.2860, abs=1e-4)


def test_cifar_10_as_jpeg_is_read_as_its_notes_describe_it():
    data = build(shared("cifar10-jpeg-test.h5"), labels=True)
    assert (len(data), data.spec.shape, data.spec.classes) == (10_000, (3, 32, 32), 10)
    assert data.cond["label"].bincount().tolist() == [1_000] * 10
    means = data.x.float().mean((0, 2, 3)) / 255
    assert torch.allclose(means, torch.tensor([0.4942, 0.4851, 0.4504]), atol=2e-4)


def test_streamed_data_hold_no_images():
    path = shared("fashion-mnist.h5")
    data = build(path, max_gib=0.001)
    held = [v for v in attrs.asdict(data, recurse=False).values() if isinstance(v, torch.Tensor | np.ndarray)]
    assert held == []


# ---- hostile and damaged -------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [None, (1, 3, 64, 64)])
def test_a_file_that_declares_more_than_it_has_is_refused_at_once(tmp_path, chunks):
    with h5py.File(tmp_path / "lies.h5", "w") as file:
        file.create_dataset("images", (10**12, 3, 64, 64), "u1", chunks=chunks)
    for max_gib in (4.0, 1e9):
        assert "was never written, or not all of it" in complaint(tmp_path / "lies.h5", max_gib=max_gib)


def test_what_unpacks_to_more_than_the_memory_is_refused_before(tmp_path, monkeypatch):
    path = tmp_path / "bomb.h5"
    hdf5.write(path, {"images": np.zeros((3000, 16, 16), np.uint8)}, {})
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": 700}[name])
    assert ":/images: needs 0.0 GiB of memory, there are 0.0; read it by parts" in complaint(path)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1000, "SC_PHYS_PAGES": 769}[name])
    assert len(build(path)) == 3000


def hurt(raw: bytes, chance: random.Random) -> bytes:
    changed = bytearray(raw)
    if chance.random() < 0.25:
        return raw[: chance.randrange(len(raw))]
    for _ in range(chance.choice((1, 3, 30))):
        changed[chance.randrange(min(len(raw), chance.choice((600, 10**6))))] = chance.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("layout", ["own", "plain", "jpeg"])
def test_damage_anywhere_is_one_line(tmp_path, layout):
    path, chance, told = tmp_path / "whole.h5", random.Random(layout), 0
    if layout == "own":
        arrays = {"train/images": IMAGES[:30], "train/labels": LABELS[:30], "held_out/images": IMAGES[:3]}
        hdf5.write(path, {**arrays, "held_out/labels": LABELS[:3]}, {"classes": ["a", "b", "c", "d"]})
    elif layout == "plain":
        plain(path, images=IMAGES[:30], labels=LABELS[:30])
    else:
        jpegs(path, [IMAGES[i].transpose(1, 2, 0) for i in range(3)])
    whole, bad = path.read_bytes(), tmp_path / "bad.h5"
    for _ in range(40):
        bad.write_bytes(hurt(whole, chance))
        for reader in (
            lambda: build(bad, labels=True),
            lambda: verifying.described(bad),
            lambda: verifying.verify(bad),
        ):
            try:
                reader()
            except DataError as error:
                told += "bad.h5" in str(error) and "\n" not in str(error)  # anything else fails the test
    assert told > 40


def test_texts_in_a_file_are_verified_like_numbers(tmp_path):
    with h5py.File(tmp_path / "texts.h5", "w") as file:
        file["names"] = ["cat", "dog"]
    first = verifying.verify(tmp_path / "texts.h5")
    with h5py.File(tmp_path / "texts.h5", "r+") as file:
        file["names"][1] = "cow"
    assert first.keys() == {"names"} and verifying.verify(tmp_path / "texts.h5") != first


def test_a_damaged_row_is_one_line_also_where_files_are_verified(own):
    with h5py.File(own) as file:
        chunk = file["train/images"].id.get_chunk_info(0)
    damaged = bytearray(own.read_bytes())
    damaged[chunk.byte_offset + chunk.size // 2] ^= 1
    own.write_bytes(damaged)
    with pytest.raises(DataError, match="images: is damaged"):
        verifying.verify(own)


def test_a_file_that_must_not_be_read_is_not_called_damaged(own, monkeypatch):
    def refuse(*ignored):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(h5py, "File", refuse)
    assert "own.h5: must not be read by you; mend its rights" in complaint(own)
