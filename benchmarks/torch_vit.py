"""The ViT of ``engine_graph`` as torch's users write one, for engines that start from torch.

Their partitioners and converters look for this form: a batch in front, and weights ``(out, in)`` as
``torch.nn.Linear`` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812  (as torch's own documentation has it)
from onnx import numpy_helper
from torch import nn

Arrays = Mapping[str, "np.ndarray[Any, Any]"]
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def vit_of(graph: Path, *, fused: bool) -> nn.Module:
    """A module of a plain ViT's weights, from planes ``(1, 3, H, W)`` to the class token's logits.

    Args:
        graph: What ``write_graph`` wrote.
        fused: Attention is one function, which pnnx finds; torch.export makes masks of it, which
            XNNPACK does not take, so for ExecuTorch it is two products and a softmax.

    Raises:
        KeyError: The graph is of another network.
    """
    read = onnx.load(graph).graph
    arrays = {each.name: numpy_helper.to_array(each).copy() for each in read.initializer}
    epsilons = {
        onnx.helper.get_node_attr_value(node, "epsilon")
        for node in read.node
        if node.op_type == "LayerNormalization"
    }
    (epsilon,) = epsilons
    return _Vit(arrays, epsilon, _fused if fused else _apart).eval()


class _Vit(nn.Module):
    def __init__(self, arrays: Arrays, epsilon: float, attend: Attention) -> None:
        super().__init__()
        weight = arrays["cut.weight"]
        self.patches = nn.Conv2d(weight.shape[1], len(weight), weight.shape[2], weight.shape[2])
        self.patches.weight, self.patches.bias = _fixed(weight), _fixed(arrays["cut.bias"])
        self.positions = _fixed(arrays["positions"][None])
        self.prefix = _fixed(arrays["prefix"])
        depth = sum(name.endswith("/q/heads/shape") for name in arrays)
        self.blocks = nn.Sequential(*(_Block(arrays, n, epsilon, attend) for n in range(depth)))
        self.norm = _norm(arrays, "norm", len(weight), epsilon)
        self.head = _linear(arrays, "head")

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        x = self.patches(planes).flatten(2).transpose(1, 2) + self.positions
        x = self.blocks(torch.cat([self.prefix, x], dim=1))
        return self.head(self.norm(x)[:, 0])


class _Block(nn.Module):
    def __init__(self, arrays: Arrays, number: int, epsilon: float, attend: Attention) -> None:
        super().__init__()
        name = f"blocks.{number}"
        self.qkv = _linear(arrays, f"{name}.q+{name}.k+{name}.v")
        width = self.qkv.in_features
        self.norm1 = _norm(arrays, f"{name}.norm1", width, epsilon)
        self.out = _linear(arrays, f"{name}.out")
        self.norm2 = _norm(arrays, f"{name}.norm2", width, epsilon)
        self.fc1 = _linear(arrays, f"{name}.fc1")
        self.fc2 = _linear(arrays, f"{name}.fc2")
        self._attend = attend
        self._by_head = [int(each) for each in arrays[f"{name}/q/heads/shape"]]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made, width = self.qkv(self.norm1(x)), x.shape[-1]
        shares = (made[:, :, at * width : (at + 1) * width] for at in range(3))
        q, k, v = (each.reshape(self._by_head).transpose(1, 2) for each in shares)
        x = x + self.out(self._attend(q, k, v).transpose(1, 2).reshape(x.shape))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def _fused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def _apart(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The same of one image, as products of matrices without a batch, which need no broadcast."""
    scores = torch.bmm(q[0] * q.shape[-1] ** -0.5, k[0].transpose(1, 2))
    return torch.bmm(scores.softmax(dim=-1), v[0])[None]


def _linear(arrays: Arrays, name: str) -> nn.Linear:
    weight = arrays[f"{name}.weight"]
    inputs, outputs = weight.shape
    made = nn.Linear(inputs, outputs)
    bias = arrays.get(f"{name}.bias", np.zeros(outputs, np.float32))
    made.weight, made.bias = _fixed(weight.T), _fixed(bias)
    return made


def _norm(arrays: Arrays, name: str, width: int, epsilon: float) -> nn.LayerNorm:
    """A LayerNorm; the graph leaves out a scale of ones and a shift of zeros."""
    made = nn.LayerNorm(width, epsilon)
    made.weight = _fixed(arrays.get(f"{name}.gamma", np.ones(width, np.float32)))
    made.bias = _fixed(arrays.get(f"{name}.beta", np.zeros(width, np.float32)))
    return made


def _fixed(array: np.ndarray[Any, Any]) -> nn.Parameter:
    # A copy, since a new axis of NumPy's has a stride of 0, which ExecuTorch refuses.
    return nn.Parameter(torch.from_numpy(np.array(array, order="C")), requires_grad=False)
