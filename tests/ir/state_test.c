// The interpreter over several steps: prefilling n tokens equals n steps of one, a sequence's company changes nothing, a layer that is
// called twice has two caches, and what cannot be run is said.
#include "ir_test.h"

#include "ir/interp.h"
#include "random_module.h"

static const char model[] =
    "weight @embed : f32[5, 4] = [0.1, -1, 0.5, 2, 1, 0.25, -0.5, 0.75, -1, 1, 0.3, 0.2, 0.9, -0.2, 0.4, -2, 0.6, 0.7, -0.8, 1.5]\n"
    "func @layer(%x: f32[T, 4]) -> f32[T, 4] {\n"
    "  %q: f32[T, 2, 2] = reshape %x {shape=[T, 2, 2]}\n"
    "  %r: f32[T, 2, 2] = rope %q {base=100}\n"
    "  %k: f32[T, 1, 2] = slice %r {from=0, to=1, axis=1}\n"
    "  %a: f32[T, 2, 2] = attention %r, %k, %k\n"
    "  %b: f32[T, 4] = reshape %a {shape=[T, 4]}\n"
    "  %y: f32[T, 4] = add %x, %b\n"
    "  return %y\n"
    "}\n"
    "main @m(%tokens: i32[T]) -> f32[T, 4] {\n"
    "  %x: f32[T, 4] = embedding %tokens, @embed\n"
    "  %y: f32[T, 4] = call %x {block=@layer} label \"layer=0\"\n"
    "  %z: f32[T, 4] = call %y {block=@layer} label \"layer=0\"\n"
    "  return %z\n"
    "}\n";

typedef struct { Arena *arena; Diags *diags; Module *module; } World;

static World world_new(const char *text) {
    World world = {arena_new(), diags_new(), NULL};
    world.module = module_parse(world.arena, "m.tir", text, strlen(text), world.diags);
    no_errors(world.diags);
    return world;
}

static void world_free(World *world) {
    diags_free(world->diags);
    arena_free(world->arena);
}

// Runs rows given as (sequence, position, token); results [rows, 4].
static const float *run(World *world, InterpState *state, int rows, const int32_t *sequence, const int32_t *position,
                        const int32_t *tokens) {
    int32_t first[8] = {0};
    int sequences = 0;
    for (int t = 0; t < rows; t++)
        if (t == 0 || sequence[t] != sequence[t - 1]) first[sequences++] = t;
    first[sequences] = rows;
    Step step = {.tokens = rows, .sequences = sequences, .position = position, .sequence = sequence, .first = first};
    Tensor in = {.type = {DT_I32, 1, {DIM_T}}, .dims = {rows}, .data = (void *)tokens}, out = {0};
    bool ok = interp_run(world->module, state, &step, &in, &out, world->arena, world->diags);
    return ok ? out.data : NULL;
}

static void prefill_equals_decode(void **unused) {
    (void)unused;
    World world = world_new(model);
    int32_t tokens[] = {0, 3, 1, 4, 2}, position[] = {0, 1, 2, 3, 4}, none[] = {0, 0, 0, 0, 0};
    InterpState *whole = interp_state_new(1), *steps = interp_state_new(1), *cut = interp_state_new(1);
    const float *all = run(&world, whole, 5, none, position, tokens);
    for (int t = 0; t < 5; t++) assert_memory_equal(run(&world, steps, 1, none, position + t, tokens + t), all + t * 4, 16);
    run(&world, cut, 2, none, position, tokens);
    assert_memory_equal(run(&world, cut, 3, none, position + 2, tokens + 2), all + 8, 48);
    // Taken back to position 2 and continued otherwise, then again as before.
    run(&world, cut, 1, none, position + 2, (int32_t[]){4});
    assert_memory_equal(run(&world, cut, 1, none, position + 2, tokens + 2), all + 8, 16);
    no_errors(world.diags);
    interp_state_free(whole);
    interp_state_free(steps);
    interp_state_free(cut);
    world_free(&world);
}

