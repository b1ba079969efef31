"""Grounding DINO with SAM behind it, and what it is asked for."""

import importlib
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from occkit.errors import ConfigError
from occkit.foundation import (
    OCCNERF_VOCABULARY,
    WORD_VOCABULARY,
    GroundedSamConfig,
    GroundingDinoDetectorConfig,
    SamSegmenterConfig,
    Vocabulary,
    merge_detections,
    one_word_per_call,
)
from occkit.foundation.detection import meaning_of
from occkit.taxonomy import KITTI360, OCC3D, SEMANTICKITTI
from tiny_models import SPECIAL, save_grounding_dino

CAR, CONE, FREE, IGNORE = (*(OCC3D.id_of(name) for name in ("car", "traffic_cone", "free")), 255)
WORDS = [*SPECIAL, "car", "sky", "traffic", "cone", "tree"]
ASKED = Vocabulary(
    name="tiny",
    taxonomy="occ3d",
    calls=(
        (("car", "car"), ("traffic cone", "traffic_cone")),
        (("sky", "free"),),
        (("tree", "vegetation"), ("sky", None)),
    ),
)


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grounding_dino")
    save_grounding_dino(folder, WORDS[len(SPECIAL) :])
    return folder


def open_labeller(dino, sam, *, vocabulary=ASKED, uncertain="ignore", **thresholds):
    detector = GroundingDinoDetectorConfig(weights=str(dino), **thresholds)
    sam = SamSegmenterConfig(weights=str(sam))
    return GroundedSamConfig(detector=detector, sam=sam, vocabulary=vocabulary, uncertain=uncertain).build()


