// The main of a compiled executable: generated code defines tn_model.
#include "runtime/tenon.h"

int main(int argc, char **argv) { return tenon_program_main(&tn_model, argc, argv); }
