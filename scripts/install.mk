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
	$(Q)objcopy --keep-global-symbols=$(2) $(BUILD)/$(1).o
	$(Q)rm -f $@ && ar rcsD $@ $(BUILD)/$(1).o
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

.PHONY: uninstall
install: all libraries pages
	@DESTDIR='$(DESTDIR)' STATIC_LIBS='$(STATIC_LIBS)' sh scripts/install.sh '$(BUILD)' '$(PREFIX)' '$(LIBDIR)'
uninstall:
	@DESTDIR='$(DESTDIR)' sh scripts/uninstall.sh '$(PREFIX)'

# ---------------------------------------------------------------- packages
TRIPLET = $(shell $(CC) -dumpmachine)
.PHONY: dist deb
# The source archive, dist/xq-VERSION.tar.gz.
dist:
	$(Q)sh scripts/dist.sh dist

# Debian packages of this machine's architecture, in dist.
deb: all libraries pages
	@CC='$(CC)' sh scripts/deps.sh deb
	$(Q)rm -rf '$(BUILD)/deb'
	$(SUBMAKE) install DESTDIR='$(abspath $(BUILD))/deb/tree' PREFIX=/usr LIBDIR='/usr/lib/$(TRIPLET)'
	$(Q)sh scripts/deb.sh '$(BUILD)/deb/tree' '/usr/lib/$(TRIPLET)' '$(BUILD)/deb/work' dist
