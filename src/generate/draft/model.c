/* model.c: proposals of a second, smaller model, for many streams in one batch.
 *
 * A lane is a stream as the draft model knows it: a block table and the tokens whose keys and values are in it. What a
 * stream has taken back, and drafts that were wrong, are found by comparing, so nobody has to tell. A call first feeds
 * each lane what it lacks, all lanes together, prompts as prefill rows; from then on every pass has one decode row for each
 * lane that wants more. Picks are made by the rules of the stream, with its seed and at the position that the token
 * will have: the noise that the model's own pick will be made with.
 */
#include "generate/draft/draft.h"
#include "generate/generate.h"

/* Rows of a lane from which on they are a prompt. What a logit costs who picks, in multiply-adds; the first pick of a pass is
 * the caller's anyway. */
enum { PREFILL_LEAST = 16, PICK_WORK = 16 };

struct draft_lane {
    struct draft_model *d;
    struct kv_seq *seq;     /* of tokens[0..kv_seq_length) */
    graft_token_id *tokens; /* [n_ctx + DRAFT_MOST] */
    size_t n_ctx;
};

/* What is known of a request while it is served. */
struct task {
    struct draft_request *request;
    size_t known;   /* tokens of the lane: the stream's, then drafts */
    size_t fed;     /* of them, how many are in its cache or in the pass at hand */
    int k;          /* how many drafts there shall be */
    enum role role; /* of the rows to come */
};

struct draft_model {
    struct mem *mem;
    const struct model *model;
    int n_vocab; /* ids that both models have rows for */
    struct kv_pool *pool;
    struct workspace *workspace;
    struct sampler **samplers; /* [n_samplers]: one for each worker */
    int n_samplers;
    struct row *rows; /* [max_rows] of the pass at hand */
    int max_rows, n_rows;
    bool only_decode;     /* of these rows */
    struct task **owners; /* [max_rows] whose last row that is; NULL: it is no last one */
    int n_picks;          /* owners that there are */
    atomic_int next_row;  /* to be picked for */
    struct task *tasks;   /* [task_capacity] */
    int n_lanes, task_capacity;
};

/* ---- open and close ---- */

/* The pool is opened to ask how large a block is, and again for as many of them as there is room for. */
static graft_status open_pool(struct draft_model *d, size_t bytes, graft_error *error)
{
    struct kv_pool_options options = {.k_type = KV_F16, .v_type = KV_F16, .max_blocks = 1};
    graft_status status = kv_pool_open(d->model, &options, &d->pool, error);
    if (status != GRAFT_OK) {
        return status;
    }
    size_t block = kv_pool_block_bytes(d->pool);
    kv_pool_close(&d->pool);
    if (bytes < block) {
        return error_set(error, GRAFT_LIMIT,
                         "the draft model's cache has %zu bytes, a block of it takes %zu", bytes,
                         block);
    }
    options.max_blocks = (int64_t)(bytes / block);
    return kv_pool_open(d->model, &options, &d->pool, error);
}

static graft_status open_samplers(struct draft_model *d, graft_error *error)
{
    const graft_runtime *runtime = d->model->runtime;
    int n = pool_threads(runtime->pool);
    d->samplers = mem_calloc(d->mem, (size_t)n, sizeof *d->samplers);
    if (d->samplers == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a draft model");
    }
    graft_status status = GRAFT_OK;
    for (; d->n_samplers < n && status == GRAFT_OK; d->n_samplers += status == GRAFT_OK) {
        status =
            sampler_open(d->mem, runtime->kernels, d->n_vocab, &d->samplers[d->n_samplers], error);
    }
    return status;
}

graft_status draft_model_open(const struct model *target, const struct model *draft,
                              const struct draft_model_options *options, struct draft_model **out,
                              graft_error *error)
{
    struct mem *mem = &draft->runtime->mem;
    if (options->rows < 1) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "a draft model with passes of %d rows",
                         options->rows);
    }
    struct draft_model *d = mem_calloc(mem, 1, sizeof *d);
    if (d == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a draft model");
    }
    d->mem = mem;
    d->model = draft;
    d->max_rows = options->rows;
    d->n_vocab = draft->config.n_vocab < target->config.n_vocab ? draft->config.n_vocab
                                                                : target->config.n_vocab;
    d->rows = mem_calloc(mem, (size_t)d->max_rows, sizeof *d->rows);
    d->owners = mem_calloc(mem, (size_t)d->max_rows, sizeof *d->owners);
    graft_status status = GRAFT_OK;
    if (d->rows == NULL || d->owners == NULL) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for passes of %d rows", d->max_rows);
    }
    if (status == GRAFT_OK) {
        status = open_pool(d, options->kv_bytes, error);
    }
    if (status == GRAFT_OK) {
        status = workspace_open(draft, d->max_rows, &d->workspace, error);
    }
    if (status == GRAFT_OK) {
        status = open_samplers(d, error);
    }
    if (status != GRAFT_OK) {
        draft_model_close(&d);
        return status;
    }
    *out = d;
    return GRAFT_OK;
}

