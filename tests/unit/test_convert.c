/* test_convert.c: a converted model is the same model: its logits, its bytes on the way back; and what is
 * refused leaves nothing behind. Types and recipes are in test_convert_types.c.
 */
#include "unit/convert_support.h"
#include "unit/failing_allocator.h"
#include "unit/failing_json.h"

#include <limits.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- round trips -------------------------------------------------------------------------- */

static const char *const ARCHS[] = {"llama",   "llama-bias", "llama-linear", "llama3",
                                    "mistral", "qwen2",      "qwen3",        "yarn"};

/* Interleaved heads add in another order: the GGUF of a llama is near, all else is exact. */
static void f32_goes_to_gguf_and_back_unchanged(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ARCHS); i++) {
        const char *arch = ARCHS[i];
        bool interleaved = !strncmp(arch, "llama", 5) || !strcmp(arch, "mistral");
        char hf[64], gguf[64], back[64], again[64];
        snprintf(hf, sizeof(hf), "%s", arch);
        snprintf(gguf, sizeof(gguf), "%s.gguf", arch);
        snprintf(back, sizeof(back), "%s-back", arch);
        snprintf(again, sizeof(again), "%s-again.gguf", arch);
        write_model(arch, hf, GRAFT_TYPE_F32);
        convert(hf, gguf, "f32");
        convert(gguf, back, "f32");
        convert(gguf, again, "f32");
        assert_same_tensors(hf, back);
        assert_same_files(gguf, again);
        double near = distance(gguf, hf), exact = distance(back, hf);
        bool divisors = !strcmp(arch, "llama3"), factor = !strcmp(arch, "yarn");
        if (near > (interleaved || factor ? 1e-5 : 0) || exact > (divisors || factor ? 1e-5 : 0))
            fail_msg("%s: GGUF off by %g, directory by %g", arch, near, exact);
    }
}

static void mistral_is_mistral_again(void **state)
{
    (void)state;
    write_model("mistral", "hf", GRAFT_TYPE_F32);
    convert("hf", "m.gguf", "f32");
    assert_non_null(strstr(logged, "sliding window"));
    convert("m.gguf", "back", "f32");
    struct model *m = open_model(&rt, at("back"));
    assert_string_equal(m->config.architecture, "MistralForCausalLM");
    assert_int_equal(m->config.windows[2], 5);
    model_close(&m);
}

static void windows_in_some_layers_survive(void **state)
{
    (void)state;
    struct oracle_model m;
    json_t *config = oracle_config("qwen2");
    json_object_set_new(config, "use_sliding_window", json_true());
    oracle_model_make(&m, config, 1);
    oracle_write_hf(&m, at("hf"), GRAFT_TYPE_F32);
    oracle_model_free(&m);
    convert("hf", "m.gguf", "f32");
    convert("m.gguf", "back", "f32");
    assert_true(distance("m.gguf", "hf") == 0);
    assert_true(distance("back", "hf") == 0);
}

static void half_precision_is_rounded_once(void **state)
{
    (void)state;
    const struct {
        const char *name;
        graft_type type;
    } types[] = {{"f16", GRAFT_TYPE_F16}, {"bf16", GRAFT_TYPE_BF16}};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        char rounded[32], hf[32], gguf[32], back[32];
        snprintf(rounded, sizeof(rounded), "rounded-%s", types[i].name);
        snprintf(hf, sizeof(hf), "hf-%s", types[i].name);
        snprintf(gguf, sizeof(gguf), "%s.gguf", types[i].name);
        snprintf(back, sizeof(back), "back-%s", types[i].name);
        write_model("qwen3", "hf", GRAFT_TYPE_F32);
        write_model("qwen3", rounded, types[i].type);
        convert("hf", hf, types[i].name);
        assert_same_tensors(rounded, hf);
        convert(rounded, gguf, types[i].name);
        convert(gguf, back, types[i].name);
        assert_same_tensors(rounded, back);
        struct model *m = open_model(&rt, at(hf));
        assert_int_equal(m->layers[0].linear[LINEAR_UP].type, types[i].type);
        model_close(&m);
    }
}

static void mlx_becomes_plain(void **state)
{
    (void)state;
    struct oracle_model m;
    static const char *const KEEP[] = {"model.layers.1.mlp.up_proj", NULL};
    oracle_model_make(&m, oracle_config_wide("qwen2"), 3);
    oracle_write_mlx(&m, at("mlx"),
                     &(struct oracle_mlx){.bits = 4,
                                          .group = 32,
                                          .scale_type = GRAFT_TYPE_F16,
                                          .keep = KEEP,
                                          .wide = "model.layers.2.self_attn.v_proj"});
    oracle_model_free(&m);
    convert("mlx", "hf", "f32");
    convert("mlx", "m.gguf", "f32");
    assert_true(distance("hf", "mlx") <= 1e-6);
    assert_true(distance("m.gguf", "hf") == 0);
    struct model *plain = open_model(&rt, at("hf"));
    assert_false(plain->config.has_mlx);
    model_close(&plain);
}

