import pytest
import torch
from torch import nn

from occkit.errors import ConfigError
from occkit.training.checkpoint import pack_optimizer, unpack_optimizer
from occkit.training.muon import NEWTON_SCHULZ, MuonAdamW, orthogonalise
from occkit.training.optim import OptimConfig, set_learning_rate

CONFIG = OptimConfig(lr=1e-2, muon_lr=0.05, weight_decay=0.1)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(64, 2))


def learn(model: nn.Module, optimizer: MuonAdamW, steps: int, first: int = 0) -> float:
    value = torch.zeros(())
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(16, 3, 4, 4, generator=generator)
        value = nn.functional.mse_loss(model(x), x.square().mean(dim=(2, 3))[:, :2])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return value.item()


@pytest.mark.parametrize("shape", [(8, 8), (4, 40), (40, 4)])
def test_orthogonalised_matrices_keep_their_singular_vectors(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ orthogonalise(matrix) @ v.T
    assert torch.allclose(inside, torch.diag(torch.diag(inside)), atol=1e-6)
    assert torch.diag(inside).min() > 0.3
    assert torch.diag(inside).max() < 1.3


def naive(matrix: torch.Tensor) -> torch.Tensor:
    """The published iteration, product by product."""
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = NEWTON_SCHULZ[0] * x + (NEWTON_SCHULZ[1] * gram + NEWTON_SCHULZ[2] * gram @ gram) @ x
    return x


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_the_order_of_the_products_changes_nothing(dtype: torch.dtype, bound: float) -> None:
    """Also for a matrix whose singular values span four decades."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(16, 100, generator=generator, dtype=torch.float64)
    matrix = torch.logspace(0, -4, 16, dtype=torch.float64)[:, None] * torch.linalg.qr(matrix.T).Q.T
    assert torch.allclose(orthogonalise(matrix.to(dtype)).double(), naive(matrix), atol=bound, rtol=0)
    assert torch.equal(orthogonalise(matrix), orthogonalise(matrix.T).T)


def test_no_gradient_moves_nothing() -> None:
    assert not orthogonalise(torch.zeros(3, 5)).any()


def test_kernels_go_by_muon_and_the_rest_as_under_adamw() -> None:
    one, other = network(), network()
    mixed = CONFIG.build(one)
    plain = torch.optim.AdamW(
        [
            {"params": [p for p in other.parameters() if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in other.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=1e-2,
        fused=True,
    )
    for model, optimizer in ((one, mixed), (other, plain)):
        x = torch.randn(16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        model(x).square().mean().backward()
        optimizer.step()
    before = network()
    for name, parameter in one.named_parameters():
        same = torch.equal(parameter, other.get_parameter(name))
        assert same is (parameter.ndim < 4), name
    step = (one[2].weight - before[2].weight * (1 - 0.05 * 0.1)).detach().flatten(1)  # type: ignore[union-attr, operator]
    assert torch.allclose(torch.linalg.svdvals(step), torch.full((4,), 0.05), rtol=0.5)


def test_its_state_is_kept() -> None:
    whole, first, second = network(), network(), network()
    learn(whole, CONFIG.build(whole), 6)
    optimizer = CONFIG.build(first)
    learn(first, optimizer, 3)
    second.load_state_dict(first.state_dict())
    resumed = CONFIG.build(second)
    unpack_optimizer(resumed, pack_optimizer(optimizer))
    learn(second, resumed, 3, first=3)
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_schedule_scales_both_rules() -> None:
    optimizer = CONFIG.build(network())
    set_learning_rate(optimizer, 5e-3)
    rates = {bool(g["muon"]): g["lr"] for g in optimizer.param_groups}
    assert rates == {False: pytest.approx(5e-3), True: pytest.approx(0.025)}
    with pytest.raises(ConfigError, match="muon_lr must be positive"):
        OptimConfig(muon_lr=0.0)


def test_a_step_whose_gradients_overflowed_is_skipped_whole() -> None:
    """With 16-bit gradients; a fused AdamW would skip it by itself, and Muon's kernels would become infinite."""
    model = network()
    optimizer = CONFIG.build(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for factor, moves in ((float("inf"), False), (1.0, True)):
        optimizer.zero_grad()
        scaler.scale(factor * model(torch.ones(1, 3, 4, 4)).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        for name, tensor in model.state_dict().items():
            assert torch.isfinite(tensor).all(), name
            assert torch.equal(tensor, before[name]) is not moves, name
