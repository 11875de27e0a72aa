"""A toy format: the network itself, saved; all that was written for it is in this folder."""
