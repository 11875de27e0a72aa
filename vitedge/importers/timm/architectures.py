"""Facts that timm's weights do not tell: looked up by architecture, or asked for.

``architectures.json`` lists timm's registered models by the names of their weights, made by
``reference/make_timm_architectures.py``. Where a ``config.json`` or the user says no architecture,
all registered models of the same names are candidates; of those that agree nothing is asked.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from vitedge.elements.kinds import NormPosition
from vitedge.elements.rope import AxialPositions, Pairing
from vitedge.errors import ModelError, NotAViTError
from vitedge.importers.timm.arguments import told_names
from vitedge.importers.timm.facts import CLIP_EPS, EPS, Facts, Rotary
from vitedge.network.kinds import Activation

_NO_PART = ("head.", "head_dist.", "pre_logits.", "mask_token")
_SHOWN = 4
# Names that timm's VisionTransformer never has; what has them is not a plain ViT of unusual sizes.
_FOREIGN = re.compile(r"block\.(gamma_1|attn\.(q_bias|q_proj\.weight))")

# What a variant of a registered model may have more or less; its weights tell what they compute.
_OPTIONAL = re.compile(
    r"cls_token|reg_token|(fc_|)norm(_pre|)\.|attn_pool\.|patch_embed\.(norm\.|proj\.bias)|"
    r"block\.(ls|gamma_)[12]|block\.attn\.((q_|k_|)norm\.|(q|k|v|qkv|q_proj|k_proj|v_proj)[._]bias)|"
    r"block\.mlp\.norm\."
)


@dataclass(frozen=True)
class Weights:
    """The facts that the weights themselves tell.

    Attributes:
        source: Name of the file, for messages.
        names: The names of all arrays.
        dim: Width of the tokens.
        patch: Height and width of a patch in pixels.
        is_packed: See the function of this name.
    """

    source: str
    names: frozenset[str]
    dim: int
    patch: tuple[int, int]
    is_packed: bool

    @property
    def signature(self) -> frozenset[str]:
        """The mark by which the registered models of such weights are found."""
        return signature(self.names, is_packed=self.is_packed)


def facts_of(
    weights: Weights,
    architecture: str | None,
    activation: Activation | None,
    arguments: Mapping[str, Any],
) -> Facts:
    """The facts of a model.

    Args:
        weights: The facts that were found.
        architecture: The architecture, by the user's word or a ``config.json``; other tags follow a
            dot.
        activation: The activation by the user's word, which then need not be asked for.
        arguments: The arguments besides those of the architecture; see ``with_arguments``.

    Raises:
        NotAViTError: The architecture has something that vitedge does not know by name.
        ModelError: Several architectures have such weights and compute different things.
    """
    named = None if architecture is None else _table().models.get(architecture.partition(".")[0])
    candidates = _table().groups.get(weights.signature, {})
    if named is not None:
        said = _known(weights, {str(architecture): named})[0]
        if weights.dim not in (named["dim"], arguments.get("embed_dim")):
            said = replace(said, heads=None)
        told = told_names(arguments, str(named.get("pool")))
        _refuse_other(weights, str(architecture), said, candidates, told)
        _refuse_other_map(weights, str(architecture), said)
        return said
    alike = {
        name: each
        for name, each in candidates.items()
        if (each["dim"], tuple(each["patch"])) == (weights.dim, weights.patch)
    }
    facts = _known(weights, alike or candidates)
    found = {_compared(each, activation, of_this_size=bool(alike)) for each in facts}
    might_be_plain = _might_be_plain(weights, facts)
    if len(found) == 1 and not might_be_plain:
        images = {each.image for each in facts}
        image = images.pop() if alike and len(images) == 1 else None
        return replace(_with_heads(found.pop(), weights, candidates), image=image)
    if not found and might_be_plain:
        eps = CLIP_EPS if "norm_pre.weight" in weights.names else EPS
        plain = Facts(eps=eps, activation=activation or Activation.GELU)
        return _with_heads(plain, weights, {})
    raise _ask(weights, alike or candidates, found)


def refuse_unknown(architecture: str) -> None:
    """Refuses a name that timm does not register.

    Raises:
        ModelError: The name is unknown; the message names similar ones.
    """
    name = architecture.partition(".")[0]
    if name not in _table().models:
        near = difflib.get_close_matches(name, _table().models, _SHOWN)
        hint = f"; near are {', '.join(near)}" if near else ""
        raise ModelError(
            f"--architecture '{architecture}' is not a model of timm that vitedge knows{hint}"
        )


def _known(weights: Weights, models: Mapping[str, Mapping[str, Any]]) -> list[Facts]:
    """The facts of models, of which those that cannot be read are left out if others can."""
    readable = [_facts(each) for each in models.values() if "unknown" not in each]
    if models and not readable:
        name, values = next(iter(models.items()))
        raise NotAViTError(
            f"'{weights.source}' has the weights of timm's '{name}', whose {values['unknown']} "
            "vitedge does not read by name: export it to .onnx"
        )
    return readable


def _refuse_other(
    weights: Weights,
    architecture: str,
    facts: Facts,
    candidates: Mapping[str, Mapping[str, Any]],
    told: re.Pattern[str],
) -> None:
    """Refuses an architecture that computes something else than the models of such weights.

    Parts that its arguments tell may differ. A variant, whose weights are like those of no
    registered model, differs in optional parts alone.

    Raises:
        ModelError: The weights are those of another architecture.
    """
    what = f"the weights of '{weights.source}' are not those of timm's '{architecture}'"
    name = architecture.partition(".")[0]
    own = next(names for names, models in _table().groups.items() if name in models)
    differing = sorted(each for each in own ^ weights.signature if not told.match(each))
    theirs = [_facts(each) for each in candidates.values() if "unknown" not in each]
    if (
        differing
        and candidates
        and all(_of_any_size(each) != _of_any_size(facts) for each in theirs)
    ):
        raise ModelError(f"{what}, but like those of {_named(candidates)}")
    for each in differing:
        if not candidates and not _OPTIONAL.match(each):
            has = "has" if each in own else "lacks"
            raise ModelError(f"{what}, which {has} '{each.replace('block.', 'blocks.0.')}'")


def _refuse_other_map(weights: Weights, architecture: str, facts: Facts) -> None:
    """Refuses an attention pooling that timm's EVA does not have by itself: it reads all tokens."""
    is_foreign = facts.rope is not None or any(map(_FOREIGN.match, weights.signature))
    if is_foreign and facts.pool != "map" and "attn_pool.latent" in weights.names:
        raise NotAViTError(
            f"'{weights.source}' pools by attention, which timm's '{architecture}' does not by "
            "itself and vitedge does not read by name: export it to .onnx"
        )


