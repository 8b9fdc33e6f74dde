/* torture_schemas.c: random schemas, and what the model that ships writes under each: every answer parses, has no name
 * twice, and satisfies its schema, by a validator that shares nothing with graft. Sampled at temperature 1 from all tokens, so that
 * nothing but the constraint keeps the answer in shape. `--long` takes 500 schemas; a number takes so many, a second one begins
 * with that seed.
 */
#include <graft/graft.h>

#include "base/base.h"
#include "support/json_validate.h"
#include "torture/require.h"

enum { DEPTH = 3, SEEDS = 2, CONTEXT = 2048 };

struct made {
    struct rng rng;
    json_t *defs;
    int n_defs, n_names;
};

static int pick(struct made *m, int n)
{
    return (int)(rng_u32(&m->rng) % (uint32_t)n);
}

static bool chance(struct made *m, int percent)
{
    return pick(m, 100) < percent;
}

static json_t *make(struct made *m, int depth);

/* ---- scalars ---- */

static json_t *make_string(struct made *m)
{
    static const char *const patterns[] = {"^[A-Z]{2}-\\d{1,4}$", "^(red|green|blue)( light)?$",
                                           "^\\w+@\\w+\\.(org|com)$", "[0-9a-f]{8}",
                                           "^[^\\s\"]{1,10}\\\\.?$|^é{2,4}$"};
    static const char *const formats[] = {"date", "time", "date-time", "uuid"};
    json_t *s = json_pack("{s:s}", "type", "string");
    switch (pick(m, 6)) {
    case 0:
        json_put(&s, "pattern", json_string(patterns[pick(m, ARRAY_LEN(patterns))]));
        break;
    case 1:
        json_put(&s, "format", json_string(formats[pick(m, ARRAY_LEN(formats))]));
        break;
    case 2:
        break; /* of any length */
    default: {
        int least = pick(m, 4);
        if (chance(m, 50)) {
            json_put(&s, "minLength", json_integer(least));
        }
        json_put(&s, "maxLength", json_integer(least + pick(m, 30)));
    }
    }
    return s;
}

static json_t *make_number(struct made *m, bool integer)
{
    json_t *s = json_pack("{s:s}", "type", integer ? "integer" : "number");
    int lo = pick(m, 2000) - 1000, width = 1 + pick(m, chance(m, 30) ? 3 : 100000);
    double scale = integer ? 1 : (double[]){1, 0.1, 0.25, 0.001}[pick(m, 4)];
#define BOUND(x) (integer ? json_integer(x) : json_real((x)*scale))
    if (chance(m, 60)) {
        json_put(&s, chance(m, 70) ? "minimum" : "exclusiveMinimum", BOUND(lo));
    }
    if (chance(m, 60)) {
        json_put(&s, chance(m, 70) ? "maximum" : "exclusiveMaximum", BOUND(lo + width + 1));
    }
#undef BOUND
    return s;
}

static json_t *make_value(struct made *m, int depth)
{
    static const char *const texts[] = {"red", "a \"quoted\" word", "é漢😀", "line\nbreak", ""};
    switch (pick(m, depth > 0 ? 7 : 5)) {
    case 0:
        return json_null();
    case 1:
        return json_boolean(pick(m, 2));
    case 2:
        return json_integer(pick(m, 100000) - 50000);
    case 3:
        return json_real(pick(m, 1000) / 8.0);
    case 4:
        return json_string(texts[pick(m, ARRAY_LEN(texts))]);
    case 5:
        return json_pack("[o,o]", make_value(m, 0), make_value(m, 0));
    default:
        return json_pack("{s:o,s:o}", "a", make_value(m, 0), "b c", make_value(m, 0));
    }
}

static json_t *make_enum(struct made *m)
{
    json_t *list = json_array();
    for (int n = 1 + pick(m, 5); n > 0; n--) {
        json_append(&list, make_value(m, 1));
    }
    return json_pack("{s:o}", "enum", list);
}

/* ---- structures ---- */

static json_t *make_array(struct made *m, int depth)
{
    json_t *s = json_pack("{s:s}", "type", "array");
    int prefix = chance(m, 25) ? 1 + pick(m, 3) : 0, least = pick(m, 3);
    if (prefix > 0) {
        json_t *list = json_array();
        for (int i = 0; i < prefix; i++) {
            json_append(&list, make(m, depth - 1));
        }
        json_put(&s, "prefixItems", list);
    }
    if (prefix == 0 || chance(m, 50)) {
        json_put(&s, "items", make(m, depth - 1));
    }
    if (chance(m, 50)) {
        json_put(&s, "minItems", json_integer(least));
    }
    if (chance(m, 70)) {
        json_put(&s, "maxItems", json_integer(least + pick(m, 4)));
    }
    return s;
}

