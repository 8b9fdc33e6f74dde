/* gguf_read.c: the GGUF container, bytes to descriptors.
 *
 * A file is a head (magic, version, two counts), metadata entries, descriptions of tensors, padding,
 * data. Counts and lengths are 64-bit and hostile: each is compared with the bytes that are left
 * before anything is allocated or stepped over, so work and memory are linear in the file. Access to
 * the values lives in gguf_values.c.
 *
 * Source: the GGUF specification in ggml-org/ggml.
 */
#include "formats/gguf_internal.h"

enum { HEAD_BYTES = 24, DEFAULT_ALIGNMENT = 32, MAX_ALIGNMENT = 1 << 30, MAX_KEY = 65535 };

/* Least bytes of an entry (key length, type, one byte) and of a description (name length, number of
 * dimensions, type, offset). */
enum { MIN_ENTRY = 8 + 4 + 1, MIN_TENSOR = 8 + 4 + 4 + 8 };

struct reader {
    const uint8_t *bytes;
    size_t size, at;
};

/* Where a tensor lies, for the check of overlaps. */
struct extent {
    size_t begin, end, tensor;
};

static const uint8_t *take(struct reader *r, uint64_t n)
{
    if (n > r->size - r->at)
        return NULL;
    const uint8_t *p = r->bytes + r->at;
    r->at += (size_t)n;
    return p;
}

static bool take_u32(struct reader *r, uint32_t *out)
{
    const uint8_t *p = take(r, sizeof *out);
    if (p)
        *out = load_u32(p);
    return p != NULL;
}

static bool take_u64(struct reader *r, uint64_t *out)
{
    const uint8_t *p = take(r, sizeof *out);
    if (p)
        *out = load_u64(p);
    return p != NULL;
}

static const char *take_string(struct reader *r, size_t *length)
{
    uint64_t n;
    if (!take_u64(r, &n))
        return NULL;
    *length = (size_t)n;
    return (const char *)take(r, n);
}

static graft_status cut_off(graft_error *error, const char *what, size_t i, size_t size)
{
    return error_set(error, GRAFT_FORMAT, "the file (%zu bytes) ends inside %s %zu", size, what, i);
}

/* ---- head --------------------------------------------------------------------------------- */

static graft_status read_version(struct gguf *g, struct reader *r, graft_error *error)
{
    const char *foreign = foreign_file(r->bytes, r->size);
    if (!begins_with(r->bytes, r->size, "GGUF")) {
        if (foreign)
            return error_set(error, GRAFT_UNSUPPORTED, "not GGUF: it is %s", foreign);
        return error_set(error, GRAFT_FORMAT, "not GGUF: the file does not begin with \"GGUF\"");
    }
    if (r->size < HEAD_BYTES)
        return error_set(error, GRAFT_FORMAT, "the file is %zu bytes: too short for GGUF", r->size);
    r->at = 4;
    take_u32(r, &g->version);
    if (g->version == 2 || g->version == 3)
        return GRAFT_OK;
    if (g->version && !(g->version & 0xffff))
        return error_set(error, GRAFT_UNSUPPORTED,
                         "a big-endian GGUF, which graft does not support");
    return error_set(error, GRAFT_UNSUPPORTED,
                     "GGUF version %u, which graft does not support (2 and 3 are)",
                     (unsigned)g->version);
}

static graft_status read_counts(struct gguf *g, struct reader *r, graft_error *error)
{
    uint64_t n_tensors = 0, n_values = 0;
    take_u64(r, &n_tensors);
    take_u64(r, &n_values);
    size_t left = r->size - r->at;
    if (n_values > left / MIN_ENTRY || n_values > INT32_MAX)
        return error_set(error, GRAFT_FORMAT,
                         "the head claims %llu metadata entries; the file is %zu bytes",
                         (unsigned long long)n_values, r->size);
    if (n_tensors > (left - n_values * MIN_ENTRY) / MIN_TENSOR || n_tensors > INT32_MAX)
        return error_set(error, GRAFT_FORMAT, "the head claims %llu tensors; the file is %zu bytes",
                         (unsigned long long)n_tensors, r->size);
    g->n_values = (size_t)n_values;
    g->n_tensors = (size_t)n_tensors;
    return GRAFT_OK;
}

/* ---- metadata ----------------------------------------------------------------------------- */

