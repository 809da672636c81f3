"""Easy consistency tuning (ECT): how it pairs levels, and how the pairs close; and TCM, which has a second stage."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_pairs() -> Offer:
    return {
        "ect": lazy("genkit_ect.pairs:Ect", "t of the noise law, on no grid, and r = max(0, t - t n(t) / (N(k) - 1))."),
        "truncated": lazy(
            "genkit_ect.pairs:Truncated",
            "t of the noise law from `low` to sigma_max, a share of it at `low` itself, and r of ECT, at least 1e-6.",
        ),
    }


@hookimpl
def genkit_curriculum() -> Offer:
    return {
        "powers": lazy(
            "genkit_ect.curriculum:Powers", "Powers N(k) = min(q^(a + 1), most) + 1, a = floor(k S / K) of S stages."
        )
    }


@hookimpl
def genkit_noise() -> Offer:
    return {
        "student-t": lazy(
            "genkit_ect.noise:StudentT",
            "Student-t levels: ln sigma = loc + scale T, T of df degrees of freedom, "
            "kept within e^(loc - 80) … e^(loc + 80).",
        )
    }


@hookimpl
def genkit_weighting() -> Offer:
    return {
        "boundary": lazy(
            "genkit_ect.weighting:Boundary",
            "Another weighting, by which samples at the boundary t' and samples above it have a mean each.",
        )
    }


@hookimpl
def genkit_network() -> Offer:
    return {
        "truncated": lazy(
            "genkit_ect.network:Truncated",
            "A trained network from a level t' on, below it the frozen one of a first stage; both start there.",
        )
    }
