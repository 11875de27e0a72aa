"""SavedModels whose graphs do more than compute, or whose files lie elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from vitedge.cli import main
from vitedge.errors import ModelError
from vitedge.importers.lift.keras_files import LoadedModel, open_saved_model
from vitedge.importers.lift.tensorflow_operators import ALLOWED, RESTORING, SAVING
from vitedge.importers.reading.saved_model import open_variables
from vitedge.inspection.description import inspect

v1 = tf.compat.v1

PIXELS = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)


def version_2(folder: Path, extra: Callable[[tf.Tensor], tf.Tensor] | None = None) -> Path:
    """A linear classifier, saved by TensorFlow 2."""
    module = tf.Module()
    module.w = tf.Variable(tf.ones((192, 3)))

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32, name="image")])
    def serve(image: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = tf.reshape(image, (-1, 192)) @ module.w
        return {"logits": logits if extra is None else logits + extra(logits)}

    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    return folder


def version_1(
    folder: Path, extra: Callable[[tf.Tensor], tf.Tensor] | None = None, main_op: Any = None
) -> Path:
    """The same, saved as TensorFlow 1 did."""
    with tf.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.float32, (None, 8, 8, 3), name="image")
        weight = v1.get_variable("w", initializer=tf.ones((192, 3)))
        logits = tf.reshape(image, (-1, 192)) @ weight
        logits = logits if extra is None else logits + extra(logits)
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(folder))
        signature = v1.saved_model.signature_def_utils.predict_signature_def(
            {"image": image}, {"logits": logits}
        )
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature},
            main_op=None if main_op is None else main_op(),
        )
        builder.save()
    return folder


def edit(folder: Path, change: Callable[[Any], None]) -> None:
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    change(saved.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())


@pytest.mark.parametrize("save", [version_1, version_2])
def test_a_saved_model_computes_as_before(save: Callable[[Path], Path], tmp_path: Path) -> None:
    loaded = open_saved_model(save(tmp_path / "m"))
    expected = PIXELS.reshape(2, -1).sum(1, keepdims=True).repeat(3, 1)
    np.testing.assert_allclose(loaded.logits(PIXELS), expected, rtol=1e-5)


def write(marker: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    def extra(logits: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([tf.io.write_file(str(marker), "written")]):
            return tf.zeros_like(logits)

    return extra


def read(marker: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    def extra(logits: tf.Tensor) -> tf.Tensor:
        return tf.strings.to_number(tf.io.read_file(str(marker.parent / "secret")))

    return extra


def match(marker: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda logits: tf.cast(tf.size(tf.io.matching_files("/home/*")), tf.float32)


def run_python(marker: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda logits: tf.numpy_function(lambda x: x * 0, [logits], tf.float32)


def tell(marker: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    def extra(logits: tf.Tensor) -> tf.Tensor:
        printed = tf.raw_ops.PrintV2(input="secret", output_stream=f"file://{marker}")
        with tf.control_dependencies([printed]):
            return tf.zeros_like(logits)

    return extra


def map_a_file(marker: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    region = str(marker.parent / "secret")
    return lambda logits: tf.raw_ops.ImmutableConst(
        dtype=tf.float32, shape=(3,), memory_region_name=region
    )


def read_records(marker: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    def extra(logits: tf.Tensor) -> tf.Tensor:
        lines = tf.data.TextLineDataset(str(marker.parent / "secret"))
        return lines.reduce(0.0, lambda total, line: total + tf.strings.to_number(line))

    return extra


def save_elsewhere(marker: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    def extra(logits: tf.Tensor) -> tf.Tensor:
        saved = tf.raw_ops.SaveV2(
            prefix=str(marker), tensor_names=["x"], shape_and_slices=[""], tensors=[logits]
        )
        with tf.control_dependencies([saved] if saved is not None else []):
            return tf.zeros_like(logits)

    return extra


def restore_elsewhere(marker: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    def extra(logits: tf.Tensor) -> tf.Tensor:
        (found,) = tf.raw_ops.RestoreV2(
            prefix=str(marker.parent / "secret"),
            tensor_names=["x"],
            shape_and_slices=[""],
            dtypes=[tf.float32],
        )
        return found

    return extra


def write_in_a_branch(marker: Path) -> Callable[[tf.Tensor], tf.Tensor]:
    def extra(logits: tf.Tensor) -> tf.Tensor:
        inner = write(marker)
        outer = tf.function(tf.function(inner))
        return tf.cond(tf.size(logits) > 0, lambda: outer(logits), lambda: logits)

    return extra


HOSTILE = {
    write: "'WriteFile'",
    read: "'ReadFile'",
    match: "'MatchingFiles'",
    run_python: "'PyFunc'|'EagerPyFunc'",
    tell: "'PrintV2'",
    map_a_file: "'ImmutableConst'",
    read_records: "Dataset'",
    save_elsewhere: "SaveV2",
    restore_elsewhere: "RestoreV2|a file that is not its own",
    write_in_a_branch: "'WriteFile'",
}


@pytest.mark.parametrize("save", [version_1, version_2])
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.__name__)
def test_a_graph_that_does_more_than_compute_is_refused(
    hostile: Callable[[Path], Callable[[tf.Tensor], tf.Tensor]],
    save: Callable[..., Path],
    tmp_path: Path,
) -> None:
    (tmp_path / "secret").write_text("1")
    folder = save(tmp_path / "m", hostile(tmp_path / "ran"))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ModelError, match=HOSTILE[hostile]) as caught:
        inspect(folder)
    assert "--trust" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_an_initializer_is_part_of_the_graph(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    def main_op() -> Any:
        return v1.group(tf.raw_ops.WriteFile(filename=str(marker), contents="written"))

    folder = version_1(tmp_path / "m", main_op=main_op)
    result = CliRunner().invoke(main, ["inspect", str(folder)])
    assert result.exit_code == 1
    assert "'WriteFile'" in result.output
    assert len(result.output.splitlines()) == 1
    assert not marker.exists()
    trusted = CliRunner().invoke(main, ["inspect", "--trust", str(folder)])
    assert trusted.exit_code == 0, trusted.output
    assert marker.read_text() == "written"


def test_a_resource_is_not_initialized_by_what_is_not_on_the_list(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("cat\ndog\n")
    module = tf.Module()
    source = tf.lookup.TextFileInitializer(
        str(words), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, -1
    )
    module.table = tf.lookup.StaticHashTable(source, -1)
    tf.saved_model.save(module, str(tmp_path / "m"))
    with pytest.raises(ModelError, match="'InitializeTableFromTextFileV2'"):
        open_saved_model(tmp_path / "m")


def test_an_unused_function_and_an_unknown_operator_are_refused(tmp_path: Path) -> None:
    def add(operator: str, meta: Any) -> None:
        function = meta.graph_def.library.function.add()
        function.signature.name = "unused"
        function.node_def.add(name="n", op=operator)

    for operator in ("WriteFile", "TheirOperator"):
        folder = version_2(tmp_path / operator)
        edit(folder, lambda meta, operator=operator: add(operator, meta))
        with pytest.raises(ModelError, match=f"'{operator}'"):
            open_saved_model(folder)


def test_a_function_by_an_operators_name_is_refused(tmp_path: Path) -> None:
    def add(meta: Any) -> None:
        meta.graph_def.library.function.add().signature.name = "MatMul"

    folder = version_2(tmp_path / "m")
    edit(folder, add)
    with pytest.raises(ModelError, match="by the name of an operator, 'MatMul'"):
        open_saved_model(folder)


def test_the_checkpoint_that_is_restored_is_the_models_own(tmp_path: Path) -> None:
    """The name of the file is a constant of the graph, which TensorFlow overrides."""
    secret = version_1(tmp_path / "secret") / "variables" / "variables"

    def point_elsewhere(meta: Any) -> None:
        for node in meta.graph_def.node:
            if node.op == "RestoreV2":
                constant = meta.graph_def.node.add(name="elsewhere", op="Const")
                constant.attr["dtype"].type = tf.string.as_datatype_enum
                constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(str(secret)))
                node.input[0] = "elsewhere"

    folder = version_1(tmp_path / "m")
    edit(folder, point_elsewhere)
    with pytest.raises(ModelError, match="from a file that is not its own"):
        open_saved_model(folder)


def test_a_checkpoint_that_comes_from_itself_is_not_followed(tmp_path: Path) -> None:
    def loop(meta: Any) -> None:
        for node in meta.graph_def.node:
            if node.op == "RestoreV2":
                node.input[0] = "a"
        for name, source in (("a", ["b"]), ("b", ["a"])):
            meta.graph_def.node.add(name=name, op="Identity", input=source)

    folder = version_1(tmp_path / "m")
    edit(folder, loop)
    with pytest.raises(ModelError, match="from a file that is not its own"):
        open_saved_model(folder)


def test_only_the_graph_that_was_checked_is_loaded(tmp_path: Path) -> None:
    folder = version_2(tmp_path / "m")
    evil = version_2(tmp_path / "evil", write(tmp_path / "ran"))
    for name in ("saved_model.cpb", "keras_metadata.pb", "assets.extra"):
        shutil.copy(evil / "saved_model.pb", folder / name)
    saved = saved_model_pb2.SavedModel.FromString((evil / "saved_model.pb").read_bytes())
    (folder / "saved_model.pbtxt").write_text(str(saved))
    open_saved_model(folder).logits(PIXELS)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("part", ["variables", "variables/variables.index", "saved_model.pb"])
def test_a_link_out_of_the_folder_is_not_followed(part: str, tmp_path: Path) -> None:
    version_2(tmp_path / "other")
    folder = version_2(tmp_path / "m")
    shutil.rmtree(folder / part) if (folder / part).is_dir() else (folder / part).unlink()
    (folder / part).symlink_to(tmp_path / "other" / part)
    for use in (open_saved_model, lambda path: open_variables(path).__enter__()):
        with pytest.raises(ModelError, match=f"'{part}' in .* is a link to"):
            use(folder)
    assert open_saved_model(folder, trust=True).parameters == 576


def test_the_cache_of_hugging_face_is_one_model(tmp_path: Path) -> None:
    folder = version_2(tmp_path / "hub" / "snapshots" / "1a2b")
    blobs = tmp_path / "hub" / "blobs"
    blobs.mkdir()
    for number, path in enumerate([p for p in folder.rglob("*") if p.is_file()]):
        path.rename(blobs / str(number))
        path.symlink_to(blobs / str(number))
    assert open_saved_model(folder).parameters == 576
    secret = tmp_path / "secret"
    (folder / "saved_model.pb").resolve().rename(secret)
    (folder / "saved_model.pb").unlink()
    (folder / "saved_model.pb").symlink_to(secret)
    with pytest.raises(ModelError, match="is a link to"):
        open_saved_model(folder)


def test_a_folder_in_the_place_of_variables_points_nowhere(tmp_path: Path) -> None:
    folder = version_2(tmp_path / "m")
    place = folder / "variables" / "variables"
    place.mkdir()
    other = version_2(tmp_path / "other") / "variables" / "variables"
    (place / "checkpoint").write_text(f'model_checkpoint_path: "{other}"\n')
    with pytest.raises(ModelError, match="are a folder, not a checkpoint"), open_variables(folder):
        pass


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    folder = version_2(tmp_path / "m")
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    with pytest.raises(ModelError, match="cannot be read"):
        open_saved_model(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    folder = version_2(tmp_path / "m")
    os.mkfifo(folder / "variables" / "more")
    with pytest.raises(ModelError, match="is not a regular file"):
        open_saved_model(folder)


def test_the_list_has_operators_and_none_that_touches_files() -> None:
    for name in ALLOWED | SAVING | RESTORING:
        assert op_def_registry.get(name) is not None, name  # some are not among tf.raw_ops
    words = ("File", "Dataset", "Reader", "PyFunc", "Print", "Summary", "Save", "Restore", "Decode")
    remote = ("Send", "Recv", "Remote", "Collective", "TPU", "Queue", "Iterator", "Stage", "Debug")
    suspicious = {name for name in ALLOWED for word in (*words, *remote) if word in name}
    # One joins texts; the other reads an iterator, and nothing makes one.
    assert suspicious == {"ShardedFilename", "IteratorGetNext"}
    assert not any("Iterator" in name or "Dataset" in name for name in ALLOWED - suspicious)


@pytest.mark.parametrize("kind", [tf.errors.InternalError, tf.errors.InvalidArgumentError])
def test_what_tensorflow_raises_while_it_traces_is_one_line(kind: Any) -> None:
    def logits(image: tf.Tensor) -> tf.Tensor:
        raise kind(None, None, "output 0 is not in [0, 0)\nand so on")

    loaded = LoadedModel(logits, (8, 8, 3), None, "float32", 576)
    with pytest.raises(ModelError, match=r"output 0 is not in \[0, 0\)$"):
        loaded.probe()
