"""A LLaMA model in numpy, in f64, token by token: what the engine is held against where groups are late."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from halo.model import Model

Doubles = NDArray[np.float64]
Outputs = Callable[[int, Doubles], tuple[Doubles, Doubles]]
"""Of a layer and the outputs (groups, d) of its MLP groups: what goes into its own sum (d), and into the next (d)."""


def in_time(_: int, outputs: Doubles) -> tuple[Doubles, Doubles]:
    return outputs.sum(axis=0), np.zeros(outputs.shape[1])


class Reference:
    """An F32 model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.spec = model.spec

    def weights(self, name: str) -> Doubles:
        return self.values(f"{name}.weight")

    def bias(self, name: str) -> Doubles:
        """Zero where the model has none."""
        return self.values(f"{name}.bias") if f"{name}.bias" in self.model.file.tensors else np.zeros(1)

    def values(self, name: str) -> Doubles:
        tensor = self.model.file.tensors[name]
        values = np.frombuffer(self.model.file.data, "<f4", int(np.prod(tensor.shape)), tensor.offset)
        return values.reshape(tensor.shape[::-1]).astype(np.float64)

    def normed(self, x: Doubles, name: str) -> Doubles:
        return x / np.sqrt((x * x).mean() + self.spec.norm_eps) * self.weights(name)

    def group_outputs(self, layer: int, h: Doubles) -> Doubles:
        """(groups, d) of a layer input (d)."""
        gate, up, down = (self.weights(f"blk.{layer}.ffn_{name}") for name in ("gate", "up", "down"))
        a = gate @ h + self.bias(f"blk.{layer}.ffn_gate")
        neurons = a / (1 + np.exp(-a)) * (up @ h + self.bias(f"blk.{layer}.ffn_up"))
        bounds = itertools.pairwise(self.model.grid.mlp[layer])
        return np.stack([down[:, begin:end] @ neurons[begin:end] for begin, end in bounds])

    def forward(self, tokens: Sequence[int] | NDArray[np.int32], outputs: Outputs = in_time) -> Doubles:
        """Logits (tokens, vocab)."""
        spec = self.spec
        caches: list[tuple[list[Doubles], list[Doubles]]] = [([], []) for _ in range(spec.n_layers)]
        logits = []
        for position, token in enumerate(tokens):
            x = self.weights("token_embd")[token].copy()
            owed = np.zeros(spec.d)
            for layer in range(spec.n_layers):
                x += self.attention(layer, self.normed(x, f"blk.{layer}.attn_norm"), position, caches[layer])
                x += owed
                now, owed = outputs(layer, self.group_outputs(layer, self.normed(x, f"blk.{layer}.ffn_norm")))
                x += now + self.bias(f"blk.{layer}.ffn_down")
            logits.append(self.weights("output") @ self.normed(x, "output_norm"))
        return np.stack(logits)

    def attention(self, layer: int, h: Doubles, position: int, cache: tuple[list[Doubles], list[Doubles]]) -> Doubles:
        spec = self.spec
        q, k, v = (
            (self.weights(f"blk.{layer}.{name}") @ h + self.bias(f"blk.{layer}.{name}")).reshape(-1, spec.head_dim)
            for name in ("attn_q", "attn_k", "attn_v")
        )
        keys, values = cache
        keys.append(self.rotated(k, position).astype(np.float16).astype(np.float64))
        values.append(v.astype(np.float16).astype(np.float64))
        of = spec.n_heads // spec.n_kv_heads
        heads = []
        for head, row in enumerate(self.rotated(q, position)):
            scores = np.stack(keys)[:, head // of] @ row / np.sqrt(spec.head_dim)
            share = np.exp(scores - scores.max())
            heads.append(share / share.sum() @ np.stack(values)[:, head // of])
        output = f"blk.{layer}.attn_output"
        return self.weights(output) @ np.concatenate(heads) + self.bias(output)

    def rotated(self, x: Doubles, position: int) -> Doubles:
        """Pairs (2i, 2i + 1) of each head's (heads, head_dim)."""
        dims = self.spec.rope_dims
        angles = position / self.spec.rope_scaling * self.spec.rope_base ** (-np.arange(0, dims, 2) / dims)
        if "rope_freqs.weight" in self.model.file.tensors:
            angles /= self.weights("rope_freqs")
        out = x.copy()
        a, b = x[:, 0:dims:2], x[:, 1:dims:2]
        out[:, 0:dims:2] = a * np.cos(angles) - b * np.sin(angles)
        out[:, 1:dims:2] = a * np.sin(angles) + b * np.cos(angles)
        return out
