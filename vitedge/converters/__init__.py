"""Writing artefacts: a folder for each format, which its ``format.py`` declares.

What is imported here must be light: see ``vitedge.targets.formats``.
"""
