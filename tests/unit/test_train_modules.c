/* test_train_modules.c: what is trained beside factors of linears: factors of the embedding, norms, the embedding and the head
 * held whole, and the last blocks alone. What an opened adapter says is what was trained, and it can be gone on with.
 */
#include "unit/save_fixture.h"

#include "train/train_internal.h"
#include "unit/failing_allocator.h"
#include "unit/must.h"
#include "unit/random_model.h"

#include <math.h>

enum { MOST = 4 };
static const struct scene {
    const char *name, *arch;
    bool gguf, dora;
    const char *targets[MOST], *saved[MOST];
    int n_layers;
    const char *said; /* in its adapter_config.json, without blanks */
} SCENES[] = {
    {"factors of the embedding",
     "llama",
     false,
     false,
     {"q_proj", "embed_tokens"},
     {NULL},
     0,
     "\"target_modules\":[\"embed_tokens\",\"q_proj\"]"},
    {"... with magnitudes",
     "qwen2",
     false,
     true,
     {"embed_tokens", "v_proj", "lm_head"},
     {NULL},
     0,
     "\"use_dora\":true"},
    {"norms",
     "qwen3",
     false,
     false,
     {"k_proj"},
     {"norms"},
     0,
     "\"modules_to_save\":[\"norm\",\"input_layernorm\",\"post_attention_layernorm\",\"q_norm\","
     "\"k_norm\"]"},
    {"embedding and head",
     "llama",
     false,
     true,
     {"o_proj"},
     {"embed_tokens", "lm_head", "norm"},
     0,
     "\"modules_to_save\":[\"embed_tokens\",\"norm\",\"lm_head\"]"},
    {"a tied embedding, and the head apart",
     "qwen2",
     false,
     false,
     {"v_proj"},
     {"embed_tokens", "lm_head"},
     0,
     "\"modules_to_save\":[\"embed_tokens\",\"lm_head\"]"},
    {"a tied embedding alone",
     "qwen2",
     false,
     false,
     {"v_proj"},
     {"embed_tokens"},
     0,
     "\"modules_to_save\":[\"embed_tokens\"]"},
    {"a GGUF for base",
     "llama",
     true,
     false,
     {"q_proj", "k_proj", "embed_tokens"},
     {"lm_head"},
     0,
     "\"modules_to_save\":[\"lm_head\"]"},
    {"a classifier's head",
     "qwen2-cls",
     false,
     false,
     {"q_proj"},
     {"score"},
     0,
     "\"modules_to_save\":[\"score\"]"},
    {"a classifier's head with factors",
     "qwen2-cls",
     false,
     false,
     {"score", "up_proj"},
     {NULL},
     0,
     "\"target_modules\":[\"score\",\"up_proj\"]"},
    {"the last block",
     "llama",
     false,
     false,
     {"q_proj", "up_proj"},
     {NULL},
     1,
     "\"layers_to_transform\":[2]"},
    {"the last blocks and all else",
     "qwen2",
     false,
     false,
     {"v_proj", "embed_tokens", "lm_head"},
     {"norms"},
     2,
     "\"target_modules\":[\"v_proj\",\"model.embed_tokens\",\"lm_head\"]"},
};

static size_t length(const char *const *list)
{
    size_t n = 0;
    while (n < MOST && list[n])
        n++;
    return n;
}

static struct adapter_recipe recipe_of(const struct scene *s)
{
    struct adapter_recipe r = RECIPE;
    r.targets = s->targets;
    r.n_targets = length(s->targets);
    r.saved = s->saved;
    r.n_saved = length(s->saved);
    r.n_layers = s->n_layers;
    r.rank = 3;
    return r;
}

static struct trainable *open_trainable(const struct model *m, const struct scene *s,
                                        const char *path)
{
    const struct adapter_recipe recipe = recipe_of(s);
    const struct trainable_options options = {
        .recipe = path ? NULL : &recipe, .path = path, .dropout = 0, .dora = s->dora};
    struct trainable *t;
    MUST(trainable_open(m, &options, &t, error));
    return t;
}

