"""A Ray cluster of this machine: on loopback, with ports and a token of its own, ended by its process id."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
from pathlib import Path

import pytest

from genkit.errors import GenkitError
from genkit_ray.rest import call

OWN = Path(__file__).parents[3] / ".tox" / "ray" / "bin" / "ray"
RAY = str(OWN) if OWN.is_file() else shutil.which("ray")


def within(seconds, true):
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


class Cluster:
    """One head, whose folder is short: a socket's path has no more than 107 characters."""

    within = staticmethod(within)

    def __init__(self, folder, ports):
        self.folder, self.ports, self.head = folder, ports, None
        self.address = f"http://127.0.0.1:{ports[0]}"

    def start(self):
        """Start it; what it says if it does not come up."""
        words = [
            RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.2", f"--port={self.ports[1]}",
            "--num-cpus=2", "--num-gpus=0", "--include-dashboard=true", "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.ports[0]}", f"--temp-dir={self.folder}/ray", "--object-store-memory=100000000",
            "--disable-usage-stats",
        ]  # fmt: skip
        environment = {**os.environ, "RAY_JOB_STOP_WAIT_TIME_S": "30"}
        environment.pop("PYTHONPATH", None)
        with (self.folder / "log").open("a") as log:
            self.head = subprocess.Popen(words, stdout=log, stderr=log, env=environment, start_new_session=True)
        return "" if within(90, self.answers) else (self.folder / "log").read_text()[-500:]

    def answers(self):
        """Whether it takes jobs, or has ended."""
        try:
            return bool(call(self.address, "/api/jobs/", {"entrypoint": "true"}))
        except (OSError, urllib.error.URLError, RuntimeError, GenkitError):
            return self.head.poll() is not None

    def jobs(self):
        return {job["submission_id"]: job["status"] for job in call(self.address, "/api/jobs/")}

    def end(self):
        self.head.send_signal(signal.SIGTERM)
        self.head.wait()


def _free_ports():
    """Two below those that Ray gives to its workers."""
    found = []
    for port in range(2000 + secrets.randbelow(3000), 10_000):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.append(port)
        if len(found) == 2:
            return found
    raise AssertionError("no free ports")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    if not RAY:
        pytest.skip("no ray here: tests/cluster.sh installs it")
    with pytest.MonkeyPatch.context() as patch:
        folder = Path("/tmp") / f"genkit-ray-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        (folder / "token").write_text(secrets.token_hex(24))
        (folder / "token").chmod(0o600)
        made = Cluster(folder, _free_ports())
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
        patch.setenv("RAY_API_SERVER_ADDRESS", made.address)
        try:
            if why := made.start():
                pytest.skip(f"Ray does not come up here: {why}")
            yield made
        finally:
            made.end()
            shutil.rmtree(folder, ignore_errors=True)
