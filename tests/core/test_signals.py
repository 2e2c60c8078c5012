import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from sltdino.core.signals import StopRequest


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 75), ("SIGUSR1", 75), ("SIGHUP", 75), ("SIGINT", 130)])
def test_the_first_signal_only_sets_a_flag_and_its_exit_code(name, code):
    with StopRequest() as stop:
        assert (stop.requested, stop.exit_code) == (None, 0)
        os.kill(os.getpid(), signal.Signals[name])
        assert (stop.requested, stop.exit_code) == (name, code)


def test_the_handlers_from_before_are_back_afterwards_also_after_an_error():
    seen = []
    old = signal.signal(signal.SIGUSR1, lambda *_: seen.append("old"))
    try:
        with pytest.raises(ValueError, match="inside"), StopRequest():
            raise ValueError("inside")
        os.kill(os.getpid(), signal.SIGUSR1)
        assert seen == ["old"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_a_signal_that_was_ignored_stays_ignored_as_under_nohup():
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.requested is None
    finally:
        signal.signal(signal.SIGHUP, old)


def test_outside_the_main_thread_it_does_nothing():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with StopRequest() as stop:
            seen.append((signal.getsignal(signal.SIGTERM), stop.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, None)]


_CHILD = """
import sys, time
from sltdino.core.signals import StopRequest
with StopRequest() as stop:
    print("ready", flush=True)
    while stop.requested is None:
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(float(sys.argv[1]))
    print("saved", flush=True)
sys.exit(stop.exit_code)
"""


def _child(seconds):
    command = [sys.executable, "-c", _CHILD, str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once_by_that_signal(second):
    process = _child(30)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    start = time.monotonic()
    process.send_signal(second)
    output, _ = process.communicate(timeout=10)
    assert time.monotonic() - start < 5
    assert process.returncode == -second
    assert "saved" not in output


def test_after_one_signal_there_is_time_to_save():
    process = _child(0.3)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=10)
    assert (output, process.returncode) == ("asked\nsaved\n", 75)


def test_loader_workers_ignore_stop_signals():
    code = """
import os, signal
from sltdino.core.signals import ignore_stop_signals
ignore_stop_signals()
for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"):
    os.kill(os.getpid(), signal.Signals[name])
print("alive")
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "alive\n"