/* The items of a value whose type and count are known. */
static graft_status read_items(struct gguf_value *v, struct reader *r, graft_error *error)
{
    size_t begin = r->at, left = r->size - r->at, width = gguf_width(v->type);
    struct shown key = show_name(v->key, strlen(v->key));
    bool fits = true;
    if (v->type == GGUF_STRING) {
        size_t length;
        for (uint64_t i = 0; fits && i < v->count; i++)
            fits = take_string(r, &length) != NULL;
    } else {
        fits = v->count <= left / width && take(r, v->count * width);
    }
    if (!fits && v->is_array)
        return error_set(error, GRAFT_FORMAT,
                         "metadata \"%s\": %llu values end past the file (%zu bytes left)",
                         key.text, (unsigned long long)v->count, left);
    if (!fits)
        return error_set(error, GRAFT_FORMAT,
                         "metadata \"%s\": its value ends past the file (%zu bytes left)", key.text,
                         left);
    v->data = r->bytes + begin;
    v->size = r->at - begin;
    for (size_t i = 0; v->type == GGUF_BOOL && i < v->size; i++)
        if (v->data[i] > 1)
            return error_set(error, GRAFT_FORMAT, "metadata \"%s\": a boolean is %u", key.text,
                             v->data[i]);
    return GRAFT_OK;
}

static graft_status read_value(struct gguf_value *v, struct reader *r, size_t i, graft_error *error)
{
    uint32_t type;
    struct shown key = show_name(v->key, strlen(v->key));
    if (!take_u32(r, &type))
        return cut_off(error, "metadata entry", i, r->size);
    v->count = 1;
    v->is_array = type == GGUF_ARRAY;
    if (v->is_array && (!take_u32(r, &type) || !take_u64(r, &v->count)))
        return cut_off(error, "metadata entry", i, r->size);
    if (type == GGUF_ARRAY)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "metadata \"%s\": an array of arrays, which graft does not support",
                         key.text);
    if (type >= GGUF_TYPE_COUNT)
        return error_set(error, GRAFT_FORMAT, "metadata \"%s\": type %u does not exist", key.text,
                         (unsigned)type);
    v->type = (enum gguf_type)type;
    return read_items(v, r, error);
}

static graft_status read_values(struct gguf *g, struct reader *r, graft_error *error)
{
    g->values = mem_calloc(g->mem, g->n_values, sizeof *g->values);
    if (!g->values || !str_map_reserve(&g->value_index, g->n_values))
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu metadata entries", g->n_values);
    for (size_t i = 0; i < g->n_values; i++) {
        size_t length;
        bool twice = false;
        const char *key = take_string(r, &length);
        if (!key)
            return cut_off(error, "metadata entry", i, r->size);
        if (length > MAX_KEY || !name_is_valid(key, length))
            return error_set(error, GRAFT_FORMAT, "metadata entry %zu: \"%s\" cannot be a key", i,
                             show_name(key, length).text);
        key = arena_strndup(&g->names, key, length);
        if (!key || !str_map_put(&g->value_index, key, length, (int32_t)i, &twice))
            return error_set(error, GRAFT_NO_MEMORY, "no memory for metadata keys");
        if (twice)
            return error_set(error, GRAFT_FORMAT, "metadata \"%s\" is in the file twice",
                             show_name(key, length).text);
        g->values[i].key = key;
        graft_status status = read_value(&g->values[i], r, i, error);
        if (status)
            return status;
    }
    return GRAFT_OK;
}

static graft_status read_alignment(struct gguf *g, graft_error *error)
{
    int64_t alignment = DEFAULT_ALIGNMENT;
    graft_status status = gguf_get_int(g, "general.alignment", 1, MAX_ALIGNMENT, &alignment, error);
    if (status)
        return status;
    if (alignment & (alignment - 1))
        return error_set(error, GRAFT_FORMAT, "general.alignment %lld is no power of two",
                         (long long)alignment);
    g->alignment = (uint64_t)alignment;
    return GRAFT_OK;
}

/* ---- tensors ------------------------------------------------------------------------------ */

