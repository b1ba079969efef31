"""RadOcc's small recipes that show what its parts are worth: each changes one thing of `few`, or of `nano`."""

from dataclasses import replace

from occkit.nn.attention import AttentionLiftConfig
from occkit.systems import lift
from occkit.systems.lift import LiftConfig
from occkit.systems.radocc.network import RadOccConfig
from occkit.systems.radocc.recipes import few, few_logits, few_none, nano_rdc, with_rays
from occkit.training.recipe import Recipe

PERFECT_SEGMENTS = "segments/perfect"
"""Where the recipe that shows what better segments would give looks for them."""


def nano_double_softmax() -> Recipe:
    """`nano_rdc` with the termination loss of the public code, for reproduction."""
    return with_rays(nano_rdc(), "nano_double_softmax", termination=100.0, double_softmax=True)


def few_scores() -> Recipe:
    """`few`, rays showing class scores as in the paper, not probabilities."""
    return with_rays(few(), "few_scores", shows="scores")


def few_both() -> Recipe:
    """`few` and `few_logits` at once: rays and voxels."""
    base = few()
    assert isinstance(base.system, RadOccConfig)
    return replace(base, name="radocc.few_both", system=replace(base.system, logits=10.0))


def few_logits_x() -> Recipe:
    """`few_logits` as in the public code, whose softmax runs along the volume's first axis, for reproduction."""
    base = few_logits()
    assert isinstance(base.system, RadOccConfig)
    return replace(base, name="radocc.few_logits_x", system=replace(base.system, logits_over="x"))


def few_rays_300() -> Recipe:
    """`few` with a twentieth of the rays."""
    return with_rays(few(), "few_rays_300", num_rays=300)


def few_perfect_segments() -> Recipe:
    """`few` with the true segments of the world: what a better segmenter could give."""
    base = few()
    return replace(base, name="radocc.few_perfect_segments", data=replace(base.data, segments=PERFECT_SEGMENTS))


def few_labelled() -> Recipe:
    """`few_none` on the labelled frames alone: each step sees two of them."""
    return replace(few_none(), name="radocc.few_labelled", labelled_share=1.0)


def few_60() -> Recipe:
    """`few` with the labels of 60 frames."""
    return replace(few(), name="radocc.few_60", max_labelled_frames=60)


def few_60_none() -> Recipe:
    """`few_none` with 60 frames."""
    return replace(few_none(), name="radocc.few_60_none", max_labelled_frames=60)


def _with_student(recipe: Recipe, name: str, student: LiftConfig, *, num_past: int = 0) -> Recipe:
    assert isinstance(recipe.system, RadOccConfig)
    system = replace(recipe.system, student=replace(student, image_steps=recipe.system.student.image_steps))
    data = replace(recipe.data, num_past=num_past)
    return replace(recipe, name=f"radocc.{name}", system=system, data=data)


def _stereo_student() -> LiftConfig:
    student = lift.nano_stereo().system
    assert isinstance(student, LiftConfig)
    return student


def few_stereo_none() -> Recipe:
    """A student whose depth is matched with the frame before, alone."""
    return _with_student(few_none(), "few_stereo_none", _stereo_student(), num_past=1)


def few_stereo() -> Recipe:
    """The same, taught along rays."""
    return _with_student(few(), "few_stereo", _stereo_student(), num_past=1)


def _attention_student() -> LiftConfig:
    base = lift.nano().system
    assert isinstance(base, LiftConfig)
    return replace(
        base,
        lift_stride=(2, 2, 8),
        depth=replace(base.depth, context_channels=48),
        lift=AttentionLiftConfig(layers=2, heads=4, heights=4, points=2, neighbours=4, hidden=96),
    )


def few_attention_none() -> Recipe:
    """A BEVFormer-type student, alone: deformable attention from flat cells of 1.6 m into the images."""
    return _with_student(few_none(), "few_attention_none", _attention_student())


def few_attention() -> Recipe:
    """The same, taught along rays."""
    return _with_student(few(), "few_attention", _attention_student())
