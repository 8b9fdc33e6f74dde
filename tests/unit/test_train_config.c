/* test_train_config.c: graft/train_config.h: every name and alias, wrong values, files of JSON and YAML, other programs'
 * configurations, presets, what is written back.
 */
#include "unit/test_support.h"

#include "unit/failing_allocator.h"
#include "unit/failing_json.h"
#include "unit/must.h"

#include "train/config/config.h"

#include <graft/graft.h>

#include <math.h>

static graft_train_config *fresh(void)
{
    graft_train_config *c = NULL;
    MUST(graft_train_config_open(NULL, &c, error));
    return c;
}

static const graft_train_settings *settings(const graft_train_config *c)
{
    return graft_train_config_settings(c);
}

static void set(graft_train_config *c, const char *key, const char *value)
{
    MUST(graft_train_config_set(c, key, value, error));
}

static void refused(graft_train_config *c, const char *key, const char *value, graft_status status,
                    const char *why)
{
    graft_error error = {0};
    graft_status found = graft_train_config_set(c, key, value, &error);
    if (found != status || strstr(error.message, why) == NULL) {
        fail_msg("%s=%s: %s: \"%s\", not \"%s\"", key, value, graft_status_text(found),
                 error.message, why);
    }
}

static void read_text(graft_train_config *c, const char *text)
{
    MUST(config_parse(c, text, strlen(text), CONFIG_EITHER, error));
}

static void text_refused(const char *text, graft_status status, const char *why)
{
    graft_train_config *c = fresh();
    graft_error error = {0};
    graft_status found = config_parse(c, text, strlen(text), CONFIG_EITHER, &error);
    if (found != status || strstr(error.message, why) == NULL) {
        fail_msg("%s: %s: \"%s\", not \"%s\"", text, graft_status_text(found), error.message, why);
    }
    graft_train_config_close(&c);
}

static const char *json_of(graft_train_config *c)
{
    const char *json;
    MUST(graft_train_config_json(c, &json, error));
    return json;
}

/* ---- the table ----------------------------------------------------------------------------- */

/* A value that is allowed and is no default. */
static const char *sample(const graft_train_setting *s)
{
    static char text[64];
    if (strcmp(s->name, "adapter_version") == 0)
        return "3.2.1";
    if (s->choices != NULL) {
        snprintf(text, sizeof text, "%s", strrchr(s->choices, ' ') + 1);
        return text;
    }
    if (strcmp(s->type, "true or false") == 0)
        return "true";
    if (strcmp(s->type, "list") == 0)
        return "k_proj,lm_head";
    if (strcmp(s->type, "text") == 0)
        return "some/thing";
    if (strcmp(s->type, "integer") == 0)
        return "7";
    snprintf(text, sizeof text, "%.9g", s->low + (fmin(s->high, 1) - s->low) / 3);
    return text;
}

static bool
is_row(const graft_train_setting *s) /* not one of the names that stand for something else */
{
    graft_train_config *c = fresh();
    set(c, s->name, sample(s));
    char key[80];
    snprintf(key, sizeof key, "\"%s\":", s->name);
    bool there = strstr(json_of(c), key) != NULL || strcmp(s->name, "warmup_ratio") == 0;
    graft_train_config_close(&c);
    return there;
}

/* Rows of the table come first; then the first name that has blanks in it, or is "preset". */
static bool row_at(size_t i, graft_train_setting *s)
{
    return graft_train_setting_at(i, s) && strcmp(s->name, "preset") != 0;
}

static void every_alias_does_what_its_name_does(void **state)
{
    graft_train_setting s;
    size_t n = 0, aliases = 0;
    (void)state;
    for (; row_at(n, &s); n++) {
        char words[200], *left = NULL;
        snprintf(words, sizeof words, "%s", s.aliases);
        assert_true(is_row(&s));
        graft_train_config *named = fresh(), *untouched = fresh();
        set(named, s.name, sample(&s));
        for (const char *alias = strtok_r(words, " ", &left); alias != NULL;
             alias = strtok_r(NULL, " ", &left)) {
            graft_train_config *other = fresh();
            set(other, alias, sample(&s));
            assert_string_equal(json_of(other), json_of(named));
            graft_train_config_close(&other);
            aliases++;
        }
        if (strcmp(sample(&s), "true") != 0)
            assert_string_not_equal(json_of(named), json_of(untouched));
        graft_train_config_close(&named);
        graft_train_config_close(&untouched);
    }
    assert_true(n > 50 && aliases > 25);
}

