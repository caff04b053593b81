#!/usr/bin/env python3
"""Writes lib/token_unicode.c: where the Unicode tables of Hugging Face's tokenizers are others than
those of the system's utf8proc. Needs the Python package tokenizers and libutf8proc.

    make_unicode.py > lib/token_unicode.c
"""
import ctypes
import ctypes.util

from tokenizers import normalizers, pre_tokenizers
from tokenizers.normalizers import BertNormalizer

utf8proc = ctypes.CDLL(ctypes.util.find_library("utf8proc") or "libutf8proc.so.2")
utf8proc.utf8proc_get_property.restype = ctypes.POINTER(ctypes.c_int16)
utf8proc.utf8proc_version.restype = ctypes.c_char_p
utf8proc.utf8proc_unicode_version.restype = ctypes.c_char_p

LETTERS, NUMBERS, MN, PUNCTUATION, FORMATS = (range(1, 6), range(9, 12), 6, range(12, 19),
                                              range(26, 30))
ALONE = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
clean = BertNormalizer(**{**ALONE, "clean_text": True})
strip = BertNormalizer(**{**ALONE, "strip_accents": True})
lower = BertNormalizer(**{**ALONE, "lowercase": True})
bert, nfd = pre_tokenizers.BertPreTokenizer(), normalizers.NFD()
byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)

COMMENTS = {
    "letters": "letters to its pattern, of no category here",
    "numbers": "numbers to its pattern, of no category here",
    "kept": "control or format characters here, not to its cleaning",
    "unmarked": "non-spacing marks here, not to its stripping of accents",
    "marked": "the other way around",
    "unpunctuated": "punctuation here, not to it",
    "punctuated": "the other way around",
    "unordered": "marks with a combining class here, without one to its normalisation",
}


def ranges(found):
    out = []
    for cp in found:
        if out and out[-1][1] == cp - 1:
            out[-1][1] = cp
        else:
            out.append([cp, cp])
    return out


def reorders(c, class_):
    """Does the canonical order move c, of this class here, over a mark that it should move over?"""
    if class_ < 240:
        return nfd.normalize_str("\u0345" + c) == nfd.normalize_str(c) + "\u0345"
    return nfd.normalize_str(c + "\u0334") == "\u0334" + nfd.normalize_str(c)


def look():
    found, lowered = {name: [] for name in COMMENTS}, []
    for cp in range(0x80, 0x110000):
        if 0xD800 <= cp <= 0xDFFF or cp == 0xFFFD:
            continue
        c, category = chr(cp), utf8proc.utf8proc_category(cp)
        if category == 0 and len(byte_level.pre_tokenize_str("a" + c)) == 1:
            found["letters"].append(cp)
        if category == 0 and len(byte_level.pre_tokenize_str("0" + c)) == 1:
            found["numbers"].append(cp)
        if category in FORMATS and clean.normalize_str(c):
            found["kept"].append(cp)
        is_mark = strip.normalize_str(c) == ""
        if is_mark != (category == MN):
            found["marked" if is_mark else "unmarked"].append(cp)
        is_punctuation = len(bert.pre_tokenize_str("a" + c + "b")) == 3
        if is_punctuation != (category in PUNCTUATION):
            found["punctuated" if is_punctuation else "unpunctuated"].append(cp)
        class_ = utf8proc.utf8proc_get_property(cp)[1]
        if class_ and not reorders(c, class_):
            found["unordered"].append(cp)
        small = lower.normalize_str(c)
        if len(small) == 1 and ord(small) != utf8proc.utf8proc_tolower(cp):
            lowered.append((cp, ord(small)))
    return found, lowered


def main():
    found, lowered = look()
    print("/* Where the Unicode tables of `tokenizers` are others than those of utf8proc %s "
          "(Unicode %s): its"
          % (utf8proc.utf8proc_version().decode(), utf8proc.utf8proc_unicode_version().decode()))
    print(" * parts are of different ages, and ids have to be the same. Made by "
          "tests/golden/make_unicode.py;")
    print(" * not to be edited. */")
    print('#include "token.h"\n\nstruct range {\n    uint32_t first, last;\n};\n')
    for name, comment in COMMENTS.items():
        print("/* %s */\nstatic const struct range %s[] = {"
              % (comment[0].upper() + comment[1:], name))
        print("    " + " ".join("{0x%X, 0x%X}," % tuple(r) for r in ranges(found[name])) + "\n};\n")
    print("/* Lower case that is missing here. */\nstatic const struct {\n"
          "    uint32_t upper, lower;\n} lowered[] = {")
    print("    " + " ".join("{0x%X, 0x%X}," % pair for pair in lowered) + "\n};\n")
    print("static const struct {\n    const struct range *range;\n    size_t n;\n} lists[] = {")
    for name in COMMENTS:
        print("    [SP_UNICODE_%s] = {%s, sizeof %s / sizeof *%s},"
              % (name.upper(), name, name, name))
    print("""};

bool sp_unicode_in(enum sp_unicode_list list, uint32_t cp) {
    size_t low = 0, high = lists[list].n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct range *r = &lists[list].range[mid];
        if (cp < r->first)
            high = mid;
        else if (cp > r->last)
            low = mid + 1;
        else
            return true;
    }
    return false;
}

uint32_t sp_unicode_lower(uint32_t cp) {
    for (size_t i = 0; i < sizeof lowered / sizeof *lowered; i++)
        if (lowered[i].upper == cp) return lowered[i].lower;
    return cp;
}""")


if __name__ == "__main__":
    main()
