"""A thin dispatcher in front of typer, so that `--help` and `--version` start at once."""

from __future__ import annotations

import atexit
import functools
import gc
import os
import signal
import sys
from typing import Any

from genkit.cli import streams
from genkit.errors import DataError, GenkitError, OutOfMemory, PluginError, RecipeError, lacks_memory, tell
from genkit.hookspecs import Lazy
from genkit.training import signals

# Command -> (where its function or typer app is, one line).
COMMANDS = {
    "run": ("genkit.cli.run:run", "Train a recipe, evaluate it and write its report; or go on where it stopped."),
    "plugins": ("genkit.cli.plugins:app", "What is installed, and whether it works."),
}
OPTIONS = {
    "--plugins A,B": "Load only these plugins.",
    "--without A,B": "Leave these plugins out.",
    "--plugin FILE": "Run a file of Python first, for the classes that it registers.",
    "--local-code": "Allow Python that recipes and run folders name, wherever they are from.",
    "--debug": "Show the traceback of an error.",
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Print completion for the current shell.",
    "--version": "Print the version.",
    "--help": "Show this.",
}


def main(argv: list[str] | None = None) -> None:
    """Run one command and leave with its exit code; a user's error is one line on stderr."""
    streams.prepare()
    atexit.register(_at_exit)
    try:
        with signals.heard():  # a training run has handlers of its own, which save first
            _command(list(sys.argv[1:] if argv is None else argv))
            sys.stdout.flush()
    except SystemExit:
        _flush()
        raise
    except Exception as error:
        _fail(error)


