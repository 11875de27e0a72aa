"""Makes ``tests/golden/lift``: small ViTs of timm, transformers and torchvision as ONNX files.

Each library builds its own model with random weights; torch exports it with both of its exporters,
the one that traces (``script``) and the one on ``torch.export`` (``dynamo``), with a free batch and
with one image. Beside each model lie an input and what torch computed of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

SMALL = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 3,
    "num_classes": 7,
}
HUGGING_FACE = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": 7,
}


def timm(**changes: object) -> torch.nn.Module:
    """The ``VisionTransformer`` of timm."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(**SMALL, **changes)


def timm_distilled() -> torch.nn.Module:
    """The DeiT of timm with two heads, which it averages."""
    from timm.models.deit import VisionTransformerDistilled

    return VisionTransformerDistilled(**SMALL)


def hugging_face(name: str, attention: str, **changes: object) -> torch.nn.Module:
    """A classifier of transformers."""
    import transformers

    model, config = {
        "vit": ("ViTForImageClassification", "ViTConfig"),
        "deit": ("DeiTForImageClassificationWithTeacher", "DeiTConfig"),
        "dinov2": ("Dinov2ForImageClassification", "Dinov2Config"),
    }[name]
    settings = getattr(transformers, config)(
        **HUGGING_FACE, attn_implementation=attention, **changes
    )
    return getattr(transformers, model)(settings)


def torchvision(**changes: object) -> torch.nn.Module:
    """The ``VisionTransformer`` of torchvision."""
    from torchvision.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=2,
        num_heads=3,
        hidden_dim=24,
        mlp_dim=48,
        num_classes=7,
        **changes,
    )


MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "timm_dynamo_free": timm,
    "timm_script_one": lambda: timm(reg_tokens=4, init_values=0.1, qk_norm=True),
    "timm_averaged_dynamo_one": lambda: timm(
        class_token=False, global_pool="avg", fc_norm=True, qk_norm=True
    ),
    "timm_clip_script_free": lambda: timm(pre_norm=True),
    "timm_distilled_dynamo_free": timm_distilled,
    "hugging_face_vit_script_free": lambda: hugging_face("vit", "eager", intermediate_size=48),
    "hugging_face_deit_dynamo_one": lambda: hugging_face("deit", "sdpa", intermediate_size=48),
    "hugging_face_dinov2_dynamo_free": lambda: hugging_face("dinov2", "sdpa", mlp_ratio=2),
    "torchvision_dynamo_free": torchvision,
    "torchvision_script_one": lambda: torchvision(representation_size=16),
}


class Logits(torch.nn.Module):
    """Only the logits of a model's outputs."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The logits."""
        result = self.model(pixel_values)
        return result if torch.is_tensor(result) else result.logits


def main(folder: Path) -> None:
    """Writes all models."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, build in MODELS.items():
        torch.manual_seed(0)
        model = Logits(build()).eval()
        with torch.no_grad():
            for values in model.parameters():  # fresh weights are too tame to tell layers apart
                values.add_(torch.randn_like(values) * (0.2 if values.ndim == 1 else 0.15))
        images = torch.randn(2, 3, 32, 32)
        exporter, batch = name.split("_")[-2:]
        export(model, images, folder / f"{name}.onnx", exporter == "dynamo", batch == "free")
        with torch.no_grad():
            logits = model(images).numpy()
        np.savez(folder / f"{name}.npz", images=images.numpy(), logits=logits)


def export(
    model: torch.nn.Module, images: torch.Tensor, path: Path, dynamo: bool, free: bool
) -> None:
    """One model, by one exporter."""
    options: dict[str, object] = {"external_data": False} if dynamo else {}
    if free and dynamo:
        options["dynamic_shapes"] = {"pixel_values": {0: torch.export.Dim("batch")}}
    elif free:
        options["dynamic_axes"] = {"pixel_values": {0: "batch"}}
    shown = images if free else images[:1]
    torch.onnx.export(model, (shown,), path, dynamo=dynamo, input_names=["pixel_values"], **options)
    strip(path)


def strip(path: Path) -> None:
    """Drops the stack traces that the exporters leave at each node, most of a small file."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    items = [*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]
    for item in (*items, *(node for function in model.functions for node in function.node)):
        item.doc_string = ""
        del item.metadata_props[:]
    del graph.metadata_props[:]
    onnx.save(model, path)