static void every_setting_refuses_other_types_and_ranges(void **state)
{
    graft_train_setting s;
    graft_train_config *c = fresh();
    char text[64];
    (void)state;
    for (size_t i = 0; row_at(i, &s); i++) {
        if (s.choices != NULL) {
            refused(c, s.name, "nothing of them", GRAFT_INVALID_ARGUMENT, s.name);
        } else if (strcmp(s.type, "true or false") == 0) {
            refused(c, s.name, "1", GRAFT_INVALID_ARGUMENT, "must be true or false, not 1");
            refused(c, s.name, "yes", GRAFT_INVALID_ARGUMENT, "not \"yes\"");
        } else if (strcmp(s.type, "text") == 0) {
            refused(c, s.name, "", GRAFT_INVALID_ARGUMENT, "must be a text");
        } else if (strcmp(s.type, "list") != 0) {
            refused(c, s.name, "many", GRAFT_INVALID_ARGUMENT, "not \"many\"");
            snprintf(text, sizeof text, "%.9g", s.low - fmax(1e-31, fabs(s.low) * 2));
            refused(c, s.name, s.low == 0 ? "-1" : text, GRAFT_INVALID_ARGUMENT, s.name);
            refused(c, s.name, "1e40", GRAFT_INVALID_ARGUMENT, "from");
        }
        if (strcmp(s.type, "integer") == 0)
            refused(c, s.name, "2.5", GRAFT_INVALID_ARGUMENT, "must be an integer from");
    }
    graft_train_config *untouched = fresh();
    assert_string_equal(json_of(c), json_of(untouched));
    graft_train_config_close(&untouched);
    graft_train_config_close(&c);
}

static void what_is_written_back_is_read_to_the_same(void **state)
{
    graft_train_setting s;
    graft_train_config *c = fresh(), *again = fresh();
    struct scratch scratch;
    (void)state;
    for (size_t i = 0; row_at(i, &s); i++)
        set(c, s.name, sample(&s));
    scratch_open(&scratch);
    const char *path = scratch_path(&scratch, "config.json");
    MUST(file_write_atomic(NULL, path, json_of(c), strlen(json_of(c)), error));
    MUST(graft_train_config_load(again, path, error));
    assert_string_equal(json_of(again), json_of(c));
    graft_train_config *bare = fresh(), *copy = fresh();
    set(bare, "warmup_steps", "0");
    read_text(copy, json_of(bare));
    assert_int_equal(settings(copy)->train.warmup_steps, 0);
    graft_train_config_close(&bare);
    graft_train_config_close(&copy);
    graft_train_config_close(&c);
    graft_train_config_close(&again);
    scratch_close(&scratch);
}

static void defaults_are_those_of_the_structs(void **state)
{
    (void)state;
    graft_train_config *c = fresh();
    const graft_train_settings *s = settings(c);
    graft_train_options train = graft_train_options_default();
    assert_ptr_equal(s->train.recipe, &s->recipe);
    train.recipe = &s->recipe;
    assert_memory_equal(&s->train, &train, sizeof train);
    assert_null(s->model);
    assert_int_equal(s->recipe.num_layers, 0);
    assert_null(graft_train_config_note(c, 0));
    graft_train_config_close(&c);
}

static void an_unknown_name_is_told_the_nearest(void **state)
{
    (void)state;
    graft_train_config *c = fresh();
    refused(c, "learning_rat", "1", GRAFT_NOT_FOUND,
            "no setting is called \"learning_rat\"; the nearest is learning_rate");
    refused(c, "lora_aplha", "1", GRAFT_NOT_FOUND, "the nearest is lora_alpha");
    refused(c, "lora_parameters.rnk", "1", GRAFT_NOT_FOUND, "lora_parameters.rank");
    refused(c, "itres", "1", GRAFT_NOT_FOUND, "iters");
    refused(c, "", "1", GRAFT_NOT_FOUND, "no setting is called \"\"");
    text_refused("learning_rte: 1\n", GRAFT_NOT_FOUND, "learning_rate");
    text_refused("lora_parameters: {rnk: 1}\n", GRAFT_NOT_FOUND, "lora_parameters.rnk");
    text_refused("unknown_thing: null\n", GRAFT_NOT_FOUND, "unknown_thing");
    graft_train_config_close(&c);
}

/* ---- names with a meaning of their own ------------------------------------------------------- */

static void fp16_is_refused_with_what_to_use(void **state)
{
    (void)state;
    graft_train_config *c = fresh();
    refused(c, "fp16", "true", GRAFT_UNSUPPORTED, "bf16: true");
    set(c, "fp16", "false");
    set(c, "bf16", "false");
    assert_false(settings(c)->train.bf16);
    graft_train_config_close(&c);
}

