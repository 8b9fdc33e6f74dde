/* report.c: gathers what an adapter's files say. */
#include "adapter/report/report_internal.h"

#include <math.h>

enum { KIND_SIZE = 160 };

/* ---- modules ------------------------------------------------------------------------------ */

/* "self_attn.q_proj" of "model.layers.3.self_attn.q_proj", "attn_q" of "blk.3.attn_q"; other names as they are. */
static const char *kind_of(const char *name)
{
    for (const char *p = strchr(name, '.'); p; p = strchr(p + 1, '.')) {
        size_t digits = strspn(p + 1, "0123456789");
        if (digits && p[1 + digits] == '.')
            return p + digits + 2;
    }
    return name;
}

static const struct tensor_info *factor_a(const struct module *m)
{
    return m->parts[PART_A] ? m->parts[PART_A] : m->parts[PART_EMBED_A];
}

/* −1: the factor is no matrix. */
static int64_t rank_of(const struct spec *spec, const struct module *m)
{
    const struct tensor_info *a = factor_a(m);
    bool last = spec->format == ADAPTER_MLX ||
                (spec->format == ADAPTER_GGUF && m->parts[PART_EMBED_A] != NULL);
    return a->n_dims == 2 ? a->shape[last] : -1;
}

/* In the file: of a module that is saved whole, its weight too. */
static uint64_t bytes_of(const struct module *m)
{
    uint64_t bytes = 0;
    for (int i = 0; i < PART_COUNT; i++)
        bytes += m->parts[i] ? m->parts[i]->size : 0;
    return bytes;
}

static void note(const char **first, bool is_so, const char *name)
{
    if (is_so && !*first)
        *first = name;
}

