/* to_mlx.c: drafts as directories of mlx-lm.
 *
 * There is one rank and one scale for all modules: ranks are filled up with zeros to the largest, and what a
 * module's scale differs by goes into its B. Which modules there are is always written out, since tools disagree
 * on the defaults.
 */
#include "adapter/save/save_internal.h"

graft_status mlx_check(const struct draft *draft, graft_error *error)
{
    for (int i = 0; i < draft->n_modules; i++) {
        const struct draft_module *m = &draft->modules[i];
        char name[MODULE_NAME_SIZE];
        (void)draft_name(draft, i, NAMING_HF, name);
        if (m->whole)
            return error_set(error, GRAFT_UNSUPPORTED,
                             "%s is saved whole, which an MLX adapter cannot hold beside factors: "
                             "keep it as PEFT, or fuse it into the model",
                             name);
        if (m->slot == SLOT_EMBED && (m->dora || draft->model->config.tied))
            return error_set(error, GRAFT_UNSUPPORTED,
                             "%s has %s, which means something else to MLX: keep it as PEFT, or "
                             "fuse it into the model",
                             name,
                             m->dora ? "magnitudes of an embedding"
                                     : "factors of an embedding that is also the head");
        if (m->biased)
            return error_set(error, GRAFT_UNSUPPORTED,
                             "%s has a bias of B (lora_bias), which MLX cannot hold: keep it as "
                             "PEFT, or fuse it into the model",
                             name);
        if (m->slot == SLOT_HEAD && draft->model->config.tied)
            return error_set(error, GRAFT_UNSUPPORTED,
                             "the base ties its head to the embedding, and MLX then has no %s: "
                             "keep it as PEFT, or fuse it into the model",
                             name);
    }
    return GRAFT_OK;
}

/* What B A of module i has to be multiplied by, when all have this scale. */
static double common_scale(const struct draft *draft)
{
    for (int i = 0; i < draft->n_modules; i++)
        if (draft->modules[i].scale != 0)
            return draft->modules[i].scale;
    return 1;
}

static int64_t largest_rank(const struct draft *draft)
{
    int64_t rank = 0;
    for (int i = 0; i < draft->n_modules; i++)
        rank = draft->modules[i].rank > rank ? draft->modules[i].rank : rank;
    return rank;
}

/* "self_attn.q_proj" of "model.layers.3.self_attn.q_proj". */
static const char *inside_block(const char *name)
{
    for (int dots = 0; dots < 3; dots++)
        name = strchr(name, '.') + 1;
    return name;
}

/* Names within a block where all blocks from one on have the same; whole names otherwise. */
static json_t *make_keys(const struct draft *draft, const struct coverage *covered)
{
    char name[MODULE_NAME_SIZE];
    json_t *json = json_array();
    for (int i = 0; i < draft->n_modules; i++) {
        const struct draft_module *m = &draft->modules[i];
        if (!draft_name(draft, i, NAMING_HF, name))
            continue;
        if (!covered->regular || m->slot < SLOT_LINEAR)
            json_append(&json, json_string(name));
        else if (m->layer == covered->first_layer)
            json_append(&json, json_string(inside_block(name)));
    }
    return json;
}

static json_t *make_config(const struct draft *draft)
{
    const int n_layer = draft->model->config.n_layer;
    struct coverage covered;
    draft_coverage(draft, &covered);
    bool last = covered.regular && covered.first_layer < n_layer;
    json_t *json = json_object(), *parameters = json_object();
    json_put(&parameters, "rank", json_integer(largest_rank(draft)));
    json_put(&parameters, "scale", json_number_of(common_scale(draft)));
    json_put(&parameters, "dropout", json_number_of(draft->dropout));
    json_put(&parameters, "keys", make_keys(draft, &covered));
    json_put(&json, "model", json_string(draft->base));
    json_put(&json, "fine_tune_type", json_string(draft_is_dora(draft) ? "dora" : "lora"));
    json_put(&json, "num_layers", json_integer(last ? n_layer - covered.first_layer : n_layer));
    json_put(&json, "lora_parameters", parameters);
    return json;
}

static void add_part(struct pieces *pieces, const struct draft *draft, int i, enum part part,
                     const char *end)
{
    const double scale = common_scale(draft), here = draft->modules[i].scale;
    struct piece p = {.module = i,
                      .part = part,
                      .rank = largest_rank(draft),
                      .factor = part == PART_B ? here / scale : 1,
                      .turned = part != PART_MAGNITUDE};
    char name[MODULE_NAME_SIZE];
    (void)draft_name(draft, i, NAMING_HF, name);
    snprintf(p.name, sizeof p.name, "%s.%s", name, end);
    pieces_add(pieces, draft, &p);
}

graft_status write_mlx(const struct draft *draft, const char *out,
                       const struct save_options *options, graft_error *error)
{
    struct pieces pieces = {0};
    graft_status status = mlx_check(draft, error);
    if (status == GRAFT_OK)
        status = pieces_open(&pieces, draft, options, error);
    if (status != GRAFT_OK)
        return status;
    for (int i = 0; i < draft->n_modules; i++) {
        add_part(&pieces, draft, i, PART_A, "lora_a");
        add_part(&pieces, draft, i, PART_B, "lora_b");
        if (draft->modules[i].dora)
            add_part(&pieces, draft, i, PART_MAGNITUDE, "m");
    }
    pieces_settle(&pieces, options);
    const struct folder_plan plan = {"adapters.safetensors", "mlx", make_config(draft)};
    status = write_folder(draft, &pieces, out, &plan, error);
    pieces_free(&pieces);
    return status;
}
