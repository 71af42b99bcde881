// --reference: a model as a program like any other, whose step is the reference interpreter. So prompts, batches, logits, sampling and
// evaluation go the same way as for compiled code, and only the arithmetic is another.
//
// A step knows its model by the blob's weight section, which holds the address of the Reference in this process, and a sequence by its only
// KV page, which the run time hands out zeroed: the page's first word is then the number of the sequence's state.
#include "driver/build.h"
#include "driver/calibrate.h"
#include "driver/choose.h"
#include "ir/interp.h"
#include "runtime/format.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE_BYTES = 64, MAX_STATES = 4096 };

typedef struct {
    const unsigned char *page;
    InterpState *state;
} Slot;

typedef struct Reference {
    Build build;
    const Model *model;
    bool keeps; // the model gives a row a token and generates: only the rows asked for go out
    tn_program program;
    int *limits, *defaults;
    Slot slots[MAX_STATES];
    int slot_count;
} Reference;

// ---- a step -----------------------------------------------------------------------------------------------------------

// The page's word is 0 for a new sequence: it takes over the state of whoever had this page before.
static InterpState *state_of(Reference *reference, unsigned char *page) {
    uint32_t number;
    memcpy(&number, page, sizeof number);
    if (number) return reference->slots[number - 1].state;
    int at = 0;
    while (at < reference->slot_count && reference->slots[at].page != page) at++;
    if (at == MAX_STATES) return NULL;
    interp_state_free(reference->slots[at].state);
    reference->slots[at] = (Slot){page, interp_state_new(1)};
    reference->slot_count += at == reference->slot_count;
    number = (uint32_t)at + 1;
    memcpy(page, &number, sizeof number);
    return reference->slots[at].state;
}

// The step's interface has no errors: the interpreter's are reported here, and end the program.
static void give_up(Diags *diags) {
    fflush(stdout);
    diags_print(diags, stderr);
    exit(EXIT_INPUT);
}

static int count_kept(const tn_step *step, int from, int to, int *kept) {
    int count = 0;
    for (int i = 0; i < step->rows; i++)
        if (step->keep[i] >= from && step->keep[i] < to) kept[count++] = step->keep[i] - from;
    return count;
}

// One sequence's part of a step: returns how many output rows it made.
static int run_sequence(Reference *reference, const tn_step *step, int s, float *out) {
    Arena *arena = arena_new();
    Diags *diags = diags_new();
    const Module *module = reference->model->module;
    int from = step->first[s], count = step->first[s + 1] - from, width = reference->program.out_width;
    int32_t *sequence = ARENA_ARRAY(arena, int32_t, count), first[2] = {0, count};
    int *kept = ARENA_ARRAY(arena, int, step->rows);
    int rows = count_kept(step, from, from + count, kept);
    Step part = {count, 1, rows, step->position + from, sequence, first, kept};
    Tensor *inputs = ARENA_ARRAY(arena, Tensor, module->main->input_count), result = {0};
    for (int i = 0; i < module->main->input_count; i++)
        inputs[i] = (Tensor){module->main->inputs[i]->type, {count}, (void *)(step->inputs[i] + from)};
    InterpState *state = state_of(reference, step->pages[(size_t)s * (size_t)step->pages_per_sequence]);
    if (!state) diag_error(diags, NOWHERE, "the reference interpreter runs at most %d sequences", MAX_STATES);
    if (!state || !interp_run(module, state, &part, inputs, &result, arena, diags)) give_up(diags);
    const float *values = result.data;
    int made = (int)result.dims[0];
    if (reference->keeps) {
        for (int i = 0; i < rows; i++)
            memcpy(out + (size_t)i * (size_t)width, values + (size_t)kept[i] * (size_t)width, (size_t)width * sizeof *out);
        made = rows;
    } else
        memcpy(out, values, (size_t)made * (size_t)width * sizeof *out);
    diags_free(diags);
    arena_free(arena);
    return made;
}

static void run(const tn_step *step, tn_worker *worker) {
    if (worker->index != 0) return;
    Reference *reference;
    memcpy(&reference, step->weights, sizeof reference);
    float *out = step->out;
    for (int s = 0; s < step->sequences; s++)
        if (step->first[s + 1] > step->first[s])
            out += (size_t)run_sequence(reference, step, s, out) * (size_t)reference->program.out_width;
}

