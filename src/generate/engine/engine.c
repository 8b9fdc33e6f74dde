/* engine.c: open and close, the thread, and what callers hand over to it.
 *
 * Nothing that a caller does waits for a step: a request is checked, its timeline allocated and put into a list; wishes and
 * cancellations are notes that the worker finds between two steps.
 */
#include "generate/engine/engine_internal.h"

#include <math.h>

enum { PREFIXES_MAX = 1 << 16 };

graft_engine_options engine_options_default(void)
{
    return (graft_engine_options){.struct_size = sizeof(graft_engine_options),
                                  .max_streams = 64,
                                  .max_waiting = 1024,
                                  .kv_bytes = (size_t)1 << 30,
                                  .waiting_tokens = (size_t)4 << 20,
                                  .batch_rows = 256,
                                  .prompt_rows = 64,
                                  .ring = 64,
                                  .keep_prefixes = true};
}

/* ---- open and close ---- */

static graft_status check_options(const struct model *model, const graft_engine_options *o,
                                  graft_error *error)
{
    const char *what = NULL;
    if (model->config.n_labels > 0) {
        return error_set(error, GRAFT_UNSUPPORTED,
                         "the model is a classifier: it generates no text");
    }
    if (o->max_streams < 1 || o->max_streams > 4096) {
        what = "max_streams must be from 1 to 4096";
    } else if (o->max_waiting < 0) {
        what = "max_waiting must be 0 or more";
    } else if (o->n_ctx < 0 || o->n_ctx > 1 << 28) {
        what = "n_ctx is out of range";
    } else if ((unsigned)o->cache_k > GRAFT_KV_Q8 || (unsigned)o->cache_v > GRAFT_KV_Q8) {
        what = "cache_k or cache_v is no cache type";
    } else if (o->batch_rows < 1 || o->batch_rows > 65536) {
        what = "batch_rows must be from 1 to 65536";
    } else if (o->prompt_rows < 1) {
        what = "prompt_rows must be 1 or more";
    } else if (o->ring < 2 || o->ring > 65536) {
        what = "ring must be from 2 to 65536";
    }
    return what == NULL ? GRAFT_OK : error_set(error, GRAFT_INVALID_ARGUMENT, "%s", what);
}

static graft_status open_cache(struct graft_engine *e, graft_error *error)
{
    struct kv_pool_options kv = {cache_type(e->options.cache_k), cache_type(e->options.cache_v), 1};
    graft_status status = kv_pool_open(e->model, &kv, &e->pool, error);
    if (status != GRAFT_OK) {
        return status;
    }
    size_t block = kv_pool_block_bytes(e->pool);
    if (e->options.kv_bytes < block) {
        return error_set(error, GRAFT_LIMIT,
                         "kv_bytes hold no block of %d tokens: at least %zu are needed", KV_BLOCK,
                         block);
    }
    size_t n = e->options.kv_bytes / block;
    e->n_blocks = n < INT32_MAX ? (int64_t)n : INT32_MAX;
    kv_pool_allow(e->pool, e->n_blocks - 1);
    e->kind =
        (struct prefix_kind){(uint8_t)kv.k_type, (uint8_t)kv.v_type, e->options.share_decoded};
    return prefixes_open(&e->prefixes, e->mem, e->pool,
                         e->n_blocks < PREFIXES_MAX ? (size_t)e->n_blocks : PREFIXES_MAX, error);
}

