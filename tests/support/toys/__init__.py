"""A format and a runtime that the package does not know, as packages outside would bring them."""
