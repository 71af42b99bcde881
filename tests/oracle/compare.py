#!/usr/bin/env python3
"""Compares float32 logits [T, vocab] in two .npy files, or Tenon's with a stored one. Needs NumPy alone.

    compare.py GOT.npy WANT.npy [--max 1e-4] [--kl X] [--top1 X] [--cosine X]

max: the largest |got - want| as a part of the largest |want|; KL: mean over rows of KL(want ‖ got) in nats; top-1: rows with the same
largest element; cosine: the least over rows. Ends with 1 when a bound is exceeded.
"""
import argparse
import sys

import numpy as np


def log_softmax(x):
    x = x.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def distance(got, want, rows_at_once=64):
    """got, want: [T, n]; works through memory-mapped arrays in pieces."""
    if got.shape != want.shape:
        sys.exit(f"shapes differ: {got.shape} and {want.shape}")
    biggest = difference = 0.0
    kl, same, cosine, finite = [], 0, [], True
    for first in range(0, len(want), rows_at_once):
        g, w = np.array(got[first:first + rows_at_once]), np.array(want[first:first + rows_at_once])
        finite = finite and bool(np.isfinite(g).all())
        biggest = max(biggest, float(np.abs(w).max()))
        difference = max(difference, float(np.abs(g.astype(np.float64) - w).max()))
        lg, lw = log_softmax(g), log_softmax(w)
        kl += list((np.exp(lw) * (lw - lg)).sum(axis=-1))
        same += int((g.argmax(axis=-1) == w.argmax(axis=-1)).sum())
        g, w = g.astype(np.float64), w.astype(np.float64)
        cosine += list((g * w).sum(axis=-1) / (np.linalg.norm(g, axis=-1) * np.linalg.norm(w, axis=-1)))
    return dict(rows=len(want), max=difference / biggest, kl=float(np.mean(kl)), kl_worst=float(np.max(kl)), top1=same / len(want),
                cosine=float(np.min(cosine)), finite=finite)


def show(name, d):
    print(f"{name}: {d['rows']} rows: max|Δ|/max|logit| {d['max']:.2e}, KL mean {d['kl']:.2e} worst {d['kl_worst']:.2e}, "
          f"top-1 {100 * d['top1']:.2f} %, least cosine {d['cosine']:.8f}{'' if d['finite'] else ', NOT FINITE'}")


def check(d, max=None, kl=None, top1=None, cosine=None):
    """0 when every bound that is given holds, else 1 and a line for each that does not."""
    bad = [] if d["finite"] else ["not finite"]
    bad += [f"{name} {d[name]:.3g} above {bound:g}" for name, bound in (("max", max), ("kl", kl)) if bound is not None and not d[name] <= bound]
    bad += [f"{name} {d[name]:.6g} below {bound:g}" for name, bound in (("top1", top1), ("cosine", cosine)) if bound is not None and not d[name] >= bound]
    for line in bad:
        print("FAILED:", line)
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("got")
    parser.add_argument("want")
    for bound in ("max", "kl", "top1", "cosine"):
        parser.add_argument("--" + bound, type=float)
    args = parser.parse_args()
    result = distance(np.load(args.got, mmap_mode="r"), np.load(args.want, mmap_mode="r"))
    show(args.got, result)
    sys.exit(check(result, args.max, args.kl, args.top1, args.cosine))


if __name__ == "__main__":
    main()
