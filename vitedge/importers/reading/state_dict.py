"""The weights of a torch model among whatever a checkpoint holds.

Training scripts save more than a model: an average of its weights beside it, losses and metrics,
optimizers, settings. They save it below other names, too: ``model.`` (Lightning), ``module.``
(several GPUs), ``_orig_mod.`` (torch.compile). An importer says by which names it knows a model;
here such models are looked for under any prefix and in any dictionary of the file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vitedge.errors import ModelError
from vitedge.importers import ImportOptions
from vitedge.importers.reading.safetensors_file import open_safetensors, safetensors_names
from vitedge.importers.reading.tensors import Tensors, as_head, linear_layers
from vitedge.importers.reading.torch_file import State, open_torch, torch_states

RAW, AVERAGED = "raw", "ema"
"""What ``--weights`` says of weights as the optimizer left them, and of their moving average."""

# Wrappers that change nothing and stand anywhere in a name: torch.compile, checkpointing, FSDP.
_WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")

_AVERAGES = frozenset(["ema", "swa", "averaged", "average", "shadow", "polyak"])
_COUNTER = "n_averaged"  # of torch.optim.swa_utils.AveragedModel

# What takes no part in the logits, by the first part of its name: losses, metrics and counters.
_NO_LAYER = re.compile(
    rf"{_COUNTER}|num_updates|decay|epoch|step|global_step"
    r"|(?:.*_)?(?:criterion|loss|loss_fn|loss_func|losses|metrics?|auroc|confmat|confusion_matrix)"
    r"|(?:.*_)?(?:acc|accuracy|auc|f1|iou|dice|precision|recall)(?:_?\d+)?"
)
# torch's functions that make tensors of some kind.
_MAKES_TENSORS = re.compile(r"torch\._utils\._rebuild|torch\._tensor|torch\.\w*Storage|torchao\.")

_SHOWN = 3


@dataclass(frozen=True)
class _Model:
    """A model that was found in a checkpoint.

    Attributes:
        keys: The keys that lead to its dictionary, joined by slashes.
        prefix: The prefix of its names there.
        names: Its names there, by those of its layers.
        averaged: Whether its weights are a moving average.
    """

    keys: str
    prefix: str
    names: Mapping[str, str]
    averaged: bool

    @property
    def label(self) -> str:
        """Its name for ``--weights``, if it has to be told from others."""
        inner = "" if self.prefix == "module." else self.prefix.rstrip(".").replace(".", "/")
        return "/".join(part for part in (self.keys, inner) if part) or RAW


@dataclass(frozen=True)
class Opened:
    """A model's tensors.

    Attributes:
        tensors: The tensors, by the names that the importer knows.
        words: The parts of the file that were taken and left out; empty if nothing was chosen.
    """

    tensors: Tensors
    words: str

    def read(self, importer: str) -> str:
        """Describes how the model was read."""
        return f"by name: {importer}{self.words}"


def in_checkpoint(path: Path, marks: Collection[str]) -> bool:
    """Whether a ``.safetensors`` or torch file holds a model with such names, under any prefix.

    Reads no weights; False, never an error, for any other file.
    """
    return bool(_models(_states(path), marks))


@contextmanager
def open_checkpoint(
    path: Path, marks: Collection[str], options: ImportOptions, *, head: str = ""
) -> Iterator[Opened]:
    """Opens the one model of a file, or the one that the options name.

    Args:
        path: A ``.safetensors`` or torch file.
        marks: Names that tell such a model.
        options: ``weights`` chooses among several models, ``head`` names a layer beside the model.
        head: The name of the head in such models; empty if none may lie beside them.

    Raises:
        ModelError: There are several, or beside the model lies what may be a part of it.
    """
    states = _states(path)
    models = _models(states, marks)
    if not models:
        raise ModelError(f"'{path}' lacks the weights '{min(marks)}'")
    model = _chosen(path, models, options.weights)
    state, words = states[model.keys], ""
    if options.head is not None:
        model, words = _with_head(path, model, state, options.head, head)
    names, left = _layers(path, model, models, state, options.weights, takes_head=bool(head))
    with _open(path, model, names) as stored:
        tensors = stored if options.adapter is None else options.adapter.merged(stored)
        yield Opened(tensors, _words(model, models) + words + _left_words(left))


def _open(path: Path, model: _Model, names: Mapping[str, str]) -> AbstractContextManager[Tensors]:
    if path.suffix == ".safetensors":
        return open_safetensors(path, names)
    return open_torch(path, {name: (model.keys, old) for name, old in names.items()})


def _states(path: Path) -> Mapping[str, State | frozenset[str]]:
    names = safetensors_names(path)
    return {"": names} if names else torch_states(path)


def _names_in(state: State | frozenset[str]) -> frozenset[str]:
    return frozenset(state.places) if isinstance(state, State) else state


def _models(
    states: Mapping[str, State | frozenset[str]], marks: Collection[str]
) -> tuple[_Model, ...]:
    """All models with such names, each once however often the file refers to it."""
    found: list[_Model] = []
    known: set[Any] = set()
    mark = max(marks, key=len)
    for keys, state in states.items():
        bare = {_WRAPPERS.sub("", name): name for name in sorted(_names_in(state))}
        prefixes = {
            name.removesuffix(mark) for name in bare if name == mark or name.endswith(f".{mark}")
        }
        for prefix in sorted(prefixes, key=len):
            names = {
                name.removeprefix(prefix): old
                for name, old in bare.items()
                if name.startswith(prefix)
            }
            places = _identity(state, names)
            if not names.keys() >= set(marks) or (places is not None and places in known):
                continue
            known.add(places)
            words = set(re.split(r"[/._]", f"{keys}/{prefix}".lower()))
            averaged = not words.isdisjoint(_AVERAGES) or _COUNTER in bare
            found.append(_Model(keys, prefix, names, averaged))
    return tuple(found)


def _identity(state: State | frozenset[str], names: Mapping[str, str]) -> Any:
    """A key that is equal for two names of one model (a module may be an attribute of two)."""
    if not isinstance(state, State):
        return None
    return frozenset((name, state.places[old]) for name, old in names.items())


def _chosen(path: Path, models: tuple[_Model, ...], wanted: str | None) -> _Model:
    if wanted is None:
        averages = [model for model in models if model.averaged]
        candidates = averages if len(models) - len(averages) == 1 and averages else list(models)
    elif wanted in (RAW, AVERAGED):
        candidates = [model for model in models if model.averaged == (wanted == AVERAGED)]
    else:
        candidates = [model for model in models if model.label == wanted]
    if len(candidates) == 1:
        return candidates[0]
    labels = ", ".join(f"'{model.label}'" for model in models)
    if not candidates and wanted in (RAW, AVERAGED):
        held = "an average of weights" if wanted == RAW else "no average of weights"
        raise ModelError(f"'{path}' holds {held} alone ({labels}): leave out --weights")
    has = "no model" if not candidates else "several models"
    of = f" '{wanted}'" if not candidates else ""
    raise ModelError(
        f"'{path}' holds {has}{of} ({labels}): choose one with --weights {models[0].label}"
    )


def _layers(
    path: Path,
    model: _Model,
    models: tuple[_Model, ...],
    state: State | frozenset[str],
    wanted: str | None,
    *,
    takes_head: bool,
) -> tuple[dict[str, str], list[str]]:
    """The model's names with those of the file, and what else lies there.

    Raises:
        ModelError: Another part of the file may belong to the model.
    """
    names = {name: old for name, old in model.names.items() if not _is_no_layer(name)}
    left = sorted(set(model.names.values()) - set(names.values()))
    alike = [each for each in (*models, model) if each.keys == model.keys]
    of_models = {old for each in alike for old in each.names.values()}
    if isinstance(state, State):  # tensors of other names that are stored once are the same
        held = {state.places[old] for old in model.names.values()}
        of_models |= {name for name, place in state.places.items() if place in held}
    beside = sorted(_names_in(state) - of_models)
    unknown = [name for name in beside if not _is_no_layer(_WRAPPERS.sub("", name))]
    if unknown and wanted != model.label:
        bare = {_WRAPPERS.sub("", name) for name in unknown}
        heads = linear_layers(bare) if takes_head else []
        is_head = f", if '{heads[0]}' is its head, --head {heads[0]}" if heads else ""
        raise ModelError(
            f"beside the model '{model.label}' of '{path}' lie weights that may be a part of it "
            f"({_shown(unknown)}); if they are none, give --weights {model.label}{is_head}"
        )
    if isinstance(state, State):
        for name, maker in sorted(state.foreign.items()):
            inside = _WRAPPERS.sub("", name).startswith(model.prefix)
            if inside and _MAKES_TENSORS.match(maker) and not _is_no_layer(name):
                raise ModelError(
                    f"'{name}' in '{path}' is a '{maker}', which is not a tensor of plain numbers"
                )
    return names, [*left, *beside]


def _with_head(
    path: Path, model: _Model, state: State | frozenset[str], wanted: str, head: str
) -> tuple[_Model, str]:
    """The model with another layer as its head, beside the model or among its own names.

    Raises:
        ModelError: There is no such layer, the model has a head, or its kind takes none.
    """
    beside = sorted(_names_in(state) - set(model.names.values()))
    bare = {_WRAPPERS.sub("", name): name for name in beside}
    layer = wanted.rstrip(".")
    if not head or any(name.startswith(f"{head}.") for name in model.names):
        why = f"has the head '{head}' already" if head else "is of a kind that takes none"
        raise ModelError(f"'{path}' {why}: leave out --head")
    outside = {name: old for name, old in bare.items() if name.startswith(f"{layer}.")}
    names = as_head({**model.names, **outside}, layer, head)
    if not any(name.startswith(f"{head}.") for name in names):
        layers = linear_layers(bare)
        has = ", ".join(f"'{each}'" for each in layers[:_SHOWN]) or "no layer beside the model"
        raise ModelError(f"'{path}' has no layer '{layer}' for --head, but {has}")
    return replace(model, names=names), f", with the head '{layer}'"


def _is_no_layer(name: str) -> bool:
    return _NO_LAYER.fullmatch(name.partition(".")[0].lower()) is not None


def _words(model: _Model, models: tuple[_Model, ...]) -> str:
    others = [each for each in models if each.label != model.label]
    if not others:
        return ", averaged weights" if model.averaged else ""
    kind = "averaged weights" if model.averaged else "weights"
    if len(others) == 1:
        other = RAW if model.averaged and not others[0].averaged else others[0].label
        return f", {kind} '{model.label}' (--weights {other} takes '{others[0].label}')"
    labels = ", ".join(f"'{each.label}'" for each in others)
    return f", {kind} '{model.label}' (--weights takes {labels}, too)"


def _left_words(left: list[str]) -> str:
    return f", left out: {_shown(left)}" if left else ""


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
