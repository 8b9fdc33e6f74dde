/* bake.h: the weights that a mix amounts to.
 *
 * A mix beside the weights and W' = W + Σ w ΔW in their place are the same model up to rounding. Here W' is
 * computed row by row, for whoever writes it elsewhere (convert) or opens a model with it (bake_model).
 * Nothing of an open model that others may see is changed.
 */
#ifndef GRAFT_BAKE_H
#define GRAFT_BAKE_H

#include "model/model.h"

/* The matrices that a mix may change have a place each: the sites, then the embedding. A head that is tied
 * to the embedding has its site all the same. */
int bake_places(const struct model *model);
int bake_embed_place(const struct model *model);
bool bake_changes(const struct delta_set *mix, int place);
/* A norm as it is under the mix, borrowed from it; NULL: as in the base. */
const float *bake_norm(const struct delta_set *mix, int norm);
/* Does the mix add a bias to the outputs of a site? */
bool bake_has_bias(const struct delta_set *mix, int site);
/* bias[o] += Σ w · gain · scale · bias of the members; [n_out]. */
void bake_add_bias(const struct delta_set *mix, int site, float *bias);

/* One matrix under a mix, ready to be computed. Immutable; the mix must outlive it. */
struct bake;
graft_status bake_open(const struct delta_set *mix, int place, struct bake **out,
                       graft_error *error);
void bake_close(struct bake **bake);
const struct matrix *bake_base(const struct bake *bake); /* [n_out, n_in] */
/* w [n_in]: row `row` of the base in, of W' out; delta [n_in] becomes the row of ΔW. Any number of
 * threads. */
void bake_row(const struct bake *bake, int64_t row, float *w, float *delta);
/* Vectors [rank, n_in] that span the rows of ΔW, as far as it is of low rank: the A of all members. */
const float *bake_basis(const struct bake *bake, int64_t *rank);

#endif
