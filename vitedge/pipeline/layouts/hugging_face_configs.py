"""The configs of Hugging Face's clients, and how each kind of model is run there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vitedge.artifacts.metadata import Metadata
from vitedge.artifacts.written import Written
from vitedge.images.interpolation import Interpolation
from vitedge.images.label_names import names_for_people
from vitedge.network.summary import Summary
from vitedge.network.tasks import Task
from vitedge.pipeline.layouts.model_card import in_vitedge
from vitedge.targets.precisions import Precision

# Pillow's numbers of its filters.
_RESAMPLING = {
    Interpolation.NEAREST: 0,
    Interpolation.LANCZOS: 1,
    Interpolation.BILINEAR: 2,
    Interpolation.BICUBIC: 3,
}

# What transformers.js calls the file of each precision.
_DTYPES = {
    Precision.FP32: "fp32",
    Precision.FP16: "fp16",
    Precision.INT8: "q8",
    Precision.INT4: "q4",
}


@dataclass(frozen=True)
class Client:
    """The class of these clients that runs a kind of model.

    All of their classes for one pipeline run an ONNX file alike, so ``model_type`` names one of
    them, and not the architecture.

    Attributes:
        pipeline: The pipeline.
        architecture: The entry of ``architectures`` in ``config.json``.
        model_type: The entry of the same name.
        processor: The image processor with the pipeline's last step; empty where there is none.
        in_optimum: The class of Optimum; empty where it has none.
    """

    pipeline: str
    architecture: str
    model_type: str = "vit"
    processor: str = ""
    in_optimum: str = ""


_CLASSIFIER = Client(
    "image-classification",
    "ViTForImageClassification",
    in_optimum="ORTModelForImageClassification",
)
_EMBEDDER = Client("image-feature-extraction", "ViTModel")
_SEGMENTER = Client(
    "image-segmentation",
    "SegformerForSemanticSegmentation",
    "segformer",
    "SegformerImageProcessor",
    "ORTModelForSemanticSegmentation",
)
# Of all pipelines it is the one that gives the numbers of a map as they are.
_MAPPER = Client(
    "depth-estimation", "DepthAnythingForDepthEstimation", "depth_anything", "DPTImageProcessor"
)


def client_of(metadata: Metadata) -> Client:
    """The client of a model that ``HuggingFace.demand_model`` takes."""
    if metadata.task is Task.MAP:
        return _SEGMENTER if metadata.labels else _MAPPER
    return _EMBEDDER if metadata.task is Task.EMBEDDING else _CLASSIFIER


def config_of(metadata: Metadata, channels: int, model: Summary | None) -> dict[str, Any]:
    """The content of ``config.json``.

    Args:
        metadata: The metadata of an artefact.
        channels: The number of channels of the main output, such as classes.
        model: The sizes of the network, or None.
    """
    client = client_of(metadata)
    height, width = metadata.preprocessing.size
    found: dict[str, Any] = {
        "architectures": [client.architecture],
        "model_type": client.model_type,
        "image_size": height if height == width else [height, width],
        "num_channels": metadata.preprocessing.channels,
    }
    if client in (_CLASSIFIER, _SEGMENTER):
        labels = names_for_people(metadata.labels) or tuple(f"LABEL_{i}" for i in range(channels))
        found |= {
            "num_labels": channels,
            "id2label": {str(index): label for index, label in enumerate(labels)},
            "label2id": {label: index for index, label in enumerate(labels)},
        }
    if model is not None and client.model_type == "vit":
        found |= _sizes(model)
    return found


def _sizes(model: Summary) -> dict[str, Any]:
    """The sizes of a transformer; no client computes with them."""
    found: dict[str, Any] = {
        "hidden_size": model.dim,
        "num_hidden_layers": model.depth,
        "intermediate_size": model.mlp_dim,
    }
    if model.heads:
        found["num_attention_heads"] = model.heads[0]
    if model.patch_size is not None:
        found["patch_size"] = model.patch_size[0]
    return found


def preprocessor_config(metadata: Metadata) -> dict[str, Any]:
    """The content of ``preprocessor_config.json``: resize and crop as ours, and raw pixels."""
    preprocessing = metadata.preprocessing
    height, width = preprocessing.size
    size = {"height": height, "width": width}
    found: dict[str, Any] = {
        "do_resize": True,
        "resample": _RESAMPLING[preprocessing.interpolation],
        "do_rescale": False,
        "do_normalize": False,
        "do_convert_rgb": preprocessing.channels == 3,
    }
    if preprocessing.channels == 1:
        found["do_convert_grayscale"] = True
    if preprocessing.resize is None:
        kind = client_of(metadata).processor or "ViTImageProcessor"
        return {"image_processor_type": kind, "size": size, **found}
    # The classes of that library that resize the shorter side, and that stretch before they crop.
    kind, before = "CLIPImageProcessor", {"shortest_edge": preprocessing.resize}
    if isinstance(preprocessing.resize, tuple):
        kind = "DeiTImageProcessor"
        before = dict(zip(("height", "width"), preprocessing.resize, strict=True))
    return {
        "image_processor_type": kind,
        "size": before,
        "do_center_crop": True,
        "crop_size": size,
        **found,
    }


_JAVASCRIPT = """\
```js
import {{ pipeline }} from "@huggingface/transformers";

const run = await pipeline("{pipeline}", "{folder}", {{ dtype: "{dtype}" }});
console.log(await run("photo.jpg"));
```"""

_PYTHON = """\
```python
from optimum.onnxruntime import {kind}
from transformers import AutoImageProcessor, pipeline

model = {kind}.from_pretrained("{folder}", subfolder="onnx", file_name="{file}")
processor = AutoImageProcessor.from_pretrained("{folder}")
run = pipeline("{pipeline}", model=model, image_processor=processor)
print(run("photo.jpg"))
```"""


def usage(client: Client, folder: str, written: Written) -> str:
    """Markdown that shows how an artefact is run.

    Args:
        client: The client of the model.
        folder: The name of the artefacts' folder.
        written: One of them.
    """
    metadata, file = written.metadata, written.path.name
    dtype = _DTYPES[metadata.precision]
    shown = [_JAVASCRIPT.format(pipeline=client.pipeline, folder=folder, dtype=dtype)]
    if client.in_optimum:
        kind = client.in_optimum
        shown.append(_PYTHON.format(pipeline=client.pipeline, folder=folder, kind=kind, file=file))
    if client is _MAPPER:
        shown.append(
            "The pipeline calls the numbers depth; `predicted_depth` holds them as the model gives "
            "them, whatever they mean."
        )
    return "\n\n".join([*shown, in_vitedge(f"onnx/{file}", metadata.task)])
