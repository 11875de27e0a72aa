"""The features of the processor, as far as the system tells them."""

from __future__ import annotations

from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")

# Either instruction multiplies uint8 by int8 and adds in 32 bits.
_VNNI = frozenset(["avx512_vnni", "avx_vnni"])


def processor_flags(cpu_info: Path = _CPU_INFO) -> frozenset[str]:
    """The features as Linux on x86 spells them; empty on other systems."""
    try:
        lines = cpu_info.read_text("utf-8", "replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def products_saturate(flags: frozenset[str]) -> bool:
    """Whether fast products of uint8 and int8 add in 16 bits, which large numbers exceed.

    Args:
        flags: The result of ``processor_flags``; without flags the answer is no.
    """
    return bool(flags) and not has_exact_products(flags)


def has_exact_products(flags: frozenset[str]) -> bool:
    """Whether fast products of uint8 and int8 are known to add in 32 bits.

    Args:
        flags: The result of ``processor_flags``; without flags the answer is no.
    """
    return not flags.isdisjoint(_VNNI)
