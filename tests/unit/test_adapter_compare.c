/* test_adapter_compare.c: adapters with fewer ranks, and what differs between two, against ΔW that is made in full: the best of
 * its rank, ranks by energy, what stays as it is, and the laws of norms, angles and spaces.
 */
#include "unit/save_fixture.h"

#include "adapter/algebra.h"
#include "adapter/compare/compare.h"
#include "adapter/merge/merge.h"
#include "adapter/save/save_internal.h"
#include "adapter/trainable/trainable.h"
#include "unit/failing_allocator.h"
#include "unit/failing_json.h"
#include "unit/must.h"

#include <math.h>

/* ---- words ---------------------------------------------------------------------------------- */

/* A name in the test's folder that outlives the next call of at(). */
static const char *kept(const char *name)
{
    static char names[32][512];
    static unsigned next;
    char *out = names[next++ % ARRAY_LEN(names)];
    snprintf(out, sizeof names[0], "%s", fresh_path(name));
    return out;
}

struct look {
    bool dora, bias, saved, embed;
    int64_t rank;
    uint64_t seed;
};

/* An adapter with random numbers in every part. */
static const char *make(const struct model *model, const char *name, const struct look *look)
{
    static const char *const targets[] = {"q_proj", "k_proj", "v_proj", "down_proj",
                                          "embed_tokens"};
    static const char *const saved[] = {"norms"};
    struct adapter_recipe recipe = RECIPE;
    struct trainable *t = NULL;
    struct rng rng;
    const struct trainable_output output = {.format = ADAPTER_PEFT, .type = GRAFT_TYPE_F32};
    recipe.targets = targets;
    recipe.n_targets = look->embed ? 5 : 4;
    recipe.saved = saved;
    recipe.n_saved = look->saved;
    recipe.rank = look->rank;
    recipe.seed = look->seed;
    MUST(trainable_open(
        model,
        &(struct trainable_options){.recipe = &recipe, .dora = look->dora, .bias = look->bias}, &t,
        error));
    rng_init(&rng, look->seed, 9);
    for (int p = 0; p < t->n_parts; p++)
        for (int64_t i = 0; i < t->parts[p].n; i++) {
            float *value = &t->values[t->parts[p].at + i];
            *value += (float)(rng_uniform(&rng) - 0.5) * (t->parts[p].vector ? 0.2f : 0.1f);
        }
    const char *path = kept(name);
    MUST(trainable_write(t, NULL, path, &output, error));
    trainable_close(&t);
    return path;
}

/* What an adapter does to a linear of a Hugging Face base: [n_out, n_in], zeros where it has none; `low`: under DoRA
 * without what the gains do to W. */
struct dense {
    int64_t n_out, n_in;
    double *x;
};

static void add_module(const struct draft *draft, int i, bool low, struct dense *out)
{
    const struct draft_module *m = &draft->modules[i];
    const struct matrix *w = slot_weight(draft->model, m->slot, m->layer);
    float *a = mem_calloc(NULL, (size_t)(m->rank * m->n_in), sizeof *a);
    float *b = mem_calloc(NULL, (size_t)(m->rank * m->n_out), sizeof *b);
    float *magnitude = mem_calloc(NULL, (size_t)m->n_out, sizeof *magnitude);
    float *row = mem_calloc(NULL, (size_t)m->n_in, sizeof *row);
    MUST(draft->read(draft, i, PART_A, a, error));
    MUST(draft->read(draft, i, PART_B, b, error));
    if (m->dora)
        MUST(draft->read(draft, i, PART_MAGNITUDE, magnitude, error));
    for (int64_t o = 0; o < m->n_out; o++) {
        double *x = out->x + o * m->n_in, square = 0, gain = 1;
        draft->model->runtime->kernels->dequantize[w->type](w, o, 0, m->n_in, row);
        for (int64_t k = 0; k < m->n_in; k++) {
            for (int64_t r = 0; r < m->rank; r++)
                x[k] += m->scale * (double)b[o * m->rank + r] * (double)a[r * m->n_in + k];
            square += (x[k] + (double)row[k]) * (x[k] + (double)row[k]);
        }
        if (m->dora)
            gain = (double)magnitude[o] / sqrt(square);
        for (int64_t k = 0; k < m->n_in; k++)
            x[k] = gain * x[k] + (low ? 0 : (gain - 1) * (double)row[k]);
    }
    mem_free(NULL, a);
    mem_free(NULL, b);
    mem_free(NULL, magnitude);
    mem_free(NULL, row);
}

