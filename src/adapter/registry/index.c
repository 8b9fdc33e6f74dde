/* index.c: the index as bytes: checked on the way in, written as a whole on the way out.
 *
 * Pure: no files here. registry_internal.h has the layout. Every length is checked against the bytes that are
 * there, every number against what the structures allow; a new index takes the records of untouched names over
 * as they are.
 */
#include "registry_internal.h"

static uint32_t get_u32(const uint8_t *at)
{
    return (uint32_t)bytes_get(at, 4);
}

static graft_status damaged(graft_error *error, const char *what)
{
    return error_set(error, GRAFT_FORMAT, "the registry's index is damaged: %s", what);
}

/* Over all of the header before the hash, and the table. */
static uint64_t head_hash(const uint8_t *data, size_t table)
{
    return hash_bytes(data + INDEX_HEADER, table, hash_bytes(data, INDEX_HEADER - 8, INDEX_SEED));
}

graft_status index_parse(struct index_view *out, const void *bytes, size_t size, graft_error *error)
{
    const uint8_t *data = bytes;
    if (size < INDEX_HEADER || memcmp(data, INDEX_MAGIC, 8))
        return damaged(error, "it does not begin like one");
    if (get_u32(data + 8) != INDEX_FORMAT)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "the registry's index has format %u, this graft knows format %d",
                         get_u32(data + 8), INDEX_FORMAT);
    struct index_view view = {data, size, get_u32(data + 12), bytes_get(data + 16, 8)};
    if (view.n_names > INDEX_NAMES_MAX || view.n_names > (size - INDEX_HEADER) / INDEX_ENTRY ||
        bytes_get(data + 24, 8) != size)
        return damaged(error, "it is shorter or longer than it says");
    size_t table = (size_t)view.n_names * INDEX_ENTRY;
    if (head_hash(data, table) != bytes_get(data + 32, 8))
        return damaged(error, "its table was changed");
    for (uint32_t i = 0; i < view.n_names; i++) {
        const uint8_t *entry = data + INDEX_HEADER + (size_t)i * INDEX_ENTRY;
        size_t offset = get_u32(entry), length = get_u32(entry + 4);
        if (offset < INDEX_HEADER + table || offset > size || length > size - offset ||
            length > INDEX_RECORD_MAX)
            return damaged(error, "a record lies outside of it");
    }
    *out = view;
    return GRAFT_OK;
}

/* ---- records, read ---------------------------------------------------------------------------- */

/* What remains of a record; `bad` sticks, and everything read after it is zero. */
struct cursor {
    const uint8_t *at, *end;
    bool bad;
};

static const uint8_t *take(struct cursor *c, size_t size)
{
    static const uint8_t ZEROS[32];
    if (c->bad || (size_t)(c->end - c->at) < size) {
        c->bad = true;
        return ZEROS;
    }
    c->at += size;
    return c->at - size;
}

static unsigned take_u16(struct cursor *c)
{
    return (uint16_t)bytes_get(take(c, 2), 2);
}

static uint64_t take_u64(struct cursor *c)
{
    return bytes_get(take(c, 8), 8);
}

static bool take_flag(struct cursor *c)
{
    uint8_t flag = *take(c, 1);
    c->bad = c->bad || flag > 1;
    return flag;
}

/* UTF-8 without NUL, at most `limit` bytes. */
static const char *take_string(struct cursor *c, size_t limit)
{
    size_t length = take_u16(c);
    if (c->bad || length > limit || (size_t)(c->end - c->at) <= length || c->at[length] ||
        memchr(c->at, 0, length)) {
        c->bad = true;
        return "";
    }
    const char *text = (const char *)take(c, length + 1);
    for (size_t i = 0, step; i < length; i += step) {
        uint32_t code;
        step = (uint8_t)text[i] < 0x80 ? 1 : (size_t)utf8_decode(text + i, length - i, &code);
        if (!step) {
            c->bad = true;
            return "";
        }
    }
    return text;
}

static int take_slot(struct cursor *c)
{
    unsigned slot = take_u16(c);
    return slot == 0xFFFF ? REGISTRY_NO_SLOT : (int)slot;
}

static bool no_memory(graft_error *error)
{
    error_set(error, GRAFT_NO_MEMORY, "no memory for a record of the registry");
    return false;
}

