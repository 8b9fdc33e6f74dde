/* config_internal.h: what the files of this folder share. */
#ifndef GRAFT_CONFIG_INTERNAL_H
#define GRAFT_CONFIG_INTERNAL_H

#include "train/config/config.h"

enum { CONFIG_NOTES = 32, CONFIG_LIST = 64, CONFIG_BYTES = 1 << 20, CONFIG_ARENA = 16 << 20 };

struct graft_train_config {
    struct mem *mem;
    struct arena texts;
    graft_train_settings said;     /* literally */
    graft_train_settings settings; /* what that comes to */
    double scale;                  /* mlx-lm's, in place of alpha; NaN: not given */
    bool max_in_batches, eval_in_batches, save_in_batches; /* mlx-lm counts batches, not steps */
    bool ratio_given; /* by the text or the file that is being read */
    const char *notes[CONFIG_NOTES];
    size_t n_notes;
    char *json;
};

/* ---- the table (table.c) ------------------------------------------------------------------- */

enum setting_kind {
    SETTING_BOOL,   /* bool */
    SETTING_INT,    /* int */
    SETTING_LONG,   /* int64_t */
    SETTING_SEED,   /* uint64_t; that of training is that of the data, too */
    SETTING_NUMBER, /* double */
    SETTING_TEXT,   /* const char * */
    SETTING_WORD,   /* const char *, one of the choices */
    SETTING_CHOICE, /* an enumeration, by the place among the choices */
    SETTING_LIST    /* const char *const *, and size_t at `count` */
};
struct setting {
    const char *name, *aliases;
    enum setting_kind kind;
    size_t at, count; /* in graft_train_settings */
    double low, high;
    const char *choices, *meaning;
};
/* A name that does not stand for one setting as it is. */
typedef graft_status (*config_meaning)(graft_train_config *c, const char *key, const json_t *value,
                                       graft_error *error);
struct special {
    const char *names;          /* blanks between */
    const char *type, *meaning; /* NULL: as the setting of that name */
    config_meaning put;
    int turn; /* of the settings of a file lower ones are read sooner; ordinary ones have 0 */
};
const struct setting *setting_at(size_t i); /* NULL past the last */
const struct setting *setting_find(const char *key);
const struct special *special_find(const char *key);
/* NOT_FOUND with the nearest name. */
graft_status config_unknown(const char *key, graft_error *error);
/* Whether `word` is one of the words in `list`; *place: which. */
bool words_have(const char *list, const char *word, int *place);

/* ---- values (values.c) --------------------------------------------------------------------- */

graft_status setting_put(graft_train_config *c, const struct setting *s, const char *key,
                         const json_t *value, graft_error *error);
/* NULL: not set, an empty text, or no memory (*failed). */
json_t *setting_get(const graft_train_settings *settings, const struct setting *s, bool *failed);
/* Text as a value that the setting may take; NULL: no memory. */
json_t *setting_from_text(const struct setting *s, const char *text);
/* "KEY: must be WANTED, not VALUE" */
graft_status config_wrong(const char *key, const char *wanted, const json_t *value,
                          graft_error *error);
graft_status config_no_memory(graft_error *error);
graft_status config_copy(graft_train_config *c, const char *text, const char **out,
                         graft_error *error);
graft_status config_add_note(graft_train_config *c, graft_error *error, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* The setting of that name, which is in the table. */
graft_status config_put(graft_train_config *c, const char *name, const char *key,
                        const json_t *value, graft_error *error);

/* ---- others' words (special.c) ------------------------------------------------------------- */

extern const struct special specials[];
extern const size_t n_specials;

#endif