static struct dense dense_of(const struct model *model, const char *path, const char *target,
                             int layer, bool low)
{
    struct import from = {.model = model};
    char word[MODULE_NAME_SIZE];
    struct dense out = {0};
    MUST(import_open(&from, path, NULL, error));
    for (int slot = SLOT_LINEAR; slot < SLOT_COUNT; slot++)
        if (slot_short_name(model, slot, word) && !strcmp(word, target)) {
            const struct matrix *w = slot_weight(model, slot, layer);
            out = (struct dense){w->n_out, w->n_in, NULL};
        }
    out.x = mem_calloc(NULL, (size_t)(out.n_out * out.n_in), sizeof *out.x);
    for (int i = 0; i < from.draft.n_modules; i++)
        if (slot_short_name(model, from.draft.modules[i].slot, word) && !strcmp(word, target) &&
            from.draft.modules[i].layer == layer && !from.draft.modules[i].whole)
            add_module(&from.draft, i, low, &out);
    import_close(&from);
    return out;
}

static double inner_of(const struct dense *x, const struct dense *y)
{
    double sum = 0;
    for (int64_t k = 0; k < x->n_out * x->n_in; k++)
        sum += x->x[k] * y->x[k];
    return sum;
}

static double distance_of(const struct dense *x, const struct dense *y)
{
    double sum = 0;
    for (int64_t k = 0; k < x->n_out * x->n_in; k++)
        sum += (x->x[k] - y->x[k]) * (x->x[k] - y->x[k]);
    return sqrt(sum);
}

/* The squares of all singular values, largest first: [n_out]. */
static double *spectrum_of(const struct dense *x)
{
    const int64_t n = x->n_out;
    double *gram = mem_calloc(NULL, (size_t)(n * n), sizeof *gram);
    double *vectors = mem_calloc(NULL, (size_t)(n * n), sizeof *vectors);
    double *values = mem_calloc(NULL, (size_t)n, sizeof *values);
    double *work = mem_calloc(NULL, (size_t)(3 * n), sizeof *work);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            for (int64_t k = 0; k < x->n_in; k++)
                gram[i * n + j] += x->x[i * x->n_in + k] * x->x[j * x->n_in + k];
    eigen_symmetric(gram, n, values, vectors, work);
    mem_free(NULL, gram);
    mem_free(NULL, vectors);
    mem_free(NULL, work);
    return values;
}

static json_t *compress(const struct model *model, const char *in, const char *out, int64_t rank,
                        double energy)
{
    const struct compress_options options = {
        .rank = rank, .energy = energy, .save = {.format = ADAPTER_PEFT}};
    json_t *report = NULL;
    MUST(adapter_compress(model, in, out, &options, &report, error));
    return report;
}

static json_t *diff(const struct model *model, const char *a, const char *b)
{
    json_t *json = NULL;
    MUST(adapter_diff(model, a, b, &(struct diff_options){0}, &json, error));
    return json;
}

/* The entry of an array whose member is this text. */
static const json_t *entry(const json_t *list, const char *key, const char *end)
{
    const json_t *one;
    size_t i;
    json_array_foreach(list, i, one)
    {
        const char *text = json_string_value(json_object_get(one, key));
        if (text && text_ends_with(text, end))
            return one;
    }
    fail_msg("there is no %s", end);
    return NULL;
}

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("%s is no number", key);
    return json_number_value(value);
}

static void assert_near(double got, double want, double tolerance, const char *what)
{
    if (!(fabs(got - want) <= tolerance * fmax(1e-30, fabs(want))))
        fail_msg("%s: %.9g, not %.9g", what, got, want);
}

static uint8_t *digest_of(const struct model *model, const char *path, uint8_t out[32])
{
    struct adapter *a = open_it(model, path);
    memcpy(out, adapter_info(a)->digest, 32);
    adapter_release(&a);
    return out;
}

