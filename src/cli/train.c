/* train.c: `graft train`: examples in, an adapter out.
 *
 * The adapter appears whole when the run is over. Until then, and afterwards, everything about the run lies beside it in
 * OUT.run: history, timing, the checkpoint.
 */
#include "train.h"
#include "adapter.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <sys/stat.h>

enum {
    KEY_RANK = 0x700,
    KEY_ALPHA,
    KEY_DROPOUT,
    KEY_TARGETS,
    KEY_RSLORA,
    KEY_DORA,
    KEY_BIAS,
    KEY_INIT,
    KEY_PRESET,
    KEY_NAME,
    KEY_DESCRIPTION,
    KEY_EPOCHS,
    KEY_STEPS,
    KEY_BATCH,
    KEY_ACCUMULATE,
    KEY_RATE,
    KEY_SCHEDULE,
    KEY_WARMUP,
    KEY_DECAY,
    KEY_LORAPLUS,
    KEY_NORM,
    KEY_EVAL,
    KEY_SAVE,
    KEY_PATIENCE,
    KEY_IMPROVEMENT,
    KEY_EWC,
    KEY_LAMBDA,
    KEY_EWC_DECAY,
    KEY_PACKING,
    KEY_NO_SHUFFLE,
    KEY_NO_CHECKPOINTING,
    KEY_F32,
    KEY_FORMAT,
    KEY_TYPE,
    KEY_RUN,
    KEY_RESUME,
    KEY_SAMPLES,
    KEY_DRY,
    KEY_CONFIG,
    KEY_SET
};
enum { MAX_TARGETS = 64 };

/* ---- options ------------------------------------------------------------------------------- */

static const char *target_names[MAX_TARGETS]; /* of the one recipe of this process */
static char target_texts[4096];

/* The command line is read twice: it stays as it is. */
static void read_targets(struct argp_state *state, const char *arg, graft_adapter_recipe *recipe)
{
    char *left = NULL;
    size_t n = 0;
    if ((size_t)snprintf(target_texts, sizeof target_texts, "%s", arg) >= sizeof target_texts) {
        argp_error(state, "--targets: the list is too long");
    }
    for (char *word = strtok_r(target_texts, ", ", &left); word != NULL;
         word = strtok_r(NULL, ", ", &left)) {
        if (n == MAX_TARGETS) {
            argp_error(state, "--targets: at most %d names", MAX_TARGETS);
        }
        target_names[n++] = word;
    }
    if (n == 0) {
        argp_error(state, "--targets: the list is empty");
    }
    recipe->targets = target_names;
    recipe->n_targets = n;
}

static void collect(struct argp_state *state, const char *option, const char *arg,
                    const char *list[TRAIN_TYPED], int *n)
{
    if (*n == TRAIN_TYPED) {
        argp_error(state, "%s: at most %d times", option, TRAIN_TYPED);
    }
    list[(*n)++] = arg;
}

