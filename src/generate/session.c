/* session.c: one timeline with a cache and a workspace of its own: open, prompt, next, trim.
 *
 * What a timeline does is in timeline.c; here its passes are run, one after the other. A call that fails leaves the
 * timeline as it was.
 */
#include "generate/generate_internal.h"

enum { DEFAULT_CONTEXT = 4096 };

/* ---- open and close ---- */

static graft_status check_options(const graft_session_options *o, graft_error *error)
{
    const char *what = NULL;
    if (o->n_ctx < 0 || o->n_ctx > CONTEXT_MAX) {
        what = "n_ctx is out of range";
    } else if (o->prefill_chunk < 1 || o->prefill_chunk > CHUNK_MAX) {
        what = "prefill_chunk must be from 1 to 65536";
    } else if ((unsigned)o->cache_k > GRAFT_KV_Q8 || (unsigned)o->cache_v > GRAFT_KV_Q8) {
        what = "cache_k or cache_v is no cache type";
    }
    return what == NULL ? GRAFT_OK : error_set(error, GRAFT_INVALID_ARGUMENT, "%s", what);
}

/* Forks share a pool that has room for all of them, so that none can take what another needs. */
static graft_status open_cache(struct graft_session *s, const graft_session_options *o,
                               const struct graft_session *from, size_t n_ctx, graft_error *error)
{
    graft_status status = GRAFT_OK;
    s->share = (int64_t)((n_ctx + KV_BLOCK - 1) / KV_BLOCK);
    s->k_type = cache_type(o->cache_k);
    s->v_type = cache_type(o->cache_v);
    if (from != NULL) {
        s->pool = kv_pool_retain(from->pool);
        kv_pool_allow(s->pool, s->share);
    } else {
        const struct kv_pool_options kv = {s->k_type, s->v_type, s->share};
        status = kv_pool_open(s->model, &kv, &s->pool, error);
    }
    if (status == GRAFT_OK) {
        status = timeline_open(&s->line, s->model, s->pool, n_ctx, o, error);
    }
    if (status == GRAFT_OK) {
        status = workspace_open(s->model, s->chunk, &s->workspace, error);
    }
    return status;
}

graft_status session_open(const struct model *model, const graft_session_options *options,
                          struct graft_session **out, graft_error *error)
{
    return session_open_beside(model, options, NULL, out, error);
}

graft_status session_open_beside(const struct model *model, const graft_session_options *options,
                                 const struct graft_session *from, struct graft_session **out,
                                 graft_error *error)
{
    graft_status status = check_options(options, error);
    if (status != GRAFT_OK) {
        return status;
    }
    struct mem *mem = &model->runtime->mem;
    struct graft_session *s = mem_calloc(mem, 1, sizeof *s);
    if (s == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a session");
    }
    size_t n_ctx = from != NULL ? from->line.n_ctx : context_size(model, options->n_ctx);
    s->model = model;
    s->mem = mem;
    s->logits_row = -1;
    s->chunk = (size_t)options->prefill_chunk < n_ctx ? options->prefill_chunk : (int)n_ctx;
    s->rows = mem_calloc(mem, (size_t)s->chunk, sizeof *s->rows);
    if (s->rows == NULL) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a session");
    }
    if (status == GRAFT_OK && model->config.n_labels == 0) {
        status =
            sampler_open(mem, model->runtime->kernels, model->config.n_vocab, &s->sampler, error);
    }
    if (status == GRAFT_OK) {
        status = open_cache(s, options, from, n_ctx, error);
    }
    if (status != GRAFT_OK) {
        session_close(&s);
        return status;
    }
    *out = s;
    return GRAFT_OK;
}

void session_close(struct graft_session **session)
{
    struct graft_session *s = *session;
    if (s != NULL) {
        workspace_close(&s->workspace);
        session_close_draft(s);
        timeline_close(&s->line);
        if (s->pool != NULL) {
            kv_pool_allow(s->pool, -s->share);
        }
        kv_pool_close(&s->pool);
        sampler_close(&s->sampler);
        mem_free(s->mem, s->rows);
        mem_free(s->mem, s->note);
        mem_free(s->mem, s);
    }
    *session = NULL;
}

