/* save_internal.h: drafts, and what the writers of the formats share. */
#ifndef GRAFT_SAVE_INTERNAL_H
#define GRAFT_SAVE_INTERNAL_H

#include "adapter/adapter_internal.h"
#include "adapter/save/save.h"
#include "model/arch/arch.h"

enum { MODULE_NAME_SIZE = 160, TENSOR_NAME_SIZE = 224, NAME_SIZE = 65, BASE_SIZE = 256 };

/* ---- drafts ------------------------------------------------------------------------------- */

/* One module: a linear or the embedding (n_in: tokens, n_out: its width) with factors, or one that is held whole: a norm,
 * the embedding or the head. */
struct draft_module {
    int slot, layer; /* of arch.h */
    int64_t rank, n_in, n_out;
    double scale; /* of B A */
    bool dora, biased;
    bool whole;                  /* PART_WEIGHT [n_out, n_in] and nothing else; rank 0 */
    const struct module *source; /* import.c */
};
static inline bool module_is_norm(const struct draft_module *m) /* its weight is a vector [n_out] */
{
    return m->slot != SLOT_HEAD && m->slot != SLOT_EMBED && m->slot < SLOT_LINEAR;
}
static inline bool module_is_linear(const struct draft_module *m) /* with factors */
{
    return !m->whole && m->slot != SLOT_EMBED;
}

struct draft {
    const struct model *model;
    struct draft_module *modules; /* [n_modules], by slot and block */
    int n_modules;
    const char *base; /* what it is made for */
    char base_text[BASE_SIZE];
    double dropout;
    bool rslora, inference;   /* PEFT: alpha / √r; not meant to be trained on */
    graft_type type;          /* F32, F16, BF16: as it is stored */
    const graft_type *blocks; /* PEFT: Q8_0 or Q4_0 where rows are whole blocks; NULL: not */
    json_t *card;
    /* One part of module i as floats: A [rank, n_in], B [n_out, rank], a weight, vectors [n_out], in the order of rows
     * that a Hugging Face model has. Those of the embedding are PART_A and PART_B, too. */
    graft_status (*read)(const struct draft *draft, int i, enum part part, float *out,
                         graft_error *error);
    const void *source;
    uint64_t seed;
    struct save_progress progress;
    /* Adds files to a folder once its values are written, or completes the card, before it appears; NULL: none. */
    graft_status (*beside)(const void *user, const char *dir, graft_error *error);
    const void *beside_user;
};
/* Fills `base`: what somebody said it is, else what other programs can load: the model's folder. A GGUF file is none
 * of these, so that its bare name is told. */
void draft_set_base(struct draft *draft, const char *said);
void draft_sort(struct draft *draft);
/* Fills `draft`, which stays where it is, with what a recipe makes of a model; modules and card are the caller's to
 * free, on failure too. */
graft_status draft_fresh(struct draft *draft, const struct model *model,
                         const struct adapter_recipe *recipe, graft_error *error);
/* The module's name in a container's naming; append ".weight" or the like. */
bool draft_name(const struct draft *draft, int i, enum naming naming, char out[MODULE_NAME_SIZE]);
/* The weight that such a slot, no norm, has in the model. */
const struct matrix *slot_weight(const struct model *model, int slot, int layer);
/* Of a norm's slot its number in the model; -1: it is none. */
int slot_norm(const struct model *model, int slot, int layer);
/* Does any linear with factors have magnitudes, biases of B? */
bool draft_is_dora(const struct draft *draft);
bool draft_is_biased(const struct draft *draft);
/* The first module with factors; NULL: there is none. */
const struct draft_module *draft_lowrank(const struct draft *draft);
/* "q_proj": what is left of a slot's name behind the last dot. */
bool slot_short_name(const struct model *model, int slot, char out[MODULE_NAME_SIZE]);

/* ---- selection ---------------------------------------------------------------------------- */

/* Which modules with factors a draft has, in as few words as say it exactly. */
struct coverage {
    bool slots[SLOT_COUNT];
    bool regular;    /* every block from first_layer on has the same slots, those before it none */
    int first_layer; /* n_layer: no block has any */
};
void draft_coverage(const struct draft *draft, struct coverage *out);

