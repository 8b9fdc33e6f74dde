/* bench_internal.h: what the files of src/bench share.
 *
 * A run opens a model (a file, or random weights in a file that exists in memory only), makes a list
 * of cases, checks outputs against the scalar tier, and samples the cases in turn with the limits of
 * the machine between them.
 */
#ifndef GRAFT_BENCH_INTERNAL_H
#define GRAFT_BENCH_INTERNAL_H

#include "adapter/adapter.h"
#include "bench/bench.h"
#include "kernels/kernels.h"
#include "model/model.h"

struct bench;
enum { SAMPLES_MAX = 256, SUBJECT_SIZE = 320, CASE_NAME_SIZE = 64 };

/* ---- limits of the machine (limits.c, peak.c) --------------------------------------------- */

/* Seconds of one measurement, by two clocks: on the wall, and the processor time of the worker that
 * used most of it, which leaves out what other programs took. */
enum bench_clock { CLOCK_WALL, CLOCK_WORKERS, CLOCK_KINDS };
struct seconds {
    double by[CLOCK_KINDS];
};
/* Runs the work on all workers, or (alone) on the caller only. */
struct seconds run_timed(struct pool *pool, bool alone, pool_work work, void *context);

/* One kind of arithmetic that a tier has. `run` does `rounds` rounds and returns the operations (a
 * multiply-add is two). */
struct peak {
    const char *tier, *name; /* "avx2", "f32 FMA" */
    const char *unit;        /* "GFLOP/s", "GOP/s" */
    double (*run)(int64_t rounds);
    bool panels; /* what products of panels in bf16 run on */
};
/* The i-th of the tier, NULL past the end. The first is always f32 multiply-add. */
const struct peak *peak_at(const char *tier, int i);
/* Reads all bytes, as fast as the processor can. */
uint64_t read_bytes(const uint8_t *p, size_t bytes);

enum { PEAKS_MAX = 4 };

struct limits {
    struct pool *pool;
    struct mem *mem;
    uint8_t *block, *memory; /* memory: [memory_bytes] in it, far more than caches hold */
    size_t memory_bytes;
    const struct peak *peaks[PEAKS_MAX]; /* of the tier: [n_peaks] */
    int64_t rounds[PEAKS_MAX];           /* of some milliseconds each */
    int n_peaks;
};
graft_status limits_open(struct limits *l, graft_runtime *runtime, graft_error *error);
void limits_close(struct limits *l); /* a zeroed one is allowed */
/* Seconds per byte, and per operation of a peak, of all workers (or the caller alone). */
struct seconds limits_read(const struct limits *l, bool alone);
struct seconds limits_compute(const struct limits *l, int peak, bool alone);
/* The peak that prompts through weights of a type are held to. */
int limits_peak_for(const struct limits *l, const struct kernels *k, graft_type type);

/* ---- shapes (shapes.c) -------------------------------------------------------------------- */

struct shape {
    const char *name;
    const char *arch;         /* general.architecture */
    const char *pre;          /* tokenizer.ggml.pre of its family */
    struct config dimensions; /* sizes, rope, tied, biases; arch and windows are not set */
};
const struct shape *shape_find(const char *name);
const char *shape_names(void);

/* ---- random models (synth*.c, vocab.c) ---------------------------------------------------- */

/* INVALID_ARGUMENT lists the types. */
graft_status synth_check_type(const char *type, graft_error *error);
/* Is a model of the type a directory (MLX) and no file? */
bool synth_is_directory(const char *type);
/* Writes shape and type: a GGUF, or the model.safetensors of a directory. `file` is open and stays so.
 * progress as in the options. */
graft_status synth_write(graft_runtime *runtime, const struct shape *shape, const char *type,
                         struct file_writer *file, const graft_bench_options *options,
                         graft_error *error);
/* The config.json of such a directory. */
graft_status synth_write_config(struct mem *mem, const struct shape *shape, const char *type,
                                const char *path, graft_error *error);
/* A byte-level vocabulary of n tokens: bytes, what merges make of them, two control tokens. */
graft_status vocab_put(struct mem *mem, struct gguf_writer *w, const char *pre, int n,
                       graft_error *error);

/* ---- random adapters (synth_adapter.c) ---------------------------------------------------- */

struct synth_adapter {
    int rank;
    bool dora, retype;
    graft_type type; /* of the factors in memory, with retype */
    uint64_t seed;
    const char *const
        *targets; /* linears by the last part of their names, NULL-terminated; NULL: all */
};
/* As the options ask for, seed 1. */
struct synth_adapter synth_adapter_of(const graft_bench_options *options);
/* In a folder of its own, for b->model. *folder is to be removed. */
graft_status synth_adapter_write(struct bench *b, const struct synth_adapter *adapter,
                                 char **folder, graft_error *error);
