"""Commands of genkit, started and watched from outside: what they wrote, how they left, what it took."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

OUTPUT = tempfile.TemporaryDirectory(prefix="genkit-faults-")  # of what commands said, until the session ends

DOCUMENTED = {0, 1, 2, 3, 4, 5, 75, 130}
PROBES = Path(__file__).parent / "probes"
RING = [
    "run", "ict_ring", "network.width=16", "train.steps=60", "train.batch_size=16", "train.save_every_steps=20",
    "train.log_every_steps=20", "evaluate.samples=200", "--device", "cpu",
]  # fmt: skip


@dataclass
class Done:
    """How a command ended. A code below zero is the signal that ended it."""

    code: int
    out: str = ""
    err: str = ""
    seconds: float = 0.0
    cpu: float = 0.0
    mb: float = 0.0

    @property
    def lines(self):
        """What it said on stderr, without notes and progress."""
        return [line for line in self.err.splitlines() if line.startswith("genkit")]


class Command:
    """A command that runs, in a process group of its own; its output goes into files of the working folder."""

    count, cpu = 0, 0.0

    def __init__(self, argv, path=(), **env):
        Command.count += 1
        self.argv = [str(word) for word in argv]
        self.out, self.err = (Path(OUTPUT.name) / f"{name}-{Command.count}" for name in ("out", "err"))
        self.env = environment(path, **env)
        self.begun, self.done = time.monotonic(), None

    def ended(self):
        """Its end, or None."""
        if self.done is None and (found := self._look()):
            out, err = (f.read_text(errors="replace") if f.exists() else "" for f in (self.out, self.err))
            self.done = Done(**found, out=out, err=err)
            Command.cpu += self.done.cpu
        return self.done

    def wait(self, seconds=60.0):
        """Its end; one that takes longer is killed, and the test fails."""
        if not within(seconds, self.ended):
            self.send(signal.SIGKILL, group=True)
            within(10, self.ended)
            raise AssertionError(f"{self.argv} has not ended in {seconds} s: {self.err.read_text()[-2000:]}")
        return self.done

    def send(self, number, group=False):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number) if group else os.kill(self.pid, number)


class Spawned(Command):
    """`python -m genkit …`, started as a shell would; `wrap` is a line of sh in which "$@" is the command."""

    def __init__(self, argv, path=(), wrap='exec "$@"', **env):
        super().__init__(argv, path, **env)
        words = ["sh", "-c", wrap, "sh", sys.executable, "-m", "genkit", *self.argv]
        with self.out.open("w") as out, self.err.open("w") as err, unignored():
            self.process = subprocess.Popen(words, stdout=out, stderr=err, env=self.env, start_new_session=True)
        self.pid = self.process.pid

    def _look(self):
        pid, status, used = os.wait4(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        code = self.process.returncode = os.waitstatus_to_exitcode(status)
        cpu, mb = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        return {"code": code, "seconds": time.monotonic() - self.begun, "cpu": cpu, "mb": mb}


class Forked(Command):
    """The same, forked from a process that has imported torch already; `limits` are those of `resource`."""

    address = ""

    def __init__(self, argv, path=(), limits=None, **env):
        super().__init__(argv, path, **env)
        self.told = socket.socket(socket.AF_UNIX)
        self.told.connect(self.address)
        order = {"argv": self.argv, "cwd": str(Path.cwd()), "env": self.env, "path": [str(PROBES), *map(str, path)]}
        order |= {"out": str(self.out), "err": str(self.err), "limits": limits or {}}
        self.told.sendall(json.dumps(order).encode() + b"\n")
        self.heard = b""
        assert within(30, lambda: self._hear().count(b"\n"))
        self.pid = int(self.heard.split(b"\n")[0])

    def _hear(self):
        self.told.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.heard += self.told.recv(65536)
        return self.heard

    def _look(self):
        if self._hear().count(b"\n") < 2:
            return None
        self.told.close()
        return json.loads(self.heard.split(b"\n")[1])

    @classmethod
    def _answers(cls):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            asking.connect(cls.address)
            return True
        return False

    @classmethod
    @contextlib.contextmanager
    def served(cls, folder):
        """While it lasts, commands can be forked."""
        cls.address = str(folder / "socket")
        words = [sys.executable, str(Path(__file__).parent / "forks.py"), cls.address]
        with unignored():
            server = subprocess.Popen(words, env=environment(), start_new_session=True)
        with server:
            try:
                assert within(60, cls._answers)
                yield
            finally:
                server.kill()


@contextlib.contextmanager
def unignored():
    """Who is started meanwhile ignores no signal, also where this process does: after nohup, or behind `&`."""
    ignored = [number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


def environment(path=(), **more):
    """The test's own, with one thread, and the folders of `path` first among those of modules."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [str(folder) for folder in (PROBES, *path, *inherited) if str(folder)]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(folders), **more}


