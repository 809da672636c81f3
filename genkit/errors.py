"""What can go wrong for a user, each with a place, a cause, a remedy and an exit code."""

import os
import sys

MEMORY = "can't allocate memory"  # of torch's allocator for CPUs
TOLD = "GENKIT_TOLD"  # in the environment of processes that one command started: where they tell it their errors


class GenkitError(Exception):
    """A user's error: `where: what; hint`, on one line and without a traceback.

    Attributes:
        exit_code: What the command line leaves with.
    """

    exit_code = 1

    def __init__(self, where: object, what: str, hint: str = "") -> None:
        self.where, self.what, self.hint = map(_short, (str(where), what, hint))
        line = f"{self.where}: {self.what}; {self.hint}".removesuffix("; ")
        super().__init__(line.replace("\n", " "))


def _short(text: str) -> str:
    """What fits a screen and steers no terminal: a message may tell what somebody wrote, of any length."""
    text = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    return text if len(text) <= 2000 else f"{text[:1000]} … {text[-500:]}"


class Diverged(GenkitError):
    """The loss stopped being a finite number."""


class RecipeError(GenkitError):
    """A recipe, or something else that was typed, is wrong; all problems at once, a line each."""

    exit_code = 2

    def __init__(self, where: object, what: str, hint: str = "") -> None:
        super().__init__(where, what, hint)
        self.problems: list[str] = [str(self)]

    @classmethod
    def of(cls, problems: list[str]) -> "RecipeError":
        error = cls("recipe", problems[0])
        error.problems = problems
        return error

    def __str__(self) -> str:
        problems = getattr(self, "problems", None)
        return "\n".join(problems) if problems else super().__str__()


class PluginError(GenkitError):
    """A plugin or a dependency is missing, broken, or made for another API."""

    exit_code = 3


class DataError(GenkitError):
    """Data cannot be read, or are not what they should be."""

    exit_code = 4


class CheckpointError(GenkitError):
    """A checkpoint or run folder cannot be used."""

    exit_code = 4


class HardwareError(GenkitError):
    """A device is missing or does not suffice."""

    exit_code = 4


class OutOfMemory(HardwareError):
    """Memory does not suffice, on a card or elsewhere."""


class Gone(HardwareError):
    """Another process ended, and says itself why."""


class Stopped(GenkitError):
    """A signal ended the run after a checkpoint: 75 preempted, 130 interrupted."""

    def __init__(self, where: object, what: str, hint: str, exit_code: int) -> None:
        super().__init__(where, what, hint)
        self.exit_code = exit_code


class Left(SystemExit):
    """A signal ends the program: no fault of whose code it comes upon."""


def lacks_memory(error: BaseException) -> bool:
    """Whether memory did not suffice."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or MEMORY in str(error)


def tell(error: GenkitError | str, code: int = 0) -> None:
    """A line on stderr; beside other processes, what is the same for all of them only by the first one.

    Where `genkit run --gpus` started them, it tells what the first of them has to say.
    """
    rank = os.environ.get("RANK", "0") if os.environ.get("WORLD_SIZE", "1") != "1" else "0"
    speaker = "genkit" if rank == "0" else f"genkit (rank {rank})"
    text = f"{speaker}: {error}".replace("\n", f"\n{speaker}: ")
    if TOLD in os.environ:
        if not isinstance(error, Gone):
            os.write(int(os.environ[TOLD]), f"{getattr(error, 'exit_code', code)} {text}\0".encode())
    elif rank == "0" or not isinstance(error, RecipeError | Stopped | Diverged):
        print(text, file=sys.stderr)
