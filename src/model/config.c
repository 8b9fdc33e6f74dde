/* config.c: what holds for a configuration wherever it came from: defaults, bounds, relations.
 *
 * Files are untrusted: after config_check every size fits an int, products of sizes used in allocations
 * cannot overflow 64 bits, and heads divide as the kernels assume.
 */
#include "model/config_internal.h"

#include <math.h>

enum {
    MAX_LAYERS = 4096,
    MAX_WIDTH = 1 << 20, /* d_model, d_ff, n_head * d_head */
    MAX_HEADS = 1 << 14,
    MAX_D_HEAD = 1 << 12,
    MAX_VOCAB = 1 << 24,
    MAX_LABELS = 1 << 16,
    MAX_CTX = 1 << 30
};

void config_init(struct config *config)
{
    *config = (struct config){.norm_eps = 1e-6f, .bos = -1, .pad = -1};
    config->rope.theta = 10000.0;
    config->rope.beta_fast = 32.0;
    config->rope.beta_slow = 1.0;
}

static graft_status check_size(const char *what, int64_t value, int64_t max, graft_error *error)
{
    if (value >= 1 && value <= max)
        return GRAFT_OK;
    if (value == 0)
        return error_set(error, GRAFT_FORMAT, "the configuration does not say %s", what);
    return error_set(error, GRAFT_FORMAT, "%s is %lld; 1 to %lld are possible", what,
                     (long long)value, (long long)max);
}

static graft_status check_heads(const struct config *c, graft_error *error)
{
    if (c->n_head % c->n_kv)
        return error_set(error, GRAFT_FORMAT, "%d query heads cannot share %d key/value heads",
                         c->n_head, c->n_kv);
    if (c->d_head % 2)
        return error_set(error, GRAFT_FORMAT, "head width %d is odd: rotary embedding needs pairs",
                         c->d_head);
    if ((int64_t)c->n_head * c->d_head > MAX_WIDTH)
        return error_set(error, GRAFT_FORMAT, "%d heads of width %d are more than graft allows",
                         c->n_head, c->d_head);
    return GRAFT_OK;
}

graft_status config_check(struct config *c, struct arena *arena, graft_error *error)
{
    if (!c->n_kv)
        c->n_kv = c->n_head;
    if (!c->d_head && c->n_head > 0) {
        if (c->d_model % c->n_head)
            return error_set(error, GRAFT_FORMAT, "width %d does not divide into %d heads",
                             c->d_model, c->n_head);
        c->d_head = c->d_model / c->n_head;
    }
    const struct {
        const char *what;
        int64_t value, max;
    } sizes[] = {{"the number of layers", c->n_layer, MAX_LAYERS},
                 {"the model width", c->d_model, MAX_WIDTH},
                 {"the MLP width", c->d_ff, MAX_WIDTH},
                 {"the number of heads", c->n_head, MAX_HEADS},
                 {"the number of key/value heads", c->n_kv, MAX_HEADS},
                 {"the head width", c->d_head, MAX_D_HEAD},
                 {"the vocabulary size", c->n_vocab, MAX_VOCAB},
                 {"the context length", c->n_ctx, MAX_CTX}};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        graft_status status = check_size(sizes[i].what, sizes[i].value, sizes[i].max, error);
        if (status != GRAFT_OK)
            return status;
    }
    graft_status status = check_heads(c, error);
    if (status == GRAFT_OK && c->arch->score)
        status = check_size("the number of labels", c->n_labels, MAX_LABELS, error);
    if (status != GRAFT_OK)
        return status;
    if (!(c->norm_eps >= 0 && c->norm_eps < 1))
        return error_set(error, GRAFT_FORMAT, "RMSNorm epsilon %g is not in [0, 1)",
                         (double)c->norm_eps);
    c->windows = arena_alloc_packed(arena, (size_t)c->n_layer * sizeof(*c->windows));
    if (!c->windows)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for the configuration");
    memset(c->windows, 0, (size_t)c->n_layer * sizeof(*c->windows));
    return GRAFT_OK;
}
