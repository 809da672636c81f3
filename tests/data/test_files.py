"""Public files: found where they may be, never used unverified, downloaded whole or not at all."""

import hashlib
import io
import json
import os

import pytest

from genkit import cli
from genkit.data import files
from genkit.data.files import PublicFile
from genkit.errors import DataError, PluginError
from genkit.testing import present, provide

CONTENT = b"weights of a small network " * 40_000  # more than one chunk


def public(source, content=CONTENT, **changes):
    told = {"name": "net.bin", "sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "about": "a test"}
    return PublicFile(**{**told, "url": source.as_uri(), **changes})


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    monkeypatch.setenv("GENKIT_CACHE", str(tmp_path / "cache"))
    for name in ("GENKIT_WEIGHTS", "GENKIT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def there(tmp_path):
    source = tmp_path / "elsewhere.bin"
    source.write_bytes(CONTENT)
    return source


def kept(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache" / "files").glob("*") if not path.name.endswith(".lock"))


def test_a_download_is_kept_and_said_once(tmp_path, there, capsys):
    file = public(there)
    found = files.locate(file)
    assert found == tmp_path / "cache/files/net.bin" and found.read_bytes() == CONTENT
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and file.url in said and str(found) in said
    there.unlink()
    assert files.locate(file) == found and capsys.readouterr().err == ""


def test_a_given_path_stands_before_the_folder_of_weights_and_that_before_the_cache(tmp_path, there, monkeypatch):
    file = public(there)
    cached = files.locate(file, cache_dir=tmp_path / "other")
    assert cached == tmp_path / "other/files/net.bin"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "net.bin").write_bytes(CONTENT)
    monkeypatch.setenv("GENKIT_WEIGHTS", str(mine))
    assert files.locate(file, cache_dir=tmp_path / "other") == mine / "net.bin"
    assert files.locate(file, there) == there


def test_offline_the_one_line_has_all_that_is_needed_to_do_it_by_hand(tmp_path, there, monkeypatch):
    monkeypatch.setenv("GENKIT_OFFLINE", "1")
    file = public(there)
    with pytest.raises(DataError) as caught:
        files.locate(file)
    line = str(caught.value)
    for part in (file.name, file.url, str(file.size), file.sha256, str(tmp_path / "cache/files/net.bin"), "OFFLINE"):
        assert part in line
    assert "\n" not in line and kept(tmp_path) == []
    (tmp_path / "cache/files/net.bin").write_bytes(CONTENT)
    assert files.locate(file).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (CONTENT[:-1], f"gave {len(CONTENT) - 1} bytes"),
        (CONTENT + b"!", "gave more bytes"),
        (b"?" * len(CONTENT), "with sha256"),
    ],
    ids=["short", "long", "other"],
)
def test_a_download_of_something_else_leaves_nothing(tmp_path, there, content, says):
    file = public(there)
    there.write_bytes(content)
    with pytest.raises(DataError, match=says):
        files.locate(file)
    assert kept(tmp_path) == []


def test_a_download_stops_at_the_size_that_the_file_should_have(there, monkeypatch):
    reads = []

    class Counted(io.BytesIO):
        def read(self, size):
            reads.append(size)
            return super().read(size)

    monkeypatch.setattr(files, "CHUNK", 64)
    monkeypatch.setattr(files, "urlopen", lambda url, timeout: Counted(CONTENT))
    with pytest.raises(DataError, match="more bytes"):
        files.locate(public(there, size=100))
    assert reads == [64, 64]


def test_no_connection_is_one_line_that_says_what_to_do(tmp_path, there):
    file = public(there)
    there.unlink()
    with pytest.raises(DataError, match=r"net\.bin: cannot be downloaded .*; get file://.*sha256 .*put it at"):
        files.locate(file)


def test_what_is_found_is_read_once_and_again_when_it_changed(tmp_path, there, monkeypatch):
    file = public(there)
    reads = []
    whole = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: reads.append(path) or whole(path))
    files.locate(file, there)
    files.locate(file, there)
    assert reads == [there]
    there.write_bytes(b"?" * len(CONTENT))
    with pytest.raises(DataError, match="is not the published net.bin"):
        files.locate(file, there)
    assert len(reads) == 2
    there.write_bytes(b"short")
    with pytest.raises(DataError, match=f"5 bytes, not {len(CONTENT)}"):
        files.locate(file, there)


def test_a_spoilt_memory_of_what_was_verified_is_no_matter(tmp_path, there):
    file = public(there)
    files.locate(file)
    for text in ("{", "[]"):
        (tmp_path / "cache/files/verified.json").write_text(text)
        assert files.locate(file).read_bytes() == CONTENT


def test_a_given_path_that_is_not_there_is_no_reason_to_download(there, capsys):
    with pytest.raises(DataError, match=r"gone\.bin: no such file; it should be net\.bin"):
        files.locate(public(there), "gone.bin")
    assert capsys.readouterr().err == ""


@pytest.fixture
def plugin(tmp_path, there):
    """A plugin `probe` that needs two files: `net`, and `none`, which is nowhere."""
    module = tmp_path / "site" / "probe_needs.py"
    module.parent.mkdir()
    other = public(tmp_path / "nowhere.bin", name="none.bin")
    module.write_text(
        "from genkit.data import PublicFile\nfrom genkit.hookspecs import hookimpl, lazy\nGENKIT_API = 1\n"
        f"NET = {public(there)!r}\nNONE = {other!r}\n"
        "@hookimpl\ndef genkit_weights():\n"
        "    return {'net': lazy('probe_needs:NET', 'A net.'), 'none': lazy('probe_needs:NONE', 'None.')}\n"
    )
    with present(provide(module.parent, "needs", "probe_needs")):
        yield


def run(capsys, *argv):
    try:
        cli.main(["weights", *argv])
        code = 0
    except SystemExit as done:
        code = done.code
    return code, *capsys.readouterr()


@pytest.mark.usefixtures("plugin")
def test_files_of_plugins_are_listed_fetched_and_verified(tmp_path, capsys):
    _, out, _ = run(capsys, "list", "--json")
    listed = json.loads(out)
    assert listed["net"]["path"] == "" and listed["net"]["size"] == len(CONTENT)
    code, out, err = run(capsys, "fetch", "net")
    path = tmp_path / "cache/files/net.bin"
    assert (code, out.strip()) == (0, str(path)) and "downloading" in err
    assert str(path) in run(capsys, "list")[1]
    assert run(capsys, "verify")[:2] == (0, f"net: as published ({path})\n")
    stat = path.stat()
    path.write_bytes(b"?" * len(CONTENT))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # what only reading it again can notice
    code, out, err = run(capsys, "verify", "net")
    assert code == 4 and out == "" and err.count("\n") == 1 and "is not the published" in err


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["fetch", "nett"], 2, "no plugin offers such a file"),
        (["verify", "none"], 4, "genkit weights fetch none"),
        (["fetch", "none"], 4, "cannot be downloaded"),
    ],
)
def test_what_cannot_be_done_is_one_line(capsys, argv, code, says):
    found, out, err = run(capsys, *argv)
    lines = [line for line in err.splitlines() if "downloading" not in line]
    assert found == code and out == "" and len(lines) == 1 and says in lines[0]


@pytest.mark.usefixtures("plugin")
def test_two_plugins_with_one_name_are_told(tmp_path):
    site = tmp_path / "site"
    (site / "probe_more.py").write_text((site / "probe_needs.py").read_text())
    with present(provide(site, "more", "probe_more")), pytest.raises(PluginError, match="net: .*another plugin"):
        files.offered()
