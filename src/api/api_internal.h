/* api_internal.h: what the files of this folder share: the records behind the opaque types, and the
 * checks that every entry begins with.
 */
#ifndef GRAFT_API_INTERNAL_H
#define GRAFT_API_INTERNAL_H

#include "adapter/adapter.h"
#include "base/base.h"
#include "generate/generate.h"
#include "model/model.h"

#include <graft/graft.h>

#include <pthread.h>

struct graft_tokenizer {
    graft_runtime *runtime;
    struct tokenizer *tokenizer;
};

struct graft_model {
    graft_runtime *runtime;
    struct model *model;
    struct graft_tokenizer tokenizer; /* the model's own, borrowed */
    char (*labels)[24];               /* [n_labels] made-up names, or NULL */
    uint64_t n_params, weight_bytes;
    pthread_mutex_t lock;          /* of: */
    struct mix *mix;               /* of new sessions, NULL: none */
    struct vocabulary *vocabulary; /* for constraints, made for the first of them; NULL: not yet */
};

struct dataset;
struct graft_dataset {
    graft_runtime *runtime;
    struct dataset *dataset;
};

enum { MIX_MAX = 64 }; /* adapters in a mix */

/* Handles are the objects themselves under their public names. */
static inline struct adapter *adapter_of(const graft_adapter *handle)
{
    return (struct adapter *)(uintptr_t)handle;
}
static inline graft_adapter *adapter_handle(struct adapter *adapter)
{
    return (graft_adapter *)(void *)adapter;
}
static inline struct mix *mix_of(const graft_mix *handle)
{
    return (struct mix *)(uintptr_t)handle;
}
static inline graft_mix *mix_handle(struct mix *mix)
{
    return (graft_mix *)(void *)mix;
}
/* A reference to the mix of new sessions, to be released; NULL: none. */
struct mix *model_default_mix(const struct graft_model *model);

/* What is in a registry, NULL if it has another model; and the public shape of an id. */
struct registry *registry_of(const graft_registry *registry, const struct graft_model *model);
void adapter_id_give(const struct registry_version_id *id, graft_adapter_id *out); /* NULL: no */
/* A recipe as the inner layers have it; NULL: the defaults. */
struct adapter_recipe;
graft_status recipe_read(const graft_adapter_recipe *recipe, struct adapter_recipe *out,
                         graft_error *error);
/* Paths, weights and their number. */
graft_status fuse_members_check(const graft_fuse_member *members, size_t n, graft_error *error);

/* Leaves the function with INVALID_ARGUMENT when a pointer is NULL. */
#define REQUIRE(pointer)                                                                           \
    do {                                                                                           \
        if ((pointer) == NULL) {                                                                   \
            return error_set(error, GRAFT_INVALID_ARGUMENT, "%s: %s is NULL", __func__, #pointer); \
        }                                                                                          \
    } while (0)

/* Leaves the function when the process is not the one that made the runtime. */
#define CHECK_RUNTIME(runtime)                                                                     \
    do {                                                                                           \
        graft_status fork_status = runtime_check((runtime), error);                                \
        if (fork_status != GRAFT_OK) {                                                             \
            return fork_status;                                                                    \
        }                                                                                          \
    } while (0)

/* Copies the caller's options, of whatever size its header gave them, over `out`, which holds the
 * defaults and begins with struct_size like theirs. `options` NULL: nothing to copy. */
graft_status options_read(void *out, size_t size, const void *options, graft_error *error);
/* Hands the defaults [size] to a caller whose struct has struct_size bytes. */
void options_give(void *out, size_t struct_size, const void *defaults, size_t size);
/* A graft_sampling has one size for ever. */
graft_status sampling_read(const graft_sampling *sampling, graft_error *error);

/* Options of drafts, whole (draft.c); the model in them, or NULL, which must be of the same runtime. */
graft_status draft_options_read(const graft_draft_options *given, graft_draft_options *out,
                                graft_error *error);
graft_status draft_model_of(const struct model *model, const graft_draft_options *options,
                            const struct model **out, graft_error *error);

/* What a constraint of this model holds answers to, borrowed; NULL: nothing (constraint.c). */
struct grammar;
graft_status constraint_of(const graft_constraint *constraint, const struct model *model,
                           struct grammar **grammar, struct vocabulary **vocabulary,
                           graft_error *error);

/* A report as text that graft_free releases (adapter_files.c). */
graft_status report_text(graft_runtime *runtime, const json_t *report, char **json,
                         graft_error *error);

#endif