def _of_any_size(facts: Facts) -> Facts:
    """The facts without sizes; positions of a grid are scaled by its own size in each model."""
    rope = facts.rope
    if rope is not None:
        rope = replace(rope, positions=replace(rope.positions, reference=None))
    return replace(facts, heads=None, image=None, pool_heads=None, rope=rope)


def _named(models: Mapping[str, Any]) -> str:
    names = list(models)
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _with_heads(
    facts: Facts, weights: Weights, candidates: Mapping[str, Mapping[str, Any]]
) -> Facts:
    """The facts with the heads of all registered models of this width, if these agree."""
    if facts.heads is not None:
        return facts
    for models in (candidates, _table().models):
        heads = {each.get("heads") for each in models.values() if each["dim"] == weights.dim}
        heads.discard(None)
        if heads:
            return replace(facts, heads=heads.pop() if len(heads) == 1 else None)
    return facts


def _compared(facts: Facts, activation: Activation | None, *, of_this_size: bool) -> Facts:
    """The facts as far as they matter here: what the user says, and what the size tells, is out."""
    facts = replace(facts, image=None, activation=activation or facts.activation)
    return facts if of_this_size else replace(facts, heads=None)


def _might_be_plain(weights: Weights, registered: Iterable[Facts]) -> bool:
    """Whether a ViT of no registered size may have such weights, which no candidate stands for."""
    if any(map(_FOREIGN.match, weights.signature)) or "pos_embed" not in weights.names:
        return False
    return not any(each.rope is None and each.norms is NormPosition.PRE for each in registered)


def _ask(
    weights: Weights, candidates: Mapping[str, Mapping[str, Any]], found: Iterable[Facts]
) -> ModelError:
    shown = _named(candidates)
    if not candidates:
        return ModelError(
            f"the weights of '{weights.source}' are like those of no registered architecture of "
            "timm: if it is a variant of one, say of which with --architecture"
        )
    activations = sorted({each.activation for each in found})
    if (
        len(activations) > 1
        and len({replace(each, activation=Activation.GELU) for each in found}) == 1
    ):
        return ModelError(
            f"the weights of '{weights.source}' do not tell the activation ({shown} have such "
            f"weights): give --activation {' or '.join(activations)}, or --architecture"
        )
    return ModelError(
        f"the weights of '{weights.source}' do not tell which architecture they are of ({shown} "
        "have such weights, and other models of timm, too): give --architecture"
    )


# --- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    models: Mapping[str, Mapping[str, Any]]
    groups: Mapping[frozenset[str], Mapping[str, Mapping[str, Any]]]


@cache
def _table() -> _Table:
    text = files(__package__).joinpath("architectures.json").read_text("utf-8")
    groups = json.loads(text)["groups"]
    return _Table(
        models={name: each for group in groups for name, each in group["models"].items()},
        groups={frozenset(group["names"]): group["models"] for group in groups},
    )


def signature(names: Iterable[str], *, is_packed: bool) -> frozenset[str]:
    """The mark of a model: its names without the head, and of the first block only.

    Args:
        names: The names of all its weights.
        is_packed: See ``is_packed``.
    """
    kept = (re.sub(r"^blocks\.0\.", "block.", name) for name in names)
    found = {name for name in kept if not name.startswith(("blocks.", *_NO_PART))}
    return frozenset(found | ({"block.mlp packed"} if is_packed else set()))


def is_packed(shape: Callable[[str], tuple[int, ...] | None]) -> bool:
    """Whether the first layer of the MLPs makes both what is gated and the gates."""
    first, second = (shape(f"blocks.0.mlp.{name}.weight") for name in ("fc1", "fc2"))
    if not first or not second or len(second) != 2:
        return False
    return first[0] == 2 * second[1]


def _facts(values: Mapping[str, Any]) -> Facts:
    rope = values.get("rope")
    return Facts(
        activation=Activation(values["activation"]),
        eps=values["eps"],
        norms=NormPosition(values["norms"]),
        heads=values["heads"],
        image=tuple(values["image"]),
        pool=values["pool"],
        pool_heads=values.get("pool_heads"),
        pool_reads_prefix=values.get("pool_reads_prefix", False),
        rope=None if rope is None else _rotary(rope),
    )


def _rotary(values: Mapping[str, Any]) -> Rotary:
    reference = values["reference"]
    return Rotary(
        AxialPositions(
            temperature=values["temperature"],
            centred=values["kind"] == "centred",
            offset=values["offset"],
            reference=None if reference is None else tuple(reference),
            columns_first=values["columns_first"],
        ),
        Pairing.HALVES if values["halves"] else Pairing.NEIGHBOURS,
        mixed=values["kind"] == "mixed",
    )
