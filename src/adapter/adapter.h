/* adapter.h: low-rank adapters of any container, bound to one model, and mixes of them.
 *
 * Opening reads a PEFT or MLX directory or a GGUF file, checks everything in it against the model, and copies
 * the factors into memory of its own: nothing stays open, and nothing is visible of an adapter that was
 * refused. What a file asks for and graft does not do is an error that names it, never ignored.
 *
 * Adapters and mixes are immutable and reference counted; any thread may take and give references. The
 * model must outlive them.
 */
#ifndef GRAFT_ADAPTER_H
#define GRAFT_ADAPTER_H

#include "adapter/registry/registry.h"
#include "model/model.h"

enum adapter_format { ADAPTER_PEFT, ADAPTER_MLX, ADAPTER_GGUF };
const char *adapter_format_name(enum adapter_format format); /* "PEFT", … */

struct adapter_options {
    bool retype; /* hold the factors as `type`; otherwise as they are stored */
    graft_type
        type;     /* with kernels_have_factor. An A whose rows are no whole number of blocks is held
                        as BF16 */
    bool rescale; /* MLX: `scale` in place of what the configuration says, or fails to say */
    double scale;
    bool strict_base; /* refuse, with SHAPE, what was made for another base, in place of warning */
};

/* Sets what factors are held as by its name: bf16, int8 (or q8_0), q4 (or q4_0), f16, f32; NULL: as stored.
 * INVALID_ARGUMENT lists them. */
graft_status adapter_retype(struct adapter_options *options, const char *name, graft_error *error);

/* One linear layer, or the embedding, that an adapter changes by factors. */
struct adapter_target {
    int site;           /* −1: the embedding */
    const char *module; /* as the adapter calls it, without prefixes */
    int64_t rank;
    double scale;      /* of B A: alpha / rank, or as the format says */
    graft_type stored; /* type of A in the file */
    graft_type a, b;   /* as held */
    bool dora, biased;
};

struct adapter_info {
    enum adapter_format format;
    const char *path;
    const char *base;       /* what the adapter says it was made for, or NULL */
    const char *scale_from; /* "lora_alpha / r", … */
    const json_t *metadata; /* of the safetensors header: an object of strings, or NULL */
    const json_t *card;     /* graft.json beside it: an object, or NULL */
    size_t bytes;           /* of memory that it holds */
    int64_t parameters;     /* trained values */
    int64_t least_rank, most_rank;
    int n_dora, n_biased; /* targets */
    int n_saved;          /* modules held whole: norms, the embedding, the head */
    size_t saved_bytes;   /* of `bytes` */
    uint8_t digest[32];   /* SHA-256 of what is held: equal digests, equal results */
};

struct adapter;

/* `path`: a directory, the weights in one (its adapter_config.json is looked for beside them), or a GGUF file.
 * `options` NULL: as stored. NOT_FOUND: nothing there. FORMAT: damaged or contradictory. UNSUPPORTED: a kind
 * of adapter that graft does not apply. SHAPE: made for another base; with both shapes. NUMERIC: a value is
 * NaN or infinite, or a row of W + s B A is zero under DoRA. The error names file and tensor. */
graft_status adapter_open(const struct model *model, const char *path,
                          const struct adapter_options *options, struct adapter **out,
                          graft_error *error);
/* IO when `out` is one of the files of the adapter at `path`: what is read is not written over. */
graft_status adapter_refuse_output(struct mem *mem, const char *path, const char *out,
                                   graft_error *error);
struct adapter *
adapter_acquire(struct adapter *adapter);       /* one more reference, to give back with: */
void adapter_release(struct adapter **adapter); /* NULL allowed; the last one frees */

/* Another object for the same adapter, with references of its own: it borrows all that it is made of, and when
 * the last reference to it is given back calls `gone`, from whatever thread that is. */
graft_status adapter_share(struct adapter *adapter, void (*gone)(void *user), void *user,
                           struct adapter **out, graft_error *error);
/* Whether they are one adapter: of one model and with equal digests. */
bool adapter_same(const struct adapter *a, const struct adapter *b);

