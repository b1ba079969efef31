"""What the claims of a system have in common: they may share a folder, and run in it what another has not run."""

from dataclasses import replace

import pytest

from occkit.training.claim import PRIOR
from occkit.training.claim_results import arm_identity, load_claim


@pytest.mark.parametrize(
    ("system", "others"),
    [
        ("radocc", ("effects", "choices")),
        ("easyocc", ("effects",)),
        ("langocc", ("effects", "losses", "choices")),
        ("cigocc", ("effects", "doses", "learned_images")),
        ("occscene", ("effects",)),
    ],
)
def test_what_one_claim_of_a_system_has_run_is_not_run_again_for_another(system: str, others: tuple[str, ...]) -> None:
    claim = load_claim(system)
    for other in (load_claim(f"{system}.{name}") for name in others):
        assert other.world == claim.world
        shared = set(claim.arms) & set(other.arms)
        assert shared
        for arm in {PRIOR} | shared:
            assert arm_identity(other, arm, 0, 100) == arm_identity(claim, arm, 0, 100), (other.system, arm)
        trained = [(make(), claim.starts.get(arm)) for arm, make in claim.arms.items()]
        for arm in set(other.arms) - shared:
            same = (other.arms[arm](), other.starts.get(arm)) in trained
            assert not same, f"{other.system}: {arm} has another name in {system}"


def test_the_quick_claim_of_occscene_is_the_whole_one_in_fewer_steps() -> None:
    for whole in ("occscene", "occscene.rooms"):
        quick = load_claim(f"{whole}{'_' if '.' in whole else '.'}quick")
        claim = load_claim(whole)
        assert (quick.world, quick.seeds, quick.val_frames) == (claim.world, claim.seeds, claim.val_frames)
        assert set(quick.lines) < set(claim.lines)
        for arm, make in quick.arms.items():
            recipe = claim.arms[arm]()
            steps = recipe.steps // (4 if arm in ("denoiser", "align") else 2)
            assert make() == replace(recipe, steps=steps, evaluate_every=steps), (whole, arm)
            assert quick.starts.get(arm) == claim.starts.get(arm)
