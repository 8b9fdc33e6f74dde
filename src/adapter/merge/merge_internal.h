/* merge_internal.h: inputs aligned module by module, their changes in memory, and the two ways to sum them up. */
#ifndef GRAFT_MERGE_INTERNAL_H
#define GRAFT_MERGE_INTERNAL_H

#include "adapter/algebra.h"
#include "adapter/leading.h"
#include "adapter/merge/merge.h"
#include "adapter/save/save_internal.h"

/* ---- methods (method.c) ------------------------------------------------------------------- */

bool merge_elects_signs(enum merge_method method);
/* Is ΔW made, row by row? */
bool merge_is_dense(enum merge_method method);
/* From ⟨ΔW_i, ΔW_j⟩ [2, 2]: the great circle between two changes, taken as vectors with their lengths; a straight line where
 * they are as good as parallel or one is nothing. */
void merge_slerp_factors(const double inner[4], double t, double out[2]);
/* From those of n: what each is multiplied with by Model Stock (Jang, Yun and Han 2024, arXiv:2403.19522): t times their mean,
 * t = n cos θ / (1 + (n − 1) cos θ), θ the mean angle; changes that point away from each other on the whole
 * give 0. Inputs that do not have the module have no angle; where there is none at all the mean stays. */
double merge_stock_factor(const double *inner, size_t n);

/* ---- inputs (inputs.c) -------------------------------------------------------------------- */

/* An adapter as its files have it, checked by opening it. */
struct merge_member {
    struct import import;
    float **
        gains; /* by module of the draft: m / ‖W + s B A‖ [n_out], rows as in Hugging Face; NULL: no DoRA */
    uint8_t digest[32];
};

/* A module that any of the inputs changes. */
struct merge_site {
    int slot, layer; /* of arch.h */
    int64_t n_in, n_out;
    int *modules;      /* [n]: which of the input's draft; −1: it has none */
    int64_t rank;      /* Σ of the inputs' */
    int64_t most_rank; /* of one input */
    bool dora, biased, whole;
    bool weighed; /* ‖ΔW‖² is wanted where nothing is lost, too: it is elsewhere */
    /* What becomes of it: */
    int64_t out_rank;
    double *factors; /* [n]: of a sum */
    double all,
        kept; /* ‖ΔW‖², and what of it is in the result; of DoRA: without what the rows' gains say */
};

struct merge_inputs {
    const struct model *model;
    struct mem *mem;
    size_t n;
    struct merge_member *members; /* [n] */
    struct merge_site *sites;     /* [n_sites] by block and slot */
    int n_sites;
    struct arena arena;
};
/* Opens all of them for the base that they were made for, and finds their modules. Must be closed, on failure too. */
graft_status merge_inputs_open(struct merge_inputs *out, const struct model *model,
                               const struct merge_plan *plan, graft_error *error);
void merge_inputs_close(struct merge_inputs *inputs); /* a zeroed one is allowed */
bool merge_site_name(const struct merge_inputs *inputs, const struct merge_site *site,
                     char out[MODULE_NAME_SIZE]);
/* Row of the base that is row `row` of a Hugging Face model. */
int64_t merge_base_row(const struct model *model, const struct merge_site *site, int64_t row);

/* ---- changes of one site (changes.c) ------------------------------------------------------ */

/* The factors of all inputs at one site, stacked: ranks begins[i]..begins[i + 1] are those of input i. */
struct changes {
    const struct merge_inputs *inputs;
    const struct merge_site *site;
    int64_t *begins;     /* [n + 1] */
    double *scales;      /* [n]: s */
    const float **gains; /* [n]; NULL: none */
    float *a;            /* [rank, n_in] */
    float *bt; /* [rank, n_out]: the columns of B; under DoRA times the gain of their row */
};
/* With factors; not for a module that is held whole. Must be closed, on failure too. */
graft_status changes_open(struct changes *out, const struct merge_inputs *inputs,
                          const struct merge_site *site, graft_error *error);
void changes_close(struct changes *c);
/* out [n, n]: ⟨ΔW_i, ΔW_j⟩, from the factors; where there is DoRA, from the rows. */
graft_status changes_inner(const struct changes *c, double *out, graft_error *error);

/* ---- results ------------------------------------------------------------------------------ */

/* What a site of the result has; the parts that it has not are NULL. */
struct merge_result {
    float *a, *b;     /* [out_rank, n_in], [n_out, out_rank] */
    float *magnitude; /* [n_out] */
    float *bias;      /* [n_out] */
    float *weight;    /* [n_out, n_in]: held whole */
    double all, kept;
};

