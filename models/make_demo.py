#!/usr/bin/env python3
"""Make HALO's demo model from nothing: stories -> tokenizer -> training -> GGUF files -> perplexity."""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import asdict
from pathlib import Path

# Before torch is imported: idle threads must sleep, not spin. With the cores shared with other programs,
# spinning makes a step several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import gguf_file
import sentencepiece as spm
import torch
import training
from network import Network
from stories import story

HERE = Path(__file__).resolve().parent
SEPARATOR = "<|endoftext|>"
HELD_OUT_STORIES = 32
HELP = """\
Makes halo-demo-q8_0.gguf and halo-demo-q4_0.gguf, a LLaMA of 7 million parameters that tells children's
stories, and eval.txt, stories of the same grammar that the training never saw.

  pip install -r models/requirements.txt
  python models/make_demo.py                  # everything; about 20 minutes on two cores
  python models/make_demo.py --resume         # go on where an interrupted run stopped
  python models/make_demo.py --steps 20 --out /tmp/try    # a quick try of the whole way; its text is nonsense
  python models/make_demo.py --evaluate       # perplexity on eval.txt: f32, q8_0 and q4_0
"""


def held_out(seed: int, tokenizer: spm.SentencePieceProcessor, context: int) -> list[str]:
    """Stories for eval.txt, of seeds apart: long enough to mean something, short enough for the context."""
    chosen: list[str] = []
    number = 0
    while len(chosen) < HELD_OUT_STORIES:
        text = story(f"{seed}-held-out-{number}")
        if 230 <= len(tokenizer.encode(text)) <= context - 2:
            chosen.append(text)
        number += 1
    return chosen


def read_stories(path: Path) -> list[str]:
    """The stories of eval.txt."""
    return [text.strip() for text in path.read_text(encoding="utf-8").split(SEPARATOR) if text.strip()]


@torch.no_grad()
def perplexity(network: Network, tokenizer: spm.SentencePieceProcessor, texts: list[str]) -> float:
    """exp(mean negative log likelihood) of every story's tokens and its end, each story by itself."""
    total, count = 0.0, 0
    for text in texts:
        row = torch.tensor([[training.BOS, *tokenizer.encode(text), training.EOS]])
        total += training.losses(network, row[:, :-1], row[:, 1:], bfloat16=False).sum().item()
        count += row.shape[1] - 1
    return math.exp(total / count)


def load_trained(work: Path, settings: training.Settings) -> Network:
    """The trained network of the work folder's checkpoint."""
    path = work / "checkpoint.pt"
    if not path.exists():
        raise SystemExit(f"{path} is missing: make the model first (make_demo.py without --evaluate).")
    state = torch.load(path, weights_only=True)
    network = Network(settings.shape)
    network.load_state_dict(state["network"])
    return network


def evaluate(out: Path, work: Path, settings: training.Settings) -> None:
    """Print the perplexity of the trained network and of both files, all computed by torch in float32."""
    network = load_trained(work, settings)
    tokenizer = spm.SentencePieceProcessor(model_file=str(work / "tokenizer.model"))
    texts = read_stories(out / "eval.txt")
    tokens = sum(len(tokenizer.encode(text)) + 1 for text in texts)
    print(f"eval.txt: {len(texts)} stories, {tokens} tokens")
    print(f"perplexity f32   {perplexity(network, tokenizer, texts):.4f}")
    for kind in gguf_file.FILE_TYPES:
        gguf_file.read_weights(out / f"halo-demo-{kind}.gguf", network)
        print(f"perplexity {kind}  {perplexity(network, tokenizer, texts):.4f}")


def make(out: Path, work: Path, settings: training.Settings, resume: bool, threads: int) -> None:
    """All stages, in order; the files in `out` are replaced only at the end."""
    fingerprint = json.dumps(asdict(settings))
    marker = work / "settings.json"
    if not (resume and marker.exists() and marker.read_text() == fingerprint):
        for old in [work / "checkpoint.pt", *work.glob("tokenizer.*"), *work.glob("data-*.npy")]:
            old.unlink(missing_ok=True)
        marker.write_text(fingerprint)
    tokenizer = training.train_tokenizer(work, settings)
    data = training.training_data(work, settings, tokenizer)
    network = training.train(work, settings, data, resume, threads)
    texts = held_out(settings.seed, tokenizer, settings.shape.context)
    (out / "eval.txt").write_text(f"\n{SEPARATOR}\n".join(texts) + "\n", encoding="utf-8")
    for kind in gguf_file.FILE_TYPES:
        path = out / f"halo-demo-{kind}.gguf"
        gguf_file.write(path, network, tokenizer, kind)
        print(f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB)")
    evaluate(out, work, settings)


def main() -> None:
    """Read the command line and do what it asks."""
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--steps", type=int, default=1100, help="training steps of 4096 tokens (default 1100)")
    add("--seed", type=int, default=1, help="of stories and weights (default 1)")
    add("--out", type=Path, default=HERE, help="where the files go (default: this script's folder)")
    add("--work", type=Path, help="for tokenizer and checkpoint (default: OUT/demo-work)")
    add("--threads", type=int, default=2, help="cores to train on (default 2)")
    add("--resume", action="store_true", help="go on from the work folder's checkpoint")
    add("--evaluate", action="store_true", help="only print the perplexities of finished files")
    args = parser.parse_args()
    work = args.work or args.out / "demo-work"
    work.mkdir(parents=True, exist_ok=True)
    settings = training.Settings(steps=args.steps, seed=args.seed)
    if args.evaluate:
        evaluate(args.out, work, settings)
    else:
        make(args.out, work, settings, args.resume, args.threads)


if __name__ == "__main__":
    main()
