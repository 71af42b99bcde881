#!/usr/bin/env python3
"""Makes tests/tokenizer/fixtures: a small tokenizer of every kind, trained here with the normalizers, pre-tokenizers, post-processors and decoders
of the real families, and what the `tokenizers` library says about the texts of texts.json.

    make_fixtures.py FOLDER      (needs the PyPI packages tokenizers, sentencepiece and gguf; trains on /usr/share/common-licenses)

Each fixture is NAME.json, or NAME.gguf: of the same tokenizers, and of sentencepiece's, which then is the oracle. expected.txt has one line a
fixture and text: file, text number, upper half of FNV-1a of the ids (as "1 2 3 ") and of the decoded text.
"""
import base64, json, os, sys, tempfile
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers as N, pre_tokenizers as P, processors, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = json.load(open(os.path.join(HERE, "texts.json"), encoding="utf-8"))

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = "|".join([rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?", rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{CONTRACTIONS}?",
                  r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
            r"|\s*[\r\n]+|\s+(?!\S)|\s+")
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def corpus():
    lines = [line for name in ("GPL-3", "Apache-2.0", "Artistic", "MPL-2.0") for line in open("/usr/share/common-licenses/" + name, encoding="utf-8")]
    return lines[:900] + [text.replace("\0", "") for text in TEXTS * 6]     # a JSON key may not hold NUL


def special(content, **options):
    return AddedToken(content, normalized=False, special=True, **options)


class Draft:
    """A tokenizer to be trained; names with an underscore are our own."""

    def __init__(self, model):
        self._tok, self._pre, self._byte_fallback = Tokenizer(model), False, False

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value) if name.startswith("_") else setattr(self._tok, name, value)


def byte_level(pre, size=420, **model):
    tok = Draft(models.BPE(**model))
    tok.pre_tokenizer = pre
    tok.decoder = decoders.ByteLevel()
    tok._trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=P.ByteLevel.alphabet(), show_progress=False,
                                       special_tokens=[model["unk_token"]] if "unk_token" in model else [],
                                       **{k: v for k, v in model.items() if k == "end_of_word_suffix"})
    return tok


def split(pattern, behavior="isolated", invert=False):
    return P.Split(Regex(pattern), behavior, invert)


def bytes_after(*steps):
    return P.Sequence([*steps, P.ByteLevel(add_prefix_space=False, use_regex=False)])


def gpt2():
    return byte_level(P.ByteLevel(add_prefix_space=False)), [special("<|endoftext|>")], None


def smollm():
    return byte_level(P.Sequence([P.Digits(individual_digits=True), P.ByteLevel(add_prefix_space=False)])), [special("<|im_start|>"), special("<|im_end|>")], None


def llama3():
    post = lambda tok: processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", tok.token_to_id("<|begin_of_text|>"))])])
    return byte_level(bytes_after(split(LLAMA3)), ignore_merges=True), [special("<|begin_of_text|>"), special("<|eot_id|>")], post


def qwen2():
    tok = byte_level(bytes_after(split(QWEN2)))
    tok.normalizer = N.NFC()
    return tok, [special("<|im_start|>"), special("<|im_end|>"), AddedToken("<think>", normalized=False), AddedToken("newtoken", single_word=True)], None


def deepseek():
    return byte_level(bytes_after(split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK))), [special("<｜end▁of▁sentence｜>")], None


def o200k():
    return byte_level(bytes_after(split(O200K))), [special("<|return|>")], None


def kimi():
    return byte_level(bytes_after(split(KIMI))), [special("<|im_end|>")], None


def roberta():
    post = lambda tok: processors.RobertaProcessing(("</s>", tok.token_to_id("</s>")), ("<s>", tok.token_to_id("<s>")))
    return (byte_level(P.ByteLevel(add_prefix_space=True)),
            [special("<s>"), special("<pad>"), special("</s>"), special("<mask>", lstrip=True), AddedToken("newtoken", rstrip=True)], post)


def clip():
    tok = byte_level(P.Sequence([split(CLIP, "removed", True), P.ByteLevel(add_prefix_space=False)]), end_of_word_suffix="</w>",
                     continuing_subword_prefix="", unk_token="<|endoftext|>")
    tok.normalizer = N.Sequence([N.NFC(), N.Replace(Regex(r"\s+"), " "), N.Lowercase()])
    post = lambda t: processors.RobertaProcessing(("<|endoftext|>", t.token_to_id("<|endoftext|>")), ("<|startoftext|>", t.token_to_id("<|startoftext|>")),
                                                  add_prefix_space=False, trim_offsets=False)
    return tok, [special("<|startoftext|>"), special("<|endoftext|>")], post


