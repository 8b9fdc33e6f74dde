/* main.c: the table of verbs, and what `graft` says without one.
 *
 * Each verb parses its own options with argp; argv[0] becomes "graft VERB" so that help and errors
 * name the command as it is typed.
 */
#include "cli.h"

#include <langinfo.h>
#include <locale.h>
#include <signal.h>

struct verb {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
};

static const struct verb verbs[] = {
    {"run", "answer one prompt", verb_run},
    {"chat", "talk with a model, turn by turn", verb_chat},
    {"batch", "answer a file of requests, many at once", verb_batch},
    {"classify", "score texts with a classifier", verb_classify},
    {"perplexity", "how well a model predicts a text", verb_perplexity},
    {"logits", "raw scores of the next token", verb_logits},
    {"tokenize", "text to token ids", verb_tokenize},
    {"detokenize", "token ids to text", verb_detokenize},
    {"inspect", "what is in a model, a safetensors or a GGUF file", verb_inspect},
    {"quantize", "write a model in another type or format", verb_quantize},
    {"adapter", "make, convert and register adapters", verb_adapter},
    {"train", "make an adapter of examples", verb_train},
    {"merge", "several adapters into one", verb_merge},
    {"fuse", "write a model with adapters in its weights", verb_fuse},
    {"router", "learn which adapter a prompt asks for", verb_router},
    {"data", "look at training data", verb_data},
    {"eval", "how good adapters are at files of examples", verb_eval},
    {"bench", "how fast, beside the limits of this machine", verb_bench},
    {"version", "build, processor tiers, cores", verb_version},
    {NULL, NULL, NULL},
};

static void print_help(FILE *out)
{
    fputs("Usage: graft VERB [OPTION...]\n"
          "The runtime for low-rank adapters: run, inspect and convert language models on CPUs.\n\n"
          "Verbs:\n",
          out);
    for (const struct verb *v = verbs; v->name != NULL; v++) {
        fprintf(out, "  %-12s %s\n", v->name, v->summary);
    }
    fputs(
        "\nExamples:\n"
        "  graft run -p \"Tell me a story about a cat.\"     the model that ships\n"
        "  graft chat -m DIR -a ./my-coder                 with an adapter; /adapter swaps it\n"
        "  graft quantize -m DIR -o model.gguf --type q8_0\n\n"
        "`graft VERB --help` tells a verb's options. Exit status: 0 done, 1 failed, 2 wrong use.\n",
        out);
}

/* NULL: there is none, and that was said. */
static const struct verb *find_verb(const char *name)
{
    for (const struct verb *v = verbs; v->name != NULL; v++) {
        if (strcmp(v->name, name) == 0) {
            return v;
        }
    }
    fprintf(stderr, "graft: no verb \"%s\"; `graft --help` lists them\n", name);
    return NULL;
}

/* argv[0] becomes the verb's name as it is typed. */
static int run_verb(const struct verb *verb, int argc, char **argv)
{
    char name[64];
    snprintf(name, sizeof name, "graft %s", verb->name);
    argv[0] = name;
    int status = cli_finish_output(verb->run(argc, argv));
    return status == CLI_FAILED && cli_ending() != 0 ? 128 + cli_ending() : status;
}

/* `graft help VERB` is `graft VERB --help`. */
static int run_help(int argc, char **argv)
{
    if (argc < 3) {
        print_help(stdout);
        return cli_finish_output(CLI_OK);
    }
    const struct verb *verb = find_verb(argv[2]);
    char *help[] = {NULL, "--help", NULL};
    return verb != NULL ? run_verb(verb, 2, help) : CLI_USAGE;
}

/* The line editor reads characters. Numbers stay as in C. A system that says nothing of its language
 * has UTF-8 all the same these days. */
static void read_characters(void)
{
    if (setlocale(LC_CTYPE, "") == NULL || strcmp(nl_langinfo(CODESET), "ANSI_X3.4-1968") == 0) {
        setlocale(LC_CTYPE, "C.UTF-8");
    }
}

int main(int argc, char **argv)
{
    read_characters();
    argp_err_exit_status = CLI_USAGE;
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is reported by cli_finish_output */
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow, like a full disk, by who writes it */
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    const char *first = argv[1];
    if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0 || strcmp(first, "-?") == 0 ||
        strcmp(first, "help") == 0) {
        return run_help(argc, argv);
    }
    if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0) {
        first = "version";
    }
    const struct verb *verb = find_verb(first);
    return verb != NULL ? run_verb(verb, argc - 1, argv + 1) : CLI_USAGE;
}