/* false: no memory. */
static bool take_version(struct cursor *c, struct arena *arena, struct registry_version *v,
                         graft_error *error)
{
    v->version = take_string(c, REGISTRY_NAME_MAX);
    v->description = take_string(c, REGISTRY_TEXT_MAX);
    v->file = take_string(c, INDEX_FILE_MAX);
    memcpy(v->digest, take(c, sizeof(v->digest)), sizeof(v->digest));
    v->bytes = take_u64(c);
    v->memory = take_u64(c);
    v->created = (int64_t)take_u64(c);
    v->modified = (int64_t)take_u64(c);
    v->evicted = take_u64(c);
    v->pinned = take_flag(c);
    size_t n_tags = take_u16(c);
    /* The name of a file becomes part of a path. */
    c->bad = c->bad || !registry_version_valid(v->version) || strchr(v->file, '/') ||
             v->file[0] == '.' || n_tags > REGISTRY_TAGS_MAX;
    if (c->bad || !n_tags)
        return true;
    v->tags = arena_alloc_packed(arena, n_tags * sizeof(*v->tags));
    if (!v->tags)
        return no_memory(error);
    v->n_tags = n_tags;
    for (size_t i = 0; i < n_tags; i++)
        v->tags[i] = take_string(c, REGISTRY_NAME_MAX);
    return true;
}

static bool slot_exists(int slot, size_t n_versions)
{
    return slot == REGISTRY_NO_SLOT || (size_t)slot < n_versions;
}

static bool take_name(struct cursor *c, struct arena *arena, struct registry_name *name,
                      graft_error *error)
{
    name->name = take_string(c, REGISTRY_NAME_MAX);
    name->base = take_string(c, REGISTRY_BASE_MAX);
    name->pinned = take_flag(c);
    name->active = take_slot(c);
    name->standby = take_slot(c);
    name->previous = take_slot(c);
    size_t n = take_u16(c);
    c->bad = c->bad || !registry_name_valid(name->name) || !n || n > REGISTRY_VERSIONS_MAX ||
             !slot_exists(name->active, n) || !slot_exists(name->standby, n) ||
             !slot_exists(name->previous, n);
    if (c->bad)
        return true;
    name->versions = arena_alloc_packed(arena, n * sizeof(*name->versions));
    if (!name->versions)
        return no_memory(error);
    memset(name->versions, 0, n * sizeof(*name->versions));
    for (size_t i = 0; i < n && !c->bad; i++) {
        if (!take_version(c, arena, &name->versions[i], error))
            return false;
        name->n_versions++;
        c->bad = c->bad || (i && registry_version_compare(name->versions[i - 1].version,
                                                          name->versions[i].version) >= 0);
    }
    c->bad = c->bad || c->at != c->end;
    return true;
}

static const uint8_t *entry_of(const struct index_view *view, uint32_t i)
{
    return view->data + INDEX_HEADER + (size_t)i * INDEX_ENTRY;
}

graft_status index_read(const struct index_view *view, uint32_t i, struct arena *arena,
                        struct registry_name *out, graft_error *error)
{
    const uint8_t *entry = entry_of(view, i), *record = view->data + get_u32(entry);
    size_t size = get_u32(entry + 4);
    struct registry_name name = {0};
    struct cursor c = {record, record + size, false};
    if (hash_bytes(record, size, INDEX_SEED) != bytes_get(entry + 8, 8))
        return damaged(error, "a record was changed");
    if (!take_name(&c, arena, &name, error))
        return GRAFT_NO_MEMORY;
    if (c.bad)
        return damaged(error, "a record makes no sense");
    *out = name;
    return GRAFT_OK;
}

/* The name alone, which is where a record begins; "" when it is none. */
static const char *name_of(const struct index_view *view, uint32_t i)
{
    const uint8_t *entry = entry_of(view, i), *record = view->data + get_u32(entry);
    struct cursor c = {record, record + get_u32(entry + 4), false};
    return take_string(&c, REGISTRY_NAME_MAX);
}

