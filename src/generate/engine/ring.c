/* ring.c: records between the engine's thread and whoever reads a stream.
 *
 * A lock that nobody else wants costs less than waking somebody does, so the ring has a plain one, and whoever writes says
 * when its reader is to be woken: only if it sleeps, a poller only if the ring was empty when it was last told. A writer that
 * found it full is told when half of it is free, not at each record.
 */
#include "generate/engine/ring.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

graft_status ring_open(struct ring *r, struct mem *mem, size_t capacity, graft_error *error)
{
    *r = (struct ring){.mem = mem, .capacity = capacity, .descriptor = -1};
    r->slots = mem_calloc(mem, capacity, sizeof *r->slots);
    if (r->slots == NULL) {
        *r = (struct ring){0};
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a stream of %zu records", capacity);
    }
    pthread_mutex_init(&r->lock, NULL); /* neither can fail on Linux with default attributes */
    pthread_cond_init(&r->filled, NULL);
    return GRAFT_OK;
}

void ring_close(struct ring *r)
{
    if (r->slots == NULL) {
        return;
    }
    for (; r->count > 0; r->count--) {
        mem_free(r->mem, r->slots[r->first].large);
        r->first = (r->first + 1) % r->capacity;
    }
    mem_free(r->mem, r->current.large);
    mem_free(r->mem, r->last.large);
    mem_free(r->mem, r->slots);
    if (r->descriptor >= 0) {
        close(r->descriptor);
    }
    pthread_cond_destroy(&r->filled);
    pthread_mutex_destroy(&r->lock);
    *r = (struct ring){0};
}

/* ---- records ---- */

static bool record_set(struct mem *mem, struct record *record, const graft_token *token)
{
    char *text = record->small;
    record->token = *token;
    record->large = NULL;
    if (token->text_size >= sizeof record->small || token->n_top > 0) {
        size_t bytes = token->n_top * sizeof *token->top;
        record->large = mem_alloc(mem, bytes + token->text_size + 1);
        if (record->large == NULL) {
            return false;
        }
        if (bytes > 0) {
            memcpy(record->large, token->top, bytes);
        }
        text = (char *)record->large + bytes;
    }
    memcpy(text, token->text, token->text_size);
    text[token->text_size] = '\0';
    return true;
}

static const char *text_of(const struct record *record)
{
    return record->large != NULL ? (const char *)(record->large + record->token.n_top)
                                 : record->small;
}

/* Moves a record to where its text stays until the next one, and hands it out. */
static void hand_out(struct ring *r, const struct record *record, graft_token *out)
{
    mem_free(r->mem, r->current.large);
    r->current = *record;
    *out = r->current.token;
    out->text = text_of(&r->current);
    out->top = out->n_top > 0 ? r->current.large : NULL;
}

/* ---- the writer ---- */

bool ring_has_room(struct ring *r)
{
    pthread_mutex_lock(&r->lock);
    bool room = r->count < r->capacity;
    r->writer_waits = !room;
    pthread_mutex_unlock(&r->lock);
    return room;
}

/* Who is to be woken once the lock is free: with it held they would run into it and sleep again. */
struct call {
    bool reader;
    int descriptor; /* -1: none */
};

static struct call tell(struct ring *r)
{
    r->untold = false;
    return (struct call){r->reader_waits, r->descriptor};
}

/* A descriptor is readable while its counter is not 0; a counter can only be full, which is as good. */
static void make_call(struct ring *r, struct call call)
{
    if (call.reader) {
        pthread_cond_signal(&r->filled);
    }
    if (call.descriptor >= 0) {
        (void)!write(call.descriptor, &(uint64_t){1}, sizeof(uint64_t));
    }
}

bool ring_put(struct ring *r, const graft_token *token)
{
    struct record record;
    struct call call = {.descriptor = -1};
    if (!record_set(r->mem, &record, token)) {
        return false;
    }
    pthread_mutex_lock(&r->lock);
    r->slots[(r->first + r->count++) % r->capacity] = record;
    r->untold = r->untold || r->count == 1;
    if (r->untold && 2 * r->count >= r->capacity) {
        call = tell(r);
    }
    pthread_mutex_unlock(&r->lock);
    make_call(r, call);
    return true;
}

void ring_tell(struct ring *r)
{
    struct call call = {.descriptor = -1};
    pthread_mutex_lock(&r->lock);
    if (r->untold) {
        call = tell(r);
    }
    pthread_mutex_unlock(&r->lock);
    make_call(r, call);
}

void ring_end(struct ring *r, graft_finish finish, const graft_token *last,
              const graft_error *failure)
{
    static const graft_token EMPTY = {.id = -1, .text = ""};
    struct record record;
    if (last == NULL || !record_set(r->mem, &record, last)) {
        record_set(r->mem, &record, &EMPTY);
    }
    pthread_mutex_lock(&r->lock);
    r->last = record;
    r->finish = finish;
    if (failure != NULL) {
        r->failure = *failure;
    }
    r->over = true;
    struct call call = tell(r);
    pthread_mutex_unlock(&r->lock);
    make_call(r, call);
}

/* ---- the reader ---- */

/* With nothing to take: also where the writer came to make its call after all was taken. */
static void reset_descriptor(struct ring *r)
{
    if (r->descriptor >= 0) {
        (void)!read(r->descriptor, &(uint64_t){0}, sizeof(uint64_t));
    }
}

/* The end's record comes once, with its text; afterwards empty. */
static graft_status take_end(struct ring *r, graft_token *out, graft_error *error)
{
    if (!r->end_given) {
        hand_out(r, &r->last, out);
        r->last = (struct record){0};
        r->end_given = true;
    } else {
        *out = (graft_token){.id = -1, .text = ""};
    }
    if (r->failure.status != GRAFT_OK && error != NULL) {
        *error = r->failure;
    }
    return r->failure.status != GRAFT_OK ? r->failure.status : GRAFT_END;
}

graft_status ring_take(struct ring *r, bool wait, graft_token *out, bool *wake, graft_error *error)
{
    graft_status status = GRAFT_OK;
    *wake = false;
    pthread_mutex_lock(&r->lock);
    while (wait && r->count == 0 && !r->over) {
        r->reader_waits = true;
        pthread_cond_wait(&r->filled, &r->lock);
        r->reader_waits = false;
    }
    if (r->count > 0) {
        hand_out(r, &r->slots[r->first], out);
        r->first = (r->first + 1) % r->capacity;
        r->count--;
        r->untold = r->untold && r->count > 0;
        if (r->count == 0 && !r->over) {
            reset_descriptor(r);
        }
        *wake = r->writer_waits && r->count <= r->capacity / 2;
        r->writer_waits = r->writer_waits && !*wake;
    } else if (r->over) {
        status = take_end(r, out, error);
    } else {
        reset_descriptor(r);
        status = GRAFT_BUSY;
    }
    pthread_mutex_unlock(&r->lock);
    return status;
}

graft_status ring_descriptor(struct ring *r, int *out, graft_error *error)
{
    graft_status status = GRAFT_OK;
    pthread_mutex_lock(&r->lock);
    if (r->descriptor < 0) {
        r->descriptor = eventfd(r->count > 0 || r->over ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (r->descriptor < 0) {
            status = error_set(error, GRAFT_LIMIT, "the system has no descriptor left: %s",
                               strerror(errno));
        }
    }
    *out = r->descriptor >= 0 ? r->descriptor : *out;
    pthread_mutex_unlock(&r->lock);
    return status;
}
