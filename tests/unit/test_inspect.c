/* test_inspect.c: the JSON description has what docs/inspect.md promises, for everything that a container
 * can hold.
 */
#include "conformance/conformance_support.h"
#include "conformance/oracle_model.h"
#include "model/inspect/inspect.h"
#include "unit/failing_allocator.h"

#include <sys/stat.h>

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

static json_t *inspect_path(const char *path)
{
    char *text = NULL;
    graft_error error = {0};
    json_t *json = NULL;
    if (model_inspect(&rt, path, &text, &error) != GRAFT_OK)
        fail_msg("%s: %s", path, error.message);
    assert_int_equal(json_parse(text, strlen(text), &json, &error), GRAFT_OK);
    mem_free(&rt.mem, text);
    return json;
}

static json_t *inspect(const char *name)
{
    return inspect_path(at(name));
}

static const char *text_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));
    if (!text)
        fail_msg("no text at \"%s\"", key);
    return text;
}

static long long int_of(const json_t *json, const char *key)
{
    const json_t *value = json_object_get(json, key);
    if (!json_is_integer(value))
        fail_msg("no integer at \"%s\"", key);
    return json_integer_value(value);
}

/* Totals of what is packed are those of the tensors. */
static void check_packed(const json_t *json, bool supported)
{
    const json_t *packed = json_object_get(json, "packed");
    long long n = 0, from = 0, bytes = 0;
    size_t i;
    json_t *item;
    assert_true(supported == json_is_object(packed));
    json_array_foreach(json_object_get(json, "tensors"), i, item)
    {
        if (json_object_get(item, "packed_bytes")) {
            n++;
            from += int_of(item, "bytes");
            bytes += int_of(item, "packed_bytes");
        }
    }
    if (supported) {
        assert_string_equal(text_of(packed, "tier"), rt.kernels->tier);
        assert_int_equal(int_of(packed, "tensors"), n);
        assert_int_equal(int_of(packed, "from_bytes"), from);
        assert_int_equal(int_of(packed, "bytes"), bytes);
    }
}

/* The keys that every description has. */
static void check_schema(const json_t *json)
{
    text_of(json, "path");
    text_of(json, "format");
    text_of(json, "kind");
    bool supported = json_is_true(json_object_get(json, "supported"));
    assert_true(json_is_boolean(json_object_get(json, "supported")));
    assert_true(supported == json_is_object(json_object_get(json, "config")));
    assert_true(supported == !json_is_string(json_object_get(json, "reason")));
    int_of(json, "parameters");
    assert_true(json_is_object(json_object_get(json, "metadata")));
    const json_t *tokenizer = json_object_get(json, "tokenizer");
    assert_true(json_is_null(tokenizer) || json_is_object(tokenizer));
    assert_non_null(json_object_get(json, "chat_template"));
    size_t i, n = (size_t)int_of(json, "n_tensors");
    json_t *item;
    long long bytes = 0, count = 0, each = 0;
    assert_int_equal(json_array_size(json_object_get(json, "tensors")), n);
    json_array_foreach(json_object_get(json, "tensors"), i, item)
    {
        text_of(item, "name");
        text_of(item, "type");
        text_of(item, "file");
        assert_true(json_is_array(json_object_get(item, "shape")));
        each += int_of(item, "bytes");
    }
    json_array_foreach(json_object_get(json, "types"), i, item)
    {
        text_of(item, "type");
        bytes += int_of(item, "bytes");
        count += int_of(item, "tensors");
    }
    check_packed(json, supported);
    assert_int_equal(bytes, int_of(json, "bytes"));
    assert_int_equal(each, bytes);
    assert_int_equal(count, n);
}

static const json_t *tensor_named(const json_t *json, const char *name)
{
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(json, "tensors"), i, item)
    {
        if (!strcmp(text_of(item, "name"), name))
            return item;
    }
    fail_msg("no tensor %s", name);
    return NULL;
}

/* ---- models ------------------------------------------------------------------------------- */

