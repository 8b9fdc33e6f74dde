/* test_bench.c: figures come with what they need to be believed, wrong results give none, and random
 * models are models. How fast anything is, is no matter of tests.
 */
#include "bench/bench_internal.h"
#include "unit/api_fixture.h"

#include <math.h>
#include <unistd.h>

enum { FIGURES_MAX = 64 };

struct figures {
    graft_bench_result of[FIGURES_MAX];
    char names[FIGURES_MAX][CASE_NAME_SIZE];
    int n;
};

static void keep(void *user, const graft_bench_result *r)
{
    struct figures *f = user;
    assert_true(f->n < FIGURES_MAX);
    f->of[f->n] = *r;
    snprintf(f->names[f->n++], CASE_NAME_SIZE, "%s", r->name);
}

static graft_bench_options mini(const char *bench)
{
    graft_bench_options o = graft_bench_options_default();
    o.bench = bench;
    o.shape = "mini";
    o.samples = 1;
    o.tokens = 5;
    o.contexts[0] = 7;
    o.contexts[1] = 150;
    o.n_contexts = 2;
    o.rows[0] = 1;
    o.rows[1] = 3;
    o.n_rows = 2;
    return o;
}

static struct figures run(graft_runtime *runtime, const graft_bench_options *o)
{
    struct figures f = {.n = 0};
    MUST(graft_bench_run(runtime, o, keep, &f, error));
    return f;
}

/* ---- figures ---- */

static void every_bench_gives_positive_figures_with_their_limits(void **state)
{
    (void)state;
    static const struct {
        const char *bench;
        int n;
    } benches[] = {{"decode", 4},  {"prefill", 1}, {"attention", 3},
                   {"linear", 30}, {"load", 1},    {"adapters", 12}};
    graft_runtime *runtime = open_runtime(2);
    size_t before = atomic_load(&runtime->mem.bytes_in_use);
    for (size_t i = 0; i < ARRAY_LEN(benches); i++) {
        graft_bench_options o = mini(benches[i].bench);
        struct figures f = run(runtime, &o);
        assert_int_equal(f.n, benches[i].n);
        for (int k = 0; k < f.n; k++) {
            const graft_bench_result *r = &f.of[k];
            bool difference = strstr(f.names[k], "more a step") != NULL; /* of noise, here */
            assert_true(difference || (r->value > 0 && r->spread >= 0 && r->seconds > 0));
            assert_int_equal(r->samples, 1);
            assert_non_null(r->limit);
            assert_true(difference || r->limit_share > 0);
            assert_non_null(r->checked);
            assert_true(r->baseline ? r->ratio > 0 : isnan(r->ratio));
            assert_true(difference || r->share_spread == 0); /* of one sample */
            assert_true(r->baseline ? r->ratio_spread == 0 : isnan(r->ratio_spread));
        }
    }
    assert_int_equal(atomic_load(&runtime->mem.bytes_in_use), before);
    graft_runtime_close(&runtime);
}

static void limits_are_those_of_one_thread_and_of_all(void **state)
{
    (void)state;
    graft_runtime *runtime = open_runtime(2);
    graft_bench_options o = mini("limits");
    struct figures f = run(runtime, &o);
    assert_true(f.n >= 4);
    assert_string_equal(f.names[0], "read bandwidth, 1 thread");
    assert_string_equal(f.names[1], "read bandwidth, 2 threads");
    for (int i = 0; i < f.n; i++) {
        assert_true(f.of[i].value > 0);
        assert_null(f.of[i].limit);
    }
    graft_runtime_close(&runtime);
}

static void norms_say_nothing(const float *x, const float *weight, const float *dy, int64_t n,
                              float eps, float *dx, float *dweight)
{
    (void)x, (void)weight, (void)dy, (void)n, (void)eps, (void)dx, (void)dweight;
}

