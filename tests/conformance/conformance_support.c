/* conformance_support.c: see conformance_support.h. */
#include "conformance_support.h"

#include "npy.h"

#include <dirent.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

void runtime_start(struct graft_runtime *rt, int threads, const struct kernels *tier)
{
    graft_error error = {0};
    *rt = (struct graft_runtime){.log_level = GRAFT_LOG_WARN, .pid = getpid()};
    mem_init(&rt->mem, NULL);
    rt->kernels = tier ? tier : kernels_find(NULL);
    if (pool_open(&rt->pool, &rt->mem, threads, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
}

void runtime_stop(struct graft_runtime *rt)
{
    pool_close(&rt->pool);
    assert_int_equal(atomic_load(&rt->mem.bytes_in_use), 0);
}

const struct kernels *exact_tier(void)
{
    const struct kernels *found = NULL;
    for (int tier = 0; kernels_tier(tier); tier++)
        if (kernels_tier(tier)->quantised_panels == PANEL_F32)
            found = kernels_tier(tier);
    return found;
}

/* ---- files -------------------------------------------------------------------------------- */

char *temp_dir(void)
{
    const char *base = getenv("TMPDIR");
    char *dir = malloc(512);
    snprintf(dir, 512, "%s/graft-test-XXXXXX", base && *base ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
    return dir;
}

void temp_remove(const char *dir)
{
    DIR *stream = opendir(dir);
    assert_non_null(stream);
    const struct dirent *entry;
    while ((entry = readdir(stream))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        char *path = path_join(NULL, dir, entry->d_name);
        struct stat st;
        if (!lstat(path, &st) && S_ISDIR(st.st_mode))
            temp_remove(path);
        else
            unlink(path);
        mem_free(NULL, path);
    }
    closedir(stream);
    rmdir(dir);
}

char *test_dir;

int test_dir_open(void **state)
{
    (void)state;
    test_dir = temp_dir();
    return 0;
}

int test_dir_close(void **state)
{
    (void)state;
    temp_remove(test_dir);
    free(test_dir);
    return 0;
}

const char *at(const char *name)
{
    static char paths[8][1024];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", test_dir, name);
    return path;
}

void write_file(const char *dir, const char *name, const void *bytes, size_t size)
{
    char *path = path_join(NULL, dir, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    mem_free(NULL, path);
}

float *load_npy(const char *path, size_t *count)
{
    graft_error error = {0};
    char *bytes = NULL;
    size_t size = 0;
    struct npy_array array;
    if (file_read(NULL, path, 1 << 28, &bytes, &size, &error) != GRAFT_OK ||
        npy_parse_f32(&array, (const uint8_t *)bytes, size, &error) != GRAFT_OK)
        fail_msg("%s: %s", path, error.message);
    float *values = malloc(array.count * sizeof(float));
    memcpy(values, array.data, array.count * sizeof(float));
    *count = array.count;
    mem_free(NULL, bytes);
    return values;
}

/* ---- runs --------------------------------------------------------------------------------- */

struct model *open_model(struct graft_runtime *rt, const char *path)
{
    graft_error error = {0};
    struct model *m = NULL;
    if (model_open(rt, path, NULL, &m, &error) != GRAFT_OK)
        fail_msg("%s: %s (%s %s)", path, error.message, error.file, error.tensor);
    return m;
}

struct timeline {
    const struct delta_set *deltas;
    struct kv_pool *pool;
    struct kv_seq *seq;
    struct workspace *ws;
};

static void timeline_open(struct timeline *t, const struct model *m, struct run how)
{
    graft_error error = {0};
    const struct kv_pool_options options = {how.kv, how.kv, 64};
    if (kv_pool_open(m, &options, &t->pool, &error) != GRAFT_OK ||
        kv_seq_open(t->pool, &t->seq, &error) != GRAFT_OK ||
        workspace_open(m, how.chunk, &t->ws, &error) != GRAFT_OK)
        fail_msg("%s", error.message);
}

static void timeline_close(struct timeline *t)
{
    workspace_close(&t->ws);
    kv_seq_close(&t->seq);
    kv_pool_close(&t->pool);
}

/* Appends the tokens in chunks; their logits go to out [n, n_logits] unless it is NULL. */
static void append(const struct model *m, struct timeline *t, const graft_token_id *tokens, int n,
                   struct run how, float *out)
{
    graft_error error = {0};
    size_t width = (size_t)model_n_logits(m);
    struct row *rows = calloc((size_t)how.chunk, sizeof(*rows));
    for (int done = 0; done < n; done += how.chunk) {
        int count = n - done < how.chunk ? n - done : how.chunk;
        for (int i = 0; i < count; i++)
            rows[i] = (struct row){.token = tokens[done + i],
                                   .pos = (int32_t)kv_seq_length(t->seq) + i,
                                   .seq = t->seq,
                                   .role = how.role,
                                   .want_logits = true,
                                   .deltas = t->deltas};
        if (model_forward(m, rows, count, t->ws, &error) != GRAFT_OK)
            fail_msg("%s", error.message);
        for (int i = 0; out && i < count; i++)
            memcpy(out + (size_t)(done + i) * width, workspace_logits(t->ws, i),
                   width * sizeof(float));
    }
    free(rows);
}

float *run_tokens(const struct model *m, const graft_token_id *tokens, int n, struct run how)
{
    return run_tokens_with(m, tokens, n, how, NULL);
}

float *run_tokens_with(const struct model *m, const graft_token_id *tokens, int n, struct run how,
                       const struct delta_set *deltas)
{
    struct timeline t = {.deltas = deltas};
    float *out = malloc((size_t)n * (size_t)model_n_logits(m) * sizeof(float));
    timeline_open(&t, m, how);
    append(m, &t, tokens, n, how, out);
    timeline_close(&t);
    return out;
}

void run_greedy(const struct model *m, const graft_token_id *tokens, int n_tokens, struct run how,
                graft_token_id *out, int n)
{
    run_greedy_with(m, tokens, n_tokens, how, NULL, out, n);
}

void run_greedy_with(const struct model *m, const graft_token_id *tokens, int n_tokens,
                     struct run how, const struct delta_set *deltas, graft_token_id *out, int n)
{
    struct timeline t = {.deltas = deltas};
    int width = model_n_logits(m);
    float *logits = malloc((size_t)n_tokens * (size_t)width * sizeof(float));
    timeline_open(&t, m, how);
    append(m, &t, tokens, n_tokens, how, logits);
    const float *last = logits + (size_t)(n_tokens - 1) * (size_t)width;
    for (int i = 0; i < n; i++) {
        out[i] = 0;
        for (int j = 1; j < width; j++)
            if (last[j] > last[out[i]])
                out[i] = j;
        append(m, &t, &out[i], 1, how, logits);
        last = logits;
    }
    timeline_close(&t);
    free(logits);
}

/* ---- comparison --------------------------------------------------------------------------- */

double relative_error(const float *got, const float *want, size_t n)
{
    double largest = 0, error = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = fabs((double)got[i] - (double)want[i]);
        if (!(difference <= error)) /* a NaN sticks */
            error = difference;
        if (fabs((double)want[i]) > largest)
            largest = fabs((double)want[i]);
    }
    return error / largest;
}

double effect_error(const float *got, const float *got0, const float *want, const float *want0,
                    size_t n)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double effect = (double)want[i] - (double)want0[i];
        double d = (double)got[i] - (double)got0[i] - effect;
        difference += d * d;
        size += effect * effect;
    }
    return sqrt(difference / size);
}

static double log_sum_exp(const float *x, int n)
{
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++)
        top = x[i] > top ? x[i] : top;
    for (int i = 0; i < n; i++)
        sum += exp(x[i] - top);
    return top + log(sum);
}

double mean_kl(const float *got, const float *want, int rows, int n)
{
    double total = 0;
    for (int r = 0; r < rows; r++, got += n, want += n) {
        double z_got = log_sum_exp(got, n), z_want = log_sum_exp(want, n);
        for (int i = 0; i < n; i++)
            total += exp(want[i] - z_want) * ((want[i] - z_want) - (got[i] - z_got));
    }
    return total / rows;
}
