/* attention_pairs_body.h: scores of few queries with keys that are halves, in the cache as they lie. Included by
 * attention_body.h for the tiers whose ..._vec.h has the words for it.
 *
 * A score is a sum along the lanes, and to take it costs as much as to multiply. So the keys are taken four at a
 * time and their pairs of elements shuffled, while still halves, until a vector has the same pairs of all four:
 * what is left to add at the end are neighbours, for four keys at once. The queries are laid out to match once:
 * vector j of a chunk of VF elements has elements 2 j and 2 j + 1 of each eight, four times over.
 */
#include "kernels/decode_tiles.h"

enum {
    PAIR_GROUPS = 2, /* fours of keys that share the loads of queries */
    PAIR_KEYS = 4 * PAIR_GROUPS,
    PAIR_QUERIES = 7,
    PAIR_SUMS = (PAIR_QUERIES * PAIR_GROUPS + 3) / 4 * 4
};
_Static_assert(SCORE_KEYS % PAIR_KEYS == 0, "whole tiles");

/* One load into a register: the compiler would make it part of both products that use it, and loads are what
 * bounds them. */
ALWAYS_INLINE vf v_loaded(const float *p)
{
    vf v = v_load(p);
    __asm__("" : "+v"(v));
    return v;
}

/* How many of the queries that are left are taken at once: 7, 4, 2 or 1. */
static int pair_some(int left)
{
    return left == 8 ? 4 : left >= PAIR_QUERIES ? PAIR_QUERIES : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* The queries of all rows, those that are taken at once side by side: [chunk, 4, query, VF]. */
static void pair_queries(const struct attention_state *s)
{
    const struct attention_args *a = s->a;
    float *to = s->turned;
    for (int left = a->n_row * a->n_group, first = 0; left > 0;) {
        int some = pair_some(left);
        for (int64_t i = 0; i < a->d_head; i += VF, to += 4 * some * VF)
            for (int q = 0; q < some; q++) {
                int row = (first + q) / a->n_group, head = (first + q) % a->n_group;
                vf v = v_load(a->q + row * a->q_stride + (int64_t)head * a->d_head + i);
                for (int j = 0; j < 4; j++)
                    v_store(to + (j * some + q) * VF, v_repeat_pairs(v, j));
            }
        first += some;
        left -= some;
    }
}

/* sum[query, group] of some laid out queries and PAIR_KEYS keys */
ALWAYS_INLINE void pair_sums(const float *q, const struct kv_rows *keys, int64_t d_head,
                             int queries, vf sum[PAIR_SUMS])
{
    const size_t stride = keys->stride;
    const uint8_t *at[PAIR_GROUPS];
    TIMES(g, PAIR_GROUPS)
    {
        at[g] = keys->at + 4 * g * stride;
    }
    TIMES(i, PAIR_SUMS)
    {
        sum[i] = v_zero();
    }
    for (int64_t c = 0; c < d_head; c += VF) {
        vh key[PAIR_GROUPS][4];
        TIMES(g, PAIR_GROUPS)
        {
            at[g] = one_pointer(at[g]);
            key[g][0] = vh_load(at[g]);
            key[g][1] = vh_load(at[g] + stride);
            key[g][2] = vh_load(at[g] + 2 * stride);
            key[g][3] = vh_load(at[g] + 3 * stride);
            vh_pairs_of_four(key[g]);
            at[g] += 2 * VF;
        }
        TIMES(j, 4)
        {
            vf floats[PAIR_GROUPS];
            TIMES(g, PAIR_GROUPS)
            {
                floats[g] = vh_floats(key[g][j]);
            }
            TIMES(h, queries)
            {
                vf qj = v_loaded(q);
                TIMES(g, PAIR_GROUPS)
                {
                    sum[h * PAIR_GROUPS + g] = v_fma(qj, floats[g], sum[h * PAIR_GROUPS + g]);
                }
                q += VF;
            }
        }
    }
}

/* weights[query, key] of some laid out queries and n keys, a multiple of PAIR_KEYS. */
ALWAYS_INLINE void score_pairs(const float *q, struct kv_rows keys, int n, int64_t d_head,
                               int queries, float *weights)
{
    for (int j = 0; j < n; j += PAIR_KEYS, keys = rows_from(keys, PAIR_KEYS)) {
        float scores[PAIR_SUMS * 4];
        vf sum[PAIR_SUMS];
        pair_sums(q, &keys, d_head, queries, sum);
        fetch_next(&keys, PAIR_KEYS);
        TIMES(i, (queries * PAIR_GROUPS + 3) / 4)
        {
            v_pair_sums(sum + 4 * i, scores + 16 * i);
        }
        TIMES(h, queries)
        {
            memcpy(weights + h * KV_BLOCK + j, scores + h * PAIR_KEYS, PAIR_KEYS * sizeof *scores);
        }
    }
}

/* Positions begin..end of a block as they lie, with zeros up to a multiple of SCORE_KEYS: not even to throw
 * the result away may one read what another worker writes. */
static struct kv_rows rows_whole(const struct attention_state *s, struct kv_rows rows, int n)
{
    int whole = (int)blocks_of(n, SCORE_KEYS) * SCORE_KEYS;
    if (n == whole)
        return rows;
    memcpy(s->tile, rows.at, (size_t)n * rows.stride);
    memset((uint8_t *)s->tile + (size_t)n * rows.stride, 0, (size_t)(whole - n) * rows.stride);
    rows.at = (const uint8_t *)s->tile;
    return rows;
}

/* Scores, not yet scaled, of all queries with n positions, and with those up to a multiple of SCORE_KEYS. */
static void score_in_pairs(const struct attention_state *s, struct kv_rows keys, int n,
                           float *weights)
{
    const struct attention_args *a = s->a;
    const float *q = s->turned;
    keys = rows_whole(s, keys, n);
    n = (int)blocks_of(n, SCORE_KEYS) * SCORE_KEYS;
    for (int left = a->n_row * a->n_group; left > 0;) {
        int some = pair_some(left);
        if (some == PAIR_QUERIES)
            score_pairs(q, keys, n, a->d_head, PAIR_QUERIES, weights);
        else if (some == 4)
            score_pairs(q, keys, n, a->d_head, 4, weights);
        else if (some == 2)
            score_pairs(q, keys, n, a->d_head, 2, weights);
        else
            score_pairs(q, keys, n, a->d_head, 1, weights);
        keys.next = NULL;
        q += (int64_t)some * 4 * a->d_head;
        weights += some * KV_BLOCK;
        left -= some;
    }
}
