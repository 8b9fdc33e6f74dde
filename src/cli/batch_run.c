/* batch_run.c: requests under way: read, handed to an engine, collected and written.
 *
 * One thread reads lines, opens adapters, submits and writes what comes back; the engine's thread fills answers through a
 * callback. Only what is under way is in memory.
 */
#include "batch.h"

#include <time.h>

enum {
    ANSWER_BYTES = 1 << 28,
    ORDER_FACTOR = 4 /* with --in-order: results that may wait for their turn, in streams */
};

/* One of the answers to a request. */
struct choice {
    struct slot *slot;
    struct batch_answer *answer;
    graft_stream *stream;
    bool heard;          /* its first token is there; the engine's thread's own */
    struct choice *next; /* of those that ended */
};
/* A request under way. Answers after the first begin when that has its first token: the prompt is in the cache then. */
struct slot {
    struct batch *batch;
    size_t line;
    struct batch_request request;
    struct batch_mix mix;
    struct choice *choices;       /* [request.n]; NULL: it was none */
    struct batch_answer *answers; /* likewise */
    int n_begun, n_running;       /* choices */
    bool heard;                   /* the first one has a token, or ended; under the batch's lock */
    bool constrained;
    bool ready, failed; /* `result` is there, and waits to be written; it says what went wrong */
    struct buf result;  /* a line */
};

/* ---- what the engine's thread does --------------------------------------------------------- */

/* Under the lock. */
static void hear(struct choice *choice)
{
    choice->heard = true;
    if (choice == choice->slot->choices && !choice->slot->heard) {
        choice->slot->heard = choice->slot->batch->heard = true;
        pthread_cond_signal(&choice->slot->batch->changed);
    }
}

static bool is_whole(const struct batch_answer *a)
{
    return a->text.status == GRAFT_OK && a->tokens.status == GRAFT_OK && a->tops.status == GRAFT_OK;
}

/* Called on the engine's thread; until the end of the answer what it fills is its own. */
static bool take_token(void *user, const graft_token *token)
{
    struct choice *choice = user;
    struct batch *b = choice->slot->batch;
    struct batch_answer *a = choice->answer;
    struct batch_token record = {.begin = a->text.size, .id = token->id, .logprob = token->logprob};
    buf_append(&a->text, token->text, token->text_size);
    record.end = a->text.size;
    if (token->id >= 0) {
        if (choice->slot->request.logprobs) {
            a->n_top = token->n_top;
            buf_append(&a->tokens, &record, sizeof record);
            buf_append(&a->tops, token->top, token->n_top * sizeof *token->top);
        }
        if (!choice->heard) {
            pthread_mutex_lock(&b->lock);
            hear(choice);
            pthread_mutex_unlock(&b->lock);
        }
        return is_whole(a);
    }
    pthread_mutex_lock(&b->lock);
    hear(choice);
    choice->next = b->ended;
    b->ended = choice;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
    return true;
}

/* ---- slots ---------------------------------------------------------------------------------- */

/* Until an answer is complete, or others to its request may begin, and no longer than somebody waits for Ctrl-C to do
 * something. */
static void await(struct batch *b)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 100000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&b->lock);
    if (b->ended == NULL && !b->heard) {
        pthread_cond_timedwait(&b->changed, &b->lock, &until);
    }
    b->heard = false;
    pthread_mutex_unlock(&b->lock);
}

static bool slot_choices(struct slot *slot)
{
    size_t n = (size_t)slot->request.n;
    slot->choices = mem_calloc(NULL, n, sizeof *slot->choices);
    slot->answers = mem_calloc(NULL, n, sizeof *slot->answers);
    for (size_t i = 0; i < n && slot->choices != NULL && slot->answers != NULL; i++) {
        slot->choices[i] = (struct choice){.slot = slot, .answer = &slot->answers[i]};
        buf_init(&slot->answers[i].text, NULL, ANSWER_BYTES);
        buf_init(&slot->answers[i].tokens, NULL, ANSWER_BYTES);
        buf_init(&slot->answers[i].tops, NULL, ANSWER_BYTES);
    }
    return slot->choices != NULL && slot->answers != NULL;
}

