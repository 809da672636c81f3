"""MLflow as a tracker."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_tracker():
    return {"mlflow": lazy("genkit_mlflow.tracker:Mlflow", "Curves, figures and pictures for MLflow.")}
