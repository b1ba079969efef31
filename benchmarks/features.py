"""The feature store at the size of nuScenes: six images of 900x1600 in patches of 16 pixels, 25 frames a sample.

The plain form is that of LangOcc's files: an npz a frame with the float16 vectors of its 15,300 rays, all 512 channels,
read whole and then picked from. Rows that weigh features have no times; their plain form are the same files.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.measure import Row, measure, measure_pair
from occkit.data.feature_bytes import file_digests
from occkit.data.feature_layout import Codec, FeatureLayout
from occkit.data.feature_store import FeatureStore, create_store
from occkit.nn.subspace import reduce_features, svd_basis
from occkit.training.feature_cost import Vocabulary, basis_of, choose_rung, ladder, measure_rungs, moment_of

NAME = "features"
HEIGHT, WIDTH, PATCH = 900, 1600, 16
ROWS, COLUMNS = round(HEIGHT / PATCH), WIDTH // PATCH
CAMERAS, CHANNELS, KEPT, PROMPTS = 6, 512, 128, 76
IMAGE_BYTES = 150_000
FRAMES, RAYS, FILE_RAYS = 25, 8192, 15_300
SHAPES = f"{RAYS} rays of {FRAMES} frames, {CAMERAS} x {HEIGHT}x{WIDTH} pixels"


def vocabulary() -> torch.Tensor:
    """Return text vectors as CLIP's lie: in a narrow cone, unrelated words at a cosine of 0.75."""
    draw = torch.Generator().manual_seed(0)
    common, own = (functional.normalize(torch.randn(n, CHANNELS, generator=draw), dim=-1) for n in (1, PROMPTS))
    return functional.normalize(0.75**0.5 * common + 0.25**0.5 * own, dim=-1)


def frame(text: torch.Tensor, number: int) -> torch.Tensor:
    """Return the maps of a frame: blobs of words, far from text by a gap, each patch with noise of its own."""
    draw = torch.Generator().manual_seed(number)
    words = torch.randint(0, len(text), (CAMERAS, 1, 7, 13), generator=draw).float()
    words = functional.interpolate(words, (ROWS, COLUMNS), mode="nearest")[:, 0].long()
    gap = functional.normalize(torch.randn(CHANNELS, generator=torch.Generator().manual_seed(1)), dim=0)
    noise = 0.3 * functional.normalize(torch.randn(*words.shape, CHANNELS, generator=draw), dim=-1)
    return functional.normalize(text[words] + 0.5 * gap + noise, dim=-1).movedim(-1, 1)


def layout(dim: int, codec: Codec) -> FeatureLayout:
    """Return what a store of such frames holds."""
    return FeatureLayout(
        source={"benchmark": NAME},
        cameras=tuple(f"camera {n}" for n in range(CAMERAS)),
        image_size=(HEIGHT, WIDTH),
        map_size=(ROWS, COLUMNS),
        width=CHANNELS,
        dim=dim,
        codec=codec,
    )


def run() -> list[Row]:
    """Measure reading the rays of a training sample, and what features weigh and lose."""
    text = vocabulary()
    basis = svd_basis(text, KEPT)
    with tempfile.TemporaryDirectory() as folder:
        store = create_store(Path(folder) / "store", layout(KEPT, "uint8"), basis)
        plain = [Path(folder) / f"{number}.npz" for number in range(FRAMES)]
        for number, path in enumerate(plain):
            maps = frame(text, number)
            store.write(str(number), reduce_features(maps.movedim(1, -1), basis).movedim(-1, 1))
            rays = maps.movedim(1, -1).reshape(-1, CHANNELS)[:FILE_RAYS]
            np.savez(path, features=rays.numpy().astype(np.float16))
        return [_read(store, plain), *_checks(store), *_weights(), *_ladder(text)]


