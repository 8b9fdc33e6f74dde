/* mix.c: adapters with weights, as one value: references to the adapters, the list that the forward pass reads,
 * and a digest by which equal mixes know each other.
 */
#include "adapter/adapter_internal.h"

#include <math.h>

struct mix {
    atomic_int references;
    struct mem *mem;
    const struct delta_set *deltas; /* NULL: nothing to apply */
    struct delta_set *own;          /* the same, unless they are those of an adapter alone */
    uint8_t digest[32];
    int n_parts;
    struct mix_part parts[];
};

/* The common case: a swap is then a pointer, and a digest that is there. */
static bool is_alone(const struct mix *mix)
{
    return mix->n_parts == 1 && mix->parts[0].weight == 1;
}

graft_status mix_digest_alone(struct adapter *adapter, graft_error *error)
{
    static const float ONE = 1;
    uint8_t bytes[sizeof adapter->info.digest + sizeof ONE];
    memcpy(bytes, adapter->info.digest, sizeof adapter->info.digest);
    memcpy(bytes + sizeof adapter->info.digest, &ONE, sizeof ONE);
    return sha256(bytes, sizeof bytes, adapter->alone_digest, error);
}

static graft_status make_digest(struct mix *mix, graft_error *error)
{
    struct buf all;
    graft_status status = GRAFT_OK;
    if (is_alone(mix)) {
        memcpy(mix->digest, mix->parts[0].adapter->alone_digest, sizeof mix->digest);
        return GRAFT_OK;
    }
    buf_init(&all, mix->mem, SIZE_MAX);
    for (int i = 0; i < mix->n_parts; i++)
        if (mix->parts[i].weight != 0) {
            buf_append(&all, adapter_info(mix->parts[i].adapter)->digest, 32);
            buf_append(&all, &mix->parts[i].weight, sizeof(float));
        }
    if (all.status != GRAFT_OK)
        status = error_set(error, GRAFT_NO_MEMORY, "no memory for a mix");
    else if (all.size)
        status = sha256(all.data, all.size, mix->digest, error);
    buf_free(&all);
    return status;
}

static graft_status make_deltas(struct mix *mix, const struct model *model, graft_error *error)
{
    int n = 0;
    if (is_alone(mix)) {
        mix->deltas = mix->parts[0].adapter->alone;
        return GRAFT_OK;
    }
    struct delta_member *members = mem_calloc(mix->mem, (size_t)mix->n_parts + 1, sizeof *members);
    if (!members)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a mix");
    for (int i = 0; i < mix->n_parts; i++)
        if (mix->parts[i].weight != 0)
            members[n++] = adapter_member(mix->parts[i].adapter, mix->parts[i].weight);
    graft_status status = n ? delta_set_open(model, members, n, &mix->own, error) : GRAFT_OK;
    mix->deltas = mix->own;
    mem_free(mix->mem, members);
    return status;
}

graft_status mix_make(const struct model *model, const struct mix_part *parts, int n_parts,
                      struct mix **out, graft_error *error)
{
    struct mem *mem = &model->runtime->mem;
    for (int i = 0; i < n_parts; i++) {
        if (!isfinite(parts[i].weight))
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "the weight of adapter %d is not finite", i);
        if (parts[i].adapter->model != model)
            return error_set(error, GRAFT_INVALID_ARGUMENT, "adapter %d is open on another model",
                             i);
    }
    struct mix *mix = mem_calloc(mem, 1, sizeof *mix + (size_t)n_parts * sizeof *parts);
    if (!mix)
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a mix of %d adapters", n_parts);
    mix->mem = mem;
    atomic_init(&mix->references, 1);
    for (; mix->n_parts < n_parts; mix->n_parts++) {
        mix->parts[mix->n_parts] = parts[mix->n_parts];
        adapter_acquire(parts[mix->n_parts].adapter);
    }
    graft_status status = make_digest(mix, error);
    if (status == GRAFT_OK)
        status = make_deltas(mix, model, error);
    if (status != GRAFT_OK)
        mix_release(&mix);
    else
        *out = mix;
    return status;
}

struct mix *mix_acquire(struct mix *mix)
{
    if (mix)
        atomic_fetch_add_explicit(&mix->references, 1, memory_order_relaxed);
    return mix;
}

void mix_release(struct mix **mix)
{
    struct mix *m = *mix;
    *mix = NULL;
    if (!m || atomic_fetch_sub_explicit(&m->references, 1, memory_order_acq_rel) != 1)
        return;
    delta_set_close(&m->own);
    for (int i = 0; i < m->n_parts; i++)
        adapter_release(&m->parts[i].adapter);
    mem_free(m->mem, m);
}

const struct mix_part *mix_parts(const struct mix *mix, int *n)
{
    *n = mix ? mix->n_parts : 0;
    return mix ? mix->parts : NULL;
}

const struct delta_set *mix_deltas(const struct mix *mix)
{
    return mix ? mix->deltas : NULL;
}

const uint8_t *mix_digest(const struct mix *mix)
{
    static const uint8_t BASE[32];
    return mix ? mix->digest : BASE;
}
