"""Ray's REST interface, so that neither this process nor a job needs Ray beside genkit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib import error, request

from genkit.errors import GenkitError

SECONDS = 60


class Refused(RuntimeError):
    """The cluster answers, but not with what it is asked for; `status` is that of HTTP."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


def token() -> str:
    """What shows who asks, where Ray's own tools look for it, too; empty if there is none."""
    if given := os.environ.get("RAY_AUTH_TOKEN"):
        return given
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return path.read_text().strip() if path.is_file() else ""


def call(address: str, path: str, given: Any = None) -> Any:
    """What the cluster answers to GET, or to POST if something is given.

    Raises:
        GenkitError: The token is refused, or there is none.
        Refused: It answers with another error.
        OSError: It does not answer.
    """
    known = token()
    asked = request.Request(
        address.rstrip("/") + path,
        data=None if given is None else json.dumps(given).encode(),
        headers={"Authorization": f"Bearer {known}"} if known else {},
    )
    try:
        with request.urlopen(asked, timeout=SECONDS) as answer:
            return json.load(answer)
    except error.HTTPError as refusal:
        lines = refusal.read().decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if len(line.strip()) > 1), str(refusal))
        if refusal.code in (401, 403):
            raise GenkitError("launcher ray", said, "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH") from None
        raise Refused(refusal.code, said) from None
