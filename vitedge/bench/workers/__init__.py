"""Code of the measuring process, and its messages to and from the bench.

Nothing here imports the rest of the bench: a measuring process loads an engine and little else.
"""
