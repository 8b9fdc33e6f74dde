/* prefix.c: names of blocks and the table of those that are kept.
 *
 * A hit across two mixes would be a wrong answer, so names are SHA-256 over all that counts and never compared in part. Entries
 * lie in one array, chained by bucket and by age; blocks that a stream uses are not worth evicting, as that would free nothing.
 * Of one prompt the end is older than the beginning, without which it could not be found.
 */
#include "generate/engine/prefix.h"

struct prefix_entry {
    uint8_t name[PREFIX_NAME], before[PREFIX_NAME]; /* its own, and of the block before it */
    struct kv_block *block;
    int32_t next;         /* in its bucket, or of the free list */
    int32_t newer, older; /* -1: none */
};

graft_status prefixes_open(struct prefixes *p, struct mem *mem, struct kv_pool *pool,
                           size_t capacity, graft_error *error)
{
    size_t n_buckets = 16;
    while (n_buckets < capacity) {
        n_buckets *= 2;
    }
    *p = (struct prefixes){.mem = mem,
                           .pool = pool,
                           .entries = mem_calloc(mem, capacity, sizeof *p->entries),
                           .buckets = mem_calloc(mem, n_buckets, sizeof *p->buckets),
                           .capacity = capacity,
                           .n_buckets = n_buckets,
                           .newest = -1,
                           .oldest = -1};
    if (p->entries == NULL || p->buckets == NULL) {
        prefixes_close(p);
        return error_set(error, GRAFT_NO_MEMORY, "no memory for %zu prefixes", capacity);
    }
    memset(p->buckets, 0xff, n_buckets * sizeof *p->buckets);
    for (size_t i = 0; i < capacity; i++) {
        p->entries[i].next = i + 1 < capacity ? (int32_t)i + 1 : -1;
    }
    return GRAFT_OK;
}

void prefixes_close(struct prefixes *p)
{
    if (p->entries != NULL && p->buckets != NULL) {
        prefixes_forget(p);
    }
    mem_free(p->mem, p->entries);
    mem_free(p->mem, p->buckets);
    *p = (struct prefixes){0};
}

/* ---- the table ---- */

static int32_t *bucket_of(const struct prefixes *p, const uint8_t *name)
{
    uint64_t start;
    memcpy(&start, name, sizeof start); /* of a SHA-256: as good as any hash of it */
    return &p->buckets[start & (p->n_buckets - 1)];
}

static void age_remove(struct prefixes *p, int32_t i)
{
    struct prefix_entry *e = &p->entries[i];
    *(e->newer >= 0 ? &p->entries[e->newer].older : &p->newest) = e->older;
    *(e->older >= 0 ? &p->entries[e->older].newer : &p->oldest) = e->newer;
}

static void age_begin(struct prefixes *p, int32_t i)
{
    struct prefix_entry *e = &p->entries[i];
    e->newer = -1;
    e->older = p->newest;
    *(p->newest >= 0 ? &p->entries[p->newest].newer : &p->oldest) = i;
    p->newest = i;
}

static int32_t find(const struct prefixes *p, const uint8_t *name)
{
    int32_t i = *bucket_of(p, name);
    while (i >= 0 && memcmp(p->entries[i].name, name, PREFIX_NAME) != 0) {
        i = p->entries[i].next;
    }
    return i;
}

struct kv_block *prefixes_find(const struct prefixes *p, const uint8_t name[PREFIX_NAME])
{
    int32_t i = find(p, name);
    return i >= 0 ? p->entries[i].block : NULL;
}

static void make_newest(struct prefixes *p, int32_t i)
{
    age_remove(p, i);
    age_begin(p, i);
}

void prefixes_use(struct prefixes *p, const uint8_t name[PREFIX_NAME])
{
    for (int32_t i = find(p, name); i >= 0; i = find(p, p->entries[i].before)) {
        make_newest(p, i);
    }
}

static void drop(struct prefixes *p, int32_t i)
{
    struct prefix_entry *e = &p->entries[i];
    int32_t *link = bucket_of(p, e->name);
    while (*link != i) {
        link = &p->entries[*link].next;
    }
    *link = e->next;
    age_remove(p, i);
    kv_block_let_go(p->pool, e->block);
    e->block = NULL;
    e->next = p->free_list;
    p->free_list = i;
    p->count--;
}

