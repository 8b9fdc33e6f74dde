/* schedule.c: who runs: turns between owners, room in the cache, and who gives way.
 *
 * Streams rank by priority, then by the rows that their owner had so far, then by arrival. Answers in progress have their row
 * in every step; prompts share what is left, in pieces. Blocks are taken as they are needed, not for the longest that an answer may
 * become: when there are none left, kept prefixes go first, then the stream of the lowest rank pauses. Its tokens
 * keep the roles and mixes they were computed with, so computing them again gives the same bits, and pausing cannot be seen in
 * what it says.
 */
#include "generate/engine/engine_internal.h"

static int64_t blocks_for(size_t tokens)
{
    return (int64_t)((tokens + KV_BLOCK - 1) / KV_BLOCK);
}

/* ---- turns ---- */

/* The turn of an owner. Who comes new begins where the least served one stands: time away is no credit. NULL: no memory. */
static struct turn *find_turn(struct graft_engine *e, uint64_t owner)
{
    double least = e->turns != NULL ? e->turns->rows : 0;
    for (struct turn *t = e->turns; t != NULL; t = t->next) {
        if (t->owner == owner) {
            return t;
        }
        least = t->rows < least ? t->rows : least;
    }
    struct turn *turn = mem_alloc(e->mem, sizeof *turn);
    if (turn != NULL) {
        *turn = (struct turn){.next = e->turns, .owner = owner, .rows = least};
        e->turns = turn;
    }
    return turn;
}

static void leave_turn(struct graft_engine *e, struct turn *turn)
{
    if (--turn->streams > 0) {
        return;
    }
    struct turn **link = &e->turns;
    while (*link != turn) {
        link = &(*link)->next;
    }
    *link = turn->next;
    mem_free(e->mem, turn);
}

void schedule_charge(const struct graft_stream *s, int rows)
{
    s->turn->rows += rows;
}

/* ---- the lists ---- */

bool schedule_enter(struct graft_engine *e, struct graft_stream *s)
{
    size_t most = e->n_queue + (size_t)e->n_running + 1; /* who runs may have to wait again */
    if (most > e->queue_capacity) {
        size_t capacity = 2 * most;
        struct graft_stream **waiting = mem_resize(e->mem, e->waiting, capacity * sizeof *waiting);
        if (waiting == NULL) {
            return false;
        }
        e->waiting = waiting;
        e->queue_capacity = capacity;
    }
    s->turn = find_turn(e, s->owner);
    if (s->turn == NULL) {
        return false;
    }
    s->turn->streams++;
    s->number = e->numbers++;
    s->state = STREAM_WAITING;
    e->waiting[e->n_queue++] = s;
    return true;
}

static void leave(struct graft_engine *e, struct graft_stream *s)
{
    leave_turn(e, s->turn);
    stream_release(s);
}

void schedule_sweep(struct graft_engine *e)
{
    size_t kept = 0;
    for (size_t i = 0; i < e->n_queue; i++) {
        struct graft_stream *s = e->waiting[i];
        if (s->state == STREAM_OVER) {
            leave(e, s);
        } else {
            e->waiting[kept++] = s;
        }
    }
    e->n_queue = kept;
    int running = 0;
    for (int i = 0; i < e->n_running; i++) {
        struct graft_stream *s = e->running[i];
        if (s->state == STREAM_OVER) {
            leave(e, s);
        } else if (s->state == STREAM_RUNNING) {
            e->running[running++] = s;
        }
    }
    e->n_running = running;
}

/* ---- giving way ---- */

static void take_blocks(struct graft_stream *s)
{
    timeline_rewind(&s->line);
    kv_seq_trim(s->line.seq, 0);
    s->chain = (struct prefix_chain){0};
}

/* Back to those that wait, without its blocks. It stays in e->running until the next sweep. */
static void pause_stream(struct graft_engine *e, struct graft_stream *s)
{
    take_blocks(s);
    ring_tell(&s->ring);
    e->paused = true;
    s->state = STREAM_WAITING;
    e->waiting[e->n_queue++] = s;
    pthread_mutex_lock(&e->lock);
    s->info.pauses++;
    e->info.pauses++;
    pthread_mutex_unlock(&e->lock);
}

static bool ranks_below(const struct graft_stream *a, const struct graft_stream *b)
{
    return a->priority != b->priority ? a->priority < b->priority : a->number > b->number;
}

