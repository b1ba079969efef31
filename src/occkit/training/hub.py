"""Sharing a run on the Hugging Face hub: the folder that is uploaded, and the upload."""

import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from occkit.errors import ConfigError, DataError
from occkit.files import read_bytes, read_json, write_bytes, write_json
from occkit.training.checkpoint import RECIPE_FILE, WEIGHTS_FILE, load_run, read_tensors, write_tensors
from occkit.training.curves import METRICS_FILE
from occkit.training.model_card import (
    CARD_FILE,
    ENVIRONMENT_FILE,
    EVALUATION_FILE,
    collect_facts,
    write_model_card,
)


def check_repo_id(repo_id: str) -> None:
    """Refuse what cannot name a model of the hub.

    Raises:
        ConfigError: unless it is `owner/name` of letters, digits, ".", "-" and "_".
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    owner, _, name = repo_id.partition("/")
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConfigError(f"{repo_id!r} cannot be a model of the hub: expected owner/name ({error})") from error
    if not repo_id.isascii() or not owner.strip("-.") or not name.strip("-."):
        raise ConfigError(f"{repo_id!r} cannot be a model of the hub: expected owner/name")


def write_shared_folder(
    run: Path,
    folder: Path,
    *,
    repo_id: str,
    license: str | None = None,
    evaluation: Path | None = None,
    code: Path | None = None,
    half: bool = False,
) -> list[Path]:
    """Write what a run shares: recipe, best weights, card, and the records that the card's figures come from.

    Folders of your machine that the recipe names are cut down to their last part. State, the newest weights and the
    cameras of the data set stay at home.

    Args:
        run: run or model folder; it is loaded once, so that nothing is shared that cannot be.
        folder: where to; must be new or empty.
        repo_id: where the model will lie, for the card.
        license: of the weights, an identifier of the hub.
        evaluation: JSON of `occkit evaluate`; by default the run's own `evaluation.json`, if it has one.
        code: the user's own recipe file, if the model's classes come from one.
        half: write weights as float16, half as large; they are rounded to 11 bits, so score them again.

    Returns:
        The files.

    Raises:
        ConfigError: if the id or the licence is none, or the folder is not empty.
        DataError: if a file of the run is missing or damaged, or a weight is too large for float16.
    """
    check_repo_id(repo_id)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is not empty; give a new folder")
    model, _ = load_run(run, code=code)
    document = cast(dict[str, Any], read_json(run / RECIPE_FILE))
    num_weights = sum(t.numel() for t in model.state_dict().values())
    own = run / EVALUATION_FILE
    evaluation = own if evaluation is None and own.is_file() else evaluation
    document = _without_folders(document)
    facts = collect_facts(document, num_weights, run, evaluation=evaluation, repo_id=repo_id, license=license)
    write_json(folder / RECIPE_FILE, document)
    weights = run / WEIGHTS_FILE
    if half:
        write_tensors(folder / WEIGHTS_FILE, _halved(weights))
    else:
        write_bytes(folder / WEIGHTS_FILE, read_bytes(weights, max_bytes=weights.stat().st_size))
    copied = {ENVIRONMENT_FILE: run / ENVIRONMENT_FILE, METRICS_FILE: run / METRICS_FILE, EVALUATION_FILE: evaluation}
    for name, source in copied.items():
        if source is not None and source.is_file():
            write_bytes(folder / name, read_bytes(source))
    write_bytes(folder / CARD_FILE, write_model_card(facts).encode())
    return sorted(folder.iterdir())


def push_to_hub(
    run: Path | str,
    repo_id: str,
    *,
    private: bool = True,
    token: str | None = None,
    license: str | None = None,
    evaluation: Path | None = None,
    code: Path | None = None,
    half: bool = False,
) -> str:
    """Upload a run to the hub as a model; a repository that is not there yet is made.

    Args:
        run: run or model folder.
        repo_id: `owner/name`.
        private: whether a new repository is hidden from others; one that exists stays as it is.
        token: of the hub; by default that of `HF_TOKEN` or of `hf auth login`. It is written nowhere.
        license: of the weights, an identifier of the hub such as "apache-2.0".
        evaluation: JSON of `occkit evaluate`; by default the run's own `evaluation.json`, if it has one.
        code: the user's own recipe file, if the model's classes come from one; it is not uploaded.
        half: upload weights as float16; see `write_shared_folder`.

    Returns:
        The address of the model.

    Raises:
        ConfigError: if the id or licence is none, or the hub refuses.
        DataError: if a file of the run is missing or damaged.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    check_repo_id(repo_id)
    run = Path(run)
    if not run.is_dir():
        raise DataError(run, "no such folder", "expected the folder that `occkit train --out` wrote")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        write_shared_folder(run, folder, repo_id=repo_id, license=license, evaluation=evaluation, code=code, half=half)
        api = HfApi(token=token)
        try:
            address = api.create_repo(repo_id, repo_type="model", private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=folder, repo_type="model", commit_message="Add the model")
        except (HfHubHTTPError, OSError) as error:
            said = str(error).replace(token, "(token)") if token else str(error)
            raise ConfigError(f"{repo_id}: the hub did not take it ({said}); see `hf auth whoami`") from None
    return str(address)


def _halved(weights: Path) -> dict[str, Tensor]:
    halved: dict[str, Tensor] = {}
    for name, tensor in read_tensors(weights).items():
        halved[name] = tensor.half() if tensor.is_floating_point() else tensor
        if not torch.equal(halved[name].isfinite(), tensor.isfinite()):
            raise DataError(weights, f"{name}: too large for float16", "leave out --half")
    return halved


def _without_folders(value: Any) -> Any:
    """Return JSON values with paths from the root or the home folder cut down to their last part."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in cast(list[Any], value)]
    if isinstance(value, str) and (value.startswith(("/", "~")) or value[1:3] in (":\\", ":/")):
        return value.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return value
