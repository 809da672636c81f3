"""Signals: noted, told once, and at the second one left."""

import os
import signal

from genkit.training import signals


def test_a_signal_told_twice_is_one_and_a_second_one_leaves_at_once(monkeypatch):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    with signals.caught() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        assert stop.signal == signal.SIGTERM and not left
        stop.since -= 2 * signals.ONE
        signal.raise_signal(signal.SIGINT)
    assert left == [130]
