"""What is in a folder, a zip archive or tar shards: which members are pictures, and labels that come with them."""

from __future__ import annotations

import json
import struct
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from genkit.errors import DataError
from genkit_images.forms import form, no_folder
from genkit_images.layouts import counted
from genkit_images.members import AGAIN, MOST_BYTES, UNKNOWN, Array, Members, Place
from genkit_images.notices import refused
from genkit_images.walking import classes_of, left_out_by_name, of_classes, pictures_below

LABELS = "dataset.json"  # of StyleGAN's and EDM's data sets: {"labels": [[name, class], ...]}
CLASS = ".cls"  # of WebDataset's shards: a file with the class, beside the picture of the same key
LOCAL_HEAD = 30  # bytes of a member's own head in a zip archive, before its name


class Listed(NamedTuple):
    """Pictures, how much else there is by reason, and labels where files with such are there.

    `labels` has classes by a picture's name, or, of shards, by its key.
    """

    members: Members
    left_out: Counter[str]
    labels: dict[str, object] | None = None


def archives(path: Path) -> tuple[Path, ...]:
    """The archives that are read as a data set: a zip or tar file, or the shards of a folder without pictures.

    Raises:
        DataError: It is another file, or nothing.
    """
    if path.is_file():
        if form(path)[0] in ("a zip archive", "a tar archive") or path.suffix == ".tar":
            return (path,)
        raise no_folder(path)
    return tuple(sorted(path.glob("*.tar")))


def listed(path: Path) -> Listed:
    """All pictures of a folder, a zip archive, a tar file, or a folder of tar shards, by name.

    Raises:
        DataError: It has none, or is damaged.
    """
    files = archives(path)
    if path.is_file():
        return _of_zip(path) if form(path)[0] == "a zip archive" else _of_tars(path, files)
    names, left_out = pictures_below(path, may_be_empty=bool(files))
    if not names:
        return _of_tars(path, files)
    labels = path / LABELS
    given = None
    if labels.is_file():
        left_out -= Counter({labels.suffix: 1})
        with _damage(labels):
            given = _labels_of(labels, labels.read_bytes())
    return Listed(Members.of(path, (), [Place(name) for name in names]), left_out, given)


def _of_zip(path: Path) -> Listed:
    left_out: Counter[str] = Counter()
    with _damage(path), zipfile.ZipFile(path) as archive, path.open("rb") as file:
        infos = {info.filename: info for info in archive.infolist() if not info.is_dir()}  # of namesakes the last
        given = _labels_of(path / LABELS, archive.read(LABELS)) if infos.pop(LABELS, None) else None
        places = [_in_zip(path, file, info) for name, info in infos.items() if _taken(name, left_out)]
    return _listed(path, (path,), [places], left_out, given)


def _in_zip(path: Path, file: BinaryIO, info: zipfile.ZipInfo) -> Place:
    where = f"{path}/{info.filename}"
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(where, "is encrypted, or packed by a rare method", "pack it anew, stored or deflated")
    if max(info.file_size, info.compress_size) > MOST_BYTES:
        raise DataError(where, f"has {info.file_size:,} bytes, which no picture has", "remove it")
    file.seek(info.header_offset)
    head = file.read(LOCAL_HEAD)
    if len(head) < LOCAL_HEAD or not head.startswith(b"PK\3\4"):
        raise DataError(where, "is damaged (it has no head of its own)", AGAIN)
    offset = info.header_offset + LOCAL_HEAD + sum(struct.unpack("<HH", head[26:]))
    packed = UNKNOWN if info.compress_type == zipfile.ZIP_STORED else info.compress_size
    return Place(info.filename, 0, offset, packed, info.file_size, info.CRC)


