#!/usr/bin/env python3
"""Experts beyond memory: a compiled program under bounds that force it to read experts again and again gives the same bits as one with all weights
in memory. Needs NumPy and the tenon command ($TENON).

    paging.py tests/oracle/models/NAME

For bounds from the least that --info names up to half of the experts, on one, two and five threads, prompts whole, token by token and in a batch: the
logits' bytes. What a run says of paging, a bound given when the program is compiled, and one that is too small.
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "oracle"))
from run_model import model_source   # noqa: E402

TENON = os.environ["TENON"]
failed = []


def run(command, expect=0):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    if result.returncode != expect:
        sys.exit(f"{' '.join(command)[:300]}: exit {result.returncode}, not {expect}\n{result.stdout[-1000:]}{result.stderr[-2000:]}")
    return result


def check(what, good):
    print(("ok         " if good else "WRONG      ") + what)
    if not good:
        failed.append(what)


def main():
    fixture = sys.argv[1]
    prompts = [",".join(str((7 * i * i + 11 * n + 3) % 50) for i in range(length)) for n, length in enumerate((23, 9, 1))]
    batch = [word for prompt in prompts for word in ("--tokens", prompt)]
    with tempfile.TemporaryDirectory() as folder:
        source, program, out = model_source(fixture, folder), os.path.join(folder, "program"), os.path.join(folder, "out.npy")
        run([TENON, "compile", source, "-o", program])
        info = json.loads(run([program, "--info", "--json", "--ctx", "32"]).stdout)
        fixed = info["peak_bytes"] - info["weights_bytes"] + info["pinned_bytes"]
        least, experts = info["least_expert_bytes"], info["expert_bytes"]
        check(f"{info['experts']} experts of together {experts} bytes, at least {least} at once", info["experts"] > 0 and 0 < least < experts)

        def logits(*options):
            run([program, "--ctx", "32", "-n", "0", "--logits", out, *options])
            return np.load(out).tobytes()

        whole = {options: logits(*options) for options in (("--tokens", prompts[0]), tuple(batch))}
        for room in (least, 2 * least, (least + experts) // 2):
            for threads in ("1", "2", "5"):
                for chunk in ((), ("--chunk", "1"), ("--chunk", "7")):
                    for options, want in whole.items():
                        if chunk and len(options) > 2:
                            continue
                        caches = (len(options) // 2 - 1) * info["kv_bytes"]
                        bound = ("--memory", str(fixed + caches + room), "--threads", threads)
                        check(f"{room} bytes for experts, {threads} threads {' '.join(chunk)}, {len(options) // 2} prompts", logits(*options, *bound, *chunk) == want)

        def generate(*options, of=program):
            return json.loads(run([of, "--ctx", "32", "--tokens", prompts[1], "-n", "12", "--ignore-end", "--json", *options]).stdout)

        free, paged = generate(), generate("--memory", str(fixed + least))
        check("the same tokens", free["outputs"][0]["tokens"] == paged["outputs"][0]["tokens"])
        check("paging is counted, where there is any", "paging" not in free and 0 <= paged["paging"]["hits"] < paged["paging"]["visits"])
        check("what is held stays under the bound", paged["paging"]["held"] <= paged["paging"]["room"])
        check("a bound that is not needed", "paging" not in generate("--memory", "8G"))
        small = run([program, "--ctx", "32", "--tokens", "1", "-n", "1", "--memory", str(fixed + least - 4096)], expect=3)
        check("a bound that is too small says what it takes", "too little" in small.stderr and not small.stdout)
        run([TENON, "compile", source, "-o", program + "-bound", "--memory", str(fixed + least)])
        check("a bound of the compiler's", "paging" in generate(of=program + "-bound"))
        check("… that a run overrides", "paging" not in generate("--memory", "none", of=program + "-bound"))
        weights = json.loads(run([program + "-bound", "--info", "--json", "--ctx", "32"]).stdout)
        check("… and --info knows", weights["peak_bytes"] == weights["memory_bytes"] == fixed + least and weights["expert_room_bytes"] == least)
    sys.exit(f"{len(failed)} failed: {failed[:5]}" if failed else 0)


main()
