/* npy.c: see npy.h.
 *
 * The head of a file is the text of a Python dictionary. Only the one form that NumPy itself writes
 * is read: its three keys in any order, a little-endian float32 array in row-major order.
 *
 * Source: numpy.lib.format, versions 1.0 and 2.0.
 */
#include "npy.h"

static const char MAGIC[] = "\x93NUMPY";

enum { MAGIC_BYTES = 6, HEAD_V1 = 10, HEAD_V2 = 12, ALIGNMENT = 64, MAX_HEADER = 1024 };

static bool byte_size(int n_dims, const int64_t *shape, size_t *out)
{
    size_t size = sizeof(float);
    for (int i = 0; i < n_dims; i++) {
        if (shape[i] < 0 || (shape[i] > 0 && size > SIZE_MAX / (size_t)shape[i]))
            return false;
        size *= (size_t)shape[i];
    }
    *out = size;
    return true;
}

/* Little-endian, of n bytes. */
static size_t load(const uint8_t *bytes, int n)
{
    size_t value = 0;
    while (n-- > 0)
        value = value << 8 | bytes[n];
    return value;
}

/* ---- writing ------------------------------------------------------------------------------ */

/* The whole head of the file, its length field included. */
static void format_head(struct buf *head, const int64_t *shape, int n_dims)
{
    buf_append(head, MAGIC, MAGIC_BYTES);
    buf_append(head, "\1\0\0\0", HEAD_V1 - MAGIC_BYTES);
    buf_puts(head, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for (int i = 0; i < n_dims; i++)
        buf_printf(head, "%s%lld", i ? ", " : "", (long long)shape[i]);
    buf_puts(head, n_dims == 1 ? ",), }" : "), }");
    while (!head->status && (head->size + 1) % ALIGNMENT)
        buf_putc(head, ' ');
    buf_putc(head, '\n');
    if (head->status)
        return;
    head->data[HEAD_V1 - 2] = (char)((head->size - HEAD_V1) & 0xff);
    head->data[HEAD_V1 - 1] = (char)((head->size - HEAD_V1) >> 8);
}

graft_status npy_write_f32(struct mem *mem, const char *path, const float *data,
                           const int64_t *shape, int n_dims, graft_error *error)
{
    struct file_writer w = {0};
    struct buf head;
    size_t size;
    if (n_dims < 0 || n_dims > TENSOR_MAX_DIMS || !byte_size(n_dims, shape, &size))
        return error_set(error, GRAFT_INVALID_ARGUMENT, "a shape that .npy cannot hold");
    buf_init(&head, mem, MAX_HEADER);
    format_head(&head, shape, n_dims);
    graft_status status = head.status;
    if (status)
        error_set(error, status, "no memory for the head of a .npy file");
    else
        status = file_writer_open(&w, mem, path, error);
    if (!status)
        status = file_writer_write(&w, head.data, head.size, error);
    if (!status)
        status = file_writer_write(&w, data, size, error);
    if (!status)
        status = file_writer_commit(&w, error);
    file_writer_abort(&w);
    buf_free(&head);
    return status;
}

/* ---- reading ------------------------------------------------------------------------------ */

/* A cursor over the text of the dictionary. */
struct text {
    const char *at, *end;
};

static void skip_spaces(struct text *t)
{
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\n'))
        t->at++;
}

static bool skip(struct text *t, const char *word)
{
    size_t length = strlen(word);
    skip_spaces(t);
    if ((size_t)(t->end - t->at) < length || memcmp(t->at, word, length))
        return false;
    t->at += length;
    return true;
}

static bool read_number(struct text *t, int64_t *out)
{
    int64_t value = 0;
    skip_spaces(t);
    const char *begin = t->at;
    while (t->at < t->end && *t->at >= '0' && *t->at <= '9') {
        int digit = *t->at++ - '0';
        if (value > (INT64_MAX - digit) / 10)
            return false;
        value = 10 * value + digit;
    }
    *out = value;
    return t->at > begin;
}

static bool read_shape(struct text *t, struct npy_array *out)
{
    if (!skip(t, "("))
        return false;
    while (!skip(t, ")")) {
        if (out->n_dims == TENSOR_MAX_DIMS || !read_number(t, &out->shape[out->n_dims]))
            return false;
        out->n_dims++;
        if (!skip(t, ","))
            return skip(t, ")");
    }
    return true;
}

/* Each key once, in any order; the values graft reads. */
static bool read_dictionary(struct text *t, struct npy_array *out)
{
    bool descr = false, order = false, shape = false;
    if (!skip(t, "{"))
        return false;
    while (!skip(t, "}")) {
        bool *seen = skip(t, "'descr':")           ? &descr
                     : skip(t, "'fortran_order':") ? &order
                     : skip(t, "'shape':")         ? &shape
                                                   : NULL;
        if (!seen || *seen)
            return false;
        *seen = true;
        bool ok = seen == &descr   ? skip(t, "'<f4'")
                  : seen == &order ? skip(t, "False")
                                   : read_shape(t, out);
        if (!ok)
            return false;
        if (!skip(t, ","))
            return skip(t, "}") && descr && order && shape;
    }
    return descr && order && shape;
}

graft_status npy_parse_f32(struct npy_array *out, const uint8_t *bytes, size_t size,
                           graft_error *error)
{
    struct npy_array array = {0};
    if (size < HEAD_V2 || memcmp(bytes, MAGIC, MAGIC_BYTES))
        return error_set(error, GRAFT_FORMAT, "not a .npy file");
    if ((bytes[6] != 1 && bytes[6] != 2) || bytes[7])
        return error_set(error, GRAFT_UNSUPPORTED, ".npy version %u.%u", bytes[6], bytes[7]);
    size_t begin = bytes[6] == 1 ? HEAD_V1 : HEAD_V2;
    size_t length = bytes[6] == 1 ? load(bytes + 8, 2) : load(bytes + 8, 4);
    if (length > size - begin)
        return error_set(error, GRAFT_FORMAT, "the head of the .npy file ends past the file");
    struct text text = {(const char *)bytes + begin, (const char *)bytes + begin + length};
    if (!read_dictionary(&text, &array))
        return error_set(error, GRAFT_UNSUPPORTED,
                         "a .npy file that is no row-major array of little-endian float32");
    skip_spaces(&text);
    if (text.at != text.end)
        return error_set(error, GRAFT_FORMAT, "the head of the .npy file goes on after its end");
    size_t needed, room = size - begin - length;
    if (!byte_size(array.n_dims, array.shape, &needed) || needed != room)
        return error_set(error, GRAFT_FORMAT, "the shape does not fit the %zu bytes of data", room);
    array.data = bytes + begin + length;
    array.count = needed / sizeof(float);
    *out = array;
    return GRAFT_OK;
}
