# The libraries that other projects link, and `make install`. Included by the Makefile.
#
# libxq goes from a spec to a launch. libxqrt only launches plan images; it needs nothing but the C library.
#
# Only the public functions (tests/abi.txt, tests/abi-xqrt.txt) leave the libraries: the shared ones by
# visibility, the static ones by turning every other symbol local, Lua's too. The static libxq holds Lua; the
# shared one needs liblua5.4.so, for distributions build their static Lua in a way that only programs can link.

LIBDIR  ?= $(PREFIX)/lib
VERSION := $(shell sh scripts/version.sh)
MAJOR   := $(firstword $(subst ., ,$(VERSION)))
LIBRARIES := $(foreach name,libxq libxqrt,$(BUILD)/$(name).a $(BUILD)/$(name).so.$(VERSION))

# The compiler knows where the static Lua is; it answers with the bare name when there is none.
LUA_ARCHIVE := $(filter /%,$(shell $(CC) -print-file-name=liblua5.4.a))
SHARED_LIBS := -llua5.4 -lcjson -lxxhash -lpthread -ldl -lm
STATIC_LIBS := $(if $(LUA_ARCHIVE),$(filter-out -llua5.4,$(SHARED_LIBS)),$(SHARED_LIBS))

# The compiler's own objcopy and ar, also where it compiles for another machine.
tool = $(shell $(CC) -print-prog-name=$(1))

XQRT_LIBS   := -lpthread -ldl -lm

# $(call link_shared,NAME,LIBS): the library, and the names that the loader and the linker look for.
define link_shared
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) -shared -Wl,-soname,$(1).so.$(MAJOR) $^ $(2) -o $@
	$(Q)ln -sf $(@F) $(BUILD)/$(1).so.$(MAJOR)
	$(Q)ln -sf $(1).so.$(MAJOR) $(BUILD)/$(1).so
endef
# $(call link_static,NAME,ABI): one object, of which only the functions in the file ABI are global.
define link_static
	$(call say,AR,$@)
	$(Q)$(CC) -r -nostdlib $(filter %.o %.a,$^) -o $(BUILD)/$(1).o
	$(Q)$(call tool,objcopy) --keep-global-symbols=$(2) $(BUILD)/$(1).o
	$(Q)rm -f $@ && $(call tool,ar) rcsD $@ $(BUILD)/$(1).o
endef

$(BUILD)/libxq.so.$(VERSION): $(LIB_OBJ)
	$(call link_shared,libxq,$(SHARED_LIBS))
$(BUILD)/libxqrt.so.$(VERSION): $(XQRT_OBJ)
	$(call link_shared,libxqrt,$(XQRT_LIBS))
$(BUILD)/libxq.a: $(LIB_OBJ) $(LUA_ARCHIVE) tests/abi.txt
	$(call link_static,libxq,tests/abi.txt)
$(BUILD)/libxqrt.a: $(XQRT_OBJ) tests/abi-xqrt.txt
	$(call link_static,libxqrt,tests/abi-xqrt.txt)

.PHONY: libraries
libraries: $(LIBRARIES)

# Man pages and completion, from `xq --help` and the header. HELPER is an xq that runs on this machine.
HELPER ?= $(BUILD)/xq
.PHONY: pages
pages: $(BUILD)/share/options ; @:
$(BUILD)/share/options: $(HELPER) include/xq/xq.h $(wildcard scripts/pages/*) scripts/pages.sh
	$(call say,PAGES,$(@D))
	$(Q)sh scripts/pages.sh '$(HELPER)' '$(@D)'

# $(call setting,NAME): its value. A `$` that makes no variable of make has lost what the user wrote: $HOME is $(H)OME.
open_parenthesis := (
setting = $(if $(findstring $$,$(subst $$$(open_parenthesis),,$(subst $${,,$(value $(1))))),$(error $(1): '$(value \
    $(1))' has a '$$'; let the shell replace it, or write $$(HOME)))$($(1))

# What users choose goes through the environment: pasted into a command, a quote in it would end the shell's.
.PHONY: uninstall
install uninstall: export INSTALL_DESTDIR = $(call setting,DESTDIR)
install uninstall: export INSTALL_PREFIX = $(call setting,PREFIX)
install uninstall: export INSTALL_LIBDIR = $(call setting,LIBDIR)
install: all libraries pages
	@DESTDIR="$$INSTALL_DESTDIR" STATIC_LIBS='$(STATIC_LIBS)' \
	    sh scripts/install.sh '$(BUILD)' "$$INSTALL_PREFIX" "$$INSTALL_LIBDIR"
	$(call say,INSTALL,"$$INSTALL_DESTDIR$$INSTALL_PREFIX"'; `make uninstall` with the same settings removes it')
uninstall:
	@DESTDIR="$$INSTALL_DESTDIR" sh scripts/uninstall.sh "$$INSTALL_PREFIX" "$$INSTALL_LIBDIR"

# ---------------------------------------------------------------- packages
TRIPLET = $(shell $(CC) -dumpmachine)
.PHONY: dist deb test-packages
# The source archive, dist/xq-VERSION.tar.gz.
dist:
	$(Q)sh scripts/dist.sh dist

# Debian packages of this machine's architecture, in dist.
deb: all libraries pages
	@CC='$(CC)' sh scripts/deps.sh deb
	$(Q)rm -rf '$(BUILD)/deb'
	$(SUBMAKE) install DESTDIR='$(abspath $(BUILD))/deb/tree' PREFIX=/usr LIBDIR='/usr/lib/$(TRIPLET)'
	$(Q)sh scripts/deb.sh '$(BUILD)/deb/tree' '/usr/lib/$(TRIPLET)' '$(BUILD)/deb/work' dist

# The packages and the archive, looked into; the archive is built.
test-packages: deb dist
	$(Q)env -u MAKEFLAGS CC='$(CC)' sh scripts/test-packages.sh '$(BUILD)'

# ---------------------------------------------------------------- another machine
# The libraries and the command line for aarch64, in $(BUILD)/aarch64, compiled against Debian's packages, which are unpacked
# into a folder of their own.
AARCH64_ROOT  = $(abspath $(BUILD))/aarch64-root
AARCH64_CC    = aarch64-linux-gnu-gcc --sysroot=$(AARCH64_ROOT)
AARCH64_MAKE  = +@$(MAKE) --no-print-directory BUILD='$(BUILD)/aarch64' CC='$(AARCH64_CC)' \
    LUA_INCLUDE='$(AARCH64_ROOT)/usr/include/lua5.4' TSAN=1
AARCH64_TESTS = $(addprefix $(BUILD)/aarch64/tests/,test_half test_rounding test_simulate test_publish test_sim_instructions)
.PHONY: aarch64 test-aarch64
aarch64:
	@sh scripts/deps.sh aarch64
	$(Q)sh scripts/sysroot.sh arm64 aarch64-linux-gnu '$(AARCH64_ROOT)'
	$(AARCH64_MAKE) all libraries

# Runs them under qemu, and tests of what has a form of its own on x86. TSAN=1: with the stand-in for Criterion.
test-aarch64: aarch64 all libraries
	$(AARCH64_MAKE) $(AARCH64_TESTS) $(BUILD)/aarch64/tests/libxqrt_sim.so
	$(Q)$(RUN_ENV) XQ_CACHE_DIR='$(TEST_CACHE)' HOSTCC='$(CC)' sh scripts/test-aarch64.sh '$(BUILD)' '$(AARCH64_ROOT)' \
	    '$(AARCH64_CC)' $(AARCH64_TESTS)
