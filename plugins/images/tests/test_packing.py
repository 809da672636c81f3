"""Claims about packing: the crops of the published tools, files that say how they were made, all or nothing."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from genkit import cli
from genkit.errors import DataError, RecipeError
from genkit.kinds import Setup
from genkit_images import crops, packing, verifying
from genkit_images.hdf5 import Hdf5

RANDOM = np.random.RandomState(1)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def picture(height, width, mode="RGB"):
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(RANDOM.randint(0, 256, shape).astype(np.uint8))


def ramp(height, width):
    """Grey of row + 2 column: any mean of a symmetric neighbourhood is its centre's value."""
    return (np.arange(height)[:, None] + 2 * np.arange(width)).astype(np.uint8)


# EDM's dataset_tool.py (commit 008a4e5) with center-crop, and image_datasets.py of openai/consistency_models, were run
# on `wave` to 8 pixels; below stand rows 0 and 5 of the red channel.
def wave(height, width):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return Image.fromarray(((y * y * 7 + x * 13 + y * x * 3 + c * 50) % 256).astype(np.uint8))


PUBLISHED = {
    ("edm", (19, 30)): [[100, 142, 164, 157, 150, 125, 93, 91], [125, 107, 134, 100, 133, 68, 188, 84]],
    ("adm", (19, 30)): [[89, 122, 146, 168, 193, 127, 118, 57], [121, 114, 134, 106, 131, 89, 145, 129]],
    ("edm", (50, 37)): [[126, 129, 126, 124, 132, 131, 125, 146], [124, 131, 115, 126, 127, 128, 127, 124]],
    ("adm", (50, 37)): [[136, 117, 136, 130, 129, 128, 128, 151], [120, 142, 125, 122, 131, 129, 128, 120]],
    ("edm", (8, 8)): [[0, 13, 26, 39, 52, 65, 78, 91], [175, 203, 231, 3, 31, 59, 87, 115]],
    ("adm", (8, 8)): [[0, 13, 26, 39, 52, 65, 78, 91], [175, 203, 231, 3, 31, 59, 87, 115]],
    ("edm", (6, 5)): [[0, 4, 14, 23, 28, 37, 47, 52], [57, 66, 83, 97, 109, 123, 140, 148]],
    ("adm", (6, 5)): [[1, 6, 16, 25, 34, 42, 53, 58], [79, 89, 105, 119, 138, 161, 178, 188]],
}


@pytest.mark.parametrize(("crop", "shape"), PUBLISHED)
def test_crops_equal_those_of_the_published_tools(crop, shape):
    found = np.asarray(crops.CROPS[crop][0](wave(*shape), 8))
    assert [found[0, :, 0].tolist(), found[5, :, 0].tolist()] == PUBLISHED[crop, shape]


def test_adm_halves_by_means_before_it_filters():
    found = np.asarray(crops.adm(Image.fromarray(ramp(64, 64)), 16))
    means = ramp(64, 64).reshape(16, 4, 16, 4).mean((1, 3))
    assert np.abs(found - means).max() <= 1.5


@pytest.fixture
def tree():
    """Two classes of pictures of mixed sizes, modes and formats."""
    folder = Path("tree")
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    picture(20, 30).save(folder / "a/1.png")
    picture(9, 9, "L").save(folder / "a/2.png")
    picture(40, 17).convert("CMYK").save(folder / "b/1.jpg")
    picture(64, 80).save(folder / "b/2.jpg")
    Image.new("RGBA", (12, 12), (255, 0, 0, 0)).save(folder / "b/3.png")
    return folder


@pytest.mark.parametrize("workers", [1, 2])
def test_a_tree_of_mixed_pictures_becomes_one_file_that_says_how(tree, workers):
    assert packing.pack(tree, tree.parent / "out.h5", 8, "adm", workers) == 5
    data = Hdf5(path="out.h5", labels=True).build(Setup(folder=tree.parent))
    assert data.spec.shape == (3, 8, 8) and data.spec.classes == 2
    assert data.cond["label"].tolist() == [0, 0, 1, 1, 1]
    with Image.open(tree / "a/1.png") as first:
        assert np.array_equal(data.x[0].permute(1, 2, 0).numpy(), np.asarray(crops.adm(first, 8)))
    assert data.x[4].sum() == 0  # transparent is black
    told = verifying.described(tree.parent / "out.h5")
    assert (told["crop"], told["filter"], told["size"], told["source"]) == ("adm", "box, bicubic", 8, "tree")
    assert told["classes"] == ["a", "b"]


def test_pictures_in_no_folders_have_no_labels(tmp_path):
    for name in ("1.png", "2.png"):
        picture(20, 30).save(tmp_path / name)
    assert packing.pack(tmp_path, tmp_path / "out.h5", 8, "edm") == 2
    data = Hdf5(path="out.h5").build(Setup(folder=tmp_path))
    assert data.spec.shape == (3, 8, 8) and data.spec.classes == 0
    with pytest.raises(DataError, match="labels"):
        Hdf5(path="out.h5", labels=True).build(Setup(folder=tmp_path))


