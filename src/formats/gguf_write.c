/* gguf_write.c: writes GGUF version 3.
 *
 * Metadata and descriptions gather in two buffers, since the counts come before them in the file;
 * the tensors' bytes stream behind. Offsets are fixed at declaration, so the data must follow in
 * declared order, each padded to the alignment.
 */
#include "formats/gguf_internal.h"

enum { VERSION = 3, VALUES_LIMIT = 1 << 30, INFOS_LIMIT = 1 << 28 };

void gguf_writer_init(struct gguf_writer *w, struct mem *mem)
{
    *w = (struct gguf_writer){.mem = mem};
    buf_init(&w->values, mem, VALUES_LIMIT);
    buf_init(&w->infos, mem, INFOS_LIMIT);
}

void gguf_writer_free(struct gguf_writer *w)
{
    buf_free(&w->values);
    buf_free(&w->infos);
    *w = (struct gguf_writer){0};
}

/* ---- metadata ----------------------------------------------------------------------------- */

static void append_u32(struct buf *buf, uint32_t value)
{
    buf_append(buf, &value, sizeof value);
}

static void append_u64(struct buf *buf, uint64_t value)
{
    buf_append(buf, &value, sizeof value);
}

static void append_string(struct buf *buf, const char *text, size_t length)
{
    append_u64(buf, length);
    buf_append(buf, text, length);
}

static void begin_value(struct gguf_writer *w, const char *key, enum gguf_type type)
{
    append_string(&w->values, key, strlen(key));
    append_u32(&w->values, type);
    w->n_values++;
}

static void begin_array(struct gguf_writer *w, const char *key, enum gguf_type type, uint64_t count)
{
    begin_value(w, key, GGUF_ARRAY);
    append_u32(&w->values, type);
    append_u64(&w->values, count);
}

void gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t value)
{
    begin_value(w, key, GGUF_U32);
    append_u32(&w->values, value);
}

void gguf_put_f32(struct gguf_writer *w, const char *key, float value)
{
    begin_value(w, key, GGUF_F32);
    buf_append(&w->values, &value, sizeof value);
}

void gguf_put_bool(struct gguf_writer *w, const char *key, bool value)
{
    begin_value(w, key, GGUF_BOOL);
    buf_putc(&w->values, value ? 1 : 0);
}

void gguf_put_string(struct gguf_writer *w, const char *key, const char *text, size_t length)
{
    begin_value(w, key, GGUF_STRING);
    append_string(&w->values, text, length);
}

void gguf_put_strings(struct gguf_writer *w, const char *key, const char *const *texts,
                      const size_t *lengths, uint64_t count)
{
    begin_array(w, key, GGUF_STRING, count);
    for (uint64_t i = 0; i < count; i++)
        append_string(&w->values, texts[i], lengths[i]);
}

void gguf_put_f32s(struct gguf_writer *w, const char *key, const float *values, uint64_t count)
{
    begin_array(w, key, GGUF_F32, count);
    buf_append(&w->values, values, (size_t)count * sizeof *values);
}

void gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *values, uint64_t count)
{
    begin_array(w, key, GGUF_I32, count);
    buf_append(&w->values, values, (size_t)count * sizeof *values);
}

void gguf_put_value(struct gguf_writer *w, const struct gguf_value *value)
{
    if (value->is_array)
        begin_array(w, value->key, value->type, value->count);
    else
        begin_value(w, value->key, value->type);
    buf_append(&w->values, value->data, value->size);
}

/* ---- tensors ------------------------------------------------------------------------------ */

static graft_status check_decl(const struct tensor_decl *decl, size_t *size, graft_error *error)
{
    size_t length = strlen(decl->name);
    int ggml_id = type_traits(decl->type)->ggml_id;
    if (!name_is_valid(decl->name, length) || length > GGUF_WRITE_MAX_NAME)
        return tensor_error(error, GRAFT_INVALID_ARGUMENT, decl->name, length,
                            "a name in GGUF has 1 to %d bytes", GGUF_WRITE_MAX_NAME);
    if (ggml_id < 0)
        return tensor_error(error, GRAFT_INVALID_ARGUMENT, decl->name, length,
                            "GGUF cannot hold %s", graft_type_name(decl->type));
    if (decl->n_dims < 0 || decl->n_dims > GGUF_MAX_DIMS)
        return tensor_error(error, GRAFT_INVALID_ARGUMENT, decl->name, length,
                            "%d dimensions (GGUF has at most %d)", decl->n_dims, GGUF_MAX_DIMS);
    bool possible = tensor_byte_size(decl->type, decl->n_dims, decl->shape, size);
    for (int i = 0; i < decl->n_dims; i++)
        possible = possible && decl->shape[i] > 0;
    if (!possible)
        return tensor_error(error, GRAFT_INVALID_ARGUMENT, decl->name, length,
                            "the shape %s is not possible for %s",
                            show_shape(decl->n_dims, decl->shape).text,
                            graft_type_name(decl->type));
    return GRAFT_OK;
}

graft_status gguf_declare(struct gguf_writer *w, const struct tensor_decl *decl, graft_error *error)
{
    size_t size, end;
    graft_status status = check_decl(decl, &size, error);
    if (status)
        return status;
    if (!size_add((size_t)w->offset, size, &end) || end > INT64_MAX - GGUF_WRITE_ALIGNMENT)
        return tensor_error(error, GRAFT_INVALID_ARGUMENT, decl->name, strlen(decl->name),
                            "the file would be too large");
    append_string(&w->infos, decl->name, strlen(decl->name));
    append_u32(&w->infos, (uint32_t)decl->n_dims);
    for (int i = decl->n_dims - 1; i >= 0; i--)
        append_u64(&w->infos, (uint64_t)decl->shape[i]);
    append_u32(&w->infos, (uint32_t)type_traits(decl->type)->ggml_id);
    append_u64(&w->infos, w->offset);
    if (w->infos.status)
        return error_set(error, w->infos.status, "the descriptions of the tensors are too large");
    w->n_tensors++;
    w->offset = (end + GGUF_WRITE_ALIGNMENT - 1) & ~(uint64_t)(GGUF_WRITE_ALIGNMENT - 1);
    return GRAFT_OK;
}

graft_status gguf_write_head(struct gguf_writer *w, struct file_writer *file, graft_error *error)
{
    struct {
        char magic[4];
        uint32_t version;
        uint64_t n_tensors, n_values;
    } head = {{'G', 'G', 'U', 'F'}, VERSION, w->n_tensors, w->n_values};
    if (w->values.status)
        return error_set(error, w->values.status, "the metadata of the file are too large");
    graft_status status = file_writer_write(file, &head, sizeof head, error);
    if (!status)
        status = file_writer_write(file, w->values.data, w->values.size, error);
    if (!status)
        status = file_writer_write(file, w->infos.data, w->infos.size, error);
    return status ? status : file_writer_pad(file, GGUF_WRITE_ALIGNMENT, error);
}

graft_status gguf_write_tensor(struct file_writer *file, const void *bytes, size_t size,
                               graft_error *error)
{
    graft_status status = file_writer_write(file, bytes, size, error);
    return status ? status : file_writer_pad(file, GGUF_WRITE_ALIGNMENT, error);
}
