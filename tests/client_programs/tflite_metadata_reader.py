"""TFLite Metadata by its generated schema: ARTEFACT -> JSON of what it says, labels included."""

import json
import sys
import zipfile
from pathlib import Path

from mediapipe.tasks.metadata import metadata_schema_py_generated as schema
from mediapipe.tasks.metadata import schema_py_generated as tflite

content = Path(sys.argv[1]).read_bytes()
model = tflite.Model.GetRootAsModel(content, 0)
entries = {
    model.Metadata(i).Name(): model.Metadata(i).Buffer() for i in range(model.MetadataLength())
}
buffer = model.Buffers(entries[b"TFLITE_METADATA"]).DataAsNumpy().tobytes()
assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(buffer, 0)
metadata = schema.ModelMetadataT.InitFromPackedBuf(buffer, 0)
graph = metadata.subgraphMetadata[0]
with zipfile.ZipFile(sys.argv[1]) as archive:
    files = {name: archive.read(name).decode() for name in archive.namelist()}
print(
    json.dumps(
        {
            "name": metadata.name.decode(),
            "inputs": [each.name.decode() for each in graph.inputTensorMetadata],
            "outputs": [each.name.decode() for each in graph.outputTensorMetadata],
            "mean": [float(x) for x in graph.inputTensorMetadata[0].processUnits[0].options.mean],
            "std": [float(x) for x in graph.inputTensorMetadata[0].processUnits[0].options.std],
            "files": files,
        }
    )
)
