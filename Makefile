# statepipe. `make help` lists what can be made; products go to $(BUILD) only.

BUILD   ?= build
CC      ?= cc
CLANG   ?= clang
SAN     ?= 0
V       ?= 0

PREFIX      ?= /usr/local
bindir      ?= $(PREFIX)/bin
libdir      ?= $(PREFIX)/lib
libexecdir  ?= $(PREFIX)/libexec
includedir  ?= $(PREFIX)/include
datadir     ?= $(PREFIX)/share
mandir      ?= $(datadir)/man

VERSION = $(shell sed -n 's/^.define SP_VERSION "\(.*\)"/\1/p' lib/statepipe.h)

# What Debian 12 has to bring: to build, to read PDF files, to test.
DEB_BUILD := gcc libc6-dev libdnnl-dev libmsgpack-dev libutf8proc-dev libjsmn-dev libxxhash-dev
DEB_RUN   := poppler-utils
DEB_CHECK := bats mandoc python3 file g++

WARN   := -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
          -Wpointer-arith -Wvla -Wno-format-truncation -Werror
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE $(WARN) $(CFLAGS) -ffp-contract=off -fno-math-errno \
             -fstack-protector-strong -MMD -MP $(SAN_FLAGS) $(DEFINES)
LIBS   := -ldnnl -lgomp -lmsgpackc -lutf8proc -lpthread -lm

ifeq ($(SAN),1)
BUILD     := $(BUILD)-san
SAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
endif

ifeq ($(V),0)
Q := @
say = @printf '  %-6s %s\n' $(1) $(2)
endif

# As many jobs as there are CPUs, unless the caller has said how many.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif

