/* test_data_masks.c: which tokens are learned under templates that do not make it easy: marks, thoughts that are
 * dropped from earlier turns, two ends, openings that differ, words that begin with a space.
 */
#include "unit/data_fixture.h"

#define CHAT(messages) "{\"messages\":[" messages "]}\n"
#define U(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define A(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"
#define S(text) "{\"role\":\"system\",\"content\":\"" text "\"}"

static void generation_marks_are_believed(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f,
                 "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}"
                 "{{ m.content }}<|end|>{% endgeneration %}{{ '\n' }}{% else %}U:{{ m.content }}\n"
                 "{% endif %}{% endfor %}");
    ONE_EXAMPLE(&f, CHAT(U("a") "," A("b") "," U("c") "," A("d")),
                "U:a\nA:[b<|end|>]\nU:c\nA:[d<|end|>]");
    f.options.loss = DATA_LOSS_COMPLETION;
    ONE_EXAMPLE(&f, CHAT(U("a") "," A("b") "," U("c") "," A("d")),
                "U:a\nA:b<|end|>\nU:c\nA:[d<|end|>]");
    fixture_close(&f);
}

static void marks_that_went_into_a_value_are_not(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, "{% macro say(m) %}{% generation %}{{ m.content }}{% endgeneration %}<|end|>"
                     "{% endmacro %}{% for m in messages %}{% if m.role == 'assistant' %}"
                     "A:{{ say(m) }}{% else %}U:{{ m.content }}\n{% endif %}{% endfor %}"
                     "{% if add_generation_prompt %}A:{% endif %}");
    ONE_EXAMPLE(&f, CHAT(U("a") "," A("b")), "U:a\nA:[b<|end|>]");
    fixture_close(&f);
}

/* Thoughts stay with the last answer only, as Qwen3 does it. */
#define THOUGHTS                                                                                   \
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"                                  \
    "{% if m.role == 'assistant' and loop.last %}{{ '<t>' }}{% endif %}"                           \
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}"                                                 \
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

static void an_answer_that_is_rewritten_later_has_an_example_of_its_own(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, THOUGHTS);
    fixture_lines(&f, CHAT(U("a") "," A("b") "," U("c") "," A("d")));
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 2);
    assert_string_equal(fixture_shown(&f, 0),
                        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
                        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[<t>d<|im_end|>]");
    assert_string_equal(fixture_shown(&f, 1),
                        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
                        "[<t>b<|im_end|>]");
    assert_int_equal(dataset_stats(f.d)->divided, 1);
    assert_int_equal(dataset_stats(f.d)->records, 1);
    assert_int_equal(dataset_example(f.d, DATA_TRAIN, 0).record,
                     dataset_example(f.d, DATA_TRAIN, 1).record);
    fixture_close(&f);
}

static void the_first_of_two_ends_is_the_end(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, "{% for m in messages %}{{ '<s>' + m.role + '\n' + m.content + '<|end|>\n' }}"
                     "{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant\n' }}"
                     "{% else %}<|endoftext|>{% endif %}");
    ONE_EXAMPLE(&f, CHAT(U("a") "," A("b") "," U("c") "," A("d")),
                "<s>user\na<|end|>\n<s>assistant\n[b<|end|>]\n<s>user\nc<|end|>\n"
                "<s>assistant\n[d<|end|>]");
    fixture_close(&f);
}

static void a_template_without_ends_gets_eos_behind_the_last_answer(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, "{% for m in messages %}{{ m.role + ': ' + m.content }}{% if not loop.last %}"
                     "{{ '\n' }}{% endif %}{% endfor %}"
                     "{% if add_generation_prompt %}{{ '\nassistant:' }}{% endif %}");
    ONE_EXAMPLE(&f, CHAT(U("a") "," A("b") "," U("c") "," A("d")),
                "user: a\nassistant:[ b]\nuser: c\nassistant:[ d<|im_end|>]");
    fixture_close(&f);
}

static void what_is_learned_stands_behind_the_opening_of_the_prompt(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f,
                 "{% for m in messages %}{{ '<s>' + m.role + '\n' + m.content.split('/t')[-1] + "
                 "'<|end|>' }}{% endfor %}"
                 "{% if add_generation_prompt %}{{ '<s>assistant\n<t>/t' }}{% endif %}");
    ONE_EXAMPLE(&f, CHAT(U("a") "," A("b")), "<s>user\na<|end|><s>assistant\n<t>/t[b<|end|>]");
    assert_int_equal(dataset_stats(f.d)->reopened, 1);
    ONE_EXAMPLE(&f, CHAT(U("a") "," A("<thought/tb")),
                "<s>user\na<|end|><s>assistant\n<t>/t[b<|end|>]");
    fixture_close(&f);
}

