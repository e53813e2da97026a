# nbdkit-zram-plugin: SPDX-License-Identifier: BSD-3-Clause

# ZRAM_CC_FLAG(FLAG): put FLAG into WARNINGS_CFLAGS if the compiler takes
# it.  -Werror, because clang only warns about a warning it does not know.
AC_DEFUN([ZRAM_CC_FLAG], [
  AS_VAR_PUSHDEF([cache], [zram_cv_cc_flag_$1])
  AC_CACHE_CHECK([whether $CC takes $1], [cache], [
    zram_save_CFLAGS=$CFLAGS
    CFLAGS="$CFLAGS -Werror $1"
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])],
                      [AS_VAR_SET([cache], [yes])],
                      [AS_VAR_SET([cache], [no])])
    CFLAGS=$zram_save_CFLAGS
  ])
  AS_VAR_IF([cache], [yes], [WARNINGS_CFLAGS="$WARNINGS_CFLAGS $1"])
  AS_VAR_POPDEF([cache])
])

# ZRAM_WARNINGS: set WARNINGS_CFLAGS.  Makefiles put it into AM_CFLAGS,
# so that a user's CFLAGS come after it and win.  Warnings are errors
# only on request: a compiler that is newer than this file must not
# break the build of a released version.  That what an initializer leaves
# out is zero is something that we rely on.
AC_DEFUN([ZRAM_WARNINGS], [
  AC_ARG_ENABLE([gcc-warnings],
                [AS_HELP_STRING([--enable-gcc-warnings],
                                [treat compiler warnings as errors (for developers)])],
                [], [enable_gcc_warnings=no])
  WARNINGS_CFLAGS=
  m4_foreach_w([zram_flag],
               [-Wall -Wextra -Wno-missing-field-initializers
                -Wshadow -Wstrict-prototypes
                -Wmissing-prototypes -Wold-style-definition -Wpointer-arith
                -Wwrite-strings -Wundef -Wvla -Wformat=2
                -Wimplicit-fallthrough -Wduplicated-cond -Wlogical-op
                -Wno-missing-field-initializers],
               [ZRAM_CC_FLAG(zram_flag)])
  AS_IF([test "x$enable_gcc_warnings" != xno],
        [WARNINGS_CFLAGS="$WARNINGS_CFLAGS -Werror"])
  AC_SUBST([WARNINGS_CFLAGS])
])

# ZRAM_SANITIZERS: --enable-sanitizers=address,undefined or =thread.
#
# The flags go into CFLAGS and LDFLAGS themselves, so that everything in
# the tree has them.  nbdkit is not built with them, and a sanitizer must
# be the first library in a process: SANITIZER_PRELOAD is what ./nbdkit
# has to preload, and SANITIZER_LOADER the dynamic linker that can do so.
# That needs a shared runtime, which gcc has.  Call this after NBDKIT was
# found.
AC_DEFUN([ZRAM_SANITIZERS], [
  AC_ARG_ENABLE([sanitizers],
                [AS_HELP_STRING([--enable-sanitizers=LIST],
                                [build with gcc's sanitizers: address,undefined or thread])],
                [], [enable_sanitizers=no])
  AC_CHECK_TOOL([READELF], [readelf], [readelf])
  SANITIZER_PRELOAD=
  SANITIZER_LOADER=
  AS_IF([test "x$enable_sanitizers" != xno], [
    AS_IF([test "x$enable_sanitizers" = xyes],
          [enable_sanitizers=address,undefined])
    for zram_sanitizer in `echo "$enable_sanitizers" | tr , ' '`; do
      AS_CASE([$zram_sanitizer],
              [address],   [zram_runtime=libasan.so],
              [undefined], [zram_runtime=libubsan.so],
              [thread],    [zram_runtime=libtsan.so],
              [AC_MSG_ERROR([--enable-sanitizers=$enable_sanitizers: there is no sanitizer "$zram_sanitizer"])])
      # A runtime that is not there is printed without a directory.
      AC_MSG_CHECKING([for $zram_runtime])
      zram_path=`$CC -print-file-name=$zram_runtime`
      AC_MSG_RESULT([$zram_path])
      AS_CASE([$zram_path],
              [/*], [],
              [AC_MSG_ERROR([--enable-sanitizers needs gcc and its $zram_runtime])])
      SANITIZER_PRELOAD="${SANITIZER_PRELOAD:+$SANITIZER_PRELOAD:}$zram_path"
    done
    AC_MSG_CHECKING([for the dynamic linker of nbdkit])
    SANITIZER_LOADER=`$READELF -p .interp "$NBDKIT" 2>/dev/null | $SED -n 's,^.* \(/.*\)$,\1,p'`
    AC_MSG_RESULT([$SANITIZER_LOADER])
    CFLAGS="$CFLAGS -g -O1 -fno-omit-frame-pointer -fsanitize=$enable_sanitizers"
    AS_CASE([,$enable_sanitizers,],
            [*,undefined,*],
            [CFLAGS="$CFLAGS -fno-sanitize-recover=undefined"])
    LDFLAGS="$LDFLAGS -fsanitize=$enable_sanitizers"
    AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])], [],
                   [AC_MSG_ERROR([cannot link with -fsanitize=$enable_sanitizers])])
  ])
  AM_CONDITIONAL([ENABLE_SANITIZERS], [test "x$enable_sanitizers" != xno])
  AC_SUBST([SANITIZER_PRELOAD])
  AC_SUBST([SANITIZER_LOADER])
])
