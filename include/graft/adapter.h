/* graft/adapter.h: graft adapters on and off a model that stays as it is.
 *
 * An adapter (LoRA, rsLoRA, DoRA; PEFT, MLX or GGUF) is opened for one model, checked as a whole, and
 * copied: its files may change or go away afterwards. A mix is a list of adapters with weights. What is
 * applied to a session decides its next tokens; what is applied to a model, the first mix of
 * sessions that are opened later. Nothing here changes a weight of the model: removing an adapter gives
 * the numbers of the base back, bit for bit.
 *
 * Adapters and mixes are immutable. Any thread may open, use and close them; each handle holds a
 * reference, and so does everything that it is applied to, so it may be closed at any time. Close
 * them, and the sessions, before the model. Two handles with equal digests on one model are the same adapter, wherever
 * one is looked for: opened twice it is still in a mix once.
 */
#ifndef GRAFT_PUBLIC_ADAPTER_H
#define GRAFT_PUBLIC_ADAPTER_H

#include <graft/session.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct graft_adapter graft_adapter;
typedef struct graft_mix graft_mix;

/* ---- adapters ---- */

typedef struct graft_adapter_options {
    size_t struct_size;
    /* How the factors are held: NULL (default): as they are stored; "bf16", "int8" or "q4": converted, to
     * cost fewer bytes. */
    const char *type;
    /* MLX: the multiplier of B A in place of the one that its configuration gives, or fails to give; 0
     * (default): the file's. Other formats refuse it. */
    double scale;
    /* What was made for another base than this model, by what its graft.json records of that (architecture, widths,
     * vocabulary, and a sketch of the norms that BF16, GGUF and quantised copies of one model agree on), is false
     * (default): opened if it fits, with a warning in the log; true: refused with SHAPE. Where nothing is recorded
     * nothing differs. */
    bool strict_base;
} graft_adapter_options;
GRAFT_API void graft_adapter_options_init(graft_adapter_options *options, size_t struct_size);
static inline graft_adapter_options graft_adapter_options_default(void)
{
    graft_adapter_options options;
    graft_adapter_options_init(&options, sizeof options);
    return options;
}

/* Opens a PEFT or MLX directory, the weights in one, or a GGUF file, for this model. The error says which
 * tensor does not fit, with both shapes, and what the likely cause is. FORMAT: damaged or
 * contradictory; SHAPE: made for another base; UNSUPPORTED: a kind of adapter that graft does not apply, by its
 * name; NUMERIC: a value that is not finite. */
GRAFT_API graft_status graft_adapter_open(graft_model *model, const char *path,
                                          const graft_adapter_options *options, graft_adapter **out,
                                          graft_error *error);
/* Gives the handle back. Where the adapter is applied it stays applied. */
GRAFT_API void graft_adapter_close(graft_adapter **adapter);
/* One more handle of the same adapter. NULL gives NULL, and so does a lack of memory. */
GRAFT_API graft_adapter *graft_adapter_retain(graft_adapter *adapter);

/* Strings live as long as the handle. */
typedef struct graft_adapter_info {
    const char *format; /* "PEFT", "MLX", "GGUF" */
    const char *path;
    const char *base;       /* what it says it was made for; NULL: nothing */
    const char *scale_from; /* where its scale comes from: "lora_alpha / r", … */
    uint64_t n_params;      /* trained values */
    uint64_t bytes;         /* of memory that it takes */
    int least_rank, most_rank;
    int n_targets;   /* modules that it changes */
    int n_dora;      /* of them, by DoRA */
    int n_biased;    /* of them, with a bias of their own */
    char digest[65]; /* SHA-256 of what is held, in hex: equal digests, equal results */
} graft_adapter_info;
GRAFT_API graft_status graft_adapter_describe(const graft_adapter *adapter, graft_adapter_info *out,
                                              graft_error *error);

/* A module that an adapter changes. */
typedef struct graft_adapter_target {
    const char *module; /* as the adapter calls it: "model.layers.0.self_attn.q_proj" */
    int rank;
    double scale;       /* of B A */
    const char *stored; /* type in the file */
    const char *held;   /* type of A in memory */
    bool dora, biased;
} graft_adapter_target;
/* Target i of n_targets; GRAFT_NOT_FOUND past the last. */
GRAFT_API graft_status graft_adapter_target_at(const graft_adapter *adapter, int i,
                                               graft_adapter_target *out, graft_error *error);

/* ---- mixes ---- */

typedef struct graft_member {
    graft_adapter *adapter;
    float
        weight; /* of its change of the weights: 1 as trained, 0 not at all, negative taken away */
} graft_member;

/* A mix of 1 to 64 adapters of this model, each at most once: ΔW = Σ weight · ΔW of each. Cheap (no
 * factor is copied): made at any time, also between two tokens. */
GRAFT_API graft_status graft_mix_open(graft_model *model, const graft_member *members, size_t n,
                                      graft_mix **out, graft_error *error);
GRAFT_API void graft_mix_close(graft_mix **mix);
/* Number of members. 0 for NULL: the base model. */
GRAFT_API size_t graft_mix_size(const graft_mix *mix);
/* Member i; its handle is borrowed from the mix. adapter NULL past the last. */
GRAFT_API graft_member graft_mix_member(const graft_mix *mix, size_t i);

