// Sensitivity: a matrix alone is rounded to a coarse format, the model reads a few tokens, and the KL divergence of its output from what it said
// before tells what that costs. One program serves all measurements: 16-bit floats, float32 arithmetic, and weights in memory that can be written;
// a rounded matrix is turned back (Hadamard transforms are their own inverse) and packed where the matrix lies. The cost at other formats follows
// from the squared error at the matrix's output, which rounding gives for nothing: small divergences are quadratic.
#include "driver/sensitivity.h"
#include "codegen/plan.h"
#include "runtime/engine.h"
#include "runtime/team.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

const char *const format_names[FORMATS] = {"4g128", "4g64", "5", "6", "8", "16"};
enum { WORST_COST = 1000000 };   // of a matrix whose rounding makes the output no number
static const DType format_types[FORMATS] = {DT_W4MG128, DT_W4MG64, DT_W5, DT_W6, DT_W8, DT_BF16};
static const DType symmetric_types[FORMATS] = {DT_W4G128, DT_W4G64, DT_W5, DT_W6, DT_W8, DT_BF16};

static DType type_at(const Sensitivity *s, int format) { return (s->options->symmetric ? symmetric_types : format_types)[format]; }

double unit_cost(const Unit *unit, int format) {
    if (format == FORMATS - 1 || !(unit->error[unit->probe] > 0)) return 0;
    return unit->cost * unit->error[format] / unit->error[unit->probe];
}

// ---- the matrices --------------------------------------------------------------------------------------------------------------------------

static int64_t columns_of(const Weight *w) { return w->type.dims[w->type.rank - 1]; }

static double bytes_as(DType type, const Type *w) {
    const DTypeInfo *info = &dtype_info[type];
    double elements = (double)type_row_elements(w);
    return info->block ? elements / info->block * info->bytes : elements * row_code_bits(type) / 8 + 4 * elements / (double)w->dims[w->rank - 1];
}

static void add_member(Sensitivity *s, Unit *unit, const Weight *w) {
    int *grown = ARENA_ARRAY(s->arena, int, unit->count + 1);
    if (unit->count) memcpy(grown, unit->weights, sizeof *grown * (size_t)unit->count);
    unit->weights = grown;
    unit->weights[unit->count++] = w->id;
    unit->elements += (double)type_row_elements(&w->type);
    unit->probe = unit->chosen = -1;
    for (int f = 0; f < FORMATS; f++) {
        DType type = type_at(s, f);
        int multiple = dtype_info[type].block ? dtype_info[type].block : type == DT_W8 ? 1 : 32;
        bool fits = columns_of(w) % multiple == 0;
        unit->bytes[f] = fits && unit->bytes[f] >= 0 ? unit->bytes[f] + bytes_as(type, &w->type) : -1;
        if (unit->bytes[f] >= 0 && (unit->probe < 0 || f == 1)) unit->probe = f;   // groups of 64 where there are any
        if (unit->bytes[f] >= 0 && unit->chosen < 0) unit->chosen = f;
    }
}

// Experts of one array have one format: the array's first weight, by id.
static int *find_arrays(const Sensitivity *s) {
    const Module *module = s->build.model->module;
    int *leader = ARENA_ARRAY(s->arena, int, module->weight_count + 1);
    for (int w = 0; w < module->weight_count; w++) leader[w] = w;
    for (int i = 0; i < module->main->node_count; i++)
        for (int k = 0; k < module->main->nodes[i]->operand_count; k++) {
            const Value *v = module->main->nodes[i]->operands[k];
            for (int e = 1; v && v->kind == VALUE_WEIGHT && e < v->count; e++) leader[v->weights[e]->id] = v->weights[0]->id;
        }
    return leader;
}

static void find_kept(Sensitivity *s) {
    const Module *module = s->build.model->module;
    for (int w = 0; w < module->weight_count; w++) {
        const Weight *weight = module->weights[w];
        if (weight->type.rank < 2 || calibrated(weight)) continue;
        s->kept_elements += (double)type_row_elements(&weight->type);
        s->kept_bytes += bytes_as(weight->quantize_to == DT_COUNT ? weight->type.dtype : weight->quantize_to, &weight->type);
    }
}

