"""Features of a data set written down: what is in the store, budget, interruption, and the command."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from occkit.cli import main
from occkit.data import DataConfig, open_dataset
from occkit.data.feature_store import FeatureLayout, FeatureStore
from occkit.errors import ConfigError, DataError
from occkit.foundation import (
    LANGOCC_PROMPTS,
    STREET_PROMPTS,
    TEMPLATES,
    ClipFeaturesConfig,
    SimulatedFeaturesConfig,
    encode_with_templates,
    taxonomy_prompts,
)
from occkit.foundation.truth import read_truth
from occkit.nn.open_vocabulary import assign_classes
from occkit.nn.subspace import ArccosSubspaceConfig, SvdSubspaceConfig, reduce_features, subspace_angle
from occkit.taxonomy import OCC3D
from occkit.training.features import choose_layout, find_subspace, write_features
from occkit.world import PRESETS, generate
from tiny_models import save_clip, save_siglip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("features") / "world"
    generate(replace(PRESETS["nano"], frames=2), root, num_scenes=2, seed=1)
    return root


def frames_of(root):
    return open_dataset(root, split="all", config=DataConfig(load_depth=False))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_store_holds_what_the_extractor_says(world, tmp_path):
    frames, extractor = frames_of(world), SimulatedFeaturesConfig(root=world).build()
    store, written = write_features(extractor, frames, tmp_path, budget_bytes=10**9, progress=False)
    assert written == len(frames) == 4
    assert store.layout.codec == "float16"
    assert store.layout.image_size == tuple(frames[0].images.shape[-2:])
    for sample in frames:
        expected = extractor.extract(sample.images[0], token=sample.token, cameras=sample.camera_names)
        assert torch.allclose(FeatureStore(tmp_path).read(sample.token), expected, atol=1e-3)


def test_a_subspace_keeps_what_the_vocabulary_needs(world, tmp_path):
    """Classes of pixels by text are the same before and after reduction and 8 bits; what the truth says, mostly."""
    frames, config = frames_of(world), SimulatedFeaturesConfig.perfect(world)
    extractor, encoder = config.build(), config.text.build()
    subspace = find_subspace(SvdSubspaceConfig(dim=24), encoder, STREET_PROMPTS)
    store, _ = write_features(extractor, frames, tmp_path, subspace=subspace, progress=False)
    assert (store.layout.codec, store.layout.dim, store.layout.width) == ("uint8", 24, 64)
    text, ids = encode_with_templates(encoder, STREET_PROMPTS.texts), STREET_PROMPTS.class_ids()
    assert subspace_angle(text, store.basis).max() < 1e-3
    sample = frames[0]
    full = extractor.extract(sample.images[0], token=sample.token, cameras=sample.camera_names)
    answers = []
    for maps, vectors in ((full, text), (store.read(sample.token), reduce_features(text, store.basis))):
        cells = maps.movedim(1, -1)
        answers.append(assign_classes(cells, torch.ones(cells.shape[:-1]), vectors, ids, free_id=OCC3D.free_id))
    assert (answers[0] == answers[1]).float().mean() > 0.995
    size = tuple(sample.images.shape[-2:])
    truth = [read_truth(world, sample.token, name, size=size) for name in sample.camera_names]
    shown = torch.stack([torch.from_numpy(layer.semantics[2::4, 2::4].astype("int64")) for layer in truth])
    assert (answers[1] == torch.where(shown == 255, OCC3D.id_of("others"), shown)).float().mean() > 0.9


def test_rays_of_a_frame_are_the_cells_they_go_through(world, tmp_path):
    frames, extractor = frames_of(world), SimulatedFeaturesConfig(root=world).build()
    store, _ = write_features(extractor, frames, tmp_path, progress=False)
    token, maps = frames.tokens[1], store.read(frames.tokens[1])
    rows, columns = torch.tensor([0, 7, 15]), torch.tensor([3, 43, 20])
    centres = torch.stack([4.0 * columns + 2, 4.0 * rows + 2], dim=-1)
    found = store.sample(token, torch.tensor([0, 5, 2]), centres)
    assert torch.allclose(found, maps[torch.tensor([0, 5, 2]), :, rows, columns], atol=1e-5)


class Dies(Exception):
    pass


@pytest.mark.parametrize("budget", [None, 10**9])
def test_an_interrupted_call_is_continued_to_the_same_bytes(world, tmp_path, monkeypatch, budget):
    frames, extractor = frames_of(world), SimulatedFeaturesConfig(root=world).build()
    subspace = find_subspace(ArccosSubspaceConfig(dim=8), extractor.config.text.build(), STREET_PROMPTS)
    options = {"subspace": subspace, "budget_bytes": budget, "progress": False}
    write_features(extractor, frames, tmp_path / "whole", **options)
    real, asked = extractor.extract, []

    def extract(images, *, token, cameras):
        if len(asked) == 3:
            raise Dies
        asked.append(token)
        return real(images, token=token, cameras=cameras)

    monkeypatch.setattr(extractor, "extract", extract)
    with pytest.raises(Dies):
        write_features(extractor, frames, tmp_path / "cut", **options)
    half = FeatureStore(tmp_path / "cut")
    assert [half.has(token) for token in frames.tokens] == [True, True, True, False]
    # The second file lost its end, too.
    cut = half.path(frames.tokens[1])
    cut.write_bytes(cut.read_bytes()[:-5])
    asked.clear()
    # Another machine finds a basis that differs in the last bits; the folder's own is used.
    options["subspace"] = replace(subspace, basis=subspace.basis * (1 + 1e-6))
    assert write_features(extractor, frames, tmp_path / "cut", **options)[1] == 2
    assert asked == [frames.tokens[1], frames.tokens[3]]
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_other_features_need_another_folder(world, tmp_path):
    frames, config = frames_of(world), SimulatedFeaturesConfig(root=world)
    write_features(config.build(), frames, tmp_path, progress=False)
    with pytest.raises(DataError, match=r"holds other features \(different: source\) -- give a new folder"):
        write_features(replace(config, seed=1).build(), frames, tmp_path, progress=False)
    with pytest.raises(DataError, match=r"different: codec"):
        write_features(config.build(), frames, tmp_path, budget_bytes=10**9, progress=False)
    subspace = find_subspace(SvdSubspaceConfig(dim=8), config.text.build(), LANGOCC_PROMPTS)
    with pytest.raises(DataError, match=r"different: source, dim"):
        write_features(config.build(), frames, tmp_path, subspace=subspace, progress=False)


def test_subspaces_differ_by_everything_that_makes_them():
    encoder = SimulatedFeaturesConfig(root=".").text.build()
    made = [
        find_subspace(config, encoder, table).description
        for config in (SvdSubspaceConfig(dim=8), ArccosSubspaceConfig(dim=8, steps=2), SvdSubspaceConfig(dim=9))
        for table in (STREET_PROMPTS, taxonomy_prompts(OCC3D))
    ]
    assert len({json.dumps(description) for description in made}) == 6
    assert made[0]["templates"] == list(TEMPLATES)
    assert made[0]["prompts"] == list(STREET_PROMPTS.texts)


def test_the_budget_decides_the_bits():
    layout = FeatureLayout(
        source={}, cameras=("a",), image_size=(40, 40), map_size=(10, 10), width=32, dim=32, codec="uint8"
    )
    small, large = 10 * (16 + 32 * 108), 10 * (16 + 32 * 200)
    assert choose_layout(layout, 10, None).codec == "uint8"
    assert choose_layout(layout, 10, large).codec == "float16"
    assert choose_layout(layout, 10, large - 1).codec == choose_layout(layout, 10, small).codec == "uint8"
    with pytest.raises(ConfigError, match=r"need 34,720 bytes at 8 bits, 34,719 are allowed; .* --subspace 31"):
        choose_layout(layout, 10, small - 1)
    with pytest.raises(ConfigError, match=r"1,240 are allowed; .* --subspace 1$"):
        choose_layout(layout, 10, 10 * (16 + 108))
    with pytest.raises(ConfigError, match=r"1,239 are allowed; raise it$"):
        choose_layout(layout, 10, 10 * (16 + 108) - 1)


def test_the_command_on_a_world(world, tmp_path, capsys):
    command = ["features", "--data", str(world), "--out", str(tmp_path / "f"), "--split", "all", "--subspace", "24"]
    command += ["--json", str(tmp_path / "sizes.json")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "4 frames, 0.4 MB (uint8, 24 of 64 channels)" in said
    assert "0.102 GB per 1,000 keyframes" in said
    sizes = json.loads((tmp_path / "sizes.json").read_text())
    assert sizes["bytes"] == 4 * FeatureStore(tmp_path / "f").layout.frame_bytes
    assert main(command) == 0
    assert "4 frames, 4 were there" in capsys.readouterr().out
    for other in (["--strength", "poor"], ["--prompts", "taxonomy"], ["--fit", "arccos"], ["--seed", "3"]):
        assert main([*command, *other]) == 1
        assert "holds other features" in capsys.readouterr().err


def test_the_command_with_clip(world, tmp_path, capsys):
    clip = tmp_path / "clip"
    clip.mkdir()
    save_clip(clip)
    command = ["features", "--data", str(world), "--out", str(tmp_path / "f"), "--teacher", "hf", "--clip", str(clip)]
    assert main([*command, "--size", "32", "80", "--subspace", "4", "--prompts", "street", "--budget", "1MB"]) == 0
    assert "float16, 4 of 16 channels" in capsys.readouterr().out
    store = FeatureStore(tmp_path / "f")
    assert store.layout.map_size == (4, 10)
    assert store.layout.source["subspace"]["encoder"]["text"] == "clip"
    extractor = ClipFeaturesConfig(weights=str(clip), size=(32, 80)).build()
    for sample in open_dataset(world, split="train", config=DataConfig(load_depth=False)):
        maps = extractor.extract(sample.images[0], token=sample.token, cameras=sample.camera_names)
        expected = reduce_features(maps.movedim(1, -1), store.basis).movedim(-1, 1)
        assert torch.allclose(store.read(sample.token), expected, atol=2e-3)
    siglip = tmp_path / "siglip"
    siglip.mkdir()
    save_siglip(siglip)
    other = [*command[:4], str(tmp_path / "g"), *command[5:-1], str(siglip), "--size", "16", "40", "--subspace", "4"]
    assert main(other) == 0
    source = FeatureStore(tmp_path / "g").layout.source
    assert source["subspace"]["encoder"]["text"] == "siglip"
    assert "siglip_values" in str(source)
    shutil.rmtree(tmp_path / "f")
    (clip / "tokenizer.json").unlink()
    (clip / "tokenizer_config.json").write_text("{")
    assert main(command) == 0, "without a subspace nobody asks for words"


def test_what_is_missing_is_named(world, tmp_path, capsys):
    command = ["features", "--data", str(world), "--out", str(tmp_path / "f")]
    for wrong, reason in (
        (["--teacher", "hf"], "--teacher hf and --clip FOLDER go together"),
        (["--clip", "x"], "--teacher hf and --clip FOLDER go together"),
        (["--size", "32", "32"], "--size scales the images for the model"),
        (["--teacher", "hf", "--clip", str(tmp_path / "none")], "openai/clip-vit-base-patch16"),
        (["--subspace", "65"], "dim 65 is more than the 64 channels"),
        (["--subspace", "0"], "at least 1"),
        (["--budget", "1kB"], "--budget: 2 frames of 64 channels need"),
        (["--budget", "much"], "expected a size"),
    ):
        assert main([*command, *wrong]) == 1
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "f").exists()
    root = tmp_path / "world"
    shutil.copytree(world, root, ignore=shutil.ignore_patterns("truth"))
    assert main(["features", "--data", str(root), "--out", str(tmp_path / "f")]) == 1
    assert "reads the truth of a generated world" in capsys.readouterr().err
