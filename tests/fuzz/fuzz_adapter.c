/* fuzz_adapter.c: hostile adapters. A GGUF is one; else the bytes begin with the length of a configuration
 * (16 bits), the configuration, and a safetensors file. What parses must have its parts together, answer every
 * question about its modules within bounds, and say why when it does not parse.
 */
#include "adapter/adapter_internal.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_spec(const struct spec *spec)
{
    bool any = false;
    for (size_t i = 0; i < spec->n_modules; i++) {
        const struct module *m = &spec->modules[i];
        graft_error error = {0};
        double scale = NAN;
        bool target = false;
        require(m->name[0] && !m->parts[PART_A] == !m->parts[PART_B]);
        require(!m->parts[PART_EMBED_A] == !m->parts[PART_EMBED_B]);
        require(!m->parts[PART_MAGNITUDE] || spec->dora);
        any = any || m->parts[PART_A] || m->parts[PART_EMBED_A];
        for (int layer = -1; layer < 2; layer++) {
            const struct module_place place = {m->name, layer, 2, layer >= 0};
            if (spec_is_target(spec, &place, &target, &error) != GRAFT_OK)
                require(error.message[0]);
        }
        if (spec_scale(spec, m->name, 4, &scale, &error) == GRAFT_OK)
            require(isfinite((float)scale));
        (void)spec_is_saved(spec, m->name);
    }
    require(any && spec_scale_source(spec)[0]);
}

static void finish(struct spec *spec, graft_status status, const graft_error *error)
{
    if (status == GRAFT_OK)
        check_spec(spec);
    else
        require(error->status == status && error->message[0] && !strchr(error->message, '\n'));
    spec_free(spec);
}

static void try_gguf(const uint8_t *data, size_t size)
{
    struct gguf g;
    struct spec spec = {0};
    graft_error error = {0};
    if (gguf_parse(&g, NULL, data, size, NULL) != GRAFT_OK)
        return;
    finish(&spec, spec_parse_gguf(&spec, NULL, &g, &error), &error);
    gguf_free(&g);
}

static void try_config(const json_t *config, const struct safetensors *st)
{
    struct spec spec = {0};
    graft_error error = {0};
    graft_status status = spec_parse_peft(&spec, NULL, config, st->tensors, st->n_tensors, &error);
    finish(&spec, status, &error);
    spec = (struct spec){0};
    status = spec_parse_mlx(&spec, NULL, config, st->tensors, st->n_tensors, NULL, &error);
    finish(&spec, status, &error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors st;
    json_t *config = NULL;
    if (size >= 4 && !memcmp(data, "GGUF", 4)) {
        try_gguf(data, size);
        return 0;
    }
    size_t length = size >= 2 ? (size_t)data[0] | (size_t)data[1] << 8 : 0;
    if (size < length + 2 || json_parse((const char *)data + 2, length, &config, NULL) != GRAFT_OK)
        return 0;
    if (safetensors_parse(&st, NULL, data + 2 + length, size - 2 - length, NULL) == GRAFT_OK) {
        try_config(config, &st);
        safetensors_free(&st);
    }
    json_decref(config);
    return 0;
}
