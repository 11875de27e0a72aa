"""The inputs and outputs of an OpenVINO file, and who else takes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from vitedge.artifacts.contents import Interface, Port
from vitedge.artifacts.metadata import Metadata
from vitedge.converters.model_info import model_api_needs
from vitedge.errors import ModelError

_TYPES = {"fp32": "float32", "fp16": "float16", "fp64": "float64", "boolean": "bool"}
_TYPES |= {f"i{bits}": f"int{bits}" for bits in (4, 8, 16, 32, 64)}
_TYPES |= {f"u{bits}": f"uint{bits}" for bits in (4, 8, 16, 32, 64)}


def read_interface(path: Path) -> Interface:
    """See ``FormatTools``."""
    try:
        network = ElementTree.parse(path).getroot()
        inputs = tuple(_parameters(network))
        outputs = tuple(_results(network))
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ModelError(f"'{path}' is truncated or not an OpenVINO file ({error})") from error
    entries = frozenset(each.tag for each in network.iterfind("rt_info/*"))
    return Interface(inputs, outputs, entries)


def _parameters(network: ElementTree.Element) -> Iterator[Port]:
    for layer in network.iterfind("layers/layer[@type='Parameter']"):
        port = layer.find("output/port")
        if port is not None:
            yield _port(port, port.get("names") or layer.get("name") or "")


def _results(network: ElementTree.Element) -> Iterator[Port]:
    """The input of each result: tensors are named where they are made."""
    ports: Mapping[tuple[str | None, str | None], ElementTree.Element] = {
        (layer.get("id"), port.get("id")): port
        for layer in network.iterfind("layers/layer")
        for port in layer.iterfind("output/port")
    }
    edges = {
        edge.get("to-layer"): (edge.get("from-layer"), edge.get("from-port"))
        for edge in network.iterfind("edges/edge")
    }
    for layer in network.iterfind("layers/layer[@type='Result']"):
        port = ports[edges[layer.get("id")]]
        names = (port.get("names") or "").split(",")
        own = layer.get("name") or ""
        yield _port(port, own if own in names else names[0] or own)


def _port(port: ElementTree.Element, name: str) -> Port:
    shape = tuple(int(each.text or "-1") for each in port.iterfind("dim"))
    dtype = (port.get("precision") or "").lower()
    return Port(name, shape, _TYPES.get(dtype, dtype))


def client_needs(found: Interface, metadata: Metadata | None) -> dict[str, str]:
    """See ``FormatTools``."""
    return model_api_needs(found, metadata)
