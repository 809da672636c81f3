"""The tracker, and its session."""

import json
from pathlib import Path

import attrs

from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class Diary:
    """All that it is told, as lines of JSON."""

    fails: str = setting("", "the method that raises", identity=False)

    def open(self, run):
        session = Session(run.folder / "diary.jsonl", self.fails)
        told = {"key": run.key, "k": run.k, "study": run.study, "arm": run.arm, "recipe": run.recipe["name"]}
        session.write("open", **told)
        return session


@attrs.frozen
class Session:
    path: Path
    fails: str

    def scalars(self, k, figures):
        self.write("scalars", k=k, figures=sorted(figures))

    def images(self, k, name, picture):
        self.write("images", k=k, name=name, shape=list(picture.shape))

    def close(self, outcome):
        done = [p.name for p in (self.path.parent / "evaluations").glob("*")]
        self.write("close", outcome=outcome, evaluations=len(done))

    def write(self, what, **told):
        with self.path.open("a") as file:
            file.write(json.dumps({"what": what, **told}) + "\n")
        if what == self.fails:
            raise OSError(f"no connection, {what}")
