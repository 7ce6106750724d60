"""The grid: how each layer is cut into neuron groups. A property of the model file, never of the cell."""

from __future__ import annotations

from math import gcd

MAX_MLP_GROUPS = 32
MAX_GROUPS = 64  # a mask of groups has 64 bits


def mlp_bounds(ff: int, block: int, most: int = MAX_MLP_GROUPS) -> list[int]:
    """Boundaries, in neurons, of near-equal slices whose columns of `down` are whole blocks of weights.

    The grain is one block (256 for K-quants, 32 for other quants), 4 neurons where weights have no blocks; at
    most `most` slices (1 to 32); the last may be smaller.
    """
    grain = block if block > 1 else 4
    units = -(-ff // grain)
    groups = min(most, MAX_MLP_GROUPS, units)
    return [min(ff, units * g // groups * grain) for g in range(groups + 1)]


def attention_bounds(n_kv_heads: int, columns_per_kv_head: int, block: int) -> list[int]:
    """Boundaries, in KV heads, of the smallest groups whose columns of `o` are whole blocks of weights."""
    whole = block // gcd(block, columns_per_kv_head)
    step = whole * max(1, -(-n_kv_heads // (MAX_GROUPS * whole)))
    bounds = list(range(0, n_kv_heads, step))
    return [*bounds, n_kv_heads]
