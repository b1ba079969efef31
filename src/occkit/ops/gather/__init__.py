"""Weighted sums of table rows: the one sparse product under sampling plans, voxel pooling and view gathering.

`out[m] = sum_k weights[k] table[index[k]]`, k over the taps of bag m.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from occkit.ops.gather import reference

__all__ = ["Backend", "Bags", "choose_backend", "gather_sum", "offsets_of"]

Backend = Literal["auto", "reference", "torch", "numba"]
"""`reference`: plain torch; `torch`: fused operators, any device; `numba`: CPU kernels; `auto`: the fastest here."""


def choose_backend(backend: Backend, tensor: Tensor) -> Literal["reference", "torch", "numba"]:
    """Resolve `auto`: numba on the CPU, fused torch elsewhere, the reference on the meta device or in a traced graph.

    Raises:
        ValueError: for an unknown name, or numba asked for off the CPU.
    """
    if backend == "auto":
        if torch.compiler.is_compiling() or tensor.is_meta:
            return "reference"
        return "numba" if tensor.device.type == "cpu" else "torch"
    if backend not in ("reference", "torch", "numba"):
        raise ValueError(f"backend: expected 'auto', 'reference', 'torch' or 'numba', got {backend!r}")
    if backend == "numba" and tensor.device.type != "cpu":
        raise ValueError(f"backend: 'numba' runs on the CPU, the tensors are on {tensor.device}; use 'auto'")
    return backend


@dataclass(frozen=True, kw_only=True)
class Bags:
    """Which rows of a table each output row sums, and the same seen from the table, for the backward pass.

    Build with `Bags.from_pairs`; valid for every table with `num_rows` rows, on the device it was built on.
    """

    index: Int[Tensor, "k"]
    """Table row of each tap; taps of one bag lie together."""
    owner: Int[Tensor, "k"]
    """Bag of each tap, ascending."""
    offsets: Int[Tensor, "m+1"]
    """Taps of bag m are `offsets[m] .. offsets[m + 1] - 1`."""
    row_owner: Int[Tensor, "k"]
    """Bag of each tap, taps sorted by table row."""
    row_order: Int[Tensor, "k"]
    """Position among `index` of each tap, taps sorted by table row."""
    row_offsets: Int[Tensor, "v+1"]
    """Taps that read row v are `row_offsets[v] .. row_offsets[v + 1] - 1` of `row_order`."""

    @property
    def num_bags(self) -> int:
        """Number of output rows."""
        return self.offsets.shape[0] - 1

    @property
    def num_rows(self) -> int:
        """Number of table rows."""
        return self.row_offsets.shape[0] - 1

    @classmethod
    def from_pairs(
        cls,
        owner: Int[Tensor, "k"],
        index: Int[Tensor, "k"],
        *,
        num_bags: int,
        num_rows: int,
        owner_is_sorted: bool = False,
        index_is_sorted: bool = False,
    ) -> tuple["Bags", Int[Tensor, "k"]]:
        """Sort taps into bags.

        Args:
            owner: output row each tap adds to, 0..num_bags-1, any order.
            index: table row each tap reads, 0..num_rows-1.
            num_bags: number of output rows.
            num_rows: number of table rows.
            owner_is_sorted: promise that `owner` is ascending, which saves a sort.
            index_is_sorted: promise that `index` is ascending, which saves a sort.

        Returns:
            bags: the taps, ordered by bag and stable within one.
            order: position in `owner` of each tap of `bags`, to bring its weight along: `weights[order]`.

        Raises:
            ValueError: if an owner or an index is out of range, or there are 2^31 rows or bags.
        """
        if max(num_bags, num_rows) >= 2**31:
            raise ValueError(f"num_bags, num_rows: expected less than 2^31, got {num_bags} and {num_rows}")
        _check_range("owner", owner, num_bags)
        _check_range("index", index, num_rows)
        positions = torch.arange(owner.shape[0], device=owner.device)
        if torch.compiler.is_compiling():  # only the reference is traced, and it takes taps in any order
            owner_is_sorted = index_is_sorted = True
        order = positions if owner_is_sorted else _stable_order(owner)
        sorted_owner, sorted_index = owner.long()[order], index.long()[order]
        if index_is_sorted:  # then sorting by row undoes the sorting by bag
            row_order = torch.empty_like(positions).scatter_(0, order, positions)
        else:
            row_order = _stable_order(sorted_index)
        return cls(
            index=sorted_index,
            owner=sorted_owner,
            offsets=offsets_of(owner, num_bags),
            row_owner=sorted_owner[row_order],
            row_order=row_order,
            row_offsets=offsets_of(index, num_rows),
        ), order


def _stable_order(keys: Int[Tensor, "k"]) -> Int[Tensor, "k"]:
    """Return the stable ascending order of row numbers; as int32 they sort four times faster."""
    return torch.sort(keys.to(torch.int32), stable=True).indices


def offsets_of(keys: Int[Tensor, "k"], num_bins: int) -> Int[Tensor, "bins"]:
    """Return where the run of each key starts once the keys are sorted; the last entry is their number."""
    counts = torch.zeros(num_bins + 1, dtype=torch.int64, device=keys.device)
    counts.scatter_add_(0, keys.long() + 1, torch.ones_like(keys, dtype=torch.int64))
    return counts.cumsum(0)


def _check_range(name: str, values: Tensor, limit: int) -> None:
    if values.is_meta or torch.compiler.is_compiling() or not values.numel():
        return
    low, high = values.aminmax()
    if int(low) < 0 or int(high) >= limit:
        raise ValueError(f"{name}: expected values in 0..{limit - 1}, got {int(low)}..{int(high)}")


def gather_sum(
    table: Float[Tensor, "v c"],
    bags: Bags,
    weights: Float[Tensor, "k"] | None = None,
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "m c"]:
    """Sum weighted rows of a table, bag by bag.

    `out[m] = sum_k weights[k] table[index[k]]`, k over the taps of bag m; an empty bag gives zeros.

    Args:
        table: rows to read, any unit. Half precision is computed in float32.
        bags: which rows; see `Bags.from_pairs`.
        weights: one factor a tap, in the order of `bags`; None is 1.
        backend: see `Backend`.

    Returns:
        One row a bag, dtype of `table`. Differentiable in table and weights (once with numba).

    Raises:
        ValueError: if table or weights do not fit the bags.

    Example:
        >>> bags, order = Bags.from_pairs(torch.tensor([0, 0]), torch.tensor([0, 1]), num_bags=2, num_rows=2)
        >>> gather_sum(torch.tensor([[1.0], [10.0]]), bags, torch.tensor([0.5, 2.0])[order]).tolist()
        [[20.5], [0.0]]

    Source: original.
    """
    if table.ndim != 2 or table.shape[0] != bags.num_rows:
        raise ValueError(f"table: expected [{bags.num_rows}, channels] for these bags, got {tuple(table.shape)}")
    if weights is not None and weights.shape != bags.index.shape:
        raise ValueError(f"weights: expected {tuple(bags.index.shape)}, one a tap, got {tuple(weights.shape)}")
    dtype = torch.promote_types(table.dtype, torch.float32)
    values = table.to(dtype)
    factors = values.new_ones(bags.index.shape) if weights is None else weights.to(dtype)
    chosen = choose_backend(backend, table)
    if chosen == "reference":
        result = reference.gather_sum(values, bags.index, bags.owner, factors, bags.num_bags)
    elif chosen == "torch":
        from occkit.ops.gather.torch_bags import gather_sum as fused

        result = fused(values, bags.index, bags.offsets, factors)
    else:
        from occkit.ops.gather.numba_cpu import GatherSum

        result = GatherSum.apply(
            values, factors, bags.index, bags.offsets, bags.row_owner, bags.row_order, bags.row_offsets
        )
    return result.to(table.dtype)
