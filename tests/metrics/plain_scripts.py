"""Every voxel protocol as the plainest possible script: one Python loop over voxels, one block a published rule."""

from dataclasses import dataclass

import numpy as np
import torch

from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy

FREE = 17


@dataclass(frozen=True)
class Frame:
    label: np.ndarray
    prediction: np.ndarray
    camera: np.ndarray
    lidar: np.ndarray

    def occupancy(self, taxonomy, *, voxel_size=(0.4, 0.4, 0.4), masks=True):
        grid = VoxelGrid(origin=(-1.0, -1.0, -1.0), voxel_size=voxel_size, shape=self.label.shape)
        return Occupancy(
            semantics=torch.from_numpy(self.label),
            grid=grid,
            taxonomy=taxonomy,
            mask_camera=torch.from_numpy(self.camera) if masks else None,
            mask_lidar=torch.from_numpy(self.lidar) if masks else None,
        )


def make_frames(seed, *, num_classes, free, num_frames=2, shape=(6, 5, 4), outside_labels=(255,)):
    """Volumes in which classes are absent, masks are thin or empty, and some labels are no class."""
    rng = np.random.default_rng(seed)
    some = rng.choice(num_classes, rng.integers(1, 6), replace=False)
    frames = []
    for _ in range(num_frames):
        label = rng.choice(np.append(some, free), shape).astype(np.uint8)
        prediction = np.where(rng.random(shape) < 0.6, label, rng.integers(0, num_classes, shape)).astype(np.uint8)
        if rng.random() < 0.5:
            prediction = np.where(np.isin(prediction, some), prediction, free).astype(np.uint8)
        label[rng.random(shape) < 0.1] = rng.choice(outside_labels)
        prediction[prediction >= num_classes] = free
        camera, lidar = (rng.random(shape) < rng.choice([0.0, 0.3, 1.0]) for _ in range(2))
        frames.append(Frame(label, prediction, camera, lidar))
    return frames


def evaluated(frames, mask):
    """Yield `(label, prediction, index)` of each voxel under the mask."""
    for frame in frames:
        for index in np.ndindex(frame.label.shape):
            seen = {
                "camera": frame.camera[index],
                "lidar": frame.lidar[index],
                "camera&lidar": frame.camera[index] and frame.lidar[index],
                "none": True,
            }[mask]
            if seen:
                yield int(frame.label[index]), int(frame.prediction[index]), index


def tally(pairs, num_classes):
    """Return true positives, labelled and predicted voxels a class; labels that are no class count nowhere."""
    true, labelled, predicted = ([0] * num_classes for _ in range(3))
    for label, prediction in pairs:
        if label < num_classes:
            labelled[label] += 1
            predicted[prediction] += 1
            true[label] += label == prediction
    return true, labelled, predicted


def mean(values):
    return sum(values) / len(values) if values else None


def occupied_iou(pairs, free, num_classes):
    both = either = 0
    for label, prediction in pairs:
        if label < num_classes:
            both += label != free and prediction != free
            either += label != free or prediction != free
    return both / either if either else None


def occ3d(frames, mask="camera", classes=range(17), absent_if_unlabelled=False):
    pairs = [(g, p) for g, p, _ in evaluated(frames, mask)]
    true, labelled, predicted = tally(pairs, 18)
    ious = []
    for c in classes:
        union = labelled[c] + predicted[c] - true[c]
        if union > 0 and not (absent_if_unlabelled and labelled[c] == 0):
            ious.append(true[c] / union)
    return mean(ious), occupied_iou(pairs, FREE, 18)


def occ3d_sparseocc(frames):
    return occ3d(frames, absent_if_unlabelled=True)


def occnerf15(frames):
    return occ3d(frames, mask="camera&lidar", classes=[c for c in range(17) if c not in (0, 12)])


def occnerf13(frames):
    return occ3d(frames, mask="camera&lidar", classes=[c for c in range(17) if c not in (0, 2, 6, 12)])


def gaussianflowocc(frames):
    pairs = [(g, p) for g, p, _ in evaluated(frames, "camera") if g not in (0, 12)]
    true, labelled, predicted = tally(pairs, 18)
    ious = []
    for c in [c for c in range(17) if c not in (0, 12)]:
        union = labelled[c] + predicted[c] - true[c]
        if union > 0:
            ious.append(true[c] / union)
    return mean(ious), occupied_iou(pairs, FREE, 18)


def selfocc(frames, border, from_z):
    """`border` voxels on four sides and everything from layer `from_z` up are cleared; 17 -> 0, classes 1..16."""
    pairs = []
    for label, prediction, (x, y, z) in evaluated(frames, "camera"):
        size_x, size_y, _ = frames[0].label.shape
        on_border = x < border or y < border or x >= size_x - border or y >= size_y - border
        if on_border or z >= from_z:
            prediction = 17
        pairs.append((0 if label == 17 else label, 0 if prediction == 17 else prediction))
    true, labelled, predicted = tally(pairs, 17)
    ious = []
    for c in range(1, 17):
        ious.append(1.0 if labelled[c] == 0 else true[c] / (labelled[c] + predicted[c] - true[c]))
    return mean(ious), occupied_iou(pairs, 0, 17)


def surroundocc(frames):
    pairs = [(g, p) for g, p, _ in evaluated(frames, "none")]
    true, labelled, predicted = tally(pairs, 17)
    unions = [labelled[c] + predicted[c] - true[c] for c in range(17)]
    return mean([true[c] / unions[c] for c in range(1, 17) if unions[c]]), occupied_iou(pairs, 0, 17)


def gaussianformer(frames):
    pairs = [(g, p) for g, p, _ in evaluated(frames, "none")]
    true, labelled, predicted = tally(pairs, 17)
    ious = [1.0 if not labelled[c] else true[c] / (labelled[c] + predicted[c] - true[c]) for c in range(1, 17)]
    return mean(ious), occupied_iou(pairs, 0, 17)


def ssc_metrics(frames, num_classes):
    """MonoScene's rule: `(miou, iou, precision, recall)`."""
    pairs = [(g, p) for g, p, _ in evaluated(frames, "none") if g != 255]
    tps, fps, fns = ([0] * num_classes for _ in range(3))
    tp = fp = fn = 0
    for label, prediction in pairs:
        for c in range(num_classes):
            tps[c] += label == c and prediction == c
            fps[c] += label != c and prediction == c
            fns[c] += label == c and prediction != c
        tp += label > 0 and prediction > 0
        fp += label == 0 and prediction > 0
        fn += label > 0 and prediction == 0
    ious = [t / (t + a + b + 1e-5) for t, a, b in zip(tps, fps, fns, strict=True)]
    if tp == 0:
        return mean(ious[1:]), 0.0, 0.0, 0.0
    return mean(ious[1:]), tp / (tp + fp + fn), tp / (tp + fp), tp / (tp + fn)
