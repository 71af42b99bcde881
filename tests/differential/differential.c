// Compiled code against the reference interpreter.
//
//   differential ops [SEEDS]             every op alone, over types and edge shapes
//   differential mutations [SEEDS]       every op broken on purpose in turn: each must be caught
//   differential graphs COUNT [FIRST]    random graphs: interpreter = after each pass = compiled
//   differential attention KV [SEEDS]    attention over contexts of more than a chunk, the cache in a format
//   differential int8 COUNT [FIRST]      the same graphs quantized to w8a8: near the interpreter, and the generic target's bits exactly
//                                        (QUANT=w4a8, GROUP=64, ACT_GROUP=32: with other formats)
//   differential products COUNT [FIRST]  int8 codes with weights of every integer type, in groups of many sizes: as int8, and in steps of 1 … 17, 33, 96
//                                        and 97 rows the same bits
//   differential sparse COUNT [FIRST]    pruned matrices, without their zeros and with them: the same bits (with BITS the generic target's, which compared both)
//   differential experts COUNT [FIRST]   mixtures, of few and many experts, uniform and skewed, in steps of as many rows as those (QUANT=…)
//   differential bf16 COUNT [FIRST]      quantized to bf16, in the target's own arithmetic
//
// Compiled programs run with guard bytes around all they write and NaN in all they have not written, with one thread and three, in a batch, alone, and
// token by token: all must give the same bits. With TARGET=name another target than this machine's best.
// A target with matrix tiles runs on a machine without them too, with tiles in plain C (tiles.h).
// With BITS=file the generic target writes there what it gives, and other targets are compared with that instead of compiling for it once more.
#include "cases.h"
#include "execute.h"
#include "codegen/codegen.h"
#include "ir/interp.h"
#include "passes/passes.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const Target *target, *generic, *tiles_on;   // tiles_on: what runs here, under tiles in C
static Coverage coverage;
static const char *quantize;                  // NULL: as stored
static bool own_bits;                         // the target's arithmetic is its own: the generic target gives other bits
static const char *bits;                      // NULL: the generic target's are computed anew
static const char *kv;                        // NULL: the cache is f32
static bool lengthy;                          // sequences longer than a chunk of attention
static float tolerance = 1e-4f;

typedef struct { float *rows; int count; } Rows;                // [count][width]
typedef struct { Jit *jit; const tn_program *program; Text weights; } Compiled;

// ---- the sequences ---------------------------------------------------------------------------------------------------------------------

static void make_script(Script *script, int *ids, uint64_t seed) {
    static const int lengths[][3] = {{5, 1, 3}, {4, 9, 2}, {66, 3, 1}, {2, 130, 7}, {1, 1, 1}};
    static const int longer[][3] = {{300, 5, 40}, {256, 1, 257}, {20, 400, 9}, {64, 255, 130}, {1, 512 - 1, 2}};
    const int *length = lengthy ? longer[seed % 5] : lengths[seed % 7 < 5 ? seed % 7 : 0];
    *script = (Script){.sequences = 3, .steps = 2};
    for (int q = 0, at = 0; q < 3; q++) {
        script->ids[q] = ids + at;
        script->length[q] = length[q] + 1;
        script->cut[q][1] = length[q];
        script->cut[q][2] = length[q] + 1;
        for (int i = 0; i <= length[q]; i++) ids[at++] = (int)(((seed * 31 + (uint64_t)(q * 17 + i) * 2654435761u) >> 7) % VOCABULARY);
    }
}

static int all_rows(const Script *script) {
    int n = 0;
    for (int q = 0; q < script->sequences; q++) n += script->length[q];
    return n;
}

static int row_of(const Script *script, int sequence, int position) {
    for (int q = 0; q < sequence; q++) position += script->length[q];
    return position;
}

// ---- the reference ------------------------------------------------------------------------------------------------------------------------

