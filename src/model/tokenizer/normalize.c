/* normalize.c: the normaliser steps of tokenizer.json, one after the other. */
#include "tokenizer_internal.h"

static size_t strip_left(const char *text, size_t size)
{
    size_t at = 0;
    uint32_t code;
    while (at < size) {
        int step = utf8_decode(text + at, size - at, &code);
        if (!step || !unicode_is_space(code))
            break;
        at += (size_t)step;
    }
    return at;
}

static size_t strip_right(const char *text, size_t from, size_t size)
{
    while (size > from) {
        size_t at = size - 1;
        while (at > from && ((unsigned char)text[at] & 0xC0) == 0x80)
            at--;
        uint32_t code;
        if (utf8_decode(text + at, size - at, &code) != (int)(size - at) || !unicode_is_space(code))
            break;
        size = at;
    }
    return size;
}

/* Replaces the matches in text[0, size), which a regular expression may look at. */
static graft_status replace_run(const struct norm_step *s, struct match_state **state,
                                const char *text, size_t size, struct buf *out, graft_error *error)
{
    size_t done = 0, search = 0;
    while (search <= size) {
        size_t start, end;
        graft_status status =
            pattern_find(s->pattern, state, text, size, search, &start, &end, error);
        if (status == GRAFT_NOT_FOUND)
            break;
        if (status)
            return status;
        if (!buf_append(out, text + done, start - done) ||
            !buf_append(out, s->content, s->content_size))
            return error_set(error, out->status, "out of memory while normalising");
        done = search = end;
        if (start == end) {
            search++;
            while (search < size && ((unsigned char)text[search] & 0xC0) == 0x80)
                search++;
        }
    }
    return buf_append(out, text + done, size - done)
               ? GRAFT_OK
               : error_set(error, out->status, "out of memory while normalising");
}

static graft_status replace(const struct norm_step *s, struct match_state **state, const char *text,
                            size_t size, struct buf *out, graft_error *error)
{
    if (pattern_is_literal(s->pattern))
        return replace_run(s, state, text, size, out, error);
    graft_status status = GRAFT_OK;
    for (size_t at = 0; at < size && !status;) {
        size_t valid = utf8_valid_prefix(text + at, size - at);
        if (valid)
            status = replace_run(s, state, text + at, valid, out, error);
        at += valid;
        if (!status && at < size && !buf_putc(out, text[at++])) /* a malformed byte */
            status = error_set(error, out->status, "out of memory while normalising");
    }
    return status;
}

static graft_status run_step(const struct norm_step *s, struct match_state **state,
                             const char *text, size_t size, bool inside, struct buf *out,
                             graft_error *error)
{
    bool ok = true;
    switch (s->kind) {
    case NORM_NFC:
    case NORM_NFD:
    case NORM_NFKC:
    case NORM_NFKD:
        return unicode_normalize(s->kind, text, size, out, error);
    case NORM_REPLACE:
        return replace(s, state, text, size, out, error);
    case NORM_LOWERCASE:
        ok = unicode_lowercase(text, size, out);
        break;
    case NORM_STRIP_ACCENTS:
        ok = unicode_strip_accents(text, size, out);
        break;
    case NORM_STRIP: {
        size_t begin = s->left && !inside ? strip_left(text, size) : 0;
        size_t end = s->right ? strip_right(text, begin, size) : size;
        ok = buf_append(out, text + begin, end - begin);
        break;
    }
    case NORM_PREPEND:
        ok = size == 0 || ((inside || buf_append(out, s->content, s->content_size)) &&
                           buf_append(out, text, size));
        break;
    case NORM_CHARSMAP:
        ok = charsmap_apply(s->charsmap, text, size, out);
        break;
    }
    return ok ? GRAFT_OK : error_set(error, out->status, "out of memory while normalising");
}

/* Steps write into two buffers in turn; the last one writes to out, which is empty or appended to. */
graft_status normalize(const struct normalizer *n, struct mem *mem, struct match_state **state,
                       const char *text, size_t size, bool inside, struct buf *out,
                       graft_error *error)
{
    struct buf turns[2];
    buf_init(&turns[0], mem, SIZE_MAX);
    buf_init(&turns[1], mem, SIZE_MAX);
    graft_status status = GRAFT_OK;
    if (n->count == 0 && !buf_append(out, text, size))
        status = error_set(error, out->status, "out of memory while normalising");
    for (int i = 0; i < n->count && !status; i++) {
        struct buf *to = i + 1 == n->count ? out : &turns[i & 1];
        if (to != out)
            to->size = 0;
        status = run_step(&n->steps[i], state, text, size, inside, to, error);
        text = to->data ? to->data : "";
        size = to->data ? to->size : 0;
    }
    buf_free(&turns[0]);
    buf_free(&turns[1]);
    return status;
}