def _of_tars(path: Path, files: tuple[Path, ...]) -> Listed:
    left_out: Counter[str] = Counter()
    labels: dict[str, object] = {}
    given: dict[str, object] | None = None
    shards = []
    for i, file in enumerate(files):
        places = {}
        for member, stream in _in_tar(file):
            if member.name == LABELS:
                given = _labels_of(file / LABELS, stream.read(MOST_BYTES))
            elif member.name.endswith(CLASS):
                labels[key_of(member.name)] = _class_of(f"{file}/{member.name}", stream.read(100))
            elif _taken(member.name, left_out):
                if member.size > MOST_BYTES:
                    raise DataError(
                        f"{file}/{member.name}", f"has {member.size:,} bytes, which no picture has", "remove it"
                    )
                places[member.name] = Place(member.name, i, member.offset_data, UNKNOWN, member.size)
        shards.append(list(places.values()))
    return _listed(path, files, shards, left_out, given or labels or None)


def _in_tar(file: Path) -> Iterator[tuple[tarfile.TarInfo, tarfile.ExFileObject]]:
    """The files of a tar archive, which is all there.

    Raises:
        DataError: It is compressed, damaged, or ends early; tarfile alone would take what stands before that.
    """
    with _damage(file), tarfile.open(file, "r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else it keeps all of them
            if member.isreg() and not member.issparse() and (stream := archive.extractfile(member)):
                member.name = member.name.removeprefix("./")
                yield member, stream
        archive.fileobj.seek(archive.offset)  # type: ignore[union-attr]
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # type: ignore[union-attr]
            raise DataError(file, f"is damaged, or ends early, at byte {archive.offset:,}", AGAIN)


def _taken(name: str, left_out: Counter[str]) -> bool:
    reason = left_out_by_name(name)
    left_out[reason] += bool(reason)
    return not reason


def _listed(
    path: Path,
    files: tuple[Path, ...],
    shards: list[list[Place]],
    left_out: Counter[str],
    labels: dict[str, object] | None,
) -> Listed:
    places = [place for shard in shards for place in sorted(shard)]
    if not places:
        raise DataError(path, "has no pictures", "give an archive of PNG, JPEG, WebP, … files")
    return Listed(Members.of(path, files, places), +left_out, labels)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """One line for whatever is raised over a damaged archive."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        if not error.errno:
            raise DataError(path, f"is damaged ({error})", AGAIN) from error
        raise DataError(path, f"cannot be read ({error.strerror})", "mend its rights, or copy it elsewhere") from error
    except Exception as error:  # BadZipFile, ReadError, ValueError, struct.error, … as the bytes happen to be
        raise DataError(path, f"is damaged ({' '.join(str(error).split())[:120]})", AGAIN) from error


def key_of(name: str) -> str:
    """What the members of a sample share in WebDataset's shards: the name up to the first dot behind the last slash."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _class_of(where: str, text: bytes) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise DataError(where, f"has no number of a class, but {text[:20]!r}", "write 0, 1, …") from error


def _labels_of(where: Path, text: bytes) -> dict[str, object] | None:
    """Classes by name of a `dataset.json`; None where it says that there are none.

    Raises:
        DataError: It is none such.
    """
    try:
        found = json.loads(text)["labels"]
        return None if found is None else {str(name).replace("\\", "/"): label for name, label in found}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        what = 'is no {"labels": [[name, class], ...]}'
        raise DataError(where, what, "mend it, or remove it to take sub-folders as classes") from error


def labelled(found: Listed) -> tuple[Array, int, tuple[str, ...]]:
    """Labels, int64 (N,), how many classes, and notices: of files with labels, else of sub-folders.

    Raises:
        DataError: A picture has none, or they are no classes.
    """
    names, where = found.members.all_names(), found.members.folder
    if found.labels is None:
        labels, classes = classes_of(where, names)
        return labels, len(classes), of_classes(where, classes) if where.is_dir() and not found.members.files else ()
    given = [found.labels.get(name, found.labels.get(key_of(name))) for name in names]
    without = [name for name, label in zip(names, given, strict=True) if type(label) is not int]
    if without:
        hint = f"number its class in {LABELS}, or in a {CLASS} file beside it"
        raise refused(where, [DataError(where / name, "has no class", hint) for name in without], len(names))
    if not -(2**63) <= min(given) <= max(given) < 2**63:  # type: ignore[type-var]
        raise DataError(where, f"has labels {min(given)} … {max(given)}", "number the classes 0, 1, …")  # type: ignore[type-var]
    return counted(f"{where}: labels", np.array(given, np.int64))