static graft_status open_scratch(struct graft_engine *e, graft_error *error)
{
    const graft_engine_options *o = &e->options;
    int n_workers = pool_threads(e->model->runtime->pool);
    e->max_rows = o->batch_rows > o->max_streams ? o->batch_rows : o->max_streams;
    e->running = mem_calloc(e->mem, (size_t)o->max_streams, sizeof(*e->running));
    e->parts = mem_calloc(e->mem, (size_t)o->max_streams, sizeof(*e->parts));
    e->guesses = mem_calloc(e->mem, (size_t)o->max_streams, sizeof(*e->guesses));
    e->rows = mem_calloc(e->mem, (size_t)e->max_rows, sizeof(*e->rows));
    e->samplers = mem_calloc(e->mem, (size_t)n_workers, sizeof(*e->samplers));
    if (e->running == NULL || e->parts == NULL || e->guesses == NULL || e->rows == NULL ||
        e->samplers == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for an engine");
    }
    graft_status status = workspace_open(e->model, e->max_rows, &e->workspace, error);
    for (; status == GRAFT_OK && e->n_samplers < n_workers; e->n_samplers++) {
        status = sampler_open(e->mem, e->model->runtime->kernels, e->model->config.n_vocab,
                              &e->samplers[e->n_samplers], error);
    }
    return status;
}

graft_status engine_make(const struct model *model, const struct model *draft,
                         const graft_engine_options *options, struct graft_engine **out,
                         graft_error *error)
{
    struct mem *mem = &model->runtime->mem;
    graft_status status = check_options(model, options, error);
    if (status != GRAFT_OK) {
        return status;
    }
    struct graft_engine *e = mem_calloc(mem, 1, sizeof *e);
    if (e == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for an engine");
    }
    e->model = model;
    e->mem = mem;
    e->options = *options;
    e->n_ctx = context_size(model, options->n_ctx);
    e->incoming_end = &e->incoming;
    pthread_mutex_init(&e->lock, NULL); /* none can fail on Linux with these attributes */
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&e->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    status = open_cache(e, error);
    if (status == GRAFT_OK) {
        status = open_scratch(e, error);
    }
    if (status == GRAFT_OK && options->draft != NULL) {
        status = speculation_open(model, draft, options->draft, &e->speculation, error);
    }
    e->options.draft = NULL; /* the caller's, no longer needed */
    if (status != GRAFT_OK) {
        engine_close(&e);
        return status;
    }
    *out = e;
    return GRAFT_OK;
}

/* The nearest deadline of a stream; 0: none. */
static double nearest_deadline(const struct graft_engine *e)
{
    double first = 0;
    for (size_t i = 0; i < e->n_queue + (size_t)e->n_running; i++) {
        const struct graft_stream *s = i < e->n_queue ? e->waiting[i] : e->running[i - e->n_queue];
        if (s->deadline > 0 && (first == 0 || s->deadline < first)) {
            first = s->deadline;
        }
    }
    return first;
}

/* Sleeps until somebody signals, or a deadline is over. */
static void rest(struct graft_engine *e)
{
    double until = nearest_deadline(e);
    struct timespec at = {.tv_sec = (time_t)until, .tv_nsec = (long)((until - floor(until)) * 1e9)};
    pthread_mutex_lock(&e->lock);
    if (!e->signalled && !e->closing) {
        if (until > 0) {
            pthread_cond_timedwait(&e->wake, &e->lock, &at);
        } else {
            pthread_cond_wait(&e->wake, &e->lock);
        }
    }
    e->signalled = false;
    pthread_mutex_unlock(&e->lock);
}

static void *run(void *context)
{
    struct graft_engine *e = context;
    for (;;) {
        pthread_mutex_lock(&e->lock);
        bool closing = e->closing;
        pthread_mutex_unlock(&e->lock);
        if (closing) {
            return NULL;
        }
        if (!engine_step(e)) {
            rest(e);
        }
    }
}

graft_status engine_open(const struct model *model, const struct model *draft,
                         const graft_engine_options *options, const void *owner,
                         struct graft_engine **out, graft_error *error)
{
    struct graft_engine *e = NULL;
    graft_status status = engine_make(model, draft, options, &e, error);
    if (status != GRAFT_OK) {
        return status;
    }
    e->owner = owner;
    if (pthread_create(&e->thread, NULL, run, e) != 0) {
        engine_close(&e);
        return error_set(error, GRAFT_LIMIT, "the system gave no thread for an engine");
    }
    e->threaded = true;
    *out = e;
    return GRAFT_OK;
}

