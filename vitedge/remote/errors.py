"""Failures between this machine and a device."""

from __future__ import annotations

from vitedge.errors import VitedgeError


class ConnectionLost(VitedgeError):  # noqa: N818  # what happened, in ssh's words
    """The device cannot be reached, or no longer."""


class RemoteError(VitedgeError):
    """A command on the device failed, or the device says what no command of ours says."""
