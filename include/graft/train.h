/* graft/train.h: training adapters, and whole models.
 *
 * A trainer takes a model, a dataset and an adapter (new from a recipe, or one that is continued) through the steps of
 * AdamW, and writes a new adapter. Or it takes every parameter of the model along (fine_tune_type "full"), from what it
 * is, and writes a new model. The weights of the open model stay as they are, of whatever type; open it with pack "none",
 * since packed weights are a second copy that training does not need. Sessions may use the model meanwhile.
 *
 * A run is a function of its options, data and first adapter: the same bits for any number of threads. With a folder for
 * the run it writes history.jsonl and a checkpoint from which it goes on, after Ctrl-C or after a crash, as if nothing
 * had happened. A trainer belongs to one thread at a time. Sources: LoRA (Hu et al. 2021), rsLoRA (Kalajdzievski 2023),
 * DoRA (Liu et al. 2024), LoRA+ (Hayou, Ghosh and Yu 2024), PiSSA (Meng, Wang and
 * Zhang 2024), OLoRA (Büyükakyüz 2024), EWC++ (Chaudhry et al. 2018), AdamW (Loshchilov and Hutter 2019), Muon (Jordan et al.
 * 2024).
 */
#ifndef GRAFT_PUBLIC_TRAIN_H
#define GRAFT_PUBLIC_TRAIN_H

#include <graft/adapter_files.h>
#include <graft/data.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct graft_train_options {
    size_t struct_size;
    /* What is trained: a recipe (NULL: its defaults), or the adapter at a path, whose rank, scale and targets stay. */
    const graft_adapter_recipe *recipe;
    const char *adapter; /* NULL (default): the recipe */
    bool use_dora;       /* of a recipe: magnitudes too; default false */
    bool lora_bias;      /* of a recipe: a bias beside each B; default false */
    /* Of a recipe: how factors begin; all change nothing at first. "default": A uniform in ±1/√in, B = 0; "gaussian": A
     * from N(0, 1 / rank²), B = 0; "pissa", "olora": as the leading singular directions, or as the first columns of Q and
     * rows of R, of the weight W, which is then trained as W x + s (B A - B0 A0) x. The base stays as it is, and what is
     * written is a plain adapter of twice the rank. These two take seconds; the recipe's progress is told. */
    const char *init;

    int batch_size;                  /* sequences in a batch; default 4 */
    int gradient_accumulation_steps; /* batches in a step; default 1 */
    bool
        packing; /* examples share a sequence of at most max_seq_length, without seeing each other; default false: nothing is padded either way */
    bool shuffle;         /* default true */
    uint64_t seed;        /* of order and dropout; default 0 */
    double num_epochs;    /* default 3 */
    int64_t max_steps;    /* in place of epochs; 0 (default): by epochs */
    double learning_rate; /* default 2e-4 */
    const char *
        lr_scheduler; /* constant, linear, cosine (default), exponential, step, one_cycle, or warmup_stable_decay (wsd) */
    int64_t warmup_steps; /* from a rate of 0; negative (default): by the ratio */
    double warmup_ratio;  /* of all steps; default 0.03 */
    double adam_beta1, adam_beta2, adam_epsilon; /* default 0.9, 0.999, 1e-8 */
    double weight_decay;                         /* of matrices; default 0.01 */
    double loraplus_lr_ratio;                    /* the rate of B in rates of A; default 1 */
    double max_grad_norm;                        /* default 1; 0: gradients are not clipped */

    bool gradient_checkpointing; /* less memory, a quarter more time; default true */
    bool
        bf16; /* activations are kept and multiplied as bf16; values and sums stay floats; default true */

    bool eval_on_start; /* validation before the first step; default true */
    int64_t eval_steps; /* steps between validations; 0 (default): one after each epoch */
    int patience;       /* validations without improvement that end the run; default 3; 0: none */
    double min_improvement; /* of the loss of validation; default 0 */
    int max_bad_steps; /* steps in a row without a finite loss that end the run with an error; default 5 */

    /* EWC++, for one adapter through successive tasks: what earlier ones left in ADAPTER/ewc.safetensors holds its values
     * by a penalty ewc_lambda / 2 · Σ F (θ - θ*)², and what this one leaves is written beside the new adapter, with the
     * running F = ewc_decay · F + F of this task. Without such a file (the first task) nothing is held. */
    bool ewc;          /* default false */
    double ewc_lambda; /* default 2000 */
    double ewc_decay;  /* default 0.999 */

    const char *run;    /* folder for history and checkpoint; NULL (default): nothing is kept */
    int64_t save_steps; /* steps between checkpoints; 0 (default): at each validation */

    /* "lora" (default): an adapter, with use_dora one with magnitudes. "full": every parameter of the model, its
     * embedding, norms and biases with it, decoded to floats; 16 bytes a parameter, 20 with validation. The recipe is
     * not read then; adapter, use_dora, lora_bias, init and ewc are refused. */
    const char *fine_tune_type;
    /* "adamw" (default); "muon", of "full" alone: matrices of the blocks take steps along their momentum made orthogonal,
     * by muon_lr · √max(1, rows / columns) on the same schedule; embedding, head and vectors take those of AdamW. */
    const char *optim;
    double muon_lr;       /* default 0.02 */
    double muon_momentum; /* default 0.95, with Nesterov's step ahead */
    double
        lr_decay_ratio; /* of warmup_stable_decay: over this last share of all steps the rate falls to 0; default 0.25 */
} graft_train_options;
GRAFT_API void graft_train_options_init(graft_train_options *options, size_t struct_size);
static inline graft_train_options graft_train_options_default(void)
{
    graft_train_options options;
    graft_train_options_init(&options, sizeof options);
    return options;
}