static void slot_free(struct slot *slot)
{
    for (int i = 0; i < slot->n_begun; i++) {
        buf_free(&slot->answers[i].text);
        buf_free(&slot->answers[i].tokens);
        buf_free(&slot->answers[i].tops);
    }
    mem_free(NULL, slot->choices);
    mem_free(NULL, slot->answers);
    batch_request_close(&slot->request);
    buf_free(&slot->result);
    mem_free(NULL, slot);
}

/* ---- beginning ------------------------------------------------------------------------------ */

static void set_failure(struct slot *slot, const char *code, const graft_error *error)
{
    char message[2 * sizeof error->message];
    bool named = error->file[0] != '\0' && strstr(error->message, error->file) == NULL;
    const char *what =
        error->message[0] != '\0' ? error->message : graft_status_text(error->status);
    snprintf(message, sizeof message, "%s%s%s", named ? error->file : "", named ? ": " : "", what);
    (void)batch_result_line(batch_failure(slot->line, &slot->request, code, message),
                            &slot->result);
    slot->failed = true;
    slot->ready = slot->n_running == 0;
    if (slot->batch->args->common.verbose) {
        fprintf(stderr, "graft: line %zu: %s: %s\n", slot->line, code, message);
    }
}

/* The request of a line that has no result yet; where it is none the slot is ready with what it failed of. */
static graft_status read_request(struct batch *b, struct slot *slot, graft_error *error)
{
    graft_error why = {0};
    uint8_t key[BATCH_KEY] = {0};
    const struct batch_entry *entry = &b->index.lines[slot->line - 1];
    if (b->lines.too_long) {
        error_set(&why, GRAFT_LIMIT, "the line has more than %d bytes", BATCH_REQUEST_BYTES);
        set_failure(slot, "line_too_long", &why);
        return GRAFT_OK;
    }
    graft_status status = batch_request_read(&b->defaults, b->lines.text.data, b->lines.text.size,
                                             &slot->request, &why);
    if (status == GRAFT_NO_MEMORY) {
        return error_set(error, status, "%s", why.message);
    }
    batch_key_of(slot->request.json, key);
    if (memcmp(key, entry->key, BATCH_KEY) != 0) {
        return error_set(error, GRAFT_STATE, "%s: line %zu has changed in the meantime",
                         b->args->input, slot->line);
    }
    if (!batch_key_is_none(key) && batch_index_find(&b->index, key) != slot->line - 1) {
        error_set(&why, GRAFT_INVALID_ARGUMENT, "line %zu has this custom_id, too",
                  batch_index_find(&b->index, key) + 1);
        set_failure(slot, "duplicate_custom_id", &why);
    } else if (status != GRAFT_OK) {
        set_failure(slot, slot->request.json == NULL ? "invalid_json" : batch_code(status), &why);
    }
    return GRAFT_OK;
}

/* The next line without a result, as b->held. */
static graft_status read_next(struct batch *b, graft_error *error)
{
    graft_status status;
    do {
        status = batch_lines_next(&b->lines, error);
    } while (status == GRAFT_OK && b->lines.number <= b->index.n &&
             b->index.lines[b->lines.number - 1].state != BATCH_OPEN);
    if (status == GRAFT_END || (status == GRAFT_OK && b->lines.number > b->index.n)) {
        b->read = true;
        return GRAFT_OK;
    }
    struct slot *slot = status == GRAFT_OK ? mem_calloc(NULL, 1, sizeof *slot) : NULL;
    if (slot == NULL) {
        return status != GRAFT_OK ? status : error_set(error, GRAFT_NO_MEMORY, "out of memory");
    }
    slot->batch = b;
    slot->line = b->lines.number;
    buf_init(&slot->result, NULL, BATCH_RESULT_BYTES);
    b->slots[b->n_slots++] = slot;
    status = read_request(b, slot, error);
    if (status == GRAFT_OK && !slot->ready && !slot_choices(slot)) {
        status = error_set(error, GRAFT_NO_MEMORY, "out of memory");
    }
    b->held = slot->ready ? NULL : slot;
    return status;
}

