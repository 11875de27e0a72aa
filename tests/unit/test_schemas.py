"""The published JSON schemas say what the code writes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.bench_rows import compared_layers, everything, failed_row, make_report
from vitedge.artifacts.metadata import read_metadata
from vitedge.bench import builtin
from vitedge.report.results import Pick, Report, Status

jsonschema = pytest.importorskip("jsonschema", reason="the extra 'dev' is not installed whole")

ROOT = Path(__file__).parents[2]
PICK = Pick("out/model.int8.tflite", "tflite-cpu", True, "", "", 0.5, None, None, ("a", "b"))


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("schemas", ROOT / "scripts/json_schemas.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published(name: str) -> Any:
    return json.loads((ROOT / "docs" / "schemas" / name).read_text("utf-8"))


def undescribed(schema: Any) -> Any:
    """A schema without its words, which change more often than what they describe."""
    if isinstance(schema, dict):
        return {
            key: undescribed(value)
            for key, value in schema.items()
            if key != "description" or not isinstance(value, str)
        }
    return [undescribed(each) for each in schema] if isinstance(schema, list) else schema


def test_the_published_schemas_are_those_of_the_code(program: ModuleType) -> None:
    for name, text in program.schemas().items():
        assert undescribed(published(name)) == undescribed(json.loads(text)), (
            "run: python scripts/json_schemas.py"
        )
        jsonschema.Draft202012Validator.check_schema(published(name))


def test_every_built_in_artefact_has_metadata_of_the_schema() -> None:
    for path in builtin.artifacts():
        metadata = read_metadata(path)
        assert metadata is not None
        jsonschema.validate(json.loads(metadata.to_json()), published("metadata.schema.json"))


def test_a_report_of_every_kind_of_row_is_of_the_schema() -> None:
    report = make_report()
    report = Report(
        report.environment,
        (everything(), failed_row(Status.CRASHED, "SIGILL"), *report.rows),
        report.data,
        pick=PICK,
        layers=compared_layers(),
    )
    jsonschema.validate(json.loads(report.to_json()), published("report.schema.json"))


def test_what_is_of_another_kind_is_not_of_the_schema() -> None:
    values = json.loads(make_report().to_json())
    values["rows"][0]["size_mb"] = "six"
    with pytest.raises(jsonschema.ValidationError, match="six"):
        jsonschema.validate(values, published("report.schema.json"))