static void a_scale_is_alpha_over_whatever_rank_there_is(void **state)
{
    (void)state;
    graft_train_config *c = fresh();
    set(c, "scale", "20");
    assert_true(settings(c)->recipe.alpha == 160);
    set(c, "r", "16");
    assert_true(settings(c)->recipe.alpha == 320);
    set(c, "use_rslora", "true");
    assert_true(settings(c)->recipe.alpha == 80);
    set(c, "lora_alpha", "5");
    set(c, "r", "4");
    assert_true(settings(c)->recipe.alpha == 5);
    refused(c, "scale", "0", GRAFT_INVALID_ARGUMENT, "above 0");
    refused(c, "scale", "1e6", GRAFT_INVALID_ARGUMENT, "beyond 1e-06 to 1e+06");
    refused(c, "scale", "big", GRAFT_INVALID_ARGUMENT, "above 0");
    assert_null(graft_train_config_note(c, 0));
    set(c, "use_rslora", "false");
    set(c, "r", "49"); /* 0.1 · 49 / 49 is 0.1 to the last digit; search one that is not */
    for (int i = 1; i < 4000 && graft_train_config_note(c, 0) == NULL; i++) {
        char text[32];
        snprintf(text, sizeof text, "%.17g", 0.001 * i);
        set(c, "scale", text);
    }
    assert_non_null(strstr(graft_train_config_note(c, 0), "to the last digit"));
    graft_train_config_close(&c);
}

static void counts_of_batches_become_steps(void **state)
{
    (void)state;
    graft_train_config *c = fresh();
    set(c, "iters", "1000");
    set(c, "steps_per_eval", "200");
    set(c, "save_every", "100");
    assert_int_equal(settings(c)->train.max_steps, 1000);
    set(c, "grad_accumulation_steps", "8");
    assert_int_equal(settings(c)->train.max_steps, 125);
    assert_int_equal(settings(c)->train.eval_steps, 25);
    assert_int_equal(settings(c)->train.save_steps, 13);
    assert_non_null(
        strstr(graft_train_config_note(c, 0), "save_every: 100 batches are 13 steps of 8"));
    set(c, "max_steps", "77");
    assert_int_equal(settings(c)->train.max_steps, 77);
    set(c, "max_steps", "-1");
    assert_int_equal(settings(c)->train.max_steps, 0);
    set(c, "eval_steps", "3");
    set(c, "save_steps", "4");
    assert_int_equal(settings(c)->train.eval_steps, 3);
    assert_int_equal(settings(c)->train.save_steps, 4);
    graft_train_config_close(&c);
}

static void warmup_is_counted_as_hugging_face_does(void **state)
{
    (void)state;
    graft_train_config *c = fresh();
    read_text(c, "{\"warmup_steps\": 0, \"warmup_ratio\": 0.1}");
    assert_int_equal(settings(c)->train.warmup_steps, -1);
    assert_true(settings(c)->train.warmup_ratio == 0.1);
    read_text(c, "{\"warmup_steps\": 30, \"warmup_ratio\": 0.1}");
    assert_int_equal(settings(c)->train.warmup_steps, 30);
    read_text(c, "{\"warmup_steps\": 0}");
    assert_int_equal(settings(c)->train.warmup_steps, 0);
    set(c, "warmup_ratio", "0.2");
    assert_int_equal(settings(c)->train.warmup_steps, -1);
    set(c, "lr_scheduler_type", "constant_with_warmup");
    assert_string_equal(settings(c)->train.lr_scheduler, "constant");
    refused(c, "lr_scheduler_type", "polynomial", GRAFT_INVALID_ARGUMENT, "one of constant linear");
    graft_train_config_close(&c);
}

static void targets_are_the_last_parts_of_names(void **state)
{
    (void)state;
    graft_train_config *c = fresh();
    set(c, "lora_parameters.keys", "self_attn.q_proj,mlp.down_proj");
    assert_int_equal(settings(c)->recipe.n_targets, 2);
    assert_string_equal(settings(c)->recipe.targets[0], "q_proj");
    assert_string_equal(settings(c)->recipe.targets[1], "down_proj");
    read_text(c, "target_modules: all-linear\n");
    assert_int_equal(settings(c)->recipe.n_targets, 1);
    assert_string_equal(settings(c)->recipe.targets[0], "all-linear");
    refused(c, "target_modules", ".*_proj", GRAFT_UNSUPPORTED, "last part");
    refused(c, "target_modules", "model.layers.3.self_attn.q_proj", GRAFT_UNSUPPORTED, "last part");
    refused(c, "target_modules", "", GRAFT_INVALID_ARGUMENT, "a list of names");
    text_refused("target_modules: [1]\n", GRAFT_INVALID_ARGUMENT, "not 1");
    graft_train_config_close(&c);
}

