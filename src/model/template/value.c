/* value.c: making values: strings, lists, dicts, undefined values, JSON data; the budgets.
 *
 * Everything comes from the rendering's arena. Comparing is in compare.c, printing in repr.c.
 */
#include "model/template/render_internal.h"

/* ---- budgets and errors ------------------------------------------------------------------- */

bool fail(struct rt *rt, graft_status status, const char *format, ...)
{
    char text[400];
    va_list args;
    if (rt->status != GRAFT_OK)
        return false;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    rt->status = error_set(rt->error, status, "template line %d: %s", rt->line, text);
    return false;
}

bool spend(struct rt *rt, uint64_t work)
{
    if (work > rt->steps) {
        rt->steps = 0;
        return fail(rt, GRAFT_LIMIT, "too many steps");
    }
    rt->steps -= work;
    return true;
}

bool spend_bytes(struct rt *rt, size_t bytes)
{
    return spend(rt, bytes / 64);
}

void *rt_alloc(struct rt *rt, size_t bytes)
{
    void *block = arena_alloc_packed(&rt->arena, bytes == 0 ? 1 : bytes);
    if (block != NULL)
        return block;
    if (rt->arena.limit - rt->arena.used < bytes)
        fail(rt, GRAFT_LIMIT, "needs too much memory");
    else
        fail(rt, GRAFT_NO_MEMORY, "no memory");
    return NULL;
}

/* ---- strings ------------------------------------------------------------------------------ */

bool str_borrow(struct rt *rt, const char *data, size_t size, struct value *out)
{
    if (size == 1 && (unsigned char)data[0] < 128) {
        *out = v_str(&rt->characters[(unsigned char)data[0]]);
        return true;
    }
    struct str *s = rt_alloc(rt, sizeof *s);
    if (s == NULL)
        return false;
    *s = (struct str){.data = data, .size = size, .chars = CHARS_UNKNOWN};
    *out = v_str(s);
    return true;
}

bool str_literal(struct rt *rt, const char *text, struct value *out)
{
    return str_borrow(rt, text, strlen(text), out);
}

bool str_alloc(struct rt *rt, size_t size, char **data, struct value *out)
{
    if (!spend_bytes(rt, size))
        return false;
    *data = rt_alloc(rt, size);
    struct str *s = *data == NULL ? NULL : rt_alloc(rt, sizeof *s);
    if (s == NULL)
        return false;
    *s = (struct str){.data = *data, .size = size, .chars = CHARS_UNKNOWN};
    *out = v_str(s);
    return true;
}

bool str_copy(struct rt *rt, const char *data, size_t size, struct value *out)
{
    char *copy;
    if (!str_alloc(rt, size, &copy, out))
        return false;
    if (size > 0)
        memcpy(copy, data, size);
    return true;
}

bool str_capture(struct rt *rt, size_t mark, struct value *out)
{
    bool ok =
        str_copy(rt, rt->out.data == NULL ? "" : rt->out.data + mark, rt->out.size - mark, out);
    rt->out.size = mark;
    for (struct template_marks *m = rt->marks;
         m != NULL && m->count > 0 && m->spans[m->count - 1].begin >= mark; m->count--)
        m->lost = true;
    return ok;
}

bool str_mark(struct rt *rt, bool safe, struct value *v)
{
    if (v->s->safe == safe)
        return true;
    struct str *copy = rt_alloc(rt, sizeof *copy);
    if (copy == NULL)
        return false;
    *copy = *v->s;
    copy->safe = safe;
    v->s = copy;
    return true;
}

bool str_equals(const struct str *s, const char *text)
{
    size_t n = strlen(text);
    return s->size == n && memcmp(s->data, text, n) == 0;
}

