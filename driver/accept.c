// --accept: bounds on what an evaluation against another model measured, as one table that the parser, the report and the exit code walk.
#include "driver/accept.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct { const char *key, *what; bool least; double low, high; } bounds[ACCEPT_COUNT] = {
    [ACCEPT_KL] = {"kl", "KL, mean", false, 0, 1e9},
    [ACCEPT_KL_MAX] = {"klmax", "KL, worst", false, 0, 1e9},
    [ACCEPT_TOP1] = {"top1", "top-1 the same", true, 0, 1},
    [ACCEPT_PPL] = {"ppl", "perplexity / base's", false, 0, 1e9},
    [ACCEPT_KEPT] = {"kept", "right answers kept", true, 0, 1e9},
};

static int parse_one(const Command *command, const char *text, size_t length, Accept *accept) {
    char word[64], *end;
    if (length >= sizeof word) return usage_error(command, "--accept: '%.*s' is no bound such as kl=0.05", (int)length, text);
    memcpy(word, text, length), word[length] = 0;
    char *value = strchr(word, '=');
    const char *names[ACCEPT_COUNT];
    if (!value) return usage_error(command, "--accept: '%s' is no bound such as kl=0.05", word);
    *value++ = 0;
    for (int i = 0; i < ACCEPT_COUNT; i++) {
        names[i] = bounds[i].key;
        if (strcmp(word, bounds[i].key) != 0) continue;
        double number = strtod(value, &end);
        if (end == value || *end || !(number >= bounds[i].low && number <= bounds[i].high))
            return usage_error(command, "--accept %s: '%s' is not a number from %g to %g", word, value, bounds[i].low, bounds[i].high);
        if (accept->wanted[i]) return usage_error(command, "--accept: %s is given twice", word);
        accept->wanted[i] = true, accept->bound[i] = number;
        return EXIT_DONE;
    }
    const char *near = nearest_name(word, names, ACCEPT_COUNT);
    return usage_error(command, near ? "--accept: there is no bound '%s' (did you mean %s?)" : "--accept: there is no bound '%s': they are kl, klmax, top1, ppl, kept",
                       word, near);
}

int accept_parse(const Command *command, const char *text, Accept *accept) {
    *accept = (Accept){0};
    for (int code; text; text = *text ? text + 1 : NULL) {
        size_t length = strcspn(text, ",");
        if ((code = parse_one(command, text, length, accept)) != EXIT_DONE) return code;
        text += length;
        if (!*text) break;
    }
    return EXIT_DONE;
}

bool accept_any(const Accept *accept) {
    for (int i = 0; i < ACCEPT_COUNT; i++)
        if (accept->wanted[i]) return true;
    return false;
}

bool accept_report(const Accept *accept, const double measured[ACCEPT_COUNT], bool json, Text *out) {
    bool all = true;
    const char *between = ", \"accept\": {";
    if (!json) text_printf(out, "\n%-20s %12s %18s\n", "accepted?", "measured", "bound");
    for (int i = 0; i < ACCEPT_COUNT; i++) {
        if (!accept->wanted[i]) continue;
        bool kept = bounds[i].least ? measured[i] >= accept->bound[i] : measured[i] <= accept->bound[i];   // not a number: not kept
        all &= kept;
        if (json) {
            text_printf(out, "%s\"%s\": {\"measured\": ", between, bounds[i].key);
            if (isfinite(measured[i])) text_printf(out, "%.9g", measured[i]);
            else text_puts(out, "null");
            text_printf(out, ", \"bound\": %.9g, \"kept\": %s}", accept->bound[i], kept ? "true" : "false");
            between = ", ";
        } else
            text_printf(out, "%-20s %12.5g %8s %9.5g  %s\n", bounds[i].what, measured[i], bounds[i].least ? "at least" : "at most", accept->bound[i],
                        kept ? "yes" : "NO, it drifted");
    }
    if (json) text_printf(out, "}, \"accepted\": %s", all ? "true" : "false");
    return all;
}
