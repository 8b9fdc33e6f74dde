/* graft/fuse.h: bake adapters into the weights of a new model.
 *
 * Where adapters are applied, the base stays as it is and they can be changed at any time. A fused model has
 * them in its weights, for programs that know no adapters or to save their few percent of time. A change that is
 * small beside the steps of a quantised type can get lost in it; the certificate says how much of it did.
 * (graft_model_options.fuse opens a model so, without writing anything.)
 */
#ifndef GRAFT_PUBLIC_FUSE_H
#define GRAFT_PUBLIC_FUSE_H

#include <graft/model.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct graft_fuse_options {
    size_t struct_size;
    graft_format format; /* GGUF (default), an HF or an MLX quantised directory */
    const char *type;    /* as graft_convert_options.type */
    /* A matrix in fewer than 8 bits becomes an 8-bit one when the share of its ΔW that would be left is
     * below this, or as far above 1. 0.9 (default), in [0, 1); 0: never. */
    double fallback;
    /* Round so that the error stays out of the directions in which the adapters read (docs/fuse.md). Default
     * false. Quantised types only. */
    bool compensate;
    /* Write what the types lost, W' − W'q, as a low-rank adapter of the fused model: a PEFT directory, absent or
     * empty before. NULL (default): none. Costs a matrix in floats of memory at a time. */
    const char *sidecar;
    int sidecar_rank; /* 16 (default), 1 to 4096 */
    const char
        *text; /* to measure the divergence on; NULL (default): one that graft brings along */
    size_t text_size;
    int kl_tokens; /* of it, at most: 512 (default); 0: the divergence is not measured */
    graft_progress_fn progress; /* NULL: none; units: bytes, then tokens */
    void *progress_user;
} graft_fuse_options;
GRAFT_API void graft_fuse_options_init(graft_fuse_options *options, size_t struct_size);
static inline graft_fuse_options graft_fuse_options_default(void)
{
    graft_fuse_options options;
    graft_fuse_options_init(&options, sizeof options);
    return options;
}

/* Writes the model at model_path with W + Σ weight · ΔW in the place of W, tensor by tensor: memory stays at the
 * adapters and some rows. Biases that an adapter adds are written where the output has a place for them; a
 * head that shares the embedding's weights gets its own when only one of the two changes. What is written is what
 * graft_convert writes, with the same rules for out_path; nothing is left behind by a failed or cancelled call,
 * of the certificate and the sidecar neither: the model gets its name last. None of them may be a file that is read
 * (IO, with its name), nor lie within the sidecar or around it (INVALID_ARGUMENT).
 *
 * *certificate (may be NULL) becomes a JSON text, to be released with graft_free (docs/fuse.md has the schema): for
 * every matrix that changed its relative error and the share of its change that is retained, and for the
 * model the divergence from the adapters beside the base. The same goes beside the output: OUT.fuse.json,
 * or fuse.json in a directory.
 *
 * INVALID_ARGUMENT: no members, two with the same content, or weights, types or options that make no sense; UNSUPPORTED: the output
 * cannot hold what an adapter changes, by its name; else as graft_model_open, graft_adapter_open and
 * graft_convert. Any thread. */
GRAFT_API graft_status graft_fuse(graft_runtime *runtime, const char *model_path,
                                  const graft_fuse_member *members, size_t n_members,
                                  const char *out_path, const graft_fuse_options *options,
                                  char **certificate, graft_error *error);

#ifdef __cplusplus
}
#endif
#endif
