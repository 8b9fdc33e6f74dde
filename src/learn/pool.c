/* pool.c: learners made once and used again and again, by one tenant after the other.
 *
 * A learner is made new when it comes back, not when it is handed out: whoever waits for one waits for nothing, and what a
 * tenant said is not kept for longer than he has it. All of it goes: values begin as the adapter's, of which the pool has one
 * copy, everything else is zeros or what it was after opening. The memory stays; what grows with feedback (answers,
 * names of sessions) is wiped and freed. The held-out examples are read and measured once, for all.
 */
#include "learn/learn_internal.h"

#include <pthread.h>

enum place { PLACE_OUT, PLACE_COMING_BACK, PLACE_IDLE };

struct learner_pool {
    struct mem *mem;
    int n;
    struct learner **all;       /* [n], of the first the held-out examples */
    struct learner_state start; /* of each */
    float *values;              /* [n_values] likewise */
    pthread_mutex_t lock;       /* of: */
    enum place *places;         /* [n] */
    int *idle; /* [n] of which n_idle are there, the last one goes first: its memory is warm */
    int n_idle;
};

static graft_status no_memory(graft_error *error)
{
    return error_set(error, GRAFT_NO_MEMORY, "no memory for a pool of learners");
}

/* ---- new again ------------------------------------------------------------------------------ */

static size_t value_bytes(const struct learner *l)
{
    return (size_t)l->trainable->n_values * sizeof(float);
}

static graft_status make_new(const struct learner_pool *p, struct learner *l, graft_error *error)
{
    const size_t bytes = value_bytes(l);
    learner_empty_buffer(l);
    learner_listen(l, NULL, NULL);
    str_map_free(&l->sessions);
    str_map_init(&l->sessions, l->mem);
    arena_wipe(&l->names);
    arena_free(&l->names);
    memcpy(l->trainable->values, p->values, bytes);
    mem_wipe(l->trainable->grads, bytes);
    mem_wipe(l->kept.values, bytes);
    mem_wipe(l->kept.m, bytes);
    mem_wipe(l->kept.v, bytes);
    l->kept.steps = 0;
    optimiser_reset(&l->optimiser);
    data_batch_wipe(&l->batch);
    l->state = p->start;
    l->done = l->total = 0;
    return train_tape_wipe(l->tape, error);
}

/* ---- open ----------------------------------------------------------------------------------- */

/* What all of them begin as. */
static graft_status note_start(struct learner_pool *p, graft_error *error)
{
    const struct learner *first = p->all[0];
    p->start = first->state;
    p->values = mem_calloc(p->mem, 1, value_bytes(first));
    if (!p->values)
        return no_memory(error);
    memcpy(p->values, first->trainable->values, value_bytes(first));
    return GRAFT_OK;
}

static graft_status check_alike(const struct learner_pool *p, const struct learner *l,
                                graft_error *error)
{
    if (value_bytes(l) == value_bytes(p->all[0]) &&
        !memcmp(l->trainable->values, p->values, value_bytes(l)))
        return GRAFT_OK;
    return error_set(error, GRAFT_STATE, "the adapter changed while the pool was opened");
}

static graft_status open_all(struct learner_pool *p, const struct model *model, const char *path,
                             const struct learner_options *options, graft_error *error)
{
    const size_t n = (size_t)p->n;
    p->all = mem_calloc(p->mem, n, sizeof *p->all);
    p->places = mem_calloc(p->mem, n, sizeof *p->places);
    p->idle = mem_calloc(p->mem, n, sizeof *p->idle);
    graft_status status = p->all && p->places && p->idle ? GRAFT_OK : no_memory(error);
    for (int i = 0; i < p->n && status == GRAFT_OK; i++) {
        status = learner_make(model, path, options, p->all[0], &p->all[i], error);
        if (status == GRAFT_OK && i == 0)
            status = note_start(p, error);
        if (status == GRAFT_OK)
            status = check_alike(p, p->all[i], error);
        if (status == GRAFT_OK) /* of the first one the measure left something */
            status = make_new(p, p->all[i], error);
        p->places[i] = PLACE_IDLE;
        p->idle[p->n - 1 - i] = i;
    }
    p->n_idle = p->n;
    return status;
}

graft_status learner_pool_open(const struct model *model, const char *path,
                               const struct learner_options *options, int n,
                               struct learner_pool **out, graft_error *error)
{
    struct mem *mem = &model->runtime->mem;
    if (n < 1 || n > LEARNER_POOL_MOST)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "a pool of %d learners; it must be 1 to %d",
                         n, LEARNER_POOL_MOST);
    struct learner_pool *p = mem_calloc(mem, 1, sizeof *p);
    if (!p)
        return no_memory(error);
    p->mem = mem;
    p->n = n;
    pthread_mutex_init(&p->lock, NULL);
    graft_status status = open_all(p, model, path, options, error);
    if (status == GRAFT_OK)
        *out = p;
    else
        learner_pool_close(&p);
    return status;
}

void learner_pool_close(struct learner_pool **pool)
{
    struct learner_pool *p = *pool;
    if (!p)
        return;
    for (int i = p->all ? p->n : 0;
         i-- > 0;) /* the first one, whose examples they all have, last */
        learner_close(&p->all[i]);
    mem_free(p->mem, p->all);
    mem_free(p->mem, p->places);
    mem_free(p->mem, p->idle);
    mem_free(p->mem, p->values);
    pthread_mutex_destroy(&p->lock);
    mem_free(p->mem, p);
    *pool = NULL;
}

/* ---- out and back --------------------------------------------------------------------------- */

graft_status learner_pool_acquire(struct learner_pool *p, int *number, graft_error *error)
{
    int found = -1;
    pthread_mutex_lock(&p->lock);
    if (p->n_idle) {
        found = p->idle[--p->n_idle];
        p->places[found] = PLACE_OUT;
    }
    pthread_mutex_unlock(&p->lock);
    if (found < 0)
        return error_set(error, GRAFT_STATE,
                         "all %d learners of the pool are in use: release one, or open a larger "
                         "pool",
                         p->n);
    *number = found;
    return GRAFT_OK;
}

struct learner *learner_pool_at(struct learner_pool *p, int number)
{
    return p->all[number];
}

static bool take_back(struct learner_pool *p, int number)
{
    pthread_mutex_lock(&p->lock);
    const bool out = number >= 0 && number < p->n && p->places[number] == PLACE_OUT;
    if (out)
        p->places[number] = PLACE_COMING_BACK;
    pthread_mutex_unlock(&p->lock);
    return out;
}

/* One that could not be made new is never handed out again. */
graft_status learner_pool_release(struct learner_pool *p, int number, graft_error *error)
{
    if (!take_back(p, number))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "this learner is not one of the pool's that are in use");
    graft_status status = make_new(p, p->all[number], error);
    if (status != GRAFT_OK)
        return status;
    pthread_mutex_lock(&p->lock);
    p->places[number] = PLACE_IDLE;
    p->idle[p->n_idle++] = number;
    pthread_mutex_unlock(&p->lock);
    return GRAFT_OK;
}

int learner_pool_idle(struct learner_pool *p)
{
    pthread_mutex_lock(&p->lock);
    const int n = p->n_idle;
    pthread_mutex_unlock(&p->lock);
    return n;
}

size_t learner_pool_bytes(const struct learner_pool *p)
{
    const struct learner *l = p->all[0];
    enum { COPIES = 7 }; /* values, gradients and moments; what a buffer is taken back to */
    return COPIES * value_bytes(l) + train_tape_bytes(l->tape);
}
