"""The supervised losses of a labelled voxel volume, weighed by one config that every host shares."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from occkit.errors import ConfigError
from occkit.losses.affinity import classes_affinity, occupied_affinity, probabilities
from occkit.losses.classification import cross_entropy, lovasz_softmax, select_labelled
from occkit.samples import Occupancy
from occkit.taxonomy import Taxonomy


@dataclass(frozen=True, kw_only=True)
class VoxelLossConfig:
    """Weights of the losses on labelled voxels; a loss of weight 0 is not computed."""

    cross_entropy: float = 1.0
    """Weighted cross-entropy over voxels."""
    lovasz: float = 1.0
    """Lovász-softmax over the classes present."""
    semantic_affinity: float = 0.0
    """Scene-class affinity of the classes."""
    geometric_affinity: float = 0.0
    """Scene-class affinity of occupied against free."""
    class_weights: tuple[float, ...] | None = None
    """Cross-entropy weight of each id; None weighs all voxels alike."""
    mask_camera_in_training: bool = True
    """Learn from voxels that a camera sees only. Unseen space is then never taught to be empty."""


def training_mask(config: VoxelLossConfig, label: Occupancy) -> Bool[Tensor, "b x y z"] | None:
    """Return where the losses apply, or None for everywhere.

    Raises:
        ConfigError: if the label lacks the camera mask that the config asks for.
    """
    if not config.mask_camera_in_training:
        return None
    if label.mask_camera is None:
        raise ConfigError(
            "the labels have no camera mask; set mask_camera_in_training of the losses to False for this data set"
        )
    return label.mask_camera


def voxel_losses(
    config: VoxelLossConfig, logits: Float[Tensor, "b k x y z"], label: Occupancy, taxonomy: Taxonomy
) -> dict[str, Tensor]:
    """Return the weighted losses of class scores against a label.

    Args:
        config: which losses, and their weights.
        logits: class scores before softmax.
        label: ids `[b, x, y, z]`, with the camera mask if the config asks for it.
        taxonomy: tells the free and ignore ids.

    Returns:
        Scalars by name: cross_entropy, lovasz, semantic_affinity, geometric_affinity.

    Raises:
        ConfigError: as `training_mask`.

    Source: the sums of FlashOcc (cross-entropy), MonoScene (affinities) and Berman et al. (Lovász); weights by config.
    """
    free, ignore = taxonomy.free_id, taxonomy.ignore_id
    # Once for all of them: each selection has a gradient as large as the volume.
    rows, ids = select_labelled(logits, label.semantics, ignore_id=ignore, mask=training_mask(config, label))
    target = ids.to(label.semantics.dtype)
    losses: dict[str, Tensor] = {}
    if config.cross_entropy:
        weights = None if config.class_weights is None else logits.new_tensor(config.class_weights)
        value = cross_entropy(rows, target, ignore_id=ignore, weights=weights)
        losses["cross_entropy"] = config.cross_entropy * value
    if config.lovasz:
        losses["lovasz"] = config.lovasz * lovasz_softmax(rows, target, ignore_id=ignore)
    shared = probabilities(rows) if config.semantic_affinity or config.geometric_affinity else rows
    if config.semantic_affinity:
        losses["semantic_affinity"] = config.semantic_affinity * classes_affinity(shared, ids)
    if config.geometric_affinity:
        losses["geometric_affinity"] = config.geometric_affinity * occupied_affinity(shared, ids, free_id=free)
    return losses
