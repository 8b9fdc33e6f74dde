/* adapter_internal.h: what an adapter's files say (a spec), apart from any model, and how it is bound to one.
 *
 * A spec is the parsed configuration and the tensors sorted by module; parsing is pure, so that hostile files
 * can be tried without a model. Binding looks modules up in a model, checks shapes, and builds the factors.
 */
#ifndef GRAFT_ADAPTER_INTERNAL_H
#define GRAFT_ADAPTER_INTERNAL_H

#include "adapter/adapter.h"

/* ---- regular expressions ------------------------------------------------------------------ */

/* A pattern of a configuration, matched against whole module names. One that is spelt like a name matches
 * that name and what ends in ".name", as does a regular expression when `suffix` is set. */
struct rule;
graft_status rule_open(struct mem *mem, const char *text, bool suffix, struct rule **out,
                       graft_error *error);
void rule_close(struct rule **rule);
/* LIMIT when the search takes too many steps. */
graft_status rule_matches(const struct rule *p, const char *name, bool *out, graft_error *error);
/* Is `name` the module itself, or does it end in ".module"? */
bool name_ends_in(const char *name, const char *module);

/* ---- specs -------------------------------------------------------------------------------- */

enum part {
    PART_A, /* [rank, n_in]; MLX [n_in, rank] */
    PART_B, /* [n_out, rank]; MLX [rank, n_out] */
    PART_MAGNITUDE,
    PART_LORA_BIAS,
    PART_EMBED_A, /* [rank, n_vocab] */
    PART_EMBED_B, /* [d_model, rank] */
    PART_WEIGHT,  /* the module's own weight, whole */
    PART_COUNT
};

struct module {
    const char *name; /* "model.layers.0.self_attn.q_proj", "blk.0.attn_q" */
    const struct tensor_info *parts[PART_COUNT];
};

/* {"q_proj": 8}: the first entry that matches counts. */
struct rule_value {
    struct rule *rule;
    double value;
};
struct rule_values {
    struct rule_value *items; /* [n] */
    size_t n;
};

/* Names to choose modules by: a list of names, or one regular expression. */
struct selection {
    bool given, all_linear;
    const char **names; /* [n] */
    size_t n;
    struct rule *regex;
};

struct spec {
    struct mem *mem;
    struct arena arena; /* names */
    enum adapter_format format;
    struct module *modules; /* [n_modules] in the order of the file */
    size_t n_modules, capacity;
    struct str_map index;
    const char *base; /* borrowed from the configuration, or NULL */

    int64_t rank;        /* PEFT, MLX; 0: not said */
    double alpha, scale; /* PEFT, GGUF; MLX */
    bool rslora, dora, lora_bias;
    bool quantised; /* PEFT: factors may be blocks; such a B is stored [rank, n_out] */
    struct rule_values ranks, alphas;
    struct selection targets, excluded, saved; /* MLX: targets are the keys */
    bool layers_given;
    int64_t *layers; /* [n_layers]: layers_to_transform */
    size_t n_layers;
    struct rule **layer_parents; /* [n_layer_parents]: layers_pattern */
    size_t n_layer_parents;
    int64_t last_layers;   /* MLX: only so many at the end; ≤ 0: all */
    char architecture[64]; /* GGUF */
};

/* Each fills a spec that began as zero; on failure too it must be freed. The configuration, the tensors and
 * their bytes must outlive it. */
graft_status spec_parse_peft(struct spec *spec, struct mem *mem, const json_t *config,
                             const struct tensor_info *tensors, size_t n_tensors,
                             graft_error *error);
/* options: may be NULL. */
graft_status spec_parse_mlx(struct spec *spec, struct mem *mem, const json_t *config,
                            const struct tensor_info *tensors, size_t n_tensors,
                            const struct adapter_options *options, graft_error *error);
graft_status spec_parse_gguf(struct spec *spec, struct mem *mem, const struct gguf *g,
                             graft_error *error);
void spec_free(struct spec *spec); /* a zeroed one is allowed */

/* What the configuration says of a module: a name, its block (−1: in none) of n_layer, and whether it is a
 * linear of a block. */
struct module_place {
    const char *name;
    int layer, n_layer;
    bool linear;
};
graft_status spec_is_target(const struct spec *spec, const struct module_place *place, bool *out,
                            graft_error *error);
bool spec_is_saved(const struct spec *spec, const char *module);
/* The scale of a module whose factors have this rank; FORMAT where the configuration says another rank or the
 * scale is not finite. */
graft_status spec_scale(const struct spec *spec, const char *module, int64_t rank, double *out,
                        graft_error *error);
const char *spec_scale_source(const struct spec *spec);

/* For the parsers: */
void spec_begin(struct spec *spec, struct mem *mem, enum adapter_format format);
/* Notes that `tensor` is a part of the module named name[0..length). */
graft_status spec_add(struct spec *spec, const char *name, size_t length, enum part part,
                      const struct tensor_info *tensor, graft_error *error);