void draft_model_close(struct draft_model **draft)
{
    struct draft_model *d = *draft;
    if (d != NULL) {
        for (int i = 0; i < d->n_samplers; i++) {
            sampler_close(&d->samplers[i]);
        }
        mem_free(d->mem, d->samplers);
        workspace_close(&d->workspace);
        kv_pool_close(&d->pool);
        mem_free(d->mem, d->rows);
        mem_free(d->mem, d->owners);
        mem_free(d->mem, d->tasks);
        mem_free(d->mem, d);
    }
    *draft = NULL;
}

size_t draft_model_kv_bytes(const struct draft_model *d)
{
    return (size_t)kv_pool_blocks_used(d->pool) * kv_pool_block_bytes(d->pool);
}

/* Room to serve all lanes at once. */
static bool reserve_tasks(struct draft_model *d)
{
    if (d->n_lanes <= d->task_capacity) {
        return true;
    }
    int capacity = d->task_capacity > 0 ? 2 * d->task_capacity : 8;
    struct task *tasks = mem_resize(d->mem, d->tasks, (size_t)capacity * sizeof *tasks);
    if (tasks != NULL) {
        d->tasks = tasks;
        d->task_capacity = capacity;
    }
    return tasks != NULL;
}

graft_status draft_lane_open(struct draft_model *d, size_t n_ctx, struct draft_lane **out,
                             graft_error *error)
{
    struct draft_lane *lane = mem_calloc(d->mem, 1, sizeof *lane);
    if (lane == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a draft lane");
    }
    d->n_lanes++;
    lane->d = d;
    lane->n_ctx = n_ctx;
    graft_status status = kv_seq_open(d->pool, &lane->seq, error);
    if (status == GRAFT_OK) {
        lane->tokens = mem_calloc(d->mem, n_ctx + DRAFT_MOST, sizeof *lane->tokens);
        if (lane->tokens == NULL || !reserve_tasks(d)) {
            status = error_set(error, GRAFT_NO_MEMORY, "no memory for a draft lane");
        }
    }
    if (status != GRAFT_OK) {
        draft_lane_close(&lane);
        return status;
    }
    *out = lane;
    return GRAFT_OK;
}

void draft_lane_close(struct draft_lane **lane)
{
    struct draft_lane *l = *lane;
    if (l != NULL) {
        struct mem *mem = l->d->mem;
        l->d->n_lanes--;
        kv_seq_close(&l->seq);
        mem_free(mem, l->tokens);
        mem_free(mem, l);
    }
    *lane = NULL;
}

void draft_lane_trim(struct draft_lane *lane, size_t n)
{
    kv_seq_trim(lane->seq, (int64_t)n);
}

size_t draft_lane_length(const struct draft_lane *lane)
{
    return (size_t)kv_seq_length(lane->seq);
}

/* ---- one pass ---- */

static void pick_one(struct draft_model *d, struct task *task, int row, struct sampler *sampler)
{
    struct draft_request *r = task->request;
    struct pick pick;
    r->status = sampler_pick(sampler, r->sampling, workspace_logits(d->workspace, row), NULL,
                             r->lane->tokens, task->known, &pick, NULL);
    if (r->status != GRAFT_OK) {
        task->k = r->n_out; /* no more of this one */
        return;
    }
    r->out[r->n_out++] = pick.id;
    r->lane->tokens[task->known++] = pick.id;
}

static void pick_work(void *context, int worker, int n_workers)
{
    struct draft_model *d = context;
    (void)n_workers;
    for (int i; (i = atomic_fetch_add(&d->next_row, 1)) < d->n_rows;) {
        if (d->owners[i] != NULL) {
            pick_one(d, d->owners[i], i, d->samplers[worker]);
        }
    }
}

/* A pass with rows of prompts says what these cost, as nearly all of its rows are. */
static void learn_costs(const struct draft_model *d, struct draft_costs *costs, double seconds)
{
    double row = seconds / d->n_rows;
    if (d->only_decode) {
        cost_learn(&costs->draft, d->n_rows, seconds);
    } else if (d->n_rows >= PREFILL_LEAST) {
        costs->feed = costs->feed > 0 ? 0.75 * costs->feed + 0.25 * row : row;
    }
}

