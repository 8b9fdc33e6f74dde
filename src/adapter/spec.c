/* spec.c: what all formats of adapters share once parsed: parts sorted by module, selection, scales.
 *
 * Knows no model: places of modules are handed in.
 */
#include "adapter/adapter_internal.h"

#include <math.h>

enum { ARENA_LIMIT = 64 << 20, MAX_NAME = 256 };

static const char *const PART_NAMES[PART_COUNT] = {
    "A", "B", "magnitude", "bias of B", "embedding A", "embedding B", "weight"};

graft_status tensor_refused(const struct tensor_info *tensor, graft_status status,
                            graft_error *error, const char *format, ...)
{
    char message[400];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    error_set(error, status, "tensor %.100s: %s", tensor->name, message);
    error_at_tensor(error, tensor->name);
    return status;
}

/* ---- modules ------------------------------------------------------------------------------ */

void spec_begin(struct spec *spec, struct mem *mem, enum adapter_format format)
{
    *spec = (struct spec){.mem = mem, .format = format};
    arena_init(&spec->arena, mem, ARENA_LIMIT);
    str_map_init(&spec->index, mem);
}

static void values_free(struct rule_values *values, struct mem *mem)
{
    for (size_t i = 0; i < values->n; i++)
        rule_close(&values->items[i].rule);
    mem_free(mem, values->items);
}

void spec_free(struct spec *spec)
{
    values_free(&spec->ranks, spec->mem);
    values_free(&spec->alphas, spec->mem);
    rule_close(&spec->targets.regex);
    rule_close(&spec->excluded.regex);
    for (size_t i = 0; i < spec->n_layer_parents; i++)
        rule_close(&spec->layer_parents[i]);
    mem_free(spec->mem, spec->layer_parents);
    mem_free(spec->mem, spec->layers);
    mem_free(spec->mem, spec->modules);
    str_map_free(&spec->index);
    arena_free(&spec->arena);
    *spec = (struct spec){0};
}

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for an adapter's configuration");
}

/* The module of that name, made when it is new; NULL: no memory. */
static struct module *find_module(struct spec *spec, const char *name, size_t length)
{
    int32_t at = str_map_get(&spec->index, name, length);
    if (at >= 0)
        return &spec->modules[at];
    if (spec->n_modules == spec->capacity) {
        size_t capacity = spec->capacity ? 2 * spec->capacity : 64;
        void *grown = mem_resize(spec->mem, spec->modules, capacity * sizeof *spec->modules);
        if (!grown)
            return NULL;
        spec->modules = grown;
        spec->capacity = capacity;
    }
    char *copy = arena_strndup(&spec->arena, name, length);
    if (!copy || !str_map_put(&spec->index, copy, length, (int32_t)spec->n_modules, NULL))
        return NULL;
    struct module *m = &spec->modules[spec->n_modules++];
    *m = (struct module){.name = copy};
    return m;
}

graft_status spec_add(struct spec *spec, const char *name, size_t length, enum part part,
                      const struct tensor_info *tensor, graft_error *error)
{
    if (length == 0 || length > MAX_NAME)
        return tensor_refused(tensor, GRAFT_FORMAT, error,
                              "its name has no module that graft knows");
    struct module *m = find_module(spec, name, length);
    if (!m)
        return no_memory(error);
    if (m->parts[part])
        return tensor_refused(tensor, GRAFT_FORMAT, error, "%s has this part twice", m->name);
    m->parts[part] = tensor;
    return GRAFT_OK;
}

static graft_status check_pair(const struct module *m, enum part a, enum part b, graft_error *error)
{
    bool has_a = m->parts[a] != NULL, has_b = m->parts[b] != NULL;
    if (has_a == has_b)
        return GRAFT_OK;
    return tensor_refused(m->parts[has_a ? a : b], GRAFT_FORMAT, error, "%s has no %s beside it",
                          m->name, PART_NAMES[has_a ? b : a]);
}

