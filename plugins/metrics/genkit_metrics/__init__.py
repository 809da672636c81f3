"""Figures of merit: Fréchet distance, precision and recall; the features that they look at; published protocols."""

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


@hookimpl
def genkit_protocol():
    return {
        "edm-fid": lazy(
            "genkit_metrics.protocols:EdmFid", "EDM's FID: rounds to nearest, 50,000 samples, three times; any size."
        ),
        "cm-cifar10": lazy(
            "genkit_metrics.protocols:CmCifar10",
            "Consistency models' FID on CIFAR-10: drops the fraction, 50,000 samples, once.",
        ),
        "adm-imagenet64": lazy(
            "genkit_metrics.protocols:AdmImagenet64",
            "ADM's figures on ImageNet 64x64: drops the fraction, 50,000 samples, once.",
        ),
    }
