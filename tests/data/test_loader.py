"""Which frames a step sees, whoever asks and however many workers read."""

import threading

import layouts
import numpy as np
import pytest
import torch

from occkit.data import (
    AugmentConfig,
    DataConfig,
    Turns,
    batch_indices,
    evaluation_indices,
    iterate_batches,
    iterate_evaluation,
    open_dataset,
)
from occkit.data.cache import ByteCache
from occkit.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return layouts.write_nuscenes(tmp_path_factory.mktemp("loader"), scenes=("scene-0001",), frames=5, val=())


def opened(root, augment=None, **options):
    config = DataConfig(image_size=(24, 32), augment=augment, load_points=True)
    return open_dataset(root, split="train", config=config, training=True, **options)


def test_each_epoch_shows_every_frame_once_in_another_order():
    order = [i for step in range(20) for i in batch_indices(10, batch_size=2, step=step, seed=3)]
    epochs = [order[k : k + 10] for k in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_batches_run_over_the_end_of_an_epoch():
    order = [i for step in range(10) for i in batch_indices(7, batch_size=4, step=step, seed=0)]
    assert sorted(order[:7]) == sorted(order[7:14]) == list(range(7))
    assert len(batch_indices(1, batch_size=3, step=0, seed=0)) == 3


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_out_the_batch_of_one(world_size):
    for step in range(7):
        together = batch_indices(23, batch_size=4 * world_size, step=step, seed=1)
        parts = [
            batch_indices(23, batch_size=4, step=step, seed=1, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        assert [i for part in parts for i in part] == together


def test_the_order_is_fixed_for_ever():
    """A resumed training must see what the stopped one would have seen, also after an update of this package."""
    assert batch_indices(10, batch_size=10, step=0, seed=0) == [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]


def test_a_small_group_takes_turns_with_a_large_one():
    turns = Turns(first=(0, 1), second=tuple(range(2, 10)), share=0.5)
    order = [batch_indices(10, batch_size=2, step=step, seed=0, turns=turns) for step in range(8)]
    assert [sum(i < 2 for i in batch) for batch in order] == [1] * 8
    seen = [i for batch in order for i in batch]
    assert sorted(i for i in seen if i >= 2) == list(range(2, 10))
    assert [seen.count(i) for i in (0, 1)] == [4, 4]
    alone = Turns(first=(4, 7), second=(), share=1.0)
    assert sorted(batch_indices(10, batch_size=2, step=3, seed=0, turns=alone)) == [4, 7]
    thirds = Turns(first=(0,), second=(1,), share=0.3)
    assert sum(i == 0 for i in batch_indices(2, batch_size=100, step=0, seed=0, turns=thirds)) == 30


@pytest.mark.parametrize(
    ("first", "second", "share"), [((), (1,), 0.5), ((1,), (), 0.5), ((1,), (2,), 0.0), ((1,), (2,), 2)]
)
def test_turns_need_two_groups_and_a_share(first, second, share):
    with pytest.raises(ConfigError, match="share"):
        Turns(first=first, second=second, share=share)


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"step": -1}, {"rank": 2, "world_size": 2}, {"world_size": 0}])
def test_impossible_batches_are_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        batch_indices(10, **({"batch_size": 1, "step": 0, "seed": 0} | wrong))
    with pytest.raises(ValueError, match="num_frames"):
        batch_indices(0, batch_size=1, step=0, seed=0)


@pytest.mark.parametrize(("count", "world_size"), [(10, 1), (10, 3), (2, 5), (1, 4), (12, 4), (0, 2)])
def test_evaluation_is_shared_out_evenly_and_misses_none(count, world_size):
    parts = [evaluation_indices(count, rank, world_size) for rank in range(world_size)]
    assert len({len(part) for part in parts}) == 1
    shared = [i for part in parts for i in part]
    assert set(shared) == set(range(count))
    assert len(shared) < count + world_size


def equal(a, b):
    assert a.tokens == b.tokens
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.cameras.intrinsics, b.cameras.intrinsics)
    assert torch.equal(a.cameras.ego_from_camera, b.cameras.ego_from_camera)
    assert torch.equal(a.occupancy.semantics, b.occupancy.semantics)
    assert torch.equal(a.depth, b.depth)
    return True


@pytest.mark.parametrize("augment", [None, AugmentConfig()])
def test_batches_do_not_depend_on_workers_cache_or_start(root, augment):
    runs = [
        list(iterate_batches(data, batch_size=2, start_step=0, steps=6, seed=4, num_workers=workers))
        for data, workers in (
            (opened(root, augment), 0),
            (opened(root, augment), 3),
            (opened(root, augment, cache_bytes=0), 1),
            (opened(root, augment, cache_bytes=20_000), 2),
        )
    ]
    for run in runs[1:]:
        assert all(equal(a, b) for a, b in zip(runs[0], run, strict=True))
    late = list(iterate_batches(opened(root, augment), batch_size=2, start_step=4, steps=2, seed=4, num_workers=2))
    assert all(equal(a, b) for a, b in zip(runs[0][4:], late, strict=True))


