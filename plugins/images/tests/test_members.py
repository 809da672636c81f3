"""Claims about pictures in archives, and about those that are too many to hold: the same data, wherever they lie."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genkit.data import Resident, batches
from genkit.errors import DataError
from genkit.keys import Key
from genkit.kinds import Setup
from genkit_images.folder import ImageFolder
from genkit_images.streaming import Streamed

RANDOM = np.random.RandomState(0)
PIXELS = {f"{'ab'[i % 2]}/{i:03}.png": RANDOM.randint(0, 256, (8, 8, 3)).astype(np.uint8) for i in range(60)}
NAMES = sorted(PIXELS)


def png(pixels: np.ndarray) -> bytes:
    Image.fromarray(pixels).save(buffer := io.BytesIO(), format="PNG")
    return buffer.getvalue()


FILES = {name: png(pixels) for name, pixels in PIXELS.items()}


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in reversed(files.items()):
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def shards(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    names = sorted(files)
    for i in range(3):
        tarred(path / f"{i:05}.tar", {name: files[name] for name in names[i * 20 : (i + 1) * 20]})
    return path


@pytest.fixture
def places(tmp_path) -> dict[str, Path]:
    """The same pictures in every place."""
    return {
        "folder": folder(tmp_path / "folder", FILES),
        "zip": zipped(tmp_path / "stored.zip", FILES),
        "deflated": zipped(tmp_path / "deflated.zip", FILES, zipfile.ZIP_DEFLATED),
        "tar": tarred(tmp_path / "all.tar", {f"./{name}": content for name, content in FILES.items()}),
        "shards": shards(tmp_path / "shards", FILES),
    }


def build(path: Path, **settings):
    setup = Setup(cache_dir=path.parent / "cache")
    return ImageFolder(path=path, **{"held_out": 0.3, "labels": True, **settings}).build(setup)


def complaint(path: Path, **settings) -> str:
    with pytest.raises(DataError) as caught:
        build(path, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def everything(data) -> torch.Tensor:
    return data.batch(torch.arange(len(data)), Key(0)).x


def test_the_same_pictures_are_the_same_data_wherever_they_lie_and_however_they_are_read(places):
    whole = build(places["folder"])
    assert isinstance(whole, Resident) and len(whole) + len(whole.held_out) == 60 and len(whole.held_out) >= 16
    for path in places.values():
        for settings in ({}, {"max_gib": 0, "workers": 0}, {"max_gib": 0, "workers": 2}):
            data = build(path, **settings)
            assert isinstance(data, Streamed) == bool(settings)
            assert (data.identity, data.held_out.identity) == (whole.identity, whole.held_out.identity)
            assert data.spec == whole.spec and len(data) == len(whole)
            stream, expected = batches(data, 0, 3, 16), batches(whole, 0, 3, 16)
            for _ in range(6):
                a, b = next(stream), next(expected)
                assert torch.equal(a.x, b.x) and torch.equal(a.cond["label"], b.cond["label"])
            stream.close()
            assert torch.equal(everything(data.held_out), everything(whole.held_out))


@pytest.mark.parametrize("settings", [{"size": 4}, {"grey": True}, {"held_out": 0.0}, {"labels": False}])
def test_settings_mean_the_same_for_what_is_streamed(places, settings):
    whole = build(places["zip"], **settings)
    data = build(places["zip"], max_gib=0, **settings)
    assert (
        data.identity == whole.identity and data.spec == whole.spec and torch.equal(everything(data), everything(whole))
    )


@pytest.mark.parametrize("coloured", [(), (0,), (59,)])
def test_pictures_without_colour_have_one_channel_only_if_all_have_none(tmp_path, coloured):
    files = dict(FILES)
    for i, name in enumerate(NAMES):
        if i not in coloured:
            files[name] = png(np.repeat(PIXELS[name][..., :1], 3, axis=2))
    path = zipped(tmp_path / "grey.zip", files)
    whole, data = build(path), build(path, max_gib=0)
    assert data.spec.channels == (3 if coloured else 1)
    assert (data.identity, data.spec, data.notices) == (whole.identity, whole.spec, whole.notices)
    assert torch.equal(everything(data), everything(whole))


def test_what_is_streamed_is_read_through_once_and_again_where_it_has_changed(places, capsys):
    first = build(places["shards"], max_gib=0)
    assert "reading all of" in capsys.readouterr().err
    again = build(places["shards"], max_gib=0)
    assert capsys.readouterr().err == "" and again.identity == first.identity and again.notices == first.notices
    changed = dict(FILES) | {NAMES[59]: FILES[NAMES[0]]}
    tarred(places["shards"] / "00002.tar", {name: changed[name] for name in NAMES[40:]})
    other = build(places["shards"], max_gib=0)
    assert "reading all of" in capsys.readouterr().err
    assert (other.identity, other.held_out.identity) != (first.identity, first.held_out.identity)


def test_classes_of_a_dataset_json_come_before_sub_folders(tmp_path):
    labels = {"labels": [[name.replace("/", "\\"), i % 5] for i, name in enumerate(NAMES)]}
    files = {**FILES, "dataset.json": json.dumps(labels).encode()}
    for path in (
        folder(tmp_path / "folder", files),
        zipped(tmp_path / "x.zip", files),
        tarred(tmp_path / "x.tar", files),
    ):
        data = build(path, held_out=0.0)
        assert data.cond["label"].tolist() == [i % 5 for i in range(60)] and data.spec.classes == 5
        assert build(path, held_out=0.0, labels=False).spec.classes == 0
        assert not any("left out" in notice for notice in data.notices)


def test_classes_of_shards_are_those_of_the_same_key(tmp_path):
    files = {f"{i:04}.png": content for i, content in enumerate(FILES.values())}
    files |= {f"{i:04}.cls": f"{i % 3}\n".encode() for i in range(60)}
    for max_gib in (4.0, 0.0):
        data = build(tarred(tmp_path / "x.tar", files), held_out=0.0, max_gib=max_gib)
        assert data.batch(torch.arange(60), Key(0)).cond["label"].tolist() == [i % 3 for i in range(60)]
    del files["0007.cls"]
    assert f"{tmp_path}/y.tar/0007.png: has no class" in complaint(tarred(tmp_path / "y.tar", files))
    files["0007.cls"] = b"seven"
    assert f"{tmp_path}/z.tar/0007.cls: has no number of a class" in complaint(tarred(tmp_path / "z.tar", files))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"labels": null}', ""),
        ('{"labels": 3}', "dataset.json: is no {"),
        ("[", "dataset.json: is no {"),
        ('{"labels": [["a/000.png", 0]]}', "59 of 60 pictures cannot be used (has no class"),
        ('{"labels": [["a/000.png", "cat"]]}', "60 of 60 pictures cannot be used (has no class"),
    ],
)
def test_a_dataset_json_that_does_not_fit_is_one_line(tmp_path, text, says):
    path = zipped(tmp_path / "x.zip", {**FILES, "dataset.json": text.encode()})
    if says:
        assert says in complaint(path)
    else:
        assert build(path).spec.classes == 2  # the sub-folders


def hurt(path: Path, at: int, value: int | None = None) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] = raw[at] ^ 1 if value is None else value
    stat = path.stat()
    path.write_bytes(raw)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("kind", ["zip", "deflated", "tar"])
def test_a_damaged_member_is_named_with_its_file(places, kind):
    path, name = places[kind], "b/031.png"
    streamed = build(path, max_gib=0, workers=0)
    hurt(path, path.read_bytes().index(name.encode()) + (600 if kind == "tar" else 60))
    whole = complaint(path) if kind != "tar" else ""  # tar has no checksums: Pillow may take what it finds
    assert kind == "tar" or f"{path}/{name}: is damaged" in whole
    with pytest.raises(DataError, match=rf"{path}/{name}: is damaged.*; copy or download it again") as caught:
        everything(streamed), everything(streamed.held_out)
    assert "\n" not in str(caught.value)


def test_a_file_that_changed_since_it_was_read_through_is_named(places):
    data = build(places["folder"], max_gib=0, held_out=0.0)
    (places["folder"] / "a/010.png").write_bytes(FILES["a/012.png"])
    with pytest.raises(DataError, match=r"folder/a/010\.png: is damaged"):
        everything(data)
    (places["folder"] / "a/010.png").unlink()
    with pytest.raises(DataError, match=r"folder/a/010\.png: cannot be read \(No such file or directory\)"):
        everything(data)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_that_ends_early_is_one_line(places, kind, share):
    path = places[kind]
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "is damaged" in complaint(path)


def test_a_tar_that_is_cut_between_two_members_is_not_taken_for_whole(tmp_path):
    path = tarred(tmp_path / "x.tar", FILES)
    with tarfile.open(path) as archive:
        at = archive.getmembers()[30].offset
    whole = path.read_bytes()
    path.write_bytes(whole[:at])
    assert f"x.tar: is damaged, or ends early, at byte {at:,}" in complaint(path)
    path.write_bytes(whole[:at] + b"x" * 512 + whole[at + 512 :])
    assert "x.tar: is damaged" in complaint(path)


def test_damage_anywhere_in_a_zip_is_one_line(places, tmp_path):
    whole, chance, told = places["zip"].read_bytes(), np.random.RandomState(1), 0
    for i in range(60):
        raw = bytearray(whole)
        for at in chance.randint(len(raw) - 6000 if i % 2 else 0, len(raw), 5):
            raw[at] = chance.randint(256)
        (tmp_path / "bad.zip").write_bytes(raw)
        try:
            build(tmp_path / "bad.zip")
        except DataError as error:
            told += "bad.zip" in str(error) and "\n" not in str(error)
    assert told > 20


def test_a_member_that_unpacks_to_more_than_it_says_is_refused(tmp_path):
    path = zipped(tmp_path / "bomb.zip", {"a/1.png": bytes(10**6)}, zipfile.ZIP_DEFLATED)
    raw = bytearray(path.read_bytes())
    for sign, field in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        at = raw.index(sign) + field
        raw[at : at + 4] = struct.pack("<I", 100)
    path.write_bytes(raw)
    assert "bomb.zip/a/1.png: is damaged (it has 101 bytes, not 100)" in complaint(path)


def test_what_is_no_picture_is_counted_and_archives_without_any_are_refused(tmp_path):
    extra = {"__MACOSX/._a.png": b"", "a/notes.txt": b"", ".hidden/b.png": b""}
    data = build(zipped(tmp_path / "x.zip", {**FILES, **extra}))
    assert "60 pictures used; left out: hidden: 2, .txt: 1" in data.notices[0]
    assert "y.zip: has no pictures" in complaint(zipped(tmp_path / "y.zip", extra))
    assert "y.tar: has no pictures" in complaint(tarred(tmp_path / "y.tar", extra))


def test_tar_files_beside_pictures_are_left_out_as_before(places):
    tarred(places["folder"] / "old.tar", {"z.png": FILES[NAMES[0]]})
    data = build(places["folder"])
    assert len(data) + len(data.held_out) == 60 and "left out: .tar: 1" in data.notices[0]