static json_t *make_object(struct made *m, int depth)
{
    static const char *const names[] = {"name",  "age",  "names", "a",     "is \"ok\"",
                                        "größe", "tags", "n",     "value", "path\\to"};
    json_t *s = json_pack("{s:s}", "type", "object");
    json_t *properties = json_object(), *required = json_array();
    int n = pick(m, 6), first = pick(m, ARRAY_LEN(names)), n_required = 0;
    for (int i = 0; i < n; i++) {
        const char *name = names[((size_t)first + (size_t)i * 3) % ARRAY_LEN(names)];
        json_put(&properties, name, make(m, depth - 1));
        if (chance(m, 60)) {
            json_append(&required, json_string(name));
            n_required++;
        }
    }
    json_put(&s, "properties", properties);
    json_put(&s, "required", required);
    int more = pick(m, 5);
    if (more == 0) {
        json_put(&s, "additionalProperties", json_false());
    } else if (more == 1) {
        json_put(&s, "additionalProperties", make(m, 0));
        json_put(&s, "maxProperties", json_integer(n + pick(m, 3)));
    } else if (more == 2 && n > n_required) {
        json_put(&s, "minProperties", json_integer(n_required + 1));
    }
    return s;
}

/* A reference to a definition, maybe one that holds itself. */
static json_t *make_ref(struct made *m, int depth)
{
    char name[24], ref[40];
    snprintf(name, sizeof name, "d%d", m->n_defs++);
    snprintf(ref, sizeof ref, "#/$defs/%s", name);
    json_t *def;
    if (chance(m, 40)) {
        def = json_pack("{s:s,s:{s:o,s:{s:s,s:{s:s},s:i}},s:[s]}", "type", "object", "properties",
                        "v", make(m, 0), "kids", "type", "array", "items", "$ref", ref, "maxItems",
                        1, "required", "v");
    } else {
        def = make(m, depth - 1);
    }
    json_put(&m->defs, name, def);
    return json_pack("{s:s}", "$ref", ref);
}

static json_t *make_tagged(struct made *m, const char *tag, int depth)
{
    return json_pack("{s:s,s:{s:{s:s},s:o},s:[s]}", "type", "object", "properties", "kind", "const",
                     tag, "value", make(m, depth - 1), "required", "kind");
}

static json_t *make_joined(struct made *m, int depth)
{
    switch (pick(m, 5)) {
    case 0:
        return json_pack("{s:[o,o]}", "anyOf", make(m, depth - 1), make(m, depth - 1));
    case 1:
        return json_pack("{s:[o,o,o]}", "oneOf", make_tagged(m, "one", depth),
                         make_tagged(m, "two", depth), make_tagged(m, "three", depth));
    case 2:
        return json_pack("{s:[o,o,o]}", "oneOf", make_string(m), make_number(m, chance(m, 50)),
                         make_array(m, depth - 1));
    case 3:
        return json_pack("{s:[{s:{s:o},s:[s]},{s:{s:o,s:{s:s}}}],s:s}", "allOf", "properties", "x",
                         make(m, depth - 1), "required", "x", "properties", "y", make(m, depth - 1),
                         "z", "type", "boolean", "type", "object");
    default:
        return json_pack("{s:s,s:{s:o,s:o},s:[{s:[s]},{s:[s]}]}", "type", "object", "properties",
                         "p", make(m, depth - 1), "q", make(m, depth - 1), "anyOf", "required", "p",
                         "required", "q");
    }
}

static json_t *make(struct made *m, int depth)
{
    int kinds = depth > 0 ? 16 : 8;
    switch (pick(m, kinds)) {
    case 0:
    case 1:
        return make_string(m);
    case 2:
        return make_number(m, true);
    case 3:
        return make_number(m, false);
    case 4:
        return chance(m, 50) ? json_pack("{s:s}", "type", "boolean")
                             : json_pack("{s:[s,s]}", "type", "null", "integer");
    case 5:
        return make_enum(m);
    case 6:
        return json_pack("{s:o,s:s}", "const", make_value(m, 1), "title", "one value");
    case 7:
        return json_pack("{s:s,s:b,s:i}", "type", "string", "nullable", 1, "maxLength", 8);
    case 8:
    case 9:
        return make_array(m, depth);
    case 10:
        return make_ref(m, depth);
    case 11:
    case 12:
        return make_joined(m, depth);
    case 13:
        return chance(m, 30) ? json_true()
                             : json_pack("{s:s}", "type", chance(m, 50) ? "object" : "array");
    default:
        return make_object(m, depth);
    }
}

static json_t *make_schema(uint64_t seed)
{
    struct made m = {.defs = json_object()};
    rng_init(&m.rng, seed, 77);
    json_t *schema = chance(&m, 80) ? make_object(&m, DEPTH) : make(&m, DEPTH);
    if (json_is_object(schema) && m.n_defs > 0) {
        json_put(&schema, "$defs", m.defs);
    } else {
        json_decref(m.defs);
    }
    return schema;
}

