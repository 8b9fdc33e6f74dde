/* model.c: the public functions on models: check, call inward, describe. */
#include "adapter/fuse/fuse.h"
#include "api/api_internal.h"
#include "generate/constraint/constraint.h"

void graft_model_options_init(graft_model_options *options, size_t struct_size)
{
    graft_model_options defaults = {.load = GRAFT_LOAD_MAP, .pack = "auto"};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

/* ---- totals ---- */

static void count_weights(struct graft_model *m)
{
    const struct tensor_set *tensors = &m->model->tensors;
    m->n_params = model_parameters(m->model);
    for (size_t i = 0; i < tensor_set_count(tensors); i++) {
        m->weight_bytes += tensor_set_at(tensors, i)->size;
    }
}

/* ---- open and close ---- */

static graft_status name_labels(struct graft_model *m, graft_error *error)
{
    const struct config *c = &m->model->config;
    if (c->n_labels == 0 || c->labels != NULL) {
        return GRAFT_OK;
    }
    m->labels = mem_calloc(&m->runtime->mem, (size_t)c->n_labels, sizeof *m->labels);
    if (m->labels == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the names of %d classes",
                         c->n_labels);
    }
    for (int i = 0; i < c->n_labels; i++) {
        snprintf(m->labels[i], sizeof m->labels[i], "LABEL_%d", i);
    }
    return GRAFT_OK;
}

graft_status graft_model_open(graft_runtime *runtime, const char *path,
                              const graft_model_options *options, graft_model **out,
                              graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(path);
    REQUIRE(out);
    CHECK_RUNTIME(runtime);
    graft_model_options o = graft_model_options_default();
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status == GRAFT_OK && (unsigned)o.load > GRAFT_LOAD_COPY) {
        status = error_set(error, GRAFT_INVALID_ARGUMENT, "load is neither MAP nor COPY");
    }
    if (status == GRAFT_OK && o.fuse == NULL && o.n_fuse > 0) {
        status =
            error_set(error, GRAFT_INVALID_ARGUMENT, "fuse is NULL, and n_fuse is %zu", o.n_fuse);
    }
    if (status == GRAFT_OK) {
        status = fuse_members_check(o.fuse, o.n_fuse, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    struct mem *mem = &runtime->mem;
    char *found = NULL;
    struct graft_model *m = mem_calloc(mem, 1, sizeof *m);
    if (m == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a model");
    }
    m->runtime = runtime;
    pthread_mutex_init(&m->lock, NULL);
    struct model_options inner = {.map = o.load == GRAFT_LOAD_COPY ? MAP_COPY : MAP_SHARED_FILE,
                                  .pack = o.pack != NULL ? o.pack : "auto"};
    if (o.n_fuse > 0) {
        inner.pack = NULL; /* the bytes under it may be lost, and are wanted */
    }
    status = model_resolve(mem, path, &found, error);
    if (status == GRAFT_OK) {
        status = model_open(runtime, found, &inner, &m->model, error);
    }
    if (status == GRAFT_OK && o.n_fuse > 0) {
        status = fuse_in_place(m->model, o.fuse, o.n_fuse, error);
    }
    if (status == GRAFT_OK) {
        status = name_labels(m, error);
    }
    mem_free(mem, found);
    if (status != GRAFT_OK) {
        graft_model_close(&m);
        return status;
    }
    m->tokenizer = (struct graft_tokenizer){runtime, m->model->tokenizer};
    count_weights(m);
    *out = m;
    return GRAFT_OK;
}

void graft_model_close(graft_model **model)
{
    if (model == NULL || *model == NULL) {
        return;
    }
    graft_model *m = *model;
    *model = NULL;
    struct mem *mem = &m->runtime->mem;
    mix_release(&m->mix);
    vocabulary_release(&m->vocabulary);
    model_close(&m->model);
    pthread_mutex_destroy(&m->lock);
    mem_free(mem, m->labels);
    mem_free(mem, m);
}

/* ---- facts ---- */

graft_status graft_model_describe(const graft_model *model, graft_model_info *out,
                                  graft_error *error)
{
    REQUIRE(model);
    REQUIRE(out);
    CHECK_RUNTIME(model->runtime);
    const struct config *c = &model->model->config;
    *out = (graft_model_info){.architecture = c->architecture,
                              .path = model->model->path,
                              .n_layer = c->n_layer,
                              .d_model = c->d_model,
                              .d_ff = c->d_ff,
                              .n_head = c->n_head,
                              .n_kv = c->n_kv,
                              .d_head = c->d_head,
                              .n_vocab = c->n_vocab,
                              .n_ctx = c->n_ctx,
                              .n_labels = c->n_labels,
                              .has_tokenizer = model->model->tokenizer != NULL,
                              .has_chat_template = model->model->chat != NULL,
                              .n_params = model->n_params,
                              .weight_bytes = model->weight_bytes};
    return GRAFT_OK;
}

uint64_t graft_model_fused_bytes(const graft_model *model)
{
    return model != NULL ? model->model->fused_bytes : 0;
}

const char *graft_model_label(const graft_model *model, int label)
{
    if (model == NULL || label < 0 || label >= model->model->config.n_labels) {
        return NULL;
    }
    char **names = model->model->config.labels;
    return names != NULL ? names[label] : model->labels[label];
}

const graft_tokenizer *graft_model_tokenizer(const graft_model *model)
{
    return model != NULL && model->tokenizer.tokenizer != NULL ? &model->tokenizer : NULL;
}
