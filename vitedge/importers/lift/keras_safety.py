"""The objects that loading a Keras file would make, told from its config beforehand."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitedge.errors import ModelError, UsageError
from vitedge.importers.lift.keras_classes import (
    ACTIVATIONS,
    CLASSES,
    CLASSES_OF_KERAS_2,
    KERAS_HUB,
    TENSORFLOW_FUNCTIONS,
    VALUES,
    VITEDGE,
    WORDS,
)
from vitedge.importers.lift.trust import ADD_TRUST
from vitedge.terminal.printable import one_line
from vitedge.terminal.silence import quiet

_CODE = frozenset(["Lambda", "__lambda__"])

_KERAS_2_OPERATIONS = frozenset(["TFOpLambda", "SlicingOpLambda"])
"""How Keras 2 saved TensorFlow functions in a functional model; Keras 3 cannot read them."""

_METHODS = frozenset(["ClassMethod", "InstanceMethod", "InstanceProperty"])
"""How Keras 2 saved whatever else was called; they name any attribute of any object."""

_KERAS_2_MODULES = re.compile(r"(?:tf_)?keras(?:\.src)?\.layers(?:\.core\.tf_op_layer)?")
_KERAS = re.compile(r"(?:tf_)?keras(?:\..*)?|builtins")
_REGISTERED_IN = {
    "vitedge": re.compile(r"vitedge(?:\.\w+)+"),
    "keras_hub": re.compile(r"keras_hub\..*"),
}


_SHOWN, _LONGEST = 12, 100
"""Names in a message, and letters of each."""


@dataclass
class Findings:
    """The objects of a config that are not on the list of those that only compute.

    Attributes:
        custom: Registered names of classes of nobody's public package, by class name.
        code: Names of layers that hold marshalled Python code.
        keras_2: Names of layers that only Keras 2 reads.
        refused: Everything else, in words.
        given: Names of the user's own objects, by the names that the file has for them.
    """

    custom: dict[str, str] = field(default_factory=dict)
    code: list[str] = field(default_factory=list)
    keras_2: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)


def inspect_config(config: Mapping[str, Any], given: Collection[str] = ()) -> Findings:
    """Walks a whole config, of Keras 3 or Keras 2.

    Args:
        config: The config of a model.
        given: Names of the user's own classes and functions.

    Returns:
        What is not on the list; nothing of it is looked up or imported.
    """
    findings = Findings()
    for entry in _entries(config):
        _inspect(entry, frozenset(given), findings)
    return findings


def _entries(config: Any) -> Iterator[Mapping[str, Any]]:
    """All serialized objects in a config, in their order."""
    stack = [config]
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            if "class_name" in value:
                yield value
            stack += reversed(list(value.values()))
        elif isinstance(value, list | tuple):
            stack += reversed(value)


def _inspect(entry: Mapping[str, Any], given: frozenset[str], findings: Findings) -> None:
    name, inner = entry["class_name"], entry.get("config")
    module, registered = entry.get("module"), entry.get("registered_name")
    label = str(inner.get("name", name)) if isinstance(inner, Mapping) else str(name)
    texts = all(isinstance(text, str | None) for text in (module, registered))
    if not isinstance(name, str) or not texts:
        findings.refused.append(f"an object of the class '{name}' of '{module}'")
    elif name in _CODE:
        findings.code.append(label)
    elif name in VALUES:
        # Some versions of Keras know only some of these, and import the module for the others.
        if module is not None or registered not in (None, name):
            findings.refused.append(f"'{module}.{name}'")
    elif name == "function":
        _inspect_function(inner, module, registered, given, findings)
    elif name in _KERAS_2_OPERATIONS or name in _METHODS:
        findings.keras_2.append(label)
        stock = module is None or _KERAS_2_MODULES.fullmatch(module) is not None
        if not stock or registered not in (None, name):
            findings.refused.append(f"'{module}.{name}'")
        else:
            _inspect_operation(name, inner, findings)
    elif _only_computes(name, module, registered):
        if isinstance(inner, Mapping):
            _inspect_words(inner, given, findings)
    elif not _is_registered(name, module, registered):
        _inspect_other(name, module, registered, given, findings)


def _inspect_function(
    name: Any, module: str | None, registered: str | None, given: frozenset[str], findings: Findings
) -> None:
    if not isinstance(name, str):
        findings.refused.append(f"the function '{name}'")
        return
    if name in given:
        findings.given[name] = name
        return
    stock = module is None or _KERAS.fullmatch(module) is not None
    if not (stock and name in ACTIVATIONS and registered in (None, name)):
        findings.refused.append(
            f"the function '{module}.{name}'" if module else f"the function '{name}'"
        )


def _inspect_operation(name: str, inner: Any, findings: Findings) -> None:
    called = inner.get("function") if isinstance(inner, Mapping) else None
    if name in _METHODS:
        findings.refused.append(f"a method of any object ('{name}')")
    elif (
        not isinstance(called, str) or called.removeprefix("compat.v1.") not in TENSORFLOW_FUNCTIONS
    ):
        findings.refused.append(f"the TensorFlow function '{called}'")


def _only_computes(name: str, module: str | None, registered: str | None) -> bool:
    """Whether Keras looks for the class in its own modules, and the list has it there."""
    if registered not in (None, name):
        return False
    if module is None:
        return name in CLASSES_OF_KERAS_2
    return any(modules.fullmatch(module) and name in names for modules, names in CLASSES)


def _is_registered(name: str, module: str | None, registered: str | None) -> bool:
    """Whether it is a class that vitedge or KerasHub registers, and the list has it."""
    full = registered or name
    package, _, short = full.rpartition(">")
    if full not in VITEDGE | KERAS_HUB or name not in (full, short):
        return False
    return module is None or _REGISTERED_IN[package].fullmatch(module) is not None


def _inspect_other(
    name: str, module: str | None, registered: str | None, given: frozenset[str], findings: Findings
) -> None:
    short, full = name.rpartition(">")[2], registered or name
    public = module is not None and _KERAS.fullmatch(module) is not None
    # Without a registered name, Keras would import the module to find the class there.
    found_by_name = bool(registered) or module is None or public
    if short in given and found_by_name:
        findings.given[full] = short
    elif public or not found_by_name:
        findings.refused.append(f"'{module}.{name}'")
    else:
        # An `.h5` file calls a registered class `Package>Name`.
        findings.custom[short] = full


def _inspect_words(config: Mapping[str, Any], given: frozenset[str], findings: Findings) -> None:
    """Functions that a layer's arguments name by a word alone."""
    for key, value in config.items():
        for kind, words in WORDS:
            if not (key == kind or key.endswith(f"_{kind}")) or not isinstance(value, str):
                continue
            word, short = value.lower(), value.rpartition(">")[2]
            if value in given or word in words or word.replace("_", "") in words:
                continue
            if short == value:
                findings.refused.append(f"the {kind} '{value}'")
            elif short in given:  # registered, as TensorFlow Addons' `Addons>gelu`
                findings.given[value] = short
            else:
                findings.custom[short] = value