/* `in` times a factor, by a merge of it alone. */
static const char *times(const struct model *model, const char *in, double factor, const char *name)
{
    const struct merge_input input = {.path = in, .name = in, .weight = factor};
    const struct merge_plan plan = {
        .method = MERGE_LINEAR,
        .inputs = &input,
        .n = 1,
        .lambda = 1,
        .save = {.format = ADAPTER_PEFT, .retype = true, .type = GRAFT_TYPE_F32}};
    const char *out = kept(name);
    MUST(merge_write(model, &plan, out, NULL, error));
    return out;
}

/* ---- compress ------------------------------------------------------------------------------- */

static void what_is_left_is_the_best_of_its_rank(void **state)
{
    (void)state;
    static const char *const names[] = {"k_proj", "v_proj"};
    struct base b;
    base_open(&b, "llama", false);
    for (int64_t rank = 1; rank <= 5; rank += 2)
        for (int dora = 0; dora < 2; dora++) {
            const struct look look = {.dora = dora, .rank = 6, .seed = 3 + (uint64_t)rank};
            const char *in = make(b.model, "in", &look), *out = kept("out");
            json_t *report = compress(b.model, in, out, rank, 0);
            for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                char end[64];
                snprintf(end, sizeof end, "layers.1.self_attn.%s", names[i]);
                const json_t *one = entry(json_object_get(report, "modules"), "module", end);
                struct dense before = dense_of(b.model, in, names[i], 1, false);
                struct dense after = dense_of(b.model, out, names[i], 1, false);
                struct dense low = dense_of(b.model, in, names[i], 1, true);
                double *squares = spectrum_of(&low), tail = 0, all = 0;
                for (int64_t k = 0; k < low.n_out; k++) {
                    all += squares[k];
                    tail += k >= rank ? squares[k] : 0;
                }
                const double off = distance_of(&before, &after);
                assert_near(off, sqrt(tail), 1e-4, "the least error there is");
                assert_near(number(one, "discarded_energy"), tail / all, 1e-4, "discarded energy");
                assert_near(number(one, "error"), off / sqrt(inner_of(&before, &before)), 1e-4,
                            "error");
                assert_int_equal(number(one, "rank_before"), 6);
                assert_int_equal(number(one, "rank"), rank);
                assert_true(number(one, "bytes") < number(one, "bytes_before"));
                mem_free(NULL, squares);
                mem_free(NULL, before.x);
                mem_free(NULL, after.x);
                mem_free(NULL, low.x);
            }
            json_decref(report);
        }
    base_close(&b);
}

static void no_fewer_ranks_is_the_same_adapter(void **state)
{
    (void)state;
    struct base b;
    base_open(&b, "llama", false);
    for (int dora = 0; dora < 2; dora++) {
        const struct look look = {
            .dora = dora, .bias = true, .saved = true, .embed = !dora, .rank = 4, .seed = 5};
        uint8_t before[32], after[32];
        const char *in = make(b.model, "in", &look);
        for (int64_t rank = 4; rank <= 40; rank += 36) {
            json_t *report = compress(b.model, in, kept("out"), rank, 0);
            assert_true(number(report, "discarded_energy") == 0);
            assert_true(number(report, "error") == 0);
            assert_memory_equal(digest_of(b.model, in, before),
                                digest_of(b.model, at("out"), after), 32);
            json_decref(report);
        }
    }
    base_close(&b);
}

static void energy_chooses_the_least_rank_of_each_module(void **state)
{
    (void)state;
    struct base b;
    base_open(&b, "llama", false);
    const char *in = make(b.model, "in", &(struct look){.rank = 6, .seed = 8});
    for (double energy = 0.3; energy < 1; energy += 0.15) {
        json_t *report = compress(b.model, in, kept("out"), 0, energy);
        const json_t *one =
            entry(json_object_get(report, "modules"), "module", "layers.0.self_attn.k_proj");
        struct dense x = dense_of(b.model, in, "k_proj", 0, false);
        double *squares = spectrum_of(&x), sum = 0;
        const double all = inner_of(&x, &x);
        int64_t rank = 0;
        while (sum < energy * all)
            sum += squares[rank++];
        assert_int_equal(number(one, "rank"), rank);
        assert_near(number(one, "discarded_energy"), 1 - sum / all, 1e-4, "discarded energy");
        json_decref(report);
        report = compress(b.model, in, kept("out"), 1, energy); /* both: the lesser rank */
        one = entry(json_object_get(report, "modules"), "module", "layers.0.self_attn.k_proj");
        assert_int_equal(number(one, "rank"), 1);
        json_decref(report);
        mem_free(NULL, squares);
        mem_free(NULL, x.x);
    }
    base_close(&b);
}

