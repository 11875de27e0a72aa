"""The canonical form: a network of a closed set of operators.

Whatever a model came from, a ``Network`` is what every rewrite, the quantizer and every converter
see. Its values are tensors of one image; each is made by one operator of ``operators`` out of other
values. Nothing after the importers knows which architecture a value belongs to.
"""
