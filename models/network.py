"""The demo model's network in torch: a LLaMA (RMSNorm, rotary pairs, grouped heads, SwiGLU)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """The sizes of the network; every matrix dimension is a multiple of 256, the block of the K-quants."""

    vocab: int = 2048
    dim: int = 256
    layers: int = 6
    heads: int = 8
    kv_heads: int = 4
    ff: int = 1024
    context: int = 512
    rope_base: float = 10000.0
    eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def kv_dim(self) -> int:
        return self.kv_heads * self.head_dim


class RMSNorm(nn.Module):
    """x / rms(x) * weight, over the last dimension."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps)


def rope_angles(shape: Shape) -> Tensor:
    """The rotation of every pair at every position, as complex numbers: (context, head_dim / 2)."""
    pairs = torch.arange(0, shape.head_dim, 2).float() / shape.head_dim
    angles = torch.outer(torch.arange(shape.context).float(), shape.rope_base**-pairs)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the pairs (0, 1), (2, 3), ... of x (batch, heads, time, head_dim), as GGUF's llama expects."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2).contiguous())
    return torch.view_as_real(pairs * angles[: x.shape[-2]]).flatten(-2).to(x.dtype)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, block: int = 256) -> Tensor:
    """Softmax attention of (batch, heads, time, head_dim); each block of queries sees only the keys up to it.

    On a CPU this takes half the time of torch's fused attention for training.
    """
    time = q.shape[-2]
    q = q * q.shape[-1] ** -0.5
    hidden = torch.full((time, time), -torch.inf, dtype=q.dtype).triu(1)
    rows = []
    for start in range(0, time, block):
        end = min(start + block, time)
        scores = q[..., start:end, :] @ k[..., :end, :].transpose(-1, -2) + hidden[start:end, :end]
        rows.append(torch.softmax(scores, -1, dtype=q.dtype) @ v[..., :end, :])
    return torch.cat(rows, -2)


class Attention(nn.Module):
    """Causal attention; neighbouring query heads share a key/value head."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.q = nn.Linear(shape.dim, shape.dim, bias=False)
        self.k = nn.Linear(shape.dim, shape.kv_dim, bias=False)
        self.v = nn.Linear(shape.dim, shape.kv_dim, bias=False)
        self.o = nn.Linear(shape.dim, shape.dim, bias=False)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        head_dim, repeat = self.shape.head_dim, self.shape.heads // self.shape.kv_heads
        q, k, v = (w(x).unflatten(-1, (-1, head_dim)).transpose(1, 2) for w in (self.q, self.k, self.v))
        q, k = rotate(q, angles), rotate(k, angles)
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        y = causal_attention(q, k, v)
        out: Tensor = self.o(y.transpose(1, 2).flatten(-2))
        return out


class MLP(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.dim, shape.ff, bias=False)
        self.up = nn.Linear(shape.dim, shape.ff, bias=False)
        self.down = nn.Linear(shape.ff, shape.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return out


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attn_norm = RMSNorm(shape.dim, shape.eps)
        self.attn = Attention(shape)
        self.ffn_norm = RMSNorm(shape.dim, shape.eps)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        x = x + self.attn(self.attn_norm(x), angles)
        return x + self.mlp(self.ffn_norm(x))


class Network(nn.Module):
    """Tokens (batch, time) -> logits (batch, time, vocab)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocab, shape.dim)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.dim, shape.eps)
        self.head = nn.Linear(shape.dim, shape.vocab, bias=False)
        self.head.weight = self.embed.weight
        self.angles = rope_angles(shape)
        self.initialise()

    @torch.no_grad()
    def initialise(self) -> None:
        """Random weights, but every second head begins as a head that copies.

        Its output matrix is the transpose of its value matrix, so that attending to a token makes that token
        likelier (the vocabulary's output matrix is the embedding). Stories live from copying: names, things,
        places. From a purely random start this takes many times the tokens of this training.
        """
        shape = self.shape
        nn.init.normal_(self.embed.weight, std=0.06)
        for layer in self.layers:
            for name, matrix in layer.named_parameters():
                if matrix.dim() == 2:
                    # what writes to the residual stream starts smaller: it is added up over the layers
                    share = 2 * shape.layers if name.endswith(("o.weight", "down.weight")) else 1
                    nn.init.normal_(matrix, std=(matrix.shape[1] * share) ** -0.5)
            attention = cast(Layer, layer).attn
            nn.init.orthogonal_(attention.v.weight)
            value = attention.v.weight.view(shape.kv_heads, shape.head_dim, shape.dim)
            output = attention.o.weight.view(shape.dim, shape.kv_heads, -1, shape.head_dim)
            output[:, :, 0] = 0.4 * value.permute(2, 0, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        x: Tensor = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, self.angles)
        logits: Tensor = self.head(self.norm(x))
        return logits


def gguf_names(shape: Shape) -> dict[str, str]:
    """The GGUF tensor name of every parameter of `Network`."""
    parts = {
        "attn_norm.weight": "attn_norm", "attn.q.weight": "attn_q", "attn.k.weight": "attn_k",
        "attn.v.weight": "attn_v", "attn.o.weight": "attn_output", "ffn_norm.weight": "ffn_norm",
        "mlp.gate.weight": "ffn_gate", "mlp.up.weight": "ffn_up", "mlp.down.weight": "ffn_down",
    }  # fmt: skip
    names = {"embed.weight": "token_embd", "norm.weight": "output_norm", "head.weight": "output"}
    for layer in range(shape.layers):
        names |= {f"layers.{layer}.{ours}": f"blk.{layer}.{theirs}" for ours, theirs in parts.items()}
    return {ours: f"{theirs}.weight" for ours, theirs in names.items()}
