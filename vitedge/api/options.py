"""Facts about a model's file, in the plain values that people write."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypedDict, TypeVar, cast

from vitedge.errors import UsageError
from vitedge.images.interpolation import Interpolation
from vitedge.importers import ImportOptions
from vitedge.network.kinds import MLP_ACTIVATIONS, Activation
from vitedge.network.tasks import Task
from vitedge.targets.open_names import OpenName
from vitedge.targets.target import Target

Choice = TypeVar("Choice", bound=StrEnum | OpenName)


class SourceOptions(TypedDict, total=False):
    """Facts about a model's file that a person adds to the file's own.

    Each is the option of that name of ``vitedge convert`` and ``vitedge import``. What is left out,
    or None, is what the file says, else the published default of its kind.

    Attributes:
        heads: Attention heads per block; shapes do not tell it.
        image_size: Side, or height and width, in pixels; positions are interpolated when it differs
            from the file's.
        activation: Non-linearity of the MLPs.
        norm_eps: Epsilon of every norm.
        mean: Per-channel mean of pixels scaled to 0..1.
        std: Per-channel standard deviation of pixels scaled to 0..1.
        resize: Length of the shorter side before the centre crop; 0 stretches to the size.
        interpolation: Resampling filter.
        labels: Class names in order, or a text file with one a line.
        weights: The choice among several models of a checkpoint: ``ema``, ``raw`` or its name.
        head: Name of the layer beside a checkpoint's model that is its head: ``classifier``.
        head_activation: Non-linearity between the layers of a head that has several.
        architecture: timm's name of the model, where its weights do not tell.
        base: The model that a LoRA adapter belongs to.
        logits: Names of the outputs that hold the logits; those of two are averaged.
        beside: Names of further outputs to give beside the main one.
        task: The meaning of the outputs, if the file says otherwise.
        trust: Code inside the file may run.
        custom_objects: ``module:name`` of your own Keras layers.
    """

    heads: int | None
    image_size: int | tuple[int, int] | None
    activation: str | None
    norm_eps: float | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    resize: int | None
    interpolation: str | None
    labels: str | os.PathLike[str] | Sequence[str] | None
    weights: str | None
    head: str | None
    head_activation: str | None
    architecture: str | None
    base: str | os.PathLike[str] | None
    logits: str | Sequence[str]
    beside: str | Sequence[str]
    task: str | None
    trust: bool
    custom_objects: str | Sequence[str]


def import_options(options: SourceOptions, warn: Callable[[str], None]) -> ImportOptions:
    """The options in the form that importers take.

    Args:
        options: The options that the user gave.
        warn: Told what is odd about a model's weights, each thing once.

    Raises:
        TypeError: There is no such option.
        UsageError: A value is not one that an option takes, or the labels cannot be read.
    """
    given = cast(dict[str, Any], options)
    refuse_unknown(given, SourceOptions)
    beyond = [each for each in given.get("mean") or () if not -1 <= each <= 1]
    if beyond:
        raise UsageError(f"--mean is of pixels in 0..1, not {beyond[0]:g}; divide by 255")
    custom_objects = several(given.get("custom_objects", ()))
    for text in custom_objects:
        if ":" not in text:
            raise UsageError(f"--custom-objects takes module:name, not '{text}'")
    size = given.get("image_size")
    base, labels = given.get("base"), given.get("labels")
    return ImportOptions(
        heads=given.get("heads"),
        image_size=(size, size) if isinstance(size, int) else size,
        activation=_activation(given.get("activation"), "--activation"),
        norm_eps=given.get("norm_eps"),
        mean=_numbers(given.get("mean")),
        std=_numbers(given.get("std")),
        resize=given.get("resize"),
        interpolation=_optional(Interpolation, given.get("interpolation"), "--interpolation"),
        labels=None if labels is None else label_names(labels),
        weights=given.get("weights"),
        head=given.get("head"),
        head_activation=_activation(given.get("head_activation"), "--head-activation"),
        architecture=given.get("architecture"),
        base=None if base is None else Path(base),
        logits=several(given.get("logits", ())),
        beside=tuple(dict.fromkeys(several(given.get("beside", ())))),
        task=_optional(Task, given.get("task"), "--task"),
        trust=given.get("trust", False),
        custom_objects=custom_objects,
        warn=_once(warn),
    )


def as_typed(options: SourceOptions) -> list[str]:
    """The options as they are typed on a command line, in their own order.

    Raises:
        ValueError: One has no such form: labels that are not a file.
    """
    typed: list[str] = []
    for name, value in cast(dict[str, Any], options).items():
        flag = f"--{name.replace('_', '-')}"
        if value is None or value is False or value == ():
            continue
        if name == "labels" and not isinstance(value, str | os.PathLike):
            raise ValueError("labels that are not a file cannot be typed")
        if value is True:
            typed.append(flag)
        elif name in ("mean", "std"):
            typed += [flag, ",".join(f"{each:g}" for each in value)]
        elif name == "image_size" and not isinstance(value, int):
            typed += [flag, "x".join(map(str, value))]
        elif name in ("logits", "beside", "custom_objects"):
            typed += [word for each in several(value) for word in (flag, each)]
        else:
            typed += [flag, str(value)]
    return typed


def several(values: str | Iterable[str]) -> tuple[str, ...]:
    """One text, or several."""
    return (values,) if isinstance(values, str) else tuple(map(str, values))


def several_paths(values: str | os.PathLike[str] | Iterable[Any]) -> tuple[Path, ...]:
    """One path, or several."""
    if isinstance(values, str | os.PathLike):
        return (Path(values),)
    return tuple(Path(each) for each in values)


def one_of(kind: type[Choice], value: str, option: str) -> Choice:
    """A choice by its name.

    Raises:
        UsageError: There is no such choice.
    """
    try:
        return kind(value)
    except ValueError as error:
        known = kind.known() if issubclass(kind, OpenName) else list(kind)
        raise UsageError(f"{option} is one of {', '.join(known)}, not '{value}'") from error


def each_of(kind: type[Choice], values: str | Iterable[str], option: str) -> tuple[Choice, ...]:
    """Choices by their names, each once."""
    return tuple(dict.fromkeys(one_of(kind, value, option) for value in several(values)))


def targets_of(values: str | Target | Iterable[str | Target]) -> tuple[Target, ...]:
    """Targets by their names, such as ``tflite-cpu``.

    Raises:
        UsageError: A text names none.
    """
    texts = (values,) if isinstance(values, str | Target) else values
    try:
        return tuple(Target.parse(str(text)) for text in texts)
    except ValueError as error:
        raise UsageError(str(error)) from error


def refuse_unknown(given: Iterable[str], known: type) -> None:
    """Refuses an option that a function does not take, as Python does.

    Raises:
        TypeError: There is one.
    """
    names = known.__annotations__
    for name in given:
        if name not in names:
            raise TypeError(f"there is no option {name!r}; there are {', '.join(names)}")


def command_of(words: Sequence[str]) -> str:
    """A command line, ready to be typed."""
    return shlex.join(["vitedge", *words])


def _optional(kind: type[Choice], value: str | None, option: str) -> Choice | None:
    return None if value is None else one_of(kind, value, option)


def _activation(value: str | None, option: str) -> Activation | None:
    found = _optional(Activation, value, option)
    if found is not None and found not in MLP_ACTIVATIONS:
        raise UsageError(f"{option} is one of {', '.join(MLP_ACTIVATIONS)}, not '{value}'")
    return found


def _numbers(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(map(float, values))


def label_names(labels: str | os.PathLike[str] | Sequence[str]) -> tuple[str, ...]:
    """Names as they are given, or those of a text file, a line each.

    Raises:
        UsageError: The file cannot be read.
    """
    if not isinstance(labels, str | os.PathLike):
        return tuple(labels)
    try:
        lines = Path(labels).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the labels in '{labels}': {error}") from error
    return tuple(line.strip() for line in lines if line.strip())


def _once(warn: Callable[[str], None]) -> Callable[[str], None]:
    """Tells each warning once, however often a model is read."""
    told: set[str] = set()

    def warn_once(words: str) -> None:
        if words not in told:
            told.add(words)
            warn(words)

    return warn_once
