"""LiteRT's compiler for Qualcomm's NPU, ahead of time.

LiteRT's wheel has the compiler as a plug-in, linked with Qualcomm's libraries. Those come with
``ai-edge-litert-sdk-qualcomm``, which downloads them while it is installed and is installed without
them when it cannot, or, all except one, with ``onnxruntime-qnn``. The result runs on the chip
alone: LiteRT has no dispatcher for Qualcomm on any other machine.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitedge.errors import ModelError, PlacementError, first_line
from vitedge.files.temporary import temporary_folder
from vitedge.runtimes import Availability, Readiness
from vitedge.runtimes._litert_vendors import package_folder, release_of, sdk_fault, sdk_package

# Snapdragon 8 Gen 2, Gen 3, Elite and Elite Gen 5, as LiteRT spells them but for the case.
CHIPS = ("sm8550", "sm8650", "sm8750", "sm8850")

_REMEDY = "Run: pip install onnxruntime-qnn"
_PLUGIN = Path("vendors", "qualcomm", "compiler")
_BACKEND = "libQnnHtp.so"

# The plug-in is linked with the backend of the low-power processor as well, which it calls only
# when told to compile for that one, and which onnxruntime-qnn lacks. Any library of Qualcomm's
# satisfies the linker in its place.
_UNCALLED, _STAND_IN = "libQnnLpai.so", "libQnnSystem.so"

# What stands in the graph for the part that the chip runs.
_DISPATCHED = b"DISPATCH_OP"

_UNLOADABLE = re.compile(r"Could not load shared library \S+: (.*)")
_LOG_FILE = re.compile(r"See (\S+) for details")


def compiler_availability(found: str) -> Availability:
    """Whether artefacts can be compiled for Qualcomm's NPU here.

    Args:
        found: The LiteRT package and its version, for the words.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        detail = f"{found} compiles for Qualcomm's NPU on x86-64 Linux only"
        return Availability(Readiness.MISSING, detail, "Convert there, and copy the file")
    folder, words = _vendor_folder()
    if folder is None:
        detail = f"{found} cannot compile for Qualcomm's NPU: {_BACKEND} is missing"
        detail += f"; {words}" if words else ""
        return Availability(Readiness.MISSING, detail, _REMEDY)
    return Availability(Readiness.READY, f"{found} compiles for Qualcomm's NPU with {words}")


def compile_for_qualcomm(path: Path, chip: str, output: Path) -> None:
    """Writes a TFLite file whose one node holds the graph compiled for a chip.

    LiteRT keeps the metadata. A graph that the chip takes only in part is an error: LiteRT would
    leave the rest to the CPU, and count that as success.

    Args:
        path: The artefact.
        chip: One of ``CHIPS``.
        output: The file to write.

    Raises:
        PlacementError: The chip does not take all operators; the message names some.
        ModelError: The compiler fails; the message is its own.
    """
    from ai_edge_litert.aot.core.aot_types import Model
    from ai_edge_litert.aot.core.apply_plugin import ApplyPlugin

    plugin = package_folder("ai_edge_litert") / _PLUGIN
    with _vendor_libraries() as libraries, temporary_folder() as folder:
        made = folder / "compiled.tflite"
        try:
            ApplyPlugin(experimental_capture_stderr=True)(
                Model.create_from_path(path),
                Model.create_from_path(made),
                "Qualcomm",
                chip.upper(),
                sdk_libs_path=libraries,
                libs=str(plugin),
            )
        except (ValueError, FileNotFoundError) as error:
            raise ModelError(
                f"LiteRT cannot compile '{path}' for {chip}: {_words_of(error)}"
            ) from error
        _demand_wholly_compiled(path, chip, made)
        output.write_bytes(made.read_bytes())


def _demand_wholly_compiled(path: Path, chip: str, made: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(made.read_bytes(), 0))
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    left = []
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            if code.customCode != _DISPATCHED:
                output = graph.tensors[operator.outputs[0]].name.decode()
                left.append(f"{kinds[code.builtinCode]} '{output}'")
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        count = f"{len(left)} operator{'s' if len(left) > 1 else ''}"
        raise PlacementError(
            f"{count} of '{path}' cannot run on {chip}: {', '.join(left[:3])}{more}"
        )


def _words_of(error: Exception) -> str:
    """The reason in the compiler's log, which LiteRT's own exception only names."""
    named = _LOG_FILE.search(str(error))
    if named is None:
        return first_line(error)
    log = Path(named[1])
    said = log.read_text(encoding="utf-8", errors="replace")
    log.unlink()
    unloadable = _UNLOADABLE.search(said)
    if unloadable is not None:
        return unloadable[1]
    lines = [line.strip() for line in said.splitlines()]
    return next((line for line in lines if "rror" in line), first_line(error))


@contextmanager
def _vendor_libraries() -> Iterator[str]:
    """A search path of all libraries that the plug-in is linked with."""
    found, _ = _vendor_folder()
    if found is None or (found / _UNCALLED).exists():
        yield str(found or "")
        return
    # Libraries find their own beside the real file.
    found = found.resolve()
    with temporary_folder("vitedge-qualcomm-") as folder:
        (folder / _UNCALLED).symlink_to(found / _STAND_IN)
        yield os.pathsep.join([str(found), str(folder)])


def _vendor_folder() -> tuple[Path | None, str]:
    """The folder of Qualcomm's libraries, and words about the package that brings them."""
    sdk = sdk_package("qualcomm")
    libraries = package_folder(sdk.replace("-", "_")) / "data" / "lib" / "x86_64-linux-clang"
    if (libraries / _BACKEND).is_file():
        return libraries, f"{sdk} {release_of(sdk)}"
    libraries = package_folder("onnxruntime_qnn")
    if (libraries / _BACKEND).is_file():
        return libraries, f"the libraries of onnxruntime-qnn {release_of('onnxruntime-qnn')}"
    return None, sdk_fault("qualcomm") if release_of(sdk) else ""
