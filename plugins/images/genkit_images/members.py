"""Pictures of a folder, a zip archive or tar shards: named, and read one by one where they lie. No torch here."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, overload

import attrs
import numpy as np

from genkit.errors import DataError

Array = np.ndarray[Any, Any]
UNKNOWN = -1
MOST_BYTES = 2**30  # of a picture's file
AGAIN = "copy or download it again"
PLACE = np.dtype(
    [("file", "<i4"), ("offset", "<i8"), ("packed", "<i8"), ("size", "<i8"), ("crc", "<i8"), ("name", "<i8")]
)


class Picture(NamedTuple):
    """A picture before decoding: how messages name it, and its file or its bytes."""

    name: str
    source: Path | bytes


class Place(NamedTuple):
    """Where a picture lies: in which archive, from which byte on, how many there; its own size and CRC-32.

    What is unknown is -1; a packed size of -1 is that of bytes which are stored as they are.
    """

    name: str
    file: int = 0
    offset: int = 0
    packed: int = UNKNOWN
    size: int = UNKNOWN
    crc: int = UNKNOWN


@attrs.frozen(eq=False)
class Members(Sequence[Picture]):
    """Pictures where they lie, in a few numbers each, so that millions of them are cheap to hold and to share.

    Attributes:
        folder: The folder, or the archive.
        files: The archives; none where pictures are files.
        table: A `PLACE` for each; its `name` is where in `names` that ends.
        names: All names, one after the other.
    """

    folder: Path
    files: tuple[Path, ...]
    table: Array
    names: bytes

    @classmethod
    def of(cls, folder: Path, files: Iterable[Path], places: Sequence[Place]) -> Members:
        names = [os.fsencode(place.name) for place in places]
        rows = [(*place[1:], end) for place, end in zip(places, accumulate(map(len, names)), strict=True)]
        return cls(folder, tuple(files), np.array(rows, PLACE), b"".join(names))

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, i: int) -> Picture: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Picture]: ...
    def __getitem__(self, i: Any) -> Any:
        """A picture. One of an archive, or whose checksum is known, is read.

        Raises:
            DataError: It cannot be read, or is damaged.
        """
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        if not self.files and self.table["crc"][i] == UNKNOWN:
            return Picture(self.shown(i), Path(self.shown(i)))
        return Picture(self.shown(i), self.read(i))

    def name(self, i: int) -> str:
        """Its name within the folder or archive."""
        start = self.table["name"][i - 1] if i else 0
        return os.fsdecode(self.names[start : self.table["name"][i]])

    def shown(self, i: int) -> str:
        """How messages name it: with the archive or folder that it is in."""
        return f"{self.files[self.table['file'][i]] if self.files else self.folder}/{self.name(i)}"

    def all_names(self) -> list[str]:
        return [self.name(i) for i in range(len(self))]

    def read(self, i: int) -> bytes:
        """The bytes of a picture's file.

        Raises:
            DataError: They cannot be read, or are not those that size and checksum are of.
        """
        _, offset, packed, size, crc, _ = self.table[i].tolist()
        try:
            raw = self._stored(i, offset, size if packed == UNKNOWN else packed)
            if packed != UNKNOWN:
                raw = zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, size + 1)
        except OSError as error:
            raise DataError(
                self.shown(i), f"cannot be read ({error.strerror})", "mend its rights, or restore it"
            ) from error
        except zlib.error as error:
            raise DataError(self.shown(i), f"is damaged ({error})", AGAIN) from error
        if size != UNKNOWN and len(raw) != size:
            raise DataError(self.shown(i), f"is damaged (it has {len(raw)} bytes, not {size})", AGAIN)
        if crc not in (UNKNOWN, zlib.crc32(raw)):
            raise DataError(self.shown(i), "is damaged, or was changed meanwhile (its CRC-32 differs)", AGAIN)
        return raw

    def _stored(self, i: int, offset: int, size: int) -> bytes:
        if not self.files:
            return Path(self.shown(i)).read_bytes()
        with self.files[self.table["file"][i]].open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)