static void what_graft_does_not_do_is_refused_by_name(void **state)
{
    static const char *const pairs[][2] = {{"bias", "all"},
                                           {"peft_type", "IA3"},
                                           {"task_type", "SEQ_2_SEQ_LM"},
                                           {"eval_strategy", "no"},
                                           {"lr_schedule.name", "step_decay"},
                                           {"lr_schedule.warmup_init", "1e-7"},
                                           {"train", "false"},
                                           {"layers_to_transform", "1,2"}};
    (void)state;
    graft_train_config *c = fresh();
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        refused(c, pairs[i][0], pairs[i][1], GRAFT_UNSUPPORTED, pairs[i][0]);
    text_refused("alpha_pattern: {q_proj: 3}\n", GRAFT_UNSUPPORTED, "alpha_pattern");
    refused(c, "init_lora_weights", "eva", GRAFT_INVALID_ARGUMENT,
            "one of default gaussian pissa olora");
    refused(c, "optim", "adafactor", GRAFT_INVALID_ARGUMENT, "one of adamw muon");
    refused(c, "fine_tune_type", "ia3", GRAFT_INVALID_ARGUMENT, "one of lora full");
    set(c, "optimizer", "muon");
    assert_string_equal(settings(c)->train.optim, "muon");
    set(c, "optim", "adamw_torch_fused");
    assert_string_equal(settings(c)->train.optim, "adamw");
    set(c, "lr_scheduler_type", "wsd");
    assert_string_equal(settings(c)->train.lr_scheduler, "warmup_stable_decay");
    set(c, "train_type", "full");
    assert_string_equal(settings(c)->train.fine_tune_type, "full");
    set(c, "fine_tune_type", "dora");
    assert_string_equal(settings(c)->train.fine_tune_type, "lora");
    assert_true(settings(c)->train.use_dora);
    set(c, "init", "olora");
    assert_string_equal(settings(c)->train.init, "olora");
    set(c, "init_lora_weights", "true");
    assert_string_equal(settings(c)->train.init, "default");
    refused(c, "eval_strategy", "sometimes", GRAFT_INVALID_ARGUMENT, "steps or epoch");
    refused(c, "save_strategy", "sometimes", GRAFT_INVALID_ARGUMENT, "steps, epoch");
    refused(c, "mask_prompt", "3", GRAFT_INVALID_ARGUMENT, "true or false");
    set(c, "save_strategy", "best");
    set(c, "logging_steps", "10");
    assert_non_null(strstr(graft_train_config_note(c, 0), "save_strategy"));
    assert_non_null(strstr(graft_train_config_note(c, 1), "logging_steps: has no meaning here"));
    assert_null(graft_train_config_note(c, 2));
    graft_train_config_close(&c);
}

/* ---- other programs' files ------------------------------------------------------------------ */

