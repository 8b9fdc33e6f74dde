/* table.c: every setting of training: its names, its type and range, where it lies, and what it means.
 *
 * docs/train-settings.md is printed from this table.
 */
#include "train/config/config_internal.h"

#define TRAIN(member) offsetof(graft_train_settings, train.member), 0
#define RECIPE(member) offsetof(graft_train_settings, recipe.member), 0
#define DATASET(member) offsetof(graft_train_settings, dataset.member), 0
#define OWN(member) offsetof(graft_train_settings, member), 0
#define LIST(member, n)                                                                            \
    offsetof(graft_train_settings, recipe.member), offsetof(graft_train_settings, recipe.n)

#define MANY 2147483647.0

static const struct setting SETTINGS[] = {
    {"model", "model_name_or_path", SETTING_TEXT, OWN(model), 0, 0, NULL,
     "the model: a path or a name, as with -m"},
    {"data", "dataset_path dataset_name", SETTING_TEXT, OWN(data), 0, 0, NULL,
     "the examples: a file or a folder, as with -d"},
    {"output", "output_dir adapter_path", SETTING_TEXT, OWN(output), 0, 0, NULL,
     "where the adapter is written, as with -o"},
    {"format", "", SETTING_CHOICE, OWN(format), 0, 0, "peft mlx gguf", "in which format"},
    {"run", "", SETTING_TEXT, TRAIN(run), 0, 0, NULL,
     "the folder of history and checkpoint; OUTPUT.run"},
    {"adapter", "", SETTING_TEXT, TRAIN(adapter), 0, 0, NULL,
     "go on with this adapter, as it is: a path; at the command line also a registered name"},
    {"fine_tune_type", "train_type", SETTING_WORD, TRAIN(fine_tune_type), 0, 0, "lora full",
     "an adapter (mlx-lm's dora: with use_dora), or every parameter of the model"},

    {"r", "lora_r rank lora_parameters.rank", SETTING_INT, RECIPE(rank), 1, 65536, NULL, "rank"},
    {"lora_alpha", "alpha", SETTING_NUMBER, RECIPE(alpha), 1e-6, 1e6, NULL,
     "the scale is lora_alpha / r, with use_rslora lora_alpha / √r"},
    {"lora_dropout", "dropout lora_parameters.dropout", SETTING_NUMBER, RECIPE(dropout), 0,
     0.999999, NULL, "of the inputs of A"},
    {"target_modules", "targets lora_target_modules", SETTING_LIST, LIST(targets, n_targets), 0, 0,
     NULL, "linear layers by the last part of their names, or all-linear; embed_tokens"},
    {"use_rslora", "rslora", SETTING_BOOL, RECIPE(rslora), 0, 0, NULL, "see lora_alpha"},
    {"use_dora", "dora", SETTING_BOOL, TRAIN(use_dora), 0, 0, NULL, "magnitudes too"},
    {"lora_bias", "", SETTING_BOOL, TRAIN(lora_bias), 0, 0, NULL, "a bias beside each B"},
    {"init_lora_weights", "init", SETTING_WORD, TRAIN(init), 0, 0, "default gaussian pissa olora",
     "how factors begin; true is default"},
    {"init_seed", "", SETTING_SEED, RECIPE(seed), 0, 9223372036854775807.0, NULL,
     "of fresh factors"},
    {"modules_to_save", "", SETTING_LIST, LIST(modules_to_save, n_modules_to_save), 0, 0, NULL,
     "held whole beside factors: norms (all of them, or by name), embed_tokens, lm_head, score"},
    {"num_layers", "lora_layers", SETTING_INT, RECIPE(num_layers), -1, MANY, NULL,
     "the last so many blocks; 0 and -1: all"},
    {"adapter_dtype", "", SETTING_WORD, RECIPE(type), 0, 0, "f32 f16 bf16",
     "of the factors in the file"},
    {"model_dtype", "", SETTING_WORD, OWN(model_dtype), 0, 0, "f32 f16 bf16",
     "of the weights that fine_tune_type full writes; the model's own, bf16 where it is quantised"},
    {"adapter_name", "", SETTING_TEXT, RECIPE(name), 0, 0, NULL, "on its card"},
    {"adapter_version", "", SETTING_TEXT, RECIPE(version), 0, 0, NULL,
     "on its card: MAJOR.MINOR.PATCH"},
    {"description", "", SETTING_TEXT, RECIPE(description), 0, 0, NULL, "on its card"},
    {"tags", "", SETTING_LIST, LIST(tags, n_tags), 0, 0, NULL, "on its card"},
    {"base_model_name_or_path", "", SETTING_TEXT, RECIPE(base), 0, 0, NULL,
     "what other programs load as its base; the model's path"},

    {"num_train_epochs", "num_epochs epochs", SETTING_NUMBER, TRAIN(num_epochs), 1e-6, 1e6, NULL,
     "epochs"},
    {"max_steps", "", SETTING_LONG, TRAIN(max_steps), -1, MANY, NULL,
     "steps, in place of epochs; 0 and -1: by epochs"},
    {"per_device_train_batch_size", "batch_size", SETTING_INT, TRAIN(batch_size), 1, 65536, NULL,
     "sequences in a batch"},
    {"gradient_accumulation_steps", "grad_accumulation_steps", SETTING_INT,
     TRAIN(gradient_accumulation_steps), 1, 65536, NULL, "batches in a step"},
    {"packing", "", SETTING_BOOL, TRAIN(packing), 0, 0, NULL,
     "short examples share a sequence, unseen by each other"},
    {"shuffle", "", SETTING_BOOL, TRAIN(shuffle), 0, 0, NULL, "another order in each epoch"},
    {"seed", "", SETTING_SEED, TRAIN(seed), 0, 9223372036854775807.0, NULL,
     "of split, order and dropout"},
    {"learning_rate", "lr", SETTING_NUMBER, TRAIN(learning_rate), 0, 1000, NULL, "the highest"},
    {"lr_scheduler_type", "lr_scheduler", SETTING_WORD, TRAIN(lr_scheduler), 0, 0,
     "constant linear cosine exponential step one_cycle warmup_stable_decay",
     "how the rate goes on behind the warmup; wsd is the last"},
    {"lr_decay_ratio", "", SETTING_NUMBER, TRAIN(lr_decay_ratio), 0, 1, NULL,
     "share of the steps, the last, in which the rate of warmup_stable_decay falls to 0"},
    {"warmup_ratio", "", SETTING_NUMBER, TRAIN(warmup_ratio), 0, 1, NULL,
     "share of the steps in which the rate rises"},
    {"warmup_steps", "", SETTING_LONG, TRAIN(warmup_steps), -1, MANY, NULL,
     "that many; -1, and 0 beside a warmup_ratio: by the ratio"},
    {"optim", "optimizer", SETTING_WORD, TRAIN(optim), 0, 0, "adamw muon",
     "muon: of fine_tune_type full, for the matrices of the blocks (adamw_torch … are adamw; "
     "mlx-lm's adam is adamw "
     "without decay)"},
    {"muon_lr", "", SETTING_NUMBER, TRAIN(muon_lr), 0, 1000, NULL,
     "the highest rate of Muon; of all else learning_rate"},
    {"muon_momentum", "", SETTING_NUMBER, TRAIN(muon_momentum), 0, 0.9999999, NULL, "of Muon"},
    {"adam_beta1", "", SETTING_NUMBER, TRAIN(adam_beta1), 0, 0.9999999, NULL, "of AdamW"},
    {"adam_beta2", "", SETTING_NUMBER, TRAIN(adam_beta2), 0, 0.9999999, NULL, "of AdamW"},
    {"adam_epsilon", "", SETTING_NUMBER, TRAIN(adam_epsilon), 1e-30, 1, NULL, "of AdamW"},
    {"weight_decay", "", SETTING_NUMBER, TRAIN(weight_decay), 0, 1000, NULL, "of matrices"},
    {"loraplus_lr_ratio", "", SETTING_NUMBER, TRAIN(loraplus_lr_ratio), 1e-6, 1e6, NULL,
     "the rate of B in rates of A"},
    {"ewc", "", SETTING_BOOL, TRAIN(ewc), 0, 0, NULL,
     "hold what earlier tasks of the adapter need, and keep what this one does"},
    {"ewc_lambda", "", SETTING_NUMBER, TRAIN(ewc_lambda), 0, 1e30, NULL, "how firmly"},
    {"ewc_decay", "", SETTING_NUMBER, TRAIN(ewc_decay), 0, 1, NULL,
     "of what earlier tasks need, by task"},
    {"max_grad_norm", "", SETTING_NUMBER, TRAIN(max_grad_norm), 0, 1e30, NULL,
     "to which gradients are scaled down; 0: never"},
    {"gradient_checkpointing", "grad_checkpoint", SETTING_BOOL, TRAIN(gradient_checkpointing), 0, 0,
     NULL, "less memory, a quarter more time"},
    {"bf16", "", SETTING_BOOL, TRAIN(bf16), 0, 0, NULL,
     "activations are kept and multiplied as bf16; false: as floats"},

    {"eval_steps", "", SETTING_LONG, TRAIN(eval_steps), 0, MANY, NULL,
     "steps between validations; 0: an epoch"},
    {"eval_on_start", "", SETTING_BOOL, TRAIN(eval_on_start), 0, 0, NULL,
     "validation before the first step"},
    {"save_steps", "", SETTING_LONG, TRAIN(save_steps), 0, MANY, NULL,
     "steps between checkpoints; 0: at each validation"},
    {"early_stopping_patience", "patience", SETTING_INT, TRAIN(patience), 0, 1e6, NULL,
     "validations without improvement that end the run; 0: none do"},
    {"early_stopping_threshold", "min_improvement", SETTING_NUMBER, TRAIN(min_improvement), 0, 1e30,
     NULL, "how much lower counts as improvement"},
    {"max_bad_steps", "", SETTING_INT, TRAIN(max_bad_steps), 1, 1e6, NULL,
     "steps in a row without a finite loss that end the run"},

    {"loss", "", SETTING_CHOICE, DATASET(loss), 0, 0, "auto assistant completion all",
     "what is learned of an example"},
    {"max_seq_length", "max_length", SETTING_INT, DATASET(max_seq_length), 0, 1 << 24, NULL,
     "tokens of an example; 0: 2048, or the model's positions"},
    {"min_quality", "", SETTING_NUMBER, DATASET(min_quality), 0, 1, NULL,
     "examples of less quality are left out"},
    {"valid", "", SETTING_TEXT, DATASET(valid), 0, 0, NULL, "a file for validation"},
    {"valid_share", "", SETTING_NUMBER, DATASET(valid_share), 0, 0.99, NULL,
     "split off for validation where there is no file"},
    {"raw", "", SETTING_BOOL, DATASET(raw), 0, 0, NULL,
     "prompts and completions as plain text, not as a chat"},
    {"prompt_key", "prompt_feature", SETTING_TEXT, DATASET(prompt_key), 0, 0, NULL,
     "the member that is the prompt"},
    {"completion_key", "completion_feature", SETTING_TEXT, DATASET(completion_key), 0, 0, NULL,
     "the member that is the completion"},
    {"text_key", "dataset_text_field text_feature", SETTING_TEXT, DATASET(text_key), 0, 0, NULL,
     "the member that is a text"},
    {"chat_template", "chat_template_path", SETTING_TEXT, DATASET(chat_template), 0, 0, NULL,
     "another template than the model's: a file, chatml or plain"},
};

