/* train.c: the public functions on training: check, translate, call inward. */
#include "train/train.h"
#include "api/api_internal.h"

struct graft_trainer {
    graft_runtime *runtime;
    struct trainable *trainable;
    struct trainer *trainer;
    char *run;
};

/* What is trained: fine_tune_type. */
enum { KIND_LORA, KIND_FULL, KIND_COUNT };
static const char *const KINDS[KIND_COUNT] = {"lora", "full"};

/* ---- opening ------------------------------------------------------------------------------- */

void graft_train_options_init(graft_train_options *options, size_t struct_size)
{
    const struct trainer_options o = trainer_defaults();
    graft_train_options defaults = {.init = init_name(INIT_DEFAULT),
                                    .batch_size = o.rows,
                                    .gradient_accumulation_steps = o.accumulation,
                                    .packing = o.pack,
                                    .shuffle = o.shuffle,
                                    .num_epochs = o.epochs,
                                    .learning_rate = o.rate,
                                    .lr_scheduler = schedule_name(o.schedule),
                                    .warmup_steps = o.warmup_steps,
                                    .warmup_ratio = o.warmup_ratio,
                                    .adam_beta1 = o.optimiser.beta1,
                                    .adam_beta2 = o.optimiser.beta2,
                                    .adam_epsilon = o.optimiser.eps,
                                    .weight_decay = o.optimiser.weight_decay,
                                    .loraplus_lr_ratio = o.optimiser.loraplus,
                                    .max_grad_norm = o.max_norm,
                                    .gradient_checkpointing = o.checkpoint,
                                    .bf16 = o.half,
                                    .eval_on_start = o.eval_first,
                                    .patience = o.patience,
                                    .max_bad_steps = o.bad_steps,
                                    .ewc_lambda = o.ewc_options.lambda,
                                    .ewc_decay = o.ewc_options.decay,
                                    .fine_tune_type = KINDS[KIND_LORA],
                                    .optim = optim_name(o.optimiser.kind),
                                    .muon_lr = o.muon_rate,
                                    .muon_momentum = o.optimiser.momentum,
                                    .lr_decay_ratio = o.decay_ratio};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

/* Says which names there are: name(0), name(1), … of n. */
static graft_status unknown_name(const char *what, const char *given, const char *(*name)(int),
                                 int n, graft_error *error)
{
    char known[160] = "";
    size_t used = 0;
    for (int i = 0; i < n; i++) {
        used +=
            (size_t)snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", name(i));
    }
    return error_set(error, GRAFT_INVALID_ARGUMENT, "no %s \"%.40s\"; there are %s", what, given,
                     known);
}

static const char *name_of_schedule(int i)
{
    return schedule_name((enum schedule_kind)i);
}

static const char *name_of_init(int i)
{
    return init_name((enum adapter_init)i);
}

static const char *name_of_optim(int i)
{
    return optim_name((enum optim_kind)i);
}

static const char *name_of_kind(int i)
{
    return KINDS[i];
}

static graft_status find_optim(const char *name, enum optim_kind *out, graft_error *error)
{
    return optim_find(name, out)
               ? GRAFT_OK
               : unknown_name("optimiser", name, name_of_optim, OPTIM_KINDS, error);
}

static graft_status find_schedule(const char *name, enum schedule_kind *out, graft_error *error)
{
    return schedule_find(name, out)
               ? GRAFT_OK
               : unknown_name("schedule", name, name_of_schedule, SCHEDULE_KINDS, error);
}

static graft_status inner_options(const graft_train_options *o, struct trainer_options *out,
                                  graft_error *error)
{
    *out = (struct trainer_options){
        .rows = o->batch_size,
        .accumulation = o->gradient_accumulation_steps,
        .pack = o->packing,
        .shuffle = o->shuffle,
        .seed = o->seed,
        .epochs = o->num_epochs,
        .max_steps = o->max_steps,
        .rate = o->learning_rate,
        .muon_rate = o->muon_lr,
        .decay_ratio = o->lr_decay_ratio,
        .warmup_steps = o->warmup_steps < 0 ? -1 : o->warmup_steps,
        .warmup_ratio = o->warmup_ratio,
        .optimiser = {.momentum = o->muon_momentum,
                      .beta1 = o->adam_beta1,
                      .beta2 = o->adam_beta2,
                      .eps = o->adam_epsilon,
                      .weight_decay = o->weight_decay,
                      .loraplus = o->loraplus_lr_ratio},
        .max_norm = o->max_grad_norm,
        .checkpoint = o->gradient_checkpointing,
        .half = o->bf16,
        .eval_first = o->eval_on_start,
        .eval_steps = o->eval_steps,
        .patience = o->patience,
        .min_improvement = o->min_improvement,
        .bad_steps = o->max_bad_steps,
        .ewc = o->ewc,
        .ewc_options = {.lambda = o->ewc_lambda, .decay = o->ewc_decay, .from = o->adapter},
        .run = o->run,
        .save_steps = o->save_steps};
    graft_status status = find_schedule(o->lr_scheduler, &out->schedule, error);
    return status == GRAFT_OK ? find_optim(o->optim, &out->optimiser.kind, error) : status;
}

static graft_status find_init(const graft_train_options *o, enum adapter_init *out,
                              graft_error *error)
{
    if (!init_find(o->init, out)) {
        return unknown_name("beginning", o->init, name_of_init, ADAPTER_INITS, error);
    }
    if (o->adapter != NULL && *out != INIT_DEFAULT) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "an adapter that is continued goes on as it is: init \"%s\" is for new "
                         "ones; leave one of the two out",
                         o->init);
    }
    return GRAFT_OK;
}

