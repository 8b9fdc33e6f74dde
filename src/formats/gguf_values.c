/* gguf_values.c: typed access to the metadata of a parsed GGUF.
 *
 * The entries point into the file; here they become integers, doubles, booleans and strings. A value
 * of another type than was asked for is an error that names the key, never a reinterpretation.
 */
#include "formats/gguf_internal.h"

#include <math.h>

size_t gguf_width(enum gguf_type type)
{
    static const uint8_t WIDTHS[GGUF_TYPE_COUNT] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
    };
    return WIDTHS[type];
}

const struct tensor_info *gguf_find_tensor(const struct gguf *g, const char *name)
{
    int32_t i = str_map_get(&g->tensor_index, name, strlen(name));
    return i < 0 ? NULL : &g->tensors[i];
}

const struct gguf_value *gguf_find(const struct gguf *g, const char *key)
{
    int32_t i = str_map_get(&g->value_index, key, strlen(key));
    return i < 0 ? NULL : &g->values[i];
}

static graft_status wrong_type(graft_error *error, const char *key, const char *wanted)
{
    return error_set(error, GRAFT_FORMAT, "metadata \"%s\" is no %s", key, wanted);
}

/* false: no integer type. Values above INT64_MAX are told through *too_large. */
static bool item_int(enum gguf_type type, const uint8_t *p, int64_t *out, bool *too_large)
{
    *too_large = false;
    switch (type) {
    case GGUF_U8:
        *out = *p;
        return true;
    case GGUF_I8:
        *out = (int8_t)*p;
        return true;
    case GGUF_U16:
        *out = load_u16(p);
        return true;
    case GGUF_I16:
        *out = (int16_t)load_u16(p);
        return true;
    case GGUF_U32:
        *out = load_u32(p);
        return true;
    case GGUF_I32:
        *out = (int32_t)load_u32(p);
        return true;
    case GGUF_U64:
        *too_large = load_u64(p) > INT64_MAX;
        *out = (int64_t)load_u64(p);
        return true;
    case GGUF_I64:
        *out = (int64_t)load_u64(p);
        return true;
    default:
        return false;
    }
}

static bool item_number(enum gguf_type type, const uint8_t *p, double *out)
{
    int64_t whole;
    bool too_large;
    if (type == GGUF_F32) {
        float value;
        memcpy(&value, p, sizeof value);
        *out = (double)value;
        return true;
    }
    if (type == GGUF_F64) {
        memcpy(out, p, sizeof *out);
        return true;
    }
    if (!item_int(type, p, &whole, &too_large))
        return false;
    *out = too_large ? (double)load_u64(p) : (double)whole;
    return true;
}

graft_status gguf_get_int(const struct gguf *g, const char *key, int64_t min, int64_t max,
                          int64_t *out, graft_error *error)
{
    const struct gguf_value *v = gguf_find(g, key);
    int64_t value;
    bool too_large;
    if (!v)
        return GRAFT_OK;
    if (v->is_array || !item_int(v->type, v->data, &value, &too_large))
        return wrong_type(error, key, "integer");
    if (too_large || value < min || value > max)
        return error_set(error, GRAFT_FORMAT, "metadata \"%s\" is not within %lld..%lld", key,
                         (long long)min, (long long)max);
    *out = value;
    return GRAFT_OK;
}

graft_status gguf_get_number(const struct gguf *g, const char *key, double *out, graft_error *error)
{
    const struct gguf_value *v = gguf_find(g, key);
    double value;
    if (!v)
        return GRAFT_OK;
    if (v->is_array || !item_number(v->type, v->data, &value))
        return wrong_type(error, key, "number");
    if (!isfinite(value))
        return error_set(error, GRAFT_FORMAT, "metadata \"%s\" is not finite", key);
    *out = value;
    return GRAFT_OK;
}

graft_status gguf_get_bool(const struct gguf *g, const char *key, bool *out, graft_error *error)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v)
        return GRAFT_OK;
    if (v->is_array || v->type != GGUF_BOOL)
        return wrong_type(error, key, "boolean");
    *out = *v->data != 0;
    return GRAFT_OK;
}

graft_status gguf_get_string(const struct gguf *g, const char *key, const char **out,
                             size_t *length, graft_error *error)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (v && (v->is_array || v->type != GGUF_STRING))
        return wrong_type(error, key, "string");
    *length = v ? v->size - sizeof(uint64_t) : 0;
    *out = v ? (const char *)v->data + sizeof(uint64_t) : NULL;
    return GRAFT_OK;
}

bool gguf_strings(const struct gguf_value *v, struct gguf_cursor *cursor)
{
    if (!v || !v->is_array || v->type != GGUF_STRING)
        return false;
    cursor->next = v->data;
    cursor->left = v->count;
    return true;
}

bool gguf_next_string(struct gguf_cursor *cursor, const char **text, size_t *length)
{
    if (!cursor->left)
        return false;
    /* The lengths were checked when the file was parsed. */
    *length = (size_t)load_u64(cursor->next);
    *text = (const char *)cursor->next + sizeof(uint64_t);
    cursor->next += sizeof(uint64_t) + *length;
    cursor->left--;
    return true;
}

bool gguf_item_number(const struct gguf_value *v, uint64_t i, double *out)
{
    if (!v || i >= v->count)
        return false;
    return item_number(v->type, v->data + i * gguf_width(v->type), out);
}