static bool reference(const Module *module, const Script *script, Arena *arena, float *out, int64_t width, Diags *diags) {
    InterpState *state = interp_state_new(MOST_SEQUENCES);
    bool ok = true;
    for (int s = 0; s < script->steps && ok; s++) {
        StepArrays a;
        script_step(script, s, &a);
        int32_t members[MOST_TOKENS];
        for (int t = 0; t < a.tokens; t++) members[t] = a.members[a.sequence[t]];
        Step step = {a.tokens, a.sequences, a.tokens, a.position, members, a.first, a.keep};
        Tensor input = {.type = module->main->inputs[0]->type, .dims = {a.tokens}, .data = a.ids}, result;
        ok = interp_run(module, state, &step, &input, &result, arena, diags);
        if (!ok) break;
        bool each = module->main->results[0]->type.dims[0] == DIM_S;
        for (int r = 0; r < (each ? a.sequences : a.tokens); r++) {
            int row = each ? s * MOST_SEQUENCES + a.members[r] : row_of(script, members[r], a.position[r]);
            memcpy(out + row * width, (float *)result.data + r * width, sizeof(float) * (size_t)width);
        }
    }
    interp_state_free(state);
    return ok;
}

// ---- compiled -----------------------------------------------------------------------------------------------------------------------------

static bool append(void *to, const void *bytes, size_t length) {
    text_add(to, bytes, length);
    return true;
}

static void add_file(const char *path, Text *to) {
    FILE *f = fopen(path, "r");
    char line[512];
    while (f && fgets(line, sizeof line, f)) text_puts(to, line);
    if (f) fclose(f);
    else fprintf(stderr, "cannot read %s\n", path), exit(1);
}

static bool compile(const Module *module, const Target *for_target, int optimization, Compiled *c, Diags *diags) {
    static const char *const names[] = {"tokens"};
    Plan *plan = plan_new(module, for_target, names, NULL, 1, diags);
    if (!plan) return false;
    Text source = {0}, object = {0};
    bool tiles = tiles_on && for_target->tile_i8;
    if (tiles) add_file(TILES, &source);
    plan_emit(plan, FLAVOUR_JIT, 1, &source);
    ClangOptions options;
    target_clang_options(tiles ? tiles_on : for_target, &options);
    options.optimization = optimization;
    bool ok = plan_pack(plan, append, &c->weights, NULL, NULL, diags) && clang_compile("case.c", source.data, source.length, &options, EMIT_OBJECT, &object, diags);
    if (getenv("KEEP")) {
        FILE *f = fopen(getenv("KEEP"), "w");
        fwrite(source.data, 1, source.length, f);
        fclose(f);
    }
    c->jit = ok ? jit_load(object.data, object.length, diags) : NULL;
    c->program = c->jit ? jit_symbol(c->jit, "tn_model") : NULL;
    text_free(&source);
    text_free(&object);
    plan_free(plan);
    return c->program != NULL;
}

static void compiled_free(Compiled *c) {
    jit_free(c->jit);
    text_free(&c->weights);
}

static bool execute(const Compiled *c, const Script *script, int threads, float *out) {
    int64_t width = c->program->out_width;
    unsigned char *weights = aligned_alloc(4096, c->weights.length + 4096);
    if (c->weights.length) memcpy(weights, c->weights.data, c->weights.length);
    Execution *e = execution_new(c->program, weights, threads);
    bool good = true;
    for (int s = 0; s < script->steps && good; s++) {
        StepArrays a;
        script_step(script, s, &a);
        float *rows = malloc(sizeof(float) * (size_t)(MOST_TOKENS * width));
        int count = execution_step(e, &a, rows);
        good = count >= 0;
        for (int r = 0; r < count; r++) {
            bool each = c->program->out_kind == TN_PER_SEQUENCE;
            int row = each ? s * MOST_SEQUENCES + a.members[r] : row_of(script, a.members[a.sequence[r]], a.position[r]);
            memcpy(out + row * width, rows + r * width, sizeof(float) * (size_t)width);
        }
        free(rows);
    }
    execution_free(e);
    free(weights);
    return good;
}

// Each sequence in steps of its own, its prompt token by token (the long ones in pieces).
static void cut_up(Script *script) {
    int steps = 0;
    Script alone = *script;
    memset(alone.cut, 0, sizeof alone.cut);
    for (int q = 0; q < script->sequences; q++) {
        int n = script->length[q], pieces = n < 4 ? n : 4;
        for (int p = 0; p < pieces; p++) {
            steps++;
            alone.cut[q][steps] = p == pieces - 1 ? n : p + 1;
            for (int other = 0; other < script->sequences; other++)
                if (other != q) alone.cut[other][steps] = alone.cut[other][steps - 1];
        }
    }
    alone.steps = steps;
    *script = alone;
}

