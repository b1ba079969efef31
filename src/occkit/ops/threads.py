"""How many threads numba's kernels use: as many as torch."""

# pyright: basic

import numba
import torch
from numba.core import config


def match_torch_threads() -> None:
    """Give numba's parallel loops as many threads as torch has, so that one setting rules both."""
    threads = torch.get_num_threads()
    numba.set_num_threads(max(1, min(threads, config.NUMBA_NUM_THREADS)))  # pyright: ignore[reportAttributeAccessIssue]
    # As it starts, numba's OpenMP layer gives the runtime that torch shares with it as many threads as cores.
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
