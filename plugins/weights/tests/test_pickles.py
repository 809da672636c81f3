"""Pickles: data are read, and nothing that stands in them is imported, called or changed."""

import collections
import copyreg
import io
import os
import pickle
import pickletools
import subprocess

import pytest

from genkit.errors import DataError
from genkit_weights import pickles


def length(value):
    """A function of Python's own kind, whose attributes a pickle could set."""
    return len(value)


TABLE = {"collections.OrderedDict": collections.OrderedDict, "builtins.len": length}


def read(raw):
    return pickles.read(io.BytesIO(raw), TABLE, "some.pkl")


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_come_back(protocol):
    data = {"a": [1, 2.5, None, True], "b": collections.OrderedDict(x=(1, 2)), "c": "text"}
    assert read(pickle.dumps(data, protocol)) == data


def test_byte_strings_of_python_2_become_text_character_by_byte():
    assert read(b"(dp0\nS'data'\np1\nS'\\x00\\xff'\np2\ns.") == {"data": "\x00\xff"}


EVIL = {
    "system": (lambda mark: Calls(os.system, f"touch {mark}"), "posix.system"),
    "eval": (lambda mark: Calls(eval, f"open({str(mark)!r}, 'w')"), "builtins.eval"),
    "nested": (lambda mark: {"a": [{"b": (1, Calls(exec, f"open({str(mark)!r}, 'w')"))}]}, "builtins.exec"),
    "process": (lambda mark: [Calls(subprocess.Popen, ["touch", str(mark)])], ".Popen"),
    "inside an argument": (lambda mark: Calls(len, Calls(os.mkdir, str(mark))), "posix.mkdir"),
    "getattr": (lambda mark: Calls(getattr, "", "format"), "builtins.getattr"),
}


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", EVIL)
def test_code_is_named_in_one_line_and_never_runs(tmp_path, name, protocol):
    make, named = EVIL[name]
    mark = tmp_path / "executed"
    raw = pickle.dumps(make(mark), protocol)
    with pytest.raises(DataError) as caught:
        read(raw)
    line = str(caught.value)
    assert named in line and line.startswith("some.pkl: wants ") and "\n" not in line and not mark.exists()
    pickle.loads(raw) if name == "system" else None  # the same bytes do run elsewhere
    assert mark.exists() == (name == "system")


def test_what_a_name_stands_for_is_found_by_the_whole_of_it():
    for raw in (b"cbuiltins\nlen.__self__.eval\n.", pickle.dumps(len).replace(b"len", b"Len")):
        with pytest.raises(DataError, match="wants builtins"):
            read(raw)


def test_a_stand_in_cannot_be_changed():
    set_attributes = b"\x80\x02cbuiltins\nlen\nN}X\x04\x00\x00\x00__x_X\x01\x00\x00\x00as\x86b."
    assert "BUILD" in [op.name for op, _, _ in pickletools.genops(set_attributes)]
    for raw in (set_attributes, b"cbuiltins\nlen\n}X\x01\x00\x00\x00aK\x01sb."):
        with pytest.raises(DataError, match="is no readable pickle"):
            read(raw)


def test_registered_extensions_go_through_the_table_too():
    copyreg.add_extension("os", "system", 240)
    try:
        with pytest.raises(DataError, match=r"wants os\.system"):
            read(b"\x80\x02\x82\xf0.")
    finally:
        copyreg.remove_extension("os", "system", 240)


def test_a_damaged_pickle_is_one_line():
    raw = pickle.dumps({"a": list(range(100)), "b": collections.OrderedDict(x=1)})
    damaged = [raw[:n] for n in range(0, len(raw) - 1, 7)] + [b"", b"\x80\x04", b"not a pickle", b"Pid\n."]
    for broken in damaged:
        with pytest.raises(DataError, match=r"^some\.pkl: is no readable pickle \(") as caught:
            read(broken)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "raw", [b"\x80\x02Nr\xff\xff\xff\xff.", b"S'\xff'\nNr\xff\xff\xff\xff.", b"Np4000000000\n.", b"\x80\x02NNq\xff."]
)
def test_a_number_for_an_object_that_is_not_there_makes_no_table(raw):
    """Python makes a table of as many places, 64 GiB here, for the one object."""
    with pytest.raises(DataError, match="it numbers more objects than it has") as caught:
        read(raw)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_numbers_of_objects_that_are_there_are_fine(protocol):
    data = [[i, str(i)] for i in range(400)]
    assert read(pickle.dumps([data, data], protocol)) == [data, data]
    assert read(pickletools.optimize(pickle.dumps([data, data], protocol))) == [data, data]
