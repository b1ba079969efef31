"""Learn without labels: pseudo-labels made from images, and a network that learns depth by looking twice.

What you learn: how the label factory is used from Python (`occkit label`), how a recipe is pointed at what it wrote,
and that OccNeRF's field knows how far the road is after a minute, though nobody told it.

    python examples/08_learn_without_labels.py --out unlabelled

What comes out, in the folder of --out (by default a new temporary one):

    world/        streets with images between their keyframes; below it labels/k3: pseudo-labels and classes of pixels
    run/          a run of OccNeRF on images of other times and on classes of pixels
    volumes.png   a held-out frame from above: its true label and its pseudo-label
    depth.png     one camera of that frame, and the depth that OccNeRF renders for it

`occnerf.debug` finds little but the road. `occnerf.nano`, and `easyocc.nano` on the labels alone, take minutes.
"""

import argparse
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import torch

from occkit.data import DataConfig, open_dataset
from occkit.data.occ3d import label_path, read_labels
from occkit.foundation import SimulatedDepthConfig, SimulatedLabellerConfig
from occkit.labels import FactoryConfig, FusionConfig, make_labels
from occkit.labels.quality import score_labels
from occkit.samples import collate
from occkit.systems import occnerf
from occkit.training import OptimConfig, Recipe
from occkit.training.checkpoint import load_run
from occkit.training.loop import train
from occkit.training.system import predict
from occkit.viewer import draw_top, save_picture, tile
from occkit.viewer.canvas import resize, to_array, turbo
from occkit.world import PRESETS, generate

STEPS = 40
LABELS = "labels/k3"
FAR = 40.0
"""Metres; the colours of the depth picture end here."""


def main() -> None:
    """Generate, label, train, draw."""
    parser = argparse.ArgumentParser(description="Pseudo-labels, and a network that never saw a true one.")
    parser.add_argument("--out", type=Path, help="folder to write; default: a new temporary one")
    out: Path = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="occkit_"))
    world = out / "world"
    generate(replace(PRESETS["nano"], frames=4, sweeps=1), world, num_scenes=3)
    label(world)
    # Of the frames at either end of a street one neighbour is missing: they are left out, which is said as a warning.
    warnings.filterwarnings("ignore", message=".*frames left out")
    train(recipe(), world, out / "run")
    draw(world, out)


def label(world: Path) -> None:
    """Make a label for every frame, from what stand-ins for foundation models see in its images."""
    frames = open_dataset(world, split="all", config=DataConfig(load_depth=False))
    made = make_labels(
        frames,
        world / LABELS,
        depth=SimulatedDepthConfig(root=world).build(),
        labeller=SimulatedLabellerConfig(root=world).build(),
        config=FactoryConfig(stride=1, fusion=FusionConfig(history=3)),
        keep_images=True,
        progress=False,
    )
    report = score_labels(frames, world / LABELS)
    assert report is not None
    print(
        f"{made.written} pseudo-labels, {100 * report['occ3d']['iou']:.1f} % IoU with the true ones where cameras see"
    )


def recipe() -> Recipe:
    """Return a training on images alone: no label, not even a pseudo-label."""
    debug = occnerf.debug()
    assert isinstance(debug.system, occnerf.OccNerfConfig)
    losses = replace(debug.system.losses, labels=0.0)
    return replace(
        debug,
        system=replace(debug.system, losses=losses, auxiliary=()),
        # Sources are the images between the keyframes, a metre or two away; classes of pixels are the factory's.
        data=replace(debug.data, labels=None, image_semantics=f"{LABELS}/images", source_kind="sweep"),
        # A high learning rate, for a few steps that are to show something.
        optim=OptimConfig(lr=0.02),
        steps=STEPS,
        evaluate_every=None,
    )


def draw(world: Path, out: Path) -> None:
    """Draw the label and the pseudo-label of a held-out frame from above, and the depth that is rendered for it."""
    model, trained = load_run(out / "run")
    frames = open_dataset(world, split="val", config=trained.data)
    token = frames.tokens[-1]
    truth = frames.label(token)
    assert truth is not None
    path = label_path(world / LABELS, frames.scene(token), token)
    made = read_labels(path, grid=frames.grid, taxonomy=frames.taxonomy)
    pictures = [draw_top(volume, size=500) for volume in (truth, made)]
    save_picture(out / "volumes.png", tile(pictures, columns=2, captions=("label", "pseudo-label")))

    batch = collate([frames[-1]])
    with torch.no_grad():
        depth = model.eval().render_depth(predict(model, batch), batch)[0, 0].numpy()
    height, width = depth.shape
    image = to_array(batch.images[0, 0, 0].numpy())
    pictures = [resize(picture, 6 * height, 6 * width) for picture in (image, turbo(depth / FAR))]
    save_picture(out / "depth.png", tile(pictures, columns=1, captions=("image", f"depth, 0 to {FAR:.0f} m")))
    print(f"pictures: {out / 'volumes.png'}, {out / 'depth.png'}")


if __name__ == "__main__":
    main()
