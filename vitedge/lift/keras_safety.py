"""What a Keras file would run when loaded, told from its config before anything is loaded."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitedge.chatter import quiet
from vitedge.errors import ModelError, UsageError

_PUBLIC_PACKAGES = frozenset(
    ["keras", "tf_keras", "keras_hub", "keras_cv", "keras_nlp", "vit_keras", "vitedge"]
)
"""Their layers come from an installed package, not from the file or its author's code."""

_KERAS_2_OPERATIONS = frozenset(["TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod"])
"""How Keras 2 saved TensorFlow operations in a functional model; Keras 3 cannot read them."""


@dataclass(frozen=True)
class Findings:
    """What a config asks for.

    Attributes:
        custom: Registered names of classes that no public package has, by class name.
        code: Names of layers that hold marshalled Python code.
        keras_2: Names of layers that only Keras 2 reads.
    """

    custom: Mapping[str, str]
    code: tuple[str, ...]
    keras_2: tuple[str, ...]


def inspect_config(config: Mapping[str, Any]) -> Findings:
    """Walks a model's config, of Keras 3 or Keras 2."""
    custom, code, keras_2 = {}, [], []
    for entry in _entries(config):
        name = entry["class_name"]
        inner = entry.get("config")
        label = str(inner.get("name", name)) if isinstance(inner, Mapping) else name
        if name in ("Lambda", "__lambda__"):
            code.append(label)
        elif name in _KERAS_2_OPERATIONS:
            keras_2.append(label)
        elif _is_custom(entry):
            # An `.h5` file calls a registered class `Package>Name`.
            custom[name.rpartition(">")[2]] = str(entry.get("registered_name") or name)
    return Findings(custom, tuple(dict.fromkeys(code)), tuple(dict.fromkeys(keras_2)))


def _entries(value: Any) -> Iterator[Mapping[str, Any]]:
    """All serialized objects in a config."""
    if isinstance(value, Mapping):
        if isinstance(value.get("class_name"), str):
            yield value
        for inner in value.values():
            yield from _entries(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _entries(inner)


def _is_custom(entry: Mapping[str, Any]) -> bool:
    name, module = entry["class_name"], entry.get("module")
    registered = entry.get("registered_name")
    if name.startswith("__") or name == "function":
        return False
    if isinstance(module, str) and module.partition(".")[0] in (*_PUBLIC_PACKAGES, "builtins"):
        return False
    if isinstance(registered, str) and ">" in registered:
        return registered.partition(">")[0] not in _PUBLIC_PACKAGES
    if isinstance(module, str):
        return True
    # Files of Keras 2 name no module; only layers are worth a look.
    return "inbound_nodes" in entry and not _is_keras_layer(name)


def _is_keras_layer(name: str) -> bool:
    with quiet():
        import keras

    return hasattr(keras.layers, name) or name in ("Functional", "Model", "Sequential")


def load_custom_objects(
    path: Path, findings: Findings, given: Sequence[str], *, trust: bool
) -> dict[str, Any]:
    """Imports what the user named, after making sure that nothing else would run.

    Args:
        path: The file, for messages.
        findings: What its config asks for.
        given: ``module:name`` of each class.
        trust: Code inside the file may run.

    Raises:
        ModelError: The file holds code and is not trusted, or a class was not given.
        UsageError: A given class cannot be imported.
    """
    objects = dict(map(_import, given))
    if findings.code and not trust:
        raise ModelError(
            f"layer '{findings.code[0]}' of '{path}' holds Python code, which runs when the file "
            "is loaded; if you trust its author, add --trust"
        )
    missing = [name for name in findings.custom if name not in objects]
    if missing:
        flags = " ".join(f"--custom-objects your_module:{name}" for name in missing)
        raise ModelError(f"'{path}' uses custom layers ({', '.join(missing)}); add {flags}")
    by_registration = {
        findings.custom[name]: thing for name, thing in objects.items() if name in findings.custom
    }
    return objects | by_registration


def _import(text: str) -> tuple[str, Any]:
    module_name, _, name = text.partition(":")
    if not module_name or not name:
        raise UsageError(f"'{text}' is not of the form module:name")
    folder = str(Path.cwd())
    added = folder not in sys.path
    if added:  # a script beside the model, as `python -m` would find it
        sys.path.insert(0, folder)
    try:
        return name, getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"cannot import '{text}': {error}") from error
    finally:
        if added:
            sys.path.remove(folder)
