"""Smaller numbers: the same traced frame with weights and heavy arithmetic in 16 or 8 bits.

Where pixels meet voxels is never rounded: nodes that no image reaches keep their numbers, and elsewhere only
convolutions and matrix products change. Inputs and outputs stay as they are.
"""

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from occkit.errors import ConfigError
from occkit.export.graph import Tensors
from occkit.export.onnx_file import check_standard, nodes_without

if TYPE_CHECKING:
    from onnx import ModelProto

Variant = Literal["fp16", "int8"]

_HEAVY = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_LARGEST_HALF = 65504.0
_SEEN = ("images", "masks", "segmentation_features")
"""Inputs that say what things look like; all others say where they are."""


def to_fp16(model: "ModelProto") -> "ModelProto":
    """Return a traced frame whose convolutions and matrix products, and their weights, are half precision.

    Each stands between casts, so that nothing else is rounded: neither sums of norms nor, above all, coordinates.
    """
    from onnx import TensorProto, helper, numpy_helper

    made = type(model)()
    made.CopyFrom(model)
    exact, halves, nodes = set(nodes_without(model, _SEEN)), dict[str, str](), list[Any]()
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in made.graph.node:
        if node.op_type not in _HEAVY or node.name in exact:
            nodes.append(node)
            continue
        for place, name in enumerate(node.input):
            if name and name not in halves:
                halves[name] = half = f"{name}/half"
                if name in weights:
                    values = numpy_helper.to_array(weights[name]).clip(-_LARGEST_HALF, _LARGEST_HALF)
                    made.graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), half))
                else:
                    nodes.append(helper.make_node("Cast", [name], [half], f"{half}/cast", to=TensorProto.FLOAT16))
            node.input[place] = halves.get(name, name)
        whole, half = node.output[0], f"{node.output[0]}/half_result"
        node.output[0] = half
        nodes += [node, helper.make_node("Cast", [half], [whole], f"{half}/cast", to=TensorProto.FLOAT)]
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in made.graph.initializer if tensor.name in used]
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(kept)
    check_standard(made)
    return made


def to_int8(model: "ModelProto", frames: Iterable[Tensors]) -> "ModelProto":
    """Return a traced frame whose convolutions and matrix products are 8-bit, between Quantize and DequantizeLinear.

    Weights have a scale a channel, activations one a tensor: the range that they have in the given frames.

    Args:
        model: a traced frame.
        frames: to calibrate with; such as the network will see.

    Raises:
        ConfigError: if there is no frame.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        """Feeds the frames one by one."""

        def __init__(self) -> None:
            wanted = {value.name for value in model.graph.input}
            self.feeds: Iterator[dict[str, Any]] = iter(
                [{k: v.numpy() for k, v in frame.items() if k in wanted} for frame in frames]
            )

        def get_next(self) -> dict[str, Any] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            return next(self.feeds, None)

    frames = list(frames)
    if not frames:
        raise ConfigError("int8: needs frames to calibrate with; give --data")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(model.SerializeToString())
        # It recommends a preparation that the traced frame does not need, on the root logger.
        logging.disable(logging.WARNING)
        try:
            quantize_static(
                str(source),
                str(target),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "MatMul", "Gemm"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=list(nodes_without(model, _SEEN)),
            )
        finally:
            logging.disable(logging.NOTSET)
        made = onnx.load(str(target))
    check_standard(made)
    return made
