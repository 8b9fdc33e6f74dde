/* common.c: what the readers and writers of containers share.
 *
 * Sizes of tensors with overflow checks, text for error messages, and the recognition of files that
 * are not what their name says. It knows no container from the inside.
 */
#include "formats/formats_internal.h"

bool tensor_byte_size(graft_type type, int n_dims, const int64_t *shape, size_t *out)
{
    size_t row, size = 1, total;
    if (!type_row_bytes(type, n_dims ? shape[n_dims - 1] : 1, &row))
        return false;
    bool empty = !row;
    for (int i = 0; i < n_dims - 1; i++) {
        if (shape[i] < 0 || !size_mul(size, shape[i] ? (size_t)shape[i] : 1, &size))
            return false;
        empty = empty || !shape[i];
    }
    if (!size_mul(size, row ? row : 1, &total) || total > INT64_MAX)
        return false;
    *out = empty ? 0 : total;
    return true;
}

bool name_is_valid(const char *text, size_t length)
{
    uint32_t code;
    size_t at = 0;
    while (at < length) {
        int step = utf8_decode(text + at, length - at, &code);
        if (!step || !code)
            return false;
        at += (size_t)step;
    }
    return length > 0;
}

struct shown show_name(const char *text, size_t length)
{
    enum { ROOM = 100 };
    struct shown shown;
    size_t at = 0, used = 0;
    while (at < length) {
        uint32_t code = 0;
        int step = utf8_decode(text + at, length - at, &code);
        bool plain = step && code >= 0x20 && !(code >= 0x7f && code < 0xa0);
        size_t wide = step ? (size_t)step : 1;
        if (used + wide > ROOM)
            break;
        if (plain) {
            memcpy(shown.text + used, text + at, wide);
            used += wide;
        } else {
            shown.text[used++] = '?';
        }
        at += wide;
    }
    if (at < length) {
        memcpy(shown.text + used, "...", 3);
        used += 3;
    }
    shown.text[used] = '\0';
    return shown;
}

struct shown show_shape(int n_dims, const int64_t *shape)
{
    struct shown shown;
    size_t used = 1;
    shown.text[0] = '[';
    for (int i = 0; i < n_dims; i++) {
        /* 26 bytes: ", ", a 64-bit number with its sign, "]" or "...", NUL. */
        if (used + 26 > sizeof shown.text) {
            used += (size_t)snprintf(shown.text + used, sizeof shown.text - used, ", ...");
            break;
        }
        used += (size_t)snprintf(shown.text + used, sizeof shown.text - used, "%s%lld",
                                 i ? ", " : "", (long long)shape[i]);
    }
    snprintf(shown.text + used, sizeof shown.text - used, "]");
    return shown;
}

graft_status tensor_error(graft_error *error, graft_status status, const char *name, size_t length,
                          const char *format, ...)
{
    char message[400];
    struct shown shown = show_name(name, length);
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    error_set(error, status, "tensor \"%s\": %s", shown.text, message);
    error_at_tensor(error, shown.text);
    return status;
}

const char *foreign_file(const uint8_t *bytes, size_t size)
{
    static const struct {
        const char *magic, *name;
    } KINDS[] = {
        {"version https://git-lfs.github.com/spec/",
         "a Git-LFS pointer, not the file it stands for: fetch it with `git lfs pull`"},
        {"PK\3\4", "a zip archive (a pickled PyTorch checkpoint?): convert it to safetensors"},
        {"GGUF", "a GGUF file"},
        {"ggjt", "a GGJT file, older than GGUF"},
        {"tjgg", "a GGJT file, older than GGUF"},
        {"lmgg", "a GGML file, older than GGUF"},
        {"\x89HDF", "an HDF5 file"},
        {"<", "an HTML or XML page, not the file that was meant to be downloaded"},
        {"{", "JSON text, not a container of tensors"},
    };
    if (size >= 2 && bytes[0] == 0x80 && bytes[1] >= 2 && bytes[1] <= 5)
        return "a pickle (a PyTorch checkpoint?): pickles can run code; convert it to safetensors";
    for (size_t i = 0; i < ARRAY_LEN(KINDS); i++)
        if (begins_with(bytes, size, KINDS[i].magic))
            return KINDS[i].name;
    return NULL;
}
