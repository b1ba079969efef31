"""Score predictions: one set of predictions, several published rules, and why their numbers differ.

What you learn: what an evaluation needs, how to score under any number of named protocols in one pass, and how much of
a number is the rule and not the prediction. The prediction here is the label with four faults put in on purpose, so
that each rule has something to disagree about.

    python examples/02_score_predictions.py --out scores

What comes out, in the folder of --out (by default a new temporary one):

    world/         two streets of two frames each
    predictions/   one <token>.npz a frame, as every tool of occkit reads and writes them
    scores.json    every figure with its rule, from which any table can be made
    errors.png     where the prediction of the first frame is wrong, from above

The same from the command line:

    occkit evaluate --predictions scores/predictions --data scores/world --protocol occ3d rayiou --explain
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from occkit.data import DataConfig, open_dataset
from occkit.data.predictions import write_prediction
from occkit.files import write_json
from occkit.metrics import ConstantPrior, Evaluator
from occkit.samples import Occupancy
from occkit.viewer import ERRORS, draw_top, error_volume, legend, save_picture, stack
from occkit.world import PRESETS, generate

PROTOCOLS = ("occ3d", "occ3d-sparseocc", "occnerf15", "selfocc", "rayiou")
"""All score Occ3D labels; docs/protocols.md says what each does."""


def main() -> None:
    """Make labels, spoil them, score the result."""
    parser = argparse.ArgumentParser(description="Score an imperfect prediction under several protocols.")
    parser.add_argument("--out", type=Path, help="folder to write; default: a new temporary one")
    out: Path = parser.parse_args().out or Path(tempfile.mkdtemp(prefix="occkit_"))
    generate(replace(PRESETS["nano"], frames=2), out / "world", num_scenes=2)
    training = open_dataset(out / "world", split="train", config=DataConfig())
    frames = open_dataset(out / "world", split="val", config=DataConfig())

    # The yardstick: a prediction that never looks at an image and says of each voxel what is most often there.
    prior = ConstantPrior.fit(label for token in training.tokens if (label := training.label(token)) is not None)

    # An evaluator counts frames one by one, in any order, and does so for all protocols at once.
    evaluator, baseline = Evaluator(PROTOCOLS), Evaluator(PROTOCOLS)
    # The same rule without its camera mask: then unseen space counts too.
    unmasked = Evaluator(["occ3d"], mask="none")
    labels = {token: label for token in frames.tokens if (label := frames.label(token)) is not None}
    unheard_of = absent_class(list(labels.values()))
    for i, (token, label) in enumerate(labels.items()):
        prediction = imperfect(label, unheard_of, np.random.default_rng(i))
        write_prediction(out / "predictions", token, prediction)
        # Only RayIoU needs origins: the places of the scene's LiDAR, from which it casts its rays.
        origins = frames.ray_origins(token)
        evaluator.add(token, prediction, label, origins)
        baseline.add(token, prior.predict(), label, origins)
        unmasked.add(token, prediction, label)
        if i == 0:
            save_errors(out / "errors.png", prediction, label)

    report, reference = evaluator.report(), baseline.report()
    print(f"{'protocol':<18}{'prediction':>11}{'prior':>8}   per cent")
    for name in PROTOCOLS:
        figure = "rayiou" if name == "rayiou" else "miou"
        print(f"{name:<18}{percent(report[name][figure]):>11}{percent(reference[name][figure]):>8}   {figure}")
    print(f"{'occ3d, no mask':<18}{percent(unmasked.report()['occ3d']['miou']):>11}{'':>8}   miou\n")

    # Rules are changed one at a time, so that each gets its share of the difference in points.
    print(evaluator.explain())
    write_json(out / "scores.json", report)
    print(f"\nwritten: {out / 'scores.json'}, {out / 'predictions'}, {out / 'errors.png'}")


def absent_class(labels: list[Occupancy]) -> int:
    """Return the id of a class that no label has."""
    present = {int(i) for label in labels for i in label.semantics.unique()}
    return next(i for i in range(1, labels[0].taxonomy.free_id) if i not in present)


def imperfect(label: Occupancy, unheard_of: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return the label with four faults, each of which another rule punishes or forgives."""
    ids, free = label.taxonomy.id_of, label.taxonomy.free_id
    semantics = label.semantics.numpy()
    prediction = semantics.copy()
    # 1. A fifth of the pavement is called grass: every rule that counts both classes sees it.
    pavement = (semantics == ids("sidewalk")) & (rng.random(semantics.shape) < 0.2)
    prediction[pavement] = ids("terrain")
    # 2. Solid where no camera looks: free of charge under a camera mask, dear without one and for rays.
    assert label.mask_camera is not None
    prediction[~label.mask_camera.numpy() & (semantics == free) & (rng.random(semantics.shape) < 0.3)] = ids("manmade")
    # 3. A few voxels of a class that the labels do not have: its IoU is 0 under one rule, it is left out of the mean
    #    under another, and counts as 1 under a third.
    seen_free = np.argwhere(label.mask_camera.numpy() & (semantics == free))
    prediction[tuple(rng.choice(seen_free, 12).T)] = unheard_of
    # 4. Trees two voxels too thick: voxel IoU sees the false ones, a ray only those that stand before something.
    tree = semantics == ids("vegetation")
    thick = tree | np.roll(tree, 1, axis=0) | np.roll(tree, -1, axis=0)
    prediction[thick & (prediction == free)] = ids("vegetation")
    return prediction


def save_errors(path: Path, prediction: npt.NDArray[np.uint8], label: Occupancy) -> None:
    """Draw right, false, missed and wrongly named voxels where a camera saw, and a key to the colours."""
    volume = Occupancy(semantics=torch.from_numpy(prediction), grid=label.grid, taxonomy=label.taxonomy)
    picture = draw_top(error_volume(volume, label), with_legend=False)
    save_picture(path, stack([picture, legend(list(zip(ERRORS.classes, ERRORS.colours, strict=True))[:4], width=800)]))


def percent(value: object) -> str:
    """Return a fraction of the report as text; a figure that no class counts for is None."""
    return f"{100 * value:.2f}" if isinstance(value, float) else "n/a"


if __name__ == "__main__":
    main()
