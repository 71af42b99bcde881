// Every op of the interpreter against numpy: fixtures/ops.txt, written by make_fixtures.py. An op without a case fails.
#include "ir_test.h"

#include <math.h>

#include "ir/interp.h"

enum { MOST = 8, MOST_ROWS = 16 };

typedef struct {
    int32_t position[MOST_ROWS], sequence[MOST_ROWS], first[MOST_ROWS], keep[MOST_ROWS];
    Step step;
} Fixture;

typedef struct { int rank; int64_t dims[MAX_RANK]; int count; double *values; } Numbers;

// dims : values
static Numbers numbers_of(Arena *arena, char *at) {
    Numbers numbers = {0};
    int64_t count = 1;
    while (*at == ' ') at++;
    while (*at != ':') {
        count *= numbers.dims[numbers.rank++] = strtol(at, &at, 10);
        while (*at == ' ') at++;
    }
    at++;
    numbers.values = ARENA_ARRAY(arena, double, count);
    for (numbers.count = 0; numbers.count < count; numbers.count++) numbers.values[numbers.count] = strtod(at, &at);
    return numbers;
}

static int list_of(char *at, int32_t *to) {
    int count = 0;
    while (*at) {
        to[count++] = (int32_t)strtol(at, &at, 10);
        while (*at == ' ') at++;
    }
    return count;
}

static void read_step(Fixture *fixture, char *line) {
    if (strncmp(line, "position ", 9) == 0) fixture->step.tokens = list_of(line + 9, fixture->position);
    if (strncmp(line, "sequence ", 9) == 0) list_of(line + 9, fixture->sequence);
    if (strncmp(line, "first ", 6) == 0) fixture->step.sequences = list_of(line + 6, fixture->first) - 1;
    if (strncmp(line, "keep ", 5) == 0) fixture->step.rows = list_of(line + 5, fixture->keep);
    fixture->step.position = fixture->position;
    fixture->step.sequence = fixture->sequence;
    fixture->step.first = fixture->first;
    fixture->step.keep = fixture->keep;
}

static Tensor tensor_of(Arena *arena, const Type *type, const Numbers *numbers) {
    Tensor tensor = {.type = *type};
    memcpy(tensor.dims, numbers->dims, sizeof tensor.dims);
    int32_t *data = ARENA_ARRAY(arena, int32_t, numbers->count);
    for (int i = 0; i < numbers->count; i++)
        if (type->dtype == DT_F32) ((float *)data)[i] = (float)numbers->values[i];
        else if (type->dtype == DT_I32) data[i] = (int32_t)numbers->values[i];
        else ((uint8_t *)data)[i] = (uint8_t)numbers->values[i];
    tensor.data = data;
    return tensor;
}

static void assert_output(const char *name, const Tensor *tensor, const Numbers *expected) {
    double scale = 1e-30;
    for (int d = 0; d < tensor->type.rank; d++) assert_int_equal(tensor->dims[d], expected->dims[d]);
    for (int i = 0; i < expected->count; i++) scale = fmax(scale, fabs(expected->values[i]));
    for (int i = 0; i < expected->count; i++) {
        double got = tensor->type.dtype == DT_F32   ? ((float *)tensor->data)[i]
                     : tensor->type.dtype == DT_I32 ? ((int32_t *)tensor->data)[i]
                                                    : ((uint8_t *)tensor->data)[i];
        // Nearly the rounded value itself: one unit in the last place, or tiny beside the largest where sums cancel.
        double tolerance = fmax(fabs(expected->values[i]) * 1.3e-7, scale * 1e-9);
        if (!(fabs(got - expected->values[i]) <= tolerance))
            fail_msg("%s: element %d is %.9g, not %.9g", name, i, got, expected->values[i]);
    }
}

static void count_ops(const Module *module, int *seen) {
    for (int f = 0; f < module->func_count; f++)
        for (int n = 0; n < module->funcs[f]->node_count; n++) seen[module->funcs[f]->nodes[n]->op]++;
}

static void run_case(const char *name, const Fixture *fixture, const Text *ir, const Numbers *inputs, const Numbers *outputs, int *seen) {
    Arena *arena = arena_new();
    Diags *diags = diags_new();
    Module *module = module_parse(arena, name, ir->data, ir->length, diags);
    no_errors(diags);
    count_ops(module, seen);
    Tensor in[MOST], out[MOST];
    for (int i = 0; i < module->main->input_count; i++) in[i] = tensor_of(arena, &module->main->inputs[i]->type, &inputs[i]);
    InterpState *state = interp_state_new(fixture->step.sequences);
    bool ok = interp_run(module, state, &fixture->step, in, out, arena, diags);
    no_errors(diags);
    assert_true(ok);
    for (int i = 0; i < module->main->result_count; i++) assert_output(name, &out[i], &outputs[i]);
    interp_state_free(state);
    diags_free(diags);
    arena_free(arena);
}

static void every_op(void **state) {
    (void)state;
    size_t length;
    char *file = read_whole(TEST_DIR "/fixtures/ops.txt", &length), *save = NULL, name[64] = "";
    Fixture fixture = {0};
    Numbers inputs[MOST], outputs[MOST];
    Text ir = {0};
    Arena *arena = arena_new();
    int seen[OP_COUNT] = {0}, in = 0, out = 0, cases = 0;
    bool reading = false;
    for (char *line = strtok_r(file, "\n", &save); line || *name; line = line ? strtok_r(NULL, "\n", &save) : NULL) {
        if (!line || strncmp(line, "case ", 5) == 0) {
            if (*name) run_case(name, &fixture, &ir, inputs, outputs, seen), cases++;
            snprintf(name, sizeof name, "%s", line ? line + 5 : "");
            in = out = 0;
            text_free(&ir);
            if (!line) break;
        } else if (strcmp(line, "ir") == 0 || strcmp(line, "end") == 0) {
            reading = *line == 'i';
        } else if (reading) {
            text_printf(&ir, "%s\n", line);
        } else if (strncmp(line, "input ", 6) == 0) {
            inputs[in++] = numbers_of(arena, line + 6);
        } else if (strncmp(line, "output ", 7) == 0) {
            outputs[out++] = numbers_of(arena, line + 7);
        } else {
            read_step(&fixture, line + 5);
        }
    }
    for (int i = 0; i < OP_COUNT; i++)
        if (!seen[i]) fail_msg("%s has no case in fixtures/ops.txt", op_info((OpId)i)->name);
    print_message("%d cases of %d ops\n", cases, OP_COUNT);
    text_free(&ir);
    arena_free(arena);
    free(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_op)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
