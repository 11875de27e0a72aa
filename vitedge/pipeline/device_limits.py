"""Limits of a kind of device, found in the file: for devices that are not here."""

from __future__ import annotations

from pathlib import Path

from vitedge.artifacts.metadata import format_of
from vitedge.converters.tools import tools_of
from vitedge.errors import UsageError
from vitedge.targets.fits import DeviceLimits


def refusals(path: Path, limits: DeviceLimits) -> tuple[str, ...]:
    """The nodes that a kind of device cannot run: operator, name and reason.

    Args:
        path: The artefact.
        limits: The kind.

    Raises:
        UnavailableError: The format's package is not installed.
        UsageError: Nothing is known of what such devices cannot run of the file's format.
    """
    if limits is DeviceLimits.NONE:
        return ()
    found = format_of(path)
    rule = tools_of(found).limits.get(limits)
    if rule is None:
        raise UsageError(f"'{path}': what {limits} devices run of {found} files is not known")
    return tuple(f"{code} '{name}': {reason}" for code, name, reason in rule(path))
