/* method.c: what the methods are called, what each of them looks at, and what none of them takes. */
#include "adapter/merge/merge_internal.h"

#include <math.h>

enum { MAX_RANK = 65536 };
static const double PARALLEL = 0.9995; /* cosine beyond which SLERP is a straight line */
enum uses { WEIGHTS = 1, DENSITY = 2, SIGNS = 4, DENSE = 8 };

static const struct {
    const char *name, *other;
    int uses;
} METHODS[MERGE_METHOD_COUNT] = {
    [MERGE_AVERAGE] = {"average", "mean", 0},
    [MERGE_LINEAR] = {"linear", "weighted", WEIGHTS},
    [MERGE_CAT] = {"cat", "concat", WEIGHTS},
    [MERGE_TASK_ARITHMETIC] = {"task_arithmetic", "task-arithmetic", WEIGHTS},
    [MERGE_SLERP] = {"slerp", "slerp", 0},
    [MERGE_MODEL_STOCK] = {"model_stock", "model-stock", 0},
    [MERGE_SVD] = {"svd", "svd", WEIGHTS},
    [MERGE_MAGNITUDE_PRUNE] = {"magnitude_prune", "magnitude-prune", WEIGHTS | DENSITY | DENSE},
    [MERGE_TIES] = {"ties", "ties", WEIGHTS | DENSITY | SIGNS | DENSE},
    [MERGE_DARE_LINEAR] = {"dare_linear", "dare-linear", WEIGHTS | DENSITY | DENSE},
    [MERGE_DARE_TIES] = {"dare_ties", "dare-ties", WEIGHTS | DENSITY | SIGNS | DENSE},
    [MERGE_DELLA_LINEAR] = {"della_linear", "della-linear", WEIGHTS | DENSITY | DENSE},
    [MERGE_DELLA] = {"della", "della", WEIGHTS | DENSITY | SIGNS | DENSE},
    [MERGE_BREADCRUMBS] = {"breadcrumbs", "breadcrumbs", WEIGHTS | DENSITY | DENSE},
    [MERGE_BREADCRUMBS_TIES] = {"breadcrumbs_ties", "breadcrumbs-ties",
                                WEIGHTS | DENSITY | SIGNS | DENSE},
};

const char *merge_method_name(enum merge_method method)
{
    return METHODS[method].name;
}

bool merge_method_from(const char *name, enum merge_method *out)
{
    for (int i = 0; i < MERGE_METHOD_COUNT; i++)
        if (!strcmp(name, METHODS[i].name) || !strcmp(name, METHODS[i].other)) {
            *out = (enum merge_method)i;
            return true;
        }
    return false;
}

bool merge_uses_weights(enum merge_method method)
{
    return METHODS[method].uses & WEIGHTS;
}

bool merge_uses_density(enum merge_method method)
{
    return METHODS[method].uses & DENSITY;
}

bool merge_elects_signs(enum merge_method method)
{
    return METHODS[method].uses & SIGNS;
}

bool merge_is_dense(enum merge_method method)
{
    return METHODS[method].uses & DENSE;
}

/* ---- angles ------------------------------------------------------------------------------- */

/* Shoemake 1985. */
void merge_slerp_factors(const double inner[4], double t, double out[2])
{
    const double n0 = sqrt(fmax(inner[0], 0)), n1 = sqrt(fmax(inner[3], 0));
    const double cosine = n0 > 0 && n1 > 0 ? inner[1] / (n0 * n1) : 1;
    out[0] = 1 - t;
    out[1] = t;
    if (fabs(cosine) > PARALLEL)
        return;
    const double angle = acos(cosine);
    out[0] = sin((1 - t) * angle) / sin(angle);
    out[1] = sin(t * angle) / sin(angle);
}

