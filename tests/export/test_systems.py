"""Every system's inference path says the same as ONNX, on the rig that was traced and on another one."""

from functools import partial

import onnx
import pytest
import torch

from occkit.export import (
    Frame,
    FrameGraph,
    GraphOptions,
    Session,
    check_standard,
    compare,
    frame_inputs,
    moved_rig,
    spec_of,
    trace,
    with_batch,
)
from occkit.geometry.cameras import undistort
from occkit.samples import collate
from occkit.taxonomy import TAXONOMIES
from occkit.training.recipe import load_recipe
from occkit.training.system import build_system

RECIPES = {
    "lift.debug": GraphOptions(lens=True),
    "radocc.debug_teacher": GraphOptions(points=True),
    "occnerf.debug": GraphOptions(),
    "easyocc.debug": GraphOptions(),
    "langocc.debug": GraphOptions(voxel_features=True),
    "cigocc.debug": GraphOptions(),
    "monoscene.debug": GraphOptions(),
    "occscene.debug": GraphOptions(),
}
"""A recipe of each system, and what else its graph takes and gives."""


@pytest.mark.parametrize("name", RECIPES)
def test_a_system_and_its_file_say_the_same(name, make_sample, monkeypatch):
    recipe, options = load_recipe(name), RECIPES[name]
    # A graph repeats the steps that invert a lens: four of them show what twenty do, in a third of the time.
    monkeypatch.setattr("occkit.geometry.cameras.undistort", partial(undistort, iterations=4))
    torch.manual_seed(0)
    system = build_system(recipe.system).eval()
    batch = collate(
        [
            make_sample(
                grid=recipe.system.grid,
                taxonomy=TAXONOMIES[recipe.system.taxonomy],
                size=recipe.data.image_size,
                num_frames=1 + recipe.data.num_past,
                num_cameras=3,
            )
        ]
    )
    with torch.no_grad():
        system(batch)  # whatever a system works out at its first call
    inputs = frame_inputs(batch, 0, options)
    spec = spec_of(batch, inputs)
    model = trace(FrameGraph(system, spec, options), inputs)
    check_standard(model)
    assert all(node.domain == "" for node in model.graph.node)
    session = Session(with_batch(model, None).SerializeToString(), threads=1)
    moved = frame_inputs(moved_rig(batch), 0, options)
    frames = [Frame(token="own", inputs=inputs), Frame(token="moved", inputs=moved)]
    found = compare(system, spec, {"fp32": session}, frames).differences["fp32"]
    assert found.holds, (found.largest, found.agreement)
    # The rig matters, or nothing was shown.
    logits = session.run([inputs, moved])["logits"]
    assert abs(logits[0] - logits[1]).max() > 1e-3
    onnx.checker.check_model(model)
