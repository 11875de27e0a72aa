"""Facts for OpenVINO's Model API: https://github.com/open-edge-platform/model_api.

The same keys stand in OpenVINO's ``rt_info`` under ``model_info``, and in ONNX's
``metadata_props`` with ``model_info`` and a space before them.
"""

from __future__ import annotations

from vitedge.artifacts.contents import Interface
from vitedge.artifacts.metadata import Metadata
from vitedge.images.interpolation import Interpolation
from vitedge.images.label_names import names_for_people
from vitedge.network.tasks import Task
from vitedge.targets.scores import Scores

SECTION = "model_info"

# There is no Lanczos.
_INTERPOLATIONS = {
    Interpolation.NEAREST: "NEAREST",
    Interpolation.BILINEAR: "LINEAR",
    Interpolation.BICUBIC: "CUBIC",
    Interpolation.LANCZOS: "CUBIC",
}


def model_info(metadata: Metadata) -> dict[str, str]:
    """The keys and values; lists are joined by spaces.

    Model API names classes by a softmax and labels by a sigmoid of its own. It has no kind of model
    for one logit, for sigmoids that were taken already, for numbers, embeddings and maps: there are
    no keys then.

    There is no "shorter side to 256, then the 224 in the middle": ``crop`` cuts off only what is
    longer than the shorter side, so things come out a little smaller than the model knows them.
    Nor is there a crop of what was stretched: ``standard`` stretches to the size.
    """
    if not _is_named(metadata):
        return {}
    preprocessing = metadata.preprocessing
    channels = preprocessing.channels
    found = {
        "model_type": "Classification",
        "resize_type": "crop" if isinstance(preprocessing.resize, int) else "standard",
        "interpolation_mode": _INTERPOLATIONS[preprocessing.interpolation],
        # Pictures come as bytes; what the network takes them as, the client sees itself.
        "input_dtype": "u8",
        # Its callers read pictures with OpenCV, whose colours are the other way round.
        "reverse_input_channels": str(channels == 3),
        "mean_values": " ".join(["0.0"] * channels),
        "scale_values": " ".join(["1.0"] * channels),
    }
    if metadata.task is Task.LABELS:
        found |= {"multilabel": "True", "output_raw_scores": "True"}
    if metadata.labels:
        found["labels"] = " ".join(map(_word, names_for_people(metadata.labels)))
    return found


def _is_named(metadata: Metadata) -> bool:
    if metadata.task is Task.LABELS:
        return metadata.scores is Scores.LOGITS
    return metadata.task is Task.CLASSES


def _word(label: str) -> str:
    """A label without spaces, at which lists are split."""
    return "_".join(label.split()) or "_"


def model_api_needs(found: Interface, metadata: Metadata | None) -> dict[str, str]:
    """The gaps between a file and the Model API, as ``FormatTools.client_needs`` has them."""
    return {"OpenVINO Model API": _need(found, metadata)}


def _need(found: Interface, metadata: Metadata | None) -> str:
    if metadata is not None and not _is_named(metadata):
        given = "probabilities of labels" if metadata.task is Task.LABELS else metadata.task.words
        return f"logits of classes or of labels, not {given}"
    if SECTION not in found.entries:
        return "model_info: convert the model again"
    if len(found.inputs) != 1 or found.inputs[0].shape[:1] != (1,):
        return "one input of one picture: convert with --batch 1"
    return ""
