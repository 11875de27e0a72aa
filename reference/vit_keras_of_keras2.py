"""The cases of vit-keras's last version for Keras 2; run by ``make_vit_keras``."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from reference.golden import Size

# It imports two packages for what is not used here and has no current release: activations for
# TensorFlow before 2.4, and names of files inside a package.
for absent in ("tensorflow_addons", "pkg_resources"):
    sys.modules.setdefault(absent, ModuleType(absent))

from vit_keras.vit import build_model  # noqa: E402

from reference.make_vit_keras import make_case  # noqa: E402  # after the two are named

output, size = Path(sys.argv[1]), Size(*(int(value) for value in sys.argv[2:]))
make_case(output / "vit_keras2_weights", size, "weights.h5", size.dim, build_model, "tf-keras")
make_case(output / "vit_keras2_whole", size, "vit.h5", None, build_model, "tf-keras")