static void a_system_prompt_that_moves_is_where_the_model_sees_it(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f,
                 "{% set s = messages[0].content %}{% for m in messages[1:] %}"
                 "{% if m.role == 'user' %}[I]{% if loop.last %}{{ s }}.{% endif %}"
                 "{{ m.content }}[/I]{% else %}{{ m.content + '</s>' }}{% endif %}{% endfor %}");
    fixture_lines(&f, CHAT(S("s") "," U("a") "," A("b") "," U("c") "," A("d")));
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 2);
    assert_string_equal(fixture_shown(&f, 0), "[I]a[/I]b</s>[I]s.c[/I][d</s>]");
    assert_string_equal(fixture_shown(&f, 1), "[I]s.a[/I][b</s>]");
    fixture_close(&f);
}

static void templates_that_refuse_are_quoted(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}"
                     "{% endif %}{{ messages[0].content }}");
    DROPPED(&f, CHAT(S("s") "," A("a")), "no system");
    fixture_template(&f, FIXTURE_CHATML);
    DROPPED(&f, CHAT(U("s")), "no answer");
    DROPPED(&f, CHAT(""), "no messages");
    DROPPED(&f, CHAT("{\"role\":\"user\"}"), "message 1 has no content");
    DROPPED(&f, CHAT("{\"content\":\"x\"}"), "message 1 has no role");
    fixture_close(&f);
}

static void endless_conversations_are_dropped(void **state)
{
    (void)state;
    struct data_fixture f;
    struct buf text;
    fixture_open(&f, FIXTURE_CHATML);
    buf_init(&text, NULL, SIZE_MAX);
    buf_puts(&text, "{\"messages\":[");
    for (int i = 0; i < 4097; i++)
        buf_printf(&text, "%s" A("b"), i ? "," : "");
    buf_puts(&text, "]}\n");
    DROPPED(&f, text.data, "4097 messages is too long");
    text.size = 0;
    buf_puts(&text, "{\"messages\":[");
    for (int i = 0; i < 2000; i++) /* rendered anew for each turn: 2000 times 2000 times 20 bytes */
        buf_printf(&text, "%s" A("many words in one turn"), i ? "," : "");
    buf_puts(&text, "]}\n");
    DROPPED(&f, text.data, "too long to find its turns");
    buf_free(&text);
    fixture_close(&f);
}

static void templates_can_be_given(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, NULL);
    ONE_EXAMPLE(&f, CHAT(U("a") "," A("b")), "### User:\na\n\n### Assistant:\n[b<|im_end|>]");
    assert_string_equal(dataset_template(f.d), "plain");
    ONE_EXAMPLE(&f, "{\"prompt\":\"a\",\"completion\":\"b\"}", "a[b<|im_end|>]");
    f.options.chat_template = "chatml";
    ONE_EXAMPLE(&f, "{\"prompt\":\"a\",\"completion\":\"b\"}",
                "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>]");
    ONE_EXAMPLE(&f, CHAT(U("a") "," A("b")),
                "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>]");
    f.options.chat_template = "plain";
    ONE_EXAMPLE(&f, CHAT(U("a") "," A("b") "," U("c") "," A("d")),
                "### User:\na\n\n### Assistant:\n[b<|im_end|>]\n\n### User:\nc\n\n"
                "### Assistant:\n[d<|im_end|>]");
    char path[256];
    snprintf(
        path, sizeof path, "%s",
        fixture_write(&f, "t.jinja", "{% for m in messages %}{{ m.content }}</s>{% endfor %}"));
    f.options.chat_template = path;
    ONE_EXAMPLE(&f, CHAT(U("a") "," A("b")), "a</s>[b</s>]");
    fixture_close(&f);
}

/* ---- words that begin with a space -------------------------------------------------------- */

static void assert_continues(const struct tokenizer *t, const char *before, const char *after,
                             const char *whole)
{
    struct tokens parts = {0}, all = {0};
    MUST(tokenizer_encode(t, before, strlen(before), TOKENIZE_SPECIAL, &parts, error));
    MUST(tokenizer_encode(t, after, strlen(after), TOKENIZE_SPECIAL | TOKENIZE_CONTINUE, &parts,
                          error));
    MUST(tokenizer_encode(t, whole, strlen(whole), TOKENIZE_SPECIAL, &all, error));
    assert_int_equal(parts.count, all.count);
    assert_memory_equal(parts.ids, all.ids, all.count * sizeof *all.ids);
    tokens_free(&parts);
    tokens_free(&all);
}

