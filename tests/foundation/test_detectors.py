"""OWLv2 and MM-Grounding-DINO: what they look at, and where their boxes land."""

import importlib
import json
import shutil

import pytest
import torch

from occkit.errors import ConfigError
from occkit.foundation import (
    GroundedSamConfig,
    GroundingDinoDetectorConfig,
    Owlv2DetectorConfig,
    Sam2SegmenterConfig,
    SamSegmenterConfig,
    Vocabulary,
    detector_config,
)
from occkit.taxonomy import OCC3D
from tiny_models import save_grounding_dino, save_owlv2, save_sam2

CALLS = ((("car", "car"), ("tree", "vegetation")), (("sky", "free"), ("haze", None)))


@pytest.fixture(scope="module")
def owl_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("owlv2")
    save_owlv2(folder)
    return folder


@pytest.fixture(scope="module")
def mm_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mm_grounding_dino")
    save_grounding_dino(folder, ["car", "tree", "sky", "haze"], family="MMGroundingDino")
    return folder


def open_owl(folder, **options):
    return Owlv2DetectorConfig(weights=str(folder), **({"box_threshold": 0.0} | options)).build()


def picture(height=40, width=56):
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def answer(owl, boxes):
    """Make a detector answer with boxes (left, top, right, bottom; shares of the padded square) and {phrase: score}."""
    phrases = ["car", "tree", "sky", "haze"]
    corners = torch.tensor([box for box, _ in boxes])
    low, high = corners[:, :2], corners[:, 2:]
    shares = torch.cat([(low + high) / 2, high - low], dim=1)
    scores = torch.tensor([[found.get(phrase, 0.01) for phrase in phrases] for _, found in boxes])
    owl._look = lambda pixels, queries: (scores.logit(), shares)


@pytest.mark.parametrize("size", [(40, 56), (56, 40), (33, 1), (1, 300), (5, 7), (64, 64)])
def test_the_answer_is_that_of_transformers(owl_folder, size):
    library = importlib.import_module("transformers")
    owl, image = open_owl(owl_folder, max_boxes=1000), picture(*size)
    found = owl.detect(image, CALLS[:1])
    assert len(found.boxes) == len(found.scores) == len(found.meanings)
    assert len(found.boxes) > 0 or min(size) == 1
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([size[1], size[0]] * 2)).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    processor = library.AutoProcessor.from_pretrained(owl_folder)
    sentences = ["a photo of a car", "a photo of a tree"]
    tokens = processor.tokenizer(sentences, padding="max_length", max_length=owl.max_tokens, return_tensors="pt")
    with torch.no_grad():
        theirs = owl.model(**tokens, pixel_values=owl._prepare(image))
    (expected,) = processor.post_process_grounded_object_detection(
        theirs, threshold=0.0, target_sizes=[size], text_labels=[["car", "vegetation"]]
    )
    limit = torch.tensor([size[1], size[0]] * 2)
    boxes = torch.minimum(expected["boxes"].clamp(min=0), limit)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(-1)
    assert torch.allclose(found.boxes, boxes[inside], atol=1e-3)
    assert torch.allclose(found.scores, expected["scores"][inside], atol=1e-5)
    assert list(found.meanings) == [expected["text_labels"][i] for i in inside.nonzero()[:, 0].tolist()]


def test_images_are_prepared_as_its_own_processor_does(owl_folder):
    """A smooth picture: only how they blur before scaling differs."""
    library = importlib.import_module("transformers")
    ramp = torch.linspace(20.0, 180.0, 160).expand(100, 160) + torch.linspace(0.0, 60.0, 100)[:, None]
    image = ramp.to(torch.uint8).expand(3, 100, 160).contiguous()
    processor = library.AutoProcessor.from_pretrained(owl_folder).image_processor
    theirs = processor(image.permute(1, 2, 0).numpy(), return_tensors="pt").pixel_values
    ours = open_owl(owl_folder)._prepare(image)
    assert ours.shape == theirs.shape
    assert (ours - theirs)[..., :38, 2:62].abs().max() < 0.1, "the image, but for its border with the padding"
    assert torch.allclose(ours[..., 42:, :], theirs[..., 42:, :], atol=1e-4), "the padding"


@pytest.mark.parametrize(("size", "side"), [((16, 32), 32), ((32, 16), 32), ((4, 100), 100)])
def test_boxes_land_on_the_pixels_of_any_shape(owl_folder, size, side):
    owl = open_owl(owl_folder, box_threshold=0.2)
    height, width = size
    pixels = (width * 0.25, height * 0.5, width * 0.75, height * 1.0)
    box = [edge / side for edge in pixels]
    beyond = [0.0, 0.0, 1.0, 1.0]
    padding = [0.0, 0.8, 0.5, 1.0] if height < width else [0.8, 0.0, 1.0, 0.5]
    answer(
        owl,
        [
            (box, {"car": 0.6, "tree": 0.5}),
            (beyond, {"tree": 0.7, "sky": 0.3}),
            (padding, {"car": 0.9}),
            (box, {"sky": 0.8, "haze": 0.9}),
            (box, {"car": 0.15}),
        ],
    )
    found = owl.detect(picture(*size), CALLS)
    assert found.meanings == ("car", "vegetation", "free")
    assert torch.allclose(found.scores, torch.tensor([0.6, 0.7, 0.3]))
    assert torch.allclose(found.boxes[0], torch.tensor(pixels), atol=1e-4)
    assert found.boxes[1].tolist() == [0.0, 0.0, width, height]