/* Magnitudes and biases where the configuration says so, and only there. */
static graft_status check_extra(const struct module *m, enum part part, bool wanted,
                                const char *option, graft_error *error)
{
    bool embedding = m->parts[PART_EMBED_A] != NULL;
    const struct tensor_info *a = m->parts[embedding ? PART_EMBED_A : PART_A];
    if (!m->parts[part] && a && wanted && !(embedding && part == PART_LORA_BIAS))
        return tensor_refused(a, GRAFT_FORMAT, error, "%s says that %s has a %s, and there is none",
                              option, m->name, PART_NAMES[part]);
    if (m->parts[part] && !a)
        return tensor_refused(m->parts[part], GRAFT_FORMAT, error, "%s has no factors beside it",
                              m->name);
    if (m->parts[part] && !wanted)
        return tensor_refused(m->parts[part], GRAFT_FORMAT, error,
                              "the configuration does not set %s", option);
    return GRAFT_OK;
}

graft_status spec_check_modules(const struct spec *spec, graft_error *error)
{
    const char *dora = spec->format == ADAPTER_MLX ? "fine_tune_type \"dora\"" : "use_dora";
    bool any = false;
    for (size_t i = 0; i < spec->n_modules; i++) {
        const struct module *m = &spec->modules[i];
        graft_status status = check_pair(m, PART_A, PART_B, error);
        if (status == GRAFT_OK)
            status = check_pair(m, PART_EMBED_A, PART_EMBED_B, error);
        if (status == GRAFT_OK)
            status = check_extra(m, PART_MAGNITUDE, spec->dora, dora, error);
        if (status == GRAFT_OK)
            status = check_extra(m, PART_LORA_BIAS, spec->lora_bias, "lora_bias", error);
        if (status != GRAFT_OK)
            return status;
        if (m->parts[PART_A] && m->parts[PART_EMBED_A])
            return tensor_refused(m->parts[PART_A], GRAFT_FORMAT, error,
                                  "%s has factors of a linear and of an embedding", m->name);
        any = any || m->parts[PART_A] || m->parts[PART_EMBED_A];
    }
    if (!any)
        return error_set(error, GRAFT_FORMAT, "there is no LoRA tensor in the file");
    return GRAFT_OK;
}

/* ---- selection ---------------------------------------------------------------------------- */

graft_status spec_names(struct spec *spec, const json_t *list, const char *key, const char ***out,
                        size_t *n, graft_error *error)
{
    size_t count = json_array_size(list);
    const char **names = arena_alloc_packed(&spec->arena, (count + 1) * sizeof *names);
    if (!names)
        return no_memory(error);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text)
            return error_set(error, GRAFT_FORMAT, "\"%s\" must be a list of strings", key);
        names[i] = arena_strndup(&spec->arena, text, strlen(text));
        if (!names[i])
            return no_memory(error);
    }
    *out = names;
    *n = count;
    return GRAFT_OK;
}

static bool listed(const struct selection *s, const char *name, bool *exactly)
{
    bool found = false;
    *exactly = false;
    for (size_t i = 0; i < s->n && !*exactly; i++) {
        found = found || name_ends_in(name, s->names[i]);
        *exactly = !strcmp(name, s->names[i]);
    }
    return found;
}

bool spec_is_saved(const struct spec *spec, const char *module)
{
    bool exactly;
    return listed(&spec->saved, module, &exactly);
}

/* layers_to_transform, within the list that layers_pattern names ("layers", "h"). */
static graft_status in_layers(const struct spec *spec, const struct module_place *place, bool *out,
                              graft_error *error)
{
    char parent[MAX_NAME + 1] = "";
    *out = false;
    if (!spec->layers_given)
        *out = true;
    if (*out || place->layer < 0)
        return GRAFT_OK;
    for (size_t i = 0; i < spec->n_layers; i++)
        *out = *out || spec->layers[i] == place->layer;
    if (!*out || !spec->n_layer_parents)
        return GRAFT_OK;
    /* "layers" of "model.layers.3.mlp.up_proj" */
    char number[24];
    snprintf(number, sizeof number, ".%d.", place->layer);
    const char *end = strstr(place->name, number), *begin = end;
    while (begin && begin > place->name && begin[-1] != '.')
        begin--;
    if (begin)
        snprintf(parent, sizeof parent, "%.*s", (int)(end - begin), begin);
    *out = false;
    for (size_t i = 0; i < spec->n_layer_parents && !*out; i++) {
        graft_status status = rule_matches(spec->layer_parents[i], parent, out, error);
        if (status != GRAFT_OK)
            return status;
    }
    return GRAFT_OK;
}

