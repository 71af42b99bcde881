#!/usr/bin/env python3
"""Computes the stored fixtures with transformers: random-weight models of each family, of odd sizes on purpose.

    make_models.py MODELS [NAME …]      writes MODELS/NAME/{config.json, tensors, ids, logits.npy}

Run by hand when a family is added; tests need only what it wrote. Sizes are odd: head size 40, hidden sizes that are no multiple of 64,
a prime vocabulary, three layers, windows shorter than the sequences. config.json is written in the form of published checkpoints
(rope_theta, rope_scaling), and by transformers itself for those in NEW_FORM.
"""
import json
import os
import re
import sys
import tempfile

import numpy as np

from generate import generate, name_hash

VOCAB = 263
BASE = dict(vocab_size=VOCAB, num_hidden_layers=3, max_position_embeddings=64, bos_token_id=256, eos_token_id=257, torch_dtype="float32")
H120 = dict(hidden_size=120, num_attention_heads=3, num_key_value_heads=1, intermediate_size=136)   # head size 40
LLAMA3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
YARN = dict(type="yarn", factor=4, original_max_position_embeddings=32, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=0.707)

MODELS = {  # name: (architecture, element type, config)
    "llama3": ("LlamaForCausalLM", "BF16", dict(
        model_type="llama", **BASE, **H120, hidden_act="silu", rms_norm_eps=1e-5, rope_theta=1000.0, rope_scaling=LLAMA3,
        tie_word_embeddings=False, attention_bias=False, mlp_bias=False)),
    "qwen2": ("Qwen2ForCausalLM", "F32", dict(
        model_type="qwen2", **BASE, **H120, hidden_act="silu", rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=False,
        use_sliding_window=False, sliding_window=32, max_window_layers=3)),
    "qwen3": ("Qwen3ForCausalLM", "BF16", dict(
        model_type="qwen3", **BASE, hidden_size=88, num_attention_heads=4, num_key_value_heads=2, head_dim=40, intermediate_size=104,
        hidden_act="silu", rms_norm_eps=1e-6, rope_theta=1e6, rope_scaling=None, tie_word_embeddings=True, attention_bias=False,
        use_sliding_window=False, sliding_window=None, max_window_layers=3)),
    "qwen3-moe": ("Qwen3MoeForCausalLM", "F16", dict(
        model_type="qwen3_moe", **BASE, hidden_size=72, num_attention_heads=2, num_key_value_heads=1, head_dim=40, intermediate_size=104,
        hidden_act="silu", rms_norm_eps=1e-6, rope_theta=1e6, rope_scaling=None, tie_word_embeddings=False, attention_bias=False,
        num_experts=5, num_experts_per_tok=2, moe_intermediate_size=56, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
        use_sliding_window=False, sliding_window=None, max_window_layers=3)),
    "mixtral": ("MixtralForCausalLM", "BF16", dict(
        model_type="mixtral", **BASE, **H120, hidden_act="silu", rms_norm_eps=1e-5, rope_theta=1e6, sliding_window=None,
        num_local_experts=3, num_experts_per_tok=2, tie_word_embeddings=False)),
    "gemma3": ("Gemma3ForCausalLM", "BF16", dict(
        model_type="gemma3_text", **BASE, hidden_size=88, num_attention_heads=2, num_key_value_heads=1, head_dim=40, intermediate_size=104,
        hidden_activation="gelu_pytorch_tanh", rms_norm_eps=1e-6, rope_theta=1e6, rope_local_base_freq=1e4, rope_scaling=None,
        sliding_window=7, layer_types=["sliding_attention", "full_attention", "sliding_attention"], query_pre_attn_scalar=24,
        attention_bias=False, attn_logit_softcapping=None, final_logit_softcapping=None, tie_word_embeddings=True, pad_token_id=0)),
    "phi3": ("Phi3ForCausalLM", "BF16", dict(
        model_type="phi3", **BASE, **H120, hidden_act="silu", rms_norm_eps=1e-5, rope_theta=1e4, rope_scaling=None, sliding_window=11,
        original_max_position_embeddings=64, tie_word_embeddings=False, pad_token_id=0)),
    "gpt2": ("GPT2LMHeadModel", "F32", dict(
        model_type="gpt2", vocab_size=VOCAB, n_positions=64, n_ctx=64, n_embd=120, n_head=3, n_layer=2, n_inner=None,
        activation_function="gelu_new", layer_norm_epsilon=1e-5, bos_token_id=256, eos_token_id=257, torch_dtype="float32")),
    "bert": ("BertModel", "F32", dict(
        model_type="bert", vocab_size=VOCAB, hidden_size=120, num_attention_heads=3, num_hidden_layers=3, intermediate_size=200,
        hidden_act="gelu", max_position_embeddings=64, type_vocab_size=2, layer_norm_eps=1e-12, position_embedding_type="absolute",
        pad_token_id=0, torch_dtype="float32")),
    "olmo2": ("Olmo2ForCausalLM", "BF16", dict(
        model_type="olmo2", **BASE, hidden_size=120, num_attention_heads=3, num_key_value_heads=3, intermediate_size=136, hidden_act="silu",
        rms_norm_eps=1e-6, rope_theta=5e5, rope_scaling=None, tie_word_embeddings=False, attention_bias=False, pad_token_id=0)),
    "stablelm2": ("StableLmForCausalLM", "F16", dict(
        model_type="stablelm", **BASE, **H120, hidden_act="silu", layer_norm_eps=1e-5, rope_theta=1e4, partial_rotary_factor=0.25,
        use_qkv_bias=True, qk_layernorm=False, use_parallel_residual=False, tie_word_embeddings=False)),
    "cohere": ("CohereForCausalLM", "F16", dict(
        model_type="cohere", **BASE, **H120, hidden_act="silu", layer_norm_eps=1e-5, rope_theta=1e4, rope_scaling=None, logit_scale=0.0625,
        use_qk_norm=False, attention_bias=False, tie_word_embeddings=True, pad_token_id=0)),
    "deepseek-v2": ("DeepseekV2ForCausalLM", "BF16", dict(
        model_type="deepseek_v2", **BASE, hidden_size=90, num_attention_heads=3, num_key_value_heads=3, intermediate_size=104,
        hidden_act="silu", rms_norm_eps=1e-6, rope_theta=100.0, rope_scaling=YARN, tie_word_embeddings=False, attention_bias=False,
        q_lora_rank=None, kv_lora_rank=40, qk_rope_head_dim=16, qk_nope_head_dim=24, v_head_dim=20, n_routed_experts=6,
        n_shared_experts=2, num_experts_per_tok=2, moe_intermediate_size=56, first_k_dense_replace=1, norm_topk_prob=False,
        scoring_func="softmax", topk_method="greedy", routed_scaling_factor=1.0, n_group=1, topk_group=1, aux_loss_alpha=0.001,
        seq_aux=True)),
    "deepseek-v3": ("DeepseekV3ForCausalLM", "BF16", dict(   # its published router: 256 experts in 8 groups, 4 kept, 8 chosen
        model_type="deepseek_v3", **{**BASE, "num_hidden_layers": 2}, hidden_size=90, num_attention_heads=3, num_key_value_heads=3,
        intermediate_size=104, hidden_act="silu", rms_norm_eps=1e-6, rope_theta=100.0, rope_scaling=YARN, tie_word_embeddings=False,
        attention_bias=False, q_lora_rank=48, kv_lora_rank=40, qk_rope_head_dim=16, qk_nope_head_dim=24, v_head_dim=20,
        n_routed_experts=256, n_shared_experts=1, num_experts_per_tok=8, moe_intermediate_size=24, first_k_dense_replace=1,
        moe_layer_freq=1, norm_topk_prob=True, scoring_func="sigmoid", topk_method="noaux_tc", routed_scaling_factor=2.5, n_group=8,
        topk_group=4, num_nextn_predict_layers=0, ep_size=1)),
    "deepseek-v2-groups": ("DeepseekV2ForCausalLM", "F32", dict(
        model_type="deepseek_v2", **{**BASE, "num_hidden_layers": 2}, hidden_size=90, num_attention_heads=3, num_key_value_heads=3,
        intermediate_size=104, hidden_act="silu", rms_norm_eps=1e-6, rope_theta=100.0, rope_scaling=None, tie_word_embeddings=False,
        attention_bias=False, q_lora_rank=48, kv_lora_rank=40, qk_rope_head_dim=16, qk_nope_head_dim=24, v_head_dim=20,
        n_routed_experts=12, n_shared_experts=1, num_experts_per_tok=3, moe_intermediate_size=40, first_k_dense_replace=0,
        norm_topk_prob=False, scoring_func="softmax", topk_method="group_limited_greedy", routed_scaling_factor=16.0, n_group=4,
        topk_group=2)),
    "qwen3-moe-128": ("Qwen3MoeForCausalLM", "BF16", dict(   # its published router: the best 8 of 128
        model_type="qwen3_moe", **{**BASE, "num_hidden_layers": 1}, hidden_size=72, num_attention_heads=2, num_key_value_heads=1, head_dim=40,
        intermediate_size=104, hidden_act="silu", rms_norm_eps=1e-6, rope_theta=1e6, rope_scaling=None, tie_word_embeddings=True,
        attention_bias=False, num_experts=128, num_experts_per_tok=8, moe_intermediate_size=24, norm_topk_prob=True, decoder_sparse_step=1,
        mlp_only_layers=[], use_sliding_window=False, sliding_window=None, max_window_layers=3)),
    "qwen2-moe": ("Qwen2MoeForCausalLM", "BF16", dict(   # one of two experts
        model_type="qwen2_moe", **BASE, hidden_size=120, num_attention_heads=3, num_key_value_heads=1, intermediate_size=136,
        moe_intermediate_size=56, shared_expert_intermediate_size=72, hidden_act="silu", rms_norm_eps=1e-6, rope_theta=1e6,
        tie_word_embeddings=False, num_experts=2, num_experts_per_tok=1, norm_topk_prob=False, decoder_sparse_step=1,
        use_sliding_window=False, sliding_window=32, max_window_layers=3)),
    "olmoe": ("OlmoeForCausalLM", "F32", dict(   # all of three experts
        model_type="olmoe", **BASE, hidden_size=120, num_attention_heads=3, num_key_value_heads=3, intermediate_size=56, hidden_act="silu",
        rms_norm_eps=1e-5, rope_theta=1e4, rope_scaling=None, tie_word_embeddings=False, attention_bias=False, num_experts=3,
        num_experts_per_tok=3, norm_topk_prob=False, clip_qkv=1.5, pad_token_id=1)),
    "gpt-oss": ("GptOssForCausalLM", "BF16", dict(
        model_type="gpt_oss", **BASE, hidden_size=88, num_attention_heads=4, num_key_value_heads=2, head_dim=40, intermediate_size=52,
        hidden_act="silu", rms_norm_eps=1e-5, rope_theta=15e4, tie_word_embeddings=False, attention_bias=True, num_local_experts=6,
        num_experts_per_tok=3, experts_per_token=3, sliding_window=7, initial_context_length=32, swiglu_limit=1.0, pad_token_id=0,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_scaling=dict(rope_type="yarn", factor=4.0, beta_fast=32.0, beta_slow=1.0, truncate=False, original_max_position_embeddings=32))),
    "glm4-moe": ("Glm4MoeForCausalLM", "BF16", dict(
        model_type="glm4_moe", **BASE, hidden_size=120, num_attention_heads=3, num_key_value_heads=1, head_dim=40, intermediate_size=104,
        hidden_act="silu", rms_norm_eps=1e-5, rope_theta=1e4, partial_rotary_factor=0.5, tie_word_embeddings=False, attention_bias=True,
        use_qk_norm=True, n_routed_experts=5, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=40, first_k_dense_replace=1,
        norm_topk_prob=True, routed_scaling_factor=1.5, n_group=1, topk_group=1, num_nextn_predict_layers=0)),
    "dots1": ("Dots1ForCausalLM", "F32", dict(
        model_type="dots1", **{**BASE, "num_hidden_layers": 2}, hidden_size=120, num_attention_heads=3, num_key_value_heads=3,
        intermediate_size=104, hidden_act="silu", rms_norm_eps=1e-5, rope_theta=1e4, rope_scaling=None, tie_word_embeddings=False,
        attention_bias=False, n_routed_experts=4, n_shared_experts=2, num_experts_per_tok=2, moe_intermediate_size=40,
        first_k_dense_replace=1, norm_topk_prob=False, routed_scaling_factor=2.5, n_group=1, topk_group=1, sliding_window=None,
        max_window_layers=2, layer_types=["full_attention", "full_attention"])),
    "llama4": ("Llama4ForCausalLM", "BF16", dict(
        model_type="llama4_text", **BASE, hidden_size=120, num_attention_heads=3, num_key_value_heads=1, head_dim=40, intermediate_size=56,
        intermediate_size_mlp=104, hidden_act="silu", rms_norm_eps=1e-5, rope_theta=5e5, rope_scaling=None, tie_word_embeddings=False,
        attention_bias=False, num_local_experts=4, num_experts_per_tok=1, interleave_moe_layer_step=2, use_qk_norm=True,
        no_rope_layers=[1, 0, 1], attention_chunk_size=64, attn_temperature_tuning=True, floor_scale=8, attn_scale=0.1, pad_token_id=0)),
    "granitemoe": ("GraniteMoeSharedForCausalLM", "BF16", dict(
        model_type="granitemoeshared", **BASE, **{**H120, "intermediate_size": 56}, shared_intermediate_size=72, hidden_act="silu",
        rms_norm_eps=1e-6, rope_theta=1e4, rope_scaling=None, tie_word_embeddings=True, attention_bias=False, num_local_experts=5,
        num_experts_per_tok=2, embedding_multiplier=6.0, attention_multiplier=0.05, residual_multiplier=0.4, logits_scaling=3.0,
        pad_token_id=0)),
    "glm4-moe-lite": ("Glm4MoeLiteForCausalLM", "F32", dict(
        model_type="glm4_moe_lite", **{**BASE, "num_hidden_layers": 2}, hidden_size=90, num_attention_heads=3, num_key_value_heads=3,
        intermediate_size=104, hidden_act="silu", rms_norm_eps=1e-5, rope_theta=1e4, rope_scaling=None, tie_word_embeddings=False,
        attention_bias=False, q_lora_rank=48, kv_lora_rank=40, qk_rope_head_dim=16, qk_nope_head_dim=24, v_head_dim=28,
        n_routed_experts=5, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=24, mlp_layer_types=["dense", "sparse"],
        norm_topk_prob=True, routed_scaling_factor=1.8, n_group=1, topk_group=1)),
    "ernie4-5-moe": ("Ernie4_5_MoeForCausalLM", "BF16", dict(
        model_type="ernie4_5_moe", **BASE, **H120, hidden_act="silu", rms_norm_eps=1e-5, rope_theta=5e5, rope_scaling=None,
        tie_word_embeddings=True, use_bias=False, moe_intermediate_size=56, moe_k=3, moe_num_experts=7, moe_num_shared_experts=2,
        moe_layer_start_index=1, moe_layer_end_index=1, moe_layer_interval=1, pad_token_id=0)),
}
NEW_FORM = {"llama3-v5": "llama3", "gemma3-v5": "gemma3"}   # the same models, config.json as transformers 5 writes it