static void pieces_go_on_without_another_space(void **state)
{
    (void)state;
    static const struct fixture_parts sets[] = {{.normalizer = SPM_NORMALIZER,
                                                 .decoder = SPM_DECODER,
                                                 .added = SPM_ADDED,
                                                 .model = SPM_MODEL},
                                                {.pre_tokenizer = METASPACE("always", "true"),
                                                 .decoder = METASPACE("always", "true"),
                                                 .added = SPM_ADDED,
                                                 .model = SPM_MODEL},
                                                {.pre_tokenizer = METASPACE("first", "true"),
                                                 .decoder = METASPACE("first", "true"),
                                                 .added = SPM_ADDED,
                                                 .model = SPM_MODEL}};
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        struct buf json;
        struct tokenizer *t = NULL;
        buf_init(&json, NULL, SIZE_MAX);
        fixture_spm(&json, &sets[i]);
        MUST(tokenizer_parse_json(NULL, json.data, json.size, NULL, &t, error));
        buf_free(&json);
        assert_continues(t, "the", " the", "the the");
        assert_continues(t, "Hello the", " world", "Hello the world");
        assert_continues(t, "<s>", "the", "<s>the"); /* behind a token as in one go */
        assert_continues(t, "the</s>", "the<s> the", "the</s>the<s> the");
        assert_continues(t, "ab", "ba", "abba");
        tokenizer_close(&t);
    }
}

/* ---- published templates ------------------------------------------------------------------ */

static char *read_template(const char *name)
{
    char path[512], *text = NULL;
    size_t size;
    snprintf(path, sizeof path, GRAFT_SHARED_DIR "/data/templates/%s/%s.jinja", name, name);
    if (!path_exists(path))
        return NULL;
    MUST(file_read(NULL, path, 1 << 20, &text, &size, error));
    return text;
}

/* What a model sees of a conversation with three turns, and what it learns: the answers and their ends. */
static void published_templates_give_the_answers(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool system;
        int examples;
        const char *learned; /* of all examples, one after the other */
    } cases[] = {
        {"chatml", true, 1, "[b<|im_end|>][d<|im_end|>][f<|im_end|>]"},
        {"qwen2.5-instruct", true, 1, "[b<|im_end|>][d<|im_end|>][f<|im_end|>]"},
        {"qwen3", true, 3,
         "[<think>\n\n</think>\n\nf<|im_end|>][<think>\n\n</think>\n\nd<|im_end|>]"
         "[<think>\n\n</think>\n\nb<|im_end|>]"},
        {"smollm3", true, 1, "[b<|im_end|>][d<|im_end|>][f<|im_end|>]"},
        {"phi-3.5-mini-instruct", true, 1, "[b<|end|>][d<|end|>][f<|end|>]"},
        {"llama-2-chat", true, 1, "[ b </s>][ d </s>][ f </s>]"},
        {"mistral-instruct", true, 1, "[ b</s>][ d</s>][ f</s>]"},
        {"mistral-nemo-instruct-2407", true, 3, "[f</s>][d</s>][b</s>]"},
        {"deepseek-r1-distill-qwen", false, 3,
         "[f<\uFF5Cend\u2581of\u2581sentence\uFF5C></s>]"
         "[d<\uFF5Cend\u2581of\u2581sentence\uFF5C></s>]"
         "[b<\uFF5Cend\u2581of\u2581sentence\uFF5C></s>]"},
    };
    int done = 0;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct data_fixture f;
        char *source = read_template(cases[i].name);
        if (source == NULL)
            continue;
        fixture_open(&f, NULL);
        tokenizer_close(&f.tokenizer);
        fixture_tokenizer(&f, "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}");
        fixture_template(&f, source);
        f.model.n_ctx = 1 << 16;
        f.options.max_len = 1 << 15;
        fixture_lines(
            &f,
            cases[i].system
                ? CHAT(S("Be.") "," U("a") "," A("b") "," U("c") "," A("d") "," U("e") "," A("f"))
                : CHAT(U("a") "," A("b") "," U("c") "," A("d") "," U("e") "," A("f")));
        if (dataset_issues(f.d) > 0)
            fail_msg("%s: %s", cases[i].name, dataset_issue(f.d, 0)->reason);
        assert_int_equal(dataset_count(f.d, DATA_TRAIN), cases[i].examples);
        struct buf learned;
        buf_init(&learned, NULL, SIZE_MAX);
        for (int k = 0; k < cases[i].examples; k++) {
            /* Brackets of the template's own are plain text. */
            struct data_example e = dataset_example(f.d, DATA_TRAIN, k);
            bool inside = false;
            for (int t = 0; t < e.n_tok; t++) {
                if ((e.learned[t] != 0) != inside)
                    buf_putc(&learned, inside ? ']' : '[');
                inside = e.learned[t];
                if (inside)
                    MUST(tokenizer_decode(f.tokenizer, e.tokens + t + 1, 1, true, &learned, error));
            }
            buf_puts(&learned, inside ? "]" : "");
        }
        if (strcmp(learned.data, cases[i].learned) != 0)
            fail_msg("%s: %s", cases[i].name, learned.data);
        buf_free(&learned);
        mem_free(NULL, source);
        fixture_close(&f);
        done++;
    }
    if (done == 0) {
        print_message("no published templates in " GRAFT_SHARED_DIR "\n");
        skip();
    }
    assert_int_equal(done, ARRAY_LEN(cases));
}

