/* test_data_formats.c: records of every format become examples whose learned tokens are the right ones; what cannot
 * be used is named with line, reason and fix.
 */
#include "unit/data_fixture.h"

#define USER(text) "<|im_start|>user\n" text "<|im_end|>\n"
#define ANSWER(text) "<|im_start|>assistant\n[" text "<|im_end|>]"

/* ---- formats ------------------------------------------------------------------------------ */

static void messages_learn_the_assistants_turns(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, FIXTURE_CHATML);
    ONE_EXAMPLE(
        &f,
        "{\"messages\":[{\"role\":\"system\",\"content\":\"Be kind\"},"
        "{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"Hello\"},"
        "{\"role\":\"user\",\"content\":\"Bye\"},"
        "{\"role\":\"assistant\",\"content\":\"See you\"}]}\n",
        "<|im_start|>system\nBe kind<|im_end|>\n" USER("Hi") ANSWER("Hello") "\n" USER("Bye")
            ANSWER("See you"));
    assert_int_equal(dataset_stats(f.d)->formats[DATA_FORMAT_MESSAGES], 1);
    /* What follows the last answer teaches nothing. */
    ONE_EXAMPLE(
        &f,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},"
        "{\"role\":\"assistant\",\"content\":\"Yo\"},{\"role\":\"user\",\"content\":\"x\"}]}",
        USER("Hi") ANSWER("Yo"));
    fixture_close(&f);
}

static void masks_are_right_token_by_token(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, FIXTURE_CHATML);
    fixture_lines(&f, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
                      "{\"role\":\"assistant\",\"content\":\"Hello the\"}]}");
    struct data_example e = dataset_example(f.d, DATA_TRAIN, 0);
    /* <|im_start|> u s e r \n a <|im_end|> \n <|im_start|> a s s i s t a n t \n Hello Gthe <|im_end|> */
    const int32_t tokens[] = {276, 'u', 's', 'e', 'r', '\n', 'a', 277,  '\n', 276, 'a', 's',
                              's', 'i', 's', 't', 'a', 'n',  't', '\n', 271,  258, 277};
    const uint8_t learned[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1};
    assert_int_equal(e.n_tok, ARRAY_LEN(learned));
    assert_memory_equal(e.tokens, tokens, sizeof tokens);
    assert_memory_equal(e.learned, learned, sizeof learned);
    assert_int_equal(e.n_learned, 3);
    fixture_close(&f);
}

static void pairs_learn_the_completion(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, FIXTURE_CHATML);
    ONE_EXAMPLE(&f, "{\"prompt\":\"1+1\",\"completion\":\"2\"}", USER("1+1") ANSWER("2"));
    ONE_EXAMPLE(&f, "{\"question\":\"1+1\",\"answer\":\"2\"}", USER("1+1") ANSWER("2"));
    assert_int_equal(dataset_stats(f.d)->formats[DATA_FORMAT_PAIR], 1);
    ONE_EXAMPLE(&f,
                "{\"prompt\":[{\"role\":\"user\",\"content\":\"a\"},"
                "{\"role\":\"assistant\",\"content\":\"b\"},{\"role\":\"user\",\"content\":\"c\"}],"
                "\"completion\":[{\"role\":\"assistant\",\"content\":\"d\"}]}",
                USER("a") "<|im_start|>assistant\nb<|im_end|>\n" USER("c") ANSWER("d"));
    f.options.raw = true;
    ONE_EXAMPLE(&f, "{\"prompt\":\"1+1=\",\"completion\":\"2\"}", "1+1=[2<|im_end|>]");
    f.options.prompt_key = "q";
    f.options.completion_key = "a";
    ONE_EXAMPLE(&f, "{\"q\":\"1+1=\",\"a\":\"2\",\"text\":\"no\"}", "1+1=[2<|im_end|>]");
    fixture_close(&f);
    fixture_open(&f, NULL); /* no template: as they are */
    ONE_EXAMPLE(&f, "{\"prompt\":\"1+1=\",\"response\":\"2\"}", "1+1=[2<|im_end|>]");
    fixture_close(&f);
}