/* An untied model of two layers: what is packed are its linears and its head, and not the embedding. */
static void what_open_packs_is_reported(void **state)
{
    (void)state;
    struct oracle_model m;
    json_t *config = oracle_config_wide("llama");
    json_object_set_new(config, "num_hidden_layers", json_integer(2));
    json_object_set_new(config, "tie_word_embeddings", json_false());
    oracle_model_make(&m, config, 1);
    oracle_write_gguf(&m, at("packed.gguf"), GRAFT_TYPE_Q8_0);
    oracle_model_free(&m);
    json_t *json = inspect("packed.gguf");
    check_schema(json);
    const bool splits = rt.kernels->splits[GRAFT_TYPE_Q8_0];
    assert_int_equal(int_of(json_object_get(json, "packed"), "tensors"), 15);
    assert_null(json_object_get(tensor_named(json, "token_embd.weight"), "packed_bytes"));
    const json_t *query = tensor_named(json, "blk.1.attn_q.weight"); /* of rows of 256 values */
    const int row = splits ? 64 + 256 : 8 * 34; /* a line of factors and 256 codes; as they lie */
    assert_int_equal(int_of(query, "packed_bytes"), 256 * row);
    assert_int_equal(int_of(query, "bytes"), 256 * 8 * 34);
    json_decref(json);
}

static void a_directory_is_described(void **state)
{
    (void)state;
    struct oracle_model m;
    size_t values = 0;
    oracle_model_make(&m, oracle_config("mistral"), 1);
    oracle_write_hf(&m, at("hf"), GRAFT_TYPE_BF16);
    for (size_t i = 0; i < m.n_tensors; i++)
        values += m.tensors[i].count;
    oracle_model_free(&m);
    json_t *json = inspect("hf");
    check_schema(json);
    assert_string_equal(text_of(json, "format"), "safetensors");
    assert_string_equal(text_of(json, "kind"), "model");
    assert_string_equal(text_of(json, "architecture"), "MistralForCausalLM");
    assert_int_equal(int_of(json, "parameters"), values);
    assert_int_equal(int_of(json, "bytes"), 2 * values);
    const json_t *config = json_object_get(json, "config");
    assert_int_equal(int_of(config, "n_layer"), 3);
    assert_int_equal(int_of(config, "d_model"), 96);
    assert_int_equal(int_of(config, "n_kv"), 2);
    assert_int_equal(int_of(config, "sliding_window"), 5);
    assert_int_equal(int_of(config, "sliding_layers"), 3);
    assert_string_equal(text_of(config, "rope_scaling"), "default");
    assert_string_equal(text_of(json_object_get(json, "metadata"), "format"), "pt");
    const json_t *up = tensor_named(json, "model.layers.1.mlp.up_proj.weight");
    assert_int_equal(json_integer_value(json_array_get(json_object_get(up, "shape"), 0)), 208);
    assert_string_equal(text_of(up, "type"), "BF16");
    assert_string_equal(text_of(up, "file"), "model.safetensors");
    assert_true(json_is_null(json_object_get(json, "tokenizer")));
    json_decref(json);
}

static void a_classifier_is_described(void **state)
{
    (void)state;
    struct oracle_model m;
    oracle_model_make(&m, oracle_config("qwen2-cls"), 1);
    oracle_write_hf(&m, at("hf"), GRAFT_TYPE_F32);
    oracle_model_free(&m);
    json_t *json = inspect("hf");
    check_schema(json);
    assert_string_equal(text_of(json, "kind"), "classifier");
    assert_int_equal(int_of(json_object_get(json, "config"), "n_labels"), 3);
    json_decref(json);
}

/* Packed words count as what they hold, whatever each module's bits are. */
static void mlx_is_described(void **state)
{
    (void)state;
    struct oracle_model m;
    size_t values = 0;
    oracle_model_make(&m, oracle_config_wide("qwen2"), 1);
    for (size_t i = 0; i < m.n_tensors; i++)
        values += m.tensors[i].count;
    oracle_write_mlx(&m, at("mlx"),
                     &(struct oracle_mlx){.bits = 4,
                                          .group = 64,
                                          .scale_type = GRAFT_TYPE_F16,
                                          .wide = "model.layers.2.self_attn.v_proj"});
    oracle_model_free(&m);
    json_t *json = inspect("mlx");
    check_schema(json);
    assert_string_equal(text_of(json, "format"), "mlx");
    assert_int_equal(int_of(json, "parameters"), values);
    const json_t *mlx = json_object_get(json_object_get(json, "config"), "mlx_quantization");
    assert_int_equal(int_of(mlx, "bits"), 4);
    assert_int_equal(int_of(mlx, "group_size"), 64);
    json_decref(json);
}

