/* to_peft.c: drafts as PEFT directories.
 *
 * The scale of a module is alpha / rank there (or alpha / √rank), each of which may be said by module; so nothing is
 * folded into B, and the values are those of the draft.
 */
#include "adapter/save/save_internal.h"

#include <math.h>

/* Without the rounding of a division and its undoing: 31.999999999999996 is 32. */
static double alpha_of(const struct draft *draft, const struct draft_module *m)
{
    double alpha = m->scale * (draft->rslora ? sqrt((double)m->rank) : (double)m->rank);
    double whole = nearbyint(alpha);
    return fabs(alpha - whole) <= 1e-12 * fabs(whole) ? whole : alpha;
}

static double rank_of(const struct draft *draft, const struct draft_module *m)
{
    (void)draft;
    return (double)m->rank;
}

typedef double (*value_of)(const struct draft *draft, const struct draft_module *m);

/* The value that most modules with factors have. */
static double most_common(const struct draft *draft, value_of value)
{
    const struct draft_module *first = draft_lowrank(draft);
    double best = first ? value(draft, first) : 1;
    int most = 0;
    for (int i = 0; i < draft->n_modules && most < draft->n_modules; i++) {
        int n = 0;
        double here = value(draft, &draft->modules[i]);
        for (int j = 0; j < draft->n_modules && !draft->modules[i].whole; j++)
            n += !draft->modules[j].whole && value(draft, &draft->modules[j]) == here;
        if (n > most) {
            most = n;
            best = here;
        }
    }
    return best;
}

/* {"model.layers.0.self_attn.k_proj": 2}: the modules with another value. */
static json_t *make_pattern(const struct draft *draft, value_of value, double common)
{
    json_t *json = json_object();
    for (int i = 0; i < draft->n_modules; i++) {
        double here = value(draft, &draft->modules[i]);
        char name[MODULE_NAME_SIZE];
        if (!draft->modules[i].whole && here != common && draft_name(draft, i, NAMING_HF, name))
            json_put(&json, name, json_number_of(here));
    }
    return json;
}

/* Short names where they mean these modules and no others; `last`: of the last blocks alone, which layers_to_transform
 * says, and what stands in no block goes by its whole name then. */
static json_t *make_targets(const struct draft *draft, const struct coverage *covered, bool last)
{
    char name[MODULE_NAME_SIZE];
    json_t *json = json_array();
    const bool none = covered->first_layer == draft->model->config.n_layer;
    const bool brief = covered->regular && (covered->first_layer == 0 || none || last);
    for (int slot = 0; brief && slot < SLOT_COUNT; slot++)
        if (covered->slots[slot] && (slot >= SLOT_LINEAR || !last) &&
            slot_short_name(draft->model, slot, name))
            json_append(&json, json_string(name));
    for (int i = 0; i < draft->n_modules; i++) {
        const struct draft_module *m = &draft->modules[i];
        if (!m->whole && (!brief || (last && m->slot < SLOT_LINEAR)) &&
            draft_name(draft, i, NAMING_HF, name))
            json_append(&json, json_string(name));
    }
    return json;
}

static json_t *make_layers(const struct draft *draft, const struct coverage *covered)
{
    json_t *json = json_array();
    for (int layer = covered->first_layer; layer < draft->model->config.n_layer; layer++)
        json_append(&json, json_integer(layer));
    return json;
}

static bool is_whole(const struct draft *draft, int slot, int layer)
{
    for (int i = 0; i < draft->n_modules; i++) {
        const struct draft_module *m = &draft->modules[i];
        if (m->whole && m->slot == slot && m->layer == layer)
            return true;
    }
    return false;
}

/* Short names where all modules of the name are held whole. null: none is. */
static json_t *make_saved(const struct draft *draft)
{
    char name[MODULE_NAME_SIZE];
    json_t *json = json_array();
    for (int slot = 0; slot < SLOT_LINEAR; slot++) {
        const int n = slot < SLOT_ATTN_NORM ? 1 : draft->model->config.n_layer;
        int found = 0;
        for (int layer = 0; layer < n; layer++)
            found += is_whole(draft, slot, layer);
        if (found == n && slot_short_name(draft->model, slot, name))
            json_append(&json, json_string(name));
        for (int i = 0; i < draft->n_modules && found < n; i++)
            if (draft->modules[i].whole && draft->modules[i].slot == slot &&
                draft_name(draft, i, NAMING_HF, name))
                json_append(&json, json_string(name));
    }
    if (json && json_array_size(json))
        return json;
    json_decref(json);
    return json ? json_null() : NULL;
}

