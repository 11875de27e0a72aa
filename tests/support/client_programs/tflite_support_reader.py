"""tflite-support's reader of metadata: ARTEFACT -> JSON of what it says, labels included."""

import json
import sys

# The package above imports its tasks, which want an old protobuf.
from tensorflow_lite_support.metadata.python import metadata

found = metadata.MetadataDisplayer.with_model_file(sys.argv[1])
files = {
    name: bytes(found.get_associated_file_buffer(name)).decode()
    for name in found.get_packed_associated_file_list()
}
print(json.dumps({"metadata": json.loads(found.get_metadata_json()), "files": files}))
