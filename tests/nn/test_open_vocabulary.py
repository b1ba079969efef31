"""Classes and queries, against answers worked out by hand."""

import math

import pytest
import torch
from torch.nn import functional

from occkit.nn import open_vocabulary
from occkit.nn.open_vocabulary import assign_classes, cosine_scores, query_relevancy
from occkit.taxonomy import OCC3D

CAR, ROAD, OTHERS = (OCC3D.id_of(name) for name in ("car", "driveable_surface", "others"))
AXES = torch.eye(4)
# Two words for a car, one for the road, and the sky.
CLASSES = torch.tensor([CAR, CAR, ROAD, OTHERS])


def assign(features, density, text=AXES, **options):
    return assign_classes(features, density, text, CLASSES, free_id=OCC3D.free_id, **options)


def test_the_best_prompt_names_the_voxel():
    features = torch.stack([AXES[0], 5 * AXES[1], 0.1 * AXES[2] + 0.09 * AXES[0], AXES[3]])
    assert assign(features, torch.ones(4)).tolist() == [CAR, CAR, ROAD, OTHERS]


def test_what_is_thin_is_free_and_the_sky_is_not():
    density = torch.tensor([0.0, 0.0999, 0.1, 0.9])
    found = assign(AXES[[3, 3, 3, 3]], density)
    assert found.tolist() == [OCC3D.free_id, OCC3D.free_id, OTHERS, OTHERS]
    assert assign(AXES, density, threshold=0.5).tolist() == [17, 17, 17, OTHERS]


def test_classes_do_not_add_up_over_their_prompts():
    """Two prompts that fit fairly do not beat one that fits well: the maximum decides."""
    feature = torch.tensor([0.6, 0.6, 0.7, 0.0])
    assert assign(feature[None], torch.ones(1)).tolist() == [ROAD]


def test_long_text_vectors_have_no_advantage():
    feature = torch.tensor([1.0, 0.0, 0.9, 0.0])
    scale = torch.tensor([1.0, 1.0, 50.0, 1.0])[:, None]
    assert assign(feature[None], torch.ones(1), AXES * scale).tolist() == [CAR]


def test_volumes_keep_their_shape_however_they_are_divided(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    features, density = torch.randn(3, 4, 5, 4, generator=draw), torch.rand(3, 4, 5, generator=draw)
    whole = assign(features, density, threshold=0.4)
    assert whole.shape == (3, 4, 5)
    expected = torch.where(density < 0.4, OCC3D.free_id, CLASSES[features.argmax(-1)])
    assert torch.equal(whole, expected)
    monkeypatch.setattr(open_vocabulary, "_ROWS", 7)
    assert torch.equal(assign(features, density, threshold=0.4), whole)
    assert (assign(features, torch.zeros_like(density)) == OCC3D.free_id).all()


def test_scores_are_cosines():
    features = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = cosine_scores(features, 2 * AXES[:2])
    assert torch.allclose(found, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


def test_relevancy_by_hand():
    query, negatives = AXES[0], AXES[1:3]
    features = functional.normalize(torch.tensor([[1.0, 0, 0, 0], [1.0, 1.0, 0, 0], [0, 0, 1.0, 0]]), dim=-1)
    found = query_relevancy(features, query, negatives, scale=2.0)
    e = math.e
    assert found.tolist() == pytest.approx([e**2 / (e**2 + 1), 0.5, 1 / (1 + e**2)])
    hard = query_relevancy(features, query, negatives)
    assert hard[0] > 0.9999
    assert hard[2] < 1e-4


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="at least one prompt"):
        assign_classes(AXES, torch.ones(4), AXES[:0], CLASSES[:0], free_id=17)
    with pytest.raises(ValueError, match="got NaN"):
        assign(AXES, torch.tensor([1.0, float("nan"), 1.0, 1.0]))
    with pytest.raises(ValueError, match="negatives"):
        query_relevancy(AXES, AXES[0], AXES[:0])
