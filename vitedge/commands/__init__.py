"""The commands of ``vitedge``: a module in this package that ends ``PLUGIN = ...`` is one.

Modules import only click and the vocabulary at their top, so that ``--help`` answers at once.
"""
