"""``python -m vitedge`` is the ``vitedge`` command."""

from vitedge.cli import main

main()
