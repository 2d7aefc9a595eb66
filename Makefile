# SIREN.  `make` builds build/siren and build/libsiren.{a,so}; `make check` runs
# the tests; `make help` lists the rest.
BUILD ?= build
CC ?= cc
MODE ?= release
SANITIZE ?=
PKGS = sqlite3 zlib libzstd jansson libpcre2-8 libutf8proc libcurl libxxhash

comma := ,
CSTD = -std=c17 -D_GNU_SOURCE
WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
       -Wvla -Wformat=2 -Wno-format-nonliteral -Wno-unused-parameter
# -ffp-contract=off: the numeric contract (docs/numerics.md) says which products are fused.
FLOAT = -ffp-contract=off -fno-math-errno
CFLAGS ?= -O2 -g
ALL_CFLAGS = $(CSTD) $(WARN) $(FLOAT) $(CFLAGS) -fPIC -pthread -Iinclude -Isrc $(PKG_CFLAGS)
ifneq ($(SANITIZE),)
  BUILD := $(BUILD)/san-$(subst $(comma),-,$(SANITIZE))
  ALL_CFLAGS += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all
  LDFLAGS += -fsanitize=$(SANITIZE)
endif
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
LIBS = $(PKG_LIBS) -llbfgs -lm -pthread

LIB_SRC := $(sort $(wildcard src/base/*.c src/tensor/*.c src/text/*.c src/model/*.c src/recs/*.c \
                  src/store/*.c src/app/*.c))
CLI_SRC := $(sort $(wildcard src/cli/*.c))
TEST_SRC := $(sort $(wildcard tests/test_*.c))
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
CLI_OBJ := $(CLI_SRC:%.c=$(BUILD)/obj/%.o)
TESTS := $(TEST_SRC:tests/%.c=$(BUILD)/tests/%)

.PHONY: all lib check tests clean
all: lib $(if $(CLI_SRC),$(BUILD)/siren)
lib: $(BUILD)/libsiren.a

# One kernel source, one object for each instruction set (src/tensor/isa_*.c).
$(BUILD)/obj/src/tensor/isa_avx2.o: ISA_CFLAGS = -O3 -mavx2 -mfma -mf16c
$(BUILD)/obj/src/tensor/isa_avx512.o: ISA_CFLAGS = -O3 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(ISA_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/libsiren.a: $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/siren: $(CLI_OBJ) $(BUILD)/libsiren.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

tests: $(TESTS)
$(BUILD)/tests/%: tests/%.c $(BUILD)/libsiren.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Itests -MMD -MP $(LDFLAGS) -o $@ $< $(BUILD)/libsiren.a $(LIBS) -lcmocka

# Benchmarks stand beside OpenBLAS; nothing else links it.
$(BUILD)/bench/%: bench/%.c $(BUILD)/libsiren.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(shell pkg-config --cflags openblas) -MMD -MP $(LDFLAGS) -o $@ $< \
	      $(BUILD)/libsiren.a $(LIBS) $(shell pkg-config --libs openblas)

check: all tests
	@set -e; for t in $(TESTS); do echo "== $$t"; $$t; done

clean:
	rm -rf $(BUILD)

-include $(LIB_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(TESTS:=.d)
