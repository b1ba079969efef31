"""What the LiDAR of a world hit, in the world's own words, and the queries made of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from occkit.data import DataConfig, open_dataset
from occkit.errors import DataError
from occkit.foundation.truth import find_frame, read_point_words, world_words
from occkit.training.world_queries import LONG_TAIL, world_queries
from occkit.world import PRESETS, generate
from occkit.world.words import WORDS, kitti_table, occ3d_table

POINTS = DataConfig(load_points=True)


@pytest.fixture(scope="module")
def tail(tmp_path_factory):
    """A street with many of the things that no taxonomy names."""
    root = tmp_path_factory.mktemp("tail")
    generate(replace(PRESETS["nano"], frames=2, long_tail=4.0), root, num_scenes=3, seed=2)
    return root


def test_words_of_points_are_those_of_the_voxels_they_lie_in(nuscenes_world):
    data = open_dataset(nuscenes_world, split="all", config=POINTS)
    table = torch.from_numpy(occ3d_table())
    for sample in data:
        words = read_point_words(nuscenes_world, sample.token, count=len(sample.points))
        assert words.dtype == np.uint8
        assert words.min() > 0
        index, inside = sample.grid.index_of(sample.points[:, :3])
        labels = sample.occupancy.semantics[tuple(index[inside].T)]
        # Voxels hold several things; one of them names it.
        assert (labels == table[torch.from_numpy(words).long()][inside]).float().mean() > 0.9


def test_words_of_points_are_what_the_point_labels_say(kitti_world):
    data = open_dataset(kitti_world, split="all", config=POINTS)
    standing, moving = kitti_table(moving=False), kitti_table(moving=True)
    for sample in data:
        words = read_point_words(kitti_world, sample.token, count=len(sample.points))
        sequence, frame = sample.token.split("_")
        folder = kitti_world / "dataset" / "sequences" / sequence
        if sequence >= "11":
            folder = kitti_world / "truth" / "sequences" / sequence
        ids = np.fromfile(folder / "labels" / f"{frame}.label", "<u4") & 0xFFFF
        assert ((ids == standing[words]) | (ids == moving[words])).all()


def test_without_truth_layers_there_are_no_words(tmp_path):
    generate(replace(PRESETS["nano"], frames=1, truth=False), tmp_path, num_scenes=1, seed=1)
    assert not (tmp_path / "truth").exists()
    with pytest.raises(DataError, match="with its truth layers"):
        world_queries(open_dataset(tmp_path, split="all", config=POINTS))


def test_words_of_another_sweep_or_of_no_points_are_refused(tail, tmp_path):
    data = open_dataset(tail, split="all", config=POINTS)
    sample = data[0]
    with pytest.raises(DataError, match=r"points\.npz: words: expected uint8 \(5,\) like the sweep"):
        read_point_words(tail, sample.token, count=5)
    path = find_frame(tail, sample.token) / "points.npz"
    sound = path.read_bytes()
    try:
        path.write_bytes(sound[:30])
        with pytest.raises(DataError, match=r"points\.npz.*write the world again"):
            read_point_words(tail, sample.token, count=len(sample.points))
        path.unlink()
        with pytest.raises(DataError, match=r"points\.npz: no such file.*write the world again"):
            read_point_words(tail, sample.token, count=len(sample.points))
    finally:
        path.write_bytes(sound)


def test_every_long_tail_word_with_enough_points_is_asked_for(tail):
    data = open_dataset(tail, split="val", config=POINTS)
    words = world_words(tail)
    queries = world_queries(data, min_points=3)
    expected = []
    for sample in data:
        hit = read_point_words(tail, sample.token, count=len(sample.points))
        counts = {word: int((hit == words.index(word)).sum()) for word in LONG_TAIL}
        expected += [(sample.token, word, count) for word, count in counts.items() if count >= 3]
    assert [(q.token, q.query, int(q.relevant.sum())) for q in queries] == expected
    assert len(queries) >= 3
    most = max(count for _, _, count in expected)
    assert {int(q.relevant.sum()) for q in world_queries(data, min_points=most)} == {most}
    assert world_queries(data, min_points=most + 1) == ()
    assert {q.query for q in world_queries(data, words=("car", "road"))} <= {"car", "road"}


def test_visible_points_are_those_that_an_image_shows(tail):
    data = open_dataset(tail, split="val", config=POINTS)
    query = world_queries(data, words=("road",))[0]
    sample = data[data.tokens.index(query.token)]
    seen = torch.zeros(len(sample.points), dtype=torch.bool)
    for camera in range(len(sample.camera_names)):
        pixels, depth, _ = sample.cameras[0, camera].project(sample.points[:, :3])
        u, v = pixels.T
        seen |= (depth > 1) & (u >= 0) & (u < sample.cameras.width) & (v >= 0) & (v < sample.cameras.height)
    assert torch.equal(query.visible, seen)
    assert 0.2 < seen.float().mean() < 1


def test_what_a_world_cannot_be_asked(tail):
    data = open_dataset(tail, split="val", config=POINTS)
    with pytest.raises(ValueError, match="got also zebra"):
        world_queries(data, words=("car", "zebra"))
    with pytest.raises(ValueError, match="min_points: expected 1 or more"):
        world_queries(data, min_points=0)
    with pytest.raises(DataError, match="load_points"):
        world_queries(open_dataset(tail, split="val", config=DataConfig()))
    assert {word.name for word in WORDS} >= set(LONG_TAIL)
