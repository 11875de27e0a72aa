"""Lines and tables of text."""

from __future__ import annotations

from random import Random

from tests.support.fuzz.mutate.raw import mutate_bytes

_CELLS = (
    *(
        "",
        "../x",
        ".",
        "/etc/passwd",
        "/dev/zero",
        "a\x00b",
        "x" * 5000,
        "9" * 5000,
        "-1",
        "\u0663",
    ),
    *(
        "\u00b2",
        "1e999",
        "\x1b[31m",
        "=cmd",
        '"',
        "\r",
        ",",
        ";",
        "nan",
        "0",
        "9" * 20,
        "x" * 200_000,
    ),
)


def mutate_table(text: bytes, rng: Random) -> bytes:
    """Changes cells, lines or bytes of comma-separated values."""
    if rng.random() < 0.4:
        return mutate_bytes(text, rng)
    rows = [line.split(",") for line in text.decode().splitlines()]
    for _ in range(rng.choice((1, 2))):
        row = rng.choice(rows)
        match rng.randrange(6):
            case 0:
                row.append(rng.choice(_CELLS))
            case 1 if len(row) > 1:
                row.pop()
            case 2:
                rows.append(list(row))
            case _:
                row[rng.randrange(len(row))] = rng.choice(_CELLS)
    encoding = rng.choice(("utf-8",) * 8 + ("utf-8-sig", "utf-16", "utf-32"))
    return "\n".join(",".join(row) for row in rows).encode(encoding, "replace")