static void classifiers_stay_classifiers(void **state)
{
    (void)state;
    write_model("qwen2-cls", "hf", GRAFT_TYPE_F32);
    convert("hf", "same", "f32");
    assert_same_tensors("hf", "same");
    assert_true(distance("same", "hf") == 0);
    refuse("hf", "c.gguf", "f32", GRAFT_UNSUPPORTED, "score head");
}

static void a_safetensors_file_stands_for_its_directory(void **state)
{
    (void)state;
    write_model("llama", "hf", GRAFT_TYPE_F32);
    convert("hf/model.safetensors", "copy", "f32");
    assert_same_tensors("hf", "copy");
    assert_true(distance("copy", "hf") == 0);
    char before[PATH_MAX];
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(at("hf")), 0);
    graft_error error = {0};
    graft_convert_options options = {.format = GRAFT_FORMAT_HF};
    assert_int_equal(model_convert(&rt, "model.safetensors", "here/", &options, &error), GRAFT_OK);
    assert_true(path_exists("here/config.json"));
    assert_int_equal(chdir(before), 0);
}

/* ---- refusals ----------------------------------------------------------------------------- */

static void unknown_types_are_refused_with_the_known_ones(void **state)
{
    (void)state;
    write_model("llama", "hf", GRAFT_TYPE_F32);
    refuse("hf", "x.gguf", "q9_9", GRAFT_INVALID_ARGUMENT, "q4_k_m");
    refuse("hf", "x.gguf", "", GRAFT_INVALID_ARGUMENT, "known are f32");
    refuse("hf", "x.gguf", "q4_k_m_and_more", GRAFT_INVALID_ARGUMENT, "known are");
    refuse("hf", "x", "q8_0", GRAFT_INVALID_ARGUMENT, "f32, f16 or bf16");
    refuse("nothing", "x.gguf", "f32", GRAFT_NOT_FOUND, "");
}

static void poison(const char *name, const char *tensor, size_t at_value, float value,
                   graft_type type)
{
    struct oracle_model m;
    oracle_model_make(&m, oracle_config("llama-bias"), 1);
    oracle_find(&m, tensor)->values[at_value] = value;
    oracle_write_hf(&m, at(name), type);
    oracle_model_free(&m);
}

static void values_that_a_type_cannot_hold_are_named(void **state)
{
    (void)state;
    poison("wide", "model.layers.1.mlp.up_proj.weight", 5 * 96 + 3, 1e6f, GRAFT_TYPE_BF16);
    refuse("wide", "x.gguf", "f16", GRAFT_NUMERIC,
           "blk.1.ffn_up.weight: row 5 holds 999424, which F16 cannot hold");
    refuse("wide", "x.gguf", "q4_0", GRAFT_NUMERIC, "which Q4_0 cannot hold");
    refuse("wide", "x", "f16", GRAFT_NUMERIC, "mlp.up_proj.weight: row 5");
    convert("wide", "fine.gguf", "bf16");
    poison("nan", "model.layers.0.self_attn.q_proj.weight", 96, NAN, GRAFT_TYPE_F32);
    refuse("nan", "x.gguf", "q8_0", GRAFT_NUMERIC, "row 1 holds nan");
    poison("bias", "model.layers.0.self_attn.q_proj.bias", 7, INFINITY, GRAFT_TYPE_F32);
    refuse("bias", "x", "bf16", GRAFT_NUMERIC, "q_proj.bias: row 7 holds inf");
    poison("large", "lm_head.weight", 0, 3.4e38f, GRAFT_TYPE_F32);
    refuse("large", "x", "bf16", GRAFT_NUMERIC, "which BF16 cannot hold");
    convert("large", "as-it-is", "f32");
}

static void change_config(const char *name, const char *key, json_t *value)
{
    char path[1100];
    json_t *config = NULL;
    snprintf(path, sizeof(path), "%s/config.json", at(name));
    assert_int_equal(json_read(NULL, path, 1 << 20, &config, NULL), GRAFT_OK);
    json_object_set_new(config, key, value);
    char *text = json_dumps(config, 0);
    write_file(at(name), "config.json", text, strlen(text));
    free(text);
    json_decref(config);
}