/* Runs the rows that are there, and picks after those that are the last of their lanes. */
static graft_status run_pass(struct draft_model *d, struct draft_costs *costs, graft_error *error)
{
    double begin = time_seconds();
    graft_status status = model_forward(d->model, d->rows, d->n_rows, d->workspace, error);
    if (status == GRAFT_OK) {
        atomic_store(&d->next_row, 0);
        runtime_region(d->model->runtime, pick_work, d,
                       (int64_t)PICK_WORK * d->n_vocab * (d->n_picks - 1));
        if (costs != NULL) {
            learn_costs(d, costs, time_seconds() - begin);
        }
    }
    d->n_rows = d->n_picks = 0;
    d->only_decode = true;
    return status;
}

/* Puts what a lane lacks into passes, and runs those that are full. */
static graft_status feed(struct draft_model *d, struct task *task, struct draft_costs *costs,
                         graft_error *error)
{
    const struct draft_lane *lane = task->request->lane;
    const size_t end = task->known; /* a pick adds to what is known */
    for (; task->fed < end; task->fed++) {
        if (d->n_rows == d->max_rows) {
            graft_status status = run_pass(d, costs, error);
            if (status != GRAFT_OK) {
                return status;
            }
        }
        bool last = task->fed + 1 == end;
        d->owners[d->n_rows] = last ? task : NULL;
        d->n_picks += last;
        d->rows[d->n_rows++] = (struct row){.token = lane->tokens[task->fed],
                                            .pos = (int32_t)task->fed,
                                            .seq = lane->seq,
                                            .role = task->role,
                                            .want_logits = last};
        d->only_decode = d->only_decode && task->role == ROLE_DECODE;
    }
    task->role = ROLE_DECODE;
    return GRAFT_OK;
}

/* ---- requests ---- */

/* How many tokens the lane's cache has in common with the stream, but for its last: that one's logits are wanted. */
static size_t common(const struct draft_lane *lane, const graft_token_id *tokens, size_t n)
{
    size_t cached = (size_t)kv_seq_length(lane->seq), i = 0;
    while (i < cached && i + 1 < n && lane->tokens[i] == tokens[i]) {
        i++;
    }
    return i;
}

/* Makes the lane one of the stream's tokens; the task wants no drafts where that cannot be. */
static void begin_task(struct draft_model *d, struct task *task, struct draft_request *r)
{
    struct draft_lane *lane = r->lane;
    const size_t n = r->n_tokens;
    r->n_out = 0;
    r->status = GRAFT_OK;
    *task = (struct task){.request = r, .known = n};
    if (n < 1 || n > lane->n_ctx || r->k < 1) {
        return;
    }
    size_t k = (size_t)(r->k < DRAFT_MOST ? r->k : DRAFT_MOST), room = lane->n_ctx - n;
    task->fed = common(lane, r->tokens, n);
    for (size_t i = task->fed; i < n; i++) {
        if (r->tokens[i] < 0 || r->tokens[i] >= d->model->config.n_vocab) {
            return; /* of a row that the draft model does not have */
        }
    }
    kv_seq_trim(lane->seq, (int64_t)task->fed);
    memcpy(lane->tokens + task->fed, r->tokens + task->fed, (n - task->fed) * sizeof *r->tokens);
    k = k < room ? k : room;
    r->status = k > 0 ? kv_seq_reserve(lane->seq, (int64_t)(n + k - 1), NULL) : GRAFT_OK;
    task->role = n - task->fed < PREFILL_LEAST ? ROLE_DECODE : ROLE_PREFILL;
    task->k = r->status == GRAFT_OK ? (int)k : 0;
}

graft_status draft_model_propose(struct draft_model *d, struct draft_request *requests, int n,
                                 struct draft_costs *costs, graft_error *error)
{
    if (n < 0 || n > d->n_lanes) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "%d requests for drafts of %d lanes", n,
                         d->n_lanes);
    }
    for (int i = 0; i < n; i++) {
        begin_task(d, &d->tasks[i], &requests[i]);
    }
    graft_status status = GRAFT_OK;
    d->n_rows = d->n_picks = 0;
    d->only_decode = true;
    for (bool more = true; more && status == GRAFT_OK;) {
        more = false;
        for (int i = 0; i < n && status == GRAFT_OK; i++) {
            if (requests[i].n_out < d->tasks[i].k) {
                more = true;
                status = feed(d, &d->tasks[i], costs, error);
            }
        }
        if (more && status == GRAFT_OK) {
            status = run_pass(d, costs, error);
        }
    }
    return status;
}
