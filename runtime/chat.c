// Conversations. The model's chat template is reduced to texts in the blob: chat.begin opens a conversation, or chat.system with a system message
// in it; chat.user and chat.assistant wrap a message ({text}), chat.generation opens the reply. Each turn adds only what is new to the sequence, so what was read stays in the KV cache:
// what follows {text} in chat.assistant closes the last reply, then the user's message, then chat.generation.
#include "runtime/run.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { char *data; size_t length, room; bool failed; } ChatText;

static void chat_add(ChatText *text, const char *bytes, size_t length) {
    if (text->room - text->length <= length) {          // room for the NUL as well
        size_t room = (text->length + length + 1) * 2;
        char *grown = length < SIZE_MAX / 4 ? realloc(text->data, room) : NULL;
        if (!grown) {
            text->failed = true;
            return;
        }
        text->data = grown;
        text->room = room;
    }
    memcpy(text->data + text->length, bytes, length);
    text->length += length;
    text->data[text->length] = 0;
}

static void chat_wrap(ChatText *text, const char *template, const char *message) {
    const char *hole = strstr(template, "{text}");
    chat_add(text, template, hole ? (size_t)(hole - template) : strlen(template));
    if (hole) {
        chat_add(text, message, strlen(message));
        chat_add(text, hole + 6, strlen(hole + 6));
    }
}

bool tn_chat_known(const Run *run) { return tn_blob_meta(run->blob, "chat.user", 0) && run->engine->tokenizer; }

// The whole text is encoded at once, so that its ids are those of the model's own template. The tokenizer's prefix goes in front unless
// the template wrote it already.
static int chat_encode_text(Run *run, const ChatText *text, bool first, PromptIds *out) {
    int room = (int)text->length + 16;
    out->ids = malloc((size_t)room * sizeof *out->ids);
    if (!out->ids)
        return tn_fail(&run->failure, TN_BAD_MACHINE, "no memory for a message");
    out->count = tn_encode(run->engine, text->data, text->length, first ? 1 : 2, out->ids, room, &run->failure);
    int bos = tokenizer_bos(run->engine->tokenizer);
    if (out->count > 1 && out->count <= room && first && bos >= 0 && out->ids[0] == bos && out->ids[1] == bos)
        out->count = tn_encode(run->engine, text->data, text->length, 2, out->ids, room, &run->failure);
    if (out->count > room)
        return tn_fail(&run->failure, TN_BAD_INPUT, "a message of %zu bytes has more tokens than bytes", text->length);
    return out->count < 0 ? -1 : 0;
}

int tn_chat_encode(Run *run, const char *message, bool first, PromptIds *out) {
    const char *begin = tn_blob_meta(run->blob, "chat.begin", 0), *user = tn_blob_meta(run->blob, "chat.user", 0);
    const char *assistant = tn_blob_meta(run->blob, "chat.assistant", 0), *generation = tn_blob_meta(run->blob, "chat.generation", 0);
    const char *hole = assistant ? strstr(assistant, "{text}") : NULL;
    ChatText text = {0};
    if (!tn_chat_known(run))
        return tn_fail(&run->failure, TN_BAD_INPUT, "%s has no chat template: run it without --chat", run->program->model);
    if (strlen(message) > 1 << 28)
        return tn_fail(&run->failure, TN_BAD_INPUT, "a message of %zu bytes is too long", strlen(message));
    const char *system = run->options->system, *opening = tn_blob_meta(run->blob, "chat.system", 0);
    if (system && !opening)
        return tn_fail(&run->failure, TN_BAD_INPUT, "the chat template of %s takes no system message", run->program->model);
    if (first && system)
        chat_wrap(&text, opening, system);
    else if (first && begin)
        chat_add(&text, begin, strlen(begin));
    if (!first && hole)
        chat_add(&text, hole + 6, strlen(hole + 6));
    chat_wrap(&text, user, message);
    if (generation)
        chat_add(&text, generation, strlen(generation));
    int failed = text.failed ? tn_fail(&run->failure, TN_BAD_MACHINE, "no memory for a message") : chat_encode_text(run, &text, first, out);
    free(text.data);
    return failed;
}

