/* pack.c: weights of a model into the layout in which its tier multiplies them fastest (kernels.h).
 *
 * Rows without a layout of their own are copied as they are. All of them are one block of the runtime's memory,
 * which is taken before anything is changed, so a failure leaves the model as it was; it lies in large pages where
 * the system has them, as a mapped file hardly ever does. The rows of a tensor are divided among the workers; then the
 * pages of the file under it are given back before the next one is read, so the model is never in memory twice. Rows
 * of a table that is also the head are read from the packed ones; a table that is only looked up stays in its file.
 */
#include "model/arch/arch.h"
#include "model/model_internal.h"

#include <stdlib.h>
#include <unistd.h>

enum { LINE = 64 };

/* The tensor that a site's weight is made of, by its name; NULL: none of the model's. */
static const struct tensor_info *tensor_of(const struct model *m, int site)
{
    char name[160];
    bool head = site == model_head_site(m);
    int slot = !head                           ? SLOT_LINEAR + site % LINEAR_COUNT
               : m->head.data == m->embed.data ? SLOT_EMBED
                                               : SLOT_HEAD;
    if (!arch_module(m->config.arch, m->tensors.gguf ? NAMING_GGUF : NAMING_HF, slot,
                     head ? 0 : site / LINEAR_COUNT, name, sizeof name - 8))
        return NULL;
    size_t length = strlen(name);
    snprintf(name + length, sizeof name - length, ".weight");
    return tensor_set_find(&m->tensors, name);
}

static bool takes_split(const struct model *m, const struct matrix *w)
{
    return m->runtime->kernels->splits[w->type];
}

/* Rows that have no layout of their own are copied as they are: large pages are reason enough. Those of MLX
 * lie apart from their scales and stay. */
static size_t packed_row_bytes(const struct model *m, const struct matrix *w)
{
    return takes_split(m, w) ? split_row_bytes(w->type, w->n_in) : w->row_bytes;
}

/* In whole lines of the cache. */
static size_t packed_bytes(const struct model *m, const struct matrix *w)
{
    size_t bytes;
    if (w->layout != LAYOUT_FILE || w->scales ||
        !size_mul((size_t)w->n_out, packed_row_bytes(m, w), &bytes) ||
        !size_add(bytes, LINE - 1, &bytes))
        return 0;
    return bytes / LINE * LINE;
}

size_t model_packed_bytes(const struct model *m, const struct tensor_info *t)
{
    for (int site = 0; site < model_n_sites(m); site++)
        if (model_site_weight(m, site)->data == t->data)
            return packed_bytes(m, model_site_weight(m, site));
    return 0;
}

/* ---- which ---- */

/* Is it the whole name? '*' stands for any bytes, '?' for one. */
static bool matches(const char *pattern, size_t length, const char *name)
{
    const char *end = pattern + length, *star = NULL, *tried = NULL;
    while (*name) {
        if (pattern < end && *pattern == '*') {
            star = ++pattern;
            tried = name;
        } else if (pattern < end && (*pattern == '?' || *pattern == *name)) {
            pattern++;
            name++;
        } else if (star) {
            pattern = star;
            name = ++tried;
        } else {
            return false;
        }
    }
    while (pattern < end && *pattern == '*')
        pattern++;
    return pattern == end;
}

/* The next of the patterns between commas; false at the end. */
static bool next_pattern(const char **rest, const char **pattern, size_t *length)
{
    if (!*rest)
        return false;
    *pattern = *rest;
    *length = strcspn(*rest, ",");
    *rest = (*rest)[*length] ? *rest + *length + 1 : NULL;
    return true;
}

static bool is_selected(const char *which, const char *name)
{
    const char *pattern;
    size_t length;
    if (!strcmp(which, "auto"))
        return true;
    while (next_pattern(&which, &pattern, &length))
        if (matches(pattern, length, name))
            return true;
    return false;
}

/* Each pattern is there for something. */
static graft_status check_patterns(const struct model *m, const char *which, graft_error *error)
{
    const char *pattern;
    size_t length;
    if (!strcmp(which, "auto"))
        return GRAFT_OK;
    while (next_pattern(&which, &pattern, &length)) {
        bool found = false;
        for (int site = 0; site < model_n_sites(m) && !found; site++) {
            const struct tensor_info *t = tensor_of(m, site);
            found = t && matches(pattern, length, t->name);
        }
        if (!found)
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "pack: no weight of a linear layer is called \"%.*s\" (\"auto\", "
                             "\"none\", or names of tensors with * and ?)",
                             length < 100 ? (int)length : 100, pattern);
    }
    return GRAFT_OK;
}

/* ---- packing ---- */

struct packing {
    const struct matrix *from;
    uint8_t *to; /* [n_out, row_bytes] */
    size_t row_bytes;
    bool split;
};

