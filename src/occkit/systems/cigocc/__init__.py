"""CIGOcc: segmentation, appearance and depth, fused where each is strong.

Xu et al., "Complementary Information Guided Occupancy Prediction via Multi-Level Representation Fusion", ICRA 2025.

    high:   segmentation features and masks, along low: depth -> voxels -> 3D network -> Q_d, F_raw         `first.py`
    middle: images -> features; proposals of Q_d look at them by deformable attention, + F_raw              `network.py`
    -> deformable attention among voxels, in three dimensions -> scores; masks teach the middle features

Nobody has released this system: its figure says what flows where, and every choice on which it is silent is an option
with an ablation in `variants.py`. `hosts.py` has VoxFormer and CGFormer on the same bricks, corrected, with their
released quirks as switches. docs/cigocc.md says which choices are ours.
"""

from occkit.systems.cigocc.claims import (
    CLAIM_WORLD,
    claim,
    effects,
)
from occkit.systems.cigocc.doses import (
    doses,
    nano_gd_sam_clear,
    nano_gd_sam_poor,
    nano_gsd_clear_depth,
    nano_gsd_clear_masks,
    nano_gsd_poor_depth,
    nano_gsd_poor_masks,
    random_colours,
    typical_colours,
)
from occkit.systems.cigocc.first import (
    FirstStage,
    FirstStageConfig,
    HighConfig,
)
from occkit.systems.cigocc.hosts import (
    cgformer_effb7_kitti,
    cgformer_effb7_kitti_doubled,
    cgformer_effb7_kitti_released,
    cigocc_effb7_kitti,
    nano_cgformer,
    nano_cgformer_sam,
    nano_voxformer,
    voxformer_r50_kitti,
    voxformer_r50_kitti_fold,
)
from occkit.systems.cigocc.images import (
    CigOccImages,
    CigOccImagesConfig,
)
from occkit.systems.cigocc.network import (
    CigOcc,
    CigOccConfig,
    CigOccLossConfig,
    TwoStageConfig,
)
from occkit.systems.cigocc.queries import (
    ContextQueriesConfig,
    ProposalQueriesConfig,
    TableQueriesConfig,
)
from occkit.systems.cigocc.recipes import (
    LOOK,
    MASKS,
    debug,
    nano,
    nano_images,
    r50_kitti,
    r50_kitti360,
)
from occkit.systems.cigocc.variants import (
    nano_add,
    nano_all_voxels,
    nano_d,
    nano_depth_aware,
    nano_first_coarse,
    nano_fold,
    nano_frustum,
    nano_g,
    nano_gd,
    nano_gd_features,
    nano_gd_sam,
    nano_gd_sam_strong,
    nano_gd_sam_weak,
    nano_gs,
    nano_gsd,
    nano_gsd_control,
    nano_gsd_plain,
    nano_gsd_plain_shaken,
    nano_gsd_shaken,
    nano_hits,
    nano_join_concat,
    nano_join_replace,
    nano_mono,
    nano_s,
    nano_sd,
    nano_stereo,
    nano_two_stage,
    with_levels,
)
from occkit.systems.cigocc.views import (
    GivenDepthConfig,
    MonoDepthConfig,
    PriorDepthConfig,
    StereoDepthConfig,
    Views,
    ViewsConfig,
)

__all__ = [
    "CLAIM_WORLD",
    "LOOK",
    "MASKS",
    "CigOcc",
    "CigOccConfig",
    "CigOccImages",
    "CigOccImagesConfig",
    "CigOccLossConfig",
    "ContextQueriesConfig",
    "FirstStage",
    "FirstStageConfig",
    "GivenDepthConfig",
    "HighConfig",
    "MonoDepthConfig",
    "PriorDepthConfig",
    "ProposalQueriesConfig",
    "StereoDepthConfig",
    "TableQueriesConfig",
    "TwoStageConfig",
    "Views",
    "ViewsConfig",
    "cgformer_effb7_kitti",
    "cgformer_effb7_kitti_doubled",
    "cgformer_effb7_kitti_released",
    "cigocc_effb7_kitti",
    "claim",
    "debug",
    "doses",
    "effects",
    "nano",
    "nano_add",
    "nano_all_voxels",
    "nano_cgformer",
    "nano_cgformer_sam",
    "nano_d",
    "nano_depth_aware",
    "nano_first_coarse",
    "nano_fold",
    "nano_frustum",
    "nano_g",
    "nano_gd",
    "nano_gd_features",
    "nano_gd_sam",
    "nano_gd_sam_clear",
    "nano_gd_sam_poor",
    "nano_gd_sam_strong",
    "nano_gd_sam_weak",
    "nano_gs",
    "nano_gsd",
    "nano_gsd_clear_depth",
    "nano_gsd_clear_masks",
    "nano_gsd_control",
    "nano_gsd_plain",
    "nano_gsd_plain_shaken",
    "nano_gsd_poor_depth",
    "nano_gsd_poor_masks",
    "nano_gsd_shaken",
    "nano_hits",
    "nano_images",
    "nano_join_concat",
    "nano_join_replace",
    "nano_mono",
    "nano_s",
    "nano_sd",
    "nano_stereo",
    "nano_two_stage",
    "nano_voxformer",
    "r50_kitti",
    "r50_kitti360",
    "random_colours",
    "typical_colours",
    "voxformer_r50_kitti",
    "voxformer_r50_kitti_fold",
    "with_levels",
]
