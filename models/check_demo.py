#!/usr/bin/env python3
"""Check the demo model's files with llama.cpp: tokens against SentencePiece, perplexity, sample texts."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from llama_cpp import Llama

HERE = Path(__file__).resolve().parent
SEPARATOR = "<|endoftext|>"
PROMPTS = (
    "Once upon a time",
    "There was once a little rabbit",
    "One snowy day, a young fox named",
    "Lily was a kind girl",
)
ODD_TEXTS = (
    "", " ", "Two  spaces and a tab\there.", "Line one.\nLine two.\n\nLine four.", "Grüße aus Zürich, señor!",
    "A smile \U0001f600 and a kite \U0001fa81.", "1234567890 and 3.14", "ALL CAPITALS, and (brackets) [too].",
    " a leading space", "a trailing space ", "unbelievably antidisestablishmentarian", "日本語のテキスト",
)  # fmt: skip
HELP = """\
Loads both files with llama.cpp and prints their perplexity on eval.txt (every story by itself, with its end)
and the text they write after four prompts, at temperature 0 and 0.8.

  pip install llama-cpp-python
  python models/check_demo.py
  python models/check_demo.py --tokenizer models/demo-work/tokenizer.model   # also compare tokens;
                                                                             # needs sentencepiece
"""


def read_stories(path: Path) -> list[str]:
    """The stories of eval.txt."""
    return [text.strip() for text in path.read_text(encoding="utf-8").split(SEPARATOR) if text.strip()]


def perplexity(llama: Llama, texts: list[str]) -> float:
    """exp(mean negative log likelihood) of a story's tokens and end, as `make_demo.py --evaluate` counts."""
    total, count = 0.0, 0
    for text in texts:
        tokens = [*llama.tokenize(text.encode()), llama.token_eos()]
        llama.reset()
        llama.eval(tokens)
        logits = np.array(llama.scores[: len(tokens) - 1], np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        log_probability = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        total -= log_probability[np.arange(len(tokens) - 1), tokens[1:]].sum()
        count += len(tokens) - 1
    return math.exp(total / count)


def compare_tokens(llama: Llama, model: Path, texts: list[str]) -> None:
    """Print how many texts get the same tokens from llama.cpp and SentencePiece, and those that do not."""
    import sentencepiece as spm

    tokenizer = spm.SentencePieceProcessor(model_file=str(model))
    texts = [*texts, *ODD_TEXTS]
    different = 0
    for text in texts:
        ours, theirs = llama.tokenize(text.encode(), add_bos=False), tokenizer.encode(text)
        if ours != theirs:
            different += 1
            print(f"different tokens: {text!r}\n  llama.cpp      {ours}\n  sentencepiece  {theirs}")
    print(f"tokens: {len(texts) - different} of {len(texts)} texts equal")


def sample(llama: Llama, tokens: int) -> None:
    """Print what the model writes, greedy and at temperature 0.8."""
    for prompt in PROMPTS:
        for temperature in (0.0, 0.8):
            answer = llama.create_completion(prompt, max_tokens=tokens, temperature=temperature, seed=1)
            choice = answer["choices"][0]
            end = "end of story" if choice["finish_reason"] == "stop" else "cut here"
            print(f"--- temperature {temperature}\n{prompt}{choice['text']} [{end}]")


def main() -> None:
    """Read the command line and check both files."""
    parser = argparse.ArgumentParser(description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=HERE, help="the folder with the files and eval.txt")
    parser.add_argument("--tokenizer", type=Path, help="SentencePiece model to compare tokens with")
    parser.add_argument("-n", type=int, default=450, help="most tokens per sample, 0 for none (default 450)")
    parser.add_argument("-t", type=int, default=2, help="threads (default 2)")
    args = parser.parse_args()
    texts = read_stories(args.models / "eval.txt")
    for kind in ("q8_0", "q4_0"):
        path = args.models / f"halo-demo-{kind}.gguf"
        llama = Llama(str(path), n_ctx=512, n_threads=args.t, logits_all=True, verbose=False)
        print(f"== {path.name}, {path.stat().st_size / 1e6:.2f} MB")
        if args.tokenizer:
            compare_tokens(llama, args.tokenizer, texts)
        print(f"perplexity {kind} {perplexity(llama, texts):.4f}")
        if args.n:
            sample(llama, args.n)


if __name__ == "__main__":
    main()