// ---- comparison -----------------------------------------------------------------------------------------------------------------------------

static bool near(const float *got, const float *want, int64_t n, Text *why) {
    float scale = 1;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(want[i]) && fabsf(want[i]) > scale) scale = fabsf(want[i]);
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(got[i] - want[i]) <= tolerance * scale || got[i] == want[i] || (isnan(got[i]) && isnan(want[i])))) {
            text_printf(why, "element %lld is %.9g, not %.9g (largest %.3g)", (long long)i, (double)got[i], (double)want[i], (double)scale);
            return false;
        }
    return true;
}

static bool run_passes_each(Module *module, const Script *script, const float *want, int64_t n, int64_t width, bool look, Text *why, Diags *diags) {
    PassOptions options = {.target = target, .verify = true, .quantize = quantize, .kv = kv ? kv : "f32", .group = getenv("GROUP"), .activation_group = getenv("ACT_GROUP"),
                           .sparse = "always"};
    if (!look || kv) return run_passes(module, &options, diags);
    for (int p = 0; p < pass_count; p++) {
        options.only = passes[p].name;
        if (!run_passes(module, &options, diags)) return false;
        Arena *arena = arena_new();
        float *got = calloc((size_t)n, sizeof *got);
        bool ok = reference(module, script, arena, got, width, diags) && near(got, want, n, why);
        if (!ok) text_printf(why, ", interpreted after pass %s", passes[p].name);
        free(got);
        arena_free(arena);
        if (!ok) return false;
    }
    return true;
}

typedef enum { SAME, DIFFERENT, NO_CASE } Verdict;
typedef Module *(*Make)(Arena *arena, OpId op, uint64_t seed, bool broken, Coverage *coverage, Diags *diags);

static Module *make_graph(Arena *arena, OpId op, uint64_t seed, bool broken, Coverage *cover, Diags *diags) {
    (void)op, (void)broken;
    return graph_module(arena, seed, cover, diags);
}

static Module *make_products(Arena *arena, OpId op, uint64_t seed, bool broken, Coverage *cover, Diags *diags) {
    (void)op, (void)broken, (void)cover;
    return product_module(arena, seed, diags);
}

static Module *make_sparse(Arena *arena, OpId op, uint64_t seed, bool broken, Coverage *cover, Diags *diags) {
    (void)op, (void)broken, (void)cover;
    return sparse_module(arena, seed, diags);
}

static Module *make_mixture(Arena *arena, OpId op, uint64_t seed, bool broken, Coverage *cover, Diags *diags) {
    (void)op, (void)broken, (void)cover;
    return mixture_module(arena, seed, diags);
}

static Module *make_heads(Arena *arena, OpId op, uint64_t seed, bool broken, Coverage *cover, Diags *diags) {
    (void)op, (void)broken, (void)cover;
    return head_module(arena, seed, diags);
}

// One sequence in two steps, of which the first has each of these numbers of rows.
static bool rows_alike(const Compiled *c, const Script *script, const float *base, int64_t n, Text *why) {
    static const int firsts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 33, 96, 97};
    float *again = calloc((size_t)n, sizeof *again);
    bool good = true;
    for (size_t i = 0; i < COUNT_OF(firsts) && good; i++) {
        Script cut = *script;
        cut.cut[0][1] = firsts[i];
        memset(again, 0, sizeof(float) * (size_t)n);
        good = execute(c, &cut, i % 2 ? 2 : 5, again) && !memcmp(again, base, sizeof(float) * (size_t)n);
        if (!good) text_printf(why, "%d rows give other bits than %d", firsts[i], script->length[0] - 1);
    }
    free(again);
    return good;
}