/* The engine names its own options; here they have others. */
static void name_options(graft_error *error)
{
    static const char *const names[][2] = {{"kv_bytes hold", "--cache-size holds"},
                                           {"kv_bytes", "--cache-size"},
                                           {"n_ctx", "--ctx-size"}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        graft_error old = *error;
        const char *at = strstr(old.message, names[i][0]);
        if (at != NULL) {
            snprintf(error->message, sizeof error->message, "%.*s%s%s", (int)(at - old.message),
                     old.message, names[i][1], at + strlen(names[i][0]));
        }
    }
}

/* The slot fails, and what was begun of it ends. */
static void fail(struct batch *b, struct slot *slot, const char *code, const graft_error *why)
{
    if (slot->failed) {
        return;
    }
    set_failure(slot, code, why);
    for (int i = 0; i < slot->n_begun; i++) {
        graft_stream_cancel(slot->choices[i].stream);
    }
    if (slot->ready) {
        batch_adapters_give(&b->adapters, &slot->mix);
    }
}

/* The next choice. */
static graft_status submit(struct batch *b, struct slot *slot, const graft_constraint *constraint,
                           graft_error *why)
{
    graft_request request = slot->request.request;
    struct choice *choice = &slot->choices[slot->n_begun];
    request.sampling.seed += (uint64_t)slot->n_begun;
    request.constraint = constraint;
    request.mix = slot->mix.mix;
    request.base = slot->mix.mix == NULL;
    request.callback = take_token;
    request.user = choice;
    slot->constrained = constraint != NULL;
    graft_status status = graft_engine_submit(b->engine, &request, &choice->stream, why);
    if (status == GRAFT_OK) {
        slot->n_begun++;
        slot->n_running++;
        b->running++;
    }
    return status;
}

/* The next choice of a slot. BUSY: later. What fails is the slot's own. */
static graft_status begin(struct batch *b, struct slot *slot)
{
    graft_error why = {0};
    const graft_constraint *constraint = slot->request.request.constraint;
    graft_status status = slot->n_begun > 0
                              ? GRAFT_OK
                              : batch_adapters_take(&b->adapters, &slot->request, &slot->mix, &why);
    if (status != GRAFT_OK && status != GRAFT_BUSY) {
        bool missing = status == GRAFT_NOT_FOUND || status == GRAFT_STATE;
        fail(b, slot, missing ? batch_code(status) : "adapter_failed", &why);
        return GRAFT_OK;
    }
    if (status == GRAFT_OK && slot->request.form != NULL) {
        status = batch_forms_find(&b->forms, b->s.model, &slot->request, &constraint, &why);
        if (status != GRAFT_OK) {
            fail(b, slot, status == GRAFT_LIMIT ? "invalid_request" : batch_code(status), &why);
            return GRAFT_OK;
        }
    }
    if (status == GRAFT_OK) {
        status = submit(b, slot, constraint, &why);
        if (status == GRAFT_BUSY && slot->n_begun == 0) {
            batch_adapters_give(&b->adapters, &slot->mix);
        }
    }
    if (status != GRAFT_OK && status != GRAFT_BUSY) {
        name_options(&why);
        fail(b, slot, batch_code(status), &why);
        status = GRAFT_OK;
    }
    return status;
}

static bool has_more(struct batch *b, const struct slot *slot)
{
    pthread_mutex_lock(&b->lock);
    bool heard = slot->heard;
    pthread_mutex_unlock(&b->lock);
    return heard && !slot->failed && slot->n_begun < slot->request.n;
}

