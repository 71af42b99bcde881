// JSON read from files: depth and number of values are counted before jansson builds anything, because each of its values takes some fifty
// bytes and "[[[[" or "0,0,0," would turn a small file into a large tree.
#include "frontend/json.h"

enum { MAX_DEPTH = 64, MAX_VALUES = 4000000 };

static bool json_is_modest(const char *path, const char *bytes, size_t length, Diags *diags) {
    int depth = 0;
    int64_t values = 0;
    bool quoted = false;
    for (size_t i = 0; i < length; i++) {
        char c = bytes[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
            continue;
        }
        quoted = c == '"';
        depth += c == '[' || c == '{' ? 1 : c == ']' || c == '}' ? -1 : 0;
        values += c == '[' || c == '{' || c == ',';
        if (depth > MAX_DEPTH || values > MAX_VALUES) {
            diag_error(diags, FILE_LOC(path), depth > MAX_DEPTH ? "JSON is nested deeper than %d" : "JSON has more than %d values",
                       depth > MAX_DEPTH ? MAX_DEPTH : MAX_VALUES);
            return false;
        }
    }
    return true;
}

json_t *json_parse_object(const char *path, const char *bytes, size_t length, Diags *diags) {
    if (!json_is_modest(path, bytes, length, diags))
        return NULL;
    json_error_t error;
    json_t *root = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        diag_error(diags, ((Loc){.file = path, .line = error.line > 0 ? error.line : 0, .column = error.column > 0 ? error.column : 0}),
                   "is not valid JSON: %s", error.text);
        return NULL;
    }
    if (json_is_object(root))
        return root;
    diag_error(diags, FILE_LOC(path), "is not a JSON object");
    json_decref(root);
    return NULL;
}

json_t *json_read_object(const char *path, Diags *diags) {
    MappedFile file;
    if (!file_map(&file, path, diags))
        return NULL;
    json_t *root = NULL;
    if (file.size == 0)
        diag_error(diags, FILE_LOC(path), "is empty");
    else
        root = json_parse_object(path, (const char *)file.bytes, (size_t)file.size, diags);
    file_unmap(&file);
    return root;
}
