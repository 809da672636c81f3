"""Claims about `genkit data info`, and about files that are something else than their place asks for."""

from __future__ import annotations

import json
import shlex
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from genkit import cli
from genkit.data import hdf5
from genkit.errors import DataError
from genkit.kernel.loading import load_recipe
from genkit.kinds import Setup
from genkit_images import about
from genkit_images.folder import ImageFolder
from genkit_images.hdf5 import Hdf5

IMAGES = np.random.RandomState(0).randint(0, 256, (6, 4, 4, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """One of each sort, in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for i, pixels in enumerate(IMAGES):
        Image.fromarray(pixels).save(f"photos/{i}.png")
    Path("photos/notes.txt").write_text("")
    for name, mode in (("photos.tar", "w"), ("photos.tar.gz", "w:gz"), ("photos.tar.xz", "w:xz")):
        with tarfile.open(name, mode) as archive:
            archive.add("photos")
    with zipfile.ZipFile("photos.zip", "w") as archive:
        archive.write("photos/0.png")
    np.savez("samples.npz", arr_0=IMAGES, arr_1=np.arange(6))
    np.savez("objects.npz", arr_0=np.array([{}], object))
    np.save("samples.npy", IMAGES)
    hdf5.write(Path("images.h5"), {"images": IMAGES, "labels": np.arange(6), "extra": IMAGES}, {"title": "noise"})
    Path("junk.h5").write_bytes(b"hello")
    Path("torn.npz").write_bytes(Path("samples.npz").read_bytes()[:200])


def call(capsys, *argv):
    with pytest.raises(SystemExit) as done:
        cli.main(["data", "info", *argv])
    return done.value.code, *capsys.readouterr()


@pytest.mark.parametrize(("name", "count"), [("photos.zip", 1), ("photos.tar", 6)])
def test_an_archive_is_a_data_set(capsys, name, count):
    code, out, err = call(capsys, name)
    assert (code, err) == (0, "") and f"samples     {count}\n" in out
    assert f"genkit run ict_photos dataset.path={name}" in out


def test_a_folder_is_a_data_set(capsys):
    code, out, err = call(capsys, "photos")
    assert (code, err) == (0, "") and "samples     6\n" in out
    assert f"note: {Path.cwd()}/photos: 6 pictures used; left out: .txt: 1\n" in out and "note: " in out
    told = json.loads(call(capsys, "photos", "size=2", "grey=true", "--json")[1])
    assert (told["channels"], told["height"], len(told["notices"])) == (1, 2, 2)


def test_a_recipe_is_its_data_set(capsys):
    told = json.loads(call(capsys, "ict_digits", "--json")[1])
    assert (told["samples"], told["classes"]) == (1617, 0)
    assert json.loads(call(capsys, "ict_digits", "labels=true", "--json")[1])["classes"] == 10


def test_an_hdf5_file_says_what_of_it_would_be_used(capsys):
    code, out, err = call(capsys, "images.h5")
    assert (code, err) == (0, "") and "uint8 (6, 4, 4, 3)" in out and "noise" in out
    assert "note: used as images: images\nnote: images.h5: left out: extra\n" in out
    assert json.loads(call(capsys, "images.h5", "labels=true", "--json")[1])["classes"] == 6


def test_an_npz_is_told_by_the_heads_of_its_arrays(capsys):
    assert json.loads(call(capsys, "samples.npz", "--json")[1]) == {
        "arr_0": "uint8 (6, 4, 4, 3)",
        "arr_1": "int64 (6,)",
    }
    assert "object (1,)" in call(capsys, "objects.npz")[1]


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("photos.tar.gz", 4, "is a gzip archive, no data set; unpack it"),
        ("photos.tar.xz", 4, "is an xz archive, no data set; unpack it"),
        ("samples.npy", 4, "is an array of numpy's, no data set; write its arrays as HDF5"),
        ("photos/0.png", 4, "is a picture, no data set; give the folder that it is in"),
        ("junk.h5", 4, "cannot be read as HDF5"),
        ("torn.npz", 4, "cannot be read as .npz"),
        ("gone.zip", 4, "no such file"),
        ("gone.h5", 4, "no such file"),
        ("gone", 2, "is no data set, recipe, folder or file"),
        ("photos/notes.txt", 2, "is no data set, recipe, folder or file"),
    ],
)
def test_anything_else_is_one_line_with_the_right_cause(capsys, name, code, says):
    found, out, err = call(capsys, name)
    assert (found, out) == (code, "") and f"{name}: {says}" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("photos.tar.gz", "is a gzip archive, not a folder; unpack it"),
        ("photos/0.png", "is a picture, not a folder; give the folder that it is in"),
        ("images.h5", "is an HDF5 file, not a folder; use the data set hdf5"),
        ("photos/notes.txt", "is a file, not a folder"),
        ("nothing", "no such folder; check dataset.path"),
    ],
)
def test_what_is_no_folder_is_told_by_what_it_is(path, says):
    with pytest.raises(DataError, match=f"{path}: {says}"):
        ImageFolder(path=path).build(Setup(folder=Path.cwd()))


def test_an_archive_beside_a_folder_that_is_not_there_is_found():
    for picture in Path("photos").iterdir():
        picture.unlink()
    Path("photos").rmdir()
    with pytest.raises(DataError, match=r"no such folder, though photos\.zip is there; give photos\.zip"):
        ImageFolder(path="photos").build(Setup(folder=Path.cwd()))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("samples.npz", r'is a set of numpy.s arrays, not HDF5; write .*numpy\.load\("samples\.npz"\)\["arr_0"\]'),
        ("samples.npy", "is an array of numpy's, not HDF5"),
        ("photos.zip", "is a zip archive, not HDF5; its pictures are the data set image-folder"),
        ("photos", "is a folder, not an HDF5 file; .* image-folder"),
        ("photos/0.png", "is a picture, not HDF5"),
        ("junk.h5", "cannot be read as HDF5 .*, or give a file that is HDF5"),
        ("gone.h5", "no such file"),
    ],
)
def test_what_is_no_hdf5_is_told_by_what_it_is(path, says):
    with pytest.raises(DataError, match=says):
        Hdf5(path=path).build(Setup(folder=Path.cwd()))


def test_the_remedy_for_arrays_works():
    with h5py.File("images2.h5", "w") as file:
        file["images"] = np.load("samples.npz")["arr_0"]
    data = Hdf5(path="images2.h5").build(Setup(folder=Path.cwd()))
    assert np.array_equal(data.x.permute(0, 2, 3, 1).numpy(), IMAGES)


def test_a_folder_comes_with_the_line_that_learns_it(capsys):
    """Quoted, named as the folder, as many samples as pictures, as long as they bear; it is a recipe that runs."""
    Path("photos").rename("my photos")
    out = call(capsys, "my photos")[1]
    line = "genkit run ict_photos 'dataset.path=my photos' dataset.size=4 name=my-photos evaluate.samples=6"
    line += " train.steps=500"
    assert out.splitlines()[-1] == f"to learn them: {line}"
    recipe = load_recipe("ict_photos", shlex.split(line)[3:])
    assert (recipe.name, recipe.dataset.size, recipe.evaluate.samples) == ("my-photos", 4, 6)


def test_a_photo_is_met_a_hundred_times_until_the_recipe_is_long_enough():
    def line(photos):
        return about.learning(Path("p"), {"height": 64, "width": 48, "samples": photos}).split()[-2:]

    assert line(1000) == ["evaluate.samples=1000", "train.steps=6250"]
    recipe = load_recipe("ict_photos", overrides=["dataset.path=p"])
    assert (recipe.train.steps, recipe.train.batch_size) == (12_000, 16)
    assert line(1920) == ["name=p", "evaluate.samples=1920"] and line(9999)[-1] == "evaluate.samples=5000"
