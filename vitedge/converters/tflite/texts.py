"""Our metadata in a TFLite file: a ``Metadata`` entry of the flatbuffer.

The schema is https://github.com/google-ai-edge/LiteRT, schema.fbs; the file is verified on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vitedge.artifacts.metadata import METADATA_KEY
from vitedge.files.tflite_verifier import open_verified

_MODEL_BUFFERS, _MODEL_METADATA = 4, 6
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2


def read_texts(path: Path) -> Mapping[str, str]:
    """See ``FormatRecord``."""
    with open_verified(path) as root, path.open("rb") as stream:
        buffers = root.tables(_MODEL_BUFFERS)
        for entry in root.tables(_MODEL_METADATA):
            if entry.content(_METADATA_NAME) != METADATA_KEY.encode():
                continue
            buffer = buffers[entry.number(_METADATA_BUFFER, "I")]
            offset = buffer.number(_BUFFER_OFFSET, "Q")
            if offset <= 1:
                return {METADATA_KEY: buffer.content(_BUFFER_DATA).decode()}
            stream.seek(offset)  # past 2 GiB, buffers lie behind the flatbuffer
            return {METADATA_KEY: stream.read(buffer.number(_BUFFER_SIZE, "Q")).decode()}
    return {}
