# awk -v dir=runtime -f amalgamate.awk runtime/*.c: the run time as one C text, on standard output. A header of ours is put in where it is first
# included, and left out later. System headers stay as they are. `#line` is not written: the text is to be read and debugged as it is.
function put(path, name,    line, header) {
    printf "\n// ==== runtime/%s ====\n", name
    while ((getline line < path) > 0) {
        if (line ~ /^#include "runtime\//) {
            header = line
            sub(/^#include "runtime\//, "", header)
            sub(/".*/, "", header)
            if (!(header in seen)) {
                seen[header] = 1
                put(dir "/" header, header)
                printf "\n// ==== runtime/%s, continued ====\n", name
            }
        } else
            print line
    }
    close(path)
}
BEGIN {
    print "#ifndef _GNU_SOURCE\n#define _GNU_SOURCE\n#endif"
    for (i = 1; i < ARGC; i++) {
        name = ARGV[i]
        sub(/.*\//, "", name)
        put(ARGV[i], name)
    }
}
