// Chat templates on the command line, for comparing with others.
//   chat_tool render TEMPLATE CONVERSATION.json     conversation: {"messages": [[role, text] …], "generation": bool, "bos": …, "eos": …}
//   chat_tool reduce TEMPLATE [BOS [EOS]]           prints begin, system, user, assistant, generation as JSON strings, null when absent
#include "frontend/chat.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) exit(2);
    char *text = calloc(1, 1 << 20);
    if (!fread(text, 1, (1 << 20) - 1, file)) *text = 0;
    fclose(file);
    return text;
}

static void assign(Jinja *j, JFrame *frame, const char *name, JValue value) {
    int count = frame->count;
    ARENA_PUSH(j->arena, frame->names, count, frame->names_capacity) = name;
    ARENA_PUSH(j->arena, frame->values, frame->count, frame->values_capacity) = value;
}

static JValue text_value(Jinja *j, json_t *text) { return j_string(j, json_string_value(text), json_string_length(text)); }

static int render(const char *template, const char *path) {
    json_t *root = json_load_file(path, 0, NULL), *pair;
    size_t i;
    Arena *arena = arena_new();
    Jinja j = {.arena = arena, .steps = 1000000, .bytes = 32 << 20};
    j.globals = arena_alloc(arena, sizeof *j.globals);
    JValue list = j_list(&j);
    json_array_foreach(json_object_get(root, "messages"), i, pair) {
        JValue message = j_map(&j);
        j_put(&j, message, J_TEXT("role"), text_value(&j, json_array_get(pair, 0)));
        j_put(&j, message, J_TEXT("content"), text_value(&j, json_array_get(pair, 1)));
        j_push(&j, list, message);
    }
    assign(&j, j.globals, "messages", list);
    assign(&j, j.globals, "add_generation_prompt", J_TRUTH(json_is_true(json_object_get(root, "generation"))));
    assign(&j, j.globals, "tools", (JValue){.kind = J_NONE});
    assign(&j, j.globals, "bos_token", text_value(&j, json_object_get(root, "bos")));
    assign(&j, j.globals, "eos_token", text_value(&j, json_object_get(root, "eos")));
    Text out = {0};
    JNode *tree = jinja_parse(&j, template, strlen(template));
    bool done = tree && jinja_render(&j, tree, &out);
    if (done) fwrite(out.data ? out.data : "", 1, out.length, stdout);
    else printf("error: %s", j.error);
    text_free(&out);
    arena_free(arena);
    json_decref(root);
    return done ? 0 : 1;
}

static int reduce(const char *template, const char *bos, const char *eos) {
    Diags *diags = diags_new();
    ChatTemplates chat;
    bool done = chat_reduce(template, bos, eos, &chat, diags);
    diags_print(diags, stderr);
    diags_free(diags);
    char *texts[] = {chat.begin, chat.system, chat.user, chat.assistant, chat.generation};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        json_t *text = texts[i] ? json_string(texts[i]) : json_null();
        json_dumpf(text, stdout, JSON_ENCODE_ANY);
        printf("\n");
        json_decref(text);
        free(texts[i]);
    }
    return done ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    char *template = read_file(argv[2]);
    int status =
        !strcmp(argv[1], "render") ? render(template, argv[3]) : reduce(template, argc > 3 ? argv[3] : NULL, argc > 4 ? argv[4] : NULL);
    free(template);
    return status;
}
