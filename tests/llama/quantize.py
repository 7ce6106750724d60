"""llama.cpp's own quantiser: files of every type, made from a file of another."""

from __future__ import annotations

from pathlib import Path

import llama_cpp

from halo.silence import silence

# The file type in which all matrices are of a type, with `pure`.
FILE_TYPES = {
    "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K": 11, "Q4_K": 14, "Q5_K": 16,
    "Q6_K": 18, "IQ4_NL": 25, "IQ3_S": 26, "IQ4_XS": 30, "BF16": 32, "TQ2_0": 37,
}  # fmt: skip


def quantize(source: Path, kind: str, out: Path) -> Path:
    """Write the model `source` with all its matrices of the ggml type `kind` to `out`, which is returned."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread = 1
    params.ftype = FILE_TYPES[kind]
    params.allow_requantize = params.pure = True
    with silence():
        failed = llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), params)
    if failed:
        raise RuntimeError(f"llama.cpp does not quantise {source} to {kind}")
    return out
