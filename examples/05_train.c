/* 05_train.c: an adapter of its own for the model: examples, a run with a callback, the answer before and after.
 *
 * Introduces: graft_dataset_open, graft_dataset_count, graft_train_options_default, graft_trainer_open, graft_trainer_plan,
 * graft_trainer_run, graft_trainer_write.
 *
 * Usage: 05_train MODEL EXAMPLES.jsonl OUT PROMPT
 */
#include <graft/graft.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WORDS = 24 }; /* tokens of an answer */

struct demo {
    graft_runtime *runtime;
    graft_model *model;
    graft_dataset *data;
    graft_trainer *trainer;
    graft_session *session;
    graft_adapter *adapter;
};

static int fail(graft_status status, const graft_error *error)
{
    fprintf(stderr, "05_train: %s%s%s\n",
            error->message[0] != '\0' ? error->message : graft_status_text(status),
            error->file[0] != '\0' ? ": " : "", error->file);
    return 1;
}

/* ---- answers ---- */

static bool show(void *user, const graft_token *token)
{
    (void)user;
    for (size_t i = 0; i < token->text_size; i++) { /* in one line */
        putchar(token->text[i] == '\n' ? ' ' : token->text[i]);
    }
    return true;
}

/* As `graft run` asks: through the model's chat template. */
static graft_status ask(struct demo *d, const char *prompt, graft_error *error)
{
    const graft_message message = {.role = "user", .content = prompt};
    char *text = NULL;
    graft_token_id *ids = NULL;
    size_t size = 0, n = 0;
    graft_status status = graft_chat_render(d->model, &message, 1, true, &text, &size, error);
    if (status == GRAFT_OK) {
        status = graft_tokenize(graft_model_tokenizer(d->model), text, size, GRAFT_TOKENIZE_SPECIAL,
                                &ids, &n, error);
    }
    if (status == GRAFT_OK) {
        status = graft_session_prompt(d->session, ids, n, NULL, NULL, error);
    }
    graft_free(d->runtime, text);
    graft_free(d->runtime, ids);
    return status;
}

static graft_status answer(struct demo *d, const char *when, const char *prompt, graft_error *error)
{
    graft_status status = graft_session_trim(d->session, 0, error);
    printf("%s: ", when);
    if (status == GRAFT_OK) {
        status = ask(d, prompt, error);
    }
    if (status == GRAFT_OK) {
        status = graft_session_generate(d->session, WORDS, show, NULL, error);
    }
    putchar('\n');
    return status;
}

/* ---- training ---- */

/* Every step comes by here; false would stop the run. */
static bool tell(void *user, const graft_train_step *step)
{
    (void)user;
    if (!isnan(step->valid_loss)) {
        fprintf(stderr, "step %lld of %lld: validation loss %.3f\n", (long long)step->step,
                (long long)step->steps, step->valid_loss);
    }
    return true;
}

static graft_status train(struct demo *d, const char *out, graft_error *error)
{
    static const char *const targets[] = {"all-linear"};
    graft_adapter_recipe recipe = graft_adapter_recipe_default();
    graft_train_options options = graft_train_options_default();
    graft_train_plan plan;
    graft_train_outcome outcome;
    recipe.targets = targets;
    recipe.n_targets = 1;
    options.recipe = &recipe;
    options.learning_rate = 5e-3;
    options.num_epochs = 12;
    graft_status status = graft_trainer_open(d->model, d->data, &options, &d->trainer, error);
    if (status == GRAFT_OK) {
        status = graft_trainer_plan(d->trainer, &plan, error);
    }
    if (status == GRAFT_OK) {
        fprintf(stderr, "%lld examples, %lld values, %lld steps\n",
                (long long)graft_dataset_count(d->data, GRAFT_PART_TRAIN),
                (long long)plan.trained_values, (long long)plan.steps);
        status = graft_trainer_run(d->trainer, tell, NULL, &outcome, error);
    }
    return status == GRAFT_OK
               ? graft_trainer_write(d->trainer, out, GRAFT_ADAPTER_PEFT, NULL, NULL, error)
               : status;
}

static graft_status open_all(struct demo *d, char **argv, graft_error *error)
{
    graft_model_options model = graft_model_options_default();
    graft_session_options session = graft_session_options_default();
    model.pack = "none"; /* training reads the weights as they lie in the file */
    session.sampling.temperature = 0;
    graft_status status = graft_runtime_open(NULL, &d->runtime, error);
    if (status == GRAFT_OK) {
        status = graft_model_open(d->runtime, argv[1], &model, &d->model, error);
    }
    if (status == GRAFT_OK) {
        status = graft_dataset_open(d->model, argv[2], NULL, &d->data, error);
    }
    return status == GRAFT_OK ? graft_session_open(d->model, &session, &d->session, error) : status;
}

static graft_status run(struct demo *d, char **argv, graft_error *error)
{
    graft_status status = open_all(d, argv, error);
    if (status == GRAFT_OK) {
        status = answer(d, "before", argv[4], error);
    }
    if (status == GRAFT_OK) {
        status = train(d, argv[3], error);
    }
    if (status == GRAFT_OK) {
        status = graft_adapter_open(d->model, argv[3], NULL, &d->adapter, error);
    }
    if (status == GRAFT_OK) {
        status = graft_session_apply_adapter(d->session, d->adapter, 1, GRAFT_KV_REPLAY, error);
    }
    return status == GRAFT_OK ? answer(d, "after", argv[4], error) : status;
}

int main(int argc, char **argv)
{
    struct demo demo = {0};
    graft_error error;
    graft_error_init(&error);
    if (argc != 5) {
        fprintf(stderr, "usage: 05_train MODEL EXAMPLES.jsonl OUT PROMPT\n");
        return 2;
    }
    graft_status status = run(&demo, argv, &error);
    graft_session_close(&demo.session);
    graft_adapter_close(&demo.adapter);
    graft_trainer_close(&demo.trainer);
    graft_dataset_close(&demo.data);
    graft_model_close(&demo.model);
    graft_runtime_close(&demo.runtime);
    return status == GRAFT_OK ? 0 : fail(status, &error);
}
