"""The functions behind ``import vitedge``: each command of the command line is a call of one.

They take paths and what lies in memory, and give results that print well and show themselves in a
notebook. The defaults of the commands are decided here.
"""
