// Inference: what a user reads when operands do not fit, and what the builder refuses. Each row is an operation on given operands and the text of
// its messages; the good cases of every op are in fixtures/ops.txt.
#include "ir_test.h"

typedef struct { const char *line, *message; } Row;

// The module that each row's line is put into, as line 5 of func @f.
static const char before[] =
    "func @expert(%x: f32[T, 8]; %w: f32[8, 8]) -> f32[T, 8] {\n"
    "  %y: f32[T, 8] = linear %x, %w\n"
    "  return %y\n"
    "}\n"
    "func @f(%x: f32[T, 8], %h: f32[T, 4, 6], %i: i32[T, 2], %s: f32[S, 8], %p: f32[T, 2]; %w: q4_1[12, 32], %v: f32[8], %e: 3 x f32[8, 8], %one: f32[8, 8]) -> f32[T, 8] {\n";

static const Row rows[] = {
    {"linear %x, %w", "linear: x has 8 columns but w expects 32\nnote: x is f32[T, 8]; w is [12, 32]"},
    {"linear %x", "linear: w is missing"},
    {"linear %i, %one", "linear: x is i32, not f32\nhint: cast(…, f32) converts it"},
    {"linear %x, %one, %w", "linear: w must be a vector of 8 (the output)"},
    {"linear %x, %x", "linear: w must be a parameter, or computed from parameters alone"},
    {"linear %x, %e", "linear: e is an array of 3 weights; only moe takes one"},
    {"embedding %x, %one", "embedding: ids is f32, not i32"},
    {"rms_norm %h, %v {eps=1e-5}", "rms_norm: v has 8 elements but the last dimension of x is 6"},
    {"rms_norm %x, %v", "rms_norm: eps is missing"},
    {"rms_norm %x, %v {eps=-1}", "rms_norm: eps is negative"},
    {"rope %h {base=1e4, dims=5}", "rope: dims=5 must be even and within the 6 of a head"},
    {"rope %s {base=1e4}", "rope: x must have a row for each token ([T, …])"},
    {"rope %h {base=1e4, style=whole}", "rope: style is one of half|interleaved"},
    {"rope %h {base=1e4, dims=2.5}", "rope: dims must be a whole number"},
    {"rope %h {base=1e4, theta=3}", "rope has no attribute theta"},
    {"attention %h, %h, %h, %v", "attention: v has 8 elements but heads is 4"},
    {"attention %h, %h", "attention: without v, v_dims must be within the 6 of a key"},
    {"rope %h {base=0}", "rope: base must be positive"},
    {"rope %h {base=1e4, mscale=1e39}", "rope: mscale=1e+39 is beyond float32"},
    {"attention %h, %h, %h {scale=inf}", "attention: scale=inf is beyond float32"},
    {"attention %x, %h, %h", "attention: q must be [T, heads, head_dim]"},
    {"attention %h, %h, %h {window=-1}", "attention: window is negative"},
    {"top_k %x {k=9}", "top_k: k=9 must be within 1 … 8"},
    {"top_k %x {k=2, groups=3}", "top_k: 8 columns cannot be cut into 3 groups"},
    {"top_k %x {k=2, groups=4, keep=5}", "top_k: keep=5 must be within 1 … groups"},
    {"top_k %x {k=5, groups=4, keep=2}", "top_k: k=5 must be within 1 … 4"},
    {"top_k %x {k=2, groups=4, keep=2, score=3}", "top_k: score=3 must be 1 or 2"},
    {"gather %x, %x", "gather: e is f32, not i32"},
    {"gather %h, %i", "gather: x and e differ before their last dimension"},
    {"moe %x, %p, %i, %e {block=@expert, count=4}", "moe: e has 3 weights for 4 experts"},
    {"moe %x, %p, %i {block=@expert, count=3}", "moe: expert takes 1 parameters, not 0"},
    {"moe %x, %i, %i, %e {block=@expert, count=3}", "moe: w is i32, not f32"},
    {"moe %h, %p, %i, %e {block=@expert, count=3}", "moe: expert takes x as f32[T, 8], not f32[T, 4, 6]"},
    {"call %x, %v {block=@expert}", "call: expert takes w as f32[8, 8], not f32[8]"},
    {"call %x {block=@expert}", "call: expert takes 2 operands, not 1"},
    {"call %x, %x {block=@expert}", "call: expert needs a parameter for w"},
    {"add %x, %h", "add: sizes 8 and 6 do not match in dimension -1 (from the end)"},
    {"add %x, %s", "add: sizes T and S do not match in dimension -2 (from the end)"},
    {"add %p, %i", "add: a is f32 but b is i32\nhint: cast(…, type) converts one of them"},
    {"add %x, %x, %x", "add: takes 2 operands (a b), not 3"},
    {"where %x, %x, %x", "where: c is f32, not bool"},
    {"clamp %x {lo=2, hi=1}", "clamp: lo is above hi"},
    {"cast %x {type=q4_1}", "cast: cannot convert to q4_1"},
    {"const {value=0.5, type=i32}", "const: 0.5 is not an i32"},
    {"reshape %h {shape=[T, 25]}", "reshape: x has 24 elements a row but the shape has 25"},
    {"reshape %h {shape=[24]}", "reshape: the first dimension of x is T and stays"},
    {"reshape %v {shape=[T, 8]}", "reshape: v has no dimension T"},
    {"reshape %h {shape=[T, 1, 1, 1, 1, 1, 24]}", "reshape: a shape has at most 6 dimensions, not 7"},
    {"transpose %h {a=0, b=1}", "transpose: the first dimension is T and stays first"},
    {"transpose %h {a=1, b=3}", "transpose: b=3, but x has 3 dimensions"},
    {"concat %x, %h", "concat: operand 2 does not fit the first: they may differ in dimension 1 only"},
    {"concat %x, %x {axis=0}", "concat: cannot concatenate along T, the tokens or sequences of a step"},
    {"split %x {sizes=[3, 4]}", "split: the sizes do not sum to 8"},
    {"slice %x {from=3, to=9}", "slice: from 3 to 9 is not within 0 … 8"},
    {"sum %x {axis=0}", "sum: reducing over T would mix the tokens of different sequences\nhint: first(x), last(x) and mean_tokens(x) give one row a sequence"},
    {"expand %h {shape=[T, 4, 12]}", "expand: sizes 6 and 12 do not match in dimension -1 (from the end)"},
    {"first %s", "first: x must have a row for each token ([T, …])"},
    {"attend %h, %h {scale=1}", "attend: cache must be the result of cache_write"},
    {"moe_combine %h, %i, %p", "moe_combine: y must be [T, slots, …], rows and w [T, slots]"},
    {"quantize_rows %i", "quantize_rows: x is i32, not f32"},
    {"linear_i8 %x, %x, %x, %one", "linear_i8: q is f32, not i8"},
    {"quantize_rows %x {group=3}", "quantize_rows: group=3 must divide the 8 of a row"},
    {"hadamard %x {block=3}", "hadamard: block=3 must be a power of two that divides the 8 of a row"},
    {"softmx %x", "there is no operation softmx"},
};

