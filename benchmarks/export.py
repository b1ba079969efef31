"""One frame of `lift.nano` through ONNX Runtime, beside torch in the same run."""

import torch

from benchmarks.lift import make_batch
from benchmarks.measure import Row, measure_pair
from occkit.export import (
    FrameGraph,
    GraphOptions,
    Session,
    batch_of,
    frame_inputs,
    spec_of,
    trace,
    with_batch,
)
from occkit.export.exporter import RIG_INPUTS
from occkit.export.onnx_file import bake
from occkit.systems import lift
from occkit.training.system import build_system, predict

NAME = "export"


def run() -> list[Row]:
    """Time a frame, the rig an input and the rig part of the file."""
    recipe = lift.nano()
    torch.manual_seed(0)
    system = build_system(recipe.system).eval()
    options = GraphOptions()
    batch = make_batch(recipe, step=0)
    inputs = frame_inputs(batch, 0, options)
    spec = spec_of(batch, inputs)
    model = trace(FrameGraph(system, spec, options), inputs)
    fixed = bake(model, {name: inputs[name].numpy() for name in RIG_INPUTS if name in inputs})
    new = iter(range(1, 1000))

    def in_torch(*, new_rig: bool) -> None:
        """Predict; a new rig is one that no plan is kept of."""
        tensors = dict(inputs)
        if new_rig:
            tensors["ego_from_camera"] = inputs["ego_from_camera"].clone()
            tensors["ego_from_camera"][..., 0, 3] += 0.01 * next(new)
        with torch.no_grad():
            predict(system, batch_of(tensors, spec))

    rows = []
    for what, made, new_rig in (("rig an input", model, True), ("rig part of the file", fixed, False)):
        session = Session(with_batch(made, 1).SerializeToString(), threads=torch.get_num_threads())
        feeds = session.feeds([inputs])
        ours, plain = measure_pair(
            lambda session=session, feeds=feeds: session.session.run(None, feeds),
            lambda new_rig=new_rig: in_torch(new_rig=new_rig),
            repeats=7,
        )
        rows.append(
            Row(
                name=NAME,
                what=f"a frame in ONNX Runtime, {what}; plain: torch",
                shapes="6 x 64x176 images -> 100x100x8 voxels",
                dtype="float32",
                ours=ours,
                plain=plain,
                ratio=plain / ours,
            )
        )
    return rows