static void texts_are_learned_whole(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, FIXTURE_CHATML);
    ONE_EXAMPLE(&f, "{\"text\":\"Once upon\"}", "O[nce upon<|im_end|>]");
    ONE_EXAMPLE(&f, "{\"text\":\"closed<|im_end|>\\n\"}", "c[losed<|im_end|>\n]");
    f.options.text_key = "body";
    ONE_EXAMPLE(&f, "{\"body\":\"Once\",\"text\":\"no\"}", "O[nce<|im_end|>]");
    fixture_close(&f);
}

static void bos_stands_first_where_the_tokenizer_puts_it(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, NULL);
    tokenizer_close(&f.tokenizer);
    fixture_tokenizer(&f, "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_bos_token\":true}");
    ONE_EXAMPLE(&f, "{\"text\":\"ab\"}", "<s>[ab</s>]");
    ONE_EXAMPLE(&f, "{\"text\":\"<s>ab</s>\"}", "<s>[ab</s>]");
    ONE_EXAMPLE(&f, "{\"prompt\":\"a\",\"completion\":\"b\"}", "<s>a[b</s>]");
    fixture_close(&f);
}

static void alpaca_is_an_instruction_or_a_chat(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, FIXTURE_CHATML);
    const char *line =
        "{\"instruction\":\"Add\",\"input\":\"1 2\",\"output\":\"3\",\"system\":\"S\","
        "\"history\":[[\"q\",\"r\"]]}";
    ONE_EXAMPLE(&f, line,
                "<|im_start|>system\nS<|im_end|>\n" USER("q") ANSWER("r") "\n" USER("Add\n\n1 2")
                    ANSWER("3"));
    assert_int_equal(dataset_stats(f.d)->formats[DATA_FORMAT_ALPACA], 1);
    f.options.raw = true;
    ONE_EXAMPLE(&f, line,
                "S\n\n### Instruction:\nq\n\n### Response:\nr\n\n### Instruction:\nAdd\n\n"
                "### Input:\n1 2\n\n### Response:\n[3<|im_end|>]");
    ONE_EXAMPLE(&f, "{\"instruction\":\"Add\",\"context\":\"\",\"response\":\"3\"}",
                "### Instruction:\nAdd\n\n### Response:\n[3<|im_end|>]");
    fixture_close(&f);
}

static void sharegpt_has_other_names_for_roles(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, FIXTURE_CHATML);
    ONE_EXAMPLE(&f,
                "{\"conversations\":[{\"from\":\"system\",\"value\":\"S\"},"
                "{\"from\":\"human\",\"value\":\"Hi\"},{\"from\":\"gpt\",\"value\":\"Yo\"}]}",
                "<|im_start|>system\nS<|im_end|>\n" USER("Hi") ANSWER("Yo"));
    ONE_EXAMPLE(
        &f,
        "{\"system\":\"S\",\"conversations\":[{\"from\":\"user\",\"value\":\"Hi\"},"
        "{\"from\":\"observation\",\"value\":\"4\"},{\"from\":\"model\",\"value\":\"Yo\"}]}",
        "<|im_start|>system\nS<|im_end|>\n" USER("Hi") "<|im_start|>tool\n4<|im_end|>\n" ANSWER(
            "Yo"));
    assert_int_equal(dataset_stats(f.d)->formats[DATA_FORMAT_SHAREGPT], 1);
    fixture_close(&f);
}

#define TOOLS_TEMPLATE                                                                             \
    "{% for t in tools or [] %}{{ t.function.name }}({{ t.function.parameters | tojson }})"        \
    "{% endfor %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"                      \
    "{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}{{ m.content }}"            \
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}"    \
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"                                                 \
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

