/* chat.c: `graft chat`: a conversation at the terminal.
 *
 * What is said is a conversation (conversation.c), which may outlive the command in a file (kept.c). Lines that begin with
 * "/" are commands. Ctrl-C ends an answer, Ctrl-D the conversation.
 */
#include "kept.h"
#include "line.h"

#include <stdlib.h>
#include <unistd.h>

enum { MAX_LINE = 1 << 20 };

struct chat {
    struct cli_session s;
    struct cli_common common;
    struct cli_sampling sampling;
    struct cli_kept kept;
    struct conversation talk;
    graft_kv_policy policy; /* of swaps */
    bool interactive;
    bool done;
    struct line_reader *lines;
};

static error_t parse_chat(int key, char *arg, struct argp_state *state)
{
    struct chat *c = state->input;
    (void)arg;
    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = &c->sampling;
        state->child_inputs[1] = &c->common.adapters;
        state->child_inputs[2] = &c->common.adapters;
        state->child_inputs[3] = &c->kept;
        state->child_inputs[4] = &c->common;
        return 0;
    }
    if (key == ARGP_KEY_END && c->common.json) {
        argp_error(state, "--json is for `graft run`; a chat is for people");
    }
    return ARGP_ERR_UNKNOWN;
}

static const struct argp_child chat_children[] = {
    {&cli_sampling_argp, 0, NULL, 0}, {&cli_adapters_argp, 0, NULL, 0},
    {&cli_auto_argp, 0, NULL, 0},     {&cli_kept_argp, 0, NULL, 0},
    {&cli_common_argp, 0, NULL, 0},   {0}};
static const struct argp chat_argp = {
    .parser = parse_chat,
    .children = chat_children,
    .doc = "Talk with a model, turn by turn. /help lists the commands. When standard input is no "
           "terminal, each of its lines is a turn.\v"
           "Examples:\n"
           "  graft chat\n"
           "  graft chat -m DIR -a coder\n"
           "  graft chat --session talk.session\n"
           "  graft chat -m Qwen/Qwen2.5-0.5B-Instruct --system-prompt \"Answer briefly.\"\n"};

/* ---- the conversation ---- */

/* What the user says now picks the adapters of the answer. */
static int route_turn(struct chat *c)
{
    const char *said = c->talk.messages[c->talk.n - 1].content;
    return cli_route(&c->s, &c->common.adapters, said, strlen(said), c->policy, c->common.quiet,
                     NULL);
}

/* The model's turn. On failure the conversation stays as it was before the user's message. */
static int take_turn(struct chat *c)
{
    struct answer answer;
    answer_init(&answer);
    int status = c->common.adapters.automatic.on ? route_turn(c) : CLI_OK;
    if (status == CLI_OK) {
        status = conversation_feed(&c->s, &c->talk, c->common.quiet, &answer);
    }
    if (status == CLI_OK) {
        status = generate_answer(&c->s, c->sampling.max_tokens, false, &answer);
    }
    bool gone = ferror(stdout) && answer.text.size > 0; /* the terminal: what was said was said */
    if (status == CLI_OK || gone) {
        putchar('\n');
        fflush(stdout);
        if (c->common.verbose) {
            generate_print_speed(&answer);
            cli_print_drafts(&c->s);
        }
        const char *said = answer.text.size > 0 ? answer.text.data : "";
        int added = conversation_add(&c->talk, "assistant", mem_strdup(NULL, said));
        status = status == CLI_OK ? added : status;
    } else {
        conversation_drop(&c->talk, c->talk.n - 1);
    }
    answer_free(&answer);
    return status;
}

static int say(struct chat *c, const char *text)
{
    int status = conversation_add(&c->talk, "user", mem_strdup(NULL, text));
    return status == CLI_OK ? take_turn(c) : status;
}

/* ---- commands ---- */

struct command {
    const char *name, *argument, *summary;
    int (*run)(struct chat *c, const char *argument);
};
static void list_commands(void);

static int command_help(struct chat *c, const char *argument)
{
    (void)c;
    (void)argument;
    list_commands();
    puts("  A line that ends with \\ goes on in the next one. Ctrl-C ends an answer.");
    return CLI_OK;
}

static int command_exit(struct chat *c, const char *argument)
{
    (void)argument;
    c->done = true;
    return CLI_OK;
}

