/* Bugs that a run of a check has on request, so that tests/emu/planted can see whether it fails:
 * $EMU_PLANTED is "barrier FILE:LINE" (not there), "shared FILE:LINE" (that launch gets four bytes
 * less), or "code NAME" (SP_PLANTED in a kernel). With "list", each place of a barrier or a launch
 * with shared memory is told when it is first reached. */
#include "emu.h"

#include <cstdio>
#include <cstdlib>
#include <set>
#include <string>

namespace {

struct plant {
    std::string kind, name, file;
    int line = 0;
};

plant read_plant() {
    plant p;
    const char *text = getenv("EMU_PLANTED");
    std::string all = text ? text : "";
    size_t space = all.find(' '), colon = all.rfind(':');
    p.kind = all.substr(0, space);
    if (space != std::string::npos) p.name = all.substr(space + 1);
    if (colon != std::string::npos && space < colon) {
        p.file = all.substr(space + 1, colon - space - 1);
        p.line = atoi(all.c_str() + colon + 1);
    }
    return p;
}
const plant planted = read_plant();

std::string base_of(const char *file) {
    const char *slash = strrchr(file, '/');
    return slash ? slash + 1 : file;
}

} // namespace

bool emu_planted_at(const char *kind, const char *file, int line) {
    if (planted.kind.empty()) return false;
    if (planted.kind == "list") {
        static std::set<std::string> told;
        std::string site = std::string(kind) + " " + base_of(file) + ":" + std::to_string(line);
        if (told.insert(site).second) printf("# site %s\n", site.c_str());
        return false;
    }
    return planted.line == line && planted.kind == kind && planted.file == base_of(file);
}

bool emu_planted(const char *name) {
    return planted.kind == "code" && planted.name == name;
}