static void anthropic_has_blocks_and_a_system_prompt_beside(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, TOOLS_TEMPLATE);
    ONE_EXAMPLE(
        &f,
        "{\"system\":[{\"type\":\"text\",\"text\":\"S\"}],"
        "\"tools\":[{\"name\":\"add\",\"input_schema\":{\"type\":\"object\"}}],\"messages\":["
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"1\"},"
        "{\"type\":\"text\",\"text\":\"2\"}]},"
        "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\"},"
        "{\"type\":\"tool_use\",\"id\":\"x\",\"name\":\"add\",\"input\":{\"a\":1}}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"x\","
        "\"content\":[{\"type\":\"text\",\"text\":\"3\"}]}]},"
        "{\"role\":\"assistant\",\"content\":\"It is 3\"}]}",
        "add({\"type\": \"object\"})<|im_start|>system\nS<|im_end|>\n" USER("1\n2")
            ANSWER("(hm)add{\"a\": 1}") "\n<|im_start|>tool\n3<|im_end|>\n" ANSWER("It is 3"));
    assert_int_equal(dataset_stats(f.d)->formats[DATA_FORMAT_ANTHROPIC], 1);
    DROPPED(&f,
            "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]},"
            "{\"role\":\"assistant\",\"content\":\"A cat\"}]}",
            "type \"image\"");
    fixture_close(&f);
}

static void arguments_in_a_string_are_opened(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, TOOLS_TEMPLATE);
    ONE_EXAMPLE(&f,
                "{\"messages\":[{\"role\":\"user\",\"content\":\"1\"},{\"role\":\"assistant\","
                "\"content\":\"\",\"tool_calls\":[{\"type\":\"function\",\"function\":"
                "{\"name\":\"add\",\"arguments\":\"{\\\"a\\\": 1}\"}}]}]}",
                USER("1") ANSWER("add{\"a\": 1}"));
    fixture_close(&f);
}

static void a_classifier_learns_the_class_at_the_last_token(void **state)
{
    (void)state;
    struct data_fixture f;
    static const char *const labels[] = {"bad", "good"};
    fixture_open(&f, NULL);
    f.model.n_labels = 2;
    f.model.labels = labels;
    fixture_lines(&f, "{\"text\":\"abc\",\"label\":\"good\"}\n{\"text\":\"ab\",\"label\":0}\n"
                      "{\"text\":\"ab\",\"label\":2}\n{\"text\":\"ab\"}\n");
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 2);
    assert_int_equal(dataset_issues(f.d), 2);
    struct data_example e = dataset_example(f.d, DATA_TRAIN, 0);
    assert_int_equal(e.n_tok, 3);
    assert_memory_equal(e.tokens, ((int32_t[]){'a', 'b', 'c', 1}), 16);
    assert_memory_equal(e.learned, ((uint8_t[]){0, 0, 1}), 3);
    assert_int_equal(dataset_example(f.d, DATA_TRAIN, 1).tokens[2], 0);
    fixture_close(&f);
}

/* ---- what is learned, by --loss ----------------------------------------------------------- */

#define TWO_TURNS                                                                                  \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"                                        \
    "{\"role\":\"assistant\",\"content\":\"b\"},{\"role\":\"user\",\"content\":\"c\"},"            \
    "{\"role\":\"assistant\",\"content\":\"d\"}]}"

static void loss_chooses_what_is_learned(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, FIXTURE_CHATML);
    f.options.loss = DATA_LOSS_COMPLETION;
    ONE_EXAMPLE(&f, TWO_TURNS,
                USER("a") "<|im_start|>assistant\nb<|im_end|>\n" USER("c") ANSWER("d"));
    DROPPED(&f, "{\"text\":\"abc\"}", "text alone");
    f.options.loss = DATA_LOSS_ALL;
    ONE_EXAMPLE(
        &f, TWO_TURNS,
        "<|im_start|>[user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\n"
        "c<|im_end|>\n<|im_start|>assistant\nd<|im_end|>\n]");
    f.options.raw = true;
    ONE_EXAMPLE(&f, "{\"prompt\":\"ab\",\"completion\":\"c\"}", "a[bc<|im_end|>]");
    f.options.loss = DATA_LOSS_ASSISTANT;
    ONE_EXAMPLE(&f, "{\"prompt\":\"ab\",\"completion\":\"c\"}", "ab[c<|im_end|>]");
    fixture_close(&f);
}

