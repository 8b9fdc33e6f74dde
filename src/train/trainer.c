/* trainer.c: the loop: a window of batches, a step of the optimiser, and what is done between steps.
 *
 * The place in the data is the number of the step and nothing else: an epoch has as many steps as it needs for its
 * batches, and the plan of an epoch follows from the seed.
 */
#include "train/train_internal.h"

#include <math.h>

struct trainer_options trainer_defaults(void)
{
    return (struct trainer_options){.rows = 4,
                                    .accumulation = 1,
                                    .shuffle = true,
                                    .epochs = 3,
                                    .schedule = SCHEDULE_COSINE,
                                    .rate = 2e-4,
                                    .muon_rate = 0.02,
                                    .warmup_steps = -1,
                                    .warmup_ratio = 0.03,
                                    .decay_ratio = 0.25,
                                    .optimiser = {.momentum = 0.95,
                                                  .beta1 = 0.9,
                                                  .beta2 = 0.999,
                                                  .eps = 1e-8,
                                                  .weight_decay = 0.01,
                                                  .loraplus = 1},
                                    .max_norm = 1,
                                    .checkpoint = true,
                                    .half = true,
                                    .eval_first = true,
                                    .patience = 3,
                                    .bad_steps = 5,
                                    .ewc_options = {.lambda = 2000, .decay = 0.999}};
}

/* ---- checks ------------------------------------------------------------------------------- */

struct range {
    const char *name;
    double value, least, most;
};

static graft_status check_ranges(const struct range *ranges, size_t n, graft_error *error)
{
    for (size_t i = 0; i < n; i++)
        if (!(ranges[i].value >= ranges[i].least && ranges[i].value <= ranges[i].most))
            return error_set(error, GRAFT_INVALID_ARGUMENT, "%s is %g; it must be %g to %g",
                             ranges[i].name, ranges[i].value, ranges[i].least, ranges[i].most);
    return GRAFT_OK;
}

static graft_status check_options(const struct trainer_options *o, graft_error *error)
{
    const struct range ranges[] = {
        {"the batch size", o->rows, 1, 65536},
        {"gradient accumulation", o->accumulation, 1, 65536},
        {"the number of epochs", o->epochs, 0, 1e6},
        {"the number of steps", (double)o->max_steps, 0, 1e12},
        {"the learning rate", o->rate, 0, 1e3},
        {"the learning rate of Muon", o->muon_rate, 0, 1e3},
        {"the momentum of Muon", o->optimiser.momentum, 0, 1 - 1e-9},
        {"the number of warmup steps", (double)o->warmup_steps, -1, 1e12},
        {"the warmup ratio", o->warmup_ratio, 0, 1},
        {"the part in which the rate falls", o->decay_ratio, 0, 1},
        {"beta1", o->optimiser.beta1, 0, 1 - 1e-9},
        {"beta2", o->optimiser.beta2, 0, 1 - 1e-9},
        {"epsilon", o->optimiser.eps, 1e-30, 1},
        {"weight decay", o->optimiser.weight_decay, 0, 1e3},
        {"the ratio of LoRA+", o->optimiser.loraplus, 1e-6, 1e6},
        {"the largest gradient norm", o->max_norm, 0, 1e30},
        {"steps between validations", (double)o->eval_steps, 0, 1e12},
        {"steps between checkpoints", (double)o->save_steps, 0, 1e12},
        {"the patience", o->patience, 0, 1e6},
        {"the least improvement", o->min_improvement, 0, 1e30},
        {"the number of bad steps", o->bad_steps, 1, 1e6},
        {"lambda of EWC", o->ewc_options.lambda, 0, 1e30},
        {"the decay of EWC", o->ewc_options.decay, 0, 1},
        {"the schedule", o->schedule, 0, SCHEDULE_KINDS - 1},
        {"the optimiser", o->optimiser.kind, 0, OPTIM_KINDS - 1}};
    return check_ranges(ranges, ARRAY_LEN(ranges), error);
}

/* What goes with an adapter alone, or with a whole model alone. */
static graft_status check_kind(const struct trainable *t, const struct trainer_options *o,
                               graft_error *error)
{
    if (t->whole && o->ewc)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "EWC holds the values of an adapter; a model that is trained whole has no "
                         "ewc");
    if (!t->whole && o->optimiser.kind == OPTIM_MUON)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "muon is for a model that is trained whole (fine_tune_type full); an "
                         "adapter is trained with adamw");
    return GRAFT_OK;
}

