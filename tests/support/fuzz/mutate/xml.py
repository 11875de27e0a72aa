"""XML, element by element."""

from __future__ import annotations

import copy
import re
from random import Random
from xml.etree import ElementTree

from tests.support.fuzz.mutate.raw import mutate_bytes

_TEXTS = (
    *("", "-1", "0", "1e999", "9" * 5000, "18446744073709551616", "9223372036854775807", "1,,2"),
    *("1,2,3", "?,3", "NaN", "x" * 70_000, "../x", "/etc/passwd", "true", "f32", "u1", "undefined"),
)
_ENTITIES = "".join(f"<!ENTITY a{at} '{f'&a{at - 1};' * 10}'>" for at in range(1, 10))
_PROLOGUES = (
    "<?xml version='1.0' encoding='nonesuch'?>",
    "<?xml version='1.0' encoding='utf-32'?>",
    "<?xml version='1.0' encoding='ascii'?>",
    "<?xml version='9.9'?>",
    f"<!DOCTYPE net [<!ENTITY a0 'ha'>{_ENTITIES}]>",
    "<!DOCTYPE net [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>",
    "<!DOCTYPE net SYSTEM 'file:///etc/passwd'>",
    "<a>" * 100_000,
)


def mutate_xml(data: bytes, rng: Random) -> bytes:
    """Changes one to three attributes or elements, the prologue, or bytes."""
    kind = rng.random()
    if kind < 0.4:
        return mutate_bytes(data, rng)
    if kind < 0.45:
        body = re.sub(rb"^<\?xml[^>]*\?>", b"", data)
        prologue = rng.choice(_PROLOGUES)
        if "ENTITY" in prologue:
            body = body.replace(b'value="', b'value="&a9;', 1)
        return prologue.encode() + body
    root = ElementTree.fromstring(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        _change(rng.choice(list(root.iter())), rng)
    return ElementTree.tostring(root)


def _change(element: ElementTree.Element, rng: Random) -> None:
    children = list(element)
    if element.attrib and rng.random() < 0.7:
        name = rng.choice(list(element.attrib))
        match rng.randrange(5):
            case 0:
                del element.attrib[name]
            case _:
                element.attrib[name] = rng.choice((*_TEXTS, element.attrib[name] + "0"))
    elif children:
        child = rng.choice(children)
        match rng.randrange(4):
            case 0:
                element.remove(child)
            case 1:
                element.append(copy.deepcopy(child))
            case 2:
                element.insert(0, child)
            case 3:
                child.tag = rng.choice(("x", element.tag, rng.choice(children).tag))
    else:
        element.text = rng.choice(_TEXTS)
