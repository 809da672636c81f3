"""The command line: one module for each group of commands.

In go the words after `genkit`; out come results on stdout, progress on stderr, and an exit code, which `genkit.errors`
gives to each kind of error. Read `dispatch` first (which command), then `run`; `show` is how tables and progress look.
"""

from genkit.cli.dispatch import main

__all__ = ["main"]
