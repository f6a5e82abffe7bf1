"""Export: the trained model becomes a release that the gateway verifies and loads.

The trunk is written as GGUF with the ``gguf`` package's own tensor names, then quantised by llama.cpp; the heads stay
in full precision beside it.
"""

import ctypes
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import llama_cpp as native
import numpy as np
from tokenizers import Tokenizer

from gateway.safety.release import SCHEMA
from gateway.safety.template import END, END_OF_TEXT, SPECIAL_TOKENS, TEMPLATE_VERSION
from training.examples import DOMAINS
from training.model import TwoHeadedModel

FILE_TYPES = {
    "F16": native.LLAMA_FTYPE_MOSTLY_F16,
    "Q8_0": native.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q6_K": native.LLAMA_FTYPE_MOSTLY_Q6_K,
    "Q5_K_M": native.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "Q4_K_M": native.LLAMA_FTYPE_MOSTLY_Q4_K_M,
}


def write_trunk(model: TwoHeadedModel, tokenizer: Tokenizer, path: Path) -> None:
    """Write the trunk with its tokeniser as a full-precision GGUF file."""
    config = model.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config.num_hidden_layers)
    writer = gguf.GGUFWriter(str(path), "qwen3")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _write_tokenizer(writer, tokenizer)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" or name.startswith(("verdict_head", "domain_head", "pooled_head")):
            continue
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    vocabulary = {index: token for token, index in tokenizer.get_vocab().items()}
    tokens = [vocabulary[i] for i in range(len(vocabulary))]
    control = {tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if i in control else gguf.TokenType.NORMAL for i in range(len(tokens))]
    )
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_eos_token_id(tokenizer.token_to_id(END_OF_TEXT))
    writer.add_eot_token_id(tokenizer.token_to_id(END))
    writer.add_add_bos_token(False)


def quantise(source: Path, target: Path, kind: str) -> None:
    """Write ``source`` as one of ``FILE_TYPES``."""
    options = native.llama_model_quantize_default_params()
    options.ftype = FILE_TYPES[kind]
    options.nthread = 2
    status = native.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(options))
    if status != 0:
        raise RuntimeError(f"llama.cpp cannot quantise {source} to {kind} (status {status})")


def head_arrays(model: TwoHeadedModel) -> dict[str, Any]:
    """Return the heads as lists of numbers with seven significant digits."""

    def plain(tensor: Any) -> Any:
        return np.vectorize(lambda x: float(f"{x:.7g}"))(tensor.detach().float().numpy()).tolist()

    return {
        "verdict": plain(model.verdict_head.weight),
        "verdict_bias": plain(model.verdict_head.bias),
        "domains": plain(model.domain_head.weight),
        "domains_bias": plain(model.domain_head.bias),
    }


def write_release(
    folder: Path, model: TwoHeadedModel, tokenizer: Tokenizer, manifest: Mapping[str, Any], *, kind: str
) -> None:
    """Write the release ``folder``: trunk of the quantisation ``kind``, head, and manifest with every file's digest.

    ``manifest`` brings ``id``, ``window``, ``temperature``, ``thresholds`` and whatever describes the run.
    """
    with tempfile.TemporaryDirectory() as scratch:
        build = Path(scratch)
        full = build / "full.gguf"
        write_trunk(model, tokenizer, full)
        quantise(full, build / "trunk.gguf", kind)
        full.unlink()
        (build / "head.json").write_text(json.dumps(head_arrays(model)), encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        for path in build.iterdir():
            shutil.copyfile(path, folder / path.name)
    seal(folder, {**manifest, "quantisation": kind})


def seal(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write ``manifest.json`` over the files that lie in ``folder``."""
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name != "manifest.json":
            content = path.read_bytes()
            files[path.name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    body = {
        "schema": SCHEMA,
        "template": TEMPLATE_VERSION,
        "labels": ["ALLOW", "REFUSE", "ESCALATE"],
        "domains": [{"label": label, "name": name} for label, name in DOMAINS],
        **manifest,
        "files": files,
    }
    (folder / "manifest.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