static void answers_of_weight_zero_are_given_not_learned(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, FIXTURE_CHATML);
    ONE_EXAMPLE(&f,
                "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
                "{\"role\":\"assistant\",\"content\":\"b\",\"weight\":0},"
                "{\"role\":\"user\",\"content\":\"c\"},"
                "{\"role\":\"assistant\",\"content\":\"d\",\"weight\":1}]}",
                USER("a") "<|im_start|>assistant\nb<|im_end|>\n" USER("c") ANSWER("d"));
    fixture_close(&f);
}

/* ---- weights, tasks, domains -------------------------------------------------------------- */

static void quality_and_weight_multiply(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, NULL);
    f.options.min_quality = 0.4;
    fixture_lines(&f,
                  "{\"text\":\"ab\",\"quality\":0.5,\"weight\":3,\"task\":\"t\",\"domain\":\"d\"}\n"
                  "{\"text\":\"ab\",\"quality\":0.3}\n{\"text\":\"ab\",\"quality\":1.5}\n"
                  "{\"text\":\"ab\",\"weight\":0}\n{\"text\":\"ab\",\"weight\":\"1\"}\n"
                  "{\"text\":\"ab\",\"task\":\"s\"}\n");
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 2);
    struct data_example e = dataset_example(f.d, DATA_TRAIN, 0);
    assert_float_equal(e.weight, 1.5, 0);
    assert_string_equal(dataset_name(f.d, e.task), "t");
    assert_string_equal(dataset_name(f.d, e.domain), "d");
    assert_int_equal(dataset_example(f.d, DATA_TRAIN, 1).domain, -1);
    assert_int_equal(dataset_issues(f.d), 4);
    assert_int_equal(dataset_stats(f.d)->below_quality, 1);
    struct data_group group;
    assert_true(dataset_task(f.d, 0, &group));
    assert_string_equal(group.name, "s");
    assert_true(dataset_task(f.d, 1, &group) && !dataset_task(f.d, 2, &group));
    assert_int_equal(group.examples, 1);
    assert_int_equal(group.learned, 2);
    assert_true(dataset_domain(f.d, 0, &group) && !dataset_domain(f.d, 1, &group));
    fixture_close(&f);
}

/* ---- files ---------------------------------------------------------------------------------- */

static void an_array_is_read_element_by_element(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, NULL);
    fixture_read(&f, fixture_write(&f, "a.json",
                                   "\xEF\xBB\xBF [\n {\"text\": \"a]b\\\"},\"},\n\n {\"text\":\n"
                                   "\"cd\"}, {oops}, {\"text\":\"ef\"},\n]\n"));
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 3);
    assert_string_equal(fixture_shown(&f, 0), "a[]b\"},<|im_end|>]");
    assert_int_equal(dataset_example(f.d, DATA_TRAIN, 0).line, 2);
    assert_int_equal(dataset_example(f.d, DATA_TRAIN, 1).line, 4);
    assert_int_equal(dataset_issues(f.d), 1);
    assert_int_equal(dataset_issue(f.d, 0)->line, 5);
    fixture_read(&f, fixture_write(&f, "a.json", "[{\"text\":\"ab\"},{\"text\":\"c"));
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 1);
    assert_non_null(strstr(dataset_issue(f.d, 0)->reason, "not closed"));
    fixture_read(&f, fixture_write(&f, "a.json", "[{\"text\":\"ab\"}] more"));
    assert_non_null(strstr(dataset_issue(f.d, 0)->reason, "follows the end"));
    fixture_close(&f);
}