static json_t *llama3(double low)
{
    return json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor", 8.0,
                     "low_freq_factor", low, "high_freq_factor", 4.0,
                     "original_max_position_embeddings", 64);
}

static void what_a_container_cannot_say_is_refused(void **state)
{
    (void)state;
    write_model("yarn", "yarn", GRAFT_TYPE_F32);
    change_config("yarn", "rope_scaling",
                  json_pack("{s:s, s:f, s:b}", "rope_type", "yarn", "factor", 4.0, "truncate", 0));
    refuse("yarn", "x.gguf", "f32", GRAFT_UNSUPPORTED, "truncate");
    write_model("qwen2", "qwen", GRAFT_TYPE_F32);
    change_config("qwen", "rope_scaling", llama3(1));
    refuse("qwen", "x.gguf", "f32", GRAFT_UNSUPPORTED, "llama architecture only");
    /* Bands that nobody uses cannot be told from the divisors. */
    write_model("llama", "bands", GRAFT_TYPE_F32);
    change_config("bands", "rope_scaling", llama3(2));
    convert("bands", "bands.gguf", "f32");
    refuse("bands.gguf", "x", "f32", GRAFT_UNSUPPORTED, "rotary embedding");
    /* A scaling by 1 is none, however it is written. */
    change_config("bands", "rope_scaling",
                  json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor", 1.0,
                            "low_freq_factor", 1.0, "high_freq_factor", 4.0,
                            "original_max_position_embeddings", 64));
    convert("bands", "one.gguf", "f32");
    convert("one.gguf", "one", "f32");
    assert_true(distance("one", "bands") == 0);
}

/* Writes a copy of a GGUF with one more key and without some tensors. */
static void change_gguf(const char *from, const char *to, void (*put)(struct gguf_writer *w),
                        const char *drop)
{
    struct tensor_set set;
    struct gguf_writer w;
    struct file_writer file;
    assert_int_equal(tensor_set_open(&set, NULL, at(from), MAP_COPY, NULL), GRAFT_OK);
    gguf_writer_init(&w, NULL);
    for (size_t i = 0; i < set.gguf->n_values; i++)
        gguf_put_value(&w, &set.gguf->values[i]);
    if (put)
        put(&w);
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < set.gguf->n_tensors; i++) {
            const struct tensor_info *t = &set.gguf->tensors[i];
            struct tensor_decl decl = {.name = t->name, .type = t->type, .n_dims = t->n_dims};
            memcpy(decl.shape, t->shape, sizeof(decl.shape));
            if (drop && strstr(t->name, drop))
                continue;
            if (pass)
                gguf_write_tensor(&file, t->data, t->size, NULL);
            else
                assert_int_equal(gguf_declare(&w, &decl, NULL), GRAFT_OK);
        }
        if (!pass) {
            assert_int_equal(file_writer_open(&file, NULL, at(to), NULL), GRAFT_OK);
            assert_int_equal(gguf_write_head(&w, &file, NULL), GRAFT_OK);
        }
    }
    assert_int_equal(file_writer_commit(&file, NULL), GRAFT_OK);
    gguf_writer_free(&w);
    tensor_set_close(&set);
}

static void put_end_of_turn(struct gguf_writer *w)
{
    gguf_put_u32(w, "tokenizer.ggml.eot_token_id", 9);
}

static void a_config_that_would_be_another_model_is_refused(void **state)
{
    (void)state;
    write_model("llama-bias", "hf", GRAFT_TYPE_F32);
    convert("hf", "all.gguf", "f32");
    change_gguf("all.gguf", "some.gguf", put_end_of_turn, "attn_output.bias");
    refuse("some.gguf", "x", "f32", GRAFT_UNSUPPORTED, "set of biases");
    /* The key that was added is kept, as a second end token. */
    change_gguf("all.gguf", "more.gguf", put_end_of_turn, NULL);
    convert("more.gguf", "more", "f32");
    struct model *m = open_model(&rt, at("more"));
    assert_int_equal(m->config.n_eos, 2);
    assert_int_equal(m->config.eos[1], 9);
    model_close(&m);
}

