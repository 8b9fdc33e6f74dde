/* to_gguf.c: drafts as GGUF adapters for llama.cpp.
 *
 * There is one alpha for all, and the scale of a module is alpha / its own rank; what it differs by goes into
 * B. Rows of q and k get the order that GGUFs of the architecture have.
 */
#include "adapter/save/save_internal.h"

static graft_status refuse(const char *name, const char *what, graft_error *error)
{
    return error_set(error, GRAFT_UNSUPPORTED,
                     "%s has %s, which a GGUF adapter cannot hold: fuse it into a model and use "
                     "that (or keep it as PEFT)",
                     name, what);
}

graft_status gguf_check(const struct draft *draft, graft_error *error)
{
    const struct config *config = &draft->model->config;
    if (!config->arch->gguf)
        return error_set(error, GRAFT_UNSUPPORTED,
                         "%s has no form in GGUF, and so has no adapter for it; keep it as PEFT",
                         config->architecture);
    for (int i = 0; i < draft->n_modules; i++) {
        const struct draft_module *m = &draft->modules[i];
        char name[MODULE_NAME_SIZE];
        (void)draft_name(draft, i, NAMING_HF, name);
        if (m->whole)
            return refuse(name, "a weight of its own", error);
        if (m->slot == SLOT_EMBED)
            return refuse(name, "factors of an embedding", error);
        if (m->dora)
            return refuse(name, "magnitudes (DoRA)", error);
        if (m->biased)
            return refuse(name, "a bias of B (lora_bias)", error);
        if (m->slot == SLOT_HEAD && config->tied)
            return refuse(name, "factors, and the base ties it to the embedding", error);
    }
    return GRAFT_OK;
}

/* That of the first module that has one; 0 would mean "none given". */
static float common_alpha(const struct draft *draft)
{
    for (int i = 0; i < draft->n_modules; i++) {
        float alpha = (float)(draft->modules[i].scale * (double)draft->modules[i].rank);
        if (alpha != 0)
            return alpha;
    }
    return 1;
}

static double factor_of(const struct draft_module *m, float alpha)
{
    double factor = m->scale * (double)m->rank / (double)alpha;
    return (float)factor == 1.0f ? 1 : factor;
}

static void add_part(struct pieces *pieces, const struct draft *draft, int i, enum part part,
                     float alpha)
{
    const struct draft_module *m = &draft->modules[i];
    bool rope = m->slot == SLOT_LINEAR + LINEAR_Q || m->slot == SLOT_LINEAR + LINEAR_K;
    bool b = part == PART_B;
    struct piece p = {.module = i,
                      .part = part,
                      .rank = m->rank,
                      .factor = b ? factor_of(m, alpha) : 1,
                      .interleaved = b && rope && draft->model->config.arch->gguf_interleaved};
    char name[MODULE_NAME_SIZE];
    (void)draft_name(draft, i, NAMING_GGUF, name);
    snprintf(p.name, sizeof p.name, "%s.weight.lora_%c", name, b ? 'b' : 'a');
    pieces_add(pieces, draft, &p);
}

/* ---- metadata ----------------------------------------------------------------------------- */

static void put_text(struct gguf_writer *w, const char *key, const json_t *value)
{
    if (json_is_string(value) && json_string_length(value))
        gguf_put_string(w, key, json_string_value(value), json_string_length(value));
}

static graft_status put_tags(struct gguf_writer *w, const json_t *tags, graft_error *error)
{
    size_t n = json_array_size(tags), used = 0;
    const char **texts = mem_calloc(w->mem, n + 1, sizeof *texts);
    size_t *lengths = mem_calloc(w->mem, n + 1, sizeof *lengths);
    for (size_t i = 0; texts && lengths && i < n; i++) {
        const json_t *tag = json_array_get(tags, i);
        if (!json_is_string(tag))
            continue;
        texts[used] = json_string_value(tag);
        lengths[used++] = json_string_length(tag);
    }
    bool ok = texts && lengths;
    if (ok && used)
        gguf_put_strings(w, "general.tags", texts, lengths, used);
    mem_free(w->mem, texts);
    mem_free(w->mem, lengths);
    return ok ? GRAFT_OK : error_set(error, GRAFT_NO_MEMORY, "no memory for %zu tags", n);
}