static int command_reset(struct chat *c, const char *argument)
{
    (void)argument;
    conversation_drop(&c->talk, conversation_system(&c->talk));
    puts("(a new conversation)");
    return CLI_OK;
}

static int command_system(struct chat *c, const char *argument)
{
    conversation_drop(&c->talk, 0);
    puts("(a new conversation)");
    return argument[0] == '\0' ? CLI_OK
                               : conversation_add(&c->talk, "system", mem_strdup(NULL, argument));
}

static int command_again(struct chat *c, const char *argument)
{
    (void)argument;
    if (c->talk.n < conversation_system(&c->talk) + 2) {
        return cli_fail_text("nothing was answered yet");
    }
    conversation_drop(&c->talk, c->talk.n - 1);
    graft_sampling sampling = c->sampling.session.sampling;
    graft_error error = {0};
    sampling.seed = ++c->sampling.session.sampling.seed;
    if (graft_session_set_sampling(c->s.session, &sampling, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    return take_turn(c);
}

static int command_temp(struct chat *c, const char *argument)
{
    char *end;
    double value = strtod(argument, &end);
    if (end == argument || *end != '\0' || !(value >= 0 && value <= 100)) {
        return cli_fail_text("/temp wants a number from 0 to 100, as in /temp 0.7");
    }
    graft_error error = {0};
    c->sampling.session.sampling.temperature = (float)value;
    if (graft_session_set_sampling(c->s.session, &c->sampling.session.sampling, &error) !=
        GRAFT_OK) {
        return cli_fail(&error);
    }
    return CLI_OK;
}

/* A mix that was asked for stays: the router chooses no more. */
static int by_hand(struct chat *c, int status)
{
    c->common.adapters.automatic.on = c->common.adapters.automatic.on && status != CLI_OK;
    return status;
}

static int command_adapter(struct chat *c, const char *argument)
{
    if (argument[0] == '\0') {
        fputs("  ", stdout);
        cli_print_mix(&c->s);
        putchar('\n');
        for (size_t i = 0; i < c->s.n_adapters; i++) {
            printf("  open: %s\n", c->s.adapters[i].name);
        }
        return CLI_OK;
    }
    if (strcmp(argument, "auto") == 0) {
        c->common.adapters.automatic.on = true;
        c->common.adapters.automatic.weight = 1;
        puts("(each turn by the router)");
        return CLI_OK;
    }
    return by_hand(c, cli_swap_text(&c->s, &c->common.adapters, argument, c->policy));
}

static int command_compose(struct chat *c, const char *argument)
{
    return by_hand(c, cli_compose_text(&c->s, &c->common.adapters, argument, c->policy));
}

static int command_base(struct chat *c, const char *argument)
{
    (void)argument;
    return by_hand(c, cli_swap(&c->s, NULL, 0, c->policy));
}

/* The member that text[0..size) names: as it stands, or as one word with its quotes. */
static graft_adapter *find_member(const struct chat *c, const char *text, size_t size)
{
    char typed[CLI_WORD], word[CLI_WORD];
    const char *at = typed;
    if (size == 0 || size >= sizeof typed) {
        return NULL;
    }
    memcpy(typed, text, size);
    typed[size] = '\0';
    graft_adapter *found = cli_find_applied(&c->s, typed, size);
    if (found == NULL && cli_read_word(&at, word) == CLI_OK && *at == '\0') {
        found = cli_find_applied(&c->s, word, strlen(word));
    }
    return found;
}

/* Another weight for one member of the mix: the last word is the weight, the others name the member. */
static int command_scale(struct chat *c, const char *argument)
{
    size_t end = strlen(argument);
    while (end > 0 && strchr(" \t", argument[end - 1]) != NULL) {
        end--;
    }
    size_t begin = end;
    while (begin > 0 && strchr(" \t", argument[begin - 1]) == NULL) {
        begin--;
    }
    char number[64];
    snprintf(number, sizeof number, "%.*s", (int)(end - begin), argument + begin);
    size_t size = begin;
    while (size > 0 && strchr(" \t", argument[size - 1]) != NULL) {
        size--;
    }
    float weight;
    if (size == 0 || end - begin >= sizeof number || !cli_read_weight(number, &weight)) {
        return cli_fail_text("/scale wants an adapter and its weight, as in /scale ./coder 0.5");
    }
    graft_adapter *adapter = find_member(c, argument, size);
    if (adapter == NULL) {
        return cli_fail_text("%.*s is not applied: /adapter or /mix do that", (int)size, argument);
    }
    graft_member members[64];
    graft_mix *mix = graft_session_mix(c->s.session);
    size_t n = graft_mix_size(mix), at = 0;
    for (size_t i = 0; i < n; i++) {
        members[i] = graft_mix_member(mix, i);
        at += at == i && members[i].adapter != adapter;
    }
    members[at].weight = weight;
    int status = by_hand(c, cli_swap(&c->s, members, n, c->policy));
    graft_mix_close(&mix);
    return status;
}

static int command_kv(struct chat *c, const char *argument)
{
    if (strcmp(argument, "continue") == 0) {
        c->policy = GRAFT_KV_CONTINUE;
    } else if (strcmp(argument, "replay") == 0) {
        c->policy = GRAFT_KV_REPLAY;
    } else {
        return cli_fail_text("/kv wants continue (the next mix reads the cache as it is) or replay "
                             "(it computes it again)");
    }
    return CLI_OK;
}

/* To a file of its own, or to that of --session, which it is saved to at the end in any case. */
static int save_to(struct chat *c, const char *argument, bool replace)
{
    const char *path = argument[0] != '\0' ? argument : c->kept.path;
    if (path == NULL) {
        return cli_fail_text("/save wants a file, as in /save talk.session");
    }
    int status = kept_save_to(&c->s, &c->talk, &c->kept, path, replace);
    if (status == CLI_OK) {
        printf("(saved: %s)\n", path);
    }
    return status;
}

static int command_save(struct chat *c, const char *argument)
{
    return save_to(c, argument, false);
}

static int command_save_over(struct chat *c, const char *argument)
{
    return save_to(c, argument, true);
}

static int command_stats(struct chat *c, const char *argument)
{
    (void)argument;
    printf("  %zu of %d tokens, %.1f MB of keys and values, seed %llu\n",
           graft_session_length(c->s.session), graft_session_context(c->s.session),
           (double)graft_session_kv_bytes(c->s.session) / 1e6,
           (unsigned long long)c->sampling.session.sampling.seed);
    return CLI_OK;
}

static const struct command commands[] = {
    {"/help", "", "this list", command_help},
    {"/again", "", "answer the last message anew", command_again},
    {"/reset", "", "forget the conversation, keep the system prompt", command_reset},
    {"/system", "[TEXT]", "begin anew with this system prompt", command_system},
    {"/temp", "T", "set the temperature; 0 is greedy", command_temp},
    {"/adapter", "[ADAPTER]", "graft this adapter on, or auto; alone: what is applied",
     command_adapter},
    {"/mix", "A=W B=W", "several, with weights", command_adapter},
    {"/compose", "WAY A B", "average, interpolate=T, ... of several", command_compose},
    {"/scale", "A W", "another weight for one of them", command_scale},
    {"/base", "", "no adapter", command_base},
    {"/kv", "WAY", "at a swap, the cache: replay (default) or continue", command_kv},
    {"/save", "[FILE]", "the session, for --session", command_save},
    {"/save!", "FILE", "the same, in place of another session", command_save_over},
    {"/stats", "", "how full the context is", command_stats},
    {"/exit", "", "leave (Ctrl-D too)", command_exit},
    {NULL, NULL, NULL, NULL},
};

static void list_commands(void)
{
    for (const struct command *k = commands; k->name != NULL; k++) {
        printf("  %-8s %-9s %s\n", k->name, k->argument, k->summary);
    }
}

static int run_command(struct chat *c, const char *line)
{
    size_t length = strcspn(line, " \t");
    const char *argument = line + length + strspn(line + length, " \t");
    for (const struct command *k = commands; k->name != NULL; k++) {
        if (strlen(k->name) == length && strncmp(k->name, line, length) == 0) {
            if (k->argument[0] == '\0' && argument[0] != '\0') {
                return cli_fail_text("%s takes nothing behind it: \"%s\"", k->name, argument);
            }
            return k->run(c, argument);
        }
    }
    return cli_fail_text("no command %.*s; /help lists them", (int)length, line);
}

/* ---- lines ---- */

/* Lines joined while they end with a backslash. false: the end of the input. A turn that was given up
 * is empty. */
static bool read_turn(struct chat *c, struct buf *turn)
{
    const char *prompt = "> ", *line;
    size_t size;
    turn->size = 0;
    for (;;) {
        enum line_result result = line_read(c->lines, prompt, &line, &size);
        if (result == LINE_GIVEN_UP) {
            turn->size = 0;
            if (c->interactive) {
                cli_clear_interrupt();
            }
            return c->interactive;
        }
        if (result == LINE_END) {
            return turn->size > 0;
        }
        bool more = size > 0 && line[size - 1] == '\\';
        buf_append(turn, line, more ? size - 1 : size);
        if (!more) {
            return turn->status == GRAFT_OK;
        }
        buf_putc(turn, '\n');
        prompt = ". ";
    }
}

static int converse(struct chat *c)
{
    struct buf turn;
    int status = CLI_OK;
    buf_init(&turn, NULL, MAX_LINE);
    while (status == CLI_OK && !c->done && cli_ending() == 0 && read_turn(c, &turn)) {
        if (turn.size == 0) {
            continue;
        }
        int result = turn.data[0] == '/' ? run_command(c, turn.data) : say(c, turn.data);
        fflush(stdout); /* who talks through a pipe waits for it */
        /* A failed turn, or Ctrl-C, ends a script but not a conversation with somebody; being asked to end does both. */
        if (c->interactive) {
            cli_clear_interrupt();
        } else {
            status = result;
            c->done = c->done || cli_interrupted();
        }
    }
    if (turn.status == GRAFT_LIMIT) {
        status = cli_fail_text("a turn is longer than %d bytes", MAX_LINE);
    } else if (status == CLI_OK && cli_interrupted()) {
        status = cli_fail_text("interrupted");
    }
    buf_free(&turn);
    return status;
}

/* ---- beginning and end ---- */

static void greet(const struct chat *c)
{
    graft_model_info info;
    if (c->interactive && !c->common.quiet &&
        graft_model_describe(c->s.model, &info, NULL) == GRAFT_OK) {
        printf("%s, %.1f million parameters, context %d. /help lists commands.\n", info.path,
               (double)info.n_params / 1e6, graft_session_context(c->s.session));
        if (c->kept.restored) {
            printf("(%zu messages so far)\n", c->talk.n);
        }
    }
}

static int chat_on(struct chat *c)
{
    graft_model_info info;
    graft_error error = {0};
    if (graft_model_describe(c->s.model, &info, &error) != GRAFT_OK) {
        return cli_fail(&error);
    }
    if (!info.has_tokenizer) {
        return cli_fail_text("%s has no tokenizer", info.path);
    }
    if (!info.has_chat_template) {
        return cli_fail_text("%s has no chat template: use `graft run --raw`", info.path);
    }
    int status = kept_open(&c->s, &c->kept, &c->common, &c->sampling);
    /* There is but this session: what it swaps away shall be held by nobody. */
    graft_model_set_mix(c->s.model, NULL, NULL);
    if (status == CLI_OK) {
        status = kept_conversation(&c->s, &c->kept, c->sampling.system_prompt, &c->talk);
    }
    if (status != CLI_OK) {
        return status;
    }
    c->lines = line_open(c->interactive);
    if (c->lines == NULL) {
        return cli_fail_text("out of memory");
    }
    greet(c);
    status = converse(c);
    line_close(c->lines);
    int saved = c->kept.path != NULL && (c->talk.n > 0 || c->kept.restored)
                    ? kept_save(&c->s, &c->talk, &c->kept)
                    : CLI_OK;
    return status == CLI_OK ? saved : status;
}

int verb_chat(int argc, char **argv)
{
    struct chat chat = {.policy = GRAFT_KV_REPLAY,
                        .common.adapters = {.more_follow = true, .routable = true},
                        .kept.use = KEPT_TALK,
                        .interactive = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)};
    kept_sampling_init(&chat.sampling);
    argp_parse(&chat_argp, argc, argv, 0, NULL, &chat);
    cli_catch_interrupt();
    struct cli_session opened;
    int status = cli_open_model(&chat.common, &opened);
    if (status == CLI_OK) {
        chat.s = opened;
        status = chat_on(&chat);
        conversation_free(&chat.talk);
        kept_close(&chat.kept);
        cli_close(&chat.s);
    }
    return status;
}
