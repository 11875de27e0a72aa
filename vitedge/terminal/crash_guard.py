"""Work in a child process, whose crash is an error and not the end of the command.

An engine that trips over a file ends its process without a message. The child is forked before any
engine or thread is there, so it costs a millisecond and starts nothing anew. Where the system
cannot do that, the work is done in this process.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from vitedge.errors import VitedgeError
from vitedge.files.limits import OPTION

_THREADS = Path("/proc/self/task")


class ChildError(VitedgeError):
    """An error of the child's, or its crash."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def guarded(
    work: Callable[[], Iterator[Any]],
    crashed: Callable[[int], str],
    *,
    most_bytes: int | None = None,
) -> Iterator[Any]:
    """The values of an iterator, made in a child process.

    Args:
        work: Makes the iterator; its values are what JSON holds.
        crashed: Says in words that the child died, from the negative number of its signal.
        most_bytes: The most memory that the child may write to; None bounds it by nothing.

    Raises:
        VitedgeError: The error of the work, or the news that the child died.
    """
    if not _can_fork():
        yield from work()
        return
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _bound_memory(most_bytes)
        _serve(work, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as answers:
        for line in answers:
            kind, value = json.loads(line)
            if kind == "error":
                os.waitpid(child, 0)
                raise ChildError(*value)
            yield value
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        raise ChildError(crashed(code))
    if code:
        raise SystemExit(code)  # it has said why


def _can_fork() -> bool:
    """Whether this process is still alone: a child has none of its parent's other threads."""
    return sys.platform == "linux" and len(os.listdir(_THREADS)) == 1


def _bound_memory(most_bytes: int | None) -> None:
    if most_bytes is None:
        return
    import resource

    # Of what a process reserves, this counts what it may write to, and neither files nor guards.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or most_bytes < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (most_bytes, hard))


def _serve(work: Callable[[], Iterator[Any]], writing: int) -> NoReturn:
    code = 0
    try:
        with os.fdopen(writing, "w", encoding="utf-8") as answers:
            try:
                for value in work():
                    print(json.dumps(("value", value)), file=answers, flush=True)
            except VitedgeError as error:
                print(json.dumps(("error", (str(error), error.exit_code))), file=answers)
            except MemoryError as error:
                words = f"there is not enough memory for that, or more is not allowed ({error})"
                print(json.dumps(("error", (f"{words}: {OPTION} allows more", 1))), file=answers)
    except (KeyboardInterrupt, BrokenPipeError):
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
