"""A target: a runtime and the device that it shall use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Target:
    """A runtime and the device it shall use, written ``<runtime>-<device>``."""

    runtime: str
    device: str

    def __str__(self) -> str:
        return f"{self.runtime}-{self.device}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """Reads ``tflite-cpu``.

        Raises:
            ValueError: There is no dash, or nothing on one side of it.
        """
        runtime, _, device = text.partition("-")
        if not runtime or not device:
            raise ValueError(
                f"'{text}' is not a target; write <runtime>-<device>, such as tflite-cpu "
                "(`vitedge targets` lists them)"
            )
        return cls(runtime, device)
