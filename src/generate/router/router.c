/* router.c: a router on its model: prompts become embeddings, embeddings scores, scores picks.
 */
#include "generate/router/router_internal.h"

#include <math.h>

struct router_options router_defaults(void)
{
    return (struct router_options){.l2 = 1e-3, .held_out_share = 0.2};
}

/* ---- making and closing ------------------------------------------------------------------- */

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for a router");
}

static graft_status open_session(struct router *r, graft_error *error)
{
    const int positions = r->model->config.n_ctx;
    const graft_session_options options = {.struct_size = sizeof options,
                                           .sampling = sampling_default(),
                                           .n_ctx = positions < ROUTER_TOKENS ? positions
                                                                              : ROUTER_TOKENS,
                                           .cache_k = GRAFT_KV_F32,
                                           .cache_v = GRAFT_KV_F32,
                                           .prefill_chunk = 256};
    return session_open(r->model, &options, &r->session, error);
}

graft_status router_make(struct mem *mem, const struct model *model, struct router **out,
                         graft_error *error)
{
    struct router *r = mem_calloc(mem, 1, sizeof *r);
    if (!r)
        return no_memory(error);
    r->mem = mem;
    r->model = model;
    pthread_mutex_init(&r->lock, NULL);
    graft_status status = GRAFT_OK;
    if (model && !model->tokenizer)
        status = error_set(error, GRAFT_UNSUPPORTED,
                           "the model has no tokenizer: a router reads prompts");
    else if (model)
        status = open_session(r, error);
    if (status != GRAFT_OK)
        router_close(&r);
    else
        *out = r;
    return status;
}

void router_close(struct router **router)
{
    struct router *r = *router;
    *router = NULL;
    if (!r)
        return;
    session_close(&r->session);
    router_table_free(&r->table);
    pthread_mutex_destroy(&r->lock);
    mem_free(r->mem, r);
}

const struct router_table *router_table_of(const struct router *router)
{
    return &router->table;
}

/* ---- embeddings --------------------------------------------------------------------------- */

/* The first and the last of what there is room for. */
static void shorten(struct tokens *ids, size_t most)
{
    if (ids->count <= most)
        return;
    size_t first = most / 2, last = most - first;
    memmove(ids->ids + first, ids->ids + ids->count - last, last * sizeof *ids->ids);
    ids->count = most;
}

graft_status router_embed(struct router *r, const char *text, size_t size, float *out,
                          graft_error *error)
{
    const struct tokenizer *t = r->model->tokenizer;
    struct tokens ids = {.mem = r->mem};
    graft_status status =
        tokenizer_encode(t, text, size, tokenizer_adds_bos(t) ? TOKENIZE_BOS : 0, &ids, error);
    if (status == GRAFT_OK && (size == 0 || ids.count == 0))
        status = error_set(error, GRAFT_INVALID_ARGUMENT, "an empty prompt asks for nothing");
    if (status == GRAFT_OK) {
        shorten(&ids, (size_t)session_context(r->session));
        pthread_mutex_lock(&r->lock);
        status = session_embedding(r->session, ids.ids, ids.count, GRAFT_POOL_MEAN, out, error);
        pthread_mutex_unlock(&r->lock);
    }
    tokens_free(&ids);
    return status;
}

graft_status router_tell(graft_progress_fn progress, void *user, size_t done, size_t total,
                         graft_error *error)
{
    return !progress || progress(user, done, total, "reading prompts")
               ? GRAFT_OK
               : error_set(error, GRAFT_CANCELLED, "cancelled");
}

/* ---- opening ------------------------------------------------------------------------------ */

static graft_status check_base(const struct router *r, graft_error *error)
{
    char what[160];
    graft_status status = base_compare(r->model, r->table.base, what, sizeof what, error);
    if (status == GRAFT_OK && what[0])
        return error_set(error, GRAFT_SHAPE, "the router was made for another base: %s", what);
    if (status == GRAFT_OK && r->table.width != r->model->config.d_model)
        return error_set(error, GRAFT_SHAPE, "the router reads %d values, the base gives %d",
                         r->table.width, r->model->config.d_model);
    return status;
}

static graft_status read_file(struct router *r, const char *path, graft_error *error)
{
    struct file_map map = {.data = NULL};
    graft_status status = file_map_open(&map, r->mem, path, MAP_COPY, error);
    if (status == GRAFT_OK)
        status = router_table_parse(&r->table, r->mem, map.data, map.size, error);
    if (status == GRAFT_OK && r->model)
        status = check_base(r, error);
    if (status != GRAFT_OK)
        error_at_file(error, path);
    file_map_close(&map);
    return status;
}

graft_status router_open(struct mem *mem, const struct model *model, const char *path,
                         struct router **out, graft_error *error)
{
    struct router *r = NULL;
    char *inside = path_is_dir(path) ? path_join(mem, path, "router.safetensors") : NULL;
    graft_status status = path_is_dir(path) && !inside ? no_memory(error) : GRAFT_OK;
    if (status == GRAFT_OK)
        status = router_make(mem, model, &r, error);
    if (status == GRAFT_OK)
        status = read_file(r, inside ? inside : path, error);
    mem_free(mem, inside);
    if (status != GRAFT_OK)
        router_close(&r);
    else
        *out = r;
    return status;
}

