/* test_vectors.c: vectors in memory and in files, examples that are made up by known formulas, and a module that is fitted to
 * them.
 */
#include "train/vectors/vectors.h"

#include "conformance/conformance_support.h"
#include "formats/formats.h"
#include "unit/failing_allocator.h"
#include "unit/must.h"

#include <math.h>

static struct graft_runtime rt;

static int setup(void **state)
{
    runtime_start(&rt, 2, NULL);
    return test_dir_open(state);
}

static int teardown(void **state)
{
    runtime_stop(&rt);
    return test_dir_close(state);
}

static struct vectors *make(int task, int width, int64_t n, uint64_t seed, bool targets)
{
    struct vectors *v = NULL;
    const struct synthetic_options o = {
        .task = task, .width = width, .n = n, .seed = seed, .targets = targets};
    MUST(vectors_open(&rt.mem, width, width, &v, error));
    MUST(synthetic_add(v, &o, error));
    return v;
}

static double dot(const float *x, const float *y, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

/* ---- made-up examples ----------------------------------------------------------------------- */

static void qualities_are_the_formulas(void **state)
{
    (void)state;
    const float z[3] = {0.6F, 0.25F, 0.5F};
    const double want[SYNTHETIC_TASKS] = {0.6 * 1.25 / 2 * 0.85, 0.3 + 0.075 + 0.1,
                                          2 * 0.15 / 0.85 * 0.9, sqrt(0.6 * 0.75) * 0.875,
                                          (0.36 + 0.1 + 0.15) * (0.36 + 0.1 + 0.15)};
    const float none[3] = {0, 0, 0}, best[3] = {1, 1, 0};
    for (int task = 0; task < SYNTHETIC_TASKS; task++)
        assert_true(fabs((double)synthetic_quality(task, z) - want[task]) < 1e-6);
    assert_true(synthetic_quality(2, none) == 0);
    assert_true(synthetic_quality(0, best) == 1 && synthetic_quality(2, best) == 1);
    assert_null(synthetic_task(SYNTHETIC_TASKS));
    assert_null(synthetic_task(-1));
}

/* What a linear reader of the inputs explains of the quality, 0 to 1, on examples it has not seen. */
static double explained(const struct vectors *v, int64_t learned, int64_t n)
{
    const int width = vectors_in(v);
    double *w = calloc((size_t)width + 1, sizeof *w), left = 0, all = 0, mean = 0;
    assert_non_null(w);
    for (int epoch = 0; epoch < 30; epoch++)
        for (int64_t i = 0; i < learned; i++) {
            const struct vector_example e = vectors_at(v, i);
            double y = w[width], rate = 0.3 / width;
            for (int k = 0; k < width; k++)
                y += w[k] * (double)e.input[k];
            const double off = (double)e.quality - y;
            for (int k = 0; k < width; k++)
                w[k] += rate * off * (double)e.input[k];
            w[width] += rate * off;
        }
    for (int64_t i = learned; i < n; i++)
        mean += (double)vectors_at(v, i).quality / (double)(n - learned);
    for (int64_t i = learned; i < n; i++) {
        const struct vector_example e = vectors_at(v, i);
        double y = w[width];
        for (int k = 0; k < width; k++)
            y += w[k] * (double)e.input[k];
        left += ((double)e.quality - y) * ((double)e.quality - y);
        all += ((double)e.quality - mean) * ((double)e.quality - mean);
    }
    free(w);
    return 1 - left / all;
}

static void quality_can_be_read_off_the_input(void **state)
{
    (void)state;
    for (int task = 0; task < SYNTHETIC_TASKS; task++) {
        struct vectors *v = make(task, 128, 600, 5, false);
        double share = explained(v, 400, 600);
        if (!(share > 0.5))
            fail_msg("%s: %g", synthetic_task(task), share);
        vectors_close(&v);
    }
}

/* Example i is itself in any company; other seeds and tasks have others. */
static void examples_depend_on_task_width_seed_and_number_alone(void **state)
{
    (void)state;
    struct vectors *few = make(1, 70, 3, 9, true), *many = make(1, 70, 50, 9, true);
    struct vectors *other = make(1, 70, 50, 10, true);
    const size_t bytes = 70 * sizeof(float);
    for (int64_t i = 0; i < 3; i++) {
        const struct vector_example x = vectors_at(few, i), y = vectors_at(many, i);
        assert_memory_equal(x.input, y.input, bytes);
        assert_memory_equal(x.target, y.target, bytes);
        assert_true(x.quality == y.quality);
        assert_string_equal(x.domain, y.domain);
        assert_memory_not_equal(x.input, vectors_at(other, i).input, bytes);
    }
    for (int64_t i = 1; i < 50; i++)
        assert_memory_not_equal(vectors_at(many, i).input, vectors_at(many, i - 1).input, bytes);
    vectors_close(&few);
    vectors_close(&many);
    vectors_close(&other);
}

/* The mean input of a task is far from that of every other; names and ranges are as told. */
static void inputs_are_distinct_by_task(void **state)
{
    (void)state;
    enum { WIDTH = 768, N = 300 };
    static float means[SYNTHETIC_TASKS][WIDTH];
    for (int task = 0; task < SYNTHETIC_TASKS; task++) {
        struct vectors *v = make(task, WIDTH, N, 1, false);
        double low = 1, high = 0;
        int domains = 0;
        for (int64_t i = 0; i < N; i++) {
            const struct vector_example e = vectors_at(v, i);
            for (int k = 0; k < WIDTH; k++)
                means[task][k] += e.input[k] / N;
            low = fmin(low, (double)e.quality);
            high = fmax(high, (double)e.quality);
            assert_null(e.target);
            assert_string_equal(e.task, synthetic_task(task));
            domains += strcmp(e.domain, vectors_at(v, 0).domain) != 0;
        }
        assert_true(low >= 0 && high <= 1 && high - low > 0.5);
        assert_true(domains > N / 2 && domains < N);
        vectors_close(&v);
    }
    for (int a = 0; a < SYNTHETIC_TASKS; a++)
        for (int b = 0; b < a; b++) {
            const double sizes =
                sqrt(dot(means[a], means[a], WIDTH) * dot(means[b], means[b], WIDTH));
            assert_true(fabs(dot(means[a], means[b], WIDTH)) < 0.2 * sizes);
        }
}

/* ---- files ---------------------------------------------------------------------------------- */

static void files_bring_every_value_back(void **state)
{
    (void)state;
    struct vectors *v = make(3, 33, 5, 2, true), *back = NULL;
    const float input[33] = {1e-30F, -3.4e38F, 0.1F};
    const struct vector_example alone = {
        .input = input, .quality = 0.3F, .task = "a \"b\"\n\u00e9"};
    MUST(vectors_add(v, &alone, error));
    MUST(vectors_write(v, at("v.jsonl"), error));
    MUST(vectors_read(&rt.mem, at("v.jsonl"), &back, error));
    assert_int_equal(vectors_count(back), 6);
    for (int64_t i = 0; i < 6; i++) {
        const struct vector_example x = vectors_at(v, i), y = vectors_at(back, i);
        assert_memory_equal(x.input, y.input, 33 * sizeof(float));
        assert_int_equal(x.target == NULL, y.target == NULL);
        if (x.target)
            assert_memory_equal(x.target, y.target, 33 * sizeof(float));
        assert_true(x.quality == y.quality);
        assert_string_equal(x.task, y.task);
        assert_int_equal(x.domain == NULL, y.domain == NULL);
    }
    vectors_close(&v);
    vectors_close(&back);
}

static void what_is_wrong_with_a_line_is_said(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
    } CASES[] = {
        {"", "there is no vector in it"},
        {"\n \n", "there is no vector in it"},
        {"nonsense", "line 1: it is not JSON"},
        {"[1]", "line 1: it is no JSON object"},
        {"{}", "line 1: its \"input\" is no array"},
        {"{\"input\":[]}", "its \"input\" is no array"},
        {"{\"input\":[1,\"2\"]}", "its \"input\" is no array"},
        {"{\"input\":[1e300]}", "its \"input\" is no array"},
        {"{\"input\":[NaN]}", "it is not JSON"},
        {"{\"input\":[1]}\n{\"input\":[1,2]}",
         "line 2: an input of 2 values, and those before have 1"},
        {"{\"input\":[1],\"target\":[1,2]}\n\n{\"input\":[1],\"target\":[1]}",
         "line 3: a target of 1 values, and those before have 2"},
        {"{\"input\":[1],\"target\":7}", "its \"target\" is no array"},
        {"{\"input\":[1],\"quality\":1.01}", "its \"quality\" is no number from 0 to 1"},
        {"{\"input\":[1],\"quality\":\"good\"}", "its \"quality\" is no number from 0 to 1"},
        {"{\"input\":[1],\"task\":3}", "its task or domain is no text"},
        {"{\"input\":[1],\"domain\":\"a\\u0000b\"}", "its task or domain is no text"},
        {"{\"input\":[1],\"vector\":[1]}", "no member \"vector\" is known; there are input"},
        {"{\"input\":[1],\"input\":[1]}", "it is not JSON"}};
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct vectors *v = NULL;
        graft_error why = {0};
        assert_int_equal(vectors_parse(&rt.mem, CASES[i].text, strlen(CASES[i].text), &v, &why),
                         GRAFT_FORMAT);
        assert_null(v);
        if (!strstr(why.message, CASES[i].said))
            fail_msg("%s: %s", CASES[i].text, why.message);
    }
    struct vectors *v = NULL;
    graft_error why = {0};
    assert_int_equal(vectors_read(&rt.mem, at("none"), &v, &why), GRAFT_NOT_FOUND);
    static const char LATE[] = "{\"input\":[1,2]}\n{\"input\":[1,2],\"target\":[3]}\n";
    MUST(vectors_parse(&rt.mem, LATE, sizeof LATE - 1, &v, error));
    assert_int_equal(vectors_out(v), 1);
    assert_null(vectors_at(v, 0).target);
    assert_true(vectors_at(v, 1).target[0] == 3);
    vectors_close(&v);
}