static error_t parse_recipe(int key, char *arg, struct argp_state *state)
{
    struct train_args *a = state->input;
    graft_adapter_recipe *r = &a->recipe;
    switch (key) {
    case KEY_PRESET:
        collect(state, "--preset", arg, a->typed.presets, &a->typed.n_presets);
        return 0;
    case KEY_SET:
        collect(state, "--set", arg, a->typed.sets, &a->typed.n_sets);
        return 0;
    case KEY_CONFIG:
        a->typed.config = cli_parse_name(state, "--config", arg);
        return 0;
    case KEY_RANK:
        r->rank = (int)cli_parse_int(state, "--rank", arg, 1, 65536);
        return 0;
    case KEY_ALPHA:
        r->alpha = cli_parse_number(state, "--alpha", arg, 1e-6, 1e6);
        return 0;
    case KEY_DROPOUT:
        r->dropout = cli_parse_number(state, "--dropout", arg, 0, 0.999999);
        return 0;
    case KEY_TARGETS:
        read_targets(state, arg, r);
        return 0;
    case KEY_RSLORA:
        r->rslora = true;
        return 0;
    case KEY_DORA:
        a->options.use_dora = true;
        return 0;
    case KEY_BIAS:
        a->options.lora_bias = true;
        return 0;
    case KEY_INIT:
        a->options.init = cli_parse_name(state, "--init", arg);
        return 0;
    case KEY_NAME:
        r->name = cli_parse_name(state, "--name", arg);
        return 0;
    case KEY_DESCRIPTION:
        r->description = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* "0.1" is a share of the steps, "20" is steps. */
static void read_warmup(struct argp_state *state, const char *arg, graft_train_options *o)
{
    double value = cli_parse_number(state, "--warmup", arg, 0, 1e9);
    bool share = value < 1;
    if (!share && value != floor(value)) {
        argp_error(state, "--warmup: steps, or a share below 1, not %s", arg);
    }
    o->warmup_steps = share ? -1 : (int64_t)value;
    o->warmup_ratio = share ? value : 0;
}

static error_t parse_steps(int key, char *arg, struct argp_state *state)
{
    graft_train_options *o = &((struct train_args *)state->input)->options;
    switch (key) {
    case KEY_EPOCHS:
        o->num_epochs = cli_parse_number(state, "--epochs", arg, 1e-6, 1e6);
        return 0;
    case KEY_STEPS:
        o->max_steps = cli_parse_int(state, "--steps", arg, 1, INT64_C(1000000000));
        return 0;
    case KEY_BATCH:
        o->batch_size = (int)cli_parse_int(state, "--batch-size", arg, 1, 65536);
        return 0;
    case KEY_ACCUMULATE:
        o->gradient_accumulation_steps = (int)cli_parse_int(state, "--accumulate", arg, 1, 65536);
        return 0;
    case KEY_RATE:
        o->learning_rate = cli_parse_number(state, "--learning-rate", arg, 0, 1000);
        return 0;
    case KEY_SCHEDULE:
        o->lr_scheduler = cli_parse_name(state, "--schedule", arg);
        return 0;
    case KEY_WARMUP:
        read_warmup(state, arg, o);
        return 0;
    case KEY_DECAY:
        o->weight_decay = cli_parse_number(state, "--weight-decay", arg, 0, 1000);
        return 0;
    case KEY_LORAPLUS:
        o->loraplus_lr_ratio = cli_parse_number(state, "--loraplus", arg, 1e-6, 1e6);
        return 0;
    case KEY_LAMBDA:
        o->ewc_lambda = cli_parse_number(state, "--ewc-lambda", arg, 0, 1e30);
        return 0;
    case KEY_EWC_DECAY:
        o->ewc_decay = cli_parse_number(state, "--ewc-decay", arg, 0, 1);
        return 0;
    case KEY_NORM:
        o->max_grad_norm = cli_parse_number(state, "--max-grad-norm", arg, 0, 1e30);
        return 0;
    default:
        return parse_recipe(key, arg, state);
    }
}

static graft_adapter_format parse_format(struct argp_state *state, const char *arg)
{
    static const char *const names[] = {"peft", "mlx", "gguf"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(arg, names[i]) == 0) {
            return (graft_adapter_format)i;
        }
    }
    argp_error(state, "--format: \"%s\" is none of peft, mlx, gguf", arg);
    return GRAFT_ADAPTER_PEFT;
}

static error_t parse_switches(int key, char *arg, struct argp_state *state)
{
    struct train_args *a = state->input;
    (void)arg;
    switch (key) {
    case KEY_PACKING:
        a->options.packing = true;
        return 0;
    case KEY_NO_SHUFFLE:
        a->options.shuffle = false;
        return 0;
    case KEY_NO_CHECKPOINTING:
        a->options.gradient_checkpointing = false;
        return 0;
    case KEY_F32:
        a->options.bf16 = false;
        return 0;
    case KEY_EWC:
        a->options.ewc = true;
        return 0;
    case KEY_RESUME:
        a->resume = true;
        return 0;
    case KEY_DRY:
        a->dry_run = a->out.optional = true;
        return 0;
    default:
        return parse_steps(key, arg, state);
    }
}

static error_t parse_train(int key, char *arg, struct argp_state *state)
{
    struct train_args *a = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->out;
        state->child_inputs[1] = &a->data;
        state->child_inputs[2] = &a->common;
        return 0;
    case 'd':
        a->data.path = cli_parse_name(state, "--data", arg);
        return 0;
    case 'a':
        a->options.adapter = cli_parse_name(state, "--adapter", arg);
        return 0;
    case KEY_EVAL:
        a->options.eval_steps = cli_parse_int(state, "--eval-steps", arg, 0, INT32_MAX);
        return 0;
    case KEY_SAVE:
        a->options.save_steps = cli_parse_int(state, "--save-steps", arg, 0, INT32_MAX);
        return 0;
    case KEY_PATIENCE:
        a->options.patience = (int)cli_parse_int(state, "--patience", arg, 0, 1000000);
        return 0;
    case KEY_IMPROVEMENT:
        a->options.min_improvement = cli_parse_number(state, "--min-improvement", arg, 0, 1e30);
        return 0;
    case KEY_FORMAT:
        a->format = parse_format(state, arg);
        return 0;
    case KEY_TYPE:
        a->type = cli_parse_name(state, "--type", arg);
        return 0;
    case KEY_SAMPLES:
        a->samples = (int)cli_parse_int(state, "--samples", arg, 0, TRAIN_SAMPLES);
        return 0;
    case KEY_RUN:
        a->run = cli_parse_name(state, "--run", arg);
        return 0;
    default:
        return parse_switches(key, arg, state);
    }
}

