/* compose.c: the public function that makes a mix of several adapters by a rule.
 *
 * A rule is a choice of weights; the mix is one like any other. Nothing is merged, so nothing is lost.
 */
#include "api/api_internal.h"

static const char *const names[] = {"average", "weighted", "sequential", "most-recent",
                                    "interpolate"};

const char *graft_composition_name(graft_composition how)
{
    return (unsigned)how < ARRAY_LEN(names) ? names[how] : NULL;
}

/* Weights of 1/n or of 1 - t and t, in place of those given. */
static void set_weights(graft_member *members, size_t n, graft_composition how, double t)
{
    for (size_t i = 0; i < n; i++) {
        if (how == GRAFT_COMPOSE_AVERAGE) {
            members[i].weight = (float)(1.0 / (double)n);
        } else if (how == GRAFT_COMPOSE_INTERPOLATE) {
            members[i].weight = (float)(i == 0 ? 1 - t : t);
        }
    }
}

graft_status graft_mix_compose(graft_model *model, const graft_member *members, size_t n,
                               graft_composition how, double t, graft_mix **out, graft_error *error)
{
    REQUIRE(members);
    graft_member own[MIX_MAX];
    if (graft_composition_name(how) == NULL) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "%d is no way to compose adapters",
                         (int)how);
    }
    if (n < 1 || n > MIX_MAX) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "a mix has 1 to %d adapters, not %zu",
                         MIX_MAX, n);
    }
    if (how == GRAFT_COMPOSE_INTERPOLATE && n != 2) {
        return error_set(error, GRAFT_INVALID_ARGUMENT,
                         "interpolate is between two adapters, not %zu", n);
    }
    if (how == GRAFT_COMPOSE_INTERPOLATE && !(t >= 0 && t <= 1)) {
        return error_set(error, GRAFT_INVALID_ARGUMENT, "interpolate: t is from 0 to 1");
    }
    memcpy(own, members, n * sizeof *members);
    set_weights(own, n, how, t);
    size_t first = how == GRAFT_COMPOSE_MOST_RECENT ? n - 1 : 0;
    return graft_mix_open(model, own + first, n - first, out, error);
}
