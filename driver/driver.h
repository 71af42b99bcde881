// The `tenon` command: what its subcommands share.
#ifndef TENON_DRIVER_DRIVER_H
#define TENON_DRIVER_DRIVER_H
#include "ir/base.h"
#include "runtime/cli.h"

enum { EXIT_DONE, EXIT_INPUT, EXIT_USAGE, EXIT_MACHINE };

typedef struct Command Command;
struct Module;
struct Command {
    const char *name, *arguments, *meaning;                    // "compile", "MODEL -o OUT", one line
    const char *help;                                          // what it does, in a few lines
    const char *examples;                                      // "tenon compile …\n    what that does\n"
    int (*run)(const Command *command, int argc, char **argv); // argv[0] is the subcommand
};
extern const Command import_command, check_command, compile_command, run_command, eval_command, bench_command, explain_command, opt_command,
    targets_command, tune_command;

// ---- options ----------------------------------------------------------------------------------------------------------

typedef enum { OPTION_FLAG, OPTION_TEXT, OPTION_SIZE, OPTION_COUNT } OptionKind; // into: bool, const char *, uint64_t (K, M, G), int ≥ 0

typedef struct {
    const char *name; // "--target", or "-o"
    OptionKind kind;
    void *into;
    const char *argument; // "T"; NULL for flags
    const char *help;
} Option;

enum { MAX_OPTIONS = 64, MAX_GIVEN = 128 };

typedef struct {
    const Command *command;
    Option options[MAX_OPTIONS];
    int count;
    RunOptions *run;             // NULL: the command takes none of them
    struct BuildOptions *build;  // checked when all is read; NULL: the command takes none of them
    const char **arguments;      // positional ones: room for argument_room, argument_count found
    int argument_room, argument_count, argument_least;
    const char *given[MAX_GIVEN]; // the words that named an option, as they stood: "--kv", "--kv=int8"
    int given_count;
} Options;

void option_add(Options *options, const char *name, OptionKind kind, void *into, const char *argument, const char *help);
// -1: go on; else the exit code (--help was printed, or the command line is wrong and that was said).
int options_parse(Options *options, int argc, char **argv);
bool option_given(const Options *options, const char *name);
bool option_known(const Options *options, const char *name);
int option_set(Options *options, const char *name, const char *value); // as if `name value` had been given; EXIT_DONE, or EXIT_USAGE after a message
int usage_error(const Command *command, const char *format, ...) PRINTF_LIKE(2, 3); // prints; EXIT_USAGE
void usage_hint(const Command *command);                                            // prints how it is used; NULL: tenon itself
void command_help(const Options *options, FILE *to);

// How a model becomes code: the options of every command that compiles.
typedef struct BuildOptions {
    const char *kv;
    const char *target, *quantize, *group, *activation_group, *calibrate, *bits, *passes, *skip, *print_after;
    bool symmetric, inputs, timing, json; // inputs: of a calibration run
    const char *budget_bits, *budget_kl; // of --quant auto
    const char *sparse;                  // whether pruned matrices lie without their zeros
    const char *prune;                   // what becomes zero or goes (passes/prune_spec.c)
    const struct Importance *importance; // by which: what a calibration run saw (driver/prune.c)
    const char *latency;                 // milliseconds that a token may take here (latency.c)
    const char *profile; bool show;      // --profile: ordinary options (profile.c); --show prints them
    int step_tokens, step_sequences;     // most in a step; 0: the default
    uint64_t cache_size;
    uint64_t memory;             // of a compiled program; 0: no bound
    bool no_cache, reference, no_tuning, no_fusion;
    bool several;                // the command takes several targets
    // Called after each pass (with the module as it then is), after the model is read (likewise) and after every other phase (NULL).
    void (*observe)(void *to, const char *phase, double milliseconds, const struct Module *module);
    void *observe_to;
} BuildOptions;
void build_options_init(BuildOptions *build);
void build_options_add(Options *options, BuildOptions *build); // --target --quant
void pass_options_add(Options *options, BuildOptions *build);  // --passes --skip-pass --print-after --timing
int build_options_check(const Command *command, const BuildOptions *build); // EXIT_USAGE: they name what there is not, and that was said
int profile_apply(Options *options);                           // profile.c: sets what --profile says and nobody gave; -1: go on; else the exit code
void cache_options_add(Options *options, BuildOptions *build); // --cache-size --no-cache
void reference_option_add(Options *options, BuildOptions *build); // --reference: for commands that run what they build

// ---- small things -------------------------------------------------------------------------------------------------------

// Prints the messages on standard error and frees the sink; EXIT_INPUT when there is an error in it, else EXIT_DONE.
int finish(Diags *diags);
bool read_text(const char *path, Text *text, Diags *diags); // a whole file; "-": standard input
int column(const char *text, int width);                    // for printf's %-*s: the width in bytes of so many characters
int print_out(const Text *text);                            // on standard output; EXIT_INPUT (and a message) when that fails
void json_text(Text *out, const char *text);                // a JSON string with its quotes
double seconds_now(void);

#endif
