/* special.c: names of other programs that do not stand for one setting as it is.
 *
 * Each is taken for what it means there. What graft cannot do is refused by name with what to do instead; what makes no
 * difference to the adapter (how often something is printed) is left alone, with a note.
 */
#include "train/config/config_internal.h"

#include <math.h>

#define MEANING(name)                                                                              \
    static graft_status name(graft_train_config *c, const char *key, const json_t *value,          \
                             graft_error *error)

static graft_status cannot(graft_error *error, const char *key, const char *what)
{
    return error_set(error, GRAFT_UNSUPPORTED, "%.80s: %s", key, what);
}

static bool is_text(const json_t *value, const char *words)
{
    const char *text = json_string_value(value);
    return text && *text && !strchr(text, ' ') && words_have(words, text, NULL);
}

/* ---- precision, optimiser ------------------------------------------------------------------ */

MEANING(put_fp16)
{
    (void)c;
    if (!json_is_boolean(value))
        return config_wrong(key, "true or false", value, error);
    return json_is_false(value)
               ? GRAFT_OK
               : cannot(error, key,
                        "graft does not train in fp16, whose range gradients leave; set bf16: true "
                        "in its place, or bf16: false for floats");
}

MEANING(put_optimizer)
{
    const bool plain = is_text(value, "adam"); /* mlx-lm's default: AdamW without decay */
    if (!plain && !is_text(value, "adamw_torch adamw_torch_fused adamw_hf"))
        return config_put(c, "optim", key, value, error);
    c->said.train.optim = "adamw";
    if (plain)
        c->said.train.weight_decay = 0;
    return GRAFT_OK;
}

/* ---- the adapter --------------------------------------------------------------------------- */

MEANING(put_scale)
{
    double scale = json_number_value(value);
    if (!json_is_number(value) || !(scale > 0 && scale <= 1e6))
        return config_wrong(key, "a number above 0, up to 1e6", value, error);
    c->scale = scale;
    return GRAFT_OK;
}

MEANING(put_alpha)
{
    c->scale = NAN;
    return config_put(c, "lora_alpha", key, value, error);
}

/* "self_attn.q_proj" is the same layer of each block as "q_proj"; patterns and single blocks are not. */
static const char *last_part(const char *name)
{
    const char *part = strncmp(name, "self_attn.", 10) == 0 ? name + 10
                       : strncmp(name, "mlp.", 4) == 0      ? name + 4
                                                            : name;
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return *part && strspn(part, allowed) == strlen(part) ? part : NULL;
}

MEANING(put_targets)
{
    json_t *names = json_array();
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (n == 0) {
        json_decref(names);
        return config_wrong(key, "a list of names", value, error);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        const char *part = json_is_string(item) ? last_part(json_string_value(item)) : NULL;
        if (!part) {
            json_decref(names);
            return json_is_string(item)
                       ? cannot(
                             error, key,
                             "layers are chosen by the last part of their names, as q_proj, in all "
                             "blocks alike, or as all-linear")
                       : config_wrong(key, "a list of names", item, error);
        }
        json_append(&names, json_string(part));
    }
    graft_status status =
        names ? config_put(c, "target_modules", key, names, error) : config_no_memory(error);
    json_decref(names);
    return status;
}

/* An empty list is none. */
MEANING(put_saved)
{
    if (!json_is_array(value) || json_array_size(value) > 0)
        return config_put(c, "modules_to_save", key, value, error);
    c->said.recipe.n_modules_to_save = 0;
    return GRAFT_OK;
}

/* mlx-lm's dora is lora with magnitudes, and its lora without. */
MEANING(put_fine_tune_type)
{
    const bool dora = is_text(value, "dora");
    graft_status status = dora ? GRAFT_OK : config_put(c, "fine_tune_type", key, value, error);
    if (status != GRAFT_OK)
        return status;
    if (dora)
        c->said.train.fine_tune_type = "lora";
    c->said.train.use_dora = dora;
    return GRAFT_OK;
}

