// The prompts of a run, from -p, --tokens and --batch, as token ids. A mistake is reported with its place: which option, which line, which character.
#include "runtime/run.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static PromptIds *prompts_new(Run *run, const char *label) {
    PromptList *list = &run->prompts;
    if (list->count == list->capacity) {
        int capacity = list->capacity ? list->capacity * 2 : 16;
        PromptIds *grown = realloc(list->all, (size_t)capacity * sizeof *grown);
        if (!grown)
            return NULL;
        list->all = grown;
        list->capacity = capacity;
    }
    PromptIds *prompt = &list->all[list->count];
    *prompt = (PromptIds){.label = strdup(label)};
    return prompt->label ? list->all + list->count++ : NULL;
}

static int prompts_no_memory(Run *run) { return tn_fail(&run->failure, TN_BAD_MACHINE, "no memory for the prompts"); }

// Ids separated by a comma or white space.
static int prompts_ids(Run *run, const char *text, PromptIds *out) {
    const char *at = text;
    out->ids = malloc((strlen(text) / 2 + 1) * sizeof *out->ids);
    if (!out->ids)
        return prompts_no_memory(run);
    for (;;) {
        at += strspn(at, out->count ? " \t\r\n" : ", \t\r\n");
        if (!*at)
            return 0;
        if (*at == ',' && out->count)
            at += 1 + strspn(at + 1, " \t\r\n");
        char *end;
        errno = 0;
        long id = strtol(at, &end, 10);
        if (end == at || errno || id < 0 || id > INT_MAX || (*end && !strchr(", \t\r\n", *end)))
            return tn_fail(&run->failure, TN_BAD_USAGE, "%s: '%.*s' at character %d is not a token id", out->label,
                           (int)(strcspn(at, ", \t\r\n") < 30 ? strcspn(at, ", \t\r\n") : 30), at, (int)(at - text) + 1);
        out->ids[out->count++] = (int)id;
        at = end;
    }
}

static int prompts_text(Run *run, const char *text, PromptIds *out) {
    if (run->options->chat)
        return tn_chat_encode(run, text, true, out);
    size_t length = strlen(text);
    int room = (int)(length < INT_MAX / 2 ? length : INT_MAX / 2) + 16;
    for (;;) {
        free(out->ids);
        out->ids = malloc((size_t)room * sizeof *out->ids);
        if (!out->ids)
            return prompts_no_memory(run);
        out->count = tn_encode(run->engine, text, length, 1, out->ids, room, &run->failure);
        if (out->count <= room)
            return out->count < 0 ? -1 : 0;
        room = out->count;
    }
}

static int prompts_add(Run *run, const char *label, const char *text, bool ids) {
    PromptIds *prompt = prompts_new(run, label);
    if (!prompt)
        return prompts_no_memory(run);
    if (ids ? prompts_ids(run, text, prompt) : prompts_text(run, text, prompt))
        return -1;
    if (prompt->count < 1)
        return tn_fail(&run->failure, TN_BAD_INPUT, "%s: the prompt has no tokens", label);
    if (prompt->count > tn_context(run->engine))
        return tn_fail(&run->failure, TN_BAD_INPUT, "%s: the prompt has %d tokens, but the context holds %d", label, prompt->count, tn_context(run->engine));
    return 0;
}

// A prompt a line; ids, when the model has no tokenizer.
static int prompts_batch(Run *run, const char *path) {
    bool standard = !strcmp(path, "-"), ids = !run->engine->tokenizer;
    FILE *file = standard ? stdin : fopen(path, "re");
    char *line = NULL, label[320];
    size_t room = 0;
    int number = 0, failed = 0;
    ssize_t length;
    if (!file)
        return tn_fail(&run->failure, TN_BAD_INPUT, "%s: %s", path, strerror(errno));
    while (!failed && (length = getline(&line, &room, file)) >= 0) {
        snprintf(label, sizeof label, "%.300s:%d", standard ? "standard input" : path, ++number);
        if (strlen(line) != (size_t)length) {
            failed = tn_fail(&run->failure, TN_BAD_INPUT, "%s: a NUL character in a prompt", label);
            break;
        }
        line[strcspn(line, "\r\n")] = 0;
        failed = prompts_add(run, label, line, ids);
    }
    if (!failed && ferror(file))
        failed = tn_fail(&run->failure, TN_BAD_INPUT, "%s: %s", path, strerror(errno));
    if (!failed && !number)
        failed = tn_fail(&run->failure, TN_BAD_INPUT, "%s: no prompts in it", path);
    free(line);
    if (!standard)
        fclose(file);
    return failed;
}

int tn_run_load_prompts(Run *run) {
    const RunOptions *options = run->options;
    char label[64];
    for (int i = 0; i < options->prompt_count; i++) {
        const RunPrompt *prompt = &options->prompts[i];
        if (options->prompt_count > 1)
            snprintf(label, sizeof label, "%s (prompt %d)", prompt->ids ? "--tokens" : "-p", i + 1);
        else
            snprintf(label, sizeof label, "%s", prompt->ids ? "--tokens" : "-p");
        if (prompts_add(run, label, prompt->text, prompt->ids))
            return -1;
    }
    return options->batch ? prompts_batch(run, options->batch) : 0;
}