static void targets_of(const struct model *m, int32_t out[N_TOKENS], float weights[N_TOKENS])
{
    const int n = m->config.n_labels;
    for (int i = 0; i < N_TOKENS; i++) {
        out[i] = n ? i % n : TOKENS[(i + 1) % N_TOKENS];
        weights[i] = n == 0 || i == N_TOKENS - 1;
    }
}

/* The loss that the pass says; with gradients. */
static double trained_loss(const struct model *m, const struct trainable *t)
{
    const struct train_options options = {.max_tok = N_TOKENS};
    const int starts[2] = {0, N_TOKENS};
    struct train_tape *tape;
    struct train_result result;
    int32_t targets[N_TOKENS];
    float weights[N_TOKENS];
    targets_of(m, targets, weights);
    const struct train_batch batch = {.n_tok = N_TOKENS,
                                      .n_examples = 1,
                                      .tokens = TOKENS,
                                      .starts = starts,
                                      .targets = targets,
                                      .weights = weights};
    MUST(train_tape_open(m, &t->set, &options, &tape, error));
    MUST(train_tape_refresh(tape, error));
    MUST(train_tape_run(tape, &batch, true, &result, error));
    train_tape_close(&tape);
    return result.nll / result.weight;
}

/* The loss that an adapter's files say on the base; NULL: of the base. */
static double opened_loss(const struct model *m, const char *path)
{
    int32_t targets[N_TOKENS];
    float weights[N_TOKENS];
    double nll = 0, all = 0;
    const int64_t n = model_n_logits(m);
    float *logits = logits_of(m, path);
    targets_of(m, targets, weights);
    for (int i = 0; i < N_TOKENS; i++) {
        if (weights[i] == 0)
            continue;
        const double logit = (double)logits[i * n + targets[i]];
        nll += m->runtime->kernels->softmax(logits + i * n, n) - logit;
        all++;
    }
    free(logits);
    return nll / all;
}

static void disturb(struct trainable *t)
{
    struct rng rng;
    rng_init(&rng, 3, 0);
    for (int i = 0; i < t->n_parts; i++)
        for (int64_t k = 0; k < t->parts[i].n; k++)
            t->values[t->parts[i].at + k] += (float)(0.2 * (rng_uniform(&rng) - 0.5));
}

/* Every part has a gradient. */
static void check_gradients(const struct trainable *t, const char *name)
{
    for (int i = 0; i < t->n_parts; i++) {
        double sum = 0;
        for (int64_t k = 0; k < t->parts[i].n; k++)
            sum += fabs((double)t->grads[t->parts[i].at + k]);
        if (!(sum > 0))
            fail_msg("%s: part %d has no gradient", name, i);
    }
}

static void check_said(const char *dir, const char *said)
{
    char *path = path_join(NULL, dir, "adapter_config.json"), *text;
    size_t size, n = 0;
    MUST(file_read(NULL, path, 1 << 20, &text, &size, error));
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \n", text[i]))
            text[n++] = text[i];
    text[n] = '\0';
    if (!strstr(text, said))
        fail_msg("%s has no %s", text, said);
    mem_free(NULL, text);
    mem_free(NULL, path);
}

static void close_to(double got, double want, double bound, const char *name)
{
    if (!(fabs(got - want) <= bound * fabs(want)))
        fail_msg("%s: %.9g, not %.9g", name, got, want);
}

static void what_was_trained_is_what_is_opened(void **state)
{
    (void)state;
    const struct trainable_output peft = {.format = ADAPTER_PEFT, .type = GRAFT_TYPE_F32};
    for (size_t i = 0; i < ARRAY_LEN(SCENES); i++) {
        const struct scene *s = &SCENES[i];
        struct base b;
        base_open(&b, s->arch, s->gguf);
        struct trainable *t = open_trainable(b.model, s, NULL), *again;
        close_to(trained_loss(b.model, t), opened_loss(b.model, NULL), 1e-5, s->name);
        disturb(t);
        trainable_zero_grads(t);
        const double want = trained_loss(b.model, t);
        check_gradients(t, s->name);
        assert_true(fabs(want - opened_loss(b.model, NULL)) > 1e-4);
        MUST(trainable_write(t, NULL, fresh_path("out"), &peft, error));
        check_said(at("out"), s->said);
        close_to(opened_loss(b.model, at("out")), want, 2e-5, s->name);
        again = open_trainable(b.model, s, at("out"));
        assert_int_equal(again->n_values, t->n_values);
        assert_memory_equal(again->values, t->values, (size_t)t->n_values * sizeof *t->values);
        close_to(trained_loss(b.model, again), want, 0, s->name);
        trainable_close(&again);
        trainable_close(&t);
        base_close(&b);
    }
}

