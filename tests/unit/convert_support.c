/* convert_support.c: see convert_support.h. */
#include "unit/convert_support.h"

#include <dirent.h>

struct graft_runtime rt;
char logged[2048];

static void keep_log(void *user, graft_log_level level, const char *message)
{
    (void)user;
    (void)level;
    size_t used = strlen(logged);
    snprintf(logged + used, sizeof(logged) - used, "%s\n", message);
}

int setup(void **state)
{
    runtime_start(&rt, 2, exact_tier()); /* quantised and plain models are compared */
    rt.log = keep_log;
    logged[0] = '\0';
    return test_dir_open(state);
}

int teardown(void **state)
{
    runtime_stop(&rt);
    return test_dir_close(state);
}

/* Files in the test's folder. */
int count_files(void)
{
    DIR *stream = opendir(test_dir);
    int n = 0;
    assert_non_null(stream);
    while (readdir(stream))
        n++;
    closedir(stream);
    return n - 2;
}

/* ---- conversions -------------------------------------------------------------------------- */

graft_status try_convert(struct graft_runtime *runtime, const char *in, const char *out,
                         const char *type, graft_error *error)
{
    bool gguf = strstr(out, ".gguf") != NULL;
    graft_convert_options options = {.struct_size = sizeof(options),
                                     .format = gguf ? GRAFT_FORMAT_GGUF : GRAFT_FORMAT_HF,
                                     .type = type};
    *error = (graft_error){0};
    return model_convert(runtime, at(in), at(out), &options, error);
}

/* in → out, a GGUF when the name ends so. */
void convert(const char *in, const char *out, const char *type)
{
    graft_error error;
    if (try_convert(&rt, in, out, type, &error) != GRAFT_OK)
        fail_msg("%s to %s as %s: %s", in, out, type, error.message);
}

void refuse(const char *in, const char *out, const char *type, graft_status status,
            const char *words)
{
    graft_error error;
    int before = count_files();
    graft_status found = try_convert(&rt, in, out, type, &error);
    if (found != status || !strstr(error.message, words))
        fail_msg("%s to %s as %s: status %d, \"%s\"; expected %d and \"%s\"", in, out, type,
                 (int)found, error.message, (int)status, words);
    assert_int_equal(count_files(), before);
}

/* A random model at `name`; yarn is a qwen2 with that scaling. */
void write_model(const char *arch, const char *name, graft_type type)
{
    struct oracle_model m;
    bool yarn = !strcmp(arch, "yarn");
    json_t *config = oracle_config(yarn ? "qwen2" : arch);
    if (yarn)
        json_object_set_new(config, "rope_scaling",
                            json_pack("{s:s, s:f, s:f, s:i}", "rope_type", "yarn", "factor", 4.0,
                                      "attention_factor", 1.25, "original_max_position_embeddings",
                                      64));
    oracle_model_make(&m, config, 1);
    oracle_write_hf(&m, at(name), type);
    oracle_model_free(&m);
}

/* ---- comparison --------------------------------------------------------------------------- */

static const graft_token_id TOKENS[N_TOKENS] = {
    1, 17, 300, 5, 5, 99, 42, 7, 211, 8, 330, 12, 64, 65, 66, 129, 30, 255, 3, 180, 77, 21, 90, 4};

float *logits_of(const char *name, size_t *count)
{
    struct model *m = open_model(&rt, at(name));
    float *logits = run_tokens(m, TOKENS, N_TOKENS, (struct run){ROLE_PREFILL, KV_F32, 7});
    *count = (size_t)N_TOKENS * (size_t)model_n_logits(m);
    model_close(&m);
    return logits;
}

/* max|a - b| / max|b|; 0: equal. */
double distance(const char *a, const char *b)
{
    size_t n_a, n_b;
    float *x = logits_of(a, &n_a), *y = logits_of(b, &n_b);
    assert_int_equal(n_a, n_b);
    double d = memcmp(x, y, n_a * sizeof(float)) ? relative_error(x, y, n_a) : 0;
    free(x);
    free(y);
    return d;
}

/* Every tensor of a is in b, byte for byte, and b has no other. */
void assert_same_tensors(const char *a, const char *b)
{
    struct tensor_set x, y;
    assert_int_equal(tensor_set_open(&x, NULL, at(a), MAP_COPY, NULL), GRAFT_OK);
    assert_int_equal(tensor_set_open(&y, NULL, at(b), MAP_COPY, NULL), GRAFT_OK);
    assert_int_equal(tensor_set_count(&x), tensor_set_count(&y));
    for (size_t i = 0; i < tensor_set_count(&x); i++) {
        const struct tensor_info *t = tensor_set_at(&x, i), *u = tensor_set_find(&y, t->name);
        if (!u || u->type != t->type || u->n_dims != t->n_dims || u->size != t->size ||
            memcmp(u->shape, t->shape, (size_t)t->n_dims * sizeof(*t->shape)) ||
            memcmp(u->data, t->data, t->size))
            fail_msg("%s differs between %s and %s", t->name, a, b);
    }
    tensor_set_close(&x);
    tensor_set_close(&y);
}

void assert_same_files(const char *a, const char *b)
{
    char *x, *y;
    size_t n_x, n_y;
    assert_int_equal(file_read(NULL, at(a), 1 << 28, &x, &n_x, NULL), GRAFT_OK);
    assert_int_equal(file_read(NULL, at(b), 1 << 28, &y, &n_y, NULL), GRAFT_OK);
    assert_int_equal(n_x, n_y);
    assert_memory_equal(x, y, n_x);
    mem_free(NULL, x);
    mem_free(NULL, y);
}
