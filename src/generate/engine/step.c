/* step.c: one step of the engine: notes of callers, a pass over all that can go on, tokens to their readers.
 *
 * A pass that fails says nothing about whose fault it was, so its streams are run again one by one: the one that fails
 * alone ends with its reason, the others lose a little time and nothing else.
 */
#include "generate/engine/engine_internal.h"

#define TELL_PERIOD                                                                                \
    1e-3 /* seconds: a token waits no longer for the next, and for the step that it comes in */

/* ---- ends ---- */

bool stream_waited(struct graft_stream *s)
{
    bool waited = !s->admitted;
    if (waited) {
        s->admitted = true;
        s->engine->n_waiting--;
        s->engine->waiting_tokens -= s->prompt_tokens;
    }
    return waited;
}

void stream_over(struct graft_stream *s, graft_finish finish, const graft_token *last,
                 const graft_error *failure)
{
    struct graft_engine *e = s->engine;
    static const graft_token EMPTY = {.id = -1, .text = ""};
    s->state = STREAM_OVER;
    if (s->drafter != NULL) {
        drafter_follow(s->drafter, s->line.tokens, s->line.n_tokens); /* for the store */
        drafter_close(&s->drafter);
    }
    kv_seq_trim(s->line.seq, 0); /* who reads the end finds blocks and adapters given back */
    timeline_forget_spans(&s->line);
    mix_release(&s->line.mix);
    pthread_mutex_lock(&e->lock);
    if (stream_waited(s)) {
        s->info.waited = time_seconds() - s->submitted;
    }
    e->info.finished += finish != GRAFT_FINISH_CANCELLED && finish != GRAFT_FINISH_FAILED;
    e->info.cancelled += finish == GRAFT_FINISH_CANCELLED;
    e->info.failed += finish == GRAFT_FINISH_FAILED;
    pthread_mutex_unlock(&e->lock);
    if (s->callback != NULL) {
        s->callback(s->user, last != NULL ? last : &EMPTY);
    }
    ring_end(&s->ring, finish, s->callback == NULL ? last : NULL, failure);
    timeline_close(&s->line);
}

static void stream_fail(struct graft_stream *s, const graft_error *failure)
{
    stream_over(s, GRAFT_FINISH_FAILED, NULL, failure);
}

/* With the text that was held back. */
static void stream_end_as(struct graft_stream *s, graft_finish finish)
{
    graft_token last;
    graft_error failure = {0};
    if (timeline_end_record(&s->line, &last, &failure) != GRAFT_OK) {
        stream_fail(s, &failure);
    } else {
        stream_over(s, finish, &last, NULL);
    }
}

/* The answer ended by itself. */
static void stream_complete(struct graft_stream *s)
{
    graft_finish finish = s->line.finish;
    stream_end_as(s, finish == GRAFT_FINISH_NONE ? GRAFT_FINISH_LENGTH : finish);
}

/* ---- tokens to their readers ---- */

/* false: it could not be handed over. */
static bool hand_over(struct graft_stream *s, const graft_token *token)
{
    if (s->callback == NULL) {
        return ring_put(&s->ring, token);
    }
    if (!s->callback(s->user, token)) {
        atomic_store(&s->cancelled, true);
    }
    return true;
}

static void count_token(struct graft_stream *s)
{
    pthread_mutex_lock(&s->engine->lock);
    if (s->info.tokens++ == 0) {
        s->info.first_token = time_seconds() - s->submitted;
    }
    s->engine->info.tokens++;
    pthread_mutex_unlock(&s->engine->lock);
}

/* Hands over the picks in hand, as far as there is room. */
static void deliver(struct graft_stream *s)
{
    struct timeline *t = &s->line;
    graft_error failure = {0};
    graft_token token;
    while (s->state == STREAM_RUNNING && t->n_ahead > 0 && !atomic_load(&s->cancelled)) {
        if (s->callback == NULL && !ring_has_room(&s->ring)) {
            return;
        }
        if (timeline_commit(t, &token, &failure) != GRAFT_OK) {
            stream_fail(s, &failure);
            return;
        }
        count_token(s);
        if (!hand_over(s, &token)) {
            error_set(&failure, GRAFT_NO_MEMORY, "no memory for the text of a token");
            stream_fail(s, &failure);
        } else if (timeline_is_over(t)) {
            stream_complete(s);
        }
    }
}

