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
) -> tuple[Any, tuple[str, ...]]:
    """The logits among a model's outputs: the one of that name, the only one, or the mean of two.

    DeiT's class and distillation heads are averaged, as its paper does for inference
    (arXiv:2012.12877, 5.2).

    Args:
        result: The value that the model returns: a tensor, or any nest of tensors.
        wanted: Names that the user gave; several are averaged.
        names: The model's own names of the tensors of a list.
        beside: Names of further outputs; with such, all are joined, the logits first.

    Returns:
        The logits, and the names of the outputs that are left out.

    Raises:
        ModelError: None of these, or a name is unknown.
    """
    import tensorflow as tf

    outputs = _named_outputs(tf.nest.flatten(result), result, names)
    others = {name: each for name, each in outputs.items() if name not in beside}
    for names_given, known in ((beside, outputs), (wanted, others)):
        for name in names_given:
            if name not in known:
                raise ModelError(f"the model has no output '{name}', but {_listed(known)}")
    taken = _taken(others, wanted)
    flat = [outputs[name] for name in taken]
    main = flat[0] if len(flat) == 1 else sum(flat[1:], flat[0]) / len(flat)
    left_out = tuple(name for name in others if name not in taken)
    if beside:
        main = join_tensors(main, [outputs[name] for name in beside])
    return main, left_out


def _taken(outputs: Mapping[str, Any], wanted: Sequence[str]) -> list[str]:
    """The names of the outputs that hold logits."""
    if wanted:
        found = list(wanted)
    elif "logits" in outputs:
        return ["logits"]
    else:
        found = [name for name, each in outputs.items() if each.shape.rank == 2] or list(outputs)
    shapes = {tuple(outputs[name].shape[1:]) for name in found}
    if len(found) == 1 or (len(shapes) == 1 and (wanted or len(found) == 2)):
        return found
    raise ModelError(
        f"the model has the outputs {_listed(outputs)}; say with --logits NAME which one holds the "
        "logits, and with --beside NAME which others to give, too"
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