def load_custom_objects(
    path: Path, config: Mapping[str, Any], given: Sequence[str], *, trust: bool
) -> tuple[Findings, dict[str, Any]]:
    """Imports what the user named, after making sure that nothing else would run.

    Args:
        path: The file, for messages.
        config: Its config.
        given: ``module:name`` of each class or function.
        trust: Code inside the file may run, and whatever it names may be made.

    Returns:
        What the config asks for, and the user's objects by the names that it has for them.

    Raises:
        ModelError: The file needs what is not on the list, and was not given.
        UsageError: A given object cannot be imported.
    """
    objects = dict(map(_import, given))
    findings = inspect_config(config, objects)
    if not trust:
        refuse_findings(path, findings)
    return findings, objects | {full: objects[short] for full, short in findings.given.items()}


def refuse_findings(path: Path, findings: Findings) -> None:
    """Refuses a file that asks for what is not on the list.

    Raises:
        ModelError: The file does so; the message names the first class.
    """
    if findings.code:
        layer = one_line(findings.code[0], _LONGEST)
        raise ModelError(
            f"layer '{layer}' of '{path}' holds Python code, which runs when the file is loaded; "
            f"{ADD_TRUST}"
        )
    if findings.refused:
        asked = one_line(findings.refused[0], _LONGEST)
        raise ModelError(
            f"'{path}' asks for {asked}, which is not on the list of what only computes; "
            f"{ADD_TRUST}, or --custom-objects module:name for what is yours"
        )
    if findings.custom:
        raise ModelError(
            f"'{path}' uses custom layers or functions ({_names(findings.custom, ', ')}); add "
            f"{custom_object_flags(findings)}, or --trust where Keras itself has them"
        )


def custom_object_flags(findings: Findings) -> str:
    """The flags that name the classes that no public package has."""
    return _names([f"--custom-objects your_module:{name}" for name in findings.custom], " ")


def _names(names: Iterable[str], separator: str) -> str:
    every = [one_line(name, _LONGEST) for name in names]
    more = [f"and {len(every) - _SHOWN} more"] if len(every) > _SHOWN else []
    return separator.join([*every[:_SHOWN], *more])


def _import(text: str) -> tuple[str, Any]:
    module_name, _, name = text.partition(":")
    if not module_name or not name:
        raise UsageError(f"'{text}' is not of the form module:name")
    folder = str(Path.cwd())
    added = folder not in sys.path
    if added:  # a script beside the model, as `python -m` would find it
        sys.path.insert(0, folder)
    try:
        with quiet():  # it may start TensorFlow
            module = importlib.import_module(module_name)
        return name, getattr(module, name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"cannot import '{text}': {error}") from error
    finally:
        if added:
            sys.path.remove(folder)
