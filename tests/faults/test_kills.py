"""SIGKILL at random moments: the same command ends with the bits of a run that nobody disturbed."""

import collections
import shutil
import signal
from pathlib import Path

import pytest
from driver import RING, Forked, dice, events, final, finals, flip, genkit, same, steps, told, whole, within

from genkit.testing import provide

RUN = [*RING, "train.steps=200", "train.save_every_steps=10", "evaluate.every_steps=40", "evaluate.samples=2000"]
ECT = ["pairs.use=ect", "curriculum.use=powers", "parameterization.use=edm", "loss.c=0"]
NETWORK = "network={use='truncated', network={use='mlp', width=16}, model={from='first'}}"
TCM = [*ECT[1:], "pairs={use='truncated', low=1.0, boundary=0.25}", "noise.use=student-t", "weighting.use=boundary"]
METHODS = {
    "ict": RUN,
    "ect": [*RUN, *ECT],
    "tcm": [NETWORK if word.startswith("network.") else word for word in RUN] + TCM,
    **{name: [*RUN, f"objective.use={name}"] for name in ("meanflow", "imf", "alpha-flow", "shortcut")},
    "ctm": [*RUN, "objective.use=ctm", "objective.points=4"],
    "imm": [*RUN, "objective.use=imm"],
    "scm": [*RUN, "objective.use=scm"],
}
STUDY = ["ablate", *RING[1:], "--swap", "loss=l2", "--seeds", "2", "--jobs", "1"]


def phase(folder):
    """What a run was at when it was killed."""
    if list(Path(folder).glob("checkpoints/.*")):
        return "save"
    last = ([e["event"] for e in events(folder) if e["event"] != "notice"] or ["before"])[-1]
    return {"checkpoint": "training or evaluation", "step": "save", "end": "report"}.get(last, last)


def kills(command, folder, number, chance, seconds, group, hits):
    """Give a command again and again, killed at a moment drawn between its start and its end.

    It yields whenever the command came to its end before, and at the end, and collects the phases that were hit.
    """
    while len(hits) < number:
        running = Forked(command)
        if not within(chance.uniform(0, 0.8 * seconds), running.ended):
            running.send(signal.SIGKILL, group=group())
        if running.wait().code == -signal.SIGKILL:
            hits.append(phase(folder))
        else:
            assert running.wait().code == 0, running.wait().err
            yield
    yield


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_killed_at_random_moments_ends_with_the_same_bits(request, thorough, method):
    chance, run = dice(request, "runs"), METHODS[method]
    if method == "tcm":
        genkit(*RUN, *ECT, "train.steps=20", "--out", "first")
    seconds = min(genkit(*run, "--out", "undisturbed").seconds, genkit(*run, "--out", "again").seconds)
    undisturbed = final("undisturbed")
    same(undisturbed, final("again"))
    number, hits = (240 if thorough else 24) // (1 if method == "ict" else 4), []
    for _ in kills([*run, "--out", "killed"], "killed", number, chance, seconds, lambda: False, hits):
        if steps("killed") and told("killed", "end", outcome="done"):
            same(undisturbed, final("killed"))
            shutil.rmtree("killed")
    genkit(*run, "--out", "killed")
    same(undisturbed, final("killed"))
    whole("killed")
    print(len(hits), "kills:", dict(collections.Counter(hits)))


def test_a_run_that_is_killed_while_a_checkpoint_is_written_behind_it_ends_with_the_same_bits(tmp_path):
    """The write of step 40 stands still while steps are taken, and ends with the process: step 20 counts."""
    run = [*RING, "dataset=staged", "train.log_every_steps=5"]
    site = [provide(tmp_path / "site", "staged", "probe_staged")]
    genkit(*run, "--out", "undisturbed", path=site)
    killed = Forked([*run, "--out", "killed"], path=site, FAULT="save:40 3 SIGKILL").wait()
    assert killed.code == -signal.SIGKILL
    assert max(e["k"] for e in told("killed", "step")) > 40 and phase("killed") == "save"
    assert [path.name for path in steps("killed")] == ["step-0000020"]
    genkit(*run, "--out", "killed", path=site)
    assert told("killed", "resume", k=20)
    same(final("undisturbed"), final("killed"))
    whole("killed")


def test_a_study_that_is_killed_at_random_moments_ends_with_the_same_bits(request, thorough):
    chance = dice(request, "study")
    seconds = genkit(*STUDY).seconds
    undisturbed = finals()
    assert len(undisturbed) == 4
    shutil.rmtree("runs")
    for _ in kills(STUDY, "runs", 60 if thorough else 6, chance, seconds, lambda: chance.random() < 0.5, []):
        pass
    done = Forked(STUDY).wait(120)
    done = Forked(STUDY).wait(120) if done.code == 5 else done  # a trial that was killed alone counts as crashed once
    assert done.code == 0, done.err
    ended = finals()
    assert ended.keys() == undisturbed.keys()
    for name, one in undisturbed.items():
        same(one, ended[name])
        whole(f"runs/{name}")


def test_control_a_run_that_differs_by_one_bit_is_told_apart():
    genkit(*RING, "--out", "one")
    one = final("one")
    newest = steps("one")[-1] / "state.safetensors"
    flip(newest, bit=8 * newest.stat().st_size - 1)
    with pytest.raises(AssertionError):
        same(one, final("one"))


def test_control_a_folder_with_something_half_written_is_told_apart():
    genkit(*RING, "--out", "one")
    whole("one")
    Path("one/checkpoints/.tmp-0000080-1").mkdir()
    with pytest.raises(AssertionError):
        whole("one")
