/* formats.c: from the JSON of a record to a conversation, a pair or a text: which format it has, and its members.
 *
 * A format is known by its members, record by record, so that files may be mixed. Members that every format may have
 * (quality, weight, task, domain) are read here too. Pure: bytes in, struct record out.
 */
#include "train/data/data_internal.h"

#include <math.h>

graft_status why_drop(struct why *why, const char *fix, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char message[400];
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    snprintf(why->fix, sizeof why->fix, "%s", fix);
    return error_set(&why->error, GRAFT_FORMAT, "%s", message);
}

graft_status why_no_memory(struct why *why)
{
    return error_set(&why->error, GRAFT_NO_MEMORY, "no memory for training data");
}

const char *data_format_name(enum data_format format)
{
    static const char *const names[] = {
#define DATA_FORMAT_NAME(name, text) text,
        DATA_FORMAT_LIST(DATA_FORMAT_NAME)
#undef DATA_FORMAT_NAME
    };
    return names[format];
}

const char *data_loss_name(enum data_loss loss)
{
    static const char *const names[] = {"auto", "assistant", "completion", "all"};
    return names[loss];
}

static struct text text_of(const json_t *string)
{
    return (struct text){json_string_value(string), json_string_length(string)};
}

/* A member that may be absent or null; false: it is something else than text. */
static bool optional_text(const json_t *object, const char *key, struct text *out)
{
    const json_t *value = json_object_get(object, key);
    *out = (struct text){"", 0};
    if (value == NULL || json_is_null(value)) {
        return true;
    }
    if (json_is_string(value)) {
        *out = text_of(value);
    }
    return json_is_string(value);
}

static graft_status need_text(const json_t *object, const char *key, struct text *out,
                              struct why *why)
{
    return optional_text(object, key, out)
               ? GRAFT_OK
               : why_drop(why, "write it as a string", "\"%.60s\" is not text", key);
}

/* ---- members of every format --------------------------------------------------------------- */

static graft_status read_number(const json_t *root, const char *key, double max, double *out,
                                struct why *why)
{
    const json_t *value = json_object_get(root, key);
    if (value == NULL || json_is_null(value)) {
        return GRAFT_OK;
    }
    double number = json_is_number(value) ? json_number_value(value) : NAN;
    if (!(number >= 0 && number <= max)) {
        char fix[64];
        snprintf(fix, sizeof fix, "give a number from 0 to %g", max);
        return why_drop(why, fix, "its \"%s\" is no number from 0 to %g", key, max);
    }
    *out = number;
    return GRAFT_OK;
}

static graft_status read_reward(struct record *r, struct why *why)
{
    const json_t *reward = json_object_get(r->root, "reward");
    r->rewarded = reward != NULL && !json_is_null(reward);
    r->reward = json_is_number(reward) ? json_number_value(reward) : NAN;
    if (r->rewarded && !isfinite((float)r->reward)) {
        return why_drop(why, "give a number; above what is usual: more of this, below: less",
                        "its \"reward\" is no number");
    }
    return need_text(r->root, "session", &r->session, why);
}

/* What feedback says of its answer, and what must not be said of one to measure by. */
static graft_status read_verdict(struct record *r, enum data_verdicts wanted, struct why *why)
{
    const json_t *quality = json_object_get(r->root, "quality");
    bool rated = quality != NULL && !json_is_null(quality);
    graft_status status = read_reward(r, why);
    if (status != GRAFT_OK) {
        return status;
    }
    if (r->session.size > 200) {
        return why_drop(why, "give it a short name", "its session is longer than 200 bytes");
    }
    if (wanted == DATA_VERDICTS_ANSWERS && r->rewarded) {
        return why_drop(why, "leave the reward out if it is a right answer, else the record",
                        "it has a \"reward\", and a held-out example is a right answer");
    }
    if (wanted == DATA_VERDICTS_FEEDBACK && rated == r->rewarded) {
        return why_drop(why, "say how good the answer is: \"quality\" from 0 to 1, or a \"reward\"",
                        rated ? "it has both \"quality\" and \"reward\""
                              : "it has neither \"quality\" nor \"reward\"");
    }
    return GRAFT_OK;
}