static void a_configuration_of_mlx_lm_means_what_it_means_there(void **state)
{
    (void)state;
    graft_train_config *c = fresh();
    read_text(c, "# fine-tuning\n"
                 "model: \"mlx-community/Qwen2.5-0.5B\"\n"
                 "train: true\n"
                 "fine_tune_type: dora\n"
                 "optimizer: adamw\n"
                 "optimizer_config:\n  adam: {}\n  adamw: {}\n"
                 "data: data/\n"
                 "seed: 5\n"
                 "num_layers: -1\n"
                 "batch_size: 2\n"
                 "iters: 600\n"
                 "val_batches: 25\n"
                 "learning_rate: 1e-5\n"
                 "steps_per_report: 10\n"
                 "steps_per_eval: 200\n"
                 "resume_adapter_file: null\n"
                 "adapter_path: adapters\n"
                 "save_every: 100\n"
                 "test: false\n"
                 "max_seq_length: 512\n"
                 "grad_checkpoint: false\n"
                 "mask_prompt: true\n"
                 "lora_parameters:\n"
                 "  keys: [\"self_attn.q_proj\", \"self_attn.v_proj\"]\n"
                 "  rank: 4\n"
                 "  scale: 10.0\n"
                 "  dropout: 0.25\n"
                 "lr_schedule:\n"
                 "  name: cosine_decay\n"
                 "  warmup: 50\n"
                 "  warmup_init: 0\n"
                 "  arguments: [2e-5, 1000, 0]\n");
    const graft_train_settings *s = settings(c);
    assert_string_equal(s->model, "mlx-community/Qwen2.5-0.5B");
    assert_string_equal(s->data, "data/");
    assert_string_equal(s->output, "adapters");
    assert_true(s->train.use_dora && !s->train.gradient_checkpointing);
    assert_int_equal(s->train.seed, 5);
    assert_int_equal(s->dataset.seed, 5);
    assert_int_equal(s->recipe.seed, 0);
    assert_int_equal(s->recipe.num_layers, 0);
    assert_int_equal(s->train.batch_size, 2);
    assert_int_equal(s->train.max_steps, 600);
    assert_int_equal(s->train.eval_steps, 200);
    assert_int_equal(s->train.save_steps, 100);
    assert_int_equal(s->train.warmup_steps, 50);
    assert_int_equal(s->dataset.max_seq_length, 512);
    assert_int_equal(s->dataset.loss, GRAFT_LOSS_COMPLETION);
    assert_int_equal(s->recipe.rank, 4);
    assert_true(s->recipe.alpha == 40 && s->recipe.dropout == 0.25);
    assert_true(s->train.learning_rate == 2e-5); /* of the schedule */
    assert_string_equal(s->train.lr_scheduler, "cosine");
    assert_int_equal(s->recipe.n_targets, 2);
    bool told = false;
    for (size_t i = 0; graft_train_config_note(c, i) != NULL; i++)
        told = told || strstr(graft_train_config_note(c, i),
                              "over all steps of the run, not over 1000") != NULL;
    assert_true(told);
    set(c, "resume_adapter_file", "old/adapters.safetensors");
    assert_string_equal(s->train.adapter, "old");
    set(c, "num_layers", "8");
    assert_int_equal(s->recipe.num_layers, 8);
    text_refused("lr_schedule: {name: cosine_decay, arguments: [1e-5, 100, 1e-7]}\n",
                 GRAFT_UNSUPPORTED, "ends at 0");
    text_refused("lr_schedule: {name: cosine_decay, arguments: [1e-5]}\n", GRAFT_INVALID_ARGUMENT,
                 "[rate, steps, end]");
    graft_train_config_close(&c);
}

static void a_configuration_of_trl_and_peft_means_what_it_means_there(void **state)
{
    (void)state;
    graft_train_config *c = fresh();
    read_text(c, "{\"model_name_or_path\": \"m\", \"dataset_name\": \"d\", \"output_dir\": \"o\", "
                 "\"num_train_epochs\": 2,"
                 "\"per_device_train_batch_size\": 3, \"gradient_accumulation_steps\": 5, "
                 "\"eval_steps\": 50,"
                 "\"eval_strategy\": \"epoch\", \"save_strategy\": \"steps\", \"save_steps\": 9, "
                 "\"optim\": \"adamw_torch\","
                 "\"lr_scheduler_type\": \"linear\", \"fp16\": false, \"bf16\": true, \"packing\": "
                 "true, \"max_length\": 256,"
                 "\"assistant_only_loss\": true, \"early_stopping_patience\": 4, "
                 "\"early_stopping_threshold\": 0.001,"
                 "\"report_to\": [\"tensorboard\"], \"max_steps\": -1, \"loraplus_lr_ratio\": 16}");
    read_text(
        c,
        "{\"peft_type\": \"LORA\", \"task_type\": \"CAUSAL_LM\", \"r\": 32, \"lora_alpha\": 64, "
        "\"bias\": \"none\","
        "\"lora_dropout\": 0.05, \"target_modules\": [\"q_proj\", \"o_proj\"], \"use_dora\": false,"
        "\"use_rslora\": true, \"modules_to_save\": null, \"rank_pattern\": {}, \"alpha_pattern\": "
        "{},"
        "\"inference_mode\": true, \"init_lora_weights\": true, \"layers_to_transform\": null,"
        "\"fan_in_fan_out\": false, \"lora_bias\": false, \"base_model_name_or_path\": "
        "\"org/base\"}");
    const graft_train_settings *s = settings(c);
    assert_string_equal(s->model, "m");
    assert_string_equal(s->data, "d");
    assert_string_equal(s->output, "o");
    assert_true(s->train.num_epochs == 2 && s->train.loraplus_lr_ratio == 16);
    assert_int_equal(s->train.batch_size, 3);
    assert_int_equal(s->train.gradient_accumulation_steps, 5);
    assert_int_equal(s->train.eval_steps, 0); /* by epochs */
    assert_int_equal(s->train.save_steps, 9);
    assert_int_equal(s->train.patience, 4);
    assert_true(s->train.min_improvement == 0.001 && s->train.packing);
    assert_int_equal(s->dataset.max_seq_length, 256);
    assert_int_equal(s->dataset.loss, GRAFT_LOSS_ASSISTANT);
    assert_int_equal(s->recipe.rank, 32);
    assert_true(s->recipe.alpha == 64 && s->recipe.rslora && !s->train.use_dora);
    assert_string_equal(s->recipe.base, "org/base");
    graft_train_config_close(&c);
}

