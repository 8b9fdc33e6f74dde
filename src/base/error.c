/* error.c: status texts, the caller-owned error record, checked sizes, the version.
 *
 * The record is written only on failure, by whoever notices first; callers on the way up add the
 * file and the tensor when they know them. Nothing here allocates, so that "out of memory" can be
 * reported.
 */
#include "base/base.h"

const char *graft_status_text(graft_status status)
{
    static const char *const TEXTS[GRAFT_STATUS_COUNT] = {
#define STATUS_TEXT(name, text) text,
        GRAFT_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
    };
    return (int)status >= 0 && status < GRAFT_STATUS_COUNT ? TEXTS[status] : "unknown status";
}

const char *graft_version(void)
{
    return GRAFT_VERSION_STRING;
}

void graft_error_init(graft_error *error)
{
    if (error)
        *error = (graft_error){.status = GRAFT_OK};
}

/* Text from a hostile file ends up in messages: control characters would let it write to a
 * terminal or break the one-line rule. */
static void make_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = ' ';
}

/* Copies what fits; a cut does not leave half a UTF-8 character behind. */
static void copy_bounded(char *out, size_t capacity, const char *text)
{
    size_t size = strlen(text);
    if (size >= capacity)
        size = utf8_complete(text, capacity - 1);
    memcpy(out, text, size);
    out[size] = '\0';
    make_one_line(out);
}

graft_status error_set(graft_error *error, graft_status status, const char *format, ...)
{
    if (!error)
        return status;
    /* The arguments may point into *error itself ("%s: ..." of its own message). */
    char message[sizeof(error->message)];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (length < 0)
        message[0] = '\0';
    else if ((size_t)length >= sizeof(message))
        message[utf8_complete(message, sizeof(message) - 1)] = '\0';
    graft_error_init(error);
    error->status = status;
    copy_bounded(error->message, sizeof(error->message), message);
    return status;
}

void error_at_file(graft_error *error, const char *path)
{
    if (error && path && !error->file[0])
        copy_bounded(error->file, sizeof(error->file), path);
}

void error_at_tensor(graft_error *error, const char *tensor)
{
    if (error && tensor && !error->tensor[0])
        copy_bounded(error->tensor, sizeof(error->tensor), tensor);
}

static int copy_shape(int64_t out[4], int dims, const int64_t *shape)
{
    int n = dims < 0 ? 0 : dims > 4 ? 4 : dims;
    for (int i = 0; i < n; i++)
        out[i] = shape[i];
    return n;
}

void error_shapes(graft_error *error, int expected_dims, const int64_t *expected, int found_dims,
                  const int64_t *found)
{
    if (!error)
        return;
    error->expected_dims = copy_shape(error->expected, expected_dims, expected);
    error->found_dims = copy_shape(error->found, found_dims, found);
}

bool size_mul(size_t a, size_t b, size_t *out)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

bool size_add(size_t a, size_t b, size_t *out)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}
