/* registry_script.h: an endless list of changes of a registry, and what the registry must look like after each.
 *
 * Step k is a function of k alone and makes exactly one generation, so that an index of generation g must list
 * what a plain model lists after g steps, whoever made them and whatever happened in between.
 */
#ifndef GRAFT_REGISTRY_SCRIPT_H
#define GRAFT_REGISTRY_SCRIPT_H

#include "torture/require.h"
#include "unit/registry_fixture.h"

/* An open registry on `home`; ends the process where it cannot be opened. */
struct registry *script_open(struct fake_loader *loader, const char *home, size_t budget);
/* FOLDER/adapter_config.json with the text; FOLDER is made. */
void script_adapter(const char *folder, const char *text);
/* Does step k, with adapters to be added written to `folder`. */
void script_step(struct registry *registry, const char *folder, uint64_t k);
/* What is listed after g steps; free it. */
char *script_expected(uint64_t g);
/* What is listed; checks that every version's files are whole. NULL: the registry says why not in *error. */
char *script_listed(struct registry *registry, graft_error *error);

#endif
