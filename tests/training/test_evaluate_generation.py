"""Judging drawn scenes: words in images, distances, and occupancy that is read in them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from occkit import cli
from occkit.data import DataConfig, open_dataset
from occkit.errors import ConfigError, DataError
from occkit.nn.inception import InceptionV3
from occkit.systems import lift, occscene
from occkit.systems.occscene import variants
from occkit.training.checkpoint import read_tensors, save_pretrained, write_tensors
from occkit.training.claim import Claim, Difference
from occkit.training.evaluate_generation import Judging, evaluate_generation
from occkit.training.feature_networks import InceptionFeatures
from occkit.training.word_judge import (
    WordJudgeConfig,
    counted_words,
    is_number,
    shown_words,
    train_judge,
    word_scores,
    words_to_judge,
)
from occkit.world.generate import generate
from occkit.world.presets import PRESETS

SMALL = WordJudgeConfig(widths=(8, 8), steps=40, batch_size=8)
SIZE = (32, 88)


class Photographer(torch.nn.Module):
    """Draws the photograph of the frame itself, and the label: as good as drawing can be."""

    def __init__(self, dataset, *, dark=False):
        super().__init__()
        self.samples = {dataset.sample(i).caption: dataset.sample(i) for i in range(len(dataset))}
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.dark, self.asked, self.told, self.stops = dark, [], [], False

    def forward(self, batch):
        raise NotImplementedError

    def draw(self, prompts, cameras, *, steps, seeds, guidance, occupancy):
        self.told.append(occupancy)
        assert cameras.batch_shape[0] == len(prompts)
        for prompt, seed in zip(prompts, seeds, strict=True):
            self.asked.append((prompt, cameras.height, steps, seed, guidance))
        samples = [self.samples[prompt] for prompt in prompts]
        images = torch.stack([sample.images for sample in samples])
        images = images[:, :1].expand_as(images) if self.stops else images
        return (images // 20 if self.dark else images), torch.stack([s.occupancy.semantics for s in samples])

    def estimation_errors(self, batch, *, seeds, told):
        assert seeds == [self.asked[-batch.size + i][3] for i in range(batch.size)]
        return torch.tensor([1.0 + told] * batch.size)


class Reader(torch.nn.Module):
    """Reads in an image the label of the photograph that it is, and nothing in any other image."""

    def __init__(self, dataset):
        super().__init__()
        self.known = {dataset.sample(i).images.numpy().tobytes(): dataset.sample(i) for i in range(len(dataset))}
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        sample = self.known.get(batch.images[0].numpy().tobytes())
        free = torch.zeros(batch.grid.shape, dtype=torch.int64)
        ids = free if sample is None else sample.occupancy.semantics.long()
        ids = torch.where(ids == batch.taxonomy.ignore_id, 0, ids)
        logits = torch.nn.functional.one_hot(ids, batch.taxonomy.num_classes).movedim(-1, 0)[None].float()
        return type("Said", (), {"semantics": lambda self: logits.argmax(dim=1).to(torch.uint8)})()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("worlds") / "front"
    generate(replace(PRESETS["front-nano"], frames=2), root, num_scenes=30, seed=5)
    return root


def frames(world, split):
    return open_dataset(world, split=split, config=DataConfig(image_size=SIZE, load_depth=False))


def judged(world, model, reader, keep, network=None, told=False, **changes):
    config = replace(Judging(reader="reader", arms=(), frames=6, steps=3, judge=SMALL), **changes)
    return evaluate_generation(
        model,
        reader,
        frames(world, "val"),
        frames(world, "train"),
        config,
        protocol="occ3d",
        keep=keep,
        network=network,
        told=told,
        seed=9,
    )


def test_words_that_some_captions_have_are_judged():
    captions = ["a street at night, with 1 car"] * 10 + ["a street in fog"] * 10
    assert words_to_judge(captions) == ("at", "car", "fog", "in", "night", "with")
    shown = shown_words(captions, ("fog", "car"))
    assert shown[0].tolist() == [False, True]
    assert shown[-1].tolist() == [True, False]


def test_numbers_are_judged_among_captions_that_have_one():
    captions = [f"a street, with {n}" for n in ("1 bus", "2 buses", "3 buses, 2 police officers", "2 benches")]
    captions += ["a street, with 1 police officer, 1 bench"] * 2 + ["a street"] * 4
    assert [word for word in words_to_judge(captions) if is_number(word)] == [
        *("2 bench", "2 bus", "2 police officer", "3 bus")
    ]
    shown, among = shown_words(captions, ("2 bus", "street")), counted_words(captions, ("2 bus", "street"))
    assert shown[:, 0].tolist() == [False, True, True] + [False] * 7
    assert among[:, 0].tolist() == [True] * 3 + [False] * 7
    assert among[:, 1].all()
    scores = np.array([[0.5], [0.4], [0.6], *[[9.0]] * 7])
    assert word_scores(scores, shown[:, :1], among[:, :1]) == 0.5, "texts without a bus do not count"
    odd = ["a 3d street, with 2 !, 1st 2 cars"] * 5 + ["a street, with 1 car"] * 5
    assert [word for word in words_to_judge(odd) if is_number(word)] == ["2 car"]
    # Whoever always has two or more says nothing about how many.
    assert "2 bus" not in words_to_judge(["a street, with 2 buses"] * 5 + ["a street"] * 5)


def test_word_scores_are_the_area_under_the_curve():
    rng = np.random.default_rng(0)
    shown = rng.random((60, 3)) < 0.4
    scores = np.round(rng.normal(size=(60, 3)) + shown, 1)  # rounded, so that there are ties
    pairs = [(torch.from_numpy(scores[:, i]), torch.from_numpy(shown[:, i]).long()) for i in range(3)]
    expected = np.mean([float(binary_auroc(torch.sigmoid(score), there)) for score, there in pairs])
    assert word_scores(scores, shown) == pytest.approx(expected, abs=1e-6)
    assert word_scores(np.zeros((60, 3)), shown) == 0.5
    always = np.concatenate([shown, np.ones((60, 1), bool)], axis=1)
    padded = np.concatenate([scores, scores[:, :1]], axis=1)
    assert word_scores(padded, always) == pytest.approx(expected, abs=1e-6), "a word of every text tells nothing"
    with pytest.raises(ValueError, match="the same words"):
        word_scores(scores[:, :1], np.ones((60, 1), bool))


def test_a_judge_learns_is_kept_and_leaves_the_random_state_alone(tmp_path):
    generator = torch.Generator().manual_seed(0)
    night = torch.arange(40) % 2 == 0
    images = torch.randint(0, 60, (40, 3, 16, 32), generator=generator, dtype=torch.uint8)
    images[~night] += 120
    captions = ["a street at night" if dark else "a street in fog" for dark in night]
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    judge = train_judge(SMALL, images, captions, tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    scores = judge(images).detach().numpy()
    assert word_scores(scores, shown_words(captions, judge.words)) > 0.95
    again = train_judge(SMALL, images, captions, tmp_path)
    assert torch.equal(again(images), judge(images))
    (kept,) = tmp_path.glob("judge-*.json")
    assert json.loads(kept.read_text())["words"] == list(judge.words)
    longer = train_judge(replace(SMALL, steps=SMALL.steps + 1), images, captions, tmp_path)
    assert not torch.equal(longer(images), judge(images)), "another training is another judge"
    with pytest.raises(DataError, match="no word"):
        train_judge(SMALL, images, ["a street"] * 40, tmp_path)


def test_photographs_are_the_best_drawings(world, tmp_path):
    held_out = frames(world, "val")
    model, reader = Photographer(held_out), Reader(held_out)
    found = judged(world, model, reader, tmp_path)
    assert found["consistency"] == found["layout"] == 1.0
    assert found["words"] == found["words_of_photographs"]
    assert found["numbers"] == found["numbers_of_photographs"]
    assert found["frechet"] == pytest.approx(0.0, abs=1e-6)
    assert found["diversity"] == found["diversity_of_photographs"]
    assert [ask[1:] for ask in model.asked] == [(32, 3, 9 + i, 1.5) for i in range(6)]
    assert model.told == [None]
    assert found["error"] == 1.0
    assert judged(world, model, reader, tmp_path, told=True)["error"] == 2.0
    labels = torch.stack([held_out.spread(6).sample(i).occupancy.semantics for i in range(6)])
    assert torch.equal(model.told[1].semantics, labels), "drawn for the labels of the frames whose text is drawn"
    worse = judged(world, Photographer(held_out, dark=True), reader, tmp_path)
    assert worse["frechet"] > 0.01
    assert worse["kernel"] > found["kernel"]
    assert worse["consistency"] < 0.5
    assert worse["words_of_photographs"] == found["words_of_photographs"], "one judge for all arms of a world"


def test_drawings_of_an_untrained_model_are_judged_too(world, tmp_path):
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = occscene.nano_street().system.build().eval()
    found = judged(world, model, model, tmp_path, frames=2, steps=1)
    assert found["consistency"] == pytest.approx(1.0), "what it drew is what it reads in its own images"
    assert all(np.isfinite(value) for value in found.values())


@pytest.fixture
def inception(tmp_path, monkeypatch):
    """Random weights in a file; images are looked at in a third of the size, so that they take a tenth of the time."""
    monkeypatch.setattr("occkit.nn.inception._SIDE", 107)
    torch.manual_seed(0)
    network = InceptionV3()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)  # else nothing of the image is left after 20 layers
    tensors = network.state_dict() | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    path = tmp_path / "inception.safetensors"
    write_tensors(path, {name: tensor for name, tensor in tensors.items() if "num_batches" not in name})
    return path


def test_distances_may_be_those_of_a_network_that_the_user_has(world, tmp_path, inception):
    network = InceptionFeatures(inception)
    assert network.name.startswith("inception.safetensors (")
    held_out = frames(world, "val")
    reader = Reader(held_out)
    found = judged(world, Photographer(held_out), reader, tmp_path, network=network)
    dark = judged(world, Photographer(held_out, dark=True), reader, tmp_path, network=network)
    assert found["frechet"] == pytest.approx(0.0, abs=1e-3)
    images = torch.stack([sample.images[0, 0] for sample in (held_out.spread(6).sample(i) for i in range(6))])
    moved = network.features(images).mean(axis=0) - network.features(images // 20).mean(axis=0)
    assert dark["frechet"] > np.square(moved).sum() > 0.1
    assert found["words"] == judged(world, Photographer(held_out), reader, tmp_path)["words"]
    assert "video_frechet" not in found


def test_clips_are_also_compared_as_a_whole(world, tmp_path):
    clips = open_dataset(world, split="val", config=DataConfig(image_size=SIZE, load_depth=False, num_past=1))
    training = open_dataset(world, split="train", config=DataConfig(image_size=SIZE, load_depth=False, num_past=1))
    reader = Reader(frames(world, "val"))
    config = Judging(reader="reader", arms=(), frames=6, steps=3, judge=SMALL)
    model = Photographer(clips)
    found = evaluate_generation(model, reader, clips, training, config, protocol="occ3d", keep=tmp_path)
    assert found["video_frechet"] == pytest.approx(0.0, abs=1e-6)
    assert 0 < found["warp"] == found["warp_of_photographs"]
    model.stops = True
    frozen = evaluate_generation(model, reader, clips, training, config, protocol="occ3d", keep=tmp_path)
    assert frozen["frechet"] == found["frechet"], "each image is still a photograph"
    assert frozen["video_frechet"] > 1e-3
    assert frozen["warp"] > frozen["warp_of_photographs"] == found["warp"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", "no such file"),
        ("bytes", "not a readable safetensors file"),
        ("lacking", r"missing \['Conv2d_1a_3x3.conv.weight'\]"),
        ("other", r"wrong shape .*Conv2d_1a_3x3.conv.weight: \(32, 1, 3, 3\)"),
    ],
)
def test_weights_of_another_network_are_named(tmp_path, inception, damage, message):
    path = tmp_path / "wrong.safetensors"
    tensors = read_tensors(inception)
    first = tensors.pop("Conv2d_1a_3x3.conv.weight")
    if damage == "bytes":
        path.write_bytes(inception.read_bytes()[:100])
    elif damage != "missing":
        write_tensors(path, tensors | ({"Conv2d_1a_3x3.conv.weight": first[:, :1]} if damage == "other" else {}))
    with pytest.raises(DataError, match=message) as caught:
        InceptionFeatures(path)
    assert "wrong.safetensors" in str(caught.value)


def test_drawings_are_judged_from_the_command_line(world, tmp_path, inception, monkeypatch, capsys):
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    for name, recipe in (("drawer", occscene.nano_street()), ("reader", variants.reader("street"))):
        save_pretrained(recipe.system.build(), recipe, tmp_path / name)
    quick = lambda config, *rest: train_judge(SMALL, *rest)  # noqa: E731
    monkeypatch.setattr("occkit.training.evaluate_generation.train_judge", quick)
    command = ["evaluate", str(tmp_path / "drawer"), "--data", str(world), "--drawn-frames", "2"]
    drawn = ["--drawings", str(tmp_path / "reader"), "--json", str(tmp_path / "scores.json")]
    assert cli.main([*command, *drawn, "--network", str(inception)]) == 0
    said = capsys.readouterr().out
    assert "Drawings for 2 texts; distances on the features of inception.safetensors (" in said
    found = json.loads((tmp_path / "scores.json").read_text())["drawings"]
    assert found["network"] in said
    assert {"frechet", "kernel", "words", "consistency"} <= set(found)
    for wrong, message in (
        ([*command, "--network", "x.pt"], "--network goes with --drawings"),
        ([*command[:-1], "1", *drawn], "at least 2"),
        (["evaluate", "--predictions", "x", "--data", "y", *drawn], "--drawings needs a run"),
    ):
        assert cli.main(wrong) == 2
        assert message in capsys.readouterr().err


def test_what_cannot_be_judged_is_said(world, tmp_path):
    torch.manual_seed(0)
    model = lift.debug().system.build()
    with pytest.raises(ConfigError, match="does not draw"):
        judged(world, model, model, tmp_path)
    captions = world / "captions.json"
    kept = captions.read_text()
    captions.unlink()
    try:
        with pytest.raises(DataError, match="no caption"):
            judged(world, Photographer(frames(world, "val")), model, tmp_path)
    finally:
        captions.write_text(kept)


def claim(**changes):
    arms = {"reader": lift.debug, "drawer": occscene.debug, "other": lift.debug}
    options = {"system": "x", "sentence": "x", "lines": (), "judging": Judging(reader="reader", arms=("drawer",))}
    return Claim(arms=arms, **(options | changes))


def test_a_claim_knows_who_waits_for_the_reader():
    assert claim().judges("drawer") == ("reader",)
    assert claim().judges("other") == claim().judges("reader") == ()
    with pytest.raises(ConfigError, match="is none of the arms"):
        claim(judging=Judging(reader="nobody", arms=()))
    with pytest.raises(ConfigError, match="or the reader itself"):
        claim(judging=Judging(reader="reader", arms=("reader",)))
    with pytest.raises(ConfigError, match="only arms that are judged"):
        claim(judging=Judging(reader="reader", arms=("drawer",), told=("other",)))


@pytest.mark.parametrize("make", [occscene.claim, occscene.rooms, occscene.quick, occscene.rooms_quick])
def test_the_claims_name_what_their_arms_have(make):
    found = make()
    for line in found.lines:
        assert isinstance(line, Difference)
        if line.metric.startswith(("drawn.", "told.")):
            assert {line.arm, line.baseline} <= set(found.judging.arms)
    assert found.judging is None or found.judging.told == ("mutual", "align", "concat", "attention")
    for recipe in (arm() for arm in found.arms.values()):
        assert recipe.protocols == found.protocols
        words = recipe.system.prompts.words
        assert {"night", "crossing"} <= set(words) or {"evening", "bathtub"} <= set(words)