static void a_gguf_is_described(void **state)
{
    (void)state;
    struct oracle_model m;
    static const char *const ARCHS[] = {"llama3", "llama-linear"};
    static const char *const SCALINGS[] = {"llama3", "linear"};
    for (size_t i = 0; i < ARRAY_LEN(ARCHS); i++) {
        oracle_model_make(&m, oracle_config(ARCHS[i]), 1);
        oracle_write_gguf(&m, at("m.gguf"), GRAFT_TYPE_Q4_0);
        oracle_model_free(&m);
        json_t *json = inspect("m.gguf");
        check_schema(json);
        assert_string_equal(text_of(json, "format"), "gguf");
        const json_t *config = json_object_get(json, "config");
        assert_string_equal(text_of(config, "rope_scaling"), SCALINGS[i]);
        assert_true(json_number_value(json_object_get(config, "rope_factor")) == (i ? 4.0 : 0.0));
        assert_string_equal(text_of(tensor_named(json, "blk.0.attn_q.weight"), "type"), "Q4_0");
        assert_int_equal(int_of(json_object_get(json, "metadata"), "llama.block_count"), 3);
        json_decref(json);
    }
}

static void shards_are_described_as_one(void **state)
{
    (void)state;
    struct oracle_model m;
    char *bytes;
    size_t size;
    oracle_model_make(&m, oracle_config("qwen2"), 1);
    oracle_write_hf(&m, at("hf"), GRAFT_TYPE_F32);
    json_t *map = json_object();
    for (size_t i = 0; i < m.n_tensors; i++)
        json_object_set_new(map, m.tensors[i].name,
                            json_string(i < 5 ? "model-00001-of-00002.safetensors"
                                              : "model-00002-of-00002.safetensors"));
    for (int part = 0; part < 2; part++) {
        struct file_writer file;
        struct tensor_decl decls[64];
        size_t first = part ? 5 : 0, n = part ? m.n_tensors - 5 : 5;
        for (size_t i = 0; i < n; i++) {
            const struct oracle_tensor *t = &m.tensors[first + i];
            decls[i] = (struct tensor_decl){t->name, GRAFT_TYPE_F32, t->n_dims, {0}};
            memcpy(decls[i].shape, t->shape, sizeof(t->shape));
        }
        char name[64];
        snprintf(name, sizeof(name), "hf/model-0000%d-of-00002.safetensors", part + 1);
        assert_int_equal(file_writer_open(&file, NULL, at(name), NULL), GRAFT_OK);
        assert_int_equal(safetensors_write_header(&file, decls, n, NULL, NULL), GRAFT_OK);
        for (size_t i = 0; i < n; i++)
            file_writer_write(&file, m.tensors[first + i].values,
                              m.tensors[first + i].count * sizeof(float), NULL);
        assert_int_equal(file_writer_commit(&file, NULL), GRAFT_OK);
    }
    remove(at("hf/model.safetensors"));
    json_t *index = json_pack("{s:{}, s:o}", "metadata", "weight_map", map);
    bytes = json_dumps(index, 0);
    size = strlen(bytes);
    write_file(at("hf"), "model.safetensors.index.json", bytes, size);
    free(bytes);
    json_decref(index);
    json_t *json = inspect("hf");
    check_schema(json);
    assert_true(json_is_true(json_object_get(json, "supported")));
    assert_int_equal(int_of(json, "n_tensors"), m.n_tensors);
    assert_string_equal(text_of(tensor_named(json, "model.norm.weight"), "file"),
                        "model-00002-of-00002.safetensors");
    json_decref(json);
    oracle_model_free(&m);
}

/* ---- what graft cannot run ---------------------------------------------------------------- */