/* ---- routing ------------------------------------------------------------------------------ */

/* Scores become probabilities. */
static graft_status soften(double *scores, int n, double temperature, graft_error *error)
{
    double best = -INFINITY, sum = 0;
    for (int c = 0; c < n; c++)
        best = fmax(best, scores[c]);
    if (!isfinite(best))
        return error_set(error, GRAFT_NUMERIC, "the scores of the router are no numbers");
    for (int c = 0; c < n; c++) {
        scores[c] = exp((scores[c] - best) / temperature);
        sum += scores[c];
    }
    for (int c = 0; c < n; c++)
        scores[c] /= sum;
    return isfinite(sum)
               ? GRAFT_OK
               : error_set(error, GRAFT_NUMERIC, "the scores of the router are no numbers");
}

/* The best first; of equals the first label. */
static void pick(const double *probabilities, int n, int top_k, struct router_pick *out)
{
    bool taken[ROUTER_MAX_LABELS] = {false};
    double sum = 0;
    for (int k = 0; k < top_k; k++) {
        int best = 0;
        while (taken[best])
            best++;
        for (int c = best + 1; c < n; c++)
            if (!taken[c] && probabilities[c] > probabilities[best])
                best = c;
        taken[best] = true;
        out[k] = (struct router_pick){.label = best, .probability = probabilities[best]};
        sum += probabilities[best];
    }
    for (int k = 0; k < top_k; k++)
        out[k].weight = out[k].probability / sum;
}

int router_best(const struct router_table *t, const float *embedding)
{
    double scores[ROUTER_MAX_LABELS];
    int best = 0;
    router_scores(t, embedding, scores);
    for (int c = 1; c < t->n_labels; c++)
        best = scores[c] > scores[best] ? c : best;
    return best;
}

static graft_status needs_model(const struct router *r, graft_error *error)
{
    return r->model ? GRAFT_OK
                    : error_set(error, GRAFT_STATE,
                                "the router was opened without a model: it can be looked at only");
}

graft_status router_pick_best(struct router *router, const char *text, size_t size, int top_k,
                              double temperature, struct router_pick *out, graft_error *error)
{
    const struct router_table *t = &router->table;
    double scores[ROUTER_MAX_LABELS];
    graft_status status = needs_model(router, error);
    if (status != GRAFT_OK)
        return status;
    if (top_k < 1 || top_k > t->n_labels)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "top_k is %d: it is from 1 to the %d labels that there are", top_k,
                         t->n_labels);
    if (!(temperature > 0) || !isfinite(temperature))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the temperature must be a finite number above 0");
    float *embedding = mem_calloc(router->mem, (size_t)t->width, sizeof *embedding);
    status = embedding ? router_embed(router, text, size, embedding, error) : no_memory(error);
    if (status == GRAFT_OK) {
        router_scores(t, embedding, scores);
        status = soften(scores, t->n_labels, temperature, error);
    }
    if (status == GRAFT_OK)
        pick(scores, t->n_labels, top_k, out);
    mem_free(router->mem, embedding);
    return status;
}

static graft_status find_label(const struct router_table *t, const struct router_prompt *p,
                               int *out, graft_error *error)
{
    *out = router_label(t, p->label);
    if (*out >= 0)
        return GRAFT_OK;
    error_set(error, GRAFT_INVALID_ARGUMENT, "line %lld: the router has no label \"%s\"",
              (long long)p->line, p->label);
    error_at_file(error, p->file);
    return GRAFT_INVALID_ARGUMENT;
}

graft_status router_evaluate(struct router *router, const struct router_prompts *prompts,
                             graft_progress_fn progress, void *user, int64_t *confusion,
                             graft_error *error)
{
    const struct router_table *t = &router->table;
    graft_status status = needs_model(router, error);
    int label;
    for (size_t i = 0; i < prompts->n && status == GRAFT_OK; i++)
        status = find_label(t, &prompts->items[i], &label, error);
    if (status != GRAFT_OK)
        return status;
    float *embedding = mem_calloc(router->mem, (size_t)t->width, sizeof *embedding);
    memset(confusion, 0, (size_t)t->n_labels * (size_t)t->n_labels * sizeof *confusion);
    status = embedding ? router_tell(progress, user, 0, prompts->n, error) : no_memory(error);
    for (size_t i = 0; i < prompts->n && status == GRAFT_OK; i++) {
        const struct router_prompt *p = &prompts->items[i];
        status = router_embed(router, p->text, p->size, embedding, error);
        if (status == GRAFT_OK && find_label(t, p, &label, error) == GRAFT_OK)
            confusion[label * t->n_labels + router_best(t, embedding)]++;
        if (status == GRAFT_OK)
            status = router_tell(progress, user, i + 1, prompts->n, error);
    }
    mem_free(router->mem, embedding);
    return status;
}