/* ---- names --------------------------------------------------------------------------------- */

bool words_have(const char *list, const char *word, int *place)
{
    size_t n = strlen(word);
    int i = 0;
    for (const char *at = list; *at; i++) {
        size_t length = strcspn(at, " ");
        if (length == n && !memcmp(at, word, n)) {
            if (place)
                *place = i;
            return true;
        }
        at += length;
        at += strspn(at, " ");
    }
    return false;
}

const struct setting *setting_at(size_t i)
{
    return i < ARRAY_LEN(SETTINGS) ? &SETTINGS[i] : NULL;
}

const struct setting *setting_find(const char *key)
{
    for (size_t i = 0; i < ARRAY_LEN(SETTINGS); i++)
        if (!strcmp(key, SETTINGS[i].name) || words_have(SETTINGS[i].aliases, key, NULL))
            return &SETTINGS[i];
    return NULL;
}

const struct special *special_find(const char *key)
{
    for (size_t i = 0; i < n_specials; i++)
        if (words_have(specials[i].names, key, NULL))
            return &specials[i];
    return NULL;
}

/* ---- the nearest name ---------------------------------------------------------------------- */

enum { NAME = 64 };

/* Letters to add, drop or change on the way from one to the other (Levenshtein 1966). */
static int distance(const char *a, size_t n, const char *b, size_t m)
{
    int row[NAME + 1];
    for (size_t j = 0; j <= m; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int corner = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int above = row[j], other = corner + (a[i - 1] != b[j - 1]);
            int least = above < row[j - 1] ? above + 1 : row[j - 1] + 1;
            row[j] = least < other ? least : other;
            corner = above;
        }
    }
    return row[m];
}

