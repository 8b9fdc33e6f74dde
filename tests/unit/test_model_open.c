/* test_model_open.c: what opens, what is refused and by which words, what it costs, and where models named
 * "org/name" are looked for.
 */
#include "conformance/conformance_support.h"
#include "conformance/oracle_model.h"
#include "unit/failing_allocator.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static struct graft_runtime rt;

static int setup(void **state)
{
    runtime_start(&rt, 1, NULL);
    return test_dir_open(state);
}

static int teardown(void **state)
{
    runtime_stop(&rt);
    return test_dir_close(state);
}

/* A small model of one layer. */
static void make(struct oracle_model *m, const char *arch)
{
    json_t *config = oracle_config(arch);
    json_object_set_new(config, "num_hidden_layers", json_integer(1));
    oracle_model_make(m, config, 1);
}

static void write_and_free(struct oracle_model *m, const char *name)
{
    oracle_write_hf(m, at(name), GRAFT_TYPE_F32);
    oracle_model_free(m);
}

static void refuse(const char *name, graft_status status, const char *words, graft_error *error)
{
    struct model *model = NULL;
    *error = (graft_error){0};
    graft_status found = model_open(&rt, at(name), NULL, &model, error);
    if (found != status || !strstr(error->message, words))
        fail_msg("%s: status %d, \"%s\"; expected %d and \"%s\"", name, (int)found, error->message,
                 (int)status, words);
    assert_null(model);
}

/* Replaces the first `old` in a file by `new`, of the same length. */
static void patch(const char *path, const char *old, const char *new)
{
    char *bytes = NULL, file[1100];
    size_t size = 0, n = strlen(old);
    assert_int_equal(n, strlen(new));
    snprintf(file, sizeof(file), "%s", path);
    assert_int_equal(file_read(NULL, file, 1 << 28, &bytes, &size, NULL), GRAFT_OK);
    char *place = memmem(bytes, size, old, n);
    assert_non_null(place);
    memcpy(place, new, n);
    FILE *out = fopen(file, "wb");
    assert_int_equal(fwrite(bytes, 1, size, out), size);
    fclose(out);
    mem_free(NULL, bytes);
}

/* ---- memory ------------------------------------------------------------------------------- */

static void check_every_failure(const char *path)
{
    struct failing_allocator failing = {.failed = true};
    size_t n_failed = 0;
    for (; failing.failed; n_failed++) {
        struct graft_runtime scarce = {.kernels = rt.kernels, .pool = rt.pool, .pid = rt.pid};
        failing_init(&failing, &scarce.mem, n_failed + 1);
        failing.ever_after = true;
        struct model *model = NULL;
        graft_error error = {0};
        graft_status status = model_open(&scarce, path, NULL, &model, &error);
        if (status != (failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK))
            fail_msg("allocation %zu: %s", n_failed + 1, error.message);
        model_close(&model);
        assert_int_equal(atomic_load(&scarce.mem.bytes_in_use), 0);
    }
    assert_true(n_failed > 10);
}

/* ---- tensors ------------------------------------------------------------------------------ */

static void a_missing_tensor_is_named(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"model.embed_tokens.weight",
                                        "model.norm.weight",
                                        "lm_head.weight",
                                        "model.layers.0.input_layernorm.weight",
                                        "model.layers.0.self_attn.k_proj.weight",
                                        "model.layers.0.mlp.down_proj.weight"};
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        struct oracle_model m;
        graft_error error;
        make(&m, "llama");
        oracle_find(&m, NAMES[i])->name[0] = 'x';
        write_and_free(&m, "missing");
        refuse("missing", GRAFT_FORMAT, NAMES[i], &error);
        assert_string_equal(error.tensor, NAMES[i]);
        assert_non_null(strstr(error.file, "missing"));
    }
    struct oracle_model m;
    graft_error error;
    make(&m, "qwen2");
    oracle_find(&m, "model.layers.0.self_attn.v_proj.bias")->name[0] = 'x';
    write_and_free(&m, "missing");
    refuse("missing", GRAFT_FORMAT, "v_proj.bias", &error);
    make(&m, "qwen3");
    oracle_find(&m, "model.layers.0.self_attn.q_norm.weight")->name[0] = 'x';
    write_and_free(&m, "missing");
    refuse("missing", GRAFT_FORMAT, "q_norm", &error);
}

