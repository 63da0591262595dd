"""Judges model-written text in a process of its own: a time limit that holds, little memory, no files, no
network.

Some scorers evaluate what a model wrote as an expression (sympy does so through ``eval``), and ``9**9**9`` or
``__import__("os")`` must neither stop nor harm the run. One helper process per Python process imports the
judging code once; every call runs in a fork of it, which is killed when its time is up. That costs a few
milliseconds a call, works from any thread, and leaves no state behind.

The walls: limits on processor and wall-clock time, enforced by signals that cannot be caught; limits on
memory, file size and processes; a network namespace without interfaces where the system grants one; an audit
hook that refuses to open files outside Python's own folders, and refuses sockets, subprocesses, signals and
ctypes. They stop accidents and simple attacks; they are not a virtual machine.

POSIX only: elsewhere ``call`` raises `Unsupported`.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import importlib
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from dovetail.core import DovetailError, Unsupported

MEMORY_LIMIT = 4 << 30  # bytes of address space, the imported libraries included
PATIENCE = 5.0  # seconds of wall-clock time that a second of processor time may take on a busy machine
_START_LIMIT = 120.0  # seconds that importing the judging code may take
_MAX_RESULT = 256 << 20  # bytes
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


class SandboxFailure(DovetailError):
    """The call came to no result: time or memory ran out, or the code raised."""


class TimeRanOut(SandboxFailure):
    """The call was killed at its time limit."""


def call(function: str, *arguments: Any, seconds: float = 2.0, confined: bool = True) -> Any:
    """Calls ``module:name`` with ``arguments`` in the sandbox.

    Args:
        function: ``"package.module:name"``, importable; its arguments are pickled.
        seconds: limit of processor time, so that the outcome does not depend on how busy the machine is; the
            wall-clock limit is `PATIENCE` times as much. Importing the module the first time is not counted.
        confined: False for trusted code that needs the sandbox only for its fixed hash seed
            (``PYTHONHASHSEED=0``, so that sets iterate in the same order in every run).

    Where the module has a function ``prepare_name``, it is called first with the same arguments, in the
    helper
    itself: what it loads and caches, all later calls inherit. It must not touch model-written text.

    Returns:
        What the function returned: a Python literal (numbers, text, lists, tuples, dicts, sets, None).

    Raises:
        TimeRanOut: after ``seconds``.
        SandboxFailure: the function raised, ran out of memory, or returned something else.
        Unsupported: the system has no ``fork``.
    """
    return _helper.call(function, arguments, seconds, confined)


class _Helper:
    """The parent's end of the helper process; started at the first call, again after a fork or a crash."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def call(self, function: str, arguments: tuple[Any, ...], seconds: float, confined: bool) -> Any:
        if not hasattr(os, "fork"):
            raise Unsupported("judging model-written expressions needs a system with fork (Linux or macOS)")
        with self._lock:
            process = self._started()
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                _send(process.stdin, pickle.dumps((function, arguments, seconds, confined)))
                status, value = _receive(process.stdout, PATIENCE * seconds + _START_LIMIT)
            except (OSError, EOFError) as error:
                self.close()
                raise SandboxFailure(f"the sandbox's helper process broke down in {function}") from error
            except BaseException:
                self.close()  # an interrupted exchange: the next call must not read this one's answer
                raise
        if status == b"t":
            raise TimeRanOut(f"{function} took more than {seconds:g} s of processor time")
        if status == b"e":
            raise SandboxFailure(f"{function}: {value.decode(errors='replace')}")
        try:
            return ast.literal_eval(value.decode())
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise SandboxFailure(f"{function} returned something that is not a Python literal") from error

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and (self._owner != os.getpid() or self._process.poll() is not None):
            if self._owner != os.getpid():
                self._process = None  # after a fork: the pipes are the parent's
            else:
                self.close()
        if self._process is None:
            home = str(Path(__file__).resolve().parents[2])
            paths = [home, *(p for p in sys.path if p)]
            environment = {
                key: value
                for key, value in os.environ.items()
                if key in ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
            }
            environment |= {
                "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
                "PYTHONHASHSEED": "0",
                # A forked child has only the thread that forked: libraries must not have started others.
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "MKL_NUM_THREADS": "1",
                "MPLBACKEND": "Agg",
            }
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", "from dovetail.tasks.sandbox import _serve; _serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the run, which then says what to do
            )
            self._owner = os.getpid()
        return self._process

    def close(self) -> None:
        """Ends the helper process; the next call starts another."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()


_helper = _Helper()
atexit.register(_helper.close)


# Frames on the pipes: one status byte, eight bytes of length, the payload.


def _send(pipe: BinaryIO | Any, payload: bytes, status: bytes = b"r") -> None:
    pipe.write(status + struct.pack("<Q", len(payload)) + payload)
    pipe.flush()


def _receive(pipe: BinaryIO | Any, seconds: float | None) -> tuple[bytes, bytes]:
    head = _read(pipe, 9, seconds)
    (length,) = struct.unpack("<Q", head[1:])
    if length > _MAX_RESULT:
        raise EOFError("the answer is too long")
    return head[:1], _read(pipe, length, seconds)


def _read(pipe: BinaryIO | Any, count: int, seconds: float | None) -> bytes:
    """Exactly ``count`` bytes from the unbuffered descriptor; EOFError at the end or after ``seconds``."""
    deadline = None if seconds is None else time.monotonic() + seconds
    parts: list[bytes] = []
    while count:
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        if not select.select([pipe.fileno()], [], [], left)[0]:
            raise EOFError("no answer in time")
        part = os.read(pipe.fileno(), min(count, 1 << 20))
        if not part:
            raise EOFError("the pipe was closed")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


# The helper process.


def _serve() -> None:
    """The helper's loop: read a call, fork, pass on what the child wrote or kill it at its time limit."""
    requests, answers = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)  # what libraries print must not mix with the answers
    _leave_network()
    while True:
        try:
            _, payload = _receive(requests, None)
        except EOFError:
            return
        function, arguments, seconds, confined = pickle.loads(payload)
        module, name = function.split(":")
        try:
            target = getattr(importlib.import_module(module), name)
            prepare = getattr(sys.modules[module], f"prepare_{name}", None)
            if prepare is not None:
                prepare(*arguments)
        except Exception as error:
            _send(answers, _words(error), b"e")
            continue
        status, value = _in_child(target, arguments, seconds, confined, (requests, answers))
        _send(answers, value, status)