static graft_status read_common(struct record *r, struct why *why)
{
    r->quality = r->weight = 1;
    graft_status status = read_number(r->root, "quality", 1, &r->quality, why);
    if (status == GRAFT_OK) {
        status = read_number(r->root, "weight", 1e6, &r->weight, why);
    }
    if (status == GRAFT_OK) {
        status = need_text(r->root, "task", &r->task, why);
    }
    if (status == GRAFT_OK) {
        status = need_text(r->root, "domain", &r->domain, why);
    }
    if (status == GRAFT_OK && (r->task.size > 200 || r->domain.size > 200)) {
        status =
            why_drop(why, "give it a short name", "its task or domain is longer than 200 bytes");
    }
    return status;
}

/* ---- conversations ------------------------------------------------------------------------- */

static graft_status begin_chat(struct record *r, enum data_format format, struct why *why)
{
    r->format = format;
    r->chat = true;
    r->messages = json_array();
    return r->messages != NULL ? tools_read(json_object_get(r->root, "tools"), &r->tools, why)
                               : why_no_memory(why);
}

static graft_status add_messages(struct record *r, const json_t *list, struct why *why)
{
    graft_status status = GRAFT_OK;
    for (size_t i = 0; i < json_array_size(list) && status == GRAFT_OK; i++) {
        status = message_add(r->messages, json_array_get(list, i), i + 1, why);
    }
    return status;
}

/* The system prompt that stands beside the messages: text or blocks. */
static graft_status add_system(struct record *r, const json_t *system, struct why *why)
{
    struct buf text;
    if (system == NULL || json_is_null(system)) {
        return GRAFT_OK;
    }
    buf_init(&text, NULL, RECORD_BYTES);
    graft_status status = content_text(system, &text, 0, why);
    if (status == GRAFT_OK && text.status != GRAFT_OK) {
        status = why_no_memory(why);
    }
    if (status == GRAFT_OK) {
        struct text content = {text.size > 0 ? text.data : "", text.size};
        status = message_add_text(r->messages, "system", content, true, why);
    }
    buf_free(&text);
    return status;
}

static bool has_anthropic_block(const json_t *messages)
{
    const json_t *message, *block;
    size_t i, j;
    json_array_foreach(messages, i, message)
    {
        json_array_foreach(json_object_get(message, "content"), j, block)
        {
            const char *type = json_string_value(json_object_get(block, "type"));
            if (type != NULL && (strncmp(type, "tool_", 5) == 0 || strcmp(type, "thinking") == 0)) {
                return true;
            }
        }
    }
    return false;
}

static graft_status read_messages(struct record *r, const json_t *list, enum data_format format,
                                  struct why *why)
{
    const json_t *system = json_object_get(r->root, "system");
    if (format == DATA_FORMAT_MESSAGES && (system != NULL || has_anthropic_block(list))) {
        format = DATA_FORMAT_ANTHROPIC;
    }
    graft_status status = begin_chat(r, format, why);
    if (status == GRAFT_OK) {
        status = add_system(r, system, why);
    }
    return status == GRAFT_OK ? add_messages(r, list, why) : status;
}

/* ---- pairs --------------------------------------------------------------------------------- */

static graft_status read_text_pair(struct record *r, const struct record_rules *rules,
                                   const json_t *completion, struct why *why)
{
    struct text system;
    r->completion = text_of(completion);
    if (r->completion.size == 0) {
        return why_drop(why, "remove the record", "its completion is empty");
    }
    if (!rules->as_chat) {
        return GRAFT_OK;
    }
    graft_status status = begin_chat(r, DATA_FORMAT_PAIR, why);
    if (status == GRAFT_OK) {
        status = need_text(r->root, "system", &system, why);
    }
    if (status == GRAFT_OK) {
        status = message_add_text(r->messages, "system", system, true, why);
    }
    if (status == GRAFT_OK) {
        status = message_add_text(r->messages, "user", r->prompt, false, why);
    }
    return status == GRAFT_OK
               ? message_add_text(r->messages, "assistant", r->completion, false, why)
               : status;
}