static void a_tensor_that_nobody_asked_for_is_named(void **state)
{
    (void)state;
    struct oracle_model m;
    graft_error error;
    make(&m, "llama-bias"); /* biases are there, the configuration says they are not */
    json_object_del(m.config, "attention_bias");
    write_and_free(&m, "leftover");
    refuse("leftover", GRAFT_UNSUPPORTED, "q_proj.bias (and 3 more)", &error);
    assert_string_equal(error.tensor, "model.layers.0.self_attn.q_proj.bias");
    assert_non_null(strstr(error.file, "model.safetensors"));
}

static void copies_and_buffers_that_change_nothing_are_passed_over(void **state)
{
    (void)state;
    struct oracle_model m;
    make(&m, "llama-linear"); /* tied */
    struct oracle_tensor *t = &m.tensors[m.n_tensors++], *u = &m.tensors[m.n_tensors++];
    snprintf(t->name, sizeof(t->name), "lm_head.weight");
    snprintf(u->name, sizeof(u->name), "model.layers.0.self_attn.rotary_emb.inv_freq");
    t->n_dims = u->n_dims = 1;
    t->count = u->count = 2;
    t->shape[0] = u->shape[0] = 2;
    t->values = calloc(2, sizeof(float));
    u->values = calloc(2, sizeof(float));
    write_and_free(&m, "harmless");
    struct model *model = open_model(&rt, at("harmless"));
    assert_ptr_equal(model->head.data, model->embed.data);
    model_close(&model);
    model_close(&model);
}

static void a_wrong_shape_comes_with_both_shapes_tensor_and_file(void **state)
{
    (void)state;
    struct oracle_model m;
    graft_error error;
    make(&m, "llama");
    struct oracle_tensor *t = oracle_find(&m, "model.layers.0.self_attn.o_proj.weight");
    t->shape[0] = 48;
    t->shape[1] = 192;
    write_and_free(&m, "shape");
    refuse("shape", GRAFT_SHAPE, "[48, 192], expected [96, 96]", &error);
    assert_int_equal(error.expected_dims, 2);
    assert_int_equal(error.found_dims, 2);
    assert_int_equal(error.expected[1], 96);
    assert_int_equal(error.found[1], 192);
    assert_string_equal(error.tensor, "model.layers.0.self_attn.o_proj.weight");
    assert_non_null(strstr(error.file, "model.safetensors"));
    make(&m, "llama");
    t = oracle_find(&m, "model.norm.weight");
    t->n_dims = 2;
    t->shape[1] = 1;
    write_and_free(&m, "shape");
    refuse("shape", GRAFT_SHAPE, "[96, 1], expected [96]", &error);
    make(&m, "qwen2-cls");
    json_object_del(m.config, "id2label"); /* two labels then */
    write_and_free(&m, "shape");
    refuse("shape", GRAFT_SHAPE, "score.weight is [3, 96], expected [2, 96]", &error);
}

static void types_that_graft_does_not_compute_with_are_named(void **state)
{
    (void)state;
    struct oracle_model m;
    graft_error error;
    make(&m, "llama");
    write_and_free(&m, "type");
    patch(at("type/model.safetensors"), "model.norm.weight\":{\"dtype\":\"F32\"",
          "model.norm.weight\":{\"dtype\":\"I32\"");
    refuse("type", GRAFT_UNSUPPORTED, "model.norm.weight is of type I32", &error);
    patch(at("type/model.safetensors"), "model.norm.weight\":{\"dtype\":\"I32\"",
          "model.norm.weight\":{\"dtype\":\"F32\"");
    patch(at("type/model.safetensors"), "lm_head.weight\":{\"dtype\":\"F32\"",
          "lm_head.weight\":{\"dtype\":\"U32\"");
    refuse("type", GRAFT_UNSUPPORTED, "lm_head.weight is of type U32", &error);
}

