"""Measuring artefacts: latency, memory, placement, accuracy, each in a process of its own.

``vitedge.bench.run.run_bench`` is the entry. This file imports nothing, because the worker
process passes through it and its memory is one of the things measured.
"""
