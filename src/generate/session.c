/* session.c: one timeline of tokens on one model: open, prompt, next, trim.
 *
 * Owns the tokens, their roles, the cache and the workspace. A token's keys and values are computed
 * when something needs them, so a picked token costs a forward pass only if generation goes on. Each
 * token keeps the role it was first evaluated with; when it has to be evaluated again (after a trim
 * or a failure) the numbers are the same. A call that fails leaves the timeline as it was.
 */
#include "generate/generate_internal.h"

enum { CHUNK_MAX = 65536, DEFAULT_CONTEXT = 4096, CONTEXT_MAX = 1 << 28 };

/* ---- open and close ---- */

static graft_status check_options(const struct model *model, const graft_session_options *o,
                                  graft_error *error)
{
    const char *what = NULL;
    if (o->n_ctx < 0 || o->n_ctx > CONTEXT_MAX) {
        what = "n_ctx is out of range";
    } else if (o->prefill_chunk < 1 || o->prefill_chunk > CHUNK_MAX) {
        what = "prefill_chunk must be from 1 to 65536";
    } else if ((unsigned)o->cache_k > GRAFT_KV_Q8 || (unsigned)o->cache_v > GRAFT_KV_Q8) {
        what = "cache_k or cache_v is no cache type";
    } else if (o->n_stop_ids > 0 && o->stop_ids == NULL) {
        what = "stop_ids is NULL";
    }
    if (what != NULL) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "%s", what);
    }
    for (size_t i = 0; i < o->n_stop_ids; i++) {
        if (o->stop_ids[i] < 0 || o->stop_ids[i] >= model->config.n_vocab) {
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "stop token %d is not in the vocabulary of %d", (int)o->stop_ids[i],
                             model->config.n_vocab);
        }
    }
    return GRAFT_OK;
}

static size_t choose_context(const struct model *model, int wanted)
{
    int most = model->config.n_ctx;
    if (wanted > most) {
        runtime_log(model->runtime, GRAFT_LOG_WARN,
                    "a context of %d tokens, but the model was made for %d: quality may drop",
                    wanted, most);
    }
    return (size_t)(wanted > 0 ? wanted : most < DEFAULT_CONTEXT ? most : DEFAULT_CONTEXT);
}

static enum kv_type kv_type_of(graft_kv_type type)
{
    static const enum kv_type TYPES[] = {
        [GRAFT_KV_F16] = KV_F16, [GRAFT_KV_F32] = KV_F32, [GRAFT_KV_Q8] = KV_Q8};
    return TYPES[type];
}

static graft_status open_cache(struct graft_session *s, const graft_session_options *o,
                               graft_error *error)
{
    struct kv_pool_options kv = {.k_type = kv_type_of(o->cache_k),
                                 .v_type = kv_type_of(o->cache_v),
                                 .max_blocks = (int64_t)((s->n_ctx + KV_BLOCK - 1) / KV_BLOCK)};
    s->k_type = kv.k_type;
    s->v_type = kv.v_type;
    graft_status status = kv_pool_open(s->model, &kv, &s->pool, error);
    if (status == GRAFT_OK) {
        status = kv_seq_open(s->pool, &s->seq, error);
    }
    if (status == GRAFT_OK) {
        status = workspace_open(s->model, s->chunk, &s->workspace, error);
    }
    return status;
}

static graft_status open_arrays(struct graft_session *s, const graft_session_options *o,
                                graft_error *error)
{
    s->rows = mem_calloc(s->mem, (size_t)s->chunk, sizeof *s->rows);
    s->tokens = mem_calloc(s->mem, s->n_ctx, sizeof *s->tokens);
    s->roles = mem_calloc(s->mem, s->n_ctx, sizeof *s->roles);
    s->stop_ids = mem_calloc(s->mem, o->n_stop_ids, sizeof *s->stop_ids);
    if (s->rows == NULL || s->tokens == NULL || s->roles == NULL || s->stop_ids == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a session of %zu tokens", s->n_ctx);
    }
    if (o->n_stop_ids > 0) {
        memcpy(s->stop_ids, o->stop_ids, o->n_stop_ids * sizeof *s->stop_ids);
    }
    s->n_stop_ids = o->n_stop_ids;
    return GRAFT_OK;
}

