"""Varied lines of text for comparing tokenizers: the same for the same seed. Used by make_tokens.py
(the small committed vectors) and check_tokens.py (the large comparison by hand)."""
import random
import unicodedata

SAMPLES = """\
The quick brown fox jumps over the lazy dog, isn't it? They're sure we've won; I'll say he'd go, I'm 's.
'Tis 'twas rock'n'roll O'Brien's l'été d'accord ''s 't'll '' ' 'S 'T 'RE DON'T
University of Example, B.Sc. (Hons) in Computer Science, 2014 - 2018; M.Sc. 09/2018–07/2020 GPA 3.87/4.0
Universität Zürich, Fakultät für Maßstäbe: Größe, Straße, Äpfel, ÖL, ẞ
Université Paris-Sud, École normale supérieure – Diplôme d'ingénieur, œuvre, Noël, garçon
Universidad de Córdoba: ¿Qué año? ¡Mañana! niño, pingüino, ª º
Università degli Studi, Università, perché, città; Universidade de São Paulo, coração
Uniwersytet Łódzki, Zażółć gęślą jaźń; Čeština, Příliš žluťoučký kůň; Magyar: árvíztűrő tükörfúrógép
İstanbul Üniversitesi, ığdır, ŞEHİR; Română: Științe, înțeles; Íslenska: þórður ðæð; Føroyskt
Tiếng Việt: Đại học Quốc gia Hà Nội, Nguyễn Thị Ánh, ở Việt Nam, phở
Ελληνικά: Πανεπιστήμιο Αθηνών, ΟΔΥΣΣΕΥΣ, ἄνθρωπος, ᾧ, ΐ
Русский: Московский государственный университет, ёлка, Йод; Українська: їжак, ґанок; Ѝ Ѓ Ќ
עברית: הָאוּנִיבֶרְסִיטָה הָעִבְרִית, שָׁלוֹם; ﬡ שׁ
العربية: جَامِعَةُ القَاهِرَة، ٢٠١٤–٢٠١٨، لا إله؛ أحمد؟ فارسی: دانشگاه تهران ۱۳۹۵، می‌خواهم
हिन्दी: दिल्ली विश्वविद्यालय, क़लम ख़ान ज़रा फ़िल्म ड़ ढ़, १२३; বাংলা: বিশ্ববিদ্যালয় ড় ঢ় য় কো; தமிழ்: பல்கலைக்கழகம் கொ கோ
ਪੰਜਾਬੀ: ਸ਼ ਖ਼ ਗ਼; ଓଡ଼ିଆ; ಕನ್ನಡ: ಕೊ ಕೋ; മലയാളം: സർവകലാശാല കൊ; සිංහල: විශ්වවිද්‍යාලය කො; తెలుగు
ไทย: จุฬาลงกรณ์มหาวิทยาลัย น้ำ; ລາວ: ມະຫາວິທະຍາໄລ; မြန်မာ: တက္ကသိုလ် ဦ; ខ្មែរ: សាកលវិទ្យាល័យ; བོད་ཡིག: གཙོ་བོ། གྷ ཱི ྲྀ
中文：北京大学，计算机科学硕士，2014年9月—2018年7月。「清華大學」、漢字；豈 更 車 𠀀 𪜀 丽 〇
日本語：東京大学で学士号を取得しました。がぎぐげご パピプペポ ヴ ﾊﾟﾋﾟ ｶﾞ １２３ＡＢＣ ㍿ ㌔
한국어: 서울대학교 컴퓨터공학부 졸업, 각 힣 값; ㄱㄴㄷ ㅏㅑ
ქართული: უნივერსიტეტი ᲐᲑᲒ; Հայերեն: համալսարան և; አማርኛ: ዩኒቨርሲቲ ፲፪; ᏣᎳᎩ Ꭰ ꭰ; ᠮᠣᠩᠭᠣᠯ; ⵜⴰⵎⴰⵣⵉⵖⵜ
𝐌𝐚𝐭𝐡 𝔘𝔫𝔦 ℝ ℵ₀ ∑∫√∞≠≤≥ ½ ¾ x² H₂O Ⅷ ⅳ ① ⒈ ㊿ 𐄇 𒐀 Ω K Å ≯ ≮ ∉ ⟨x⟩ ∀x∃y
👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ☺️ ✂︎ 🤷🏿‍♀️ 😀😃😄 🫠 🪿 1️⃣ #️⃣ ❤️‍🔥 🧑🏻‍💻
def f(x):\n    return [i ** 2 for i in range(10)]  # ünïcode\n\tif (a && b) { printf("%d\\n", x->y); }
for (int i=0;i<n;i++){a[i]+=b[i]*c;} // 0xFF 1e-9 3.14159 1,000,000.00 $12.50 50% C++ C# .NET
https://www.example.org/~user/path?q=a%20b&lang=en#frag ftp://x.y:8080/ me.you+tag@mail.example.co.uk @handle #tag
SELECT * FROM t WHERE a='b''s' AND c IS NOT NULL; -- comment; {"k": [1, 2.5, null], "é": "\\u00e9"}
<|endoftext|> a<|endoftext|>b <|padding|><|endoftext|> <|endoftext <|END|> [CLS] a [SEP] [MASK]b[PAD] [UNK] [cls] [Mask]
+1 (555) 123-4567 · 2014/09–2018/07 · 31.12.1999 · '14-'18 · Sept. 2014 – present · bis heute · à ce jour
I II III IV 1st 2nd 3rd Ph.D. M.B.A. e.g. i.e. vs. etc... ?!?! --- *** ~~~ === >>> <<< ||| \\\\ //// ____
""".split("\n")[:-1]

