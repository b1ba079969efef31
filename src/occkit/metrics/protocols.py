"""The named protocols: what each published script does, one entry a script.

The absent-class rule, the mask and the class set decide the number: the same prediction can differ by thirty points.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from occkit.metrics.ray_iou import RayProtocol
from occkit.metrics.ssc import CompletionProtocol
from occkit.metrics.voxel_iou import Trim, VoxelProtocol
from occkit.taxonomy import KITTI360, NYUV2, OCC3D, OPENOCC, SEMANTICKITTI, SURROUNDOCC

_ALL_17 = tuple(OCC3D.classes[i] for i in OCC3D.semantic_ids)
_NAMED_15 = tuple(name for name in _ALL_17 if name not in ("others", "other_flat"))
_DYNAMIC = tuple(OCC3D.classes[i] for i in (2, 3, 4, 5, 6, 7, 9, 10))

_MEAN_WOULD_BE_NAN = (
    "The script takes a plain mean, so that one absent class makes it NaN; here an absent class is left out."
)
_RANKS = "The script averages the IoUs of its processes; here the counts of all frames are summed first."

_TABLE: tuple[VoxelProtocol | RayProtocol, ...] = (
    VoxelProtocol(
        name="occ3d",
        source="Occ3D / CVPR 2023 challenge script, as in BEVDet, FlashOcc, RenderOcc",
        taxonomies=(OCC3D.name,),
        mask="camera",
        extra_means={"miou_15": _NAMED_15},
    ),
    VoxelProtocol(
        name="occ3d-full",
        source="The script of occ3d without a mask: EasyOcc's full scene. Unseen voxels count as labelled",
        taxonomies=(OCC3D.name,),
        extra_means={"miou_15": _NAMED_15},
    ),
    VoxelProtocol(
        name="occ3d-sparseocc",
        source="SparseOcc, old_metrics: a class without labels is left out even where it is predicted",
        taxonomies=(OCC3D.name,),
        mask="camera",
        absent_when="label",
        extra_means={"miou_15": _NAMED_15},
    ),
    VoxelProtocol(
        name="occ3d-fbocc",
        source="FB-OCC, ALOcc, OccStudio",
        taxonomies=(OCC3D.name,),
        mask="camera",
        mask_is_fixed=True,
        extra_means={"miou_dynamic": _DYNAMIC, "miou_15": _NAMED_15},
        notes="The optional restriction to a ring around the car is not offered.",
    ),
    RayProtocol(
        name="rayiou",
        source="SparseOcc, shared by FlashOcc, OccNet, OccStudio",
        taxonomies=(OCC3D.name, OPENOCC.name),
    ),
    CompletionProtocol(
        name="semantickitti",
        source="semantic-kitti-api, evaluate_completion.py",
        taxonomies=(SEMANTICKITTI.name,),
        absent_class="zero",
        eps=1e-15,
        rate_eps=2.0**-23,
    ),
    CompletionProtocol(
        name="monoscene",
        source="MonoScene sscMetrics, as in VoxFormer and the CGFormer family",
        taxonomies=(SEMANTICKITTI.name, NYUV2.name),
        absent_class="zero",
        eps=1e-5,
        zero_if_nothing_found=True,
    ),
    CompletionProtocol(
        name="sscbench-kitti360",
        source="SSCBench: MonoScene's rule on KITTI-360",
        taxonomies=(KITTI360.name,),
        absent_class="zero",
        eps=1e-5,
        zero_if_nothing_found=True,
    ),
    VoxelProtocol(
        name="selfocc",
        source="SelfOcc: 'others' is empty space, six voxels of border and z >= 12 are cleared, absent scores 1",
        taxonomies=(OCC3D.name,),
        mask="camera",
        left_out=("others",),
        counted_as_free=("others",),
        trim=Trim(border=2.4, height=4.8),
        absent_class="one",
        absent_when="label",
        notes="The script sums in single precision; here counts are integers.",
    ),
    VoxelProtocol(
        name="occnerf15",
        source="OccNeRF, GaussianOcc: without 'others' and 'other_flat'",
        taxonomies=(OCC3D.name,),
        mask="camera&lidar",
        left_out=("others", "other_flat"),
        extra_means={"miou_17": _ALL_17},
        notes=f"{_MEAN_WOULD_BE_NAN} {_RANKS}",
    ),
    VoxelProtocol(
        name="occnerf13",
        source="OccNeRF, GaussianOcc: also without 'bicycle' and 'motorcycle'",
        taxonomies=(OCC3D.name,),
        mask="camera&lidar",
        left_out=("others", "bicycle", "motorcycle", "other_flat"),
        extra_means={"miou_17": _ALL_17},
        notes=f"{_MEAN_WOULD_BE_NAN} {_RANKS}",
    ),
    VoxelProtocol(
        name="gaussianflowocc",
        source="GaussianFlowOcc: voxels labelled 'others' or 'other_flat' are not evaluated",
        taxonomies=(OCC3D.name,),
        mask="camera",
        left_out=("others", "other_flat"),
        dropped_labels=("others", "other_flat"),
        notes="The geometric IoU is over the same voxels.",
    ),
    VoxelProtocol(
        name="langocc",
        source="LangOcc: the rule of occ3d",
        taxonomies=(OCC3D.name,),
        mask="camera",
        extra_means={"miou_15": _NAMED_15},
        notes="The paper reports the best of several density thresholds; choose one before evaluating.",
    ),
    VoxelProtocol(
        name="gausstr",
        source="GaussTR: the rule of occ3d",
        taxonomies=(OCC3D.name,),
        mask="camera",
        extra_means={"miou_15": _NAMED_15},
        notes="The script's matrix is never summed over processes; here it is.",
    ),
    VoxelProtocol(
        name="surroundocc",
        source="SurroundOcc",
        taxonomies=(SURROUNDOCC.name,),
        notes=_MEAN_WOULD_BE_NAN,
    ),
    VoxelProtocol(
        name="gaussianformer",
        source="GaussianFormer on SurroundOcc labels: a class without labels scores 1",
        taxonomies=(SURROUNDOCC.name,),
        absent_class="one",
        absent_when="label",
        notes="The script sums in single precision; here counts are integers.",
    ),
    VoxelProtocol(
        name="openoccupancy",
        source="OpenOccupancy; predictions must have been resampled to the grid of the label",
        taxonomies=(SURROUNDOCC.name,),
        decimals=3,
        notes=_MEAN_WOULD_BE_NAN,
    ),
)

PROTOCOLS: Mapping[str, VoxelProtocol | RayProtocol] = MappingProxyType({p.name: p for p in _TABLE})
"""All protocols by name."""

MAIN_FIGURES = ("rayiou", "miou", "iou")
"""What a protocol is named for: the first of these that it has."""


def main_score(entry: Mapping[str, Any]) -> float | None:
    """Return the main figure of a protocol's entry in a report, a fraction; None if it has none, or nothing counted."""
    value = next((entry[name] for name in MAIN_FIGURES if name in entry), None)
    return None if value is None else float(value)
