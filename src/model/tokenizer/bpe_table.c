/* bpe_table.c: what byte-pair encoding looks up: the table of merges and how it is made.
 *
 * A merge is (left symbol, right symbol) → (rank, result). Symbols are token ids; a character that
 * only occurs inside tokens gets a symbol above the last id, so that SentencePiece vocabularies,
 * whose merges follow from scores and texts alone, need no second mechanism.
 */
#include "tokenizer_internal.h"

static size_t merge_slot(uint32_t left, uint32_t right, size_t capacity)
{
    uint64_t key = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    return (size_t)(key >> 20) & (capacity - 1);
}

bool merge_table_reserve(struct merge_table *m, size_t count)
{
    size_t capacity = 64;
    while (capacity < count + count / 2)
        capacity *= 2;
    if (capacity <= m->capacity)
        return true;
    size_t bytes;
    if (!size_mul(capacity, sizeof *m->slots, &bytes))
        return false;
    struct merge *slots = mem_alloc(m->mem, bytes);
    if (!slots)
        return false;
    memset(slots, 0xFF, bytes);
    for (size_t i = 0; i < m->capacity; i++) {
        if (m->slots[i].left == UINT32_MAX)
            continue;
        size_t at = merge_slot(m->slots[i].left, m->slots[i].right, capacity);
        while (slots[at].left != UINT32_MAX)
            at = (at + 1) & (capacity - 1);
        slots[at] = m->slots[i];
    }
    mem_free(m->mem, m->slots);
    m->slots = slots;
    m->capacity = capacity;
    return true;
}

static bool merge_table_put(struct merge_table *m, uint32_t left, uint32_t right, uint32_t rank,
                            uint32_t result)
{
    if (!merge_table_reserve(m, m->count + 1))
        return false;
    size_t at = merge_slot(left, right, m->capacity);
    for (; m->slots[at].left != UINT32_MAX; at = (at + 1) & (m->capacity - 1)) {
        if (m->slots[at].left == left && m->slots[at].right == right)
            return true; /* the first of two equal merges counts */
    }
    m->slots[at] = (struct merge){left, right, rank, result};
    m->count++;
    return true;
}

const struct merge *merge_table_get(const struct merge_table *m, uint32_t left, uint32_t right)
{
    if (!m->capacity)
        return NULL;
    size_t at = merge_slot(left, right, m->capacity);
    for (; m->slots[at].left != UINT32_MAX; at = (at + 1) & (m->capacity - 1)) {
        if (m->slots[at].left == left && m->slots[at].right == right)
            return &m->slots[at];
    }
    return NULL;
}

static int by_rank(const void *a, const void *b)
{
    const struct merge *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    if (x->result != y->result)
        return x->result < y->result ? -1 : 1;
    return x->left < y->left ? -1 : x->left > y->left;
}

struct merge *merges_in_order(const struct tokenizer *t, size_t *count)
{
    const struct merge_table *m = &t->bpe.merges;
    struct merge *list = mem_calloc(t->mem, m->count + 1, sizeof *list);
    if (!list)
        return NULL;
    *count = 0;
    for (size_t i = 0; i < m->capacity; i++) {
        if (m->slots[i].left != UINT32_MAX)
            list[(*count)++] = m->slots[i];
    }
    qsort(list, *count, sizeof *list, by_rank);
    return list;
}

graft_status bpe_add_merge(struct tokenizer *t, const char *left, size_t n_left, const char *right,
                           size_t n_right, uint32_t rank, graft_error *error)
{
    char near[256];
    char *joined = n_left + n_right <= sizeof near ? near : mem_alloc(t->mem, n_left + n_right);
    if (!joined)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for merges");
    memcpy(joined, left, n_left);
    memcpy(joined + n_left, right, n_right);
    int32_t a = vocab_find(&t->vocab, left, n_left);
    int32_t b = vocab_find(&t->vocab, right, n_right);
    int32_t result = vocab_find(&t->vocab, joined, n_left + n_right);
    if (joined != near)
        mem_free(t->mem, joined);
    if (a < 0 || b < 0 || result < 0)
        return error_set(error, GRAFT_FORMAT, "merge %u ('%.40s' '%.40s') is not in the vocabulary",
                         rank, a < 0 || result < 0 ? left : "", right);
    if (!merge_table_put(&t->bpe.merges, (uint32_t)a, (uint32_t)b, rank, (uint32_t)result))
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for merges");
    return GRAFT_OK;
}

graft_status bpe_add_merge_line(struct tokenizer *t, const char *line, size_t length, uint32_t rank,
                                graft_error *error)
{
    const char *space = length > 2 ? memchr(line + 1, ' ', length - 2) : NULL;
    if (!space)
        return error_set(error, GRAFT_FORMAT, "merge %u is not two tokens", rank);
    size_t n_left = (size_t)(space - line);
    return bpe_add_merge(t, line, n_left, space + 1, length - n_left - 1, rank, error);
}

