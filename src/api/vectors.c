/* vectors.c: the public functions on vectors: check, translate, call inward.
 *
 * A public dataset or fit is the inner one and its runtime, whose memory it lives in. What an example may be and what a fit does
 * is decided in train/vectors; public structs are translated here, so that those inside may change.
 */
#include "train/vectors/vectors.h"
#include "api/api_internal.h"

struct graft_vectors {
    graft_runtime *runtime;
    struct vectors *vectors;
};

struct graft_fit {
    graft_runtime *runtime;
    struct fit fit;
};

/* ---- datasets ------------------------------------------------------------------------------ */

static graft_status wrap(graft_runtime *runtime, struct vectors *inner, graft_vectors **out,
                         graft_error *error)
{
    graft_vectors *v = mem_calloc(&runtime->mem, 1, sizeof *v);
    if (v == NULL) {
        vectors_close(&inner);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for vectors");
    }
    *v = (graft_vectors){runtime, inner};
    *out = v;
    return GRAFT_OK;
}

graft_status graft_vectors_open(graft_runtime *runtime, int n_in, int n_out, graft_vectors **out,
                                graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(out);
    CHECK_RUNTIME(runtime);
    struct vectors *inner = NULL;
    graft_status status = vectors_open(&runtime->mem, n_in, n_out, &inner, error);
    return status == GRAFT_OK ? wrap(runtime, inner, out, error) : status;
}

graft_status graft_vectors_read(graft_runtime *runtime, const char *path, graft_vectors **out,
                                graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(path);
    REQUIRE(out);
    CHECK_RUNTIME(runtime);
    struct vectors *inner = NULL;
    graft_status status = vectors_read(&runtime->mem, path, &inner, error);
    return status == GRAFT_OK ? wrap(runtime, inner, out, error) : status;
}

void graft_vectors_close(graft_vectors **vectors)
{
    if (vectors == NULL || *vectors == NULL) {
        return;
    }
    graft_vectors *v = *vectors;
    *vectors = NULL;
    vectors_close(&v->vectors);
    mem_free(&v->runtime->mem, v);
}

graft_status graft_vectors_add(graft_vectors *vectors, const graft_vector_example *example,
                               graft_error *error)
{
    REQUIRE(vectors);
    REQUIRE(example);
    REQUIRE(example->input);
    CHECK_RUNTIME(vectors->runtime);
    const struct vector_example inner = {.input = example->input,
                                         .target = example->target,
                                         .quality = example->quality,
                                         .task = example->task,
                                         .domain = example->domain};
    return vectors_add(vectors->vectors, &inner, error);
}

int64_t graft_vectors_count(const graft_vectors *vectors)
{
    return vectors != NULL ? vectors_count(vectors->vectors) : 0;
}

graft_status graft_vectors_widths(const graft_vectors *vectors, int *n_in, int *n_out,
                                  graft_error *error)
{
    REQUIRE(vectors);
    if (n_in != NULL) {
        *n_in = vectors_in(vectors->vectors);
    }
    if (n_out != NULL) {
        *n_out = vectors_out(vectors->vectors);
    }
    return GRAFT_OK;
}

graft_status graft_vectors_example(const graft_vectors *vectors, int64_t index,
                                   graft_vector_example *out, graft_error *error)
{
    REQUIRE(vectors);
    REQUIRE(out);
    if (index < 0 || index >= vectors_count(vectors->vectors)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "there is no example %lld",
                         (long long)index);
    }
    const struct vector_example e = vectors_at(vectors->vectors, index);
    *out = (graft_vector_example){.input = e.input,
                                  .target = e.target,
                                  .quality = e.quality,
                                  .task = e.task,
                                  .domain = e.domain};
    return GRAFT_OK;
}

graft_status graft_vectors_write(const graft_vectors *vectors, const char *path, graft_error *error)
{
    REQUIRE(vectors);
    REQUIRE(path);
    CHECK_RUNTIME(vectors->runtime);
    return vectors_write(vectors->vectors, path, error);
}

/* ---- made-up examples ---------------------------------------------------------------------- */

const char *graft_vectors_task(int i)
{
    return synthetic_task(i);
}