static void a_huge_configuration_costs_nothing(void **state)
{
    (void)state;
    struct oracle_model m;
    graft_error error;
    make(&m, "llama");
    json_object_set_new(m.config, "num_hidden_layers", json_integer(4096));
    json_object_set_new(m.config, "max_position_embeddings", json_integer(1 << 30));
    write_and_free(&m, "huge");
    refuse("huge", GRAFT_FORMAT, "model.layers.1.input_layernorm.weight", &error);
}

/* ---- MLX ---------------------------------------------------------------------------------- */

static void mlx_tensors_have_to_agree_with_the_configuration(void **state)
{
    (void)state;
    static const struct oracle_mlx HOW = {4, 32, GRAFT_TYPE_F16, NULL, NULL};
    static const struct {
        const char *file, *old, *new, *words;
        graft_status status;
    } CASES[] = {
        {"config.json", "\"bits\": 4", "\"bits\": 8", "expected [331, 32]", GRAFT_SHAPE},
        {"config.json", "\"group_size\": 32", "\"group_size\": 64", "scales", GRAFT_SHAPE},
        {"model.safetensors", "lm_head.scales", "lm_head.SCALES", "lm_head.scales is missing",
         GRAFT_FORMAT},
        {"model.safetensors", "lm_head.biases\":{\"dtype\":\"F16\"",
         "lm_head.biases\":{\"dtype\":\"I16\"", "type I16", GRAFT_UNSUPPORTED},
        {"model.safetensors", "lm_head.biases\":{\"dtype\":\"F16\"",
         "lm_head.biases\":{\"dtype\":\"BF6\"", "", GRAFT_UNSUPPORTED},
    };
    for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
        struct oracle_model m;
        char path[1100];
        make(&m, "llama");
        json_object_set_new(m.config, "intermediate_size", json_integer(192));
        json_object_set_new(m.config, "hidden_size", json_integer(128));
        json_object_set_new(m.config, "num_attention_heads", json_integer(4));
        json_t *config = m.config;
        m.config = NULL;
        oracle_model_free(&m);
        oracle_model_make(&m, config, 1);
        oracle_write_mlx(&m, at("mlx"), &HOW);
        oracle_model_free(&m);
        snprintf(path, sizeof(path), "%s/%s", at("mlx"), CASES[i].file);
        patch(path, CASES[i].old, CASES[i].new);
        graft_error error = {0};
        struct model *model = NULL;
        graft_status status = model_open(&rt, at("mlx"), NULL, &model, &error);
        if (i == ARRAY_LEN(CASES) - 1)
            assert_int_not_equal(status, GRAFT_OK);
        else if (status != CASES[i].status || !strstr(error.message, CASES[i].words))
            fail_msg("case %zu: status %d, %s", i, (int)status, error.message);
        assert_null(model);
    }
}

static void mlx_words_of_a_module_that_is_said_to_be_plain_are_refused(void **state)
{
    (void)state;
    static const struct oracle_mlx HOW = {4, 32, GRAFT_TYPE_F16, NULL, NULL};
    struct oracle_model m;
    graft_error error;
    json_t *config = oracle_config_wide("llama");
    json_object_set_new(config, "num_hidden_layers", json_integer(1));
    oracle_model_make(&m, config, 1);
    oracle_write_mlx(&m, at("plain"), &HOW);
    json_object_set_new(m.config, "quantization",
                        json_pack("{s:i, s:i, s:b}", "bits", 4, "group_size", 32, "lm_head", 0));
    char *text = json_dumps(m.config, 0);
    write_file(at("plain"), "config.json", text, strlen(text));
    free(text);
    refuse("plain", GRAFT_FORMAT, "lm_head is quantised", &error);
    json_object_set_new(m.config, "hidden_size", json_integer(80));
    json_object_set_new(m.config, "quantization",
                        json_pack("{s:i, s:i}", "bits", 4, "group_size", 32));
    text = json_dumps(m.config, 0);
    write_file(at("plain"), "config.json", text, strlen(text));
    free(text);
    refuse("plain", GRAFT_FORMAT, "no multiple of the group", &error);
    oracle_model_free(&m);
}

