"""Makes the golden files of ``tests/golden`` with the libraries that the checkpoints come from.

Install the ``reference`` extra, then run ``python -m reference``. ``pytest reference`` makes larger
models in a temporary folder and runs the same checks over them.
"""

import importlib.util

if importlib.util.find_spec("torch") is not None:  # ``python -m reference.zoo measure`` needs none
    from reference.torchvision_operators import name_missing_operators

    name_missing_operators()
