"""Train and predict: a recipe, a run, a score beside a baseline, and pictures. `occkit demo` in one short file.

What you learn: that a training is a function of a `Recipe` and two folders, how a recipe is varied, how a run is loaded
again, and how a prediction is scored and drawn.

    python examples/05_train_and_predict.py --out first_run

What comes out, in the folder of --out (by default a new temporary one):

    world/        three streets, one of them held out
    run/          recipe, environment, metrics, weights, and the state from which training goes on
    predictions/  one <token>.npz for each held-out frame
    scene.png     prediction and label of a held-out frame
    overlay.png   the same prediction over the images of three cameras
    report.html   the pictures, the scores and the loss on one page

`lift.debug` trains in seconds: it finds the ground, has a notion of what is road, and that is that. `lift.nano`, in its
place, learns a street in minutes.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from occkit.data import FrameDataset, open_dataset
from occkit.data.predictions import write_prediction
from occkit.losses import VoxelLossConfig
from occkit.samples import Occupancy
from occkit.systems.lift import LiftConfig, LiftLossConfig
from occkit.training import load_recipe
from occkit.training.checkpoint import load_run
from occkit.training.curves import running_mean
from occkit.training.evaluate import evaluate_predictions, evaluate_prior, fit_prior, predict_dataset
from occkit.training.loop import train
from occkit.viewer import chase_camera, draw_overlay, draw_perspective, save_picture, tile
from occkit.viewer.canvas import Picture, to_array
from occkit.viewer.chart import Series
from occkit.viewer.report import Chart, Figure, Report, Section, Table, write_report
from occkit.world import PRESETS, generate

STEPS = 160
"""Optimiser steps: some ten seconds; enough to find the ground, not enough to learn a street."""
FIGURES = (("occ3d", "miou"), ("occ3d", "iou"), ("rayiou", "rayiou"))
"""What is printed: protocol, and name of the figure in its report."""


def main() -> None:
    """Generate, train, predict, score, draw."""
    parser = argparse.ArgumentParser(description="Train a tiny network from Python and draw what it predicts.")
    parser.add_argument("--out", type=Path, help="folder to write; default: a new temporary one")
    out: Path = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="occkit_"))
    world, run = out / "world", out / "run"
    generate(replace(PRESETS["nano"], frames=4), world, num_scenes=3)

    # A recipe is one frozen value that decides everything about a run but the data's folder and the machine. A variant
    # is a copy with other fields; the method itself is `recipe.system`, a config that builds an ordinary nn.Module.
    # Here it learns by cross-entropy and LiDAR depth only, which is fast.
    debug = load_recipe("lift.debug")
    assert isinstance(debug.system, LiftConfig)
    system = replace(debug.system, losses=LiftLossConfig(voxels=VoxelLossConfig(lovasz=0.0)))
    optim = replace(debug.optim, lr=0.02)
    recipe = replace(debug, name="first", system=system, optim=optim, steps=STEPS, evaluate_every=None)

    # Training writes its state as it goes; after an interruption it goes on from there, to the bit.
    train(recipe, world, run, resume=(run / "state").is_dir())
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    print(f"{recipe.name}: {STEPS} steps of {recipe.batch_size} frames, loss {losses[0]:.2f} -> {losses[-1]:.2f}")

    # `occkit predict` and `occkit evaluate` do these two steps: a folder of volumes, then any number of rules.
    model, recipe = load_run(run)
    frames = open_dataset(world, split="val", config=recipe.data)  # frames as the network wants them
    for token, semantics in predict_dataset(model, frames):
        write_prediction(out / "predictions", token, semantics)
    rows = score(out / "predictions", world, frames)

    scene, overlay = draw(semantics, frames)
    save_picture(out / "scene.png", scene)
    save_picture(out / "overlay.png", overlay)
    loss = Series(name="mean of 11 steps", x=range(STEPS), y=running_mean(np.array(losses), 11).tolist())
    blocks = (
        Table(columns=("per cent", "model", "prior"), rows=rows, note="The prior knows nothing of the frame."),
        Figure(picture=scene, caption="The last held-out frame: prediction and label."),
        Figure(picture=overlay, caption="The prediction over the images.", photo=True),
        Chart(lines=(loss,), x_label="step", y_label="loss"),
    )
    page = Report(
        title="A first run", lead=f"{recipe.name} on a tiny world.", sections=(Section(title="Results", blocks=blocks),)
    )
    write_report(out / "report.html", page)
    print(f"report: {out / 'report.html'}")


def score(predictions: Path, world: Path, frames: FrameDataset) -> tuple[tuple[str, str, str], ...]:
    """Return and print the scores of the model beside those of a prediction which knows nothing of the frame."""
    protocols = ("occ3d", "rayiou")
    ours = evaluate_predictions(predictions, frames, protocols).report()
    prior = fit_prior(open_dataset(world, split="train", config=frames.config))
    theirs = evaluate_prior(prior, frames, protocols).report()
    rows = tuple((name, f"{100 * ours[p][name]:.2f}", f"{100 * theirs[p][name]:.2f}") for p, name in FIGURES)
    for row in (("per cent", "model", "prior"), *rows):
        print(f"  {row[0]:<10}{row[1]:>8}{row[2]:>8}")
    return rows


def draw(semantics, frames: FrameDataset) -> tuple[Picture, Picture]:
    """Draw the prediction of the last frame: beside its label, and over the images of the cameras in front."""
    # A volume of ids becomes an Occupancy by saying where it lies and what its ids mean; the viewer wants no more.
    prediction = Occupancy(semantics=torch.from_numpy(semantics), grid=frames.grid, taxonomy=frames.taxonomy)
    # The network saw images of 32 x 88. Images and cameras change size together, so those on disk are as good.
    sample = open_dataset(frames.root, split="val", config=replace(frames.config, image_size=None))[-1]
    label = sample.occupancy
    assert label is not None
    camera = chase_camera(label.grid, height=400, width=720)
    scenes = [draw_perspective(volume, size=(400, 720), camera=camera) for volume in (prediction, label)]
    names = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT")
    views = [sample.camera_names.index(name) for name in names]
    overlays = [draw_overlay(to_array(sample.images[0, i].numpy()), sample.cameras[0, i], prediction) for i in views]
    return tile(scenes, columns=2, captions=("prediction", "label")), tile(overlays, columns=3, width=1200)


if __name__ == "__main__":
    main()