static void company_changes_nothing(void **unused) {
    (void)unused;
    World world = world_new(model);
    int32_t tokens[] = {2, 2, 0, 3, 1}, position[] = {0, 1, 0, 1, 2}, sequence[] = {1, 1, 0, 0, 0};
    InterpState *together = interp_state_new(2), *alone = interp_state_new(2);
    const float *both = run(&world, together, 5, sequence, position, tokens);
    const float *one = run(&world, alone, 3, sequence + 2, position + 2, tokens + 2);
    assert_memory_equal(both + 8, one, 48);
    interp_state_free(together);
    interp_state_free(alone);
    world_free(&world);
}

static void refused(void **unused) {
    (void)unused;
    World world = world_new(model);
    InterpState *state = interp_state_new(1);
    int32_t zero[] = {0, 0};
    assert_null(run(&world, state, 1, zero, (int32_t[]){3}, zero));
    assert_null(run(&world, state, 1, (int32_t[]){1}, zero, zero));
    assert_null(run(&world, state, 1, zero, zero, (int32_t[]){5}));
    assert_null(run(&world, state, 1, zero, zero, (int32_t[]){-1}));
    assert_int_equal(diags_errors(world.diags), 4);
    interp_state_free(state);
    world_free(&world);

    world = world_new(
        "weight @e : f32[4, 4]\nmain @m(%tokens: i32[T]) -> f32[T, 4] {\n  %x: f32[T, 4] = embedding %tokens, @e\n  return %x\n}\n");
    state = interp_state_new(1);
    assert_null(run(&world, state, 1, zero, zero, zero));
    assert_messages(world.diags, "error: weight e has no values here: the module was read without its weight files\n");
    interp_state_free(state);
    world_free(&world);
}

// Random modules run, or say why not; twice the same.
static void random_modules(void **unused) {
    (void)unused;
    int ran = 0;
    for (uint64_t seed = 0; seed < 120; seed++) {
        World world = {arena_new(), diags_new(), NULL};
        world.module = random_module(world.arena, seed, false, NULL);
        random_values(world.module, seed);
        enum { ROWS = 3 };
        int32_t position[ROWS] = {0, 1, 0}, sequence[ROWS] = {0, 0, 1}, first[] = {0, 2, 3}, keep[] = {1};
        Step step = {.tokens = ROWS, .sequences = 2, .rows = 1, .position = position, .sequence = sequence, .first = first, .keep = keep};
        const Func *main = world.module->main;
        Tensor *in = ARENA_ARRAY(world.arena, Tensor, main->input_count), out[2][2] = {{{.data = NULL}}};
        for (int i = 0; i < main->input_count; i++) {
            in[i].type = main->inputs[i]->type;
            memcpy(in[i].dims, in[i].type.dims, sizeof in[i].dims);
            in[i].dims[0] = ROWS;
            int64_t count = ROWS * type_row_elements(&in[i].type);
            in[i].data = ARENA_ARRAY(world.arena, float, count);
            for (int64_t e = 0; e < count; e++)   // numbers that are good as indices, too
                if (in[i].type.dtype == DT_I32) ((int32_t *)in[i].data)[e] = (int32_t)(e % 2 * (int64_t)(seed % 2));
                else ((float *)in[i].data)[e] = (float)((e * 37 + (int64_t)seed) % 19 - 9) / 4;
        }
        bool ok[2];
        for (int run = 0; run < 2; run++) {
            InterpState *state = interp_state_new(2);
            ok[run] = interp_run(world.module, state, &step, in, out[run], world.arena, world.diags);
            interp_state_free(state);
        }
        assert_true(ok[0] == ok[1] && ok[0] == (diags_errors(world.diags) == 0));
        ran += ok[0];
        for (int i = 0; ok[0] && i < main->result_count; i++) {
            int64_t bytes = type_row_elements(&main->results[i]->type) * (main->results[i]->type.dtype == DT_F32 ? 4 : 1);
            if (main->results[i]->type.dtype != DT_CACHE) assert_memory_equal(out[0][i].data, out[1][i].data, bytes);
        }
        world_free(&world);
    }
    print_message("%d of 120 ran\n", ran);
    assert_true(ran >= 60);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(prefill_equals_decode), cmocka_unit_test(company_changes_nothing),
                                       cmocka_unit_test(refused),
                                       cmocka_unit_test(random_modules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
