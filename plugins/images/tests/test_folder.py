"""Claims about image folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genkit.errors import DataError
from genkit.keys import Key
from genkit.kinds import Setup
from genkit_images.folder import ImageFolder


def picture(seed: int, width: int = 8, height: int = 8, mode: str = "RGB") -> Image.Image:
    pixels = np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def fill(folder: Path, names: list[str], **options) -> Path:
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed, **options).save(folder / name)
    return folder


def build(path: Path, setup: Setup | None = None, **settings):
    return ImageFolder(path=path, **{"held_out": 0.0, **settings}).build(setup or Setup())


def complaint(path: Path, **settings) -> str:
    with pytest.raises(DataError) as caught:
        build(path, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_picture_is_there_in_the_order_of_its_name(tmp_path):
    fill(tmp_path, ["b.png", "a/z.png", "a.bmp", "c.ppm"])
    data = build(tmp_path)
    expected = [np.asarray(picture(seed)).transpose(2, 0, 1) for seed in (2, 1, 0, 3)]
    assert np.array_equal(data.x.numpy(), np.stack(expected))
    assert data.spec.shape == (3, 8, 8)
    assert data.held_out is None


def test_other_and_hidden_files_are_left_out(tmp_path):
    fill(tmp_path, ["a.png", ".b.png", ".thumbnails/c.png"])
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    assert len(build(tmp_path)) == 1


def test_relative_paths_start_from_the_recipes_folder(tmp_path):
    fill(tmp_path / "photographs", ["a.png"])
    assert len(build(Path("photographs"), Setup(folder=tmp_path))) == 1


def test_identity_is_of_the_content_and_not_of_the_place(tmp_path):
    names = ["a.png", "b.png"]
    here, there = build(fill(tmp_path / "here", names)), build(fill(tmp_path / "there", names))
    assert here.identity == there.identity
    picture(7).save(tmp_path / "there" / "b.png")
    assert build(tmp_path / "there").identity != here.identity


def test_files_stay_on_their_side_when_others_are_added(tmp_path):
    names = [f"{i:03}.png" for i in range(200)]
    few = build(fill(tmp_path, names[::2]), held_out=0.3)
    more = build(fill(tmp_path, names[::2] + names[1::2]), held_out=0.3)

    def rows(data) -> set[bytes]:
        return {x.numpy().tobytes() for x in data.x}

    assert 16 <= len(few.held_out) <= 50
    assert rows(few) < rows(more)
    assert rows(few.held_out) < rows(more.held_out)
    assert not rows(more) & rows(more.held_out)


def test_too_few_held_out_pictures_are_trained_on(tmp_path):
    data = build(fill(tmp_path, [f"{i}.png" for i in range(12)]), held_out=0.5)
    assert data.held_out is None
    assert len(data) == 12


def test_size_is_the_centre_square_resized(tmp_path):
    fill(tmp_path, ["wide.png"], width=40, height=20)
    centre = picture(0, 40, 20).crop((10, 0, 30, 20))
    assert np.array_equal(build(tmp_path, size=20).x[0].permute(1, 2, 0).numpy(), np.asarray(centre))
    small = np.asarray(centre.resize((5, 5), Image.Resampling.LANCZOS))
    assert np.array_equal(build(tmp_path, size=5).x[0].permute(1, 2, 0).numpy(), small)


def test_pictures_of_several_sizes_need_a_size(tmp_path):
    fill(tmp_path, ["a.png", "c.png"])
    picture(0, width=9).save(tmp_path / "b.png")
    line = complaint(tmp_path)
    assert "b.png: is 9x8" in line
    assert "dataset.size" in line
    assert build(tmp_path, size=8).spec.shape == (3, 8, 8)


def test_grey_pictures_among_colours_become_rgb(tmp_path):
    picture(0, mode="L").save(tmp_path / "a.png")
    picture(1).save(tmp_path / "b.png")
    data = build(tmp_path)
    assert np.array_equal(data.x[0, 0].numpy(), np.asarray(picture(0, mode="L")))
    assert torch.equal(data.x[0, 0], data.x[0, 2])
    assert not torch.equal(data.x[1, 0], data.x[1, 2])


def test_only_grey_pictures_have_one_channel(tmp_path):
    data = build(fill(tmp_path, ["a.png", "b.png"], mode="L"))
    assert data.spec.channels == 1
    assert np.array_equal(data.x[1, 0].numpy(), np.asarray(picture(1, mode="L")))


def test_grey_makes_one_channel_of_luma(tmp_path):
    data = build(fill(tmp_path, ["a.png"]), grey=True)
    assert np.array_equal(data.x[0, 0].numpy(), np.asarray(picture(0).convert("L")))


def test_transparency_is_laid_over_black(tmp_path):
    pixels = np.full((8, 8, 4), 200, np.uint8)
    pixels[:4, :, 3], pixels[4:, :, 3] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    x = build(tmp_path).x[0]
    assert x[:, :4].unique().tolist() == [0]
    assert x[:, 4:].unique().tolist() == [200]


def test_photographs_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    picture(0, 12, 8).save(tmp_path / "a.png", exif=exif)
    assert build(tmp_path).spec.shape == (3, 12, 8)


def test_classes_are_the_sub_folders_in_sorted_order(tmp_path):
    data = build(fill(tmp_path, ["dog/1.png", "cat/1.png", "dog/old/2.png"]), labels=True)
    assert data.spec.classes == 2
    assert data.batch(torch.arange(3), Key(0)).cond["label"].tolist() == [0, 1, 1]
    assert data.cond["label"].dtype == torch.int64
    assert build(tmp_path).spec.classes == 0


def test_labels_follow_their_pictures_to_the_held_out_side(tmp_path):
    fill(tmp_path, [f"{c}/{i}.png" for c in "ab" for i in range(30)])
    data = build(tmp_path, labels=True, held_out=0.5)
    for part in (data, data.held_out):
        for x, label in zip(part.x, part.cond["label"].tolist(), strict=True):
            seeds = range(30 * label, 30 * label + 30)
            assert any(np.array_equal(x.numpy(), np.asarray(picture(s)).transpose(2, 0, 1)) for s in seeds)


def test_a_picture_outside_all_classes_is_named(tmp_path):
    assert "loose.png: is in no sub-folder" in complaint(fill(tmp_path, ["a/1.png", "loose.png"]), labels=True)


def test_flip_is_on_unless_turned_off(tmp_path):
    fill(tmp_path, ["a.png"])
    assert build(tmp_path).spec.flip
    assert not build(tmp_path, flip=False).spec.flip


def test_a_missing_folder_is_one_line(tmp_path):
    assert "nowhere: no such folder" in complaint(tmp_path / "nowhere")


def test_a_folder_without_pictures_is_one_line(tmp_path):
    assert "has no pictures" in complaint(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "text", "half", "other format"])
def test_a_broken_picture_is_named(tmp_path, damage):
    fill(tmp_path, [f"{i}.png" for i in range(5)])
    whole = (tmp_path / "3.png").read_bytes()
    if damage == "other format":
        picture(0).save(tmp_path / "3.png", format="ICO")
    else:
        (tmp_path / "3.png").write_bytes({"empty": b"", "text": b"hello", "half": whole[: len(whole) // 2]}[damage])
    assert "3.png: is no readable picture" in complaint(tmp_path)


@pytest.mark.parametrize("wrong", [{"held_out": 0.6}, {"held_out": -0.1}, {"size": 0}])
def test_settings_without_meaning_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ImageFolder(path=Path(), **wrong)