/* Wakes the readers of what has been delivered. That takes processors that the pass wants too: so short steps share a wake-up, unless what comes next is long (a prompt, or that of a draft model, which follows
 * its first token) or nothing comes. */
static void tell_readers(struct graft_engine *e)
{
    for (int i = 0; i < e->n_running; i++) {
        ring_tell(&e->running[i]->ring);
    }
    e->told = time_seconds();
}

/* ---- notes of callers ---- */

static graft_status take_wish(struct graft_stream *s, struct mix *wish, graft_kv_policy policy,
                              graft_error *error)
{
    struct timeline *t = &s->line;
    graft_status status = timeline_reserve_span(t, error);
    if (status == GRAFT_OK && timeline_set_mix(t, wish, policy)) {
        int64_t same = t->n_spans > 0 ? (int64_t)t->spans[t->n_spans - 1].end : 0;
        if (policy == GRAFT_KV_REPLAY) {
            s->chain = (struct prefix_chain){0};
        } else if (s->chain.named * KV_BLOCK > same) {
            s->chain.broken = true; /* its last token is computed again, as another row */
        }
        if (s->drafter != NULL) {
            speculation_follow_mix(s->engine->speculation, t, s->drafter);
        }
    }
    return status;
}

/* A reference to what the stream's caller wishes, if anything. */
static bool find_wish(struct graft_stream *s, struct mix **wish, graft_kv_policy *policy)
{
    pthread_mutex_lock(&s->engine->lock);
    bool has_wish = s->has_wish;
    *wish = s->wish;
    *policy = s->wish_policy;
    s->wish = NULL;
    s->has_wish = false;
    pthread_mutex_unlock(&s->engine->lock);
    return has_wish;
}