def sequences(name):
    """Two token sequences of different lengths."""
    rng = np.random.default_rng(name_hash(name) % 2**32)
    return [[int(i) for i in rng.integers(0, 256, n)] for n in (5, 29)]


def tensor_list(transformers, architecture, config):
    """Names and shapes as save_pretrained writes them: those of published checkpoints."""
    from safetensors import safe_open
    with tempfile.TemporaryDirectory() as folder:
        getattr(transformers, architecture)(config).save_pretrained(folder)
        with safe_open(os.path.join(folder, "model.safetensors"), "np") as file:
            return [(name, file.get_slice(name).get_shape()) for name in sorted(file.keys())]


def fold(lines):
    """Many experts' tensors in one line."""
    counts = {}
    for line in lines:
        pattern = re.sub(r"\.experts\.\d+\.", ".experts.{}.", line)
        counts[pattern] = counts.get(pattern, 0) + 1
    if max(counts.values()) < 16:
        return lines
    return [pattern.replace("{}", f"{{{count}}}") for pattern, count in counts.items()]


def make_gguf(root, name):
    """A llama GGUF whose `tensors` and `metadata.json` were written by hand."""
    import torch
    from generate_gguf import generate_gguf
    from gguf_to_hf import load
    fixture = os.path.join(root, name)
    with tempfile.TemporaryDirectory() as folder:
        generate_gguf(fixture, os.path.join(folder, "model.gguf"))
        model = load(os.path.join(folder, "model.gguf"))
    ids = sequences(name)
    with torch.no_grad():
        logits = np.concatenate([model(torch.tensor([s])).logits[0].numpy() for s in ids])
    open(os.path.join(fixture, "ids"), "w").write("".join(",".join(map(str, s)) + "\n" for s in ids))
    np.save(os.path.join(fixture, "logits.npy"), logits)
    print(f"{name}: logits {logits.shape}, largest {np.abs(logits).max():.2f}")