/* The same directions twice: all of the energy is in half of the ranks. */
static void ranks_that_say_nothing_go_without_loss(void **state)
{
    (void)state;
    struct base b;
    base_open(&b, "llama", false);
    const char *in = make(b.model, "in", &(struct look){.rank = 3, .seed = 2});
    const struct merge_input twice[2] = {{.path = in, .name = "a", .weight = 0.75},
                                         {.path = in, .name = "b", .weight = 0.25}};
    const struct merge_plan plan = {.method = MERGE_CAT,
                                    .inputs = twice,
                                    .n = 2,
                                    .lambda = 1,
                                    .save = {.retype = true, .type = GRAFT_TYPE_F32}};
    const char *wide = kept("wide");
    MUST(merge_write(b.model, &plan, wide, NULL, error));
    json_t *report = compress(b.model, wide, kept("out"), 0, 1);
    const json_t *one;
    size_t i;
    json_array_foreach(json_object_get(report, "modules"), i, one)
    {
        assert_int_equal(number(one, "rank_before"), 6);
        assert_int_equal(number(one, "rank"), 3);
    }
    assert_true(number(report, "error") < 1e-6);
    json_decref(report);
    report = diff(b.model, in, at("out"));
    assert_true(number(json_object_get(report, "total"), "distance") <
                1e-6 * number(json_object_get(report, "total"), "norm_a"));
    json_decref(report);
    base_close(&b);
}

static void an_adapter_that_changes_nothing_is_brought_to_rank_1(void **state)
{
    (void)state;
    struct base b;
    base_open(&b, "llama", false);
    const char *in = create(&b, &RECIPE, "fresh");
    char path[512];
    snprintf(path, sizeof path, "%s", in);
    json_t *report = compress(b.model, path, kept("out"), 0, 0.9);
    assert_int_equal(number(json_array_get(json_object_get(report, "modules"), 0), "rank"), 1);
    assert_true(number(report, "error") == 0 && number(report, "discarded_energy") == 0);
    json_decref(report);
    base_close(&b);
}

static void what_has_no_factors_is_kept_and_biases_count(void **state)
{
    (void)state;
    struct base b;
    base_open(&b, "qwen3", false);
    const struct look look = {
        .dora = false, .bias = true, .saved = true, .embed = true, .rank = 4, .seed = 6};
    const char *in = make(b.model, "in", &look), *out = kept("out");
    json_decref(compress(b.model, in, out, 2, 0));
    json_t *json = diff(b.model, in, out);
    const json_t *norm = entry(json_object_get(json, "modules"), "kind", "input_layernorm");
    const json_t *linear = entry(json_object_get(json, "modules"), "kind", "q_proj");
    const json_t *embed = entry(json_object_get(json, "modules"), "kind", "embed_tokens");
    assert_true(json_is_true(json_object_get(norm, "whole")));
    assert_true(number(norm, "distance") == 0 && number(norm, "norm_a") > 0);
    assert_true(number(linear, "distance") > 0 && number(linear, "bias_norm_a") > 0);
    assert_true(number(linear, "bias_distance") < 1e-6 * number(linear, "bias_norm_a"));
    assert_true(number(embed, "distance") > 0);
    assert_int_equal(number(embed, "rank_b"), 2);
    json_decref(json);
    base_close(&b);
}