/* What is in use is passed by once, and newer then. */
bool prefixes_evict(struct prefixes *p)
{
    for (size_t n = p->count; n > 0; n--) {
        int32_t i = p->oldest;
        if (kv_block_is_lone(p->pool, p->entries[i].block)) {
            drop(p, i);
            p->evictions++;
            return true;
        }
        make_newest(p, i);
    }
    return false;
}

bool prefixes_have_lone(const struct prefixes *p, int64_t wanted)
{
    for (int32_t i = p->oldest; i >= 0 && wanted > 0; i = p->entries[i].newer) {
        wanted -= kv_block_is_lone(p->pool, p->entries[i].block);
    }
    return wanted <= 0;
}

void prefixes_forget(struct prefixes *p)
{
    while (p->oldest >= 0) {
        drop(p, p->oldest);
    }
}

void prefixes_keep(struct prefixes *p, const uint8_t name[PREFIX_NAME],
                   const uint8_t before[PREFIX_NAME], const struct kv_seq *seq, int64_t index)
{
    if (find(p, name) >= 0) {
        return;
    }
    if (p->count == p->capacity) {
        drop(p, p->oldest);
    }
    int32_t i = p->free_list;
    struct prefix_entry *e = &p->entries[i];
    p->free_list = e->next;
    memcpy(e->name, name, PREFIX_NAME);
    memcpy(e->before, before, PREFIX_NAME);
    e->block = kv_seq_hold(seq, index);
    int32_t *bucket = bucket_of(p, name);
    e->next = *bucket;
    *bucket = i;
    age_begin(p, i);
    p->count++;
}

/* ---- names ---- */

/* The name of block chain->named of the timeline; false: it has none. */
static bool next_name(const struct prefix_chain *chain, const struct prefix_kind *kind,
                      const struct timeline *t, uint8_t name[PREFIX_NAME])
{
    struct {
        uint8_t before[PREFIX_NAME];
        graft_token_id tokens[KV_BLOCK];
        uint8_t mix[32];
        uint64_t decoded; /* a bit for each row */
        uint8_t types[8];
    } all = {.types = {kind->k_type, kind->v_type, kind->any_role}};
    size_t first = (size_t)chain->named * KV_BLOCK;
    const uint8_t *mix = timeline_digest(t, first, first + KV_BLOCK);
    if (chain->broken || mix == NULL) {
        return false;
    }
    memcpy(all.before, chain->name, PREFIX_NAME);
    memcpy(all.tokens, t->tokens + first, sizeof all.tokens);
    memcpy(all.mix, mix, sizeof all.mix);
    for (size_t i = 0; i < KV_BLOCK && !kind->any_role; i++) {
        all.decoded |= (uint64_t)(t->roles[first + i] == ROLE_DECODE) << i;
    }
    return sha256(&all, sizeof all, name, NULL) == GRAFT_OK;
}

static void advance(struct prefix_chain *chain, const uint8_t name[PREFIX_NAME])
{
    memcpy(chain->name, name, PREFIX_NAME);
    chain->named++;
}

graft_status prefix_attach(struct prefix_chain *chain, const struct prefix_kind *kind,
                           struct prefixes *p, struct timeline *t, size_t *n, graft_error *error)
{
    uint8_t name[PREFIX_NAME];
    graft_status status = GRAFT_OK;
    *n = 0;
    while (status == GRAFT_OK && (size_t)(chain->named + 1) * KV_BLOCK < t->n_tokens &&
           next_name(chain, kind, t, name)) {
        struct kv_block *block = prefixes_find(p, name);
        if (block == NULL) {
            break;
        }
        status = kv_seq_append(t->seq, block, error);
        if (status == GRAFT_OK) {
            advance(chain, name);
            *n += KV_BLOCK;
            p->hits++;
        }
    }
    prefixes_use(p, chain->name);
    return status;
}

void prefix_keep_new(struct prefix_chain *chain, const struct prefix_kind *kind, struct prefixes *p,
                     const struct timeline *t)
{
    uint8_t name[PREFIX_NAME];
    size_t held = (size_t)kv_seq_length(t->seq);
    int64_t before = chain->named;
    held = held < t->n_tokens ? held : t->n_tokens;
    while (!chain->broken && (size_t)(chain->named + 1) * KV_BLOCK <= held) {
        chain->broken = !next_name(chain, kind, t, name);
        if (!chain->broken) {
            prefixes_keep(p, name, chain->name, t->seq, chain->named);
            advance(chain, name);
        }
    }
    if (chain->named > before) {
        prefixes_use(p, chain->name);
    }
}