/* The running stream of the lowest rank, below `than`, whose blocks are not in this step's use. */
static struct graft_stream *find_victim(const struct graft_engine *e,
                                        const struct graft_stream *than, bool lower_priority)
{
    struct graft_stream *victim = NULL;
    for (int i = 0; i < e->n_running; i++) {
        struct graft_stream *s = e->running[i];
        bool may = s->state == STREAM_RUNNING && s != than && !s->reserved &&
                   (lower_priority ? s->priority < than->priority
                                   : ranks_below(s, than) && kv_seq_length(s->line.seq) > 0);
        if (may && (victim == NULL || ranks_below(s, victim))) {
            victim = s;
        }
    }
    return victim;
}

/* A fork that waits shares blocks with others, who may be gone: what is held for it is worth less than what runs. */
static bool take_from_waiting(struct graft_engine *e)
{
    struct graft_stream *victim = NULL;
    for (size_t i = 0; i < e->n_queue; i++) {
        struct graft_stream *s = e->waiting[i];
        if (kv_seq_length(s->line.seq) > 0 && (victim == NULL || ranks_below(s, victim))) {
            victim = s;
        }
    }
    if (victim != NULL) {
        take_blocks(victim);
    }
    return victim != NULL;
}

/* One that runs and is not read, while others wait. */
static struct graft_stream *find_unread(const struct graft_engine *e)
{
    for (int i = 0; i < e->n_running; i++) {
        struct graft_stream *s = e->running[i];
        if (s->state == STREAM_RUNNING && s->line.n_ahead > 0) {
            s->behind = true;
            return s;
        }
    }
    return NULL;
}

/* ---- admission ---- */

/* Whether it may run: not before somebody reads what it has said. */
static bool is_ready(struct graft_stream *s)
{
    s->behind = s->behind && !ring_has_room(&s->ring);
    return s->state == STREAM_WAITING && !s->behind;
}

/* Of those that wait, who is next; e->n_queue: nobody. */
static size_t find_next(const struct graft_engine *e)
{
    size_t best = e->n_queue;
    double best_turn = 0;
    for (size_t i = 0; i < e->n_queue; i++) {
        struct graft_stream *s = e->waiting[i], *b = e->waiting[best < e->n_queue ? best : i];
        double turn = s->turn->rows;
        if (is_ready(s) && (best == e->n_queue || s->priority > b->priority ||
                            (s->priority == b->priority &&
                             (turn < best_turn || (turn == best_turn && s->number < b->number))))) {
            best = i;
            best_turn = turn;
        }
    }
    return best;
}

/* Blocks that a stream has yet to take for the tokens that it has, and one more. */
static int64_t lacks(const struct graft_stream *s)
{
    int64_t held = blocks_for((size_t)kv_seq_length(s->line.seq));
    int64_t n = blocks_for(s->line.n_tokens + 1) - held;
    return n > 0 ? n : 0;
}

/* Room for all of its tokens beside those of whoever runs, counting what kept prefixes would give. */
static bool fits(struct graft_engine *e, const struct graft_stream *s)
{
    int64_t need = lacks(s), room = kv_pool_blocks_free(e->pool);
    for (int i = 0; i < e->n_running; i++) {
        need += lacks(e->running[i]);
    }
    return need <= room || prefixes_have_lone(&e->prefixes, need - room);
}

static void admit(struct graft_engine *e, size_t i)
{
    struct graft_stream *s = e->waiting[i];
    size_t cached = 0;
    e->waiting[i] = e->waiting[--e->n_queue];
    e->running[e->n_running++] = s;
    s->state = STREAM_RUNNING;
    if (e->options.keep_prefixes && kv_seq_length(s->line.seq) == 0) {
        /* A lack of memory leaves fewer blocks: nothing is lost by it. */
        (void)prefix_attach(&s->chain, &e->kind, &e->prefixes, &s->line, &cached, NULL);
    }
    if (e->speculation != NULL && s->wants_drafts && s->drafter == NULL) {
        /* Without memory for it there are no guesses, and nothing else is missing. */
        (void)speculation_join(e->speculation, &s->line, &s->drafter, NULL);
    }
    pthread_mutex_lock(&e->lock);
    if (stream_waited(s)) {
        s->info.cached_tokens += cached;        /* to those of a fork */
        e->info.running = (size_t)e->n_running; /* nobody is to find it neither here nor there */
    }
    pthread_mutex_unlock(&e->lock);
}