/* a + b. When a ends where its room ends, b is put behind it and nothing is copied. */
bool str_concat(struct rt *rt, struct str *a, struct str *b, struct value *out)
{
    struct str_room *room = a->room;
    size_t size = a->size + b->size; /* both within the arena's limit or the context */
    struct str *s = rt_alloc(rt, sizeof *s);
    if (s == NULL || !spend_bytes(rt, b->size))
        return false;
    *s = (struct str){.data = a->data, .size = size, .chars = CHARS_UNKNOWN};
    if (room == NULL || a->data + a->size != room->base + room->used ||
        b->size > room->capacity - room->used) {
        size_t capacity = room == NULL ? size : 2 * size;
        if (!spend_bytes(rt, a->size) || (room = rt_alloc(rt, sizeof *room)) == NULL)
            return false;
        *room = (struct str_room){
            .base = rt_alloc(rt, capacity), .used = a->size, .capacity = capacity};
        if (room->base == NULL)
            return false;
        if (a->size > 0)
            memcpy(room->base, a->data, a->size);
    }
    if (b->size > 0)
        memcpy(room->base + room->used, b->data, b->size);
    room->used += b->size;
    s->data = room->base + (room->used - size);
    s->room = room;
    if (a->chars != CHARS_UNKNOWN && b->chars != CHARS_UNKNOWN)
        s->chars = a->chars + b->chars;
    *out = v_str(s);
    return true;
}

/* ---- lists -------------------------------------------------------------------------------- */

bool list_new(struct rt *rt, enum value_kind kind, size_t capacity, struct value *out)
{
    size_t bytes;
    struct list *list = rt_alloc(rt, sizeof *list);
    if (list == NULL)
        return false;
    *list = (struct list){.capacity = capacity};
    if (!size_mul(capacity, sizeof *list->items, &bytes))
        return fail(rt, GRAFT_LIMIT, "needs too much memory");
    if (capacity > 0 && (list->items = rt_alloc(rt, bytes)) == NULL)
        return false;
    *out = (struct value){.kind = kind, .list = list};
    return true;
}

bool list_push(struct rt *rt, struct list *list, struct value item)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 8 : 2 * list->capacity;
        struct value *items = rt_alloc(rt, capacity * sizeof *items);
        if (items == NULL)
            return false;
        if (list->count > 0)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = item;
    return spend(rt, 1);
}

bool pair_new(struct rt *rt, struct value a, struct value b, struct value *out)
{
    if (!list_new(rt, V_TUPLE, 2, out))
        return false;
    out->list->items[0] = a;
    out->list->items[1] = b;
    out->list->count = 2;
    return true;
}

bool gen_new(struct rt *rt, const char *type, struct value list, struct value *out)
{
    struct gen *gen = rt_alloc(rt, sizeof *gen);
    if (gen == NULL)
        return false;
    *gen = (struct gen){.items = list.list->items, .count = list.list->count, .type = type};
    *out = (struct value){.kind = V_ITER, .gen = gen};
    return true;
}

/* ---- dicts -------------------------------------------------------------------------------- */

bool dict_new(struct rt *rt, enum value_kind kind, struct value *out)
{
    struct dict *dict = rt_alloc(rt, sizeof *dict);
    if (dict == NULL)
        return false;
    *dict = (struct dict){0};
    *out = (struct value){.kind = kind, .dict = dict};
    return true;
}

/* The slot of the key: its entry's, or the empty one where it belongs. */
static bool dict_probe(struct rt *rt, const struct dict *dict, struct value key, uint64_t hash,
                       size_t *slot)
{
    size_t mask = dict->index_size - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        bool same = false;
        *slot = i;
        if (dict->index[i] == 0)
            return true;
        const struct dict_entry *entry = &dict->entries[dict->index[i] - 1];
        if (entry->hash == hash && !value_equal(rt, entry->key, key, &same))
            return false;
        if (same)
            return true;
        if (!spend(rt, 1))
            return false;
    }
}

static bool dict_grow(struct rt *rt, struct dict *dict)
{
    size_t capacity = dict->capacity == 0 ? 4 : 2 * dict->capacity;
    size_t index_size = 2 * capacity;
    if (capacity > UINT32_MAX / 4)
        return fail(rt, GRAFT_LIMIT, "needs too much memory");
    struct dict_entry *entries = rt_alloc(rt, capacity * sizeof *entries);
    uint32_t *index = rt_alloc(rt, index_size * sizeof *index);
    if (entries == NULL || index == NULL)
        return false;
    if (dict->count > 0)
        memcpy(entries, dict->entries, dict->count * sizeof *entries);
    memset(index, 0, index_size * sizeof *index);
    for (size_t i = 0; i < dict->count; i++) {
        size_t slot = entries[i].hash & (index_size - 1);
        while (index[slot] != 0)
            slot = (slot + 1) & (index_size - 1);
        index[slot] = (uint32_t)i + 1;
    }
    dict->entries = entries;
    dict->index = index;
    dict->capacity = capacity;
    dict->index_size = index_size;
    return true;
}

