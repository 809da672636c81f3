"""A SLURM cluster of this machine: daemons on loopback, with ports and a key of their own, ended by process id."""

import getpass
import os
import shutil
import socket
import subprocess
import time

import pytest

ABSENT = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if not shutil.which(name)]
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
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
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
SlurmctldTimeout=30
SlurmdTimeout=30
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,bf_interval=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
NodeName=a,b NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]},{ports[3]} CPUs=1 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=two Nodes=a,b MaxTime=INFINITE State=UP
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def said(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def within(seconds, true):
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


class Cluster:
    """The daemons of a folder; `said` is what a command says, `within` whether something comes true in time."""

    said, within = staticmethod(said), staticmethod(within)

    def __init__(self, folder):
        self.folder, self.running = folder, {}
        self.host = socket.gethostname().partition(".")[0]
        for name in ("state", f"spool-{self.host}", "spool-a", "spool-b"):
            (folder / name).mkdir()
        folder.chmod(0o755)
        self.configuration = folder / "slurm.conf"
        self.configuration.write_text(
            CONFIGURATION.format(folder=folder, user=getpass.getuser(), host=self.host, ports=_free_ports(4))
        )
        (folder / "munge.key").write_bytes(os.urandom(1024))
        (folder / "munge.key").chmod(0o600)

    def begin(self):
        """Start all; what it says if it does not come up."""
        files = {"key-file": "key", "socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        named = [f"--{option}={self.folder}/munge.{end}" for option, end in files.items()]
        self.start("munged", "--foreground", "--force", *named)
        if not within(20, (self.folder / "munge.sock").exists):
            return (self.folder / "munged.out").read_text()
        self.control("-c")
        for node in (self.host, "a", "b"):  # the last two are one machine as well, where several daemons are allowed
            self.start(f"slurmd-{node}", "-D", "-f", str(self.configuration), "-N", node)
        up = within(60, lambda: "idle" in said("sinfo", "-h", "-p", "main", "-o", "%T"))
        return "" if up else (self.folder / "slurmctld.out").read_text()[-300:]

    def start(self, name, *words):
        """Start the daemon `name`, whose program comes first in its name."""
        words = [name.partition("-")[0], *words]
        with (self.folder / f"{name}.out").open("a") as log:
            self.running[name] = subprocess.Popen(words, stdout=log, stderr=log)

    def control(self, *options):
        """Start the controller; without `-c` it takes up the jobs that it knew."""
        self.start("slurmctld", "-D", *options, "-f", str(self.configuration))

    def end(self, name):
        process = self.running.pop(name)
        process.terminate()
        process.wait()


def _free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    if ABSENT:
        pytest.skip(f"no {ABSENT} here: tests/cluster.sh installs them")
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    os.environ["SLURM_CONF"] = str(made.configuration)
    try:
        if why := made.begin():
            pytest.skip(f"SLURM does not come up here: {why}")
        yield made
    finally:
        said("scancel", "--signal=KILL", f"--user={getpass.getuser()}")  # of this cluster: a job outlives its daemons
        within(20, lambda: not said("squeue", "-h"))
        for name in reversed(list(made.running)):
            made.end(name)
        del os.environ["SLURM_CONF"]
