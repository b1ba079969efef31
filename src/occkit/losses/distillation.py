"""Distillation along rays: what the teacher renders, the student should render (RadOcc).

Both models predict class logits in voxels. `fields_from_logits` makes densities and semantics of them, the ops render
both along the same rays (`ray_subset`), and the criteria here compare where rays end, what they show, and how the rays
of one image segment resemble each other. The teacher is a constant in every function: gradients reach the student only.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from occkit.losses.dense_distillation import _softmax_divergence, at_least_single
from occkit.ops.rendering import termination_distribution

# Temperature of the public code's second softmax. Weights lie in 0..1, so the value hardly matters.
DOUBLE_SOFTMAX_TEMPERATURE = 10.0
# Composited logits shorter than this have no direction: nothing was hit, or rounding is all that centring has left.
MIN_LENGTH = 1e-4


def fields_from_logits(
    logits: Float[Tensor, "*v c"],
    *,
    free_id: int,
    density: Literal["neg_free_logit", "logodds"] = "neg_free_logit",
) -> tuple[Float[Tensor, "*v"], Float[Tensor, "*v c-1"]]:
    """Turn class logits into what a renderer needs: a volume density and the logits of the occupied classes.

    `neg_free_logit`: `sigma = softplus(-o_free)`. A constant added to all logits changes this density, though it
    changes no probability.
    `logodds`: `sigma = softplus(logsumexp(o_occupied) - o_free)`. A constant changes nothing, and the opacity of a
    unit length, `1 - exp(-sigma)`, is the probability of being occupied.

    Args:
        logits: class scores before softmax.
        free_id: channel of empty space.
        density: which of the two.

    Returns:
        density: sigma >= 0, per unit of the ray parameter.
        semantics: the other channels in their order, raw.

    Raises:
        ValueError: if `free_id` is not a channel.

    Example:
        >>> sigma, semantics = fields_from_logits(torch.tensor([1.0, 2.0, -3.0]), free_id=2)
        >>> round(sigma.item(), 4), semantics.tolist()
        (3.0486, [1.0, 2.0])

    Source: `neg_free_logit` is that of the public code of Zhang et al., "RadOcc", AAAI 2024; `logodds` original.
    """
    channels = logits.shape[-1]
    if not 0 <= free_id < channels:
        raise ValueError(f"free_id: expected one of {channels} channels, got {free_id}")
    free = logits[..., free_id]
    semantics = torch.cat([logits[..., :free_id], logits[..., free_id + 1 :]], dim=-1)
    odds = -free if density == "neg_free_logit" else semantics.logsumexp(dim=-1) - free
    return F.softplus(odds), semantics


def ray_subset(num_rays: int, limit: int, *, generator: torch.Generator) -> Int64[Tensor, "n"]:
    """Choose rays at random, none twice and each as likely: a mean over them is an unbiased mean over all.

    Args:
        num_rays: rays to choose from.
        limit: rays to keep at most; the paper renders 80,000 a step.
        generator: the same state gives the same rays.

    Returns:
        Ascending indices on the generator's device; all of them if there are no more than `limit`.

    Raises:
        ValueError: if `limit` is not positive.

    Source: original; the limit is that of Zhang et al., "RadOcc", AAAI 2024.
    """
    if limit < 1:
        raise ValueError(f"limit: expected 1 or more, got {limit}")
    return torch.randperm(num_rays, generator=generator, device=generator.device)[:limit].sort().values


def distill_termination(
    student: Float[Tensor, "*r s"],
    teacher: Float[Tensor, "*r s"],
    *,
    ray_weights: Float[Tensor, "*r"] | None = None,
    epsilon: float = 1e-6,
    double_softmax: bool = False,
) -> Float[Tensor, ""]:
    """Rendered depth consistency (RDC): divergence of where rays end, the mean over the M rays.

    `L = 1/M sum_r sum_k R^t_k (log(R^t_k + eps) - log(R^s_k + eps))`, with `R` the weights of the samples and, as one
    more bin, the probability of hitting nothing.

    With `double_softmax`, what the authors' public code computes: weights without the last bin pass through a softmax
    of temperature `T = 10` and the divergence is averaged over the N bins, `L = 1/M sum_r T^2/N KL(p^t || p^s)`. It is
    about `|R^t - R^s|^2 / (2 N^2)`, a millionth of the divergence; for reproduction only.

    Args:
        student: weights of the samples, from one of the `render_weights_*`.
        teacher: those to imitate, of the same samples.
        ray_weights: one a ray, not negative, for example the teacher's confidence: the mean is then weighted. Constant.
        epsilon: keeps the logarithms finite.
        double_softmax: the public code's form.

    Returns:
        A scalar, natural logarithm, at most `log(1 + 1/eps)`: 0 for equal weights. Elsewhere above 0, but for
        distributions that differ by less than about `eps` a bin. 0 (with a zero gradient) if there are no rays.

    Example:
        >>> round(distill_termination(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])).item(), 4)
        0.6931

    Source: Zhang et al., "RadOcc", AAAI 2024 (rendered depth consistency); the no-hit bin and eps original.
    """
    student, teacher = at_least_single(student), at_least_single(teacher.detach())
    if double_softmax:
        divergence = _softmax_divergence(student, teacher, temperature=DOUBLE_SOFTMAX_TEMPERATURE) / student.shape[-1]
        return _mean_over_rays(divergence, ray_weights)
    target = termination_distribution(teacher)
    ratio = (target + epsilon).log() - (termination_distribution(student) + epsilon).log()
    return _mean_over_rays((target * ratio).sum(dim=-1), ray_weights)


def distill_depth(
    student: Float[Tensor, "*r"],
    teacher: Float[Tensor, "*r"],
    *,
    ray_weights: Float[Tensor, "*r"] | None = None,
    beta: float = 1.0,
) -> Float[Tensor, ""]:
    """Smooth L1 distance of rendered depths: the depth-map alignment that RDC is compared with.

    `L = 1/M sum_r h(|D^s - D^t|)`, `h(x) = x^2 / (2 beta)` below `beta`, `x - beta / 2` above.

    Args:
        student: rendered depth, any unit.
        teacher: that to imitate.
        ray_weights: as in `distill_termination`.
        beta: where the square turns into the absolute difference, unit of depth; above 0.

    Returns:
        A scalar >= 0; 0 (with a zero gradient) if there are no rays.

    Source: Girshick, "Fast R-CNN", ICCV 2015, equation 3, on rendered depth as in RadOcc's comparison.
    """
    student, teacher = at_least_single(student), at_least_single(teacher.detach())
    difference = F.smooth_l1_loss(student, teacher, beta=beta, reduction="none")
    return _mean_over_rays(difference, ray_weights)


def distill_semantics(
    student: Float[Tensor, "*r c"],
    teacher: Float[Tensor, "*r c"],
    *,
    ray_weights: Float[Tensor, "*r"] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Divergence of the classes that rays show, the mean over the M rays.

    `L = T^2/M sum_r KL(softmax(S^t_r / T) || softmax(S^s_r / T))`.

    Args:
        student: composited logits of the occupied classes.
        teacher: those to imitate.
        ray_weights: as in `distill_termination`.
        temperature: T, above 0.

    Returns:
        A scalar >= 0, natural logarithm; 0 (with a zero gradient) if there are no rays.

    Source: Zhang et al., "RadOcc", AAAI 2024 (rendered semantic consistency); its public code has 1/c of this.
    """
    return _mean_over_rays(_softmax_divergence(student, teacher, temperature=temperature), ray_weights)