// ---- the loop on a terminal -----------------------------------------------------------------------------------------------

static volatile sig_atomic_t chat_interrupted;   // Ctrl-C ends a reply, not the chat

static void chat_on_interrupt(int signal_number) {
    (void)signal_number;
    chat_interrupted = 1;
}

static int chat_print(void *to, int sequence, const char *text, size_t length) {
    (void)sequence;
    fwrite(text, 1, length, to);
    fflush(to);
    return chat_interrupted || ferror((FILE *)to);
}

// Queues one message; when the context is full, the conversation starts over with it.
static int chat_queue(Run *run, int sequence, const char *message) {
    PromptIds prompt = {0};
    bool first = tn_length(run->engine, sequence) == 0;
    int failed = tn_chat_encode(run, message, first, &prompt);
    if (!failed && !first && prompt.count >= tn_context(run->engine) - tn_length(run->engine, sequence)) {
        fprintf(stderr, "note: the context of %d tokens is full; the conversation starts over\n", tn_context(run->engine));
        free(prompt.ids);
        prompt = (PromptIds){0};
        failed = tn_trim(run->engine, sequence, 0, &run->failure) || tn_chat_encode(run, message, true, &prompt);
    }
    if (!failed)
        failed = tn_add(run->engine, sequence, prompt.ids, prompt.count, TN_WANT_LAST, &run->failure);
    free(prompt.ids);
    return failed;
}

static int chat_reply(Run *run, int sequence, bool terminal) {
    tn_generation how = tn_run_generation(run);
    int result = 0;
    how.on_text = chat_print;
    how.to = stdout;
    chat_interrupted = 0;
    int failed = tn_generate(run->engine, &sequence, 1, &how, &result, &run->failure);
    if (result == TN_STOPPED_AT_CONTEXT && terminal)
        fprintf(stderr, "\nnote: the context of %d tokens is full", tn_context(run->engine));
    fputs(terminal ? "\n\n" : "\n", stdout);
    return failed || tn_run_flush(run);
}

int tn_run_chat(Run *run) {
    bool terminal = isatty(STDIN_FILENO);
    char *line = NULL;
    size_t room = 0;
    int failed = 0, sequence;
    if (!tn_chat_known(run))
        return tn_fail(&run->failure, TN_BAD_INPUT, "%s has no chat template; give a prompt to continue with -p TEXT", run->program->model);
    if ((sequence = tn_sequence_new(run->engine, &run->failure)) < 0)
        return -1;
    struct sigaction action = {.sa_handler = chat_on_interrupt}, before;
    sigaction(SIGINT, &action, &before);
    if (terminal)
        fprintf(stderr, "%s. Ctrl-C ends a reply, /new starts over, Ctrl-D ends.\n", run->program->model);
    for (;;) {
        if (terminal)
            fputs("> ", stderr);
        chat_interrupted = 0;
        ssize_t length = getline(&line, &room, stdin);
        if (length < 0 && chat_interrupted && terminal && !feof(stdin)) {
            clearerr(stdin);
            break;                                   // Ctrl-C at the prompt
        }
        if (length < 0)
            break;
        line[strcspn(line, "\r\n")] = 0;
        if (!*line)
            continue;
        if (!strcmp(line, "/new"))
            failed = tn_trim(run->engine, sequence, 0, &run->failure);
        else
            failed = chat_queue(run, sequence, line) || chat_reply(run, sequence, terminal);
        if (failed && run->failure.code == TN_BAD_INPUT && terminal) {      // a message that is too long: the next may be shorter
            fprintf(stderr, "error: %s\n", run->failure.text);
            run->failure = (tn_failure){0};
            failed = 0;
        }
        if (failed)
            break;
    }
    if (terminal)
        fputc('\n', stderr);
    sigaction(SIGINT, &before, NULL);
    free(line);
    return failed;
}