static bool ends_in(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

static void note_module(struct facts *f, const struct module *m)
{
    bool embedding = m->parts[PART_EMBED_A] || ends_in(m->name, "embed_tokens");
    for (int i = 0; i < PART_COUNT; i++) {
        const struct tensor_info *t = m->parts[i];
        uint64_t values = t ? 1 : 0;
        for (int d = 0; t && d < t->n_dims; d++)
            values *= (uint64_t)t->shape[d];
        f->parameters += values;
    }
    f->bytes += bytes_of(m);
    note(&f->dora, m->parts[PART_MAGNITUDE] != NULL, m->name);
    note(&f->biased, m->parts[PART_LORA_BIAS] != NULL, m->name);
    note(&f->whole, m->parts[PART_WEIGHT] != NULL, m->name);
    note(&f->embedding, factor_a(m) && embedding, m->name);
    note(&f->head, factor_a(m) && (!strcmp(m->name, "lm_head") || !strcmp(m->name, "output")),
         m->name);
}

static graft_status gather(struct facts *f, graft_error *error)
{
    bool first = true;
    for (size_t i = 0; i < f->spec->n_modules; i++) {
        const struct module *m = &f->spec->modules[i];
        double scale;
        note_module(f, m);
        if (!factor_a(m))
            continue;
        int64_t rank = rank_of(f->spec, m);
        if (rank < 1)
            return tensor_refused(factor_a(m), GRAFT_SHAPE, error, "a factor is a matrix");
        graft_status status = spec_scale(f->spec, m->name, rank, &scale, error);
        if (status != GRAFT_OK)
            return status;
        f->least_rank = first || rank < f->least_rank ? rank : f->least_rank;
        f->most_rank = first || rank > f->most_rank ? rank : f->most_rank;
        f->least_scale = first ? scale : fmin(f->least_scale, scale);
        f->most_scale = first ? scale : fmax(f->most_scale, scale);
        first = false;
    }
    return GRAFT_OK;
}

/* ---- telling ------------------------------------------------------------------------------ */

/* One entry for each kind of module: how many, which ranks, what else. */
static json_t *tell_kind(const struct facts *f, size_t first)
{
    const struct spec *spec = f->spec;
    const struct module *m = &spec->modules[first];
    const char *kind = kind_of(m->name);
    json_int_t n = 0, bytes = 0;
    int64_t least = INT64_MAX, most = 0;
    bool dora = false, biased = false, whole = false;
    for (size_t i = 0; i < spec->n_modules; i++) {
        const struct module *other = &spec->modules[i];
        if (strcmp(kind_of(other->name), kind))
            continue;
        int64_t rank = factor_a(other) ? rank_of(spec, other) : 0;
        n++;
        bytes += (json_int_t)bytes_of(other);
        least = rank < least ? rank : least;
        most = rank > most ? rank : most;
        dora = dora || other->parts[PART_MAGNITUDE];
        biased = biased || other->parts[PART_LORA_BIAS];
        whole = whole || other->parts[PART_WEIGHT];
    }
    const struct tensor_info *t = factor_a(m) ? factor_a(m) : m->parts[PART_WEIGHT];
    return json_pack("{s:s, s:I, s:[I, I], s:s, s:I, s:b, s:b, s:b}", "kind", kind, "count", n,
                     "ranks", (json_int_t)least, (json_int_t)most, "type", graft_type_name(t->type),
                     "bytes", bytes, "dora", dora, "bias", biased, "whole", whole);
}

static json_t *tell_modules(const struct facts *f)
{
    json_t *json = json_array();
    for (size_t i = 0; i < f->spec->n_modules; i++) {
        const char *kind = kind_of(f->spec->modules[i].name);
        bool told = false;
        for (size_t k = 0; k < i && !told; k++)
            told = !strcmp(kind_of(f->spec->modules[k].name), kind);
        if (!told)
            json_append(&json, tell_kind(f, i));
    }
    return json;
}

static void tell_adapter(json_t **json, const struct adapter *adapter)
{
    const struct adapter_info *info = adapter_info(adapter);
    char digest[2 * sizeof info->digest + 1];
    hex_write(info->digest, sizeof info->digest, digest);
    json_put(json, "digest", json_string(digest));
    json_put(json, "memory", json_integer((json_int_t)info->bytes));
}

/* A path may hold any bytes; what is no UTF-8 is left out. NULL: no memory. */
static json_t *text_of(const char *text)
{
    const size_t n = strlen(text);
    uint32_t code;
    for (size_t i = 0, step; i < n; i += step)
        if (!(step = (size_t)utf8_decode(text + i, n - i, &code)))
            return json_string("");
    return json_string(text);
}

static json_t *tell(const struct facts *f, const char *path, const struct adapter *adapter,
                    enum consumer consumer)
{
    json_t *json = json_object();
    json_put(&json, "path", text_of(path));
    json_put(&json, "format", json_string(adapter_format_name(f->spec->format)));
    json_put(&json, "base", f->spec->base ? text_of(f->spec->base) : json_null());
    json_put(&json, "scale_from", json_string(spec_scale_source(f->spec)));
    json_put(&json, "scales",
             json_pack("[o, o]", json_real(f->least_scale), json_real(f->most_scale)));
    json_put(&json, "ranks",
             json_pack("[I, I]", (json_int_t)f->least_rank, (json_int_t)f->most_rank));
    json_put(&json, "parameters", json_integer((json_int_t)f->parameters));
    json_put(&json, "bytes", json_integer((json_int_t)f->bytes));
    json_put(&json, "modules", tell_modules(f));
    json_put(&json, "card", f->source->card ? json_incref(f->source->card) : json_null());
    if (adapter)
        tell_adapter(&json, adapter);
    if (consumer != CONSUMER_NONE)
        json_put(&json, "problems", facts_problems(f, consumer));
    return json;
}

static graft_status report(struct facts *f, const char *path, const struct adapter *adapter,
                           enum consumer consumer, json_t **out, graft_error *error)
{
    graft_status status = gather(f, error);
    if (status != GRAFT_OK) {
        error_at_file(error, f->source->weights);
        return status;
    }
    json_t *json = tell(f, path, adapter, consumer);
    if (!json)
        return error_set(error, GRAFT_NO_MEMORY, "no memory to describe an adapter");
    *out = json;
    return GRAFT_OK;
}

graft_status adapter_report(graft_runtime *runtime, const struct model *model, const char *path,
                            const struct adapter_options *options, enum consumer consumer,
                            json_t **out, graft_error *error)
{
    struct adapter *adapter = NULL;
    struct source source = {0};
    struct spec spec = {0};
    graft_status status = model ? adapter_open(model, path, options, &adapter, error) : GRAFT_OK;
    if (status == GRAFT_OK)
        status = source_open(&source, &runtime->mem, path, error);
    if (status == GRAFT_OK)
        status = source_parse(&source, options, &spec, error);
    if (status == GRAFT_OK && !model) /* with one it was done at opening */
        status = card_check_types(runtime, source.card, path, false, error);
    struct facts facts = {.model = model, .source = &source, .spec = &spec};
    if (status == GRAFT_OK)
        status = report(&facts, path, adapter, consumer, out, error);
    spec_free(&spec);
    source_close(&source);
    adapter_release(&adapter);
    return status;
}
