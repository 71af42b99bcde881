// A model's parameters: how many there are, what sharing saves, and which tensors they come from.
#ifndef TENON_DRIVER_PARAMETERS_H
#define TENON_DRIVER_PARAMETERS_H
#include "frontend/frontend.h"

// Elements and bytes as stored, of tensors alone (numbers that the description itself gives are few). `used` counts a weight once for each
// operand of main that it is: what there would be if nothing were shared.
typedef struct { int tensors; uint64_t elements, bytes, used_elements, used_bytes; } Parameters;
Parameters parameters_count(const Module *module);

void parameters_line(const Model *model, Text *out);   // in words
void parameters_json(const Model *model, Text *out);   // an object: the counts, and each tensor's name, type, shape and use
#endif
