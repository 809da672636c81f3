"""Jobs by launchers: submitted once, found again after a kill, asked for all at once, and again where that fails."""

from __future__ import annotations

import json
import math
import secrets
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from genkit.cli import show
from genkit.errors import GenkitError, Stopped
from genkit.kernel import registry, resolving
from genkit.kinds import Setup
from genkit.training.signals import Signals, caught
from genkit_studies import packs
from genkit_studies.ledger import GONE, End, Job, Known, Ledger
from genkit_studies.pool import LocalPool

INTERVAL = 0.05  # seconds between two looks for signals, and at jobs of this machine
PREEMPTED = (75, -signal.SIGTERM, GONE)  # how a job ends that its machine ended; the second before it could listen
AGAIN = 3  # times that a job is submitted again that was preempted, if it had come no further meanwhile
PAUSE = 2.0  # seconds between two polls of a launcher that does not say
MOST = 8  # trials that share a card, if nobody says how many
WAITS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # seconds until a launcher that failed is asked again


class Unreachable(GenkitError):
    """A launcher does not answer, however often it is asked."""


@attrs.define(eq=False, kw_only=True)
class Queue:
    """The jobs of a ledger, and the launcher of new ones; those of before are with the launcher that took them.

    Attributes:
        component: The launcher of new jobs, as it was set.
        setup: What launchers are built with.
        device: What jobs are told to compute on; empty: each looks for itself.
        sharing: How many trials share a card, where launchers know of whole ones.
        start: Seconds until a job has begun, 0 if nobody knows.
        stop: The signal that is heeded while `heeding`.
        table: The launcher as it was set, as JSON.
    """

    component: Any
    setup: Setup
    device: str = ""
    sharing: int = 1
    start: float = 0.0
    ledger: Ledger = attrs.field(factory=lambda: Ledger(Path()))
    stop: Signals = attrs.field(factory=Signals)
    built: dict[str, Any] = attrs.field(factory=dict)
    looked: dict[str, float] = attrs.field(factory=dict)
    table: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.table = json.dumps(resolving.plain(self.component))

    @property
    def pause(self) -> float:
        """Seconds until there may be something to see."""
        pauses = (getattr(self.of(table), "pause", PAUSE) for table in {known.table for known in self.known.values()})
        return max(INTERVAL, min(pauses, default=0.0))

    @property
    def launcher(self) -> Any:
        return self.of(self.table)

    @property
    def slots(self) -> int:
        """How many trials run at a time."""
        return int(self.launcher.slots) * self.sharing

    @property
    def cards(self) -> float:
        """What a trial needs."""
        return 0 if self.device == "cpu" else 1 / self.sharing

    @property
    def words(self) -> tuple[str, ...]:
        """What jobs are told of their device."""
        return ("--device", self.device) if self.device else ()

    @property
    def known(self) -> Mapping[str, Known]:
        """The jobs that have not ended."""
        return self.ledger.known

    @property
    def open(self) -> set[str]:
        """The keys of jobs that have not ended, and of those whose end nobody has asked for."""
        return {*self.ledger.known, *self.ledger.ends}

    def of(self, table: str) -> Any:
        """The launcher of a table, built once."""
        if table not in self.built:
            settings = json.loads(table)
            other = table != self.table and resolving.component("launcher", settings.pop("use"), **settings)
            self.built[table] = registry.build(other or self.component, self.setup)
        return self.built[table]

    def at(self, folder: Path) -> Queue:
        """The jobs of a folder, with these launchers; what a kill left without an answer is asked for again."""
        there = attrs.evolve(self, ledger=Ledger(folder), looked={})
        if folder.is_dir():
            with there.ledger.alone():
                there.ledger.take_ends()  # of long ago
                there._resend()
            there._look()
        return there

    def share(self, measured: Mapping[str, Mapping[str, float]], per_device: int = 0) -> None:
        """Have trials share cards, and jobs, as their try-outs say.

        Args:
            measured: By arm: "start", and the "share" of a card that it takes, 0 where there is none.
            per_device: How many share a card; 0: as many as all arms leave room for.
        """
        self.start = max((one.get("start", 0.0) for one in measured.values()), default=0.0)
        share = max((one.get("share", 0.0) for one in measured.values()), default=0.0)
        count = per_device or max(1, min(MOST, int(1 / share) if share else 1))
        if isinstance(self.launcher, LocalPool):
            self.launcher.share(count)
        elif self.device != "cpu":
            self.sharing = count

    @contextmanager
    def heeding(self) -> Iterator[Signals]:
        """Note signals while jobs run."""
        with caught() as self.stop:
            yield self.stop

    def free(self, waiting: int) -> int:
        """How many of the jobs that wait are to be submitted now: none until they are worth a submission."""
        slots, room = self.slots, getattr(self.launcher, "room", self.launcher.slots) * self.sharing
        free = min(waiting, room - len({(known.name, known.group) for known in self.known.values()}) * self.sharing)
        return free if free >= min(waiting, max(1, (room - slots) // 2)) else 0

    def submit(self, jobs: Mapping[str, Job]) -> None:
        """Submit jobs, all in one go; those that somebody else has submitted meanwhile are theirs, and known."""
        with self.ledger.alone():
            self._resend()
            new = {key: job for key, job in jobs.items() if key not in self.known}
            if new:
                name = f"genkit-{secrets.token_hex(5)}"
                self.ledger.submit(name, self.table, self.device, packs.grouped(new, self.start, self.launcher))
                self._send(name)
        self._look()

    def _resend(self) -> None:
        """Ask again for what somebody asked who was killed before the answer."""
        for name in {known.name: 0 for known in self.known.values() if not known.handle}:
            self._send(name)

    def _send(self, name: str) -> None:
        """Have a launcher take what the ledger has under a name, and put its handles on record."""
        jobs = self.ledger.named(name)
        table = next(iter(jobs.values())).table
        groups: dict[int, dict[str, Job]] = {}
        for key, known in jobs.items():
            groups.setdefault(known.group, {})[key] = known.job
        files = {number: packs.at(self.ledger.folder, name, number) for number in groups}
        asked = [packs.of(files[number], group, self.of(table)) for number, group in groups.items()]
        try:
            handles = dict(zip(groups, self._steadily(table, "submit", name, asked), strict=True))
        except Unreachable:
            raise
        except GenkitError:  # it took none
            for key, known in jobs.items():
                self.ledger.end(key, known, GONE)
            raise
        self.ledger.submitted(name, {key: handles[known.group] for key, known in jobs.items()})

    def ended(self) -> dict[str, End]:
        """The jobs that have ended since this was last asked, with their exit codes or `GONE`."""
        self.ledger.fold()
        self._look(time.monotonic())
        return self.ledger.take_ends()

    def _look(self, now: float = math.inf) -> None:
        """One poll for all jobs of each launcher whose pause is over by now."""
        for table, keys in self.ledger.by_table(self.known).items():
            if now - self.looked.get(table, -math.inf) < getattr(self.of(table), "pause", PAUSE):
                continue
            found = self._steadily(table, "poll", list({self.known[key].handle: 0 for key in keys}))
            self.looked[table] = time.monotonic()
            over: dict[Path, dict[str, Known]] = {}
            for key, known in ((key, self.known[key]) for key in keys):
                known.state = str(found.get(known.handle, GONE))
                if known.state not in ("waits", "runs"):
                    over.setdefault(packs.at(self.ledger.folder, known.name, known.group), {})[key] = known
            for file, together in over.items():
                self._over(file, together, found.get(next(iter(together.values())).handle, GONE))

    def _over(self, file: Path, jobs: Mapping[str, Known], how: End) -> None:
        """Put on record how jobs have ended that were one: each as it has said itself, else as that one."""
        ends = packs.codes(file)
        for key, known in jobs.items():
            if key not in ends:
                packs.explain(file, known.job.log)
            self.ledger.end(key, known, ends.get(key, GONE if ends and how == 0 else how))
        packs.remove(file)

    def cancel(self, keys: Iterable[str] | None = None) -> None:
        """Have jobs save and leave; all, if none is named."""
        for table, some in self.ledger.by_table(self.known if keys is None else keys).items():
            self._steadily(table, "cancel", list({h: 0 for key in some if (h := self.known[key].handle)}))

    def close(self) -> None:
        for launcher in self.built.values():
            launcher.close()

    def stopped(self, where: Path, what: str) -> Stopped:
        """What to raise after a signal."""
        code, name = self.stop.stopped(where, 0).exit_code, signal.Signals(self.stop.signal or 0).name
        return Stopped(where, f"{name}; {what}", "the same command goes on", code)

    def wait(self, seconds: float) -> None:
        """Pause, but no longer than until a signal comes."""
        until, before = time.monotonic() + seconds, self.stop.signal
        while (left := until - time.monotonic()) > 0 and self.stop.signal == before:
            time.sleep(min(left, INTERVAL))

    def _steadily(self, table: str, method: str, *given: Any) -> Any:
        """What the launcher of a table answers, asked again where it fails.

        Raises:
            Unreachable: It fails and fails.
            GenkitError: It says that no further try mends it.
        """
        act, what = getattr(self.of(table), method), f"launcher {json.loads(table)['use']}"
        for wait in (*WAITS, None):
            try:
                return act(*given)
            except GenkitError:
                raise
            except Exception as error:
                said = f"{method} fails ({type(error).__name__}: {' '.join(str(error).split())})"
                if wait is None:
                    raise Unreachable(what, said, "its jobs stay known; the same command goes on with them") from error
                show.say(f"{what}: {said}; again in {wait:g} s")
                self.wait(wait)