MEANING(put_init)
{
    if (!json_is_true(value) && !is_text(value, "true")) /* behind --set it is a text */
        return config_put(c, "init_lora_weights", key, value, error);
    c->said.train.init = "default";
    return GRAFT_OK;
}

MEANING(put_bias)
{
    (void)c;
    return is_text(value, "none") ? GRAFT_OK
                                  : cannot(error, key,
                                           "biases of the model stay as they are: none; lora_bias: "
                                           "true trains one beside B");
}

MEANING(put_peft_type)
{
    (void)c;
    return is_text(value, "LORA")
               ? GRAFT_OK
               : cannot(error, key, "graft trains LORA, with use_dora and use_rslora");
}

MEANING(put_task_type)
{
    (void)c;
    return is_text(value, "CAUSAL_LM SEQ_CLS")
               ? GRAFT_OK
               : cannot(error, key, "what is trained is the model's: CAUSAL_LM or SEQ_CLS");
}

/* Nothing, or objects in which nothing is. */
static bool is_nothing(const json_t *value, int level)
{
    const char *key;
    json_t *member;
    if (!json_is_object(value) || level > 4)
        return json_is_null(value) || json_is_false(value) ||
               (json_is_array(value) && json_array_size(value) == 0);
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        if (!is_nothing(member, level + 1))
            return false;
    }
    return true;
}

/* What graft does not have is allowed where it asks for nothing: programs write all of their settings. */
MEANING(put_nothing)
{
    (void)c;
    return is_nothing(value, 0) ? GRAFT_OK
                                : cannot(error, key, "graft train does not do this; leave it out");
}

/* mlx-lm names the file, graft the folder it lies in. */
MEANING(put_resume)
{
    static const char file[] = "/adapters.safetensors";
    const char *path = json_string_value(value);
    size_t n = path ? strlen(path) : 0, tail = sizeof file - 1;
    if (!path || n <= tail || strcmp(path + n - tail, file) != 0)
        return config_put(c, "adapter", key, value, error);
    json_t *folder = json_stringn(path, n - tail);
    graft_status status =
        folder ? config_put(c, "adapter", key, folder, error) : config_no_memory(error);
    json_decref(folder);
    return status;
}

/* ---- steps --------------------------------------------------------------------------------- */

MEANING(put_iters)
{
    c->max_in_batches = true;
    return config_put(c, "max_steps", key, value, error);
}

MEANING(put_max_steps)
{
    c->max_in_batches = false;
    return config_put(c, "max_steps", key, value, error);
}

MEANING(put_steps_per_eval)
{
    c->eval_in_batches = true;
    return config_put(c, "eval_steps", key, value, error);
}

MEANING(put_eval_steps)
{
    c->eval_in_batches = false;
    return config_put(c, "eval_steps", key, value, error);
}

MEANING(put_save_every)
{
    c->save_in_batches = true;
    return config_put(c, "save_steps", key, value, error);
}

MEANING(put_save_steps)
{
    c->save_in_batches = false;
    return config_put(c, "save_steps", key, value, error);
}

MEANING(put_eval_strategy)
{
    if (is_text(value, "epoch"))
        c->said.train.eval_steps = 0;
    else if (is_text(value, "no"))
        return cannot(error, key, "for no validation set valid_share: 0 and give no file for it");
    else if (!is_text(value, "steps"))
        return config_wrong(key, "steps or epoch", value, error);
    return GRAFT_OK;
}

MEANING(put_save_strategy)
{
    if (is_text(value, "epoch"))
        c->said.train.save_steps = 0;
    else if (is_text(value, "no best"))
        return config_add_note(c, error,
                               "%s: checkpoints are written at each validation all the same", key);
    else if (!is_text(value, "steps"))
        return config_wrong(key, "steps, epoch, best or no", value, error);
    return GRAFT_OK;
}

/* ---- rates --------------------------------------------------------------------------------- */