static void every_format_comes_out_with_the_same_effect(void **state)
{
    (void)state;
    static const char *const variants[] = {"rslora", "patterns", "mlx-lora", "rsdora"};
    for (int gguf = 0; gguf < 2; gguf++) {
        struct base b;
        base_open(&b, "llama", gguf);
        const size_t n = (size_t)N_TOKENS * (size_t)model_n_logits(b.model);
        for (size_t v = 0; v < ARRAY_LEN(variants); v++) {
            char in[512];
            snprintf(in, sizeof in, "%s", put(&b, variants[v]));
            struct compress_options options = {.rank = 2, .save = {.format = ADAPTER_PEFT}};
            const char *peft = kept("peft");
            MUST(adapter_compress(b.model, in, peft, &options, NULL, error));
            float *want = logits_of(b.model, peft);
            const bool dora = strstr(variants[v], "dora") != NULL;
            for (int format = 0; format < (dora ? 1 : 2); format++) {
                const char *other = kept(format ? "out.gguf" : "out");
                options.save = (struct save_options){.format = format ? ADAPTER_GGUF : ADAPTER_MLX,
                                                     .retype = true,
                                                     .type = GRAFT_TYPE_F32};
                MUST(adapter_compress(b.model, in, other, &options, NULL, error));
                float *got = logits_of(b.model, other);
                assert_true(relative_error(got, want, n) < 2e-3); /* the first one is as stored */
                free(got);
            }
            free(want);
        }
        base_close(&b);
    }
}

static void threads_cannot_be_seen(void **state)
{
    (void)state;
    char *bytes[2];
    size_t size[2];
    struct base b;
    base_open(&b, "llama", false);
    const char *in = make(b.model, "in", &(struct look){.dora = true, .rank = 6, .seed = 4});
    for (int i = 0; i < 2; i++) {
        struct graft_runtime some;
        runtime_start(&some, i + 1, NULL);
        struct model *model = open_model(&some, b.model->path);
        json_decref(compress(model, in, kept("one"), 3, 0));
        MUST(file_read(NULL, at("one/adapter_model.safetensors"), 1 << 26, &bytes[i], &size[i],
                       error));
        model_close(&model);
        runtime_stop(&some);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    mem_free(NULL, bytes[0]);
    mem_free(NULL, bytes[1]);
    base_close(&b);
}

/* Of what learned online the first ranks were said to go on; after this nobody knows which they are. */
static void the_card_says_what_was_done_and_no_longer_which_ranks_learn(void **state)
{
    (void)state;
    struct base b;
    base_open(&b, "llama", false);
    const char *in = make(b.model, "in", &(struct look){.rank = 4, .seed = 4}), *learned;
    struct trainable *t = NULL;
    const struct trainable_micro micro = {.rank = 2};
    const struct trainable_output output = {.format = ADAPTER_PEFT, .type = GRAFT_TYPE_F32};
    MUST(trainable_open(b.model,
                        &(struct trainable_options){.path = in, .dropout = -1, .micro = &micro}, &t,
                        error));
    learned = kept("learned");
    MUST(trainable_write(t, NULL, learned, &output, error));
    trainable_close(&t);
    json_decref(compress(b.model, learned, kept("out"), 3, 0.5));
    json_t *cards[2];
    for (int i = 0; i < 2; i++)
        MUST(json_read(NULL, at(i ? "out/graft.json" : "learned/graft.json"), 1 << 20, &cards[i],
                       error));
    assert_non_null(json_object_get(json_object_get(cards[0], "training"), "micro"));
    assert_null(json_object_get(json_object_get(cards[1], "training"), "micro"));
    const json_t *said = json_object_get(cards[1], "compress");
    assert_int_equal(number(said, "rank"), 3);
    assert_true(number(said, "energy") == 0.5 && number(said, "discarded_energy") > 0);
    json_decref(cards[0]);
    json_decref(cards[1]);
    base_close(&b);
}

static void what_cannot_be_is_refused_and_leaves_no_file(void **state)
{
    (void)state;
    static const struct {
        int64_t rank;
        double energy;
        const char *why;
    } cases[] = {{0, 0, "how far?"},     {-1, 0, "rank -1"},       {70000, 0, "rank 70000"},
                 {0, 1.5, "energy 1.5"}, {2, -0.1, "energy -0.1"}, {0, NAN, "energy nan"}};
    struct base b;
    graft_error why = {0};
    base_open(&b, "llama", false);
    const char *in = make(b.model, "in", &(struct look){.rank = 2, .seed = 1}), *out = kept("out");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct compress_options options = {.rank = cases[i].rank, .energy = cases[i].energy};
        assert_int_equal(adapter_compress(b.model, in, out, &options, NULL, &why),
                         GRAFT_INVALID_ARGUMENT);
        if (!strstr(why.message, cases[i].why))
            fail_msg("%s", why.message);
    }
    const struct compress_options fine = {.rank = 1};
    assert_int_equal(adapter_compress(b.model, at("none"), out, &fine, NULL, &why),
                     GRAFT_NOT_FOUND);
    assert_false(path_exists(out));
    assert_int_not_equal(adapter_compress(b.model, in, in, &fine, NULL, &why), GRAFT_OK);
    struct base other;
    base_open(&other, "qwen2", false);
    json_t *json = NULL;
    const char *stranger = make(other.model, "stranger", &(struct look){.rank = 2, .seed = 1});
    assert_int_not_equal(
        adapter_diff(b.model, in, stranger, &(struct diff_options){0}, &json, &why), GRAFT_OK);
    assert_null(json);
    base_close(&other);
    base_close(&b);
}