static const struct argp_option train_options[] = {
    {"data", 'd', "FILE|DIR", 0, "Examples; `graft data check` looks at them first", 1},
    {"adapter", 'a', "ADAPTER", 0, "Go on with this one (a path), as it is", 1},
    {"config", KEY_CONFIG, "FILE", 0, "Settings, as YAML or JSON; options go first", 1},
    {"set", KEY_SET, "KEY=VALUE", 0, "One setting by its name; `graft train settings` lists them",
     1},
    {"format", KEY_FORMAT, "FORMAT", 0, "peft (default), mlx or gguf", 1},
    {"type", KEY_TYPE, "TYPE", 0, "Of the factors in the file: f32 (default), f16, bf16", 1},
    {"run", KEY_RUN, "DIR", 0, "History and checkpoint; default: OUT.run", 1},
    {"resume", KEY_RESUME, NULL, 0, "Go on from the checkpoint there", 1},
    {"samples", KEY_SAMPLES, "N", 0, "Answers before and after that are kept; default 3", 1},
    {"dry-run", KEY_DRY, NULL, 0, "Say what it would take: steps, memory, time; train nothing", 1},
    {NULL, 0, NULL, 0, "The adapter:", 3},
    {"preset", KEY_PRESET, "NAME", 0,
     "quick or stable; coder, researcher, security, architect or reviewer; or one of each", 3},
    {"rank", KEY_RANK, "R", 0, "Default 8", 3},
    {"alpha", KEY_ALPHA, "A", 0, "The scale is A / R; default 16", 3},
    {"dropout", KEY_DROPOUT, "P", 0, "Of the inputs of A; default 0", 3},
    {"targets", KEY_TARGETS, "LIST", 0, "Linear layers, as q_proj,v_proj (default), or all-linear",
     3},
    {"rslora", KEY_RSLORA, NULL, 0, "The scale is A / sqrt(R)", 3},
    {"dora", KEY_DORA, NULL, 0, "Magnitudes too", 3},
    {"lora-bias", KEY_BIAS, NULL, 0, "A bias beside each B", 3},
    {"init", KEY_INIT, "NAME", 0,
     "How factors begin: default, gaussian, pissa or olora (parts of the weights)", 3},
    {"name", KEY_NAME, "NAME", 0, "On its card; default: the preset's, or \"adapter\"", 3},
    {"description", KEY_DESCRIPTION, "TEXT", 0, "What it is for", 3},
    {NULL, 0, NULL, 0, "Steps:", 4},
    {"epochs", KEY_EPOCHS, "N", 0, "Default 3", 4},
    {"steps", KEY_STEPS, "N", 0, "In place of epochs", 4},
    {"batch-size", KEY_BATCH, "N", 0, "Sequences that go through the model at once; default 4", 4},
    {"accumulate", KEY_ACCUMULATE, "N", 0, "Batches in a step; default 1", 4},
    {"learning-rate", KEY_RATE, "X", 0, "Default 2e-4", 4},
    {"lr", 0, NULL, OPTION_ALIAS, NULL, 4},
    {"schedule", KEY_SCHEDULE, "NAME", 0,
     "constant, linear, cosine (default), exponential, step or one_cycle", 4},
    {"warmup", KEY_WARMUP, "N", 0, "Steps, or a share of them; default 0.03", 4},
    {"weight-decay", KEY_DECAY, "X", 0, "Default 0.01", 4},
    {"loraplus", KEY_LORAPLUS, "X", 0, "The rate of B in rates of A; 16 is usual; default 1", 4},
    {"max-grad-norm", KEY_NORM, "X", 0, "Default 1; 0: gradients are not clipped", 4},
    {"ewc", KEY_EWC, NULL, 0,
     "Tasks one after the other: hold what those before learned (-a), keep what the next has to",
     4},
    {"ewc-lambda", KEY_LAMBDA, "X", 0, "How firmly; default 2000", 4},
    {"ewc-decay", KEY_EWC_DECAY, "X", 0, "Of what earlier tasks need, by task; default 0.999", 4},
    {"packing", KEY_PACKING, NULL, 0, "Short examples share a sequence, unseen by each other", 4},
    {"no-shuffle", KEY_NO_SHUFFLE, NULL, 0, "In the order of the file", 4},
    {"no-checkpointing", KEY_NO_CHECKPOINTING, NULL, 0, "Keep activations: faster, more memory", 4},
    {"f32", KEY_F32, NULL, 0, "Compute with floats, not bf16", 4},
    {NULL, 0, NULL, 0, "Validation:", 5},
    {"eval-steps", KEY_EVAL, "N", 0, "Steps between two; default: an epoch", 5},
    {"save-steps", KEY_SAVE, "N", 0, "Steps between checkpoints; default: with each validation", 5},
    {"patience", KEY_PATIENCE, "N", 0,
     "End after so many without a better loss; default 3; 0: never", 5},
    {"min-improvement", KEY_IMPROVEMENT, "X", 0, "What counts as better; default 0", 5},
    {0},
};
static const struct argp_child train_children[] = {{&cli_output_argp, 0, NULL, 0},
                                                   {&cli_data_argp, 0, NULL, 0},
                                                   {&cli_common_argp, 0, NULL, 0},
                                                   {0}};