static graft_status read_pair(struct record *r, const struct record_rules *rules,
                              const json_t *prompt, const json_t *completion, struct why *why)
{
    r->format = DATA_FORMAT_PAIR;
    if (json_is_string(prompt) && json_is_string(completion)) {
        r->prompt = text_of(prompt);
        return read_text_pair(r, rules, completion, why);
    }
    if (!json_is_array(prompt) || !json_is_array(completion)) {
        return why_drop(why, "write both as strings, or both as lists of messages",
                        "its prompt and completion are not both text");
    }
    graft_status status = begin_chat(r, DATA_FORMAT_PAIR, why);
    if (status == GRAFT_OK) {
        status = add_messages(r, prompt, why);
    }
    r->given = json_array_size(r->messages);
    return status == GRAFT_OK ? add_messages(r, completion, why) : status;
}

/* ---- instructions (Alpaca) ----------------------------------------------------------------- */

struct instruction {
    struct text system, instruction, input, output;
    const json_t *history; /* [[question, answer], …] or NULL */
};

static struct text turn_text(const struct instruction *in, size_t turn, size_t side)
{
    return text_of(json_array_get(json_array_get(in->history, turn), side));
}

static graft_status instruction_chat(struct record *r, const struct instruction *in,
                                     struct why *why)
{
    graft_status status = begin_chat(r, DATA_FORMAT_ALPACA, why);
    if (status == GRAFT_OK) {
        status = message_add_text(r->messages, "system", in->system, true, why);
    }
    for (size_t i = 0; i < json_array_size(in->history) && status == GRAFT_OK; i++) {
        status = message_add_text(r->messages, "user", turn_text(in, i, 0), false, why);
        if (status == GRAFT_OK) {
            status = message_add_text(r->messages, "assistant", turn_text(in, i, 1), false, why);
        }
    }
    buf_append(&r->built, in->instruction.data, in->instruction.size);
    if (in->input.size > 0) {
        buf_puts(&r->built, in->instruction.size > 0 ? "\n\n" : "");
        buf_append(&r->built, in->input.data, in->input.size);
    }
    if (status == GRAFT_OK && r->built.status != GRAFT_OK) {
        status = why_no_memory(why);
    }
    if (status == GRAFT_OK) {
        struct text asked = {r->built.size > 0 ? r->built.data : "", r->built.size};
        status = message_add_text(r->messages, "user", asked, false, why);
    }
    return status == GRAFT_OK ? message_add_text(r->messages, "assistant", in->output, false, why)
                              : status;
}

static void append_headed(struct buf *out, const char *head, struct text text)
{
    buf_printf(out, "### %s:\n", head);
    buf_append(out, text.data, text.size);
    buf_puts(out, "\n\n");
}

/* As plain text: "### Instruction:", "### Input:", "### Response:". */
static graft_status instruction_text(struct record *r, const struct instruction *in,
                                     struct why *why)
{
    struct buf *out = &r->built;
    r->format = DATA_FORMAT_ALPACA;
    if (in->system.size > 0) {
        buf_append(out, in->system.data, in->system.size);
        buf_puts(out, "\n\n");
    }
    for (size_t i = 0; i < json_array_size(in->history); i++) {
        append_headed(out, "Instruction", turn_text(in, i, 0));
        append_headed(out, "Response", turn_text(in, i, 1));
    }
    append_headed(out, "Instruction", in->instruction);
    if (in->input.size > 0) {
        append_headed(out, "Input", in->input);
    }
    buf_puts(out, "### Response:\n");
    r->prompt = (struct text){out->data, out->size};
    r->completion = in->output;
    return out->status == GRAFT_OK ? GRAFT_OK : why_no_memory(why);
}