def test_the_surest_boxes_stay(owl_folder):
    owl = open_owl(owl_folder, max_boxes=2)
    answer(owl, [([0.0, 0.0, 0.5, 0.5], {"car": score}) for score in (0.3, 0.9, 0.2, 0.8)])
    assert owl.detect(picture(), CALLS[:1]).scores.tolist() == pytest.approx([0.9, 0.8])
    empty = open_owl(owl_folder, box_threshold=1.0).detect(picture(), CALLS)
    assert (empty.boxes.shape, empty.scores.shape, empty.meanings) == ((0, 4), (0,), ())


def test_an_image_is_looked_at_once_and_phrases_do_not_mix(owl_folder):
    owl, looks = open_owl(owl_folder), []
    real = owl.model.image_embedder
    owl.model.image_embedder = lambda **inputs: looks.append(1) or real(**inputs)
    both = owl.detect(picture(), (*CALLS[:1], (("sky", "free"),)))
    alone = owl.detect(picture(), ((("sky", "free"),),))
    assert len(looks) == 2
    count = len(alone.boxes)
    assert torch.allclose(both.scores[-count:], alone.scores, atol=1e-6)
    assert torch.equal(both.boxes[-count:], alone.boxes)


@pytest.mark.parametrize("sam2", [False, True])
@pytest.mark.parametrize("kind", ["owl", "mm"])
def test_a_labeller_takes_any_detector_and_any_sam(owl_folder, mm_folder, sam_folder, tmp_path, kind, sam2):
    weights = str(owl_folder if kind == "owl" else mm_folder)
    config = {"owl": Owlv2DetectorConfig, "mm": GroundingDinoDetectorConfig}[kind](weights=weights, box_threshold=0.0)
    assert type(detector_config(weights)) is type(config)
    if sam2:
        save_sam2(tmp_path)
        sam = Sam2SegmenterConfig(weights=str(tmp_path))
    else:
        sam = SamSegmenterConfig(weights=str(sam_folder))
    vocabulary = Vocabulary(name="tiny", taxonomy="occ3d", calls=CALLS)
    labeller = GroundedSamConfig(detector=config, sam=sam, vocabulary=vocabulary).build()
    images = torch.stack([picture(), 255 - picture()])
    maps = labeller.label(images, token="t", cameras=("a", "b"))
    assert maps.shape == (2, 40, 56)
    assert set(maps.unique().tolist()) <= {OCC3D.id_of(name) for name in ("car", "vegetation", "free")} | {255}
    assert torch.equal(maps[1:], labeller.label(images[1:], token="t", cameras=("b",)))
    said = json.loads(json.dumps(labeller.description))
    assert said["sam"]["segmenter"] == ("sam2" if sam2 else "sam")
    assert said["detector"]["weights"] == weights
    assert "device" not in str(said)


@pytest.mark.parametrize(("size", "shown"), [((40, 56), (56, 40)), ((12, 90), (90, 23))])
def test_boxes_of_mm_grounding_dino_are_read_off(mm_folder, size, shown):
    """The network itself proposes the boxes; its words are replaced, because at random it has none."""
    dino = detector_config(str(mm_folder)).build()
    network, car = dino.model, dino.processor.tokenizer.convert_tokens_to_ids("car")
    shares = []

    def sure(**inputs):
        answer = network(**inputs)
        answer.logits.fill_(-9.0)
        place = inputs["input_ids"][0].tolist().index(car)
        answer.logits[0, :, place] = 2.0
        shares.append(answer.pred_boxes[0])
        return answer

    dino.model = sure
    found = dino.detect(picture(*size), CALLS[:1])
    assert set(found.meanings) == {"car"}
    assert torch.allclose(found.scores, torch.tensor(2.0).sigmoid())
    assert len(shares[0]) == 30
    centre, extent = shares[0][:, :2], shares[0][:, 2:]
    corners = torch.cat([centre - extent / 2, centre + extent / 2], dim=1) * torch.tensor([*shown, *shown])
    if size == (12, 90):
        corners = torch.minimum(corners.clamp(min=0.0), torch.tensor([90.0, 12.0, 90.0, 12.0]))
    inside = (corners[:, 2:] > corners[:, :2]).all(-1)
    assert len(found.boxes) == inside.sum() > 0
    assert torch.allclose(found.boxes, corners[inside], atol=1e-4)


def test_what_is_missing_or_foreign_is_named(owl_folder, sam_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"Owlv2Detector: .*no such folder; OWLv2 is google/owlv2"):
        open_owl(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"of type owlv2, got sam; OWLv2 is google/owlv2"):
        open_owl(sam_folder)
    with pytest.raises(ConfigError, match=r"detector: .*grounding-dino or mm-grounding-dino or owlv2, got sam"):
        detector_config(str(sam_folder))
    shutil.copytree(owl_folder, tmp_path / "owl")
    (tmp_path / "owl" / "tokenizer.json").unlink()
    (tmp_path / "owl" / "tokenizer_config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"the processor of .* cannot be loaded.*AutoTokenizer"):
        open_owl(tmp_path / "owl")
    (tmp_path / "owl" / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"cannot be loaded: .*safetensors; OWLv2 is"):
        open_owl(tmp_path / "owl")
    for options in ({"box_threshold": 1.5}, {"max_boxes": 0}, {"template": "a photo"}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            Owlv2DetectorConfig(weights="x", **options)
