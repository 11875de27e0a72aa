"""The smallest model of each family of vision transformers: which road it takes, and how well.

    python -m reference.lift_zoo make FOLDER [NAME ...]   # wants torch and timm: writes ONNX files
    python -m reference.lift_zoo read FOLDER [NAME ...]   # wants vitedge: reads, converts, compares

The weights are random but lively. One line for each file: the road, the parity of what was read,
and the signal-to-quantization-noise ratio of int8 ONNX beside that of ONNX Runtime's static
quantizer on the source.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import Any

Sizes = dict[str, Any]

SMALL: Sizes = {"embed_dim": 96, "depth": 2, "num_heads": 3}
STAGES: Sizes = {"embed_dim": 32, "depths": (1, 2, 1, 1), "num_heads": (1, 2, 4, 8)}

TIMM: dict[str, tuple[str, int, Sizes]] = {
    "vit": ("vit_tiny_patch16_224", 64, {"img_size": 64, **SMALL}),
    "deit3": ("deit3_small_patch16_224", 64, {"img_size": 64, **SMALL}),
    "dinov2_registers": ("vit_small_patch14_reg4_dinov2", 56, {"img_size": 56, **SMALL}),
    "dinov2_swiglu": ("vit_giant_patch14_dinov2", 56, {"img_size": 56, **SMALL}),
    "dinov3": ("vit_small_patch16_dinov3_qkvb", 64, {"img_size": 64, **SMALL}),
    "rope": ("vit_small_patch16_rope_224", 64, {"img_size": 64, **SMALL}),
    "rope_mixed": ("vit_small_patch16_rope_mixed_224", 64, {"img_size": 64, **SMALL}),
    "siglip_map": (
        "vit_so150m_patch16_reg4_map_256",
        64,
        {"img_size": 64, "mlp_ratio": 2, **SMALL},
    ),
    "siglip_gap": ("vit_base_patch16_siglip_gap_224", 64, {"img_size": 64, **SMALL}),
    "clip_quickgelu": ("vit_base_patch16_clip_quickgelu_224", 64, {"img_size": 64, **SMALL}),
    "perception": ("vit_pe_core_tiny_patch16_384", 64, {"img_size": 64, **SMALL}),
    "eva02": ("eva02_tiny_patch14_224", 56, {"img_size": 56, **SMALL}),
    "beit": ("beit_base_patch16_224", 64, {"img_size": 64, **SMALL}),
    "beitv2": ("beitv2_base_patch16_224", 64, {"img_size": 64, **SMALL}),
    "cait": ("cait_xxs24_224", 64, {"img_size": 64, **SMALL}),
    "xcit": ("xcit_nano_12_p16_224", 64, {"img_size": 64, **SMALL}),
    "swin": ("swin_tiny_patch4_window7_224", 64, {"img_size": 64, "window_size": 4, **STAGES}),
    "swinv2": ("swinv2_tiny_window8_256", 64, {"img_size": 64, "window_size": 4, **STAGES}),
    "swin_s3": ("swin_s3_tiny_224", 64, {"img_size": 64, "window_size": (4, 4, 4, 2), **STAGES}),
    "sam": (
        "samvit_base_patch16_224",
        64,
        {"img_size": 64, "window_size": 2, "global_attn_indexes": (1,), **SMALL},
    ),
    "flexivit": ("flexivit_small", 64, {"img_size": 64, **SMALL}),
    "naflexvit": ("naflexvit_base_patch16_gap", 64, SMALL),
    "levit": ("levit_128s", 224, {}),
    "tiny_vit": ("tiny_vit_5m_224", 224, {}),
    "mobilevit": ("mobilevit_xxs", 128, {}),
    "mobilevitv2": ("mobilevitv2_050", 128, {}),
    "efficientvit": ("efficientvit_b0", 64, {}),
    "efficientvit_msra": ("efficientvit_m0", 224, {}),
    "fastvit": ("fastvit_t8", 128, {}),
    "efficientformer": ("efficientformerv2_s0", 224, {}),
    "pvt_v2": ("pvt_v2_b0", 64, {}),
    "hiera": ("hiera_tiny_224", 224, {}),
    "maxvit": ("maxvit_nano_rw_256", 256, {}),
    "coatnet": ("coatnet_nano_rw_224", 224, {}),
    "mvitv2": ("mvitv2_tiny", 224, {}),
    "crossvit": ("crossvit_tiny_240", 240, {}),
    "twins": ("twins_svt_small", 64, {"img_size": 64, "depths": (1, 1, 1, 1)}),
    "pit": ("pit_ti_224", 224, {}),
    "convit": ("convit_tiny", 64, {"img_size": 64, "depth": 4, "local_up_to_layer": 2}),
    "nest": ("nest_tiny", 224, {}),
    "visformer": ("visformer_tiny", 224, {}),
    "davit": ("davit_tiny", 64, {}),
    "poolformer": ("poolformer_s12", 64, {}),
    "vitamin": ("vitamin_small_224", 224, {}),
    "shvit": ("shvit_s1", 224, {}),
    "repvit": ("repvit_m0_9", 64, {}),
    "edgenext": ("edgenext_xx_small", 128, {}),
    "mobilenetv4_hybrid": ("mobilenetv4_hybrid_medium", 128, {}),
    "mixer": ("mixer_s16_224", 64, {"img_size": 64, "embed_dim": 96, "num_blocks": 2}),
}


def make(folder: Path, names: list[str]) -> None:
    """Exports every family by both of torch's exporters."""
    import timm
    import torch

    import reference.torchvision_operators  # noqa: F401

    warnings.filterwarnings("ignore")
    for name in names or TIMM:
        architecture, size, sizes = TIMM[name]
        torch.manual_seed(0)
        try:
            model = timm.create_model(architecture, num_classes=10, **sizes).eval()
            liven(model)
            image = torch.randn(1, 3, size, size)
            for kind, modern in (("script", False), ("dynamo", True)):
                path = folder / f"{name}.{kind}.onnx"
                if not path.exists():
                    options = (
                        {"external_data": False, "verbose": False}
                        if modern
                        else {"opset_version": 17}
                    )
                    torch.onnx.export(
                        model,
                        (image,),
                        str(path),
                        dynamo=modern,
                        input_names=["image"],
                        output_names=["logits"],
                        **options,
                    )
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:150]}", flush=True)
        else:
            print(name, flush=True)


def liven(model: Any) -> None:
    """Random weights that make every layer matter: biases, scales and tables are not zero."""
    import torch

    generator = torch.Generator().manual_seed(1)

    def normal(parameter: Any, deviation: float, mean: float = 0.0) -> None:
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation + mean)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            last = name.rpartition(".")[2]
            if parameter.ndim >= 2 and last == "weight":
                normal(parameter, (1.0 / parameter[0].numel()) ** 0.5)
            elif last == "weight":
                normal(parameter, 0.15, 1.0)
            elif last == "bias":
                normal(parameter, 0.1)
            elif "gamma" in name or "lambda" in name or "ls" in name.split("."):
                normal(parameter, 0.1, 0.5)
            elif "temperature" not in name and "logit_scale" not in name:
                normal(parameter, 0.3)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                normal(buffer, 0.1)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)


def main() -> None:
    """Reads the command line."""
    what, folder, *names = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    {"make": make}[what](Path(folder), names)


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
