"""Chooses among the outputs of a traced model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitedge.errors import ModelError
from vitedge.importers.lift.joined_outputs import join_tensors


def select_logits(
    result: Any,
    wanted: Sequence[str] = (),
    names: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> Any:
    """The logits among a model's outputs: the one of that name, the only one, or the mean of two.

    DeiT's class and distillation heads are averaged, as its paper does for inference
    (arXiv:2012.12877, 5.2).

    Args:
        result: The value that the model returns: a tensor, or any nest of tensors.
        wanted: Names that the user gave; several are averaged.
        names: The model's own names of the tensors of a list.
        beside: Names of further outputs; with such, all are joined, the logits first.

    Raises:
        ModelError: None of these, or a name is unknown.
    """
    import tensorflow as tf

    outputs = _named_outputs(tf.nest.flatten(result), result, names)
    if beside:
        unknown = [name for name in beside if name not in outputs]
        if unknown:
            raise ModelError(f"the model has no output '{unknown[0]}', but {_listed(outputs)}")
        others = {name: each for name, each in outputs.items() if name not in beside}
        main = select_logits(others, wanted)
        return join_tensors(main, [outputs[name] for name in beside])
    if wanted:
        unknown = [name for name in wanted if name not in outputs]
        if unknown:
            raise ModelError(f"the model has no output '{unknown[0]}', but {_listed(outputs)}")
        flat = [outputs[name] for name in wanted]
    elif "logits" in outputs:
        return outputs["logits"]
    else:
        every = list(outputs.values())
        flat = [output for output in every if output.shape.rank == 2] or every
    if len(flat) == 1:
        return flat[0]
    if len({tuple(output.shape[1:]) for output in flat}) == 1 and (wanted or len(flat) == 2):
        return sum(flat[1:], flat[0]) / len(flat)
    raise ModelError(
        f"the model has the outputs {_listed(outputs)}; say with --logits NAME which one holds the "
        "logits"
    )


def _named_outputs(tensors: Sequence[Any], result: Any, names: Sequence[str]) -> dict[str, Any]:
    """Tensors by their keys in a dictionary, by the model's names, or else by their numbers."""
    keys: Sequence[str] = names
    if isinstance(result, Mapping) and len(result) == len(tensors):
        keys = sorted(map(str, result))  # in the order of `flatten`
    if len(keys) != len(tensors) or len(set(keys)) != len(tensors):
        keys = [str(index) for index in range(len(tensors))]
    return dict(zip(keys, tensors, strict=True))


def _listed(outputs: Mapping[str, Any]) -> str:
    shapes = ((name, "x".join(map(str, each.shape[1:]))) for name, each in outputs.items())
    return ", ".join(f"'{name}' ({shape})" for name, shape in shapes)