/* What every format asks of its modules: at least one, A and B together. */
graft_status spec_check_modules(const struct spec *spec, graft_error *error);
graft_status tensor_refused(const struct tensor_info *tensor, graft_status status,
                            graft_error *error, const char *format, ...) PRINTF_LIKE(4, 5);
/* An array of strings, copied into the arena. */
graft_status spec_names(struct spec *spec, const json_t *list, const char *key, const char ***out,
                        size_t *n, graft_error *error);

/* ---- files -------------------------------------------------------------------------------- */

/* The files of an adapter, open. */
struct source {
    struct mem *mem;
    enum adapter_format format;
    struct tensor_set tensors;
    json_t *config; /* NULL: GGUF */
    char *weights, *config_path;
    json_t *card;
};
graft_status source_open(struct source *out, struct mem *mem, const char *path, graft_error *error);
void source_close(struct source *source); /* a zeroed one is allowed */
/* IO when `out` is one of them: what is read is not written over. */
graft_status source_refuse_output(const struct source *source, const char *out, graft_error *error);

/* What they say, checked as far as no model is needed for that. options: may be NULL. The spec must be freed, on
 * failure too, and before the source is closed. */
graft_status source_parse(const struct source *source, const struct adapter_options *options,
                          struct spec *out, graft_error *error);

/* ---- binding ------------------------------------------------------------------------------ */

/* How rows of q and k are to be put into the base's RoPE order. */
enum row_order { ROWS_STAY, ROWS_INTERLEAVE, ROWS_HALVES };

/* What went wrong while a worker built something. */
struct mishap {
    graft_status status;
    const struct tensor_info *tensor;
    int64_t row;
};

enum { EMBED_SITE = -1 };

/* One low-rank delta about to be built: of a linear, [n_out, n_in], or of the embedding, where n_in is n_vocab and
 * n_out d_model. A is held [rank, n_in], that of an embedding [n_in, rank]. What points into the spec
 * or the file is gone when the adapter is open. */
struct build {
    const struct module *module;
    int site; /* or EMBED_SITE */
    int64_t rank, n_in, n_out;
    double scale;
    enum row_order order;
    int d_head;
    const struct tensor_info *from_a, *from_b, *from_magnitude, *from_bias;
    bool a_rank_first, b_rank_first; /* [rank, …] in the file */
    bool by_token;                   /* the magnitude of an embedding: [n_vocab] */
    graft_type a, b;                 /* as they will be held */
    struct lowrank lowrank;          /* pointers into the adapter's memory */
    float *token_gain;
    uint8_t digest[32];
    struct mishap mishap;
};

/* A module that the adapter holds whole: a norm, the embedding or the head. */
struct saved {
    const struct module *module;
    int norm;             /* −1: a matrix */
    bool embed, head;     /* what it is; a tied embedding may be both */
    struct matrix matrix; /* norms: F32 [1, n] */
    uint8_t digest[32];
    struct mishap mishap;
};

/* Where module names lead in one model. */
struct directory {
    const struct model *model;
    struct arena arena;
    struct str_map index;
    const char **names; /* [n_names] */
    size_t n_names;
};
graft_status directory_open(struct directory *out, const struct model *model, bool gguf,
                            graft_error *error);
void directory_close(struct directory *d);

struct adapter {
    atomic_int references;
    const struct model *model;
    struct mem *mem;
    struct build *builds; /* [n_builds] */
    int n_builds;
    struct saved *saved; /* [n_saved] */
    int n_saved;
    struct adapter_target *targets;  /* [n_builds] */
    struct module_changes changes;   /* for the members of mixes */
    const float **norms;             /* [model_n_norms], of these; NULL: none */
    const struct lowrank **lowranks; /* [model_n_sites] */
    uint8_t *memory;                 /* of all factors and vectors */
    struct delta_set *alone;         /* what rows read under this adapter with weight 1 */
    uint8_t alone_digest[32];        /* of that mix */
    struct arena arena;              /* names */
    json_t *metadata, *card;
    struct adapter_info info;
    /* Made by adapter_share: whose parts these are, and who wants to know of the end. */
    struct adapter *owner;
    void (*gone)(void *user);
    void *user;
};

/* Fills alone_digest. */
graft_status mix_digest_alone(struct adapter *adapter, graft_error *error);
/* Finds the site of every module of the spec, checks shapes and types, and lists what to build. */
graft_status bind_modules(struct adapter *adapter, const struct spec *spec,
                          const struct adapter_options *options, graft_error *error);
/* Allocates, copies and packs the factors of all builds, and those of whole modules. */
graft_status build_factors(struct adapter *adapter, graft_error *error);
/* gain = m / ‖W + scale · B A‖ for the builds with magnitudes, which lie in gain or token_gain. */
graft_status build_gains(struct adapter *adapter, graft_error *error);
graft_status build_embed_gain(struct adapter *adapter, struct build *b, graft_error *error);
graft_status digest_adapter(struct adapter *adapter, graft_error *error);
/* Row of the file that becomes row `row` of the base. */
int64_t source_row(const struct build *b, int64_t row);

#endif
