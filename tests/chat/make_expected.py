#!/usr/bin/env python3
"""Makes tests/chat/expected.json: what jinja2, set up as chat templates are rendered everywhere, writes for each of templates/*.jinja.

    make_expected.py      (needs the PyPI package jinja2)
"""
import glob, json, os
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))
BOS, EOS = "<s>", "</s>"


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(["name:endgeneration"], drop_needle=True)).set_lineno(line)


def raise_exception(message):
    raise ValueError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


S, U, A, V, B, W = (["system", "Be  kind.\nÄnd short."], ["user", "Why is the sky blue?\n\n- physics?"], ["assistant", "Because of <b>Rayleigh</b> scattering"],
                    ["user", "Say \"it\" 'again'"], ["assistant", "No. 你好 😀"], ["user", "x"])
CONVERSATIONS = [[U], [S, U], [U, A, V], [S, U, A, V], [U, A, V, B, W], [S, U, A, V, B, W], [U, A], [U, V]]


def main():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    cases = []
    for path in sorted(glob.glob(HERE + "/templates/*.jinja")):
        template = env.from_string(open(path, encoding="utf-8").read())
        for messages in CONVERSATIONS:
            for generation in (True, False):
                try:
                    text = template.render(messages=[dict(role=r, content=c) for r, c in messages], add_generation_prompt=generation, tools=None,
                                           documents=None, bos_token=BOS, eos_token=EOS)
                except Exception as error:
                    text = None
                cases.append(dict(template=os.path.basename(path)[:-6], messages=messages, generation=generation, bos=BOS, eos=EOS, text=text))
    json.dump(cases, open(HERE + "/expected.json", "w", encoding="utf-8"), ensure_ascii=False, indent=0)
    print(len(cases), "cases,", sum(c["text"] is None for c in cases), "of them errors")


main()