graft_status session_open(const struct model *model, const graft_session_options *options,
                          struct graft_session **out, graft_error *error)
{
    graft_status status = check_options(model, options, error);
    if (status != GRAFT_OK) {
        return status;
    }
    struct mem *mem = &model->runtime->mem;
    struct graft_session *s = mem_calloc(mem, 1, sizeof *s);
    if (s == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a session");
    }
    s->model = model;
    s->mem = mem;
    s->logits_row = -1;
    s->ignore_eos = options->ignore_eos;
    s->n_ctx = choose_context(model, options->n_ctx);
    s->chunk = (size_t)options->prefill_chunk < s->n_ctx ? options->prefill_chunk : (int)s->n_ctx;
    status = stream_open(&s->stream, mem, model->tokenizer, options, error);
    if (status == GRAFT_OK) {
        status = open_arrays(s, options, error);
    }
    if (status == GRAFT_OK && model->config.n_labels == 0) {
        status = sampler_open(mem, model->runtime->kernels, model->config.n_vocab,
                              &options->sampling, &s->sampler, error);
    }
    if (status == GRAFT_OK) {
        status = open_cache(s, options, error);
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
        kv_seq_close(&s->seq);
        kv_pool_close(&s->pool);
        sampler_close(&s->sampler);
        stream_close(&s->stream);
        mem_free(s->mem, s->rows);
        mem_free(s->mem, s->tokens);
        mem_free(s->mem, s->roles);
        mem_free(s->mem, s->stop_ids);
        mix_release(&s->mix);
        mem_free(s->mem, s);
    }
    *session = NULL;
}

const struct model *session_model(const struct graft_session *s)
{
    return s->model;
}

/* ---- evaluating what is pending ---- */

graft_status session_check_ids(const struct graft_session *s, const graft_token_id *ids, size_t n,
                               graft_error *error)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= s->model->config.n_vocab) {
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "token %d at position %zu is not in the vocabulary of %d", (int)ids[i],
                             i, s->model->config.n_vocab);
        }
    }
    return GRAFT_OK;
}

static graft_status generates(const struct graft_session *s, graft_error *error)
{
    return s->sampler != NULL ? GRAFT_OK
                              : error_set(error, GRAFT_UNSUPPORTED,
                                          "the model is a classifier: it generates no text");
}

/* Evaluates tokens[first..first + n) as one batch; the last one wants logits if it ends the timeline. */
static graft_status evaluate_rows(struct graft_session *s, size_t first, int n, graft_error *error)
{
    for (int i = 0; i < n; i++) {
        size_t at = first + (size_t)i;
        s->rows[i] = (struct row){.token = s->tokens[at],
                                  .pos = (int32_t)at,
                                  .seq = s->seq,
                                  .role = (enum role)s->roles[at],
                                  .deltas = session_deltas(s),
                                  .want_logits = at + 1 == s->n_tokens};
    }
    return model_forward(s->model, s->rows, n, s->workspace, error);
}

/* Brings the cache to the end of the timeline, with the logits that follow it. */
static graft_status evaluate_pending(struct graft_session *s, graft_progress_fn progress,
                                     void *user, graft_error *error)
{
    s->logits_row = -1;
    if ((size_t)kv_seq_length(s->seq) == s->n_tokens) {
        kv_seq_trim(s->seq, (int64_t)s->n_tokens - 1); /* the last row again, for its logits */
    }
    size_t begin = (size_t)kv_seq_length(s->seq);
    int n = 0;
    for (size_t at = begin; at < s->n_tokens; at += (size_t)n) {
        size_t left = s->n_tokens - at;
        n = left < (size_t)s->chunk ? (int)left : s->chunk;
        graft_status status = evaluate_rows(s, at, n, error);
        if (status != GRAFT_OK) {
            return status;
        }
        size_t done = at + (size_t)n - begin;
        if (progress != NULL && !progress(user, done, s->n_tokens - begin, "prompt")) {
            return error_set(error, GRAFT_CANCELLED, "cancelled after %zu of %zu tokens", done,
                             s->n_tokens - begin);
        }
    }
    s->logits_row = n - 1;
    s->logits_after = s->n_tokens;
    return GRAFT_OK;
}

static bool has_logits(const struct graft_session *s)
{
    return s->logits_row >= 0 && s->logits_after == s->n_tokens;
}

/* ---- prompt ---- */

