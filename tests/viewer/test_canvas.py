import io

import numpy as np
import pytest
from PIL import Image

from occkit.viewer.canvas import add_caption, encode, legend, save_picture, stack, tile, turbo

RED = np.full((20, 40, 3), (255, 0, 0), dtype=np.uint8)
BLUE = np.full((20, 40, 3), (0, 0, 255), dtype=np.uint8)


def test_tile_places_pictures_row_by_row():
    sheet = tile([RED, BLUE, BLUE], columns=2, gap=4)
    assert sheet.shape == (44, 84, 3)
    assert (sheet[:20, :40] == RED).all()
    assert (sheet[:20, 44:] == BLUE).all()
    assert (sheet[24:, :40] == BLUE).all()
    assert (sheet[24:, 44:] == 255).all()


def test_tile_scales_to_a_width():
    assert tile([RED, BLUE], columns=2, gap=0, width=40).shape == (10, 40, 3)
    assert tile([RED, np.repeat(BLUE, 2, axis=0)], columns=1, gap=0).shape == (40, 40, 3)


def test_tile_without_pictures_or_with_wrong_captions_is_refused():
    with pytest.raises(ValueError, match="0 pictures"):
        tile([], columns=2)
    with pytest.raises(ValueError, match="1 captions"):
        tile([RED, BLUE], columns=2, captions=["one"])


def test_caption_does_not_change_the_size_or_the_original():
    before = RED.copy()
    captioned = add_caption(RED, "front", size=10)
    assert captioned.shape == RED.shape
    assert (captioned != RED).any()
    assert (before == RED).all()


def test_stack_fills_with_paper():
    sheet = stack([RED, BLUE[:, :10]], gap=2)
    assert sheet.shape == (42, 40, 3)
    assert (sheet[22:, 10:] == 255).all()


def test_legend_wraps():
    entries = [(f"class {i}", (i, 0, 0)) for i in range(8)]
    assert legend(entries, width=200).shape[0] > legend(entries, width=2000).shape[0]
    assert legend(entries, width=200).shape[1] == 200


def test_turbo_ends():
    low, middle, high = turbo(np.array([-1.0, 0.5, 2.0])).astype(int)
    assert low[2] >= low[1]
    assert middle[1] > middle[0]
    assert high[0] > high[2]


def test_png_is_exact_and_jpeg_is_close(tmp_path):
    assert (np.asarray(Image.open(io.BytesIO(encode(RED)))) == RED).all()
    save_picture(tmp_path / "a" / "red.jpg", RED)
    save_picture(tmp_path / "red.png", RED)
    with Image.open(tmp_path / "a" / "red.jpg") as image:
        assert image.format == "JPEG"
        assert np.abs(np.asarray(image).astype(int) - RED).max() < 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "red.png"]
