"""The assignment of nodes to ONNX Runtime's providers, from its own records."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitedge.files.temporary import temporary_folder
from vitedge.runtimes import Placement


def assigned_nodes(session: Any) -> list[tuple[str, Any]]:
    """Name of the provider and node, for every node that the session's record has.

    Providers that take nodes one by one and are not the CPU are not in it (onnxruntime 1.27).
    Nothing is before onnxruntime 1.24.
    """
    try:
        parts = session.get_provider_graph_assignment_info()
    except (AttributeError, RuntimeError):
        return []
    return [(str(part.ep_name), node) for part in parts for node in part.get_nodes()]


def placement_on(
    provider: str,
    session: Any,
    start: Callable[..., Any],
    run: Callable[[Any], object],
) -> Placement | None:
    """The number of a provider's nodes: by the session's record, else by a trace of one run.

    Args:
        provider: Its name.
        session: The session in question.
        start: Starts another one like it; takes ``profile``.
        run: Runs a session once.
    """
    counts = Counter(name for name, _ in assigned_nodes(session))
    if not counts[provider]:
        counts = _traced(start, run)
    return Placement(counts[provider], counts.total()) if counts else None


def _traced(start: Callable[..., Any], run: Callable[[Any], object]) -> Counter[str]:
    """Providers of the nodes that one run executes."""
    with temporary_folder("vitedge-trace-") as folder:
        session = start(profile=str(folder / "trace"))
        run(session)
        trace = Path(session.end_profiling())
        events = json.loads(trace.read_text(encoding="utf-8"))
    nodes = {
        event["name"]: event["args"]["provider"]
        for event in events
        if event.get("cat") == "Node" and event.get("args", {}).get("provider")
    }
    return Counter(nodes.values())
