"""The ledger of a folder's jobs: told to the disk before they are submitted, so that whoever comes next knows them.

It is the lines of `events.jsonl`. {"event": "submit", "name": …, "jobs": …} stands there before a launcher is asked,
{"event": "submitted", "handles": …} after it answered, {"event": "ended", "code": …} once it is known how a job ended.
{"event": "cancel"} has whoever looks after the jobs leave, until {"event": "go on"}.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from genkit.errors import CheckpointError
from genkit.runs import store

GONE = "gone"  # how a job ended where nobody knows its exit code
End = int | str


@attrs.frozen(kw_only=True)
class Job:
    """`genkit` with some words, in a process of its own somewhere; `genkit.kinds.Launcher` says what the rest means.

    Attributes:
        argv: The words after `genkit`.
        log: Where its output goes.
    """

    argv: tuple[str, ...]
    log: Path
    cards: float = 1
    cpus: int = 1
    memory: int = 0
    seconds: float = 0.0
    tryout: bool = False
    nodes: int = 1
    processes: int = 1


@attrs.define(kw_only=True)
class Known:
    """A job that has not ended: under which name, by which launcher and as what it was submitted, and how it is.

    Attributes:
        table: The launcher and its settings, as JSON.
        device: What jobs were told to compute on.
        handle: Empty as long as the launcher has not answered.
        state: "waits" or "runs", when it was last looked at.
        group: The number of the jobs under this name that are one for the launcher.
    """

    name: str
    table: str
    device: str
    job: Job
    group: int
    handle: str = ""
    state: str = "waits"


@attrs.define(eq=False)
class Ledger:
    """The jobs of a folder, by keys that whoever submits them chooses.

    Attributes:
        known: Those that have not ended.
        ends: How others did, until somebody asks.
        last: The job that was submitted last, ended or not.
        cancelled: Whether all were told to leave, and nobody has gone on since.
    """

    folder: Path
    known: dict[str, Known] = attrs.field(factory=dict)
    ends: dict[str, End] = attrs.field(factory=dict)
    last: Known | None = None
    cancelled: bool = False
    _read: int = 0

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within, nobody else submits jobs of this folder, and all is known that others have submitted."""
        with ExitStack() as held:
            while not self._taken(held):
                pass  # locks and leases wait
            self.fold()
            yield

    def _taken(self, held: ExitStack) -> bool:
        """Whether the folder was to be had; not if whoever had it before has removed it."""
        with suppress(FileNotFoundError, CheckpointError), ExitStack() as tried:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / ".jobs"
            file = tried.enter_context(path.open("a"))
            with suppress(OSError):  # a disk without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                tried.enter_context(store.lease(path.with_suffix(".lease")))
                held.push(tried.pop_all())
                return True
        return False

    def submit(self, name: str, table: str, device: str, groups: Sequence[Mapping[str, Job]]) -> None:
        """Put on record what a launcher will be asked for: groups of jobs, each of which it takes for one."""
        told = {
            key: {**attrs.asdict(job), "log": str(job.log), "group": number}
            for number, group in enumerate(groups)
            for key, job in group.items()
        }
        self._tell(event="submit", name=name, launcher=json.loads(table), device=device, jobs=told)

    def submitted(self, name: str, handles: Mapping[str, str]) -> None:
        self._tell(event="submitted", name=name, handles=dict(handles))

    def end(self, key: str, known: Known, how: End) -> None:
        """Put on record how a job has ended; another submitter may have done so meanwhile, and submitted it anew."""
        self._tell(event="ended", key=key, handle=known.handle, code=how)

    def cancel(self) -> None:
        self._tell(event="cancel")

    def go_on(self) -> None:
        """Take back that all were told to leave."""
        self.fold()
        if self.cancelled:
            self._tell(event="go on")

    def take_ends(self) -> dict[str, End]:
        ends, self.ends = self.ends, {}
        return ends

    def named(self, name: str) -> dict[str, Known]:
        """The jobs that were submitted under a name."""
        return {key: known for key, known in self.known.items() if known.name == name}

    def by_table(self, keys: Iterable[str]) -> dict[str, list[str]]:
        """Keys by the launcher, as it was set, that has their jobs."""
        tables: dict[str, list[str]] = {}
        for key in keys:
            tables.setdefault(self.known[key].table, []).append(key)
        return tables

    def _tell(self, **what: Any) -> None:
        store.event(self.folder, **what)
        self.fold()

    def fold(self) -> None:
        """Take in what the file has got since it was last read, by this process or others."""
        path = self.folder / "events.jsonl"
        if not path.is_file():
            return
        with path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            with suppress(ValueError):  # torn by a kill
                self._take(json.loads(line))

    def _take(self, told: Mapping[str, Any]) -> None:
        if told["event"] == "submit":
            table, device = json.dumps(told["launcher"]), told.get("device", "")
            for number, (key, job) in enumerate(told["jobs"].items()):
                known = Known(
                    name=told["name"], table=table, device=device, group=job.pop("group", number), job=_job(job)
                )
                self.last = self.known[key] = known
        elif told["event"] == "submitted":
            for key, known in self.named(told["name"]).items():
                known.handle = told["handles"][key]
        elif told["event"] == "ended":
            one = self.known.get(told["key"])
            if one and one.handle == told["handle"]:
                del self.known[told["key"]]
                self.ends[told["key"]] = told["code"]
        elif told["event"] in ("cancel", "go on"):
            self.cancelled = told["event"] == "cancel"


def _job(told: Mapping[str, Any]) -> Job:
    return Job(**{**told, "argv": tuple(told["argv"]), "log": Path(told["log"])})
