"""Improved consistency training (iCT): what it changed about consistency training, piece by piece."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_noise():
    return {"lognormal": lazy("genkit_ict.noise:Lognormal", "Lognormal levels: ln sigma ~ N(p_mean, p_std^2).")}


@hookimpl
def genkit_curriculum():
    return {
        "exponential": lazy(
            "genkit_ict.curriculum:Exponential", "Doubling N(k) = min(s0 2^floor(k / K'), s1) + 1 grid points."
        )
    }


@hookimpl
def genkit_loss():
    return {
        "pseudo-huber": lazy(
            "genkit_ict.losses:PseudoHuber", "Pseudo-Huber metric sqrt(|x - y|^2 + c^2) - c, one norm per image."
        )
    }


@hookimpl
def genkit_teacher():
    return {"stop-grad": lazy("genkit_ict.teachers:StopGrad", "The student's own current weights, without gradient.")}


@hookimpl
def genkit_weighting():
    return {"inverse-step": lazy("genkit_ict.weightings:InverseStep", "lambda = 1 / (t - r).")}
