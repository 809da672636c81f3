"""Files written whole or not at all, and what is said where they cannot be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from genkit.errors import DataError


@contextmanager
def replacing(path: Path, size: int = 0) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place if all goes well; else nothing is left.

    Args:
        size: Bytes that will be written, where that is known.

    Raises:
        DataError: It cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise unwritable(path, error, size) from error
    finally:
        with suppress(OSError):  # where there is no place, nothing is left
            partial.unlink(missing_ok=True)


def unwritable(path: Path, error: Exception, size: int = 0) -> DataError:
    """What to raise where a file cannot be written: why, what is free there and what is needed, what to do."""
    why = " ".join(str(getattr(error, "strerror", None) or error).split())[:160]
    folder = path.parent
    if not folder.exists():
        return DataError(path, f"cannot be written: {folder} is gone", "was it removed or renamed while this ran?")
    free = f"{shutil.disk_usage(folder).free:,} bytes are free there"
    needed = f", {size:,} are needed" if size else ""
    return DataError(path, f"cannot be written ({why}; {free}{needed})", "make room, or choose another place")


def write(path: Path, text: str) -> None:
    """A file of text, whole or not at all.

    Raises:
        DataError: It cannot be written.
    """
    content = text.encode("utf-8", "replace")
    with replacing(path, len(content)) as partial:
        partial.write_bytes(content)