def random_images(count=2, size=(40, 56)):
    return torch.randint(0, 256, (count, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


class Answering:
    """A detector that gives boxes (left, top, right, bottom; shares of the image) with a score for each token."""

    config = SimpleNamespace()

    def __init__(self, *boxes):
        self.boxes = boxes
        self.shown = []

    def __call__(self, *, pixel_values, input_ids, **_):
        self.shown.append(pixel_values.shape)
        logits = torch.full((1, len(self.boxes) + 1, 256), -9.0)
        corners = torch.zeros(len(self.boxes) + 1, 4)
        for index, (corner, scores) in enumerate(self.boxes):
            corners[index] = torch.tensor(corner)
            for place, token in enumerate(input_ids[0].tolist()):
                if WORDS[token] in scores:
                    logits[0, index, place] = torch.logit(torch.tensor(scores[WORDS[token]]))
        low, high = corners[:, :2], corners[:, 2:]
        boxes = torch.cat([(low + high) / 2, high - low], dim=1)
        return SimpleNamespace(logits=logits, pred_boxes=boxes[None], input_ids=input_ids)


class Rectangles:
    """A SAM whose masks are the boxes it is asked for."""

    def get_image_embeddings(self, pixels):
        return pixels

    def __call__(self, *, image_embeddings, input_boxes, multimask_output):
        assert not multimask_output
        masks = torch.full((1, input_boxes.shape[1], 1, 16, 16), -5.0)
        for mask, box in zip(masks[0, :, 0], input_boxes[0].tolist(), strict=True):
            left, top, right, bottom = (round(side / 4) for side in box)
            mask[top:bottom, left:right] = 5.0
        return SimpleNamespace(pred_masks=masks)


def test_a_labeller_from_folders_labels(dino_folder, sam_folder):
    images = random_images()
    labeller = open_labeller(dino_folder, sam_folder)
    maps = labeller.label(images, token="t", cameras=("a", "b"))
    assert maps.shape == (2, 40, 56)
    assert maps.dtype == torch.uint8
    assert set(maps.unique().tolist()) <= {CAR, CONE, FREE, OCC3D.id_of("vegetation"), IGNORE}
    assert len(maps.unique()) > 2
    assert torch.equal(maps[1:], labeller.label(images[1:], token="t", cameras=("b",)))
    assert labeller.taxonomy is OCC3D
    blind = open_labeller(dino_folder, sam_folder, box_threshold=1.0)
    assert blind.label(images, token="t", cameras=("a", "b")).unique().tolist() == [IGNORE]
    free = open_labeller(dino_folder, sam_folder, box_threshold=1.0, uncertain="free")
    assert free.label(images, token="t", cameras=("a", "b")).unique().tolist() == [FREE]


def test_boxes_become_labels_where_they_are(dino_folder, sam_folder):
    """Non-square, and half the size that SAM wants, so that mixing up axes or frames shows."""
    labeller = open_labeller(dino_folder, sam_folder)
    labeller.sam.model = Rectangles()
    labeller.detector.model = Answering(
        ((0.0, 0.0, 1.0, 0.25), {"sky": 0.9}),
        ((0.125, 0.125, 0.5, 0.75), {"car": 0.6}),
        ((0.25, 0.5, 1.0, 1.0), {"traffic": 0.3, "cone": 0.8}),
        ((0.0, 0.0, 1.0, 1.0), {"car": 0.95, "cone": 0.95}),  # two phrases at once
        ((0.0, 0.0, 1.0, 1.0), {"tree": 0.15}),  # below the thresholds
    )
    found = labeller.label(random_images(1, (16, 32)), token="t", cameras=("a",))[0]
    expected = torch.full((16, 32), IGNORE)
    expected[2:12, 4:16] = CAR
    expected[8:, 8:] = CONE
    expected[:4] = FREE
    assert torch.equal(found, expected.to(torch.uint8))
    assert [shape[0] for shape in labeller.detector.model.shown] == [1, 1, 1]
    # In the call of the tree the sky is there to lose: the box of both is nobody's, that of the sky is dropped.
    only = Vocabulary(name="trees", taxonomy="occ3d", calls=(ASKED.calls[2],))
    labeller.config = replace(labeller.config, vocabulary=only)
    labeller.detector.model = Answering(
        ((0.0, 0.0, 1.0, 1.0), {"sky": 0.9}),
        ((0.0, 0.0, 0.5, 0.5), {"sky": 0.5, "tree": 0.6}),
        ((0.5, 0.5, 1.0, 1.0), {"sky": 0.1, "tree": 0.6}),
    )
    found = labeller.label(random_images(1, (16, 32)), token="t", cameras=("a",))[0]
    expected = torch.full((16, 32), IGNORE)
    expected[8:, 16:] = OCC3D.id_of("vegetation")
    assert torch.equal(found, expected.to(torch.uint8))


def test_thresholds_are_those_of_the_config(dino_folder, sam_folder):
    box, corner = ((0.0, 0.0, 1.0, 1.0), {"car": 0.4, "sky": 0.1}), random_images(1, (16, 32))

    def covered(**thresholds):
        labeller = open_labeller(dino_folder, sam_folder, **thresholds)
        labeller.sam.model, labeller.detector.model = Rectangles(), Answering(box)
        return bool((labeller.label(corner, token="t", cameras=("a",)) == CAR).all())

    assert covered()
    assert not covered(box_threshold=0.5)
    assert not covered(text_threshold=0.5)


def test_sam_answers_boxes_one_by_one_or_together(sam_folder):
    image = random_images(1)[0]
    boxes = torch.tensor([[0.0, 0.0, 30.0, 20.0], [10.0, 5.0, 56.0, 40.0], [1.0, 1.0, 9.0, 9.0]])
    sam, single = (SamSegmenterConfig(weights=str(sam_folder), points_per_batch=n).build() for n in (64, 1))
    masks = sam.masks_in_boxes(image, boxes)
    assert masks.shape == (3, 40, 56)
    assert torch.equal(masks, single.masks_in_boxes(image, boxes))
    assert torch.equal(masks[1:2], sam.masks_in_boxes(image, boxes[1:2]))
    assert sam.masks_in_boxes(image, boxes[:0]).shape == (0, 40, 56)
    # As its own processor would put the boxes.
    library = importlib.import_module("transformers")
    edge = {"height": 64, "width": 64}
    processor = library.SamProcessor(library.SamImageProcessor(size={"longest_edge": 64}, pad_size=edge))
    inputs = processor(image.permute(1, 2, 0).numpy(), input_boxes=[boxes.tolist()], return_tensors="pt")
    with torch.no_grad():
        answer = sam.model(**{k: inputs[k].float() for k in ("pixel_values", "input_boxes")}, multimask_output=False)
    theirs = processor.post_process_masks(answer.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"])
    assert (theirs[0][:, 0] == masks).float().mean() > 0.99


def test_a_pixel_goes_to_the_surest_detection():
    masks = torch.zeros(3, 2, 4, dtype=torch.bool)
    masks[0, :, :3], masks[1, :, 1:2], masks[2, 1, 1:] = True, True, True
    scores, classes = torch.tensor([0.5, 0.9, 0.7]), torch.tensor([4, 7, 11])
    assert merge_detections(masks, scores, classes, none=255).tolist() == [[4, 7, 4, 255], [4, 7, 11, 11]]
    score = (masks * scores[:, None, None]).amax(0)
    by_hand = torch.where(score > 0, classes[(masks * scores[:, None, None]).argmax(0)], 17)
    assert torch.equal(merge_detections(masks, scores, classes, none=17).long(), by_hand)
    equal = merge_detections(masks, torch.ones(3), classes, none=255)
    assert equal.tolist() == [[4, 4, 4, 255], [4, 4, 4, 11]]
    assert merge_detections(masks[:0], scores[:0], classes[:0], none=255).tolist() == [[255] * 4] * 2


def test_the_words_of_a_box_must_name_one_phrase():
    call = (("car", "car"), ("traffic cone", "traffic_cone"), ("traffic light", "manmade"), ("sky", None))
    assert meaning_of("car", call) == "car"
    assert meaning_of("traffic cone", call) == "traffic_cone"
    assert meaning_of("cone.", call) == "traffic_cone"
    for nothing in ("", ".", "traffic", "car sky", "car light", "sky", "##r", "cars"):
        assert meaning_of(nothing, call) is None


def test_the_recipe_of_occnerf_asks_seven_times():
    calls = OCCNERF_VOCABULARY.calls
    assert [len(call) for call in calls] == [1, 1, 1, 2, 2, 2, 15]
    meanings = {phrase: meaning for call in calls for phrase, meaning in call}
    assert len(meanings) == 24
    assert {meanings[p] for p in ("building", "bridge", "pole", "billboard", "light", "ashbin")} == {"manmade"}
    assert (meanings["sky"], meanings["crane"], meanings["cone"]) == ("free", "construction_vehicle", "traffic_cone")
    assert set(OCC3D.classes) - set(meanings.values()) == {"others", "other_flat"}
    assert OCCNERF_VOCABULARY.table is OCC3D


def test_one_word_a_call_has_the_sky_against_it():
    sky, *calls = WORD_VOCABULARY.calls
    assert sky == (("sky", "free"),)
    assert all(len(call) == 2 and call[1] == ("sky", None) for call in calls)
    assert set(OCC3D.classes) - {call[0][1] for call in calls} == {"others", "free"}
    assert len({call[0][0] for call in calls}) == len(calls) == 42
    for taxonomy in (OCC3D, SEMANTICKITTI, KITTI360):
        made = one_word_per_call("prompts", taxonomy)
        assert len(made.calls) == 1 + sum(len(words) for words in taxonomy.prompts)
        assert made.calls[0] == (("sky", taxonomy.classes[taxonomy.free_id]),)


def test_the_sky_can_be_left_out():
    words = WORD_VOCABULARY.without_sky()
    assert {phrase for call in words.calls for phrase, _ in call}.isdisjoint({"sky"})
    assert len(words.calls) == len(WORD_VOCABULARY.calls) - 1
    assert all(len(call) == 1 for call in words.calls)
    assert len(OCCNERF_VOCABULARY.without_sky().calls) == len(OCCNERF_VOCABULARY.calls)
    assert words.name != WORD_VOCABULARY.name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"taxonomy": "coco"}, "taxonomy 'coco' is none of occ3d"),
        ({"calls": ()}, "at least one phrase"),
        ({"calls": ((),)}, "at least one phrase"),
        ({"calls": ((("car", "sedan"),),)}, "class 'sedan' is not in occ3d"),
        ({"calls": ((("Car", "car"),),)}, "'Car' must be lower case"),
        ({"calls": ((("car. sky", "car"),),)}, "no full stop"),
        ({"calls": ((("car", "car"), ("car", None)),)}, "asks twice"),
    ],
)
def test_impossible_vocabularies_are_refused(options, message):
    with pytest.raises(ConfigError, match=f"vocabulary mine: .*{message}"):
        Vocabulary(**({"name": "mine", "taxonomy": "occ3d", "calls": ((("car", "car"),),)} | options))