/* How several adapters become one mix. A mix adds outputs, W x + Σ weight · (output of each), so each of these is exact,
 * whatever the ranks and formats of the members, and for DoRA, whose magnitudes no merged pair of factors could hold. */
typedef enum graft_composition {
    GRAFT_COMPOSE_AVERAGE = 0,  /* 1/n of each; the weights of the members do not count */
    GRAFT_COMPOSE_WEIGHTED = 1, /* the weights as given */
    /* Each on top of those before it. Adapters change weights, and changes add up in any order, so these are the numbers of
     * WEIGHTED; what later ones learned with earlier ones in force is best asked for by this name. */
    GRAFT_COMPOSE_SEQUENTIAL = 2,
    GRAFT_COMPOSE_MOST_RECENT = 3, /* the last one alone, with its weight */
    GRAFT_COMPOSE_INTERPOLATE = 4  /* of exactly two: 1 - t and t; the weights do not count */
} graft_composition;
/* "average", "weighted", "sequential", "most-recent", "interpolate"; NULL: no such one. */
GRAFT_API const char *graft_composition_name(graft_composition how);
/* The mix that this makes of 1 to 64 adapters, as graft_mix_open makes it of the weights above; to fade from one adapter to
 * another make one for each t. `t` is in [0, 1] and counts for INTERPOLATE alone. INVALID_ARGUMENT also: interpolation of
 * another number than two. */
GRAFT_API graft_status graft_mix_compose(graft_model *model, const graft_member *members, size_t n,
                                         graft_composition how, double t, graft_mix **out,
                                         graft_error *error);

/* ---- what new sessions begin with ----
 * These may be called while other threads open sessions; sessions that are open keep what they have. */

/* Adds the adapter at the end of the model's mix, or gives it another weight there. */
GRAFT_API graft_status graft_model_apply_adapter(graft_model *model, graft_adapter *adapter,
                                                 float weight, graft_error *error);
/* GRAFT_NOT_FOUND: it is not applied. `adapter` NULL removes all. */
GRAFT_API graft_status graft_model_remove_adapter(graft_model *model, const graft_adapter *adapter,
                                                  graft_error *error);
/* Whether it is applied; of NULL: whether any is. */
GRAFT_API bool graft_model_has_adapter(const graft_model *model, const graft_adapter *adapter);
/* The one that was applied last, as a handle of the caller's to close; NULL: none, the base model. */
GRAFT_API graft_adapter *graft_model_current_adapter(const graft_model *model);
/* Replaces the whole mix; NULL: the base model. */
GRAFT_API graft_status graft_model_set_mix(graft_model *model, graft_mix *mix, graft_error *error);

/* ---- sessions ---- */

/* What becomes of the cache when the mix changes. Keys and values were computed under the mix that
 * was in force then. */
typedef enum graft_kv_policy {
    /* The new mix reads them as they are: nothing is computed again, the next step costs what every step
     * costs. */
    GRAFT_KV_CONTINUE = 0,
    /* All tokens are computed again under the new mix, as one prompt, when the next one is asked for: what
     * follows is what a session with the new mix would say after the same tokens, bit for bit. */
    GRAFT_KV_REPLAY = 1
} graft_kv_policy;

/* Between any two tokens; takes effect at the next step. */
GRAFT_API graft_status graft_session_apply_adapter(graft_session *session, graft_adapter *adapter,
                                                   float weight, graft_kv_policy policy,
                                                   graft_error *error);
GRAFT_API graft_status graft_session_remove_adapter(graft_session *session,
                                                    const graft_adapter *adapter,
                                                    graft_kv_policy policy, graft_error *error);
GRAFT_API bool graft_session_has_adapter(const graft_session *session,
                                         const graft_adapter *adapter);
GRAFT_API graft_adapter *graft_session_current_adapter(const graft_session *session);
/* Replaces the whole mix; NULL: the base model. One of equal content changes nothing. */
GRAFT_API graft_status graft_session_set_mix(graft_session *session, graft_mix *mix,
                                             graft_kv_policy policy, graft_error *error);
/* The mix of the session as a handle of the caller's to close; NULL: the base model. */
GRAFT_API graft_mix *graft_session_mix(const graft_session *session);
/* Off: the session runs the base model and keeps its mix for when it is on again. */
GRAFT_API graft_status graft_session_enable_adapters(graft_session *session, bool on,
                                                     graft_kv_policy policy, graft_error *error);
/* Runs `work` with another mix in force (NULL: the base model), and brings back the one before when it
 * returns, whatever it returned and whatever it applied meanwhile. Scopes may lie in one another. Returns what
 * `work` returned. */
typedef graft_status (*graft_scope_fn)(void *user, graft_session *session, graft_error *error);
GRAFT_API graft_status graft_session_with_mix(graft_session *session, graft_mix *mix,
                                              graft_kv_policy policy, graft_scope_fn work,
                                              void *user, graft_error *error);

#ifdef __cplusplus
}
#endif
#endif
