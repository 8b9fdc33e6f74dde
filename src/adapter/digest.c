/* digest.c: the SHA-256 of what an adapter holds, by which equal adapters and mixes know each other. Modules are
 * hashed by all workers, and their digests in the order of the adapter's lists.
 */
#include "adapter/adapter_internal.h"

enum { PIECES = 5 };

/* What a module's digest is made from. */
struct record {
    int64_t place, rank, types;
    float scale;
    uint32_t has; /* bit 1 << i: pieces[i] */
    uint8_t pieces[PIECES][32];
};

struct piece {
    const void *bytes;
    size_t size;
};

struct digests {
    struct adapter *adapter;
    atomic_int next, failed;
};

static bool hash_record(struct record *r, const struct piece *pieces, size_t n, uint8_t out[32])
{
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++)
        if (pieces[i].bytes) {
            r->has |= 1u << i;
            ok = sha256(pieces[i].bytes, pieces[i].size, r->pieces[i], NULL) == GRAFT_OK;
        }
    return ok && sha256(r, sizeof *r, out, NULL) == GRAFT_OK;
}

static size_t matrix_bytes(const struct matrix *m)
{
    return (size_t)m->n_out * m->row_bytes;
}

static bool hash_build(struct build *b)
{
    const struct lowrank *l = &b->lowrank;
    const struct piece pieces[PIECES] = {{l->a.data, matrix_bytes(&l->a)},
                                         {l->b.data, matrix_bytes(&l->b)},
                                         {l->gain, (size_t)b->n_out * sizeof(float)},
                                         {l->bias, (size_t)b->n_out * sizeof(float)},
                                         {b->token_gain, (size_t)b->n_in * sizeof(float)}};
    struct record r;
    memset(&r, 0, sizeof r); /* padding counts, too */
    r.place = b->site;
    r.rank = b->rank;
    r.types = (int64_t)b->a << 8 | (int64_t)b->b;
    r.scale = l->scale;
    return hash_record(&r, pieces, PIECES, b->digest);
}

static bool hash_saved(struct saved *s)
{
    const struct piece piece = {s->matrix.data, matrix_bytes(&s->matrix)};
    struct record r;
    memset(&r, 0, sizeof r);
    r.place = s->norm;
    r.types = (int64_t)s->matrix.type << 2 | (s->embed ? 1 : 0) | (s->head ? 2 : 0);
    return hash_record(&r, &piece, 1, s->digest);
}

static void digest_work(void *context, int worker, int n_workers)
{
    struct digests *d = context;
    struct adapter *a = d->adapter;
    (void)worker;
    (void)n_workers;
    for (int i; (i = atomic_fetch_add(&d->next, 1)) < a->n_builds + a->n_saved;)
        if (!(i < a->n_builds ? hash_build(&a->builds[i]) : hash_saved(&a->saved[i - a->n_builds])))
            atomic_store(&d->failed, 1);
}

graft_status digest_adapter(struct adapter *adapter, graft_error *error)
{
    struct digests d = {.adapter = adapter};
    struct buf all;
    graft_status status;
    pool_run(adapter->model->runtime->pool, digest_work, &d);
    buf_init(&all, adapter->mem, SIZE_MAX);
    for (int i = 0; i < adapter->n_builds; i++)
        buf_append(&all, adapter->builds[i].digest, sizeof adapter->builds[i].digest);
    for (int i = 0; i < adapter->n_saved; i++)
        buf_append(&all, adapter->saved[i].digest, sizeof adapter->saved[i].digest);
    if (atomic_load(&d.failed) || all.status != GRAFT_OK)
        status = error_set(error, GRAFT_NO_MEMORY, "no memory to hash an adapter");
    else
        status = sha256(all.data, all.size, adapter->info.digest, error);
    buf_free(&all);
    return status;
}
