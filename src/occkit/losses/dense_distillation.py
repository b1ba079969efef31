"""Distillation voxel by voxel: logits, features, channels. The baselines that rendered distillation is compared with.

The teacher is a constant in every function: gradients reach the student only.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def distill_logits(
    student: Float[Tensor, "b c *s"],
    teacher: Float[Tensor, "b c *s"],
    *,
    mask: Bool[Tensor, "b *s"] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Divergence of the class distributions of each voxel, the mean over the voxels `V` under the mask.

    `L = T^2 / |V| sum_V KL(softmax(o^t / T) || softmax(o^s / T))`, the softmax over classes.

    Args:
        student: class scores before softmax.
        teacher: those to imitate.
        mask: true where the loss applies (seen by a camera); None is everywhere.
        temperature: T, above 0; larger ones give the unlikely classes more say.

    Returns:
        A scalar >= 0, natural logarithm; 0 (with a zero gradient) if the mask is empty.

    Example:
        >>> even, sure = torch.zeros(1, 2, 1), torch.tensor([[[100.0], [0.0]]])
        >>> round(distill_logits(even, sure).item(), 4)
        0.6931

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2.
    """
    rows = _masked_rows(student, mask)
    if rows.shape[0] == 0:
        return student.sum() * 0.0
    return _softmax_divergence(rows, _masked_rows(teacher, mask), temperature=temperature).mean()


def distill_features(
    student: Float[Tensor, "b c *s"],
    teacher: Float[Tensor, "b c *s"],
    *,
    mask: Bool[Tensor, "b *s"] | None = None,
    norm: Literal["l1", "l2"] = "l2",
) -> Float[Tensor, ""]:
    """Difference of aligned features, the mean over channels and over the voxels under the mask.

    `L = 1 / (|V| c) sum_V sum_c |f^s - f^t|^p`, p = 1 or 2.

    Args:
        student: features with as many channels as the teacher's: after its adapter, a 1x1x1 convolution, if it has one.
        teacher: those to imitate.
        mask: true where the loss applies; None is everywhere.
        norm: absolute or squared difference.

    Returns:
        A scalar >= 0; 0 (with a zero gradient) if the mask is empty.

    Source: Romero et al., "FitNets", ICLR 2015, equation 3; over the voxels of a mask as in BEVDistill, ICLR 2023.
    """
    rows = _masked_rows(student, mask)
    if rows.shape[0] == 0:
        return student.sum() * 0.0
    difference = at_least_single(rows) - at_least_single(_masked_rows(teacher.detach(), mask))
    return difference.abs().mean() if norm == "l1" else difference.square().mean()


def distill_channels(
    student: Float[Tensor, "b c *s"],
    teacher: Float[Tensor, "b c *s"],
    *,
    mask: Bool[Tensor, "b *s"] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Divergence of where each channel is active: its values are a distribution over the voxels of one sample.

    `L = T^2 / (b c) sum_b sum_c KL(softmax_V(f^t / T) || softmax_V(f^s / T))`, the softmax over voxels under the mask.

    Args:
        student: features or logits.
        teacher: those to imitate, as many channels.
        mask: true where the loss applies; None is everywhere. A sample without any counts as 0.
        temperature: T, above 0.

    Returns:
        A scalar >= 0, natural logarithm; 0 (with a zero gradient) if the mask is empty.

    Source: Shu et al., "Channel-Wise Knowledge Distillation for Dense Prediction", ICCV 2021.
    """
    student, teacher = student.flatten(2), teacher.flatten(2)
    kept = None if mask is None else mask.flatten(1)
    total = student.sum() * 0.0
    for i in range(student.shape[0]):
        voxels = slice(None) if kept is None else kept[i]
        rows, target = student[i][:, voxels], teacher[i][:, voxels]
        total = total + _softmax_divergence(rows, target, temperature=temperature).mean()
    return total / max(student.shape[0], 1)


def _softmax_divergence(
    student: Float[Tensor, "*r c"], teacher: Float[Tensor, "*r c"], *, temperature: float
) -> Float[Tensor, "*r"]:
    """`T^2 KL(softmax(teacher / T) || softmax(student / T))` of each row; the teacher is a constant."""
    log_student = (at_least_single(student) / temperature).log_softmax(dim=-1)
    log_teacher = (at_least_single(teacher.detach()) / temperature).log_softmax(dim=-1)
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(dim=-1) * temperature**2


def at_least_single(values: Float[Tensor, "*r"]) -> Float[Tensor, "*r"]:
    """Return values in float32 or finer: differences and logarithms of small numbers are too fine for less."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _masked_rows(volume: Float[Tensor, "b c *s"], mask: Bool[Tensor, "b *s"] | None) -> Float[Tensor, "v c"]:
    rows = volume.movedim(1, -1)
    return rows.reshape(-1, volume.shape[1]) if mask is None else rows[mask]