static void factors_of_an_embedding_go_to_mlx_and_back(void **state)
{
    (void)state;
    const struct trainable_output mlx = {.format = ADAPTER_MLX, .type = GRAFT_TYPE_F32};
    const struct scene *s = &SCENES[0];
    struct base b;
    base_open(&b, s->arch, false);
    struct trainable *t = open_trainable(b.model, s, NULL);
    disturb(t);
    const double want = trained_loss(b.model, t);
    MUST(trainable_write(t, NULL, fresh_path("mlx"), &mlx, error));
    close_to(opened_loss(b.model, at("mlx")), want, 2e-5, "mlx");
    close_to(opened_loss(b.model, convert(&b, at("mlx"), "back", ADAPTER_PEFT)), want, 2e-5,
             "back");
    trainable_close(&t);
    base_close(&b);
}

static void what_cannot_be_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *arch, *target, *saved, *because;
        enum adapter_init init;
    } CASES[] = {
        {"llama", "q_proj", "up_proj", "no module \"up_proj\"", INIT_DEFAULT},
        {"llama", "q_proj", "q_norm", "it has embed_tokens, norm, lm_head, input_layernorm, post",
         INIT_DEFAULT},
        {"llama", "lm_head", "lm_head", "both in target_modules and in modules_to_save",
         INIT_DEFAULT},
        {"qwen2", "q_proj", "lm_head", "save embed_tokens, too", INIT_DEFAULT},
        {"llama", "norm", NULL, "no linear layer \"norm\"", INIT_DEFAULT},
        {"llama", "embed_tokens", NULL, "pissa is for linear layers", INIT_PISSA},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct base b;
        graft_error error = {0};
        struct trainable *t = NULL;
        struct adapter_recipe r = RECIPE;
        r.targets = &CASES[i].target;
        r.n_targets = 1;
        r.saved = &CASES[i].saved;
        r.n_saved = CASES[i].saved != NULL;
        const struct trainable_options options = {.recipe = &r, .init = CASES[i].init};
        base_open(&b, CASES[i].arch, false);
        assert_int_equal(trainable_open(b.model, &options, &t, &error), GRAFT_INVALID_ARGUMENT);
        if (!strstr(error.message, CASES[i].because))
            fail_msg("\"%s\", expected \"%s\"", error.message, CASES[i].because);
        base_close(&b);
    }
}

static void a_format_that_has_no_place_for_it_says_so(void **state)
{
    (void)state;
    static const enum adapter_format FORMATS[] = {ADAPTER_MLX, ADAPTER_GGUF};
    const struct scene *s = &SCENES[3];
    struct base b;
    base_open(&b, s->arch, false);
    struct trainable *t = open_trainable(b.model, s, NULL);
    for (size_t i = 0; i < ARRAY_LEN(FORMATS); i++) {
        const struct trainable_output output = {.format = FORMATS[i], .type = GRAFT_TYPE_F32};
        graft_error error = {0};
        assert_int_equal(trainable_check_format(t, FORMATS[i], &error), GRAFT_UNSUPPORTED);
        assert_int_equal(trainable_write(t, NULL, fresh_path("none"), &output, &error),
                         GRAFT_UNSUPPORTED);
        assert_non_null(strstr(error.message, i ? "weight of its own" : "saved whole"));
        assert_false(path_exists(at("none")));
    }
    trainable_close(&t);
    base_close(&b);
}

