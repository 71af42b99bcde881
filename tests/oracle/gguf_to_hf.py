"""A GGUF file as a float32 transformers model.

The configuration is built by hand from the file's metadata and the weights are dequantized with the `gguf` package, so that the
comparison's base shares no code with Tenon. Two storage conventions of llama.cpp are undone: rows of Llama's Q and K are permuted for
interleaved rotary embeddings, and Gemma's norms are stored with their +1 added.
"""
import numpy as np
import torch
from gguf import GGUFReader, dequantize


def metadata(reader):
    return {key: field.contents() for key, field in reader.fields.items()}


def dequantized(reader):
    tensors = {}
    for tensor in reader.tensors:
        tensors[tensor.name] = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32).reshape(tensor.shape[::-1])
    return tensors


def unpermute(w, heads):
    """Interleaved rows (0, n/2, 1, n/2+1, …) back to halves."""
    rows = w.shape[0]
    return w.reshape(heads, rows // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


NAMES = {  # GGUF's name of a layer's tensor: transformers' name
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
GEMMA_NAMES = NAMES | {
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
}


def common_config(meta, arch, tensors):
    return dict(
        hidden_size=meta[f"{arch}.embedding_length"], num_hidden_layers=meta[f"{arch}.block_count"],
        intermediate_size=meta[f"{arch}.feed_forward_length"], num_attention_heads=meta[f"{arch}.attention.head_count"],
        num_key_value_heads=meta[f"{arch}.attention.head_count_kv"], rms_norm_eps=meta[f"{arch}.attention.layer_norm_rms_epsilon"],
        max_position_embeddings=meta[f"{arch}.context_length"], tie_word_embeddings="output.weight" not in tensors)


def llama(meta, tensors):
    from transformers import LlamaConfig, LlamaForCausalLM
    config = LlamaConfig(vocab_size=tensors["token_embd.weight"].shape[0], **common_config(meta, "llama", tensors),
                         rope_parameters={"rope_type": "default", "rope_theta": meta["llama.rope.freq_base"]})
    for name, w in tensors.items():
        if name.endswith("attn_q.weight"):
            tensors[name] = unpermute(w, config.num_attention_heads)
        elif name.endswith("attn_k.weight"):
            tensors[name] = unpermute(w, config.num_key_value_heads)
    return LlamaForCausalLM(config), NAMES


def gemma3(meta, tensors):
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig
    config = Gemma3TextConfig(vocab_size=tensors["token_embd.weight"].shape[0], **common_config(meta, "gemma3", tensors),
                              head_dim=meta["gemma3.attention.key_length"], query_pre_attn_scalar=meta["gemma3.attention.key_length"],
                              sliding_window=meta["gemma3.attention.sliding_window"], hidden_activation="gelu_pytorch_tanh",
                              layer_types=["full_attention" if (i + 1) % 6 == 0 else "sliding_attention"
                                           for i in range(meta["gemma3.block_count"])],
                              rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": meta["gemma3.rope.freq_base"]},
                                               "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}})
    for name, w in tensors.items():
        if name.endswith("norm.weight"):
            tensors[name] = w - np.float32(1)
    return Gemma3ForCausalLM(config), GEMMA_NAMES


def load(path):
    """The model in float32, evaluating, with every weight of the file in its place."""
    torch.set_default_dtype(torch.float32)
    reader = GGUFReader(path)
    meta, tensors = metadata(reader), dequantized(reader)
    model, names = {"llama": llama, "gemma3": gemma3}[meta["general.architecture"]](meta, tensors)
    state = {}
    for name, w in tensors.items():
        parts = name.split(".")
        if parts[0] == "blk":
            state[f"model.layers.{parts[1]}.{names[parts[2]]}.{parts[3]}"] = w
        else:
            state[{"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
                   "output.weight": "lm_head.weight"}[name]] = w
    state.setdefault("lm_head.weight", state["model.embed_tokens.weight"])
    missing, unexpected = model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    assert not missing and not unexpected, (missing, unexpected)
    return model.eval()
