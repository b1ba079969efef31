"""The page in a real browser: it loads, and the panel changes the scene. Small scenes: WebGL in software is slow."""

import io
import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from occkit.errors import ConfigError
from occkit.geometry import Cameras, VoxelGrid
from occkit.samples import Occupancy, Sample
from occkit.taxonomy import OCC3D
from occkit.viewer.browser import ABOVE, Browser
from occkit.viewer.heat import heat_volume
from occkit.viewer.keys import Answer, scale_html
from occkit.viewer.scene import EgoCar
from occkit.viewer.scene_files import write_scene_page
from occkit.viewer.show import FrameToShow, Show

GRID = VoxelGrid.from_range((-6, -6, -1), (6, 6, 3), 1.0)
CAR, ROAD, BUS = (OCC3D.id_of(name) for name in ("car", "driveable_surface", "bus"))
CHROMIUM = os.environ.get("OCCKIT_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


def street(index, *, bus=True):
    semantics = torch.full(GRID.shape, OCC3D.free_id, dtype=torch.uint8)
    semantics[:, :, 0] = ROAD
    semantics[1 + index : 4 + index, 5:8, 1] = CAR
    if bus:
        semantics[7:11, 5:9, 1:3] = BUS
    mask = torch.zeros(GRID.shape, dtype=torch.bool)
    mask[6:] = True
    return Occupancy(semantics=semantics, grid=GRID, taxonomy=OCC3D, mask_camera=mask)


def sample(index):
    pose = torch.tensor([[0.0, 0, 1, 1.5], [-1, 0, 0, 0.5], [0, -1, 0, 2.0], [0, 0, 0, 1]])
    matrix = torch.tensor([[30.0, 0, 20], [0, 30, 10], [0, 0, 1]])
    driven = torch.eye(4, dtype=torch.float64)
    driven[0, 3] = 7.0 + 2.0 * index
    return Sample(
        token=f"frame-{index}",
        scene="s",
        timestamp=index,
        images=torch.full((1, 1, 3, 20, 40), 200, dtype=torch.uint8),
        cameras=Cameras(intrinsics=matrix[None, None], ego_from_camera=pose[None, None], height=20, width=40),
        camera_names=("front",),
        grid=GRID,
        taxonomy=OCC3D,
        points=torch.tensor([[3.0, 0, 0, 1]]),
        global_from_ego=driven,
        caption="a <b>street</b>",
    )


def frame(index):
    return FrameToShow(
        token=f"frame-{index}",
        scene="s",
        volumes={
            "prediction": lambda: replace(street(index, bus=False), mask_camera=None),
            "label": lambda: street(index),
        },
        sample=lambda: sample(index),
        ego=EgoCar(),
    )


def answer(query, index, best):
    if query == "nonsense":
        raise ConfigError("query 'nonsense': has no rival but itself")
    volume = street(index)
    voxels = volume.occupied.nonzero().numpy()
    margins = np.where(volume.semantics[volume.occupied].numpy() == (BUS if best else CAR), 0.25, -0.125)
    return Answer(
        volume=heat_volume(voxels, margins, GRID), low=-0.125, high=0.25, remark=f"{query}: 9 of {len(voxels)} found"
    )


def drawn(prompt, seed):
    return FrameToShow(token=f"drawn-{seed}", scene="drawn", volumes={"drawn": lambda: street(0)}, remark=prompt)


SHOW = Show(title="three frames", frames=tuple(frame(i) for i in range(3)))


@pytest.fixture
def browser():
    browser = Browser(SHOW, port=0, ask=answer, draw=drawn)
    yield browser
    browser.stop()


def layers(browser):
    prefix = "/car/voxels/"
    return {name.removeprefix(prefix) for name in browser.stage._nodes if name.startswith(prefix)}


def visible(browser):
    return {name for name in layers(browser) if browser.stage._shown[f"/car/voxels/{name}"]}


def test_what_the_panel_says_is_what_is_shown(browser):
    assert layers(browser) == {"car", "driveable surface"}
    browser._what.value = "errors of prediction"
    browser.redraw()
    assert layers(browser) == {"right", "missed"}
    browser._what.value = "observed"
    browser.redraw()
    assert layers(browser) == {"camera only", "not observed"}
    browser._what.value = "label"
    browser._only_seen.value = True
    browser.redraw()
    assert layers(browser) == {"bus", "driveable surface"}, "the car stands where no camera looks"


def test_a_switched_off_class_stays_off_in_other_frames(browser):
    browser._switch("car", False)
    assert visible(browser) == {"driveable surface"}
    browser._frame.value = 2
    browser.redraw()
    assert visible(browser) == {"driveable surface"}
    browser._switch_all(True)
    assert visible(browser) == {"driveable surface", "car"}
    browser._switch_all(False)
    assert visible(browser) == set()


def test_the_car_drives_unless_it_is_followed(browser):
    browser._frame.value = 2
    browser.redraw()
    np.testing.assert_allclose(browser.stage._car.position, (0, 0, 0))
    browser._follow.value = False
    browser.redraw()
    np.testing.assert_allclose(browser.stage._car.position, (4, 0, 0), atol=1e-9)


def test_a_cut_is_in_shares_of_the_volume(browser):
    browser._axis.value, browser._share.value = "up", 25
    browser.redraw()
    assert layers(browser) == {"driveable surface"}


def test_an_answer_follows_the_frame_and_words_that_cannot_be_asked_change_nothing(browser):
    for words, problem in (("nonsense", "no rival"), ("  ", "say what to look for")):
        with pytest.raises(ConfigError, match=problem):
            browser._look_for(words)
    assert browser._what.value == "prediction"
    browser._look_for("  red   car ")
    assert browser._what.value == "found: red car"
    assert len(layers(browser)) == 2
    assert "red car: 9 of 185 found" in browser._key.content
    browser._only_found.value = True
    browser.redraw()
    assert len(visible(browser)) == 1
    before = browser.stage._nodes["/car/voxels/found 7"].batched_positions[0, 0]
    browser._frame.value = 1
    browser.redraw()
    assert browser.stage._nodes["/car/voxels/found 7"].batched_positions[0, 0] == before + 1
    car = len(browser.stage._nodes["/car/voxels/found 7"].batched_positions)
    browser._best.value = True
    browser.redraw()
    assert len(browser.stage._nodes["/car/voxels/found 7"].batched_positions) > car, "the bus is larger"


def test_a_drawn_scene_becomes_a_frame(browser):
    browser._draw_scene("a bus", 5)
    assert len(browser.frames) == 4
    assert "drawn-5" in browser._about.content
    assert "a bus" in browser._about.content
    assert layers(browser) == {"car", "bus", "driveable surface"}


def test_the_scale_says_where_found_begins():
    said = scale_html(answer("<b>", 0, False))
    assert "&lt;b&gt;" in said
    assert "-0.125" in said
    assert "0.250" in said


def test_a_taken_port_and_an_unknown_volume_are_said(browser):
    with pytest.raises(ConfigError, match="another --port"):
        Browser(SHOW, port=browser.server.get_port())
    with pytest.raises(ConfigError, match="no volume 'errors'"):
        Browser(SHOW, port=0, first="errors")


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


def pixels(page, colour, tolerance=45):
    """Return how many pixels of the page have about this colour."""
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot(timeout=120_000))).convert("RGB")).astype(int)
    scene = picture[:, : picture.shape[1] - 330]  # the panel lies over the right side
    return int((np.abs(scene - colour).max(axis=2) < tolerance).sum())


