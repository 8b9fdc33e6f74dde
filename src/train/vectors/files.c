/* files.c: datasets of vectors as JSONL: the parser, which is pure, and the writer.
 *
 * A file is taken whole or refused with the first line that is wrong. Lines are parsed one by one, so that of all the JSON no
 * more than one line is in memory; how it lies there as vectors is vectors.c's.
 */
#include "train/vectors/vectors_internal.h"

#include <math.h>

/* Two times 65536 numbers of all the digits of a double are not half of it; jansson makes twenty times of what it reads. */
enum { MAX_LINE = 8 << 20 };

/* ---- reading -------------------------------------------------------------------------------- */

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for vectors");
}

/* The line at hand: its JSON, and room for what it says. */
struct line {
    struct mem *mem;
    int64_t number;
    json_t *root;
    float *input, *target;
};

static graft_status wrong(const struct line *l, graft_error *error, const char *what)
{
    return error_set(error, GRAFT_FORMAT, "line %lld: %s", (long long)l->number, what);
}

/* An array of numbers that floats hold: *out [*n], to be freed. */
static graft_status read_values(const struct line *l, const char *key, float **out, int *n,
                                graft_error *error)
{
    const json_t *array = json_object_get(l->root, key);
    const size_t size = json_array_size(array);
    char what[96];
    snprintf(what, sizeof what, "its \"%s\" is no array of 1 to %d numbers", key,
             VECTORS_MAX_WIDTH);
    if (!json_is_array(array) || !size || size > VECTORS_MAX_WIDTH)
        return wrong(l, error, what);
    *out = mem_calloc(l->mem, size, sizeof **out);
    if (!*out)
        return no_memory(error);
    for (size_t i = 0; i < size; i++) {
        const json_t *value = json_array_get(array, i);
        (*out)[i] = json_is_number(value) ? (float)json_number_value(value) : NAN;
        if (!isfinite((*out)[i]))
            return wrong(l, error, what);
    }
    *n = (int)size;
    return GRAFT_OK;
}

static graft_status check_keys(const struct line *l, graft_error *error)
{
    static const char *const KEYS[] = {"input", "target", "quality", "task", "domain"};
    const char *key;
    json_t *value;
    json_object_foreach(l->root, key, value)
    {
        bool known = false;
        for (size_t i = 0; i < ARRAY_LEN(KEYS); i++)
            known = known || !strcmp(key, KEYS[i]);
        if (!known)
            return error_set(error, GRAFT_FORMAT,
                             "line %lld: no member \"%.40s\" is known; there are input, target, "
                             "quality, task and domain",
                             (long long)l->number, key);
    }
    return GRAFT_OK;
}

static graft_status read_name(const struct line *l, const char *key, const char **out,
                              graft_error *error)
{
    const json_t *value = json_object_get(l->root, key);
    *out = json_string_value(value);
    if (!value || json_is_null(value))
        return GRAFT_OK;
    if (!*out || strlen(*out) != json_string_length(value) || strlen(*out) > VECTORS_MAX_NAME)
        return wrong(l, error, "its task or domain is no text of at most 200 bytes");
    return GRAFT_OK;
}

static graft_status read_quality(const struct line *l, float *out, graft_error *error)
{
    const json_t *value = json_object_get(l->root, "quality");
    *out = 1;
    if (!value || json_is_null(value))
        return GRAFT_OK;
    *out = json_is_number(value) ? (float)json_number_value(value) : NAN;
    return *out >= 0 && *out <= 1 ? GRAFT_OK
                                  : wrong(l, error, "its \"quality\" is no number from 0 to 1");
}

/* The first line says how wide inputs are, the first target how wide those. */
static graft_status check_widths(struct vectors **v, const struct line *l, int n_in, int n_out,
                                 graft_error *error)
{
    if (!*v)
        return vectors_open(l->mem, n_in, n_out ? n_out : n_in, v, error);
    if (n_in != (*v)->n_in)
        return error_set(error, GRAFT_FORMAT,
                         "line %lld: an input of %d values, and those before have %d",
                         (long long)l->number, n_in, (*v)->n_in);
    if (n_out && !(*v)->targets)
        (*v)->n_out = n_out;
    if (n_out && n_out != (*v)->n_out)
        return error_set(error, GRAFT_FORMAT,
                         "line %lld: a target of %d values, and those before have %d",
                         (long long)l->number, n_out, (*v)->n_out);
    return GRAFT_OK;
}

static graft_status take_line(struct vectors **v, struct line *l, graft_error *error)
{
    struct vector_example e = {.quality = 1};
    int n_in = 0, n_out = 0;
    const json_t *target = json_object_get(l->root, "target");
    if (!json_is_object(l->root))
        return wrong(l, error, "it is no JSON object");
    graft_status status = check_keys(l, error);
    if (status == GRAFT_OK)
        status = read_values(l, "input", &l->input, &n_in, error);
    if (status == GRAFT_OK && target && !json_is_null(target))
        status = read_values(l, "target", &l->target, &n_out, error);
    if (status == GRAFT_OK)
        status = read_quality(l, &e.quality, error);
    if (status == GRAFT_OK)
        status = read_name(l, "task", &e.task, error);
    if (status == GRAFT_OK)
        status = read_name(l, "domain", &e.domain, error);
    if (status == GRAFT_OK)
        status = check_widths(v, l, n_in, n_out, error);
    e.input = l->input;
    e.target = l->target;
    if (status != GRAFT_OK)
        return status;
    graft_error why = {0};
    status = vectors_add(*v, &e, &why);
    if (status == GRAFT_OK || status == GRAFT_NO_MEMORY)
        return status == GRAFT_OK ? status : no_memory(error);
    return error_set(error, status, "line %lld: %.200s", (long long)l->number, why.message);
}

