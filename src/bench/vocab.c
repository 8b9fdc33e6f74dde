/* vocab.c: a made-up vocabulary of a given size, for random models in GGUF.
 *
 * Other programs want a complete tokenizer before they run a model, and part of what it takes to load
 * one goes into the vocabulary. So this is a byte-level one as real ones are: a token for each byte,
 * then tokens that a merge makes of two others (all pairs of bytes, then a pair and a byte), then the
 * control tokens <bos> and <eos>.
 */
#include "bench/bench_internal.h"

#define KEY(name) "tokenizer.ggml." name

enum { N_BYTES = 256, N_CONTROL = 2, TYPE_NORMAL = 1, TYPE_CONTROL = 3 };

struct texts {
    struct buf bytes; /* all texts, one after the other */
    size_t *offsets;  /* [n + 1] */
    const char **starts;
    size_t *lengths;
    int32_t *types;
};

/* The character that stands for a byte in byte-level vocabularies: itself where it can be seen, else
 * the next free one from U+0100 on. */
static uint32_t byte_character(int byte)
{
    uint32_t next = 256;
    for (int b = 0; b < N_BYTES; b++) {
        bool seen = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        if (b == byte)
            return seen ? (uint32_t)b : next;
        next += !seen;
    }
    return 0;
}

/* The two tokens that a merge joins to token `id`. */
static void parts_of(int id, int *left, int *right)
{
    int i = id - N_BYTES;
    if (i < N_BYTES * N_BYTES) { /* two bytes */
        *left = i / N_BYTES;
        *right = i % N_BYTES;
    } else { /* a pair of them and a byte */
        i -= N_BYTES * N_BYTES;
        *left = N_BYTES + i / N_BYTES;
        *right = i % N_BYTES;
    }
}

static void append_part(struct texts *t, int id)
{
    /* The text may move while it grows: copied by way of the stack. */
    char part[16];
    size_t length = t->offsets[id + 1] - t->offsets[id];
    memcpy(part, t->bytes.data + t->offsets[id], length);
    buf_append(&t->bytes, part, length);
}

static void append_token(struct texts *t, int id, int n)
{
    t->offsets[id] = t->bytes.size;
    if (id < N_BYTES) {
        char utf8[4];
        int length = utf8_encode(byte_character(id), utf8);
        buf_append(&t->bytes, utf8, (size_t)length);
    } else if (id >= n - N_CONTROL) {
        buf_puts(&t->bytes, id == n - 1 ? "<eos>" : "<bos>");
    } else {
        int left, right;
        parts_of(id, &left, &right);
        append_part(t, left);
        append_part(t, right);
    }
    t->offsets[id + 1] = t->bytes.size;
    t->types[id] = id >= n - N_CONTROL ? TYPE_CONTROL : TYPE_NORMAL;
}

static void point_at(struct texts *t, int n)
{
    for (int i = 0; i < n; i++) {
        t->starts[i] = t->bytes.data + t->offsets[i];
        t->lengths[i] = t->offsets[i + 1] - t->offsets[i];
    }
}

static void put_merges(struct texts *t, struct gguf_writer *w, int n)
{
    struct texts m = *t; /* the arrays are used again */
    int n_merges = n - N_CONTROL - N_BYTES;
    buf_init(&m.bytes, t->bytes.mem, SIZE_MAX);
    size_t at = 0;
    for (int i = 0; i < n_merges; i++) {
        int left, right;
        parts_of(N_BYTES + i, &left, &right);
        buf_append(&m.bytes, t->bytes.data + t->offsets[left],
                   t->offsets[left + 1] - t->offsets[left]);
        buf_putc(&m.bytes, ' ');
        buf_append(&m.bytes, t->bytes.data + t->offsets[right],
                   t->offsets[right + 1] - t->offsets[right]);
        m.lengths[i] = m.bytes.size - at;
        at = m.bytes.size;
    }
    at = 0;
    for (int i = 0; i < n_merges && m.bytes.status == GRAFT_OK; i++) {
        m.starts[i] = m.bytes.data + at;
        at += m.lengths[i];
    }
    if (m.bytes.status == GRAFT_OK)
        gguf_put_strings(w, KEY("merges"), m.starts, m.lengths, (uint64_t)n_merges);
    else
        t->bytes.status = m.bytes.status;
    buf_free(&m.bytes);
}

static void put_text(struct gguf_writer *w, const char *key, const char *text)
{
    gguf_put_string(w, key, text, strlen(text));
}

graft_status vocab_put(struct mem *mem, struct gguf_writer *w, const char *pre, int n,
                       graft_error *error)
{
    struct texts t = {.offsets = mem_calloc(mem, (size_t)n + 1, sizeof *t.offsets),
                      .starts = mem_calloc(mem, (size_t)n, sizeof *t.starts),
                      .lengths = mem_calloc(mem, (size_t)n, sizeof *t.lengths),
                      .types = mem_calloc(mem, (size_t)n, sizeof *t.types)};
    buf_init(&t.bytes, mem, SIZE_MAX);
    bool ok = t.offsets && t.starts && t.lengths && t.types;
    for (int i = 0; ok && i < n; i++) {
        append_token(&t, i, n);
        ok = t.bytes.status == GRAFT_OK;
    }
    if (ok) {
        put_text(w, KEY("model"), "gpt2");
        put_text(w, KEY("pre"), pre);
        point_at(&t, n);
        gguf_put_strings(w, KEY("tokens"), t.starts, t.lengths, (uint64_t)n);
        gguf_put_i32s(w, KEY("token_type"), t.types, (uint64_t)n);
        put_merges(&t, w, n);
        gguf_put_u32(w, KEY("bos_token_id"), (uint32_t)n - 2);
        gguf_put_u32(w, KEY("eos_token_id"), (uint32_t)n - 1);
        gguf_put_bool(w, KEY("add_bos_token"), false);
        ok = t.bytes.status == GRAFT_OK;
    }
    buf_free(&t.bytes);
    mem_free(mem, t.offsets);
    mem_free(mem, t.starts);
    mem_free(mem, t.lengths);
    mem_free(mem, t.types);
    return ok ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "no memory for a vocabulary");
}