BYTES = [f"<0x{i:02X}>" for i in range(256)]


def sentencepiece_bpe(normalizer, pre, decoder, size=560, trained_with=None):
    tok = Draft(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if normalizer: tok.normalizer = normalizer
    if pre or trained_with: tok.pre_tokenizer = trained_with or pre
    tok.decoder = decoder
    tok._pre = pre
    tok._trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>", "<s>", "</s>", *BYTES], show_progress=False, limit_alphabet=90)
    return tok


def prefixed(tok):
    return processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tok.token_to_id("<s>"))])


def gemma():
    words = P.Split(" ", "merged_with_previous")
    tok = sentencepiece_bpe(N.Replace(" ", "▁"), words, decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]),
                            trained_with=P.Split("▁", "merged_with_next"))
    return tok, [special("<s>"), special("<unk>"), special("<start_of_turn>"), AddedToken("\n\n", normalized=False), AddedToken("▁▁▁", normalized=False)], prefixed


def llama2():
    tok = sentencepiece_bpe(N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), None, decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]), trained_with=P.Split("▁", "merged_with_next"))
    return tok, [special("<unk>"), special("<s>"), special("</s>")], prefixed


def phi3():
    tok, _, post = llama2()
    return tok, [special("<unk>"), special("<s>"), AddedToken("</s>", normalized=False, rstrip=True), special("<|end|>", rstrip=True), special("<|user|>", rstrip=True),
                 AddedToken("newtoken", normalized=True)], post


def mistral():
    meta = dict(replacement="▁", prepend_scheme="first", split=False)
    tok = sentencepiece_bpe(None, P.Metaspace(**meta), decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]), trained_with=P.Metaspace(replacement="▁"))
    return tok, [special("<unk>"), special("<s>"), special("</s>"), special("[INST]")], prefixed


def field(message, wanted):
    """The bytes of one length-delimited field of a protobuf message."""
    def number(at):
        value = shift = 0
        while True:
            byte = message[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128: return value, at
    at = 0
    while at < len(message):
        key, at = number(at)
        length, at = number(at) if key & 7 in (0, 2) else ({1: 8, 5: 4}[key & 7], at)
        if key & 7 == 0: continue
        if key >> 3 == wanted: return message[at:at + length]
        at += length


def sentencepiece_model(folder, **options):
    """The bytes of a sentencepiece model trained on the corpus."""
    import sentencepiece as spm
    with open(folder + "/text", "w", encoding="utf-8") as f: f.writelines(line.replace("\n", " ") + "\n" for line in corpus())
    spm.SentencePieceTrainer.train(input=folder + "/text", model_prefix=folder + "/m", minloglevel=2, **options)
    return open(folder + "/m.model", "rb").read()


def small_rules(folder):
    rules = [("ﬁ", "fi"), ("ﬂ", "fl"), ("①", "1"), ("\t", " "), ("\n", " "), ("\r\n", " "), ("\u00a0", " "), ("\u3000", " "), ("Ａ", "A"), ("ｶﾞ", "ガ"), ("ｶ", "カ"),
             ("e\u0301", "é"), ("…", "..."), ("½", "1/2"), ("\u200b", ""), ("\u00ad", "")]
    with open(folder + "/rules.tsv", "w", encoding="utf-8") as f:
        for a, b in rules: f.write(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n")
    return folder + "/rules.tsv"


def small_charsmap():
    """A precompiled character map of a few rules, made by sentencepiece itself."""
    with tempfile.TemporaryDirectory() as folder:
        model = sentencepiece_model(folder, vocab_size=500, normalization_rule_tsv=small_rules(folder))
    return field(field(model, 3), 2)                # normalizer_spec.precompiled_charsmap


def unigram(normalizer, pre, decoder, specials, size=420):
    tok = Draft(models.Unigram())
    if normalizer: tok.normalizer = normalizer
    tok.pre_tokenizer = pre
    tok.decoder = decoder
    tok._trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=specials, unk_token="<unk>", show_progress=False)
    return tok


def xlmr():
    tok = unigram(N.Sequence([N.Precompiled(small_charsmap()), N.Replace(Regex(" {2,}"), " ")]), P.Metaspace(), decoders.Metaspace(), ["<s>", "<pad>", "</s>", "<unk>"])
    post = lambda t: processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[(s, t.token_to_id(s)) for s in ("<s>", "</s>")])
    return tok, [special("<s>"), special("<pad>"), special("</s>"), special("<unk>"), special("<mask>", lstrip=True)], post


