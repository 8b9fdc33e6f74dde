/* fuse.h: adapters baked into weights: in a new model, or in private copies of an open one.
 *
 * Rows of W + ΔW come from model/bake, files from model/convert. This folder opens the adapters, measures how
 * far the result is from them, and writes the certificate.
 */
#ifndef GRAFT_FUSE_H
#define GRAFT_FUSE_H

#include "adapter/adapter.h"

#include <graft/fuse.h>

/* The mix of adapters opened from their files, which the model must outlive. */
graft_status fuse_open_mix(const struct model *model, const graft_fuse_member *members,
                           size_t n_members, struct mix **out, graft_error *error);

/* Into private copies of the weights of a model that nobody else has seen yet; see model_fuse. */
graft_status fuse_in_place(struct model *model, const graft_fuse_member *members, size_t n_members,
                           graft_error *error);
/* Share of ΔW that a type must retain, unless the caller says otherwise. */
#define FUSE_FALLBACK 0.9

/* As graft_fuse, arguments checked. */
graft_status fuse_write(graft_runtime *runtime, const char *model_path,
                        const graft_fuse_member *members, size_t n_members, const char *out_path,
                        const graft_fuse_options *options, char **certificate, graft_error *error);

/* How far a model is from another, each under a mix or NULL. */
struct divergence {
    double mean, most; /* Kullback-Leibler, of the predictions of each position, in nats */
    int64_t positions, same_top; /* positions where the likeliest is the same */
};
/* Runs the ids through both, in windows. */
graft_status fuse_divergence(const struct model *want, const struct delta_set *mix,
                             const struct model *got, const struct delta_set *got_mix,
                             const graft_token_id *ids, size_t n, const graft_fuse_options *options,
                             struct divergence *out, graft_error *error);
/* Prose for those who give none. */
extern const char FUSE_TEXT[];

#endif