struct nearest {
    const char *key;
    size_t size;
    char name[NAME + 1];
    int distance;
};

static void consider(struct nearest *n, const char *words)
{
    for (const char *at = words; *at;) {
        size_t length = strcspn(at, " ");
        int d = length <= NAME ? distance(n->key, n->size, at, length) : INT_MAX;
        if (d < n->distance) {
            n->distance = d;
            snprintf(n->name, sizeof n->name, "%.*s", (int)length, at);
        }
        at += length;
        at += strspn(at, " ");
    }
}

graft_status config_unknown(const char *key, graft_error *error)
{
    size_t size = strlen(key);
    struct nearest nearest = {.key = key, .size = size < NAME ? size : NAME, .distance = INT_MAX};
    for (size_t i = 0; i < ARRAY_LEN(SETTINGS); i++) {
        consider(&nearest, SETTINGS[i].name);
        consider(&nearest, SETTINGS[i].aliases);
    }
    for (size_t i = 0; i < n_specials; i++)
        consider(&nearest, specials[i].names);
    return error_set(error, GRAFT_NOT_FOUND, "no setting is called \"%.80s\"; the nearest is %s",
                     key, nearest.name);
}

/* ---- for those outside --------------------------------------------------------------------- */

bool config_setting_at(size_t i, graft_train_setting *out)
{
    static const char *const TYPES[] = {
        [SETTING_BOOL] = "true or false", [SETTING_INT] = "integer",   [SETTING_LONG] = "integer",
        [SETTING_SEED] = "integer",       [SETTING_NUMBER] = "number", [SETTING_TEXT] = "text",
        [SETTING_WORD] = "text",          [SETTING_CHOICE] = "text",   [SETTING_LIST] = "list"};
    const struct setting *s = setting_at(i);
    if (s) {
        *out = (graft_train_setting){.name = s->name,
                                     .aliases = s->aliases,
                                     .type = TYPES[s->kind],
                                     .choices = s->choices,
                                     .low = s->low,
                                     .high = s->high,
                                     .meaning = s->meaning};
        return true;
    }
    i -= ARRAY_LEN(SETTINGS);
    if (i >= n_specials || !specials[i].type) /* those at the end are in the table */
        return false;
    *out = (graft_train_setting){.name = specials[i].names,
                                 .aliases = "",
                                 .type = specials[i].type,
                                 .meaning = specials[i].meaning};
    return true;
}
