// JSON read from files: jansson behind a check of depth and size, so that a hostile file costs neither stack nor memory.
#ifndef TENON_FRONTEND_JSON_H
#define TENON_FRONTEND_JSON_H
#include <jansson.h>

#include "frontend/files.h"

// An object, or NULL with an error that says where. Duplicate keys are an error. Free with json_decref.
json_t *json_parse_object(const char *path, const char *bytes, size_t length, Diags *diags);
json_t *json_read_object(const char *path, Diags *diags);   // the whole file

#endif