static void a_broken_line_costs_itself(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, NULL);
    fixture_lines(&f, "{\"text\":\"ab\"}\r\n\n   \n{\"text\":\"ab\"\n[1]\n{\"text\":\"\xFF\xFE\"}\n"
                      "{\"a\":1,\"b\":2}\n{\"text\":\"a\",\"text\":\"b\"}\n{\"text\":7}\n"
                      "{\"text\":\"\"}\n{\"text\":\"a\\u0000b\"}");
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 2);
    static const struct {
        int64_t line;
        const char *words;
    } expected[] = {{4, "not JSON: column"},
                    {5, "no JSON object"},
                    {6, "not JSON"},
                    {7, "members are a, b"},
                    {8, "not JSON"},
                    {9, "\"text\" is not text"},
                    {10, "empty"}};
    assert_int_equal(dataset_issues(f.d), ARRAY_LEN(expected));
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        const struct data_issue *issue = dataset_issue(f.d, (int64_t)i);
        assert_int_equal(issue->line, expected[i].line);
        assert_non_null(strstr(issue->reason, expected[i].words));
        assert_string_equal(dataset_file(f.d, issue->file), f.path);
    }
    assert_int_equal(dataset_stats(f.d)->dropped, ARRAY_LEN(expected));
    struct data_example e = dataset_example(f.d, DATA_TRAIN, 1);
    assert_memory_equal(e.tokens, ((int32_t[]){'a', 0, 'b', 277}), 16);
    fixture_close(&f);
}

static void other_containers_are_refused_by_name(void **state)
{
    (void)state;
    struct data_fixture f;
    graft_error error = {0};
    struct dataset *d = NULL;
    fixture_open(&f, NULL);
    const char *path = fixture_write(&f, "a.csv", "a,b\n");
    assert_int_equal(dataset_open(NULL, &f.model, path, NULL, &d, &error), GRAFT_UNSUPPORTED);
    path = fixture_write(&f, "a.jsonl", "version https://git-lfs.github.com/spec/v1\n");
    assert_int_equal(dataset_open(NULL, &f.model, path, NULL, &d, &error), GRAFT_UNSUPPORTED);
    assert_non_null(strstr(error.message, "git lfs pull"));
    assert_int_equal(dataset_open(NULL, &f.model, "/nowhere", NULL, &d, &error), GRAFT_NOT_FOUND);
    assert_int_equal(dataset_open(NULL, &f.model, f.scratch.folder, NULL, &d, &error),
                     GRAFT_NOT_FOUND);
    assert_null(d);
    fixture_close(&f);
}

static void a_folder_has_parts(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, NULL);
    fixture_write(&f, "train.jsonl", "{\"text\":\"tr\"}\n{\"text\":\"ts\"}\n");
    fixture_write(&f, "valid.jsonl", "{\"text\":\"va\"}\n");
    fixture_write(&f, "test.jsonl", "{\"text\":\"te\"}\n");
    f.options.valid_share = 0.5;
    fixture_read(&f, f.scratch.folder);
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 2);
    assert_string_equal(fixture_part(&f, DATA_VALID, 0), "v[a<|im_end|>]");
    assert_string_equal(fixture_part(&f, DATA_TEST, 0), "t[e<|im_end|>]");
    char valid[256];
    snprintf(valid, sizeof valid, "%s", fixture_write(&f, "other.jsonl", "{\"text\":\"ot\"}\n"));
    f.options.valid_path = valid;
    fixture_read(&f, f.scratch.folder);
    assert_int_equal(dataset_count(f.d, DATA_VALID), 1);
    assert_string_equal(fixture_part(&f, DATA_VALID, 0), "o[t<|im_end|>]");
    fixture_close(&f);
}

/* ---- too long ------------------------------------------------------------------------------ */

