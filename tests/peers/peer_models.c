/* peer_models.c: writes random models with the tokenizer of a model that exists: those that test_peers.sh
 * compares, one directory per architecture and kind of rotary scaling, or the one that is named. Beside NAME lie
 * adapters for it, as PEFT would write them: NAME.lora-all, NAME.rslora, NAME.patterns.
 *
 *   peer_models OUT TOKENIZER_DIR [NAME]       NAME "adapter", "adapter-SEED": an adapter for the model there
 */
#include "conformance/conformance_support.h"
#include "conformance/oracle_adapter.h"
#include "conformance/oracle_model.h"

#include <sys/stat.h>

static const struct {
    const char *name, *arch, *changes;
} MODELS[] = {
    {"llama", "llama", "{\"rope_theta\": 500000.0}"},
    {"llama-bias", "llama-bias", "{}"},
    {"llama-linear", "llama-linear", "{}"},
    {"llama3", "llama3", "{}"},
    {"llama-yarn", "llama",
     "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4.0,"
     " \"original_max_position_embeddings\": 64}}"},
    {"mistral", "mistral", "{\"sliding_window\": 128}"},
    {"qwen2", "qwen2", "{}"},
    {"qwen2-yarn", "qwen2",
     "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4.0, \"attention_factor\": 1.4,"
     " \"original_max_position_embeddings\": 64}}"},
    {"qwen3", "qwen3", "{}"},
    {"classifier", "qwen2-cls", "{}"}, /* by name only: the peer runs no classifiers */
};

static bool is_wanted(const char *name, const char *only)
{
    return only ? !strcmp(name, only) : strcmp(name, "classifier") != 0;
}

/* OUT/NAME: a random adapter for all linears of a model of BF16. */
static void write_adapter(const char *out, const char *dir, const char *name)
{
    struct oracle_model shapes = {0}, adapter;
    struct tensor_set set;
    const char *dash = strchr(name, '-');
    int seed = dash ? (int)strtol(dash + 1, NULL, 10) : 7;
    assert_int_equal(tensor_set_open(&set, NULL, dir, MAP_COPY, NULL), GRAFT_OK);
    shapes.tensors = calloc(tensor_set_count(&set), sizeof(*shapes.tensors));
    for (; shapes.n_tensors < tensor_set_count(&set); shapes.n_tensors++) {
        const struct tensor_info *from = tensor_set_at(&set, shapes.n_tensors);
        struct oracle_tensor *t = &shapes.tensors[shapes.n_tensors];
        snprintf(t->name, sizeof(t->name), "%s", from->name);
        t->n_dims = from->n_dims;
        memcpy(t->shape, from->shape, sizeof(t->shape));
    }
    tensor_set_close(&set);
    oracle_adapter_make(&adapter, "lora-all", seed, &shapes);
    char *path = path_join(NULL, out, name);
    oracle_adapter_write(&adapter, path, GRAFT_TYPE_F32);
    mem_free(NULL, path);
    oracle_model_free(&adapter);
    oracle_model_free(&shapes);
}

static void copy(const char *from, const char *to, const char *name)
{
    char *path = path_join(NULL, from, name), *bytes = NULL;
    size_t size = 0;
    if (file_read(NULL, path, 1 << 26, &bytes, &size, NULL) == GRAFT_OK)
        write_file(to, name, bytes, size);
    mem_free(NULL, bytes);
    mem_free(NULL, path);
}

static void write_adapters(const struct oracle_model *m, const char *dir)
{
    static const char *const VARIANTS[] = {"lora-all", "rslora", "patterns"};
    for (size_t i = 0; i < ARRAY_LEN(VARIANTS); i++) {
        struct oracle_model a;
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s.%s", dir, VARIANTS[i]);
        oracle_adapter_make(&a, VARIANTS[i], 7, m);
        oracle_adapter_write(&a, path, GRAFT_TYPE_F32);
        oracle_model_free(&a);
    }
}

int main(int argc, char **argv)
{
    struct tokenizer *tokenizer = NULL;
    graft_error error = {0};
    if (argc < 3 || argc > 4 || tokenizer_open_dir(NULL, argv[2], &tokenizer, &error) != GRAFT_OK) {
        fprintf(stderr, "usage: peer_models OUT TOKENIZER_DIR [NAME] (%s)\n", error.message);
        return 2;
    }
    mkdir(argv[1], 0777);
    if (argc == 4 && !strncmp(argv[3], "adapter", strlen("adapter")))
        write_adapter(argv[1], argv[2], argv[3]);
    for (size_t i = 0; i < ARRAY_LEN(MODELS); i++) {
        struct oracle_model m;
        if (!is_wanted(MODELS[i].name, argc == 4 ? argv[3] : NULL))
            continue;
        char *dir = path_join(NULL, argv[1], MODELS[i].name);
        json_t *config = oracle_config(MODELS[i].arch);
        json_t *changes = json_loads(MODELS[i].changes, 0, NULL);
        json_object_update(config, changes);
        json_decref(changes);
        json_object_set_new(config, "vocab_size", json_integer(tokenizer_size(tokenizer)));
        oracle_model_make(&m, config, 7);
        oracle_write_hf(&m, dir, GRAFT_TYPE_F32);
        write_adapters(&m, dir);
        oracle_model_free(&m);
        copy(argv[2], dir, "tokenizer.json");
        copy(argv[2], dir, "tokenizer_config.json");
        puts(MODELS[i].name);
        mem_free(NULL, dir);
    }
    tokenizer_close(&tokenizer);
    return 0;
}
