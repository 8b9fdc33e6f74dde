/* batch_index.c: which lines a file of requests has, by their custom_id, and which of them have a result.
 *
 * The file is read once before anything runs, to know what is there, and once while it runs. What is kept in between is 16
 * bytes of each line and a table to find them in, not their texts.
 */
#include "batch.h"

/* ---- keys ---- */

void batch_key_of(const json_t *object, uint8_t key[BATCH_KEY])
{
    const json_t *id = json_object_get(object, "custom_id");
    uint8_t digest[32];
    memset(key, 0, BATCH_KEY);
    if (json_string_length(id) > 0 &&
        sha256(json_string_value(id), json_string_length(id), digest, NULL) == GRAFT_OK) {
        memcpy(key, digest, BATCH_KEY);
    }
}

bool batch_key_is_none(const uint8_t key[BATCH_KEY])
{
    static const uint8_t none[BATCH_KEY];
    return memcmp(key, none, BATCH_KEY) == 0;
}

/* Where a key is in the table, or would be. */
static uint32_t *slot_of(const struct batch_index *index, const uint8_t key[BATCH_KEY])
{
    uint64_t at;
    memcpy(&at, key, sizeof at); /* of a SHA-256: as good as any hash of it */
    for (;; at++) {
        uint32_t *slot = &index->table[at & (index->n_table - 1)];
        if (*slot == 0 || memcmp(index->lines[*slot - 1].key, key, BATCH_KEY) == 0) {
            return slot;
        }
    }
}

size_t batch_index_find(const struct batch_index *index, const uint8_t key[BATCH_KEY])
{
    if (index->table == NULL || batch_key_is_none(key)) {
        return SIZE_MAX;
    }
    uint32_t line = *slot_of(index, key);
    return line > 0 ? line - 1 : SIZE_MAX;
}

/* ---- lines ---- */

static size_t *counter_of(struct batch_index *index, enum batch_state state)
{
    return state == BATCH_OPEN     ? &index->open
           : state == BATCH_DONE   ? &index->done
           : state == BATCH_FAILED ? &index->failed
                                   : NULL;
}

void batch_index_set(struct batch_index *index, size_t line, enum batch_state state)
{
    size_t *before = counter_of(index, index->lines[line].state);
    size_t *after = counter_of(index, state);
    if (before != NULL) {
        --*before;
    }
    if (after != NULL) {
        ++*after;
    }
    index->lines[line].state = (uint8_t)state;
}

static graft_status add_line(struct batch_index *index, const struct batch_entry *entry,
                             graft_error *error)
{
    if (index->n == index->capacity) {
        size_t capacity = index->capacity > 0 ? 2 * index->capacity : 1024;
        struct batch_entry *lines =
            capacity < UINT32_MAX ? mem_resize(NULL, index->lines, capacity * sizeof *lines) : NULL;
        if (lines == NULL) {
            return error_set(error, GRAFT_NO_MEMORY, "no memory for more than %zu lines", index->n);
        }
        index->lines = lines;
        index->capacity = capacity;
    }
    index->lines[index->n++] = *entry;
    index->open += entry->state == BATCH_OPEN;
    return GRAFT_OK;
}

static struct batch_entry entry_of(const struct batch_lines *lines)
{
    struct batch_entry entry = {.state = BATCH_OPEN};
    json_t *json = NULL;
    if (batch_line_is_blank(lines)) {
        entry.state = BATCH_BLANK;
    } else if (!lines->too_long &&
               json_parse(lines->text.data, lines->text.size, &json, NULL) == GRAFT_OK) {
        batch_key_of(json, entry.key);
    }
    json_decref(json);
    return entry;
}

static graft_status make_table(struct batch_index *index, graft_error *error)
{
    index->n_table = 16;
    while (index->n_table < 2 * index->n) {
        index->n_table *= 2;
    }
    index->table = mem_calloc(NULL, index->n_table, sizeof *index->table);
    if (index->table == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu lines", index->n);
    }
    for (size_t i = 0; i < index->n; i++) {
        if (!batch_key_is_none(index->lines[i].key)) {
            uint32_t *slot = slot_of(index, index->lines[i].key);
            *slot = *slot == 0 ? (uint32_t)i + 1 : *slot;
        }
    }
    return GRAFT_OK;
}

graft_status batch_index_read(struct batch_index *index, int file, const char *path,
                              graft_error *error)
{
    struct batch_lines lines;
    *index = (struct batch_index){0};
    graft_status status = batch_lines_open(&lines, file, path, BATCH_REQUEST_BYTES, error);
    while (status == GRAFT_OK && (status = batch_lines_next(&lines, error)) == GRAFT_OK) {
        struct batch_entry entry = entry_of(&lines);
        status = cli_interrupted() ? error_set(error, GRAFT_CANCELLED, "interrupted")
                                   : add_line(index, &entry, error);
    }
    batch_lines_close(&lines);
    return status == GRAFT_END ? make_table(index, error) : status;
}

void batch_index_close(struct batch_index *index)
{
    mem_free(NULL, index->lines);
    mem_free(NULL, index->table);
    *index = (struct batch_index){0};
}
