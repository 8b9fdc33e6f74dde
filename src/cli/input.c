/* input.c: where a verb's text comes from: -p, -f, standard input; and lists of token ids. */
#include "cli.h"

#include <errno.h>
#include <unistd.h>

static error_t parse_input(int key, char *arg, struct argp_state *state)
{
    struct cli_input *input = state->input;
    switch (key) {
    case 'p':
        input->prompt = arg;
        return 0;
    case 'f':
        input->file = cli_parse_name(state, "--file", arg);
        return 0;
    case ARGP_KEY_END:
        if (input->prompt != NULL && input->file != NULL) {
            argp_error(state, "give either -p or -f, not both");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option input_options[] = {
    {NULL, 0, NULL, 0, "Input:", 1},
    {"prompt", 'p', "TEXT", 0, "The text itself", 1},
    {"file", 'f', "FILE", 0, "Read it from FILE (- : standard input)", 1},
    {0},
};
const struct argp cli_input_argp = {.options = input_options, .parser = parse_input};

static int read_stream(FILE *in, const char *name, char **out, size_t *size)
{
    struct buf text;
    buf_init(&text, NULL, CLI_INPUT_LIMIT);
    char chunk[1 << 16];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, in)) > 0) {
        buf_append(&text, chunk, n);
    }
    buf_append(&text, "", 0);
    if (ferror(in)) {
        buf_free(&text);
        return cli_fail_text("%s: %s", name, strerror(errno));
    }
    if (text.status != GRAFT_OK) {
        graft_status status = text.status;
        buf_free(&text);
        return cli_fail_text(
            "%s: %s", name, status == GRAFT_LIMIT ? "input is larger than 1 GiB" : "out of memory");
    }
    *size = text.size;
    *out = buf_take(&text, NULL);
    if (*out == NULL && (*out = mem_calloc(NULL, 1, 1)) == NULL) {
        return cli_fail_text("out of memory");
    }
    return CLI_OK;
}

int cli_read_input(const struct cli_input *input, char **out, size_t *size)
{
    if (input->prompt != NULL) {
        *size = strlen(input->prompt);
        *out = mem_strndup(NULL, input->prompt, *size);
        return *out != NULL ? CLI_OK : cli_fail_text("out of memory");
    }
    if (input->file != NULL && strcmp(input->file, "-") != 0) {
        FILE *in = fopen(input->file, "rb");
        if (in == NULL) {
            return cli_fail_text("%s: %s", input->file, strerror(errno));
        }
        int status = read_stream(in, input->file, out, size);
        fclose(in);
        return status;
    }
    if (input->file == NULL && isatty(STDIN_FILENO)) {
        fputs("graft: no text given: use -p TEXT, -f FILE, or pipe it in\n", stderr);
        return CLI_USAGE;
    }
    return read_stream(stdin, "standard input", out, size);
}

/* {"ids": [...]} as `tokenize --json` prints it. */
static int parse_ids_json(const char *text, graft_token_id **ids, size_t *n)
{
    graft_error error = {0};
    json_t *json = NULL;
    if (json_parse(text, strlen(text), &json, &error) != GRAFT_OK) {
        cli_fail(&error);
        return CLI_USAGE;
    }
    const json_t *list = json_object_get(json, "ids");
    size_t count = json_array_size(list);
    graft_token_id *found = mem_calloc(NULL, count + 1, sizeof *found);
    if (found == NULL) {
        json_decref(json);
        return cli_fail_text("out of memory");
    }
    bool good = json_is_array(list);
    for (size_t i = 0; good && i < count; i++) {
        const json_t *id = json_array_get(list, i);
        json_int_t value = json_integer_value(id);
        good = json_is_integer(id) && value >= 0 && value <= INT32_MAX;
        found[i] = (graft_token_id)value;
    }
    json_decref(json);
    if (!good) {
        mem_free(NULL, found);
        cli_fail_text("expected {\"ids\": [...]} with token ids");
        return CLI_USAGE;
    }
    *ids = found;
    *n = count;
    return CLI_OK;
}

/* Commas, spaces, and the brackets of a pasted list. */
static const char *const BETWEEN_IDS = ", \n\t\r[]";

int cli_parse_ids(const char *text, graft_token_id **ids, size_t *n)
{
    if (text[strspn(text, " \t\r\n")] == '{') {
        return parse_ids_json(text, ids, n);
    }
    /* Each id takes two bytes at least, with what parts it from the next. */
    graft_token_id *list = mem_calloc(NULL, strlen(text) / 2 + 1, sizeof *list);
    size_t count = 0;
    if (list == NULL) {
        return cli_fail_text("out of memory");
    }
    for (const char *p = text + strspn(text, BETWEEN_IDS); *p != '\0';
         p += strspn(p, BETWEEN_IDS)) {
        char *end;
        errno = 0;
        long value = strtol(p, &end, 10);
        bool whole = *end == '\0' || strchr(BETWEEN_IDS, *end) != NULL;
        if (end == p || !whole || errno != 0 || value < 0 || value > INT32_MAX) {
            mem_free(NULL, list);
            cli_fail_text("\"%.20s\" is no token id", p);
            return CLI_USAGE;
        }
        list[count++] = (graft_token_id)value;
        p = end;
    }
    *ids = list;
    *n = count;
    return CLI_OK;
}