static void presets_say_how_and_what(void **state)
{
    graft_preset p;
    (void)state;
    graft_train_config *c = fresh();
    MUST(graft_train_config_preset(c, "quick", error));
    const graft_train_settings *s = settings(c);
    assert_true(s->train.num_epochs == 1 && s->train.learning_rate == 5e-3 &&
                s->train.patience == 1);
    assert_string_equal(s->train.lr_scheduler, "constant");
    MUST(graft_train_config_preset(c, "stable", error));
    assert_true(s->train.num_epochs == 5 && s->train.learning_rate == 5e-4 &&
                s->train.patience == 5);
    assert_true(s->train.min_improvement == 1e-4);
    assert_string_equal(s->train.lr_scheduler, "cosine");
    for (size_t i = 0; graft_preset_at(i, &p); i++) {
        set(c, "scale", "3");
        MUST(graft_train_config_preset(c, p.name, error));
        assert_int_equal(s->recipe.rank, p.rank);
        assert_true(s->recipe.alpha == p.alpha && s->recipe.dropout == p.dropout);
        assert_int_equal(s->recipe.n_targets, p.n_targets);
        assert_int_equal(s->recipe.n_tags, p.n_tags);
        assert_string_equal(s->recipe.name, p.name);
    }
    read_text(c,
              "lora_alpha: 7\npreset: [quick, coder]\n"); /* the preset first, wherever it stands */
    assert_true(s->recipe.alpha == 7 && s->recipe.rank == 16 && s->train.num_epochs == 1);
    graft_error why = {0};
    assert_int_equal(graft_train_config_preset(c, "fast", &why), GRAFT_NOT_FOUND);
    assert_non_null(strstr(why.message, "quick, stable"));
    refused(c, "preset", "3", GRAFT_INVALID_ARGUMENT, "the name of one");
    graft_train_config_close(&c);
}

/* ---- files --------------------------------------------------------------------------------- */

static void words_of_yaml_are_what_yaml_says(void **state)
{
    (void)state;
    graft_train_config *c = fresh();
    read_text(c, "");
    read_text(c, "# nothing\n");
    read_text(c, "---\nlr: 1e-4\nepochs: .5\nr: +4\ndescription: 'it''s'\ntags:\n- a\n- "
                 "\"b\\u00e9\"\nmodel: ~\nshuffle: False\n"
                 "adapter_version: 1.0.0\nmax_steps: 1e3\n...\n");
    const graft_train_settings *s = settings(c);
    assert_true(s->train.learning_rate == 1e-4 && s->train.num_epochs == 0.5 &&
                s->recipe.rank == 4);
    assert_string_equal(s->recipe.description, "it's");
    assert_string_equal(s->recipe.tags[1], "b\xC3\xA9");
    assert_string_equal(s->recipe.version, "1.0.0");
    assert_int_equal(s->train.max_steps, 1000);
    assert_false(s->train.shuffle);
    assert_null(s->model);
    graft_train_config_close(&c);
    text_refused("packing: yes\n", GRAFT_INVALID_ARGUMENT,
                 "packing: must be true or false, not \"yes\"");
    text_refused("r: \"4\"\n", GRAFT_INVALID_ARGUMENT, "not \"4\"");
    text_refused("lr: .inf\n", GRAFT_INVALID_ARGUMENT, "not \".inf\"");
    text_refused("lr: 1e999\n", GRAFT_INVALID_ARGUMENT, "not \"1e999\"");
    text_refused("model: \"a\\0b\"\n", GRAFT_INVALID_ARGUMENT, "must be a text");
}