MEANING(put_warmup_ratio)
{
    c->ratio_given = true;
    c->said.train.warmup_steps = -1;
    return config_put(c, "warmup_ratio", key, value, error);
}

/* Hugging Face takes the ratio where the steps are 0. */
MEANING(put_warmup_steps)
{
    graft_status status = config_put(c, "warmup_steps", key, value, error);
    if (status == GRAFT_OK && c->ratio_given && c->said.train.warmup_steps == 0)
        c->said.train.warmup_steps = -1;
    return status;
}

MEANING(put_schedule)
{
    const bool stable = is_text(value, "wsd");
    if (!stable && !is_text(value, "constant_with_warmup"))
        return config_put(c, "lr_scheduler_type", key, value, error);
    c->said.train.lr_scheduler = stable ? "warmup_stable_decay" : "constant";
    return GRAFT_OK;
}

/* mlx.optimizers' schedules end at a rate after a number of steps that are in "arguments". */
MEANING(put_mlx_schedule)
{
    if (is_text(value, "cosine_decay"))
        c->said.train.lr_scheduler = "cosine";
    else if (is_text(value, "linear_schedule"))
        c->said.train.lr_scheduler = "linear";
    else
        return cannot(error, key,
                      "of mlx's schedules graft has cosine_decay and linear_schedule; else use "
                      "lr_scheduler_type");
    return GRAFT_OK;
}

/* cosine_decay: [rate, steps, end]; linear_schedule: [rate, end, steps] */
MEANING(put_mlx_arguments)
{
    bool linear = strcmp(c->said.train.lr_scheduler, "linear") == 0;
    size_t n = json_array_size(value);
    if (n < (linear ? 3 : 2) || n > 3)
        return config_wrong(key, linear ? "[rate, end, steps]" : "[rate, steps, end]", value,
                            error);
    const json_t *end = json_array_get(value, linear ? 1 : 2),
                 *steps = json_array_get(value, linear ? 2 : 1);
    if ((end && !json_is_number(end)) || !json_is_number(steps))
        return config_wrong(key, "numbers", value, error);
    if (json_number_value(end) != 0)
        return cannot(error, key, "the rate of cosine and linear ends at 0 here; set the end to 0");
    graft_status status = config_put(c, "learning_rate", key, json_array_get(value, 0), error);
    return status == GRAFT_OK
               ? config_add_note(c, error,
                                 "%s: the rate falls over all steps of the run, not over %.0f", key,
                                 json_number_value(steps))
               : status;
}

MEANING(put_warmup_init)
{
    (void)c;
    return json_is_number(value) && json_number_value(value) == 0
               ? GRAFT_OK
               : cannot(error, key, "the warmup begins at 0 here");
}

/* ---- data ---------------------------------------------------------------------------------- */

static graft_status learn(graft_train_config *c, const char *key, const json_t *value,
                          graft_loss yes, graft_loss no, graft_error *error)
{
    if (!json_is_boolean(value))
        return config_wrong(key, "true or false", value, error);
    c->said.dataset.loss = json_is_true(value) ? yes : no;
    return GRAFT_OK;
}

/* The last answer of a chat, the completion of a pair; without it everything. */
MEANING(put_completion_only)
{
    return learn(c, key, value, GRAFT_LOSS_COMPLETION, GRAFT_LOSS_ALL, error);
}

MEANING(put_assistant_only)
{
    return learn(c, key, value, GRAFT_LOSS_ASSISTANT, c->said.dataset.loss, error);
}

/* ---- what makes no difference --------------------------------------------------------------- */

MEANING(put_ignored)
{
    (void)value;
    return config_add_note(c, error, "%s: has no meaning here and is left alone", key);
}

MEANING(put_true)
{
    (void)c;
    return json_is_true(value) ? GRAFT_OK
                               : cannot(error, key, "graft train always does; leave it out");
}