static void end_all(struct graft_engine *e)
{
    while (e->incoming != NULL) {
        struct graft_stream *s = e->incoming;
        e->incoming = s->next;
        stream_over(s, GRAFT_FINISH_CANCELLED, NULL, NULL);
        stream_release(s);
    }
    for (size_t i = 0; i < e->n_queue + (size_t)e->n_running; i++) {
        struct graft_stream *s = i < e->n_queue ? e->waiting[i] : e->running[i - e->n_queue];
        stream_over(s, GRAFT_FINISH_CANCELLED, NULL, NULL);
    }
    schedule_sweep(e);
}

void engine_close(struct graft_engine **engine)
{
    struct graft_engine *e = *engine;
    *engine = NULL;
    if (e == NULL) {
        return;
    }
    if (e->threaded && runtime_check(e->model->runtime, NULL) != GRAFT_OK) {
        return; /* a child process: the thread is not here, and what it was in the midst of cannot be taken apart */
    }
    if (e->threaded) {
        pthread_mutex_lock(&e->lock);
        e->closing = true;
        pthread_cond_signal(&e->wake);
        pthread_mutex_unlock(&e->lock);
        pthread_join(e->thread, NULL);
    }
    end_all(e);
    speculation_close(&e->speculation);
    prefixes_close(&e->prefixes);
    kv_pool_close(&e->pool);
    workspace_close(&e->workspace);
    for (int i = 0; i < e->n_samplers; i++) {
        sampler_close(&e->samplers[i]);
    }
    mem_free(e->mem, e->samplers);
    mem_free(e->mem, e->waiting);
    mem_free(e->mem, e->running);
    mem_free(e->mem, e->parts);
    mem_free(e->mem, e->guesses);
    mem_free(e->mem, e->rows);
    pthread_cond_destroy(&e->wake);
    pthread_mutex_destroy(&e->lock);
    mem_free(e->mem, e);
}

const void *engine_owner(const struct graft_engine *e)
{
    return e->owner;
}

const struct model *engine_model(const struct graft_engine *e)
{
    return e->model;
}

void engine_signal(struct graft_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->signalled = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
}

void engine_describe(struct graft_engine *e, graft_engine_info *out)
{
    pthread_mutex_lock(&e->lock);
    *out = e->info;
    out->waiting = e->n_waiting;
    pthread_mutex_unlock(&e->lock);
    out->kv_bytes = (size_t)e->n_blocks * kv_pool_block_bytes(e->pool);
    out->kv_bytes_used = (size_t)kv_pool_blocks_used(e->pool) * kv_pool_block_bytes(e->pool);
}

void engine_forget_prefixes(struct graft_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->forget = true;
    pthread_mutex_unlock(&e->lock);
    engine_signal(e);
}

/* ---- submission ---- */

/* Tokens that the timeline may come to. */
static graft_status find_room(const struct graft_engine *e, const graft_request *r, size_t *n_ctx,
                              graft_error *error)
{
    size_t pool = (size_t)e->n_blocks * KV_BLOCK;
    size_t most = e->n_ctx < pool ? e->n_ctx : pool;
    size_t wanted = r->n_prompt + r->max_tokens;
    if (r->n_prompt == 0 && r->fork == NULL) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "the prompt is empty");
    }
    if (r->n_prompt > most || r->max_tokens > most - r->n_prompt) {
        return error_set(
            error, GRAFT_LIMIT,
            "%zu tokens of prompt and %zu of answer never fit: a stream may have %zu (%s)",
            r->n_prompt, r->max_tokens, most, most == e->n_ctx ? "n_ctx" : "kv_bytes");
    }
    *n_ctx = r->max_tokens == 0 || r->fork != NULL ? most : wanted;
    return GRAFT_OK;
}

