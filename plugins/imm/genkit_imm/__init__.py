"""Inductive moment matching (IMM): the objective, with its scalings, pairs, law of levels and weighting."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_objective() -> Offer:
    return {
        "imm": lazy("genkit_imm.objective:Imm", "Groups of samples whose jumps to s, from t and from r, are alike.")
    }


@hookimpl
def genkit_parameterization() -> Offer:
    return {"imm": lazy("genkit_imm.parameterization:Imm", "Jumps with EDM's scalings; the network is told times.")}


@hookimpl
def genkit_pairs() -> Offer:
    return {
        "imm": lazy("genkit_imm.levels:EvenSteps", "t of the noise law within the range, and r an even step below.")
    }


@hookimpl
def genkit_noise() -> Offer:
    return {
        "uniform-time": lazy(
            "genkit_imm.levels:UniformTime", "Levels whose time t = sigma / (sigma + sigma_data) is uniform."
        )
    }


@hookimpl
def genkit_weighting() -> Offer:
    return {
        "imm": lazy(
            "genkit_imm.weighting:Imm",
            "lambda = sigmoid(b - l) (-dl/dt) (1 - t)^a / (t^2 + (1 - t)^2) / 2, l the log of SNR.",
        )
    }