bool dict_put(struct rt *rt, struct dict *dict, struct value key, struct value value)
{
    uint64_t hash;
    size_t slot;
    if (dict->count == dict->capacity && !dict_grow(rt, dict))
        return false;
    if (!value_hash(rt, key, &hash) || !dict_probe(rt, dict, key, hash, &slot) || !spend(rt, 1))
        return false;
    if (dict->index[slot] != 0) { /* the first spelling of the key stays */
        dict->entries[dict->index[slot] - 1].value = value;
        return true;
    }
    dict->entries[dict->count++] = (struct dict_entry){key, value, hash};
    dict->index[slot] = (uint32_t)dict->count;
    return true;
}

bool dict_find(struct rt *rt, const struct dict *dict, struct value key, struct value **found)
{
    uint64_t hash;
    size_t slot;
    *found = NULL;
    if (!value_hash(rt, key, &hash))
        return false;
    if (dict->count == 0)
        return true;
    if (!dict_probe(rt, dict, key, hash, &slot))
        return false;
    if (dict->index[slot] != 0)
        *found = &dict->entries[dict->index[slot] - 1].value;
    return true;
}

bool dict_find_str(struct rt *rt, const struct dict *dict, const char *key, size_t size,
                   struct value **found)
{
    struct str s = {.data = key, .size = size, .chars = CHARS_UNKNOWN};
    return dict_find(rt, dict, v_str(&s), found);
}

/* ---- undefined ---------------------------------------------------------------------------- */

static bool undefined_new(struct rt *rt, struct undefined u, struct value *out)
{
    struct undefined *copy = rt_alloc(rt, sizeof *copy);
    if (copy == NULL)
        return false;
    *copy = u;
    *out = (struct value){.kind = V_UNDEFINED, .undefined = copy};
    return true;
}

bool undefined_name(struct rt *rt, struct str *name, struct value *out)
{
    return undefined_new(rt, (struct undefined){.name = v_str(name)}, out);
}

bool undefined_member(struct rt *rt, struct value object, struct value name, struct value *out)
{
    return undefined_new(rt, (struct undefined){.object = object, .name = name}, out);
}

bool undefined_hint(struct rt *rt, const char *hint, struct value *out)
{
    return undefined_new(rt, (struct undefined){.hint = hint}, out);
}

bool fail_undefined(struct rt *rt, struct value undefined)
{
    const struct undefined *u = undefined.undefined;
    const char *text = "";
    int size = 0;
    if (u->hint != NULL)
        return fail(rt, GRAFT_FORMAT, "%s", u->hint);
    if (u->name.kind == V_STR) {
        text = u->name.s->data;
        size = (int)utf8_complete(text, u->name.s->size < 80 ? u->name.s->size : 80);
    }
    if (u->object.kind == V_MISSING)
        return fail(rt, GRAFT_FORMAT, "'%.*s' is undefined", size, text);
    if (u->name.kind == V_STR)
        return fail(rt, GRAFT_FORMAT, "'%s object' has no attribute '%.*s'", type_name(u->object),
                    size, text);
    if (u->name.kind == V_INT)
        return fail(rt, GRAFT_FORMAT, "%s object has no element %lld", type_name(u->object),
                    (long long)u->name.i);
    return fail(rt, GRAFT_FORMAT, "%s object has no such element", type_name(u->object));
}

/* ---- JSON --------------------------------------------------------------------------------- */