def _at_exit() -> None:
    """The end takes no time (Python collects for seconds what torch made), and no signal changes its code any more."""
    gc.freeze()
    for number in (*signals.SIGNALS, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def _command(argv: list[str]) -> None:
    argv = _globals(argv)
    if "_GENKIT_COMPLETE" in os.environ:
        app({**COMMANDS, **_plugin_commands()}, completing=True)(argv, prog_name="genkit")
    elif not argv or argv[0] in ("--help", "-h"):
        print(_help())
    elif argv[0] == "--version":
        import genkit

        print(f"genkit {genkit.__version__}")
    else:
        _dispatch(argv)


def _fail(error: Exception) -> None:
    """Leave with the line and the code of an error that a user can mend; any other one is raised again."""
    if isinstance(error, OSError):
        streams.abandon()
    if isinstance(error, BrokenPipeError):
        return  # the reader left; nothing to say
    known = _known(error)
    if known is None or os.environ.get("GENKIT_DEBUG"):
        raise error
    tell(known)
    raise SystemExit(known.exit_code) from known


def _known(error: Exception) -> GenkitError | None:
    """What a user is told of an error; None for one of genkit's own."""
    if isinstance(error, GenkitError):
        return error
    if isinstance(error, OSError):  # a path that cannot be written or read: the file's fault, not the program's
        where = error.filename or "a file, or stdout"
        return DataError(where, str(error.strerror), "choose another path, or mend this one")
    if lacks_memory(error):
        return OutOfMemory("memory", _brief(error), "lower train.batch_size, train.micro_batch or the network's size")
    return None


def _brief(error: BaseException) -> str:
    text = str(error) or "does not suffice"
    return " ".join(text[max(text.find("tried to allocate"), 0) :].split())[:160]


def _flush() -> None:
    """Write what is left of the results, before Python does it with a traceback."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _fail(error)


def _globals(argv: list[str]) -> list[str]:
    """Take the options that stand before or behind any command."""
    chosen, own, rest = dict[str, str](), list[str](), list[str]()
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("--plugins", "--without"):
            chosen[name] = value if equals else next(words, "")
        elif name == "--plugin":
            own.append(value if equals else next(words, ""))
        elif word in ("--debug", "--local-code"):
            os.environ[f"GENKIT_{word[2:].replace('-', '_').upper()}"] = "1"
        else:
            rest.append(word)
    if chosen or own:
        from genkit.kernel import discovery, registry

        discovery.choose(chosen.get("--plugins"), chosen.get("--without"))
        if own:
            registry.imported(Lazy("genkit_own.files:run", ""), "--plugin, of genkit-lab-own")(own)
    return rest


def _plugin_commands() -> dict[str, tuple[str, str]]:
    from genkit.kernel import discovery

    return {
        name: (lazy.target, lazy.summary)
        for _, offer in discovery.installed().calls("genkit_commands")
        for name, lazy in offer.items()
        if name not in COMMANDS
    }


def _help() -> str:
    commands = {name: text for name, (_, text) in {**COMMANDS, **_plugin_commands()}.items() if " " not in name}
    width = max(map(len, [*commands, *OPTIONS])) + 2
    lines = ["Usage: genkit COMMAND [ARGS]...", "", "Train few-step generative models from small recipes.", ""]
    lines += ["Commands:", *(f"  {name:<{width}}{text}" for name, text in commands.items()), ""]
    lines += ["Options:", *(f"  {name:<{width}}{text}" for name, text in OPTIONS.items())]
    return "\n".join([*lines, "", "`genkit COMMAND --help` tells more."])


def _dispatch(argv: list[str]) -> None:
    """Hand over to typer, with the one command's module loaded, or all of them for completion."""
    completing = argv[0].endswith("-completion")
    known = COMMANDS if argv[0] in COMMANDS else {**COMMANDS, **_plugin_commands()}
    if not completing and argv[0] not in known:
        from genkit.kernel import index
        from genkit.kinds import closest

        what = "option" if argv[0].startswith("-") else "command"
        hint = closest(argv[0], known, "see genkit --help")
        raise index.absent("genkit", what, argv[0]) or RecipeError("genkit", f"no {what} {argv[0]!r}", hint)
    _call(app(known if completing else {argv[0]: known[argv[0]]}, completing), argv)


def _call(whole: Any, argv: list[str]) -> None:
    """Call a command; what typer, or a plugin's code, has to object is one line."""
    import typer

    from genkit.kernel import blame, index

    misused: Any = typer.BadParameter.__base__
    with blame.blamed(command=True):
        try:
            code = whole(argv, prog_name="genkit", standalone_mode=False)
        except typer.Abort as error:
            raise GenkitError("genkit", "aborted, and nothing was done") from error
        except misused as error:
            text, command = error.format_message(), error.ctx.command_path if error.ctx else "genkit"
            if "\n" not in text:
                absent = index.absent(command, "command", " ".join(argv[:2]))  # of a group that others add to
                hint = _setting(getattr(error, "option_name", ""), argv) or f"see {command} --help"
                raise absent or RecipeError(command, text.removesuffix("."), hint) from error
            print(text, file=sys.stderr)  # of a group without a command: its help
            code = 2
    sys.exit(code if isinstance(code, int) else 0)


def _setting(option: str, argv: list[str]) -> str:
    """The word that was meant by an option that is none, if it is a setting: --steps is train.steps=100."""
    from genkit.kernel.recipe import CORE_TABLES
    from genkit.kinds import fields

    name = option.lstrip("-").replace("-", "_")
    found = next((f"{table}.{name}" for table, cls in CORE_TABLES.items() if name in dict(fields(cls))), "")
    words = [part for word in argv for part in word.split("=", 1)]
    value = "".join(words[words.index(option) + 1 :][:1]) if found else ""
    return found and f"a setting is a word without dashes: {found}={value if value[:1] not in ('', '-') else '...'}"


def app(commands: dict[str, tuple[str, str]], completing: bool = False) -> Any:
    """A typer app of these commands."""
    import typer

    from genkit.kernel import registry

    whole = typer.Typer(
        name="genkit",
        add_completion=completing,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
    )
    whole.callback()(lambda: None)
    for name, (target, text) in commands.items():
        if " " in name:  # of a group, which takes it itself
            continue
        try:
            found = registry.imported(Lazy(target, text), f"genkit {name}")
        except PluginError:
            if completing:
                continue
            raise
        if isinstance(found, typer.Typer):
            _extend(found, name)
            whole.add_typer(found, name=name, help=text)
        else:
            whole.command(name)(found)  # its docstring says more than the line
    signals.leave()  # all of torch may have been imported
    return whole


def _extend(group: Any, name: str) -> None:
    """Add to a group what plugins have for it: their commands of two words, such as `data pack`."""
    from genkit.kernel import registry

    there = {command.name for command in group.registered_commands}
    for full, (target, _) in _plugin_commands().items():
        first, _, word = full.partition(" ")
        if first == name and word and word not in there:
            try:
                group.command(word)(registry.imported(Lazy(target, ""), f"genkit {full}"))
            except PluginError as cause:  # the group's other commands work without it
                anything = {"allow_extra_args": True, "ignore_unknown_options": True}
                group.command(word, context_settings=anything)(functools.partial(_raise, cause))


def _raise(error: PluginError) -> None:
    raise error
