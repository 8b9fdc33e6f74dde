/* fuzz_data.c: hostile training data: records, texts, saved datasets. The first byte chooses what the rest is and how it
 * is read.
 *
 * Whatever it is, reading ends, what is kept is within bounds, what is not has a reason of one line and a fix, and a
 * plan has each example once. The checksum of a saved dataset is put right, so that what is behind it is reached.
 */
#include "train/data/data_internal.h"

#include "../unit/tokenizer_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char chat[] =
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\n' }}{{ m.content }}{% for c in m.tool_calls or [] %}"
    "{{ c | tojson }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
static const char
    moody[] = /* writes earlier answers in another way, and opens them with a thought */
    "{% for m in messages %}{{ m.role }}:{% if loop.last %}!{% endif %}{{ m.content }}</s>"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% if messages | length % 2 %}?{% endif %}"
    "{% endif %}";

enum { SAVED_DIGEST = 40, SAVED_HEADER = 128 };

static void require(bool condition)
{
    if (!condition)
        abort();
}

static struct tokenizer *open_tokenizer(void)
{
    static const struct fixture_parts parts = {
        .normalizer = "{\"type\":\"NFC\"}",
        .pre_tokenizer = QWEN2_PRE,
        .decoder = BYTE_LEVEL_DECODER,
        .added = "{\"id\":276,\"content\":\"<|im_start|>\",\"special\":true},"
                 "{\"id\":277,\"content\":\"<|im_end|>\",\"special\":true},"
                 "{\"id\":278,\"content\":\"<s>\",\"special\":true},"
                 "{\"id\":279,\"content\":\"</s>\",\"special\":true}"};
    static const char roles[] =
        "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_bos_token\":true}";
    struct tokenizer *t = NULL;
    json_t *config = NULL;
    struct buf json;
    buf_init(&json, NULL, SIZE_MAX);
    fixture_byte_level(&json, &parts);
    require(json_parse(roles, sizeof roles - 1, &config, NULL) == GRAFT_OK);
    require(tokenizer_parse_json(NULL, json.data, json.size, config, &t, NULL) == GRAFT_OK);
    json_decref(config);
    buf_free(&json);
    return t;
}

static void check_example(const struct data_example *e, const struct dataset *d)
{
    int learned = 0;
    require(e->n_tok >= 1 && e->n_tok <= dataset_max_len(d) && e->weight > 0);
    for (int t = 0; t < e->n_tok; t++) {
        require(e->tokens[t] >= 0 && e->tokens[t] < d->n_vocab && e->learned[t] <= 1);
        learned += e->learned[t];
    }
    require(e->tokens[e->n_tok] >= 0 && learned == e->n_learned && learned > 0);
    require(dataset_file(d, e->file) && e->line >= 1);
}

static void check_plan(const struct dataset *d)
{
    struct data_plan plan;
    struct data_plan_options options = {.rows = 2, .pack = true, .shuffle = true, .seed = 3};
    require(data_plan_make(NULL, d, DATA_TRAIN, &options, &plan, NULL) == GRAFT_OK);
    int64_t sum = 0;
    for (int64_t i = 0; i < plan.n_examples; i++)
        sum += plan.order[i];
    require(sum == plan.n_examples * (plan.n_examples - 1) / 2);
    data_plan_free(&plan);
}

static void check_dataset(const struct dataset *d)
{
    for (int part = 0; part < DATA_PARTS; part++) {
        for (int64_t i = 0; i < dataset_count(d, (enum data_part)part); i++) {
            struct data_example e = dataset_example(d, (enum data_part)part, i);
            check_example(&e, d);
        }
    }
    for (int64_t i = 0; i < dataset_issues(d); i++) {
        const struct data_issue *issue = dataset_issue(d, i);
        require(issue->reason[0] && !strchr(issue->reason, '\n') && issue->line >= 0);
    }
    check_plan(d);
}

static graft_status read_bytes(struct dataset *d, const struct data_model *model, bool as_chat,
                               bool text, const char *bytes, size_t size, graft_error *error)
{
    struct builder b;
    int32_t file;
    graft_status status = builder_open(&b, d, model, error);
    require(names_find(&d->files, (struct text){"fuzz", 4}, &file));
    b.part = PART_OPEN;
    b.rules.as_chat = as_chat;
    if (status == GRAFT_OK)
        status = text ? build_text(&b, bytes, size, error) : build_records(&b, bytes, size, error);
    builder_close(&b);
    return status;
}

static graft_status read_saved(struct dataset *d, const uint8_t *bytes, size_t size, uint8_t **copy,
                               graft_error *error)
{
    static const struct data_options none = {0};
    *copy = malloc(size + 1);
    require(*copy != NULL);
    memcpy(*copy, bytes, size);
    if (size >= SAVED_HEADER)
        require(sha256(*copy + SAVED_HEADER, size - SAVED_HEADER, *copy + SAVED_DIGEST, NULL) ==
                GRAFT_OK);
    return saved_parse(d, *copy, size, &none, error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tokenizer *tokenizer;
    static struct chat_template *templates[2];
    if (tokenizer == NULL) {
        tokenizer = open_tokenizer();
        require(!template_compile(NULL, chat, sizeof chat - 1, &templates[0], NULL));
        require(!template_compile(NULL, moody, sizeof moody - 1, &templates[1], NULL));
    }
    if (size == 0)
        return 0;
    unsigned how = data[0];
    struct data_model model = {.tokenizer = tokenizer,
                               .chat = templates[how >> 3 & 1],
                               .n_vocab = 282,
                               .n_ctx = 4096,
                               .n_labels = (how & 0xC0) == 0xC0 ? 2 : 0};
    struct data_options options = {
        .loss = (enum data_loss)(how & 3), .max_len = how & 16 ? 8 : 256, .valid_share = 0.3};
    struct dataset *d = NULL;
    graft_error error = {0};
    uint8_t *copy = NULL;
    require(dataset_new(NULL, &d, NULL) == GRAFT_OK);
    require(dataset_bind(d, &model, &options, "model", (struct text){"", 0}, &error) == GRAFT_OK);
    graft_status status = (how & 0xC0) == 0x80
                              ? read_saved(d, data + 1, size - 1, &copy, &error)
                              : read_bytes(d, &model, (how & 4) != 0, (how & 0xC0) == 0x40,
                                           (const char *)data + 1, size - 1, &error);
    if (status == GRAFT_OK) {
        require(dataset_finish(d, &error) == GRAFT_OK);
        check_dataset(d);
    } else {
        require(error.status == status && error.message[0]);
    }
    dataset_close(&d);
    free(copy);
    return 0;
}
