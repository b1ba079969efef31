"""Features of a data set written down: what is in the store, budget, interruption, and the command."""

import json
import shutil
from dataclasses import asdict, replace

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
from occkit.nn.subspace import ArccosSubspaceConfig, SvdSubspaceConfig, expand_features, reduce_features, subspace_angle
from occkit.taxonomy import OCC3D
from occkit.training.feature_cost import Vocabulary, basis_of, choose_rung, ladder, measure_rungs, moment_of
from occkit.training.feature_plan import find_subspace, find_vocabulary, open_for_writing
from occkit.training.features import compare_with_images, fill_store
from occkit.world import PRESETS, generate
from tiny_models import save_clip, save_siglip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("features") / "world"
    generate(replace(PRESETS["nano"], frames=2), root, num_scenes=2, seed=1)
    return root


def frames_of(root):
    return open_dataset(root, split="all", config=DataConfig(load_depth=False))


def write_features(extractor, frames, folder, **options):
    """Write a folder; return it and the number of frames that were looked at for it."""
    store = open_for_writing(extractor, frames, folder, **options).store
    return store, fill_store(extractor, frames, store, progress=False).written


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
    subspace = find_subspace(SvdSubspaceConfig(dim=24), find_vocabulary(encoder, STREET_PROMPTS))
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
    subspace = find_subspace(
        ArccosSubspaceConfig(dim=8), find_vocabulary(extractor.config.text.build(), STREET_PROMPTS)
    )
    options = {"subspace": subspace, "budget_bytes": budget, "progress": False}
    write_features(extractor, frames, tmp_path / "whole", **options)
    real, asked = extractor.extract, []

    def extract(images, *, token, cameras):
        if len(asked) == 3:
            raise Dies
        asked.append(token)
        return real(images, token=token, cameras=cameras)

    store = open_for_writing(extractor, frames, tmp_path / "cut", **options).store
    monkeypatch.setattr(extractor, "extract", extract)
    with pytest.raises(Dies):
        fill_store(extractor, frames, store, progress=False)
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
    # A budget does not rewrite what is there.
    store, written = write_features(config.build(), frames, tmp_path, budget_bytes=10**9, progress=False)
    assert (store.layout.codec, written) == ("uint8", 0)
    subspace = find_subspace(SvdSubspaceConfig(dim=8), find_vocabulary(config.text.build(), LANGOCC_PROMPTS))
    with pytest.raises(DataError, match=r"different: source, dim"):
        write_features(config.build(), frames, tmp_path, subspace=subspace, progress=False)


def test_subspaces_differ_by_everything_that_makes_them():
    encoder = SimulatedFeaturesConfig(root=".").text.build()
    made = [
        find_subspace(config, find_vocabulary(encoder, table)).description
        for config in (SvdSubspaceConfig(dim=8), ArccosSubspaceConfig(dim=8, steps=2), SvdSubspaceConfig(dim=9))
        for table in (STREET_PROMPTS, taxonomy_prompts(OCC3D))
    ]
    assert len({json.dumps(description) for description in made}) == 6
    assert made[0]["templates"] == list(TEMPLATES)
    assert made[0]["prompts"] == list(STREET_PROMPTS.texts)


def test_the_budget_decides_bits_and_channels():
    layout = FeatureLayout(
        source={}, cameras=("a",), image_size=(40, 40), map_size=(10, 10), width=32, dim=32, codec="uint8"
    )
    small, large = 10 * (48 + 32 * 108), 10 * (48 + 32 * 200)

    def choose(budget, **options):
        rung = choose_rung(layout, 10, budget, **{"asked": False} | options)
        return rung.kind, rung.codec, rung.dim

    assert choose(None) == ("all", "uint8", 32)
    assert choose(large) == ("all", "float16", 32)
    assert choose(large - 1) == choose(small) == ("all", "uint8", 32)
    assert choose(small - 1) == choose(10 * (48 + 24 * 108)) == ("images", "uint8", 24)
    assert choose(small - 1, words=True) == ("both", "uint8", 24)
    assert choose(10 * (48 + 24 * 108) - 1)[2] == 16
    assert choose(10 * (48 + 8 * 108) - 1)[2] == 7
    assert choose(10 * (48 + 4 * 108))[2] == 4
    with pytest.raises(ConfigError, match=r"10 frames of 4 channels need 4,800 bytes at 8 bits, 4,799 are allowed; r"):
        choose(10 * (48 + 4 * 108) - 1)
    for budget in (small, large):
        assert choose(budget, asked=True)[0] == "asked"
    with pytest.raises(ConfigError, match=r"need 35,040 bytes at 8 bits, 35,039 are allowed; .* --subspace 31"):
        choose(small - 1, asked=True)
    with pytest.raises(ConfigError, match=r"1,559 are allowed; raise it$"):
        choose(10 * (48 + 108) - 1, asked=True)
    for rung in ladder(layout, choose_rung(layout, 10, small - 1, asked=False), words=True):
        assert replace(layout, codec=rung.codec, dim=rung.dim).frame_bytes <= layout.frame_bytes * 2


