"""One pass over a prediction dump, scored under any number of named protocols."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from occkit.metrics.explain import explain
from occkit.metrics.protocols import PROTOCOLS
from occkit.metrics.ray_iou import RayProtocol, count_rays
from occkit.metrics.voxel_iou import MASKS, Trim, VoxelProtocol, count_voxels
from occkit.samples import Occupancy
from occkit.taxonomy import TAXONOMIES, Taxonomy

_Counts = dict[str, tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]]
"""For each kind of count the flat indices that are not zero, and the counts there."""


class Evaluator:
    """Counts frames one by one, each token once, and scores the sum of all.

    Counts are kept a frame, not summed at once, so that frames which several processes evaluated (samplers pad their
    last batch) are found out when their states are merged. A token that comes again is ignored; the first counts.

    Example:
        >>> import torch
        >>> from occkit.geometry import VoxelGrid
        >>> from occkit.taxonomy import OCC3D
        >>> grid = VoxelGrid(origin=(0.0, 0.0, 0.0), voxel_size=(0.4, 0.4, 0.4), shape=(2, 1, 1))
        >>> car_and_free = torch.tensor([4, 17], dtype=torch.uint8).reshape(2, 1, 1)
        >>> label = Occupancy(semantics=car_and_free, grid=grid, taxonomy=OCC3D)
        >>> evaluator = Evaluator(["occ3d"], mask="none")
        >>> evaluator.add("frame", car_and_free.numpy(), label)
        >>> evaluator.report()["occ3d"]["miou"]
        1.0
    """

    def __init__(self, protocols: Sequence[str], *, mask: str | None = None) -> None:
        """Choose the protocols.

        Args:
            protocols: names of `PROTOCOLS`.
            mask: `camera`, `lidar`, `camera&lidar` or `none`: replaces the mask of every voxel protocol.

        Raises:
            ValueError: if a name is unknown or comes twice, or a protocol cannot have another mask.
        """
        if not protocols or len(set(protocols)) != len(protocols):
            raise ValueError(f"protocols: expected one or more different names, got {list(protocols)}")
        self._names = tuple(protocols)
        self._mask = mask
        self._protocols = tuple(_protocol(name, mask) for name in protocols)
        if mask is not None and not any(isinstance(p, VoxelProtocol) for p in self._protocols):
            raise ValueError(f"mask: {', '.join(protocols)} looks along rays and knows no mask; leave it out")
        self._taxonomy: Taxonomy | None = None
        self._frames: dict[str, _Counts] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def add(
        self,
        token: str,
        prediction: UInt8[np.ndarray, "x y z"],
        label: Occupancy,
        origins: Float64[np.ndarray, "k 3"] | None = None,
    ) -> None:
        """Count one frame.

        Args:
            token: its name.
            prediction: ids of the label's taxonomy, in the label's grid.
            label: one frame without a batch dimension.
            origins: LiDAR positions of all keyframes of its scene, time-ordered, metres, frame of the label. Only ray
                protocols need them; they choose among them.

        Raises:
            TypeError: if the prediction is not uint8.
            ValueError: naming the token, if a shape is wrong, an id is no class, a mask or the origins are missing, or
                the label set is not one of the protocol.
        """
        if token in self._frames:
            return
        self._check(token, prediction, label, origins)
        counts: _Counts = {}
        for protocol in self._protocols:
            key = _key(protocol)
            if key in counts:
                continue
            if isinstance(protocol, RayProtocol):
                assert origins is not None
                dense = count_rays(token, prediction, label, origins, protocol.thresholds)
            else:
                dense = count_voxels(token, _trimmed(prediction, protocol.trim, label), label)
            index = np.flatnonzero(dense)
            counts[key] = (index, dense.reshape(-1)[index])
        self._frames[token] = counts
        self._taxonomy = label.taxonomy

    def state(self) -> dict[str, object]:
        """Return everything counted so far as plain JSON values, for a file or another process."""
        frames = {
            token: {key: [index.tolist(), number.tolist()] for key, (index, number) in counts.items()}
            for token, counts in self._frames.items()
        }
        taxonomy = None if self._taxonomy is None else self._taxonomy.name
        return {"protocols": list(self._names), "mask": self._mask, "taxonomy": taxonomy, "frames": frames}

    def merge(self, state: Mapping[str, object]) -> None:
        """Add the frames of another evaluator's `state` that are not here yet.

        Raises:
            ValueError: if it was made with other protocols, another mask or another label set.
        """
        for name, own in (("protocols", list(self._names)), ("mask", self._mask)):
            if state.get(name) != own:
                raise ValueError(f"merge: {name} is {own} here and {state.get(name)} there; both must be the same")
        theirs = state.get("taxonomy")
        if theirs is None:
            return
        if not isinstance(theirs, str) or theirs not in TAXONOMIES:
            raise ValueError(f"merge: unknown taxonomy {theirs!r}")
        if self._taxonomy is not None and theirs != self._taxonomy.name:
            raise ValueError(f"merge: labels are {self._taxonomy.name} here and {theirs} there")
        self._taxonomy = TAXONOMIES[theirs]
        frames = state.get("frames")
        if not isinstance(frames, Mapping):
            raise ValueError(f"merge: expected `frames` to map tokens to counts, got {type(frames).__name__}")
        for token, counts in frames.items():
            if token not in self._frames:
                self._frames[token] = {
                    key: (np.array(index, dtype=np.int64), np.array(number, dtype=np.int64))
                    for key, (index, number) in counts.items()
                }

    def report(self) -> dict[str, dict[str, object]]:
        """Return the evaluation, one entry a protocol: its rules, scores (fractions 0..1), counts and frames.

        Raises:
            ValueError: if no frame was added.
        """
        taxonomy, counts = self._pooled()
        return {
            protocol.name: {"protocol": protocol.describe(taxonomy)}
            | protocol.score(counts[_key(protocol)], taxonomy)
            | {"frames": len(self._frames)}
            for protocol in self._protocols
        }

    def explain(self) -> str:
        """Return a text that says why the chosen protocols disagree: their rules, and each rule's share in points.

        Raises:
            ValueError: if no frame was added.
        """
        taxonomy, counts = self._pooled()
        by_trim = {p.trim: counts[_key(p)] for p in self._protocols if isinstance(p, VoxelProtocol)}
        rays = [(p, counts[_key(p)]) for p in self._protocols if isinstance(p, RayProtocol)]
        voxels = [p for p in self._protocols if isinstance(p, VoxelProtocol)]
        return explain(voxels, by_trim, rays, taxonomy, frames=len(self._frames))

    def _check(
        self,
        token: str,
        prediction: UInt8[np.ndarray, "x y z"],
        label: Occupancy,
        origins: Float64[np.ndarray, "k 3"] | None,
    ) -> None:
        if prediction.dtype != np.uint8:
            raise TypeError(f"prediction of {token}: expected uint8 ids, got {prediction.dtype}")
        for what, shape in (("prediction", prediction.shape), ("label", tuple(label.semantics.shape))):
            if shape != label.grid.shape:
                raise ValueError(f"{what} of {token}: expected {label.grid.shape} voxels like its grid, got {shape}")
        if self._taxonomy is not None and label.taxonomy != self._taxonomy:
            raise ValueError(f"label of {token}: is {label.taxonomy.name}, those before were {self._taxonomy.name}")
        for protocol in self._protocols:
            if label.taxonomy.name not in protocol.taxonomies:
                fitting = [p.name for p in PROTOCOLS.values() if label.taxonomy.name in p.taxonomies]
                raise ValueError(
                    f"label of {token}: protocol {protocol.name} is for {' or '.join(protocol.taxonomies)} labels, got "
                    f"{label.taxonomy.name}; for these there are {', '.join(fitting) or 'no protocols'}"
                )
            if isinstance(protocol, RayProtocol):
                if origins is None or origins.ndim != 2 or origins.shape[1] != 3:
                    got = "none" if origins is None else str(origins.shape)
                    raise ValueError(
                        f"origins of {token}: protocol {protocol.name} needs LiDAR positions [k, 3], got {got}; give "
                        "an origins file where there are no pose tables"
                    )
                continue
            for sensor in ("camera", "lidar"):
                if sensor in protocol.mask and getattr(label, f"mask_{sensor}") is None:
                    raise ValueError(
                        f"label of {token}: protocol {protocol.name} evaluates under the {protocol.mask} mask and the "
                        f"label has no {sensor} mask; choose another with --mask, for example --mask none"
                    )

    def _pooled(self) -> tuple[Taxonomy, dict[str, Int64[np.ndarray, "*n"]]]:
        """Sum the counts over all frames."""
        if self._taxonomy is None:
            raise ValueError("evaluation: no frame was added, so there is nothing to score")
        pooled: dict[str, Int64[np.ndarray, "*n"]] = {}
        size = self._taxonomy.num_classes
        for protocol in self._protocols:
            is_ray = isinstance(protocol, RayProtocol)
            shape = (size, 2 + len(protocol.thresholds)) if is_ray else (2, 2, size, size)
            total = np.zeros(shape, dtype=np.int64)
            for counts in self._frames.values():
                index, number = counts[_key(protocol)]
                total.reshape(-1)[index] += number
            pooled[_key(protocol)] = total
        return self._taxonomy, pooled


def _protocol(name: str, mask: str | None) -> VoxelProtocol | RayProtocol:
    if name not in PROTOCOLS:
        raise ValueError(f"protocol: {name!r} is unknown; there are {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[name]
    if mask is None or isinstance(protocol, RayProtocol):
        return protocol
    for known in MASKS:
        if known == mask:
            if protocol.mask_is_fixed and mask != protocol.mask:
                raise ValueError(f"mask: protocol {name} is defined with the {protocol.mask} mask only, got {mask}")
            return replace(protocol, mask=known)
    raise ValueError(f"mask: expected one of {', '.join(MASKS)}, got {mask!r}")


def _key(protocol: VoxelProtocol | RayProtocol) -> str:
    """Name the kind of count a protocol reads; protocols with the same key share one pass."""
    if isinstance(protocol, RayProtocol):
        return "rays:" + ",".join(f"{t:g}" for t in protocol.thresholds)
    return "voxels" if protocol.trim is None else f"voxels:border={protocol.trim.border},height={protocol.trim.height}"


def _trimmed(prediction: UInt8[np.ndarray, "x y z"], trim: Trim | None, label: Occupancy) -> UInt8[np.ndarray, "x y z"]:
    if trim is None:
        return prediction
    free = np.uint8(label.taxonomy.free_id)
    # An id that is no class must still be found, also where the protocol would overwrite it.
    wrong = prediction >= label.taxonomy.num_classes
    return np.where(trim.region(label.grid) & ~wrong, free, prediction)
