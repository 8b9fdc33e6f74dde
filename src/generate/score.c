/* score.c: evaluation without sampling: logits, scores, embeddings, classes.
 *
 * Each call runs its tokens through an empty session in chunks, takes what it wants from each chunk
 * while the workspace holds it, and leaves the session empty again. The sums over rows are made in
 * order and in double, so they do not depend on the chunk.
 */
#include "generate/generate_internal.h"

enum { LOGITS_BYTES = 64 << 20 }; /* of one pass that wants every row's */

/* What to ask of the rows, and who takes it: rows first..first + n of the ids are in the workspace. */
struct evaluation {
    enum role role;
    bool logits, hidden;
    bool last_only; /* only the last row wants them */
    void (*take)(void *context, const struct workspace *ws, size_t first, int n);
    void *context;
};

static graft_status check(const struct graft_session *s, const graft_token_id *ids, size_t n,
                          graft_error *error)
{
    if (s->line.n_tokens > 0) {
        return error_set(error, GRAFT_STATE, "the session must be empty: it has %zu tokens",
                         s->line.n_tokens);
    }
    if (n == 0) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "no tokens");
    }
    if (n > s->line.n_ctx) {
        return error_set(error, GRAFT_LIMIT, "%zu tokens do not fit the context of %zu", n,
                         s->line.n_ctx);
    }
    return timeline_check_ids(&s->line, ids, n, error);
}

/* Rows of one pass. The logits of a pass stay below a bound, since each row of them may be large. */
static size_t rows_per_pass(const struct graft_session *s, const struct evaluation *e)
{
    size_t most = (size_t)s->chunk;
    if (e->logits && !e->last_only) {
        size_t fit = LOGITS_BYTES / ((size_t)model_n_logits(s->model) * sizeof(float));
        most = fit < 1 ? 1 : fit < most ? fit : most;
    }
    return most;
}

static graft_status evaluate(struct graft_session *s, const graft_token_id *ids, size_t n,
                             const struct evaluation *e, graft_error *error)
{
    graft_status status = GRAFT_OK;
    s->logits_row = -1;
    size_t most = rows_per_pass(s, e);
    int rows;
    for (size_t at = 0; at < n && status == GRAFT_OK; at += (size_t)rows) {
        rows = (int)(n - at < most ? n - at : most);
        for (int i = 0; i < rows; i++) {
            size_t pos = at + (size_t)i;
            bool wanted = !e->last_only || pos + 1 == n;
            s->rows[i] = (struct row){.token = ids[pos],
                                      .pos = (int32_t)pos,
                                      .seq = s->line.seq,
                                      .role = e->role,
                                      .deltas = timeline_deltas(&s->line),
                                      .want_logits = e->logits && wanted,
                                      .want_hidden = e->hidden && wanted};
        }
        status = model_forward(s->model, s->rows, rows, s->workspace, error);
        if (status == GRAFT_OK) {
            e->take(e->context, s->workspace, at, rows);
        }
    }
    kv_seq_trim(s->line.seq, 0);
    return status;
}

static graft_status needs_language_model(const struct graft_session *s, graft_error *error)
{
    return s->sampler != NULL ? GRAFT_OK
                              : error_set(error, GRAFT_UNSUPPORTED,
                                          "the model is a classifier: it has no next-token logits");
}

/* ---- logits ---- */

struct logits_out {
    float *out; /* [n, n_vocab] */
    size_t n_vocab;
};

static void take_logits(void *context, const struct workspace *ws, size_t first, int n)
{
    const struct logits_out *to = context;
    for (int i = 0; i < n; i++) {
        memcpy(to->out + (first + (size_t)i) * to->n_vocab, workspace_logits(ws, i),
               to->n_vocab * sizeof *to->out);
    }
}

