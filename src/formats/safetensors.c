/* safetensors.c: the safetensors container, read and written.
 *
 * A file is an 8-byte little-endian length, that many bytes of JSON, then the data. The reader is
 * stricter than the JSON it reads: every byte of the data belongs to exactly one tensor, so that a
 * file cannot carry what its header does not show. The values are not looked at.
 *
 * Source: the format's README in huggingface/safetensors.
 */
#include "formats/formats_internal.h"

enum { HEADER_LIMIT = 100000000, LENGTH_BYTES = 8, DATA_ALIGNMENT = 64 };

/* The names are those of the element types. */
static const graft_type DTYPES[] = {
    GRAFT_TYPE_F32, GRAFT_TYPE_F16, GRAFT_TYPE_BF16, GRAFT_TYPE_F64,     GRAFT_TYPE_I8,
    GRAFT_TYPE_I16, GRAFT_TYPE_I32, GRAFT_TYPE_I64,  GRAFT_TYPE_U8,      GRAFT_TYPE_U16,
    GRAFT_TYPE_U32, GRAFT_TYPE_U64, GRAFT_TYPE_BOOL, GRAFT_TYPE_F8_E4M3, GRAFT_TYPE_F8_E5M2,
};

static const char METADATA[] = "__metadata__";

/* json_parse reads all numbers of a text as doubles where one is beyond 64 bits, so the one that is
 * complained about need not be the culprit. */
static const char NO_INTEGER[] = "is no whole number (or another in the header is beyond 64 bits)";

/* ---- reading ------------------------------------------------------------------------------ */

static graft_status header_length(const uint8_t *bytes, size_t size, size_t *out,
                                  graft_error *error)
{
    const char *foreign = foreign_file(bytes, size);
    uint64_t length = size < LENGTH_BYTES ? 0 : load_u64(bytes);
    bool plausible = length >= 2 && length <= HEADER_LIMIT && length <= size - LENGTH_BYTES &&
                     bytes[LENGTH_BYTES] == '{';
    if (!plausible && foreign)
        return error_set(error, GRAFT_UNSUPPORTED, "not safetensors: it is %s", foreign);
    if (size < LENGTH_BYTES)
        return error_set(error, GRAFT_FORMAT, "the file is %zu bytes: too short for safetensors",
                         size);
    if (length > HEADER_LIMIT)
        return error_set(error, GRAFT_FORMAT,
                         "not safetensors: a header of %llu bytes (at most %d are allowed)",
                         (unsigned long long)length, HEADER_LIMIT);
    if (length > size - LENGTH_BYTES)
        return error_set(error, GRAFT_FORMAT,
                         "the header (%llu bytes) ends past the file (%zu bytes)",
                         (unsigned long long)length, size);
    if (!plausible)
        return error_set(error, GRAFT_FORMAT, "the header does not begin with '{'");
    *out = (size_t)length;
    return GRAFT_OK;
}

/* jansson quotes the text it stopped at: hostile, so it is cleaned before it is repeated. */
static graft_status parse_header(const uint8_t *text, size_t length, json_t **out,
                                 graft_error *error)
{
    graft_error why;
    graft_error_init(&why);
    graft_status status = json_parse((const char *)text, length, out, &why);
    if (!status)
        return GRAFT_OK;
    return error_set(error, status, "the header: %s",
                     show_name(why.message, strlen(why.message)).text);
}

static graft_status check_metadata(const json_t *metadata, graft_error *error)
{
    const char *key;
    json_t *value;
    if (!json_is_object(metadata))
        return error_set(error, GRAFT_FORMAT, "%s is no object", METADATA);
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value))
            return error_set(error, GRAFT_FORMAT, "%s: the value of \"%s\" is no string", METADATA,
                             show_name(key, strlen(key)).text);
    }
    return GRAFT_OK;
}

static graft_status read_dtype(struct tensor_info *tensor, const json_t *value, graft_error *error)
{
    const char *name = tensor->name;
    if (!json_is_string(value))
        return tensor_error(error, GRAFT_FORMAT, name, strlen(name), "dtype is no string");
    const char *dtype = json_string_value(value);
    for (size_t i = 0; i < ARRAY_LEN(DTYPES); i++)
        if (!strcmp(dtype, graft_type_name(DTYPES[i]))) {
            tensor->type = DTYPES[i];
            return GRAFT_OK;
        }
    return tensor_error(error, GRAFT_UNSUPPORTED, name, strlen(name),
                        "dtype \"%s\", which graft does not support",
                        show_name(dtype, strlen(dtype)).text);
}

