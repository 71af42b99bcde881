// tenon: the command. It finds the subcommand; each has a file of its own.
#include "codegen/outfile.h"
#include "driver/driver.h"
#include "runtime/blob.h"

#include <signal.h>
#include <string.h>

static const Command *const commands[] = {&import_command, &check_command, &compile_command, &run_command,
                                          &eval_command,   &bench_command, &explain_command, &tune_command,
                                          &opt_command,    &targets_command};

static const Command *find_command(const char *name) {
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    return NULL;
}

static void help(FILE *to) {
    fputs("tenon cuts a transformer to fit one machine: it compiles a model, described in YAML, together with its weights.\n\n"
          "usage: tenon COMMAND …\n\n",
          to);
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        fprintf(to, "  %-8s %-*s %s\n", commands[i]->name, column(commands[i]->arguments, 28), commands[i]->arguments, commands[i]->meaning);
    fputs("\nMODEL is a model description (.yaml), a .gguf file, or a Hugging Face folder.\n\n"
          "Examples:\n"
          "  tenon run smollm2.gguf -p \"Why is the sky blue?\"\n"
          "      compile in memory and answer\n"
          "  tenon compile smollm2.gguf -o smollm2 && ./smollm2 -p \"Why is the sky blue?\"\n"
          "      one executable with the weights inside, which needs nothing else\n"
          "  tenon import smollm2.gguf -o model.yaml && tenon check model.yaml\n"
          "      the model as text, to read and to change\n\n"
          "tenon COMMAND --help explains a command; tenon --version says which one this is.\n"
          "Exit codes: 0 done, 1 the input is wrong, 2 the command line is wrong, 3 this machine cannot.\n",
          to);
}

// Interrupted: what is half written goes.
static void on_end(int number) {
    outfile_drop_all();
    signal(number, SIG_DFL);
    raise(number);
}

static void install_handlers(void) {
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < COUNT_OF(ends); i++)
        if (signal(ends[i], on_end) == SIG_IGN) signal(ends[i], SIG_IGN);
    tn_guard_install(); // a file that is cut short while it is read is a message
    tn_guard_at_end(outfile_drop_all);
}

int main(int argc, char **argv) {
    install_handlers();
    if (argc < 2) {
        help(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || (strcmp(name, "help") == 0 && argc == 2)) {
        help(stdout);
        return print_out(&(Text){0});
    }
    if (strcmp(name, "--version") == 0) {
        puts("tenon " TENON_VERSION);
        return print_out(&(Text){0});
    }
    bool asks = strcmp(name, "help") == 0;
    const Command *command = find_command(asks ? argv[2] : name);
    if (command && asks) return command->run(command, 2, (char *[]){argv[2], "--help", NULL});
    if (command) return command->run(command, argc - 1, argv + 1);
    const char *names[COUNT_OF(commands)];
    for (size_t i = 0; i < COUNT_OF(commands); i++) names[i] = commands[i]->name;
    name = asks ? argv[2] : name;
    const char *near = nearest_name(name, names, COUNT_OF(commands));
    return usage_error(NULL, near ? "there is no command %s (did you mean %s?)" : "there is no command %s", name, near);
}