static void a_classifier_learns_from_texts_and_labels(void **state)
{
    (void)state;
    static const char *const targets[] = {"q_proj"}, *const saved[] = {"score", "norms"};
    static const char lines[] = "{\"text\":\"aaab\",\"label\":0}\n{\"text\":\"xyz\",\"label\":1}\n"
                                "{\"text\":\"abab\",\"label\":0}\n{\"text\":\"zzx\",\"label\":1}\n"
                                "{\"text\":\"0123\",\"label\":2}\n{\"text\":\"321\",\"label\":2}\n";
    const struct data_options how = {.valid_share = 0};
    const struct trainable_output peft = {.format = ADAPTER_PEFT, .type = GRAFT_TYPE_F32};
    struct trainer_options options = trainer_defaults();
    struct adapter_recipe recipe = RECIPE;
    struct trainable_options begin = {.recipe = &recipe, .dropout = 0};
    struct trainer_outcome outcome;
    struct trainable *t;
    struct trainer *trainer;
    struct dataset *data;
    struct data_model about;
    double before, after;
    recipe.targets = targets;
    recipe.n_targets = 1;
    recipe.saved = saved;
    recipe.n_saved = 2;
    options.max_steps = 40;
    options.rate = 2e-2;
    options.rows = 6;
    char *dir = random_model_make(&(struct random_model){.classifier = true});
    struct model *m = open_model(&rt, dir);
    MUST(file_write_atomic(NULL, at("labels.jsonl"), lines, strlen(lines), error));
    MUST(data_model_of(m, &about, error));
    MUST(dataset_open(NULL, &about, at("labels.jsonl"), &how, &data, error));
    for (int again = 0; again < 2; again++) {
        begin.recipe = again ? NULL : &recipe;
        begin.path = again ? at("scores") : NULL;
        MUST(trainable_open(m, &begin, &t, error));
        MUST(trainer_open(m, t, data, &options, &trainer, error));
        MUST(trainer_loss(trainer, DATA_TRAIN, again ? &after : &before, error));
        if (!again) {
            MUST(trainer_run(trainer, NULL, NULL, &outcome, error));
            MUST(trainer_write(trainer, fresh_path("scores"), &peft, error));
        }
        trainer_close(&trainer);
        trainable_close(&t);
    }
    assert_true(before > 0.5);
    assert_true(after < 0.1 * before);
    dataset_close(&data);
    model_close(&m);
    random_model_remove(dir);
}

static void lack_of_memory_is_said_and_leaves_nothing(void **state)
{
    (void)state;
    const struct trainable_output peft = {.format = ADAPTER_PEFT, .type = GRAFT_TYPE_F32};
    char old[512]; /* names of at() do not last */
    struct base b;
    snprintf(old, sizeof old, "%s", at("old"));
    base_open(&b, "qwen2", false);
    const struct adapter_recipe recipe = recipe_of(&SCENES[1]);
    for (int again = 0; again < 2; again++)
        for (size_t n = 1;; n++) {
            const struct trainable_options options = {.recipe = again ? NULL : &recipe,
                                                      .path = again ? old : NULL,
                                                      .dropout = 0,
                                                      .dora = true};
            struct failing_allocator failing;
            struct mem with;
            struct trainable *t = NULL;
            graft_allocator saved = rt.mem.allocator;
            size_t before = atomic_load(&rt.mem.bytes_in_use);
            graft_error error = {0};
            fresh_path(again ? "new" : "old");
            failing_init(&failing, &with, n);
            rt.mem.allocator = with.allocator;
            graft_status status = trainable_open(b.model, &options, &t, &error);
            if (status == GRAFT_OK)
                status = trainable_write(t, NULL, again ? at("new") : old, &peft, &error);
            trainable_close(&t);
            rt.mem.allocator = saved;
            assert_int_equal(atomic_load(&rt.mem.bytes_in_use), before);
            if (status != (failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK))
                fail_msg("allocation %zu: %s", n, error.message);
            if (!failing.failed)
                break;
        }
    base_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_trained_is_what_is_opened),
        cmocka_unit_test(factors_of_an_embedding_go_to_mlx_and_back),
        cmocka_unit_test(what_cannot_be_is_refused_by_name),
        cmocka_unit_test(a_classifier_learns_from_texts_and_labels),
        cmocka_unit_test(lack_of_memory_is_said_and_leaves_nothing),
        cmocka_unit_test(a_format_that_has_no_place_for_it_says_so),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