// Every part of the message (cut at line ends) is in the messages' text.
static void assert_says(const Row *row, const Diags *diags) {
    Text text = {0};
    diags_text(diags, &text);
    char *parts = strdup(row->message), *save = NULL;
    for (char *part = strtok_r(parts, "\n", &save); part; part = strtok_r(NULL, "\n", &save))
        if (!text.data || !strstr(text.data, part)) fail_msg("%s\n  says %s\n  not %s", row->line, text.data ? text.data : "nothing", part);
    if (diags_errors(diags) != 1) fail_msg("%s\n  says %s", row->line, text.data);
    free(parts);
    text_free(&text);
}

static void errors(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        Arena *arena = arena_new();
        Diags *diags = diags_new();
        Text text = {0};
        text_printf(&text, "%s  %%y: f32[T, 8] = %s\n  return %%x\n}\n", before, rows[i].line);
        assert_null(module_parse(arena, "m.tir", text.data, text.length, diags));
        assert_says(&rows[i], diags);
        text_free(&text);
        diags_free(diags);
        arena_free(arena);
    }
}

// As the front end builds it: places, the user's names, the tensor a parameter comes from.
static void design_example(void **state) {
    (void)state;
    static const char source[] = "\n\n      - h = rms_norm(x, none, eps=eps)\n      - k = reshape(linear(h, wk), [T, kv_heads, head_dim])\n";
    Arena *arena = arena_new();
    Diags *diags = diags_new();
    diags_add_source(diags, "model.yaml", source, sizeof source - 1);
    Func *func = func_new(module_new(arena, "m"), "decoder");
    Value *x = func_input(func, "x", (Type){DT_F32, 2, {DIM_T, 576}});
    Value *wk = func_param(func, "wk", (Type){DT_BF16, 2, {192, 512}}, 0);
    wk->origin = "model.layers.0.self_attn.k_proj.weight";
    Attr eps = attr_number("eps", 1e-5);
    Node *h = func_node(func, OP_RMS_NORM, &x, 1, &eps, 1, (const char *[]){"h"}, (Loc){"model.yaml", 3, 13, 8}, diags);
    assert_non_null(h);
    assert_null(func_node(func, OP_LINEAR, (Value *[]){h->results[0], wk}, 2, NULL, 0, NULL, (Loc){"model.yaml", 4, 21, 13}, diags));
    assert_messages(diags, "model.yaml:4:21: error: linear: x has 576 columns but wk expects 512\n"
                           "    4 |       - k = reshape(linear(h, wk), [T, kv_heads, head_dim])\n"
                           "      |                     ^~~~~~~~~~~~~\n"
                           "note: h is f32[T, 576] (line 3); wk is [192, 512] from model.layers.0.self_attn.k_proj.weight\n");
    assert_null(func_node(func, OP_RMS_NORM, &x, 1, (Attr[]){eps, attr_number("offse", 1)}, 2, NULL, NOWHERE, diags));
    Text text = {0};
    diags_text(diags, &text);
    assert_non_null(strstr(text.data, "error: rms_norm: takes no argument offse\nhint: did you mean offset\n"));
    text_free(&text);
    diags_free(diags);
    arena_free(arena);
}