static void find_units(Sensitivity *s) {
    const Module *module = s->build.model->module;
    const int *leader = find_arrays(s), *of = s->calibration.of;
    int *unit = ARENA_ARRAY(s->arena, int, module->weight_count + 1);
    s->units = ARENA_ARRAY(s->arena, Unit, module->weight_count + 1);
    for (int w = 0; w < module->weight_count; w++) {
        const Weight *weight = module->weights[w];
        unit[w] = -1;
        if (!calibrated(weight)) continue;
        for (int v = 0; v < w && unit[w] < 0; v++) {
            bool together = of[v] >= 0 && of[v] == of[w] && type_row_elements(&module->weights[v]->type) == type_row_elements(&weight->type);
            if (unit[v] >= 0 && (leader[v] == leader[w] || together)) unit[w] = unit[v];
        }
        if (unit[w] < 0) unit[w] = s->unit_count++;
        add_member(s, &s->units[unit[w]], weight);
    }
}

// ---- the probe -----------------------------------------------------------------------------------------------------------------------------

// The weights' pages become the process's own, to be written.
static bool own_weights(Probe *p, Diags *diags) {
    size_t length, page = (size_t)sysconf(_SC_PAGESIZE);
    const unsigned char *at = tn_blob_section(p->program.blob, SECTION_WEIGHTS, &length);
    unsigned char *first = (unsigned char *)((uintptr_t)at / page * page), *end = (unsigned char *)(((uintptr_t)at + length + page - 1) / page * page);
    void *copy = mmap(NULL, (size_t)(end - first), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy != MAP_FAILED) memcpy(copy, first, (size_t)(end - first));   // neighbours in the first and the last page, too
    if (copy == MAP_FAILED || mremap(copy, (size_t)(end - first), (size_t)(end - first), MREMAP_MAYMOVE | MREMAP_FIXED, first) == MAP_FAILED)
        return diag_error(diags, NOWHERE, "no room for %zu bytes of weights", length), false;
    p->weights = (unsigned char *)at;
    return true;
}

// Windows from places spread over the text, each behind the prefix (a begin token, say).
static bool probe_ids(Sensitivity *s, Probe *p, Diags *diags) {
    const Text *text = &s->calibration.text;
    tn_failure failure = {0};
    int window = tn_context(p->engine) < PROBE_WINDOW ? tn_context(p->engine) : PROBE_WINDOW, most = p->program.program.max_tokens;
    if (!p->causal && most < window) window = most;
    int prefix = tn_encode(p->engine, "", 0, 1, p->ids[0], window, &failure);
    if (prefix < 0 || prefix > window / 2) prefix = 0;
    int count = tn_encode(p->engine, text->data ? text->data : "", text->length, 0, NULL, 0, &failure);
    int *all = malloc(((size_t)(count > 0 ? count : 0) + 1) * sizeof *all);
    if (!all) abort();
    if (count > 0) tn_encode(p->engine, text->data, text->length, 0, all, count, &failure);
    for (int i = 0; i < PROBE_WINDOWS && count > 0; i++) {
        int from = (int)((int64_t)count * i / PROBE_WINDOWS), n = count - from < window - prefix ? count - from : window - prefix;
        if (i) memcpy(p->ids[i], p->ids[0], sizeof(int) * (size_t)prefix);
        memcpy(p->ids[i] + prefix, all + from, sizeof(int) * (size_t)n);
        p->counts[i] = prefix + n;
    }
    free(all);
    if (count < 0) {
        diag_error(diags, FILE_LOC(s->path), "%s", failure.text);
        return diag(diags, DIAG_HINT, NOWHERE, "--bits chooses without measuring"), false;
    }
    if (count < 2) return diag_error(diags, NOWHERE, "the calibration text is too short to measure on"), false;
    return true;
}

// Calls `take` with every row of output, numbered.
static bool probe_run(const Sensitivity *s, tn_engine *engine, double (*take)(Probe *p, int row, const float *values), double *sum, Diags *diags) {
    Probe *p = s->probe;
    tn_failure failure = {0};
    bool done = true;
    int seen = 0;
    for (int i = 0; i < PROBE_WINDOWS && done; i++) {
        if (!p->counts[i]) continue;
        int sequence = tn_sequence_new(engine, &failure);
        done = sequence >= 0 && tn_add(engine, sequence, p->ids[i], p->counts[i], TN_WANT_ALL, &failure) == 0;
        while (done && tn_pending(engine) > 0) {
            int rows = tn_run(engine, &failure);
            done = rows >= 0;
            for (int r = 0; r < rows && seen < PROBE_WINDOWS * PROBE_WINDOW; r++) *sum += take(p, seen++, tn_rows(engine)[r].values);
        }
        if (sequence >= 0) tn_sequence_free(engine, sequence);
    }
    p->rows = seen;
    if (!done) diag_error(diags, FILE_LOC(s->path), "%s", failure.text);
    return done;
}