def t5():
    tok = unigram(N.Precompiled(small_charsmap()), P.Sequence([P.WhitespaceSplit(), P.Metaspace()]), decoders.Metaspace(), ["<pad>", "</s>", "<unk>"])
    post = lambda t: processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", t.token_to_id("</s>"))])
    return tok, [special("<pad>"), special("</s>"), special("<unk>"), special("<extra_id_0>")], post


def albert():
    norm = N.Sequence([N.Replace("``", '"'), N.Replace("''", '"'), N.NFKD(), N.StripAccents(), N.Lowercase(), N.Strip(), N.Nmt()])
    tok = unigram(norm, P.Metaspace(), decoders.Metaspace(), ["<pad>", "<unk>", "[CLS]", "[SEP]"])
    post = lambda t: processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[(s, t.token_to_id(s)) for s in ("[CLS]", "[SEP]")])
    return tok, [special("<unk>"), special("[CLS]"), special("[SEP]"), special("[MASK]", lstrip=True)], post


def unigram_bytes():
    tok = unigram(N.NFKC(), P.Metaspace(prepend_scheme="never", split=False), decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")]),
                  ["<unk>", *BYTES], 560)
    tok._byte_fallback = True
    return tok, [special("<unk>")], None


def bert(lower):
    tok = Draft(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = N.BertNormalizer(lowercase=lower)
    tok.pre_tokenizer = P.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tok._trainer = trainers.WordPieceTrainer(vocab_size=420, special_tokens=specials, show_progress=False, limit_alphabet=110)
    post = lambda t: processors.BertProcessing(("[SEP]", t.token_to_id("[SEP]")), ("[CLS]", t.token_to_id("[CLS]")))
    return tok, [special(s) for s in specials], post


def word_level():
    tok = Draft(models.WordLevel(unk_token="[UNK]"))
    tok.normalizer = N.Sequence([N.NFD(), N.StripAccents(), N.Lowercase()])
    tok.pre_tokenizer = P.Sequence([P.Whitespace(), P.Digits()])
    tok._trainer = trainers.WordLevelTrainer(vocab_size=400, special_tokens=["[UNK]"], show_progress=False)
    return tok, [special("[UNK]"), AddedToken("newtoken", single_word=True, lstrip=True)], None


def plain_bpe():
    tok = Draft(models.BPE(unk_token="<unk>", continuing_subword_prefix="@@"))
    tok.normalizer = N.Sequence([N.NFKD(), N.Strip(left=True, right=False)])
    tok.pre_tokenizer = P.Sequence([P.CharDelimiterSplit("_"), P.Split(" ", "merged_with_next"), P.Punctuation("contiguous"), split(r"[A-Z](?=[a-z])|(?<=\d)[xX]", "merged_with_next")])
    tok.decoder = decoders.BPEDecoder("</w>")
    tok._trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>"], continuing_subword_prefix="@@", show_progress=False, limit_alphabet=110)
    return tok, [special("<unk>")], None


KINDS = {f.__name__: f for f in (gpt2, smollm, llama3, qwen2, deepseek, o200k, kimi, roberta, clip, gemma, llama2, phi3, mistral, xlmr, t5, albert,
                                 unigram_bytes, word_level, plain_bpe)}
KINDS["bert_uncased"] = lambda: bert(True)
KINDS["bert_cased"] = lambda: bert(False)


def build(name):
    draft, added, post = KINDS[name]()
    draft._tok.train_from_iterator(corpus(), draft._trainer)
    data = json.loads(draft._tok.to_str())
    if draft._pre is not False: data["pre_tokenizer"] = None
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] not in BYTES]
    if draft._byte_fallback: data["model"]["byte_fallback"] = True
    tok = Tokenizer.from_str(json.dumps(data))
    if draft._pre: tok.pre_tokenizer = draft._pre
    for a in added: tok.add_special_tokens([a]) if a.special else tok.add_tokens([a])
    if post: tok.post_processor = post(tok)
    return Tokenizer.from_str(tok.to_str())


def fnv(data):
    h = 14695981039346656037
    for byte in data: h = (h ^ byte) * 1099511628211 & (1 << 64) - 1
    return f"{h >> 32:08x}"


