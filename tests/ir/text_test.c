// The textual form: it parses back to itself, for written and for random modules; what does not parse is said with its place; damaged text is an
// error, never a crash; and the verifier finds what a pass may break.
#include "ir_test.h"
#include "random_module.h"

static Module *parse(Arena *arena, const char *text, size_t length, Diags *diags) { return module_parse(arena, "m.tir", text, length, diags); }

// Prints, parses, prints: the same text and the same structure.
static void assert_round_trip(const Module *module) {
    Arena *arena = arena_new();
    Diags *diags = diags_new();
    Text first = {0}, second = {0};
    module_print(module, &first);
    Module *again = parse(arena, first.data, first.length, diags);
    if (!again) print_error("%s", first.data);
    no_errors(diags);
    module_print(again, &second);
    assert_string_equal(first.data, second.data);
    for (int i = 0; i < module->func_count; i++) assert_true(func_structure_hash(module->funcs[i]) == func_structure_hash(again->funcs[i]));
    text_free(&first);
    text_free(&second);
    diags_free(diags);
    arena_free(arena);
}

#define WRITTEN \
    "module @m context 4096 tokens 256 rows 8 sequences 4\n" \
    "\n" \
    "weight @embed : q4_1[100, 32]\n" \
    "weight @\"stack[1] of \\\"three\\\"\" : bf16[32, 64] from @stack bf16[3, 64, 32] index 1 transpose\n" \
    "weight @qkv.q : f16[32, 32] from @qkv f16[96, 32] rows 0 step 3 count 32 quantize w8 layout panels\n" \
    "weight @factors : f32[4] = [1, 0.1, 1e-20, 3.4028235e+38]\n" \
    "weight @mask : bool[2] = [0, 1]\n" \
    "\n" \
    "kernel @norm(%x: f32[T, 32]; %w: q4_1[100, 32] layout rows) -> f32[T, 32] frame 4096 rows 2 {\n" \
    "  %y: f32[T, 32] at 64 = rms_norm %x {eps=1e-05, offset=0}\n" \
    "  return %y\n" \
    "}\n" \
    "\n" \
    "func @expert(%x: f32[T, 32]; %a: f16[32, 32], %b: 2 x f16[32, 32]) -> f32[T, 32], f32[T, 32] {\n" \
    "  %y: f32[T, 32] = linear %x, %a\n" \
    "  return %y, %x\n" \
    "}\n" \
    "\n" \
    "main @main(%tokens: i32[T]) -> f32[R, 32] {\n" \
    "  %x: f32[T, 32] = embedding %tokens, @embed\n" \
    "  %n: f32[T, 32] = call %x, @embed {block=@norm} label \"layer=0, \\\"x\\\"\" frame 128\n"

static void by_hand(void **state) {
    (void)state;
    Arena *arena = arena_new();
    Diags *diags = diags_new();
    static const char text[] = WRITTEN "  %l: f32[T, 32], %r: f32[T, 32] = call %n, @qkv.q, [@qkv.q, @qkv.q] {block=@expert}\n"
                       "  %k: f32[R, 32] = keep_rows %l\n  return %k\n}\n";
    Text printed = {0};
    Module *module = parse(arena, text, strlen(text), diags);
    no_errors(diags);
    module_print(module, &printed);
    assert_string_equal(printed.data, text);
    assert_round_trip(module);
    assert_int_equal(module->context, 4096);
    assert_true(module->funcs[0]->kernel && module->funcs[0]->row_factor == 2 && module->funcs[0]->nodes[0]->results[0]->place == 64);
    assert_int_equal(module->main->nodes[1]->frame, 128);
    assert_string_equal(module->main->nodes[1]->label, "layer=0, \"x\"");
    assert_int_equal(module->weights[2]->quantize_to, DT_W8);
    text_free(&printed);
    diags_free(diags);
    arena_free(arena);
}

enum { RANDOM = 150 };

static void random_modules(void **state) {
    (void)state;
    int made[OP_COUNT] = {0}, missing = 0;
    for (uint64_t seed = 0; seed < RANDOM; seed++) {
        Arena *arena = arena_new();
        Diags *diags = diags_new();
        Module *module = random_module(arena, seed, seed % 2, made);
        module_verify(module, diags);
        no_errors(diags);
        assert_round_trip(module);
        diags_free(diags);
        arena_free(arena);
    }
    for (int i = 0; i < OP_COUNT; i++)
        if (!made[i]) print_message("never drawn: %s\n", op_info((OpId)i)->name), missing++;
    assert_int_equal(missing, 0);
}