/* The length of the character at text; a malformed byte counts as one. */
static size_t char_length(const char *text, size_t size)
{
    uint32_t code;
    int n = utf8_decode(text, size, &code);
    return n ? (size_t)n : 1;
}

/* The symbol of a part of a token: a token, or a single character that gets a symbol here; -1: none,
 * -2: no memory. text must stay. */
static int32_t part_symbol(struct tokenizer *t, const char *text, size_t length)
{
    int32_t id = vocab_find(&t->vocab, text, length);
    if (id >= 0) {
        uint8_t type = t->vocab.tokens[id].type;
        if (type == TOKEN_NORMAL || type == TOKEN_USER || type == TOKEN_UNUSED)
            return id;
        if (char_length(text, length) < length)
            return -1;
    } else if (char_length(text, length) < length) {
        return -1;
    }
    struct bpe *b = &t->bpe;
    bool existing = false;
    int32_t symbol = t->vocab.count + b->n_extra;
    if (!str_map_put(&b->extra, text, length, symbol, &existing))
        return -2;
    if (existing)
        return str_map_get(&b->extra, text, length);
    b->n_extra++;
    return symbol;
}

struct scored {
    double score;
    int32_t id;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Every cut of a token into two symbols, with the given rank. */
static bool add_cuts(struct tokenizer *t, int32_t id, uint32_t rank)
{
    const struct token token = t->vocab.tokens[id];
    for (size_t cut = char_length(token.text, token.length); cut < token.length;
         cut += char_length(token.text + cut, token.length - cut)) {
        int32_t left = part_symbol(t, token.text, cut);
        int32_t right = left < 0 ? -1 : part_symbol(t, token.text + cut, token.length - cut);
        if (left == -2 || right == -2)
            return false;
        if (left < 0 || right < 0)
            continue;
        if (!merge_table_put(&t->bpe.merges, (uint32_t)left, (uint32_t)right, rank, (uint32_t)id))
            return false;
    }
    return true;
}

graft_status bpe_merges_from_scores(struct tokenizer *t, graft_error *error)
{
    size_t count = 0;
    struct scored *order = mem_calloc(t->mem, (size_t)t->vocab.count + 1, sizeof *order);
    if (!order)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for merges");
    for (int32_t id = 0; id < t->vocab.count; id++) {
        const struct token *token = &t->vocab.tokens[id];
        if (!token->text || (token->type != TOKEN_NORMAL && token->type != TOKEN_USER &&
                             token->type != TOKEN_UNUSED))
            continue;
        order[count++] = (struct scored){token->score, id};
    }
    qsort(order, count, sizeof *order, by_score);
    graft_status status = GRAFT_OK;
    uint32_t rank = 0;
    for (size_t i = 0; i < count && !status; i++) {
        if (i && order[i].score != order[i - 1].score)
            rank++;
        if (!add_cuts(t, order[i].id, rank))
            status = error_set(error, GRAFT_NO_MEMORY, "out of memory for merges");
    }
    mem_free(t->mem, order);
    t->bpe.by_score = true;
    return status;
}

/* With ignore_merges a word that is a token is that token. */
static bool index_words(struct tokenizer *t)
{
    for (int32_t id = 0; id < t->vocab.count; id++) {
        const struct token *token = &t->vocab.tokens[id];
        if (token->text && token->type == TOKEN_NORMAL && token->n_bytes &&
            !str_map_put(&t->bpe.words, token->bytes, token->n_bytes, id, NULL))
            return false;
    }
    return true;
}

graft_status bpe_finish(struct tokenizer *t, graft_error *error)
{
    struct bpe *b = &t->bpe;
    b->byte_level = t->pre.byte_level;
    for (int i = 0; i < 256; i++) {
        char name[8];
        int n = b->byte_level ? utf8_encode(byte_char((uint8_t)i), name)
                              : snprintf(name, sizeof name, "<0x%02X>", (unsigned)i);
        b->byte_ids[i] = vocab_find(&t->vocab, name, (size_t)n);
    }
    for (int i = 0; i < 128; i++) {
        char c = (char)i;
        b->ascii_ids[i] = vocab_find(&t->vocab, &c, 1);
        if (b->ascii_ids[i] < 0)
            b->ascii_ids[i] = str_map_get(&b->extra, &c, 1);
    }
    if (b->ignore_merges && b->byte_level && !index_words(t))
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for the vocabulary");
    return GRAFT_OK;
}

void bpe_free(struct bpe *b)
{
    mem_free(b->merges.mem, b->merges.slots);
    str_map_free(&b->extra);
    str_map_free(&b->words);
}
