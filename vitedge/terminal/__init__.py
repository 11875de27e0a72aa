"""Text for people: made printable, progress, and silence of other libraries."""