/* ---- diff ----------------------------------------------------------------------------------- */

static void norms_distance_and_angle_are_those_of_the_whole_changes(void **state)
{
    (void)state;
    static const char *const names[] = {"q_proj", "k_proj", "v_proj"};
    struct base b;
    base_open(&b, "llama", false);
    for (int dora = 0; dora < 3; dora++) { /* neither, one, both */
        const char *x = make(b.model, "x", &(struct look){.dora = dora > 0, .rank = 5, .seed = 1});
        const char *y = make(b.model, "y", &(struct look){.dora = dora > 1, .rank = 3, .seed = 2});
        json_t *json = diff(b.model, x, y);
        double aa = 0;
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
            char end[64];
            snprintf(end, sizeof end, "layers.1.self_attn.%s", names[i]);
            const json_t *one = entry(json_object_get(json, "modules"), "module", end);
            struct dense left = dense_of(b.model, x, names[i], 1, false);
            struct dense right = dense_of(b.model, y, names[i], 1, false);
            const double a = sqrt(inner_of(&left, &left)), c = sqrt(inner_of(&right, &right));
            assert_near(number(one, "norm_a"), a, 1e-5, "the first norm");
            assert_near(number(one, "norm_b"), c, 1e-5, "the second norm");
            assert_near(number(one, "distance"), distance_of(&left, &right), 1e-5, "distance");
            const double cosine = inner_of(&left, &right) / (a * c);
            assert_true(fabs(number(one, "cosine") - cosine) < 1e-5);
            assert_int_equal(number(one, "rank_a"), 5);
            assert_int_equal(number(one, "layer"), 1);
            mem_free(NULL, left.x);
            mem_free(NULL, right.x);
        }
        const json_t *modules = json_object_get(json, "modules"), *one;
        size_t i;
        json_array_foreach(modules, i, one) aa += number(one, "norm_a") * number(one, "norm_a");
        assert_near(number(json_object_get(json, "total"), "norm_a"), sqrt(aa), 1e-9, "in all");
        const json_t *differs = json_object_get(json, "differences");
        assert_int_equal(number(differs, "ranks"), json_array_size(modules));
        assert_int_equal(number(differs, "dora"), dora == 1 ? json_array_size(modules) : 0);
        json_decref(json);
    }
    base_close(&b);
}

static void assert_all(const json_t *json, const char *key, double want, double tolerance)
{
    const json_t *one;
    size_t i;
    json_array_foreach(json_object_get(json, "modules"), i, one)
    {
        if (!(fabs(number(one, key) - want) <= tolerance))
            fail_msg("%s of %s: %.9g, not %g", key,
                     json_string_value(json_object_get(one, "module")), number(one, key), want);
    }
    assert_true(fabs(number(json_object_get(json, "total"), key) - want) <= tolerance);
}