static double log_sum(const float *values, int n) {
    float most = values[0];
    double sum = 0;
    for (int i = 1; i < n; i++) most = values[i] > most ? values[i] : most;
    for (int i = 0; i < n; i++) sum += (double)expf(values[i] - most);
    return most + log(sum);
}

// Keeps what was said. Returns a number that is finite where the row is.
static double take_base(Probe *p, int row, const float *values) {
    float *base = p->base + (size_t)row * (size_t)p->width;
    double all = p->causal ? log_sum(values, p->width) : 0, sum = 0;
    for (int i = 0; i < p->width; i++) {
        double log_p = values[i] - all;
        base[i] = p->causal ? (float)exp(log_p) : values[i];
        if (!p->causal) sum += values[i];
        else if (base[i] != 0) sum -= (double)base[i] * log_p;   // a logit may be -inf
    }
    p->entropy[row] = sum;
    return sum;
}

static double take_other(Probe *p, int row, const float *values) {
    const float *base = p->base + (size_t)row * (size_t)p->width;
    double sum = 0, a = 0, b = 0, all = 0;
    for (int i = 0; i < p->width; i++)
        if (base[i] != 0) sum += (double)base[i] * values[i], all += base[i];
    if (p->causal) return log_sum(values, p->width) * all - sum - p->entropy[row];
    for (int i = 0; i < p->width; i++) a += (double)base[i] * base[i], b += (double)values[i] * values[i];
    return a > 0 && b > 0 ? 1 - sum / sqrt(a * b) : 0;
}

bool sensitivity_distance(const Sensitivity *s, tn_engine *engine, double *distance, Diags *diags) {
    double sum = 0;
    bool done = probe_run(s, engine, take_other, &sum, diags);
    *distance = s->probe->rows ? sum / s->probe->rows : 0;
    return done;
}

int probe_context(const Program *program) { return program->program.context < PROBE_WINDOW ? program->program.context : PROBE_WINDOW; }

static bool probe_open(Sensitivity *s, Diags *diags) {
    Probe *p = s->probe = ARENA_NEW(s->arena, Probe);
    BuildOptions *options = ARENA_NEW(s->arena, BuildOptions);
    tn_failure failure = {0};
    double said = 0;
    calibration_options(options, s->options);
    options->quantize = "f16";
    if (!build_open(&p->build, s->path, options, diags) || !calibration_program(&p->build, &p->program, diags) || !own_weights(p, diags)) return false;
    tn_open_options opening = {.context = probe_context(&p->program), .weights = tn_blob_file(p->program.blob)};
    p->engine = tn_open_blob(&p->program.program, p->program.blob, &opening, &failure);
    if (!p->engine) return diag_error(diags, FILE_LOC(s->path), "%s", failure.text), false;
    p->width = tn_width(p->engine);
    p->causal = p->program.program.out_kind == TN_PER_ROW;
    p->base = malloc((size_t)(PROBE_WINDOWS * PROBE_WINDOW) * (size_t)p->width * sizeof *p->base);
    p->entropy = calloc(PROBE_WINDOWS * PROBE_WINDOW, sizeof *p->entropy);
    if (!p->base || !p->entropy) abort();
    if (!probe_ids(s, p, diags) || !probe_run(s, p->engine, take_base, &said, diags)) return false;
    if (isfinite(said)) return true;
    diag_error(diags, FILE_LOC(s->path), "the output is not finite in 16-bit floats, so what a format costs cannot be measured");
    return diag(diags, DIAG_HINT, NOWHERE, "--bits chooses without measuring"), false;
}

// ---- exchanging a matrix ---------------------------------------------------------------------------------------------------------------------

typedef struct { unsigned char *at; uint64_t bytes; void *kept; const Weight *weight; } Exchanged;

