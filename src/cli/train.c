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
#include <unistd.h>

/* ---- where things go ------------------------------------------------------------------------ */

/* Absent, or an empty folder: known before hours are spent. */
static int check_output(const struct train_args *a)
{
    const char *path = a->out.path;
    if (train_is_full(a) && a->format == GRAFT_ADAPTER_MLX) {
        return cli_fail_text("--format mlx: a model that is trained whole is written as a Hugging "
                             "Face directory, which mlx-lm opens too; leave --format out");
    }
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

/* A run that is there is neither gone on with nor lost by accident. *made: the folder was not there. */
static int check_run(const char *run, bool resume, bool *made)
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
    *made = mkdir(run, 0777) == 0;
    if (!*made && errno != EEXIST) {
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
            written ? json_any_text(a->out.path, strlen(a->out.path)) : json_null(), "run",
            json_any_text(run, strlen(run)), "seconds", seconds);
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
                  json_any_text(path_base(a->data.path), strlen(path_base(a->data.path))),
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
    if (status == GRAFT_OK) {
        status = graft_trainer_check_format(trainer, a->format, &error);
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

static bool asks_for_factors(const struct train_args *a)
{
    const graft_adapter_recipe fresh = graft_adapter_recipe_default(), *r = &a->recipe;
    bool same = r->rank == fresh.rank && r->alpha == fresh.alpha && r->dropout == fresh.dropout &&
                r->rslora == fresh.rslora && r->n_targets == fresh.n_targets &&
                r->n_modules_to_save == 0 && r->num_layers == 0 && !a->options.use_dora &&
                !a->options.lora_bias;
    for (size_t i = 0; i < r->n_targets && same; i++) {
        same = strcmp(r->targets[i], fresh.targets[i]) == 0;
    }
    return !same;
}

/* What is of an adapter does not go with a whole model. */
static int check_kind(const struct train_args *a)
{
    const graft_train_options fresh = graft_train_options_default();
    if (!train_is_full(a)) {
        return CLI_OK;
    }
    if (a->options.adapter != NULL) {
        cli_fail_text("-a: full trains the model itself, no adapter; graft fuse puts one into a "
                      "model first");
        return CLI_USAGE;
    }
    if (asks_for_factors(a) || strcmp(a->options.init, fresh.init) != 0 || a->options.ewc ||
        a->options.loraplus_lr_ratio != fresh.loraplus_lr_ratio) {
        cli_fail_text(
            "full trains the model itself, all of it: rank, alpha, dropout, targets, "
            "modules-to-save, num_layers, rslora, dora, lora-bias, init, loraplus and ewc "
            "are of adapters; leave them out");
        return CLI_USAGE;
    }
    return CLI_OK;
}

/* An adapter that is continued stays what it is; what was asked for in its place is not passed over in silence. */
static void tell_continued(const struct train_args *a)
{
    if (a->options.adapter != NULL && asks_for_factors(a) && !a->common.quiet) {
        fprintf(stderr,
                "graft: note: %s is gone on with as it is; rank, alpha, dropout, targets, "
                "modules-to-save, num_layers, rslora, dora and lora-bias that are given beside it "
                "count for nothing\n",
                a->options.adapter);
    }
}

/* A registered name, or that of an adapter that ships, becomes the path of its files; the settings of the run keep the
 * version. *path is the caller's to free. */
static int locate_continued(struct train_args *a, graft_runtime *runtime,
                            graft_train_config *config, char **path)
{
    char address[sizeof(graft_adapter_id)];
    graft_adapter_id id;
    graft_error error = {0};
    if (a->options.adapter == NULL) {
        return CLI_OK;
    }
    int status = cli_locate_adapter(runtime, a->options.adapter, 0, path, &id);
    if (status == CLI_OK && id.name[0] != '\0') {
        snprintf(address, sizeof address, "%s@%s", id.name, id.version);
        if (graft_train_config_set(config, "adapter", address, &error) != GRAFT_OK) {
            status = cli_fail(&error);
        }
    }
    a->options.adapter = *path;
    return status;
}

static int train(struct train_args *a, graft_train_config *config)
{
    char run[PATH_MAX] = "", *continued = NULL;
    bool made = false;
    struct cli_session s = {0};
    graft_dataset *data = NULL;
    int status = a->dry_run ? CLI_OK : check_output(a);
    if (status == CLI_OK && !a->dry_run) {
        status = name_run(a, run);
    }
    if (status == CLI_OK && !a->dry_run) {
        status = check_run(run, a->resume, &made);
    }
    if (status != CLI_OK) {
        return status;
    }
    cli_catch_interrupt();
    a->common.pack = a->common.pack != NULL ? a->common.pack : "none";
    status = cli_open_model(&a->common, &s);
    if (status == CLI_OK) {
        status = locate_continued(a, s.runtime, config, &continued);
    }
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
    mem_free(NULL, continued);
    if (status != CLI_OK && made) {
        rmdir(run); /* where nothing came into it */
    }
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

int verb_train(int argc, char **argv)
{
    int status;
    struct train_args args;
    graft_train_config *config = NULL;
    graft_error error = {0};
    if (argc > 1 && run_verb_under(argv[1], argc, argv, &status)) {
        return status;
    }
    train_read_words(argc, argv, NULL, &args);
    status = train_read_config(&args.typed, args.common.quiet, &config);
    if (status == CLI_OK) {
        train_read_words(argc, argv, config, &args);
        args.options.seed = args.data.options.seed;
        status = train_to_config(&args, config);
    }
    if (status == CLI_OK) { /* what depends on what else was typed is worked out there */
        const graft_train_settings *s = graft_train_config_settings(config);
        args.options.max_steps = s->train.max_steps;
        args.options.eval_steps = s->train.eval_steps;
        args.options.save_steps = s->train.save_steps;
        args.recipe.alpha = s->recipe.alpha;
        args.type = train_is_full(&args) ? s->model_dtype : s->recipe.type;
    }
    if (status == CLI_OK && graft_adapter_recipe_check(&args.recipe, &error) != GRAFT_OK) {
        cli_fail(&error);
        status = CLI_USAGE;
    }
    if (status == CLI_OK) {
        status = check_kind(&args);
    }
    if (status == CLI_OK) {
        tell_continued(&args);
        status = train(&args, config);
    }
    graft_train_config_close(&config);
    return status;
}