def features_of_two_words(count=200):
    """Cells around two directions of 8, and words that lie there; what a rung keeps of them can be told by hand."""
    draw = torch.Generator().manual_seed(0)
    cells = torch.zeros(count, 8)
    cells[::2, 0], cells[1::2, 1] = 1.0, 1.0
    cells += 0.05 * torch.randn(count, 8, generator=draw)
    maps = torch.nn.functional.normalize(cells, dim=1).T.reshape(1, 8, 10, count // 10)
    return maps, Vocabulary(words=("one", "two"), text=torch.eye(8)[:2], description={})


def test_costs_are_those_of_definition():
    maps, words = features_of_two_words()
    lost = torch.eye(8)[:, 1:]
    costs = measure_rungs(
        [("float16", None), ("uint8", None), ("uint8", torch.eye(8)[:, :2]), ("uint8", lost)], [maps], words
    )
    cells = maps.movedim(1, -1).reshape(-1, 8).double()
    expected = 1 - cells[:, :2].norm(dim=1)
    assert costs[2].mean == pytest.approx(expected.mean().item(), rel=0.02)
    assert costs[2].p99 == pytest.approx(expected.quantile(0.99).item(), rel=0.02)
    assert costs[0].mean < 1e-6 < costs[1].mean < 1e-4 < costs[2].mean
    assert [cost.changed for cost in costs[:3]] == [0, 0, 0]
    # Without the first channel the first word is nothing: its cells go to the second where that is above 0.
    turned = (cells[:, 0] > cells[:, 1]) & (cells[:, 1] > 0)
    assert 0.15 < turned.double().mean() < 0.4
    assert costs[3].changed == pytest.approx(turned.double().mean().item(), abs=0.02)
    assert {(cost.frames, cost.words) for cost in costs} == {(1, 2)}
    (plain,) = measure_rungs([("uint8", None)], [maps, maps])
    assert (plain.frames, plain.words, plain.changed) == (2, 0, None)
    with pytest.raises(ConfigError, match="share no space"):
        measure_rungs([("uint8", None)], [maps], replace(words, text=torch.eye(7)))


def test_channels_of_images_keep_images_and_those_of_both_keep_words_too():
    """A word that hardly shows in the images is lost to a PCA, not to the channels of both."""
    maps, _ = features_of_two_words()
    words = Vocabulary(words=("one", "rare"), text=torch.eye(8)[[0, 7]], description={})
    layout = FeatureLayout(
        source={}, cameras=("a",), image_size=(40, 40), map_size=(10, 20), width=8, dim=8, codec="uint8"
    )
    moment = moment_of([maps, maps])
    cells = maps.movedim(1, -1).reshape(-1, 8).double()
    assert torch.allclose(moment, 2 * cells.T @ cells)
    found = {}
    for rung in ladder(layout, choose_rung(layout, 1, None, asked=False), words=True):
        if rung.dim == 4:
            found[rung.kind] = basis_of(rung, asked=None, moment=moment, vocabulary=words)
    costs = dict(zip(found, measure_rungs([("uint8", basis) for basis in found.values()], [maps]), strict=True))
    assert costs["images"].mean <= costs["both"].mean < costs["words"].mean
    rare = {kind: (words.text[1] @ basis).norm().item() for kind, basis in found.items()}
    assert rare["both"] > 0.99
    assert rare["images"] < 0.9
    # The best word is asked for as a system asks: of the second word only the half that is kept counts, at length 1.
    cell = torch.tensor([0.643, 0.766] + [0.0] * 6)[None, :, None, None]
    half = Vocabulary(words=("a", "b"), text=torch.eye(8)[[0, 1]] * 0.5 + torch.eye(8)[[0, 7]] * 0.5, description={})
    (cost,) = measure_rungs([("float16", torch.eye(8)[:, :2])], [cell], half)
    assert cost.changed == 1.0
    with pytest.raises(ValueError, match="nothing to find the basis"):
        basis_of(next(r for r in ladder(layout, choose_rung(layout, 1, None, asked=False), words=False) if r.dim == 4),
                 asked=None, moment=None, vocabulary=None)  # fmt: skip


def test_what_is_measured_is_what_the_store_gives_back(world, tmp_path):
    frames, config = frames_of(world), SimulatedFeaturesConfig(root=world)
    vocabulary = find_vocabulary(config.text.build(), STREET_PROMPTS)
    one = frames.only(frames.tokens[:1])
    budget = 60_000
    plan = open_for_writing(config.build(), one, tmp_path, budget_bytes=budget, vocabulary=vocabulary, progress=False)
    assert plan.chosen.kind == "both"
    assert plan.store.layout.frame_bytes <= budget < 2 * plan.store.layout.frame_bytes
    assert plan.store.layout.source["subspace"]["prompts"] == list(STREET_PROMPTS.texts)
    fill_store(config.build(), one, plan.store, progress=False)
    sample = one[0]
    maps = config.build().extract(sample.images[0], token=sample.token, cameras=sample.camera_names)
    back = expand_features(plan.store.read(sample.token).movedim(1, -1), plan.store.basis)
    error = 1 - (back * maps.movedim(1, -1)).sum(-1).double()
    assert plan.store.cost.mean == pytest.approx(error.mean().item(), rel=1e-3)
    assert plan.store.cost.p99 == pytest.approx(error.quantile(0.99).item(), rel=1e-2)
    by_bytes = [priced.bytes for priced in plan.ladder]
    assert by_bytes == sorted(by_bytes, reverse=True)
    assert [priced.cost for priced in plan.ladder if priced.rung == plan.chosen] == [plan.store.cost]
    finest = plan.ladder[0].cost
    assert finest.mean < plan.ladder[1].cost.mean < plan.store.cost.mean
    # The folder goes on as it was made while it fits, also without the words.
    again = open_for_writing(config.build(), one, tmp_path, budget_bytes=budget, progress=False)
    assert again.ladder == ()
    assert again.store.layout == plan.store.layout
    with pytest.raises(ConfigError, match="with these frames it grows to"):
        open_for_writing(config.build(), frames, tmp_path, budget_bytes=budget, progress=False)
    other = replace(config, seed=1).build()
    with pytest.raises(DataError, match=r"different: source"):
        open_for_writing(other, one, tmp_path, budget_bytes=budget, progress=False)


def test_equal_images_are_looked_at_once_and_changed_ones_again(world, tmp_path, monkeypatch):
    """Features of pixels alone are shared; a stand-in's, which heed the frame's name, are not."""
    root = tmp_path / "world"
    shutil.copytree(world, root)
    frames = frames_of(root)
    files = [frames.image_files(token) for token in frames.tokens]
    for one, other in zip(files[0], files[1], strict=True):
        shutil.copy(one, other)
    clip = tmp_path / "clip"
    clip.mkdir()
    save_clip(clip)
    extractor = ClipFeaturesConfig(weights=str(clip), size=(32, 80)).build()
    store = open_for_writing(extractor, frames, tmp_path / "f", progress=False).store
    filled = fill_store(extractor, frames, store, progress=False)
    assert (filled.written, filled.shared, filled.changed) == (3, 1, ())
    assert store.path(frames.tokens[0]) == store.path(frames.tokens[1])
    assert compare_with_images(frames, store, progress=False) == {"missing": [], "changed": [], "damaged": []}
    # One image of a frame changes: it is noticed, and only this frame is made again.
    shutil.copy(files[3][1], files[2][0])
    assert compare_with_images(frames, store, progress=False)["changed"] == [frames.tokens[2]]
    again = fill_store(extractor, frames, store, progress=False)
    assert (again.written, again.shared, again.changed) == (1, 0, (frames.tokens[2],))
    assert compare_with_images(frames, store, progress=False)["changed"] == []
    assert fill_store(extractor, frames, store, progress=False).written == 0
    # Other weights in the same folder are another extractor; the same in another folder are not.
    (tmp_path / "moved").mkdir()
    for path in clip.iterdir():
        shutil.copy(path, tmp_path / "moved")
    moved = ClipFeaturesConfig(weights=str(tmp_path / "moved"), size=(32, 80)).build()
    assert write_features(moved, frames, tmp_path / "f", progress=False)[1] == 0
    torch.manual_seed(1)
    for weight in extractor.model.parameters():
        torch.nn.init.normal_(weight, std=0.22)
    extractor.model.save_pretrained(clip)
    with pytest.raises(DataError, match="different: source"):
        write_features(extractor, frames, tmp_path / "f", progress=False)


def test_stand_ins_share_nothing(world, tmp_path):
    root = tmp_path / "world"
    shutil.copytree(world, root)
    frames = frames_of(root)
    for one, other in zip(*map(frames.image_files, frames.tokens[:2]), strict=True):
        shutil.copy(one, other)
    extractor = SimulatedFeaturesConfig(root=root).build()
    store, written = write_features(extractor, frames, tmp_path / "f", progress=False)
    assert written == 4
    assert store.path(frames.tokens[0]) != store.path(frames.tokens[1])


def test_the_command_on_a_world(world, tmp_path, capsys):
    command = ["features", "--data", str(world), "--out", str(tmp_path / "f"), "--split", "all", "--subspace", "24"]
    command += ["--json", str(tmp_path / "sizes.json")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "4 frames, 0.4 MB (uint8, 24 of 64 channels)" in said
    assert "0.102 GB per 1,000 keyframes" in said
    assert "what writing costs, on 2 frames: 1 - cosine " in said
    assert "of the cells have another best word of 76" in said
    sizes = json.loads((tmp_path / "sizes.json").read_text())
    assert sizes["bytes"] == 4 * FeatureStore(tmp_path / "f").layout.frame_bytes
    assert sizes["cost"] == asdict(FeatureStore(tmp_path / "f").cost)
    assert main([*command, "--check"]) == 0
    assert "4 of 4 frames are sound" in capsys.readouterr().out
    assert main(command) == 0
    assert "4 frames, 4 were there" in capsys.readouterr().out
    for other in (["--strength", "poor"], ["--prompts", "taxonomy"], ["--fit", "arccos"], ["--seed", "3"]):
        assert main([*command, *other]) == 1
        assert "holds other features" in capsys.readouterr().err


def test_the_command_shows_what_a_budget_costs_and_checks(world, tmp_path, capsys):
    root, out = tmp_path / "world", tmp_path / "f"
    shutil.copytree(world, root)
    command = ["features", "--data", str(root), "--out", str(out), "--split", "all", "--budget", "300kB"]
    assert main([*command, "--prompts", "street", "--json", str(tmp_path / "r.json")]) == 0
    said = capsys.readouterr().out
    assert "4 frames; costs measured on 2" in said
    assert "best of 24 words changes" in said
    lines = said.splitlines()
    assert sum("taken" in line for line in lines) == 1
    assert any("taken" in line and "16 of images and words" in line for line in lines)
    assert sum("too large" in line for line in lines) == 5
    report = json.loads((tmp_path / "r.json").read_text())
    assert len(report["ladder"]) == 11
    assert report["bytes"] <= 300_000
    assert report["cost"]["changed"] is not None
    assert main([*command, "--check"]) == 0
    capsys.readouterr()
    frames, store = frames_of(root), FeatureStore(out)
    path = store.path(frames.tokens[0])
    path.write_bytes(path.read_bytes()[:-1])
    (out / "frames" / f"{frames.tokens[1]}.json").unlink()
    shutil.copy(frames.image_files(frames.tokens[3])[0], frames.image_files(frames.tokens[2])[0])
    assert main([*command, "--check"]) == 1
    said = capsys.readouterr().out
    for token, words in zip(frames.tokens, ("are damaged", "have no features", "of other images"), strict=False):
        assert any(words in line and token in line for line in said.splitlines())
    assert "1 of 4 frames are sound" in said
    assert main([*command, "--prompts", "street"]) == 0
    said = capsys.readouterr().out
    assert f"1 of them made again: their images have changed, first {frames.tokens[2]}" in said
    assert main([*command, "--check"]) == 0


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
        (["--budget", "1kB"], "--budget: 2 frames of 4 channels need"),
        (["--budget", "1kB", "--subspace", "8"], "--budget: 2 frames of 8 channels need"),
        (["--check"], "no store of features"),
        (["--budget", "much"], "expected a size"),
    ):
        assert main([*command, *wrong]) == 1
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "f").exists()
    root = tmp_path / "world"
    shutil.copytree(world, root, ignore=shutil.ignore_patterns("truth"))
    assert main(["features", "--data", str(root), "--out", str(tmp_path / "f")]) == 1
    assert "reads the truth of a generated world" in capsys.readouterr().err