// Bytes changed, dropped, doubled: an error or another module, no crash.
static void damaged(void **state) {
    (void)state;
    Arena *arena = arena_new();
    Text text = {0};
    module_print(random_module(arena, 7, true, NULL), &text);
    uint32_t random = 1;
    for (int i = 0; i < 3000; i++) {
        Arena *scratch = arena_new();
        Diags *diags = diags_new();
        char *copy = arena_strndup(scratch, text.data, text.length);
        size_t length = text.length;
        for (int n = 0; n <= i % 3; n++) {
            random = random * 1664525 + 1013904223;
            size_t at = (random >> 4) % length;
            if (i % 5 == 0) memmove(copy + at, copy + at + 1, --length - at);
            else if (i % 5 == 1) length = at + 1;
            else copy[at] = i % 5 == 2 ? (char)random : "%@[]{}=,;:\"9-T\n "[random >> 28];
        }
        Module *module = parse(scratch, copy, length, diags);
        assert_true((module != NULL) == (diags_errors(diags) == 0));
        if (module) assert_round_trip(module);
        diags_free(diags);
        arena_free(scratch);
    }
    text_free(&text);
    arena_free(arena);
}

typedef struct { const char *text, *messages; } Case;

static const Case mistakes[] = {
    {"", "m.tir:1:1: error: there is no function\n"},
    {"func @f(%x: f32[T, 2]) -> f32[T, 2] {\n  %y: f32[T, 3] = silu %x\n  %z: f32[T, 3] = silu %nothing\n  %y: f32[T, 2] = silu %x\n  return %y\n}\n",
     "m.tir:1:27: error: this is not what the function's head says it returns\n"},
    {"weight @w : q4_1[3, 33]\nfunc @f(%x: f32[T, 2]) -> f32[T, 2] {\n  return %x\n}\n", "error: weight @w: its rows are no whole blocks of q4_1, or too many\n"},
    {"weight @w : f32[3, T]\n", "m.tir:1:13: error: a weight's sizes must be constant and their product at most 2^44\n    1 | weight @w : f32[3, T]\n      |             ^~~\n"},
    {"weight @w : f32[4] = [1, 2]\nfunc @f(%x: f32[T, 2]) -> f32[T, 2] {\n  return %x\n", "m.tir:1:27: error: expected ,\n"},
    {"func @f(%x: f32[T, 2]) -> f32[T, 2] {\n  %y: f32[T, 2] = frobnicate %x\n  return %y\n}\n",
     "m.tir:2:19: error: there is no operation frobnicate\n    2 |   %y: f32[T, 2] = frobnicate %x\n      |                   ^~~~~~~~~~\n"},
    {"func @f(%x: f32[T, 2]) -> f32[T, 2] {\n  %y: f32[T, 2] = call %x {block=@g}\n  return %y\n}\n", "there is no function @g before this one"},
    {"main @f(%x: f32[T, 2]) -> f32[T, 2] {\n  return %x\n}\nfunc @g(%x: f32[T, 2]) -> f32[T, 2] {\n  return %x\n}\n", "m.tir:4:6: error: main comes last\n"},
    {"func @f(%x: q8_0[T, 32]) -> q8_0[T, 32] {\n  return %x\n}\n", "error: @f: %x: a value cannot be q8_0\n"},
    {"func @f(%x: f32[T, 9999999, 9999999]) -> f32[T, 1] {\n  return %x\n}\n", "error: a symbol can only be the first size, and the product must be at most 2^44\n"},
    {"func @f(%x: f32[T, 2]) -> f32[T, 2] {\n  return %x\n", "error: the text ends inside @f\n"},
    {"kernel @k(%x: f32[T, 2]) -> f32[T, 2] {\n  return %x\n}\nkernel @f(%x: f32[T, 2]) -> f32[T, 2] {\n  %y: f32[T, 2] = call %x {block=@k}\n  return %y\n}\n",
     "m.tir:5:19: error: @f: %y: a kernel cannot run a function\n"},
};

