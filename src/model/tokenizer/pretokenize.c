/* pretokenize.c: cuts text into words, step by step.
 *
 * Each step cuts a piece and hands every part to the next step, so no lists of pieces are kept; the
 * depth is the number of steps, which is bounded. A step that changes the text (a prefix space, space
 * marks) writes it to the scratch buffer of its own depth. Malformed bytes never reach a regular
 * expression: they are pieces of their own.
 */
#include "tokenizer_internal.h"

const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char qwen2_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+"
    "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

struct piece {
    const char *text;
    size_t size;
    bool at_start; /* nothing of the original text is before it */
};

static graft_status run_steps(struct encoder *e, int step, struct piece piece);

/* Collects matches and the text between them, and emits pieces as the behaviour asks. */
struct splitter {
    struct encoder *e;
    const struct pre_step *step;
    int next;
    struct piece piece;
    size_t begin, end; /* the piece that waits */
    bool waiting, was_match;
};

static graft_status splitter_emit(struct splitter *s, size_t begin, size_t end)
{
    if (begin == end)
        return GRAFT_OK;
    struct piece part = {s->piece.text + begin, end - begin, s->piece.at_start && begin == 0};
    return run_steps(s->e, s->next, part);
}

static graft_status splitter_flush(struct splitter *s)
{
    bool waiting = s->waiting;
    s->waiting = false;
    return waiting ? splitter_emit(s, s->begin, s->end) : GRAFT_OK;
}

/* The next span, a match or not; spans are adjacent and in order. */
static graft_status splitter_add(struct splitter *s, size_t begin, size_t end, bool match)
{
    if (s->step->invert)
        match = !match;
    bool extends = false;
    switch (s->step->behavior) {
    case SPLIT_REMOVED:
        return match ? GRAFT_OK : splitter_emit(s, begin, end);
    case SPLIT_ISOLATED:
        return splitter_emit(s, begin, end);
    case SPLIT_CONTIGUOUS:
        extends = s->waiting && match == s->was_match;
        break;
    case SPLIT_MERGED_PREVIOUS:
        extends = s->waiting && match && !s->was_match;
        break;
    case SPLIT_MERGED_NEXT:
        extends = s->waiting && !match && s->was_match;
        break;
    }
    s->was_match = match;
    if (extends) {
        s->end = end;
        return GRAFT_OK;
    }
    graft_status status = splitter_flush(s);
    s->begin = begin;
    s->end = end;
    s->waiting = true;
    return status;
}

/* Matches within text[from, to), which holds whole characters. */
static graft_status split_run(struct splitter *s, size_t from, size_t to)
{
    const struct pattern *pattern = s->step->pattern;
    const char *text = s->piece.text + from;
    size_t size = to - from, done = 0, search = 0, last_end = SIZE_MAX;
    while (search <= size) {
        size_t start, end;
        graft_status status =
            pattern_find(pattern, &s->e->match, text, size, search, &start, &end, s->e->error);
        if (status == GRAFT_NOT_FOUND)
            break;
        if (status)
            return status;
        if (start == end && end == last_end) { /* an empty match right after a match: move on */
            search++;
            while (search < size && ((unsigned char)text[search] & 0xC0) == 0x80)
                search++;
            continue;
        }
        if (start > done)
            status = splitter_add(s, from + done, from + start, false);
        if (!status)
            status = splitter_add(s, from + start, from + end, true);
        if (status)
            return status;
        done = search = last_end = end;
    }
    return done < size ? splitter_add(s, from + done, to, false) : GRAFT_OK;
}

static graft_status run_split(struct encoder *e, int step, struct piece piece)
{
    struct splitter s = {.e = e, .step = &e->t->pre.steps[step], .next = step + 1, .piece = piece};
    bool whole = e->valid_utf8 || pattern_is_literal(s.step->pattern);
    graft_status status = GRAFT_OK;
    for (size_t at = 0; at < piece.size && !status;) {
        size_t valid = whole ? piece.size : utf8_valid_prefix(piece.text + at, piece.size - at);
        if (valid) {
            status = split_run(&s, at, at + valid);
            at += valid;
            continue;
        }
        size_t bad = at;
        uint32_t code;
        while (bad < piece.size && !utf8_decode(piece.text + bad, piece.size - bad, &code))
            bad++;
        status = splitter_add(&s, at, bad, s.step->invert);
        at = bad;
    }
    return status ? status : splitter_flush(&s);
}

static graft_status run_prefix_space(struct encoder *e, int step, struct piece piece)
{
    if (piece.text[0] == ' ' || e->inside)
        return run_steps(e, step + 1, piece);
    struct buf *scratch = &e->scratch[step];
    scratch->size = 0;
    if (!buf_putc(scratch, ' ') || !buf_append(scratch, piece.text, piece.size))
        return encoder_no_memory(e);
    struct piece changed = {scratch->data, scratch->size, piece.at_start};
    return run_steps(e, step + 1, changed);
}

