"""The public API is what the documentation lists, and the commands have its defaults."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vitedge
import vitedge.testing
from vitedge.api.options import SourceOptions, as_typed
from vitedge.api.train import _FIELDS, TrainOptions
from vitedge.cli import main
from vitedge.commands.options import SHIPPED_TARGETS
from vitedge.runtimes import runtime_for, targets
from vitedge.targets.target import Target
from vitedge.train import Augmentation, Distillation, TrainingRecipe
from vitedge.train.size import Size

ROOT = Path(__file__).parents[3]

# A command, the function that it calls, and options that have no parameter of their name: what a
# command prints and where is its own.
COMMANDS = {
    "bench": ("bench", {"json_file", "csv_file", "markdown_file", "html_file", "force"}),
    "compare": ("compare", {"as_json"}),
    "convert": ("convert", {"as_json"}),
    "import": ("import_model", {"as_json"}),
    "inspect": ("inspect", {"as_json"}),
    "pick": ("pick", {"json_file", "html_file"}),
    "train": ("train", set()),
}
CALLED = {"wanted": "targets", "source": "model"}


def documented() -> set[str]:
    return set(re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs/stability.md").read_text(), re.M))


def test_dir_lists_exactly_the_public_names() -> None:
    assert dir(vitedge) == sorted(vitedge.__all__)
    for name in vitedge.__all__:
        assert getattr(vitedge, name).__doc__


def test_the_public_names_are_those_that_the_documentation_lists() -> None:
    names = {f"vitedge.{name}" for name in dir(vitedge)}
    names |= {f"vitedge.testing.{name}" for name in vitedge.testing.__all__}
    assert documented() == names


def test_the_package_is_typed() -> None:
    assert (Path(vitedge.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("name", ["bench", "pick", "train"])
def test_a_public_name_stays_a_function_when_its_folder_is_imported(name: str) -> None:
    program = (
        f"import vitedge; from vitedge.{name} import run; import vitedge.{name}\n"
        f"assert run.__name__ == 'vitedge.{name}.run'\n"
        f"assert callable(vitedge.{name}), vitedge.{name}\n"
        f"from vitedge import {name}\n"
        f"assert callable({name})"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'konvert'"):
        _ = vitedge.konvert


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_the_options_and_defaults_of_its_function(command: str) -> None:
    function, own = COMMANDS[command]
    signature = inspect.signature(getattr(vitedge, function)).parameters
    shared = TrainOptions if command == "train" else SourceOptions
    parameters = main.commands[command].params
    unset = main.commands[command].make_context(command, [], resilient_parsing=True).params
    for parameter in parameters:
        name = str(CALLED.get(parameter.name or "", parameter.name))
        if name in own or parameter.required or not parameter.expose_value:
            continue
        shown = plain(unset[parameter.name or ""])
        if name in signature:
            assert shown == plain(signature[name].default), name
        else:
            assert name in shared.__annotations__
            assert shown is None, name


def plain(value: object) -> str | None:
    """A default as text; None where nothing is decided."""
    return None if value in (None, False, ()) else str(value)


def test_every_option_of_a_function_has_a_flag() -> None:
    quiet = {"progress", "on_written", "warn", "say", "on_epoch"}
    # What lies in memory has no flag.
    only_in_python = {"validation"}
    for command, (function, _) in COMMANDS.items():
        flags = {
            str(CALLED.get(each.name or "", each.name)) for each in main.commands[command].params
        }
        signature = inspect.signature(getattr(vitedge, function)).parameters
        names = {name for name, each in signature.items() if each.kind is not each.VAR_KEYWORD}
        if len(names) < len(signature):
            shared = TrainOptions if command == "train" else SourceOptions
            names |= set(shared.__annotations__)
        missing = names - flags - quiet - only_in_python
        assert not missing, f"{command}: {missing}"


def test_defaults_that_the_help_of_train_names_are_those_of_the_recipe() -> None:
    known: dict[str, Any] = {
        each.name: each.default
        for kind in (TrainingRecipe, Distillation, Augmentation, Size)
        for each in fields(kind)
    }
    known |= {"hard": "hard", "keep_best": "best"}
    compared = 0
    for parameter in main.commands["train"].params:
        name = _FIELDS.get(parameter.name or "", parameter.name)
        found = re.search(r"\[default: ([\w.]+)\]", getattr(parameter, "help", "") or "")
        if found is None or name not in known or found[1] == "all":
            continue
        default = known[name]
        expected = f"{default:g}" if isinstance(default, int | float) else default
        assert found[1] == expected, parameter.opts[0]
        compared += 1
    assert compared > 15


def test_source_options_are_typed_as_a_command_takes_them() -> None:
    options: SourceOptions = {
        "heads": 3,
        "image_size": (32, 64),
        "mean": (0.5, 0.25, 0.5),
        "labels": "labels.txt",
        "logits": ("a", "b"),
        "trust": True,
        "task": None,
    }
    typed = " ".join(as_typed(options))
    assert typed == (
        "--heads 3 --image-size 32x64 --mean 0.5,0.25,0.5 --labels labels.txt --logits a "
        "--logits b --trust"
    )


def test_help_names_every_target_that_vitedge_brings_and_shells_complete_them() -> None:
    shipped = {str(each) for each in targets() if is_ours(each)}
    assert set(SHIPPED_TARGETS) == shipped
    context = main.commands["bench"].make_context("bench", [], resilient_parsing=True)
    (option,) = [each for each in main.commands["bench"].params if each.name == "wanted"]
    completed = [each.value for each in option.shell_complete(context, "openvino-")]
    assert completed == ["openvino-cpu", "openvino-gpu", "openvino-npu"]


def is_ours(target: Target) -> bool:
    return type(runtime_for(target)).__module__.startswith("vitedge.")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert "_VITEDGE_COMPLETE" in result.stdout