static graft_status is_peft_target(const struct spec *spec, const struct module_place *place,
                                   bool *out, graft_error *error)
{
    bool exactly = false, excluded = false;
    graft_status status = GRAFT_OK;
    *out = false;
    if (spec->excluded.regex)
        status = rule_matches(spec->excluded.regex, place->name, &excluded, error);
    if (status != GRAFT_OK || excluded || listed(&spec->excluded, place->name, &exactly) ||
        spec_is_saved(spec, place->name))
        return status;
    if (spec->targets.regex)
        return rule_matches(spec->targets.regex, place->name, out, error);
    if (spec->targets.all_linear)
        *out = place->linear;
    else
        *out = listed(&spec->targets, place->name, &exactly);
    return *out && !exactly ? in_layers(spec, place, out, error) : GRAFT_OK;
}

/* Keys are relative to a block, or whole names. */
static bool is_mlx_target(const struct spec *spec, const struct module_place *place)
{
    const char *inside = place->name;
    if (place->layer >= 0 && spec->last_layers > 0 &&
        place->layer < place->n_layer - spec->last_layers)
        return false;
    if (!spec->targets.given)
        return true;
    for (int dots = 0; place->layer >= 0 && dots < 3 && inside; dots++) {
        inside = strchr(inside, '.');
        inside = inside ? inside + 1 : NULL;
    }
    for (size_t i = 0; i < spec->targets.n; i++)
        if (!strcmp(spec->targets.names[i], place->name) ||
            (inside && !strcmp(spec->targets.names[i], inside)))
            return true;
    return false;
}

graft_status spec_is_target(const struct spec *spec, const struct module_place *place, bool *out,
                            graft_error *error)
{
    if (spec->format == ADAPTER_PEFT)
        return is_peft_target(spec, place, out, error);
    *out = spec->format == ADAPTER_GGUF || is_mlx_target(spec, place);
    return GRAFT_OK;
}

/* ---- scales ------------------------------------------------------------------------------- */

static graft_status value_of(const struct rule_values *values, const char *module, double *value,
                             graft_error *error)
{
    for (size_t i = 0; i < values->n; i++) {
        bool matches;
        graft_status status = rule_matches(values->items[i].rule, module, &matches, error);
        if (status != GRAFT_OK)
            return status;
        if (matches) {
            *value = values->items[i].value;
            break;
        }
    }
    return GRAFT_OK;
}

graft_status spec_scale(const struct spec *spec, const char *module, int64_t rank, double *out,
                        graft_error *error)
{
    double said = (double)spec->rank, alpha = spec->alpha, scale = spec->scale;
    graft_status status = value_of(&spec->ranks, module, &said, error);
    if (status == GRAFT_OK)
        status = value_of(&spec->alphas, module, &alpha, error);
    if (status != GRAFT_OK)
        return status;
    if (said != 0 && (double)rank != said)
        return error_set(
            error, GRAFT_FORMAT,
            "%s has rank %lld where the configuration says %g: the scale would be wrong", module,
            (long long)rank, said);
    if (spec->format == ADAPTER_PEFT)
        scale = alpha / (spec->rslora ? sqrt((double)rank) : (double)rank);
    else if (spec->format == ADAPTER_GGUF)
        scale = alpha != 0 ? alpha / (double)rank : 1;
    if (!isfinite((float)scale))
        return error_set(error, GRAFT_FORMAT, "the scale of %s, %g, is no float", module, scale);
    *out = scale;
    return GRAFT_OK;
}

const char *spec_scale_source(const struct spec *spec)
{
    if (spec->format == ADAPTER_MLX)
        return "scale";
    if (spec->format == ADAPTER_GGUF)
        return spec->alpha != 0 ? "adapter.lora.alpha / rank" : "1, as no alpha is given";
    return spec->rslora ? "lora_alpha / sqrt(rank)" : "lora_alpha / rank";
}
