"""ONNX as a value: a traced frame, a batch around it, a rig baked into it, and what it says of itself."""

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from occkit.errors import ConfigError
from occkit.export.graph import FrameGraph, Tensors

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

OPSET = 20
"""Of the default domain; the first with GridSample in three dimensions."""
METADATA_KEY = "occkit"
"""Entry of the file's metadata that describes it, as JSON."""
MAX_BYTES = 2**31 - 2**20
"""Protobuf ends at 2 GiB; weights beside the file are not written."""
_FRAME = "frame/"
"""Put before the names of a frame's own inputs and outputs."""


def trace(graph: FrameGraph, inputs: Tensors) -> "ModelProto":
    """Trace a graph on one frame, without a batch dimension.

    Args:
        graph: what is traced.
        inputs: of `graph`; the number of LiDAR points stays free, every other size is that of these. What the system
            does not look at is left out.

    Raises:
        ConfigError: if something in the system cannot be said in ONNX's own operators, or the file would be too large.
    """
    size = sum(p.numel() * p.element_size() for p in graph.parameters())
    if size > MAX_BYTES:
        raise ConfigError(f"export: {size / 2**30:.1f} GiB of weights; an ONNX file holds less than 2 GiB")
    points = torch.export.Dim("points", min=2)
    free = tuple({0: points} if name == "points" else None for name in graph.spec.names)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                graph,
                tuple(inputs.values()),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(graph.spec.names),
                output_names=list(graph.outputs),
                dynamic_shapes={"tensors": free} if "points" in inputs else None,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ConfigError(f"export: the system cannot be traced: {_reason(error)}") from error
    assert program is not None
    model = program.model_proto
    check_standard(model)
    _tidy(model.graph)
    used = {name for node in _nodes(model.graph) for name in node.input}
    wanted = [value for value in model.graph.input if value.name in used]
    del model.graph.input[:], model.metadata_props[:]
    model.graph.input.extend(wanted)
    return model


def check_standard(model: "ModelProto") -> None:
    """Check that a model has operators of ONNX's default domain only.

    Raises:
        ConfigError: naming the others.
    """
    found = {f"{node.domain}.{node.op_type}" for node in _nodes(model.graph) if node.domain not in ("", "ai.onnx")}
    found |= {f"{function.domain}.{function.name}" for function in model.functions}
    if found:
        raise ConfigError(f"export: operators that are not ONNX's own: {', '.join(sorted(found))}")


def bake(model: "ModelProto", values: Mapping[str, npt.NDArray[Any]]) -> "ModelProto":
    """Return a traced frame some of whose inputs are constants, such as the cameras of one rig."""
    from onnx import numpy_helper

    baked = _copy(model)
    kept = [value for value in model.graph.input if value.name not in values]
    names = [value.name for value in model.graph.input if value.name in values]
    del baked.graph.input[:]
    baked.graph.input.extend(kept)
    baked.graph.initializer.extend(numpy_helper.from_array(np.ascontiguousarray(values[n]), n) for n in names)
    return baked


def with_batch(model: "ModelProto", batch: int | None) -> "ModelProto":
    """Return a model whose inputs and outputs have a leading batch dimension.

    Frames know nothing of each other, so any batch but 1 is ONNX's `Scan` over the frames, weights shared.

    Args:
        model: a traced frame.
        batch: frames of a call; None is any number.

    Raises:
        ConfigError: if the batch is below 1.
    """
    from onnx import GraphProto, checker, helper

    if batch is not None and batch < 1:
        raise ConfigError(f"batch: expected 1 or more, got {batch}")
    size: int | str = "batch" if batch is None else batch
    inputs = [_batched(value, size) for value in model.graph.input]
    outputs = [_batched(value, size) for value in model.graph.output]
    body = _renamed(model.graph)
    if batch == 1:
        whole = _squeezed(body, [v.name for v in inputs], [v.name for v in outputs])
    else:
        whole = GraphProto(name="batch")
        names = [v.name for v in outputs]
        whole.node.append(
            helper.make_node("Scan", [v.name for v in inputs], names, "frames", num_scan_inputs=len(inputs), body=body)
        )
    whole.input.extend(inputs)
    whole.output.extend(outputs)
    made = helper.make_model(whole, producer_name="occkit", ir_version=model.ir_version)
    del made.opset_import[:]
    made.opset_import.extend(model.opset_import)
    check_standard(made)
    checker.check_model(made)
    return made