/* Choices after the first of requests under way. */
static graft_status begin_choices(struct batch *b)
{
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < b->n_slots && status == GRAFT_OK; i++) {
        while (status == GRAFT_OK && b->running < b->most_running && has_more(b, b->slots[i])) {
            status = begin(b, b->slots[i]);
        }
    }
    return status;
}

/* As many as there is room for. */
static graft_status begin_more(struct batch *b, graft_error *error)
{
    if (cli_interrupted() || begin_choices(b) == GRAFT_BUSY) {
        return GRAFT_OK;
    }
    while (!cli_interrupted() && b->running < b->most_running) {
        if (b->held == NULL) {
            if (b->read || b->n_slots == b->capacity) {
                return GRAFT_OK;
            }
            graft_status status = read_next(b, error);
            if (status != GRAFT_OK) {
                return status;
            }
        }
        if (b->held != NULL && begin(b, b->held) == GRAFT_BUSY) {
            return GRAFT_OK;
        }
        b->held = NULL;
    }
    return GRAFT_OK;
}

/* ---- ending --------------------------------------------------------------------------------- */

static void count(struct batch_sums *sums, const struct slot *slot)
{
    for (int i = 0; i < slot->request.n; i++) {
        const graft_stream_info *info = &slot->answers[i].info;
        graft_finish finish = slot->answers[i].finish;
        bool cut = finish == GRAFT_FINISH_LENGTH || finish == GRAFT_FINISH_STOP;
        sums->prompt_tokens += info->prompt_tokens;
        sums->cached_tokens += info->cached_tokens;
        sums->tokens += info->tokens;
        sums->passes += info->passes;
        sums->drafted += info->drafted;
        sums->accepted += info->accepted;
        sums->cut_off += slot->constrained && cut;
    }
}

/* All answers are there, or what was begun before one failed has ended. */
static void complete(struct batch *b, struct slot *slot)
{
    if (!slot->failed) {
        json_t *result =
            batch_result(&b->defaults, slot->line, &slot->request, &slot->mix, slot->answers);
        count(&b->sums, slot);
        if (batch_result_line(result, &slot->result) == GRAFT_LIMIT) {
            graft_error why = {0};
            error_set(&why, GRAFT_LIMIT,
                      "the result has more than %d bytes: ask for fewer answers (\"n\"), or fewer "
                      "alternatives",
                      BATCH_RESULT_BYTES);
            buf_free(&slot->result);
            buf_init(&slot->result, NULL, BATCH_RESULT_BYTES);
            set_failure(slot, "result_too_large", &why);
        }
    }
    slot->ready = true;
    batch_adapters_give(&b->adapters, &slot->mix);
}

static void finish(struct batch *b, struct choice *choice)
{
    graft_error why = {0};
    graft_token token;
    graft_status status;
    struct slot *slot = choice->slot;
    struct batch_answer *a = choice->answer;
    do {
        status = graft_stream_next(choice->stream, &token, &why);
    } while (status == GRAFT_OK);
    a->finish = graft_stream_finish(choice->stream);
    (void)graft_stream_describe(choice->stream, &a->info, NULL);
    graft_stream_close(&choice->stream);
    b->running--;
    if (!is_whole(a)) {
        status = error_set(&why, GRAFT_NO_MEMORY, "no memory for the answer");
    }
    if (status != GRAFT_END) {
        fail(b, slot, "server_error", &why);
    }
    slot->n_running--;
    if (slot->n_running == 0 && (slot->failed || slot->n_begun == slot->request.n)) {
        complete(b, slot);
    }
}

static void finish_ended(struct batch *b)
{
    pthread_mutex_lock(&b->lock);
    struct choice *choice = b->ended;
    b->ended = NULL;
    pthread_mutex_unlock(&b->lock);
    for (struct choice *next; choice != NULL; choice = next) {
        next = choice->next;
        finish(b, choice);
    }
}