static graft_status find_task(const char *name, int *out, graft_error *error)
{
    char known[160] = "";
    size_t used = 0;
    for (int i = 0; synthetic_task(i) != NULL; i++) {
        if (strcmp(name, synthetic_task(i)) == 0) {
            *out = i;
            return GRAFT_OK;
        }
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "",
                                 synthetic_task(i));
    }
    return error_set(error, GRAFT_INVALID_ARGUMENT, "no task \"%.40s\"; there are %s", name, known);
}

graft_status graft_vectors_generate(graft_vectors *vectors, const char *task, int64_t n,
                                    uint64_t seed, bool targets, graft_error *error)
{
    REQUIRE(vectors);
    REQUIRE(task);
    CHECK_RUNTIME(vectors->runtime);
    struct synthetic_options options = {
        .width = vectors_in(vectors->vectors), .n = n, .seed = seed, .targets = targets};
    graft_status status = find_task(task, &options.task, error);
    return status == GRAFT_OK ? synthetic_add(vectors->vectors, &options, error) : status;
}

/* ---- one module ---------------------------------------------------------------------------- */

void graft_fit_options_init(graft_fit_options *options, size_t struct_size)
{
    const struct fit_options o = fit_defaults();
    graft_fit_options defaults = {.rank = o.rank,
                                  .alpha = o.alpha,
                                  .num_epochs = o.epochs,
                                  .batch_size = o.batch,
                                  .learning_rate = o.rate,
                                  .weight_decay = o.weight_decay,
                                  .max_grad_norm = o.max_norm,
                                  .valid_share = o.valid_share,
                                  .min_quality = o.min_quality,
                                  .seed = o.seed};
    options_give(options, struct_size, &defaults, sizeof defaults);
}

graft_status graft_fit_run(graft_runtime *runtime, const graft_vectors *vectors,
                           const graft_fit_options *options, graft_fit **out, graft_error *error)
{
    REQUIRE(runtime);
    REQUIRE(vectors);
    REQUIRE(out);
    CHECK_RUNTIME(runtime);
    graft_fit_options o = graft_fit_options_default();
    graft_status status = options_read(&o, sizeof o, options, error);
    if (status != GRAFT_OK) {
        return status;
    }
    graft_fit *fit = mem_calloc(&runtime->mem, 1, sizeof *fit);
    if (fit == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory to fit a module");
    }
    const struct fit_options inner = {.weight = o.weight,
                                      .rank = o.rank,
                                      .alpha = o.alpha,
                                      .epochs = o.num_epochs,
                                      .batch = o.batch_size,
                                      .rate = o.learning_rate,
                                      .weight_decay = o.weight_decay,
                                      .max_norm = o.max_grad_norm,
                                      .valid_share = o.valid_share,
                                      .min_quality = o.min_quality,
                                      .seed = o.seed,
                                      .progress = o.progress,
                                      .progress_user = o.progress_user};
    fit->runtime = runtime;
    status = fit_module(runtime, vectors->vectors, &inner, &fit->fit, error);
    if (status == GRAFT_OK) {
        *out = fit;
    } else {
        mem_free(&runtime->mem, fit);
    }
    return status;
}

void graft_fit_close(graft_fit **fit)
{
    if (fit == NULL || *fit == NULL) {
        return;
    }
    graft_fit *f = *fit;
    *fit = NULL;
    fit_free(&f->fit);
    mem_free(&f->runtime->mem, f);
}

graft_status graft_fit_describe(const graft_fit *fit, graft_fit_info *out, graft_error *error)
{
    REQUIRE(fit);
    REQUIRE(out);
    const struct fit *f = &fit->fit;
    *out = (graft_fit_info){.n_in = f->n_in,
                            .n_out = f->n_out,
                            .rank = f->rank,
                            .scale = f->scale,
                            .a = f->a,
                            .b = f->b,
                            .steps = f->steps,
                            .examples = f->examples,
                            .held = f->held,
                            .first_loss = f->first_loss,
                            .last_loss = f->last_loss,
                            .first_valid = f->first_valid,
                            .last_valid = f->last_valid};
    return GRAFT_OK;
}

graft_status graft_fit_write(const graft_fit *fit, const char *module, const char *path,
                             graft_error *error)
{
    REQUIRE(fit);
    REQUIRE(module);
    REQUIRE(path);
    CHECK_RUNTIME(fit->runtime);
    return fit_write(&fit->fit, module, path, error);
}
