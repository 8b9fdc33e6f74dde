/* constraint.c: what a step costs under a grammar or a schema, on a vocabulary of any size.
 *
 *   bench/constraint TOKENIZER [SCHEMA TEXT]...      TOKENIZER: a directory
 *
 * Walks texts token by token, as a session would that generates them: a mask and a step for each. Prints microseconds a step, mean
 * and most, the first time (masks are made) and the second (they are found again); and what is done once: the words of the
 * vocabulary, compiling, opening. A SCHEMA that begins with no brace is GBNF. By processor time.
 */
#include "generate/constraint/constraint.h"

#include <time.h>

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void must(graft_status status, const graft_error *error)
{
    if (status != GRAFT_OK) {
        fprintf(stderr, "constraint: %s\n", error->message);
        exit(1);
    }
}

static void walk(struct matcher *m, const struct tokens *ids, const char *what)
{
    graft_error error = {0};
    double total = 0, most = 0;
    matcher_reset(m);
    for (size_t i = 0; i < ids->count; i++) {
        const uint32_t *mask;
        double begun = cpu_seconds();
        must(matcher_mask(m, &mask, &error), &error);
        bool allowed = matcher_accept(m, ids->ids[i]);
        double seconds = cpu_seconds() - begun;
        if (!allowed) {
            fprintf(stderr, "constraint: the text is none of the grammar, from token %zu on\n", i);
            exit(1);
        }
        total += seconds;
        most = seconds > most ? seconds : most;
    }
    printf("  %-10s %7.1f us a step, %8.1f at most\n", what, 1e6 * total / (double)ids->count,
           1e6 * most);
}

static void measure(const struct tokenizer *t, struct vocabulary *v, const char *grammar,
                    const char *text)
{
    graft_error error = {0};
    struct grammar *g = NULL;
    struct matcher *m = NULL;
    struct tokens ids = {.mem = NULL};
    const struct matcher_options options = {.vocabulary = v};
    double begun = cpu_seconds();
    must((grammar[0] == '{' ? grammar_from_schema : grammar_from_gbnf)(NULL, grammar,
                                                                       strlen(grammar), &g, &error),
         &error);
    double compiled = cpu_seconds();
    must(matcher_open(NULL, g, &options, &m, &error), &error);
    double opened = cpu_seconds();
    must(tokenizer_encode(t, text, strlen(text), 0, &ids, &error), &error);
    printf("%.60s...\n  compiled in %.0f us, opened in %.0f us, %zu tokens\n", grammar,
           1e6 * (compiled - begun), 1e6 * (opened - compiled), ids.count);
    walk(m, &ids, "first");
    walk(m, &ids, "second");
    matcher_close(&m);
    grammar_release(&g);
    tokens_free(&ids);
}

static const char *const cases[][2] = {
    {"{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"
     "\"integer\"},"
     "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},\"address\":{\"type\":"
     "\"object\",\"properties\":"
     "{\"street\":{\"type\":\"string\"},\"city\":{\"type\":\"string\"}},\"required\":[\"street\","
     "\"city\"]}},"
     "\"required\":[\"name\",\"age\",\"tags\",\"address\"]}",
     "{\"name\": \"Tom the quick brown fox\", \"age\": 42, \"tags\": [\"red apple\", \"green "
     "tea\", "
     "\"\xE4\xBD\xA0\xE5\xA5\xBD\"], \"address\": {\"street\": \"12 Long Road, behind the old "
     "mill\", "
     "\"city\": \"Paris\"}}"},
    {"{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":40},"
     "\"when\":{\"format\":"
     "\"date\"},\"text\":{\"type\":\"string\",\"maxLength\":400}}}",
     "{\"name\": \"Tom the quick brown fox\", \"when\": \"2024-02-29\", \"text\": \"It was a "
     "bright cold "
     "day in April, and the clocks were striking thirteen; the rest makes the text longer.\"}"},
    {"{}",
     "{\"name\": \"Tom\", \"namely\": [1, 2, {\"a\": \"The quick brown fox\"}], \"b\": {\"c\": "
     "null, \"d\": \"It was a bright cold day in April\"}}"},
    {"root ::= ([A-Z] [a-z]* (\" \" [a-z,]+)* \".\" \"\\n\"?)+",
     "It was a bright cold day, and the clocks were striking.\nThen came the rest, quietly."},
};

int main(int argc, char **argv)
{
    graft_error error = {0};
    struct tokenizer *t = NULL;
    struct vocabulary *v = NULL;
    if (argc < 2 || argc % 2 != 0) {
        fputs("usage: constraint TOKENIZER [SCHEMA TEXT]...\n", stderr);
        return 2;
    }
    must(tokenizer_open_dir(NULL, argv[1], &t, &error), &error);
    double begun = cpu_seconds();
    must(vocabulary_open(NULL, t, tokenizer_size(t), &v, &error), &error);
    printf("%d tokens, sorted in %.0f ms\n", (int)tokenizer_size(t), 1e3 * (cpu_seconds() - begun));
    for (size_t i = 0; argc == 2 && i < ARRAY_LEN(cases); i++) {
        measure(t, v, cases[i][0], cases[i][1]);
    }
    for (int i = 2; i + 1 < argc; i += 2) {
        measure(t, v, argv[i], argv[i + 1]);
    }
    vocabulary_release(&v);
    tokenizer_close(&t);
    return 0;
}