// ---- the program ------------------------------------------------------------------------------------------------------

// The fewest rows of a table that this value indexes, also inside what it is passed to.
static int64_t table_rows(const Func *func, const Value *value) {
    int64_t least = INT32_MAX;
    for (int n = 0; n < func->node_count; n++) {
        const Node *node = func->nodes[n];
        for (int k = 0; k < node->operand_count; k++) {
            if (node->operands[k] != value) continue;
            int64_t rows = INT32_MAX;
            if (node->op == OP_EMBEDDING && k == 0)
                rows = node->operands[1]->type.dims[0];
            else if (node->op == OP_CALL) {
                const Func *block = node_attr(node, "block")->func;
                if (k < block->input_count) rows = table_rows(block, block->inputs[k]);
            }
            least = rows < least ? rows : least;
        }
    }
    return least;
}

static bool describe(Reference *reference, Diags *diags) {
    const Module *module = reference->model->module;
    const Func *main = module->main;
    const Type *result = &main->results[0]->type;
    if (main->result_count != 1 || result->dtype != DT_F32 || result->rank < 1 || result->dims[0] >= 0) {
        diag_error(diags, NOWHERE, "a model that runs returns one f32 value with a row a token or a sequence");
        return false;
    }
    bool causal = module_causal(module);
    reference->keeps = causal && result->dims[0] == DIM_T;
    reference->limits = ARENA_ARRAY(reference->build.arena, int, main->input_count);
    reference->defaults = ARENA_ARRAY(reference->build.arena, int, main->input_count);
    for (int i = 0; i < main->input_count; i++) {
        reference->limits[i] = (int)table_rows(main, main->inputs[i]);
        if (i < reference->model->input_count) reference->defaults[i] = (int)reference->model->input_defaults[i];
    }
    int most = (int)(module->context < 4096 || !causal ? module->context : 4096);
    reference->program = (tn_program){.abi = TN_ABI,
                                      .model = reference->model->name ? reference->model->name : "model",
                                      .target = "reference",
                                      .compiler = "tenon " TENON_VERSION,
                                      .weights_bytes = sizeof reference,
                                      .arena_bytes = 64,
                                      .page_bytes = PAGE_BYTES,
                                      .page_tokens = (int)reference->model->context,
                                      .context = (int)reference->model->context,
                                      .max_tokens = most,
                                      .max_rows = most,
                                      .max_sequences = 64,
                                      .input_count = main->input_count,
                                      .input_names = (const char *const *)reference->model->input_names,
                                      .input_limits = reference->limits,
                                      .input_defaults = reference->defaults,
                                      .out_kind = result->dims[0] == DIM_S                       ? TN_PER_SEQUENCE
                                                  : reference->keeps || result->dims[0] == DIM_R ? TN_PER_ROW
                                                                                                 : TN_PER_TOKEN,
                                      .out_width = (int)type_row_elements(result),
                                      .causal = causal,
                                      .run = run};
    return true;
}

static bool pack_address(const void *from, bool (*write)(void *, const void *, size_t), void *to, Diags *diags) {
    (void)diags;
    return write(to, &from, sizeof from);
}

bool reference_open(Program *program, const char *path, const BuildOptions *options, Diags *diags) {
    Reference *reference = calloc(1, sizeof *reference);
    if (!reference || !build_load(&reference->build, path, options, diags)) {
        free(reference);
        return false;
    }
    reference->model = reference->build.model;
    program->reference = reference;
    bool narrow = options->kv && strcmp(options->kv, "f32") != 0;
    bool passes = options->passes || options->skip || options->quantize || options->prune || narrow; // asked for: the model as they leave it, else as it is written
    bool done = (!passes || build_numerics(&reference->build, path, diags)) && describe(reference, diags);
    if (done) {
        Build *build = &reference->build;
        build->parts[build->part_count++] = (BlobPart){SECTION_WEIGHTS, pack_address, reference};
        program->program = reference->program;
        done = program_blob_unnamed(program, build->parts, build->part_count, diags);
    }
    if (!done) program_close(program);
    return done;
}

void reference_close(struct Reference *reference) {
    if (!reference) return;
    for (int i = 0; i < reference->slot_count; i++) interp_state_free(reference->slots[i].state);
    build_close(&reference->build);
    free(reference);
}
