"""Run by torchrun: trains, and writes what each process then holds, so that a test can compare."""

import sys
from pathlib import Path

from occkit.files import write_json
from occkit.training.checkpoint import RECIPE_FILE, write_tensors
from occkit.training.evaluate import evaluate_model
from occkit.training.loop import _prepare_folder, _Trainer
from occkit.training.processes import make_accelerator
from occkit.training.recipe import load_recipe
from occkit.training.recipe_json import recipe_to_json

recipes, data, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
for name in ("plain", "spare", "tiny"):
    recipe = load_recipe(f"{recipes}:{name}")
    accelerator = make_accelerator(recipe.precision)
    _prepare_folder(out / name, recipe, resume=False)
    accelerator.wait_for_everyone()
    write_json(out / name / RECIPE_FILE, recipe_to_json(recipe))
    trainer = _Trainer(recipe, data, out / name, accelerator)
    trainer.run(lambda: False)
    rank = accelerator.process_index
    write_tensors(out / f"{name}-{rank}.safetensors", dict(trainer.system.named_parameters()))
    assert trainer.val_set is not None
    assert accelerator.num_processes == 2
    report = evaluate_model(trainer.system, trainer.val_set, recipe.protocols).report()
    write_json(out / f"{name}-{rank}.json", report)
