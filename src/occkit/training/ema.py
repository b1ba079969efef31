"""Exponential moving average of a module's state."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    r"""Average of weights and buffers over the steps, `a <- d a + (1 - d) w`.

    The decay starts small, `d = min(decay, (1 + n) / (10 + n))` after `n` updates, so that the initial weights are
    forgotten quickly. Integer buffers (counters) are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self.average = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the module's present state into the average."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        average, present = [], []
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                average.append(self.average[name])
                present.append(tensor)
            else:
                self.average[name].copy_(tensor)
        if average:
            get_ema_multi_avg_fn(decay)(average, present, self.num_updates)  # all at once: small models have many
        self.num_updates += 1

    def load(self, average: dict[str, Tensor], num_updates: int) -> None:
        """Take over an average that was saved; the names are those of the module."""
        for name, tensor in self.average.items():
            tensor.copy_(average[name])
        self.num_updates = num_updates

    @contextmanager
    def applied(self, module: nn.Module) -> Generator[None]:
        """Give the module the averaged state inside a `with`, and its own state back afterwards."""
        own = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        module.load_state_dict(self.average)
        try:
            yield
        finally:
            module.load_state_dict(own)
