/* learner.c: steps on a full buffer, and the guard: what makes the held-out loss worse is taken back.
 *
 * A step is over the whole buffer, whose gradient is that of Σ w (−log p) / Σ |w| over the answers' tokens: qualities are
 * weights above 0, advantages have either sign. Batches are as many examples as fit, in their order, and sums go in that
 * order, so threads cannot be seen.
 */
#include "learn/learn_internal.h"

#include <math.h>

enum { MOST_BUFFER = 1 << 16, MOST_STEPS = 1 << 16 };
static const int64_t MOST_REWARDS = 1LL << 53; /* that a card is believed */

struct learner_options learner_defaults(void)
{
    return (struct learner_options){
        .micro = {.rank = MICRO_RANKS}, .buffer = 64, .steps = 8, .rate = 1e-3, .max_norm = 1};
}

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for online adaptation");
}

static graft_status check_options(const struct learner_options *o, graft_error *error)
{
    const struct {
        const char *name;
        double value, least, most;
    } ranges[] = {{"the buffer", o->buffer, 1, MOST_BUFFER},
                  {"the number of steps", o->steps, 1, MOST_STEPS},
                  {"the learning rate", o->rate, 1e-12, 1e3},
                  {"weight decay", o->weight_decay, 0, 1e3},
                  {"the largest gradient norm", o->max_norm, 0, 1e30},
                  {"the least quality", o->min_quality, 0, 1},
                  {"the tolerance", o->tolerance, 0, 1e30}};
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++)
        if (!(ranges[i].value >= ranges[i].least && ranges[i].value <= ranges[i].most))
            return error_set(error, GRAFT_INVALID_ARGUMENT, "%s is %g; it must be %g to %g",
                             ranges[i].name, ranges[i].value, ranges[i].least, ranges[i].most);
    return GRAFT_OK;
}

/* ---- passes -------------------------------------------------------------------------------- */

static struct lesson lesson_at(const struct learner *l, bool held, int64_t i)
{
    if (!held)
        return l->buffer[i];
    const struct data_example e = dataset_example(l->held, DATA_TRAIN, i);
    return (struct lesson){e.tokens, e.learned, e.n_tok, e.weight};
}

struct sums {
    double nll, weight; /* Σ w (−log p), Σ |w| */
};

static void begin_batch(struct data_batch *b)
{
    b->n_tok = b->n_examples = 0;
    b->starts[0] = 0;
}

static void add_lesson(struct data_batch *b, const struct lesson *lesson, int64_t number,
                       struct sums *sums)
{
    const int at = b->n_tok;
    for (int t = 0; t < lesson->n_tok; t++) {
        b->tokens[at + t] = lesson->tokens[t];
        b->targets[at + t] = lesson->tokens[t + 1];
        b->weights[at + t] = lesson->learned[t] ? lesson->weight : 0;
        sums->weight += fabs((double)b->weights[at + t]);
    }
    b->examples[b->n_examples++] = (uint64_t)number;
    b->n_tok += lesson->n_tok;
    b->starts[b->n_examples] = b->n_tok;
}

static graft_status tell(struct learner *l, const char *what, graft_error *error)
{
    const struct learner_options *o = &l->options;
    if (!o->progress || o->progress(o->progress_user, l->done, l->total, what))
        return GRAFT_OK;
    return error_set(error, GRAFT_CANCELLED, "cancelled; nothing was changed");
}

static graft_status run_batch(struct learner *l, struct train_tape *tape, bool backward,
                              struct sums *sums, graft_error *error)
{
    const struct data_batch *b = &l->batch;
    const struct train_batch batch = {.n_tok = b->n_tok,
                                      .n_examples = b->n_examples,
                                      .tokens = b->tokens,
                                      .starts = b->starts,
                                      .targets = b->targets,
                                      .weights = b->weights,
                                      .examples = b->examples};
    struct train_result one;
    graft_status status = train_tape_run(tape, &batch, backward, &one, error);
    if (status == GRAFT_OK)
        sums->nll += one.nll;
    l->done += (uint64_t)b->n_tok;
    return status == GRAFT_OK ? tell(l, backward ? "learning" : "checking", error) : status;
}