# lib/backend_cuda*.c is no part of the library but, with kernels/cuda, of the plugins.
PLUGIN_SRC := $(wildcard lib/backend_cuda*.c)
LIB_SRC   := $(filter-out $(PLUGIN_SRC), \
             $(wildcard lib/*.c kernels/*.c kernels/ref/*.c kernels/x86/*.c))
LIB_OBJ   := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
LIB       := $(BUILD)/libstatepipe.a
PROG_SRC  := $(wildcard bin/*.c)
PROG      := $(PROG_SRC:bin/%.c=$(BUILD)/bin/%)
CHECK_SRC := $(wildcard tests/check/*.c)
CHECK     := $(CHECK_SRC:tests/check/%.c=$(BUILD)/check/%)
BENCH_SRC := $(wildcard tests/bench/*.c)
BENCH     := $(BENCH_SRC:tests/bench/%.c=$(BUILD)/bench/%)
FUZZ_SRC  := $(filter-out tests/fuzz/driver.c,$(wildcard tests/fuzz/*.c))
FUZZ      := $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/fuzz/%)
FUZZ_DRIVER := $(BUILD)/obj/tests/fuzz/driver.o
OBJ       := $(LIB_OBJ) $(PROG_SRC:%.c=$(BUILD)/obj/%.o) $(CHECK_SRC:%.c=$(BUILD)/obj/%.o) \
             $(FUZZ_SRC:%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/tests/fuzz/driver.o \
             $(BENCH_SRC:%.c=$(BUILD)/obj/%.o)
CUDA_SRC  := $(wildcard kernels/cuda/*.cu)
NVCC      := $(shell command -v nvcc)
COMPLETION := $(addprefix $(BUILD)/completions/,statepipe.bash _statepipe statepipe.fish)

# CUDA_HOME is where nvcc has its headers, where that is not the system's own place. ccache knows
# nvcc too, and seven architectures take minutes.
CUDA_PLUGIN :=
ifneq ($(NVCC),)
CCACHE      := $(shell command -v ccache)
CUDA_HOME   := $(shell $(NVCC) --dryrun none.cu 2>&1 | sed -n 's/^\#$$ TOP=//p')
CUDA_PLUGIN := $(if $(wildcard $(CUDA_HOME)/include/cublas_v2.h /usr/include/cublas_v2.h), \
               $(if $(filter 0,$(SAN)),$(BUILD)/plugin/cuda.so))
endif

all: programs $(or $(CUDA_PLUGIN),$(BUILD)/cuda.note)
programs: $(PROG) $(COMPLETION)

help:
	@sed -n 's/^#: //p' Makefile
#: make             build everything into build/
#: make deps        install the Debian packages that are missing (asks apt, as root or with sudo)
#: make demo        print the records of the sample CVs, one of them a PDF, and answers
#: make check       run every test; SAN=1: under AddressSanitizer and UBSan; T="a b": those suites
#: make fuzz        fuzz with clang's libFuzzer, FUZZ_SECONDS=60 per target
#: make cuda        table of registers, spills, occupancy of the CUDA kernels, all CUDA_ARCHS
#: make bench       measure the kernels and the programs
#: make model       train the shipped model anew, into MODEL_OUT=build/model (hours);
#:                  FROM=share/model goes on from that one
#: make install     into PREFIX=/usr/local, below DESTDIR; make uninstall takes it away again
#: make format      clang-format; make clean removes build/
#: With nvcc `make` also builds the plugin of --device cuda, which takes minutes for all CUDA_ARCHS.
#: Variables: BUILD=build CC=cc CXX=g++ CFLAGS='-O2 -g' CUDA_ARCHS='75 80 ...' V=1 (show commands)

# ---- building ---------------------------------------------------------------------------------

$(LIB): $(LIB_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

# The instruction set of a file is told by its name, so that nothing else is compiled with it.
$(BUILD)/obj/%_avx2.o:   ISA := -mavx2 -mfma -mf16c
$(BUILD)/obj/%_avx512.o: ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c

# Programs find what is installed relative to themselves; these are the last resort.
$(BUILD)/obj/lib/model_find.o: DEFINES := -DSP_DATADIR='"$(datadir)/statepipe"'
$(BUILD)/obj/bin/%.o: DEFINES := -DSP_LIBEXECDIR='"$(libexecdir)/statepipe"'
$(BUILD)/obj/lib/backend.o: DEFINES := -DSP_PLUGINDIR='"$(libdir)/statepipe"'

$(BUILD)/obj/%.o: %.c | $(BUILD)/.probed
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) $(ISA) -c -o $@ $<

$(BUILD)/bin/%: $(BUILD)/obj/bin/%.o $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(SAN_FLAGS) $(LDFLAGS) -o $@ $^ -Wl,--as-needed -Wl,--gc-sections $(LIBS)

$(BUILD)/check/%: $(BUILD)/obj/tests/check/%.o $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(SAN_FLAGS) $(LDFLAGS) -o $@ $^ -Wl,--as-needed $(LIBS)

$(BUILD)/bench/%: $(BUILD)/obj/tests/bench/%.o $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(SAN_FLAGS) $(LDFLAGS) -o $@ $^ -Wl,--as-needed $(LIBS)

$(BUILD)/fuzz/%: $(BUILD)/obj/tests/fuzz/%.o $(FUZZ_DRIVER) $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(SAN_FLAGS) $(LDFLAGS) -o $@ $^ -Wl,--as-needed $(LIBS)

# One look for compiler and headers before the first object, with an answer to what is missing.
$(BUILD)/.probed:
	@mkdir -p $(@D)
	@command -v $(CC) >/dev/null || { echo "No C compiler ($(CC)): run 'make deps'." >&2; exit 1; }
	@for h in dnnl.h msgpack.h utf8proc.h jsmn.h xxhash.h; do \
	    echo "#include <$$h>" | $(CC) -E -o /dev/null -x c - 2>/dev/null || \
	    { echo "The header $$h is missing: run 'make deps' (or install it some other way)." >&2; \
	      exit 1; }; \
	done
	@touch $@

# With `make deps demo`, nothing starts before the packages are there; `make clean all` is done in
# that order.
ifneq ($(filter deps,$(MAKECMDGOALS)),)
$(BUILD)/.probed: | deps
endif
ifneq ($(filter clean,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif

$(BUILD)/cuda.note: | $(PROG)
	@echo "  CUDA   left out: $(if $(NVCC),no cuBLAS beside nvcc,no nvcc here)"
	@touch $@

# ---- CUDA kernels: under the emulator (tests/emu), and through nvcc where it is ----------------

# A check tests/emu/NAME.c or .cc becomes check/cuda_NAME, and cuda_NAME_tsan with the kernels under
# ThreadSanitizer and fewer cases; the emulator itself is never instrumented by that.
EMU_CXX   := $(shell command -v $(CXX))
EMU_NAMES := $(patsubst tests/emu/%.c,%,$(wildcard tests/emu/*.c)) emulator
EMU_RACES := $(filter-out counts errors,$(EMU_NAMES)) # others only measure what these check
EMU_FLAGS := -std=c++20 -Wall -Wextra -Wshadow -Werror -Wno-missing-field-initializers \
             -Wno-unknown-pragmas -ffp-contract=off -fno-strict-aliasing -fPIC -MMD -MP -Itests/emu
EMU_KERNELS := $(CUDA_SRC:kernels/cuda/%.cu=%.o)
EMU_CORE    := emu.o half.o planted.o
ifneq ($(EMU_CXX),)
CHECK += $(EMU_NAMES:%=$(BUILD)/check/cuda_%)
ifeq ($(SAN),0)
CHECK += $(EMU_RACES:%=$(BUILD)/check/cuda_%_tsan) $(BUILD)/check/cuda_planted
endif
endif
$(BUILD)/check/cuda_planted: $(EMU_NAMES:%=$(BUILD)/check/cuda_%) \
    $(EMU_RACES:%=$(BUILD)/check/cuda_%_tsan)
	@printf '#!/bin/sh\nexec tests/emu/planted $(@D) "$$@"\n' >$@ && chmod +x $@
EMU_TSAN := $(BUILD)/emu-tsan
EMU_OBJ := $(foreach d,$(BUILD)/emu $(EMU_TSAN),$(addprefix $(d)/,$(EMU_KERNELS) $(EMU_CORE) \
           $(EMU_NAMES:%=check_%.o)))

$(EMU_CORE:%=$(EMU_TSAN)/%) $(EMU_TSAN)/check_%.o: EMU_ISA := -DEMU_TSAN
$(EMU_TSAN)/check_emulator.o $(EMU_KERNELS:%=$(EMU_TSAN)/%): EMU_ISA := -DEMU_TSAN -fsanitize=thread
define emu_rules
$(EMU_CORE:%=$(1)/%): $(1)/%.o: tests/emu/%.cc
	@mkdir -p $$(@D)
	$$(call say,CXX,$$<)
	$$(Q)$$(CXX) $$(EMU_FLAGS) $$(CFLAGS) $$(SAN_FLAGS) $$(EMU_ISA) -c -o $$@ $$<
$(1)/check_emulator.o: tests/emu/emulator.cc
	@mkdir -p $$(@D)
	$$(call say,CXX,$$<)
	$$(Q)$$(CXX) $$(EMU_FLAGS) $$(CFLAGS) $$(SAN_FLAGS) $$(EMU_ISA) -c -o $$@ $$<
$(1)/check_%.o: tests/emu/%.c
	@mkdir -p $$(@D)
	$$(call say,CC,$$<)
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(EMU_ISA) -c -o $$@ $$<
$(1)/%.o: kernels/cuda/%.cu
	@mkdir -p $$(@D)
	$$(call say,CXX,$$<)
	$$(Q)$$(CXX) -x c++ $$(EMU_FLAGS) -g -O1 $$(SAN_FLAGS) $$(EMU_ISA) -c -o $$@ $$<
$(BUILD)/check/cuda_%$(2): $(1)/check_%.o $(addprefix $(1)/,$(EMU_KERNELS) $(EMU_CORE)) $$(LIB)
	@mkdir -p $$(@D)
	$$(call say,LINK,$$@)
	$$(Q)$$(CXX) $$(SAN_FLAGS) $(3) $$(LDFLAGS) -o $$@ $$^ -lm
endef
$(eval $(call emu_rules,$(EMU_TSAN),_tsan,-fsanitize=thread))
$(eval $(call emu_rules,$(BUILD)/emu,,))

# The plugin of --device cuda, and the same source as --device emu, on the CUDA runtime and cuBLAS
# of tests/emu: for tests only. What they need of the library they have in them.
PLUGIN_C     := $(PLUGIN_SRC) lib/error.c lib/tensor.c
PLUGIN_FLAGS := -fPIC -fvisibility=hidden
PLUGIN_LINK  := -Wl,-Bsymbolic -Wl,-z,defs
EMU_PLUGIN_OBJ := $(addprefix $(BUILD)/emu/,$(PLUGIN_C:.c=.o) runtime.o cublas.o)
$(BUILD)/emu/lib/%.o: lib/%.c
	@mkdir -p $(@D)
	$(call say,CC,"$< for emu")
	$(Q)$(CC) $(ALL_CFLAGS) $(PLUGIN_FLAGS) -Itests/emu/cuda -DSP_CUDA_NAME='"emu"' -c -o $@ $<
$(BUILD)/emu/runtime.o $(BUILD)/emu/cublas.o: $(BUILD)/emu/%.o: tests/emu/%.cc
	@mkdir -p $(@D)
	$(call say,CXX,$<)
	$(Q)$(CXX) $(EMU_FLAGS) $(CFLAGS) $(SAN_FLAGS) -c -o $@ $<
$(BUILD)/plugin/emu.so: $(EMU_PLUGIN_OBJ) $(addprefix $(BUILD)/emu/,$(EMU_KERNELS) $(EMU_CORE))
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CXX) -shared $(PLUGIN_LINK) $(SAN_FLAGS) $(LDFLAGS) -o $@ $^ -lm
ifneq ($(EMU_CXX),)
CHECK += $(BUILD)/plugin/emu.so
endif

# One object per file for all of CUDA_ARCHS and the PTX of the last, which later devices compile.
NVCC_ARCHS = $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) \
             -gencode arch=$(CUDA_LAST),code=$(CUDA_LAST)
CUDA_LAST = compute_$(lastword $(CUDA_ARCHS))
CUDA_PLUGIN_OBJ := $(addprefix $(BUILD)/cuda/,$(PLUGIN_C:.c=.o) $(CUDA_SRC:.cu=.o))
$(BUILD)/cuda/archs: FORCE
	@mkdir -p $(@D)
	@echo '$(CUDA_ARCHS)' | cmp -s - $@ || echo '$(CUDA_ARCHS)' >$@
$(BUILD)/cuda/lib/%.o: lib/%.c
	@mkdir -p $(@D)
	$(call say,CC,"$< for cuda")
	$(Q)$(CC) $(ALL_CFLAGS) $(PLUGIN_FLAGS) -isystem $(CUDA_HOME)/include -c -o $@ $<
$(BUILD)/cuda/kernels/%.o: kernels/%.cu $(BUILD)/cuda/archs
	@mkdir -p $(@D)
	$(call say,NVCC,"$< ($(CUDA_ARCHS))")
	$(Q)$(CCACHE) $(NVCC) -std=c++17 -O3 -Xcompiler -fPIC $(NVCC_ARCHS) -MMD -MP -c -o $@ $<
$(BUILD)/plugin/cuda.so: $(CUDA_PLUGIN_OBJ)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CXX) -shared $(PLUGIN_LINK) $(LDFLAGS) -o $@ $^ -L$(CUDA_HOME)/lib64 -lcudart_static \
	    -lcublas -lrt -ldl -lpthread

# The checks of the kernels for a GPU (tests/gpu-check); and the same on the emulated runtime, where
# what a check asks of the GPU has other names than what the runtime asks of the emulator.
GPU_NAMES := $(filter-out emulator counts,$(EMU_NAMES))
GPU_EMU   := $(GPU_NAMES:%=$(BUILD)/gpu-emu/cuda_%)
GPU_WRAP  := -Wl,--wrap=posix_memalign,--wrap=free
GPU_ASKED := $(foreach f,fault configure schedule_name counted counts_reset,-Demu_$(f)=gpu_$(f))
gpu-checks: $(GPU_NAMES:%=$(BUILD)/gpu/cuda_%)
gpu-checks-emu: $(GPU_EMU)
$(BUILD)/gpu-emu/on_gpu.o: tests/emu/on_gpu.cc
	@mkdir -p $(@D)
	$(call say,CXX,"$< for emu")
	$(Q)$(CXX) $(EMU_FLAGS) $(CFLAGS) -Itests/emu/cuda $(GPU_ASKED) -c -o $@ $<
$(BUILD)/gpu-emu/%.o: tests/emu/%.c
	@mkdir -p $(@D)
	$(call say,CC,"$< for emu")
	$(Q)$(CC) $(ALL_CFLAGS) $(GPU_ASKED) -Dmain=check_main -Wno-missing-prototypes -c -o $@ $<
$(BUILD)/gpu-emu/cuda_%: $(BUILD)/gpu-emu/%.o $(BUILD)/gpu-emu/on_gpu.o $(BUILD)/emu/runtime.o \
    $(addprefix $(BUILD)/emu/,$(EMU_KERNELS) $(EMU_CORE)) $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CXX) $(LDFLAGS) -o $@ $^ $(GPU_WRAP) -lm
ifneq ($(EMU_CXX),)
ifeq ($(SAN),0)
check: $(GPU_EMU)
endif
endif
$(BUILD)/gpu/on_gpu.o: tests/emu/on_gpu.cc
	@mkdir -p $(@D)
	$(call say,CXX,$<)
	$(Q)$(CXX) $(EMU_FLAGS) $(CFLAGS) -isystem $(CUDA_HOME)/include -c -o $@ $<
$(BUILD)/gpu/%.o: tests/emu/%.c
	@mkdir -p $(@D)
	$(call say,CC,"$< for cuda")
	$(Q)$(CC) $(ALL_CFLAGS) -Dmain=check_main -Wno-missing-prototypes -c -o $@ $<
$(BUILD)/gpu/cuda_%: $(BUILD)/gpu/%.o $(BUILD)/gpu/on_gpu.o \
    $(addprefix $(BUILD)/cuda/,$(CUDA_SRC:.cu=.o)) $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CXX) $(LDFLAGS) -o $@ $^ $(GPU_WRAP) -L$(CUDA_HOME)/lib64 -lcudart_static \
	    -lrt -ldl -lpthread -lm

# What ptxas says of each kernel, and its machine code. One architecture for `make check`. An older
# nvcc does not know the newest architectures: it compiles for those that it knows.
CUDA_KNOWN      := $(if $(NVCC),$(patsubst sm_%,%,$(shell $(NVCC) --list-gpu-code)))
CUDA_ARCHS      ?= $(filter $(or $(CUDA_KNOWN),%),75 80 86 89 90 100 120)
CUDA_CHECK_ARCH ?= 80
define cubin_rule
$(BUILD)/cuda/sm_$(1)/%.cubin: kernels/cuda/%.cu $(wildcard kernels/cuda/*.h) kernels/kernels.h
	@mkdir -p $$(@D)
	$$(call say,NVCC,"$$< (sm_$(1))")
	$$(Q)$$(NVCC) -std=c++17 -O3 -Xptxas -v -arch=sm_$(1) -cubin -o $$@ $$< \
	    >$$(@:.cubin=.ptxas) 2>&1 || { cat $$(@:.cubin=.ptxas) >&2; exit 1; }
endef
$(foreach a,$(sort $(CUDA_ARCHS) $(CUDA_CHECK_ARCH)),$(eval $(call cubin_rule,$(a))))
cubins = $(foreach a,$(1),$(CUDA_SRC:kernels/cuda/%.cu=$(BUILD)/cuda/sm_$(a)/%.cubin))
$(BUILD)/cuda/occupancy: tests/emu/occupancy.cc
	@mkdir -p $(@D)
	$(call say,CXX,$<)
	$(Q)$(CXX) -std=c++20 -Wall -Wextra -Werror -O1 -isystem $(CUDA_HOME)/include -o $@ $<
cuda: $(call cubins,$(CUDA_ARCHS)) $(BUILD)/cuda/occupancy
	$(if $(NVCC),,$(error there is no nvcc here))
	@tests/emu/ptxas $(BUILD)/cuda $(CUDA_ARCHS:%=sm_%)

# Completions are made from the programs' own option tables.
$(BUILD)/completions/%: $(wildcard share/completions/*) $(PROG)
	@mkdir -p $(@D)
	$(call say,GEN,$@)
	$(Q)share/completions/generate $* $(BUILD)/bin >$@.tmp && mv $@.tmp $@

# ---- packages, demo, tests --------------------------------------------------------------------

deps:
	@missing=; \
	for p in $(DEB_BUILD) $(DEB_RUN) $(DEB_CHECK); do \
	    dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || \
	        missing="$$missing $$p"; \
	done; \
	[ -n "$$missing" ] || { echo "deps: nothing is missing"; exit 0; }; \
	root=; [ "$$(id -u)" = 0 ] || root="sudo"; \
	[ -z "$$root" ] || command -v sudo >/dev/null || \
	    { echo "deps: as root, please: apt-get install$$missing" >&2; exit 1; }; \
	echo "deps: installing$$missing"; \
	export DEBIAN_FRONTEND=noninteractive; \
	$$root apt-get -qq update && \
	$$root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
	    -o Dpkg::Use-Pty=0 install $$missing >/dev/null

DEMO_CVS = share/samples/*.txt share/samples/*.pdf
DEMO_ASK = --doc share/samples/jane-doe.txt -n 1 -q 'Jane Doe is a ?__' \
    -q 'Jane Doe works for ?__'
demo: all
	@echo; echo "$$ statepipe cv -o table $(DEMO_CVS)"
	@$(BUILD)/bin/statepipe cv -o table $(DEMO_CVS)
	@echo; echo "$$ statepipe fill $(DEMO_ASK)"
	@$(BUILD)/bin/statepipe fill $(DEMO_ASK)

# Preloaded by tests/bats/inject.bats.
$(BUILD)/inject.so: tests/inject/inject.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) -std=gnu11 $(WARN) -O1 -g -fPIC -shared -o $@ $<

# Training goes on where it was interrupted; share/model is replaced by hand, after a look at the
# scores that the recipe ends with.
MODEL_OUT ?= $(BUILD)/model
model: all
	share/model-src/train $(BUILD)/bin $(MODEL_OUT)

# Says so itself where there is no nvcc.
$(BUILD)/check/cuda_ptxas: tests/emu/ptxas tests/emu/registers \
    $(if $(NVCC),$(call cubins,$(CUDA_CHECK_ARCH)) $(BUILD)/cuda/occupancy)
	@mkdir -p $(@D)
	@printf '#!/bin/sh\nexec tests/emu/ptxas $(if $(NVCC),$(BUILD)/cuda sm_$(CUDA_CHECK_ARCH))\n' >$@
	@chmod +x $@

check: programs $(BUILD)/bench/device $(CHECK) $(FUZZ) $(BUILD)/inject.so $(BUILD)/check/cuda_ptxas
	@BUILD=$(BUILD) SAN=$(SAN) tests/run $(T)

# What the scripts of tests/bench run on: a random model of the 130m shapes (520 MB), made once.
bench-model: programs $(BENCH)
	@[ -e $(BUILD)/bench/130m/config.json ] || $(BUILD)/bench/make_model $(BUILD)/bench/130m

bench: all $(CHECK) $(BENCH)
	@set -e; for c in $$(grep -l 'check_state\.bench' $(CHECK_SRC)); do \
	    name=$$(basename $$c .c); echo "== $$name"; \
	    $(BUILD)/check/$$name --bench | sed '/^ok /d; /^1\.\./d; /^# seed/d'; \
	done; \
	for c in $(if $(EMU_CXX),$$(grep -l 'check_state\.bench' tests/emu/*.c)); do \
	    echo "== $$c"; $(BUILD)/check/cuda_$$(basename $$c .c) --bench | sed -n '/^# seed/d; /^# /p'; \
	done; \
	missed=; for b in $(wildcard tests/bench/*.sh); do \
	    echo "== $$b"; BUILD=$(BUILD) $$b || missed="$$missed $$b"; \
	done; \
	if [ -n "$$missed" ]; then echo "missed:$$missed"; exit 1; fi

# The same targets linked with libFuzzer in place of our driver, from the same seeds. What a run
# finds new stays in build-fuzz/corpus for the next; a crash's input is build-fuzz/NAME-crash-*.
FUZZ_SECONDS ?= 60
FUZZ_SAN := address,undefined -fno-sanitize-recover=all
fuzz:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-fuzz CC=$(CLANG) WARN=-w CFLAGS='-O1 -g' \
	    SAN_FLAGS='-fsanitize=fuzzer-no-link,$(FUZZ_SAN)' LDFLAGS=-fsanitize=fuzzer \
	    FUZZ_DRIVER= $(FUZZ:$(BUILD)/%=$(BUILD)-fuzz/%)
	@set -e; for name in $(notdir $(FUZZ)); do \
	    log=$(BUILD)-fuzz/$$name.log; mkdir -p $(BUILD)-fuzz/corpus/$$name; \
	    echo "== $$name, $(FUZZ_SECONDS) s"; \
	    $(BUILD)-fuzz/fuzz/$$name -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=10 \
	        -print_final_stats=1 -verbosity=0 -artifact_prefix=$(BUILD)-fuzz/$$name- \
	        $(BUILD)-fuzz/corpus/$$name tests/fuzz/seeds/$$name >$$log 2>&1 || \
	        { tail -n 40 $$log; exit 1; }; \
	    grep '^stat::' $$log; \
	done

# ---- installing -------------------------------------------------------------------------------

D := $(DESTDIR)
MAN1 := $(wildcard man/*.1)
MAN_REST := $(wildcard man/*.5 man/*.7)
PROG_NAMES := $(filter-out statepipe,$(PROG_SRC:bin/%.c=%))
MAN1_AS = $(if $(filter statepipe%,$(notdir $(1))),$(notdir $(1)),statepipe-$(notdir $(1)))
COMPLETION_AS := $(datadir)/bash-completion/completions/statepipe \
                 $(datadir)/zsh/site-functions/_statepipe \
                 $(datadir)/fish/vendor_completions.d/statepipe.fish
INSTALLED = $(bindir)/statepipe $(libdir)/libstatepipe.a $(libdir)/pkgconfig/statepipe.pc \
    $(includedir)/statepipe.h $(COMPLETION_AS) \
    $(foreach m,$(MAN1),$(mandir)/man1/$(call MAN1_AS,$(m))) \
    $(foreach m,$(MAN_REST),$(mandir)/man$(subst .,,$(suffix $(m)))/$(notdir $(m)))
MAN_DIRS = $(addprefix $(mandir)/,man1 man5 man7)
OWN_DIRS = $(libexecdir)/statepipe $(libdir)/statepipe $(datadir)/statepipe $(datadir)/doc/statepipe

install: all
	install -d $(D)$(bindir) $(D)$(libexecdir)/statepipe $(D)$(libdir)/pkgconfig \
	    $(D)$(includedir) $(addprefix $(D),$(MAN_DIRS)) \
	    $(addprefix $(D),$(dir $(COMPLETION_AS))) $(D)$(datadir)/statepipe \
	    $(D)$(datadir)/doc/statepipe
	install $(BUILD)/bin/statepipe $(D)$(bindir)
	install $(addprefix $(BUILD)/bin/,$(PROG_NAMES)) $(D)$(libexecdir)/statepipe
	$(if $(CUDA_PLUGIN),install -D -m 644 $(CUDA_PLUGIN) $(D)$(libdir)/statepipe/cuda.so)
	install -m 644 $(LIB) $(D)$(libdir)
	install -m 644 lib/statepipe.h $(D)$(includedir)
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(libdir)|' -e 's|@INCLUDEDIR@|$(includedir)|' \
	    -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS@|$(LIBS)|' share/statepipe.pc.in \
	    >$(D)$(libdir)/pkgconfig/statepipe.pc
	for m in $(MAN1) $(MAN_REST); do \
	    name=$$(basename $$m); section=$${name##*.}; \
	    case $$name in statepipe*) ;; *.1) name=statepipe-$$name ;; esac; \
	    install -m 644 $$m $(D)$(mandir)/man$$section/$$name || exit 1; \
	done
	install -m 644 $(BUILD)/completions/statepipe.bash $(D)$(word 1,$(COMPLETION_AS))
	install -m 644 $(BUILD)/completions/_statepipe $(D)$(word 2,$(COMPLETION_AS))
	install -m 644 $(BUILD)/completions/statepipe.fish $(D)$(word 3,$(COMPLETION_AS))
	install -m 644 share/magic $(D)$(datadir)/statepipe
	cd share && find $(notdir $(wildcard share/model share/corpus share/samples)) \
	    -type f ! -name '*.py' -exec install -D -m 644 {} $(D)$(datadir)/statepipe/{} \;
	install -m 644 README.md LICENSE $(D)$(datadir)/doc/statepipe

# Folders that others may use too are only removed where nothing is left in them.
uninstall:
	rm -f $(addprefix $(D),$(INSTALLED))
	rm -rf $(addprefix $(D),$(OWN_DIRS))
	case "$(D)$(PREFIX)" in /usr|/usr/local) exit 0 ;; esac; \
	for d in $(sort $(dir $(INSTALLED) $(OWN_DIRS)) $(MAN_DIRS)); do \
	    while [ "$${d%/}" != "$(PREFIX)" ] && [ -n "$${d%/}" ]; do \
	        rmdir "$(D)$$d" 2>/dev/null || break; d=$$(dirname "$$d"); \
	    done; \
	done

format:
	clang-format -i $(wildcard lib/*.[ch] kernels/*.[ch] kernels/*/*.[ch] bin/*.[ch] \
	    kernels/cuda/*.cu tests/emu/*.cc tests/emu/*.[ch] tests/check/*.[ch] tests/fuzz/*.c \
	    tests/inject/*.c)

clean:
	rm -rf $(BUILD) $(BUILD)-san $(BUILD)-fuzz

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: bench-model all programs gpu-checks gpu-checks-emu FORCE help deps demo model cuda check \
    bench fuzz install uninstall format clean
-include $(OBJ:.o=.d) $(EMU_OBJ:.o=.d) $(EMU_PLUGIN_OBJ:.o=.d) $(CUDA_PLUGIN_OBJ:.o=.d) \
    $(foreach d,gpu gpu-emu,$(addprefix $(BUILD)/$(d)/,on_gpu.d $(GPU_NAMES:%=%.d)))
