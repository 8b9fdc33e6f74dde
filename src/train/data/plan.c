/* plan.c: which examples make which batch of an epoch, and the arrays of a batch.
 *
 * Packing is best fit, the longest example first: each goes into the row in which it leaves the least room. Where rows
 * with that room are found is a set of bits by room, so that a plan takes time in proportion to the examples. Which
 * of several equally long examples comes first is a matter of the shuffle, so rows mix anew each epoch while their
 * number stays: it depends on lengths alone. Draws are keyed by (seed, epoch).
 */
#include "train/data/data.h"

enum { ORDER_STREAM = 0x6f726465, ROWS_STREAM = 0x726f7773 };

static graft_status out_of_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for a plan of batches");
}

/* Fisher and Yates. The stream is told apart by epoch. */
static void shuffle(int64_t *items, int64_t n, uint64_t seed, uint64_t stream, uint64_t epoch)
{
    struct rng rng;
    rng_init(&rng, seed, stream ^ (epoch << 32) ^ (epoch >> 32));
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)(rng_uniform(&rng) * (double)(i + 1));
        int64_t kept = items[i];
        items[i] = items[j];
        items[j] = kept;
    }
}

static int length_of(const struct data_plan *p, int64_t index)
{
    return dataset_example(p->dataset, p->part, index).n_tok;
}

/* ---- packing ------------------------------------------------------------------------------- */

/* Scratch: examples by length, rows by the room they have left. */
struct packing {
    int max_len;
    int64_t *by_length; /* [n] the order in which they are placed */
    int64_t *at_length; /* [max_len + 2] where each length begins in it, the longest first */
    int64_t *next;      /* [n] the row's next example; then the list of rows with one room */
    int64_t *first;     /* [n] of each row */
    int64_t *row_next;  /* [n] */
    int64_t *with_room; /* [max_len + 1] rows with that room, a list; -1: none */
    uint64_t *bits;     /* of the rooms for which there is a row */
};

static void packing_free(struct mem *mem, struct packing *k)
{
    mem_free(mem, k->by_length);
    mem_free(mem, k->at_length);
    mem_free(mem, k->next);
    mem_free(mem, k->first);
    mem_free(mem, k->row_next);
    mem_free(mem, k->with_room);
    mem_free(mem, k->bits);
}

static bool packing_open(struct mem *mem, const struct data_plan *p, struct packing *k)
{
    size_t n = (size_t)p->n_examples + 1, rooms = (size_t)dataset_max_len(p->dataset) + 2;
    *k = (struct packing){.max_len = dataset_max_len(p->dataset),
                          .by_length = mem_calloc(mem, n, sizeof(int64_t)),
                          .at_length = mem_calloc(mem, rooms, sizeof(int64_t)),
                          .next = mem_calloc(mem, n, sizeof(int64_t)),
                          .first = mem_calloc(mem, n, sizeof(int64_t)),
                          .row_next = mem_calloc(mem, n, sizeof(int64_t)),
                          .with_room = mem_calloc(mem, rooms, sizeof(int64_t)),
                          .bits = mem_calloc(mem, rooms / 64 + 1, sizeof(uint64_t))};
    return k->by_length && k->at_length && k->next && k->first && k->row_next && k->with_room &&
           k->bits;
}

/* A counting sort, stable: order keeps its say among equals. */
static void sort_by_length(const struct data_plan *p, struct packing *k)
{
    for (int64_t i = 0; i < p->n_examples; i++) {
        k->at_length[length_of(p, p->order[i])]++;
    }
    int64_t at = 0;
    for (int length = k->max_len; length >= 0; length--) {
        int64_t count = k->at_length[length];
        k->at_length[length] = at;
        at += count;
    }
    for (int64_t i = 0; i < p->n_examples; i++) {
        k->by_length[k->at_length[length_of(p, p->order[i])]++] = p->order[i];
    }
}

/* The least room ≥ length that a row has; -1: none. */
static int least_room(const struct packing *k, int length)
{
    int words = (k->max_len + 2) / 64 + 1;
    for (int w = length / 64; w < words; w++) {
        uint64_t bits = k->bits[w];
        if (w == length / 64) {
            bits &= ~UINT64_C(0) << (length % 64);
        }
        if (bits != 0) {
            return 64 * w + __builtin_ctzll(bits);
        }
    }
    return -1;
}