static graft_status run(struct learner *l, struct train_tape *tape, bool held, int64_t n,
                        bool backward, struct sums *sums, graft_error *error)
{
    graft_status status = GRAFT_OK;
    *sums = (struct sums){0, 0};
    begin_batch(&l->batch);
    for (int64_t i = 0; i < n && status == GRAFT_OK; i++) {
        const struct lesson lesson = lesson_at(l, held, i);
        if (l->batch.n_tok + lesson.n_tok > l->room) {
            status = run_batch(l, tape, backward, sums, error);
            begin_batch(&l->batch);
        }
        if (status == GRAFT_OK && lesson.weight != 0)
            add_lesson(&l->batch, &lesson, i, sums);
    }
    return status == GRAFT_OK && l->batch.n_examples ? run_batch(l, tape, backward, sums, error)
                                                     : status;
}

static int64_t held_tokens(const struct learner *l)
{
    return dataset_stats(l->held)->tokens[DATA_TRAIN];
}

graft_status learner_measure(struct learner *l, struct train_tape *tape, double *out,
                             graft_error *error)
{
    struct sums sums;
    graft_status status =
        run(l, tape, true, dataset_count(l->held, DATA_TRAIN), false, &sums, error);
    if (status == GRAFT_OK)
        *out = sums.nll / sums.weight;
    return status;
}

static graft_status measure_now(struct learner *l, double *out, graft_error *error)
{
    l->done = 0;
    l->total = (uint64_t)held_tokens(l);
    return learner_measure(l, l->tape, out, error);
}

/* ---- a buffer ------------------------------------------------------------------------------ */

static void copy_values(const struct learner *l, float *const to[3], const float *const from[3])
{
    for (int i = 0; i < 3; i++)
        memcpy(to[i], from[i], (size_t)l->trainable->n_values * sizeof *to[i]);
}

static void keep(struct learner *l)
{
    struct optimiser *o = &l->optimiser;
    copy_values(l, (float *const[]){l->kept.values, l->kept.m, l->kept.v},
                (const float *const[]){l->trainable->values, o->m, o->v});
    l->kept.steps = o->steps;
}

static graft_status take_back(struct learner *l, graft_error *error)
{
    struct optimiser *o = &l->optimiser;
    copy_values(l, (float *const[]){l->trainable->values, o->m, o->v},
                (const float *const[]){l->kept.values, l->kept.m, l->kept.v});
    o->steps = l->kept.steps;
    return train_tape_refresh(l->tape, error);
}

void learner_empty_buffer(struct learner *l)
{
    while (l->state.waiting)
        lesson_free(l->mem, &l->buffer[--l->state.waiting]);
}

/* One step. *fine: it could be taken; where a number is none it is not, and where nothing has a weight. */
static graft_status take_step(struct learner *l, double *loss, bool *fine, graft_error *error)
{
    const graft_runtime *runtime = l->model->runtime;
    struct trainable *t = l->trainable;
    struct sums sums;
    trainable_zero_grads(t);
    graft_status status = run(l, l->tape, false, l->state.waiting, true, &sums, error);
    if (status != GRAFT_OK)
        return status;
    const double norm = optimiser_norm(&l->optimiser, runtime, t->grads) / sums.weight;
    *loss = sums.nll / sums.weight;
    *fine = isfinite(*loss) && isfinite(norm);
    if (!*fine)
        return GRAFT_OK;
    const double most = l->options.max_norm;
    const double clip = most > 0 ? fmin(1, most / (norm + 1e-6)) : 1;
    optimiser_step(&l->optimiser, runtime, t->parts, t->n_parts, t->values, t->grads,
                   l->options.rate, clip / sums.weight);
    return train_tape_refresh(l->tape, error);
}

static graft_status take_steps(struct learner *l, struct learner_verdict *v, graft_error *error)
{
    bool fine = true;
    int64_t tokens = 0;
    for (int i = 0; i < l->state.waiting; i++)
        tokens += l->buffer[i].weight != 0 ? l->buffer[i].n_tok : 0;
    l->done = 0;
    l->total = (uint64_t)(tokens * l->options.steps + held_tokens(l));
    graft_status status = GRAFT_OK;
    for (int i = 0; i < l->options.steps && status == GRAFT_OK && fine; i++) {
        double loss = NAN;
        status = take_step(l, &loss, &fine, error);
        v->loss = status == GRAFT_OK && i == 0 ? loss : v->loss;
    }
    if (status == GRAFT_OK && fine)
        status = learner_measure(l, l->tape, &v->after, error);
    return status;
}

