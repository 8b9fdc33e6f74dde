/* result.c: the values of one module of a merge or of a compressed adapter, on their way to a writer; and what of a change stays
 * at a rank.
 */
#include "adapter/merge/merge_internal.h"

#include <math.h>

void merge_result_close(struct merge_result *r, struct mem *mem)
{
    mem_free(mem, r->a);
    mem_free(mem, r->b);
    mem_free(mem, r->magnitude);
    mem_free(mem, r->bias);
    mem_free(mem, r->weight);
    *r = (struct merge_result){0};
}

graft_status merge_result_open(struct merge_result *out, struct mem *mem,
                               const struct draft_module *m, graft_error *error)
{
    const size_t n_out = (size_t)m->n_out, n_in = (size_t)m->n_in, rank = (size_t)m->rank;
    *out = (struct merge_result){0};
    if (m->whole) {
        out->weight = mem_calloc(mem, n_out * n_in, sizeof(float));
    } else {
        out->a = mem_calloc(mem, rank * n_in, sizeof(float));
        out->b = mem_calloc(mem, rank * n_out, sizeof(float));
    }
    if (m->dora)
        out->magnitude = mem_calloc(mem, n_out, sizeof(float));
    if (m->biased)
        out->bias = mem_calloc(mem, n_out, sizeof(float));
    return (m->whole ? out->weight != NULL : out->a && out->b) && (!m->dora || out->magnitude) &&
                   (!m->biased || out->bias)
               ? GRAFT_OK
               : error_set(error, GRAFT_NO_MEMORY, "no memory for the values of a module");
}

void merge_result_read(const struct merge_result *r, const struct draft_module *m, enum part part,
                       float *out)
{
    const float *from = part == PART_A           ? r->a
                        : part == PART_B         ? r->b
                        : part == PART_MAGNITUDE ? r->magnitude
                        : part == PART_LORA_BIAS ? r->bias
                                                 : r->weight;
    const int64_t n = part == PART_A        ? m->rank * m->n_in
                      : part == PART_B      ? m->rank * m->n_out
                      : part == PART_WEIGHT ? m->n_out * m->n_in
                                            : m->n_out;
    memcpy(out, from, (size_t)n * sizeof *out);
}

double merge_lost(double all, double kept)
{
    return all > 0 ? fmax(all - kept, 0) / all : 0;
}

int64_t merge_least_rank(const double *squares, int64_t n, double energy, int64_t most)
{
    double all = 0, sum = 0;
    int64_t rank = 0;
    for (int64_t i = 0; i < n; i++)
        all += squares[i];
    while (rank < n && rank < most && sum < energy * all)
        sum += squares[rank++];
    return rank > 0 ? rank : 1; /* a module that changes nothing stays one */
}