/* Names of all types that ggml has or had. */
static const char *ggml_type_name(uint32_t id)
{
    static const char *const NAMES[] = {
        "F32",   "F16",        "Q4_0",       "Q4_1",       "Q4_2",     "Q4_3",     "Q5_0",
        "Q5_1",  "Q8_0",       "Q8_1",       "Q2_K",       "Q3_K",     "Q4_K",     "Q5_K",
        "Q6_K",  "Q8_K",       "IQ2_XXS",    "IQ2_XS",     "IQ3_XXS",  "IQ1_S",    "IQ4_NL",
        "IQ3_S", "IQ2_S",      "IQ4_XS",     "I8",         "I16",      "I32",      "I64",
        "F64",   "IQ1_M",      "BF16",       "Q4_0_4_4",   "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",
        "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",    "NVFP4",    "Q1_0",
    };
    return id < ARRAY_LEN(NAMES) ? NAMES[id] : NULL;
}

static graft_status read_type(struct tensor_info *tensor, uint32_t id, graft_error *error)
{
    size_t length = strlen(tensor->name);
    const char *name = ggml_type_name(id);
    tensor->type = type_from_ggml(id);
    if (tensor->type != GRAFT_TYPE_COUNT)
        return GRAFT_OK;
    if (name)
        return tensor_error(error, GRAFT_UNSUPPORTED, tensor->name, length,
                            "type %s (%u), which graft does not support", name, (unsigned)id);
    return tensor_error(error, GRAFT_UNSUPPORTED, tensor->name, length,
                        "type %u, which graft does not know", (unsigned)id);
}

/* ne comes innermost first; shape is outermost first. */
static graft_status read_dims(struct tensor_info *tensor, struct reader *r, size_t i,
                              graft_error *error)
{
    size_t length = strlen(tensor->name);
    uint32_t n_dims;
    if (!take_u32(r, &n_dims))
        return cut_off(error, "the description of tensor", i, r->size);
    if (n_dims > GGUF_MAX_DIMS)
        return tensor_error(error, GRAFT_FORMAT, tensor->name, length,
                            "%u dimensions (GGUF has at most %d)", (unsigned)n_dims, GGUF_MAX_DIMS);
    tensor->n_dims = (int)n_dims;
    for (uint32_t d = 0; d < n_dims; d++) {
        uint64_t ne;
        if (!take_u64(r, &ne))
            return cut_off(error, "the description of tensor", i, r->size);
        if (!ne || ne > INT64_MAX)
            return tensor_error(error, GRAFT_FORMAT, tensor->name, length, "dimension %u is %llu",
                                (unsigned)d, (unsigned long long)ne);
        tensor->shape[n_dims - 1 - d] = (int64_t)ne;
    }
    return GRAFT_OK;
}

static graft_status size_tensor(struct tensor_info *tensor, graft_error *error)
{
    const struct type_traits *traits = type_traits(tensor->type);
    int64_t row = tensor->n_dims ? tensor->shape[tensor->n_dims - 1] : 1;
    if (tensor_byte_size(tensor->type, tensor->n_dims, tensor->shape, &tensor->size))
        return GRAFT_OK;
    if (row % traits->block_values)
        return tensor_error(error, GRAFT_FORMAT, tensor->name, strlen(tensor->name),
                            "rows of %lld values, and %s comes in blocks of %lld", (long long)row,
                            traits->name, (long long)traits->block_values);
    return tensor_error(error, GRAFT_FORMAT, tensor->name, strlen(tensor->name),
                        "%s %s is too large", traits->name,
                        show_shape(tensor->n_dims, tensor->shape).text);
}

/* One description. The offset stays relative to the data, whose place is not known yet. */
static graft_status read_tensor(struct gguf *g, struct reader *r, size_t i, uint64_t *offset,
                                graft_error *error)
{
    struct tensor_info *tensor = &g->tensors[i];
    size_t length;
    uint32_t type;
    bool twice = false;
    const char *name = take_string(r, &length);
    if (!name)
        return cut_off(error, "the description of tensor", i, r->size);
    if (!name_is_valid(name, length))
        return error_set(error, GRAFT_FORMAT, "tensor %zu: \"%s\" cannot be a name", i,
                         show_name(name, length).text);
    tensor->name = arena_strndup(&g->names, name, length);
    if (!tensor->name || !str_map_put(&g->tensor_index, tensor->name, length, (int32_t)i, &twice))
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the names of tensors");
    if (twice)
        return tensor_error(error, GRAFT_FORMAT, name, length, "is in the file twice");
    graft_status status = read_dims(tensor, r, i, error);
    if (status)
        return status;
    if (!take_u32(r, &type) || !take_u64(r, offset))
        return cut_off(error, "the description of tensor", i, r->size);
    status = read_type(tensor, type, error);
    if (status)
        return status;
    return size_tensor(tensor, error);
}

