"""Reads the command line of ``python -m reference.zoo``."""

from __future__ import annotations

import argparse
from pathlib import Path

_FORMATS = ("tflite", "onnx", "openvino")


def main() -> None:
    """Makes, measures, or writes the table."""
    parser = argparse.ArgumentParser(prog="python -m reference.zoo", description=__doc__)
    parser.add_argument("what", choices=("make", "measure", "table"))
    parser.add_argument("folder", type=Path, help="of the models and of what was measured")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORD", help="families whose names hold it"
    )
    parser.add_argument("--formats", default=",".join(_FORMATS), help="with commas between")
    parser.add_argument("--no-latency", action="store_true", help="time nothing")
    parser.add_argument(
        "--calibration-images", type=int, default=64, metavar="N", help="made ones, of both sides"
    )
    parser.add_argument("--only-read", action="store_true", help="convert nothing")
    parser.add_argument("--again", action="store_true", help="measure what was measured before")
    parser.add_argument(
        "--page", type=Path, default=Path("docs/models.md"), help="the page that has the table"
    )
    told = parser.parse_args()
    if told.what == "make":
        from reference.zoo.making import make

        make(told.folder, told.only)
    elif told.what == "measure":
        from reference.zoo.measuring import Asked, measure

        asked = Asked(
            tuple([] if told.only_read else told.formats.split(",")),
            calibration_images=told.calibration_images,
            latency=not told.no_latency,
            again=told.again,
        )
        measure(told.folder, told.only, asked)
    else:
        from reference.zoo.table import write_table

        write_table(told.folder, told.page)


if __name__ == "__main__":
    main()