# ---- .gguf -------------------------------------------------------------------------------------------------------------

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def write_gguf(path, model, tokens, types, **more):
    import gguf
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    for name, value in more.items(): getattr(writer, "add_" + name)(value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_of(name, path):
    """The .gguf of a trained tokenizer: byte-level BPE or WordPiece."""
    tok = build(name)
    data = json.loads(tok.to_str())
    tokens = [tok.id_to_token(i) for i in range(tok.get_vocab_size())]
    added = {t["content"]: CONTROL if t["special"] else USER for t in data["added_tokens"]}
    types = [added.get(t, NORMAL) for t in tokens]
    if data["model"]["type"] == "WordPiece":
        tokens = [t if y != NORMAL else t[2:] if t.startswith("##") else "▁" + t for t, y in zip(tokens, types)]
        write_gguf(path, "bert", tokens, types, bos_token_id=tok.token_to_id("[CLS]"), sep_token_id=tok.token_to_id("[SEP]"), unk_token_id=tok.token_to_id("[UNK]"))
    else:
        pre = {"llama3": "llama-bpe", "deepseek": "deepseek-v3", "o200k": "gpt-4o", "gpt2": "gpt-2"}.get(name, name)
        more = dict(bos_token_id=tok.token_to_id("<|begin_of_text|>")) if name == "llama3" else {}
        write_gguf(path, "gpt2", tokens, types, tokenizer_pre=pre, token_merges=[" ".join(m) for m in data["model"]["merges"]], **more)
    return lambda text: None if "newtoken" in text else tok.encode(text).ids, tok.decode       # single_word has no place in a .gguf


def sentencepiece_gguf(path, kind, users=(), **options):
    import sentencepiece as spm
    with tempfile.TemporaryDirectory() as folder:
        if kind == "t5": options["normalization_rule_tsv"] = small_rules(folder)
        else: options["normalization_rule_name"] = "identity"
        data = sentencepiece_model(folder, user_defined_symbols=list(users), **options)
    sp = spm.SentencePieceProcessor(model_proto=data)
    types = [UNKNOWN if sp.is_unknown(i) else CONTROL if sp.is_control(i) else BYTE if sp.is_byte(i) else NORMAL for i in range(sp.get_piece_size())]
    pieces = [sp.id_to_piece(i) for i in range(sp.get_piece_size())]
    more = dict(precompiled_charsmap=field(field(data, 3), 2), remove_extra_whitespaces=True) if kind == "t5" else {}
    write_gguf(path, kind, [p.replace("▁", " ") if p in users else p for p in pieces], [USER if p in users else y for p, y in zip(pieces, types)],
               token_scores=[sp.get_score(i) for i in range(len(pieces))], bos_token_id=sp.bos_id(), eos_token_id=sp.eos_id(), unk_token_id=sp.unk_id(),
               add_space_prefix=options.get("add_dummy_prefix", True), **more)
    bos, eos = ([sp.bos_id()], []) if kind == "llama" else ([], [sp.eos_id()])
    plain = lambda text: None if "<" in text or "\0" in text or "▁" in text else bos + sp.encode(text) + eos
    return plain, lambda ids: None if sp.unk_id() in ids else sp.decode(ids)


GGUFS = {name: lambda path, name=name: gguf_of(name, path) for name in ("gpt2", "smollm", "llama3", "qwen2", "deepseek", "o200k", "bert_uncased")}
GGUFS["llama"] = lambda path: sentencepiece_gguf(path, "llama", vocab_size=700, model_type="bpe", byte_fallback=True, remove_extra_whitespaces=False)
GGUFS["gemma"] = lambda path: sentencepiece_gguf(path, "llama", ("▁▁", "▁▁▁", "\n\n"), vocab_size=700, model_type="bpe", byte_fallback=True, split_digits=True,
                                                 remove_extra_whitespaces=False, add_dummy_prefix=False)
GGUFS["t5"] = lambda path: sentencepiece_gguf(path, "t5", vocab_size=500, model_type="unigram")


def expect(out, file, encode, decode):
    for i, text in enumerate(TEXTS):
        ids = encode(text)
        if ids is None: continue
        decoded = decode(ids)
        hashed = "-" if decoded is None or file == "plain_bpe.json" else fnv(decoded.encode())
        out.write(f"{file} {i} {fnv(''.join(f'{n} ' for n in ids).encode())} {hashed}\n")


def main(folder):
    os.makedirs(folder, exist_ok=True)
    with open(folder + "/expected.txt", "w") as out:
        for name in KINDS:
            tok = build(name)
            tok.save(f"{folder}/{name}.json", pretty=False)
            expect(out, name + ".json", lambda text: tok.encode(text).ids, tok.decode)
            print(name, tok.get_vocab_size(), os.path.getsize(f"{folder}/{name}.json"))
        for name, make in GGUFS.items():
            expect(out, name + ".gguf", *make(f"{folder}/{name}.gguf"))
            print(name, os.path.getsize(f"{folder}/{name}.gguf"))


if __name__ == "__main__":
    main(sys.argv[1])