/* ---- GGUF --------------------------------------------------------------------------------- */

static void rope_divisors_of_a_gguf_are_checked(void **state)
{
    (void)state;
    struct oracle_model m;
    graft_error error;
    make(&m, "llama3");
    oracle_write_gguf(&m, at("rope.gguf"), GRAFT_TYPE_F32);
    oracle_model_free(&m);
    struct model *model = open_model(&rt, at("rope.gguf"));
    assert_true(model->config.rope.interleaved);
    assert_true(model->rope_freq[0] == 1.0f); /* short wavelengths stay */
    assert_true(fabs((double)model->rope_freq[7] * pow(10000, 14.0 / 16) * 8 - 1) < 1e-6);
    model_close(&model);
    /* the last divisor, 8.0f, becomes 0 */
    char *bytes = NULL;
    size_t size = 0;
    assert_int_equal(file_read(NULL, at("rope.gguf"), 1 << 28, &bytes, &size, NULL), GRAFT_OK);
    memset(bytes + size - 4, 0, 4);
    write_file(test_dir, "rope.gguf", bytes, size);
    mem_free(NULL, bytes);
    refuse("rope.gguf", GRAFT_FORMAT, "divisor 7 is 0", &error);
    assert_string_equal(error.tensor, "rope_freqs.weight");
}

static long rss_anon_kib(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long kib = -1;
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "RssAnon: %ld", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib;
}

static void a_mapped_gguf_costs_little_private_memory(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("skipped: sanitizers keep shadow memory\n");
    skip();
#endif
    json_t *config = oracle_config("qwen2");
    json_object_set_new(config, "hidden_size", json_integer(768));
    json_object_set_new(config, "intermediate_size", json_integer(2048));
    struct oracle_model m;
    oracle_model_make(&m, config, 1);
    oracle_write_gguf(&m, at("large.gguf"), GRAFT_TYPE_F32);
    oracle_model_free(&m);
    struct stat st;
    assert_int_equal(stat(at("large.gguf"), &st), 0);
    assert_true(st.st_size > 64 << 20);
    long before = rss_anon_kib();
    if (before < 0)
        skip();
    struct model *model = open_model(&rt, at("large.gguf"));
    long added = rss_anon_kib() - before;
    model_close(&model);
    print_message("%ld KiB for a file of %ld KiB\n", added, (long)(st.st_size >> 10));
    assert_true(added < (long)(st.st_size >> 10) / 20);
    const struct model_options copy = {.map = MAP_COPY};
    before = rss_anon_kib();
    assert_int_equal(model_open(&rt, at("large.gguf"), &copy, &model, NULL), GRAFT_OK);
    assert_true(rss_anon_kib() - before > (long)(st.st_size >> 10) * 9 / 10); /* it would show */
    model_close(&model);
}

/* ---- beside the weights ------------------------------------------------------------------- */

static void paths_without_a_model_are_refused(void **state)
{
    (void)state;
    graft_error error;
    refuse("nothing", GRAFT_NOT_FOUND, "", &error);
    struct oracle_model m;
    make(&m, "llama");
    write_and_free(&m, "headless");
    unlink(at("headless/config.json"));
    struct model *model = NULL;
    assert_int_not_equal(model_open(&rt, at("headless"), NULL, &model, &error), GRAFT_OK);
    assert_non_null(strstr(error.file, "config.json"));
    write_file(at("headless"), "config.json", "{", 1);
    refuse("headless", GRAFT_FORMAT, "", &error);
    assert_non_null(strstr(error.file, "config.json"));
}

static void a_weights_file_finds_its_configuration_beside_it(void **state)
{
    (void)state;
    struct oracle_model m;
    make(&m, "llama");
    write_and_free(&m, "beside");
    struct model *model = open_model(&rt, at("beside/model.safetensors"));
    assert_int_equal(model->config.n_vocab, 331);
    assert_null(model->tokenizer);
    model_close(&model);
}