static void open_published(struct data_fixture *f, const char *path)
{
    static const char roles[] = "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}";
    char *text;
    size_t size;
    json_t *config;
    MUST(json_parse(roles, sizeof roles - 1, &config, error));
    MUST(file_read(NULL, path, 1 << 26, &text, &size, error));
    MUST(tokenizer_parse_json(NULL, text, size, config, &f->tokenizer, error));
    json_decref(config);
    mem_free(NULL, text);
}

/* Real vocabularies: the pieces are the tokens of the whole rendering, and each learned run decodes to an answer. */
static void pieces_are_the_tokens_of_the_whole(void **state)
{
    (void)state;
    static const struct {
        const char *tokenizer, *template, *answers[2], *whole;
    } cases[] = {
        {"qwen2/tokenizer.built-from-vocab-merges.json",
         "qwen2.5-instruct",
         {"The sky is blue.<|im_end|>", "Yes!<|im_end|>"},
         "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant."
         "<|im_end|>\n<|im_start|>user\nWhy is\nit so?<|im_end|>\n<|im_start|>assistant\n"
         "The sky is blue.<|im_end|>\n<|im_start|>user\nReally?<|im_end|>\n<|im_start|>assistant\n"
         "Yes!<|im_end|>"},
        {"llama-2/tokenizer.json",
         "llama-2-chat",
         {"The sky is blue. </s>", "Yes! </s>"},
         "<s>[INST] Why is\nit so? [/INST] The sky is blue. </s><s>[INST] Really? [/INST] Yes! "
         "</s>"}};
    int done = 0;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct data_fixture f;
        char *source = read_template(cases[i].template);
        char path[512];
        snprintf(path, sizeof path, GRAFT_SHARED_DIR "/data/tokenizers/%s", cases[i].tokenizer);
        if (source == NULL || !path_exists(path))
            continue;
        fixture_open(&f, source);
        tokenizer_close(&f.tokenizer);
        open_published(&f, path);
        f.model.tokenizer = f.tokenizer;
        f.model.n_vocab = tokenizer_size(f.tokenizer);
        fixture_lines(&f, CHAT(U("Why is\\nit so?") "," A("The sky is blue.") "," U(
                              "Really?") "," A("Yes!")));
        assert_int_equal(dataset_count(f.d, DATA_TRAIN), 1);
        struct data_example e = dataset_example(f.d, DATA_TRAIN, 0);
        struct buf run;
        struct tokens ids = {0};
        MUST(tokenizer_encode(f.tokenizer, cases[i].whole, strlen(cases[i].whole), TOKENIZE_SPECIAL,
                              &ids, error));
        assert_int_equal(ids.count, e.n_tok + 1);
        assert_memory_equal(ids.ids, e.tokens, ids.count * sizeof *ids.ids);
        for (int t = 0, k = 0; t < e.n_tok; t++) {
            if (!e.learned[t])
                continue;
            int end = t;
            while (end < e.n_tok && e.learned[end])
                end++;
            buf_init(&run, NULL, SIZE_MAX);
            MUST(tokenizer_decode(f.tokenizer, e.tokens + t + 1, (size_t)(end - t), true, &run,
                                  error));
            assert_true(k < 2);
            assert_string_equal(run.data, cases[i].answers[k++]);
            buf_free(&run);
            t = end;
        }
        tokens_free(&ids);
        mem_free(NULL, source);
        fixture_close(&f);
        done++;
    }
    if (done == 0) {
        print_message("no published vocabularies in " GRAFT_SHARED_DIR "\n");
        skip();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generation_marks_are_believed),
        cmocka_unit_test(marks_that_went_into_a_value_are_not),
        cmocka_unit_test(an_answer_that_is_rewritten_later_has_an_example_of_its_own),
        cmocka_unit_test(the_first_of_two_ends_is_the_end),
        cmocka_unit_test(a_template_without_ends_gets_eos_behind_the_last_answer),
        cmocka_unit_test(what_is_learned_stands_behind_the_opening_of_the_prompt),
        cmocka_unit_test(a_system_prompt_that_moves_is_where_the_model_sees_it),
        cmocka_unit_test(templates_that_refuse_are_quoted),
        cmocka_unit_test(endless_conversations_are_dropped),
        cmocka_unit_test(templates_can_be_given),
        cmocka_unit_test(pieces_go_on_without_another_space),
        cmocka_unit_test(published_templates_give_the_answers),
        cmocka_unit_test(pieces_are_the_tokens_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
