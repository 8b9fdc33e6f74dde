/* unigram.c: the most probable way to cut a word into pieces (Viterbi over byte positions).
 *
 * A character that no piece covers costs the worst score and ten more; adjacent unknown characters
 * become one unknown token, or their bytes where the vocabulary has them.
 */
#include "tokenizer_internal.h"

static const double unk_penalty = 10.0;

graft_status unigram_finish(struct tokenizer *t, graft_error *error)
{
    struct unigram *u = &t->unigram;
    double lowest = 0;
    bool any = false;
    size_t n = 0;
    struct trie_key *keys = mem_calloc(t->mem, (size_t)t->vocab.count + 1, sizeof *keys);
    if (!keys)
        return error_set(error, GRAFT_NO_MEMORY, "out of memory for the vocabulary");
    for (int32_t id = 0; id < t->vocab.count; id++) {
        const struct token *token = &t->vocab.tokens[id];
        if (!token->text || !token->length ||
            (token->type != TOKEN_NORMAL && token->type != TOKEN_USER &&
             token->type != TOKEN_UNUSED) ||
            vocab_find(&t->vocab, token->text, token->length) != id)
            continue;
        keys[n++] = (struct trie_key){token->text, token->length, id};
        if (token->type == TOKEN_NORMAL && (!any || token->score < lowest)) {
            lowest = token->score;
            any = true;
        }
    }
    u->unk_score = lowest - unk_penalty;
    graft_status status = trie_build(&u->trie, t->mem, keys, n, error);
    mem_free(t->mem, keys);
    for (int i = 0; i < 256; i++) {
        char name[8];
        int length = snprintf(name, sizeof name, "<0x%02X>", (unsigned)i);
        u->byte_ids[i] = vocab_find(&t->vocab, name, (size_t)length);
    }
    return status;
}

void unigram_free(struct unigram *u)
{
    trie_free(&u->trie);
}

static void relax(struct viterbi_node *node, double score, int32_t id, size_t start)
{
    if (node->start >= 0 && score <= node->score)
        return;
    *node = (struct viterbi_node){score, id, (int32_t)start};
}

/* Best paths to every position of the word. */
static void search(const struct tokenizer *t, struct viterbi_node *nodes, const char *word,
                   size_t size)
{
    const struct unigram *u = &t->unigram;
    for (size_t i = 0; i <= size; i++)
        nodes[i] = (struct viterbi_node){0, -1, -1};
    nodes[0].start = 0;
    for (size_t at = 0; at < size;) {
        uint32_t code;
        int step = utf8_decode(word + at, size - at, &code);
        size_t length = step ? (size_t)step : 1;
        double here = nodes[at].score;
        bool covered = false;
        int32_t state = 0;
        for (size_t i = at; i < size; i++) {
            state = trie_step(&u->trie, state, (uint8_t)word[i]);
            if (state < 0)
                break;
            int32_t id = u->trie.value[state];
            if (id < 0)
                continue;
            relax(&nodes[i + 1], here + t->vocab.tokens[id].score, id, at);
            covered |= i + 1 - at == length;
        }
        if (!covered)
            relax(&nodes[at + length], here + u->unk_score, -1, at);
        at += length;
    }
}

static graft_status emit_unknown(struct encoder *e, const char *text, size_t size)
{
    const struct tokenizer *t = e->t;
    bool bytes = t->unigram.byte_fallback;
    for (size_t i = 0; i < size && bytes; i++)
        bytes = t->unigram.byte_ids[(uint8_t)text[i]] >= 0;
    bool ok = true;
    for (size_t i = 0; bytes && i < size && ok; i++)
        ok = tokens_push(e->out, t->unigram.byte_ids[(uint8_t)text[i]]);
    if (!bytes && t->model_unk >= 0)
        ok = tokens_push(e->out, t->model_unk);
    return ok ? GRAFT_OK : encoder_no_memory(e);
}

/* A piece that begins inside a character is never reached: its start node has no path. */
graft_status unigram_encode(struct encoder *e, const char *word, size_t size)
{
    if (size + 1 > e->nodes_capacity) {
        size_t capacity = size + size / 2 + 64;
        struct viterbi_node *grown = mem_resize(e->mem, e->nodes, capacity * sizeof *grown);
        if (!grown)
            return encoder_no_memory(e);
        e->nodes = grown;
        e->nodes_capacity = capacity;
    }
    struct viterbi_node *nodes = e->nodes;
    search(e->t, nodes, word, size);
    /* Turn the chain of the best path round: each start then knows its piece. */
    for (int32_t at = (int32_t)size, next = -1; at > 0;) {
        int32_t start = nodes[at].start;
        nodes[at].start = next;
        next = at;
        at = start;
        if (at == 0)
            nodes[0].start = next;
    }
    graft_status status = GRAFT_OK;
    size_t unknown = SIZE_MAX; /* where a run of unknown characters began */
    for (int32_t at = 0; at < (int32_t)size && !status;) {
        int32_t end = nodes[at].start;
        int32_t id = nodes[end].id;
        if (id < 0 && unknown == SIZE_MAX)
            unknown = (size_t)at;
        if (id >= 0 && unknown != SIZE_MAX) {
            status = emit_unknown(e, word + unknown, (size_t)at - unknown);
            unknown = SIZE_MAX;
        }
        if (id >= 0 && !status && !tokens_push(e->out, id))
            status = encoder_no_memory(e);
        at = end;
    }
    if (!status && unknown != SIZE_MAX)
        status = emit_unknown(e, word + unknown, size - unknown);
    return status;
}
