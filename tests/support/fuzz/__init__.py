"""A fuzzing program: malformed files for every parser, each read under a time and a memory limit.

``python -m tests.support.fuzz`` (or ``make fuzz``) feeds mutated golden files to every parser. The
contract is that nothing but a ``VitedgeError`` leaves a parser: no other error, no crash, no hang
and no excess of memory. What breaks it is saved with the command that replays it.

::

    mutate      one module per kind of content: bytes, JSON, zip, HDF5, pickle, ...
    parsers     one module per family of parsers: which files it reads, and how
    worker      makes and reads inputs, in a process that may die
    monitor     watches that process, and saves what it did not survive
    __main__    the command line
"""