/* ---- open --------------------------------------------------------------------------------- */

static struct data_plan_options plan_options(const struct trainer *t, enum data_part part,
                                             int64_t epoch)
{
    const struct trainer_options *o = &t->options;
    return (struct data_plan_options){.rows = o->rows,
                                      .pack = o->pack,
                                      .shuffle = o->shuffle && part == DATA_TRAIN,
                                      .seed = o->seed,
                                      .epoch = (uint64_t)epoch};
}

static graft_status make_plans(struct trainer *t, graft_error *error)
{
    if (!dataset_count(t->dataset, DATA_TRAIN))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "there are no examples to train on; graft data check says why");
    const struct data_plan_options train = plan_options(t, DATA_TRAIN, 0),
                                   valid = plan_options(t, DATA_VALID, 0);
    t->epoch = 0;
    graft_status status = data_plan_make(t->mem, t->dataset, DATA_TRAIN, &train, &t->plan, error);
    if (status == GRAFT_OK && dataset_count(t->dataset, DATA_VALID))
        status = data_plan_make(t->mem, t->dataset, DATA_VALID, &valid, &t->valid, error);
    return status;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static graft_status count_steps(struct trainer *t, graft_error *error)
{
    const struct trainer_options *o = &t->options;
    t->per_epoch = (t->plan.n_batches + o->accumulation - 1) / o->accumulation;
    double wanted = ceil(o->epochs * (double)t->per_epoch - 1e-9);
    t->schedule = (struct schedule){.kind = o->schedule,
                                    .rate = o->rate,
                                    .fall = o->decay_ratio,
                                    .steps = o->max_steps ? o->max_steps : (int64_t)wanted};
    if (t->schedule.steps < 1)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "%g epochs are no step", o->epochs);
    t->schedule.warmup = o->warmup_steps >= 0
                             ? o->warmup_steps
                             : (int64_t)ceil(o->warmup_ratio * (double)t->schedule.steps);
    return GRAFT_OK;
}

/* Tokens of any batch of any part and epoch: packing may put them together in another way, but no row is longer, and none
 * has more than its part. */
static graft_status find_room(struct trainer *t, graft_error *error)
{
    int64_t row = 0, rows = t->options.rows, all = 0;
    for (int part = 0; part < DATA_PARTS; part++) {
        all = larger(all, dataset_stats(t->dataset)->tokens[part]);
        for (int64_t i = 0; i < dataset_count(t->dataset, (enum data_part)part); i++)
            row = larger(row, dataset_example(t->dataset, (enum data_part)part, i).n_tok);
    }
    if (t->options.pack)
        row = larger(row, dataset_max_len(t->dataset));
    int64_t tok = row * rows < all ? row * rows : all;
    if (tok > INT_MAX)
        return error_set(error, GRAFT_LIMIT, "a batch of %lld tokens", (long long)tok);
    t->most_tok = (int)tok;
    return GRAFT_OK;
}

static struct train_options tape_options(const struct trainer *t)
{
    return (struct train_options){
        .max_tok = t->most_tok, .checkpoint = t->options.checkpoint, .half = t->options.half};
}

static graft_status open_parts(struct trainer *t, graft_error *error)
{
    const struct trainer_options *o = &t->options;
    const struct train_options tape = tape_options(t);
    graft_status status =
        optimiser_open(&t->optimiser, t->mem, t->trainable->n_values, &o->optimiser, error);
    if (status == GRAFT_OK && o->optimiser.kind == OPTIM_MUON)
        status = muon_open(t->mem, t->model->runtime, t->trainable->parts, t->trainable->n_parts,
                           &t->muon, error);
    if (status == GRAFT_OK && o->ewc)
        status = ewc_open(&t->ewc, t->trainable, &o->ewc_options, error);
    if (status == GRAFT_OK)
        status = data_batch_open(t->mem, t->most_tok, t->most_tok, &t->batch, error);
    if (status == GRAFT_OK)
        status = train_tape_open(t->model, &t->trainable->set, &tape, &t->tape, error);
    if (status == GRAFT_OK)
        status = train_tape_refresh(t->tape, error);
    if (status != GRAFT_OK || !t->valid.n_batches)
        return status;
    t->best = mem_calloc(t->mem, (size_t)t->trainable->n_values, sizeof *t->best);
    return t->best ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "no memory for the best values");
}