/* The tolerance is one for all buffers: else it would add up to what cannot be published. */
static bool is_no_worse(const struct learner *l, double loss)
{
    return loss <= fmin(l->state.now, l->state.began) + l->options.tolerance;
}

static graft_status learn(struct learner *l, struct learner_verdict *out, graft_error *error)
{
    struct learner_state *s = &l->state;
    struct learner_verdict v = {.number = s->kept + s->dropped + 1,
                                .examples = s->waiting,
                                .loss = NAN,
                                .before = s->now,
                                .after = NAN};
    keep(l);
    graft_status status = take_steps(l, &v, error);
    v.kept = status == GRAFT_OK && is_no_worse(l, v.after);
    if (!v.kept) {
        graft_status back = take_back(l, status == GRAFT_OK ? error : NULL);
        status = status == GRAFT_OK ? back : status;
    }
    if (status != GRAFT_OK)
        return status;
    learner_empty_buffer(l);
    s->kept += v.kept;
    s->dropped += !v.kept;
    s->now = v.kept ? v.after : s->now;
    s->changed = s->changed || v.kept;
    *out = v;
    if (l->listener)
        l->listener(l->user, &v);
    return GRAFT_OK;
}

/* What failed is not tried again with the next one. */
graft_status learner_settle(struct learner *l, graft_error *error)
{
    struct learner_verdict verdict;
    if (l->state.waiting < l->options.buffer)
        return GRAFT_OK;
    graft_status status = learn(l, &verdict, error);
    learner_empty_buffer(l);
    return status;
}

graft_status learner_step(struct learner *l, struct learner_verdict *verdict, bool *out,
                          graft_error *error)
{
    *out = l->state.waiting > 0;
    graft_status status = *out ? learn(l, verdict, error) : GRAFT_OK;
    learner_empty_buffer(l);
    return status;
}

/* ---- open ---------------------------------------------------------------------------------- */

static graft_status open_held(struct learner *l, graft_error *error)
{
    const struct learner_options *o = &l->options;
    const struct data_options how = {
        .loss = o->loss, .max_len = o->max_len, .verdicts = DATA_VERDICTS_ANSWERS};
    if (path_is_dir(o->held_out)) {
        error_set(error, GRAFT_INVALID_ARGUMENT,
                  "held-out examples are a file of records, not a folder");
        error_at_file(error, o->held_out);
        return GRAFT_INVALID_ARGUMENT;
    }
    graft_status status = dataset_open(l->mem, &l->data, o->held_out, &how, &l->held, error);
    if (status != GRAFT_OK)
        return status;
    const int64_t n = dataset_count(l->held, DATA_TRAIN);
    if (!n) {
        const struct data_issue *issue = dataset_issue(l->held, 0);
        error_set(error, GRAFT_INVALID_ARGUMENT, "there are no held-out examples to check by%s%s",
                  issue ? ": " : "", issue ? issue->reason : "");
        error_at_file(error, o->held_out);
        return GRAFT_INVALID_ARGUMENT;
    }
    for (int64_t i = 0; i < n; i++) {
        const char *name = dataset_name(l->held, dataset_example(l->held, DATA_TRAIN, i).session);
        if (name && !str_map_put(&l->held_sessions, name, strlen(name), 1, NULL))
            return no_memory(error);
    }
    l->state.held_out = n;
    l->room = dataset_max_len(l->held);
    return GRAFT_OK;
}

graft_status learner_tape(const struct learner *l, const struct trainable *trainable,
                          struct train_tape **out, graft_error *error)
{
    const struct train_options how = {.max_tok = l->room, .checkpoint = true};
    graft_status status = train_tape_open(l->model, &trainable->set, &how, out, error);
    return status == GRAFT_OK ? train_tape_refresh(*out, error) : status;
}

/* What earlier versions learned goes on: the baseline. Whatever the card says that cannot be is not believed. */
static void read_card(struct learner *l)
{
    const json_t *learned =
        json_object_get(json_object_get(trainable_card(l->trainable), "training"), "learn");
    const json_int_t rewards = json_integer_value(json_object_get(learned, "rewards"));
    const double baseline = json_number_value(json_object_get(learned, "baseline"));
    if (rewards > 0 && rewards <= MOST_REWARDS && isfinite((float)baseline)) {
        l->state.rewards = rewards;
        l->state.baseline = baseline;
    }
}