static const struct argp train_argp = {
    .options = train_options,
    .parser = parse_train,
    .children = train_children,
    .doc =
        "Train an adapter on examples. The model's weights stay as they are, quantised or not. "
        "Of the validations after its steps the best adapter is written.\v"
        "Examples:\n"
        "  graft train -m DIR -d examples.jsonl -o my-skill\n"
        "  graft train -m model.gguf -d data/ --preset coder --dora -o my-coder\n"
        "  graft train -m DIR -d examples.jsonl -o my-skill --dry-run\n"
        "  graft train -m DIR -d examples.jsonl -o my-skill --resume\n"
        "  graft train --config train.yaml --preset quick --set lora_alpha=32\n\n"
        "`graft train plot RUN` draws a run, `graft train report RUN` makes a page of it, `graft "
        "train settings` lists the names for --set and --config.\n"};

/* ---- where things go ------------------------------------------------------------------------ */

/* Absent, or an empty folder: known before hours are spent. */
static int check_output(const struct train_args *a)
{
    const char *path = a->out.path;
    if (a->options.ewc && a->format == GRAFT_ADAPTER_GGUF) {
        return cli_fail_text("--ewc keeps its state in the adapter's folder, and a GGUF is a file: "
                             "--format peft or mlx, and graft adapter convert later");
    }
    if (a->format == GRAFT_ADAPTER_GGUF) {
        return path_is_dir(path) ? cli_fail_text("%s: is a folder; a GGUF is a file", path)
                                 : CLI_OK;
    }
    if (!path_exists(path)) {
        return CLI_OK;
    }
    DIR *dir = opendir(path);
    bool empty = dir != NULL;
    for (struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir)) {
        empty = empty && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return empty ? CLI_OK
                 : cli_fail_text("%s: is there already; choose another -o, or remove it", path);
}

