/* fuzz_router.c: hostile routers, and hostile files of prompts (what begins with 'P' is one): what is taken is whole, has scores
 * that are numbers, and leaves nothing behind.
 */
#include "generate/router/router.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void read_prompts(struct mem *mem, const char *text, size_t size)
{
    struct router_prompts p;
    graft_error error = {0};
    router_prompts_init(&p, mem);
    if (router_prompts_parse(&p, "fuzz", text, size, &error) == GRAFT_OK) {
        require(p.n > 0);
        for (size_t i = 0; i < p.n; i++)
            require(p.items[i].size > 0 && p.items[i].label[0] && p.items[i].line > 0);
    } else {
        require(error.message[0]);
    }
    router_prompts_free(&p);
}

static void read_router(struct mem *mem, const uint8_t *data, size_t size)
{
    struct router_table t = {.mem = NULL};
    graft_error error = {0};
    if (router_table_parse(&t, mem, data, size, &error) != GRAFT_OK) {
        require(!t.labels && error.message[0]);
        return;
    }
    require(t.n_labels >= 2 && t.n_labels <= ROUTER_MAX_LABELS && t.width >= 1);
    for (int c = 0; c < t.n_labels; c++)
        require(router_label(&t, t.labels[c]) == c);
    double scores[ROUTER_MAX_LABELS];
    router_scores(&t, t.mean, scores); /* the mean of what it was trained on is standardised to 0 */
    for (int c = 0; c < t.n_labels; c++)
        require(scores[c] == (double)t.bias[c]);
    router_table_free(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem mem;
    mem_init(&mem, NULL);
    if (size > 0 && data[0] == 'P')
        read_prompts(&mem, (const char *)data + 1, size - 1);
    else
        read_router(&mem, data, size);
    require(atomic_load(&mem.bytes_in_use) == 0);
    return 0;
}
