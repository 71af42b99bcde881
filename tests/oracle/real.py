#!/usr/bin/env python3
"""Expected logits of a real GGUF model on real text, from transformers in float32 on the dequantized file.

    real.py expected MODEL.gguf -o DIR [--text FILE] [--tokens 1024]    writes DIR/NAME.ids and DIR/NAME.npy
    real.py peer     MODEL.gguf -o DIR                                  writes DIR/NAME.llama.npy: llama.cpp's own, on the same ids
    real.py compare  MODEL.gguf -o DIR --tenon PROGRAM [run options]    runs Tenon on the same ids and prints both distances

PROGRAM is the tenon command or a compiled executable. The ids come from llama.cpp's tokenizer.
"""
import argparse
import os
import subprocess
import sys
import time

import numpy as np

from compare import check, distance, show

TEXT = "/usr/share/doc/python3.11/html/_sources/tutorial/classes.rst.txt"


def peer_model(path, context):
    import llama_cpp
    return llama_cpp.Llama(path, n_ctx=context, n_batch=context, n_ubatch=512, logits_all=True, verbose=False, n_threads=os.cpu_count())


def read_ids(base):
    return [int(i) for i in open(base + ".ids").read().split(",")]


def expected(args, base):
    import torch
    from gguf_to_hf import load
    if args.text == TEXT and not os.path.exists(TEXT):
        sys.exit(f"{TEXT} is not there (apt-get install python3.11-doc), or name another with --text")
    text = open(args.text, encoding="utf-8").read()
    peer = peer_model(args.model, args.tokens)
    ids = peer.tokenize(text.encode(), add_bos=True, special=False)[:args.tokens]
    if len(ids) < args.tokens:
        sys.exit(f"{args.text} has {len(ids)} tokens only")
    open(base + ".ids", "w").write(",".join(map(str, ids)))
    model = load(args.model)
    start = time.time()
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].numpy()
    np.save(base + ".npy", logits)
    print(f"{base}.npy: {logits.shape[0]} positions × {logits.shape[1]}, {time.time() - start:.1f} s")


def peer(args, base):
    import llama_cpp
    ids = read_ids(base)
    model = peer_model(args.model, len(ids))
    model.eval(ids)
    np.save(base + ".llama.npy", np.array(model.scores[:len(ids)], dtype=np.float32))
    print(f"{base}.llama.npy: llama-cpp-python {llama_cpp.__version__}")


def compare(args, base):
    want = np.load(base + ".npy", mmap_mode="r")
    if os.path.exists(base + ".llama.npy"):
        show("llama.cpp", distance(np.load(base + ".llama.npy", mmap_mode="r"), want))
    got = base + ".tenon.npy"
    command = [args.tenon] + (["run", args.model] if os.path.basename(args.tenon) == "tenon" else [])
    command += ["--tokens", open(base + ".ids").read()]
    command += ["--ctx", str(len(read_ids(base))), "-n", "0", "--logits", got] + args.rest
    start = time.time()
    code = subprocess.run(command).returncode
    if code:
        sys.exit(f"{' '.join(command[:3])} … ended with {code}")
    print(f"tenon took {time.time() - start:.1f} s")
    result = distance(np.load(got, mmap_mode="r"), want)
    show("tenon", result)
    sys.exit(check(result, kl=1e-5, top1=0.999))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["expected", "peer", "compare"])
    parser.add_argument("model")
    parser.add_argument("-o", "--out", default=".")
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--tenon", default="tenon")
    args, args.rest = parser.parse_known_args()
    os.makedirs(args.out, exist_ok=True)
    base = os.path.join(args.out, os.path.basename(args.model).removesuffix(".gguf"))
    globals()[args.what](args, base)


if __name__ == "__main__":
    main()
