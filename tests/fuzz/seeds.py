#!/usr/bin/env python3
"""Writes the fuzzers' seeds and regression inputs: seeds.py OUT makes OUT/TARGET/{good,bad,seed}-….

`good-` inputs must be accepted; `seed-` ones are only something to start from.

`bad-` inputs are the holes that readers of these formats have had: counts, dimensions, offsets and lengths that overflow, files cut short,
deep nesting. They are written here as what is wrong with them, not kept as bytes.
"""
import glob
import json
import os
import re
import shutil
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
OUT = sys.argv[1]
shutil.rmtree(OUT, ignore_errors=True)


def put(target, name, data):
    folder = os.path.join(OUT, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)


def put_cut(target, name, data, pieces=12):
    """A good file, whole and cut short in several places."""
    put(target, "good-" + name, data)
    for i in range(1, pieces):
        put(target, f"bad-{name}-cut-{i:02}", data[:len(data) * i // pieces])


# ---- GGUF -------------------------------------------------------------------------------------------------------------

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10
F32_TENSOR, F16_TENSOR, Q4_0, Q8_0 = 0, 1, 2, 8


def string(text):
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    if kind == STRING:
        return string(v)
    if kind == ARRAY:
        inner, items = v
        return struct.pack("<IQ", inner, len(items)) + b"".join(value(inner, i) for i in items)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q"}[kind], v)


def key(name, kind, v):
    return string(name) + struct.pack("<I", kind) + value(kind, v)


def tensor(name, dims, kind, offset, dim_count=None):
    return string(name) + struct.pack("<I", len(dims) if dim_count is None else dim_count) + b"".join(struct.pack("<Q", d) for d in dims) + \
        struct.pack("<IQ", kind, offset)


def gguf(keys, tensors, data=b"", magic=b"GGUF", version=3, key_count=None, tensor_count=None, alignment=32):
    head = magic + struct.pack("<IQQ", version, len(tensors) if tensor_count is None else tensor_count,
                               len(keys) if key_count is None else key_count) + b"".join(keys) + b"".join(tensors)
    return head + b"\0" * (-len(head) % alignment) + data


def llama_gguf():
    hidden, vocab, ffn = 32, 40, 64
    tokens = ["<unk>", "<s>", "</s>", "\u2581", "a", "b", "ab", "\u2581a"] + [f"<0x{i:02X}>" for i in range(32)]
    keys = [key("general.architecture", STRING, "llama"), key("general.name", STRING, "tiny"), key("llama.context_length", U32, 64),
            key("llama.embedding_length", U32, hidden), key("llama.block_count", U32, 1), key("llama.feed_forward_length", U32, ffn),
            key("llama.attention.head_count", U32, 2), key("llama.attention.head_count_kv", U32, 1),
            key("llama.attention.layer_norm_rms_epsilon", F32, 1e-5), key("llama.rope.freq_base", F32, 1e4), key("llama.vocab_size", U32, vocab),
            key("llama.rope.dimension_count", U32, 16), key("tokenizer.ggml.model", STRING, "llama"),
            key("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)), key("tokenizer.ggml.scores", ARRAY, (F32, [-float(i) for i in range(vocab)])),
            key("tokenizer.ggml.token_type", ARRAY, (I32, [2, 3, 3] + [1] * 5 + [6] * 32)), key("tokenizer.ggml.bos_token_id", U32, 1),
            key("tokenizer.ggml.eos_token_id", U32, 2), key("tokenizer.ggml.add_bos_token", BOOL, 1),
            key("tokenizer.chat_template", STRING, "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}")]
    shapes = {"token_embd.weight": ([hidden, vocab], Q8_0), "output_norm.weight": ([hidden], F32_TENSOR)}
    for name, dims in {"attn_q": [hidden, 32], "attn_k": [hidden, 16], "attn_v": [hidden, 16], "attn_output": [32, hidden],
                       "ffn_gate": [hidden, ffn], "ffn_up": [hidden, ffn], "ffn_down": [ffn, hidden]}.items():
        shapes[f"blk.0.{name}.weight"] = (dims, Q4_0)
    for name in ("attn_norm", "ffn_norm"):
        shapes[f"blk.0.{name}.weight"] = ([hidden], F32_TENSOR)
    tensors, data = [], b""
    for name, (dims, kind) in shapes.items():
        tensors.append(tensor(name, dims, kind, len(data)))
        count = 1
        for d in dims:
            count *= d
        size = {F32_TENSOR: 4 * count, Q4_0: count // 32 * 18, Q8_0: count // 32 * 34}[kind]
        data += (b"\x00\x3c" * size)[:size] + b"\0" * (-size % 32)
    return gguf(keys, tensors, data)


def gguf_seeds():
    put_cut("gguf", "llama", llama_gguf())
    one = [key("general.architecture", STRING, "llama")]
    good_tensor = [tensor("t", [32, 2], Q8_0, 0)]
    big = 2**64 - 1
    put("gguf", "good-empty", gguf([], []))
    put("gguf", "good-tensor", gguf(one, good_tensor, b"\1" * 68))
    cases = {
        "magic": gguf(one, [], magic=b"GGML"),
        "version-99": gguf(one, [], version=99), "version-0": gguf(one, [], version=0),
        "key-count-huge": gguf(one, [], key_count=big), "key-count-2e32": gguf(one, [], key_count=2**32),
        "tensor-count-huge": gguf(one, [], tensor_count=big), "tensor-count-wraps": gguf(one, good_tensor, tensor_count=2**61),
        "string-length-huge": gguf([struct.pack("<Q", big) + b"k"], []),
        "string-length-wraps": gguf([struct.pack("<Q", big - 7) + b"k" * 40], []),
        "value-string-huge": gguf([string("k") + struct.pack("<IQ", STRING, big)], []),
        "array-count-huge": gguf([string("k") + struct.pack("<IIQ", ARRAY, U32, big)], []),
        "array-count-times-4-wraps": gguf([string("k") + struct.pack("<IIQ", ARRAY, U32, 2**62 + 1) + b"\0" * 64], []),
        "array-of-strings-huge": gguf([string("k") + struct.pack("<IIQ", ARRAY, STRING, 2**60)], []),
        "array-nested-deep": gguf([string("k") + struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 100000], []),
        "value-kind-99": gguf([string("k") + struct.pack("<I", 99) + b"\0" * 16], []),
        "array-kind-99": gguf([string("k") + struct.pack("<IIQ", ARRAY, 99, 4) + b"\0" * 16], []),
        "key-twice": gguf(one + one, []), "key-empty": gguf([key("", U32, 1)], []), "key-with-nul": gguf([key("a\0b", U32, 1)], []),
        "alignment-0": gguf([key("general.alignment", U32, 0)], good_tensor, b"\0" * 100),
        "alignment-3": gguf([key("general.alignment", U32, 3)], good_tensor, b"\0" * 100),
        "alignment-huge": gguf([key("general.alignment", U32, 0x80000000)], good_tensor, b"\0" * 100),
        "alignment-u64-max": gguf([key("general.alignment", U64, big)], good_tensor, b"\0" * 100),
        "alignment-string": gguf([key("general.alignment", STRING, "32")], good_tensor, b"\0" * 100),
        "dims-0": gguf(one, [tensor("t", [], Q8_0, 0)], b"\0" * 64), "dims-9": gguf(one, [tensor("t", [1] * 9, F32_TENSOR, 0)], b"\0" * 64),
        "dims-huge-count": gguf(one, [tensor("t", [1], F32_TENSOR, 0, dim_count=2**32 - 1)], b"\0" * 64),
        "dim-zero": gguf(one, [tensor("t", [0, 4], F32_TENSOR, 0)], b"\0" * 64),
        "dim-huge": gguf(one, [tensor("t", [big], F32_TENSOR, 0)], b"\0" * 64),
        "dim-negative": gguf(one, [tensor("t", [2**63 + 32], Q8_0, 0)], b"\0" * 64),
        "product-wraps-to-0": gguf(one, [tensor("t", [2**32, 2**32], F32_TENSOR, 0)], b"\0" * 64),
        "product-wraps-to-32": gguf(one, [tensor("t", [2**63 + 16, 2], Q8_0, 0)], b"\0" * 64),
        "bytes-wrap": gguf(one, [tensor("t", [2**62 + 1], F32_TENSOR, 0)], b"\0" * 64),
        "row-no-multiple-of-block": gguf(one, [tensor("t", [33], Q8_0, 0)], b"\0" * 64),
        "offset-huge": gguf(one, [tensor("t", [32], Q8_0, big)], b"\0" * 64),
        "offset-wraps": gguf(one, [tensor("t", [32], Q8_0, big - 31)], b"\0" * 64),
        "offset-unaligned": gguf(one, [tensor("t", [32], Q8_0, 1)], b"\0" * 64),
        "offset-past-end": gguf(one, [tensor("t", [32], Q8_0, 4096)], b"\0" * 64),
        "data-one-byte-short": gguf(one, good_tensor, b"\0" * 67),
        "tensor-kind-99": gguf(one, [tensor("t", [32], 99, 0)], b"\0" * 64), "tensor-kind-removed": gguf(one, [tensor("t", [32], 4, 0)], b"\0" * 64),
        "tensor-twice": gguf(one, [tensor("t", [1], F32_TENSOR, 0)] * 2, b"\0" * 64),
        "tensor-name-long": gguf(one, [tensor("t" * 70000, [1], F32_TENSOR, 0)], b"\0" * 64),
        "block-count-huge": gguf(one + [key("llama.block_count", U32, 2**32 - 1)], []),
        "architecture-not-utf8": gguf([key("general.architecture", STRING, b"\xff\xfe\x00")], []),
        "empty": b"", "magic-only": b"GGUF",
    }
    whole = llama_gguf()
    for field in (b"llama.block_count", b"llama.embedding_length", b"llama.attention.head_count", b"llama.attention.head_count_kv", b"llama.vocab_size",
                  b"llama.context_length", b"llama.rope.dimension_count", b"tokenizer.ggml.bos_token_id"):
        at = whole.index(field) + len(field) + 4
        for name, v in (("0", 0), ("max", 2**32 - 1), ("big", 2**31 - 1), ("odd", 3)):
            cases[f"{field.decode()}-{name}"] = whole[:at] + struct.pack("<I", v) + whole[at + 4:]
    for name, data in cases.items():
        put("gguf", "bad-" + name, data)
    put_cut("import", "llama", whole, 6)
    for name, data in cases.items():
        if "." in name or "architecture" in name or "block-count" in name:
            put("import", "bad-" + name, data)


# ---- safetensors --------------------------------------------------------------------------------------------------------

def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(4,), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def safetensors_seeds():
    good = safetensors({"__metadata__": {"format": "pt"}, "a": entry(), "b": entry("BF16", (2, 4), (16, 32)), "c": entry("F8_E4M3", (16,), (32, 48)),
                        "d": entry("I8", (4, 4), (48, 64))}, bytes(range(64)))
    put_cut("safetensors", "all", good)
    put("safetensors", "good-index", json.dumps({"metadata": {"total_size": 336}, "weight_map": {"a": "model.safetensors", "b": "model.safetensors"}}))
    big = 2**64 - 1
    cases = {
        "empty": b"", "length-huge": safetensors({}, length=big), "length-over-100mb": safetensors({}, length=100_000_001),
        "length-past-end": safetensors({}, length=64), "length-wraps": safetensors({}, length=big - 7),
        "header-not-json": safetensors("{a"), "header-list": safetensors("[]"), "header-number": safetensors("1"), "header-empty": safetensors(""),
        "header-nul": safetensors(b'{"a\x00":1}'), "header-not-utf8": safetensors(b'{"\xff\xfe":{}}'),
        "header-deep": safetensors('{"a":' + "[" * 100000 + "]" * 100000 + "}"), "header-deep-open": safetensors("[" * 1000000),
        "dtype-unknown": safetensors({"a": entry("Q99")}, b"\0" * 16), "dtype-number": safetensors({"a": {**entry(), "dtype": 3}}, b"\0" * 16),
        "shape-negative": safetensors({"a": entry(shape=(-4,))}, b"\0" * 16), "shape-float": safetensors({"a": entry(shape=(4.5,))}, b"\0" * 16),
        "shape-huge": safetensors({"a": entry(shape=(2**63,))}, b"\0" * 16), "shape-over-u64": safetensors({"a": entry(shape=(2**70,))}, b"\0" * 16),
        "shape-product-wraps": safetensors({"a": entry(shape=(2**32, 2**32))}, b"\0" * 16),
        "shape-bytes-wrap": safetensors({"a": entry(shape=(2**62 + 4,))}, b"\0" * 16), "shape-rank-100": safetensors({"a": entry(shape=(1,) * 100, offsets=(0, 4))}, b"\0" * 4),
        "shape-string": safetensors({"a": {**entry(), "shape": "4"}}, b"\0" * 16), "shape-zero": safetensors({"a": entry(shape=(0,), offsets=(0, 0))}),
        "offsets-reversed": safetensors({"a": entry(offsets=(16, 0))}, b"\0" * 16), "offsets-past-end": safetensors({"a": entry(offsets=(16, 32))}, b"\0" * 16),
        "offsets-negative": safetensors({"a": entry(offsets=(-16, 0))}, b"\0" * 16), "offsets-huge": safetensors({"a": entry(offsets=(big - 15, big))}, b"\0" * 16),
        "offsets-one": safetensors({"a": {**entry(), "data_offsets": [0]}}, b"\0" * 16), "offsets-wrong-size": safetensors({"a": entry(offsets=(0, 12))}, b"\0" * 16),
        "overlap": safetensors({"a": entry(), "b": entry(offsets=(8, 24))}, b"\0" * 24), "hole": safetensors({"a": entry(), "b": entry(offsets=(24, 40))}, b"\0" * 40),
        "trailing": safetensors({"a": entry()}, b"\0" * 20), "name-twice": safetensors('{"a":%s,"a":%s}' % (json.dumps(entry()), json.dumps(entry())), b"\0" * 16),
        "entry-null": safetensors('{"a":null}'), "metadata-list": safetensors('{"__metadata__":[1]}'),
        "index-outside": json.dumps({"weight_map": {"a": "../../../../etc/passwd", "b": "/dev/zero", "c": "missing.safetensors"}}),
        "index-self": json.dumps({"weight_map": {"a": "/proc/self/exe"}}), "index-list": json.dumps({"weight_map": ["model.safetensors"]}),
        "index-number": json.dumps({"weight_map": {"a": 1}}), "index-deep": '{"weight_map":' + '{"a":' * 50000 + "1" + "}" * 50001,
    }
    for name, data in cases.items():
        put("safetensors", "bad-" + name, data)


# ---- tokenizer.json -------------------------------------------------------------------------------------------------------

def tokenizer_seeds():
    byte_level = open(os.path.join(HERE, "..", "oracle", "models", "tokenizer.json"), encoding="utf-8").read()
    put_cut("tokenizer", "byte-level", byte_level.encode(), 6)
    added = [{"id": 3, "content": "</s>", "single_word": False, "lstrip": False, "rstrip": True, "normalized": False, "special": True}]
    base = {"version": "1.0", "added_tokens": added, "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    bytes_vocab = {f"<0x{i:02X}>": 10 + i for i in range(256)}
    good = {
        "sentencepiece": {**base, "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
                          {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
                          "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                                      {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
                          "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
                                    "vocab": {"<unk>": 0, "<s>": 1, "a": 2, "</s>": 3, "\u2581": 4, "b": 5, "ab": 6, "\u2581ab": 7, "t": 8, "T": 9, **bytes_vocab},
                                    "merges": ["a b", "\u2581 ab"]}},
        "unigram": {**base, "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
                    "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
                    "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["\u2581", -2.0], ["T", -3.0], ["</s>", 0.0], ["he", -2.5], ["h", -4.0]],
                              "byte_fallback": False}},
        "wordpiece": {**base, "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
                      "pre_tokenizer": {"type": "BertPreTokenizer"},
                      "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                                         {"SpecialToken": {"id": "[SEP]", "type_id": 0}}], "pair": [],
                                         "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}},
                      "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
                      "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                                "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "</s>": 3, "the": 4, "cat": 5, "##s": 6, "'": 7}}},
        "split": {**base, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                  {"type": "Split", "pattern": {"Regex": "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
                   "behavior": "Isolated", "invert": False},
                  {"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
                  "model": json.loads(byte_level)["model"]},
    }
    for name, data in good.items():
        put("tokenizer", "good-" + name, json.dumps(data, ensure_ascii=False))
    model = json.loads(byte_level)["model"]
    whole = json.loads(byte_level)
    regex = lambda r: {**whole, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r}, "behavior": "Isolated", "invert": False}}
    cases = {
        "empty": "", "list": "[]", "no-model": base, "model-null": {**whole, "model": None}, "model-unknown": {**whole, "model": {"type": "WordLevel2"}},
        "deep": "[" * 200000, "deep-model": '{"model":' * 50000, "vocab-empty": {**whole, "model": {**model, "vocab": {}, "merges": []}},
        "vocab-id-huge": {**whole, "model": {**model, "vocab": {**model["vocab"], "x": 2**40}}},
        "vocab-id-u32": {**whole, "model": {**model, "vocab": {**model["vocab"], "x": 2**32 - 1}}},
        "vocab-id-2e31": {**whole, "model": {**model, "vocab": {**model["vocab"], "x": 2**31 - 2}}},
        "vocab-id-negative": {**whole, "model": {**model, "vocab": {**model["vocab"], "x": -1}}},
        "vocab-id-twice": {**whole, "model": {**model, "vocab": {**model["vocab"], "x": 0}}},
        "vocab-id-hole": {**whole, "model": {**model, "vocab": {**model["vocab"], "x": 5000}}},
        "vocab-id-float": {**whole, "model": {**model, "vocab": {**model["vocab"], "x": 1.5}}},
        "vocab-list": {**whole, "model": {**model, "vocab": ["a"]}}, "merges-number": {**whole, "model": {**model, "merges": [1]}},
        "merges-unknown": {**whole, "model": {**model, "merges": ["no such"]}}, "merges-one": {**whole, "model": {**model, "merges": ["alone"]}},
        "merges-three": {**whole, "model": {**model, "merges": [["a", "b", "c"]]}}, "added-id-huge": {**whole, "added_tokens": [{**added[0], "id": 2**62}]},
        "added-id-2e31": {**whole, "added_tokens": [{**added[0], "id": 2**31 - 1}]},
        "added-empty": {**whole, "added_tokens": [{**added[0], "content": ""}]}, "added-null": {**whole, "added_tokens": [None]},
        "regex-open": regex("(a"), "regex-nested": regex("(" * 5000 + "a" + ")" * 5000), "regex-repeat": regex("a{1000000}"), "regex-repeats": regex("((a{100}){100}){100}"),
        "regex-repeat-huge": regex("a{99999999999999999999}"), "regex-class-open": regex("[a"), "regex-range": regex("[z-a]"), "regex-exponential": regex("(\\s*)*(\\S*)*$(a|aa)+!"),
        "regex-property": regex("\\p{NoSuch}"), "regex-backslash": regex("\\"), "regex-empty": regex(""), "regex-lookbehind": regex("(?<=a)b"), "regex-backref": regex("(a)\\1"),
        "regex-empty-loop": regex("(?:)*"), "unigram-no-unk": {**base, "model": {"type": "Unigram", "unk_id": 7, "vocab": [["a", 0]]}},
        "unigram-nan": '{"model":{"type":"Unigram","unk_id":0,"vocab":[["a",1e999],["b",-1e999]]}}', "unigram-row": {**base, "model": {"type": "Unigram", "vocab": [["a"]]}},
        "wordpiece-no-unk": {**base, "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": {"a": 0}}},
        "sequence-deep": {**whole, "normalizer": nested(3000)}, "string-surrogate": '{"model":{"type":"BPE","vocab":{"\\ud800":0},"merges":[]}}',
        "template-missing": {**whole, "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}], "special_tokens": {}}},
        "replace-empty": {**whole, "normalizer": {"type": "Replace", "pattern": {"String": ""}, "content": "xx"}},
        "prepend-long": {**whole, "normalizer": {"type": "Prepend", "prepend": "x" * 100000}},
    }
    for name, data in cases.items():
        put("tokenizer", "bad-" + name, data if isinstance(data, str) else json.dumps(data))


def nested(depth):
    inner = {"type": "NFC"}
    for _ in range(depth // 10):
        inner = {"type": "Sequence", "normalizers": [inner]}
    return inner


# ---- model descriptions ------------------------------------------------------------------------------------------------------

HEAD = "tenon: 1\nname: m\nconfig: {n: 4}\ncontext: 16\nweights: model.safetensors\n"
SMALL = HEAD + """
model:
  params:
    a: {shape: [8, n], name: a}
    b: {shape: [n], name: b, when: n > 1}
  body:
    - x = embedding(tokens, a)
    - x = rms_norm(x, b, eps=1e-6)
    - q = rope(reshape(x, [T, 2, 2]), base=10)
    - y = attention(q, q, q, window=3)
    - return linear(reshape(y, [T, n]) + x, a)
"""
RICH = HEAD + """
blocks:
  expert:
    index: [expert]
    inputs: [x]
    params:
      w: {shape: [n, n], name: c, index: expert}
    body:
      - return silu(linear(x, w))
  layer:
    index: [i]
    inputs: [x]
    params:
      r: {shape: [3, n], name: a, rows: 0..3}
      s: {shape: [n, n], name: c, index: i, transpose: true}
    body:
      - w, e = top_k(softmax(linear(x, r)), k=2, normalize=true)
      - y = moe(x, w, e, expert, count=3)
      - "a, b = split(y, [1, n - 1])"
      - z = concat([b, a]) if i == 0 else y * 2
      - return x + clamp(where(z < 0, z, gelu(linear(z, s), tanh=true)), -1, 1)
model:
  params:
    a: {shape: [8, n], name: a}
    head: {shape: [8, n], name: nowhere, or: a}
  body:
    - x = embedding(tokens, a) * sqrt(n)
    - repeat:
        index: i
        count: 2
        body:
          - x = layer(x, i=i)
    - return linear(layer_norm(x, eps=1e-5), head)
"""


def body(*lines):
    return HEAD + "model:\n  params:\n    a: {shape: [8, n], name: a}\n  body:\n    - x = embedding(tokens, a)\n" + "".join(f"    - {line}\n" for line in lines)


def yaml_seeds():
    put_cut("yaml", "small", SMALL.encode(), 8)
    put_cut("yaml", "rich", RICH.encode(), 8)
    for path in glob.glob(os.path.join(ROOT, "examples", "*.yaml")) + glob.glob(os.path.join(ROOT, "frontend", "architectures", "*.yaml")):
        put("yaml", "seed-" + os.path.basename(path), open(path, "rb").read())
    repeat = lambda count, inner="x = x + x": body(f"repeat: {{count: {count}, body: [{inner}]}}", "return linear(x, a)")
    deep_repeat = "x = x + x"
    for _ in range(60):
        deep_repeat = "repeat: {count: 1000, body: [%s]}" % (deep_repeat if deep_repeat[0] == "x" else "{" + deep_repeat + "}")
    cases = {
        "empty": "", "nul": "tenon: 1\0\n", "bom": "\ufeff" + SMALL, "not-utf8": b"tenon: 1\nname: \xff\xfe\n", "tab": "tenon:\t1\n\tname: x\n", "scalar": "x", "list": "- 1\n",
        "anchor": "a: &x 1\nb: *x\n", "billion-laughs": "a: &a [x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)},*{chr(97 + i)}]\n" for i in range(20)),
        "merge": "a: {<<: {b: 1}}\n", "key-twice": "tenon: 1\ntenon: 1\n", "documents": "tenon: 1\n---\ntenon: 1\n", "tag": "tenon: !!binary 1\n",
        "deep-flow": "a: " + "[" * 20000 + "]" * 20000, "deep-flow-open": "{a: " * 20000, "deep-block": "".join(" " * i + "a:\n" for i in range(2000)),
        "deep-parentheses": body("y = " + "(" * 20000 + "x" + ")" * 20000, "return y"), "deep-minus": body("y = " + "-" * 50000 + "x", "return y"),
        "deep-if": body("y = " + "x if 1 else " * 10000 + "x", "return y"), "deep-index": body("y = x" + "[0]" * 20000, "return y"), "deep-not": body("y = x if " + "not " * 30000 + "1 else x"),
        "long-sum": body("y = " + " + ".join(["x"] * 20000), "return linear(y, a)"), "long-name": body("y" * 100000 + " = x"), "long-pattern": SMALL.replace("name: b", 'name: "' + "{n}" * 50000 + '"'),
        "repeat-huge": repeat(10**9), "repeat-1e18": repeat("1e18"), "repeat-negative": repeat(-1), "repeat-fraction": repeat("1.5"), "repeat-nan": repeat("0/0"), "repeat-deep": body(deep_repeat, "return linear(x, a)"),
        "repeat-doubles": repeat(60, "x = concat([x, x])"), "repeat-linear": repeat(5000),
        "shape-huge": SMALL.replace("[8, n]", "[9223372036854775807, 9223372036854775807]"), "shape-1e300": SMALL.replace("[8, n]", "[1e300, n]"), "shape-0": SMALL.replace("[8, n]", "[0, n]"),
        "shape-negative": SMALL.replace("[8, n]", "[-8, n]"), "shape-rank-99": SMALL.replace("[8, n]", "[" + "1, " * 99 + "n]"), "shape-text": SMALL.replace("[8, n]", "x"),
        "reshape-huge": body("y = reshape(x, [T, 4611686018427387904, 4])", "return y"), "reshape-wraps": body("y = reshape(x, [T, 4294967296, 4294967296])", "return y"), "reshape-T-T": body("y = reshape(x, [T, T])", "return y"),
        "expand-huge": body("y = expand(reshape(x, [T, 1, 4]), [T, 2147483647, 4])", "return y"), "split-wraps": body('"y, z = split(x, [9223372036854775807, -9223372036854775803])"', "return y"),
        "slice-reversed": body("y = slice(x, 3, 1)", "return y"), "slice-huge": body("y = slice(x, 0, 1e19)", "return y"), "axis-huge": body("y = sum(x, axis=99999999999)", "return y"), "axis-T": body("y = sum(x, axis=0)", "return y"),
        "top-k-0": body("w, e = top_k(x, k=0)", "return w"), "top-k-huge": body("w, e = top_k(x, k=1e9)", "return w"), "rope-dims": body("return rope(reshape(x, [T, 1, 4]), base=0, dims=3)"), "rope-dims-huge": body("return rope(reshape(x, [T, 1, 4]), base=10, dims=2147483648)"),
        "window-huge": body("q = reshape(x, [T, 1, 4])", "return attention(q, q, q, window=1e15)"), "v-dims": body("q = reshape(x, [T, 1, 4])", "return attention(q, q, none, v_dims=9)"),
        "moe-count-huge": RICH.replace("count=3", "count=1e9"), "moe-count-0": RICH.replace("count=3", "count=0"), "index-huge": RICH.replace("index: i\n        count: 2", "index: i\n        count: 2").replace("index: expert", "index: expert + 1e9"),
        "rows-reversed": RICH.replace("0..3", "3..0"), "rows-step-0": RICH.replace("0..3", "0..8..0"), "rows-huge": RICH.replace("0..3", "0..9223372036854775807..9223372036854775807"), "rows-text": RICH.replace("0..3", "a..b"),
        "config-cycle": SMALL.replace("{n: 4}", "{n: m, m: n}"), "config-self": SMALL.replace("{n: 4}", "{n: n + 1}"), "config-huge": SMALL.replace("{n: 4}", "{n: 1e308 * 1e308}"), "config-divide": SMALL.replace("{n: 4}", "{n: 4 // 0}"), "config-modulo": SMALL.replace("{n: 4}", "{n: -9223372036854775808 // -1 % 0}"),
        "block-recursive": RICH.replace("return silu(linear(x, w))", "return layer(x, i=0)"), "block-self": RICH.replace("silu(linear(x, w))", "expert(x, expert=0)"),
        "weights-zero": SMALL.replace("model.safetensors", "/dev/zero"), "weights-folder": SMALL.replace("model.safetensors", "."), "weights-exe": SMALL.replace("model.safetensors", "/proc/self/exe"), "weights-list": SMALL.replace("model.safetensors", "[model.safetensors, model.safetensors]"),
        "weights-null": SMALL.replace("model.safetensors", "/dev/null"), "weights-missing": SMALL.replace("model.safetensors", "nowhere.gguf"), "weights-map": SMALL.replace("model.safetensors", "{a: b}"),
        "context-0": SMALL.replace("context: 16", "context: 0"), "context-huge": SMALL.replace("context: 16", "context: 1e18"), "context-negative": SMALL.replace("context: 16", "context: -1"),
        "number-long": SMALL.replace("n: 4", "n: " + "9" * 5000), "number-exponent": SMALL.replace("n: 4", "n: 1e999999999999"), "pattern-open": SMALL.replace("name: b", 'name: "{n"'), "pattern-percent": SMALL.replace("name: b", 'name: "%s%n%n{n}"'),
        "same-circle": SMALL + "\nsame: {b: c, c: a, a: b}\n", "same-open": SMALL + '\nsame: {"*": "*", "b*": "bb*", "": "*"}\n', "same-grows": SMALL + '\nsame: {"b*": "bbbbbbbbbbbbbbbb*"}\n',
        "same-long": SMALL + "\nsame: {b: " + "c" * 5000 + "}\n", "same-kinds": SMALL + "\nsame: {b: [a], a: {b: c}, c: }\n", "same-list": SMALL + "\nsame: [b]\n",
        "name-percent": body("y%s%n = x"), "return-twice": body("return x", "return x"), "return-none": body(), "many-errors": body(*["y = nowhere(x)"] * 5000),
    }
    for name, data in cases.items():
        put("yaml", "bad-" + name, data)


# ---- config.json ------------------------------------------------------------------------------------------------------------

def config_seeds():
    for path in sorted(glob.glob(os.path.join(HERE, "..", "oracle", "models", "*", "config.json"))):
        name = os.path.basename(os.path.dirname(path))
        put("config", "seed-" + name, open(path, "rb").read())
    llama = json.load(open(os.path.join(HERE, "..", "oracle", "models", "llama3", "config.json")))
    cases = {"empty": "", "list": "[]", "deep": "[" * 100000, "architectures-number": {**llama, "architectures": 3}, "architectures-empty": {**llama, "architectures": []},
             "unknown": {**llama, "architectures": ["MambaForCausalLM"], "model_type": "mamba"}, "scaling-unknown": {**llama, "rope_scaling": {"rope_type": "magic"}},
             "scaling-list": {**llama, "rope_scaling": [1]}}
    for field in ("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size", "intermediate_size", "max_position_embeddings", "head_dim", "rope_theta",
                  "rms_norm_eps"):
        for name, v in (("0", 0), ("negative", -1), ("huge", 10**18), ("big", 10**9), ("fraction", 1.5), ("text", "x"), ("null", None), ("list", [1]), ("float", 1e308)):
            cases[f"{field}-{name}"] = {**llama, field: v}
    for name, data in cases.items():
        put("config", "bad-" + name, data if isinstance(data, str) else json.dumps(data))


# ---- chat templates -------------------------------------------------------------------------------------------------------------

def chat_seeds():
    chatml = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}" \
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    gemma = "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set first = messages[0]['content'] + '\\n\\n' -%}{%- set loop_messages = messages[1:] -%}" \
        "{%- else -%}{%- set first = '' -%}{%- set loop_messages = messages -%}{%- endif -%}{%- for m in loop_messages -%}" \
        "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + (first if loop.first else '') }}{{ m['content'] | trim }}{{ '<end_of_turn>\\n' }}" \
        "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}"
    put_cut("chat", "chatml", chatml.encode(), 10)
    put_cut("chat", "gemma", gemma.encode(), 10)
    put("chat", "seed-macro", "{% macro f(a, b=1) %}{{ a ~ b }}{% endmacro %}{% for m in messages %}{{ f(m.content, b=loop.index0) }}{% endfor %}")
    cases = {"empty": "", "open": "{% for m in messages %}", "deep-if": "{% if 1 %}" * 5000 + "x" + "{% endif %}" * 5000, "deep-parentheses": "{{ " + "(" * 20000 + "1" + ")" * 20000 + " }}",
             "deep-list": "{{ " + "[" * 20000 + "]" * 20000 + " }}", "deep-not": "{{ " + "not " * 20000 + "1 }}", "deep-minus": "{{ " + "-" * 20000 + "1 }}", "long-concat": "{{ " + " ~ ".join(["'a'"] * 20000) + " }}",
             "doubling": "{% set ns = namespace(x='a') %}" + "{% set ns.x = ns.x ~ ns.x %}" * 64 + "{{ ns.x }}", "loops": "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}x{% endfor %}{% endfor %}{% endfor %}",
             "repeat": "{{ 'x' * 1000000000000 }}", "range-huge": "{{ range(10**18) | list }}", "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "divide": "{{ 1 // 0 }}{{ 1 % 0 }}", "overflow": "{{ 9223372036854775807 * 9223372036854775807 }}",
             "slice": "{{ messages[-9223372036854775808:9223372036854775807:-1] }}", "self-list": "{% set a = [] %}{% set a = a + [a] %}{{ a }}", "exception": "{{ raise_exception('no') }}", "unknown-tag": "{% frobnicate %}", "unknown-filter": "{{ 1 | frobnicate }}"}
    for name, data in cases.items():
        put("chat", "bad-" + name, data)


# ---- IR text ------------------------------------------------------------------------------------------------------------------

IR = """module @small context 16 tokens 8 rows 4 sequences 4

weight @a : f32[8, 4]
weight @e0 : f32[4, 4]
weight @e1 : f32[4, 4]
func @expert(%x: f32[T, 4]; %w: f32[4, 4]) -> f32[T, 4] {
  %y: f32[T, 4] = linear %x, %w
  return %y
}
main @model(%tokens: i32[T]) -> f32[T, 8] {
  %x: f32[T, 4] = embedding %tokens, @a
  %q: f32[T, 2, 2] = reshape %x {shape=[T, 2, 2]}
  %w: f32[T, 2], %e: i32[T, 2] = top_k %x {k=2, normalize=true, groups=1, keep=1, score=2}
  %m: f32[T, 4] = moe %x, %w, %e, [@e0, @e1, @e0, @e1] {block=@expert, count=4}
  %l: f32[T, 8] = linear %m, @a
  return %l
}
"""


def ir_seeds():
    put_cut("ir", "small", IR.encode(), 8)
    for path in glob.glob(os.path.join(ROOT, "tests", "**", "*.tir"), recursive=True)[:60]:
        put("ir", "seed-" + os.path.basename(path), open(path, "rb").read())
    cases = {
        "empty": "", "nul": IR.replace("@a", "@\0"), "deep": IR.replace("[@e0, @e1, @e0, @e1]", "[" * 50000), "dims-huge": IR.replace("8, 4", "9223372036854775807, 9223372036854775807"),
        "dims-overflow": IR.replace("8, 4", "99999999999999999999, 4"), "dims-negative": IR.replace("8, 4", "-8, 4"), "dims-0": IR.replace("8, 4", "0, 4"), "rank-99": IR.replace("8, 4", "1, " * 99 + "4"), "T-inside": IR.replace("T, 2, 2", "2, T, 2"),
        "array-huge": IR.replace("%w: f32[4, 4]", "%w: 2147483647 x f32[4, 4]"), "array-overflow": IR.replace("%w: f32[4, 4]", "%w: 99999999999999999999 x f32[4, 4]"),
        "call-self": IR.replace("linear %x, %w", "call %x, %w {block=@expert}"), "call-main": IR.replace("linear %x, %w", "call %x {block=@model}"), "use-before": IR.replace("reshape %x", "reshape %l"), "name-twice": IR.replace("%q:", "%x:"),
        "func-twice": IR + IR, "no-return": IR.replace("return %l", ""), "unknown-op": IR.replace("embedding", "embeding"), "unknown-type": IR.replace("f32", "f99"), "attr-twice": IR.replace("k=2,", "k=2, k=2,"), "attr-nan": IR.replace("k=2", "k=nan"),
        "attr-huge": IR.replace("k=2", "k=1e300"), "long-line": "%" + "x" * 300000, "cut-quote": 'weight @"abc', "blocks": IR.replace("weight @a : f32[8, 4]", "weight @a : q4_1[8, 4]"), "results-many": IR.replace("%w: f32[T, 2], %e: i32[T, 2] =", "".join(f"%r{i}: f32[T, 2], " for i in range(500)) + "%e: i32[T, 2] ="),
    }
    for name, data in cases.items():
        put("ir", "bad-" + name, data)


# ---- dictionaries -----------------------------------------------------------------------------------------------------------------

def dictionary(target, words):
    with open(os.path.join(OUT, target + ".dict"), "w") as file:
        for word in sorted(set(words)):
            file.write('"%s"\n' % "".join(c if c.isalnum() or c in " _.-:[]{}()@%=<>/" else "".join(f"\\x{b:02x}" for b in c.encode()) for c in word))


def dictionaries():
    ops = re.findall(r'^OP\(\w+, *"(\w+)"', open(os.path.join(ROOT, "ir", "ops.def")).read(), re.M)
    types = re.findall(r'^DTYPE\(\w+, *"(\w+)"', open(os.path.join(ROOT, "ir", "dtypes.def")).read(), re.M)
    attributes = re.findall(r"(\w+):[fibestg]", open(os.path.join(ROOT, "ir", "ops.def")).read())
    language = "tenon name config context weights same tokenizer stop chat blocks index inputs params shape rows transpose when or body repeat count model return tokens none true false if else in not and T S " \
        "min max sqrt log exp floor llama3 yarn linear_scale longrope layer expert".split() + [" = ", "//", "..", "<=", "==", "!=", "{n}", "[T, n]", "- return x"]
    dictionary("yaml", ops + attributes + language + [": ", "\n  - ", "{shape: [n], name: a}"])
    dictionary("ir", ops + types + [a + "=" for a in attributes] + ["func @", "main @", "weight @", "kernel", "return %", ": f32[T, ", " -> ", " x f32[", "{block=@"])
    dictionary("gguf", ["GGUF", "general.architecture", "general.alignment", "llama", "qwen3", "gemma3", "tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.merges", "block_count",
                        "token_embd.weight", "blk.0.", "attn_q.weight", "\x00\x00\x00\x00\x00\x00\x00\x01", "\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7f"])
    dictionary("safetensors", ["dtype", "shape", "data_offsets", "__metadata__", "weight_map", "F32", "F16", "BF16", "F8_E4M3", "I8", "[0,16]", "{\"a\":", "18446744073709551615"])
    dictionary("tokenizer", "model type BPE Unigram WordPiece vocab merges normalizer pre_tokenizer post_processor decoder added_tokens Sequence Split ByteLevel Metaspace Digits Replace Prepend Lowercase NFC NFKC "
               "BertNormalizer BertPreTokenizer TemplateProcessing ByteFallback Fuse Strip pattern Regex String behavior Isolated content special unk_token unk_id byte_fallback \\p{L} \\s+(?!\\S)".split())
    dictionary("import", ["GGUF", "general.architecture", "llama.", "qwen3moe.", "gemma3.", "block_count", "expert_count", "rope.scaling.type", "yarn", "attention.sliding_window", "tokenizer.chat_template"])
    dictionary("chat", "{% {%- %} -%} {{ }} {# #} for in if elif else endfor endif set macro endmacro messages message['role'] ['content'] loop.first loop.index0 loop.last namespace( range( is defined "
               "is not none | trim | length | tojson | upper add_generation_prompt bos_token raise_exception( ~ not and or [1:] .split( 'user' 'assistant' 'system'".split(" "))
    dictionary("config", "architectures model_type LlamaForCausalLM Qwen3MoeForCausalLM Gemma3ForCausalLM num_hidden_layers hidden_size rope_scaling rope_parameters rope_type llama3 yarn longrope layer_types null true".split())


gguf_seeds()
safetensors_seeds()
tokenizer_seeds()
yaml_seeds()
config_seeds()
chat_seeds()
ir_seeds()
dictionaries()
