/* constraint.c: --grammar, --grammar-file, --json-schema: what answers are held to, by the names that llama.cpp gives them.
 */
#include "cli.h"

enum { KEY_GRAMMAR = 0x300, KEY_GRAMMAR_FILE };
enum { FILE_LIMIT = 1 << 20 };

static error_t parse_constraint(int key, char *arg, struct argp_state *state)
{
    struct cli_constraint *c = state->input;
    switch (key) {
    case KEY_GRAMMAR:
        c->grammar = arg;
        return 0;
    case KEY_GRAMMAR_FILE:
        c->grammar_file = cli_parse_name(state, "--grammar-file", arg);
        return 0;
    case 'j':
        c->schema = cli_parse_name(state, "--json-schema", arg);
        return 0;
    case ARGP_KEY_END:
        if ((c->grammar != NULL) + (c->grammar_file != NULL) + (c->schema != NULL) > 1) {
            argp_error(state, "--grammar, --grammar-file and --json-schema exclude each other");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option constraint_options[] = {
    {NULL, 0, NULL, 0, "Form of the answer:", 7},
    {"grammar", KEY_GRAMMAR, "TEXT", 0, "Answer with a text of this grammar, in GBNF", 7},
    {"grammar-file", KEY_GRAMMAR_FILE, "FILE", 0, "Answer with a text of the grammar in this file",
     7},
    {"json-schema", 'j', "JSON", 0,
     "Answer in JSON that this schema, or the one in a file, describes", 7},
    {0},
};
const struct argp cli_constraint_argp = {.options = constraint_options, .parser = parse_constraint};

bool cli_is_constrained(const struct cli_constraint *c)
{
    return c->grammar != NULL || c->grammar_file != NULL || c->schema != NULL;
}

/* A schema that is typed begins as one; all else is the name of a file. */
static bool is_json(const char *text)
{
    text += strspn(text, " \t\r\n");
    return *text == '{' || strcmp(text, "true") == 0;
}

int cli_open_constraint(graft_model *model, const struct cli_constraint *c, graft_constraint **out)
{
    graft_error error = {0};
    graft_status status = GRAFT_OK;
    char *read = NULL;
    bool typed = c->grammar != NULL || (c->schema != NULL && is_json(c->schema));
    const char *text = c->grammar != NULL ? c->grammar : c->schema;
    const char *path = typed ? NULL : c->schema != NULL ? c->schema : c->grammar_file;
    size_t size = typed ? strlen(text) : 0;
    if (!typed) {
        status = file_read(NULL, path, FILE_LIMIT, &read, &size, &error);
        text = read;
    }
    if (status == GRAFT_OK) {
        status = c->schema != NULL ? graft_constraint_from_schema(model, text, size, out, &error)
                                   : graft_constraint_from_gbnf(model, text, size, out, &error);
        if (status != GRAFT_OK && !typed) {
            snprintf(error.file, sizeof error.file, "%s", path);
        }
    }
    mem_free(NULL, read);
    return status == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

int cli_set_constraint(struct cli_session *s, const struct cli_constraint *c, int64_t max_tokens)
{
    graft_error error = {0};
    graft_constraint *constraint = NULL;
    if (!cli_is_constrained(c)) {
        return CLI_OK;
    }
    int opened = cli_open_constraint(s->model, c, &constraint);
    if (opened != CLI_OK) {
        return opened;
    }
    graft_status status = graft_session_set_constraint(s->session, constraint, &error);
    if (status == GRAFT_OK && max_tokens > 0) {
        status = graft_session_set_answer_limit(s->session, (size_t)max_tokens, &error);
    }
    graft_constraint_close(&constraint);
    return status == GRAFT_OK ? CLI_OK : cli_fail(&error);
}
