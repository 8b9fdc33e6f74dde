/* yaml.c: the part of YAML that configurations use, as JSON.
 *
 * Mappings, sequences and scalars of one document. Anchors, aliases and tags are refused: no configuration needs them, and a
 * few lines of aliases grow to gigabytes. Words without quotes are what YAML 1.2 says of them, so that "no" is a text, and
 * 1e-4, which readers of YAML 1.1 take for one, a number.
 */
#include "formats/formats.h"

#include <errno.h>
#include <yaml.h>

enum { MAX_LEVELS = 16, MAX_VALUES = 10000 };

/* ---- scalars ------------------------------------------------------------------------------- */

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for settings");
}

static bool is_any(const char *text, size_t size, const char *const words[4])
{
    for (int i = 0; i < 4 && words[i]; i++)
        if (strlen(words[i]) == size && !memcmp(words[i], text, size))
            return true;
    return false;
}

json_t *yaml_plain(const char *text, size_t size)
{
    static const char *const none[4] = {"null", "Null", "NULL", "~"};
    static const char *const yes[4] = {"true", "True", "TRUE"};
    static const char *const no[4] = {"false", "False", "FALSE"};
    double x;
    char copy[64];
    if (size == 0 || is_any(text, size, none))
        return json_null();
    if (is_any(text, size, yes))
        return json_true();
    if (is_any(text, size, no))
        return json_false();
    if (size >= sizeof copy || memchr(text, 0, size))
        return json_stringn(text, size);
    snprintf(copy, sizeof copy, "%.*s", (int)size, text);
    if (!decimal_parse(copy, &x))
        return json_stringn(text, size);
    char *end;
    errno = 0;
    long long whole = strtoll(copy, &end, 10);
    return *end == 0 && !errno ? json_integer(whole) : json_real(x);
}

/* ---- the document -------------------------------------------------------------------------- */

struct yaml {
    yaml_parser_t parser;
    yaml_event_t event; /* the one at hand */
    bool has_event;
    int values;
    graft_error *error;
};

static size_t line_of(const struct yaml *y)
{
    return y->has_event ? y->event.start_mark.line + 1 : y->parser.mark.line + 1;
}

static graft_status refuse(struct yaml *y, graft_status status, const char *what)
{
    return error_set(y->error, status, "YAML, line %zu: %s", line_of(y), what);
}

static graft_status next(struct yaml *y)
{
    if (y->has_event)
        yaml_event_delete(&y->event);
    y->has_event = false;
    if (!yaml_parser_parse(&y->parser, &y->event)) {
        if (y->parser.error == YAML_MEMORY_ERROR)
            return no_memory(y->error);
        return error_set(y->error, GRAFT_FORMAT, "YAML, line %zu: %.200s",
                         y->parser.problem_mark.line + 1,
                         y->parser.problem ? y->parser.problem : "it cannot be read");
    }
    y->has_event = true;
    return GRAFT_OK;
}

static graft_status read_node(struct yaml *y, int level, json_t **out);

/* libyaml has seen to it that texts are UTF-8. */
static graft_status read_scalar(struct yaml *y, json_t **out)
{
    const char *text = (const char *)y->event.data.scalar.value;
    size_t size = y->event.data.scalar.length;
    bool plain = y->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (y->event.data.scalar.anchor || y->event.data.scalar.tag)
        return refuse(y, GRAFT_UNSUPPORTED, "anchors and tags are not read");
    *out = plain ? yaml_plain(text, size) : json_stringn(text, size);
    return *out ? GRAFT_OK : no_memory(y->error);
}

static graft_status read_key(struct yaml *y, const json_t *object, char **out)
{
    if (y->event.type != YAML_SCALAR_EVENT || y->event.data.scalar.anchor ||
        y->event.data.scalar.tag)
        return refuse(y, GRAFT_UNSUPPORTED, "a key is a word or a text, without anchor and tag");
    const char *text = (const char *)y->event.data.scalar.value;
    if (strlen(text) != y->event.data.scalar.length)
        return refuse(y, GRAFT_FORMAT, "a key with a NUL in it");
    if (json_object_get(object, text))
        return error_set(y->error, GRAFT_FORMAT, "YAML, line %zu: \"%.80s\" is there twice",
                         line_of(y), text);
    *out = mem_strdup(NULL, text);
    return *out ? GRAFT_OK : no_memory(y->error);
}