static void an_adapter_is_like_itself_and_unlike_its_negative_whatever_its_length(void **state)
{
    (void)state;
    struct base b;
    base_open(&b, "llama", false);
    const char *x = make(b.model, "x", &(struct look){.rank = 4, .seed = 7});
    json_t *json = diff(b.model, x, x);
    assert_true(json_is_true(json_object_get(json, "same")));
    assert_all(json, "cosine", 1, 1e-9);
    assert_all(json, "columns", 1, 1e-5);
    assert_all(json, "rows", 1, 1e-5);
    assert_all(json, "distance", 0, 1e-6);
    assert_int_equal(json_array_size(json_object_get(json_object_get(json, "differences"), "card")),
                     0);
    json_decref(json);
    static const double factors[] = {-1, 0.5, -300, 1e-4};
    for (size_t i = 0; i < ARRAY_LEN(factors); i++) {
        json = diff(b.model, x, times(b.model, x, factors[i], "y"));
        assert_false(json_is_true(json_object_get(json, "same")));
        assert_all(json, "cosine", factors[i] > 0 ? 1 : -1, 1e-6);
        assert_all(json, "columns", 1, 1e-5);
        assert_all(json, "rows", 1, 1e-5);
        const json_t *total = json_object_get(json, "total");
        assert_near(number(total, "norm_b"), fabs(factors[i]) * number(total, "norm_a"), 1e-5,
                    "the length");
        assert_near(number(total, "distance"), fabs(factors[i] - 1) * number(total, "norm_a"), 1e-5,
                    "the distance");
        json_decref(json);
    }
    base_close(&b);
}

/* Factors with ones at some places: spaces whose overlap is known. */
static const char *make_axes(const struct model *model, const char *name, int first, int n)
{
    const int site = model_site(0, LINEAR_V);
    const struct matrix *w = model_site_weight(model, site);
    struct adapter_factors f = {.site = site, .rank = n};
    f.a = mem_calloc(NULL, (size_t)(n * w->n_in), sizeof *f.a);
    f.b = mem_calloc(NULL, (size_t)(n * w->n_out), sizeof *f.b);
    for (int r = 0; r < n; r++) {
        f.a[r * w->n_in + first + r] = (float)(1 + r);
        f.b[2 * (first + r) * n + r] = 3;
        f.b[(2 * (first + r) + 1) * n + r] = -1;
    }
    const char *path = kept(name);
    MUST(adapter_write_factors(model, path, &RECIPE, &f, 1, error));
    mem_free(NULL, f.a);
    mem_free(NULL, f.b);
    return path;
}

static void spaces_overlap_as_far_as_their_axes_do(void **state)
{
    (void)state;
    static const struct {
        int first, n;
        double overlap;
    } cases[] = {{0, 3, 1}, {1, 3, 2.0 / 3}, {2, 4, 1.0 / 3}, {3, 3, 0}, {1, 1, 1}, {0, 7, 1}};
    struct base b;
    base_open(&b, "llama", false);
    const char *x = make_axes(b.model, "x", 0, 3);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *json = diff(b.model, x, make_axes(b.model, "y", cases[i].first, cases[i].n));
        assert_all(json, "columns", cases[i].overlap, 1e-6);
        assert_all(json, "rows", cases[i].overlap, 1e-6);
        json_decref(json);
    }
    base_close(&b);
}

static void what_only_one_of_them_has_is_told(void **state)
{
    (void)state;
    struct base b;
    base_open(&b, "llama", false);
    const char *x = make_axes(b.model, "x", 0, 3);
    const char *y = make(b.model, "y", &(struct look){.saved = true, .rank = 2, .seed = 3});
    json_t *json = diff(b.model, x, y);
    const json_t *differs = json_object_get(json, "differences");
    const json_t *alone = entry(json_object_get(json, "modules"), "module", "0.self_attn.q_proj");
    assert_int_equal(number(differs, "only_a"), 0);
    assert_int_equal(number(differs, "both"), 1);
    assert_true(number(differs, "only_b") > 1);
    assert_string_equal(json_string_value(json_object_get(alone, "only")), "b");
    assert_true(json_is_null(json_object_get(alone, "rank_a")));
    assert_true(json_is_null(json_object_get(alone, "cosine")));
    assert_true(json_is_null(json_object_get(alone, "columns")));
    assert_true(number(alone, "norm_a") == 0);
    assert_near(number(alone, "distance"), number(alone, "norm_b"), 1e-9, "distance");
    json_decref(json);
    base_close(&b);
}

