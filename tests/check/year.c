/* Years as CVs print them. */
#include "../../lib/task.h"
#include "check.h"

#define NOW SP_YEAR_PRESENT

static const struct {
    const char *text;
    int start, end;
} cases[] = {
    /* one year */
    {"2014", 0, 2014},
    {"(2014)", 0, 2014},
    {"June 2014", 0, 2014},
    {"06/2014", 0, 2014},
    {"01.06.2014", 0, 2014},
    {"class of 1998", 0, 1998},
    {"Expected May 2027", 0, 2027},
    {"2014 (expected)", 0, 2014},
    {"'99", 0, 1999},
    {"\xe2\x80\x99"
     "14",
     0, 2014},
    {"99", 0, 1999},
    {"14", 0, 2014},
    {"2015-09", 0, 2015},
    {"2015-09-01", 0, 2015},
    {"2015/9/1", 0, 2015},
    {"20150901", 0, 2015},
    {"201509", 0, 2015},
    {"09/14", 0, 2014},
    {"Sept. 14", 0, 2014},
    {"until 2018", 0, 2018},
    {"bis 2018", 0, 2018},
    {"– 2018", 0, 2018},
    {"1652", 0, 1652},
    {"２０１４", 0, 2014},
    {"٢٠١٤", 0, 2014},
    {"2014年", 0, 2014},
    /* a range */
    {"2011 – 2015", 2011, 2015},
    {"2011-2015", 2011, 2015},
    {"2011—2015", 2011, 2015},
    {"2011 -- 2015", 2011, 2015},
    {"2011 to 2015", 2011, 2015},
    {"2011/2015", 2011, 2015},
    {"2011\n2015", 2011, 2015},
    {"Sept. 2011 - Aug 2015", 2011, 2015},
    {"09/2011 - 08/2015", 2011, 2015},
    {"01.09.2011 - 31.08.2015", 2011, 2015},
    {"2011-09 - 2015-06", 2011, 2015},
    {"2011/09 – 2015/06", 2011, 2015},
    {"2011-09-01 – 2015-06-30", 2011, 2015},
    {"20110901-20150630", 2011, 2015},
    {"201109 - 201506", 2011, 2015},
    {"2014-18", 2014, 2018},
    {"2014–18", 2014, 2018},
    {"2014/18", 2014, 2018},
    {"2014 - 18", 2014, 2018},
    {"2004 - 08", 2004, 2008},
    {"2009-10", 2009, 2010},
    {"2008/09", 2008, 2009},
    {"1999/00", 1999, 2000},
    {"1998-02", 0, 1998},
    {"'11 - '15", 2011, 2015},
    {"’98–’02", 1998, 2002},
    {"14-18", 2014, 2018},
    {"20142018", 2014, 2018},
    {"20182014", 0, 0},
    {"09/14 - 06/18", 2014, 2018},
    {"Sep 14 - Jun 18", 2014, 2018},
    {"Oct. '14 – Jul. '18", 2014, 2018},
    {"2011 - 2013, 2014 - 2016", 2011, 2016},
    {"2022 – 2026 (expected)", 2022, 2026},
    {"2013年9月 - 2017年6月", 2013, 2017},
    {"de 2011 à 2015", 2011, 2015},
    {"von 2011 bis 2015", 2011, 2015},
    {"from 2011 to 2015", 2011, 2015},
    {"2011 ~ 2015", 2011, 2015},
    {"2011 → 2015", 2011, 2015},
    /* still going on */
    {"2020 – Present", 2020, NOW},
    {"Sept. 2014 - present", 2014, NOW},
    {"2020-PRESENT", 2020, NOW},
    {"2020 - pres.", 2020, NOW},
    {"2020 to date", 2020, NOW},
    {"2020 till now", 2020, NOW},
    {"2020 - current", 2020, NOW},
    {"2020 – ongoing", 2020, NOW},
    {"2020 (in progress)", 2020, NOW},
    {"2020 –", 2020, NOW},
    {"2020 - ?", 2020, NOW},
    {"2020->", 2020, NOW},
    {"2011-2013, 2020 - present", 2011, NOW},
    {"2016 - 2018 (present address: X)", 2016, 2018},
    {"since 2020", 2020, NOW},
    {"Since Sept. 2020", 2020, NOW},
    {"(since 2020)", 2020, NOW},
    {"2020 onwards", 2020, NOW},
    {"seit 2020", 2020, NOW},
    {"Seit 10/2020", 2020, NOW},
    {"ab 2020", 2020, NOW},
    {"10/2020 – heute", 2020, NOW},
    {"2020 - laufend", 2020, NOW},
    {"2020 - aktuell", 2020, NOW},
    {"depuis 2020", 2020, NOW},
    {"2020 – aujourd'hui", 2020, NOW},
    {"2020 – aujourd’hui", 2020, NOW},
    {"2020 à ce jour", 2020, NOW},
    {"2020 - en cours", 2020, NOW},
    {"2020 - pre\xcc\x81sent", 2020, NOW},
    {"desde 2020", 2020, NOW},
    {"2020 - actualidad", 2020, NOW},
    {"2020 – Actualmente", 2020, NOW},
    {"2020 a la fecha", 2020, NOW},
    {"2020 - até o momento", 2020, NOW},
    {"2020 – atual", 2020, NOW},
    {"2020 - oggi", 2020, NOW},
    {"2020 – in corso", 2020, NOW},
    {"dal 2020", 2020, NOW},
    {"2020 - heden", 2020, NOW},
    {"2020 - nu", 2020, NOW},
    {"sinds 2020", 2020, NOW},
    {"sedan 2020", 2020, NOW},
    {"2020 – nuvarande", 2020, NOW},
    {"2020 – nåværende", 2020, NOW},
    {"2020 – pågående", 2020, NOW},
    {"od 2020", 2020, NOW},
    {"2020 – obecnie", 2020, NOW},
    {"2020 – současnost", 2020, NOW},
    {"2020 – jelenleg", 2020, NOW},
    {"2020 – σήμερα", 2020, NOW},
    {"2020 – ΣΗΜΕΡΑ", 2020, NOW},
    {"2020 - halen", 2020, NOW},
    {"2020 - devam ediyor", 2020, NOW},
    {"2020 – по настоящее время", 2020, NOW},
    {"2020 – н.в.", 2020, NOW},
    {"2020 – дотепер", 2020, NOW},
    {"с 2020", 2020, NOW},
    {"2020年9月至今", 2020, NOW},
    {"2020年 - 現在", 2020, NOW},
    {"2020년 - 현재", 2020, NOW},
    {"2020年から", 2020, NOW},
    {"2020 – sekarang", 2020, NOW},
    {"2020 – hiện tại", 2020, NOW},
    {"2020 – ปัจจุบัน", 2020, NOW},
    {"2020 – वर्तमान", 2020, NOW},
    {"2020 – الآن", 2020, NOW},
    {"2020 – היום", 2020, NOW},
    {"present", 0, NOW},
    /* no year */
    {"", 0, 0},
    {"GPA 3.8", 0, 0},
    {"12345", 0, 0},
    {"1420", 0, 0},
    {"2345", 0, 0},
    {"3 years", 0, 0},
    {"Room 101", 0, 0},
    {"represented", 0, 0},
    {"snow", 0, 0},
    {"\xff\xfe", 0, 0},
    {"\xff 2014 \xc3", 0, 2014},
};