/* ---- answers ---- */

struct totals {
    int schemas, answers, whole;
    size_t tokens;
    double seconds;
};

static bool gather(void *user, const graft_token *token)
{
    return buf_append(user, token->text, token->text_size);
}

static void check_answer(const json_t *schema, const char *text, const struct buf *answer,
                         uint64_t seed)
{
    json_t *value = NULL;
    graft_error error = {0};
    char why[400];
    graft_status status = json_parse(answer->data, answer->size, &value, &error);
    REQUIRE(status == GRAFT_OK, "seed %llu: %s\n%s\nis no answer to %s", (unsigned long long)seed,
            error.message, answer->data, text);
    bool ok = json_satisfies(schema, schema, value, why, sizeof why);
    REQUIRE(ok, "seed %llu: %s does not hold of\n%s\nas an answer to %s", (unsigned long long)seed,
            why, answer->data, text);
    json_decref(value);
}

static void check_schema(graft_model *model, graft_session *session, uint64_t seed,
                         struct totals *t)
{
    graft_error error = {0};
    graft_constraint *constraint = NULL;
    json_t *schema = make_schema(seed);
    char *text = schema != NULL ? json_dumps(schema, JSON_ENCODE_ANY) : NULL;
    REQUIRE(text != NULL, "seed %llu: no schema", (unsigned long long)seed);
    graft_status status =
        graft_constraint_from_schema(model, text, strlen(text), &constraint, &error);
    REQUIRE(status == GRAFT_OK, "seed %llu: %s: %s", (unsigned long long)seed, text, error.message);
    status = graft_session_set_constraint(session, constraint, &error);
    REQUIRE(status == GRAFT_OK, "%s", error.message);
    t->schemas++;
    for (uint64_t k = 0; k < SEEDS; k++) {
        struct buf answer;
        graft_sampling sampling = graft_sampling_default();
        sampling.temperature = 1;
        sampling.top_k = 0;
        sampling.top_p = 1;
        sampling.min_p = 0;
        sampling.seed = seed * SEEDS + k;
        buf_init(&answer, NULL, 1 << 20);
        status = graft_session_trim(session, 0, &error);
        REQUIRE(status == GRAFT_OK, "%s", error.message);
        status = graft_session_set_sampling(session, &sampling, &error);
        REQUIRE(status == GRAFT_OK, "%s", error.message);
        status = graft_session_prompt_text(session, "Tell me of Tom, as JSON: ", 25, &error);
        REQUIRE(status == GRAFT_OK, "%s", error.message);
        double begun = time_seconds();
        status = graft_session_generate(session, 0, gather, &answer, &error);
        t->seconds += time_seconds() - begun;
        REQUIRE(status == GRAFT_OK, "seed %llu: %s after %s\nfor %s", (unsigned long long)seed,
                error.message, answer.data, text);
        t->answers++;
        t->tokens += graft_session_length(session);
        if (graft_session_finish(session) == GRAFT_FINISH_EOS) {
            t->whole++;
            check_answer(schema, text, &answer, seed);
        } else {
            printf("seed %llu ran into the end of the context: %.200s...\n for %s\n",
                   (unsigned long long)seed, answer.data, text);
        }
        buf_free(&answer);
    }
    graft_constraint_close(&constraint);
    free(text);
    json_decref(schema);
}

int main(int argc, char **argv)
{
    int count = argc > 1 && strcmp(argv[1], "--long") == 0 ? 500 : 60;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    if (argc > 1 && argv[1][0] != '-') {
        count = (int)strtol(argv[1], NULL, 10);
    }
    graft_error error = {0};
    graft_runtime *runtime = NULL;
    graft_model *model = NULL;
    graft_session *session = NULL;
    struct totals t = {0};
    graft_runtime_options o = graft_runtime_options_default();
    o.log_level = GRAFT_LOG_ERROR; /* the context is longer than the model's: answers may be long */
    REQUIRE(graft_runtime_open(&o, &runtime, &error) == GRAFT_OK, "%s", error.message);
    REQUIRE(graft_model_open(runtime, GRAFT_SOURCE_DIR "/models/tiny", NULL, &model, &error) ==
                GRAFT_OK,
            "%s", error.message);
    graft_session_options options = graft_session_options_default();
    options.n_ctx = CONTEXT;
    REQUIRE(graft_session_open(model, &options, &session, &error) == GRAFT_OK, "%s", error.message);
    for (int i = 0; i < count; i++) {
        check_schema(model, session, first + (uint64_t)i, &t);
    }
    graft_session_close(&session);
    graft_model_close(&model);
    graft_runtime_close(&runtime);
    printf("%d schemas, %d answers, %d of them whole and valid; %zu tokens, %.0f per second\n",
           t.schemas, t.answers, t.whole, t.tokens, (double)t.tokens / t.seconds);
    return t.whole == t.answers ? 0 : 1;
}
