"""Our metadata in an OpenVINO file: elements of the XML's ``rt_info``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from vitedge.artifacts.metadata import METADATA_KEY
from vitedge.errors import ModelError
from vitedge.files.weights_digest import WEIGHTS_KEY

_RT_INFO, _NET = b"</rt_info>", b"</net>"


def read_texts(path: Path) -> Mapping[str, str]:
    """See ``FormatRecord``."""
    # The network comes first and rt_info last, so read events and drop the layers on the way.
    root = None
    with path.open("rb") as stream:
        for _, element in ElementTree.iterparse(stream):
            if element.tag == "layer":
                element.clear()
            root = element
    if root is None or root.tag != "net":
        raise ValueError("no <net> element")
    found = {}
    for key in (METADATA_KEY, WEIGHTS_KEY):
        entry = root.find(f"rt_info/{key}")
        value = None if entry is None else entry.get("value")
        if value is not None:
            found[key] = value
    return found


def name_weights(main: bytes, digest: str) -> bytes:
    """See ``FormatRecord``."""
    element = f'<{WEIGHTS_KEY} value="{digest}" />'.encode()
    # The model's own rt_info comes last; those of layers and ports stand inside theirs.
    head, end, tail = main.rpartition(_NET)
    if not end:
        raise ModelError("the .xml file has no end")
    before, closing, after = head.rpartition(_RT_INFO)
    if closing and not after.strip():
        return before + b"\t" + element + b"\n\t" + closing + after + end + tail
    return head + b"\t<rt_info>\n\t\t" + element + b"\n\t</rt_info>\n" + end + tail