def describe(model: "ModelProto", description: Mapping[str, Any]) -> bytes:
    """Return the file of a model that carries its own description.

    Raises:
        ConfigError: if it is too large for a file.
    """
    made = _copy(model)
    entry = made.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(description, sort_keys=True)
    if made.ByteSize() > MAX_BYTES:
        raise ConfigError(f"export: {made.ByteSize() / 2**30:.1f} GiB; an ONNX file holds less than 2 GiB")
    return made.SerializeToString()


def nodes_without(model: "ModelProto", sources: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the nodes that no path leads to from any of the inputs `sources`.

    Of a traced frame and the images as a source: all that cameras and grid alone decide.
    """
    reached = set(sources)
    found: list[str] = []
    for node in model.graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
        else:
            found.append(node.name)
    return tuple(found)


def _tidy(graph: "GraphProto") -> None:
    """Give every node a name of its own, and forget where in which source file on this machine things come from."""
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        node.doc_string = ""
        del node.metadata_props[:]
    for values in (graph.input, graph.output, graph.value_info, graph.initializer):
        for value in values:
            value.doc_string = ""
            del value.metadata_props[:]
    del graph.metadata_props[:]


def _nodes(graph: "GraphProto") -> "list[NodeProto]":
    found: "list[NodeProto]" = []
    for node in graph.node:
        found.append(node)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += _nodes(attribute.g)
    return found


def _copy(model: "ModelProto") -> "ModelProto":
    made = type(model)()
    made.CopyFrom(model)
    return made


def _batched(value: "ValueInfoProto", size: int | str) -> "ValueInfoProto":
    from onnx import helper

    tensor = value.type.tensor_type
    dims = [d.dim_param if d.HasField("dim_param") else d.dim_value for d in tensor.shape.dim]
    return helper.make_tensor_value_info(value.name, tensor.elem_type, [size, *dims])


def _renamed(graph: "GraphProto") -> "GraphProto":
    """Return a frame's graph whose inputs and outputs have names of their own."""
    names = {value.name: f"{_FRAME}{value.name}" for value in (*graph.input, *graph.output)}
    made = type(graph)()
    made.CopyFrom(graph)
    for node in _nodes(made):
        for listed in (node.input, node.output):
            for place, name in enumerate(listed):
                listed[place] = names.get(name, name)
    for value in (*made.input, *made.output, *made.value_info):
        value.name = names.get(value.name, value.name)
    return made


def _squeezed(body: "GraphProto", inputs: Sequence[str], outputs: Sequence[str]) -> "GraphProto":
    """Return a frame's graph between nodes that take a batch dimension of 1 away and put it back."""
    from onnx import TensorProto, helper

    made = type(body)()
    made.CopyFrom(body)
    del made.input[:], made.output[:], made.node[:]
    axis = f"{_FRAME}first_axis"
    made.initializer.append(helper.make_tensor(axis, TensorProto.INT64, [1], [0]))
    made.node.extend(helper.make_node("Squeeze", [n, axis], [f"{_FRAME}{n}"], f"{_FRAME}take/{n}") for n in inputs)
    made.node.extend(body.node)
    made.node.extend(helper.make_node("Unsqueeze", [f"{_FRAME}{n}", axis], [n], f"{_FRAME}give/{n}") for n in outputs)
    return made


def _reason(error: BaseException) -> str:
    """Return the first line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