const struct model *adapter_model(const struct adapter *adapter); /* that it was opened for */
const struct adapter_info *adapter_info(const struct adapter *adapter);
const struct adapter_target *adapter_targets(const struct adapter *adapter, int *n);
/* For a delta_set, which borrows: the reference must be kept meanwhile. */
struct delta_member adapter_member(const struct adapter *adapter, float weight);

/* ---- identity of a base ------------------------------------------------------------------- */

enum { FINGERPRINT_SIZE = 80 };
/* "sha256:…" over architecture, widths and vocabulary: equal in all containers and types of a model. */
graft_status base_fingerprint(const struct model *model, char out[FINGERPRINT_SIZE],
                              graft_error *error);
/* "sha256:…" over bytes. */
graft_status base_hash(const void *bytes, size_t size, char out[FINGERPRINT_SIZE],
                       graft_error *error);
/* An array of numbers that copies of a model agree on and others do not; NULL: no memory. */
json_t *base_sketch(const struct model *model);
/* What of a base, as a card describes it, is not so of the model, in words; "": nothing. */
graft_status base_compare(const struct model *model, const json_t *base, char *out, size_t size,
                          graft_error *error);
/* Compares what a card (may be NULL) says of its base with the model; where it says nothing, nothing differs. Another
 * base is a warning that names `path`, or with `strict` SHAPE. */
graft_status base_check(const struct model *model, const json_t *card, const char *path,
                        bool strict, graft_error *error);

/* The first key of a card (may be NULL) whose value is of another type than docs/adapter-files.md says; NULL: none. */
const char *card_wrong_key(const json_t *card);
/* Such a key is a warning, or with `strict` FORMAT. */
graft_status card_check_types(graft_runtime *runtime, const json_t *card, const char *path,
                              bool strict, graft_error *error);

/* ---- outlines ----------------------------------------------------------------------------- */

/* What an adapter's files say of themselves, read without a model; nothing that only a model tells (names of
 * modules, shapes) is checked. */
struct adapter_outline {
    enum adapter_format format;
    uint64_t bytes; /* of its tensors, as stored */
    char *base;     /* what it says it was made for, or NULL */
    json_t *card;   /* graft.json beside it: an object, or NULL */
    struct mem *mem;
};
graft_status adapter_outline_open(struct adapter_outline *out, struct mem *mem, const char *path,
                                  graft_error *error);
void adapter_outline_close(struct adapter_outline *outline); /* a zeroed one is allowed */

/* ---- versions of a registry --------------------------------------------------------------- */

/* What opening them takes. `model` NULL: they can be added and listed, not opened. With one, an adapter that names no base
 * is opened on it when it is added, and counts as made for it; with options.strict_base every one is opened then. */
struct adapter_versions {
    struct mem *mem;
    const struct model *model;
    struct adapter_options options;
};
/* Tells a registry what an adapter is. `of` must outlive the registry, and the model every adapter that came from
 * it. */
struct registry_loader adapter_loader(struct adapter_versions *of);
/* What an address means, opened if it must be: an object of its own, by which the version counts as held until the
 * last reference to it is given back. Errors as of registry_acquire. */
graft_status adapter_of_version(struct registry *registry, struct mem *mem, const char *address,
                                struct adapter **out, struct registry_version_id *id,
                                graft_error *error);

/* ---- mixes -------------------------------------------------------------------------------- */

/* An ordered list of adapters with weights; a value, made within microseconds and never changed. NULL stands for
 * the base model, in all that follows. */
struct mix_part {
    struct adapter *adapter;
    float weight;
};
struct mix;
/* Takes references to the adapters. INVALID_ARGUMENT: a weight that is not finite, an adapter of another
 * model. */
graft_status mix_make(const struct model *model, const struct mix_part *parts, int n_parts,
                      struct mix **out, graft_error *error);
struct mix *mix_acquire(struct mix *mix);
void mix_release(struct mix **mix);
const struct mix_part *mix_parts(const struct mix *mix, int *n);
/* What rows of a forward pass bring along; NULL when it changes nothing. */
const struct delta_set *mix_deltas(const struct mix *mix);
/* SHA-256 [32] of the content and weights that count, in their order; zeros when there are none. Equal digests,
 * equal results. */
const uint8_t *mix_digest(const struct mix *mix);

#endif