def test_the_description_says_what_was_asked(dino_folder, sam_folder):
    one = open_labeller(dino_folder, sam_folder).description
    assert json.loads(json.dumps(one))["vocabulary"]["calls"][1] == [["sky", "free"]]
    assert one["labeller"] == "grounded_sam"
    assert one["detector"]["detector"] == "grounding_dino"
    assert "device" not in str(one)
    assert one != open_labeller(dino_folder, sam_folder, uncertain="free").description


def test_wrong_weights_are_named(tmp_path, dino_folder, sam_folder):
    with pytest.raises(
        ConfigError, match=r"GroundingDinoDetector: .*of type grounding-dino or .*got sam; .*grounding-dino-base"
    ):
        open_labeller(sam_folder, sam_folder)
    with pytest.raises(ConfigError, match="of type sam, got grounding-dino"):
        open_labeller(dino_folder, dino_folder)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((dino_folder / name).read_bytes())
    with pytest.raises(ConfigError, match="GroundingDinoDetector: the processor of"):
        open_labeller(tmp_path, sam_folder)


@pytest.mark.parametrize("options", [{"box_threshold": 1.2}, {"text_threshold": -0.1}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        GroundingDinoDetectorConfig(weights="x", **options)
    with pytest.raises(ConfigError, match="uncertain 'sky'"):
        GroundedSamConfig(
            detector=GroundingDinoDetectorConfig(weights="x"), sam=SamSegmenterConfig(weights="x"), uncertain="sky"
        )


@pytest.mark.parametrize(("images", "cameras"), [(torch.zeros(1, 3, 8, 8), ("a",)), (random_images(2), ("a", "a"))])
def test_requests_that_do_not_fit_are_refused(dino_folder, sam_folder, images, cameras):
    with pytest.raises(ValueError, match=r"images|cameras"):
        open_labeller(dino_folder, sam_folder).label(images, token="t", cameras=cameras)
