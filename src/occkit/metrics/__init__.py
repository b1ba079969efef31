"""Named evaluation protocols, executed exactly: one dump of predictions, any number of published rules.

`Evaluator` counts and scores; `PROTOCOLS` says what each rule is; `ConstantPrior` is the baseline that knows nothing;
`lidar_agreement` compares with a sweep where there is no label; `DepthEvaluator` counts depth images against a sweep;
`RetrievalEvaluator` asks whether words find the points they are about.
"""

from occkit.metrics.agreement import LidarAgreement, lidar_agreement
from occkit.metrics.depth import DepthAverage, DepthEvaluator
from occkit.metrics.evaluator import Evaluator
from occkit.metrics.prior import ConstantPrior, DepthPrior
from occkit.metrics.protocols import MAIN_FIGURES, PROTOCOLS, main_score
from occkit.metrics.ray_iou import RayProtocol, ray_directions, select_origins
from occkit.metrics.retrieval import RetrievalEvaluator, average_precision
from occkit.metrics.ssc import CompletionProtocol
from occkit.metrics.voxel_iou import MASKS, Trim, VoxelProtocol

__all__ = [
    "MAIN_FIGURES",
    "MASKS",
    "PROTOCOLS",
    "CompletionProtocol",
    "ConstantPrior",
    "DepthAverage",
    "DepthEvaluator",
    "DepthPrior",
    "Evaluator",
    "LidarAgreement",
    "RayProtocol",
    "RetrievalEvaluator",
    "Trim",
    "VoxelProtocol",
    "average_precision",
    "lidar_agreement",
    "main_score",
    "ray_directions",
    "select_origins",
]
