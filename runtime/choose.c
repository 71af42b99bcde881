// One program, several targets: which of its variants runs here. Asked by all that open a program, before any code of a model is called.
#include "runtime/cpu.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHOOSE_MISSING = 400, CHOOSE_SAID = 900 };

static const tn_program *choose_one(const tn_program *program, tn_failure *failure) {
    char missing[CHOOSE_MISSING];
    if (tn_cpu_has(program->needs, missing, sizeof missing))
        return program;
    tn_fail(failure, TN_BAD_MACHINE, "%s was compiled for %s, which this machine cannot run: it lacks %s", program->model, program->target, missing);
    return NULL;
}

static const tn_program *choose_named(const tn_program *program, const char *name, tn_failure *failure) {
    for (int i = 0; program->variants[i]; i++)
        if (!strcmp(program->variants[i]->target, name))
            return choose_one(program->variants[i], failure);
    tn_fail(failure, TN_BAD_USAGE, "TENON_TARGET is %s, but %s was compiled for %s", name, program->model, program->target);
    return NULL;
}

static const tn_program *choose_best(const tn_program *program, tn_failure *failure) {
    char missing[CHOOSE_MISSING], said[CHOOSE_SAID] = "";
    size_t used = 0;
    for (int i = 0; program->variants[i]; i++) {
        const tn_program *variant = program->variants[i];
        if (tn_cpu_has(variant->needs, missing, sizeof missing))
            return variant;
        int n = used < sizeof said ? snprintf(said + used, sizeof said - used, "%s %s lacks %s", i ? ";" : "", variant->target, missing) : 0;
        used += n > 0 ? (size_t)n : 0;
    }
    tn_fail(failure, TN_BAD_MACHINE, "%s was compiled for %s, and this machine can run none of them:%s", program->model, program->target, said);
    return NULL;
}

const tn_program *tn_choose(const tn_program *program, tn_failure *failure) {
    if (program->abi != TN_ABI) {
        tn_fail(failure, TN_BAD_INPUT, "%s was compiled for another run time (interface %u, this one has %d)", program->model, program->abi, TN_ABI);
        return NULL;
    }
    if (!program->variants)
        return choose_one(program, failure);
    const char *name = getenv("TENON_TARGET");
    return name && *name ? choose_named(program, name, failure) : choose_best(program, failure);
}
