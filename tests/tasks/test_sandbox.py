"""The walls of the sandbox hold, and the run goes on."""

import os
import threading
import time

import pytest

from dovetail.tasks import sandbox


def evaluate(expression, seconds=5.0):
    return sandbox.call("builtins:eval", expression, seconds=seconds)


def test_values_come_back():
    assert evaluate("{'a': [1, (2.5, None)], 'b': 'text'}") == {"a": [1, (2.5, None)], "b": "text"}


def test_a_call_is_killed_at_its_limit():
    started = time.monotonic()
    with pytest.raises(sandbox.TimeRanOut):
        evaluate("9**9**9**9", seconds=0.3)
    assert time.monotonic() - started < 10
    assert evaluate("1 + 1") == 2


@pytest.mark.parametrize(
    "attack",
    [
        "open('/etc/hostname').read()",
        "__import__('os').system('true')",
        "__import__('os').fork()",
        "__import__('os').kill(1, 0)",
        "__import__('socket').socket()",
        "__import__('subprocess').run(['true'])",
        "__import__('ctypes').CDLL(None)",
        "'a' * 10**11",
        "__import__('os')._exit(0)",
        "(lambda f: f(f))(lambda f: f(f))",
        "object()",
        "1 / 0",
    ],
)
def test_attacks_fail_and_the_next_call_works(attack):
    with pytest.raises(sandbox.SandboxFailure):
        evaluate(attack)
    assert evaluate("1 + 1") == 2


def test_nothing_can_be_written(tmp_path):
    target = tmp_path / "written"
    with pytest.raises(sandbox.SandboxFailure):
        evaluate(f"open({str(target)!r}, 'w').write('x')")
    assert not target.exists()


def test_calls_leave_no_state():
    evaluate("__import__('builtins').__dict__.update(planted=1)")
    assert evaluate("hasattr(__import__('builtins'), 'planted')") is False


def test_sets_iterate_in_the_same_order_in_every_run():
    assert evaluate("__import__('os').environ['PYTHONHASHSEED']") == "0"


def test_threads_take_turns():
    found = []
    threads = [threading.Thread(target=lambda i=i: found.append(evaluate(f"{i} * 10"))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [i * 10 for i in range(8)]


def test_a_dead_helper_is_replaced():
    evaluate("1")
    helper = sandbox._helper._process
    os.kill(helper.pid, 9)
    helper.wait()
    assert evaluate("1 + 1") == 2
    assert sandbox._helper._process.pid != helper.pid