static void put_row(struct packing *k, int64_t row, int room)
{
    if (!(k->bits[room / 64] >> (room % 64) & 1)) {
        k->with_room[room] = -1;
        k->bits[room / 64] |= UINT64_C(1) << (room % 64);
    }
    k->row_next[row] = k->with_room[room];
    k->with_room[room] = row;
}

static int64_t take_row(struct packing *k, int room)
{
    int64_t row = k->with_room[room];
    k->with_room[room] = k->row_next[row];
    if (k->with_room[room] < 0) {
        k->bits[room / 64] &= ~(UINT64_C(1) << (room % 64));
    }
    return row;
}

/* Rows as lists of examples, the last that came first. Returns how many. */
static int64_t fill_rows(const struct data_plan *p, struct packing *k)
{
    int64_t rows = 0;
    for (int64_t i = 0; i < p->n_examples; i++) {
        int64_t example = k->by_length[i];
        int length = length_of(p, example), room = least_room(k, length);
        int64_t row = room >= 0 ? take_row(k, room) : rows++;
        k->next[example] = room >= 0 ? k->first[row] : -1;
        k->first[row] = example;
        put_row(k, row, (room >= 0 ? room : k->max_len) - length);
    }
    return rows;
}

static graft_status pack(struct data_plan *p, const struct data_plan_options *o, graft_error *error)
{
    struct packing k;
    graft_status status = GRAFT_OK;
    if (!packing_open(p->mem, p, &k)) {
        packing_free(p->mem, &k);
        return out_of_memory(error);
    }
    sort_by_length(p, &k);
    p->n_rows = fill_rows(p, &k);
    int64_t *rows = k.by_length; /* no longer needed as what it was */
    for (int64_t i = 0; i < p->n_rows; i++) {
        rows[i] = i;
    }
    if (o->shuffle) {
        shuffle(rows, p->n_rows, o->seed, ROWS_STREAM, o->epoch);
    }
    int64_t at = 0;
    for (int64_t i = 0; i < p->n_rows; i++) {
        p->starts[i] = at;
        for (int64_t example = k.first[rows[i]]; example >= 0; example = k.next[example]) {
            p->order[at++] = example;
        }
    }
    p->starts[p->n_rows] = at;
    packing_free(p->mem, &k);
    return status;
}

/* ---- plans --------------------------------------------------------------------------------- */

static int64_t batch_end(const struct data_plan *p, int64_t batch)
{
    int64_t row = (batch + 1) * p->rows;
    return p->starts[row < p->n_rows ? row : p->n_rows];
}

static void measure(struct data_plan *p)
{
    p->n_batches = (p->n_rows + p->rows - 1) / p->rows;
    for (int64_t b = 0, at = 0; b < p->n_batches; b++) {
        int64_t end = batch_end(p, b), tok = 0;
        p->most_examples = end - at > p->most_examples ? end - at : p->most_examples;
        for (; at < end; at++) {
            tok += length_of(p, p->order[at]);
        }
        p->most_tok = tok > p->most_tok ? tok : p->most_tok;
    }
}

graft_status data_plan_make(struct mem *mem, const struct dataset *d, enum data_part part,
                            const struct data_plan_options *options, struct data_plan *out,
                            graft_error *error)
{
    if (options->rows < 1) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "a batch of %d rows", options->rows);
    }
    struct data_plan p = {.mem = mem,
                          .dataset = d,
                          .part = part,
                          .rows = options->rows,
                          .n_examples = dataset_count(d, part)};
    p.order = mem_calloc(mem, (size_t)p.n_examples + 1, sizeof *p.order);
    p.starts = mem_calloc(mem, (size_t)p.n_examples + 1, sizeof *p.starts);
    graft_status status = p.order != NULL && p.starts != NULL ? GRAFT_OK : out_of_memory(error);
    for (int64_t i = 0; i < p.n_examples && status == GRAFT_OK; i++) {
        p.order[i] = p.starts[i] = i;
    }
    if (status == GRAFT_OK) {
        p.starts[p.n_examples] = p.n_rows = p.n_examples;
        if (options->shuffle) {
            shuffle(p.order, p.n_examples, options->seed, ORDER_STREAM, options->epoch);
        }
        status = options->pack ? pack(&p, options, error) : GRAFT_OK;
    }
    if (status != GRAFT_OK) {
        data_plan_free(&p);
        return status;
    }
    measure(&p);
    *out = p;
    return GRAFT_OK;
}

