/* speculation.c: what sessions and engines share of speculative decoding: when to guess, with which store, at what cost.
 *
 * Guesses are advice. Whatever goes wrong with them (no memory, a full cache of the draft model, a file that cannot be read) is
 * said once in the log, and decoding goes on without.
 */
#include "generate/speculation.h"

#include <errno.h>
#include <sys/stat.h>

enum { STORES_MAX = 256 };

struct store_slot {
    struct ngram_store *store; /* NULL: the slot is free */
    uint8_t mix[32];
    uint64_t used; /* the turn of its last use */
};

struct speculation {
    const struct model *target;
    struct mem *mem;
    graft_draft_options options;
    char *folder; /* of stores, or NULL */
    bool refuses; /* nothing can be written to it, which was said */
    bool stores;
    struct draft_model *model; /* or NULL */
    struct draft_costs costs;
    struct store_slot slots[STORES_MAX];
    uint64_t turn;
    uint32_t told;                  /* a bit for each status that was said in the log */
    struct draft_request *requests; /* [capacity], as are: */
    struct draft_turn *turns;
    struct adapt_turn *plans;
    int capacity;
};

/* ---- stores ---- */

/* Each kind of trouble once. */
static void tell(struct speculation *sp, const char *what, const graft_error *error)
{
    if (!(sp->told >> error->status & 1)) {
        runtime_log(sp->target->runtime, GRAFT_LOG_WARN, "%s: %s%s%s; going on without", what,
                    error->file, error->file[0] != '\0' ? ": " : "",
                    error->message[0] != '\0' ? error->message : graft_status_text(error->status));
    }
    sp->told |= (uint32_t)1 << error->status;
}

static char *store_path(const struct speculation *sp, const uint8_t mix[32])
{
    char name[32 + sizeof ".ngrams"];
    hex_write(mix, 16, name); /* half of a SHA-256; the whole one is in the file */
    memcpy(name + 32, ".ngrams", sizeof ".ngrams");
    return path_join(sp->mem, sp->folder, name);
}

static graft_status open_store(struct speculation *sp, const uint8_t mix[32],
                               struct ngram_store **out, graft_error *error)
{
    struct ngram_store_options o = {.n_vocab = sp->target->config.n_vocab,
                                    .max_entries = STORE_ENTRIES};
    memcpy(o.mix, mix, sizeof o.mix);
    graft_status status = GRAFT_NOT_FOUND;
    if (sp->folder != NULL) {
        char *path = store_path(sp, mix);
        status = path != NULL ? ngram_store_load(sp->mem, path, &o, out, error)
                              : error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
        mem_free(sp->mem, path);
        if (status != GRAFT_OK && status != GRAFT_NOT_FOUND) {
            tell(sp, "a store of drafts cannot be read", error);
        }
    }
    return status == GRAFT_OK ? GRAFT_OK : ngram_store_open(sp->mem, &o, out, error);
}

static void close_slot(struct speculation *sp, struct store_slot *slot)
{
    graft_error error = {0};
    bool ours = runtime_check(sp->target->runtime, NULL) == GRAFT_OK; /* not of a child process */
    if (slot->store != NULL && sp->folder != NULL && ours && ngram_store_entries(slot->store) > 0) {
        char *path = store_path(sp, slot->mix);
        bool saved = path != NULL && ngram_store_save(slot->store, path, &error) == GRAFT_OK;
        if (!saved && !sp->refuses) {
            tell(sp, "a store of drafts cannot be written", &error);
        }
        mem_free(sp->mem, path);
    }
    ngram_store_close(&slot->store);
}

/* The store of a mix, borrowed; NULL: none. The one longest unused makes room. */
static struct ngram_store *find_store(struct speculation *sp, const uint8_t mix[32])
{
    struct store_slot *slot = &sp->slots[0];
    graft_error error = {0};
    if (!sp->stores) {
        return NULL;
    }
    for (int i = 0; i < STORES_MAX; i++) {
        struct store_slot *at = &sp->slots[i];
        if (at->store != NULL && memcmp(at->mix, mix, 32) == 0) {
            at->used = ++sp->turn;
            return at->store;
        }
        slot = at->used < slot->used ? at : slot;
    }
    close_slot(sp, slot);
    memcpy(slot->mix, mix, 32);
    slot->used = ++sp->turn;
    if (open_store(sp, mix, &slot->store, &error) != GRAFT_OK) {
        tell(sp, "no store of drafts", &error);
        slot->store = NULL;
    }
    return slot->store;
}