void synth_adapter_remove(struct bench *b, char **folder); /* sets it to NULL */
/* As the folder `path`, absent or empty before. */
graft_status synth_adapter_keep(struct bench *b, const struct synth_adapter *adapter,
                                const char *path, graft_error *error);
/* Written, opened, and removed again. */
graft_status synth_adapter_open(struct bench *b, const struct synth_adapter *how,
                                struct adapter **out, graft_error *error);

/* ---- one run (bench.c) -------------------------------------------------------------------- */

struct bench {
    graft_runtime *runtime;
    struct mem *mem;
    const graft_bench_options *options;
    graft_bench_fn callback;
    void *user;
    struct limits limits;
    int memory_file; /* of a random model; -1: none */
    char *folder;    /* made for it, or NULL */
    char *path;      /* of the model; NULL: there is none */
    struct model *model;
    struct graft_runtime scalar; /* the same workers with the scalar tier */
    char subject[SUBJECT_SIZE];
    const char *checked;
    double part_from,
        part_to; /* of the way to the end, what progress counts in; both 0: all of it */
};

struct kv_pool_options bench_kv_options(const struct bench *b, int64_t max_blocks);
/* The pool, and a first sequence of one block, which others repeat; both are the caller's to close. */
graft_status bench_kv_open(struct bench *b, int64_t max_blocks, struct workspace *ws,
                           struct kv_pool **pool, struct kv_seq **seed, graft_error *error);

/* ---- cases (measure.c) -------------------------------------------------------------------- */

enum { LIMIT_READ = -1 }; /* else: a peak of limits */

struct bench_case {
    char name[CASE_NAME_SIZE];
    const char *unit;
    double work;  /* of one sample, in the unit: value = work / seconds */
    bool is_time; /* then value = work * seconds */
    enum bench_clock clock;
    int limit;         /* LIMIT_READ, or the index of a peak */
    double limit_work; /* bytes, or operations, of one sample */
    int baseline;      /* index of the case it is compared with; -1: none */
    /* Bytes of a sample that the case `extra_to`, sampled before, does not read; 0: none. The time that they take more
     * is then a figure of its own, in ms of each of `extra_steps`, beside the time of reading them. */
    double extra_work;
    int extra_to, extra_steps;
    graft_status (*run)(struct bench *b, void *context, struct seconds *seconds,
                        graft_error *error);
    void *context;
};
/* Warms every case up, samples them in turn, and gives the figures to the callback. */
graft_status bench_measure(struct bench *b, const struct bench_case *cases, int n,
                           graft_error *error);
/* "value" of samples that were taken elsewhere; sorts them. */
void bench_report(const struct bench *b, const char *name, const char *unit, enum bench_clock clock,
                  double *values, int n);
/* The same beside a value that they are compared with. */
void bench_report_beside(const struct bench *b, const char *name, const char *unit, double *values,
                         int n, const char *baseline, double baseline_value);
/* Samples to take of each case. */
int bench_samples(const struct bench *b);
/* About how long bench_measure takes with n cases of so many seconds each. */
double bench_expected(const struct bench *b, int n, double seconds);
graft_status bench_progress(const struct bench *b, uint64_t done, uint64_t total, const char *what,
                            graft_error *error);
/* Wall clock around a call. */
double wall_seconds(double since);

/* ---- checks (check.c) --------------------------------------------------------------------- */

/* Eight outputs of every linear of every type in the model, in every way. */
graft_status check_products(struct bench *b, graft_error *error);
/* The above, and eight rows through the first two blocks. */
graft_status check_model(struct bench *b, graft_error *error);
/* The same under an adapter of linears (NULL: none), through all blocks. */
graft_status check_model_with(struct bench *b, const struct adapter *adapter, graft_error *error);
/* NUMERIC unless |got − want| is below `tolerance` of the size of `want`. */
graft_status check_within(const float *got, const float *want, int64_t n, double tolerance,
                          const char *what, graft_error *error);
/* The same for what is usual; `through_panels`: as of products that may
 * round to bf16. */
graft_status check_close(const float *got, const float *want, int64_t n, bool through_panels,
                         const char *what, graft_error *error);

/* ---- products (product.c) ----------------------------------------------------------------- */

/* The ways in which a weight is met. */
enum way { WAY_DECODE, WAY_PREFILL, WAY_TRANSPOSED, WAY_COUNT };