static graft_status run_byte_chars(struct encoder *e, int step, struct piece piece)
{
    struct buf *scratch = &e->scratch[step];
    scratch->size = 0;
    if (!chars_from_bytes(piece.text, piece.size, scratch))
        return encoder_no_memory(e);
    struct piece changed = {scratch->data, scratch->size, piece.at_start};
    bool valid = e->valid_utf8;
    e->valid_utf8 = true;
    graft_status status = run_steps(e, step + 1, changed);
    e->valid_utf8 = valid;
    return status;
}

/* Appends text with each space as a mark. */
static bool append_marked(struct buf *out, const char *text, size_t size, const char *mark)
{
    const char *end = text + size;
    while (text < end) {
        const char *space = memchr(text, ' ', (size_t)(end - text));
        if (!buf_append(out, text, (size_t)((space ? space : end) - text)))
            return false;
        if (!space)
            break;
        if (!buf_puts(out, mark))
            return false;
        text = space + 1;
    }
    return true;
}

/* Cuts before each mark. */
static graft_status split_marks(struct encoder *e, int next, struct piece piece, const char *mark)
{
    size_t n = strlen(mark), begin = 0;
    for (size_t at = 1; at < piece.size; at++) {
        const char *found = memchr(piece.text + at, (uint8_t)mark[0], piece.size - at);
        if (!found)
            break;
        at = (size_t)(found - piece.text);
        if (piece.size - at < n || memcmp(found, mark, n) != 0)
            continue;
        struct piece part = {piece.text + begin, at - begin, piece.at_start && begin == 0};
        graft_status status = run_steps(e, next, part);
        if (status)
            return status;
        begin = at;
    }
    struct piece part = {piece.text + begin, piece.size - begin, piece.at_start && begin == 0};
    return run_steps(e, next, part);
}

static graft_status run_metaspace(struct encoder *e, int step, struct piece piece)
{
    const struct pre_step *s = &e->t->pre.steps[step];
    struct buf *scratch = &e->scratch[step];
    size_t n = strlen(s->mark);
    scratch->size = 0;
    bool marked = piece.text[0] == ' ' || (piece.size >= n && memcmp(piece.text, s->mark, n) == 0);
    bool prepend = (s->scheme == PREPEND_ALWAYS && !e->inside) ||
                   (s->scheme == PREPEND_FIRST && piece.at_start);
    if ((!marked && prepend && !buf_puts(scratch, s->mark)) ||
        !append_marked(scratch, piece.text, piece.size, s->mark))
        return encoder_no_memory(e);
    struct piece changed = {scratch->data, scratch->size, piece.at_start};
    return s->split ? split_marks(e, step + 1, changed, s->mark) : run_steps(e, step + 1, changed);
}

/* Words in the printable form go back to bytes; what stands for no byte was never made by us. */
static graft_status encode_chars(struct encoder *e, struct piece piece)
{
    struct buf *scratch = &e->scratch[MAX_STEPS];
    scratch->size = 0;
    for (size_t i = 0; i < piece.size;) {
        uint32_t code;
        int step = utf8_decode(piece.text + i, piece.size - i, &code);
        int byte = step ? byte_from_char(code) : -1;
        if (byte < 0)
            return error_set(e->error, GRAFT_INTERNAL, "a pre-tokenizer step cut a character");
        if (!buf_putc(scratch, (char)byte))
            return encoder_no_memory(e);
        i += (size_t)step;
    }
    return encode_word(e, scratch->data, scratch->size);
}

/* Cuts before each space mark that follows another character, which no token crosses: the words
 * are the same as for the whole, and short. */
static graft_status encode_cut(struct encoder *e, struct piece piece)
{
    size_t begin = 0, mark_end = 0; /* of the word; of the mark before */
    for (size_t at = 0; at < piece.size;) {
        const char *lead = memchr(piece.text + at, (uint8_t)SPACE_MARK[0], piece.size - at);
        if (!lead)
            break;
        at = (size_t)(lead - piece.text);
        if (piece.size - at < SPACE_MARK_BYTES || memcmp(lead, SPACE_MARK, SPACE_MARK_BYTES) != 0) {
            at++;
            continue;
        }
        if (at > mark_end) {
            graft_status status = encode_word(e, piece.text + begin, at - begin);
            if (status)
                return status;
            begin = at;
        }
        at += SPACE_MARK_BYTES;
        mark_end = at;
    }
    return encode_word(e, piece.text + begin, piece.size - begin);
}

static graft_status run_steps(struct encoder *e, int step, struct piece piece)
{
    const struct pretokenizer *pre = &e->t->pre;
    if (piece.size == 0)
        return GRAFT_OK;
    if (step == pre->count) {
        e->inside = false;
        if (pre->chars)
            return encode_chars(e, piece);
        return e->t->cut_at_marks ? encode_cut(e, piece) : encode_word(e, piece.text, piece.size);
    }
    switch (pre->steps[step].kind) {
    case PRE_SPLIT:
        return run_split(e, step, piece);
    case PRE_PREFIX_SPACE:
        return run_prefix_space(e, step, piece);
    case PRE_METASPACE:
        return run_metaspace(e, step, piece);
    case PRE_BYTE_CHARS:
        break;
    }
    return run_byte_chars(e, step, piece);
}

graft_status pretokenize(struct encoder *e, const char *text, size_t size, bool at_start)
{
    return run_steps(e, 0, (struct piece){text, size, at_start});
}
