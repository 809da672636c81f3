"""Signals: noted, told once, and at the second one left."""

import os
import signal

import pytest

from genkit.errors import PluginError
from genkit.training import signals


@pytest.fixture
def _handlers_stay():
    before = {number: signal.getsignal(number) for number in (*signals.SIGNALS, signal.SIGALRM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers_stay")
@pytest.mark.parametrize("taken", [PluginError("import", "failed"), SystemExit(3), ImportError("half made")])
def test_a_signal_that_others_take_for_their_own_fault_leaves_with_its_code(taken):
    with pytest.raises(signals.Left) as left, signals.heard():
        try:
            signal.raise_signal(signal.SIGTERM)
        except SystemExit:
            raise taken from None
    assert left.value.code == 75


def test_a_signal_told_twice_is_one_and_a_second_one_leaves_at_once(monkeypatch):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may ignore it
    with signals.caught() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert stop.signal == signal.SIGTERM and not left
        stop.since -= 2 * signals.ONE
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
    assert left == [130]
