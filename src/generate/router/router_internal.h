/* router_internal.h: what the files of this folder share. */
#ifndef GRAFT_GENERATE_ROUTER_INTERNAL_H
#define GRAFT_GENERATE_ROUTER_INTERNAL_H

#include "formats/formats.h"
#include "generate/router/router.h"

#include <pthread.h>

enum { ROUTER_MAX_LABEL = 130 };
/* NAME[@VERSION], as adapters are called. */
bool router_label_valid(const char *label);

/* An empty table; what it could take is given back by router_table_free, on failure too. */
graft_status router_table_make(struct router_table *t, struct mem *mem, int n_labels, int width,
                               graft_error *error);

struct router {
    struct mem *mem;
    struct router_table table;
    const struct model *model;     /* NULL: to be looked at only */
    struct graft_session *session; /* of the lock */
    pthread_mutex_t lock;
};
/* An empty router, with a session where there is a model. */
graft_status router_make(struct mem *mem, const struct model *model, struct router **out,
                         graft_error *error);
/* out [d_model]. */
graft_status router_embed(struct router *r, const char *text, size_t size, float *out,
                          graft_error *error);
/* The label of the highest score, of equals the first. */
int router_best(const struct router_table *t, const float *embedding);
/* Tells about the prompts that are done; CANCELLED. */
graft_status router_tell(graft_progress_fn progress, void *user, size_t done, size_t total,
                         graft_error *error);

/* Σ x y, of four partial sums that are added in one order. */
double router_dot(const float *x, const double *y, int n);

#endif