static void building(void **state) {
    (void)state;
    Arena *arena = arena_new();
    Diags *diags = diags_new();
    Module *module = module_new(arena, "m");
    Func *func = func_new(module, "f"), *other = func_new(module, "f");
    assert_string_equal(other->name, "f1");
    Value *x = func_input(func, "x", (Type){DT_F32, 2, {DIM_T, 8}});
    const char *names[] = {"x"};
    Node *a = func_node(func, OP_ADD, (Value *[]){x, x}, 2, NULL, 0, names, NOWHERE, diags);
    Node *b = func_node(func, OP_SILU, a->results, 1, NULL, 0, names, NOWHERE, diags);
    Node *c = func_node(func, OP_MUL, (Value *[]){b->results[0], x}, 2, NULL, 0, NULL, NOWHERE, diags);
    func_return(func, c->results, 1);
    assert_string_equal(a->results[0]->name, "x1");
    assert_string_equal(b->results[0]->name, "x2");
    assert_string_equal(b->results[0]->user_name, "x");
    assert_string_equal(c->results[0]->name, "mul");
    int nodes, returns;
    func_uses(func, x, &nodes, &returns);
    assert_true(nodes == 3 && returns == 0);
    uint64_t hash = func_structure_hash(func);
    func_replace_uses(func, b->results[0], a->results[0]);
    func_remove(func, b);
    assert_int_equal(func->node_count, 2);
    assert_true(module->func_count == 2 && func_structure_hash(func) != hash);

    Value *z = func_input(other, "z", x->type);
    Node *d = func_node(other, OP_ADD, (Value *[]){z, z}, 2, NULL, 0, NULL, NOWHERE, diags);
    Node *e = func_node(other, OP_MUL, (Value *[]){d->results[0], z}, 2, NULL, 0, NULL, NOWHERE, diags);
    func_return(other, e->results, 1);
    assert_true(func_structure_equal(func, other));
    assert_true(func_structure_hash(func) == func_structure_hash(other));
    func_move(other, e, d);
    assert_ptr_equal(other->nodes[0], e);
    assert_false(module_verify(module, diags));   // used before it is defined
    func_move(other, e, NULL);
    diags_free(diags);
    diags = diags_new();
    assert_true(module_verify(module, diags));

    Weight w = {.name = "w", .tensor = "t", .type = {DT_F32, 1, {4}}, .source = {DT_F32, 1, {4}}, .index = -1, .quantize_to = DT_COUNT};
    Weight *first = module_weight(module, &w);
    assert_ptr_equal(module_weight(module, &w), first);
    w.tensor = "u";
    assert_string_equal(module_weight(module, &w)->name, "w.1");
    assert_string_equal(module_weight(module, &w)->name, "w.1");
    assert_int_equal(module->weight_count, 2);
    diags_free(diags);
    arena_free(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(errors), cmocka_unit_test(design_example), cmocka_unit_test(building)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