static graft_status read_mapping(struct yaml *y, int level, json_t *object)
{
    graft_status status;
    while ((status = next(y)) == GRAFT_OK && y->event.type != YAML_MAPPING_END_EVENT) {
        char *key = NULL;
        json_t *value = NULL;
        status = read_key(y, object, &key);
        status = status == GRAFT_OK ? next(y) : status;
        status = status == GRAFT_OK ? read_node(y, level + 1, &value) : status;
        if (status == GRAFT_OK && json_object_set_new(object, key, value) != 0)
            status = no_memory(y->error);
        mem_free(NULL, key);
        if (status != GRAFT_OK)
            return status;
    }
    return status;
}

static graft_status read_sequence(struct yaml *y, int level, json_t *array)
{
    graft_status status;
    while ((status = next(y)) == GRAFT_OK && y->event.type != YAML_SEQUENCE_END_EVENT) {
        json_t *value = NULL;
        status = read_node(y, level + 1, &value);
        if (status == GRAFT_OK && json_array_append_new(array, value) != 0)
            status = no_memory(y->error);
        if (status != GRAFT_OK)
            return status;
    }
    return status;
}

/* The node that begins with the event at hand; afterwards its last event is at hand. */
static graft_status read_node(struct yaml *y, int level, json_t **out)
{
    bool mapping = y->event.type == YAML_MAPPING_START_EVENT;
    if (level > MAX_LEVELS || ++y->values > MAX_VALUES)
        return refuse(y, GRAFT_LIMIT, "more than 16 levels or 10,000 values");
    if (y->event.type == YAML_SCALAR_EVENT)
        return read_scalar(y, out);
    if (y->event.type == YAML_ALIAS_EVENT)
        return refuse(y, GRAFT_UNSUPPORTED, "aliases are not read");
    if (mapping ? y->event.data.mapping_start.anchor || y->event.data.mapping_start.tag
                : y->event.data.sequence_start.anchor || y->event.data.sequence_start.tag)
        return refuse(y, GRAFT_UNSUPPORTED, "anchors and tags are not read");
    json_t *node = mapping ? json_object() : json_array();
    if (!node)
        return no_memory(y->error);
    graft_status status = mapping ? read_mapping(y, level, node) : read_sequence(y, level, node);
    if (status == GRAFT_OK)
        *out = node;
    else
        json_decref(node);
    return status;
}

static graft_status read_stream(struct yaml *y, json_t **out)
{
    graft_status status = next(y); /* the stream begins */
    status = status == GRAFT_OK ? next(y) : status;
    if (status == GRAFT_OK && y->event.type == YAML_STREAM_END_EVENT) {
        *out = json_object();
        return *out ? GRAFT_OK : no_memory(y->error);
    }
    status = status == GRAFT_OK ? next(y) : status; /* behind the begin of the document */
    status = status == GRAFT_OK ? read_node(y, 1, out) : status;
    status = status == GRAFT_OK ? next(y) : status; /* the end of the document */
    status = status == GRAFT_OK ? next(y) : status;
    if (status == GRAFT_OK && y->event.type != YAML_STREAM_END_EVENT)
        status = refuse(y, GRAFT_UNSUPPORTED, "a second document begins");
    return status;
}

graft_status yaml_parse(const char *text, size_t size, json_t **out, graft_error *error)
{
    struct yaml y = {.error = error};
    json_t *json = NULL;
    if (!yaml_parser_initialize(&y.parser))
        return no_memory(error);
    yaml_parser_set_input_string(&y.parser, (const unsigned char *)text, size);
    yaml_parser_set_encoding(&y.parser, YAML_UTF8_ENCODING);
    graft_status status = read_stream(&y, &json);
    if (y.has_event)
        yaml_event_delete(&y.event);
    yaml_parser_delete(&y.parser);
    if (status == GRAFT_OK)
        *out = json;
    else
        json_decref(json);
    return status;
}