/* The rows of q and k stand in another order in such a GGUF; what an adapter does is the same. */
static void the_order_of_rows_of_the_base_is_no_difference(void **state)
{
    (void)state;
    struct base hf, gguf;
    base_open(&hf, "llama", false);
    base_open(&gguf, "llama", true);
    const char *x = make(hf.model, "x", &(struct look){.dora = true, .rank = 3, .seed = 1});
    const char *y = make(hf.model, "y", &(struct look){.dora = true, .rank = 3, .seed = 2});
    json_t *one = diff(hf.model, x, y), *two = diff(gguf.model, x, y);
    const char *const keys[] = {"norm_a", "norm_b", "distance", "cosine", "columns", "rows"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        assert_true(fabs(number(json_object_get(one, "total"), keys[i]) -
                         number(json_object_get(two, "total"), keys[i])) < 1e-5);
    json_decref(one);
    json_decref(two);
    base_close(&hf);
    base_close(&gguf);
}

/* ---- memory --------------------------------------------------------------------------------- */

static graft_status do_both(const struct model *model, const char *in, const char *other,
                            graft_error *error)
{
    const struct compress_options options = {.rank = 1};
    json_t *report = NULL, *json = NULL;
    graft_status status = adapter_compress(model, in, fresh_path("out"), &options, &report, error);
    if (status == GRAFT_OK)
        status = adapter_diff(model, in, other, &(struct diff_options){0}, &json, error);
    json_decref(report);
    json_decref(json);
    return status;
}

static void lack_of_memory_is_said_and_leaves_nothing(void **state)
{
    (void)state;
    struct base b;
    base_open(&b, "llama", false);
    const char *in = make(b.model, "in", &(struct look){.dora = true, .rank = 2, .seed = 1});
    const char *other = make(b.model, "other", &(struct look){.bias = true, .rank = 2, .seed = 2});
    for (int json = 0; json < 2; json++)
        for (size_t n = 1;; n += 1 + n / 16) { /* each of the first, then ever fewer */
            struct failing_allocator failing;
            struct mem with;
            const graft_allocator saved = rt.mem.allocator;
            const size_t before = atomic_load(&rt.mem.bytes_in_use);
            graft_error why = {0};
            failing_init(&failing, &with, json ? 0 : n);
            failing.ever_after = true;
            if (json)
                failing_json_begin(n);
            else
                rt.mem.allocator = with.allocator;
            const graft_status status = do_both(b.model, in, other, &why);
            rt.mem.allocator = saved;
            const bool failed = json ? failing_json_end() : failing.failed;
            assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
            if (status != GRAFT_OK && status != GRAFT_NO_MEMORY && !json)
                fail_msg("allocation %zu: %d %s", n, (int)status, why.message);
            if (!failed) {
                assert_int_equal(status, GRAFT_OK);
                break;
            }
        }
    base_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_left_is_the_best_of_its_rank),
        cmocka_unit_test(no_fewer_ranks_is_the_same_adapter),
        cmocka_unit_test(energy_chooses_the_least_rank_of_each_module),
        cmocka_unit_test(ranks_that_say_nothing_go_without_loss),
        cmocka_unit_test(an_adapter_that_changes_nothing_is_brought_to_rank_1),
        cmocka_unit_test(what_has_no_factors_is_kept_and_biases_count),
        cmocka_unit_test(every_format_comes_out_with_the_same_effect),
        cmocka_unit_test(threads_cannot_be_seen),
        cmocka_unit_test(the_card_says_what_was_done_and_no_longer_which_ranks_learn),
        cmocka_unit_test(what_cannot_be_is_refused_and_leaves_no_file),
        cmocka_unit_test(norms_distance_and_angle_are_those_of_the_whole_changes),
        cmocka_unit_test(an_adapter_is_like_itself_and_unlike_its_negative_whatever_its_length),
        cmocka_unit_test(spaces_overlap_as_far_as_their_axes_do),
        cmocka_unit_test(what_only_one_of_them_has_is_told),
        cmocka_unit_test(the_order_of_rows_of_the_base_is_no_difference),
        cmocka_unit_test(lack_of_memory_is_said_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
