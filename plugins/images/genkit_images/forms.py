"""What a file is whose name promises something else: told by its first bytes, so that the cause is the right one."""

from __future__ import annotations

from pathlib import Path

from genkit.errors import DataError

ARCHIVE = "unpack it, and give the folder with its pictures"
READ = "its pictures are the data set image-folder"
ARRAYS = (
    'write its arrays as HDF5, such as h5py.File("images.h5", "w")["images"] = numpy.load("{name}")["arr_0"], '
    "and use the data set hdf5"
)
FOLDER = "pictures below a folder are the data set image-folder"
SIGNS = {
    b"PK": ("a zip archive", READ),
    b"\x1f\x8b": ("a gzip archive", ARCHIVE),
    b"BZh": ("a bzip2 archive", ARCHIVE),
    b"\xfd7zXZ": ("an xz archive", ARCHIVE),
    b"7z\xbc\xaf": ("a 7z archive", ARCHIVE),
    b"Rar!": ("a rar archive", ARCHIVE),
    b"\x28\xb5\x2f\xfd": ("a zstd archive", ARCHIVE),
    b"\x89HDF": ("an HDF5 file", "use the data set hdf5"),
    b"\x93NUMPY": ("an array of numpy's", ARRAYS),
    b"\x89PNG": ("a picture", "give the folder that it is in"),
    b"\xff\xd8\xff": ("a picture", "give the folder that it is in"),
    b"GIF8": ("a picture", "give the folder that it is in"),
}
ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")


def form(path: Path) -> tuple[str, str]:
    """What a file is, and what to do with it here; empty where its first bytes say nothing.

    Raises:
        DataError: It must not be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(262)
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "mend its rights, or copy it elsewhere") from error
    if head[257:] == b"ustar":
        return "a tar archive", READ
    what, hint = next((told for sign, told in SIGNS.items() if head.startswith(sign)), ("", ""))
    if what == "a zip archive" and path.suffix == ".npz":
        what, hint = "a set of numpy's arrays", ARRAYS
    return what, hint.replace("{name}", path.name)


def no_folder(path: Path) -> DataError:
    """Why a path is no folder with pictures: what it is instead, or what is there beside it."""
    if path.is_file():
        what, hint = form(path)
        return DataError(path, f"is {what or 'a file'}, not a folder", hint or "give the folder that has the pictures")
    for beside in (path.with_name(f"{path.name}{ending}") for ending in ENDINGS):
        if beside.is_file():
            hint = f"give {beside.name}" if beside.suffix in (".zip", ".tar") else f"unpack {beside.name}"
            return DataError(path, f"no such folder, though {beside.name} is there", hint)
    return DataError(path, "no such folder", "check dataset.path")


def require_hdf5(path: Path) -> None:
    """Refuse what is known to be something else; whether it is sound HDF5 is found as it is read.

    Raises:
        DataError: It is a folder, an archive, a picture, …
    """
    if path.is_dir():
        raise DataError(path, "is a folder, not an HDF5 file", FOLDER)
    what, hint = form(path) if path.is_file() else ("", "")
    if what and what != "an HDF5 file":
        raise DataError(path, f"is {what}, not HDF5", hint)
