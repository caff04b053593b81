/* Records: tags grouped into (institution, degree, year). */
#include "task.h"

const char *sp_field_name(enum sp_field field) {
    static const char *const name[SP_FIELD_COUNT] = {"institution", "degree", "year"};
    return name[field];
}
