/* test_convert_types.c: quantised conversions: how near they are, and which tensor gets which type.
 */
#include "unit/convert_support.h"

#include "model/convert/convert_internal.h"

/* One layer of rows that fit blocks of 256. */
static void wide_model(const char *arch, const char *name)
{
    struct oracle_model m;
    json_t *config = oracle_config_wide(arch);
    json_object_set_new(config, "num_hidden_layers", json_integer(1));
    json_object_set_new(config, "intermediate_size", json_integer(256));
    oracle_model_make(&m, config, 1);
    oracle_write_hf(&m, at(name), GRAFT_TYPE_F32);
    oracle_model_free(&m);
}

/* Mean KL of the logits from those of the floats: random weights are the hardest to round. */
static void quantised_logits_are_near(void **state)
{
    (void)state;
    const struct {
        const char *type;
        double kl;
    } bounds[] = {{"q8_0", 2e-3},   {"q6_k", 5e-3},   {"q5_k_m", 2e-2}, {"q5_0", 3e-2},
                  {"q5_1", 3e-2},   {"q4_k_m", 1e-1}, {"q4_0", 2e-1},   {"q4_1", 2e-1},
                  {"q3_k_m", 4e-1}, {"q2_k", 1.2e0}};
    size_t n, same;
    wide_model("qwen2", "hf");
    float *want = logits_of("hf", &n);
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
        convert("hf", "q.gguf", bounds[i].type);
        float *got = logits_of("q.gguf", &same);
        assert_int_equal(n, same);
        double kl = mean_kl(got, want, N_TOKENS, (int)(n / N_TOKENS));
        if (!(kl <= bounds[i].kl && kl >= bounds[i].kl / 20))
            fail_msg("%s: mean KL %g, expected at most %g and not far below", bounds[i].type, kl,
                     bounds[i].kl);
        free(got);
        /* What the file says is what a reader gets, in floats too. */
        convert("q.gguf", "floats", "f32");
        assert_true(distance("floats", "q.gguf") == 0);
        temp_remove(at("floats"));
    }
    free(want);
}

static void requantising_takes_the_stored_values(void **state)
{
    (void)state;
    wide_model("llama", "hf");
    convert("hf", "q8.gguf", "q8_0");
    convert("q8.gguf", "q4.gguf", "q4_k_m");
    convert("q8.gguf", "floats", "f32");
    convert("floats", "direct.gguf", "q4_k_m");
    assert_true(distance("q4.gguf", "direct.gguf") == 0);
    convert("q4.gguf", "again.gguf", "Q4_K");
    assert_same_files("q4.gguf", "again.gguf");
}

static void check_types(const char *file, const char *const (*expected)[2])
{
    struct tensor_set set;
    assert_int_equal(tensor_set_open(&set, NULL, at(file), MAP_COPY, NULL), GRAFT_OK);
    for (; (*expected)[0]; expected++) {
        const struct tensor_info *t = tensor_set_find(&set, (*expected)[0]);
        assert_non_null(t);
        if (strcmp(graft_type_name(t->type), (*expected)[1]))
            fail_msg("%s: %s is %s, expected %s", file, t->name, graft_type_name(t->type),
                     (*expected)[1]);
    }
    tensor_set_close(&set);
}

/* What a recipe gives the layers of a model of n, as "type type …" with runs left out. */
static void check_recipe(const char *name, int slot, int n_layer, const char *expected)
{
    struct config config = {.n_layer = n_layer};
    const struct recipe *recipe = recipe_find(name);
    char found[256] = "";
    graft_type last = GRAFT_TYPE_COUNT;
    assert_non_null(recipe);
    for (int i = 0; i < n_layer; i++) {
        graft_type type = recipe_type(recipe, &config, slot, i, 256);
        size_t used = strlen(found);
        if (type != last)
            snprintf(found + used, sizeof(found) - used, "%s%d:%s", used ? " " : "", i,
                     graft_type_name(type));
        last = type;
    }
    if (strcmp(found, expected))
        fail_msg("%s, slot %d of %d layers: %s, expected %s", name, slot, n_layer, found, expected);
}

