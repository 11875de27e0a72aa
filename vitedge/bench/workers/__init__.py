"""What runs in the measuring process, and what it and the bench say to each other.

Nothing here imports the rest of the bench: a measuring process loads an engine and little else.
"""
