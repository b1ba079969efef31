"""From vision-language features to answers: the class of a voxel, and how well it fits a query.

Features and text vectors are of one space; both are normalised here, so their lengths do not matter.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

_ROWS = 2**16
"""Features compared with the prompts at once; the scores of a whole volume are never held."""


def cosine_scores(features: Float[Tensor, "*s c"], text: Float[Tensor, "p c"]) -> Float[Tensor, "*s p"]:
    """Return the cosine of each feature with each text vector, -1..1; 0 for features of length 0."""
    return functional.normalize(features, dim=-1) @ functional.normalize(text, dim=-1).T


def assign_classes(
    features: Float[Tensor, "*s c"],
    density: Float[Tensor, "*s"],
    text: Float[Tensor, "p c"],
    classes: Int64[Tensor, "p"],
    *,
    free_id: int,
    threshold: float = 0.1,
) -> Int64[Tensor, "*s"]:
    """Return the class of the prompt that fits best, free where hardly anything is.

    `id = classes[argmax_k <f, t_k>]` where density is at least the threshold; of equal scores the first prompt wins.
    A prompt for the sky makes nothing free: what it wins is of its class.

    Args:
        features: of voxels or points.
        density: how much is there, in the unit of the threshold.
        text: one vector a prompt.
        classes: id of each prompt.
        free_id: id of empty space.
        threshold: less density than this is empty.

    Raises:
        ValueError: if there are no prompts, or density is NaN somewhere.

    Source: LangOcc, 2024, zero-shot semantic occupancy.
    """
    if not len(text):
        raise ValueError("text: expected at least one prompt, got none")
    if bool(density.isnan().any()):
        raise ValueError("density: expected numbers, got NaN")
    occupied = density.reshape(-1) >= threshold
    ids = torch.full_like(occupied, free_id, dtype=torch.long)
    # Normalising a feature does not change which prompt fits it best.
    prompts = functional.normalize(text, dim=-1).T
    parts = features.reshape(-1, features.shape[-1])[occupied].split(_ROWS)
    best = [(rows @ prompts).argmax(-1) for rows in parts]
    ids[occupied] = classes[torch.cat(best)]
    return ids.reshape(density.shape)


def query_relevancy(
    features: Float[Tensor, "*s c"],
    query: Float[Tensor, "c"],
    negatives: Float[Tensor, "m c"],
    *,
    scale: float = 10.0,
) -> Float[Tensor, "*s"]:
    """Return how much better a query fits than the negative that comes closest to it, 0..1.

    `min_m exp(s <f, q>) / (exp(s <f, q>) + exp(s <f, n_m>))`. 0.5 says that they fit equally well. Cosines of a
    vision-language space lie close together and their level depends on the query; this score compares within a feature.

    Args:
        features: of voxels, points or pixels.
        query: its text vector.
        negatives: text vectors of what the query competes with: general words, or the rest of a vocabulary.
        scale: `s`; the larger, the harder the decision.

    Raises:
        ValueError: if there are no negatives.

    Source: Kerr et al., "LERF: Language Embedded Radiance Fields", ICCV 2023, relevancy score.
    """
    if not len(negatives):
        raise ValueError("negatives: expected at least one text vector, got none")
    wanted = cosine_scores(features, query[None])[..., 0]
    other = cosine_scores(features, negatives).amax(-1)
    return torch.sigmoid(scale * (wanted - other))