def test_augmentation_differs_between_epochs_and_not_in_evaluation(root):
    data = opened(root, AugmentConfig())
    first, second = (data.sample(0, seed=k) for k in (1, 2))
    assert not torch.equal(first.images, second.images)
    plain = opened(root)[0]
    assert torch.equal(data[0].images, plain.images)
    shown = open_dataset(root, split="train", config=data.config).sample(0, seed=1)
    assert torch.equal(shown.images, plain.images)
    (batch,) = iterate_evaluation(data, batch_size=9)
    assert torch.equal(batch.images[0], plain.images)


def test_augmented_points_still_fall_where_their_depth_says(root):
    data = opened(root, AugmentConfig())
    for seed in range(6):
        sample = data.sample(1, seed=seed)
        pixels, depth, visible = sample.cameras[0, 0].project(sample.points[:, :3])
        rows = visible & (depth > 1.01)
        column, row = pixels[rows].floor().long().unbind(-1)
        inside = sample.depth[0, row, column]
        # Rounding may carry a point on the edge of a pixel over it, once in a while.
        assert (inside > 0).float().mean() > 0.98
        assert (inside <= depth[rows] + 1e-3).float().mean() > 0.98


def test_evaluation_runs_in_order_with_a_smaller_last_batch(root):
    tokens = [b.tokens for b in iterate_evaluation(opened(root), batch_size=2, num_workers=2)]
    assert tokens == [("0001f0", "0001f1"), ("0001f2", "0001f3"), ("0001f4",)]
    tokens = [b.tokens for b in iterate_evaluation(opened(root), batch_size=2, indices=[4, 0, 0], num_workers=0)]
    assert tokens == [("0001f4", "0001f0"), ("0001f0",)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_reaches_the_caller(tmp_path, workers):
    layouts.write_nuscenes(tmp_path, scenes=("scene-0001",), frames=2, val=())
    path = tmp_path / "samples/CAM_FRONT/0001f1-CAM_FRONT.png"
    path.write_bytes(path.read_bytes()[:100])
    batches = iterate_batches(opened(tmp_path), batch_size=1, start_step=0, steps=8, seed=0, num_workers=workers)
    with pytest.raises(DataError, match="0001f1-CAM_FRONT"):
        list(batches)


def test_an_abandoned_loader_stops_its_workers(root):
    import threading

    batches = iterate_batches(opened(root), batch_size=1, start_step=0, steps=10**6, seed=0, num_workers=2)
    next(batches)
    assert any(t.name.startswith("occkit-loader") for t in threading.enumerate())
    batches.close()
    assert not any(t.name.startswith("occkit-loader") for t in threading.enumerate())


def test_workers_compute_on_one_core_each_and_the_caller_keeps_its_own(root):
    """A worker's team of threads would leave the training's waiting at every small operation."""
    dataset, seen, before = opened(root), [], torch.get_num_threads()
    torch.set_num_threads(2)

    class Watched(type(dataset)):
        def sample(self, index, *, seed=None):
            torch.ones(200_000).add(1).sum()  # large enough to be spread over threads
            seen.append(torch.get_num_threads())
            return super().sample(index, seed=seed)

    dataset.__class__ = Watched
    try:
        assert len(list(iterate_batches(dataset, batch_size=2, start_step=0, steps=4, seed=0, num_workers=2))) == 4
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
        later = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]
    finally:
        torch.set_num_threads(before)


def test_the_cache_keeps_what_came_first_within_its_limit():
    cache, made = ByteCache(100), []

    def make(name, size):
        return cache.get(name, lambda: made.append(name) or torch.zeros(size, dtype=torch.uint8))

    for _ in range(2):
        for name, size in (("a", 60), ("b", 60), ("c", 30)):
            assert make(name, size).numel() == size
    assert made == ["a", "b", "c", "b"]
    assert cache.num_bytes == 90


def test_two_of_one_are_one_of_two(root):
    data = opened(root)
    both = next(iter(iterate_evaluation(data, batch_size=2, num_workers=0)))
    single = [next(iter(iterate_evaluation(data, batch_size=1, indices=[k], num_workers=0))) for k in (0, 1)]
    assert torch.equal(both.images, torch.cat([b.images for b in single]))
    assert np.array_equal(both.depth, torch.cat([b.depth for b in single]))


@pytest.mark.parametrize("wrong", [{"image_size": (0, 5)}, {"num_past": -1}, {"cameras": ()}, {"cameras": ("a", "a")}])
def test_configs_that_cannot_work_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DataConfig(**wrong)


def test_frames_that_are_not_there(root):
    data = opened(root)
    assert data[-1].token == data.tokens[-1]
    for index in (5, -6):
        with pytest.raises(IndexError):
            data[index]
