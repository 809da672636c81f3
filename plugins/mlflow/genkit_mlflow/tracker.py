"""A run of MLflow for each run of genkit."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs
from torch import Tensor

from genkit.errors import PluginError
from genkit.kinds import TrackedRun, setting

if TYPE_CHECKING:
    from mlflow import MlflowClient

STATUS = {"done": "FINISHED", "preempted": "KILLED"}  # else FAILED
MOST = 100  # parameters that MLflow takes in one call


@attrs.frozen(kw_only=True)
class Mlflow:
    """Curves, figures and pictures for MLflow.

    Settings of the recipe are its parameters, `genkit.study` and `genkit.arm` tags of a trial. MLflow has no @ in
    names: `fd.fd@1` is `fd.fd/1` there.
    """

    experiment: str = setting("genkit", "the experiment there", identity=False)
    uri: str = setting("", "address or path of the store; if empty, as $MLFLOW_TRACKING_URI says", identity=False)

    def open(self, run: TrackedRun) -> Session:
        """The run of MLflow whose tag `genkit.key` is the run's key: a new one, or the one that goes on.

        Raises:
            PluginError: The client is not installed.
        """
        try:
            from mlflow import MlflowClient
            from mlflow.entities import Param
        except ModuleNotFoundError as error:
            raise PluginError("mlflow", "is not installed", "python -m pip install mlflow-skinny") from error
        client = MlflowClient(self.uri or None)
        known = client.get_experiment_by_name(self.experiment)
        place = known.experiment_id if known else client.create_experiment(self.experiment)
        if begun := client.search_runs([place], f"tags.`genkit.key` = '{run.key}'"):
            client.update_run(begun[0].info.run_id, "RUNNING")
            return Session(client, begun[0].info.run_id)
        tags = {"genkit.key": run.key, "genkit.study": run.study, "genkit.arm": run.arm}
        title = f"{run.arm or run.recipe['name']}, seed {run.recipe['train']['seed']}"
        made = client.create_run(place, tags={n: v for n, v in tags.items() if v}, run_name=title).info.run_id
        params = [Param(_name(n), str(v)[:6000]) for n, v in _flat(run.recipe)]
        for i in range(0, len(params), MOST):
            client.log_batch(made, params=params[i : i + MOST])
        return Session(client, made)


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their dotted names, such as train.steps."""
    for name, value in table.items():
        yield from _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else [(above + name, value)]


def _name(name: str) -> str:
    """A name as MLflow takes it."""
    return re.sub(r"[^\w\-. :/]", "-", name.replace("@", "/"), flags=re.ASCII)


@attrs.frozen
class Session:
    """An open run of MLflow."""

    client: MlflowClient
    id: str

    def scalars(self, k: int, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.client.log_batch(self.id, metrics=[Metric(_name(n), float(v), now, k) for n, v in figures.items()])

    def images(self, k: int, name: str, picture: Tensor) -> None:
        pixels = picture.cpu().permute(1, 2, 0).numpy()
        self.client.log_image(self.id, pixels, key=_name(name), step=k)

    def close(self, outcome: str) -> None:
        self.client.set_terminated(self.id, STATUS.get(outcome, "FAILED"))
