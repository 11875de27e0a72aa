"""Which targets there are, and what each says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vitedge.bench.candidates import probe
from vitedge.errors import UnavailableError
from vitedge.runtimes import AheadOfTime, Readiness, Runtime, runtime_for, runtimes, targets
from vitedge.runtimes._vulkan import VulkanDevice, readiness_on
from vitedge.targets.target import Target

NAMES = {
    *("tflite-cpu", "tflite-gpu", "tflite-npu", "ethos-u"),
    *("onnx-cpu", "onnx-cuda", "onnx-webgpu", "onnx-qnn", "onnx-openvino"),
    *("onnx-coreml", "onnx-xnnpack", "openvino-cpu", "openvino-gpu", "openvino-npu"),
}


def test_these_are_the_targets() -> None:
    assert {str(target) for target in targets()} >= NAMES


def test_the_command_lists_each_with_its_state_and_what_brings_it() -> None:
    command = [sys.executable, "-m", "vitedge", "targets", "--json"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    states = {each["target"]: each for each in json.loads(output)}
    assert set(states) >= NAMES
    for name, state in states.items():
        assert state["readiness"] in set(Readiness), name
        assert state["detail"], name
        assert state["remedy"] or state["readiness"] != Readiness.MISSING, name


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_cannot_run_here_is_refused_with_the_reason_and_the_remedy(name: str) -> None:
    target = Target.parse(name)
    state = probe(target, 60)
    if state.readiness != Readiness.MISSING:
        pytest.skip(f"{name} is {state.readiness} here: {state.detail}")
    with pytest.raises(UnavailableError) as caught:
        runtime_for(target).open(Path("model"), target.device)
    assert caught.value.remedy == state.remedy
    assert state.detail in caught.value.what


@pytest.mark.parametrize("runtime", runtimes(), ids=lambda runtime: runtime.name)
def test_a_runtime_keeps_its_contract(runtime: Runtime) -> None:
    assert len(set(runtime.devices)) == len(runtime.devices)
    if isinstance(runtime, AheadOfTime):
        assert any(runtime.compiled_forms(device) for device in runtime.devices)


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
