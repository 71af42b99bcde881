// --quant auto: formats by measured sensitivity.
#ifndef TENON_DRIVER_CHOOSE_H
#define TENON_DRIVER_CHOOSE_H
#include "driver/build.h"
// Where the options ask for it, measures and puts options with --bits in place of the build's; prints what was chosen on standard error.
bool build_choose(Build *build, const char *path, Diags *diags);
#endif
