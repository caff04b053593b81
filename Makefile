# statepipe. `make help` lists what can be made; products go to $(BUILD) only.

BUILD  ?= build
CC     ?= cc
SAN    ?= 0
PREFIX ?= /usr/local
V      ?= 0

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

LIB_SRC  := $(wildcard lib/*.c kernels/*.c kernels/ref/*.c kernels/x86/*.c)
LIB_OBJ  := $(LIB_SRC:%.c=$(BUILD)/%.o)
LIB      := $(BUILD)/libstatepipe.a
PROG_SRC := $(wildcard bin/*.c)
PROG     := $(PROG_SRC:bin/%.c=$(BUILD)/bin/%)
CHECK_SRC := $(wildcard tests/check/*.c)
CHECK    := $(CHECK_SRC:tests/check/%.c=$(BUILD)/check/%)

all: $(PROG)

$(LIB): $(LIB_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

# The instruction set of a file is told by its name, so that nothing else is compiled with it.
$(BUILD)/%_avx2.o:   ISA := -mavx2 -mfma -mf16c
$(BUILD)/%_avx512.o: ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) $(ISA) -c -o $@ $<

$(BUILD)/bin/%: $(BUILD)/bin/%.o $(LIB)
	$(call say,LINK,$@)
	$(Q)$(CC) $(SAN_FLAGS) $(LDFLAGS) -o $@ $^ -Wl,--as-needed -Wl,--gc-sections $(LIBS)

$(BUILD)/check/%: $(BUILD)/tests/check/%.o $(LIB)
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(SAN_FLAGS) $(LDFLAGS) -o $@ $^ -Wl,--as-needed $(LIBS)

check: all $(CHECK)
	@BUILD=$(BUILD) SAN=$(SAN) tests/run

clean:
	rm -rf $(BUILD) $(BUILD)-san

.SECONDARY:
.PHONY: all check clean
-include $(LIB_OBJ:.o=.d) $(PROG_SRC:%.c=$(BUILD)/%.d) $(CHECK_SRC:%.c=$(BUILD)/%.d)
