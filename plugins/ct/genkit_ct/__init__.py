"""Consistency training as first published: the choices that iCT improved on."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_noise():
    return {"uniform": lazy("genkit_ct.noise:Uniform", "Levels uniform on the rho-axis: every pair of the grid alike.")}


@hookimpl
def genkit_curriculum():
    return {
        "square-root": lazy(
            "genkit_ct.curricula:SquareRoot", "N(k) = ceil(sqrt(k/K ((s1+1)^2 - s0^2) + s0^2) - 1) + 1 grid points."
        ),
        "constant": lazy("genkit_ct.curricula:Constant", "The same number of grid points, s1 + 1, at every step."),
        "linear": lazy("genkit_ct.curricula:Linear", "N(k) = floor(s0 + (s1 - s0) k/K) + 1 grid points."),
        "square": lazy("genkit_ct.curricula:Square", "N(k) = floor(s0 + (s1 - s0) (k/K)^2) + 1 grid points."),
        "cosine": lazy(
            "genkit_ct.curricula:Cosine", "N(k) = floor(s0 + (s1 - s0) (1 - cos(pi k/K)) / 2) + 1 grid points."
        ),
    }


@hookimpl
def genkit_loss():
    return {
        "l1": lazy("genkit_ct.losses:L1", "l1 metric: the mean of |x - y| over dimensions."),
        "l2": lazy("genkit_ct.losses:L2", "Squared l2 metric: the mean of (x - y)^2 over dimensions."),
        "linf": lazy("genkit_ct.losses:LInf", "Maximum metric: the largest |x - y| of a sample."),
    }


@hookimpl
def genkit_teacher():
    return {
        "ema": lazy(
            "genkit_ct.teachers:Ema",
            "A running average of the student, with decay mu(k) that rises with N(k), or stays.",
        )
    }


@hookimpl
def genkit_weighting():
    return {
        "uniform": lazy("genkit_ct.weightings:Uniform", "lambda = 1."),
        "snr": lazy("genkit_ct.weightings:Snr", "lambda = 1 / t^2, the signal-to-noise ratio."),
        "snr+1": lazy("genkit_ct.weightings:SnrPlusOne", "lambda = 1 / t^2 + 1."),
        "truncated-snr": lazy("genkit_ct.weightings:TruncatedSnr", "lambda = max(1 / t^2, 1)."),
        "karras": lazy("genkit_ct.weightings:Karras", "lambda = 1 / t^2 + 1 / sigma_data^2: EDM's weight of a level."),
    }
