/* graft/bench.h: how fast a model runs on this machine, beside what the machine can do at all.
 *
 * Every figure is the median of several samples, taken in turn with samples of the limit that bounds it
 * (the rate at which memory is read, the multiply-adds of the tier), so that a machine that others use
 * too slows both alike. A figure is given only after outputs were compared with the scalar tier.
 *
 * Models are files, or shapes that are known by name and get random weights on the fly: the speed does
 * not depend on what the weights are.
 */
#ifndef GRAFT_PUBLIC_BENCH_H
#define GRAFT_PUBLIC_BENCH_H

#include <graft/session.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { GRAFT_BENCH_LIST_MAX = 16 };

/* The options that a bench goes by; the others it passes over. */
enum {
    GRAFT_BENCH_MODEL = 1 << 0, /* model, or shape and type; pack */
    GRAFT_BENCH_TOKENS = 1 << 1,
    GRAFT_BENCH_CONTEXTS = 1 << 2,
    GRAFT_BENCH_ROWS = 1 << 3,
    GRAFT_BENCH_SAMPLES = 1 << 4,
    GRAFT_BENCH_CACHE = 1 << 5, /* cache_k and cache_v */
    GRAFT_BENCH_RANK = 1 << 6,
    GRAFT_BENCH_ADAPTER_TYPE = 1 << 7,
    GRAFT_BENCH_DORA = 1 << 8,
    GRAFT_BENCH_DRAFT = 1 << 9
};

/* One bench. Made by the library, so later versions may append members. */
typedef struct graft_bench_kind {
    const char *name;   /* "decode" */
    const char *about;  /* what it measures, in a few words */
    unsigned uses;      /* GRAFT_BENCH_… */
    const char *tokens; /* what its `tokens` are, with their default; NULL: it has none */
} graft_bench_kind;
/* The i-th, NULL past the last; static. */
GRAFT_API const graft_bench_kind *graft_bench_kind_at(size_t i);

/* Names that are not known are GRAFT_INVALID_ARGUMENT, with a message of one line that lists those that
 * are. */
typedef struct graft_bench_options {
    size_t struct_size;
    const char *bench; /* the name of a graft_bench_kind */
    const char *model; /* directory, file or name; NULL (default): `shape` with random weights */
    const char *shape; /* default "qwen2.5-0.5b"; graft_bench_shapes lists them */
    /* Of random weights: "q8_0" (default), any other of graft_convert, "mlx4" or "mlx8" (group 64). */
    const char *type;
    /* Samples of each case, at most 256; 0 (default): what some seconds for each case hold, 3 at least. */
    int samples;
    int tokens; /* at most 4096; graft_bench_kind tells of what; 0: its default */
    /* decode and attention: tokens before those that are timed; n 0 (default): 128 and 4096. */
    int contexts[GRAFT_BENCH_LIST_MAX];
    int n_contexts;
    /* decode and linear: sequences that are stepped together, 1 to 64 each; n 0 (default): 1. */
    int rows[GRAFT_BENCH_LIST_MAX];
    int n_rows;
    graft_kv_type cache_k, cache_v; /* default F16 */
    graft_progress_fn progress;     /* NULL: none; units: the call's own */
    void *progress_user;
    /* adapters and swap: random adapters on all linears of the blocks, of this rank (default 16), with factors
     * held as in graft_adapter_options (default "bf16"); as DoRA (default false). presets: the same but for
     * linears and rank. train: the rank alone. */
    int rank;
    const char *adapter_type;
    bool dora;
    const char *pack; /* as in graft_model_options */
    const char
        *draft; /* speculative: a smaller model of the same vocabulary; NULL (default): none */
} graft_bench_options;
GRAFT_API void graft_bench_options_init(graft_bench_options *options, size_t struct_size);
static inline graft_bench_options graft_bench_options_default(void)
{
    graft_bench_options options;
    graft_bench_options_init(&options, sizeof options);
    return options;
}

/* One figure. Made by the library, so later versions may append members. Numbers that do not apply are
 * NaN, texts NULL. Valid during the callback. */
typedef struct graft_bench_result {
    const char *bench;   /* "decode" */
    const char *name;    /* of the case: "context 128" */
    const char *subject; /* what was run: "qwen2.5-0.5b q8_0 (random weights, head Q8_0)" */
    const char *unit;    /* "tokens/s" */
    double value;        /* median of the samples */
    double spread;       /* of the samples: (third quartile − first) / median */
    int samples;
    double seconds;       /* of one sample, median */
    const char *clock;    /* "wall", or "processor": the time that the busiest thread was running */
    const char *limit;    /* what bounds it: "read bandwidth", "f32 FMA"; NULL: nothing known */
    double limit_share;   /* of the limit, sampled just before and after each sample; median */
    const char *baseline; /* the case that it is compared with */
    double baseline_value;
    double ratio;        /* value / baseline, of samples taken one after the other; median */
    const char *checked; /* what of the outputs was compared with the scalar tier */
    /* As `spread`, of the samples' shares of the limit and of their ratios, whose numerator and denominator go up
     * and down together on a busy machine: what a comparison with another day is to go by. */
    double share_spread, ratio_spread;
} graft_bench_result;
typedef void (*graft_bench_fn)(void *user, const graft_bench_result *result);

/* Runs one bench and gives its figures to the callback, on the calling thread, at its end. The decode
 * and prefill rows of a random model repeat cached keys and values in place of a long prompt: what is
 * read is the same. NUMERIC: outputs differ from those of the scalar tier, and there is no figure.
 * UNSUPPORTED: a classifier, or a draft model of another vocabulary. CANCELLED by progress. */
GRAFT_API graft_status graft_bench_run(graft_runtime *runtime, const graft_bench_options *options,
                                       graft_bench_fn callback, void *user, graft_error *error);

/* Keeps the model that options->shape and options->type describe: a GGUF file with a made-up vocabulary of
 * the right size, which other programs open as well; for the MLX types a directory without tokenizer, absent or
 * empty before. With options->bench "adapters" it is the first of that bench's random adapters, for
 * options->model or such a model: a PEFT directory, absent or empty before. *subject (NULL: not wanted) becomes the text that
 * graft_bench_result has; release it with graft_free. */
GRAFT_API graft_status graft_bench_write(graft_runtime *runtime, const graft_bench_options *options,
                                         const char *path, char **subject, graft_error *error);

/* Names for people, "a, b, c"; static. */
GRAFT_API const char *graft_bench_shapes(void);

#ifdef __cplusplus
}
#endif
#endif