def wait_for(condition, seconds=90):
    end = time.time() + seconds
    while time.time() < end:
        if condition():
            return
        time.sleep(0.5)
    pytest.fail("the page did not get there")


@needs_browser
def test_a_visitor_types_switches_and_moves_the_slider(browser, chromium):
    car, bus = OCC3D.colours[CAR], OCC3D.colours[BUS]
    page = chromium.new_page(viewport={"width": 760, "height": 420})
    errors = []
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(browser.address)
    wait_for(lambda: pixels(page, car) > 100)
    page.get_by_text("frame-0").wait_for()
    assert page.get_by_text("a <b>street</b>").count() == 1, "a caption is text and no markup"

    page.get_by_label("car", exact=True).first.click(force=True)
    wait_for(lambda: "car" not in visible(browser))
    wait_for(lambda: pixels(page, car) < 20)
    page.get_by_label("car", exact=True).first.click(force=True)
    wait_for(lambda: pixels(page, car) > 100)

    slider = page.get_by_role("slider").first
    slider.focus()
    page.keyboard.press("ArrowRight")
    wait_for(lambda: int(browser._frame.value) == 1)
    page.get_by_text("frame-1").wait_for()

    words = page.locator("form input").first
    words.click(force=True)
    page.keyboard.type("red car")
    wait_for(lambda: browser._words.value == "red car")  # a page without a GPU sends the last letters late
    page.keyboard.press("Enter")
    wait_for(lambda: browser._what.value == "found: red car")
    wait_for(lambda: pixels(page, (205, 15, 45), 60) > 100)
    assert pixels(page, bus) < 20
    assert errors == []
    page.close()


@needs_browser
def test_the_written_page_opens_from_disk_with_the_network_off(chromium, tmp_path):
    path = tmp_path / "street.html"
    write_scene_page(path, [frame(0).read()], "label", title="a street")
    context = chromium.new_context(viewport={"width": 760, "height": 420}, offline=True)
    page = context.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    wait_for(lambda: pixels(page, OCC3D.colours[BUS]) > 100)
    assert page.get_by_text("driveable surface").count() == 1
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    context.close()


@needs_browser
def test_a_visitor_looks_from_above_and_from_a_camera(browser, chromium):
    page = chromium.new_page(viewport={"width": 760, "height": 420})
    page.goto(browser.address)
    wait_for(lambda: browser.server.get_clients())
    (client,) = browser.server.get_clients().values()
    browser._from.value = ABOVE
    browser._look_from(client)
    wait_for(lambda: client.camera.position[2] > 10)
    browser._from.value = "front"
    browser._look_from(client)
    wait_for(lambda: np.allclose(client.camera.position, (1.5, 0.5, 2.0), atol=1e-3))
    forward = np.array(client.camera.look_at) - np.array(client.camera.position)
    assert forward[0] > 0
    assert client.camera.fov == pytest.approx(2 * np.arctan(10 / 30), abs=1e-3)
    page.close()