/* Writes what is ready, or in order what is before all that is not. */
static graft_status write_ready(struct batch *b, graft_error *error)
{
    graft_status status = GRAFT_OK;
    size_t kept = 0;
    for (size_t i = 0; i < b->n_slots; i++) {
        struct slot *slot = b->slots[i];
        if (status != GRAFT_OK || !slot->ready || (b->args->in_order && kept > 0)) {
            b->slots[kept++] = slot;
            continue;
        }
        status = slot->result.status == GRAFT_OK
                     ? batch_output_add(&b->output, slot->line - 1, slot->result.data,
                                        slot->result.size, error)
                     : error_set(error, GRAFT_NO_MEMORY, "no memory for a result");
        if (status == GRAFT_OK) {
            batch_index_set(&b->index, slot->line - 1, slot->failed ? BATCH_FAILED : BATCH_DONE);
            b->sums.answered++;
        }
        slot_free(slot);
    }
    b->n_slots = kept;
    return status;
}

static void show_progress(struct batch *b)
{
    char what[128];
    graft_engine_info info = {0};
    (void)graft_engine_describe(b->engine, &info, NULL);
    double seconds = time_seconds() - b->begun;
    size_t done = b->index.done + b->index.failed, all = done + b->index.open;
    snprintf(what, sizeof what, "%zu/%zu, %.0f tok/s, %zu streams", done, all,
             seconds > 0 ? (double)info.tokens / seconds : 0, info.running);
    (void)cli_progress_step(&b->progress, done, all, what);
}

graft_status batch_run(struct batch *b, graft_error *error)
{
    graft_status status = GRAFT_OK;
    b->begun = time_seconds();
    cli_progress_begin(&b->progress, "answering", b->args->common.quiet);
    while (status == GRAFT_OK && !cli_interrupted() &&
           !(b->read && b->held == NULL && b->n_slots == 0)) {
        status = begin_more(b, error);
        if (status == GRAFT_OK && b->running > 0) {
            await(b);
        }
        finish_ended(b);
        if (status == GRAFT_OK) {
            status = write_ready(b, error);
        }
        show_progress(b);
    }
    cli_progress_end(&b->progress);
    return status;
}

/* ---- opening and closing -------------------------------------------------------------------- */

graft_status batch_run_open(struct batch *b, const graft_draft_options *draft, graft_error *error)
{
    const struct batch_args *a = b->args;
    graft_engine_options options = a->engine;
    size_t streams = (size_t)options.max_streams;
    options.n_ctx = a->sampling.session.n_ctx;
    options.cache_k = a->sampling.session.cache_k;
    options.cache_v = a->sampling.session.cache_v;
    options.ring = 2; /* answers come by callback */
    options.draft = draft;
    b->most_running = streams + streams / 4 + 1; /* some wait, so that none has to be waited for */
    b->capacity = b->most_running * (a->in_order ? ORDER_FACTOR : 1);
    options.max_waiting = (int)b->most_running;
    b->adapters = (struct batch_adapters){.runtime = b->s.runtime,
                                          .model = b->s.model,
                                          .how = a->common.adapters,
                                          .budget = a->budget};
    b->slots = mem_calloc(NULL, b->capacity, sizeof(*b->slots));
    if (b->slots == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu requests", b->capacity);
    }
    graft_status status = graft_engine_open(b->s.model, &options, &b->engine, error);
    if (status != GRAFT_OK) {
        name_options(error);
    }
    return status;
}

/* The engine ends what is under way, through the callback, before slots go. */
void batch_run_close(struct batch *b)
{
    for (size_t i = 0; i < b->n_slots; i++) {
        for (int c = 0; c < b->slots[i]->n_begun; c++) {
            graft_stream_close(&b->slots[i]->choices[c].stream);
        }
    }
    graft_engine_close(&b->engine);
    for (size_t i = 0; i < b->n_slots; i++) {
        batch_adapters_give(&b->adapters, &b->slots[i]->mix);
        slot_free(b->slots[i]);
    }
    mem_free(NULL, b->slots);
    batch_adapters_close(&b->adapters);
    batch_forms_close(&b->forms);
}
