"""From a batch to what is drawn together: views for the alignments, images for the codec, frames for perception."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from occkit.geometry import Cameras, ego_motion, invert_pose
from occkit.nn.alignment import Views
from occkit.samples import Batch, Occupancy
from occkit.systems.occscene.stages import ClipConfig
from occkit.taxonomy import Taxonomy


def views_of(cameras: Cameras, clip: ClipConfig) -> Views:
    """Return where the images of a clip look from; lens distortion is left out.

    Args:
        cameras: `[b, t, n]`, time 0 is now; poses in the present ego frame.
        clip: what is drawn together.
    """
    cameras = cameras[:, : clip.num_frames]
    _, times, count = cameras.batch_shape
    size = cameras.intrinsics.new_tensor([cameras.width, cameras.height, 1.0])
    poses, first_from_ego = (
        cameras.ego_from_camera,
        ego_motion(cameras.ego_from_camera)[:, :, None].expand(-1, -1, count, -1, -1),
    )
    if clip.volumes == "each":
        poses = invert_pose(first_from_ego) @ poses
    else:
        first_from_ego = torch.eye(4, device=poses.device).expand_as(poses)
    return Views(
        ego_from_camera=poses.flatten(1, 2),
        intrinsics=(cameras.intrinsics / size[:, None]).flatten(1, 2),
        first_from_ego=first_from_ego.flatten(1, 2),
        times=tuple(time if clip.volumes == "each" else 0 for time in range(times) for _ in range(count)),
    )


def signed_images(images: Tensor) -> Float[Tensor, "*b 3 h w"]:
    """Return RGB 0..255 as -1..1."""
    return images.float() / 127.5 - 1.0


def colour_images(images: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h w"]:
    """Return -1..1 as RGB 0..255; what is beyond is cut off."""
    return (images.clamp(-1.0, 1.0) + 1.0) * 127.5


def perceived(batch: Batch, clip: ClipConfig) -> Batch:
    """Return the frames that perception looks at: the batch itself, or every frame of its clips as a batch of its own.

    What other models said of the photographs is left out: nobody says it of images that are being drawn.
    """
    batch = replace(batch, inputs=None)
    if clip.volumes == "shared" or clip.num_past == 0:
        return batch
    count = clip.num_frames
    cameras = batch.cameras[:, :count]
    own = invert_pose(ego_motion(cameras.ego_from_camera))[:, :, None] @ cameras.ego_from_camera
    frames = replace(cameras, ego_from_camera=own).map(lambda tensor: tensor.flatten(0, 1)[:, None])
    level = batch.noise_level
    return Batch(
        tokens=tuple(f"{token}-{time}" for token in batch.tokens for time in range(count)),
        images=batch.images[:, :count].flatten(0, 1)[:, None],
        cameras=frames,
        grid=batch.grid,
        taxonomy=batch.taxonomy,
        noise_level=None if level is None else level.repeat_interleave(count),
    )


def with_images(batch: Batch, images: Float[Tensor, "b v 3 h w"], level: Float[Tensor, "b"] | None) -> Batch:
    """Return a batch that shows other images, `v` of them in the order of `views_of`.

    Args:
        batch: whose cameras and labels they keep.
        images: RGB 0..255.
        level: how noisy they were; None is not at all.
    """
    count = batch.images.shape[2]
    return replace(batch, images=images.unflatten(1, (-1, count)), noise_level=level)


def labelled(label: Occupancy) -> Bool[Tensor, "b"]:
    """Return which frames have any labelled voxel, on the CPU: a withheld label says nothing anywhere."""
    return (label.semantics != label.taxonomy.ignore_id).flatten(1).any(dim=1).cpu()


def as_probabilities(label: Occupancy, taxonomy: Taxonomy) -> Float[Tensor, "b k x y z"]:
    """Return a label as class probabilities; all zero where it says nothing."""
    ids = label.semantics.long()
    known = ids < taxonomy.num_classes
    spread = torch.nn.functional.one_hot(torch.where(known, ids, 0), taxonomy.num_classes)
    return (spread * known[..., None]).movedim(-1, 1).float()


def label_volumes(label: Occupancy, taxonomy: Taxonomy, clip: ClipConfig) -> Float[Tensor, "b v k x y z"]:
    """Return labels as what the alignments are shown: of a clip only the current frame is labelled."""
    current = as_probabilities(label, taxonomy)[:, None]
    return torch.cat([current, current.new_zeros((len(current), clip.num_volumes - 1, *current.shape[2:]))], dim=1)


def describe_label(label: Occupancy, index: int, taxonomy: Taxonomy, *, most: int = 3) -> str:
    """Return a line of text for a frame of a data set that has none: its most frequent classes, most frequent first."""
    counts = torch.bincount(label.semantics[index].flatten().long(), minlength=256)[: taxonomy.num_classes]
    counts[taxonomy.free_id] = 0
    names = [taxonomy.classes[int(i)] for i in counts.argsort(descending=True, stable=True)[:most] if counts[i] > 0]
    return f"a scene with {', '.join(name.replace('_', ' ').replace('-', ' ') for name in names) or 'nothing'}"