typedef struct graft_trainer graft_trainer;

/* INVALID_ARGUMENT: an option is out of range, or there is nothing to train on. Else as graft_adapter_open. Model and
 * dataset must stay open; of the options nothing is kept (the recipe's progress is called during this alone). `options`
 * NULL: the defaults. */
GRAFT_API graft_status graft_trainer_open(graft_model *model, const graft_dataset *dataset,
                                          const graft_train_options *options, graft_trainer **out,
                                          graft_error *error);
GRAFT_API void graft_trainer_close(graft_trainer **trainer);

/* What is ahead; bytes are those beside the weights. */
typedef struct graft_train_plan {
    int64_t steps, steps_per_epoch, warmup_steps;
    int64_t tokens_per_epoch;  /* fed */
    int64_t learned_per_epoch; /* of these, learned */
    int64_t trained_values;
    uint64_t activation_bytes; /* a bound: pages that no batch needs stay with the system */
    uint64_t value_bytes;      /* values, gradients, moments and the best values so far */
} graft_train_plan;
GRAFT_API graft_status graft_trainer_plan(const graft_trainer *trainer, graft_train_plan *out,
                                          graft_error *error);

/* Goes on from the checkpoint of the run: to be called before graft_trainer_run. NOT_FOUND: there is none.
 * INVALID_ARGUMENT: it is of another run, and in what. FORMAT: it is damaged. */
GRAFT_API graft_status graft_trainer_resume(graft_trainer *trainer, graft_error *error);

/* After each step, and once before the first with valid_loss alone. Numbers that there are none of are NaN. */
typedef struct graft_train_step {
    int64_t step, steps; /* done, of */
    double epoch;        /* done */
    double loss;         /* mean of the step's tokens, weighted */
    double penalty;      /* of EWC, beside the loss */
    double grad_norm;    /* of both, before clipping */
    double learning_rate;
    int64_t tokens;    /* learned */
    int64_t fed;       /* tokens that went through the model */
    bool skipped;      /* loss or gradient were no numbers: nothing was changed */
    double valid_loss; /* of a validation after this step */
    double best_loss;  /* of all validations after a step */
    int64_t best_step;
    bool saved; /* a checkpoint was written */
} graft_train_step;
/* False: stop here (with a checkpoint, where there is a folder for the run). */
typedef bool (*graft_train_fn)(void *user, const graft_train_step *step);

typedef enum graft_train_end {
    GRAFT_TRAIN_DONE = 0,   /* all steps */
    GRAFT_TRAIN_EARLY = 1,  /* patience ran out */
    GRAFT_TRAIN_STOPPED = 2 /* the callback said so */
} graft_train_end;
typedef struct graft_train_outcome {
    graft_train_end end;
    int64_t step;
    double last_loss;
    double first_valid, last_valid, best_valid; /* NaN: no validation */
    int64_t best_step;
} graft_train_outcome;
/* Runs what is left of the steps. IO: history or checkpoint cannot be written. INVALID_ARGUMENT: the folder of the run has
 * a checkpoint, which was not resumed. After a failure the trainer can be closed, and nothing else. NUMERIC: too many steps in a row were no numbers. `step` NULL: nobody is told. */
GRAFT_API graft_status graft_trainer_run(graft_trainer *trainer, graft_train_fn step, void *user,
                                         graft_train_outcome *out, graft_error *error);

/* The mean loss over a part of the data as what is trained is now, after the last step, which need not be the best; NaN: that part has no examples. */
GRAFT_API graft_status graft_trainer_loss(graft_trainer *trainer, graft_part part, double *loss,
                                          graft_error *error);

/* Whether what is trained can be written in a format, by what it consists of: to be asked before it is trained.
 * UNSUPPORTED names what the format has no place for. */
GRAFT_API graft_status graft_trainer_check_format(const graft_trainer *trainer,
                                                  graft_adapter_format format, graft_error *error);

/* Writes the adapter of the best validation, or without any the last: a folder that is absent or empty (PEFT, MLX) or a
 * GGUF file, whole or not at all. `type`: "f32" (NULL), "f16" or "bf16". `about`: a JSON object for "training" of its
 * card; NULL: none. With ewc: UNSUPPORTED: a GGUF; INVALID_ARGUMENT: the run is not over.
 *   Of fine_tune_type "full" a model: PEFT stands for a Hugging Face directory (weights, configuration, tokenizer, template;
 * `about` as training.json), MLX is UNSUPPORTED; `type` NULL: as the model that was trained, "bf16" of a quantised one. */
GRAFT_API graft_status graft_trainer_write(const graft_trainer *trainer, const char *path,
                                           graft_adapter_format format, const char *type,
                                           const char *about, graft_error *error);

#ifdef __cplusplus
}
#endif
#endif