/* Room for the parts that a module of a draft has, zeros (result.c). Must be closed, on failure too. */
graft_status merge_result_open(struct merge_result *out, struct mem *mem,
                               const struct draft_module *m, graft_error *error);
void merge_result_close(struct merge_result *r, struct mem *mem);
/* As a draft reads it. */
void merge_result_read(const struct merge_result *r, const struct draft_module *m, enum part part,
                       float *out);
/* The share of ‖ΔW‖² that is not kept. */
double merge_lost(double all, double kept);
/* The least rank, at least 1 and at most `most`, that keeps a share of Σ squares [n], which fall; a
 * share above 1: all that `most` allows. */
int64_t merge_least_rank(const double *squares, int64_t n, double energy, int64_t most);

/* Σ site->factors[i] ΔW_i (sum.c): exact where out_rank is the sum of the ranks, else the best of that rank. */
graft_status merge_sum(const struct changes *c, struct merge_result *out, graft_error *error);
/* NUMERIC: for what overflows. */
graft_status merge_too_large(const struct changes *c, graft_error *error);
/* The squares of the singular values of that sum, largest first, *n of them [c->site->rank]. */
graft_status merge_spectrum(const struct changes *c, double *squares, int64_t *n,
                            graft_error *error);
/* Biases, as the plan's method has it of elements that are all kept (NULL: their weighted sum); the weighted sum of modules that are held whole. */
graft_status merge_bias(const struct merge_plan *plan, const struct changes *c,
                        struct merge_result *out, graft_error *error);
graft_status merge_whole(const struct merge_inputs *inputs, const struct merge_site *site,
                         struct merge_result *out, graft_error *error);

/* ---- rows (rows.c) ------------------------------------------------------------------------ */

/* Rows of the ΔW of each input, one after the other or element by element. */
struct change_rows {
    const struct changes *c;
    struct mem *mem;
    float *bt;                   /* [rank, n_out]: as of the changes, times s */
    const struct matrix *weight; /* of the base; NULL: no DoRA */
};
graft_status change_rows_open(struct change_rows *out, const struct changes *c, graft_error *error);
void change_rows_close(struct change_rows *r);
/* out [n_rows, n_in] of input i, zeros where it has none; scratch: change_scratch_bytes of its own for every thread. */
size_t change_scratch_bytes(const struct change_rows *r);
void change_rows_read(const struct change_rows *r, size_t i, int64_t first, int64_t n_rows,
                      float *out, void *scratch);
/* ‖W + B A‖ of each row of the base [n_out] in the order of Hugging Face, bt [rank, n_out]. */
graft_status change_norms(const struct merge_inputs *inputs, const struct merge_site *site,
                          const float *a, const float *bt, int64_t rank, float *out,
                          graft_error *error);

/* Element by element (dense.c, sparse.c): the plan's method over rows of all inputs, brought to out_rank. */
graft_status merge_dense(const struct merge_plan *plan, const struct changes *c,
                         struct merge_result *out, graft_error *error);

/* Which elements of one input count, and how much (sparse.c). Elements are numbered by rows; of equals the first ones are
 * kept. */
struct cut {
    uint32_t bits;   /* of the smallest magnitude that is kept */
    int64_t equals;  /* how many elements of that magnitude are; −1: all */
    int64_t *starts; /* [n_out], where equals ≥ 0: those in the rows before */
};
struct sparsifier {
    enum { SPARSE_NONE, SPARSE_LARGEST, SPARSE_RANDOM, SPARSE_RANKED } kind;
    struct cut keep, outliers; /* LARGEST: kept are those of `keep` that are not of `outliers` */
    bool has_outliers;
    double density, epsilon; /* RANDOM, RANKED */
    uint64_t key, stream;
};
/* |x| as an integer of the same order. */
static inline uint32_t magnitude(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffff;
}
/* `first` is the row that x [n_rows, n_in] begins with. order: [2 n_in] for RANKED. */
void sparsify(const struct sparsifier *s, int64_t first, int64_t n_rows, int64_t n_in, float *x,
              uint64_t *order);

struct combination {
    bool elect;            /* a sign for each element; only those that agree count */
    bool by_frequency;     /* by how many there are, not by their sum */
    bool by_weight;        /* weights vote, and divide */
    bool undivided;        /* nothing divides */
    const double *weights; /* [n] */
    size_t n;
    double lambda;
};
/* out[j] from x[i][j], j < count; out may be x[0]. */
void combine(const struct combination *c, float *const *x, int64_t count, float *out);

#endif
