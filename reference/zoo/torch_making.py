"""Makes a torch model: lively weights, what it computes, a checkpoint and an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from reference.zoo.family import EXPECTED_FILE
from reference.zoo.images import normalized, shown
from reference.zoo.torch_to_tflite import export_tflite, is_installed

_PLACES = ("pos_emb", "position", "token", "cls", "latent", "probe", "query", "reg")
_BIASES = ("bias_table", "relative", "rel_pos", "attention_bias")
_SCALES = ("gamma", "lambda", "ls1", "ls2", "layer_scale", "token_scale")
_TASK_SEED, _SETTLING = 3, 32

_BRANCH_SCALE = 0.3
"""Scale of a norm that its library begins at zero, so that a residual branch begins without effect.
Trained ones stay small. At 1, a deep model with batch norms multiplies the rounding of its first
layers until its own engine is 23 dB from itself."""


class OneOutput(nn.Module):
    """Only what counts of a model's outputs."""

    def __init__(self, model: nn.Module, pick: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model, self._pick = model, pick

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """The output."""
        output: torch.Tensor = self._pick(self.model(pixel_values))
        return output


class Outputs(nn.Module):
    """Several of a model's outputs."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self._names = model, names

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs, in order."""
        outputs = self.model(pixel_values)
        return tuple(getattr(outputs, name) for name in self._names)


class OfPatches(nn.Module):
    """A model that reads patches, over images: SigLIP 2, whose processor cuts them."""

    def __init__(self, model: nn.Module, side: int) -> None:
        super().__init__()
        self.model, self._side = model, side

    def forward(self, pixel_values: torch.Tensor) -> Any:
        """The outputs of the model."""
        count, channels, height, width = pixel_values.shape
        rows, columns = height // self._side, width // self._side
        cut = pixel_values.reshape(count, channels, rows, self._side, columns, self._side)
        patches = cut.permute(0, 2, 4, 3, 5, 1).reshape(count, rows * columns, -1)
        mask = torch.ones(count, rows * columns, dtype=torch.int32)
        shapes = torch.tensor([[rows, columns]] * count)
        return self.model(patches, pixel_attention_mask=mask, spatial_shapes=shapes)


@torch.no_grad()
def liven(model: nn.Module, size: tuple[int, int]) -> None:
    """Random weights that make every layer matter: biases, scales and tables are not zero."""
    generator = torch.Generator().manual_seed(1)
    has_batch_norm = any(isinstance(each, _BatchNorm) for each in model.modules())
    done: set[int] = set()

    def normal(values: torch.Tensor, deviation: float, mean: float = 0.0) -> None:
        values.copy_(torch.randn(values.shape, generator=generator) * deviation + mean)
        done.add(id(values))

    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            gain = 2.0 if has_batch_norm and isinstance(module, nn.Conv2d) else 1.0
            normal(module.weight, (gain / module.weight[0].numel()) ** 0.5)
            if module.bias is not None:
                normal(module.bias, 0.1)
        elif "norm" in type(module).__name__.lower():
            for name, values in module.named_parameters(recurse=False):
                ends_branch = name == "weight" and not values.any()
                scale = _BRANCH_SCALE if ends_branch else 1.0
                normal(values, 0.2 * scale, scale if name == "weight" else 0.0)
    for name, values in model.named_parameters():
        if id(values) not in done:
            _liven_other(name.lower(), values, normal)
    _settle(model, size)


def _liven_other(name: str, values: torch.Tensor, normal: Callable[..., None]) -> None:
    """Tokens, positions, tables and scales; what is none of them stays as its library draws it."""
    if any(word in name for word in _SCALES) and values.numel() > 1:
        normal(values, 0.15, 0.6)
    elif any(word in name for word in _BIASES):
        normal(values, 0.5)
    elif any(word in name for word in _PLACES):
        normal(values, 0.4)
    elif values.ndim == 1 and name.endswith("bias"):
        normal(values, 0.1)


def _settle(model: nn.Module, size: tuple[int, int]) -> None:
    """Running statistics of batch norms, from pictures."""
    norms = [each for each in model.modules() if isinstance(each, _BatchNorm)]
    if norms:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        model.train()
        model(torch_pixels(shown(size, _SETTLING, _TASK_SEED)))
    model.eval()


@torch.no_grad()
def centre(model: nn.Module, head: nn.Module | None, size: tuple[int, int]) -> None:
    """Gives logits over pictures the mean 0 and the deviation 2, so that the classes compete."""
    if not isinstance(head, nn.Linear) or head.bias is None:
        return
    logits = model(torch_pixels(shown(size, _SETTLING, _TASK_SEED)))
    if logits.shape[1] == len(head.bias):
        scale = 2 / (logits.std(0) + 1e-6)
        head.weight.mul_(scale[:, None])
        head.bias.copy_((head.bias - logits.mean(0)) * scale)


@torch.no_grad()
def lift_last_convolution(model: nn.Module, size: tuple[int, int]) -> None:
    """Shifts what the last convolution makes of pictures to two deviations above zero."""
    last = [each for each in model.modules() if isinstance(each, nn.Conv2d)][-1]
    made: list[torch.Tensor] = []
    hook = last.register_forward_hook(lambda layer, inputs, output: made.append(output))
    model(torch_pixels(shown(size, _SETTLING, _TASK_SEED)))
    hook.remove()
    assert last.bias is not None
    last.bias.add_(2 * made[0].std() - made[0].mean())


def torch_pixels(pixels: np.ndarray) -> torch.Tensor:
    """Raw pixels ``(N, H, W, 3)`` as torch's models take them."""
    return torch.from_numpy(np.ascontiguousarray(normalized(pixels).transpose(0, 3, 1, 2)))


def write_expected(model: nn.Module, size: tuple[int, int], folder: Path) -> None:
    """What the model computes of the pictures; maps with their channels last."""
    pixels = shown(size)
    with torch.no_grad():
        outputs = torch.cat([model(torch_pixels(each[None])) for each in pixels]).numpy()
    if outputs.ndim == 4:
        outputs = outputs.transpose(0, 2, 3, 1)
    if not np.isfinite(outputs).all():
        raise ValueError("the model computes numbers that are not finite")
    if not np.ptp(outputs, axis=0).any():
        raise ValueError("the model computes the same of every picture")
    np.savez_compressed(folder / EXPECTED_FILE, images=pixels, outputs=outputs)


def export(model: nn.Module, size: tuple[int, int], path: Path, *outputs: str) -> None:
    """By the exporter of torch that traces, or else by the newer one; to TFLite by litert-torch."""
    if is_installed():
        export_tflite(model, size, path.parent)
    image = torch_pixels(shown(size, 1))
    names: dict[str, Any] = {"input_names": ["pixel_values"], "output_names": list(outputs)}
    try:
        torch.onnx.export(model, (image,), str(path), dynamo=False, opset_version=17, **names)
    except Exception:  # an operator that it does not know
        torch.onnx.export(
            model, (image,), str(path), dynamo=True, external_data=False, verbose=False, **names
        )
