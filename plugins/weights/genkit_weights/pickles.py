"""Pickles from elsewhere, read without running anything that stands in them.

A pickle is a program: it names functions and calls them. Here every name that it uses is looked up in a table of
the caller's, and a name that is not in the table ends the reading. What the table gives are stand-ins that only
collect data, so that nothing is imported, and nothing but them is called.
"""

from __future__ import annotations

import itertools
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NoReturn

from genkit.errors import DataError

_STEPS = {step.code: step for step in pickletools.opcodes}
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class _Fixed:
    """A function that a pickle may call, and cannot change: it has no attributes to set."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError("a stand-in cannot be changed")


class _Reader(pickle.Unpickler):
    def __init__(self, stream: BinaryIO, table: Mapping[str, Any], where: str) -> None:
        super().__init__(stream, encoding="latin1")  # byte strings of Python 2 become text, character by byte
        self.table, self.where = table, where

    def find_class(self, module: str, name: str) -> Any:
        named = f"{_PYTHON_2.get(module, module)}.{name}"
        if named not in self.table:
            what = f"wants {named}, which is not data"
            raise DataError(self.where, what, "nothing of it was executed; use a file from its authors")
        found = self.table[named]
        return found if isinstance(found, type) else _Fixed(found)


def read(stream: BinaryIO, table: Mapping[str, Any], where: object) -> Any:
    """The one object of a pickle.

    Args:
        table: By `module.name`, what stands in for it: a function, or a class made for this one reading, since a
            pickle may set attributes of a class.
        where: How messages name the pickle.

    Raises:
        DataError: It names something else, or is damaged.
    """
    try:
        begin = stream.tell()
        _require_counting(stream)
        stream.seek(begin)
        return _Reader(stream, table, str(where)).load()
    except DataError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise DataError(where, f"is no readable pickle ({cause})", "copy or download it again") from error


def _require_counting(stream: BinaryIO) -> None:
    """Go through the steps: Python makes a table of as many places as the largest number that an object is given."""
    for i in itertools.count(1):
        step = _STEPS[stream.read(1).decode("latin1")]
        if step.name == "STRING":  # of Python 2, in any bytes, which pickletools takes for ASCII
            stream.readline()
        elif (arg := step.arg and step.arg.reader(stream)) and "PUT" in step.name and arg > i:
            raise ValueError("it numbers more objects than it has")
        if step.name == "STOP":
            return
