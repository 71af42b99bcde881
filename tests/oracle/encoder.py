#!/usr/bin/env python3
"""Sentence embeddings of an encoder (MiniLM) against transformers: alone, and in a batch of different lengths.

    encoder.py expected FOLDER -o DIR                     writes DIR/NAME.txt (a sentence a line) and DIR/NAME.npy [S, hidden]
    encoder.py compare  FOLDER -o DIR --tenon PROGRAM     runs Tenon on each line alone and on all in one batch

The embedding is the mean over a sentence's tokens, normalised to length 1. Tenon's output may be the mean already ([S, hidden]) or each
token's ([T, hidden]); either way it is brought to that form here.
"""
import argparse
import os
import subprocess
import sys

import numpy as np

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "A tenon is the end of a beam cut to fit exactly one mortise.",
    "Rain.",
    "Compilers translate programs from one language into another, and the good ones explain their mistakes as well as yours: file, line, "
    "column, cause and a hint, so that nobody has to guess what the machine was thinking when it stopped.",
    "How do I reset my password if I no longer have access to the e-mail address?",
    "2 + 2 = 4, but naïve façade costs 1.234,56 € — isn't that über-strange?",
    "東京は日本の首都です。",
]


def normalised(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def expected(args, base):
    import torch
    import transformers
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    model = transformers.AutoModel.from_pretrained(args.model, dtype=torch.float32).eval()
    rows, ids = [], []
    with torch.no_grad():
        for sentence in SENTENCES:
            inputs = tokenizer(sentence, return_tensors="pt")
            ids.append(inputs["input_ids"][0].tolist())
            rows.append(model(**inputs).last_hidden_state[0].double().mean(dim=0).numpy())
    np.save(base + ".npy", normalised(np.array(rows)).astype(np.float32))
    open(base + ".txt", "w").write("\n".join(SENTENCES) + "\n")
    open(base + ".ids", "w").write("".join(",".join(map(str, i)) + "\n" for i in ids))
    print(f"{base}.npy: {len(rows)} sentences")


def run(args, options, out):
    command = [args.tenon] + (["run", args.model] if os.path.basename(args.tenon) == "tenon" else [])
    command += options + ["-n", "0", "--logits", out] + args.rest
    if code := subprocess.run(command, stdin=subprocess.DEVNULL).returncode:
        sys.exit(f"{' '.join(command)}: exit {code}")
    return np.load(out)


def pooled(output, lengths):
    if len(output) == len(lengths):
        return normalised(output)
    if len(output) != sum(lengths):
        sys.exit(f"{len(output)} rows, neither {len(lengths)} sentences nor {sum(lengths)} tokens")
    return normalised(np.array([part.mean(axis=0) for part in np.split(output, np.cumsum(lengths)[:-1])]))


def compare(args, base):
    want, out = np.load(base + ".npy"), base + ".tenon.npy"
    ids = open(base + ".ids").read().split()
    lengths = [len(line.split(",")) for line in ids]
    kinds = {
        "from ids, alone": [pooled(run(args, ["--tokens", line], out), [n])[0] for line, n in zip(ids, lengths)],
        "from text, alone": [pooled(run(args, ["-p", s], out), [n])[0] for s, n in zip(SENTENCES, lengths)],
        "from text, in a batch": pooled(run(args, ["--batch", base + ".txt"], out), lengths),
    }
    bad = 0
    for name, got in kinds.items():
        cosine = (np.array(got) * want).sum(axis=-1)
        print(f"{name}: least cosine {cosine.min():.8f}")
        bad |= int(not cosine.min() >= 0.9999)
    sys.exit(bad)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["expected", "compare"])
    parser.add_argument("model")
    parser.add_argument("-o", "--out", default=".")
    parser.add_argument("--tenon", default="tenon")
    args, args.rest = parser.parse_known_args()
    os.makedirs(args.out, exist_ok=True)
    globals()[args.what](args, os.path.join(args.out, "minilm"))


if __name__ == "__main__":
    main()