static graft_status read_shape(struct tensor_info *tensor, const json_t *value, graft_error *error)
{
    const char *name = tensor->name;
    if (!json_is_array(value))
        return tensor_error(error, GRAFT_FORMAT, name, strlen(name), "shape is no array");
    size_t n_dims = json_array_size(value);
    if (n_dims > TENSOR_MAX_DIMS)
        return tensor_error(error, GRAFT_UNSUPPORTED, name, strlen(name),
                            "%zu dimensions (at most %d are supported)", n_dims, TENSOR_MAX_DIMS);
    for (size_t i = 0; i < n_dims; i++) {
        const json_t *dim = json_array_get(value, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return tensor_error(error, GRAFT_FORMAT, name, strlen(name), "dimension %zu %s", i,
                                json_is_integer(dim) ? "is negative" : NO_INTEGER);
        tensor->shape[i] = json_integer_value(dim);
    }
    tensor->n_dims = (int)n_dims;
    return GRAFT_OK;
}

static graft_status read_offsets(struct tensor_info *tensor, const json_t *value,
                                 const uint8_t *data, size_t data_size, graft_error *error)
{
    const char *name = tensor->name;
    const json_t *first = json_array_get(value, 0), *second = json_array_get(value, 1);
    if (json_array_size(value) != 2)
        return tensor_error(error, GRAFT_FORMAT, name, strlen(name),
                            "data_offsets is no array of two");
    if (!json_is_integer(first) || !json_is_integer(second))
        return tensor_error(error, GRAFT_FORMAT, name, strlen(name), "an offset %s", NO_INTEGER);
    long long begin = json_integer_value(first), end = json_integer_value(second);
    if (begin < 0 || end < begin)
        return tensor_error(error, GRAFT_FORMAT, name, strlen(name),
                            "bytes %lld..%lld are no extent", begin, end);
    if ((unsigned long long)end > data_size)
        return tensor_error(error, GRAFT_FORMAT, name, strlen(name),
                            "bytes %lld..%lld end past the data (%zu bytes)", begin, end,
                            data_size);
    tensor->data = data + begin;
    tensor->size = (size_t)(end - begin);
    return GRAFT_OK;
}

/* The three fields, no other, and their agreement. tensor->name is set. */
static graft_status read_tensor(struct tensor_info *tensor, const json_t *entry,
                                const uint8_t *data, size_t data_size, graft_error *error)
{
    const char *name = tensor->name, *key;
    json_t *value;
    bool dtype = false, shape = false, offsets = false;
    if (!json_is_object(entry))
        return tensor_error(error, GRAFT_FORMAT, name, strlen(name), "its entry is no object");
    json_object_foreach((json_t *)entry, key, value)
    {
        graft_status status;
        if (!strcmp(key, "dtype")) {
            dtype = true;
            status = read_dtype(tensor, value, error);
        } else if (!strcmp(key, "shape")) {
            shape = true;
            status = read_shape(tensor, value, error);
        } else if (!strcmp(key, "data_offsets")) {
            offsets = true;
            status = read_offsets(tensor, value, data, data_size, error);
        } else {
            status = tensor_error(error, GRAFT_UNSUPPORTED, name, strlen(name),
                                  "field \"%s\", which graft does not support",
                                  show_name(key, strlen(key)).text);
        }
        if (status)
            return status;
    }
    if (!dtype || !shape || !offsets)
        return tensor_error(error, GRAFT_FORMAT, name, strlen(name), "%s is missing",
                            !dtype   ? "dtype"
                            : !shape ? "shape"
                                     : "data_offsets");
    size_t needed;
    struct shown dims = show_shape(tensor->n_dims, tensor->shape);
    if (!tensor_byte_size(tensor->type, tensor->n_dims, tensor->shape, &needed))
        return tensor_error(error, GRAFT_FORMAT, name, strlen(name), "%s %s is too large",
                            graft_type_name(tensor->type), dims.text);
    if (needed != tensor->size)
        return tensor_error(error, GRAFT_FORMAT, name, strlen(name),
                            "%s %s needs %zu bytes, data_offsets give %zu",
                            graft_type_name(tensor->type), dims.text, needed, tensor->size);
    return GRAFT_OK;
}

static graft_status read_entries(struct safetensors *st, json_t *header, const uint8_t *data,
                                 size_t data_size, graft_error *error)
{
    const char *key;
    json_t *entry;
    json_object_foreach(header, key, entry)
    {
        if (!strcmp(key, METADATA)) {
            if (json_is_null(entry))
                continue;
            graft_status status = check_metadata(entry, error);
            if (status)
                return status;
            st->metadata = json_incref(entry);
            continue;
        }
        if (!*key)
            return error_set(error, GRAFT_FORMAT, "a tensor has an empty name");
        struct tensor_info *tensor = &st->tensors[st->n_tensors];
        tensor->name = arena_strndup(&st->names, key, strlen(key));
        if (!tensor->name)
            return error_set(error, GRAFT_NO_MEMORY, "no memory for the names of tensors");
        graft_status status = read_tensor(tensor, entry, data, data_size, error);
        if (status)
            return status;
        st->n_tensors++;
    }
    return GRAFT_OK;
}

/* Empty tensors sort before the one that begins where they lie. */
static int by_extent(const void *left, const void *right)
{
    const struct tensor_info *a = left, *b = right;
    if (a->data != b->data)
        return a->data < b->data ? -1 : 1;
    if (a->size != b->size)
        return a->size < b->size ? -1 : 1;
    return strcmp(a->name, b->name);
}

static graft_status check_coverage(const struct safetensors *st, const uint8_t *data,
                                   size_t data_size, graft_error *error)
{
    size_t covered = 0;
    for (size_t i = 0; i < st->n_tensors; i++) {
        const struct tensor_info *tensor = &st->tensors[i];
        size_t begin = (size_t)(tensor->data - data);
        if (begin < covered)
            return tensor_error(
                error, GRAFT_FORMAT, tensor->name, strlen(tensor->name),
                "bytes %zu..%zu overlap tensor \"%s\"", begin, begin + tensor->size,
                show_name(st->tensors[i - 1].name, strlen(st->tensors[i - 1].name)).text);
        if (begin > covered)
            return tensor_error(error, GRAFT_FORMAT, tensor->name, strlen(tensor->name),
                                "bytes %zu..%zu before it belong to no tensor", covered, begin);
        covered = begin + tensor->size;
    }
    if (covered != data_size)
        return error_set(error, GRAFT_FORMAT, "bytes %zu..%zu of the data belong to no tensor",
                         covered, data_size);
    return GRAFT_OK;
}

static graft_status build_index(struct safetensors *st, graft_error *error)
{
    bool ok = st->n_tensors <= INT32_MAX && str_map_reserve(&st->index, st->n_tensors);
    for (size_t i = 0; ok && i < st->n_tensors; i++)
        ok = str_map_put(&st->index, st->tensors[i].name, strlen(st->tensors[i].name), (int32_t)i,
                         NULL);
    return ok ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "no memory for the names of tensors");
}