SPACES = [" ", "  ", "   ", " " * 7, " " * 23, " " * 24, " " * 25, " " * 26, " " * 51, "\t", "\t\t",
          "\n", "\n\n", "\n\n\n", "\r\n", " \n", "\n ", "  \n\n  ", "\u00a0", "\u00a0 ", "\u3000",
          "\u2003", "\u2000", "\u2028", "\u2029", "\u1680", "\u202f", "\u205f", "\x0b", "\x0c",
          "\x85", "\x1c", " \u00a0\t ", "\u200b", "\ufeff", "\u2060", "\u180e"]
CONTROLS = ["\x00", "\x01", "\x07", "\x08", "\x1b[31m", "\x7f", "\x80", "\x9f", "\xad", "\ufffd",
            "\u200d", "\u200c", "\u202e", "\u2066", "\ue000", "\U000f0000", "\U000e0001", "\ufff9",
            "\ufffe", "\U0001ffff"]
MARKS = ["\u0301", "\u0300", "\u0323", "\u0308", "\u0327", "\u0338", "\u20e3", "\u0345", "\u0344",
         "\u0340", "\u0343", "\u3099", "\u309a", "\u093c", "\u05b7", "\u05bc", "\u064b", "\u0651",
         "\u0e34", "\u1dce", "\U0001d165", "\U0001d16d", "\u0f71", "\u0f72", "\u302e", "\ufe0f",
         "\u034f", "\u1161", "\u11a8", "\u09be", "\u0bbe", "\u0dca", "\u102e", "\U00011930"]
ADDED = ["<|endoftext|>", "<|padding|>", "<|endoftext|", "|endoftext|>", "[CLS]", "[SEP]", "[MASK]",
         "[PAD]", "[UNK]", "[MASK", "<mask>", "<one two>", "<solo>", "<été>", "<ÉTÉ>", "<pad>"]
