"""Teach along rays: a LiDAR teacher, its outputs on disk, a camera student, and what rays see of both.

What you learn: how one run's outputs become another one's lessons (`occkit teach`), and how class scores are rendered
into a camera: where rays end, and which class they show there.

    python examples/07_teach_along_rays.py --out lesson

What comes out, in the folder of --out (by default a new temporary one):

    world/        streets, with the teacher's outputs and segments of the images below them
    teacher/      the teacher's run
    student/      the student's run
    rays.png      one camera of a held-out frame: the label, the teacher and the student, rendered

Other runs can be drawn instead, side by side, without any training:

    python examples/07_teach_along_rays.py --data WORLD --runs teacher=RUN student=RUN --out pictures

`radocc.debug` trains in seconds, on voxels of 3.2 m: do not expect more than ground. The recipes of the claim are
`radocc.nano_teacher`, `radocc.nano` and the like.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from occkit.data import FrameDataset, open_dataset
from occkit.foundation import SimulatedSegmenterConfig
from occkit.losses.ray_distillation import FrameRays, RayDistillConfig, draw_rays, render_logits
from occkit.samples import Batch, Occupancy, collate
from occkit.systems import radocc
from occkit.training import OptimConfig
from occkit.training.checkpoint import load_run
from occkit.training.loop import train
from occkit.training.system import predict
from occkit.training.teach import write_segment_maps, write_teachings
from occkit.viewer import Picture, add_caption, draw_top, save_picture, tile
from occkit.viewer.canvas import resize, to_array, turbo
from occkit.world import PRESETS, generate

STEPS = 50
FAR = 40.0
"""Metres of z-depth; the colours of the depth maps end here."""
CAMERA = 0


def main() -> None:
    """Train a teacher and a student, or take runs that are there; render and draw."""
    parser = argparse.ArgumentParser(description="A teacher, a student, and what rays see of both.")
    parser.add_argument("--out", type=Path, help="folder to write; default: a new temporary one")
    parser.add_argument("--data", type=Path, help="data set whose first validation frame is drawn")
    parser.add_argument("--runs", nargs="*", default=[], help="NAME=RUN, each drawn as a row")
    parser.add_argument("--frame", type=int, default=0, help="position of the frame in the validation split")
    args = parser.parse_args()
    out: Path = args.out or Path(tempfile.mkdtemp(prefix="occkit_"))
    if args.runs:
        runs = {name: Path(folder) for name, _, folder in (text.partition("=") for text in args.runs)}
        data = args.data
    else:
        data, runs = learn(out)
    rows = [draw_label(data, runs, args.frame)]
    rows += [draw_run(data, name, folder, args.frame) for name, folder in runs.items()]
    save_picture(out / "rays.png", tile([p for row in rows for p in row], columns=3))
    print(f"picture: {out / 'rays.png'}")


def learn(out: Path) -> tuple[Path, dict[str, Path]]:
    """Generate a world, train a teacher, let it teach, train a student."""
    world = out / "world"
    generate(replace(PRESETS["nano"], frames=3), world, num_scenes=4)
    # A high learning rate, for a few steps that are to show something.
    shared = {"steps": STEPS, "evaluate_every": None, "optim": OptimConfig(lr=0.02)}
    teacher = replace(radocc.debug_teacher(), **shared)
    train(teacher, world, out / "teacher")

    # What `occkit teach RUN --data WORLD --segments simulated` does: each training frame is asked for once.
    model, _ = load_run(out / "teacher")
    frames = open_dataset(world, split="train", config=teacher.data)
    written = write_teachings(model, frames, world / radocc.TEACHING, progress=False)
    images = open_dataset(world, split="train", config=replace(teacher.data, image_size=None, load_depth=False))
    write_segment_maps(SimulatedSegmenterConfig(root=world).build(), images, world / radocc.SEGMENTS, progress=False)

    student = replace(radocc.debug(), **shared)
    train(student, world, out / "student")
    print(f"{written} frames taught to a student of {STEPS} steps")
    return world, {"teacher": out / "teacher", "student": out / "student"}


def first_frame(data: Path, run: Path, index: int) -> tuple[torch.nn.Module, FrameDataset, Batch]:
    """Return a run's model and a validation frame as it wants it."""
    model, recipe = load_run(run)
    frames = open_dataset(data, split="val", config=recipe.data)
    return model.eval(), frames, collate([frames[index]])


def every_ray(batch: Batch) -> FrameRays:
    """Return the rays of all pixels of the current images, in the order of the pixels."""
    config = RayDistillConfig(num_rays=10**9, step=0.4, far=FAR)
    return draw_rays(config, batch, 0, generator=torch.Generator())


def render(logits: Tensor, batch: Batch) -> tuple[Picture, Picture]:
    """Return what one camera would see of class scores `[k, x, y, z]`: depth, and the classes."""
    config = RayDistillConfig(semantics=1.0, step=0.4, far=FAR, shows="probabilities")
    weights, depth, shown = render_logits(config, logits, every_ray(batch), batch.grid, batch.taxonomy.free_id)
    height, width = batch.images.shape[-2:]
    here = slice(CAMERA * height * width, (CAMERA + 1) * height * width)
    opacity = weights.sum(dim=-1)[here].numpy()
    far = (depth[here].numpy() / opacity.clip(1e-6) / FAR).reshape(height, width)
    colours = torch.tensor(batch.taxonomy.colours, dtype=torch.uint8)[list(batch.taxonomy.semantic_ids)]
    classes = colours[shown[here, :-1].argmax(dim=-1)].numpy().reshape(height, width, 3)
    seen = (opacity.reshape(height, width, 1) > 0.5).astype(classes.dtype)
    return resize(turbo(far) * seen, 3 * height, 3 * width), resize(classes * seen, 3 * height, 3 * width)


def draw_label(data: Path, runs: dict[str, Path], index: int) -> list[Picture]:
    """Return the image and the label rendered as a model that is sure of it would be."""
    _, frames, batch = first_frame(data, next(iter(runs.values())), index)
    label = frames.label(frames.tokens[index])
    assert label is not None
    ids = label.semantics.long().clamp(max=batch.taxonomy.num_classes - 1)
    sure = 20.0 * torch.nn.functional.one_hot(ids, batch.taxonomy.num_classes).movedim(-1, 0).float()
    image = to_array(batch.images[0, 0, CAMERA].numpy())
    height, width = image.shape[:2]
    depth, classes = render(sure, batch)
    pictures = {frames.camera_names[CAMERA]: resize(image, 3 * height, 3 * width)}
    pictures |= {f"label: depth, 0 to {FAR:.0f} m": depth, "label: classes": classes}
    return [add_caption(picture, what) for what, picture in pictures.items()]


def draw_run(data: Path, name: str, run: Path, index: int) -> list[Picture]:
    """Return a run's prediction from above and rendered."""
    model, _, batch = first_frame(data, run, index)
    with torch.no_grad():
        prediction = predict(model, batch)
        depth, classes = render(prediction.logits[0], batch)
    volume = Occupancy(semantics=prediction.semantics()[0], grid=batch.grid, taxonomy=batch.taxonomy)
    above = draw_top(volume, size=depth.shape[0], with_legend=False)
    cell = torch.full(depth.shape, 255, dtype=torch.uint8).numpy()
    cell[: above.shape[0], : above.shape[1]] = above
    pictures = {"from above": cell, "depth": depth, "classes": classes}
    return [add_caption(picture, f"{name}: {what}") for what, picture in pictures.items()]


if __name__ == "__main__":
    main()