/* Outputs of n_tok rows. x: rows of act_format_for (decode), floats [n_tok, n_in] (prefill), or [n_tok, n_out]
 * (transposed). y: [n_tok, product_outputs]. */
struct product {
    const struct kernels *kernels;
    const struct matrix *weight;
    enum way way;
    const void *x;
    int n_tok;
    float *y;
};
int64_t product_inputs(const struct matrix *w, enum way way);
int64_t product_outputs(const struct matrix *w, enum way way);
/* What outputs may be split at. */
int64_t product_grain(const struct matrix *w, enum way way);
/* All outputs [begin, end). */
void product_run(const struct product *p, int64_t begin, int64_t end, void *scratch);
size_t product_scratch_bytes(int64_t n_in); /* of one worker, for both roles */
/* x [n_tok, product_inputs] in the format that the way takes; mem_free it. NULL: no memory. */
void *product_input(struct mem *mem, const struct kernels *k, const struct matrix *w, enum way way,
                    const float *x, int n_tok);
/* The linears of a model by kind: those of a block, then the head. */
enum { KIND_HEAD = LINEAR_COUNT, KIND_COUNT };
const char *kind_name(int kind);
/* The model of the bench once more, as its options say. */
graft_status bench_open_model(const struct bench *b, struct model **out, graft_error *error);
/* The kind's weight in a block (the head has one only). */
const struct matrix *kind_weight(const struct model *m, int kind, int layer);
int kind_layers(const struct model *m, int kind);
size_t weight_bytes(const struct matrix *w);
/* Bytes that one decoded token reads: all weights, the head included. */
double model_token_bytes(const struct model *m);
/* Multiply-adds, times two, of one row through the blocks' linears: no head, no attention. */
double model_block_flops(const struct model *m);
void fill_random(float *x, int64_t n, uint64_t stream);

/* ---- a name with two versions (swap_names.c) ------------------------------------------------ */

/* Two random adapters as versions of one name, in a home of its own that two registries share: one is asked, the
 * other stands for the process that publishes. Both versions are in memory. */
struct swap_names;
graft_status swap_names_open(struct bench *b, struct swap_names **out, graft_error *error);
void swap_names_close(struct swap_names **names); /* NULL allowed */
/* From the next acquire on the name means that version, 0 or 1. */
graft_status swap_names_activate(struct swap_names *names, int which, graft_error *error);
graft_status swap_names_acquire(struct swap_names *names, struct adapter **out, graft_error *error);

/* ---- a prompt (prefill.c) ------------------------------------------------------------------- */

/* options->tokens tokens in one pass from an empty cache, without logits. */
struct prompt {
    struct workspace *ws;
    struct kv_pool *pool;
    struct kv_seq *seq;
    struct row *rows;
};
graft_status prompt_open(struct bench *b, struct prompt *p, graft_error *error);
void prompt_close(struct bench *b, struct prompt *p); /* a zeroed one is allowed */
graft_status prompt_run(struct bench *b, void *prompt, struct seconds *seconds, graft_error *error);

/* ---- the benches -------------------------------------------------------------------------- */

struct kind {
    graft_bench_kind known;
    int tokens; /* the default; 0: several, or none */
    int least;  /* fewest that leave it something to measure */
    graft_status (*run)(struct bench *b, graft_error *error);
};
/* The bench that options name, and are enough for; INVALID_ARGUMENT says which there are, or what is missing. (kinds.c) */
graft_status kind_find(const graft_bench_options *options, const struct kind **out,
                       graft_error *error);

graft_status bench_limits(struct bench *b, graft_error *error);
graft_status bench_decode(struct bench *b, graft_error *error);
graft_status bench_prefill(struct bench *b, graft_error *error);
graft_status bench_attention(struct bench *b, graft_error *error);
graft_status bench_linear(struct bench *b, graft_error *error);
graft_status bench_load(struct bench *b, graft_error *error);
/* Its part in residents.c: the base with adapters in memory and without. */
graft_status bench_residents(struct bench *b, graft_error *error);
graft_status bench_adapters(struct bench *b, graft_error *error);
graft_status bench_presets(struct bench *b, graft_error *error);
graft_status bench_swap(struct bench *b, graft_error *error);
graft_status bench_train(struct bench *b, graft_error *error);
graft_status bench_vectors(struct bench *b, graft_error *error);
graft_status bench_stream(struct bench *b, graft_error *error);
graft_status bench_batch(struct bench *b, graft_error *error);
graft_status bench_isolation(struct bench *b, graft_error *error);
graft_status bench_speculative(struct bench *b, graft_error *error);

#endif