void data_plan_free(struct data_plan *plan)
{
    mem_free(plan->mem, plan->order);
    mem_free(plan->mem, plan->starts);
    *plan = (struct data_plan){0};
}

/* ---- batches ------------------------------------------------------------------------------- */

graft_status data_batch_open(struct mem *mem, int64_t most_tok, int64_t most_examples,
                             struct data_batch *out, graft_error *error)
{
    if (most_tok > INT32_MAX || most_examples >= INT32_MAX) {
        return error_set(error, GRAFT_LIMIT, "a batch of %lld tokens is too large",
                         (long long)most_tok);
    }
    size_t tok = (size_t)most_tok + 1, examples = (size_t)most_examples + 1;
    struct data_batch b = {.mem = mem,
                           .tokens = mem_calloc(mem, tok, sizeof *b.tokens),
                           .targets = mem_calloc(mem, tok, sizeof *b.targets),
                           .weights = mem_calloc(mem, tok, sizeof *b.weights),
                           .starts = mem_calloc(mem, examples, sizeof *b.starts),
                           .examples = mem_calloc(mem, examples, sizeof *b.examples),
                           .tok_capacity = most_tok,
                           .example_capacity = most_examples};
    if (!b.tokens || !b.targets || !b.weights || !b.starts || !b.examples) {
        data_batch_close(&b);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a batch of %lld tokens",
                         (long long)most_tok);
    }
    *out = b;
    return GRAFT_OK;
}

void data_batch_close(struct data_batch *batch)
{
    mem_free(batch->mem, batch->tokens);
    mem_free(batch->mem, batch->targets);
    mem_free(batch->mem, batch->weights);
    mem_free(batch->mem, batch->starts);
    mem_free(batch->mem, batch->examples);
    *batch = (struct data_batch){0};
}

void data_batch_wipe(struct data_batch *batch)
{
    const size_t tok = (size_t)batch->tok_capacity + 1;
    const size_t examples = (size_t)batch->example_capacity + 1;
    mem_wipe(batch->tokens, tok * sizeof *batch->tokens);
    mem_wipe(batch->targets, tok * sizeof *batch->targets);
    mem_wipe(batch->weights, tok * sizeof *batch->weights);
    mem_wipe(batch->starts, examples * sizeof *batch->starts);
    mem_wipe(batch->examples, examples * sizeof *batch->examples);
    batch->n_tok = batch->n_examples = 0;
    batch->n_learned = 0;
    batch->weight = 0;
}

static void batch_add(struct data_batch *b, const struct data_example *e, int64_t number)
{
    size_t n = (size_t)e->n_tok;
    memcpy(b->tokens + b->n_tok, e->tokens, n * sizeof *b->tokens);
    memcpy(b->targets + b->n_tok, e->tokens + 1, n * sizeof *b->targets);
    for (size_t t = 0; t < n; t++) {
        b->weights[(size_t)b->n_tok + t] = e->learned[t] ? e->weight : 0;
    }
    b->starts[b->n_examples] = b->n_tok;
    b->examples[b->n_examples++] = (uint64_t)number;
    b->n_tok += e->n_tok;
    b->n_learned += e->n_learned;
    b->weight += (double)e->weight * e->n_learned;
}

void data_batch_fill(struct data_batch *batch, const struct data_plan *plan, int64_t index)
{
    batch->n_tok = batch->n_examples = 0;
    batch->n_learned = 0;
    batch->weight = 0;
    int64_t end = batch_end(plan, index);
    for (int64_t at = plan->starts[index * plan->rows]; at < end; at++) {
        struct data_example e = dataset_example(plan->dataset, plan->part, plan->order[at]);
        if (batch->n_examples == batch->example_capacity ||
            batch->n_tok + e.n_tok > batch->tok_capacity) {
            break; /* opened for smaller plans: the caller's mistake, not an overrun */
        }
        batch_add(batch, &e, dataset_number(plan->dataset, plan->part, plan->order[at]));
    }
    batch->starts[batch->n_examples] = batch->n_tok;
}
