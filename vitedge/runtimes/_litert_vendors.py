"""The packages in which chip makers' libraries come to LiteRT, and what is wrong with them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path


def sdk_package(vendor: str) -> str:
    """The package of a vendor: ``qualcomm``, ``mediatek``, ``google_tensor``, ``samsung``."""
    return f"ai-edge-litert-sdk-{vendor.replace('_', '-')}"


def sdk_fault(vendor: str) -> str:
    """The fault of a vendor's package for compiling ahead of time; empty when there is none.

    Those packages are installed "successfully" and empty when their own download fails.
    """
    package = sdk_package(vendor)
    release = release_of(package)
    if not release:
        return f"{package} is not installed"
    if (package_folder(package.replace("-", "_")) / "data").is_dir():
        return ""
    return (
        f"{package} {release} is installed but empty: its own download failed; "
        f"run with a connection: pip install --force-reinstall --no-cache-dir {package}"
    )


def release_of(package: str) -> str:
    """A package's version; empty when it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def package_folder(name: str) -> Path:
    """The folder of a module's files; a path to nothing when it is not installed."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else Path(f"no {name}")