static void training_is_compared_with_prompts(void **state)
{
    (void)state;
    graft_runtime *runtime = open_runtime(2);
    size_t before = atomic_load(&runtime->mem.bytes_in_use);
    graft_bench_options o = mini("train");
    struct figures f = run(runtime, &o);
    assert_int_equal(f.n, 7);
    for (int i = 0; i < 4; i++)
        assert_true(f.of[i].value > 0 && f.of[i].limit_share > 0);
    assert_true(f.of[1].baseline_value == f.of[0].value); /* a step, beside the prompt */
    assert_true(f.of[2].baseline_value == f.of[0].value);
    assert_true(f.of[3].baseline_value == f.of[1].value); /* DoRA, beside LoRA */
    assert_true(f.of[5].ratio < 0.5);                     /* activations kept */
    assert_true(f.of[6].value > f.of[5].value);
    assert_int_equal(atomic_load(&runtime->mem.bytes_in_use), before);
    graft_runtime_close(&runtime);
}

static void gradients_that_are_wrong_give_no_figure(void **state)
{
    (void)state;
    graft_runtime *runtime = open_runtime(2);
    const struct kernels *good = runtime->kernels;
    struct kernels bad = *good;
    bad.rmsnorm_backward = norms_say_nothing;
    runtime->kernels = &bad;
    graft_bench_options o = mini("train");
    struct figures f = {.n = 0};
    graft_error error = {0};
    assert_int_equal(graft_bench_run(runtime, &o, keep, &f, &error), GRAFT_NUMERIC);
    assert_non_null(strstr(error.message, "gradients through all blocks"));
    assert_int_equal(f.n, 0);
    runtime->kernels = good;
    graft_runtime_close(&runtime);
}