static void messages(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(mistakes); i++) {
        Arena *arena = arena_new();
        Diags *diags = diags_new();
        Text text = {0};
        assert_null(parse(arena, mistakes[i].text, strlen(mistakes[i].text), diags));
        diags_text(diags, &text);
        if (i != 1 && !strstr(text.data, mistakes[i].messages)) fail_msg("%s\n  says %s\n  not %s", mistakes[i].text, text.data, mistakes[i].messages);
        if (i == 1) {   // every mistake of the text, each once
            assert_int_equal(diags_errors(diags), 3);
            assert_non_null(strstr(text.data, "m.tir:2:19: error: %y is f32[T, 2], not f32[T, 3]\n"));
            assert_non_null(strstr(text.data, "m.tir:3:24: error: there is no value %nothing\n"));
            assert_non_null(strstr(text.data, "m.tir:4:3: error: %y is defined twice\n"));
        }
        text_free(&text);
        diags_free(diags);
        arena_free(arena);
    }
}

// ---- what a pass may break ------------------------------------------------------------------------------------------------

static void other_type(Module *m) { m->main->nodes[0]->results[0]->type.dims[1] = 31; }
static void other_order(Module *m) { func_move(m->main, m->main->nodes[0], NULL); }
static void foreign_value(Module *m) { m->main->nodes[1]->operands[0] = m->funcs[0]->inputs[0]; }
static void lost_node(Module *m) { m->main->nodes[0]->results[0]->node = m->main->nodes[1]; }
static void same_name(Module *m) { m->main->nodes[1]->results[0]->name = m->main->nodes[0]->results[0]->name; }
static void lost_attribute(Module *m) { m->funcs[0]->nodes[0]->attr_count = 1; }
static void no_result(Module *m) { m->funcs[0]->result_count = 0; }
static void weight_in_function(Module *m) { m->funcs[0]->nodes[0]->operands[1] = m->main->nodes[0]->operands[1]; }
static void main_first(Module *m) { Func *f = m->funcs[0]; m->funcs[0] = m->main, m->funcs[m->func_count - 1] = f; }
static void index_outside(Module *m) { m->weights[1]->index = 3; }
static void rows_outside(Module *m) { m->weights[2]->rows = 33; }
static void blocks_transposed(Module *m) { m->weights[0]->transpose = true; }
static void other_id(Module *m) { m->weights[0]->id = 1; }
static void no_values(Module *m) { m->weights[3]->data = NULL; }

static const struct { void (*break_it)(Module *); const char *message; } broken[] = {
    {other_type, "@main: %x: %x is f32[T, 32], not f32[T, 31]"},
    {other_order, "@main: %n: call uses %x before it is defined"},
    {foreign_value, "@main: %n: call uses %x before it is defined"},
    {lost_node, "@main: %x: %x does not know its node"},
    {same_name, "is defined twice"},
    {lost_attribute, "@norm: %y: rms_norm has 2 attributes, not 1"},
    {no_result, "@norm: returns nothing"},
    {weight_in_function, "@norm: %y: weights appear in main only; a function takes them as parameters"},
    {main_first, "main is not the last function"},
    {index_outside, "index 3 is outside its source"},
    {rows_outside, "weight @qkv.q: its rows are outside its source"},
    {blocks_transposed, "weight @embed: blocks of q4_1 cannot be transposed"},
    {other_id, "weight @embed is not where the module looks for it"},
    {no_values, "weight @factors has neither a tensor nor values"},
};

static void verifier(void **state) {
    (void)state;
    static const char text[] = WRITTEN "  %k: f32[R, 32] = keep_rows %n\n  return %k\n}\n";
    for (size_t i = 0; i < COUNT_OF(broken); i++) {
        Arena *arena = arena_new();
        Diags *diags = diags_new();
        Module *module = parse(arena, text, strlen(text), diags);
        no_errors(diags);
        broken[i].break_it(module);
        assert_false(module_verify(module, diags));
        Text said = {0};
        diags_text(diags, &said);
        if (!strstr(said.data, broken[i].message)) fail_msg("says %s\n  not %s", said.data, broken[i].message);
        text_free(&said);
        diags_free(diags);
        arena_free(arena);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_hand), cmocka_unit_test(random_modules), cmocka_unit_test(damaged),
                                       cmocka_unit_test(messages), cmocka_unit_test(verifier)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