def _in_child(
    target: Any, arguments: tuple[Any, ...], seconds: float, confined: bool, private: tuple[Any, ...]
) -> tuple[bytes, bytes]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            for pipe in private:
                os.close(pipe.fileno())
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, seconds)  # ends the process wherever it is, C code included
            if confined:
                _confine(seconds)
            with os.fdopen(writer, "wb", 0) as out:
                try:
                    value, status = repr(target(*arguments)).encode(), b"r"
                except BaseException as error:
                    value, status = _words(error), b"e"
                view = memoryview(status + struct.pack("<Q", len(value)) + value)
                while view:
                    view = view[os.write(out.fileno(), view[: 1 << 20]) :]
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb", 0) as pipe:
        deadline = time.monotonic() + PATIENCE * seconds
        answer = None
        with contextlib.suppress(EOFError):
            answer = _receive(pipe, PATIENCE * seconds)
        late = time.monotonic() >= deadline
        os.kill(child, signal.SIGKILL)  # no harm to one that has ended: its status stays
        _, ending = os.waitpid(child, 0)
    if answer is not None:
        return answer
    if late or (os.WIFSIGNALED(ending) and os.WTERMSIG(ending) in (signal.SIGPROF, signal.SIGXCPU)):
        return b"t", b""
    return b"e", b"the process died (out of memory, or a crash)"


def _words(error: BaseException) -> bytes:
    return f"{type(error).__name__}: {error}"[:1000].encode(errors="replace")


def _leave_network() -> None:
    """Moves into a network namespace without interfaces, where the system allows it."""
    try:
        import ctypes

        ctypes.CDLL(None).unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    except (OSError, AttributeError):
        pass


_REFUSED = (
    "socket.", "subprocess.", "ctypes.", "shutil.", "pty.", "signal.", "mmap.", "fcntl.", "resource.",
    "urllib.", "ftplib.", "http.", "smtplib.", "sqlite3.", "webbrowser.",
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill", "os.remove", "os.rename",
    "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.chdir",
    "os.putenv",
)  # fmt: skip


def _confine(seconds: float) -> None:
    """Puts up the walls in a fresh child; they cannot be taken down again."""
    import resource

    cpu = int(seconds) + 2
    for kind, limit in (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, MEMORY_LIMIT),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        try:
            resource.setrlimit(kind, (limit, limit))
        except (OSError, ValueError):
            continue  # macOS has no limit on address space
    readable = tuple({os.path.realpath(p) for p in (sys.prefix, sys.base_prefix, *sys.path) if p})

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            if isinstance(path, int):
                return
            if writes or not os.path.realpath(os.fsdecode(path)).startswith(readable):
                raise PermissionError(f"the sandbox opens no files: {path!r}")
        elif event.startswith(_REFUSED):
            raise PermissionError(f"the sandbox does not allow {event}")

    sys.addaudithook(watch)
