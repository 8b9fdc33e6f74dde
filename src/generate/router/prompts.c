/* prompts.c: files of prompts with the adapters that they ask for: JSONL, or one JSON array.
 *
 * A file is taken whole or refused with the first record that is wrong: a router is only as good as its labels. Of JSONL
 * one line is in memory as JSON at a time.
 */
#include "generate/router/router_internal.h"

enum { MAX_RECORD = 8 << 20, MAX_ARRAY = 256 << 20 };

void router_prompts_init(struct router_prompts *prompts, struct mem *mem)
{
    *prompts = (struct router_prompts){.mem = mem};
    arena_init(&prompts->texts, mem, SIZE_MAX);
}

void router_prompts_free(struct router_prompts *prompts)
{
    mem_free(prompts->mem, prompts->items);
    arena_free(&prompts->texts);
    *prompts = (struct router_prompts){.mem = NULL};
}

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for prompts");
}

/* Where a record is, for errors. */
struct place {
    const char *file; /* of the arena */
    const char *unit; /* "line", "record" */
    int64_t number;
};

static graft_status wrong(const struct place *at, graft_error *error, const char *what)
{
    return error_set(error, GRAFT_FORMAT, "%s %lld: %s", at->unit, (long long)at->number, what);
}

bool router_label_valid(const char *label)
{
    struct registry_address address;
    return strlen(label) <= ROUTER_MAX_LABEL &&
           registry_parse_address(label, &address, NULL) == GRAFT_OK && !address.is_path &&
           !address.has_weight;
}

/* The text of the last message of the user; NULL: there is none. */
static const json_t *last_of_user(const json_t *messages)
{
    const json_t *found = NULL, *message;
    size_t i;
    json_array_foreach(messages, i, message)
    {
        const char *role = json_string_value(json_object_get(message, "role"));
        if (role && !strcmp(role, "user"))
            found = json_object_get(message, "content");
    }
    return found;
}

static graft_status keep(struct router_prompts *p, const struct place *at, const json_t *text,
                         const char *label, graft_error *error)
{
    if (p->n == p->capacity) {
        size_t capacity = p->capacity ? 2 * p->capacity : 256;
        struct router_prompt *grown = mem_resize(p->mem, p->items, capacity * sizeof *grown);
        if (!grown)
            return no_memory(error);
        p->items = grown;
        p->capacity = capacity;
    }
    struct router_prompt *item = &p->items[p->n];
    *item = (struct router_prompt){
        .text = arena_strndup(&p->texts, json_string_value(text), json_string_length(text)),
        .size = json_string_length(text),
        .label = arena_strndup(&p->texts, label, strlen(label)),
        .file = at->file,
        .line = at->number};
    if (!item->text || !item->label)
        return no_memory(error);
    p->n++;
    return GRAFT_OK;
}

static graft_status take(struct router_prompts *p, const struct place *at, const json_t *record,
                         graft_error *error)
{
    const json_t *label = json_object_get(record, "adapter");
    const json_t *prompt = json_object_get(record, "prompt");
    const json_t *messages = json_object_get(record, "messages");
    if (!json_is_object(record))
        return wrong(at, error, "it is no JSON object");
    if (!json_is_string(label) || strlen(json_string_value(label)) != json_string_length(label) ||
        !router_label_valid(json_string_value(label)))
        return wrong(at, error,
                     "its \"adapter\" is no NAME[@VERSION] of an adapter (\"base\": none)");
    if (!prompt == !messages)
        return wrong(at, error, "it has not one of \"prompt\" and \"messages\"");
    if (messages)
        prompt = last_of_user(messages);
    if (!json_is_string(prompt) || !json_string_length(prompt))
        return wrong(at, error,
                     messages ? "its \"messages\" have no text of the user"
                              : "its \"prompt\" is no text, or an empty one");
    return keep(p, at, prompt, json_string_value(label), error);
}

static graft_status parse(const struct place *at, const char *text, size_t size, json_t **out,
                          graft_error *error)
{
    graft_error why = {0};
    graft_status status = json_parse(text, size, out, &why);
    if (status == GRAFT_FORMAT) { /* jansson may call lack of memory so; what is broken stays so */
        status = json_parse(text, size, out, &why);
    }
    if (status == GRAFT_FORMAT) {
        const char *from = strstr(why.message, "column");
        return error_set(error, status, "%s %lld: it is not JSON: %.200s", at->unit,
                         (long long)at->number, from ? from : why.message);
    }
    return status == GRAFT_OK ? status : no_memory(error);
}

static graft_status take_array(struct router_prompts *p, const char *file, const char *bytes,
                               size_t size, graft_error *error)
{
    struct place at = {file, "record", 0};
    json_t *array = NULL, *record;
    size_t i;
    if (size > MAX_ARRAY)
        return error_set(error, GRAFT_LIMIT, "an array of more than 256 MiB: make it JSONL");
    graft_status status = parse(&at, bytes, size, &array, error);
    json_array_foreach(array, i, record)
    {
        at.number = (int64_t)i + 1;
        if (status == GRAFT_OK)
            status = take(p, &at, record, error);
    }
    json_decref(array);
    return status;
}

static graft_status take_line(struct router_prompts *p, const struct place *at, const char *text,
                              size_t size, graft_error *error)
{
    json_t *record = NULL;
    if (size > MAX_RECORD)
        return wrong(at, error, "it is longer than 8 MiB");
    graft_status status = parse(at, text, size, &record, error);
    if (status == GRAFT_OK)
        status = take(p, at, record, error);
    json_decref(record);
    return status;
}

static size_t blanks(const char *text, size_t size)
{
    size_t i = 0;
    while (i < size && text[i] && strchr(" \t\r\n", text[i]))
        i++;
    return i;
}

graft_status router_prompts_parse(struct router_prompts *prompts, const char *name,
                                  const char *bytes, size_t size, graft_error *error)
{
    const size_t before = prompts->n, begin = blanks(bytes, size);
    graft_status status = GRAFT_OK;
    struct place at = {arena_strndup(&prompts->texts, name, strlen(name)), "line", 0};
    if (!at.file)
        return no_memory(error);
    if (begin < size && bytes[begin] == '[') {
        status = take_array(prompts, at.file, bytes, size, error);
    } else {
        for (size_t i = 0; i < size && status == GRAFT_OK;) {
            const char *line = bytes + i, *newline = memchr(line, '\n', size - i);
            const size_t length = newline ? (size_t)(newline - line) : size - i;
            at.number++;
            if (blanks(line, length) < length)
                status = take_line(prompts, &at, line, length, error);
            i += length + 1;
        }
    }
    if (status == GRAFT_OK && prompts->n == before)
        status = error_set(error, GRAFT_FORMAT, "there is no prompt in it");
    if (status != GRAFT_OK)
        error_at_file(error, name);
    return status;
}

graft_status router_prompts_read(struct router_prompts *prompts, const char *path,
                                 graft_error *error)
{
    struct file_map map = {.data = NULL};
    graft_status status = file_map_open(&map, prompts->mem, path, MAP_SHARED_FILE, error);
    if (status == GRAFT_OK)
        status = router_prompts_parse(prompts, path, (const char *)map.data, map.size, error);
    file_map_close(&map);
    return status;
}