RANGES = [(0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x36F), (0x370, 0x52F), (0x530, 0x6FF),
          (0x700, 0x97F), (0x980, 0xDFF), (0xE00, 0x109F), (0x10A0, 0x13FF), (0x1400, 0x1AFF),
          (0x1B00, 0x1FFF), (0x2000, 0x2BFF), (0x2C00, 0x33FF), (0x3400, 0x9FFF), (0xA000, 0xABFF),
          (0xAC00, 0xD7FF), (0xF900, 0xFFFF), (0x10000, 0x14FFF), (0x16000, 0x1BFFF),
          (0x1D000, 0x1FBFF), (0x20000, 0x323AF), (0x1100, 0x11FF), (0x0, 0x10FFFF)]


def scalar(rng, low, high):
    while True:
        cp = rng.randint(low, high)
        if not 0xD800 <= cp <= 0xDFFF:
            return chr(cp)


def word(rng):
    kind = rng.randrange(10)
    if kind < 4:
        return rng.choice(rng.choice(SAMPLES).split() or ["a"])
    if kind == 4:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
                       for _ in range(rng.randint(1, 12)))
    if kind == 5:
        return "".join(rng.choice("0123456789.,-/:%") for _ in range(rng.randint(1, 10)))
    if kind == 6:
        low, high = rng.choice(RANGES)
        return "".join(scalar(rng, low, high) for _ in range(rng.randint(1, 6)))
    if kind == 7:
        base = rng.choice("aeouAEOnNcC=<\u0915\u304b\u1100\u1112 ")
        return base + "".join(rng.choice(MARKS) for _ in range(rng.randint(1, 4)))
    if kind == 8:
        return rng.choice(ADDED)
    return rng.choice(CONTROLS)


def mixed(rng):
    parts = []
    for _ in range(rng.randint(1, 14)):
        parts.append(word(rng))
        r = rng.random()
        if r < 0.55:
            parts.append(" ")
        elif r < 0.8:
            parts.append(rng.choice(SPACES))
    return "".join(parts)


def long_line(rng):
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice("aéж中🙂.0-") * rng.randint(60, 400)
    if kind == 1:
        return "".join(rng.choice("abcdefghij") for _ in range(rng.randint(95, 300)))
    if kind == 2:
        return " " * rng.randint(1, 120) + rng.choice(["", "x", "\n", "."])
    if kind == 3:
        return "\n" * rng.randint(1, 60) + rng.choice(["", "x", " ", " x"])
    if kind == 4:
        return "e" + "".join(rng.choice(MARKS) for _ in range(rng.randint(20, 90))) + "a"
    return "".join(word(rng) for _ in range(40))


def line(rng):
    r = rng.random()
    text = rng.choice(SAMPLES).replace("\\n", "\n").replace("\\t", "\t")
    if r < 0.1:
        return text
    if r < 0.25:
        form = rng.choice(["NFC", "NFD", "NFKC", "NFKD"])
        return unicodedata.normalize(form, text)
    if r < 0.35:
        at = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        return text[at[0]:at[1]]
    if r < 0.42:
        chars = list(text)
        for _ in range(rng.randint(1, 6)):
            chars.insert(rng.randrange(len(chars) + 1),
                         rng.choice(MARKS + CONTROLS + SPACES + ADDED))
        return "".join(chars)
    if r < 0.45:
        return rng.choice([text.upper(), text.lower(), text.title(), text.swapcase()])
    if r < 0.48:
        return long_line(rng)
    return mixed(rng)


def lines(n, seed):
    rng = random.Random(seed)
    fixed = ["", " ", "\n", "a", "\u00e9", "e\u0301", "\u4e2d", "\x00", "\ufffd",
             "\ufeff"] + [s.replace("\\n", "\n") for s in SAMPLES]
    out = fixed[:n]
    while len(out) < n:
        out.append(line(rng))
    return out


def byte_spans(text, offsets):
    """Offsets in code points as offsets in bytes."""
    at = [0]
    for c in text:
        at.append(at[-1] + len(c.encode()))
    return [[at[a], at[b]] for a, b in offsets]
