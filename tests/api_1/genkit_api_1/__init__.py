"""Api1 for genkit."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_dataset():
    return {"api-1": lazy("genkit_api_1.dataset:Api1Dataset", "Points spread evenly over a square.")}


@hookimpl
def genkit_network():
    return {"api-1": lazy("genkit_api_1.network:Api1Network", "The same small MLP at every pixel.")}


@hookimpl
def genkit_parameterization():
    return {"api-1": lazy("genkit_api_1.parameterization:Api1Parameterization", "EDM's scalings.")}


@hookimpl
def genkit_curriculum():
    return {"api-1": lazy("genkit_api_1.curriculum:Api1Curriculum", "Few grid points in the first half, many in the second.")}


@hookimpl
def genkit_noise():
    return {"api-1": lazy("genkit_api_1.noise:Api1Noise", "ln sigma uniform between the ends of the levels.")}


@hookimpl
def genkit_pairs():
    return {"api-1": lazy("genkit_api_1.pairs:Api1Pairs", "r = (1 - 1 / (N(k) - 1)) t, with t of the noise law.")}


@hookimpl
def genkit_coupling():
    return {"api-1": lazy("genkit_api_1.coupling:Api1Coupling", "Of eps and -eps the one that points to x0.")}


@hookimpl
def genkit_loss():
    return {"api-1": lazy("genkit_api_1.loss:Api1Loss", "The mean of (x - y)^4 over dimensions.")}


@hookimpl
def genkit_weighting():
    return {"api-1": lazy("genkit_api_1.weighting:Api1Weighting", "lambda = t^-power.")}


@hookimpl
def genkit_path():
    return {"api-1": lazy("genkit_api_1.path:Api1Path", "An Euler step from t to r along the line to x0.")}


@hookimpl
def genkit_teacher():
    return {"api-1": lazy("genkit_api_1.teacher:Api1Teacher", "A copy of the student that follows it slowly.")}


@hookimpl
def genkit_objective():
    return {"api-1": lazy("genkit_api_1.objective:Api1Objective", "Denoising at the levels of a noise law.")}


@hookimpl
def genkit_optimizer():
    return {"api-1": lazy("genkit_api_1.optimizer:Api1Optimizer", "Stochastic gradient descent with momentum.")}


@hookimpl
def genkit_ema():
    return {"api-1": lazy("genkit_api_1.ema:Api1Ema", "No averaging: the average is the weights.")}


@hookimpl
def genkit_sampler():
    return {"api-1": lazy("genkit_api_1.sampler:Api1Sampler", "One call at the largest level: the mean of the data, nearly.")}


@hookimpl
def genkit_features():
    return {"api-1": lazy("genkit_api_1.features:Api1Features", "The mean of each channel.")}


@hookimpl
def genkit_metric():
    return {"api-1": lazy("genkit_api_1.metric:Api1Metric", "Distance of the means of generated and real features.")}


@hookimpl
def genkit_protocol():
    return {"api-1": lazy("genkit_api_1.protocol:Api1Protocol", "Rounds to nearest, 10,000 samples, once.")}


@hookimpl
def genkit_tracker():
    return {"api-1": lazy("genkit_api_1.tracker:Api1Tracker", "The loss as a file of comma-separated values.")}


@hookimpl
def genkit_launcher():
    return {"api-1": lazy("genkit_api_1.launcher:Api1Launcher", "Runs jobs on this machine, a process for each.")}


@hookimpl
def genkit_recipes():
    return "genkit_api_1.recipes"