static void check_cases(void) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int start = -1, end = -1;
        const char *text = cases[i].text;
        sp_year_parse(text, strlen(text), &start, &end);
        check_ok(start == cases[i].start && end == cases[i].end, "year: '%.*s%s' is %d, %d",
                 (int)strcspn(text, "\n"), text, strchr(text, '\n') ? "..." : "", start, end);
    }
}

/* Whatever the bytes are: it ends, and the years are years. */
static void check_bytes(void) {
    static const char alphabet[] = "0123456789 -/.'(){}~\xe2\x80\x93\xe2\x80\x99?>presntow";
    int n_bad = 0;
    for (int round = 0; round < 20000; round++) {
        size_t n = (size_t)check_random_int(0, 24);
        char *text = malloc(n + 1); /* so that a sanitizer sees a read behind it */
        for (size_t i = 0; i < n; i++)
            text[i] = check_random_int(0, 9)
                          ? alphabet[check_random_int(0, (int64_t)sizeof alphabet - 2)]
                          : (char)check_random();
        char *exact = malloc(n + !n);
        memcpy(exact, text, n);
        int start = -1, end = -1;
        sp_year_parse(exact, n, &start, &end);
        n_bad += start != 0 && (start < 1600 || start >= 2100);
        n_bad += end != 0 && end != NOW && (end < 1600 || end >= 2100 + 100);
        n_bad += start != 0 && end == 0;
        free(exact);
        free(text);
    }
    check_ok(n_bad == 0, "bytes: 20000 random texts give years, or none");
}

static void check_long_text(void) {
    char text[5000];
    int start = -1, end = -1;
    memset(text, 'x', sizeof text);
    memcpy(text + 20, " 2014 ", 6);
    memcpy(text + 4000, " 2019 ", 6);
    sp_year_parse(text, sizeof text, &start, &end);
    check_ok(start == 0 && end == 2014, "long: what lies far behind does not count");
}

int main(int argc, char **argv) {
    check_start(argc, argv);
    if (check_wanted("year")) check_cases();
    if (check_wanted("bytes")) check_bytes();
    if (check_wanted("long")) check_long_text();
    return check_end();
}