static void a_tokenizer_is_optional_unless_text_is_needed(void **state)
{
    (void)state;
    struct oracle_model m;
    graft_error error = {0};
    struct model *model = NULL;
    const struct model_options options = {.need_tokenizer = true};
    make(&m, "llama");
    write_and_free(&m, "mute");
    assert_int_equal(model_open(&rt, at("mute"), &options, &model, &error), GRAFT_NOT_FOUND);
    assert_non_null(strstr(error.file, "mute"));
    write_file(at("mute"), "tokenizer.json", "{]", 2);
    assert_int_equal(model_open(&rt, at("mute"), NULL, &model, &error), GRAFT_FORMAT);
    assert_null(model);
}

struct heard {
    int lines;
    char last[512];
};

static void hear(void *user, graft_log_level level, const char *line)
{
    struct heard *heard = user;
    assert_int_equal(level, GRAFT_LOG_WARN);
    snprintf(heard->last, sizeof(heard->last), "%s", line);
    heard->lines++;
}

/* A small llama (vocabulary 331) whose config.json has these members too. */
static void with_ids(const char *name, const char *member)
{
    struct oracle_model m;
    json_t *extra = json_loads(member, 0, NULL);
    assert_non_null(extra);
    make(&m, "llama");
    json_object_update(m.config, extra);
    json_decref(extra);
    write_and_free(&m, name);
}

static void ids_beyond_the_vocabulary_are_refused_but_for_padding(void **state)
{
    (void)state;
    graft_error error;
    with_ids("ids", "{\"bos_token_id\": 331}");
    refuse("ids", GRAFT_FORMAT, "bos_token_id is 331, and the vocabulary has 331", &error);
    assert_non_null(strstr(error.file, "ids"));
    with_ids("ids", "{\"eos_token_id\": [2, 400]}");
    refuse("ids", GRAFT_FORMAT, "eos_token_id is 400", &error);
    with_ids("ids", "{\"eos_token_id\": 330}");
    write_file(at("ids"), "generation_config.json", "{\"eos_token_id\": 331}", 21);
    refuse("ids", GRAFT_FORMAT, "eos_token_id is 331", &error);
    unlink(at("ids/generation_config.json"));

    struct heard heard = {0};
    rt.log = hear;
    rt.log_user = &heard;
    struct model *model = open_model(&rt, at("ids"));
    assert_int_equal(model->config.eos[0], 330); /* the last row */
    assert_int_equal(model->config.pad, 0);
    assert_int_equal(heard.lines, 0);
    model_close(&model);
    with_ids("ids", "{\"pad_token_id\": 331}");
    model = open_model(&rt, at("ids"));
    assert_int_equal(model->config.pad, -1);
    assert_int_equal(heard.lines, 1);
    assert_non_null(strstr(heard.last, "pad_token_id is 331"));
    model_close(&model);
    rt.log = NULL;
}

static void a_broken_chat_template_costs_the_template_not_the_model(void **state)
{
    (void)state;
    static const char TOKENIZER[] =
        "{\"version\": \"1.0\", \"added_tokens\": [], \"normalizer\": null,"
        "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false,"
        "\"trim_offsets\": true, \"use_regex\": true}, \"post_processor\": null,"
        "\"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\","
        "\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]}}";
    static const char *const CONFIGS[2] = {"{\"chat_template\": \"{% for x in %}\"}",
                                           "{\"chat_template\": \"{{ messages[0].content }}\"}"};
    struct oracle_model m;
    struct heard heard = {0};
    make(&m, "llama");
    write_and_free(&m, "chat");
    write_file(at("chat"), "tokenizer.json", TOKENIZER, sizeof(TOKENIZER) - 1);
    rt.log = hear;
    rt.log_user = &heard;
    for (int i = 0; i < 2; i++) {
        write_file(at("chat"), "tokenizer_config.json", CONFIGS[i], strlen(CONFIGS[i]));
        struct model *model = open_model(&rt, at("chat"));
        assert_non_null(model->tokenizer);
        assert_int_equal(model->chat != NULL, i);
        assert_int_equal(heard.lines, 1);
        model_close(&model);
    }
    assert_non_null(strstr(heard.last, "chat template"));
    rt.log = NULL;
    check_every_failure(at("chat"));
}

