/* merge_support.c: modules with changes made by hand. */
#include "merge_support.h"
#include "conformance_support.h"

void bench_site_open(struct bench_site *b, const struct model *model, int64_t n_out, int64_t n_in,
                     const int64_t *ranks, size_t n)
{
    struct mem *mem = &model->runtime->mem;
    *b =
        (struct bench_site){.inputs = {.model = model, .mem = mem, .n = n},
                            .site = {.slot = SLOT_LINEAR + LINEAR_O, .n_in = n_in, .n_out = n_out}};
    b->site.factors = mem_calloc(mem, n, sizeof(double));
    b->inputs.members = mem_calloc(mem, n, sizeof *b->inputs.members);
    b->changes = (struct changes){.inputs = &b->inputs, .site = &b->site};
    b->changes.begins = mem_calloc(mem, n + 1, sizeof(int64_t));
    b->changes.scales = mem_calloc(mem, n, sizeof(double));
    b->changes.gains = mem_calloc(mem, n, sizeof(float *));
    for (size_t i = 0; i < n; i++) {
        b->site.rank += ranks[i];
        b->changes.begins[i + 1] = b->site.rank;
        b->changes.scales[i] = b->site.factors[i] = 1;
        memset(b->inputs.members[i].digest, (int)i + 1, 32);
    }
    b->changes.a = mem_calloc(mem, (size_t)(b->site.rank * n_in), sizeof(float));
    b->changes.bt = mem_calloc(mem, (size_t)(b->site.rank * n_out), sizeof(float));
}

void bench_site_close(struct bench_site *b)
{
    struct mem *mem = b->inputs.mem;
    mem_free(mem, b->result.a);
    mem_free(mem, b->result.b);
    mem_free(mem, b->site.factors);
    mem_free(mem, b->inputs.members);
    changes_close(&b->changes);
}

void bench_site_set(struct bench_site *b, size_t i, const float *dw)
{
    const int64_t n_in = b->site.n_in, n_out = b->site.n_out;
    for (int64_t r = 0; r < n_in; r++) {
        b->changes.a[(b->changes.begins[i] + r) * n_in + r] = 1;
        for (int64_t o = 0; o < n_out; o++)
            b->changes.bt[(b->changes.begins[i] + r) * n_out + o] = dw[o * n_in + r];
    }
}

void bench_site_want(struct bench_site *b, int64_t rank)
{
    struct mem *mem = b->inputs.mem;
    mem_free(mem, b->result.a);
    mem_free(mem, b->result.b);
    b->site.out_rank = rank;
    b->result = (struct merge_result){0};
    b->result.a = mem_calloc(mem, (size_t)(rank * b->site.n_in), sizeof(float));
    b->result.b = mem_calloc(mem, (size_t)(rank * b->site.n_out), sizeof(float));
}

float *bench_site_product(const struct bench_site *b)
{
    const int64_t n_in = b->site.n_in, n_out = b->site.n_out, rank = b->site.out_rank;
    float *out = malloc((size_t)(n_in * n_out) * sizeof *out);
    for (int64_t o = 0; o < n_out; o++)
        for (int64_t i = 0; i < n_in; i++) {
            double sum = 0;
            for (int64_t r = 0; r < rank; r++)
                sum += (double)b->result.b[o * rank + r] * (double)b->result.a[r * n_in + i];
            out[o * n_in + i] = (float)sum;
        }
    return out;
}