static void write_vocabulary(const char *name)
{
    struct gguf_writer w;
    struct file_writer file;
    static const char *const TOKENS[] = {"a", "b", "ab", "<|im_end|>"};
    static const size_t LENGTHS[] = {1, 1, 2, 10};
    static const int32_t TYPES[] = {1, 1, 1, 3};
    static const char *const MERGES[] = {"a b"};
    static const size_t MERGE_LENGTHS[] = {3};
    int32_t numbers[20] = {0};
    gguf_writer_init(&w, NULL);
    gguf_put_string(&w, "general.architecture", "llama", 5);
    gguf_put_string(&w, "general.name", "bad \xFF text", 10);
    gguf_put_string(&w, "tokenizer.ggml.model", "gpt2", 4);
    gguf_put_string(&w, "tokenizer.ggml.pre", "gpt-2", 5);
    gguf_put_strings(&w, "tokenizer.ggml.tokens", TOKENS, LENGTHS, 4);
    gguf_put_i32s(&w, "tokenizer.ggml.token_type", TYPES, 4);
    gguf_put_strings(&w, "tokenizer.ggml.merges", MERGES, MERGE_LENGTHS, 1);
    gguf_put_u32(&w, "tokenizer.ggml.eos_token_id", 3);
    gguf_put_string(&w, "tokenizer.chat_template", "{{ 1 }}", 7);
    gguf_put_bool(&w, "x.flag", true);
    gguf_put_f32(&w, "x.number", 0.5f);
    gguf_put_f32(&w, "x.infinite", (float)(1e300 * 1e300));
    gguf_put_i32s(&w, "x.long", numbers, 20);
    assert_int_equal(file_writer_open(&file, NULL, at(name), NULL), GRAFT_OK);
    assert_int_equal(gguf_write_head(&w, &file, NULL), GRAFT_OK);
    assert_int_equal(file_writer_commit(&file, NULL), GRAFT_OK);
    gguf_writer_free(&w);
}

static void a_vocabulary_is_described(void **state)
{
    (void)state;
    write_vocabulary("v.gguf");
    json_t *json = inspect("v.gguf");
    check_schema(json);
    assert_string_equal(text_of(json, "kind"), "vocabulary");
    assert_string_equal(text_of(json, "architecture"), "llama");
    assert_non_null(strstr(text_of(json, "reason"), "no weights"));
    assert_string_equal(text_of(json, "chat_template"), "{{ 1 }}");
    const json_t *t = json_object_get(json, "tokenizer");
    assert_string_equal(text_of(t, "kind"), "byte-level BPE");
    assert_int_equal(int_of(t, "size"), 4);
    assert_int_equal(int_of(t, "eos"), 3);
    assert_string_equal(text_of(t, "eos_token"), "<|im_end|>");
    assert_null(json_object_get(t, "pad_token"));
    const json_t *metadata = json_object_get(json, "metadata");
    assert_string_equal(text_of(metadata, "general.name"), "bad \xEF\xBF\xBD text");
    assert_true(json_is_true(json_object_get(metadata, "x.flag")));
    assert_true(json_is_null(json_object_get(metadata, "x.infinite")));
    assert_true(json_number_value(json_object_get(metadata, "x.number")) == 0.5);
    assert_int_equal(int_of(json_object_get(metadata, "x.long"), "count"), 20);
    assert_int_equal(json_array_size(json_object_get(metadata, "tokenizer.ggml.tokens")), 4);
    assert_int_equal(json_array_size(json_object_get(metadata, "tokenizer.ggml.token_type")), 4);
    assert_null(json_object_get(metadata, "tokenizer.chat_template"));
    json_decref(json);
}

static void write_tensor(const char *name, const char *tensor)
{
    struct file_writer file;
    const struct tensor_decl decl = {tensor, GRAFT_TYPE_F32, 2, {2, 3}};
    const float values[6] = {0};
    assert_int_equal(file_writer_open(&file, NULL, at(name), NULL), GRAFT_OK);
    assert_int_equal(safetensors_write_header(&file, &decl, 1, NULL, NULL), GRAFT_OK);
    assert_int_equal(file_writer_write(&file, values, sizeof(values), NULL), GRAFT_OK);
    assert_int_equal(file_writer_commit(&file, NULL), GRAFT_OK);
}

static void adapters_and_loose_tensors_are_told_apart(void **state)
{
    (void)state;
    const char *const cases[][2] = {
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", "adapter"},
        {"model.layers.0.self_attn.q_proj.lora_a", "adapter"},
        {"something", "tensors"}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        write_tensor("adapter_model.safetensors", cases[i][0]);
        json_t *json = inspect("adapter_model.safetensors");
        check_schema(json);
        assert_string_equal(text_of(json, "kind"), cases[i][1]);
        assert_int_equal(int_of(json, "parameters"), 6);
        assert_null(json_object_get(json, "architecture"));
        json_decref(json);
    }
}

