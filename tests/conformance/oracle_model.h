/* oracle_model.h: the random models of the reference implementation, made again in C.
 *
 * Every tensor comes from its own PCG64 (XSL-RR 128/64) stream keyed by FNV-1a of "seed:name", so the
 * bytes are the same on every machine and the goldens computed elsewhere apply (SHA256SUMS checks it).
 * For tests only: failures abort through cmocka.
 */
#ifndef ORACLE_MODEL_H
#define ORACLE_MODEL_H

#include "model/model.h"

struct oracle_tensor {
    char name[96];
    int n_dims;
    int64_t shape[2];
    size_t count;
    float *values;
};
struct oracle_model {
    json_t *config; /* config.json */
    struct oracle_tensor *tensors;
    size_t n_tensors;
};

/* config.json of llama, llama-bias, llama-linear, llama3, mistral, qwen2, qwen3, qwen2-cls; the caller may
 * change it before it makes the tensors. */
json_t *oracle_config(const char *arch);
/* The same 256 wide, with an MLP of 512 and 4 heads over 2: rows fit blocks of 256. */
json_t *oracle_config_wide(const char *arch);
/* Takes the config over. */
void oracle_model_make(struct oracle_model *out, json_t *config, int seed);
/* An existing Hugging Face directory with one file of weights, as floats. */
void oracle_model_load(struct oracle_model *out, const char *dir);
void oracle_model_free(struct oracle_model *model);
struct oracle_tensor *oracle_find(struct oracle_model *model, const char *name);

/* Rounds every value to F16 or BF16 as a file of that type would. */
void oracle_round(struct oracle_model *model, graft_type type);
/* config.json and model.safetensors in `dir`, which is made. type: F32, F16, BF16. */
void oracle_write_hf(const struct oracle_model *model, const char *dir, graft_type type);
/* The same under other names. */
void oracle_write(const struct oracle_model *model, const char *dir, const char *weights,
                  const char *config_name, graft_type type);

/* For models made elsewhere: one more tensor (there must be room), of `cols` 0 a vector; its values from the
 * stream named `key`; or as those of a model's weight of that name from the stream "seed:name". */
struct oracle_tensor *oracle_add(struct oracle_model *model, const char *name, int64_t rows,
                                 int64_t cols);
void oracle_fill(struct oracle_tensor *t, const char *key, double amplitude, double offset);
void oracle_fill_weight(struct oracle_tensor *t, const char *seed);

/* A GGUF whose matrices are of `type` where their rows allow it, else of Q8_0, else F32; vectors F32. The
 * model's own values become what a reader of the file would see. Interleaves q and k rows for llama and
 * writes Llama 3's rope scaling as rope_freqs.weight. */
void oracle_write_gguf(struct oracle_model *model, const char *path, graft_type type);
/* An MLX quantised directory; modules named in `keep` (NULL-terminated, may be NULL) stay F32, and the one
 * named `wide` (may be NULL) gets 8 bits by an override. Values become the dequantised ones. */
struct oracle_mlx {
    int bits, group;
    graft_type scale_type;
    const char *const *keep;
    const char *wide;
};
void oracle_write_mlx(struct oracle_model *model, const char *dir, const struct oracle_mlx *how);

#endif
