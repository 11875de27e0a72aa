"""Architectural elements: functions that build values out of values, one file each.

They exist so that importers and presets read well. Rewrites, the quantizer and converters know
operators only, never elements: another element is another file here and no edit anywhere else.
"""
