# Builds the wheels for 64-bit ARM. Sourced after root.sh by the scripts beside it, not run.

tag_wheel() { "$ARM_CACHE/tools/bin/python" "$ARM/tag_wheel.py" "$1" 2>>"$ARM_CACHE/log" || die "${1##*/}: see the end of $ARM_CACHE/log"; }

# failed LOG WHAT: ends, with what the compiler or pip said in LOG.
failed() {
  grep -m 20 -i -A 4 'error[: ]\|killed' "$1" >&2 || true
  tail -20 "$1" >&2
  df -h "$ARM_CACHE" >&2
  die "$2: all that was said is in $1"
}

# build_wheel: HALO's, by the Python of `root` and this machine's cross compiler; sets `wheel`. All that is compiled for
# it is looked through for instructions that a Pi 4 lacks.
build_wheel() {
  local built=$root/wheels/new
  copy_source src
  # CMake stays with the compiler that it began with, whatever CXX says later.
  grep -qs 'CMAKE_CXX_COMPILER:.*=/usr/local/bin/cross' "$root"/src/build/*/CMakeCache.txt || rm -rf "$root/src/build"
  if ! inside /build/bin/python -c 'import pybind11, cmake, setuptools' 2>/dev/null; then
    say "preparing a Python environment to build in"
    inside python3 -m venv /build || die "no environment in the root"
    inside /build/bin/pip install -q --only-binary :all: 'setuptools>=77' 'pybind11>=3.0,<4' 'cmake>=3.20' ||
      die "pip could not install what building needs"
  fi
  say "building HALO's wheel with $(inside /build/bin/python --version)"
  rm -rf "$built"
  inside CXX=/usr/local/bin/cross PATH=/build/bin:/usr/local/bin:/usr/bin:/bin \
    /build/bin/pip wheel -q --no-deps --no-build-isolation -w /wheels/new /src >"$root/wheels/log" 2>&1 ||
    failed "$root/wheels/log" "HALO could not be built for ARM"
  find "$root/src/build" -name '*.o' -print0 | xargs -0 python3 "$ARM/baseline.py" --allow dotprod.cpp.o >"$root/wheels/scan" ||
    { tail -30 "$root/wheels/scan" >&2; die "the wheel has instructions that a Raspberry Pi 4 lacks"; }
  wheel=$(tag_wheel "$built"/halo_llm-*.whl) || exit 1
}

# need_llama_wheel: llama-cpp-python's of the version that HALO uses, cross-built once; sets `llama_wheel`. It is for
# any armv8.0: HALO takes its tokenizer and samplers, and computes itself.
need_llama_wheel() {
  local version kept
  version=$(sed -n 's/.*"llama-cpp-python==\([0-9.]*\)".*/\1/p' pyproject.toml)
  kept=$ARM_CACHE/llama-cpp-python-$version
  if ! compgen -G "$kept/*.whl" >/dev/null; then
    say "cross-building llama-cpp-python $version, once: some five minutes"
    rm -rf "$kept"
    mkdir -p "$kept/new"
    printf 'set(CMAKE_SYSTEM_%s)\n' 'NAME Linux' 'PROCESSOR aarch64' >"$kept/toolchain.cmake"
    printf 'set(CMAKE_%s_COMPILER aarch64-linux-gnu-%s)\n' C gcc CXX g++ >>"$kept/toolchain.cmake"
    CMAKE_TOOLCHAIN_FILE=$kept/toolchain.cmake _PYTHON_HOST_PLATFORM=linux-aarch64 \
      CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_CPU_ARM_ARCH=armv8-a -DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF" \
      "$ARM_CACHE/tools/bin/pip" wheel -q --no-deps --no-cache-dir --no-binary llama-cpp-python -w "$kept/new" \
      "llama-cpp-python==$version" >"$kept/log" 2>&1 ||
      failed "$kept/log" "llama-cpp-python could not be cross-built"
    llama_wheel=$(tag_wheel "$kept"/new/*.whl) || exit 1
    mv "$llama_wheel" "$kept/"
  fi
  llama_wheel=$(echo "$kept"/*.whl)
}