static void generation_defaults_are_read(void **state)
{
    (void)state;
    struct oracle_model m;
    graft_error error;
    make(&m, "llama");
    write_and_free(&m, "sampling");
    struct model *model = open_model(&rt, at("sampling"));
    assert_true(model->generation.temperature < 0 && model->generation.top_k < 0);
    assert_false(model->generation.do_sample_given);
    assert_int_equal(model->config.n_eos, 1);
    model_close(&model);
    static const char GOOD[] =
        "{\"temperature\": 0.7, \"top_p\": 0.8, \"top_k\": 20, \"min_p\": 0.05,"
        "\"repetition_penalty\": 1.05, \"do_sample\": false, \"eos_token_id\": [2, 9, 9]}";
    write_file(at("sampling"), "generation_config.json", GOOD, sizeof(GOOD) - 1);
    model = open_model(&rt, at("sampling"));
    assert_true(model->generation.temperature == 0.7);
    assert_true(model->generation.top_p == 0.8);
    assert_true(model->generation.min_p == 0.05);
    assert_true(model->generation.repetition_penalty == 1.05);
    assert_int_equal(model->generation.top_k, 20);
    assert_true(model->generation.do_sample_given && !model->generation.do_sample);
    assert_int_equal(model->config.n_eos, 2);
    assert_int_equal(model->config.eos[1], 9);
    model_close(&model);
    static const char *const BAD[] = {
        "{\"temperature\": \"hot\"}",
        "{\"top_k\": 1.5}",
        "{\"eos_token_id\": -2}",
        "[]",
        "{\"do_sample\": 1}",
        "{\"eos_token_id\": [1,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18]}"};
    for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
        write_file(at("sampling"), "generation_config.json", BAD[i], strlen(BAD[i]));
        refuse("sampling", GRAFT_FORMAT, "", &error);
        assert_non_null(strstr(error.file, "generation_config.json"));
    }
    write_file(at("sampling"), "generation_config.json", "{\"eos_token_id\": 5}", 19);
    model = open_model(&rt, at("sampling"));
    assert_int_equal(model->config.n_eos, 2);
    model_close(&model);
}

/* ---- names -------------------------------------------------------------------------------- */

static void check_resolved(const char *name, const char *want)
{
    graft_error error = {0};
    char *path = NULL;
    if (model_resolve(NULL, name, &path, &error) != GRAFT_OK)
        fail_msg("%s: %s", name, error.message);
    assert_string_equal(path, want);
    mem_free(NULL, path);
}

static void check_unknown(const char *name, const char *words)
{
    graft_error error = {0};
    char *path = NULL;
    assert_int_equal(model_resolve(NULL, name, &path, &error), GRAFT_NOT_FOUND);
    if (!strstr(error.message, words))
        fail_msg("%s: \"%s\" lacks \"%s\"", name, error.message, words);
    assert_null(path);
}

