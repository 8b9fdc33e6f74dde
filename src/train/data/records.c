/* records.c: where the records of a file begin and end: lines, or the elements of one JSON array.
 *
 * Pure, and without recursion: elements are found by counting brackets outside of strings; what is in them is for the
 * JSON parser to judge. So a broken record costs itself and not those behind it.
 */
#include "train/data/data_internal.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_space(struct records *r)
{
    while (r->at < r->bytes.size && is_space(r->bytes.data[r->at])) {
        r->line += r->bytes.data[r->at++] == '\n';
    }
}

void records_begin(struct records *r, const char *bytes, size_t size)
{
    *r = (struct records){.bytes = {bytes, size}, .line = 1};
    if (size >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0) {
        r->at = 3;
    }
    skip_space(r);
    if (r->at < size && bytes[r->at] == '[') {
        r->array = true;
        r->at++;
    }
}

/* Moves behind an element, to the comma or bracket that ends it; false: the file ends before. */
static bool skip_element(struct records *r)
{
    int64_t depth = 0;
    bool quoted = false;
    for (; r->at < r->bytes.size; r->at++) {
        char c = r->bytes.data[r->at];
        r->line += c == '\n';
        if (quoted) {
            if (c == '\\' && r->at + 1 < r->bytes.size) {
                r->line += r->bytes.data[++r->at] == '\n';
            }
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if (depth > 0 && (c == '}' || c == ']')) {
            depth--;
        } else if (depth == 0 && (c == ',' || c == ']')) {
            return true;
        }
    }
    return false;
}

/* The array is over: false, but for one word about what follows it. */
static bool end_array(struct records *r, const char **broken)
{
    r->ended = true;
    r->at++;
    skip_space(r);
    *broken = r->at < r->bytes.size ? "something follows the end of the array" : NULL;
    return *broken != NULL;
}

static bool next_element(struct records *r, struct text *out, int64_t *line, const char **broken)
{
    skip_space(r);
    *line = r->line;
    *out = (struct text){r->bytes.data + r->at, 0};
    if (r->ended) {
        return false;
    }
    if (r->at < r->bytes.size && r->bytes.data[r->at] == ']') {
        return end_array(r, broken);
    }
    size_t begin = r->at;
    bool closed = skip_element(r);
    out->size = r->at - begin;
    if (!closed) {
        r->ended = true;
        *broken = "the array is not closed: the file ends in the middle of it";
        return true;
    }
    r->at += r->bytes.data[r->at] == ',';
    return true;
}

static bool next_line(struct records *r, struct text *out, int64_t *line)
{
    skip_space(r);
    if (r->at == r->bytes.size) {
        return false;
    }
    const char *begin = r->bytes.data + r->at;
    const char *newline = memchr(begin, '\n', r->bytes.size - r->at);
    *line = r->line;
    *out =
        (struct text){begin, newline != NULL ? (size_t)(newline - begin) : r->bytes.size - r->at};
    r->at += out->size;
    while (out->size > 0 && is_space(begin[out->size - 1])) {
        out->size--;
    }
    return true;
}

bool records_next(struct records *r, struct text *out, int64_t *line, const char **broken)
{
    *broken = NULL;
    return r->array ? next_element(r, out, line, broken) : next_line(r, out, line);
}