graft_status trainer_open(const struct model *model, struct trainable *trainable,
                          const struct dataset *dataset, const struct trainer_options *options,
                          struct trainer **out, graft_error *error)
{
    struct mem *mem = &model->runtime->mem;
    graft_status status = check_options(options, error);
    if (status == GRAFT_OK)
        status = check_kind(trainable, options, error);
    if (status != GRAFT_OK)
        return status;
    struct trainer *t = mem_calloc(mem, 1, sizeof *t);
    if (!t)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a trainer");
    *t = (struct trainer){
        .model = model,
        .mem = mem,
        .trainable = trainable,
        .dataset = dataset,
        .options = *options,
        .state = {.best_loss = NAN, .first_valid = NAN, .last_valid = NAN, .last_loss = NAN}};
    status = make_plans(t, error);
    if (status == GRAFT_OK)
        status = count_steps(t, error);
    if (status == GRAFT_OK)
        status = find_room(t, error);
    if (status == GRAFT_OK)
        status = open_parts(t, error);
    if (status == GRAFT_OK)
        *out = t;
    else
        trainer_close(&t);
    return status;
}

void trainer_close(struct trainer **trainer)
{
    struct trainer *t = *trainer;
    if (!t)
        return;
    history_close(&t->history);
    train_tape_close(&t->tape);
    optimiser_close(&t->optimiser);
    muon_close(&t->muon);
    ewc_close(&t->ewc);
    data_batch_close(&t->batch);
    data_plan_free(&t->plan);
    data_plan_free(&t->valid);
    mem_free(t->mem, t->best);
    mem_free(t->mem, t);
    *trainer = NULL;
}

void trainer_plan_of(const struct trainer *t, struct trainer_plan *out)
{
    const struct data_stats *stats = dataset_stats(t->dataset);
    /* values, gradients, two moments, the best; two F and θ* */
    int64_t copies = 4 + (t->best ? 1 : 0) + (t->options.ewc ? 3 : 0);
    *out = (struct trainer_plan){.steps = t->schedule.steps,
                                 .steps_per_epoch = t->per_epoch,
                                 .warmup = t->schedule.warmup,
                                 .tokens_per_epoch = stats->tokens[DATA_TRAIN],
                                 .learned_per_epoch = stats->learned[DATA_TRAIN],
                                 .tape_bytes = train_tape_bytes(t->tape),
                                 .value_bytes =
                                     (size_t)(copies * t->trainable->n_values) * sizeof(float) +
                                     muon_bytes(t->muon)};
}

/* ---- passes ------------------------------------------------------------------------------- */

static void add_result(struct train_result *sum, const struct train_result *one)
{
    sum->nll += one->nll;
    sum->weight += one->weight;
    sum->plain_nll += one->plain_nll;
    sum->n_targets += one->n_targets;
    sum->n_right += one->n_right;
}

/* Without gradients; with gradients and dropout; with gradients of the values as they are. */
enum pass { PASS_LOOK, PASS_LEARN, PASS_MEASURE };

/* Batches first..last of a plan, summed. */
static graft_status run_batches(struct trainer *t, const struct data_plan *plan, int64_t first,
                                int64_t last, enum pass pass, struct train_result *sum,
                                int64_t *fed, graft_error *error)
{
    graft_status status = GRAFT_OK;
    *sum = (struct train_result){.nll = 0};
    for (int64_t i = first; i < last && status == GRAFT_OK; i++) {
        struct train_result one;
        data_batch_fill(&t->batch, plan, i);
        const struct train_batch batch = {.n_tok = t->batch.n_tok,
                                          .n_examples = t->batch.n_examples,
                                          .tokens = t->batch.tokens,
                                          .starts = t->batch.starts,
                                          .targets = t->batch.targets,
                                          .weights = t->batch.weights,
                                          .seed = t->options.seed,
                                          .step = (uint64_t)t->state.step,
                                          .examples = t->batch.examples,
                                          .dropout = pass == PASS_LEARN};
        status = train_tape_run(t->tape, &batch, pass != PASS_LOOK, &one, error);
        add_result(sum, &one);
        *fed += batch.n_tok;
    }
    return status;
}

