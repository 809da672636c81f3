"""A machine of the name $ELSEWHERE on a disk whose locks hold nobody, where leases are of seconds."""

import fcntl
import os
import socket

from genkit.hookspecs import hookimpl
from genkit_runs import leases

GENKIT_API = 1

if "ELSEWHERE" in os.environ:
    fcntl.flock = lambda file, how: None
    socket.gethostname = lambda: os.environ["ELSEWHERE"]
    leases.machine = lambda: os.environ["ELSEWHERE"]
    leases.BEAT, leases.LIFE, leases.LOOK = 0.1, 2.0, 0.02


@hookimpl
def genkit_components():
    return {}