const struct model *session_model(const struct graft_session *s)
{
    return s->model;
}

/* ---- evaluating what is pending ---- */

static graft_status generates(const struct graft_session *s, graft_error *error)
{
    return s->sampler != NULL ? GRAFT_OK
                              : error_set(error, GRAFT_UNSUPPORTED,
                                          "the model is a classifier: it generates no text");
}

/* Brings the cache to the end of the timeline, with the logits that follow it. */
static graft_status evaluate_pending(struct graft_session *s, graft_progress_fn progress,
                                     void *user, graft_error *error)
{
    size_t all = timeline_pending(&s->line), done = 0;
    s->logits_row = -1;
    while (done < all) {
        int n = timeline_plan(&s->line, s->rows, s->chunk);
        graft_status status = model_forward(s->model, s->rows, n, s->workspace, error);
        if (status != GRAFT_OK) {
            return status;
        }
        done += (size_t)s->line.planned_tokens;
        if (progress != NULL && !progress(user, done, all, "prompt")) {
            return error_set(error, GRAFT_CANCELLED, "cancelled after %zu of %zu tokens", done,
                             all);
        }
    }
    timeline_forget_spans(&s->line);
    s->logits_row = s->line.planned_tokens - 1;
    s->logits_after = s->line.n_tokens;
    return GRAFT_OK;
}

static bool has_logits(const struct graft_session *s)
{
    return s->logits_row >= 0 && s->logits_after == s->line.n_tokens;
}

/* ---- prompt ---- */