static bool history_is_pairs(const json_t *history)
{
    const json_t *pair;
    size_t i;
    json_array_foreach(history, i, pair)
    {
        if (json_array_size(pair) != 2 || !json_is_string(json_array_get(pair, 0)) ||
            !json_is_string(json_array_get(pair, 1))) {
            return false;
        }
    }
    return history == NULL || json_is_array(history) || json_is_null(history);
}

static graft_status read_instruction(struct record *r, const struct record_rules *rules,
                                     const char *output_key, struct why *why)
{
    struct instruction in = {.history = json_object_get(r->root, "history")};
    bool dolly = json_object_get(r->root, "input") == NULL;
    graft_status status = need_text(r->root, "instruction", &in.instruction, why);
    if (status == GRAFT_OK) {
        status = need_text(r->root, dolly ? "context" : "input", &in.input, why);
    }
    if (status == GRAFT_OK) {
        status = need_text(r->root, output_key, &in.output, why);
    }
    if (status == GRAFT_OK) {
        status = need_text(r->root, "system", &in.system, why);
    }
    if (status == GRAFT_OK && !history_is_pairs(in.history)) {
        status = why_drop(why, "write it as [[question, answer], ...]",
                          "its history is no list of pairs of texts");
    }
    if (status == GRAFT_OK && in.output.size == 0) {
        status = why_drop(why, "remove the record", "its output is empty");
    }
    if (status != GRAFT_OK) {
        return status;
    }
    return rules->as_chat ? instruction_chat(r, &in, why) : instruction_text(r, &in, why);
}

/* ---- texts with classes -------------------------------------------------------------------- */

static int find_label(const struct record_rules *rules, const json_t *label)
{
    if (json_is_integer(label)) {
        json_int_t value = json_integer_value(label);
        return value >= 0 && value < rules->n_labels ? (int)value : -1;
    }
    for (int i = 0; i < rules->n_labels && json_is_string(label); i++) {
        char made[24];
        snprintf(made, sizeof made, "LABEL_%d", i);
        const char *name = rules->labels != NULL ? rules->labels[i] : made;
        if (strcmp(name, json_string_value(label)) == 0) {
            return i;
        }
    }
    return -1;
}

static graft_status read_label(struct record *r, const struct record_rules *rules, struct why *why)
{
    const json_t *label = json_object_get(r->root, "label");
    const json_t *text = json_object_get(r->root, rules->text_key ? rules->text_key : "text");
    r->format = DATA_FORMAT_LABEL;
    if (!json_is_string(text) || label == NULL) {
        return why_drop(why, "write {\"text\": \"...\", \"label\": \"...\"}",
                        "a classifier learns from a text and a label");
    }
    r->completion = text_of(text);
    r->label = find_label(rules, label);
    if (r->label < 0) {
        return why_drop(why, "use the name or the number of one of the model's classes",
                        "its label is none of the model's %d classes", rules->n_labels);
    }
    return r->completion.size > 0 ? GRAFT_OK
                                  : why_drop(why, "remove the record", "its text is empty");
}

/* ---- which format it is -------------------------------------------------------------------- */

static const char *const PAIRS[][2] = {{"prompt", "completion"}, {"prompt", "response"},
                                       {"question", "answer"},   {"question", "response"},
                                       {"query", "response"},    {"query", "answer"},
                                       {"problem", "solution"},  {"input", "output"}};

static graft_status read_text(struct record *r, const char *key, struct why *why)
{
    r->format = DATA_FORMAT_TEXT;
    graft_status status = need_text(r->root, key, &r->completion, why);
    if (status == GRAFT_OK && r->completion.size == 0) {
        status = why_drop(why, "remove the record", "its text is empty");
    }
    return status;
}

static graft_status read_named(struct record *r, const struct record_rules *rules, struct why *why)
{
    const char *prompt_key = rules->prompt_key ? rules->prompt_key : "prompt";
    const char *completion_key = rules->completion_key ? rules->completion_key : "completion";
    const json_t *prompt = json_object_get(r->root, prompt_key);
    const json_t *completion = json_object_get(r->root, completion_key);
    if (prompt == NULL || completion == NULL) {
        return why_drop(why, "name two members that each record has", "it has no \"%.60s\"",
                        prompt == NULL ? prompt_key : completion_key);
    }
    return read_pair(r, rules, prompt, completion, why);
}

