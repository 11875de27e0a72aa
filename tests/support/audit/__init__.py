"""Whether reading a model file does anything else than read it, by Python's audit hooks (PEP 578).

::

    malicious   models that start programs, write files and read others, where a reader lets them
    rules       which events are allowed while a model is read
    program     reads sources in a process of its own, under those rules
    watch       sees files being opened without Python's help, by inotify
"""
