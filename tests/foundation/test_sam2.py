"""SAM 2 on a tiny network of random weights: geometry of its stretched images, masks, features."""

import importlib
import json
from types import SimpleNamespace

import pytest
import torch

from occkit.errors import ConfigError
from occkit.foundation import Sam2FeaturesConfig, Sam2SegmenterConfig, segmenter_config, vision_features_config
from tiny_models import save_sam2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam2")
    save_sam2(folder)
    return folder


def open_sam(folder, **options):
    defaults = {"points_per_side": 4, "min_predicted_iou": 0.0, "min_stability": 0.0}
    return Sam2SegmenterConfig(weights=str(folder), **(defaults | options)).build()


def pictures(count=2, size=(40, 56)):
    return torch.randint(0, 256, (count, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("size", [(40, 56), (7, 3), (2, 200)])
def test_images_of_any_shape_are_segmented(folder, size):
    images, sam = pictures(2, size), open_sam(folder)
    maps = sam.segment(images, token="t", cameras=("a", "b"))
    assert maps.shape == (2, *size)
    for one in maps:
        assert set(one.unique().tolist()) - {0} == set(range(1, int(one.max()) + 1))
    assert torch.equal(maps[1:], sam.segment(images[1:], token="t", cameras=("b",)))
    again = open_sam(folder, points_per_batch=3)
    assert torch.equal(maps, again.segment(images, token="t", cameras=("a", "b")))
    assert again.description == sam.description
    assert json.loads(json.dumps(sam.description))["segmenter"] == "sam2"


def test_images_are_stretched_and_normalised(folder):
    """A picture of one colour a half: the border stays in the middle, whatever the shape."""
    image = torch.zeros(3, 16, 32, dtype=torch.uint8)
    image[:, :, 16:] = 255
    pixels, resized = open_sam(folder)._prepare(image)
    assert (pixels.shape, resized) == ((1, 3, 64, 64), (64, 64))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(pixels[0, :, 5, 5], -mean / std, atol=1e-5)
    assert torch.allclose(pixels[0, :, 60, 60], (1 - mean) / std, atol=1e-5)
    assert torch.allclose(pixels[0, :, :, 31] + pixels[0, :, :, 32], ((1 - 2 * mean) / std)[:, None], atol=1e-4)


class Rectangles:
    """A SAM 2 whose masks are the boxes it is asked for."""

    def get_image_embeddings(self, pixels):
        return [pixels]

    def __call__(self, *, image_embeddings, input_boxes, multimask_output):
        assert not multimask_output
        masks = torch.full((1, input_boxes.shape[1], 1, 16, 16), -5.0)
        for mask, box in zip(masks[0, :, 0], input_boxes[0].tolist(), strict=True):
            left, top, right, bottom = (round(side / 4) for side in box)
            mask[top:bottom, left:right] = 5.0
        return SimpleNamespace(pred_masks=masks)


def test_boxes_become_masks_where_they_are(folder):
    sam = open_sam(folder)
    sam.model = Rectangles()
    boxes = torch.tensor([[4.0, 2.0, 16.0, 12.0], [0.0, 8.0, 32.0, 16.0]])
    masks = sam.masks_in_boxes(pictures(1, (16, 32))[0], boxes)
    expected = torch.zeros(2, 16, 32, dtype=torch.bool)
    expected[0, 2:12, 4:16] = True
    expected[1, 8:] = True
    assert torch.equal(masks, expected)


class Flood:
    """Answers a point with the region of its colour."""

    def get_image_embeddings(self, pixels):
        return [pixels]

    def __call__(self, *, image_embeddings, input_points, input_labels, multimask_output):
        assert bool((input_labels == 1).all())
        picture = image_embeddings[0][0, 0]
        small = picture[2::4, 2::4]
        masks = [
            10.0 * ((small - picture[v, u]).abs() < 0.3).float() - 5.0
            for u, v in input_points[0, :, 0].floor().long().tolist()
        ]
        shape = (1, input_points.shape[1], 1)
        return SimpleNamespace(pred_masks=torch.stack(masks).reshape(*shape, 16, 16), iou_scores=torch.ones(shape))


def test_points_find_the_regions_of_a_picture(folder):
    truth = torch.ones(16, 32, dtype=torch.long)
    truth[:, 16:] = 2
    truth[4:12, 4:12] = 3
    sam = open_sam(folder, points_per_side=8)
    sam.model = Flood()
    image = (truth * 60).to(torch.uint8).expand(3, -1, -1)
    found = sam.segment(image[None], token="t", cameras=("a",))[0]
    assert torch.equal(found, torch.tensor([0, 2, 1, 3])[truth])


def test_masks_are_those_of_transformers(folder):
    library = importlib.import_module("transformers")
    sam, image = open_sam(folder), pictures(1)[0]
    boxes = torch.tensor([[0.0, 0.0, 30.0, 20.0], [10.0, 5.0, 56.0, 40.0], [1.0, 1.0, 9.0, 9.0]])
    masks = sam.masks_in_boxes(image, boxes)
    model = library.Sam2Model.from_pretrained(folder).eval()
    scaled = boxes * torch.tensor([64 / 56, 64 / 40] * 2)
    with torch.no_grad():
        theirs = model(pixel_values=sam._prepare(image)[0], input_boxes=scaled[None], multimask_output=False)
    enlarged = torch.nn.functional.interpolate(theirs.pred_masks[0], (40, 56), mode="bilinear", align_corners=False)
    assert torch.equal(masks, enlarged[:, 0] > 0)
    assert torch.equal(masks, open_sam(folder, points_per_batch=1).masks_in_boxes(image, boxes))
    assert sam.masks_in_boxes(image, boxes[:0]).shape == (0, 40, 56)


def test_the_published_kind_of_weights_is_taken(folder, tmp_path):
    """The model for video has a memory beside, which single images leave alone."""
    save_sam2(tmp_path, family="Sam2Video")
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "sam2_video"
    sam = segmenter_config(str(tmp_path)).build()
    assert sam.masks_in_boxes(pictures(1)[0], torch.tensor([[3.0, 4.0, 20.0, 30.0]])).shape == (1, 40, 56)
    assert vision_features_config(str(tmp_path)).build().width == 32


@pytest.mark.parametrize("size", [(40, 56), (1, 1), (2, 200)])
def test_features_have_the_cells_of_the_encoder(folder, size):
    extractor, images = Sam2FeaturesConfig(weights=str(folder)).build(), pictures(2, size)
    maps = extractor.extract(images, token="t", cameras=("a", "b"))
    assert (extractor.width, extractor.map_size(size), maps.shape) == (32, (4, 4), (2, 32, 4, 4))
    assert torch.allclose(maps.norm(dim=1), torch.ones(2, 4, 4), atol=1e-5)
    assert torch.allclose(maps[1:], extractor.extract(images[1:], token="t", cameras=("b",)), atol=1e-6)
    with torch.no_grad():
        cells = extractor.sam.model.get_image_embeddings(extractor.sam._prepare(images[0])[0])[-1][0]
    assert torch.allclose(maps[0], torch.nn.functional.normalize(cells, dim=0), atol=1e-6)
    assert extractor.description == {"features": "sam2", "weights": str(folder)}


def test_wrong_weights_are_named(folder, sam_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"Sam2Segmenter: .*of type sam2 or sam2_video, got sam; SAM 2 is facebook"):
        open_sam(sam_folder)
    with pytest.raises(ConfigError, match=r"Sam2Segmenter: .*no such folder; SAM 2 is facebook/sam2"):
        open_sam(tmp_path / "nowhere")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ConfigError, match=r"cannot be loaded: .*safetensors; SAM 2 is"):
        Sam2FeaturesConfig(weights=str(tmp_path)).build()
    with pytest.raises(ConfigError, match="Sam2Segmenter: max_overlap"):
        Sam2SegmenterConfig(weights="x", max_overlap=1.5)