/* Every parameter of the model: nothing of an adapter goes with it. */
static graft_status open_whole(const struct model *model, const graft_train_options *o,
                               struct trainable **out, graft_error *error)
{
    const struct trainable_options how = {.whole = true};
    const char *other = o->adapter != NULL                              ? "an adapter"
                        : o->use_dora                                   ? "use_dora"
                        : o->lora_bias                                  ? "lora_bias"
                        : strcmp(o->init, init_name(INIT_DEFAULT)) != 0 ? "an init of factors"
                                                                        : NULL;
    if (other != NULL) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "fine_tune_type full trains the model itself: leave out %s", other);
    }
    return trainable_open(model, &how, out, error);
}

static graft_status open_trainable(const struct model *model, const graft_train_options *o,
                                   struct trainable **out, graft_error *error)
{
    struct adapter_recipe recipe;
    struct trainable_options how = {
        .path = o->adapter, .dropout = -1, .dora = o->use_dora, .bias = o->lora_bias};
    if (strcmp(o->fine_tune_type, KINDS[KIND_FULL]) == 0) {
        return open_whole(model, o, out, error);
    }
    if (strcmp(o->fine_tune_type, KINDS[KIND_LORA]) != 0) {
        return unknown_name("fine_tune_type", o->fine_tune_type, name_of_kind, KIND_COUNT, error);
    }
    graft_status status = find_init(o, &how.init, error);
    if (status == GRAFT_OK && o->adapter == NULL) {
        status = recipe_read(o->recipe, &recipe, error);
        how.recipe = &recipe;
    }
    return status == GRAFT_OK ? trainable_open(model, &how, out, error) : status;
}

graft_status graft_trainer_open(graft_model *model, const graft_dataset *dataset,
                                const graft_train_options *options, graft_trainer **out,
                                graft_error *error)
{
    REQUIRE(model);
    REQUIRE(dataset);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    struct mem *mem = &model->runtime->mem;
    graft_train_options o = graft_train_options_default();
    struct trainer_options inner;
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status == GRAFT_OK) {
        REQUIRE(o.lr_scheduler);
        REQUIRE(o.init);
        REQUIRE(o.fine_tune_type);
        REQUIRE(o.optim);
        status = inner_options(&o, &inner, error);
    }
    graft_trainer *t = status == GRAFT_OK ? mem_calloc(mem, 1, sizeof *t) : NULL;
    if (status == GRAFT_OK && t == NULL) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a trainer");
    }
    if (status != GRAFT_OK) {
        return status;
    }
    t->runtime = model->runtime;
    t->run = o.run != NULL ? mem_strdup(mem, o.run) : NULL;
    inner.run = t->run;
    if (o.run != NULL && t->run == NULL) {
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    }
    if (status == GRAFT_OK) {
        status = open_trainable(model->model, &o, &t->trainable, error);
    }
    if (status == GRAFT_OK) {
        status =
            trainer_open(model->model, t->trainable, dataset->dataset, &inner, &t->trainer, error);
    }
    if (status == GRAFT_OK) {
        *out = t;
    } else {
        graft_trainer_close(&t);
    }
    return status;
}

void graft_trainer_close(graft_trainer **trainer)
{
    if (trainer == NULL || *trainer == NULL) {
        return;
    }
    graft_trainer *t = *trainer;
    *trainer = NULL;
    trainer_close(&t->trainer);
    trainable_close(&t->trainable);
    mem_free(&t->runtime->mem, t->run);
    mem_free(&t->runtime->mem, t);
}