/* ---- open and close ---- */

static graft_status check_options(const graft_draft_options *o, graft_error *error)
{
    if (o->max < 1 || o->max > DRAFT_MOST || o->k < 1 || o->k > o->max) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "drafts of %d tokens, at most %d: from 1 to %d are possible", o->k, o->max,
                         DRAFT_MOST);
    }
    if (!o->ngram && o->model == NULL && o->store == NULL) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "drafts from nothing: neither n-grams, nor a "
                         "store, nor a model");
    }
    return GRAFT_OK;
}

/* That nothing can be written at the end is said at the beginning, and then no more. */
static void try_folder(struct speculation *sp)
{
    graft_error error = {0};
    struct file_writer w = {.mem = sp->mem};
    char *path = path_join(sp->mem, sp->folder, "trial");
    if (path != NULL && file_writer_open(&w, sp->mem, path, &error) != GRAFT_OK) {
        runtime_log(sp->target->runtime, GRAFT_LOG_WARN, "%s: drafts will not be kept there: %s",
                    sp->folder, error.message);
        sp->refuses = true;
    }
    file_writer_abort(&w);
    mem_free(sp->mem, path);
}

static graft_status open_folder(struct speculation *sp, const char *folder, graft_error *error)
{
    if (folder[0] == '\0') {
        return GRAFT_OK;
    }
    sp->folder = mem_strdup(sp->mem, folder);
    if (sp->folder == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for a path");
    }
    int why = mkdir(folder, 0777) == 0 ? 0 : errno;
    if (why != 0 && !path_is_dir(folder)) {
        return error_set(error, GRAFT_IO, "%s: cannot be made a folder of drafts: %s", folder,
                         strerror(why));
    }
    try_folder(sp);
    return GRAFT_OK;
}

graft_status speculation_open(const struct model *target, const struct model *draft,
                              const graft_draft_options *options, struct speculation **out,
                              graft_error *error)
{
    struct mem *mem = &target->runtime->mem;
    graft_status status = check_options(options, error);
    if (status == GRAFT_OK && draft != NULL) {
        status = draft_model_check(target, draft, error);
    }
    if (status != GRAFT_OK) {
        return status;
    }
    struct speculation *sp = mem_calloc(mem, 1, sizeof *sp);
    if (sp == NULL) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for drafts");
    }
    sp->target = target;
    sp->mem = mem;
    sp->options = *options;
    sp->stores = options->store != NULL;
    if (sp->stores) {
        status = open_folder(sp, options->store, error);
    }
    if (status == GRAFT_OK && draft != NULL) {
        const struct draft_model_options o = {.kv_bytes = options->kv_bytes, .rows = DRAFT_ROWS};
        status = draft_model_open(target, draft, &o, &sp->model, error);
    }
    if (status != GRAFT_OK) {
        speculation_close(&sp);
        return status;
    }
    *out = sp;
    return GRAFT_OK;
}

void speculation_close(struct speculation **speculation)
{
    struct speculation *sp = *speculation;
    *speculation = NULL;
    if (sp != NULL) {
        for (int i = 0; i < STORES_MAX; i++) {
            close_slot(sp, &sp->slots[i]);
        }
        draft_model_close(&sp->model);
        mem_free(sp->mem, sp->folder);
        mem_free(sp->mem, sp->requests);
        mem_free(sp->mem, sp->turns);
        mem_free(sp->mem, sp->plans);
        mem_free(sp->mem, sp);
    }
}

/* ---- timelines ---- */

graft_status speculation_join(struct speculation *sp, const struct timeline *t,
                              struct drafter **out, graft_error *error)
{
    const struct drafter_options o = {.n_ctx = t->n_ctx,
                                      .ngram = sp->options.ngram,
                                      .store = find_store(sp, timeline_digest_now(t)),
                                      .model = sp->model,
                                      .first = sp->options.k,
                                      .most = sp->options.max,
                                      .fixed = sp->options.fixed};
    graft_status status = drafter_open(sp->mem, &o, out, error);
    if (status == GRAFT_OK) {
        drafter_begin_answer(*out, t->n_tokens);
    }
    return status;
}

