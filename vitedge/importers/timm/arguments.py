"""The arguments that a model of timm was made with: ``model_args`` of its ``config.json``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vitedge.errors import NotAViTError
from vitedge.files.json_values import whole
from vitedge.importers.timm.facts import Facts

_TOLD_HERE = {"num_heads", "attn_pool_num_heads", "global_pool", "img_size"}
_TOLD_BY_WEIGHTS = frozenset(
    (
        *("patch_size", "in_chans", "num_classes", "embed_dim", "depth", "mlp_ratio"),
        *("qkv_bias", "qkv_fused", "qk_norm", "init_values", "class_token", "no_embed_class"),
        *("reg_tokens", "num_reg_tokens", "pre_norm", "final_norm", "fc_norm", "use_fc_norm"),
        *("swiglu_mlp", "scale_mlp", "scale_attn_inner", "attn_pool_mlp_ratio", "distilled"),
        *("dynamic_img_size", "strict_img_size", "weight_init", "fix_init", "head_init_scale"),
        *("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate"),
        "drop_path_rate",
    )
)

_NORMS = r"(fc_)?norm\."
# The weights that a model has more or less by each argument, as ``signature`` names them.
_CHANGED = {
    "class_token": "cls_token",
    "reg_tokens": "reg_token",
    "num_reg_tokens": "reg_token",
    "pre_norm": r"norm_pre\.|patch_embed\.proj\.bias",
    "final_norm": _NORMS,
    "fc_norm": _NORMS,
    "use_fc_norm": _NORMS,
    "global_pool": rf"{_NORMS}|attn_pool\.",
    "init_values": r"block\.(ls|gamma_)[12]",
    "qkv_bias": r"block\.attn\.(q|k|v|qkv|q_proj|k_proj|v_proj)[._]bias",
    "qk_norm": r"block\.attn\.[qk]_norm\.",
    "scale_attn_inner": r"block\.attn\.norm\.",
    "scale_mlp": r"block\.mlp\.norm\.",
}


def told_names(arguments: Mapping[str, Any], pool: str) -> re.Pattern[str]:
    """A pattern of the weights that a model may have more or less by its arguments.

    Args:
        arguments: ``model_args`` of a ``config.json``.
        pool: The pooling of its architecture, which changes nothing if given once more.
    """
    told = {name for name, value in arguments.items() if name != "global_pool" or value != pool}
    return re.compile("|".join(_CHANGED[name] for name in sorted(told & _CHANGED.keys())) or "$.")


def refuse_unknown_arguments(arguments: Mapping[str, Any], source: str) -> None:
    """Refuses a model that was made with arguments whose meaning is not known.

    Args:
        arguments: ``model_args`` of a ``config.json``.
        source: Name of the file, for messages.

    Raises:
        NotAViTError: There is such an argument.
    """
    unknown = sorted(arguments.keys() - _TOLD_BY_WEIGHTS - _TOLD_HERE)
    if unknown:
        raise NotAViTError(
            f"the config.json beside '{source}' gives its model '{unknown[0]}', which vitedge does "
            "not know: export the model to .onnx"
        )


def with_arguments(facts: Facts, arguments: Mapping[str, Any]) -> Facts:
    """The facts of a model that was made with other arguments than its architecture has.

    Args:
        facts: The facts of the architecture.
        arguments: ``model_args`` of a ``config.json``.
    """
    if arguments.get("num_heads") is not None:
        facts = replace(facts, heads=whole(arguments, "num_heads", least=1))
    if arguments.get("attn_pool_num_heads") is not None:
        facts = replace(facts, pool_heads=whole(arguments, "attn_pool_num_heads", least=1))
    return facts