/* OUT.run without a slash at the end of OUT. */
static int name_run(const struct train_args *a, char out[PATH_MAX])
{
    size_t n = a->out.path != NULL ? strlen(a->out.path) : 0;
    while (n > 1 && a->out.path[n - 1] == '/') {
        n--;
    }
    int length = a->run != NULL ? snprintf(out, PATH_MAX, "%s", a->run)
                                : snprintf(out, PATH_MAX, "%.*s.run", (int)n, a->out.path);
    return length < PATH_MAX ? CLI_OK : cli_fail_text("the name of the run's folder is too long");
}

/* A run that is there is neither gone on with nor lost by accident. */
static int check_run(const char *run, bool resume)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", run);
    if (path_exists(path) && !resume) {
        return cli_fail_text(
            "%s: holds a run; --resume goes on with it, or remove the folder to begin anew", run);
    }
    if (resume && !path_exists(path)) {
        return cli_fail_text("%s: there is no checkpoint to go on from", run);
    }
    if (mkdir(run, 0777) != 0 && errno != EEXIST) {
        return cli_fail_text("%s: cannot make the folder: %s", run, strerror(errno));
    }
    return CLI_OK;
}

/* ---- what is told --------------------------------------------------------------------------- */

static void print_plan(const struct train_args *a, const graft_train_plan *p)
{
    char values[CLI_SIZE_TEXT], activations[CLI_SIZE_TEXT];
    cli_size_text(p->value_bytes, values);
    cli_size_text(p->activation_bytes, activations);
    fprintf(stderr,
            "%lld values are trained in %lld steps (%lld an epoch, %lld of warmup)\n"
            "an epoch feeds %lld tokens, of which %lld are learned\n"
            "memory beside the weights: %s of values, gradients and moments; up to %s of "
            "activations%s\n",
            (long long)p->trained_values, (long long)p->steps, (long long)p->steps_per_epoch,
            (long long)p->warmup_steps, (long long)p->tokens_per_epoch,
            (long long)p->learned_per_epoch, values, activations,
            a->options.gradient_checkpointing ? "" : " (less without --no-checkpointing)");
}

static int print_outcome(const struct train_args *a, const graft_train_outcome *o, const char *run,
                         double seconds)
{
    static const char *const ends[] = {"done", "early", "stopped"};
    char time[TRAIN_TIME_TEXT];
    bool written = o->end != GRAFT_TRAIN_STOPPED;
    if (a->common.json) {
        json_t *json = json_pack(
            "{s:s, s:I, s:o, s:o, s:o, s:f}", "end", ends[o->end], "step", (json_int_t)o->step,
            "loss", isnan(o->last_loss) ? json_null() : json_real(o->last_loss), "output",
            written ? cli_json_text(a->out.path, strlen(a->out.path)) : json_null(), "run",
            cli_json_text(run, strlen(run)), "seconds", seconds);
        if (!isnan(o->best_valid)) {
            json_put(&json, "valid_loss", json_real(o->best_valid));
            json_put(&json, "best_step", json_integer(o->best_step));
        }
        if (!isnan(o->first_valid)) {
            json_put(&json, "valid_loss_before", json_real(o->first_valid));
        }
        return cli_print_json(json);
    }
    if (a->common.quiet) {
        return CLI_OK;
    }
    train_time_text(seconds, time);
    if (!written) {
        printf("stopped after step %lld; --resume goes on from %s\n", (long long)o->step, run);
        return CLI_OK;
    }
    printf("%s: %lld steps in %s%s", a->out.path, (long long)o->step, time,
           o->end == GRAFT_TRAIN_EARLY ? ", ended early" : "");
    if (!isnan(o->best_valid)) {
        printf(", validation loss ");
        if (!isnan(o->first_valid)) {
            printf("%.4f -> ", o->first_valid);
        }
        printf("%.4f at step %lld", o->best_valid, (long long)o->best_step);
    }
    printf("\n");
    return CLI_OK;
}