void speculation_follow_mix(struct speculation *sp, const struct timeline *t, struct drafter *d)
{
    if (sp->stores) {
        drafter_set_store(d, find_store(sp, timeline_digest_now(t)), t->n_tokens);
    }
}

/* ---- steps ---- */

static bool reserve(struct speculation *sp, int n)
{
    if (n <= sp->capacity) {
        return true;
    }
    struct draft_request *requests =
        mem_resize(sp->mem, sp->requests, (size_t)n * sizeof *requests);
    sp->requests = requests != NULL ? requests : sp->requests;
    struct draft_turn *turns = mem_resize(sp->mem, sp->turns, (size_t)n * sizeof *turns);
    sp->turns = turns != NULL ? turns : sp->turns;
    struct adapt_turn *plans = mem_resize(sp->mem, sp->plans, (size_t)n * sizeof *plans);
    sp->plans = plans != NULL ? plans : sp->plans;
    if (requests == NULL || turns == NULL || plans == NULL) {
        return false;
    }
    sp->capacity = n;
    return true;
}

static void place(struct guess *g)
{
    int n;
    const graft_token_id *ids = drafter_proposal(g->drafter, &n);
    memcpy(g->line->tokens + g->line->n_tokens, ids, (size_t)n * sizeof *ids);
    g->line->n_draft = n;
}

graft_status speculation_guess(struct speculation *sp, struct guess *guesses, int n, int rows,
                               int streams, graft_error *error)
{
    if (!reserve(sp, n)) {
        return error_set(error, GRAFT_NO_MEMORY, "no memory for drafts");
    }
    for (int i = 0; i < n; i++) {
        struct guess *g = &guesses[i];
        struct timeline *t = g->line;
        size_t room = t->n_ctx - t->n_tokens;
        int most = g->most < DRAFT_MOST ? g->most : DRAFT_MOST;
        most = room < (size_t)most ? (int)room : most;
        t->n_draft = 0;
        sp->turns[i] = (struct draft_turn){.drafter = g->drafter,
                                           .tokens = t->tokens,
                                           .n_tokens = t->n_tokens,
                                           .sampling = &t->sampling,
                                           .most = timeline_pending(t) > 1 ? 0 : most};
    }
    const struct draft_step step = {.turns = sp->turns,
                                    .plans = sp->plans,
                                    .requests = sp->requests,
                                    .n = n,
                                    .rows = rows,
                                    .tokens = streams};
    int asked = drafters_plan(&step, &sp->costs);
    graft_status status = GRAFT_OK;
    if (asked > 0) {
        status = draft_model_propose(sp->model, sp->requests, asked, &sp->costs, error);
        if (status != GRAFT_OK && error != NULL) {
            tell(sp, "the draft model failed", error);
        }
    }
    for (int i = 0, r = 0; i < n; i++) {
        if (sp->turns[i].asks) {
            graft_error why = {.status = sp->requests[r].status};
            if (why.status != GRAFT_OK) {
                tell(sp,
                     why.status == GRAFT_LIMIT ? "the cache of the draft model is full"
                                               : "the draft model failed",
                     &why);
            }
            drafter_take(guesses[i].drafter, &sp->requests[r++]);
        }
        place(&guesses[i]);
    }
    return GRAFT_OK;
}

void speculation_learn(struct speculation *sp, int rows, double seconds)
{
    cost_learn(&sp->costs.target, rows, seconds);
}

void speculation_verified(struct speculation *sp, const struct timeline *t, struct drafter *d)
{
    /* The first guess that a constraint refused is as wrong as one that was looked at. */
    bool refused = t->guesses_cut > 0 && t->accepted == t->planned_drafts;
    drafter_verified(d, &sp->costs, t->verified + refused, t->accepted);
}

static void add(graft_draft_counts *sum, const struct draft_counts *c)
{
    sum->drafted += c->drafted;
    sum->accepted += c->accepted;
}

void speculation_count(const struct drafter *d, graft_draft_info *info)
{
    add(&info->ngram, drafter_counts(d, DRAFT_NGRAM_SHORT));
    add(&info->ngram, drafter_counts(d, DRAFT_NGRAM_LONG));
    add(&info->store, drafter_counts(d, DRAFT_STORE_SHORT));
    add(&info->store, drafter_counts(d, DRAFT_STORE_LONG));
    add(&info->model, drafter_counts(d, DRAFT_MODEL));
}