graft_status session_logits(struct graft_session *s, const graft_token_id *ids, size_t n,
                            enum role role, float *out, graft_error *error)
{
    graft_status status = needs_language_model(s, error);
    if (status == GRAFT_OK) {
        status = check(s, ids, n, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    struct logits_out to = {out, (size_t)s->model->config.n_vocab};
    struct evaluation e = {.role = role, .logits = true, .take = take_logits, .context = &to};
    return evaluate(s, ids, n, &e, error);
}

/* ---- score: rows are shared out among the workers, each with its own scratch ---- */

struct scoring {
    const struct model *model;
    const graft_token_id *ids;
    const size_t
        *targets;   /* [n] the id that a row of the pass predicts; NULL: the one behind its own */
    float *out;     /* of each id */
    float *scratch; /* [workers, n_vocab] */
    const struct workspace *ws;
    size_t first;
    int n;
};

static void score_rows(void *context, int worker, int n_workers)
{
    const struct scoring *sc = context;
    int n_vocab = sc->model->config.n_vocab;
    float *scratch = sc->scratch + (size_t)worker * (size_t)n_vocab;
    int64_t begin, end;
    pool_split(sc->n, 1, worker, n_workers, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const float *logits = workspace_logits(sc->ws, (int)i);
        size_t next = sc->targets != NULL ? sc->targets[i] : sc->first + (size_t)i + 1;
        if (logits == NULL) {
            continue; /* not wanted */
        }
        memcpy(scratch, logits, (size_t)n_vocab * sizeof *scratch);
        double log_sum = sc->model->runtime->kernels->softmax(scratch, n_vocab);
        sc->out[next] = (float)((double)logits[sc->ids[next]] - log_sum);
    }
}

static void take_scores(void *context, const struct workspace *ws, size_t first, int n)
{
    struct scoring *sc = context;
    sc->ws = ws;
    sc->first = first;
    sc->n = n;
    pool_run(sc->model->runtime->pool, score_rows, sc);
}

static float *score_scratch(const struct graft_session *s)
{
    size_t workers = (size_t)pool_threads(s->model->runtime->pool);
    return mem_calloc(s->mem, workers * (size_t)s->model->config.n_vocab, sizeof(float));
}

graft_status session_score(struct graft_session *s, const graft_token_id *ids, size_t n, float *out,
                           graft_error *error)
{
    graft_status status = needs_language_model(s, error);
    if (status == GRAFT_OK) {
        status = check(s, ids, n, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    float *scratch = score_scratch(s);
    if (scratch == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory to score %zu tokens", n);
    }
    struct scoring sc = {.model = s->model, .ids = ids, .out = out, .scratch = scratch};
    struct evaluation e = {
        .role = ROLE_PREFILL, .logits = true, .take = take_scores, .context = &sc};
    status = evaluate(s, ids, n - 1, &e, error); /* nothing follows the last one */
    if (status == GRAFT_OK) {
        out[0] = 0;
    }
    mem_free(s->mem, scratch);
    return status;
}

/* ---- scores of texts side by side ---- */

/* Short texts alone would be passes of few rows, and weights are read once a pass. Each text is a sequence of its own in
 * a cache of their own, given back as soon as its last row ran. */
struct side_by_side {
    struct graft_session *s;
    const struct score_texts *texts;
    struct kv_pool *pool;
    struct kv_seq **seqs; /* [texts->n] */
    size_t *targets;      /* [chunk] */
    size_t text, pos;     /* of the next row */
};

/* Rows of a text up to the last that is wanted. */
static size_t rows_of(const struct score_texts *t, size_t text)
{
    size_t begin = t->starts[text], end = t->starts[text + 1];
    while (t->wanted != NULL && end > begin + 1 && !t->wanted[end - 1]) {
        end--;
    }
    return end - begin - 1;
}

/* The rows of the next pass; 0: there are none left. */
static graft_status fill_pass(struct side_by_side *b, size_t most_logits, int *n,
                              graft_error *error)
{
    struct graft_session *s = b->s;
    const struct score_texts *t = b->texts;
    size_t logits = 0;
    graft_status status = GRAFT_OK;
    for (*n = 0; *n < s->chunk && b->text < t->n && status == GRAFT_OK;) {
        if (b->pos == rows_of(t, b->text)) {
            b->text++;
            b->pos = 0;
            continue;
        }
        size_t at = t->starts[b->text] + b->pos;
        bool wanted = t->wanted == NULL || t->wanted[at + 1];
        if (wanted && logits == most_logits) {
            break;
        }
        if (b->seqs[b->text] == NULL) {
            status = kv_seq_open(b->pool, &b->seqs[b->text], error);
        }
        s->rows[*n] = (struct row){.token = t->ids[at],
                                   .pos = (int32_t)b->pos,
                                   .seq = b->seqs[b->text],
                                   .role = ROLE_PREFILL,
                                   .deltas = timeline_deltas(&s->line),
                                   .want_logits = wanted};
        b->targets[(*n)++] = at + 1;
        logits += wanted;
        b->pos++;
    }
    return status;
}

static graft_status run_passes(struct side_by_side *b, struct scoring *sc, graft_error *error)
{
    const struct evaluation all = {.logits = true};
    struct graft_session *s = b->s;
    size_t closed = 0;
    int n;
    graft_status status;
    s->logits_row = -1;
    while ((status = fill_pass(b, rows_per_pass(s, &all), &n, error)) == GRAFT_OK && n > 0) {
        status = model_forward(s->model, s->rows, n, s->workspace, error);
        if (status != GRAFT_OK) {
            break;
        }
        take_scores(sc, s->workspace, 0, n);
        for (; closed < b->text; closed++) {
            kv_seq_close(&b->seqs[closed]);
        }
    }
    return status;
}

static graft_status check_texts(const struct graft_session *s, const struct score_texts *t,
                                graft_error *error)
{
    graft_status status = needs_language_model(s, error);
    if (status == GRAFT_OK && t->starts[0] != 0) {
        status = error_set(error, GRAFT_INVALID_ARGUMENT, "the first text does not begin at 0");
    }
    for (size_t i = 0; i < t->n && status == GRAFT_OK; i++) {
        size_t begin = t->starts[i], end = t->starts[i + 1];
        status = check(s, t->ids + begin, end > begin ? end - begin : 0, error);
    }
    return status;
}

graft_status session_score_texts(struct graft_session *s, const struct score_texts *texts,
                                 float *out, graft_error *error)
{
    graft_status status = check_texts(s, texts, error);
    if (status != GRAFT_OK || texts->n == 0) {
        return status;
    }
    struct side_by_side b = {.s = s, .texts = texts};
    const struct kv_pool_options kv = {s->k_type, s->v_type, INT32_MAX};
    b.seqs = mem_calloc(s->mem, texts->n, sizeof(struct kv_seq *));
    b.targets = mem_calloc(s->mem, (size_t)s->chunk, sizeof *b.targets);
    struct scoring sc = {.model = s->model,
                         .ids = texts->ids,
                         .targets = b.targets,
                         .out = out,
                         .scratch = score_scratch(s)};
    if (b.seqs == NULL || b.targets == NULL || sc.scratch == NULL) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory to score %zu texts", texts->n);
    } else {
        status = kv_pool_open(s->model, &kv, &b.pool, error);
    }
    if (status == GRAFT_OK) {
        memset(out, 0, texts->starts[texts->n] * sizeof *out);
        status = run_passes(&b, &sc, error);
    }
    for (size_t i = 0; b.seqs != NULL && i < texts->n; i++) {
        kv_seq_close(&b.seqs[i]);
    }
    kv_pool_close(&b.pool);
    mem_free(s->mem, sc.scratch);
    mem_free(s->mem, b.targets);
    mem_free(s->mem, b.seqs);
    return status;
}

/* ---- embedding ---- */

struct embedding {
    double *sum; /* [d_model] */
    size_t d_model;
};

static void take_hidden(void *context, const struct workspace *ws, size_t first, int n)
{
    const struct embedding *e = context;
    (void)first;
    for (int i = 0; i < n; i++) {
        const float *hidden = workspace_hidden(ws, i);
        for (size_t k = 0; hidden != NULL && k < e->d_model; k++) {
            e->sum[k] += (double)hidden[k];
        }
    }
}

graft_status session_embedding(struct graft_session *s, const graft_token_id *ids, size_t n,
                               graft_pooling pooling, float *out, graft_error *error)
{
    graft_status status = check(s, ids, n, error);
    if (status != GRAFT_OK) {
        return status;
    }
    struct embedding sum = {.d_model = (size_t)s->model->config.d_model};
    sum.sum = mem_calloc(s->mem, sum.d_model, sizeof *sum.sum);
    if (sum.sum == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for an embedding");
    }
    struct evaluation e = {.role = ROLE_PREFILL,
                           .hidden = true,
                           .last_only = pooling == GRAFT_POOL_LAST,
                           .take = take_hidden,
                           .context = &sum};
    status = evaluate(s, ids, n, &e, error);
    for (size_t k = 0; k < sum.d_model && status == GRAFT_OK; k++) {
        out[k] = (float)(sum.sum[k] / (pooling == GRAFT_POOL_LAST ? 1.0 : (double)n));
    }
    mem_free(s->mem, sum.sum);
    return status;
}

/* ---- classes ---- */

struct classes {
    float *out; /* [n_labels] */
    size_t n_labels;
};

static void take_classes(void *context, const struct workspace *ws, size_t first, int n)
{
    const struct classes *c = context;
    (void)first;
    const float *scores = workspace_logits(ws, n - 1);
    if (scores != NULL) { /* the last chunk */
        memcpy(c->out, scores, c->n_labels * sizeof *c->out);
    }
}

graft_status session_classify(struct graft_session *s, const graft_token_id *ids, size_t n,
                              float *out, graft_error *error)
{
    const struct config *config = &s->model->config;
    if (config->n_labels == 0) {
        return error_set(error, GRAFT_UNSUPPORTED, "the model is no classifier");
    }
    graft_status status = check(s, ids, n, error);
    if (status != GRAFT_OK) {
        return status;
    }
    /* Later positions cannot reach the one that is asked: they need not run. */
    while (n > 1 && ids[n - 1] == config->pad) {
        n--;
    }
    struct classes classes = {out, (size_t)config->n_labels};
    struct evaluation e = {.role = ROLE_PREFILL,
                           .logits = true,
                           .last_only = true,
                           .take = take_classes,
                           .context = &classes};
    return evaluate(s, ids, n, &e, error);
}
