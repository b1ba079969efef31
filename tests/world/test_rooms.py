"""Rooms: furniture stands where it may, labels follow NYUv2's habits, and the same seed gives the same bytes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from occkit.data.nyuv2 import NYUV2_GRID, ego_from_world, read_volume, volume_to_sample
from occkit.errors import ConfigError
from occkit.files import read_image, read_json, read_npz_array
from occkit.foundation.simulated_grounding import SimulatedLabellerConfig
from occkit.foundation.truth import read_truth, world_taxonomy, world_words
from occkit.taxonomy import NYUV2, nyuv2_lookup
from occkit.world import PRESETS, ROOM_PRESETS, RoomConfig, generate
from occkit.world.nyuv2 import caption, photograph
from occkit.world.room_plan import RoomPlan
from occkit.world.room_scene import make_room
from occkit.world.room_words import ROOM_WORDS, nyuv2_table, raw_table, room_word_id
from occkit.world.rooms import KINDS, SIZES

SMALL = RoomConfig(height=30)
SIGNATURE = {
    "bedroom": "bed", "living room": "sofa", "dining room": "table", "kitchen": "stove", "office": "desk",
    "bathroom": "toilet", "meeting room": "table",
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rooms")
    generate(SMALL, root, format="nyuv2", num_scenes=4, seed=3)
    return root


@pytest.fixture(scope="module")
def many():
    return {kind: [make_room(replace(SMALL, room=kind), "x", (9, i)) for i in range(4)] for kind in KINDS}


def test_nothing_intersects_and_everything_is_inside(many):
    let_in = {"window", "door"}
    for rooms in many.values():
        for room in rooms:
            low = np.concatenate([piece.solids.bounds()[0] for piece in room.pieces])
            high = np.concatenate([piece.solids.bounds()[1] for piece in room.pieces])
            owner = np.repeat(np.arange(len(room.pieces)), [len(piece.solids) for piece in room.pieces])
            shared = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
            meet = (shared > 0.005).all(axis=2) & (owner[:, None] != owner)
            assert not meet.any(), [room.pieces[owner[i]].name for i in np.flatnonzero(meet.any(1))]
            corner = np.array([*room.corner, 0.0])
            for piece in room.pieces:
                if piece.name not in let_in:
                    assert (piece.low > corner - 0.005).all(), piece.name
                    assert (piece.high < corner + np.array(room.size) + 0.005).all(), piece.name


def test_nothing_hangs_before_a_window_or_a_door(many):
    for rooms in many.values():
        for room in rooms:
            for pane in (p for p in room.pieces if p.name in ("window", "door")):
                across = 0 if abs(np.cos(pane.yaw)) > 0.5 else 1
                low, high = pane.low.copy(), pane.high.copy()
                low[across], high[across] = low[across] - 0.05, high[across] + 0.05
                low[1 - across], high[1 - across] = low[1 - across] + 0.25, high[1 - across] - 0.25
                for piece in room.pieces:
                    if piece is not pane:
                        first, last = piece.solids.bounds()
                        shared = np.minimum(high, last) - np.maximum(low, first)
                        assert not (shared > 0.005).all(axis=1).any(), (pane.name, piece.name)


def test_every_kind_has_what_makes_it_one(many):
    for kind, rooms in many.items():
        names = [{piece.name for piece in room.pieces} for room in rooms]
        assert sum(SIGNATURE[kind] in found for found in names) >= 3, (kind, names)
        assert all(SIZES[kind][0][0] <= room.size[0] <= SIZES[kind][0][1] for room in rooms)
    assert all(any("chair" in p.name for p in room.pieces) for room in many["dining room"])


def test_the_camera_stands_like_nyus(many):
    for rooms in many.values():
        for room in rooms:
            pose = room.world_from_camera
            assert np.allclose(pose[:2, 3], 0)  # the world's origin is below it
            assert 1.0 < pose[2, 3] < 1.65
            down = np.degrees(np.arcsin(-pose[2, 2]))
            assert 0 < down < 25
            assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
            assert abs(pose[2, 0]) < 0.12  # hardly rolled
            # The volume begins about a metre before it and ends 5.8 m away, as SSCNet placed it.
            middle = room.origin[:2] + 2.4
            assert np.linalg.norm(middle) == pytest.approx(3.4 * np.cos(np.radians(down)), abs=1e-6)
            assert room.origin[2] == -0.05


def test_a_television_faces_the_room_and_chairs_their_table(many):
    for room in many["living room"]:
        for piece in room.pieces:
            if piece.name == "television":
                forward = np.array([np.cos(piece.yaw), np.sin(piece.yaw)])
                middle = np.array(room.corner) + np.array(room.size[:2]) / 2
                place = (piece.low + piece.high)[:2] / 2
                assert (middle - place) @ forward > 0
    for room in many["dining room"]:
        (table,) = (p for p in room.pieces if p.name == "table")
        for piece in room.pieces:
            if piece.name == "chair":
                towards = (table.low + table.high)[:2] / 2 - (piece.low + piece.high)[:2] / 2
                heading = np.array([np.cos(piece.yaw), np.sin(piece.yaw)])
                assert towards @ heading > 0.35 * np.linalg.norm(towards)


def test_a_picture_has_light_and_no_hole(many):
    for rooms in many.values():
        picture = photograph(rooms[0], SMALL)
        assert picture.colour.shape == (30, 40, 3)
        assert 25 < picture.colour.mean() < 235
        assert (picture.word > 0).all()  # the room is closed
        assert (picture.depth > 0).all()
        assert picture.depth.max() < 8.19


def test_lamps_light_what_they_reach_and_cast_shadows():
    room = make_room(replace(SMALL, room="office", light="evening"), "x", (1, 1))
    dark = replace(room, look=replace(room.look, lamps=np.zeros((0, 4))))
    lit, unlit = (photograph(r, replace(SMALL, sensor_noise=0.0)).colour.astype(int) for r in (room, dark))
    assert (lit >= unlit).all()
    assert (lit > unlit + 5).mean() > 0.3
    shadowless = photograph(room, replace(SMALL, sensor_noise=0.0, shadows=False)).colour.astype(int)
    assert (shadowless >= lit).all()
    assert (shadowless > lit + 5).mean() > 0.02


def test_files_of_a_room(world):
    assert sorted(p.name for p in world.glob("NYU*/*.bin")) == [f"NYU000{i}_0000.bin" for i in (1, 2, 3, 4)]
    assert [p.name for p in (world / "NYUtest").glob("*.bin")] == ["NYU0004_0000.bin"]
    captions = read_json(world / "captions.json")
    assert list(captions) == [f"NYU000{i}_0000" for i in (1, 2, 3, 4)]
    assert read_image(world / "NYUtrain" / "NYU0001_0000_color.jpg").shape == (3, 30, 40)
    names = world_words(world)
    assert names == tuple(word.name for word in ROOM_WORDS)
    assert world_taxonomy(world) is NYUV2


def test_labels_follow_the_habits_of_nyuv2(world):
    """255 only where the floor does not reach and nothing is; 0 wherever no pixel can look, even in furniture."""
    for path in world.glob("NYU*/*.bin"):
        volume = read_volume(path)
        ids = volume_to_sample(volume.ids)
        words = read_npz_array(world / "truth" / path.stem.split("_")[0] / "0000" / "voxels.npz", "words")
        stored = raw_table()[words]
        seen = (ids != 0) & (ids != 255)
        assert np.array_equal(ids[seen], stored[seen])
        grid = NYUV2_GRID
        centres = [grid.origin[i] + (np.arange(n) + 0.5) * 0.02 for i, n in enumerate(ids.shape)]
        points = np.stack(np.meshgrid(*centres, indexing="ij"), -1)[::7, ::7, ::7].reshape(-1, 3)
        camera = np.linalg.inv(ego_from_world(volume.origin) @ volume.world_from_camera)
        x, y, z = (points @ camera[:3, :3].T + camera[:3, 3]).T
        inside = (z > 0) & (np.abs(x) < 320 / 518.8579 * z) & (np.abs(y) < 240 / 518.8579 * z)
        sampled, truth = ids[::7, ::7, ::7].ravel(), stored[::7, ::7, ::7].ravel()
        assert np.array_equal(sampled[inside & (truth > 0)], truth[inside & (truth > 0)])
        assert np.isin(sampled[~inside], (0, 255)).all()
        outside = (ids == 255).all(axis=2)  # whole columns: the floor's outline decides, not the height
        assert outside.any()
        assert ((ids == 255).any(axis=2) == outside)[~(stored > 0).any(axis=2)].all()


def test_truth_layers_agree_with_the_label(world):
    for token in read_json(world / "captions.json"):
        truth = read_truth(world, token, "color", size=(30, 40))
        assert np.array_equal(truth.semantics, nyuv2_table()[truth.words])
        assert set(np.unique(truth.semantics)) <= set(range(1, 12))
    labeller = SimulatedLabellerConfig.realistic(world).build()
    assert labeller.taxonomy is NYUV2


def test_captions_count_what_is_in_view(world):
    captions = read_json(world / "captions.json").values()
    assert all(any(f"{kind} " in text for kind in KINDS) for text in captions)
    room = make_room(replace(SMALL, room="office", light="day"), "x", (0, 0))
    assert caption(room, {"desk": 2, "bookshelf": 1}) == "an office by day, with 2 desks, 1 bookshelf"
    assert caption(room, {}) == "an office by day, empty"


def test_the_same_bytes_whatever_the_workers(world, tmp_path):
    generate(SMALL, tmp_path, format="nyuv2", num_scenes=4, seed=3, workers=2)
    files = sorted(p.relative_to(world) for p in world.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert all((world / f).read_bytes() == (tmp_path / f).read_bytes() for f in files)


def test_words_have_a_place_in_nyuv2():
    assert len({word.name for word in ROOM_WORDS}) == len(ROOM_WORDS)
    assert np.array_equal(nyuv2_lookup()[raw_table()], nyuv2_table())
    assert NYUV2.classes[nyuv2_table()[room_word_id("night stand")]] == "furniture"
    assert set(nyuv2_table().tolist()) == set(range(12))
    with pytest.raises(ValueError, match="not in the vocabulary of rooms"):
        room_word_id("lighthouse")


def test_a_plan_refuses_what_does_not_fit(many):
    from occkit.world.furniture import bed
    from occkit.world.painter import Painter

    plan = RoomPlan(2.0, 2.5, 2.4, Painter(np.random.default_rng(0), 0.3))
    parts = bed(plan.painter)
    assert plan.at_wall("bed", parts, "far", 1.0) is not None
    assert plan.at_wall("bed", parts, "near", 1.0) is None  # it would stand in the first
    assert plan.put("bed", parts, 0.1, 0.1) is None  # through the wall


def test_what_makes_no_room_is_refused(tmp_path):
    with pytest.raises(ValueError, match="divisible by 3"):
        RoomConfig(height=100)
    with pytest.raises(ValueError, match="colour_overlap"):
        RoomConfig(colour_overlap=2.0)
    with pytest.raises(ConfigError, match="describes rooms"):
        generate(SMALL, tmp_path, format="nuscenes", num_scenes=1)
    with pytest.raises(ConfigError, match="describes streets"):
        generate(PRESETS["nano"], tmp_path, format="nyuv2", num_scenes=1)
    with pytest.raises(ConfigError, match="third split"):
        generate(ROOM_PRESETS["room"], tmp_path, format="nyuv2", num_scenes=2, num_test=1)