/* 16 layers: an eighth is two, a sixteenth one. */
static void recipes_give_the_types_that_llama_cpp_gives(void **state)
{
    (void)state;
    enum {
        Q = SLOT_LINEAR + LINEAR_Q,
        V = SLOT_LINEAR + LINEAR_V,
        O = SLOT_LINEAR + LINEAR_O,
        UP = SLOT_LINEAR + LINEAR_UP,
        DOWN = SLOT_LINEAR + LINEAR_DOWN
    };
    static const char MORE_4[] = "0:Q6_K 2:Q4_K 4:Q6_K 5:Q4_K 7:Q6_K 8:Q4_K 10:Q6_K 11:Q4_K "
                                 "13:Q6_K";
    static const char MORE_5[] = "0:Q6_K 2:Q5_K 4:Q6_K 5:Q5_K 7:Q6_K 8:Q5_K 10:Q6_K 11:Q5_K "
                                 "13:Q6_K";
    const struct {
        const char *name;
        int slot;
        const char *expected;
    } cases[] = {
        {"q4_k_m", Q, "0:Q4_K"},
        {"q4_k_m", V, MORE_4},
        {"q4_k_m", DOWN, MORE_4},
        {"q4_k_m", O, "0:Q4_K"},
        {"Q4_K", V, MORE_4},
        {"q5_k_m", V, MORE_5},
        {"q5_k", DOWN, MORE_5},
        {"q5_k_s", V, "0:Q5_K"},
        {"Q4_K_S", V, "0:Q5_K 4:Q4_K"},
        {"q4_k_s", DOWN, "0:Q5_K 2:Q4_K"},
        {"q3_k_m", V, "0:Q5_K 2:Q4_K"},
        {"q3_k_m", DOWN, "0:Q5_K 1:Q4_K"},
        {"q3_k_m", O, "0:Q4_K"},
        {"q3_k_m", UP, "0:Q3_K"},
        {"q3_k_s", V, "0:Q3_K"},
        {"q2_k", Q, "0:Q2_K"},
        {"q2_k", V, "0:Q3_K"},
        {"q2_k", DOWN, "0:Q3_K"},
        {"q2_k", O, "0:Q3_K"},
        {"q4_0", V, "0:Q4_0"},
        {"q4_0", SLOT_HEAD, "0:Q6_K"},
        {"q4_0", SLOT_EMBED, "0:Q4_0"},
        {"q8_0", SLOT_HEAD, "0:Q8_0"},
        {"bf16", SLOT_HEAD, "0:BF16"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check_recipe(cases[i].name, cases[i].slot, 16, cases[i].expected);
    static const char *const UNTIED[][2] = {
        {"token_embd.weight", "Q4_K"},   {"output.weight", "Q6_K"},
        {"output_norm.weight", "F32"},   {"blk.0.attn_norm.weight", "F32"},
        {"blk.0.attn_q.weight", "Q4_K"}, {NULL, NULL}};
    /* An embedding that is the head too gets the head's type. */
    static const char *const TIED[][2] = {
        {"token_embd.weight", "Q6_K"}, {"blk.0.attn_q.bias", "F32"}, {NULL, NULL}};
    wide_model("llama", "hf");
    convert("hf", "m.gguf", "q4_k_m");
    check_types("m.gguf", UNTIED);
    wide_model("qwen2", "tied");
    convert("tied", "m.gguf", "q4_k_m");
    check_types("m.gguf", TIED);
}

/* Rows of 96 fit blocks of 32 only, rows of 208 none. */
static void rows_that_do_not_fit_get_a_type_that_does(void **state)
{
    (void)state;
    static const char *const EXPECTED[][4] = {
        {"q4_k_m", "Q5_0", "Q8_0", "F16"}, {"q5_k_s", "Q5_1", "Q8_0", "F16"},
        {"q3_k_s", "Q4_0", "Q8_0", "F16"}, {"q2_k", "Q4_0", "Q8_0", "F16"},
        {"q6_k", "Q8_0", "Q8_0", "F16"},   {"q4_1", "Q4_1", "Q8_0", "F16"},
        {"q8_0", "Q8_0", "Q8_0", "F16"}};
    write_model("llama", "hf", GRAFT_TYPE_F32);
    for (size_t i = 0; i < ARRAY_LEN(EXPECTED); i++) {
        const char *const expected[][2] = {{"blk.0.attn_q.weight", EXPECTED[i][1]},
                                           {"output.weight", EXPECTED[i][2]},
                                           {"blk.0.ffn_down.weight", EXPECTED[i][3]},
                                           {NULL, NULL}};
        convert("hf", "m.gguf", EXPECTED[i][0]);
        check_types("m.gguf", expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(quantised_logits_are_near),
        TEST(requantising_takes_the_stored_values),
        TEST(recipes_give_the_types_that_llama_cpp_gives),
        TEST(rows_that_do_not_fit_get_a_type_that_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