double merge_stock_factor(const double *inner, size_t n)
{
    double sum = 0;
    size_t pairs = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++) {
            const double both = sqrt(fmax(inner[i * n + i], 0) * fmax(inner[j * n + j], 0));
            sum += both > 0 ? inner[i * n + j] / both : 0;
            pairs += both > 0;
        }
    const double cosine = pairs ? fmax(sum / (double)pairs, 0) : 1;
    return cosine / (1 + (double)(n - 1) * cosine); /* times N for t, by N for the mean */
}

/* ---- checks ------------------------------------------------------------------------------- */

static graft_status check_density(const struct merge_plan *plan, const struct merge_input *input,
                                  graft_error *error)
{
    const bool ranked = plan->method == MERGE_DELLA || plan->method == MERGE_DELLA_LINEAR;
    const bool crumbs = plan->method == MERGE_BREADCRUMBS || plan->method == MERGE_BREADCRUMBS_TIES;
    if (!(input->density > 0 && input->density <= 1))
        return error_set(
            error, GRAFT_INVALID_ARGUMENT,
            "density %g of %.100s: it is the share of values that is kept, above 0 and "
            "at most 1",
            input->density, input->name);
    if (ranked && !(input->epsilon >= 0 && input->density - input->epsilon > 0 &&
                    input->density + input->epsilon <= 1))
        return error_set(
            error, GRAFT_INVALID_ARGUMENT,
            "epsilon %g of %.100s: density %g with and without it must lie above 0 and "
            "at most at 1",
            input->epsilon, input->name, input->density);
    if (crumbs && !(input->gamma >= 0 && input->gamma < 1))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "gamma %g of %.100s: it is the share of the largest values that goes, at "
                         "least 0 and below 1",
                         input->gamma, input->name);
    return GRAFT_OK;
}

static graft_status check_inputs(const struct merge_plan *plan, graft_error *error)
{
    double sum = 0;
    for (size_t i = 0; i < plan->n; i++) {
        const struct merge_input *input = &plan->inputs[i];
        if (!isfinite(input->weight))
            return error_set(error, GRAFT_INVALID_ARGUMENT,
                             "weight %g of %.100s: it must be finite", input->weight, input->name);
        sum += input->weight;
        graft_status status =
            merge_uses_density(plan->method) ? check_density(plan, input, error) : GRAFT_OK;
        if (status != GRAFT_OK)
            return status;
    }
    if (plan->normalize && merge_uses_weights(plan->method) && !(fabs(sum) > 1e-9))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "the weights sum to %g, by which nothing can be divided: leave "
                         "normalisation out, or change them",
                         sum);
    return GRAFT_OK;
}

graft_status merge_check(const struct merge_plan *plan, graft_error *error)
{
    if (plan->n < 1 || plan->n > MERGE_MAX)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "%zu adapters: 1 to %d can be merged",
                         plan->n, MERGE_MAX);
    if (plan->method == MERGE_SLERP && plan->n != 2)
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "slerp goes from one adapter to another: it takes 2, not %zu", plan->n);
    if (plan->method == MERGE_SLERP && !(plan->t >= 0 && plan->t <= 1))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "slerp's t is %g; it goes from 0, the first adapter, to 1", plan->t);
    if (plan->rank < 0 || plan->rank > MAX_RANK)
        return error_set(error, GRAFT_INVALID_ARGUMENT, "rank %lld: it is 1 to %d",
                         (long long)plan->rank, MAX_RANK);
    if (plan->method == MERGE_CAT && (plan->rank > 0 || plan->energy != 0))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "cat keeps every rank: linear with a rank is the same sum, brought down");
    if (plan->energy != 0 &&
        (!(plan->energy > 0 && plan->energy <= 1) || merge_is_dense(plan->method)))
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "energy %g: it is a share, above 0 and at most 1, of a weighted sum",
                         plan->energy);
    if (!isfinite(plan->lambda))
        return error_set(error, GRAFT_INVALID_ARGUMENT, "lambda %g: it must be finite",
                         plan->lambda);
    return check_inputs(plan, error);
}
