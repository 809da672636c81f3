"""The teacher of iCT."""

from __future__ import annotations

import attrs

from genkit.denoiser import Denoiser
from genkit.kinds import Context


@attrs.frozen(kw_only=True)
class StopGrad:
    """The student's own current weights, without gradient.

    With an average in its place the objective says nothing of the data as N grows.

    Source: Song & Dhariwal 2023 (arXiv 2310.14189), section 3.2.
    """

    def build(self, context: Context) -> StopGrad:
        return self

    def init(self, student: Denoiser) -> Denoiser:
        return student

    def update(self, teacher: Denoiser, student: Denoiser, intervals: int) -> None:
        """Nothing to do: the teacher is the student."""
