"""The peers of bench/compare, each measured in a process of its own by the protocol of runtime/bench.c; prints one JSON object.

    peers.py llama|openvino speed MODEL.gguf '{"threads": 2, "prefill": 512, …}'     tokens a second, by the names that bench/compare uses
    peers.py llama|openvino logits MODEL.gguf '{"threads": 2, "ids": FILE, "out": FILE.npy}'

Prompts are fixed tokens, by the same rule for all sides. A prompt's last token alone has its logits computed. The time of a start begins with the
library's own work: what Python and the loading of shared libraries cost is not held against a peer.
"""
import ctypes
import json
import os
import re
import statistics
import sys
import tempfile
import time

FIRST = 16   # tokens of the prompt by which a start is timed


def fixed(count, vocab, seed=0):
    return [((i + seed * 31) * 7919 + 13) % vocab for i in range(count)]


def peak_bytes():
    return 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))


class Llama:
    """llama.cpp through the low-level bindings of llama-cpp-python, with its own defaults but for sizes and threads."""

    def __init__(self, path, options):
        import llama_cpp
        self.lc, self.options = llama_cpp, options
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)   # kept alive: the library holds only its address
        llama_cpp.llama_log_set(self.quiet, ctypes.c_void_p(0))
        self.began = time.perf_counter()
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp does not read {path}")
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.context = None

    def version(self):
        return f"llama-cpp-python {self.lc.__version__}"

    def setting(self):
        return " ".join(re.findall(r"(\w+) = 1", self.lc.llama_print_system_info().decode()))

    def open(self, tokens, sequences=1, rows=False):
        """An empty context of `tokens` positions for each sequence."""
        if self.context:
            self.lc.llama_free(self.context)
        params = self.lc.llama_context_default_params()
        params.n_ctx = (tokens + 255) // 256 * 256 * sequences
        params.n_seq_max = sequences
        params.n_batch, params.n_ubatch = max(512, tokens if rows else 0), 512
        params.n_threads = params.n_threads_batch = self.options["threads"]
        self.context = self.lc.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit("llama.cpp has no memory for a context")

    def clear(self):
        self.lc.llama_memory_clear(self.lc.llama_get_memory(self.context), True)

    def batch(self, ids, positions, sequences, want):
        lc = self.lc
        batch = lc.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, positions[i], 1, want[i]
            batch.seq_id[i][0] = sequences[i]
        failed = lc.llama_decode(self.context, batch)
        lc.llama_batch_free(batch)
        if failed:
            sys.exit("llama_decode failed")

    def draw(self, row):
        import numpy as np
        return int(np.argmax(np.ctypeslib.as_array(self.lc.llama_get_logits_ith(self.context, row), (self.vocab,))))

    def prompt(self, ids, sequence=0):
        """In pieces of at most 512; the last token alone gives logits."""
        for at in range(0, len(ids), 512):
            part = ids[at:at + 512]
            last = at + len(part) == len(ids)
            self.batch(part, list(range(at, at + len(part))), [sequence] * len(part), [0] * (len(part) - 1) + [int(last)])
        return self.draw(-1)

    def first(self):
        self.open(512)
        self.prompt(fixed(FIRST, self.vocab))
        return time.perf_counter() - self.began

    def prefill(self, tokens, rounds):
        self.open(tokens)
        times = []
        for _ in range(rounds):
            self.clear()
            began = time.perf_counter()
            self.prompt(fixed(tokens, self.vocab))
            times.append(time.perf_counter() - began)
        return tokens / statistics.median(times)

    def decode(self, sequences, context, steps):
        before = context - steps // 2
        self.open(before + steps, sequences)
        next_ids = [self.prompt(fixed(before, self.vocab, s), s) for s in range(sequences)]
        times = []
        for step in range(steps):
            began = time.perf_counter()
            self.batch(next_ids, [before + step] * sequences, list(range(sequences)), [1] * sequences)
            next_ids = [self.draw(s) for s in range(sequences)]
            times.append(time.perf_counter() - began)
        return sequences / statistics.median(times)

    def logits(self, ids):
        import numpy as np
        self.open(len(ids), rows=True)
        out = np.empty((len(ids), self.vocab), np.float32)
        for at in range(0, len(ids), 512):
            part = ids[at:at + 512]
            self.batch(part, list(range(at, at + len(part))), [0] * len(part), [1] * len(part))
            for i in range(len(part)):
                out[at + i] = np.ctypeslib.as_array(self.lc.llama_get_logits_ith(self.context, i), (self.vocab,))
        return out


