"""What the weights of timm's registered models do not tell, for ``importers.timm``.

``python -m reference.make_timm_architectures`` writes ``architectures.json``: for every set of
names that a state dict may have, the models that have it and their facts; and ``swin.json``.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch

from vitedge.importers.timm import architectures

_MODULES = ("vision_transformer", "deit", "eva", "beit")
_SWINS = ("swin_transformer", "swin_transformer_v2")
_FOLDER = Path(__file__).parents[1] / "vitedge" / "importers" / "timm"
_ACTIVATIONS = {
    "GELU": "gelu",
    "GELUTanh": "gelu_tanh",
    "GELUTanhUnpacked": "gelu_tanh",
    "QuickGELU": "quick_gelu",
    "SiLU": "silu",
}
_BLOCKS = {
    "Block": "pre",
    "EvaBlock": "pre",
    "ResPostBlock": "branch",
    "EvaBlockPostNorm": "branch",
}


def main() -> None:
    """Builds every registered model without weights, and writes the table."""
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for module in _MODULES:
        for name in sorted(timm.list_models(module=module)):
            with torch.device("meta"):
                model = timm.create_model(name)
            state = {key: tuple(each.shape) for key, each in model.state_dict().items()}
            names = tuple(sorted(signature(state)))
            groups.setdefault(names, {})[name] = facts(model)
    table = {
        "made_with": {"timm": importlib.metadata.version("timm")},
        "groups": [
            {"names": list(names), "models": models} for names, models in sorted(groups.items())
        ],
    }
    (_FOLDER / "architectures.json").write_text(_dumped(table), "utf-8")
    swins = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(_swin(name))}"
        for module in _SWINS
        for name in sorted(timm.list_models(module=module))
    )
    head = json.dumps(table["made_with"])
    text = f'{{"made_with": {head},\n "models": {{\n{swins}}}}}\n'
    (_FOLDER / "swin.json").write_text(text, "utf-8")


def _swin(name: str) -> dict[str, Any]:
    """Version, sizes, window, and the windows that each stage was trained with, of a Swin."""
    with torch.device("meta"):
        model = timm.create_model(name)
    first = [stage.blocks[0].attn for stage in model.layers]
    return {
        "version": 2 if "v2" in type(model).__name__.lower() else 1,
        "dim": model.embed_dim,
        "depths": [len(stage.blocks) for stage in model.layers],
        "image": list(model.patch_embed.img_size),
        "window": first[0].window_size[0],
        "pretrained": [getattr(each, "pretrained_window_size", (0, 0))[0] for each in first],
    }


def signature(shapes: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
    """As ``importers.timm.architectures`` knows models again; see there."""
    return architectures.signature(shapes.keys(), is_packed=architectures.is_packed(shapes.get))


def facts(model: Any) -> dict[str, Any]:
    """What a model computes that neither names nor shapes of its weights say."""
    block = model.blocks[0]
    kind = type(block).__name__
    found: dict[str, Any] = {
        "dim": model.embed_dim,
        "patch": list(model.patch_embed.patch_size),
        "image": list(model.patch_embed.img_size),
    }
    attention = type(getattr(block, "attn", None)).__name__
    grouped = {getattr(each.attn, "num_kv_groups", 1) for each in model.blocks if kind in _BLOCKS}
    if kind not in _BLOCKS or attention == "DiffAttention" or grouped - {1}:
        reason = "grouped-query attention" if grouped - {1} else f"{kind} with {attention}"
        return {**found, "unknown": reason.removesuffix(" with NoneType")}
    found |= {
        "heads": block.attn.num_heads,
        "activation": _ACTIVATIONS[type(block.mlp.act).__name__],
        "eps": block.norm1.eps,
        "norms": _BLOCKS[kind],
        "pool": model.global_pool,
    }
    pool = getattr(model, "attn_pool", None)
    if pool is not None:
        reads_all = getattr(model, "pool_include_prefix", type(model).__name__ == "Eva")
        found["pool_reads_prefix"] = reads_all
        if getattr(pool, "num_heads", block.attn.num_heads) != block.attn.num_heads:
            found["pool_heads"] = pool.num_heads
    rope = getattr(model, "rope", None)
    if rope is not None:
        kind = type(rope).__name__
        found["rope"] = {
            "kind": {
                "RotaryEmbeddingCat": "axial",
                "RotaryEmbeddingDinoV3": "centred",
                "RotaryEmbeddingMixed": "mixed",
            }[kind],
            "temperature": float(rope.temperature),
            "columns_first": rope.grid_indexing == "xy",
            "halves": bool(getattr(rope, "rotate_half", False)),
            "offset": float(getattr(rope, "grid_offset", 0.0)),
            "reference": getattr(rope, "ref_feat_shape", None),
        }
    return found


def _dumped(table: dict[str, Any]) -> str:
    """JSON with one model a line, so that a difference shows which."""
    groups = []
    for group in table["groups"]:
        models = ",\n".join(
            f"   {json.dumps(name)}: {json.dumps(values)}"
            for name, values in group["models"].items()
        )
        groups.append(f'  {{"names": {json.dumps(group["names"])},\n  "models": {{\n{models}}}}}')
    head = json.dumps(table["made_with"])
    return f'{{"made_with": {head},\n "groups": [\n' + ",\n".join(groups) + "]}\n"


if __name__ == "__main__":
    main()
