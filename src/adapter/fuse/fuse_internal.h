/* fuse_internal.h: what the files of this folder share.
 *
 * The sidecar is an adapter of what a fused model lost. The outputs are the model, its certificate and its sidecar, of
 * which either all are there in the end or none.
 */
#ifndef GRAFT_FUSE_INTERNAL_H
#define GRAFT_FUSE_INTERNAL_H

#include "adapter/fuse/fuse.h"

#include "adapter/save/save.h"
#include "model/convert/convert.h"

struct sidecar {
    const struct model *model; /* the base */
    int64_t rank;
    struct adapter_factors *items; /* [n], by matrix as they came */
    double *left;                  /* [n] ‖L − B A‖ */
    size_t n;
};
graft_status sidecar_open(struct sidecar *out, const struct model *model, int rank,
                          graft_error *error);
void sidecar_close(struct sidecar *s); /* a zeroed one is allowed */
/* Notes what the matrix of a record lost, [n_out, n_in] in the order of the base's rows. */
graft_status sidecar_add(struct sidecar *s, const struct fuse_record *record, const float *lost,
                         graft_error *error);
/* A PEFT directory; `base`: what it is made for. */
graft_status sidecar_write(const struct sidecar *s, const char *dir, const char *base,
                           graft_error *error);
/* What is still lost of a place; −1: the sidecar has none of it. */
double sidecar_left(const struct sidecar *s, int place);

#define FOLDER_CERTIFICATE "fuse.json"
struct outputs {
    struct mem *mem;
    const char *out, *sidecar; /* as asked for; sidecar may be NULL */
    bool folder;               /* what is at `out` */
    char *certificate;         /* its path, in the end */
    struct file_writer writer; /* of it, beside a file */
    bool had_folder, sidecar_written, certificate_written;
};
/* Of `o` the first four are set, the rest is zero; to be closed, on failure too. Refuses outputs that are read, that
 * lie in each other's way, or that cannot be written. */
graft_status outputs_open(struct outputs *o, const struct model *model,
                          const graft_fuse_member *members, size_t n_members, graft_error *error);
graft_status outputs_add_sidecar(struct outputs *o, const struct sidecar *sidecar,
                                 graft_error *error);
/* `at`: where the model is until it is renamed. */
graft_status outputs_add_certificate(struct outputs *o, const char *at, const char *text,
                                     graft_error *error);
void outputs_close(struct outputs *o, bool keep); /* not kept: what was added is taken away */

#endif
