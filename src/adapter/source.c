/* source.c: which files an adapter is made of.
 *
 * The format is told by what is there: a GGUF by its content, PEFT and MLX by the configuration. Weights stay
 * mapped until everything needed of them was copied.
 */
#include "adapter/adapter_internal.h"

#include <dirent.h>
#include <math.h>
#include <sys/stat.h>

static const char CONFIG[] = "adapter_config.json", CARD[] = "graft.json";
static const char PEFT_WEIGHTS[] = "adapter_model.safetensors";
static const char MLX_WEIGHTS[] = "adapters.safetensors";
enum { CONFIG_LIMIT = 16 << 20 };

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory to open an adapter");
}

/* The files in `dir` that end so: their number, and the path of one. */
static int find_ending(struct mem *mem, const char *dir, const char *end, char **path)
{
    int n = 0;
    DIR *stream = opendir(dir);
    const struct dirent *entry;
    while (stream && (entry = readdir(stream)))
        if (text_ends_with(entry->d_name, end) && ++n == 1)
            *path = path_join(mem, dir, entry->d_name);
    if (stream)
        closedir(stream);
    return n;
}

static graft_status not_found(const char *dir, graft_error *error, const char *what)
{
    graft_status status = error_set(error, GRAFT_NOT_FOUND, "%s", what);
    error_at_file(error, dir);
    return status;
}

/* ---- configurations ----------------------------------------------------------------------- */

static graft_status read_config(struct source *s, graft_error *error)
{
    graft_status status = json_read(s->mem, s->config_path, CONFIG_LIMIT, &s->config, error);
    if (status != GRAFT_OK)
        return status;
    bool mlx = json_object_get(s->config, "lora_parameters") ||
               json_object_get(s->config, "fine_tune_type") ||
               json_object_get(s->config, "lora_layers");
    s->format = mlx && !json_object_get(s->config, "peft_type") ? ADAPTER_MLX : ADAPTER_PEFT;
    return GRAFT_OK;
}

static graft_status read_card(struct source *s, const char *dir, graft_error *error)
{
    char *path = path_join(s->mem, dir, CARD);
    graft_status status = path ? GRAFT_OK : no_memory(error);
    if (path && path_exists(path))
        status = json_read(s->mem, path, CONFIG_LIMIT, &s->card, error);
    if (status == GRAFT_OK && s->card && !json_is_object(s->card)) {
        status = error_set(error, GRAFT_FORMAT, "%s must be a JSON object", CARD);
        error_at_file(error, path);
    }
    mem_free(s->mem, path);
    return status;
}

/* ---- weights ------------------------------------------------------------------------------ */

static graft_status find_peft_weights(struct source *s, const char *dir, graft_error *error)
{
    s->weights = path_join(s->mem, dir, PEFT_WEIGHTS);
    char *pickle = path_join(s->mem, dir, "adapter_model.bin");
    graft_status status = s->weights && pickle ? GRAFT_OK : no_memory(error);
    if (status == GRAFT_OK && !path_exists(s->weights) && path_exists(pickle))
        status = not_found(dir, error,
                           "the weights are a pickle (adapter_model.bin), which can run code: "
                           "convert it to adapter_model.safetensors");
    else if (status == GRAFT_OK && !path_exists(s->weights))
        status = not_found(dir, error, "there is no adapter_model.safetensors here");
    mem_free(s->mem, pickle);
    return status;
}

/* mlx-lm writes one file for every so many steps, too. */
static graft_status find_mlx_weights(struct source *s, const char *dir, graft_error *error)
{
    s->weights = path_join(s->mem, dir, MLX_WEIGHTS);
    if (!s->weights)
        return no_memory(error);
    if (path_exists(s->weights))
        return GRAFT_OK;
    mem_free(s->mem, s->weights);
    s->weights = NULL;
    int n = find_ending(s->mem, dir, ".safetensors", &s->weights);
    if (n == 1)
        return s->weights ? GRAFT_OK : no_memory(error);
    return not_found(
        dir, error,
        n ? "there are several .safetensors files and no adapters.safetensors: name one"
          : "there is no adapters.safetensors here");
}

static graft_status find_in_directory(struct source *s, const char *dir, graft_error *error)
{
    s->config_path = path_join(s->mem, dir, CONFIG);
    if (!s->config_path)
        return no_memory(error);
    if (path_exists(s->config_path)) {
        graft_status status = read_config(s, error);
        if (status != GRAFT_OK)
            return status;
        return s->format == ADAPTER_MLX ? find_mlx_weights(s, dir, error)
                                        : find_peft_weights(s, dir, error);
    }
    s->format = ADAPTER_GGUF;
    int n = find_ending(s->mem, dir, ".gguf", &s->weights);
    if (n == 1)
        return s->weights ? GRAFT_OK : no_memory(error);
    if (n > 1)
        return not_found(dir, error, "there are several .gguf files here: name one");
    return not_found(dir, error,
                     "there is no adapter_config.json and no .gguf file here: an adapter has one, "
                     "and weights alone do not say their scale");
}

