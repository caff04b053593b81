/* Half precision by bits: what the device's conversions give (emu.h). */
#include "emu.h"

float emu_from_half(uint16_t bits) {
    uint32_t sign = uint32_t(bits & 0x8000) << 16, exponent = bits >> 10 & 31, rest = bits & 1023;
    if (exponent == 0) { /* zero or denormal: rest * 2^-24 */
        float x = float(rest) * 0x1p-24f;
        return sign ? -x : x;
    }
    uint32_t out = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | rest << 13;
    float x;
    memcpy(&x, &out, sizeof x);
    return x;
}

uint16_t emu_to_half(float x) {
    uint32_t in;
    memcpy(&in, &x, sizeof in);
    uint16_t sign = uint16_t(in >> 16 & 0x8000);
    float size = std::fabs(x);
    if (size != size) return uint16_t(sign | 0x7e00);
    if (size >= 65520) return uint16_t(sign | 0x7c00); /* rounds to infinity */
    if (size < 0x1p-14f)                               /* a multiple of 2^-24; rint is to even */
        return uint16_t(sign | uint16_t(std::nearbyint(size * 0x1p24f)));
    in &= 0x7fffffff;
    in += 0xfff + (in >> 13 & 1);
    return uint16_t(sign | ((in >> 13) - (112 << 10)));
}