static void what_is_too_long_is_cut_and_told(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, NULL);
    f.options.max_len = 4;
    f.options.raw = true;
    fixture_lines(&f, "{\"prompt\":\"ab\",\"completion\":\"cdefg\"}\n"
                      "{\"prompt\":\"abcde\",\"completion\":\"f\"}\n{\"text\":\"abcd\"}\n");
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 2);
    assert_string_equal(fixture_shown(&f, 0), "ab[cde]");
    assert_string_equal(fixture_shown(&f, 1), "a[bcd<|im_end|>]"); /* four fed, and what follows */
    assert_true(dataset_example(f.d, DATA_TRAIN, 0).truncated);
    assert_false(dataset_example(f.d, DATA_TRAIN, 1).truncated);
    assert_int_equal(dataset_stats(f.d)->truncated, 1);
    assert_int_equal(dataset_stats(f.d)->dropped, 1);
    assert_int_equal(dataset_stats(f.d)->longest, 7);
    assert_non_null(strstr(dataset_issue(f.d, 0)->fix, "--max-seq-length to 7"));
    assert_int_equal(dataset_issue(f.d, 0)->kind, DATA_TRUNCATED);
    assert_non_null(strstr(dataset_issue(f.d, 1)->reason, "first 4 tokens"));
    f.options.max_len = 513;
    graft_error error;
    struct dataset *d;
    assert_int_equal(dataset_open(NULL, &f.model, f.path, &f.options, &d, &error),
                     GRAFT_INVALID_ARGUMENT);
    fixture_close(&f);
}

static void a_text_file_is_cut_into_windows(void **state)
{
    (void)state;
    struct data_fixture f;
    fixture_open(&f, NULL);
    f.options.max_len = 4;
    const char *path = fixture_write(&f, "a.txt", "ab\ncdefgh");
    fixture_read(&f, path);
    /* Each token is learned once, but for the very first, before which there is nothing. */
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 3);
    assert_string_equal(fixture_shown(&f, 0), "a[b\ncd]");
    assert_string_equal(fixture_shown(&f, 1), "d[efgh]");
    assert_string_equal(fixture_shown(&f, 2), "h[<|im_end|>]");
    assert_int_equal(dataset_example(f.d, DATA_TRAIN, 1).line, 2);
    tokenizer_close(&f.tokenizer);
    fixture_tokenizer(&f, "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_bos_token\":true}");
    fixture_read(&f, path);
    assert_string_equal(fixture_shown(&f, 0), "<s>[ab\nc]");
    assert_string_equal(fixture_shown(&f, 1), "<s>c[def]");
    assert_string_equal(fixture_shown(&f, 2), "<s>f[gh</s>]");
    assert_int_equal(dataset_count(f.d, DATA_TRAIN), 3);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_learn_the_assistants_turns),
        cmocka_unit_test(masks_are_right_token_by_token),
        cmocka_unit_test(pairs_learn_the_completion),
        cmocka_unit_test(texts_are_learned_whole),
        cmocka_unit_test(bos_stands_first_where_the_tokenizer_puts_it),
        cmocka_unit_test(alpaca_is_an_instruction_or_a_chat),
        cmocka_unit_test(sharegpt_has_other_names_for_roles),
        cmocka_unit_test(anthropic_has_blocks_and_a_system_prompt_beside),
        cmocka_unit_test(arguments_in_a_string_are_opened),
        cmocka_unit_test(a_classifier_learns_the_class_at_the_last_token),
        cmocka_unit_test(loss_chooses_what_is_learned),
        cmocka_unit_test(answers_of_weight_zero_are_given_not_learned),
        cmocka_unit_test(quality_and_weight_multiply),
        cmocka_unit_test(an_array_is_read_element_by_element),
        cmocka_unit_test(a_broken_line_costs_itself),
        cmocka_unit_test(other_containers_are_refused_by_name),
        cmocka_unit_test(a_folder_has_parts),
        cmocka_unit_test(what_is_too_long_is_cut_and_told),
        cmocka_unit_test(a_text_file_is_cut_into_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