/* "training" of the card. */
static char *make_about(const struct train_args *a, const graft_train_outcome *o,
                        const graft_dataset *data)
{
    const graft_train_options *t = &a->options;
    json_t *json =
        json_pack("{s:o, s:I, s:I, s:I, s:f, s:s, s:i, s:i}", "data",
                  cli_json_text(path_base(a->data.path), strlen(path_base(a->data.path))),
                  "examples", (json_int_t)graft_dataset_count(data, GRAFT_PART_TRAIN), "steps",
                  (json_int_t)o->step, "best_step", (json_int_t)o->best_step, "learning_rate",
                  t->learning_rate, "schedule", t->lr_scheduler, "batch_size", t->batch_size,
                  "gradient_accumulation_steps", t->gradient_accumulation_steps);
    json_put(&json, "seed", json_integer((json_int_t)t->seed));
    if (!isnan(o->best_valid)) {
        json_put(&json, "valid_loss", json_real(o->best_valid));
    }
    if (!isnan(o->first_valid)) {
        json_put(&json, "valid_loss_before", json_real(o->first_valid));
    }
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    return text;
}

/* ---- the run -------------------------------------------------------------------------------- */

static bool tell(void *user, const graft_train_step *step)
{
    train_line_step(user, step);
    return !cli_interrupted();
}

enum { DRY_STEPS = 2 };
struct dry_run {
    int64_t fed, steps;
    double begun, seconds; /* of what was fed */
};

static bool tell_dry(void *user, const graft_train_step *step)
{
    struct dry_run *d = user;
    d->fed += step->fed;
    d->steps++;
    d->seconds = time_seconds() - d->begun;
    return d->steps < DRY_STEPS && !cli_interrupted();
}

