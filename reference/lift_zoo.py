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
    """Exports every family by the exporter of torch that traces, or else by the newer one."""
    from reference.torchvision_operators import name_missing_operators

    name_missing_operators()
    import timm
    import torch

    timm.layers.set_fused_attn(False)  # whose flag the tracing exporter cannot follow
    warnings.filterwarnings("ignore")
    for name in names or TIMM:
        architecture, size, sizes = TIMM[name]
        torch.manual_seed(0)
        try:
            model = timm.create_model(architecture, num_classes=10, **sizes).eval()
            liven(model)
            _export(model, size, folder / f"{name}.onnx")
        except Exception as error:  # whatever the libraries raise is one line of the table
            print(f"{name}: {type(error).__name__}: {first_line(error)}", flush=True)


def _export(model: Any, size: int, path: Path) -> None:
    import torch

    image, names = torch.randn(1, 3, size, size), {"input_names": ["image"]}
    try:
        torch.onnx.export(model, (image,), str(path), dynamo=False, opset_version=17, **names)
    except Exception:  # an operator that it does not know
        torch.onnx.export(
            model, (image,), str(path), dynamo=True, external_data=False, verbose=False, **names
        )


def read(folder: Path, names: list[str]) -> None:
    """Reads every file, converts it to int8 ONNX, and compares with float32."""
    import tempfile

    from vitedge.errors import VitedgeError
    from vitedge.importers import read_model

    for path in sorted(folder.glob("*.onnx")):
        if names and path.stem not in names:
            continue
        started = time.perf_counter()
        try:
            imported = read_model(path)
        except VitedgeError as error:
            print(f"{path.stem:20} generic: {error}", flush=True)
            continue
        seconds = time.perf_counter() - started
        row = f"{path.stem:20} {imported.path.partition(', input')[0]}, {seconds:.0f} s"
        try:
            with tempfile.TemporaryDirectory() as made:
                ours, stock = _int8(path, imported.network, Path(made))
                row += f"; int8 {ours:.1f} dB, stock {stock:.1f} dB"
        except VitedgeError as error:
            row += f"; {error}"
        print(row, flush=True)


def _int8(source: Path, network: Any, folder: Path) -> tuple[float, float]:
    """SQNR of our int8 ONNX and of ONNX Runtime's static quantizer, on pictures of their own."""
    import numpy as np
    import onnxruntime
    from onnxruntime import quantization as stock

    from vitedge.images.preprocess import IMAGENET_MEAN, IMAGENET_STD
    from vitedge.images.synthetic import synthetic_images
    from vitedge.pipeline.convert import ConvertOptions, convert
    from vitedge.quantize.cores import forward_each
    from vitedge.targets.formats import Format
    from vitedge.targets.precisions import Precision

    options = ConvertOptions((Format.ONNX,), (Precision.INT8,), folder)
    (written,) = convert(source, options)
    images = synthetic_images(network.preprocessing, 24, 99).samples
    pixels = network.preprocessing.batch([each.image for each in images]).astype(np.float32)
    wanted = forward_each(network, pixels)

    def run(path: Path, inputs: Any) -> Any:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return np.concatenate([session.run(None, {name: each[None]})[0] for each in inputs])

    def sqnr(found: Any) -> float:
        error = found.reshape(wanted.shape) - wanted
        return float(
            10 * np.log10(np.square(wanted - wanted.mean(0)).sum() / np.square(error).sum())
        )

    taken = ((pixels / 255 - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32).transpose(0, 3, 1, 2)

    class Reader(stock.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(taken[:16])

        def get_next(self) -> dict[str, Any] | None:
            image = next(self._left, None)
            return None if image is None else {"image": image[None]}

    prepared, static = folder / "prepared.onnx", folder / "static.onnx"
    stock.shape_inference.quant_pre_process(str(source), str(prepared))
    stock.quantize_static(
        str(prepared), str(static), Reader(), quant_format=stock.QuantFormat.QDQ, per_channel=True
    )
    held = slice(16, None)
    wanted = wanted[held]
    return sqnr(run(written.path, pixels[held])), sqnr(run(static, taken[held]))


def first_line(error: Exception) -> str:
    """What an error says first."""
    return (str(error).splitlines() or [""])[0][:150]


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
    {"make": make, "read": read}[what](Path(folder), names)


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
