"""A report against limits and against an older report: what a build must not get worse than."""

from __future__ import annotations
