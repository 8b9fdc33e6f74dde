/* fuse_support.h: what the tests of fusing share: random bases with random adapters, fused files, and the
 * comparison with the adapters beside the base. For tests only: failures abort through cmocka.
 */
#ifndef FUSE_SUPPORT_H
#define FUSE_SUPPORT_H

#include "adapter/fuse/fuse.h"

#include "conformance_support.h"
#include "oracle_adapter.h"

enum { FUSE_TOKENS = 24 };

extern struct graft_runtime fuse_rt;
int fuse_setup(void **state); /* a folder and a runtime of two threads */
int fuse_teardown(void **state);

/* A base "base" and adapters "a0", "a1" in the test's folder; variants separated by blanks, seeds 7, 8. The
 * wide shape has rows of 256. */
struct fuse_case {
    const char *arch, *variants;
    bool wide;
    graft_type type;
    float weights[2];
};
void fuse_write_case(const struct fuse_case *c);
size_t fuse_members(const struct fuse_case *c, graft_fuse_member members[2]);

/* Fuses base and adapters into `out`, a GGUF when the name ends so; the certificate is the caller's. */
graft_status fuse_try(const struct fuse_case *c, const char *out, graft_fuse_options *options,
                      json_t **certificate, graft_error *error);
json_t *fuse_do(const struct fuse_case *c, const char *out, graft_fuse_options *options);

/* Logits of some tokens: of the base, under the mix of the adapters, of another model. */
struct fuse_logits {
    float *base, *mixed, *fused;
    size_t count;
};
struct fuse_logits fuse_run(const struct fuse_case *c, const char *fused);
void fuse_logits_free(struct fuse_logits *l);

double fuse_number(const json_t *certificate, const char *tensor, const char *key);
const char *fuse_type(const json_t *certificate, const char *tensor);

#endif