def distill_affinity(
    student: Float[Tensor, "*v r c"],
    teacher: Float[Tensor, "*v r c"],
    segments: Int64[Tensor, "*v r"],
    *,
    max_rays: int = 32,
    center: bool = False,
    weigh_by: Literal["segments", "rays"] = "segments",
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Segment-guided affinity distillation (SAD): how much the rays of one image segment resemble each other.

    `A_ij = <S_i, S_j> / (|S_i| |S_j|)` for rays `i, j` drawn from segment `g`;
    `L = 1/G sum_g 1/n_g^2 sum_ij (A^t_ij - A^s_ij)^2`.

    It does not change when a ray's vector is scaled, nor when all are rotated alike. Our choices where the paper leaves
    room: cosine affinities, the squared difference, and the three options.

    Args:
        student: composited logits of the occupied classes.
        teacher: those to imitate.
        segments: segment of each ray's pixel, negative for none. Leading dimensions are views: the same id in two views
            is two segments. Segments with a single ray do not count.
        max_rays: rays drawn from a segment at most (cost grows with its square), 2 or more.
        center: subtract the mean over the segment's drawn rays first; the loss then ignores a common offset, too.
        weigh_by: every segment counts alike, or by the number of its rays.
        generator: draws the rays at random; None takes them evenly spaced in the order given.

    Returns:
        A scalar in 0..4; 0 (with a zero gradient) if no segment has two rays. A ray that shows nothing (length below
        1e-4) has affinity 0 and no gradient.

    Raises:
        ValueError: if `max_rays` is below 2.

    Source: Zhang et al., "RadOcc", AAAI 2024 (rendered semantic consistency).
    """
    if max_rays < 2:
        raise ValueError(f"max_rays: expected 2 or more, got {max_rays}")
    rays, slots, sizes = _draw(segments, max_rays, generator)
    if sizes.numel() == 0:
        return student.sum() * 0.0
    drawn = sizes.clamp(max=max_rays)
    real = torch.arange(int(drawn.max()), device=drawn.device) < drawn[:, None]
    affinities: list[Float[Tensor, "g m m"]] = []
    for vectors in (student, teacher.detach()):
        rows = at_least_single(vectors.reshape(-1, vectors.shape[-1])[rays])
        padded = rows.new_zeros(*real.shape, rows.shape[-1]).index_put(slots, rows)
        affinities.append(_affinity(padded, real, center=center))
    distance = (affinities[1] - affinities[0]).square().sum(dim=(1, 2)) / drawn.square()
    return distance.mean() if weigh_by == "segments" else (distance * sizes).sum() / sizes.sum()


def _draw(
    segments: Int64[Tensor, "*v r"], max_rays: int, generator: torch.Generator | None
) -> tuple[Int64[Tensor, "n"], tuple[Int64[Tensor, "n"], Int64[Tensor, "n"]], Int64[Tensor, "g"]]:
    """Draw rays of segments of two or more: their flat indices, `(segment, place)`, and the segments' full sizes."""
    flat = segments.reshape(-1)
    rays = (flat >= 0).nonzero().squeeze(1)
    if generator is not None:
        rays = rays[torch.randperm(rays.numel(), generator=generator, device=generator.device).to(rays.device)]
    ids = flat[rays]
    if ids.numel() > 0:
        ids = rays // segments.shape[-1] * (ids.max() + 1) + ids  # of its view only
    _, segment, sizes = ids.unique(return_inverse=True, return_counts=True)
    order = segment.argsort(stable=True)
    rays, segment = rays[order], segment[order]
    rank = torch.arange(rays.numel(), device=rays.device) - (sizes.cumsum(0) - sizes)[segment]
    # Of n rays in order, m evenly spaced: those at which floor(rank * m / n) is about to rise.
    size = sizes[segment]
    target = size.clamp(max=max_rays)
    place = rank * target // size
    kept = ((rank + 1) * target // size > place) & (size > 1)
    several = sizes > 1
    renumbered = several.cumsum(0) - 1
    return rays[kept], (renumbered[segment[kept]], place[kept]), sizes[several]


def _affinity(vectors: Float[Tensor, "g m c"], real: Bool[Tensor, "g m"], *, center: bool) -> Float[Tensor, "g m m"]:
    """Cosines between the rays of each segment; 0 for places without a ray, which hold zeros."""
    if center:
        mean = vectors.sum(dim=1, keepdim=True) / real.sum(dim=1)[:, None, None]
        vectors = torch.where(real[..., None], vectors - mean, 0)
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    unit = torch.where(length > MIN_LENGTH, vectors / length.clamp(min=MIN_LENGTH), 0)
    return unit @ unit.transpose(1, 2)


def _mean_over_rays(values: Float[Tensor, "*r"], weights: Float[Tensor, "*r"] | None) -> Float[Tensor, ""]:
    if values.numel() == 0:
        return values.sum()
    if weights is None:
        return values.mean()
    weights = weights.detach().to(values.dtype)
    total = weights.sum()
    return (values * weights).sum() / torch.where(total > 0, total, 1)
