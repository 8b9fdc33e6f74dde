/* train_samples.c: what the model answers before training and what with the new adapter, on examples of validation, kept as
 * RUN/samples.json for the report.
 *
 * A prompt is what an example has before its first learned token. Examples that begin with what is learned, as texts do,
 * have none and are passed over.
 */
#include "train.h"

enum { MOST_ANSWER = 96, MOST_LOOKED_AT = 1000 };

static char *text_of(const struct train_samples *t, const graft_token_id *ids, size_t n,
                     bool special)
{
    graft_error error = {0};
    char *text = NULL, *copy = NULL;
    size_t size = 0;
    if (graft_detokenize(graft_model_tokenizer(t->model), ids, n, special, &text, &size, &error) ==
        GRAFT_OK) {
        copy = mem_strndup(NULL, text, size);
    }
    graft_free(t->runtime, text);
    return copy;
}

/* Where the first learned piece of an example begins and ends. false: it has no prompt. */
static bool find_answer(const graft_example *e, int *begin, int *end)
{
    int t = 0;
    while (t < e->n_tokens && !e->learned[t]) {
        t++;
    }
    *begin = t + 1; /* learned[t] speaks of token t + 1 */
    while (t < e->n_tokens && e->learned[t]) {
        t++;
    }
    *end = t + 1;
    return *begin > 1;
}

static void choose(struct train_samples *t, const graft_dataset *data, int wanted)
{
    graft_part part =
        graft_dataset_count(data, GRAFT_PART_VALID) > 0 ? GRAFT_PART_VALID : GRAFT_PART_TRAIN;
    int64_t n = graft_dataset_count(data, part);
    for (int64_t i = 0; i < n && i < MOST_LOOKED_AT && t->n < wanted; i++) {
        graft_example e;
        int begin, end;
        if (graft_dataset_example(data, part, i, &e, NULL) != GRAFT_OK ||
            !find_answer(&e, &begin, &end)) {
            continue;
        }
        t->items[t->n++] = (struct train_sample){
            .ids = e.tokens,
            .n = (size_t)begin,
            .prompt = text_of(t, e.tokens, (size_t)begin, true),
            .expected = text_of(t, e.tokens + begin, (size_t)(end - begin), false)};
    }
}

static bool add_text(void *user, const graft_token *token)
{
    buf_append(user, token->text, token->text_size);
    return !cli_interrupted();
}

static graft_status answer(const struct train_samples *t, graft_model *model,
                           graft_adapter *adapter, int i, char **out, graft_error *error)
{
    graft_session_options options = graft_session_options_default();
    graft_session *session = NULL;
    struct buf text;
    buf_init(&text, NULL, 1 << 20);
    options.sampling.temperature = 0;
    graft_status status = graft_session_open(model, &options, &session, error);
    if (status == GRAFT_OK && adapter != NULL) {
        status = graft_session_apply_adapter(session, adapter, 1, GRAFT_KV_CONTINUE, error);
    }
    if (status == GRAFT_OK) {
        status = graft_session_prompt(session, t->items[i].ids, t->items[i].n, NULL, NULL, error);
    }
    if (status == GRAFT_OK) {
        status = graft_session_generate(session, MOST_ANSWER, add_text, &text, error);
    }
    graft_session_close(&session);
    if (status == GRAFT_OK) {
        *out = text.size > 0 ? buf_take(&text, NULL) : mem_strdup(NULL, "");
    }
    buf_free(&text);
    return status;
}

/* All answers under the adapter at a path, or of the model there; NULL: of the base. */
static graft_status answer_all(struct train_samples *t, const char *path, bool after,
                               graft_error *error)
{
    graft_adapter *adapter = NULL;
    graft_model *model = NULL;
    graft_status status = GRAFT_OK;
    if (path != NULL && t->n > 0) {
        status = t->full ? graft_model_open(t->runtime, path, NULL, &model, error)
                         : graft_adapter_open(t->model, path, NULL, &adapter, error);
    }
    for (int i = 0; i < t->n && status == GRAFT_OK && !cli_interrupted(); i++) {
        status = answer(t, model != NULL ? model : t->model, adapter, i,
                        after ? &t->items[i].after : &t->items[i].before, error);
    }
    graft_adapter_close(&adapter);
    graft_model_close(&model);
    return status;
}

int train_samples_begin(struct train_samples *t, const struct train_args *a, struct cli_session *s,
                        const graft_dataset *data)
{
    graft_model_info info;
    graft_error error = {0};
    *t = (struct train_samples){.runtime = s->runtime, .model = s->model, .full = train_is_full(a)};
    if (graft_model_describe(s->model, &info, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    if (info.n_labels == 0) {
        choose(t, data, a->samples);
    }
    return answer_all(t, a->options.adapter, false, &error) == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

static json_t *text_json(const char *text)
{
    return json_any_text(text != NULL ? text : "", text != NULL ? strlen(text) : 0);
}

int train_samples_end(struct train_samples *t, const char *written, const char *run)
{
    graft_error error = {0};
    if (t->n == 0) {
        return CLI_OK;
    }
    graft_status status = answer_all(t, written, true, &error);
    json_t *all = json_array();
    for (int i = 0; i < t->n; i++) {
        const struct train_sample *s = &t->items[i];
        json_t *one = json_object();
        json_put(&one, "prompt", text_json(s->prompt));
        json_put(&one, "before", text_json(s->before));
        json_put(&one, "after", text_json(s->after));
        json_put(&one, "expected", text_json(s->expected));
        json_append(&all, one);
    }
    char *text = all != NULL ? json_dumps(all, JSON_INDENT(2)) : NULL;
    char *path = path_join(NULL, run, "samples.json");
    json_decref(all);
    if (status == GRAFT_OK) {
        status = text != NULL && path != NULL
                     ? file_write_atomic(NULL, path, text, strlen(text), &error)
                     : error_set(&error, GRAFT_NO_MEMORY, "no memory for samples");
    }
    mem_free(NULL, path);
    free(text);
    return status == GRAFT_OK ? CLI_OK : cli_fail(&error);
}

void train_samples_free(struct train_samples *t)
{
    for (int i = 0; i < t->n; i++) {
        mem_free(NULL, t->items[i].prompt);
        mem_free(NULL, t->items[i].expected);
        mem_free(NULL, t->items[i].before);
        mem_free(NULL, t->items[i].after);
    }
}