static void hostile_files_are_refused_with_their_line(void **state)
{
    (void)state;
    text_refused("lr: &a 1\n", GRAFT_UNSUPPORTED, "line 1: anchors");
    text_refused("lr: 1\nr: *a\n", GRAFT_UNSUPPORTED, "line 2: aliases");
    text_refused("lr: !!float 1\n", GRAFT_UNSUPPORTED, "line 1: anchors and tags");
    text_refused("a: &x [1]\n", GRAFT_UNSUPPORTED, "line 1: anchors");
    text_refused("? [a]\n: 1\n", GRAFT_UNSUPPORTED, "line 1: a key");
    text_refused("lr: 1\nlr: 2\n", GRAFT_FORMAT, "line 2: \"lr\" is there twice");
    text_refused("lr: 1\n---\nlr: 2\n", GRAFT_UNSUPPORTED, "a second document");
    text_refused("lr: [1\n", GRAFT_FORMAT, "YAML, line");
    text_refused("a:\n\t- 1\n", GRAFT_FORMAT, "YAML, line 2");
    text_refused("- 1\n", GRAFT_FORMAT, "settings are an object");
    text_refused("{\"lr\": 1,}", GRAFT_FORMAT, "JSON, line 1");
    text_refused("a: [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]\n", GRAFT_LIMIT, "16 levels");
    text_refused("lora_parameters: {rank: {x: 1}}\n", GRAFT_INVALID_ARGUMENT,
                 "lora_parameters.rank");
    struct buf many;
    buf_init(&many, NULL, SIZE_MAX);
    buf_puts(&many, "tags: [");
    for (int i = 0; i < 10001; i++)
        buf_puts(&many, "a,");
    buf_puts(&many, "]\n");
    text_refused(many.data, GRAFT_LIMIT, "10,000 values");
    buf_free(&many);
}

static void files_are_read_by_their_names(void **state)
{
    struct scratch scratch;
    graft_error why = {0};
    (void)state;
    graft_train_config *c = fresh();
    scratch_open(&scratch);
    const char *path = scratch_path(&scratch, "a.yml");
    MUST(file_write_atomic(NULL, path, "lr: 0.5\n", 8, error));
    MUST(graft_train_config_load(c, path, error));
    assert_true(settings(c)->train.learning_rate == 0.5);
    path = scratch_path(&scratch, "a.json");
    MUST(file_write_atomic(NULL, path, "lr: 0.25\n", 9, error));
    assert_int_equal(graft_train_config_load(c, path, &why), GRAFT_FORMAT);
    assert_string_equal(why.file, path);
    path = scratch_path(&scratch, "a.txt");
    MUST(file_write_atomic(NULL, path, " {\"lr\": 0.125}", 14, error));
    MUST(graft_train_config_load(c, path, error));
    assert_true(settings(c)->train.learning_rate == 0.125);
    assert_int_equal(graft_train_config_load(c, "/nowhere", &why), GRAFT_NOT_FOUND);
    char *large = mem_calloc(NULL, 2 << 20, 1);
    memset(large, ' ', 2 << 20);
    path = scratch_path(&scratch, "large.yaml");
    MUST(file_write_atomic(NULL, path, large, 2 << 20, error));
    assert_int_equal(graft_train_config_load(c, path, &why), GRAFT_LIMIT);
    mem_free(NULL, large);
    scratch_close(&scratch);
    graft_train_config_close(&c);
}

static void a_file_is_read_whole_or_not_at_all(void **state)
{
    (void)state;
    graft_train_config *c = fresh(), *untouched = fresh();
    const char *text = "lr: 0.5\nscale: 3\niters: 9\nlogging_steps: 4\nmodel: x\nr: none\n";
    assert_int_equal(config_parse(c, text, strlen(text), CONFIG_YAML, NULL),
                     GRAFT_INVALID_ARGUMENT);
    assert_string_equal(json_of(c), json_of(untouched));
    assert_null(graft_train_config_note(c, 0));
    graft_train_config_close(&c);
    graft_train_config_close(&untouched);
}

