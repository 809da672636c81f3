"""What kind of disk a folder is on, by what is mounted."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/mounts")
NETWORK = re.compile(r"nfs|cifs|smb|lustre|gpfs|beegfs|ceph|gluster|afs$|9p$|virtiofs$|fuse\.")
HOLD = re.compile(r"nfs4?$|lustre$|gpfs$|ceph$")  # where locks hold between machines, but for these options:
DO_NOT = {"local_lock=flock", "local_lock=all", "nolock", "localflock", "noflock"}


def disk(folder: Path, mounts: str) -> tuple[str, str, set[str]]:
    """(file system, source, options) of a folder."""
    found, path = ("", "", "", ""), folder.resolve()
    for line in mounts.splitlines():
        source, point, kind, options, *_ = line.split(" ")
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), point)
        if path.is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, kind, source, options)
    return found[1], found[2], set(found[3].split(","))


def mounted() -> str:
    return MOUNTS.read_text() if MOUNTS.is_file() else ""


def locks_hold(kind: str, options: set[str]) -> bool:
    """Whether a lock of a file keeps processes of other machines out; on a disk of this machine there are none."""
    if not NETWORK.match(kind):
        return True
    wants = {"flock"} if kind == "lustre" else set()
    return bool(HOLD.match(kind)) and not options & DO_NOT and wants <= options


def hold_between_machines(folder: Path) -> bool:
    kind, _, options = disk(folder, mounted())
    return locks_hold(kind, options)
