"""Figures of merit: Fréchet distance, precision and recall, and the features that they look at."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_features():
    return {"pixels": lazy("genkit_metrics.features:Pixels", "The image itself, in [-1, 1]: x / 127.5 - 1, flattened.")}


@hookimpl
def genkit_metric():
    return {
        "fd": lazy("genkit_metrics.metrics:FrechetDistance", "Fréchet distance of generated to real features."),
        "precision-recall": lazy(
            "genkit_metrics.metrics:PrecisionRecall", "Share of samples on the data's manifold, and of data on theirs."
        ),
    }
