"""Reads sources under the rules; the parent process looks at what they left behind.

Arguments: a JSON file with a list of sources, and the only folder that may change.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any

from tests.support.audit.rules import Rules
from tests.support.golden_cases import options_of

_LIBRARIES = (
    *("h5py", "safetensors", "onnx", "onnx.reference", "onnxruntime", "tensorflow", "keras"),
    *("scipy.special", "PIL.Image", "google.protobuf.unknown_fields", "ai_edge_litert"),
    *("tensorflow.core.protobuf.saved_model_pb2", "tf_keras", "keras_hub"),
)


class ForbiddenError(BaseException):
    """Raised into whoever does what no reader may, before it is done; nobody catches this."""


class Audit:
    """The hook, which cannot be taken off again and only listens while a source is read."""

    def __init__(self) -> None:
        self.rules: Rules | None = None
        self.violations: list[str] = []

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Judges an event."""
        rules, self.rules = self.rules, None  # judging raises events of its own
        if rules is None:
            return
        try:
            violation = rules.violation(event, arguments)
        finally:
            self.rules = rules
        if violation:
            self.violations.append(violation)
            raise ForbiddenError(violation)


def _read(audit: Audit, source: dict[str, Any], output: Path) -> dict[str, Any]:
    from vitedge.converters.generic.model import open_generic
    from vitedge.errors import NotAViTError, VitedgeError
    from vitedge.importers import ImportOptions, read_model

    path = Path(source["path"])
    options = options_of(source["options"])
    audit.violations = []
    # Beside a file may lie what belongs to it: a config, a table of shards, ONNX's external data.
    own = path if path.is_dir() else path.parent
    audit.rules = Rules(own.resolve(), output.resolve())
    refused, failed = "", ""
    try:
        try:
            read_model(path, options)
        except NotAViTError:
            open_generic(path, ImportOptions(trust=options.trust))
    except VitedgeError as error:
        refused = str(error)
    except (Exception, ForbiddenError) as error:
        failed = f"{type(error).__name__}: {error}"
    finally:
        audit.rules = None
    return {
        "name": source["name"],
        "refused": refused,
        "failed": failed,
        "violations": audit.violations,
    }


def _import_everything() -> None:
    for name in _LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError:  # of an extra that is not installed here
            continue
    for package in ("importers", "importers.reading", "importers.lift", "converters.generic"):
        module = importlib.import_module(f"vitedge.{package}")
        for each in pkgutil.iter_modules(module.__path__):
            importlib.import_module(f"vitedge.{package}.{each.name}")


def main() -> None:
    """Reads all sources, and prints what each of them did."""
    sources, output = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    _import_everything()
    audit = Audit()
    sys.addaudithook(audit.hook)
    print(json.dumps([_read(audit, source, output) for source in sources]))


if __name__ == "__main__":
    main()