void schedule_admit(struct graft_engine *e)
{
    for (size_t next; (next = find_next(e)) < e->n_queue;) {
        struct graft_stream *s = e->waiting[next], *victim = NULL;
        bool full = e->n_running == e->options.max_streams;
        if (!full && (e->n_running == 0 || fits(e, s))) {
            admit(e, next);
            continue;
        }
        victim = find_victim(e, s, true);
        victim = victim == NULL ? find_unread(e) : victim;
        if (victim == NULL) {
            return; /* whoever comes behind it waits too: else large ones would never begin */
        }
        pause_stream(e, victim);
        schedule_sweep(e);
    }
}

/* ---- the step ---- */

static bool comes_before(const struct part *a, const struct part *b)
{
    const struct graft_stream *s = a->stream, *t = b->stream;
    if (s->priority != t->priority) {
        return s->priority > t->priority;
    }
    if (a->prompt != b->prompt) {
        return b->prompt;
    }
    return a->turn != b->turn && a->prompt ? a->turn < b->turn : s->number < t->number;
}

/* Those that can go on, in their order. */
static void list_parts(struct graft_engine *e)
{
    e->n_parts = 0;
    for (int i = 0; i < e->n_running; i++) {
        struct graft_stream *s = e->running[i];
        s->reserved = false;
        if (s->line.n_ahead > 0) {
            continue; /* its reader is behind */
        }
        struct part part = {
            .stream = s, .prompt = timeline_pending(&s->line) > 1, .turn = s->turn->rows};
        int at = e->n_parts++;
        for (; at > 0 && comes_before(&part, &e->parts[at - 1]); at--) {
            e->parts[at] = e->parts[at - 1];
        }
        e->parts[at] = part;
    }
}

/* Shares the rows of a pass. */
static void share_rows(struct graft_engine *e)
{
    int answers = 0;
    for (int i = 0; i < e->n_parts; i++) {
        answers += !e->parts[i].prompt;
    }
    int left = e->options.batch_rows > answers ? e->options.batch_rows - answers : 1;
    left = answers > 0 && left > e->options.prompt_rows ? e->options.prompt_rows : left;
    for (int i = 0; i < e->n_parts; i++) {
        struct part *part = &e->parts[i];
        size_t pending = timeline_pending(&part->stream->line);
        part->n = part->prompt ? (pending < (size_t)left ? (int)pending : left) : 1;
        left -= part->prompt ? part->n : 0;
    }
}

/* Blocks for `n` more rows of a stream. Where all of its tokens are computed the last one is computed again, for its logits,
 * which may take a block too: others may hold the one it lies in. */
static graft_status reserve(struct graft_engine *e, struct graft_stream *s, int n,
                            graft_error *error)
{
    int64_t held = kv_seq_length(s->line.seq), last = (int64_t)s->line.n_tokens - 1;
    if (held > last) {
        kv_seq_trim(s->line.seq, held = last);
    }
    graft_status status;
    while ((status = kv_seq_reserve(s->line.seq, held + n, error)) == GRAFT_LIMIT) {
        struct graft_stream *victim = NULL;
        if (prefixes_evict(&e->prefixes)) {
            continue;
        }
        if ((victim = find_victim(e, s, false)) != NULL) {
            pause_stream(e, victim);
        } else if (!take_from_waiting(e)) {
            break;
        }
    }
    return status;
}

void schedule_choose(struct graft_engine *e)
{
    int kept = 0;
    list_parts(e);
    share_rows(e);
    for (int i = 0; i < e->n_parts; i++) {
        struct part part = e->parts[i];
        struct graft_stream *s = part.stream;
        if (s->state != STREAM_RUNNING || part.n == 0) {
            continue;
        }
        graft_error failure = {0};
        graft_status status = reserve(e, s, part.n, &failure);
        if (status == GRAFT_OK) {
            s->reserved = true;
            e->parts[kept++] = part;
        } else if (status == GRAFT_LIMIT && e->n_running > 1) {
            pause_stream(e, s); /* until others have ended */
        } else {
            stream_over(s, GRAFT_FINISH_FAILED, NULL, &failure);
        }
    }
    e->n_parts = kept;
    schedule_sweep(e);
}