static graft_status place_tensor(struct gguf *g, const struct reader *r, uint64_t offset,
                                 struct tensor_info *tensor, graft_error *error)
{
    size_t length = strlen(tensor->name), room = r->size - g->data_offset;
    if (offset % g->alignment)
        return tensor_error(error, GRAFT_FORMAT, tensor->name, length,
                            "offset %llu is no multiple of the alignment %llu",
                            (unsigned long long)offset, (unsigned long long)g->alignment);
    if (offset > room || tensor->size > room - offset)
        return tensor_error(error, GRAFT_FORMAT, tensor->name, length,
                            "%zu bytes at offset %llu end past the data (%zu bytes)", tensor->size,
                            (unsigned long long)offset, room);
    tensor->data = r->bytes + g->data_offset + offset;
    return GRAFT_OK;
}

static int by_begin(const void *left, const void *right)
{
    const struct extent *a = left, *b = right;
    return a->begin < b->begin ? -1 : a->begin > b->begin;
}

static graft_status check_overlaps(const struct gguf *g, const uint8_t *bytes,
                                   struct extent *extents, graft_error *error)
{
    for (size_t i = 0; i < g->n_tensors; i++) {
        extents[i].begin = (size_t)(g->tensors[i].data - bytes);
        extents[i].end = extents[i].begin + g->tensors[i].size;
        extents[i].tensor = i;
    }
    if (g->n_tensors > 1)
        qsort(extents, g->n_tensors, sizeof *extents, by_begin);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (extents[i].begin < extents[i - 1].end) {
            const char *name = g->tensors[extents[i].tensor].name;
            const char *other = g->tensors[extents[i - 1].tensor].name;
            return tensor_error(error, GRAFT_FORMAT, name, strlen(name),
                                "its data overlap those of tensor \"%s\"",
                                show_name(other, strlen(other)).text);
        }
    return GRAFT_OK;
}

/* extents: [n_tensors]; begin first holds the offsets of the descriptions. */
static graft_status read_descriptions(struct gguf *g, struct reader *r, struct extent *extents,
                                      graft_error *error)
{
    graft_status status;
    for (size_t i = 0; i < g->n_tensors; i++) {
        uint64_t offset = 0;
        status = read_tensor(g, r, i, &offset, error);
        if (status)
            return status;
        extents[i].begin = (size_t)offset;
    }
    /* A file without data may end before the padding does. */
    size_t pad = (size_t)(-(uint64_t)r->at & (g->alignment - 1));
    g->data_offset = pad < r->size - r->at ? r->at + pad : r->size;
    for (size_t i = 0; i < g->n_tensors; i++) {
        status = place_tensor(g, r, extents[i].begin, &g->tensors[i], error);
        if (status)
            return status;
    }
    return check_overlaps(g, r->bytes, extents, error);
}

static graft_status read_tensors(struct gguf *g, struct reader *r, graft_error *error)
{
    struct extent *extents = mem_calloc(g->mem, g->n_tensors, sizeof *extents);
    g->tensors = mem_calloc(g->mem, g->n_tensors, sizeof *g->tensors);
    graft_status status;
    if (extents && g->tensors && str_map_reserve(&g->tensor_index, g->n_tensors))
        status = read_descriptions(g, r, extents, error);
    else
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for %zu tensors", g->n_tensors);
    mem_free(g->mem, extents);
    return status;
}

graft_status gguf_parse(struct gguf *out, struct mem *mem, const uint8_t *bytes, size_t size,
                        graft_error *error)
{
    struct gguf g = {.mem = mem};
    struct reader r = {.bytes = bytes, .size = size};
    arena_init(&g.names, mem, SIZE_MAX); /* what it holds is bounded by the file */
    str_map_init(&g.value_index, mem);
    str_map_init(&g.tensor_index, mem);
    graft_status status = read_version(&g, &r, error);
    if (!status)
        status = read_counts(&g, &r, error);
    if (!status)
        status = read_values(&g, &r, error);
    if (!status)
        status = read_alignment(&g, error);
    if (!status)
        status = read_tensors(&g, &r, error);
    if (status)
        gguf_free(&g);
    else
        *out = g;
    return status;
}

void gguf_free(struct gguf *g)
{
    mem_free(g->mem, g->values);
    mem_free(g->mem, g->tensors);
    str_map_free(&g->value_index);
    str_map_free(&g->tensor_index);
    arena_free(&g->names);
    *g = (struct gguf){0};
}