static bool variations(const Compiled *c, const Script *script, const float *base, int64_t n, Text *why) {
    float *again = calloc((size_t)n, sizeof *again);
    bool good = execute(c, script, 3, again) && !memcmp(again, base, sizeof(float) * (size_t)n);
    if (!good) text_puts(why, "three threads give other bits than one, touch a guard or miss the largest of a block");
    if (good && c->program->out_kind != TN_PER_SEQUENCE) {
        Script alone = *script;
        cut_up(&alone);
        memset(again, 0, sizeof(float) * (size_t)n);
        good = execute(c, &alone, 1, again) && !memcmp(again, base, sizeof(float) * (size_t)n);
        if (!good) text_puts(why, "alone and token by token gives other bits than in a batch");
    }
    free(again);
    return good;
}

// In the file of bits, a line a case: its seed and the hash of its results.
static bool written_bits(uint64_t seed, uint64_t hash, Text *why) {
    FILE *f = fopen(bits, target == generic ? "a" : "r");
    char line[64], want[64];
    snprintf(want, sizeof want, "%llu %016llx\n", (unsigned long long)seed, (unsigned long long)hash);
    bool found = false;
    if (f && target == generic) found = fputs(want, f) >= 0;
    else
        while (f && !found && fgets(line, sizeof line, f)) found = !strcmp(line, want);
    if (!f || fclose(f) || !found) text_printf(why, "%s has other bits of the generic target than %s gives, or none", bits, target->name);
    return found;
}

// Every target sums floats in one order and int8 exactly, at any -O.
static bool generic_bits(const Module *module, const Script *script, const float *base, int64_t n, uint64_t seed, Text *why, Diags *diags) {
    if (bits) return written_bits(seed, hash_bytes(base, sizeof(float) * (size_t)n, 0), why);
    Compiled c = {0};
    float *again = calloc((size_t)n, sizeof *again);
    bool good = compile(module, generic, 0, &c, diags) && execute(&c, script, 1, again) && !memcmp(again, base, sizeof(float) * (size_t)n);
    if (!good) text_printf(why, "the generic target gives other bits than %s", target->name);
    compiled_free(&c);
    free(again);
    return good;
}

// The module with its pruned matrices as others lie.
static bool dense_bits(Make make, uint64_t seed, const Script *script, const float *base, int64_t n, Text *why, Diags *diags) {
    Arena *arena = arena_new();
    PassOptions options = {.target = target, .verify = true, .quantize = quantize, .kv = "f32", .sparse = "never"};
    Module *module = make(arena, OP_COUNT, seed, false, NULL, diags);
    Compiled c = {0};
    float *again = calloc((size_t)n, sizeof *again);
    bool good = module && run_passes(module, &options, diags) && compile(module, target, 1, &c, diags) && execute(&c, script, 1, again) &&
                !memcmp(again, base, sizeof(float) * (size_t)n);
    if (!good) text_puts(why, "with their zeros pruned matrices give other bits");
    compiled_free(&c);
    free(again);
    arena_free(arena);
    return good;
}

static Verdict differ(Make make, OpId op, uint64_t seed, bool broken, bool thorough, Text *why) {
    Arena *arena = arena_new(), *scratch = arena_new();
    Diags *diags = diags_new();
    Module *original = make(arena, op, seed, false, broken ? NULL : &coverage, diags), *module = original ? make(arena, op, seed, broken, NULL, diags) : NULL;
    Verdict verdict = original ? DIFFERENT : diags_errors(diags) ? DIFFERENT : NO_CASE;
    Script script;
    int ids[1200];
    make_script(&script, ids, seed);
    bool products = make == make_products || make == make_sparse || make == make_mixture;
    if (products) {   // one sequence: 130 rows, then one
        script.sequences = 1;
        script.length[0] = 131;
        script.cut[0][1] = 130, script.cut[0][2] = 131;
        for (int i = 0; i < 131; i++) ids[i] = (int)(((seed * 31 + (uint64_t)i * 2654435761u) >> 7) % VOCABULARY);
        script.ids[0] = ids;
    }
    if (module) {
        int64_t width = type_row_elements(&original->main->results[0]->type), rows = all_rows(&script) + 3 * MOST_SEQUENCES, n = rows * width;
        float *want = calloc((size_t)n, sizeof *want), *got = calloc((size_t)n, sizeof *got);
        Compiled c = {0};
        bool ok = reference(original, &script, scratch, want, width, diags);
        ok = ok && run_passes_each(module, &script, want, n, width, thorough && !broken && !quantize && !products, why, diags);
        if (ok && quantize) ok = reference(module, &script, scratch, want, width, diags);   // what the quantized graph should give
        ok = ok && compile(module, target, 1, &c, diags);
        if (ok && kv) ok = reference(module, &script, scratch, want, width, diags);
        if (ok && !execute(&c, &script, 1, got)) text_puts(why, "a guard byte changed, or what it says of a block is not its largest");
        else if (ok && make == make_heads && !c.program->out_blocks) text_puts(why, "a head that does not say the largest of each block");
        else if (ok && near(got, want, n, why) && (!thorough || variations(&c, &script, got, n, why)) &&
                 (!products || rows_alike(&c, &script, got, n, why)) &&
                 (make != make_sparse || (bits && target != generic) || dense_bits(make, seed, &script, got, n, why, diags)) &&
                 (!(quantize || products) || own_bits || generic_bits(module, &script, got, n, seed, why, diags)))
            verdict = SAME;
        compiled_free(&c);
        free(want);
        free(got);
    }
    if (diags_errors(diags)) diags_text(diags, why);
    diags_free(diags);
    arena_free(scratch);
    arena_free(arena);
    return verdict;
}

