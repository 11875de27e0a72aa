"""onnx's own C++ on graphs that nobody vouches for, in a process of its own.

Its shape inference ends the process on some malformed graphs, without an error that Python
could catch. In a child process this becomes an error. A process that helps imports onnx once, in
0.2 s, and forks for each graph; where it cannot fork, it is started anew after it died.
"""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from vitedge.errors import ModelError, first_line

if TYPE_CHECKING:
    import onnx

SMALL = 1024
"""Constants up to so many elements tell of shapes and axes; the values of larger ones stay here."""

PROGRAM = """
import os, sys
import onnx, onnx.inliner, onnx.shape_inference, onnx.version_converter

WORK = {
    "infer": lambda model, _: onnx.shape_inference.infer_shapes(model),
    "inline": lambda model, _: onnx.inliner.inline_local_functions(model),
    "convert": lambda model, opset: onnx.version_converter.convert_version(model, int(opset)),
}
CAN_FORK = hasattr(os, "fork")


def done(work, argument, content):
    try:
        model = WORK[work](onnx.load_model_from_string(content), argument)
        return b"0" + model.SerializeToString()
    except Exception as error:
        return b"1" + str(error).encode(errors="replace")


def apart(*work):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "wb") as stream:
            stream.write(done(*work))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return answer if status == 0 else b"2%d" % -status


source, sink = sys.stdin.buffer, sys.stdout.buffer
while header := source.readline():
    work, argument, length = header.decode().split()
    content = source.read(int(length))
    answer = (apart if CAN_FORK else done)(work, argument, content)
    sink.write(b"%d\\n" % len(answer) + answer)
    sink.flush()
"""
"""What the helping process runs: it imports onnx once, and forks a child for each graph."""

# -P: no module of the current folder takes the place of an installed one.
OPTIONS = ("-P", "-W", "ignore", "-c", PROGRAM)
"""What Python is started with for it."""


def infer_types(model: onnx.ModelProto) -> onnx.GraphProto:
    """The graph with the types and shapes of its tensors; its large constants became inputs.

    Raises:
        ModelError: The graph contradicts itself.
    """
    try:
        light = _without_large_constants(model)
    except Exception as error:  # a name that is no text, say: protobuf's errors share no base
        raise ModelError(first_line(error)) from error
    return _apart(light, "infer").graph


def inline_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model without functions of its own.

    Raises:
        ModelError: The graph contradicts itself.
    """
    return _apart(model, "inline")


def convert_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """A model in the operators of another opset.

    Raises:
        ModelError: onnx cannot convert it.
    """
    return _apart(model, "convert", str(opset))


def _without_large_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = "types"
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    light.graph.value_info.extend(model.graph.value_info)
    known = {item.name for item in model.graph.input}
    for item in model.graph.initializer:
        if int(np.prod(item.dims)) <= SMALL:
            light.graph.initializer.append(item)
        elif item.name not in known:
            kind = onnx.helper.make_tensor_value_info(item.name, item.data_type, item.dims)
            light.graph.input.append(kind)
    return light


def _apart(model: onnx.ModelProto, work: str, argument: str = "-") -> onnx.ModelProto:
    import onnx

    try:
        content = model.SerializeToString()
    except Exception as error:  # over 2 GiB, say
        raise ModelError(first_line(error)) from error
    kind, answer = _helper(os.getpid()).ask(work, argument, content)
    if kind == b"2":
        raise ModelError(f"the ONNX graph is malformed: onnx dies of it (signal {answer.decode()})")
    if kind == b"1":
        raise ModelError(first_line(Exception(answer.decode(errors="replace"))))
    result = onnx.ModelProto()
    result.ParseFromString(answer)
    return result


class _Helper:
    """The process that reads graphs; it ends when this one does, or sooner by ``close``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *OPTIONS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._lock = threading.Lock()

    def ask(self, work: str, argument: str, content: bytes) -> tuple[bytes, bytes]:
        """The outcome of a graph: ``0`` and the result, ``1`` and a reason, ``2`` and a signal."""
        sink, source = self._process.stdin, self._process.stdout
        assert sink is not None
        assert source is not None
        with self._lock:
            with suppress(BrokenPipeError):
                sink.write(f"{work} {argument} {len(content)}\n".encode() + content)
                sink.flush()
            length = source.readline()
            answer = source.read(int(length)) if length else b""
        if answer:
            return answer[:1], answer[1:]
        _helper.cache_clear()  # it could not fork, and died itself
        return b"2", str(-self.close()).encode()

    def close(self) -> int:
        """Ends the process, and returns its exit code."""
        with suppress(BrokenPipeError):
            self._process.communicate()
        return self._process.returncode


@functools.cache
def _helper(process: int) -> _Helper:
    """The helper of the process of this number: one that was forked must not share its pipes."""
    helper = _Helper()
    atexit.register(helper.close)
    return helper
