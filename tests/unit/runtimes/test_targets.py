"""Which targets there are, and what each says of itself."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from vitedge.errors import UsageError
from vitedge.runtimes import Readiness, runtime_for, targets
from vitedge.runtimes._vulkan import VulkanDevice, readiness_on
from vitedge.targets.target import Target

NAMES = {
    *("tflite-cpu", "tflite-gpu", "tflite-npu", "ethos-u"),
    *("onnx-cpu", "onnx-cuda", "onnx-webgpu", "onnx-qnn", "onnx-openvino"),
    *("onnx-coreml", "onnx-xnnpack", "openvino-cpu", "openvino-gpu", "openvino-npu"),
}


def test_these_are_the_targets() -> None:
    assert {str(target) for target in targets()} >= NAMES


@pytest.mark.thorough
def test_the_command_lists_each_with_its_state_and_what_brings_it() -> None:
    command = [sys.executable, "-m", "vitedge", "targets", "--json"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    states = {each["target"]: each for each in json.loads(output)}
    assert set(states) >= NAMES
    for name, state in states.items():
        assert state["readiness"] in set(Readiness), name
        assert state["detail"], name
        assert state["remedy"] or state["readiness"] != Readiness.MISSING, name


SOFTWARE, HARDWARE = VulkanDevice("SwiftShader", True), VulkanDevice("A GPU", False)


@pytest.mark.parametrize(
    ("devices", "readiness", "words"),
    [
        ((), Readiness.MISSING, "Vulkan finds no device"),
        ((SOFTWARE,), Readiness.EMULATED, "on SwiftShader"),
        ((SOFTWARE, HARDWARE), Readiness.READY, "on A GPU"),
    ],
    ids=["none", "software", "both"],
)
def test_a_gpu_is_ready_only_in_hardware(
    devices: tuple[VulkanDevice, ...], readiness: Readiness, words: str
) -> None:
    state = readiness_on("engine 1.0", devices)
    assert state.readiness is readiness
    assert words in state.detail


def test_an_unknown_target_is_refused_with_the_name_that_is_nearest() -> None:
    with pytest.raises(UsageError, match="unknown target 'tflite-cp'; did you mean 'tflite-cpu'"):
        runtime_for(Target("tflite", "cp"))
    with pytest.raises(UsageError, match=r"unknown target 'x-y'; known: .*onnx-cpu"):
        runtime_for(Target("x", "y"))