graft_status session_prompt(struct graft_session *s, const graft_token_id *ids, size_t n,
                            graft_progress_fn progress, void *user, graft_error *error)
{
    graft_status status = generates(s, error);
    if (status == GRAFT_OK) {
        status = session_check_ids(s, ids, n, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    size_t before = s->n_tokens;
    if (n > s->n_ctx - before) {
        return error_set(error, GRAFT_LIMIT,
                         "%zu tokens do not fit: %zu of the context's %zu are taken", n, before,
                         s->n_ctx);
    }
    if (n > 0) {
        memcpy(s->tokens + before, ids, n * sizeof *ids);
        memset(s->roles + before, ROLE_PREFILL, n);
        s->n_tokens += n;
        status = evaluate_pending(s, progress, user, error);
    }
    if (status != GRAFT_OK) {
        s->n_tokens = before;
        if ((size_t)kv_seq_length(s->seq) > before) {
            kv_seq_trim(s->seq, (int64_t)before);
        }
        return status;
    }
    session_resume(s);
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
    int flags = s->n_tokens == 0 && tokenizer_adds_bos(tokenizer) ? TOKENIZE_BOS : 0;
    graft_status status = tokenizer_encode(tokenizer, text, size, flags, &ids, error);
    if (status == GRAFT_OK) {
        status = session_prompt(s, ids.ids, ids.count, NULL, NULL, error);
    }
    tokens_free(&ids);
    return status;
}

/* ---- next ---- */

static bool is_end_token(const struct graft_session *s, graft_token_id id)
{
    const struct config *config = &s->model->config;
    for (int i = 0; i < config->n_eos; i++) {
        if (config->eos[i] == id) {
            return true;
        }
    }
    const struct tokenizer *tokenizer = s->model->tokenizer;
    return tokenizer != NULL && id < tokenizer_size(tokenizer) && tokenizer_is_end(tokenizer, id);
}

static bool is_stop_token(const struct graft_session *s, graft_token_id id)
{
    for (size_t i = 0; i < s->n_stop_ids; i++) {
        if (s->stop_ids[i] == id) {
            return true;
        }
    }
    return false;
}

bool session_is_over(const struct graft_session *s)
{
    return s->finish == GRAFT_FINISH_EOS || s->finish == GRAFT_FINISH_STOP ||
           s->n_tokens == s->n_ctx;
}

graft_status session_end_record(struct graft_session *s, graft_token *out, graft_error *error)
{
    graft_token record = {.id = -1, .text = ""};
    if (s->answering) {
        graft_status status = stream_flush(&s->stream, &record.text, &record.text_size, error);
        if (status != GRAFT_OK) {
            return status;
        }
    }
    s->answering = false;
    *out = record;
    return GRAFT_OK;
}

/* Turns a pick into a record and makes it part of the timeline. */
static graft_status commit(struct graft_session *s, const struct pick *pick, graft_token *out,
                           graft_error *error)
{
    if (!s->answering) {
        stream_begin(&s->stream, s->tokens, s->n_tokens);
        s->answering = true;
    }
    bool is_eos = !s->ignore_eos && is_end_token(s, pick->id);
    bool is_stop = is_stop_token(s, pick->id);
    graft_token record = {.id = pick->id,
                          .text = "",
                          .logprob = pick->logprob,
                          .probability = pick->probability,
                          .is_eos = is_eos};
    if (!(is_eos || is_stop) || s->stream.show_special) {
        graft_status status =
            stream_push(&s->stream, pick->id, &record.text, &record.text_size, error);
        if (status != GRAFT_OK) {
            return status;
        }
    }
    s->tokens[s->n_tokens] = pick->id;
    s->roles[s->n_tokens++] = ROLE_DECODE;
    s->finish = is_eos                         ? GRAFT_FINISH_EOS
                : is_stop || s->stream.stopped ? GRAFT_FINISH_STOP
                                               : GRAFT_FINISH_NONE;
    *out = record;
    return GRAFT_OK;
}

graft_status session_next(struct graft_session *s, graft_token *out, graft_error *error)
{
    graft_status status = generates(s, error);
    if (status != GRAFT_OK) {
        return status;
    }
    if (s->n_tokens == 0) {
        return error_set(error, GRAFT_STATE, "nothing to continue: the session has no tokens");
    }
    if (session_is_over(s)) {
        status = session_end_record(s, out, error);
        if (status == GRAFT_OK && s->finish != GRAFT_FINISH_EOS && s->finish != GRAFT_FINISH_STOP) {
            s->finish = GRAFT_FINISH_LENGTH;
        }
        return status == GRAFT_OK ? GRAFT_END : status;
    }
    if (!has_logits(s)) {
        status = evaluate_pending(s, NULL, NULL, error);
    }
    struct pick pick;
    if (status == GRAFT_OK) {
        status = sampler_pick(s->sampler, workspace_logits(s->workspace, s->logits_row), s->tokens,
                              s->n_tokens, &pick, error);
    }
    return status == GRAFT_OK ? commit(s, &pick, out, error) : status;
}

/* ---- the timeline ---- */

void session_resume(struct graft_session *s)
{
    s->finish = GRAFT_FINISH_NONE;
    s->answering = false;
}

graft_status session_trim(struct graft_session *s, size_t n, graft_error *error)
{
    if (n > s->n_tokens) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "cannot trim to %zu tokens: the session has %zu", n, s->n_tokens);
    }
    s->n_tokens = n;
    if ((size_t)kv_seq_length(s->seq) > n) {
        kv_seq_trim(s->seq, (int64_t)n);
    }
    if (s->logits_after > n) {
        s->logits_row = -1;
    }
    session_resume(s);
    return GRAFT_OK;
}

const graft_token_id *session_tokens(const struct graft_session *s, size_t *n)
{
    *n = s->n_tokens;
    return s->tokens;
}

int session_context(const struct graft_session *s)
{
    return (int)s->n_ctx;
}

size_t session_kv_bytes(const struct graft_session *s)
{
    return (size_t)kv_pool_blocks_used(s->pool) * kv_pool_block_bytes(s->pool);
}

graft_finish session_finish(const struct graft_session *s)
{
    return s->finish;
}
