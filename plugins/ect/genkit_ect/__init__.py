"""Easy consistency tuning (ECT): how it pairs levels, and how the pairs close."""

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_pairs() -> Offer:
    return {
        "ect": lazy("genkit_ect.pairs:Ect", "t of the noise law, on no grid, and r = max(0, t - t n(t) / (N(k) - 1)).")
    }


@hookimpl
def genkit_curriculum() -> Offer:
    return {
        "powers": lazy("genkit_ect.curriculum:Powers", "Powers N(k) = q^(a + 1) + 1, a = floor(k S / K) of S stages.")
    }
