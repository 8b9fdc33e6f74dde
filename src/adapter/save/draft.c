/* draft.c: names and selections of drafts. */
#include "adapter/save/save_internal.h"

static int by_slot(const void *left, const void *right)
{
    const struct draft_module *a = left, *b = right;
    if (a->layer != b->layer)
        return a->layer < b->layer ? -1 : 1;
    return (a->slot > b->slot) - (a->slot < b->slot);
}

void draft_set_base(struct draft *draft, const char *said)
{
    static const char end[] = ".gguf";
    const char *path = draft->model->path, *name = path_base(path);
    size_t n = strlen(name);
    if (n > sizeof end - 1 && !strcmp(name + n - (sizeof end - 1), end))
        n -= sizeof end - 1;
    snprintf(draft->base_text, sizeof draft->base_text, "%.*s",
             (int)(n < BASE_SIZE ? n : BASE_SIZE - 1), name);
    draft->base = said && said[0] ? said : path_is_dir(path) ? path : draft->base_text;
}

void draft_sort(struct draft *draft)
{
    qsort(draft->modules, (size_t)draft->n_modules, sizeof *draft->modules, by_slot);
}

bool draft_name(const struct draft *draft, int i, enum naming naming, char out[MODULE_NAME_SIZE])
{
    const struct draft_module *m = &draft->modules[i];
    return arch_module(draft->model->config.arch, naming, m->slot, m->layer, out, MODULE_NAME_SIZE);
}

const struct matrix *slot_weight(const struct model *model, int slot, int layer)
{
    if (slot == SLOT_EMBED)
        return &model->embed;
    return model_site_weight(model, slot == SLOT_HEAD
                                        ? model_head_site(model)
                                        : model_site(layer, (enum linear_id)(slot - SLOT_LINEAR)));
}

int slot_norm(const struct model *model, int slot, int layer)
{
    switch (slot) {
    case SLOT_FINAL_NORM:
        return model_final_norm(model);
    case SLOT_ATTN_NORM:
        return model_norm(layer, NORM_ATTN);
    case SLOT_MLP_NORM:
        return model_norm(layer, NORM_MLP);
    case SLOT_Q_NORM:
        return model_norm(layer, NORM_Q);
    case SLOT_K_NORM:
        return model_norm(layer, NORM_K);
    default:
        return -1;
    }
}

bool draft_is_dora(const struct draft *draft)
{
    for (int i = 0; i < draft->n_modules; i++)
        if (draft->modules[i].dora)
            return true;
    return false;
}

bool draft_is_biased(const struct draft *draft)
{
    for (int i = 0; i < draft->n_modules; i++)
        if (draft->modules[i].biased)
            return true;
    return false;
}

const struct draft_module *draft_lowrank(const struct draft *draft)
{
    for (int i = 0; i < draft->n_modules; i++)
        if (!draft->modules[i].whole)
            return &draft->modules[i];
    return NULL;
}

bool slot_short_name(const struct model *model, int slot, char out[MODULE_NAME_SIZE])
{
    char name[MODULE_NAME_SIZE];
    if (!arch_module(model->config.arch, NAMING_HF, slot, 0, name, sizeof name))
        return false;
    const char *dot = strrchr(name, '.');
    snprintf(out, MODULE_NAME_SIZE, "%s", dot ? dot + 1 : name);
    return true;
}

static bool has(const struct draft *draft, int slot, int layer)
{
    for (int i = 0; i < draft->n_modules; i++)
        if (draft->modules[i].slot == slot && draft->modules[i].layer == layer &&
            !draft->modules[i].whole)
            return true;
    return false;
}

void draft_coverage(const struct draft *draft, struct coverage *out)
{
    const int n_layer = draft->model->config.n_layer;
    int in_blocks = 0, wanted = 0;
    *out = (struct coverage){.first_layer = n_layer};
    for (int i = 0; i < draft->n_modules; i++) {
        const struct draft_module *m = &draft->modules[i];
        if (m->whole)
            continue;
        out->slots[m->slot] = true;
        if (m->slot < SLOT_LINEAR)
            continue;
        in_blocks++;
        out->first_layer = m->layer < out->first_layer ? m->layer : out->first_layer;
    }
    out->regular = true;
    for (int slot = SLOT_LINEAR; slot < SLOT_COUNT; slot++)
        for (int layer = out->first_layer; out->slots[slot] && layer < n_layer; layer++, wanted++)
            out->regular = out->regular && has(draft, slot, layer);
    out->regular = out->regular && wanted == in_blocks;
}