/* ---- writing ------------------------------------------------------------------------------ */

/* One tensor of an output: a part of a module, transformed. */
struct piece {
    char name[TENSOR_NAME_SIZE];
    int module;
    enum part part;
    int64_t rank;               /* as written, at least the module's: filled up with zeros */
    double factor;              /* of the values */
    bool turned;                /* transposed */
    bool interleaved;           /* rows of B in the order of llama's GGUFs */
    const graft_type *own_type; /* blocks are written as bytes; NULL: the type of all */
    graft_type type;
    int64_t rows, columns; /* of values */
    bool matrix;           /* false: a vector, of one row */
    struct tensor_decl decl;
};
struct pieces {
    struct mem *mem;
    struct piece *items; /* [n] */
    size_t n;
    graft_type type;
};
/* Room for all parts of all modules. */
graft_status pieces_open(struct pieces *out, const struct draft *draft,
                         const struct save_options *options, graft_error *error);
void pieces_free(struct pieces *pieces); /* a zeroed one is allowed */
/* Adds a part as `name`; shape and type follow from it. */
void pieces_add(struct pieces *pieces, const struct draft *draft, const struct piece *piece);
/* To be called when all is added: turns the type into F32 where it was not asked for and a factor other than a
 * power of two would round the values. */
void pieces_settle(struct pieces *pieces, const struct save_options *options);
/* Hands each piece's bytes to `write`, in order. NUMERIC: a value the type cannot hold. */
typedef graft_status (*piece_sink)(void *user, const void *bytes, size_t size, graft_error *error);
graft_status pieces_write(const struct pieces *pieces, const struct draft *draft, piece_sink write,
                          void *user, graft_error *error);

/* The formats; `out` as in adapter_convert. */
graft_status write_adapter(const struct draft *draft, const char *out,
                           const struct save_options *options, graft_error *error);
graft_status write_peft(const struct draft *draft, const char *out,
                        const struct save_options *options, graft_error *error);
graft_status write_mlx(const struct draft *draft, const char *out,
                       const struct save_options *options, graft_error *error);
graft_status write_gguf(const struct draft *draft, const char *out,
                        const struct save_options *options, graft_error *error);
/* UNSUPPORTED: what the format has no place for, by name. PEFT has one for everything. */
graft_status mlx_check(const struct draft *draft, graft_error *error);
graft_status gguf_check(const struct draft *draft, graft_error *error);
/* A folder with adapter_config.json (released here), graft.json and the weights. */
struct folder_plan {
    const char *weights; /* name of the file */
    const char *kind;    /* "format" in its header: "pt", "mlx" */
    json_t *config;
};
graft_status write_folder(const struct draft *draft, const struct pieces *pieces, const char *out,
                          const struct folder_plan *plan, graft_error *error);

/* ---- reading ------------------------------------------------------------------------------ */

/* An adapter on disk as a draft; begins as zero but for the model, and must be closed, on failure too. */
struct import {
    const struct model *model;
    struct adapter *adapter;
    struct source source;
    struct spec spec;
    struct draft draft;
};
graft_status import_open(struct import *from, const char *path,
                         const struct adapter_options *options, graft_error *error);
void import_close(struct import *from);
/* IO when `out` is a file of the adapter or of the model. */
graft_status import_refuse_output(const struct import *from, const char *out, graft_error *error);

/* ---- cards -------------------------------------------------------------------------------- */

/* Name, version, description and tags of a recipe. */
graft_status card_check(const struct adapter_recipe *recipe, graft_error *error);
/* graft.json of a new adapter, whose recipe was checked. */
graft_status card_new(const struct model *model, const struct adapter_recipe *recipe, json_t **out,
                      graft_error *error);
/* The card of an adapter that is written anew: the one that it has, else a new one, with its time of change and
 * its base brought up to date. */
graft_status card_update(const struct model *model, const json_t *old, const char *name,
                         const char *base, json_t **out, graft_error *error);
/* Rounded to what 15 digits say, so that it is written as people do. */
json_t *json_number_of(double x);

#endif
