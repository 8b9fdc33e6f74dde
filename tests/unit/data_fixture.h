/* data_fixture.h: datasets from texts on the spot, and examples as text in which what is learned stands in brackets.
 *
 * The tokenizer is a token for each byte, a few merges, and the special tokens that chat formats use.
 */
#ifndef GRAFT_DATA_FIXTURE_H
#define GRAFT_DATA_FIXTURE_H

#include "train/data/data.h"
#include "unit/test_support.h"
#include "unit/tokenizer_fixture.h"

#include "unit/must.h"

#define FIXTURE_CHATML                                                                             \
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"     \
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

struct data_fixture {
    struct scratch scratch;
    struct tokenizer *tokenizer;
    struct chat_template *chat;
    struct data_model model;
    struct data_options options;
    struct dataset *d;
    char shown[8192];
    char path[256];
};

/* config: tokenizer_config.json as text; NULL: EOS is <|im_end|>, no BOS. */
static inline void fixture_tokenizer(struct data_fixture *f, const char *config)
{
    static const struct fixture_parts parts = {
        .normalizer = "{\"type\":\"NFC\"}",
        .pre_tokenizer = QWEN2_PRE,
        .decoder = BYTE_LEVEL_DECODER,
        .added = "{\"id\":276,\"content\":\"<|im_start|>\",\"special\":true},"
                 "{\"id\":277,\"content\":\"<|im_end|>\",\"special\":true},"
                 "{\"id\":278,\"content\":\"<s>\",\"special\":true},"
                 "{\"id\":279,\"content\":\"</s>\",\"special\":true},"
                 "{\"id\":280,\"content\":\"<|end|>\",\"special\":true},"
                 "{\"id\":281,\"content\":\"<|endoftext|>\",\"special\":true}"};
    struct buf json;
    json_t *c = NULL;
    const char *text = config ? config : "{\"eos_token\":\"<|im_end|>\"}";
    buf_init(&json, NULL, SIZE_MAX);
    fixture_byte_level(&json, &parts);
    MUST(json_parse(text, strlen(text), &c, error));
    MUST(tokenizer_parse_json(NULL, json.data, json.size, c, &f->tokenizer, error));
    json_decref(c);
    buf_free(&json);
    f->model.tokenizer = f->tokenizer;
    f->model.n_vocab = 300;
    f->model.n_ctx = 512;
}

static inline void fixture_template(struct data_fixture *f, const char *source)
{
    template_free(&f->chat);
    if (source)
        MUST(template_compile(NULL, source, strlen(source), &f->chat, error));
    f->model.chat = f->chat;
    f->model.chat_source = source;
}

static inline void fixture_open(struct data_fixture *f, const char *chat)
{
    *f = (struct data_fixture){0};
    scratch_open(&f->scratch);
    fixture_tokenizer(f, NULL);
    fixture_template(f, chat);
}

static inline void fixture_close(struct data_fixture *f)
{
    dataset_close(&f->d);
    template_free(&f->chat);
    tokenizer_close(&f->tokenizer);
    scratch_close(&f->scratch);
}

static inline const char *fixture_write(struct data_fixture *f, const char *name, const char *text)
{
    MUST(file_write_atomic(NULL, scratch_path(&f->scratch, name), text, strlen(text), error));
    snprintf(f->path, sizeof f->path, "%s/%s", f->scratch.folder, name);
    return f->path;
}

static inline void fixture_read(struct data_fixture *f, const char *path)
{
    dataset_close(&f->d);
    MUST(dataset_open(NULL, &f->model, path, &f->options, &f->d, error));
}

/* Opens a file with that text. */
static inline void fixture_lines(struct data_fixture *f, const char *text)
{
    fixture_read(f, fixture_write(f, "data.jsonl", text));
}

/* Example `index` of a part: "given[learned]". */
static inline const char *fixture_part(struct data_fixture *f, enum data_part part, int64_t index)
{
    struct buf out;
    bool inside = false;
    assert_true(index < dataset_count(f->d, part));
    struct data_example e = dataset_example(f->d, part, index);
    buf_init(&out, NULL, sizeof f->shown - 2);
    for (int k = 0; k <= e.n_tok; k++) {
        bool learned = k > 0 && e.learned[k - 1];
        if (learned != inside)
            buf_putc(&out, learned ? '[' : ']');
        inside = learned;
        MUST(tokenizer_decode(f->tokenizer, e.tokens + k, 1, true, &out, error));
    }
    if (inside)
        buf_putc(&out, ']');
    assert_int_equal(out.status, GRAFT_OK);
    memcpy(f->shown, out.data ? out.data : "", out.size + 1);
    buf_free(&out);
    return f->shown;
}

static inline const char *fixture_shown(struct data_fixture *f, int64_t index)
{
    return fixture_part(f, DATA_TRAIN, index);
}

#define ONE_EXAMPLE(f, lines, expected)                                                            \
    do {                                                                                           \
        fixture_lines(f, lines);                                                                   \
        assert_int_equal(dataset_count((f)->d, DATA_TRAIN), 1);                                    \
        assert_string_equal(fixture_shown(f, 0), expected);                                        \
    } while (0)
/* Nothing is left of it; the reason has these words, and there is a fix. */
#define DROPPED(f, lines, words)                                                                   \
    do {                                                                                           \
        fixture_lines(f, lines);                                                                   \
        assert_int_equal(dataset_count((f)->d, DATA_TRAIN), 0);                                    \
        assert_int_equal(dataset_issues((f)->d), 1);                                               \
        const struct data_issue *issue = dataset_issue((f)->d, 0);                                 \
        assert_int_equal(issue->kind, DATA_DROPPED);                                               \
        if (!strstr(issue->reason, words))                                                         \
            fail_msg("\"%s\" does not say \"%s\"", issue->reason, words);                          \
        assert_true(issue->fix[0] != '\0');                                                        \
    } while (0)

#endif
