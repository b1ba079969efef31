import json

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from occkit.errors import ConfigError
from occkit.export.onnx_file import METADATA_KEY, bake, check_standard, describe, nodes_without, with_batch
from occkit.export.variants import to_fp16


@pytest.fixture
def frame() -> ModelProto:
    """`out = weight * images + intrinsics`, of a frame of three numbers."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in ("images", "intrinsics")]
    nodes = [
        helper.make_node("Mul", ["images", "weight"], ["scaled"], "scale"),
        helper.make_node("Neg", ["intrinsics"], ["less"], "negate"),
        helper.make_node("Neg", ["less"], ["more"], "negate_again"),
        helper.make_node("Add", ["scaled", "more"], ["out"], "add"),
    ]
    weight = numpy_helper.from_array(np.float32([10.0]), "weight")
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [3])
    graph = helper.make_graph(nodes, "frame", values, [out], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: ModelProto, **inputs: list) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {name: np.float32(value) for name, value in inputs.items()})[0]


def test_a_batch_of_one_has_one_more_dimension(frame):
    assert run(with_batch(frame, 1), images=[[1, 2, 3]], intrinsics=[[4, 5, 6]]).tolist() == [[14, 25, 36]]


@pytest.mark.parametrize("batch", [2, None])
def test_frames_of_a_batch_do_not_know_each_other(frame, batch):
    made = with_batch(frame, batch)
    found = run(made, images=[[1, 2, 3], [0, 0, 1]], intrinsics=[[4, 5, 6], [7, 7, 7]])
    assert found.tolist() == [[14, 25, 36], [7, 7, 17]]


def test_any_batch_is_any_number(frame):
    made = with_batch(frame, None)
    for count in (1, 3):
        assert run(made, images=np.ones((count, 3)), intrinsics=np.zeros((count, 3))).shape == (count, 3)
    assert made.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_a_fixed_batch_refuses_another(frame):
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        run(with_batch(frame, 2), images=np.ones((3, 3)), intrinsics=np.zeros((3, 3)))


@pytest.mark.parametrize("batch", [1, None])
def test_a_baked_input_is_part_of_the_file(frame, batch):
    baked = bake(frame, {"intrinsics": np.float32([4, 5, 6])})
    assert run(with_batch(baked, batch), images=[[1, 2, 3]]).tolist() == [[14, 25, 36]]
    assert len(frame.graph.input) == 2  # what was baked was a copy


def test_nodes_without_are_those_that_no_image_reaches(frame):
    assert nodes_without(frame, ["images"]) == ("negate", "negate_again")
    assert nodes_without(frame, ["intrinsics"]) == ("scale",)


def test_a_file_describes_itself(frame):
    data = describe(with_batch(frame, 1), {"recipe": "lift.debug"})
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY]) == {"recipe": "lift.debug"}


def test_operators_of_others_are_refused_wherever_they_are(frame):
    check_standard(frame)
    frame.graph.node[1].domain = "com.microsoft"
    with pytest.raises(ConfigError, match=r"com\.microsoft\.Neg"):
        check_standard(frame)
    with pytest.raises(ConfigError, match=r"com\.microsoft\.Neg"):
        with_batch(frame, None)


def test_half_precision_rounds_products_of_what_is_seen_and_nothing_else():
    names = ("images", "intrinsics")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1]) for n in names]
    nodes = [
        helper.make_node("MatMul", ["images", "weight"], ["seen"], "seen"),
        helper.make_node("MatMul", ["intrinsics", "weight"], ["placed"], "placed"),
        helper.make_node("Concat", ["seen", "placed"], ["out"], "out", axis=1),
    ]
    weight = numpy_helper.from_array(np.float32([[1.0001]]), "weight")
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 2])
    graph = helper.make_graph(nodes, "frame", values, [out], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    found = run(to_fp16(model), images=[[1000.3]], intrinsics=[[1000.3]])
    # 1.0001 is 1 in half precision; whether 1000.3 is rounded too is up to who runs it (on a CPU, casts cancel out).
    assert found[0, 0] in (np.float32(1000.3), np.float32(1000.5))
    assert found[0, 1] == pytest.approx(1000.3 * 1.0001, rel=1e-6)
    assert [node.name for node in model.graph.node] == ["seen", "placed", "out"]  # what was given is as it was
