load common

# make install into a staging folder: what lands where, that it runs from there, that nothing stays.

setup_file() {
    export stage=$BATS_FILE_TMPDIR/stage prefix=/opt/statepipe
    export root=$stage$prefix
    install_here install >"$BATS_FILE_TMPDIR/log" 2>&1
}
# In place of a plugin for GPUs, which takes minutes to make, the emulated one is installed.
install_here() {
    local plugin=$STATEPIPE_BUILD/plugin/emu.so
    [ -e "$plugin" ] || plugin=
    make -s -C "$TREE" "$1" BUILD="$STATEPIPE_BUILD" PREFIX=$prefix DESTDIR="$stage" CUDA_PLUGIN="$plugin"
}

@test "one command on PATH, the programs in libexec" {
    [ "$(ls "$root/bin")" = statepipe ]
    [ -x "$root/libexec/statepipe/extract" ]
    [ ! -e "$root/libexec/statepipe/statepipe" ]
    [ "$(ls "$root/libexec/statepipe" | wc -l)" = $(($(ls "$STATEPIPE_BUILD/bin" | wc -l) - 1)) ]
}

@test "every man page is there, under a name of this project" {
    [ -z "$(ls "$root/share/man/man1" | grep -v '^statepipe')" ]
    [ "$(ls "$root"/share/man/man[157] | grep -c '^statepipe')" = "$(ls "$TREE"/man/*.[157] | wc -l)" ]
    [ -s "$root/share/man/man1/statepipe-extract.1" ]
    [ -s "$root/share/man/man5/statepipe-model.5" ]
}

@test "header, library, pkg-config, completions, magic, licence" {
    [ -s "$root/include/statepipe.h" ]
    [ -s "$root/lib/libstatepipe.a" ]
    grep -qx "prefix=$prefix" "$root/lib/pkgconfig/statepipe.pc"
    grep -q '^Version: [0-9]*\.[0-9]*\.[0-9]*$' "$root/lib/pkgconfig/statepipe.pc"
    run -1 grep '@' "$root/lib/pkgconfig/statepipe.pc"
    [ -s "$root/share/bash-completion/completions/statepipe" ]
    [ -s "$root/share/zsh/site-functions/_statepipe" ]
    [ -s "$root/share/fish/vendor_completions.d/statepipe.fish" ]
    [ -s "$root/share/statepipe/magic" ]
    [ -s "$root/share/doc/statepipe/LICENSE" ]
}

@test "the installed command runs the installed programs" {
    run -0 "$root/bin/statepipe" --exec-path
    [ "$output" = "$(realpath "$root/libexec/statepipe")" ]
    run -0 "$root/bin/statepipe" extract --version
    run -0 env -i PATH=/usr/bin:/bin "$root/bin/statepipe" sh 'command -v extract'
    [ "$output" = "$(realpath "$root/libexec/statepipe")/extract" ]
}

@test "the shipped model is found from where the programs are" {
    run env -u STATEPIPE_MODEL "$root/bin/statepipe" doctor
    echo "$output"
    [ "$status" = 0 ]
    grep -q "^model  *$(realpath "$root")/share/statepipe/model$" <<<"$output"
}

@test "the installed programs find the plugin" {
    [ -e "$STATEPIPE_BUILD/plugin/emu.so" ] || skip "there is no C++ compiler: no emulator"
    run -0 "$root/bin/statepipe" doctor
    grep -q '^cuda  *emu: emulator' <<<"$output"
}

@test "the installed mkresume finds its lists" {
    cd /
    run -0 "$root/bin/statepipe" mkresume -n 1
    [[ $output == '{"id": '* ]]
}

@test "a C program builds with what pkg-config says, and runs" {
    [ "${SAN:-0}" = 0 ] || skip "the library is built for the sanitizers"
    cat >"$BATS_TEST_TMPDIR/use.c" <<'END'
#include <statepipe.h>
#include <stdio.h>
int main(void) {
    struct sp_error err;
    struct sp_model *m = NULL;
    if (sp_model_open(&m, "/nonexistent", &err) == SP_OK) return 1;
    printf("%d\n", sp_error_exit_status(err.code));
    return 0;
}
END
    libs=$(sed -n 's/^Libs: //p' "$root/lib/pkgconfig/statepipe.pc")
    libs=${libs//'${libdir}'/$root/lib}
    # shellcheck disable=SC2086
    cc -std=c11 -Wall -Wextra -Werror -I"$root/include" "$BATS_TEST_TMPDIR/use.c" $libs \
        -o "$BATS_TEST_TMPDIR/use"
    run -0 "$BATS_TEST_TMPDIR/use"
    [ "$output" = 66 ]
}

@test "nothing outside of the prefix, nothing that the build's folder is named in" {
    [ "$(find "$stage" -type f -not -path "$root/*" | wc -l)" = 0 ]
    run -1 grep -rIl "$STATEPIPE_BUILD" "$root/share" "$root/lib/pkgconfig" "$root/include"
}

@test "file(1) knows a stream and a state by the snippet" {
    printf '\x93\xa9statepipe\x82\xa7version\x92\x01\x00\xa7content\xa6tokens' >"$BATS_TEST_TMPDIR/t"
    run -0 file -b -m "$root/share/statepipe/magic" "$BATS_TEST_TMPDIR/t"
    [ "$output" = "statepipe stream of tokens, version 1.0" ]
    printf '\x93\xa9statepipe\x82\xa7version\x92\x01\x00\xa7content\xa5state' >"$BATS_TEST_TMPDIR/s"
    run -0 file -b -m "$root/share/statepipe/magic" "$BATS_TEST_TMPDIR/s"
    [ "$output" = "statepipe state, version 1.0" ]
}

@test "uninstall leaves nothing" {
    run -0 install_here uninstall
    run -0 find "$stage" -not -type d
    echo "$output"
    [ -z "$output" ]
    [ ! -e "$root/bin" ] && [ ! -e "$root/share" ]
}