static void swaps_are_counted_and_leave_nothing(void **state)
{
    (void)state;
    graft_runtime *runtime = open_runtime(2);
    size_t before = atomic_load(&runtime->mem.bytes_in_use);
    static const char *const types[] = {"bf16", "int8", "q4"};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        graft_bench_options o = mini("swap");
        o.adapter_type = types[i];
        o.rank = 32;
        o.dora = i == 1;
        struct figures f = run(runtime, &o);
        assert_int_equal(f.n, 15);
        assert_string_equal(f.names[0], "swap, median");
        for (int k = 0; k < 12; k += 2) /* medians before p99 */
            assert_true(f.of[k].value > 0 && f.of[k].value <= f.of[k + 1].value);
        assert_string_equal(f.names[2], "swap by name, median");
        assert_string_equal(f.names[9], "step after a swap, p99");
        assert_true(f.of[9].baseline_value == f.of[7].value);
        assert_string_equal(f.names[13], "memory with 16 adapters");
        assert_true(f.of[13].value > 0 && f.of[13].ratio > 0);
        assert_true(f.of[14].value > 0);
    }
    graft_bench_options o = mini("swap");
    struct figures none = {.n = 0};
    o.adapter_type = "f64";
    assert_int_equal(graft_bench_run(runtime, &o, keep, &none, NULL), GRAFT_INVALID_ARGUMENT);
    o = mini("adapters");
    o.rank = 0;
    assert_int_equal(graft_bench_run(runtime, &o, keep, &none, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(none.n, 0);
    assert_int_equal(atomic_load(&runtime->mem.bytes_in_use), before);
    graft_runtime_close(&runtime);
}

static void presets_are_measured_on_any_model_and_have_targets_at_one_width(void **state)
{
    (void)state;
    static const double fp16_kib[] = {192, 72, 336, 144, 48};
    graft_runtime *runtime = open_runtime(2);
    size_t before = atomic_load(&runtime->mem.bytes_in_use);
    graft_bench_options o = mini("presets");
    struct figures f = run(runtime, &o);
    assert_int_equal(f.n, 10);
    assert_null(f.of[0].baseline);
    assert_true(isnan(f.of[1].ratio));
    o.shape = "width-768";
    o.adapter_type = "f16";
    f = run(runtime, &o);
    assert_int_equal(f.n, 10);
    assert_string_equal(f.names[0], "coder, memory");
    assert_string_equal(f.names[9], "reviewer, time of a token");
    assert_true(f.of[9].baseline_value == 30);
    for (int i = 0; i < 5; i++) /* the factors, and little else */
        assert_in_range(f.of[2 * i].value * 1000, fp16_kib[i] * 1024, fp16_kib[i] * 1024 + 4096);
    assert_int_equal(atomic_load(&runtime->mem.bytes_in_use), before);
    graft_runtime_close(&runtime);
}

static void decode_compares_rows_with_one_row_and_contexts_with_the_first(void **state)
{
    (void)state;
    graft_runtime *runtime = open_runtime(1);
    graft_bench_options o = mini("decode");
    struct figures f = run(runtime, &o);
    assert_string_equal(f.names[0], "context 7");
    assert_null(f.of[0].baseline);
    assert_string_equal(f.names[1], "context 150");
    assert_non_null(f.of[1].baseline);
    assert_string_equal(f.names[2], "context 7, 3 rows");
    assert_non_null(f.of[2].baseline);
    assert_true(f.of[2].baseline_value == f.of[0].value);
    assert_true(f.of[3].baseline_value == f.of[1].value);
    graft_runtime_close(&runtime);
}

static void a_model_of_somebody_is_measured_too(void **state)
{
    (void)state;
    struct fixture fixture = open_fixture(NULL, 2);
    static const char *const benches[] = {"decode", "prefill", "attention", "linear", "load"};
    for (size_t i = 0; i < ARRAY_LEN(benches); i++) {
        graft_bench_options o = mini(benches[i]);
        o.model = fixture.dir;
        o.cache_k = GRAFT_KV_Q8;
        o.cache_v = GRAFT_KV_F32;
        assert_true(run(fixture.runtime, &o).n > 0);
    }
    close_fixture(&fixture);
}

/* ---- no figure without a check ---- */

static void zeros(const struct matrix *w, const void *x, int n_tok, int64_t o_begin, int64_t o_end,
                  float *y, int64_t y_stride, void *scratch)
{
    (void)w, (void)x, (void)scratch;
    for (int t = 0; t < n_tok; t++)
        for (int64_t o = o_begin; o < o_end; o++)
            y[t * y_stride + o] = 0;
}

static void wrong_results_give_no_figure(void **state)
{
    (void)state;
    static const char *const benches[] = {"decode", "prefill",  "linear",
                                          "load",   "adapters", "swap"};
    graft_runtime *runtime = open_runtime(2);
    const struct kernels *good = runtime->kernels;
    struct kernels bad = *good;
    bad.linear_decode[GRAFT_TYPE_Q8_0] = zeros;
    runtime->kernels = &bad;
    for (size_t i = 0; i < ARRAY_LEN(benches); i++) {
        graft_bench_options o = mini(benches[i]);
        struct figures f = {.n = 0};
        graft_error error = {0};
        assert_int_equal(graft_bench_run(runtime, &o, keep, &f, &error), GRAFT_NUMERIC);
        assert_non_null(strstr(error.message, "scalar"));
        assert_int_equal(f.n, 0);
    }
    runtime->kernels = good;
    graft_runtime_close(&runtime);
}

static const struct kernels *as_they_are;

/* Right for one row, and a little off for each of several: no more than rounding might be. */
static void off_in_company(const struct matrix *w, const void *x, int n_tok, int64_t o_begin,
                           int64_t o_end, float *y, int64_t y_stride, void *scratch)
{
    as_they_are->linear_decode[GRAFT_TYPE_Q8_0](w, x, n_tok, o_begin, o_end, y, y_stride, scratch);
    for (int t = 0; t < n_tok && n_tok > 1; t++)
        for (int64_t o = o_begin; o < o_end; o++)
            y[t * y_stride + o] *= 1.00001f;
}

/* A little off whenever it is asked again. */
static void never_the_same(const struct matrix *w, const void *x, int n_tok, int64_t o_begin,
                           int64_t o_end, float *y, int64_t y_stride, void *scratch)
{
    static atomic_int calls;
    float factor = 1 + 1e-6f * (float)(atomic_fetch_add(&calls, 1) % 101);
    as_they_are->linear_decode[GRAFT_TYPE_Q8_0](w, x, n_tok, o_begin, o_end, y, y_stride, scratch);
    for (int t = 0; t < n_tok; t++)
        for (int64_t o = o_begin; o < o_end; o++)
            y[t * y_stride + o] *= factor;
}

static void what_should_be_equal_is_compared_bit_by_bit(void **state)
{
    (void)state;
    static const struct {
        void (*decode)(const struct matrix *w, const void *x, int n_tok, int64_t o_begin,
                       int64_t o_end, float *y, int64_t y_stride, void *scratch);
        const char *says;
        int n_figures; /* of what was equal */
    } wrongs[] = {{off_in_company, "differs from the row alone", 2},
                  {never_the_same, "adapters in memory change", 0}};
    graft_runtime *runtime = open_runtime(2);
    as_they_are = runtime->kernels;
    for (size_t i = 0; i < ARRAY_LEN(wrongs); i++) {
        struct kernels bad = *as_they_are;
        struct figures f = {.n = 0};
        graft_error error = {0};
        graft_bench_options o = mini("adapters");
        bad.linear_decode[GRAFT_TYPE_Q8_0] = wrongs[i].decode;
        runtime->kernels = &bad;
        assert_int_equal(graft_bench_run(runtime, &o, keep, &f, &error), GRAFT_NUMERIC);
        if (!strstr(error.message, wrongs[i].says))
            fail_msg("%s", error.message);
        assert_int_equal(f.n, wrongs[i].n_figures);
    }
    runtime->kernels = as_they_are;
    graft_runtime_close(&runtime);
}

static void attend_to_nothing(const struct attention_args *args)
{
    for (int r = 0; r < args->n_row; r++)
        memset(args->out + r * args->out_stride, 0,
               (size_t)args->n_group * (size_t)args->d_head * sizeof(float));
    memset(args->l, 0, (size_t)args->n_row * (size_t)args->n_group * sizeof(float));
}

static void wrong_attention_gives_no_figure(void **state)
{
    (void)state;
    graft_runtime *runtime = open_runtime(2);
    const struct kernels *good = runtime->kernels;
    struct kernels bad = *good;
    bad.attention[ROLE_DECODE] = bad.attention[ROLE_PREFILL] = attend_to_nothing;
    runtime->kernels = &bad;
    static const char *const benches[] = {"attention", "decode"};
    for (size_t i = 0; i < ARRAY_LEN(benches); i++) {
        graft_bench_options o = mini(benches[i]);
        struct figures f = {.n = 0};
        assert_int_equal(graft_bench_run(runtime, &o, keep, &f, NULL), GRAFT_NUMERIC);
        assert_int_equal(f.n, 0);
    }
    runtime->kernels = good;
    graft_runtime_close(&runtime);
}

static void close_means_small_beside_the_outputs_and_not_nan(void **state)
{
    (void)state;
    const float want[2] = {3, 4}, near[2] = {3, 4.004f}, far[2] = {3, 4.2f}, none[2] = {3, NAN};
    assert_int_equal(check_close(near, want, 2, false, "x", NULL), GRAFT_OK);
    assert_int_equal(check_close(far, want, 2, true, "x", NULL), GRAFT_NUMERIC);
    assert_int_equal(check_close(none, want, 2, true, "x", NULL), GRAFT_NUMERIC);
}

/* ---- wrong use ---- */

static void refused(graft_bench_options o, graft_status status, const char *text)
{
    graft_runtime *runtime = open_runtime(1);
    graft_error error = {0};
    struct figures f = {.n = 0};
    assert_int_equal(graft_bench_run(runtime, &o, keep, &f, &error), status);
    if (!strstr(error.message, text))
        fail_msg("\"%s\" does not say \"%s\"", error.message, text);
    graft_runtime_close(&runtime);
}

static void unknown_names_are_answered_with_those_that_are_known(void **state)
{
    (void)state;
    graft_bench_options o = mini("dance");
    refused(o, GRAFT_INVALID_ARGUMENT, "limits, decode");
    o = mini("decode");
    o.shape = "gpt-7";
    refused(o, GRAFT_INVALID_ARGUMENT, graft_bench_shapes());
    o = mini("decode");
    o.type = "q3_z";
    refused(o, GRAFT_INVALID_ARGUMENT, "q4_k_m");
    o.type = "";
    refused(o, GRAFT_INVALID_ARGUMENT, "q4_k_m");
    o = mini("decode");
    o.model = "/nonexistent/model";
    refused(o, GRAFT_NOT_FOUND, "");
}

static void numbers_out_of_range_are_refused(void **state)
{
    (void)state;
    graft_bench_options o = mini("decode");
    o.rows[0] = 65;
    refused(o, GRAFT_INVALID_ARGUMENT, "rows");
    o = mini("decode");
    o.contexts[1] = 0;
    refused(o, GRAFT_INVALID_ARGUMENT, "contexts");
    o = mini("decode");
    o.n_rows = GRAFT_BENCH_LIST_MAX + 1;
    refused(o, GRAFT_INVALID_ARGUMENT, "rows");
    o = mini("decode");
    o.samples = 257;
    refused(o, GRAFT_INVALID_ARGUMENT, "samples");
    o = mini("prefill");
    o.tokens = -1;
    refused(o, GRAFT_INVALID_ARGUMENT, "tokens");
    o = mini("prefill");
    o.cache_k = (graft_kv_type)9;
    refused(o, GRAFT_INVALID_ARGUMENT, "cache");
    o = mini("prefill");
    o.shape = NULL;
    refused(o, GRAFT_INVALID_ARGUMENT, "shape");
    o = mini(NULL);
    refused(o, GRAFT_INVALID_ARGUMENT, "bench");
}

static bool cancel_at_once(void *user, uint64_t done, uint64_t total, const char *what)
{
    (void)user, (void)what;
    assert_true(done <= total);
    return false;
}

static void progress_cancels_and_leaves_nothing(void **state)
{
    (void)state;
    static const char *const benches[] = {"limits", "decode"};
    graft_runtime *runtime = open_runtime(1);
    size_t before = atomic_load(&runtime->mem.bytes_in_use);
    for (size_t i = 0; i < ARRAY_LEN(benches); i++) {
        graft_bench_options o = mini(benches[i]);
        struct figures f = {.n = 0};
        o.progress = cancel_at_once;
        assert_int_equal(graft_bench_run(runtime, &o, keep, &f, NULL), GRAFT_CANCELLED);
        assert_int_equal(f.n, 0);
    }
    assert_int_equal(atomic_load(&runtime->mem.bytes_in_use), before);
    graft_runtime_close(&runtime);
}

static bool never_back(void *user, uint64_t done, uint64_t total, const char *what)
{
    double *share = user, now = (double)done / (double)total;
    (void)what;
    assert_true(done <= total && (total < 1000000 || now >= *share));
    *share = total < 1000000 ? 0 : now; /* until then it was the random weights */
    return true;
}

static void progress_of_several_measurements_is_one_way(void **state)
{
    (void)state;
    graft_runtime *runtime = open_runtime(1);
    graft_bench_options o = mini("speculative");
    double share = 0;
    o.progress = never_back;
    o.progress_user = &share;
    run(runtime, &o);
    assert_true(share > 0.8);
    graft_runtime_close(&runtime);
}

/* What warms up takes long, and what is measured then does not: there will be more samples than it seemed. */
struct slow_start {
    double share;
    int steps; /* since it is warm */
};

static bool slow_at_first(void *user, uint64_t done, uint64_t total, const char *what)
{
    struct slow_start *s = user;
    double now = (double)done / (double)total;
    bool warm = strcmp(what, "warming up") == 0;
    if (warm)
        usleep(300000);
    assert_true(s->steps == 0 || now >= s->share);
    s->steps += s->steps > 0 || warm;
    s->share = now;
    return s->steps < 12;
}

static void progress_goes_on_when_there_will_be_more_samples(void **state)
{
    (void)state;
    graft_runtime *runtime = open_runtime(1);
    graft_bench_options o = mini("prefill");
    struct slow_start s = {.share = 0};
    struct figures f = {.n = 0};
    o.samples = 0;
    o.progress = slow_at_first;
    o.progress_user = &s;
    assert_int_equal(graft_bench_run(runtime, &o, keep, &f, NULL), GRAFT_CANCELLED);
    assert_int_equal(s.steps, 12);
    graft_runtime_close(&runtime);
}

/* ---- the list ---- */

static void every_bench_that_is_listed_is_known_and_told(void **state)
{
    (void)state;
    graft_runtime *runtime = open_runtime(1);
    graft_bench_options o = mini("dance");
    struct figures f = {.n = 0};
    graft_error error = {0};
    const graft_bench_kind *kind;
    size_t n = 0;
    assert_int_equal(graft_bench_run(runtime, &o, keep, &f, &error), GRAFT_INVALID_ARGUMENT);
    for (; (kind = graft_bench_kind_at(n)) != NULL; n++) {
        assert_non_null(strstr(error.message, kind->name));
        assert_non_null(kind->about);
        assert_true((kind->tokens != NULL) == ((kind->uses & GRAFT_BENCH_TOKENS) != 0));
    }
    assert_int_equal(n, 15);
    graft_runtime_close(&runtime);
}

/* ---- random models ---- */

static void every_shape_that_is_listed_is_there(void **state)
{
    (void)state;
    char list[256], *rest = list;
    snprintf(list, sizeof list, "%s", graft_bench_shapes());
    for (char *name; (name = strsep(&rest, ",")) != NULL;) {
        const struct shape *shape = shape_find(name + strspn(name, " "));
        assert_non_null(shape);
        assert_int_equal(shape->dimensions.d_model % 32, 0);
    }
}

/* Writes mini as `type`, opens it, and looks at the logits of a prompt. */
static void try_type(graft_runtime *runtime, const char *type, const char *path)
{
    enum { N = 9 };
    graft_bench_options o = mini(NULL);
    char *subject = NULL;
    graft_model *model = NULL;
    graft_session *session = NULL;
    graft_session_options so = sampled(1);
    graft_token_id ids[N] = {1, 2, 3, 500, 1023, 4, 5, 6, 7};
    o.type = type;
    MUST(graft_bench_write(runtime, &o, path, &subject, error));
    assert_non_null(strstr(subject, "random weights, head "));
    MUST(graft_model_open(runtime, path, NULL, &model, error));
    MUST(graft_session_open(model, &so, &session, error));
    graft_model_info info;
    MUST(graft_model_describe(model, &info, error));
    assert_int_equal(info.n_vocab, 1024);
    assert_true(info.has_tokenizer == (strncmp(type, "mlx", 3) != 0));
    float *logits = mem_calloc(NULL, N * 1024, sizeof *logits);
    MUST(graft_session_logits(session, ids, N, GRAFT_ROLE_PREFILL, logits, error));
    double sum = 0, squares = 0;
    for (int i = 0; i < N * 1024; i++) {
        sum += (double)logits[i] / (N * 1024);
        squares += (double)logits[i] * (double)logits[i] / (N * 1024);
    }
    /* neither vanished nor saturated */
    assert_true(fabs(sum) < 0.5 && squares > 0.25 && squares < 4);
    mem_free(NULL, logits);
    graft_free(runtime, subject);
    graft_session_close(&session);
    graft_model_close(&model);
}

static void random_models_of_every_type_are_models(void **state)
{
    (void)state;
    static const char *const types[] = {"f32",    "f16",    "bf16",   "q8_0",   "q4_0",   "q4_1",
                                        "q5_0",   "q5_1",   "q2_k",   "q3_k_s", "q3_k_m", "q4_k_s",
                                        "q4_k_m", "q5_k_s", "q5_k_m", "q6_k"};
    char path[] = "/tmp/graft-bench-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    graft_runtime *runtime = open_runtime(2);
    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        try_type(runtime, types[i], path);
    graft_runtime_close(&runtime);
    unlink(path);
}

static void random_models_of_mlx_types_are_folders(void **state)
{
    (void)state;
    static const char *const types[] = {"mlx4", "mlx8"};
    static const char *const files[] = {"model.safetensors", "config.json"};
    graft_runtime *runtime = open_runtime(2);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        char dir[] = "/tmp/graft-bench-XXXXXX";
        assert_non_null(mkdtemp(dir));
        try_type(runtime, types[i], dir);
        graft_bench_options o = mini(NULL);
        o.type = types[i];
        assert_int_equal(graft_bench_write(runtime, &o, dir, NULL, NULL), GRAFT_IO); /* not empty */
        for (size_t k = 0; k < ARRAY_LEN(files); k++) {
            char *path = path_join(NULL, dir, files[k]);
            assert_int_equal(unlink(path), 0);
            mem_free(NULL, path);
        }
        assert_int_equal(rmdir(dir), 0);
        o = mini("decode");
        o.type = types[i];
        assert_int_equal(run(runtime, &o).n, 4);
    }
    graft_runtime_close(&runtime);
}