static void output_places_are_checked(void **state)
{
    (void)state;
    char path[6000];
    graft_error error;
    graft_convert_options options = {.format = GRAFT_FORMAT_HF, .type = "f32"};
    write_model("llama", "hf", GRAFT_TYPE_F32);
    refuse("hf", "hf", "f32", GRAFT_IO, "not an empty directory");
    refuse("hf", "hf/config.json", "f32", GRAFT_IO, "is what is read");
    write_file(test_dir, "plain", "x", 1);
    refuse("hf", "plain", "f32", GRAFT_IO, "not an empty directory");
    refuse("hf", "no/such/folder", "f32", GRAFT_NOT_FOUND, "");
    refuse("hf", "no/such/folder.gguf", "f32", GRAFT_NOT_FOUND, "");
    memset(path, 'x', sizeof(path));
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(model_convert(&rt, at("hf"), path, &options, &error), GRAFT_INVALID_ARGUMENT);
    assert_int_equal(model_convert(&rt, at("hf"), "", &options, &error), GRAFT_INVALID_ARGUMENT);
    mkdir(at("empty"), 0777);
    convert("hf", "empty", "f32");
    assert_same_tensors("hf", "empty");
    char before[PATH_MAX];
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(test_dir), 0);
    assert_int_equal(model_convert(&rt, at("hf"), "relative", &options, &error), GRAFT_OK);
    assert_int_equal(chdir(before), 0);
    assert_same_tensors("hf", "relative");
}

/* ---- cancelling, and lack of memory ------------------------------------------------------- */

struct patience {
    int left;
    uint64_t done, total;
};

static bool count_down(void *user, uint64_t done, uint64_t total, const char *what)
{
    struct patience *p = user;
    assert_true(done >= p->done && done <= total);
    assert_non_null(what);
    p->done = done;
    p->total = total;
    return p->left-- > 0;
}

static void cancelling_leaves_the_old_file_and_nothing_else(void **state)
{
    (void)state;
    write_model("qwen3", "hf", GRAFT_TYPE_F32);
    write_file(test_dir, "old.gguf", "old", 3);
    int files = count_files();
    for (int format = 0; format < 2; format++) {
        graft_status status = GRAFT_CANCELLED;
        for (int n = 0; status == GRAFT_CANCELLED; n += 5) {
            struct patience p = {.left = n};
            graft_convert_options options = {.format = format ? GRAFT_FORMAT_HF : GRAFT_FORMAT_GGUF,
                                             .type = "f32",
                                             .progress = count_down,
                                             .progress_user = &p};
            graft_error error;
            status =
                model_convert(&rt, at("hf"), at(format ? "new" : "old.gguf"), &options, &error);
            assert_true(status == GRAFT_OK || status == GRAFT_CANCELLED);
            if (status == GRAFT_OK) {
                assert_true(p.done == p.total && p.total > 100000);
                break;
            }
            char *text;
            size_t size;
            assert_int_equal(count_files(), files);
            assert_int_equal(file_read(NULL, at("old.gguf"), 1 << 28, &text, &size, NULL),
                             GRAFT_OK);
            assert_true(format || (size == 3 && !memcmp(text, "old", 3)));
            mem_free(NULL, text);
        }
    }
    assert_true(distance("old.gguf", "new") == 0);
}

static const char TOKENIZER[] =
    "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true,"
    "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false}],"
    "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
    "\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,"
    "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,"
    "\"use_regex\":true},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},"
    "\"merges\":[\"a b\"]}}";
static const char TOKENIZER_CONFIG[] =
    "{\"bos_token\":\"<s>\",\"eos_token\":\"<s>\",\"pad_token\":\"<s>\",\"chat_template\":"
    "\"{{ messages[0].content }}\",\"tokenizer_class\":\"GPT2Tokenizer\"}";

static void small_model_with_text(const char *name)
{
    struct oracle_model m;
    json_t *config = oracle_config("llama3");
    json_object_set_new(config, "num_hidden_layers", json_integer(1));
    oracle_model_make(&m, config, 1);
    oracle_write_hf(&m, at(name), GRAFT_TYPE_F32);
    oracle_model_free(&m);
    write_file(at(name), "tokenizer.json", TOKENIZER, strlen(TOKENIZER));
    write_file(at(name), "tokenizer_config.json", TOKENIZER_CONFIG, strlen(TOKENIZER_CONFIG));
}

static void text_goes_with_the_weights(void **state)
{
    (void)state;
    small_model_with_text("hf");
    convert("hf", "m.gguf", "q8_0");
    assert_int_equal(logged[0], '\0');
    convert("m.gguf", "back", "f32");
    convert("hf", "copy", "bf16");
    static const char *const NAMES[] = {"hf", "m.gguf", "back", "copy"};
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        struct model *m = open_model(&rt, at(NAMES[i]));
        struct tokens ids = {0};
        assert_non_null(m->tokenizer);
        assert_int_equal(tokenizer_encode(m->tokenizer, "ab<s>a", 6, TOKENIZE_SPECIAL, &ids, NULL),
                         GRAFT_OK);
        assert_int_equal(ids.count, 3);
        assert_int_equal(ids.ids[0], 2);
        assert_int_equal(ids.ids[1], 3);
        assert_string_equal(tokenizer_chat_template(m->tokenizer), "{{ messages[0].content }}");
        assert_int_equal(tokenizer_eos(m->tokenizer), 3);
        tokens_free(&ids);
        model_close(&m);
    }
    write_model("qwen2", "mute", GRAFT_TYPE_F32);
    convert("mute", "mute.gguf", "f32");
    assert_non_null(strstr(logged, "no tokenizer"));
}