const struct special specials[] = {
    {"preset", "text or list",
     "quick, stable, coder, researcher, security, architect, reviewer: read first", NULL, -2},
    {"fp16", "true or false", "refused: set bf16", put_fp16, 0},
    {"scale lora_parameters.scale", "number", "mlx-lm's: lora_alpha = scale · r", put_scale, 1},
    {"lora_parameters.keys", "list", "target_modules: self_attn.q_proj is q_proj", put_targets, 0},
    {"bias", "text", "none", put_bias, 0},
    {"peft_type", "text", "LORA", put_peft_type, 0},
    {"task_type", "text", "CAUSAL_LM or SEQ_CLS", put_task_type, 0},
    {"layers_to_transform layers_pattern exclude_modules rank_pattern "
     "alpha_pattern fan_in_fan_out "
     "trainable_token_indices target_parameters auto_mapping loftq_config corda_config eva_config "
     "arrow_config "
     "layer_replication megatron_config use_qalora ensure_weight_tying revision "
     "lr_scheduler_kwargs optimizer_config",
     "nothing", "null, false, [] or {}: refused where they ask for something", put_nothing, 0},
    {"resume_adapter_file", "text", "adapter: the folder, or adapters.safetensors in it",
     put_resume, 0},
    {"iters", "integer", "max_steps in batches: divided by gradient_accumulation_steps", put_iters,
     0},
    {"steps_per_eval", "integer", "eval_steps in batches", put_steps_per_eval, 0},
    {"save_every", "integer", "save_steps in batches", put_save_every, 0},
    {"eval_strategy evaluation_strategy", "text", "steps, or epoch: eval_steps is 0",
     put_eval_strategy, 1},
    {"save_strategy", "text", "steps, or epoch: save_steps is 0; no and best change nothing",
     put_save_strategy, 1},
    {"lr_schedule.name", "text",
     "lr_scheduler_type: cosine_decay is cosine, linear_schedule linear", put_mlx_schedule, 0},
    {"lr_schedule.arguments", "list",
     "learning_rate is the first; the end must be 0; the steps are those of the run",
     put_mlx_arguments, 1},
    {"lr_schedule.warmup", "integer", "warmup_steps", put_warmup_steps, 0},
    {"lr_schedule.warmup_init", "number", "0", put_warmup_init, 0},
    {"completion_only_loss mask_prompt", "true or false", "loss: completion, else all",
     put_completion_only, 0},
    {"assistant_only_loss", "true or false", "loss: assistant; false changes nothing",
     put_assistant_only, 1},
    {"train load_best_model_at_end", "true", "always", put_true, 0},
    {"logging_steps logging_strategy logging_dir report_to run_name steps_per_report val_batches "
     "test test_batches config project_name wandb inference_mode megatron_core qalora_group_size "
     "disable_tqdm dataloader_num_workers dataset_num_proc",
     "any", "left alone, with a note: they change nothing of the adapter", put_ignored, 0},
    /* Names of the table that mean more than a value put in its place, and so are described there. */
    {"optim optimizer", NULL, NULL, put_optimizer, -1},
    {"fine_tune_type train_type", NULL, NULL, put_fine_tune_type, -1},
    {"lora_alpha alpha", NULL, NULL, put_alpha, 0},
    {"target_modules targets lora_target_modules", NULL, NULL, put_targets, 0},
    {"modules_to_save", NULL, NULL, put_saved, 0},
    {"init_lora_weights init", NULL, NULL, put_init, 0},
    {"max_steps", NULL, NULL, put_max_steps, 0},
    {"eval_steps", NULL, NULL, put_eval_steps, 0},
    {"save_steps", NULL, NULL, put_save_steps, 0},
    {"warmup_ratio", NULL, NULL, put_warmup_ratio, -1},
    {"warmup_steps", NULL, NULL, put_warmup_steps, 0},
    {"lr_scheduler_type lr_scheduler", NULL, NULL, put_schedule, 0},
};
const size_t n_specials = ARRAY_LEN(specials);
