"""A model whose voxels hold what a test says, three words that point along axes, and frames to ask it about."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from occkit.data.frames import DataConfig
from occkit.geometry import Cameras, VoxelGrid
from occkit.nn.open_vocabulary import cosine_scores
from occkit.samples import Batch, Prediction, Sample
from occkit.taxonomy import OCC3D

GRID = VoxelGrid.from_range((0, 0, 0), (4, 4, 2), 1.0)
WORDS = {"road": [1.0, 0, 0, 0], "house": [0, 1.0, 0, 0], "mailbox": [0, 0, 1.0, 0], "Road": [1.0, 0, 0, 0]}
CAMERAS = Cameras(
    intrinsics=torch.eye(3).expand(1, 1, 3, 3), ego_from_camera=torch.eye(4).expand(1, 1, 4, 4), height=3, width=4
)


class Knows(nn.Module):
    """Road everywhere on the ground but for what `things` says; the heights above are free."""

    vocabulary = ("road", "house")

    def __init__(self, things: dict[tuple[int, int, int], list[float]] | None = None, *, free: bool = False) -> None:
        super().__init__()
        self.things = things or {}
        self.free = free
        self.calls = 0

    def forward(self, batch: Batch) -> Prediction:
        self.calls += 1
        features = torch.zeros(1, 4, *GRID.shape)
        features[:, 0] = 1.0
        logits = torch.zeros(1, OCC3D.num_classes, *GRID.shape)
        logits[:, OCC3D.free_id, :, :, 1] = 1.0
        if self.free:
            logits[:, OCC3D.free_id] = 1.0
        for (x, y, z), vector in self.things.items():
            features[0, :, x, y, z] = torch.tensor(vector)
            logits[0, :, x, y, z] = torch.eye(OCC3D.num_classes)[4]
        return Prediction(logits=logits, grid=batch.grid, taxonomy=batch.taxonomy, features=features)

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        return {}

    def encode_words(self, words: Sequence[str]) -> Tensor:
        return torch.tensor([WORDS.get(word, [0, 0, 0, 1.0]) for word in words])

    def score_words(self, prediction: Prediction, vectors: Tensor) -> Tensor:
        assert prediction.features is not None
        return cosine_scores(prediction.features.movedim(1, -1), vectors).movedim(-1, 1)


class Frames:
    """Frames of one camera; all see the same points."""

    name = "fake"
    root = Path("nowhere")

    def __init__(
        self,
        tokens: Sequence[str] = ("a", "b", "c"),
        *,
        points: Tensor | None = None,
        features: Tensor | None = None,
        root: Path | None = None,
    ) -> None:
        self.tokens = tuple(tokens)
        self.points = points
        self.features = features
        self.grid = GRID
        self.root = root or self.root
        self.config = DataConfig(load_points=True, features="features", point_features=True)

    def __len__(self) -> int:
        return len(self.tokens)

    def sample(self, index: int, *, seed: int | None = None) -> Sample:
        return Sample(
            token=self.tokens[index],
            scene="s",
            timestamp=index,
            images=torch.zeros(1, 1, 3, 3, 4, dtype=torch.uint8),
            cameras=CAMERAS,
            camera_names=("front",),
            grid=GRID,
            taxonomy=OCC3D,
            points=self.points,
            point_features=self.features,
        )