graft_status trainer_loss(struct trainer *t, enum data_part part, double *out, graft_error *error)
{
    struct data_plan plan = {.mem = NULL};
    const struct data_plan_options options = plan_options(t, part, 0);
    struct train_result sum = {.nll = 0};
    int64_t fed = 0;
    *out = NAN;
    if (!dataset_count(t->dataset, part))
        return GRAFT_OK;
    graft_status status = data_plan_make(t->mem, t->dataset, part, &options, &plan, error);
    if (status == GRAFT_OK)
        status = run_batches(t, &plan, 0, plan.n_batches, PASS_LOOK, &sum, &fed, error);
    if (status == GRAFT_OK)
        *out = sum.nll / sum.weight;
    data_plan_free(&plan);
    return status;
}

/* The plan of the epoch that the step at hand belongs to. */
static graft_status turn_epoch(struct trainer *t, int64_t epoch, graft_error *error)
{
    if (epoch == t->epoch)
        return GRAFT_OK;
    const struct data_plan_options options = plan_options(t, DATA_TRAIN, epoch);
    data_plan_free(&t->plan);
    graft_status status = data_plan_make(t->mem, t->dataset, DATA_TRAIN, &options, &t->plan, error);
    t->epoch = status == GRAFT_OK ? epoch : -1;
    return status;
}

/* ---- steps -------------------------------------------------------------------------------- */

static graft_status note_bad(struct trainer *t, const struct trainer_report *r, graft_error *error)
{
    if (++t->state.bad < t->options.bad_steps)
        return GRAFT_OK;
    return error_set(error, GRAFT_NUMERIC,
                     "%d steps in a row up to step %lld had a loss or gradient that is no number "
                     "(loss %g, norm %g): lower the learning rate, or look for odd examples",
                     t->state.bad, (long long)r->step, r->loss, r->grad_norm);
}

static graft_status take_step(struct trainer *t, struct trainer_report *r, graft_error *error)
{
    int64_t step = t->state.step, index = step % t->per_epoch, each = t->options.accumulation;
    struct train_result sum;
    graft_status status = turn_epoch(t, step / t->per_epoch, error);
    if (status != GRAFT_OK)
        return status;
    int64_t first = index * each, last = first + each;
    last = last < t->plan.n_batches ? last : t->plan.n_batches;
    trainable_zero_grads(t->trainable);
    status = run_batches(t, &t->plan, first, last, PASS_LEARN, &sum, &r->fed, error);
    if (status != GRAFT_OK)
        return status;
    r->rate = schedule_rate(&t->schedule, step);
    r->loss = sum.nll / sum.weight;
    r->tokens = sum.n_targets;
    if (t->ewc.tasks)
        r->penalty = ewc_pull(&t->ewc, t->model->runtime, t->trainable->values, sum.weight,
                              t->trainable->grads);
    r->grad_norm =
        optimiser_norm(&t->optimiser, t->model->runtime, t->trainable->grads) / sum.weight;
    r->skipped = !isfinite(r->loss) || !isfinite(r->grad_norm);
    t->state.step++;
    r->step = t->state.step;
    r->epoch = (double)t->state.step / (double)t->per_epoch;
    if (r->skipped)
        return note_bad(t, r, error);
    t->state.bad = 0;
    t->state.last_loss = r->loss;
    double most = t->options.max_norm;
    double clip = most > 0 ? fmin(1, most / (r->grad_norm + 1e-6)) : 1;
    optimiser_step(&t->optimiser, t->model->runtime, t->trainable->parts, t->trainable->n_parts,
                   t->trainable->values, t->trainable->grads, r->rate, clip / sum.weight);
    if (t->muon) {
        struct schedule matrices = t->schedule;
        matrices.rate = t->options.muon_rate;
        muon_step(t->muon, &t->options.optimiser, t->trainable->values, t->optimiser.m,
                  t->trainable->grads, schedule_rate(&matrices, step), clip / sum.weight);
    }
    return train_tape_refresh(t->tape, error);
}

/* ---- between steps ------------------------------------------------------------------------ */

static bool is_due(int64_t step, int64_t every, int64_t otherwise, int64_t last)
{
    return step == last || step % (every ? every : otherwise) == 0;
}

