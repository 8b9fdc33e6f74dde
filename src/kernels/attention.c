/* attention.c: what attention does the same way on every tier: the ranges that rows see, the order of
 * parts, the scratch.
 *
 * A part is a run of whole chunks of absolute positions. Whoever computes the parts of a row, they
 * are joined in the order of their positions, so the result is the same.
 */
#include "kernels/attention_internal.h"

int attention_tile_rows(int n_group)
{
    return n_group < ATTENTION_QUERIES ? ATTENTION_QUERIES / n_group : 1;
}

static int64_t tile_queries(int n_group)
{
    return (int64_t)attention_tile_rows(n_group) * n_group;
}

/* Per query the weights of a block and the query itself, turned in whole panels or as pairs four times over; a
 * block of keys or values with its rows padded to whole vectors; and the room to align them. */
static int64_t kernel_floats(int n_group, int d_head)
{
    int64_t panels = blocks_of(n_group, ATTENTION_QUERIES) * ATTENTION_QUERIES;
    int64_t pitch = blocks_of(d_head, Q8_BLOCK) * Q8_BLOCK;
    return panels * (KV_BLOCK + 4 * pitch) + KV_BLOCK * pitch + 16;
}

/* The above; m and l of the whole and of a part, and the output of the part. */
int64_t attention_scratch_floats(int n_group, int d_head)
{
    return kernel_floats(n_group, d_head) + tile_queries(n_group) * (4 + d_head);
}

void attention_range(const struct attention_args *a, int64_t *begin, int64_t *end)
{
    *begin = a->window && a->pos >= a->window ? a->pos - a->window + 1 : 0;
    *end = a->pos + a->n_row;
}

void attention_blocks(const struct attention_args *a, int64_t *first, int64_t *last)
{
    int64_t begin, end;
    attention_range(a, &begin, &end);
    begin = begin > a->begin ? begin : a->begin;
    end = end < a->end ? end : a->end;
    *first = begin / KV_BLOCK;
    *last = end > begin ? (end - 1) / KV_BLOCK + 1 : *first;
}

void attention_start(const struct attention_args *a)
{
    for (int i = 0; i < a->n_row * a->n_group; i++) {
        a->m[i] = ATTENTION_NOTHING;
        a->l[i] = 0;
    }
    for (int r = 0; r < a->n_row; r++)
        memset(a->out + r * a->out_stride, 0, (size_t)a->n_group * (size_t)a->d_head * 4);
}

void attention_run_tile(const struct kernels *k, enum role role, const struct attention_args *args)
{
    int64_t end, n = tile_queries(args->n_group);
    struct attention_args whole = *args;
    whole.m = args->scratch + kernel_floats(args->n_group, args->d_head);
    whole.l = whole.m + n;
    attention_range(&whole, &whole.begin, &end);
    whole.begin = whole.begin / ATTENTION_CHUNK * ATTENTION_CHUNK;
    whole.end = role == ROLE_DECODE ? whole.begin + ATTENTION_CHUNK : end;
    k->attention[role](&whole);
    struct attention_args part = whole;
    part.m = whole.l + n;
    part.l = part.m + n;
    part.out = part.l + n;
    part.out_stride = (int64_t)args->n_group * args->d_head;
    while (part.end < end) {
        part.begin = part.end;
        part.end += ATTENTION_CHUNK;
        k->attention[role](&part);
        k->attention_join(&whole, &part);
    }
    k->attention_finish(&whole);
}

/* Forward: pointers to blocks, keys and values, m and l of a tile, and what attention takes for that. Backward: keys
 * with their rows padded, five such tiles of queries, weights and what the loss says of them, two numbers for each
 * query. */
int64_t self_attention_scratch_floats(int n_tok, int n_group, int d_head)
{
    int64_t pitch = blocks_of(d_head, Q8_BLOCK) * Q8_BLOCK, room = 16;
    int64_t pointers = 2 * blocks_of(n_tok, KV_BLOCK) * (int64_t)(sizeof(void *) / sizeof(float));
    int64_t forward = pointers + 2 * (int64_t)n_tok * d_head + 2 * tile_queries(n_group) +
                      attention_scratch_floats(n_group, d_head);
    int64_t backward = n_tok * pitch + ATTENTION_QUERIES * (5 * pitch + 2 * KV_BLOCK + 2);
    return (forward > backward ? forward : backward) + room;
}