static graft_status open_values(struct learner *l, const char *path, graft_error *error)
{
    const struct learner_options *o = &l->options;
    const struct trainable_options how = {.path = path, .dropout = -1, .micro = &o->micro};
    const struct optimiser_options adam = {
        .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = o->weight_decay, .loraplus = 1};
    graft_status status = trainable_open(l->model, &how, &l->trainable, error);
    if (status != GRAFT_OK)
        return status;
    const size_t n = (size_t)l->trainable->n_values;
    l->state.trained = l->trainable->n_trained;
    read_card(l);
    l->kept.values = mem_calloc(l->mem, n, sizeof *l->kept.values);
    l->kept.m = mem_calloc(l->mem, n, sizeof *l->kept.m);
    l->kept.v = mem_calloc(l->mem, n, sizeof *l->kept.v);
    if (!l->kept.values || !l->kept.m || !l->kept.v)
        return no_memory(error);
    status = optimiser_open(&l->optimiser, l->mem, l->trainable->n_values, &adam, error);
    return status == GRAFT_OK ? learner_tape(l, l->trainable, &l->tape, error) : status;
}

static void share_held(struct learner *l)
{
    l->held = l->first->held;
    l->held_sessions = l->first->held_sessions;
    l->state.held_out = l->first->state.held_out;
    l->room = l->first->room;
}

static graft_status open_all(struct learner *l, const char *path, graft_error *error)
{
    l->buffer = mem_calloc(l->mem, (size_t)l->options.buffer, sizeof *l->buffer);
    graft_status status = l->buffer ? data_model_of(l->model, &l->data, error) : no_memory(error);
    if (status == GRAFT_OK && l->first)
        share_held(l);
    else if (status == GRAFT_OK)
        status = open_held(l, error);
    if (status == GRAFT_OK)
        status = data_batch_open(l->mem, l->room, l->room, &l->batch, error);
    if (status == GRAFT_OK)
        status = open_values(l, path, error);
    if (status == GRAFT_OK && l->first)
        l->state.began = l->first->state.began;
    else if (status == GRAFT_OK)
        status = measure_now(l, &l->state.began, error);
    if (status == GRAFT_OK && !isfinite(l->state.began))
        status = error_set(error, GRAFT_NUMERIC,
                           "the loss of the held-out examples is no number, so nothing can be "
                           "checked by it");
    l->state.now = l->state.began;
    return status;
}

graft_status learner_make(const struct model *model, const char *path,
                          const struct learner_options *options, const struct learner *first,
                          struct learner **out, graft_error *error)
{
    struct mem *mem = &model->runtime->mem;
    graft_status status = check_options(options, error);
    if (status == GRAFT_OK && model->config.n_labels > 0)
        status = error_set(error, GRAFT_UNSUPPORTED,
                           "a classifier has no answers to hear about: only language models learn "
                           "from feedback");
    if (status != GRAFT_OK)
        return status;
    struct learner *l = mem_calloc(mem, 1, sizeof *l);
    if (!l)
        return no_memory(error);
    l->model = model;
    l->mem = mem;
    l->options = *options;
    l->first = first;
    str_map_init(&l->held_sessions, mem);
    str_map_init(&l->sessions, mem);
    arena_init(&l->names, mem, SIZE_MAX);
    status = open_all(l, path, error);
    if (status == GRAFT_OK)
        *out = l;
    else
        learner_close(&l);
    return status;
}

graft_status learner_open(const struct model *model, const char *path,
                          const struct learner_options *options, struct learner **out,
                          graft_error *error)
{
    return learner_make(model, path, options, NULL, out, error);
}

void learner_close(struct learner **learner)
{
    struct learner *l = *learner;
    if (!l)
        return;
    if (l->buffer)
        learner_empty_buffer(l);
    mem_free(l->mem, l->buffer);
    train_tape_close(&l->tape);
    optimiser_close(&l->optimiser);
    trainable_close(&l->trainable);
    data_batch_close(&l->batch);
    str_map_free(&l->sessions);
    arena_free(&l->names);
    if (!l->first) {
        str_map_free(&l->held_sessions);
        dataset_close(&l->held);
    }
    mem_free(l->mem, l->kept.values);
    mem_free(l->mem, l->kept.m);
    mem_free(l->mem, l->kept.v);
    mem_free(l->mem, l);
    *learner = NULL;
}

void learner_listen(struct learner *l, learner_verdict_fn listener, void *user)
{
    l->listener = listener;
    l->user = user;
}

void learner_describe(const struct learner *l, struct learner_state *out)
{
    *out = l->state;
}
