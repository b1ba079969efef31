"""A small scene that any system can be shown: boxes on a street, drawn into the images of a ring of cameras."""

import math
from collections.abc import Callable

import pytest
import torch

from occkit.geometry import (
    Cameras,
    VoxelGrid,
    pose_from_rotation_translation,
    rotation_from_yaw,
)
from occkit.samples import FeatureRays, ImageInputs, Occupancy, Sample, Teaching
from occkit.taxonomy import Taxonomy

EGO_FROM_OPTICAL = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
MakeSample = Callable[..., Sample]


def ring_of_cameras(num_frames: int, num_cameras: int, height: int, width: int) -> Cameras:
    """Cameras on a car that drives along x, two metres a frame; the pose of the past is in the present frame."""
    intrinsics = torch.tensor([[0.8 * width, 0.0, width / 2], [0.0, 0.8 * width, height / 2], [0.0, 0.0, 1.0]])
    yaws = torch.arange(num_cameras) * (2 * math.pi / num_cameras)
    rotation = rotation_from_yaw(yaws) @ EGO_FROM_OPTICAL
    mounting = torch.stack([yaws.cos(), 0.5 * yaws.sin(), torch.full_like(yaws, 1.6)], dim=-1)
    driven = torch.tensor([2.0, 0.0, 0.0]) * torch.arange(num_frames)[:, None, None]
    poses = pose_from_rotation_translation(
        rotation.expand(num_frames, num_cameras, 3, 3), mounting.expand(num_frames, num_cameras, 3) - driven
    )
    return Cameras(
        intrinsics=intrinsics.expand(num_frames, num_cameras, 3, 3).clone(),
        ego_from_camera=poses,
        height=height,
        width=width,
    )


def boxes(grid: VoxelGrid, taxonomy: Taxonomy, generator: torch.Generator) -> torch.Tensor:
    """Ground in the lower half of the heights that lie below 0, and twenty boxes of random classes on it."""
    volume = torch.full(grid.shape, taxonomy.free_id, dtype=torch.uint8)
    ground = max(1, int((0 - grid.origin[2]) / grid.voxel_size[2]))
    volume[:, :, :ground] = taxonomy.semantic_ids[len(taxonomy.semantic_ids) // 2]
    for _ in range(20):
        x, y = (int(torch.randint(0, max(n - 4, 1), (), generator=generator)) for n in grid.shape[:2])
        choice = int(torch.randint(0, len(taxonomy.semantic_ids), (), generator=generator))
        volume[x : x + 4, y : y + 4, ground : ground + 3] = taxonomy.semantic_ids[choice]
    return volume


@pytest.fixture(scope="session")
def make_sample() -> MakeSample:
    """Return a function that makes the sample of a seed: labels, masks, points, depth and a teacher included."""

    def make(
        *,
        grid: VoxelGrid,
        taxonomy: Taxonomy,
        size: tuple[int, int],
        num_frames: int = 1,
        num_cameras: int = 6,
        num_sources: int = 0,
        num_rays: int = 0,
        seed: int = 0,
    ) -> Sample:
        generator = torch.Generator().manual_seed(seed)
        cameras = ring_of_cameras(num_frames, num_cameras, *size)
        volume = boxes(grid, taxonomy, generator)
        occupied = (volume != taxonomy.free_id).nonzero()
        chosen = occupied[torch.randperm(len(occupied), generator=generator)[:4000]]
        points = grid.points_at(chosen + torch.rand(chosen.shape, generator=generator))
        shades = torch.linspace(30, 255, taxonomy.num_classes)[volume[chosen.unbind(-1)].long()].to(torch.uint8)
        images = torch.randint(0, 30, (num_frames, num_cameras, 3, *size), generator=generator, dtype=torch.uint8)
        depth = torch.zeros(num_cameras, *size)
        for time in range(num_frames):
            pixels, z, visible = cameras[time].project(points.expand(num_cameras, -1, -1))
            for camera in range(num_cameras):
                seen = visible[camera]
                column, row = pixels[camera, seen].long().unbind(-1)
                images[time, camera, :, row, column] = shades[seen]
                if time == 0:
                    depth[camera, row, column] = z[camera, seen]
        # What was seen half a second earlier, a second earlier, and so on, stands for any other time.
        later = ring_of_cameras(1 + num_sources, num_cameras, *size)[1:]
        sources = torch.randint(0, 256, (num_sources, num_cameras, 3, *size), generator=generator, dtype=torch.uint8)
        rays = None
        if num_rays:
            directions = torch.randn(num_rays, 3, generator=generator) * torch.tensor([1.0, 1.0, 0.2])
            seen = torch.randn(num_rays, 64, generator=generator)
            rays = FeatureRays(
                origins=torch.tensor([0.0, 0.0, 1.6]).expand(num_rays, 3).clone(),
                directions=torch.nn.functional.normalize(directions, dim=1),
                features=torch.nn.functional.normalize(seen, dim=1),
                steps=torch.randint(-1, 2, (num_rays,), generator=generator),
            )
        return Sample(
            token=f"frame{seed}",
            scene="boxes",
            timestamp=seed,
            images=images,
            cameras=cameras,
            camera_names=tuple(f"camera{i}" for i in range(num_cameras)),
            grid=grid,
            taxonomy=taxonomy,
            occupancy=Occupancy(
                semantics=volume,
                grid=grid,
                taxonomy=taxonomy,
                mask_camera=torch.rand(grid.shape, generator=generator) < 0.7,
                mask_lidar=torch.rand(grid.shape, generator=generator) < 0.7,
            ),
            points=torch.cat([points, torch.rand(len(points), 1, generator=generator)], dim=1),
            depth=depth,
            global_from_ego=torch.eye(4, dtype=torch.float64),
            caption="boxes on a street",
            teaching=Teaching(
                logits=torch.randn(taxonomy.num_classes, *grid.shape, generator=generator),
                visible=torch.rand(grid.shape, generator=generator) < 0.6,
            ),
            segments=torch.randint(-1, 5, (num_cameras, *size), generator=generator),
            image_semantics=torch.randint(0, taxonomy.num_classes, (num_cameras, *size), generator=generator).byte(),
            sources=sources if num_sources else None,
            source_cameras=later if num_sources else None,
            feature_rays=rays,
            inputs=ImageInputs(
                # Some pixels have no depth.
                depth=(2 + 50 * torch.rand(num_cameras, *size, generator=generator)).clamp(max=45) % 45,
                masks=torch.randint(0, taxonomy.num_classes, (num_cameras, *size), generator=generator).byte(),
                features=torch.randn(num_cameras, 24, size[0] // 8, size[1] // 8, generator=generator),
            ),
        )

    return make