static void pack_rows(void *context, int worker, int n_workers)
{
    const struct packing *p = context;
    int64_t begin, end;
    pool_split(p->from->n_out, 1, worker, n_workers, &begin, &end);
    uint8_t *to = p->to + (size_t)begin * p->row_bytes;
    if (!p->split)
        memcpy(to, (const uint8_t *)p->from->data + (size_t)begin * p->row_bytes,
               (size_t)(end - begin) * p->row_bytes);
    for (int64_t row = begin; row < end && p->split; row++, to += p->row_bytes)
        split_row(p->from, row, to);
}

static void pack_matrix(struct model *m, struct matrix *w, uint8_t *to)
{
    struct packing p = {w, to, packed_row_bytes(m, w), takes_split(m, w)};
    pool_run(m->runtime->pool, pack_rows, &p);
    w->data = to;
    w->row_bytes = p.row_bytes;
    w->layout = p.split ? LAYOUT_SPLIT : LAYOUT_FILE;
}

static struct matrix *site_weight(struct model *m, int site)
{
    return site == model_head_site(m) ? &m->head
                                      : &m->layers[site / LINEAR_COUNT].linear[site % LINEAR_COUNT];
}

/* What is packed. */
struct plan {
    struct {
        struct matrix *w;
        const struct tensor_info *tensor;
    } * items; /* [model_n_sites] */
    int n;
    size_t bytes; /* of all packed rows */
};

static bool plan_fill(struct plan *p, struct model *m, const char *which)
{
    for (int site = 0; site < model_n_sites(m); site++) {
        struct matrix *w = site_weight(m, site);
        const size_t bytes = packed_bytes(m, w);
        const struct tensor_info *t = bytes ? tensor_of(m, site) : NULL;
        if (!t || !is_selected(which, t->name))
            continue;
        p->items[p->n].w = w;
        p->items[p->n++].tensor = t;
        if (!size_add(p->bytes, bytes, &p->bytes))
            return false;
    }
    return true;
}

/* What the process may have: the machine's memory, or what its group of processes is held to (Linux, cgroup v2
 * and v1 as a container sees them). */
static double memory_allowed(void)
{
    static const char *const LIMITS[] = {"/sys/fs/cgroup/memory.max",
                                         "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    double bytes = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < ARRAY_LEN(LIMITS); i++) {
        char line[64];
        FILE *file = fopen(LIMITS[i], "re");
        if (file && fgets(line, sizeof line, file) && line[0] >= '0' && line[0] <= '9') {
            double limit = (double)strtoull(line, NULL, 10);
            bytes = limit < bytes ? limit : bytes;
        }
        if (file)
            fclose(file);
    }
    return bytes;
}

/* Unlike the pages of a file, packed rows cannot be dropped when memory runs out. */
static bool is_too_much(size_t bytes)
{
    return (double)bytes > memory_allowed() / 2;
}

static void run_plan(const struct plan *p, struct model *m)
{
    const double begun = time_seconds();
    const bool shared = m->embed.data == m->head.data;
    uint8_t *to = m->packed;
    pages_want_large(to, p->bytes);
    for (int i = 0; i < p->n; i++) {
        struct matrix *w = p->items[i].w;
        size_t bytes = packed_bytes(m, w);
        pack_matrix(m, w, to);
        to += bytes;
        pages_give_back(p->items[i].tensor->data, p->items[i].tensor->size);
    }
    for (int i = 0; i < p->n; i++) /* those that came back with the pages of a neighbour */
        pages_give_back(p->items[i].tensor->data, p->items[i].tensor->size);
    if (shared)
        m->embed = m->head;
    runtime_log(m->runtime, GRAFT_LOG_DEBUG, "%s: packed %d weights, %.1f MB, in %.0f ms", m->path,
                p->n, (double)p->bytes / 1e6, (time_seconds() - begun) * 1e3);
}

graft_status weights_pack(struct model *m, const char *which, graft_error *error)
{
    struct mem *mem = &m->runtime->mem;
    struct plan p = {0};
    if (!which || !strcmp(which, "none"))
        return GRAFT_OK;
    graft_status status = check_patterns(m, which, error);
    if (status != GRAFT_OK)
        return status;
    p.items = mem_calloc(mem, (size_t)model_n_sites(m), sizeof *p.items);
    if (!p.items || !plan_fill(&p, m, which))
        status = error_set(error, GRAFT_NO_MEMORY, "no memory to pack weights in");
    bool wanted = p.n && !(is_too_much(p.bytes) && !strcmp(which, "auto"));
    if (status == GRAFT_OK && wanted) {
        m->packed = mem_alloc(mem, p.bytes);
        if (m->packed)
            run_plan(&p, m);
        else
            status = error_set(
                error, GRAFT_NO_MEMORY,
                "no memory for %zu bytes of packed weights (pack \"none\" needs none)", p.bytes);
    }
    mem_free(mem, p.items);
    return status;
}
