"""The command line: parse, call one function, print.

Results go to stdout, everything else to stderr. Engines, NumPy and rich are imported by the
commands that need them, so that ``--help`` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from typing import Any

import click

from vitedge import __version__, commands
from vitedge.errors import VitedgeError
from vitedge.files import limits
from vitedge.files.temporary import machine_fault
from vitedge.targets.plugins import discover
from vitedge.terminal.interruption import INTERRUPTED
from vitedge.terminal.output import echo, interruption_words
from vitedge.terminal.printable import printable

_ANY_LENGTH = 1000
"""click cuts the summary of a command where a line ends."""


class _Group(click.Group):
    """Turns the errors that vitedge raises on purpose into one line and an exit code."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands with the whole of their summaries."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, command.get_short_help_str(_ANY_LENGTH))
                    for name, command in sorted(self.commands.items())
                ]
            )

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except VitedgeError as error:
            echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)
        except click.ClickException as error:
            error.message = printable(error.message)  # type: ignore[misc]  # what click prints
            raise
        except KeyboardInterrupt:
            kept = interruption_words(ctx)
            click.echo("", err=True)
            echo(f"Interrupted: {kept}" if kept else "Interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except MemoryError as error:
            echo(f"Error: there is not enough memory for that ({error})", err=True)
            ctx.exit(1)
        except OSError as error:
            told = machine_fault(error)
            if told is None:
                raise
            echo(f"Error: {told}", err=True)
            ctx.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vitedge")
def main() -> None:
    """Vision transformers to TFLite, ONNX and OpenVINO: converted, quantized, measured honestly.

    \b
    vitedge import deit_tiny.safetensors -o model.keras   read a checkpoint
    vitedge convert --int8 model.keras                    write artefacts for the edge
    vitedge bench --data photos --reference model.keras   measure them
    vitedge predict model.int8.tflite cat.jpg             use one
    """  # noqa: D301  # click's mark for "do not wrap" is the character itself
    for stream in (sys.stdout, sys.stderr):
        # A label in Chinese is not a reason to fail on a console that has no Chinese.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    # Pillow warns of photos of over 89 million pixels; vitedge bounds them itself.
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")


def _bound_sources(ctx: click.Context, _: click.Parameter, size: str | None) -> None:
    """Sets the bound for this command and for the processes that it starts."""
    if size is None:
        return
    limits.parse_size(size)
    before = os.environ.get(limits.VARIABLE)
    os.environ[limits.VARIABLE] = size

    def restore() -> None:
        if before is None:
            del os.environ[limits.VARIABLE]
        else:
            os.environ[limits.VARIABLE] = before

    ctx.call_on_close(restore)


for _command in discover(commands.__name__, commands.__path__):
    # Every command reads files, and the option is the same for all of them.
    _command.params.append(
        click.Option(
            [limits.OPTION],
            metavar="SIZE",
            expose_value=False,
            callback=_bound_sources,
            help="Memory that a file may inflate to, such as 8GB.  [default: 2GiB]",
        )
    )
    main.add_command(_command)
