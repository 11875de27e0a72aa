"""Our own ``model.keras``, read without Keras: a zip of a JSON config and an HDF5 of weights."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitedge.errors import ModelError
from vitedge.importers import Imported, ImportOptions, with_options
from vitedge.vit import Array, Block, ViTConfig
