"""OccScene on the small street with six cameras: seconds a scene, and what reading adds to drawing from text alone."""

from dataclasses import replace

import torch

from benchmarks.lift import make_batch
from benchmarks.measure import Row, compare, measure_pair
from occkit.systems import occscene
from occkit.training.recipe import Recipe

NAME = "occscene"
PROMPT = "a straight street with 2 cars"


def drawing_rows(recipe: Recipe, *, steps: int = 25, every: int = 5, repeats: int = 3) -> list[Row]:
    """Measure drawing a scene with perception in the loop beside the same without it, at every step and more seldom."""
    assert isinstance(recipe.system, occscene.OccSceneConfig)
    torch.manual_seed(0)
    model = recipe.system.build().eval()
    times = recipe.system.clip.num_frames
    cameras = make_batch(replace(recipe, data=replace(recipe.data, num_past=times - 1)), step=0).cameras[0, :times]

    def draw(**options: float) -> object:
        sampling = occscene.SamplingConfig(**{"steps": steps} | options)
        return occscene.generate(model, PROMPT, cameras, sampling=sampling, seed=0)

    count, (height, width) = int(cameras.batch_shape[1]), (cameras.height, cameras.width)
    shapes = f"{times} x {count} images of {height} x {width}, {steps} steps"
    rows: list[Row] = []
    for often in (1, every):
        ours, plain = measure_pair(lambda often=often: draw(every=often), lambda: draw(readable=1.0), repeats=repeats)
        what = f"a scene, the estimate read at every {'step' if often == 1 else f'{often} steps'}; plain: never"
        # Read at every fifth step a scene is to cost 30 % more than text alone at most.
        row = compare(NAME, what, ours, plain, at_least=1 / 1.3, shapes=shapes, dtype="float32")
        rows.append(replace(row, target="", reached=None) if often == 1 else row)
    return rows


def run() -> list[Row]:
    """Measure drawing."""
    return drawing_rows(occscene.nano_surround())
