/* adapter.h: the verbs of `graft adapter`, one file each or a family in one, and what they share. */
#ifndef GRAFT_CLI_ADAPTER_H
#define GRAFT_CLI_ADAPTER_H

#include "cli.h"

int verb_adapter_new(int argc, char **argv);
int verb_adapter_convert(int argc, char **argv);
int verb_adapter_quantize(int argc, char **argv);
int verb_adapter_compress(int argc, char **argv);
int verb_adapter_diff(int argc, char **argv);
int verb_adapter_show(int argc, char **argv);
int verb_adapter_verify(int argc, char **argv);
int verb_adapter_list(int argc, char **argv);
int verb_adapter_add(int argc, char **argv);
int verb_adapter_stage(int argc, char **argv);
int verb_adapter_promote(int argc, char **argv);
int verb_adapter_publish(int argc, char **argv);
int verb_adapter_activate(int argc, char **argv);
int verb_adapter_rollback(int argc, char **argv);
int verb_adapter_pin(int argc, char **argv);
int verb_adapter_unpin(int argc, char **argv);
int verb_adapter_evict(int argc, char **argv);
int verb_adapter_learn(int argc, char **argv);
int verb_adapter_remove(int argc, char **argv);

/* The one adapter that a verb is about: an argp child whose input is this. Before cli_common_argp. */
struct cli_subject {
    const char *name; /* as typed */
    double scale;     /* --adapter-scale; 0: not given */
    char *path;       /* once it is located; mem_free */
    graft_adapter_id id;
};
extern const struct argp cli_subject_argp;
/* The model (without `with_model` the runtime alone) and where the adapter is. On failure nothing is open. */
int cli_open_subject(const struct cli_common *common, bool with_model, struct cli_subject *subject,
                     struct cli_session *out);
void cli_close_subject(struct cli_subject *subject, struct cli_session *s);
/* Says why an adapter was not written; Ctrl-C has words of its own. */
int cli_fail_writing(const graft_error *error);

/* The registry of the home, without a model. To change it the home is made when it is absent. */
struct cli_store {
    graft_runtime *runtime;
    graft_registry *registry;
};
int cli_open_store(struct cli_store *out, bool change);
void cli_close_store(struct cli_store *store);
/* One name as a table of its versions, or as JSON. */
int cli_print_entry(const struct cli_store *store, const char *name, bool json);

/* Bytes as people read them: "1.5 MB". */
enum { CLI_SIZE_TEXT = 32 };
void cli_size_text(uint64_t bytes, char out[CLI_SIZE_TEXT]);

#endif