static bool from_json(struct rt *rt, const json_t *json, int depth, struct value *out)
{
    const char *key;
    size_t key_size, i;
    json_t *item;
    struct value name, v;
    if (depth > DATA_DEPTH)
        return fail(rt, GRAFT_LIMIT, "the data nests too deep");
    switch (json_typeof(json)) {
    case JSON_NULL:
        *out = v_none();
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = v_bool(json_is_true(json));
        return true;
    case JSON_INTEGER:
        *out = v_int(json_integer_value(json));
        return true;
    case JSON_REAL:
        *out = v_float(json_real_value(json));
        return true;
    case JSON_STRING:
        return str_borrow(rt, json_string_value(json), json_string_length(json), out);
    case JSON_ARRAY:
        if (!list_new(rt, V_LIST, json_array_size(json), out))
            return false;
        json_array_foreach(json, i, item)
        {
            if (!from_json(rt, item, depth + 1, &v) || !list_push(rt, out->list, v))
                return false;
        }
        return true;
    case JSON_OBJECT:
        break;
    }
    if (!dict_new(rt, V_DICT, out))
        return false;
    for (void *at = json_object_iter((json_t *)json); at != NULL;
         at = json_object_iter_next((json_t *)json, at)) {
        key = json_object_iter_key(at);
        key_size = json_object_iter_key_len(at);
        if (!str_borrow(rt, key, key_size, &name) ||
            !from_json(rt, json_object_iter_value(at), depth + 1, &v) ||
            !dict_put(rt, out->dict, name, v))
            return false;
    }
    return true;
}

bool value_from_json(struct rt *rt, const json_t *json, struct value *out)
{
    return from_json(rt, json, 0, out);
}

/* ---- walking ------------------------------------------------------------------------------ */

bool is_iterable(struct value v)
{
    switch (v.kind) {
    case V_UNDEFINED:
    case V_STR:
    case V_LIST:
    case V_TUPLE:
    case V_DICT:
    case V_VIEW:
    case V_RANGE:
    case V_ITER:
        return true;
    default:
        return false;
    }
}

bool iter_begin(struct rt *rt, struct value v, struct iter *it)
{
    *it = (struct iter){.source = v};
    if (!is_iterable(v))
        return fail(rt, GRAFT_FORMAT, "'%s' object is not iterable", type_name(v));
    if (v.kind != V_ITER && v.kind != V_STR)
        value_length(v, &it->count);
    return true;
}

static int next_of_view(struct rt *rt, struct iter *it, struct value *out)
{
    const struct view *view = it->source.view;
    const struct dict_entry *entry = &view->dict->entries[it->next++];
    if (view->kind == VIEW_ITEMS)
        return pair_new(rt, entry->key, entry->value, out) ? 1 : -1;
    *out = view->kind == VIEW_KEYS ? entry->key : entry->value;
    return 1;
}

static int next_of_string(struct rt *rt, struct iter *it, struct value *out)
{
    const struct str *s = it->source.s;
    uint32_t c;
    if (it->byte >= s->size)
        return 0;
    int n = str_decode(s->data + it->byte, s->size - it->byte, &c);
    if (!str_borrow(rt, s->data + it->byte, (size_t)n, out))
        return -1;
    it->byte += (size_t)n;
    return 1;
}

int iter_next(struct rt *rt, struct iter *it, struct value *out)
{
    if (!spend(rt, 1))
        return -1;
    if (it->source.kind == V_STR)
        return next_of_string(rt, it, out);
    if (it->source.kind == V_ITER) {
        struct gen *gen = it->source.gen;
        if (gen->next >= gen->count)
            return 0;
        *out = gen->items[gen->next++];
        return 1;
    }
    if (it->next >= it->count)
        return 0;
    switch (it->source.kind) {
    case V_LIST:
    case V_TUPLE:
        *out = it->source.list->items[it->next++];
        return 1;
    case V_DICT:
        *out = it->source.dict->entries[it->next++].key;
        return 1;
    case V_VIEW:
        return next_of_view(rt, it, out);
    default: /* V_RANGE: the only other kind with a length */
        *out = v_int(it->source.range->start + (int64_t)it->next++ * it->source.range->step);
        return 1;
    }
}

bool to_list(struct rt *rt, struct value v, enum value_kind kind, struct value *out)
{
    struct iter it;
    struct value item;
    int more;
    if (!iter_begin(rt, v, &it) || !list_new(rt, kind, it.count, out))
        return false;
    while ((more = iter_next(rt, &it, &item)) == 1)
        if (!list_push(rt, out->list, item))
            return false;
    return more == 0;
}