static Exchanged place_of(const Probe *p, const Weight *weight) {
    const Module *module = p->build.model->module;
    Exchanged place = {0};
    if (weight->id >= module->weight_count || strcmp(module->weights[weight->id]->name, weight->name) != 0) return place;
    place.weight = module->weights[weight->id];   // the same passes went before: the same weights in the same order
    if (!packed_bytes(place.weight, &place.bytes) || !(place.kept = malloc(place.bytes))) abort();
    place.at = p->weights + p->build.plan->offset[weight->id];
    memcpy(place.kept, place.at, place.bytes);
    return place;
}

static bool put_bytes(void *to, const void *bytes, size_t length) {
    unsigned char **at = to;
    memcpy(*at, bytes, length);
    *at += length;
    return true;
}

static void exchange(const Exchanged *place, const Weight *weight, DType type, const void *rounded) {
    int64_t k = columns_of(weight), rows = type_row_elements(&weight->type) / k;
    float *values = malloc((size_t)(rows * k) * sizeof *values);
    if (!values) abort();
    for (int64_t r = 0; r < rows; r++) {
        dequantize_row(type, (const char *)rounded + r * dtype_row_bytes(type, k), values + r * k, k);
        if (weight->rotate) hadamard_row(values + r * k, k, weight->rotate);
    }
    Weight other = *place->weight;
    unsigned char *at = place->at;
    other.tensor = NULL, other.bytes = other.quantized = NULL;
    other.pick_rows.count = other.pick_columns.count = 0;
    other.index = -1, other.first = other.step = other.rows = 0, other.transpose = false;
    if (other.quantize_to == DT_COUNT) other.quantize_to = other.type.dtype;   // 16-bit floats as stored
    other.type.dtype = DT_F32;
    other.data = values;
    pack_weight(&other, put_bytes, &at);
    free(values);
}

static void put_back(Exchanged *places, int count) {
    for (int i = 0; i < count; i++) {
        if (places[i].kept) memcpy(places[i].at, places[i].kept, places[i].bytes);
        free(places[i].kept);
    }
}

// ---- measuring -------------------------------------------------------------------------------------------------------------------------------

static double squares(const Weight *weight) {
    int64_t k = columns_of(weight), rows = type_row_elements(&weight->type) / k;
    float *row = malloc((size_t)k * sizeof *row);
    double sum = 0;
    if (!row) abort();
    for (int64_t r = 0; r < rows; r++) {
        weight_rows_f32(weight, r, 1, row);
        for (int64_t i = 0; i < k; i++) sum += (double)row[i] * row[i];
    }
    free(row);
    return sum;
}

// One member: its errors in all formats; at the probe's format it takes its place in the probe.
static void round_member(const Sensitivity *s, Unit *unit, const Weight *weight, const Moments *moments, Exchanged *place) {
    for (int f = 0; f < FORMATS - 1; f++) {
        if (unit->bytes[f] < 0) continue;
        DType type = type_at(s, f);
        int64_t k = columns_of(weight);
        void *rounded = malloc((size_t)(type_row_elements(&weight->type) / k * dtype_row_bytes(type, k)));
        if (!rounded) abort();
        double error = calibrate_round(weight, moments, type, rounded, s->calibration.threads);
        unit->error[f] += error;
        if (f == unit->probe && place && place->at) exchange(place, weight, type, rounded);
        if (f == unit->probe && !place) unit->cost += error / (squares(weight) + 1e-30);
        free(rounded);
    }
}

// The members of a unit whose moments are there now; a unit that comes in parts costs what its parts cost.
static bool measure_unit(Sensitivity *s, Unit *unit, bool last, Diags *diags) {
    const Module *module = s->build.model->module;
    Exchanged *places = calloc((size_t)unit->count, sizeof *places);
    int count = 0;
    double cost = 0;
    if (!places) abort();
    for (int i = 0; i < unit->count; i++) {
        const Weight *weight = module->weights[unit->weights[i]];
        const Moments *m = s->options->calibrate ? calibration_moments(&s->calibration, weight) : NULL;
        if (m ? !m->blocks : !last) continue;
        if (s->probe) places[count] = place_of(s->probe, weight);
        round_member(s, unit, weight, m, s->probe ? &places[count] : NULL);
        count++;
        tn_progress_show(&s->progress, (uint64_t)++s->done, (uint64_t)module->weight_count);
    }
    bool done = !count || !s->probe || sensitivity_distance(s, s->probe->engine, &cost, diags);
    unit->cost += cost < WORST_COST ? fmax(cost, 0) : WORST_COST;
    put_back(places, count);
    free(places);
    return done;
}