/* The time by two real steps, whose results are forgotten. */
static int dry_run(const struct train_args *a, graft_trainer *trainer, const graft_train_plan *plan)
{
    struct dry_run d = {.begun = time_seconds()};
    graft_train_outcome outcome;
    graft_error error = {0};
    char time[TRAIN_TIME_TEXT], size[CLI_SIZE_TEXT];
    if (graft_trainer_run(trainer, tell_dry, &d, &outcome, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    double speed = (double)d.fed / fmax(d.seconds, 1e-9);
    double epochs = (double)plan->steps / (double)plan->steps_per_epoch;
    double seconds = epochs * (double)plan->tokens_per_epoch / speed;
    if (a->common.json) {
        return cli_print_json(json_pack(
            "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "steps", (json_int_t)plan->steps,
            "steps_per_epoch", (json_int_t)plan->steps_per_epoch, "tokens_per_epoch",
            (json_int_t)plan->tokens_per_epoch, "trained_values", (json_int_t)plan->trained_values,
            "value_bytes", (json_int_t)plan->value_bytes, "activation_bytes",
            (json_int_t)plan->activation_bytes, "resident_bytes", (json_int_t)train_memory(),
            "tokens_per_second", speed, "seconds", seconds));
    }
    train_time_text(seconds, time);
    cli_size_text(train_memory(), size);
    printf("%.0f tokens/s in %d steps: about %s for %lld steps, without validation; %s of memory "
           "beside the weights so far\n",
           speed, (int)d.steps, time, (long long)plan->steps, size);
    return CLI_OK;
}

static int write_adapter(const struct train_args *a, const graft_trainer *trainer,
                         const graft_train_outcome *outcome, const graft_dataset *data)
{
    graft_error error = {0};
    char *about = make_about(a, outcome, data);
    graft_status status =
        graft_trainer_write(trainer, a->out.path, a->format, a->type, about, &error);
    free(about);
    return status == GRAFT_OK ? CLI_OK : cli_fail_writing(&error);
}

static int run_all(const struct train_args *a, graft_trainer *trainer, const char *run,
                   const graft_dataset *data, struct train_samples *samples)
{
    char path[PATH_MAX + 32];
    struct train_line line;
    graft_train_outcome outcome;
    graft_error error = {0};
    snprintf(path, sizeof path, "%s/timing.jsonl", run);
    FILE *timing = fopen(path, a->resume ? "ae" : "we");
    double begun = time_seconds();
    train_line_begin(&line, a->common.quiet, timing);
    graft_status status = graft_trainer_run(trainer, tell, &line, &outcome, &error);
    train_line_end(&line);
    if (timing != NULL) {
        fclose(timing);
    }
    if (status != GRAFT_OK) {
        return cli_fail(&error);
    }
    int done = CLI_OK;
    if (outcome.end != GRAFT_TRAIN_STOPPED) {
        done = write_adapter(a, trainer, &outcome, data);
        if (done == CLI_OK) {
            done = train_samples_end(samples, a->out.path, run);
        }
    }
    if (done == CLI_OK) {
        done = print_outcome(a, &outcome, run, time_seconds() - begun);
    }
    return done == CLI_OK && outcome.end == GRAFT_TRAIN_STOPPED ? CLI_FAILED : done;
}

static int train_on(const struct train_args *a, struct cli_session *s, const graft_dataset *data,
                    const char *run)
{
    graft_train_options options = a->options;
    graft_adapter_recipe recipe = a->recipe;
    struct cli_progress progress;
    graft_trainer *trainer = NULL;
    graft_train_plan plan;
    graft_error error = {0};
    recipe.progress = cli_progress_step;
    recipe.progress_user = &progress;
    options.recipe = &recipe;
    options.seed = a->data.options.seed;
    options.run = a->dry_run ? NULL : run;
    options.eval_on_start = options.eval_on_start && !a->dry_run;
    if (a->dry_run) {
        options.patience = 0;
        options.eval_steps = INT32_MAX;
    }
    cli_progress_begin(&progress, "beginning", a->common.quiet);
    graft_status status = graft_trainer_open(s->model, data, &options, &trainer, &error);
    cli_progress_end(&progress);
    if (status == GRAFT_OK) {
        status = graft_trainer_plan(trainer, &plan, &error);
    }
    if (status == GRAFT_OK && a->resume) {
        status = graft_trainer_resume(trainer, &error);
    }
    int done = status == GRAFT_OK ? CLI_OK : cli_fail(&error);
    if (done == CLI_OK && !a->common.quiet && !a->resume) {
        train_tell_data(s->runtime, data);
        print_plan(a, &plan);
    }
    if (done == CLI_OK && a->dry_run) {
        done = dry_run(a, trainer, &plan);
    } else if (done == CLI_OK) {
        struct train_samples samples;
        done = train_samples_begin(&samples, a, s, data);
        if (done == CLI_OK) {
            done = run_all(a, trainer, run, data, &samples);
        }
        train_samples_free(&samples);
    }
    graft_trainer_close(&trainer);
    return done;
}

/* An adapter that is continued stays what it is; what was asked for in its place is not passed over in silence. */
static void tell_continued(const struct train_args *a)
{
    const graft_adapter_recipe fresh = graft_adapter_recipe_default(), *r = &a->recipe;
    bool same = r->rank == fresh.rank && r->alpha == fresh.alpha && r->dropout == fresh.dropout &&
                r->rslora == fresh.rslora && r->n_targets == fresh.n_targets &&
                !a->options.use_dora && !a->options.lora_bias;
    for (size_t i = 0; i < r->n_targets && same; i++) {
        same = strcmp(r->targets[i], fresh.targets[i]) == 0;
    }
    if (a->options.adapter != NULL && !same && !a->common.quiet) {
        fprintf(stderr,
                "graft: note: %s is gone on with as it is; rank, alpha, dropout, targets, rslora, "
                "dora and lora-bias that are given beside it count for nothing\n",
                a->options.adapter);
    }
}

static int train(struct train_args *a, graft_train_config *config)
{
    char run[PATH_MAX] = "";
    struct cli_session s = {0};
    graft_dataset *data = NULL;
    int status = a->dry_run ? CLI_OK : check_output(a);
    if (status == CLI_OK && !a->dry_run) {
        status = name_run(a, run);
    }
    if (status == CLI_OK && !a->dry_run) {
        status = check_run(run, a->resume);
    }
    if (status != CLI_OK) {
        return status;
    }
    cli_catch_interrupt();
    a->common.pack = a->common.pack != NULL ? a->common.pack : "none";
    status = cli_open_model(&a->common, &s);
    if (status != CLI_OK) {
        return status;
    }
    status = train_check_layers(config, s.model);
    if (status == CLI_OK) {
        status = cli_open_data(&a->data, &s, a->common.quiet, &data);
    }
    if (status == CLI_OK && !a->dry_run && !a->resume) {
        status = train_keep(config, data, s.runtime, run);
    }
    if (status == CLI_OK) {
        status = train_on(a, &s, data, run);
    }
    graft_dataset_close(&data);
    cli_close(&s);
    return status;
}

/* Pictures and pages of a run are verbs of their own. false: `word` is none of them. */
static bool run_verb_under(const char *word, int argc, char **argv, int *status)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } verbs[] = {{"plot", verb_train_plot},
                 {"report", verb_train_report},
                 {"settings", verb_train_settings}};
    char name[32];
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strcmp(word, verbs[i].name) == 0) {
            snprintf(name, sizeof name, "graft train %s", word);
            argv[1] = name;
            *status = verbs[i].run(argc - 1, argv + 1);
            return true;
        }
    }
    return false;
}