def within(seconds, condition):
    """What the condition gives as soon as it holds, asked again and again; what it gives at the deadline, else."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.002)
    return found


def genkit(*argv, code=0, seconds=60.0, **how):
    """A command, forked, to its end; anything but the wanted exit code fails the test, and so does a traceback."""
    done = Forked(argv, **how).wait(seconds)
    assert done.code == code, f"{argv} left with {done.code}:\n{done.out}{done.err}"
    quiet(done)
    return done


def quiet(done):
    assert "Traceback" not in done.out + done.err and ' File "' not in done.err, done.err[-3000:]


def documented(done, codes=DOCUMENTED):
    last = "".join(done.err.strip().splitlines()[-1:])
    assert done.code in codes, f"{done.code} is none of {sorted(codes)}; {last}\n{done.err[-3000:]}"
    quiet(done)


def refused(done, codes=(2, 3, 4), names=(), most=1):
    """One line (or a line for each problem, at most so many) that names what is wrong, a code, no traceback."""
    documented(done, set(codes))
    assert 1 <= len(done.lines) <= most and all(10 < len(line) < 2000 for line in done.lines), done.err[-3000:]
    assert all(re.search(name, done.lines[0]) for name in names), f"{names} in {done.lines[0]}"


# ---- what stands in a run folder ------------------------------------------------------------------


def events(folder):
    """The events of a run; a line that is torn is left out."""
    found, path = [], Path(folder) / "events.jsonl"
    for line in path.read_bytes().splitlines() if path.is_file() else []:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def told(folder, event, **what):
    return [e for e in events(folder) if e.get("event") == event and what.items() <= e.items()]


def steps(folder):
    """The checkpoints that stand, the newest last."""
    return sorted(Path(folder).glob("checkpoints/step-*"))


def tensors(file):
    """What a file of safetensors holds: {name: (dtype, shape, bytes)}."""
    raw = Path(file).read_bytes()
    start = 8 + struct.unpack_from("<Q", raw)[0]
    header = {name: about for name, about in json.loads(raw[8:start]).items() if name != "__metadata__"}
    spans = {name: about["data_offsets"] for name, about in header.items()}
    return {n: (a["dtype"], a["shape"], raw[start + spans[n][0] : start + spans[n][1]]) for n, a in header.items()}


def final(folder):
    """Every number of the newest checkpoint, its step, and the run's last figures."""
    newest = steps(folder)[-1]
    figures = [e["figures"] for e in told(folder, "evaluated")][-1:]
    return newest.name, tensors(newest / "state.safetensors"), json.loads((newest / "state.json").read_text()), figures


def finals():
    """What each run under `runs` came to, by the name of its folder."""
    return {folder.name: final(folder) for folder in Path("runs").iterdir() if (folder / "lock.json").is_file()}


def same(one, other):
    """Two finals are equal, bit for bit."""
    assert one[0] == other[0] and one[2:] == other[2:], (one[0], other[0], one[2:], other[2:])
    assert one[1].keys() == other[1].keys()
    assert not (different := [name for name in one[1] if one[1][name] != other[1][name]]), different


def whole(folder):
    """Nothing in the folder is half-written: no leftover of a write, and every JSON can be read."""
    left = [p for p in Path(folder).rglob("*") if re.match(r"\.(?!lock$)", p.name)]
    assert not left, left
    for path in Path(folder).rglob("*.json"):
        json.loads(path.read_bytes())


def flip(path, chance=None, bit=None):
    """Flip one bit of a file, drawn by `chance` if not given; which."""
    raw = bytearray(Path(path).read_bytes())
    bit = chance.randrange(8 * len(raw)) if bit is None else bit
    raw[bit // 8] ^= 1 << bit % 8
    Path(path).write_bytes(raw)
    return bit


def dice(request, name):
    """A generator of random numbers for a test; its seed is said if the test fails."""
    seed = f"{request.config.getoption('faults_seed', '0')} {name}"
    print("seed:", seed)
    return random.Random(seed)
