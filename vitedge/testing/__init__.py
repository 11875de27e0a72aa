"""Stand-ins for people who write plug-ins.

This module is public: what it holds changes as ``docs/stability.md`` says.
"""

from vitedge.testing.fake_runtime import FakeRuntime, FakeSession

__all__ = ["FakeRuntime", "FakeSession"]