graft_status safetensors_parse(struct safetensors *out, struct mem *mem, const uint8_t *bytes,
                               size_t size, graft_error *error)
{
    struct safetensors st = {.mem = mem};
    json_t *header = NULL;
    size_t length = 0;
    graft_status status = header_length(bytes, size, &length, error);
    if (status)
        return status;
    arena_init(&st.names, mem, SIZE_MAX); /* what it holds is bounded by the header */
    str_map_init(&st.index, mem);
    status = parse_header(bytes + LENGTH_BYTES, length, &header, error);
    if (status)
        goto fail;
    const uint8_t *data = bytes + LENGTH_BYTES + length;
    size_t data_size = size - LENGTH_BYTES - length;
    st.tensors = mem_calloc(mem, json_object_size(header), sizeof *st.tensors);
    if (!st.tensors) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for %zu tensors",
                           json_object_size(header));
        goto fail;
    }
    status = read_entries(&st, header, data, data_size, error);
    if (status)
        goto fail;
    if (st.n_tensors > 1)
        qsort(st.tensors, st.n_tensors, sizeof *st.tensors, by_extent);
    status = check_coverage(&st, data, data_size, error);
    if (!status)
        status = build_index(&st, error);
    if (status)
        goto fail;
    json_decref(header);
    *out = st;
    return GRAFT_OK;
fail:
    json_decref(header);
    safetensors_free(&st);
    return status;
}

const struct tensor_info *safetensors_find(const struct safetensors *st, const char *name)
{
    int32_t i = str_map_get(&st->index, name, strlen(name));
    return i < 0 ? NULL : &st->tensors[i];
}

void safetensors_free(struct safetensors *st)
{
    json_decref(st->metadata);
    mem_free(st->mem, st->tensors);
    str_map_free(&st->index);
    arena_free(&st->names);
    *st = (struct safetensors){0};
}