def test_blocks_of_pictures_join(tree, monkeypatch):
    packing.pack(tree, tree.parent / "whole.h5", 8, "edm")
    monkeypatch.setattr(packing, "BLOCK", 2)
    packing.pack(tree, tree.parent / "parts.h5", 8, "edm")
    assert verifying.verify(tree.parent / "whole.h5") == verifying.verify(tree.parent / "parts.h5")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "b/4.jpg").write_bytes(b"no picture"), r"b/4\.jpg: is no readable picture"),
        (lambda f: (f / "b/2.jpg").write_bytes((f / "b/2.jpg").read_bytes()[:300]), r"b/2\.jpg: is no readable"),
        (lambda f: Image.new("F", (9, 9)).save(f / "a/3.tif"), r"a/3\.tif: has pixels of mode F, neither grey nor RGB"),
        (lambda f: picture(9, 9).save(f / "5.png"), r"5\.png: is in no sub-folder"),
    ],
)
def test_a_picture_that_cannot_be_packed_is_one_line_and_leaves_no_file(tree, spoil, says, workers):
    spoil(tree)
    with pytest.raises(DataError, match=says) as caught:
        packing.pack(tree, tree.parent / "out.h5", 8, "edm", workers)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tree.parent.iterdir()] == ["tree"]


def batches(folder, names, side=4, first=1):
    folder.mkdir(exist_ok=True)
    rows = RANDOM.randint(0, 256, (3 * len(names), 3 * side * side)).astype(np.uint8)
    labels = [(i % 5) + first for i in range(len(rows))]
    for i, name in enumerate(names):
        content = {"data": rows[3 * i : 3 * i + 3], "labels": labels[3 * i : 3 * i + 3]}
        if name.endswith(".npz"):
            np.savez(folder / name, **content)
        else:
            (folder / name).write_bytes(pickle.dumps({**content, "mean": rows.mean(0)}, 2))
    return rows.reshape(-1, 3, side, side), [label - 1 for label in labels]


@pytest.mark.parametrize("ending", ["", ".npz"])
def test_batches_of_the_downsampled_imagenet_are_taken_in_order_as_they_are(tmp_path, ending):
    names = [f"train_data_batch_{i}{ending}" for i in (1, 2, 10)]
    images, labels = batches(tmp_path / "in", [*names, f"val_data{ending}"])
    assert packing.pack(tmp_path / "in", tmp_path / "out.h5", 4, "edm") == 9
    data = Hdf5(path=tmp_path / "out.h5", labels=True).build(Setup())
    assert np.array_equal(data.x.numpy(), images[:9]) and data.cond["label"].tolist() == labels[:9]
    assert np.array_equal(data.held_out.x.numpy(), images[9:])
    assert verifying.described(tmp_path / "out.h5")["crop"] == "none"


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda f: batches(f, ["train_data_batch_1"], side=8), "has images of 8x8; use --size 8"),
        (lambda f: batches(f, ["train_data_batch_1"], first=0), "has no labels from 1 on"),
        (lambda f: (f.mkdir(), (f / "train_data_batch_1.npz").write_bytes(b"no")), "is no readable batch"),
        (lambda f: (f.mkdir(), (f / "train_data_batch_1").write_bytes(b"\x80\x04")), "is no readable pickle"),
        (lambda f: f.mkdir(), "has no pictures"),
        (lambda f: None, "no such folder"),
    ],
)
def test_batches_that_do_not_fit_are_one_line_and_leave_no_file(tmp_path, prepare, says):
    prepare(tmp_path / "in")
    with pytest.raises(DataError, match=says):
        packing.pack(tmp_path / "in", tmp_path / "out.h5", 4, "edm")
    assert not list(tmp_path.glob("*.h5")) and not list(tmp_path.glob(".out*"))


def test_an_npz_with_objects_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in/train_data_batch_1.npz", data=np.array([{}], object), labels=[1])
    with pytest.raises(DataError, match="is no readable batch"):
        packing.pack(tmp_path / "in", tmp_path / "out.h5", 4, "edm")


def run(capsys, *argv):
    with pytest.raises(SystemExit) as done:
        cli.main([*argv])
    return done.value.code, *capsys.readouterr()


def test_the_commands_pack_tell_and_verify(tree, capsys):
    code, out, err = run(capsys, "data", "pack", "tree", "out.h5", "--size", "8", "--workers", "1")
    assert (code, out) == (0, "out.h5: 5 images of 8x8\n") and err.count("\n") == 1
    assert "5 pictures used; with transparent pixels, laid over black: 1; in CMYK, " in err
    assert json.loads(run(capsys, "data", "info", "out.h5", "--json")[1])["crop"] == "edm"
    code, out, err = run(capsys, "data", "verify", "out.h5")
    assert code == 0 and "train/images: " in out and err == ""
    for argv, expected, says in [
        (["tree", "out.h5", "--size", "8"], 4, "is there already"),
        (["tree", "new.h5", "--size", "8", "--crop", "middle"], 2, "there is no 'middle'"),
    ]:
        code, out, err = run(capsys, "data", "pack", *argv)
        assert (code, out) == (expected, "") and says in err and err.count("\n") == 1


def test_verification_finds_a_flipped_bit(tree, capsys):
    packing.pack(tree, tree.parent / "out.h5", 8, "edm")
    with h5py.File("out.h5") as file:
        place = file["train/images"].id.get_chunk_info(3).byte_offset
    raw = bytearray((tree.parent / "out.h5").read_bytes())
    raw[place + 5] ^= 1
    (tree.parent / "out.h5").write_bytes(raw)
    code, out, err = run(capsys, "data", "verify", "out.h5")
    assert code == 4 and out == "" and "/train/images: is damaged" in err and err.count("\n") == 1


def test_a_crop_that_is_not_there_is_told():
    with pytest.raises(RecipeError, match="there are edm, adm"):
        packing.pack(None, None, 8, "other")