class OpenVino:
    """OpenVINO GenAI on a GGUF file, with its own defaults for this machine (precision of arithmetic, KV cache, groups of dynamic quantization)."""

    def __init__(self, path, options):
        import openvino
        import openvino_genai
        self.ov, self.genai, self.options, self.path = openvino, openvino_genai, options, path
        self.began = time.perf_counter()
        self.settings = {"INFERENCE_NUM_THREADS": options["threads"], **options.get("openvino", {})}
        self.pipe, self.seed = None, 0

    def fresh(self, count):
        """A prompt unlike all before: the pipeline keeps the cache of prompts that it has seen, and would read the same one in no time."""
        self.seed += 1
        return fixed(count, self.vocab, self.seed)

    def pipeline(self):
        """Reading the GGUF and compiling the graph is part of the start: that is what a user waits for."""
        if not self.pipe:
            self.pipe = self.genai.LLMPipeline(self.path, "CPU", **self.settings)
            self.vocab = len(self.pipe.get_tokenizer().get_vocab())
        return self.pipe

    def version(self):
        return f"openvino-genai {self.genai.__version__.split('-')[0]}"

    def setting(self):
        core, keys = self.ov.Core(), ("INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION", "DYNAMIC_QUANTIZATION_GROUP_SIZE")
        values = {key: core.get_property("CPU", key) for key in keys} | self.options.get("openvino", {})
        return ", ".join(f"{key} {getattr(value, 'to_string', lambda: value)()}" for key, value in values.items())

    def generate(self, rows, tokens):
        """Seconds of each step, the prompt's first; of all rows together."""
        import numpy as np
        ids = np.array(rows, dtype=np.int64)
        config = self.genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = tokens, True, False
        inputs = self.genai.TokenizedInputs(self.ov.Tensor(ids), self.ov.Tensor(np.ones_like(ids)))
        result = self.pipeline().generate(inputs, config)
        if any(len(row) != tokens for row in result.tokens):
            sys.exit("openvino-genai ended early")
        return [us * 1e-6 for us in result.perf_metrics.raw_metrics.token_infer_durations]

    def first(self):
        self.pipeline()
        self.generate([self.fresh(FIRST)], 1)
        return time.perf_counter() - self.began

    def prefill(self, tokens, rounds):
        return tokens / statistics.median(self.generate([self.fresh(tokens)], 1)[0] for _ in range(rounds))

    def decode(self, sequences, context, steps):
        before = context - steps // 2
        times = self.generate([self.fresh(before) for _ in range(sequences)], steps + 1)[1:]
        return sequences / statistics.median(times)

    def logits(self, ids):
        """The pipeline gives no logits: the graph that it makes of the file is saved, and run alone with the same settings."""
        import numpy as np
        with tempfile.TemporaryDirectory(dir=self.options.get("folder")) as folder:
            link = os.path.join(folder, "model.gguf")
            os.symlink(os.path.abspath(self.path), link)
            self.genai.LLMPipeline(link, "CPU", enable_save_ov_model=True, **self.settings)
            compiled = self.ov.Core().compile_model(os.path.join(folder, "openvino_model.xml"), "CPU", self.settings)
            request, count = compiled.create_infer_request(), len(ids)
            inputs = {"input_ids": np.array([ids], np.int64), "attention_mask": np.ones((1, count), np.int64),
                      "position_ids": np.arange(count, dtype=np.int64)[None], "beam_idx": np.zeros(1, np.int32)}
            names = {name for port in compiled.inputs for name in port.names}
            return np.array(request.infer({k: v for k, v in inputs.items() if k in names})["logits"][0], np.float32)


PEERS = {"llama": Llama, "openvino": OpenVino}


def speed(peer, options):
    out = {"first": peer.first(), "prefill": peer.prefill(options["prefill"], options["prompts"] + 1)}
    for sequences, context in options["decode"]:
        out[f"decode {sequences} at {context}"] = peer.decode(sequences, context, options["steps"])
    return {**out, "peak": peak_bytes() / 2**20, "version": peer.version(), "setting": peer.setting()}


def main():
    name, what, path, options = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
    peer = PEERS[name](path, options)
    if what == "speed":
        print(json.dumps(speed(peer, options)))
    else:
        import numpy as np
        np.save(options["out"], peer.logits([int(i) for i in open(options["ids"]).read().split(",")]))


if __name__ == "__main__":
    main()
