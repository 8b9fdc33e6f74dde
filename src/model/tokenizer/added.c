/* added.c: tokens that are found in the text as they are, before any model looks at it.
 *
 * Their contents stand in a trie; one pass over the text takes the leftmost match, the longest of
 * those that begin there. Contents are bounded in length, so the pass is linear. A token may want to
 * stand alone (single_word) and may eat the white space around it (lstrip, rstrip).
 */
#include "tokenizer_internal.h"

/* The character that ends before text[at]; its length, 0 when there is none or it is malformed. */
static size_t char_before(const char *text, size_t at, uint32_t *code)
{
    for (size_t n = 1; n <= 4 && n <= at; n++) {
        if (((unsigned char)text[at - n] & 0xC0) == 0x80)
            continue;
        return utf8_decode(text + at - n, n, code) == (int)n ? n : 0;
    }
    return 0;
}

static bool stands_alone(const char *text, size_t size, size_t start, size_t end)
{
    uint32_t code;
    if (char_before(text, start, &code) && unicode_is_word(code))
        return false;
    return !(utf8_decode(text + end, size - end, &code) && unicode_is_word(code));
}

static void eat_spaces(const struct added_token *a, const char *text, size_t size, size_t from,
                       struct added_match *m)
{
    uint32_t code;
    size_t n;
    while (a->lstrip && m->start > from && (n = char_before(text, m->start, &code)) != 0 &&
           n <= m->start - from && unicode_is_space(code))
        m->start -= n;
    while (a->rstrip && m->end < size) {
        int step = utf8_decode(text + m->end, size - m->end, &code);
        if (!step || !unicode_is_space(code))
            break;
        m->end += (size_t)step;
    }
}

/* The longest wanted token at text[at]; NULL: none. */
static const struct added_token *longest_at(const struct tokenizer *t,
                                            const struct added_matcher *m, bool special,
                                            const char *text, size_t size, size_t at)
{
    const struct added_token *best = NULL;
    int32_t state = 0;
    for (size_t i = at; i < size; i++) {
        state = trie_step(&m->trie, state, (uint8_t)text[i]);
        if (state < 0)
            break;
        int32_t index = m->trie.value[state];
        if (index < 0)
            continue;
        const struct added_token *a = &t->added[index];
        if ((a->special && !special) || (a->single_word && !stands_alone(text, size, at, i + 1)))
            continue;
        best = a;
    }
    return best;
}

bool added_find(const struct tokenizer *t, const struct added_matcher *m, bool special,
                const char *text, size_t size, size_t from, struct added_match *out)
{
    for (size_t at = from; at < size; at++) {
        if (!m->first[(uint8_t)text[at]])
            continue;
        const struct added_token *a = longest_at(t, m, special, text, size, at);
        if (!a)
            continue;
        *out = (struct added_match){.start = at, .end = at + a->length, .token = a};
        eat_spaces(a, text, size, from, out);
        return true;
    }
    return false;
}

static graft_status matcher_build(struct tokenizer *t, struct added_matcher *m, bool normalized,
                                  struct trie_key *keys, graft_error *error)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n_added; i++) {
        const struct added_token *a = &t->added[i];
        if (a->normalized != normalized || a->length == 0)
            continue;
        keys[n++] = (struct trie_key){a->text, a->length, (int32_t)i};
        m->first[(uint8_t)a->text[0]] = true;
        m->any = true;
        m->any_plain |= !a->special;
    }
    return n ? trie_build(&m->trie, t->mem, keys, n, error) : GRAFT_OK;
}

/* A token that wants normalised text is looked for in its own normal form. */
static graft_status normalize_added(struct tokenizer *t, struct added_token *a, graft_error *error)
{
    struct buf out;
    struct match_state *state = NULL;
    buf_init(&out, t->mem, MAX_ADDED_BYTES);
    graft_status status =
        normalize(&t->normalizer, t->mem, &state, a->text, a->length, false, &out, error);
    if (!status) {
        a->text = vocab_store(&t->vocab, out.data ? out.data : "", out.size);
        a->length = (uint32_t)out.size;
        if (!a->text)
            status = error_set(error, GRAFT_NO_MEMORY, "out of memory for added tokens");
    }
    match_state_free(&state);
    buf_free(&out);
    return status;
}

graft_status added_build(struct tokenizer *t, graft_error *error)
{
    graft_status status = GRAFT_OK;
    struct trie_key *keys = mem_calloc(t->mem, t->n_added + 1, sizeof *keys);
    if (!keys)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for added tokens");
    for (size_t i = 0; i < t->n_added && !status; i++) {
        if (t->added[i].normalized && t->normalizer.count)
            status = normalize_added(t, &t->added[i], error);
    }
    if (!status)
        status = matcher_build(t, &t->raw, false, keys, error);
    if (!status)
        status = matcher_build(t, &t->normal, true, keys, error);
    mem_free(t->mem, keys);
    return status;
}