static graft_status unknown(const json_t *root, struct why *why)
{
    char keys[160] = "";
    size_t n = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)root, key, value)
    {
        size_t length = strlen(key);
        if (n + length + 4 < sizeof keys) {
            n += (size_t)snprintf(keys + n, sizeof keys - n, "%s%s", n > 0 ? ", " : "", key);
        }
    }
    return why_drop(why, "name its members with --prompt-key and --completion-key, or --text-key",
                    "no format that is known: its members are %s", n > 0 ? keys : "none");
}

static graft_status read_format(struct record *r, const struct record_rules *rules, struct why *why)
{
    const json_t *root = r->root;
    if (rules->n_labels > 0) {
        return read_label(r, rules, why);
    }
    if (rules->prompt_key != NULL || rules->completion_key != NULL) {
        return read_named(r, rules, why);
    }
    if (rules->text_key != NULL) {
        return read_text(r, rules->text_key, why);
    }
    const json_t *messages = json_object_get(root, "messages");
    if (json_is_array(messages)) {
        return read_messages(r, messages, DATA_FORMAT_MESSAGES, why);
    }
    messages = json_object_get(root, "conversations");
    messages = messages != NULL ? messages : json_object_get(root, "conversation");
    if (json_is_array(messages)) {
        return read_messages(r, messages, DATA_FORMAT_SHAREGPT, why);
    }
    if (json_object_get(root, "instruction") != NULL) {
        const char *output = json_object_get(root, "output") != NULL ? "output" : "response";
        return json_object_get(root, output) != NULL ? read_instruction(r, rules, output, why)
                                                     : unknown(root, why);
    }
    for (size_t i = 0; i < ARRAY_LEN(PAIRS); i++) {
        const json_t *prompt = json_object_get(root, PAIRS[i][0]);
        const json_t *completion = json_object_get(root, PAIRS[i][1]);
        if (prompt != NULL && completion != NULL) {
            return read_pair(r, rules, prompt, completion, why);
        }
    }
    return json_object_get(root, "text") != NULL ? read_text(r, "text", why) : unknown(root, why);
}

graft_status record_read(struct mem *mem, const struct record_rules *rules, const char *text,
                         size_t size, struct record *out, struct why *why)
{
    *out = (struct record){.label = -1};
    buf_init(&out->built, mem, RECORD_BYTES);
    if (size > RECORD_BYTES) {
        return why_drop(why, "split it", "a record of %zu MiB is too large", size >> 20);
    }
    graft_status status = json_parse(text, size, &out->root, &why->error);
    if (status == GRAFT_FORMAT) { /* jansson may call lack of memory so; what is broken stays so */
        status = json_parse(text, size, &out->root, &why->error);
    }
    if (status != GRAFT_OK) {
        char said[200];
        const char *from = strstr(why->error.message, "column");
        snprintf(said, sizeof said, "%.199s", from != NULL ? from : why->error.message);
        return status == GRAFT_FORMAT
                   ? why_drop(why, "write one JSON object on each line, or one array of them",
                              "it is not JSON: %s", said)
                   : status;
    }
    if (!json_is_object(out->root)) {
        return why_drop(why, "write one JSON object on each line, or one array of them",
                        "it is no JSON object");
    }
    status = read_common(out, why);
    if (status == GRAFT_OK && rules->verdicts != DATA_VERDICTS_IGNORED) {
        status = read_verdict(out, rules->verdicts, why);
    }
    return status == GRAFT_OK ? read_format(out, rules, why) : status;
}

void record_free(struct record *r)
{
    json_decref(r->messages);
    json_decref(r->tools);
    json_decref(r->root);
    buf_free(&r->built);
    *r = (struct record){0};
}
