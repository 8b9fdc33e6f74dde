/* recipe.c: the quantisation recipes: which type each tensor of a model gets.
 *
 * The names and their mixtures are the field's (llama.cpp's): the "_m" recipes give more bits to the
 * value and down projections of the layers where errors cost most, and to the head.
 */
#include "convert_internal.h"

#include <strings.h>

/* Layers that a recipe treats better. */
enum when { NEVER, ALWAYS, SOME, FIRST_TWO, FIRST_FOUR, FIRST_EIGHTH, FIRST_SIXTEENTH };

struct bump {
    enum when when;
    graft_type type;
};

struct recipe {
    const char *name;
    graft_type base;
    graft_type head;              /* of the head, and of an embedding that is the head too */
    struct bump v[2], down[2], o; /* the first that applies; else base */
    uint32_t file_type;
};

#define T(x) GRAFT_TYPE_##x
static const struct recipe RECIPES[] = {
    {"f32", T(F32), T(F32), {{0}}, {{0}}, {0}, 0},
    {"f16", T(F16), T(F16), {{0}}, {{0}}, {0}, 1},
    {"bf16", T(BF16), T(BF16), {{0}}, {{0}}, {0}, 32},
    {"q8_0", T(Q8_0), T(Q8_0), {{0}}, {{0}}, {0}, 7},
    {"q4_0", T(Q4_0), T(Q6_K), {{0}}, {{0}}, {0}, 2},
    {"q4_1", T(Q4_1), T(Q6_K), {{0}}, {{0}}, {0}, 3},
    {"q5_0", T(Q5_0), T(Q6_K), {{0}}, {{0}}, {0}, 8},
    {"q5_1", T(Q5_1), T(Q6_K), {{0}}, {{0}}, {0}, 9},
    {"q2_k", T(Q2_K), T(Q6_K), {{ALWAYS, T(Q3_K)}}, {{ALWAYS, T(Q3_K)}}, {ALWAYS, T(Q3_K)}, 10},
    {"q3_k_s", T(Q3_K), T(Q6_K), {{0}}, {{0}}, {0}, 11},
    {"q3_k_m",
     T(Q3_K),
     T(Q6_K),
     {{FIRST_TWO, T(Q5_K)}, {ALWAYS, T(Q4_K)}},
     {{FIRST_SIXTEENTH, T(Q5_K)}, {ALWAYS, T(Q4_K)}},
     {ALWAYS, T(Q4_K)},
     12},
    {"q4_k_s", T(Q4_K), T(Q6_K), {{FIRST_FOUR, T(Q5_K)}}, {{FIRST_EIGHTH, T(Q5_K)}}, {0}, 14},
    {"q4_k_m", T(Q4_K), T(Q6_K), {{SOME, T(Q6_K)}}, {{SOME, T(Q6_K)}}, {0}, 15},
    {"q5_k_s", T(Q5_K), T(Q6_K), {{0}}, {{0}}, {0}, 16},
    {"q5_k_m", T(Q5_K), T(Q6_K), {{SOME, T(Q6_K)}}, {{SOME, T(Q6_K)}}, {0}, 17},
    {"q6_k", T(Q6_K), T(Q6_K), {{0}}, {{0}}, {0}, 18},
};

const struct recipe *recipe_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(RECIPES); i++)
        if (!strcasecmp(RECIPES[i].name, name))
            return &RECIPES[i];
    /* People drop the "_m". */
    for (size_t i = 0; i < ARRAY_LEN(RECIPES); i++)
        if (!strncasecmp(RECIPES[i].name, name, strlen(name)) &&
            !strcmp(RECIPES[i].name + strlen(name), "_m"))
            return &RECIPES[i];
    return NULL;
}

const struct recipe *recipe_find_mlx(const char *name)
{
    static const struct recipe mlx[] = {
        {"mlx4", T(MLX4), T(MLX4), {{0}}, {{0}}, {0}, 0},
        {"mlx8", T(MLX8), T(MLX8), {{0}}, {{0}}, {0}, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(mlx); i++)
        if (!strcasecmp(mlx[i].name, name))
            return &mlx[i];
    return NULL;
}

void recipe_list(char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(RECIPES); i++) {
        int n = snprintf(out + used, size - used, "%s%s", i ? ", " : "", RECIPES[i].name);
        if (n < 0 || (size_t)n >= size - used)
            return;
        used += (size_t)n;
    }
}

graft_type recipe_base(const struct recipe *recipe)
{
    return recipe->base;
}

bool recipe_is_plain(const struct recipe *recipe)
{
    return type_traits(recipe->base)->block_values == 1;
}

uint32_t recipe_file_type(const struct recipe *recipe)
{
    return recipe->file_type;
}

static bool applies(enum when when, int layer, int n)
{
    switch (when) {
    case NEVER:
        return false;
    case ALWAYS:
        return true;
    case SOME: /* both ends, and every third between */
        return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
    case FIRST_TWO:
        return layer < 2;
    case FIRST_FOUR:
        return layer < 4;
    case FIRST_EIGHTH:
        return layer < n / 8;
    case FIRST_SIXTEENTH:
        return layer < n / 16;
    }
    return false;
}

static graft_type bumped(const struct recipe *r, const struct bump *bumps, size_t n, int layer,
                         int n_layer)
{
    for (size_t i = 0; i < n; i++)
        if (applies(bumps[i].when, layer, n_layer))
            return bumps[i].type;
    return r->base;
}

/* What a row of n_in values can hold in place of `type`. */
static graft_type fit(graft_type type, int64_t n_in)
{
    if (type == GRAFT_TYPE_MLX4 || type == GRAFT_TYPE_MLX8)
        return n_in % MLX_GROUP == 0 ? type : GRAFT_TYPE_F16;
    if (n_in % type_traits(type)->block_values == 0)
        return type;
    if (n_in % 32 != 0)
        return GRAFT_TYPE_F16;
    switch (type) {
    case GRAFT_TYPE_Q2_K:
    case GRAFT_TYPE_Q3_K:
        return GRAFT_TYPE_Q4_0;
    case GRAFT_TYPE_Q4_K:
        return GRAFT_TYPE_Q5_0;
    case GRAFT_TYPE_Q5_K:
        return GRAFT_TYPE_Q5_1;
    default:
        return GRAFT_TYPE_Q8_0;
    }
}

graft_type recipe_type(const struct recipe *r, const struct config *config, int slot, int layer,
                       int64_t n_in)
{
    int n = config->n_layer;
    graft_type type = r->base;
    if (slot == SLOT_HEAD || (slot == SLOT_EMBED && config->tied))
        type = r->head;
    else if (slot == SLOT_LINEAR + LINEAR_V)
        type = bumped(r, r->v, ARRAY_LEN(r->v), layer, n);
    else if (slot == SLOT_LINEAR + LINEAR_DOWN)
        type = bumped(r, r->down, ARRAY_LEN(r->down), layer, n);
    else if (slot == SLOT_LINEAR + LINEAR_O)
        type = bumped(r, &r->o, 1, layer, n);
    return fit(type, n_in);
}
