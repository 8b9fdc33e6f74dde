/* words.c: reading what somebody typed about adapters: words with quotes, ADAPTER=WEIGHT, names.
 *
 * Opens nothing. What it refuses could not work with any file: before anything was opened that is wrong use.
 */
#include "cli.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

static const char blanks[] = " \t";

/* ---- words ---- */

/* A backslash stands before what would end a word, or is itself. */
static bool is_escape(const char *at, bool quoted)
{
    return at[0] == '\\' && at[1] != '\0' && strchr(quoted ? "\"\\" : " \t,\"\\", at[1]) != NULL;
}

int cli_read_word(const char **text, char out[CLI_WORD])
{
    const char *at = *text;
    bool quoted = false;
    size_t n = 0;
    while (*at != '\0' && (quoted || strchr(" \t,", *at) == NULL)) {
        if (*at == '"') {
            quoted = !quoted;
            at++;
            continue;
        }
        at += is_escape(at, quoted) ? 1 : 0;
        if (n + 1 == CLI_WORD) {
            return cli_fail_text("a word is longer than %d bytes", CLI_WORD - 1);
        }
        out[n++] = *at++;
    }
    if (quoted) {
        return cli_fail_text("a quotation mark is not closed");
    }
    out[n] = '\0';
    *text = at;
    return CLI_OK;
}

/* ---- weights ---- */

bool cli_read_weight(const char *text, float *out)
{
    double value;
    if (!decimal_parse(text, &value))
        return false;
    *out = (float)value;
    return isfinite(*out);
}

/* ---- ADAPTER[=WEIGHT] ---- */

static bool is_path(const char *name)
{
    return strchr(name, '/') != NULL || path_exists(name);
}

/* Like a name in the home, NAME[@VERSION]: what is not looks for a file that is not there. */
static const char *name_fault(const char *name, size_t size)
{
    const char *at = memchr(name, '@', size);
    size_t length = at != NULL ? (size_t)(at - name) : size, digits;
    bool good = length > 0 && length <= 64 && isalnum((unsigned char)name[0]);
    for (size_t i = 0; i < length && good; i++) {
        good = isalnum((unsigned char)name[i]) || strchr("._-", name[i]) != NULL;
    }
    if (!good) {
        return "is neither a file nor an adapter's name (letters, digits, '.', '_', '-')";
    }
    for (int part = 0; at != NULL && part < 3; part++) {
        at++; /* '@' or '.' */
        digits = strspn(at, "0123456789");
        at += digits;
        if (digits == 0 || (part < 2 && *at != '.')) {
            return "names no version: MAJOR.MINOR.PATCH is one";
        }
    }
    return at == NULL || at == name + size || *at == '-' || *at == '+'
               ? NULL
               : "names no version: MAJOR.MINOR.PATCH is one";
}

bool cli_is_query(const char *text, size_t size)
{
    return (size > 5 && memcmp(text, "task:", 5) == 0) ||
           (size > 4 && memcmp(text, "tag:", 4) == 0);
}

bool cli_read_use(const char *text, struct cli_use *out, char why[CLI_WHY])
{
    *out = (struct cli_use){.name = text, .size = strlen(text), .weight = 1};
    const char *at = path_exists(text) ? NULL : strrchr(text, '=');
    if (at != NULL && at > text && strchr(at, '/') == NULL) {
        out->size = (size_t)(at - text);
        if (!cli_read_weight(at + 1, &out->weight)) {
            snprintf(why, CLI_WHY, "%.*s: \"%s\" is no weight: a decimal number is", (int)out->size,
                     text, at + 1);
            return false;
        }
    }
    return cli_check_name(out->name, out->size, why);
}

bool cli_check_name(const char *text, size_t size, char why[CLI_WHY])
{
    char *name = mem_strndup(NULL, text, size);
    bool plain = name != NULL && !cli_is_query(name, size) && !is_path(name);
    const char *fault = plain ? name_fault(name, size) : NULL;
    if (fault != NULL) {
        snprintf(why, CLI_WHY, "%s %s", name, fault);
    }
    mem_free(NULL, name);
    return fault == NULL;
}

/* ---- ways to compose ---- */

bool cli_read_composition(const char *text, graft_composition *way, double *t, char why[CLI_WHY])
{
    size_t size = strcspn(text, "=");
    int how = 0;
    const char *name;
    while ((name = graft_composition_name((graft_composition)how)) != NULL &&
           (strlen(name) != size || memcmp(name, text, size) != 0)) {
        how++;
    }
    if (name == NULL || (text[size] == '=' && how != GRAFT_COMPOSE_INTERPOLATE)) {
        snprintf(why, CLI_WHY,
                 "\"%.100s\" is none of average, weighted, sequential, most-recent, "
                 "interpolate[=T]",
                 text);
        return false;
    }
    *way = (graft_composition)how;
    *t = 0.5;
    if (text[size] == '=' && (!decimal_parse(text + size + 1, t) || !(*t >= 0 && *t <= 1))) {
        snprintf(why, CLI_WHY, "interpolate: \"%.100s\" is not a number from 0 to 1",
                 text + size + 1);
        return false;
    }
    return true;
}

/* ---- lines of a chat ---- */

bool cli_read_line(const char *line, struct cli_use *out, char path[CLI_WORD])
{
    char why[CLI_WHY];
    size_t n = strlen(line);
    while (n > 0 && strchr(blanks, line[n - 1]) != NULL) {
        n--;
    }
    if (n >= CLI_WORD) {
        return false;
    }
    memcpy(path, line, n);
    path[n] = '\0';
    if (!cli_read_use(path, out, why)) {
        return false;
    }
    path[out->size] = '\0';
    return path_exists(path);
}
