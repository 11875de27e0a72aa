"""Devices elsewhere, reached with the system's own ``ssh`` and ``scp``."""
