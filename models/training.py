"""Corpus, tokenizer and training of the demo model: every stage keeps its result in the work folder."""

from __future__ import annotations

import ctypes
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch
from network import Network, Shape
from stories import story
from torch import Tensor
from torch.nn import functional as F

BOS, EOS = 1, 2
TOKENIZER_STORIES = 6000
SAVE_EVERY = 50
# window length, and the part of the steps after which the next one begins
WINDOWS = ((64, 0.15), (128, 0.3), (256, 0.5), (512, 1.0))


@dataclass(frozen=True)
class Settings:
    """What decides the result of a training; a checkpoint of other settings is not resumed."""

    steps: int
    seed: int
    batch: int = 8
    matrix_rate: float = 6e-3
    other_rate: float = 3e-3
    warmup: int = 30
    weight_decay: float = 0.1
    shape: Shape = field(default_factory=Shape)


def keep_memory() -> None:
    """Tell glibc to keep freed memory: returning 16 MB to the system at every operation is slow."""
    if sys.platform == "linux":
        m_trim_threshold, m_mmap_max = -1, -4
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(m_mmap_max, 0)
            mallopt(m_trim_threshold, 2**31 - 1)


def train_tokenizer(work: Path, settings: Settings) -> spm.SentencePieceProcessor:
    """The tokenizer of the work folder; trained first if there is none. BPE with byte fallback."""
    path = work / "tokenizer.model"
    if not path.exists():
        lines = [s for n in range(TOKENIZER_STORIES) for s in story(f"{settings.seed}-train-{n}").split("\n")]
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_prefix=str(work / "tokenizer"),
            model_type="bpe",
            vocab_size=settings.shape.vocab,
            byte_fallback=True,
            character_coverage=1.0,
            # llama.cpp does no normalisation, so the trainer must not either
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            split_digits=True,
            unk_id=0,
            bos_id=BOS,
            eos_id=EOS,
            pad_id=-1,
            num_threads=2,
            minloglevel=2,
        )
    return spm.SentencePieceProcessor(model_file=str(path))


def window_at(step: int, settings: Settings) -> int:
    """Tokens that see each other: few at first, where what to copy is easy to find; all in the end."""
    progress = step / settings.steps
    return next(window for window, end in WINDOWS if progress < end)


def training_data(work: Path, settings: Settings, tokenizer: spm.SentencePieceProcessor) -> np.ndarray:
    """Inputs and targets of every step: (2, steps, batch * context), uint16.

    A step's tokens are windows of equal length. Each begins with a story's first token, as generation does,
    and goes on with more stories, each `<s> story </s>`, if it is longer than one; the last one's end is cut.
    """
    path = work / f"data-{settings.seed}-{settings.steps}.npy"
    if path.exists():
        cached: np.ndarray = np.load(path, mmap_mode="r")
        return cached
    data = np.empty((2, settings.steps, settings.batch * settings.shape.context), np.uint16)
    number = 0
    for step in range(settings.steps):
        window = window_at(step, settings)
        for start in range(0, data.shape[2], window):
            tokens: list[int] = []
            while len(tokens) <= window:
                tokens += [BOS, *tokenizer.encode(story(f"{settings.seed}-train-{number}")), EOS]
                number += 1
            data[0, step, start : start + window] = tokens[:window]
            data[1, step, start : start + window] = tokens[1 : window + 1]
    np.save(path, data)
    print(f"corpus: {number} stories, {data[0].size / 1e6:.1f} million tokens of them used", flush=True)
    return data


def fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices clearly faster than float32."""
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(2048, 256, dtype=dtype), torch.ones(256, 1024, dtype=dtype)
        a @ b
        start = time.perf_counter()
        for _ in range(10):
            a @ b
        seconds.append(time.perf_counter() - start)
    return seconds[1] < 0.7 * seconds[0]


def rate_at(step: int, settings: Settings) -> float:
    """Learning rate as a part of its peak: linear warm-up, then a cosine down to 2%."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    progress = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def token_weights(data: np.ndarray, step: int, settings: Settings) -> Tensor:
    """How much each token counts in the loss (vocab,), on average 1.

    At first a rare token (a name, a thing) counts more: it is what has to be remembered. After 60% of the
    steps all count the same, so that the finished model's probabilities are right.
    """
    counts = np.bincount(data[1, -200:].reshape(-1), minlength=settings.shape.vocab) + 1
    share = torch.from_numpy(counts / counts.sum()).float()
    weights = share ** (-0.5 * max(0.0, 1 - step / (0.6 * settings.steps)))
    return weights / (weights * share).sum()


def make_optimizers(network: Network, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices (rare tokens are learned from fewer examples), AdamW for all else."""
    matrices = [p for p in network.layers.parameters() if p.dim() == 2]
    known = {id(p) for p in matrices}
    others = [p for p in network.parameters() if id(p) not in known]
    muon = torch.optim.Muon(
        matrices,
        lr=settings.matrix_rate,
        weight_decay=settings.weight_decay,
        momentum=0.95,
        adjust_lr_fn="match_rms_adamw",
    )
    adam = torch.optim.AdamW(others, lr=settings.other_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return [muon, adam]


def losses(network: Network, inputs: Tensor, targets: Tensor, bfloat16: bool) -> Tensor:
    """Cross entropy of every next token: inputs and targets (batch, time) -> (batch * time,)."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits = network(inputs)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")


def train_step(
    network: Network,
    optimizers: list[torch.optim.Optimizer],
    data: np.ndarray,
    step: int,
    settings: Settings,
    bfloat16: bool,
) -> float:
    """One step on the step's windows; the mean loss before it."""
    peaks = (settings.matrix_rate, settings.other_rate)
    for optimizer, peak in zip(optimizers, peaks, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * rate_at(step, settings)
    window = window_at(step, settings)
    inputs, targets = (torch.from_numpy(part[step].astype(np.int64)).view(-1, window) for part in data)
    each = losses(network, inputs, targets, bfloat16)
    weights = token_weights(data, step, settings)
    torch.autograd.backward((each * weights[targets.flatten()]).mean())
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return each.mean().item()


def save(path: Path, state: dict[str, object]) -> None:
    """Write a checkpoint whole or not at all."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def train(work: Path, settings: Settings, data: np.ndarray, resume: bool, threads: int) -> Network:
    """Train, or finish the training of the work folder's checkpoint; print loss and remaining time."""
    torch.manual_seed(settings.seed)
    torch.set_num_threads(threads)
    keep_memory()
    network = Network(settings.shape)
    optimizers = make_optimizers(network, settings)
    path, first, cpu_before = work / "checkpoint.pt", 0, 0.0
    if resume and path.exists():
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first, cpu_before = state["step"], state["cpu_seconds"]
    bfloat16 = fast_bfloat16()
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{parameters / 1e6:.2f} million parameters, {'bfloat16' if bfloat16 else 'float32'}", flush=True)
    start, cpu_start, smooth = time.monotonic(), time.process_time(), 0.0
    for step in range(first, settings.steps):
        loss = train_step(network, optimizers, data, step, settings, bfloat16)
        smooth = loss if step == first else 0.95 * smooth + 0.05 * loss
        done = step + 1
        cpu = cpu_before + time.process_time() - cpu_start
        if done % 10 == 0 or done == settings.steps:
            left = (time.monotonic() - start) / (done - first) * (settings.steps - done) / 60
            print(
                f"step {done}/{settings.steps}  loss {smooth:.4f}  cpu {cpu:.0f} s  left {left:.1f} min",
                flush=True,
            )
        if done % SAVE_EVERY == 0 or done == settings.steps:
            state = {"step": done, "cpu_seconds": cpu, "network": network.state_dict()}
            save(path, state | {"optimizers": [optimizer.state_dict() for optimizer in optimizers]})
    return network