static void an_architecture_that_graft_lacks_is_described(void **state)
{
    (void)state;
    static const char CONFIG[] = "{\"architectures\":[\"MambaForCausalLM\"]}";
    static const char TOKENIZER[] =
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
        "\"decoder\":{\"type\":\"ByteLevel\"}}";
    mkdir(at("hf"), 0777);
    write_tensor("hf/model.safetensors", "backbone.weight");
    write_file(at("hf"), "config.json", CONFIG, strlen(CONFIG));
    write_file(at("hf"), "tokenizer.json", TOKENIZER, strlen(TOKENIZER));
    json_t *json = inspect("hf");
    check_schema(json);
    assert_non_null(strstr(text_of(json, "reason"), "MambaForCausalLM"));
    assert_string_equal(text_of(json, "kind"), "tensors");
    assert_int_equal(int_of(json_object_get(json, "tokenizer"), "size"), 1);
    json_decref(json);
}

static void what_is_no_container_is_refused(void **state)
{
    (void)state;
    char *text = NULL;
    graft_error error = {0};
    write_file(test_dir, "x.gguf", "GGUF and then nothing", 21);
    assert_int_equal(model_inspect(&rt, at("x.gguf"), &text, &error), GRAFT_FORMAT);
    assert_int_equal(model_inspect(&rt, at("nothing"), &text, &error), GRAFT_NOT_FOUND);
    assert_null(text);
}

static void vocabularies_of_llama_cpp_are_described(void **state)
{
    (void)state;
    static const char PATH[] =
        GRAFT_SHARED_DIR "/data/tokenizers/gguf/ggml-vocab-deepseek-coder.gguf";
    if (!path_exists(PATH)) {
        print_message("../shared is not there\n");
        skip();
    }
    json_t *json = inspect_path(PATH);
    check_schema(json);
    assert_string_equal(text_of(json, "kind"), "vocabulary");
    assert_int_equal(int_of(json_object_get(json, "tokenizer"), "size"), 32256);
    json_decref(json);
}

/* ---- lack of memory ----------------------------------------------------------------------- */

/* Either the whole description or NO_MEMORY: never one with less in it. */
static void every_lack_of_memory_is_reported(void **state)
{
    (void)state;
    struct oracle_model m;
    oracle_model_make(&m, oracle_config("qwen2"), 1);
    oracle_write_hf(&m, at("hf"), GRAFT_TYPE_F32);
    oracle_model_free(&m);
    write_vocabulary("v.gguf");
    static const char *const NAMES[] = {"hf", "v.gguf"};
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++) {
        char *whole = NULL;
        struct failing_allocator failing = {.failed = true};
        assert_int_equal(model_inspect(&rt, at(NAMES[i]), &whole, NULL), GRAFT_OK);
        for (size_t n = 1; failing.failed; n++) {
            struct graft_runtime small = rt;
            graft_error error;
            char *text = NULL;
            failing_init(&failing, &small.mem, n);
            failing.ever_after = true;
            graft_status status = model_inspect(&small, at(NAMES[i]), &text, &error);
            assert_int_equal(status, failing.failed ? GRAFT_NO_MEMORY : GRAFT_OK);
            if (status == GRAFT_OK)
                assert_string_equal(text, whole);
            mem_free(&small.mem, text);
            assert_int_equal(atomic_load(&small.mem.bytes_in_use), 0);
        }
        mem_free(&rt.mem, whole);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_open_packs_is_reported),
        TEST(a_directory_is_described),
        TEST(a_classifier_is_described),
        TEST(mlx_is_described),
        TEST(a_gguf_is_described),
        TEST(shards_are_described_as_one),
        TEST(a_vocabulary_is_described),
        TEST(adapters_and_loose_tensors_are_told_apart),
        TEST(an_architecture_that_graft_lacks_is_described),
        TEST(what_is_no_container_is_refused),
        TEST(vocabularies_of_llama_cpp_are_described),
        TEST(every_lack_of_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