int64_t index_find(const struct index_view *view, const char *name)
{
    uint32_t low = 0, high = view->n_names;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(name_of(view, middle), name);
        if (!order)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

int index_find_version(const struct registry_name *name, const char *version)
{
    for (size_t i = 0; i < name->n_versions; i++)
        if (!strcmp(name->versions[i].version, version))
            return (int)i;
    return -1;
}

/* ---- records, written ------------------------------------------------------------------------- */

static void put_number(struct buf *out, uint64_t value, int bytes)
{
    uint8_t at[8];
    bytes_put(at, value, bytes);
    buf_append(out, at, (size_t)bytes);
}

static void put_string(struct buf *out, const char *text)
{
    size_t length = strlen(text);
    put_number(out, length, 2);
    buf_append(out, text, length + 1);
}

static void put_version(struct buf *out, const struct registry_version *v)
{
    put_string(out, v->version);
    put_string(out, v->description);
    put_string(out, v->file);
    buf_append(out, v->digest, sizeof(v->digest));
    put_number(out, v->bytes, 8);
    put_number(out, v->memory, 8);
    put_number(out, (uint64_t)v->created, 8);
    put_number(out, (uint64_t)v->modified, 8);
    put_number(out, v->evicted, 8);
    put_number(out, v->pinned, 1);
    put_number(out, v->n_tags, 2);
    for (size_t i = 0; i < v->n_tags; i++)
        put_string(out, v->tags[i]);
}

static void put_name(struct buf *out, const struct registry_name *name)
{
    put_string(out, name->name);
    put_string(out, name->base);
    put_number(out, name->pinned, 1);
    put_number(out, (uint64_t)name->active, 2);
    put_number(out, (uint64_t)name->standby, 2);
    put_number(out, (uint64_t)name->previous, 2);
    put_number(out, name->n_versions, 2);
    for (size_t i = 0; i < name->n_versions; i++)
        put_version(out, &name->versions[i]);
}

/* An index being written: records first, because the table needs to know where they are. */
struct writer {
    struct buf table, records;
    uint32_t n_names;
};

static void add_entry(struct writer *w, size_t begin)
{
    size_t size = w->records.size - begin;
    if (w->records.status != GRAFT_OK)
        return;
    put_number(&w->table, begin, 4);
    put_number(&w->table, size, 4);
    put_number(&w->table, hash_bytes(w->records.data + begin, size, INDEX_SEED), 8);
    w->n_names++;
}

static void add_old(struct writer *w, const struct index_view *old, uint32_t i)
{
    const uint8_t *entry = entry_of(old, i);
    size_t begin = w->records.size;
    buf_append(&w->records, old->data + get_u32(entry), get_u32(entry + 4));
    put_number(&w->table, begin, 4);
    buf_append(&w->table, entry + 4, 12); /* the hash too: damage stays visible */
    w->n_names++;
}

static void add_changed(struct writer *w, const struct registry_name *name)
{
    size_t begin = w->records.size;
    if (!name->n_versions)
        return;
    put_name(&w->records, name);
    add_entry(w, begin);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct registry_name *)a)->name, ((const struct registry_name *)b)->name);
}

/* Both lists are in order; a changed name takes the place of the old one. */
static void merge(struct writer *w, const struct index_view *old,
                  const struct registry_name *changed, size_t n_changed)
{
    uint32_t i = 0;
    size_t j = 0;
    while (i < old->n_names || j < n_changed) {
        int order = i == old->n_names ? 1
                    : j == n_changed  ? -1
                                      : strcmp(name_of(old, i), changed[j].name);
        if (order < 0) {
            add_old(w, old, i++);
        } else {
            add_changed(w, &changed[j++]);
            i += order == 0;
        }
    }
}

/* Header, table and records; offsets so far count from the first record. */
static void assemble(struct buf *out, struct writer *w, uint64_t generation)
{
    size_t table = w->table.size, size = INDEX_HEADER + table + w->records.size;
    for (size_t i = 0; i < w->n_names; i++) {
        uint8_t *at = (uint8_t *)w->table.data + i * INDEX_ENTRY;
        bytes_put(at, get_u32(at) + INDEX_HEADER + table, 4);
    }
    buf_puts(out, INDEX_MAGIC);
    put_number(out, INDEX_FORMAT, 4);
    put_number(out, w->n_names, 4);
    put_number(out, generation, 8);
    put_number(out, size, 8);
    put_number(out, 0, 8);
    buf_append(out, w->table.data, table);
    buf_append(out, w->records.data, w->records.size);
    if (out->status != GRAFT_OK)
        return;
    uint64_t hash = head_hash((const uint8_t *)out->data, table);
    bytes_put((uint8_t *)out->data + 32, hash, 8);
}

graft_status index_write(struct buf *out, const struct index_view *old,
                         struct registry_name *changed, size_t n_changed, graft_error *error)
{
    struct writer w = {.n_names = 0};
    graft_status status = GRAFT_OK;
    buf_init(&w.table, out->mem, (size_t)INDEX_NAMES_MAX * INDEX_ENTRY);
    buf_init(&w.records, out->mem, (size_t)1 << 31); /* offsets have 32 bits */
    if (n_changed)
        qsort(changed, n_changed, sizeof(*changed), by_name);
    merge(&w, old, changed, n_changed);
    if (w.table.status == GRAFT_LIMIT || w.records.status == GRAFT_LIMIT)
        status = error_set(error, GRAFT_LIMIT, "the registry is full");
    else if (w.table.status == GRAFT_OK && w.records.status == GRAFT_OK)
        assemble(out, &w, old->generation + 1);
    if (status == GRAFT_OK && (w.table.status || w.records.status || out->status))
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for an index of %zu bytes",
                           w.records.size);
    buf_free(&w.table);
    buf_free(&w.records);
    return status;
}
