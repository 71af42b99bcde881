#!/usr/bin/env python3
"""Profiles, and programs accepted against one another. Needs NumPy and the tenon command ($TENON).

    profile.py tests/oracle/models/NAME
"""
import json
import os
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.environ["SOURCE_DIR"], "tests", "oracle"))
from run_model import model_source   # noqa: E402

TENON = os.environ["TENON"]
failed = []


def check(what, good, *said):
    if not good:
        failed.append(what)
        print(f"{what}:", *said)


def tenon(*arguments, expect=0, says=""):
    result = subprocess.run([TENON, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    check(" ".join(arguments)[-120:], result.returncode == expect and says in result.stdout + result.stderr,
          f"exit {result.returncode}, not {expect}, or it does not say {says!r}:", result.stdout[-1500:], result.stderr[-1500:])
    return result.stdout


def rows(text):
    return dict(re.findall(r"(?m)^  (--\S+) (\S+)", text))


def options(model, folder):
    """What is shown is what is done: a profile gives the bits of its list, and an option beside it counts first."""
    def logits(*more):
        out = os.path.join(folder, "out.npy")
        tenon("run", model, "--tokens", "5,6,7,8", "-n", "0", "--logits", out, *more)
        return open(out, "rb").read()

    for profile in "cloud", "edge":
        for target in "x86-64-v3", "x86-64-v4+bf16", "generic":
            check(f"{profile}: {target}", rows(tenon("compile", "--profile", profile, "--show", "--target", target)))
        shown = rows(tenon("run", "--profile", profile, "--show"))
        check(f"{profile} as its list", logits("--profile", profile) == logits(*[word for row in shown.items() for word in row]), shown)
    check("--kv counts before the profile", logits("--profile", "edge", "--kv", "f32") == logits("--quant", "w4a8", "--kv", "f32", "--prune", "10%"))
    check("--quant counts before the profile", logits("--quant=bf16", "--profile=edge") == logits("--quant", "bf16", "--kv", "int8", "--prune=10%"))
    check("steps change no bit", logits() == logits("--step-tokens", "3", "--step-sequences", "1") == logits("--step-tokens", "1000", "--step-sequences", "200"))
    check("cloud by target", (rows(tenon("compile", "--profile", "cloud", "--show", "--target", "x86-64-v3"))["--quant"],
                              rows(tenon("compile", "--profile", "cloud", "--show", "--target", "amx"))["--quant"]) == ("f16", "bf16"))
    tenon("run", model, "--profile", "egde", expect=2, says="did you mean edge?")
    tenon("run", model, "--show", expect=2, says="no --profile is given")
    tenon("compile", "--profile", "edge", "--show", "--kv", "f16", says="another was given")
    tenon("compile", model, "--profile", "edge", "--target", "nowhere", "-o", "x", expect=2, says="there is no target")


def accept(model, folder):
    text, cloud, edge = (os.path.join(folder, name) for name in ("text", "cloud", "edge"))
    open(text, "w").write("the quick brown fox jumps over the lazy dog, again and again. " * 6)
    tenon("compile", model, "-o", cloud, "--profile", "cloud")
    tenon("compile", model, "-o", edge, "--profile", "edge")

    def kl(*more):
        return json.loads(tenon("eval", *more, "--text", text, "--json"))

    pairs = [kl(edge, "--against", cloud), kl(model, "--profile", "edge", "--against-profile", "cloud"), kl(edge, "--against", model, "--against-profile", "cloud"),
             kl(model, "--profile", "edge", "--against", cloud)]
    figures = [(p["tokens"], p["kl"], p["top1"], p["perplexity"], p["base_perplexity"]) for p in pairs]
    check("programs score as models do", len(set(figures)) == 1 and figures[0][1] > 0, figures)
    drift = pairs[0]["kl"]
    near = ["eval", edge, "--against", cloud, "--text", text, "--accept"]
    tenon(*near, f"kl={drift * 1.01},top1=0,ppl=100", says="yes")
    tenon(*near, f"kl={drift * 0.99},top1=0", expect=1, says="NO, it drifted")
    verdict = json.loads(tenon(*near, f"ppl=100,kl={drift * 0.99}", "--json", expect=1))
    check("verdict", (verdict["accepted"], verdict["accept"]["kl"]["kept"], verdict["accept"]["ppl"]["kept"]) == (False, False, True), verdict)
    same = json.loads(tenon("eval", cloud, "--against", cloud, "--text", text, "--accept", "kl=0,klmax=0,top1=1,ppl=1", "--ctx", "24", "--json"))
    check("a program against itself", same["accepted"] and same["windows"] > 1, same)
    for words, message in (("kl", "is no bound"), ("kk=1", "did you mean kl?"), ("kl=x", "is not a number"), ("top1=2", "from 0 to 1"),
                           ("kl=1,kl=2", "given twice"), ("", "is no bound"), ("kl=1,", "is no bound")):
        tenon(*near, words, expect=2, says=message)
    tenon("eval", edge, "--text", text, "--accept", "kl=1", expect=2, says="no --against")
    tenon("eval", edge, "--text", text, "--quant", "w8a8", expect=2, says="is compiled already")
    tenon("eval", edge, "--against", cloud, "--against-quant", "w8a8", "--text", text, expect=2, says="is compiled already")
    tenon("eval", "/bin/true", "--text", text, expect=1, says="is it a program that tenon compiled?")


def latency(model, folder):
    """No time is asserted: every format is in time within a day, none within a nanosecond."""
    fast = os.path.join(folder, "fast")

    def say(*more, expect=0):
        result = subprocess.run([TENON, "compile", model, "-o", fast, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        check(" ".join(more), result.returncode == expect, result.stderr)
        return result.stderr

    said = say("--profile", "realtime", "--latency", "86400000")
    check("the best format is taken, and measured", re.search(r"(bf16|f16) +[\d.]+ MB a token: [\d.]+ ms, taken", said) and
          re.search("measured: a token takes .* ms: in time", said), said)
    said = say("--latency", "86400000", "--quant", "w4a8")
    check("the format that is given", "w4a8" in said and "w8a8" not in said, said)
    said = say("--profile", "realtime", "--latency", "0.000001", expect=3)
    check("all formats are tried", all(name in said for name in ("w8a8", "w6a8", "w5a8", "w4a8", "this machine cannot")), said)
    say("--latency", "soon", expect=2)
    tenon("bench", model, "--latency", "0.000001", "--sequences", "1", "--prefill", "8", "--quick", expect=3)
    tenon(*"targets --latency 1".split(), expect=2)
    result = subprocess.run([fast, "--bench", "--latency", "0.000999", "--quick"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    check("bounds have a least value", result.returncode == 2, result)
    check("a program misses its bound", subprocess.run([fast, "--bench", "--latency", "0.001", "--quick", "--sequences", "1"], stdout=subprocess.DEVNULL,
                                                       stderr=subprocess.DEVNULL).returncode == 3)


def strangers(model, other, folder):
    """Models that read a text as other tokens are not compared."""
    text, program = os.path.join(folder, "text"), os.path.join(folder, "other")
    tenon("compile", other, "-o", program)
    tenon("eval", model, "--against", program, "--text", text, expect=1, says="cannot be compared")
    tenon("eval", program, "--against", model, "--text", text, expect=1, says="cannot be compared")


def main():
    with tempfile.TemporaryDirectory() as folder:
        source = model_source(sys.argv[1].rstrip("/"), folder)
        model, other = os.path.join(folder, "model.yaml"), os.path.join(folder, "other.yaml")
        tenon("import", source, "-o", model)
        tokenizer = json.load(open(os.path.join(folder, "tokenizer.json")))
        merges = tokenizer["model"].get("merges")
        if merges:
            tokenizer["model"]["merges"] = merges[: len(merges) // 2]
        json.dump(tokenizer, open(os.path.join(folder, "other.json"), "w"))
        open(other, "w").write(open(model).read().replace("tokenizer: tokenizer.json", "tokenizer: other.json"))
        options(model, folder)
        accept(model, folder)
        latency(model, folder)
        if merges:
            strangers(model, other, folder)
    print(f"{len(failed)} failures" if failed else "ok")
    sys.exit(bool(failed))


main()
