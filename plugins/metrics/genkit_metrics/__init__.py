"""Figures of merit, the features that they look at, and published protocols."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_features():
    return {
        "pixels": lazy("genkit_metrics.features:Pixels", "The image itself, in [-1, 1]: x / 127.5 - 1, flattened."),
        "inception": lazy(
            "genkit_metrics.inception:Inception",
            "Inception-v3 of 2015, the network of FID: pool (2,048), spatial (2,023) and logits (1,008, unbiased).",
        ),
        "classifier": lazy(
            "genkit_metrics.classifier:Classifier",
            "A small network that learnt the classes of the data at hand by a fixed recipe: pool (128) and logits.",
        ),
    }


@hookimpl
def genkit_weights():
    return {
        "inception": lazy("genkit_metrics.inception:WEIGHTS", "Inception-v3 of 2015, the network of FID; 96 MB."),
    }


@hookimpl
def genkit_commands():
    return {
        "evaluate": lazy("genkit_metrics.commands:evaluate", "Evaluate a run, as its recipe says or otherwise."),
        "stats": lazy("genkit_metrics.stats:app", "Reference statistics that samples are held against."),
    }


@hookimpl
def genkit_metric():
    return {
        "fd": lazy("genkit_metrics.metrics:FrechetDistance", "Fréchet distance of generated to real features."),
        "precision-recall": lazy(
            "genkit_metrics.rows:PrecisionRecall", "Share of samples on the data's manifold, and of data on theirs."
        ),
        "density-coverage": lazy(
            "genkit_metrics.rows:DensityCoverage",
            "How deep samples lie in the data's manifold, and how much of it they reach.",
        ),
        "kid": lazy(
            "genkit_metrics.rows:KernelDistance",
            "Kernel distance (KID) of generated to real features: unbiased, whatever the number of samples.",
        ),
        "inception-score": lazy(
            "genkit_metrics.rows:InceptionScore",
            "Inception score: each image clearly of one class, and all classes there; needs a classifier's logits.",
        ),
    }


@hookimpl
def genkit_notes(planned, training):
    from genkit_metrics import notes

    return list(notes.of_plan(planned, training))


@hookimpl
def genkit_evaluated(figures):
    from genkit_metrics import notes

    return list(notes.of_figures(figures))


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
