/* batch.c: `graft batch`: a file of requests, answered many at once, becomes a file of results.
 *
 * One thread reads lines, opens adapters, hands requests to an engine and writes what comes back; the engine's thread fills
 * answers through a callback. Only requests under way are in memory. A result is written when it is there, so whatever
 * ends the program costs the requests under way and nothing else; the same command goes on.
 */
#include "batch.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    KEY_OVERWRITE = 0xa00,
    KEY_RETRY,
    KEY_ORDER,
    KEY_STREAMS,
    KEY_ROWS,
    KEY_BUDGET,
    KEY_CACHE,
    KEY_TYPE,
    KEY_STRICT,
    ANSWER_BYTES = 1 << 28,
    ORDER_FACTOR = 4 /* with --in-order: results that may wait for their turn, in streams */
};

struct batch_args {
    struct cli_common common;
    struct cli_sampling sampling;
    const char *input, *output;
    enum batch_again again;
    bool in_order;
    size_t budget;
    graft_engine_options engine;
};

/* ---- what was typed ------------------------------------------------------------------------- */

static void check_together(const struct batch_args *a, struct argp_state *state)
{
    if (a->input == NULL) {
        argp_error(state, "which requests? give -i FILE");
    }
    if (strcmp(a->input, "-") == 0) {
        argp_error(state, "--input: requests are read twice, so they must be a file");
    }
    if (a->output == NULL) {
        argp_error(state, "where to? give -o FILE");
    }
    if (a->sampling.max_tokens == 0) {
        argp_error(state, "--predict: an answer has at least one token");
    }
}

static void choose_again(struct batch_args *a, struct argp_state *state, enum batch_again again)
{
    if (a->again != BATCH_GO_ON && a->again != again) {
        argp_error(state, "--retry-failed keeps results, --overwrite does not: give one of them");
    }
    a->again = again;
}