graft_status graft_trainer_plan(const graft_trainer *trainer, graft_train_plan *out,
                                graft_error *error)
{
    REQUIRE(trainer);
    REQUIRE(out);
    struct trainer_plan plan;
    trainer_plan_of(trainer->trainer, &plan);
    *out = (graft_train_plan){.steps = plan.steps,
                              .steps_per_epoch = plan.steps_per_epoch,
                              .warmup_steps = plan.warmup,
                              .tokens_per_epoch = plan.tokens_per_epoch,
                              .learned_per_epoch = plan.learned_per_epoch,
                              .trained_values = trainer->trainable->n_trained,
                              .activation_bytes = plan.tape_bytes,
                              .value_bytes = plan.value_bytes};
    return GRAFT_OK;
}

/* ---- running ------------------------------------------------------------------------------- */

graft_status graft_trainer_resume(graft_trainer *trainer, graft_error *error)
{
    REQUIRE(trainer);
    CHECK_RUNTIME(trainer->runtime);
    return trainer_resume(trainer->trainer, error);
}

struct listener {
    graft_train_fn step;
    void *user;
};

static bool pass_on(void *user, const struct trainer_report *r)
{
    const struct listener *to = user;
    const graft_train_step step = {.step = r->step,
                                   .steps = r->steps,
                                   .epoch = r->epoch,
                                   .loss = r->loss,
                                   .penalty = r->penalty,
                                   .grad_norm = r->grad_norm,
                                   .learning_rate = r->rate,
                                   .tokens = r->tokens,
                                   .fed = r->fed,
                                   .skipped = r->skipped,
                                   .valid_loss = r->valid_loss,
                                   .best_loss = r->best_loss,
                                   .best_step = r->best_step,
                                   .saved = r->saved};
    return to->step(to->user, &step);
}

graft_status graft_trainer_run(graft_trainer *trainer, graft_train_fn step, void *user,
                               graft_train_outcome *out, graft_error *error)
{
    REQUIRE(trainer);
    REQUIRE(out);
    CHECK_RUNTIME(trainer->runtime);
    struct listener listener = {step, user};
    struct trainer_outcome o;
    graft_status status =
        trainer_run(trainer->trainer, step != NULL ? pass_on : NULL, &listener, &o, error);
    if (status != GRAFT_OK) {
        return status;
    }
    *out = (graft_train_outcome){.end = (graft_train_end)o.end,
                                 .step = o.step,
                                 .last_loss = o.last_loss,
                                 .first_valid = o.first_valid,
                                 .last_valid = o.last_valid,
                                 .best_valid = o.best_loss,
                                 .best_step = o.best_step};
    return GRAFT_OK;
}

graft_status graft_trainer_loss(graft_trainer *trainer, graft_part part, double *loss,
                                graft_error *error)
{
    REQUIRE(trainer);
    REQUIRE(loss);
    CHECK_RUNTIME(trainer->runtime);
    if ((unsigned)part >= DATA_PARTS) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "there is no part %d", (int)part);
    }
    return trainer_loss(trainer->trainer, (enum data_part)part, loss, error);
}

/* ---- writing ------------------------------------------------------------------------------- */

static graft_status read_about(const char *about, json_t **out, graft_error *error)
{
    graft_status status = about != NULL ? json_parse(about, strlen(about), out, error) : GRAFT_OK;
    if (status == GRAFT_OK && *out != NULL && !json_is_object(*out)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "what is said about it is no JSON object");
    }
    return status;
}

graft_status graft_trainer_check_format(const graft_trainer *trainer, graft_adapter_format format,
                                        graft_error *error)
{
    REQUIRE(trainer);
    if ((unsigned)format > GRAFT_ADAPTER_GGUF) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "there is no format %d", (int)format);
    }
    return trainable_check_format(trainer->trainable, (enum adapter_format)format, error);
}

graft_status graft_trainer_write(const graft_trainer *trainer, const char *path,
                                 graft_adapter_format format, const char *type, const char *about,
                                 graft_error *error)
{
    REQUIRE(trainer);
    REQUIRE(path);
    CHECK_RUNTIME(trainer->runtime);
    json_t *json = NULL;
    graft_type as = type != NULL ? graft_type_from_name(type) : trainable_type(trainer->trainable);
    if (as != GRAFT_TYPE_F32 && as != GRAFT_TYPE_F16 && as != GRAFT_TYPE_BF16) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "no type \"%.40s\": f32, f16 or bf16",
                         type);
    }
    if ((unsigned)format > GRAFT_ADAPTER_GGUF) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "there is no format %d", (int)format);
    }
    graft_status status = read_about(about, &json, error);
    if (status == GRAFT_OK) {
        const struct trainable_output output = {
            .format = (enum adapter_format)format, .type = as, .about = json};
        status = trainer_write(trainer->trainer, path, &output, error);
    }
    json_decref(json);
    return status;
}