static void examples_that_cannot_be_do_not_go_in(void **state)
{
    (void)state;
    struct vectors *v = NULL;
    const float good[2] = {1, 2}, bad[2] = {1, INFINITY};
    char name[VECTORS_MAX_NAME + 2];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    const struct vector_example wrong[] = {{.input = bad, .quality = 1},
                                           {.input = good, .target = bad, .quality = 1},
                                           {.input = good, .quality = NAN},
                                           {.input = good, .quality = -0.1F},
                                           {.input = good, .quality = 1, .task = name},
                                           {.input = good, .quality = 1, .domain = "\xff"}};
    assert_int_equal(vectors_open(&rt.mem, 0, 2, &v, NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(vectors_open(&rt.mem, 2, VECTORS_MAX_WIDTH + 1, &v, NULL),
                     GRAFT_INVALID_ARGUMENT);
    MUST(vectors_open(&rt.mem, 2, 2, &v, error));
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_int_equal(vectors_add(v, &wrong[i], NULL), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(vectors_count(v), 0);
    const struct synthetic_options narrow = {.task = 0, .width = 3, .n = 1};
    assert_int_equal(synthetic_add(v, &narrow, NULL), GRAFT_INVALID_ARGUMENT);
    vectors_close(&v);
}

/* All blocks are of one size; one that grows is always another, and the old one is overwritten. */
enum { BLOCK = 1 << 18 };

static void *give_block(void *user, size_t bytes)
{
    (void)user;
    assert_true(bytes <= BLOCK);
    return calloc(1, BLOCK);
}

static void *move_block(void *user, void *block, size_t bytes)
{
    void *other = give_block(user, bytes);
    if (other) {
        memcpy(other, block, BLOCK);
        explicit_bzero(block, BLOCK);
        free(block);
    }
    return other;
}

static void free_block(void *user, void *block)
{
    (void)user;
    free(block);
}

static void a_dataset_may_be_given_its_own_examples(void **state)
{
    (void)state;
    enum { N = 100 };
    struct vectors *v = NULL;
    const graft_allocator moving = {give_block, move_block, free_block, NULL};
    struct mem mem;
    mem_init(&mem, &moving);
    const float first[3] = {1, 2, 3}, other[3] = {4, 5, 6};
    const struct vector_example start = {
        .input = first, .target = other, .quality = 0.5F, .task = "t", .domain = "d"};
    MUST(vectors_open(&mem, 3, 3, &v, error));
    MUST(vectors_add(v, &start, error));
    for (int64_t i = 1; i < N; i++) {
        struct vector_example e = vectors_at(v, i - 1);
        const float *input = e.input;
        e.input = e.target; /* in the other array */
        e.target = input;
        MUST(vectors_add(v, &e, error));
    }
    for (int64_t i = 0; i < N; i++) {
        const struct vector_example e = vectors_at(v, i);
        assert_memory_equal(e.input, i % 2 ? other : first, sizeof first);
        assert_memory_equal(e.target, i % 2 ? first : other, sizeof first);
        assert_true(e.quality == 0.5F);
        assert_string_equal(e.task, "t");
        assert_string_equal(e.domain, "d");
    }
    vectors_close(&v);
}

static void more_names_than_there_may_be_are_refused_by_line(void **state)
{
    (void)state;
    struct buf text;
    struct vectors *v = NULL;
    graft_error why = {0};
    buf_init(&text, &rt.mem, SIZE_MAX);
    for (int i = 0; i < VECTORS_NAMES / 2; i++)
        buf_printf(&text, "{\"input\":[1],\"task\":\"t%d\",\"domain\":\"d%d\"}\n", i, i);
    assert_int_equal(text.status, GRAFT_OK);
    MUST(vectors_parse(&rt.mem, text.data, text.size, &v, error));
    const float x[1] = {1};
    const struct vector_example e = {.input = x, .quality = 1, .task = "more"};
    assert_int_equal(vectors_add(v, &e, NULL), GRAFT_LIMIT);
    assert_int_equal(vectors_count(v), VECTORS_NAMES / 2);
    vectors_close(&v);
    buf_puts(&text, "{\"input\":[1],\"task\":\"more\"}\n");
    assert_int_equal(vectors_parse(&rt.mem, text.data, text.size, &v, &why), GRAFT_LIMIT);
    assert_non_null(strstr(why.message, "line 32769: more than 65536 tasks and domains"));
    assert_null(v);
    buf_free(&text);
}

static void a_line_of_more_than_8_mib_is_refused(void **state)
{
    (void)state;
    enum { SIZE = (8 << 20) + 1 };
    char *text = mem_calloc(&rt.mem, SIZE, 1);
    struct vectors *v = NULL;
    graft_error why = {0};
    assert_non_null(text);
    memset(text, ' ', SIZE);
    memcpy(text, "{\"input\":[1]}", 13);
    MUST(vectors_parse(&rt.mem, text, SIZE - 1, &v, error));
    vectors_close(&v);
    assert_int_equal(vectors_parse(&rt.mem, text, SIZE, &v, &why), GRAFT_FORMAT);
    assert_non_null(strstr(why.message, "line 1: it is longer than 8 MiB"));
    mem_free(&rt.mem, text);
}

static void no_examples_are_no_file(void **state)
{
    (void)state;
    struct vectors *v = NULL;
    graft_error why = {0};
    MUST(vectors_open(&rt.mem, 8, 4, &v, error));
    assert_int_equal(vectors_write(v, at("empty.jsonl"), &why), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(why.message, "no vectors to write"));
    assert_false(path_exists(at("empty.jsonl")));
    vectors_close(&v);
}

/* ---- one module ----------------------------------------------------------------------------- */

static struct fit fitted(graft_runtime *runtime, const struct vectors *v,
                         const struct fit_options *o)
{
    struct fit fit = {.mem = NULL};
    MUST(fit_module(runtime, v, o, &fit, error));
    return fit;
}

/* The change that targets are made by has rank 3: so many ranks learn it, one does not. */
static void three_ranks_learn_what_targets_are_made_by(void **state)
{
    (void)state;
    for (int task = 0; task < SYNTHETIC_TASKS; task++) {
        struct vectors *v = make(task, 64, 500, 3, true);
        struct fit_options o = fit_defaults();
        o.rank = 3;
        o.epochs = 30;
        o.rate = 5e-3;
        struct fit three = fitted(&rt, v, &o);
        o.rank = 1;
        struct fit one = fitted(&rt, v, &o);
        assert_int_equal(three.examples, 400);
        assert_int_equal(three.held, 100);
        if (!(three.last_valid < 0.03 * three.first_valid))
            fail_msg("%s: %g of %g", synthetic_task(task), three.last_valid, three.first_valid);
        assert_true(one.last_valid > 3 * three.last_valid);
        fit_free(&three);
        fit_free(&one);
        vectors_close(&v);
    }
}

/* With W given and targets W x nothing is to be learned; examples of no quality do not count. */
static void losses_are_the_formula(void **state)
{
    (void)state;
    struct vectors *v = NULL;
    const float weight[2 * 3] = {1, 2, 3, 0, 0, 1}, x[3] = {1, 1, 1}, right[2] = {6, 1},
                           off[2] = {7, 4};
    struct fit_options o = fit_defaults();
    o.weight = weight;
    o.valid_share = 0;
    o.epochs = 1;
    o.rate = 1e-12;
    MUST(vectors_open(&rt.mem, 3, 2, &v, error));
    struct vector_example e = {.input = x, .target = off, .quality = 0};
    MUST(vectors_add(v, &e, error));
    graft_error why = {0};
    struct fit fit = {.mem = NULL};
    assert_int_equal(fit_module(&rt, v, &o, &fit, &why), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(why.message, "too little quality"));
    e.target = right;
    e.quality = 0.5F;
    MUST(vectors_add(v, &e, error));
    e.target = NULL;
    MUST(vectors_add(v, &e, error));
    fit = fitted(&rt, v, &o);
    assert_int_equal(fit.examples, 2);
    assert_true(fit.first_loss == 0 && isnan(fit.first_valid));
    fit_free(&fit);
    e.target = off;
    e.quality = 0.25F;
    MUST(vectors_add(v, &e, error)); /* (1 + 9) / 2, of weight 0.25 in 1.25 */
    fit = fitted(&rt, v, &o);
    assert_true(fabs(fit.first_loss - 1) < 1e-6);
    fit_free(&fit);
    o.weight = NULL;
    assert_int_equal(fit_module(&rt, v, &o, &fit, &why), GRAFT_INVALID_ARGUMENT);
    assert_non_null(strstr(why.message, "without a weight both are of one width"));
    vectors_close(&v);
}

/* Of two examples one is held out: whichever it is, a value whose square is no float is told. */
static void a_loss_that_is_no_number_is_refused(void **state)
{
    (void)state;
    const float small[2] = {1, 2}, huge[2] = {1e25F, 1}, large[2] = {1e16F, 1e16F}, zero[2] = {0};
    for (int which = 0; which < 2; which++) {
        struct vectors *v = NULL;
        struct fit fit = {.mem = NULL};
        const struct fit_options o = fit_defaults();
        MUST(vectors_open(&rt.mem, 2, 2, &v, error));
        for (int i = 0; i < 2; i++) {
            const struct vector_example e = {
                .input = i == which ? huge : small, .target = zero, .quality = 1};
            MUST(vectors_add(v, &e, error));
        }
        assert_int_equal(fit_module(&rt, v, &o, &fit, NULL), GRAFT_NUMERIC);
        assert_null(fit.a);
        vectors_close(&v);
    }
    struct vectors *v = NULL;
    struct fit fit = {.mem = NULL};
    struct fit_options o = fit_defaults();
    graft_error why = {0};
    const struct vector_example e = {.input = large, .target = zero, .quality = 1};
    o.valid_share = 0;
    o.epochs = 1;
    o.rate = 1000;
    MUST(vectors_open(&rt.mem, 2, 2, &v, error));
    MUST(vectors_add(v, &e, error));
    assert_int_equal(fit_module(&rt, v, &o, &fit, &why), GRAFT_NUMERIC);
    assert_non_null(strstr(why.message, "after 1 steps"));
    assert_null(fit.a);
    vectors_close(&v);
}

/* Half of the examples say that x is right as it is: what they say counts by their quality. */
static void what_was_good_stays(void **state)
{
    (void)state;
    double moved[2];
    for (int good = 0; good < 2; good++) {
        struct vectors *v = NULL, *from = make(0, 32, 100, 1, true);
        MUST(vectors_open(&rt.mem, 32, 32, &v, error));
        for (int64_t i = 0; i < 100; i++) {
            struct vector_example e = vectors_at(from, i);
            e.quality = 1;
            MUST(vectors_add(v, &e, error));
            e.target = NULL;
            e.quality = good ? 1 : 0.01F;
            MUST(vectors_add(v, &e, error));
        }
        struct fit_options o = fit_defaults();
        o.valid_share = 0;
        struct fit fit = fitted(&rt, v, &o);
        double sum = 0;
        for (int i = 0; i < 32; i++)
            for (int k = 0; k < 32; k++) {
                double d = 0;
                for (int r = 0; r < fit.rank; r++)
                    d += fit.scale * (double)fit.b[i * fit.rank + r] * (double)fit.a[r * 32 + k];
                sum += d * d;
            }
        moved[good] = sqrt(sum);
        fit_free(&fit);
        vectors_close(&v);
        vectors_close(&from);
    }
    assert_true(moved[1] < 0.75 * moved[0] && moved[1] > 0.25 * moved[0]);
}

static void threads_cannot_be_seen(void **state)
{
    (void)state;
    struct graft_runtime one;
    struct vectors *v = make(4, 96, 200, 8, true);
    const struct fit_options o = fit_defaults();
    runtime_start(&one, 1, NULL);
    struct fit a = fitted(&one, v, &o), b = fitted(&rt, v, &o);
    assert_memory_equal(a.a, b.a, (size_t)(a.rank * a.n_in) * sizeof(float));
    assert_memory_equal(a.b, b.b, (size_t)(a.rank * a.n_out) * sizeof(float));
    fit_free(&a);
    fit_free(&b);
    runtime_stop(&one);
    vectors_close(&v);
}

static void a_module_is_an_adapter_of_peft(void **state)
{
    (void)state;
    struct vectors *v = make(0, 16, 40, 1, true);
    struct fit_options o = fit_defaults();
    o.rank = 2;
    struct fit fit = fitted(&rt, v, &o);
    const char *const bad[] = {"", "../x", "a b", ".a", "a."};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(fit_write(&fit, bad[i], at("m"), NULL), GRAFT_INVALID_ARGUMENT);
    assert_false(path_exists(at("m")));
    MUST(fit_write(&fit, "model.layers.0.self_attn.q_proj", at("m"), error));
    char *text;
    size_t size;
    MUST(file_read(NULL, at("m/adapter_model.safetensors"), 1 << 20, &text, &size, error));
    assert_memory_equal(text + size - 2 * 16 * 2 * sizeof(float), fit.a, 2 * 16 * sizeof(float));
    assert_memory_equal(text + size - 16 * 2 * sizeof(float), fit.b, 16 * 2 * sizeof(float));
    mem_free(NULL, text);
    MUST(file_read(NULL, at("m/adapter_config.json"), 1 << 20, &text, &size, error));
    assert_non_null(strstr(text, "\"lora_alpha\": 16"));
    mem_free(NULL, text);
    assert_int_equal(fit_write(&fit, "q_proj", at("m"), NULL), GRAFT_IO);
    fit_free(&fit);
    vectors_close(&v);
}

static bool stop(void *user, uint64_t done, uint64_t total, const char *what)
{
    (void)user, (void)total, (void)what;
    return done < 2;
}

static void who_says_no_gets_nothing(void **state)
{
    (void)state;
    struct vectors *v = make(0, 16, 100, 1, true);
    struct fit_options o = fit_defaults();
    struct fit fit = {.mem = NULL};
    o.progress = stop;
    assert_int_equal(fit_module(&rt, v, &o, &fit, NULL), GRAFT_CANCELLED);
    o.progress = NULL;
    o.rate = NAN;
    assert_int_equal(fit_module(&rt, v, &o, &fit, NULL), GRAFT_INVALID_ARGUMENT);
    assert_null(fit.a);
    vectors_close(&v);
}

/* ---- memory --------------------------------------------------------------------------------- */

static graft_status all_of_it(graft_error *error)
{
    static const char LINES[] = "{\"input\":[1,2,3],\"target\":[2,1,0],\"task\":\"a\"}\n"
                                "{\"input\":[3,2,1],\"quality\":0.5,\"domain\":\"b\"}\n";
    struct vectors *v = NULL;
    struct fit fit = {.mem = &rt.mem};
    struct fit_options o = fit_defaults();
    const struct synthetic_options made = {.task = 1, .width = 3, .n = 4, .targets = true};
    o.epochs = 1;
    graft_status status = vectors_parse(&rt.mem, LINES, sizeof LINES - 1, &v, error);
    if (status == GRAFT_OK)
        status = synthetic_add(v, &made, error);
    if (status == GRAFT_OK)
        status = vectors_write(v, at("w.jsonl"), error);
    if (status == GRAFT_OK)
        status = fit_module(&rt, v, &o, &fit, error);
    if (status == GRAFT_OK) {
        if (path_is_dir(at("w")))
            temp_remove(at("w"));
        status = fit_write(&fit, "q_proj", at("w"), error);
    }
    fit_free(&fit);
    vectors_close(&v);
    return status;
}

static void lack_of_memory_is_said_and_leaves_nothing(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        struct failing_allocator failing;
        struct mem with;
        graft_allocator saved = rt.mem.allocator;
        size_t before = atomic_load(&rt.mem.bytes_in_use);
        graft_error why = {0};
        failing_init(&failing, &with, n);
        rt.mem.allocator = with.allocator;
        graft_status status = all_of_it(&why);
        rt.mem.allocator = saved;
        assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
        if (status != (failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK))
            fail_msg("allocation %zu: %d %s", n, (int)status, why.message);
        if (!failing.failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(qualities_are_the_formulas),
        cmocka_unit_test(quality_can_be_read_off_the_input),
        cmocka_unit_test(examples_depend_on_task_width_seed_and_number_alone),
        cmocka_unit_test(inputs_are_distinct_by_task),
        cmocka_unit_test(files_bring_every_value_back),
        cmocka_unit_test(what_is_wrong_with_a_line_is_said),
        cmocka_unit_test(examples_that_cannot_be_do_not_go_in),
        cmocka_unit_test(a_dataset_may_be_given_its_own_examples),
        cmocka_unit_test(more_names_than_there_may_be_are_refused_by_line),
        cmocka_unit_test(a_line_of_more_than_8_mib_is_refused),
        cmocka_unit_test(no_examples_are_no_file),
        cmocka_unit_test(three_ranks_learn_what_targets_are_made_by),
        cmocka_unit_test(losses_are_the_formula),
        cmocka_unit_test(a_loss_that_is_no_number_is_refused),
        cmocka_unit_test(what_was_good_stays),
        cmocka_unit_test(threads_cannot_be_seen),
        cmocka_unit_test(a_module_is_an_adapter_of_peft),
        cmocka_unit_test(who_says_no_gets_nothing),
        cmocka_unit_test(lack_of_memory_is_said_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