static void every_lack_of_memory_is_reported_and_leaves_nothing(void **state)
{
    (void)state;
    small_model_with_text("hf");
    convert("hf", "m.gguf", "f32");
    int files = count_files();
    static const char *const ROUTES[][3] = {
        {"hf", "x.gguf", "q4_k_m"}, {"m.gguf", "x", "f32"}, {"hf", "x", "bf16"}};
    for (size_t i = 0; i < ARRAY_LEN(ROUTES); i++) {
        struct failing_allocator failing = {.failed = true};
        for (size_t n = 1; failing.failed; n++) {
            struct graft_runtime small;
            graft_error error = {0};
            runtime_start(&small, 1, NULL);
            failing_init(&failing, &small.mem, n);
            failing.ever_after = true;
            graft_status status =
                try_convert(&small, ROUTES[i][0], ROUTES[i][1], ROUTES[i][2], &error);
            if (status != (failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK))
                fail_msg("%s to %s, allocation %zu: %s", ROUTES[i][0], ROUTES[i][1], n,
                         error.message);
            assert_int_equal(count_files(), files + (status == GRAFT_OK));
            assert_int_equal(atomic_load(&small.mem.bytes_in_use), 0);
            pool_close(&small.pool);
        }
        if (path_is_dir(at(ROUTES[i][1])))
            temp_remove(at(ROUTES[i][1]));
        else
            unlink(at(ROUTES[i][1]));
    }
}

/* The JSON library's share: config.json and the files of the tokenizer are whole, or there is no model. (A
 * parser without memory often complains of the text.) */
static void lack_of_memory_in_the_json_library_is_no_success(void **state)
{
    (void)state;
    small_model_with_text("hf");
    convert("hf", "m.gguf", "f32");
    convert("m.gguf", "whole", "f32");
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        graft_error error = {0};
        failing_json_begin(n);
        graft_status status = try_convert(&rt, "m.gguf", "x", "f32", &error);
        failed = failing_json_end();
        if ((status != GRAFT_OK) != failed)
            fail_msg("allocation %zu: %s", n, error.message);
        assert_int_equal(path_exists(at("x")), !failed);
    }
    assert_same_files("x/config.json", "whole/config.json");
    assert_same_files("x/tokenizer.json", "whole/tokenizer.json");
}

static void a_name_comes_from_the_path(void **state)
{
    (void)state;
    static const char CACHE[] = "models--acme--Tiny-1/snapshots/0123";
    mkdir(at("models--acme--Tiny-1"), 0777);
    mkdir(at("models--acme--Tiny-1/snapshots"), 0777);
    write_model("qwen2", CACHE, GRAFT_TYPE_F32);
    convert(CACHE, "m.gguf", "f32");
    struct tensor_set set;
    const char *name;
    size_t length;
    assert_int_equal(tensor_set_open(&set, NULL, at("m.gguf"), MAP_COPY, NULL), GRAFT_OK);
    assert_int_equal(gguf_get_string(set.gguf, "general.name", &name, &length, NULL), GRAFT_OK);
    assert_int_equal(length, 6);
    assert_memory_equal(name, "Tiny-1", 6);
    tensor_set_close(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(f32_goes_to_gguf_and_back_unchanged),
        TEST(mistral_is_mistral_again),
        TEST(windows_in_some_layers_survive),
        TEST(half_precision_is_rounded_once),
        TEST(mlx_becomes_plain),
        TEST(classifiers_stay_classifiers),
        TEST(a_safetensors_file_stands_for_its_directory),
        TEST(unknown_types_are_refused_with_the_known_ones),
        TEST(values_that_a_type_cannot_hold_are_named),
        TEST(what_a_container_cannot_say_is_refused),
        TEST(a_config_that_would_be_another_model_is_refused),
        TEST(output_places_are_checked),
        TEST(cancelling_leaves_the_old_file_and_nothing_else),
        TEST(text_goes_with_the_weights),
        TEST(every_lack_of_memory_is_reported_and_leaves_nothing),
        TEST(lack_of_memory_in_the_json_library_is_no_success),
        TEST(a_name_comes_from_the_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