static void structs_are_taken_back(void **state)
{
    static const char *const targets[] = {"o_proj"};
    graft_error why = {0};
    (void)state;
    graft_train_config *c = fresh(), *again = fresh();
    set(c, "scale", "2");
    set(c, "iters", "8");
    set(c, "grad_accumulation_steps", "2");
    graft_train_settings s = *settings(c);
    char model[] = "changed\xFF";
    s.model = model;
    s.recipe.targets = targets;
    s.recipe.n_targets = 1;
    s.train.learning_rate = 0.125;
    s.train.seed = UINT64_C(9007199254740993);
    MUST(graft_train_config_take(c, &s, error));
    model[0] = 'x';
    assert_string_equal(settings(c)->model, "changed\xFF");
    assert_int_equal(settings(c)->train.max_steps, 4);
    assert_true(settings(c)->recipe.alpha == 16 && settings(c)->train.learning_rate == 0.125);
    assert_int_equal(settings(c)->dataset.seed, UINT64_C(9007199254740993));
    assert_string_equal(settings(c)->recipe.targets[0], "o_proj");
    read_text(again, json_of(c));
    assert_int_equal(settings(again)->train.max_steps, 4);
    assert_int_equal(settings(again)->train.seed, UINT64_C(9007199254740993));
    s = *settings(c);
    s.recipe.rank = 4; /* the scale stays, and batches are counted anew */
    s.train.gradient_accumulation_steps = 4;
    MUST(graft_train_config_take(c, &s, error));
    assert_true(settings(c)->recipe.alpha == 8 && settings(c)->train.max_steps == 2);
    s = *settings(c);
    s.recipe.alpha = 3;
    s.train.max_steps = 9;
    MUST(graft_train_config_take(c, &s, error));
    set(c, "r", "8");
    set(c, "grad_accumulation_steps", "1");
    assert_true(settings(c)->recipe.alpha == 3 && settings(c)->train.max_steps == 9);
    s = *settings(c);
    s.recipe.rank = 0;
    s.train.learning_rate = 9;
    assert_int_equal(graft_train_config_take(c, &s, &why), GRAFT_INVALID_ARGUMENT);
    assert_true(settings(c)->train.learning_rate == 0.125);
    graft_train_config_close(&c);
    graft_train_config_close(&again);
}

/* ---- without memory ------------------------------------------------------------------------ */

static const char some[] = "preset: coder\nlr: 1e-3\nscale: 3\ntags: [a, b]\nmodel: "
                           "m\nlogging_steps: 3\ntarget_modules: q_proj\n";

static graft_status all_of_it(struct mem *mem, graft_error *error)
{
    graft_train_settings defaults = {.train = graft_train_options_default(),
                                     .recipe = graft_adapter_recipe_default(),
                                     .dataset = graft_dataset_options_default()};
    graft_train_config *c = NULL;
    const char *json;
    graft_status status = config_open(mem, &defaults, &c, error);
    if (status == GRAFT_OK)
        status = config_parse(c, some, strlen(some), CONFIG_YAML, error);
    if (status == GRAFT_OK)
        status = config_set(c, "r", "9", error);
    if (status == GRAFT_OK)
        status = config_take(c, config_settings(c), error);
    if (status == GRAFT_OK)
        status = config_json(c, &json, error);
    if (c)
        config_close(&c);
    return status;
}

static void without_memory_nothing_is_lost(void **state)
{
    struct mem mem;
    struct failing_allocator failing;
    graft_status status = GRAFT_NO_MEMORY;
    graft_error error = {0};
    (void)state;
    for (size_t n = 1; status != GRAFT_OK; n++) {
        failing_init(&failing, &mem, n);
        status = all_of_it(&mem, &error);
        assert_true(status == GRAFT_OK ? !failing.failed : status == GRAFT_NO_MEMORY);
        assert_int_equal(mem.bytes_in_use, 0);
    }
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        failing_json_begin(n);
        status = all_of_it(NULL, &error);
        failed = failing_json_end();
        assert_int_equal(status, failed ? GRAFT_NO_MEMORY : GRAFT_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_structs),
        cmocka_unit_test(every_alias_does_what_its_name_does),
        cmocka_unit_test(every_setting_refuses_other_types_and_ranges),
        cmocka_unit_test(what_is_written_back_is_read_to_the_same),
        cmocka_unit_test(an_unknown_name_is_told_the_nearest),
        cmocka_unit_test(fp16_is_refused_with_what_to_use),
        cmocka_unit_test(a_scale_is_alpha_over_whatever_rank_there_is),
        cmocka_unit_test(counts_of_batches_become_steps),
        cmocka_unit_test(warmup_is_counted_as_hugging_face_does),
        cmocka_unit_test(targets_are_the_last_parts_of_names),
        cmocka_unit_test(what_graft_does_not_do_is_refused_by_name),
        cmocka_unit_test(a_configuration_of_mlx_lm_means_what_it_means_there),
        cmocka_unit_test(a_configuration_of_trl_and_peft_means_what_it_means_there),
        cmocka_unit_test(presets_say_how_and_what),
        cmocka_unit_test(words_of_yaml_are_what_yaml_says),
        cmocka_unit_test(hostile_files_are_refused_with_their_line),
        cmocka_unit_test(files_are_read_by_their_names),
        cmocka_unit_test(a_file_is_read_whole_or_not_at_all),
        cmocka_unit_test(structs_are_taken_back),
        cmocka_unit_test(without_memory_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
