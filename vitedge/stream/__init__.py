"""Images that come by themselves: cameras, folders, iterators; decoded and prepared meanwhile."""

from __future__ import annotations

from vitedge.stream.pipeline import Prepared, prepared_images
from vitedge.stream.sources import Frames, Source, open_source

__all__ = ["Frames", "Prepared", "Source", "open_source", "prepared_images"]
