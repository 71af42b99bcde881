# Turns the architecture templates into one C file: cmake -DOUT=architectures.c -DFILES="a.yaml;b.yaml" -P embed.cmake
set(arrays "")
set(rows "")
foreach(file ${FILES})
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
  string(APPEND arrays "static const char text_${name}[] = {\n${bytes}0};\n")
  string(APPEND rows "    {\"${name}\", text_${name}, sizeof text_${name} - 1},\n")
endforeach()
file(WRITE ${OUT} "// Made by embed.cmake from frontend/architectures/*.yaml.\n#include \"frontend/import.h\"\n\n${arrays}
const Architecture architectures[] = {\n${rows}};\nconst int architecture_count = (int)(sizeof architectures / sizeof *architectures);\n")