static graft_status parse_line(struct vectors **v, struct mem *mem, int64_t number,
                               const char *text, size_t size, graft_error *error)
{
    struct line l = {.mem = mem, .number = number};
    graft_error why = {0};
    graft_status status = GRAFT_OK;
    if (size > MAX_LINE)
        return wrong(&l, error, "it is longer than 8 MiB");
    status = json_parse(text, size, &l.root, &why);
    if (status == GRAFT_FORMAT) /* jansson may call lack of memory so; what is broken stays so */
        status = json_parse(text, size, &l.root, &why);
    if (status == GRAFT_OK) {
        status = take_line(v, &l, error);
    } else if (status == GRAFT_FORMAT) {
        const char *from = strstr(why.message, "column");
        status = error_set(error, GRAFT_FORMAT, "line %lld: it is not JSON: %.200s",
                           (long long)number, from ? from : why.message);
    } else {
        status = no_memory(error);
    }
    mem_free(mem, l.input);
    mem_free(mem, l.target);
    json_decref(l.root);
    return status;
}

static bool is_blank(const char *text, size_t size)
{
    size_t i = 0;
    while (i < size && strchr(" \t\r", text[i]) && text[i])
        i++;
    return i == size;
}

graft_status vectors_parse(struct mem *mem, const char *text, size_t size, struct vectors **out,
                           graft_error *error)
{
    struct vectors *v = NULL;
    graft_status status = GRAFT_OK;
    int64_t number = 0;
    for (size_t at = 0; at < size && status == GRAFT_OK;) {
        const char *line = text + at, *newline = memchr(line, '\n', size - at);
        const size_t length = newline ? (size_t)(newline - line) : size - at;
        number++;
        if (!is_blank(line, length))
            status = parse_line(&v, mem, number, line, length, error);
        at += length + 1;
    }
    if (status == GRAFT_OK && !v)
        status = error_set(error, GRAFT_FORMAT, "there is no vector in it");
    if (status == GRAFT_OK)
        *out = v;
    else
        vectors_close(&v);
    return status;
}

graft_status vectors_read(struct mem *mem, const char *path, struct vectors **out,
                          graft_error *error)
{
    struct file_map map = {.data = NULL};
    graft_status status = file_map_open(&map, mem, path, MAP_SHARED_FILE, error);
    if (status == GRAFT_OK) {
        status = vectors_parse(mem, (const char *)map.data, map.size, out, error);
        if (status != GRAFT_OK)
            error_at_file(error, path);
    }
    file_map_close(&map);
    return status;
}

/* ---- writing -------------------------------------------------------------------------------- */

/* Nine digits bring a float back. What is no digit, sign or exponent is the locale's point, of one byte or several. */
static void put_number(struct buf *out, float value)
{
    char text[32];
    snprintf(text, sizeof text, "%.9g", (double)value);
    bool in_point = false;
    for (const char *c = text; *c; c++) {
        const bool point = !strchr("+-0123456789e", *c);
        if (!point)
            buf_putc(out, *c);
        else if (!in_point)
            buf_putc(out, '.');
        in_point = point;
    }
}

static void put_values(struct buf *out, const char *key, const float *values, int n)
{
    buf_printf(out, "\"%s\":[", key);
    for (int i = 0; i < n; i++) {
        if (i)
            buf_putc(out, ',');
        put_number(out, values[i]);
    }
    buf_putc(out, ']');
}

static void put_name(struct buf *out, const char *key, const char *name)
{
    json_t *text = name ? json_string(name) : NULL;
    char *dumped = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
    if (dumped)
        buf_printf(out, ",\"%s\":%s", key, dumped);
    else if (name)
        out->status = GRAFT_NO_MEMORY;
    free(dumped); /* from jansson */
    json_decref(text);
}

static void put_example(struct buf *out, const struct vectors *v, int64_t i)
{
    const struct vector_example e = vectors_at(v, i);
    buf_putc(out, '{');
    put_values(out, "input", e.input, v->n_in);
    if (e.target) {
        buf_putc(out, ',');
        put_values(out, "target", e.target, v->n_out);
    }
    buf_puts(out, ",\"quality\":");
    put_number(out, e.quality);
    put_name(out, "task", e.task);
    put_name(out, "domain", e.domain);
    buf_puts(out, "}\n");
}

graft_status vectors_write(const struct vectors *v, const char *path, graft_error *error)
{
    struct file_writer file = {0};
    struct buf line;
    if (!v->n)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "there are no vectors to write");
    buf_init(&line, v->mem, SIZE_MAX);
    graft_status status = file_writer_open(&file, v->mem, path, error);
    for (int64_t i = 0; i < v->n && status == GRAFT_OK; i++) {
        line.size = 0;
        put_example(&line, v, i);
        status = line.status == GRAFT_OK ? file_writer_write(&file, line.data, line.size, error)
                                         : no_memory(error);
    }
    if (status == GRAFT_OK)
        status = file_writer_commit(&file, error);
    file_writer_abort(&file);
    buf_free(&line);
    return status;
}