graft_status session_prompt(struct graft_session *s, const graft_token_id *ids, size_t n,
                            graft_progress_fn progress, void *user, graft_error *error)
{
    struct timeline *t = &s->line;
    graft_status status = generates(s, error);
    if (status == GRAFT_OK) {
        status = timeline_check_ids(t, ids, n, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    size_t before = t->n_tokens, answer_begin = t->answer_begin;
    size_t span_end = t->n_spans > 0 ? t->spans[t->n_spans - 1].end : 0;
    if (n > t->n_ctx - before) {
        return error_set(error, GRAFT_LIMIT,
                         "%zu tokens do not fit: %zu of the context's %zu are taken", n, before,
                         t->n_ctx);
    }
    if (n > 0) {
        timeline_append(t, ids, n);
        status = evaluate_pending(s, progress, user, error);
    }
    if (status != GRAFT_OK) {
        t->n_tokens = before;
        t->answer_begin = answer_begin;
        if (t->n_spans > 0) {
            t->spans[t->n_spans - 1].end = span_end;
        }
        timeline_rewind(t);
        return status;
    }
    if (s->drafter != NULL) {
        drafter_follow(s->drafter, t->tokens, before);
        drafter_begin_answer(s->drafter, t->n_tokens);
    }
    timeline_resume(t);
    return GRAFT_OK;
}

graft_status session_prompt_text(struct graft_session *s, const char *text, size_t size,
                                 graft_error *error)
{
    const struct tokenizer *tokenizer = s->model->tokenizer;
    if (tokenizer == NULL) {
        return error_set(error, GRAFT_UNSUPPORTED, "the model has no tokenizer: prompt with ids");
    }
    struct tokens ids = {.mem = s->mem};
    int flags = s->line.n_tokens == 0 && tokenizer_adds_bos(tokenizer) ? TOKENIZE_BOS : 0;
    graft_status status = tokenizer_encode(tokenizer, text, size, flags, &ids, error);
    if (status == GRAFT_OK) {
        status = session_prompt(s, ids.ids, ids.count, NULL, NULL, error);
    }
    tokens_free(&ids);
    return status;
}

/* ---- next ---- */

/* A pick as a region, so that its arithmetic is graft's and not that of the host's floating-point state. */
struct pick_job {
    struct graft_session *s;
    const float *logits; /* NULL: of the pass that ran last */
    graft_status status;
    graft_error *error;
};

static void pick_work(void *context, int worker, int n_workers)
{
    (void)worker;
    (void)n_workers;
    struct pick_job *job = context;
    struct graft_session *s = job->s;
    job->status = job->logits != NULL
                      ? timeline_pick_from(&s->line, job->logits, s->sampler, job->error)
                      : timeline_pick(&s->line, s->workspace, 0, s->sampler, job->error);
}

/* At least one pick in hand. */
static graft_status look_ahead(struct graft_session *s, graft_error *error)
{
    struct pick_job job = {.s = s, .error = error};
    if (s->line.n_ahead > 0) {
        return GRAFT_OK;
    }
    double begun = 0; /* 0: no pass that guesses could have been in */
    if (has_logits(s)) {
        job.logits = workspace_logits(s->workspace, s->logits_row);
    } else {
        session_guess(s);
        begun = s->drafter != NULL ? time_seconds() : 0;
        graft_status status = evaluate_pending(s, NULL, NULL, error);
        if (status != GRAFT_OK && s->line.n_draft > 0) {
            timeline_rewind(&s->line); /* it may be their fault */
            status = evaluate_pending(s, NULL, NULL, error);
        }
        if (status != GRAFT_OK) {
            return status;
        }
    }
    s->ahead_row = s->logits_row;
    pool_run_alone(pick_work, &job);
    if (begun > 0) {
        session_verified(s, time_seconds() - begun);
    }
    return job.status;
}

graft_status session_next(struct graft_session *s, graft_token *out, graft_error *error)
{
    struct timeline *t = &s->line;
    graft_status status = generates(s, error);
    if (status != GRAFT_OK) {
        return status;
    }
    if (t->n_tokens == 0) {
        return error_set(error, GRAFT_STATE, "nothing to continue: the session has no tokens");
    }
    if (timeline_is_over(t)) {
        status = timeline_end_record(t, out, error);
        if (status == GRAFT_OK && t->finish != GRAFT_FINISH_EOS && t->finish != GRAFT_FINISH_STOP) {
            t->finish = GRAFT_FINISH_LENGTH;
        }
        return status == GRAFT_OK ? GRAFT_END : status;
    }
    status = look_ahead(s, error);
    if (status == GRAFT_OK) {
        status = timeline_commit(t, out, error);
    }
    if (status == GRAFT_OK) {
        s->logits_row = s->ahead_row++;
        s->logits_after = t->n_tokens - 1;
    }
    return status;
}

/* ---- the timeline ---- */

void session_resume(struct graft_session *s)
{
    timeline_resume(&s->line);
}

graft_status session_set_constraint(struct graft_session *s, struct grammar *g,
                                    struct vocabulary *v, graft_error *error)
{
    graft_status status = generates(s, error);
    return status == GRAFT_OK ? timeline_hold(&s->line, g, v, error) : status;
}

void session_set_answer_limit(struct graft_session *s, size_t max_tokens)
{
    timeline_rewind(&s->line);
    s->line.answer_most = max_tokens;
}

graft_status session_trim(struct graft_session *s, size_t n, graft_error *error)
{
    if (n > s->line.n_tokens) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "cannot trim to %zu tokens: the session has %zu", n, s->line.n_tokens);
    }
    timeline_trim(&s->line, n);
    if (s->drafter != NULL) {
        drafter_trim(s->drafter, n);
    }
    if (s->logits_after > n) {
        s->logits_row = -1;
    }
    return GRAFT_OK;
}

const graft_token_id *session_tokens(const struct graft_session *s, size_t *n)
{
    *n = s->line.n_tokens;
    return s->line.tokens;
}

int session_context(const struct graft_session *s)
{
    return (int)s->line.n_ctx;
}

size_t session_kv_bytes(const struct graft_session *s)
{
    return (size_t)kv_pool_blocks_used(s->pool) * kv_pool_block_bytes(s->pool);
}

graft_finish session_finish(const struct graft_session *s)
{
    return s->line.finish;
}
