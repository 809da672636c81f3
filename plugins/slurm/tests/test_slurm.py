"""Jobs of a SLURM cluster of one machine, which the tests start on loopback and end by process id."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import genkit
from genkit.errors import GenkitError
from genkit_slurm.launcher import _how
from genkit_slurm.script import script

ABSENT = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if not shutil.which(name)]
needs_slurm = pytest.mark.skipif(bool(ABSENT), reason=f"no {ABSENT} here: tests/cluster.sh installs them")
CONFIGURATION = """
ClusterName=genkit
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,bf_interval=5
JobRequeue=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def _free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """SLURM's daemons, with a key of their own."""
    folder, started = tmp_path_factory.mktemp("slurm"), []
    for name in ("state", "spool"):
        (folder / name).mkdir()
    os.chmod(folder, 0o755)
    user, host = getpass.getuser(), socket.gethostname()
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(folder=folder, user=user, host=host.partition(".")[0], ports=_free_ports(2))
    )
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o600)
    os.environ["SLURM_CONF"] = str(configuration)
    munge = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munged.pid", "log-file": "munged.log"}
    munge["seed-file"] = "munge.seed"
    try:
        for words in (
            ["munged", "--foreground", "--force", *(f"--{name}={folder / file}" for name, file in munge.items())],
            ["slurmctld", "-D", "-c", "-f", str(configuration)],
            ["slurmd", "-D", "-f", str(configuration), "-N", host.partition(".")[0]],
        ):
            with (folder / f"{words[0]}.out").open("w") as log:
                started.append(subprocess.Popen(words, stdout=log, stderr=log))
            while words[0] == "munged" and not (folder / "munge.sock").exists() and started[0].poll() is None:
                time.sleep(0.05)
        until = time.monotonic() + 60
        asked = ["sinfo", "-h", "-o", "%T"]
        while "idle" not in subprocess.run(asked, capture_output=True, text=True, check=False).stdout:
            if time.monotonic() > until:
                pytest.skip(f"SLURM does not come up here: {(folder / 'slurmctld.out').read_text()[-300:]}")
            time.sleep(0.5)
        yield
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()
        del os.environ["SLURM_CONF"]


@pytest.fixture
def launcher(cluster):
    return genkit.build(genkit.component("launcher", "slurm", gpus=0, command="sh"), genkit.Setup())


def job(tmp_path, text, **needs):
    """A job whose command is a shell."""
    return SimpleNamespace(argv=("-c", text), log=tmp_path / "log", **{"cards": 0, "cpus": 1, "tryout": False, **needs})


def ends(launcher, handles):
    while {"waits", "runs"} & set((found := launcher.poll(handles)).values()):
        time.sleep(0.2)
    return [found.get(handle, "gone") for handle in handles]


@needs_slurm
def test_jobs_are_tasks_of_an_array_and_end_with_their_exit_codes(launcher, tmp_path):
    jobs = [job(tmp_path, f'echo task {i} "it\'s"; exit {code}') for i, code in enumerate((0, 75, 3))]
    handles = launcher.submit("genkit-codes", jobs)
    assert len({handle.partition("_")[0] for handle in handles}) == 1
    assert launcher.submit("genkit-codes", jobs) == handles  # the same name is a question
    assert ends(launcher, handles) == [0, 75, 3]
    assert sorted((tmp_path / "log").read_text().splitlines()) == [f"task {i} it's" for i in range(3)]


@needs_slurm
def test_a_job_that_is_cancelled_hears_sigterm_itself_and_one_that_waits_is_not_begun(launcher, tmp_path):
    listening = f"trap 'exit 75' TERM; touch {tmp_path}/begun; while :; do sleep 0.1; done"
    handles = launcher.submit("genkit-cancel", [job(tmp_path, listening, cpus=2), job(tmp_path, "exit 0", cpus=2)])
    while not (tmp_path / "begun").is_file():
        time.sleep(0.1)
    launcher.cancel(handles)
    assert ends(launcher, handles) == [75, 75]


@needs_slurm
def test_what_slurm_refuses_is_final_and_what_it_has_forgotten_is_gone(launcher, tmp_path):
    wrong = genkit.build(genkit.component("launcher", "slurm", partition="nowhere", gpus=0), genkit.Setup())
    with pytest.raises(GenkitError, match="partition"):
        wrong.submit("genkit-wrong", [job(tmp_path, "exit 0")])
    assert launcher.poll(["987654_0"]) == {}


@needs_slurm
def test_a_study_whose_submitter_is_killed_ends_with_each_trial_run_once(cluster, tmp_path):
    few = ["train.steps=20", "train.batch_size=16", "evaluate.samples=100", "--swap", "loss=l2", "--device", "cpu"]
    command = [sys.executable, "-m", "genkit", "ablate", "ict_ring", *few, "--launcher", "slurm", "--yes"]
    with Path("log").open("w") as log:
        first = subprocess.Popen(command, stdout=log, stderr=log)
        while first.poll() is None and not list(Path("runs").glob("studies/*/tryouts/*.json")):
            time.sleep(0.1)
        first.kill()
        assert first.wait() == -signal.SIGKILL, Path("log").read_text()
        done = subprocess.run(command, stdout=log, stderr=log, check=False)
    assert done.returncode == 0, Path("log").read_text()
    told = [(path.parent / "events.jsonl").read_text() for path in Path("runs").glob("*/lock.json")]
    assert [text.count('"event": "start"') for text in told] == [1, 1]
    assert not subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("state", "code", "how"),
    [
        ("PENDING", "0:0", "waits"), ("COMPLETING", "0:0", "runs"), ("COMPLETED", "0:0", 0), ("FAILED", "5:0", 5),
        ("FAILED", "19200", 75), ("CANCELLED", "15", -15), ("FAILED", "0:9", -9), ("CANCELLED", "0:0", 75),
        ("CANCELLED", "0:15", -15), ("NODE_FAIL", "0:0", 75), ("TIMEOUT", "0:0", 75), ("OUT_OF_MEMORY", "0:125", -9),
    ],
)  # fmt: skip
def test_states_of_slurm_mean_what_a_study_asks(state, code, how):
    assert _how(state, code) == how


def test_the_script_becomes_its_job_and_keeps_words_whole(tmp_path):
    jobs = [job(tmp_path, "echo a", cards=1)]
    jobs[0].argv = ("run", "a b", "it's", "$HOME")
    text = script(jobs, ["module() { :; }", "module load cuda"], "printf '%s\\n'")
    (tmp_path / "script").write_text(text)
    subprocess.run(["bash", tmp_path / "script"], env={**os.environ, "SLURM_ARRAY_TASK_ID": "0"}, check=True)
    assert Path(tmp_path, "log").read_text().splitlines() == ["run", "a b", "it's", "$HOME"]
