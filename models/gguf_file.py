"""Write the demo model and its tokenizer as a GGUF file, and read its weights back."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import sentencepiece as spm
import torch
from network import Network, gguf_names

FILE_TYPES = {"q8_0": gguf.LlamaFileType.MOSTLY_Q8_0, "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0}
DESCRIPTION = (
    "A very small model that tells children's stories from a grammar. For demonstrations and tests: "
    "it knows nothing about the world."
)


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: spm.SentencePieceProcessor) -> None:
    """The SentencePiece vocabulary as llama.cpp's "llama" tokenizer: pieces, merge order (scores), types."""
    types = []
    for token in range(tokenizer.vocab_size()):
        if tokenizer.is_unknown(token):
            types.append(gguf.TokenType.UNKNOWN)
        elif tokenizer.is_control(token):
            types.append(gguf.TokenType.CONTROL)
        elif tokenizer.is_byte(token):
            types.append(gguf.TokenType.BYTE)
        else:
            types.append(gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([tokenizer.id_to_piece(t).encode() for t in range(len(types))])
    writer.add_token_scores([tokenizer.get_score(t) for t in range(len(types))])
    writer.add_token_types(types)
    writer.add_bos_token_id(tokenizer.bos_id())
    writer.add_eos_token_id(tokenizer.eos_id())
    writer.add_unk_token_id(tokenizer.unk_id())
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)


def write(path: Path, network: Network, tokenizer: spm.SentencePieceProcessor, kind: str) -> None:
    """Write `path`: matrices as `kind` ("q8_0" or "q4_0"), norms as F32. The old file stays until the end."""
    shape = network.shape
    temporary = path.with_suffix(".tmp")
    writer = gguf.GGUFWriter(temporary, "llama")
    writer.add_name("HALO demo")
    writer.add_author("The HALO project")
    writer.add_license("MIT")
    writer.add_description(DESCRIPTION)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.dim)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ff)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.eps)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_tokenizer(writer, tokenizer)
    matrix_type = gguf.GGMLQuantizationType[kind.upper()]
    weights = network.state_dict()
    for ours, theirs in gguf_names(shape).items():
        values = weights[ours].float().numpy()
        if values.ndim == 2:
            writer.add_tensor(theirs, gguf.quants.quantize(values, matrix_type), raw_dtype=matrix_type)
        else:
            writer.add_tensor(theirs, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    temporary.replace(path)


def read_weights(path: Path, network: Network) -> None:
    """Put a file's weights, as their quantisation left them, into a network of the same shape."""
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    weights = {}
    for ours, theirs in gguf_names(network.shape).items():
        values = gguf.quants.dequantize(tensors[theirs].data, tensors[theirs].tensor_type)
        weights[ours] = torch.from_numpy(np.array(values, np.float32))
    network.load_state_dict(weights)