static graft_status validate(struct trainer *t, struct trainer_report *r, graft_error *error)
{
    struct trainer_state *s = &t->state;
    struct train_result sum;
    int64_t fed = 0;
    graft_status status =
        run_batches(t, &t->valid, 0, t->valid.n_batches, PASS_LOOK, &sum, &fed, error);
    if (status != GRAFT_OK)
        return status;
    r->valid_loss = s->last_valid = sum.nll / sum.weight;
    if (s->step == 0) {
        s->first_valid = r->valid_loss;
        return GRAFT_OK;
    }
    if (isnan(s->best_loss) || r->valid_loss < s->best_loss - t->options.min_improvement) {
        s->best_loss = r->valid_loss;
        s->best_step = s->step;
        s->stale = 0;
        memcpy(t->best, t->trainable->values, (size_t)t->trainable->n_values * sizeof *t->best);
    } else {
        s->stale++;
    }
    return GRAFT_OK;
}

/* Validation, history and checkpoint, in this order: what the checkpoint says of the others is then true. */
static graft_status close_step(struct trainer *t, struct trainer_report *r, graft_error *error)
{
    const struct trainer_options *o = &t->options;
    const int64_t step = t->state.step, last = t->schedule.steps;
    graft_status status = GRAFT_OK;
    bool evaluated = t->valid.n_batches && is_due(step, o->eval_steps, t->per_epoch, last);
    if (evaluated)
        status = validate(t, r, error);
    t->state.over = o->patience && t->state.stale >= o->patience;
    r->best_loss = t->state.best_loss;
    r->best_step = t->state.best_step;
    if (status != GRAFT_OK || !o->run)
        return status;
    status = history_add(&t->history, r, error);
    bool due =
        o->save_steps ? step % o->save_steps == 0 : is_due(step, o->eval_steps, t->per_epoch, last);
    if (status == GRAFT_OK && (due || step == last || t->state.over)) {
        status = checkpoint_write(t, error);
        r->saved = status == GRAFT_OK;
    }
    return status;
}

static graft_status begin(struct trainer *t, graft_error *error)
{
    graft_status status = GRAFT_OK;
    if (!t->options.run || t->history.file)
        return GRAFT_OK;
    char *path = path_join(t->mem, t->options.run, CHECKPOINT_NAME);
    if (!path)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    if (path_exists(path)) {
        status = error_set(error, GRAFT_INVALID_ARGUMENT,
                           "is of a run that is there already: resume it, or remove it");
        error_at_file(error, path);
    } else {
        status = history_open(&t->history, t->mem, t->options.run, 0, error);
    }
    mem_free(t->mem, path);
    return status;
}

static struct trainer_report report_of(const struct trainer *t)
{
    return (struct trainer_report){.step = t->state.step,
                                   .steps = t->schedule.steps,
                                   .epoch = (double)t->state.step / (double)t->per_epoch,
                                   .loss = NAN,
                                   .penalty = NAN,
                                   .grad_norm = NAN,
                                   .valid_loss = NAN,
                                   .best_loss = t->state.best_loss,
                                   .best_step = t->state.best_step};
}

/* The loss that the run begins with. */
static graft_status first_report(struct trainer *t, trainer_step_fn step, void *user, bool *go_on,
                                 graft_error *error)
{
    struct trainer_report r = report_of(t);
    if (t->state.step || !isnan(t->state.first_valid) || !t->valid.n_batches ||
        !t->options.eval_first)
        return GRAFT_OK;
    graft_status status = validate(t, &r, error);
    if (status == GRAFT_OK && t->options.run)
        status = history_add(&t->history, &r, error);
    if (status == GRAFT_OK && step)
        *go_on = step(user, &r);
    return status;
}

/* ---- after the last step ------------------------------------------------------------------ */

/* The best values in place of the last, and back. */
static graft_status swap_values(struct trainer *t, graft_error *error)
{
    float *a = t->trainable->values, *b = t->best;
    if (trainer_values(t) != b)
        return GRAFT_OK;
    for (int64_t i = 0; i < t->trainable->n_values; i++) {
        float x = a[i];
        a[i] = b[i];
        b[i] = x;
    }
    return train_tape_refresh(t->tape, error);
}

