"""The terminal goes away, or cannot be written: telling is no part of training, and the run goes on to its end."""

import contextlib
import os
import pty
import signal
from pathlib import Path

import pytest
from driver import RING, Done, Spawned, documented, final, genkit, same, told, whole, within

RUN = [*RING, "--out", "run"]


def went_on(done, undisturbed):
    documented(done, {0})
    assert told("run", "end", outcome="done")
    same(undisturbed, final("run"))
    whole("run")


AWAY = {
    "no stdout": 'exec "$@" >&-',
    "no stderr": 'exec "$@" 2>&-',
    "neither": 'exec "$@" >&- 2>&-',
    "none of three": 'exec "$@" <&- >&- 2>&-',
    "full stdout": 'exec "$@" >/dev/full',
    "full stderr": 'exec "$@" 2>/dev/full',
}
FEW = {"no stderr", "none of three", "full stdout"}


@pytest.mark.parametrize("how", [h if h in FEW else pytest.param(h, marks=pytest.mark.thorough) for h in AWAY])
def test_a_run_whose_output_cannot_be_written_goes_on_to_its_end(how, undisturbed):
    went_on(Spawned(RUN, wrap=AWAY[how]).wait(), undisturbed)


@pytest.mark.parametrize("lines", [pytest.param(1, marks=pytest.mark.thorough), 3])
def test_a_run_whose_reader_leaves_goes_on_to_its_end(lines, undisturbed):
    reader = Spawned(RUN, wrap=f'{{ "$@" 2>&1; echo $? >code; }} | head -{lines}').wait()
    went_on(Done(int(Path("code").read_text()), out=reader.out, err=reader.err), undisturbed)


def test_a_run_whose_terminal_closes_saves_and_leaves_and_goes_on_later(undisturbed):
    """The kernel sends SIGHUP and refuses every write."""
    ours, theirs = pty.openpty()
    long = [*RUN, "train.steps=4000"]
    run = Spawned(long, wrap=f'exec setsid -cw "$@" <{os.ttyname(theirs)} >{os.ttyname(theirs)} 2>&1')
    os.close(theirs)
    try:
        assert within(60, lambda: told("run", "checkpoint", k=60) or run.ended())
    finally:
        os.close(ours)
    documented(run.wait(), {75})
    assert told("run", "end", outcome="preempted")


def test_a_run_whose_reader_stands_still_leaves_at_a_second_signal():
    """Its first line waits for room in the pipe, and so would its last one."""
    os.mkfifo("pipe")
    pipe = os.open("pipe", os.O_RDWR | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while os.write(pipe, b" "):
            pass
    run = Spawned(RUN, wrap='exec "$@" 2>pipe')
    assert within(60, lambda: told("run", "start"))
    assert within(20, lambda: run.send(signal.SIGTERM) or run.ended())  # within a second, all are one
    os.close(pipe)
    documented(run.done, {75})
    assert told("run", "end", outcome="preempted")


@pytest.mark.parametrize(
    ("argv", "how"),
    [
        ("runs list", "no stdout"),
        ("runs list", "full stdout"),
        ("recipe check ict_ring", "full stdout"),
        ("--help", "full stdout"),
        ("recipe check ict_ring", "no stdout"),
        ("--help", "no stdout"),
    ],
)
def test_a_command_whose_output_cannot_be_written_has_no_traceback(argv, how):
    """Where results cannot be written it may say so, in a line and with a code."""
    documented(Spawned(argv.split(), wrap=AWAY[how]).wait(), {0} if how == "no stdout" else {0, 4})


def test_control_a_run_that_ends_early_is_told_apart(undisturbed):
    genkit(*RUN, "train.steps=40")
    with pytest.raises(AssertionError):
        went_on(Done(0), undisturbed)
    with pytest.raises(AssertionError):
        went_on(Done(1), undisturbed)