def _read(store: FeatureStore, plain: list[Path]) -> Row:
    draw = torch.Generator().manual_seed(0)
    each = RAYS // FRAMES
    cameras = torch.randint(0, CAMERAS, (FRAMES, each), generator=draw)
    pixels = torch.rand(FRAMES, each, 2, generator=draw) * torch.tensor([WIDTH, HEIGHT])
    rows = torch.randint(0, FILE_RAYS, (FRAMES, each), generator=draw).numpy()

    def ours() -> list[torch.Tensor]:
        return [store.sample(str(n), cameras[n], pixels[n]) for n in range(FRAMES)]

    def theirs() -> list[np.ndarray]:
        picked = []
        for path, some in zip(plain, rows, strict=True):
            with np.load(path) as archive:
                picked.append(archive["features"][some])
        return picked

    fast, slow = measure_pair(ours, theirs, repeats=5)
    return Row(
        name=NAME,
        what="features of a sample's rays, files in the page cache",
        shapes=f"{SHAPES}, {KEPT} of {CHANNELS} channels",
        dtype="uint8",
        ours=fast,
        plain=slow,
        ratio=slow / fast,
        extra={"load_average": os.getloadavg()[0]},
    )


def _weights() -> list[Row]:
    plain = FILE_RAYS * CHANNELS * 2 / 1e6
    found = []
    for dim, codec in ((CHANNELS, "float16"), (KEPT, "float16"), (KEPT, "uint8"), (64, "uint8")):
        size = layout(dim, codec).frame_bytes / 1e6
        what, shapes = "GB per 1,000 keyframes", f"all {CAMERAS} x {ROWS}x{COLUMNS} patches, {dim} channels"
        found.append(
            Row(name=NAME, what=what, shapes=shapes, dtype=codec, ours=size, unit="GB", plain=plain, ratio=plain / size)
        )
    return found


def _ladder(text: torch.Tensor) -> list[Row]:
    """Return what each rung of a budget's ladder takes from features; a PCA is made of another frame."""
    base = layout(CHANNELS, "uint8")
    words = Vocabulary(words=tuple(map(str, range(PROMPTS))), text=text, description={})
    rungs = ladder(base, choose_rung(base, 1, None, asked=False), words=True)
    moment = moment_of([frame(text, 1)])
    bases = [basis_of(rung, asked=None, moment=moment, vocabulary=words) for rung in rungs]
    ways: list[tuple[Codec, torch.Tensor | None]] = [
        (rung.codec, basis) for rung, basis in zip(rungs, bases, strict=True)
    ]
    found = []
    for rung, cost in zip(rungs, measure_rungs(ways, [frame(text, 0)], words), strict=True):
        extra = {"p99": cost.p99, "words_changed": cost.changed or 0.0, "bytes": rung.layout(base).frame_bytes}
        shapes = f"{rung.dim} of {CHANNELS} channels, kept for: {rung.kind}"
        what = "1 - cosine of a feature and what is read of it"
        found.append(Row(name=NAME, what=what, shapes=shapes, dtype=rung.codec, ours=cost.mean, unit="", extra=extra))
    return found


def _checks(store: FeatureStore) -> list[Row]:
    """Return the time that it takes to be sure of a frame: digests of its images, and of what is stored of it."""
    with tempfile.TemporaryDirectory() as folder:
        images = [Path(folder) / str(number) for number in range(CAMERAS)]
        for path in images:
            path.write_bytes(np.random.default_rng(0).bytes(IMAGE_BYTES))
        digests = measure(lambda: file_digests(images))
    whole, size = measure(lambda: store.check("0")), store.layout.frame_bytes / 1e6
    return [
        Row(name=NAME, what="digests of a frame's images", shapes=f"{CAMERAS} x {IMAGE_BYTES:,} bytes", dtype="bytes",
            ours=digests),
        Row(name=NAME, what="every byte of a frame's features", shapes=f"{size:.1f} MB", dtype="uint8", ours=whole),
    ]  # fmt: skip