/* The gradient of one example alone, squared. One whose gradient is no number tells nothing. */
static graft_status measure_example(struct trainer *t, const struct data_plan *plan, int64_t i,
                                    graft_error *error)
{
    const graft_runtime *runtime = t->model->runtime;
    struct train_result one;
    int64_t fed = 0;
    trainable_zero_grads(t->trainable);
    graft_status status = run_batches(t, plan, i, i + 1, PASS_MEASURE, &one, &fed, error);
    if (status == GRAFT_OK && one.weight > 0 &&
        isfinite(optimiser_norm(&t->optimiser, runtime, t->trainable->grads)))
        ewc_add(&t->ewc, runtime, t->trainable->grads, one.weight);
    return status;
}

/* What the values that are written matter to this task. */
static graft_status measure(struct trainer *t, graft_error *error)
{
    const struct data_plan_options options = {.rows = 1};
    struct data_plan plan = {.mem = NULL};
    graft_status status = data_plan_make(t->mem, t->dataset, DATA_TRAIN, &options, &plan, error);
    if (status == GRAFT_OK)
        status = swap_values(t, error);
    if (status == GRAFT_OK) {
        const int64_t n = plan.n_batches < EWC_EXAMPLES ? plan.n_batches : EWC_EXAMPLES;
        trainable_frozen_grads(t->trainable, true);
        ewc_begin(&t->ewc);
        for (int64_t i = 0; i < n && status == GRAFT_OK; i++)
            status = measure_example(t, &plan, i * plan.n_batches / n, error);
        trainable_frozen_grads(t->trainable, false);
        trainable_zero_grads(t->trainable);
        graft_status swapped = swap_values(t, error);
        status = status == GRAFT_OK ? swapped : status;
    }
    if (status == GRAFT_OK)
        ewc_end(&t->ewc);
    data_plan_free(&plan);
    return status;
}

graft_status trainer_run(struct trainer *t, trainer_step_fn step, void *user,
                         struct trainer_outcome *out, graft_error *error)
{
    bool go_on = true;
    graft_status status = begin(t, error);
    if (status == GRAFT_OK)
        status = first_report(t, step, user, &go_on, error);
    while (status == GRAFT_OK && go_on && !t->state.over && t->state.step < t->schedule.steps) {
        struct trainer_report r = report_of(t);
        status = take_step(t, &r, error);
        if (status == GRAFT_OK)
            status = close_step(t, &r, error);
        if (status == GRAFT_OK && step)
            go_on = step(user, &r);
    }
    if (status == GRAFT_OK && !go_on && t->options.run)
        status = checkpoint_write(t, error);
    if (status == GRAFT_OK && t->options.ewc &&
        (t->state.over || t->state.step == t->schedule.steps))
        status = measure(t, error);
    if (status != GRAFT_OK)
        return status;
    const struct trainer_state *s = &t->state;
    *out = (struct trainer_outcome){.end = s->over                       ? TRAINER_EARLY
                                           : s->step < t->schedule.steps ? TRAINER_STOPPED
                                                                         : TRAINER_DONE,
                                    .step = s->step,
                                    .first_valid = s->first_valid,
                                    .last_valid = s->last_valid,
                                    .best_loss = s->best_loss,
                                    .best_step = s->best_step,
                                    .last_loss = s->last_loss};
    return GRAFT_OK;
}

const float *trainer_values(const struct trainer *t)
{
    return t->best && !isnan(t->state.best_loss) ? t->best : t->trainable->values;
}

static graft_status write_beside(const void *user, const char *dir, graft_error *error)
{
    const struct trainer *t = user;
    return ewc_write(&t->ewc, t->trainable, trainer_values(t), dir, error);
}

graft_status trainer_write(const struct trainer *t, const char *path,
                           const struct trainable_output *output, graft_error *error)
{
    struct trainable_output all = *output;
    if (t->options.ewc) {
        if (output->format == ADAPTER_GGUF)
            return error_set(error, GRAFT_UNSUPPORTED,
                             "what EWC leaves to the next task lies in the adapter's folder, and a "
                             "GGUF is a file: write PEFT or MLX, and convert that");
        if (!t->ewc.measured)
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "with EWC an adapter is written when its run is over: what it leaves "
                             "to the next task is measured then");
        all.beside = write_beside;
        all.user = t;
    }
    return trainable_write(t->trainable, trainer_values(t), path, &all, error);
}
