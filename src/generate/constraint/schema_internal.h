/* schema_internal.h: what the files that make grammars of JSON schemas share. Not for other folders, nor for the matcher.
 *
 * Each part of a schema that describes a value of its own becomes a rule, made in the order of a queue, so that neither recursion by
 * $ref nor depth needs a stack. What an expression generates always satisfies its schema; it may be less than the schema
 * allows (docs/constrained-output.md says where). What cannot be held to is refused by name.
 */
#ifndef GRAFT_SCHEMA_INTERNAL_H
#define GRAFT_SCHEMA_INTERNAL_H

#include "constraint_internal.h"

enum {
    ANY_DEPTH = 8,     /* arrays and objects in each other where a schema says nothing of them */
    SCHEMA_DEPTH = 32, /* anyOf, allOf and $ref in each other without a value between them */
    NUMBER_DIGITS = 15 /* of a number without bounds: doubles tell all of them apart */
};

enum json_kind {
    KIND_NULL = 1,
    KIND_BOOLEAN = 2,
    KIND_INTEGER = 4,
    KIND_NUMBER = 8, /* integers too */
    KIND_STRING = 16,
    KIND_ARRAY = 32,
    KIND_OBJECT = 64,
    KIND_ANY = 127
};

struct pending {
    json_t *schema;
    char *place; /* in the builder's arena */
    int32_t rule;
};
struct schema {
    struct builder *b;
    json_t *root;
    json_t *made; /* array of merged schemas, which live as long as this */
    size_t made_size;
    struct pending *queue;
    size_t n_queue, n_done, queue_room;
    struct str_map refs; /* rule by $ref */
    const char *place;   /* of what is being compiled: "#/properties/name" */
    int depth;
    int32_t any[ANY_DEPTH + 1], space, string, key,
        key_rest; /* rules made at their first use; -1 */
    int32_t character;
};

/* ---- schema.c ---- */

/* UNSUPPORTED, naming the keyword and the place; returns -1. */
expr_id schema_refuse(struct schema *s, const char *keyword, const char *why);
expr_id schema_wrong(struct schema *s, const char *keyword, const char *why); /* FORMAT */
/* The rule of a schema that stands at `place` + `more`. */
int32_t schema_rule(struct schema *s, json_t *schema, const char *more);
/* Keeps what was made, or says that there was no memory; takes the reference. */
json_t *schema_keep(struct schema *s, json_t *value);
/* A copy of an object or array with the same members; NULL: no memory. */
json_t *schema_copy(json_t *value);
bool schema_is_annotation(const char *keyword);
/* A whole number from 0 on, REPEAT_MAX at most (more is cut to it); `absent` where there is none. -1 after an error. */
int64_t schema_count(struct schema *s, const json_t *schema, const char *keyword, int64_t absent);
/* Kinds by `type`, KIND_ANY where there is none; 0: an error, or no kind at all. */
int schema_kinds(struct schema *s, const json_t *schema);
/* Kinds that are generated: without a `type` those that the other keywords speak of. */
int schema_generated_kinds(struct schema *s, const json_t *schema);
expr_id schema_space(struct schema *s); /* what may stand between tokens of JSON */
expr_id schema_colon(struct schema *s);
/* One constant value. */
expr_id schema_constant(struct schema *s, const json_t *value, int depth);
/* JSON of any kind, ANY_DEPTH - `depth` deep at most. */
expr_id schema_any(struct schema *s, int kinds, int depth);

/* ---- schema_text.c, schema_pattern.c ---- */

expr_id schema_string(struct schema *s, const json_t *schema);
expr_id schema_any_string(struct schema *s);
/* A string literal with its quotes. */
expr_id schema_text(struct schema *s, const char *text, size_t size);
/* Code points within a JSON string, escaped where they have to be. */
expr_id schema_characters(struct builder *b, const struct range *ranges, size_t n, bool negated);
/* The whole of a text by a regular expression, without quotes. */
expr_id schema_pattern(struct schema *s, const char *pattern, size_t size);

/* ---- schema_number.c ---- */

expr_id schema_number(struct schema *s, const json_t *schema, bool integer);

/* ---- schema_object.c ---- */

expr_id schema_object(struct schema *s, const json_t *schema);
expr_id schema_array(struct schema *s, const json_t *schema);
/* A name that no other of its object has, with its quotes. */
expr_id schema_free_name(struct schema *s);

/* ---- schema_merge.c ---- */

/* The schema that a $ref names; NULL after an error. */
json_t *schema_resolve(struct schema *s, const char *ref);
/* The schema without $ref and allOf: one object, or true or false; NULL after an error. Borrowed from `s`. */
json_t *schema_flatten(struct schema *s, json_t *schema, int depth);
/* What satisfies both; NULL after an error. Borrowed from `s`. */
json_t *schema_merge(struct schema *s, json_t *a, json_t *b);
/* Whether nothing that is generated for one of two flat schemas satisfies the other, as far as that can be seen. */
bool schema_apart(struct schema *s, json_t *a, json_t *b, int depth);

#endif
