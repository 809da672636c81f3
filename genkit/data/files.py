"""Public files that plugins need, such as the weights of a feature network: listed, found, downloaded, verified.

A plugin describes a file by a `PublicFile` constant and offers it by the hook `genkit_weights`. Nothing that is
found is used before its SHA-256 was compared with the published one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import attrs

from genkit.data import atomic
from genkit.errors import DataError, PluginError
from genkit.hookspecs import Lazy
from genkit.kernel import discovery, registry

CHUNK = 2**20
TIMEOUT_SEC = 30  # without a byte


@attrs.frozen(kw_only=True)
class PublicFile:
    """A published file.

    Attributes:
        name: What it is called in the cache and in `$GENKIT_WEIGHTS`.
        sha256: Of its content, in hex.
        size: In bytes.
        url: Where it is downloaded from.
        about: One line: what it is, and under which licence.
    """

    name: str
    sha256: str
    size: int
    url: str
    about: str


def cache_folder() -> Path:
    """`$GENKIT_CACHE`, else `genkit` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("GENKIT_CACHE") or Path(base) / "genkit")


def offered() -> dict[str, PublicFile]:
    """The files of all plugins, by the name that `genkit weights` knows them by.

    Raises:
        PluginError: A plugin's description cannot be imported, or two plugins offer one name.
    """
    found: dict[str, PublicFile] = {}
    for plugin, offer in discovery.installed().calls("genkit_weights"):
        for name, lazy in offer.items():
            if name in found:
                raise PluginError(name, f"{plugin.distribution} and another plugin offer this file", "leave one out")
            found[name] = registry.imported(Lazy(*lazy), name)
    return found


def present(file: PublicFile, cache: Path | None = None) -> Path | None:
    """Where a file is, in `$GENKIT_WEIGHTS` or in the cache, unverified; None where it is not."""
    kept, cached = os.environ.get("GENKIT_WEIGHTS"), (cache or cache_folder()) / "files" / file.name
    return next((path for path in ([Path(kept) / file.name] if kept else []) + [cached] if path.is_file()), None)


def wanted(file: PublicFile) -> str:
    """What is missing, and the command that gets it, or who does."""
    how = next((f"genkit weights fetch {name}" for name, one in offered().items() if one == file), "a run downloads it")
    return f"needs {file.name} ({file.size / 1e6:.0f} MB), which is not here: {how}"


def locate(file: PublicFile, given: str | Path = "", cache_dir: Path | None = None) -> Path:
    """A verified copy of a file: the given path, `$GENKIT_WEIGHTS/<name>`, the cache, or a download.

    A download needs `GENKIT_OFFLINE` to be unset, goes to `<cache_dir>/files/<name>` and says so on stderr.

    Args:
        given: A path that a user wrote; nothing else is then looked at.
        cache_dir: The cache's folder, as a `Setup` tells it; the user's if None.

    Raises:
        DataError: It is nowhere and cannot be downloaded, or what was found is another file.
    """
    cache = cache_dir or cache_folder()
    if given and not Path(given).is_file():
        raise DataError(given, f"no such file; it should be {file.name}", _remedy(file, Path(given)))
    found = Path(given) if given else present(file, cache)
    if found is None:
        target = cache / "files" / file.name
        with _alone(target):  # the other processes of a training find the file afterwards
            found = target if target.is_file() else download(file, target)
    verify(file, found, cache)
    return found


def verify(file: PublicFile, path: Path, cache: Path | None = None, anew: bool = False) -> None:
    """Compare a file's SHA-256 with the published one; once, as long as its size and time of change stay.

    Args:
        anew: Read it even if it was verified before.

    Raises:
        DataError: It is another file, or damaged.
    """
    stat = path.stat()
    seal = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
    memory = (cache or cache_folder()) / "files" / "verified.json"
    known = _remembered(memory)
    if known.get(seal) == file.sha256 and not anew:
        return
    found = sha256(path) if stat.st_size == file.size else ""
    if found != file.sha256:
        what = f"sha256 {found}, not {file.sha256}" if found else f"{stat.st_size} bytes, not {file.size}"
        raise DataError(path, f"is not the published {file.name} ({what})", "remove it and fetch it again")
    with contextlib.suppress(DataError):  # a cache that cannot be written costs time, nothing else
        atomic.write(memory, json.dumps({**known, seal: found}, indent=1))


def download(file: PublicFile, target: Path) -> Path:
    """Download a file beside its place, compare size and SHA-256, and move it there.

    Raises:
        DataError: `GENKIT_OFFLINE=1`, no connection, or something else came.
    """
    if os.environ.get("GENKIT_OFFLINE", "0") not in ("", "0"):
        raise DataError(file.name, "is not here, and GENKIT_OFFLINE forbids to download it", _remedy(file, target))
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    print(f"genkit: downloading {file.url} ({file.size / 1e6:.1f} MB) to {target}", file=sys.stderr, flush=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        came, size = _stream(file, partial)
        if (came, size) != (file.sha256, file.size):
            what = f"{size} bytes" if size <= file.size else "more bytes"
            raise DataError(file.url, f"gave {what} with sha256 {came}", _remedy(file, target))
        partial.replace(target)
    except OSError as error:  # urllib's errors are OSErrors, too
        raise DataError(file.name, f"cannot be downloaded ({error})", _remedy(file, target)) from error
    finally:
        partial.unlink(missing_ok=True)
    return target


def _stream(file: PublicFile, partial: Path) -> tuple[str, int]:
    """SHA-256 and size of what came; stops once it is larger than the file should be."""
    digest, size = hashlib.sha256(), 0
    with urlopen(file.url, timeout=TIMEOUT_SEC) as source, partial.open("wb") as out:
        while size <= file.size and (chunk := source.read(CHUNK)):
            digest.update(chunk)
            size += len(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest(), size


def _remedy(file: PublicFile, target: Path) -> str:
    return f"get {file.url} ({file.size} bytes, sha256 {file.sha256}) and put it at {target}"


def _remembered(memory: Path) -> dict[str, str]:
    try:
        found = json.loads(memory.read_text())
    except (OSError, ValueError):  # nothing is known, so it is verified again
        return {}
    return found if isinstance(found, dict) else {}


def sha256(path: Path) -> str:
    """Of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _alone(target: Path) -> AbstractContextManager[Any]:
    """One download at a time."""
    from filelock import FileLock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(target.with_name(f".{target.name}.lock")).acquire()
    except OSError as error:
        raise DataError(target.parent, f"cannot be written ({error.strerror})", "set GENKIT_CACHE") from error
