"""Model cards and sharing: a local folder goes round, a stand-in takes the upload, nothing reaches a network."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml

from occkit.cli import main
from occkit.errors import ConfigError, DataError
from occkit.training.checkpoint import from_pretrained, read_tensors, save_pretrained, write_tensors
from occkit.training.hub import check_repo_id, push_to_hub, write_shared_folder
from occkit.training.model_card import CardFacts, collect_facts, write_model_card
from occkit.training.recipe import load_recipe
from occkit.training.system import build_system

TOKEN = "hf_" + "s" * 20
WORLD = {"format": "nuscenes", "generated": True, "train_frames": 40, "val_frames": 10}
EVALUATION = {
    "occ3d": {
        "protocol": {"mask": "camera"},
        "miou": 0.25,
        "iou": 0.5,
        "frames": 10,
        "constant_prior": {"miou": 0.08, "iou": 0.45},
    },
    "depth": {"abs_rel": 0.2, "frames": 10},
}


@pytest.fixture
def run(recipes: Path, tmp_path: Path) -> Path:
    """A run with all its records, and state that nobody else needs."""
    recipe = load_recipe(f"{recipes}:tiny")
    folder = tmp_path / "run"
    save_pretrained(build_system(recipe.system), recipe, folder)
    document = json.loads((folder / "recipe.json").read_text())
    document["recipe"]["start"] = ["/home/somebody/runs/first"]
    (folder / "recipe.json").write_text(json.dumps(document))
    environment = {"commit": "abc", "versions": {"torch": "2"}, "device": "cpu: x", "seed": 0, "data": WORLD}
    (folder / "environment.json").write_text(json.dumps(environment))
    lines = [{"step": s, "validation": {"occ3d": {"miou": m, "iou": 0.4}}} for s, m in ((5, 0.1), (10, 0.3), (15, 0.2))]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "state" / "00000015").mkdir(parents=True)
    (folder / "last.safetensors").write_bytes(b"x")
    return folder


def card_of(folder: Path) -> tuple[dict, str]:
    front, _, text = (folder / "README.md").read_text().removeprefix("---\n").partition("\n---\n")
    return yaml.safe_load(front), text


def test_what_is_shared_goes_round_and_the_rest_stays(run: Path, recipes: Path, tmp_path: Path) -> None:
    files = write_shared_folder(run, tmp_path / "out", repo_id="me/tiny", license="apache-2.0", code=recipes)
    names = [path.name for path in files]
    assert names == ["README.md", "environment.json", "metrics.jsonl", "model.safetensors", "recipe.json"]
    _, recipe = from_pretrained(tmp_path / "out", code=recipes)
    assert recipe.start == ("first",)
    assert all(b"somebody" not in path.read_bytes() for path in files)
    assert files[3].read_bytes() == (run / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="not empty"):
        write_shared_folder(run, tmp_path / "out", repo_id="me/tiny", code=recipes)


def test_half_the_size_loads_as_before(run: Path, recipes: Path, tmp_path: Path) -> None:
    write_shared_folder(run, tmp_path / "out", repo_id="me/tiny", code=recipes, half=True)
    assert (tmp_path / "out" / "model.safetensors").stat().st_size < 0.6 * (run / "model.safetensors").stat().st_size
    whole, rounded = from_pretrained(run, code=recipes)[0], from_pretrained(tmp_path / "out", code=recipes)[0]
    for name, tensor in rounded.state_dict().items():
        expected = whole.state_dict()[name]
        assert tensor.dtype == expected.dtype
        torch.testing.assert_close(tensor, expected, rtol=2**-11, atol=1e-7)
    weights = read_tensors(run / "model.safetensors")
    weights[next(name for name, tensor in weights.items() if tensor.is_floating_point())][...] = 1e6
    write_tensors(run / "model.safetensors", weights)
    with pytest.raises(DataError, match="too large for float16"):
        write_shared_folder(run, tmp_path / "other", repo_id="me/tiny", code=recipes, half=True)


def test_numbers_of_the_best_validation(run: Path, recipes: Path, tmp_path: Path) -> None:
    write_shared_folder(run, tmp_path / "out", repo_id="me/tiny", license="cc-by-4.0", code=recipes)
    front, text = card_of(tmp_path / "out")
    assert front["license"] == "cc-by-4.0"
    assert front["library_name"] == "occkit"
    results = front["model-index"][0]["results"]
    values = {m["type"]: m["value"] for result in results for m in result["metrics"]}
    assert values == {"occ3d.miou": 0.3, "occ3d.iou": 0.4}
    assert "| occ3d | miou | 30.00 | - | ? | ? |" in text
    assert "after step 10" in text
    assert "constant prior would score was not recorded" in text
    assert "me/tiny" in text
    assert "generated images: expect nothing of it on photographs" in text


def test_an_evaluation_comes_with_the_constant_prior(run: Path, recipes: Path, tmp_path: Path) -> None:
    (run / "evaluation.json").write_text(json.dumps(EVALUATION))
    write_shared_folder(run, tmp_path / "out", repo_id="me/tiny", code=recipes)
    _, text = card_of(tmp_path / "out")
    assert "| occ3d | miou | 25.00 | 8.00 | camera | 10 |" in text
    assert "abs_rel" not in text
    assert (tmp_path / "out" / "evaluation.json").is_file()


def test_a_model_without_numbers_or_licence_says_so(recipes: Path, tmp_path: Path) -> None:
    recipe = load_recipe(f"{recipes}:tiny")
    save_pretrained(build_system(recipe.system), recipe, tmp_path)
    front, text = card_of(tmp_path)
    assert "model-index" not in front
    assert "license" not in front
    assert "None. This run was neither validated nor evaluated" in text
    assert "stated no licence" in text
    assert "Not recorded." in text


def test_a_system_of_ours_is_described_by_its_own_words() -> None:
    recipe = {"name": "lift.x", "system": {"type": "occkit.systems.lift.network.LiftConfig"}, "data": {}, "steps": 3}
    text = write_model_card(CardFacts(recipe=recipe, num_weights=1_500_000, environment={}, numbers=(), origin=""))
    assert "1.50 million weights. System `lift` of occkit: " in text


@pytest.mark.parametrize(
    "repo_id",
    ["", "name", "/name", "owner/", "a/b/c", "../secret", "owner/..", "o/na me", "o/x.git", "o/a--b", "ö/x", "o/\n"],
)
def test_hostile_ids_are_refused(repo_id: str) -> None:
    with pytest.raises(ConfigError, match="owner/name"):
        check_repo_id(repo_id)


def test_wrong_licence_and_damaged_evaluation(tmp_path: Path) -> None:
    recipe = {"recipe": {"name": "x"}}
    with pytest.raises(ConfigError, match="expected an identifier"):
        collect_facts(recipe, 1, license="do what you like: x\n")
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(DataError, match="holds no score"):
        collect_facts(recipe, 1, tmp_path)


class Hub:
    """Takes what a real client would send."""

    calls: list[tuple[str, dict]]
    files: dict[str, bytes]

    def __init__(self, token: str | None = None) -> None:
        Hub.calls = [("token", {"token": token})]

    def create_repo(self, repo_id: str, **options: object) -> str:
        Hub.calls.append(("create", {"repo_id": repo_id, **options}))
        return f"https://hub/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, **options: object) -> None:
        Hub.calls.append(("upload", {"repo_id": repo_id, **options}))
        Hub.files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


def test_push_makes_a_private_repository_and_keeps_the_token_to_itself(
    run: Path, recipes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert push_to_hub(run, "me/tiny", token=TOKEN, license="mit", code=recipes) == "https://hub/me/tiny"
    assert Hub.calls[0] == ("token", {"token": TOKEN})
    assert Hub.calls[1] == ("create", {"repo_id": "me/tiny", "repo_type": "model", "private": True, "exist_ok": True})
    assert Hub.calls[2][0] == "upload"
    assert {"README.md", "model.safetensors", "recipe.json"} <= set(Hub.files)
    assert not any(TOKEN.encode() in data for data in Hub.files.values())


def test_a_refusal_does_not_tell_the_token(run: Path, recipes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(Hub):
        def create_repo(self, repo_id: str, **options: object) -> str:
            raise OSError(f"no entry with {TOKEN}")

    monkeypatch.setattr(huggingface_hub, "HfApi", Closed)
    with pytest.raises(ConfigError, match=r"did not take it \(no entry with \(token\)\)") as caught:
        push_to_hub(run, "me/tiny", token=TOKEN, code=recipes)
    assert caught.value.__cause__ is None


def test_dry_run_uploads_nothing(
    run: Path, recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda **_: pytest.fail("the hub was asked"))
    out = tmp_path / "look"
    assert main(["share", str(run), "--to", "me/tiny", "--dry-run", str(out), "--code", str(recipes)]) == 0
    assert (out / "README.md").is_file()
    said = capsys.readouterr()
    assert "nothing was uploaded" in said.out
    assert "no --license" in said.err
    assert main(["share", str(run), "--to", "not an id", "--dry-run", str(tmp_path / "b"), "--code", str(recipes)]) == 1
