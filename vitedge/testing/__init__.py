"""For people who write plug-ins: stand-ins for what vitedge meets.

This module is public: what it holds changes as ``docs/stability.md`` says.
"""

from vitedge.testing.fake_runtime import FakeRuntime, FakeSession

__all__ = ["FakeRuntime", "FakeSession"]
