"""WHO AND WHEN: an engine gives tasks to workers, here one after the other or on a Ray cluster.

It knows nothing of frames or models. Who has work describes it in stages (how a worker is made, what it needs) and says
which tasks are ready; results pass through files, so that any call may be cut off at any point and given again.
"""

from occkit.engine.choice import choose_engine
from occkit.engine.crew import Crew, Engine, LocalEngine, Outcome, Stage, Work, run_all
from occkit.engine.on_ray import RayEngine, ray_cluster

__all__ = [
    "Crew",
    "Engine",
    "LocalEngine",
    "Outcome",
    "RayEngine",
    "Stage",
    "Work",
    "choose_engine",
    "ray_cluster",
    "run_all",
]