def make(root, name):
    import torch
    import transformers
    source = NEW_FORM.get(name, name)
    architecture, dtype, values = MODELS[source]
    fixture = os.path.join(root, name)
    os.makedirs(fixture, exist_ok=True)
    with open(os.path.join(fixture, "config.json"), "w") as file:
        json.dump({"architectures": [architecture], **values}, file, indent=1)
        file.write("\n")
    config = transformers.AutoConfig.from_pretrained(fixture)
    if name in NEW_FORM:
        config.architectures = [architecture]
        config.save_pretrained(fixture)
    lines = fold([f"{tensor} {','.join(map(str, shape))}" for tensor, shape in tensor_list(transformers, architecture, config)])
    open(os.path.join(fixture, "tensors"), "w").write("\n".join([dtype] + lines) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        generate(fixture, folder)
        model, info = getattr(transformers, architecture).from_pretrained(folder, dtype=torch.float32, output_loading_info=True,
                                                                               experts_implementation="eager")
        model = model.eval()
    problems = {k: v for k, v in info.items() if v}
    if problems:
        print(name, "loading:", problems)
    ids = sequences(source)
    with torch.no_grad():
        outputs = [model(torch.tensor([s])) for s in ids]
        doubles = [model.double()(torch.tensor([s])) for s in ids]
    pick = (lambda o: o.logits) if hasattr(outputs[0], "logits") else (lambda o: o.last_hidden_state)
    logits = np.concatenate([pick(o)[0].numpy() for o in outputs])
    exact = np.concatenate([pick(o)[0].numpy() for o in doubles])
    open(os.path.join(fixture, "ids"), "w").write("".join(",".join(map(str, s)) + "\n" for s in ids))
    np.save(os.path.join(fixture, "logits.npy"), logits)
    print(f"{name}: logits {logits.shape}, largest {np.abs(logits).max():.2f}, float32 against float64 "
          f"{np.abs(logits - exact).max() / np.abs(logits).max():.1e}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for model_name in sys.argv[2:] or [*MODELS, *NEW_FORM, "gguf-formats"]:
        (make_gguf if model_name.startswith("gguf-") else make)(sys.argv[1], model_name)