static void the_made_up_vocabulary_gives_text_back(void **state)
{
    (void)state;
    static const char text[] = "Bytes \x01 and pairs; \xC3\xA9t\xC3\xA9";
    char path[] = "/tmp/graft-bench-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    graft_runtime *runtime = open_runtime(1);
    graft_bench_options o = mini(NULL);
    graft_tokenizer *tokenizer = NULL;
    graft_token_id *ids = NULL;
    char *back = NULL;
    size_t n, size;
    MUST(graft_bench_write(runtime, &o, path, NULL, error));
    MUST(graft_tokenizer_open(runtime, path, &tokenizer, error));
    MUST(graft_tokenize(tokenizer, text, sizeof text - 1, 0, &ids, &n, error));
    MUST(graft_detokenize(tokenizer, ids, n, false, &back, &size, error));
    assert_int_equal(size, sizeof text - 1);
    assert_memory_equal(back, text, size);
    graft_free(runtime, ids);
    graft_free(runtime, back);
    graft_tokenizer_close(&tokenizer);
    graft_runtime_close(&runtime);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bench_gives_positive_figures_with_their_limits),
        cmocka_unit_test(limits_are_those_of_one_thread_and_of_all),
        cmocka_unit_test(training_is_compared_with_prompts),
        cmocka_unit_test(gradients_that_are_wrong_give_no_figure),
        cmocka_unit_test(swaps_are_counted_and_leave_nothing),
        cmocka_unit_test(presets_are_measured_on_any_model_and_have_targets_at_one_width),
        cmocka_unit_test(decode_compares_rows_with_one_row_and_contexts_with_the_first),
        cmocka_unit_test(a_model_of_somebody_is_measured_too),
        cmocka_unit_test(wrong_results_give_no_figure),
        cmocka_unit_test(what_should_be_equal_is_compared_bit_by_bit),
        cmocka_unit_test(wrong_attention_gives_no_figure),
        cmocka_unit_test(close_means_small_beside_the_outputs_and_not_nan),
        cmocka_unit_test(unknown_names_are_answered_with_those_that_are_known),
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(progress_cancels_and_leaves_nothing),
        cmocka_unit_test(progress_of_several_measurements_is_one_way),
        cmocka_unit_test(progress_goes_on_when_there_will_be_more_samples),
        cmocka_unit_test(every_bench_that_is_listed_is_known_and_told),
        cmocka_unit_test(every_shape_that_is_listed_is_there),
        cmocka_unit_test(random_models_of_every_type_are_models),
        cmocka_unit_test(random_models_of_mlx_types_are_folders),
        cmocka_unit_test(the_made_up_vocabulary_gives_text_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
