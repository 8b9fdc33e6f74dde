/* adapt.c: what share of a stream's drafts is right.
 *
 * By source and by place in the draft, given that those before it were right. A place of which little was seen is thought to
 * be like the one before it, and the first like that of other streams.
 */
#include "generate/draft/draft_internal.h"

/* Acceptance of a source that nobody has seen, and how many tries that, or what is known of the place before, counts as. */
static const double PRIOR = 0.6, PRIOR_TRIES = 2;

enum {
    MEMORY = 32,        /* tries after which older ones fade */
    SHARED_MEMORY = 128 /* over all streams */
};

const char *draft_source_name(enum draft_source source)
{
    static const char *const NAMES[DRAFT_SOURCES] = {"ngram", "ngram", "store", "store", "model"};
    return NAMES[source];
}

void adapt_init(struct adapt *a, int first, int most)
{
    *a = (struct adapt){.first = first, .most = most};
    for (int i = 0; i < DRAFT_SOURCES; i++) {
        a->sources[i].wait = TRIAL_LEAST;
    }
}

void adapt_begin_answer(struct adapt *a)
{
    a->age = 0;
}

void adapt_expect(const struct adapt *a, const struct draft_costs *costs, enum draft_source source,
                  int most, double *tokens)
{
    const struct adapt_place *places = a->sources[source].places;
    double acceptance =
        (costs->right[source] + PRIOR_TRIES * PRIOR) / (costs->tried[source] + PRIOR_TRIES);
    double all = 1;
    tokens[0] = 1;
    for (int k = 1; k <= most; k++) {
        acceptance = ((double)places[k - 1].right + PRIOR_TRIES * acceptance) /
                     ((double)places[k - 1].tried + PRIOR_TRIES);
        all *= acceptance;
        tokens[k] = tokens[k - 1] + all;
    }
}

static void count_place(struct adapt_place *p, bool right)
{
    float keep = p->tried < MEMORY ? 1 : 1 - 1.0f / MEMORY;
    p->tried = p->tried * keep + 1;
    p->right = p->right * keep + (right ? 1 : 0);
}

void adapt_learn(struct adapt *a, struct draft_costs *costs, enum draft_source source, int drafted,
                 int accepted)
{
    if (drafted < 1) {
        return;
    }
    for (int j = 0; j < drafted && j <= accepted && j < DRAFT_MOST; j++) {
        count_place(&a->sources[source].places[j], j < accepted);
    }
    costs->debt -= accepted;
    double keep = costs->tried[source] < SHARED_MEMORY ? 1 : 1 - 1.0 / SHARED_MEMORY;
    costs->tried[source] = costs->tried[source] * keep + 1;
    costs->right[source] = costs->right[source] * keep + (accepted > 0 ? 1 : 0);
}
