/* train.c: a router from prompts: labels, a split by their texts, embeddings, the fit, and what held-out prompts say of it.
 *
 * Which prompts are held out is decided by a hash of text and seed, so a text that is there twice is on one side. What is
 * measured is what a file would hold: the weights as floats.
 */
#include "generate/router/router_internal.h"

#include <math.h>

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory to train a router");
}

/* A prompt where the split puts it. */
struct ranked {
    uint64_t key;
    size_t prompt;
    int32_t label;
};

/* One training: the first n_train of `rank` are learned from, the others are held out. */
struct training {
    struct router *router;
    const struct router_prompts *prompts;
    const struct router_options *options;
    struct ranked *rank; /* [n] */
    size_t n, n_train;
    float *raw; /* [n, width] embeddings, in order */
    float *x;   /* [n_train, width] standardised */
    int32_t *y; /* [n_train] */
    double *values;
};

static graft_status check_options(const struct router_options *o, graft_error *error)
{
    if (!(o->l2 > 0) || !isfinite(o->l2))
        return error_set(error, GRAFT_INVALID_ARGUMENT, "l2 must be a finite number above 0");
    if (!(o->held_out_share >= 0 && o->held_out_share < 1))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the share that is held out must be from 0 to below 1");
    return GRAFT_OK;
}

static int by_text(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* The names that there are, in order and each once: *n of names. */
static void sort_names(const char **names, size_t *n)
{
    size_t kept = 0;
    qsort(names, *n, sizeof *names, by_text);
    for (size_t i = 0; i < *n; i++)
        if (kept == 0 || strcmp(names[kept - 1], names[i]) != 0)
            names[kept++] = names[i];
    *n = kept;
}

static graft_status make_labels(struct training *tr, graft_error *error)
{
    struct router *r = tr->router;
    size_t n = tr->n;
    const char **names = mem_calloc(r->mem, n + 1, sizeof *names);
    if (!names)
        return no_memory(error);
    for (size_t i = 0; i < n; i++)
        names[i] = tr->prompts->items[i].label;
    sort_names(names, &n);
    graft_status status = GRAFT_OK;
    if (n < 2 || n > ROUTER_MAX_LABELS)
        status = error_set(error, GRAFT_INVALID_ARGUMENT,
                           "the prompts have %zu label%s, a router chooses among 2 to %d", n,
                           n == 1 ? "" : "s", ROUTER_MAX_LABELS);
    else
        status = router_table_make(&r->table, r->mem, (int)n, r->model->config.d_model, error);
    for (size_t i = 0; status == GRAFT_OK && i < n; i++) {
        r->table.labels[i] = mem_strdup(r->mem, names[i]);
        status = r->table.labels[i] ? GRAFT_OK : no_memory(error);
    }
    for (size_t i = 0; status == GRAFT_OK && i < tr->n; i++)
        tr->rank[i] = (struct ranked){
            .prompt = i, .label = router_label(&r->table, tr->prompts->items[i].label)};
    mem_free(r->mem, names);
    return status;
}

static graft_status describe_base(struct router *r, graft_error *error)
{
    char print[FINGERPRINT_SIZE];
    graft_status status = base_fingerprint(r->model, print, error);
    json_t *base = json_object();
    if (status == GRAFT_OK) {
        json_put(&base, "architecture", json_string(r->model->config.architecture));
        json_put(&base, "fingerprint", json_string(print));
        json_put(&base, "sketch", base_sketch(r->model));
        r->table.base = base;
        return base ? GRAFT_OK : no_memory(error);
    }
    json_decref(base);
    return status;
}

/* A number of the text and the seed alone, so that one text is never on both sides. */
static graft_status make_key(const struct router_prompt *prompt, uint64_t seed, struct mem *mem,
                             uint64_t *out, graft_error *error)
{
    uint8_t hash[32];
    struct buf text;
    buf_init(&text, mem, SIZE_MAX);
    buf_append(&text, &seed, sizeof seed);
    buf_append(&text, prompt->text, prompt->size);
    graft_status status =
        text.status == GRAFT_OK ? sha256(text.data, text.size, hash, error) : no_memory(error);
    if (status == GRAFT_OK)
        memcpy(out, hash, sizeof *out);
    buf_free(&text);
    return status;
}

static int by_key(const void *left, const void *right)
{
    const struct ranked *a = left, *b = right;
    return a->key != b->key ? (a->key < b->key ? -1 : 1)
                            : (a->prompt > b->prompt) - (a->prompt < b->prompt);
}

/* Ranks the prompts; the last ones are held out. */
static graft_status split(struct training *tr, graft_error *error)
{
    int64_t of_label[ROUTER_MAX_LABELS] = {0};
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < tr->n && status == GRAFT_OK; i++)
        status = make_key(&tr->prompts->items[i], tr->options->seed, tr->router->mem,
                          &tr->rank[i].key, error);
    if (status != GRAFT_OK)
        return status;
    qsort(tr->rank, tr->n, sizeof *tr->rank, by_key);
    tr->n_train = tr->n - (size_t)((double)tr->n * tr->options->held_out_share + 0.5);
    while (tr->n_train > 0 && tr->n_train < tr->n &&
           tr->rank[tr->n_train - 1].key == tr->rank[tr->n_train].key)
        tr->n_train--;
    for (size_t i = 0; i < tr->n_train; i++)
        of_label[tr->rank[i].label]++;
    for (int c = 0; c < tr->router->table.n_labels; c++)
        if (!of_label[c])
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "no prompt of \"%s\" is left to train on: give more, or hold out less",
                             tr->router->table.labels[c]);
    return GRAFT_OK;
}