static json_t *make_config(const struct draft *draft)
{
    const double rank = most_common(draft, rank_of), alpha = most_common(draft, alpha_of);
    const bool classifier = draft->model->config.n_labels > 0;
    struct coverage covered;
    draft_coverage(draft, &covered);
    const bool last = covered.regular && covered.first_layer > 0 &&
                      covered.first_layer < draft->model->config.n_layer;
    json_t *json = json_object();
    json_put(&json, "peft_type", json_string(draft->blocks ? "GRAFT_LORA" : "LORA"));
    json_put(&json, "task_type", json_string(classifier ? "SEQ_CLS" : "CAUSAL_LM"));
    json_put(&json, "base_model_name_or_path", json_string(draft->base));
    json_put(&json, "inference_mode", json_boolean(draft->inference));
    json_put(&json, "r", json_number_of(rank));
    json_put(&json, "lora_alpha", json_number_of(alpha));
    json_put(&json, "lora_dropout", json_number_of(draft->dropout));
    json_put(&json, "target_modules", make_targets(draft, &covered, last));
    json_put(&json, "rank_pattern", make_pattern(draft, rank_of, rank));
    json_put(&json, "alpha_pattern", make_pattern(draft, alpha_of, alpha));
    json_put(&json, "use_rslora", json_boolean(draft->rslora));
    json_put(&json, "use_dora", json_boolean(draft_is_dora(draft)));
    if (draft_is_biased(draft)) /* unknown to older versions */
        json_put(&json, "lora_bias", json_true());
    json_put(&json, "bias", json_string("none"));
    json_put(&json, "fan_in_fan_out", json_false());
    json_put(&json, "init_lora_weights", json_true());
    json_put(&json, "modules_to_save", make_saved(draft));
    json_put(&json, "layers_to_transform", last ? make_layers(draft, &covered) : json_null());
    json_put(&json, "layers_pattern", json_null());
    return json;
}

static const graft_type BF16 = GRAFT_TYPE_BF16;

static void add_part(struct pieces *pieces, const struct draft *draft, int i, enum part part,
                     const char *end)
{
    const struct draft_module *m = &draft->modules[i];
    struct piece p = {.module = i, .part = part, .rank = m->rank, .factor = 1};
    char name[MODULE_NAME_SIZE], block_end[32];
    int64_t width = part == PART_A ? m->n_in : m->n_out;
    bool factor = part == PART_A || part == PART_B;
    if (draft->blocks && factor && width % type_traits(*draft->blocks)->block_values) {
        p.own_type = &BF16;
    } else if (draft->blocks && factor) {
        snprintf(block_end, sizeof block_end, "lora_%s.%s", part == PART_A ? "A" : "B_transposed",
                 *draft->blocks == GRAFT_TYPE_Q8_0 ? "q8_0" : "q4_0");
        end = block_end;
        p.own_type = draft->blocks;
        p.turned = part == PART_B;
    }
    (void)draft_name(draft, i, NAMING_HF, name);
    snprintf(p.name, sizeof p.name, "base_model.model.%s.%s", name, end);
    pieces_add(pieces, draft, &p);
}

graft_status write_peft(const struct draft *draft, const char *out,
                        const struct save_options *options, graft_error *error)
{
    struct pieces pieces = {0};
    graft_status status = pieces_open(&pieces, draft, options, error);
    if (status != GRAFT_OK)
        return status;
    for (int i = 0; i < draft->n_modules; i++) {
        const bool embedding = draft->modules[i].slot == SLOT_EMBED;
        if (draft->modules[i].whole) {
            add_part(&pieces, draft, i, PART_WEIGHT, "weight");
            continue;
        }
        add_part(&pieces, draft, i, PART_A, embedding ? "lora_embedding_A" : "lora_A.weight");
        add_part(&pieces, draft, i, PART_B, embedding ? "lora_embedding_B" : "lora_B.weight");
        if (draft->modules[i].dora)
            add_part(&pieces, draft, i, PART_MAGNITUDE, "lora_magnitude_vector");
        if (draft->modules[i].biased)
            add_part(&pieces, draft, i, PART_LORA_BIAS, "lora_B.bias");
    }
    pieces_settle(&pieces, options);
    const struct folder_plan plan = {"adapter_model.safetensors", "pt", make_config(draft)};
    status = write_folder(draft, &pieces, out, &plan, error);
    pieces_free(&pieces);
    return status;
}