/* ---- writing ------------------------------------------------------------------------------ */

static bool has_dtype(graft_type type)
{
    for (size_t i = 0; i < ARRAY_LEN(DTYPES); i++)
        if (DTYPES[i] == type)
            return true;
    return false;
}

static graft_status check_decl(const struct tensor_decl *decl, const json_t *header, size_t *size,
                               graft_error *error)
{
    size_t length = strlen(decl->name);
    if (!name_is_valid(decl->name, length) || !strcmp(decl->name, METADATA))
        return error_set(error, GRAFT_INVALID_ARGUMENT, "\"%s\" cannot be the name of a tensor",
                         show_name(decl->name, length).text);
    if (json_object_get(header, decl->name))
        return tensor_error(error, GRAFT_INVALID_ARGUMENT, decl->name, length, "declared twice");
    if (!has_dtype(decl->type))
        return tensor_error(error, GRAFT_INVALID_ARGUMENT, decl->name, length,
                            "safetensors cannot hold %s", graft_type_name(decl->type));
    if (decl->n_dims < 0 || decl->n_dims > TENSOR_MAX_DIMS)
        return tensor_error(error, GRAFT_INVALID_ARGUMENT, decl->name, length, "%d dimensions",
                            decl->n_dims);
    if (!tensor_byte_size(decl->type, decl->n_dims, decl->shape, size))
        return tensor_error(error, GRAFT_INVALID_ARGUMENT, decl->name, length,
                            "the shape %s is not possible",
                            show_shape(decl->n_dims, decl->shape).text);
    return GRAFT_OK;
}

/* {"dtype":…,"shape":[…],"data_offsets":[begin,end]}; NULL: no memory. */
static json_t *decl_entry(const struct tensor_decl *decl, size_t begin, size_t end)
{
    json_t *shape = json_array();
    for (int i = 0; shape && i < decl->n_dims; i++)
        if (json_array_append_new(shape, json_integer(decl->shape[i]))) {
            json_decref(shape);
            shape = NULL;
        }
    if (!shape)
        return NULL;
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", graft_type_name(decl->type), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static graft_status build_header(json_t *header, const struct tensor_decl *tensors,
                                 size_t n_tensors, graft_error *error)
{
    size_t offset = 0;
    for (size_t i = 0; i < n_tensors; i++) {
        size_t size, end;
        graft_status status = check_decl(&tensors[i], header, &size, error);
        if (status)
            return status;
        if (!size_add(offset, size, &end) || end > INT64_MAX)
            return tensor_error(error, GRAFT_INVALID_ARGUMENT, tensors[i].name,
                                strlen(tensors[i].name), "the file would be too large");
        if (json_object_set_new(header, tensors[i].name, decl_entry(&tensors[i], offset, end)))
            return error_set(error, GRAFT_NO_MEMORY, "no memory for the header");
        offset = end;
    }
    return GRAFT_OK;
}

static int append_text(const char *text, size_t size, void *buf)
{
    return buf_append(buf, text, size) ? 0 : -1;
}

static graft_status write_padded(struct file_writer *w, struct buf *text, graft_error *error)
{
    while (!text->status && (LENGTH_BYTES + text->size) % DATA_ALIGNMENT)
        buf_putc(text, ' ');
    if (text->status)
        return error_set(error, text->status, "the header of the file is too large");
    uint64_t length = text->size;
    graft_status status = file_writer_write(w, &length, sizeof length, error);
    return status ? status : file_writer_write(w, text->data, text->size, error);
}

graft_status safetensors_write_header(struct file_writer *w, const struct tensor_decl *tensors,
                                      size_t n_tensors, const json_t *metadata, graft_error *error)
{
    struct buf text;
    graft_status status = GRAFT_OK;
    json_t *header = json_object();
    buf_init(&text, w->mem, HEADER_LIMIT);
    if (metadata)
        status = check_metadata(metadata, error);
    if (status)
        goto done;
    if (metadata && json_object_set(header, METADATA, (json_t *)metadata)) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for the header");
        goto done;
    }
    status = build_header(header, tensors, n_tensors, error);
    if (status)
        goto done;
    /* A failure of the callback sticks in `text`; jansson's own is a lack of memory. */
    if (json_dump_callback(header, append_text, &text, JSON_COMPACT) && !text.status)
        text.status = GRAFT_NO_MEMORY;
    status = write_padded(w, &text, error);
done:
    buf_free(&text);
    json_decref(header);
    return status;
}