static bool measure_turn(void *to, bool last, Diags *diags) {
    Sensitivity *s = to;
    bool done = true;
    tn_progress_begin(&s->progress, "measuring");
    for (int u = 0; u < s->unit_count && done; u++) done = measure_unit(s, &s->units[u], last, diags);
    tn_progress_end(&s->progress);
    return done;
}

static bool prepare(Sensitivity *s, Diags *diags) {
    BuildOptions *options = ARENA_NEW(s->arena, BuildOptions);
    calibration_options(options, s->options);
    options->quantize = "auto";
    options->activation_group = s->options->activation_group;
    if (!build_load(&s->build, s->path, options, diags) || !build_passes(s->build.model->module, options, diags)) return false;
    Calibration *c = &s->calibration;
    *c = (Calibration){.module = s->build.model->module, .path = s->path, .options = s->options, .threads = tn_team_available()};
    return calibration_text_of(s->options, &c->text, diags);
}

// ---- kept between budgets ----------------------------------------------------------------------------------------------------------------------

// A line a unit: its weights' ids, then probe, cost and errors.
void sensitivity_write(const Sensitivity *s, Text *out) {
    for (int u = 0; u < s->unit_count; u++) {
        const Unit *unit = &s->units[u];
        text_printf(out, "%d", unit->count);
        for (int i = 0; i < unit->count; i++) text_printf(out, " %d", unit->weights[i]);
        text_printf(out, " %d %.17g", unit->probe, unit->cost);
        for (int f = 0; f < FORMATS; f++) text_printf(out, " %.17g", unit->error[f]);
        text_puts(out, "\n");
    }
}

static bool next_number(const char **at, double *value) {
    char *end;
    *value = strtod(*at, &end);
    if (end == *at || !(fabs(*value) < 1e300)) return false;
    return *at = end, true;
}

static bool read_unit(Sensitivity *s, const char **at, bool *seen) {
    const Module *module = s->build.model->module;
    Unit *unit = &s->units[s->unit_count++];
    double count, id, probe;
    if (!next_number(at, &count) || count < 1 || count > module->weight_count) return false;
    for (int i = 0; i < (int)count; i++) {
        if (!next_number(at, &id) || id < 0 || id >= module->weight_count || seen[(int)id] || !calibrated(module->weights[(int)id])) return false;
        seen[(int)id] = true;
        add_member(s, unit, module->weights[(int)id]);
    }
    bool done = next_number(at, &probe) && probe == unit->probe && next_number(at, &unit->cost);
    for (int f = 0; f < FORMATS && done; f++) done = next_number(at, &unit->error[f]);
    return done;
}

static bool read_units(Sensitivity *s, const char *text) {
    const Module *module = s->build.model->module;
    bool *seen = ARENA_ARRAY(s->arena, bool, module->weight_count + 1), whole = true;
    s->units = ARENA_ARRAY(s->arena, Unit, module->weight_count + 1);
    while (*(text += strspn(text, "\n ")))
        if (s->unit_count == module->weight_count || !read_unit(s, &text, seen)) return s->unit_count = 0, false;
    for (int w = 0; w < module->weight_count; w++) whole &= seen[w] || !calibrated(module->weights[w]);
    return whole ? true : (s->unit_count = 0, false);
}

bool sensitivity_measure(Sensitivity *s, const char *known, Diags *diags) {
    if (!prepare(s, diags)) return false;
    find_kept(s);
    bool text = s->build.model->tokenizer_path != NULL, wanted = s->options->calibrate != NULL;
    if (known && read_units(s, known)) return !text || probe_open(s, diags);
    Diags *quiet = diags_new();
    CalibrationRun *run = calibration_run_open(&s->calibration, wanted ? diags : quiet);   // says what shares its x, too
    diags_free(quiet);
    bool done = run || !wanted;
    if (done) find_units(s);
    if (done && text) done = probe_open(s, diags);
    if (done) done = wanted ? calibration_turns(&s->calibration, run, measure_turn, s, diags) : measure_turn(s, true, diags);
    calibration_run_close(run);
    return done;
}

void sensitivity_close(Sensitivity *s) {
    if (s->probe) {
        tn_close(s->probe->engine);
        program_close(&s->probe->program);
        if (s->probe->build.arena) build_close(&s->probe->build);
        free(s->probe->base), free(s->probe->entropy);
    }
    if (s->build.arena) build_close(&s->build);
    calibration_close(&s->calibration);
}