/* Settings first, whatever stands behind them, then options: the command line is read twice. */
static void read_words(int argc, char **argv, const graft_train_config *config,
                       struct train_args *a)
{
    *a = (struct train_args){.out.what = "OUT", .samples = 3};
    cli_data_init(&a->data);
    if (config != NULL) {
        train_from_config(config, a);
    } else {
        a->recipe = graft_adapter_recipe_default();
        a->options = graft_train_options_default();
        a->data.fallback = "";
        a->out.optional = true;
    }
    argp_parse(&train_argp, argc, argv, 0, NULL, a);
}

int verb_train(int argc, char **argv)
{
    int status;
    struct train_args args;
    graft_train_config *config = NULL;
    graft_error error = {0};
    if (argc > 1 && run_verb_under(argv[1], argc, argv, &status)) {
        return status;
    }
    read_words(argc, argv, NULL, &args);
    status = train_read_config(&args.typed, args.common.quiet, &config);
    if (status == CLI_OK) {
        read_words(argc, argv, config, &args);
        args.options.seed = args.data.options.seed;
        status = train_to_config(&args, config);
    }
    if (status == CLI_OK) { /* what depends on what else was typed is worked out there */
        const graft_train_settings *s = graft_train_config_settings(config);
        args.options.max_steps = s->train.max_steps;
        args.options.eval_steps = s->train.eval_steps;
        args.options.save_steps = s->train.save_steps;
        args.recipe.alpha = s->recipe.alpha;
    }
    if (status == CLI_OK && graft_adapter_recipe_check(&args.recipe, &error) != GRAFT_OK) {
        cli_fail(&error);
        status = CLI_USAGE;
    }
    if (status == CLI_OK) {
        tell_continued(&args);
        status = train(&args, config);
    }
    graft_train_config_close(&config);
    return status;
}
