"""A NumPy archive of a network: its arrays, its operators as JSON, and the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from vitedge.artifacts.metadata import METADATA_KEY, Metadata
from vitedge.errors import ModelError
from vitedge.network.network import Network
from vitedge.network.saved import described, restored

OPERATORS = "operators"


def write(network: Network, path: Path, metadata: Metadata) -> None:
    description, arrays = described(network)
    texts = {OPERATORS: json.dumps(description), METADATA_KEY: metadata.to_json()}
    with path.open("wb") as stream:
        np.savez(stream, **arrays, **texts)


def read_texts(path: Path) -> Mapping[str, str]:
    try:
        with np.load(path) as arrays:
            return {METADATA_KEY: str(arrays[METADATA_KEY])}
    except BadZipFile as error:
        raise ValueError(str(error)) from error


def read(path: Path) -> Network:
    try:
        with np.load(path) as arrays:
            return restored(json.loads(str(arrays[OPERATORS])), arrays)
    except (OSError, ValueError, BadZipFile) as error:
        raise ModelError(f"'{path}' is no toy: {error}") from error