static graft_status make_fork(struct graft_stream *s, graft_error *error)
{
    struct timeline *t = &s->line;
    const struct graft_stream *from = s->fork;
    struct mix *wish;
    graft_kv_policy policy;
    if (from->state == STREAM_OVER) {
        return error_set(error, GRAFT_STATE, "the stream to go on from is over");
    }
    graft_status status = timeline_fork(t, &from->line, error);
    if (status != GRAFT_OK) {
        return status;
    }
    if (s->prompt_tokens + s->max_tokens > t->n_ctx - t->n_tokens) {
        return error_set(
            error, GRAFT_LIMIT,
            "%zu tokens do not fit behind the %zu of the other stream: it may have %zu",
            s->prompt_tokens + s->max_tokens, t->n_tokens, t->n_ctx);
    }
    s->chain = from->chain;
    pthread_mutex_lock(&s->engine->lock);
    s->info.cached_tokens = (size_t)kv_seq_length(t->seq);
    s->info.prompt_tokens = t->n_tokens + s->prompt_tokens;
    pthread_mutex_unlock(&s->engine->lock);
    if (find_wish(s, &wish, &policy)) { /* the mix of what is appended */
        status = take_wish(s, wish, policy, error);
        mix_release(&wish);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    timeline_append(t, s->suffix, s->prompt_tokens);
    t->n_ctx = s->max_tokens > 0 ? t->n_tokens + s->max_tokens : t->n_ctx;
    if (t->n_tokens == 0) {
        return error_set(error, GRAFT_STATE, "the stream to go on from has no tokens");
    }
    return GRAFT_OK;
}

static void take_notes_of(struct graft_stream *s)
{
    struct mix *wish;
    graft_kv_policy policy;
    graft_error failure = {0};
    bool has_wish = find_wish(s, &wish, &policy);
    if (atomic_load(&s->cancelled)) {
        stream_end_as(s, GRAFT_FINISH_CANCELLED);
    } else if (s->deadline > 0 && time_seconds() >= s->deadline) {
        stream_end_as(s, GRAFT_FINISH_TIMEOUT);
    } else if (has_wish && take_wish(s, wish, policy, &failure) != GRAFT_OK) {
        stream_fail(s, &failure);
    }
    mix_release(&wish);
}

/* The streams that arrived, linked by `next`, oldest first. */
static struct graft_stream *take_incoming(struct graft_engine *e)
{
    pthread_mutex_lock(&e->lock);
    struct graft_stream *first = e->incoming;
    bool forget = e->forget;
    e->incoming = NULL;
    e->incoming_end = &e->incoming;
    e->forget = false;
    pthread_mutex_unlock(&e->lock);
    if (forget) {
        prefixes_forget(&e->prefixes);
    }
    return first;
}

static void enter(struct graft_engine *e, struct graft_stream *s)
{
    graft_error failure = {0};
    graft_status status = s->fork != NULL ? make_fork(s, &failure) : GRAFT_OK;
    if (s->fork != NULL) {
        stream_release(s->fork);
        s->fork = NULL;
    }
    if (status == GRAFT_OK && timeline_is_over(&s->line)) {
        stream_complete(s); /* its prompt fills the context: there is no room for a token */
        stream_release(s);
        return;
    }
    if (status == GRAFT_OK && !schedule_enter(e, s)) {
        status = error_set(&failure, GRAFT_NO_MEMORY, "no memory for another stream");
    }
    if (status != GRAFT_OK) {
        stream_fail(s, &failure);
        stream_release(s);
    }
}

static void take_notes(struct graft_engine *e)
{
    for (struct graft_stream *s = take_incoming(e), *next; s != NULL; s = next) {
        next = s->next;
        enter(e, s);
    }
    for (size_t i = 0; i < e->n_queue; i++) {
        take_notes_of(e->waiting[i]);
    }
    for (int i = 0; i < e->n_running; i++) {
        take_notes_of(e->running[i]);
    }
    schedule_sweep(e);
}

/* ---- guesses ---- */

static bool has_prompt(const struct graft_engine *e)
{
    for (int i = 0; i < e->n_parts; i++) {
        if (e->parts[i].prompt) {
            return true;
        }
    }
    return false;
}

/* More rows for streams that have something to guess. In steps with prompts there are none: those fill the arithmetic already,
 * and say nothing about what guesses cost. */
static void guess(struct graft_engine *e)
{
    graft_error failure = {0};
    int rows = 0, n = 0;
    for (int i = 0; i < e->n_parts; i++) {
        rows += e->parts[i].n;
        n += e->parts[i].stream->drafter != NULL;
    }
    if (n == 0 || has_prompt(e)) {
        return;
    }
    int most = (e->max_rows - rows) / n, at = 0;
    for (int i = 0; i < e->n_parts; i++) {
        struct graft_stream *s = e->parts[i].stream;
        if (s->drafter != NULL) {
            e->guesses[at++] = (struct guess){&s->line, s->drafter, most};
        }
    }
    (void)speculation_guess(e->speculation, e->guesses, n, rows, e->n_parts, &failure);
    for (int i = 0; i < e->n_parts; i++) {
        struct part *part = &e->parts[i];
        struct timeline *t = &part->stream->line;
        int64_t length = kv_seq_length(t->seq) + part->n + t->n_draft;
        if (t->n_draft > 0 && kv_seq_reserve(t->seq, length, NULL) != GRAFT_OK) {
            t->n_draft = 0; /* blocks are for what is certain */
        }
        part->guesses = t->n_draft;
        part->n += t->n_draft;
    }
}

/* ---- the pass ---- */

static void pick_work(void *context, int worker, int n_workers)
{
    (void)n_workers;
    struct graft_engine *e = context;
    for (int i;
         (i = atomic_fetch_add_explicit(&e->next_pick, 1, memory_order_relaxed)) < e->n_parts;) {
        struct part *part = &e->parts[i];
        struct graft_stream *s = part->stream;
        s->picked =
            timeline_pick(&s->line, e->workspace, part->first, e->samplers[worker], &s->pick_error);
    }
}

/* Picks for the parts of the pass that has run, a worker each. */
static void pick_all(struct graft_engine *e)
{
    atomic_store(&e->next_pick, 0);
    if (e->n_parts > 1) {
        pool_run(e->model->runtime->pool, pick_work, e);
    } else {
        pool_run_alone(pick_work, e);
    }
}

static bool only_answers(const struct graft_engine *e)
{
    for (int i = 0; i < e->n_parts; i++) {
        if (e->parts[i].prompt ||
            e->parts[i].stream->line.answer_begin == e->parts[i].stream->line.n_tokens) {
            return false;
        }
    }
    return true;
}

static graft_status run_pass(struct graft_engine *e, graft_error *error)
{
    int n = 0;
    for (int i = 0; i < e->n_parts; i++) {
        struct part *part = &e->parts[i];
        part->stream->picked = GRAFT_OK;
        part->first = n;
        part->n = timeline_plan(&part->stream->line, e->rows + n, part->n);
        n += part->n;
    }
    double begun = time_seconds();
    graft_status status = model_forward(e->model, e->rows, n, e->workspace, error);
    if (status == GRAFT_OK) {
        pick_all(e);
    }
    if (status == GRAFT_OK && e->speculation != NULL && only_answers(e)) {
        speculation_learn(e->speculation, n, time_seconds() - begun);
    }
    return status;
}

/* What follows a pass, before its tokens go out. */
static void settle(struct graft_engine *e)
{
    double now = time_seconds();
    for (int i = 0; i < e->n_parts; i++) {
        struct graft_stream *s = e->parts[i].stream;
        schedule_charge(s, e->parts[i].n);
        if (e->options.keep_prefixes) {
            prefix_keep_new(&s->chain, &e->kind, &e->prefixes, &s->line);
        }
        if (s->drafter != NULL) {
            speculation_verified(e->speculation, &s->line, s->drafter);
        }
        pthread_mutex_lock(&e->lock);
        s->info.drafted += (size_t)s->line.planned_drafts;
        s->info.accepted += (size_t)(s->line.planned_end ? s->line.accepted : 0);
        e->info.drafted += (uint64_t)s->line.planned_drafts;
        e->info.accepted += (uint64_t)(s->line.planned_end ? s->line.accepted : 0);
        s->info.waited = s->info.passes == 0 ? now - s->submitted : s->info.waited;
        s->info.passes++;
        e->info.rows += (uint64_t)e->parts[i].n;
        pthread_mutex_unlock(&e->lock);
    }
    for (int i = 0; i < e->n_parts; i++) {
        struct graft_stream *s = e->parts[i].stream;
        if (s->picked != GRAFT_OK) {
            stream_fail(s, &s->pick_error);
        } else {
            deliver(s);
        }
    }
}

/* Each part of a pass that failed as a pass of its own. */
static void run_alone(struct graft_engine *e)
{
    int n = e->n_parts;
    for (int i = 0; i < n; i++) {
        graft_error failure = {0};
        struct part part = e->parts[i];
        part.stream->line.n_draft = 0; /* it may have been their fault */
        part.n = part.prompt ? part.n : 1;
        e->parts[0] = part;
        e->n_parts = 1;
        if (run_pass(e, &failure) == GRAFT_OK) {
            settle(e);
        } else {
            stream_fail(part.stream, &failure);
        }
        e->parts[0] = part;
    }
}

static void note_state(struct graft_engine *e)
{
    pthread_mutex_lock(&e->lock);
    e->info.running = (size_t)e->n_running;
    e->info.passes += e->n_parts > 0;
    e->info.prefixes = e->prefixes.count;
    e->info.prefix_hits = e->prefixes.hits;
    e->info.prefix_evictions = e->prefixes.evictions;
    pthread_mutex_unlock(&e->lock);
}

bool engine_step(struct graft_engine *e)
{
    graft_error failure = {0};
    e->paused = false;
    take_notes(e);
    for (int i = 0; i < e->n_running; i++) {
        deliver(e->running[i]);
    }
    schedule_sweep(e);
    schedule_admit(e);
    schedule_choose(e);
    guess(e);
    if (has_prompt(e)) {
        tell_readers(e);
    }
    if (e->n_parts > 0) {
        if (run_pass(e, &failure) == GRAFT_OK) {
            settle(e);
        } else {
            run_alone(e);
        }
        schedule_sweep(e);
    }
    if (e->n_parts == 0 || has_prompt(e) || time_seconds() - e->told >= TELL_PERIOD) {
        tell_readers(e);
    }
    note_state(e);
    return e->n_parts > 0 || e->paused;
}