static graft_status embed_all(struct training *tr, graft_error *error)
{
    const struct router_options *o = tr->options;
    const size_t width = (size_t)tr->router->table.width;
    graft_status status = router_tell(o->progress, o->progress_user, 0, tr->n, error);
    for (size_t i = 0; i < tr->n && status == GRAFT_OK; i++) {
        const struct router_prompt *p = &tr->prompts->items[tr->rank[i].prompt];
        status = router_embed(tr->router, p->text, p->size, tr->raw + i * width, error);
        if (status == GRAFT_OK)
            status = router_tell(o->progress, o->progress_user, i + 1, tr->n, error);
    }
    return status;
}

/* Mean and 1 / standard deviation of what is trained on; a value that is always the same counts for nothing. */
static void standardise(struct training *tr)
{
    struct router_table *t = &tr->router->table;
    const size_t width = (size_t)t->width, n = tr->n_train;
    float *mean = t->values + (t->mean - t->values), *scale = t->values + (t->scale - t->values);
    for (size_t j = 0; j < width; j++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < n; i++)
            sum += (double)tr->raw[i * width + j];
        const double middle = sum / (double)n;
        for (size_t i = 0; i < n; i++) {
            double off = (double)tr->raw[i * width + j] - middle;
            squares += off * off;
        }
        const double deviation = sqrt(squares / (double)n);
        mean[j] = (float)middle;
        scale[j] = deviation > 1e-6 * (1 + fabs(middle)) ? (float)(1 / deviation) : 0;
        for (size_t i = 0; i < n; i++)
            tr->x[i * width + j] = (tr->raw[i * width + j] - mean[j]) * scale[j];
    }
    for (size_t i = 0; i < n; i++)
        tr->y[i] = tr->rank[i].label;
}

static bool ask_to_stop(void *user, int iteration)
{
    const struct training *tr = user;
    (void)iteration;
    return router_tell(tr->options->progress, tr->options->progress_user, tr->n, tr->n, NULL) !=
           GRAFT_OK;
}

/* Fits, rounds to what a file holds, and measures that. */
static graft_status fit(struct training *tr, graft_error *error)
{
    struct router_table *t = &tr->router->table;
    const struct router_fit f = {.mem = tr->router->mem,
                                 .pool = tr->router->model->runtime->pool,
                                 .x = tr->x,
                                 .y = tr->y,
                                 .n = (int64_t)tr->n_train,
                                 .width = t->width,
                                 .n_labels = t->n_labels,
                                 .l2 = tr->options->l2,
                                 .stop = ask_to_stop,
                                 .user = tr};
    graft_status status = router_fit_run(&f, tr->values, &t->iterations, error);
    if (status != GRAFT_OK)
        return status;
    const size_t n = (size_t)t->n_labels * ((size_t)t->width + 1);
    for (size_t k = 0; k < n; k++)
        t->values[k] = (float)tr->values[k];
    t->l2 = tr->options->l2;
    t->held_out_share = tr->options->held_out_share;
    t->seed = tr->options->seed;
    t->examples = (int64_t)tr->n_train;
    for (size_t i = 0; i < tr->n; i++) {
        int picked = router_best(t, tr->raw + i * (size_t)t->width);
        int asked = tr->rank[i].label;
        if (i < tr->n_train)
            t->right += picked == asked;
        else
            t->confusion[asked * t->n_labels + picked]++;
    }
    return GRAFT_OK;
}

static graft_status training_room(struct training *tr, graft_error *error)
{
    const struct router_table *t = &tr->router->table;
    struct mem *mem = tr->router->mem;
    size_t cells;
    tr->y = mem_calloc(mem, tr->n_train, sizeof *tr->y);
    if (size_mul(tr->n, (size_t)t->width, &cells)) {
        tr->raw = mem_calloc(mem, cells, sizeof *tr->raw);
        tr->x = mem_calloc(mem, tr->n_train * (size_t)t->width, sizeof *tr->x);
        tr->values =
            mem_calloc(mem, (size_t)t->n_labels * ((size_t)t->width + 1), sizeof *tr->values);
    }
    return tr->raw && tr->x && tr->y && tr->values ? GRAFT_OK : no_memory(error);
}

static void training_close(struct training *tr)
{
    struct mem *mem = tr->router->mem;
    mem_free(mem, tr->rank);
    mem_free(mem, tr->y);
    mem_free(mem, tr->raw);
    mem_free(mem, tr->x);
    mem_free(mem, tr->values);
}

graft_status router_train(const struct model *model, const struct router_prompts *prompts,
                          const struct router_options *options, struct router **out,
                          graft_error *error)
{
    struct training tr = {.prompts = prompts, .options = options, .n = prompts->n};
    graft_status status = check_options(options, error);
    if (status == GRAFT_OK)
        status = router_make(&model->runtime->mem, model, &tr.router, error);
    if (status != GRAFT_OK)
        return status;
    tr.rank = mem_calloc(tr.router->mem, tr.n + 1, sizeof *tr.rank);
    status = tr.rank ? GRAFT_OK : no_memory(error);
    if (status == GRAFT_OK)
        status = make_labels(&tr, error);
    if (status == GRAFT_OK)
        status = describe_base(tr.router, error);
    if (status == GRAFT_OK)
        status = split(&tr, error);
    if (status == GRAFT_OK)
        status = training_room(&tr, error);
    if (status == GRAFT_OK)
        status = embed_all(&tr, error);
    if (status == GRAFT_OK) {
        standardise(&tr);
        status = fit(&tr, error);
    }
    training_close(&tr);
    if (status != GRAFT_OK)
        router_close(&tr.router);
    else
        *out = tr.router;
    return status;
}