/* What it was merged of, as its JSON; what was discarded is not known yet. */
static graft_status put_merge(struct gguf_writer *w, const json_t *merge, graft_error *error)
{
    char *text = merge ? json_dumps(merge, JSON_COMPACT) : NULL;
    if (text)
        gguf_put_string(w, "graft.merge", text, strlen(text));
    free(text);
    return !merge || text ? GRAFT_OK
                          : error_set(error, GRAFT_NO_MEMORY, "no memory for what was merged");
}

static uint32_t file_type(graft_type type)
{
    return type == GRAFT_TYPE_F32 ? 0 : type == GRAFT_TYPE_F16 ? 1 : 32;
}

static graft_status put_metadata(struct gguf_writer *w, const struct draft *draft, graft_type type,
                                 float alpha, graft_error *error)
{
    const char *arch = draft->model->config.arch->gguf;
    gguf_put_string(w, "general.type", "adapter", 7);
    gguf_put_string(w, "general.architecture", arch, strlen(arch));
    put_text(w, "general.name", json_object_get(draft->card, "name"));
    put_text(w, "general.version", json_object_get(draft->card, "version"));
    put_text(w, "general.description", json_object_get(draft->card, "description"));
    gguf_put_string(w, "adapter.type", "lora", 4);
    gguf_put_f32(w, "adapter.lora.alpha", alpha);
    gguf_put_u32(w, "general.file_type", file_type(type));
    graft_status status = put_merge(w, json_object_get(draft->card, "merge"), error);
    return status == GRAFT_OK ? put_tags(w, json_object_get(draft->card, "tags"), error) : status;
}

/* What exists is replaced only if it is a GGUF file. */
static graft_status refuse_other(const char *out, graft_error *error)
{
    char magic[4] = "";
    FILE *file = fopen(out, "rbe");
    const size_t n = file ? fread(magic, 1, sizeof magic, file) : 0;
    if (file)
        fclose(file);
    if (!file || n == 0 || (n == sizeof magic && !memcmp(magic, "GGUF", sizeof magic)))
        return GRAFT_OK;
    error_set(error, GRAFT_IO, "it is there, and no GGUF file: it is not replaced");
    error_at_file(error, out);
    return GRAFT_IO;
}

/* ---- file --------------------------------------------------------------------------------- */

static graft_status write_bytes(void *user, const void *bytes, size_t size, graft_error *error)
{
    return gguf_write_tensor(user, bytes, size, error);
}

static graft_status write_file(const struct draft *draft, const struct pieces *pieces,
                               struct gguf_writer *w, const char *out, graft_error *error)
{
    struct file_writer file = {0};
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < pieces->n && status == GRAFT_OK; i++)
        status = gguf_declare(w, &pieces->items[i].decl, error);
    if (status == GRAFT_OK)
        status = file_writer_open(&file, pieces->mem, out, error);
    if (status != GRAFT_OK)
        return status;
    status = gguf_write_head(w, &file, error);
    if (status == GRAFT_OK)
        status = pieces_write(pieces, draft, write_bytes, &file, error);
    if (status == GRAFT_OK)
        status = file_writer_commit(&file, error);
    file_writer_abort(&file);
    return status;
}

graft_status write_gguf(const struct draft *draft, const char *out,
                        const struct save_options *options, graft_error *error)
{
    struct pieces pieces = {0};
    struct gguf_writer writer;
    const float alpha = common_alpha(draft);
    graft_status status = gguf_check(draft, error);
    if (status == GRAFT_OK)
        status = refuse_other(out, error);
    if (status == GRAFT_OK)
        status = pieces_open(&pieces, draft, options, error);
    if (status != GRAFT_OK)
        return status;
    for (int i = 0; i < draft->n_modules; i++) {
        add_part(&pieces, draft, i, PART_A, alpha);
        add_part(&pieces, draft, i, PART_B, alpha);
    }
    pieces_settle(&pieces, options);
    gguf_writer_init(&writer, pieces.mem);
    status = put_metadata(&writer, draft, pieces.type, alpha, error);
    if (status == GRAFT_OK)
        status = write_file(draft, &pieces, &writer, out, error);
    gguf_writer_free(&writer);
    pieces_free(&pieces);
    return status;
}
