"""Claims about what a data set says of itself: what is left out, converted, odd, or wrong, all at once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genkit.data import hdf5
from genkit.errors import DataError
from genkit.kinds import Setup
from genkit_images import packing, walking
from genkit_images.folder import ImageFolder
from genkit_images.hdf5 import Hdf5
from genkit_images.published import ImageNet64

RANDOM = np.random.RandomState(0)


def picture(mode="RGB", width=8, height=8):
    return Image.fromarray(RANDOM.randint(0, 256, (height, width, 3)).astype(np.uint8)).convert(mode)


def fill(folder: Path, *names: str, **options) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(**options).save(folder / name)
    return folder


def build(path: Path, **settings):
    return ImageFolder(path=path, **{"held_out": 0.0, **settings}).build(Setup())


def complaint(path: Path, **settings) -> str:
    with pytest.raises(DataError) as caught:
        build(path, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- left out ------------------------------------------------------------------------------------


def test_pictures_of_every_format_are_used_whatever_the_case_of_their_ending(tmp_path):
    names = [f"{ending[1:]}{ending.upper() if i % 2 else ending}" for i, ending in enumerate(walking.EXTENSIONS)]
    for name in names:
        picture("1").save(tmp_path / name)  # of one bit: PBM's pictures have no more
    assert len(build(tmp_path)) == len(walking.EXTENSIONS) == 14


def test_what_is_left_out_is_counted_by_reason_in_one_notice(tmp_path):
    fill(tmp_path, "a.png", "b.PNG", "g.gif", "t.tif", ".hidden.png", ".thumbnails/c.png")
    for name in ("x.heic", "y.heic", "notes.txt", "README", "odd.b\x1b\nd"):
        (tmp_path / name).write_text("other")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link").symlink_to(tmp_path.parent)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    data = build(tmp_path)
    assert len(data) == 4
    assert data.notices[0] == (
        f"{tmp_path}: 4 pictures used; left out: .heic: 2, empty folders: 2, hidden: 2, .b\\x1b\\nd: 1, .txt: 1, "
        "links to folders: 1, links to nothing: 1, no regular files: 1, without a suffix: 1"
    )


def test_more_kinds_than_ten_are_summed_up(tmp_path):
    fill(tmp_path, "a.png")
    for i in range(25):
        (tmp_path / f"x.{i:02}").write_text("")
    assert "left out: .00: 1, .01: 1," in (told := build(tmp_path).notices[0]) and ".09: 1, others: 15" in told


def test_folders_that_cannot_be_listed_are_counted(tmp_path, monkeypatch):
    fill(tmp_path, "a.png", "locked/b.png")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "left out: folders that must not be listed: 1" in build(tmp_path).notices[0]
    assert r"cannot be listed (Permission denied); mend its rights" in complaint(tmp_path / "locked")


def test_a_folder_of_other_things_says_which(tmp_path):
    (tmp_path / "a.heic").write_text("")
    assert "has no pictures, but other things (.heic: 1); genkit reads .bmp, " in complaint(tmp_path)


def test_what_is_used_as_it_is_needs_no_word(tmp_path):
    assert build(fill(tmp_path, *(f"{i:03}.png" for i in range(100)))).notices == ()


# ---- converted -----------------------------------------------------------------------------------


def test_turned_and_converted_pictures_are_counted(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    fill(tmp_path, "a.png")
    for i in range(12):
        picture().save(tmp_path / f"turned{i}.jpg", exif=exif)
    for i in range(3):
        Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / f"deep{i}.png")
    told = build(tmp_path).notices[0]
    assert "16 pictures used; turned by their EXIF tag: 12; of 16 bits a channel, of which the upper 8 are used" in told
    assert told.endswith("floor(v / 256): 3")


def test_grey_of_16_bits_is_the_upper_byte_in_one_channel(tmp_path):
    values = RANDOM.randint(0, 65536, (8, 8)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    data = build(tmp_path)
    assert np.array_equal(data.x[0, 0].numpy(), values >> 8) and data.spec.channels == 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "L", "1"])
def test_whether_pictures_are_grey_is_seen_in_their_pixels(tmp_path, mode):
    grey = picture("L")
    for i in range(100):
        grey.convert(mode).save(tmp_path / f"{i}.png")
    data = build(tmp_path)
    assert data.spec.channels == 1 and np.array_equal(data.x[0, 0].numpy(), np.asarray(grey.convert(mode).convert("L")))
    said = (
        f"{tmp_path}: 100 pictures used; stored in colour, though every pixel of all is grey, taken as one channel: 100"
    )
    assert data.notices == ((said,) if mode in ("RGB", "RGBA", "P") else ())
    one = grey.convert("RGB")
    one.putpixel((3, 3), (1, 2, 1))
    one.save(tmp_path / "colour.png")
    assert build(tmp_path).spec.channels == 3


# ---- few -----------------------------------------------------------------------------------------


def test_a_tiny_data_set_is_told_with_what_to_do(tmp_path):
    images = RANDOM.randint(0, 256, (99, 4, 4)).astype(np.uint8)
    hdf5.write(tmp_path / "few.h5", {"images": images}, {})
    hdf5.write(tmp_path / "enough.h5", {"images": np.concatenate([images, images[:1]])}, {})
    says = "only 99 images to train on, which a network learns by heart; add pictures"
    assert says in Hdf5(path=tmp_path / "few.h5").build(Setup()).notices[0]
    assert says in Hdf5(path=tmp_path / "few.h5", max_gib=0).build(Setup()).notices[0]
    assert Hdf5(path=tmp_path / "enough.h5").build(Setup()).notices == ()
    assert "only 1 image to train on" in build(fill(tmp_path / "one", "a.png")).notices[0]


# ---- wrong ---------------------------------------------------------------------------------------


def test_all_damaged_pictures_are_told_at_once_the_first_ten_by_name(tmp_path):
    fill(tmp_path, "ok.png", "wide.png")
    picture(width=9).save(tmp_path / "wide.png")
    for i in range(300):
        (tmp_path / f"{i:03}.png").write_bytes(b"broken")
    line = complaint(tmp_path)
    assert f"{tmp_path}: 301 of 302 pictures cannot be used (is no readable picture" in line
    assert "000.png, 001.png" in line and "009.png, and 290 more; is 9x8, but " in line and "010.png" not in line
    assert line.endswith("replace or remove it; set dataset.size, or make all pictures the same size")
    (tmp_path / "ok.png").unlink()
    (tmp_path / "wide.png").unlink()
    assert "300 of 300 pictures cannot be used" in complaint(tmp_path)


def test_all_pictures_without_a_class_are_told_at_once(tmp_path):
    fill(tmp_path, "a/1.png", *(f"{i}.png" for i in range(12)))
    line = complaint(tmp_path, labels=True)
    assert "12 of 13 pictures cannot be used (is in no sub-folder, so it has no class: 0.png, " in line
    assert "and 2 more" in line


@pytest.mark.parametrize("workers", [1, 2])
def test_packing_tells_all_at_once_and_what_it_leaves_out(tmp_path, workers):
    fill(tmp_path / "in", "a/1.png", "b/2.png", width=20)
    (tmp_path / "in/a/notes.txt").write_text("")
    (tmp_path / "in/c").mkdir()
    said: list[str] = []
    assert packing.pack(tmp_path / "in", tmp_path / "out.h5", 4, "edm", workers, said.append) == 2
    assert said == [
        f"{tmp_path}/in: 2 pictures used; left out: .txt: 1, empty folders: 1",
        f"{tmp_path}/in: sub-folders without pictures are no classes: c",
    ]
    for i in range(30):
        (tmp_path / f"in/b/_{i}.png").write_bytes(b"")
    says = r"30 of 32 pictures cannot be used \(is no readable picture \(it is empty\): b/_0.png, .*, and 20 more\)"
    with pytest.raises(DataError, match=says):
        packing.pack(tmp_path / "in", tmp_path / "new.h5", 4, "edm", workers)
    assert not (tmp_path / "new.h5").exists()


def test_pictures_that_need_more_memory_than_there_is_are_refused_before(tmp_path, monkeypatch):
    fill(tmp_path, "a.png", "b.png", width=100, height=50)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 100, "SC_PHYS_PAGES": 299}[name])
    assert "2 pictures of 100x50: needs 0.0 GiB of memory, there are 0.0; set dataset.size, or" in complaint(tmp_path)
    assert len(build(tmp_path, size=50)) == 2


# ---- classes -------------------------------------------------------------------------------------


def test_classes_of_folders_that_are_easily_mistaken_are_told(tmp_path):
    fill(tmp_path, "Cat/1.png", "cat/1.png", "dog/1.png", ".git/1.png")
    (tmp_path / "bird").mkdir()
    (tmp_path / "bird/a.heic").write_text("")
    notices = build(tmp_path, labels=True).notices
    assert f"{tmp_path}: sub-folders without pictures are no classes: bird" in notices
    assert f"{tmp_path}: names that differ in their case are different classes: Cat, cat" in notices
    assert not any("different" in notice or "bird" in notice for notice in build(tmp_path).notices)


def labelled(path: Path, labels, count=100, **attributes):
    images = RANDOM.randint(0, 256, (count, 4, 4)).astype(np.uint8)
    hdf5.write(path, {"images": images, "labels": np.asarray(labels)}, attributes)
    return Hdf5(path=path, labels=True)


@pytest.mark.parametrize("largest", [10**9, 2**40, 2**62, np.uint64(2**64 - 1), 100_000])
def test_labels_that_count_nothing_are_refused_before_memory_is_asked_for(tmp_path, largest):
    kind = np.uint64 if largest > 2**63 else np.int64
    data = labelled(tmp_path / "big.h5", np.array([0] * 99 + [largest], kind))
    with pytest.raises(
        DataError, match=rf"labels up to {largest}, and {int(largest) + 1} classes for 100 im"
    ) as caught:
        data.build(Setup())
    assert "numpy.unique(labels, return_inverse=True)" in caught.value.hint and "\n" not in str(caught.value)


def test_many_classes_are_fine_where_a_thousand_are_known_or_images_are_as_many(tmp_path, monkeypatch):
    assert labelled(tmp_path / "a.h5", np.arange(100) * 1009).build(Setup()).spec.classes == 99 * 1009 + 1
    monkeypatch.setattr("genkit_images.layouts.MOST", 10)
    assert labelled(tmp_path / "b.h5", np.arange(100)).build(Setup()).notices == ()


def test_labels_that_begin_at_1_and_classes_without_images_are_told(tmp_path):
    one = labelled(tmp_path / "one.h5", np.arange(100) % 10 + 1).build(Setup())
    assert one.spec.classes == 11
    assert one.notices[0].endswith("labels begin at 1, so class 0 has no images; subtract 1 to number them from 0")
    gaps = labelled(tmp_path / "gaps.h5", np.arange(100) % 2 * 3).build(Setup())
    assert "2 of 4 classes have no images: 1, 2; leave them out" in gaps.notices[0]
    named = labelled(tmp_path / "named.h5", np.zeros(100, int), classes=["a", "b"]).build(Setup())
    assert "1 of 2 classes have no images: 1;" in named.notices[0]
    assert Hdf5(path=tmp_path / "one.h5").build(Setup()).notices == ()


def test_data_sets_made_of_others_pass_their_notices_on(tmp_path):
    arrays = {"train/images": np.zeros((4, 3, 64, 64), np.uint8), "train/labels": np.arange(4)}
    hdf5.write(tmp_path / "data/imagenet64.h5", {**arrays, "extra": np.zeros(3)}, {})
    notices = ImageNet64().build(Setup(cache_dir=tmp_path)).notices
    assert notices[0].endswith("left out: extra") and "only 4 images" in notices[1]


def test_notices_change_no_identity(tmp_path):
    fill(tmp_path, "a.png")
    before = build(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    after = build(tmp_path)
    assert before.identity == after.identity and torch.equal(before.x, after.x) and before.notices != after.notices
