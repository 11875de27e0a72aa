"""An ONNX graph of one image as a graph of any number of images.

The first axis of every tensor that our emitter makes of pixels is the batch, times tokens where
tokens are rows. So few things fix the batch: the shapes of Reshapes, the sizes of Resizes, and
constants that stand beside what each image has, such as a class token.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BATCH = "batch_size"
"""The axis's name in the file, which is that of Hugging Face's exporters."""


def with_any_batch(model: Any) -> Any:
    """A model that takes as many images at a time as it is given.

    Args:
        model: A ``ModelProto`` of batch 1 that ``OnnxEmitter`` wrote; left unchanged.
    """
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    _Widening(made.graph).widen()
    return made


class _Widening:
    """Changes a graph in place."""

    def __init__(self, graph: Any) -> None:
        self._graph, self._pixels = graph, graph.input[0].name
        self._constants = {each.name: each for each in graph.initializer}
        self._of_images = {self._pixels}
        self._nodes: list[Any] = []
        self._repeated: dict[str, str] = {}

    def widen(self) -> None:
        for node in self._graph.node:
            if self._of_images.isdisjoint(node.input):
                self._nodes.append(node)
                continue
            self._of_images.update(node.output)
            match node.op_type:
                case "Reshape":
                    # The constant may have other readers.
                    shape = (-1, *self._numbers(node.input[1])[1:])
                    node.input[1] = self._stored(f"{node.input[1]}/any_batch", shape)
                case "Resize":
                    # Scales would round, and ONNX Runtime 1.32 loses `axes` on the way.
                    node.input[3] = self._behind_batch(node.input[3], self._numbers(node.input[3]))
                case "Concat":
                    node.input[:] = [self._repeat(each) for each in node.input]
            self._nodes.append(node)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        self._drop_unread_constants()
        for value in (*self._graph.input, *self._graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = BATCH

    def _numbers(self, name: str) -> tuple[int, ...]:
        from onnx import numpy_helper

        return tuple(int(each) for each in numpy_helper.to_array(self._constants[name]))

    def _stored(self, name: str, numbers: tuple[int, ...]) -> str:
        from onnx import numpy_helper

        if name not in self._constants:
            tensor = numpy_helper.from_array(np.asarray(numbers, np.int64), name)
            self._graph.initializer.append(tensor)
            self._constants[name] = tensor
        return name

    def _repeat(self, name: str) -> str:
        """The constant, once for each image; a tensor that depends on images stays as it is."""
        if name in self._of_images:
            return name
        if name not in self._repeated:
            self._repeated[name] = self._expanded(name)
        return self._repeated[name]

    def _expanded(self, name: str) -> str:
        from onnx import helper

        made = f"{name}/repeated"
        # Axes of 1 keep the constant's own size.
        shape = self._behind_batch(made, (1,) * len(self._constants[name].dims))
        self._nodes.append(helper.make_node("Expand", [name, shape], [made], made))
        return made

    def _behind_batch(self, name: str, shape: tuple[int, ...]) -> str:
        """A shape that begins with the number of images that there are."""
        from onnx import helper

        count, made = f"{name}/batch", f"{name}/any_batch"
        rest = self._stored(f"{name}/of_one", shape[1:])
        self._nodes += [
            helper.make_node("Shape", [self._pixels], [count], count, start=0, end=1),
            helper.make_node("Concat", [count, rest], [made], made, axis=0),
        ]
        return made

    def _drop_unread_constants(self) -> None:
        read = {name for node in self._nodes for name in node.input}
        kept = [each for each in self._graph.initializer if each.name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