static void names_are_looked_up_in_the_local_cache(void **state)
{
    (void)state;
    static const char *const FOLDERS[] = {"home",
                                          "home/hub",
                                          "home/hub/models--some-org--a.model",
                                          "home/hub/models--some-org--a.model/refs",
                                          "home/hub/models--some-org--a.model/snapshots",
                                          "home/hub/models--some-org--a.model/snapshots/abc123",
                                          "home/hub/models--some-org--stale",
                                          "home/hub/models--some-org--stale/refs"};
    for (size_t i = 0; i < ARRAY_LEN(FOLDERS); i++)
        assert_int_equal(mkdir(at(FOLDERS[i]), 0777), 0);
    write_file(at("home/hub/models--some-org--a.model/refs"), "main", "abc123\n", 7);
    write_file(at("home/hub/models--some-org--stale/refs"), "main", "../../etc", 9);
    unsetenv("HF_HUB_CACHE");
    unsetenv("HUGGINGFACE_HUB_CACHE");
    unsetenv("XDG_CACHE_HOME");
    setenv("HF_HOME", at("home"), 1);
    char want[1100];
    snprintf(want, sizeof(want), "%s", at("home/hub/models--some-org--a.model/snapshots/abc123"));
    check_resolved("some-org/a.model", want);
    check_resolved(test_dir, test_dir);
    check_unknown("some-org/other", "hf download some-org/other");
    check_unknown("some-org/stale", "hf download some-org/stale");
    check_unknown("./some/model.gguf", "no such file");
    check_unknown("nothing", "no such file");
    check_unknown("../x", "no such file");
    check_unknown("a/b c", "no such file");

    unsetenv("HF_HOME");
    setenv("HUGGINGFACE_HUB_CACHE", at("home/hub"), 1);
    check_resolved("some-org/a.model", want);
    unsetenv("HUGGINGFACE_HUB_CACHE");
    setenv("HF_HUB_CACHE", at("home/hub"), 1);
    check_resolved("some-org/a.model", want);
    setenv("HUGGINGFACE_HUB_CACHE", at("elsewhere"), 1); /* the older name counts less */
    check_resolved("some-org/a.model", want);
    unsetenv("HF_HUB_CACHE");
    unsetenv("HUGGINGFACE_HUB_CACHE");
    setenv("HOME", at("elsewhere"), 1);
    check_unknown("some-org/a.model", "elsewhere/.cache/huggingface/hub");
    setenv("XDG_CACHE_HOME", at("elsewhere"), 1);
    check_unknown("some-org/a.model", "elsewhere/huggingface/hub");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    check_unknown("some-org/a.model", "hf download");
}

static void running_out_of_memory_while_opening_leaves_nothing_behind(void **state)
{
    (void)state;
    struct oracle_model m;
    make(&m, "qwen2");
    oracle_write_gguf(&m, at("scarce.gguf"), GRAFT_TYPE_Q8_0);
    write_and_free(&m, "scarce");
    write_file(at("scarce"), "generation_config.json", "{\"top_k\": 5}", 12);
    check_every_failure(at("scarce"));
    check_every_failure(at("scarce.gguf"));
    struct failing_allocator failing = {.failed = true};
    for (size_t n = 1; failing.failed; n++) {
        struct mem mem;
        failing_init(&failing, &mem, n);
        char *path = NULL;
        setenv("HF_HOME", at("home"), 1);
        graft_status status = model_resolve(&mem, "some-org/a.model", &path, NULL);
        assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
        mem_free(&mem, path);
        assert_int_equal(atomic_load(&mem.bytes_in_use), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_tensor_is_named),
        cmocka_unit_test(a_tensor_that_nobody_asked_for_is_named),
        cmocka_unit_test(copies_and_buffers_that_change_nothing_are_passed_over),
        cmocka_unit_test(a_wrong_shape_comes_with_both_shapes_tensor_and_file),
        cmocka_unit_test(types_that_graft_does_not_compute_with_are_named),
        cmocka_unit_test(a_huge_configuration_costs_nothing),
        cmocka_unit_test(mlx_tensors_have_to_agree_with_the_configuration),
        cmocka_unit_test(mlx_words_of_a_module_that_is_said_to_be_plain_are_refused),
        cmocka_unit_test(rope_divisors_of_a_gguf_are_checked),
        cmocka_unit_test(a_mapped_gguf_costs_little_private_memory),
        cmocka_unit_test(paths_without_a_model_are_refused),
        cmocka_unit_test(a_weights_file_finds_its_configuration_beside_it),
        cmocka_unit_test(a_tokenizer_is_optional_unless_text_is_needed),
        cmocka_unit_test(ids_beyond_the_vocabulary_are_refused_but_for_padding),
        cmocka_unit_test(a_broken_chat_template_costs_the_template_not_the_model),
        cmocka_unit_test(generation_defaults_are_read),
        cmocka_unit_test(names_are_looked_up_in_the_local_cache),
        cmocka_unit_test(running_out_of_memory_while_opening_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
