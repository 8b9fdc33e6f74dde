/* fits.c: which programs an adapter suits.
 *
 * Known from their readers: vLLM (lora/peft_helper.py, lora/lora_model.py: one scale for all modules from r and
 * lora_alpha; patterns are dropped without a word), llama.cpp (src/llama-adapter.cpp: pairs of factors on tensors that
 * exist, whole norms skipped without a word), mlx-lm (tuner/utils.py: rank, scale, dropout and num_layers are asked
 * for; tensors that are not expected are dropped without a word).
 */
#include "adapter/report/report_internal.h"

enum { VLLM_RANK = 16, VLLM_MOST_RANK = 512 };
static const char FUSE[] = "fuse it into the model (graft fuse) and use that";

enum consumer consumer_find(const char *name)
{
    static const struct {
        const char *name;
        enum consumer consumer;
    } NAMES[] = {{"vllm", CONSUMER_VLLM},
                 {"llama.cpp", CONSUMER_LLAMA_CPP},
                 {"mlx", CONSUMER_MLX},
                 {"mlx-lm", CONSUMER_MLX}};
    for (size_t i = 0; i < ARRAY_LEN(NAMES); i++)
        if (!strcmp(NAMES[i].name, name))
            return NAMES[i].consumer;
    return CONSUMER_NONE;
}

static void add(json_t **list, const char *what, const char *remedy)
{
    json_append(list, json_pack("{s:s, s:s}", "what", what, "do", remedy));
}

static void add_module(json_t **list, const char *module, const char *what)
{
    char text[320];
    snprintf(text, sizeof text, "%s: %s", module, what);
    if (module[0])
        add(list, text, FUSE);
}

static const char *or_none(const char *module)
{
    return module ? module : "";
}

/* What none of them holds. */
static void add_common(json_t **list, const struct facts *f)
{
    add_module(list, or_none(f->dora), "DoRA, which it does not apply");
    add_module(list, or_none(f->biased), "a bias of B (lora_bias), which it does not apply");
    add_module(list, or_none(f->whole), "a module that is saved whole, which it does not apply");
}

static bool is_tied(const struct facts *f)
{
    return f->head && f->model && f->model->config.tied;
}

static bool is_classifier(const struct facts *f)
{
    return f->model && f->model->config.n_labels > 0;
}

/* Whether `graft adapter convert` would take it there: what it refuses is not advised. */
static bool converts(const struct facts *f, enum adapter_format to)
{
    if (f->whole || f->embedding || (is_classifier(f) && to != ADAPTER_PEFT))
        return false;
    if (to == ADAPTER_GGUF)
        return !f->dora && !f->biased;
    return to == ADAPTER_PEFT || (!f->biased && !is_tied(f));
}

static const char *instead(const struct facts *f, enum adapter_format to, const char *conversion)
{
    if (converts(f, to))
        return conversion;
    return is_classifier(f) ? "use graft or PEFT" : FUSE;
}

static void add_format(json_t **list, const struct facts *f, enum adapter_format wanted,
                       const char *to)
{
    char what[96], remedy[96];
    if (f->spec->quantised)
        add(list, "factors of 8 or 4 bits, which graft alone reads",
            instead(f, ADAPTER_PEFT, "graft adapter convert ADAPTER -o OUT"));
    if (f->spec->format == wanted)
        return;
    snprintf(what, sizeof what, "it is in the format of %s, and %s is read",
             adapter_format_name(f->spec->format), adapter_format_name(wanted));
    snprintf(remedy, sizeof remedy, "graft adapter convert ADAPTER --format %s -o OUT", to);
    add(list, what, instead(f, wanted, remedy));
}

/* ---- vLLM --------------------------------------------------------------------------------- */

static void add_vllm_rank(json_t **list, int64_t rank)
{
    char what[96], remedy[96];
    int64_t flag = VLLM_RANK;
    while (flag < rank && flag < VLLM_MOST_RANK)
        flag *= 2;
    if (rank <= VLLM_RANK)
        return;
    snprintf(what, sizeof what, "rank %lld, and max_lora_rank is %d by default", (long long)rank,
             VLLM_RANK);
    snprintf(remedy, sizeof remedy, "start vLLM with --max-lora-rank %lld", (long long)flag);
    add(list, what, rank <= VLLM_MOST_RANK ? remedy : FUSE);
}

static void check_vllm(json_t **list, const struct facts *f)
{
    add_format(list, f, ADAPTER_PEFT, "peft");
    add_common(list, f);
    add_module(list, or_none(f->embedding),
               "factors of the embedding, which it takes for few models");
    add_vllm_rank(list, f->most_rank);
    if (f->least_rank != f->most_rank || f->least_scale != f->most_scale)
        add(list, "ranks or scales by module, and it applies one scale to all",
            instead(f, ADAPTER_MLX,
                    "convert it to mlx and back to peft: ranks are filled up, scales go into B"));
}

/* ---- llama.cpp ---------------------------------------------------------------------------- */

static void check_llama_cpp(json_t **list, const struct facts *f)
{
    if (is_classifier(f))
        add(list, "the base is a classifier, which has no form in GGUF", "use graft or PEFT");
    add_format(list, f, ADAPTER_GGUF, "gguf");
    add_common(list, f);
    if (f->spec->format != ADAPTER_GGUF)
        add_module(list, or_none(f->embedding),
                   "factors of the embedding, which no conversion carries");
    if (is_tied(f))
        add_module(list, f->head, "the base ties it to the embedding, and the tensor is not there");
}

/* ---- mlx-lm ------------------------------------------------------------------------------- */

static void check_mlx_config(json_t **list, const struct facts *f)
{
    static const char *const KEYS[] = {"rank", "scale", "dropout"};
    const json_t *parameters = json_object_get(f->source->config, "lora_parameters");
    bool missing = !json_object_get(f->source->config, "num_layers");
    for (size_t i = 0; i < ARRAY_LEN(KEYS); i++)
        missing = missing || !json_object_get(parameters, KEYS[i]);
    if (f->spec->format == ADAPTER_MLX && missing)
        add(list, "the configuration lacks num_layers, rank, scale or dropout, which it asks for",
            "graft adapter convert ADAPTER --format mlx -o OUT");
}

static void check_mlx(json_t **list, const struct facts *f)
{
    if (is_classifier(f))
        add(list, "the base is a classifier, and mlx-lm has none", "use graft or PEFT");
    add_format(list, f, ADAPTER_MLX, "mlx");
    check_mlx_config(list, f);
    add_module(list, or_none(f->biased), "a bias of B (lora_bias), which it does not apply");
    add_module(list, or_none(f->whole), "a module that is saved whole, which it does not apply");
    if (f->spec->format != ADAPTER_MLX)
        add_module(list, or_none(f->embedding),
                   "factors of the embedding, which no conversion carries");
    if (is_tied(f))
        add_module(list, f->head, "the base ties it to the embedding, and there is no such module");
}

json_t *facts_problems(const struct facts *facts, enum consumer consumer)
{
    json_t *list = json_array();
    if (consumer == CONSUMER_VLLM)
        check_vllm(&list, facts);
    else if (consumer == CONSUMER_LLAMA_CPP)
        check_llama_cpp(&list, facts);
    else if (consumer == CONSUMER_MLX)
        check_mlx(&list, facts);
    return list;
}