static error_t parse_numbers(int key, char *arg, struct argp_state *state)
{
    struct batch_args *a = state->input;
    switch (key) {
    case KEY_STREAMS:
        a->engine.max_streams = (int)cli_parse_int(state, "--max-streams", arg, 1, 4096);
        return 0;
    case KEY_ROWS:
        a->engine.batch_rows = (int)cli_parse_int(state, "--batch-size", arg, 1, 65536);
        return 0;
    case KEY_BUDGET:
        a->budget = cli_parse_bytes(state, "--budget", arg);
        return 0;
    case KEY_CACHE:
        a->engine.kv_bytes = cli_parse_bytes(state, "--cache-size", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_batch(int key, char *arg, struct argp_state *state)
{
    struct batch_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->sampling;
        state->child_inputs[1] = &a->common;
        return 0;
    case 'i':
        a->input = cli_parse_name(state, "--input", arg);
        return 0;
    case 'o':
        a->output = cli_parse_name(state, "--output", arg);
        return 0;
    case KEY_OVERWRITE:
        choose_again(a, state, BATCH_OVERWRITE);
        return 0;
    case KEY_RETRY:
        choose_again(a, state, BATCH_RETRY);
        return 0;
    case KEY_ORDER:
        a->in_order = true;
        return 0;
    case KEY_TYPE:
        a->common.adapters.type = cli_parse_held_type(state, arg);
        return 0;
    case KEY_STRICT:
        a->common.adapters.strict_base = true;
        return 0;
    case ARGP_KEY_END:
        check_together(a, state);
        return 0;
    default:
        return parse_numbers(key, arg, state);
    }
}

static const struct argp_option batch_options[] = {
    {NULL, 0, NULL, 0, "Files:", 1},
    {"input", 'i', "FILE", 0, "Requests: OpenAI's batch format, one JSON object in a line", 1},
    {"output", 'o', "FILE", 0, "Results, likewise; one that is there already is gone on with", 1},
    {"retry-failed", KEY_RETRY, NULL, 0, "Ask again what has failed before", 1},
    {"overwrite", KEY_OVERWRITE, NULL, 0, "Begin anew, whatever FILE holds", 1},
    {"in-order", KEY_ORDER, NULL, 0, "Results as requests stand; default: as they are done", 1},
    {NULL, 0, NULL, 0, "At once:", 2},
    {"max-streams", KEY_STREAMS, "N", 0, "Answers in progress, also -np N; default: 64", 2},
    {"parallel", 0, NULL, OPTION_ALIAS, NULL, 2},
    {"batch-size", KEY_ROWS, "N", 0, "Tokens of a pass; default: 256", 2},
    {"cache-size", KEY_CACHE, "SIZE", 0, "Memory of keys and values; default: 1G", 2},
    {"budget", KEY_BUDGET, "SIZE", 0, "Memory of adapters; default: 1G", 2},
    {"adapter-type", KEY_TYPE, "TYPE", 0,
     "Hold factors of adapters as bf16, int8 or q4; default: as they are stored", 2},
    {"strict-base", KEY_STRICT, NULL, 0,
     "Refuse adapters that were made for another base, in place of a warning", 2},
    {0},
};
static const struct argp_child batch_children[] = {
    {&cli_sampling_argp, 0, NULL, 0}, {&cli_common_argp, 0, NULL, 0}, {0}};
static const struct argp batch_argp = {
    .options = batch_options,
    .parser = parse_batch,
    .children = batch_children,
    .doc = "Answer a file of requests, each with adapters of its own, many at once. What stops it "
           "costs what was under way: the same command goes on. Options of sampling and of the "
           "form of "
           "answers are for requests that do not say it themselves.\v"
           "A line is {\"custom_id\": ID, \"url\": \"/v1/chat/completions\", \"body\": "
           "{\"model\": \"coder\", \"messages\": [...], \"max_tokens\": 64}}; docs/engine.md has "
           "the rest.\n\n"
           "Examples:\n"
           "  graft batch -i requests.jsonl -o results.jsonl\n"
           "  graft batch -m model.gguf -i requests.jsonl -o results.jsonl --temp 0 -n 64\n"
           "  graft batch -i requests.jsonl -o results.jsonl --budget 64M -np 16 --json\n"};

/* ---- requests under way --------------------------------------------------------------------- */

struct slot {
    struct batch *batch;
    size_t line;
    struct batch_request request;
    struct batch_mix mix;
    graft_stream *stream;
    struct batch_answer answer;
    bool ready, failed; /* `result` is there, and waits to be written */
    json_t *result;     /* NULL, though ready: no memory */
    struct slot *next;  /* of those that ended */
};

struct batch {
    const struct batch_args *args;
    struct cli_session s;
    struct batch_defaults defaults;
    struct batch_index index;
    struct batch_lines lines;
    struct batch_output output;
    struct batch_adapters adapters;
    struct batch_forms forms;
    graft_constraint *constraint; /* what all answers are held to that say nothing; NULL: nothing */
    graft_engine *engine;
    struct slot **slots; /* [n_slots], in the order of their lines, room for capacity */
    size_t n_slots, capacity;
    struct slot *held; /* the last of them, when it could not begin yet */
    size_t running, most_running;
    bool read; /* all lines were */
    int input;
    struct cli_progress progress;
    double begun;
    struct batch_sums sums;
    /* Where the engine's thread says that an answer is complete. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct slot *ended;
};

/* Called on the engine's thread; until the end of the answer what it fills is its own. */
static bool take_token(void *user, const graft_token *token)
{
    struct slot *slot = user;
    struct batch_answer *a = &slot->answer;
    struct batch_token record = {.begin = a->text.size, .logprob = token->logprob};
    buf_append(&a->text, token->text, token->text_size);
    record.end = a->text.size;
    if (token->id >= 0) {
        if (slot->request.logprobs) {
            buf_append(&a->tokens, &record, sizeof record);
        }
        return a->text.status == GRAFT_OK && a->tokens.status == GRAFT_OK;
    }
    struct batch *b = slot->batch;
    pthread_mutex_lock(&b->lock);
    slot->next = b->ended;
    b->ended = slot;
    pthread_cond_signal(&b->changed);
    pthread_mutex_unlock(&b->lock);
    return true;
}

/* Until an answer is complete, and no longer than somebody waits for Ctrl-C to do something. */
static void await(struct batch *b)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 100000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&b->lock);
    if (b->ended == NULL) {
        pthread_cond_timedwait(&b->changed, &b->lock, &until);
    }
    pthread_mutex_unlock(&b->lock);
}

static void slot_free(struct slot *slot)
{
    batch_request_close(&slot->request);
    buf_free(&slot->answer.text);
    buf_free(&slot->answer.tokens);
    json_decref(slot->result);
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
    slot->result = batch_failure(slot->line, &slot->request, code, message);
    slot->ready = slot->failed = true;
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
    batch_key_of(slot->request.json, key);
    if (memcmp(key, entry->key, BATCH_KEY) != 0) {
        return error_set(error, GRAFT_STATE, "%s: line %zu has changed in the meantime",
                         b->args->input, slot->line);
    }
    if (!batch_key_is_none(key) && batch_index_find(&b->index, key) != slot->line - 1) {
        error_set(&why, GRAFT_INVALID_ARGUMENT, "line %zu has this custom_id, too",
                  batch_index_find(&b->index, key) + 1);
        set_failure(slot, "duplicate_custom_id", &why);
    } else if (status == GRAFT_NO_MEMORY) {
        return error_set(error, status, "%s", why.message);
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
    buf_init(&slot->answer.text, NULL, ANSWER_BYTES);
    buf_init(&slot->answer.tokens, NULL, ANSWER_BYTES);
    b->slots[b->n_slots++] = slot;
    status = read_request(b, slot, error);
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

/* BUSY: later. What fails is the slot's own. */
static graft_status begin(struct batch *b, struct slot *slot)
{
    graft_error why = {0};
    graft_request *request = &slot->request.request;
    graft_status status = batch_adapters_take(&b->adapters, &slot->request, &slot->mix, &why);
    if (status != GRAFT_OK && status != GRAFT_BUSY) {
        bool missing = status == GRAFT_NOT_FOUND || status == GRAFT_STATE;
        set_failure(slot, missing ? batch_code(status) : "adapter_failed", &why);
        return GRAFT_OK;
    }
    if (status == GRAFT_OK && slot->request.form != NULL) {
        status =
            batch_forms_find(&b->forms, b->s.model, &slot->request, &request->constraint, &why);
        if (status != GRAFT_OK) {
            batch_adapters_give(&b->adapters, &slot->mix);
            set_failure(slot, status == GRAFT_LIMIT ? "invalid_request" : batch_code(status), &why);
            return GRAFT_OK;
        }
    }
    if (status == GRAFT_OK) {
        request->mix = slot->mix.mix;
        request->base = slot->mix.mix == NULL;
        request->callback = take_token;
        request->user = slot;
        status = graft_engine_submit(b->engine, request, &slot->stream, &why);
        if (status != GRAFT_OK) {
            batch_adapters_give(&b->adapters, &slot->mix);
        }
    }
    if (status != GRAFT_OK && status != GRAFT_BUSY) {
        name_options(&why);
        set_failure(slot, batch_code(status), &why);
        status = GRAFT_OK;
    }
    b->running += slot->stream != NULL;
    return status;
}

/* As many as there is room for. */
static graft_status begin_more(struct batch *b, graft_error *error)
{
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
    const graft_stream_info *info = &slot->answer.info;
    sums->prompt_tokens += info->prompt_tokens;
    sums->cached_tokens += info->cached_tokens;
    sums->tokens += info->tokens;
    sums->passes += info->passes;
    sums->drafted += info->drafted;
    sums->accepted += info->accepted;
    graft_finish finish = slot->answer.finish;
    bool cut = finish == GRAFT_FINISH_LENGTH || finish == GRAFT_FINISH_STOP;
    sums->cut_off += slot->request.request.constraint != NULL && cut;
}

/* An answer that is complete becomes a result. */
static void finish(struct batch *b, struct slot *slot)
{
    graft_error why = {0};
    graft_token token;
    struct batch_answer *a = &slot->answer;
    graft_status status;
    do {
        status = graft_stream_next(slot->stream, &token, &why);
    } while (status == GRAFT_OK);
    a->finish = graft_stream_finish(slot->stream);
    (void)graft_stream_describe(slot->stream, &a->info, NULL);
    graft_stream_close(&slot->stream);
    b->running--;
    if (a->text.status != GRAFT_OK || a->tokens.status != GRAFT_OK) {
        status = error_set(&why, GRAFT_NO_MEMORY, "no memory for the answer");
    }
    if (status != GRAFT_END) {
        set_failure(slot, "server_error", &why);
    } else {
        slot->result =
            batch_result(&b->defaults, slot->line, &slot->request, &slot->mix, &slot->answer);
        slot->ready = true;
        count(&b->sums, slot);
    }
    batch_adapters_give(&b->adapters, &slot->mix);
}

static void finish_ended(struct batch *b)
{
    pthread_mutex_lock(&b->lock);
    struct slot *slot = b->ended;
    b->ended = NULL;
    pthread_mutex_unlock(&b->lock);
    for (struct slot *next; slot != NULL; slot = next) {
        next = slot->next;
        finish(b, slot);
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
        json_t *result = slot->result;
        slot->result = NULL;
        status = batch_output_add(&b->output, slot->line - 1, result, error);
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

static graft_status run_all(struct batch *b, graft_error *error)
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

/* Never waits for somebody to write into a pipe. */
static graft_status open_input(struct batch *b, graft_error *error)
{
    const char *path = b->args->input;
    struct stat info;
    b->input = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (b->input < 0 || fstat(b->input, &info) != 0) {
        return error_set(error, GRAFT_IO, "%s: %s", path, strerror(errno));
    }
    return S_ISREG(info.st_mode)
               ? GRAFT_OK
               : error_set(error, GRAFT_IO, "%s: requests are read twice, so they must be a file",
                           path);
}

/* Changes nothing yet. */
static graft_status open_files(struct batch *b, graft_error *error)
{
    const struct batch_args *a = b->args;
    graft_status status = open_input(b, error);
    if (status == GRAFT_OK) {
        status = path_refuse_same(a->output, a->input, error);
    }
    if (status == GRAFT_OK) {
        status = batch_index_read(&b->index, b->input, a->input, error);
    }
    if (status == GRAFT_OK) {
        status = batch_lines_open(&b->lines, b->input, a->input, BATCH_REQUEST_BYTES, error);
    }
    if (status == GRAFT_OK) {
        status = batch_output_open(&b->output, a->output, &b->index, a->again, error);
    }
    return status;
}

static graft_status set_defaults(struct batch *b, graft_error *error)
{
    const struct batch_args *a = b->args;
    struct batch_defaults *d = &b->defaults;
    graft_tokenizer_info tokenizer;
    d->model = b->s.model;
    d->runtime = b->s.runtime;
    d->typed = a->common.model;
    d->seed_given = a->sampling.seed_given;
    d->system_prompt = a->sampling.system_prompt;
    d->request = graft_request_default();
    d->request.sampling = cli_sampling_of(b->s.model, &a->sampling);
    d->request.stops = a->sampling.session.stops;
    d->request.n_stops = a->sampling.session.n_stops;
    d->request.ignore_eos = a->sampling.session.ignore_eos;
    d->request.show_special = a->sampling.session.show_special;
    d->request.constraint = b->constraint;
    d->request.max_tokens = a->sampling.max_tokens > 0 ? (size_t)a->sampling.max_tokens : 0;
    const graft_tokenizer *t = graft_model_tokenizer(b->s.model);
    d->adds_bos = t != NULL && graft_tokenizer_describe(t, &tokenizer, NULL) == GRAFT_OK &&
                  tokenizer.adds_bos;
    return graft_model_describe(b->s.model, &d->info, error);
}

/* `draft` NULL: no guesses. */
static graft_status open_engine(struct batch *b, const graft_draft_options *draft,
                                graft_error *error)
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
static void close_batch(struct batch *b)
{
    for (size_t i = 0; i < b->n_slots; i++) {
        graft_stream_close(&b->slots[i]->stream);
    }
    graft_engine_close(&b->engine);
    for (size_t i = 0; i < b->n_slots; i++) {
        batch_adapters_give(&b->adapters, &b->slots[i]->mix);
        slot_free(b->slots[i]);
    }
    mem_free(NULL, b->slots);
    batch_adapters_close(&b->adapters);
    batch_forms_close(&b->forms);
    graft_constraint_close(&b->constraint);
    batch_lines_close(&b->lines);
    batch_index_close(&b->index);
    if (b->input >= 0) {
        close(b->input);
    }
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    cli_close(&b->s);
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* The model and all that stands on it. */
static int open_all(struct batch *b)
{
    graft_error error = {0};
    const struct cli_draft *typed = &b->args->sampling.draft;
    const struct cli_constraint *held = &b->args->sampling.constraint;
    graft_draft_options draft;
    int status = cli_open_model(&b->args->common, &b->s);
    if (status == CLI_OK && typed->model != NULL) {
        status = cli_draft_options(&b->s, typed, &draft);
    }
    if (status == CLI_OK && cli_is_constrained(held)) {
        status = cli_open_constraint(b->s.model, held, &b->constraint);
    }
    if (status != CLI_OK) {
        return status;
    }
    graft_status done = set_defaults(b, &error);
    if (done == GRAFT_OK) {
        done = open_engine(b, typed->model != NULL ? &draft : NULL, &error);
    }
    return done == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

/* Results stay as they are until all is there that it takes to answer. */
static int answer_all(struct batch *b)
{
    graft_error error = {0};
    graft_status done = GRAFT_OK;
    bool some = b->index.open > 0;
    int status = some ? open_all(b) : CLI_OK;
    if (status != CLI_OK || cli_interrupted()) {
        return status;
    }
    done = batch_output_begin(&b->output, &b->index, &error);
    if (done == GRAFT_OK && some) {
        done = run_all(b, &error);
        b->sums.seconds = time_seconds() - b->begun;
    }
    if (done == GRAFT_OK && b->args->in_order && b->index.open == 0) {
        done = batch_output_order(&b->output, &b->index, &error);
    }
    return done == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

static int tell(const struct batch *b)
{
    const struct batch_told told = {.input = b->args->input,
                                    .output = &b->output,
                                    .drafts = b->args->sampling.draft.model != NULL,
                                    .index = &b->index,
                                    .sums = &b->sums,
                                    .adapters = &b->adapters};
    return batch_tell(&told, &b->args->common);
}

/* `-np` is two letters, which no other option here has. */
static void spell_out(int argc, char **argv)
{
    static char parallel[] = "--parallel";
    for (int i = 1; i < argc; i++) {
        argv[i] = strcmp(argv[i], "-np") == 0 ? parallel : argv[i];
    }
}

int verb_batch(int argc, char **argv)
{
    struct batch_args args = {.budget = graft_registry_options_default().budget,
                              .engine = graft_engine_options_default()};
    struct batch b = {.args = &args, .input = -1, .output.file = -1, .lines.file = -1};
    graft_error error = {0};
    pthread_condattr_t monotonic;
    cli_sampling_init(&args.sampling);
    spell_out(argc, argv);
    argp_parse(&batch_argp, argc, argv, 0, NULL, &args);
    cli_catch_interrupt();
    pthread_mutex_init(&b.lock, NULL); /* none can fail on Linux with these attributes */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&b.changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    graft_status opened = open_files(&b, &error);
    int status = opened == GRAFT_OK      ? answer_all(&b)
                 : opened == GRAFT_STATE ? cli_fail_hint(&error, "--overwrite begins anew")
                                         : cli_fail(&error);
    if (batch_output_close(&b.output, &error) != GRAFT_OK) {
        status = cli_fail(&error);
    }
    if (status == CLI_OK) {
        status = tell(&b);
    }
    close_batch(&b);
    return status;
}
