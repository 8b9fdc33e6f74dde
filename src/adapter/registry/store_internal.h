/* store_internal.h: what store.c and objects.c share. */
#ifndef GRAFT_REGISTRY_STORE_INTERNAL_H
#define GRAFT_REGISTRY_STORE_INTERNAL_H

#include "registry_internal.h"

#include <dirent.h>

graft_status store_no_memory(graft_error *error);
/* "cannot VERB: reason of errno", with the file named. NOT_FOUND or IO. */
graft_status store_failed(graft_error *error, const char *verb, const char *path);

#endif