// ---- the three runs ------------------------------------------------------------------------------------------------------------------------

static int run_attention(int seeds) {
    int failed = 0, passed = 0;
    for (int s = 0; s < seeds; s++) {
        Text why = {0};
        Verdict v = differ(case_module, OP_ATTENTION, (uint64_t)s, false, true, &why);
        if (v == DIFFERENT) printf("FAILED attention, %s, seed %d: %s\n", kv, s, why.data ? why.data : "");
        failed += v == DIFFERENT;
        passed += v == SAME;
        text_free(&why);
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || !passed;
}

static int run_ops(int seeds) {
    int failed = 0, passed = 0;
    for (OpId op = 0; op < OP_COUNT; op++)
        for (int s = 0; s < seeds; s++) {
            Text why = {0};
            Verdict v = differ(case_module, op, (uint64_t)s, false, true, &why);
            if (v == DIFFERENT) {
                printf("FAILED %s, seed %d: %s\n", op_info(op)->name, s, why.data ? why.data : "");
                failed++;
            } else passed += v == SAME;
            text_free(&why);
        }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}

static int run_mutations(int seeds) {
    int failed = 0, caught = 0;
    for (OpId op = 0; op < OP_COUNT; op++)
        for (int s = 0; s < seeds; s++) {
            Text why = {0};
            Verdict right = differ(case_module, op, (uint64_t)s, false, false, &why);
            if (right == SAME && differ(case_module, op, (uint64_t)s, true, false, &why) != DIFFERENT) {
                printf("NOT CAUGHT: %s broken on purpose, seed %d\n", op_info(op)->name, s);
                failed++;
            } else caught += right == SAME;
            text_free(&why);
        }
    printf("%d passed, %d failed\n", caught, failed);
    return failed > 0 || caught == 0;
}

static int run_graphs(Make make, int count, uint64_t first) {
    int failed = 0, passed = 0;
    for (int i = 0; i < count; i++) {
        Text why = {0};
        Verdict v = differ(make, OP_COUNT, first + (uint64_t)i, false, true, &why);
        if (v == DIFFERENT) {
            printf("FAILED graph %llu: %s\n", (unsigned long long)first + (unsigned)i, why.data ? why.data : "");
            failed++;
        } else passed += v == SAME;
        text_free(&why);
        if (i % 500 == 499) {
            printf("%d graphs, %d failed\n", i + 1, failed);
            fflush(stdout);
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}

static int print_coverage(void) {
    int missing = 0;
    printf("\ncoverage: nodes of each op, of which by last size of the first operand, and by the stored type of its weights\n");
    for (OpId op = 0; op < OP_COUNT; op++) {
        const OpInfo *info = op_info(op);
        if (info->flags & INTERNAL && op != OP_CALL) continue;
        printf("%-12s %6d ", info->name, coverage.op[op]);
        for (int e = 0; e < EDGES; e++)
            if (coverage.edge[op][e]) printf(" %d:%d", edge_sizes[e], coverage.edge[op][e]);
        for (DType t = 0; t < DT_COUNT; t++)
            if (coverage.stored[op][t]) printf(" %s:%d", dtype_info[t].name, coverage.stored[op][t]);
        printf("\n");
        if (!coverage.op[op]) missing++;
    }
    if (missing) printf("FAILED: %d ops were never made\n", missing);
    return missing > 0;
}

int main(int argc, char **argv) {
    Diags *diags = diags_new();
    const char *name = getenv("TARGET");
    target = target_find(name ? name : "native", diags);
    generic = target_find("generic", diags);
    if (target && target->tile_i8 && !target_runs_here(target)) {
        tiles_on = target_find("native", diags);
        printf("%s does not run here: tiles in C on %s\n", target->name, tiles_on->name);
    }
    if (!target || (!tiles_on && !target_runs_here(target))) {
        diags_print(diags, stderr);
        printf("SKIPPED: target %s does not run here\n", name ? name : "native");
        return 77;
    }
    diags_free(diags);
    bits = getenv("BITS");
    if (bits && target == generic) remove(bits);
    const char *what = argc > 1 ? argv[1] : "";
    int count = argc > 2 ? atoi(argv[2]) : 6;
    if (!strcmp(what, "attention")) {
        kv = argc > 2 ? argv[2] : "f32";
        lengthy = true;
        bool dots = !strcmp(kv, "bf16") && (target->dot_bf16 || target->tile_bf16);   // queries and weights are rounded too
        tolerance = !strcmp(kv, "f32") ? 1e-4f : !strcmp(kv, "f16") ? 0.01f : dots ? 0.05f : 0.02f;   // an element that is rounded the other way
        return run_attention(argc > 3 ? atoi(argv[3]) : 20);
    }
    if (!strcmp(what, "ops")) return run_ops(count) | print_coverage();
    if (!strcmp(what, "mutations")) return run_mutations(count);
    if (!strcmp(what, "graphs")) return run_graphs(make_graph, count, argc > 3 ? strtoull(argv[3], NULL, 10) : 0) | print_coverage();
    if (!strcmp(what, "int8")) {
        quantize = getenv("QUANT") ? getenv("QUANT") : "w8a8";
        tolerance = 0.05f;   // a code of an activation that is rounded the other way
        return run_graphs(make_graph, count, argc > 3 ? strtoull(argv[3], NULL, 10) : 0);
    }
    if (!strcmp(what, "products")) return run_graphs(make_products, count, argc > 3 ? strtoull(argv[3], NULL, 10) : 0);
    if (!strcmp(what, "sparse")) return run_graphs(make_sparse, count, argc > 3 ? strtoull(argv[3], NULL, 10) : 0);
    if (!strcmp(what, "experts")) {
        quantize = getenv("QUANT");
        if (quantize) tolerance = 0.1f;   // a code that is rounded the other way
        own_bits = quantize && !strcmp(quantize, "bf16");
        return run_graphs(make_mixture, count, argc > 3 ? strtoull(argv[3], NULL, 10) : 0);
    }
    if (!strcmp(what, "heads")) {
        quantize = getenv("QUANT");
        own_bits = true;
        tolerance = 0.05f;
        return run_graphs(make_heads, count, argc > 3 ? strtoull(argv[3], NULL, 10) : 0);
    }
    if (!strcmp(what, "bf16")) {
        if (!target->dot_bf16 && !target->tile_bf16) {
            printf("SKIPPED: target %s does not multiply bf16\n", target->name);
            return 77;
        }
        quantize = "bf16";
        own_bits = true;
        tolerance = 0.05f;   // an x that is rounded the other way
        return run_graphs(make_graph, count, argc > 3 ? strtoull(argv[3], NULL, 10) : 0);
    }
    fprintf(stderr, "usage: differential ops [SEEDS] | mutations [SEEDS] | graphs COUNT [FIRST] | products COUNT [FIRST] | sparse COUNT [FIRST] | experts COUNT [FIRST] | heads COUNT [FIRST] | int8|bf16 COUNT [FIRST]\n");
    return 2;
}
