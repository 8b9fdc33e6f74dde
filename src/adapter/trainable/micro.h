/* micro.h: the few ranks of an adapter that online adaptation trains, before those that it had.
 *
 * A module's factors are [fresh or earlier micro ranks | the ranks that are held]: the files hold one plain adapter, and the
 * card says how many of a module's ranks are micro ("training": {"micro": {"q_proj": 2}}), so that whoever goes on trains the
 * same ones and the rank does not grow again. Owns which ranks those are and what fresh ones begin with.
 */
#ifndef GRAFT_TRAINABLE_MICRO_H
#define GRAFT_TRAINABLE_MICRO_H

#include "adapter/save/save_internal.h"
#include "adapter/trainable/trainable.h"

struct micro {
    int64_t *trained;           /* [n_modules] ranks */
    int64_t *fresh;             /* [n_modules] of these, ranks that the files do not have */
    struct draft files;         /* as they are there */
    struct draft_module *as_is; /* its modules */
    json_t *ranks;              /* by target, for the card */
};
/* Widens the modules of a draft, whose values then come with the fresh ranks; `out` stays where it is while the draft is
 * read, and is freed by the caller, on failure too. INVALID_ARGUMENT: a target that the adapter does not have. */
graft_status micro_widen(struct draft *draft, const struct trainable_micro *how, struct micro *out,
                         graft_error *error);
void micro_free(struct mem *mem, struct micro *micro);

#endif