static graft_status check_request(const graft_request *r, graft_error *error)
{
    if (!(r->timeout >= 0 && r->timeout < 1e9)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "timeout must be 0 or more seconds");
    }
    return GRAFT_OK;
}

static graft_status open_stream(struct graft_engine *e, const struct submission *submission,
                                struct graft_stream *s, graft_error *error)
{
    const graft_request *r = submission->request;
    struct mix *mix = submission->mix;
    const graft_session_options o = {.sampling = r->sampling,
                                     .stops = r->stops,
                                     .n_stops = r->n_stops,
                                     .stop_ids = r->stop_ids,
                                     .n_stop_ids = r->n_stop_ids,
                                     .ignore_eos = r->ignore_eos,
                                     .show_special = r->show_special};
    size_t n_ctx = 0;
    graft_status status = check_request(r, error);
    if (status == GRAFT_OK) {
        status = find_room(e, r, &n_ctx, error);
    }
    if (status == GRAFT_OK) {
        status = ring_open(&s->ring, e->mem, (size_t)e->options.ring, error);
    }
    if (status == GRAFT_OK) {
        status = timeline_open(&s->line, e->model, e->pool, n_ctx, &o, error);
    }
    if (status == GRAFT_OK) {
        status = timeline_check_ids(&s->line, r->prompt, r->n_prompt, error);
    }
    if (status == GRAFT_OK) {
        status = timeline_want_top(&s->line, r->top, error);
    }
    if (status == GRAFT_OK && submission->grammar != NULL) {
        status = timeline_hold(&s->line, submission->grammar, submission->vocabulary, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    s->line.keeps_spans = true;
    if (r->fork == NULL) {
        timeline_set_mix(&s->line, mix, GRAFT_KV_CONTINUE);
        timeline_append(&s->line, r->prompt, r->n_prompt);
        return GRAFT_OK;
    }
    s->suffix = mem_calloc(e->mem, r->n_prompt, sizeof *s->suffix);
    if (s->suffix == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a prompt of %zu tokens",
                         r->n_prompt);
    }
    if (r->n_prompt > 0) {
        memcpy(s->suffix, r->prompt, r->n_prompt * sizeof *s->suffix);
    }
    atomic_fetch_add(&r->fork->references, 1);
    s->fork = r->fork;
    s->has_wish = mix != NULL || r->base;
    s->wish = mix_acquire(mix);
    s->wish_policy = GRAFT_KV_CONTINUE;
    return GRAFT_OK;
}

/* Into the list, unless too many wait. */
static graft_status hand_over(struct graft_engine *e, struct graft_stream *s, graft_error *error)
{
    graft_status status = GRAFT_OK;
    pthread_mutex_lock(&e->lock);
    size_t waits = e->n_waiting, may = (size_t)e->options.max_waiting;
    size_t idle = (size_t)e->options.max_streams - e->info.running;
    if (waits >= may + idle) {
        status = error_set(error, GRAFT_BUSY, "%zu streams run and %zu wait: try again later",
                           e->info.running, waits);
    } else if (waits > 0 && e->waiting_tokens + s->prompt_tokens > e->options.waiting_tokens) {
        status = error_set(error, GRAFT_BUSY, "prompts of %zu tokens wait: try again later",
                           e->waiting_tokens);
    } else {
        e->n_waiting++;
        e->waiting_tokens += s->prompt_tokens;
        e->info.submitted++;
        *e->incoming_end = s;
        e->incoming_end = &s->next;
        e->signalled = true;
        pthread_cond_signal(&e->wake);
    }
    pthread_mutex_unlock(&e->lock);
    return status;
}

graft_status engine_submit(struct graft_engine *e, const struct submission *submission,
                           struct graft_stream **out, graft_error *error)
{
    const graft_request *request = submission->request;
    struct graft_stream *s = mem_calloc(e->mem, 1, sizeof *s);
    if (s == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a stream");
    }
    s->engine = e;
    s->mem = e->mem;
    atomic_init(&s->references, 1);
    atomic_init(&s->cancelled, false);
    s->callback = request->callback;
    s->user = request->user;
    s->wants_drafts = !request->no_draft;
    s->priority = request->priority;
    s->owner = request->owner;
    s->max_tokens = request->max_tokens;
    s->prompt_tokens = s->info.prompt_tokens = request->n_prompt;
    s->submitted = time_seconds();
    s->deadline = request->timeout > 0 ? s->submitted + request->timeout : 0;
    graft_status status = open_stream(e, submission, s, error);
    if (status == GRAFT_OK) {
        atomic_fetch_add(&s->references, 1);
        status = hand_over(e, s, error);
        if (status != GRAFT_OK) {
            atomic_fetch_sub(&s->references, 1);
        }
    }
    if (status != GRAFT_OK) {
        timeline_close(&s->line);
        stream_release(s);
        return status;
    }
    *out = s;
    return GRAFT_OK;
}

/* ---- streams ---- */

/* The timeline was closed by whoever ended the stream: blocks are the worker's. */
void stream_release(struct graft_stream *s)
{
    if (atomic_fetch_sub(&s->references, 1) != 1) {
        return;
    }
    if (s->fork != NULL) {
        stream_release(s->fork);
    }
    mix_release(&s->wish);
    ring_close(&s->ring);
    mem_free(s->mem, s->suffix);
    mem_free(s->mem, s);
}

struct graft_engine *stream_engine(const struct graft_stream *s)
{
    return s->engine;
}

graft_status stream_take(struct graft_stream *s, bool wait, graft_token *out, graft_error *error)
{
    bool wake = false;
    graft_status status = ring_take(&s->ring, wait, out, &wake, error);
    if (wake) {
        engine_signal(s->engine);
    }
    return status;
}

graft_status stream_descriptor(struct graft_stream *s, int *out, graft_error *error)
{
    return ring_descriptor(&s->ring, out, error);
}

void stream_cancel(struct graft_stream *s)
{
    atomic_store(&s->cancelled, true);
    if (runtime_check(s->engine->model->runtime, NULL) == GRAFT_OK) {
        engine_signal(s->engine); /* in a child process nobody is there to hear it */
    }
}

void stream_close(struct graft_stream **stream)
{
    struct graft_stream *s = *stream;
    *stream = NULL;
    if (s != NULL) {
        stream_cancel(s);
        stream_release(s);
    }
}

graft_finish stream_finish(const struct graft_stream *s)
{
    struct ring *r = &((struct graft_stream *)(uintptr_t)s)->ring;
    pthread_mutex_lock(&r->lock);
    graft_finish finish = r->end_given ? r->finish : GRAFT_FINISH_NONE;
    pthread_mutex_unlock(&r->lock);
    return finish;
}

void stream_set_mix(struct graft_stream *s, struct mix *mix, graft_kv_policy policy)
{
    struct graft_engine *e = s->engine;
    pthread_mutex_lock(&e->lock);
    struct mix *old = s->wish;
    /* Two swaps before one step: the cache is that of the mix before both, so replaying either replays. */
    s->wish_policy = s->has_wish && s->wish_policy == GRAFT_KV_REPLAY ? GRAFT_KV_REPLAY : policy;
    s->wish = mix_acquire(mix);
    s->has_wish = true;
    e->signalled = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->lock);
    mix_release(&old);
}

void stream_describe(const struct graft_stream *s, graft_stream_info *out)
{
    struct graft_engine *e = s->engine;
    pthread_mutex_lock(&e->lock);
    *out = s->info;
    pthread_mutex_unlock(&e->lock);
    if (out->passes == 0 && out->waited == 0) {
        out->waited = time_seconds() - s->submitted;
    }
}
