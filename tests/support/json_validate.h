/* json_validate.h: whether a value satisfies a JSON schema, by the words of the specification (2020-12), for tests. It knows nothing of
 * how graft reads schemas, and generates nothing.
 */
#ifndef GRAFT_JSON_VALIDATE_H
#define GRAFT_JSON_VALIDATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* `why` [size] says what is not satisfied, the innermost keyword first. A keyword that it does not know is not satisfied. */
bool json_satisfies(const json_t *root, const json_t *schema, const json_t *value, char *why,
                    size_t size);

#endif
