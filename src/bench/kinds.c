/* kinds.c: the one list of benches: what each measures, which options it goes by, and how many tokens it has when
 * nobody says.
 *
 * Whatever lists benches (messages, the help of the command, what it refuses and what a shell completes) is made of this.
 */
#include "bench/bench_internal.h"

enum {
    MODEL = GRAFT_BENCH_MODEL,
    TOKENS = GRAFT_BENCH_TOKENS,
    CONTEXTS = GRAFT_BENCH_CONTEXTS,
    ROWS = GRAFT_BENCH_ROWS,
    SAMPLES = GRAFT_BENCH_SAMPLES,
    CACHE = GRAFT_BENCH_CACHE,
    RANK = GRAFT_BENCH_RANK,
    DRAFT = GRAFT_BENCH_DRAFT,
    ADAPTER = GRAFT_BENCH_RANK | GRAFT_BENCH_ADAPTER_TYPE | GRAFT_BENCH_DORA,
    PRESET = GRAFT_BENCH_ADAPTER_TYPE | GRAFT_BENCH_DORA
};

static const char OF_PROMPT[] = "of the prompt, default 512";

static const struct kind KINDS[] = {
    {{"limits", "what this machine reads from memory, and multiplies", SAMPLES, NULL},
     0,
     0,
     bench_limits},
    {{"decode", "tokens one after the other, of one sequence or several",
      MODEL | TOKENS | CONTEXTS | ROWS | SAMPLES | CACHE, "of a sample, default 4"},
     4,
     0,
     bench_decode},
    {{"prefill", "a prompt in one pass", MODEL | TOKENS | SAMPLES | CACHE, OF_PROMPT},
     512,
     0,
     bench_prefill},
    {{"attention", "attention alone, of decoded tokens and of prompts",
      MODEL | TOKENS | CONTEXTS | SAMPLES | CACHE, OF_PROMPT},
     512,
     0,
     bench_attention},
    {{"linear", "each kind of product of a block", MODEL | TOKENS | ROWS | SAMPLES, OF_PROMPT},
     512,
     0,
     bench_linear},
    {{"load", "opening a model, to its first token", MODEL | SAMPLES | CACHE, NULL},
     0,
     0,
     bench_load},
    {{"adapters", "tokens and prompts with adapters, beside none",
      MODEL | TOKENS | SAMPLES | CACHE | ADAPTER, OF_PROMPT},
     512,
     0,
     bench_adapters},
    {{"swap", "swapping adapters, and opening them", MODEL | CACHE | ADAPTER, NULL},
     0,
     0,
     bench_swap},
    {{"presets", "memory and time of the presets' adapters", MODEL | SAMPLES | CACHE | PRESET,
      NULL},
     0,
     0,
     bench_presets},
    {{"train", "a step of training, beside a prompt", MODEL | TOKENS | SAMPLES | CACHE | RANK,
      "of the prompt and of each example, default 512"},
     512,
     0,
     bench_train},
    {{"vectors", "making up data of vectors", SAMPLES, NULL}, 0, 0, bench_vectors},
    {{"stream", "being given tokens one by one, beside a loop", MODEL | TOKENS | SAMPLES | CACHE,
      "of an answer, default 10, 50, 100 and 1000"},
     0,
     0,
     bench_stream},
    {{"batch", "streams of an engine with adapters of their own",
      MODEL | TOKENS | SAMPLES | CACHE | ADAPTER, "of an answer, default 16"},
     16,
     0,
     bench_batch},
    {{"isolation", "what a stream waits while others come and go",
      MODEL | TOKENS | SAMPLES | CACHE | ADAPTER, "of an answer, at least 32, default 64"},
     64,
     32,
     bench_isolation},
    {{"speculative", "tokens guessed ahead, beside plain decoding",
      MODEL | TOKENS | SAMPLES | CACHE | DRAFT, "of an answer, default 96"},
     96,
     0,
     bench_speculative},
};

const graft_bench_kind *bench_kind_at(size_t i)
{
    return i < ARRAY_LEN(KINDS) ? &KINDS[i].known : NULL;
}

static const struct kind *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(KINDS); i++)
        if (strcmp(KINDS[i].known.name, name) == 0)
            return &KINDS[i];
    return NULL;
}

int bench_tokens(const char *bench)
{
    const struct kind *kind = find(bench);
    return kind ? kind->tokens : 0;
}

graft_status kind_find(const graft_bench_options *options, const struct kind **out,
                       graft_error *error)
{
    char known[256] = "";
    size_t at = 0;
    *out = find(options->bench);
    if (*out && options->tokens < (*out)->least)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "%d tokens are too few for bench %s: at least %d", options->tokens,
                         options->bench, (*out)->least);
    if (*out)
        return GRAFT_OK;
    for (size_t i = 0; i < ARRAY_LEN(KINDS) && at < sizeof known; i++)
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "",
                               KINDS[i].known.name);
    return error_set(error, GRAFT_INVALID_ARGUMENT, "no bench \"%s\"; known are %s", options->bench,
                     known);
}