/* Opening a named pipe would wait for a writer. */
static bool is_gguf(const char *path)
{
    char magic[4] = "";
    struct stat info;
    FILE *file = stat(path, &info) == 0 && S_ISREG(info.st_mode) ? fopen(path, "rb") : NULL;
    bool yes = file && fread(magic, 1, sizeof magic, file) == sizeof magic &&
               !memcmp(magic, "GGUF", sizeof magic);
    if (file)
        fclose(file);
    return yes;
}

static graft_status find_beside(struct source *s, const char *path, graft_error *error)
{
    s->weights = mem_strdup(s->mem, path);
    size_t n = (size_t)(path_base(path) - path);
    char *dir = n ? mem_strndup(s->mem, path, n) : mem_strdup(s->mem, ".");
    graft_status status = s->weights && dir ? GRAFT_OK : no_memory(error);
    if (status == GRAFT_OK)
        status = read_card(s, dir, error);
    s->format = ADAPTER_GGUF;
    if (status == GRAFT_OK && !is_gguf(path)) {
        s->config_path = path_join(s->mem, dir, CONFIG);
        if (!s->config_path)
            status = no_memory(error);
        else if (path_exists(s->config_path))
            status = read_config(s, error);
        else
            status = not_found(path, error,
                               "it is no GGUF file, and there is no adapter_config.json beside it: "
                               "weights alone do not say their scale");
    }
    mem_free(s->mem, dir);
    return status;
}

/* ---- both --------------------------------------------------------------------------------- */

graft_status source_open(struct source *out, struct mem *mem, const char *path, graft_error *error)
{
    struct source s = {.mem = mem};
    graft_status status;
    if (path_is_dir(path)) {
        status = read_card(&s, path, error);
        if (status == GRAFT_OK)
            status = find_in_directory(&s, path, error);
    } else if (path_exists(path)) {
        status = find_beside(&s, path, error);
    } else {
        status = not_found(path, error, "there is no such file or directory");
    }
    if (status == GRAFT_OK)
        status = tensor_set_open(&s.tensors, mem, s.weights, MAP_SHARED_FILE, error);
    if (status == GRAFT_OK && (s.tensors.gguf != NULL) != (s.format == ADAPTER_GGUF))
        status = error_set(error, GRAFT_FORMAT,
                           s.tensors.gguf ? "the weights are a GGUF, with an adapter_config.json"
                                          : "the file is no GGUF");
    if (status != GRAFT_OK) {
        error_at_file(error, s.weights ? s.weights : path);
        source_close(&s);
        return status;
    }
    *out = s;
    return GRAFT_OK;
}

void source_close(struct source *s)
{
    if (s->tensors.maps)
        tensor_set_close(&s->tensors);
    json_decref(s->config);
    json_decref(s->card);
    mem_free(s->mem, s->weights);
    mem_free(s->mem, s->config_path);
    *s = (struct source){0};
}

/* A scale of the caller's: only MLX has a use for one, the others give theirs. */
static graft_status check_scale(const struct source *s, const struct adapter_options *options,
                                graft_error *error)
{
    if (!options || !options->rescale)
        return GRAFT_OK;
    if (!isfinite((float)options->scale) || (float)options->scale == 0)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the scale of an adapter is a finite number other than 0, not %g",
                         options->scale);
    if (s->format != ADAPTER_MLX)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "a scale is for MLX adapters: this one is %s and gives its own; a weight "
                         "makes it stronger or weaker",
                         adapter_format_name(s->format));
    return GRAFT_OK;
}

graft_status source_refuse_output(const struct source *s, const char *out, graft_error *error)
{
    graft_status status = tensor_set_refuse(&s->tensors, out, error);
    if (status == GRAFT_OK && s->config_path)
        status = path_refuse_same(out, s->config_path, error);
    if (status != GRAFT_OK || !s->card)
        return status;
    size_t length = (size_t)(path_base(s->weights) - s->weights);
    char *dir = mem_strndup(s->mem, s->weights, length);
    char *card = dir ? path_join(s->mem, dir, CARD) : NULL;
    status = card ? path_refuse_same(out, card, error) : no_memory(error);
    mem_free(s->mem, card);
    mem_free(s->mem, dir);
    return status;
}

graft_status source_parse(const struct source *s, const struct adapter_options *options,
                          struct spec *spec, graft_error *error)
{
    struct mem *mem = s->mem;
    graft_status status = check_scale(s, options, error);
    if (status != GRAFT_OK) {
        error_at_file(error, s->weights);
        return status;
    }
    if (s->format == ADAPTER_GGUF) {
        status = spec_parse_gguf(spec, mem, s->tensors.gguf, error);
    } else {
        const struct safetensors *st = &s->tensors.files[0];
        status =
            s->format == ADAPTER_MLX
                ? spec_parse_mlx(spec, mem, s->config, st->tensors, st->n_tensors, options, error)
                : spec_parse_peft(spec, mem, s->config, st->tensors, st->n_tensors, error);
    }
    if (status != GRAFT_OK)
        error_at_file(error, error && error->tensor[0] ? s->weights
                             : s->config_path          ? s->config_path
                                                       : s->weights);
    return status;
}
